"""Notebooks as courses have them that never heard of coursekit, each with a right and a wrong hand-in.

Each is a text in `honest/`.  `#%% role name points tag` begins a cell, in one of nbgrader's roles or in none
("plain" code, "text").  The solution cells hold the instructor's answers; `#%% wrong name` gives what the
wrong hand-in has in place of one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import nbformat
from grading_notebooks import answered, cell, notebook
from nbformat import NotebookNode

FOLDER = Path(__file__).parent / "honest"
HEADER = re.compile(r"^#%% (\w+) ?([\w-]*) ?([\d.]*) ?([\w-]*)\n", re.MULTILINE)
NOTEBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.txt"))}
# What lies beside the notebooks: data to read, and a module of the instructor's.
FILES = {
    "data/cities.csv": "city,degrees\nOslo,3.5\nKairo,31.0\nZürich,9.25\n".encode(),
    "helper_of_the_course.py": b"FACTOR = 10\n\n\ndef scale(x):\n    return FACTOR * x\n",
}


class Honest(NamedTuple):
    """An instructor's notebook, and what a mistaken student writes into its solution cells."""

    source: NotebookNode
    wrong: dict[str, str]


def parsed(text: str) -> Honest:
    """The notebook that a text describes."""
    marks = list(HEADER.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    cells, wrong = [], {}
    for mark, end in zip(marks, ends, strict=True):
        role, name, points, tag = mark.groups()
        body = text[mark.end() : end].strip("\n")
        if role == "wrong":
            wrong[name] = body
        else:
            cells.append(_cell(body, role, name, float(points) if points else None, tag))
    return Honest(notebook(*cells), wrong)


def _cell(body: str, role: str, name: str, points: float | None, tag: str) -> NotebookNode:
    metadata = {"tags": [tag]} if tag else {}
    if role in ("plain", "text"):
        make = nbformat.v4.new_code_cell if role == "plain" else nbformat.v4.new_markdown_cell
        return make(body)
    if role == "manual":  # code whose points a person gives
        made = cell(body, "solution", name, points, **metadata)
        made.metadata["nbgrader"]["grade"] = True
        return made
    return cell(body, role, name, points, **metadata)


def hand_in(release: NotebookNode, notebook: Honest, student: str) -> NotebookNode:
    """What a student makes of the released notebook: "right" or "wrong"."""
    marks = ((one.source, one.metadata.get("nbgrader", {})) for one in notebook.source.cells)
    answers = {mark["grade_id"]: source for source, mark in marks if mark.get("solution")}
    return answered(release, answers | (notebook.wrong if student == "wrong" else {}))
