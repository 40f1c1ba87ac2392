"""nbgrader's own doors lead to the engine: autograde, the formgrader's API, validate, and our commands."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from grading_class import TASK, Pretender, PretenderRecipe, hand_in, make_course, source
from grading_notebooks import answered
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.converters.autograde import Autograde
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.validator import Validator

from coursekit.grading import commands, hooks, workers
from coursekit.grading.engine import ClassResult, Grader, Review
from coursekit.grading.gradebook.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")

ADD = "def add(a, b):\n    return a + b"
HALF = "def half(x):\n    return x / 2"
CONFIG = "from coursekit.grading import configure\n\nconfigure(get_config())\n"


@pytest.fixture(autouse=True)
def cold():
    """No executor outlives its test."""
    yield
    workers._shelf.clear()


@pytest.fixture
def installed(monkeypatch):
    """Our methods in nbgrader's classes, for one test; nothing is really run."""
    for place, name in [
        (Autograde, "start"),
        (Validator, "_preprocess"),
        (NbGraderAPI, "get_submitted_timestamp"),
    ]:
        monkeypatch.setattr(place, name, getattr(place, name))
    monkeypatch.setattr(Grader, "recipe", PretenderRecipe)
    hooks.install()


@pytest.fixture
def course(tmp_path, installed):
    return make_course(tmp_path)


@pytest.fixture
def api(course):
    return NbGraderAPI(coursedir=course)


@pytest.fixture(autouse=True)
def told(caplog):
    """The log as an instructor sees it."""
    caplog.set_level(logging.INFO)
    return caplog


def converter(course, **options) -> Autograde:
    course.assignment_id = TASK
    return Autograde(coursedir=course, **options)


def points(course) -> dict[str, float]:
    with Ledger(course.db_url) as ledger:
        return {outcome.student: outcome.points for outcome in ledger.outcomes(TASK)}


# ---- Autograde


def test_installing_twice_keeps_what_was_there_first(installed):
    before = (Autograde.start, Validator._preprocess, hooks._stock_preprocess)
    hooks.install()
    assert (Autograde.start, Validator._preprocess, hooks._stock_preprocess) == before
    assert hooks._stock_preprocess is not Validator._preprocess


def test_autograde_grades_the_class_and_says_where_the_summary_is(course, caplog):
    for student in ("ada", "bob"):
        hand_in(Path(course.root), student)
    converter(course).start()
    assert points(course) == {"ada": 5, "bob": 5}
    page = Path(course.root, "_build", "grading", TASK, "summary.html")
    assert page.exists()
    assert f"summary of the class: {page}" in caplog.text
    assert "ada: task 5/5" in caplog.text


def test_autograde_takes_the_students_that_nbgrader_chooses(course):
    for student in ("ada", "bob", "bo"):
        hand_in(Path(course.root), student)
    course.student_id, course.student_id_exclude = "b*", "bo"
    converter(course).start()
    assert points(course) == {"bob": 5}


def test_a_class_with_hand_ins_for_review_ends_well_and_lists_them(course, caplog):
    hand_in(Path(course.root), "ada")
    hand_in(Path(course.root), "bob", add="raise")
    converter(course).start()
    assert "needs review: bob, task: the grader failed: RuntimeError" in caplog.text


def test_a_hand_in_without_an_outcome_is_a_failure(course, caplog, monkeypatch):
    result = ClassResult(TASK, {"ada", "bob"}, graded=1, failed={"bob": "the disk is full"})
    monkeypatch.setattr(hooks, "grade", lambda converter: result)
    with pytest.raises(NbGraderException, match="without an outcome.*bob"):
        converter(course).start()


def test_many_reviews_are_cut_short(course, caplog, monkeypatch):
    reviews = [Review(f"student{number}", TASK, "odd") for number in range(60)]
    monkeypatch.setattr(
        hooks, "grade", lambda converter: ClassResult(TASK, {"ada"}, graded=60, review=reviews)
    )
    converter(course).start()
    assert "needs review: 10 more" in caplog.text
    assert "student49" in caplog.text
    assert "student50" not in caplog.text


def test_nothing_to_grade_is_a_failure_that_names_what_is_near(course, caplog):
    hand_in(Path(course.root), "ada")
    course.assignment_id = "tusk"
    with Gradebook(course.db_url) as gradebook:
        gradebook.add_assignment("tusk")
        gradebook.add_notebook("tusk", "tusk")
    with pytest.raises(NbGraderException, match="no hand-ins were found at .*tusk; did you mean task?"):
        Autograde(coursedir=course).start()


def test_students_who_may_not_be_added_are_a_failure(course, caplog):
    hand_in(Path(course.root), "stranger")
    with pytest.raises(NbGraderException, match="stranger"):
        converter(course, create_student=False).start()
    assert "stranger: no student of that name is in the gradebook" in caplog.text


def test_an_assignment_that_was_not_released_is_a_failure(course):
    course.assignment_id = "other"
    with pytest.raises(NbGraderException, match="run `nbgrader generate_assignment other` first"):
        Autograde(coursedir=course).start()


@pytest.fixture
def stock(monkeypatch):
    """Whether nbgrader's own grader was started."""
    started = []
    monkeypatch.setattr(BaseConverter, "start", lambda self: started.append(self))
    return started


def test_not_executing_is_left_to_stock_nbgrader_with_a_warning(course, stock, caplog):
    made = converter(course)
    made.config.Execute.enabled = False
    made.start()
    assert stock == [made]
    assert "Execute.enabled is false: the stock grader of nbgrader runs" in caplog.text
    assert "NOT PROTECTED" in caplog.text


def test_another_language_is_left_to_stock_nbgrader_with_a_warning(course, stock, caplog):
    with Gradebook(course.db_url) as gradebook:
        notebook = gradebook.find_notebook(TASK, TASK)
        notebook.kernelspec = '{"name": "ir", "language": "R", "display_name": "R"}'
        gradebook.db.commit()
    made = converter(course)
    made.start()
    assert stock == [made]
    assert "notebook 'task' runs with the kernel 'R', not with Python: the stock grader" in caplog.text


def test_hooks_of_the_course_run_around_the_class(course):
    seen = []
    hand_in(Path(course.root), "ada")
    made = converter(course)
    made.pre_convert_hook = lambda **which: seen.append(points(course))
    made.post_convert_hook = lambda **which: seen.append(points(course))
    made.start()
    assert seen == [{}, {"ada": 5}]


def test_what_the_sandbox_could_not_guard_is_a_warning(course, caplog, monkeypatch):
    honest = Pretender.run

    def run(self, job):
        result = honest(self, job)
        return type(result)(**{**vars(result), "protection": ("NOT PROTECTED: network: all of it",)})

    monkeypatch.setattr(Pretender, "run", run)
    hand_in(Path(course.root), "ada")
    converter(course).start()
    assert "NOT PROTECTED: network: all of it" in caplog.text


# ---- The formgrader


def test_the_formgraders_button_grades_one_hand_in_with_its_log(api, course):
    for student in ("ada", "bob"):
        hand_in(Path(course.root), student)
    reply = api.autograde(TASK, "ada")
    assert (reply["success"], points(course)) == (True, {"ada": 5})
    assert "ada: task 5/5" in reply["log"]
    assert {row["student"]: row["autograded"] for row in api.get_submissions(TASK)} == {
        "ada": True,
        "bob": False,
    }


def test_the_formgraders_button_tells_of_a_failure(api, course):
    reply = api.autograde(TASK, "nobody")
    assert not reply["success"]
    assert "no hand-ins were found" in reply["log"]


def test_a_garbage_timestamp_breaks_no_page_of_the_formgrader(api, course):
    folder = hand_in(Path(course.root), "ada")
    (folder / "timestamp.txt").write_text("yesterday, I think")
    assert api.autograde(TASK, "ada")["success"]
    (row,) = api.get_submissions(TASK)
    assert (row["autograded"], row["score"], row["timestamp"]) == (True, 5, None)


# ---- Validate


def validated(tmp_path, answers, **options) -> dict:
    path = tmp_path / "task.ipynb"
    nbformat.write(answered(source(), answers), path)
    return Validator(**options).validate(str(path))


@pytest.fixture
def real(installed, monkeypatch):
    """The executor that really runs notebooks."""
    monkeypatch.setattr(Grader, "recipe", workers.Recipe)


def test_a_right_notebook_passes_validation_even_if_it_warns(real, tmp_path):
    warning = "import warnings\n\ndef add(a, b):\n    warnings.warn('slow')\n    return a + b"
    assert validated(tmp_path, {"add": warning}) == {}


def test_a_wrong_notebook_fails_validation_with_its_error(real, tmp_path):
    failed = validated(tmp_path, {"add": "def add(a, b):\n    return a - b"})["failed"]
    assert [cell["source"] for cell in failed] == ["assert add(1, 2) == 3"]
    assert "AssertionError" in failed[0]["raw_error"]


def test_the_files_of_the_folder_lie_beside_the_notebook_that_is_validated(real, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.txt").write_text("1")
    assert validated(tmp_path, {"add": f"one = int(open('data/one.txt').read())\n{ADD}"}) == {}


def test_a_validation_that_the_engine_cannot_do_runs_in_a_kernel(installed, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(hooks, "_runs_here", lambda: False)
    stock = []
    monkeypatch.setattr(hooks, "_stock_preprocess", lambda validator, nb: stock.append(nb) or nb)
    validated(tmp_path, {})
    assert len(stock) == 1
    assert "this system is not Linux: it runs in a kernel" in caplog.text


# ---- Really


@pytest.fixture(scope="module")
def graded_course(tmp_path_factory):
    """A course that `nbgrader autograde` has graded, each hand-in in processes of its own."""
    root = tmp_path_factory.mktemp("real")
    course = make_course(root)
    (root / "source").rename(root / "solutions")
    (root / "release").rename(root / "exercises")
    (root / "nbgrader_config.py").write_text(CONFIG)
    hand_in(root, "ada", ADD, HALF)
    hand_in(root, "bob", ADD, "def half(x):\n    return x // 2")
    hand_in(root, "cleo", "import os\nos._exit(0)", HALF)
    (hand_in(root, "dan") / f"{TASK}.ipynb").write_text("{")
    done = run(root, "nbgrader", "autograde", TASK)
    return course, done


def run(root: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=root,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def test_nbgrader_autograde_runs_the_engine(graded_course):
    course, done = graded_course
    assert done.returncode == 0, done.stderr
    assert points(course) == {"ada": 5, "bob": 2, "cleo": 3, "dan": 0}
    assert "needs review: dan, task:" in done.stderr


def test_nbgrader_autograde_again_runs_nothing(graded_course):
    course, _ = graded_course
    done = run(Path(course.root), "nbgrader", "autograde", TASK, "--student=ada")
    assert (done.returncode, "ada: graded before, skipped" in done.stderr) == (0, True), done.stderr


def test_nbgrader_makes_feedback_of_what_the_engine_graded(graded_course):
    course, _ = graded_course
    done = run(Path(course.root), "nbgrader", "generate_feedback", TASK)
    assert done.returncode == 0, done.stderr
    assert len(list(Path(course.root, "feedback").glob(f"*/{TASK}/{TASK}.html"))) == 4


# ---- Our commands


@pytest.fixture
def coursekit(course, monkeypatch, capsys):
    """Run one of our commands in the course's folder: its status, output and errors."""
    root = Path(course.root)
    (root / "nbgrader_config.py").write_text("c = get_config()\n")
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", list(sys.path))  # nbgrader puts the folder there

    def command(*arguments: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        commands.add_commands(parser.add_subparsers())
        options = parser.parse_args(arguments)
        capsys.readouterr()
        status = options.run(options)
        return status, *capsys.readouterr()

    return command


def test_grade_prints_the_class_and_writes_its_page(coursekit, course):
    for student in ("ada", "bob"):
        hand_in(Path(course.root), student)
    status, out, _ = coursekit("grade", TASK, "--workers", "1")
    assert (status, points(course)) == (0, {"ada": 5, "bob": 5})
    assert "task: 2 of 2 handed in" in out
    assert str(Path(course.root, "_build", "grading", TASK, "summary.html")) in out


def test_grade_takes_students_by_name_and_says_who_is_absent(coursekit, course):
    for student in ("ada", "bob", "cleo"):
        hand_in(Path(course.root), student)
    status, _, err = coursekit("grade", TASK, "--students", "ada,bob", "nobody")
    assert (status, set(points(course))) == (1, {"ada", "bob"})
    assert "nobody: nothing was handed in" in err


def test_regrade_shows_which_scores_change(coursekit, course, monkeypatch):
    hand_in(Path(course.root), "ada")
    assert coursekit("grade", TASK)[0] == 0
    assert "no score changed" in coursekit("regrade", TASK)[1]
    monkeypatch.setattr("grading_class.POINTS", {"right": 1.0})
    status, out, _ = coursekit("regrade", TASK, "--students", "ada")
    assert status == 0
    assert "5 -> 2" in out


def test_summary_goes_where_it_is_asked_to(coursekit, course, tmp_path):
    hand_in(Path(course.root), "ada")
    coursekit("grade", TASK)
    status, out, _ = coursekit("summary", TASK, "--html", "elsewhere/page.html")
    assert (status, Path(course.root, "elsewhere", "page.html").exists()) == (0, True)
    assert "task: 1 of 1 handed in" in out


def test_similarity_compares_the_answers(coursekit, course):
    body = "\n".join(
        f"    a = a * {number} + b[{number}] ** 2 if a > b else (a, {number})" for number in range(12)
    )
    for student in ("ada", "bob"):
        hand_in(Path(course.root), student, add=f"def add(a, b):\n{body}\n    return a + b")
    hand_in(Path(course.root), "cleo", ADD, HALF)
    status, out, _ = coursekit("similarity", TASK)
    assert (status, "ada and bob" in out, "cleo" in out) == (0, True, False)
    assert Path(course.root, "_build", "grading", TASK, "similarity.html").exists()


def test_a_folder_that_is_no_course_is_an_error(coursekit, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    status, _, err = coursekit("grade", TASK)
    assert status == 1
    assert "other is no course: it has neither nbgrader_config.py nor source/" in err


def test_an_unknown_assignment_is_an_error(coursekit):
    status, _, err = coursekit("summary", "tusk")
    assert status == 1
    assert "nbgrader generate_assignment tusk" in err


def test_a_mirror_that_cannot_be_made_is_an_error(coursekit, tmp_path):
    status, _, err = coursekit("mirror", str(tmp_path / "public"))
    assert status == 1
    assert "has no folder solutions; run this at the root of the course" in err


def test_protection_tells_what_this_machine_holds(coursekit):
    status, out, _ = coursekit("protection")
    assert status == ("NOT PROTECTED" in out)
