"""Figures of the page on the GRU: what its two forms differ by, and how nets with it learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, FAINT, GREEN, GREY, ORANGE, PURPLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

SMALLEST = 1e-17  # of a difference that is drawn; what is smaller stands there


@figure
def differences(cases: Mapping[str, float], *, rounding: float = 1e-12) -> Figure:
    """How far the two forms of the GRU are apart in each named case, on a logarithmic axis.

    rounding: what is below it is no difference.
    """
    fig, axes = plt.subplots(figsize=(7, 0.36 * len(cases) + 0.9))
    axes.axvspan(SMALLEST / 10, rounding, color=FAINT, alpha=0.5, linewidth=0)
    for row, difference in enumerate(cases.values()):
        same = difference < rounding
        look = {"color": BLUE if same else ORANGE, "markersize": 7, "linestyle": "none"}
        axes.plot(max(difference, SMALLEST), row, "o" if same else "D", **look)
    axes.set_yticks(range(len(cases)), list(cases))
    axes.set(xscale="log", xlim=(SMALLEST / 3, 10), ylim=(len(cases) - 0.5, -0.5))
    axes.set_xlabel("largest difference of the outputs")
    axes.text(SMALLEST, -0.5, "rounding", ha="left", va="bottom", fontsize=9, color=GREY)
    return fig


@figure
def learning(
    panels: Mapping[str, Mapping[str, Float[Array, "S K"]]], steps: Sequence[int], *, chance: float
) -> Figure:
    """Share of wrong answers during training, a panel for each title: the median of the seeds, and each.

    panels: title -> name -> a row for each seed.   steps: updates made, for each column.
    """
    fig, row = plt.subplots(1, len(panels), figsize=(7, 3.3), sharey=True, squeeze=False)
    styles = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))
    for axes, (title, curves) in zip(row[0], panels.items(), strict=True):
        for (colour, style), (name, seeds) in zip(styles, curves.items(), strict=False):
            look = {"color": colour, "linestyle": style}
            axes.plot(steps, np.median(seeds, axis=0), linewidth=2.2, label=name, **look)
            for seed in seeds:
                axes.plot(steps, seed, linewidth=0.7, alpha=0.5, **look)
        axes.axhline(chance, color=GREY, linestyle=":", linewidth=1)
        axes.set(xlabel="updates", title=title, ylim=(-0.03, chance + 0.12))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, fontsize=8.5)
    row[0][0].set_ylabel("share of wrong answers")
    row[0][0].text(steps[0], chance + 0.01, "chance", ha="left", va="bottom", fontsize=9, color=GREY)
    return fig
