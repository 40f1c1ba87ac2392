"""Losses: what training minimises (cross-entropy, squared error) and what it is after (the error rate).

The 0-1 loss, the share of wrong answers, has a gradient of zero almost everywhere; cross-entropy is its
smooth surrogate.  Everything runs on NumPy and torch arrays and never modifies its arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import array_api_compat
import numpy as np

from coursekit.arrays import Array, ShapeError, expect_axes, expect_shape, namespace

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "CrossEntropyCache",
    "SquaredErrorCache",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "error_rate",
    "log_softmax",
    "mean_squared_error_backward",
    "mean_squared_error_forward",
    "softmax",
]

REDUCTIONS = ("mean", "sum")


class CrossEntropyCache(NamedTuple):
    """What cross_entropy_backward needs."""

    log_p: Float[Array, "N K"]
    labels: Int[Array, " N"]
    reduction: str


class SquaredErrorCache(NamedTuple):
    """What mean_squared_error_backward needs: the differences y - target."""

    difference: Float[Array, ...]
    reduction: str


def softmax(z: Float[Array, ...], axis: int = -1) -> Float[Array, ...]:
    """Turn scores into probabilities along one axis: exp(z) / sum exp(z).

    Implements eq-softmax.  The largest score is subtracted first, which changes nothing in the quotient and
    keeps exp from overflowing.

    >>> import numpy as np
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    xp = namespace(z, function="softmax", names=("z",))
    _expect_axis("softmax", z, axis)
    weight = xp.exp(z - xp.max(z, axis=axis, keepdims=True))
    return weight / xp.sum(weight, axis=axis, keepdims=True)


def log_softmax(z: Float[Array, ...], axis: int = -1) -> Float[Array, ...]:
    """The logarithm of softmax without its rounding: z - max z - log sum exp(z - max z).

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    xp = namespace(z, function="log_softmax", names=("z",))
    _expect_axis("log_softmax", z, axis)
    shifted = z - xp.max(z, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def cross_entropy_forward(
    z: Float[Array, "N K"], labels: Int[Array, " N"], *, reduction: str = "mean"
) -> tuple[Float[Array, ""], CrossEntropyCache]:
    """How surprised the model is by the labels: the mean of -log softmax(z)[label].

    Implements eq-cross-entropy.  A model that does not know yet, z = 0, pays log(K).

    z: scores (logits) of K classes.   labels: class numbers, 0 ... K - 1.
    reduction: "mean" over the batch, or "sum".
    Returns the loss, an array without axes, and the cache that cross_entropy_backward needs.
    Raises ShapeError, TypeError or ValueError if the labels are not N class numbers, ValueError for the mean
    of an empty batch.
    Source: goodfellow2016deep, section 6.2.

    >>> import numpy as np
    >>> round(float(cross_entropy_forward(np.zeros((2, 10)), np.array([3, 7]))[0]), 6)
    2.302585
    """
    xp = namespace(z, function="cross_entropy_forward", names=("z",))
    expect_axes("cross_entropy_forward", "z", z, "N K")
    _expect_labels("cross_entropy_forward", z, labels)
    _expect_reduction("cross_entropy_forward", reduction, z.shape[0])
    log_p = log_softmax(z, axis=1)
    surprise = -xp.take_along_axis(log_p, xp.astype(labels[:, None], xp.int64), axis=1)
    return _reduce(xp, surprise, reduction), CrossEntropyCache(log_p, labels, reduction)


def cross_entropy_backward(cache: CrossEntropyCache) -> Float[Array, "N K"]:
    """dz = softmax(z) - onehot(labels), divided by N if the loss is a mean.

    Implements eq-cross-entropy-backward.  Every row sums to zero.
    """
    log_p, labels, reduction = cache
    xp = array_api_compat.array_namespace(log_p)
    classes = xp.arange(log_p.shape[1], device=array_api_compat.device(log_p))
    dz = xp.exp(log_p) - xp.astype(labels[:, None] == classes, log_p.dtype)
    return dz / log_p.shape[0] if reduction == "mean" else dz


def mean_squared_error_forward(
    y: Float[Array, ...], target: Float[Array, ...], *, reduction: str = "mean"
) -> tuple[Float[Array, ""], SquaredErrorCache]:
    """The mean of (y - target)^2 over all elements.

    reduction: "mean", or "sum".
    Raises ShapeError unless y and target have one shape: broadcasting here hides mistakes.
    """
    xp = namespace(y, target, function="mean_squared_error_forward", names=("y", "target"))
    expect_shape("mean_squared_error_forward", "target", target, y.shape, "the shape of y")
    _expect_reduction("mean_squared_error_forward", reduction, array_api_compat.size(y))
    difference = y - target
    return _reduce(xp, difference * difference, reduction), SquaredErrorCache(difference, reduction)


def mean_squared_error_backward(cache: SquaredErrorCache) -> Float[Array, ...]:
    """dy = 2 (y - target), divided by the number of elements if the loss is a mean."""
    difference, reduction = cache
    return 2 * difference / (array_api_compat.size(difference) if reduction == "mean" else 1)


def error_rate(z: Float[Array, "N K"], labels: Int[Array, " N"]) -> float:
    """The share of examples whose highest score is not their label: the mean 0-1 loss.

    >>> import numpy as np
    >>> error_rate(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    xp = namespace(z, function="error_rate", names=("z",))
    expect_axes("error_rate", "z", z, "N K")
    _expect_labels("error_rate", z, labels)
    _expect_reduction("error_rate", "mean", z.shape[0])
    return int(xp.count_nonzero(xp.argmax(z, axis=1) != labels)) / z.shape[0]


def _reduce(xp, values: Array, reduction: str) -> Array:
    total = xp.sum(values)
    return total / array_api_compat.size(values) if reduction == "mean" else total


def _expect_axis(function: str, z: Array, axis: int) -> None:
    if not -z.ndim <= axis < z.ndim:
        raise ShapeError(f"{function}: z has no axis {axis}, its shape is {tuple(z.shape)}")
    if z.shape[axis] == 0:
        raise ShapeError(f"{function}: axis {axis} of z has no entries (z {tuple(z.shape)})")


def _expect_reduction(function: str, reduction: str, count: int) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{function}: reduction {reduction!r} is unknown, expected one of {REDUCTIONS}")
    if reduction == "mean" and count == 0:
        raise ValueError(f"{function}: the mean over an empty batch is undefined; is the data set empty?")


def _expect_labels(function: str, z: Array, labels: Array) -> None:
    if not (type(z) is type(labels) is np.ndarray and labels.dtype.kind in "iu"):  # else there is no doubt
        _expect_integers(function, z, labels)
    expect_shape(function, "labels", labels, z.shape[:1], f"one class number per row of z {tuple(z.shape)}")
    _expect_classes(function, labels, z.shape[1])


def _expect_integers(function: str, z: Array, labels: Array) -> None:
    """Raise unless labels are integers of z's library, on z's device."""
    xp = array_api_compat.array_namespace(z)
    if not array_api_compat.is_array_api_obj(labels) or array_api_compat.array_namespace(labels) is not xp:
        raise TypeError(
            f"{function}: labels are a {type(labels).__name__}, z is a {type(z).__name__}; "
            "both must be arrays of one library"
        )
    if not xp.isdtype(labels.dtype, "integral"):
        raise TypeError(
            f"{function}: labels have dtype {labels.dtype}, expected integers: class numbers, not one-hot"
        )
    if array_api_compat.device(labels) != array_api_compat.device(z):
        raise TypeError(f"{function}: labels are on {labels.device}, z is on {z.device}; move one of them")


def _expect_classes(function: str, labels: Array, classes: int) -> None:
    if labels.shape[0] == 0 or str(array_api_compat.device(labels)) == "meta":
        return  # no values to look at
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"{function}: labels run from {low} to {high}, but z has {classes} classes: 0 to {classes - 1}; "
            "do the labels start at 1?"
        )
