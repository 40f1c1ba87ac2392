"""Figures of the chapter on the recurrent net as a dynamic system: one unit, then two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array


def fold(w: Float[Array, " W"]) -> Float[Array, " W"]:
    """The bias, for w >= 1, at which one of the two stable states of tanh(w h + b) meets the unstable one.

    There are three fixed points for biases between minus this value and this value.
    Implements eq-dynamics-fold.

    >>> fold(np.array([1.0, 2.0])).round(3)
    array([0.   , 0.533])
    """
    h = np.sqrt(1 - 1 / w)
    return w * h - np.arctanh(h)


def flip(w: Float[Array, " W"]) -> Float[Array, " W"]:
    """The bias, for w <= -1, below whose size the only fixed point is unstable and a cycle of two is stable.

    >>> flip(np.array([-1.0, -2.0])).round(3)
    array([0.   , 2.296])
    """
    h = np.sqrt(1 + 1 / w)
    return np.arctanh(h) - w * h


# ------------------------------------------------------------------------------------------------- one unit


def _cobweb(axes: Axes, w: float, b: float, start: float, steps: int, colour: str, line: str) -> None:
    """Up or down to the curve, across to the diagonal, once for every step."""
    xs, ys, h = [start], [-1.0], start
    for _ in range(steps):
        after = float(np.tanh(w * h + b))
        xs += [h, after]
        ys += [after, after]
        h = after
    axes.plot(xs, ys, color=colour, linestyle=line, linewidth=1.1)
    axes.plot(start, -1, "o", color=colour, clip_on=False)


@figure
def cobwebs(
    nets: Mapping[str, tuple[float, float]], starts: Sequence[float], *, steps: int = 30, columns: int = 2
) -> Figure:
    """The next state against this one for each net (w, b), and the steps from each start as a staircase."""
    rows = -(-len(nets) // columns)
    fig, grid = plt.subplots(rows, columns, figsize=(7, 3.3 * rows), sharex=True, sharey=True, squeeze=False)
    h = np.linspace(-1, 1, 201)
    for axes, (title, (w, b)) in zip(grid.flat, nets.items(), strict=False):
        axes.plot(h, h, color=GREY, linestyle=":", linewidth=1)
        axes.plot(h, np.tanh(w * h + b), color=BLUE, linestyle="-", linewidth=2.2)
        for start, colour, line in zip(starts, (ORANGE, GREEN), ("--", "-."), strict=False):
            _cobweb(axes, w, b, start, steps, colour, line)
        axes.set(title=title, xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    for axes in grid[-1]:
        axes.set_xlabel("state $h$")
    for axes in grid[:, 0]:
        axes.set_ylabel("next state")
    return fig


@figure
def bifurcation(
    w: Float[Array, " W"], settled: Float[Array, "S W"], exponents: Float[Array, " W"]
) -> Figure:
    """What states settle to, against the weight, over the lines of the theory; below, the exponent there.

    settled: states after a long time, S for each weight, with b = 0.   exponents: mean logarithm of the slope
    along them.
    """
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5.6), sharex=True, height_ratios=(3, 2))
    branch = np.linspace(1e-3, np.tanh(w.max()), 400)
    for sign, label in ((1, "fixed points"), (-1, "cycle of two")):
        at = sign * np.arctanh(branch) / branch
        colour, line = (BLUE, "-") if sign == 1 else (ORANGE, "--")
        top.plot(at, branch, color=colour, linestyle=line, label=label)
        top.plot(at, -branch, color=colour, linestyle=line)
    top.plot([-1, 1], [0, 0], color=BLUE, linestyle="-")
    for start, end in ((w.min(), -1), (1, w.max())):
        top.plot([start, end], [0, 0], color=GREY, linestyle=":", label="unstable" if start == 1 else None)
    top.plot(np.tile(w, len(settled)), settled.ravel(), "o", color=INK, markersize=2.2, label="computed")
    top.set(ylabel="settled state", xlim=(w.min(), w.max()), ylim=(-1.1, 1.1))
    top.legend(loc="upper center", ncols=2)
    bottom.axhline(0, color=GREY, linestyle=":", linewidth=1)
    bottom.plot(w, exponents, color=BLUE, linestyle="-")
    bottom.set(xlabel="weight $w$", ylabel="exponent per step", ylim=(-4, 0.3))
    return fig


@figure
def hysteresis(
    b: Float[Array, " T"], h: Float[Array, " T"], w: float, *, weights: tuple[float, float] = (-2.5, 2.5)
) -> Figure:
    """Left, the state while the bias rises (first half of b) and falls again; right, what lives where.

    w: the weight of the left half, > 1.   weights: range of the right half.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5))
    states = np.linspace(-0.9999, 0.9999, 2001)
    biases, stable = np.arctanh(states) - w * states, w * (1 - states**2) < 1
    for part in (states < 0, states > 0):
        left.plot(biases[stable & part], states[stable & part], color=FAINT, linestyle="-", linewidth=7)
    left.plot(biases[~stable], states[~stable], color=GREY, linestyle=":", label="unstable")
    half = len(b) // 2
    left.plot(b[:half], h[:half], color=BLUE, linestyle="-", label="rising")
    left.plot(b[half:], h[half:], color=ORANGE, linestyle="--", label="falling")
    left.set(xlabel="bias $b$", ylabel="state", xlim=(b.min(), b.max()), ylim=(-1.1, 1.1), title=f"w = {w:g}")
    left.legend(loc="lower right")
    _regions(right, weights, (float(b.min()), float(b.max())))
    right.plot([w, w], [b.min(), b.max()], color=INK, linestyle="-.", linewidth=1)
    return fig


def _regions(axes: Axes, weights: tuple[float, float], biases: tuple[float, float]) -> None:
    """The plane of weight and bias: where there are two stable states, where one, where a cycle of two."""
    up, down = np.linspace(1, weights[1], 200), np.linspace(weights[0], -1, 200)
    borders = ((up, fold(up), BLUE, "-", ""), (down, flip(down), ORANGE, "--", "//"))
    for at, edge, colour, line, hatch in borders:
        axes.fill_between(at, -edge, edge, facecolor=colour, alpha=0.25, hatch=hatch, edgecolor=colour)
        for sign in (1, -1):
            axes.plot(at, sign * edge, color=colour, linestyle=line)
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
    places = ((0, "one\nstate"), (0.74 * weights[1], "two\nstates"), (0.74 * weights[0], "cycle\nof two"))
    for x, text in places:
        axes.text(x, 0, text, ha="center", va="center", fontsize=9, bbox=box, zorder=3)
    axes.set(xlabel="weight $w$", ylabel="bias $b$", xlim=weights, ylim=biases)


@figure
def memory(
    x: Float[Array, " T"], h: Float[Array, " T"], gradient: Float[Array, " T"], *, slope: float
) -> Figure:
    """Input pulses, the state they leave, and the gradient of the last state by the input of every step.

    slope: at the stable states; its powers are drawn beside the gradient.
    """
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True)
    t = np.arange(len(x))
    pulses = np.flatnonzero(x)
    top.vlines(pulses, 0, x[pulses], color=ORANGE, linestyle="--", label="input $x_t$")
    top.plot(pulses, x[pulses], "o", color=ORANGE)
    top.plot(t, h, color=BLUE, linestyle="-", label="state $h_t$")
    top.axhline(0, color=GREY, linestyle=":", linewidth=1)
    top.set(ylabel="input, state")
    top.legend(loc="lower right", ncols=2)
    bottom.plot(t, np.abs(gradient), color=GREEN, linestyle="-", label="gradient")
    decay = np.abs(gradient[-1]) * slope ** (len(x) - 1 - t)
    bottom.plot(t, decay, color=GREY, linestyle=":", label=f"powers of {slope:.2f}")
    bottom.set(yscale="log", xlabel="step $t$", ylabel="by the input of step $t$", xlim=(0, len(x)))
    bottom.legend(loc="upper left")
    return fig


# ------------------------------------------------------------------------------------------------ two units


@figure
def portraits(paths: Mapping[str, Float[Array, "T N 2"]], *, settled: int = 100) -> Figure:
    """Both states of two-unit nets: N paths for each net, the last `settled` steps as dark points."""
    fig, grid = plt.subplots(1, len(paths), figsize=(7, 7 / len(paths) + 0.6), sharey=True, squeeze=False)
    styles = [(BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (GREY, ":")]
    for axes, (title, path) in zip(grid[0], paths.items(), strict=True):
        for n in range(path.shape[1]):
            colour, line = styles[n % len(styles)]
            way = path[:-settled, n]
            axes.plot(*way[:25].T, color=colour, linestyle=line, linewidth=0.9)
            axes.plot(*way[0], "o", color=colour)
        last = path[-settled:].reshape(-1, 2)
        axes.plot(*last.T, "o", color=INK, markersize=2.5)
        axes.set(title=title, xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
        axes.set_xlabel("state of unit 0")
    grid[0, 0].set_ylabel("state of unit 1")
    return fig
