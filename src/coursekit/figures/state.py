"""Figures on what a hidden state holds: probes against the lag, and sequences recovered from one state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from coursekit.figures import figure
from coursekit.figures.conv import GREY, STYLE_CYCLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

MARKERS = "osD^vP"
LOOKS = list(STYLE_CYCLE)


@figure
def memory(
    shares: Mapping[str, Float[Array, "runs lags"]], units: int, *, asked: Sequence[int] = ()
) -> Figure:
    """R^2 of the input of k steps ago against k (lines: medians, thin: runs), and its sum over all lags.

    asked: lags at which a criterion asks; drawn as thin vertical lines.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), width_ratios=(2, 1))
    for lag in asked:
        left.axvline(lag, color=GREY, linewidth=0.6, linestyle="-", zorder=0)
    for (name, runs), look, marker in zip(shares.items(), LOOKS, MARKERS, strict=False):
        lags = np.arange(runs.shape[1])
        left.plot(lags, np.median(runs, axis=0), marker=marker, markersize=4, label=name, **look)
        left.plot(lags, runs.T, linewidth=0.5, alpha=0.5, **look)
    left.set(xlabel="lag k (time steps)", ylabel="$R^2$ of the input k steps ago", ylim=(-0.05, 1.05))
    left.legend(loc="upper right")
    totals = [runs.sum(axis=1) for runs in shares.values()]
    rows = np.arange(len(shares))
    colours = [look["color"] for look in LOOKS[: len(shares)]]
    right.barh(rows, [np.median(total) for total in totals], color=colours, alpha=0.75, height=0.6)
    for row, total in zip(rows, totals, strict=True):
        right.plot(total, np.full(len(total), row), "|", color=LOOKS[-1]["color"], markersize=9)
    right.axvline(units, color=GREY, linestyle="--", linewidth=1)
    right.text(units, -0.75, f"{units} units", ha="right", va="center", fontsize=9, color=GREY)
    right.set(xlabel="sum over all lags", xlim=(0, 1.05 * units), ylim=(len(shares) - 0.4, -1))
    right.set_yticks(rows, list(shares))
    return fig


@figure
def recovery(
    lengths: Sequence[int],
    exact: Mapping[str, Float[Array, "runs lengths"]],
    bits: Mapping[str, Float[Array, "runs lengths"]],
    *,
    bits_per_step: float,
) -> Figure:
    """Share of sequences recovered without an error against length, and bits recovered against bits offered.

    Lines are medians; a dot is one run.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4))
    offered = bits_per_step * np.asarray(lengths)
    panels = (left, lengths, exact, "length (symbols)"), (right, offered, bits, "bits in the sequence")
    for axes, x, curves, label in panels:
        for (name, runs), look, marker in zip(curves.items(), LOOKS, MARKERS, strict=False):
            axes.plot(x, np.median(runs, axis=0), label=name, **look)
            axes.plot(np.tile(x, len(runs)), runs.ravel(), marker, color=look["color"], markersize=3.5)
        axes.set_xlabel(label)
    left.plot(lengths, 2.0**-offered, color=GREY, linestyle=":", linewidth=1, label="chance")
    left.set(ylabel="share recovered exactly", ylim=(-0.03, 1.05))
    right.plot(offered, offered, color=GREY, linestyle="-", linewidth=0.8)
    right.text(offered[-1], offered[-1], "all of them ", ha="right", va="center", fontsize=9)
    right.set_ylabel("bits recovered")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig
