"""Interactive drawings: a page loads the scripts it asks for, and they compute what the library computes."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.testing.util import SphinxTestApp

from coursekit.book import STATIC, interactive, mathematics

CHAPTERS = Path(__file__).parents[1] / "chapters"
BOX = "```{interactive} cliff\n:label: Descend\n\nMove *it*.\n```\n"


def evaluate(script: str, expression: str) -> object:
    """The value in Node of an expression in which `it` is what a script exports."""
    path = json.dumps(str(interactive.SCRIPTS / f"{script}.js"))
    code = f"const it = require({path}); console.log(JSON.stringify({expression}))"
    command = [mathematics.find_node(), "-e", code]
    alone = {**os.environ, "NODE_OPTIONS": ""}  # without what the book's own renderer is told
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    return json.loads(ran.stdout)


def call(script: str, function: str, *arguments: object) -> object:
    """What a pure function of a script returns."""
    return evaluate(script, f"it.{function}({', '.join(map(json.dumps, arguments))})")


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


ASKING = "```{{interactive}} cliff\n:label: a\n:data: {}\n```\n"


def test_a_box_holds_the_data_that_its_page_names(build, tmp_path):
    data = {"text": 'a "</script>" b', "weights": [1.5, -2]}
    (tmp_path / "net.json").write_text(json.dumps(data, indent=1))
    page = build(index=ASKING.format("../net.json"))["index"]
    box = page[page.index('class="interactive"') :]
    (held,) = re.findall('<script type="application/json">(.*?)</script>', box)
    assert json.loads(held) == data


@pytest.mark.parametrize("content", [None, "{"])
def test_data_that_cannot_be_read_stop_the_build(build, tmp_path, content):
    if content:
        (tmp_path / "net.json").write_text(content)
    with pytest.raises(Exception, match="no JSON in .*net.json"):
        build(index=ASKING.format("../net.json"))


@pytest.mark.parametrize("script", sorted(interactive.SCRIPTS.glob("*.js")), ids=lambda path: path.stem)
def test_a_script_runs_from_a_file_and_loads_nothing(script):
    text = script.read_text("utf8")
    assert '"use strict";' in text
    for loading in ("import ", "export ", "fetch(", "://"):
        assert loading not in text.replace("http://www.w3.org/2000/svg", "")


def test_every_script_has_a_page():
    text = "".join(page.read_text("utf8") for page in CHAPTERS.glob("*/*.md"))
    asked = set(re.findall(r"^```\{interactive\} ([\w-]+)$", text, re.MULTILINE))
    assert asked | {interactive.SHARED} == {path.stem for path in interactive.SCRIPTS.glob("*.js")}


# The cliff: the page's own cells are the reference


def definitions(page: str, pattern: str) -> dict[str, object]:
    """What those cells of a page define in which a line begins with the pattern."""
    names: dict[str, object] = {}
    for cell in read_myst_markdown_notebook((CHAPTERS / page).read_text("utf8")).cells:
        if cell.cell_type == "code" and re.search(f"^{pattern}", cell.source, re.MULTILINE):
            exec(re.sub("^(%|sys.path).*", "", cell.source, flags=re.MULTILINE), names)
    return names


@cache
def cliff_page() -> dict[str, object]:
    return definitions("gradients/cliff.md", r"(import math|def (last_state|descend)\()")


def close(got: object, expected: object) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


POINTS = [(1.3, 0.2), (0.7, -0.4), (1.2, 0.001), (2.0, -0.3), (-1.5, 0.1)]


@pytest.mark.parametrize("w, b", POINTS)
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_the_cliff_has_the_loss_and_the_gradient_of_the_library(w, b, steps):
    loss, dw, db = cliff_page()["loss_and_gradient"](w, b, T=steps)
    net = {"steps": steps, "h0": 0, "target": cliff_page()["target"]}
    close(call("cliff", "loss", w, b, net), loss[0])
    close(call("cliff", "gradient", w, b, net), [dw[0], db[0]])


STARTS = [(1.6, 0.3, math.inf), (1.6, 0.3, 0.5), (1.2, -0.2, 0.1), (1.0, 0.6, 1)]


@pytest.mark.parametrize("w, b, limit", STARTS)
def test_the_cliff_descends_as_the_page_does(w, b, limit):
    settings = {"rate": cliff_page()["rate"], "limit": limit, "count": 120}
    path = call("cliff", "descend", w, b, settings)
    expected = cliff_page()["descend"](w, b, limit)
    for name in ("w", "b", "loss", "norm"):
        close([point[name] for point in path], getattr(expected, name))


def test_the_cliff_starts_with_the_settings_of_the_page():
    page, settings = cliff_page(), evaluate("cliff", "{net: it.net, descent: it.descent}")
    assert settings["net"] == {"steps": page["T"], "h0": 0, "target": page["target"]}
    expected = {"w": 1.6, "b": 0.3, "rate": page["rate"], "limit": page["limit"], "count": 120}
    assert settings["descent"] == expected


@pytest.mark.parametrize("number, words", [(0, "0"), (517.6, "518"), (1.2e-7, "1.2e-7"), (0.1600001, "0.16")])
def test_the_cliff_reports_three_digits(number, words):
    assert call("cliff", "short", number) == words


def test_the_cliff_reports_the_longest_step():
    path = [{"w": 1, "b": 0, "loss": 1, "norm": norm} for norm in (1, 8, 2)]
    said = call("cliff", "report", path, 0.5, 0.1)
    assert said.startswith("gradient at most 8, at step 1; longest step 0.05; loss 1 after 2 steps")


# The trained cell: the page's own cells again


@cache
def trained_page() -> dict[str, object]:
    pytest.importorskip("benchmarks.trained_cell", reason="benchmarks/ is at the repository's root")
    return definitions("gates/trained.md", r"(import json|def (excess|live|force)\()")


def record() -> dict[str, object]:
    return trained_page()["stored"]


def codes(text: str) -> np.ndarray:
    return np.array([[record()["alphabet"].index(character)] for character in text])


def run(which: int, text: str, forced: dict[str, float] | None = None) -> dict[str, np.ndarray]:
    """What the script makes of a text: for each name, one row for each step."""
    steps = call("trained", "run", record()["nets"][which], record()["alphabet"], text, forced or {})
    return {name: np.array([step[name] for step in steps]) for name in steps[0]}


@pytest.mark.parametrize("which", [0, 3, 4])
@pytest.mark.parametrize("text", ["a", 'a(b)"c)"', 0, 3])
def test_the_trained_cell_runs_as_the_library_does(which, text):
    text = record()["texts"][text] if isinstance(text, int) else text
    expected = trained_page()["live"](trained_page()["nets"][which], codes(text))
    for name, got in run(which, text).items():
        close(got, getattr(expected, name)[:, 0])


FORCED = [("i", 1, 0, 10), ("f", 0, 0, 3), ("f", 0.35, 4, 10), ("o", 0, 2, 0), ("i", 0.95, 5, 31)]


@pytest.mark.parametrize("gate, value, unit, start", FORCED)
def test_a_gate_of_the_trained_cell_is_forced_as_on_the_page(gate, value, unit, start):
    page, text = trained_page(), record()["texts"][0]
    changed = page["force"](page["nets"][4], gate, value, unit)
    expected = page["force_from"](page["nets"][4], changed, codes(text), start)
    got = run(4, text, {"unit": unit, "from": start, gate: value})
    for name in got:
        close(got[name], getattr(expected, name)[:, 0])
    assert set(got[gate][start:, unit]) == {value}


def test_two_gates_of_the_trained_cell_are_forced_together():
    page, text = trained_page(), record()["texts"][1]
    changed = page["force"](page["force"](page["nets"][2], "i", 1, 1), "f", 0.5, 1)
    expected = page["force_from"](page["nets"][2], changed, codes(text), 7)
    close(run(2, text, {"unit": 1, "from": 7, "i": 1, "f": 0.5})["p"], expected.p[:, 0])


def test_the_trained_cell_knows_the_language():
    for text in (*record()["texts"], '))"(("('):
        assert call("trained", "walk", record(), text) == trained_page()["trained_cell"].walk(text)


def test_a_text_for_the_trained_cell_is_tidied():
    alphabet = record()["alphabet"]
    assert call("trained", "tidy", alphabet, 'a[x] ("é"B b)') == 'a(""b)'
    assert len(call("trained", "tidy", alphabet, "ab" * 40)) == evaluate("trained", "it.longest") == 32


def test_the_trained_cell_reports_a_step_in_words():
    chances = [0.25, 0.25, 0.2, 0.152, 0.0004, 0.1476]
    step = {name: [0, 0.123] for name in "ifoch"} | {"g": [0, -1], "p": chances}
    said = call("trained", "report", step, 1).replace("\u00a0", " ")
    assert said.startswith("i 0.12, f 0.12, o 0.12, g -1.00, c 0.12, h 0.12. Next: ( 15 %, ) 0.0 %, ")
    assert said.endswith('" 15 %, a letter 70 %.')
