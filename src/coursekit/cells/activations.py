"""Activations of recurrent cells, those of the ONNX operators among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from coursekit.arrays import Array, sigmoid

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["ACTIVATIONS", "Activation", "named_activation"]


class Activation(NamedTuple):
    """A detector h = f(a) whose slope can be read off its value: a need not be kept.

    value: (xp, a) -> h.   slope: (xp, h) -> dh/da.
    """

    value: Callable[[ModuleType, Array], Array]
    slope: Callable[[ModuleType, Array], Array]


def _affine(alpha: float = 1.0, beta: float = 0.0) -> Activation:
    return Activation(lambda xp, a: alpha * a + beta, lambda xp, h: xp.full_like(h, alpha))


def _leaky_relu(alpha: float = 0.01) -> Activation:
    return Activation(
        lambda xp, a: xp.where(a > 0, a, alpha * a),
        lambda xp, h: xp.where(h > 0, 1.0, xp.full_like(h, alpha)),
    )


def _thresholded_relu(alpha: float = 1.0) -> Activation:
    return Activation(
        lambda xp, a: xp.where(a > alpha, a, xp.zeros_like(a)), lambda xp, h: xp.astype(h != 0, h.dtype)
    )


def _scaled_tanh(alpha: float = 1.0, beta: float = 1.0) -> Activation:
    return Activation(lambda xp, a: alpha * xp.tanh(beta * a), lambda xp, h: beta * (alpha - h * h / alpha))


def _hard_sigmoid(alpha: float = 0.2, beta: float = 0.5) -> Activation:
    return Activation(
        lambda xp, a: xp.clip(alpha * a + beta, 0.0, 1.0),
        lambda xp, h: xp.where((h > 0) & (h < 1), alpha, xp.zeros_like(h)),
    )


def _elu(alpha: float = 1.0) -> Activation:
    return Activation(
        lambda xp, a: xp.where(a > 0, a, alpha * xp.expm1(xp.where(a > 0, 0.0, a))),
        lambda xp, h: xp.where(h > 0, 1.0, h + alpha),
    )


TANH = Activation(lambda xp, a: xp.tanh(a), lambda xp, h: 1 - h * h)
RELU = Activation(lambda xp, a: xp.where(a > 0, a, xp.zeros_like(a)), lambda xp, h: xp.astype(h > 0, h.dtype))
IDENTITY = Activation(lambda xp, a: a, lambda xp, h: xp.ones_like(h))
SIGMOID = Activation(sigmoid, lambda xp, h: h * (1 - h))
SOFTSIGN = Activation(lambda xp, a: a / (1 + xp.abs(a)), lambda xp, h: (1 - xp.abs(h)) ** 2)
SOFTPLUS = Activation(
    lambda xp, a: RELU.value(xp, a) + xp.log1p(xp.exp(-xp.abs(a))), lambda xp, h: -xp.expm1(-h)
)

ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "tanh": lambda: TANH,
    "relu": lambda: RELU,
    "identity": lambda: IDENTITY,
    "sigmoid": lambda: SIGMOID,
    "affine": _affine,
    "leaky_relu": _leaky_relu,
    "thresholded_relu": _thresholded_relu,
    "scaled_tanh": _scaled_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "elu": _elu,
    "softsign": lambda: SOFTSIGN,
    "softplus": lambda: SOFTPLUS,
}


def named_activation(name: str | Activation, *numbers: float) -> Activation:
    """The activation of this name; numbers are its alpha and beta, as the ONNX operators have them.

    Raises ValueError for an unknown name, TypeError for more numbers than it takes.

    >>> import numpy as np
    >>> float(named_activation("leaky_relu", 0.1).value(np, np.array(-2.0)))
    -0.2
    """
    if isinstance(name, Activation):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown, expected one of {tuple(ACTIVATIONS)}")
    try:
        return ACTIVATIONS[name](*numbers)
    except TypeError as error:
        raise TypeError(f"activation {name!r} does not take {len(numbers)} numbers: {numbers}") from error


def clipped(inner: Activation, limit: float) -> Activation:
    """inner after a has been cut to [-limit, limit]: where it was cut, the slope is 0."""

    def slope(xp: ModuleType, h: Array) -> Array:
        low, high = (inner.value(xp, xp.full_like(h[..., :1], a)) for a in (-limit, limit))
        # torch's values of one a may differ in their last bit, as vectors and what is left over are computed
        slack = 4 * xp.finfo(h.dtype).eps * (xp.abs(low) + xp.abs(high))
        return xp.where((h - low > slack) & (high - h > slack), inner.slope(xp, h), xp.zeros_like(h))

    return Activation(lambda xp, a: inner.value(xp, xp.clip(a, -limit, limit)), slope)


def activations_of(
    function: str, given: Sequence[str | Activation], count: int, clip: float | None
) -> list[Activation]:
    """That many activations, each after its input has been cut to [-clip, clip]."""
    if isinstance(given, str) or len(given) != count:
        raise ValueError(f"{function}: activations must be {count} names, got {given!r}")
    if clip is not None and not clip > 0:
        raise ValueError(f"{function}: clip must be > 0, got {clip!r}; None does not clip")
    chosen = [named_activation(name) for name in given]
    return chosen if clip is None else [clipped(activation, clip) for activation in chosen]
