"""What the grader's parts hand to one another: plain values that can cross to another process or machine.

A hand-in travels: `Submission` (files that arrived) -> `Job` (one notebook to run) -> `Result` (what it
did and earned) -> `Outcome` (what stands in the gradebook).  Whatever looks odd on the way is a `Finding`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

MIB = 2**20
NOT_SCORED = "it was not scored"


@dataclass(frozen=True)
class Finding:
    """Something about a hand-in that a person should know.

    kind: a short slug, "corrupt-json" or "cell-deleted".   message: one sentence for student and
    instructor.   review: whether a person must look before the grade counts.   cell: the grade id
    concerned, None for the whole hand-in.   stage: who found it: "file" (intake), "release" (differs from
    what was released), "run" (while it ran), "score".
    """

    kind: str
    message: str
    review: bool = False
    cell: str | None = None
    stage: str = "file"


@dataclass(frozen=True)
class Limits:
    """What one hand-in may use; seconds are wall clock, bytes are bytes.

    repeat_seconds: how long the student's cells may take to be run again after a hidden test.
    """

    call_seconds: float = 10.0
    cell_seconds: float = 60.0
    notebook_seconds: float = 600.0
    repeat_seconds: float = 20.0
    memory_bytes: int = 4096 * MIB
    processes: int = 64
    scratch_bytes: int = 512 * MIB
    output_bytes: int = MIB
    message_bytes: int = 512 * MIB


@dataclass(frozen=True)
class Submission:
    """What one student handed in for one assignment.

    notebooks: by name without .ipynb, for every notebook that the assignment has; None where none could be
    read.   files: what else goes beside it while it runs, by relative path.   fingerprint: hash of all
    of it, so that a changed hand-in is recognised.
    """

    student: str
    assignment: str
    folder: Path
    notebooks: dict[str, NotebookNode | None]
    files: dict[str, Path] = field(default_factory=dict)
    timestamp: datetime | None = None
    fingerprint: str = ""
    findings: dict[str | None, tuple[Finding, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One notebook to run: everything that a worker needs, on whatever machine it is.

    cells: the notebook as JSON values, reconciled with the release.   source: the instructor's notebook as
    JSON values, for the names that it defines.   files: contents by relative path.   seed: what the
    checks draw their cases from.   gpu: whether the assignment wants one.   given: which of the files are
    the instructor's: modules among them are for the tests to import.
    """

    student: str
    assignment: str
    notebook: str
    cells: dict[str, Any]
    source: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    seed: str | None = None
    gpu: bool = False
    execution: str = "autograde"
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellScore:
    """What a graded cell earned.

    points: None where a person decides.   review: why a person must look all the same.   record: what a
    coursekit check reported, as JSON values.   seconds: how long the cell ran.
    """

    cell: str
    points: float | None
    maximum: float
    review: str | None = None
    record: dict[str, Any] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """One notebook after it ran: with outputs, scores by grade id, and what happened on the way.

    protection: what the sandbox guarded, in words; see sandbox.Protection.
    """

    student: str
    assignment: str
    notebook: str
    cells: dict[str, Any]
    scores: dict[str, CellScore]
    findings: tuple[Finding, ...] = ()
    protection: tuple[str, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What stands in the gradebook for one notebook of one student, as the class summary reads it.

    status: "graded" or "needs review".   points, maximum: the automatic ones.
    """

    student: str
    assignment: str
    notebook: str
    status: str
    points: float
    maximum: float
    findings: tuple[Finding, ...] = ()
    scores: tuple[CellScore, ...] = ()
    fingerprint: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    graded_at: datetime | None = None
    protection: tuple[str, ...] = ()

    def details(self) -> dict[str, Any]:
        """Findings, scores and protection as JSON values; `from_details` reads them back."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "scores": [asdict(score) for score in self.scores],
            "protection": list(self.protection),
        }


def from_details(details: dict[str, Any]) -> dict[str, tuple]:
    """The fields of an Outcome that `Outcome.details` wrote."""
    return {
        "findings": tuple(Finding(**finding) for finding in details.get("findings", [])),
        "scores": tuple(CellScore(**score) for score in details.get("scores", [])),
        "protection": tuple(details.get("protection", [])),
    }
