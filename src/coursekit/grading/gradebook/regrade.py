"""What a regrade changed: every score before against every score after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nbgrader.api import (
    Assignment,
    BaseCell,
    Grade,
    Notebook,
    SubmittedAssignment,
    SubmittedNotebook,
)
from sqlalchemy import literal, select

if TYPE_CHECKING:
    from coursekit.grading.gradebook.ledger import Ledger

__all__ = ["PENALTY", "Change", "Place", "diff", "snapshot", "table"]

PENALTY = "late penalty"


class Place(NamedTuple):
    """Where a score stands.  The late penalty of a notebook stands as a cell of its own, below zero."""

    student: str
    notebook: str
    cell: str


class Change(NamedTuple):
    """A score that differs, with the student's totals; None where there was or is no such grade."""

    student: str
    notebook: str
    cell: str
    old: float | None
    new: float | None
    total_old: float
    total_new: float


def snapshot(ledger: Ledger, assignment: str) -> dict[Place, float]:
    """Every score of an assignment as it counts now: by hand where there is one, extra credit included."""
    return ledger.read(
        lambda session: {
            Place(*where): points
            for query in (_SCORES, _PENALTIES)
            for *where, points in session.execute(query.where(Assignment.name == assignment))
        }
    )


def diff(before: Mapping[Place, float], after: Mapping[Place, float]) -> list[Change]:
    """The scores that differ between two snapshots, by student, notebook and cell."""
    old, new = _totals(before), _totals(after)
    return [
        Change(*place, before.get(place), after.get(place), old[place.student], new[place.student])
        for place in sorted(before.keys() | after.keys())
        if before.get(place) != after.get(place)
    ]


def table(changes: Iterable[Change]) -> str:
    """Changes as text, one line each; a student's totals stand on the first."""
    lines = [f"{'student':<20}{'cell':<36}{'old':>7}{'new':>7}   total"]
    last = None
    for change in changes:
        where = f"{change.notebook}/{change.cell}"
        total = "" if change.student == last else f"   {change.total_old:g} -> {change.total_new:g}"
        name = "" if change.student == last else change.student
        lines.append(f"{name:<20}{where:<36}{_show(change.old):>7}{_show(change.new):>7}{total}")
        last = change.student
    return "\n".join(lines) if len(lines) > 1 else "no score changed"


def _totals(scores: Mapping[Place, float]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for place, points in scores.items():
        totals[place.student] += points
    return totals


def _show(points: float | None) -> str:
    return "-" if points is None else f"{points:g}"


_SCORES = (
    select(SubmittedAssignment.student_id, Notebook.name, BaseCell.name, Grade.score)
    .select_from(Grade)
    .join(BaseCell, BaseCell.id == Grade.cell_id)
    .join(SubmittedNotebook, SubmittedNotebook.id == Grade.notebook_id)
    .join(Notebook, Notebook.id == SubmittedNotebook.notebook_id)
    .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
    .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
)

_PENALTIES = (
    select(
        SubmittedAssignment.student_id,
        Notebook.name,
        literal(PENALTY),
        -SubmittedNotebook.late_submission_penalty,
    )
    .select_from(SubmittedNotebook)
    .join(Notebook, Notebook.id == SubmittedNotebook.notebook_id)
    .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
    .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
    .where(SubmittedNotebook.late_submission_penalty > 0)
)
