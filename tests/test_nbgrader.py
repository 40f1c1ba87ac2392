"""The course round trip by nbgrader's commands: release, hand in, grade, feedback, export, formgrader."""

from __future__ import annotations

import csv
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from coursekit import checks
from coursekit.grading import demo
from coursekit.grading.gradebook.ledger import Ledger
from coursekit.grading.mistakes import MISTAKES

ROOT = Path(__file__).parents[1]
SLUG = "conv"
MISTAKE = next(iter(MISTAKES[SLUG]))
PATCHES = [(slug, name) for slug, mistakes in MISTAKES.items() for name in mistakes]


def grade_here(notebook: nbformat.NotebookNode) -> dict[str, checks.Score]:
    """Scores of a hand-in without nbgrader or kernel: its graded cells evaluated in this process."""
    names: dict = {}
    scores = {}
    for cell in notebook.cells:
        grader = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and grader.get("grade"):
            scores[grader.grade_id] = eval(cell.source, names)
        elif cell.cell_type == "code" and grader:
            exec(cell.source, names)
    return scores


def points(scores: dict[str, checks.Score]) -> float:
    return sum(score.points for score in scores.values())


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A course in which a small class has handed in and everything has been run once."""
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    demo.make_course(ROOT, folder, [SLUG])
    demo.nbgrader(folder, "generate_assignment", SLUG)
    class_ = demo.hand_ins(SLUG, folder)
    demo.submit({name: class_[name] for name in ("loops", "raises", "empty", "full", MISTAKE)}, SLUG, folder)
    demo.nbgrader(folder, "autograde", SLUG)
    demo.nbgrader(folder, "generate_feedback", SLUG)
    demo.nbgrader(folder, "export")
    return folder


@pytest.fixture(scope="module")
def rows(course) -> dict[str, demo.Grade]:
    return {row.student: row for row in demo.grades(SLUG, course)}


@pytest.fixture(scope="module")
def hand_ins() -> dict[str, dict[str, nbformat.NotebookNode]]:
    return {slug: demo.hand_ins(slug, ROOT) for slug in MISTAKES}


def test_nbgrader_makes_the_committed_student_notebook(course):
    name = f"exercises/{SLUG}/{SLUG}.ipynb"
    assert (course / name).read_text(encoding="utf-8") == (ROOT / name).read_text(encoding="utf-8")


def test_the_solution_earns_every_point(rows):
    total = sum(check.points for check in checks.all_checks() if check.name.startswith(f"{SLUG}."))
    assert rows["full"].points == rows["full"].maximum == total > 0


def test_the_untouched_release_earns_nothing(rows):
    assert rows["empty"].points == 0


def test_a_mistake_costs_exactly_its_points(rows, hand_ins):
    expected = grade_here(hand_ins[SLUG][MISTAKE])
    assert rows[MISTAKE].points == points(expected) < rows["full"].points


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nbgrader's own grader runs")
def test_autograde_has_run_our_engine(course, rows):
    outcomes = Ledger(f"sqlite:///{course / 'gradebook.db'}").outcomes(SLUG)
    assert {one.student: one.points for one in outcomes} == {name: row.points for name, row in rows.items()}
    assert all(one.protection and one.fingerprint for one in outcomes)
    page = (course / "_build" / "grading" / SLUG / "summary.html").read_text(encoding="utf-8")
    assert all(student in page for student in rows)


@pytest.mark.parametrize("student", ["full", MISTAKE])
def test_two_processes_give_what_one_gives(rows, hand_ins, student):
    assert rows[student].points == points(grade_here(hand_ins[SLUG][student]))


def test_the_feedback_names_the_mistake(course, rows, hand_ins):
    (score,) = (score for score in grade_here(hand_ins[SLUG][MISTAKE]).values() if score.misconceptions)
    page = (course / "feedback" / MISTAKE / SLUG / f"{SLUG}.html").read_text(encoding="utf-8")
    assert rows[MISTAKE].named == score.misconceptions
    explanation = next(line for line in score.report.splitlines() if line.startswith("  > "))
    assert explanation.removeprefix("  > ") in page


@pytest.mark.parametrize(("slug", "student"), PATCHES)
def test_each_typical_mistake_of_the_demo_is_named(hand_ins, slug, student):
    scores = grade_here(hand_ins[slug][student])
    assert any(score.misconceptions for score in scores.values())
    assert points(scores) < sum(score.total for score in scores.values())


@pytest.mark.parametrize("student", ["loops", "raises"])
def test_a_hand_in_that_loops_or_raises_loses_only_what_depends_on_it(rows, student):
    assert 0 < rows[student].points < rows["full"].points


def test_a_function_that_never_returns_costs_seconds(course):
    page = (course / "feedback" / "loops" / SLUG / f"{SLUG}.html").read_text(encoding="utf-8")
    assert "did not finish within" in page


def test_the_export_holds_every_student(course, rows):
    with (course / "grades.csv").open(encoding="utf-8") as file:
        exported = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert exported == {student: row.points for student, row in rows.items()}


@pytest.mark.parametrize(("student", "score", "waits"), [("full", None, True), ("empty", 0, False)])
def test_written_answers_wait_for_a_human_unless_untouched(course, student, score, waits):
    with demo.Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        grades = gradebook.find_submission(SLUG, student).notebooks[0].grades
        cells = [(grade, grade.cell) for grade in grades if grade.cell.type == "GradeCell"]
        written = [grade for grade, cell in cells if cell.cell_type == "markdown"]
        assert {(grade.auto_score, bool(grade.needs_manual_grade)) for grade in written} == {(score, waits)}


def test_feedback_made_again_shows_the_comment_written_meanwhile(course, tmp_path):
    copy = shutil.copytree(course, tmp_path / "course")
    with demo.Gradebook(f"sqlite:///{copy / 'gradebook.db'}") as gradebook:
        (notebook,) = gradebook.find_submission(SLUG, "full").notebooks
        notebook.comments[0].manual_comment = "Name the other mistakes too."
        gradebook.db.commit()
    demo.nbgrader(copy, "generate_feedback", SLUG, "--student=full")
    page = (copy / "feedback" / "full" / SLUG / f"{SLUG}.html").read_text(encoding="utf-8")
    assert "Name the other mistakes too." in page


def test_validate_tells_a_student_the_mistake_and_passes_the_solution(course):
    hand_ins = [f"submitted/{student}/{SLUG}/{SLUG}.ipynb" for student in (MISTAKE, "full")]
    report = demo.nbgrader(course, "validate", *hand_ins)
    wrong, right = report.split("Success! Your notebook passes all the tests.")
    assert "VALIDATION FAILED ON 1 CELL(S)" in wrong
    assert "  > " in wrong
    assert "FAILED" not in right


def test_the_demo_prints_the_grades_and_where_everything_lies(tmp_path, monkeypatch, capsys):
    slug = "equivariance"
    two = {name: made for name, made in demo.hand_ins(slug, ROOT).items() if name in ("full", "empty")}
    monkeypatch.setattr(demo, "hand_ins", lambda slug, course: two)
    demo.run(ROOT, tmp_path / "class", [slug])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "equivariance: 2 hand-ins to grade"
    assert any(line.split() == ["full", "20", "/", "20"] for line in lines)
    assert (tmp_path / "class" / "feedback" / "full" / slug / f"{slug}.html").exists()
    assert lines[-3].endswith("grades.csv") and lines[-1].endswith("summary.html")


def test_a_demo_never_empties_a_folder_of_someone_else(tmp_path):
    (tmp_path / "gradebook.db").touch()
    with pytest.raises(FileExistsError, match="holds something else; name an empty folder"):
        demo.make_course(ROOT, tmp_path, [])


# ---- The formgrader


@pytest.fixture(scope="module")
def jupyter(course):
    """Address of a JupyterLab that runs in the course's folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", *options, "--IdentityProvider.token=test"],
        cwd=course,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_open(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_open(port: int, server: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail("JupyterLab did not start")


def get(address: str) -> str:
    request = urllib.request.Request(address, headers={"Authorization": "token test"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read().decode()


def test_the_formgrader_opens_in_jupyterlab(jupyter):
    assert "<title>JupyterLab</title>" in get(f"{jupyter}/lab")
    assert "<title>nbgrader formgrade</title>" in get(f"{jupyter}/formgrader")


def test_the_formgrader_reads_the_same_gradebook(jupyter, rows):
    (assignment,) = json.loads(get(f"{jupyter}/formgrader/api/assignments"))
    assert (assignment["name"], assignment["num_submissions"]) == (SLUG, len(rows))
    assert assignment["max_code_score"] == rows["full"].maximum
    students = {row["id"]: row["score"] for row in json.loads(get(f"{jupyter}/formgrader/api/students"))}
    assert students == {row.student: row.points for row in rows.values()}
