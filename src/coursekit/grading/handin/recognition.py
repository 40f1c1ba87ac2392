"""Tell which cell of a hand-in is which cell of the source, also where its marks were lost or edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nbformat import NotebookNode

from coursekit.grading.handin.source import Source, defined_names, grade_id

__all__ = ["Recognition", "recognise", "same_text"]


@dataclass
class Recognition:
    """Positions in a hand-in.

    found: of the cell that stands for a grade id.   copies: of further cells that claim it, by grade id.
    recovered: grade ids that were found without their mark.   merged: text of answers that stand in
    another cell's place, by grade id.   hosts: the cell whose text that was.
    """

    found: dict[str, int] = field(default_factory=dict)
    copies: dict[str, list[int]] = field(default_factory=dict)
    recovered: set[str] = field(default_factory=set)
    merged: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)


def recognise(cells: Sequence[NotebookNode], source: Source) -> Recognition:
    """Find every cell of the source in a hand-in, by surest evidence first.

    First the cell's id, which editors keep and do not show, then the grade id, then the released text, then
    the place between known neighbours together with the names that the answer should define.
    """
    seen = Recognition()
    for name, positions in _claims(cells, source).items():
        seen.found[name] = _best(positions, cells, source, name)
        seen.copies[name] = [position for position in positions if position != seen.found[name]]
        if grade_id(cells[seen.found[name]]) != name:
            seen.recovered.add(name)
    for search in (_by_text, _by_place):
        for name in source.order:
            position = None if name in seen.found else search(name, cells, source, seen)
            if position is not None:
                seen.found[name] = position
                seen.recovered.add(name)
    for name in source.order:
        if name not in seen.found:
            _look_into_others(name, cells, source, seen)
    return seen


def same_text(one: str, other: str) -> bool:
    """Whether two texts differ at most in white space at the ends of lines, which some editors trim."""
    return [line.rstrip() for line in one.strip().splitlines()] == [
        line.rstrip() for line in other.strip().splitlines()
    ]


def _claims(cells: Sequence[NotebookNode], source: Source) -> dict[str, list[int]]:
    """Positions of the cells that say which one they are, by grade id."""
    occurrences = Counter(cell.get("id") for cell in cells)
    claims: dict[str, list[int]] = {}
    for position, cell in enumerate(cells):
        identifier, name = cell.get("id"), grade_id(cell)
        if occurrences[identifier] == 1 and identifier in source.cell_ids:
            claims.setdefault(source.cell_ids[identifier], []).append(position)
        elif name in source.cells:
            claims.setdefault(name, []).append(position)
    return claims


def _best(positions: list[int], cells: Sequence[NotebookNode], source: Source, name: str) -> int:
    """Of several copies the one to grade: the last changed answer, the first unchanged locked cell."""
    given = source.given_text(name)
    changed = [p for p in positions if given is None or not same_text(cells[p].source, given)]
    if source.cells[name].locked:
        return next((p for p in positions if p not in changed), positions[0])
    return (changed or positions)[-1]


def _free(cells: Sequence[NotebookNode], seen: Recognition, positions: Iterable[int]) -> list[int]:
    taken = {*seen.found.values(), *(p for copies in seen.copies.values() for p in copies)}
    return [position for position in positions if position not in taken]


def _by_text(name: str, cells: Sequence[NotebookNode], source: Source, seen: Recognition) -> int | None:
    """A locked cell that lost its marks still reads as released."""
    given = source.given_text(name)
    if not source.cells[name].locked or not given or not given.strip():
        return None
    free = _free(cells, seen, range(len(cells)))
    return next((position for position in free if same_text(cells[position].source, given)), None)


def _by_place(name: str, cells: Sequence[NotebookNode], source: Source, seen: Recognition) -> int | None:
    """An answer that lost its marks stands between its neighbours and defines what its stub defined."""
    if source.cells[name].locked:
        return None
    names = source.asked_names(name)
    free = [
        position
        for position in _free(cells, seen, _between(name, source, seen, len(cells)))
        if cells[position].cell_type == source.cells[name].cell_type
        and cells[position].source not in source.plain_texts
        and names <= defined_names(cells[position].source)
    ]
    if names:
        return free[-1] if free else None
    return free[0] if len(free) == 1 else None


def _between(name: str, source: Source, seen: Recognition, end: int) -> range:
    """Positions between the nearest recognised neighbours."""
    before, after = _neighbours(name, source, seen)
    return range(seen.found[before] + 1 if before else 0, seen.found[after] if after else end)


def _neighbours(name: str, source: Source, seen: Recognition) -> tuple[str | None, str | None]:
    place = source.places[name]
    before = next((other for other in reversed(source.order[:place]) if other in seen.found), None)
    after = next((other for other in source.order[place + 1 :] if other in seen.found), None)
    return before, after


def _look_into_others(name: str, cells: Sequence[NotebookNode], source: Source, seen: Recognition) -> None:
    """An answer that was merged with the cell above or below it, or with another answer."""
    if source.cells[name].locked:
        return
    answers = [other for other in seen.found if not source.cells[other].locked]
    for host in filter(None, [*_neighbours(name, source, seen), *answers]):
        text = _rest(name, host, cells[seen.found[host]].source, source)
        if text is not None:
            seen.hosts[name] = host
            # What stands in another answer runs there; what stands in a locked cell would be overwritten.
            if source.cells[host].locked:
                seen.merged[name] = text
            return


def _rest(name: str, host: str, text: str, source: Source) -> str | None:
    """The part of a neighbour's text that answers `name`; None if no part does."""
    given, names = source.given_text(host), source.asked_names(name)
    if given is None or source.cells[host].cell_type != source.cells[name].cell_type:
        return None
    if names:
        if not names <= defined_names(text) or names <= defined_names(given):
            return None
    elif not source.cells[host].locked or given not in text:
        return None
    rest = text.replace(given, "", 1).strip()
    return rest or None
