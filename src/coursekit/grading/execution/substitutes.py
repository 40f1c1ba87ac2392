"""What a test finds in place of what the student's process has: plots, modules of theirs, the shell."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coursekit.grading.execution.remote import Student
    from coursekit.grading.execution.shell import Shell
    from coursekit.grading.records import Job

PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile")


def substitute(student: Student, shell: Shell) -> None:
    """Put them in place, in this process for good."""
    shell.command = student.command
    sys.meta_path.append(Modules(student))
    if "matplotlib.pyplot" in sys.modules:
        _draw_over_there(student)
    sys.addaudithook(_start_no_program)


_own = False


@contextmanager
def given_modules(job: Job) -> Iterator[None]:
    """Let the tests import the modules that the instructor gave, from where no student writes."""
    with tempfile.TemporaryDirectory() as folder:
        for name in job.given:
            if name.endswith(".py"):
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(job.files[name])
        sys.path.append(folder)
        yield


@contextmanager
def own_programs() -> Iterator[None]:
    """Let the grader itself start programs in the body, though a test may be running."""
    global _own
    before, _own = _own, True
    try:
        yield
    finally:
        _own = before


def _start_no_program(event: str, arguments: tuple) -> None:
    """A program that a test starts could be one that the student has written."""
    if event in PROGRAMS and not _own:
        raise PermissionError("a test that starts a program needs the tag same-process")


def _draw_over_there(student: Student) -> None:
    """Let pyplot's functions act where the student's figures are; its classes and settings stay."""
    pyplot = sys.modules["matplotlib.pyplot"]
    for name, value in list(vars(pyplot).items()):
        if isinstance(value, types.FunctionType) and value.__module__ == pyplot.__name__:
            if not name.startswith("_"):
                setattr(pyplot, name, _elsewhere(student, pyplot.__name__, name))


def _elsewhere(student: Student, module: str, name: str) -> Callable:
    def function(*args: Any, **kwargs: Any) -> Any:
        return student.call_imported(module, name, args, kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    return function


class Modules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules that only the student's process has: files of theirs."""

    def __init__(self, student: Student) -> None:
        self._student = student

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A place for a module that nobody has found before."""
        return None if path is not None else importlib.util.spec_from_loader(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The usual one; it is only there until `exec_module`."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Put the stand-in for the student's module in its place."""
        found = self._student.call_imported("importlib", "import_module", (module.__name__,), {})
        sys.modules[module.__name__] = found
