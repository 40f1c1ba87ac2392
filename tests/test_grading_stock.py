"""Honest hand-ins get what stock nbgrader gives, to the point: its own example course, and others' habits.

The differences that are meant stand at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nbformat
import nbgrader
import pytest
from grading_honest import NOTEBOOKS, hand_in, parsed
from grading_notebooks import cell, notebook
from nbgrader.api import Gradebook

from coursekit.grading import ONE_THREAD

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the engine runs on Linux")

EXAMPLE = Path(nbgrader.__file__).parent / "docs" / "source" / "user_guide"
FOLDERS = (
    "c = get_config()\n"
    "c.CourseDirectory.source_directory = 'solutions'\n"
    "c.CourseDirectory.release_directory = 'exercises'\n"
)
OURS = "from coursekit.grading import configure\n\nconfigure(get_config())\n"
HONEST = {name: parsed(text) for name, text in NOTEBOOKS.items()}
DELIBERATE = {
    "warns": "import sys\nprint('careful', file=sys.stderr)",
    "nan": "float('nan')",
}


# Cells in which a wrong hand-in earns points of us that stock does not give.
LENIENT = {
    ("containers", "wrong"): {"copied"},  # two names of one list cross as two lists
    ("data", "wrong"): {"rows-are-their-own"},
    ("imports", "wrong"): {"uses-their-import", "alias"},  # the instructor's imports serve the tests
}
BESIDE = {
    "data/cities.csv": "city,degrees\nOslo,3.5\nKairo,31.0\nZürich,9.25\n",
    "helper_of_the_course.py": "FACTOR = 10\n\n\ndef scale(x):\n    return FACTOR * x\n",
}


class Cell(NamedTuple):
    """What the gradebook says of a cell."""

    score: float | None
    waits: bool | None
    comment: str | None


def run(course: Path, *arguments: str) -> None:
    """Run an nbgrader command in a course; it may report failures of single hand-ins."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, **ONE_THREAD, "PATH": path}
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def make(course: Path) -> None:
    """A course with three assignments, released and handed in."""
    (course / "nbgrader_config.py").parent.mkdir(parents=True)
    (course / "nbgrader_config.py").write_text(FOLDERS)
    for name, honest in HONEST.items():
        write(honest.source, course / "solutions" / "honest" / f"{name}.ipynb")
    write_beside(course / "solutions" / "honest")
    shutil.copytree(EXAMPLE / "source" / "ps1", course / "solutions" / "ps1")
    for name, test in DELIBERATE.items():
        cells = cell("x = 1", "solution", "x"), cell(test, "test", "test-x", 1)
        write(notebook(*cells), course / "solutions" / "meant" / f"{name}.ipynb")
    run(course, "update", ".")
    for assignment in ("honest", "ps1", "meant"):
        run(course, "generate_assignment", assignment)
    for student in ("right", "wrong"):
        write_beside(course / "submitted" / student / "honest")
        for name, honest in HONEST.items():
            released = nbformat.read(course / "exercises" / "honest" / f"{name}.ipynb", as_version=4)
            made = hand_in(released, honest, student)
            write(made, course / "submitted" / student / "honest" / f"{name}.ipynb")
    shutil.copytree(course / "exercises" / "meant", course / "submitted" / "right" / "meant")
    shutil.copytree(EXAMPLE / "submitted", course / "submitted", dirs_exist_ok=True)
    shutil.copytree(course / "exercises" / "ps1", course / "submitted" / "untouched" / "ps1")
    shutil.copytree(course / "solutions" / "ps1", course / "submitted" / "instructor" / "ps1")
    run(course, "update", ".")


def write_beside(folder: Path) -> None:
    for name, text in BESIDE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def write(made: nbformat.NotebookNode, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)


def graded(course: Path) -> dict[tuple[str, str, str], dict[str, Cell]]:
    """Every cell of every hand-in, by assignment, student and notebook."""
    found = {}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        for assignment in gradebook.assignments:
            for submission in assignment.submissions:
                for one in submission.notebooks:
                    comments = {comment.name: comment.auto_comment for comment in one.comments}
                    cells = {
                        grade.name: Cell(grade.auto_score, grade.needs_manual_grade, comments.get(grade.name))
                        for grade in one.grades
                    }
                    found[assignment.name, submission.student.id, one.name] = cells
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What stock nbgrader and we give to the same hand-ins."""
    stock, ours = (tmp_path_factory.mktemp("stock") / name for name in ("stock", "ours"))
    make(stock)
    shutil.copytree(stock, ours)
    (ours / "nbgrader_config.py").write_text(OURS)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(grade_all, (stock, ours)))
    return graded(stock), graded(ours)


def grade_all(course: Path) -> None:
    for assignment in ("honest", "ps1", "meant"):
        run(course, "autograde", assignment)


@pytest.mark.parametrize("student", ["right", "wrong"])
@pytest.mark.parametrize("name", HONEST)
def test_a_notebook_that_never_heard_of_coursekit_gets_stocks_grades(both, name, student):
    stock, ours = (cells["honest", student, name] for cells in both)
    assert ours.keys() == stock.keys()
    assert {cell for cell in ours if ours[cell] != stock[cell]} == LENIENT.get((name, student), set())


@pytest.mark.parametrize("name", HONEST)
def test_a_right_hand_in_earns_more_than_a_wrong_one(both, name):
    """Or the comparison would show little."""
    stock, _ = both
    right, wrong = (
        sum(found.score or 0 for found in stock["honest", student, name].values())
        for student in ("right", "wrong")
    )
    assert right > wrong


@pytest.mark.parametrize("student", ["bitdiddle", "hacker", "instructor", "untouched"])
@pytest.mark.parametrize("name", ["problem1", "problem2"])
def test_nbgraders_own_example_course_gets_stocks_grades(both, name, student):
    stock, ours = (cells["ps1", student, name] for cells in both)
    assert ours == stock


@pytest.mark.parametrize(
    ("name", "stock", "ours"),
    [
        ("warns", Cell(0, False, None), Cell(1, False, None)),  # a warning is no failure
        ("nan", Cell(1, False, None), Cell(0, True, None)),  # no number of points: a person looks
    ],
)
def test_where_we_differ_it_is_meant(both, name, stock, ours):
    assert [cells["meant", "right", name]["test-x"] for cells in both] == [stock, ours]
