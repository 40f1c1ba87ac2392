"""A grader that is killed, at any moment: what is done stays done, the next run does the rest."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from grading_course import (
    FULL,
    MAXIMA,
    NAME,
    Row,
    automatic,
    gradebook_rows,
    hand_in,
    living,
    make_course,
    outcomes,
    valid_hand_in,
    with_answers,
)
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from coursekit.grading import workers
from coursekit.grading.engine import Grader
from coursekit.grading.gradebook.ledger import GRADED, REVIEW

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the engine runs on Linux"),
    pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning"),
]

STUDENTS = [f"student{number:02}" for number in range(20)]
WORKERS = 2
# Each takes a while and leaves a child behind that would outlive it.
SLOW = (
    "import subprocess, time\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\ntime.sleep(0.3)\n"
    "my_notes = 'slow'"
)
# The course's configuration notes every run, and ends the grader where it is told to.
CONFIG = f"""
import os, signal
from pathlib import Path
from coursekit.grading import configure, workers
from coursekit.grading.gradebook import ledger

c = get_config()
configure(c)
c.Grader.workers = {WORKERS}

def before(place, name, act):
    honest = getattr(place, name)
    def wrapped(*arguments):
        act(arguments)
        return honest(*arguments)
    setattr(place, name, wrapped)

def note(arguments):
    with open(os.environ["RUNS"], "a") as file:
        file.write(arguments[1].student + "\\n")

def end(moment):
    left = int(os.environ.get("END_AFTER", "0"))
    def act(arguments):
        nonlocal left
        left -= 1
        if moment == os.environ.get("END_IN") and left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return act

if not hasattr(workers, "noted"):  # nbgrader reads this file twice
    workers.noted = True
    before(workers.Steady, "run", note)
    before(ledger, "_write_outcome", end("transaction"))
    before(Path, "replace", end("file"))
"""


@dataclass
class Stop:
    """One run of the grader until it was ended.

    done: when the hand-ins in the gradebook were graded, before it and after it.   ran: how often each
    hand-in ran.   left, folders: processes and scratch folders that stayed.
    """

    how: str
    before: dict[str, datetime]
    after: dict[str, datetime] = field(default_factory=dict)
    ran: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    status: int = 0


class Story:
    """A class that is graded by graders that are ended, one after the other."""

    def __init__(self, coursedir: CourseDirectory, folder: Path) -> None:
        self.coursedir, self.runs, self.scratch = coursedir, folder / "runs.txt", folder / "scratch"
        self.runs.touch()
        self.scratch.mkdir()
        self.stops: list[Stop] = []

    def start(self, **environment: str) -> subprocess.Popen:
        """`coursekit grade` as an instructor starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "coursekit.cli", "grade", NAME],
            cwd=self.coursedir.root,
            env={**os.environ, "RUNS": str(self.runs), "TMPDIR": str(self.scratch), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, how: str, end: Callable[[subprocess.Popen, Stop], None], **environment: str) -> Stop:
        """Start a grader, let it be ended, and note what it left."""
        stop, running = Stop(how, self.done()), set(living())
        already = Counter(self.ran())
        process = self.start(**environment)
        try:
            end(process, stop)
            stop.status = process.wait(60)
        finally:
            process.kill()
            errors = process.communicate()[1]
        assert stop.status <= 0, errors
        wait_for(lambda: not set(living()) - running and not os.listdir(self.scratch), seconds=10)
        stop.left = [line for pid, line in living().items() if pid not in running]
        stop.folders = os.listdir(self.scratch)
        stop.ran, stop.after = Counter(self.ran()) - already, self.done()
        self.stops.append(stop)
        return stop

    def ran(self) -> list[str]:
        return self.runs.read_text().split()

    def done(self) -> dict[str, datetime]:
        """When each hand-in in the gradebook was graded."""
        with closing(sqlite3.connect(f"file:{self.coursedir.root}/gradebook.db?mode=ro", uri=True)) as book:
            try:
                return dict(book.execute("SELECT student, graded_at FROM coursekit_outcome"))
            except sqlite3.OperationalError:  # no table yet
                return {}

    # ---- Ways to end it

    def when_running(self, number: int) -> Callable[[subprocess.Popen, Stop], None]:
        """SIGKILL in the middle of a hand-in."""

        def end(process: subprocess.Popen, stop: Stop) -> None:
            started = len(self.ran())
            wait_for(lambda: len(self.ran()) >= started + number, process)
            process.kill()

        return end

    def when_done(self, number: int, group: bool = False, by: int = signal.SIGKILL):
        """A signal, to all of the grader's session if wanted, when so many more are in the gradebook."""

        def end(process: subprocess.Popen, stop: Stop) -> None:
            wait_for(lambda: len(self.done()) >= len(stop.before) + number, process)
            (os.killpg if group else os.kill)(process.pid, by)

        return end


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen | None = None, seconds: float = 60
) -> None:
    """Wait until it is so; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        if process is not None and process.poll() is not None:
            pytest.fail(process.communicate()[1])
        time.sleep(0.01)


def nothing(process: subprocess.Popen, stop: Stop) -> None:
    """It ends by itself."""


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    coursedir = make_course(tmp_path_factory.mktemp("course"))
    valid = valid_hand_in(coursedir)
    for student in STUDENTS:
        hand_in(Path(coursedir.root), student, with_answers(valid, {}, own=SLOW))
    Path(coursedir.root, "nbgrader_config.py").write_text(CONFIG)
    told = Story(coursedir, tmp_path_factory.mktemp("story"))
    told.run("killed in the first hand-in", told.when_running(1))
    told.run("killed in a transaction", nothing, END_IN="transaction", END_AFTER="2")
    told.run("killed between hand-ins", told.when_done(3))
    told.run("killed while a file was written", nothing, END_IN="file", END_AFTER="3")
    told.run("killed with its whole session", told.when_done(2, group=True))
    told.run("terminated", told.when_done(2, by=signal.SIGTERM))
    told.run("not stopped", nothing)
    return told


@pytest.fixture(params=range(7))
def stop(story, request) -> Stop:
    return story.stops[request.param]


def test_each_grader_was_ended_where_it_should(story):
    ends = [-9, -9, -9, -9, -9, -15, 0]
    assert [stop.status for stop in story.stops] == ends
    first, second, *_ = story.stops
    assert set(first.ran) - set(first.after)  # something was under way
    assert len(second.after) - len(second.before) == 2
    assert all(stop.ran for stop in story.stops)


def test_what_is_in_the_gradebook_is_not_run_again(stop):
    assert not set(stop.ran) & set(stop.before)


def test_only_what_was_under_way_is_run_again(stop):
    lost = set(stop.ran) - set(stop.after)
    assert len(lost) <= (2 * WORKERS if stop.status else 0)  # running, or waiting to be written
    assert set(stop.ran.values()) == {1}


def test_what_is_done_stays_as_it_is(stop):
    assert {student: stop.after[student] for student in stop.before} == stop.before


def test_no_process_outlives_the_grader(stop):
    assert stop.left == []


def test_no_scratch_folder_outlives_the_grader(stop):
    assert stop.folders == []


def test_in_the_end_everybody_is_graded(story):
    standing = outcomes(story.coursedir)
    assert set(standing) == set(STUDENTS)
    assert {(outcome.status, outcome.points) for outcome in standing.values()} == {(GRADED, sum(FULL))}


def test_the_gradebook_is_sound(story):
    with closing(sqlite3.connect(Path(story.coursedir.root, "gradebook.db"))) as book:
        assert book.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        counts = {
            table: book.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("student", "submitted_assignment", "submitted_notebook", "grade")
        }
    one_each = dict.fromkeys(("student", "submitted_assignment", "submitted_notebook"), len(STUDENTS))
    assert counts == {**one_each, "grade": len(MAXIMA) * len(STUDENTS)}
    assert {automatic(rows) for rows in gradebook_rows(story.coursedir).values()} == {FULL}


def test_no_half_written_file_is_left(story):
    files = [path for path in Path(story.coursedir.root, "autograded").rglob("*") if path.is_file()]
    assert sorted(path.relative_to(story.coursedir.root).as_posix() for path in files) == [
        f"autograded/{student}/{NAME}/{NAME}.ipynb" for student in STUDENTS
    ]


# ---------------------------------------------------------------------------------------------------
# A regrade that fails


@dataclass
class Regraded:
    """A hand-in that was right and graded by hand, then spoilt, then mended."""

    first: dict[str, Row]
    spoilt: dict[str, Row]
    status: str
    page: str
    mended: dict[str, Row]


@pytest.fixture(scope="module")
def regraded(tmp_path_factory) -> Regraded:
    coursedir = make_course(tmp_path_factory.mktemp("course"))
    root = Path(coursedir.root)
    valid = valid_hand_in(coursedir)
    folder = hand_in(root, "ada", valid)
    hand_in(root, "bob", valid)
    _grade(coursedir)
    with Gradebook(coursedir.db_url) as gradebook:
        essay = gradebook.find_grade("why", NAME, NAME, "ada")
        essay.manual_score, essay.needs_manual_grade = 4.5, False
        gradebook.db.commit()
    first = gradebook_rows(coursedir)["ada"]
    (folder / f"{NAME}.ipynb").write_text('{"cells": [{"cell_type": "code",')
    _grade(coursedir)
    spoilt, status = gradebook_rows(coursedir)["ada"], outcomes(coursedir)["ada"].status
    done = NbGraderAPI(coursedir, parent=None, config=coursedir.config).generate_feedback(NAME, "ada")
    assert done["success"], done["log"]
    page = (root / "feedback" / "ada" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    hand_in(root, "ada", valid)
    _grade(coursedir)
    workers._shelf.clear()
    return Regraded(first, spoilt, status, page, gradebook_rows(coursedir)["ada"])


def _grade(coursedir: CourseDirectory) -> None:
    result = Grader(parent=None, config=coursedir.config, workers=1).grade(coursedir, NAME)
    assert not result.failed


def test_a_spoilt_hand_in_loses_the_points_that_it_had(regraded):
    assert automatic(regraded.first) == FULL
    assert automatic(regraded.spoilt) == (0.0, 0.0, 0.0)
    assert regraded.status == REVIEW


def test_points_given_by_hand_stay_and_wait_for_a_person_again(regraded):
    assert regraded.first["why"] == Row(None, 4.5, False)
    assert regraded.spoilt["why"] == Row(0.0, 4.5, True)


def test_the_feedback_says_why_the_points_are_gone(regraded):
    assert "sums.ipynb ends in the middle, as after a broken upload; upload it again." in regraded.page
    assert "<strong>4.5</strong> of 15 points" in regraded.page


def test_a_mended_hand_in_has_its_points_again(regraded):
    assert automatic(regraded.mended) == FULL
    assert regraded.mended["why"] == Row(None, 4.5, True)
