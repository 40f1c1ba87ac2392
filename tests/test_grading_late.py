"""Late days: what is late, who pays, in which order the free days are spent."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
from nbgrader.api import Gradebook
from nbgrader.preprocessors import AssignLatePenalties
from test_grading_ledger import DUE, HAND_INS, enter, outcome, release, scores, submission, template, url
from traitlets.config import Config

from coursekit.grading.gradebook.late import Charge, HandIn, LateDays, late_days, late_plugin, table
from coursekit.grading.gradebook.ledger import Ledger

__all__ = ["template", "url"]  # fixtures

pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LATER = DUE + 7 * DAY


@pytest.fixture
def term(url) -> str:
    """A gradebook with `ps` and `last`, due a week later, each worth 17 points in two notebooks."""
    enter(url, release(), "last", LATER)
    return url


def write(ledger: Ledger, late: timedelta, assignment: str = "ps", student: str = "ann") -> None:
    """Hand in the full solution, so long after the due date; its automatic points are 6 and 1."""
    due = {"ps": DUE, "last": LATER}[assignment]
    notebooks = HAND_INS["full"]
    found = [
        outcome(name, student, assignment=assignment, scores=scores(notebook))
        for name, notebook in notebooks.items()
    ]
    ledger.write(submission(student, due + late, assignment), found, notebooks)


def penalties(url: str, assignment: str = "ps", student: str = "ann") -> dict[str, float | None]:
    with Gradebook(url) as gradebook:
        notebooks = gradebook.find_submission(assignment, student).notebooks
        return {notebook.name: notebook.late_submission_penalty for notebook in notebooks}


@pytest.mark.parametrize(
    ("hours", "grace", "days"),
    [(0, 0, 0), (0.01, 0, 1), (24, 0, 1), (24.1, 0, 2), (0.5, 30, 0), (0.6, 30, 1), (24.5, 30, 1)],
)
def test_a_begun_day_counts_in_full_unless_the_grace_covers_it(hours, grace, days):
    assert LateDays(grace_minutes=grace).days_late(3600 * hours) == days


def test_free_days_are_spent_in_the_order_of_the_hand_ins():
    hand_ins = [HandIn("ann", name, 2 * 86400) for name in ("a", "b", "c")]
    assert LateDays(days_free=3).charges(hand_ins) == [
        Charge("ann", "a", 2, 2, 0, False),
        Charge("ann", "b", 2, 1, 1, False),
        Charge("ann", "c", 2, 0, 2, False),
    ]


def test_each_student_has_a_budget_of_their_own():
    charges = LateDays(days_free=1).charges([HandIn(who, "a", 86400) for who in ("ann", "bob")])
    assert [charge.charged for charge in charges] == [0, 0]


def test_what_comes_too_late_spends_no_free_days():
    hand_ins = [HandIn("ann", "a", 9 * 86400), HandIn("ann", "b", 86400)]
    refused, free = LateDays(days_free=1, max_days=3).charges(hand_ins)
    assert (refused.refused, refused.free) == (True, 0)
    assert (free.free, free.charged) == (1, 0)


@pytest.mark.parametrize(
    ("options", "one", "two"),
    [
        ({"penalty_per_day": 0.1}, 1.2, 0.2),
        ({"penalty_per_day": 0.9}, 6, 1),
        ({"penalty_per_day": 1, "penalty_unit": "points"}, 2 * 16 / 17, 2 * 1 / 17),
        ({"days_free": 1}, 0.6, 0.1),
        ({"days_free": 2}, None, None),
        ({"max_days": 1}, 6, 1),
    ],
)
def test_two_days_late_cost_what_the_policy_says(term, options, one, two):
    with Ledger(term, late=LateDays(**options)) as ledger:
        write(ledger, 2 * DAY)
    assert penalties(term) == {"one": pytest.approx(one), "two": pytest.approx(two)}


def test_an_earlier_assignment_graded_later_takes_the_free_days_back(term):
    with Ledger(term, late=LateDays(days_free=1, penalty_per_day=0.5)) as ledger:
        write(ledger, DAY, "last")
        assert penalties(term, "last") == {"one": None, "two": None}
        write(ledger, DAY, "ps")
        assert penalties(term, "ps") == {"one": None, "two": None}
        assert penalties(term, "last") == {"one": 3, "two": 0.5}
        write(ledger, -HOUR, "ps")
        assert penalties(term, "last") == {"one": None, "two": None}


def test_one_students_hand_in_leaves_another_student_alone(term):
    with Ledger(term, late=LateDays(penalty_per_day=0.5)) as ledger:
        write(ledger, DAY, student="bob")
        write(ledger, 2 * DAY, student="ann")
    assert penalties(term, student="bob") == {"one": 3, "two": 0.5}


def test_an_extension_moves_the_due_date(term):
    with Ledger(term, late=LateDays(penalty_per_day=0.5)) as ledger:
        write(ledger, 2 * DAY)
        ledger.gradebook.grant_extension("ps", "ann", days=1)
        ledger.settle_late_days()
        assert penalties(term) == {"one": 3, "two": 0.5}
        write(ledger, 2 * DAY)
    assert penalties(term) == {"one": 3, "two": 0.5}


def test_points_given_by_hand_later_count_when_late_days_are_settled(term):
    with Ledger(term, late=LateDays(penalty_per_day=0.5)) as ledger:
        write(ledger, DAY)
        ledger.gradebook.find_grade("essay", "one", "ps", "ann").manual_score = 2
        ledger.gradebook.db.commit()
        ledger.settle_late_days()
    assert penalties(term) == {"one": 4, "two": 0.5}


def test_stock_nbgrader_takes_off_the_same_points(term):
    options = {"days_free": 1, "penalty_per_day": 0.3}
    with Ledger(term, late=LateDays(**options)) as ledger:
        write(ledger, DAY, "ps")
        write(ledger, 2 * DAY, "last")
        ours = penalties(term, "last")
        for notebook in ledger.gradebook.find_submission("last", "ann").notebooks:
            notebook.late_submission_penalty = None
        ledger.gradebook.db.commit()
    config = Config({"AssignLatePenalties": {"plugin_class": LateDays}, "LateDays": options})
    for name, notebook in HAND_INS["full"].items():
        at = {"notebook": name, "assignment": "last", "student": "ann", "db_url": term}
        AssignLatePenalties(config=config).preprocess(copy.deepcopy(notebook), {"nbgrader": at})
    assert penalties(term, "last") == ours == {"one": pytest.approx(3.6), "two": pytest.approx(0.6)}


def test_the_plugin_is_what_the_configuration_names():
    config = Config({"AssignLatePenalties": {"plugin_class": LateDays}, "LateDays": {"days_free": 4}})
    assert late_plugin(config).days_free == 4
    assert late_plugin(Config()).penalty_method == "none"


def test_the_table_lists_every_late_hand_in_of_the_term(term):
    policy = LateDays(days_free=1, max_days=3)
    with Ledger(term, late=policy) as ledger:
        write(ledger, DAY, "last")
        write(ledger, 5 * DAY, "ps")
        write(ledger, -HOUR, "ps", "bob")
        charges = late_days(ledger.gradebook, policy)
    assert charges == [Charge("ann", "ps", 5, 0, 5, True), Charge("ann", "last", 1, 1, 0, False)]
    assert table(charges).splitlines()[1].split() == ["ann", "ps", "5", "0", "refused"]


def test_an_assignment_without_a_due_date_is_never_late(url):
    enter(url, release(), "open", None)
    with Ledger(url, late=LateDays()) as ledger:
        found = [outcome("two", assignment="open", scores=scores(HAND_INS["full"]["two"]))]
        ledger.write(submission(timestamp=LATER, name="open"), found, {"two": HAND_INS["full"]["two"]})
        assert late_days(ledger.gradebook, LateDays()) == []
    assert penalties(url, "open") == {"one": None, "two": None}
