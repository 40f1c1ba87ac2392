"""Everything that goes wrong with hand-ins, as makers of hand-ins: one table for the suites that grade them.

A maker starts from a valid hand-in of any assignment that has, in this order somewhere, a locked setup cell,
two answers in code each followed by its test, and a written answer.
"""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import nbformat
from nbformat import NotebookNode

POSIX = os.name == "posix"
ORIGINAL_TIME = 1_700_000_000


@dataclass(frozen=True)
class Fault:
    """A hand-in that is not as it should be.

    lay: puts it into a student's folder, given a valid hand-in and the assignment, which has one notebook
    of its own name.   kinds: of all findings, sorted.   review: whether a person must look.   becomes:
    "whole" if every graded cell is as in the valid hand-in; "runs" if the same answers run, in other
    cells or another order; "partly" if answers are lost; "blank" if all are; "unread" if
    there is no notebook.
    """

    lay: Callable[[Path, NotebookNode, str], None]
    kinds: tuple[str, ...]
    review: bool
    becomes: str
    works_here: bool = True


FAULTS: dict[str, Fault] = {}


def _register(name: str, lay, kinds: str, becomes: str, review: bool | None, works_here: bool) -> None:
    review = becomes in ("unread", "blank") if review is None else review
    key = name.strip("_").replace("_", "-")
    assert key not in FAULTS, key
    FAULTS[key] = Fault(lay, tuple(sorted(kinds.split())), review, becomes, works_here)


def folder(kinds: str = "", becomes: str = "whole", *, review: bool | None = None, works_here: bool = True):
    """Decorate what lays a hand-in into a student's folder by itself."""

    def decorate(make):
        _register(make.__name__, make, kinds, becomes, review, works_here)
        return make

    return decorate


def file(kinds: str = "", becomes: str = "whole", *, review: bool | None = None):
    """Decorate what changes the bytes of the notebook's file."""

    def decorate(make):
        def lay(home: Path, notebook: NotebookNode, name: str) -> None:
            write(home / name / f"{name}.ipynb", make(as_bytes(notebook)))

        _register(make.__name__, lay, kinds, becomes, review, True)
        return make

    return decorate


def values(kinds: str = "", becomes: str = "whole", *, review: bool | None = None):
    """Decorate what changes the notebook's JSON values in place, or returns others."""

    def decorate(make):
        def change(data: bytes) -> bytes:
            value = json.loads(data)
            for cell in value["cells"]:
                cell["source"] = "".join(cell["source"])
            changed = make(value)
            return json.dumps(value if changed is None else changed).encode()

        change.__name__ = make.__name__
        file(kinds, becomes, review=review)(change)
        return make

    return decorate


def cells(kinds: str = "", becomes: str = "whole", *, review: bool | None = None):
    """Decorate what changes the list of cells in place, or returns another."""

    def decorate(make):
        def change(value: dict) -> None:
            changed = make(value["cells"])
            value["cells"] = value["cells"] if changed is None else changed

        change.__name__ = make.__name__
        values(kinds, becomes, review=review)(change)
        return make

    return decorate


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def as_bytes(notebook: NotebookNode) -> bytes:
    return nbformat.writes(notebook).encode()


def grader(cell: dict) -> dict:
    data = cell["metadata"].get("nbgrader", {})
    return data if isinstance(data, dict) else {}


def _positions(row: list[dict], wanted: Callable[[dict, dict], bool]) -> list[int]:
    return [i for i, cell in enumerate(row) if grader(cell) and wanted(cell, grader(cell))]


def answers(row: list[dict]) -> list[int]:
    return _positions(row, lambda cell, g: cell["cell_type"] == "code" and g["solution"] and not g["grade"])


def checks(row: list[dict]) -> list[int]:
    return _positions(row, lambda cell, g: cell["cell_type"] == "code" and g["grade"] and not g["solution"])


def written(row: list[dict]) -> list[int]:
    return _positions(row, lambda cell, g: cell["cell_type"] == "markdown" and g["solution"])


def tasks(row: list[dict]) -> list[int]:
    return _positions(row, lambda cell, g: g.get("task", False))


def setup(row: list[dict]) -> int:
    return _positions(row, lambda cell, g: cell["cell_type"] == "code" and g["locked"] and not g["grade"])[0]


def own(row: list[dict]) -> dict:
    """The student's own cell, which every valid hand-in has."""
    return next(cell for cell in row if "my_notes" in cell["source"])


def as_source(row: list[dict], source: str) -> None:
    row.append({"cell_type": "code", "id": "added", "metadata": {}, "source": source, "outputs": []})


# ---------------------------------------------------------------------------------------------------
# The file's bytes


@file("corrupt-json", "unread")
def corrupt_json(data: bytes) -> bytes:
    return data.replace(b'"cell_type":', b'"cell_type"', 1)


@file("truncated", "unread")
def truncated_json(data: bytes) -> bytes:
    return data[: len(data) // 2].rstrip(b"}\n ")


@file("truncated", "unread")
def one_byte(data: bytes) -> bytes:
    return data[:1]


@file("empty-file", "unread")
def empty_file(data: bytes) -> bytes:
    return b""


@file("empty-file", "unread")
def white_space_only(data: bytes) -> bytes:
    return b"\n \r\n\t"


@file("empty-file", "unread")
def nul_bytes_only(data: bytes) -> bytes:
    return bytes(4096)


@file("nul-bytes")
def nul_bytes_at_the_end(data: bytes) -> bytes:
    return data + bytes(512)


@file("encoding")
def byte_order_mark(data: bytes) -> bytes:
    return b"\xef\xbb\xbf" + data


@file("encoding")
def utf_16(data: bytes) -> bytes:
    return data.decode().encode("utf-16")


@file("encoding")
def utf_16_without_mark(data: bytes) -> bytes:
    return data.decode().encode("utf-16-le")


@file("encoding")
def utf_16_big_endian_without_mark(data: bytes) -> bytes:
    return data.decode().encode("utf-16-be")


@file("encoding")
def utf_32(data: bytes) -> bytes:
    return data.decode().encode("utf-32")


@file("encoding")
def latin_1(data: bytes) -> bytes:
    value = json.loads(data)
    as_source(value["cells"], "# für später")
    text = json.dumps(value).replace("\\u00fc", "ü").replace("\\u00e4", "ä")
    return text.encode("latin-1")


@file("not-a-notebook", "unread")
def json_list(data: bytes) -> bytes:
    return b"[1, 2, 3]"


@file("not-a-notebook", "unread")
def json_number(data: bytes) -> bytes:
    return b"42"


@file("not-a-notebook", "unread")
def json_null(data: bytes) -> bytes:
    return b"null"


@file("not-a-notebook", "unread")
def json_empty_object(data: bytes) -> bytes:
    return b"{}"


@file("not-a-notebook", "unread")
def json_of_something_else(data: bytes) -> bytes:
    return b'{"name": "Ada", "points": 12}'


@file("not-a-notebook", "unread")
def random_bytes(data: bytes) -> bytes:
    return bytes(range(1, 256)) * 4


@file("not-a-notebook", "unread")
def web_page(data: bytes) -> bytes:
    return b"<!DOCTYPE html>\n<html><body><script>alert(1)</script></body></html>"


@file("not-a-notebook", "unread")
def python_file(data: bytes) -> bytes:
    return b"#!/usr/bin/env python\n\nimport numpy as np\n"


@file("not-a-notebook", "unread")
def pdf(data: bytes) -> bytes:
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"


@file("not-a-notebook", "unread")
def git_lfs_pointer(data: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


@file("archive", "unread")
def zip_archive(data: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("conv.ipynb", data)
    return archive.getvalue()


@file("archive", "unread")
def gzip_archive(data: bytes) -> bytes:
    return b"\x1f\x8b\x08\x00" + bytes(20)


@file("merge-conflict", "unread")
def merge_conflict(data: bytes) -> bytes:
    line = data.index(b"\n  {")
    ours, theirs = b"\n<<<<<<< HEAD\n", b"\n=======\n  {},\n>>>>>>> main\n"
    return data[:line] + ours + data[line + 1 : line + 5] + theirs + data[line + 1 :]


@file("extra-data")
def written_over_a_longer_file(data: bytes) -> bytes:
    return data + b'": []}\n ],\n "nbformat": 4\n}\n'


@file("extra-data")
def notebook_twice(data: bytes) -> bytes:
    return data + data


@file("corrupt-json", "unread")
def nested_too_deeply(data: bytes) -> bytes:
    return b'{"nbformat": 4, "cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@file("too-large", "unread")
def millions_of_lists(data: bytes) -> bytes:
    return b'{"nbformat": 4, "cells": [' + b"[]," * 4_100_000 + b"[]]}"


@file("too-large", "unread")
def a_hundred_thousand_cells(data: bytes) -> bytes:
    return b'{"nbformat": 4, "cells": [' + b"{}," * 100_000 + b"{}]}"


# ---------------------------------------------------------------------------------------------------
# JSON values


@values("old-format")
def format_3(value: dict) -> dict:
    return _old_format(value, 3)


@values("old-format cell-recovered")
def format_2(value: dict) -> dict:
    # It knew no metadata of cells; only one cell of a kind is left unrecognised here.
    old = _old_format(value, 3)
    del old["worksheets"][0]["cells"][answers(value["cells"])[0]]["metadata"]
    return {**old, "nbformat": 2}


def _old_format(value: dict, version: int) -> dict:
    for cell in value["cells"]:
        cell.pop("id", None)
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
            cell["prompt_number"] = cell.pop("execution_count", None)
            cell |= {"collapsed": False, "language": "python"}
    sheet = {"cells": value["cells"], "metadata": {}}
    return {"metadata": {"name": ""}, "nbformat": version, "nbformat_minor": 0, "worksheets": [sheet]}


@values("newer-format")
def format_5(value: dict) -> None:
    value["nbformat"] = 5


@values("newer-format")
def format_of_a_thousand_digits(value: dict) -> None:
    value["nbformat"] = 10**1000


@values("damaged-notebook")
def format_missing(value: dict) -> None:
    del value["nbformat"]


@values("damaged-notebook")
def format_as_text(value: dict) -> None:
    value["nbformat"] = "4.5"


@values("no-cells", "unread")
def cells_missing(value: dict) -> None:
    del value["cells"]


@values("no-cells", "unread")
def cells_null(value: dict) -> None:
    value["cells"] = None


@values("no-cells", "unread")
def cells_object(value: dict) -> None:
    value["cells"] = {"0": {}}


@values()
def notebook_metadata_null(value: dict) -> None:
    value["metadata"] = None


@values()
def numbers_that_json_does_not_have(value: dict) -> None:
    value["metadata"] |= {"loss": float("nan"), "best": float("inf")}


@file()
def integer_of_5000_digits(data: bytes) -> bytes:
    return data.replace(b'"execution_count": null', b'"execution_count": ' + b"7" * 5000, 1)


@values()
def deep_metadata(value: dict) -> None:
    deep: dict = {}
    for _ in range(400):
        deep = {"more": deep}
    value["metadata"]["widgets"] = own(value["cells"])["metadata"]["deep"] = deep


@values()
def enormous_outputs(value: dict) -> None:
    own(value["cells"])["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 10_000_000}]


@values("kernel-changed")
def kernel_of_r(value: dict) -> None:
    value["metadata"]["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}


@values("kernel-changed")
def kernel_of_julia(value: dict) -> None:
    value["metadata"]["kernelspec"] = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}


@values("kernel-changed")
def kernel_of_python_2(value: dict) -> None:
    value["metadata"]["kernelspec"] = {"name": "python2", "display_name": "Python 2", "language": "python"}


@values()
def kernel_of_another_name(value: dict) -> None:
    value["metadata"]["kernelspec"] = {"name": "my-env", "display_name": "my env", "language": "python"}


@values()
def kernel_missing(value: dict) -> None:
    value["metadata"] = {}


@values()
def kernel_as_text(value: dict) -> None:
    value["metadata"]["kernelspec"] = "python3"


# ---- Damaged cells


@cells("damaged-cells")
def source_null(row: list[dict]) -> None:
    own(row)["source"] = None


@cells("damaged-cells")
def source_number(row: list[dict]) -> None:
    own(row)["source"] = 12


@cells("damaged-cells")
def source_object(row: list[dict]) -> None:
    own(row)["source"] = {"text": ["x"]}


@cells("damaged-cells")
def source_missing(row: list[dict]) -> None:
    del own(row)["source"]


@cells("damaged-cells")
def source_list_with_numbers(row: list[dict]) -> None:
    row[answers(row)[0]]["source"] = [row[answers(row)[0]]["source"], 3]


@cells("damaged-cells")
def half_a_surrogate_pair(row: list[dict]) -> None:
    own(row)["source"] = "print('\ud83d')"


@cells("damaged-cells")
def nul_in_source(row: list[dict]) -> None:
    row[answers(row)[0]]["source"] += "\0"


@cells("damaged-cells")
def cell_that_is_text(row: list[dict]) -> None:
    row.insert(0, "print('hello')")


@cells("damaged-cells")
def cell_that_is_null(row: list[dict]) -> None:
    row.append(None)


@cells("damaged-cells")
def cell_type_unknown(row: list[dict]) -> None:
    own(row)["cell_type"] = "sql"


@cells("damaged-cells")
def cell_type_missing(row: list[dict]) -> None:
    del row[answers(row)[0]]["cell_type"]


@cells("damaged-cells")
def own_metadata_null(row: list[dict]) -> None:
    own(row)["metadata"] = None


@cells("damaged-cells cell-recovered")
def answer_metadata_list(row: list[dict]) -> None:
    row[answers(row)[0]]["metadata"] = ["nbgrader"]


@cells()
def outputs_missing(row: list[dict]) -> None:
    for cell in row:
        cell.pop("outputs", None)


@cells()
def outputs_number(row: list[dict]) -> None:
    own(row)["outputs"] = 7


@cells()
def cell_ids_equal(row: list[dict]) -> None:
    for cell in row:
        cell["id"] = "same"


@cells()
def cell_ids_missing(row: list[dict]) -> None:
    for cell in row:
        del cell["id"]


@cells()
def cell_ids_invalid(row: list[dict]) -> None:
    for cell in row:
        cell["id"] = "not valid/" * 20


@cells()
def cell_ids_numbers(row: list[dict]) -> None:
    for number, cell in enumerate(row):
        cell["id"] = number


# ---------------------------------------------------------------------------------------------------
# Cells: deleted, moved, doubled, edited


@cells("empty-notebook", "blank")
def everything_deleted(row: list[dict]) -> list[dict]:
    return []


@cells("cell-deleted")
def test_deleted(row: list[dict]) -> None:
    del row[checks(row)[1]]


@cells("cell-deleted cell-deleted")
def first_and_last_test_deleted(row: list[dict]) -> None:
    del row[checks(row)[-1]], row[checks(row)[0]]


@cells("cell-deleted")
def setup_deleted(row: list[dict]) -> None:
    del row[setup(row)]


@cells("cell-deleted")
def task_deleted(row: list[dict]) -> None:
    del row[tasks(row)[0]]


@cells("answer-deleted", "partly")
def answer_deleted(row: list[dict]) -> None:
    del row[answers(row)[0]]


@cells("answer-deleted", "partly")
def written_answer_deleted(row: list[dict]) -> None:
    del row[written(row)[0]]


@cells("cell-recovered")
def answer_without_mark(row: list[dict]) -> None:
    row[answers(row)[0]]["metadata"] = {}


@cells("cell-recovered")
def answer_pasted_into_a_new_cell(row: list[dict]) -> None:
    row[answers(row)[0]] |= {"metadata": {}, "id": "fresh"}


@cells("cell-recovered")
def written_answer_in_a_new_cell(row: list[dict]) -> None:
    row[written(row)[0]] |= {"metadata": {}, "id": "fresh"}


@cells("cell-recovered")
def test_without_mark(row: list[dict]) -> None:
    row[checks(row)[0]] |= {"metadata": {}, "id": "fresh"}


@cells("cell-recovered")
def grade_id_renamed(row: list[dict]) -> None:
    grader(row[answers(row)[0]])["grade_id"] = "my-answer"


@cells("cell-recovered")
def grade_id_number(row: list[dict]) -> None:
    grader(row[answers(row)[0]])["grade_id"] = 17


@cells("cell-recovered")
def grader_metadata_text(row: list[dict]) -> None:
    row[answers(row)[0]]["metadata"]["nbgrader"] = "gone"


@cells("metadata-damaged")
def grader_metadata_list(row: list[dict]) -> None:
    own(row)["metadata"]["nbgrader"] = [1, [2]]


@cells("unknown-grade-id")
def unknown_grade_id(row: list[dict]) -> None:
    data = {"grade": True, "solution": False, "locked": False, "grade_id": "bonus", "points": 100}
    own(row)["metadata"]["nbgrader"] = {**data, "schema_version": 3, "task": False}


@cells("cell-recovered cell-recovered")
def grade_ids_swapped(row: list[dict]) -> None:
    one, two = (grader(row[position]) for position in answers(row)[:2])
    one["grade_id"], two["grade_id"] = two["grade_id"], one["grade_id"]


@cells("cell-duplicated")
def answer_doubled(row: list[dict]) -> None:
    _double(row, answers(row)[0])


def _double(row: list[dict], position: int) -> dict:
    twin = copy.deepcopy(row[position]) | {"id": "twin"}
    row.insert(position + 1, twin)
    return twin


@cells("cell-duplicated")
def test_doubled(row: list[dict]) -> None:
    _double(row, checks(row)[0])


@cells("cell-duplicated")
def test_doubled_and_edited(row: list[dict]) -> None:
    _double(row, checks(row)[0])["source"] = "100"


@cells("cell-duplicated", "runs")
def answer_split(row: list[dict]) -> None:
    position = answers(row)[0]
    twin = _double(row, position)
    row[position]["source"] = "import math\n\nHALF = math.sqrt(0.25)"
    twin["source"] = f"assert HALF == 0.5\n{twin['source']}"


@cells("cell-changed cell-merged")
def answer_merged_into_setup(row: list[dict]) -> None:
    position = answers(row)[0]
    row[setup(row)]["source"] += "\n\n" + row[position]["source"]
    del row[position]


@cells("cell-changed cell-merged")
def answer_merged_into_its_test(row: list[dict]) -> None:
    position = answers(row)[0]
    row[position + 1]["source"] = row[position]["source"] + "\n\n" + row[position + 1]["source"]
    del row[position]


@cells("cell-merged", "runs")
def answers_merged(row: list[dict]) -> None:
    one, two = answers(row)[:2]
    row[one]["source"] += "\n\n" + row[two]["source"]
    del row[two]


@cells("cell-retyped")
def answer_turned_into_markdown(row: list[dict]) -> None:
    _retype(row[answers(row)[0]], "markdown")


@cells("cell-retyped")
def answer_turned_into_raw(row: list[dict]) -> None:
    _retype(row[answers(row)[0]], "raw")


@cells("cell-retyped")
def test_turned_into_raw(row: list[dict]) -> None:
    _retype(row[checks(row)[0]], "raw")


@cells("cell-retyped")
def written_answer_turned_into_code(row: list[dict]) -> None:
    _retype(row[written(row)[0]], "code")


def _retype(cell: dict, cell_type: str) -> None:
    cell["cell_type"] = cell_type
    cell.pop("outputs", None)
    cell.pop("execution_count", None)


@cells("cell-changed")
def test_edited(row: list[dict]) -> None:
    row[checks(row)[0]]["source"] = "assert True"


@cells("cell-changed")
def setup_edited(row: list[dict]) -> None:
    row[setup(row)]["source"] += "\nimport antigravity"


@cells("cell-changed")
def answer_written_into_the_task(row: list[dict]) -> None:
    row[tasks(row)[0]]["source"] += "\n\nMy answer is 42."


@cells("metadata-edited")
def answer_locked(row: list[dict]) -> None:
    grader(row[answers(row)[0]]).update(locked=True, solution=False)


@cells("metadata-edited")
def test_declared_an_answer(row: list[dict]) -> None:
    grader(row[checks(row)[0]]).update(locked=False, solution=True)


@cells("metadata-edited")
def test_not_graded(row: list[dict]) -> None:
    grader(row[checks(row)[0]])["grade"] = False


@cells("metadata-edited")
def points_raised(row: list[dict]) -> None:
    grader(row[checks(row)[0]])["points"] = 1e9


@cells("metadata-edited")
def points_as_text(row: list[dict]) -> None:
    grader(row[checks(row)[0]])["points"] = "many"


@cells("metadata-edited")
def checksum_edited(row: list[dict]) -> None:
    grader(row[written(row)[0]])["checksum"] = "0" * 32


@cells("metadata-version")
def metadata_of_version_1(row: list[dict]) -> None:
    for cell in row:
        if data := grader(cell):
            data["schema_version"] = 1
            del data["cell_type"], data["task"]


@cells("metadata-version")
def metadata_of_version_2(row: list[dict]) -> None:
    for cell in row:
        if data := grader(cell):
            data["schema_version"] = 2
            del data["task"]


@cells("metadata-version")
def metadata_of_version_4(row: list[dict]) -> None:
    for cell in row:
        if data := grader(cell):
            data |= {"schema_version": 4, "rubric": {"a": 1}}


@cells("cell-tagged")
def test_tagged_to_be_skipped(row: list[dict]) -> None:
    row[checks(row)[0]]["metadata"]["tags"] = ["skip-execution", "important"]


@cells("cell-tagged")
def answer_tagged_to_raise(row: list[dict]) -> None:
    row[answers(row)[0]]["metadata"]["tags"] = ["raises-exception"]


@cells()
def tags_that_are_none(row: list[dict]) -> None:
    row[checks(row)[0]]["metadata"]["tags"] = {"skip-execution": True}


@cells("cells-moved")
def tests_moved_to_the_top(row: list[dict]) -> list[dict]:
    moved = checks(row)
    return [row[i] for i in moved] + [cell for i, cell in enumerate(row) if i not in moved]


@cells("cells-moved")
def setup_moved_to_the_end(row: list[dict]) -> None:
    row.append(row.pop(setup(row)))


@cells("cells-moved", "runs")
def answers_moved(row: list[dict]) -> None:
    one, two = answers(row)[:2]
    row[one], row[two] = row[two], row[one]


@cells("cells-moved", "runs")
def order_reversed(row: list[dict]) -> list[dict]:
    return row[::-1]


@cells("too-many-cells", review=True)
def ten_thousand_cells(row: list[dict]) -> None:
    row += [{"cell_type": "code", "metadata": {}, "source": f"# {n}", "outputs": []} for n in range(10_000)]


@cells("cell-too-long", review=True)
def cell_of_five_megabytes(row: list[dict]) -> None:
    own(row)["source"] = "# " + "x" * 5_000_000


@cells("cell-too-long", "partly", review=True)
def answer_of_five_megabytes(row: list[dict]) -> None:
    row[answers(row)[0]]["source"] += "\n#" + "x" * 5_000_000


@cells("other-notebook", "blank")
def notebook_of_another_assignment(row: list[dict]) -> list[dict]:
    for position, cell in enumerate(row):
        cell["id"], cell["source"] = f"other-{position}", f"# other {position}"
        if grader(cell):
            grader(cell)["grade_id"] = f"other-{position}"
    return row


# ---------------------------------------------------------------------------------------------------
# Names, folders, links


def _named(file_name: str, kinds: str, works_here: bool = True) -> None:
    def lay(home: Path, notebook: NotebookNode, name: str) -> None:
        write(home / name / file_name.format(name=name, Name=name.capitalize()), as_bytes(notebook))

    key = "named " + file_name.format(name="conv", Name="Conv").encode("unicode_escape").decode()[:30]
    _register(key, lay, kinds, "whole", None, works_here)


for _name in (
    "{name} (1).ipynb",
    "{name}-Copy1.ipynb",
    "my_homework.ipynb",
    "{name}.ipynb.txt",
    "{name}.json",
):
    _named(_name, "other-name")
_named("{Name}.ipynb", "other-name", works_here=POSIX)
_named("{name}.IPYNB", "other-name", works_here=POSIX)
_named("{name}\n.ipynb", "other-name", works_here=POSIX)
_named("\u202e\U0001f4d3 la\u0301.ipynb", "other-name", works_here=POSIX)
_named("x" * 240 + ".ipynb", "other-name", works_here=POSIX)
_named("-copy-" * 40 + "x.ipynb", "other-name")


@folder("other-notebooks")
def right_name_and_others(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook))
    write(home / name / f"{name} (1).ipynb", b"{}")
    write(home / name / "scratch.ipynb", b"")


@folder("several-notebooks", review=True)
def several_wrong_names(home: Path, notebook: NotebookNode, name: str) -> None:
    old = copy.deepcopy(notebook)
    old.cells = old.cells[:3]
    _aged(write(home / name / "a.ipynb", as_bytes(notebook)), 0)
    _aged(write(home / name / "b.ipynb", as_bytes(old)), 60)


@folder("several-notebooks", review=True)
def several_wrong_names_of_equal_content(home: Path, notebook: NotebookNode, name: str) -> None:
    old = copy.deepcopy(notebook)
    old.cells[answers(old.cells)[0]].source = "pass"
    _aged(write(home / name / "z.ipynb", as_bytes(old)), 0)
    _aged(write(home / name / "a.ipynb", as_bytes(notebook)), 60)


def _aged(path: Path, seconds: float) -> None:
    os.utime(path, (ORIGINAL_TIME + seconds, ORIGINAL_TIME + seconds))


@folder("replaced-notebook truncated", review=True)
def broken_upload_and_a_copy(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook)[:100])
    write(home / name / f"{name} (1).ipynb", as_bytes(notebook))


@folder("empty-folder", "unread")
def empty_folder(home: Path, notebook: NotebookNode, name: str) -> None:
    (home / name).mkdir(parents=True)


@folder("empty-folder", "unread")
def checkpoints_only(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / ".ipynb_checkpoints" / f"{name}-checkpoint.ipynb", as_bytes(notebook))


@folder("no-notebook", "unread")
def export_only(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.py", "import numpy as np")


@folder("no-notebook", "unread")
def archive_only(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.zip", zip_archive(as_bytes(notebook)))


@folder("no-notebook", "unread")
def data_only(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / "data.json", "[1, 2]")


@folder("truncated", "unread")
def broken_upload_of_another_name(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name} (1).ipynb", as_bytes(notebook)[:100])


@folder("other-folder", works_here=POSIX)
def folder_in_capitals(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name.upper() / f"{name}.ipynb", as_bytes(notebook))


@folder("other-folder several-folders", review=True, works_here=POSIX)
def folders_that_differ_in_case(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name.upper() / f"{name}.ipynb", as_bytes(notebook))
    write(home / name.capitalize() / f"{name}.ipynb", b"{}")


@folder("other-name")
def folder_in_the_folder(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / name / f"{name}.ipynb", as_bytes(notebook))


@folder("no-folder")
def no_folder(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / f"{name}.ipynb", as_bytes(notebook))


@folder("no-folder truncated", "unread")
def no_folder_and_a_broken_upload(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / f"{name} (1).ipynb", as_bytes(notebook)[:100])


@folder("not-a-folder", "unread")
def file_in_place_of_the_folder(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name, as_bytes(notebook))


@folder("not-a-file", "unread")
def folder_in_place_of_the_notebook(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb" / "inside.txt", "x")


@folder("link", "unread", works_here=POSIX)
def link_to_the_gradebook(home: Path, notebook: NotebookNode, name: str) -> None:
    gradebook = write(home.parents[1] / "gradebook.db", as_bytes(notebook))
    _link(home / name / f"{name}.ipynb", gradebook)


@folder("link", "unread", works_here=POSIX)
def link_to_nothing(home: Path, notebook: NotebookNode, name: str) -> None:
    _link(home / name / f"{name}.ipynb", home / "nowhere")


@folder("link", "unread", works_here=POSIX)
def link_to_itself(home: Path, notebook: NotebookNode, name: str) -> None:
    _link(home / name / f"{name}.ipynb", Path(f"{name}.ipynb"))


@folder("link", "unread", works_here=POSIX)
def link_to_an_endless_device(home: Path, notebook: NotebookNode, name: str) -> None:
    _link(home / name / f"{name}.ipynb", Path("/dev/zero"))


@folder("link", "unread", works_here=POSIX)
def link_in_place_of_the_folder(home: Path, notebook: NotebookNode, name: str) -> None:
    other = write(home.parents[1] / "elsewhere" / f"{name}.ipynb", as_bytes(notebook))
    _link(home / name, other.parent)


@folder("link", "unread", works_here=POSIX)
def link_in_place_of_the_student(home: Path, notebook: NotebookNode, name: str) -> None:
    other = write(home.parents[1] / "elsewhere" / name / f"{name}.ipynb", as_bytes(notebook))
    _link(home, other.parents[1])


@folder("link", works_here=POSIX)
def link_beside_the_notebook(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook))
    _link(home / name / "data.csv", write(home.parents[1] / "gradebook.db", b"secret"))


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@folder()
def hard_link(home: Path, notebook: NotebookNode, name: str) -> None:
    other = write(home.parents[1] / "original.ipynb", as_bytes(notebook))
    (home / name).mkdir(parents=True)
    os.link(other, home / name / f"{name}.ipynb")


@folder("not-a-file", "unread", works_here=POSIX)
def pipe_in_place_of_the_notebook(home: Path, notebook: NotebookNode, name: str) -> None:
    (home / name).mkdir(parents=True)
    os.mkfifo(home / name / f"{name}.ipynb")


@folder("not-a-file", works_here=POSIX)
def pipe_beside_the_notebook(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook))
    os.mkfifo(home / name / "data.json")


@folder("too-large", "unread")
def file_of_sixty_megabytes(home: Path, notebook: NotebookNode, name: str) -> None:
    with write(home / name / f"{name}.ipynb", b"{").open("r+b") as file:
        file.truncate(60 * 2**20)  # without blocks on disk


@folder("files-left-out")
def data_of_eighty_megabytes(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook))
    with write(home / name / "weights.bin", b"").open("r+b") as file:
        file.truncate(80 * 2**20)


@folder("files-left-out")
def six_hundred_files(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook))
    for number in range(600):
        write(home / name / "cache" / f"{number}.txt", b"x")


@folder("shadows-module")
def file_that_shadows_coursekit(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook))
    write(home / name / "coursekit.py", "checks = None")


@folder("shadows-module")
def folder_that_shadows_numpy(home: Path, notebook: NotebookNode, name: str) -> None:
    write(home / name / f"{name}.ipynb", as_bytes(notebook))
    write(home / name / "numpy" / "__init__.py", "allclose = lambda *a: True")


# ---- Time of submission


def _timed(key: str, kinds: str, text: bytes, review: bool) -> None:
    def lay(home: Path, notebook: NotebookNode, name: str) -> None:
        write(home / name / f"{name}.ipynb", as_bytes(notebook))
        write(home / name / "timestamp.txt", text)

    _register(f"timestamp {key}", lay, kinds, "whole", review, True)


_timed("garbage", "bad-timestamp", b"yesterday, sort of", True)
_timed("empty", "bad-timestamp", b"", True)
_timed("binary", "bad-timestamp", bytes(range(256)), True)
_timed("huge", "bad-timestamp", b"2024-01-01 12:00:00 UTC" + b" " * 10_000_000, True)
_timed("number", "bad-timestamp", b"5", True)
_timed("of digits", "bad-timestamp", b"9" * 400, True)
_timed("of 1970", "bad-timestamp", b"1970-01-01 00:00:00 UTC", True)
_timed("with an impossible zone", "bad-timestamp", b"2024-01-01 12:00:00 99999999999999", True)
_FUTURE = datetime.now(timezone.utc) + timedelta(days=400)
_timed("of the future", "future-timestamp", f"{_FUTURE:%Y-%m-%d %H:%M:%S} UTC".encode(), True)
_timed("as nbgrader writes it", "", b"2024-01-31 23:59:30.123456 UTC", False)
