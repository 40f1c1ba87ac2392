"""The checks of the assignment `equivariance`: its solution, slips in its text, shortcuts, references."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from solution_text import SolutionText

from coursekit import equivariance, layers, pooling
from coursekit.arrays import output_size
from coursekit.checks import equivariance as checks

SOLUTION = SolutionText("equivariance")


# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("local-forward", "w[p]", "w[0]", 0, "shared-kernel"),
    ("local-forward", "i * WO + j", "j * HO + i", 0, "column-by-column"),
    ("local-forward", "i * WO + j", "i * HO + j", 0, "row-of-the-wrong-length"),
    ("local-forward", "i * WO + j", "i * x.shape[3] + j", 0, None),
    ("local-forward", "b[p]", "b[0]", 0, "shared-bias"),
    ("local-forward", " + b[p]", " + b.reshape(w.shape[1], HO, WO)[:, i, j]", 1, "reshaped-bias"),
    (
        "local-forward",
        "i * SH : i * SH + KH, j * SW : j * SW + KW",
        "i : i + KH, j : j + KW",
        3,
        "stride-ignored",
    ),
    ("local-forward", "(SH, SW) =", "(SW, SH) =", 3, "stride-turned"),
    ("local-forward", ", x.dtype)", ")", 4, "double-precision"),
    ("layer-cost", 'copies = 1 if kind == "convolution" else positions', "copies = 1", 3.5, None),
    ("layer-cost", "filters * positions * weights", "filters * weights", 2.5, None),
    (
        "layer-cost",
        "filters * positions * weights",
        'filters * weights * (1 if kind == "convolution" else positions)',
        4,
        "sharing-saves-products",
    ),
    ("layer-cost", "(n - k) // s + 1", "n", 1, "pixels-for-positions"),
    ("layer-cost", "(n - k) // s + 1", "n - k + 1", 3.5, "stride-ignored"),
    ("layer-cost", "copies * (weights + 1)", "(copies * weights + 1)", 3.5, None),
    ("layer-cost", "(weights + 1)", "weights", 2.5, "bias-forgotten"),
    ("layer-cost", "seen[0] * seen[1]", "kernel[0] * kernel[1]", 4, "dense-through-windows"),
    ("equivariance-error", "y_moved - along", "y_moved - y", 0, "measures-invariance"),
    ("equivariance-error", "(down // stride, across // stride)", "shift", 1.25, "stride-forgotten"),
    ("equivariance-error", "np.roll(y, (down", "np.roll(y, (-down", 0, None),
    (
        "equivariance-error",
        "(down // stride, across // stride)",
        "(-down // stride, -across // stride)",
        0,
        "wrong-way",
    ),
    ("equivariance-error", "down, across = shift", "across, down = shift", 0, "axes-swapped"),
    ("equivariance-error", " / np.linalg.norm(variation)", "", 0.5, "absolute"),
    ("equivariance-error", "norm(variation)", "norm(y)", 0.5, "brightness-flatters"),
    ("equivariance-error", "axis=(2, 3), keepdims=True", "", 0.5, "one-mean-for-all"),
    ("equivariance-error", "axis=(2, 3))", "axis=(0, 1))", 0, "batch-rolled"),
    ("unchanged-share", "[active]", "", 0, "background-counted"),
    ("unchanged-share", " | (after != 0)", "", 0, "active-before"),
    ("unchanged-share", "before == after", "before != after", 0, "changed-counted"),
    ("unchanged-share", "(before == after)[active]", "np.abs(before - after)", 0, "mean-difference"),
    ("unchanged-share", ", stride=1)", ")", 0, "side-by-side"),
    ("unchanged-share", "pooling.max_pool2d_forward(maps, pool, stride=1)[0]", "maps", 0, "not-pooled"),
    ("apparent-frequency", "abs(turns - round(turns))", "turns", 0.5, "not-folded"),
    ("apparent-frequency", ")) / stride", "))", 0, "per-sample"),
    ("apparent-frequency", "abs(turns - round(turns))", "turns % 1", 1.5, "whole-periods-only"),
    ("apparent-frequency", "abs(turns - round(turns))", "(turns - round(turns))", 1.5, "signed"),
    ("apparent-frequency", "abs(turns - round(turns))", "min(turns, abs(1 - turns))", 2, "folded-once"),
]


# An error that costs points in its own task alone: task -> what the solution says, what it says then
SPOILT = {"local_forward": ("w[p]", "w[0]")}


# Other honest ways, from the text of the assignment alone.


def local_at_once(x, w, b, stride):
    N, (P, F, _, KH, KW) = len(x), w.shape
    seen = sliding_window_view(x, (KH, KW), axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    HO, WO = seen.shape[2:4]
    seen = np.moveaxis(seen, 1, 3).reshape(N, P, -1)
    y = np.einsum("npk,pfk->nfp", seen, w.reshape(P, F, -1)) + b.T
    return y.reshape(N, F, HO, WO)


def error_from_moving_back(y, y_moved, shift, stride):
    back = y_moved
    for axis in (0, 1):
        back = np.roll(back, -(shift[axis] // stride), axis + 2)
    top = ((back - y) ** 2).sum()
    return np.sqrt(top / (y.var(axis=(2, 3)).sum() * y.shape[2] * y.shape[3]))


def share_by_counting(before, after, pool):
    same = active = 0
    N, F, H, W = before.shape
    for n, f, i, j in np.ndindex(N, F, H - pool[0] + 1, W - pool[1] + 1):
        window = n, f, slice(i, i + pool[0]), slice(j, j + pool[1])
        a, b = before[window].max(), after[window].max()
        active += bool(a or b)
        same += bool((a or b) and a == b)
    return same / active


def frequency_by_mirrors(frequency, stride):
    while frequency > 0.5 / stride:
        frequency = abs(1 / stride - frequency)
    return frequency


HONEST = [
    (checks.local_forward, local_at_once),
    (checks.equivariance_error, error_from_moving_back),
    (checks.unchanged_share, share_by_counting),
    (checks.apparent_frequency, frequency_by_mirrors),
]


def local_of_the_library(x, w, b, stride):
    rng = np.random.default_rng(0)
    HO, WO = output_size(x.shape[2:], w.shape[3:], stride=stride)
    layer = layers.LocallyConnected2d(
        x.shape[1], w.shape[1], w.shape[3:], x.shape[2:], stride=stride, rng=rng, dtype=x.dtype
    )
    parameters = {"w": w.reshape(HO, WO, *w.shape[1:]), "b": b.T.reshape(-1, HO, WO)}
    return layer.with_parameters(parameters)(x)


def error_of_the_library(y, y_moved, shift, stride):
    outputs = iter((y, y_moved))
    image = np.zeros((1, 1, 3, 5))
    return equivariance.equivariance_error(lambda x: next(outputs), image, shift, stride=stride)


def share_of_the_library(before, after, pool):
    pooled = (pooling.max_pool2d_forward(maps, pool, stride=1)[0] for maps in (before, after))
    return equivariance.unchanged_share(*pooled)


SHORTCUTS = [
    (checks.local_forward, local_of_the_library),
    (checks.equivariance_error, error_of_the_library),
    (checks.unchanged_share, share_of_the_library),
]


@pytest.mark.parametrize(
    ("stride", "frequency"), [(1, 0.4), (2, 0.1), (2, 0.4), (3, 0.3), (5, 0.45), (7, 0.5)]
)
def test_no_slower_wave_has_the_samples_of_the_apparent_one(stride, frequency):
    """Search all multiples of 1/1000 period per pixel for waves through the same samples."""
    samples = stride * np.arange(50)
    slower = np.arange(501) / 1000
    same = np.isclose(np.cos(2 * np.pi * np.outer(slower, samples)), np.cos(2 * np.pi * frequency * samples))
    found = slower[same.all(axis=1)]
    apparent = checks.apparent_frequency.reference(frequency, stride)
    assert np.allclose(np.cos(2 * np.pi * apparent * samples), np.cos(2 * np.pi * frequency * samples))
    assert 0 <= apparent <= found.min() + 1e-12 and apparent <= 0.5 / stride


def test_layers_of_the_library_cost_what_the_check_says():
    rng, shape = np.random.default_rng(0), {"kernel": (2, 5), "stride": (2, 3)}
    counted = {
        "local": layers.LocallyConnected2d(3, 7, image=(7, 11), rng=rng, **shape).parameter_count,
        "convolution": layers.Conv2d(3, 7, rng=rng, **shape).parameter_count,
        "dense": layers.Dense(3 * 7 * 11, 7 * 3 * 3, rng=rng).parameter_count,
    }
    for kind, count in counted.items():
        parameters, _ = checks.layer_cost.reference(kind, 3, (7, 11), 7, (2, 5), (2, 3))
        assert parameters == count


def test_the_experiment_comes_out_as_its_mark_scheme_says():
    names = SOLUTION.written()
    meter, convolution = names["meter"], names["convolution"]
    errors = {}
    for size in (12, 48):
        noise = np.random.default_rng(0).normal(size=(4, 1, size, size))
        for mode in ("zeros", "reflect", "replicate", "circular"):
            layer = convolution(mode=mode)
            errors[mode, size] = np.array([meter(layer, noise, (0, d)) for d in (1, 2, 4, 6)])
    for mode in ("reflect", "replicate"):
        assert (errors["zeros", 12] < errors[mode, 12]).all()
    for mode in ("zeros", "reflect", "replicate"):
        assert np.allclose(errors[mode, 48] / errors[mode, 12], 0.5, atol=0.15)
    assert max(errors["circular", 12].max(), errors["circular", 48].max()) < 1e-12
