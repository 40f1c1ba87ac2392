"""What holds for the checks of every assignment, over the tables in `test_checks_<slug>`.

SLIPS: grade id, what the solution says, what a student might say, points left, name or names of the mistake,
and the grade id of the task that is graded if that is another one.
SPOILT: an error by the name of its task.   HONEST: other right ways.   SHORTCUTS: what a library does.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from coursekit import checks

WRITTEN = {path.stem.removeprefix("test_checks_") for path in Path(__file__).parent.glob("test_checks_*.py")}
TABLES = {slug: importlib.import_module(f"test_checks_{slug}") for slug in checks.topics() if slug in WRITTEN}
CHECKS = [
    pytest.param(tables.SOLUTION, check, id=check.name)
    for tables in TABLES.values()
    for check in tables.SOLUTION.checks.values()
]
SLIPS = [
    pytest.param(tables.SOLUTION, *slip[:5], (*slip, slip[0])[5], id=f"{slug}-{slip[0]}-{slip[4]}-{number}")
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


def test_every_assignment_has_its_tables():
    assert set(TABLES) == set(checks.topics())


@pytest.mark.parametrize("seed", ["self-check", "grading"])
@pytest.mark.parametrize(("solution", "check"), CHECKS)
def test_the_solution_earns_full_marks(solution, check, seed, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", seed)
    score = solution.grade(check)
    assert score.points == score.total, score.report


@pytest.mark.parametrize(("solution", "grade_id", "right", "wrong", "points", "name", "graded"), SLIPS)
def test_a_slip_in_the_solution_costs_its_points_and_has_its_name(
    solution, grade_id, right, wrong, points, name, graded
):
    slip = {grade_id.replace("-", "_"): (right, wrong)}
    score = solution.grade(solution.checks[graded.replace("-", "_")], **slip)
    names = (name,) if isinstance(name, str) else name or ()
    assert (score.points, score.misconceptions) == (points, names), score.report
    assert len(score.report.splitlines()) <= 12


@pytest.mark.parametrize("slug", TABLES)
def test_an_error_in_one_task_costs_points_in_that_task_alone(slug):
    solution, spoilt = TABLES[slug].SOLUTION, TABLES[slug].SPOILT
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
    assert score.points == 0 and score.shortcut.startswith(("coursekit.", "torch."))
