"""A check: named cases with points, a reference, and the mistakes that it can name."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from coursekit.checks.engine.calling import CallFailed, Failure, Guard, seconds_per_call
from coursekit.checks.engine.diagnosis import Trial, diagnose, problem
from coursekit.checks.engine.report import Outcome, Score, describe_call, write_report
from coursekit.checks.engine.shortcuts import LIBRARIES, Watch

Functions = Callable | tuple[Callable, ...]


class Arguments(NamedTuple):
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def call(*args: Any, **kwargs: Any) -> Arguments:
    """The arguments of one case, written as the call they are for."""
    return Arguments(args, kwargs)


class Draw:
    """Source of a case's arguments: arrays by draw(2, 3, 7), sizes by draw.integer(11, 30)."""

    def __init__(self, rng: np.random.Generator, dtype: str) -> None:
        self.rng, self.dtype = rng, dtype

    def __call__(self, *shape: int) -> np.ndarray:
        """A standard normal array in the case's dtype."""
        return self.rng.standard_normal(shape).astype(self.dtype)

    def integer(self, low: int, high: int) -> int:
        """A whole number, low <= n < high."""
        return int(self.rng.integers(low, high))


@dataclass(frozen=True, eq=False)
class Case:
    """One situation that a function is tried in.

    name: what a student reads.   points: for each term of the result; a multiple of 0.25.
    draw: makes the arguments from a Draw; sizes distinct, so that no two axes can be confused.
    device: "meta" runs a torch task where tensors have a shape and no values.
    """

    name: str
    points: float
    draw: Callable[[Draw], Arguments]
    dtype: str = "float64"
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Misconception:
    """A mistake with a name.

    name: a short slug.   message: what went wrong and why, for the student who made it (<= 160 characters).
    see: page of the book and label on it, "convolution/arithmetic#eq-conv-size".
    wrong: the function (or functions) that makes this mistake and no other.
    """

    name: str
    message: str
    see: str
    wrong: Functions


def apply(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """The plain way to observe a function: its result."""
    return function(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class Check:
    """Grade a student's function: `checks.conv.conv2d_forward(conv2d_forward)`.

    name: slug of the topic, a dot, name in its module.   title: what the task asks, in a few words.
    reference: the right function (or functions, for a check that is called with several).
    terms: names of the parts of a result; with more than one, the result is a tuple and each is graded.
    forbidden, allowed: names that the function must not / may call; see shortcuts.Watch.
    library: "numpy" or "torch": what arrays the cases are made of.
    observe: (*functions, *args, **kwargs) -> result: how a function is tried, where one call is not all.
    """

    name: str
    title: str
    reference: Functions
    cases: tuple[Case, ...]
    misconceptions: tuple[Misconception, ...] = ()
    terms: tuple[str, ...] = ("result",)
    forbidden: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    library: str = "numpy"
    observe: Callable = apply

    @cached_property
    def points(self) -> int:
        return round(sum(case.points for case in self.cases) * len(self.terms))

    def __call__(self, *functions: Callable) -> Score:
        """Grade, print the report, and return the score for nbgrader to read."""
        score = self.grade(*functions)
        score.print()
        return score

    def grade(self, *functions: Callable, watched: bool = True) -> Score:
        """Run every case and say what went wrong; prints nothing, and a student's error does not raise.

        watched: look out for shortcuts; wrong variants, which are made from the reference, go without.
        """
        forbidden = (*LIBRARIES[self.library], *self.forbidden)
        watch = _watch(functions)(forbidden, self.allowed) if watched else None
        guard = Guard(watch, seconds_per_call())
        where = [(case, device) for case in self.cases for device in self._devices(case)]
        trials = [self._try(functions, case, device, guard) for case, device in where]
        shortcut = watch.used if watch else None
        outcomes = [] if shortcut else self._outcomes(trials)
        mistakes = [] if shortcut else diagnose(self, trials)
        report = write_report(self, outcomes, mistakes, shortcut, guard.output.length)
        points = sum(outcome.points for outcome in outcomes)
        names = tuple(misconception.name for misconception in mistakes)
        return Score(self.name, points, self.points, tuple(outcomes), names, shortcut, report)

    def answer(self, functions: Functions, case: Case, device: str) -> dict[str, Any]:
        """What the reference or a wrong variant gives in a case, by term; computed once for a seed."""
        return _answer(self, functions, case, device, _seed())

    def attempt(self, functions: Functions, case: Case, device: str, guard: Guard) -> dict[str, Any]:
        """What these functions give in a case, by term: a value, or the Failure that took its place."""
        args, kwargs = self.arguments(case, device)
        guarded = [guard.wrap(f, self._names(i), device) for i, f in enumerate(_tuple(functions))]
        try:
            return self._terms(self.observe(*guarded, *args, **kwargs))
        except CallFailed as error:
            return dict.fromkeys(self.terms, error.failure)
        except Exception as error:  # a result so odd that observing it fails
            kind = type(error).__name__
            return dict.fromkeys(self.terms, Failure("result", kind, f"gave a result of no use ({kind})"))

    def arguments(self, case: Case, device: str = "cpu") -> Arguments:
        """The case's arguments, drawn afresh: the same every time for one COURSEKIT_CHECK_SEED."""
        digest = hashlib.sha256(f"{_seed()}/{self.name}/{case.name}".encode()).digest()
        args, kwargs = case.draw(Draw(np.random.default_rng(list(digest)), case.dtype))
        if self.library == "numpy":
            return Arguments(args, kwargs)
        from coursekit.checks.engine.torch import tensor

        return Arguments(tuple(tensor(a, device) if isinstance(a, np.ndarray) else a for a in args), kwargs)

    def describe(self, case: Case) -> str:
        """The call of a case with shapes in place of arrays."""
        names = () if isinstance(self.reference, tuple) else self._names(0)
        return describe_call(names, *self.arguments(case))

    def _devices(self, case: Case) -> list[str]:
        if self.library == "numpy" or case.device != "cpu":
            return [case.device]
        from coursekit.checks.engine.torch import devices

        return devices()

    def _try(self, functions: tuple[Callable, ...], case: Case, device: str, guard: Guard) -> Trial:
        expected = self.answer(self.reference, case, device)
        got = self.attempt(functions, case, device, guard)
        problems = {term: problem(value, expected[term], term) for term, value in got.items()}
        return Trial(case, device, got, problems)

    def _names(self, position: int) -> tuple[str, ...]:
        functions = _tuple(self.reference)
        return tuple(inspect.signature(functions[position]).parameters) if position < len(functions) else ()

    def _terms(self, result: Any) -> dict[str, Any]:
        if len(self.terms) == 1:
            return {self.terms[0]: result}
        if isinstance(result, (tuple, list)) and len(result) == len(self.terms):
            return dict(zip(self.terms, result, strict=True))
        length = f" of {len(result)}" if isinstance(result, (tuple, list)) else ""
        form = type(result).__name__ + length
        wanted = f"returned {form}, expected a tuple ({', '.join(self.terms)})"
        return dict.fromkeys(self.terms, Failure("result", form, wanted))

    def _outcomes(self, trials: list[Trial]) -> list[Outcome]:
        """Points by case and term: a case counts where it is right on every device."""
        outcomes = []
        for case in self.cases:
            mine = [trial for trial in trials if trial.case is case]
            for term in self.terms:
                problem = next((t.problems[term] for t in mine if t.problems[term]), None)
                outcomes.append(Outcome(case.name, term, 0 if problem else case.points, case.points, problem))
        return outcomes


@cache
def _answer(check: Check, functions: Functions, case: Case, device: str, seed: str) -> dict[str, Any]:
    return check.attempt(functions, case, device, Guard())


def _seed() -> str:
    """What the cases are drawn from: nbgrader grades on other numbers than the student has seen."""
    grading = os.environ.get("NBGRADER_EXECUTION") == "autograde"
    return os.environ.get("COURSEKIT_CHECK_SEED", "grading" if grading else "self-check")


def _watch(functions: tuple[Callable, ...]) -> Callable[..., Watch]:
    """How to watch these functions: a stand-in for one in another process knows how to watch over there."""
    return next((f.__watch__ for f in functions if hasattr(f, "__watch__")), Watch)


def _tuple(functions: Functions) -> tuple[Callable, ...]:
    return functions if isinstance(functions, tuple) else (functions,)
