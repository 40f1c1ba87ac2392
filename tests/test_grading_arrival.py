"""Whatever arrives gets a submission: found under any name, read in any state, never through a link."""

from __future__ import annotations

import copy
import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from grading_faults import FAULTS, POSIX, Fault, as_bytes, grader, write
from grading_release import course_directory, release, solved, source_of
from nbformat import NotebookNode

from coursekit.grading.handin.arrival import arrivals
from coursekit.grading.handin.extras import MAX_FILES
from coursekit.grading.handin.reading import read_bytes, read_notebook, shown
from coursekit.grading.handin.reconcile import Source, reconcile
from coursekit.grading.records import Submission

NAME = "conv"
posix = pytest.mark.skipif(not POSIX, reason="links, pipes and such names are POSIX's")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return source_of(release(tmp_path_factory.mktemp("course"), [NAME]), NAME, NAME)


@pytest.fixture(scope="module")
def valid(source) -> NotebookNode:
    return solved(source)


@pytest.fixture(scope="module")
def whole(valid, source) -> NotebookNode:
    return reconcile(valid, source).notebook


@pytest.fixture
def arrived(tmp_path, source):
    """What arrives in a course's folder, by student."""

    def find(coursedir=None, notebooks=None, **options) -> dict[str, Submission]:
        notebooks = notebooks or {NAME: list(source.cells)}
        found = arrivals(coursedir or course_directory(tmp_path), NAME, notebooks, **options)
        return {submission.student: submission for submission in found}

    return find


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "submitted" / "ada"


def findings(submission: Submission) -> list:
    return [finding for found in submission.findings.values() for finding in found]


def kinds(submission: Submission) -> list[str]:
    return sorted(finding.kind for finding in findings(submission))


def graded(notebook: NotebookNode) -> list[tuple]:
    cells = [cell for cell in notebook.cells if grader(cell)]
    return [(cell.cell_type, cell.source, dict(grader(cell))) for cell in cells]


# ---- The table of faults


def test_there_are_many_faults():
    assert len(FAULTS) > 120


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in FAULTS.items()])
def test_a_faulty_hand_in_gets_exactly_its_outcome(fault: Fault, valid, whole, source, home, arrived):
    if not fault.works_here:
        pytest.skip("this file system cannot hold it")
    fault.lay(home, valid, NAME)
    for student in ("aaron", "zoe"):
        write(home.parent / student / NAME / f"{NAME}.ipynb", as_bytes(valid))
    before, submission, after = arrived().values()
    assert not findings(before) and not findings(after)
    assert (submission.student, submission.assignment) == ("ada", NAME)
    found = reconcile(submission.notebooks[NAME], source)
    every = [*findings(submission), *found.findings]
    assert tuple(sorted(finding.kind for finding in every)) == fault.kinds
    assert any(finding.review for finding in every) == fault.review
    assert all(finding.message.isprintable() and len(finding.message) < 300 for finding in every)
    assert (submission.notebooks[NAME] is None) == (fault.becomes == "unread")
    nbformat.validate(found.notebook)
    check_outcome(fault.becomes, found.notebook, whole, source)


def check_outcome(becomes: str, notebook: NotebookNode, whole: NotebookNode, source: Source) -> None:
    mine, theirs = graded(notebook), graded(whole)
    lost = [theirs[i][1] for i in range(len(theirs)) if theirs[i][1] and mine[i][1] == ""]
    answers = [name for name, cell in source.cells.items() if not cell.locked]
    if becomes == "whole":
        assert mine == theirs
    elif becomes == "partly":
        assert len(lost) == 1
        assert [cell for cell in mine if cell[1]] == [cell for cell in theirs if cell[1] not in lost]
    elif becomes in ("blank", "unread"):
        assert len(lost) == len(answers)
    else:
        assert becomes == "runs"
        text = "\n".join(cell.source for cell in notebook.cells)
        assert all(cell[1] in text for cell in theirs)
        assert len(mine) == len(theirs)


# ---- Honest hand-ins


def test_an_honest_hand_in_has_no_findings(home, valid, arrived):
    write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))
    write(home / NAME / "timestamp.txt", "2024-01-31 23:59:30.123456 CET")
    write(home / NAME / "data" / "values.csv", "1,2")
    write(home / NAME / "helpers.py", "def f(): pass")
    submission = arrived()["ada"]
    assert submission.findings == {}
    assert submission.folder == home / NAME
    assert submission.timestamp == datetime(2024, 1, 31, 22, 59, 30, 123456)
    assert sorted(submission.files) == ["data/values.csv", "helpers.py", "timestamp.txt"]
    assert [cell.source for cell in submission.notebooks[NAME].cells] == [c.source for c in valid.cells]


def test_a_student_without_this_assignment_did_not_hand_in(home, valid, arrived):
    write(home / "pooling" / "pooling.ipynb", as_bytes(valid))
    write(home / "pooling.ipynb", b"{}")
    assert arrived() == {}


def test_no_submitted_folder_is_no_hand_in(arrived):
    assert arrived() == {}


def test_files_beside_the_students_folders_are_no_students(tmp_path, home, valid, arrived):
    write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))
    write(tmp_path / "submitted" / "README.md", "x")
    write(tmp_path / "submitted" / ".cache" / NAME / f"{NAME}.ipynb", b"{}")
    assert list(arrived()) == ["ada"]


def test_students_can_be_chosen_by_name_and_by_nbgraders_options(tmp_path, valid, arrived):
    for student in ("ada", "bob", "cyd", "ann"):
        write(tmp_path / "submitted" / student / NAME / f"{NAME}.ipynb", as_bytes(valid))
    coursedir = course_directory(tmp_path)
    assert list(arrived(students=["bob", "nobody"])) == ["bob"]
    coursedir.student_id, coursedir.student_id_exclude = "a*", "ann,bob"
    assert list(arrived(coursedir)) == ["ada"]


@pytest.mark.parametrize(
    ("structure", "path"),
    [
        ("{nbgrader_step}/{assignment_id}/{student_id}", "submitted/conv/ada"),
        ("{nbgrader_step}/{student_id}-{assignment_id}", "submitted/ada-conv"),
        ("course/{nbgrader_step}/{student_id}/work/{assignment_id}", "course/submitted/ada/work/conv"),
    ],
)
def test_other_directory_structures_of_nbgrader_are_known(tmp_path, valid, arrived, structure, path):
    coursedir = course_directory(tmp_path)
    coursedir.directory_structure = structure.replace("/", os.sep)
    write(tmp_path / path / f"{NAME}.ipynb", as_bytes(valid))
    submission = arrived(coursedir)["ada"]
    assert (submission.folder, submission.findings) == (tmp_path / path, {})


# ---- Several notebooks


TWO = {"problem1": ["a", "b"], "problem2": ["c"]}


def notebook_with(*ids: str) -> bytes:
    cells = [
        nbformat.v4.new_code_cell("1", id=f"c{n}", metadata={"nbgrader": {"grade_id": name}})
        for n, name in enumerate(ids)
    ]
    return as_bytes(nbformat.v4.new_notebook(cells=cells))


def test_notebooks_of_one_assignment_are_told_apart_by_their_cells(home, arrived):
    write(home / NAME / "first try.ipynb", notebook_with("c"))
    write(home / NAME / "second.ipynb", notebook_with("a", "b", "x"))
    submission = arrived(notebooks=TWO)["ada"]
    assert kinds(submission) == ["other-name", "other-name"]
    assert [len(submission.notebooks[name].cells) for name in TWO] == [3, 1]


def test_a_notebook_that_was_not_handed_in_is_noted_only(home, arrived):
    write(home / NAME / "problem1.ipynb", notebook_with("a"))
    submission = arrived(notebooks=TWO)["ada"]
    assert submission.notebooks["problem2"] is None
    assert [(f.kind, f.review) for f in submission.findings["problem2"]] == [("missing-notebook", False)]


def test_the_other_notebook_is_never_taken_for_the_missing_one(home, arrived):
    write(home / NAME / "problem1.ipynb", notebook_with("a"))
    write(home / NAME / "notes.ipynb", notebook_with("z"))
    assert arrived(notebooks=TWO)["ada"].notebooks["problem2"] is None


# ---- Names


@posix
def test_a_students_name_that_the_gradebook_cannot_hold_is_written_otherwise(tmp_path, valid, arrived):
    odd = ["ada\nlovelace", "x" * 200, os.fsdecode(b"caf\xe9")]
    for student in odd:
        write(tmp_path / "submitted" / student / NAME / f"{NAME}.ipynb", as_bytes(valid))
    found = arrived()
    assert {"ada\\nlovelace", "caf\\udce9"} < set(found)
    assert all(kinds(submission) == ["odd-name"] for submission in found.values())
    assert all(name.isprintable() and len(name) <= 128 and name.encode() for name in found)


@posix
def test_a_file_whose_name_is_no_text_is_kept(home, valid, arrived):
    write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))
    write(home / NAME / os.fsdecode(b"caf\xe9.csv"), "1")
    submission = arrived()["ada"]
    assert (kinds(submission), list(submission.files)) == ([], [os.fsdecode(b"caf\xe9.csv")])
    assert len(submission.fingerprint) == 64


def test_a_name_in_a_message_is_short_and_on_one_line():
    assert shown("a\nb\u202e\udce9") == "a\\nb\\u202e\\udce9"
    assert len(shown("x" * 255)) < 61


# ---- Never through a link, never waiting


@posix
def test_a_link_that_appears_while_reading_is_not_followed(tmp_path, monkeypatch):
    """The check of the name and the opening are two steps; a student may act between them."""
    secret = write(tmp_path / "secret", as_bytes(nbformat.v4.new_notebook()))
    link = tmp_path / "conv.ipynb"
    link.symlink_to(secret)
    monkeypatch.setattr(Path, "lstat", Path.stat)
    notebook, (finding,) = read_notebook(link)
    assert (notebook, finding.kind, finding.review) == (None, "unreadable", True)


def test_a_file_that_may_not_be_read_gets_an_outcome(home, valid, arrived, monkeypatch):
    write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    submission = arrived()["ada"]
    assert (submission.notebooks[NAME], kinds(submission)) == (None, ["unreadable"])


def test_a_folder_that_may_not_be_listed_gets_an_outcome(home, valid, arrived, monkeypatch):
    write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))
    listed = os.scandir

    def refuse(path):
        if Path(path).name == NAME:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    submission = arrived()["ada"]
    assert submission.notebooks[NAME] is None
    assert {finding.kind for finding in findings(submission)} == {"unreadable", "empty-folder"}


def test_no_more_than_the_limit_is_read(tmp_path):
    path = write(tmp_path / "conv.ipynb", b"x" * 1001)
    notebook, (finding,) = read_notebook(path, max_bytes=1000)
    assert (notebook, finding.kind, finding.review) == (None, "too-large", True)


def test_read_bytes_gives_the_contents_of_a_file_at_the_limit(tmp_path):
    assert read_bytes(write(tmp_path / "data", b"x" * 1000), 1000) == b"x" * 1000


# ---- What lies beside


def test_files_beyond_the_limits_are_left_out_and_the_others_kept(home, valid, arrived):
    FAULTS["six-hundred-files"].lay(home, valid, NAME)
    assert len(arrived()["ada"].files) == MAX_FILES


@posix
def test_no_link_is_among_the_files(home, valid, arrived):
    FAULTS["link-beside-the-notebook"].lay(home, valid, NAME)
    assert arrived()["ada"].files == {}


def test_a_time_that_nobody_can_read_does_not_reach_the_graded_folder(home, valid, arrived):
    FAULTS["timestamp garbage"].lay(home, valid, NAME)
    submission = arrived()["ada"]
    assert (submission.timestamp, submission.files) == (None, {})


def test_a_helper_module_of_the_students_own_is_no_shadow(home, valid, arrived):
    write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))
    write(home / NAME / "my_layers.py", "x = 1")
    write(home / NAME / "json.py", "x = 1")
    assert kinds(arrived()["ada"]) == []


# ---- Fingerprint


def test_a_fingerprint_changes_with_any_file_and_with_nothing_else(home, valid, arrived):
    notebook = write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))
    data = write(home / NAME / "data.csv", "1")
    prints = [arrived()["ada"].fingerprint]
    os.utime(notebook, (1, 1))
    assert arrived()["ada"].fingerprint == prints[0]
    for path, text in [
        (data, "2"),
        (notebook, as_bytes(valid) + b"\n"),
        (home / NAME / "timestamp.txt", "2024-01-01"),
    ]:
        write(path, text)
        prints.append(arrived()["ada"].fingerprint)
    data.rename(data.with_name("other.csv"))
    prints.append(arrived()["ada"].fingerprint)
    assert len(set(prints)) == 5


def test_the_fingerprint_of_a_broken_upload_changes_with_the_next_one(home, arrived):
    path = write(home / NAME / f"{NAME}.ipynb", b"{")
    first = arrived()["ada"].fingerprint
    write(path, b"{ ")
    assert arrived()["ada"].fingerprint != first


# ---- What is read of a notebook


def test_an_old_notebook_keeps_its_headings_and_marks(tmp_path, valid):
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Task ", "one"]},
        {"cell_type": "code", "input": ["x = 1\n", "y = 2"], "metadata": {"nbgrader": {"grade_id": "a"}}},
    ]
    value = {"nbformat": 3, "worksheets": [{"cells": cells}, {"cells": []}, None]}
    notebook, (finding,) = read_notebook(write(tmp_path / "a.ipynb", json.dumps(value)))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        ("markdown", "## Task one"),
        ("code", "x = 1\ny = 2"),
    ]
    assert notebook.cells[1].metadata.nbgrader.grade_id == "a"
    assert finding.message == "a.ipynb is in the old format 3; it was converted to format 4."


def test_attachments_are_kept_as_images_only(tmp_path):
    bundle = {"image/png": ["aGk", "="], "image/svg+xml": "<svg/>", "text/html": "<script>"}
    cell = {"cell_type": "markdown", "metadata": {}, "source": "", "attachments": {"a.png": bundle, "b": 3}}
    path = write(tmp_path / "a.ipynb", json.dumps({"nbformat": 4, "cells": [cell]}))
    (cell,) = read_notebook(path)[0].cells
    assert cell.attachments == {"a.png": {"image/png": "aGk="}}


def test_any_mutilated_bytes_give_an_outcome(tmp_path, valid, rng):
    data = as_bytes(valid)
    path = tmp_path / "conv.ipynb"
    for _ in range(300):
        broken = bytearray(data)
        for position in rng.integers(len(broken), size=rng.integers(1, 20)):
            broken[position] = rng.integers(256)
        write(path, bytes(broken[: rng.integers(len(broken))] if rng.random() < 0.3 else broken))
        notebook, found = read_notebook(path)
        assert notebook is not None or any(finding.review for finding in found)
        if notebook is not None:
            nbformat.validate(notebook)


def test_any_value_in_any_place_gives_an_outcome(tmp_path, valid, source, rng):
    values = [None, True, -1, 1e300, "text", [], {}, [None], {"a": [1]}, "\ud800", "\0"]
    for _ in range(300):
        value = json.loads(as_bytes(valid))
        for _ in range(rng.integers(1, 6)):
            replace_somewhere(value, copy.deepcopy(values[rng.integers(len(values))]), rng)
        notebook, _ = read_notebook(write(tmp_path / "conv.ipynb", json.dumps(value)))
        found = reconcile(notebook, source).notebook
        nbformat.validate(found)
        assert sorted(grader(c)["grade_id"] for c in found.cells if grader(c)) == sorted(source.cells)


def replace_somewhere(value, new, rng) -> None:
    """Put a value in a random place of nested lists and dictionaries."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[rng.integers(len(keys))]
        inner = value[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.1:
            value[key] = new
            return
        value = inner


def test_the_hand_in_itself_is_left_as_it_is(home, valid, arrived, tmp_path):
    write(home / NAME / f"{NAME}.ipynb", as_bytes(valid))
    shutil.copytree(home, tmp_path / "before")
    arrived()
    assert (home / NAME / f"{NAME}.ipynb").read_bytes() == (
        tmp_path / "before" / NAME / f"{NAME}.ipynb"
    ).read_bytes()
