"""Find the misconception: the wrong variant that gives the very answers that the student's function gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .calling import Failure
from .comparison import same

if TYPE_CHECKING:
    from .check import Case, Check, Misconception


@dataclass(frozen=True, eq=False)
class Trial:
    """One case on one device: what came, and the problem with it, by term."""

    case: Case
    device: str
    got: dict[str, Any]
    problems: dict[str, str | None]


def diagnose(check: Check, trials: Sequence[Trial]) -> list[Misconception]:
    """The mistakes made, one at most for each term of the result.

    A mistake is named if its wrong variant reproduces the term in every trial that failed; among several,
    the one that agrees in most trials altogether.
    """

    def fit(misconception: Misconception, term: str) -> int:
        """In how many trials the variant agrees with the student; 0 if it does not explain every failure."""

        def agrees(trial: Trial) -> bool:
            return _alike(trial.got[term], check.answer(misconception.wrong, trial.case, trial.device)[term])

        explains = all(agrees(trial) for trial in trials if trial.problems[term])
        return sum(map(agrees, trials)) if explains else 0

    found = []
    for term in check.terms:
        if any(trial.problems[term] and _is_telling(trial.got[term]) for trial in trials):
            fits = {misconception: fit(misconception, term) for misconception in check.misconceptions}
            best = max(fits, key=fits.get, default=None)
            if best is not None and fits[best] and best not in found:
                found.append(best)
    return found


def _alike(first: Any, second: Any) -> bool:
    failures = isinstance(first, Failure), isinstance(second, Failure)
    return first == second if all(failures) else not any(failures) and same(first, second)


def _is_telling(value: Any) -> bool:
    """Whether a wrong answer points to a mistake: an exception does not, many mistakes end in one."""
    return not isinstance(value, Failure) or value.kind not in ("exception", "time")
