"""The judge of gradients must itself be judged: right gradients pass, wrong ones are named."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from coursekit.conv import ConvGradients, conv2d_backward, conv2d_forward
from coursekit.gradcheck import GradientError, check_gradients, numerical_directional


def forward(x, w, b):
    return conv2d_forward(x, w, b, stride=(1, 2), padding=1)


@pytest.fixture
def inputs(rng):
    return [rng.standard_normal(shape) for shape in ((2, 3, 7, 5), (11, 3, 3, 2), (11,))]


def test_central_differences_of_a_quadratic_are_exact(rng):
    a, x, v = rng.standard_normal((3, 5, 5))
    np.testing.assert_allclose(
        numerical_directional(lambda x: x @ a @ x, [x], [v]), v @ a @ x + x @ a @ v, rtol=0, atol=1e-9
    )


def test_an_array_without_direction_stays_where_it_is():
    x, w = np.array([2.0, 3.0]), np.array([5.0, 7.0])
    moved = numerical_directional(lambda x, w: x * w, [x, w], [None, np.ones(2)])
    np.testing.assert_allclose(moved, x, atol=1e-9)


def test_a_right_backward_passes_with_its_error(inputs, rng):
    assert check_gradients(forward, conv2d_backward, inputs, rng=rng) < 1e-8


def test_torch_tensors_are_checked_too(inputs, rng):
    tensors = [torch.from_numpy(a) for a in inputs]
    assert check_gradients(forward, conv2d_backward, tensors, rng=rng) < 1e-8


def test_a_gradient_that_is_none_is_left_out(inputs, rng):
    assert check_gradients(lambda x, w: forward(x, w, None), conv2d_backward, inputs[:2], rng=rng) < 1e-8


@pytest.mark.parametrize("wrong", ConvGradients._fields)
@pytest.mark.parametrize(
    "spoil", [lambda g: 1.01 * g, lambda g: -g, lambda g: np.roll(g, 1), lambda g: g * np.nan]
)
def test_the_wrong_term_is_named(inputs, rng, wrong, spoil):
    def backward(dy, cache):
        gradients = conv2d_backward(dy, cache)
        return gradients._replace(**{wrong: spoil(getattr(gradients, wrong))})

    with pytest.raises(GradientError, match=f"^{wrong} is wrong"):
        check_gradients(forward, backward, inputs, rng=rng)


def test_one_wrong_entry_among_many_is_found(inputs, rng):
    def backward(dy, cache):
        gradients = conv2d_backward(dy, cache)
        gradients.dx[1, 2, 6, 4] += 0.1
        return gradients

    with pytest.raises(GradientError, match="^dx is wrong"):
        check_gradients(forward, backward, inputs, rng=rng)


def test_a_gradient_of_another_shape_is_named(inputs, rng):
    def backward(dy, cache):
        gradients = conv2d_backward(dy, cache)
        return gradients._replace(dw=gradients.dw[:, :, ::-1, :-1])

    with pytest.raises(GradientError, match=r"dw has shape \(11, 3, 3, 1\), its input \(11, 3, 3, 2\)"):
        check_gradients(forward, backward, inputs, rng=rng)


def test_a_single_gradient_need_not_be_a_tuple(rng):
    x = rng.standard_normal((3, 5))
    assert check_gradients(lambda x: (x**2, x), lambda dy, x: 2 * x * dy, [x], rng=rng) < 1e-8
    with pytest.raises(GradientError, match="^dx is wrong"):
        check_gradients(lambda x: (x**2, x), lambda dy, x: x * dy, [x], rng=rng)


def test_gradients_may_come_as_a_list(rng):
    inputs = list(rng.standard_normal((2, 3, 5)))

    def backward(dy, cache):
        return [dy * cache[1], dy * cache[0]]

    assert check_gradients(lambda x, w: (x * w, (x, w)), backward, inputs, rng=rng) < 1e-8


@pytest.mark.parametrize("gradient", [2.0, None])
def test_a_gradient_that_is_no_array_is_named(gradient, rng):
    with pytest.raises(GradientError, match=f"dx is a {type(gradient).__name__}, not an array"):
        check_gradients(lambda x: (2 * x, x), lambda dy, x: gradient, [rng.standard_normal(3)], rng=rng)


def test_too_few_gradients_are_reported(rng):
    class Gradients(NamedTuple):
        dx: np.ndarray

    x, w = rng.standard_normal((2, 3))
    with pytest.raises(GradientError, match=r"backward gives \['dx'\], but forward has 2 inputs"):
        check_gradients(lambda x, w: (x * w, w), lambda dy, w: Gradients(dy * w), [x, w], rng=rng)


def test_float32_is_refused_with_the_reason(rng):
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="inputs have dtype float32, differences need float64"):
        check_gradients(lambda x: (x, None), lambda dy, _: dy, [x], rng=rng)
