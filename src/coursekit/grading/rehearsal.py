"""Run the instructor's own notebook before the class: which tests do not work with two processes?

A test that the solution passes in the student's process alone runs there for the whole class, as stock
nbgrader would run it.  It believes what that process says, so the class is told of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from coursekit.grading.execution.examiner import SAME_PROCESS
from coursekit.grading.records import Job, Result

__all__ = ["SAME_PROCESS", "failed_tests", "passed", "tagged"]


def failed_tests(result: Result) -> set[str]:
    """Tests that were not passed in full.

    Not coursekit's own checks, which need no other process, nor what loops or crashes, which would do so
    anywhere.
    """
    stopped = {_name(cell) for cell in result.cells["cells"] if _was_stopped(cell)}
    return {
        name
        for name, score in result.scores.items()
        if score.points is not None and score.points < score.maximum and score.record is None
    } - stopped


def _name(cell: Mapping[str, Any]) -> str | None:
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def _was_stopped(cell: Mapping[str, Any]) -> bool:
    return any(output.get("ename") in ("TimeUp", "ProcessEnded") for output in cell.get("outputs", ()))


def passed(result: Result, names: Collection[str]) -> set[str]:
    """Which of these tests were passed in full."""
    scores = (result.scores[name] for name in names if name in result.scores)
    return {score.cell for score in scores if score.points == score.maximum}


def tagged(job: Job, names: Collection[str]) -> Job:
    """The job with these tests in the student's process."""
    if not names:
        return job
    return replace(job, cells={**job.cells, "cells": [_tagged(cell, names) for cell in job.cells["cells"]]})


def _tagged(cell: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    metadata = cell["metadata"]
    if _name(cell) not in names:
        return dict(cell)
    return {**cell, "metadata": {**metadata, "tags": [*metadata.get("tags", []), SAME_PROCESS]}}
