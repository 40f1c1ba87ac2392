"""Checks of the assignment `conv`: arithmetic, forward and backward, dilation, padding modes, a torch task.

A wrong variant is the reference with one mistake: its arguments or its result changed where that is
enough, a loop of its own where the mistake sits inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coursekit import arrays, conv
from coursekit.checks.engine import Case, Check, Draw, Misconception, call, with_gradients

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from coursekit.arrays import Array

NO_PADS = ((0, 0), (0, 0))
HELPERS = ("coursekit.arrays", "coursekit.conv.effective_kernel")  # so that an earlier mistake costs once
BUILT_IN = (
    "numpy.convolve",
    "numpy.correlate",
    "numpy.fft",
    "numpy.lib.stride_tricks.as_strided",
    "numpy.lib.stride_tricks.sliding_window_view",
)
SIZE = "convolution/arithmetic#eq-conv-size"
SAME = "convolution/arithmetic#eq-conv-same"
FORWARD = "convolution/arithmetic#eq-conv-forward"
FIELD = "convolution/dilation#eq-receptive-field"
DILATED = "convolution/dilation#eq-effective-kernel"
FLIP = "convolution/arithmetic#eq-conv-flip"
GROUPS = "convolution/arithmetic#eq-conv-groups"
ONES = "convolution/gradients#sec-gradients-ones"
DX = "convolution/gradients#eq-conv-backward-x"
DW = "convolution/gradients#eq-conv-backward-w"
DB = "convolution/gradients#eq-conv-backward-b"
MODES = "convolution/arithmetic#sec-conv-padding-modes"


# -- task 1: how many windows fit ------------------------------------------------------------------------


def _output_size(
    size: int, kernel: int, *, stride: int = 1, before: int = 0, after: int = 0, dilation: int = 1
) -> int:
    return arrays.output_size(size, kernel, stride=stride, padding=((before, after),), dilation=dilation)


def _size_without_one(*size: int, **options: int) -> int:
    return _output_size(*size, **options) - 1


def _size_rounded_up(size, kernel, *, stride=1, before=0, after=0, dilation=1):
    return -(-(size + before + after - dilation * (kernel - 1) - 1) // stride) + 1


def _size_padded_once(size, kernel, *, before=0, after=0, **options):
    return _output_size(size, kernel, before=before, **options)


def _size_padded_evenly(size, kernel, *, before=0, after=0, **options):
    return _output_size(size, kernel, before=before, after=before, **options)


def _size_undilated(size, kernel, *, dilation=1, **options):
    return _output_size(size, kernel, **options)


def _size_of_dilated_kernel(size, kernel, *, dilation=1, **options):
    return _output_size(size, dilation * kernel, **options)


def _size_divided_first(size, kernel, *, stride=1, before=0, after=0, dilation=1):
    return (size + before + after) // stride - dilation * (kernel - 1)


output_size = Check(
    "conv.output_size",
    title="Count the windows along one axis",
    reference=_output_size,
    terms=("size",),
    cases=(
        Case("a kernel on a row", 1, lambda draw: call(draw.integer(11, 30), 3)),
        # 2 of 3 pixels are left over, so that rounding to the nearest shows
        Case("stride 3 with pixels left over", 1, lambda draw: call(3 * draw.integer(4, 9) + 1, 5, stride=3)),
        Case("padding per side", 1, lambda draw: call(draw.integer(11, 30), 5, before=3, after=1)),
        Case(
            "stride with padding and dilation", 1,
            lambda draw: call(2 * draw.integer(11, 30), 5, stride=2, before=1, after=2, dilation=3),
        ),
    ),
    misconceptions=(
        Misconception(
            "size-without-one", "The first window is not counted: n steps make n + 1 windows.", SIZE,
            _size_without_one,
        ),
        Misconception(
            "size-rounded-up",
            "A last window that sticks out of the padded row is counted: // rounds down; round() may not.",
            SIZE, _size_rounded_up,
        ),
        Misconception(
            "size-padded-once", "Only the pixels added before are counted; those added after are missing.",
            SIZE, _size_padded_once,
        ),
        Misconception(
            "size-padded-evenly", "The padding before is counted twice; before and after may differ.", SIZE,
            _size_padded_evenly,
        ),
        Misconception(
            "size-undilated", "The dilation does nothing: a dilated kernel covers more pixels.", SIZE,
            _size_undilated,
        ),
        Misconception(
            "size-of-dilated-kernel",
            "A dilated kernel is said to cover dilation * kernel pixels; no gap follows its last tap.", SIZE,
            _size_of_dilated_kernel,
        ),
        Misconception(
            "size-divided-first",
            "The row is divided by the stride before the kernel is subtracted; the stride moves windows.",
            SIZE, _size_divided_first,
        ),
    ),
)


# -- task 2: padding that keeps the size -----------------------------------------------------------------


def _same_padding(
    size: int, kernel: int, *, stride: int = 1, dilation: int = 1, odd_pixel: str = "after"
) -> tuple[int, int]:
    word = {"after": "same_upper", "before": "same_lower"}[odd_pixel]
    return arrays.resolve_padding(word, size, kernel, stride=stride, dilation=dilation)[0]


def _same_mirrored(*size, odd_pixel="after", **options):
    return _same_padding(*size, odd_pixel="before" if odd_pixel == "after" else "after", **options)


def _same_odd_after(*size, odd_pixel="after", **options):
    return _same_padding(*size, **options)


def _same_at_stride_one(*size, stride=1, **options):
    return _same_padding(*size, **options)


def _same_undilated(*size, dilation=1, **options):
    return _same_padding(*size, **options)


def _same_halved(*size, **options):
    half = sum(_same_padding(*size, **options)) // 2
    return half, half


def _same_total(size, kernel, stride, dilation, outputs, smallest):
    total = max(smallest, (outputs - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


def _same_negative(size, kernel, *, stride=1, dilation=1, odd_pixel="after"):
    pair = _same_total(size, kernel, stride, dilation, -(-size // stride), -size)
    return pair if odd_pixel == "after" else pair[::-1]


def _same_rounded_down(size, kernel, *, stride=1, dilation=1, odd_pixel="after"):
    pair = _same_total(size, kernel, stride, dilation, size // stride, 0)
    return pair if odd_pixel == "after" else pair[::-1]


same_padding = Check(
    "conv.same_padding",
    title="Pad so that the output has ceil(size / stride) pixels",
    reference=_same_padding,
    terms=("pads",),
    cases=(
        Case("an even kernel", 1, lambda draw: call(draw.integer(11, 30), 2 * draw.integer(2, 5))),
        Case(
            "the odd pixel before", 1,
            lambda draw: call(draw.integer(11, 30), 2 * draw.integer(2, 5), odd_pixel="before"),
        ),
        Case(
            "stride 3 and dilation 2", 1,
            lambda draw: call(3 * draw.integer(4, 9) + 1, 5, stride=3, dilation=2),
        ),
        Case("a stride larger than the kernel", 1, lambda draw: call(5 * draw.integer(3, 8), 2, stride=5)),
    ),
    misconceptions=(
        Misconception("same-mirrored", "The odd pixel goes to the wrong side.", SAME, _same_mirrored),
        Misconception(
            "same-odd-after", "odd_pixel is not looked at: the odd pixel always goes after.", SAME,
            _same_odd_after,
        ),
        Misconception(
            "same-at-stride-one", "The stride is not looked at: this is the padding for stride 1.", SAME,
            _same_at_stride_one,
        ),
        Misconception(
            "same-undilated", "The dilation is not looked at: a dilated kernel covers more pixels.", SAME,
            _same_undilated,
        ),
        Misconception(
            "same-halved", "The odd pixel is lost: half of an odd total, rounded down, on both sides.", SAME,
            _same_halved,
        ),
        Misconception(
            "same-negative", "A negative total: with a large stride nothing has to be added, so stop at 0.",
            SAME, _same_negative,
        ),
        Misconception(
            "same-rounded-down", "The output is rounded down; 'same' means ceil(size / stride) windows.",
            SAME, _same_rounded_down,
        ),
    ),
)


# -- tasks 3 and 4: the forward pass ---------------------------------------------------------------------


def _conv1d_forward(
    x: Float[Array, "N C W"], w: Float[Array, "F C K"], b: Float[Array, F], *, stride: int = 1
) -> Float[Array, "N F WO"]:
    return conv.conv1d_forward(x, w, b, stride=stride)[0]


def _conv2d_forward(
    x: Float[Array, "N C H W"],
    w: Float[Array, "F C KH KW"],
    b: Float[Array, F] | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    pads: tuple = NO_PADS,
) -> Float[Array, "N F HO WO"]:
    return conv.conv2d_forward(x, w, b, stride=stride, padding=pads)[0]


def _sum_channels_of_first(x, w, b, **options):
    return _conv1d_forward(x, w * 0 + w[:, :1], b, **options)


def _flip(w: Array) -> Array:
    """Turn the kernel round along every axis that it slides over."""
    return w[(...,) + (slice(None, None, -1),) * (w.ndim - 2)].copy()


def _tap_alone(w: Array, tap: int) -> Array:
    """The kernel with one tap, the first or the last along every axis, and zeros."""
    at = (..., *[tap] * (w.ndim - 2))
    alone = np.zeros_like(w)
    alone[at] = w[at]
    return alone


def _stretched(w: Array, stride: tuple[int, ...]) -> dict[str, Any]:
    """The options of a stride that was applied to the taps of the kernel."""
    return {"dilation": stride if len(stride) > 1 else stride[0]}


def _conv1d_tap_stride(x, w, b, *, stride=1):
    y = conv.conv1d_forward(x, w, b, dilation=stride)[0]
    return y[..., : arrays.output_size(x.shape[-1], w.shape[-1], stride=stride)]


conv1d_forward = Check(
    "conv.conv1d_forward",
    title="Slide F filters over a batch of rows",
    reference=_conv1d_forward,
    terms=("y",),
    forbidden=BUILT_IN,
    allowed=HELPERS,
    cases=(
        Case("one channel and one filter", 1, lambda draw: call(draw(1, 1, 7), draw(1, 1, 3), draw(1) * 0)),
        Case("channels and filters and a bias", 1, lambda draw: call(draw(2, 3, 11), draw(5, 3, 4), draw(5))),
        Case("stride 3", 1, lambda draw: call(draw(2, 3, 14), draw(7, 3, 2), draw(7), stride=3)),
        Case(
            "stride 2 in float32", 1, lambda draw: call(draw(3, 2, 12), draw(5, 2, 3), draw(5), stride=2),
            dtype="float32",
        ),
    ),
    misconceptions=(
        Misconception(
            "flipped-kernel",
            "The kernel is flipped: that is the convolution of mathematics; layers do not flip.", FLIP,
            lambda x, w, b, **o: _conv1d_forward(x, _flip(w), b, **o),
        ),
        Misconception(
            "no-bias", "The bias is missing: every filter adds its b to each of its outputs.", FORWARD,
            lambda x, w, b, **o: _conv1d_forward(x, w, 0 * b, **o),
        ),
        Misconception(
            "bias-per-tap", "The bias is added once per tap of the kernel; add it once per output.", FORWARD,
            lambda x, w, b, **o: _conv1d_forward(x, w, w.shape[-1] * b, **o),
        ),
        Misconception(
            "last-tap-only", "Only the last tap is left: = overwrites in the loop, += adds up.", FORWARD,
            lambda x, w, b, **o: _conv1d_forward(x, _tap_alone(w, -1), b, **o),
        ),
        Misconception(
            "first-tap-only", "Only the first tap is seen: does return stand inside the loop?", FORWARD,
            lambda x, w, b, **o: _conv1d_forward(x, _tap_alone(w, 0), b, **o),
        ),
        Misconception(
            "last-window-missing", "The last window is missing: n steps make n + 1 windows.", SIZE,
            lambda x, w, b, **o: _conv1d_forward(x, w, b, **o)[..., :-1],
        ),
        Misconception(
            "stride-ignored", "The stride is not looked at: windows start stride pixels apart.", SIZE,
            lambda x, w, b, stride=1: _conv1d_forward(x, w, b),
        ),
        Misconception(
            "stride-on-taps", "The stride spreads the taps of the kernel; it belongs between the windows.",
            FORWARD, _conv1d_tap_stride,
        ),
        Misconception(
            "channel-mean", "Channels are averaged; the sum over c in the definition has no 1 / C.", FORWARD,
            lambda x, w, b, **o: _conv1d_forward(x, w / w.shape[1], b, **o),
        ),
        Misconception(
            "first-channel-only", "Only channel 0 is seen: sum over all input channels.", FORWARD,
            lambda x, w, b, **o: _conv1d_forward(x[:, :1], w[:, :1], b, **o),
        ),
        Misconception(
            "one-filter-plane", "Every channel meets the weights of channel 0; each has a plane of its own.",
            FORWARD, _sum_channels_of_first,
        ),
        Misconception(
            "always-float64",
            "The result is float64 whatever comes in: np.zeros makes float64, give it x.dtype.", FORWARD,
            lambda x, w, b, **o: _conv1d_forward(x, w, b, **o).astype(np.float64),
        ),
    ),
)


def _with_pads(change: Any) -> Any:
    """A forward pass whose pads went wrong in the way of change((top, bottom), (left, right))."""
    return lambda x, w, b=None, *, pads=NO_PADS, **o: _conv2d_forward(x, w, b, pads=change(*pads), **o)


def _conv2d_bias_last_axis(x, w, b=None, **options):
    y = _conv2d_forward(x, w, **options)
    return y if b is None else y + b


def _conv2d_edge_padded(x, w, b=None, *, pads=NO_PADS, **options):
    return _conv2d_forward(np.pad(x, (*NO_PADS, *pads), mode="edge"), w, b, **options)


def _conv2d_tap_stride(x, w, b=None, *, stride=(1, 1), pads=NO_PADS):
    y = conv.conv2d_forward(x, w, b, padding=pads, dilation=stride)[0]
    rows, columns = _conv2d_forward(x, w, b, stride=stride, pads=pads).shape[2:]
    return y[:, :, :rows, :columns]


conv2d_forward = Check(
    "conv.conv2d_forward",
    title="Slide F filters over a batch of images",
    reference=_conv2d_forward,
    terms=("y",),
    forbidden=BUILT_IN,
    allowed=HELPERS,
    cases=(
        Case("no options", 1, lambda draw: call(draw(2, 3, 7, 8), draw(5, 3, 4, 2))),
        # F = WO here, so that a bias added along the wrong axis gives numbers instead of an exception
        Case("a bias", 1, lambda draw: call(draw(3, 2, 7, 8), draw(6, 2, 4, 3), draw(6))),
        Case(
            "stride (3, 2)", 1,
            lambda draw: call(draw(2, 3, 12, 13), draw(5, 3, 2, 4), draw(5), stride=(3, 2)),
        ),
        Case(
            "padding per side", 1,
            lambda draw: call(draw(2, 3, 7, 8), draw(5, 3, 4, 3), pads=((2, 1), (0, 3))),
        ),
        Case(
            "stride and padding in float32", 1,
            lambda draw: call(
                draw(3, 2, 11, 8), draw(7, 2, 3, 2), draw(7), stride=(2, 3), pads=((0, 2), (3, 1))
            ),
            dtype="float32",
        ),
    ),
    misconceptions=(
        Misconception(
            "flipped-kernel",
            "The kernel is flipped: that is the convolution of mathematics; layers do not flip.", FLIP,
            lambda x, w, *b, **o: _conv2d_forward(x, _flip(w), *b, **o),
        ),
        Misconception(
            "no-bias", "The bias is missing: every filter adds its b to each of its outputs.", FORWARD,
            lambda x, w, *b, **o: _conv2d_forward(x, w, **o),
        ),
        Misconception(
            "bias-on-columns",
            "y + b runs along the last axis, the columns; b belongs to the filters: b[:, None, None].",
            FORWARD, _conv2d_bias_last_axis,
        ),
        Misconception(
            "last-tap-only", "Only the last tap is left: = overwrites in the loop, += adds up.", FORWARD,
            lambda x, w, *b, **o: _conv2d_forward(x, _tap_alone(w, -1), *b, **o),
        ),
        Misconception(
            "first-tap-only", "Only the first tap is seen: does return stand inside the loop?", FORWARD,
            lambda x, w, *b, **o: _conv2d_forward(x, _tap_alone(w, 0), *b, **o),
        ),
        Misconception(
            "last-window-missing",
            "The last row and column of windows are missing: n steps make n + 1 windows.", SIZE,
            lambda *a, **o: _conv2d_forward(*a, **o)[:, :, :-1, :-1],
        ),
        Misconception(
            "stride-ignored", "The stride is not looked at: windows start stride pixels apart.", SIZE,
            lambda *a, stride=(1, 1), **o: _conv2d_forward(*a, **o),
        ),
        Misconception(
            "stride-swapped", "The two strides are swapped: stride = (down the rows, along the columns).",
            SIZE, lambda *a, stride=(1, 1), **o: _conv2d_forward(*a, stride=stride[::-1], **o),
        ),
        Misconception(
            "stride-on-taps", "The stride spreads the taps of the kernel; it belongs between the windows.",
            FORWARD, _conv2d_tap_stride,
        ),
        Misconception(
            "padding-ignored", "The padding is not looked at.", SIZE,
            _with_pads(lambda rows, columns: NO_PADS),
        ),
        Misconception(
            "padding-swapped", "Height and width are swapped: pads = ((top, bottom), (left, right)).", SIZE,
            _with_pads(lambda rows, columns: (columns, rows)),
        ),
        Misconception(
            "padding-on-one-side",
            "Pixels are added at the top and left only; bottom and right get theirs too.", SIZE,
            _with_pads(lambda rows, columns: ((rows[0], 0), (columns[0], 0))),
        ),
        Misconception(
            "padding-all-before",
            "All added pixels sit at the top and left: the size is right, the image shifted.", SIZE,
            _with_pads(lambda rows, columns: ((sum(rows), 0), (sum(columns), 0))),
        ),
        Misconception(
            "padding-mirrored", "Before and after are swapped: pads = ((top, bottom), (left, right)).", SIZE,
            _with_pads(lambda rows, columns: (rows[::-1], columns[::-1])),
        ),
        Misconception(
            "padding-with-edge", "The padding repeats the image's edge; this task pads with zeros.", MODES,
            _conv2d_edge_padded,
        ),
        Misconception(
            "channel-mean", "Channels are averaged; the sum over c in the definition has no 1 / C.", FORWARD,
            lambda x, w, *b, **o: _conv2d_forward(x, w / w.shape[1], *b, **o),
        ),
        Misconception(
            "always-float64",
            "The result is float64 whatever comes in: np.zeros makes float64, give it x.dtype.", FORWARD,
            lambda *a, **o: _conv2d_forward(*a, **o).astype(np.float64),
        ),
    ),
)


# -- task 5: the backward pass ---------------------------------------------------------------------------


def _conv2d_backward(
    dy: Float[Array, "N F HO WO"],
    x: Float[Array, "N C H W"],
    w: Float[Array, "F C KH KW"],
    *,
    stride: tuple[int, int] = (1, 1),
    pads: tuple = NO_PADS,
) -> tuple[Array, Array, Array]:
    b = np.zeros(len(w), w.dtype)
    return tuple(conv.conv2d_backward(dy, conv.conv2d_forward(x, w, b, stride=stride, padding=pads)[1]))


def _wrong_term(term: int, change: Any) -> Any:
    """The reference with one of dx, dw, db replaced by change(dy, x, w, stride=..., pads=...)."""

    def backward(dy, x, w, *, stride=(1, 1), pads=NO_PADS):
        gradients = list(_conv2d_backward(dy, x, w, stride=stride, pads=pads))
        gradients[term] = change(dy, x, w, stride=stride, pads=pads)
        return tuple(gradients)

    return backward


def _padded_dx(dy, x, w, *, stride=(1, 1), pads=NO_PADS):
    """dx with the pixels that the padding added still on it."""
    padded = np.pad(x, (*NO_PADS, *pads))
    return _conv2d_backward(dy, padded, w, stride=stride)[0]


def _crop_minus_zero(dy, x, w, *, pads, **options):
    (top, bottom), (left, right) = pads
    return _padded_dx(dy, x, w, pads=pads, **options)[:, :, top:-bottom, left:-right]


def _crop_from_zero(dy, x, w, **options):
    return _padded_dx(dy, x, w, **options)[:, :, : x.shape[2], : x.shape[3]]


def _crop_before_both(dy, x, w, *, pads, **options):
    (top, _), (left, _) = pads
    dxp = _padded_dx(dy, x, w, pads=pads, **options)
    return dxp[:, :, top : dxp.shape[2] - top, left : dxp.shape[3] - left]


def _overwritten_by_window(dy, x, w, *, stride, pads):
    dxp = np.zeros_like(np.pad(x, (*NO_PADS, *pads)))
    for i, j in np.ndindex(dy.shape[2:]):
        top, left = i * stride[0], j * stride[1]
        dxp[:, :, top : top + w.shape[2], left : left + w.shape[3]] = np.einsum(
            "nf,fchw->nchw", dy[:, :, i, j], w
        )
    return _crop(dxp, x, pads)


def _overwritten_by_tap(dy, x, w, *, stride, pads):
    dxp = np.zeros_like(np.pad(x, (*NO_PADS, *pads)))
    for i, j in np.ndindex(w.shape[2:]):
        rows = slice(i, i + stride[0] * dy.shape[2], stride[0])
        columns = slice(j, j + stride[1] * dy.shape[3], stride[1])
        dxp[:, :, rows, columns] = np.einsum("nfhw,fc->nchw", dy, w[:, :, i, j])
    return _crop(dxp, x, pads)


def _crop(dxp, x, pads):
    return dxp[:, :, pads[0][0] : pads[0][0] + x.shape[2], pads[1][0] : pads[1][0] + x.shape[3]]


def _gathered_unstrided(dy, x, w, *, stride, pads):
    """dx as if the windows had been next to each other."""
    dxp = np.zeros_like(np.pad(x, (*NO_PADS, *pads)))
    for i, j in np.ndindex(w.shape[2:]):
        dxp[:, :, i : i + dy.shape[2], j : j + dy.shape[3]] += np.einsum("nfhw,fc->nchw", dy, w[:, :, i, j])
    return _crop(dxp, x, pads)


def _term(term: int, *, ones: bool = False, flip: bool = False) -> Any:
    """One gradient of the reference, from an upstream gradient of ones or a flipped kernel."""

    def gradient(dy, x, w, **options):
        dy, w = np.ones_like(dy) if ones else dy, _flip(w) if flip else w
        return _conv2d_backward(dy, x, w, **options)[term]

    return gradient


def _last_window_dw(dy, x, w, *, stride, pads):
    last = np.zeros_like(dy)
    last[:, :, -1, -1] = dy[:, :, -1, -1]
    return _conv2d_backward(last, x, w, stride=stride, pads=pads)[1]


def _last_image(term: int) -> Any:
    return lambda dy, x, w, **o: _conv2d_backward(dy[-1:], x[-1:], w, **o)[term]


def _batch_mean(term: int) -> Any:
    return lambda dy, x, w, **o: _conv2d_backward(dy, x, w, **o)[term] / x.dtype.type(len(x))


def _backward_float64(dy, x, w, **options):
    return tuple(gradient.astype(np.float64) for gradient in _conv2d_backward(dy, x, w, **options))


def _backward_case(draw: Draw, x: tuple, w: tuple, **options: Any) -> Any:
    images, filters = draw(*x), draw(*w)
    return call(draw(*_conv2d_forward(images, filters, **options).shape), images, filters, **options)


conv2d_backward = Check(
    "conv.conv2d_backward",
    title="Send a gradient back through the convolution",
    reference=_conv2d_backward,
    terms=("dx", "dw", "db"),
    forbidden=BUILT_IN,
    allowed=HELPERS,
    cases=(
        Case("no padding", 1, lambda draw: _backward_case(draw, (3, 2, 7, 8), (5, 2, 4, 3))),
        Case(
            "stride (3, 2) with pixels left over", 1,
            lambda draw: _backward_case(draw, (2, 3, 12, 11), (7, 3, 4, 5), stride=(3, 2)),
        ),
        Case(
            "padding per side", 1,
            lambda draw: _backward_case(draw, (2, 3, 8, 7), (5, 3, 3, 4), pads=((2, 1), (1, 3))),
        ),
        Case(
            "stride and padding in float32", 1,
            lambda draw: _backward_case(
                draw, (3, 2, 9, 11), (5, 2, 3, 4), stride=(2, 3), pads=((1, 2), (3, 0))
            ),
            dtype="float32",
        ),
    ),
    misconceptions=(
        Misconception(
            "dx-overwritten-by-window",
            "= instead of += in dx: a pixel under several windows sums what each sends back.", DX,
            _wrong_term(0, _overwritten_by_window),
        ),
        Misconception(
            "dx-overwritten-by-tap",
            "= instead of += in dx: a pixel that met several taps sums what each sends back.", DX,
            _wrong_term(0, _overwritten_by_tap),
        ),
        Misconception(
            "dx-minus-zero",
            "dx is cut with [p:-p]: for p = 0 that is [0:-0], which is empty. Use [p : p + size].", DX,
            _wrong_term(0, _crop_minus_zero),
        ),
        Misconception(
            "dx-not-cropped", "dx still has the pixels that the padding added; cut them off.", DX,
            _wrong_term(0, _padded_dx),
        ),
        Misconception(
            "dx-cropped-at-end",
            "dx is cut at the bottom and right only; the image starts after the padding before it.", DX,
            _wrong_term(0, _crop_from_zero),
        ),
        Misconception(
            "dx-cropped-evenly",
            "dx is cut by the padding before on both sides; before and after may differ.", DX,
            _wrong_term(0, _crop_before_both),
        ),
        Misconception(
            "dx-flipped",
            "dx uses the flipped kernel: what went forward through tap (i, j) comes back through it.", DX,
            _wrong_term(0, _term(0, flip=True)),
        ),
        Misconception(
            "dx-stride-ignored",
            "dx is gathered as if windows were one pixel apart; window i starts at i * stride.", DX,
            _wrong_term(0, _gathered_unstrided),
        ),
        Misconception(
            "dx-without-dy",
            "dx does not use dy's values: it is right for an upstream gradient of ones only.", ONES,
            _wrong_term(0, _term(0, ones=True)),
        ),
        Misconception(
            "dw-without-dy",
            "dw does not use dy's values: it is right for an upstream gradient of ones only.", ONES,
            _wrong_term(1, _term(1, ones=True)),
        ),
        Misconception(
            "dw-last-window",
            "= instead of += in dw: all windows share the weights, so their gradients add up.", DW,
            _wrong_term(1, _last_window_dw),
        ),
        Misconception(
            "dw-last-image", "= instead of += over the batch in dw: the images share the weights.", DW,
            _wrong_term(1, _last_image(1)),
        ),
        Misconception(
            "dw-batch-mean", "dw is a mean over the batch; a mean belongs to the loss, the layer sums.", DW,
            _wrong_term(1, _batch_mean(1)),
        ),
        Misconception(
            "dw-flipped", "dw comes out flipped: its entry (i, j) belongs to the pixels that tap (i, j) met.",
            DW, _wrong_term(1, lambda *a, **o: _flip(_conv2d_backward(*a, **o)[1])),
        ),
        Misconception(
            "db-batch-only", "db is summed over the batch only; a bias is shared by all positions as well.",
            DB, _wrong_term(2, lambda dy, x, w, **o: dy.sum(axis=0)),
        ),
        Misconception(
            "db-wrong-axes", "db is summed over the filters: keep axis 1 of dy, sum over the others.", DB,
            _wrong_term(2, lambda dy, x, w, **o: dy.sum(axis=(0, 1, 2))),
        ),
        Misconception(
            "db-last-image", "= instead of += over the batch in db: the images share the bias.", DB,
            _wrong_term(2, _last_image(2)),
        ),
        Misconception(
            "db-mean",
            "db is a mean over batch and positions; each of them adds b, so their gradients add up.", DB,
            _wrong_term(2, lambda dy, x, w, **o: dy.mean(axis=(0, 2, 3))),
        ),
        Misconception(
            "db-batch-mean", "db is a mean over the batch; a mean belongs to the loss, the layer sums.", DB,
            _wrong_term(2, _batch_mean(2)),
        ),
        Misconception(
            "db-without-dy",
            "db counts positions and does not use dy: it is right for an upstream gradient of ones only.",
            ONES, _wrong_term(2, _term(2, ones=True)),
        ),
        Misconception(
            "always-float64",
            "The gradients are float64 whatever comes in: np.zeros makes float64, give it x.dtype.", DX,
            _backward_float64,
        ),
    ),
)


# -- task 6: dilation and the receptive field ------------------------------------------------------------


def _dilated_conv1d(
    x: Float[Array, "N C W"], w: Float[Array, "F C K"], *, dilation: int = 1
) -> Float[Array, "N F WO"]:
    return conv.conv1d_forward(x, w, dilation=dilation)[0]


def _kernel_repeated(x, w, *, dilation=1):
    wide = np.repeat(w, dilation, axis=2)[:, :, : conv.effective_kernel(w.shape[2], dilation)]
    return conv.conv1d_forward(x, wide)[0]


def _kernel_repeated_whole(x, w, *, dilation=1):
    return conv.conv1d_forward(x, np.repeat(w, dilation, axis=2))[0]


def _input_thinned(x, w, *, dilation=1):
    return conv.conv1d_forward(x[:, :, ::dilation], w)[0]


def _dilated_one_short(x, w, *, dilation=1):
    return _dilated_conv1d(x, w, dilation=dilation)[:, :, : x.shape[2] - dilation * w.shape[2] + 1]


def _dilated_one_more(x, w, *, dilation=1):
    return _dilated_conv1d(x, w, dilation=dilation + 1)


effective_kernel = Check(
    "conv.effective_kernel",
    title="Count the pixels from the first tap to the last",
    reference=conv.effective_kernel,
    terms=("pixels",),
    cases=(
        Case("a dense kernel", 1, lambda draw: call(draw.integer(3, 8), 1)),
        Case("a spread kernel", 1, lambda draw: call(draw.integer(3, 8), draw.integer(3, 6))),
    ),
    misconceptions=(
        Misconception(
            "gap-after-last-tap",
            "dilation * kernel counts a gap after the last tap; K taps have K - 1 gaps.", DILATED,
            lambda kernel, dilation: dilation * kernel,
        ),
        Misconception(
            "last-tap-missing", "The distance from first to last tap leaves out one pixel: both ends count.",
            DILATED, lambda kernel, dilation: dilation * (kernel - 1),
        ),
        Misconception(
            "full-gaps", "Between two taps lie dilation - 1 pixels, not dilation.", DILATED,
            lambda kernel, dilation: kernel + dilation * (kernel - 1),
        ),
        Misconception(
            "one-gap", "The spread is added once; each of the K - 1 gaps grows.", DILATED,
            lambda kernel, dilation: kernel + dilation - 1,
        ),
    ),
)

dilated_conv1d = Check(
    "conv.dilated_conv1d",
    title="Slide a spread kernel over a row",
    reference=_dilated_conv1d,
    terms=("y",),
    forbidden=BUILT_IN,
    allowed=HELPERS,
    cases=(
        Case("dilation 1", 1, lambda draw: call(draw(2, 3, 11), draw(5, 3, 4))),
        Case("dilation 2", 1, lambda draw: call(draw(2, 3, 14), draw(5, 3, 4), dilation=2)),
        Case(
            "dilation 3 in float32", 2, lambda draw: call(draw(3, 2, 17), draw(7, 2, 4), dilation=3),
            dtype="float32",
        ),
    ),
    misconceptions=(
        Misconception(
            "kernel-repeated",
            "The kernel is stretched by repeating its weights; between two taps are gaps, not copies.",
            DILATED, _kernel_repeated,
        ),
        Misconception(
            "kernel-repeated-whole",
            "Every weight is repeated dilation times; a dilated kernel keeps its K weights.", DILATED,
            _kernel_repeated_whole,
        ),
        Misconception(
            "input-thinned",
            "The row is thinned out first, which loses windows; every start pixel has a window.", DILATED,
            _input_thinned,
        ),
        Misconception(
            "dilation-ignored", "The dilation is not looked at: tap k meets the pixel i + dilation * k.",
            DILATED, lambda x, w, *, dilation=1: _dilated_conv1d(x, w),
        ),
        Misconception(
            "dilation-as-stride", "The dilation is used as a stride: it spreads the taps, not the windows.",
            DILATED, lambda x, w, *, dilation=1: conv.conv1d_forward(x, w, stride=dilation)[0],
        ),
        Misconception(
            "last-windows-missing",
            "Windows are missing at the end: the spread kernel covers dilation (K - 1) + 1 pixels.", DILATED,
            _dilated_one_short,
        ),
        Misconception(
            "dilation-plus-one", "The taps are dilation + 1 apart; dilation 1 is the dense kernel.", DILATED,
            _dilated_one_more,
        ),
        Misconception(
            "flipped-kernel", "The kernel is flipped; layers do not flip.", FLIP,
            lambda x, w, **o: _dilated_conv1d(x, _flip(w), **o),
        ),
        Misconception(
            "always-float64",
            "The result is float64 whatever comes in: np.zeros makes float64, give it x.dtype.", DILATED,
            lambda x, w, **o: _dilated_conv1d(x, w, **o).astype(np.float64),
        ),
    ),
)


def _receptive_field(layers: list[tuple[int, int, int]]) -> int:
    return conv.receptive_field(layers).size


def _field_of_kernels(layers):
    return sum(conv.effective_kernel(kernel, dilation) for kernel, _, dilation in layers)


def _field_stride_early(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        jump *= stride
        size += jump * dilation * (kernel - 1)
    return size


def _field_backwards(layers):
    return _receptive_field(layers[::-1])


def _field_without(position: int) -> Any:
    """The receptive field with one number of every layer (1 the stride, 2 the dilation) taken for 1."""
    return lambda layers: _receptive_field(
        [(*layer[:position], 1, *layer[position + 1 :]) for layer in layers]
    )


def _field_strides_added(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        size += jump * dilation * (kernel - 1)
        jump += stride - 1
    return size


def _layers(draw: Draw, *layers: tuple[int, int, int]) -> Any:
    grow = draw.integer(0, 5)
    return call([(kernel + grow, stride, dilation) for kernel, stride, dilation in layers])


receptive_field = Check(
    "conv.receptive_field",
    title="Count the inputs that one output sees through a stack of layers",
    reference=_receptive_field,
    terms=("pixels",),
    cases=(
        Case("two plain layers", 1, lambda draw: _layers(draw, (3, 1, 1), (5, 1, 1))),
        Case("dilations 1, 2, 4", 1, lambda draw: _layers(draw, (3, 1, 1), (3, 1, 2), (2, 1, 4))),
        Case(
            "strides and dilation", 2, lambda draw: _layers(draw, (5, 3, 1), (2, 2, 3), (3, 2, 1), (4, 1, 2)),
        ),
    ),
    misconceptions=(
        Misconception(
            "field-of-kernels",
            "Kernel sizes are added up; each layer adds its kernel minus one, for they overlap.", FIELD,
            _field_of_kernels,
        ),
        Misconception(
            "field-stride-early",
            "A layer's own stride widens its own kernel; it counts from the next layer on.", FIELD,
            _field_stride_early,
        ),
        Misconception(
            "field-stride-ignored",
            "Strides are not looked at: after a stride, one step is several input pixels.", FIELD,
            _field_without(1),
        ),
        Misconception(
            "field-dilation-ignored",
            "Dilations are not looked at: a dilated kernel reaches dilation (K - 1) pixels.", FIELD,
            _field_without(2),
        ),
        Misconception(
            "field-strides-added", "Strides are added up; they multiply, for a step of a step.", FIELD,
            _field_strides_added,
        ),
        Misconception(
            "field-backwards",
            "The layers are taken from the output to the input; the list starts at the input.", FIELD,
            _field_backwards,
        ),
    ),
)


# -- task 7: padding as indices --------------------------------------------------------------------------


def _pad_indices(size: int, before: int, after: int, mode: str) -> Int[Array, before+size+after]:
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return np.pad(np.arange(size), (before, after), mode=modes[mode])


def _reflect_repeats_edge(size, before, after, mode):
    if mode != "reflect":
        return _pad_indices(size, before, after, mode)
    return np.pad(np.arange(size), (before, after), mode="symmetric")


def _reflect_not_turned(size, before, after, mode):
    if mode != "reflect":
        return _pad_indices(size, before, after, mode)
    row = np.arange(size)
    return np.concatenate([row[1 : before + 1], row, row[size - 1 - after : size - 1]])


def _circular_ends_kept(size, before, after, mode):
    if mode != "circular":
        return _pad_indices(size, before, after, mode)
    row = np.arange(size)
    return np.concatenate([row[:before], row, row[size - after :]])


def _circular_from_minus_zero(size, before, after, mode):
    if mode != "circular":
        return _pad_indices(size, before, after, mode)
    row = np.arange(size)
    return np.concatenate([row[-before:], row, row[:after]])


def _circular_negative(size, before, after, mode):
    indices = _pad_indices(size, before, after, mode)
    if mode == "circular":
        indices[:before] -= size
    return indices


def _mirrored_circular(size, before, after, mode):
    return _pad_indices(size, before, after, "reflect" if mode == "circular" else mode)


PAD_FORBIDDEN = ("numpy.pad",)

pad_indices = Check(
    "conv.pad_indices",
    title="Say where every pixel of a padded row comes from",
    reference=_pad_indices,
    terms=("indices",),
    forbidden=PAD_FORBIDDEN,
    cases=(
        Case("replicate", 1, lambda draw: call(draw.integer(7, 12), 2, 3, "replicate")),
        Case("circular", 1, lambda draw: call(draw.integer(7, 12), 2, 3, "circular")),
        Case("reflect", 1, lambda draw: call(draw.integer(7, 12), 3, 2, "reflect")),
        Case("nothing to add before", 1, lambda draw: call(draw.integer(7, 12), 0, 3, "circular")),
    ),
    misconceptions=(
        Misconception(
            "reflect-repeats-edge",
            "reflect repeats the edge pixel; the mirror stands on it, so it appears once.", MODES,
            _reflect_repeats_edge,
        ),
        Misconception(
            "reflect-not-turned",
            "reflect copies the neighbours in their own order; a mirror turns it round.", MODES,
            _reflect_not_turned,
        ),
        Misconception(
            "circular-from-minus-zero",
            "row[-before:] for before = 0 is row[0:], all of the row. Work on positions, not on slices.",
            MODES,
            _circular_from_minus_zero,
        ),
        Misconception(
            "circular-negative",
            "Negative indices count from the end, but the task counts all from the front: % size does.",
            MODES, _circular_negative,
        ),
        Misconception(
            "circular-ends-kept",
            "circular puts each end beside itself; walking out on the left comes back on the right.", MODES,
            _circular_ends_kept,
        ),
        Misconception(
            "circular-mirrored", "circular is turned round like a mirror; it repeats the row.", MODES,
            _mirrored_circular,
        ),
        Misconception(
            "sides-swapped", "Before and after are swapped.", MODES,
            lambda size, before, after, mode: _pad_indices(size, after, before, mode),
        ),
        Misconception(
            "one-side-only", "Pixels are added before only.", MODES,
            lambda size, before, after, mode: _pad_indices(size, before, 0, mode),
        ),
        Misconception(
            "float-indices", "The indices are floats, which cannot index: build them from integers.", MODES,
            lambda *a: _pad_indices(*a).astype(float),
        ),
    ),
)


# -- task 8: in torch, on any device ---------------------------------------------------------------------


def _depthwise_conv2d(
    x: Float[Array, "N C H W"], w: Float[Array, "C KH KW"], *, mode: str = "circular"
) -> Float[Array, "N C H W"]:
    import torch.nn.functional as F

    rows, columns = w.shape[1] // 2, w.shape[2] // 2
    x = F.pad(x, (columns, columns, rows, rows), mode="constant" if mode == "zeros" else mode)
    return F.conv2d(x, w[:, None], groups=len(w))


def _depthwise_flipped(x, w, **options):
    return _depthwise_conv2d(x, w.flip(1, 2), **options)


def _depthwise_zeros(x, w, *, mode="circular"):
    return _depthwise_conv2d(x, w, mode="zeros")


def _depthwise_always_circular(x, w, *, mode="circular"):
    return _depthwise_conv2d(x, w)


def _depthwise_summed(x, w, **options):
    return _depthwise_conv2d(x, w, **options).sum(dim=1, keepdim=True).expand(x.shape).clone()


def _depthwise_one_filter(x, w, **options):
    return _depthwise_conv2d(x, w[:1].expand(w.shape), **options)


def _depthwise_edge_repeated(x, w, *, mode="circular"):
    if mode != "reflect":
        return _depthwise_conv2d(x, w, mode=mode)
    rows, columns = (
        _reflect_repeats_edge(n, k // 2, k // 2, mode) for n, k in zip(x.shape[2:], w.shape[1:], strict=True)
    )
    padded = x[:, :, rows][:, :, :, columns]
    return _depthwise_conv2d(padded, w, mode="zeros")[:, :, w.shape[1] // 2 :, w.shape[2] // 2 :][
        :, :, : x.shape[2], : x.shape[3]
    ]


def _depthwise_shifted(x, w, *, mode="circular"):
    y = _depthwise_conv2d(x, w, mode=mode)
    return y.roll((-1, -1), (2, 3))


def _depthwise_float32(x, w, **options):
    return _depthwise_conv2d(x.float(), w.float(), **options)


def _depthwise_on_cpu(x, w, **options):
    import torch

    y = torch.zeros(x.shape, dtype=x.dtype)
    return y + _depthwise_conv2d(x, w, **options)


def _depthwise_detached(x, w, **options):
    return _depthwise_conv2d(x, w, **options).detach()


def _depthwise_case(draw: Draw, mode: str) -> Any:
    # small, for loops over single pixels are slow in torch, and right
    return call(draw(2, 3, 4, 7), draw(3, 3, 5), mode=mode)


depthwise_conv2d = Check(
    "conv.depthwise_conv2d",
    title="One filter per channel, in torch, on any device",
    reference=_depthwise_conv2d,
    library="torch",
    terms=("y", "dx", "dw"),
    observe=with_gradients,
    allowed=HELPERS,
    forbidden=(
        "torch.*conv*",
        "torch.unfold",
        "torch.fold",
        "torch.im2col",
        "torch.pad",
        "torch.*fft*",
        "torch.circular_pad*",
    ),
    cases=(
        Case("circular", 1, lambda draw: _depthwise_case(draw, "circular")),
        Case("reflect in float32", 1, lambda draw: _depthwise_case(draw, "reflect"), dtype="float32"),
        Case("another device", 1, lambda draw: _depthwise_case(draw, "circular"), device="meta"),
    ),
    misconceptions=(
        Misconception(
            "flipped-kernel", "The kernel is flipped; layers do not flip.", FLIP, _depthwise_flipped,
        ),
        Misconception(
            "zeros-around", "The image is padded with zeros; index it by pad_indices instead.", MODES,
            _depthwise_zeros,
        ),
        Misconception(
            "always-circular", "mode is not looked at: the padding is always circular.", MODES,
            _depthwise_always_circular,
        ),
        Misconception(
            "channels-summed", "The channels are summed; depthwise means that each keeps to itself.", GROUPS,
            _depthwise_summed,
        ),
        Misconception(
            "one-filter-for-all", "Every channel meets filter 0; each has a filter of its own.", GROUPS,
            _depthwise_one_filter,
        ),
        Misconception(
            "reflect-repeats-edge",
            "reflect repeats the edge pixel; the mirror stands on it, so it appears once.", MODES,
            _depthwise_edge_repeated,
        ),
        Misconception(
            "window-not-centred", "The result is shifted by a pixel: pad KH // 2 and KW // 2 on both sides.",
            SAME, _depthwise_shifted,
        ),
        Misconception(
            "always-float32", "The result is float32 whatever comes in: keep x.dtype.", FORWARD,
            _depthwise_float32,
        ),
        Misconception(
            "made-by-torch-zeros",
            "torch.zeros(shape) makes float32 on the CPU, whatever x is: take x.new_zeros(shape).", FORWARD,
            lambda x, w, **o: _depthwise_on_cpu(x.float(), w.float(), **o),
        ),
        Misconception(
            "made-on-cpu",
            "A tensor is made on the CPU whatever the input's device: x.new_zeros or device=x.device.",
            FORWARD, _depthwise_on_cpu,
        ),
        Misconception(
            "detached", "The result is cut off from autograd: nothing can be learned through it.", DX,
            _depthwise_detached,
        ),
    ),
)
