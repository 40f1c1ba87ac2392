"""The checks of the assignment conv against its own solution: whole, and with one line spoilt."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from solution_text import SolutionText

from coursekit import checks

SOLUTION = SolutionText("conv")
CHAPTERS = Path(__file__).parents[1] / "chapters"
CHECKS = {
    check.name.removeprefix("conv."): check
    for check in checks.all_checks()
    if check.name.startswith("conv.")
}


def student(name, old="", new=""):
    """The function of this name from the assignment's solution, with one piece of its text changed."""
    assert not old or SOLUTION.cells[name.replace("_", "-")].count(old) == 1
    return SOLUTION.written(**{name: (old, new)})[name]


@pytest.mark.parametrize("seed", ["self-check", "grader"])
@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_gets_full_marks_and_takes_no_shortcut(name, seed, monkeypatch):
    monkeypatch.setenv("COURSEKIT_CHECK_SEED", seed)
    score = CHECKS[name].grade(student(name))
    assert score.points == score.total, score.report


def test_the_assignment_sends_readers_to_pages_that_bear_the_name():
    text = SOLUTION.path.read_text(encoding="utf-8")
    links = re.findall(r"\*([A-Z][^*]+)\*\s+#?\s*\(`(convolution/[\w-]+)`\)", text)
    assert len(links) == 3
    for title, page in links:
        assert f"\n# {title}\n" in (CHAPTERS / f"{page}.md").read_text(encoding="utf-8")


# What a student would write, the mistake that it is, and the points that are left.
CUT = "top : top + x.shape[2], left : left + x.shape[3]"
SPOILT = [
    ("output_size", "// stride + 1", "// stride", "size-without-one", 0),
    ("output_size", "before + after", "2 * before", "size-padded-evenly", 2),
    ("output_size", "dilation * (kernel - 1) + 1", "dilation * kernel", "size-of-dilated-kernel", 3),
    ("output_size", "- covered)", "- covered + stride - 1)", "size-rounded-up", 3),
    ("same_padding", "-(-size // stride)", "size // stride", "same-rounded-down", 3),
    ("same_padding", "max(0, needed - size)", "needed - size", "same-negative", 3),
    ("same_padding", '== "after"', '== "before"', "same-mirrored", 2),
    ("same_padding", "total // 2, total - total // 2", "total // 2, total // 2", "same-halved", 2),
    ("conv1d_forward", "w[:, :, k])", "w[:, :, -1 - k])", "flipped-kernel", 0),
    ("conv1d_forward", " + b[:, None]", "", "no-bias", 1),
    ("conv1d_forward", ", x.dtype)", ")", "always-float64", 3),
    ("conv1d_forward", "y += np.einsum", "y = b[:, None] + np.einsum", "last-tap-only", 0),
    ("conv2d_forward", "w[:, :, k, l])", "w[:, :, -1 - k, -1 - l])", "flipped-kernel", 0),
    ("conv2d_forward", "y + b[:, None, None]", "y + b", "bias-on-columns", 2),
    ("conv2d_forward", "*pads", "*pads[::-1]", "padding-swapped", 3),
    ("conv2d_forward", "*pads", "*[(2 * before, 0) for before, _ in pads]", None, 3),
    ("conv2d_forward", ", x.dtype)", ")", "always-float64", 4),
    ("conv2d_backward", "dxp[:, :, down, along] +=", "dxp[:, :, down, along] =", "dx-overwritten-by-tap", 8),
    ("conv2d_backward", CUT, "top:-bottom, left:-right", "dx-minus-zero", 9),
    ("conv2d_backward", CUT, ": x.shape[2], : x.shape[3]", "dx-cropped-at-end", 10),
    ("conv2d_backward", f"dxp[:, :, {CUT}]", "dxp", "dx-not-cropped", 10),
    ("conv2d_backward", "dy, xp[", "np.ones_like(dy), xp[", "dw-without-dy", 8),
    ("conv2d_backward", "dw[:, :, k, l] =", "dw[:, :, -1 - k, -1 - l] =", "dw-flipped", 8),
    ("conv2d_backward", "dy.sum(axis=(0, 2, 3))", "dy.sum(axis=0)", "db-batch-only", 8),
    ("conv2d_backward", "dy.sum(axis=(0, 2, 3))", "dy.mean(axis=(0, 2, 3))", "db-mean", 8),
    ("conv2d_backward", "dy.sum(axis=(0, 2, 3))", "dy.sum(axis=(0, 1, 2))", "db-wrong-axes", 8),
    ("conv2d_backward", "xp = np.pad(x,", "x *= 1.5; xp = np.pad(x,", None, 0),
    ("effective_kernel", "dilation * (kernel - 1) + 1", "dilation * kernel", "gap-after-last-tap", 1),
    ("effective_kernel", "dilation * (kernel - 1) + 1", "kernel + dilation - 1", "one-gap", 1),
    ("dilated_conv1d", "dilation * k : dilation * k + windows", "k : k + windows", None, 1),
    ("dilated_conv1d", "w[:, :, k])", "w[:, :, -1 - k])", "flipped-kernel", 0),
    ("receptive_field", "step *= stride", "step += stride - 1", "field-strides-added", 2),
    ("receptive_field", "in layers:", "in layers[::-1]:", "field-backwards", 2),
    ("pad_indices", "last - abs(last - abs(positions))", "positions.clip(0, last)", None, 3),
    ("pad_indices", "(-before, size + after)", "(-after, size + before)", "sides-swapped", 0),
    ("depthwise_conv2d", "torch.zeros_like(x)", "torch.zeros(x.shape, dtype=x.dtype)", "made-on-cpu", 6),
    ("depthwise_conv2d", "w[:, k, l, None, None]", "w[:, -1 - k, -1 - l, None, None]", "flipped-kernel", 3),
    ("depthwise_conv2d", "xp = x[", "xp = x.detach()[", "detached", 6),
    ("depthwise_conv2d", "w[:, k, l, None, None]", "w[0, k, l]", "one-filter-for-all", 3),
]


@pytest.mark.parametrize(("name", "old", "new", "mistake", "points"), SPOILT)
def test_one_spoilt_line_costs_what_it_should_and_is_named(name, old, new, mistake, points):
    score = CHECKS[name].grade(student(name, old, new))
    assert (score.misconceptions, score.points) == ((mistake,) if mistake else (), points), score.report


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
    return student("depthwise_conv2d")(x, w, mode=mode)


OTHER_WAYS = {
    "same_padding": same_padding_by_search,
    "conv1d_forward": conv1d_by_window,
    "conv2d_forward": conv2d_by_window,
    "conv2d_backward": backward_by_window,
    "dilated_conv1d": dilated_by_zeros,
    "receptive_field": receptive_field_from_the_top,
    "pad_indices": indices_by_list,
    "depthwise_conv2d": depthwise_by_rolling,
}


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_another_honest_way_gets_full_marks(name):
    score = CHECKS[name].grade(OTHER_WAYS[name])
    assert score.points == score.total, score.report


@pytest.mark.parametrize("rounding", [round, math.ceil])
def test_a_size_rounded_in_another_way_is_caught(rounding):
    def size(size, kernel, *, stride=1, before=0, after=0, dilation=1):
        return rounding((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1

    assert CHECKS["output_size"].grade(size).misconceptions == ("size-rounded-up",)
