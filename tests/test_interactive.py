"""Interactive drawings: a page loads the scripts it asks for, and they compute what the library computes."""

from __future__ import annotations

import json
import math
import os
import subprocess

import pytest
from sphinx.testing.util import SphinxTestApp

from coursekit.book import STATIC, interactive, mathematics

BOX = "```{interactive} cliff\n:label: Descend\n\nMove *it*.\n```\n"


def call(script: str, function: str, *arguments: object) -> object:
    """What a pure function of a script returns for these arguments, in Node."""
    given = ", ".join("Infinity" if argument == math.inf else json.dumps(argument) for argument in arguments)
    path = json.dumps(str(interactive.SCRIPTS / f"{script}.js"))
    code = f"console.log(JSON.stringify(require({path}).{function}({given})))"
    alone = {**os.environ, "NODE_OPTIONS": ""}  # without what the book's own renderer is told
    command = [mathematics.find_node(), "-e", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    return json.loads(ran.stdout)


# The directive


@pytest.fixture
def build(tmp_path):
    """Build pages, given by name, with the directive alone; return their HTML."""

    def build(**pages: str) -> dict[str, str]:
        source = tmp_path / "source"
        source.mkdir()
        settings = ["myst_parser", "coursekit.book.interactive"]
        paths = f"html_static_path = [{str(STATIC)!r}]\nexclude_patterns = ['_build']\n"
        (source / "conf.py").write_text(f"extensions = {settings}\n{paths}")
        for name, text in pages.items():
            (source / f"{name}.md").write_text(f"---\norphan: true\n---\n# A page\n\n{text}")
        app = SphinxTestApp("html", srcdir=source, warningiserror=True)
        try:
            app.build()
        finally:
            app.cleanup()
        return {name: (app.outdir / f"{name}.html").read_text("utf8") for name in pages}

    return build


def test_a_script_is_loaded_by_the_page_that_asks_for_it_and_by_no_other(build):
    pages = build(index="Words.", asking=BOX, other="Words.")
    assert ["interactive/" in page for page in pages.values()] == [False, True, False]
    asking = pages["asking"]
    assert asking.index("_static/interactive/controls.js") < asking.index("_static/interactive/cliff.js")


def test_a_box_is_hidden_until_its_script_runs_and_has_a_name(build):
    page = build(index=BOX)["index"]
    start = page.index("<div", page.index("<h1>"))
    opening = page[start : page.index(">", start)]
    for part in ('class="interactive"', 'data-interactive="cliff"', "hidden", 'aria-label="Descend"'):
        assert part in opening
    assert "Move <em>it</em>." in page


@pytest.mark.parametrize(
    "text, message",
    [
        ("```{interactive} clif\n:label: a\n```\n", "no script 'clif'; there are cliff"),
        ("```{interactive} cliff\n```\n", "needs a :label:"),
    ],
)
def test_a_box_that_cannot_work_stops_the_build(build, text, message):
    with pytest.raises(Exception, match=message):
        build(index=text)


@pytest.mark.parametrize("script", sorted(interactive.SCRIPTS.glob("*.js")), ids=lambda path: path.stem)
def test_a_script_runs_from_a_file_and_loads_nothing(script):
    text = script.read_text("utf8")
    assert '"use strict";' in text
    for loading in ("import ", "export ", "fetch(", "://"):
        assert loading not in text.replace("http://www.w3.org/2000/svg", "")
