"""Measure what a layer does to a moved image: does its output move along, or stay as it was?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import array_api_compat

from coursekit.arrays import Array, ShapeError, namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float


def translate(x: Float[Array, "*axes"], shift: Sequence[float]) -> Float[Array, "*axes"]:
    """Move x along its last axes; what leaves on one side comes back on the other.

    shift: pixels, one number per axis, positive to the right and down.  Whole pixels are rolled; a fraction
    turns the phase of every frequency, which is exact for an image that holds no frequency above 1/2.

    >>> import numpy as np
    >>> translate(np.array([1.0, 2.0, 3.0, 4.0]), [1])
    array([4., 1., 2., 3.])
    """
    xp = namespace(x, function="translate")
    if len(shift) > x.ndim:
        raise ShapeError(f"translate: shift {tuple(shift)} has {len(shift)} numbers, x has {x.ndim} axes")
    for axis, pixels in enumerate(shift, start=x.ndim - len(shift)):
        if float(pixels).is_integer():
            x = xp.roll(x, int(pixels), axis=axis)
        else:
            x = _turn_phases(x, float(pixels), axis)  # a NumPy scalar would decide the dtype
    return x


def _turn_phases(x: Float[Array, "*axes"], pixels: float, axis: int) -> Float[Array, "*axes"]:
    """The shift theorem: frequency f of the moved signal is exp(-2 pi i f pixels) times what it was."""
    xp = namespace(x, function="translate")
    size = x.shape[axis]
    frequency = xp.arange(size // 2 + 1, dtype=x.dtype, device=array_api_compat.device(x)) / size
    along_axis = (-1,) + (1,) * (x.ndim - 1 - axis)
    phases = xp.reshape(xp.exp(-2j * math.pi * pixels * frequency), along_axis)
    return xp.fft.irfft(xp.fft.rfft(x, axis=axis) * phases, n=size, axis=axis)


def equivariance_error(
    function: Callable[[Array], Array],
    x: Float[Array, "*axes"],
    shift: Sequence[float],
    *,
    stride: int = 1,
) -> float:
    """How far function is from moving its output along with its input; 0 means equivariant.

    Implements eq-equivariance-error: || f(T x) - T' f(x) || over
    || f(x) - its mean ||, where T moves the input by shift and T' moves the
    output by shift / stride.  The mean of each map, which moves along with
    anything, is left out; two unrelated maps are about sqrt(2) apart.

    function: maps images to images, both moved over their last axes.
    stride: input pixels per output pixel.
    Raises ValueError if each map of f(x) is constant: no movement can be seen.
    Source: zhang2019making, section 3.
    """
    xp = namespace(x, function="equivariance_error")
    y = function(x)
    mean = xp.mean(y, axis=tuple(range(-len(shift), 0)), keepdims=True)
    variation = float(xp.linalg.vector_norm(y - mean))
    if variation <= 4 * xp.finfo(y.dtype).eps * float(xp.linalg.vector_norm(y)):  # rounding of the mean
        raise ValueError(
            "equivariance_error: f(x) is constant, which shows no movement; take another x"
        )
    moved_along = translate(y, [pixels / stride for pixels in shift])
    difference = function(translate(x, shift)) - moved_along
    return float(xp.linalg.vector_norm(difference)) / variation


def unchanged_share(
    before: Float[Array, "*axes"], after: Float[Array, "*axes"], *, tolerance: float = 1e-6
) -> float:
    """Share of units that kept their value, among those that were active before or after.

    A unit that is 0 both times shows an empty background and would only flatter the share.

    tolerance: largest difference, relative to the largest value, that counts as the same.
    Raises ShapeError if the shapes differ, ValueError if no unit is active.
    Source: goodfellow2016deep, section 9.3.

    >>> import numpy as np
    >>> unchanged_share(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 4.0]))
    0.6666666666666666
    """
    xp = namespace(before, after, function="unchanged_share")
    if before.shape != after.shape:
        raise ShapeError(
            f"unchanged_share: before has shape {tuple(before.shape)}, after {tuple(after.shape)}"
        )
    active = (before != 0) | (after != 0)
    if not xp.any(active):
        raise ValueError("unchanged_share: every unit is 0 before and after; measure on another image")
    same = xp.abs(after - before) <= tolerance * xp.max(xp.abs(before))
    return int(xp.count_nonzero(same & active)) / int(xp.count_nonzero(active))
