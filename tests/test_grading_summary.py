"""The class summary: its numbers on a class that can be counted by hand, as text and as a page."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup

from coursekit.grading.records import CellScore, Finding, Outcome
from coursekit.grading.reports.summary import as_html, as_text, bin_labels, summarise

CLASS = ["ada", "ben", "cleo", "dan", "eve"]
DAMAGED = Finding("corrupt-json", "conv.ipynb is damaged in line 3.", review=True)
MOVED = Finding("cells-moved", "Cells stand in another order than released.", stage="release")
OPEN = "NOT PROTECTED: network: student code can open connections"


def record(*misconceptions: str, shortcut: str | None = None) -> dict:
    return {"check": "conv.f", "misconceptions": list(misconceptions), "shortcut": shortcut}


def outcome(student: str, *scores: CellScore, notebook: str = "conv", **fields) -> Outcome:
    earned = sum(score.points or 0 for score in scores)
    known = {"status": "graded", "points": earned, "maximum": 10.0, "scores": scores} | fields
    return Outcome(student, "conv", notebook, **known)


def scores(easy: float, hard: float, *misconceptions: str, **rest) -> list[CellScore]:
    return [
        CellScore("test-easy", easy, 4),
        CellScore("test-hard", hard, 6, record=record(*misconceptions, **rest)),
        CellScore("essay", None, 5),
    ]


@pytest.fixture
def outcomes() -> list[Outcome]:
    return [
        outcome("dan", status="needs review", maximum=0.0, findings=(DAMAGED,)),
        outcome("cleo", *scores(4, 0, "flipped", "lost"), seconds=9.0, findings=(MOVED,)),
        outcome("ben", *scores(2, 3, "flipped"), seconds=2.0, protection=(OPEN, "files: Landlock")),
        outcome("ada", *scores(4, 6), seconds=1.0),
    ]


def test_hand_ins_are_counted(outcomes):
    summary = summarise(outcomes, CLASS)
    counts = (summary.handed_in, summary.expected, summary.graded, summary.need_review, summary.missing)
    assert counts == (4, 5, 3, 1, ("eve",))


def test_whoever_handed_in_counts_though_not_on_the_list(outcomes):
    assert summarise(outcomes, []).expected == 4


def test_points_are_spread_over_ten_bars_and_quartiles(outcomes):
    summary = summarise(outcomes, CLASS)
    assert summary.maximum == 10
    assert summary.bins == [1, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    assert summary.quartiles == (0, 3, 4.5, 6.25, 10)


def test_the_notebooks_of_a_student_are_added_up():
    both = [outcome("ada", CellScore("a", 1, 2)), outcome("ada", CellScore("a", 3, 4), notebook="more")]
    summary = summarise(both, [])
    assert [(total.points, summary.maximum) for total in summary.totals] == [(4, 6)]
    assert {question.name for question in summary.questions} == {"conv: a", "more: a"}


def test_questions_come_hardest_first_and_those_graded_by_hand_last(outcomes):
    hard, easy, essay = summarise(outcomes, CLASS).questions
    assert (hard.name, hard.mean, hard.median, hard.full) == ("test-hard", 0.5, 0.5, pytest.approx(1 / 3))
    assert (easy.name, easy.mean, easy.full) == ("test-easy", pytest.approx(10 / 12), pytest.approx(2 / 3))
    assert (essay.name, essay.answers, essay.by_hand) == ("essay", 0, 3)


def test_an_essay_that_some_left_empty_is_not_the_hardest_question():
    handed_in = [outcome("ada", CellScore("essay", 0.0, 5)), outcome("ben", CellScore("essay", None, 5))]
    summary = summarise(handed_in, [])
    assert summary.maximum == 0
    assert summary.questions[0].by_hand == 1
    assert "graded by a person in 1 hand-in" in as_text(summary)


def test_misconceptions_are_counted_by_student_most_first(outcomes):
    flipped, lost = summarise(outcomes, CLASS).mistakes
    assert flipped == ("flipped", ("test-hard",), ("ben", "cleo"))
    assert lost == ("lost", ("test-hard",), ("cleo",))


def test_shortcuts_are_listed_with_who_took_them():
    summary = summarise([outcome("ada", *scores(4, 0, shortcut="np.convolve"))], [])
    assert summary.shortcuts == (("np.convolve", ("test-hard",), ("ada",)),)


def test_reviews_carry_their_reason_whether_of_a_hand_in_or_a_cell(outcomes):
    odd = outcome("eve", CellScore("test-easy", 0, 4, review="the result is nan"), status="needs review")
    reviews = summarise([*outcomes, odd], CLASS).reviews
    assert reviews == (
        ("dan", "conv.ipynb is damaged in line 3."),
        ("eve", "test-easy: the result is nan"),
    )


def test_a_review_without_a_reason_is_listed_all_the_same():
    (review,) = summarise([outcome("ada", status="needs review")], []).reviews
    assert review == ("ada", "no reason was kept")


def test_what_differs_from_the_release_is_a_list_of_its_own(outcomes):
    assert summarise(outcomes, CLASS).tampering == (("cleo", MOVED.message),)


def test_missing_protection_is_told_with_the_number_of_hand_ins(outcomes):
    assert summarise(outcomes, CLASS).gaps == (("network: student code can open connections", 1),)


def test_outcomes_of_two_assignments_are_refused(outcomes):
    other = Outcome("ada", "pooling", "pooling", "graded", 0, 1)
    with pytest.raises(ValueError, match=r"several assignments \(conv, pooling\)"):
        summarise([*outcomes, other], CLASS)


def test_the_text_says_it_all_in_a_hundred_columns(outcomes):
    text = as_text(summarise(outcomes, CLASS))
    for words in (
        "conv: 4 of 5 handed in, 3 graded, 1 need review, 1 missing",
        "missing: eve",
        "least 0, quarter 3, median 4.5, three quarters 6.25, most 10",
        "   2  flipped in test-hard: ben, cleo",
        "dan: conv.ipynb is damaged in line 3.",
        "cleo: Cells stand in another order than released.",
        "slowest: cleo 9.0 s, ben 2.0 s, ada 1.0 s",
        "NOT PROTECTED in 1 hand-in: network",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_large_class_is_told_in_short():
    handed_in = [outcome(f"student-{i:03}", *scores(4, 0, "flipped")) for i in range(300)]
    text = as_text(summarise(handed_in, []))
    assert "and 292 more" in text
    assert len(text) < 3000


@pytest.mark.parametrize("show", [as_text, as_html])
def test_an_empty_class_has_a_summary(show):
    assert "eve" in show(summarise([], ["eve"]))


def test_the_page_holds_the_same_numbers(outcomes):
    soup = BeautifulSoup(as_html(summarise(outcomes, CLASS)), "html.parser")
    assert [re.sub(r"\s+", "", dd.get_text()) for dd in soup.select(".counts dd")] == ["4/5", "3", "1", "1"]
    assert [bar.title.get_text() for bar in soup.select("rect")] == [
        f"{label}: {count}"
        for label, count in zip(bin_labels(10), [1, 0, 0, 0, 1, 1, 0, 0, 0, 1], strict=True)
    ]
    assert "flipped" in soup.get_text()


EVIL = "<script>alert(1)</script>\"' onload=x"


def test_names_and_messages_are_text_in_the_page():
    finding = Finding("x", EVIL, review=True)
    moved = Finding("y", EVIL, stage="release")
    graded = [CellScore(EVIL, 1, 4, review=EVIL, record=record(EVIL, shortcut=EVIL))]
    odd = outcome(
        EVIL, *graded, findings=(finding, moved), protection=(f"NOT PROTECTED: {EVIL}",), seconds=1.0
    )
    html = as_html(summarise([odd], [EVIL, f"{EVIL} 2"]))
    soup = BeautifulSoup(html, "html.parser")
    assert not soup.find_all(["script", "img", "iframe", "link"])
    assert not [name for tag in soup.find_all(True) for name in tag.attrs if name.startswith("on")]
    assert html.count("&lt;script&gt;") >= 9


def test_names_cannot_move_a_terminals_cursor():
    odd = outcome("ada\x1b[2J\n", *scores(4, 0, "flipped"), status="needs review", seconds=1.0)
    text = as_text(summarise([odd], ["ben\x1b]0;x\x07"]))
    assert not set("\x1b\x07") & set(text)


def test_the_page_loads_nothing(outcomes):
    html = as_html(summarise(outcomes, CLASS))
    assert "default-src 'none'" in html
    assert not re.search(r"(src|href)=|url\(|https?://", html)
