"""Interleaved timing: each round calls every candidate once, so that drift of the machine hits all alike.

The clock is the process's CPU time: on one thread it does not count what other programs take. Every
instance of a contest draws new arrays, because where they land in memory moves a time by some per cent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

INSTANCES = 3
ROUNDS = 5
SHORTEST = 0.02  # seconds; a call that takes less is repeated, or the clock's step would show


@dataclass(frozen=True)
class Candidate:
    """One way to do the work of a contest: run() does it for `items` images or steps; returns its results."""

    run: Callable[[], tuple[Any, ...]]
    items: int


@dataclass(frozen=True)
class Contest:
    """Several ways to the same numbers. enter(rng) gives the candidates, the first one is the baseline."""

    name: str
    work: str
    dtype: str
    enter: Callable[[np.random.Generator], dict[str, Candidate]]


def race(contest: Contest, seed: int) -> dict[str, Any]:
    """Time a contest: seconds per item, and ratio to the baseline, of every candidate."""
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    for instance in range(INSTANCES):
        candidates = contest.enter(np.random.default_rng([seed, instance]))
        expect_agreement(contest, candidates)
        for times in _rounds(candidates):
            baseline = next(iter(times.values()))
            for name, spent in times.items():
                seconds.setdefault(name, []).append(spent)
                ratios.setdefault(name, []).append(spent / baseline)
    return {
        "name": contest.name,
        "work": contest.work,
        "dtype": contest.dtype,
        "seconds_per_item": {name: median(values) for name, values in seconds.items()},
        "ratio": {name: median(values) for name, values in ratios.items()},
        "ratio_range": {name: [min(values), max(values)] for name, values in ratios.items()},
    }


def _rounds(candidates: dict[str, Candidate]) -> Iterator[dict[str, float]]:
    repeats = {name: max(1, round(SHORTEST / _spent(c.run, 1))) for name, c in candidates.items()}
    for _ in range(ROUNDS):
        yield {name: _spent(c.run, repeats[name]) / c.items for name, c in candidates.items()}


def _spent(run: Callable[[], Any], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        run()
    return max(time.process_time() - start, 1e-9) / repeats


def expect_agreement(contest: Contest, candidates: dict[str, Candidate]) -> None:
    """A fast wrong answer does not enter: results must agree with the baseline's on the items they share."""
    tolerance = 1e-4 if contest.dtype == "float32" else 1e-10
    baseline, *others = candidates
    expected = [np.asarray(a) for a in candidates[baseline].run()]
    for name in others:
        for ours, theirs in zip(candidates[name].run(), expected, strict=False):
            error = np.abs(ours - theirs[: len(ours)]).max() / np.abs(theirs).max()
            if not error <= tolerance:
                raise AssertionError(f"{contest.name} {contest.dtype}: {name} is off by {error:.1e}")
