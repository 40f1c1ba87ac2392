"""Honest hand-ins get what stock nbgrader gives, to the point: its own example course, and others' habits.

The differences that are meant stand at the end.
"""

from __future__ import annotations

import functools
import io
import os
import re
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
from grading_honest import FILES, NOTEBOOKS, hand_in, parsed
from grading_notebooks import answered, cell, notebook
from nbgrader.api import Gradebook
from nbgrader.preprocessors import ComputeChecksums
from nbgrader.validator import Validator
from traitlets.config import Config

from coursekit.grading import ONE_THREAD, hooks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the engine runs on Linux")

EXAMPLE = Path(nbgrader.__file__).parent / "docs" / "source" / "user_guide"
STOCK = """
c = get_config()
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.IncludeHeaderFooter.header = "solutions/header.ipynb"
c.Execute.shutdown_kernel = "immediate"  # saves half a second for each notebook, and changes no grade
"""
OURS = """
from coursekit.grading import configure

c = get_config()
configure(c)
c.IncludeHeaderFooter.header = "solutions/header.ipynb"
"""
HONEST = {name: parsed(text) for name, text in NOTEBOOKS.items()}


class Cell(NamedTuple):
    """What the gradebook says of a cell."""

    score: float | None
    waits: bool | None
    maximum: float = 1
    comment: str | None = None


class Difference(NamedTuple):
    """A test cell for which we mean to give something else than stock nbgrader."""

    test: str
    stock: Cell
    ours: Cell


# The only ones.  The solution has x = 1, the hand-in x = 2.
DELIBERATE = {
    # A warning is no failure.
    "stderr": Difference("import sys\nprint('careful', file=sys.stderr)", Cell(0, False), Cell(1, False)),
    "warning": Difference("import warnings\nwarnings.warn('slow')\n1 / x", Cell(0, False), Cell(0.5, False)),
    # Stock takes the first result and looks no further; an error stays an error.
    "late-error": Difference(
        "get_ipython().displayhook(0.5)\nassert x == 1", Cell(0.5, False), Cell(0, False)
    ),
    # No number of points: stock gives all of them, we none, and a person looks.
    "nan": Difference("1.0 if x == 1 else float('nan')", Cell(1, False), Cell(0, True)),
    # NumPy 2 shows np.float64(0.5), which stock does not read as a number, and gives the maximum.
    "numpy-number": Difference("import numpy as np\nnp.float64(1) / x", Cell(1, False), Cell(0.5, False)),
}


def run(course: Path, *arguments: str) -> str:
    """Run an nbgrader command in a course; what it logged."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, **ONE_THREAD, "PATH": path}
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def make(course: Path) -> None:
    """A course with three assignments, released and handed in."""
    solutions, submitted = course / "solutions", course / "submitted"
    course.mkdir(parents=True)
    (course / "nbgrader_config.py").write_text(STOCK)
    for name, honest in HONEST.items():
        write(honest.source, solutions / "honest" / f"{name}.ipynb")
    write_files(solutions / "honest")
    for name, difference in DELIBERATE.items():
        cells = cell("x = 1", "solution", "x"), cell(difference.test, "test", "test-x", 1)
        write(notebook(*cells), solutions / "meant" / f"{name}.ipynb")
    shutil.copytree(EXAMPLE / "source" / "ps1", solutions / "ps1")
    shutil.copy(EXAMPLE / "source" / "header.ipynb", solutions)
    run(course, "update", ".")
    for assignment in ("honest", "ps1", "meant"):
        run(course, "generate_assignment", assignment)
    for student in ("right", "wrong"):
        write_files(submitted / student / "honest")
        for name, honest in HONEST.items():
            released = nbformat.read(course / "exercises" / "honest" / f"{name}.ipynb", as_version=4)
            write(hand_in(released, honest, student), submitted / student / "honest" / f"{name}.ipynb")
    for name in DELIBERATE:
        released = nbformat.read(course / "exercises" / "meant" / f"{name}.ipynb", as_version=4)
        write(answered(released, {"x": "x = 2"}), submitted / "wrong" / "meant" / f"{name}.ipynb")
    shutil.copytree(EXAMPLE / "submitted", submitted, dirs_exist_ok=True)
    shutil.copytree(course / "exercises" / "ps1", submitted / "untouched" / "ps1")
    shutil.copytree(solutions / "ps1", submitted / "instructor" / "ps1")
    shutil.copytree(EXAMPLE / "submitted" / "hacker", submitted / "half")
    (submitted / "half" / "ps1" / "problem2.ipynb").unlink()
    run(course, "update", ".")


def write_files(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


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
                    found[assignment.name, submission.student.id, one.name] = {
                        grade.name: Cell(
                            grade.auto_score,
                            bool(grade.needs_manual_grade),
                            grade.max_score,
                            comments.pop(grade.name, None),
                        )
                        for grade in one.grades
                    } | comments  # those of cells that are not graded
    return found


@pytest.fixture(scope="module")
def courses(tmp_path_factory):
    """What stock nbgrader and we give to the same hand-ins, and what we logged."""
    folder = tmp_path_factory.mktemp("courses")
    make(folder / "stock")
    for copy in ("stock too", "ours"):
        shutil.copytree(folder / "stock", folder / copy)
    (folder / "ours" / "nbgrader_config.py").write_text(OURS)
    work = {  # stock grades one hand-in after the other: two copies of the course share its work
        "stock": [("honest", "--student=right"), ("meant",)],
        "stock too": [("honest", "--student=wrong"), ("ps1",)],
        "ours": [("honest",), ("ps1",), ("meant",)],
    }
    with ThreadPoolExecutor(len(work)) as pool:
        logs = list(pool.map(lambda copy: [run(folder / copy, "autograde", *a) for a in work[copy]], work))
    stock = graded(folder / "stock") | graded(folder / "stock too")
    return stock, graded(folder / "ours"), "".join(logs[-1])


@pytest.mark.parametrize("student", ["right", "wrong"])
@pytest.mark.parametrize("name", HONEST)
def test_a_notebook_that_never_heard_of_coursekit_gets_stocks_grades(courses, name, student):
    stock, ours, _ = courses
    assert ours["honest", student, name] == stock["honest", student, name]


@pytest.mark.parametrize("name", HONEST)
def test_a_right_hand_in_earns_every_point_that_a_test_gives_and_a_wrong_one_fewer(courses, name):
    """Or the comparison would show little."""
    stock, _, _ = courses
    marks = [one.metadata.get("nbgrader", {}) for one in HONEST[name].source.cells]
    tests = [mark["grade_id"] for mark in marks if mark.get("grade") and not mark["solution"]]
    right, wrong = (stock["honest", student, name] for student in ("right", "wrong"))
    lost = {test for test in tests if right[test].score != right[test].maximum}
    assert lost == ({"nothing-left"} if name == "partial_credit" else set())
    assert sum(right[test].score for test in tests) > sum(wrong[test].score for test in tests)


@pytest.mark.parametrize("student", ["bitdiddle", "hacker", "instructor", "untouched", "half"])
@pytest.mark.parametrize("name", ["problem1", "problem2"])
def test_nbgraders_own_example_course_gets_stocks_grades(courses, name, student):
    stock, ours, _ = courses
    assert ours.get(("ps1", student, name)) == stock.get(("ps1", student, name))


def test_the_example_course_has_points_and_waits_for_a_person(courses):
    stock, _, _ = courses
    found = stock["ps1", "hacker", "problem1"]
    assert found["correct_squares"].score == 1 and found["sum_of_squares_application"].waits


@pytest.mark.parametrize("name", DELIBERATE)
def test_where_we_differ_from_stock_it_is_meant(courses, name):
    stock, ours, _ = courses
    found = tuple(course["meant", "wrong", name]["test-x"] for course in (stock, ours))
    assert found == (DELIBERATE[name].stock, DELIBERATE[name].ours)


def test_no_test_of_these_notebooks_needed_the_students_process_but_the_one_that_says_so(courses):
    _, _, log = courses
    assert "believes the student's process" not in log
    tagged = [name for name, text in NOTEBOOKS.items() if "same-process" in text]
    assert tagged == ["inheritance"]  # its test derives a class from the student's


# ---- nbgrader validate

TEST = "assert double(3) == 6\nassert double(0) == 0"
VALIDATED = {
    "right": {},
    "wrong": {"double": "def double(x):\n    return x ** 2"},
    "unfinished": {"double": "def double(x):\n    raise NotImplementedError()"},
    "raises": {"double": "def double(x):\n    y = 0\n    return x / y"},
    "partial": {"double": "def double(x):\n    return 2 * abs(x)"},
    "syntax": {"double": "def double(x)\n    return 2 * x"},
    "changed test": {"test-double": "assert True"},
    "no file": {"first": "first = open('no.txt').read()"},
}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A notebook as a student gets it, solved, with a data file beside it."""
    folder = tmp_path_factory.mktemp("validate")
    source = notebook(
        cell("def double(x):\n    return 2 * x", "solution", "double"),
        cell(TEST, "test", "test-double", 2),
        cell("print('credit')\n2 if double(-1) == -2 else 1", "test", "test-credit", 2),
        cell("first = open('data.txt').read()", "solution", "first"),
        cell("assert first == 'one'", "test", "test-first", 1),
    )
    (folder / "data.txt").write_text("one")
    return folder, ComputeChecksums().preprocess(source, {})[0]


def said(folder: Path, made: nbformat.NotebookNode, preprocess, **options) -> str:
    """What `nbgrader validate` prints, whatever it calls the cells."""
    nbformat.write(made, folder / "task.ipynb")
    validator = Validator(**options)
    validator.stream = io.StringIO()
    validator._preprocess = functools.partial(preprocess, validator)
    validator.validate_and_print(str(folder / "task.ipynb"))
    return re.sub(r"Cell (In\[\d+\]|[\w-]+), line", "Cell, line", validator.stream.getvalue())


@pytest.mark.parametrize("answers", VALIDATED.values(), ids=VALIDATED)
def test_validation_says_what_stock_says(released, answers):
    folder, solved = released
    made = answered(solved, answers)
    ours, stock = (said(folder, made, how) for how in (hooks.run_for_validation, hooks._stock_preprocess))
    assert ours == stock
    assert "Success!" in ours or "FAILED" in ours or "HAVE CHANGED" in ours


def test_a_cell_of_another_type_is_said_to_have_changed_as_in_stock(released):
    folder, solved = released
    made = nbformat.from_dict(solved)
    made.cells[1] = nbformat.v4.new_markdown_cell(TEST, metadata=made.cells[1].metadata)
    ours, stock = (said(folder, made, how) for how in (hooks.run_for_validation, hooks._stock_preprocess))
    assert ours == stock and "HAVE CHANGED" in ours


def test_a_validation_of_an_endless_loop_ends(released):
    folder, solved = released
    made = answered(solved, {"double": "def double(x):\n    while True: pass"})
    config = Config({"Grader": {"seconds_per_call": 1.0}})
    ours = said(folder, made, hooks.run_for_validation, config=config)
    assert "VALIDATION FAILED ON 2 CELL(S)" in ours and "did not finish within 1 s" in ours
