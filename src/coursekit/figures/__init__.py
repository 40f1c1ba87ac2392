"""The book's figures: one module per topic, one function per figure, one style.

A figure function computes what it draws, returns a matplotlib ``Figure`` and never shows it.
Topics are attributes: ``figures.conv.windows()`` imports ``coursekit.figures.conv`` when it is first needed.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from importlib import resources
from typing import TYPE_CHECKING, ParamSpec

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from matplotlib.figure import Figure

Options = ParamSpec("Options")
STYLE = resources.files(__name__) / "coursekit.mplstyle"


def figure(draw: Callable[Options, Figure]) -> Callable[Options, Figure]:
    """Draw in the book's style, whatever the caller's own settings are, and leave those untouched.

    The figure is taken off pyplot's list, so that a notebook cell shows it once, as the cell's value.
    """

    @functools.wraps(draw)
    def draw_styled(*args: Options.args, **options: Options.kwargs) -> Figure:
        with plt.style.context(["default", str(STYLE)]):
            drawn = draw(*args, **options)
        plt.close(drawn)
        return drawn

    return draw_styled


def __dir__() -> list[str]:
    return ["figure", *(module.name for module in pkgutil.iter_modules(__path__))]


def __getattr__(name: str) -> ModuleType:
    if name not in __dir__():
        raise AttributeError(f"coursekit.figures has no topic {name!r}; there are {', '.join(__dir__()[1:])}")
    return importlib.import_module(f"{__name__}.{name}")
