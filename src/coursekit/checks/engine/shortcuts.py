"""Notice, while a student's function runs, every call to what the task asks the student to build."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import reduce
from types import CodeType, FrameType
from typing import Any

ENGINE = __name__.rpartition(".")[0]
LIBRARIES = {
    "numpy": ("coursekit", "scipy", "torch", "jax", "tensorflow", "sys.setprofile", "threading.setprofile"),
    "torch": ("coursekit", "scipy", "jax", "tensorflow", "sys.setprofile", "threading.setprofile"),
}


class Watch:
    """Context in which the first call to forbidden code is recorded in `used`, whatever name it goes by.

    forbidden: dotted names: a module or package ("scipy.signal"), a function ("numpy.convolve"), or a
    pattern over the names of torch's operations ("torch.*conv*").
    allowed: dotted names of modules or functions excepted from them.

    Python code is recognised by its code object, C functions by identity, torch's operations by
    torch's own override protocol.  Nothing is stopped: the verdict comes after the call.
    """

    def __init__(self, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> None:
        self.used: str | None = None
        self._active = False
        self._patterns = [name.removeprefix("torch.") for name in forbidden if name.startswith("torch.")]
        names = [name for name in forbidden if not name.startswith("torch.")]
        self._whole_torch = "torch" in names
        self._modules = tuple(names)
        self._allowed = (*allowed, ENGINE)
        functions = {name: _resolve(name) for name in names}
        self._c_functions = {id(f): name for name, f in functions.items() if _is_builtin(f)}
        # By id, because hashing a code object is slow; the code is kept, so that its id stays its own.
        self._verdicts: dict[int, tuple[CodeType, str | None]] = {
            id(code): (code, name) for name, f in functions.items() if (code := _code(f)) is not None
        }

    def __enter__(self) -> Watch:
        self._stack = ExitStack()
        if "torch" in sys.modules:
            from coursekit.checks.engine.torch import OperationWatch

            self._stack.enter_context(OperationWatch(self._notice_torch))
        self._previous = sys.getprofile(), threading.getprofile()
        threading.setprofile(self._profile)
        self._active = True
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exception: object) -> None:
        self._active = False
        sys.setprofile(self._previous[0])
        threading.setprofile(self._previous[1])
        self._stack.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look away from what is not the student's."""
        active, self._active = self._active, False
        try:
            yield
        finally:
            self._active = active

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self._active:
            return
        if event == "call":
            known = self._verdicts.get(id(frame.f_code))
            if known is None:
                known = self._judge(frame)
            if known[1]:
                self._notice(known[1])
        elif event == "c_call" and (name := self._c_functions.get(id(argument))):
            self._notice(name)

    def _judge(self, frame: FrameType) -> tuple[CodeType, str | None]:
        """The code of a frame, and the name to report if it is forbidden; remembered."""
        name = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        allowed = any(_within(name, prefix) for prefix in self._allowed)
        forbidden = not allowed and any(_within(name, prefix) for prefix in self._modules)
        verdict = frame.f_code, _readable(name) if forbidden else None
        return self._verdicts.setdefault(id(frame.f_code), verdict)

    def _notice_torch(self, function: str) -> None:
        if not self._active:
            return
        if self._whole_torch or any(fnmatchcase(function, pattern) for pattern in self._patterns):
            self._notice(f"torch.{function}")

    def _notice(self, name: str) -> None:
        self.used = self.used or name


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _readable(name: str) -> str:
    """The public spelling of a name found in a private module: scipy.signal._tools.f is scipy.signal.f."""
    return ".".join(part for part in name.split(".") if not part.startswith(("_", "<")))


def _resolve(name: str) -> Any:
    """The object behind a dotted name as far as it is loaded, else None."""
    package, *rest = name.split(".")
    return reduce(lambda value, part: getattr(value, part, None), rest, sys.modules.get(package))


def _is_builtin(function: Any) -> bool:
    return type(function) is type(len)


def _code(function: Any) -> CodeType | None:
    return getattr(getattr(function, "__wrapped__", function), "__code__", None)
