"""The command line `coursekit`, run at the root of the course."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from coursekit import authoring
from coursekit.grading import commands as grading
from coursekit.grading import demo

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="coursekit", description="Tools for authors and instructors.")
    commands = parser.add_subparsers(required=True, metavar="command")
    authoring.add_commands(commands)
    grading.add_commands(commands)
    demo.add_commands(commands)
    options = parser.parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
