"""Call a student's function: watched, in limited time, its output held back, its inputs compared."""

from __future__ import annotations

import _thread
import io
import operator
import os
import signal
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coursekit.checks.engine.comparison import is_tensor

_LIBRARY_FOLDERS = (
    *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parents[2]),
)
_ALARM = signal.SIGALRM if hasattr(signal, "SIGALRM") else signal.SIGBREAK


@dataclass(frozen=True)
class Failure:
    """Why a call gave no result.

    kind: "exception", "time", "changed", "device", "detached" or "result".   detail: what tells two of a
    kind apart (the exception's type, the changed argument).   message: what a student reads.
    """

    kind: str
    detail: str
    message: str = field(compare=False)


class CallFailed(Exception):
    """Raised through a check's own code when a student's function gives no result."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class TimeUp(BaseException):
    """Not an Exception, so that `except Exception` in a student's loop does not swallow it."""


class Output(io.StringIO):
    """Counts what a student's function prints and keeps none of it."""

    length = 0

    def write(self, text: str) -> int:
        self.length += len(text)
        return len(text)


class Guard:
    """Calls functions on a student's behalf; one guard serves one grading.

    watch: the context in which they run.   seconds: time limit for each call, None for none.
    """

    def __init__(self, watch: AbstractContextManager | None = None, seconds: float | None = None) -> None:
        self.watch = watch or nullcontext()
        self.output = Output()
        self._seconds = seconds
        self._timed_out = False

    def wrap(self, function: Callable, names: tuple[str, ...], device: str = "cpu") -> Callable:
        """The same function, guarded; raises CallFailed.   names: what to call its positional arguments."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if not callable(function):
                kind = type(function).__name__
                message = f"what you gave is of type {kind}, not a function: give its name, without ()"
                raise CallFailed(Failure("result", kind, message))
            before = _snapshot(args, kwargs, names)
            result = self._call(function, args, kwargs, device)
            changed = ", ".join(name for name, value, copy in before if not _equal(value, copy))
            if changed:
                message = f"changed its argument {changed} in place; work on a copy"
                raise CallFailed(Failure("changed", changed, message))
            return result

        return guarded

    def _call(self, function: Callable, args: tuple, kwargs: dict, device: str) -> Any:
        if self._timed_out:  # nbgrader limits a cell too, so a function that loops for ever loops once
            raise CallFailed(Failure("time", "", "not run, after the time limit in an earlier case"))
        try:
            with self._quiet(), self.watch, time_limit(self._seconds):
                return function(*args, **kwargs)
        except TimeUp:
            self._timed_out = True
            raise CallFailed(Failure("time", "", f"did not finish within {self._seconds:g} s")) from None
        except KeyboardInterrupt:  # nbgrader's own time limit
            raise
        except BaseException as error:
            raise CallFailed(_failure(error, device)) from error

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Hold back output and warnings: nbgrader takes anything on stderr for a failed cell."""
        with redirect_stdout(self.output), redirect_stderr(self.output), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield


def seconds_per_call() -> float:
    """How long one call of a student's function may take."""
    return float(os.environ.get("COURSEKIT_CHECK_SECONDS", "5"))


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeUp in the body after so many seconds; no limit off the main thread."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TimeUp

    previous = signal.signal(_ALARM, stop)
    call_off = _set_alarm(seconds)
    try:
        yield
    finally:
        call_off()
        signal.signal(_ALARM, previous)


def _set_alarm(seconds: float) -> Callable[[], Any]:
    """Signal the main thread after so many seconds; the result calls that off."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return partial(signal.setitimer, signal.ITIMER_REAL, 0)
    # Windows has no such timer; a thread's signal waits until a call into C, a sleep too, has ended.
    timer = threading.Timer(seconds, _thread.interrupt_main, [_ALARM])
    timer.daemon = True
    timer.start()
    return timer.cancel


def _failure(error: BaseException, device: str) -> Failure:
    if device == "meta" and "meta" in str(error).lower():
        from coursekit.checks.engine.torch import device_failure

        return device_failure(error)
    return Failure("exception", type(error).__name__, _describe(error))


def _describe(error: BaseException) -> str:
    """One line: the error's type and text, and the student's own line, without any frame of ours."""
    if type(error) is NotImplementedError:
        return "not written yet (NotImplementedError)"
    text = " ".join(traceback.format_exception_only(type(error), error)[-1].split())
    return f"raised {shorten(text)}{_where(error)}"


def _where(error: BaseException) -> str:
    """The deepest line that is the student's own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.line and not frame.filename.startswith(_LIBRARY_FOLDERS)]
    return f" (line {own[-1].lineno} of its cell: {shorten(own[-1].line, 80)})" if own else ""


def shorten(text: str, width: int = 160) -> str:
    """The text, cut to a width."""
    return text if len(text) <= width else text[: width - 3] + "..."


def _snapshot(args: tuple, kwargs: dict, names: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    """(name, value, copy) of everything among the arguments that can be changed in place."""
    positional = {names[i] if i < len(names) else str(i + 1): value for i, value in enumerate(args)}
    found = [pair for name, value in {**positional, **kwargs}.items() for pair in _mutables(value, name)]
    return [(name, value, _copy(value)) for name, value in found]


def _copy(value: Any) -> Any:
    return value.detach().clone() if is_tensor(value) else value.copy()


def _mutables(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Arrays, lists and dictionaries, also inside one another."""
    if isinstance(value, (np.ndarray, list, dict)) or is_tensor(value):
        yield name, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _mutables(item, f"{name}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _mutables(item, f"{name}[{i}]")


def _equal(value: Any, copy: Any) -> bool:
    """Whether a value is what it was; for a list or dictionary: holds the very items that it held."""
    if is_tensor(value):
        return value.is_meta or _equal(value.detach().cpu().numpy(), copy.cpu().numpy())
    if isinstance(value, dict):
        return list(value) == list(copy) and _equal(list(value.values()), list(copy.values()))
    if isinstance(value, list):
        return len(value) == len(copy) and all(map(operator.is_, value, copy))
    return np.array_equal(value, copy, equal_nan=value.dtype.kind in "fc")
