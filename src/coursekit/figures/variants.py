"""Figures of the variants of an LSTM: a counter set by hand, nets that learn to count, a bounded state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, GREEN, GREY, ORANGE, PURPLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float, Int
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))
MARKERS = "osD^"


@figure
def over_time(
    spikes: Float[np.ndarray, " T"],
    rows: Mapping[str, Mapping[str, Float[np.ndarray, " T"]]],
    wanted: Int[np.ndarray, " T"],
) -> Figure:
    """Numbers of one sequence under each other, a row for each name with its curves.

    spikes: 1 where one comes in, a grey line through all rows.   wanted: 1 where the net should fire, a dot
    above the last row.
    """
    size = (7, 1.15 * len(rows) + 0.9)
    fig, panels = plt.subplots(len(rows), 1, figsize=size, sharex=True, squeeze=False)
    steps = np.arange(len(spikes))
    for axes, (name, curves) in zip(panels.flat, rows.items(), strict=True):
        for at in np.flatnonzero(spikes):
            axes.axvline(at, color=GREY, linestyle="-", linewidth=0.8, alpha=0.6, zorder=0)
        for (label, values), (colour, style) in zip(curves.items(), LOOKS, strict=False):
            axes.plot(steps, values, color=colour, linestyle=style, label=label, drawstyle="steps-mid")
        axes.set_ylabel(name)
        axes.margins(y=0.12)
    last = panels.flat[-1]
    top = last.get_ylim()[1]
    moments = np.flatnonzero(wanted)
    last.plot(moments, np.full(len(moments), top), "v", color=GREEN, linestyle="none", clip_on=False)
    last.set_xlabel("time (steps)")
    _legend_of_all(fig, panels.flat)
    return fig


def _legend_of_all(fig: Figure, panels: Sequence[Axes]) -> None:
    """One legend above all panels, in which every name stands once; none for a single name."""
    named = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    if len(named) > 1:
        fig.legend(named.values(), named, loc="outside upper center", ncols=len(named))


@figure
def learning(
    curves: Mapping[str, Sequence[Sequence[float]]], *, every: int, chance: float, ylabel: str
) -> Figure:
    """Loss while nets learn: for each kind of net a thin line for every seed and a thick one for the median.

    curves: kind -> seeds -> losses, one before every so many updates.   chance: loss of the best constant
    answer, a grey line.
    """
    fig, axes = plt.subplots()
    for (name, seeds), (colour, style) in zip(curves.items(), LOOKS, strict=False):
        losses = np.array(seeds)
        updates = every * np.arange(losses.shape[1])
        axes.plot(updates, losses.T, color=colour, linestyle=style, linewidth=0.6, alpha=0.6)
        axes.plot(updates, np.median(losses, axis=0), color=colour, linestyle=style, label=name)
    axes.axhline(chance, color=GREY, linestyle="-", linewidth=0.8, zorder=0)
    right = every * (losses.shape[1] - 1)
    look = {"color": GREY, "fontsize": 8, "va": "bottom", "ha": "right"}
    axes.text(right, chance * 1.15, "best constant answer", **look)
    axes.set(xlabel="updates", ylabel=ylabel, yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


@figure
def final_losses(
    rows: Mapping[str, Mapping[str, Sequence[float]]], *, xlabel: str, chance: float = 1.0
) -> Figure:
    """One row for each setting, a dot for each seed, a tick at the median; kinds of net by colour and mark.

    rows: setting -> kind -> losses.   chance: loss of the best constant answer, a grey line.
    """
    kinds = list(dict.fromkeys(kind for losses in rows.values() for kind in losses))
    fig, axes = plt.subplots(figsize=(7, 0.42 * len(rows) + 1.1))
    for number, kind in enumerate(kinds):
        (colour, _), shift = LOOKS[number], 0.3 * (number - (len(kinds) - 1) / 2)
        at = [(row + shift, losses[kind]) for row, losses in enumerate(rows.values()) if kind in losses]
        points = np.array([(loss, row) for row, losses in at for loss in losses])
        axes.plot(*points.T, MARKERS[number], color=colour, linestyle="none", alpha=0.75, label=kind)
        middles = [float(np.median(losses)) for _, losses in at]
        axes.plot(middles, [row for row, _ in at], "|", color=colour, linestyle="none", markersize=13)
    axes.axvline(chance, color=GREY, linestyle="-", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel=xlabel)
    fig.legend(loc="outside upper center", ncols=len(kinds))
    return fig


@figure
def states(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " T"]]], *, ylabel: str, sharey: bool = True
) -> Figure:
    """Curves against time in panels beside each other; a name looks the same in all of them.

    sharey: whether the panels have one scale.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    looks = dict(zip(names, LOOKS, strict=False))
    fig, grid = plt.subplots(1, len(panels), figsize=(7, 3.1), sharey=sharey, squeeze=False)
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=True):
        for name, values in curves.items():
            colour, style = looks[name]
            axes.plot(np.arange(len(values)), values, color=colour, linestyle=style, label=name)
        axes.set(xlabel="time (steps)", title=title)
    grid[0, 0].set_ylabel(ylabel)
    _legend_of_all(fig, grid.flat)
    return fig
