"""What a student wrote or printed, as HTML that is inert: no script, no request, no end of text.

Three walls stand one behind the other: text is escaped or passes a list of allowed tags (bleach, on the
parser that browsers' own follows); the page's content security policy loads nothing; sizes are bounded.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from io import BytesIO
from typing import Any

import bleach
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from pygments import highlight as pygments_highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

__all__ = [
    "Budget", "formgrader_markdown", "highlight", "html", "image", "joined", "markdown", "svg", "terminal",
]  # fmt: skip

TEXT = 20_000  # characters of one text that are shown
SOURCE = 60_000  # of one code cell
TAGS_AT_MOST = 4_000  # what a parser handles in a second even if all are nested
IMAGE_BYTES = 4_000_000
PIXELS = 40_000_000
LANGUAGES = ("python", "r", "julia")

TAGS = frozenset(
    "a abbr b blockquote br caption code dd del dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li ol p "
    "pre q s samp small span strong sub sup table tbody td tfoot th thead tr u ul var".split()
)
ADDRESS = re.compile(r"(?:https?://|mailto:)[^\s<>\"']+")
LOCAL_IMAGE = re.compile(r"(?!.*\.\.)[\w-][\w./ %-]*\.(?:png|jpe?g|gif)", re.ASCII | re.IGNORECASE)
DATA_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif);base64,([A-Za-z0-9+/=\s]+)")
# Pygments' classes have one to three characters; the page's own are longer, so that no text can dress up
# as a mark.
PYGMENTS_CLASS = re.compile(r"math|[a-z]{1,2}[a-z0-9]?")
SPAN = re.compile(r"[1-9][0-9]?")

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor movements
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles and links of a terminal
    r"|\x1b[ -/]*[0-~]?"
)
# Control characters, and those that turn the reading direction so that code reads as what it is not.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


class Budget:
    """How much of a hand-in one page may still show, in characters; images count for themselves."""

    def __init__(self, text: int = 600_000, images: int = 12_000_000) -> None:
        self.text, self.images = text, images

    def cut(self, text: str, limit: int = TEXT) -> str:
        """The beginning and the end of a long text, and how much is left out between them."""
        limit = max(0, min(limit, self.text))
        if len(text) > limit:
            head, tail = limit * 2 // 3, limit - limit * 2 // 3
            gap = f"\n[... {len(text) - limit:,} characters left out ...]\n"
            text = text[:head] + gap + text[len(text) - tail :]
        self.text -= len(text)
        return text

    def admits_image(self, encoded: str) -> bool:
        """Whether an image still fits; if so it is counted."""
        fits = len(encoded) <= min(self.images, IMAGE_BYTES * 4 // 3 + 4)
        self.images -= len(encoded) if fits else 0
        return fits


# ---------------------------------------------------------------------------------------------------
# Text


def joined(value: Any) -> str:
    """A notebook's multi-line string, which may be a list of lines, or anything in a forged file."""
    if isinstance(value, list):
        return "".join(map(str, value))
    return value if isinstance(value, str) else str(value)


def terminal(text: str) -> str:
    """Text as it stands at the end on a terminal: no colours, lines overwritten by what came later."""
    lines = ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    kept = (next((part for part in reversed(line.split("\r")) if part), "") for line in lines)
    return visible("\n".join(kept))


def visible(text: str) -> str:
    """Invisible characters replaced, so that what is read is what is there."""
    return INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text)


def highlight(code: str, language: str = "python") -> Markup:
    """Code with Pygments' classes; of languages that the course does not use, as Python."""
    lexer = _lexer(language if language in LANGUAGES else "python")
    return Markup(pygments_highlight(visible(code), lexer, HtmlFormatter(nowrap=True)))


@cache
def _lexer(language: str) -> Any:
    return get_lexer_by_name("splus" if language == "r" else language, stripnl=False)


# ---------------------------------------------------------------------------------------------------
# HTML


def html(text: str) -> Markup | None:
    """What of somebody's HTML may stand in a page: text, tables, lists; None if too tangled to clean."""
    return _clean("".join(_outside_of_code(text)), strip=True)


def markdown(text: str, attachments: Mapping[str, Any] | None = None) -> Markup:
    """Markdown as HTML; tags that are not allowed are shown as what was typed."""
    return _rendered(text, _Renderer(attachments or {}), _admits)


@pass_context
def formgrader_markdown(context: Context, text: str) -> Markup:
    """The filter `markdown2html` of the formgrader's template.

    As `markdown`, but MathJax, which the page has loaded, sets the formulas, and pictures that lie beside the
    notebook are shown.
    """
    attachments = context.get("cell", {}).get("attachments", {})
    return _rendered(text, _FormgraderRenderer(attachments), _admits_local)


def _rendered(text: str, renderer: _Renderer, admits: Callable[[str, str, str], bool]) -> Markup:
    text = visible(text)
    if text.count("<") <= TAGS_AT_MOST:
        cleaned = _clean(MarkdownWithMath(renderer=renderer).render(text), strip=False, admits=admits)
        if cleaned is not None:
            return cleaned
    return Markup("<pre>{}</pre>").format(text)


class _Renderer(IPythonRenderer):
    """Formulas stay TeX, which reads well enough and needs nothing loaded; images come from the notebook."""

    def __init__(self, attachments: Mapping[str, Any]) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self.attached = attachments

    def inline_math(self, body: str) -> str:
        return f'<code class="math">{escape(body.strip())}</code>'

    def block_math(self, body: str) -> str:
        return f'<pre class="math">{escape(body.strip())}</pre>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def block_mermaidjs(self, code: str) -> str:
        return f"<pre>{escape(code)}</pre>"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        source = self._attachment(url) if url.startswith("attachment:") else url
        return f'<img src="{escape(source)}" alt="{escape(Markup(text).unescape())}">'

    def _attachment(self, url: str) -> str:
        data = self.attached.get(url.removeprefix("attachment:"))
        found = [image(joined(value)) for value in data.values()] if isinstance(data, Mapping) else []
        return next(filter(None, found), "")


class _FormgraderRenderer(_Renderer):
    inline_math = IPythonRenderer.inline_math
    block_math = IPythonRenderer.block_math
    latex_environment = IPythonRenderer.latex_environment


def _clean(text: str, strip: bool, admits: Callable[[str, str, str], bool] | None = None) -> Markup | None:
    if text.count("<") > TAGS_AT_MOST:
        return None
    cleaner = bleach.Cleaner(
        tags=TAGS, attributes=admits or _admits, protocols=["http", "https", "mailto", "data"], strip=strip
    )
    try:
        return Markup(cleaner.clean(text))
    except RecursionError:
        return None


def _admits(tag: str, name: str, value: str) -> bool:
    if name == "href":
        return tag == "a" and ADDRESS.fullmatch(value) is not None
    if name == "src":
        return tag == "img" and _is_image(value)
    if name in ("colspan", "rowspan", "start"):
        return tag in ("td", "th", "ol") and SPAN.fullmatch(value) is not None
    if name == "class":
        return all(PYGMENTS_CLASS.fullmatch(part) for part in value.split())
    return name == "alt" and tag == "img"


def _admits_local(tag: str, name: str, value: str) -> bool:
    local = tag == "img" and name == "src" and LOCAL_IMAGE.fullmatch(value) is not None
    return local or _admits(tag, name, value)


def _is_image(address: str) -> bool:
    found = DATA_IMAGE.fullmatch(address)
    return found is not None and image(found[1]) is not None


def _outside_of_code(text: str) -> Iterator[str]:
    """The pieces of an HTML text that lie outside of scripts and styles, which are no text to show."""
    pieces = re.split(r"(?i)<(/?)(script|style)\b[^<>]*>", text)
    inside = ""
    yield pieces[0]
    for closing, tag, piece in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if not inside and not closing:
            inside = tag.lower()
        elif closing and tag.lower() == inside:
            inside = ""
        if not inside:
            yield piece


# ---------------------------------------------------------------------------------------------------
# Images


def image(encoded: str) -> str | None:
    """A data: address for base64 that is a PNG, JPEG or GIF of ordinary size; None for all else."""
    if len(encoded) > IMAGE_BYTES * 2:
        return None
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=("PNG", "JPEG", "GIF")) as found:
                kind, (width, height) = found.format, found.size
    except (binascii.Error, ValueError, OSError, SyntaxError, Image.DecompressionBombError):
        return None
    if len(data) > IMAGE_BYTES or width * height > PIXELS:
        return None
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"


def svg(text: str) -> str | None:
    """A data: address for a drawing: as an image it runs no script and loads nothing."""
    if not re.match(r"\s*(?:<\?xml|<!DOCTYPE svg|<svg)", text) or len(text) > IMAGE_BYTES:
        return None
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode('utf-8', 'replace')).decode()}"
