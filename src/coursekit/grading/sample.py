"""A small course to try the grader on, with a terminal for it: what the instructors' pages show.

>>> with Course() as course:
...     path = course.hand_in("ada")
...     path.relative_to(course.folder).as_posix()
'submitted/ada/means/means.ipynb'
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbformat import NotebookNode

__all__ = ["CELLS", "CONFIG", "SLUG", "Course", "notebook"]

SLUG = "means"
CONFIG = """\
from coursekit.grading import configure

c = get_config()
configure(c)
"""
# Role, grade id, points and text of each cell of the source notebook.
CELLS = [
    ("locked", "setup", 0, "import numpy as np"),
    (
        "solution", "column-means", 0,
        "def column_means(x):\n    ### BEGIN SOLUTION\n    return x.mean(axis=0)\n    ### END SOLUTION",
    ),
    (
        "test", "test-column-means", 2,
        "x = np.array([[1.0, 3.0], [3.0, 5.0]])\nassert np.allclose(column_means(x), [2, 4])\n"
        "### BEGIN HIDDEN TESTS\n"
        "assert np.shape(column_means(np.ones((2, 3)))) == (3,), 'one mean for each column'\n"
        "### END HIDDEN TESTS",
    ),
    (
        "solution", "smooth", 0,
        "def smooth(x, width):\n    ### BEGIN SOLUTION\n    kernel = np.full(width, 1 / width)\n"
        "    return np.convolve(x, kernel, mode='valid')\n    ### END SOLUTION",
    ),
    (
        "test", "test-smooth", 4,
        "points = 0\ny = smooth(np.arange(6.0), 3)\npoints += 1 * (len(y) == 4)\n"
        "points += 3 * np.allclose(y, [1, 2, 3, 4])\npoints",
    ),
    (
        "written", "why", 2,
        "What does smoothing do to noise?\n\n### BEGIN SOLUTION\nIt averages it away.\n### END SOLUTION",
    ),
]  # fmt: skip
RIGHT = {
    "column-means": "def column_means(x):\n    return x.sum(axis=0) / len(x)",
    "smooth": "def smooth(x, width):\n    steps = len(x) - width + 1\n"
    "    return np.array([x[i : i + width].mean() for i in range(steps)])",
    "why": "It averages the noise away.",
}


def notebook(cells: Iterable[tuple[str, str, float, str]], tags: Sequence[str] = ()) -> NotebookNode:
    """An instructor's notebook: role, grade id, points and text of each cell.

    A role is "locked", "solution", "test" or "written".   tags: of every cell.
    """
    made = [_cell(*cell, tags) for cell in cells]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel})


def _cell(role: str, name: str, points: float, text: str, tags: Sequence[str]) -> NotebookNode:
    mark = {
        "schema_version": 3, "grade_id": name, "grade": role in ("test", "written"),
        "solution": role in ("solution", "written"), "locked": role in ("test", "locked"), "task": False,
    }  # fmt: skip
    new = nbformat.v4.new_markdown_cell if role == "written" else nbformat.v4.new_code_cell
    metadata = {"nbgrader": mark | ({"points": points} if points else {}), "tags": list(tags)}
    return new(text, metadata=metadata, id=name)


class Course:
    """A course in a folder that is removed in the end; a context manager.

    config: what `nbgrader_config.py` says after its first lines.
    """

    def __init__(self, config: str = "") -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="course-")
        self.folder = Path(self._temporary.name)
        self.configure(config)
        self.write(notebook(CELLS))

    def __enter__(self) -> Course:
        return self

    def __exit__(self, *exception: object) -> None:
        self._temporary.cleanup()

    def configure(self, lines: str) -> None:
        """Let the configuration say this after its first lines."""
        (self.folder / "nbgrader_config.py").write_text(CONFIG + lines, encoding="utf-8")

    def write(self, source: NotebookNode) -> None:
        """Make a notebook the assignment's source."""
        path = self.folder / "solutions" / SLUG / f"{SLUG}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(source, path)

    def hand_in(
        self, student: str, *, name: str = f"{SLUG}.ipynb", time: str = "", **answers: str
    ) -> Path:
        """Hand in as a student: right, but for the answers that are given (`_` for the grade id's `-`).

        What was released is filled in; before the release, the source.   time: when that was.
        """
        released = self.folder / "exercises" / SLUG / f"{SLUG}.ipynb"
        made = nbformat.read(released, as_version=4) if released.exists() else notebook(CELLS)
        texts = RIGHT | {key.replace("_", "-"): text for key, text in answers.items()}
        for cell in made.cells:
            cell.source = texts.get(cell.id, cell.source)
        path = self.folder / "submitted" / student / SLUG / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(made, path)
        if time:
            (path.parent / "timestamp.txt").write_text(time, encoding="utf-8")
        return path

    def run(self, line: str) -> str:
        """What a command of this environment prints when it is run at the course's root.

        The course's folder is shown as `course`.
        """
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        program, *arguments = shlex.split(line)
        done = subprocess.run(
            [sys.executable, "-m", program, *arguments], cwd=self.folder, env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        )  # fmt: skip
        said = re.sub(rf"(/private)?{re.escape(str(self.folder))}", "course", done.stdout)
        return said + (f"[exit status {done.returncode}]\n" if done.returncode else "")

    def show(self, line: str, *parts: str) -> None:
        """Print a command and what it prints; of several paragraphs, those that begin with these words."""
        said = self.run(line)
        if parts:
            kept = [part for part in re.split(r"\n{2,}", said) if part.lstrip().startswith(parts)]
            said = "\n\n".join([part.strip("\n") for part in kept]) + "\n"
        print(f"$ {line}\n{said}", end="")
