"""Late days: a budget of free days a term, then a penalty for each further day."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from nbgrader.api import (
    Assignment,
    BaseCell,
    Grade,
    Gradebook,
    Notebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy import select
from traitlets import Enum, Float, Integer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from traitlets.config import Config

__all__ = ["Charge", "LateDays", "late_days", "late_plugin", "notebook_score", "seconds_late", "table"]

DAY = 24 * 60 * 60


class HandIn(NamedTuple):
    """How late one student handed in one assignment, in seconds after the due date with its extension."""

    student: str
    assignment: str
    seconds: float


class Charge(NamedTuple):
    """What one late hand-in costs: days late = free + charged, unless it came too late to count at all."""

    student: str
    assignment: str
    days: int
    free: int
    charged: int
    refused: bool


class LateDays(LateSubmissionPlugin):
    """A student may be late some days in a term for free; each further day costs a penalty.

    The free days are spent over the assignments in the order of their due dates, whatever the order in
    which they are handed in or graded.  An extension moves a student's due date.

    In `nbgrader_config.py`: `c.AssignLatePenalties.plugin_class = LateDays`, `c.LateDays.days_free = 3`.
    """

    days_free = Integer(0, min=0, help="days a student may be late in a term for nothing").tag(config=True)
    grace_minutes = Integer(
        0, min=0, help="minutes after the due date, and after each further day, that do not count"
    ).tag(config=True)
    penalty_per_day = Float(0.1, min=0, help="what each day that is not free costs").tag(config=True)
    penalty_unit = Enum(
        ("share", "points"),
        "share",
        help="share: of the points that the hand-in earned.  points: of the assignment, spread over its "
        "notebooks in proportion to their maximum",
    ).tag(config=True)
    max_days = Integer(
        None, allow_none=True, min=0, help="what is later than this many days earns 0 and spends no free days"
    ).tag(config=True)

    def days_late(self, seconds: float) -> int:
        """Days that count, begun days in full: ten minutes late is a day, unless the grace covers them."""
        return max(0, math.ceil((seconds - 60 * self.grace_minutes) / DAY))

    def charges(self, hand_ins: Iterable[HandIn]) -> list[Charge]:
        """What each late hand-in costs; the hand-ins come in the order of their due dates."""
        left: dict[str, int] = {}
        charges = []
        for student, assignment, seconds in hand_ins:
            days = self.days_late(seconds)
            refused = self.max_days is not None and days > self.max_days
            free = 0 if refused else min(days, left.get(student, self.days_free))
            left[student] = left.get(student, self.days_free) - free
            if days:
                charges.append(Charge(student, assignment, days, free, days - free, refused))
        return charges

    def penalty(self, charge: Charge | None, score: float, share: float) -> float | None:
        """Points to take off a notebook that earned `score`, of an assignment of which it is this share."""
        if charge is None or not (charge.charged or charge.refused):
            return None
        if charge.refused:
            return score
        whole = score if self.penalty_unit == "share" else share
        return max(0.0, min(score, charge.charged * self.penalty_per_day * whole))

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float | None:
        """The penalty of the notebook that `AssignLatePenalties`, our parent, is at."""
        at = self.parent
        session = at.gradebook.db
        charges = self.charges(_hand_ins(session, student_id))
        charge = next((charge for charge in charges if charge.assignment == at.assignment_id), None)
        shares = _shares(session, at.assignment_id)
        return self.penalty(charge, score, shares[at.notebook_id])

    def settle(self, session: Session, student: str | None = None) -> None:
        """Set the penalties of a student, or of the class, in every assignment; the caller commits.

        One hand-in can change the penalty of a later one, and so do an extension or points given by hand.
        """
        charges = {charge[:2]: charge for charge in self.charges(_hand_ins(session, student))}
        shares: dict[str, dict[str, float]] = {}
        for row in session.execute(_of(student, _SUBMITTED_NOTEBOOKS)):
            charge = charges.get((row.student_id, row.assignment))
            penalty = None
            if charge:
                if row.assignment not in shares:
                    shares[row.assignment] = _shares(session, row.assignment)
                share = shares[row.assignment][row.notebook]
                penalty = self.penalty(charge, notebook_score(session, row.id), share)
            if penalty != row.late_submission_penalty:
                session.get(SubmittedNotebook, row.id).late_submission_penalty = penalty


def late_plugin(config: Config) -> LateSubmissionPlugin:
    """The plugin that nbgrader's configuration names: `AssignLatePenalties.plugin_class`."""
    assigner = AssignLatePenalties(config=config)
    assigner.init_plugin()
    return assigner.plugin_inst


def late_days(gradebook: Gradebook, policy: LateDays) -> list[Charge]:
    """Every late hand-in of the term by student, in the order in which free days are spent."""
    return sorted(policy.charges(_hand_ins(gradebook.db, None)), key=lambda charge: charge.student)


def table(charges: Iterable[Charge]) -> str:
    """Late hand-ins as text: one line each."""
    lines = [f"{'student':<24}{'assignment':<24}{'late':>5}{'free':>5}{'charged':>8}"]
    for charge in charges:
        paid = "refused" if charge.refused else charge.charged
        lines.append(f"{charge.student:<24}{charge.assignment:<24}{charge.days:>5}{charge.free:>5}{paid:>8}")
    return "\n".join(lines)


def seconds_late(timestamp: datetime | None, due: datetime | None, extension: timedelta | None) -> float:
    """Seconds after the due date that a hand-in arrived, 0 if in time or if either time is unknown."""
    if timestamp is None or due is None:
        return 0.0
    return max(0.0, (timestamp - due - (extension or timedelta())).total_seconds())


def notebook_score(session: Session, submitted_notebook: str) -> float:
    """Points of one submitted notebook before penalties.

    `SubmittedNotebook.score` gives the same, but reads the grades of the whole class: nbgrader's index on
    them starts with the cell.
    """
    cells = (
        select(BaseCell.id)
        .join(SubmittedNotebook, SubmittedNotebook.notebook_id == BaseCell.notebook_id)
        .where(SubmittedNotebook.id == submitted_notebook)
    )
    grades = select(Grade.score).where(Grade.notebook_id == submitted_notebook, Grade.cell_id.in_(cells))
    return sum(session.scalars(grades), 0.0)


# ---------------------------------------------------------------------------------------------------
# What the gradebook says

_SUBMISSIONS = (
    select(
        Student.id,
        Assignment.name,
        SubmittedAssignment.timestamp,
        Assignment.duedate,
        SubmittedAssignment.extension,
    )
    .join(SubmittedAssignment, SubmittedAssignment.student_id == Student.id)
    .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
    .order_by(Assignment.duedate, Assignment.name, Student.id)
)

_SUBMITTED_NOTEBOOKS = (
    select(
        Student.id.label("student_id"),
        Assignment.name.label("assignment"),
        Notebook.name.label("notebook"),
        SubmittedNotebook.id.label("id"),
        SubmittedNotebook.late_submission_penalty,
    )
    .join(SubmittedAssignment, SubmittedAssignment.student_id == Student.id)
    .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
    .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
    .join(Notebook, Notebook.id == SubmittedNotebook.notebook_id)
)


def _of(student: str | None, query):
    return query if student is None else query.where(Student.id == student)


def _hand_ins(session: Session, student: str | None) -> list[HandIn]:
    """Hand-ins of a student, or of the class, in the order of their due dates."""
    rows = session.execute(_of(student, _SUBMISSIONS))
    return [HandIn(who, name, seconds_late(*times)) for who, name, *times in rows]


def _shares(session: Session, assignment: str) -> dict[str, float]:
    """What share of its assignment's maximum each notebook is, by name."""
    query = select(Notebook.name, Notebook.max_score).join(Notebook.assignment)
    maxima = dict(session.execute(query.where(Assignment.name == assignment)).all())
    total = sum(maxima.values())
    return {name: maximum / total if total else 0.0 for name, maximum in maxima.items()}
