"""Checks: one module per topic, one `Check` per graded cell.

A graded cell is one line: `checks.conv.output_size(output_size)` prints a report of at most a dozen lines
and gives the score, which nbgrader reads as points.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from coursekit.checks.engine import Arguments, Case, Check, Misconception, Score, call

__all__ = ["Arguments", "Case", "Check", "Misconception", "Score", "all_checks", "call", "topics"]


def topics() -> list[str]:
    """Slugs of the topics that have checks: every module of this package beside the engine."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def all_checks() -> Iterator[Check]:
    """Every check of every topic, in the order in which its module defines them."""
    for slug in topics():
        yield from [value for value in list(vars(_topic(slug)).values()) if isinstance(value, Check)]


def _topic(slug: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{slug}")


def __getattr__(name: str) -> ModuleType:
    if name in topics():
        return _topic(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; topics: {', '.join(topics())}")
