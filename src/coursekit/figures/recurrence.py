"""Figures of the page that sets recurrence against convolution across time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import ScalarFormatter

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREY, INK, ORANGE, PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Step = tuple[str, int]  # "x", "h" or "y", and a time step

ROWS = {"x": 0.0, "h": 1.0, "y": 1.0}


def _place(step: Step) -> tuple[float, float]:
    name, t = step
    return float(t), ROWS[name]


def _arrow(axes: Axes, start: Step, end: Step, *, lit: bool) -> None:
    look = {"color": ORANGE if lit else GREY, "linewidth": 2.2 if lit else 0.9, "shrinkA": 11, "shrinkB": 11}
    axes.annotate("", _place(end), _place(start), arrowprops={"arrowstyle": "-|>", **look})


def _unit(axes: Axes, step: Step, *, lit: bool) -> None:
    name, t = step
    face = FAINT if name == "x" else PAPER
    edge = {"edgecolors": ORANGE if lit else INK, "linewidths": 2.2 if lit else 1}
    axes.scatter(*_place(step), s=430, facecolors=face, zorder=3, **edge)
    axes.text(*_place(step), f"${name}_{{{t}}}$", ha="center", va="center", zorder=4)


def reached(arrows: Sequence[tuple[Step, Step]], source: Step) -> set[Step]:
    """All that depends on the source, itself included; arrows are in the order of computation.

    >>> sorted(reached([(("x", 0), ("h", 0)), (("h", 0), ("h", 1)), (("x", 1), ("h", 1))], ("x", 0)))
    [('h', 0), ('h', 1), ('x', 0)]
    """
    found = {source}
    for start, end in arrows:
        if start in found:
            found.add(end)
    return found


def convolution_arrows(steps: int, kernel: int) -> list[tuple[Step, Step]]:
    """What a causal convolution reads: each output the last `kernel` inputs."""
    return [(("x", i), ("y", t)) for t in range(steps) for i in range(max(0, t - kernel + 1), t + 1)]


def recurrence_arrows(steps: int) -> list[tuple[Step, Step]]:
    """What a recurrent net reads: each state its input and the state before."""
    arrows = []
    for t in range(steps):
        arrows += [(("h", t - 1), ("h", t))] if t else []
        arrows.append((("x", t), ("h", t)))
    return sorted(arrows, key=lambda arrow: (arrow[1][1], arrow[0][0] == "h"))


@figure
def two_ways(steps: int, kernel: int, source: int) -> Figure:
    """Who reads whom in a causal convolution and in a recurrent net; what input `source` reaches is lit."""
    panels = {
        f"convolution, receptive field {kernel}": convolution_arrows(steps, kernel),
        "recurrence": recurrence_arrows(steps),
    }
    fig, rows = plt.subplots(2, 1, figsize=(7, 3.6))
    for axes, (title, arrows) in zip(rows, panels.items(), strict=True):
        lit = reached(arrows, ("x", source))
        for start, end in arrows:
            _arrow(axes, start, end, lit=start in lit)
        for step in sorted({step for arrow in arrows for step in arrow}):
            _unit(axes, step, lit=step in lit)
        axes.set(xlim=(-0.6, steps - 0.4), ylim=(-0.4, 1.4), title=title)
        axes.axis("off")
    return fig


@figure
def responses(kernels: Mapping[str, Sequence[float]]) -> Figure:
    """What is left of a single 1 after each number of steps, one panel for each named layer."""
    fig, panels = plt.subplots(1, len(kernels), figsize=(7, 2.4), sharey=True)
    for axes, (name, values) in zip(panels, kernels.items(), strict=True):
        axes.stem(np.arange(len(values)), values, linefmt="C0-", markerfmt="C0o", basefmt="C5-")
        axes.set(xlabel="steps since the 1", title=name)
    panels[0].set_ylabel("output")
    return fig


@figure
def recall_by_lag(
    lags: Sequence[int], shares: Mapping[str, Sequence[float]], *, chance: float, longest: int
) -> Figure:
    """Share of right answers against the steps since the symbol came, for each named net; lags from 1 on.

    longest: the longest lag that training can have shown.
    """
    fig, axes = plt.subplots()
    axes.axvspan(longest, max(lags), color=FAINT, alpha=0.5, linewidth=0)
    for (name, values), marker in zip(shares.items(), "osD^vP", strict=False):
        axes.plot(lags, values, marker=marker, markevery=0.12, markersize=4, label=name)
    axes.axhline(chance, color=GREY, linestyle=":", linewidth=1, label="chance")
    axes.set(xscale="log", xlabel="lag (time steps)", ylabel="share of right answers", ylim=(0, 1.05))
    ticks = [2**i for i in range(int(np.log2(max(lags))) + 1)]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.annotate("never seen\nin training", (longest * 1.08, 0.08), fontsize=9, color=BLUE)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig
