"""Find the misconception: the wrong variant that gives the very answers that the student's function gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coursekit.checks.engine.calling import Failure
from coursekit.checks.engine.comparison import difference, same

if TYPE_CHECKING:
    from coursekit.checks.engine.check import Case, Check, Misconception


@dataclass(frozen=True, eq=False)
class Trial:
    """One case on one device: what came, and the problem with it, by term."""

    case: Case
    device: str
    got: dict[str, Any]
    problems: dict[str, str | None]


def diagnose(check: Check, trials: Sequence[Trial]) -> list[Misconception]:
    """The mistakes made: one that explains all that is wrong, or else one at most for each term.

    A wrong variant explains a wrong answer if it is wrong there too and gives the same.  Among several
    that explain everything wrong in some terms, the one that agrees most often altogether is named.
    """
    wrong = [term for term in check.terms if any(trial.problems[term] for trial in trials)]
    whole = _best(check, trials, wrong)
    parts = [whole] if whole else [_best(check, trials, [term]) for term in wrong]
    return list(dict.fromkeys(part for part in parts if part))


def _best(check: Check, trials: Sequence[Trial], terms: Sequence[str]) -> Misconception | None:
    answers = [(trial, term) for trial in trials for term in terms]
    failures = [(trial, term) for trial, term in answers if trial.problems[term]]
    if not any(_is_telling(trial.got[term]) for trial, term in failures):
        return None

    def agreement(misconception: Misconception) -> int:
        if not all(_explains(check, misconception, trial, term) for trial, term in failures):
            return 0
        return sum(_agrees(check, misconception, trial, term) for trial, term in answers)

    scores = {misconception: agreement(misconception) for misconception in check.misconceptions}
    best = max(scores, key=scores.get, default=None)
    return best if best is not None and scores[best] else None


def _explains(check: Check, misconception: Misconception, trial: Trial, term: str) -> bool:
    variant = check.answer(misconception.wrong, trial.case, trial.device)[term]
    expected = check.answer(check.reference, trial.case, trial.device)[term]
    return _agrees(check, misconception, trial, term) and problem(variant, expected, term) is not None


def _agrees(check: Check, misconception: Misconception, trial: Trial, term: str) -> bool:
    variant, got = check.answer(misconception.wrong, trial.case, trial.device)[term], trial.got[term]
    failures = isinstance(got, Failure), isinstance(variant, Failure)
    return got == variant if all(failures) else not any(failures) and same(got, variant)


def problem(got: Any, expected: Any, term: str) -> str | None:
    """What to say about one term of an answer; None if it is right."""
    if isinstance(got, Failure):
        return f"{term} is {got.message}" if got.kind == "detached" else got.message
    return difference(got, expected, term)


def _is_telling(value: Any) -> bool:
    """Whether a wrong answer points to a mistake: an exception does not, many mistakes end in one."""
    return not isinstance(value, Failure) or value.kind not in ("exception", "time")
