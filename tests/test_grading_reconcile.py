"""A hand-in is brought back to the form of the release, whatever was done to its cells."""

from __future__ import annotations

import copy
import dataclasses

import nbformat
import pytest
from grading_faults import answers, checks, grader, own, setup, tasks, written
from grading_release import EXAMPLE, SLUGS, release, solved, source_of
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    OverwriteCells,
    OverwriteKernelspec,
)

from coursekit.grading.handin.reading import read_notebook
from coursekit.grading.handin.reconcile import MAX_CELLS, Source, reconcile

STOCK = (ClearOutput, DeduplicateIds, OverwriteKernelspec, OverwriteCells, CheckCellMetadata)
NOTEBOOKS = [*((slug, slug) for slug in SLUGS), ("ps1", "problem1"), ("ps1", "problem2")]


@pytest.fixture(scope="module")
def coursedir(tmp_path_factory):
    return release(tmp_path_factory.mktemp("course"), [*SLUGS, "ps1"])


@pytest.fixture(scope="module")
def source(coursedir) -> Source:
    return source_of(coursedir, "conv", "conv")


@pytest.fixture
def valid(source) -> NotebookNode:
    return solved(source)


def kinds(found) -> list[str]:
    return sorted(finding.kind for finding in found.findings)


def graded(notebook: NotebookNode) -> list[tuple]:
    """The cells that nbgrader knows."""
    cells = [cell for cell in notebook.cells if grader(cell)]
    return [(grader(cell)["grade_id"], cell.cell_type, cell.source, dict(grader(cell))) for cell in cells]


def code(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def names(notebook: NotebookNode) -> list[str]:
    return [grader(cell).get("grade_id", cell.source) for cell in notebook.cells]


# ---- Agreement with stock nbgrader


def stock(notebook: NotebookNode, coursedir, assignment: str, name: str) -> NotebookNode:
    """What stock nbgrader makes of a hand-in before it runs."""
    notebook = copy.deepcopy(notebook)
    resources = {
        "nbgrader": {
            "notebook": name,
            "assignment": assignment,
            "student": "ada",
            "db_url": coursedir.db_url,
        }
    }
    for preprocessor in STOCK:
        notebook, resources = preprocessor(parent=coursedir).preprocess(notebook, resources)
    return notebook


def essence(notebook: NotebookNode) -> list[tuple]:
    """Everything about the cells that grading depends on."""
    flags = (utils.is_grade, utils.is_solution, utils.is_locked, utils.is_task)
    return [
        (
            cell.cell_type,
            cell.source,
            cell.get("outputs"),
            *(bool(flag(cell)) for flag in flags),
            *(grader(cell).get(key) for key in ("grade_id", "points", "checksum")),
        )
        for cell in notebook.cells
    ]


@pytest.mark.parametrize(("assignment", "name"), NOTEBOOKS)
@pytest.mark.parametrize("hand_in", ["released", "solved"])
def test_an_honest_hand_in_becomes_what_stock_nbgrader_makes_of_it(coursedir, assignment, name, hand_in):
    source = source_of(coursedir, assignment, name)
    notebook = source.released if hand_in == "released" else solved(source)
    found = reconcile(notebook, source)
    theirs = stock(notebook, coursedir, assignment, name)
    assert found.findings == ()
    assert essence(found.notebook) == essence(theirs)
    assert found.notebook.metadata.kernelspec == theirs.metadata.kernelspec


@pytest.mark.parametrize("student", ["bitdiddle", "hacker"])
@pytest.mark.parametrize("name", ["problem1", "problem2"])
def test_hand_ins_of_nbgraders_example_become_what_stock_makes_of_them(coursedir, student, name):
    source = source_of(coursedir, "ps1", name)
    path = EXAMPLE / "submitted" / student / "ps1" / f"{name}.ipynb"
    handed_in, findings = read_notebook(path)
    found = reconcile(handed_in, source)
    theirs = stock(nbformat.read(path, as_version=4), coursedir, "ps1", name)
    assert findings == ()
    assert {finding.kind for finding in found.findings} <= {"other-release", "cell-changed", "cell-tagged"}
    assert essence(found.notebook) == essence(theirs)


@pytest.mark.parametrize(("assignment", "name"), NOTEBOOKS)
def test_a_hand_in_with_nothing_in_it_becomes_a_notebook_that_nbgrader_accepts(coursedir, assignment, name):
    source = source_of(coursedir, assignment, name)
    for handed_in in (None, nbformat.v4.new_notebook()):
        notebook = reconcile(handed_in, source).notebook
        nbformat.validate(notebook)
        MetadataValidator().validate_nb(notebook)
        assert (
            names(notebook)
            == list(source.order)
            == [name for name in names(source.notebook) if name in source.cells]
        )


@pytest.mark.parametrize(("assignment", "name"), NOTEBOOKS)
def test_every_locked_cell_keeps_nbgraders_checksum(coursedir, assignment, name):
    source = source_of(coursedir, assignment, name)
    cells = reconcile(solved(source), source).notebook.cells
    locked = [cell for cell in cells if grader(cell) and source.cells[grader(cell)["grade_id"]].locked]
    assert [utils.compute_checksum(cell) for cell in locked] == [grader(cell)["checksum"] for cell in locked]


def test_an_untouched_written_answer_still_counts_as_no_response(source):
    cells = reconcile(source.released, source).notebook.cells
    assert [utils.determine_grade(cells[position])[0] for position in written(cells)] == [0, 0]


def test_a_written_answer_still_waits_for_a_person(source, valid):
    cells = reconcile(valid, source).notebook.cells
    assert [utils.determine_grade(cells[position])[0] for position in written(cells)] == [None, None]


def test_a_deleted_written_answer_waits_for_a_person_too(source, valid):
    del valid.cells[written(valid.cells)[0]]
    cells = reconcile(valid, source).notebook.cells
    assert utils.determine_grade(cells[written(cells)[0]])[0] is None


# ---- What stays of a hand-in


def test_outputs_and_metadata_of_the_students_own_cells_are_dropped(source, valid):
    cell = own(valid.cells)
    cell.outputs = [nbformat.v4.new_output("stream", text="hello")]
    cell.metadata.update(tags=["skip-execution"], jupyter={"source_hidden": True})
    cell = own(reconcile(valid, source).notebook.cells)
    assert (cell.outputs, cell.metadata) == ([], {})


def test_tags_that_the_student_put_on_a_test_do_not_survive(source, valid):
    valid.cells[checks(valid.cells)[0]].metadata.tags = ["skip-execution"]
    cells = reconcile(valid, source).notebook.cells
    assert "tags" not in cells[checks(cells)[0]].metadata


def test_tags_of_the_release_survive(source, valid):
    released = copy.deepcopy(source.released)
    released.cells[checks(released.cells)[0]].metadata.tags = ["remove-input"]
    cells = reconcile(valid, dataclasses.replace(source, released=released)).notebook.cells
    assert cells[checks(cells)[0]].metadata.tags == ["remove-input"]


def test_an_image_in_a_written_answer_stays(source, valid):
    image = {"plot.png": {"image/png": "iVBORw0KGgo="}}
    valid.cells[written(valid.cells)[0]].attachments = image
    cells = reconcile(valid, source).notebook.cells
    assert cells[written(cells)[0]].attachments == image


def test_the_hand_in_itself_is_not_changed(source, valid):
    valid.cells.append(copy.deepcopy(valid.cells[answers(valid.cells)[0]]))
    before = copy.deepcopy(valid)
    reconcile(valid, source)
    assert valid == before


def test_cell_ids_are_unique_where_the_student_took_one_of_the_release(source, valid):
    del valid.cells[setup(valid.cells)]
    own(valid.cells)["id"] = source.order[3]
    notebook = reconcile(valid, source).notebook
    nbformat.validate(notebook)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


# ---- Hidden tests


@pytest.fixture(scope="module")
def hidden(source) -> Source:
    """The source with a secret line in the first test, as a gradebook holds it."""
    name = next(cell.name for cell in source.cells.values() if cell.test)
    text = f"{source.cells[name].source}\n### BEGIN HIDDEN TESTS\nassert SECRET == 3\n### END HIDDEN TESTS"
    cell = dataclasses.replace(source.cells[name], source=text)
    return dataclasses.replace(source, cells={**source.cells, name: cell})


def test_hidden_tests_run_and_are_no_finding(hidden, valid):
    found = reconcile(valid, hidden)
    assert sum("SECRET" in text for text in code(found.notebook)) == 1
    assert found.findings == ()


def test_an_edited_test_is_found_without_quoting_what_is_hidden(hidden, valid):
    for position in checks(valid.cells):
        valid.cells[position].source = "print('mine')"
    findings = reconcile(valid, hidden).findings
    assert {finding.kind for finding in findings} == {"cell-changed"}
    assert all(finding.stage == "release" and not finding.review for finding in findings)
    assert not any(word in finding.message for finding in findings for word in ("SECRET", "HIDDEN", "mine"))


def test_without_the_release_nothing_is_said_about_the_text_of_a_test(hidden, valid):
    found = reconcile(valid, dataclasses.replace(hidden, released=None))
    assert found.findings == ()
    assert sum("SECRET" in text for text in code(found.notebook)) == 1


def test_without_the_release_an_honest_hand_in_has_no_findings(coursedir):
    source = source_of(coursedir, "ps1", "problem1")
    assert reconcile(solved(source), dataclasses.replace(source, released=None)).findings == ()


def test_without_the_source_notebook_order_comes_from_the_release(source, valid):
    bare = dataclasses.replace(source, notebook=nbformat.v4.new_notebook())
    assert bare.order == source.order
    assert graded(reconcile(valid, bare).notebook) == graded(reconcile(valid, source).notebook)


# ---- Deleted, doubled, moved


def test_a_deleted_test_runs_after_the_code_that_a_student_put_below_the_answer(source, valid):
    position = checks(valid.cells)[0]
    name = grader(valid.cells[position])["grade_id"]
    valid.cells[position] = nbformat.v4.new_code_cell("second_half = 1")
    order = names(reconcile(valid, source).notebook)
    assert order[order.index("second_half = 1") + 1] == name


def test_a_deleted_setup_runs_before_all_code(source, valid):
    del valid.cells[setup(valid.cells)]
    valid.cells.insert(0, nbformat.v4.new_code_cell("early = 1"))
    order = names(reconcile(valid, source).notebook)
    assert order.index("setup") < order.index("early = 1")


def test_a_deleted_answer_becomes_an_empty_cell_before_its_test(source, valid):
    name = grader(valid.cells[answers(valid.cells)[0]])["grade_id"]
    del valid.cells[answers(valid.cells)[0]]
    notebook = reconcile(valid, source).notebook
    (cell,) = (cell for cell in notebook.cells if grader(cell).get("grade_id") == name)
    assert cell.source == ""
    assert names(notebook).index(name) < names(notebook).index(f"test-{name}")


def test_a_stub_that_was_pasted_below_the_answer_does_not_undo_it(source, valid):
    position = answers(valid.cells)[0]
    name = grader(valid.cells[position])["grade_id"]
    stub = copy.deepcopy(source.given[name])
    stub["id"] = "pasted"
    valid.cells.insert(position + 1, stub)
    found = reconcile(valid, source)
    assert kinds(found) == ["cell-duplicated"]
    assert stub.source not in code(found.notebook)


def test_of_a_doubled_answer_all_copies_run_and_the_last_is_graded(source, valid):
    position = answers(valid.cells)[0]
    first, second = "attempt = 1", "attempt = 2"
    twin = copy.deepcopy(valid.cells[position])
    valid.cells[position].source, twin.source, twin["id"] = first, second, "twin"
    valid.cells.insert(position + 1, twin)
    cells = reconcile(valid, source).notebook.cells
    assert [cell.source for cell in cells if "attempt" in cell.source] == [first, second]
    assert cells[answers(cells)[0]].source == second


def test_no_test_runs_before_its_answer_when_blocks_are_moved(source, valid):
    cells = valid.cells
    block = [cells.pop(answers(cells)[-1]), cells.pop(checks(cells)[-1])]
    valid.cells = [*block, *cells]
    found = reconcile(valid, source)
    order = [name for name in names(found.notebook) if name in source.cells]
    tests = [(f"test-{name}", name) for name in order if f"test-{name}" in order]
    assert kinds(found) == ["cells-moved"]
    assert all(order.index(answer) < order.index(test) for test, answer in tests)
    assert order[0] == "setup"


def test_an_answer_written_into_the_text_of_a_task_is_kept_below_it(source, valid):
    position = tasks(valid.cells)[0]
    name = grader(valid.cells[position])["grade_id"]
    valid.cells[position].source += "\n\nMy answer is 42."
    cells = reconcile(valid, source).notebook.cells
    place = names(reconcile(valid, source).notebook).index(name)
    assert cells[place].source == source.cells[name].source
    assert (cells[place + 1].source, grader(cells[place + 1])) == ("My answer is 42.", {})


def test_an_answer_merged_into_a_locked_cell_is_taken_out_of_it(source, valid):
    position = answers(valid.cells)[0]
    text = valid.cells.pop(position).source
    valid.cells[setup(valid.cells)].source += f"\n\n{text}"
    cells = reconcile(valid, source).notebook.cells
    assert cells[answers(cells)[0]].source == text
    assert code(NotebookNode(cells=cells)).count(text) == 1


def test_a_notebook_without_any_marks_is_recognised_by_its_text(source, valid):
    for position, cell in enumerate(valid.cells):
        cell.metadata, cell["id"] = NotebookNode(), f"new-{position}"
    whole = graded(reconcile(solved(source), source).notebook)
    found = reconcile(valid, source)
    assert graded(found.notebook) == whole
    assert set(kinds(found)) == {"cell-recovered"}


def test_swapped_grade_ids_without_cell_ids_still_run_everything(source, valid):
    one, two = (grader(valid.cells[position]) for position in answers(valid.cells)[:2])
    one["grade_id"], two["grade_id"] = two["grade_id"], one["grade_id"]
    for position, cell in enumerate(valid.cells):
        cell["id"] = f"new-{position}"
    texts = code(reconcile(valid, source).notebook)
    assert set(code(solved(source))) <= set(texts)


# ---- Excess


def test_answers_beyond_the_largest_number_of_cells_still_count(source, valid):
    whole = graded(reconcile(valid, source).notebook)
    valid.cells[:0] = [nbformat.v4.new_code_cell(f"# {number}") for number in range(MAX_CELLS)]
    found = reconcile(valid, source)
    assert graded(found.notebook) == whole
    assert [(finding.kind, finding.review) for finding in found.findings] == [("too-many-cells", True)]


def test_findings_name_the_cell_that_they_are_about(source, valid):
    position = checks(valid.cells)[0]
    name = grader(valid.cells[position])["grade_id"]
    del valid.cells[position]
    (finding,) = reconcile(valid, source).findings
    assert (finding.kind, finding.cell) == ("cell-deleted", name)
    assert finding.message == f"The cell {name} was missing and was put back."


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_any_cells_may_be_missing_doubled_or_shuffled(source, rng, share):
    """Whatever is done to the cells, every cell of the source is there once, and tests follow answers."""
    for _ in range(20):
        notebook = solved(source)
        cells = [copy.deepcopy(cell) for cell in notebook.cells for _ in range(rng.choice([0, 1, 1, 1, 2]))]
        for cell in cells:
            if rng.random() < share:
                cell.metadata = NotebookNode()
            if rng.random() < share:
                cell.source = "pass"
            if rng.random() < share:
                cell["id"] = f"changed-{rng.integers(1000)}"
        if rng.random() < share:
            rng.shuffle(cells)
        notebook.cells = cells
        found = reconcile(notebook, source).notebook
        nbformat.validate(found)
        order = [name for name in names(found) if name in source.cells]
        assert sorted(order) == sorted(source.order)
        assert all(order.index(n) < order.index(f"test-{n}") for n in order if f"test-{n}" in order)
