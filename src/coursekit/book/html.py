"""Correct the finished pages: nothing from elsewhere, nothing twice, nothing that hides text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CORRECTIONS = [
    # jupyter-book always adds thebe, which runs cells on a server: its address (twice) and its files.
    (r"<script[^>]*>const THEBE_JS_URL.*?</script>\s*", ""),
    (r"<(script|link)[^>]*sphinx-thebe[^>]*>(</script>)?\s*", ""),
    (r"(<script>var togglebuttonSelector[^<]*</script>)\s*(?=.*\1)", ""),
    # 1.5 MB of script that draws the icons which the style sheet's font draws already.
    (r'<script defer src="[^"]*fontawesome\.js[^"]*"></script>\s*', ""),
    # Later inline scripts need documentation_options.js at once; all others can wait for the page.
    (r"<script(?= [^>]*src=)(?! defer)(?![^>]*documentation_options)", "<script defer"),
    (r'<meta name="viewport" content="width=device-width, initial-scale=1" ?/>', ""),
    # A label that differs from the visible text hides that text from a screen reader.
    (r'(<summary) aria-label="Toggle hidden content"', r"\1"),
    (r'(<button class="[^"]*(?:theme-switch-button|search-button-field)[^>]*?) aria-label="[^"]*"', r"\1"),
    (r'<div id="pst-primary-sidebar"(?! role)', r'\g<0> role="navigation" aria-label="Book"'),
    (r'<summary>(?=<span class="toctree-toggle")', '<summary aria-label="Pages of this part">'),
    # A formula that is wider than a phone scrolls; the keyboard must reach it too.
    (r'<span class="katex-display"(?! tabindex)', r'\g<0> tabindex="0"'),
    # A figure keeps a readable size on a phone and scrolls as well, without its caption.
    (r"(<figure [^>]*>\s*)(<img [^>]*>)", r'\1<div class="drawing" tabindex="0">\2</div>'),
    # Roles of the bibliography that no longer exist or want children that it has not.
    (r' role="(?:doc-biblioentry|list)"(?=>| class="citation-list")', ""),
    # A signature's parameters are a list; Sphinx writes descriptions without terms.
    (r"<dl>\s*((?:<dd><em class=\"sig-param.*?</dd>\s*)+)</dl>", r"<ul>\1</ul>"),
    (r"<dd>(<em class=\"sig-param.*?)</dd>", r"<li>\1</li>"),
]


def correct(page: str) -> str:
    """Apply all corrections; a corrected page stays as it is.

    >>> correct('<script src="a.js"></script><summary aria-label="Toggle hidden content">')
    '<script defer src="a.js"></script><summary>'
    """
    for pattern, replacement in CORRECTIONS:
        page = re.sub(pattern, replacement, page, flags=re.DOTALL)
    return page


def correct_pages(app: Sphinx, exception: Exception | None) -> None:
    """Rewrite what the builder wrote, unless it failed."""
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            path.write_text(correct(path.read_text("utf8")), "utf8")


def setup(app: Sphinx) -> None:
    """Wait for the end of the build."""
    app.connect("build-finished", correct_pages)
