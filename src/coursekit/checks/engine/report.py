"""The score that nbgrader reads and the dozen lines that a student reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from coursekit.checks.engine.comparison import is_tensor

if TYPE_CHECKING:
    from coursekit.checks.engine.check import Check, Misconception

LINES = 12
WIDTH = 83  # nbgrader validate cuts what is longer
MIME = "application/vnd.coursekit.score+json"


@dataclass(frozen=True)
class Outcome:
    """One term of one case: the points it gave, and the problem if there was one."""

    case: str
    term: str
    points: float
    total: float
    problem: str | None


@dataclass(frozen=True, repr=False)
class Score:
    """What a check returns: shows as its points, which nbgrader takes as (partial) credit."""

    check: str
    points: float
    total: int
    outcomes: tuple[Outcome, ...]
    misconceptions: tuple[str, ...]
    shortcut: str | None
    report: str

    def __repr__(self) -> str:
        return f"{self.points:g}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": repr(self), MIME: self.record()}

    def record(self) -> dict[str, Any]:
        """The whole score as JSON values, without the report."""
        record = asdict(self)
        del record["report"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}

    def print(self) -> None:
        """Print the report to where it is read: `nbgrader validate` shows only stderr."""
        validating = os.environ.get("NBGRADER_EXECUTION") == "validate" and self.points < self.total
        # in one write, so that a notebook stores it as one output
        (sys.stderr if validating else sys.stdout).write(f"{self.report}\n")


def write_report(
    check: Check,
    outcomes: Sequence[Outcome],
    mistakes: Sequence[Misconception],
    shortcut: str | None,
    printed: int,
) -> str:
    """At most a dozen lines: the points, what was wrong, which mistake that is, what was right.

    shortcut: the forbidden function that was used.   printed: characters that the student's function printed.
    """
    head = [f"{check.name}: {sum(o.points for o in outcomes):g} of {check.points} points"]
    if shortcut:
        head += _wrapped(f"used {shortcut}, which this task rules out; build it yourself", "  ")
    tail = [line for misconception in mistakes[:2] for line in _explain(misconception)]
    tail += _listing("right", [o for o in outcomes if not o.problem], check)
    if printed:
        tail += [f"  (what your function prints, warnings too, is not shown here: {printed} characters)"]
    return "\n".join(head + _wrong(check, [o for o in outcomes if o.problem], LINES - 1 - len(tail)) + tail)


def _wrong(check: Check, wrong: Sequence[Outcome], room: int) -> list[str]:
    if not wrong:
        return []
    if len(wrong) == len(check.cases) * len(check.terms) > 1 and len({o.problem for o in wrong}) == 1:
        return _wrapped(f"in every case: {wrong[0].problem}", "  ")[:room]
    shown = _telling(wrong)
    said = {(o.case, o.problem) for o in shown}
    rest = _listing("also wrong", [o for o in wrong if (o.case, o.problem) not in said], check)
    lines = [line for o in shown for line in _wrapped(f"{o.case}: {o.problem}", "  wrong: ", "    ")]
    cases = {case.name: case for case in check.cases}
    lines += _wrapped(f"in {shown[0].case}: {check.describe(cases[shown[0].case])}", "    ")
    return lines[: room - len(rest)] + rest


def _telling(wrong: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes to show in full: the first of each term, but each problem once."""
    first = {o.term: o for o in reversed(wrong)}
    shown = sorted(first.values(), key=wrong.index)
    return list({o.problem: o for o in reversed(shown)}.values())[::-1][:3]


def _listing(title: str, outcomes: Iterable[Outcome], check: Check) -> list[str]:
    """Two lines at most that name cases, and which of their terms where not all are meant."""
    terms: dict[str, list[str]] = {}
    for o in outcomes:
        terms.setdefault(o.case, []).append(o.term)
    groups: dict[tuple[str, ...], list[str]] = {}
    for case, names in terms.items():
        groups.setdefault(tuple(names), []).append(case)
    listing = "; ".join(_group(names, cases, check) for names, cases in groups.items())
    return _wrapped(f"{title}: {listing}", "  ", max_lines=2, placeholder=" ...") if listing else []


def _group(terms: tuple[str, ...], cases: list[str], check: Check) -> str:
    if len(terms) == len(check.terms):
        return "; ".join(cases)
    where = "every case" if len(cases) == len(check.cases) else "; ".join(cases)
    return f"{', '.join(terms)} in {where}"


def _explain(misconception: Misconception) -> list[str]:
    page, _, label = misconception.see.partition("#")
    anchor = f"equation-{label}" if label.startswith("eq-") else label
    return [*_wrapped(misconception.message, "  > ", "    "), f"    Read {page}.html#{anchor}"]


def _wrapped(text: str, indent: str, hanging: str | None = None, **options: Any) -> list[str]:
    hanging = hanging or indent + "  "
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=hanging, **options)


def describe_call(names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """Arguments as a student reads them: arrays by shape and dtype, everything else by value."""
    positional = [(names[i] if i < len(names) else "", value) for i, value in enumerate(args)]
    pairs = [*positional, *kwargs.items()]
    return ", ".join(f"{name} = {_brief(value)}" if name else _brief(value) for name, value in pairs)


def _brief(value: Any) -> str:
    if _is_array(value):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_brief(item)}' for key, item in value.items())}}}"
    if isinstance(value, list) and any(map(_is_array, value)):
        return f"{len(value)} arrays, the first {_brief(value[0])}"
    if isinstance(value, list) and any(isinstance(v, tuple) and any(map(_is_array, v)) for v in value):
        return f"{len(value)} tuples, the first of {len(value[0])} arrays"
    return value.__name__ if isinstance(value, FunctionType) else repr(value)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)
