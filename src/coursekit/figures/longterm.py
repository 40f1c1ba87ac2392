"""Figures on what gradients do over time: stretched circles, spectra over lag, growth, long-lag tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from coursekit.figures import STYLE, figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

STYLE_CYCLE = matplotlib.rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"]
BLUE, ORANGE, GREEN, PURPLE, BROWN, GREY = STYLE_CYCLE.by_key()["color"]
MARKERS = "osD^vP"


def _level(axes: Axes, height: float, *, vertical: bool = False) -> None:
    """A thin line at a value that the curves are judged by."""
    draw = axes.axvline if vertical else axes.axhline
    draw(height, color=GREY, linestyle="-", linewidth=0.6, zorder=0)


# ------------------------------------------------------------------------------------- products of matrices


@figure
def stretched_circles(matrices: Mapping[str, Float[Array, "2 2"]], powers: Sequence[int]) -> Figure:
    """A circle of gradients after each matrix has been applied k times; the area is |det| times the circle's.

    Gradients are rows: g becomes g @ A.T.
    """
    size = (7, 1.35 * len(matrices) + 0.7)
    fig, panels = plt.subplots(len(matrices), 1, figsize=size, sharex=True, sharey=True, squeeze=False)
    styles = list(zip(powers, (GREY, BLUE, ORANGE, GREEN), ("-", "--", "-.", ":"), strict=False))
    angles = np.linspace(0, 2 * np.pi, 361)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for axes, (name, matrix) in zip(panels.flat, matrices.items(), strict=True):
        for k, colour, style in styles:
            image = circle @ np.linalg.matrix_power(matrix, k).T
            axes.plot(*image.T, color=colour, linestyle=style, label=f"{k} steps")
        axes.set_aspect("equal")
        axes.set_title(f"{name}, determinant {np.linalg.det(matrix):.2f}", fontsize=9)
    fig.supxlabel("first component", fontsize=10)
    fig.supylabel("second component", fontsize=10)
    fig.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(powers))
    return fig


@figure
def growth(
    curves: Mapping[str, Float[Array, " K"]], *, xlabel: str, ylabel: str, bounds: Sequence[str] = ()
) -> Figure:
    """Sizes against the number of steps, on a logarithmic axis; the curves named in bounds are thin."""
    fig, axes = plt.subplots()
    for name, values in curves.items():
        axes.plot(np.arange(len(values)), values, label=name, linewidth=1 if name in bounds else 1.8)
    _level(axes, 1)
    axes.set(yscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


@figure
def exponents(
    spectra: Mapping[str, tuple[Float[Array, " U"], Float[Array, " U"]]],
    gains: Sequence[float],
    largest: Sequence[float],
    determinant: Sequence[float],
) -> Figure:
    """Growth rates of products of random matrices: all of them, and the largest beside the determinant's.

    spectra: for each name the measured rates and those of theory.   largest, determinant: for each gain the
    largest rate and the mean of log |det| per unit; between their zeros the two disagree about the sign.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    for (name, (measured, theory)), marker in zip(spectra.items(), MARKERS, strict=False):
        numbers = np.arange(len(measured))
        (line,) = left.plot(numbers, measured, marker, linestyle="none", markersize=4, label=name)
        left.plot(numbers, theory, color=line.get_color(), linestyle="-", linewidth=1)
    left.set(xlabel="number of the singular value", ylabel="growth rate (per step)", title="all rates")
    left.legend(loc="lower left")
    right.plot(gains, largest, marker="o", label="largest singular value")
    right.plot(gains, determinant, marker="s", label="determinant, per unit")
    zeros = [float(np.interp(0, curve, gains)) for curve in (largest, determinant)]
    right.axvspan(*zeros, color=GREY, alpha=0.15, linewidth=0)
    right.set(xlabel="gain of the random matrices", ylabel="growth rate (per step)", title="who decides")
    right.legend(loc="lower right")
    for axes in (left, right):
        _level(axes, 0)
    return fig


# ------------------------------------------------------------------------------------------- during training


class Spectrum(NamedTuple):
    """What a net does to gradients over lags 0 to K, at one moment of its training.

    values: median over sequences of each singular value.   volume: geometric mean of all of them,
    |det|^(1/U).   note: what else to say of this moment.
    """

    values: Float[Array, "K U"]
    volume: Float[Array, " K"]
    note: str


@figure
def spectra(
    rows: Mapping[str, Mapping[str, Spectrum]], *, lowest: float = 1e-12, highest: float = 1e4
) -> Figure:
    """Singular values of the Jacobian product against the lag: one row per net, one column per moment."""
    columns = len(next(iter(rows.values())))
    size = (7, 1.75 * len(rows) + 0.8)
    fig, panels = plt.subplots(len(rows), columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for line, (name, moments) in zip(panels, rows.items(), strict=True):
        for axes, (moment, spectrum) in zip(line, moments.items(), strict=True):
            _spectrum(axes, spectrum)
            axes.set_title(f"{moment}: {spectrum.note}", fontsize=8)
        line[0].set_ylabel(name, fontsize=9)
    panels[0, 0].set(yscale="log", ylim=(lowest, highest))
    fig.supxlabel("lag (time steps)", fontsize=10)
    fig.supylabel("singular value (dimensionless)", fontsize=10)
    handles = [line for line in panels[0, 0].lines if line.get_label()[0] != "_"]
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


def _spectrum(axes: Axes, spectrum: Spectrum) -> None:
    lags = np.arange(len(spectrum.values))
    solid = {"color": BLUE, "linestyle": "-"}
    axes.plot(lags, spectrum.values[:, 1:], **solid, linewidth=0.5, alpha=0.35)
    axes.plot(lags, spectrum.values[:, 0], **solid, linewidth=2, label="largest")
    axes.plot([], [], **solid, linewidth=0.5, alpha=0.6, label="the others")
    axes.plot(lags, spectrum.volume, color=ORANGE, linestyle="--", label="determinant, per unit")
    _level(axes, 1)


@figure
def gradient_distances(panels: Mapping[str, Mapping[str, Float[Array, " K"]]]) -> Figure:
    """Size of the loss's gradient by the state against its distance from the loss, one panel per moment."""
    fig, grid = plt.subplots(1, len(panels), figsize=(7, 3.2), sharey=True, squeeze=False)
    for axes, (moment, curves) in zip(grid.flat, panels.items(), strict=True):
        for name, values in curves.items():
            axes.plot(np.arange(len(values)), values, label=name)
        _level(axes, 1)
        axes.set(yscale="log", xlabel="distance from the loss (steps)", title=moment)
    grid[0, 0].set_ylabel("gradient, relative to distance 0")
    fig.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(curves))
    return fig


# ----------------------------------------------------------------------------------------- tasks and latches


@figure
def task_errors(
    tasks: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], *, smallest: float = 2e-3
) -> Figure:
    """Error of every net as a share of the best constant answer's: one panel per task, one dot per seed.

    tasks: task -> length -> net -> errors; what is below `smallest` is drawn there.
    """
    nets = list(next(iter(next(iter(tasks.values())).values())))
    size = (7, 0.36 * len(nets) + 1.4)
    fig, panels = plt.subplots(1, len(tasks), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, (task, lengths) in zip(panels.flat, tasks.items(), strict=True):
        styles = zip(lengths.items(), (BLUE, ORANGE), "os", strict=False)
        for number, ((length, errors), colour, marker) in enumerate(styles):
            shift = 0.24 * (number - (len(lengths) - 1) / 2)
            points = [(max(e, smallest), row + shift) for row, net in enumerate(nets) for e in errors[net]]
            axes.plot(*zip(*points, strict=True), marker, color=colour, linestyle="none", label=length)
        _level(axes, 1, vertical=True)
        axes.set(xscale="log", xlim=(smallest / 1.5, 4), title=task)
    panels[0, 0].set_yticks(range(len(nets)), nets)
    panels[0, 0].invert_yaxis()
    fig.supxlabel("error, as a multiple of the best constant answer's", fontsize=10)
    fig.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


@figure
def latch(
    weights: Sequence[float],
    kept: Mapping[str, Sequence[float]],
    gradients: Mapping[str, Sequence[float]],
    *,
    smallest: float = 1e-40,
) -> Figure:
    """A unit that stores one bit: share of bits kept, and the gradient through all steps, by its weight."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), sharex=True)
    for axes, curves in ((left, kept), (right, gradients)):
        for (name, values), marker in zip(curves.items(), MARKERS, strict=False):
            axes.plot(weights, values, marker=marker, markersize=4, label=name)
        _level(axes, 1, vertical=True)
        axes.set_xlabel("weight w of the unit to itself")
    left.set(ylabel="share of bits kept", ylim=(0.4, 1.03))
    right.set(yscale="log", ylabel="median gradient, last to first state", ylim=(smallest, 10))
    left.legend(title="noise", loc="lower right")
    return fig


@figure
def learnt_shares(lengths: Sequence[int], shares: Mapping[str, Sequence[float]]) -> Figure:
    """Share of random starts whose net keeps the bit, against the number of steps, for each named net."""
    fig, axes = plt.subplots()
    for (name, values), marker in zip(shares.items(), MARKERS, strict=False):
        axes.plot(lengths, values, marker=marker, label=name)
    axes.set(xlabel="time steps", ylabel="share of starts that keep the bit", ylim=(0, 1.05), xscale="log")
    axes.set_xticks(list(lengths), [str(length) for length in lengths])
    axes.minorticks_off()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig
