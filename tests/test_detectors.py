"""Detectors: what they do to values, agreement with torch, gradients, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as tF

from coursekit import detectors
from coursekit.arrays import ShapeError
from coursekit.gradcheck import check_gradients

TORCH = {
    "relu": torch.relu,
    "leaky_relu": tF.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": lambda x: tF.softplus(x, threshold=50),
    "identity": lambda x: x,
    "absolute": torch.abs,
    "maxout": lambda x: torch.maximum(x[:, 0::2], x[:, 1::2]),
}


def pair(name):
    return getattr(detectors, f"{name}_forward"), getattr(detectors, f"{name}_backward")


@pytest.fixture(params=TORCH)
def name(request):
    return request.param


def test_every_detector_is_tested():
    assert set(TORCH) == {f.removesuffix("_forward") for f in detectors.__all__ if f.endswith("_forward")}


def test_forward_and_backward_agree_with_torch(name, library, rng):
    forward, backward = pair(name)
    values = rng.normal(size=(2, 6, 3, 5)) * 3
    x = torch.tensor(values, requires_grad=True)
    expected = TORCH[name](x)
    slope = rng.normal(size=tuple(expected.shape))
    expected.backward(torch.tensor(slope))

    y, cache = forward(library.array(values))
    dx = backward(library.array(slope), cache)

    np.testing.assert_allclose(library.numpy(y), expected.detach().numpy(), rtol=1e-5, atol=library.tolerance)
    np.testing.assert_allclose(library.numpy(dx), x.grad.numpy(), rtol=1e-5, atol=library.tolerance)


def test_backward_agrees_with_autograd_through_our_own_forward(name, rng):
    forward, backward = pair(name)
    values = rng.normal(size=(3, 4, 5))
    values[0] = 0  # at the kink, and ties for maxout
    x = torch.tensor(values, requires_grad=True)
    y, _ = forward(x)
    dy = torch.tensor(rng.normal(size=tuple(y.shape)))
    y.backward(dy)
    _, cache = forward(x.detach())
    torch.testing.assert_close(backward(dy, cache), x.grad, rtol=1e-12, atol=1e-12)


def test_backward_agrees_with_central_differences(name, rng):
    forward, backward = pair(name)
    # no value within 0.02 of the kink at 0 or of another value, which matters to maxout
    x = rng.permutation(np.linspace(-3, 3.05, 120)).reshape(3, 8, 5)
    check_gradients(forward, backward, [x], rng=rng)


def test_results_are_new_arrays_and_arguments_stay_as_they_were(name, library, rng):
    forward, backward = pair(name)
    x = library.array(rng.normal(size=(2, 4, 3)))
    before = library.numpy(x).copy()
    y, cache = forward(x)
    dy = library.array(rng.normal(size=tuple(y.shape)))
    dy_before = library.numpy(dy).copy()
    dx = backward(dy, cache)
    dx += 1
    y += 1
    np.testing.assert_array_equal(library.numpy(x), before)
    np.testing.assert_array_equal(library.numpy(dy), dy_before)


def test_an_empty_batch_gives_empty_results(name):
    forward, backward = pair(name)
    y, cache = forward(np.zeros((0, 4, 3)))
    assert y.shape[0] == 0
    assert backward(y, cache).shape == (0, 4, 3)


def test_nan_stays_nan_and_alone(name):
    forward, _ = pair(name)
    x = np.ones((1, 4, 3))
    x[0, 0, 1] = np.nan
    assert np.isnan(forward(x)[0]).sum() == 1


def test_extreme_inputs_stay_finite_without_a_warning(name):
    forward, backward = pair(name)
    y, cache = forward(np.array([[-1e4, -800.0, 800.0, 1e4]]))
    assert np.isfinite(y).all()
    assert np.isfinite(backward(np.ones_like(y), cache)).all()


def test_tensors_without_values_pass_on_the_meta_device(name):
    forward, backward = pair(name)
    y, cache = forward(torch.ones(2, 4, 3, device="meta"))
    assert backward(y, cache).shape == (2, 4, 3)


@pytest.mark.parametrize("name", ["relu", "absolute"])
def test_nothing_passes_at_the_kink(name):
    forward, backward = pair(name)
    _, cache = forward(np.zeros(3))
    np.testing.assert_array_equal(backward(np.ones(3), cache), 0)


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_far_from_zero_every_digit_still_counts(name, library):
    forward, backward = pair(name)
    values = np.array([-80.0, -20.0, -10.0, -1.0, 11.0])
    x = torch.tensor(values, requires_grad=True)
    expected = TORCH[name](x)
    expected.sum().backward()
    y, cache = forward(library.array(values))
    precise = {"rtol": 1e-6 if library.dtype == "float32" else 1e-13}
    np.testing.assert_allclose(library.numpy(y), expected.detach().numpy(), **precise)
    dx = library.numpy(backward(library.array(np.ones(5)), cache))
    np.testing.assert_allclose(dx[:-1], x.grad.numpy()[:-1], **precise)


def test_a_numpy_scalar_as_slope_does_not_change_the_dtype(library):
    library.numpy(detectors.leaky_relu_forward(library.array([1.0]), slope=np.float64(0.1))[0])


def test_leaky_relu_with_slope_one_is_the_identity(rng):
    x = rng.normal(size=(2, 3))
    np.testing.assert_array_equal(detectors.leaky_relu_forward(x, slope=1.0)[0], x)


def test_softplus_minus_its_mirror_image_is_the_identity(rng):
    x = rng.normal(size=11) * 10
    difference = detectors.softplus_forward(x)[0] - detectors.softplus_forward(-x)[0]
    np.testing.assert_allclose(difference, x, rtol=1e-13)


def test_maxout_hands_a_tie_to_the_first_piece():
    y, cache = detectors.maxout_forward(np.array([[2.0, 2.0, 1.0]]), pieces=3)
    np.testing.assert_array_equal(detectors.maxout_backward(np.ones_like(y), cache), [[1, 0, 0]])


def test_maxout_takes_any_axis(rng):
    x = rng.normal(size=(2, 3, 6))
    y, cache = detectors.maxout_forward(x, pieces=3, axis=-1)
    np.testing.assert_array_equal(y, x.reshape(2, 3, 2, 3).max(axis=-1))
    assert detectors.maxout_backward(y, cache).shape == x.shape


def test_maxout_refuses_channels_that_do_not_divide():
    with pytest.raises(ShapeError, match=r"axis 1 has 5 channels.*multiple of pieces=2 \(x \(1, 5\)\)"):
        detectors.maxout_forward(np.ones((1, 5)))


def test_maxout_refuses_an_axis_that_is_not_there():
    with pytest.raises(ShapeError, match=r"x has no axis 3, its shape is \(1, 2\)"):
        detectors.maxout_forward(np.ones((1, 2)), axis=3)


def test_maxout_refuses_no_pieces():
    with pytest.raises(ValueError, match="pieces must be >= 1, got 0"):
        detectors.maxout_forward(np.ones((1, 2)), pieces=0)


def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=f"{name}_forward: x has dtype int"):
        pair(name)[0](np.ones((1, 2), int))


def test_a_gradient_of_another_shape_is_refused(name):
    forward, backward = pair(name)
    _, cache = forward(np.ones((2, 4)))
    with pytest.raises(ShapeError, match=rf"{name}_backward: dy has shape \(7,\)"):
        backward(np.ones(7), cache)


def test_a_gradient_of_another_library_is_refused(name):
    forward, backward = pair(name)
    y, cache = forward(np.ones((2, 4)))
    with pytest.raises(TypeError, match="one array library, got dy torch, x numpy"):
        backward(torch.ones(y.shape, dtype=torch.float64), cache)
