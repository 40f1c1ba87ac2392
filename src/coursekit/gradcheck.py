"""Judge a hand-written backward by central differences in random directions.

A Jacobian J has as many entries as outputs times inputs; comparing <dy, J v> with <J' dy, v> for a random
direction v checks them all with two evaluations of the forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj

from coursekit.arrays import Array, namespace

# For values near 1, eps**2 (truncation) and 1e-16 / eps (rounding) are then about equal.
EPS = 1e-5


class GradientError(AssertionError):
    """A gradient that central differences contradict; the message names it."""


def numerical_directional(
    f: Callable[..., Array], arrays: Sequence[Array], directions: Sequence[Array | None], eps: float = EPS
) -> Array:
    """J v: how f(*arrays) changes per unit step when every array moves along its direction.

    directions: one per array; None holds that array still.

    >>> numerical_directional(lambda x: x**2, [np.array([1.0, 3.0])], [np.array([1.0, 0.0])]).round(6)
    array([2., 0.])
    """

    def moved(step: float) -> list[Array]:
        return [a if v is None else a + step * v for a, v in zip(arrays, directions, strict=True)]

    return (f(*moved(eps)) - f(*moved(-eps))) / (2 * eps)


def check_gradients(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Any],
    inputs: Sequence[Array],
    *,
    rng: np.random.Generator,
    directions: int = 3,
    tolerance: float = 1e-6,
) -> float:
    """The largest relative error of backward's gradients, each checked in several random directions.

    forward: (*inputs) -> (y, cache).   backward: (dy, cache) -> one gradient, or a tuple or list of them in
    the order of inputs; where it is a named tuple, messages use its names, and None entries are left out.
    The error of a gradient g is |<dy, J v> - <g, v>| / (|dy| |J v| + |g| |v|), so 1 is entirely wrong.
    Raises GradientError if a gradient has another shape than its input or an error above tolerance,
    TypeError unless the inputs are float64: differences of float32 values keep three digits.
    """
    xp = namespace(*inputs, function="check_gradients", names=[f"inputs[{i}]" for i in range(len(inputs))])
    if inputs[0].dtype != xp.float64:
        raise TypeError(f"check_gradients: inputs have dtype {inputs[0].dtype}, differences need float64")
    y, cache = forward(*inputs)
    dy = _random_like(y, rng)
    gradients = _named(backward(dy, cache))
    if len(gradients) != len(inputs):
        raise GradientError(f"backward gives {list(gradients)}, but forward has {len(inputs)} inputs")
    worst = 0.0
    for i, (name, gradient) in enumerate(gradients.items()):
        if not is_array_api_obj(gradient):
            raise GradientError(f"{name} is a {type(gradient).__name__}, not an array")
        if gradient.shape != inputs[i].shape:
            raise GradientError(
                f"{name} has shape {tuple(gradient.shape)}, its input {tuple(inputs[i].shape)}"
            )
        for _ in range(directions):
            v = _random_like(inputs[i], rng)
            still = [v if j == i else None for j in range(len(inputs))]
            expected = numerical_directional(lambda *a: forward(*a)[0], inputs, still)
            worst = max(worst, _compare(name, dy, expected, gradient, v, tolerance))
    return worst


def _compare(name: str, dy: Array, expected: Array, gradient: Array, v: Array, tolerance: float) -> float:
    numerical, analytical = _inner(dy, expected), _inner(gradient, v)
    scale = (_inner(dy, dy) * _inner(expected, expected)) ** 0.5
    scale += (_inner(gradient, gradient) * _inner(v, v)) ** 0.5
    error = abs(numerical - analytical) / scale if scale else 0.0
    if not error <= tolerance:  # also where it is NaN
        raise GradientError(
            f"{name} is wrong: along a random direction it predicts {analytical:.6g}, "
            f"central differences give {numerical:.6g} (relative error {error:.1e}, allowed {tolerance:.0e})"
        )
    return error


def _named(gradients: Any) -> dict[str, Array]:
    if not isinstance(gradients, tuple | list):
        return {"dx": gradients}
    names = getattr(gradients, "_fields", [f"gradient {i}" for i in range(len(gradients))])
    return {name: g for name, g in zip(names, gradients, strict=True) if g is not None}


def _random_like(a: Array, rng: np.random.Generator) -> Array:
    return array_namespace(a).asarray(rng.standard_normal(tuple(a.shape)), dtype=a.dtype, device=device(a))


def _inner(a: Array, b: Array) -> float:
    return float(array_namespace(a).sum(a * b))
