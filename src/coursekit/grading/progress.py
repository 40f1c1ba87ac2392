"""How far a class is: a live line on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import IO

from tqdm import tqdm

__all__ = ["SILENT", "Progress"]

LINE_SECONDS = 5.0


class Progress:
    """Counts hand-ins and shows how many; a context manager.

    total: about how many there are.   stream: where to show it (stderr).   clock: seconds, for tests.
    """

    def __init__(
        self, total: int, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._total = total
        self._done = self._review = 0
        self._began = self._shown = clock()
        self._bar: tqdm | None = None

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            self._bar = tqdm(total=self._total, unit="hand-in", file=self._stream, dynamic_ncols=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def skip(self) -> None:
        """One hand-in less is left to grade."""
        self._total -= 1
        if self._bar is not None:
            self._bar.total = self._total

    def step(self, review: bool) -> None:
        """One more hand-in is done; review: whether a person must look at it."""
        self._done += 1
        self._review += review
        if self._bar is not None:
            self._bar.set_postfix({"needs review": self._review}, refresh=False)
            self._bar.update()
        elif self._clock() - self._shown >= LINE_SECONDS:
            self._line()

    def _line(self) -> None:
        now = self._clock()
        rate = self._done / max(now - self._began, 1e-3)
        left = max(self._total - self._done, 0) / rate
        print(
            f"{self._done} of {self._total} hand-ins done, {self._review} need review, "
            f"{rate:.2g} a second, {_duration(left)} left",
            file=self._stream,
            flush=True,
        )
        self._shown = now


def _duration(seconds: float) -> str:
    """A time in words.

    >>> _duration(59.6), _duration(3700)
    ('1:00', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Silent(Progress):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(0)

    def skip(self) -> None: ...

    def step(self, review: bool) -> None: ...


SILENT = _Silent()
