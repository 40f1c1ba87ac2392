"""Grades as files that Canvas and Moodle import: plugins of `nbgrader export`."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from nbgrader.api import Assignment, Gradebook, Student, SubmittedAssignment
from nbgrader.plugins import ExportPlugin
from sqlalchemy import select
from traitlets import Dict, Enum, Unicode

__all__ = ["CanvasExport", "MoodleExport"]

# What a spreadsheet takes for the start of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Mark(NamedTuple):
    """What a student has earned in an assignment so far, in points."""

    raw: float
    penalty: float
    waits: bool  # parts of it must be graded by a person

    @property
    def points(self) -> float:
        return max(0.0, self.raw - self.penalty)


class _Export(ExportPlugin):
    """Rows of a CSV file, one a student; what both formats share."""

    default_name = ""

    def export(self, gradebook: Gradebook) -> None:
        """Write the file; students whose grade is not final yet are named in a warning."""
        assignments = self._chosen(gradebook.assignments, self.assignment, "assignment", lambda a: a.name)
        students = self._chosen(gradebook.students, self.student, "student", lambda s: s.id)
        marks = {assignment.name: _marks(gradebook, assignment) for assignment in assignments}
        self._warn_of_unfinished(marks, {student.id for student in students})
        destination = Path(self.to or self.default_name)
        with destination.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(self.rows(assignments, students, marks))
        self.log.info("%d students, %d assignments: %s", len(students), len(assignments), destination)

    def rows(
        self,
        assignments: Sequence[Assignment],
        students: Sequence[Student],
        marks: dict[str, dict[str, Mark]],
    ) -> Iterable[list[str]]:
        """Header and rows; marks by assignment and student."""
        raise NotImplementedError

    def _chosen(self, all_, names, kind, name_of):
        """Those that `--assignment` or `--student` asks for; all if it asks for none."""
        wanted = {str(name) for name in names}
        if unknown := sorted(wanted - {name_of(one) for one in all_}):
            raise ValueError(f"the gradebook has no {kind} {', '.join(map(repr, unknown))}")
        return [one for one in all_ if not wanted or name_of(one) in wanted]

    def _warn_of_unfinished(self, marks: dict[str, dict[str, Mark]], students: set[str]) -> None:
        for assignment, by_student in marks.items():
            waiting = sorted(who for who, mark in by_student.items() if mark.waits and who in students)
            if waiting:
                self.log.warning(
                    "%s: %d hand-ins wait for a person to grade them; exported with the points so far: %s",
                    assignment,
                    len(waiting),
                    ", ".join(waiting),
                )


class CanvasExport(_Export):
    """The CSV file of Canvas's gradebook; a student who handed in nothing stays blank, "not graded".

    Canvas finds an assignment by the id in brackets, else by its exact name, else offers to create it;
    a student by ID (nbgrader's `lms_user_id`), else by SIS ID or login.  A blank cell clears a grade that
    Canvas has: export only the assignments that you mean to change.
    """

    default_name = "canvas.csv"

    assignment_ids = Dict(help="Canvas's ids of assignments, by name: {'conv': '1234'}").tag(config=True)
    student_column = Enum(
        ("SIS Login ID", "SIS User ID"), "SIS Login ID", help="the column that nbgrader's student ids fill"
    ).tag(config=True)
    section = Unicode("", help="the section of all students; Canvas does not read it").tag(config=True)

    def rows(self, assignments, students, marks):
        ids = ["SIS User ID", "SIS Login ID"]
        yield ["Student", "ID", *ids, "Section", *(_text(self._title(a.name)) for a in assignments)]
        yield ["Points Possible", "", "", "", "", *(_number(a.max_score) for a in assignments)]
        for student in students:
            yield [
                _text(_sortable_name(student)),
                _text(student.lms_user_id),
                *(_text(student.id) if column == self.student_column else "" for column in ids),
                _text(self.section),
                *(_points(marks[a.name].get(student.id), absent="") for a in assignments),
            ]

    def _title(self, name: str) -> str:
        return f"{name} ({self.assignment_ids[name]})" if name in self.assignment_ids else name


class MoodleExport(_Export):
    """A CSV file for Moodle's grade import; "-" is Moodle's mark for "no grade".

    On import, map one of Username, ID number and Email address to the user, each assignment's points and
    its feedback to the grade item: Moodle drops the grades if feedback alone is mapped.  A user whom Moodle
    does not know stops the whole import.
    """

    default_name = "moodle.csv"

    def rows(self, assignments, students, marks):
        titles = [title for a in assignments for title in (a.name, f"{a.name} (Feedback)")]
        names = ["Username", "First name", "Last name", "ID number", "Email address"]
        yield names + [_text(title) for title in titles]
        for student in students:
            row = [student.id, student.first_name, student.last_name, student.lms_user_id, student.email]
            cells = [_text(value) for value in row]
            for a in assignments:
                mark = marks[a.name].get(student.id)
                cells += [_points(mark, absent="-"), _text(_feedback(mark, a.max_score))]
            yield cells


def _marks(gradebook: Gradebook, assignment: Assignment) -> dict[str, Mark]:
    """Marks of those who handed in, by student: one query for the class."""
    columns = (
        SubmittedAssignment.student_id,
        SubmittedAssignment.score,
        SubmittedAssignment.late_submission_penalty,
        SubmittedAssignment.needs_manual_grade,
    )
    query = select(*columns).where(SubmittedAssignment.assignment_id == assignment.id)
    return {who: Mark(raw, late, bool(waits)) for who, raw, late, waits in gradebook.db.execute(query)}


def _sortable_name(student: Student) -> str:
    parts = [part for part in (student.last_name, student.first_name) if part]
    return ", ".join(parts) or student.id


def _text(value: str | None) -> str:
    """Text that no spreadsheet runs as a formula."""
    text = value or ""
    return f"'{text}" if text.startswith(FORMULA) else text


def _points(mark: Mark | None, absent: str) -> str:
    return absent if mark is None else _number(mark.points)


def _number(points: float) -> str:
    """Points without the digits that binary fractions add."""
    return f"{round(points, 4):.10g}"


def _feedback(mark: Mark | None, maximum: float) -> str:
    if mark is None:
        return ""
    text = f"{_number(mark.raw)} of {_number(maximum)} points"
    if mark.penalty:
        text += f", {_number(mark.penalty)} off for lateness"
    return f"{text}; parts are still to be graded" if mark.waits else text
