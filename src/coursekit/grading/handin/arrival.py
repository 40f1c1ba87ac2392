"""Whatever arrives in the `submitted` folder becomes a Submission: under any name, in any state."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from coursekit.grading.handin.extras import files_beside, fingerprint, shadows, timestamp
from coursekit.grading.handin.findings import finding
from coursekit.grading.handin.folders import Home, homes, walked
from coursekit.grading.handin.reading import MAX_BYTES, read_notebook
from coursekit.grading.handin.search import TIMESTAMP, Search
from coursekit.grading.records import Submission

if TYPE_CHECKING:
    from nbgrader.coursedir import CourseDirectory

__all__ = ["arrivals", "read_notebook"]


def arrivals(
    coursedir: CourseDirectory,
    assignment: str,
    notebooks: Mapping[str, Collection[str]],
    *,
    students: Collection[str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Submission]:
    """What every student handed in for an assignment, in the order of their names.

    notebooks: the grade ids of each notebook of the assignment, by its name without .ipynb.   students:
    whom to look for, everybody if None; nbgrader's own choice of students applies as well.   max_bytes:
    of one notebook.

    A student's folder with nothing for this assignment is no hand-in.  Links are never followed, and
    nothing is raised for whatever lies there.
    """
    for home in homes(coursedir, assignment):
        if _is_chosen(home.student, coursedir, students):
            submission = _submission(home, assignment, notebooks, coursedir, max_bytes)
            if submission is not None:
                yield submission


def _is_chosen(student: str, coursedir: CourseDirectory, students: Collection[str] | None) -> bool:
    excluded = coursedir.student_id_exclude.split(",")
    chosen = fnmatch.fnmatchcase(student, coursedir.student_id) and student not in excluded
    return chosen and (students is None or student in students)


def _submission(
    home: Home,
    assignment: str,
    wanted: Mapping[str, Collection[str]],
    coursedir: CourseDirectory,
    max_bytes: int,
) -> Submission | None:
    """The hand-in in a folder; None if that is a student's folder which holds other assignments only."""
    folder = walked(home, coursedir.ignore)
    search = Search(folder, wanted, max_bytes)
    if not home.own and not search.used:
        return None
    broken = [home.broken] if home.broken else []
    outside = [] if home.own else [finding("no-folder", wanted=assignment)]
    time, timing = timestamp(folder)
    files, left_out = files_beside(folder, search.used.values(), coursedir.max_file_size * 1000)
    mark = fingerprint(folder, files, max_bytes)
    if time is None:
        files.pop(TIMESTAMP, None)  # nbgrader stops at one that it cannot read
    shadowing = shadows(files, search.notebooks.values())
    general = (*broken, *home.findings, *outside, *folder.findings, *timing, *left_out, *shadowing)
    findings = {name: found for name, found in {None: general, **search.findings}.items() if found}
    return Submission(home.student, assignment, home.path, search.notebooks, files, time, mark, findings)
