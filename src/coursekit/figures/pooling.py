"""Figures of the detector and the pooling stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from coursekit import arrays, conv, detectors, pooling
from coursekit.figures import figure
from coursekit.figures.grids import number_grid, picture

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

ZOO = {"relu": {}, "leaky_relu": {"slope": 0.2}, "absolute": {}, "softplus": {}, "sigmoid": {}, "tanh": {}}


@figure
def zoo() -> Figure:
    """Each detector and, through its own backward pass, its derivative."""
    z = np.linspace(-4, 4, 401)
    fig, panels = plt.subplots(2, 3, figsize=(7, 3.8), sharex=True, sharey=True)
    for axes, (name, options) in zip(panels.flat, ZOO.items(), strict=True):
        y, cache = getattr(detectors, f"{name}_forward")(z, **options)
        slope = getattr(detectors, f"{name}_backward")(np.ones_like(z), cache)
        axes.axhline(0, color="0.8", linewidth=0.8, linestyle="-", zorder=0)
        axes.plot(z, y, label="value")
        axes.plot(z, slope, label="derivative")
        axes.set(title=name.replace("_", " "), ylim=(-1.3, 4))
    panels[0, 0].legend()
    fig.supxlabel("pre-activation z", fontsize=10)
    return fig


@figure
def stages(image: Float[Array, "H W"], kernel: Float[Array, "KH KW"], pool: int = 2) -> Figure:
    """One image after each stage of a complex layer, the last one pooled in two ways."""
    response, _ = conv.conv2d_forward(image[None, None], kernel[None, None], padding="same")
    detected, _ = detectors.relu_forward(response)
    panels = {
        "image": image[None, None],
        "convolution": response,
        "detector": detected,
        "max pooling": pooling.max_pool2d_forward(detected, pool)[0],
        "average pooling": pooling.avg_pool2d_forward(detected, pool)[0],
    }
    fig, row = plt.subplots(1, len(panels), figsize=(7, 1.7))
    limit = float(np.abs(response).max())
    for axes, (title, stage) in zip(row, panels.items(), strict=True):
        signed = {} if title == "image" else {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}
        picture(axes, stage[0, 0], title, **signed).axes.title.set_fontsize(9)
    return fig


@figure
def lp_family(window: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)) -> Figure:
    """What L_p pooling makes of one window as p grows, as it is defined and divided by n to the 1/p."""
    powers = np.geomspace(1, 64, 61)
    x = np.array(window)[None, None]
    pooled = np.array([pooling.lp_pool1d_forward(x, len(window), p=float(p))[0].item() for p in powers])
    fig, axes = plt.subplots(figsize=(7, 3))
    axes.plot(powers, pooled, label=r"$L_p$ pooling, $(\sum_i |x_i|^p)^{1/p}$")
    axes.plot(powers, pooled / len(window) ** (1 / powers), label=r"the same divided by $n^{1/p}$")
    for value, name in ((max(window), "maximum"), (np.mean(window), "average")):
        axes.axhline(value, color="0.55", linewidth=1, linestyle=":")
        axes.text(65, value, name, va="bottom", ha="right", fontsize=9)
    axes.set(xscale="log", xlabel="p", ylabel="pooled value", xticks=[1, 2, 4, 8, 16, 32, 64])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.legend()
    return fig


def window_extents(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool
) -> list[tuple[int, int, int]]:
    """First pixel, pixel after the last, and number of image pixels of every pooling window of one axis.

    Pixels count from the image's first, so that those of the padding before it are negative.
    """
    count = arrays.output_size(size, kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
    starts = [stride * i - padding for i in range(count)]
    stops = [min(start + kernel, size + padding) for start in starts]
    return [(a, b, min(b, size) - max(a, 0)) for a, b in zip(starts, stops, strict=True)]


@figure
def windows(size: int = 8, kernel: int = 3, stride: int = 2, padding: int = 1) -> Figure:
    """Every window with its pixel counts, rounding the number of windows down and up."""
    fig, rows = plt.subplots(2, 1, figsize=(7, 3.6))
    for axes, ceil_mode in zip(rows, (False, True), strict=True):
        extents = window_extents(size, kernel, stride, padding, ceil_mode)
        _draw_row(axes, size, padding)
        for level, (start, stop, inside) in enumerate(extents):
            _draw_window(axes, start, stop, inside, level % 2, to_hex(f"C{level % 3}"))
        axes.set_title(f"ceil_mode={ceil_mode}: {len(extents)} windows")
    return fig


def _draw_row(axes: Axes, size: int, padding: int) -> None:
    for i in range(-padding, size + padding):
        pad = not 0 <= i < size
        face, hatch = ("0.92", "////") if pad else ("white", "")
        axes.add_patch(Rectangle((i, 0), 1, 1, facecolor=face, edgecolor="0.25", hatch=hatch, linewidth=0.8))
        axes.text(i + 0.5, 0.5, "" if pad else str(i), ha="center", va="center", fontsize=9)
    axes.set(xlim=(-padding - 0.1, size + padding + 0.1), ylim=(-2.3, 1.1), aspect="equal")
    axes.axis("off")


def _draw_window(axes: Axes, start: int, stop: int, inside: int, level: int, colour: str) -> None:
    """A bracket below the row; neighbours hang at two heights, so that overlaps can be seen."""
    y = -0.35 - level
    axes.plot(
        [start + 0.1, start + 0.1, stop - 0.1, stop - 0.1], [y + 0.2, y, y, y + 0.2], color=colour, ls="-"
    )
    label = f"{inside}" if inside == stop - start else f"{inside} of {stop - start}"
    axes.text((start + stop) / 2, y - 0.12, label, ha="center", va="top", fontsize=9)


@figure
def routes(x: Float[Array, "H W"], kernel: int = 3, stride: int = 2) -> Figure:
    """Where an upstream gradient of one per window goes: through max pooling and through the average."""
    pools = {"max": (pooling.max_pool2d_forward, pooling.max_pool2d_backward),
             "average": (pooling.avg_pool2d_forward, pooling.avg_pool2d_backward)}  # fmt: skip
    fig, row = plt.subplots(1, 3, figsize=(7, 2.6))
    number_grid(row[0], x, cmap="Greys", vmin=0, vmax=2 * x.max())
    row[0].set_title("x")
    for axes, (name, (forward, backward)) in zip(row[1:], pools.items(), strict=True):
        y, cache = forward(x[None, None], kernel, stride=stride)
        dx = backward(np.ones_like(y), cache)[0, 0]
        number_grid(axes, dx, "{:.2g}", cmap="Blues", vmin=0, vmax=y.size)
        axes.set_title(f"dx, {name} pooling")
    for axes in row:
        axes.set(xticks=[], yticks=[])
    return fig
