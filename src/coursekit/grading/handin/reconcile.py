"""Bring a hand-in back to the form of its release, ready to run, and say what differs from the release."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode

from coursekit.grading.handin.arrangement import Row, arrange, out_of_order
from coursekit.grading.handin.findings import finding
from coursekit.grading.handin.recognition import Recognition, recognise, same_text
from coursekit.grading.handin.source import SCHEMA, Source, SourceCell, grade_id, grade_ids
from coursekit.grading.records import MIB, Finding

__all__ = ["MAX_CELLS", "MAX_TEXT", "Reconciled", "Source", "SourceCell", "reconcile"]

MAX_CELLS = 2000
MAX_TEXT = MIB  # characters of one cell

_RUN_TAGS = {"skip-execution", "raises-exception"}  # what makes nbclient skip a cell or forgive it
_FLAGS = ("grade", "solution", "locked", "task", "points", "cell_type")
_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True)
class Reconciled:
    """A notebook with every cell of the source exactly once, and what had to be done for that."""

    notebook: NotebookNode
    findings: tuple[Finding, ...]


def reconcile(handed_in: NotebookNode | None, source: Source) -> Reconciled:
    """Bring a hand-in, as `read_notebook` gives it, back to the form of the release.

    Locked cells and tests get the source's text, hidden tests included; answers keep the student's; the
    student's own cells stay where they are, without metadata.  An answer that is gone becomes an empty
    cell: its stub could overwrite what the student defined elsewhere.  Findings compare with the release,
    never with what it hid, and quote no text.   handed_in: None where no notebook could be read.
    """
    cells, excess = _cut(list(handed_in.cells) if handed_in else [], source)
    seen = recognise(cells, source)
    row = _row(cells, seen, source)
    missing = [name for name in source.order if name not in seen.found]
    absent = {name: _built(name, seen.merged.get(name, ""), source) for name in missing}
    notebook = _notebook([cell for _, cell in arrange(row, absent, source)], source)
    if handed_in is None:
        return Reconciled(notebook, ())
    return Reconciled(notebook, (*excess, *_differences(handed_in, cells, seen, source)))


# ---------------------------------------------------------------------------------------------------
# Cells


def _cut(cells: list[NotebookNode], source: Source) -> tuple[list[NotebookNode], list[Finding]]:
    """Leave out what no notebook of a student holds: thousands of cells, megabytes of text in one."""
    findings = []
    if len(cells) > MAX_CELLS:
        findings.append(finding("too-many-cells", count=len(cells), limit=MAX_CELLS))
        answers = [cell for cell in cells[MAX_CELLS:] if grade_id(cell) in source.cells]
        cells = cells[:MAX_CELLS] + answers[-MAX_CELLS:]
    for position, cell in enumerate(cells):
        if len(cell.source) > MAX_TEXT:
            name = grade_id(cell) if grade_id(cell) in source.cells else None
            findings.append(finding("cell-too-long", name, size=len(cell.source) / 1e6))
            cells[position] = NotebookNode({**cell, "source": ""})
    return cells, findings


def _row(cells: Sequence[NotebookNode], seen: Recognition, source: Source) -> Row:
    """The cells that are there, in the student's order and as they will run."""
    names = {position: name for name, position in seen.found.items()}
    copied = {position: name for name, positions in seen.copies.items() for position in positions}
    row: Row = []
    for position, cell in enumerate(cells):
        if position in names:
            name = names[position]
            row.append((name, _built(name, cell.source, source, cell.get("attachments"))))
            row.extend((None, kept) for kept in _rescued(name, cell, seen, source))
        elif position not in copied or _holds_work(cell, copied[position], source):
            row.append((None, _own(cell)))
    return row


def _rescued(name: str, cell: NotebookNode, seen: Recognition, source: Source) -> Iterator[NotebookNode]:
    """What a student wrote into locked text, as a cell of its own: an answer in the wrong place."""
    given = source.given_text(name)
    locked_text = source.cells[name].locked and source.cells[name].cell_type == "markdown"
    if not locked_text or given is None or name in seen.hosts.values() or same_text(cell.source, given):
        return
    if text := cell.source.replace(given, "", 1).strip():
        yield _own(NotebookNode(cell_type="markdown", source=text, attachments=cell.get("attachments")))


def _holds_work(cell: NotebookNode, name: str, source: Source) -> bool:
    """Whether a superfluous copy is kept: an untouched stub would undo the answer above it."""
    given = source.given_text(name)
    return not source.cells[name].locked and (given is None or not same_text(cell.source, given))


def _built(name: str, text: str, source: Source, attachments: Any = None) -> NotebookNode:
    """A cell of the source, with the student's text unless it is locked."""
    cell = source.cells[name]
    given = source.given.get(name) or source.made.get(name) or NotebookNode(metadata={})
    metadata = {key: value for key, value in given.metadata.items() if key != "nbgrader"}
    if not given.metadata:
        metadata = {"deletable": False, **({"editable": False} if cell.locked else {})}
    if cell.locked:
        text, attachments = cell.source, (source.made.get(name) or given).get("attachments")
    fields = {"id": given.get("id"), "metadata": {**metadata, "nbgrader": cell.metadata()}}
    return _cell(cell.cell_type, text, attachments, **fields)


def _own(cell: NotebookNode) -> NotebookNode:
    """A student's own cell.  Its metadata means nothing here, and some of it would make a runner skip it."""
    return _cell(cell.cell_type, cell.source, cell.get("attachments"), id=cell.get("id"), metadata={})


def _cell(cell_type: str, text: str, attachments: Any, **fields: Any) -> NotebookNode:
    cell = {"cell_type": cell_type, "source": text, **fields}
    if cell_type == "code":
        cell |= {"execution_count": None, "outputs": []}
    elif attachments:
        cell["attachments"] = attachments
    return nbformat.from_dict(cell)


def _notebook(cells: list[NotebookNode], source: Source) -> NotebookNode:
    _name_cells(cells)
    made = source.notebook.metadata
    metadata = {"language_info": made["language_info"]} if "language_info" in made else {}
    if source.kernelspec:
        metadata["kernelspec"] = source.kernelspec
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells})


def _name_cells(cells: list[NotebookNode]) -> None:
    """Give every cell a valid id of its own; the release's cells choose first."""
    taken: set[str] = set()
    for cell in sorted(cells, key=lambda cell: "nbgrader" not in cell.metadata):
        wishes = [cell.get("id"), grade_id(cell), *(f"cell-{n}" for n in range(len(cells) + 1))]
        cell.id = next(wish for wish in wishes if wish and wish not in taken and _CELL_ID.fullmatch(wish))
        taken.add(cell.id)


# ---------------------------------------------------------------------------------------------------
# Findings


def _differences(
    handed_in: NotebookNode, cells: list[NotebookNode], seen: Recognition, source: Source
) -> Iterator[Finding]:
    if not cells:
        yield finding("empty-notebook")
        return
    strangers = _strangers(cells, seen, source)
    # A setup cell has the same name in many assignments.
    if source.cells and (not seen.found or len(strangers) > len(seen.found)):
        yield finding("other-notebook")
        return
    foreign = _foreign_checksums(cells, seen, source)
    if 2 * len(foreign) > len(seen.found):
        yield finding("other-release")
        foreign = []
    for name in source.order:
        if name in seen.found:
            yield from _changes(name, cells[seen.found[name]], seen, source, name in foreign)
        else:
            yield _loss(name, seen, source)
    if strangers:
        yield finding("unknown-grade-id", count=len(strangers))
    yield from _of_notebook(handed_in, cells, seen, source)


def _loss(name: str, seen: Recognition, source: Source) -> Finding:
    if name in seen.hosts:
        return finding("cell-merged", name, host=seen.hosts[name])
    return finding("cell-deleted" if source.cells[name].locked else "answer-deleted", name)


def _changes(
    name: str, cell: NotebookNode, seen: Recognition, source: Source, foreign: bool
) -> Iterator[Finding]:
    """How one cell differs from what was released, an answer's text aside.

    foreign: whether it carries another checksum.
    """
    wanted, given = source.cells[name], source.given_text(name)
    if name in seen.recovered:
        yield finding("cell-recovered", name)
    elif edited := _edited(name, cell, source) + ["checksum"] * foreign:
        yield finding("metadata-edited", name, fields=", ".join(edited))
    if seen.copies.get(name):
        yield finding("cell-duplicated", name, count=len(seen.copies[name]) + 1)
    if cell.cell_type != wanted.cell_type:
        yield finding("cell-retyped", name, type=cell.cell_type, wanted=wanted.cell_type)
    if wanted.locked and given is not None and not same_text(cell.source, given):
        yield finding("cell-changed", name)
    if tags := sorted(_RUN_TAGS & _tags(cell) - _tags(source.given.get(name))):
        yield finding("cell-tagged", name, tags=", ".join(tags))


def _tags(cell: NotebookNode | None) -> set[str]:
    tags = cell.metadata.get("tags", []) if cell else []
    return {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()


def _edited(name: str, cell: NotebookNode, source: Source) -> list[str]:
    """Fields of the nbgrader metadata that are not as released.  Other versions have other fields."""
    if name not in source.given:
        return []
    mine, theirs = cell.metadata.nbgrader, source.given[name].metadata.nbgrader
    fields = [field for field in _FLAGS if field != "cell_type" or field in mine]
    if mine.get("schema_version") != theirs.get("schema_version"):
        fields = [field for field in fields if field in mine and field in theirs]
    # A flag that is missing is one that is false.
    return [field for field in fields if (mine.get(field) or None) != (theirs.get(field) or None)]


def _foreign_checksums(cells: list[NotebookNode], seen: Recognition, source: Source) -> list[str]:
    """Cells that carry another checksum than they were released with."""
    found = []
    for name in seen.found.keys() & source.given.keys():
        data = cells[seen.found[name]].metadata.get("nbgrader")
        mine = data.get("checksum") if isinstance(data, dict) else None
        if mine and mine != source.given[name].metadata.nbgrader.get("checksum"):
            found.append(name)
    return found


def _of_notebook(
    handed_in: NotebookNode, cells: list[NotebookNode], seen: Recognition, source: Source
) -> Iterator[Finding]:
    """What concerns no cell of the source in particular."""
    single = [name for name in sorted(seen.found, key=seen.found.get) if not seen.copies.get(name)]
    if out_of_order(single, source):
        yield finding("cells-moved")
    own = [cell for position, cell in enumerate(cells) if position not in seen.found.values()]
    if any("nbgrader" in cell.metadata and not _sound(cell.metadata["nbgrader"]) for cell in own):
        yield finding("metadata-damaged")
    if any(_version(cell) not in (None, SCHEMA) for cell in cells):
        yield finding("metadata-version")
    yield from _of_kernel(handed_in, source)


def _strangers(cells: list[NotebookNode], seen: Recognition, source: Source) -> list[NotebookNode]:
    """Cells with a grade id that neither the source nor the release has."""
    known = {None, *source.cells, *grade_ids(source.released), *grade_ids(source.notebook)}
    own = [cell for position, cell in enumerate(cells) if position not in seen.found.values()]
    return [cell for cell in own if grade_id(cell) not in known]


def _sound(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("grade_id", ""), str)


def _version(cell: NotebookNode) -> Any:
    data = cell.metadata.get("nbgrader")
    return data.get("schema_version", 0) if isinstance(data, dict) and data else None


def _of_kernel(handed_in: NotebookNode, source: Source) -> Iterator[Finding]:
    """A kernel of another language; kernels of one language have as many names as there are machines."""
    mine, wanted = handed_in.metadata.get("kernelspec"), source.kernelspec
    if not isinstance(mine, dict) or not wanted:
        return
    language, name = mine.get("language"), str(mine.get("name", ""))
    if (language and language.lower() != wanted.get("language", language).lower()) or (
        name == "python2" and wanted.get("name") != "python2"
    ):
        yield finding("kernel-changed", kernel=wanted.get("display_name") or wanted.get("name"))
