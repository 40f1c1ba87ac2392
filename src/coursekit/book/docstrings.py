"""Turn the docstrings' plain text into reference pages whose labels and sources are links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ENTRY = re.compile(r"(\w+(, \w+)*:|Returns|Raises|Implements|Source:) ")
REWRITES = [
    (re.compile(r"[*|\\]|_\b"), r"\\\g<0>"),
    (re.compile(r"\beq-[a-z0-9-]*[a-z0-9]"), r"equation :eq:`\g<0>`"),
    (re.compile(r"\b[a-z]+(19|20)\d\d[a-z]*\b"), r":cite:t:`\g<0>`"),
]


def link(line: str) -> str:
    r"""Escape what reStructuredText would read as markup, then make labels and citation keys links.

    >>> print(link("Implements eq-conv-forward."))
    Implements equation :eq:`eq-conv-forward`.
    >>> print(link("dilation * (kernel - 1), |x|; goodfellow2016deep"))
    dilation \* (kernel - 1), \|x\|; :cite:t:`goodfellow2016deep`
    """
    parts = re.split(r"(`+.*?`+)", line)
    for pattern, replacement in REWRITES:
        parts[::2] = [pattern.sub(replacement, part) for part in parts[::2]]
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


def skip(app: Sphinx, what: str, name: str, obj: object, skipped: bool, options: object) -> bool | None:
    """Leave out the fields of a NamedTuple: its signature lists them."""
    return True if str(obj.__doc__).startswith("Alias for field number") else None


def name_defaults(
    app: Sphinx, what: str, name: str, obj: object, options: object, parameters: str, returns: str
) -> tuple[str, str]:
    """Write a default that is a function by its name, not by its address in memory."""
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", parameters or ""), returns


def setup(app: Sphinx) -> None:
    """Listen to autodoc."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", name_defaults)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", process)
