"""Figures of the chapter on the LSTM: two ways back, orders of blocks, sizes of gradients, forget biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PAPER, PURPLE, STYLE_CYCLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

    Point = tuple[float, float]

BLOCK_COLOURS = {"i": BLUE, "f": ORANGE, "g": GREEN, "o": PURPLE}
LOOKS = [STYLE_CYCLE.by_key()[key] for key in ("color", "linestyle")]
RADIUS, WIDE = 0.36, 3.2  # of a node; from one step to the next
ROWS = {"c": 3.0, "a": 1.5, "h": 0.0}


# ----------------------------------------------------------------------------------------------- the two ways


def _name(letter: str, step: int) -> str:
    return rf"$\mathbf{{{letter}}}_{{t{step:+d}}}$" if step else rf"$\mathbf{{{letter}}}_t$"


def _place(letter: str, step: int) -> Point:
    """The blocks of a step stand between its states and those before it."""
    return WIDE * step - (WIDE / 2 if letter == "a" else 0), ROWS[letter]


def _way(axes: Axes, start: Point, end: Point, *, colour: str = GREY, aside: float = 0, **look: Any) -> None:
    """An arrow from the rim of one node to that of another, moved to its left by `aside`."""
    along = np.subtract(end, start) / np.hypot(*np.subtract(end, start))
    shift = aside * np.array([-along[1], along[0]])
    rim = (RADIUS + 0.06) * along
    ends = tuple(start + rim + shift), tuple(end - rim + shift)
    look = {"linewidth": 1.2, "mutation_scale": 11} | look
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", color=colour, shrinkA=0, shrinkB=0, **look))


@figure
def two_ways() -> Figure:
    """Two steps of an LSTM, and the two ways on which the gradient of c_{t+1} reaches c_t.

    Solid grey arrows compute.  The direct way stays on the lane of the cell state, the other one goes by the
    gates of the next step and the hidden state.
    """
    fig, axes = plt.subplots(figsize=(7, 4.1))
    nodes = [(k, step) for step in (-1, 0, 1) for k in ("c", "h")] + [("a", 0), ("a", 1)]
    forward = [("c", -1, "h", -1)]
    for step in (0, 1):
        forward += [("c", step - 1, "c", step), ("h", step - 1, "a", step), ("a", step, "c", step)]
        forward += [("c", step, "h", step), ("a", step, "h", step)]
    for k0, t0, k1, t1 in forward:
        _way(axes, _place(k0, t0), _place(k1, t1))
    direct = {"colour": ORANGE, "linestyle": (0, (5, 2)), "linewidth": 2.2, "aside": -0.17}
    _way(axes, _place("c", 1), _place("c", 0), **direct)
    detour = {"colour": PURPLE, "linestyle": (0, (1, 1)), "linewidth": 2.2, "aside": 0.17}
    for (k0, t0), (k1, t1) in (
        (("c", 1), ("a", 1)),
        (("a", 1), ("h", 0)),
        (("h", 0), ("c", 0)),
    ):
        _way(axes, _place(k0, t0), _place(k1, t1), **detour)
    for k, step in nodes:
        place = _place(k, step)
        edge = {"edgecolor": ORANGE, "linewidth": 2.2} if (k, step) == ("c", 0) else {"edgecolor": INK}
        axes.add_patch(Circle(place, RADIUS, facecolor=PAPER, **edge, gid=f"{k}{step}"))
        axes.text(*place, _name(k, step), ha="center", va="center", fontsize=9)
    for step in (0, 1):
        x, y = _place("c", step)
        axes.text(x - WIDE / 2, y + 0.34, rf"$\odot\ $ {_name('f', step)}", ha="center", fontsize=10)
        axes.text(x + 0.32, y / 2 + 0.35, rf"tanh, $\odot\ $ {_name('o', step)}", fontsize=9, va="center")
        x, y = _place("a", step)
        axes.text(x - 1.0, y / 2 + 0.28, r"$\mathbf{W}$", ha="center", va="center", fontsize=10)
    axes.set(xlim=(-WIDE - 0.6, WIDE + 1.6), ylim=(-0.6, 3.8), aspect="equal")
    axes.axis("off")
    looks = {"computed forward": (GREY, "-"), r"the lane: times $\mathbf{f}_{t+1}$": (ORANGE, (0, (5, 2)))}
    looks |= {"by the gates and the hidden state": (PURPLE, (0, (1, 1)))}
    lines = [
        Line2D([], [], color=colour, linestyle=style, label=name) for name, (colour, style) in looks.items()
    ]
    fig.legend(handles=lines, loc="outside upper center", ncols=3)
    return fig


# ------------------------------------------------------------------------------------------- order of blocks


@figure
def block_orders(orders: Mapping[str, str]) -> Figure:
    """In which order each library stacks the blocks of an LSTM's weights, one row for each."""
    fig, axes = plt.subplots(figsize=(7, 0.55 * len(orders) + 0.35))
    for row, letters in enumerate(orders.values()):
        for column, letter in enumerate(letters):
            box = Rectangle(
                (column + 0.04, row + 0.1), 0.92, 0.8, facecolor=PAPER, edgecolor=BLOCK_COLOURS[letter]
            )
            box.set_linewidth(1.8)
            axes.add_patch(box)
            text = {"ha": "center", "va": "center", "color": BLOCK_COLOURS[letter], "fontsize": 13}
            axes.text(column + 0.5, row + 0.5, rf"$\mathbf{{{letter}}}$", **text)
    axes.set(xlim=(0, 4), ylim=(len(orders), 0))
    axes.set_yticks(np.arange(len(orders)) + 0.5, list(orders))
    ends = ("0", "U", "2U", "3U", "4U")
    axes.set_xticks(range(5), [f"${end}$" for end in ends])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return fig


# ---------------------------------------------------------------------------------------- sizes of gradients


@figure
def gradient_sizes(
    panels: Mapping[str, Mapping[float, tuple[Float[Array, " K"], Float[Array, " K"]]]],
    *,
    lowest: float = 1e-18,
) -> Figure:
    """Size of the gradient by the cell state against the distance from the loss, one curve for each bias.

    panels: start -> bias -> sizes by distance, of the whole gradient (thick) and of what the lane alone
    brings (thin); below `lowest` they are cut off.
    """
    fig, row = plt.subplots(1, len(panels), figsize=(7, 3.6), sharey=True, squeeze=False)
    for axes, (start, curves) in zip(row[0], panels.items(), strict=True):
        for (bias, (whole, lane)), colour, style in zip(curves.items(), *LOOKS, strict=False):
            look = {"color": colour, "linestyle": style}
            axes.plot(whole, linewidth=2.2, label=f"bias {bias:g}", **look)
            axes.plot(lane, linewidth=0.9, **look)
        axes.axhline(1, color=GREY, linestyle="-", linewidth=0.6, zorder=0)
        axes.set(yscale="log", xlabel="distance from the loss (steps)", title=start)
    row[0, 0].set(ylim=(lowest, 1e3), ylabel="gradient by c, relative to distance 0")
    handles = row[0, 0].get_legend_handles_labels()[0]
    handles.append(Line2D([], [], color=GREY, linestyle="-", linewidth=0.9, label="the lane alone"))
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig


# -------------------------------------------------------------------------------------------------- training


@figure
def running_errors(curves: Mapping[str, Sequence[Sequence[float]]], every: int, *, chance: float) -> Figure:
    """Share of wrong answers while nets learn, a line for each seed; all seeds of a name look alike.

    every: updates from one value of a curve to the next.   chance: error of a random guess.
    """
    fig, axes = plt.subplots()
    for (name, runs), colour, style in zip(curves.items(), *LOOKS, strict=False):
        for number, values in enumerate(runs):
            updates = every * np.arange(len(values) + 1)
            label = name if number == 0 else None
            axes.plot(updates, [chance, *values], color=colour, linestyle=style, label=label, linewidth=1.5)
    axes.axhline(chance, color=GREY, linestyle="-", linewidth=0.6, zorder=0)
    axes.set(xlabel="updates", ylabel="share of wrong answers", ylim=(0, 0.9))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


@figure
def updates_by_bias(runs: Sequence[Mapping[str, Any]], limit: int) -> Figure:
    """Updates until the task was solved, a dot for each seed; crosses above the line are nets that failed.

    runs: of benchmarks/results/forget_bias.json.   limit: updates after which a net was given up.
    """
    starts = list(dict.fromkeys(run["start"] for run in runs))
    columns = [list(dict.fromkeys(run["forget_bias"] for run in runs if run["start"] == s)) for s in starts]
    ratios = [len(biases) for biases in columns]
    fig, row = plt.subplots(1, len(starts), figsize=(7, 3.3), sharey=True, squeeze=False, width_ratios=ratios)
    for axes, start, biases in zip(row[0], starts, columns, strict=True):
        for column, bias in enumerate(biases):
            own = [run for run in runs if (run["start"], run["forget_bias"]) == (start, bias)]
            aside = np.linspace(-0.24, 0.24, len(own)) if len(own) > 1 else [0]
            for run, x in zip(own, aside, strict=True):
                solved = run["solved"]
                look = {"marker": "o", "color": BLUE} if solved else {"marker": "x", "color": ORANGE}
                height = run["updates"] if solved else 1.12 * limit
                axes.plot(column + x, height, linestyle="none", markersize=5, **look)
            share = f"{sum(run['solved'] for run in own)} of {len(own)}"
            axes.text(column, 1.2 * limit, share, ha="center", va="bottom", fontsize=9)
        axes.axhline(limit, color=FAINT, linestyle="-", linewidth=1)
        axes.set_xticks(range(len(biases)), ["torch's" if b is None else f"{b:g}" for b in biases])
        axes.set(xlabel="bias of the forget gate", title=f"start: {start}", ylim=(0, 1.32 * limit))
    row[0, 0].set_ylabel("updates until solved")
    row[0, 0].set_yticks(np.linspace(0, limit, 5).astype(int))
    return fig
