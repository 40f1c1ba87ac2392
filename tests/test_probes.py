"""Linear probes recover what lies in a state as a weighted sum, and score it on new examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coursekit.arrays import ShapeError
from coursekit.probes import fit_probe, lag_r_squared, r_squared
from coursekit.recurrent import rnn_forward


def test_a_probe_finds_a_weighted_sum_exactly(library, rng):
    h, v, c = rng.normal(size=(40, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
    h, y = library.array(h), library.array(h @ v + c)
    probe = fit_probe(h, y)
    np.testing.assert_allclose(library.numpy(probe.v), v, atol=10 * library.tolerance)
    np.testing.assert_allclose(library.numpy(probe.c), c, atol=10 * library.tolerance)
    np.testing.assert_allclose(library.numpy(r_squared(y, probe(h))), 1, atol=library.tolerance)


def test_a_probe_is_least_squares(rng):
    h, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    best = np.linalg.lstsq(np.c_[h, np.ones(40)], y, rcond=None)[0]
    probe = fit_probe(h, y)
    np.testing.assert_allclose(np.vstack([probe.v, probe.c]), best)


def test_what_a_probe_leaves_is_at_right_angles_to_every_unit(rng):
    h, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    left = y - fit_probe(h, y)(h)
    np.testing.assert_allclose(np.c_[h, np.ones(40)].T @ left, 0, atol=1e-12)


def test_dead_and_doubled_units_change_no_answer(rng):
    h, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    more = np.c_[h, np.full(40, 7.0), h[:, 1] - 2]
    np.testing.assert_allclose(fit_probe(more, y)(more), fit_probe(h, y)(h), atol=1e-12)


def test_the_mean_explains_nothing_and_a_constant_cannot_be_explained(library, rng):
    y = np.stack([rng.normal(size=30), np.ones(30)], axis=1)
    share = r_squared(library.array(y), library.array(np.broadcast_to(y.mean(axis=0), y.shape)))
    np.testing.assert_allclose(library.numpy(share), [0, np.nan], atol=library.tolerance)


def delay_line(x, units):
    """A state that holds the last inputs, one in each unit."""
    return np.stack([np.roll(x[..., 0], k, axis=0) for k in range(units)], axis=2)


def test_a_delay_line_holds_as_many_inputs_as_it_has_units(library, rng):
    x = rng.normal(size=(60, 60, 1))
    h = delay_line(x, 4)[20:]
    shares = lag_r_squared(library.array(h), library.array(x[20:]), range(8), fitted=30)
    found = library.numpy(shares)[:, 0]
    np.testing.assert_allclose(found[:4], 1, atol=1e-6)
    assert np.abs(found[4:]).max() < 0.02


def test_features_are_recovered_each_for_itself(rng):
    x = rng.normal(size=(30, 60, 2))
    shares = lag_r_squared(x[..., 1:], x, [0, 1], fitted=30)
    np.testing.assert_allclose(shares[0], [0, 1], atol=0.02)
    np.testing.assert_allclose(shares[1], [0, 0], atol=0.02)


def test_a_linear_net_keeps_what_its_kernel_says(rng):
    # h_t = sum_k a^k x_{t-k}: of the variance 1 / (1 - a^2), lag k has the share a^2k (1 - a^2)
    a, x = 0.8, rng.normal(size=(160, 200, 1))
    h, _ = rnn_forward(x, np.ones((1, 1)), np.array([[a]]), activation="identity")
    shares = lag_r_squared(h, x, range(5), fitted=100, start=60)[:, 0]
    np.testing.assert_allclose(shares, a ** (2 * np.arange(5)) * (1 - a**2), atol=0.02)


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
def test_all_lags_together_get_no_more_than_the_number_of_units(activation, rng):
    x = rng.normal(size=(150, 200, 1))
    w = 0.9 * np.linalg.qr(rng.normal(size=(5, 5)))[0]
    h, _ = rnn_forward(x, rng.normal(size=(1, 5)), w, activation=activation)
    shares = lag_r_squared(h, x, range(60), fitted=150)
    assert 1 < shares.sum() < 5.1


def test_a_fit_without_meaning_scores_nothing_on_new_sequences(rng):
    h, x = rng.normal(size=(1, 60, 40)), rng.normal(size=(1, 60, 1))
    rows = h[0, :50], x[0, :50]
    assert r_squared(rows[1], fit_probe(*rows)(rows[0]))[0] > 0.6
    assert lag_r_squared(h, x, [0], fitted=50)[0, 0] < 0


def test_a_faint_trace_counts_like_a_loud_one(rng):
    x = rng.normal(size=(30, 60, 1)).astype("float32")
    h = np.concatenate([np.roll(x, 1, axis=0), 1e-6 * x], axis=2)[5:]
    assert h.dtype == "float32"
    assert lag_r_squared(h, x[5:], [0], fitted=30)[0, 0] > 0.999


def test_arguments_are_left_as_they_were(rng):
    h, x = rng.normal(size=(9, 6, 2)), rng.normal(size=(9, 6, 1))
    before = h.copy(), x.copy()
    lag_r_squared(h, x, [0, 3], fitted=3)
    np.testing.assert_array_equal(h, before[0])
    np.testing.assert_array_equal(x, before[1])


MESSAGES = {
    "fit_probe: h has shape .* reshape steps": lambda a: fit_probe(a((5, 2, 3)), a((5, 1))),
    r"fit_probe: h \(5, 3\) and y \(4, 1\) differ": lambda a: fit_probe(a((5, 3)), a((4, 1))),
    "fit_probe: h has no rows": lambda a: fit_probe(a((0, 3)), a((0, 1))),
    "r_squared: prediction": lambda a: r_squared(a((5, 3)), a((5, 2))),
    "lag_r_squared: x": lambda a: lag_r_squared(a((9, 6, 2)), a((9, 5, 1)), [0], fitted=3),
    "lags must be": lambda a: lag_r_squared(a((9, 6, 2)), a((9, 6, 1)), [-1], fitted=3),
    "largest lag of 9 in 9 steps": lambda a: lag_r_squared(a((9, 6, 2)), a((9, 6, 1)), [9], fitted=3),
    "start 2 with a largest lag of 3": lambda a: lag_r_squared(
        a((9, 6, 2)), a((9, 6, 1)), [3], fitted=3, start=2
    ),
    "fitted=6 of 6 sequences": lambda a: lag_r_squared(a((9, 6, 2)), a((9, 6, 1)), [0], fitted=6),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_what_does_not_fit_is_said(message):
    with pytest.raises(ValueError, match=message):
        MESSAGES[message](np.zeros)


def test_two_libraries_are_not_mixed():
    with pytest.raises(TypeError, match="fit_probe"):
        fit_probe(np.zeros((5, 3)), torch.zeros((5, 1)))


def test_the_wrong_number_of_axes_is_a_shape_error():
    with pytest.raises(ShapeError, match="lag_r_squared: h"):
        lag_r_squared(np.zeros((9, 6)), np.zeros((9, 6, 1)), [0], fitted=3)
