"""Gradient clipping: laws, torch's numbers, trees, gradients that are no numbers, errors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from coursekit.clipping import Clipped, clip_norm, clip_value, global_norm

NORMS = [0.5, 1, 2, 3, math.inf]
BOTH = pytest.mark.parametrize("clip", [clip_value, clip_norm])


class Pair(NamedTuple):
    du: Any
    dw: Any


def gradients_of(rng, scale=1.0):
    """Gradients of unlike shapes and sizes, as of a small net."""
    return {"u": scale * rng.normal(size=(2, 3)), "w": 5 * scale * rng.normal(size=(3, 3)), "b": np.ones(3)}


def flat(gradients):
    return np.concatenate([np.asarray(g).ravel() for g in gradients.values()])


# Laws


def test_clipping_by_norm_keeps_the_direction(rng):
    raw = gradients_of(rng)
    clipped, norm = clip_norm(raw, 0.5)
    np.testing.assert_allclose(flat(clipped), flat(raw) * 0.5 / norm, rtol=1e-14)
    assert norm == pytest.approx(np.linalg.norm(flat(raw)), rel=1e-14)


@pytest.mark.parametrize("norm", NORMS)
def test_the_norm_of_what_was_clipped_is_the_limit(norm, library, rng):
    raw = {name: library.array(g) for name, g in gradients_of(rng).items()}
    clipped = clip_norm(raw, 0.5, norm=norm)
    assert clipped.norm > 0.5
    assert global_norm(clipped.gradients, norm=norm) == pytest.approx(0.5, rel=10 * library.tolerance)
    assert global_norm(raw, norm=norm) == clipped.norm


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_within_the_limit_are_left_as_they_are_and_not_scaled_up(norm, rng):
    raw = gradients_of(rng, 1e-3)
    limit = global_norm(raw, norm=norm)
    for larger in (limit, 2 * limit, math.inf):
        np.testing.assert_array_equal(flat(clip_norm(raw, larger, norm=norm).gradients), flat(raw))


def test_clipping_by_norm_twice_changes_nothing_more(rng):
    once = clip_norm(gradients_of(rng), 0.5).gradients
    np.testing.assert_allclose(flat(clip_norm(once, 0.5).gradients), flat(once), rtol=1e-14)


def test_the_factor_is_one_for_all_arrays_also_for_those_that_are_small(rng):
    raw = gradients_of(rng)
    clipped, norm = clip_norm(raw, 0.5)
    for name, g in raw.items():
        np.testing.assert_allclose(clipped[name], g * (0.5 / norm), rtol=1e-14)
    assert np.linalg.norm(clipped["b"]) < 0.5  # far below: it was scaled with the others, not on its own


def test_how_the_numbers_are_divided_into_arrays_does_not_matter(rng):
    raw = gradients_of(rng)
    together, apart = clip_norm(flat(raw), 0.5), clip_norm(raw, 0.5)
    np.testing.assert_allclose(flat(apart.gradients), together.gradients, rtol=1e-14)
    assert apart.norm == pytest.approx(together.norm, rel=1e-14)


def test_clipping_by_value_cuts_what_stands_out_and_nothing_else(library, rng):
    raw = {name: library.array(g) for name, g in gradients_of(rng).items()}
    clipped = clip_value(raw, 0.5).gradients
    for name, g in raw.items():
        ours, values = library.numpy(clipped[name]), library.numpy(g)
        np.testing.assert_array_equal(ours, np.sign(values) * np.minimum(np.abs(values), 0.5))


def test_clipping_by_value_turns_the_gradient(rng):
    raw = flat(gradients_of(rng))
    clipped = clip_value(raw, 0.5).gradients
    cosine = clipped @ raw / np.linalg.norm(clipped) / np.linalg.norm(raw)
    assert 0 < cosine < 0.99


def test_clipping_by_value_can_turn_the_gradient_by_almost_45_degrees_in_the_plane():
    clipped = clip_value(np.array([1e6, 1.0]), 1.0).gradients
    np.testing.assert_array_equal(clipped, [1, 1])


def test_both_measure_the_gradients_before_they_clip(rng):
    raw = gradients_of(rng)
    assert clip_value(raw, 0.5).norm == clip_norm(raw, 0.5).norm == global_norm(raw)


@BOTH
def test_nothing_that_comes_in_is_changed_and_nothing_that_goes_out_shares_its_memory(clip, library, rng):
    for limit in (0.5, 1e6):
        g = library.array(rng.normal(size=(3, 5)) * 3)
        before = library.numpy(g).copy()
        clipped = clip({"w": g}, limit).gradients["w"]
        clipped += 1
        np.testing.assert_array_equal(library.numpy(g), before)


@BOTH
def test_dtypes_stay(clip, library, rng):
    library.numpy(clip(library.array(rng.normal(size=5)), 0.5).gradients)
    library.numpy(clip(library.array(rng.normal(size=5)), 100).gradients)


# torch


def theirs(values, clip):
    """What torch makes of the same gradients: clip gets a list of parameters and returns a norm, or None."""
    parameters = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in values.values()]
    for p, g in zip(parameters, values.values(), strict=True):
        p.grad = torch.tensor(g)
    norm = clip(parameters)
    return {name: p.grad.numpy() for name, p in zip(values, parameters, strict=True)}, norm


@pytest.mark.parametrize("limit", [0.01, 1.0, 5.0, 1e3])
@pytest.mark.parametrize("norm", NORMS)
def test_clipping_by_norm_agrees_with_torch(limit, norm, rng):
    values = gradients_of(rng)
    expected, norm_seen = theirs(values, lambda p: torch.nn.utils.clip_grad_norm_(p, limit, norm))
    exact, with_eps = clip_norm(values, limit, norm=norm), clip_norm(values, limit, norm=norm, eps=1e-6)
    assert exact.norm == pytest.approx(float(norm_seen), rel=1e-12)
    for name, g in expected.items():
        np.testing.assert_allclose(with_eps.gradients[name], g, rtol=1e-12)
        # torch divides by norm + 1e-6: without it the numbers are larger by that part of the norm
        np.testing.assert_allclose(exact.gradients[name], g, rtol=1.1e-6 / exact.norm)


def test_torch_scales_just_below_the_limit_and_so_do_we_with_its_eps():
    values = {"w": np.array([1 - 4e-7])}
    expected, _ = theirs(values, lambda p: torch.nn.utils.clip_grad_norm_(p, 1.0))
    assert expected["w"] < values["w"]
    np.testing.assert_allclose(clip_norm(values, 1.0, eps=1e-6).gradients["w"], expected["w"], rtol=1e-15)
    np.testing.assert_array_equal(clip_norm(values, 1.0).gradients["w"], values["w"])


@pytest.mark.parametrize("limit", [0.01, 1.0, 1e3])
def test_clipping_by_value_agrees_with_torch_bit_for_bit(limit, rng):
    values = gradients_of(rng)
    expected, _ = theirs(values, lambda p: torch.nn.utils.clip_grad_value_(p, limit))
    for name, g in clip_value(values, limit).gradients.items():
        np.testing.assert_array_equal(g, expected[name])


# Gradients that are no numbers


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("convert", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_gradients_that_are_no_numbers_are_handled_as_in_torch_and_show_in_the_norm(bad, convert):
    values = {"u": np.array([1.0, bad, 0.1]), "w": np.array([-2.0])}
    trees = {name: convert(g) for name, g in values.items()}
    for clip, torchs in [
        (clip_norm, torch.nn.utils.clip_grad_norm_),
        (clip_value, torch.nn.utils.clip_grad_value_),
    ]:
        expected, _ = theirs(values, lambda p, torchs=torchs: torchs(p, 0.5))
        clipped = clip(trees, 0.5)
        assert not math.isfinite(clipped.norm)
        for name, g in expected.items():
            np.testing.assert_array_equal(np.asarray(clipped.gradients[name]), g)


@pytest.mark.parametrize("norm", NORMS)
def test_one_value_that_is_no_number_makes_the_norm_none_in_whatever_array_it_stands(norm):
    for gradients in ([np.array([math.nan]), np.ones(2)], [np.ones(2), np.array([math.nan])]):
        assert math.isnan(global_norm(gradients, norm=norm))


@pytest.mark.parametrize("convert", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_squares_that_overflow_do_not_lose_the_gradient(convert):
    values = np.array([3e25, -4e25], dtype="float32")
    clipped, norm = clip_norm([convert(values)], 1.0)
    assert norm == pytest.approx(5e25, rel=1e-6)
    np.testing.assert_allclose(np.asarray(clipped[0]), [0.6, -0.8], rtol=1e-6)
    # torch's norm is infinite here, and its step is zero
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor(values)
    assert torch.nn.utils.clip_grad_norm_([p], 1.0) == math.inf
    assert not p.grad.any()


# Trees


@BOTH
def test_a_tree_comes_back_as_it_went_in(clip, rng):
    a, b, c, d = (rng.normal(size=n) for n in (2, 3, 5, 7))
    tree = {"cell": Pair(a, [b, (c, None)]), "out": {0: d}, "frozen": None}
    clipped = clip(tree, 0.1).gradients
    assert list(clipped) == ["cell", "out", "frozen"]
    assert isinstance(clipped["cell"], Pair)
    assert isinstance(clipped["cell"].dw, list) and isinstance(clipped["cell"].dw[1], tuple)
    assert clipped["cell"].dw[1][1] is None and clipped["frozen"] is None
    arrays = [clipped["cell"].du, clipped["cell"].dw[0], clipped["cell"].dw[1][0], clipped["out"][0]]
    for ours, together in zip(arrays, clip([a, b, c, d], 0.1).gradients, strict=True):
        np.testing.assert_array_equal(ours, together)


@BOTH
@pytest.mark.parametrize("empty", [{}, [], (), None, [None, {}], np.zeros((0, 3))])
def test_no_gradients_have_norm_zero(clip, empty):
    clipped = clip(empty, 1.0)
    assert clipped.norm == 0
    assert type(clipped.gradients) is type(empty)


def test_an_empty_array_among_others_counts_for_nothing():
    for norm in NORMS:
        assert global_norm([np.zeros((0, 3)), np.array([-2.0])], norm=norm) == pytest.approx(2)


def test_a_single_array_is_a_tree():
    clipped, norm = clip_norm(np.array([3.0, 4.0]), 1.0)
    np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-15)
    assert norm == 5 and type(norm) is float


def test_arrays_of_several_dtypes_are_clipped_together():
    single, double = clip_norm([np.array([3.0], "float32"), np.array([4.0])], 1.0).gradients
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose([single[0], double[0]], [0.6, 0.8], rtol=1e-6)


def test_zero_gradients_stay_zero():
    assert clip_norm(np.zeros(3), 1.0) == Clipped(pytest.approx(np.zeros(3)), 0.0)


def test_gradients_that_autograd_watches_are_clipped_unseen():
    w = torch.ones(3, requires_grad=True)
    (g,) = torch.autograd.grad((w**3).sum(), w, create_graph=True)
    for clip in (clip_value, clip_norm):
        assert not clip([g], 0.5).gradients[0].requires_grad


# Errors


@pytest.mark.parametrize("limit", [0, -1, math.nan])
@BOTH
def test_a_limit_that_is_not_above_zero_is_refused(clip, limit):
    with pytest.raises(ValueError, match=rf"{clip.__name__}: limit must be a number > 0, got {limit}"):
        clip([np.ones(2)], limit)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: clip_norm([np.ones(2)], 1, norm=0),
            ValueError,
            "clip_norm: norm must be a number > 0, got 0",
        ),
        (lambda: global_norm([np.ones(2)], norm=-2), ValueError, "global_norm: norm must be a number > 0"),
        (
            lambda: clip_norm([np.ones(2)], 1, eps=-1),
            ValueError,
            "clip_norm: eps must be a number >= 0, got -1",
        ),
        (
            lambda: clip_norm({"cell": [np.ones(2), "w"]}, 1),
            TypeError,
            r"clip_norm: gradients\['cell'\]\[1\] is a str; expected an array, None, or a mapping",
        ),
        (
            lambda: clip_value({"w": np.array([1, 2])}, 1),
            TypeError,
            r"clip_value: gradients\['w'\] has dtype int64, expected a floating one",
        ),
        (
            lambda: clip_value([np.ma.array([1.0])], 1),
            TypeError,
            r"clip_value: gradients\[0\] is masked",
        ),
        (lambda: global_norm(3.0), TypeError, "global_norm: gradients is a float; expected an array"),
        (
            lambda: clip_norm(iter([np.ones(2)]), 1),
            TypeError,
            "clip_norm: gradients is a list_iterator; expected an array",
        ),
    ],
)
def test_what_is_no_tree_of_gradients_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
