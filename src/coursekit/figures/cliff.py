"""Figures of the chapter on the cliff: the loss of a one-unit net over weight and bias, ways across it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LightSource

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, GREEN, GREY, INK, ORANGE, PAPER
from coursekit.figures.dynamics import fold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

STYLES = ((ORANGE, "--", "o"), (PAPER, "-", "s"))  # without clipping, with clipping
FLOOR = 1e-4  # the least loss that a logarithmic scale shows


class Steps(NamedTuple):
    """A descent: weight, bias, loss, and norm of the gradient before it was clipped, at every step."""

    w: Float[Array, " S"]
    b: Float[Array, " S"]
    loss: Float[Array, " S"]
    norm: Float[Array, " S"]


def watershed(w: Float[Array, " W"], h0: float) -> Float[Array, " W"]:
    """The bias at which a unit that starts at h0 sits on an unstable fixed point; nan if it is stable there.

    Implements eq-cliff-watershed.

    >>> watershed(np.array([0.9, 2.0]), 0.5).round(3)
    array([   nan, -0.451])
    """
    return np.where(np.abs(w * (1 - h0**2)) > 1, np.arctanh(h0) - w * h0, np.nan)


@figure
def surface(w: Float[Array, " W"], b: Float[Array, " B"], loss: Float[Array, "B W"]) -> Figure:
    """The loss as a landscape over weight and bias, as in goodfellow2016deep, figure 10.17."""
    fig = plt.figure(figsize=(7, 4.6), dpi=200, layout="none")
    axes = fig.add_axes((0.0, 0.0, 1.0, 1.0), projection="3d", facecolor="none")
    light = LightSource(azdeg=200, altdeg=55)
    shaded = light.shade(np.log10(loss + FLOOR), plt.get_cmap("cividis"), blend_mode="soft", vert_exag=0.02)
    grid = np.meshgrid(w, b)
    # As a picture: 14,000 patches would be a large file, with seams between them.
    look = {"linewidth": 0, "antialiased": False, "rasterized": True}
    axes.plot_surface(*grid, loss, facecolors=shaded, rstride=1, cstride=1, **look)
    axes.set(xlabel="weight $w$", ylabel="bias $b$", zlabel="loss", xlim=w[[0, -1]], ylim=b[[0, -1]])
    axes.view_init(elev=32, azim=120)
    axes.set_box_aspect((1.2, 1.2, 0.62), zoom=0.92)
    return fig


@figure
def last_states(
    w: Float[Array, " W"], b: Float[Array, " B"], states: Mapping[float, Float[Array, "B W"]]
) -> Figure:
    """The last state over weight and bias for several initial states, with folds and watersheds.

    states: for each initial state h0, the state after the last step.
    """
    fig, grid = plt.subplots(1, len(states), figsize=(7, 3.1), sharey=True, squeeze=False)
    beyond = np.linspace(1, w.max(), 300)
    for axes, (h0, state) in zip(grid[0], states.items(), strict=True):
        image = axes.pcolormesh(w, b, state, cmap="cividis", vmin=-1, vmax=1, rasterized=True)
        for sign in (1, -1):
            axes.plot(beyond, sign * fold(beyond), color=PAPER, linestyle=":", linewidth=1.8)
        axes.plot(beyond, watershed(beyond, h0), color=ORANGE, linestyle="--", linewidth=2.2)
        axes.set(title=f"start {h0:g}", xlabel="weight $w$", xlim=(w.min(), w.max()), ylim=(b.min(), b.max()))
    grid[0, 0].set_ylabel("bias $b$")
    fig.colorbar(image, ax=grid[0].tolist(), ticks=[-1, 0, 1], shrink=0.9).set_label("last state")
    return fig


@figure
def growth(steps: Sequence[int], steepest: Mapping[str, Sequence[float]]) -> Figure:
    """The largest slope of the loss on each cliff against the length of the sequence."""
    fig, axes = plt.subplots(figsize=(7, 3))
    looks = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"))
    for (label, values), (colour, line, mark) in zip(steepest.items(), looks, strict=False):
        axes.plot(steps, values, color=colour, linestyle=line, marker=mark, label=label)
    axes.set(yscale="log", xlabel="steps $T$", ylabel="largest slope by $b$")
    axes.legend()
    return fig


def _follow(axes: Axes, path: Steps, colour: str, line: str, label: str) -> None:
    """A path with a dark rim, so that it shows on any ground."""
    axes.plot(path.w, path.b, color=INK, linestyle="-", linewidth=3.6)
    axes.plot(path.w, path.b, color=colour, linestyle=line, linewidth=1.8, label=label)


@figure
def descents(
    w: Float[Array, " W"],
    b: Float[Array, " B"],
    loss: Float[Array, "B W"],
    paths: Mapping[str, Steps],
    *,
    limit: float,
) -> Figure:
    """Two ways of gradient descent on the map of the loss, and the norms of the gradients that they met."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), dpi=200, width_ratios=(5, 4))
    ground = {"cmap": "cividis", "shading": "gouraud", "rasterized": True}
    left.pcolormesh(w, b, np.log10(loss + FLOOR), **ground)
    right.axhline(limit, color=GREY, linestyle=":", label="threshold")
    for (label, path), (colour, line, mark) in zip(paths.items(), STYLES, strict=True):
        _follow(left, path, colour, line, label)
        shown = BLUE if colour == PAPER else colour
        look = {"color": shown, "linestyle": line, "marker": mark, "markersize": 2}
        right.plot(np.maximum(path.norm, 1e-17), label=label, **look)
    left.plot(path.w[0], path.b[0], "o", color=PAPER, markeredgecolor=INK, markersize=8)
    _mark_exit(left, next(iter(paths.values())), b.max())
    left.set(xlabel="weight $w$", ylabel="bias $b$", xlim=w[[0, -1]], ylim=b[[0, -1]])
    right.set(yscale="log", xlabel="step of descent", ylabel="norm of the gradient", ylim=(1e-17, 1e8))
    right.legend(loc="upper right")
    return fig


def _mark_exit(axes: Axes, path: Steps, top: float) -> None:
    """Where a path leaves the map, and how far it goes."""
    outside = np.flatnonzero(path.b > top)
    if len(outside):
        last = outside[0] - 1
        at = (path.w[last] + 0.03, top - 0.04)
        axes.text(*at, f"to $b$ = {path.b[outside[0]]:.0f}", color=PAPER, va="top", weight="bold")
