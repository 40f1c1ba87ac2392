"""Turn the docstrings' plain text into reference pages whose labels and sources are links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

EQUATION = re.compile(r"\beq-[a-z0-9-]*[a-z0-9]")
SOURCE = re.compile(r"\b(?!eq)[a-z]+\d{4}[a-z]+\b")
ENTRY = re.compile(r"(\w+(, \w+)*:|Returns|Raises|Implements|Source:) ")
MARKUP = re.compile(r"(?<!`)([*|\\]|_\b)(?!`)")


def link(line: str) -> str:
    r"""Escape what reStructuredText would read as markup, then make labels and citation keys links.

    >>> print(link("Implements eq-conv-forward."))
    Implements equation :eq:`eq-conv-forward`.
    >>> print(link("dilation * (kernel - 1), |x|; goodfellow2016deep"))
    dilation \* (kernel - 1), \|x\|; :cite:t:`goodfellow2016deep`
    """
    parts = re.split(r"(``.*?``|:\w+:`.*?`)", line)
    parts[::2] = [MARKUP.sub(r"\\\1", part) for part in parts[::2]]
    parts[::2] = [SOURCE.sub(r":cite:t:`\g<0>`", EQUATION.sub(r"equation :eq:`\g<0>`", part)) for part in parts[::2]]
    return "".join(parts)


def paragraphs(lines: list[str]) -> list[str]:
    """Start a paragraph at each entry (``x: ...``, ``Returns ...``) and leave examples as they are."""
    out, example = [], False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and line.strip() != "")
        if example:
            out.append(line)
        else:
            out += [""] * bool(ENTRY.match(line)) + [link(line)]
    return out


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Rewrite a docstring in place, as autodoc asks."""
    lines[:] = paragraphs(lines)


def setup(app: Sphinx) -> None:
    """Listen to autodoc."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process)
