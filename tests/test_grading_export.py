"""Exports hold every student's points in the form that Canvas and Moodle import."""

from __future__ import annotations

import csv
import logging
from datetime import timedelta

import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import ExportApp
from nbgrader.plugins import LateSubmissionPlugin
from test_grading_ledger import DUE, HAND_INS, enter, release, template, url, write
from traitlets.config import Config

from coursekit.grading.gradebook.export import CanvasExport, MoodleExport
from coursekit.grading.gradebook.ledger import Ledger

__all__ = ["template", "url"]  # fixtures

pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")


@pytest.fixture
def class_(url) -> str:
    """Ann handed in all of `ps`, Bob nothing, Eve late; nobody handed in `last`."""
    with Gradebook(url) as gradebook:
        ann = {"first_name": "Ann", "last_name": 'Lee, "Jr"', "email": "ann@x.org", "lms_user_id": "17"}
        gradebook.update_or_create_student("ann", **ann)
        gradebook.update_or_create_student("bob", first_name="=cmd()\nBob", last_name="Öz")
        gradebook.update_or_create_student("eve", email="@eve")
    enter(url, release(), "last", DUE + timedelta(days=7))
    with Ledger(url, late=LateSubmissionPlugin(penalty_method="zero")) as ledger:
        write(ledger, HAND_INS["partial"], "ann")
        write(ledger, {"two": HAND_INS["full"]["two"]}, "eve", DUE + timedelta(hours=1))
    return url


def exported(plugin, url: str, tmp_path, **options) -> list[list[str]]:
    file = tmp_path / "grades.csv"
    with Gradebook(url) as gradebook:
        plugin(to=str(file), **options).export(gradebook)
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


def test_canvas_gets_its_columns_and_the_possible_points(class_, tmp_path):
    header, possible, *_ = exported(CanvasExport, class_, tmp_path, assignment_ids={"last": "42"})
    student = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert header == [*student, "ps", "last (42)"]
    assert possible == ["Points Possible", "", "", "", "", "17", "17"]


def test_canvas_gets_points_after_penalties_and_blanks_for_nothing_handed_in(class_, tmp_path):
    _, _, *rows = exported(CanvasExport, class_, tmp_path)
    grades = {row[3]: row[5:] for row in rows}
    assert grades == {"ann": ["5.5", ""], "bob": ["", ""], "eve": ["0", ""]}


def test_canvas_finds_students_by_the_column_that_is_chosen(class_, tmp_path):
    options = {"student_column": "SIS User ID", "section": "A", "student": ["eve"]}
    *_, eve = exported(CanvasExport, class_, tmp_path, **options)
    assert eve[1:5] == ["", "eve", "", "A"]


def test_names_survive_commas_quotes_lines_and_accents(class_, tmp_path):
    _, _, *rows = exported(CanvasExport, class_, tmp_path)
    assert {row[0] for row in rows} == {'Lee, "Jr", Ann', "Öz, =cmd()\nBob", "eve"}


def test_no_text_is_a_formula_in_a_spreadsheet(class_, tmp_path):
    users = {row[0]: row for row in exported(MoodleExport, class_, tmp_path)}
    assert users["bob"][1] == "'=cmd()\nBob"
    assert users["eve"][4] == "'@eve"


def test_moodle_gets_users_points_and_feedback(class_, tmp_path):
    header, *rows = exported(MoodleExport, class_, tmp_path, assignment=["ps"])
    ann, bob, eve = sorted(rows)
    who = ["Username", "First name", "Last name", "ID number", "Email address"]
    assert header == [*who, "ps", "ps (Feedback)"]
    assert ann[:1] + ann[3:] == [
        "ann",
        "17",
        "ann@x.org",
        "5.5",
        "5.5 of 17 points; parts are still to be graded",
    ]
    assert bob[5:] == ["-", ""]
    assert eve[5:] == ["0", "1 of 17 points, 1 off for lateness; parts are still to be graded"]


def test_students_who_wait_for_a_person_are_named_in_a_warning(class_, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        exported(CanvasExport, class_, tmp_path, student=["ann", "bob"])
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.getMessage().startswith("ps: 1 hand-ins wait for a person")
    assert record.getMessage().endswith(": ann")


def test_only_the_students_and_assignments_asked_for_are_exported(class_, tmp_path):
    header, _, *rows = exported(CanvasExport, class_, tmp_path, student=["bob"], assignment=["last"])
    assert header[5:] == ["last"]
    assert [row[3] for row in rows] == ["bob"]


def test_a_student_that_is_not_in_the_gradebook_is_named(class_, tmp_path):
    with pytest.raises(ValueError, match="the gradebook has no student 'zoe'"):
        exported(CanvasExport, class_, tmp_path, student=["zoe"])


@pytest.mark.parametrize(("exporter", "rows"), [("CanvasExport", 5), ("MoodleExport", 4)])
def test_nbgrader_export_runs_the_plugin(class_, tmp_path, monkeypatch, exporter, rows):
    monkeypatch.chdir(tmp_path)
    app = ExportApp(config=Config())
    options = [f"--exporter=coursekit.grading.gradebook.export.{exporter}", "--to=out.csv", f"--db={class_}"]
    app.initialize(options)
    app.start()
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as lines:
        assert len(list(csv.reader(lines))) == rows
