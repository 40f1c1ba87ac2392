"""One text becomes two notebooks: its format, what it refuses, and that the committed files come from it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from coursekit import authoring, checks
from coursekit.cli import main

ROOT = Path(__file__).parents[1]

MINI = '''\
# %% [markdown]
# # A small assignment

# %% locked="setup"
import numpy as np

from coursekit import checks

# %% [markdown]
# The rectifier.

# %% solution="detector"
def detector(u, slope):
    """Leaky rectifier."""
    ### BEGIN SOLUTION
    return np.where(u > 0, u, slope * u)
    ### END SOLUTION

# %% check="test-detector"
checks.pooling.detector_forward(detector)

# %% [markdown] written="why-leaky" points=3
# Why leaky?
#
# ### BEGIN SOLUTION
# Because a unit that is off still has a gradient.
# ### END SOLUTION

# %% [markdown] task="try-it" points=2
# Try three slopes.
#
# === BEGIN MARK SCHEME ===
# Two points for any three slopes with a plot.
# === END MARK SCHEME ===
'''


def write(root: Path, text: str, slug: str = "mini") -> Path:
    path = root / "solutions" / f"{slug}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A course whose one assignment is MINI, released."""
    root = tmp_path_factory.mktemp("course")
    write(root, MINI)
    assert authoring.release("mini", root) == []
    return root


def cells(path: Path) -> dict[str, nbformat.NotebookNode]:
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


# ---- The format


def test_a_cell_has_its_grade_id_or_a_place_after_one(tmp_path):
    ids = [cell.id for cell in authoring.parse(write(tmp_path, MINI)).cells]
    assert ids == ["start--1", "setup", "setup--1", "detector", "test-detector", "why-leaky", "try-it"]


def test_a_check_cell_has_the_points_of_its_check(tmp_path):
    cell = authoring.parse(write(tmp_path, MINI)).cells[4]
    assert cell.metadata.nbgrader.points == checks.pooling.detector_forward.points


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("# %% [markdown]\n# # A", "# # A", 1, "the first line must be a cell marker"),
        ('locked="setup"', 'lock="setup"', 4, "a cell has one role of locked, solution, .*; found lock"),
        ('locked="setup"', 'locked="setup" check="a"', 4, "a cell has one role .* found locked, check"),
        ('locked="setup"', 'locked="Set up"', 4, "locked='Set up' is no grade id"),
        ('locked="setup"', 'locked="detector"', 12, "the grade id 'detector' is used twice"),
        ('locked="setup"', 'locked="setup" points=1', 4, "locked= is not graded, so it has no points"),
        ('[markdown] written="why-leaky"', 'written="why-leaky"', 22, "must be a markdown cell"),
        ('"why-leaky" points=3', '"why-leaky"', 22, "written= needs points=<a positive integer>"),
        ('"test-detector"', '"test-detector" points=1', 19, "the points of a check stand in the check"),
        ("(detector)\n", "(detector);\nprint()\n", 19, "a check cell holds one call"),
        ("checks.pooling.det", "checks.pooling.bed", 19, "has no attribute 'bedector_forward'"),
        ("checks.pooling.det", "checks.puddling.det", 19, "No module named 'coursekit.checks.puddling'"),
        ("    ### END SOLUTION\n", "", 12, "needs BEGIN SOLUTION and END SOLUTION, in this order"),
        ('solution="detector"', 'locked="detector"', 12, "BEGIN SOLUTION in a cell that has no such region"),
        ("# The rectifier.", "# === BEGIN MARK SCHEME", 9, "BEGIN MARK SCHEME in a cell that has no"),
    ],
)
def test_an_error_in_the_text_names_file_and_line(tmp_path, old, new, line, message):
    path = write(tmp_path, MINI.replace(old, new, 1))
    with pytest.raises(authoring.SourceError, match=f"^{re.escape(str(path))}:{line}: .*{message}"):
        authoring.parse(path)


# ---- The notebooks


def test_the_source_notebook_holds_solutions_and_outputs(course):
    source = cells(course / "solutions/mini/mini.ipynb")
    assert "np.where" in source["detector"].source
    report, score = source["test-detector"].outputs
    points = checks.pooling.detector_forward.points
    assert report.text.startswith(f"pooling.detector_forward: {points} of {points} points")
    assert score.data["text/plain"] == str(points)


def test_the_student_notebook_holds_stubs_and_no_outputs(course):
    released = cells(course / "exercises/mini/mini.ipynb")
    _, docstring, *stub = released["detector"].source.splitlines()
    assert docstring == '    """Leaky rectifier."""'
    assert stub == ["    # Write your code here, in place of the next line.", "    raise NotImplementedError"]
    assert released["why-leaky"].source == "Why leaky?\n\n*Your answer here.*"
    assert released["try-it"].source.strip() == "Try three slopes."
    assert not any(cell.get("outputs") for cell in released.values())


def test_a_student_cannot_edit_given_code_and_checks(course):
    released = cells(course / "exercises/mini/mini.ipynb")
    assert [name for name, cell in released.items() if cell.metadata.get("editable") is False] == [
        "setup",
        "test-detector",
        "try-it",
    ]


def test_making_the_notebooks_again_gives_the_same_bytes(course):
    assert authoring.check("mini", course) == []


def test_outputs_that_differ_between_machines_are_not_stored():
    cell = nbformat.v4.new_code_cell(
        outputs=[
            nbformat.v4.new_output("stream", name="stdout", text="7"),
            nbformat.v4.new_output("stream", name="stderr", text="a warning"),
            nbformat.v4.new_output("stream", name="stdout", text=" and 8"),
            nbformat.v4.new_output("display_data", data={"image/png": "iVBOR", "text/plain": "<Figure>"}),
        ]
    )
    timed = nbformat.v4.new_code_cell(outputs=cell.outputs, metadata={"tags": ["nbval-ignore-output"]})
    notebook = nbformat.v4.new_notebook(cells=[cell, timed])
    authoring.keep_comparable_outputs(notebook)
    printed, figure = cell.outputs
    assert printed.text == "7 and 8"
    assert figure.data == {"text/plain": "<Figure>"}
    assert timed.outputs == []


def test_check_tells_everything_that_is_wrong(tmp_path):
    wrong = MINI.replace("np.where(u > 0", "np.where(u > 1")
    write(tmp_path, wrong.replace("# %% [markdown]\n# The rectifier.", FREE_POINTS))
    (tmp_path / "exercises/mini").mkdir(parents=True)
    (tmp_path / "exercises/mini/notes.txt").touch()
    problems = "\n".join(authoring.check("mini", tmp_path))
    assert re.search(r"test-detector: the solution earns \S+ of \d+ points", problems)
    assert re.search(r"test-free: the untouched release earns \d+ points", problems)
    assert "solutions/mini/mini.ipynb is missing; run: coursekit release" in problems
    assert "exercises/mini/notes.txt does not belong there: nbgrader would hand it out" in problems


FREE_POINTS = '''\
# %% solution="free"
def free(u, slope):
    ### BEGIN SOLUTION
    raise NotImplementedError
    ### END SOLUTION


def free(u, slope):
    return np.where(u > 0, u, slope * u)

# %% check="test-free"
checks.pooling.detector_forward(free)'''


def test_a_stale_notebook_is_shown_as_a_difference(course):
    path = course / "exercises/mini/mini.ipynb"
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace("Why leaky?", "Why so leaky?"), encoding="utf-8")
        (problem,) = authoring.check("mini", course)
    finally:
        path.write_text(text, encoding="utf-8")
    assert problem.startswith("exercises/mini/mini.ipynb is out of date; run: coursekit release")
    assert '-    "Why so leaky?\\n",\n+    "Why leaky?\\n",' in problem


def test_the_command_line_fails_with_the_reason(tmp_path, monkeypatch, capsys):
    write(tmp_path, "x = 1\n")
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 1
    assert "mini.py:1: the first line must be a cell marker" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["release", "check", "demo"])
def test_a_command_outside_of_a_course_fails_and_leaves_nothing(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 1
    assert "run this at the root of the course" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["minni", "Mini"])
def test_a_misspelt_assignment_is_told_from_those_that_exist(tmp_path, monkeypatch, capsys, name):
    write(tmp_path, MINI)
    monkeypatch.chdir(tmp_path)
    assert main(["check", name]) == 1
    assert capsys.readouterr().out == f"{name}: not one of mini\n"


def test_a_release_with_a_wrong_solution_writes_nothing(tmp_path, monkeypatch, capsys):
    write(tmp_path, MINI.replace("np.where(u > 0", "np.where(u > 1"))
    monkeypatch.chdir(tmp_path)
    assert main(["release", "mini"]) == 1
    assert "mini: test-detector: the solution earns" in capsys.readouterr().out
    assert not (tmp_path / "solutions/mini").exists()


# ---- The course's own assignments


@pytest.mark.parametrize("slug", authoring.slugs(ROOT))
def test_an_assignment_of_the_course_is_in_order(slug):
    assert authoring.check(slug, ROOT) == []


@pytest.mark.parametrize("slug", authoring.slugs(ROOT))
def test_no_line_of_a_solution_reaches_the_students(slug):
    source = [cell.source for cell in cells(ROOT / f"solutions/{slug}/{slug}.ipynb").values()]
    region = re.compile(r"^[^\n]*BEGIN (SOLUTION|MARK SCHEME).*?END \1[^\n]*$", re.DOTALL | re.MULTILINE)
    public = {line.strip() for text in source for line in region.sub("", text).splitlines()}
    regions = [match[0] for text in source for match in region.finditer(text)]
    secret = {line.strip() for text in regions for line in text.splitlines()}
    telling = {line for line in secret - public if len(line) >= 12}
    released = "\n".join(cell.source for cell in cells(ROOT / f"exercises/{slug}/{slug}.ipynb").values())
    assert telling
    assert [line for line in telling if line in released] == []
