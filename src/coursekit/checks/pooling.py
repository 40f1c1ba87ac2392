"""Checks of the assignment `pooling`: detector, pooling, complex layer, loss and a network that is trained.

Each task has one right function, most often the library's own, and small wrong ones beside it that
differ from it in a single respect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from coursekit.arrays import output_size, pad, windows
from coursekit.checks.engine import (
    Arguments,
    CallFailed,
    Case,
    Check,
    Draw,
    Failure,
    Misconception,
    call,
    with_gradients,
)
from coursekit.conv import conv2d_backward, conv2d_forward
from coursekit.pooling import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    lp_pool1d_backward,
    lp_pool1d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)

if TYPE_CHECKING:
    from jaxtyping import Float

    from coursekit.arrays import Array

Pair = tuple[int, int]

LAYER = "convolution/index#sec-layer-parameters"
RELU = "convolution/detector-and-pooling#eq-relu"
MAX = "convolution/detector-and-pooling#eq-pool-max"
AVERAGE = "convolution/detector-and-pooling#eq-pool-avg"
BACKWARD = "convolution/detector-and-pooling#eq-pool-backward"
SIZE = "convolution/arithmetic#eq-conv-size"
STAGES = "convolution/index#sec-layer-stages"
SOFTMAX = "convolution/classifier#eq-softmax"
LOSS = "convolution/classifier#eq-cross-entropy"
LOSS_BACKWARD = "convolution/classifier#eq-cross-entropy-backward"
GRADIENTS = "convolution/gradients#eq-conv-backward-w"
ALIASING = "convolution/assumptions#sec-assume-stride"


# --- Part 1: which stages have parameters ------------------------------------------------------------------


def _convolution_parameters(stage: dict) -> int:
    return stage["filters"] * (stage["channels"] * math.prod(stage["kernel"]) + stage["bias"])


def _dense_parameters(stage: dict) -> int:
    return stage["outputs"] * (stage["inputs"] + stage["bias"])


def _none(stage: dict, channels: int) -> int:
    return 0


def _count_parameters(
    stages: list[dict],
    *,
    convolution: Callable[[dict], int] = _convolution_parameters,
    dense: Callable[[dict], int] = _dense_parameters,
    detector: Callable[[dict, int], int] = _none,
    pooling: Callable[[dict, int], int] = _none,
) -> int:
    """Sum over the stages; detector and pooling are told how many channels reach them."""
    total = channels = 0
    for stage in stages:
        match stage["stage"]:
            case "convolution":
                total, channels = total + convolution(stage), stage["filters"]
            case "dense":
                total, channels = total + dense(stage), stage["outputs"]
            case "detector":
                total += detector(stage, channels)
            case "pooling":
                total += pooling(stage, channels)
    return total


def _with_bias(bias: Callable[[dict], dict]) -> Callable[[list[dict]], int]:
    """Count as if the bias entries of convolution and dense stages were others."""

    def count(stages: list[dict]) -> int:
        return _count_parameters(
            stages,
            convolution=lambda stage: _convolution_parameters(bias(stage)),
            dense=lambda stage: _dense_parameters(bias(stage)),
        )

    return count


def _one_bias_for_all_filters(stage: dict) -> int:
    return _convolution_parameters({**stage, "bias": False}) + stage["bias"]


def _square_kernel(stage: dict) -> int:
    return _convolution_parameters({**stage, "kernel": (stage["kernel"][0],) * 2})


def _convolution(draw: Draw, channels: int, filters: int, bias: bool) -> dict:
    kernel = tuple(int(k) for k in draw.rng.permutation([2, 3, 5])[:2])
    return {"stage": "convolution", "channels": channels, "filters": filters, "kernel": kernel, "bias": bias}


def _dense(inputs: int, outputs: int, bias: bool) -> dict:
    return {"stage": "dense", "inputs": inputs, "outputs": outputs, "bias": bias}


_DETECTOR = {"stage": "detector", "function": "relu"}


def _pooling(function: str, kernel: Pair) -> dict:
    return {"stage": "pooling", "function": function, "kernel": kernel}


count_parameters = Check(
    name="pooling.count_parameters",
    title="count the parameters of a list of stages",
    reference=_count_parameters,
    terms=("count",),
    cases=(
        Case("one convolution", 1, lambda draw: call([_convolution(draw, 7, 11, True)])),
        Case("no bias", 1, lambda draw: call([_convolution(draw, 3, 7, False), _dense(13, 5, False)])),
        Case(
            "a complex layer",
            1,
            lambda draw: call([_convolution(draw, 3, 5, True), _DETECTOR, _pooling("max", (2, 3))]),
        ),
        Case(
            "a whole network",
            1,
            lambda draw: call(
                [
                    _convolution(draw, 1, 7, True),
                    _DETECTOR,
                    _pooling("max", (2, 2)),
                    _convolution(draw, 7, 11, False),
                    _DETECTOR,
                    _pooling("average", (3, 2)),
                    _dense(44, 10, True),
                ]
            ),
        ),
    ),
    misconceptions=(
        Misconception(
            "pooling-window-counted",
            "The pooling window is counted as weights. Pooling takes a maximum or a mean: there is nothing "
            "to learn in it.",
            LAYER,
            partial(_count_parameters, pooling=lambda stage, channels: math.prod(stage["kernel"])),
        ),
        Misconception(
            "pooling-counted-per-channel",
            "A pooling window for each channel is counted as weights. Pooling has nothing to learn.",
            LAYER,
            partial(_count_parameters, pooling=lambda stage, channels: math.prod(stage["kernel"]) * channels),
        ),
        Misconception(
            "detector-counted",
            "The detector stage is counted with one parameter for each channel. ReLU is a fixed function.",
            LAYER,
            partial(_count_parameters, detector=lambda stage, channels: channels),
        ),
        Misconception(
            "bias-forgotten",
            "The biases are missing: one for each filter, and one for each output of a dense stage.",
            LAYER,
            _with_bias(lambda stage: {**stage, "bias": False}),
        ),
        Misconception(
            "bias-always",
            "A bias is counted where the stage says that it has none.",
            LAYER,
            _with_bias(lambda stage: {**stage, "bias": True}),
        ),
        Misconception(
            "one-bias-for-all-filters",
            "One bias is counted for a whole convolution stage; every filter has its own.",
            LAYER,
            partial(_count_parameters, convolution=_one_bias_for_all_filters),
        ),
        Misconception(
            "channels-forgotten",
            "A filter is counted as KH x KW weights. It looks at every input channel: C x KH x KW.",
            LAYER,
            partial(
                _count_parameters, convolution=lambda stage: _convolution_parameters({**stage, "channels": 1})
            ),
        ),
        Misconception(
            "square-kernel",
            "The kernel is taken for a square of its height; it may be wider or narrower than it is high.",
            LAYER,
            partial(_count_parameters, convolution=_square_kernel),
        ),
    ),
)


# --- Part 2: detector --------------------------------------------------------------------------------------


def _leaky(u: Float[Array, ...], slope: float) -> Float[Array, ...]:
    return np.where(u > 0, u, slope * u)


detector_forward = Check(
    name="pooling.detector_forward",
    title="leaky rectifier",
    reference=_leaky,
    terms=("y",),
    cases=(
        Case("slope 0, the ReLU", 0.5, lambda draw: call(draw(3, 5, 7), 0.0)),
        Case("a slope", 0.5, lambda draw: call(draw(2, 3, 5, 7), 0.25)),
        Case("another slope, float32", 1, lambda draw: call(draw(11, 3), 0.03), "float32"),
    ),
    misconceptions=(
        Misconception(
            "slope-ignored",
            "This is the plain ReLU: negative inputs should keep slope times their value.",
            RELU,
            lambda u, slope: _leaky(u, 0.0),
        ),
        Misconception(
            "absolute-value",
            "This is the absolute value, another detector: a negative input answers as strongly as a "
            "positive one.",
            RELU,
            lambda u, slope: np.abs(u),
        ),
        Misconception(
            "slope-on-the-positive-side",
            "The slope multiplies the positive inputs; it belongs to the negative ones.",
            RELU,
            lambda u, slope: np.where(u > 0, slope * u, u),
        ),
        Misconception(
            "leak-added-everywhere",
            "slope * u is added on both sides of 0, so that positive inputs grow too: that is max(u, 0) + "
            "slope * u.",
            RELU,
            lambda u, slope: np.maximum(u, 0) + slope * u,
        ),
        Misconception(
            "step",
            "This gives 1 for a positive input, which is the derivative; the rectifier lets the input "
            "itself through.",
            RELU,
            lambda u, slope: np.where(u > 0, 1, slope).astype(u.dtype),
        ),
    ),
)


def _leaky_backward(dy: Float[Array, ...], u: Float[Array, ...], slope: float) -> Float[Array, ...]:
    return np.where(u > 0, dy, slope * dy)


def _with_zeros(draw: Draw, *shape: int) -> Float[Array, ...]:
    """Small whole numbers, many of them 0."""
    return draw.rng.integers(-1, 2, shape).astype(draw.dtype)


detector_backward = Check(
    name="pooling.detector_backward",
    title="gradient of the leaky rectifier",
    reference=_leaky_backward,
    terms=("du",),
    cases=(
        Case("slope 0, the ReLU", 1, lambda draw: call(draw(3, 5, 7), draw(3, 5, 7), 0.0)),
        Case("a slope", 0.5, lambda draw: call(draw(2, 3, 5, 7), draw(2, 3, 5, 7), 0.25)),
        Case("inputs of exactly 0", 1, lambda draw: call(draw(5, 7), _with_zeros(draw, 5, 7), 0.1)),
        Case("another slope, float32", 0.5, lambda draw: call(draw(11, 3), draw(11, 3), 0.03), "float32"),
    ),
    misconceptions=(
        Misconception(
            "mask-from-dy",
            "The gate looks at the sign of dy. Whether a unit passes its gradient on was decided in the "
            "forward pass, by u.",
            RELU,
            lambda dy, u, slope: _leaky_backward(dy, dy, slope),
        ),
        Misconception(
            "slope-one-at-zero",
            "At u = 0 the gradient passes in full. The definition puts 0 on the second line, so its slope "
            "there is the small one.",
            RELU,
            lambda dy, u, slope: np.where(u >= 0, dy, slope * dy),
        ),
        Misconception(
            "dy-dropped",
            "This is the derivative of the detector alone. The chain rule multiplies it by dy; a dy of all "
            "ones would hide that.",
            RELU,
            lambda dy, u, slope: _leaky_backward(np.ones_like(dy), u, slope),
        ),
        Misconception(
            "slope-ignored",
            "Nothing flows back where u < 0: that is the plain ReLU. The leak lets slope * dy through.",
            RELU,
            lambda dy, u, slope: _leaky_backward(dy, u, 0.0),
        ),
        Misconception(
            "forward-times-dy",
            "dy is multiplied by the detector's output. It needs the detector's derivative: 1 or slope.",
            RELU,
            lambda dy, u, slope: dy * _leaky(u, slope),
        ),
        Misconception(
            "detector-skipped",
            "dy comes back unchanged, as if there were no detector: where u < 0 it is multiplied by slope.",
            RELU,
            lambda dy, u, slope: dy.copy(),
        ),
    ),
)


# --- Parts 3 and 4: windows --------------------------------------------------------------------------------

# (N, C, H, W), kernel, stride, padding; each leaves room for kernel or stride turned by 90 degrees.
SIDE_BY_SIDE = (2, 3, 7, 11), (2, 3), (2, 3), (0, 0)
OVERLAPPING = (2, 3, 5, 7), (3, 2), (1, 1), (0, 0)
GAPS = (3, 2, 11, 7), (2, 1), (3, 2), (0, 0)
PADDED = (2, 3, 11, 13), (3, 5), (2, 3), (1, 2)
ONE_PIXEL_STEPS = (3, 1, 5, 7), (3, 2), (1, 2), (1, 1)


def _see(
    x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair, fill: float = 0.0
) -> Float[Array, "N C HO WO KH KW"]:
    """Every window, with fill where it leaves the image."""
    return windows(pad(x, tuple((p, p) for p in padding), value=fill), kernel, stride=stride)


def _add(target: Array, share: Array) -> None:
    target += share


def _assign(target: Array, share: Array) -> None:
    target[...] = share


def _assign_winners(target: Array, share: Array) -> None:
    np.copyto(target, share, where=share != 0)


def _give_back(
    shares: Float[Array, "N C HO WO KH KW"],
    size: Pair,
    stride: Pair,
    padding: Pair,
    write: Callable[[Array, Array], None] = _add,
) -> Float[Array, "N C H W"]:
    """What every window gives to its pixels, window by window, with the padding cut off."""
    (H, W), (SH, SW), (PH, PW) = size, stride, padding
    N, C, HO, WO, KH, KW = shares.shape
    padded = np.zeros((N, C, H + 2 * PH, W + 2 * PW), shares.dtype)
    for i, j in np.ndindex(HO, WO):
        write(padded[:, :, i * SH : i * SH + KH, j * SW : j * SW + KW], shares[:, :, i, j])
    return padded[:, :, PH : PH + H, PW : PW + W]


def _overwrite_by_offset(
    shares: Float[Array, "N C HO WO KH KW"],
    size: Pair,
    stride: Pair,
    padding: Pair,
    write: Callable[[Array, Array], None] = _assign,
) -> Float[Array, "N C H W"]:
    """The same with the loop over the offsets inside the window, and an assignment in it."""
    (H, W), (SH, SW), (PH, PW) = size, stride, padding
    N, C, HO, WO, KH, KW = shares.shape
    padded = np.zeros((N, C, H + 2 * PH, W + 2 * PW), shares.dtype)
    for k, l in np.ndindex(KH, KW):
        write(padded[:, :, k : k + SH * HO : SH, l : l + SW * WO : SW], shares[..., k, l])
    return padded[:, :, PH : PH + H, PW : PW + W]


def _crop_negative(
    shares: Float[Array, "N C HO WO KH KW"], size: Pair, stride: Pair, padding: Pair
) -> Float[Array, "N C H W"]:
    """Cut the padding off with [p:-p], which leaves nothing when p is 0."""
    (H, W), (PH, PW) = size, padding
    padded = _give_back(shares, (H + 2 * PH, W + 2 * PW), stride, (0, 0))
    return padded[:, :, PH:-PH, PW:-PW]


def _crop_after(
    shares: Float[Array, "N C HO WO KH KW"], size: Pair, stride: Pair, padding: Pair
) -> Float[Array, "N C H W"]:
    """Cut off all of the padding at the bottom and on the right."""
    (H, W), (PH, PW) = size, padding
    return _give_back(shares, (H + 2 * PH, W + 2 * PW), stride, (0, 0))[:, :, :H, :W]


def _upstream(
    draw: Draw, shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair
) -> Float[Array, "N C HO WO"]:
    return draw(*shape[:2], *output_size(shape[2:], kernel, stride=stride, padding=padding))


# --- Part 3: max pooling -----------------------------------------------------------------------------------


def _max_pool(
    x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair
) -> Float[Array, "N C HO WO"]:
    return max_pool2d_forward(x, kernel, stride=stride, padding=padding)[0]


def _largest(views: Float[Array, "N C HO WO KH KW"]) -> Float[Array, "N C HO WO"]:
    return views.max(axis=(-2, -1))


def _pad_before_only(
    x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair
) -> Float[Array, "N C HO WO"]:
    return _largest(windows(pad(x, tuple((p, 0) for p in padding), value=-np.inf), kernel, stride=stride))


def _negative(draw: Draw, *shape: int) -> Float[Array, ...]:
    return -1 - np.abs(draw(*shape))


def _very_negative(draw: Draw, *shape: int) -> Float[Array, ...]:
    """Below any number that one might call low enough for padding."""
    return 1e9 * _negative(draw, *shape)


def _pooled(place: tuple, pixels: Callable = Draw.__call__) -> Callable[[Draw], Arguments]:
    """The call of a pooling function at a place, on pixels of some kind."""
    shape, *rest = place
    return lambda draw: call(pixels(draw, *shape), *rest)


max_pool_forward = Check(
    name="pooling.max_pool_forward",
    title="max pooling",
    reference=_max_pool,
    terms=("y",),
    cases=(
        Case("windows side by side", 1, _pooled(SIDE_BY_SIDE)),
        Case("overlapping windows", 1, _pooled(OVERLAPPING)),
        Case("gaps between windows", 1, _pooled(GAPS)),
        Case("padding around negative pixels", 1, _pooled(PADDED, _very_negative)),
        Case("padding and overlap, float32", 1, _pooled(ONE_PIXEL_STEPS), "float32"),
    ),
    misconceptions=(
        Misconception(
            "zeros-win",
            "The padding is 0 and wins against negative pixels. A value that can never be the largest is "
            "-inf.",
            MAX,
            lambda x, kernel, stride, padding: _largest(_see(x, kernel, stride, padding)),
        ),
        Misconception(
            "low-number-wins",
            "The padding is a low number, and some pixels are lower still. Nothing is lower than -inf.",
            MAX,
            lambda x, kernel, stride, padding: _largest(_see(x, kernel, stride, padding, -1e4)),
        ),
        Misconception(
            "stride-is-kernel",
            "The windows lie side by side whatever the stride: a step is taken to be as long as the kernel.",
            SIZE,
            lambda x, kernel, stride, padding: _max_pool(x, kernel, kernel, padding),
        ),
        Misconception(
            "kernel-turned",
            "Height and width of the kernel are exchanged: a window is KH pixels high and KW wide.",
            MAX,
            lambda x, kernel, stride, padding: _largest(_see(x, kernel[::-1], stride, padding, -np.inf)),
        ),
        Misconception(
            "stride-turned",
            "The two strides are exchanged: the first goes down, along H, the second across, along W.",
            SIZE,
            lambda x, kernel, stride, padding: _max_pool(x, kernel, stride[::-1], padding),
        ),
        Misconception(
            "one-window-short",
            "The last window of each axis is missing: the number of steps lacks the + 1 for the window "
            "before the first step.",
            SIZE,
            lambda x, kernel, stride, padding: _max_pool(x, kernel, stride, padding)[:, :, :-1, :-1],
        ),
        Misconception(
            "padding-ignored",
            "The windows start inside the image: the padding is not used.",
            SIZE,
            lambda x, kernel, stride, padding: _max_pool(x, kernel, stride, (0, 0)),
        ),
        Misconception(
            "padding-before-only",
            "The padding is added above and on the left only; it belongs on both sides.",
            SIZE,
            _pad_before_only,
        ),
        Misconception(
            "running-maximum-from-zero",
            "No output is below 0: a running maximum that starts from 0 never goes down. Start from -inf.",
            MAX,
            lambda x, kernel, stride, padding: np.maximum(_max_pool(x, kernel, stride, padding), 0),
        ),
        Misconception(
            "mean",
            "This is the mean of each window, not its largest value.",
            MAX,
            lambda x, kernel, stride, padding: _see(x, kernel, stride, padding).mean(axis=(-2, -1)),
        ),
        Misconception(
            "largest-magnitude",
            "The value that is largest in magnitude is kept; -5 is not larger than 3.",
            MAX,
            lambda x, kernel, stride, padding: _largest(np.abs(_see(x, kernel, stride, padding))),
        ),
    ),
)


def _max_pool_backward(
    dy: Float[Array, "N C HO WO"], x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair
) -> Float[Array, "N C H W"]:
    return max_pool2d_backward(dy, max_pool2d_forward(x, kernel, stride=stride, padding=padding)[1])


def _first(views: Float[Array, "N C HO WO KH KW"]) -> Float[Array, "N C HO WO KH KW"]:
    """1 at the first of the largest pixels of each window in reading order, 0 elsewhere."""
    flat = views.reshape(*views.shape[:-2], -1)
    winner = flat.argmax(axis=-1)[..., None] == np.arange(flat.shape[-1])
    return winner.reshape(views.shape).astype(views.dtype)


def _last(views: Float[Array, "N C HO WO KH KW"]) -> Float[Array, "N C HO WO KH KW"]:
    return _first(views[..., ::-1, ::-1])[..., ::-1, ::-1]


def _first_by_columns(views: Float[Array, "N C HO WO KH KW"]) -> Float[Array, "N C HO WO KH KW"]:
    return _first(views.swapaxes(-2, -1)).swapaxes(-2, -1)


def _every(views: Float[Array, "N C HO WO KH KW"]) -> Float[Array, "N C HO WO KH KW"]:
    return (views == views.max(axis=(-2, -1), keepdims=True)).astype(views.dtype)


def _shared(views: Float[Array, "N C HO WO KH KW"]) -> Float[Array, "N C HO WO KH KW"]:
    return _every(views) / _every(views).sum(axis=(-2, -1), keepdims=True)


def _wrong_max_backward(
    *, winner: Callable[[Array], Array] = _first, give: Callable = _give_back, fill: float = -np.inf
) -> Callable[..., Array]:
    """Max pooling's gradient with one step replaced; with none replaced it is the right one."""

    def backward(
        dy: Float[Array, "N C HO WO"], x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair
    ) -> Float[Array, "N C H W"]:
        shares = dy[..., None, None] * winner(_see(x, kernel, stride, padding, fill))
        return give(shares, x.shape[2:], stride, padding)

    return backward


def _pooled_back(place: tuple, pixels: Callable = Draw.__call__) -> Callable[[Draw], Arguments]:
    shape, *rest = place
    return lambda draw: call(_upstream(draw, *place), pixels(draw, *shape), *rest)


_SEVERAL_WINDOWS = (
    "A pixel that wins several windows keeps the gradient of one: '=' (or '+=' with repeated indices) "
    "overwrites. Add them up."
)

max_pool_backward = Check(
    name="pooling.max_pool_backward",
    title="gradient of max pooling",
    reference=_max_pool_backward,
    terms=("dx",),
    cases=(
        Case("windows side by side", 1, _pooled_back(SIDE_BY_SIDE)),
        Case("overlapping windows", 1, _pooled_back(OVERLAPPING)),
        Case("ties", 1, _pooled_back(SIDE_BY_SIDE, _with_zeros)),
        Case("padding around negative pixels", 1, _pooled_back(PADDED, _negative)),
        Case("padding and overlap, float32", 1, _pooled_back(ONE_PIXEL_STEPS), "float32"),
    ),
    misconceptions=(
        Misconception(
            "overwrites-winners",
            _SEVERAL_WINDOWS,
            BACKWARD,
            _wrong_max_backward(give=partial(_give_back, write=_assign_winners)),
        ),
        Misconception(
            "overwrites-windows",
            "Each window overwrites all of its pixels, with zeros too, and wipes out what earlier windows "
            "gave: add instead.",
            BACKWARD,
            _wrong_max_backward(give=partial(_give_back, write=_assign)),
        ),
        Misconception(
            "overwrites-by-offset",
            "Each offset inside the window overwrites its slice of dx, so that only one window's gradient "
            "is left: add instead.",
            BACKWARD,
            _wrong_max_backward(give=_overwrite_by_offset),
        ),
        Misconception(
            "overwrites-winners-by-offset",
            "A pixel that wins at several offsets keeps only the last gradient: add them up.",
            BACKWARD,
            _wrong_max_backward(give=partial(_overwrite_by_offset, write=_assign_winners)),
        ),
        Misconception(
            "all-ties",
            "Every pixel that equals the maximum receives the whole gradient; only the first in reading "
            "order does.",
            BACKWARD,
            _wrong_max_backward(winner=_every),
        ),
        Misconception(
            "ties-share",
            "Tied pixels share the gradient. That is a choice one can defend; here the first in reading "
            "order takes all.",
            BACKWARD,
            _wrong_max_backward(winner=_shared),
        ),
        Misconception(
            "last-tie",
            "Of tied pixels the last receives the gradient (>= instead of > in the comparison?); it should "
            "be the first.",
            BACKWARD,
            _wrong_max_backward(winner=_last),
        ),
        Misconception(
            "ties-by-columns",
            "Ties are broken column by column; reading order goes row by row.",
            BACKWARD,
            _wrong_max_backward(winner=_first_by_columns),
        ),
        Misconception(
            "dy-dropped",
            "This marks (or counts) the winners; the chain rule multiplies by dy. A dy of all ones would "
            "hide that.",
            BACKWARD,
            lambda dy, *rest: _max_pool_backward(np.ones_like(dy), *rest),
        ),
        Misconception(
            "whole-window",
            "Every pixel of a window receives its gradient; only the one that won moved the output.",
            BACKWARD,
            _wrong_max_backward(winner=np.ones_like),
        ),
        Misconception(
            "zeros-win",
            "With a padding of 0 the border wins against negative pixels and their gradient is lost: pad "
            "with -inf.",
            BACKWARD,
            _wrong_max_backward(fill=0.0),
        ),
        Misconception(
            "crop-after",
            "The padding is cut off at the bottom and on the right only; dx starts PH rows and PW columns "
            "into it.",
            BACKWARD,
            _wrong_max_backward(give=_crop_after),
        ),
        Misconception(
            "crop-with-minus-zero",
            "[p:-p] cuts off the padding, but for p = 0 it is [0:0], which is empty. Write p : p + H.",
            BACKWARD,
            _wrong_max_backward(give=_crop_negative),
        ),
    ),
)


# --- Part 4: average pooling -------------------------------------------------------------------------------


def _average_pool(
    x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair, count_padding: bool
) -> Float[Array, "N C HO WO"]:
    return avg_pool2d_forward(x, kernel, stride=stride, padding=padding, count_include_pad=count_padding)[0]


def _sums(x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair) -> Float[Array, "N C HO WO"]:
    return _see(x, kernel, stride, padding).sum(axis=(-2, -1))


def _mean_of_nonzero(
    x: Float[Array, "N C H W"], kernel: Pair, stride: Pair, padding: Pair, count_padding: bool
) -> Float[Array, "N C HO WO"]:
    if count_padding:
        return _average_pool(x, kernel, stride, padding, True)
    counts = _sums((x != 0).astype(x.dtype), kernel, stride, padding)
    return _sums(x, kernel, stride, padding) / np.maximum(counts, 1)


def _averaged(
    place: tuple, count_padding: bool, pixels: Callable = Draw.__call__
) -> Callable[[Draw], Arguments]:
    shape, *rest = place
    return lambda draw: call(pixels(draw, *shape), *rest, count_padding)


average_pool_forward = Check(
    name="pooling.average_pool_forward",
    title="average pooling, with and without the padding",
    reference=_average_pool,
    terms=("y",),
    cases=(
        Case("no padding", 1, _averaged(SIDE_BY_SIDE, True)),
        Case("padding counts", 1, _averaged(PADDED, True)),
        Case("padding does not count, some pixels 0", 1, _averaged(PADDED, False, _with_zeros)),
        Case("padding does not count, float32", 1, _averaged(ONE_PIXEL_STEPS, False), "float32"),
    ),
    misconceptions=(
        Misconception(
            "padding-always-counts",
            "At the border a window is divided by KH x KW although count_padding is False: divide by its "
            "pixels in the image.",
            AVERAGE,
            lambda x, kernel, stride, padding, count_padding: _average_pool(x, kernel, stride, padding, True),
        ),
        Misconception(
            "padding-never-counts",
            "At the border a window is divided by its pixels in the image although count_padding is True: "
            "divide by KH x KW.",
            AVERAGE,
            lambda x, kernel, stride, padding, count_padding: _average_pool(
                x, kernel, stride, padding, False
            ),
        ),
        Misconception(
            "flag-inverted",
            "count_padding does the opposite of what it says.",
            AVERAGE,
            lambda x, kernel, stride, padding, count_padding: _average_pool(
                x, kernel, stride, padding, not count_padding
            ),
        ),
        Misconception(
            "sum",
            "This is the sum of each window: divide by the number of its pixels.",
            AVERAGE,
            lambda x, kernel, stride, padding, count_padding: _sums(x, kernel, stride, padding),
        ),
        Misconception(
            "square-divisor",
            "The divisor is the square of the kernel's height; the window has KH x KW pixels.",
            AVERAGE,
            lambda x, kernel, stride, padding, count_padding: (
                _sums(x, kernel, stride, padding) / kernel[0] ** 2
            ),
        ),
        Misconception(
            "zeros-left-out",
            "Padding and pixels that happen to be 0 are told apart by value; count positions, not non-zero "
            "entries.",
            AVERAGE,
            _mean_of_nonzero,
        ),
        Misconception(
            "padding-ignored",
            "The windows start inside the image: the padding is not used.",
            SIZE,
            lambda x, kernel, stride, padding, count_padding: _average_pool(x, kernel, stride, (0, 0), True),
        ),
        Misconception(
            "stride-is-kernel",
            "The windows lie side by side whatever the stride: a step is taken to be as long as the kernel.",
            SIZE,
            lambda x, kernel, stride, padding, count_padding: _average_pool(
                x, kernel, kernel, padding, count_padding
            ),
        ),
    ),
)


def _average_pool_backward(
    dy: Float[Array, "N C HO WO"], size: Pair, kernel: Pair, stride: Pair, padding: Pair, count_padding: bool
) -> Float[Array, "N C H W"]:
    image = np.zeros((*dy.shape[:2], *size), dy.dtype)
    options = {"stride": stride, "padding": padding, "count_include_pad": count_padding}
    return avg_pool2d_backward(dy, avg_pool2d_forward(image, kernel, **options)[1])


def _area(size: Pair, kernel: Pair, stride: Pair, padding: Pair, count_padding: bool) -> Array | int:
    """The number that each window is divided by."""
    return kernel[0] * kernel[1] if count_padding else _sums(np.ones((1, 1, *size)), kernel, stride, padding)


def _wrong_average_backward(
    *, divisor: Callable = _area, give: Callable = _give_back
) -> Callable[..., Array]:
    """Average pooling's gradient with one step replaced; with none replaced it is the right one."""

    def backward(
        dy: Float[Array, "N C HO WO"],
        size: Pair,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_padding: bool,
    ) -> Float[Array, "N C H W"]:
        share = (dy / divisor(size, kernel, stride, padding, count_padding)).astype(dy.dtype)
        shares = np.broadcast_to(share[..., None, None], (*share.shape, *kernel))
        return give(shares, size, stride, padding)

    return backward


def _averaged_back(place: tuple, count_padding: bool) -> Callable[[Draw], Arguments]:
    shape, *rest = place
    return lambda draw: call(_upstream(draw, *place), shape[2:], *rest, count_padding)


average_pool_backward = Check(
    name="pooling.average_pool_backward",
    title="gradient of average pooling",
    reference=_average_pool_backward,
    terms=("dx",),
    cases=(
        Case("no padding", 1, _averaged_back(SIDE_BY_SIDE, True)),
        Case("padding counts", 1, _averaged_back(PADDED, True)),
        Case("padding does not count", 1, _averaged_back(PADDED, False)),
        Case("padding does not count, float32", 1, _averaged_back(ONE_PIXEL_STEPS, False), "float32"),
    ),
    misconceptions=(
        Misconception(
            "padding-always-counts",
            "At the border the share is dy / (KH x KW) although count_padding is False: divide by the "
            "pixels in the image.",
            BACKWARD,
            _wrong_average_backward(divisor=lambda *place: _area(*place[:-1], True)),
        ),
        Misconception(
            "padding-never-counts",
            "At the border dy is divided by the pixels in the image although count_padding is True: divide "
            "by KH x KW.",
            BACKWARD,
            _wrong_average_backward(divisor=lambda *place: _area(*place[:-1], False)),
        ),
        Misconception(
            "flag-inverted",
            "count_padding does the opposite of what it says.",
            BACKWARD,
            _wrong_average_backward(divisor=lambda *place: _area(*place[:-1], not place[-1])),
        ),
        Misconception(
            "not-divided",
            "Each pixel receives the whole dy of its windows. The mean has a factor 1 / count, and so has "
            "its gradient.",
            BACKWARD,
            _wrong_average_backward(divisor=lambda *place: 1),
        ),
        Misconception(
            "square-divisor",
            "The divisor is the square of the kernel's height; the window has KH x KW pixels.",
            BACKWARD,
            _wrong_average_backward(divisor=lambda size, kernel, *rest: kernel[0] ** 2),
        ),
        Misconception(
            "dy-dropped",
            "This is the share of each window without its dy: the chain rule multiplies. A dy of all ones "
            "would hide that.",
            BACKWARD,
            lambda dy, *rest: _average_pool_backward(np.ones_like(dy), *rest),
        ),
        Misconception(
            "overwrites-windows",
            "A pixel in several windows keeps the share of the last one: '=' overwrites where '+=' adds up.",
            BACKWARD,
            _wrong_average_backward(give=partial(_give_back, write=_assign)),
        ),
        Misconception(
            "overwrites-by-offset",
            "Each offset inside the window overwrites its slice of dx: '=' where '+=' adds up.",
            BACKWARD,
            _wrong_average_backward(give=_overwrite_by_offset),
        ),
        Misconception(
            "crop-after",
            "The padding is cut off at the bottom and on the right only; dx starts PH rows and PW columns "
            "into it.",
            BACKWARD,
            _wrong_average_backward(give=_crop_after),
        ),
        Misconception(
            "crop-with-minus-zero",
            "[p:-p] cuts off the padding, but for p = 0 it is [0:0], which is empty. Write p : p + H.",
            BACKWARD,
            _wrong_average_backward(give=_crop_negative),
        ),
    ),
)


# --- Part 5: L_p pooling -----------------------------------------------------------------------------------


def _lp_pool_backward(
    dy: Float[Array, "N C TO"],
    x: Float[Array, "N C T"],
    y: Float[Array, "N C TO"],
    kernel: int,
    stride: int,
    p: float,
) -> Float[Array, "N C T"]:
    return lp_pool1d_backward(dy, lp_pool1d_forward(x, kernel, p=p, stride=stride)[1])


def _root_slope(y: Float[Array, "N C TO"], p: float) -> Float[Array, "N C TO"]:
    """y^(1 - p), with 0 for a window of zeros."""
    return np.where(y > 0, np.where(y > 0, y, 1) ** (1 - p), 0)


def _power_slope(x: Float[Array, "N C T"], p: float) -> Float[Array, "N C T"]:
    return np.sign(x) * np.abs(x) ** (p - 1)


def _wrong_lp_backward(
    *,
    outer: Callable = _root_slope,
    inner: Callable = _power_slope,
    factor: Callable = lambda p: 1,
    write: Callable = _add,
) -> Callable[..., Array]:
    """dx = dy outer(y) inner(x) factor(p), summed over the windows that see x."""

    def backward(
        dy: Float[Array, "N C TO"],
        x: Float[Array, "N C T"],
        y: Float[Array, "N C TO"],
        kernel: int,
        stride: int,
        p: float,
    ) -> Float[Array, "N C T"]:
        share, slope = dy * outer(y, p) * factor(p), inner(x, p)
        dx = np.zeros_like(x)
        for k in range(kernel):
            seen = slice(k, k + stride * dy.shape[2], stride)
            write(dx[:, :, seen], share * slope[:, :, seen])
        return dx

    return backward


def _lp_case(
    shape: tuple[int, int, int], kernel: int, stride: int, p: float, silent: bool = False
) -> Callable:
    """The call on a signal; where silent, the first window of every channel is all zeros."""

    def arguments(draw: Draw) -> Arguments:
        x = draw(*shape)
        if silent:
            x[:, :, :kernel] = 0
        y = lp_pool1d_forward(x, kernel, p=p, stride=stride)[0]
        return call(draw(*y.shape), x, y, kernel, stride, p)

    return arguments


lp_pool_backward = Check(
    name="pooling.lp_pool_backward",
    title="gradient of L_p pooling",
    reference=_lp_pool_backward,
    terms=("dx",),
    cases=(
        Case("p = 2, windows side by side", 1, _lp_case((2, 3, 10), 5, 5, 2.0)),
        Case("p = 3, overlapping windows", 1, _lp_case((3, 2, 11), 3, 1, 3.0)),
        Case("p = 2.5, float32", 1, _lp_case((5, 3, 11), 2, 3, 2.5), "float32"),
        Case("a window of zeros", 1, _lp_case((3, 2, 11), 2, 3, 2.0, silent=True)),
    ),
    misconceptions=(
        Misconception(
            "sign-dropped",
            "The sign of x is missing: a negative x that grows towards 0 makes y smaller.",
            BACKWARD,
            _wrong_lp_backward(inner=lambda x, p: np.abs(x) ** (p - 1)),
        ),
        Misconception(
            "power-of-signed-x",
            "x itself is raised to p - 1. An even power loses the sign and a fractional one gives nan: "
            "sign(x) |x|^(p - 1).",
            BACKWARD,
            _wrong_lp_backward(inner=lambda x, p: x ** (p - 1)),
        ),
        Misconception(
            "root-forgotten",
            "This is the gradient of the sum of powers without its p-th root: the chain rule brings y^(1 - "
            "p) / p with it.",
            BACKWARD,
            _wrong_lp_backward(outer=lambda y, p: y > 0, factor=lambda p: p),
        ),
        Misconception(
            "y-forgotten",
            "The factor 1 / y^(p - 1) is missing: a window's gradient does not grow with the scale of the "
            "signal.",
            BACKWARD,
            _wrong_lp_backward(outer=lambda y, p: y > 0),
        ),
        Misconception(
            "factor-p",
            "A factor p is left over: the p of the power cancels with the 1 / p of the root.",
            BACKWARD,
            _wrong_lp_backward(factor=lambda p: p),
        ),
        Misconception(
            "factor-one-over-p",
            "A factor 1 / p is left over: the 1 / p of the root cancels with the p of the power.",
            BACKWARD,
            _wrong_lp_backward(factor=lambda p: 1 / p),
        ),
        Misconception(
            "small-number-added",
            "A small number is added to y, which changes every gradient a little: treat windows with y = 0 "
            "apart (np.where).",
            BACKWARD,
            _wrong_lp_backward(outer=lambda y, p: (y + 1e-8) ** (1 - p)),
        ),
        Misconception(
            "zero-by-zero",
            "A window of zeros gives 0 / 0 = nan. Its y is 0: let it pass on nothing.",
            BACKWARD,
            _wrong_lp_backward(outer=lambda y, p: 1 / y ** (p - 1)),
        ),
        Misconception(
            "always-squares",
            "This is right for p = 2 only: the exponent is p - 1.",
            BACKWARD,
            _wrong_lp_backward(outer=lambda y, p: _root_slope(y, 2), inner=lambda x, p: x),
        ),
        Misconception(
            "dy-dropped",
            "This is the derivative of y alone; the chain rule multiplies by dy. A dy of all ones would "
            "hide that.",
            BACKWARD,
            lambda dy, *rest: _lp_pool_backward(np.ones_like(dy), *rest),
        ),
        Misconception(
            "overwrites",
            "A value in several windows keeps one share: '=' overwrites where '+=' adds up.",
            BACKWARD,
            _wrong_lp_backward(write=_assign),
        ),
    ),
)


# --- Part 6: the complex layer -----------------------------------------------------------------------------


def _relu(u: Float[Array, ...]) -> Float[Array, ...]:
    return np.maximum(u, 0)


def _squares(a: Float[Array, "N C H W"], pool: int) -> Float[Array, "N C HO WO pool pool"]:
    return windows(a, (pool, pool), stride=pool)


def _mean_of_squares(a: Float[Array, "N C H W"], pool: int) -> Float[Array, "N C HO WO"]:
    return _squares(a, pool).mean(axis=(-2, -1))


def _complex_layer(
    x: Float[Array, "N C H W"], w: Float[Array, "F C KH KW"], b: Float[Array, " F"], pool: int
) -> Float[Array, "N F HO WO"]:
    return _mean_of_squares(_relu(conv2d_forward(x, w, b)[0]), pool)


def _layer_case(images: int, channels: int, filters: int, kernel: Pair, out: Pair, pool: int) -> Callable:
    """A layer whose pooled output has the size out."""
    size = tuple(pool * o + k - 1 for o, k in zip(out, kernel, strict=True))
    return lambda draw: call(
        draw(images, channels, *size), draw(filters, channels, *kernel), 2 * draw(filters), pool
    )


complex_layer = Check(
    name="pooling.complex_layer",
    title="convolution, detector and pooling stage in order",
    reference=_complex_layer,
    terms=("y",),
    cases=(
        Case("one pixel pools", 1, _layer_case(2, 3, 5, (3, 2), (7, 5), 1)),
        Case("two by two", 1, _layer_case(3, 2, 5, (2, 3), (3, 1), 2)),
        Case("three by three, float32", 2, _layer_case(2, 3, 7, (3, 5), (1, 2), 3), "float32"),
    ),
    misconceptions=(
        Misconception(
            "activation-before-bias",
            "The bias is added after the ReLU. It belongs to the convolution stage: it decides how much "
            "response counts.",
            STAGES,
            lambda x, w, b, pool: _mean_of_squares(_relu(conv2d_forward(x, w)[0]), pool) + b[:, None, None],
        ),
        Misconception(
            "pooling-before-detector",
            "Pooling comes before the ReLU. With a maximum that would be the same; a mean mixes in the "
            "negative values.",
            STAGES,
            lambda x, w, b, pool: _relu(_mean_of_squares(conv2d_forward(x, w, b)[0], pool)),
        ),
        Misconception(
            "detector-first",
            "The ReLU is applied to the image: the order is convolution, detector, pooling.",
            STAGES,
            lambda x, w, b, pool: _mean_of_squares(conv2d_forward(_relu(x), w, b)[0], pool),
        ),
        Misconception(
            "detector-missing",
            "There is no detector stage: without it, two such layers in a row are one linear map.",
            STAGES,
            lambda x, w, b, pool: _mean_of_squares(conv2d_forward(x, w, b)[0], pool),
        ),
        Misconception(
            "bias-missing",
            "The bias is not used. The given convolution adds none; add b for each filter.",
            STAGES,
            lambda x, w, b, pool: _complex_layer(x, w, np.zeros_like(b), pool),
        ),
        Misconception(
            "bias-subtracted",
            "The bias is subtracted, like a threshold; by convention it is added.",
            STAGES,
            lambda x, w, b, pool: _complex_layer(x, w, -b, pool),
        ),
        Misconception(
            "max-for-mean",
            "The pooling stage takes the largest value; the task asks for the mean.",
            AVERAGE,
            lambda x, w, b, pool: _largest(_squares(_relu(conv2d_forward(x, w, b)[0]), pool)),
        ),
        Misconception(
            "sum-for-mean",
            "The pooling stage takes the sum; the task asks for the mean.",
            AVERAGE,
            lambda x, w, b, pool: _complex_layer(x, w, b, pool) * pool**2,
        ),
        Misconception(
            "kernel-flipped",
            "The kernel is turned by 180 degrees, as in mathematics' convolution; the given one does not "
            "flip.",
            "convolution/arithmetic#eq-conv-forward",
            lambda x, w, b, pool: _complex_layer(x, w[:, :, ::-1, ::-1].copy(), b, pool),
        ),
    ),
)


# --- Part 6: softmax and cross-entropy ---------------------------------------------------------------------


def _softmax(z: Float[Array, "N K"], axis: int = 1) -> Float[Array, "N K"]:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(z: Float[Array, "N K"], axis: int = 1) -> Float[Array, "N K"]:
    shifted = z - z.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _unshifted(z: Float[Array, "N K"]) -> Float[Array, "N K"]:
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def _targets(z: Float[Array, "N K"], labels: Array, smoothing: float) -> Float[Array, "N K"]:
    q = np.full_like(z, smoothing / z.shape[1])
    q[np.arange(len(z)), labels] += 1 - smoothing
    return q


def _targets_among_others(z: Float[Array, "N K"], labels: Array, smoothing: float) -> Float[Array, "N K"]:
    q = np.full_like(z, smoothing / (z.shape[1] - 1))
    q[np.arange(len(z)), labels] = 1 - smoothing
    return q


def _hard_targets(z: Float[Array, "N K"], labels: Array, smoothing: float) -> Float[Array, "N K"]:
    return _targets(z, labels, 0.0)


def _targets_in_every_row(z: Float[Array, "N K"], labels: Array, smoothing: float) -> Float[Array, "N K"]:
    """What q[:, labels] += ... does: every row gets every label of the batch."""
    q = np.full_like(z, smoothing / z.shape[1])
    q[:, labels] += 1 - smoothing
    return q


def _cross_entropy(
    z: Float[Array, "N K"],
    labels: Array,
    smoothing: float,
    *,
    log_p: Callable = _log_softmax,
    targets: Callable = _targets,
    count: Callable = len,
) -> float:
    return -float((targets(z, labels, smoothing) * log_p(z)).sum() / count(z))


def _cross_entropy_backward(
    z: Float[Array, "N K"],
    labels: Array,
    smoothing: float,
    *,
    p: Callable = _softmax,
    targets: Callable = _targets,
    count: Callable = len,
) -> Float[Array, "N K"]:
    return (p(z) - targets(z, labels, smoothing)) / count(z)


def _scores(
    N: int, K: int, smoothing: float, scale: float = 1.0, shift: float = 0.0
) -> Callable[[Draw], Arguments]:
    """Scores of N images and K classes around shift, with a label for each."""
    return lambda draw: call(
        (shift + scale * draw(N, K)).astype(draw.dtype), draw.rng.integers(K, size=N), smoothing
    )


cross_entropy_forward = Check(
    name="pooling.cross_entropy_forward",
    title="cross-entropy of scores",
    reference=_cross_entropy,
    terms=("loss",),
    cases=(
        Case("no smoothing", 1, _scores(5, 3, 0.0)),
        Case("one image", 0.5, _scores(1, 7, 0.0)),
        Case("smoothing", 1, _scores(11, 5, 0.2)),
        Case("scores near 1000", 0.75, _scores(7, 5, 0.0, shift=1000.0)),
        Case("scores thousands apart", 0.75, _scores(5, 7, 0.1, scale=3000.0)),
    ),
    misconceptions=(
        Misconception(
            "softmax-over-the-batch",
            "The softmax runs over the images of the batch (axis 0); the probabilities of one image's "
            "classes sum to 1.",
            SOFTMAX,
            partial(_cross_entropy, log_p=partial(_log_softmax, axis=0)),
        ),
        Misconception(
            "softmax-over-everything",
            "The softmax runs over the whole array; the probabilities of each image's classes sum to 1.",
            SOFTMAX,
            partial(_cross_entropy, log_p=partial(_log_softmax, axis=None)),
        ),
        Misconception(
            "sum-for-mean",
            "The losses of the batch are summed; divide by N, or the step grows with the batch.",
            LOSS,
            partial(_cross_entropy, count=lambda z: 1),
        ),
        Misconception(
            "mean-over-classes-too",
            "The mean is taken over all N x K entries (np.mean of the products?); only the images are "
            "averaged.",
            LOSS,
            partial(_cross_entropy, count=np.size),
        ),
        Misconception(
            "not-shifted",
            "exp of large scores overflows and inf / inf is nan: subtract each row's largest score first.",
            SOFTMAX,
            partial(_cross_entropy, log_p=lambda z: np.log(_unshifted(z))),
        ),
        Misconception(
            "log-sum-exp-not-shifted",
            "exp of large scores overflows, so that the log of their sum is inf: subtract each row's "
            "largest score first.",
            SOFTMAX,
            partial(_cross_entropy, log_p=lambda z: z - np.log(np.exp(z).sum(axis=1, keepdims=True))),
        ),
        Misconception(
            "log-of-zero",
            "A probability too small for a float is 0 and its log is -inf: take the log of the formula, not "
            "of its result.",
            SOFTMAX,
            partial(_cross_entropy, log_p=lambda z: np.log(_softmax(z))),
        ),
        Misconception(
            "small-number-added",
            "log(p + 1e-12) stops at -27.6, however wrong the answer is: take the log of the formula, not of "
            "its result.",
            SOFTMAX,
            partial(_cross_entropy, log_p=lambda z: np.log(_softmax(z) + 1e-12)),
        ),
        Misconception(
            "softmax-twice",
            "The softmax is applied to probabilities once more, which flattens them.",
            SOFTMAX,
            partial(_cross_entropy, log_p=lambda z: _log_softmax(_softmax(z))),
        ),
        Misconception(
            "sign",
            "The sign is missing: logarithms of probabilities are negative, a loss is not.",
            LOSS,
            lambda z, labels, smoothing: -_cross_entropy(z, labels, smoothing),
        ),
        Misconception(
            "smoothing-ignored",
            "The smoothing is not used: the right class's target is 1 - epsilon + epsilon / K.",
            LOSS,
            partial(_cross_entropy, targets=_hard_targets),
        ),
        Misconception(
            "smoothing-among-the-others",
            "epsilon is shared among the K - 1 wrong classes; here all K classes get epsilon / K, the right "
            "one included.",
            LOSS,
            partial(_cross_entropy, targets=_targets_among_others),
        ),
    ),
)

cross_entropy_backward = Check(
    name="pooling.cross_entropy_backward",
    title="gradient of the cross-entropy",
    reference=_cross_entropy_backward,
    terms=("dz",),
    cases=(
        Case("no smoothing", 1, _scores(5, 3, 0.0)),
        Case("one image", 0.5, _scores(1, 7, 0.0)),
        Case("smoothing, float32", 1, _scores(3, 11, 0.2), "float32"),
        Case("scores near 1000", 0.5, _scores(7, 5, 0.0, shift=1000.0)),
    ),
    misconceptions=(
        Misconception(
            "sum-for-mean",
            "This is the gradient of the sum over the batch; the loss is a mean, so divide by N.",
            LOSS_BACKWARD,
            partial(_cross_entropy_backward, count=lambda z: 1),
        ),
        Misconception(
            "mean-over-classes-too",
            "The gradient is divided by N x K; the loss is a mean over the N images only.",
            LOSS_BACKWARD,
            partial(_cross_entropy_backward, count=np.size),
        ),
        Misconception(
            "sign",
            "The sign is turned: the score of the right class must go up when dz is subtracted, so p - q.",
            LOSS_BACKWARD,
            partial(_cross_entropy_backward, count=lambda z: -len(z)),
        ),
        Misconception(
            "softmax-over-the-batch",
            "The softmax runs over the images of the batch (axis 0); the probabilities of one image's "
            "classes sum to 1.",
            SOFTMAX,
            partial(_cross_entropy_backward, p=partial(_softmax, axis=0)),
        ),
        Misconception(
            "not-shifted",
            "exp of large scores overflows and inf / inf is nan: subtract each row's largest score first.",
            SOFTMAX,
            partial(_cross_entropy_backward, p=_unshifted),
        ),
        Misconception(
            "every-row-gets-every-label",
            "p[:, labels] picks whole columns: every image gets every label. Pair rows with labels: "
            "p[np.arange(N), labels].",
            LOSS_BACKWARD,
            partial(_cross_entropy_backward, targets=_targets_in_every_row),
        ),
        Misconception(
            "target-forgotten",
            "These are the probabilities alone: the truth q is subtracted from them.",
            LOSS_BACKWARD,
            partial(_cross_entropy_backward, targets=lambda z, labels, smoothing: 0),
        ),
        Misconception(
            "sigmoid-slope",
            "p - q is multiplied by p (1 - p), as with a squared error on a sigmoid. With the log that "
            "factor cancels.",
            LOSS_BACKWARD,
            lambda z, *rest: _cross_entropy_backward(z, *rest) * _softmax(z) * (1 - _softmax(z)),
        ),
        Misconception(
            "smoothing-ignored",
            "The smoothing is not used: the right class's target is 1 - epsilon + epsilon / K.",
            LOSS_BACKWARD,
            partial(_cross_entropy_backward, targets=_hard_targets),
        ),
        Misconception(
            "smoothing-among-the-others",
            "epsilon is shared among the K - 1 wrong classes; here all K classes get epsilon / K, the right "
            "one included.",
            LOSS_BACKWARD,
            partial(_cross_entropy_backward, targets=_targets_among_others),
        ),
    ),
)


# --- Part 6: a step of training, and a run -----------------------------------------------------------------

Parameters = dict[str, Any]
_NAMES = "wbvc"
# Where a student's own stage is not right yet, the library's may stand in: an error costs once.
_STAGES = tuple(f"coursekit.{part}" for part in ("arrays", "conv", "pooling", "detectors", "losses"))


def _loss(z: Float[Array, "N K"], labels: Array) -> float:
    return _cross_entropy(z, labels, 0.0)


def _loss_gradient(z: Float[Array, "N K"], labels: Array) -> Float[Array, "N K"]:
    return _cross_entropy_backward(z, labels, 0.0)


def _gate(dh: Float[Array, "N F H W"], u: Float[Array, "N F H W"]) -> Float[Array, "N F H W"]:
    return _leaky_backward(dh, u, 0.0)


def _flatten(m: Float[Array, "N F H W"]) -> Float[Array, "N D"]:
    return m.reshape(len(m), -1)


def _train_step(
    x: Float[Array, "N 1 H W"],
    labels: Array,
    parameters: Parameters,
    lr: float,
    *,
    loss: Callable = _loss,
    dloss: Callable = _loss_gradient,
    gate: Callable = _gate,
    v_seen: Callable = lambda v, dv, lr: v,
    frozen: str = "",
) -> tuple[float, Parameters]:
    """One step of gradient descent.   v_seen: the v that the gradient flows back through."""
    w, b, v, c = (parameters[name] for name in _NAMES)
    u, convolution = conv2d_forward(x, w, b)
    h = _relu(u)
    m, pooling = max_pool2d_forward(h, 2)
    z = _flatten(m) @ v + c
    dz = dloss(z, labels)
    dv = _flatten(m).T @ dz
    dm = (dz @ v_seen(v, dv, lr).T).reshape(m.shape)
    _, dw, db = conv2d_backward(gate(max_pool2d_backward(dm, pooling), u), convolution)
    gradients = {"w": dw, "b": db, "v": dv, "c": dz.sum(axis=0)}
    new = {name: a if name in frozen else a - lr * gradients[name] for name, a in parameters.items()}
    return loss(z, labels), new


def _loss_after(
    x: Float[Array, "N 1 H W"], labels: Array, parameters: Parameters, lr: float
) -> tuple[float, Parameters]:
    new = _train_step(x, labels, parameters, lr)[1]
    return _train_step(x, labels, new, lr)[0], new


def _gradients_returned(
    x: Float[Array, "N 1 H W"], labels: Array, parameters: Parameters, lr: float
) -> tuple[float, Parameters]:
    loss, new = _train_step(x, labels, parameters, 1.0)
    return loss, {name: parameters[name] - new[name] for name in parameters}


def _parameters(draw: Draw, filters: int, features: int, classes: int) -> Parameters:
    """Random parameters for images of one channel and 3 x 3 filters."""
    shapes = {"w": (filters, 1, 3, 3), "b": (filters,), "v": (features, classes), "c": (classes,)}
    return {name: (0.5 * draw(*shape)).astype(draw.dtype) for name, shape in shapes.items()}


def _step_case(images: int, filters: int, pooled: Pair, classes: int, lr: float) -> Callable:
    def arguments(draw: Draw) -> Arguments:
        x = draw(images, 1, *(2 * size + 2 for size in pooled))
        parameters = _parameters(draw, filters, filters * math.prod(pooled), classes)
        parameters["b"] -= 1  # silences whole windows, where it matters that the detector stops the gradient
        return call(x=x, labels=draw.rng.integers(classes, size=images), lr=lr, **parameters)

    return arguments


def _observe_step(
    step: Callable, *, x: Float[Array, "N 1 H W"], labels: Array, lr: float, **parameters: Array
) -> tuple:
    """What the step returns, as one flat tuple."""
    loss, new = _loss_and_parameters(step(x, labels, parameters, lr))
    return (loss, *(new[name] for name in _NAMES))


def _loss_and_parameters(result: Any) -> tuple[float, Parameters]:
    """What a step returned, if it has the form that the task asks for."""
    wanted = f"expected a tuple (loss, dictionary with the keys {', '.join(_NAMES)})"
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise CallFailed(Failure("result", "form", f"returned {_form(result)}, {wanted}"))
    if not isinstance(result[1], dict) or not set(_NAMES) <= set(result[1]):
        raise CallFailed(Failure("result", "form", f"returned a tuple with {_form(result[1])}, {wanted}"))
    return tuple(result)


def _form(result: Any) -> str:
    """The type of a result, and the keys of a dictionary."""
    keys = f" with the keys {', '.join(map(str, result))}" if isinstance(result, dict) else ""
    return f"{type(result).__name__}{keys}"


train_step = Check(
    name="pooling.train_step",
    title="one step of gradient descent on the whole network",
    reference=_train_step,
    terms=("loss", "w", "b", "v", "c"),
    observe=_observe_step,
    allowed=_STAGES,
    cases=(
        Case("a batch", 0.5, _step_case(5, 2, (3, 1), 7, 0.25)),
        Case("one image, float32", 0.5, _step_case(1, 3, (2, 5), 11, 0.5), "float32"),
    ),
    misconceptions=(
        Misconception(
            "uphill",
            "The gradient is added: that climbs. Subtract lr times the gradient.",
            LOSS_BACKWARD,
            lambda x, labels, parameters, lr: _train_step(x, labels, parameters, -lr),
        ),
        Misconception(
            "summed-loss",
            "The loss is the sum over the batch; the task's loss is the mean.",
            LOSS,
            partial(_train_step, loss=lambda z, labels: len(z) * _loss(z, labels)),
        ),
        Misconception(
            "summed-gradient",
            "The gradient is that of the summed loss: N times too long a step.",
            LOSS_BACKWARD,
            partial(_train_step, dloss=lambda z, labels: len(z) * _loss_gradient(z, labels)),
        ),
        Misconception(
            "averaged-twice",
            "The gradient is divided by N twice: the cross-entropy's backward has done it already.",
            LOSS_BACKWARD,
            partial(_train_step, dloss=lambda z, labels: _loss_gradient(z, labels) / len(z)),
        ),
        Misconception(
            "v-updated-too-early",
            "The gradient flows back through the new v. Finish the backward pass before you change any "
            "parameter.",
            GRADIENTS,
            partial(_train_step, v_seen=lambda v, dv, lr: v - lr * dv),
        ),
        Misconception(
            "detector-skipped",
            "The gradient passes the ReLU unchanged on its way back: it is stopped where u is not positive.",
            RELU,
            partial(_train_step, gate=lambda dh, u: dh),
        ),
        Misconception(
            "gate-from-gradient",
            "On the way back the ReLU looks at the sign of the gradient; what decides is u.",
            RELU,
            partial(_train_step, gate=lambda dh, u: _gate(dh, dh)),
        ),
        Misconception(
            "filter-bias-frozen",
            "b never changes: its gradient is the sum of du over images and pixels.",
            "convolution/gradients#eq-conv-backward-b",
            partial(_train_step, frozen="b"),
        ),
        Misconception(
            "class-bias-frozen",
            "c never changes: its gradient is the sum of dz over the images.",
            LOSS_BACKWARD,
            partial(_train_step, frozen="c"),
        ),
        Misconception(
            "learning-rate-ignored",
            "The whole gradient is subtracted: multiply it by lr.",
            LOSS_BACKWARD,
            lambda x, labels, parameters, lr: _train_step(x, labels, parameters, 1.0),
        ),
        Misconception(
            "loss-after-the-step",
            "This is the loss after the step; return the one that the gradient was computed from.",
            LOSS,
            _loss_after,
        ),
        Misconception(
            "gradients-returned",
            "These are the gradients; return the parameters after the step.",
            LOSS_BACKWARD,
            _gradients_returned,
        ),
    ),
)

BATCH, EPOCHS, LEARNING_RATE = 50, 4, 0.5
ENOUGH = 0.8  # over 40 seeds the right steps end between 0.86 and 0.98


def _digits(draw: Draw) -> Arguments:
    from coursekit.data import digits

    seen, unseen = digits("train", dtype=draw.dtype), digits("test", dtype=draw.dtype)
    order = draw.rng.permutation(len(seen.labels))
    parameters = _parameters(draw, 8, 72, 10)
    parameters |= {name: np.zeros_like(parameters[name]) for name in "bvc"}
    images = {"x": seen.x[order], "x_unseen": unseen.x}
    return call(**images, labels=seen.labels[order], labels_unseen=unseen.labels, **parameters)


def _train(
    step: Callable,
    *,
    x: Float[Array, "N 1 H W"],
    labels: Array,
    x_unseen: Float[Array, "M 1 H W"],
    labels_unseen: Array,
    **parameters: Array,
) -> tuple[float, float]:
    """The first step's loss, and the share of unseen digits that are read in the end, up to ENOUGH."""
    losses = []
    for start in [*range(0, len(x), BATCH)] * EPOCHS:
        batch = slice(start, start + BATCH)
        loss, parameters = _loss_and_parameters(step(x[batch], labels[batch], parameters, LEARNING_RATE))
        losses.append(loss)
    return losses[0], min(_share_read(x_unseen, labels_unseen, parameters), ENOUGH)


def _share_read(x: Float[Array, "N 1 H W"], labels: Array, parameters: Parameters) -> float:
    w, b, v, c = (parameters[name] for name in _NAMES)
    m = max_pool2d_forward(_relu(conv2d_forward(x, w, b)[0]), 2)[0]
    return float(np.mean((_flatten(m) @ v + c).argmax(axis=1) == labels))


read_digits = Check(
    name="pooling.read_digits",
    title="train on real digits",
    reference=_train_step,
    terms=("the first loss, log 10,", f"the share of unseen digits read, up to {ENOUGH},"),
    observe=_train,
    allowed=_STAGES,
    cases=(Case(f"{EPOCHS} times through the digits", 1, _digits),),
    misconceptions=(
        Misconception(
            "uphill",
            "The gradient is added: that climbs. Subtract lr times the gradient.",
            LOSS_BACKWARD,
            lambda x, labels, parameters, lr: _train_step(x, labels, parameters, -lr),
        ),
        Misconception(
            "summed-loss",
            "The first loss is N log 10: the sum over the batch; the task's loss is the mean.",
            LOSS,
            partial(_train_step, loss=lambda z, labels: len(z) * _loss(z, labels)),
        ),
        Misconception(
            "softmax-over-the-batch",
            "The first loss is log N: the softmax runs over the N images of the batch.",
            SOFTMAX,
            partial(
                _train_step,
                loss=partial(_cross_entropy, smoothing=0.0, log_p=partial(_log_softmax, axis=0)),
                dloss=partial(_cross_entropy_backward, smoothing=0.0, p=partial(_softmax, axis=0)),
            ),
        ),
    ),
)


# --- Part 7: blur pooling, in torch ------------------------------------------------------------------------


def _blur_axis(x: Array, axis: int, stride: int, weights: tuple[float, ...] = (0.25, 0.5, 0.25)) -> Array:
    view = x.unfold(axis, len(weights), stride)
    return sum(weight * view[..., k] for k, weight in enumerate(weights))


def _blur_pool(
    x: Float[Array, "N C H W"], stride: int, **weights: tuple[float, ...]
) -> Float[Array, "N C HO WO"]:
    return _blur_axis(_blur_axis(x, 2, stride, **weights), 3, stride, **weights)


def _blur_with_fixed_kernel(x: Float[Array, "N C H W"], stride: int) -> Float[Array, "N C HO WO"]:
    import torch

    g = torch.tensor([0.25, 0.5, 0.25])
    return (x.unfold(2, 3, stride).unfold(3, 3, stride) * g[:, None] * g).sum((-2, -1))


blur_pool = Check(
    name="pooling.blur_pool",
    title="blur pooling in torch, on any device",
    reference=_blur_pool,
    library="torch",
    terms=("y", "dx"),
    observe=with_gradients,
    forbidden=("torch.*conv*", "torch.*pool*", "torch.*interpolate*"),
    cases=(
        Case("stride 2", 0.5, lambda draw: call(draw(2, 3, 7, 11), 2)),
        Case("stride 1", 0.5, lambda draw: call(draw(3, 2, 5, 7), 1)),
        Case("stride 3, float32", 0.5, lambda draw: call(draw(2, 3, 11, 13), 3), "float32"),
        Case("the meta device", 1, lambda draw: call(draw(2, 3, 7, 11), 2), "float32", "meta"),
    ),
    misconceptions=(
        Misconception(
            "cpu-kernel",
            "A tensor is made on the CPU, wherever x is: x.new_tensor(...) for weights (or plain numbers), "
            "x.new_zeros(...) for a result.",
            ALIASING,
            _blur_with_fixed_kernel,
        ),
        Misconception(
            "equal-weights",
            "This is the plain mean of 3 x 3 pixels; the weights are 1, 2, 1 in each direction.",
            ALIASING,
            partial(_blur_pool, weights=(1 / 3, 1 / 3, 1 / 3)),
        ),
        Misconception(
            "not-normalised",
            "The weights add up to 16: divide by it, or a flat image becomes brighter.",
            ALIASING,
            partial(_blur_pool, weights=(1.0, 2.0, 1.0)),
        ),
        Misconception(
            "normalised-once",
            "The weights add up to 4: each of the two directions has its own 1 / 4.",
            ALIASING,
            partial(_blur_pool, weights=(0.5, 1.0, 0.5)),
        ),
        Misconception(
            "no-blur",
            "This takes every stride-th pixel and does not blur: stripes can vanish between the pixels that "
            "it looks at.",
            ALIASING,
            partial(_blur_pool, weights=(0.0, 1.0, 0.0)),
        ),
        Misconception(
            "one-direction",
            "Only the rows or only the columns are blurred: the weights are a product, down and across.",
            ALIASING,
            lambda x, stride: _blur_axis(_blur_axis(x, 2, stride), 3, stride, weights=(0.0, 1.0, 0.0)),
        ),
        Misconception(
            "stride-ignored",
            "The windows move by one pixel whatever the stride.",
            SIZE,
            lambda x, stride: _blur_pool(x, 1),
        ),
        Misconception(
            "subsampled-first",
            "The pixels are dropped before the blur, which then smooths what is left: too late for stripes.",
            ALIASING,
            lambda x, stride: _blur_pool(x[:, :, ::stride, ::stride], 1),
        ),
        Misconception(
            "detached",
            "No gradient flows back: the result was cut off by .detach(), .data or a trip through NumPy.",
            "convolution/gradients#eq-conv-backward-x",
            lambda x, stride: _blur_pool(x.detach(), stride),
        ),
    ),
)
