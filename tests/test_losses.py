"""Losses: laws, agreement with torch, gradients, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as tF

from coursekit.arrays import ShapeError
from coursekit.losses import (
    cross_entropy_backward,
    cross_entropy_forward,
    error_rate,
    log_softmax,
    mean_squared_error_backward,
    mean_squared_error_forward,
    softmax,
)


def labels_like(library, labels):
    labels = np.array(labels)
    return torch.from_numpy(labels).to(library.device) if library.name == "torch" else labels


def test_softmax_sums_to_one_along_its_axis(library, rng):
    z = library.array(rng.normal(size=(5, 7, 3)) * 10)
    np.testing.assert_allclose(library.numpy(softmax(z, axis=1)).sum(axis=1), 1, rtol=1e-6)


def test_softmax_does_not_see_a_shift_of_all_scores(rng):
    z = rng.normal(size=(5, 7))
    np.testing.assert_allclose(softmax(z + 1000.0), softmax(z), rtol=1e-11)


def test_softmax_of_two_scores_is_the_sigmoid_of_their_difference(rng):
    z = rng.normal(size=(11, 2))
    np.testing.assert_allclose(softmax(z)[:, 0], 1 / (1 + np.exp(z[:, 1] - z[:, 0])), rtol=1e-13)


@pytest.mark.parametrize("ours, theirs", [(softmax, torch.softmax), (log_softmax, torch.log_softmax)])
def test_softmax_agrees_with_torch(ours, theirs, library, rng):
    z = rng.normal(size=(5, 7, 3)) * 30
    expected = theirs(torch.tensor(z), 1).numpy()
    np.testing.assert_allclose(library.numpy(ours(library.array(z), axis=1)), expected, rtol=1e-5, atol=1e-5)


def test_huge_scores_neither_overflow_nor_lose_the_loss():
    loss, cache = cross_entropy_forward(np.array([[1e4, 0.0, -1e4]]), np.array([1]))
    assert loss == 1e4
    np.testing.assert_array_equal(cross_entropy_backward(cache), [[1, -1, 0]])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_classes(classes, library):
    loss, _ = cross_entropy_forward(library.array(np.zeros((7, classes))), labels_like(library, [1] * 7))
    assert float(loss) == pytest.approx(math.log(classes), rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_agrees_with_torch(reduction, library, rng):
    values, labels = rng.normal(size=(5, 7)) * 3, rng.integers(0, 7, size=5)
    z = torch.tensor(values, requires_grad=True)
    expected = tF.cross_entropy(z, torch.tensor(labels), reduction=reduction)
    expected.backward()

    ours = library.array(values), labels_like(library, labels)
    loss, cache = cross_entropy_forward(*ours, reduction=reduction)

    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    dz = library.numpy(cross_entropy_backward(cache))
    np.testing.assert_allclose(dz, z.grad.numpy(), rtol=1e-4, atol=library.tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_backward_agrees_with_autograd_and_central_differences(reduction, rng):
    z, labels = rng.normal(size=(5, 7)), rng.integers(0, 7, size=5)
    tracked = torch.tensor(z, requires_grad=True)
    cross_entropy_forward(tracked, torch.tensor(labels), reduction=reduction)[0].backward()
    _, cache = cross_entropy_forward(z, labels, reduction=reduction)
    dz = cross_entropy_backward(cache)
    np.testing.assert_allclose(dz, tracked.grad.numpy(), rtol=1e-12, atol=1e-14)

    v, h = rng.normal(size=z.shape), 1e-6
    ahead = cross_entropy_forward(z + h * v, labels, reduction=reduction)[0]
    behind = cross_entropy_forward(z - h * v, labels, reduction=reduction)[0]
    assert np.sum(dz * v) == pytest.approx((ahead - behind) / (2 * h), rel=1e-7)


def test_every_row_of_the_gradient_sums_to_zero(rng):
    _, cache = cross_entropy_forward(rng.normal(size=(5, 7)), rng.integers(0, 7, size=5))
    np.testing.assert_allclose(cross_entropy_backward(cache).sum(axis=1), 0, atol=1e-15)


def test_the_gradient_lowers_the_score_of_wrong_classes_and_raises_the_label(rng):
    labels = rng.integers(0, 7, size=5)
    dz = cross_entropy_backward(cross_entropy_forward(rng.normal(size=(5, 7)), labels)[1])
    np.testing.assert_array_equal(dz < 0, labels[:, None] == np.arange(7))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_squared_error_agrees_with_torch(reduction, library, rng):
    values, target = rng.normal(size=(2, 5, 3))
    y = torch.tensor(values, requires_grad=True)
    expected = tF.mse_loss(y, torch.tensor(target), reduction=reduction)
    expected.backward()
    ours = library.array(values), library.array(target)
    loss, cache = mean_squared_error_forward(*ours, reduction=reduction)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    dy = library.numpy(mean_squared_error_backward(cache))
    np.testing.assert_allclose(dy, y.grad.numpy(), rtol=1e-4, atol=library.tolerance)


def test_error_rate_counts_wrong_answers(library):
    z = library.array([[3, 1, 2], [0, 1, 0], [0, 0, 5], [9, 0, 0]])
    assert error_rate(z, labels_like(library, [0, 1, 0, 1])) == 0.5


def test_arguments_stay_as_they_were(rng):
    z, labels = rng.normal(size=(3, 5)), np.array([4, 0, 2])
    kept = z.copy(), labels.copy()
    dz = cross_entropy_backward(cross_entropy_forward(z, labels)[1])
    dz += 1
    np.testing.assert_array_equal(z, kept[0])
    np.testing.assert_array_equal(labels, kept[1])


def test_nan_scores_give_a_nan_loss():
    assert np.isnan(cross_entropy_forward(np.array([[np.nan, 0.0]]), np.array([0]))[0])


def test_scores_without_values_pass_on_the_meta_device():
    z, labels = torch.ones(3, 5, device="meta"), torch.ones(3, dtype=torch.int64, device="meta")
    loss, cache = cross_entropy_forward(z, labels)
    assert loss.shape == ()
    assert cross_entropy_backward(cache).device.type == "meta"


def test_the_sum_over_an_empty_batch_is_zero():
    loss, cache = cross_entropy_forward(np.zeros((0, 3)), np.zeros(0, int), reduction="sum")
    assert loss == 0
    assert cross_entropy_backward(cache).shape == (0, 3)


@pytest.mark.parametrize("function", [cross_entropy_forward, error_rate])
def test_the_mean_over_an_empty_batch_is_refused(function):
    with pytest.raises(ValueError, match=f"{function.__name__}: the mean over an empty batch is undefined"):
        function(np.zeros((0, 3)), np.zeros(0, int))


@pytest.mark.parametrize(
    "labels, error, message",
    [
        (np.array([1, 2, 3]), ValueError, "labels run from 1 to 3, but z has 3 classes: 0 to 2; do the"),
        (np.array([-1, 0, 1]), ValueError, "labels run from -1 to 1"),
        (np.array([0.0, 1.0, 2.0]), TypeError, "labels have dtype float64, expected integers"),
        (np.eye(3, dtype=int), ShapeError, r"labels has shape \(3, 3\), expected \(3,\)"),
        (np.array([0, 1]), ShapeError, r"labels has shape \(2,\), expected \(3,\)"),
        (torch.tensor([0, 1, 2]), TypeError, "labels are a Tensor, z is a ndarray"),
        ([0, 1, 2], TypeError, "labels are a list"),
    ],
)
@pytest.mark.parametrize("function", [cross_entropy_forward, error_rate])
def test_labels_that_are_no_class_numbers_are_refused(function, labels, error, message):
    with pytest.raises(error, match=f"{function.__name__}: {message}"):
        function(np.zeros((3, 3)), labels)


@pytest.mark.parametrize("function", [cross_entropy_forward, error_rate])
def test_labels_on_another_device_are_refused(function):
    with pytest.raises(TypeError, match=f"{function.__name__}: labels are on meta, z is on cpu"):
        function(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64"])
def test_labels_may_be_integers_of_any_width(dtype, library):
    z, labels = library.array([[1.0, 2.0, 4.0]]), np.array([2], dtype)
    labels = torch.from_numpy(labels).to(library.device) if library.name == "torch" else labels
    loss, cache = cross_entropy_forward(z, labels)
    assert float(loss) == pytest.approx(0.169846, abs=1e-5)
    assert float(library.numpy(cross_entropy_backward(cache))[0, 2]) < 0
    assert error_rate(z, labels) == 0


def test_scores_with_a_missing_axis_are_refused():
    with pytest.raises(ShapeError, match=r"cross_entropy_forward: z has 1 axes \(3,\), expected 2 \(N K\)"):
        cross_entropy_forward(np.zeros(3), np.array([0]))


def test_scores_of_integers_are_refused():
    with pytest.raises(TypeError, match="softmax: z has dtype int"):
        softmax(np.array([1, 2]))


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_an_axis_that_is_not_there_or_empty_is_refused(function):
    with pytest.raises(ShapeError, match=rf"{function.__name__}: z has no axis 2, its shape is \(3, 5\)"):
        function(np.zeros((3, 5)), axis=2)
    with pytest.raises(ShapeError, match=rf"{function.__name__}: axis 1 of z has no entries"):
        function(np.zeros((3, 0)), axis=1)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction 'none' is unknown, expected one of"):
        cross_entropy_forward(np.zeros((1, 2)), np.array([0]), reduction="none")


def test_squared_error_does_not_broadcast():
    with pytest.raises(ShapeError, match=r"target has shape \(3,\), expected \(3, 1\)"):
        mean_squared_error_forward(np.zeros((3, 1)), np.zeros(3))


def test_the_mean_squared_error_of_nothing_is_refused():
    with pytest.raises(ValueError, match="mean_squared_error_forward: the mean over an empty batch"):
        mean_squared_error_forward(np.zeros((0, 3)), np.zeros((0, 3)))
