"""Jacobians through time: against the formula, autograd and differences; composition; growth rates."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np
import pytest
import torch

from coursekit import jacobians as jac
from coursekit.arrays import ShapeError
from coursekit.cells import RNNCell, RNNState
from coursekit.recurrent import unroll

T, N, D, U = 5, 3, 2, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def parameters(rng):
    return [rng.normal(size=shape) for shape in ((D, U), (U, U), (U,))]


@pytest.fixture
def trace(rng):
    return unroll(RNNCell(*parameters(rng)), rng.normal(size=(T, N, D)))[2]


class Pair(NamedTuple):
    """A state of two arrays."""

    h: np.ndarray
    c: np.ndarray


class LeakyCell:
    """A state of two arrays, c a leaky sum and h what tanh lets out of it; a step keeps something."""

    features = units = 3

    def __init__(self, xp, w):
        self.xp, self.w = xp, w

    def initial(self, x):
        return Pair(self.xp.zeros_like(x[0]), self.xp.zeros_like(x[0]))

    def project(self, x):
        return x

    def step(self, z, before):
        c = 0.9 * before.c + before.h @ self.w + z
        return Pair(self.xp.tanh(c), c), (c,)

    def step_backward(self, dafter, before, after, saved):
        (c,) = saved
        dc = dafter.c + dafter.h * (1 - self.xp.tanh(c) ** 2)
        return dc, Pair(dc @ self.w.T, 0.9 * dc)


def test_a_step_of_the_plain_cell_is_w_times_the_slopes(trace):
    slopes = 1 - trace.states.h[1:] ** 2
    expected = trace.cell.w * slopes[:, :, None, :]
    np.testing.assert_allclose(jac.step_jacobians(trace), expected, rtol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity", "sigmoid"])
def test_the_whole_product_is_what_autograd_finds(rng, activation):
    x, weights = rng.normal(size=(T, 1, D)), parameters(rng)
    cell = RNNCell(*map(torch.from_numpy, weights), activation=activation)

    def last(h0):
        return unroll(cell, torch.from_numpy(x), RNNState(h0[None]))[0][-1, 0]

    h0 = torch.from_numpy(rng.normal(size=U))
    expected = torch.autograd.functional.jacobian(last, h0).T  # torch has the outputs as rows
    trace = unroll(RNNCell(*weights, activation=activation), x, RNNState(h0.numpy()[None]))[2]
    product = jac.lag_jacobians(jac.step_jacobians(trace))[T, 0]
    np.testing.assert_allclose(product, expected, atol=1e-13)


def test_a_product_foretells_a_small_change_of_the_state(rng):
    cell, x = RNNCell(*parameters(rng)), rng.normal(size=(T, N, D))
    h0, change = rng.normal(size=(N, U)), 1e-6 * rng.normal(size=(N, U))
    (_, plus, _), (_, minus, _) = (unroll(cell, x, RNNState(h0 + d)) for d in (change, -change))
    product = jac.lag_jacobians(jac.step_jacobians(unroll(cell, x, RNNState(h0))[2]))[T]
    foretold = (change[:, None] @ product)[:, 0]
    np.testing.assert_allclose((plus.h - minus.h) / 2, foretold, rtol=1e-6, atol=1e-14)


def test_products_compose(trace):
    steps = jac.step_jacobians(trace)
    lags, late = jac.lag_jacobians(steps), jac.lag_jacobians(steps[2:])
    early = jac.lag_jacobians(steps[:2])[2]
    np.testing.assert_allclose(lags[T], early @ late[T - 2], rtol=1e-12)


def test_lag_zero_is_the_identity_and_lag_one_the_last_step(trace):
    steps = jac.step_jacobians(trace)
    lags = jac.lag_jacobians(steps)
    assert lags.shape == (T + 1, N, U, U)
    np.testing.assert_array_equal(lags[0], np.broadcast_to(np.eye(U), (N, U, U)))
    np.testing.assert_array_equal(lags[1], steps[-1])


def test_gradients_of_states_are_the_products_applied_to_the_last(rng, trace):
    dlast = rng.normal(size=(N, U))
    gradients = jac.state_gradients(trace, RNNState(dlast)).h
    lags = jac.lag_jacobians(jac.step_jacobians(trace))
    expected = [np.einsum("nij,nj->ni", lags[T - t], dlast) for t in range(T + 1)]
    np.testing.assert_allclose(gradients, expected, rtol=1e-12)


def test_a_state_of_two_arrays_is_counted_through(rng):
    w, x = rng.normal(size=(3, 3)), rng.normal(size=(T, 1, 3))
    start = rng.normal(size=6)
    cell = LeakyCell(torch, torch.from_numpy(w))

    def last(state):
        before = Pair(state[None, :3], state[None, 3:])
        for z in torch.from_numpy(x):
            before, _ = cell.step(z, before)
        return torch.cat([before.h, before.c], dim=1)[0]

    expected = torch.autograd.functional.jacobian(last, torch.from_numpy(start)).T
    states, saved, before = [Pair(start[None, :3], start[None, 3:])], [], None
    cell = LeakyCell(np, w)
    for z in x:
        before, kept = cell.step(z, states[-1])
        states.append(before)
        saved.append(kept)
    stacked = Pair(*(np.stack(arrays) for arrays in zip(*states, strict=True)))
    trace = jac.Trace(cell, x, stacked, saved, None, False, None)
    np.testing.assert_allclose(jac.lag_jacobians(jac.step_jacobians(trace))[T, 0], expected, atol=1e-13)


def test_a_sequence_that_has_ended_hands_its_gradient_on(rng):
    cell, x = RNNCell(*parameters(rng)), rng.normal(size=(T, N, D))
    padded = jac.step_jacobians(unroll(cell, x, lengths=[T, 2, 0])[2])
    short = jac.step_jacobians(unroll(cell, x[:2])[2])
    np.testing.assert_array_equal(padded[2:, 1], np.broadcast_to(np.eye(U), (T - 2, U, U)))
    np.testing.assert_array_equal(padded[:2, 1], short[:, 1])
    np.testing.assert_array_equal(padded[:, 2], np.broadcast_to(np.eye(U), (T, U, U)))


@pytest.mark.parametrize(
    "measure",
    [
        lambda steps: jac.lag_jacobians(steps),
        lambda steps: jac.singular_values(jac.lag_jacobians(steps)),
        lambda steps: jac.lyapunov_exponents(steps),
    ],
    ids=["products", "singular values", "exponents"],
)
def test_torch_gives_numpys_numbers(rng, measure):
    weights, x = parameters(rng), rng.normal(size=(T, N, D))
    ours = measure(jac.step_jacobians(unroll(RNNCell(*weights), x)[2]))
    tensors = unroll(RNNCell(*map(torch.from_numpy, weights)), torch.from_numpy(x))[2]
    theirs = measure(jac.step_jacobians(tensors))
    assert isinstance(theirs, torch.Tensor)
    np.testing.assert_allclose(theirs, ours, atol=1e-12)


def test_no_step_changes_nothing(rng):
    trace = unroll(RNNCell(*parameters(rng)), np.zeros((0, N, D)))[2]
    lags = jac.lag_jacobians(jac.step_jacobians(trace))
    np.testing.assert_array_equal(lags, np.broadcast_to(np.eye(U), (1, N, U, U)))


def test_a_singular_value_below_rounding_is_nan():
    values = jac.singular_values(np.stack([np.diag([1.0, 1e-20]), np.diag([1e-20, 1e-25])]))
    np.testing.assert_array_equal(np.isnan(values), [[False, True], [False, False]])


def test_exponents_sum_to_the_mean_log_determinant(rng):
    steps = rng.normal(size=(50, 2, U, U))
    expected = np.log(np.abs(np.linalg.det(steps))).mean(axis=0)
    np.testing.assert_allclose(jac.lyapunov_exponents(steps).sum(axis=-1), expected, rtol=1e-12)


def test_exponents_of_a_gaussian_product_are_those_of_theory(rng):
    """Newman's formula: exponent i is half the mean logarithm of a chi-square with U - i degrees."""
    degrees = torch.arange(U, 0, -1, dtype=torch.float64)
    expected = 0.5 * (math.log(2) + torch.digamma(degrees / 2))
    found = jac.lyapunov_exponents(rng.normal(size=(20_000, 1, U, U)))[0]
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_a_lost_direction_has_the_exponent_minus_infinity():
    steps = np.broadcast_to(np.diag([2.0, 0.0]), (10, 1, 2, 2))
    np.testing.assert_allclose(jac.lyapunov_exponents(steps), [[math.log(2), -math.inf]])


def test_nothing_overflows_however_long_the_product():
    steps = np.broadcast_to(10 * np.eye(2), (2000, 1, 2, 2))
    np.testing.assert_allclose(jac.lyapunov_exponents(steps), [[math.log(10)] * 2], rtol=1e-12)


@pytest.mark.parametrize(
    "measure", [jac.lag_jacobians, jac.singular_values, jac.lyapunov_exponents], ids=lambda f: f.__name__
)
def test_matrices_that_are_not_square_are_named(measure):
    with pytest.raises(ShapeError, match=f"{measure.__name__}: jacobians has shape .* expected square"):
        measure(np.ones((T, N, 3, 2)))


def test_a_gradient_of_the_wrong_shape_is_named(trace):
    message = re.escape(f"state_gradients: dlast.h has shape ({N}, {U + 1}), expected ({N}, {U})")
    with pytest.raises(ShapeError, match=message):
        jac.state_gradients(trace, RNNState(np.ones((N, U + 1))))


def test_an_exponent_needs_a_step():
    with pytest.raises(ValueError, match="no steps to average over"):
        jac.lyapunov_exponents(np.ones((0, 1, 2, 2)))
