"""Figures of the page that takes gated cells apart: seeds, differences with intervals, learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREY, INK, ORANGE, PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

    Results = Mapping[str, Mapping[str, Sequence[float]]]  # task -> variant -> a result for each seed


class Effect(NamedTuple):
    """A difference to the reference: its mean, an interval around it, and whether it is more than noise."""

    mean: float
    low: float
    high: float
    clear: bool


@figure
def seeds(results: Results, reference: str, measures: Mapping[str, str]) -> Figure:
    """Every variant in a row, every seed as a dot, the median as a bar; small is good.

    reference: variant whose median is drawn through all rows.   measures: what each task is judged by.
    """
    names = list(next(iter(results.values())))
    size = (7, 0.3 * len(names) + 0.9)
    fig, panels = plt.subplots(1, len(results), figsize=size, sharey=True, squeeze=False)
    for axes, (task, variants) in zip(panels[0], results.items(), strict=True):
        axes.axvline(np.median(variants[reference]), color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        for row, name in enumerate(names):
            values = np.sort(variants[name])
            spread = np.linspace(-0.22, 0.22, len(values))  # so that equal results are seen one by one
            colour = ORANGE if name == reference else BLUE
            axes.plot(values, row + spread, "o", color=colour, markersize=3.2, alpha=0.75, linestyle="none")
            middle = [np.median(values)] * 2
            axes.plot(middle, [row - 0.36, row + 0.36], color=INK, linewidth=1.8, linestyle="-")
        axes.set(xlabel=measures[task], title=task)
    panels[0, 0].set_yticks(range(len(names)), names)
    panels[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return fig


@figure
def effects(tasks: Mapping[str, Mapping[str, Effect]], measures: Mapping[str, str]) -> Figure:
    """Differences to the reference with their intervals; filled where they are more than noise.

    Left of zero is better than the reference.   measures: what each task is judged by.
    """
    names = list(next(iter(tasks.values())))
    size = (7, 0.3 * len(names) + 0.9)
    fig, panels = plt.subplots(1, len(tasks), figsize=size, sharey=True, squeeze=False)
    for axes, (task, variants) in zip(panels[0], tasks.items(), strict=True):
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle="-", zorder=0)
        for row, name in enumerate(names):
            mean, low, high, clear = variants[name]
            colour = (BLUE if mean < 0 else ORANGE) if clear else GREY
            axes.plot([low, high], [row, row], color=colour, linewidth=1.8, linestyle="-")
            marker = "o" if mean < 0 else "D"
            face = colour if clear else PAPER
            axes.plot(mean, row, marker, color=colour, markerfacecolor=face, markersize=6)
        axes.set(xlabel=f"difference in {measures[task]}", title=task)
    panels[0, 0].set_yticks(range(len(names)), names)
    panels[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return fig


@figure
def rates(tasks: Mapping[str, Float[Array, "V R"]], names: Sequence[str], tried: Sequence[float]) -> Figure:
    """Mean result of every variant (row) at every learning rate (column); the best of a row is framed."""
    size = (7, 0.3 * len(names) + 0.9)
    fig, panels = plt.subplots(1, len(tasks), figsize=size, sharey=True, squeeze=False)
    for axes, (task, table) in zip(panels[0], tasks.items(), strict=True):
        low, high = table.min(), table.max()
        axes.imshow(table, aspect="auto", cmap="Blues", vmin=low, vmax=high + 0.4 * (high - low))
        for row, column in np.ndindex(table.shape):
            best = column == table[row].argmin()
            box = {"facecolor": PAPER if best else "none", "edgecolor": ORANGE if best else "none", "pad": 2}
            axes.text(
                column, row, f"{table[row, column]:.2f}", ha="center", va="center", fontsize=8, bbox=box
            )
        axes.set_xticks(range(len(tried)), [f"{rate:g}" for rate in tried])
        axes.set(xlabel="learning rate", title=task)
        axes.tick_params(length=0)
    panels[0, 0].set_yticks(range(len(names)), names)
    panels[0, 0].set_facecolor(FAINT)
    return fig
