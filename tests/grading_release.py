"""Assignments released by stock nbgrader in a folder of their own, and what a grader knows of them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import nbformat
import nbgrader
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from coursekit.grading import configure
from coursekit.grading.handin.reconcile import Source, SourceCell

ROOT = Path(__file__).parents[1]
SLUGS = ("conv", "pooling", "equivariance")
EXAMPLE = Path(nbgrader.__file__).parent / "docs" / "source" / "user_guide"  # nbgrader's own course


def course_directory(root: Path) -> CourseDirectory:
    config = Config()
    configure(config)
    return CourseDirectory(root=str(root), config=config)


def release(root: Path, assignments: Iterable[str]) -> CourseDirectory:
    """Release some of this course's assignments, or nbgrader's example `ps1`, in an empty folder."""
    for assignment in assignments:
        folder = EXAMPLE / "source" if assignment == "ps1" else ROOT / "solutions"
        shutil.copytree(folder / assignment, root / "solutions" / assignment)
    coursedir = course_directory(root)
    coursedir.log.setLevel(logging.CRITICAL)
    api = NbGraderAPI(coursedir, parent=None, config=coursedir.config)
    for assignment in assignments:
        done = api.generate_assignment(assignment)
        assert done["success"], done["log"]
    return coursedir


def source_of(coursedir: CourseDirectory, assignment: str, name: str) -> Source:
    """What stock nbgrader's gradebook and folders hold of a notebook."""
    paths = [
        Path(coursedir.format_path(step, ".", assignment)) / f"{name}.ipynb"
        for step in (coursedir.source_directory, coursedir.release_directory)
    ]
    made, given = (nbformat.read(path, as_version=4) for path in paths)
    with Gradebook(coursedir.db_url) as gradebook:
        notebook = gradebook.find_notebook(name, assignment)
        grades = {cell.name: cell.max_score for cell in notebook.grade_cells}
        tasks = {cell.name: cell.max_score for cell in notebook.task_cells}
        solutions = {cell.name for cell in notebook.solution_cells}
        cells = {
            cell.name: SourceCell(
                name=cell.name,
                cell_type=cell.cell_type,
                source=cell.source,
                locked=cell.locked,
                grade=cell.name in grades,
                solution=cell.name in solutions,
                task=cell.name in tasks,
                points=grades.get(cell.name, tasks.get(cell.name)),
                checksum=cell.checksum,
            )
            for cell in notebook.source_cells
        }
        return Source(made, given, cells, json.loads(notebook.kernelspec))


def solved(source: Source) -> NotebookNode:
    """A valid hand-in: every answer as the instructor's, and one cell of the student's own."""
    notebook = nbformat.from_dict(source.released)
    answers = {name: cell.source for name, cell in source.made.items() if source.cells[name].solution}
    for cell in notebook.cells:
        cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    notebook.cells.insert(1, nbformat.v4.new_code_cell("my_notes = 'remember the stride'", id="my-notes"))
    return notebook
