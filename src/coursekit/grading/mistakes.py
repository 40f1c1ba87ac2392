"""Typical mistakes of the demo class: student -> (grade id of the solution cell, right code, wrong code)."""

from __future__ import annotations

MISTAKES: dict[str, dict[str, tuple[str, str, str]]] = {}
