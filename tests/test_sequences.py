"""Sequences made by a rule: every target is worked out again, every chance level is measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coursekit.data import sequences
from coursekit.data.sequences import (
    IGNORED,
    adding,
    copy_recall,
    count_the_gap,
    delayed_recall,
    parity,
    temporal_order,
)
from coursekit.losses import cross_entropy_forward

LENGTHS = [2, 3, 5, 10, 11, 50]

# One call of each task, as count -> Sequences.
TASKS = {
    "adding": lambda count, **options: adding(count, 11, **options),
    "temporal order": lambda count, **options: temporal_order(count, 11, **options),
    "parity": lambda count, **options: parity(count, 11, **options),
    "running parity": lambda count, **options: parity(count, 11, running=True, **options),
    "copy": lambda count, **options: copy_recall(count, 3, 5, symbols=7, **options),
    "delayed recall": lambda count, **options: delayed_recall(count, 11, 3, symbols=5, **options),
    "moment": lambda count, **options: count_the_gap(count, 11, 3, **options),
    "interval": lambda count, **options: count_the_gap(count, 11, 3, ask="interval", **options),
}
SHAPES = {
    "adding": ((11, 13, 2), (13, 1)),
    "temporal order": ((11, 13, 6), (13,)),
    "parity": ((11, 13, 1), (13,)),
    "running parity": ((11, 13, 1), (11, 13)),
    "copy": ((11, 13, 9), (11, 13)),
    "delayed recall": ((11, 13, 5), (11, 13)),
    "moment": ((11, 13, 1), (11, 13)),
    "interval": ((11, 13, 1), (11, 13, 1)),
}
CLASSES = {"temporal order": 4, "parity": 2, "running parity": 2, "copy": 7, "delayed recall": 5}
NUMBERS = {"adding", "interval"}

every_task = pytest.mark.parametrize("task", TASKS)
every_classification = pytest.mark.parametrize("task", CLASSES)


# What all have in common


@every_task
def test_time_comes_first_and_sizes_are_as_asked(task):
    x, target, _ = TASKS[task](13, rng=0)
    assert (x.shape, target.shape) == SHAPES[task]


@every_task
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_have_the_dtype_that_was_asked_for(task, dtype):
    x, target, _ = TASKS[task](3, rng=0, dtype=dtype)
    assert x.dtype == dtype
    assert target.dtype == (dtype if task in NUMBERS else np.int64)


@every_task
def test_a_seed_gives_the_same_sequences_and_another_seed_others(task):
    first, same, other = (TASKS[task](13, rng=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.x, same.x)
    np.testing.assert_array_equal(first.target, same.target)
    assert not np.array_equal(first.x, other.x)


@every_task
def test_a_seed_is_short_for_a_generator_with_it(task):
    np.testing.assert_array_equal(TASKS[task](13, rng=3).x, TASKS[task](13, rng=np.random.default_rng(3)).x)


@every_task
def test_a_generator_goes_on_to_new_sequences(task):
    rng = np.random.default_rng(0)
    assert not np.array_equal(TASKS[task](13, rng=rng).x, TASKS[task](13, rng=rng).x)


@every_task
def test_the_dtype_does_not_change_what_is_drawn(task):
    single, double = (TASKS[task](13, rng=3, dtype=dtype) for dtype in ("float32", "float64"))
    np.testing.assert_array_equal(single.x, double.x)
    np.testing.assert_array_equal(single.target, double.target.astype(single.target.dtype))


@every_task
def test_no_sequences_can_be_had_too(task):
    x, target, chance = TASKS[task](0, rng=0)
    assert (x.size, target.size) == (0, 0)
    assert chance == TASKS[task](1, rng=0).chance


# Targets, worked out again


@pytest.mark.parametrize("length", LENGTHS)
def test_adding_asks_for_the_sum_of_the_two_marked_numbers(length):
    x, target, _ = adding(40, length, rng=0, dtype="float64")
    values, marks = x[..., 0], x[..., 1]
    assert set(np.unique(marks)) <= {0, 1}
    half = length // 2
    assert (marks[:half].sum(0) == 1).all() and (marks[half:].sum(0) == 1).all()
    assert values.min() >= 0 and values.max() < 1
    np.testing.assert_allclose(target[:, 0], (values * marks).sum(0), rtol=1e-15)


@pytest.mark.parametrize("length", LENGTHS[1:])
def test_temporal_order_asks_for_the_two_letters_in_their_order(length):
    x, target, _ = temporal_order(60, length, rng=0)
    assert set(np.unique(x)) == {0, 1} and (x.sum(2) == 1).all()
    for n, symbols in enumerate(x.argmax(2).T):
        (early, late) = np.flatnonzero(symbols > 3)
        assert length // 10 <= early <= 2 * length // 10 < 4 * length // 10 <= late <= 5 * length // 10
        assert target[n] == 2 * (symbols[early] - 4) + symbols[late] - 4


@pytest.mark.parametrize("length", [1, *LENGTHS])
def test_parity_asks_whether_the_number_of_ones_is_odd(length):
    x, target, _ = parity(40, length, rng=0)
    assert set(np.unique(x)) == {0, 1}
    np.testing.assert_array_equal(target, [sum(bits) % 2 for bits in x[..., 0].T.astype(int)])


def test_running_parity_ends_with_the_parity_of_the_same_bits():
    once, running = (parity(40, 11, rng=5, running=running) for running in (False, True))
    np.testing.assert_array_equal(once.x, running.x)
    np.testing.assert_array_equal(once.target, running.target[-1])


def test_running_parity_turns_over_at_every_one_and_only_there():
    x, target, _ = parity(40, 11, rng=5, running=True)
    before = np.concatenate([np.zeros_like(target[:1]), target[:-1]])
    np.testing.assert_array_equal(target != before, x[..., 0] == 1)


@pytest.mark.parametrize("length, delay", [(1, 1), (1, 5), (3, 1), (5, 7)])
def test_copy_asks_for_the_word_after_the_cue(length, delay):
    x, target, _ = copy_recall(40, length, delay, symbols=3, rng=0)
    shown = x.argmax(2)
    blank, cue = 3, 4
    assert len(x) == 2 * length + delay
    assert (shown[:length] < 3).all()
    assert (np.flatnonzero((shown == cue).all(1)) == [length + delay - 1]).all()
    silent = np.delete(np.arange(length, len(x)), delay - 1)
    assert (shown[silent] == blank).all()
    assert (target[: length + delay] == IGNORED).all()
    np.testing.assert_array_equal(target[length + delay :], shown[:length])


@pytest.mark.parametrize("lag", [0, 1, 3, 10])
def test_delayed_recall_asks_for_the_symbol_of_lag_steps_before(lag):
    x, target, _ = delayed_recall(40, 11, lag, symbols=3, rng=0)
    shown = x.argmax(2)
    assert (target[:lag] == IGNORED).all()
    for t in range(lag, 11):
        np.testing.assert_array_equal(target[t], shown[t - lag])


def steps_since_spike(spikes: np.ndarray) -> list[int]:
    """Of one sequence, at each step; counted."""
    since, counted = 0, []
    for spike in spikes:
        since = 0 if spike else since + 1
        counted.append(since)
    return counted


@pytest.mark.parametrize("gap", [1, 2, 5, 10])
def test_moments_come_exactly_one_gap_after_a_spike(gap):
    x, target, _ = count_the_gap(40, 11, gap, rng=0)
    assert set(np.unique(x)) == {0, 1} and (x[0] == 1).all()
    for n in range(40):
        since = steps_since_spike(x[:, n, 0])
        assert max(since) < 2 * gap
        np.testing.assert_array_equal(target[:, n], [steps == gap for steps in since])


@pytest.mark.parametrize("gap", [1, 2, 5, 10])
def test_intervals_are_told_at_the_spike_that_ends_them(gap):
    x, target, _ = count_the_gap(40, 11, gap, ask="interval", rng=0, dtype="float64")
    for n in range(40):
        since = [0, *steps_since_spike(x[:, n, 0])]
        expected = [
            (before + 1) / (2 * gap) if spike else 0
            for before, spike in zip(since[:-1], x[:, n, 0], strict=True)
        ]
        np.testing.assert_array_equal(target[:, n, 0], [0, *expected[1:]])


def test_both_questions_are_asked_about_the_same_spikes():
    moment, interval = (count_the_gap(40, 11, 3, ask=ask, rng=5) for ask in ("moment", "interval"))
    np.testing.assert_array_equal(moment.x, interval.x)


def test_intervals_up_to_twice_the_gap_come_equally_often():
    _, target, _ = count_the_gap(20_000, 7, 3, ask="interval", rng=0)
    first = [told[told > 0][0] for told in target[..., 0].T]
    shares = np.unique_counts(np.round(first, 4)).counts / len(first)
    np.testing.assert_allclose(shares, np.full(6, 1 / 6), atol=4 * 0.5 / math.sqrt(20_000))


# Chance


def asked(target: np.ndarray) -> np.ndarray:
    """The targets of all the steps that are asked for."""
    return target[target != IGNORED]


@every_classification
def test_classes_come_equally_often(task):
    target = asked(TASKS[task](20_000, rng=0).target)
    shares = np.bincount(target, minlength=CLASSES[task]) / target.size
    assert len(shares) == CLASSES[task]
    # four standard deviations of a share that is counted in 20,000 independent sequences
    np.testing.assert_allclose(shares, 1 / CLASSES[task], atol=4 * 0.5 / math.sqrt(20_000))


@every_classification
def test_the_constant_loss_of_classes_is_that_of_equal_probabilities(task):
    batch = TASKS[task](20_000, rng=0)
    target, classes = asked(batch.target), CLASSES[task]
    assert cross_entropy_forward(np.zeros((target.size, classes)), target)[0] == pytest.approx(
        batch.chance.constant
    )
    # no other constant is better, up to what the sample's own imbalance is worth
    shares = np.bincount(target) / target.size
    assert -(shares * np.log(shares)).sum() == pytest.approx(batch.chance.constant, abs=1e-3)


@every_classification
def test_guesses_drawn_as_the_classes_are_score_the_guess_level(task):
    batch, other = (TASKS[task](20_000, rng=seed) for seed in (0, 1))
    wrong = np.mean(asked(batch.target) != asked(other.target))
    assert wrong == pytest.approx(batch.chance.guess, abs=0.015)
    assert batch.chance.guess == pytest.approx(1 - 1 / CLASSES[task])


@pytest.mark.parametrize("length", [2, 11])
def test_chance_of_adding_is_measured(length):
    batch, other = (adding(50_000, length, rng=seed, dtype="float64") for seed in (0, 1))
    assert batch.target.mean() == pytest.approx(1, abs=0.01)
    assert batch.target.var() == pytest.approx(batch.chance.constant, abs=0.004)
    assert np.mean((batch.target - other.target) ** 2) == pytest.approx(batch.chance.guess, abs=0.008)


@pytest.mark.parametrize("length, gap", [(4, 3), (11, 1), (11, 3), (30, 5)])
def test_chance_of_moments_is_measured(length, gap):
    batch = count_the_gap(20_000, length, gap, rng=0)
    share = batch.target.mean()
    assert -share * math.log(share) - (1 - share) * math.log(1 - share) == pytest.approx(
        batch.chance.constant, abs=5e-3
    )
    guess = np.random.default_rng(0).permutation(batch.target.ravel())
    assert np.mean(batch.target.ravel() != guess) == pytest.approx(batch.chance.guess, abs=5e-3)


@pytest.mark.parametrize("length, gap", [(4, 3), (11, 1), (11, 3), (30, 5)])
def test_chance_of_intervals_is_measured(length, gap):
    batch = count_the_gap(20_000, length, gap, ask="interval", rng=0, dtype="float64")
    assert batch.target.var() == pytest.approx(batch.chance.constant, abs=2e-3)
    guess = np.random.default_rng(0).permutation(batch.target.ravel())
    assert np.mean((batch.target.ravel() - guess) ** 2) == pytest.approx(batch.chance.guess, abs=2e-3)


def test_part_of_the_bits_says_nothing_about_their_parity():
    x, target, _ = parity(20_000, 7, rng=0)
    odd_of_some = x[:6, :, 0].sum(0) % 2
    for seen in (0, 1):
        assert target[odd_of_some == seen].mean() == pytest.approx(0.5, abs=0.025)


def test_every_place_for_a_mark_is_used():
    x, _, _ = adding(2_000, 7, rng=0)
    assert (x[..., 1].sum(1) > 0).all()


# Errors


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: adding(3, 1, rng=0), ValueError, "adding: length must be >= 2, got 1"),
        (lambda: adding(-1, 5, rng=0), ValueError, "adding: count must be >= 0, got -1"),
        (lambda: adding(3, 5.0, rng=0), TypeError, "adding: length must be an integer, got 5.0"),
        (lambda: temporal_order(3, 2, rng=0), ValueError, "temporal_order: length must be >= 3, got 2"),
        (lambda: parity(3, 0, rng=0), ValueError, "parity: length must be >= 1, got 0"),
        (lambda: parity(True, 3, rng=0), TypeError, "parity: count must be an integer, got True"),
        (lambda: copy_recall(3, 2, 0, rng=0), ValueError, "copy_recall: delay must be >= 1, got 0"),
        (
            lambda: copy_recall(3, 2, 1, symbols=1, rng=0),
            ValueError,
            "copy_recall: symbols must be >= 2, got 1",
        ),
        (
            lambda: delayed_recall(3, 5, 5, rng=0),
            ValueError,
            "lag 5 leaves nothing to ask in 5 steps; take a lag up to 4",
        ),
        (
            lambda: count_the_gap(3, 5, 5, rng=0),
            ValueError,
            "no gap of 5 ends within 5 steps; take a gap up to 4",
        ),
        (lambda: count_the_gap(3, 5, 0, rng=0), ValueError, "count_the_gap: gap must be >= 1, got 0"),
        (
            lambda: count_the_gap(3, 5, 2, ask="time", rng=0),
            ValueError,
            "ask 'time' is unknown, expected 'moment' or 'interval'",
        ),
        (lambda: delayed_recall(3, 5, -1, rng=0), ValueError, "delayed_recall: lag must be >= 0, got -1"),
        (lambda: parity(3, 5, rng=0, dtype=int), TypeError, "parity: dtype must be a floating one.*int64"),
        (
            lambda: parity(3, 5, rng=None),
            TypeError,
            "parity: rng must be a numpy.random.Generator or a seed, got None",
        ),
        (lambda: adding(3, 5, rng=np.random), TypeError, "adding: rng must be a numpy.random.Generator"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_all_tasks_are_tried_here():
    makers = {name for name in sequences.__all__ if name.islower()}
    assert makers == {"adding", "temporal_order", "parity", "copy_recall", "count_the_gap", "delayed_recall"}
