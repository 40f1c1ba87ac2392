"""`python -m coursekit` is the command `coursekit`."""

from __future__ import annotations

import sys

from coursekit.cli import main

if __name__ == "__main__":
    sys.exit(main())
