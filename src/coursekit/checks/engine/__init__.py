"""The engine behind every check: calling a student's function safely, comparing, diagnosing, reporting.

A check reaches a student's functions only by calling them with arrays and plain values, so that they
may live in another process.
"""

from __future__ import annotations

from coursekit.checks.engine.calling import CallFailed, Failure
from coursekit.checks.engine.check import Arguments, Case, Check, Draw, Misconception, call
from coursekit.checks.engine.report import Score
from coursekit.checks.engine.torch import with_gradients

__all__ = [
    "Arguments", "CallFailed", "Case", "Check", "Draw", "Failure", "Misconception", "Score", "call",
    "with_gradients",
]
