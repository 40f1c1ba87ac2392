"""The engine behind every check: calling a student's function safely, comparing, diagnosing, reporting.

A check reaches a student's functions only by calling them with arrays and plain values, so that they
may live in another process.
"""

from __future__ import annotations

from .calling import CallFailed, Failure
from .check import Arguments, Case, Check, Draw, Misconception, call
from .report import Score
from .torch import with_gradients

__all__ = [
    "Arguments", "CallFailed", "Case", "Check", "Draw", "Failure", "Misconception", "Score", "call",
    "with_gradients",
]
