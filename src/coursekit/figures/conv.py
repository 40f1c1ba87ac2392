"""Figures of the chapters on the convolutional layer: windows, padding, receptive fields, gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from coursekit import arrays
from coursekit.figures import STYLE, figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array, Padding

    Stage = tuple[str, tuple[int, ...], int]  # name, shape of one output, parameters

PAPER, INK, FAINT = "#ffffff", "#22262b", "#d9d6cf"
# The style's own colours, spelled out: lines and texts look up "C1" only when drawn, outside of the style.
STYLE_CYCLE = matplotlib.rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"]
BLUE, ORANGE, GREEN, PURPLE, BROWN, GREY = STYLE_CYCLE.by_key()["color"]
STAGE_COLOURS = {"convolution": BLUE, "detector": ORANGE, "pooling": GREEN, "classifier": GREY}
TAPS = tuple(zip((BLUE, ORANGE, GREEN, PURPLE), ("-", "--", "-.", ":"), strict=True))


def _blank(axes: Axes, width: float, height: float) -> None:
    """Axes for drawing in cells: one unit is one pixel, y points down, no frame."""
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1), aspect="equal")
    axes.axis("off")


def _cell(axes: Axes, x: float, y: float, text: object = "", *, colour: str = PAPER, hatch: str = "") -> None:
    """One pixel with its value; a hatched one is padding, a coloured one belongs to the kernel."""
    ink = PAPER if colour not in (PAPER, FAINT) else INK
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor=INK, hatch=hatch, linewidth=0.8))
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8} if hatch and text != "" else None
    axes.text(x + 0.5, y + 0.5, str(text), ha="center", va="center", color=ink, fontsize=9, bbox=box)


# ------------------------------------------------------------------------------------------------ the layer


def _arrow_down(axes: Axes, x: float, start: float, end: float) -> None:
    axes.annotate("", (x, end), (x, start), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1})


def _stage_box(axes: Axes, x: float, y: float, name: str, parameters: int) -> None:
    """One stage: its name, and how many numbers it learns (a dashed frame where there are none)."""
    box = FancyBboxPatch(
        (x, y), 2.6, 0.62, boxstyle="round,pad=0,rounding_size=0.1", facecolor=PAPER,
        edgecolor=STAGE_COLOURS[name], linewidth=1.8, linestyle="-" if parameters else "--",
    )
    axes.add_patch(box)
    count = f"{parameters:,} parameters" if parameters else "no parameters"
    axes.text(x + 1.3, y + 0.21, name, ha="center", va="center", fontsize=9, weight="bold")
    axes.text(x + 1.3, y + 0.44, count, ha="center", va="center", fontsize=8)


def _layer_frame(axes: Axes, x: float, top: float, bottom: float, title: str) -> None:
    """The grey plate behind everything that one vocabulary calls one layer."""
    plate = FancyBboxPatch(
        (x - 0.2, top - 0.1), 3.0, bottom - top + 0.2, boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=FAINT, edgecolor="none", zorder=0,
    )
    axes.add_patch(plate)
    axes.text(x - 0.35, (top + bottom) / 2, title, ha="right", va="center", fontsize=9)


def _stack(axes: Axes, x: float, stages: Sequence[Stage], starts: Sequence[int]) -> None:
    """Draw the stages from top to bottom; a new layer begins at each index in `starts`."""
    axes.text(x + 1.3, -0.45, "input", ha="center", va="center", fontsize=9)
    for row, (name, shape, parameters) in enumerate(stages):
        _arrow_down(axes, x + 1.3, row - 0.32, row)
        _stage_box(axes, x, row, name, parameters)
        axes.text(x + 1.42, row + 0.8, " x ".join(map(str, shape)), ha="left", va="center", fontsize=8)
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(stages)], strict=True), start=1):
        _layer_frame(axes, x, start, end - 1 + 0.62, f"layer {number}")


@figure
def two_vocabularies(stages: Sequence[Stage]) -> Figure:
    """One network, counted in complex layers on the left and in simple layers on the right (fig. 9.7).

    stages: name ("convolution", "detector", "pooling" or "classifier"), shape of one output, parameters.
    A complex layer begins at each convolution and at the classifier.
    Source: goodfellow2016deep, figure 9.7.
    """
    rows = len(stages)
    fig, axes = plt.subplots(figsize=(7, 0.75 * rows + 1.1))
    complex_starts = [row for row, (name, *_) in enumerate(stages) if name in ("convolution", "classifier")]
    _stack(axes, 1.0, stages, complex_starts)
    _stack(axes, 5.6, stages, range(rows))
    for x, text in ((2.3, f"{len(complex_starts)} complex layers"), (6.9, f"{rows} simple layers")):
        axes.text(x, -0.95, text, ha="center", va="center", weight="bold")
    axes.set(xlim=(-0.1, 8.6), ylim=(rows + 0.05, -1.2))
    axes.axis("off")
    return fig


@figure
def three_stages(rows: Mapping[str, Sequence[float]]) -> Figure:
    """A signal on its way through the stages: for each name in `rows`, its pixels with their values."""
    fig, axes = plt.subplots(figsize=(7, 0.72 * len(rows) + 0.2))
    colours = (GREY, BLUE, ORANGE, GREEN)
    for row, ((name, values), colour) in enumerate(zip(rows.items(), colours, strict=True)):
        axes.text(-0.3, 1.4 * row + 0.5, name, ha="right", va="center", color=colour, weight="bold")
        spread = len(next(iter(rows.values()))) / len(values)
        for column, value in enumerate(values):
            left = (column + 0.5) * spread - 0.5
            _cell(axes, left, 1.4 * row, f"{value:g}", colour=colour if value else PAPER)
    _blank(axes, len(next(iter(rows.values()))), 1.4 * len(rows) - 0.4)
    axes.set_xlim(-4.2, None)
    return fig


# ---------------------------------------------------------------------------------------------- arithmetic


class Slide(NamedTuple):
    """A kernel's windows on one row of pixels, in coordinates where the first real pixel is 0."""

    pixels: range  # of the padded row
    starts: list[int]  # of the windows
    taps: list[int]  # offsets of the kernel's values from a window's start


def _slide(size: int, kernel: int, *, stride: int = 1, dilation: int = 1, padding: Padding = 0) -> Slide:
    ((before, after),) = arrays.resolve_padding(padding, size, kernel, stride=stride, dilation=dilation)
    count = arrays.output_size(size, kernel, stride=stride, dilation=dilation, padding=padding)
    starts = [stride * i - before for i in range(count)]
    return Slide(range(-before, size + after), starts, [dilation * tap for tap in range(kernel)])


def _draw_slide(axes: Axes, size: int, slide: Slide) -> None:
    """The row of pixels on top, then one row per window with its taps filled."""
    for pixel in slide.pixels:
        inside = 0 <= pixel < size
        _cell(axes, pixel, 0, pixel if inside else "", colour=FAINT if inside else PAPER,
              hatch="" if inside else "/////")
    for row, start in enumerate(slide.starts):
        top = 1.4 + 0.55 * row
        ends = [start + 0.2, start + slide.taps[-1] + 0.8]
        axes.plot(ends, [top + 0.2] * 2, color=BLUE, linestyle="-", linewidth=1, zorder=0)
        for tap in slide.taps:
            axes.add_patch(Rectangle((start + tap + 0.06, top), 0.88, 0.4, color=BLUE))


@figure
def windows(size: int, kernel: int, settings: Mapping[str, Mapping[str, Any]], *, columns: int = 2) -> Figure:
    """Every window that a kernel finds on a row of pixels: one panel for each named set of options.

    size, kernel: pixels.   settings: title -> stride, padding, dilation as conv1d_forward takes them.
    Numbered cells are pixels of the input, hatched ones padding.  Panels share one scale.
    """
    slides = {title: _slide(size, kernel, **options) for title, options in settings.items()}
    left = min(slide.pixels.start for slide in slides.values())
    right = max(slide.pixels.stop for slide in slides.values())
    counts = [len(slide.starts) for slide in slides.values()]
    heights = [1.5 + 0.55 * max(counts[i : i + columns]) for i in range(0, len(counts), columns)]
    inches = 7 / columns / (right - left + 0.5) * sum(heights) + 0.3 * len(heights)
    fig, panels = plt.subplots(
        len(heights), columns, figsize=(7, inches), height_ratios=heights, squeeze=False
    )
    for i, (axes, (title, slide)) in enumerate(zip(panels.flat, slides.items(), strict=True)):
        _draw_slide(axes, size, slide)
        bottom = heights[i // columns] - 0.1
        axes.set(xlim=(left - 0.1, right + 0.1), ylim=(bottom, -0.1), aspect="equal", anchor="NW")
        axes.axis("off")
        axes.set_title(f"{title}: {len(slide.starts)} window" + "s" * (len(slide.starts) != 1), fontsize=9)
    return fig


@figure
def padding_modes(signal: Sequence[float], pads: tuple[int, int], modes: Sequence[str]) -> Figure:
    """The same row of pixels continued past its border in each mode; what was added is hatched."""
    before, after = pads
    fig, axes = plt.subplots(figsize=(7, 0.62 * len(modes)))
    for row, mode in enumerate(modes):
        padded = arrays.pad(np.asarray(signal, dtype=float), (pads,), mode=mode)
        axes.text(-0.3, 1.3 * row + 0.5, mode, ha="right", va="center", weight="bold")
        for column, value in enumerate(padded):
            inside = before <= column < before + len(signal)
            _cell(axes, column, 1.3 * row, f"{value:g}", colour=FAINT if inside else PAPER,
                  hatch="" if inside else "/////")
    _blank(axes, before + len(signal) + after, 1.3 * len(modes) - 0.3)
    axes.set_xlim(-3, None)
    return fig


@figure
def number_grids(grids: Mapping[str, Float[Array, "H W"]]) -> Figure:
    """Small images side by side with every value written in its pixel; darker is larger."""
    fig, panels = plt.subplots(1, len(grids), figsize=(7, 7 / len(grids) + 0.3), squeeze=False)
    for axes, (title, grid) in zip(panels.flat, grids.items(), strict=True):
        axes.imshow(grid, cmap="Blues", vmin=0, vmax=2 * max(1.0, float(grid.max())))
        for (row, column), value in np.ndenumerate(grid):
            axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(True)
    return fig


# ------------------------------------------------------------------------------------------ receptive fields


@figure
def receptive_fields(formula: Sequence[int], measured: Sequence[int], touched: Sequence[int]) -> Figure:
    """Receptive field by formula against the measured gradient support of the same random stacks.

    measured: pixels from the first to the last non-zero gradient.   touched: non-zero pixels.
    """
    fig, axes = plt.subplots(figsize=(7, 3.6))
    largest = max(formula)
    axes.plot([0, largest], [0, largest], color=GREY, linestyle="-", linewidth=1, label="equal")
    axes.plot(formula, measured, "o", color=BLUE, label="first to last non-zero pixel")
    axes.plot(formula, touched, "x", color=ORANGE, label="number of non-zero pixels")
    axes.set(xlabel="receptive field by formula (pixels)", ylabel="measured (pixels)")
    axes.legend()
    return fig


@figure
def gradient_supports(supports: Mapping[str, Float[Array, "H W"]]) -> Figure:
    """Where in the image one output unit has a gradient: one panel for each named stack of layers."""
    fig, panels = plt.subplots(1, len(supports), figsize=(7, 7 / len(supports) + 0.5), squeeze=False)
    for axes, (title, support) in zip(panels.flat, supports.items(), strict=True):
        seen = np.asarray(support) != 0
        axes.imshow(seen, cmap="Blues", vmin=0, vmax=1.4)
        axes.set_title(f"{title}\n{seen.sum()} of {seen.size} pixels", fontsize=9)
        axes.set(xlabel="column (pixels)", ylabel="row (pixels)")
    return fig


@figure
def receptive_field_growth(sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Receptive field against depth, for each named rule of choosing the dilations."""
    fig, axes = plt.subplots()
    for (name, values), marker in zip(sizes.items(), "osD^", strict=False):
        axes.plot(range(1, len(values) + 1), values, marker=marker, label=name)
    axes.set(xlabel="number of layers", ylabel="receptive field (samples)")
    axes.set_yscale("log", base=2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    return fig


@figure
def lag_accuracy(lags: Sequence[int], accuracies: Mapping[str, Sequence[float]], chance: float) -> Figure:
    """Share of symbols recalled against the lag, for each named network, with the chance level."""
    fig, axes = plt.subplots()
    for (name, values), marker in zip(accuracies.items(), "osD^", strict=False):
        axes.plot(lags, values, marker=marker, label=name)
    axes.axhline(chance, color=GREY, linestyle=":", linewidth=1, label="chance")
    axes.set(xlabel="lag (time steps)", ylabel="share recalled", ylim=(0, 1.05), xticks=list(lags))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


# ------------------------------------------------------------------------------------------------- gradients


def _connections(
    axes: Axes, size: int, kernel: int, stride: int, chosen: set[tuple[int, int]], *, label_at: float
) -> None:
    """Inputs above, outputs below, one line per weight; the chosen (input, output) pairs stand out."""
    outputs = arrays.output_size(size, kernel, stride=stride)
    offset = (size - outputs) / 2
    for i in range(outputs):
        for tap, (colour, style) in enumerate(TAPS[:kernel]):
            j = stride * i + tap
            strong = (j, i) in chosen
            axes.plot([j, i + offset], [0, 1], color=colour if strong else FAINT, linestyle=style,
                      linewidth=2.2 if strong else 1, zorder=2 if strong else 1)
            if strong:
                middle = (1 - label_at) * j + label_at * (i + offset)
                _node(axes, middle, label_at, f"$w_{tap}$", size=13, edge="none")
    for j in range(size):
        _node(axes, j, 0, f"$x_{j}$")
    for i in range(outputs):
        _node(axes, i + offset, 1, f"$y_{i}$")
    axes.set(xlim=(-0.5, size - 0.5), ylim=(1.25, -0.25))
    axes.axis("off")


def _node(axes: Axes, x: float, y: float, text: str, *, size: float = 20, edge: str = INK) -> None:
    axes.plot(x, y, "o", color=PAPER, markeredgecolor=edge, markersize=size, zorder=4)
    axes.text(x, y, text, ha="center", va="center", fontsize=9, zorder=5)


@figure
def gather_and_scatter(size: int, kernel: int, *, stride: int = 1, output: int, pixel: int) -> Figure:
    """The same lines read twice: one output gathers its inputs, one pixel collects from its outputs."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4))
    reads = {(stride * output + tap, output) for tap in range(kernel)}
    outputs = range(arrays.output_size(size, kernel, stride=stride))
    feeds = {(pixel, i) for i in outputs if 0 <= pixel - stride * i < kernel}
    _connections(left, size, kernel, stride, reads, label_at=0.4)
    left.set_title(f"forward: $y_{output}$ reads {len(reads)} pixels", fontsize=9)
    _connections(right, size, kernel, stride, feeds, label_at=0.6)
    right.set_title(f"backward: $x_{pixel}$ hears from {len(feeds)} outputs", fontsize=9)
    return fig


@figure
def difference_errors(steps: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Relative error of numerical derivatives against their step, for each named rule."""
    fig, axes = plt.subplots()
    for (name, values), marker in zip(errors.items(), "osD^", strict=False):
        axes.loglog(steps, values, marker=marker, markersize=4, label=name)
    axes.set(xlabel="step (dimensionless)", ylabel="relative error (dimensionless)")
    axes.legend()
    return fig


@figure
def blind_spots(
    errors: Float[Array, "variants upstreams"], variants: Sequence[str], upstreams: Sequence[str]
) -> Figure:
    """What a test sees of each wrong backward: the relative error it reports, per upstream gradient."""
    fig, axes = plt.subplots(figsize=(7, 0.5 * len(variants) + 1))
    axes.imshow(np.asarray(errors) > 1e-6, cmap="Blues", vmin=0, vmax=2.4, aspect="auto")
    for (row, column), error in np.ndenumerate(errors):
        verdict = f"caught (error {error:.2g})" if error > 1e-6 else "passes"
        axes.text(column, row, verdict, ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(upstreams)), upstreams)
    axes.set_yticks(range(len(variants)), variants)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    return fig


@figure
def cost_ratios(labels: Sequence[str], ratios: Sequence[float]) -> Figure:
    """Time of each named implementation as a multiple of torch's, on a logarithmic axis."""
    fig, axes = plt.subplots(figsize=(7, 0.42 * len(labels) + 0.9))
    axes.hlines(labels, 1, ratios, color=BLUE, linewidth=1)
    axes.plot(ratios, labels, "o", color=BLUE)
    for label, ratio in zip(labels, ratios, strict=True):
        text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
        right = max(ratio, 1), label  # clear of the dashed line at 1
        axes.annotate(text, right, xytext=(8, 0), textcoords="offset points", va="center")
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel="time as a multiple of torch's (1 = equal)", xlim=(0.3, 4 * max(ratios)))
    axes.margins(y=0.5 / len(labels))
    axes.invert_yaxis()
    return fig
