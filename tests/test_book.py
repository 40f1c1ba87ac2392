"""The book's pages, its extension, and the built HTML if there is one."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urldefrag

import pytest
import yaml
from jupyter_cache import get_cache
from myst_nb.core.read import read_myst_markdown_notebook
from pybtex.database import parse_file
from sphinxcontrib import katex

from coursekit.book import STATIC, docstrings, execution, html, mathematics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
CHAPTERS = ROOT / "chapters"
PACKAGE = ROOT / "src" / "coursekit"
BUILT = ROOT / "_build" / "html"
# JupyterLab leaves copies of the pages that a reader opened.
PAGES = sorted(path for path in CHAPTERS.rglob("*.md") if ".ipynb_checkpoints" not in path.parts)
PARTS = ("convolution", "recurrence", "gradients", "gates")
LESSONS = sorted(page for part in PARTS for page in CHAPTERS.glob(f"{part}/*.md"))
SLUGS = sorted(path.name for path in (ROOT / "exercises").iterdir() if path.is_dir())
LIBRARY = ["arrays", "conv", "pooling", "detectors", "losses", "layers", "equivariance", "optim", "train"]
LIBRARY += ["gradcheck", "data", "data.sequences", "clipping", "jacobians", "probes", "graph", "bptt"]
LIBRARY += ["cells", "recurrent", "weights", "nn", "nn.recurrent"]
TOOLS = ["checks", "figures", "grading", "authoring", "book", "cli"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
every_lesson = pytest.mark.parametrize("page", LESSONS, ids=name_of)


def found(pattern: str, *paths: Path) -> set[str]:
    return {hit for path in paths for hit in re.findall(pattern, path.read_text("utf8"), re.MULTILINE)}


# The pages


def toc_files(entry: object) -> Iterator[str]:
    """All pages that _toc.yml names, at any depth."""
    if isinstance(entry, dict):
        yield from (value for key, value in entry.items() if key in {"file", "root"})
        yield from toc_files(list(entry.values()))
    elif isinstance(entry, list):
        for item in entry:
            yield from toc_files(item)


def test_the_table_of_contents_lists_every_page_once():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    assert sorted(toc_files(toc)) == sorted(name_of(path).removesuffix(".md") for path in PAGES)


@every_lesson
def test_a_lesson_opens_with_what_to_expect(page):
    title, opening = re.split(r"^# .*$", page.read_text("utf8"), maxsplit=1, flags=re.MULTILINE)
    assert opening.lstrip().startswith("```{admonition} Before you start\n:class: opening\n")
    terms = re.findall(r"^(.+)\n: ", opening.split("```")[1], re.MULTILINE)
    assert terms == ["You will", "You learn", "You need", "Time on a laptop CPU"]


@every_lesson
def test_a_lesson_ends_with_questions_and_reading(page):
    headings = re.findall(r"^## (.*)$", page.read_text("utf8"), re.MULTILINE)
    assert headings[-2:] == ["Check yourself", "Further reading"]


@every_lesson
def test_a_lesson_asks_before_it_tells(page):
    assert ":class: predict" in page.read_text("utf8")


@every_lesson
def test_a_lesson_links_its_assignment(page):
    assert found(r"\{download\}`(\w+)\.ipynb <../../exercises/\1/\1\.ipynb>`", page) & set(SLUGS)


@every_lesson
def test_every_exercise_has_one_folded_solution(page):
    text = page.read_text("utf8")
    exercises = re.findall(r"\{exercise\}.*\n:label: (ex-[\w-]+)", text)
    solutions = re.findall(r"\{solution\} (ex-[\w-]+)(?:\n:label: .*)?\n:class: dropdown", text)
    assert len(exercises) >= 2
    assert sorted(solutions) == sorted(exercises)


@cache
def cells(page: Path) -> list[NotebookNode]:
    notebook = read_myst_markdown_notebook(page.read_text("utf8"))
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@every_lesson
def test_every_figure_has_a_name_a_caption_and_an_alternative_text(page):
    drawn = [cell for cell in cells(page) if re.search(r"^figures\.\w+\.\w+\(", cell.source, re.MULTILINE)]
    for cell in drawn:
        shown = cell.metadata.get("mystnb", {})
        assert shown.get("figure", {}).get("name", "").startswith("fig-"), cell.source
        assert len(shown["figure"].get("caption", "")) > 20, cell.source
        assert len(shown.get("image", {}).get("alt", "")) > 20, cell.source
    assert drawn


def test_labels_are_unique_in_the_book():
    labels = [hit for page in PAGES for hit in defined(page)]
    assert len(labels) == len(set(labels))


def defined(page: Path) -> list[str]:
    """Labels of equations, sections and figures that a page defines."""
    definition = r"^(?::label: |\$\$ \(|\(| *name: )((?:eq|sec|fig)-[\w-]+)"
    return re.findall(definition, page.read_text("utf8"), re.MULTILINE)


# The book's own docstrings show what a citation looks like.
CITING = sorted(path for path in PACKAGE.rglob("*.py") if PACKAGE / "book" not in path.parents)


@pytest.mark.parametrize("path", CITING, ids=name_of)
def test_the_code_cites_only_labels_and_sources_that_exist(path):
    labels = {hit for page in PAGES for hit in defined(page)}
    assert found(r"\b(?:eq|sec|fig)-[a-z0-9-]*[a-z0-9]\b", path) <= labels
    assert found(r"\b[a-z]+(?:19|20)\d\d[a-z]+\b", path) <= keys()


def test_a_check_sends_the_student_to_a_page_that_has_the_label():
    sent = found(rf"\b((?:{'|'.join(PARTS)})/[\w-]+)#((?:eq|sec)-[\w-]+)", *PACKAGE.glob("checks/*.py"))
    assert sent
    assert [(page, label) for page, label in sent if label not in defined(CHAPTERS / f"{page}.md")] == []


@cache
def keys() -> set[str]:
    return set(parse_file(str(CHAPTERS / "references.bib")).entries)


def test_every_source_is_cited_and_every_citation_has_a_source():
    cited = ",".join(found(r"\{cite(?::\w+)?\}`([^`]+)`", *PAGES)).split(",")
    assert {key.strip() for key in cited} <= keys()


def test_students_find_every_assignment_where_they_look_for_them():
    assert found(r"<\.\./exercises/(\w+)/\1\.ipynb>", CHAPTERS / "using.md") == set(SLUGS)


# What the pages say about the library


def objects(module: str) -> dict[str, object]:
    """Functions and classes that a module defines for others, exceptions aside."""
    loaded = importlib.import_module(f"coursekit.{module}")
    named = {name: member for name, member in vars(loaded).items() if is_called(member) and name[0] != "_"}
    return {name: member for name, member in named.items() if member.__module__ == loaded.__name__}


def is_called(member: object) -> bool:
    return inspect.isfunction(member) or (inspect.isclass(member) and not issubclass(member, Exception))


@pytest.mark.parametrize("module", LIBRARY)
def test_every_single_letter_of_a_signature_stands_in_the_notation(module):
    letters = {
        name
        for member in objects(module).values()
        for name in inspect.signature(member).parameters
        if len(name) == 1
    }
    assert letters <= found(r"`(\w)`", CHAPTERS / "notation.md")


@pytest.mark.parametrize("module", LIBRARY + TOOLS)
def test_the_reference_lists_every_module_once(module):
    text = "\n".join(page.read_text("utf8") for page in CHAPTERS.glob("reference/*.md"))
    assert len(re.findall(rf"^\.\. automodule:: coursekit\.{module}$", text, re.MULTILINE)) == 1


@every_page
def test_names_of_the_library_in_a_page_exist(page):
    for name in found(r"\{py:\w+\}`~?coursekit\.([\w.]+)`", page):
        module, *attributes = name.split(".")
        member = importlib.import_module(f"coursekit.{module}")
        for attribute in attributes:
            member = getattr(member, attribute)


def test_every_topic_on_the_map_has_section_code_and_exercise():
    page = (CHAPTERS / "map.md").read_text("utf8")
    rows = re.findall(r"^\| ([ABD]\d+) .*?\| (.*?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    topics = [f"{part}{number}" for part, count in (("A", 10), ("B", 9)) for number in range(1, count + 1)]
    topics += ["D1", "D2", "D3", "D4", "D5"]
    assert [row[0] for row in rows] == topics
    for _, sections, code, exercise in rows:
        assert re.fullmatch(r"\{ref\}`sec-[\w-]+`(, \{ref\}`sec-[\w-]+`)*", sections)
        assert "{py:" in code
        assert re.search(r"<\.\./exercises/(\w+)/\1\.ipynb>", exercise).group(1) in SLUGS


# The extension


def test_the_style_sheet_and_the_renderer_are_one_version_of_katex():
    sheet = (STATIC / "katex" / "katex.min.css").read_text("utf8")
    assert f'content:"{katex.katex_version}"' in sheet
    fonts = re.findall(r"url\(([^)]+)\)", sheet)
    assert fonts and all((STATIC / "katex" / font).is_file() for font in fonts)


@pytest.fixture
def renderer(monkeypatch):
    """KaTeX as the book sets it up, on a machine whose PATH has no Node."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("NODE_OPTIONS", "")
    mathematics.setup(None)
    return katex


def test_formulas_are_rendered_without_a_node_of_the_machine(renderer):
    assert "mathbb" in renderer.render_latex(r"\R")


def test_a_renderer_whose_socket_is_there_before_it_listens_is_waited_for(renderer, monkeypatch, tmp_path):
    python = sys.executable, "-c"
    late = (
        "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]);"
        "time.sleep(0.2); s.listen(); s.accept()[0].sendall(b'here')"
    )
    monkeypatch.setattr(renderer.KaTeXServer, "build_command", lambda socket: [*python, late, socket])
    process, connection = mathematics.start_renderer(tmp_path, 30)
    with process, connection:
        assert connection.recv(4) == b"here"


def test_a_renderer_that_ends_at_once_is_an_error(renderer, monkeypatch, tmp_path):
    monkeypatch.setattr(renderer.KaTeXServer, "build_command", lambda socket: [sys.executable, "-c", ""])
    with pytest.raises(renderer.KaTeXError):
        mathematics.start_renderer(tmp_path, 30)


def test_an_unknown_macro_stops_the_build(renderer):
    with pytest.raises(renderer.KaTeXError, match="nosuchmacro"):
        renderer.render_latex(r"1 + \nosuchmacro")


@pytest.fixture
def package(tmp_path):
    (tmp_path / "package" / "book").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "package" / "conv.py").write_text("stride = 1")
    (tmp_path / "package" / "book" / "html.py").write_text("look = 1")
    (tmp_path / "results" / "cpu.json").write_text("{}")
    return tmp_path


def state(folder: Path) -> str:
    return execution.fingerprint(execution.sources(folder / "package", folder / "results"), ["numpy 2"])


@pytest.mark.parametrize("file", ["package/conv.py", "results/cpu.json"])
def test_pages_run_again_when_what_they_show_changes(package, file):
    before = state(package)
    (package / file).write_text("changed")
    assert state(package) != before


def test_pages_run_again_when_a_module_is_renamed(package):
    before = state(package)
    (package / "package" / "conv.py").rename(package / "package" / "convolution.py")
    assert state(package) != before


def test_pages_do_not_run_again_when_only_their_look_changes(package):
    before = state(package)
    (package / "package" / "book" / "html.py").write_text("look = 2")
    assert state(package) == before


PAGE = """---
file_format: mystnb
kernelspec: {name: python3}
---

# A page

```{code-cell} python
2 + 3
```

```{code-cell} python
raise ValueError("this is wrong")
```
"""


def page_of(folder: Path, text: str) -> execution.Page:
    path = folder / "page.md"
    path.write_text(text)
    return execution.Page(path, read_myst_markdown_notebook(text, add_source_map=True))


def test_a_failing_page_is_named_with_line_and_error(tmp_path):
    page = page_of(tmp_path, PAGE)
    message = execution.failure(page, execution.execute(page, timeout=60))
    assert message.startswith(f"{page.path}:12: this cell raised an error")
    assert "ValueError: this is wrong" in message


def test_a_page_is_stored_and_found_until_its_code_changes(tmp_path):
    store = get_cache(str(tmp_path / "cache"))
    page = page_of(tmp_path, PAGE.replace('raise ValueError("this is wrong")', "7"))
    assert not execution.is_stored(store, page)
    execution.store(store, page, execution.execute(page, timeout=60))
    prose = page_of(tmp_path, page.path.read_text().replace("# A page", "# The same page"))
    code = page_of(tmp_path, page.path.read_text().replace("2 + 3", "2 + 5"))
    assert execution.is_stored(store, prose)
    assert not execution.is_stored(store, code)


def test_an_example_in_a_docstring_stays_as_it_is():
    example = [">>> pad(x, ((1, 2),))  # eq-conv-size", "array([0, *x])", "", "x: an image, |x| large."]
    assert docstrings.paragraphs(example) == [*example[:3], "", r"x: an image, \|x\| large."]


def test_a_figure_scrolls_in_a_box_that_the_keyboard_reaches():
    image = '<img alt="b" src="c.svg" />'
    corrected = html.correct(f'<figure id="a">{image}<figcaption>d</figcaption></figure>')
    box = f'<div class="drawing" tabindex="0">{image}</div>'
    assert corrected == f'<figure id="a">{box}<figcaption>d</figcaption></figure>'
    assert ".drawing { overflow-x: auto; }" in (STATIC / "coursekit.css").read_text("utf8")


def test_a_corrected_page_is_corrected_once():
    signature = '<dl>\n<dd><em class="sig-param">x</em></dd></dl>'
    drawing = '<figure id="a">\n<img alt="b" src="c.svg" />\n</figure>'
    page = f'<script src="a.js"></script><div id="pst-primary-sidebar">{signature}{drawing}</div>'
    once = html.correct(page)
    assert once != page
    assert html.correct(once) == once


# The built book


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str | None]


class Reader(HTMLParser):
    """The elements of a page and the text that a reader sees as text."""

    HIDDEN = {"script", "style", "code", "pre", "annotation"}

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.text: list[str] = []
        self.inside: list[str] = []
        self.feed(page.read_text("utf8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs)))
        self.inside += [tag] * (tag in self.HIDDEN)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text.append(data)


@cache
def read(page: Path) -> Reader:
    return Reader(page)


@pytest.fixture(scope="module")
def built() -> list[Path]:
    pages = sorted(page for page in BUILT.rglob("*.html") if "_static" not in page.parts)
    if not pages:
        pytest.skip("no book in _build/html: run `make book` first")
    return pages


def test_every_page_was_built(built):
    assert {BUILT / f"{name_of(page).removesuffix('.md')}.html" for page in PAGES} <= set(built)


def test_the_built_pages_load_nothing_from_elsewhere(built):
    loaded = [
        (page.name, attributes["href" if tag == "link" else "src"])
        for page in built
        for tag, attributes in read(page).elements
        if "src" in attributes or (tag == "link" and attributes.get("rel") != "canonical")
    ]
    assert [(page, address) for page, address in loaded if re.match(r"(https?:)?//", address)] == []
    sheets = "".join(sheet.read_text("utf8") for sheet in BUILT.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", sheets) == []


def test_the_built_pages_show_no_raw_formula(built):
    raw = re.compile(r"\\(?:begin|frac|sum|left|mathbb|partial|operatorname|relu|softmax)\b|\$\$|\\\(|\\\[")
    assert [(page.name, hit) for page in built for hit in raw.findall("".join(read(page).text))] == []


def test_every_built_image_has_an_alternative_text(built):
    elements = [(page.name, element) for page in built for element in read(page).elements]
    images = [(page, element.attributes) for page, element in elements if element.tag == "img"]
    assert images
    assert [(page, image) for page, image in images if not image.get("alt")] == []


def test_every_link_inside_the_built_book_leads_somewhere(built):
    targets = {page: {attributes.get("id") for _, attributes in read(page).elements} for page in built}
    broken = []
    for page in built:
        for tag, attributes in read(page).elements:
            address = attributes.get("href") if tag == "a" else None
            if address is None or re.match(r"[a-z]+:|//", address):
                continue
            file, anchor = urldefrag(unquote(address))
            target = (page.parent / file).resolve() if file else page
            if not target.is_file() or (anchor and anchor not in targets.get(target, {anchor})):
                broken.append((page.name, address))
    assert broken == []


@pytest.mark.skipif(not (ROOT / "solutions").is_dir(), reason="a public mirror has no solutions")
def test_the_built_book_holds_no_solution_of_an_assignment(built):
    public = [*PACKAGE.rglob("*.py"), *PAGES, *(ROOT / "exercises").rglob("*.ipynb")]
    known = "\n".join(path.read_text("utf8") for path in public)
    solutions = "\n".join((ROOT / "solutions" / f"{slug}.py").read_text("utf8") for slug in SLUGS)
    regions = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", solutions, re.DOTALL)
    secret = {line.strip(" #") for region in regions for line in region.splitlines()}
    secret = {line for line in secret if len(line) >= 30 and line not in known}
    assert secret
    files = [path for path in BUILT.rglob("*") if path.suffix in {".html", ".js", ".ipynb", ".md", ".txt"}]
    texts = [path.read_text("utf8") for path in files if "_static" not in path.parts]
    assert [line for line in secret if any(line in text for text in texts)] == []
