"""Drawings that a reader can change: a box that a page asks for, filled by a script of that page alone.

A page writes ``{interactive} <name>``; ``static/interactive/<name>.js`` is a classic script, since
a browser loads no modules from a file.  For the same reason the file of ``:data:`` is written into the box.
The box is hidden until its script shows it, so that a reader without scripts sees the figure before it and no
promise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

SCRIPTS = Path(__file__).parent / "static" / "interactive"
SHARED = "controls"
"""Script with what all of them use; loaded before the page's own."""


class box(nodes.General, nodes.Element):
    """The place of one drawing: its script's name, its label for a screen reader, its data and words."""


class Interactive(SphinxDirective):
    """The directive: name of a script, a label, and what the reader can do with the drawing."""

    required_arguments = 1
    has_content = True
    option_spec = {"label": directives.unchanged_required, "data": directives.path}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        known = sorted(path.stem for path in SCRIPTS.glob("*.js") if path.stem != SHARED)
        if name not in known:
            raise self.error(f"interactive: there is no script {name!r}; there are {', '.join(known)}")
        if "label" not in self.options:
            raise self.error(f"interactive: {name} needs a :label: that names the drawing to a screen reader")
        place = box(script=name, label=self.options["label"], data=self.read_data())
        self.set_source_info(place)
        self.state.nested_parse(self.content, self.content_offset, place)
        return [place]

    def read_data(self) -> str:
        """The JSON of the file that the page names, relative to itself; without one, nothing."""
        if "data" not in self.options:
            return ""
        relative, path = self.env.relfn2path(self.options["data"])
        try:
            known = json.loads(Path(path).read_text("utf8"))
        except (OSError, json.JSONDecodeError) as problem:
            raise self.error(f"interactive: no JSON in {relative}: {problem}") from problem
        self.env.note_dependency(relative)
        return json.dumps(known, ensure_ascii=False, separators=(",", ":")).replace("</", r"<\/")


def open_box(translator: HTML5Translator, node: box) -> None:
    attributes = {"data-interactive": node["script"], "role": "group", "aria-label": node["label"]}
    translator.body.append(translator.starttag(node, "div", "", hidden="", CLASS="interactive", **attributes))
    if node["data"]:
        translator.body.append(f'<script type="application/json">{node["data"]}</script>\n')


def close_box(translator: HTML5Translator, node: box) -> None:
    translator.body.append("</div>\n")


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give a page the scripts of its own boxes, once it is about to be written."""
    names = dict.fromkeys(place["script"] for place in doctree.findall(box)) if doctree else {}
    for name in [SHARED, *names] if names else []:
        app.add_js_file(f"interactive/{name}.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    """Enter the directive; only HTML shows a box."""
    app.add_node(box, html=(open_box, close_box))
    app.add_directive("interactive", Interactive)
    app.connect("html-page-context", load_scripts)
