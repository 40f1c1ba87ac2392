"""A grid of numbers, coloured by size: what several topics' figures are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from coursekit.arrays import Array


def number_grid(
    axes: Axes, values: Float[Array, "rows columns"], form: str = "{:g}", **options: object
) -> AxesImage:
    """Colour each cell and write its number into it, in the ink that can be read on that colour."""
    image = axes.imshow(values, **options)
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else "white"
        axes.text(column, row, form.format(value), ha="center", va="center", color=ink, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def picture(axes: Axes, image: Float[Array, "H W"], title: str, **options: object) -> AxesImage:
    """A grey image without ticks, its title above."""
    axes.set(title=title, xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="0.7")
    return axes.imshow(image, **{"cmap": "gray_r"} | options)
