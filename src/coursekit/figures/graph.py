"""Figures of nets as graphs, drawn from the graphs themselves: feedback, unfolding, and what they compute."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, PathPatch
from matplotlib.path import Path

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, GREEN, GREY, INK, ORANGE, PAPER
from coursekit.graph import KINDS, unfold

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array
    from coursekit.graph import Order, RecurrentGraph, UnfoldedGraph, Weight

    Point = tuple[float, float]

RADIUS = 0.27  # of a unit; neighbours are 1 apart
LOOKS = dict(zip(KINDS, ((GREY, "-"), (ORANGE, "-"), (BLUE, "--"), (GREEN, "-.")), strict=True))


# ------------------------------------------------------------------------------------------------- the pieces


def _unit(axes: Axes, at: Point, text: str, *, given: bool = False) -> None:
    """One unit; a dotted border says that its value is given and not computed."""
    look = {"facecolor": PAPER, "edgecolor": INK, "linestyle": ":" if given else "-", "linewidth": 1}
    axes.add_patch(Circle(at, RADIUS, zorder=3, **look))
    axes.text(*at, text, ha="center", va="center", fontsize=9, zorder=4)


def _arrow(
    axes: Axes,
    start: Point,
    end: Point,
    kind: str,
    text: str = "",
    *,
    bend: float = 0.0,
    crossing: bool = False,
) -> Point:
    """An arrow from rim to rim in the look of its kind; returns its middle.

    bend: how far it swings to the right, as a share of its length.   crossing: put the text on the
    line, since there is no room beside it.
    """
    (x0, y0), (x1, y1) = start, end
    to_right = np.array([y1 - y0, x0 - x1]) / np.hypot(x1 - x0, y1 - y0)
    pull = np.add(start, end) / 2 + 2 * bend * np.hypot(x1 - x0, y1 - y0) * to_right
    ends = [_towards(point, pull, RADIUS) for point in (start, end)]
    _line(axes, [ends[0], pull, ends[1]], kind)

    def point(s: float) -> np.ndarray:
        return (1 - s) ** 2 * np.array(start) + 2 * s * (1 - s) * pull + s**2 * np.array(end)

    if crossing:
        ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 1}
        _label(axes, point(0.3), text, kind, bbox=ground)
    else:
        side = "left" if to_right[0] > 0.4 else "right" if to_right[0] < -0.4 else "center"
        _label(axes, point(0.5) + 0.17 * to_right, text, kind, ha=side)
    return tuple(point(0.5))


def _loop(axes: Axes, at: Point, kind: str, text: str, *, side: int = -1) -> Point:
    """An arrow from a unit to itself, on its left (-1) or right (1); returns the loop's outermost point."""
    feet, handles = (
        [(at[0] + side * r * np.cos(a), at[1] + r * np.sin(a)) for a in np.deg2rad([38, -38])]
        for r in (RADIUS, 1.15)
    )
    _line(axes, [feet[0], *handles, feet[1]], kind)
    _label(axes, (at[0] + 0.86 * side, at[1]), text, kind, ha="left" if side > 0 else "right")
    return at[0] + 0.74 * side, at[1]


def _line(axes: Axes, points: Sequence[Point], kind: str) -> None:
    colour, style = LOOKS[kind]
    codes = [Path.MOVETO] + [Path.CURVE3 if len(points) == 3 else Path.CURVE4] * (len(points) - 1)
    width = 1.1 if kind == "forward" else 1.8
    axes.add_patch(
        PathPatch(Path(points, codes), facecolor="none", edgecolor=colour, linestyle=style, linewidth=width)
    )
    head = {"arrowstyle": "-|>", "mutation_scale": 10, "shrinkA": 0, "shrinkB": 0, "linewidth": 0.8}
    tail = _towards(points[-1], points[-2], 0.02)
    axes.add_patch(FancyArrowPatch(tail, points[-1], color=colour, zorder=2, **head))


def _towards(start: Point, end: Point, distance: float) -> Point:
    way = np.subtract(end, start)
    return tuple(np.asarray(start) + distance * way / np.hypot(*way))


def _label(axes: Axes, at: Point, text: str, kind: str, **look: object) -> None:
    if text:
        ink = INK if kind == "forward" else LOOKS[kind][0]
        axes.text(*at, text, **{"ha": "center"} | look, va="center", fontsize=9, color=ink, zorder=2.5)


def _delay(axes: Axes, at: Point) -> None:
    """The black square of a circuit: what passes here is read one step later."""
    axes.plot(*at, "s", color=INK, markersize=6, zorder=3)


def _view(axes: Axes, across: Point, up: Point) -> None:
    axes.set(xlim=across, ylim=up, aspect="equal")
    axes.axis("off")


def _key(fig: Figure, kinds: Iterable[str]) -> None:
    """The look of each kind of connection that was drawn, below everything."""
    drawn = [kind for kind in KINDS if kind in set(kinds)]
    lines = [Line2D([], [], color=LOOKS[kind][0], linestyle=LOOKS[kind][1], label=kind) for kind in drawn]
    fig.legend(handles=lines, loc="outside lower center", ncols=len(lines))


def _symbol(name: str, t: int | None = None) -> str:
    """A unit's name as a formula, with its step as a subscript: h, or h_0."""
    letter = {"theta": r"\theta", "ambient": "A"}.get(name, name if len(name) == 1 else rf"\mathrm{{{name}}}")
    return f"${letter}$" if t is None else f"${letter}_{{{t}}}$"


def _strength(weight: Weight) -> str:
    """A weight in words: a number, or the parameter with the known factors around it."""
    if weight.parameter is None:
        return f"{weight.offset:g}"
    factor = "" if abs(weight.scale) == 1 else f"{abs(weight.scale):g} "
    sign = "−" if weight.scale < 0 else ""
    if weight.offset:
        return f"{weight.offset:g} {sign or '+'} {factor}{weight.parameter}"
    return f"{sign}{factor}{weight.parameter}"


# --------------------------------------------------------------------------------------------------- feedback


@figure
def feedback(nets: Mapping[str, RecurrentGraph]) -> Figure:
    """Nets side by side, layers from bottom to top, every connection in the look of its kind."""
    fig, panels = plt.subplots(1, len(nets), figsize=(7, 3.0), squeeze=False)
    for axes, (title, net) in zip(panels.flat, nets.items(), strict=True):
        places = _layered(net)
        for edge, kind in net.kinds().items():
            _connect(axes, places, edge, kind)
        for name, at in places.items():
            _unit(axes, at, _symbol(name))
        across, up = zip(*places.values(), strict=True)
        _view(axes, (min(across) - 0.8, max(across) + 0.8), (min(up) - 0.4, max(up) + 0.4))
        axes.set_title(title, fontsize=9)
    _key(fig, [kind for net in nets.values() for kind in net.kinds().values()])
    return fig


def _layered(net: RecurrentGraph) -> dict[str, Point]:
    """Layers 1.2 apart from bottom to top, the units of a layer side by side around the middle."""
    layers = net.layers()
    rows = [[name for name in net.units if layers[name] == layer] for layer in sorted(set(layers.values()))]
    return {
        name: (1.3 * (i - (len(names) - 1) / 2), 1.2 * y)
        for y, names in enumerate(rows)
        for i, name in enumerate(names)
    }


def _connect(
    axes: Axes, places: Mapping[Hashable, Point], edge: tuple[Hashable, Hashable], kind: str, text: str = ""
) -> Point:
    """Draw one connection between placed units; feedback swings to the side; returns its middle."""
    source, target = (places[end] for end in edge)
    if source == target:
        middle = np.mean([x for x, _ in places.values()])
        return _loop(axes, source, kind, text, side=1 if source[0] > middle else -1)
    through = [at for at in places.values() if at not in (source, target) and _between(source, at, target)]
    return _arrow(axes, source, target, kind, text, bend=0.17 if kind != "forward" or through else 0.0)


def _between(start: Point, at: Point, end: Point) -> bool:
    """Whether a unit at this place would be crossed by a straight line from start to end."""
    way, off = np.subtract(end, start), np.subtract(at, start)
    share = way @ off / (way @ way)
    return 0 < share < 1 and abs(way[0] * off[1] - way[1] * off[0]) < RADIUS * np.hypot(*way)


# -------------------------------------------------------------------------------------------------- unfolding


@figure
def unfolding(
    net: RecurrentGraph, steps: int, *, order: Order = "synchronous", room: int | None = None
) -> Figure:
    """A net as a circuit on the left, and what `coursekit.graph.unfold` makes of it on the right.

    A black square on the circuit is a delay of one step.  Circles with a dotted border are the values before
    the first step.  Every copy of a connection carries the same strength.
    room: steps for which the drawing has room, so that drawings of several lengths have one size.
    Source: goodfellow2016deep, figure 10.2.
    """
    unfolded, heights = unfold(net, steps, order=order), _heights(net)
    width, up = 1.25 * (room or steps) + 1.0, (-0.4, max(heights.values()) + 0.4)
    inches = 7 * (up[1] - up[0]) / (2.8 + width)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, inches + 0.65), width_ratios=(2.8, width))
    _draw_circuit(left, net, heights, order)
    _draw_unfolded(right, unfolded, heights)
    _view(left, (-1.8, 1.0), up)
    _view(right, (-1.65, width - 1.65), up)
    left.set_title("circuit", fontsize=9)
    right.set_title(f"unfolded, T = {steps}", fontsize=9)
    _key(fig, net.kinds().values())
    return fig


def _heights(net: RecurrentGraph) -> dict[str, float]:
    """The height of every unit: a row for each, lower layers lower."""
    layers = net.layers()
    return {name: 1.2 * row for row, name in enumerate(sorted(net.units, key=layers.get))}


def _draw_circuit(axes: Axes, net: RecurrentGraph, heights: Mapping[str, float], order: Order) -> None:
    places, delays = {name: (0.0, height) for name, height in heights.items()}, net.delays(order)
    for edge, kind in net.kinds().items():
        middle = _connect(axes, places, edge, kind, _strength(net.graph.edges[edge]["weight"]))
        if delays[edge]:
            _delay(axes, middle)
    for name, at in places.items():
        _unit(axes, at, _symbol(name))


def _draw_unfolded(axes: Axes, unfolded: UnfoldedGraph, heights: Mapping[str, float]) -> None:
    places = {(name, t): (1.25 * t, heights[name]) for name, t in unfolded.graph}
    for source, target, data in unfolded.graph.edges.data():
        start, end = places[source], places[target]
        through = any(at not in (start, end) and _between(start, at, end) for at in places.values())
        crossing = source[1] != target[1] and source[0] != target[0]
        _arrow(
            axes, start, end, data["kind"], _strength(data["weight"]),
            bend=0.15 if through else 0.0, crossing=crossing,
        )  # fmt: skip
    for (name, t), at in places.items():
        _unit(axes, at, _symbol(name, t), given=t < 0)


class Frames(NamedTuple):
    """Drawings of which a page shows one; the book's script `frames` lets the reader step through all.

    title: what their labels count.   drawings: label -> the drawing as SVG, and what it shows in words.
    shown: label of the one that stands on the page.
    """

    title: str
    drawings: dict[Hashable, tuple[str, str]]
    shown: Hashable

    def _repr_html_(self) -> str:
        images = "\n".join(
            f'<img src="data:image/svg+xml,{quote(svg, safe="/ =:,;()+-.")}" alt="{html.escape(words)}" '
            f'data-label="{label}"{"" if label == self.shown else " hidden"} />'
            for label, (svg, words) in self.drawings.items()
        )
        title = html.escape(self.title)
        return f'<div class="drawing frames" tabindex="0" data-title="{title}">\n{images}\n</div>'


def unfolding_frames(
    net: RecurrentGraph, lengths: Sequence[int], *, shown: int, order: Order = "synchronous"
) -> Frames:
    """`unfolding` for several numbers of steps, all of one size."""
    drawings = {
        steps: (
            _svg(unfolding(net, steps, order=order, room=max(lengths))),
            _words(unfold(net, steps, order=order)),
        )
        for steps in lengths
    }
    return Frames("steps T", drawings, shown)


def _svg(drawn: Figure) -> str:
    stream = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "coursekit"}):
        drawn.savefig(stream, format="svg", metadata={"Date": None}, facecolor=drawn.get_facecolor())
    return stream.getvalue()


def _words(unfolded: UnfoldedGraph) -> str:
    """The unfolded graph in a sentence, counted from the graph."""
    nodes = sum(t >= 0 for _, t in unfolded.graph)
    connections, ids = len(unfolded.graph.edges), unfolded.parameters
    return (
        f"Unfolded over T = {unfolded.steps}: {nodes} units, {connections} connections, "
        f"{len(ids)} parameters ({', '.join(ids)})."
    )


# ---------------------------------------------------------------------------------------------- what they do


@figure
def cooling(
    times: Float[Array, " T"], runs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    exact: Sequence[float], ambient: float,
) -> Figure:  # fmt: skip
    """Temperature against time: the exact solution, and for each named run its times and temperatures."""
    fig, axes = plt.subplots()
    axes.axhline(ambient, color=GREY, linestyle=":", linewidth=1, label="ambient")
    axes.plot(times, exact, color=GREY, linestyle="-", linewidth=1, label="exact")
    for (name, (at, theta)), marker in zip(runs.items(), "osD^", strict=False):
        axes.plot(at, theta, marker=marker, markersize=4, label=name)
    axes.set(xlabel="time (minutes)", ylabel="temperature (°C)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


@figure
def spring(
    times: Float[Array, " T"], runs: Mapping[str, tuple[Float[Array, " T"], Float[Array, " T"]]],
    exact: Float[Array, " T"],
) -> Figure:  # fmt: skip
    """Position against time and velocity against position, for each named run's positions and velocities."""
    fig, (over_time, plane) = plt.subplots(1, 2, figsize=(7, 3.2), width_ratios=(3, 2))
    over_time.plot(times, exact, color=GREY, linestyle="-", linewidth=1, label="exact")
    for name, (x, v) in runs.items():
        over_time.plot(times, x, label=name)
        plane.plot(x, v)
        plane.plot(x[-1], v[-1], "o", color=plane.lines[-1].get_color())
    over_time.set(xlabel="time (s)", ylabel="position x (m)")
    plane.set(xlabel="position x (m)", ylabel="velocity v (m/s)")
    fig.legend(loc="outside lower center", ncols=len(runs) + 1)
    return fig


@figure
def learning(
    losses: Sequence[float], values: Sequence[float], truth: float, observed: Mapping[str, tuple]
) -> Figure:
    """Loss and parameter against the steps of training, and the runs before and after beside the data.

    observed: name -> (times, positions, matplotlib's format).
    """
    fig, (loss, value, fit) = plt.subplots(1, 3, figsize=(7, 2.9))
    loss.semilogy(losses, color=BLUE)
    loss.set(xlabel="step of training", ylabel="loss (m²)")
    value.plot(values, color=BLUE)
    value.axhline(truth, color=GREY, linestyle=":", linewidth=1)
    value.set(xlabel="step of training", ylabel="k/m (1/s²)")
    for name, (times, positions, style) in observed.items():
        fit.plot(times, positions, style, markersize=4, label=name)
    fit.set(xlabel="time (s)", ylabel="position x (m)")
    fit.legend(fontsize=8)
    return fig


@figure
def valleys(values: Sequence[float], losses: Mapping[str, Sequence[float]], truth: float) -> Figure:
    """Loss against the spring's k/m, for each named length of the record; the true value dotted."""
    fig, axes = plt.subplots()
    axes.axvline(truth, color=GREY, linestyle=":", linewidth=1)
    for name, loss in losses.items():
        axes.plot(values, loss, label=name)
    axes.set(xlabel="k/m (1/s²)", ylabel="loss (m²)")
    axes.legend(title="record", loc="upper left", bbox_to_anchor=(1, 1))
    return fig
