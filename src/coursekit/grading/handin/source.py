"""An assignment's notebook as its instructor made it: what a hand-in is held against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nbformat import NotebookNode

__all__ = ["Source", "SourceCell", "defined_names"]

SCHEMA = 3  # of nbgrader's cell metadata

_DEFINITION = re.compile(
    r"^(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)|^([^\W\d]\w*)[ \t]*(?::[^=\n]+)?=(?!=)", re.MULTILINE
)


def defined_names(code: str) -> frozenset[str]:
    """Names that code defines at its top level; works on code that does not parse.

    >>> sorted(defined_names("y: int = 2\\n%time f(x=1)\\ndef f(x):\\n    z = 1"))
    ['f', 'y']
    """
    return frozenset(name for pair in _DEFINITION.findall(code) for name in pair if name)


@dataclass(frozen=True)
class SourceCell:
    """A cell that nbgrader knows, as the gradebook holds it.

    source: the instructor's text with hidden tests; of an answer, what stands there before the student
    writes.   locked: whether a hand-in gets this text back.   points: None unless graded.   checksum:
    nbgrader's, of the text and the flags.
    """

    name: str
    cell_type: str
    source: str
    locked: bool
    grade: bool
    solution: bool
    task: bool
    points: float | None
    checksum: str | None

    @property
    def test(self) -> bool:
        """Whether it is code that grades."""
        return self.grade and not self.solution and self.cell_type == "code"

    def metadata(self) -> dict[str, Any]:
        """The cell's `nbgrader` metadata."""
        values = {
            "cell_type": self.cell_type,
            "checksum": self.checksum,
            "grade": self.grade,
            "grade_id": self.name,
            "locked": self.locked,
            "points": self.points if self.grade or self.task else None,
            "schema_version": SCHEMA,
            "solution": self.solution,
            "task": self.task,
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Source:
    """One notebook of an assignment, from its instructor's side.

    notebook: the instructor's, cells in order.   released: what the students got, None if it is gone.
    cells: by grade id, from the gradebook, whose text wins over the file's.   kernelspec: {} if unknown.
    """

    notebook: NotebookNode
    released: NotebookNode | None
    cells: dict[str, SourceCell]
    kernelspec: dict

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Every grade id, in the order of the notebook."""
        row: list[str] = []
        for sequence in (grade_ids(self.notebook), grade_ids(self.released), self.cells):
            _merge(row, [name for name in sequence if name in self.cells])
        return tuple(row)

    @cached_property
    def places(self) -> dict[str, int]:
        """Position of every grade id in `order`."""
        return {name: place for place, name in enumerate(self.order)}

    @cached_property
    def given(self) -> dict[str, NotebookNode]:
        """The cells that students got, by grade id; empty if the release is gone."""
        return _by_grade_id(self.released)

    @cached_property
    def made(self) -> dict[str, NotebookNode]:
        """The instructor's cells by grade id."""
        return _by_grade_id(self.notebook)

    @cached_property
    def cell_ids(self) -> dict[str, str]:
        """Grade id by the id that the cell has in the release."""
        given = {
            cell["id"]: name for name, cell in self.given.items() if name in self.cells and cell.get("id")
        }
        return {name: name for name in self.cells} | given

    @cached_property
    def plain_texts(self) -> frozenset[str]:
        """Texts of the release's cells that nbgrader does not know."""
        cells = self.released.cells if self.released else []
        return frozenset(cell.source for cell in cells if grade_id(cell) not in self.cells)

    def given_text(self, name: str) -> str | None:
        """What a student found in a cell; None if nobody knows."""
        if name in self.given:
            return self.given[name].source
        # Without the release, the text of a test would be compared with its hidden part.
        return None if self.cells[name].locked else self.cells[name].source

    def asked_names(self, name: str) -> frozenset[str]:
        """Names that the answer in a cell should define: those of its stub."""
        stub = self.given_text(name) if self.cells[name].cell_type == "code" else None
        return defined_names(stub or "")


def grade_id(cell: Mapping[str, Any]) -> str | None:
    """A cell's grade id if it has a well-formed one."""
    metadata = cell.get("metadata")
    data = metadata.get("nbgrader") if isinstance(metadata, Mapping) else None
    name = data.get("grade_id") if isinstance(data, Mapping) else None
    return name if isinstance(name, str) and name else None


def grade_ids(notebook: NotebookNode | None) -> list[str]:
    """The grade ids of a notebook's cells, in order."""
    return [name for name in map(grade_id, notebook.cells if notebook else []) if name]


def _by_grade_id(notebook: NotebookNode | None) -> dict[str, NotebookNode]:
    return {name: cell for cell in (notebook.cells if notebook else []) if (name := grade_id(cell))}


def _merge(row: list[str], names: list[str]) -> None:
    """Add names that a row lacks, each after the one that it follows."""
    at = 0
    for name in names:
        if name not in row:
            row.insert(at, name)
        at = row.index(name) + 1
