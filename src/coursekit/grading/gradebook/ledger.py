"""The one writer of the gradebook: each hand-in in one transaction, grades and our own outcome together.

The gradebook is nbgrader's database (SQLite, or PostgreSQL by URL).  The ledger adds one table to it,
`coursekit_outcome`, which nbgrader's own commands never touch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import sqlalchemy as sa
from nbgrader.api import (
    Comment,
    Grade,
    Gradebook,
    InvalidEntry,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.utils import parse_utc
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from coursekit.grading import put_alembic_on_path
from coursekit.grading.gradebook.late import LateDays, notebook_score, seconds_late
from coursekit.grading.gradebook.layout import Cell, Layout, LedgerError, read_layout, read_source
from coursekit.grading.gradebook.page import GRADED, REVIEW, Mark, Page
from coursekit.grading.handin.source import Source
from coursekit.grading.records import Finding, Outcome, Submission, from_details

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.plugins import LateSubmissionPlugin

__all__ = ["GRADED", "OUTCOMES", "REVIEW", "Ledger", "LedgerError"]

T = TypeVar("T")

PATIENCE = 60.0  # seconds to wait for a gradebook that another program has locked
NAME_LENGTH = 128  # characters that nbgrader's columns hold

OUTCOMES = sa.Table(
    "coursekit_outcome",
    sa.MetaData(),
    sa.Column("assignment", sa.String(NAME_LENGTH), primary_key=True),
    sa.Column("notebook", sa.String(NAME_LENGTH), primary_key=True),
    sa.Column("student", sa.String(NAME_LENGTH), primary_key=True),
    # of submitted_notebook: a hand-in that nbgrader removed and added again is not done any more
    sa.Column("submitted_notebook_id", sa.String(32), nullable=False),
    sa.Column("fingerprint", sa.String(NAME_LENGTH), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("points", sa.Float, nullable=False),
    sa.Column("maximum", sa.Float, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("graded_at", sa.DateTime, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("cpu_seconds", sa.Float, nullable=False),
)


class Ledger:
    """The gradebook of a course, kept open; a context manager.

    db_url: `sqlite:///gradebook.db` or `postgresql://user@host/name` (the database exists already).
    late: nbgrader's plugin for late hand-ins, see late.late_plugin; None takes off nothing.
    gradebook: nbgrader's own view of the same database, for reading.
    Raises LedgerError if the database cannot be opened.
    """

    def __init__(
        self, db_url: str, course_id: str = "default_course", *, late: LateSubmissionPlugin | None = None
    ) -> None:
        self._shown = sa.make_url(db_url).render_as_string()  # without its password
        self._url = _patient_url(db_url)
        self._late = late
        self._opened = False
        put_alembic_on_path()
        self.gradebook: Gradebook = self._patiently(lambda: self._open(course_id))
        self._opened = True

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        self.gradebook.close()

    # -- reading

    def source(
        self, assignment: str, source_folder: Path | None, release_folder: Path | None
    ) -> dict[str, Source]:
        """What the gradebook knows of an assignment's notebooks, by name, with the files that lie there.

        Logs a warning where a source notebook is not the one that was released.  Raises LedgerError if
        the assignment was never released.
        """
        layouts = self.read(lambda session: read_layout(session, assignment).notebooks)
        return {
            name: read_source(assignment, layout, source_folder, release_folder)
            for name, layout in layouts.items()
        }

    def outcome(self, student: str, assignment: str, notebook: str) -> Outcome | None:
        """What stands in the gradebook for one notebook; None if it was never graded by this ledger."""
        query = _standing(assignment).where(OUTCOMES.c.student == student, OUTCOMES.c.notebook == notebook)
        row = self.read(lambda session: session.execute(query).one_or_none())
        return None if row is None else _outcome(row)

    def outcomes(self, assignment: str) -> list[Outcome]:
        """Every outcome of an assignment, by student and notebook."""
        query = _standing(assignment).order_by(OUTCOMES.c.student, OUTCOMES.c.notebook)
        return [_outcome(row) for row in self.read(lambda session: session.execute(query).all())]

    def fingerprints(self, assignment: str) -> dict[tuple[str, str], str]:
        """Fingerprint of the hand-in that was graded last, by student and notebook."""
        columns = (OUTCOMES.c.student, OUTCOMES.c.notebook, OUTCOMES.c.fingerprint)
        query = _standing(assignment).with_only_columns(*columns)
        rows = self.read(lambda session: session.execute(query).all())
        return {(student, notebook): fingerprint for student, notebook, fingerprint in rows}

    def students(self) -> set[str]:
        """Ids of all students in the gradebook."""
        return self.read(lambda session: set(session.scalars(sa.select(Student.id))))

    # -- writing

    def write(
        self, submission: Submission, outcomes: Sequence[Outcome], notebooks: Mapping[str, NotebookNode]
    ) -> list[Outcome]:
        """Write a hand-in in one transaction, and return the outcomes as they stand now.

        outcomes: one for each notebook that was graded.   notebooks: by name, as they were graded, with
        the metadata of the release; a notebook that nobody could read is left out.
        A graded cell without valid points gets 0 and waits for a person; its outcome needs review.
        Points given by hand stay, and wait for a person again.
        Raises LedgerError if the gradebook stays locked for a minute or cannot be written.
        """
        for outcome in outcomes:
            _check_same(submission, outcome)
        _check_name("student", submission.student)
        return self._patiently(lambda: self._write(submission, outcomes, notebooks))

    def invalidate(self, submission: Submission, finding: Finding) -> list[Outcome]:
        """Take back all automatic points of a hand-in that could not be graded, for this reason.

        Every notebook of the assignment gets 0 points and needs review; points given by hand stay.
        """
        names = self.read(lambda session: list(read_layout(session, submission.assignment).notebooks))
        finding = replace(finding, review=True)
        nothing = [
            Outcome(
                student=submission.student,
                assignment=submission.assignment,
                notebook=name,
                status=REVIEW,
                points=0.0,
                maximum=0.0,
                findings=(finding,),
                fingerprint=submission.fingerprint,
            )
            for name in names
        ]
        return self.write(submission, nothing, {})

    def forget(self, assignment: str, students: Collection[str], notebooks: Collection[str]) -> None:
        """Take the fingerprints of these hand-ins away, so that none of them counts as done.

        Their grades stand until new ones come.
        """
        self._patiently(lambda: self._forget(assignment, students, notebooks))

    def _forget(self, assignment: str, students: Collection[str], notebooks: Collection[str]) -> None:
        rows = sa.update(OUTCOMES).where(
            OUTCOMES.c.assignment == assignment,
            OUTCOMES.c.student == sa.bindparam("who"),
            OUTCOMES.c.notebook == sa.bindparam("which"),
        )
        with self._transaction() as session:
            if chosen := [{"who": who, "which": which} for who in students for which in notebooks]:
                session.connection().execute(rows.values(fingerprint=""), chosen)

    def settle_late_days(self) -> None:
        """Set the class's late penalties anew, after extensions or points given by hand."""
        if isinstance(self._late, LateDays):
            self._patiently(self._settle_late_days)

    def _settle_late_days(self) -> None:
        with self._transaction() as session:
            self._late.settle(session)

    def _write(
        self, submission: Submission, outcomes: Sequence[Outcome], notebooks: Mapping[str, NotebookNode]
    ) -> list[Outcome]:
        with self._transaction() as session:
            layout = read_layout(session, submission.assignment, lock=True)
            entry = _enter(session, submission, layout)
            standing = []
            for outcome in outcomes:
                if outcome.notebook not in layout.notebooks:
                    raise LedgerError(
                        f"assignment {submission.assignment!r} has no notebook {outcome.notebook!r} in the "
                        f"gradebook, only {', '.join(map(repr, layout.notebooks))}"
                    )
                page = Page(layout.notebooks[outcome.notebook], outcome, notebooks.get(outcome.notebook))
                standing.append(_write_page(session, page, entry.notebooks[outcome.notebook]))
            if isinstance(self._late, LateDays):
                self._late.settle(session, submission.student)
            else:
                late = seconds_late(entry.timestamp, layout.due, entry.extension)
                for outcome in outcomes:
                    row = session.get(SubmittedNotebook, entry.notebooks[outcome.notebook])
                    row.late_submission_penalty = self._penalty(session, submission.student, row.id, late)
            return standing

    def _penalty(self, session: Session, student: str, identifier: str, late: float) -> float | None:
        """What nbgrader's plugin takes off a submitted notebook: no more than it earned."""
        if self._late is None or not late:
            return None
        score = notebook_score(session, identifier)
        penalty = self._late.late_submission_penalty(student, score, late)
        return None if penalty is None else max(0.0, min(penalty, score))

    # -- the database

    def _open(self, course_id: str) -> Gradebook:
        try:
            gradebook = Gradebook(self._url, course_id)
        except InvalidEntry as error:
            raise LedgerError(f"the gradebook cannot hold the course {course_id!r}: {error}") from error
        try:
            OUTCOMES.metadata.create_all(gradebook.engine)
            _forget_removed(gradebook.engine)
        except BaseException:
            gradebook.close()
            raise
        return gradebook

    def read(self, action: Callable[[Session], T]) -> T:
        """What an action finds in a session of its own; anybody may read so, from any thread."""

        def read() -> T:
            with Session(self.gradebook.engine) as session:
                return action(session)

        return self._patiently(read)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with Session(self.gradebook.engine) as session, session.begin():
            if self._url.get_backend_name() == "sqlite":
                # Taken at once, the lock can be waited for; taken at the first write, two writers that
                # have both read would wait for each other.
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    def _patiently(self, action: Callable[[], T]) -> T:
        """Run an action again while the database is locked or away, for a minute at most."""
        end, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                return action()
            except DBAPIError as error:
                if not self._may_pass(error) or time.monotonic() > end:
                    raise LedgerError(self._explain(error)) from error
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _may_pass(self, error: DBAPIError) -> bool:
        if isinstance(error, IntegrityError):  # another program entered the same student meanwhile
            return True
        if self._url.get_backend_name() == "sqlite":
            return isinstance(error, OperationalError) and "locked" in str(error.orig)
        return self._opened and isinstance(error, OperationalError)  # a server that restarts

    def _explain(self, error: DBAPIError) -> str:
        url, reason = self._shown, str(error.orig).strip()
        if "locked" in reason:
            return (
                f"the gradebook {url} stayed locked by another program for {PATIENCE:g} s; "
                "close what writes to it and run again"
            )
        if any(sign in reason for sign in ("readonly", "unable to open", "disk is full", "disk I/O")):
            return (
                f"the gradebook {url} cannot be written ({reason}); its file and the folder "
                "around it must be writable and have space"
            )
        return f"the gradebook {url} failed: {reason}"


def _forget_removed(engine: sa.Engine) -> None:
    """Delete the outcomes of hand-ins that nbgrader has removed, as it does not know of them."""
    submitted = SubmittedNotebook.__table__
    removed = ~sa.exists().where(submitted.c.id == OUTCOMES.c.submitted_notebook_id)
    with engine.begin() as connection:
        if connection.scalar(sa.select(sa.func.count()).select_from(OUTCOMES).where(removed)):
            connection.execute(sa.delete(OUTCOMES).where(removed))


def _patient_url(db_url: str) -> sa.URL:
    url = sa.make_url(db_url)
    # SQLite waits so many seconds in one go; the ledger asks again.
    return url.update_query_dict({"timeout": "1"}) if url.get_backend_name() == "sqlite" else url


def _check_name(kind: str, name: str) -> None:
    """What the database would refuse, or keep as something else."""
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise LedgerError(
            f"the gradebook cannot hold the {kind} {name[:40]!r} ({len(name)} characters): a name has 1 to "
            f"{NAME_LENGTH} printable characters; rename the folder"
        )


def _check_same(submission: Submission, outcome: Outcome) -> None:
    if (outcome.student, outcome.assignment) != (submission.student, submission.assignment):
        raise ValueError(
            f"the outcome is of {outcome.student!r} in {outcome.assignment!r}, the hand-in of "
            f"{submission.student!r} in {submission.assignment!r}"
        )


# ---------------------------------------------------------------------------------------------------
# The rows of a hand-in


class Entry(NamedTuple):
    """A student's submission of one assignment: the rows of its notebooks by name."""

    timestamp: datetime | None
    extension: Any
    notebooks: dict[str, str]


def _enter(session: Session, submission: Submission, layout: Layout) -> Entry:
    """Make the rows of a hand-in that are missing, as nbgrader makes them, and note when it was handed in."""
    connection = session.connection()
    student, submitted = Student.__table__, SubmittedAssignment.__table__
    if not connection.scalar(sa.select(sa.exists().where(student.c.id == submission.student))):
        connection.execute(sa.insert(student).values(id=submission.student))
    ours = (submitted.c.assignment_id == layout.id) & (submitted.c.student_id == submission.student)
    if not connection.scalar(sa.select(sa.exists().where(ours))):
        new = {"assignment_id": layout.id, "student_id": submission.student}
        connection.execute(sa.insert(submitted).values(new))
    if submission.timestamp is not None:  # as in nbgrader, a hand-in without one keeps the older
        connection.execute(sa.update(submitted).where(ours).values(timestamp=parse_utc(submission.timestamp)))
    columns = (submitted.c.id, submitted.c.timestamp, submitted.c.extension)
    identifier, timestamp, extension = connection.execute(sa.select(*columns).where(ours)).one()
    return Entry(timestamp, extension, _enter_notebooks(connection, identifier, layout))


def _enter_notebooks(connection: sa.Connection, submitted_assignment: str, layout: Layout) -> dict[str, str]:
    table = SubmittedNotebook.__table__
    query = sa.select(table.c.notebook_id, table.c.id).where(
        table.c.assignment_id == submitted_assignment,
        # nbgrader's index starts with this column; without it, SQLite reads the rows of the whole class
        table.c.notebook_id.in_([notebook.id for notebook in layout.notebooks.values()]),
    )
    there = dict(connection.execute(query).all())
    missing = [notebook.id for notebook in layout.notebooks.values() if notebook.id not in there]
    if missing:
        rows = [{"notebook_id": notebook, "assignment_id": submitted_assignment} for notebook in missing]
        connection.execute(sa.insert(table), rows)
        there = dict(connection.execute(query).all())
    entered = {name: there[notebook.id] for name, notebook in layout.notebooks.items()}
    for name, notebook in layout.notebooks.items():
        if notebook.id in missing:
            _rows(connection, Grade.__table__, entered[name], notebook.graded)
            _rows(connection, Comment.__table__, entered[name], notebook.commented)
    return entered


def _rows(
    connection: sa.Connection, table: sa.Table, submitted_notebook: str, cells: Sequence[Cell]
) -> dict[str, sa.Row]:
    """The grades or comments of a submitted notebook by cell id, made where they are missing."""
    query = sa.select(table).where(
        table.c.notebook_id == submitted_notebook,
        table.c.cell_id.in_([cell.id for cell in cells]),  # for nbgrader's index, as above
    )
    rows = {row.cell_id: row for row in connection.execute(query)}
    missing = [cell.id for cell in cells if cell.id not in rows]
    if missing:
        new = [{"notebook_id": submitted_notebook, "cell_id": cell} for cell in missing]
        connection.execute(sa.insert(table), new)
        rows = {row.cell_id: row for row in connection.execute(query)}
    return rows


def _write_page(session: Session, page: Page, submitted_notebook: str) -> Outcome:
    connection, marks = session.connection(), page.marks()
    _write_grades(connection, page, marks, submitted_notebook)
    _write_comments(connection, page, marks, submitted_notebook)
    standing = page.standing(marks)
    _write_outcome(connection, standing, submitted_notebook)
    return standing


def _write_grades(
    connection: sa.Connection, page: Page, marks: Mapping[str, Mark], submitted_notebook: str
) -> None:
    table = Grade.__table__
    cells = page.layout.graded
    rows = _rows(connection, table, submitted_notebook, cells)
    values = [
        {
            "row": rows[cell.id].id,
            "auto": marks[cell.name].points,
            "waits": _waits(marks[cell.name], rows[cell.id]),
        }
        for cell in cells
    ]
    change = sa.update(table).where(table.c.id == sa.bindparam("row"))
    change = change.values(auto_score=sa.bindparam("auto"), needs_manual_grade=sa.bindparam("waits"))
    if values:
        connection.execute(change, values)


def _waits(mark: Mark, row: sa.Row) -> bool:
    if mark.waits is None:
        return True if row.manual_score is None else row.needs_manual_grade
    return mark.waits or row.manual_score is not None


def _write_comments(
    connection: sa.Connection, page: Page, marks: Mapping[str, Mark], submitted_notebook: str
) -> None:
    table = Comment.__table__
    cells = page.layout.commented
    rows = _rows(connection, table, submitted_notebook, cells)
    comments = page.comments(marks)
    values = [
        {"row": rows[cell.id].id, "text": comments.get(cell.name)}
        for cell in cells
        if rows[cell.id].auto_comment != comments.get(cell.name)
    ]
    change = sa.update(table).where(table.c.id == sa.bindparam("row"))
    change = change.values(auto_comment=sa.bindparam("text"))
    if values:
        connection.execute(change, values)


def _write_outcome(connection: sa.Connection, outcome: Outcome, submitted_notebook: str) -> None:
    key = {"assignment": outcome.assignment, "notebook": outcome.notebook, "student": outcome.student}
    connection.execute(sa.delete(OUTCOMES).filter_by(**key))
    connection.execute(
        sa.insert(OUTCOMES).values(
            **key,
            submitted_notebook_id=submitted_notebook,
            fingerprint=outcome.fingerprint,
            status=outcome.status,
            points=outcome.points,
            maximum=outcome.maximum,
            details=json.dumps(outcome.details()),
            graded_at=parse_utc(outcome.graded_at),
            seconds=outcome.seconds,
            cpu_seconds=outcome.cpu_seconds,
        )
    )


def _standing(assignment: str) -> sa.Select:
    """Outcomes whose hand-in nbgrader still has."""
    submitted = SubmittedNotebook.__table__
    return (
        sa.select(OUTCOMES)
        .join(submitted, submitted.c.id == OUTCOMES.c.submitted_notebook_id)
        .where(OUTCOMES.c.assignment == assignment)
    )


def _outcome(row: sa.Row) -> Outcome:
    return Outcome(
        student=row.student,
        assignment=row.assignment,
        notebook=row.notebook,
        status=row.status,
        points=row.points,
        maximum=row.maximum,
        fingerprint=row.fingerprint,
        seconds=row.seconds,
        cpu_seconds=row.cpu_seconds,
        graded_at=row.graded_at.replace(tzinfo=timezone.utc),
        **from_details(json.loads(row.details)),
    )
