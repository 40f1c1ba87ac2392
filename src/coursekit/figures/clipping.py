"""Figures of the chapter on gradient clipping: directions, training runs, cosines, outcomes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, Rectangle

from coursekit.clipping import clip_norm, clip_value
from coursekit.figures import STYLE, figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE_CYCLE = matplotlib.rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"]
BLUE, ORANGE, GREEN, PURPLE, BROWN, GREY = STYLE_CYCLE.by_key()["color"]
FAINT = "#e9e6df"
MARKERS = "osD^vP"


class Log(NamedTuple):
    """What one training run wrote down at every step."""

    loss: Float[np.ndarray, " steps"]
    norm: Float[np.ndarray, " steps"]


class Outcomes(NamedTuple):
    """How runs ended: for each named curve a number at each x."""

    x: Sequence[float]
    curves: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str


def _arrow(axes: Axes, to: Sequence[float], colour: str, **options: object) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", to, (0, 0), arrowprops=style | options)


@figure
def directions(gradients: Sequence[Sequence[float]], limit: float) -> Figure:
    """Gradients in the plane and what each kind of clipping makes of them, with the angle between the two.

    The shaded region holds what is left alone.
    """
    fig, panels = plt.subplots(1, 2, figsize=(7, 2.4), sharex=True, sharey=True)
    regions = (
        Rectangle((-limit, -limit), 2 * limit, 2 * limit, color=FAINT, zorder=0),
        Circle((0, 0), limit, color=FAINT, zorder=0),
    )
    reach, height = 1.25 * np.abs(gradients).max(), max(1.2 * limit, 1.25 * np.max(gradients, axis=0)[1])
    for axes, clip, region, title in zip(
        panels, (clip_value, clip_norm), regions, ("by value", "by norm"), strict=True
    ):
        axes.add_patch(region)
        for raw in np.asarray(gradients, dtype=float):
            clipped = clip(raw, limit).gradients
            _arrow(axes, raw, GREY, linestyle="--", linewidth=1)
            _arrow(axes, clipped, BLUE)
            if (clipped != raw).any():
                outwards = 14 * raw / np.linalg.norm(raw)  # points
                axes.annotate(
                    f"{_angle(raw, clipped):.0f}°", raw, xytext=outwards, textcoords="offset points",
                    ha="center", va="center", fontsize=9, color=GREY,
                )
        axes.axhline(0, color=GREY, linestyle="-", linewidth=0.6, zorder=0)
        axes.axvline(0, color=GREY, linestyle="-", linewidth=0.6, zorder=0)
        axes.set(xlim=(-reach, reach), ylim=(-1.2 * limit, height), aspect="equal", title=title)
        axes.set(xlabel="$g_0$ (dimensionless)")
    panels[0].set(ylabel="$g_1$ (dimensionless)")
    return fig


def _angle(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return math.degrees(math.acos(min(1.0, cosine)))


@figure
def training(runs: Mapping[str, Log], limit: float, chance: float) -> Figure:
    """Loss and norm of the gradient at every step of named runs, on common axes.

    chance: loss of the best constant answer.
    """
    fig, (above, below) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True)
    for (name, log), colour in zip(runs.items(), (ORANGE, BLUE, GREEN), strict=False):
        line = {"color": colour, "linestyle": "-", "linewidth": 0.7, "label": name}
        above.plot(log.loss, **line)
        below.plot(log.norm, **line)
    above.axhline(chance, color=GREY, linestyle=":", linewidth=1.2, label="best constant answer")
    below.axhline(limit, color=GREY, linestyle="--", linewidth=1.2, label="limit")
    highest = max(1.3 * chance, *(float(np.quantile(log.loss, 0.99)) for log in runs.values()))
    above.set(ylabel="loss (nats)", ylim=(0, 1.1 * highest))
    below.set(ylabel="norm (dimensionless)", xlabel="step", yscale="log")
    for axes in (above, below):
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


@figure
def cosines(norms: Float[np.ndarray, " steps"], kinds: Mapping[str, Float[np.ndarray, " steps"]]) -> Figure:
    """Cosine of the clipped and the raw gradient at every step, against the norm of the raw one."""
    fig, axes = plt.subplots()
    for (name, values), colour, marker in zip(kinds.items(), (BLUE, ORANGE, GREEN), MARKERS, strict=False):
        axes.plot(norms, values, marker, color=colour, markersize=3, alpha=0.6, linestyle="none", label=name)
    axes.set(xscale="log", xlabel="norm of the raw gradient (dimensionless)", ylabel="cosine (dimensionless)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=2)
    return fig


@figure
def outcomes(panels: Sequence[Outcomes]) -> Figure:
    """How runs ended against a setting on a logarithmic axis, one panel for each setting."""
    fig, all_axes = plt.subplots(1, len(panels), figsize=(7, 3.2), squeeze=False)
    for axes, (x, curves, x_label, y_label) in zip(all_axes.flat, panels, strict=True):
        for (name, values), marker in zip(curves.items(), MARKERS, strict=False):
            axes.plot(x, values, marker=marker, label=name)
        axes.set(xscale="log", xlabel=x_label, ylabel=y_label)
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.minorticks_off()
        axes.set_ylim(-0.03 * _top(curves), 1.05 * _top(curves))
        axes.legend()
    return fig


def _top(curves: Mapping[str, Sequence[float]]) -> float:
    return max(max(values) for values in curves.values())
