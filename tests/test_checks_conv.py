"""The checks of the assignment `conv`: its solution, slips in its text, other ways."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from solution_text import SolutionText

from coursekit import conv
from coursekit.checks import conv as checks

SOLUTION = SolutionText("conv")
CHAPTERS = Path(__file__).parents[1] / "chapters"


def test_the_assignment_sends_readers_to_pages_that_bear_the_name():
    text = SOLUTION.path.read_text(encoding="utf-8")
    links = re.findall(r"\*([A-Z][^*]+)\*\s+#?\s*\(`(convolution/[\w-]+)`\)", text)
    assert len(links) == 3
    for title, page in links:
        assert f"\n# {title}\n" in (CHAPTERS / f"{page}.md").read_text(encoding="utf-8")


CUT = "top : top + x.shape[2], left : left + x.shape[3]"
# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("output-size", "// stride + 1", "// stride", 0, "size-without-one"),
    ("output-size", "before + after", "2 * before", 2, "size-padded-evenly"),
    ("output-size", "dilation * (kernel - 1) + 1", "dilation * kernel", 3, "size-of-dilated-kernel"),
    ("output-size", "- covered)", "- covered + stride - 1)", 3, "size-rounded-up"),
    ("same-padding", "-(-size // stride)", "size // stride", 3, "same-rounded-down"),
    ("same-padding", "max(0, needed - size)", "needed - size", 3, "same-negative"),
    ("same-padding", '== "after"', '== "before"', 2, "same-mirrored"),
    ("same-padding", "total // 2, total - total // 2", "total // 2, total // 2", 2, "same-halved"),
    ("conv1d-forward", "w[:, :, k])", "w[:, :, -1 - k])", 0, "flipped-kernel"),
    ("conv1d-forward", " + b[:, None]", "", 1, "no-bias"),
    ("conv1d-forward", ", x.dtype)", ")", 3, "always-float64"),
    ("conv1d-forward", "y += np.einsum", "y = b[:, None] + np.einsum", 0, "last-tap-only"),
    ("conv2d-forward", "w[:, :, k, l])", "w[:, :, -1 - k, -1 - l])", 0, "flipped-kernel"),
    ("conv2d-forward", "y + b[:, None, None]", "y + b", 2, "bias-on-columns"),
    ("conv2d-forward", "*pads", "*pads[::-1]", 3, "padding-swapped"),
    ("conv2d-forward", "*pads", "*[(2 * before, 0) for before, _ in pads]", 3, None),
    ("conv2d-forward", ", x.dtype)", ")", 4, "always-float64"),
    ("conv2d-backward", "dxp[:, :, down, along] +=", "dxp[:, :, down, along] =", 8, "dx-overwritten-by-tap"),
    ("conv2d-backward", CUT, "top:-bottom, left:-right", 9, "dx-minus-zero"),
    ("conv2d-backward", CUT, ": x.shape[2], : x.shape[3]", 10, "dx-cropped-at-end"),
    ("conv2d-backward", f"dxp[:, :, {CUT}]", "dxp", 10, "dx-not-cropped"),
    ("conv2d-backward", "dy, xp[", "np.ones_like(dy), xp[", 8, "dw-without-dy"),
    ("conv2d-backward", "dw[:, :, k, l] =", "dw[:, :, -1 - k, -1 - l] =", 8, "dw-flipped"),
    ("conv2d-backward", "dy.sum(axis=(0, 2, 3))", "dy.sum(axis=0)", 8, "db-batch-only"),
    ("conv2d-backward", "dy.sum(axis=(0, 2, 3))", "dy.mean(axis=(0, 2, 3))", 8, "db-mean"),
    ("conv2d-backward", "dy.sum(axis=(0, 2, 3))", "dy.sum(axis=(0, 1, 2))", 8, "db-wrong-axes"),
    ("conv2d-backward", "xp = np.pad(x,", "x *= 1.5; xp = np.pad(x,", 0, None),
    ("effective-kernel", "dilation * (kernel - 1) + 1", "dilation * kernel", 1, "gap-after-last-tap"),
    ("effective-kernel", "dilation * (kernel - 1) + 1", "kernel + dilation - 1", 1, "one-gap"),
    ("dilated-conv1d", "dilation * k : dilation * k + windows", "k : k + windows", 1, None),
    ("dilated-conv1d", "w[:, :, k])", "w[:, :, -1 - k])", 0, "flipped-kernel"),
    ("receptive-field", "step *= stride", "step += stride - 1", 2, "field-strides-added"),
    ("receptive-field", "in layers:", "in layers[::-1]:", 2, "field-backwards"),
    ("pad-indices", "last - abs(last - abs(positions))", "positions.clip(0, last)", 3, None),
    ("pad-indices", "(-before, size + after)", "(-after, size + before)", 0, "sides-swapped"),
    ("depthwise-conv2d", "torch.zeros_like(x)", "torch.zeros(x.shape, dtype=x.dtype)", 6, "made-on-cpu"),
    ("depthwise-conv2d", "w[:, k, l, None, None]", "w[:, -1 - k, -1 - l, None, None]", 3, "flipped-kernel"),
    ("depthwise-conv2d", "xp = x[", "xp = x.detach()[", 6, "detached"),
    ("depthwise-conv2d", "w[:, k, l, None, None]", "w[0, k, l]", 3, "one-filter-for-all"),
]


# An error that costs points in its own task alone: task -> what the solution says, what it says then
SPOILT = {"conv1d_forward": (" + b[:, None]", "")}


# The same tasks by other ways than the solution's: windows instead of taps, padding by hand, lists.
def conv1d_by_window(x, w, b, *, stride=1):
    starts = range(0, x.shape[2] - w.shape[2] + 1, stride)
    columns = [np.tensordot(x[:, :, i : i + w.shape[2]], w, ([1, 2], [1, 2])) + b for i in starts]
    return np.stack(columns, axis=2)


def conv2d_by_window(x, w, b=None, *, stride=(1, 1), pads=((0, 0), (0, 0))):
    (top, bottom), (left, right) = pads
    xp = np.zeros((*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right), x.dtype)
    xp[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    rows = range(0, xp.shape[2] - w.shape[2] + 1, stride[0])
    columns = range(0, xp.shape[3] - w.shape[3] + 1, stride[1])
    y = np.empty((len(x), len(w), len(rows), len(columns)), x.dtype)
    for n, f, i, j in np.ndindex(y.shape):
        window = xp[n, :, rows[i] : rows[i] + w.shape[2], columns[j] : columns[j] + w.shape[3]]
        y[n, f, i, j] = np.sum(window * w[f]) + (0 if b is None else b[f])
    return y


def backward_by_window(dy, x, w, *, stride=(1, 1), pads=((0, 0), (0, 0))):
    xp = np.pad(x, ((0, 0), (0, 0), *pads))
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for n, f, i, j in np.ndindex(dy.shape):
        rows = slice(i * stride[0], i * stride[0] + w.shape[2])
        columns = slice(j * stride[1], j * stride[1] + w.shape[3])
        dxp[n, :, rows, columns] += dy[n, f, i, j] * w[f]
        dw[f] += dy[n, f, i, j] * xp[n, :, rows, columns]
    (top, bottom), (left, right) = pads
    return dxp[:, :, top : dxp.shape[2] - bottom, left : dxp.shape[3] - right], dw, dy.sum((0, 2, 3))


def same_padding_by_search(size, kernel, *, stride=1, dilation=1, odd_pixel="after"):
    total = 0
    while (size + total - dilation * (kernel - 1) - 1) // stride + 1 < math.ceil(size / stride):
        total += 1
    smaller, larger = sorted((total // 2, total - total // 2))
    return (smaller, larger) if odd_pixel == "after" else (larger, smaller)


def receptive_field_from_the_top(layers):
    size = 1
    for kernel, stride, dilation in reversed(layers):
        size = (size - 1) * stride + dilation * (kernel - 1) + 1
    return size


def dilated_by_zeros(x, w, *, dilation=1):
    spread = np.zeros((*w.shape[:2], dilation * (w.shape[2] - 1) + 1), w.dtype)
    spread[:, :, ::dilation] = w
    return conv1d_by_window(x, spread, np.zeros(len(w), x.dtype))


def indices_by_list(size, before, after, mode):
    row = list(range(size))
    ends = {
        "replicate": ([0] * before, [size - 1] * after),
        "circular": (row[size - before :], row[:after]),
        "reflect": (row[1 : before + 1][::-1], row[size - 1 - after : size - 1][::-1]),
    }[mode]
    return np.array(ends[0] + row + ends[1])


def depthwise_by_rolling(x, w, *, mode="circular"):
    import torch

    if mode == "circular":
        rows, columns = w.shape[1] // 2, w.shape[2] // 2
        return sum(
            w[:, k, l, None, None] * torch.roll(x, (rows - k, columns - l), (2, 3))
            for k in range(w.shape[1])
            for l in range(w.shape[2])
        )
    return SOLUTION.written()["depthwise_conv2d"](x, w, mode=mode)


HONEST = [
    (checks.same_padding, same_padding_by_search),
    (checks.conv1d_forward, conv1d_by_window),
    (checks.conv2d_forward, conv2d_by_window),
    (checks.conv2d_backward, backward_by_window),
    (checks.dilated_conv1d, dilated_by_zeros),
    (checks.receptive_field, receptive_field_from_the_top),
    (checks.pad_indices, indices_by_list),
    (checks.depthwise_conv2d, depthwise_by_rolling),
]


def forward_of_the_library(x, w, b=None, *, stride=(1, 1), pads=((0, 0), (0, 0))):
    return conv.conv2d_forward(x, w, b, stride=stride, padding=pads)[0]


def backward_of_the_library(dy, x, w, *, stride=(1, 1), pads=((0, 0), (0, 0))):
    _, cache = conv.conv2d_forward(x, w, np.zeros(len(w), w.dtype), stride=stride, padding=pads)
    return conv.conv2d_backward(dy, cache)


SHORTCUTS = [
    (checks.conv2d_forward, forward_of_the_library),
    (checks.conv2d_backward, backward_of_the_library),
]


@pytest.mark.parametrize("rounding", [round, math.ceil])
def test_a_size_rounded_in_another_way_is_caught(rounding):
    def size(size, kernel, *, stride=1, before=0, after=0, dilation=1):
        return rounding((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1

    assert checks.output_size.grade(size).misconceptions == ("size-rounded-up",)
