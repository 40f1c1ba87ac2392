"""Figures of the chapter on a trained cell: its language, its gates along a text, what changing them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PAPER, PURPLE
from coursekit.figures.grids import number_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float, Int
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

QUANTITIES = {
    "i": "input gate $i$",
    "f": "forget gate $f$",
    "o": "output gate $o$",
    "g": "candidate $g$",
    "c": "cell state $c$",
    "h": "output $h$",
}
MARKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"))
BRACKET, QUOTE = 1, 2  # bits of a state of the language


@figure
def chances(table: Float[Array, "S K"], states: Sequence[str], alphabet: str) -> Figure:
    """How likely each character is after each state."""
    fig, axes = plt.subplots(figsize=(7, 2.3))
    number_grid(axes, table, "{:.2f}", cmap="cividis", vmin=0, vmax=0.3, aspect="auto")
    axes.set_xticks(range(len(alphabet)), alphabet, family="monospace", fontsize=11)
    axes.set_yticks(range(len(states)), states)
    axes.set_xlabel("next character")
    return fig


def _spell(axes: Axes, text: str) -> None:
    """The characters of a text as the ticks of the time axis."""
    axes.set_xticks(range(len(text)), text, family="monospace", fontsize=10)
    axes.tick_params(axis="x", length=0)


def _flags(axes: Axes, states: Sequence[int]) -> None:
    """Two bars above a text: where a bracket is open, and where a quote is."""
    flags = np.array([np.array(states) & BRACKET > 0, np.array(states) & QUOTE > 0], float)
    axes.imshow(flags, cmap="Greys", vmin=0, vmax=1.6, aspect="auto")
    axes.set_yticks([0, 1], ["in brackets", "in quotes"])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.axhline(0.5, color=PAPER, linewidth=2)


@figure
def life(text: str, states: Sequence[int], values: Mapping[str, Float[Array, "T U"]]) -> Figure:
    """Gates, candidate, cell state and output of every unit along a text, and the language's state above.

    values: for each of i, f, o, g, c and h, one row for each step.   The cell state is cut at 2.
    """
    heights = [0.5, *(1 for _ in QUANTITIES)]
    fig, (top, *panels) = plt.subplots(1 + len(QUANTITIES), 1, figsize=(7, 8), height_ratios=heights)
    _flags(top, states)
    top.set_title(f"after each character of  {text}", family="monospace", fontsize=9)
    for axes, (name, title) in zip(panels, QUANTITIES.items(), strict=True):
        low, high, colours = (0, 1, "cividis") if name in "ifo" else (-1, 1, "RdBu_r")
        limits = Normalize(2 * low, 2 * high) if name == "c" else Normalize(low, high)
        image = axes.imshow(values[name].T, cmap=colours, norm=limits, aspect="auto")
        axes.set(title=title, ylabel="unit", yticks=range(values[name].shape[1]))
        axes.tick_params(axis="y", length=0, labelsize=7)
        _spell(axes, text)
        fig.colorbar(image, ax=axes, pad=0.01, aspect=8, extend="both" if name == "c" else "neither")
    return fig


@figure
def knowledge(
    correlations: Float[Array, "U 2"],
    pair: tuple[int, int],
    c: Float[Array, "M U"],
    states: Int[Array, " M"],
    names: Sequence[str],
) -> Figure:
    """Correlations of each unit's cell state with brackets and quotes; two cell states against each other.

    pair: the two units.   c, states: cell states and states of the language at M steps.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.9), width_ratios=(1, 2.3))
    number_grid(left, correlations, "{:.2f}", cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    left.set_xticks([0, 1], ["brackets", "quotes"])
    left.set(ylabel="unit", title="correlation")
    first, second = pair
    for state, (name, (colour, mark)) in enumerate(zip(names, MARKS, strict=True)):
        here = states == state
        look = {"color": colour, "marker": mark, "markersize": 3.5, "alpha": 0.7}
        right.plot(c[here, first], c[here, second], linestyle="none", label=name, **look)
    right.set(
        xlabel=f"cell state of unit {first}", ylabel=f"cell state of unit {second}", title="every dot a step"
    )
    fig.legend(loc="outside lower center", ncols=4, markerscale=2, columnspacing=1, handletextpad=0.2)
    return fig


@figure
def intervention(
    text: str,
    states: Sequence[int],
    at: int,
    c: Mapping[str, Float[Array, " T"]],
    chances: Mapping[str, Mapping[str, Float[Array, " T"]]],
    unit: int,
) -> Figure:
    """A cell state and what the net predicts along a text, with and without an intervention at a step.

    c: for each run its cell states.   chances: for each character, and each run, how likely it comes next.
    """
    heights = [0.35, 1.2, *(1 for _ in chances)]
    size = (7, 2.4 + 1.1 * len(chances))
    fig, (top, *panels) = plt.subplots(2 + len(chances), 1, figsize=size, sharex=True, height_ratios=heights)
    _flags(top, states)
    shown = {f"$c$ of unit {unit}": c} | {f"next  {name}": runs for name, runs in chances.items()}
    for axes, (name, runs) in zip(panels, shown.items(), strict=True):
        for (label, values), (colour, line) in zip(runs.items(), ((BLUE, "-"), (ORANGE, "--")), strict=True):
            axes.plot(values, color=colour, linestyle=line, drawstyle="steps-mid", label=label)
        axes.axvline(at, color=GREY, linestyle=":")
        axes.set_ylabel(name)
        axes.margins(y=0.12)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    _spell(panels[-1], text)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return fig


@figure
def changed_minds(
    lags: Sequence[int], shares: Mapping[str, Float[Array, "L U"]], named: Mapping[str, int]
) -> Figure:
    """How often a net predicts as in the other state once one unit's cell state was written, by lag.

    shares: for each concept, one column for each unit.   named: for each concept, the unit to tell apart.
    """
    fig, panels = plt.subplots(1, len(shares), figsize=(7, 2.9), sharey=True)
    for axes, (concept, table) in zip(panels, shares.items(), strict=True):
        for unit, values in enumerate(table.T):
            main = unit == named[concept]
            look = {
                "color": BLUE if main else GREY,
                "linestyle": "-" if main else ":",
                "marker": "o" if main else ".",
            }
            axes.plot(lags, values, label=f"unit {unit}" if main else "each other unit", **look)
        axes.set(xlabel="steps after the change", title=concept, xticks=lags)
        handles, labels = axes.get_legend_handles_labels()
        own = dict(zip(labels, handles, strict=True))
        axes.legend(own.values(), own.keys(), loc="center right")
    panels[0].set(ylabel="share of texts", ylim=(-0.05, 1.05))
    return fig


@figure
def damage(tables: Mapping[str, Float[Array, "R 3"]], rows: Sequence[str], settings: Sequence[str]) -> Figure:
    """Loss above the best possible when a gate is forced, one panel for each gate."""
    fig, panels = plt.subplots(1, len(tables), figsize=(7, 3.3), sharey=True)
    for axes, (gate, table) in zip(panels, tables.items(), strict=True):
        number_grid(axes, table, "{:.3f}", cmap="cividis", norm=LogNorm(0.001, 0.5), aspect="auto")
        axes.set_xticks(range(len(settings)), settings)
        axes.set(title=QUANTITIES[gate], xlabel="forced to")
        axes.axhline(0.5, color=PAPER, linewidth=3)
    panels[0].set_yticks(range(len(rows)), rows)
    return fig


@figure
def cause_and_correlation(
    points: Mapping[str, Float[Array, "M 2"]], marked: Mapping[str, Float[Array, "K 2"]]
) -> Figure:
    """Every unit of several nets: how well its cell state tells of a concept, how often changing it counts.

    points: for each concept, correlation without its sign, and share of texts.   marked: those of one net.
    """
    fig, panels = plt.subplots(1, len(points), figsize=(7, 3.2), sharey=True)
    for axes, (concept, pairs) in zip(panels, points.items(), strict=True):
        axes.axvspan(0.5, 1.02, color=FAINT, alpha=0.45, linewidth=0)
        look = {"linestyle": "none", "markersize": 6}
        axes.plot(*pairs.T, marker="o", color=BLUE, alpha=0.75, label="a unit of another net", **look)
        axes.plot(
            *marked[concept].T, marker="s", color=ORANGE, markeredgecolor=INK, label="of this net", **look
        )
        axes.set(
            title=concept, xlabel="correlation, without its sign", xlim=(-0.03, 1.02), ylim=(-0.05, 1.05)
        )
    panels[0].set_ylabel("share of texts")
    panels[0].legend(loc="upper left")
    return fig
