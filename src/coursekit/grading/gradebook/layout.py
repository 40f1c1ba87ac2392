"""An assignment as nbgrader released it: what the gradebook holds of its notebooks and cells."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nbformat
import sqlalchemy as sa
from nbgrader.api import Assignment, BaseCell, GradeCell, Notebook, TaskCell
from nbgrader.api import SourceCell as ReleasedCell
from nbgrader.utils import compute_checksum, is_locked

from coursekit.grading.handin.source import Source, SourceCell

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from sqlalchemy.orm import Session

__all__ = ["Cell", "Layout", "LedgerError", "NotebookLayout", "by_name", "read_layout", "read_source"]

log = logging.getLogger(__name__)


class LedgerError(RuntimeError):
    """The gradebook cannot be read or written; what it held before, it holds still."""


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


def read_layout(session: Session, assignment: str, lock: bool = False) -> Layout:
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


def read_source(
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
    cells = by_name(notebook)
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


def by_name(notebook: NotebookNode | None) -> dict[str, NotebookNode]:
    """The cells that carry a grade id, in the order of the notebook; of two with the same, the first."""
    found: dict[str, NotebookNode] = {}
    for cell in [] if notebook is None else notebook.cells:
        if name := cell.metadata.get("nbgrader", {}).get("grade_id"):
            found.setdefault(name, cell)
    return found
