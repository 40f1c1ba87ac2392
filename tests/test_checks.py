"""Checks: what every one of them promises, and the engine on small functions of its own."""

from __future__ import annotations

import copy
import functools
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_code_cell, new_output
from nbgrader.utils import determine_grade

from coursekit import checks
from coursekit.checks import Case, Check, Misconception, call
from coursekit.checks.engine import with_gradients
from coursekit.checks.engine.check import apply
from coursekit.checks.engine.report import LINES, MIME, WIDTH
from coursekit.checks.engine.torch import CHANGED_IN_PLACE

CHAPTERS = Path(__file__).parents[1] / "chapters"
ALL = list(checks.all_checks())
MISTAKES = [(check, misconception) for check in ALL for misconception in check.misconceptions]

every_check = pytest.mark.parametrize("check", ALL, ids=lambda check: check.name)
every_mistake = pytest.mark.parametrize(
    ("check", "mistake"), MISTAKES, ids=lambda value: value.name.replace(".", "-")
)


def tupled(functions):
    return functions if isinstance(functions, tuple) else (functions,)


@functools.cache
def verdict(check, mistake, seed):
    """The score of a wrong variant, which calls the reference and so goes unwatched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSEKIT_CHECK_SEED", seed)
        return check.grade(*tupled(mistake.wrong), watched=False)


def times(check, function):
    """The function, once for each function that the check takes."""
    return (function,) * len(tupled(check.reference))


# -- every check -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", ["self-check", "another", "a third"])
@every_check
def test_the_reference_gets_full_marks(check, seed, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", seed)
    score = check.grade(*tupled(check.reference), watched=False)
    assert score.points == score.total == check.points, score.report


@pytest.mark.parametrize("seed", ["self-check", "another"])
@every_mistake
def test_every_wrong_variant_fails_and_is_named_as_itself(check, mistake, seed):
    score = verdict(check, mistake, seed)
    assert score.points < check.points
    assert score.misconceptions == (mistake.name,), score.report
    assert " ".join(mistake.message.split()) in " ".join(score.report.split())


@every_check
def test_every_report_fits_a_dozen_lines_that_validate_can_show(check):
    for mistake in check.misconceptions:
        lines = verdict(check, mistake, "self-check").report.splitlines()
        assert len(lines) <= LINES
        assert max(map(len, lines)) <= WIDTH


@every_check
def test_every_mistake_is_explained_briefly_and_where_it_says(check):
    for mistake in check.misconceptions:
        page, label = mistake.see.split("#")
        text = (CHAPTERS / f"{page}.md").read_text(encoding="utf-8")
        assert f":label: {label}" in text or f"({label})=" in text, mistake.see
        assert len(mistake.message) <= 160


@every_check
def test_names_lead_to_the_check_and_points_are_whole(check):
    slug, _, name = check.name.partition(".")
    assert getattr(getattr(checks, slug), name) is check
    names = [mistake.name for mistake in check.misconceptions]
    assert len(set(names)) == len(names)
    assert len({case.name for case in check.cases}) == len(check.cases)
    assert check.points == sum(case.points for case in check.cases) * len(check.terms) > 0


@every_check
def test_an_empty_stub_gets_nothing_and_one_clean_line(check):
    def stub(*args, **kwargs):
        raise NotImplementedError("Delete this line and write your code here.")

    score = check.grade(*times(check, stub))
    assert score.points == 0
    assert score.report.splitlines() == [
        f"{check.name}: 0 of {check.points} points", "  in every case: not written yet (NotImplementedError)"
    ]


class Flattering:
    """Equal to everything, larger than everything, and finite on request."""

    shape, dtype, ndim = (1,), np.float64, 1

    def __eq__(self, other):
        return True

    def __array__(self, dtype=None, copy=None):
        return np.zeros(1)

    __hash__ = None


def endless(*args, **kwargs):
    while True:
        pass


def failing(*args, **kwargs):
    raise ValueError("no such thing\n" * 50)


def leaving(*args, **kwargs):
    raise SystemExit(0)


NONSENSE = {
    "None": lambda *a, **k: None,
    "NaN": lambda *a, **k: float("nan"),
    "infinite": lambda *a, **k: np.full((2, 3), np.inf),
    "text": lambda *a, **k: "42" * 10_000,
    "huge": lambda *a, **k: np.broadcast_to(np.float32(1), (10_000, 10_000, 10_000)),
    "objects": lambda *a, **k: np.array([None, {}], dtype=object),
    "flattering": lambda *a, **k: Flattering(),
    "list": lambda *a, **k: [1, [2, 3]],
    "function": lambda *a, **k: print,
    "endless": endless,
    "failing": failing,
    "leaving": leaving,
}


@pytest.mark.parametrize("nonsense", NONSENSE)
@every_check
def test_nonsense_gets_nothing_and_a_short_report(check, nonsense, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SECONDS", "0.1")
    score = check.grade(*times(check, NONSENSE[nonsense]))
    assert score.points == 0
    assert len(score.report.splitlines()) <= LINES
    assert "Traceback" not in score.report and "coursekit/" not in score.report
    json.dumps(score.record(), allow_nan=False)


# A training run is left out: it is judged by where it ends, on data that stay the same.
ONE_CALL = [check for check in ALL if check.observe in (apply, with_gradients)]


@pytest.mark.parametrize("check", ONE_CALL, ids=lambda check: check.name)
def test_answers_learned_by_heart_fail_on_other_numbers(check, monkeypatch):
    """Play back what the reference says in the self-check, call by call, under the grader's seed."""
    spoken, functions = [], tupled(check.reference)

    def recorded(function):
        def record(*args, **kwargs):
            spoken.append(function(*args, **kwargs))
            return spoken[-1]

        return record

    check.grade(*map(recorded, functions), watched=False)
    assert spoken
    answers = iter(spoken)
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", "grader")
    score = check.grade(*times(check, lambda *a, **k: next(answers)), watched=False)
    assert score.points < check.points


@every_check
def test_calling_the_reference_is_noticed_as_a_shortcut(check):
    score = check.grade(*(functools.partial(function) for function in tupled(check.reference)))
    assert score.points == 0
    assert score.shortcut is not None and score.shortcut in score.report


def test_nbgrader_grades_on_other_numbers_than_the_self_check(monkeypatch):
    check = checks.conv.conv2d_forward
    monkeypatch.delenv("COURSEKIT_CHECK_SEED", raising=False)
    seen = check.arguments(check.cases[0], "cpu").args[0]
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    assert np.array_equal(seen, check.arguments(check.cases[0], "cpu").args[0])
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert not np.array_equal(seen, check.arguments(check.cases[0], "cpu").args[0])


# -- the score, as nbgrader reads it ---------------------------------------------------------------------


def slide(x, w, *, stride=1):
    """Correlate two rows by a loop; the honest solution of the toy check."""
    count = (len(x) - len(w)) // stride + 1
    return np.array([(x[i * stride : i * stride + len(w)] * w).sum() for i in range(count)], dtype=x.dtype)


def flipped(x, w, *, stride=1):
    return slide(x, w[::-1], stride=stride)


def last_missing(x, w, *, stride=1):
    return slide(x, w, stride=stride)[:-1]


TOY = Check(
    "toy.slide",
    title="Slide one row over another",
    reference=slide,
    terms=("y",),
    forbidden=("numpy.convolve", "numpy.correlate", "scipy.signal"),
    cases=(
        Case("plain", 1, lambda draw: call(draw(7), draw(3))),
        Case("strided", 2, lambda draw: call(draw(11), draw(2), stride=3)),
        Case("single", 0.5, lambda draw: call(draw(5), draw(1)), dtype="float32"),
        Case("strided single", 0.5, lambda draw: call(draw(11), draw(2), stride=2), dtype="float32"),
    ),
    misconceptions=(
        Misconception("flipped", "The kernel is flipped.", "convolution/arithmetic#eq-conv-flip", flipped),
        Misconception("short", "A window is missing.", "convolution/arithmetic#eq-conv-size", last_missing),
    ),
)


def shown(score):
    """The graded cell with the score as its result, as a kernel stores it."""
    data, _ = DisplayFormatter().format(score)
    cell = new_code_cell("checks.toy.slide(slide)", outputs=[new_output("execute_result", data=data)])
    cell.metadata["nbgrader"] = {"grade": True, "solution": False, "points": score.total}
    return cell


@pytest.mark.parametrize(
    ("function", "points"),
    [(slide, 4), (lambda x, w, stride=1: slide(x, w), 1.5), (lambda x, w, stride=1: x * np.nan, 0)],
)
def test_nbgrader_reads_the_exact_points_from_the_cell(function, points):
    assert determine_grade(shown(TOY.grade(function))) == (points, 4)


def test_the_record_travels_with_the_output_as_plain_json():
    record = shown(TOY.grade(flipped, watched=False)).outputs[0].data[MIME]
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["check"] == "toy.slide" and record["misconceptions"] == ["flipped"]
    assert [outcome["case"] for outcome in record["outcomes"]] == [case.name for case in TOY.cases]


def test_the_report_is_printed_and_the_score_returned(capsys):
    score = TOY(slide)
    assert repr(score) == "4"
    printed = capsys.readouterr()
    assert printed.out.startswith("toy.slide: 4 of 4 points\n") and printed.err == ""


def test_validate_gets_the_report_of_what_failed_on_stderr(capsys, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    TOY(flipped)
    TOY(slide)
    printed = capsys.readouterr()
    assert "The kernel is flipped." in printed.err and "4 of 4" in printed.out


def test_the_same_seed_draws_the_same_numbers_and_another_one_others(monkeypatch):
    first, again = (TOY.arguments(TOY.cases[0]).args[0] for _ in range(2))
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", "another")
    other = TOY.arguments(TOY.cases[0]).args[0]
    assert (first == again).all() and (first != other).all()


# -- what a report says ----------------------------------------------------------------------------------


def report(function, check=TOY):
    return check.grade(function).report


def test_a_wrong_value_is_shown_at_its_first_index_with_the_call():
    def wrong(x, w, *, stride=1):
        y = slide(x, w, stride=stride)
        y[2:] += 1
        return y

    text = report(wrong)
    assert "wrong: plain: y[2] is " in text and "; 3 of 5 entries differ" in text
    assert "in plain: x = float64 (7,), w = float64 (3,)" in text
    assert "also wrong: strided" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: None, "y is None; does the function return it?"),
        (lambda y: y.tolist(), "y is of type list, expected a NumPy array"),
        (lambda y: np.ma.array(y), "y is of type MaskedArray, expected a NumPy array"),
        (lambda y: y[None], "y has shape (1, 5), expected (5,)"),
        (lambda y: y.astype("float16"), "y has dtype float16, expected float64"),
        (lambda y: y / 0, "y[0] is"),
        (lambda y: y * np.array([1, np.nan, 1, 1, 1]), "y[1] is nan; 1 of 5 entries are not finite"),
        (lambda y: y + 1e-7, "y[0] is"),
    ],
)
def test_what_differs_is_said_in_the_order_type_shape_dtype_finite_value(change, said):
    first_case_only = Check("toy.one", "one", slide, (TOY.cases[0],), terms=("y",))
    assert said in report(lambda x, w: change(slide(x, w)), first_case_only)


def doubled(gradients):
    """Twice each array; the honest solution of a check whose argument and result are dictionaries."""
    return {name: 2 * a for name, a in gradients.items()}


BY_NAME = Check(
    "toy.by_name",
    "by name",
    doubled,
    (Case("two", 1, lambda draw: call({"w": draw(3, 5), "b": draw(5)})),),
    terms=("doubled",),
)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda gradients: list(gradients.values()), "doubled is of type list, expected a dict"),
        (lambda gradients: {"w": gradients["w"]}, "doubled has the keys 'w', expected 'b', 'w'"),
        (lambda gradients: {}, "doubled has the keys none, expected 'b', 'w'"),
        (lambda gradients: doubled(gradients) | {"b": gradients["w"][0]}, "doubled['b'][0] is "),
        (lambda gradients: doubled(gradients) | {"b": None}, "doubled['b'] is None; does the function"),
        (lambda gradients: gradients["w"], "doubled is of type ndarray, expected a dict"),
    ],
)
def test_a_dictionary_of_arrays_is_compared_by_its_keys(wrong, said):
    text = report(wrong, BY_NAME)
    assert said in text
    assert "in two: gradients = {'w': float64 (3, 5), 'b': float64 (5,)}" in text
    assert BY_NAME.grade(doubled).points == 1
    assert BY_NAME.grade(lambda gradients: dict(reversed(doubled(gradients).items()))).points == 1


def test_functions_and_lists_of_arrays_are_described_in_brief():
    def steps(draw):
        return call(doubled, [draw(3, 5), draw(3, 5), draw(2, 5)])

    described = Check("toy.steps", "steps", lambda f, batches: 1, (Case("three", 1, steps),))
    text = report(lambda f, batches: 2, described)
    assert "in three: f = doubled, batches = 3 arrays, the first float64 (3, 5)" in text


def test_a_list_of_records_is_described_by_their_number():
    def steps(draw):
        return call([(draw(3, 5), draw(3)), (draw(3, 5), draw(3))])

    described = Check("toy.records", "records", lambda records: 1, (Case("two", 1, steps),))
    assert "in two: records = 2 tuples, the first of 2 arrays" in report(lambda records: 2, described)
    edges = (Case("two", 1, lambda draw: call([(0, 1), (1, 0)])),)
    plain = Check("toy.edges", "edges", lambda edges: 1, edges)
    assert "in two: edges = [(0, 1), (1, 0)]" in report(lambda edges: 2, plain)


def test_values_that_differ_late_are_printed_with_enough_digits():
    text = report(lambda x, w, stride=1: slide(x, w, stride=stride) * (1 + 1e-8))
    got, expected = text.split("y[0] is ")[1].split(";")[0].split(", expected ")
    assert got != expected


def test_an_exception_is_told_with_the_students_own_line_and_no_frames():
    def broken(x, w, *, stride=1):
        return np.zeros(3) + np.zeros(2)  # the line to blame

    text = " ".join(report(broken).split())
    assert "raised ValueError: operands could not be broadcast together" in text
    assert "np.zeros(3) + np.zeros(2) # the line to blame" in text
    assert "Traceback" not in text and "File" not in text


def test_a_changed_argument_is_named():
    def careless(x, w, *, stride=1):
        y = slide(x, w, stride=stride)
        w *= 2
        return y

    score = TOY.grade(careless)
    assert score.points == 0 and "changed its argument w in place; work on a copy" in score.report


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ([(3, 1), (5, 2)], lambda given: given.pop()),
        ([(3, 1), (5, 2)], lambda given: given.reverse()),
        ({"w": 1.5}, lambda given: given.update(w=2.5)),
        ({"w": 1.5}, lambda given: given.clear()),
        ([{"w": 1.5}], lambda given: given[0].update(b=1)),
    ],
)
def test_a_changed_list_or_dictionary_is_noticed(given, change):
    only = (Case("only", 1, lambda draw: call(copy.deepcopy(given))),)
    check = Check("toy.length", "length", lambda given: len(given), only)

    def careless(given):
        length = len(given)
        change(given)
        return length

    assert check.grade(len).points == 1
    score = check.grade(careless)
    assert score.points == 0 and "changed its argument given" in score.report


def test_indices_may_be_of_any_integer_type_but_not_floats():
    only = (Case("only", 1, lambda draw: call()),)
    check = Check("toy.indices", "indices", lambda: np.arange(5), only)
    assert check.grade(lambda: np.arange(5, dtype="int32")).points == 1
    assert check.grade(lambda: np.arange(5, dtype="uint8")).points == 1
    assert "result[0] is 1, expected 0" in check.grade(lambda: np.arange(1, 6, dtype="int32")).report
    assert "dtype float64, expected int64" in check.grade(lambda: np.arange(5.0)).report


def test_warnings_and_prints_of_the_student_stay_off_the_screen(capsys):
    def talkative(x, w, *, stride=1):
        print("x" * 1000)
        np.log(np.zeros(1))
        return slide(x, w, stride=stride)

    score = TOY(talkative)
    printed = capsys.readouterr()
    assert score.points == 4 and printed.err == ""
    assert "what your function prints, warnings too, is not shown here: 4004 characters" in printed.out


def test_a_function_that_never_ends_is_called_once_and_then_no_more(monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SECONDS", "0.1")
    calls = []
    score = TOY.grade(lambda *a, **k: calls.append(1) or endless())
    assert len(calls) == 1
    assert "plain: did not finish within 0.1 s" in score.report


def test_the_time_limit_holds_without_the_timer_that_windows_lacks(monkeypatch):
    monkeypatch.delattr("signal.setitimer", raising=False)
    monkeypatch.setenv("COURSEKIT_CHECK_SECONDS", "0.1")
    assert "did not finish within 0.1 s" in report(endless)


def test_except_exception_in_the_student_does_not_swallow_the_time_limit(monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SECONDS", "0.1")

    def stubborn(*args, **kwargs):
        while True:
            try:
                endless()
            except Exception:
                pass

    assert "did not finish" in report(stubborn)


def test_an_interrupt_is_not_taken_for_a_wrong_answer():
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TOY.grade(interrupted)


def test_something_that_is_no_function_is_told_so():
    assert "is of type int, not a function" in report(3)


def test_two_mistakes_in_two_terms_are_both_named():
    see = "convolution/arithmetic#eq-conv-size"
    pair = Check(
        "toy.pair", "sum and product", lambda a, b: (a + b, a * b),
        (Case("numbers", 1, lambda draw: call(draw(3), draw(3))),),
        (
            Misconception("minus", "That is a difference.", see, lambda a, b: (a - b, a * b)),
            Misconception("divided", "That is a quotient.", see, lambda a, b: (a + b, a / b)),
        ),
        terms=("total", "product"),
    )
    assert pair.grade(lambda a, b: (a - b, a / b)).misconceptions == ("minus", "divided")
    half = pair.grade(lambda a, b: (a + b, a / b))
    assert half.points == 1 and half.misconceptions == ("divided",)


def test_a_result_of_the_wrong_length_is_told_in_words():
    pair = Check(
        "toy.pair", "two", lambda a: (a, a), (Case("one", 1, lambda draw: call(draw(3))),), terms=("p", "q")
    )
    assert "returned ndarray, expected a tuple (p, q)" in report(lambda a: a.copy(), pair)
    assert "returned tuple of 3, expected a tuple (p, q)" in report(lambda a: (a, a, a), pair)


def test_a_mistake_that_explains_only_some_of_the_failures_is_not_named():
    def two_mistakes(x, w, *, stride=1):
        return flipped(x, w, stride=stride) if stride == 1 else slide(x, w, stride=stride) + 1

    assert TOY.grade(two_mistakes).misconceptions == ()


def test_an_exception_alone_names_no_mistake():
    def raises(x, w, *, stride=1):
        raise IndexError

    with_raising = Misconception("raises", "It raises.", "convolution/arithmetic#eq-conv-size", raises)
    check = Check("toy.raising", "raising", slide, TOY.cases, (with_raising,), terms=("y",))

    def other(x, w, *, stride=1):
        return [][1]

    assert check.grade(other).misconceptions == ()


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        (3, 3.0, "n is of type float (3.0), expected int; int(...) and // make one"),
        (3, True, "n is of type bool (True), expected int"),
        (3, 4, "n is 4, expected 3"),
        (3, np.int64(3), None),
        (0.5, np.float32(0.5), None),
        (1.0, 1, None),
        (0.5, float("nan"), "n is nan, expected 0.5"),
        ((1, 2), [1, 2], "n is of type list, expected a tuple of 2"),
        ((1, 2), (1, 2, 3), "n is a tuple of 3, expected 2"),
        ((1, (2, 3)), (1, (2, 4)), "n[1][1] is 4, expected 3"),
        (None, 0, "n is of type int (0), expected None"),
        ("same", "valid", "n is 'valid', expected 'same'"),
    ],
)
def test_plain_results_are_compared_by_type_and_value(expected, got, said):
    only = (Case("only", 1, lambda draw: call()),)
    score = Check("toy.plain", "plain", lambda: expected, only, terms=("n",)).grade(lambda: got)
    assert score.points == (1 if said is None else 0)
    assert said is None or said in score.report


# -- shortcuts -------------------------------------------------------------------------------------------


def by_alias(x, w, *, stride=1, slide_over=np.convolve):
    return slide_over(x, w[::-1], "valid")[::stride]


def by_getattr(x, w, *, stride=1):
    return getattr(np, "corr" + "elate")(x, w, "valid")[::stride]


def by_map(x, w, *, stride=1):
    return next(map(np.correlate, [x], [w]))[: len(x)]


def by_scipy(x, w, *, stride=1):
    from scipy import signal

    return signal.correlate(x, w, "valid")[::stride]


def by_package(x, w, *, stride=1):
    from coursekit import conv as numpy_tools

    return numpy_tools.conv1d_forward(x[None, None], w[None, None], stride=stride)[0][0, 0]


def by_torch(x, w, *, stride=1):
    import torch

    rows = torch.from_numpy(x)[None, None], torch.from_numpy(w)[None, None]
    return torch.nn.functional.conv1d(*rows, stride=stride)[0, 0].numpy()


def by_thread(x, w, *, stride=1):
    found = []
    worker = threading.Thread(target=lambda: found.append(np.convolve(x, w[::-1], "valid")[::stride]))
    worker.start()
    worker.join()
    return found[0]


def by_swallowing(x, w, *, stride=1):
    try:
        return np.correlate(x, w, "valid")[::stride]
    finally:
        pass


def by_switching_off(x, w, *, stride=1):
    import sys

    sys.setprofile(None)
    return np.correlate(x, w, "valid")[::stride]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (by_alias, "numpy.convolve"),
        (functools.partial(by_alias), "numpy.convolve"),
        (by_getattr, "numpy.correlate"),
        (by_map, "numpy.correlate"),
        (by_scipy, "scipy"),
        (by_package, "coursekit.conv.conv1d_forward"),
        (by_torch, "torch."),
        (by_thread, "numpy.convolve"),
        (by_swallowing, "numpy.correlate"),
        (by_switching_off, "sys.setprofile"),
    ],
)
def test_a_shortcut_is_noticed_whatever_its_alias(function, name):
    score = TOY.grade(function)
    assert score.points == 0 and score.misconceptions == ()
    assert score.shortcut.startswith(name)
    assert f"used {score.shortcut}" in score.report and "build it yourself" in score.report


@pytest.mark.parametrize(
    "honest",
    [
        slide,
        lambda x, w, stride=1: np.array(
            [np.dot(x[i : i + len(w)], w) for i in range(0, len(x) - len(w) + 1, stride)], x.dtype
        ),
        lambda x, w, stride=1: np.einsum(
            "ik,k->i", np.stack([x[i : i + len(w)] for i in range(0, len(x) - len(w) + 1, stride)]), w
        ),
        lambda x, w, stride=1: sum(
            np.pad(x, (0, len(w)))[k : k + len(x) - len(w) + 1 : stride] * w[k] for k in range(len(w))
        ),
    ],
)
def test_honest_work_with_numpy_is_not_taken_for_a_shortcut(honest):
    assert TOY.grade(honest).points == 4


def test_an_allowed_helper_may_be_called_and_the_rest_may_not():
    from coursekit import arrays, conv

    check = Check(
        "toy.size", "size", lambda n: n - 2, (Case("only", 1, lambda draw: call(7)),),
        allowed=("coursekit.arrays", "coursekit.conv.effective_kernel"),
    )
    assert check.grade(lambda n: arrays.output_size(n, conv.effective_kernel(3, 1))).points == 1
    assert check.grade(lambda n: conv.receptive_field([(n - 2, 1, 1)]).size).shortcut is not None


def test_the_watch_ends_with_the_call():
    import sys

    before = sys.getprofile()
    TOY.grade(by_alias)
    assert sys.getprofile() is before
    assert TOY.grade(slide).shortcut is None


# -- tasks in torch --------------------------------------------------------------------------------------


def torch_slide(x, w):
    """The honest solution of the torch toy: a sum over taps."""
    count = x.shape[-1] - w.shape[-1] + 1
    return sum(x[..., k : k + count] * w[k] for k in range(len(w)))


TORCH_TOY = Check(
    "toy.torch_slide",
    title="Slide one tensor over another",
    reference=torch_slide,
    library="torch",
    terms=("y", "dx", "dw"),
    observe=with_gradients,
    forbidden=("torch.*conv*", "torch.unfold"),
    cases=(
        Case("numbers", 1, lambda draw: call(draw(2, 7), draw(3))),
        Case("another device", 1, lambda draw: call(draw(2, 7), draw(3)), device="meta"),
    ),
)


def lands_on_cpu(x, w):
    import torch

    y = torch.zeros(2, 5, dtype=x.dtype)
    y += torch_slide(x, w)
    return y


def mixes_devices(x, w):
    import torch

    return torch_slide(x, w) + torch.zeros(5, dtype=x.dtype)


def looks_at_a_value(x, w):
    return torch_slide(x, w) if x.abs().max() < 1e9 else None


def goes_through_numpy(x, w):
    import torch

    return torch_slide(torch.from_numpy(x.detach().numpy()), w)


def picks_by_indices_on_cpu(x, w):
    import torch

    return torch_slide(x.index_select(1, torch.arange(x.shape[1])), w)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lands_on_cpu, "a tensor was created on the CPU"),
        (mixes_devices, "a tensor was created on the CPU"),
        (looks_at_a_value, "needs a tensor's values on the CPU"),
        (lambda x, w: torch_slide(x, w) + float(x.sum()) * 0, "needs a tensor's values on the CPU"),
        (goes_through_numpy, "needs a tensor's values on the CPU"),
        (picks_by_indices_on_cpu, "a tensor was created on the CPU"),
    ],
)
def test_device_mistakes_are_found_without_a_gpu(function, said):
    score = TORCH_TOY.grade(function)
    assert [o.points for o in score.outcomes if o.case == "another device"] == [0, 0, 0]
    assert said in score.report


def test_a_change_in_place_that_autograd_meets_on_its_way_back_is_said_in_words():
    def reuses_its_buffer(x, w):
        part = x.clone()
        y = part[:, 2:] * w[2]
        part *= 2
        return y

    score = TORCH_TOY.grade(reuses_its_buffer)
    assert {outcome.case for outcome in score.outcomes} == {"numbers", "another device"}
    assert {outcome.problem for outcome in score.outcomes} == {CHANGED_IN_PLACE}


def test_a_result_cut_off_from_autograd_is_told_for_each_input():
    assert TORCH_TOY.grade(torch_slide).points == 6
    half = TORCH_TOY.grade(lambda x, w: torch_slide(x, w.detach()))
    assert half.points == 4 and "dw is cut off from autograd" in half.report
    assert TORCH_TOY.grade(lambda x, w: torch_slide(x, w).detach()).points == 0


def by_operator(x, w):
    import torch

    return torch.ops.aten.convolution(x[:, None], w[None, None], None, [1], [0], [1], False, [0], 1)[:, 0]


def by_module(x, w):
    import torch

    layer = torch.nn.Conv1d(1, 1, len(w), bias=False, dtype=x.dtype, device=x.device)
    return torch.func.functional_call(layer, {"weight": w[None, None]}, x[:, None])[:, 0]


def by_private_name(x, w):
    import torch

    return torch._C._nn.thnn_conv2d(x[:, None, None], w[None, None, None], (1, len(w)))[:, 0, 0]


def by_unfolding(x, w):
    return x.unfold(1, len(w), 1) @ w


@pytest.mark.parametrize("function", [by_operator, by_module, by_private_name, by_unfolding])
def test_torch_operations_are_noticed_however_they_are_reached(function):
    score = TORCH_TOY.grade(function)
    assert score.points == 0 and score.shortcut.startswith("torch.")


def test_every_case_of_a_torch_task_runs_on_cuda_too_where_there_is_one(monkeypatch):
    from coursekit.checks.engine import torch as tools

    seen = []
    monkeypatch.setattr(tools, "devices", lambda: ["cpu", "meta"])  # stands in for ["cpu", "cuda"]
    TORCH_TOY.grade(lambda x, w: seen.append(x.device.type) or torch_slide(x, w))
    assert seen == ["cpu", "meta", "meta"]
