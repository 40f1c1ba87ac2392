"""The one writer of the gradebook: each hand-in in one transaction, grades and our own outcome together.

The gradebook is nbgrader's database (SQLite, or PostgreSQL by URL).  The ledger adds one table to it,
`coursekit_outcome`, which nbgrader's own commands never touch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import nbformat
import sqlalchemy as sa
from nbgrader.api import (
    Assignment,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    Notebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
    TaskCell,
)
from nbgrader.api import SourceCell as ReleasedCell
from nbgrader.utils import compute_checksum, is_locked, parse_utc
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from coursekit.grading import _put_alembic_on_path
from coursekit.grading.gradebook.late import LateDays, seconds_late
from coursekit.grading.gradebook.scoring import valid_points
from coursekit.grading.handin.source import Source, SourceCell
from coursekit.grading.records import CellScore, Finding, Outcome, Submission, from_details

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.plugins import LateSubmissionPlugin
    from sqlalchemy.orm import Session

__all__ = ["GRADED", "OUTCOMES", "REVIEW", "Ledger", "LedgerError"]

log = logging.getLogger(__name__)
T = TypeVar("T")

GRADED, REVIEW = "graded", "needs review"
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


class LedgerError(RuntimeError):
    """The gradebook cannot be read or written; what it held before, it holds still."""


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
        self._url = _patient_url(db_url)
        self._late = late
        self._opened = False
        _put_alembic_on_path()
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
        layouts = self.read(lambda session: _layout(session, assignment).notebooks)
        return {
            name: _source(assignment, layout, source_folder, release_folder)
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
        names = self.read(lambda session: list(_layout(session, submission.assignment).notebooks))
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

    def settle_late_days(self) -> None:
        """Set the class's late penalties anew, after extensions or points given by hand."""
        if isinstance(self._late, LateDays):
            self._patiently(self._settle_late_days)

    def _settle_late_days(self) -> None:
        with self._transaction():
            self._late.settle(self.gradebook)

    def _write(
        self, submission: Submission, outcomes: Sequence[Outcome], notebooks: Mapping[str, NotebookNode]
    ) -> list[Outcome]:
        with self._transaction() as session:
            layout = _layout(session, submission.assignment, lock=True)
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
            self._take_off_late_points(session, submission, layout, entry, notebooks)
            return standing

    def _take_off_late_points(
        self,
        session: Session,
        submission: Submission,
        layout: Layout,
        entry: Entry,
        notebooks: Mapping[str, NotebookNode],
    ) -> None:
        if isinstance(self._late, LateDays):
            self._late.settle(self.gradebook, submission.student)
            return
        late = seconds_late(entry.timestamp, layout.due, entry.extension) if self._late else 0.0
        for name, identifier in entry.notebooks.items():
            if name in notebooks:
                submitted = session.get(SubmittedNotebook, identifier)
                penalty = (
                    self._late.late_submission_penalty(submission.student, submitted.score, late)
                    if late
                    else None
                )
                if penalty is not None:
                    penalty = max(0.0, min(penalty, submitted.score))
                submitted.late_submission_penalty = penalty

    # -- the database

    def _open(self, course_id: str) -> Gradebook:
        # a URL keeps its password, which str(url) hides
        gradebook = Gradebook(self._url, course_id)
        try:
            OUTCOMES.metadata.create_all(gradebook.engine)
            _forget_removed(gradebook.engine)
        except BaseException:
            gradebook.close()
            raise
        return gradebook

    def read(self, action: Callable[[Session], T]) -> T:
        def read() -> T:
            try:
                return action(self.gradebook.db())
            finally:
                self.gradebook.db.remove()

        return self._patiently(read)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """One transaction of nbgrader's session, so that its own queries see what we wrote in it."""
        session = self.gradebook.db()
        try:
            if self._url.get_backend_name() == "sqlite":
                # Taken at once, the lock can be waited for; taken at the first write, two writers that
                # have both read would wait for each other.
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session
            session.commit()
        finally:
            self.gradebook.db.remove()  # rolls back what is not committed

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
        url, reason = self._url.render_as_string(), str(error.orig).strip()
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
# What was released


@dataclass(frozen=True)
class Cell:
    """A cell that nbgrader knows: its row in base_cell and what a person or the grader does with it."""

    id: str
    name: str
    kind: str  # GradeCell, SolutionCell or TaskCell
    maximum: float = 0.0


class SourceRow(NamedTuple):
    """A row of nbgrader's source_cell."""

    name: str
    cell_type: str
    source: str
    locked: bool
    checksum: str | None


@dataclass(frozen=True)
class NotebookLayout:
    """The cells of one notebook.  A cell that is graded and answered has two rows of one name."""

    id: str
    name: str
    kernelspec: str | None
    cells: tuple[Cell, ...]
    sources: dict[str, SourceRow]

    @property
    def graded(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind in ("GradeCell", "TaskCell")]

    @property
    def commented(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind in ("SolutionCell", "TaskCell")]

    @property
    def answers(self) -> frozenset[str]:
        return frozenset(cell.name for cell in self.cells if cell.kind == "SolutionCell")


@dataclass(frozen=True)
class Layout:
    """An assignment as it was released."""

    id: str
    due: datetime | None
    notebooks: dict[str, NotebookLayout]


def _layout(session: Session, assignment: str, lock: bool = False) -> Layout:
    """An assignment's notebooks and cells; `lock` keeps other ledgers out until the transaction ends."""
    query = sa.select(Assignment.id, Assignment.duedate).where(Assignment.name == assignment)
    if lock:
        query = query.with_for_update(key_share=True)
    row = session.execute(query).one_or_none()
    notebooks = row and session.execute(_NOTEBOOKS.where(Notebook.assignment_id == row.id)).all()
    if not notebooks:
        raise LedgerError(
            f"assignment {assignment!r} is not in the gradebook; "
            f"run `nbgrader generate_assignment {assignment}` first"
        )
    cells, sources = _by_notebook(session, _CELLS, row.id), _by_notebook(session, _SOURCES, row.id)
    return Layout(
        row.id,
        row.duedate,
        {
            name: NotebookLayout(
                identifier,
                name,
                kernelspec,
                tuple(Cell(*values) for values in cells.get(identifier, [])),
                {values[0]: SourceRow(*values) for values in sources.get(identifier, [])},
            )
            for identifier, name, kernelspec in notebooks
        },
    )


_NOTEBOOKS = sa.select(Notebook.id, Notebook.name, Notebook.kernelspec).order_by(Notebook.name)

_base, _grade_cell, _task_cell = BaseCell.__table__, GradeCell.__table__, TaskCell.__table__
_CELLS = (
    sa.select(
        _base.c.notebook_id,
        _base.c.id,
        _base.c.name,
        _base.c.type,
        sa.func.coalesce(_grade_cell.c.max_score, _task_cell.c.max_score, 0.0),
    )
    .select_from(_base)
    .outerjoin(_grade_cell, _grade_cell.c.id == _base.c.id)
    .outerjoin(_task_cell, _task_cell.c.id == _base.c.id)
    .join(Notebook, Notebook.id == _base.c.notebook_id)
    .order_by(_base.c.name)
)

_SOURCES = sa.select(
    ReleasedCell.notebook_id,
    ReleasedCell.name,
    ReleasedCell.cell_type,
    ReleasedCell.source,
    ReleasedCell.locked,
    ReleasedCell.checksum,
).join(Notebook, Notebook.id == ReleasedCell.notebook_id)


def _by_notebook(session: Session, query: sa.Select, assignment_id: str) -> dict[str, list]:
    found: dict[str, list] = {}
    for notebook, *values in session.execute(query.where(Notebook.assignment_id == assignment_id)):
        found.setdefault(notebook, []).append(values)
    return found


def _source(
    assignment: str, layout: NotebookLayout, source_folder: Path | None, release_folder: Path | None
) -> Source:
    source, released = _notebook(source_folder, layout.name), _notebook(release_folder, layout.name)
    if source is None:
        log.warning(
            "%s: the source of notebook %r is missing; grading uses the gradebook", assignment, layout.name
        )
    elif names := _changed(layout, source):
        log.warning(
            "%s: the source of notebook %r differs from what was released in %s; grading uses what was "
            "released, until you run `nbgrader generate_assignment %s`",
            assignment,
            layout.name,
            ", ".join(names),
            assignment,
        )
    return Source(
        notebook=source or released or nbformat.v4.new_notebook(),
        released=released,
        cells={row.name: _source_cell(layout, row) for row in layout.sources.values()},
        kernelspec=json.loads(layout.kernelspec or "{}"),
    )


def _source_cell(layout: NotebookLayout, row: SourceRow) -> SourceCell:
    kinds = {cell.kind: cell.maximum for cell in layout.cells if cell.name == row.name}
    graded = [maximum for kind, maximum in kinds.items() if kind != "SolutionCell"]
    return SourceCell(
        name=row.name,
        cell_type=row.cell_type,
        source=row.source,
        locked=row.locked,
        grade="GradeCell" in kinds,
        solution="SolutionCell" in kinds,
        task="TaskCell" in kinds,
        points=graded[0] if graded else None,
        checksum=row.checksum,
    )


def _notebook(folder: Path | None, name: str) -> NotebookNode | None:
    if folder is None or not (folder / f"{name}.ipynb").is_file():
        return None
    try:
        return nbformat.read(folder / f"{name}.ipynb", as_version=4)
    except (ValueError, AttributeError, KeyError) as error:  # what nbformat raises for what is no notebook
        raise LedgerError(f"{folder / name}.ipynb cannot be read as a notebook: {error}") from error


def _changed(layout: NotebookLayout, notebook: NotebookNode) -> list[str]:
    """Names of cells that came, went, or are locked and read otherwise than when they were released."""
    cells = _by_name(notebook)
    moved = {name for name, cell in cells.items() if _known(cell)} ^ set(layout.sources)
    altered = {
        name
        for name, row in layout.sources.items()
        if name in cells and is_locked(cells[name]) and compute_checksum(cells[name]) != row.checksum
    }
    return sorted(moved | altered)


def _known(cell: NotebookNode) -> bool:
    """Whether nbgrader keeps this cell in the gradebook."""
    return is_locked(cell) or any(cell.metadata.nbgrader.get(key) for key in ("grade", "solution", "task"))


def _by_name(notebook: NotebookNode | None) -> dict[str, NotebookNode]:
    """The cells that carry a grade id, in the order of the notebook; of two with the same, the first."""
    found: dict[str, NotebookNode] = {}
    for cell in [] if notebook is None else notebook.cells:
        if name := cell.metadata.get("nbgrader", {}).get("grade_id"):
            found.setdefault(name, cell)
    return found


# ---------------------------------------------------------------------------------------------------
# One hand-in's rows


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
    query = sa.select(table.c.notebook_id, table.c.id).where(table.c.assignment_id == submitted_assignment)
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
    query = sa.select(table).where(table.c.notebook_id == submitted_notebook)
    rows = {row.cell_id: row for row in connection.execute(query)}
    missing = [cell.id for cell in cells if cell.id not in rows]
    if missing:
        new = [{"notebook_id": submitted_notebook, "cell_id": cell} for cell in missing]
        connection.execute(sa.insert(table), new)
        rows = {row.cell_id: row for row in connection.execute(query)}
    return rows


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
        shown = _by_name(self.notebook)
        order = {name: place for place, name in enumerate(shown)}
        graded = sorted(self.layout.graded, key=lambda cell: (order.get(cell.name, len(order)), cell.name))
        marks = {cell.name: self._mark(cell, scores.get(cell.name), shown.get(cell.name)) for cell in graded}
        return self._waiting(marks)

    def _mark(self, cell: Cell, score: CellScore | None, shown: NotebookNode | None) -> Mark:
        if score is None:
            if self.notebook is None and self.outcome.status == GRADED:
                return Mark(0.0, False)  # not handed in
            return Mark(0.0, True, "it was not scored")
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
        shown = _by_name(self.notebook)
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
