"""Which hand-ins share more code than chance and the task explain: a list for a person to look at.

Code is compared by its tokens, names made equal, so that renaming, moving functions and new comments hide
nothing.  Winnowing (Schleimer, Wilkerson and Aiken 2003, the algorithm of MOSS, here copydetect's) chooses
fingerprints, which tell the pairs that are worth a full comparison.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from nbgrader.utils import is_solution

from coursekit.grading.reports.page import render

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Pair", "Part", "answers", "as_html", "as_text", "compare"]

# In tokens, of which a line of NumPy has ten to twenty.
GRAM = 12  # a match is at least so long
SURE = 20  # a match of this length is always seen
ENOUGH = 60  # that two hand-ins must share
SHARE = 0.4  # of the own tokens of one of them
COMMON = 8  # hand-ins that may share a passage before it counts as common knowledge; in large classes an
COMMON_SHARE = 1 / 8  # eighth of them
REPEATS = 10  # of one passage in a text that are compared
LONGEST = 200_000  # characters of a text that are compared
SHOWN = 60  # pairs in a page

# Python's tokens, of code that need not be right: what does not close is an operator.
TOKEN = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*)
    |(?P<string>[rbfuRBFU]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[^\W\d]\w*)|(?P<number>\d[\w.]*)
    |(?P<operator>\*\*=?|//=?|->|<<=?|>>=?|[-+*/%@&|^=<>!:]=|.)""",
    re.DOTALL | re.VERBOSE,
)
KEPT = frozenset([*keyword.kwlist, *dir(builtins)])


Block = tuple[int, int, int]  # where it begins in either text, and its length, in tokens


class Part(NamedTuple):
    """A passage that two hand-ins share, in whole lines: number of the first one and text, in either."""

    first_line: int
    first: str
    second_line: int
    second: str


@dataclass(frozen=True)
class Pair:
    """Two students whose code agrees.

    shares: how much of either's own code the other's holds, 0 to 1; own is what the task did not give
    and few others wrote.   tokens: length of all they share.
    """

    students: tuple[str, str]
    shares: tuple[float, float]
    tokens: int
    parts: tuple[Part, ...]

    @property
    def share(self) -> float:
        return max(self.shares)


def answers(notebook: NotebookNode) -> str:
    """The code of a notebook's solution cells, as `compare` takes it; of a release, the stubs."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and is_solution(cell)]
    return "\n\n".join(cell.source for cell in cells)


# ---------------------------------------------------------------------------------------------------
# Comparing


def compare(texts: Mapping[str, str], boilerplate: Sequence[str] = ()) -> list[Pair]:
    """Pairs of students who share a good part of their own code, most alike first.

    texts: code by student.   boilerplate: code that everybody was given.
    """
    codes = {student: _Code(text) for student, text in sorted(texts.items())}
    given = {gram for text in boilerplate for gram in _Code(text).grams}
    common = given | _common(codes.values())
    for code in codes.values():
        code.leave_out(common)
    found = (_pair(one, other, codes) for one, other in _candidates(codes))
    return sorted(filter(None, found), key=lambda pair: (-pair.share, -min(pair.shares), -pair.tokens))


class _Code:
    """A text as tokens; `places` of every run of GRAM of them that tells something."""

    def __init__(self, text: str) -> None:
        self.text = text[:LONGEST]
        self.tokens, self.starts, self.ends = _tokens(self.text)
        self.grams = [_digest(self.tokens[i : i + GRAM]) for i in range(len(self.tokens) - GRAM + 1)]
        self.places: dict[int, list[int]] = {}
        self.own = 0

    def leave_out(self, common: set[int]) -> None:
        """Keep only what few have written."""
        own = np.zeros(len(self.tokens), dtype=bool)
        for place, gram in enumerate(self.grams):
            if gram not in common:
                self.places.setdefault(gram, []).append(place)
                own[place : place + GRAM] = True
        self.own = int(own.sum())

    def fingerprints(self) -> set[int]:
        """The grams that winnowing selects: at least one of any SURE tokens in a row."""
        from copydetect.utils import winnow  # brings matplotlib

        if len(self.grams) < SURE - GRAM + 1:
            return set()
        selected, _ = winnow(np.array(self.grams), SURE - GRAM + 1)
        return self.places.keys() & {int(gram) for gram in selected}


def _tokens(text: str) -> tuple[list[str], list[int], list[int]]:
    """Tokens with names made equal (attributes and builtins keep theirs), and where they stand."""
    tokens, starts, ends = [], [], []
    for found in TOKEN.finditer(text):
        kind, value = found.lastgroup, found[0]
        if kind == "blank":
            continue
        if kind == "name" and tokens[-1:] != ["."] and value not in KEPT:
            value = "name"
        tokens.append("string" if kind == "string" else value)
        starts.append(found.start())
        ends.append(found.end())
    return tokens, starts, ends


def _digest(tokens: Sequence[str]) -> int:
    """The same in every process, unlike hash()."""
    return int.from_bytes(
        blake2b("\0".join(tokens).encode("utf-8", "replace"), digest_size=7).digest(), "big"
    )


def _common(codes: Iterable[_Code]) -> set[int]:
    """Grams in so many hand-ins that the task or the course explains them."""
    codes = list(codes)
    counts = Counter(gram for code in codes for gram in set(code.grams))
    limit = max(COMMON, int(COMMON_SHARE * len(codes)))
    return {gram for gram, count in counts.items() if count > limit}


def _candidates(codes: Mapping[str, _Code]) -> list[tuple[str, str]]:
    """Pairs with enough fingerprints in common that they may share SHARE of either's code."""
    prints = {student: code.fingerprints() for student, code in codes.items() if code.own >= ENOUGH}
    holders: dict[int, list[str]] = defaultdict(list)
    for student, own in prints.items():
        for gram in own:
            holders[gram].append(student)
    shared = Counter(pair for students in holders.values() for pair in combinations(students, 2))
    # Half of what is expected, as fingerprints are not spread evenly.
    return [
        pair
        for pair, count in shared.items()
        if count >= max(ENOUGH // SURE, SHARE / 2 * min(len(prints[student]) for student in pair))
    ]


def _pair(one: str, other: str, codes: Mapping[str, _Code]) -> Pair | None:
    first, second = codes[one], codes[other]
    blocks = _blocks(first, second)
    seen_first, seen_second = np.zeros(len(first.tokens), bool), np.zeros(len(second.tokens), bool)
    for i, j, length in blocks:
        seen_first[i : i + length] = seen_second[j : j + length] = True
    counts = int(seen_first.sum()), int(seen_second.sum())
    tokens, shares = min(counts), (counts[0] / first.own, counts[1] / second.own)
    if tokens < ENOUGH or max(shares) < SHARE:
        return None
    return Pair((one, other), shares, tokens, tuple(_parts(first, second, blocks)))


def _blocks(first: _Code, second: _Code) -> list[Block]:
    """Runs of equal tokens that cannot be made longer."""
    places = {
        (i, j)
        for gram in first.places.keys() & second.places.keys()
        for i in first.places[gram][:REPEATS]
        for j in second.places[gram][:REPEATS]
    }
    blocks = []
    for i, j in sorted(places):
        if (i - 1, j - 1) in places:
            continue
        length = 1
        while (i + length, j + length) in places:
            length += 1
        blocks.append((i, j, length + GRAM - 1))
    return blocks


def _parts(first: _Code, second: _Code, blocks: Sequence[Block]) -> Iterator[Part]:
    """Passages to show, each token once: a block, with those that follow it closely in both."""
    runs: list[Block] = []
    for block in sorted(_longest(first, second, blocks)):
        i, j, length = block
        last = runs[-1] if runs else (0, 0, -len(first.tokens) - GRAM)
        gap = i - last[0] - last[2]
        if gap <= GRAM and abs((j - last[1]) - (i - last[0])) <= GRAM:
            runs[-1] = (last[0], last[1], i + length - last[0])
        else:
            runs.append(block)
    for i, j, length in runs:
        yield Part(*_lines(first, i, length), *_lines(second, j, length))


def _longest(first: _Code, second: _Code, blocks: Sequence[Block]) -> Iterator[Block]:
    """Longest first, without those that lie mostly in longer ones."""
    taken = np.zeros(len(first.tokens), bool), np.zeros(len(second.tokens), bool)
    for i, j, length in sorted(blocks, key=lambda block: -block[2]):
        here = taken[0][i : i + length], taken[1][j : j + length]
        if max(side.mean() for side in here) < 0.5:
            for side in here:
                side[:] = True
            yield i, j, length


def _lines(code: _Code, start: int, length: int) -> tuple[int, str]:
    text, last = code.text, min(start + length, len(code.ends)) - 1
    begin = text.rfind("\n", 0, code.starts[start]) + 1
    stop = text.find("\n", code.ends[last])
    return text.count("\n", 0, begin) + 1, text[begin : stop if stop >= 0 else len(text)]


# ---------------------------------------------------------------------------------------------------
# Telling


def as_text(pairs: Sequence[Pair]) -> str:
    """One line a pair, for the terminal."""
    if not pairs:
        return "no two hand-ins share a good part of their own code\n"
    lines = ["  shared of either  tokens  students"]
    for pair in pairs:
        shares = " ".join(f"{share:>5.0%}" for share in pair.shares)
        names = " and ".join("".join(c if c.isprintable() else "?" for c in name) for name in pair.students)
        lines.append(f"  {shares:>16}  {pair.tokens:>6}  {names}")
    return "\n".join(lines) + "\n"


def as_html(pairs: Sequence[Pair], title: str) -> str:
    """The pairs as one page, matching passages side by side.   title: the assignment."""
    return render("similarity.html", pairs=pairs[:SHOWN], more=len(pairs[SHOWN:]), title=title)
