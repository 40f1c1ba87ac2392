"""Pooling: laws, gradients, ties, border windows, errors.  Agreement with torch and ONNX has its own file."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from coursekit import pooling
from coursekit.arrays import ShapeError, windows
from coursekit.gradcheck import check_gradients
from coursekit.pooling import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    lp_pool2d_backward,
    lp_pool2d_forward,
    max_pool1d_backward,
    max_pool1d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)

KINDS = ("max", "avg", "lp")
OVERLAPPING = {"kernel": (3, 2), "stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (1, 2)}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def pair(kind, axes=2):
    return tuple(getattr(pooling, f"{kind}_pool{axes}d_{way}") for way in ("forward", "backward"))


def distinct(rng, shape):
    """Values at least 0.01 apart and from zero, so that small steps change no maximum and no sign."""
    values = (np.arange(math.prod(shape)) - math.prod(shape) // 2 + 0.5) / 50
    return rng.permutation(values).reshape(shape)


# Laws


@pytest.mark.parametrize(
    "kind, reduce",
    [
        ("max", lambda w: w.max(axis=(-2, -1))),
        ("avg", lambda w: w.mean(axis=(-2, -1))),
        ("lp", lambda w: np.sqrt((w**2).sum(axis=(-2, -1)))),
    ],
)
def test_pooling_reduces_every_window(kind, reduce, library, rng):
    values = rng.normal(size=(2, 3, 7, 11))
    y, _ = pair(kind)[0](library.array(values), (3, 2), stride=(2, 1), dilation=(1, 2))
    expected = reduce(windows(values, (3, 2), stride=(2, 1), dilation=(1, 2)))
    np.testing.assert_allclose(library.numpy(y), expected, rtol=1e-5, atol=library.tolerance)


def test_a_batch_is_pooled_image_by_image(kind, rng):
    forward, backward = pair(kind)
    x = rng.normal(size=(5, 2, 7, 3))
    y, cache = forward(x, **OVERLAPPING)
    dy = rng.normal(size=y.shape)
    dx = backward(dy, cache)
    for n in range(5):
        y_n, cache_n = forward(x[n : n + 1], **OVERLAPPING)
        np.testing.assert_array_equal(y[n : n + 1], y_n)
        np.testing.assert_array_equal(dx[n : n + 1], backward(dy[n : n + 1], cache_n))


def test_images_of_several_blocks_are_pooled_as_one(kind, rng, monkeypatch):
    forward, backward = pair(kind)
    x = rng.normal(size=(5, 2, 7, 3))
    y, cache = forward(x, **OVERLAPPING)
    dx = backward(y, cache)
    monkeypatch.setattr("coursekit.arrays.BLOCK_BYTES", 1)
    y_small, cache_small = forward(x, **OVERLAPPING)
    np.testing.assert_array_equal(y, y_small)
    np.testing.assert_array_equal(dx, backward(y_small, cache_small))


def test_a_signal_is_an_image_of_one_row(kind, rng):
    x = rng.normal(size=(2, 3, 11))
    y, cache = pair(kind, 1)[0](x, 3, stride=2, padding=1)
    y_image, cache_image = pair(kind)[0](x[:, :, None], (1, 3), stride=(1, 2), padding=(0, 1))
    np.testing.assert_array_equal(y, y_image[:, :, 0])
    dy = rng.normal(size=y.shape)
    dx, dx_image = pair(kind, 1)[1](dy, cache), pair(kind)[1](dy[:, :, None], cache_image)
    np.testing.assert_array_equal(dx, dx_image[:, :, 0])


def test_signals_and_images_take_the_same_options(kind):
    for way in ("forward", "backward"):
        signal, image = (inspect.signature(getattr(pooling, f"{kind}_pool{axes}d_{way}")) for axes in (1, 2))
        defaults = [[(p.name, p.default) for p in s.parameters.values()] for s in (signal, image)]
        assert defaults[0] == defaults[1]


def test_windows_do_not_overlap_unless_asked_to(kind, rng):
    x = rng.normal(size=(1, 1, 6, 9))
    forward, _ = pair(kind)
    np.testing.assert_array_equal(forward(x, (2, 3))[0], forward(x, (2, 3), stride=(2, 3))[0])


def test_average_pooling_and_its_backward_are_adjoint(rng):
    x = rng.normal(size=(2, 3, 7, 5))
    y, cache = avg_pool2d_forward(x, **OVERLAPPING)
    dy = rng.normal(size=y.shape)
    assert np.sum(dy * y) == pytest.approx(np.sum(avg_pool2d_backward(dy, cache) * x), rel=1e-12)


def test_max_pooling_only_moves_the_gradient(rng):
    y, cache = max_pool2d_forward(rng.normal(size=(2, 3, 7, 5)), **OVERLAPPING)
    dy = rng.normal(size=y.shape)
    assert max_pool2d_backward(dy, cache).sum() == pytest.approx(dy.sum(), rel=1e-12)


def test_max_pooling_commutes_with_a_growing_function(rng):
    x = rng.normal(size=(2, 3, 7, 5))
    pooled_first = np.exp(max_pool2d_forward(x, 3, stride=1, padding=1)[0])
    np.testing.assert_array_equal(max_pool2d_forward(np.exp(x), 3, stride=1, padding=1)[0], pooled_first)


def test_lp_pooling_lies_between_the_sum_and_the_maximum_of_magnitudes(rng):
    x = rng.normal(size=(2, 3, 7, 5))
    largest = max_pool2d_forward(abs(x), 2)[0]
    total = 4 * avg_pool2d_forward(abs(x), 2)[0]
    norms = [lp_pool2d_forward(x, 2, p=p)[0] for p in (1, 1.5, 2, 7, 1000)]
    np.testing.assert_allclose(norms[0], total)
    assert all((a >= b).all() for a, b in zip(norms, norms[1:], strict=False))
    np.testing.assert_allclose(norms[-1], largest, rtol=2e-3)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_lp_pooling_of_a_high_order_neither_overflows_nor_vanishes(scale):
    x = scale * np.array([[[[3.0, -4.0]]]])
    y, cache = lp_pool2d_forward(x, (1, 2), p=50)
    np.testing.assert_allclose(y / scale, 4, rtol=1e-6)
    np.testing.assert_allclose(lp_pool2d_backward(np.ones_like(y), cache), [[[[0, -1]]]], atol=1e-5)


# Gradients


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_backward_agrees_with_central_differences(kind, ceil_mode, rng):
    forward, backward = pair(kind)
    x = distinct(rng, (2, 3, 7, 5))
    check_gradients(lambda x: forward(x, **OVERLAPPING, ceil_mode=ceil_mode), backward, [x], rng=rng)


@pytest.mark.parametrize("p", [1, 1.5, 3, 10])
def test_lp_backward_agrees_with_central_differences_for_any_order(p, rng):
    x = distinct(rng, (2, 3, 7, 5))
    check_gradients(lambda x: lp_pool2d_forward(x, 3, p=p, stride=2), lp_pool2d_backward, [x], rng=rng)


@pytest.mark.parametrize("kernel", [1, (3, 2)])
def test_backward_agrees_with_autograd_through_our_own_forward(kind, kernel, rng):
    forward, backward = pair(kind)
    x = torch.tensor(distinct(rng, (2, 3, 7, 5)), requires_grad=True)
    y, _ = forward(x, kernel, stride=2)
    dy = torch.tensor(rng.normal(size=tuple(y.shape)))
    y.backward(dy)
    _, cache = forward(x.detach(), kernel, stride=2)
    torch.testing.assert_close(backward(dy, cache), x.grad, rtol=1e-10, atol=1e-12)


def test_overlapping_windows_add_their_gradients_up():
    _, cache = max_pool1d_forward(np.array([[[1.0, 5.0, 2.0]]]), 2, stride=1)
    np.testing.assert_array_equal(max_pool1d_backward(np.array([[[10.0, 100.0]]]), cache), [[[0, 110, 0]]])


def test_a_tie_goes_to_the_first_pixel_in_row_major_order(library):
    x = library.array([[[[0, 7, 1], [7, 7, 7]]]])
    y, cache = max_pool2d_forward(x, (2, 3))
    dx = max_pool2d_backward(library.array(np.ones((1, 1, 1, 1))), cache)
    np.testing.assert_array_equal(library.numpy(dx), [[[[0, 1, 0], [0, 0, 0]]]])
    assert int(cache.indices[0, 0, 0, 0]) == 1


def test_a_tie_goes_where_torch_sends_it(rng):
    x = torch.tensor(rng.integers(0, 2, size=(3, 5, 11, 7)).astype(float), requires_grad=True)
    expected, indices = torch.nn.functional.max_pool2d(x, 3, 1, 1, return_indices=True)
    dy = torch.tensor(rng.normal(size=tuple(expected.shape)))
    expected.backward(dy)
    _, cache = max_pool2d_forward(x.detach().numpy(), 3, stride=1, padding=1)
    np.testing.assert_allclose(max_pool2d_backward(dy.numpy(), cache), x.grad.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(cache.indices, indices.numpy())


@pytest.mark.parametrize("p", [1, 2, 2.5])
def test_a_window_of_zeros_has_no_lp_gradient(p):
    x = torch.zeros((1, 1, 2, 2), dtype=torch.float64, requires_grad=True)
    lp_pool2d_forward(x, 2, p=p)[0].sum().backward()
    y, cache = lp_pool2d_forward(x.detach().numpy(), 2, p=p)
    for dx in (lp_pool2d_backward(np.ones_like(y), cache), x.grad.numpy()):
        np.testing.assert_array_equal(dx, 0)


def test_a_window_with_an_infinite_pixel_has_an_infinite_norm(library):
    x = library.array([[[[1, -np.inf], [2, np.inf], [3, 4], [0, 0]]]])
    np.testing.assert_array_equal(library.numpy(lp_pool2d_forward(x, 2)[0]).ravel(), [np.inf, 5])


def test_a_numpy_scalar_as_an_option_does_not_change_the_dtype(library):
    x = library.array(np.ones((1, 2, 3, 3)))
    library.numpy(lp_pool2d_forward(x, 2, p=np.float64(3))[0])
    library.numpy(avg_pool2d_forward(x, 2, divisor=np.int64(3))[0])


# The border


def test_padding_never_wins_a_maximum(library):
    y, cache = max_pool2d_forward(library.array(-np.ones((1, 1, 3, 3))), 3, stride=1, padding=1)
    np.testing.assert_array_equal(library.numpy(y), -1)
    assert int(cache.indices.min()) >= 0


def test_padding_does_not_even_win_against_minus_infinity():
    y, cache = max_pool2d_forward(np.full((1, 1, 2, 2), -np.inf), 3, stride=1, padding=1)
    assert max_pool2d_backward(np.ones_like(y), cache).sum() == y.size


@pytest.mark.parametrize("include, corner", [(True, 1 / 9), (False, 1 / 4)])
def test_the_divisor_at_the_border_counts_padding_only_if_asked(include, corner):
    x = np.zeros((1, 1, 3, 3))
    x[..., 0, 0] = 1
    y, _ = avg_pool2d_forward(x, 3, stride=1, padding=1, count_include_pad=include)
    assert y[0, 0, 0, 0] == pytest.approx(corner)


def test_what_ceil_mode_adds_never_counts():
    y, _ = avg_pool2d_forward(np.ones((1, 1, 3, 5)), 2, ceil_mode=True)
    np.testing.assert_array_equal(y, np.ones((1, 1, 2, 3)))


def test_a_divisor_replaces_every_count(rng):
    x = rng.normal(size=(1, 2, 5, 5))
    sums = 9 * avg_pool2d_forward(x, 3, padding=1, stride=2)[0]
    np.testing.assert_allclose(avg_pool2d_forward(x, 3, padding=1, stride=2, divisor=2)[0], sums / 2)


def test_a_dilated_window_that_straddles_the_image_sees_nothing():
    x = np.ones((1, 1, 1, 1))
    options = {"kernel": 2, "dilation": 2, "padding": 1}
    y, cache = max_pool2d_forward(x, **options)
    assert (y.item(), cache.indices.item()) == (-np.inf, -1)
    assert max_pool2d_backward(np.ones_like(y), cache).item() == 0
    assert avg_pool2d_forward(x, **options, count_include_pad=False)[0].item() == 0


@pytest.mark.parametrize("size, stride", [(7, 1), (7, 2), (8, 3), (11, 5)])
@pytest.mark.parametrize("padding", ["same", "same_upper", "same_lower"])
def test_same_padding_makes_ceil_of_size_over_stride_windows(kind, size, stride, padding):
    y, _ = pair(kind)[0](np.ones((1, 1, size, size)), 3, stride=stride, padding=padding)
    assert y.shape[2:] == (-(-size // stride),) * 2


# Arrays


def test_results_are_new_contiguous_arrays_and_arguments_stay_as_they_were(kind, library, rng):
    forward, backward = pair(kind)
    narrow = {"kernel": (2, 1)}, {"kernel": 1}, {"kernel": 1, "stride": 2}
    for options in (OVERLAPPING, {"kernel": 2}, *narrow):
        values = rng.normal(size=(2, 3, 7, 5)).astype(library.dtype)
        x = library.array(values)
        x = x.to(memory_format=torch.channels_last) if library.name == "torch" else x
        y, cache = forward(x, **options)
        slope = rng.normal(size=tuple(y.shape)).astype(library.dtype)
        dy = library.array(slope)
        dx = backward(dy, cache)
        for result in (y, dx):
            assert result.is_contiguous() if library.name == "torch" else result.flags.c_contiguous
            result += 1
        np.testing.assert_array_equal(library.numpy(x), values)
        np.testing.assert_array_equal(library.numpy(dy), slope)


def test_numpy_and_torch_agree(kind, library, rng):
    forward, backward = pair(kind)
    values = rng.normal(size=(2, 3, 7, 5))
    expected, expected_cache = forward(values, **OVERLAPPING, ceil_mode=True)
    slope = rng.normal(size=expected.shape)
    y, cache = forward(library.array(values), **OVERLAPPING, ceil_mode=True)
    dx = backward(library.array(slope), cache)
    close = {"rtol": 1e-4, "atol": library.tolerance}
    np.testing.assert_allclose(library.numpy(y), expected, **close)
    np.testing.assert_allclose(library.numpy(dx), backward(slope, expected_cache), **close)


def test_tensors_without_values_pass_on_the_meta_device(kind):
    forward, backward = pair(kind)
    y, cache = forward(torch.ones(2, 3, 7, 5, device="meta"), **OVERLAPPING)
    assert y.device.type == "meta"
    assert backward(y, cache).shape == (2, 3, 7, 5)
    if kind == "max":
        assert cache.indices.shape == y.shape


def test_an_empty_batch_gives_empty_results(kind, library):
    forward, backward = pair(kind)
    y, cache = forward(library.array(np.zeros((0, 3, 7, 5))), **OVERLAPPING)
    assert tuple(y.shape) == (0, 3, 4, 4)
    assert tuple(backward(y, cache).shape) == (0, 3, 7, 5)


def test_nan_reaches_only_the_windows_that_hold_it(kind):
    x = np.ones((1, 1, 4, 4))
    x[0, 0, 1, 2] = np.nan
    y, _ = pair(kind)[0](x, 2)
    np.testing.assert_array_equal(np.isnan(y[0, 0]), [[False, True], [False, False]])


def test_the_gradient_of_a_window_with_nan_goes_to_the_nan(library):
    x = library.array([[[[1, np.nan], [3, 4]]]])
    _, cache = max_pool2d_forward(x, 2)
    dx = max_pool2d_backward(library.array([[[[5]]]]), cache)
    np.testing.assert_array_equal(library.numpy(dx), [[[[0, 5], [0, 0]]]])
    assert int(cache.indices[0, 0, 0, 0]) == 1


# Errors


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"kernel": 0}, ValueError, "kernel must be >= 1, got 0"),
        ({"kernel": 2.0}, TypeError, "kernel must be an integer or 2 of them, got 2.0"),
        ({"kernel": (1, 2, 3)}, ValueError, "kernel has 3 entries, expected one integer or 2"),
        ({"kernel": 2, "stride": 0}, ValueError, "stride must be >= 1, got 0"),
        ({"kernel": 2, "dilation": 0}, ValueError, "dilation must be >= 1, got 0"),
        ({"kernel": 2, "padding": -1}, ValueError, "padding must be >= 0, got -1"),
        ({"kernel": 2, "padding": "sane"}, ValueError, "padding 'sane' is unknown"),
        ({"kernel": 2, "padding": 2}, ShapeError, r"pads \(\(2, 2\), \(2, 2\)\) are as wide as a window"),
        ({"kernel": 8}, ShapeError, r"the kernel covers 8 pixels .* has only 7 \(input \(7, 5\)"),
        ({"kernel": 3, "dilation": 3}, ShapeError, "the kernel covers 7 pixels"),
    ],
)
def test_options_that_make_no_sense_are_refused(kind, options, error, message):
    with pytest.raises(error, match=f"{kind}_pool2d_forward: {message}"):
        pair(kind)[0](np.ones((1, 2, 7, 5)), **options)


@pytest.mark.parametrize(
    "x, error, message",
    [
        (np.ones((2, 7, 5)), ShapeError, r"x has 3 axes \(2, 7, 5\), expected 4 \(N C H W\); x\[None\] adds"),
        (np.ones((1, 2, 7, 5), int), TypeError, "x has dtype int64, expected a floating one"),
        ([[[[1.0]]]], TypeError, "x is a list, not an array"),
    ],
)
def test_images_that_are_none_are_refused(kind, x, error, message):
    with pytest.raises(error, match=f"{kind}_pool2d_forward: {message}"):
        pair(kind)[0](x, 2)


@pytest.mark.parametrize(
    "dy, error, message",
    [
        (np.ones((1, 2, 7, 5)), ShapeError, r"dy has shape \(1, 2, 7, 5\), expected \(1, 2, 3, 2\)"),
        (np.ones((1, 2, 3, 2), "float32"), TypeError, "one dtype, got dy float32, x float64"),
        (torch.ones(1, 2, 3, 2), TypeError, "one array library, got dy torch, x numpy"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(kind, dy, error, message):
    forward, backward = pair(kind)
    _, cache = forward(np.ones((1, 2, 7, 5)), 2)
    with pytest.raises(error, match=f"{kind}_pool2d_backward: .*{message}"):
        backward(dy, cache)


@pytest.mark.parametrize("p", [0.5, 0, math.inf, math.nan])
def test_an_order_that_makes_no_norm_is_refused(p):
    with pytest.raises(ValueError, match="lp_pool2d_forward: p must satisfy 1 <= p < infinity"):
        lp_pool2d_forward(np.ones((1, 1, 2, 2)), 2, p=p)


@pytest.mark.parametrize("divisor", [0, -1, math.nan])
def test_a_divisor_that_is_not_positive_is_refused(divisor):
    with pytest.raises(ValueError, match="avg_pool2d_forward: divisor must be > 0"):
        avg_pool2d_forward(np.ones((1, 1, 2, 2)), 2, divisor=divisor)
