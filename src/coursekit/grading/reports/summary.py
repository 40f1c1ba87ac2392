"""How a class did in an assignment: as a table for the terminal and as one page for a browser."""

from __future__ import annotations

import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coursekit.grading.records import NOT_SCORED, CellScore, Outcome
from coursekit.grading.reports.page import counted, points, render

__all__ = ["Summary", "as_html", "as_text", "summarise"]

BINS = 10
SLOWEST = 5
WIDTH = 100
NAMED = 8  # students or cases in one line of text


class Question(NamedTuple):
    """One graded cell over the class; mean, median and full are shares of it, 0 to 1.

    answers: hand-ins that it was graded in.   by_hand: those in which a person gives the points; if
    there are any, the shares are 0, since those that were left empty alone have been graded.
    """

    name: str
    maximum: float
    answers: int
    mean: float
    median: float
    full: float
    by_hand: int


class Mistake(NamedTuple):
    """A misconception, or a shortcut taken, with where and by whom."""

    name: str
    questions: tuple[str, ...]
    students: tuple[str, ...]


class Remark(NamedTuple):
    """Something to know about one student's hand-in."""

    student: str
    message: str


class Total(NamedTuple):
    """Automatic points of one student, and the seconds that grading took."""

    student: str
    points: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    """A class's outcomes in one assignment.

    expected: students on the class list.   missing: those of them without a hand-in.   graded: students whose
    hand-in needs no review.   totals: by student.   maximum: of a hand-in, without what a person grades.
    quartiles: of the totals, empty below two hand-ins.   questions: hardest first.   tampering: what differs
    from the release.   gaps: what the sandbox could not protect, and in how many hand-ins.
    """

    assignment: str
    expected: int
    missing: tuple[str, ...]
    graded: int
    totals: tuple[Total, ...]
    maximum: float
    quartiles: tuple[float, ...]
    questions: tuple[Question, ...]
    mistakes: tuple[Mistake, ...]
    shortcuts: tuple[Mistake, ...]
    reviews: tuple[Remark, ...]
    tampering: tuple[Remark, ...]
    gaps: tuple[tuple[str, int], ...]

    @property
    def handed_in(self) -> int:
        return len(self.totals)

    @property
    def need_review(self) -> int:
        return self.handed_in - self.graded

    @property
    def slowest(self) -> list[Total]:
        return sorted(self.totals, key=lambda total: -total.seconds)[:SLOWEST]

    @property
    def bins(self) -> list[int]:
        """Hand-ins by tenth of the maximum, which counts to the last."""
        counts = [0] * BINS
        for total in self.totals:
            share = total.points / self.maximum if self.maximum else 0.0
            counts[min(BINS - 1, max(0, int(BINS * share)))] += 1
        return counts


def summarise(outcomes: Sequence[Outcome], students: Iterable[str]) -> Summary:
    """What the outcomes of one assignment say about the class.

    students: the class list; whoever handed in counts even if not on it.
    Raises ValueError if the outcomes are of several assignments.
    """
    assignments = {outcome.assignment for outcome in outcomes}
    if len(assignments) > 1:
        names = ", ".join(sorted(assignments))
        raise ValueError(f"outcomes of several assignments ({names}); give those of one at a time")
    by_student: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.student, outcome.notebook)):
        by_student[outcome.student].append(outcome)
    expected = set(students) | set(by_student)
    ordered = [outcome for own in by_student.values() for outcome in own]
    questions = _questions(ordered)
    totals = tuple(_total(student, own) for student, own in by_student.items())
    return Summary(
        assignment=next(iter(assignments), ""),
        expected=len(expected),
        missing=tuple(sorted(expected - set(by_student))),
        graded=sum(all(outcome.status == "graded" for outcome in own) for own in by_student.values()),
        totals=totals,
        maximum=sum(question.maximum for question in questions if not question.by_hand),
        quartiles=_quartiles([total.points for total in totals]),
        questions=questions,
        mistakes=_mistakes(ordered, lambda record: record.get("misconceptions") or []),
        shortcuts=_mistakes(ordered, lambda record: [record["shortcut"]] if record.get("shortcut") else []),
        reviews=tuple(_reviews(ordered)),
        tampering=tuple(
            Remark(outcome.student, finding.message)
            for outcome in ordered
            for finding in outcome.findings
            if finding.stage == "release" and not finding.review
        ),
        gaps=_gaps(ordered),
    )


def _total(student: str, outcomes: Sequence[Outcome]) -> Total:
    earned = sum(outcome.points for outcome in outcomes)
    return Total(student, earned, sum(outcome.seconds for outcome in outcomes))


def _quartiles(values: Sequence[float]) -> tuple[float, ...]:
    """Least, lower quartile, median, upper quartile, most."""
    if len(values) < 2:
        return ()
    return (min(values), *statistics.quantiles(values, n=4, method="inclusive"), max(values))


def _questions(outcomes: Sequence[Outcome]) -> tuple[Question, ...]:
    scores: dict[str, list[CellScore]] = defaultdict(list)
    for outcome in outcomes:
        for score in outcome.scores:
            scores[_question(outcome, score, outcomes)].append(score)
    found = [_one_question(name, own) for name, own in scores.items()]
    return tuple(sorted(found, key=lambda question: (question.answers == 0, question.mean, question.name)))


def _one_question(name: str, scores: Sequence[CellScore]) -> Question:
    by_hand = sum(score.points is None for score in scores)
    shares = [] if by_hand else [score.points / score.maximum for score in scores if score.maximum]
    return Question(
        name=name,
        maximum=max(score.maximum for score in scores),
        answers=len(shares),
        mean=statistics.fmean(shares) if shares else 0.0,
        median=statistics.median(shares) if shares else 0.0,
        full=sum(share >= 1 for share in shares) / len(shares) if shares else 0.0,
        by_hand=by_hand,
    )


def _question(outcome: Outcome, score: CellScore, outcomes: Sequence[Outcome]) -> str:
    """The cell's name, with the notebook's where the assignment has several."""
    alone = outcome.notebook == outcomes[0].notebook == outcomes[-1].notebook
    return score.cell if alone else f"{outcome.notebook}: {score.cell}"


def _mistakes(outcomes: Sequence[Outcome], names: Callable[[dict], Iterable[str]]) -> tuple[Mistake, ...]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for outcome in outcomes:
        for score in outcome.scores:
            for name in names(score.record or {}):
                found[name].append((_question(outcome, score, outcomes), outcome.student))
    mistakes = [
        Mistake(name, *(tuple(dict.fromkeys(column)) for column in zip(*where, strict=True)))
        for name, where in found.items()
    ]
    return tuple(sorted(mistakes, key=lambda mistake: (-len(mistake.students), mistake.name)))


def _reviews(outcomes: Iterable[Outcome]) -> Iterable[Remark]:
    for outcome in outcomes:
        reasons = [finding.message for finding in outcome.findings if finding.review]
        doubts = [score for score in outcome.scores if score.review]
        if reasons:  # a hand-in that could not be run has no scores: once is enough
            doubts = [score for score in doubts if score.review != NOT_SCORED]
        reasons += [f"{score.cell}: {score.review}" for score in doubts]
        if outcome.status != "graded" and not reasons:
            reasons = ["no reason was kept"]
        yield from (Remark(outcome.student, reason) for reason in dict.fromkeys(reasons))


def _gaps(outcomes: Iterable[Outcome]) -> tuple[tuple[str, int], ...]:
    marked = [text.partition("NOT PROTECTED: ") for outcome in outcomes for text in outcome.protection]
    return tuple(Counter(gap for _, mark, gap in marked if mark).most_common())


# ---------------------------------------------------------------------------------------------------
# As text


def as_text(summary: Summary) -> str:
    """The summary for a terminal, at most a hundred characters wide."""
    parts = [
        _head(summary),
        _histogram(summary),
        _question_table(summary),
        _mistake_list("misconceptions", summary.mistakes),
        _mistake_list("shortcuts taken", summary.shortcuts),
        _remark_list("needs review", summary.reviews),
        _remark_list("differs from the release", summary.tampering),
        _slowest(summary),
        "\n".join(f"NOT PROTECTED in {counted(number, 'hand-in')}: {gap}" for gap, number in summary.gaps),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _head(summary: Summary) -> str:
    came = f"{summary.handed_in} of {summary.expected} handed in"
    rest = f"{summary.need_review} need review, {len(summary.missing)} missing"
    lines = [f"{summary.assignment}: {came}, {summary.graded} graded, {rest}"]
    if summary.missing:
        lines.append(_wrapped(f"missing: {_listed(summary.missing)}", 2))
    return "\n".join(lines)


def _histogram(summary: Summary) -> str:
    if not summary.totals or not summary.maximum:
        return ""
    widest = max(summary.bins)
    lines = [f"automatic points, of {points(summary.maximum)}"]
    for label, count in zip(bin_labels(summary.maximum), summary.bins, strict=True):
        lines.append(f"  {label:>13}  {'#' * -(-40 * count // widest)} {count or ''}".rstrip())
    if summary.quartiles:
        names = ("least", "quarter", "median", "three quarters", "most")
        values = zip(names, summary.quartiles, strict=True)
        lines.append("  " + ", ".join(f"{name} {points(value)}" for name, value in values))
    return "\n".join(lines)


def bin_labels(maximum: float) -> list[str]:
    """The ranges of the histogram's bars."""
    edges = [maximum * i / BINS for i in range(BINS + 1)]
    return [f"{points(low)} to {points(high)}" for low, high in zip(edges, edges[1:], strict=False)]


def _question_table(summary: Summary) -> str:
    if not summary.questions:
        return ""
    width = max(len(question.name) for question in summary.questions)
    lines = [f"{'hardest first':<{width}}  points   mean  median  full marks"]
    for question in summary.questions:
        shares = f"{question.mean:>6.0%}  {question.median:>6.0%}  {question.full:>10.0%}"
        if not question.answers:
            shares = f"   graded by a person in {counted(question.by_hand, 'hand-in')}"
        lines.append(f"{question.name:<{width}}  {points(question.maximum):>6} {shares}")
    return "\n".join(lines)


def _mistake_list(title: str, mistakes: Sequence[Mistake]) -> str:
    if not mistakes:
        return ""
    lines = [title]
    for mistake in mistakes:
        where, who = _listed(mistake.questions), _listed(mistake.students)
        lines.append(_wrapped(f"  {len(mistake.students):>4}  {mistake.name} in {where}: {who}", 8))
    return "\n".join(lines)


def _remark_list(title: str, remarks: Sequence[Remark]) -> str:
    lines = [
        _wrapped(f"  {_one_line(student)}: {_listed(messages, '; ')}", 4)
        for student, messages in by_student(remarks).items()
    ]
    return "\n".join([f"{title} ({len(lines)})", *lines]) if lines else ""


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def by_student(remarks: Iterable[Remark]) -> Mapping[str, list[str]]:
    """Messages grouped by student."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for remark in remarks:
        grouped[remark.student].append(remark.message)
    return grouped


def _slowest(summary: Summary) -> str:
    timed = [total for total in summary.slowest if total.seconds > 0]
    if not timed:
        return ""
    listed = ", ".join(f"{_one_line(total.student)} {total.seconds:.1f} s" for total in timed)
    return _wrapped(f"slowest: {listed}", 2)


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    more = len(names) - NAMED
    shown = [_one_line(name) for name in names[:NAMED]]
    return separator.join(shown) + (f" and {more} more" if more > 0 else "")


def _one_line(text: str) -> str:
    """Without what would move a terminal's cursor: names and messages are students' own."""
    return "".join(character if character.isprintable() else "?" for character in text)


# ---------------------------------------------------------------------------------------------------
# As a page


def as_html(summary: Summary) -> str:
    """The summary as one page that loads nothing and runs nothing."""
    return render(
        "summary.html",
        summary=summary,
        bars=list(zip(bin_labels(summary.maximum), summary.bins, strict=True)),
        reviews=by_student(summary.reviews),
        tampering=by_student(summary.tampering),
    )
