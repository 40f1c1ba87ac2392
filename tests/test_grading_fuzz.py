"""Hand-ins that chance has damaged: the class is graded to its end, and damage never earns a point.

Mutant N is the same in every run.  COURSEKIT_MUTANTS=600 makes more of them.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from grading_course import (
    AUTOMATIC,
    FULL,
    NAME,
    automatic,
    gradebook_rows,
    hand_in,
    make_course,
    outcomes,
    valid_hand_in,
    with_answers,
)
from grading_faults import as_bytes, write
from nbformat import NotebookNode
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from coursekit.grading import workers
from coursekit.grading.engine import ClassResult, Grader
from coursekit.grading.gradebook.ledger import GRADED
from coursekit.grading.gradebook.scoring import score
from coursekit.grading.records import Outcome

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the engine runs on Linux"),
    pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning"),
]

COUNT = int(os.environ.get("COURSEKIT_MUTANTS", "60"))
HONEST = ("aaron", "middle", "zoe")
# What mutants are made from, with the points that it earns.
BASES: list[tuple[dict[str, str], tuple[float, ...]]] = [
    ({}, FULL),
    ({"total": "def total(values):\n    return None"}, (2.0, 0.0, 4.0)),
    ({"double": "double = None", "share": "def share(part, whole):\n    return 0.25"}, (0.0, 3.0, 2.0)),
]
STUDENTS = {f"mutant-{number:04}": number for number in range(COUNT)}


def base_of(number: int) -> tuple[dict[str, str], tuple[float, ...]]:
    if damage_of(number) is damaged_code:  # there, a wrong answer may become a better one
        return BASES[0]
    return BASES[number // 4 % len(BASES)]


def damage_of(number: int) -> Callable[[bytes, random.Random], bytes]:
    return (damaged_bytes, damaged_cells, damaged_metadata, damaged_code)[number % 4]


def mutant(number: int, valid: NotebookNode) -> bytes:
    """The file of one student."""
    data = as_bytes(with_answers(valid, base_of(number)[0]))
    return damage_of(number)(data, random.Random(number))


# ---------------------------------------------------------------------------------------------------
# Bytes


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = rng.choice(ON_BYTES)(data, rng)
    return data


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 30)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    some = rng.choice((rng.randbytes(rng.randrange(1, 9)), b"\0", b"\xff\xfe", b"{", b"]", b'"', b"\\u"))
    return data[:at] + some + data[at:]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:]


def other_value(data: bytes, rng: random.Random) -> bytes:
    """Another token of JSON in the place of one."""
    old = rng.choice((b"null", b"4", b"true", b"false", b"{}", b"[]", b'"code"', b'"markdown"'))
    new = rng.choice((b"null", b"-1e999", b"NaN", b'"\\ud800"', b"{}", b"[[]]", b"1" * 400, b"false"))
    return data.replace(old, new, rng.choice((1, -1)))


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 10, 500)))


ON_BYTES: list[Callable[[bytes, random.Random], bytes]] = [
    flip_bits, truncate, insert, cut_out, repeat, other_value,
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------
# Cells


def damaged_cells(data: bytes, rng: random.Random) -> bytes:
    notebook = json.loads(data)
    for _ in range(rng.randrange(1, 5)):
        if notebook["cells"]:
            rng.choice(ON_CELLS)(notebook["cells"], rng)
    return json.dumps(notebook).encode()


def drop(row: list[dict], rng: random.Random) -> None:
    row.pop(rng.randrange(len(row)))


def double(row: list[dict], rng: random.Random) -> None:
    row.insert(rng.randrange(len(row) + 1), copy.deepcopy(rng.choice(row)))


def shuffle(row: list[dict], rng: random.Random) -> None:
    rng.shuffle(row)


def move(row: list[dict], rng: random.Random) -> None:
    row.insert(rng.randrange(len(row)), row.pop(rng.randrange(len(row))))


def retype(row: list[dict], rng: random.Random) -> None:
    cell = rng.choice(row)
    cell["cell_type"] = rng.choice(("code", "markdown", "raw", "heading", "", None))


def swap_texts(row: list[dict], rng: random.Random) -> None:
    one, two = rng.choice(row), rng.choice(row)
    one["source"], two["source"] = two["source"], one["source"]


def merge(row: list[dict], rng: random.Random) -> None:
    position = rng.randrange(len(row))
    for following in row[position + 1 : position + 2]:
        row[position]["source"] = f"{_text(row[position])}\n\n{_text(following)}"
        row.remove(following)


def split(row: list[dict], rng: random.Random) -> None:
    position = rng.randrange(len(row))
    lines = _text(row[position]).splitlines(keepends=True)
    half = rng.randrange(len(lines) + 1)
    twin = {**copy.deepcopy(row[position]), "source": lines[half:]}
    row[position]["source"] = lines[:half]
    row.insert(position + 1, twin)


def other_text(row: list[dict], rng: random.Random) -> None:
    rng.choice(row)["source"] = rng.choice(TEXTS)


def strip(row: list[dict], rng: random.Random) -> None:
    rng.choice(row)["metadata"] = {}


def stranger(row: list[dict], rng: random.Random) -> None:
    thing: Any = rng.choice((None, 5, "text", [], {}, {"cell_type": "code"}, {"source": "1"}, [[]]))
    row.insert(rng.randrange(len(row) + 1), thing)


def swap_metadata(row: list[dict], rng: random.Random) -> None:
    one, two = rng.choice(row), rng.choice(row)
    one["metadata"], two["metadata"] = two.get("metadata"), one.get("metadata")


def _text(cell: dict) -> str:
    return "".join(map(str, cell.get("source") or ""))


TEXTS = (
    "", " ", "\n\n", "x" * 200_000, "1 +", "raise SystemExit", "5", "100", "assert True", "%%bash\necho 1",
    "!echo 1", "%nothing", "?", "\0", "\ud800", "\t\tx = 1\n  y", "# -*- coding: latin-1 -*-\n1",
    "def double(x):\n    return", "### BEGIN SOLUTION", "### BEGIN HIDDEN TESTS\n1",
    "from __future__ import x", "import coursekit.checks", "'''", "lambda: (yield)", "return 5", "await x",
    "\\", "\u202e x = 1", None, 7, ["a = 1\n", None], {"a": 1},
)  # fmt: skip


def _row_only(change: Callable[[list[dict], random.Random], None]) -> Callable:
    """For what only objects can undergo: strangers in the row stay what they are."""

    def changed(row: list[Any], rng: random.Random) -> None:
        cells = [cell for cell in row if isinstance(cell, dict)]
        if not cells:
            return
        if change in (retype, swap_texts, other_text, strip, swap_metadata):
            for cell in cells:
                cell.setdefault("source", "")
            change(cells, rng)
        elif len(cells) == len(row):
            change(row, rng)

    return changed


ON_CELLS = [
    drop, double, shuffle, move, stranger,
    *map(_row_only, (retype, swap_texts, merge, split, other_text, strip, swap_metadata)),
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------
# Metadata


def damaged_metadata(data: bytes, rng: random.Random) -> bytes:
    notebook = json.loads(data)
    for _ in range(rng.randrange(1, 9)):
        place = _place(notebook, rng)
        key = rng.choice((*place, *KEYS)) if rng.random() < 0.8 else rng.choice(KEYS)
        if rng.random() < 0.15:
            place.pop(key, None)
        else:
            place[key] = _value(rng)
    return json.dumps(notebook).encode()


def _place(notebook: dict, rng: random.Random) -> dict:
    """Some object of the notebook, most often the nbgrader metadata of a cell."""
    cells = notebook.get("cells")
    row = [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    if not row or rng.random() < 0.1:
        return notebook
    if rng.random() < 0.1:
        return notebook["metadata"] if isinstance(notebook.get("metadata"), dict) else notebook
    cell = rng.choice(row)
    metadata = cell.get("metadata")
    if not isinstance(metadata, dict) or rng.random() < 0.2:
        return cell
    marks = metadata.get("nbgrader")
    return metadata if not isinstance(marks, dict) or rng.random() < 0.3 else marks


def _value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, or one that means something to somebody."""
    kind = rng.randrange(10)
    if kind == 0 and depth < 4:
        return {rng.choice(KEYS): _value(rng, depth + 1) for _ in range(rng.randrange(4))}
    if kind == 1 and depth < 4:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 2:
        return rng.choice((0, -1, 1, 3, 4.5, 1e308, float("nan"), float("inf"), 10**400, 2**63))
    if kind == 3:
        return rng.choice((True, False, None))
    if kind == 4:
        return rng.choice(("", "\0", "\ud800", "x" * 5000, "../../x", "<script>", "\u202e", "ä" * 200))
    return rng.choice(WORDS)


KEYS = (
    "nbgrader", "grade_id", "grade", "solution", "locked", "task", "points", "schema_version", "checksum",
    "cell_type", "tags", "id", "metadata", "source", "outputs", "execution_count", "attachments",
    "kernelspec", "language_info", "nbformat", "nbformat_minor", "cells", "worksheets", "remove_cell",
    "name", "",
)  # fmt: skip
WORDS = (
    "setup", "double", "total", "share", "test-double", "test-total", "test-share", "why", "explore", "code",
    "markdown", "raw", "skip-execution", "raises-exception", "same-process", ["same-process"],
    ["skip-execution"], "python3", "ir", {"name": "ir", "language": "R"}, {"display_name": 5},
    {"name": ["x"], "language": 3}, {"image/png": "AAAA"}, {"x.png": {"image/png": 5}},
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------
# The answers' own text


def damaged_code(data: bytes, rng: random.Random) -> bytes:
    notebook = json.loads(data)
    cell = rng.choice(
        [cell for cell in notebook["cells"] if "def " in _text(cell) or "my_notes" in _text(cell)]
    )
    lines = _text(cell).split("\n")
    for _ in range(rng.randrange(1, 4)):
        rng.choice(ON_LINES)(lines, rng)
    cell["source"] = "\n".join(lines)
    return json.dumps(notebook).encode()


def drop_line(lines: list[str], rng: random.Random) -> None:
    lines.pop(_line(lines, rng))
    lines[:] = lines or [""]


def double_line(lines: list[str], rng: random.Random) -> None:
    lines.insert(_line(lines, rng), rng.choice(lines))


def add_line(lines: list[str], rng: random.Random) -> None:
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(("", "    ", "        ")) + rng.choice(STATEMENTS))


def drop_letter(lines: list[str], rng: random.Random) -> None:
    line = _line(lines, rng)
    at = rng.randrange(len(lines[line]) + 1)
    lines[line] = lines[line][:at] + lines[line][at + 1 :]


def other_letter(lines: list[str], rng: random.Random) -> None:
    line = _line(lines, rng)
    at = rng.randrange(len(lines[line]) + 1)
    lines[line] = lines[line][:at] + rng.choice("0123456789+-*/=<>()[]:,. #'abv\t") + lines[line][at + 1 :]


def _line(lines: list[str], rng: random.Random) -> int:
    return rng.randrange(len(lines))


ON_LINES = [drop_line, double_line, add_line, drop_letter, other_letter]
STATEMENTS = (
    "return None", "return", "return True", "return 'text'", "return [1, [2]]", "return object()", "yield 1",
    "raise SystemExit", "raise KeyError('x')", "assert False", "x = undefined", "print('x' * 100)",
    "import sys, warnings; warnings.warn('x')", "values = None", "result = 0", "part = whole", "x = -x",
    "return float('nan')", "return 10**400", "return np.float32(0.5)", "return np.array([0.5])", "return 0.5",
    "return iter(values)", "total = 5", "double = share", "del share", "lambda: 0", "pass",
    "raise type('Odd', (Exception,), {})", "return complex(part, whole)", "return {1: 2}", "class A: x = 1",
    "return type('T', (), {'__eq__': lambda *a: True})()", "try:", "else:", "async def f(): pass",
    "return __name__", "return np", "return sum", "return range(6)", "return bytes(6)", "exit()",
    "global result", "return -0.0", "return lambda: 1",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------
# The class


@dataclass(frozen=True)
class Class:
    """What grading left."""

    coursedir: CourseDirectory
    result: ClassResult
    outcomes: dict[str, Outcome]
    points: dict[str, tuple[float | None, ...]]

    def notebook(self, student: str) -> NotebookNode:
        return nbformat.read(
            Path(self.coursedir.root, "autograded", student, NAME, f"{NAME}.ipynb"), as_version=4
        )


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Class:
    root = tmp_path_factory.mktemp("course")
    coursedir = make_course(root)
    valid = valid_hand_in(coursedir)
    for student in HONEST:
        hand_in(root, student, valid)
    for student, number in STUDENTS.items():
        write(root / "submitted" / student / NAME / f"{NAME}.ipynb", mutant(number, valid))
    grader = Grader(parent=None, config=coursedir.config, workers=2, seconds_per_call=5.0)
    result = grader.grade(coursedir, NAME)
    workers._shelf.clear()
    rows = gradebook_rows(coursedir)
    points = {student: automatic(row) for student, row in rows.items()}
    return Class(coursedir, result, outcomes(coursedir), points)


def oracle(notebook: NotebookNode) -> tuple[float, ...]:
    """Points of a graded notebook when all cells run in one process, one after the other, as in Jupyter."""
    names: dict[str, Any] = {}
    earned = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            mark = cell.metadata.get("nbgrader", {})
            ran, results = _run(cell.source, names)
            if mark.get("grade"):
                earned[mark.grade_id] = score(mark.points, ran, results, None, False)[0]
    return tuple(earned[name] for name in AUTOMATIC)


def _run(source: str, names: dict[str, Any]) -> tuple[bool, list[Any]]:
    """Whether a cell ran to its end, statement by statement as IPython does it, and its last line's value."""
    value = None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for statement in ast.parse(source).body:
                if isinstance(statement, ast.Expr):
                    value = eval(compile(ast.Expression(statement.value), "<cell>", "eval"), names)
                else:
                    value = exec(compile(ast.Module([statement], []), "<cell>", "exec"), names)
    except (Exception, SystemExit):
        return False, []
    return True, [] if value is None else [value]


# ---------------------------------------------------------------------------------------------------


def test_every_mutant_is_its_own():
    valid = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("my_notes = 1") for _ in range(9)])
    files = {mutant(number, valid) for number in range(60)}
    assert len(files) > 40
    assert files == {mutant(number, valid) for number in range(60)}


def test_the_class_is_graded_to_its_end(graded):
    assert (graded.result.graded, graded.result.failed) == (COUNT + len(HONEST), {})
    assert set(graded.outcomes) == set(graded.points) == {*STUDENTS, *HONEST}


@pytest.mark.parametrize("student", HONEST)
def test_an_honest_neighbour_has_everything(graded, student):
    assert graded.points[student] == FULL
    assert (graded.outcomes[student].status, graded.outcomes[student].findings) == (GRADED, ())


@pytest.mark.parametrize("student", STUDENTS)
def test_damage_earns_nothing(graded, student):
    _, most = base_of(STUDENTS[student])
    assert all(0 <= points <= limit for points, limit in zip(graded.points[student], most, strict=True))


@pytest.mark.parametrize("student", STUDENTS)
def test_points_are_what_the_answers_are_worth(graded, student):
    notebook = graded.notebook(student)
    nbformat.validate(notebook)
    with np.errstate(all="ignore"):
        assert graded.points[student] == oracle(notebook)


@pytest.mark.parametrize("student", STUDENTS)
def test_the_grader_itself_never_fails(graded, student):
    outcome = graded.outcomes[student]
    assert "grader-failed" not in {finding.kind for finding in outcome.findings}
    doubts = [x for x in outcome.findings if x.review] + [x for x in outcome.scores if x.review]
    assert (outcome.status == GRADED) == (not doubts)
    assert all(x.message.isprintable() and len(x.message) < 300 for x in outcome.findings)


def test_everybody_gets_feedback(graded):
    config = graded.coursedir.config
    done = NbGraderAPI(graded.coursedir, parent=None, config=config).generate_feedback(NAME)
    assert done["success"], done["log"]
    pages = Path(graded.coursedir.root, "feedback").glob(f"*/{NAME}/{NAME}.html")
    assert {page.parts[-3] for page in pages} == {*STUDENTS, *HONEST}
