"""Small corrections to the finished pages: nothing from elsewhere, nothing twice, nothing that stands in a reader's way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> None:
    """Listen to the HTML builder."""
