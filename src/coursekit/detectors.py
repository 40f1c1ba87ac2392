"""Detector stages: the element-wise non-linearities between convolution and pooling, forward and backward.

Every detector is a pair, `name_forward(x) -> (y, cache)` and `name_backward(dy, cache) -> dx`, and none has
parameters.  They take arrays of any shape, NumPy or torch, and never modify their arguments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import array_api_compat

from coursekit.arrays import Array, ShapeError, expect_shape, namespace, per_axis

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "LeakyReluCache",
    "MaxoutCache",
    "absolute_backward",
    "absolute_forward",
    "identity_backward",
    "identity_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "maxout_backward",
    "maxout_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softplus_backward",
    "softplus_forward",
    "tanh_backward",
    "tanh_forward",
]


class LeakyReluCache(NamedTuple):
    """What leaky_relu_backward needs."""

    x: Float[Array, ...]
    slope: float


class MaxoutCache(NamedTuple):
    """What maxout_backward needs: x split into pieces along axis + 1, and which piece won."""

    pieces: Float[Array, ...]
    winner: Int[Array, ...]
    axis: int


def relu_forward(x: Float[Array, ...]) -> tuple[Float[Array, ...], Float[Array, ...]]:
    """Rectify: y = max(0, x).

    Implements eq-relu.  The cache is y: it is positive exactly where x is.
    Source: goodfellow2016deep, section 6.3.

    >>> import numpy as np
    >>> relu_forward(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    # the factor changes no value; autograd halves a gradient where the two sides of a maximum are equal
    y = namespace(x, function="relu_forward").maximum(x, 0) * (x > 0)
    return y, y


def relu_backward(dy: Float[Array, ...], cache: Float[Array, ...]) -> Float[Array, ...]:
    """Let the gradient pass where x > 0.  At the kink, x = 0, it is stopped, as in torch.

    >>> import numpy as np
    >>> relu_backward(np.array([5.0, 5.0, 5.0]), relu_forward(np.array([-1.0, 0.0, 2.0]))[1])
    array([0., 0., 5.])
    """
    _expect_gradient("relu_backward", dy, cache)
    return dy * (cache > 0)


def leaky_relu_forward(
    x: Float[Array, ...], *, slope: float = 0.01
) -> tuple[Float[Array, ...], LeakyReluCache]:
    """Rectify with a leak: y = x where x > 0, slope x elsewhere.

    slope: derivative for x <= 0, usually small and positive.
    Source: goodfellow2016deep, section 6.3.
    """
    xp = namespace(x, function="leaky_relu_forward")
    slope = float(slope)  # a NumPy scalar would decide the dtype of the result
    return xp.where(x > 0, x, slope * x), LeakyReluCache(x, slope)


def leaky_relu_backward(dy: Float[Array, ...], cache: LeakyReluCache) -> Float[Array, ...]:
    """Let the gradient pass where x > 0 and scale it by slope elsewhere."""
    xp = _expect_gradient("leaky_relu_backward", dy, cache.x)
    return xp.where(cache.x > 0, dy, cache.slope * dy)


def sigmoid_forward(x: Float[Array, ...]) -> tuple[Float[Array, ...], Float[Array, ...]]:
    """Squash into (0, 1): y = 1 / (1 + exp(-x)).  The cache is y.

    >>> import numpy as np
    >>> sigmoid_forward(np.array([-1000.0, 0.0, 1000.0]))[0].round(9)
    array([0. , 0.5, 1. ])
    """
    y = _sigmoid(namespace(x, function="sigmoid_forward"), x)
    return y, y


def sigmoid_backward(dy: Float[Array, ...], cache: Float[Array, ...]) -> Float[Array, ...]:
    """dx = dy y (1 - y)."""
    _expect_gradient("sigmoid_backward", dy, cache)
    return dy * cache * (1 - cache)


def tanh_forward(x: Float[Array, ...]) -> tuple[Float[Array, ...], Float[Array, ...]]:
    """Squash into (-1, 1): y = tanh(x).  The cache is y."""
    y = namespace(x, function="tanh_forward").tanh(x)
    return y, y


def tanh_backward(dy: Float[Array, ...], cache: Float[Array, ...]) -> Float[Array, ...]:
    """dx = dy (1 - y^2)."""
    _expect_gradient("tanh_backward", dy, cache)
    return dy * (1 - cache * cache)


def softplus_forward(x: Float[Array, ...]) -> tuple[Float[Array, ...], Float[Array, ...]]:
    """The smooth rectifier: y = log(1 + exp(x)), finite for every finite x.  The cache is x.

    >>> import numpy as np
    >>> softplus_forward(np.array([-1000.0, 1000.0]))[0]
    array([   0., 1000.])
    """
    xp = namespace(x, function="softplus_forward")
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))), x


def softplus_backward(dy: Float[Array, ...], cache: Float[Array, ...]) -> Float[Array, ...]:
    """dx = dy sigmoid(x)."""
    xp = _expect_gradient("softplus_backward", dy, cache)
    return dy * _sigmoid(xp, cache)


def absolute_forward(x: Float[Array, ...]) -> tuple[Float[Array, ...], Float[Array, ...]]:
    """Rectify by magnitude: y = |x|.  The cache is x.

    Source: goodfellow2016deep, section 6.3 (absolute value rectification).
    """
    return namespace(x, function="absolute_forward").abs(x), x


def absolute_backward(dy: Float[Array, ...], cache: Float[Array, ...]) -> Float[Array, ...]:
    """dx = dy sign(x): nothing passes at the kink, x = 0."""
    xp = _expect_gradient("absolute_backward", dy, cache)
    return dy * xp.sign(cache)


def identity_forward(x: Float[Array, ...]) -> tuple[Float[Array, ...], Float[Array, ...]]:
    """No detector: y = x, as a new array.  The cache is x, kept for its shape."""
    namespace(x, function="identity_forward")
    return x * 1, x  # asarray(copy=True) would hide x from autograd


def identity_backward(dy: Float[Array, ...], cache: Float[Array, ...]) -> Float[Array, ...]:
    """dx = dy, as a new array."""
    _expect_gradient("identity_backward", dy, cache)
    return dy * 1


def maxout_forward(
    x: Float[Array, "N C ..."], *, pieces: int = 2, axis: int = 1
) -> tuple[Float[Array, "N C/pieces ..."], MaxoutCache]:
    """Keep the largest of every `pieces` neighbouring channels: the axis shrinks by that factor.

    Channels pieces i ... pieces i + pieces - 1 compete for channel i of the result.
    Raises ShapeError if the axis does not divide into pieces.
    Source: goodfellow2016deep, section 6.3.

    >>> import numpy as np
    >>> maxout_forward(np.array([[1.0, 4.0, 3.0, 2.0]]))[0]
    array([[4., 3.]])
    """
    xp = namespace(x, function="maxout_forward")
    split = _split_axis(x, pieces, axis)
    axis = axis % x.ndim
    # taking the winner along the axis, not max, gives autograd our rule for ties as well
    winner = xp.argmax(split, axis=axis + 1, keepdims=True)
    y = xp.take_along_axis(split, winner, axis=axis + 1)
    return xp.squeeze(y, axis=axis + 1), MaxoutCache(split, winner, axis)


def maxout_backward(dy: Float[Array, "N C/pieces ..."], cache: MaxoutCache) -> Float[Array, "N C ..."]:
    """Hand the gradient to the channel that won, the first of equal ones."""
    axis, pieces = cache.axis, cache.pieces
    won = pieces[(slice(None),) * (axis + 1) + (0,)]
    xp = _expect_gradient("maxout_backward", dy, won)
    numbers = xp.arange(pieces.shape[axis + 1], device=array_api_compat.device(dy))
    numbers = xp.reshape(numbers, (-1,) + (1,) * (pieces.ndim - axis - 2))
    dx = xp.expand_dims(dy, axis=axis + 1) * (cache.winner == numbers)
    channels = pieces.shape[axis] * pieces.shape[axis + 1]
    return xp.reshape(dx, (*dy.shape[:axis], channels, *dy.shape[axis + 1 :]))


def _split_axis(x: Array, pieces: int, axis: int) -> Array:
    (pieces,) = per_axis(pieces, 1, "maxout_forward: pieces", 1)
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"maxout_forward: x has no axis {axis}, its shape is {tuple(x.shape)}")
    axis = axis % x.ndim
    if x.shape[axis] % pieces:
        raise ShapeError(
            f"maxout_forward: axis {axis} has {x.shape[axis]} channels, which is not a multiple of "
            f"pieces={pieces} (x {tuple(x.shape)})"
        )
    shape = (*x.shape[:axis], x.shape[axis] // pieces, pieces, *x.shape[axis + 1 :])
    return array_api_compat.array_namespace(x).reshape(x, shape)


def _sigmoid(xp, x: Array) -> Array:
    # exp is as exact for x << 0 as elsewhere, unlike 1 + tanh; it only must not overflow
    lowest = -0.99 * math.log(float(xp.finfo(x.dtype).max))
    return 1 / (1 + xp.exp(-xp.maximum(x, lowest)))


def _expect_gradient(function: str, dy: Array, like: Array):
    xp = namespace(dy, like, function=function, names=("dy", "x"))
    expect_shape(function, "dy", dy, like.shape, "it is the gradient of the output")
    return xp
