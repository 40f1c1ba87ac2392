"""Backpropagation through time: equal bits in every mode, plans and their costs, what truncation cuts off."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from array_api_compat import array_namespace

from coursekit.arrays import ShapeError
from coursekit.bptt import (
    SoftmaxHead,
    bptt,
    checkpoint_plan,
    checkpointed_bptt,
    full_plan,
    root_plan,
    truncated_bptt,
)
from coursekit.cells import RNNCell, RNNState
from coursekit.recurrent import sequence_loss_backward, sequence_loss_forward, unroll, unroll_backward

T, N, D, U, K = 23, 5, 2, 7, 3


def cell_of(rng, library=None, *, features=D, units=U, **options):
    array = library.array if library else np.asarray
    u, w, b = rng.normal(size=(features, units)), rng.normal(size=(units, units)), rng.normal(size=units)
    return RNNCell(array(u), array(w / math.sqrt(units)), array(b), **options)


def linear_head(dh):
    """The loss sum(dh * h), whose gradient by the outputs is dh."""

    def head(t0, h):
        own = dh[t0 : t0 + h.shape[0]]
        return (own * h).sum(), own

    return head


def arrays_of(result):
    """Everything that a gradient consists of, by name."""
    named = {f"gradient {name}": a for name, a in result.gradients._asdict().items()}
    named |= {f"last {name}": a for name, a in result.last._asdict().items()}
    named |= {f"dstate {name}": a for name, a in result.dstate._asdict().items()}
    return {name: np.asarray(a) for name, a in (named | {"loss": result.loss}).items() if a is not None}


def expect_equal_bits(got, expected):
    got, expected = arrays_of(got), arrays_of(expected)
    assert got.keys() == expected.keys()
    for name in got:
        assert got[name].tobytes() == expected[name].tobytes(), name


def relative(got, expected):
    got, expected = np.asarray(got), np.asarray(expected)
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


class TwoStates(NamedTuple):
    h: Any
    c: Any


class TwoGradients(NamedTuple):
    dx: Any
    du: Any
    dw: Any


class TwoStateCell:
    """A state of two arrays, and something saved: c' = c / 2 + s and h' = s c', where s = sin(z + h w)."""

    def __init__(self, u, w):
        self.u, self.w, self.features, self.units = u, w, *u.shape
        self.xp, self.dz_columns = array_namespace(u), self.units

    def initial(self, x):
        zero = self.xp.zeros((x.shape[1], self.units), dtype=self.w.dtype)
        return TwoStates(zero, zero)

    def project(self, x):
        return x @ self.u

    def step(self, z, before):
        a = z + before.h @ self.w
        c = before.c / 2 + self.xp.sin(a)
        return TwoStates(self.xp.sin(a) * c, c), (a,)

    def local_slopes(self, states, saved):
        return saved

    def step_backward(self, dafter, before, after, saved=()):
        (a,) = saved
        dc = dafter.c + dafter.h * self.xp.sin(a)
        dz = (dafter.h * after.c + dc) * self.xp.cos(a)
        return dz, TwoStates(dz @ self.w.T, dc / 2)

    def gradients(self, x, before, after, dz, *, inputs=True):
        def rows(a):
            return self.xp.reshape(a, (-1, a.shape[-1]))

        dx = dz @ self.u.T if inputs else None
        return TwoGradients(dx, rows(x).T @ rows(dz), rows(before.h).T @ rows(dz))


@pytest.fixture
def task(rng, library):
    """A cell, inputs and an upstream gradient, in every library and dtype."""
    draws = [library.array(rng.normal(size=shape)) for shape in ((T, N, D), (T, N, U), (N, U))]
    x, dh, h0 = draws
    return SimpleNamespace(cell=cell_of(rng, library), x=x, dh=dh, head=linear_head(dh), state=RNNState(h0))


# The whole gradient


@pytest.mark.parametrize("block", [1, 4, 23, 40])
def test_full_agrees_with_the_unrolled_backward(block, task, library):
    h, last, trace = unroll(task.cell, task.x, task.state)
    expected, dstate = unroll_backward(task.dh, trace)
    result = bptt(task.cell, task.x, task.head, task.state, block=block)
    for name, gradient in result.gradients._asdict().items():
        if gradient is not None:
            assert relative(gradient, getattr(expected, name)) < library.tolerance
    assert relative(result.dstate.h, dstate.h) < library.tolerance
    assert relative(result.last.h, last.h) < library.tolerance
    assert float(result.loss) == pytest.approx(float((task.dh * h).sum()), rel=100 * library.tolerance)
    assert (result.forward_steps, result.stored_states) == (T, T)


@pytest.mark.parametrize("block", [1, 3, 5])
@pytest.mark.parametrize("slots", [None, 6, 9, 22, 23, 100])
def test_checkpointed_equals_full_bit_for_bit(slots, block, task):
    full = bptt(task.cell, task.x, task.head, task.state, block=block)
    checkpointed = checkpointed_bptt(task.cell, task.x, task.head, task.state, slots=slots, block=block)
    expect_equal_bits(checkpointed, full)


@pytest.mark.parametrize("shape", [(1, 1), (1, 128), (32, 128), (17, 33)], ids=str)
def test_bits_are_equal_at_sizes_where_blas_takes_other_paths(shape, rng):
    batch, units = shape
    cell = cell_of(rng, features=3, units=units)
    cell = RNNCell(*(a.astype("float32") for a in (cell.u, cell.w, cell.b)))
    x, dh = (rng.normal(size=(60, batch, n)).astype("float32") for n in (3, units))
    full = bptt(cell, x, linear_head(dh), block=4)
    for slots in (None, 5, 12):
        expect_equal_bits(checkpointed_bptt(cell, x, linear_head(dh), slots=slots, block=4), full)


@pytest.mark.parametrize("library_name", ["numpy", "torch"])
def test_a_cell_of_two_states_that_saves_something_is_run_again_too(library_name, rng):
    convert = torch.from_numpy if library_name == "torch" else np.asarray
    u, w, x = (convert(rng.normal(size=shape)) for shape in ((D, U), (U, U), (T, N, D)))
    dh = convert(rng.normal(size=(T, N, U)))
    full = bptt(TwoStateCell(u, w), x, linear_head(dh), block=3)
    expect_equal_bits(checkpointed_bptt(TwoStateCell(u, w), x, linear_head(dh), slots=7, block=3), full)
    expect_equal_bits(checkpointed_bptt(TwoStateCell(u, w), x, linear_head(dh), block=3), full)


def test_the_gradient_of_a_cell_of_two_states_is_autograds(rng):
    u, w, x, dh = (torch.from_numpy(rng.normal(size=s)) for s in ((D, U), (U, U), (T, N, D), (T, N, U)))
    result = checkpointed_bptt(TwoStateCell(u, w), x, linear_head(dh), slots=5)
    inputs = [a.clone().requires_grad_() for a in (x, u, w)]
    h, _, _ = unroll(TwoStateCell(*inputs[1:]), inputs[0])
    for ours, theirs in zip(result.gradients, torch.autograd.grad((dh * h).sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_head_sees_each_block_once_and_the_last_one_first(rng):
    calls = []

    def head(t0, h):
        calls.append((t0, h.shape[0]))
        return 0.0, np.zeros_like(h)

    x = rng.normal(size=(11, N, D))
    for slots in (None, 5, 11):
        calls.clear()
        checkpointed_bptt(cell_of(rng), x, head, slots=slots, block=4)
        assert calls == [(8, 3), (4, 4), (0, 4)]


def test_the_head_gets_the_outputs_of_its_steps(rng):
    cell, x = cell_of(rng), rng.normal(size=(T, N, D))
    h, _, _ = unroll(cell, x)

    def head(t0, given):
        np.testing.assert_allclose(given, h[t0 : t0 + given.shape[0]], rtol=1e-12)
        return 0.0, np.zeros_like(given)

    checkpointed_bptt(cell, x, head, slots=5, block=2)
    truncated_bptt(cell, x, head, k1=4, k2=6)


def test_two_halves_joined_by_state_and_loss_give_the_same_last_state(task, library):
    whole = bptt(task.cell, task.x, task.head, task.state)
    half = bptt(task.cell, task.x[:9], task.head, task.state)
    rest = bptt(task.cell, task.x[9:], linear_head(task.dh[9:]), half.last)
    assert relative(rest.last.h, whole.last.h) < library.tolerance
    assert float(half.loss + rest.loss) == pytest.approx(float(whole.loss), rel=100 * library.tolerance)


def test_padding_after_a_sequences_end_gives_no_gradient(rng):
    cell, x, dh = cell_of(rng), rng.normal(size=(T, 2, D)), rng.normal(size=(T, 2, U))
    dh[9:, 1] = 0  # sequence 1 has nine steps
    h, _, trace = unroll(cell, x, lengths=[T, 9])
    expected, _ = unroll_backward(dh, trace)
    result = checkpointed_bptt(cell, x, linear_head(dh), slots=6)
    assert relative(result.gradients.dw, expected.dw) < 1e-12
    assert not result.gradients.dx[9:, 1].any()


def test_the_gradient_of_the_input_can_be_left_out(task):
    for run in (bptt, checkpointed_bptt):
        without = run(task.cell, task.x, task.head, inputs=False).gradients
        assert without.dx is None
        assert np.array_equal(without.dw, run(task.cell, task.x, task.head).gradients.dw)


def test_parameters_that_a_cell_lacks_stay_none(rng):
    cell = RNNCell(rng.normal(size=(D, U)), rng.normal(size=(U, U)))
    gradients = bptt(cell, rng.normal(size=(T, N, D)), linear_head(np.ones((T, N, U)))).gradients
    assert gradients.db is None and gradients.dbw is None


@pytest.mark.parametrize("run", [bptt, checkpointed_bptt, lambda *a: truncated_bptt(*a, k1=3)])
def test_a_sequence_without_steps_has_no_loss(run, rng):
    cell, state = cell_of(rng), RNNState(rng.normal(size=(N, U)))
    result = run(cell, np.zeros((0, N, D)), linear_head(np.zeros((0, N, U))), state)
    assert result.loss == 0 and result.last is not None
    assert not any(np.any(g) for g in result.gradients if g is not None)
    assert np.array_equal(result.last.h, state.h)
    assert result.gradients.dw.shape == (U, U) and result.gradients.dx.shape == (0, N, D)


def test_nothing_that_went_in_is_changed(rng):
    cell, x, dh, h0 = cell_of(rng), *(rng.normal(size=s) for s in ((T, N, D), (T, N, U), (N, U)))
    inputs = [cell.u, cell.w, cell.b, x, dh, h0]
    before = [a.copy() for a in inputs]

    def rude(t0, h):
        dh_own = dh[t0 : t0 + h.shape[0]]
        h[...] = math.nan  # a head may do with its outputs what it likes
        return 0.0, dh_own

    for result in (
        checkpointed_bptt(cell, x, rude, RNNState(h0), slots=5),
        truncated_bptt(cell, x, rude, RNNState(h0), k1=3, k2=5),
    ):
        assert np.isfinite(result.gradients.dw).all()
    for a, was in zip(inputs, before, strict=True):
        assert np.array_equal(a, was)


# The head of figure 10.3


@pytest.mark.parametrize("with_offset", [True, False])
def test_the_softmax_head_gives_the_gradients_of_the_whole_loss(with_offset, library, rng):
    cell = cell_of(rng, library)
    x, v, c = (library.array(rng.normal(size=s)) for s in ((T, N, D), (U, K), (K,)))
    c = c if with_offset else None
    labels = rng.integers(K, size=(T, N))
    labels = torch.from_numpy(labels) if library.name == "torch" else labels
    loss, cached = sequence_loss_forward(x, labels, cell.u, cell.w, v, cell.b, c)
    expected = sequence_loss_backward(cached)
    head = SoftmaxHead(labels, v, c)
    result = checkpointed_bptt(cell, x, head, slots=8, block=3)
    assert float(result.loss) == pytest.approx(float(loss), rel=library.tolerance)
    for name in ("du", "dw", "db"):
        assert relative(getattr(result.gradients, name), getattr(expected, name)) < 3 * library.tolerance
    assert relative(head.dv, expected.dv) < library.tolerance
    assert head.dc is None if c is None else relative(head.dc, expected.dc) < library.tolerance


def test_labels_below_zero_do_not_count(library, rng):
    cell = cell_of(rng, library)
    x, v, c = (library.array(rng.normal(size=s)) for s in ((T, N, D), (U, K), (K,)))
    lengths, labels = [T, 9, 1, 0, 17], rng.integers(K, size=(T, N))
    padded = np.where(np.arange(T)[:, None] < lengths, labels, -1)
    labels, padded = (torch.from_numpy(a) if library.name == "torch" else a for a in (labels, padded))
    loss, cached = sequence_loss_forward(x, labels, cell.u, cell.w, v, cell.b, c, lengths=lengths)
    expected, head = sequence_loss_backward(cached), SoftmaxHead(padded, v, c)
    result = bptt(cell, x, head, block=5)
    assert float(result.loss) == pytest.approx(float(loss), rel=library.tolerance)
    assert relative(result.gradients.dw, expected.dw) < 3 * library.tolerance
    assert relative(result.gradients.dx, expected.dx) < 3 * library.tolerance
    assert relative(head.dv, expected.dv) < library.tolerance
    assert relative(head.dc, expected.dc) < library.tolerance


def test_the_softmax_head_adds_up_equal_bits_in_every_mode(rng):
    cell, x, v, c = cell_of(rng), rng.normal(size=(T, N, D)), rng.normal(size=(U, K)), rng.normal(size=K)
    labels = rng.integers(K, size=(T, N))
    heads = [SoftmaxHead(labels, v, c) for _ in range(3)]
    bptt(cell, x, heads[0], block=4)
    checkpointed_bptt(cell, x, heads[1], block=4)
    checkpointed_bptt(cell, x, heads[2], slots=6, block=4)
    for head in heads[1:]:
        assert head.dv.tobytes() == heads[0].dv.tobytes()
        assert head.dc.tobytes() == heads[0].dc.tobytes()


# Plans


@cache
def cheapest(steps: int, slots: int) -> float:
    """C(t, m) = t if t <= m, else the least y + C(t - y, m - 1) + C(y, m), as it is written."""
    if steps <= slots:
        return steps
    if slots < 1:
        return math.inf
    return min(y + cheapest(steps - y, slots - 1) + cheapest(y, slots) for y in range(1, steps))


@pytest.mark.parametrize("slots", [2, 3, 4, 7, 10])
def test_the_plan_costs_what_the_recursion_says(slots):
    for steps in range(1, 41):
        assert checkpoint_plan(steps, slots).forward_steps == cheapest(steps, slots)


PLANS = [
    *(full_plan(steps, block=block) for steps in (0, 1, 23) for block in (1, 4)),
    *(root_plan(steps, block=block) for steps in (0, 1, 2, 23, 100) for block in (1, 4, 30)),
    *(checkpoint_plan(steps, slots) for steps in (0, 1, 2, 3, 23, 100) for slots in (2, 3, 10, 200)),
    *(checkpoint_plan(steps, slots, block=4) for steps in (3, 23, 101) for slots in (5, 8, 11, 50)),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.steps}-{p.block}-{p.stored_states}")
def test_a_plan_goes_back_through_every_step_once_from_states_that_it_has(plan):
    at_hand, done = {0}, plan.steps
    for kind, start, stop in plan.actions:
        assert start in at_hand and start < stop and start % plan.block == 0
        if kind == "advance":
            at_hand.add(stop)
        else:
            assert stop == done
            done = start
    assert done == 0


@pytest.mark.parametrize("steps, slots, block", [(1, 2, 1), (23, 2, 1), (23, 9, 4), (41, 9, 4), (41, 30, 7)])
def test_what_is_computed_and_stored_is_what_the_plan_says(steps, slots, block, rng):
    cell, x, head = cell_of(rng), rng.normal(size=(steps, 1, D)), linear_head(np.ones((steps, 1, U)))
    for plan, result in (
        (full_plan(steps, block=block), bptt(cell, x, head, block=block)),
        (root_plan(steps, block=block), checkpointed_bptt(cell, x, head, block=block)),
        (
            checkpoint_plan(steps, slots, block=block),
            checkpointed_bptt(cell, x, head, slots=slots, block=block),
        ),
    ):
        assert (result.forward_steps, result.stored_states) == (plan.forward_steps, plan.stored_states)


@pytest.mark.parametrize("slots", [2, 5, 11, 40, 99, 100, 150])
def test_the_plan_holds_no_more_states_than_there_are_slots(slots):
    assert checkpoint_plan(100, slots).stored_states <= slots


def test_more_slots_never_cost_more_steps():
    costs = [checkpoint_plan(60, slots).forward_steps for slots in range(2, 61)]
    assert costs == sorted(costs, reverse=True)
    assert (costs[0], costs[-1]) == (60 * 61 // 2 - 1, 60)


def test_five_per_cent_of_the_states_cost_less_than_one_more_forward_pass():
    plan = checkpoint_plan(1000, 50)
    assert plan.stored_states == 50 and plan.forward_steps < 2000


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_the_root_plan_holds_about_twice_the_root(steps):
    plan = root_plan(steps)
    assert plan.stored_states <= 2 * math.sqrt(steps) + 1
    assert plan.forward_steps < 2 * steps


# Truncation: which losses reach which steps


def reach(T, k1, k2):
    """Whether the loss of step s (row) reaches step r (column), from the definition."""
    covered = np.zeros((T, T), bool)
    for s in range(T):
        update = (s // k1 + 1) * k1  # the one that comes after step s
        covered[s, max(0, update - k2) : s + 1] = True
    return covered


def pairwise_gradients(cell, x, dh, eps=1e-5):
    """Central differences: entry (s, r) is the gradient of step s's loss by the w that step r uses."""
    T = x.shape[0]
    gradients = np.zeros((T, T, *cell.w.shape))
    for r in range(T):
        for i, j in np.ndindex(*cell.w.shape):
            losses = []
            for sign in (1, -1):
                w = np.array(cell.w)
                w[i, j] += sign * eps
                h, out = np.zeros((x.shape[1], cell.units)), []
                for t in range(T):
                    h = np.tanh(x[t] @ cell.u + h @ (w if t == r else cell.w) + cell.b)
                    out.append((dh[t] * h).sum())
                losses.append(np.array(out))
            gradients[:, r, i, j] = (losses[0] - losses[1]) / (2 * eps)
    return gradients


@pytest.mark.parametrize("k1, k2", [(1, 1), (1, 4), (3, 3), (2, 5), (4, 6), (5, 11), (11, 11), (4, 40)])
def test_truncation_keeps_exactly_the_pairs_of_steps_that_it_should(k1, k2, rng):
    steps = 11
    cell, x, dh = cell_of(rng, units=2), rng.normal(size=(steps, 1, D)), rng.normal(size=(steps, 1, 2))
    pairs = pairwise_gradients(cell, x, dh)
    expected = pairs[reach(steps, k1, k2)].sum(axis=0)
    got = truncated_bptt(cell, x, linear_head(dh), k1=k1, k2=k2).gradients.dw
    assert relative(got, expected) < 1e-8
    if k2 < steps:
        assert relative(got, pairs.sum(axis=(0, 1))) > 1e-3  # and not the whole gradient


@pytest.mark.parametrize("k1, k2", [(1, 4), (3, 3), (3, 8)])
def test_an_input_before_the_cut_gets_nothing_from_a_later_loss(k1, k2, rng):
    cell, x = cell_of(rng), rng.normal(size=(T, N, D))
    for s in (5, 13, 22):
        dh = np.zeros((T, N, U))
        dh[s] = 1
        dx = truncated_bptt(cell, x, linear_head(dh), k1=k1, k2=k2).gradients.dx
        touched = np.abs(dx).sum(axis=(1, 2)) > 0
        assert touched.tolist() == reach(T, k1, k2)[s].tolist()


def test_an_input_before_the_cut_still_changes_the_state_after_it(rng):
    cell, x, dh = cell_of(rng), rng.normal(size=(T, N, D)), np.ones((T, N, U))
    moved = x.copy()
    moved[0] += 1
    ran = [truncated_bptt(cell, a, linear_head(dh), k1=4) for a in (x, moved)]
    assert np.abs(ran[0].last.h - ran[1].last.h).max() > 0
    assert ran[0].loss != ran[1].loss


@pytest.mark.parametrize("k1", [1, 5, 23, 99])
def test_going_back_over_everything_is_the_whole_gradient(k1, task, library):
    whole = bptt(task.cell, task.x, task.head, task.state)
    truncated = truncated_bptt(task.cell, task.x, task.head, task.state, k1=k1, k2=T + 99)
    for name, a in arrays_of(truncated).items():
        assert relative(a, arrays_of(whole)[name]) < 100 * library.tolerance


def test_chunks_are_the_gradients_of_separate_runs_with_the_state_carried_on(task, library):
    truncated = truncated_bptt(task.cell, task.x, task.head, task.state, k1=6)
    total, state, loss = 0, task.state, 0
    for start in range(0, T, 6):
        dh = task.dh[start : start + 6]
        chunk = bptt(task.cell, task.x[start : start + 6], linear_head(dh), state)
        state, total, loss = chunk.last, total + chunk.gradients.dw, loss + chunk.loss
    assert relative(truncated.gradients.dw, total) < library.tolerance
    assert float(truncated.loss) == pytest.approx(float(loss), rel=100 * library.tolerance)
    assert relative(truncated.last.h, state.h) < library.tolerance


@pytest.mark.parametrize("k1, k2, stored", [(5, 5, 6), (1, 4, 5), (3, 8, 9), (23, 23, 23), (5, 99, 23)])
def test_truncation_holds_the_states_that_it_goes_back_through(k1, k2, stored, rng):
    result = truncated_bptt(
        cell_of(rng), rng.normal(size=(T, N, D)), linear_head(np.ones((T, N, U))), k1=k1, k2=k2
    )
    assert (result.forward_steps, result.stored_states) == (T, stored)


def test_the_cell_that_an_update_returns_runs_the_steps_that_follow(rng):
    cell, x, dh = cell_of(rng), rng.normal(size=(12, N, D)), rng.normal(size=(12, N, U))

    def descend(cell, gradients):
        return RNNCell(cell.u, cell.w - 0.01 * gradients.dw, cell.b)

    state, current = None, cell
    for start in range(0, 12, 4):
        chunk = bptt(current, x[start : start + 4], linear_head(dh[start : start + 4]), state, block=4)
        state, current = chunk.last, descend(current, chunk.gradients)

    cells = [cell]

    def update(gradients):
        cells.append(descend(cells[-1], gradients))
        return cells[-1]

    result = truncated_bptt(cell, x, linear_head(dh), k1=4, update=update)
    assert len(cells) == 1 + 3
    np.testing.assert_allclose(cells[-1].w, current.w, rtol=1e-12)
    np.testing.assert_allclose(result.last.h, state.h, rtol=1e-12)


# Errors

X, HEAD = np.zeros((4, N, D)), linear_head(np.zeros((4, N, U)))


@pytest.fixture
def plain(rng):
    return cell_of(rng)


@pytest.mark.parametrize("run", [bptt, checkpointed_bptt, lambda *a: truncated_bptt(*a, k1=2)])
@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            (np.zeros((4, N, D + 1)), HEAD),
            ShapeError,
            r"bptt: x has 3 features, the cell takes 2.*batch-first",
        ),
        ((np.zeros((4, D)), HEAD), ShapeError, r"bptt: x has 2 axes \(4, 2\), expected 3 \(T N D\)"),
        ((X, HEAD, np.zeros((N, U + 1))), ShapeError, r"bptt: state.h has shape \(5, 8\), expected \(5, 7\)"),
        ((X, HEAD, (X, X)), TypeError, r"bptt: the state has 2 arrays, expected \('h',\)"),
        ((X.astype("float32"), HEAD), TypeError, r"bptt: all arrays must have one dtype"),
        (
            (X, lambda t0, h: (0.0, h[0])),
            ShapeError,
            r"bptt: dh of the head has shape \(5, 7\), expected \(\d, 5, 7\): the shape of the outputs",
        ),
    ],
)
def test_what_does_not_fit_the_cell_is_refused(run, arguments, error, message, plain):
    with pytest.raises(error, match=message):
        run(plain, *arguments)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: checkpoint_plan(9, 1), ValueError, "checkpoint_plan: 1 slots are too few for 9 steps"),
        (lambda: checkpoint_plan(9, 4, block=4), ValueError, "expected at least 5: those of one block of 4"),
        (lambda: checkpoint_plan(9, 0), ValueError, "checkpoint_plan: slots must be >= 1, got 0"),
        (lambda: checkpoint_plan(-1, 4), ValueError, "checkpoint_plan: steps must be >= 0, got -1"),
        (lambda: root_plan(9, block=0), ValueError, "root_plan: block must be >= 1, got 0"),
        (lambda: full_plan(2.5), TypeError, "full_plan: steps must be an integer, got 2.5"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"k1": 3, "k2": 2}, ValueError, "truncated_bptt: k2 is 2, expected >= k1, 3"),
        ({"k1": 0}, ValueError, "truncated_bptt: k1 must be >= 1, got 0"),
        ({"k1": 2, "k2": 2.5}, TypeError, "truncated_bptt: k2 must be an integer, got 2.5"),
        (
            {"k1": 2, "update": lambda gradients: None},
            TypeError,
            "truncated_bptt: update returned None, expected the cell to go on with",
        ),
    ],
)
def test_a_truncation_that_cannot_be_is_refused(options, error, message, plain):
    with pytest.raises(error, match=message):
        truncated_bptt(plain, X, HEAD, **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros(4, int), np.zeros((U, K))), r"SoftmaxHead: labels has 1 axes \(4,\), expected 2 \(T N\)"),
        ((np.zeros((4, N), int), np.zeros((U, K)), np.zeros(2)), r"SoftmaxHead: c has shape \(2,\)"),
    ],
)
def test_a_softmax_head_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ShapeError, match=message):
        SoftmaxHead(*arguments)
