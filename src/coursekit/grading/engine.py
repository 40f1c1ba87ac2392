"""The class loop: hand-ins that arrived are brought to the form of the release, run, and written down.

A hand-in is done when the gradebook holds the fingerprint of what lies in `submitted` now.  So the loop may
be killed at any moment and started again: it goes on with what is not done.
"""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import time
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbgrader.preprocessors import Execute, LimitOutput
from nbgrader.utils import find_all_files
from traitlets import Float, Integer, List, Unicode, default
from traitlets.config import LoggingConfigurable

from coursekit.grading.answers import executed, failed, reason_of, review_reason
from coursekit.grading.autograded import Folder
from coursekit.grading.execution.names import Instructor
from coursekit.grading.gradebook.late import late_plugin
from coursekit.grading.gradebook.ledger import GRADED, REVIEW, Ledger, LedgerError
from coursekit.grading.handin.arrival import arrivals
from coursekit.grading.handin.reading import Unreadable, read_bytes
from coursekit.grading.handin.reconcile import Source, reconcile
from coursekit.grading.progress import SILENT, Progress
from coursekit.grading.records import MIB, Finding, Job, Limits, Outcome, Result, Submission
from coursekit.grading.rehearsal import failed_tests, passed, tagged
from coursekit.grading.reports.page import counted
from coursekit.grading.state import CourseError, only_grader, seed
from coursekit.grading.workers import DaskWorkers, LocalWorkers, Recipe

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.coursedir import CourseDirectory

    from coursekit.grading.workers import Answer

__all__ = [
    "ClassResult", "ForeignKernel", "Grader", "GradingStopped", "Review", "hand_in_count", "is_python",
    "plain",
]  # fmt: skip

LEDGER_FAILURES = 3  # in a row: then it is the gradebook, not the hand-in
MAX_FILE_BYTES = 64 * MIB
UNPROTECTED = "NOT PROTECTED"


class ForeignKernel(CourseError):
    """The assignment is not written in Python, which is all that the engine runs."""


class GradingStopped(KeyboardInterrupt):
    """Somebody pressed Ctrl-C; the message says how far the class is and how to go on."""


@dataclass(frozen=True)
class Review:
    """A notebook that a person must look at, and why."""

    student: str
    notebook: str
    reason: str


@dataclass
class ClassResult:
    """What one run did.

    students: who handed in.   graded: hand-ins that were written to the gradebook, those for review
    included.   skipped: hand-ins that had been graded before.   review: what a person must look at.
    failed: students whose outcome could not be written, with the reason.   unknown: students who are not
    in the gradebook and were not to be added.   gaps: what nothing protected while student code ran.
    """

    assignment: str
    students: set[str] = field(default_factory=set)
    graded: int = 0
    skipped: int = 0
    review: list[Review] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    gaps: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.assignment}: {counted(self.graded, 'hand-in')} graded in {self.seconds:.0f} s, "
            f"{len({review.student for review in self.review})} of them need review, "
            f"{self.skipped} had been graded before"
        )


class Grader(LoggingConfigurable):
    """Grades the hand-ins of one assignment; set up in `nbgrader_config.py` as `c.Grader.workers = 4`."""

    workers = Integer(min=1, help="notebooks that run side by side on this machine").tag(config=True)
    scheduler = Unicode(
        "", help="address of a dask.distributed scheduler whose workers run the notebooks; else this machine"
    ).tag(config=True)
    scheduler_patience = Float(
        300.0, help="seconds to wait for workers that offer what the assignment needs"
    ).tag(config=True)
    seconds_per_call = Float(10.0, help="for one call of a student's function by a test").tag(config=True)
    seconds_per_cell = Float(
        None, allow_none=True, help="for one cell; by default what Execute.timeout says"
    ).tag(config=True)
    seconds_per_notebook = Float(600.0, help="for a whole notebook").tag(config=True)
    memory_mib = Integer(4096, help="memory of the student's process, in MiB").tag(config=True)
    processes = Integer(64, help="processes and threads that a notebook may have").tag(config=True)
    scratch_mib = Integer(512, help="files that a notebook may write, in MiB").tag(config=True)
    output_mib = Integer(1, help="output that is kept of one cell, in MiB").tag(config=True)
    gpu = List(Unicode(), help="assignments whose notebooks want a GPU").tag(config=True)
    container = Unicode(
        "", help="image of the containers that student code runs in, where the machine does not confine it"
    ).tag(config=True)
    preload = List(
        Unicode(), help="modules to load once for a class, beside those that the source notebook imports"
    ).tag(config=True)

    @default("workers")
    def _workers_default(self) -> int:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    # What an Executor is made from; tests put another in its place.
    recipe = Recipe

    def limits(self) -> Limits:
        """What one hand-in may use."""
        timeout = self.seconds_per_cell or Execute(parent=self).timeout
        return Limits(
            call_seconds=self.seconds_per_call,
            # no timeout of nbgrader's: then the notebook's
            cell_seconds=float(timeout) if timeout and timeout > 0 else self.seconds_per_notebook,
            notebook_seconds=self.seconds_per_notebook,
            memory_bytes=self.memory_mib * MIB,
            processes=self.processes,
            scratch_bytes=self.scratch_mib * MIB,
            output_bytes=self.output_mib * MIB,
        )

    def open_ledger(self, coursedir: CourseDirectory) -> Ledger:
        """The course's gradebook, with its rules for late hand-ins."""
        return Ledger(coursedir.db_url, coursedir.course_id, late=late_plugin(self.config))

    def executor_for(self, notebooks: Iterable[Mapping[str, Any]]) -> Recipe:
        """How to make an executor that has loaded what these notebooks import."""
        imported = {name for notebook in notebooks for name in Instructor(dict(notebook)).modules()}
        return self.recipe(tuple(sorted(imported.union(self.preload))), self.container)

    def open_workers(self, sources: Mapping[str, Source]) -> LocalWorkers | DaskWorkers:
        """Workers that have loaded what the instructor's notebooks import."""
        recipe = self.executor_for(source.notebook for source in sources.values())
        if self.scheduler:
            return DaskWorkers(self.scheduler, recipe, patience=self.scheduler_patience)
        return LocalWorkers(self.workers, recipe)

    def grade(
        self,
        coursedir: CourseDirectory,
        assignment: str,
        *,
        students: Collection[str] | None = None,
        notebooks: str = "*",
        force: bool = False,
        create_students: bool = True,
        exclude_overwriting: Collection[str] = (),
        permissions: int = 0o444,
        progress: Progress = SILENT,
    ) -> ClassResult:
        """Grade what was handed in and is not graded yet.

        students: whom to grade, everybody who handed in if None.   notebooks: pattern of their names.
        force: grade again what is done.   create_students: whether to add those who are not in the
        gradebook.   exclude_overwriting: files that a student may hand in though the instructor gave them.
        permissions: of the files in `autograded`.

        Whatever goes wrong with one hand-in becomes its outcome.  Raises CourseError if another grader
        is at work on the assignment, LedgerError or WorkersError if nothing can be graded, GradingStopped
        on Ctrl-C.
        """
        with only_grader(Path(coursedir.root), assignment), self.open_ledger(coursedir) as ledger:
            class_ = _Class(self, coursedir, assignment, ledger, notebooks)
            if force:
                class_.forget(students)
            class_.known = None if create_students else ledger.students()
            class_.given = _given_files(class_.source_folder, coursedir.ignore, exclude_overwriting)
            class_.permissions, class_.progress = permissions, progress
            return class_.run(students)


def _given_files(folder: Path, ignore: Collection[str], own: Collection[str]) -> dict[str, bytes]:
    """The instructor's files beside the source notebook, by relative path; they replace the student's."""
    paths = [Path(path) for path in find_all_files(str(folder), [*ignore, "*.ipynb"])]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    kept = {Path(name).as_posix() for name in own}
    return {name: path.read_bytes() for name, path in sorted(names.items()) if name not in kept}


# ---------------------------------------------------------------------------------------------------
# The class


@dataclass
class _HandIn:
    """A hand-in on its way: its notebooks as they will run, and what has become of them."""

    submission: Submission
    files: dict[str, bytes]
    notebooks: dict[str, NotebookNode] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)


class _Class:
    """One run over the hand-ins of an assignment.  It holds few hand-ins at a time.

    known: students whom the gradebook has, None if others may be added.   given: the instructor's files.
    permissions, progress: see Grader.grade.
    """

    def __init__(
        self, grader: Grader, coursedir: CourseDirectory, assignment: str, ledger: Ledger, notebooks: str
    ) -> None:
        self.known: Collection[str] | None = None
        self.given: Mapping[str, bytes] = {}
        self.permissions, self.progress = 0o444, SILENT
        self._log, self._grader, self._ledger = grader.log, grader, ledger
        self._coursedir, self._assignment = coursedir, assignment
        self.source_folder = self._step_folder(coursedir.source_directory)
        release_folder = self._step_folder(coursedir.release_directory)
        self._all = ledger.source(assignment, self.source_folder, release_folder)
        self._sources = {name: self._all[name] for name in fnmatch.filter(self._all, notebooks)}
        if not self._sources:
            raise CourseError(
                f"assignment {assignment!r} has no notebook {notebooks!r}, only {', '.join(self._all)}"
            )
        for name, source in self._sources.items():
            if not is_python(source.kernelspec, source.notebook):
                kernel = source.kernelspec.get("display_name", source.kernelspec.get("name"))
                raise ForeignKernel(f"notebook {name!r} runs with the kernel {kernel!r}, not with Python")
        self._limits, self._limit_output = grader.limits(), LimitOutput(parent=grader)
        self._seed = seed(Path(coursedir.root), assignment)
        self._done = ledger.fingerprints(assignment)
        self._open: dict[str, _HandIn] = {}
        self._with_student: dict[str, set[str]] = {}
        self._ledger_failures = 0
        self._result = ClassResult(assignment)

    def _step_folder(self, step: str) -> Path:
        return Path(self._coursedir.format_path(step, ".", self._assignment))

    def forget(self, students: Collection[str] | None) -> None:
        """Take what is graded for not done, lastingly: the next run finishes a regrade that was killed."""
        pattern, excluded = self._coursedir.student_id, self._coursedir.student_id_exclude.split(",")
        again = {
            student
            for student, _ in self._done
            if (students is None or student in students)
            and fnmatch.fnmatchcase(student, pattern)
            and student not in excluded
        }
        self._ledger.forget(self._assignment, again, self._sources)
        self._done = {key: value for key, value in self._done.items() if key[0] not in again}

    def run(self, students: Collection[str] | None) -> ClassResult:
        """Grade the hand-ins of some students, of all if None."""
        began = time.monotonic()
        # All notebooks, also those not wanted now: hand-ins under another name are told apart by them.
        grade_ids = {name: tuple(source.cells) for name, source in self._all.items()}
        jobs = self._jobs(arrivals(self._coursedir, self._assignment, grade_ids, students=students))
        try:
            first = next(jobs, None)
            if first is not None:  # nothing need be started for nothing
                with self._grader.open_workers(self._sources) as workers:
                    self._rehearse(workers)
                    for job, answer in workers.map(map(self._placed, itertools.chain([first], jobs))):
                        self._take(job, answer)
        except KeyboardInterrupt:
            raise GradingStopped(self._how_to_go_on()) from None
        self._result.seconds = time.monotonic() - began
        return self._result

    def _rehearse(self, workers: LocalWorkers | DaskWorkers) -> None:
        """Find the tests that the instructor's own solution passes in the student's process alone."""
        own = {name: reconcile(source.notebook, source).notebook for name, source in self._sources.items()}
        jobs = [self._job("", name, notebook, {}) for name, notebook in own.items()]
        failing = {
            job.notebook: failed_tests(answer)
            for job, answer in workers.map(iter(jobs))
            if isinstance(answer, Result)
        }
        again = [tagged(job, failing[job.notebook]) for job in jobs if failing.get(job.notebook)]
        for job, answer in workers.map(iter(again)):
            if isinstance(answer, Result):
                self._with_student[job.notebook] = passed(answer, failing[job.notebook])
        for name, tests in self._with_student.items():
            for test in sorted(tests):
                text = f"{UNPROTECTED}: the test {test} of {name} believes the student's process"
                self._log.warning("%s: the solution does not pass it in two processes", text)
                self._result.gaps.add(text)

    def _placed(self, job: Job) -> Job:
        return tagged(job, self._with_student.get(job.notebook, ()))

    def _how_to_go_on(self) -> str:
        done = self._result.graded + self._result.skipped
        return (
            f"stopped: {done} hand-ins of {self._assignment!r} are done and stay so; "
            f"run `coursekit grade {self._assignment}` to go on with the others"
        )

    # ---- Before the run

    def _jobs(self, submissions: Iterator[Submission]) -> Iterator[Job]:
        """The notebooks to run, hand-in by hand-in; what needs no run is finished on the way."""
        for submission in submissions:
            self._result.students.add(submission.student)
            if self._is_done(submission):
                self._result.skipped += 1
                self.progress.skip()
                self._log.info("%s: graded before, skipped", submission.student)
            elif self.known is not None and submission.student not in self.known:
                self._result.unknown.append(submission.student)
                self._log.error("%s: no student of that name is in the gradebook", submission.student)
            else:
                yield from self._begin(submission)

    def _is_done(self, submission: Submission) -> bool:
        folder = self._folder(submission)
        return all(
            self._done.get((submission.student, name)) == submission.fingerprint and folder.holds(name)
            for name in self._sources
        )

    def _begin(self, submission: Submission) -> list[Job]:
        try:
            hand_in = self._with_files(submission)
            jobs = [self._prepare(hand_in, name) for name in self._sources]
        except Exception as error:
            self._fail(submission, error)
            return []
        jobs = [job for job in jobs if job is not None]
        if jobs:
            self._open[submission.student] = hand_in
        else:
            self._finish(hand_in)
        return jobs

    def _with_files(self, submission: Submission) -> _HandIn:
        files, findings = {}, []
        for name, path in submission.files.items():
            try:
                files[name] = read_bytes(path, MAX_FILE_BYTES)
            except Unreadable as error:
                findings.append(error.finding)
        general = (*submission.findings.get(None, ()), *findings)
        submission = replace(submission, findings={**submission.findings, None: general})
        return _HandIn(submission, {**files, **self.given})

    def _prepare(self, hand_in: _HandIn, name: str) -> Job | None:
        """A job for one notebook; none if there is nothing that could run."""
        submission, source = hand_in.submission, self._sources[name]
        reconciled = reconcile(submission.notebooks.get(name), source)
        found = (*submission.findings.get(None, ()), *submission.findings.get(name, ()), *reconciled.findings)
        hand_in.notebooks[name] = reconciled.notebook
        hand_in.outcomes[name] = self._outcome(submission, name, found)
        if submission.notebooks.get(name) is None:
            return None
        hand_in.waiting.add(name)
        return self._job(submission.student, name, reconciled.notebook, hand_in.files)

    def _job(self, student: str, name: str, notebook: NotebookNode, files: Mapping[str, bytes]) -> Job:
        return Job(
            student,
            self._assignment,
            name,
            cells=plain(notebook),
            source=plain(self._sources[name].notebook),
            files={**files, **self.given},
            given=tuple(self.given),
            limits=self._limits,
            seed=self._seed,
            gpu=self._assignment in self._grader.gpu,
        )

    def _outcome(self, submission: Submission, name: str, findings: tuple[Finding, ...]) -> Outcome:
        """What stands if nothing runs: no points."""
        graded = [cell for cell in self._sources[name].cells.values() if cell.test]
        return Outcome(
            submission.student,
            self._assignment,
            name,
            status=REVIEW if any(finding.review for finding in findings) else GRADED,
            points=0.0,
            maximum=sum(cell.points or 0.0 for cell in graded),
            findings=findings,
            fingerprint=submission.fingerprint,
        )

    # ---- After the run

    def _take(self, job: Job, answer: Answer) -> None:
        hand_in = self._open[job.student]
        before = hand_in.outcomes[job.notebook]
        try:
            notebook, outcome = executed(job, answer, before)
            notebook, _ = self._limit_output.preprocess(notebook, {})
            hand_in.notebooks[job.notebook], hand_in.outcomes[job.notebook] = notebook, outcome
        except Exception as error:
            self._log.warning("%s: %s", job.student, reason_of(error))
            self._log.debug("", exc_info=error)
            hand_in.outcomes[job.notebook] = failed(before, error)
        hand_in.waiting.discard(job.notebook)
        if not hand_in.waiting:
            self._finish(hand_in)

    def _finish(self, hand_in: _HandIn) -> None:
        """Write a hand-in: its files first, so that what the gradebook calls done is done."""
        submission = hand_in.submission
        self._open.pop(submission.student, None)
        try:
            self._write_folder(hand_in)
            read = {
                name: notebook
                for name, notebook in hand_in.notebooks.items()
                if submission.notebooks.get(name) is not None
            }
            self._report(self._ledger.write(submission, list(hand_in.outcomes.values()), read))
        except LedgerError as error:
            self._lose(submission, error)
        except Exception as error:
            self._fail(submission, error)

    def _fail(self, submission: Submission, error: Exception) -> None:
        """Give a hand-in that the grader itself could not handle its outcome: no points, a person looks."""
        self._log.error("%s: %s", submission.student, reason_of(error))
        self._log.debug("%s", "".join(traceback.format_exception(error)))
        nothing = [failed(self._outcome(submission, name, ()), error) for name in self._sources]
        hand_in = _HandIn(submission, files={}, outcomes={outcome.notebook: outcome for outcome in nothing})
        try:
            for name, source in self._sources.items():
                hand_in.notebooks[name] = reconcile(None, source).notebook
            self._write_folder(hand_in)
        except Exception as second:  # then the gradebook alone says it
            self._log.error("%s: no notebook in its place: %s", submission.student, reason_of(second))
        try:
            self._report(self._ledger.write(submission, nothing, {}))
        except Exception as second:
            self._lose(submission, second)

    def _lose(self, submission: Submission, error: Exception) -> None:
        """Note a hand-in whose outcome cannot be written; raises if that is the gradebook's fault."""
        self._log.error("%s: the outcome could not be written: %s", submission.student, error)
        self._result.failed[submission.student] = str(error)
        self._ledger_failures += 1
        if self._ledger_failures == LEDGER_FAILURES:
            text = f"{error} ({LEDGER_FAILURES} hand-ins in a row could not be written)"
            raise LedgerError(text) from error

    def _write_folder(self, hand_in: _HandIn) -> None:
        folder = self._folder(hand_in.submission)
        folder.keep_only({*hand_in.files, *(f"{name}.ipynb" for name in self._all)})
        for name, content in hand_in.files.items():
            folder.write(name, content)
        for name, notebook in hand_in.notebooks.items():
            folder.write_notebook(name, notebook, hand_in.outcomes[name])

    def _folder(self, submission: Submission) -> Folder:
        directory = self._coursedir.autograded_directory
        path = self._coursedir.format_path(directory, submission.student, self._assignment)
        return Folder(Path(path), self.permissions, self._coursedir.groupshared)

    def _report(self, outcomes: list[Outcome]) -> None:
        self._ledger_failures = 0
        self._result.graded += 1
        reviews = [
            Review(outcome.student, outcome.notebook, review_reason(outcome))
            for outcome in outcomes
            if outcome.status != GRADED
        ]
        self._result.review += reviews
        points = ", ".join(f"{o.notebook} {o.points:g}/{o.maximum:g}" for o in outcomes)
        remark = f"; needs review: {reviews[0].reason}" if reviews else ""
        self._log.info("%s: %s%s", outcomes[0].student, points, remark)
        for outcome in outcomes:
            self._result.gaps.update(line for line in outcome.protection if line.startswith(UNPROTECTED))
        self.progress.step(review=bool(reviews))


def is_python(kernelspec: Mapping[str, Any], notebook: NotebookNode) -> bool:
    """Whether a notebook is in Python; one that does not say is."""
    language = kernelspec.get("language") or notebook.metadata.get("language_info", {}).get("name")
    if language:
        return language.lower() in ("python", "ipython")
    return kernelspec.get("name", "python").startswith("python")


def hand_in_count(coursedir: CourseDirectory, assignment: str) -> int:
    """About how many hand-ins there are, for the progress: folders of the right name."""
    step = coursedir.submitted_directory
    return len(glob.glob(coursedir.format_path(step, coursedir.student_id, assignment)))


def plain(value: Any) -> Any:
    """A notebook, or a part of one, as JSON values."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
