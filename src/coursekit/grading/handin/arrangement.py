"""Put locked cells back to where they stood: a test runs after the answers that precede it in the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nbformat import NotebookNode

from coursekit.grading.handin.source import Source

__all__ = ["arrange", "out_of_order"]

Row = list[tuple[str | None, NotebookNode]]  # cells with their grade ids, None for a student's own


def arrange(row: Row, absent: Mapping[str, NotebookNode], source: Source) -> Row:
    """A hand-in's cells with the absent ones put in.

    Answers and the student's own cells keep their order.  Locked cells stay unless a cell that precedes
    them in the source comes later, or an answer that follows them comes earlier.
    """
    row = list(row)
    for name in source.order:
        if name in absent:
            _insert(row, name, absent[name], source)
        elif source.cells[name].locked and not _in_place(row, name, source):
            _insert(row, name, row.pop(_positions(row)[name])[1], source)
    return row


def out_of_order(names: Iterable[str], source: Source) -> bool:
    """Whether cells stand in another order than in the source."""
    places = [source.places[name] for name in names]
    return places != sorted(places)


def _positions(row: Row) -> dict[str, int]:
    return {name: position for position, (name, _) in enumerate(row) if name is not None}


def _around(row: Row, name: str, source: Source) -> tuple[list[int], list[tuple[str, int]]]:
    """Positions of the cells that precede `name` in the source, and the cells that follow it."""
    place, positions = source.places[name], _positions(row)
    before = [position for other, position in positions.items() if source.places[other] < place]
    after = [(other, position) for other, position in positions.items() if source.places[other] > place]
    return before, after


def _in_place(row: Row, name: str, source: Source) -> bool:
    before, after = _around(row, name, source)
    position = _positions(row)[name]
    answers = [other for cell, other in after if not source.cells[cell].locked]
    return max(before, default=-1) < position < min(answers, default=len(row))


def _insert(row: Row, name: str, cell: NotebookNode, source: Source) -> None:
    before, after = _around(row, name, source)
    low = max(before, default=-1) + 1
    high = min((position for _, position in after if position >= low), default=len(row))
    code = [position for position in range(low, high) if row[position][1].cell_type == "code"]
    if source.cells[name].test:
        # After the student's own code, which may be half of the answer.
        at = code[-1] + 1 if code else low
    else:
        # Before the student's own code, which may need it.
        at = code[0] if code else high
    row.insert(at, (name, cell))
