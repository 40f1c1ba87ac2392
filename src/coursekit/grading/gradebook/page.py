"""What is to stand in the gradebook for one notebook of a hand-in: points, comments, outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from nbgrader.utils import compute_checksum

from coursekit.grading.gradebook.layout import Cell, NotebookLayout, by_name
from coursekit.grading.gradebook.scoring import valid_points
from coursekit.grading.records import NOT_SCORED, CellScore, Outcome

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["GRADED", "REVIEW", "Mark", "Page"]

GRADED, REVIEW = "graded", "needs review"


class Mark(NamedTuple):
    """What is to stand beside a graded cell.

    waits: whether a person must grade it; None leaves that as it is, if they have done so already.
    """

    points: float | None
    waits: bool | None
    review: str | None = None


@dataclass(frozen=True)
class Page:
    """One notebook of a hand-in: what was released, what it earned, how it looks after grading."""

    layout: NotebookLayout
    outcome: Outcome
    notebook: NotebookNode | None

    def marks(self) -> dict[str, Mark]:
        """Marks of the graded cells, by name, in the order of the notebook."""
        scores = {score.cell: score for score in self.outcome.scores}
        shown = by_name(self.notebook)
        order = {name: place for place, name in enumerate(shown)}
        graded = sorted(self.layout.graded, key=lambda cell: (order.get(cell.name, len(order)), cell.name))
        marks = {cell.name: self._mark(cell, scores.get(cell.name), shown.get(cell.name)) for cell in graded}
        return self._waiting(marks)

    def _mark(self, cell: Cell, score: CellScore | None, shown: NotebookNode | None) -> Mark:
        if score is None:
            if self.notebook is None and self.outcome.status == GRADED:
                return Mark(0.0, False)  # not handed in
            return Mark(0.0, True, NOT_SCORED)
        if score.points is None:
            if score.review:
                return Mark(0.0, True, score.review)
            if cell.kind == "TaskCell":
                return Mark(None, None)
            return Mark(0.0, False) if self._untouched(cell.name, shown) else Mark(None, True)
        points, wrong = valid_points(score.points, cell.maximum)
        review = wrong or score.review
        return Mark(points, review is not None, review)

    def _untouched(self, name: str, shown: NotebookNode | None) -> bool:
        """Whether an answer is still the text that was released."""
        if shown is None or name not in self.layout.answers or name not in self.layout.sources:
            return False
        return compute_checksum(shown) == self.layout.sources[name].checksum

    def _waiting(self, marks: dict[str, Mark]) -> dict[str, Mark]:
        """A hand-in that needs review has at least one grade that waits for a person."""
        flagged = {finding.cell for finding in self.outcome.findings if finding.review}
        marks = {name: mark._replace(waits=True) if name in flagged else mark for name, mark in marks.items()}
        if marks and self._needs_review(marks) and not any(mark.waits for mark in marks.values()):
            first = next(iter(marks))
            marks[first] = marks[first]._replace(waits=True)
        return marks

    def _needs_review(self, marks: Mapping[str, Mark]) -> bool:
        return (
            self.outcome.status != GRADED
            or any(finding.review for finding in self.outcome.findings)
            or any(mark.review for mark in marks.values())
        )

    def standing(self, marks: Mapping[str, Mark]) -> Outcome:
        """The outcome with what the gradebook holds in place of what it was said to earn."""
        maxima = {cell.name: cell.maximum for cell in self.layout.graded}
        scores = {score.cell: score for score in self.outcome.scores if score.cell in marks}
        for name in marks:
            scores.setdefault(name, CellScore(name, None, maxima[name]))
        automatic = [name for name in marks if self._automatic(name)]
        return replace(
            self.outcome,
            status=REVIEW if self._needs_review(marks) else GRADED,
            points=sum(marks[name].points or 0.0 for name in automatic),
            maximum=sum(maxima[name] for name in automatic),
            scores=tuple(
                replace(score, points=marks[name].points, maximum=maxima[name], review=marks[name].review)
                for name, score in scores.items()
            ),
            graded_at=self.outcome.graded_at or datetime.now(timezone.utc),
        )

    def _automatic(self, name: str) -> bool:
        """Whether no person grades this cell: a test, not an answer, a text or a task."""
        kinds = {cell.kind for cell in self.layout.cells if cell.name == name}
        return kinds == {"GradeCell"} and self.layout.sources[name].cell_type == "code"

    def comments(self, marks: Mapping[str, Mark]) -> dict[str, str]:
        """Automatic comments by name of the answer or task beside which nbgrader shows them."""
        shown = by_name(self.notebook)
        commented = {cell.name for cell in self.layout.commented}
        lines: dict[str, list[str]] = {
            name: ["No response."] for name in commented if self._untouched(name, shown.get(name))
        }
        for name, text in self._reasons(marks):
            if place := _place(name, list(shown), commented):
                lines.setdefault(place, []).append(f"Needs review: {text}")
        return {name: _plain("\n\n".join(dict.fromkeys(texts))) for name, texts in lines.items()}

    def _reasons(self, marks: Mapping[str, Mark]) -> Iterator[tuple[str | None, str]]:
        """Why a person must look at the notebook, with the cell concerned."""
        whole = False
        for finding in self.outcome.findings:
            if finding.review:
                whole = whole or finding.cell is None
                yield finding.cell, finding.message
        scored = {score.cell for score in self.outcome.scores}
        for name, mark in marks.items():
            # where the whole notebook failed, every cell would repeat it
            if mark.review and not (whole and name not in scored):
                yield name, f"{name}: {mark.review}"


def _place(name: str | None, order: Sequence[str], commented: set[str]) -> str | None:
    """The answer or task where a remark on a cell is read: itself, the one before it, else the first."""
    if name in commented:
        return name
    before = order[: order.index(name)] if name in order else []
    nearest = next((other for other in reversed(before) if other in commented), None)
    return nearest or next((other for other in order if other in commented), min(commented, default=None))


def _plain(text: str) -> str:
    """Text that every database keeps and that is no HTML where nbgrader renders it as Markdown."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")
