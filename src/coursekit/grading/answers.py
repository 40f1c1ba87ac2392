"""What a worker gave back, turned into what stands in the gradebook; whatever is in doubt earns nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nbformat

from coursekit.grading.gradebook.ledger import GRADED, REVIEW
from coursekit.grading.gradebook.scoring import valid_points
from coursekit.grading.handin.source import grade_id
from coursekit.grading.records import NOT_SCORED, CellScore, Finding, Job, Outcome, Result

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from coursekit.grading.workers import Answer

__all__ = ["executed", "failed", "reason_of", "review_reason"]


def executed(job: Job, answer: Answer, before: Outcome) -> tuple[NotebookNode, Outcome]:
    """The notebook with its outputs and what it earned, from what a worker gave back.

    Nothing but outputs and scores is taken from the answer.  Raises whatever the answer is, and
    ValueError if it is no result of this job.
    """
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, Result):
        raise ValueError(f"the worker gave back {type(answer).__name__} instead of a result")
    if (answer.student, answer.notebook) != (job.student, job.notebook):
        raise ValueError(f"the worker gave back {answer.notebook!r} of {answer.student!r}")
    notebook = _with_outputs(job, answer.cells)
    scores = tuple(_score(cell, answer.scores) for cell in job.cells["cells"] if _is_graded(cell))
    findings = (*before.findings, *answer.findings)
    doubt = any(finding.review for finding in findings) or any(score.review for score in scores)
    return notebook, replace(
        before,
        status=REVIEW if doubt else GRADED,
        points=sum(score.points or 0.0 for score in scores),
        findings=findings,
        scores=scores,
        seconds=answer.seconds,
        cpu_seconds=answer.cpu_seconds,
        protection=answer.protection,
    )


def _with_outputs(job: Job, cells: Mapping[str, Any]) -> NotebookNode:
    handed, back = job.cells["cells"], cells["cells"]
    if [cell["source"] for cell in handed] != [cell["source"] for cell in back]:
        raise ValueError("the worker gave back other cells than it got")
    ran = [
        {**cell, "outputs": other["outputs"], "execution_count": other["execution_count"]}
        if cell["cell_type"] == "code"
        else cell
        for cell, other in zip(handed, back, strict=True)
    ]
    notebook = nbformat.from_dict({**job.cells, "cells": ran})
    nbformat.validate(notebook)
    return notebook


def _is_graded(cell: Mapping[str, Any]) -> bool:
    mark = cell["metadata"].get("nbgrader") or {}
    return bool(mark.get("grade") or mark.get("task"))


def _score(cell: Mapping[str, Any], scores: Mapping[str, CellScore]) -> CellScore:
    """The score of a graded cell; 0 and a reason where there is no valid one."""
    mark, name = cell["metadata"]["nbgrader"], grade_id(cell)
    maximum = float(mark.get("points") or 0.0)
    score = scores.get(name)
    if not isinstance(score, CellScore):
        by_hand = mark.get("solution") or mark.get("task") or cell["cell_type"] != "code"
        score = CellScore(name, None, maximum)
        return score if by_hand else replace(score, points=0.0, review=NOT_SCORED)
    if score.points is None:
        return replace(score, maximum=maximum)
    points, wrong = valid_points(score.points, maximum)
    return replace(score, points=points, maximum=maximum, review=wrong or score.review)


def failed(outcome: Outcome, error: Exception) -> Outcome:
    """The outcome of a notebook with which the grader failed.

    It holds no fingerprint: the next run tries again.
    """
    finding = Finding("grader-failed", f"the grader failed: {reason_of(error)}", review=True, stage="run")
    findings = (*outcome.findings, finding)
    return replace(outcome, status=REVIEW, points=0.0, scores=(), findings=findings, fingerprint="")


def reason_of(error: Exception) -> str:
    """An error in one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else f"{text[:297]}..."


def review_reason(outcome: Outcome) -> str:
    """Why a person must look at a notebook, in one line."""
    found = [finding.message for finding in outcome.findings if finding.review]
    found += [f"{score.cell}: {score.review}" for score in outcome.scores if score.review]
    return found[0] if found else "its grade is in doubt"
