"""A small course with hand-ins, and executors that only pretend to run them."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
from grading_notebooks import answered, cell, notebook
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import ComputeChecksums, SaveCells

from coursekit.grading import put_alembic_on_path
from coursekit.grading.engine import Grader
from coursekit.grading.records import CellScore, Job, Result

TASK = "task"
COUNTS = "COURSEKIT_TEST_COUNTS"


def source() -> nbformat.NotebookNode:
    """Two answers, each with a test."""
    made = notebook(
        cell("def add(a, b):\n    return a + b", "solution", "add"),
        cell("assert add(1, 2) == 3", "test", "test-add", 2),
        cell("def half(x):\n    return x / 2", "solution", "half"),
        cell("assert half(3) == 1.5", "test", "test-half", 3),
    )
    return ComputeChecksums().preprocess(made, {})[0]


def make_course(root: Path, names: tuple[str, ...] = (TASK,)) -> CourseDirectory:
    """A course whose assignment `task` has been released, with a notebook of each name."""
    coursedir = CourseDirectory(root=str(root))
    for step in (coursedir.source_directory, coursedir.release_directory):
        (root / step / TASK).mkdir(parents=True)
        for name in names:
            nbformat.write(source(), root / step / TASK / f"{name}.ipynb")
    (root / "gradebook.db").write_bytes(_gradebook(names))
    return coursedir


@functools.cache
def _gradebook(names: tuple[str, ...]) -> bytes:
    """A fresh gradebook with the assignment; nbgrader takes seconds to make one."""
    put_alembic_on_path()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/gradebook.db"
        with Gradebook(url) as gradebook:
            gradebook.update_or_create_assignment(TASK)
        for name in names:
            resources = {"nbgrader": {"notebook": name, "assignment": TASK, "db_url": url}}
            SaveCells().preprocess(source(), resources)
        return Path(folder, "gradebook.db").read_bytes()


def hand_in(root: Path, student: str, add: str = "right", half: str = "right", name: str = TASK) -> Path:
    """Lay a notebook with these two answers where nbgrader looks for it."""
    folder = root / "submitted" / student / TASK
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(answered(source(), {"add": add, "half": half}), folder / f"{name}.ipynb")
    return folder


class Pretender:
    """Gives full points to the answer `right`; other answers ask for a way to fail."""

    closed = False

    def __enter__(self) -> Pretender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed = True

    def run(self, job: Job) -> Result:
        """Count the job, and do what its answers ask for."""
        if not job.student:  # a probe
            return Result("", "", "", job.cells, {})
        count(job)
        answers = {_name(one): one["source"] for one in job.cells["cells"]}
        if answers["add"].startswith("sleep"):
            time.sleep(float(answers["add"].split()[1]))
        elif answers["add"] == "kill the worker":
            os._exit(1)
        elif answers["add"] == "raise":
            raise RuntimeError("the disk is on fire")
        maxima = {"add": 2.0, "half": 3.0}
        scores = {
            f"test-{name}": CellScore(f"test-{name}", POINTS.get(answers[name], maximum), maximum)
            for name, maximum in maxima.items()
            if answers[name] != "no score"
        }
        result = Result(job.student, job.assignment, job.notebook, job.cells, scores, seconds=0.1)
        return GARBAGE.get(answers["add"], lambda result: result)(result)


POINTS = {"wrong": 0.0, "nan": float("nan"), "too many": 9.0, "text": "full marks"}
GARBAGE = {
    "no result": lambda result: {"points": 5},
    "another student": lambda result: replace(result, student="somebody"),
    "other cells": lambda result: replace(result, cells={**result.cells, "cells": result.cells["cells"][1:]}),
    "no cells": lambda result: replace(result, cells=None),
    "odd scores": lambda result: replace(result, scores={"test-add": 2}),
}


def _name(one: Mapping) -> str:
    return one["metadata"].get("nbgrader", {}).get("grade_id", "")


def count(job: Job) -> None:
    """Note in a file that a job was run."""
    if COUNTS in os.environ:
        with open(os.environ[COUNTS], "a", encoding="utf-8") as file:
            file.write(f"{job.student} {job.notebook} {job.seed}\n")


@dataclass(frozen=True)
class PretenderRecipe:
    """Makes the executor that pretends."""

    modules: tuple[str, ...] = ()
    image: str = ""

    def __call__(self) -> Pretender:
        return Pretender()


def pretending_grader(**options) -> Grader:
    """A grader that runs nothing."""
    grader = Grader(**{"workers": 2, **options})
    grader.recipe = PretenderRecipe
    return grader
