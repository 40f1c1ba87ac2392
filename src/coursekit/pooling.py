"""Pooling stages: maximum, average and L_p norm over the windows of an image, forward and backward.

Maximum and average are separable: pooling the rows and then the columns of the result is pooling the
windows, with KH + KW operations per output instead of KH KW.  Everything works on any number of image axes;
the public functions fix that number at one (N C W) or two (N C H W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial, reduce
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import array_api_compat
import numpy as np

from coursekit.arrays import (
    Array,
    Padding,
    Pads,
    ShapeError,
    Size,
    Size2,
    expect_axes,
    expect_shape,
    is_torch,
    map_batch,
    namespace,
    output_size,
    pad,
    pad_backward,
    per_axis,
    resolve_padding,
    scatter_add,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "AvgPoolCache",
    "LpPoolCache",
    "MaxPoolCache",
    "Windows",
    "avg_pool1d_backward",
    "avg_pool1d_forward",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "lp_pool1d_backward",
    "lp_pool1d_forward",
    "lp_pool2d_backward",
    "lp_pool2d_forward",
    "max_pool1d_backward",
    "max_pool1d_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
]


class Windows(NamedTuple):
    """Where the windows of a pooling stage lie; every field has one entry per image axis.

    pads: pixels added as asked for.   reach: the same, grown so that the last window of ceil mode fits.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    size: tuple[int, ...]
    count: tuple[int, ...]
    pads: Pads
    reach: Pads

    @property
    def padded(self) -> bool:
        """Whether any pixel is added."""
        return any(map(any, self.reach))

    def axis_taps(self, axis: int) -> list[slice]:
        """For each tap of a window along one axis: the pixels it meets, from the first window to the last."""
        step, dilation = self.stride[axis], self.dilation[axis]
        last = step * (self.count[axis] - 1) + 1
        return [slice(k * dilation, k * dilation + last, step) for k in range(self.kernel[axis])]

    def taps(self) -> Iterator[tuple]:
        """The same over all axes, in row-major order of the taps: indices into the padded image."""
        for slices in product(*(self.axis_taps(axis) for axis in range(len(self.kernel)))):
            yield (..., *slices)


class MaxPoolCache(NamedTuple):
    """What max_pool*_backward needs, and on request where each maximum was found."""

    x: Float[Array, "N C *image"]
    y: Float[Array, "N C *out"]
    windows: Windows

    @property
    def indices(self) -> Int[Array, "N C *out"]:
        """Flat position of each maximum in its H x W image, as in torch; -1 if a window has none."""
        xp = array_api_compat.array_namespace(self.x)
        positions = np.arange(math.prod(self.windows.size)).reshape(self.windows.size)
        positions = np.pad(positions, self.windows.reach, constant_values=-1)
        found = _first_maximum(*_image_to_compare(self.x, self.y, self.windows), self.windows)
        positions = xp.asarray(positions.reshape(-1), device=array_api_compat.device(found))
        return xp.reshape(xp.take(positions, xp.reshape(found, (-1,))), found.shape)


class AvgPoolCache(NamedTuple):
    """What avg_pool*_backward needs: the image (for its kind), the output's shape, divisors, windows."""

    x: Float[Array, "N C *image"]
    y_shape: tuple[int, ...]
    divisor: Float[Array, "*out"] | float
    windows: Windows


class LpPoolCache(NamedTuple):
    """What lp_pool*_backward needs."""

    x: Float[Array, "N C *image"]
    y: Float[Array, "N C *out"]
    p: float
    windows: Windows


def max_pool2d_forward(
    x: Float[Array, "N C H W"],
    kernel: Size2,
    *,
    stride: Size2 | None = None,
    padding: Padding = 0,
    dilation: Size2 = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Array, "N C HO WO"], MaxPoolCache]:
    """Keep the largest pixel of every window.

    Implements eq-pool-max; HO and WO follow eq-conv-size.  Pixels added by padding never win.  A window that
    holds a NaN gives NaN.

    kernel: pixels per window.   stride: pixels between windows, None for the kernel (no overlap).
    padding: pixels added on each side, or a mode.   dilation: pixels between the taps of a window.
    ceil_mode: let a last window hang over the end, if it starts inside the image or the padding before it.
    Returns y and the cache that max_pool2d_backward needs; cache.indices tells where each maximum stood.
    Raises ShapeError if the padded image is smaller than a window, or padding as wide as one.
    Source: goodfellow2016deep, section 9.3.

    >>> max_pool2d_forward(np.array([[[[1.0, 2.0, 5.0], [4.0, 3.0, 0.0]]]]), 2, stride=1)[0]
    array([[[[4., 5.]]]])
    """
    return _max_forward("max_pool2d_forward", x, "N C H W", kernel, stride, padding, dilation, ceil_mode)


def max_pool1d_forward(
    x: Float[Array, "N C W"],
    kernel: Size,
    *,
    stride: Size | None = None,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Array, "N C WO"], MaxPoolCache]:
    """Keep the largest value of every window of a signal; the options are those of max_pool2d_forward."""
    return _max_forward("max_pool1d_forward", x, "N C W", kernel, stride, padding, dilation, ceil_mode)


def max_pool2d_backward(dy: Float[Array, "N C HO WO"], cache: MaxPoolCache) -> Float[Array, "N C H W"]:
    """Hand the gradient of every window to its largest pixel; overlapping windows add up.

    Implements eq-pool-backward.  Of equal pixels the first in row-major order gets everything, as in
    torch.
    """
    return _max_backward("max_pool2d_backward", dy, cache)


def max_pool1d_backward(dy: Float[Array, "N C WO"], cache: MaxPoolCache) -> Float[Array, "N C W"]:
    """Hand the gradient of every window to its largest value, the first of equal ones."""
    return _max_backward("max_pool1d_backward", dy, cache)


def avg_pool2d_forward(
    x: Float[Array, "N C H W"],
    kernel: Size2,
    *,
    stride: Size2 | None = None,
    padding: Padding = 0,
    dilation: Size2 = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> tuple[Float[Array, "N C HO WO"], AvgPoolCache]:
    """Average the pixels of every window.

    Implements eq-pool-avg; HO and WO follow eq-conv-size.

    kernel, stride, padding, dilation, ceil_mode: as in max_pool2d_forward.
    count_include_pad: whether a pixel added by padding counts in the divisor; what ceil mode adds never does.
    divisor: divide every sum by this number instead.
    Returns y and the cache that avg_pool2d_backward needs.
    Raises ShapeError if the padded image is smaller than a window, or padding as wide as one.
    Source: goodfellow2016deep, section 9.3.

    >>> avg_pool2d_forward(np.array([[[[1.0, 2.0, 5.0], [4.0, 3.0, 0.0]]]]), 2, stride=1)[0]
    array([[[[2.5, 2.5]]]])
    """
    windows = place_windows("avg_pool2d_forward", x, "N C H W", kernel, stride, padding, dilation, ceil_mode)
    return _avg_forward("avg_pool2d_forward", x, windows, count_include_pad, divisor)


def avg_pool1d_forward(
    x: Float[Array, "N C W"],
    kernel: Size,
    *,
    stride: Size | None = None,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> tuple[Float[Array, "N C WO"], AvgPoolCache]:
    """Average the values of every window of a signal; the options are those of avg_pool2d_forward."""
    windows = place_windows("avg_pool1d_forward", x, "N C W", kernel, stride, padding, dilation, ceil_mode)
    return _avg_forward("avg_pool1d_forward", x, windows, count_include_pad, divisor)


def avg_pool2d_backward(dy: Float[Array, "N C HO WO"], cache: AvgPoolCache) -> Float[Array, "N C H W"]:
    """Spread the gradient of every window evenly over its pixels; overlapping windows add up.

    Implements eq-pool-backward.
    """
    return _avg_backward("avg_pool2d_backward", dy, cache)


def avg_pool1d_backward(dy: Float[Array, "N C WO"], cache: AvgPoolCache) -> Float[Array, "N C W"]:
    """Spread the gradient of every window evenly over its values."""
    return _avg_backward("avg_pool1d_backward", dy, cache)


def lp_pool2d_forward(
    x: Float[Array, "N C H W"],
    kernel: Size2,
    *,
    p: float = 2.0,
    stride: Size2 | None = None,
    padding: Padding = 0,
    dilation: Size2 = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Array, "N C HO WO"], LpPoolCache]:
    """Take the L_p norm of every window: (sum |x|^p)^(1/p).

    Implements eq-pool-lp; HO and WO follow eq-conv-size.  p = 1 sums magnitudes, p = 2 is the Euclidean
    length, and with growing p the result approaches the largest magnitude.

    p: order of the norm, 1 <= p < infinity.   kernel, stride, padding, dilation, ceil_mode: as in
    max_pool2d_forward.  In ceil mode a window that hangs over the end sums the pixels it has, as in ONNX;
    torch scales that sum up to a full window.
    Returns y and the cache that lp_pool2d_backward needs.
    Raises ShapeError if the padded image is smaller than a window, or padding as wide as one.
    Source: boureau2010pooling.

    >>> lp_pool2d_forward(np.array([[[[3.0, 0.0], [-4.0, 0.0]]]]), 2)[0]
    array([[[[5.]]]])
    """
    windows = place_windows("lp_pool2d_forward", x, "N C H W", kernel, stride, padding, dilation, ceil_mode)
    return _lp_forward("lp_pool2d_forward", x, windows, p)


def lp_pool1d_forward(
    x: Float[Array, "N C W"],
    kernel: Size,
    *,
    p: float = 2.0,
    stride: Size | None = None,
    padding: Padding = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Array, "N C WO"], LpPoolCache]:
    """Take the L_p norm of every window of a signal; the options are those of lp_pool2d_forward."""
    windows = place_windows("lp_pool1d_forward", x, "N C W", kernel, stride, padding, dilation, ceil_mode)
    return _lp_forward("lp_pool1d_forward", x, windows, p)


def lp_pool2d_backward(dy: Float[Array, "N C HO WO"], cache: LpPoolCache) -> Float[Array, "N C H W"]:
    """Share the gradient of every window in proportion to sign(x) (|x| / y)^(p - 1).

    Implements eq-pool-backward.  Where a window is all zero the norm has no derivative: 0 is returned there.
    """
    return _lp_backward("lp_pool2d_backward", dy, cache)


def lp_pool1d_backward(dy: Float[Array, "N C WO"], cache: LpPoolCache) -> Float[Array, "N C W"]:
    """Share the gradient of every window in proportion to sign(x) (|x| / y)^(p - 1)."""
    return _lp_backward("lp_pool1d_backward", dy, cache)


def place_windows(
    function: str,
    x: Array,
    layout: str,
    kernel: Size,
    stride: Size | None,
    padding: Padding,
    dilation: Size,
    ceil_mode: bool = False,
) -> Windows:
    """Check an image and the options of its windows, in the name of function, and lay the windows out."""
    namespace(x, function=function)
    expect_axes(function, "x", x, layout)
    size = tuple(x.shape[2:])
    kernel = per_axis(kernel, len(size), f"{function}: kernel", 1)
    stride = kernel if stride is None else per_axis(stride, len(size), f"{function}: stride", 1)
    dilation = per_axis(dilation, len(size), f"{function}: dilation", 1)
    pads = resolve_padding(padding, size, kernel, stride=stride, dilation=dilation, function=function)
    covered = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(max(p) >= c for p, c in zip(pads, covered, strict=True)):
        raise ShapeError(
            f"{function}: pads {pads} are as wide as a window, which covers {tuple(covered)} pixels: "
            "a window would lie in the padding alone; pad less"
        )
    count = output_size(
        size, kernel, stride=stride, padding=pads, dilation=dilation, ceil_mode=ceil_mode, function=function
    )
    reach = tuple(
        (before, max(after, s * (n - 1) + c - before - pixels))
        for (before, after), s, n, c, pixels in zip(pads, stride, count, covered, size, strict=True)
    )
    return Windows(kernel, stride, dilation, size, count, pads, reach)


def _item_bytes(x: Array, windows: Windows) -> int:
    padded = (n + sum(p) for n, p in zip(windows.size, windows.reach, strict=True))
    # the padded image, the partial results and the output live at the same time
    return 3 * x.shape[1] * math.prod(padded) * x.dtype.itemsize


def _pad(x: Array, windows: Windows, value: float = 0.0) -> Array:
    return pad(x, windows.reach, value=value) if windows.padded else x


def _crop(dxp: Array, windows: Windows) -> Array:
    return pad_backward(dxp, windows.reach) if windows.padded else dxp


def _fold(combine: Callable[[Array, Array], Array], x: Array, windows: Windows) -> Array:
    """Combine the taps of every window of the padded image, one axis after the other."""
    first = x.ndim - len(windows.kernel)
    for axis in range(len(windows.kernel)):
        along = (slice(None),) * (first + axis)
        x = reduce(combine, (x[(*along, tap)] for tap in windows.axis_taps(axis)))
    # windows of one pixel combine nothing: without a copy the result would be a view of the image
    return x * 1 if max(windows.kernel) == 1 else x


def _max_forward(function: str, x: Array, layout: str, *options) -> tuple[Array, MaxPoolCache]:
    windows = place_windows(function, x, layout, *options)
    xp = namespace(x, function=function)

    def pool(block: Array) -> Array:
        return _fold(xp.maximum, _pad(block, windows, -math.inf), windows)

    y = map_batch(pool, x, item_bytes=_item_bytes(x, windows))
    return y, MaxPoolCache(x, y, windows)


def _image_to_compare(x: Array, y: Array, windows: Windows) -> tuple[Array, Array]:
    """The padded image and the output, such that exactly the pixels that may win equal their window's y.

    The padding is NaN, which equals nothing.  NaN pixels, which did win, become infinite in both.
    """
    xp = array_api_compat.array_namespace(x)
    # on torch without a look at the values, which a tensor on the meta device does not have
    if is_torch(y) or xp.any(xp.isnan(y)):
        x, y = (xp.where(xp.isnan(a), math.inf, a) for a in (x, y))
    return _pad(x, windows, math.nan), y


def _max_backward(function: str, dy: Array, cache: MaxPoolCache) -> Array:
    _expect_gradient(function, dy, cache.x, cache.y.shape)
    unpool = partial(_unpool_maximum, windows=cache.windows)
    return map_batch(unpool, dy, cache.x, cache.y, item_bytes=_item_bytes(cache.x, cache.windows))


def _unpool_maximum(dy: Array, x: Array, y: Array, windows: Windows) -> Array:
    x, y = _image_to_compare(x, y, windows)
    winners = _first_maximum(x, y, windows)
    return _crop(scatter_add(dy, winners, x.shape), windows)


def _first_maximum(
    x: Array, y: Array, windows: Windows
) -> Int[Array, "N C *out"]:
    """Flat position, in its padded image, of each window's maximum.

    Of equal pixels the first in row-major order: count the taps that a
    search in this order passes by.
    """
    xp, on = array_api_compat.array_namespace(x), array_api_compat.device(x)
    searching = xp.ones(y.shape, dtype=xp.bool, device=on)
    passed = xp.zeros(y.shape, dtype=xp.int32, device=on)
    *taps, _last = windows.taps()
    for tap in taps:  # where no tap before it won, the last one did
        searching &= x[tap] != y
        passed += searching
    starts, steps = (xp.asarray(p, device=on) for p in _flat_positions(windows))
    return starts + xp.reshape(xp.take(steps, xp.reshape(passed, (-1,))), y.shape)


@lru_cache(maxsize=16)  # more than the pooling stages of a network; large images make large entries
def _flat_positions(windows: Windows) -> tuple[Int[np.ndarray, "*out"], Int[np.ndarray, " taps"]]:
    """Where in the flat padded image each window starts, and how far from there its taps are."""
    padded = [n + sum(reach) for n, reach in zip(windows.size, windows.reach, strict=True)]
    pixels = np.arange(math.prod(padded)).reshape(padded)
    met = [pixels[tap] for tap in windows.taps()]
    return met[0].copy(), np.array([tap.flat[0] for tap in met])  # a view would keep all pixels


def _avg_forward(
    function: str, x: Array, windows: Windows, count_include_pad: bool, divisor: float | None
) -> tuple[Array, AvgPoolCache]:
    xp = namespace(x, function=function)
    if divisor is None:
        counts = _window_counts(windows, count_include_pad)
        divisor = xp.asarray(counts, dtype=x.dtype, device=array_api_compat.device(x))
    elif not divisor > 0:
        raise ValueError(f"{function}: divisor must be > 0, got {divisor!r}")
    else:
        divisor = float(divisor)  # a NumPy scalar would decide the dtype of the result

    def pool(block: Array) -> Array:
        return _fold(xp.add, _pad(block, windows), windows) / divisor

    y = map_batch(pool, x, item_bytes=_item_bytes(x, windows))
    return y, AvgPoolCache(x, tuple(y.shape), divisor, windows)


def _window_counts(windows: Windows, count_include_pad: bool) -> Int[np.ndarray, "*out"]:
    """How many pixels of each window count: those of the image, or of the image and its padding."""
    counts = []
    for axis, (size, (before, after)) in enumerate(zip(windows.size, windows.reach, strict=True)):
        asked = windows.pads[axis][1] if count_include_pad else 0
        counted = np.zeros(before + size + after, dtype=int)
        counted[0 if count_include_pad else before : before + size + asked] = 1
        counts.append(sum(counted[tap] for tap in windows.axis_taps(axis)))
    # with dilation a window can straddle a small image and see nothing: its sum is 0, so is its average
    return np.maximum(reduce(np.multiply.outer, counts), 1)


def _avg_backward(function: str, dy: Array, cache: AvgPoolCache) -> Array:
    _expect_gradient(function, dy, cache.x, cache.y_shape)

    def spread(block: Array) -> Array:
        return _crop(_unfold(block / cache.divisor, cache.windows), cache.windows)

    return map_batch(spread, dy, item_bytes=_item_bytes(cache.x, cache.windows))


def _unfold(dy: Array, windows: Windows) -> Array:
    """Adjoint of _fold with addition: every tap of a window receives the window's gradient."""
    xp = array_api_compat.array_namespace(dy)
    first = dy.ndim - len(windows.kernel)
    for axis in reversed(range(len(windows.kernel))):
        padded = windows.size[axis] + sum(windows.reach[axis])
        along = (slice(None),) * (first + axis)
        shape = (*dy.shape[: first + axis], padded, *dy.shape[first + axis + 1 :])
        wide = xp.zeros(shape, dtype=dy.dtype, device=array_api_compat.device(dy))
        for tap in windows.axis_taps(axis):
            wide[(*along, tap)] += dy
        dy = wide
    return dy


def _lp_forward(function: str, x: Array, windows: Windows, p: float) -> tuple[Array, LpPoolCache]:
    xp = namespace(x, function=function)
    if not 1 <= p < math.inf:
        raise ValueError(f"{function}: p must satisfy 1 <= p < infinity to make a norm, got {p!r}")
    p = float(p)  # a NumPy scalar would decide the dtype of the result

    def pool(block: Array) -> Array:
        magnitude = _pad(xp.abs(block), windows)
        # powers of the ratio to the largest pixel: |x|^p itself overflows for large p
        largest = _fold(xp.maximum, magnitude, windows)
        scale = xp.where((largest > 0) & (largest < math.inf), largest, 1)
        total = sum((magnitude[tap] / scale) ** p for tap in windows.taps())
        # the root of zero has no derivative: autograd is to meet the root of one there, times zero
        return xp.where(largest == 0, 0, scale) * (total + (largest == 0)) ** (1 / p)

    y = map_batch(pool, x, item_bytes=_item_bytes(x, windows))
    return y, LpPoolCache(x, y, p, windows)


def _lp_backward(function: str, dy: Array, cache: LpPoolCache) -> Array:
    _expect_gradient(function, dy, cache.x, cache.y.shape)
    unpool = partial(_unpool_norm, p=cache.p, windows=cache.windows)
    return map_batch(unpool, dy, cache.x, cache.y, item_bytes=2 * _item_bytes(cache.x, cache.windows))


def _unpool_norm(dy: Array, x: Array, y: Array, p: float, windows: Windows) -> Array:
    xp = array_api_compat.array_namespace(x)
    x = _pad(x, windows)
    dxp = xp.zeros_like(x)
    length = xp.where(y == 0, 1, y)
    for tap in windows.taps():
        dxp[tap] += dy * xp.sign(x[tap]) * (xp.abs(x[tap]) / length) ** (p - 1)
    return _crop(dxp, windows)


def _expect_gradient(function: str, dy: Array, x: Array, y_shape: tuple[int, ...]) -> None:
    namespace(dy, x, function=function, names=("dy", "x"))
    because = f"it is the gradient of the output, one value per window (x {tuple(x.shape)})"
    expect_shape(function, "dy", dy, y_shape, because)
