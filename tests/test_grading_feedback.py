"""The feedback page: what it tells, that nothing of a student's runs in it, that hidden tests stay hidden."""

from __future__ import annotations

import base64
import shutil
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from PIL import Image
from sqlalchemy.exc import SAWarning
from traitlets import TraitError
from traitlets.config import Config

from coursekit.checks.engine.report import MIME as SCORE_MIME
from coursekit.grading import demo
from coursekit.grading.gradebook.ledger import Ledger
from coursekit.grading.records import Finding
from coursekit.grading.reports import hidden
from coursekit.grading.reports.feedback import (
    FeedbackExporter,
    Page,
    configure_feedback,
    read_grades,
    readable,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STUDENT = "ada"


@pytest.fixture(scope="module")
def gradebook(tmp_path_factory) -> str:
    """A gradebook in which ada handed in `conv` with three graded cells."""
    url = f"sqlite:///{tmp_path_factory.mktemp('gradebook') / 'gradebook.db'}"
    with Ledger(url) as ledger:
        book = ledger.gradebook
        book.add_assignment("conv")
        book.add_notebook("conv", "conv")
        for name, points in {"test-forward": 4, "why": 3, "test-hidden": 5, "lost": 2}.items():
            book.add_grade_cell(
                name, "conv", "conv", max_score=points, cell_type="markdown" if name == "why" else "code"
            )
        for name in ("forward", "why"):
            book.add_solution_cell(name, "conv", "conv")
        for student in (STUDENT, "<script>document.title='ran'</script>"):
            book.add_student(student)
            with warnings.catch_warnings():  # nbgrader's own session handling
                warnings.simplefilter("ignore", SAWarning)
                book.add_submission("conv", student)
            _give_points(book, student)
    return url


def _give_points(book, student: str) -> None:
    (notebook,) = book.find_submission("conv", student).notebooks
    notebook.late_submission_penalty = 0.5
    given = {"test-forward": 2.5, "why": None, "test-hidden": 0, "lost": 0}
    for grade in notebook.grades:
        grade.auto_score = given[grade.cell.name]
        grade.needs_manual_grade = grade.auto_score is None
    for comment in notebook.comments:
        if comment.cell.name == "forward":
            comment.auto_comment = "No response."
            comment.manual_comment = "Look at **line 3** <img src=x onerror=\"document.title='ran'\">"
    book.db.commit()


@pytest.fixture
def page(gradebook) -> Callable[..., str]:
    """Makes the page of a notebook with these cells."""

    def make(*cells, student: str = STUDENT, config: Config | None = None, **metadata) -> str:
        parts = {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        notebook = nbformat.from_dict(parts)
        names = {"student": student, "assignment": "conv", "notebook": "conv", "db_url": gradebook}
        html, _ = FeedbackExporter(config=config).from_notebook_node(notebook, {"nbgrader": names})
        return html

    return make


def code_cell(source: str, outputs: Sequence = (), **metadata) -> nbformat.NotebookNode:
    """A code cell that is not validated, as a forged file is not."""
    cell = new_code_cell(source, **metadata)
    cell.outputs = list(outputs)
    return cell


def graded(source: str, name: str, *outputs, **marks) -> nbformat.NotebookNode:
    """A test cell as it stands in an autograded notebook."""
    role = {"grade": True, "locked": True, "solution": False, "task": False, "schema_version": 3} | marks
    return code_cell(source, outputs=list(outputs), metadata={"nbgrader": {"grade_id": name, **role}})


def text_of(html: str) -> str:
    return " ".join(BeautifulSoup(html, "html.parser").body.get_text(" ").split())


def png(width: int = 3, height: int = 2, kind: str = "PNG") -> str:
    buffer = BytesIO()
    Image.new("L", (width, height)).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def shows(**data) -> nbformat.NotebookNode:
    """A display output, by MIME type or its short name."""
    kinds = {"html": "text/html", "svg": "image/svg+xml", "png": "image/png"}
    forms = {kinds.get(key, key): value for key, value in data.items()}
    return nbformat.from_dict({"output_type": "display_data", "data": forms, "metadata": {}})


def printed(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.from_dict({"output_type": "stream", "name": name, "text": text})


# ---------------------------------------------------------------------------------------------------
# What the page tells


def test_the_head_names_student_assignment_and_points_less_the_penalty(page):
    text = text_of(page())
    assert "Feedback on conv ada 2 of 14 points" in text
    assert "0.5 points taken off for lateness" in text
    assert "up to 3 points still wait for a person" in text


def test_the_table_names_questions_by_their_heading_and_links_to_the_cell(page):
    html = page(new_markdown_cell("## Task 1: `forward`"), graded("check()", "test-forward"))
    row = BeautifulSoup(html, "html.parser").select_one(".grades tbody tr")
    assert " ".join(row.get_text(" ").split()) == "Task 1: forward forward 2.5 / 4"
    assert BeautifulSoup(html, "html.parser").find(id=row.a["href"].removeprefix("#"))


def test_a_graded_cell_that_the_notebook_lacks_keeps_its_line_in_the_table(page):
    rows = BeautifulSoup(page(), "html.parser").select(".grades tbody tr")
    assert [row.get("class") for row in rows] == [["some"], ["waiting"], ["none"], ["none"]]
    assert all("not shown below" in row.get_text() for row in rows)


def test_points_come_from_the_gradebook_and_not_from_the_notebook(page):
    cell = graded("check()", "test-forward", points=1000, score=1000)
    assert "2.5 of 4" in text_of(page(cell))
    assert "1000" not in text_of(page(cell))


def test_a_copy_of_a_graded_cell_carries_no_points(page):
    html = page(graded("check()", "test-forward"), graded("check()", "test-forward"))
    assert len(BeautifulSoup(html, "html.parser").select(".graded")) == 1


def test_comments_of_person_and_grader_stand_below_their_cell(page):
    html = page(graded("def f(): ...", "forward", grade=False, solution=True))
    comments = [comment.get_text(" ") for comment in BeautifulSoup(html, "html.parser").select(".comment")]
    assert len(comments) == 2
    assert "Look at line 3" in " ".join(comments[0].split())
    assert "No response." in comments[1]


def report(*lines: str) -> list[nbformat.NotebookNode]:
    """What a check leaves below its cell."""
    record = {"check": "conv.forward", "points": 2.5}
    return [
        printed("\n".join(["conv.forward: 2.5 of 4 points", *lines, ""])),
        new_output("execute_result", data={"text/plain": "2.5", SCORE_MIME: record}),
    ]


def test_a_checks_report_is_shown_with_wrapped_lines_joined(page):
    lines = report("  wrong: stride 2: y is far", "    off in every entry", "  > The stride is lost.")
    items = BeautifulSoup(page(graded("c()", "test-forward", *lines)), "html.parser").select(".report li")
    assert [(item["class"], item.get_text()) for item in items] == [
        (["plain"], "conv.forward: 2.5 of 4 points"),
        (["wrong"], "wrong: stride 2: y is far off in every entry"),
        (["hint"], "The stride is lost."),
    ]


READ = "    Read convolution/gradients.html#equation-eq-conv-backward"


def test_a_report_links_to_the_book_where_it_is_published(page):
    config = Config({"FeedbackExporter": {"book_url": "https://course.example/book/"}})
    (link,) = BeautifulSoup(
        page(graded("c()", "test-forward", *report("  > Lost.", READ)), config=config), "html.parser"
    ).select(".report a")
    assert link["href"] == "https://course.example/book/convolution/gradients.html#equation-eq-conv-backward"


def test_a_report_names_the_page_of_the_book_where_it_is_not_published(page):
    html = page(graded("c()", "test-forward", *report("  > Lost.", READ)))
    assert READ.strip() in text_of(html)
    assert not BeautifulSoup(html, "html.parser").select(".report a")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "//evil", 'https://a"b', "book/"])
def test_a_book_url_that_is_no_web_address_is_refused(address):
    with pytest.raises(TraitError, match="is no web address"):
        FeedbackExporter(config=Config({"FeedbackExporter": {"book_url": address}}))


def test_figures_tables_and_formulas_are_shown(page):
    table = "<style scoped>td {color: red}</style><table><tr><td>3.5</td></tr></table>"
    html = page(
        new_markdown_cell("Let $a < b$."),
        code_cell("plot()", outputs=[shows(png=png()), shows(html=table, **{"text/plain": "3.5"})]),
    )
    soup = BeautifulSoup(html, "html.parser")
    assert soup.select_one("code.math").get_text() == "a < b"
    assert soup.select_one(".cell img")["src"].startswith("data:image/png;base64,")
    assert soup.select_one(".rich td").get_text() == "3.5"
    assert "color: red" not in html


def test_a_progress_bar_shows_its_last_state_only(page):
    bar = printed("\r 10%\r\x1b[32m 99%\x1b[0m\n", "stderr")
    assert "99%" in text_of(page(code_cell("", outputs=[bar])))
    assert "10%" not in page(code_cell("", outputs=[bar]))


def test_a_hand_in_that_the_gradebook_does_not_know_still_gets_a_page(page):
    assert "the gradebook holds no points for this hand-in yet" in text_of(page(student="nobody"))


@pytest.mark.parametrize(
    ("grade_id", "name"), [("test-conv2d-forward", "conv2d forward"), ("test", "test"), ("a_b", "a b")]
)
def test_grade_ids_are_written_as_a_person_reads_them(grade_id, name):
    assert readable(grade_id) == name


# ---------------------------------------------------------------------------------------------------
# Nothing of a student's runs


RUN = "document.title='ran'"
HOST = "http://127.0.0.1:9"  # the browser's test puts a listening port in its place


def error(name: str = "E", value: str = "", *traceback: str) -> nbformat.NotebookNode:
    return new_output("error", ename=name, evalue=value, traceback=list(traceback))


def output(**data) -> nbformat.NotebookNode:
    return code_cell("x", outputs=[shows(**data)])


def attached(kind: str, data: str) -> nbformat.NotebookNode:
    return new_markdown_cell("![a](attachment:a.png)", attachments={"a.png": {kind: data}})


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SVG = f"<svg xmlns='http://www.w3.org/2000/svg'><script>{RUN}</script><image href='{HOST}/svg'/></svg>"
MARKDOWN = {
    "script": f"<script>{RUN}</script>",
    "script in capitals, unclosed": f"<ScRiPt>{RUN}//",
    "script from elsewhere": f"<script src={HOST}/a.js></script>",
    "event handler": f'<img src=x onerror="{RUN}">',
    "event handler behind a slash": f'<svg/onload="{RUN}">',
    "event handler of details": f'<details open ontoggle="{RUN}">a</details>',
    "autofocus": f'<input autofocus onfocus="{RUN}">',
    "javascript link": f'<a href="javascript:{RUN}">a</a>',
    "javascript link in Markdown": f"[a](javascript:{RUN})",
    "javascript link with entities": f'<a href="&#106;avascript&colon;{RUN}">a</a>',
    "javascript link with a tab": f'<a href="java\tscript:{RUN}">a</a>',
    "javascript autolink": f"<javascript:{RUN}>",
    "data link": f"[a](data:text/html;base64,{b64(f'<script>{RUN}</script>')})",
    "vbscript link": "<a href='vbscript:x'>a</a>",
    "link of a reference": f"[a][b]\n\n[b]: javascript:{RUN}",
    "frame": f"<iframe src='javascript:{RUN}' srcdoc='<script>{RUN}</script>'></iframe>",
    "object and embed": f"<object data='{HOST}/o'></object><embed src='{HOST}/e'>",
    "style": f"<style>@import '{HOST}/s.css'; body {{background: url({HOST}/b)}}</style>",
    "style attribute": f'<p style="background: url({HOST}/p); position: fixed">a</p>',
    "stylesheet": f"<link rel=stylesheet href='{HOST}/l.css'>",
    "refresh": f"<meta http-equiv=refresh content='0;url={HOST}/m'>",
    "base": f"<base href='{HOST}/'>",
    "form": f"<form action='{HOST}/f'><button formaction='javascript:{RUN}'>a</button></form>",
    "remote image": f"<img src='{HOST}/i.png' srcset='{HOST}/j.png 2x'>",
    "remote image in Markdown": f"![a]({HOST}/k.png)",
    "image without scheme": "![a](//127.0.0.1:9/k.png)",
    "media": f"<video src='{HOST}/v' poster='{HOST}/w'></video><audio src='{HOST}/u' autoplay></audio>",
    "background": f"<table background='{HOST}/t'><tr><td background='{HOST}/d'>a</td></tr></table>",
    "MathML": f"<math><maction xlink:href='javascript:{RUN}'>a</maction></math>",
    "mutation by MathML": (
        f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror={RUN}&gt;">'
    ),
    "mutation by noscript": f'<noscript><p title="</noscript><img src=x onerror={RUN}>">',
    "mutation by template": f"<template><script>{RUN}</script></template>",
    "comment": f"<!--><img src=x onerror={RUN}>-->",
    "CDATA": f"<![CDATA[><script>{RUN}</script>]]>",
    "alternative text": f'![" onerror="{RUN}" x="](x)',
    "title of a link": f'[a](https://a.example "\\" onclick=\\"{RUN}")',
    "language of code": f'```"><script>{RUN}</script>\ncode\n```',
    "mermaid": f"```mermaid\n<script>{RUN}</script>\n```",
    "formula": f"$<img src=x onerror={RUN}>$ and $$</pre><script>{RUN}</script>$$",
    "formula environment": f"\\begin{{x}}<script>{RUN}</script>\\end{{x}}",
    "heading": f"# <img src=x onerror={RUN}>",
    "table": f"| a |\n|---|\n| <script>{RUN}</script> |",
    "names for scripts": "<a id=top name=body>a</a>",
}
ATTACKS = {
    **{f"Markdown: {name}": new_markdown_cell(text) for name, text in MARKDOWN.items()},
    **{f"HTML output: {name}": output(html=text) for name, text in MARKDOWN.items()},
    "JavaScript output": output(**{"application/javascript": RUN}),
    "SVG output": output(svg=SVG),
    "SVG in capitals": output(svg=f'<SVG onload="{RUN}"></SVG>'),
    "PNG that is SVG": output(png=b64(SVG)),
    "PNG that is HTML": output(png=b64(f"<script>{RUN}</script>")),
    "PNG that ends its attribute": output(png=f'" onerror="{RUN}'),
    "PNG that is no text": output(png={"a": f"<script>{RUN}</script>"}),
    "widget": output(**{"application/vnd.jupyter.widget-view+json": {"model_id": f"<script>{RUN}</script>"}}),
    "vendor's output": output(**{"application/vnd.bokehjs_exec.v0+json": f"<script>{RUN}</script>"}),
    "PDF output": output(**{"application/pdf": b64("%PDF-1.4")}),
    "Markdown output": output(**{"text/markdown": f"<script>{RUN}</script> ![a]({HOST}/o.png)"}),
    "LaTeX output": output(**{"text/latex": f"$\\href{{javascript:{RUN}}}{{<script>{RUN}</script>}}$"}),
    "diagram output": output(**{"text/vnd.mermaid": f"<script>{RUN}</script>"}),
    "plain output": output(**{"text/plain": f"</pre><script>{RUN}</script>"}),
    "printed": code_cell("", outputs=[printed(f"</pre><script>{RUN}</script>")]),
    "link of a terminal": code_cell(
        "", outputs=[printed(f"\x1b]8;;javascript:{RUN}\x1b\\a\x1b]8;;\x1b\\ \x1b[31m<b>")]
    ),
    "error's type": code_cell("", outputs=[error(f"<script>{RUN}</script>")]),
    "error's message": code_cell("", outputs=[error("E", f"<img src=x onerror={RUN}>")]),
    "traceback": code_cell("", outputs=[error("E", "", f"\x1b[31m</pre><script>{RUN}</script>")]),
    "code": code_cell(f"</code></pre><script>{RUN}</script>"),
    "raw cell": new_raw_cell(f"<script>{RUN}</script>", metadata={"raw_mimetype": "text/html"}),
    "attached SVG": attached("image/svg+xml", b64(SVG)),
    "attached HTML": attached("text/html", b64(f"<script>{RUN}</script>")),
    "attached PNG that ends its attribute": attached("image/png", f'" onerror="{RUN}'),
    "attachment that is missing": new_markdown_cell("![a](attachment:none.png)"),
    "grade id": graded("x", f'"><script>{RUN}</script>'),
    "metadata of a cell": code_cell("x", metadata={"name": f"<script>{RUN}</script>", "tags": [SVG]}),
    "forged report": graded("c()", "test-forward", *report(f"  > <script>{RUN}</script>", f"    Read {RUN}")),
}


def assert_inert(html: str) -> None:
    """No script, no handler, nothing loaded: as the parser sees the page."""
    soup = BeautifulSoup(html, "html.parser")
    active = "script iframe frame object embed svg math link base form input button video audio template"
    assert not soup.find_all(active.split())
    assert len(soup.find_all("style")) == len(soup.find_all("title")) == 1
    assert len(soup.head.find_all("meta")) == len(soup.find_all("meta")) == 5
    for tag in soup.find_all(True):
        for name, value in tag.attrs.items():
            assert not name.startswith("on")
            assert name not in ("srcset", "poster", "background", "action", "formaction", "ping", "target")
            assert name != "style" or tag.parent["class"] == ["bar"]
            assert name != "src" or value.startswith(("data:image/png;", "data:image/svg+xml;"))
            assert name != "href" or value.startswith(("#", "http://", "https://", "mailto:"))
            assert name not in ("id", "name") or tag.name == "meta" or value.startswith(("cell-", "top"))


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_of_a_hand_in_is_active(page, name):
    assert_inert(page(ATTACKS[name]))


@pytest.mark.parametrize(
    "metadata",
    [
        {"title": f"<script>{RUN}</script>"},
        {"language_info": {"name": f'"><script>{RUN}</script>', "pygments_lexer": "../../x"}},
        {"language_info": "python", "kernelspec": [1], "language": 5},
        {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": f"<script>{RUN}</script>"}}},
        {"authors": [SVG], "nbgrader": SVG},
    ],
    ids=["title", "language", "wrong types", "widgets", "others"],
)
def test_metadata_of_the_notebook_is_not_trusted(page, metadata):
    html = page(code_cell("x = 1"), **metadata)
    assert_inert(html)
    assert RUN not in html


def test_a_students_name_is_text(page):
    html = page(student="<script>document.title='ran'</script>")
    assert_inert(html)
    assert "<script>document.title" in text_of(html)


def test_a_comment_is_text(page):
    assert_inert(page(graded("def f(): ...", "forward", grade=False, solution=True)))


def test_the_pages_own_classes_cannot_be_put_on(page):
    html = page(new_markdown_cell("<span class='points'>4 of 4</span> <div class='graded full'>a</div>"))
    assert not BeautifulSoup(html, "html.parser").select("main .points, main .graded")


def test_the_policy_forbids_everything_but_inline_style_and_images(page):
    policy = BeautifulSoup(page(), "html.parser").find("meta", {"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_one_odd_cell_does_not_cost_the_page(page):
    odd = code_cell("x", outputs=[shows(png=png())])
    odd.outputs[0].data["text/plain"] = {"image/png": 3}
    broken = code_cell("y")
    broken.outputs = [{"output_type": "stream"}, 7, {"output_type": "error", "traceback": 3}]
    html = page(odd, broken, new_markdown_cell("the last cell"))
    assert "This cell cannot be shown (TypeError)." in text_of(html)
    assert "the last cell" in text_of(html)


def test_a_lone_surrogate_can_be_written(page):
    html = page(code_cell("'\ud800'"))
    assert html.encode("utf-8")


def test_characters_that_turn_the_reading_direction_are_made_visible(page):
    assert "\u202e" not in page(code_cell("access = 'user\u202e'"), new_markdown_cell("a\u202eb"))


MEGABYTES_50 = 50_000_000


FLOODS = {
    "stream": lambda: code_cell("", outputs=[printed("spam\n" * (MEGABYTES_50 // 5))]),
    "outputs": lambda: code_cell("", outputs=[printed("a\n", f"{i}") for i in range(50_000)]),
    "html": lambda: output(html="<b>" * (MEGABYTES_50 // 3)),
    "png": lambda: output(png=b64("\x89PNG") + "A" * MEGABYTES_50),
    "svg": lambda: output(svg="<svg>" + "<g/>" * (MEGABYTES_50 // 4)),
    "plain": lambda: output(**{"text/plain": "x" * MEGABYTES_50}),
    "code": lambda: code_cell("x=1;" * (MEGABYTES_50 // 4)),
    "text": lambda: new_markdown_cell("*a* " * (MEGABYTES_50 // 4)),
    "error": lambda: code_cell("", outputs=[error("E", "v" * MEGABYTES_50, "t" * MEGABYTES_50)]),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_makes_a_small_page(page, kind):
    assert len(page(FLOODS[kind]())) < 2_000_000


def test_a_long_output_says_how_much_is_left_out(page):
    html = page(code_cell("", outputs=[printed("a" * 30_000)]))
    assert "10,000 characters left out" in html


def test_many_long_cells_end_the_page_with_a_word(page):
    answer = graded("def f(): ...", "forward", grade=False, solution=True)
    html = page(
        *[new_markdown_cell("word " * 4000) for _ in range(100)], answer, graded("c()", "test-forward")
    )
    text = text_of(html)
    assert "the rest of the notebook is too long to show" in text
    assert "2.5 of 4" in text
    assert "Look at line 3" in text
    assert len(html) < 3_000_000


def test_an_image_of_huge_dimensions_is_not_shown(page):
    html = page(output(png=png(20_000, 20_000)))
    assert "An image cannot be shown." in text_of(html)


# ---------------------------------------------------------------------------------------------------
# Hidden tests


HIDDEN = """assert double(1) == 2, "double(1) is 2"
### BEGIN HIDDEN TESTS
secret = [2718, 3141]
assert double(secret[0]) == 5436, "Large numbers are doubled too."
assert double(secret[1]) == 6282, f"double({secret[1]}) must be even"
### END HIDDEN TESTS"""


def quoted(number: int) -> str:
    """What IPython prints of a cell around the line that failed."""
    lines = HIDDEN.split("\n")
    around = [f"{'---->' if i == number else '     '} {i} {line}" for i, line in enumerate(lines, 1)]
    return f"Cell In[3], line {number}\n" + "\n".join(around)


def raised(number: int, message: str = "", name: str = "AssertionError") -> nbformat.NotebookNode:
    return error(name, message, "-" * 75, quoted(number), f"{name}: {message}")


def hidden_cell(*outputs) -> nbformat.NotebookNode:
    return graded(HIDDEN, "test-hidden", *outputs)


REGIONS = [("BEGIN HIDDEN TESTS", "END HIDDEN TESTS")]
SECRETS = ("2718", "3141", "5436", "6282", "secret", "HIDDEN TESTS")


def assert_nothing_leaks(html: str) -> None:
    for word in SECRETS:
        assert word not in html


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (
            [raised(4, "Large numbers are doubled too.")],
            "failed (AssertionError) Large numbers are doubled too.",
        ),
        ([raised(5, "double(3141) must be even")], "failed (AssertionError) double(…) must be even"),
        ([raised(4)], "failed (AssertionError)"),
        ([raised(4, "unsupported for 2718", "TypeError")], "failed (TypeError)"),
        ([raised(4, "2718", "Error_2718")], "failed (an error)"),
        ([raised(1, "double(1) is 2")], "not reached AssertionError: double(1) is 2"),
        ([error("AssertionError", "", "no traceback at all")], "failed (AssertionError)"),
        (
            [error("ValueError", "secret = [2718, 3141]", quoted(1).replace("> 1", "> 9"))],
            "failed (ValueError)",
        ),
        ([], "plus hidden tests (3 lines): failed"),
    ],
    ids=["hint", "values", "bare", "type", "class", "visible", "no traceback", "forged", "nothing"],
)
def test_hidden_tests_are_named_with_result_and_hint_and_not_shown(page, outputs, says):
    html = page(hidden_cell(*outputs))
    assert_nothing_leaks(html)
    assert "plus hidden tests (3 lines): " in text_of(html)
    assert says in text_of(html)


def test_a_doubt_about_hidden_points_does_not_quote_the_value(gradebook):
    doubts = [Finding("score", "the result is 2718", True, name, "score") for name in ("test-hidden", "why")]
    grades = replace(read_grades(gradebook, STUDENT, "conv", "conv"), findings=tuple(doubts))
    essay = graded("", "why")
    made = Page(nbformat.from_dict({"cells": [hidden_cell(), essay], "metadata": {}}), grades, REGIONS)
    assert [[note.message for note in cell.notes] for cell in made.cells] == [[], ["the result is 2718"]]
    assert [row.doubted for row in made.rows[:2]] == [True, True]


def test_the_released_part_of_a_test_is_shown(page):
    assert "double(1) is 2" in text_of(page(hidden_cell()))


def test_a_visible_failure_shows_its_line_and_not_its_neighbours(page):
    html = page(hidden_cell(raised(1, "double(1) is 2")))
    (where,) = BeautifulSoup(html, "html.parser").select(".error pre")
    assert where.get_text() == HIDDEN.split("\n")[0]


@pytest.mark.parametrize(
    "leak",
    [
        printed("called with 2718\n"),
        printed("called with 3141\n", "stderr"),
        new_output("execute_result", data={"text/plain": "[2718]"}),
        shows(html="<b>2718</b>"),
    ],
    ids=["stdout", "stderr", "result", "display"],
)
def test_what_a_function_prints_of_hidden_values_is_not_shown(page, leak):
    assert_nothing_leaks(page(hidden_cell(leak)))


@pytest.mark.parametrize(
    "leak",
    [
        printed(f"In[3] is {HIDDEN!r}"),
        printed(HIDDEN.replace(" ", "   ")),
        shows(html=f"<pre>{HIDDEN}</pre>", **{"text/plain": HIDDEN}),
        shows(**{"text/markdown": f"```\n{HIDDEN}\n```"}),
        shows(svg=f"<svg><text>{HIDDEN}</text></svg>"),
        error("ValueError", HIDDEN, quoted(4)),
        error("SyntaxError", "", HIDDEN),
    ],
    ids=["repr", "spaced", "html", "markdown", "svg", "message", "traceback"],
)
def test_another_cells_output_that_quotes_hidden_tests_is_withheld(page, leak):
    html = page(code_cell("print(In)", outputs=[leak]), hidden_cell())
    assert_nothing_leaks(html)
    assert base64.b64encode(b"secret = ").decode()[:8] not in html


def test_outputs_that_quote_nothing_are_still_shown_beside_hidden_tests(page):
    cell = code_cell("x", outputs=[printed("all is well\n")])
    assert "all is well" in text_of(page(cell, hidden_cell()))


def test_a_mark_scheme_is_not_shown(page):
    text = (
        "Compare.\n\n=== BEGIN MARK SCHEME ===\n\n- 2 points: the secret of 2718\n\n=== END MARK SCHEME ===\n"
    )
    html = page(new_markdown_cell(text, metadata={"nbgrader": {"grade_id": "why", "task": True}}))
    assert_nothing_leaks(html)
    assert "MARK SCHEME" not in html
    assert "Compare." in html


@pytest.mark.parametrize("kind", [new_markdown_cell, new_raw_cell, code_cell])
def test_a_region_is_hidden_in_any_kind_of_cell(page, kind):
    assert_nothing_leaks(page(kind(HIDDEN)))


def test_a_region_that_does_not_end_hides_the_rest(page):
    assert_nothing_leaks(page(graded(HIDDEN.replace("### END HIDDEN TESTS", ""), "test-hidden")))


def test_the_delimiters_are_nbgraders_own(page):
    config = Config({"ClearHiddenTests": {"begin_test_delimeter": "VVV", "end_test_delimeter": "WWW"}})
    html = page(graded("a = 1\n# VVV\nb = 2718\n# WWW\nc = 3", "test-hidden"), config=config)
    assert "2718" not in html
    assert "plus hidden tests (1 line)" in text_of(html)


@pytest.mark.parametrize(
    ("source", "message", "words"),
    [
        ('assert x, "The sum is off"', "The sum is off", "The sum is off"),
        ('assert x, f"{a} is not {b}"', "1 is not 2", "… is not …"),
        ('assert x, "want {}, got {}".format(a, b)', "want 1, got 2", "want …, got …"),
        ('assert x, "want %d" % a', "want 7", "want …"),
        ('assert x, "want " + str(a)', "want 7", "want …"),
        ('raise ValueError("too long")', "too long", "too long"),
        ('assert_allclose(a, b, err_msg="The bias is lost")', "\nThe bias is lost\nx: 3", "The bias is lost"),
        ('assert x, "The sum is off"', "another message", None),
        ('assert x, f"{a}"', "2718", None),
        ("assert x, message", "2718", None),
        ("%%timeit\nassert x, 'a'", "a", None),
    ],
)  # fmt: skip
def test_a_hint_is_the_authors_words_without_values(source, message, words):
    assert hidden.hint(message, source) == words


# ---------------------------------------------------------------------------------------------------
# Behind nbgrader's own command


SOURCE = [
    code_cell(
        "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION",
        metadata={"nbgrader": {"grade_id": "double", "solution": True, "grade": False, "locked": False,
                               "task": False, "schema_version": 3}},
    ),
    graded(HIDDEN, "test-hidden", points=5),
    new_markdown_cell(
        "Explain.\n\n### BEGIN MARK SCHEME\nthe secret of 2718\n### END MARK SCHEME",
        metadata={"nbgrader": {"grade_id": "task", "solution": False, "grade": False, "locked": True,
                               "task": True, "points": 2, "schema_version": 3}},
    ),
]  # fmt: skip
# Stock grading, where student and hidden tests share a process, gives away most.
CONFIG = """from coursekit.grading.reports.feedback import configure_feedback
c = get_config()
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
configure_feedback(c)
"""
ANSWERS = {
    "right": "def double(x):\n    return 2 * x",
    "wrong": "%xmode Verbose\ndef double(x):\n    print('got', x)\n    return 2 * x if x < 9 else 0",
    "curious": "%xmode Verbose\ndef double(x):\n    assert x < 9, f'it was {x}'\n    return 2 * x",
    "visibly": "def double(x):\n    return 0",
}


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A class that stock nbgrader has graded, with our feedback behind its command."""
    root = tmp_path_factory.mktemp("course")
    (root / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    (root / "solutions" / "twice").mkdir(parents=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=SOURCE, metadata=kernel), root / "solutions" / "twice" / "twice.ipynb")
    with Ledger(f"sqlite:///{root / 'gradebook.db'}"):
        pass  # an empty gradebook
    demo.nbgrader(root, "generate_assignment", "twice")
    released = nbformat.read(root / "exercises" / "twice" / "twice.ipynb", as_version=4)
    for student, answer in ANSWERS.items():
        notebook = nbformat.from_dict(released)
        notebook.cells[0].source = answer
        notebook.cells.append(code_cell("print(globals().get('In'))"))
        demo.submit({student: notebook}, "twice", root)
    demo.nbgrader(root, "autograde", "twice")
    demo.nbgrader(root, "generate_feedback", "twice")
    return root


def feedback(course: Path, student: str) -> str:
    return (course / "feedback" / student / "twice" / "twice.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("student", "says"),
    [
        ("right", "plus hidden tests (3 lines): passed"),
        ("wrong", "plus hidden tests (3 lines): failed (AssertionError) Large numbers are doubled too."),
        ("curious", "plus hidden tests (3 lines): failed (AssertionError)"),
        ("visibly", "plus hidden tests (3 lines): not reached AssertionError: double(1) is 2"),
    ],
)
def test_stock_nbgrader_makes_the_page_and_hidden_tests_stay_hidden(course, student, says):
    html = feedback(course, student)
    assert says in text_of(html)
    assert_nothing_leaks(html)
    assert_inert(html)


def test_configuration_is_by_traits():
    c = Config()
    configure_feedback(c)
    assert c.GenerateFeedback.exporter_class == "coursekit.grading.reports.feedback.FeedbackExporter"


# ---------------------------------------------------------------------------------------------------
# In a browser


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and the paths that were asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(path: Path, profile: Path) -> BeautifulSoup:
    """The page as it stands in a browser a few seconds after it was opened."""
    quiet = [
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--disable-sync",
    ]
    options = ["--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}"]
    done = subprocess.run(
        [CHROMIUM, *options, "--virtual-time-budget=3000", "--dump-dom", path.as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert "<html" in done.stdout, done.stderr
    return BeautifulSoup(done.stdout, "html.parser")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_in_a_browser_nothing_runs_and_no_request_leaves(page, listener, tmp_path):
    address, asked = listener
    html = page(*ATTACKS.values(), student=f"<script>{RUN}</script>").replace(HOST, address)
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    soup = opened(tmp_path / "page.html", tmp_path / "profile")
    assert soup.title.get_text().startswith("conv: feedback for ")
    assert len(soup.select("section.cell")) >= len(ATTACKS)
    assert asked == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_in_a_browser_the_same_payloads_run_where_nothing_guards(listener, tmp_path):
    address, asked = listener
    html = (
        "<title>quiet</title>" + MARKDOWN["event handler"] + MARKDOWN["remote image"].replace(HOST, address)
    )
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    assert opened(tmp_path / "page.html", tmp_path / "profile").title.get_text() == "ran"
    assert asked
