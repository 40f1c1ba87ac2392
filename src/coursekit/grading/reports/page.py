"""One self-contained page: escaping on, nothing loaded from anywhere, light and dark, phone and desk."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """The page that a template makes of values; every string is escaped unless it is Markup."""
    page = _environment().get_template(template).render(**values)
    # A lone surrogate, which JSON can carry, cannot be written to a file.
    return page.encode("utf-8", "replace").decode("utf-8")


def points(value: float) -> str:
    """Points as people write them: 4, 2.5, 0.33."""
    return f"{round(value, 2):g}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 cell`, `3 cells`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["points"] = points
    environment.globals["counted"] = counted
    environment.globals["style"] = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment
