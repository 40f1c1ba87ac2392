"""Convolution: laws first, then gradients before three judges, then bad input."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from coursekit.arrays import PAD_MODES, ShapeError
from coursekit.conv import (
    conv1d_backward,
    conv1d_forward,
    conv2d_backward,
    conv2d_forward,
    conv2d_naive,
    effective_kernel,
    receptive_field,
)
from coursekit.gradcheck import check_gradients

FORWARD = {1: conv1d_forward, 2: conv2d_forward}
BACKWARD = {1: conv1d_backward, 2: conv2d_backward}

# Both ways to compute dx are met: gathering (stride 1, few filters) and scattering.
CONFIGURATIONS = {
    "plain": (2, (2, 3, 7, 5), (5, 3, 3, 2), {}),
    "many filters": (2, (2, 1, 7, 5), (11, 1, 3, 2), {"padding": 1}),
    "stride": (2, (2, 3, 11, 7), (5, 3, 3, 2), {"stride": (2, 3), "padding": (1, 2)}),
    "dilation": (2, (2, 3, 11, 7), (5, 3, 3, 2), {"dilation": (2, 3), "padding": ((1, 2), (3, 0))}),
    "groups": (2, (2, 6, 5, 7), (9, 2, 2, 3), {"groups": 3, "padding": "same"}),
    "depthwise stride": (2, (3, 5, 7, 2), (10, 1, 3, 2), {"groups": 5, "stride": 2, "padding": 1}),
    "reflect": (2, (2, 3, 5, 7), (5, 3, 3, 2), {"padding": (2, 3), "padding_mode": "reflect"}),
    "replicate": (2, (2, 3, 5, 7), (11, 3, 3, 2), {"padding": (2, 3), "padding_mode": "replicate"}),
    "circular": (2, (2, 3, 5, 7), (5, 3, 3, 2), {"padding": "full", "padding_mode": "circular", "stride": 2}),
    "padding beyond the kernel": (2, (2, 3, 5, 7), (5, 3, 2, 1), {"padding": ((3, 2), (1, 2))}),
    "signal": (1, (2, 3, 11), (5, 3, 3), {"padding": "same_lower", "stride": 2, "dilation": 3}),
    "signal in groups": (1, (2, 6, 11), (4, 3, 3), {"padding": 2, "groups": 2, "padding_mode": "reflect"}),
}


@pytest.fixture(params=CONFIGURATIONS, ids=str)
def case(request, rng):
    axes, x_shape, w_shape, options = CONFIGURATIONS[request.param]
    x, w, b = (rng.standard_normal(shape) for shape in (x_shape, w_shape, w_shape[:1]))
    return axes, x, w, b, options


def assert_close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)))


# laws


def test_convolution_is_linear_in_the_image_and_in_the_kernel(case, rng):
    axes, x, w, _, options = case
    x2, w2 = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
    conv = lambda x, w: FORWARD[axes](x, w, **options)[0]  # noqa: E731
    assert_close(conv(2 * x - 3 * x2, w), 2 * conv(x, w) - 3 * conv(x2, w))
    assert_close(conv(x, 2 * w - 3 * w2), 2 * conv(x, w) - 3 * conv(x, w2))


def test_the_offset_is_added_once_per_filter(case):
    axes, x, w, b, options = case
    with_b, without = (FORWARD[axes](x, w, offset, **options)[0] for offset in (b, None))
    assert_close(with_b - without, np.broadcast_to(b.reshape(-1, *(1,) * axes), with_b.shape))


def test_the_backward_is_the_adjoint_of_the_forward(case, rng):
    axes, x, w, b, options = case
    y, cache = FORWARD[axes](x, w, **options)
    dy = rng.standard_normal(y.shape)
    dx, dw, db = BACKWARD[axes](dy, cache)
    assert db is None
    # y is linear in x and in w, so <dy, y> = <dx, x> = <dw, w>.
    assert np.vdot(dx, x) == pytest.approx(np.vdot(dy, y)) == np.vdot(dw, w)


def test_a_batch_is_its_images_one_by_one(case, rng):
    axes, x, w, b, options = case
    y, cache = FORWARD[axes](x, w, b, **options)
    dy = rng.standard_normal(y.shape)
    dx, dw, db = BACKWARD[axes](dy, cache)
    singles = [FORWARD[axes](x[n : n + 1], w, b, **options) for n in range(len(x))]
    gradients = [BACKWARD[axes](dy[n : n + 1], singles[n][1]) for n in range(len(x))]
    assert_close(y, np.concatenate([single[0] for single in singles]))
    assert_close(dx, np.concatenate([g.dx for g in gradients]))
    assert_close(dw, sum(g.dw for g in gradients))
    assert_close(db, sum(g.db for g in gradients))


@pytest.mark.parametrize("block_bytes", [1, 3000, 1 << 30])
def test_the_size_of_a_block_changes_nothing(case, rng, monkeypatch, block_bytes):
    axes, x, w, b, options = case
    x = np.concatenate([x, x[:1], 2 * x])
    y, cache = FORWARD[axes](x, w, b, **options)
    dy = rng.standard_normal(y.shape)
    gradients = BACKWARD[axes](dy, cache)
    monkeypatch.setattr("coursekit.arrays.BLOCK_BYTES", block_bytes)
    assert_close(FORWARD[axes](x, w, b, **options)[0], y)
    for ours, expected in zip(BACKWARD[axes](dy, cache), gradients, strict=True):
        assert_close(ours, expected)


def test_the_loops_of_the_definition_give_the_same(rng):
    x, w, b = (rng.standard_normal(s) for s in ((2, 3, 7, 5), (5, 3, 3, 2), (5,)))
    for options in (
        {},
        {"stride": (2, 3), "padding": ((0, 1), (2, 3))},
        {"dilation": (3, 2), "padding": "same"},
    ):
        assert_close(conv2d_naive(x, w, b, **options), conv2d_forward(x, w, b, **options)[0])
        assert_close(conv2d_naive(x, w, **options), conv2d_forward(x, w, **options)[0])


def test_the_kernel_is_not_flipped():
    impulse = np.zeros((1, 1, 5, 5))
    impulse[0, 0, 2, 2] = 1
    w = np.arange(9.0).reshape(1, 1, 3, 3)
    assert_close(conv2d_forward(impulse, w)[0], w[:, :, ::-1, ::-1])


@pytest.mark.parametrize("shift", [(1, 0), (0, 3), (-2, 2)])
def test_circular_convolution_commutes_with_shifts(rng, shift):
    x, w = rng.standard_normal((2, 3, 7, 5)), rng.standard_normal((11, 3, 3, 3))
    conv = lambda x: conv2d_forward(x, w, padding=1, padding_mode="circular")[0]  # noqa: E731
    assert_close(conv(np.roll(x, shift, (2, 3))), np.roll(conv(x), shift, (2, 3)))


def test_groups_are_split_and_concatenated(rng):
    x, w, b = (rng.standard_normal(s) for s in ((2, 6, 5, 7), (9, 2, 3, 2), (9,)))
    parts = [
        conv2d_forward(x[:, 2 * g : 2 * g + 2], w[3 * g : 3 * g + 3], b[3 * g : 3 * g + 3])[0]
        for g in range(3)
    ]
    assert_close(conv2d_forward(x, w, b, groups=3)[0], np.concatenate(parts, axis=1))


def test_dilation_spreads_the_kernel_with_zeros(rng):
    x, w = rng.standard_normal((2, 3, 11, 7)), rng.standard_normal((5, 3, 3, 2))
    spread = np.zeros((5, 3, effective_kernel(3, 4), effective_kernel(2, 3)))
    spread[:, :, ::4, ::3] = w
    assert_close(conv2d_forward(x, w, dilation=(4, 3))[0], conv2d_forward(x, spread)[0])


def test_a_stride_keeps_every_so_many_pixels(rng):
    x, w = rng.standard_normal((2, 3, 11, 7)), rng.standard_normal((5, 3, 3, 2))
    strided, dense = (conv2d_forward(x, w, stride=stride, padding=1)[0] for stride in ((2, 3), 1))
    assert_close(strided, dense[:, :, ::2, ::3])


def test_a_signal_is_an_image_of_one_row(rng):
    x, w, b = (rng.standard_normal(s) for s in ((2, 3, 11), (5, 3, 2), (5,)))
    y = conv1d_forward(x, w, b, stride=2, padding=(3,), dilation=2)[0]
    as_image = conv2d_forward(
        x[:, :, None], w[:, :, None], b, stride=(1, 2), padding=(0, 3), dilation=(1, 2)
    )[0]
    assert_close(y, as_image[:, :, 0])


def test_rows_and_columns_keep_their_roles(rng):
    x, w = rng.standard_normal((2, 3, 11, 7)), rng.standard_normal((5, 3, 3, 2))
    options = {"stride": (2, 1), "padding": ((0, 1), (2, 3)), "dilation": (1, 3)}
    turned = {name: value[::-1] for name, value in options.items()}
    y = conv2d_forward(x, w, **options)[0]
    assert_close(conv2d_forward(x.swapaxes(2, 3), w.swapaxes(2, 3), **turned)[0], y.swapaxes(2, 3))


# sizes


@pytest.mark.parametrize("layers", [[(3, 1, 1)], [(3, 2, 1), (2, 1, 3), (5, 3, 1)], [(2, 1, 1), (2, 2, 2)]])
def test_the_receptive_field_is_the_support_of_the_gradient(layers):
    size, stride = receptive_field(layers)
    caches, y = [], np.zeros((1, 1, size + stride))
    for kernel, step, dilation in layers:
        y, cache = conv1d_forward(y, np.ones((1, 1, kernel)), stride=step, dilation=dilation)
        caches.append(cache)
    assert y.shape == (1, 1, 2)
    spans = []
    for pixel in range(2):
        dy = np.zeros_like(y)
        dy[0, 0, pixel] = 1
        for cache in reversed(caches):
            dy = conv1d_backward(dy, cache).dx
        seen = np.flatnonzero(dy)
        spans.append((seen[0], seen[-1] + 1))
    assert spans == [(0, size), (stride, size + stride)]


def test_the_receptive_field_of_no_layer_is_the_pixel_itself():
    assert receptive_field([]) == (1, 1)


# libraries


def test_every_library_gives_the_same_numbers(case, library, rng):
    axes, x, w, b, options = case
    y, cache = FORWARD[axes](x, w, b, **options)
    dy = rng.standard_normal(y.shape)
    expected = (y, *BACKWARD[axes](dy, cache))
    ours, cache = FORWARD[axes](*map(library.array, (x, w, b)), **options)
    results = (ours, *BACKWARD[axes](library.array(dy), cache))
    for result, reference in zip(results, expected, strict=True):
        assert_close(library.numpy(result), reference, library.tolerance)


def test_inputs_are_not_modified_and_results_are_new_arrays_in_c_order(case):
    axes, x, w, b, options = case
    for array in (x, w, b):
        array.flags.writeable = False
    y, cache = FORWARD[axes](x, w, b, **options)
    dy = np.ones_like(y)
    dy.flags.writeable = False
    for result in (y, *BACKWARD[axes](dy, cache)):
        assert result.flags.c_contiguous and result.flags.writeable
        assert not any(np.shares_memory(result, array) for array in (x, w, b, dy))


def test_nothing_is_made_on_the_cpu_by_mistake(case):
    axes, x, w, b, options = case
    meta = [torch.empty(a.shape, device="meta") for a in (x, w, b)]
    y, cache = FORWARD[axes](*meta, **options)
    results = (y, *BACKWARD[axes](torch.empty_like(y), cache))
    assert {result.device.type for result in results} == {"meta"}


# gradients


def test_gradients_agree_with_central_differences(case, rng):
    axes, x, w, b, options = case
    error = check_gradients(
        lambda *inputs: FORWARD[axes](*inputs, **options), BACKWARD[axes], (x, w, b), rng=rng
    )
    assert error < 1e-8


def test_gradients_agree_with_autograd_through_our_forward(case, rng):
    axes, x, w, b, options = case
    inputs = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    y, cache = FORWARD[axes](*inputs, **options)
    dy = torch.from_numpy(rng.standard_normal(tuple(y.shape)))
    y.backward(dy)
    with torch.no_grad():
        gradients = BACKWARD[axes](dy, cache)
    for gradient, judged in zip(gradients, inputs, strict=True):
        assert_close(gradient.numpy(), judged.grad.numpy())


# empty batches and NaN


def test_an_empty_batch_gives_an_empty_output_and_zero_gradients(case, library):
    axes, x, w, b, options = case
    shape = FORWARD[axes](x, w, b, **options)[0].shape
    y, cache = FORWARD[axes](library.array(x[:0]), library.array(w), library.array(b), **options)
    dx, dw, db = map(library.numpy, BACKWARD[axes](y, cache))
    assert library.numpy(y).shape == (0, *shape[1:]) and dx.shape == (0, *x.shape[1:])
    np.testing.assert_array_equal(dw, np.zeros(w.shape))
    np.testing.assert_array_equal(db, np.zeros(b.shape))


def test_nan_reaches_the_windows_that_see_it_and_no_others(library, rng):
    x, w = rng.standard_normal((3, 2, 7, 11)), rng.standard_normal((5, 2, 3, 2))
    x[1, 0, 4, 5] = np.nan
    y = library.numpy(conv2d_forward(library.array(x), library.array(w), padding=1)[0])
    expected = np.zeros(y.shape, bool)
    expected[1, :, 3:6, 5:7] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


def test_small_images_with_many_filters_take_no_product_per_image(library, rng):
    N, C, F = 64, 160, 96
    x, w = (library.array(rng.standard_normal(shape)) for shape in ((N, C, 1, 1), (F, C, 1, 1)))
    y, cache = conv2d_forward(x, w)
    tracemalloc.start()
    dw = library.numpy(conv2d_backward(y, cache).dw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < N * dw.nbytes / 4  # torch's own memory is not traced
    expected = library.numpy(y)[..., 0, 0].T @ library.numpy(x)[..., 0, 0]
    np.testing.assert_allclose(dw[..., 0, 0], expected, rtol=library.tolerance, atol=library.tolerance)


# bad input

X, W, B = np.ones((2, 3, 7, 5)), np.ones((11, 3, 3, 2)), np.ones(11)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (
            (X[0], W),
            {},
            ShapeError,
            r"x has 3 axes \(3, 7, 5\), expected 4 \(N C H W\); x\[None\] adds a batch",
        ),
        ((X, W[0]), {}, ShapeError, r"w has 3 axes \(3, 3, 2\), expected 4 \(F C/groups KH KW\)"),
        (
            (X.transpose(0, 2, 3, 1), W),
            {},
            ShapeError,
            r"w expects 3 input channels, x has 7 \(x \(2, 7, 5, 3\), w \(11, 3, 3, 2\)\); is x channels",
        ),
        ((X, W[:, :2]), {}, ShapeError, r"w expects 2 input channels, x has 3 .*w is laid out as \(filters,"),
        ((X, W[:9]), {"groups": 3}, ShapeError, r"w expects 9 input channels \(3 groups of 3\), x has 3"),
        (
            (X, W),
            {"groups": 2},
            ShapeError,
            r"groups 2 does not divide the 3 channels of x \(x \(2, 3, 7, 5\)",
        ),
        ((X, W[:, :1]), {"groups": 3}, ShapeError, "groups 3 does not divide the 11 filters of w"),
        ((X, W), {"groups": 0}, ValueError, "groups must be >= 1, got 0"),
        ((X, W, B[:3]), {}, ShapeError, r"b has shape \(3,\), expected \(11,\): one offset per filter"),
        ((X, W), {"dilation": (4, 1)}, ShapeError, r"covers 9 pixels \(kernel 3, dilation 4\).* has only 7"),
        ((X, W), {"stride": 0}, ValueError, "stride must be >= 1, got 0"),
        ((X, W), {"stride": (1, 2, 3)}, ValueError, "stride has 3 entries, expected one integer or 2"),
        ((X, W), {"stride": 1.5}, TypeError, "stride must be an integer or 2 of them, got 1.5"),
        ((X, W), {"dilation": (1, 0)}, ValueError, r"dilation must be >= 1, got \(1, 0\)"),
        ((X, W), {"padding": (0, -1)}, ValueError, r"padding must be >= 0, got \(0, -1\)"),
        ((X, W), {"padding": "sane"}, ValueError, "padding 'sane' is unknown, expected numbers or one of"),
        ((X, W), {"padding": 1, "padding_mode": "edge"}, ValueError, "padding_mode 'edge' is unknown"),
        (
            (X, W),
            {"padding": 5, "padding_mode": "reflect"},
            ShapeError,
            r"'reflect' can add at most 4 pixels to an axis of 5, got pads .*x \(2, 3, 7, 5\)",
        ),
        ((X.astype(int), W.astype(int)), {}, TypeError, "x has dtype int64, expected a floating one"),
        ((X, W.astype("f")), {}, TypeError, "one dtype, got x float64, w float32"),
        ((X, torch.from_numpy(W)), {}, TypeError, "one array library, got x numpy, w torch"),
        (
            (torch.from_numpy(X), torch.from_numpy(W), torch.ones(11, device="meta", dtype=torch.float64)),
            {},
            TypeError,
            "one device, got x cpu, w cpu, b meta",
        ),
        ((X.tolist(), W), {}, TypeError, "x is a list, not an array"),
        ((X, None), {}, TypeError, r"w is None, expected an array with 4 axes \(F C/groups KH KW\)"),
        ((X[:, :0], W[:, :0]), {}, ShapeError, "nothing to convolve with 0 channels and 11 filters"),
        ((X, W[:0]), {}, ShapeError, "nothing to convolve with 3 channels and 0 filters"),
    ],
)
def test_bad_input_is_named_with_its_likely_fix(arguments, options, error, message):
    with pytest.raises(error, match="^conv2d_forward: .*" + message):
        conv2d_forward(*arguments, **options)


@pytest.mark.parametrize("mode", PAD_MODES)
def test_a_signal_with_an_image_axis_is_refused_by_the_1d_function(mode):
    with pytest.raises(
        ShapeError, match=r"^conv1d_forward: x has 4 axes \(2, 3, 7, 5\), expected 3 \(N C W\)"
    ):
        conv1d_forward(X, W, padding_mode=mode)


def test_an_upstream_gradient_of_the_wrong_shape_is_refused():
    y, cache = conv2d_forward(X, W)
    message = r"^conv2d_backward: dy has shape \(2, 11, 5, 3\), expected \(2, 11, 5, 4\): the shape of y"
    with pytest.raises(ShapeError, match=message):
        conv2d_backward(y[..., :-1], cache)


def test_an_upstream_gradient_of_another_dtype_is_refused():
    y, cache = conv2d_forward(X, W)
    with pytest.raises(
        TypeError, match="^conv2d_backward: all arrays must have one dtype, got dy float32, x float64"
    ):
        conv2d_backward(y.astype("f"), cache)


def test_the_cache_of_the_other_function_is_refused():
    y, cache = conv1d_forward(X[..., 0], W[..., 0])
    with pytest.raises(ShapeError, match="^conv2d_backward: the cache comes from conv1d_forward"):
        conv2d_backward(y[..., None], cache)


def test_the_naive_loops_name_themselves_in_errors():
    with pytest.raises(ValueError, match="^conv2d_naive: stride must be >= 1"):
        conv2d_naive(X, W, stride=0)
