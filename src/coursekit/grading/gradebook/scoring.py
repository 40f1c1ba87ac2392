"""What one executed test cell earned; it fails closed: a doubt costs the points and calls for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["score", "valid_points"]

SLACK = 1e-9  # points; sums of cases such as 0.1 + 0.2 + 0.7 may exceed the maximum by rounding


def score(
    maximum: float,
    ran_to_end: bool,
    results: Sequence[Any],
    record: dict[str, Any] | None,
    expects_record: bool,
) -> tuple[float, str | None]:
    """Points of a test cell, and why a person must look at it (None if nobody must).

    maximum: what the cell is worth.   ran_to_end: whether it ended without an error.   results: values that
    it showed, in order.   record: what a coursekit check reported.   expects_record: whether the
    cell calls one.

    As in stock nbgrader, an error gives 0, a number gives so many points, and a cell that ends without a
    number (an assert, a text) gives the maximum.  Unlike stock, text on stderr costs nothing, an error
    after a result gives 0, and what is no valid number of points gives 0 and a review; of several
    numbers the lowest counts.

    >>> score(4, True, [], None, False), score(4, True, [2.5], None, False)
    ((4.0, None), (2.5, None))
    >>> score(4, True, [float("nan")], None, False)
    (0.0, 'the result is nan, which is not a number of points from 0 to 4')
    """
    if not ran_to_end:
        return 0.0, None
    marks = [valid_points(credit, maximum) for credit in map(_credit, results) if credit is not None]
    if reason := next((reason for _, reason in marks if reason), None):
        return 0.0, reason
    points = min((points for points, _ in marks), default=None)
    if expects_record and (reason := _mismatch(points, record)):
        return 0.0, reason
    return (float(maximum) if points is None else points), None


def valid_points(points: Any, maximum: float) -> tuple[float, str | None]:
    """The points if they are a number from 0 to the maximum; otherwise 0 and what is wrong with them."""
    try:
        number = math.nan if isinstance(points, bool | str | bytes) else float(points)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if 0 <= number <= maximum + SLACK:
        return min(number, float(maximum)), None
    return 0.0, f"the result is {_shortened(points)}, which is not a number of points from 0 to {maximum:g}"


def _credit(value: Any) -> float | None:
    """The number that a result stands for: its value, else what it shows as; None if it is no number."""
    if isinstance(value, str | bytes | bool) or type(value).__name__ in ("bool", "bool_"):
        return None
    try:
        return float(value) if hasattr(value, "__float__") else float(repr(value))
    except Exception:  # whatever a foreign __float__ or __repr__ raises
        return None


def _mismatch(points: float | None, record: dict[str, Any] | None) -> str | None:
    """Why the record of a check does not vouch for the points that its cell showed."""
    if record is None:
        return "the check left no record of what it found"
    if points is None:
        return "the check reported its cases, but the cell shows no points"
    reported = _credit(record.get("points"))
    # a score shows six digits of its points
    if reported is None or not math.isclose(points, reported, rel_tol=1e-5, abs_tol=SLACK):
        return f"the cell shows {points:g} points, the check reported {_shortened(record.get('points'))}"
    return None


def _shortened(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # it may be an object of anybody's
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 40 else f"{text[:37]}..."
