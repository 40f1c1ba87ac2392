"""The Sphinx extension that makes the book: execution, mathematics, reference, interactive drawings, HTML."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from coursekit.book import docstrings, execution, html, interactive, mathematics

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

STATIC = resources.files(__name__) / "static"


def add_static_files(app: Sphinx, config: Config) -> None:
    """Ship style sheet and fonts from the package: pages would load all of a _static folder."""
    config.html_static_path.append(str(STATIC))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the parts; Sphinx calls this once."""
    app.connect("config-inited", add_static_files)
    app.add_css_file("coursekit.css", priority=900)
    mathematics.setup(app)
    execution.setup(app)
    docstrings.setup(app)
    interactive.setup(app)
    html.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
