"""Figures of the chapter on backpropagation through time: paths, shares, truncation, schedules, costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREY, INK, ORANGE, PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from jaxtyping import Bool, Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array
    from coursekit.bptt import Plan

    Point = tuple[float, float]

RADIUS = 0.3  # of a node; columns are 2 apart
ROWS = {"x": 0.0, "h": 1.5, "o": 3.0, "L": 4.2}
MARKERS = "osD^v"


# -------------------------------------------------------------------------------------------------- the graph


def _node(axes: Axes, at: Point, text: str, *, marked: bool = False) -> None:
    axes.add_patch(
        Circle(
            at, RADIUS, facecolor=PAPER, edgecolor=ORANGE if marked else INK, linewidth=2.4 if marked else 1
        )
    )
    axes.text(*at, text, ha="center", va="center", fontsize=9)


def _arrow(
    axes: Axes, start: Point, end: Point, *, colour: str = GREY, shift: Point = (0, 0), **look: Any
) -> None:
    """An arrow from the rim of one node to the rim of another, moved aside by shift."""
    (x0, y0), (x1, y1), (dx, dy) = start, end, shift
    rim = 1.15 * RADIUS / np.hypot(x1 - x0, y1 - y0)
    ends = [(x0 + rim * (x1 - x0) + dx, y0 + rim * (y1 - y0) + dy)]
    ends += [(x1 - rim * (x1 - x0) + dx, y1 - rim * (y1 - y0) + dy)]
    axes.add_patch(
        FancyArrowPatch(
            *ends, arrowstyle="-|>", mutation_scale=11, color=colour, shrinkA=0, shrinkB=0, **look
        )
    )


@figure
def two_paths(steps: int = 3, at: int = 1) -> Figure:
    """The unfolded net, and every path by which the hidden state of step `at` reaches the loss.

    Solid grey arrows compute, dashed ones bring gradients back to that state.
    """
    fig, axes = plt.subplots(figsize=(7, 4.3))
    places = {(name, t): (2.0 * t, y) for name, y in ROWS.items() for t in range(steps)}
    places["h", -1] = (-2.0, ROWS["h"])
    for (name, t), point in places.items():
        _node(
            axes,
            point,
            f"$L_{{{t}}}$" if name == "L" else rf"$\mathbf{{{name}}}_{{{t}}}$",
            marked=(name, t) == ("h", at),
        )
    for t in range(steps):
        for start, end, weight in (("x", "h", "U"), ("h", "o", "V"), ("o", "L", "")):
            _arrow(axes, places[start, t], places[end, t], linewidth=1.2)
            _weight(axes, places[start, t], places[end, t], weight, (-0.28, 0))
        _arrow(axes, places["h", t - 1], places["h", t], linewidth=1.2)
        _weight(axes, places["h", t - 1], places["h", t], "W", (0, -0.25))
        if t >= at:
            for start, end in (("L", "o"), ("o", "h")):
                _arrow(
                    axes,
                    places[start, t],
                    places[end, t],
                    colour=ORANGE,
                    shift=(0.16, 0),
                    linestyle="--",
                    linewidth=1.6,
                )
        if t > at:
            _arrow(
                axes,
                places["h", t],
                places["h", t - 1],
                colour=ORANGE,
                shift=(0, 0.16),
                linestyle="--",
                linewidth=1.6,
            )
    axes.set(xlim=(-2.5, 2.0 * steps - 1.5), ylim=(-0.5, 4.7), aspect="equal")
    axes.axis("off")
    looks = {
        "computed forward": (GREY, "-"),
        rf"gradient on its way to $\mathbf{{h}}_{{{at}}}$": (ORANGE, "--"),
    }
    lines = [
        Line2D([], [], color=colour, linestyle=style, label=name) for name, (colour, style) in looks.items()
    ]
    fig.legend(handles=lines, loc="outside upper center", ncols=2)
    return fig


def _weight(axes: Axes, start: Point, end: Point, name: str, shift: Point) -> None:
    if name:
        x, y = ((a + b) / 2 + d for a, b, d in zip(start, end, shift, strict=True))
        axes.text(x, y, rf"$\mathbf{{{name}}}$", ha="center", va="center", fontsize=9)


# ---------------------------------------------------------------------------------------------- contributions


@figure
def contributions(sizes: Float[Array, "T T"], shares: Mapping[str, Sequence[float]], lag: int) -> Figure:
    """Where the gradient of W comes from: by loss and step on the left, by their distance on the right.

    sizes: norm of what the loss of step s (row) gives through step r (column).   shares: name -> part of the
    gradient by distance s - r, from 0 on.   lag: distance that the task asks for, marked.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1), width_ratios=(1, 1.25))
    shown = np.where(sizes > 0, sizes, np.nan)
    largest = np.nanmax(shown)
    image = left.imshow(shown, norm=LogNorm(largest / 1e4, largest), origin="upper")
    left.set(xlabel="step r that used W", ylabel="step s of the loss")
    left.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    fig.colorbar(image, ax=left, shrink=0.85, label="size of the contribution")
    width = 0.8 / len(shares)
    for i, ((name, values), hatch) in enumerate(zip(shares.items(), ("", "//"), strict=False)):
        positions = np.arange(len(values)) + (i - (len(shares) - 1) / 2) * width
        right.bar(positions, values, width, label=name, color=(BLUE, ORANGE)[i], hatch=hatch, edgecolor=PAPER)
    right.axvline(lag - 0.5, color=GREY, linestyle=":", linewidth=1.2)
    right.axhline(0, color=INK, linewidth=0.6)
    right.set(xlabel="steps back, s - r", ylabel="share of the gradient")
    right.margins(y=0.25)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend()
    return fig


# ------------------------------------------------------------------------------------------------- truncation


@figure
def reach(panels: Mapping[str, Bool[Array, "T T"]]) -> Figure:
    """Which steps (columns) the loss of each step (rows) sends a gradient to, one panel for each name."""
    fig, row = plt.subplots(1, len(panels), figsize=(7, 7 / len(panels) + 0.5), squeeze=False)
    for axes, (name, reached) in zip(row[0], panels.items(), strict=True):
        steps = len(reached)
        for s, r in np.ndindex(steps, steps):
            colour = BLUE if reached[s, r] else FAINT if r <= s else PAPER
            axes.add_patch(Rectangle((r + 0.06, s + 0.06), 0.88, 0.88, color=colour))
        axes.set(xlim=(0, steps), ylim=(steps, 0), aspect="equal", xlabel="input of step")
        axes.set_xticks(np.arange(0, steps, 2) + 0.5, range(0, steps, 2))
        axes.set_yticks(np.arange(0, steps, 2) + 0.5, range(0, steps, 2))
        axes.set_title(name, fontsize=9)
    row[0][0].set_ylabel("loss of step")
    return fig


@figure
def against_k(
    ks: Sequence[int], errors: Mapping[str, Sequence[float]], accuracies: Mapping[str, Sequence[float]],
    *, chance: float, lag: int,
) -> Figure:  # fmt: skip
    """Truncation after k steps: error of the gradient on the left, what training reaches on the right.

    lag: steps between a symbol and the answer to it, marked.   chance: accuracy without any learning.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1))
    for axes, curves in ((left, errors), (right, accuracies)):
        for (name, values), marker in zip(curves.items(), MARKERS, strict=False):
            axes.plot(ks, values, marker=marker, label=name)
        axes.axvline(lag, color=GREY, linestyle=":", linewidth=1.2)
        axes.set(xlabel="k (steps)", xscale="log")
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.minorticks_off()
    left.set(ylabel="relative error of the gradient", ylim=(-0.03, 1.1 * max(map(max, errors.values()))))
    right.axhline(chance, color=GREY, linestyle="--", linewidth=1)
    right.text(ks[-1], chance, "chance", ha="right", va="bottom", fontsize=9)
    right.set(ylabel="share of right answers", ylim=(0, 1.04))
    left.legend(loc="upper right")
    return fig


# -------------------------------------------------------------------------------------------------- schedules


@figure
def schedules(plans: Mapping[str, Plan]) -> Figure:
    """What each plan does in the order of work: forward steps, backward steps, and the states that it holds.

    One unit of the horizontal axis is one step forward or one step back.
    """
    fig, column = plt.subplots(len(plans), 1, figsize=(7, 1.9 * len(plans)), sharex=True, squeeze=False)
    for axes, (name, plan) in zip(column[:, 0], plans.items(), strict=True):
        clock, kept = 0, {0: 0}
        for kind, start, stop in plan.actions:
            axes.plot([clock, clock + stop - start], [start, stop], color=BLUE, linestyle="-", linewidth=1.6)
            clock += stop - start
            if kind == "advance":
                kept[stop] = clock
                axes.plot(clock, stop, "o", color=INK, markersize=4)
                continue
            axes.plot(
                [clock, clock + stop - start], [stop, start], color=ORANGE, linestyle="--", linewidth=1.6
            )
            clock += stop - start
            since = kept.pop(start)
            axes.plot([since, clock], [start, start], color=GREY, linestyle=":", linewidth=1.2)
        axes.set_title(f"{name}: {plan.forward_steps} forward steps, {plan.stored_states} states", fontsize=9)
        axes.set(ylabel="step", ylim=(-0.5, plan.steps + 0.5))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    column[-1, 0].set(xlabel="work done (steps forward or back)", xlim=(-1, None))
    looks = {"forward": (BLUE, "-"), "back": (ORANGE, "--"), "kept state": (GREY, ":")}
    lines = [
        Line2D([], [], color=colour, linestyle=style, label=key) for key, (colour, style) in looks.items()
    ]
    fig.legend(handles=lines, loc="outside upper center", ncols=3)
    return fig


# ------------------------------------------------------------------------------------------------------ costs


@figure
def costs(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Figure:
    """Time and memory of each way against the number of steps, both on logarithmic axes.

    rows: of benchmarks/results/bptt.json.   names: way -> what the legend calls it; others are left out.
    """
    fig, panels = plt.subplots(1, 2, figsize=(7, 3.5))
    for (way, label), marker in zip(names.items(), MARKERS, strict=False):
        own = [row for row in rows if row["way"] == way]
        steps = [row["steps"] for row in own]
        for axes, key, scale in zip(panels, ("seconds", "peak_bytes"), (1e3, 1e-6), strict=True):
            axes.loglog(steps, [scale * row[key] for row in own], marker=marker, markersize=4, label=label)
            axes.set_xticks(steps, [str(step) for step in steps])
            axes.minorticks_off()
    for axes, label in zip(panels, ("time (ms)", "most memory at a time (MB)"), strict=True):
        axes.set(xlabel="steps T", ylabel=label)
        axes.yaxis.set_major_formatter("{x:g}")
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=3)
    return fig
