"""An assignment's own solution as a student's hand-in: whole, or with a piece of its text changed."""

from __future__ import annotations

import importlib
import re
from functools import cached_property
from pathlib import Path

from coursekit.authoring import parse
from coursekit.checks import Check, Score


class SolutionText:
    """The text source of one assignment."""

    def __init__(self, slug: str) -> None:
        self.path = Path(__file__).parents[1] / "solutions" / f"{slug}.py"
        topic = importlib.import_module(f"coursekit.checks.{slug}")
        self.checks = {name: value for name, value in vars(topic).items() if isinstance(value, Check)}

    @cached_property
    def cells(self) -> dict[str, str]:
        """Source of the given and of the solution cells, by grade id."""
        cells = [cell for cell in parse(self.path).cells if cell.cell_type == "code"]
        marked = [cell for cell in cells if "nbgrader" in cell.metadata]
        return {cell.id: cell.source for cell in marked if not cell.source.startswith("checks.")}

    def written(self, **changed: tuple[str, str]) -> dict[str, object]:
        """What the cells define; changed: grade id with underscores -> (right code, wrong code)."""
        names: dict[str, object] = {}
        for grade_id, source in self.cells.items():
            right, wrong = changed.get(grade_id.replace("-", "_"), ("", ""))
            assert right in source
            exec(compile(source.replace(right, wrong), f"<{grade_id}>", "exec"), names)
        return names

    def function_of(self, check: Check, names: dict[str, object]) -> object:
        """The function that a check is called with in the notebook."""
        text = self.path.read_text(encoding="utf-8")
        return names[re.search(rf"checks\.{re.escape(check.name)}\((\w+)\)", text)[1]]

    def grade(self, check: Check, **changed: tuple[str, str]) -> Score:
        """The score of the solution, or of what becomes of it when it is changed as in `written`."""
        return check.grade(self.function_of(check, self.written(**changed)))
