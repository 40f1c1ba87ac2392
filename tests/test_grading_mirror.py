"""The public mirror holds what students need, and nothing of the solutions in any writing."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from coursekit.grading.mirror import MirrorError, mirror

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git")

CODE = 'rows = "-".join(str(size // stride + 1) for size in shape)'
TEST = "assert windows((7, 9), 2) == '4-5', 'count from the front'"
SCHEME = "2 points for a comparison of both ways, and one more for the sentence on rounding errors."
STUB = "def windows(shape, stride):\n    raise NotImplementedError"
TEXT = f"""# %% [markdown]
# # Windows that fit into a shape of any size
# %% solution="windows"
def windows(shape, stride):
    ### BEGIN SOLUTION
    {CODE}
    return rows
    ### END SOLUTION
# %% check="test"
### BEGIN HIDDEN TESTS
{TEST}
### END HIDDEN TESTS
# %% [markdown] task="compare"
# Compare.
# === BEGIN MARK SCHEME ===
# - {SCHEME}
# === END MARK SCHEME ===
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=author", "-c", "user.email=author@course.example"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, check=True, encoding="utf-8"
    )
    return done.stdout


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def course(tmp_path) -> Path:
    """A small course under git, with history."""
    root = tmp_path / "course"
    files = {
        "README.md": "# A course",
        "chapters/index.md": "# A chapter on shapes",
        "src/coursekit/shapes.py": "def steps(size, stride):\n    return size // stride + 1\n",
        "tests/test_shapes.py": "def test_steps(): ...",
        "tests/test_checks_shapes.py": CODE,
        "submitted/ada/windows/windows.ipynb": "{}",
        "feedback/ada/windows/windows.html": "<p>",
        "gradebook.db": "grades",
        "gradebook.db.2026-01-01": "older grades",
        "grades.csv": "ada,3",
        ".env": "TOKEN=1",
        "solutions/windows.py": TEXT,
    }
    for name, text in files.items():
        write(root / name, text)
    given = new_markdown_cell("# Windows that fit into a shape of any size")
    released = new_notebook(cells=[given, new_code_cell(STUB)])
    solved = new_code_cell(
        f"def windows(shape, stride):\n    ### BEGIN SOLUTION\n    {CODE}\n    ### END SOLUTION"
    )
    for folder, notebook in {"exercises": released, "solutions": new_notebook(cells=[given, solved])}.items():
        (root / folder / "windows").mkdir(parents=True)
        nbformat.write(notebook, root / folder / "windows" / "windows.ipynb")
    git(root, "init", "--quiet")
    commit(root)
    return root


def commit(root: Path) -> None:
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--message=state")


def test_students_get_exercises_book_and_library_and_nothing_else(course, tmp_path):
    files = mirror(course, tmp_path / "public")
    kept = ["README.md", "chapters/index.md", "exercises/windows/windows.ipynb", "src/coursekit/shapes.py"]
    kept.append("tests/test_shapes.py")
    assert [path.as_posix() for path in files] == kept
    found = [path for path in (tmp_path / "public").rglob("*") if path.is_file()]
    assert sorted(path.relative_to(tmp_path / "public").as_posix() for path in found) == kept


def test_what_git_does_not_track_is_not_published(course, tmp_path):
    write(course / "notes" / "private.md", "about ada")
    assert not [path for path in mirror(course, tmp_path / "public") if "private" in path.name]


def test_the_mirror_can_be_a_repository_of_one_commit(course, tmp_path):
    write(course / "README.md", "# The course")
    commit(course)
    mirror(course, tmp_path / "public", repository=True)
    assert git(tmp_path / "public", "rev-list", "--all", "--count").strip() == "1"
    assert git(tmp_path / "public", "status", "--porcelain") == ""
    assert "solutions" not in git(tmp_path / "public", "log", "--all", "--stat")


def test_the_mistakes_of_the_demo_are_emptied(course, tmp_path):
    write(course / "src" / "coursekit" / "grading" / "mistakes.py", f"MISTAKES = {{'windows': {CODE!r}}}")
    commit(course)
    mirror(course, tmp_path / "public")
    text = (tmp_path / "public" / "src" / "coursekit" / "grading" / "mistakes.py").read_text(encoding="utf-8")
    names: dict = {}
    exec(text, names)
    assert names["MISTAKES"] == {}


def notebook_with(text: str) -> str:
    cells = [new_code_cell("print(1)", outputs=[new_output("stream", text=text)])]
    return nbformat.writes(new_notebook(cells=cells))


LEAKS = {
    "chapters/page.md": f"```python\n{CODE}\n```",
    "chapters/indented.md": CODE.replace(" ", "   "),
    "chapters/wrapped.md": CODE.replace("for size", "\n        for size"),
    "chapters/quotes.md": CODE.replace('"', "'"),
    "chapters/hidden.md": f"We try {TEST}.",
    "chapters/scheme.md": SCHEME.replace("both ways", "both\n> ways").replace("> ", ""),
    "exercises/windows/more.ipynb": notebook_with(CODE),
    "exercises/windows/repr.ipynb": notebook_with(repr(f"{CODE}\n")),
    "exercises/windows/scheme.ipynb": notebook_with(SCHEME),
    "site/page.html": f"<pre>{html.escape(CODE)}</pre>",
    "data/results.json": json.dumps({"cell": [CODE]}),
    "tests/test_other.py": f"SOURCE = {CODE!r}",
    "data/bytes.bin": f"\0\1{CODE}\2",
    "broken.ipynb": f'{{"cells": [{CODE}',
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_quoted_solution_stops_the_mirror_in_whatever_writing(course, tmp_path, name):
    write(course / name, LEAKS[name])
    commit(course)
    with pytest.raises(MirrorError, match=rf"would give away:\n  {name}: .* of solutions/windows"):
        mirror(course, tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_an_assignment_that_is_not_released_yet_is_private_as_a_whole(course, tmp_path):
    source = new_notebook(cells=[new_markdown_cell("## Task 1: the exam question of this year")])
    (course / "solutions" / "exam").mkdir()
    nbformat.write(source, course / "solutions" / "exam" / "exam.ipynb")
    write(course / "chapters" / "news.md", "The exam question of this year is easy.")
    write(course / "chapters" / "plan.md", "## Task 1: the exam question of this year")
    commit(course)
    with pytest.raises(MirrorError, match="chapters/plan.md"):
        mirror(course, tmp_path / "public")


def test_an_answer_without_marks_is_private_as_a_whole(course, tmp_path):
    role = {
        "grade_id": "w",
        "solution": True,
        "grade": True,
        "locked": False,
        "schema_version": 3,
        "points": 1,
    }
    answer = "Rounding errors grow as the step becomes smaller."
    source = new_notebook(cells=[new_markdown_cell(answer, metadata={"nbgrader": role})])
    nbformat.write(source, course / "solutions" / "windows" / "windows.ipynb")
    write(course / "chapters" / "page.md", answer)
    commit(course)
    with pytest.raises(MirrorError, match=r"chapters/page\.md"):
        mirror(course, tmp_path / "public")


def test_lines_that_the_library_has_too_are_no_secret(course, tmp_path):
    write(course / "src" / "coursekit" / "shapes.py", f"def rows(shape, stride):\n    {CODE}\n")
    write(course / "chapters" / "page.md", CODE)
    commit(course)
    assert mirror(course, tmp_path / "public")


def test_an_archive_cannot_be_looked_into(course, tmp_path):
    (course / "data").mkdir()
    with zipfile.ZipFile(course / "data" / "all.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", CODE)
    commit(course)
    with pytest.raises(MirrorError, match=r"data/all\.whl: an archive"):
        mirror(course, tmp_path / "public")


def test_a_link_is_not_followed(course, tmp_path):
    try:
        (course / "chapters" / "link.py").symlink_to(course / "solutions" / "windows.py")
    except OSError:
        pytest.skip("links cannot be made here")
    commit(course)
    with pytest.raises(MirrorError, match=r"link\.py is a link"):
        mirror(course, tmp_path / "public")


def test_a_target_with_something_in_it_is_refused_and_kept(course, tmp_path):
    write(tmp_path / "public" / "mine.txt", "mine")
    with pytest.raises(MirrorError, match="holds something already; name an empty folder or a new one"):
        mirror(course, tmp_path / "public")
    assert (tmp_path / "public" / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_an_empty_target_is_filled(course, tmp_path):
    (tmp_path / "public").mkdir()
    assert mirror(course, tmp_path / "public")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".mirror")] == []


def test_a_target_inside_of_the_course_is_refused(course):
    with pytest.raises(MirrorError, match="name a folder outside of"):
        mirror(course, course / "public")


def test_a_folder_without_solutions_is_no_course(tmp_path):
    with pytest.raises(MirrorError, match="has no folder solutions; run this at the root of the course"):
        mirror(tmp_path, tmp_path.parent / "public")


def test_a_course_without_git_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "course" / "solutions").mkdir(parents=True)
    with pytest.raises(MirrorError, match=r"git ls-files failed in .*course: .*not a git repository"):
        mirror(tmp_path / "course", tmp_path / "public")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_this_course_has_a_mirror_that_students_can_work_with(tmp_path):
    files = {path.as_posix() for path in mirror(ROOT, tmp_path / "public")}
    exercises = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("exercises/*/*.ipynb")}
    assert exercises <= files
    assert {"_toc.yml", "_config.yml", "pyproject.toml", "src/coursekit/checks/__init__.py"} <= files
    assert not any(name.startswith(("solutions", "submitted", "gradebook")) for name in files)
