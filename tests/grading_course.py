"""A course with one small assignment, released by stock nbgrader, and hand-ins that are really graded."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from grading_notebooks import cell, notebook
from grading_release import course_directory, solved, source_of
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from coursekit.grading.engine import Grader
from coursekit.grading.execution import kernel
from coursekit.grading.execution.keeper import descendants
from coursekit.grading.records import Outcome

NAME = "sums"
CONFIG = "from coursekit.grading import configure\n\nc = get_config()\nconfigure(c)\n"
# One answer is a text and one task a person's to grade; the third test believes what the student returns.
MAXIMA = {"test-double": 2.0, "test-total": 3.0, "test-share": 4.0, "why": 5.0, "explore": 1.0}
AUTOMATIC = ("test-double", "test-total", "test-share")
FULL = (2.0, 3.0, 4.0)

ANSWERS = {
    "double": "def double(x):\n    return 2 * np.asarray(x)",
    "total": "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
    "    return result",
    "share": "def share(part, whole):\n    return part / whole",
}
TESTS = {
    "double": "assert np.allclose(double([1, 2]), [2, 4])",
    "total": "assert np.allclose(total([1, 2, 3]), 6)",
    "share": "round(8 * share(1, 2), 6)",
}
HIDDEN = {
    "double": "assert np.allclose(double([-31, 0.5]), [-62, 1]), 'negative numbers and fractions'",
    "total": "assert total([17, 25]) == 42 and not total([]), 'other sums, and none at all'",
}


def source_notebook() -> NotebookNode:
    """The instructor's notebook: three answers with a test each, a written answer, a task."""
    parts = [cell("import numpy as np", "locked", "setup")]
    for points, (name, answer) in zip(FULL, ANSWERS.items(), strict=True):
        head, body = answer.split("\n", 1)
        solution = f"{head}\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"
        tests = TESTS[name]
        if name in HIDDEN:
            tests += f"\n### BEGIN HIDDEN TESTS\n{HIDDEN[name]}\n### END HIDDEN TESTS"
        parts += [cell(solution, "solution", name), cell(tests, "test", f"test-{name}", points)]
    why = "### BEGIN SOLUTION\nBecause addition is associative.\n### END SOLUTION"
    parts += [cell(why, "written", "why", MAXIMA["why"])]
    parts += [cell("Try numbers of your own.", "task", "explore", MAXIMA["explore"])]
    return notebook(*parts)


def make_course(root: Path) -> CourseDirectory:
    """Release the assignment in a folder."""
    (root / "solutions" / NAME).mkdir(parents=True)
    nbformat.write(source_notebook(), root / "solutions" / NAME / f"{NAME}.ipynb")
    (root / "nbgrader_config.py").write_text(CONFIG)
    coursedir = course_directory(root)
    coursedir.log.setLevel(logging.CRITICAL)
    released = NbGraderAPI(coursedir, parent=None, config=coursedir.config).generate_assignment(NAME)
    assert released["success"], released["log"]
    return coursedir


def valid_hand_in(coursedir: CourseDirectory) -> NotebookNode:
    """A hand-in that earns everything."""
    return solved(source_of(coursedir, NAME, NAME))


def with_answers(hand_in: NotebookNode, answers: dict[str, str], own: str | None = None) -> NotebookNode:
    """A hand-in with other answers by grade id, and with another text in the student's own first cell."""
    changed = nbformat.from_dict(hand_in)
    for one in changed.cells:
        one.source = answers.get(one.metadata.get("nbgrader", {}).get("grade_id"), one.source)
        if own is not None and one.id == "my-notes":
            one.source = own
    return changed


def hand_in(root: Path, student: str, made: NotebookNode) -> Path:
    """Lay a notebook where nbgrader looks for it."""
    folder = root / "submitted" / student / NAME
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, folder / f"{NAME}.ipynb")
    return folder


@dataclass(frozen=True)
class Row:
    """A grade as nbgrader's gradebook holds it."""

    auto: float | None
    manual: float | None
    waits: bool


def outcomes(coursedir: CourseDirectory) -> dict[str, Outcome]:
    """What stands in our own table, by student."""
    with Grader(parent=None).open_ledger(coursedir) as ledger:
        found = ledger.outcomes(NAME)
    assert len({outcome.student for outcome in found}) == len(found)
    return {outcome.student: outcome for outcome in found}


def gradebook_rows(coursedir: CourseDirectory) -> dict[str, dict[str, Row]]:
    """What stands in nbgrader's own tables, by student and cell."""
    with Gradebook(coursedir.db_url) as gradebook:
        return {
            submission.student_id: {
                grade.name: Row(grade.auto_score, grade.manual_score, grade.needs_manual_grade)
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
            for submission in gradebook.assignment_submissions(NAME)
        }


def automatic(rows: dict[str, Row], names: Iterable[str] = AUTOMATIC) -> tuple[float | None, ...]:
    """Automatic points of the tests, in order."""
    return tuple(rows[name].auto for name in names)


def living() -> dict[int, str]:
    """Command lines of the processes that come from this one; orphans come to it too."""
    if not Path("/proc/self/task").exists():
        return {}
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    lines = {}
    for pid in descendants(os.getpid()):
        try:
            lines[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:  # it has just ended
            continue
    return {pid: line for pid, line in lines.items() if line}  # a process that has ended has none
