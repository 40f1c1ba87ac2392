"""The ledger writes what stock nbgrader writes for honest hand-ins, fails closed, and loses nothing."""

from __future__ import annotations

import copy
import logging
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import nbformat
import pytest
import sqlalchemy as sa
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbgrader.api import Gradebook
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties, ComputeChecksums, SaveAutoGrades, SaveCells
from nbgrader.utils import is_grade, is_solution
from traitlets.config import Config

from coursekit.grading.gradebook import ledger as ledger_module
from coursekit.grading.gradebook import regrade
from coursekit.grading.gradebook.ledger import GRADED, OUTCOMES, REVIEW, Ledger, LedgerError
from coursekit.grading.gradebook.scoring import score
from coursekit.grading.records import CellScore, Finding, Outcome, Submission

# nbgrader's own add_submission makes SQLAlchemy 2.1 say so.
pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")

NAME = "ps"
DUE = datetime(2030, 1, 10, 12)
UNREADABLE = Finding("corrupt-json", "The file is no notebook.", review=True)

# ---- A small assignment, released and handed in


def cell(kind: str, name: str, source: str, **flags) -> nbformat.NotebookNode:
    new = {"code": new_code_cell, "markdown": new_markdown_cell}[kind]
    flags = {"grade": False, "solution": False, "locked": False, "task": False} | flags
    metadata = {"grade_id": name, "schema_version": 3, "cell_type": kind, **flags}
    return new(source, metadata={"nbgrader": metadata})


def test_cell(name: str, points: float, source: str = "assert True") -> nbformat.NotebookNode:
    return cell("code", name, source, grade=True, locked=True, points=points)


test_cell.__test__ = False


def release() -> dict[str, nbformat.NotebookNode]:
    """What students get: every kind of cell that nbgrader knows."""
    one = [
        cell("code", "setup", "import math", locked=True),
        cell("code", "add", "def add(a, b): ...", solution=True),
        test_cell("test_add", 2),
        test_cell("test_partial", 4, "2.5"),
        cell("markdown", "essay", "Your answer here.", grade=True, solution=True, points=3),
        cell("code", "free", "...", grade=True, solution=True, points=2),
        cell("markdown", "drawing", "Draw a net.", task=True, locked=True, points=5),
    ]
    two = [cell("code", "half", "def half(x): ...", solution=True), test_cell("test_half", 1)]
    notebooks = {"one": new_notebook(cells=one), "two": new_notebook(cells=two)}
    for notebook in notebooks.values():
        ComputeChecksums().preprocess(notebook, {})
    return notebooks


def enter(url: str, notebooks: dict[str, nbformat.NotebookNode], name: str = NAME, due=DUE) -> None:
    """Enter an assignment in the gradebook, as nbgrader generate_assignment does."""
    with Gradebook(url) as gradebook:
        gradebook.update_or_create_assignment(name, duedate=due)
    for notebook, content in notebooks.items():
        resources = {"nbgrader": {"notebook": notebook, "assignment": name, "db_url": url}}
        SaveCells().preprocess(copy.deepcopy(content), resources)


def shown(value: str) -> nbformat.NotebookNode:
    return new_output("execute_result", data={"text/plain": value})


ERROR = new_output("error", ename="AssertionError", evalue="", traceback=[])


def hand_in(texts: dict[str, str], outputs: dict[str, list]) -> dict[str, nbformat.NotebookNode]:
    """The released notebooks with a student's texts and the outputs of a run."""
    notebooks = release()
    for content in (content for notebook in notebooks.values() for content in notebook.cells):
        name = content.metadata.nbgrader.grade_id
        content.source = texts.get(name, content.source)
        if name in outputs:
            content.outputs = copy.deepcopy(outputs[name])
    return notebooks


ANSWERS = {"add": "def add(a, b): return a + b", "essay": "Because.", "free": "1", "half": "half = 1"}
PARTIAL = {"test_partial": [shown("2.5")]}
HAND_INS = {
    "full": hand_in(ANSWERS, {"test_partial": [shown("4.0")]}),
    "partial": hand_in(ANSWERS, PARTIAL),
    "failing": hand_in(ANSWERS, {"test_add": [ERROR], "test_half": [ERROR]}),
    "untouched": hand_in({}, {"test_add": [ERROR], "test_partial": [shown("0")], "test_half": [ERROR]}),
    "shows text": hand_in(ANSWERS, {"test_add": [shown("'done'")], **PARTIAL}),
}


def scores(notebook: nbformat.NotebookNode) -> tuple[CellScore, ...]:
    """What the engine would say of an executed notebook."""
    found = []
    for content in notebook.cells:
        data = content.metadata.nbgrader
        if is_grade(content) and not is_solution(content):
            ran = not any(output.output_type == "error" for output in content.outputs)
            values = [eval(out.data["text/plain"]) for out in content.outputs if "data" in out]
            points, review = score(data.points, ran, values, None, False)
            found.append(CellScore(data.grade_id, points, data.points, review))
        elif is_grade(content) or data.task:
            found.append(CellScore(data.grade_id, None, data.points))
    return tuple(found)


def outcome(notebook: str, student: str = "ann", **fields) -> Outcome:
    defaults = {"assignment": NAME, "status": GRADED, "points": 0.0, "maximum": 0.0, "fingerprint": "f1"}
    return Outcome(student, notebook=notebook, **defaults | fields)


def submission(student: str = "ann", timestamp: datetime | None = None, name: str = NAME) -> Submission:
    return Submission(student, name, Path("submitted"), {}, timestamp=timestamp, fingerprint="f1")


def write(ledger: Ledger, notebooks, student: str = "ann", timestamp=None, **fields) -> list[Outcome]:
    """Write an executed hand-in as the engine does."""
    outcomes = [
        outcome(name, student, **({"scores": scores(notebook)} | fields))
        for name, notebook in notebooks.items()
    ]
    return ledger.write(submission(student, timestamp), outcomes, notebooks)


def give_by_hand(url: str, cell_name: str, points: float, student: str = "ann") -> None:
    """What the formgrader does when an instructor types a score."""
    with Gradebook(url) as gradebook:
        grade = gradebook.find_grade(cell_name, "one", NAME, student)
        grade.manual_score, grade.needs_manual_grade = points, False
        gradebook.db.commit()


def grade(url: str, cell_name: str, notebook: str = "one", student: str = "ann") -> tuple:
    with Gradebook(url) as gradebook:
        row = gradebook.find_grade(cell_name, notebook, NAME, student)
        return row.auto_score, row.manual_score, row.needs_manual_grade


def comment(url: str, cell_name: str, notebook: str = "one", student: str = "ann") -> str | None:
    with Gradebook(url) as gradebook:
        return gradebook.find_comment(cell_name, notebook, NAME, student).auto_comment


# ---- Gradebooks


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A gradebook in which the assignment is released."""
    file = tmp_path_factory.mktemp("gradebook") / "gradebook.db"
    with Ledger(f"sqlite:///{file}"):
        enter(f"sqlite:///{file}", release())
    return file


@pytest.fixture
def url(template, tmp_path) -> str:
    return f"sqlite:///{shutil.copy(template, tmp_path / 'gradebook.db')}"


@pytest.fixture
def stock_url(template, tmp_path) -> str:
    return f"sqlite:///{shutil.copy(template, tmp_path / 'stock.db')}"


@pytest.fixture
def ledger(url) -> Iterator[Ledger]:
    with Ledger(url) as ledger:
        yield ledger


# ---- Parity with stock nbgrader

ZERO = Config({"LateSubmissionPlugin": {"penalty_method": "zero"}})


def grade_by_stock(url: str, notebooks, student: str = "ann", timestamp=None, config=None) -> None:
    """Write an executed hand-in with nbgrader's own preprocessors."""
    with Gradebook(url) as gradebook:
        gradebook.update_or_create_student(student)
        extra = {"timestamp": timestamp} if timestamp else {}
        gradebook.update_or_create_submission(NAME, student, **extra)
    for name, notebook in notebooks.items():
        at = {"notebook": name, "assignment": NAME, "student": student, "db_url": url}
        for step in (SaveAutoGrades(), AssignLatePenalties(config=config or Config())):
            step.preprocess(copy.deepcopy(notebook), {"nbgrader": at})


def rows(url: str) -> dict[str, list[tuple]]:
    """Everything that nbgrader keeps of hand-ins, without its random ids."""
    who = """join submitted_assignment sa on sa.id = sn.assignment_id
        join assignment a on a.id = sa.assignment_id join notebook n on n.id = sn.notebook_id"""
    where = "a.name, sa.student_id, n.name, c.name, c.type"
    queries = {
        "students": "select id, first_name, last_name, email, lms_user_id from student",
        "submissions": """select a.name, sa.student_id, sa.timestamp, sa.extension
            from submitted_assignment sa join assignment a on a.id = sa.assignment_id""",
        "notebooks": f"""select a.name, sa.student_id, n.name, sn.flagged, sn.late_submission_penalty
            from submitted_notebook sn {who}""",
        "grades": f"""select {where}, g.auto_score, g.manual_score, g.extra_credit, g.needs_manual_grade
            from grade g join base_cell c on c.id = g.cell_id
            join submitted_notebook sn on sn.id = g.notebook_id {who}""",
        "comments": f"""select {where}, m.auto_comment, m.manual_comment
            from comment m join base_cell c on c.id = m.cell_id
            join submitted_notebook sn on sn.id = m.notebook_id {who}""",
    }
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = {
            name: sorted((tuple(row) for row in connection.execute(sa.text(query))), key=repr)
            for name, query in queries.items()
        }
    engine.dispose()
    return found


@pytest.mark.parametrize("student", HAND_INS)
def test_an_honest_hand_in_gets_the_rows_that_stock_nbgrader_writes(ledger, url, stock_url, student):
    grade_by_stock(stock_url, HAND_INS[student], student, DUE)
    write(ledger, HAND_INS[student], student, DUE)
    assert rows(url) == rows(stock_url)
    assert len(rows(url)["grades"]) == 6


def test_a_regrade_after_grades_by_hand_gets_the_rows_that_stock_writes(ledger, url, stock_url):
    grade_by_stock(stock_url, HAND_INS["failing"])
    write(ledger, HAND_INS["failing"])
    for each in (url, stock_url):
        for name, points in {"test_add": 1, "essay": 2, "drawing": 4}.items():
            give_by_hand(each, name, points)
    grade_by_stock(stock_url, HAND_INS["partial"])
    write(ledger, HAND_INS["partial"])
    assert rows(url) == rows(stock_url)
    assert grade(url, "test_add") == (2, 1, True)


@pytest.mark.parametrize("hours", [-1, 30])
def test_a_late_hand_in_loses_what_stock_takes_off(url, stock_url, hours):
    handed_in = DUE + timedelta(hours=hours)
    grade_by_stock(stock_url, HAND_INS["partial"], timestamp=handed_in, config=ZERO)
    with Ledger(url, late=LateSubmissionPlugin(penalty_method="zero")) as ledger:
        write(ledger, HAND_INS["partial"], timestamp=handed_in)
    assert rows(url) == rows(stock_url)
    assert ("ps", "ann", "two", 0, 1.0 if hours > 0 else None) in rows(url)["notebooks"]


def test_a_timestamp_with_a_time_zone_is_kept_in_utc(ledger, url):
    east = timezone(timedelta(hours=2))
    write(ledger, HAND_INS["full"], timestamp=DUE.replace(tzinfo=east))
    with Gradebook(url) as gradebook:
        assert gradebook.find_submission(NAME, "ann").timestamp == DUE - timedelta(hours=2)


def test_a_hand_in_without_timestamp_keeps_the_older_one(ledger, url):
    write(ledger, HAND_INS["full"], timestamp=DUE)
    write(ledger, HAND_INS["full"])
    with Gradebook(url) as gradebook:
        assert gradebook.find_submission(NAME, "ann").timestamp == DUE


def test_a_notebook_that_was_not_handed_in_gets_nothing_and_waits_for_nobody(ledger, url):
    ledger.write(submission(), [outcome("two")], {})
    assert grade(url, "test_half", "two") == (0, None, False)


# ---- Scores fail closed


@pytest.mark.parametrize("points", [math.nan, math.inf, -math.inf, -1, 4.5, "4", True])
def test_points_that_are_no_points_give_none_and_a_review(ledger, url, points):
    bad = (CellScore("test_partial", points, 4),)
    (standing,) = ledger.write(submission(), [outcome("one", scores=bad)], {"one": release()["one"]})
    assert grade(url, "test_partial") == (0, None, True)
    assert standing.status == REVIEW
    assert "not a number of points from 0 to 4" in comment(url, "add")


def test_the_maximum_is_what_was_released_whatever_a_score_claims(ledger, url):
    claimed = (CellScore("test_partial", 50, 50),)
    ledger.write(submission(), [outcome("one", scores=claimed)], {"one": release()["one"]})
    assert grade(url, "test_partial") == (0, None, True)


def test_a_graded_cell_without_a_score_gives_none_and_a_review(ledger, url):
    (standing,) = ledger.write(submission(), [outcome("one")], {"one": HAND_INS["full"]["one"]})
    names = ("test_add", "test_partial", "essay", "free")
    assert {grade(url, name) for name in names} == {(0, None, True)}
    assert standing.status == REVIEW
    assert {score.cell for score in standing.scores if score.review} >= set(names)


def test_a_reason_to_review_keeps_the_points_and_waits_for_a_person(ledger, url):
    doubted = tuple(
        CellScore("test_add", 2, 2, review="patched numpy") if each.cell == "test_add" else each
        for each in scores(HAND_INS["full"]["one"])
    )
    ledger.write(submission(), [outcome("one", scores=doubted)], {"one": HAND_INS["full"]["one"]})
    assert grade(url, "test_add") == (2, None, True)
    assert grade(url, "test_partial") == (4, None, False)
    assert comment(url, "add") == "Needs review: test_add: patched numpy"


def test_a_finding_about_the_whole_hand_in_is_read_beside_the_first_answer(ledger, url):
    finding = Finding("kernel", "The kernel was renamed.", review=True)
    write(ledger, HAND_INS["full"], findings=(finding,))
    assert comment(url, "add") == "Needs review: The kernel was renamed."
    assert comment(url, "essay") is None
    assert grade(url, "test_add") == (2, None, False)
    with Gradebook(url) as gradebook:
        assert gradebook.find_submission(NAME, "ann").needs_manual_grade


def test_a_hand_in_to_review_waits_for_a_person_even_if_nothing_else_does(ledger, url):
    finding = Finding("kernel", "The kernel was renamed.", review=True)
    ((standing),) = ledger.write(
        submission(),
        [outcome("two", scores=scores(HAND_INS["full"]["two"]), findings=(finding,))],
        {"two": HAND_INS["full"]["two"]},
    )
    assert grade(url, "test_half", "two") == (1, None, True)
    assert standing.status == REVIEW


def test_a_finding_about_a_cell_makes_its_grade_wait(ledger, url):
    finding = Finding("retyped", "The cell was changed.", review=True, cell="test_partial")
    write(ledger, HAND_INS["full"], findings=(finding,))
    assert grade(url, "test_partial") == (4, None, True)
    assert grade(url, "test_add") == (2, None, False)


def test_an_untouched_answer_has_no_response_and_its_review_beside_it(ledger, url):
    finding = Finding("kernel", "The kernel was renamed.", review=True)
    write(ledger, HAND_INS["untouched"], findings=(finding,))
    assert comment(url, "add") == "No response.\n\nNeeds review: The kernel was renamed."


def test_a_comment_holds_no_html_and_nothing_that_a_database_refuses(ledger, url):
    finding = Finding("name", "Odd name \0 \udc80 <script>x</script>", review=True)
    write(ledger, HAND_INS["full"], findings=(finding,))
    text = comment(url, "add")
    assert "<" not in text
    assert "script>x" in text


def test_a_failed_regrade_takes_the_old_points_back(ledger, url):
    write(ledger, HAND_INS["full"])
    give_by_hand(url, "essay", 3)
    failed = [outcome(name, status=REVIEW, findings=(UNREADABLE,)) for name in ("one", "two")]
    ledger.write(submission(), failed, {})
    assert grade(url, "test_add") == grade(url, "test_half", "two") == (0, None, True)
    assert grade(url, "essay") == (0, 3, True)
    assert "The file is no notebook." in comment(url, "add")
    assert {found.status for found in ledger.outcomes(NAME)} == {REVIEW}


def test_a_failed_regrade_of_a_late_hand_in_leaves_no_penalty_above_its_points(url):
    with Ledger(url, late=LateSubmissionPlugin(penalty_method="zero")) as ledger:
        write(ledger, HAND_INS["full"], timestamp=DUE + timedelta(hours=1))
        ledger.invalidate(submission(), Finding("crash", "The grader failed."))
    assert {row[2:] for row in rows(url)["notebooks"]} == {("one", 0, 0), ("two", 0, 0)}


def test_invalidating_a_hand_in_takes_the_points_of_every_notebook_back(ledger, url):
    write(ledger, HAND_INS["full"])
    ledger.invalidate(submission(), Finding("crash", "The grader failed."))
    assert grade(url, "test_add") == grade(url, "test_half", "two") == (0, None, True)
    assert [found.findings[0].message for found in ledger.outcomes(NAME)] == ["The grader failed."] * 2


def test_a_good_regrade_after_a_failed_one_restores_the_rows_of_stock(ledger, url, stock_url):
    grade_by_stock(stock_url, HAND_INS["partial"])
    ledger.invalidate(submission(), Finding("crash", "The grader failed."))
    write(ledger, HAND_INS["partial"])
    assert rows(url) == rows(stock_url)


# ---- Outcomes


def test_an_outcome_is_read_back_as_it_stands(ledger):
    note = Finding("renamed", "The file had another name.")
    fields = {"findings": (note,), "seconds": 1.5, "cpu_seconds": 0.5, "protection": ("files",)}
    written = write(ledger, HAND_INS["partial"], **fields)
    assert ledger.outcomes(NAME) == written
    one = ledger.outcome("ann", NAME, "one")
    assert (one.status, one.points, one.maximum) == (GRADED, 4.5, 6)
    assert one.findings == (note,)
    assert one.graded_at.tzinfo is timezone.utc
    assert ledger.outcome("bob", NAME, "one") is None


def test_fingerprints_tell_what_was_graded_last(ledger):
    write(ledger, HAND_INS["full"])
    write(ledger, HAND_INS["full"], "bob", fingerprint="f2")
    write(ledger, HAND_INS["full"], "bob", fingerprint="f3")
    expected = {(who, name): f for who, f in (("ann", "f1"), ("bob", "f3")) for name in ("one", "two")}
    assert ledger.fingerprints(NAME) == expected


def test_what_is_forgotten_keeps_its_grade_and_counts_as_not_done(ledger, url):
    write(ledger, HAND_INS["full"])
    write(ledger, HAND_INS["full"], "bob")
    before = rows(url)
    ledger.forget(NAME, ["ann"], ["one"])
    assert [found for found in ledger.fingerprints(NAME).items() if not found[1]] == [(("ann", "one"), "")]
    assert rows(url) == before


def test_the_students_are_those_of_the_gradebook(ledger):
    write(ledger, HAND_INS["full"])
    write(ledger, HAND_INS["full"], "bob")
    assert ledger.students() == {"ann", "bob"}


def test_a_hand_in_that_nbgrader_removed_and_added_again_is_not_done(ledger, url):
    write(ledger, HAND_INS["full"])
    with Gradebook(url) as gradebook:
        gradebook.remove_submission(NAME, "ann")
        gradebook.update_or_create_submission(NAME, "ann")
    assert ledger.fingerprints(NAME) == {}
    assert ledger.outcomes(NAME) == []


def test_what_nbgrader_removed_is_forgotten_when_the_ledger_opens(ledger, url):
    write(ledger, HAND_INS["full"])
    write(ledger, HAND_INS["full"], "bob")
    with Gradebook(url) as gradebook:
        gradebook.remove_student("ann")
    with Ledger(url) as again:
        students = again.read(lambda session: set(session.scalars(sa.select(OUTCOMES.c.student))))
    assert students == {"bob"}


@pytest.mark.parametrize(
    "action",
    [
        lambda gradebook: gradebook.remove_student("ann"),
        lambda gradebook: gradebook.remove_assignment(NAME),
        lambda gradebook: gradebook.submission_dicts(NAME),
        lambda gradebook: gradebook.update_or_create_student("ann", last_name="Lee"),
    ],
    ids=["remove student", "remove assignment", "list", "rename"],
)
def test_nbgrader_works_beside_our_table(ledger, url, action):
    write(ledger, HAND_INS["full"])
    with Gradebook(url) as gradebook:
        action(gradebook)


def test_nbgraders_database_upgrade_keeps_our_table(ledger, url):
    write(ledger, HAND_INS["full"])
    ledger.close()
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "db", "upgrade", f"--CourseDirectory.db_url={url}"],
        cwd=Path(sa.make_url(url).database or ".").parent,
        check=True,
        capture_output=True,
    )
    with Ledger(url) as again:
        assert len(again.outcomes(NAME)) == 2


# ---- What was released


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    source, released = tmp_path / "source", tmp_path / "release"
    for folder in (source, released):
        folder.mkdir()
        for name, notebook in release().items():
            nbformat.write(notebook, folder / f"{name}.ipynb")
    return source, released


def test_the_source_holds_every_cell_as_it_was_released(ledger, folders):
    one = ledger.source(NAME, *folders)["one"]
    flags = {name: (c.grade, c.solution, c.task, c.locked, c.points) for name, c in one.cells.items()}
    assert flags == {
        "setup": (False, False, False, True, None),
        "add": (False, True, False, False, None),
        "test_add": (True, False, False, True, 2),
        "test_partial": (True, False, False, True, 4),
        "essay": (True, True, False, False, 3),
        "free": (True, True, False, False, 2),
        "drawing": (False, False, True, True, 5),
    }
    assert one.cells["test_partial"].source == "2.5"
    assert one.notebook.cells[0].source == one.released.cells[0].source == "import math"


def test_an_honest_source_gives_no_warning(ledger, folders, caplog):
    ledger.source(NAME, *folders)
    assert not caplog.records


def test_a_source_that_changed_since_its_release_gives_a_warning(ledger, folders, caplog):
    file = folders[0] / "one.ipynb"
    file.write_text(file.read_text(encoding="utf-8").replace("assert True", "assert False"), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        ledger.source(NAME, *folders)
    (record,) = caplog.records
    assert "'one' differs from what was released in test_add" in record.getMessage()


def test_without_a_source_file_the_gradebook_serves(ledger, caplog):
    found = ledger.source(NAME, None, None)
    assert found["two"].cells["test_half"].points == 1
    assert "the source of notebook 'two' is missing" in caplog.text


def test_an_assignment_that_was_never_released_is_named(ledger):
    with pytest.raises(
        LedgerError, match="'lstm' is not in the gradebook; run `nbgrader generate_assignment l"
    ):
        ledger.source("lstm", None, None)
    with pytest.raises(LedgerError, match="'lstm' is not in the gradebook"):
        ledger.write(submission(name="lstm"), [], {})


def test_a_notebook_that_the_assignment_does_not_have_is_named(ledger):
    with pytest.raises(LedgerError, match="no notebook 'three' in the gradebook, only 'one', 'two'"):
        ledger.write(submission(), [outcome("three")], {})


@pytest.mark.parametrize("name", ["", "x" * 129, "a\0b", "a\udc80b"])
def test_a_student_whose_name_no_gradebook_holds_is_named(ledger, name):
    with pytest.raises(LedgerError, match="cannot hold the student"):
        ledger.write(submission(name), [], {})


def test_an_outcome_of_someone_else_is_refused(ledger):
    with pytest.raises(ValueError, match="outcome is of 'bob'"):
        ledger.write(submission("ann"), [outcome("one", "bob")], {})


# ---- Regrades


def test_a_regrade_lists_the_scores_that_differ_with_both_totals(ledger):
    write(ledger, HAND_INS["failing"])
    write(ledger, HAND_INS["full"], "bob")
    before = regrade.snapshot(ledger, NAME)
    write(ledger, HAND_INS["partial"])
    write(ledger, HAND_INS["full"], "bob")
    changes = regrade.diff(before, regrade.snapshot(ledger, NAME))
    assert changes == [
        regrade.Change("ann", "one", "test_add", 0, 2, 4, 5.5),
        regrade.Change("ann", "one", "test_partial", 4, 2.5, 4, 5.5),
        regrade.Change("ann", "two", "test_half", 0, 1, 4, 5.5),
    ]
    text = regrade.table(changes)
    assert text.count("4 -> 5.5") == 1
    assert len(text.splitlines()) == 4


def test_a_regrade_without_effect_says_so(ledger):
    write(ledger, HAND_INS["full"])
    before = regrade.snapshot(ledger, NAME)
    assert regrade.table(regrade.diff(before, regrade.snapshot(ledger, NAME))) == "no score changed"


def test_a_late_penalty_counts_in_a_regrade(url):
    with Ledger(url, late=LateSubmissionPlugin(penalty_method="zero")) as ledger:
        write(ledger, HAND_INS["full"], timestamp=DUE)
        before = regrade.snapshot(ledger, NAME)
        write(ledger, HAND_INS["full"], timestamp=DUE + timedelta(hours=1))
        changes = regrade.diff(before, regrade.snapshot(ledger, NAME))
    assert regrade.Change("ann", "two", regrade.PENALTY, None, -1, 7, 0) in changes


# ---- One transaction, whoever else is there


def killed_before_commit(url: str) -> None:
    """Write a hand-in in a process that is killed when everything but the commit is done."""
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_grading_ledger as here
        with here.Ledger({url!r}) as ledger:
            kill = lambda connection: os.kill(os.getpid(), signal.SIGKILL)
            here.sa.event.listen(ledger.gradebook.engine, "commit", kill)
            here.write(ledger, here.HAND_INS["full"])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_crash_before_the_commit_leaves_the_old_state_whole(ledger, url):
    write(ledger, HAND_INS["failing"])
    before, outcomes = rows(url), ledger.outcomes(NAME)
    killed_before_commit(url)
    assert rows(url) == before
    assert ledger.outcomes(NAME) == outcomes
    write(ledger, HAND_INS["full"])
    assert rows(url) != before


def test_an_error_half_way_leaves_the_old_state_whole(url):
    class Broken(LateSubmissionPlugin):
        def late_submission_penalty(self, student_id, score, total_seconds_late):
            raise ZeroDivisionError

    with Ledger(url, late=Broken()) as ledger:
        write(ledger, HAND_INS["failing"], timestamp=DUE)
        before = rows(url)
        with pytest.raises(ZeroDivisionError):
            write(ledger, HAND_INS["full"], timestamp=DUE + timedelta(hours=1))
        assert rows(url) == before
        write(ledger, HAND_INS["full"], timestamp=DUE)


def test_the_gradebook_can_be_read_while_it_is_written(ledger, url):
    stop, errors = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                with Gradebook(url) as gradebook:
                    gradebook.submission_dicts(NAME)
            except Exception as error:
                errors.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        write(ledger, HAND_INS["partial"], f"student{number}")
    stop.set()
    reader.join()
    assert errors == []
    assert len(ledger.outcomes(NAME)) == 40


def test_two_ledgers_write_the_same_class(url):
    def grade_class() -> None:
        with Ledger(url) as ledger:
            for number in range(10):
                write(ledger, HAND_INS["partial"], f"student{number}")

    threads = [threading.Thread(target=grade_class) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Ledger(url) as ledger:
        assert len(ledger.outcomes(NAME)) == 20
    assert len(rows(url)["grades"]) == 60


# ---- What can be wrong with the file


def file_of(url: str) -> str:
    return sa.make_url(url).database


def test_a_locked_gradebook_is_waited_for(ledger, url):
    other = sqlite3.connect(file_of(url), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release_lock = threading.Timer(1.5, lambda: other.execute("COMMIT"))
    release_lock.start()
    start = time.monotonic()
    write(ledger, HAND_INS["full"])
    assert time.monotonic() - start > 1
    release_lock.join()
    other.close()
    assert grade(url, "test_add") == (2, None, False)


def test_a_gradebook_that_stays_locked_gives_a_clear_error(ledger, url, monkeypatch):
    monkeypatch.setattr(ledger_module, "PATIENCE", 0)
    other = sqlite3.connect(file_of(url))
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerError, match="stayed locked by another program"):
        write(ledger, HAND_INS["full"])
    other.close()
    write(ledger, HAND_INS["full"])


def test_a_gradebook_that_cannot_be_written_gives_a_clear_error(ledger, url):
    write(ledger, HAND_INS["full"])
    with Ledger(f"sqlite:///file:{file_of(url)}?mode=ro&uri=true") as reader:
        assert len(reader.outcomes(NAME)) == 2
        with pytest.raises(LedgerError, match="must be writable"):
            write(reader, HAND_INS["partial"])
    assert grade(url, "test_partial") == (4, None, False)


def test_a_gradebook_in_a_folder_that_is_not_there_gives_a_clear_error(tmp_path):
    url = f"sqlite:///{tmp_path / 'nowhere' / 'gradebook.db'}"
    with pytest.raises(LedgerError, match="unable to open database file") as caught:
        Ledger(url)
    assert f"{url} cannot be written" in str(caught.value)


def test_a_file_that_is_no_gradebook_gives_a_clear_error(tmp_path):
    (tmp_path / "gradebook.db").write_text("not a database, but long enough to look at" * 20)
    with pytest.raises(LedgerError, match="file is not a database"):
        Ledger(f"sqlite:///{tmp_path / 'gradebook.db'}")


# ---- Scores of a cell


class Shown:
    """Shows as a number, as a score of coursekit does."""

    def __repr__(self) -> str:
        return "1.5"


@pytest.mark.parametrize(
    ("results", "points"),
    [([], 4), ([1.5], 1.5), ([0], 0), ([Shown()], 1.5), (["3"], 4), ([True], 4), ([[1]], 4), ([4.0, 1], 1)],
)
def test_a_cell_that_ran_earns_what_it_shows_and_else_the_maximum(results, points):
    assert score(4, True, results, None, False) == (points, None)


def test_a_cell_that_failed_earns_nothing_whatever_it_showed_before():
    assert score(4, False, [4.0], None, False) == (0, None)


@pytest.mark.parametrize("result", [math.nan, math.inf, -0.5, 4.1])
def test_a_result_out_of_range_earns_nothing_and_is_reviewed(result):
    points, review = score(4, True, [result], None, False)
    assert points == 0
    assert "not a number of points from 0 to 4" in review


@pytest.mark.parametrize(
    ("results", "record", "reason"),
    [
        ([4.0], None, "left no record"),
        ([4.0], {"points": 1}, "the check reported 1"),
        ([4.0], {}, "the check reported None"),
        ([], {"points": 4}, "the cell shows no points"),
    ],
)
def test_a_check_without_a_record_that_vouches_for_it_earns_nothing(results, record, reason):
    points, review = score(4, True, results, record, True)
    assert points == 0
    assert reason in review


def test_a_check_with_its_record_earns_its_points():
    assert score(4, True, [1.33333], {"points": 4 / 3}, True) == (1.33333, None)


def test_a_sum_that_rounding_lifts_above_the_maximum_is_the_maximum():
    assert score(0.3, True, [0.1 + 0.2], None, False) == (0.3, None)
