"""Runs that are written to a file one by one: a script that is begun again goes on where it stopped."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


class Log:
    """The finished runs of a benchmark, and the conditions that they were made under.

    runs: those that stand in the file, if its conditions are the same; otherwise none.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        stored = json.loads(path.read_text()) if path.exists() else {}
        same = all(stored.get(name) == value for name, value in conditions.items())
        self.path, self.conditions = path, conditions
        self.runs: list[dict[str, Any]] = stored["runs"] if same else []

    def has(self, name: dict[str, Any]) -> bool:
        """Whether there is a run with all that name says."""
        return any(name.items() <= run.items() for run in self.runs)

    def add(self, run: dict[str, Any]) -> None:
        """Write the run to the file; if this is interrupted, the file is as before."""
        self.runs.append(run)
        date = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d")}
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.conditions | date | {"runs": self.runs}, indent=1) + "\n")
        unfinished.replace(self.path)
