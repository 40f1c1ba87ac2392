"""Figures of the page on speed: rungs of a ladder, each a time as a multiple of torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from coursekit.figures import figure
from coursekit.figures.conv import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    Ratios = Mapping[str, Mapping[str, float]]  # setting -> rung -> time as a multiple of torch's


@figure
def rungs(panels: Mapping[str, Ratios], *, floor: str | None = None) -> Figure:
    """A panel for each size; in it a line for each dtype that goes from rung to rung, torch at 1.

    panels: size -> dtype -> rung -> ratio.   floor: a rung that does less than the work; it is drawn hollow.
    """
    names = list(next(iter(next(iter(panels.values())).values())))
    size = (7, 0.36 * len(names) + 1.1)
    fig, axes_of = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axes, (title, dtypes) in zip(axes_of[0], panels.items(), strict=True):
        axes.axvline(1, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
        for (dtype, ratios), colour, marker in zip(dtypes.items(), (BLUE, ORANGE), "oD", strict=False):
            climbed = [name for name in ratios if name != floor]
            rows = [names.index(name) for name in climbed]
            values = [ratios[name] for name in climbed]
            axes.plot(values, rows, color=colour, linestyle="-", marker=marker, markersize=5, label=dtype)
            if floor in ratios:
                axes.plot(
                    ratios[floor], names.index(floor), marker, color=colour, fillstyle="none", markersize=6
                )
        axes.set(title=title, xlabel="time, torch.nn.LSTM = 1")
        axes.set_xlim(left=0)
    axes_of[0, 0].set_yticks(range(len(names)), names)
    axes_of[0, 0].invert_yaxis()
    axes_of[0, -1].legend()
    return fig
