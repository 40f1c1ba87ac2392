"""A small made-up class, graded with nbgrader's own commands: `coursekit demo`.

The class lives in a course folder of its own, with its own gradebook.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nbformat
from nbgrader.api import Gradebook
from nbgrader.utils import is_solution, rmtree

from coursekit.checks.engine.report import MIME as SCORE_MIME
from coursekit.grading.mistakes import MISTAKES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from nbformat import NotebookNode

__all__ = ["Grade", "add_commands", "grades", "hand_ins", "make_course", "nbgrader", "run"]

MARKER = ".coursekit-demo"  # a folder that carries it is ours to empty


class Grade(NamedTuple):
    """What one student earned automatically in one assignment, and what the feedback named."""

    student: str
    points: float
    maximum: float
    named: tuple[str, ...]


# ---------------------------------------------------------------------------------------------------
# The class


def hand_ins(slug: str, course: Path) -> dict[str, NotebookNode]:
    """Notebooks that a small class hands in, by student: right, unfinished, mistaken, broken, endless."""
    released = nbformat.read(course / "exercises" / slug / f"{slug}.ipynb", as_version=4)
    solved = nbformat.read(course / "solutions" / slug / f"{slug}.ipynb", as_version=4)
    answers = {_grade_id(cell): _without_markers(cell.source) for cell in solved.cells if is_solution(cell)}
    stubs = {_grade_id(cell): cell.source for cell in released.cells if is_solution(cell)}
    first, *_, last = [name for name, stub in stubs.items() if "raise NotImplementedError" in stub]
    sources = {
        "full": answers,
        "half": dict(list(answers.items())[: len(answers) // 2]),
        "empty": {},
        "raises": answers | {first: f"import nmupy\n\n{answers[first]}"},
        "loops": answers | {last: stubs[last].replace("raise NotImplementedError", "while True: pass")},
        **{name: answers | _mistaken(answers, *patch) for name, patch in MISTAKES.get(slug, {}).items()},
    }
    return {student: _filled_in(released, cells) for student, cells in sources.items()}


def _mistaken(answers: Mapping[str, str], grade_id: str, right: str, wrong: str) -> dict[str, str]:
    if answers[grade_id].count(right) != 1:
        raise ValueError(f"the solution of {grade_id!r} does not hold exactly one {right!r}")
    return {grade_id: answers[grade_id].replace(right, wrong)}


def _filled_in(released: NotebookNode, sources: Mapping[str, str]) -> NotebookNode:
    notebook = nbformat.from_dict(released)
    for cell in notebook.cells:
        cell.source = sources.get(_grade_id(cell), cell.source)
    return notebook


def _grade_id(cell: NotebookNode) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _without_markers(source: str) -> str:
    return re.sub(r"^.*(BEGIN|END) SOLUTION.*\n?", "", source, flags=re.MULTILINE)


# ---------------------------------------------------------------------------------------------------
# The round trip


def make_course(root: Path, folder: Path, slugs: Iterable[str]) -> None:
    """Set up a course folder with the source notebooks and the nbgrader configuration of `root`.

    Raises FileExistsError rather than empty a folder that it did not make itself.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise FileExistsError(f"{folder} holds something else; name an empty folder")
    if folder.exists():
        rmtree(folder)  # nbgrader's: on Windows the graded notebooks, made read-only, need it
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    shutil.copy(root / "nbgrader_config.py", folder)
    for slug in slugs:
        (folder / "solutions" / slug).mkdir(parents=True)
        shutil.copy(root / "solutions" / slug / f"{slug}.ipynb", folder / "solutions" / slug)


def submit(notebooks: Mapping[str, NotebookNode], slug: str, course: Path) -> None:
    """Lay hand-ins where nbgrader looks for them."""
    for student, notebook in notebooks.items():
        folder = course / "submitted" / student / slug
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{slug}.ipynb")


def nbgrader(course: Path, *arguments: str) -> str:
    """Run one of nbgrader's commands at the root of a course; RuntimeError with its log if it fails."""
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, "PYTHONUTF8": "1"}  # on Windows too
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{' '.join(['nbgrader', *arguments])} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def run(root: Path, folder: Path, slugs: Sequence[str]) -> None:
    """Make the class, grade it with nbgrader's commands, print its grades and where everything lies."""
    make_course(root, folder, slugs)
    for slug in slugs:
        nbgrader(folder, "generate_assignment", slug)
        class_ = hand_ins(slug, folder)
        submit(class_, slug, folder)
        print(f"{slug}: {len(class_)} hand-ins to grade", flush=True)
        # A loop outside of a check lasts until its cell is stopped.
        nbgrader(folder, "autograde", slug, "--Execute.timeout=10")
        nbgrader(folder, "generate_feedback", slug)
        print(table(slug, grades(slug, folder)), end="\n\n", flush=True)
    nbgrader(folder, "export")
    print(f"grades    {folder / 'grades.csv'}")
    print(f"feedback  {folder / 'feedback' / '<student>' / '<assignment>' / '<assignment>.html'}")
    print(f"summary   {folder / '_build' / 'grading' / '<assignment>' / 'summary.html'}")


# ---------------------------------------------------------------------------------------------------
# The grades


def grades(slug: str, course: Path) -> list[Grade]:
    """Every student's automatic points in an assignment, from the gradebook, best first."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        found = [
            (submission.student.id, submission.code_score, submission.max_code_score)
            for submission in gradebook.find_assignment(slug).submissions
        ]
    rows = [Grade(student, *points, _named(student, slug, course)) for student, *points in found]
    return sorted(rows, key=lambda row: (-row.points, row.student))


def _named(student: str, slug: str, course: Path) -> tuple[str, ...]:
    """What a graded notebook says of its mistakes: the misconceptions, else what went wrong first."""
    notebook = nbformat.read(course / "autograded" / student / slug / f"{slug}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    records = [output.data[SCORE_MIME] for output in outputs if SCORE_MIME in output.get("data", {})]
    misconceptions = [name for record in records for name in record["misconceptions"]]
    errors = [f"{out.ename} {out.evalue}".strip() for out in outputs if out.output_type == "error"]
    problems = [outcome["problem"] for record in records for outcome in record["outcomes"]]
    return tuple(dict.fromkeys(misconceptions or errors[:1] or list(filter(None, problems))[:1]))


def table(slug: str, rows: Iterable[Grade]) -> str:
    """The grades as text: one line a student."""
    lines = [f"{slug:<26}  points   the feedback named"]
    for row in rows:
        lines.append(f"  {row.student:<24}{row.points:>4g} /{row.maximum:>3g}   {', '.join(row.named)}")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------
# Command


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `demo` to a command line."""
    text = "grade a small made-up class with nbgrader's commands"
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where the class is made (./demo)")
    parser.set_defaults(run=lambda options: _demo(Path.cwd(), options.folder.absolute()))


def _demo(root: Path, folder: Path) -> int:
    slugs = sorted(path.parent.name for path in root.glob("solutions/*/*.ipynb"))
    if not slugs:
        print(f"{root} holds no solutions/*/*.ipynb; run this at the root of the course")
        return 1
    try:
        run(root, folder, slugs)
    except FileExistsError as error:
        print(error)
        return 1
    return 0
