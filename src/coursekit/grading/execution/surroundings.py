"""What a student's code finds in its process: no checks, and libraries that work without sockets."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


def prepare() -> None:
    """Make this process one for student code, before any of it runs."""
    hide_checks()
    fork_only()
    if "torch" in sys.modules:
        load_in_process()


def hidden() -> tuple[Path, ...]:
    """Parts of the package that a student's process has no business to read."""
    package = Path(__file__).parents[2]
    topics = [path for path in (package / "checks").glob("*") if path.name not in ("__init__.py", "engine")]
    return (*topics, package / "authoring.py", package / "book")


def hide_checks() -> None:
    """Put stand-ins in the place of the checks: the student's cells may mention them, no more."""
    from coursekit import checks
    from coursekit.checks.engine import shortcuts  # noqa: F401

    for topic in checks.topics():
        stand_in = _Topic(f"coursekit.checks.{topic}")
        sys.modules[stand_in.__name__] = stand_in
        setattr(checks, topic, stand_in)


class _Topic(types.ModuleType):
    """A topic of the checks in which every check does nothing: only the grader's own calls count."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return _does_nothing


def _does_nothing(*functions: Any) -> None:
    print("(your own calls of a check are not run while your work is graded)")


def fork_only() -> None:
    """Let multiprocessing start its processes by forking: other ways talk through sockets."""
    import multiprocessing

    if "fork" in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("fork", force=True)


def load_in_process() -> None:
    """Let torch's data loaders work without processes of their own, which hand tensors through sockets."""
    from torch.utils import data

    original = data.DataLoader.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(original).bind(self, *args, **kwargs)
        if given.arguments.get("num_workers"):
            for name in ("num_workers", "prefetch_factor", "persistent_workers", "multiprocessing_context"):
                given.arguments.pop(name, None)
        original(*given.args, **given.kwargs)

    data.DataLoader.__init__ = init
