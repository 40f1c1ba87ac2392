"""Small notebooks for the tests of the grader: what an instructor made and what a student handed in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import nbformat
from nbformat import NotebookNode

from coursekit.grading.engine import plain
from coursekit.grading.records import Job, Limits

QUICK = Limits(call_seconds=2.0, cell_seconds=4.0, notebook_seconds=60.0)


def cell(
    text: str, role: str = "", name: str = "", points: float | None = None, **metadata: Any
) -> NotebookNode:
    """A cell in one of nbgrader's roles: "solution", "test", "locked", "written", "task" or none."""
    kind = "markdown" if role in ("written", "task") else "code"
    if role:
        flags = {
            "grade": role in ("test", "written"),
            "solution": role in ("solution", "written"),
            "locked": role in ("locked", "test", "task"),
            "task": role == "task",
        }
        mark = {"schema_version": 3, "grade_id": name, **flags}
        metadata["nbgrader"] = mark if points is None else {**mark, "points": points}
    new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return new(text, metadata=metadata, id=name or f"plain-{abs(hash(text)) % 10**8}")


def notebook(*cells: NotebookNode) -> NotebookNode:
    """A notebook of these cells."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=list(cells), metadata={"kernelspec": kernel})


def answered(source: NotebookNode, answers: dict[str, str]) -> NotebookNode:
    """The source with other texts in its solution cells."""
    handed_in = nbformat.from_dict(source)
    for one in handed_in.cells:
        one.source = answers.get(one.metadata.get("nbgrader", {}).get("grade_id"), one.source)
    return handed_in


def job(source: NotebookNode, handed_in: NotebookNode | None = None, **options: Any) -> Job:
    """A job that runs a hand-in, by default the instructor's own solution."""
    options = {"limits": QUICK, **options}
    return Job("student", "task", "task", plain(handed_in or source), plain(source), **options)


def texts(cells: Sequence[dict[str, Any]], name: str) -> str:
    """Everything that the outputs of one cell say."""
    (found,) = (one for one in cells if one["metadata"].get("nbgrader", {}).get("grade_id") == name)
    parts = [
        output.get("text") or str(output.get("data", "")) or ""
        if output["output_type"] != "error"
        else "\n".join([output["ename"], output["evalue"], *output["traceback"]])
        for output in found["outputs"]
    ]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(parts))
