"""Similar hand-ins are found whatever was renamed or moved; what the task explains is not counted."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from coursekit.grading.reports.similarity import COMMON, answers, as_html, as_text, compare

STUB = '''def convolve(x, w, b, *, stride=1):
    """x (N, C, W), w (F, C, K), b (F,) -> y (N, F, WO) in the dtype of x."""
    # Write your code here, in place of the next line.
    raise NotImplementedError
'''
LOOPS = '''def convolve(x, w, b, *, stride=1):
    """x (N, C, W), w (F, C, K), b (F,) -> y (N, F, WO) in the dtype of x."""
    count = (x.shape[2] - w.shape[2]) // stride + 1
    result = np.zeros((len(x), len(w), count), x.dtype)
    for n in range(len(x)):
        for f in range(len(w)):
            for i in range(count):
                window = x[n, :, i * stride : i * stride + w.shape[2]]
                result[n, f, i] = (window * w[f]).sum() + b[f]
    return result


def backward(grad, x, w, *, stride=1):
    gx, gw = np.zeros_like(x), np.zeros_like(w)
    for n, f, i in np.ndindex(grad.shape):
        start = i * stride
        gx[n, :, start : start + w.shape[2]] += grad[n, f, i] * w[f]
        gw[f] += grad[n, f, i] * x[n, :, start : start + w.shape[2]]
    return gx, gw, grad.sum(axis=(0, 2))
'''
SLICES = '''def convolve(x, w, b, *, stride=1):
    """x (N, C, W), w (F, C, K), b (F,) -> y (N, F, WO) in the dtype of x."""
    taps = w.shape[-1]
    last = x.shape[-1] - taps
    y = b[None, :, None] + sum(
        np.einsum("nci,fc->nfi", x[..., k : last + k + 1 : stride], w[..., k]) for k in range(taps)
    )
    return y.astype(x.dtype)


def backward(grad, x, w, *, stride=1):
    spread = np.zeros((*grad.shape[:2], stride * (grad.shape[2] - 1) + 1), grad.dtype)
    spread[..., ::stride] = grad
    dw = np.stack([np.tensordot(spread, x[..., k : k + spread.shape[2]], ((0, 2), (0, 2)))
                   for k in range(w.shape[2])], axis=-1)
    padded = np.pad(spread, ((0, 0), (0, 0), (w.shape[2] - 1, w.shape[2] - 1)))
    dx = np.einsum("nfik,fck->nci", sliding(padded, w.shape[2]), w[..., ::-1])
    return dx, dw, np.add.reduce(grad, (0, 2))
'''  # fmt: skip
RENAMED = {
    "count": "m",
    "result": "out",
    "window": "patch",
    "gx": "dx",
    "gw": "dw",
    "start": "left",
    "n": "image",
}


def renamed(text: str) -> str:
    return re.sub(r"\b\w+\b", lambda word: RENAMED.get(word[0], word[0]), text)


def moved(text: str) -> str:
    """The functions the other way round, with comments and blank lines of one's own."""
    first, second = text.split("\n\n\n")
    lines = [f"{line}  # step {i}\n" for i, line in enumerate(f"{second}\n\n{first}".splitlines())]
    return "\n".join(lines)


def mutated(text: str) -> str:
    """With a line of one's own in the middle."""
    return text.replace(
        "            for i in", "            check = sorted({f: n}.items())\n            for i in"
    )


@pytest.mark.parametrize(
    "change", [str, renamed, moved, mutated, lambda text: moved(renamed(mutated(text)))],
    ids=["copied", "renamed", "moved", "with a line added", "all of it"],
)  # fmt: skip
def test_a_copy_is_found(change):
    texts = {"ada": LOOPS, "ben": change(LOOPS), "cleo": SLICES}
    (pair,) = compare(texts, [STUB])
    assert pair.students == ("ada", "ben")
    assert pair.share > 0.85


def test_two_ways_to_write_it_are_not_held_against_anybody():
    assert compare({"ada": LOOPS, "cleo": SLICES}, [STUB]) == []


def test_a_copy_within_other_work_is_found_by_the_one_share():
    texts = {"ada": LOOPS, "ben": LOOPS + SLICES.replace("convolve", "again")}
    (pair,) = compare(texts, [STUB])
    assert pair.shares[0] == 1
    assert 0.4 < pair.shares[1] < 0.7


@pytest.mark.parametrize(
    "text",
    ["", "def size(n, k):\n    return n - k + 1\n", STUB, STUB * 20],
    ids=["nothing", "one line", "untouched", "untouched many times"],
)
def test_short_and_untouched_answers_are_not_flagged(text):
    assert compare({"ada": text, "ben": text}, [STUB]) == []


def test_given_code_counts_for_nothing():
    given = SLICES.replace("convolve", "helper")
    assert compare({"ada": given + "\nx = 1", "ben": given + "\nz = 2"}, [given]) == []


def test_what_many_wrote_is_common_knowledge():
    few = {f"student-{i}": LOOPS for i in range(COMMON)}
    assert len(compare(few)) == COMMON * (COMMON - 1) // 2
    assert compare({**few, "another": LOOPS}) == []


def test_code_that_does_not_parse_is_compared_too():
    broken = LOOPS.replace("return result", "return (result") + '"""never closed'
    (pair,) = compare({"ada": broken, "ben": renamed(broken)})
    assert pair.share > 0.9


def test_pairs_come_most_alike_first():
    texts = {"ada": LOOPS, "ben": LOOPS + SLICES, "cleo": renamed(LOOPS)}
    first, *_ = compare(texts)
    assert first.students == ("ada", "cleo")
    assert first.shares == (1, 1)


def test_matching_passages_come_side_by_side_in_whole_lines():
    (pair,) = compare({"ada": LOOPS, "ben": moved(renamed(LOOPS))}, [STUB])
    sides = [(part.first, part.second) for part in pair.parts]
    assert any("window = x[n" in first and "patch = x[image" in second for first, second in sides)
    for part in pair.parts:
        assert part.first.split("\n")[0] == LOOPS.split("\n")[part.first_line - 1]


def test_endless_repetition_ends():
    text = "x = x + 1; y = y - 2; " * 20_000
    assert compare({"ada": text, "ben": text}) == []


def test_only_the_code_of_solution_cells_is_compared():
    role = {"grade_id": "f", "solution": True, "grade": False, "locked": False, "schema_version": 3}
    given = {**role, "grade_id": "g", "solution": False, "locked": True}
    cells = [
        new_code_cell("import numpy", metadata={"nbgrader": given}),
        new_code_cell("def f(): ...", metadata={"nbgrader": role}),
        new_markdown_cell("an essay", metadata={"nbgrader": {**role, "grade_id": "h"}}),
        new_code_cell("def g(): ...", metadata={"nbgrader": {**role, "grade_id": "i"}}),
        new_code_cell("f()"),
    ]
    assert answers(new_notebook(cells=cells)) == "def f(): ...\n\ndef g(): ..."


def test_the_text_has_a_line_for_each_pair():
    lines = as_text(compare({"ada": LOOPS, "ben\x1b[2J": renamed(LOOPS)}, [STUB])).splitlines()
    assert re.fullmatch(r" +100% +100% +\d+  ada and ben\?\[2J", lines[1])
    assert as_text([]) == "no two hand-ins share a good part of their own code\n"


def test_the_page_shows_code_and_names_as_text():
    evil = "<script>alert(1)</script>"
    text = LOOPS.replace("# ", "") + f"\nnote = window(x) + {evil}\n"
    html = as_html(compare({"ada": text, evil: text}), evil)
    soup = BeautifulSoup(html, "html.parser")
    assert not soup.find_all(["script", "img", "link"])
    assert len(soup.select(".sides pre")) >= 2
    assert html.count("&lt;script&gt;") >= 4


def test_a_page_without_pairs_says_so():
    assert "No two hand-ins share a good part of their own code." in as_html([], "conv")
