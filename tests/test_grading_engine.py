"""The class loop gives every hand-in its outcome, whatever goes wrong, and goes on where it was stopped."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from grading_class import COUNTS, TASK, Pretender, hand_in, make_course, pretending_grader
from nbgrader.api import Gradebook

from coursekit.grading import engine, state, workers
from coursekit.grading.autograded import NOTE, note
from coursekit.grading.engine import GradingStopped
from coursekit.grading.gradebook.ledger import GRADED, REVIEW, LedgerError
from coursekit.grading.records import Finding, Outcome
from coursekit.grading.state import CourseError

pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")


@pytest.fixture
def course(tmp_path):
    return make_course(tmp_path)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Which jobs have been run, by student."""
    path = tmp_path / "runs.txt"
    path.touch()
    monkeypatch.setenv(COUNTS, str(path))
    return lambda: Counter(line.split()[0] for line in path.read_text().splitlines())


@pytest.fixture(autouse=True)
def cold(monkeypatch):
    """No executor outlives its test."""
    yield
    workers._shelf.clear()


def outcomes(course):
    with pretending_grader().open_ledger(course) as ledger:
        return {outcome.student: outcome for outcome in ledger.outcomes(TASK)}


def graded(course, student, name=TASK) -> Path:
    return Path(course.root, "autograded", student, TASK, f"{name}.ipynb")


def auto_scores(course, student):
    with Gradebook(course.db_url) as gradebook:
        grades = gradebook.find_submission(TASK, student).notebooks[0].grades
        return {grade.name: grade.auto_score for grade in grades}


# ---- Outcomes


def test_every_hand_in_is_graded_and_written(course):
    hand_in(Path(course.root), "ada")
    hand_in(Path(course.root), "bob", half="wrong")
    result = pretending_grader().grade(course, TASK)
    assert (result.graded, result.review, result.failed) == (2, [], {})
    assert {name: (o.status, o.points, o.maximum) for name, o in outcomes(course).items()} == {
        "ada": (GRADED, 5, 5),
        "bob": (GRADED, 2, 5),
    }
    assert auto_scores(course, "bob") == {"test-add": 2, "test-half": 0}


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        ("raise", "RuntimeError: the disk is on fire"),
        ("no result", "gave back dict instead of a result"),
        ("another student", "gave back 'task' of 'somebody'"),
        ("other cells", "gave back other cells"),
        ("no cells", "'NoneType' object is not subscriptable"),
        ("odd scores", "test-add: it was not scored"),
        ("no score", "test-add: it was not scored"),
        ("nan", "test-add: the result is nan"),
        ("too many", "test-add: the result is 9.0"),
        ("text", "test-add: the result is 'full marks'"),
    ],
)
def test_a_failure_with_one_hand_in_is_its_outcome_and_the_class_goes_on(course, add, reason):
    root = Path(course.root)
    for student, answer in [("ada", "right"), ("bob", add), ("cleo", "right")]:
        hand_in(root, student, add=answer)
    result = pretending_grader().grade(course, TASK)
    assert (result.graded, result.failed) == (3, {})
    (review,) = result.review
    assert (review.student, review.notebook) == ("bob", TASK)
    assert reason in review.reason
    standing = outcomes(course)
    assert [standing[name].status for name in ("ada", "bob", "cleo")] == [GRADED, REVIEW, GRADED]
    assert auto_scores(course, "bob")["test-add"] == 0


def test_an_error_of_the_grader_itself_is_the_outcome_of_that_hand_in(course, monkeypatch):
    root = Path(course.root)
    for student in ("ada", "bob", "cleo"):
        hand_in(root, student, add=student)
    honest = engine.reconcile

    def failing(handed_in, source):
        if handed_in is not None and any(one.source == "bob" for one in handed_in.cells):
            raise ZeroDivisionError("reconcile")
        return honest(handed_in, source)

    monkeypatch.setattr(engine, "reconcile", failing)
    result = pretending_grader().grade(course, TASK)
    assert [(r.student, r.reason) for r in result.review] == [
        ("bob", "the grader failed: ZeroDivisionError: reconcile")
    ]
    assert (result.graded, graded(course, "bob").exists()) == (3, True)


def test_a_file_that_cannot_be_read_gets_a_placeholder_and_nothing_runs(course, runs):
    folder = hand_in(Path(course.root), "ada")
    (folder / f"{TASK}.ipynb").write_text('{"cells": [')
    result = pretending_grader().grade(course, TASK)
    assert runs() == {}
    assert [review.student for review in result.review] == ["ada"]
    placeholder = nbformat.read(graded(course, "ada"), as_version=4)
    assert placeholder.cells[0].source.startswith("**This hand-in needs review.**")
    assert set(auto_scores(course, "ada").values()) == {0}


def test_a_notebook_that_is_missing_costs_only_its_own_points(tmp_path):
    course = make_course(tmp_path, ("one", "two"))
    hand_in(tmp_path, "ada", name="one")
    result = pretending_grader().grade(course, TASK)
    assert (result.graded, result.review) == (1, [])
    with pretending_grader().open_ledger(course) as ledger:
        assert [(o.notebook, o.points) for o in ledger.outcomes(TASK)] == [("one", 5), ("two", 0)]


def test_only_the_notebooks_asked_for_are_graded(tmp_path, runs):
    course = make_course(tmp_path, ("one", "two"))
    for name in ("one", "two"):
        hand_in(tmp_path, "ada", name=name)
    pretending_grader().grade(course, TASK, notebooks="one")
    assert [graded(course, "ada", name).exists() for name in ("one", "two")] == [True, False]
    pretending_grader().grade(course, TASK)
    assert [graded(course, "ada", name).exists() for name in ("one", "two")] == [True, True]


def test_a_notebook_that_the_assignment_does_not_have_is_an_error(course):
    with pytest.raises(CourseError, match="'task' has no notebook 'three', only task"):
        pretending_grader().grade(course, TASK, notebooks="three")


def test_an_assignment_that_was_never_released_is_an_error(course):
    with pytest.raises(LedgerError, match="run `nbgrader generate_assignment other` first"):
        pretending_grader().grade(course, "other")


def test_students_who_are_not_to_be_added_are_named_and_the_others_graded(course):
    with Gradebook(course.db_url) as gradebook:
        gradebook.add_student("ada")
    for student in ("ada", "stranger"):
        hand_in(Path(course.root), student)
    result = pretending_grader().grade(course, TASK, create_students=False)
    assert (result.graded, result.unknown) == (1, ["stranger"])


def test_a_gradebook_that_cannot_be_written_stops_the_class(course, monkeypatch):
    for number in range(6):
        hand_in(Path(course.root), f"student{number}")

    def refuse(self, *arguments):
        raise LedgerError("the disk is full")

    monkeypatch.setattr(engine.Ledger, "write", refuse)
    with pytest.raises(LedgerError, match="the disk is full .3 hand-ins in a row"):
        pretending_grader().grade(course, TASK)


# ---- What lies in autograded


def test_the_graded_folder_holds_what_nbgrader_would_put_there(course):
    folder = hand_in(Path(course.root), "ada")
    (folder / "data").mkdir()
    (folder / "data" / "own.csv").write_text("1")
    (folder / "helper.py").write_text("student = 1")
    (folder / "timestamp.txt").write_text("2030-01-02 03:04:05 UTC")
    Path(course.root, "source", TASK, "helper.py").write_text("instructor = 1")
    pretending_grader().grade(course, TASK)
    made = graded(course, "ada").parent
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert names == {f"{TASK}.ipynb", "data/own.csv", "helper.py", "timestamp.txt"}
    assert (made / "helper.py").read_text() == "instructor = 1"
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.rglob("*") if path.is_file()} == {0o444}


def test_a_file_may_be_excluded_from_overwriting(course):
    folder = hand_in(Path(course.root), "ada")
    (folder / "helper.py").write_text("student = 1")
    Path(course.root, "source", TASK, "helper.py").write_text("instructor = 1")
    pretending_grader().grade(course, TASK, exclude_overwriting=["helper.py"])
    assert (graded(course, "ada").parent / "helper.py").read_text() == "student = 1"


def test_files_of_an_earlier_hand_in_and_half_written_ones_go(course):
    folder = hand_in(Path(course.root), "ada")
    (folder / "old.csv").write_text("1")
    pretending_grader().grade(course, TASK)
    (folder / "old.csv").unlink()
    (graded(course, "ada").parent / "abc.coursekit-part").write_text("half")
    pretending_grader().grade(course, TASK)
    assert os.listdir(graded(course, "ada").parent) == [f"{TASK}.ipynb"]


def test_an_honest_hand_in_has_no_note(course):
    hand_in(Path(course.root), "ada")
    pretending_grader().grade(course, TASK)
    assert NOTE not in [one.id for one in nbformat.read(graded(course, "ada"), as_version=4).cells]


def test_a_note_shows_names_of_files_as_they_are():
    finding = Finding("link", "<script>x</script> [a](javascript:b) *bold* $x$", review=True)
    text = note(Outcome("ada", TASK, TASK, REVIEW, 0, 5, (finding,))).source
    assert "<" not in text
    assert r"\[a\]\(javascript\:b\) \*bold\* \$x\$" in text


# ---- Again


def test_what_is_done_is_not_run_again(course, runs):
    hand_in(Path(course.root), "ada")
    pretending_grader().grade(course, TASK)
    result = pretending_grader().grade(course, TASK)
    assert (result.graded, result.skipped, runs()["ada"]) == (0, 1, 1)


def test_a_hand_in_with_which_the_grader_failed_is_tried_again(course, monkeypatch):
    hand_in(Path(course.root), "ada", add="raise")
    pretending_grader().grade(course, TASK)
    assert pretending_grader().grade(course, TASK).graded == 1


def test_a_changed_hand_in_is_graded_again(course, runs):
    hand_in(Path(course.root), "ada", add="wrong")
    pretending_grader().grade(course, TASK)
    hand_in(Path(course.root), "ada")
    assert pretending_grader().grade(course, TASK).graded == 1
    assert outcomes(course)["ada"].points == 5


def test_a_hand_in_whose_graded_notebook_was_removed_is_graded_again(course):
    hand_in(Path(course.root), "ada")
    pretending_grader().grade(course, TASK)
    graded(course, "ada").unlink()
    assert pretending_grader().grade(course, TASK).graded == 1


def test_force_grades_again_with_the_same_cases(course, runs, tmp_path):
    hand_in(Path(course.root), "ada")
    pretending_grader().grade(course, TASK)
    pretending_grader().grade(course, TASK, force=True)
    lines = (tmp_path / "runs.txt").read_text().splitlines()
    assert (len(lines), len(set(lines))) == (2, 1)


def test_a_regrade_that_fails_takes_the_old_points_back(course, monkeypatch):
    hand_in(Path(course.root), "ada")
    pretending_grader().grade(course, TASK)
    monkeypatch.setattr(Pretender, "run", lambda self, job: None)
    pretending_grader().grade(course, TASK, force=True)
    assert (outcomes(course)["ada"].status, outcomes(course)["ada"].points) == (REVIEW, 0)
    assert set(auto_scores(course, "ada").values()) == {0}


def test_a_regrade_that_was_stopped_is_finished_by_the_next_run(course, runs, monkeypatch):
    for student in ("ada", "bob", "cleo", "dan", "eve"):
        hand_in(Path(course.root), student)
    pretending_grader().grade(course, TASK)
    stop_after(2, monkeypatch)
    with pytest.raises(GradingStopped):
        pretending_grader(workers=1).grade(course, TASK, force=True)
    monkeypatch.undo()
    result = pretending_grader().grade(course, TASK)
    assert (result.graded, result.skipped) == (3, 2)


# ---- Stopped and killed


def stop_after(hand_ins: int, monkeypatch) -> None:
    """Let Ctrl-C come while the next hand-in is written."""
    honest, written = engine.Ledger.write, []

    def write(self, *arguments):
        if len(written) == hand_ins:
            raise KeyboardInterrupt
        written.append(1)
        return honest(self, *arguments)

    monkeypatch.setattr(engine.Ledger, "write", write)


def test_ctrl_c_says_how_far_the_class_is_and_how_to_go_on(course, monkeypatch):
    for number in range(5):
        hand_in(Path(course.root), f"student{number}")
    stop_after(2, monkeypatch)
    with pytest.raises(GradingStopped, match="stopped: 2 hand-ins of 'task' are done.*coursekit grade task"):
        pretending_grader(workers=1).grade(course, TASK)
    monkeypatch.undo()
    result = pretending_grader().grade(course, TASK)
    assert (result.graded, result.skipped) == (3, 2)


SLOW_CLASS = textwrap.dedent(
    """
    import sys
    from grading_class import CourseDirectory, TASK, pretending_grader
    result = pretending_grader().grade(CourseDirectory(root=sys.argv[1]), TASK)
    print(result.graded + result.skipped)
    """
)


def start_slow_class(course, **options) -> subprocess.Popen:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_CLASS, course.root],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(condition, process: subprocess.Popen, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_grader_finishes_the_class_when_started_again(course, runs):
    students = [f"student{number:02}" for number in range(12)]
    for student in students:
        hand_in(Path(course.root), student, add="sleep 0.1")
    for kill_at in (1, 5, 9):
        process = start_slow_class(course)
        wait_for(lambda count=kill_at: runs().total() >= count, process)
        process.kill()
        process.communicate()
    (Path(course.root, "autograded", students[-1], TASK)).mkdir(parents=True, exist_ok=True)
    (Path(course.root, "autograded", students[-1], TASK) / "x.coursekit-part").touch()
    before = set(outcomes(course))
    ran = runs()
    done = start_slow_class(course)
    printed, errors = done.communicate(timeout=60)
    assert (done.returncode, printed.strip()) == (0, "12"), errors
    assert set(outcomes(course)) == set(students)
    # What stood in the gradebook was not run again, everything else once.
    again = runs() - ran
    assert set(again) == set(students) - before
    assert set(again.values()) <= {1}
    assert {outcome.points for outcome in outcomes(course).values()} == {5}
    assert not list(Path(course.root).rglob("*.coursekit-part"))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_a_running_class_at_once(course, runs):
    for number in range(8):
        hand_in(Path(course.root), f"student{number}", add="sleep 2")
    process = start_slow_class(course)
    wait_for(lambda: runs().total() >= 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "hand-ins of 'task' are done and stay so" in errors


def test_a_second_grader_is_kept_off_with_a_clear_message(course, runs):
    hand_in(Path(course.root), "ada", add="sleep 20")
    process = start_slow_class(course)
    try:
        wait_for(lambda: runs().total() == 1, process)
        with pytest.raises(CourseError, match="another grader is at work on 'task'"):
            pretending_grader().grade(course, TASK)
    finally:
        process.kill()
        process.communicate()
    assert pretending_grader().grade(course, TASK, students=["nobody"]).graded == 0  # the lock is free


# ---- A large class


def test_few_hand_ins_are_held_at_a_time(course, monkeypatch):
    for number in range(40):
        hand_in(Path(course.root), f"student{number:02}")
    held = []
    honest = engine._Class._begin

    def begin(self, submission):
        jobs = honest(self, submission)
        held.append(len(self._open))
        return jobs

    monkeypatch.setattr(engine._Class, "_begin", begin)
    pretending_grader(workers=3).grade(course, TASK)
    assert (len(held), max(held)) == (40, 6)


def test_a_class_that_is_done_starts_no_executor(course, monkeypatch):
    hand_in(Path(course.root), "ada")
    pretending_grader().grade(course, TASK)
    grader = pretending_grader()
    grader.open_workers = None
    assert grader.grade(course, TASK).skipped == 1


# ---- The course's secret


def test_the_secret_is_made_once_and_nobody_else_reads_it(tmp_path):
    first = state.seed(tmp_path, TASK)
    assert first == state.seed(tmp_path, TASK) != state.seed(tmp_path, "other")
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / ".coursekit" / "secret").stat().st_mode) == 0o600
    assert (tmp_path / ".coursekit" / ".gitignore").read_text() == "*\n"


def test_the_secret_of_the_environment_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSEKIT_GRADING_SECRET", "s")
    assert state.seed(tmp_path, TASK) == state.seed(tmp_path / "elsewhere", TASK)
    assert not (tmp_path / ".coursekit" / "secret").exists()


def test_a_course_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / ".coursekit").write_text("a file")
    with pytest.raises(CourseError, match="nothing can be written in .*.coursekit"):
        state.folder(tmp_path)


def test_an_empty_secret_is_an_error(tmp_path):
    (state.folder(tmp_path) / "secret").touch()
    with pytest.raises(CourseError, match="secret is empty"):
        state.seed(tmp_path, TASK)


# ---- Settings


def test_the_time_of_a_cell_is_nbgraders_unless_said(course):
    grader = pretending_grader()
    grader.config.Execute.timeout = 17
    assert grader.limits().cell_seconds == 17
    grader.config.Execute.timeout = -1
    assert grader.limits().cell_seconds == grader.seconds_per_notebook
    grader.seconds_per_cell = 5
    assert grader.limits().cell_seconds == 5
