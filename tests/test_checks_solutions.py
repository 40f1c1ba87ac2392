"""What holds for the checks of every assignment, over the tables in `test_checks_<slug>`.

SLIPS: grade id, what the solution says, what a student might say, points left, name of the mistake.
SPOILT: an error by the name of its task.   HONEST: other right ways.   SHORTCUTS: what the library does.
"""

from __future__ import annotations

import importlib

import pytest
from solution_text import SolutionText

TABLES = {
    slug: importlib.import_module(f"test_checks_{slug}")
    for slug in ("bptt", "clipping", "equivariance", "recurrence")
}
SOLUTIONS = {slug: tables.SOLUTION for slug, tables in TABLES.items()} | {"pooling": SolutionText("pooling")}
CHECKS = [
    pytest.param(solution, check, id=check.name)
    for solution in SOLUTIONS.values()
    for check in solution.checks.values()
]
SLIPS = [
    pytest.param(tables.SOLUTION, *slip, id=f"{slug}-{slip[0]}-{slip[-1]}-{number}")
    for slug, tables in TABLES.items()
    for number, slip in enumerate(tables.SLIPS)
]


def rows(table: str) -> list:
    """Checks and functions of one table of all assignments."""
    return [
        pytest.param(check, function, id=f"{check.name}-{function.__name__}")
        for tables in TABLES.values()
        for check, function in getattr(tables, table)
    ]


@pytest.mark.parametrize("seed", ["self-check", "grading"])
@pytest.mark.parametrize(("solution", "check"), CHECKS)
def test_the_solution_earns_full_marks(solution, check, seed, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", seed)
    score = solution.grade(check)
    assert score.points == score.total, score.report


@pytest.mark.parametrize(("solution", "grade_id", "right", "wrong", "points", "name"), SLIPS)
def test_a_slip_in_the_solution_costs_its_points_and_has_its_name(
    solution, grade_id, right, wrong, points, name
):
    task = grade_id.replace("-", "_")
    score = solution.grade(solution.checks[task], **{task: (right, wrong)})
    assert (score.points, next(iter(score.misconceptions), None)) == (points, name), score.report
    assert len(score.report.splitlines()) <= 12


@pytest.mark.parametrize("slug", TABLES)
def test_an_error_in_one_task_costs_points_in_that_task_alone(slug):
    solution, spoilt = SOLUTIONS[slug], TABLES[slug].SPOILT
    names = solution.written(**spoilt)
    others = [check for task, check in solution.checks.items() if task not in spoilt]
    scores = [check.grade(solution.function_of(check, names)) for check in others]
    assert [score.check for score in scores if score.points < score.total] == []


@pytest.mark.parametrize("seed", ["self-check", "grading", "another"])
@pytest.mark.parametrize(("check", "honest"), rows("HONEST"))
def test_every_honest_way_earns_full_marks(check, honest, seed, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", seed)
    score = check.grade(honest)
    assert score.points == score.total, score.report


@pytest.mark.parametrize("seed", ["self-check", "another"])
@pytest.mark.parametrize(("check", "shortcut"), rows("SHORTCUTS"))
def test_the_reference_of_a_check_agrees_with_the_library(check, shortcut, seed, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", seed)
    score = check.grade(shortcut, watched=False)
    assert score.points == score.total, score.report


@pytest.mark.parametrize(("check", "shortcut"), rows("SHORTCUTS"))
def test_a_shortcut_earns_nothing(check, shortcut):
    score = check.grade(shortcut)
    assert score.points == 0 and score.shortcut.startswith("coursekit.")
