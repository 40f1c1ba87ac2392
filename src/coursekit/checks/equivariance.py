"""Checks of the assignment `equivariance`: sharing and its price, equivariance, invariance, aliasing.

The right functions are written out here with a place for each mistake; a wrong variant fills one of them
differently, or changes what goes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coursekit.arrays import output_size, pad, windows
from coursekit.checks.engine import Arguments, Case, Check, Draw, Misconception, call

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from coursekit.arrays import Array

Pair = tuple[int, int]

LOCAL = "convolution/assumptions#sec-assume-sharing"
COST = "convolution/arithmetic#eq-conv-cost"
SIZE = "convolution/arithmetic#eq-conv-size"
FLIP = "convolution/arithmetic#eq-conv-flip"
EQUIVARIANT = "convolution/assumptions#eq-equivariance"
METER = "convolution/assumptions#eq-equivariance-error"
INVARIANT = "convolution/assumptions#sec-assume-invariance"
SHARE = "convolution/assumptions#eq-pool-invariance"
MAX = "convolution/detector-and-pooling#eq-pool-max"
ALIASING = "convolution/assumptions#eq-conv-alias"


# --- Part 1: a layer that does not share -------------------------------------------------------------------


def _row_by_row(i: int, j: int, HO: int, WO: int) -> int:
    return i * WO + j


def _local_forward(
    x: Float[Array, "N C H W"],
    w: Float[Array, "P F C KH KW"],
    b: Float[Array, "P F"],
    stride: Pair,
    *,
    step: Pair | None = None,
    position: Callable[[int, int, int, int], int] = _row_by_row,
) -> Float[Array, "N F HO WO"]:
    """One kernel for each position.   step: pixels between windows, where that is not the stride."""
    (KH, KW), (SH, SW) = w.shape[3:], step or stride
    HO, WO = output_size(x.shape[2:], (KH, KW), stride=stride)
    y = np.empty((len(x), w.shape[1], HO, WO), x.dtype)
    for i, j in np.ndindex(HO, WO):
        window = x[:, :, i * SH : i * SH + KH, j * SW : j * SW + KW]
        p = position(i, j, HO, WO)
        y[:, :, i, j] = np.einsum("nckl,fckl->nf", window, w[p]) + b[p]
    return y


def _first_everywhere(a: Float[Array, "P ..."]) -> Float[Array, "P ..."]:
    return np.broadcast_to(a[:1], a.shape)


def _first_channel(w: Float[Array, "P F C KH KW"]) -> Float[Array, "P F C KH KW"]:
    return np.where(np.arange(w.shape[2])[:, None, None] == 0, w, 0)


def _reshaped(b: Float[Array, "P F"]) -> Float[Array, "P F"]:
    """What b.reshape(F, HO, WO) takes for the bias of each position."""
    return b.reshape(b.shape[::-1]).T


def _local_case(x: tuple[int, ...], filters: int, kernel: Pair, stride: Pair = (1, 1)) -> Callable:
    def arguments(draw: Draw) -> Arguments:
        positions = math.prod(output_size(x[2:], kernel, stride=stride))
        return call(draw(*x), draw(positions, filters, x[1], *kernel), draw(positions, filters), stride)

    return arguments


local_forward = Check(
    name="equivariance.local_forward",
    title="a locally connected layer",
    reference=_local_forward,
    terms=("y",),
    cases=(
        Case("one channel, one filter", 1, _local_case((1, 1, 5, 7), 1, (3, 2))),
        Case("channels and filters", 1, _local_case((2, 3, 5, 11), 7, (2, 3))),
        Case("more rows than columns", 1, _local_case((3, 2, 7, 5), 5, (1, 3))),
        Case("stride", 1, _local_case((2, 3, 5, 11), 7, (2, 3), (1, 2))),
        Case("another stride, float32", 1, _local_case((3, 2, 13, 11), 5, (3, 2), (3, 2)), "float32"),
    ),
    misconceptions=(
        Misconception(
            "shared-kernel",
            "The first kernel is used at every position: that is a convolution. Here position p has a "
            "kernel w[p] of its own.",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, _first_everywhere(w), b, stride),
        ),
        Misconception(
            "first-position-everywhere",
            "Kernel and bias of the first position are used everywhere: does p move on?",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, _first_everywhere(w), _first_everywhere(b), stride),
        ),
        Misconception(
            "column-by-column",
            "Positions are counted down the columns, p = j * HO + i. They are counted along the rows: "
            "p = i * WO + j.",
            LOCAL,
            partial(_local_forward, position=lambda i, j, HO, WO: j * HO + i),
        ),
        Misconception(
            "row-of-the-wrong-length",
            "Position (i, j) is taken for p = i * HO + j. The rows before row i hold WO positions each.",
            LOCAL,
            partial(_local_forward, position=lambda i, j, HO, WO: i * HO + j),
        ),
        Misconception(
            "indices-added",
            "Position (i, j) is taken for p = i + j, so that all positions on a diagonal share a kernel.",
            LOCAL,
            partial(_local_forward, position=lambda i, j, HO, WO: i + j),
        ),
        Misconception(
            "shared-bias",
            "The kernels are the positions' own, but the first position's bias is used everywhere.",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, w, _first_everywhere(b), stride),
        ),
        Misconception(
            "reshaped-bias",
            "b.reshape(F, HO, WO) mixes filters with positions: b has the positions first. Transpose it, "
            "then reshape.",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, w, _reshaped(b), stride),
        ),
        Misconception(
            "bias-forgotten",
            "The bias is missing: b[p, f] is added to the sum over the window.",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, w, np.zeros_like(b), stride),
        ),
        Misconception(
            "kernel-flipped",
            "The kernel is flipped. Here, as in a convolutional layer, w[p, f, c, k, l] meets the window's "
            "pixel (k, l).",
            FLIP,
            lambda x, w, b, stride: _local_forward(x, w[..., ::-1, ::-1], b, stride),
        ),
        Misconception(
            "stride-ignored",
            "Neighbouring windows are one pixel apart whatever the stride: window (i, j) starts at pixel "
            "(i * SH, j * SW).",
            SIZE,
            partial(_local_forward, step=(1, 1)),
        ),
        Misconception(
            "stride-turned",
            "The stride's two numbers are swapped: the first is down, the second across.",
            SIZE,
            lambda x, w, b, stride: _local_forward(x, w, b, stride[::-1]),
        ),
        Misconception(
            "first-channel-only",
            "Only channel 0 is seen. A kernel sums over its window in all C channels.",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, _first_channel(w), b, stride),
        ),
        Misconception(
            "mean-for-sum",
            "The products of a window are averaged; a layer adds them up.",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, w / math.prod(w.shape[2:]), b, stride),
        ),
        Misconception(
            "double-precision",
            "The result is float64 for a float32 input, most often because np.zeros(shape) is: give it "
            "dtype=x.dtype.",
            LOCAL,
            lambda x, w, b, stride: _local_forward(x, w, b, stride).astype(np.float64),
        ),
    ),
)


class Cost(NamedTuple):
    """What a layer holds, and what it computes for one image."""

    weights: int
    biases: int
    products: int


def _cost(kind: str, channels: int, image: Pair, filters: int, kernel: Pair, positions: int) -> Cost:
    units = filters * positions
    seen = channels * math.prod(image if kind == "dense" else kernel)
    sharing = positions if kind == "convolution" else 1
    return Cost(units * seen // sharing, units // sharing, units * seen)


def _positions(image: Pair, kernel: Pair, stride: Pair) -> int:
    return math.prod(output_size(image, kernel, stride=stride))


def _layer_cost(
    kind: str,
    channels: int,
    image: Pair,
    filters: int,
    kernel: Pair,
    stride: Pair,
    *,
    cost: Callable[..., Cost] = _cost,
    positions: Callable[[Pair, Pair, Pair], int] = _positions,
) -> tuple[int, int]:
    """Parameters and multiplications."""
    count = cost(kind, channels, image, filters, kernel, positions(image, kernel, stride))
    return count.weights + count.biases, count.products


def _with_cost(kinds: str, change: Callable[[Cost, int, int], dict[str, int]]) -> Callable:
    """Count some kinds of layers otherwise.   change: (cost, filters, positions) -> fields that differ."""

    def cost(kind: str, channels: int, image: Pair, filters: int, kernel: Pair, positions: int) -> Cost:
        right = _cost(kind, channels, image, filters, kernel, positions)
        return right._replace(**change(right, filters, positions)) if kind in kinds.split() else right

    return partial(_layer_cost, cost=cost)


def _rounded_up(image: Pair, kernel: Pair, stride: Pair) -> int:
    return math.prod(-(-(n - k) // s) + 1 for n, k, s in zip(image, kernel, stride, strict=True))


def _one_window_less(image: Pair, kernel: Pair, stride: Pair) -> int:
    return math.prod(n - 1 for n in output_size(image, kernel, stride=stride))


def _cost_case(kind: str, stride: Pair = (1, 1)) -> Callable:
    def arguments(draw: Draw) -> Arguments:
        channels, filters = (int(n) for n in draw.rng.choice([2, 3, 5, 7], 2, replace=False))
        kernel = tuple(int(n) for n in draw.rng.permutation([2, 3, 5])[:2])
        # with a stride, one pixel is left over down and across
        image = tuple(
            k + s * n + s - 1 for k, s, n in zip(kernel, stride, draw.rng.permutation([4, 6]), strict=True)
        )
        return call(kind, channels, tuple(map(int, image)), filters, kernel, stride)

    return arguments


layer_cost = Check(
    name="equivariance.layer_cost",
    title="the price of three layers",
    reference=_layer_cost,
    terms=("parameters", "multiplications"),
    cases=(
        Case("dense", 0.5, _cost_case("dense")),
        Case("local", 0.5, _cost_case("local")),
        Case("convolution", 0.5, _cost_case("convolution")),
        Case("local with a stride", 0.5, _cost_case("local", (2, 3))),
        Case("convolution with a stride", 0.5, _cost_case("convolution", (3, 2))),
    ),
    misconceptions=(
        Misconception(
            "positions-forgotten",
            "The locally connected layer is counted with one kernel for each filter: without sharing, each "
            "position has kernels of its own.",
            LOCAL,
            _with_cost("local", lambda cost, f, p: {"weights": cost.weights // p, "biases": f}),
        ),
        Misconception(
            "positions-in-convolution",
            "The convolution is counted with a kernel for each position. Its positions share one kernel for "
            "each filter.",
            LOCAL,
            _with_cost("convolution", lambda cost, f, p: {"weights": cost.weights * p, "biases": f * p}),
        ),
        Misconception(
            "sharing-saves-products",
            "The multiplications of the convolution are its weights. A shared kernel is stored once and "
            "still multiplied at every position.",
            COST,
            _with_cost("convolution", lambda cost, f, p: {"products": cost.weights}),
        ),
        Misconception(
            "products-of-one-position",
            "The multiplications are those of one position. Every position multiplies its window with a "
            "kernel.",
            COST,
            _with_cost("local convolution", lambda cost, f, p: {"products": cost.products // p}),
        ),
        Misconception(
            "pixels-for-positions",
            "The pixels of the image are counted, H * W. Positions are the places where the kernel fits: "
            "HO * WO.",
            SIZE,
            partial(_layer_cost, positions=lambda image, kernel, stride: math.prod(image)),
        ),
        Misconception(
            "stride-ignored",
            "The positions are those of stride 1. A larger stride leaves fewer of them.",
            SIZE,
            partial(_layer_cost, positions=lambda image, kernel, stride: _positions(image, kernel, (1, 1))),
        ),
        Misconception(
            "rounded-up",
            "A last window that sticks out of the image is counted: round down.",
            SIZE,
            partial(_layer_cost, positions=_rounded_up),
        ),
        Misconception(
            "first-window-forgotten",
            "A window is missing in each direction: n steps make n + 1 windows.",
            SIZE,
            partial(_layer_cost, positions=_one_window_less),
        ),
        Misconception(
            "local-bias-shared",
            "The locally connected layer is counted with one bias for each filter. Its positions share "
            "nothing, the bias included.",
            LOCAL,
            _with_cost("local", lambda cost, f, p: {"biases": f}),
        ),
        Misconception(
            "dense-bias-shared",
            "The dense layer is counted with one bias for each filter: it has one for each output number.",
            LOCAL,
            _with_cost("dense", lambda cost, f, p: {"biases": f}),
        ),
        Misconception(
            "convolution-bias-unshared",
            "The convolution is counted with one bias for each position. It shares the bias with the "
            "kernel: one for each filter.",
            LOCAL,
            _with_cost("convolution", lambda cost, f, p: {"biases": f * p}),
        ),
        Misconception(
            "bias-forgotten",
            "The biases are missing.",
            LOCAL,
            _with_cost("dense local convolution", lambda cost, f, p: {"biases": 0}),
        ),
        Misconception(
            "bias-multiplied",
            "The biases are counted as multiplications; they are only added.",
            COST,
            _with_cost("dense local convolution", lambda cost, f, p: {"products": cost.products + f * p}),
        ),
        Misconception(
            "additions-counted",
            "The additions are counted too. The question is after multiplications alone: one for each "
            "weight of each window.",
            COST,
            _with_cost("dense local convolution", lambda cost, f, p: {"products": 2 * cost.products}),
        ),
        Misconception(
            "channels-forgotten",
            "Each output looks at one channel only. It looks at all C input channels.",
            COST,
            lambda kind, channels, *rest: _layer_cost(kind, 1, *rest),
        ),
        Misconception(
            "filters-forgotten-in-dense",
            "The dense layer is counted with one output for each position: it makes the same F * HO * WO "
            "numbers as the others.",
            LOCAL,
            _with_cost("dense", lambda cost, f, p: {k: n // f for k, n in cost._asdict().items()}),
        ),
        Misconception(
            "dense-outputs-without-positions",
            "The dense layer is counted with one output for each filter: it makes the same F * HO * WO "
            "numbers as the others.",
            LOCAL,
            _with_cost("dense", lambda cost, f, p: {k: n // p for k, n in cost._asdict().items()}),
        ),
        Misconception(
            "dense-through-windows",
            "Each output of the dense layer is counted with the weights of a window. It is connected to "
            "every pixel.",
            LOCAL,
            lambda kind, *sizes: _layer_cost("local" if kind == "dense" else kind, *sizes),
        ),
        Misconception(
            "square-kernel",
            "The kernel is taken for a square of its height; it may be wider or narrower than it is high.",
            SIZE,
            lambda kind, channels, image, filters, kernel, stride: _layer_cost(
                kind, channels, image, filters, (kernel[0],) * 2, stride
            ),
        ),
    ),
)


# --- Part 2: a meter of equivariance -----------------------------------------------------------------------


def _move(y: Float[Array, "N F HO WO"], shift: Pair, stride: int) -> Float[Array, "N F HO WO"]:
    return np.roll(y, [pixels // stride for pixels in shift], axis=(2, 3))


def _move_without_wrapping(
    y: Float[Array, "N F HO WO"], shift: Pair, stride: int
) -> Float[Array, "N F HO WO"]:
    steps = [pixels // stride for pixels in shift]
    margin = max(map(abs, steps))
    padded = np.roll(pad(y, ((margin, margin),) * 2), steps, axis=(2, 3))
    return padded[:, :, margin : margin + y.shape[2], margin : margin + y.shape[3]]


def _variation(y: Float[Array, "N F HO WO"]) -> Float[Array, "N F HO WO"]:
    return y - y.mean(axis=(2, 3), keepdims=True)


def _equivariance_error(
    y: Float[Array, "N F HO WO"],
    y_moved: Float[Array, "N F HO WO"],
    shift: Pair,
    stride: int,
    *,
    move: Callable = _move,
    variation: Callable = _variation,
    norm: Callable = np.linalg.norm,
) -> float:
    return float(norm(y_moved - move(y, shift, stride)) / norm(variation(y)))


def _mean_of_ratios(
    y: Float[Array, "N F HO WO"], y_moved: Float[Array, "N F HO WO"], shift: Pair, stride: int
) -> float:
    pairs = zip(y, y_moved, strict=True)
    return float(np.mean([_equivariance_error(a[None], b[None], shift, stride) for a, b in pairs]))


def _brightness_removed(
    y: Float[Array, "N F HO WO"], y_moved: Float[Array, "N F HO WO"], shift: Pair, stride: int
) -> float:
    return _equivariance_error(_variation(y), _variation(y_moved), shift, stride)


def _maps_case(shape: tuple[int, ...], shift: Pair, stride: int, noise: float) -> Callable:
    """Maps that move along but for noise, and whose brightness differs from map to map."""

    def arguments(draw: Draw) -> Arguments:
        contrast, brightness = 1 + draw.rng.random((shape[0], 1, 1, 1)), draw(*shape[:2], 1, 1)
        y = contrast * draw(*shape) + brightness
        moved = _move(y, shift, stride)
        return call(y, moved + noise * (draw(*shape) + brightness) if noise else moved, shift, stride)

    return arguments


equivariance_error = Check(
    name="equivariance.equivariance_error",
    title="an equivariance meter",
    reference=_equivariance_error,
    terms=("error",),
    cases=(
        Case("an equivariant layer, stride 1", 0.25, _maps_case((2, 3, 5, 7), (1, 2), 1, 0.0)),
        Case("an equivariant layer, stride 2", 0.25, _maps_case((3, 2, 5, 11), (2, 6), 2, 0.0)),
        Case("some of it fails to follow", 1, _maps_case((3, 5, 7, 11), (1, 3), 1, 0.5)),
        Case("some of it, at stride 3", 1, _maps_case((2, 5, 11, 7), (9, 6), 3, 0.3)),
        Case("up and to the left, stride 2", 1.5, _maps_case((5, 3, 7, 11), (-4, -2), 2, 1.5)),
    ),
    misconceptions=(
        Misconception(
            "measures-invariance",
            "f(T x) is compared with f(x) itself: that measures invariance. An equivariant layer's output "
            "moves along.",
            EQUIVARIANT,
            partial(_equivariance_error, move=lambda y, shift, stride: y),
        ),
        Misconception(
            "stride-forgotten",
            "The output is moved by as many units as the image by pixels. With a stride of s it moves by a "
            "number s times smaller.",
            METER,
            partial(_equivariance_error, move=lambda y, shift, stride: _move(y, shift, 1)),
        ),
        Misconception(
            "stride-multiplied",
            "The shift is multiplied by the stride. The output has fewer units than the image has pixels: "
            "divide.",
            METER,
            partial(
                _equivariance_error,
                move=lambda y, shift, stride: np.roll(y, [pixels * stride for pixels in shift], axis=(2, 3)),
            ),
        ),
        Misconception(
            "wrong-way",
            "The output is moved against the image: up where the image went down. Check the sign on a "
            "single bright unit.",
            METER,
            partial(
                _equivariance_error,
                move=lambda y, shift, stride: _move(y, [-pixels for pixels in shift], stride),
            ),
        ),
        Misconception(
            "axes-swapped",
            "The two numbers of the shift are swapped: the first is down (axis 2), the second across "
            "(axis 3).",
            METER,
            partial(_equivariance_error, move=lambda y, shift, stride: _move(y, shift[::-1], stride)),
        ),
        Misconception(
            "across-only",
            "The output is moved across, and not down.",
            METER,
            partial(_equivariance_error, move=lambda y, shift, stride: _move(y, (0, shift[1]), stride)),
        ),
        Misconception(
            "down-only",
            "The output is moved down, and not across.",
            METER,
            partial(_equivariance_error, move=lambda y, shift, stride: _move(y, (shift[0], 0), stride)),
        ),
        Misconception(
            "batch-rolled",
            "Axes 0 and 1 are moved: those are images and filters. Rows and columns are axes 2 and 3.",
            METER,
            partial(
                _equivariance_error,
                move=lambda y, shift, stride: np.roll(y, [pixels // stride for pixels in shift], (0, 1)),
            ),
        ),
        Misconception(
            "rolled-flat",
            "np.roll without axis= moves the numbers of the whole batch through one long row.",
            METER,
            partial(
                _equivariance_error,
                move=lambda y, shift, stride: np.roll(y, [pixels // stride for pixels in shift]),
            ),
        ),
        Misconception(
            "zeros-come-in",
            "Zeros come in where the output moves away. Here what leaves on one side comes back on the "
            "other.",
            METER,
            partial(_equivariance_error, move=_move_without_wrapping),
        ),
        Misconception(
            "absolute",
            "The difference is not divided by anything, so that a layer twice as loud looks twice as bad.",
            METER,
            lambda y, y_moved, shift, stride: float(np.linalg.norm(y_moved - _move(y, shift, stride))),
        ),
        Misconception(
            "brightness-flatters",
            "The divisor is the norm of f(x) itself. Subtract each map's mean first: a constant moves along "
            "with anything.",
            METER,
            partial(_equivariance_error, variation=lambda y: y),
        ),
        Misconception(
            "one-mean-for-all",
            "One mean over everything is subtracted in the divisor. Each map of each image has its own.",
            METER,
            partial(_equivariance_error, variation=lambda y: y - y.mean()),
        ),
        Misconception(
            "mean-over-the-batch",
            "The mean in the divisor is taken over the images too. Each map of each image has its own.",
            METER,
            partial(_equivariance_error, variation=lambda y: y - y.mean(axis=(0, 2, 3), keepdims=True)),
        ),
        Misconception(
            "brightness-forgiven",
            "The means are subtracted in the numerator too. A layer that gets brighter when the image moves "
            "does not follow it.",
            METER,
            _brightness_removed,
        ),
        Misconception(
            "divided-by-moved",
            "The divisor is taken from f(T x). It measures how much there is in f(x).",
            METER,
            lambda y, y_moved, shift, stride: _equivariance_error(
                y, y_moved, shift, stride, variation=lambda _: _variation(y_moved)
            ),
        ),
        Misconception(
            "squared",
            "This is the ratio of the squared norms: the root is missing.",
            METER,
            partial(_equivariance_error, norm=lambda a: (a**2).sum()),
        ),
        Misconception(
            "absolute-values",
            "Absolute values are added up; the norm is the root of the sum of squares.",
            METER,
            partial(_equivariance_error, norm=lambda a: np.abs(a).sum()),
        ),
        Misconception(
            "largest-entry",
            "Only the largest entries are compared; the norm is the root of the sum of all squares.",
            METER,
            partial(_equivariance_error, norm=lambda a: np.abs(a).max()),
        ),
        Misconception(
            "mean-of-ratios",
            "The error is computed for each image and averaged. Both norms run over the whole batch.",
            METER,
            _mean_of_ratios,
        ),
    ),
)


# --- Part 3: how much pooling lets you move ----------------------------------------------------------------


def _max_pool(maps: Float[Array, "N F H W"], pool: Pair, stride: Pair = (1, 1)) -> Float[Array, "N F HO WO"]:
    return windows(maps, pool, stride=stride).max(axis=(-2, -1))


def _active(before: Float[Array, "N F HO WO"], after: Float[Array, "N F HO WO"]) -> Bool[Array, "N F HO WO"]:
    return (before != 0) | (after != 0)


def _share(before: Float[Array, "N F HO WO"], after: Float[Array, "N F HO WO"]) -> float:
    active = _active(before, after)
    return float(((before == after) & active).sum() / active.sum())


def _unchanged_share(
    before: Float[Array, "N F H W"],
    after: Float[Array, "N F H W"],
    pool: Pair,
    *,
    pooling: Callable = _max_pool,
    share: Callable = _share,
) -> float:
    return float(share(pooling(before, pool), pooling(after, pool)))


def _share_of_places(merge: Callable[..., Array]) -> Callable:
    """Count places of the image; merge says when a place counts as unchanged, from its channels."""

    def share(before: Array, after: Array) -> float:
        active = _active(before, after)
        unchanged = merge((before == after) & active, axis=1)
        return unchanged.sum() / active.any(axis=1).sum()

    return share


def _share_active(active: Callable[[Array, Array], Array]) -> Callable:
    """Count among units that are active in another sense."""

    def share(before: Array, after: Array) -> float:
        counted = active(before, after)
        return ((before == after) & counted).sum() / counted.sum()

    return share


def _padded_pool(maps: Float[Array, "N F H W"], pool: Pair) -> Float[Array, "N F H W"]:
    return _max_pool(pad(maps, tuple(((k - 1) // 2, k // 2) for k in pool)), pool)


def _average_pool(maps: Float[Array, "N F H W"], pool: Pair) -> Float[Array, "N F HO WO"]:
    return windows(maps, pool).mean(axis=(-2, -1))


def _mean_of_shares(before: Float[Array, "N F H W"], after: Float[Array, "N F H W"], pool: Pair) -> float:
    pairs = zip(before, after, strict=True)
    return float(np.mean([_unchanged_share(a[None], b[None], pool) for a, b in pairs]))


def _detectors_case(shape: tuple[int, ...], shift: Pair, pool: Pair) -> Callable:
    def arguments(draw: Draw) -> Arguments:
        maps = np.maximum(draw(*shape) - 1, 0)  # five in six detectors are silent
        return call(maps, np.roll(maps, shift, axis=(2, 3)), pool)

    return arguments


unchanged_share = Check(
    name="equivariance.unchanged_share",
    title="the share of pooled units that stay as they were",
    reference=_unchanged_share,
    terms=("share",),
    allowed=("coursekit.pooling", "coursekit.arrays"),
    cases=(
        Case("one image, one map", 1, _detectors_case((1, 1, 23, 29), (0, 1), (2, 3))),
        Case("a batch", 1, _detectors_case((3, 2, 13, 17), (2, 1), (5, 3))),
        Case("several maps, float32", 1, _detectors_case((2, 5, 17, 13), (1, 0), (3, 2)), "float32"),
    ),
    misconceptions=(
        Misconception(
            "background-counted",
            "Units that are 0 both times are counted: an empty background stays as it was under any shift.",
            INVARIANT,
            partial(_unchanged_share, share=lambda before, after: (before == after).mean()),
        ),
        Misconception(
            "background-in-the-numerator",
            "Units that are 0 both times are left out of the divisor and still counted as unchanged.",
            INVARIANT,
            partial(
                _unchanged_share,
                share=lambda before, after: (before == after).sum() / _active(before, after).sum(),
            ),
        ),
        Misconception(
            "active-before",
            "Only units that were active before are counted. One that lights up after the shift changed "
            "as well.",
            INVARIANT,
            partial(_unchanged_share, share=_share_active(lambda before, after: before != 0)),
        ),
        Misconception(
            "active-both-times",
            "Only units that are active both times are counted. One that goes out, or lights up, changed "
            "as well.",
            INVARIANT,
            partial(
                _unchanged_share, share=_share_active(lambda before, after: (before != 0) & (after != 0))
            ),
        ),
        Misconception(
            "mean-difference",
            "This is the mean absolute difference. Count the units that keep their value exactly.",
            INVARIANT,
            partial(_unchanged_share, share=lambda before, after: np.abs(before - after).mean()),
        ),
        Misconception(
            "changed-counted",
            "This is the share of units that changed.",
            INVARIANT,
            lambda *maps: 1 - _unchanged_share(*maps),
        ),
        Misconception(
            "not-pooled",
            "The detectors are compared before they are pooled, and hardly any of them stays as it was.",
            INVARIANT,
            partial(_unchanged_share, pooling=lambda maps, pool: maps),
        ),
        Misconception(
            "any-map",
            "A place counts if any of its maps is unchanged. Every unit counts for itself.",
            INVARIANT,
            partial(_unchanged_share, share=_share_of_places(np.any)),
        ),
        Misconception(
            "all-maps",
            "A place counts only if all of its maps are unchanged. Every unit counts for itself.",
            INVARIANT,
            partial(_unchanged_share, share=_share_of_places(np.all)),
        ),
        Misconception(
            "mean-of-shares",
            "The share is computed for each image and averaged. Count the units of the whole batch.",
            INVARIANT,
            _mean_of_shares,
        ),
        Misconception(
            "side-by-side",
            "The windows lie side by side, as with stride = pool. Here they move by one pixel.",
            MAX,
            partial(_unchanged_share, pooling=lambda maps, pool: _max_pool(maps, pool, pool)),
        ),
        Misconception(
            "pool-turned",
            "The window's two numbers are swapped: the first is its height, the second its width.",
            MAX,
            lambda before, after, pool: _unchanged_share(before, after, pool[::-1]),
        ),
        Misconception(
            "padded",
            "The maps are padded before they are pooled, which adds units at the border.",
            MAX,
            partial(_unchanged_share, pooling=_padded_pool),
        ),
        Misconception(
            "averaged",
            "The windows are averaged. A mean changes with every pixel that comes in; a maximum often "
            "does not.",
            SHARE,
            partial(_unchanged_share, pooling=_average_pool),
        ),
    ),
)


# --- Part 4: what a stride makes of a fast wave ------------------------------------------------------------


def _periods_per_sample(frequency: float, stride: int) -> float:
    """What the samples look like: the nearest whole number of periods between two of them goes unseen."""
    turns = frequency * stride
    return turns - round(turns)


def _apparent_frequency(frequency: float, stride: int) -> float:
    return abs(_periods_per_sample(frequency, stride)) / stride


def _folded_once(frequency: float, stride: int) -> float:
    turns = frequency * stride
    return (turns if turns <= 0.5 else abs(1 - turns)) / stride


def _folded_at_sampling_rate(frequency: float, stride: int) -> float:
    """Mirror at 1 period per sample, twice what samples can carry."""
    turns = frequency * stride % 2
    return min(turns, 2 - turns) / stride


def _wave_case(low: float, high: float, stride: int) -> Callable:
    return lambda draw: call(round(float(draw.rng.uniform(low, high)), 3), stride)


apparent_frequency = Check(
    name="equivariance.apparent_frequency",
    title="the wave that comes out of a stride",
    reference=_apparent_frequency,
    terms=("frequency",),
    cases=(
        Case("slow enough", 0.5, _wave_case(0.06, 0.19, 2)),
        Case("a little too fast", 0.5, _wave_case(0.31, 0.44, 2)),
        Case("more than one period per sample", 1, _wave_case(0.22, 0.27, 5)),
        Case("nearly two periods per sample", 1, _wave_case(0.41, 0.46, 4)),
    ),
    misconceptions=(
        Misconception(
            "not-folded",
            "The wave comes out as fast as it went in. Samples cannot carry more than half a period each.",
            ALIASING,
            lambda frequency, stride: frequency,
        ),
        Misconception(
            "per-sample",
            "This is in periods per sample. A sample is stride pixels: divide by the stride once more.",
            ALIASING,
            lambda frequency, stride: stride * _apparent_frequency(frequency, stride),
        ),
        Misconception(
            "whole-periods-only",
            "Whole periods between two samples are dropped, which leaves up to one. More than half a period "
            "looks like less, backwards.",
            ALIASING,
            lambda frequency, stride: frequency * stride % 1 / stride,
        ),
        Misconception(
            "folded-at-sampling-rate",
            "The frequency is mirrored at one period per sample. Samples can carry half of that.",
            ALIASING,
            _folded_at_sampling_rate,
        ),
        Misconception(
            "folded-once",
            "1 - f s holds between half a period and one per sample. A faster wave turns round more often.",
            ALIASING,
            _folded_once,
        ),
        Misconception(
            "always-folded",
            "1 - f s is used for slow waves too. Up to half a period per sample, a wave comes out as it is.",
            ALIASING,
            lambda frequency, stride: (1 - frequency * stride % 1) / stride,
        ),
        Misconception(
            "clipped",
            "What is too fast is cut down to half a period per sample. It is mirrored there and comes "
            "out slower.",
            ALIASING,
            lambda frequency, stride: min(frequency, 0.5 / stride),
        ),
        Misconception(
            "signed",
            "The sign says that the wave seems to run backwards; the task asks how fast it seems: a number "
            "that is not negative.",
            ALIASING,
            lambda frequency, stride: _periods_per_sample(frequency, stride) / stride,
        ),
        Misconception(
            "not-seen",
            "What is too fast is said to vanish. It comes back as a slower wave.",
            ALIASING,
            lambda frequency, stride: frequency if frequency * stride <= 0.5 else 0.0,
        ),
        Misconception(
            "radians",
            "This is an angle in radians per pixel; a frequency is in periods per pixel, 2 pi times smaller.",
            ALIASING,
            lambda frequency, stride: 2 * math.pi * _apparent_frequency(frequency, stride),
        ),
    ),
)
