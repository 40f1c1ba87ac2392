"""Hidden tests and mark schemes: told apart from what was released, and kept out of every text shown.

A hidden test is named, with its size, its result and the hint that its author wrote.  Nothing else of it
may reach a student: not its source, not a traceback's quotation of it, not the values that it tried.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Regions = Sequence[tuple[str, str]]

GAP = "…"  # stands for a value that a hint would print
HINT_KEYWORDS = ("msg", "err_msg", "message")
QUOTABLE = 10  # characters of a line, blanks aside, below which it says nothing: `else:`, `x = 3`


@dataclass(frozen=True)
class Split:
    """A cell's source, parted.   released: what the student was given.   hidden: lines by number from 1."""

    released: str
    hidden: dict[int, str]


def split(source: str, regions: Regions) -> Split:
    """Part a source as nbgrader does for the release; a region that never ends hides the rest."""
    released: list[str] = []
    hidden: dict[int, str] = {}
    end: str | None = None
    for number, line in enumerate(source.split("\n"), 1):
        opened = next((closing for opening, closing in regions if opening in line), None)
        if end is None and opened is None:
            if not any(closing in line for _, closing in regions):
                released.append(line)
        elif end is None:
            end = opened
        elif end in line:
            end = None
        elif opened is None:
            hidden[number] = line
    return Split("\n".join(released), hidden)


class Secrets:
    """Recognises lines that nobody may read in whatever a hand-in printed."""

    def __init__(self, hidden: Iterable[str], released: Iterable[str]) -> None:
        lines = {line for line in map(_squeezed, hidden) if len(line) >= QUOTABLE}
        if lines:
            lines -= {_squeezed(line) for text in released for line in text.split("\n")}
        self.lines = sorted(lines)

    def in_text(self, text: str) -> bool:
        """Whether a text quotes one of them, however it is spaced."""
        squeezed = _squeezed(text)
        return any(line in squeezed for line in self.lines)


def _squeezed(text: str) -> str:
    """Without blanks, and without the backslashes of a repr."""
    return re.sub(r"\\n|[\s\\]+", "", text)


# ---------------------------------------------------------------------------------------------------
# What an error may say


def error_name(ename: str) -> str:
    """The error's type if Python has it; a class of the student's could carry anything in its name."""
    kind = getattr(builtins, ename, None)
    return ename if isinstance(kind, type) and issubclass(kind, BaseException) else "an error"


def failing_line(traceback: str, source: str) -> int | None:
    """Number of the source's line that a traceback points at, None if it points at none for certain."""
    lines = source.split("\n")
    for number, code in re.findall(r"^\s*-+>\s*(\d+)[ \t]*(.*)$", traceback, flags=re.MULTILINE):
        if 1 <= int(number) <= len(lines) and code.strip() == lines[int(number) - 1].strip() != "":
            return int(number)
    return None


def hint(message: str, source: str) -> str | None:
    """The author's words in an error's message, values left out; None if the message holds none."""
    for words in _author_words(source):
        pieces = [piece.strip() for piece in words.split(GAP) if piece.strip()]
        if sum(map(len, pieces)) >= 3 and _in_order(pieces, message):
            return words.strip()
    return None


def _author_words(source: str) -> Iterator[str]:
    """Texts that a test's author wrote for its failure, in the order of the source."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and node.msg:
            yield _words(node.msg)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from map(_words, node.exc.args)
        elif isinstance(node, ast.Call):
            yield from (_words(key.value) for key in node.keywords if key.arg in HINT_KEYWORDS)


def _words(node: ast.expr) -> str:
    """The literal part of a text, a gap for each value that is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_words, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _words(node.left) + _words(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return re.sub(r"%[-+# 0-9.]*[a-zA-Z]", GAP, _words(node.left))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return re.sub(r"\{[^{}]*\}", GAP, _words(node.func.value))
    return GAP


def _in_order(pieces: Sequence[str], text: str) -> bool:
    position = 0
    for piece in pieces:
        position = text.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return True
