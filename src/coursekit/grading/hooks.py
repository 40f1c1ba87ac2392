"""Our engine behind nbgrader's own doors: `nbgrader autograde`, the formgrader's button, `nbgrader validate`.

`install` replaces a few methods of nbgrader; what they call stays as it is.  Every nbgrader command loads
this module, so that it imports the engine only when it is wanted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbgrader.apps.api import NbGraderAPI
from nbgrader.converters.autograde import Autograde
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, Execute
from nbgrader.utils import determine_grade, is_grade
from nbgrader.validator import Validator

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import LoggingConfigurable

    from coursekit.grading.engine import ClassResult
    from coursekit.grading.progress import Progress
    from coursekit.grading.records import CellScore, Result
    from coursekit.grading.reports.summary import Summary

__all__ = ["class_summary", "grade", "install", "write_report"]

LISTED = 50  # hand-ins for review that a log names
STOCK = "the stock grader of nbgrader runs, in which student code is NOT PROTECTED and scores fail open"

_stock_preprocess = getattr(Validator._preprocess, "stock", Validator._preprocess)
_stock_timestamp = getattr(NbGraderAPI.get_submitted_timestamp, "stock", NbGraderAPI.get_submitted_timestamp)


def install() -> None:
    """Put the engine in the place of nbgrader's own; more than once does no harm."""
    Autograde.start = autograde
    Validator._preprocess = run_for_validation
    NbGraderAPI.get_submitted_timestamp = submitted_timestamp
    formgrader = sys.modules.get("nbgrader.server_extensions.formgrader.handlers")
    if formgrader is not None:  # in the server alone
        formgrader.SubmissionFilesHandler.set_extra_headers = forbid_scripts


def forbid_scripts(handler: Any, path: str) -> None:
    """Let a student's file, which the formgrader serves from the server's own address, run nothing."""
    handler.set_header("Content-Security-Policy", "sandbox")


def _runs_here() -> bool:
    return sys.platform == "linux"


# ---------------------------------------------------------------------------------------------------
# Grading


def autograde(converter: Autograde) -> None:
    """In place of `Autograde.start`.

    Raises NbGraderException if there was nothing to grade, or a hand-in was left without an outcome.
    """
    from coursekit.grading.engine import ForeignKernel

    if not Execute(parent=converter).enabled:
        return _grade_with_stock(converter, "Execute.enabled is false")
    if not _runs_here():
        return _grade_with_stock(converter, "this system is not Linux")
    try:
        result = grade(converter)
    except ForeignKernel as error:
        return _grade_with_stock(converter, str(error))
    _judge(converter, result)


def _grade_with_stock(converter: Autograde, reason: str) -> None:
    converter.log.warning("%s: %s", reason, STOCK)
    BaseConverter.start(converter)


def grade(
    converter: Autograde, *, students: Collection[str] | None = None, progress: Progress | None = None
) -> ClassResult:
    """Grade what an nbgrader converter is set up to grade, and write the class's summary.

    students: whom, beside nbgrader's own choice.   Raises NbGraderException, with the reason in the log, if
    grading cannot begin or go on.
    """
    from coursekit.grading.engine import ForeignKernel, Grader, GradingStopped
    from coursekit.grading.gradebook.ledger import LedgerError
    from coursekit.grading.progress import SILENT
    from coursekit.grading.state import CourseError
    from coursekit.grading.workers import WorkersError

    coursedir = converter.coursedir
    converter.run_pre_convert_hook()
    try:
        result = Grader(parent=converter).grade(
            coursedir,
            coursedir.assignment_id,
            students=students,
            notebooks=coursedir.notebook_id,
            force=converter.force,
            create_students=converter.create_student,
            exclude_overwriting=converter.exclude_overwriting.get(coursedir.assignment_id, []),
            permissions=int(str(converter.permissions), 8),
            progress=progress or SILENT,
        )
    except ForeignKernel:
        raise
    except (CourseError, LedgerError, WorkersError, GradingStopped) as error:
        converter.log.error("%s", error)
        raise NbGraderException(str(error)) from error
    converter.run_post_convert_hook()
    return result


def _judge(converter: Autograde, result: ClassResult) -> None:
    """Say how it went; raise if something was left without an outcome."""
    log, coursedir = converter.log, converter.coursedir
    for gap in sorted(result.gaps):
        log.warning("%s", gap)
    for review in result.review[:LISTED]:
        log.warning("needs review: %s, %s: %s", review.student, review.notebook, review.reason)
    if len(result.review) > LISTED:
        log.warning("needs review: %d more", len(result.review) - LISTED)
    log.info("%s", result)
    if not result.students:
        raise _complaint(converter, _nothing_to_grade(converter))
    if len(result.students) > 1:
        from coursekit.grading.reports.summary import as_html

        page = write_report(coursedir, "summary.html", as_html(class_summary(converter, coursedir)))
        log.info("summary of the class: %s", page)
    else:
        log.info("for a summary of the class run: coursekit summary %s", coursedir.assignment_id)
    if result.failed or result.unknown:
        names = ", ".join([*result.failed, *result.unknown])
        raise _complaint(converter, f"without an outcome, for the reasons above: {names}")


def _complaint(converter: Autograde, text: str) -> NbGraderException:
    converter.log.error("%s", text)
    return NbGraderException(text)


def _nothing_to_grade(converter: Autograde) -> str:
    coursedir = converter.coursedir
    pattern = coursedir.format_path(
        coursedir.submitted_directory, coursedir.student_id, coursedir.assignment_id
    )
    text = f"no hand-ins were found at {pattern}"
    submitted = Path(coursedir.root, coursedir.submitted_directory)
    there = {path.name for path in submitted.glob("*/*")} | {path.name for path in submitted.glob("*")}
    near = get_close_matches(coursedir.assignment_id, there) or get_close_matches(coursedir.student_id, there)
    return f"{text}; did you mean {near[0]}?" if near else text


def class_summary(parent: LoggingConfigurable, coursedir: CourseDirectory) -> Summary:
    """How the class did in the course directory's assignment."""
    from coursekit.grading.engine import Grader
    from coursekit.grading.reports.summary import summarise

    with Grader(parent=parent).open_ledger(coursedir) as ledger:
        return summarise(ledger.outcomes(coursedir.assignment_id), ledger.students())


def write_report(coursedir: CourseDirectory, name: str, html: str, path: Path | None = None) -> Path:
    """Write a page about the class into the course's `_build/grading/<assignment>/`, and return where."""
    path = path or Path(coursedir.root, "_build", "grading", coursedir.assignment_id, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
    return path


def submitted_timestamp(api: NbGraderAPI, assignment: str, student: str) -> datetime | None:
    """In place of `NbGraderAPI.get_submitted_timestamp`: garbage in one file breaks no page for the class."""
    try:
        return _stock_timestamp(api, assignment, student)
    except Exception:  # whatever a parser of dates raises
        return None


submitted_timestamp.stock = _stock_timestamp


# ---------------------------------------------------------------------------------------------------
# Validation


def run_for_validation(validator: Validator, notebook: NotebookNode) -> NotebookNode:
    """In place of `Validator._preprocess`: run the notebook as it will be run for grading."""
    from coursekit.grading.engine import is_python

    if not is_python(notebook.metadata.get("kernelspec", {}), notebook):
        reason = "the notebook is not for Python"
    elif not _runs_here():
        reason = "this system is not Linux"
    else:
        notebook, _ = CheckCellMetadata(parent=validator).preprocess(notebook, {})
        notebook, _ = ClearOutput(parent=validator).preprocess(notebook, {})
        result = _run_here(validator, notebook)
        if not any(finding.kind == "grader-failed" for finding in result.findings):
            return _as_validator_reads(notebook, result)
        reason = result.findings[-1].message
    validator.log.warning("%s: it runs in a kernel, as stock nbgrader would run it", reason)
    return _stock_preprocess(validator, notebook)


run_for_validation.stock = _stock_preprocess


def _run_here(validator: Validator, notebook: NotebookNode) -> Result:
    from coursekit.grading.engine import Grader, plain
    from coursekit.grading.records import Job
    from coursekit.grading.rehearsal import failed_tests, tagged
    from coursekit.grading.workers import lease

    grader, cells = Grader(parent=validator), plain(notebook)
    job = Job("", "", "", cells, cells, _files_beside(validator), grader.limits(), execution="validate")
    with lease(grader.executor_for([cells])) as executor:
        result = executor.run(job)
        failing = failed_tests(result)
        # There is no solution to rehearse with: a test that needs the student's process gets it.
        return executor.run(tagged(job, failing)) if failing else result


def _files_beside(validator: Validator) -> dict[str, bytes]:
    """What lies in the notebook's folder, which is the current one; a hand-in may have as much."""
    from coursekit.grading.handin.extras import MAX_FILES, MAX_FILES_BYTES

    files: dict[str, bytes] = {}
    room, looked_at = MAX_FILES_BYTES, 0
    for folder, below, names in os.walk("."):
        below[:] = sorted(name for name in below if not name.startswith((".", "__pycache__")))
        for path in (Path(folder, name) for name in sorted(names)):
            looked_at += 1
            size = path.stat().st_size if path.is_file() else 0
            if looked_at > 10 * MAX_FILES or len(files) == MAX_FILES or size > room:
                validator.log.warning("%s and what follows it is left out: too much lies here", path)
                return files
            if path.is_file() and path.suffix != ".ipynb" and not path.name.startswith("."):
                files[path.as_posix()] = path.read_bytes()
                room -= size
    return files


def _as_validator_reads(notebook: NotebookNode, result: Result) -> NotebookNode:
    """The notebook with outputs, from which nbgrader's validator reads what our scores say."""
    import nbformat

    for cell, ran in zip(notebook.cells, result.cells["cells"], strict=True):
        if cell.cell_type != "code":
            continue
        cell.outputs = [nbformat.from_dict(output) for output in ran["outputs"]]
        score = result.scores.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if is_grade(cell) and score is not None and score.points is not None:
            _agree(cell, score)
    return notebook


def _agree(cell: NotebookNode, score: CellScore) -> None:
    """Let the outputs of a test tell the validator whether it passed: a warning is no failure, NaN is one."""
    passes = score.points >= score.maximum and score.review is None
    if passes:
        for output in cell.outputs:
            if output.output_type == "stream":
                output.name = "stdout"
    elif determine_grade(cell)[0] == score.maximum:
        import nbformat

        text = score.review or f"{score.points:g} of {score.maximum:g} points"
        error = {"ename": "NotPassed", "evalue": text, "traceback": [f"NotPassed: {text}"]}
        cell.outputs.insert(0, nbformat.v4.new_output("error", **error))
