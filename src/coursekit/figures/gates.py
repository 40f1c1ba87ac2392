"""Figures of gated cells: one drawing of LSTM and GRU with their variants, and what each gate is for."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon
from matplotlib.ticker import LogLocator, NullFormatter

from coursekit.cells.lstm import lstm_blocks
from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PAPER, PURPLE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

    Point = tuple[float, float]

PALE = "#c9c5bc"  # what is not spoken about
# Highlights, and the parts that each of them shows in full colour; a part is named where it is drawn.
PARTS = {
    "lstm": {
        "state": {"lane"},
        "forget": {"feed", "f", "keep"},
        "input": {"feed", "i", "g", "write"},
        "update": {"lane", "keep", "write"},
        "output": {"feed", "o", "read"},
    },
    "gru": {
        "state": {"lane"},
        "reset": {"feed", "r", "reset"},
        "candidate": {"feed", "r", "reset", "n"},
        "update": {"lane", "z", "keep", "write"},
    },
}
# Where things stand, in units of a block's width; x to the right is time, y up is towards the output.
COLUMNS = {"i": 1.3, "f": 2.3, "g": 3.3, "o": 4.3} | {"r": 1.3, "z": 2.3, "n": 3.3}
RAIL, BLOCK, LANE, TOP = -0.4, 0.8, 2.45, 3.15
WRITE, OPEN = 1.6, 1.15  # heights of the valves of i and o
READ, TAP, START = 5.4, 6.2, 0.35  # columns: where c is read, h goes up, a GRU's gates see h
WIDTH, MARGIN, EXTENT = 6.5, 0.95, 1.6  # of a step; to its left; of a GRU below its blocks


@figure
def cell(
    highlight: str = "",
    *,
    kind: str = "lstm",
    gates: str = "ifo",
    coupled: str | None = None,
    peepholes: bool = False,
    reset: str = "after",
    steps: int = 1,
) -> Figure:
    """A gated cell as lanes and valves, or several steps of it in a chain.

    Solid lines carry values; a dashed one says how far open the valve is at which it ends; dotted ones are
    peepholes.  Blocks are drawn in the order in which their weights stand.

    highlight: the part to show in full colour, the rest pale; all of it by default.  Of an LSTM "state",
    "forget", "input" (with the candidate), "update" or "output"; of a GRU "state", "reset", "candidate" or
    "update".   kind: "lstm" or "gru".
    gates, coupled: as in coursekit.cells.LSTMCell; an absent gate has neither block nor valve.
    peepholes: whether the gates see the cell state.   reset: "after" or "before" the product, of a GRU.
    steps: from 2 on, that many cells in a chain, smaller and with letters only.
    """
    if kind not in PARTS:
        raise ValueError(f"cell: kind {kind!r} is unknown, expected one of {tuple(PARTS)}")
    if highlight and highlight not in PARTS[kind]:
        raise ValueError(f"cell: highlight {highlight!r} is unknown, expected one of {tuple(PARTS[kind])}")
    if reset not in ("after", "before"):
        raise ValueError(f"cell: reset {reset!r} is unknown, expected 'after' or 'before'")
    blocks = lstm_blocks(gates, coupled, "cell")
    depth = EXTENT if kind == "gru" else 1.2
    across, up = WIDTH * steps + MARGIN + 0.7, TOP + 0.35 + depth
    fig, axes = plt.subplots(figsize=(7, 7 * up / across + 0.1))
    axes.set(xlim=(-MARGIN, across - MARGIN), ylim=(-depth, TOP + 0.35), aspect="equal")
    axes.axis("off")
    for step in range(steps):
        pen = Pen(axes, step, steps, PARTS[kind].get(highlight))
        t = _step_name(step, steps)
        _frame(pen, depth)
        if kind == "lstm":
            _lstm(pen, t, blocks, gates, coupled, peepholes)
        else:
            _gru(pen, t, reset)
        if step == 0:
            pen.ends(kind, _step_name(-1, steps), -MARGIN + 0.03, "left", ("lane", "keep"), ("feed",))
        if pen.last:
            pen.ends(kind, t, WIDTH + 0.7, "right", ("lane",), ("read",))
    return fig


def _step_name(t: int, steps: int) -> str:
    """The index of step t of a chain: around t if there is only one, counted from 0 otherwise."""
    if steps > 1:
        return str(t)
    return "t" if t == 0 else f"t{t:+d}"


# ------------------------------------------------------------------------------------------------- the pieces


class Pen:
    """Draws the pieces of one cell, shifted to the right, pale unless their part is shown."""

    def __init__(self, axes: Axes, step: int, steps: int, shown: Collection[str] | None) -> None:
        self.axes, self.shift, self.shown = axes, WIDTH * step, shown
        self.compact, self.last = steps > 1, step == steps - 1
        self.size = 0.62 if self.compact else 1.0  # of line widths and letters
        # the ends of the lanes: in a chain, a cell begins where the one before it ends
        self.reach = (-MARGIN if step == 0 else TAP - WIDTH), (WIDTH + 0.7 if self.last else TAP)

    def is_shown(self, *parts: str) -> bool:
        return self.shown is None or not self.shown.isdisjoint(parts)

    def line(
        self,
        points: Sequence[Point],
        parts: Iterable[str],
        colour: str = GREY,
        *,
        width: float = 1.6,
        style: Any = "-",
        head: bool = True,
        over: Sequence[Point] = (),
    ) -> None:
        """A line through points.   head: with an arrow's head.   over: where it passes over other lines."""
        shown = self.is_shown(*parts)
        x, y = np.transpose(points) + np.array([[self.shift], [0]])
        order = (2.2 if shown else 1.2) + 0.2 * bool(over)
        look = {"zorder": order, "linewidth": width * self.size**0.5, "linestyle": style}
        for at in over:
            self._bridge(points, at, order - 0.1)
        colour = colour if shown else PALE
        if head:
            ends = [(x[-2], y[-2]), (x[-1], y[-1])]
            arrow = {"arrowstyle": "-|>", "mutation_scale": 11 * self.size, "shrinkA": 0, "shrinkB": 0}
            way = np.subtract(*ends[::-1])
            short = ends[1] - 0.1 * way / np.hypot(*way)
            x[-1], y[-1] = short
            self.axes.add_patch(
                FancyArrowPatch(
                    short - 0.01 * way / np.hypot(*way), ends[1], color=colour, zorder=order, **arrow
                )
            )
        self.axes.plot(x, y, color=colour, solid_capstyle="butt", gid=" ".join(parts), **look)

    def _bridge(self, points: Sequence[Point], at: Point, order: float) -> None:
        """Clear the ground at a crossing, along the stretch of the line on which it lies."""
        for (x0, y0), (x1, y1) in pairwise(points):
            if x0 == x1 == at[0]:
                ends = [(at[0], at[0]), (at[1] - 0.15, at[1] + 0.15)]
            elif y0 == y1 == at[1]:
                ends = [(at[0] - 0.15, at[0] + 0.15), (at[1], at[1])]
            else:
                continue
            ground = self.axes.figure.get_facecolor()
            x = np.add(ends[0], self.shift)
            self.axes.plot(x, ends[1], color=ground, zorder=order, linewidth=8 * self.size, linestyle="-")

    def text(
        self, at: Point, text: str, *parts: str, colour: str = INK, size: float = 11, **look: Any
    ) -> None:
        look = {
            "ha": "center",
            "va": "center",
            "zorder": 4,
            "fontsize": size * (0.7 if self.compact else 1),
        } | look
        x, y = at
        self.axes.text(x + self.shift, y, text, color=colour if self.is_shown(*parts) else PALE, **look)

    def block(self, letter: str, name: str, function: str, parts: Iterable[str], colour: str) -> None:
        """One block of the pre-activations, with its activation; it stands in its column on the rail."""
        shown, x = self.is_shown(*parts), COLUMNS[letter]
        self.axes.add_patch(
            FancyBboxPatch(
                (x - 0.42 + self.shift, 0), 0.84, BLOCK, boxstyle="round,pad=0,rounding_size=0.12", zorder=3,
                facecolor=PAPER, edgecolor=colour if shown else PALE, linewidth=1.8 * self.size, gid=letter,
            )
        )  # fmt: skip
        if self.compact:
            self.text((x, BLOCK / 2), rf"$\mathbf{{{letter}}}$", *parts, colour=colour, size=13)
            return
        self.text((x, 0.54), rf"$\mathbf{{{letter}}}_{{{name}}}$", *parts, colour=colour, size=12)
        self.text((x, 0.2), function, *parts, colour=INK, size=9)

    def valve(self, at: Point, parts: Iterable[str], *, upright: bool = False, name: str = "") -> None:
        """A bow tie across the line that it opens and shuts; upright on a vertical line."""
        x, y, a, b = at[0] + self.shift, at[1], 0.21, 0.15
        corners = [(-a, -b), (a, b), (a, -b), (-a, b)]
        corners = [(x + v, y + u) if upright else (x + u, y + v) for u, v in corners]
        colour = ORANGE if self.is_shown(*parts) else PALE
        self.axes.add_patch(
            Polygon(
                corners,
                facecolor=PAPER,
                edgecolor=colour,
                linewidth=1.7 * self.size,
                zorder=3,
                gid=f"valve {name}",
            )
        )

    def box(self, at: Point, text: str, *parts: str, width: float = 0.52) -> None:
        """A fixed function on a line."""
        shown, (x, y) = self.is_shown(*parts), at
        self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2 + self.shift, y - 0.16), width, 0.32, zorder=3,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=PAPER, edgecolor=INK if shown else PALE, linewidth=1.1 * self.size,
            )
        )  # fmt: skip
        if self.compact and text == "tanh":  # its curve, since letters would be too small
            u = np.linspace(-1, 1, 25)
            colour = INK if shown else PALE
            self.axes.plot(
                x + self.shift + 0.2 * u,
                y + 0.1 * np.tanh(3 * u),
                color=colour,
                linewidth=0.8,
                linestyle="-",
                zorder=4,
            )
            return
        self.text(at, text, *parts, size=8.5)

    def plus(self, at: Point, *parts: str) -> None:
        shown = self.is_shown(*parts)
        centre, colour = (at[0] + self.shift, at[1]), BLUE if shown else PALE
        self.axes.add_patch(
            Circle(
                centre,
                0.17,
                facecolor=PAPER,
                edgecolor=colour,
                linewidth=1.8 * self.size,
                zorder=3,
                gid="plus",
            )
        )
        self.text(at, "+", *parts, size=12)

    def dot(self, at: Point, colour: str, *parts: str) -> None:
        colour = colour if self.is_shown(*parts) else PALE
        self.axes.plot(at[0] + self.shift, at[1], "o", color=colour, markersize=4.5 * self.size, zorder=2.5)

    def ends(
        self, kind: str, t: str, x: float, align: str, upper: Collection[str], lower: Collection[str]
    ) -> None:
        """The names of the states beside the ends of their lanes, each with its parts."""
        if kind == "lstm":
            self.text((x, LANE + 0.16), rf"$\mathbf{{c}}_{{{t}}}$", *upper, ha=align, va="bottom")
            self.text((x, RAIL + 0.16), rf"$\mathbf{{h}}_{{{t}}}$", *lower, ha=align, va="bottom")
        else:
            self.text((x, LANE + 0.16), rf"$\mathbf{{h}}_{{{t}}}$", *upper, *lower, ha=align, va="bottom")


def _frame(pen: Pen, depth: float) -> None:
    """What belongs to one step, behind everything."""
    low = -depth + 0.45
    pen.axes.add_patch(
        FancyBboxPatch(
            (0.1 + pen.shift, low), TAP - 0.4, TOP - 0.3 - low, boxstyle="round,pad=0,rounding_size=0.2",
            facecolor="none", edgecolor=FAINT, linewidth=1.2, zorder=0.5,
        )
    )  # fmt: skip


def _lane(pen: Pen, stops: Sequence[float], *, head: bool) -> None:
    """The state's lane; up to the plus it is what is kept."""
    for x, (start, end) in enumerate(pairwise(stops)):
        parts = ("lane", "keep") if x < len(stops) - 2 else ("lane",)
        pen.line([(start, LANE), (end, LANE)], parts, BLUE, width=3.4, head=head and end == stops[-1])


def _control(pen: Pen, points: Sequence[Point], parts: Iterable[str], *, over: Sequence[Point] = ()) -> None:
    """How far open: from a gate's block to its valve."""
    pen.line(points, parts, ORANGE, width=1.4, style=(0, (3.5, 1.8)), head=False, over=over)


# --------------------------------------------------------------------------------------------------- the LSTM


def _lstm(pen: Pen, t: str, blocks: str, gates: str, coupled: str | None, peepholes: bool) -> None:
    f, g, o = (COLUMNS[k] for k in "fgo")
    left, right = pen.reach
    driver, driven = {"input": "if", "forget": "fi"}.get(coupled, (None, None))
    _rail(pen, t, left, COLUMNS[blocks[-1]])
    for k in blocks:
        gate, parts = k != "g", (k, driven) if k == driver else (k,)
        pen.line([(COLUMNS[k], RAIL), (COLUMNS[k], 0)], parts)
        pen.block(k, t, r"$\sigma$" if gate else "tanh", parts, ORANGE if gate else GREEN)
    _lane(pen, [left, f, g, right] if "f" in gates else [left, g, right], head=pen.last)
    pen.line([(g, BLOCK), (g, LANE - 0.17)], ("g", "write"), GREEN)
    pen.plus((g, LANE), "lane", "write")
    _lstm_valves(pen, gates, coupled)
    # what is read
    pen.dot((READ, LANE), BLUE, "lane", "read")
    pen.line([(READ, LANE), (READ, RAIL), (right, RAIL)], ("read",), PURPLE, head=pen.last)
    pen.box((READ, LANE - 0.65), "tanh", "read")
    if "o" in gates:
        _control(pen, [(o, BLOCK), (o, OPEN), (READ - 0.15, OPEN)], ("o", "read"))
        pen.valve((READ, OPEN), ("o", "read"), upright=True, name="o")
    pen.line([(TAP, RAIL), (TAP, TOP)], ("read",), PURPLE, over=[(TAP, LANE)])
    pen.dot((TAP, RAIL), PURPLE, "read")
    pen.text((TAP + 0.12, TOP + 0.02), rf"$\mathbf{{h}}_{{{t}}}$", "read", ha="left")
    if peepholes:
        _peepholes(pen, blocks)


def _rail(pen: Pen, t: str, left: float, right: float) -> None:
    """On which the input and the state before the step come to every block."""
    middle = (COLUMNS["f"] + COLUMNS["g"]) / 2
    pen.line([(left, RAIL), (right, RAIL)], ("feed",), head=False)
    pen.line([(middle, -1.15), (middle, RAIL)], ("feed",), head=False)
    pen.dot((middle, RAIL), GREY, "feed")
    pen.text((middle + 0.15, -0.95), rf"$\mathbf{{x}}_{{{t}}}$", "feed", ha="left")


def _lstm_valves(pen: Pen, gates: str, coupled: str | None) -> None:
    """The valves of the gates i and f and what moves them."""
    i, f, g = (COLUMNS[k] for k in "ifg")
    if "f" in gates and coupled != "input":
        _control(pen, [(f, BLOCK), (f, LANE - 0.15)], ("f", "keep"))
    if "i" in gates and coupled != "forget":
        over = [(f, WRITE)] if "f" in gates and not coupled else []
        _control(pen, [(i, BLOCK), (i, WRITE), (g - 0.15, WRITE)], ("i", "write"), over=over)
    if coupled == "input":
        _control(pen, [(f, WRITE), (f, LANE - 0.15)], ("i", "f", "keep"))
        pen.dot((f, WRITE), ORANGE, "i", "f", "keep")
        pen.box((f, (WRITE + LANE) / 2 - 0.02), "$1-$", "i", "f", "keep", width=0.44)
    if coupled == "forget":
        _control(pen, [(f, WRITE), (g - 0.15, WRITE)], ("f", "i", "write"))
        pen.dot((f, WRITE), ORANGE, "f", "i", "write")
        pen.box(((f + g) / 2 - 0.02, WRITE), "$1-$", "f", "i", "write", width=0.4)
    if "f" in gates:
        pen.valve((f, LANE), ("f", "keep"), name="f")
    if "i" in gates:
        pen.valve((g, WRITE), ("i", "write"), upright=True, name="i")


def _peepholes(pen: Pen, blocks: str) -> None:
    """From the cell state before the step to i and f, from the one after it to o."""
    look = {"colour": BLUE, "style": (0, (1, 1.3)), "width": 1.6}
    start, low, early = 0.45, 1.1, [k for k in blocks if k in "if"]
    for k in early:
        x = COLUMNS[k] - 0.24
        over = [(COLUMNS["i"], low)] if k == "f" and "i" in early else []
        pen.line([(start, LANE), (start, low), (x, low), (x, BLOCK)], (k,), **look, over=over)
    if early:
        pen.dot((start, LANE), BLUE, *early)
    if "o" in blocks:
        x = COLUMNS["o"] - 0.24
        pen.line([(x, LANE), (x, BLOCK)], ("o",), **look)
        pen.dot((x, LANE), BLUE, "o")


# ---------------------------------------------------------------------------------------------------- the GRU


def _gru(pen: Pen, t: str, reset: str) -> None:
    """A GRU: the hidden state has the lane, z moves both valves on it, r the one on the way to n."""
    z, n = COLUMNS["z"], COLUMNS["n"]
    left, right = pen.reach
    _gru_feed(pen, t, reset)
    for k in "rzn":
        gate = k != "n"
        pen.block(k, t, r"$\sigma$" if gate else "tanh", (k,), ORANGE if gate else GREEN)
    _lane(pen, [left, z, n, right], head=pen.last)
    pen.dot((START, LANE), BLUE, "lane", "feed")
    pen.line([(n, BLOCK), (n, LANE - 0.17)], ("n", "write"), GREEN)
    _control(pen, [(z, BLOCK), (z, LANE - 0.15)], ("z", "keep"))
    _control(pen, [(z, WRITE), (n - 0.15, WRITE)], ("z", "write"))
    pen.dot((z, WRITE), ORANGE, "z", "write")
    pen.box(((z + n) / 2 - 0.02, WRITE), "$1-$", "z", "write", width=0.4)
    pen.valve((z, LANE), ("z", "keep"), name="z")
    pen.valve((n, WRITE), ("z", "write"), upright=True, name="1 - z")
    pen.plus((n, LANE), "lane", "write")
    pen.line([(TAP, LANE), (TAP, TOP)], ("lane",), PURPLE)
    pen.dot((TAP, LANE), PURPLE, "lane")
    pen.text((TAP + 0.12, TOP + 0.02), rf"$\mathbf{{h}}_{{{t}}}$", "lane", ha="left")


def _gru_feed(pen: Pen, t: str, reset: str) -> None:
    """What the blocks of a GRU see: r and z the input and the state, n the input and what r lets through."""
    r, z, n = (COLUMNS[k] for k in "rzn")
    low, middle, fork = -0.95, (z + n) / 2, -0.66
    pen.line([(START, LANE), (START, RAIL), (middle, RAIL)], ("feed",), head=False)
    pen.line([(middle, -EXTENT + 0.05), (middle, RAIL)], ("feed",), head=False)
    pen.text((middle + 0.15, -EXTENT + 0.2), rf"$\mathbf{{x}}_{{{t}}}$", "feed", ha="left")
    pen.line([(r + 0.2, RAIL), (r + 0.2, 0)], ("r",))
    pen.line([(z, RAIL), (z, 0)], ("z",))
    pen.line([(middle, fork), (n - 0.15, fork), (n - 0.15, 0)], ("n",))
    pen.dot((middle, fork), GREY, "feed")
    way = [(START, RAIL), (START, low), (n + 0.2, low), (n + 0.2, 0)]
    pen.line(way, ("reset",), over=[(middle, low)])
    pen.dot((START, RAIL), GREY, "feed", "reset")
    product = (START + r - 0.2) / 2 if reset == "after" else z - 0.22
    pen.box((product, low), r"$\mathbf{W}_n$", "reset", width=0.44)
    _control(pen, [(r, 0), (r, low + 0.15)], ("r", "reset"), over=[(r, RAIL)])
    pen.valve((r, low), ("r", "reset"), name="r")


# ------------------------------------------------------------------------------------- what the gates are for


@figure
def sequences(panels: Mapping[str, tuple[Float[Array, "T 3"], Float[Array, " T"]]]) -> Figure:
    """One sequence of each task: the numbers that come in, which are marked, and what is to be said when.

    panels: task -> numbers, marks and questions of every step, and the right answer, nan where none counts.
    """
    fig, column = plt.subplots(
        len(panels), 1, figsize=(7, 1.25 * len(panels) + 0.6), sharex=True, squeeze=False
    )
    for axes, (task, (x, target)) in zip(column.flat, panels.items(), strict=True):
        number, marked, asked = np.asarray(x).T
        steps = np.arange(len(number))
        shown = (number != 0) & (marked == 0)
        axes.plot(
            steps[shown], number[shown], "o", color=GREY, markersize=3, linestyle="none", label="number"
        )
        marks = {"marker": "D", "markersize": 6, "linestyle": "none"}
        axes.plot(steps[marked == 1], number[marked == 1], color=ORANGE, label="marked number", **marks)
        _questions(axes, asked)
        axes.plot(steps, target, "_", color=BLUE, markersize=8, markeredgewidth=2.2, label="right answer")
        axes.set(ylim=(-1.15, 1.15), yticks=(-1, 0, 1))
        axes.set_title(task, fontsize=9)
    column[-1, 0].set_xlabel("step")
    handles = column[-1, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=4)
    return fig


def _questions(axes: Axes, asked: Float[Array, " T"]) -> None:
    for t in np.flatnonzero(asked):
        label = "asked" if t == np.flatnonzero(asked)[0] else None
        axes.axvline(t, color=PURPLE, linestyle=":", linewidth=1, zorder=0, label=label)


@figure
def answers(
    asked: Float[Array, " T"], target: Float[Array, " T"], said: Mapping[str, Float[Array, " T"]]
) -> Figure:
    """What cells say along one sequence, one panel each, beside what would be right."""
    fig, column = plt.subplots(
        len(said), 1, figsize=(7, 1.6 * len(said) + 0.5), sharex=True, sharey=True, squeeze=False
    )
    for axes, (name, values) in zip(column.flat, said.items(), strict=True):
        _questions(axes, asked)
        steps = np.arange(len(target))
        axes.plot(steps, target, "_", color=BLUE, markersize=8, markeredgewidth=2.2, label="right answer")
        axes.plot(steps, values, color=ORANGE, linestyle="-", marker="o", markersize=3, label="said")
        axes.set_title(name, fontsize=9)
    column[-1, 0].set_xlabel("step")
    fig.supylabel("answer", fontsize=10)
    fig.legend(*column[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


@figure
def on_a_stream(
    states: Mapping[str, Float[Array, " T"]], errors: Mapping[str, Float[Array, " K"]], stretch: int
) -> Figure:
    """Cells on a long stream: size of the cell state at every step, and the error stretch by stretch.

    errors: as multiples of the best constant answer's, each over `stretch` steps.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    for name, size in states.items():
        left.plot(np.arange(len(size)), size, linewidth=1.4, label=name)
    for (name, values), marker in zip(errors.items(), "osDv", strict=False):
        right.plot(stretch * (np.arange(len(values)) + 0.5), values, marker=marker, markersize=4, label=name)
    right.axhline(1, color=GREY, linestyle="-", linewidth=0.6, zorder=0)
    right.text(
        1, 1.04, "constant", transform=right.get_yaxis_transform(), fontsize=9, ha="right", va="bottom"
    )
    left.set(xlabel="step", ylabel="largest |c|", yscale="log")
    right.set(xlabel="step", ylabel="error, in constant answers", yscale="log")
    for axes in (left, right):
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    fig.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig
