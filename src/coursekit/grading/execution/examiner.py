"""Runs one notebook: the student's cells in their process, the tests here, and says what each test earned."""

from __future__ import annotations

import ast
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from coursekit.checks.engine import Score
from coursekit.grading.execution.names import Instructor, parse
from coursekit.grading.execution.namespace import Namespace
from coursekit.grading.execution.remote import Connection, NotStarted, Student, TimeUp, error_output
from coursekit.grading.execution.shell import Ran, Shell
from coursekit.grading.execution.substitutes import given_modules, substitute
from coursekit.grading.gradebook.scoring import score
from coursekit.grading.records import CellScore, Finding, Job, Result

SAME_PROCESS = "same-process"
HIDDEN = re.compile(r"^.*BEGIN HIDDEN TESTS.*\n(.*\n)*?.*END HIDDEN TESTS.*$", re.MULTILINE)
OUT_OF_TIME = "not run: the time of the whole notebook ({seconds:g} s) was used up before"


def examine(job: Job, start: Callable[[], Connection], shell: Shell) -> Result:
    """Run a job in this process, which is its own; whatever the student's code does, there is a result.

    Raises NotStarted where no process for the student's code can be had.
    """
    return Examiner(job, start, shell).run()


class Examiner:
    """One notebook on its way from the first cell to the last."""

    def __init__(self, job: Job, start: Callable[[], Connection], shell: Shell) -> None:
        self._job, self._shell = job, shell
        self._names = Namespace(Instructor(job.source, job.cells["cells"]), shell.user_ns)
        self._student = Student(start, job.limits, self._names)
        self._names.belong_to(self._student)
        self._student.show = self._show
        self._end = time.monotonic() + job.limits.notebook_seconds
        self._knows_hidden = False
        self._scores: dict[str, CellScore] = {}
        self._findings: list[Finding] = []
        shell.recorder.limit = job.limits.output_bytes

    def run(self) -> Result:
        """Every cell in order."""
        began = time.monotonic()
        cells = [dict(cell) for cell in self._job.cells["cells"]]
        substitute(self._student, self._shell)
        with given_modules(self._job):
            try:
                self._student.begin()
                self._run_cells(cells)
            finally:
                self._student.end()
        job, done = self._job, {**self._job.cells, "cells": cells}
        seconds, cpu_seconds = time.monotonic() - began, time.process_time()
        return Result(
            job.student, job.assignment, job.notebook, done, self._scores, tuple(self._findings), (), seconds,
            cpu_seconds,
        )  # fmt: skip

    def _run_cells(self, cells: list[dict[str, Any]]) -> None:
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                self._run_cell(cell, number, cells[number + 1 :])
            elif _is_graded(cell):
                self._by_hand(cell)
            if self._student.broken:
                raise NotStarted(self._student.broken)

    def _run_cell(self, cell: dict[str, Any], number: int, later: list[dict[str, Any]]) -> None:
        mark = cell["metadata"].get("nbgrader") or {}
        name = str(mark.get("grade_id") or f"number-{number + 1}")
        began, lost = time.monotonic(), len(self._student.lost)
        self._student.deadline = min(self._end, began + self._job.limits.cell_seconds)
        hidden = _is_test(cell) and bool(HIDDEN.search(cell["source"]))
        if self._knows_hidden and not hidden:
            self._forget_hidden()
        if began >= self._end:
            self._skip(cell, mark, name)
        elif not _is_test(cell):
            cell["outputs"], _ = self._student.run(cell["source"], name)
            if mark.get("grade"):
                self._by_hand(cell)
        else:
            ran = self._there(cell, name) if _runs_there(cell) else self._test(cell, name, later)
            self._knows_hidden = self._knows_hidden or hidden
            cell["outputs"] = ran.outputs
            self._scores[name] = _scored(cell, mark, ran, time.monotonic() - began)
        cell["execution_count"] = None if began >= self._end else number + 1
        self._findings += [
            Finding("process-ended", f"the student's process ended: {reason}", cell=name, stage="run")
            for reason in self._student.lost[lost:]
        ]

    def _forget_hidden(self) -> None:
        """Let no later cell show what a hidden test handed to the student's functions."""
        if not self._names.hold_objects():
            self._student.forget()
        self._knows_hidden = False

    def _skip(self, cell: dict[str, Any], mark: dict[str, Any], name: str) -> None:
        text = OUT_OF_TIME.format(seconds=self._job.limits.notebook_seconds)
        cell["outputs"] = [error_output("TimeUp", text)]
        if not any(finding.kind == "out-of-time" for finding in self._findings):
            self._findings.append(Finding("out-of-time", text, review=True, cell=name, stage="run"))
        if mark.get("grade") and not mark.get("solution"):
            self._scores[name] = CellScore(name, 0.0, float(mark["points"]))

    def _by_hand(self, cell: dict[str, Any]) -> None:
        """A cell whose points a person gives."""
        mark = cell["metadata"]["nbgrader"]
        self._scores[mark["grade_id"]] = CellScore(mark["grade_id"], None, float(mark["points"]))

    # ---- A test cell

    def _there(self, cell: dict[str, Any], name: str) -> Ran:
        """Run a test in the student's process, as its tag asks."""
        hidden = bool(HIDDEN.search(cell["source"]))
        outputs, success = self._student.run(cell["source"], name, again=not hidden)
        results = [o["data"].get("text/plain") for o in outputs if o["output_type"] == "execute_result"]
        return Ran(outputs, [_number(text) for text in results], success)

    def _test(self, cell: dict[str, Any], name: str, later: list[dict[str, Any]]) -> Ran:
        """Run a test here, with the instructor's tools and what the student has made."""
        source, shown = cell["source"], visible(cell["source"])
        try:
            self._names.begin_test(name, source, shown)
        except Exception as error:  # the student's process is gone, or gave something that is no data
            return Ran([error_output(type(error).__name__, str(error))], [], False)
        with _time_limit(self._job.limits.cell_seconds):
            ran = self._shell.run(source, name, at_end=self._student.end_test)
        theirs = [one["source"] for one in later if one["cell_type"] == "code" and _runs_there(one)]
        self._names.end_test(shown, theirs)
        return ran

    def _show(self, outputs: list[dict[str, Any]]) -> None:
        """What a student's function printed belongs to the test that called it."""
        for output in outputs:
            if output["output_type"] == "stream":
                getattr(sys, output["name"]).write(output["text"])
            else:  # a result of the test's own is its last value, and nothing that the student shows
                shown = {key: value for key, value in output.items() if key != "execution_count"}
                if shown["output_type"] == "execute_result":
                    shown["output_type"] = "display_data"
                self._shell.recorder.add(shown)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the body after so many seconds.

    By another signal than the checks' own limit, and from a thread, so that neither stops the other's clock.
    """

    def stop(number: int, frame: Any) -> None:
        raise TimeUp(f"the test did not finish within {seconds:g} s")

    main = threading.get_ident()
    timer = threading.Timer(seconds, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    timer.daemon = True
    previous = signal.signal(signal.SIGUSR1, stop)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, previous)


def _scored(cell: dict[str, Any], mark: dict[str, Any], ran: Ran, seconds: float) -> CellScore:
    record = next((result.record() for result in ran.results if isinstance(result, Score)), None)
    maximum = float(mark["points"])
    points, review = score(maximum, ran.success, ran.results, record, _calls_check(cell["source"]))
    return CellScore(mark["grade_id"], points, maximum, review, record, seconds)


def _calls_check(source: str) -> bool:
    """Whether a cell is the one line that calls a check of coursekit."""
    match parse(source):
        case [ast.Expr(ast.Call(ast.Attribute(ast.Attribute(ast.Name("checks")))))]:
            return True
    return False


def visible(source: str) -> str:
    """A test's text without its hidden parts."""
    return HIDDEN.sub("", source)


def _is_test(cell: dict[str, Any]) -> bool:
    """Whether the cell's points come from running it."""
    mark = cell["metadata"].get("nbgrader") or {}
    return bool(mark.get("grade") and not mark.get("solution"))


def _runs_there(cell: dict[str, Any]) -> bool:
    """Whether the cell runs in the student's process."""
    return not _is_test(cell) or SAME_PROCESS in _tags(cell)


def _is_graded(cell: dict[str, Any]) -> bool:
    mark = cell["metadata"].get("nbgrader") or {}
    return bool(mark.get("grade") or mark.get("task")) and "points" in mark


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _number(text: Any) -> Any:
    """The number that a text shows, NumPy's too, else the text."""
    try:
        return float(re.sub(r"^np\.\w+\((.*)\)$", r"\1", text))
    except (TypeError, ValueError):
        return text
