"""The convolution stage: slide filters over signals (1-d) and images (2-d), forward and backward.

Everything is cross-correlation, as in every deep learning library: the kernel is not flipped. The four
public functions share one implementation, in two dimensions: a signal is an image of one row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from array_api_compat import array_namespace, device

from coursekit.arrays import (
    Array,
    Padding,
    Pads,
    ShapeError,
    Size,
    Size2,
    batch_blocks,
    copy,
    expect_axes,
    expect_pads,
    expect_shape,
    map_batch,
    namespace,
    output_size,
    pad,
    pad_backward,
    per_axis,
    resolve_padding,
    windows,
)

if TYPE_CHECKING:
    from jaxtyping import Float

# dx by gathering copies the F channels of dy, by scattering it adds up C channels, at about twice the price.
GATHER_RATIO = 2

LAYOUTS = {1: ("N C W", "F C/groups KW"), 2: ("N C H W", "F C/groups KH KW")}


class ConvOptions(NamedTuple):
    """How the kernel slides, vertically and horizontally (a signal is an image of one row)."""

    stride: tuple[int, int]
    pads: Pads
    padding_mode: str
    dilation: tuple[int, int]
    groups: int


class ConvCache(NamedTuple):
    """What a backward needs: references to x and w (not copies), whether there was a bias, the options."""

    x: Array
    w: Array
    bias: bool
    options: ConvOptions


class ConvGradients(NamedTuple):
    """Gradients of the loss with respect to x, w and b; db is None where b was."""

    dx: Array
    dw: Array
    db: Array | None


class ReceptiveField(NamedTuple):
    """What one output pixel sees: size in input pixels, and stride, the input pixels between neighbours."""

    size: int
    stride: int


def conv1d_forward(
    x: Float[Array, "N C W"],
    w: Float[Array, "F C/groups KW"],
    b: Float[Array, " F"] | None = None,
    *,
    stride: int = 1,
    padding: Padding = 0,
    padding_mode: str = "zeros",
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Float[Array, "N F WO"], ConvCache]:
    """Slide F filters over a batch of signals; `conv2d_forward` with one image axis.

    >>> import numpy as np
    >>> conv1d_forward(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[-1.0, 1.0]]]))[0]
    array([[[1., 2., 4.]]])
    """
    options = _options("conv1d_forward", 1, x, w, b, stride, padding, padding_mode, dilation, groups)
    y = _correlate(_image(x), _image(w), b, options)
    return y[:, :, 0, :], ConvCache(x, w, b is not None, options)


def conv2d_forward(
    x: Float[Array, "N C H W"],
    w: Float[Array, "F C/groups KH KW"],
    b: Float[Array, " F"] | None = None,
    *,
    stride: Size2 = 1,
    padding: Padding = 0,
    padding_mode: str = "zeros",
    dilation: Size2 = 1,
    groups: int = 1,
) -> tuple[Float[Array, "N F HO WO"], ConvCache]:
    """Slide F filters over a batch of images (cross-correlation: no kernel flip).

    Implements eq-conv-forward; HO and WO follow eq-conv-size.

    x: pixel intensities, dimensionless.   w, b: filter weights and offsets.
    stride: pixels between windows, >= 1.   dilation: pixels between the taps of a window, >= 1.
    padding: pixels added on each side: a number, one per axis, a (before, after) pair per axis, or
    "valid", "same" (= "same_upper"), "same_lower", "full".
    padding_mode: what the added pixels hold: "zeros", "reflect", "replicate" or "circular".
    groups: the channels and the filters are cut into this many groups that do not see each other.
    Returns y and the cache that conv2d_backward needs; x, w and b are never modified.
    Raises ShapeError if channel counts differ or are 0, or the padded image is smaller than the kernel.
    Source: goodfellow2016deep, section 9.5.

    >>> import numpy as np
    >>> conv2d_forward(np.ones((1, 1, 3, 4)), np.ones((1, 1, 2, 2)))[0].shape
    (1, 1, 2, 3)
    """
    options = _options("conv2d_forward", 2, x, w, b, stride, padding, padding_mode, dilation, groups)
    return _correlate(x, w, b, options), ConvCache(x, w, b is not None, options)


def conv1d_backward(dy: Float[Array, "N F WO"], cache: ConvCache) -> ConvGradients:
    """Gradients of conv1d_forward; `conv2d_backward` with one image axis."""
    return _backward("conv1d_backward", dy, cache)


def conv2d_backward(dy: Float[Array, "N F HO WO"], cache: ConvCache) -> ConvGradients:
    """Gradients of conv2d_forward with respect to x, w and b, given dy, the gradient of the loss at y.

    Implements eq-conv-backward-x, eq-conv-backward-w and eq-conv-backward-b.
    cache: what conv2d_forward returned beside y.
    Raises ShapeError if dy does not have y's shape.

    >>> import numpy as np
    >>> y, cache = conv2d_forward(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))
    >>> conv2d_backward(np.ones_like(y), cache).dx[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    return _backward("conv2d_backward", dy, cache)


def conv2d_naive(
    x: Float[Array, "N C H W"],
    w: Float[Array, "F C KH KW"],
    b: Float[Array, " F"] | None = None,
    *,
    stride: Size2 = 1,
    padding: Padding = 0,
    dilation: Size2 = 1,
) -> Float[Array, "N F HO WO"]:
    """The same convolution in the loops of its definition, eq-conv-forward; hundreds of times slower.

    >>> import numpy as np
    >>> conv2d_naive(np.array([[[[1.0, 2.0, 4.0]]]]), np.array([[[[-1.0, 1.0]]]]))
    array([[[[1., 2.]]]])
    """
    options = _options("conv2d_naive", 2, x, w, b, stride, padding, "zeros", dilation, 1)
    (SH, SW), (DH, DW) = options.stride, options.dilation
    EH, EW = effective_kernel(w.shape[2], DH), effective_kernel(w.shape[3], DW)
    (N, F), (HO, WO) = (x.shape[0], w.shape[0]), _output_axes(x, w, options)
    xpad = pad(x, options.pads)
    y = namespace(x).zeros((N, F, HO, WO), dtype=x.dtype, device=device(x))
    for n in range(N):
        for f in range(F):
            for i in range(HO):
                for j in range(WO):
                    window = xpad[n, :, i * SH : i * SH + EH : DH, j * SW : j * SW + EW : DW]
                    y[n, f, i, j] = (w[f] * window).sum() + (0 if b is None else b[f])
    return y


def effective_kernel(kernel: int, dilation: int) -> int:
    """Pixels from the first tap of a dilated kernel to the last, both included.

    >>> effective_kernel(3, dilation=2)
    5
    """
    return dilation * (kernel - 1) + 1


def receptive_field(layers: Iterable[tuple[int, int, int]]) -> ReceptiveField:
    """How many input pixels, along one axis, one output pixel of a stack of layers depends on.

    Implements eq-receptive-field: a layer adds its reach, dilation (kernel - 1), in steps of all strides
    before it.

    layers: (kernel, stride, dilation) of every convolution or pooling, from input to output.

    >>> receptive_field([(3, 1, 1), (3, 1, 2), (3, 1, 4)])
    ReceptiveField(size=15, stride=1)
    """
    field = ReceptiveField(size=1, stride=1)
    for kernel, stride, dilation in layers:
        size = field.size + field.stride * (effective_kernel(kernel, dilation) - 1)
        field = ReceptiveField(size, field.stride * stride)
    return field


def _options(
    function: str,
    axes: int,
    x: Array,
    w: Array,
    b: Array | None,
    stride: Size,
    padding: Padding,
    padding_mode: str,
    dilation: Size,
    groups: int,
) -> ConvOptions:
    """Check everything that a caller can get wrong and bring the options to one form."""
    namespace(x, w, b, function=function)
    for name, array, layout in zip("xw", (x, w), LAYOUTS[axes], strict=True):
        expect_axes(function, name, array, layout)
    (groups,) = per_axis(groups, 1, f"{function}: groups", 1)
    _expect_channels(function, x, w, groups)
    if b is not None:
        expect_shape(function, "b", b, w.shape[:1], f"one offset per filter (w {tuple(w.shape)})")
    stride = per_axis(stride, axes, f"{function}: stride", 1)
    dilation = per_axis(dilation, axes, f"{function}: dilation", 1)
    size, kernel = tuple(x.shape[2:]), tuple(w.shape[2:])
    pads = resolve_padding(padding, size, kernel, stride=stride, dilation=dilation, function=function)
    expect_pads(function, x, pads, padding_mode)
    output_size(size, kernel, stride=stride, padding=pads, dilation=dilation, function=function)
    one_row = 2 - axes
    stride, dilation, pads = (1,) * one_row + stride, (1,) * one_row + dilation, ((0, 0),) * one_row + pads
    return ConvOptions(stride, pads, padding_mode, dilation, groups)


def _expect_channels(function: str, x: Array, w: Array, groups: int) -> None:
    C, F, shapes = x.shape[1], w.shape[0], f"(x {tuple(x.shape)}, w {tuple(w.shape)})"
    if C == 0 or F == 0:
        raise ShapeError(f"{function}: nothing to convolve with {C} channels and {F} filters {shapes}")
    for count, what in ((C, "channels of x"), (F, "filters of w")):
        if count % groups:
            raise ShapeError(f"{function}: groups {groups} does not divide the {count} {what} {shapes}")
    expected = w.shape[1] * groups
    if expected != C:
        last = x.shape[-1] == expected
        hint = "is x channels-last?" if last else "w is laid out as (filters, channels / groups, ...)"
        of = f" ({groups} groups of {w.shape[1]})" if groups > 1 else ""
        raise ShapeError(f"{function}: w expects {expected} input channels{of}, x has {C} {shapes}; {hint}")


def _image(array: Array) -> Array:
    """A signal as an image of one row; an image as it is."""
    return array[..., None, :] if array.ndim == 3 else array


def _correlate(
    x: Float[Array, "N C H W"],
    w: Float[Array, "F C/G KH KW"],
    b: Float[Array, " F"] | None,
    options: ConvOptions,
) -> Float[Array, "N F HO WO"]:
    """eq-conv-forward: one matrix product per kernel row, for all filters and positions, then their sum."""
    xp, F, (HO, WO) = array_namespace(x), w.shape[0], _output_axes(x, w, options)
    rows = _kernel_rows(w, options.groups)
    # One per output pixel: NumPy adds arrays of one shape twice as fast as it stretches one to the other.
    offsets = None if b is None else copy(xp.broadcast_to(b[:, None, None], (F, HO, WO)))

    def correlate_block(images: Array) -> Array:
        met = _met_by_rows(_columns(images, w, options), len(rows), HO, options)
        y = rows[0] @ met[:, 0]
        for i in range(1, len(rows)):
            y += rows[i] @ met[:, i]
        y = xp.reshape(y, (images.shape[0], F, HO, WO))
        if offsets is not None:
            y += offsets
        return y

    return map_batch(correlate_block, x, item_bytes=_item_bytes(x, w, HO * WO))


def _backward(function: str, dy: Array, cache: ConvCache) -> ConvGradients:
    x, w, bias, options = cache
    xp = namespace(dy, x, function=function, names=("dy", "x"))
    if function != f"conv{x.ndim - 2}d_backward":
        raise ShapeError(f"{function}: the cache comes from conv{x.ndim - 2}d_forward (x {tuple(x.shape)})")
    shape = (x.shape[0], w.shape[0], *_output_axes(_image(x), _image(w), options)[4 - x.ndim :])
    expect_shape(function, "dy", dy, shape, f"the shape of y (x {tuple(x.shape)}, w {tuple(w.shape)})")
    gathers = options.stride == (1, 1) and w.shape[0] <= GATHER_RATIO * x.shape[1]
    input_gradient = _gather_dx if gathers else _scatter_dx
    images = _image(dy), _image(x), _image(w), options
    dx = xp.reshape(input_gradient(*images), x.shape)
    dw = xp.reshape(_weight_gradient(*images), w.shape)
    # eq-conv-backward-b: b[f] is added to every pixel that filter f makes.
    db = xp.sum(dy, axis=(0, *range(2, dy.ndim))) if bias else None
    return ConvGradients(dx, dw, db)


def _weight_gradient(
    dy: Float[Array, "N F HO WO"], x: Float[Array, "N C H W"], w: Array, options: ConvOptions
) -> Float[Array, "F C/G KH KW"]:
    """eq-conv-backward-w: correlate x with dy, as products of the forward's columns with dy."""
    xp, (F, C, KH, KW), G = array_namespace(x), w.shape, options.groups
    HO, WO = dy.shape[2:]
    dw = xp.zeros((KH, G, C * KW, F // G), dtype=x.dtype, device=device(x))
    for block in batch_blocks(x, _item_bytes(x, w, HO * WO)):
        met = _met_by_rows(_columns(x[block], w, options), KH, HO, options)
        dy_columns = xp.reshape(dy[block], (met.shape[0], 1, G, F // G, HO * WO))
        if F // G > HO * WO:  # a product per image would outgrow its columns
            met, dy_columns = _side_by_side(met), _side_by_side(dy_columns)
        dw += xp.sum(met @ xp.matrix_transpose(dy_columns), axis=0)
    dw = xp.reshape(dw, (KH, G, C, KW, F // G))
    return copy(xp.reshape(xp.permute_dims(dw, (1, 4, 2, 0, 3)), w.shape))


def _side_by_side(matrices: Float[Array, "N A G R P"]) -> Float[Array, "1 A G R N*P"]:
    """The matrices of all images as one, so that a product over their columns also sums over the images."""
    xp, (N, A, G, R, P) = array_namespace(matrices), matrices.shape
    return xp.reshape(xp.permute_dims(matrices, (1, 2, 3, 0, 4)), (1, A, G, R, N * P))


def _scatter_dx(
    dy: Float[Array, "N F HO WO"], x: Float[Array, "N C H W"], w: Array, options: ConvOptions
) -> Float[Array, "N C H W"]:
    """eq-conv-backward-x, window by window: add what each window returns to the pixels that it covered."""
    xp, G, F, KW = array_namespace(x), options.groups, w.shape[0], w.shape[3]
    (C, H, W), (HO, WO) = x.shape[1:], dy.shape[2:]
    HP, WP = (n + sum(p) for n, p in zip((H, W), options.pads, strict=True))
    rows = xp.matrix_transpose(_kernel_rows(w, G))

    def scatter_block(dy_block: Array) -> Array:
        N = dy_block.shape[0]
        dy_columns = xp.reshape(dy_block, (N, G, F // G, HO * WO))
        dcolumns = xp.zeros((N, C * KW, HP, WO), dtype=x.dtype, device=device(x))
        for i in range(len(rows)):
            met = _met(i, HO, options.stride[0], options.dilation[0])
            dcolumns[:, :, met, :] += xp.reshape(rows[i] @ dy_columns, (N, C * KW, HO, WO))
        dcolumns = xp.reshape(dcolumns, (N, C, KW, HP, WO))
        dxp = xp.zeros((N, C, HP, WP), dtype=x.dtype, device=device(x))
        for j in range(KW):
            dxp[..., _met(j, WO, options.stride[1], options.dilation[1])] += dcolumns[:, :, j, ...]
        return pad_backward(dxp, options.pads, mode=options.padding_mode)

    return map_batch(scatter_block, dy, item_bytes=_item_bytes(x, w, HO * WO))


def _gather_dx(
    dy: Float[Array, "N F HO WO"], x: Float[Array, "N C H W"], w: Array, options: ConvOptions
) -> Float[Array, "N C H W"]:
    """eq-conv-backward-x, pixel by pixel, for stride 1: a full correlation of dy with the flipped kernel."""
    xp, (F, C, KH, KW), G = array_namespace(x), w.shape, options.groups
    swapped = xp.permute_dims(xp.reshape(w, (G, F // G, C, KH, KW)), (0, 2, 1, 3, 4))
    flipped = xp.flip(xp.reshape(swapped, (G * C, F // G, KH, KW)), axis=(2, 3))
    reach = [d * (k - 1) for k, d in zip((KH, KW), options.dilation, strict=True)]
    # Added zeros need no gradient: leave out of the product what pad_backward would only cut off.
    zeros = options.padding_mode == "zeros"
    cut = [[min(p, r) * zeros for p in pair] for pair, r in zip(options.pads, reach, strict=True)]
    full = tuple((r - before, r - after) for r, (before, after) in zip(reach, cut, strict=True))
    kept = tuple((p[0] - c[0], p[1] - c[1]) for p, c in zip(options.pads, cut, strict=True))
    dxp = _correlate(dy, flipped, None, options._replace(pads=full, padding_mode="zeros"))
    return pad_backward(dxp, kept, mode=options.padding_mode)


def _columns(images: Array, w: Array, options: ConvOptions) -> Float[Array, "N G C/G*KW HP WO"]:
    """The padded images, once for each tap along the kernel's width, shifted as that tap sees them.

    Windows are cut along the width only: KW copies of each image instead of KH KW. The rows of the kernel
    read the same copy, each at its own height (`_met_by_rows`).
    """
    xp, (N, C), (C_group, KW) = array_namespace(images), images.shape[:2], (w.shape[1], w.shape[3])
    xpad = pad(images, options.pads, mode=options.padding_mode)
    view = windows(xpad, KW, stride=options.stride[1], dilation=options.dilation[1])
    HP, WO = view.shape[2:4]
    columns = copy(xp.permute_dims(view, (0, 1, 4, 2, 3)))
    return xp.reshape(columns, (N, C // C_group, C_group * KW, HP, WO))


def _met_by_rows(
    columns: Array, KH: int, HO: int, options: ConvOptions
) -> Float[Array, "N KH G C/G*KW HO*WO"]:
    """What each row of the kernel meets, as matrices; a view where the vertical stride is 1."""
    N, G, K, _, WO = columns.shape
    # HO heights a stride apart, from a start that moves by the dilation with each row of the kernel.
    heights = windows(columns, (HO, WO), stride=(options.dilation[0], 1), dilation=(options.stride[0], 1))
    xp = array_namespace(columns)
    return xp.reshape(xp.permute_dims(heights[:, :, :, :KH, 0], (0, 3, 1, 2, 4, 5)), (N, KH, G, K, HO * WO))


def _met(tap: int, count: int, stride: int, dilation: int) -> slice:
    """The padded pixels of one axis that a tap of the kernel meets in count windows."""
    first = tap * dilation
    return slice(first, first + (count - 1) * stride + 1, stride)


def _kernel_rows(w: Float[Array, "F C/G KH KW"], groups: int) -> Float[Array, "KH G F/G C/G*KW"]:
    """The weights of each kernel row as one matrix per group."""
    xp, (F, C, KH, KW) = array_namespace(w), w.shape
    return xp.reshape(xp.permute_dims(w, (2, 0, 1, 3)), (KH, groups, F // groups, C * KW))


def _item_bytes(x: Array, w: Array, positions: int) -> int:
    """Memory that one image's columns, products and output take."""
    return (x.shape[1] * w.shape[3] + 2 * w.shape[0]) * positions * x.dtype.itemsize


def _output_axes(x: Array, w: Array, options: ConvOptions) -> tuple[int, int]:
    stride, pads, _, dilation, _ = options
    return output_size(tuple(x.shape[2:]), tuple(w.shape[2:]), stride=stride, padding=pads, dilation=dilation)
