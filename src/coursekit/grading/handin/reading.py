"""Read one file that a student handed in, in whatever state it is: never a link, never more than a limit."""

from __future__ import annotations

import codecs
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from coursekit.grading.handin.findings import finding
from coursekit.grading.records import MIB, Finding

__all__ = ["MAX_BYTES", "Unreadable", "read_bytes", "read_notebook", "shown"]

MAX_BYTES = 50 * MIB
MAX_VALUES = 6_000_000  # 50 MiB of "[],[]," would fill more than a gigabyte once parsed
MAX_CELLS = 20_000  # as an object a cell takes a kilobyte or two, in a file ten bytes
MAX_TAGS = 50
MAX_DIGITS = 4000  # Python refuses to read longer integers

_MARKS = [  # the first four bytes of UTF-32 begin like UTF-16
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte-order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
]
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf", b"Rar!", b"\x1f\x8b")
_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TYPES = {"code": "code", "markdown": "markdown", "raw": "raw", "heading": "markdown", "html": "markdown"}
_FLAGS = {"grade", "solution", "locked", "task"}
_NBGRADER = _FLAGS | {"grade_id", "points", "checksum", "cell_type", "schema_version"}


class Unreadable(Exception):
    """A file from which nothing can be read: the finding that says so."""

    def __init__(self, key: str, name: str, **details: Any):
        self.finding = finding(key, name=name, **details)
        super().__init__(self.finding.message)


def shown(name: str) -> str:
    """A file's name as a message can hold it: on one line, in characters of every encoding, not too long."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"


def read_notebook(path: Path, max_bytes: int = MAX_BYTES) -> tuple[NotebookNode | None, tuple[Finding, ...]]:
    """A notebook as students left it, in the newest format, with repairs as findings; None if there is none.

    Kept is what grading needs: the text of the cells, their ids, attached images, nbgrader's metadata and
    tags.  Outputs, which may be huge or hostile, are dropped.
    """
    name = shown(path.name)
    try:
        text, repairs = _decode(read_bytes(path, max_bytes), name)
        value, extra = _parse(text, name)
        notebook, damage = _interpret(value, name)
    except Unreadable as unreadable:
        return None, (unreadable.finding,)
    return notebook, (*repairs, *extra, *damage)


# ---------------------------------------------------------------------------------------------------
# Bytes


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The contents of a regular file; Unreadable for anything else and for more than max_bytes."""
    name = shown(path.name)
    try:
        with os.fdopen(_open(path, name), "rb") as file:
            _check_kind(os.fstat(file.fileno()), name, max_bytes)
            data = file.read(max_bytes + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unreadable("unreadable", name, reason=reason) from None
    if len(data) > max_bytes:
        raise Unreadable("too-large:grew", name)
    return data


def _open(path: Path, name: str) -> int:
    """A descriptor, opened without waiting for a pipe's other end and without following a link."""
    _check_kind(path.lstat(), name)
    flags = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")  # the last is Windows', the others POSIX's
    return os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))


def _check_kind(status: os.stat_result, name: str, max_bytes: int | None = None) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Unreadable("link", name)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not-a-file:folder" if stat.S_ISDIR(status.st_mode) else "not-a-file:device", name)
    if max_bytes is not None and status.st_size > max_bytes:
        raise Unreadable("too-large", name, size=status.st_size / MIB, limit=max_bytes / MIB)


# ---------------------------------------------------------------------------------------------------
# Text


def _decode(data: bytes, name: str) -> tuple[str, list[Finding]]:
    if data.startswith(_ARCHIVES):
        raise Unreadable("archive", name)
    text, encoding = _text_of(data)
    findings = [finding("encoding", name=name, encoding=encoding)] if encoding else []
    if "\0" in text:
        text = text.replace("\0", "")
        findings.append(finding("nul-bytes", name=name))
    if not text.strip():
        raise Unreadable("empty-file", name)
    return text.strip(), findings


def _text_of(data: bytes) -> tuple[str, str | None]:
    """The text, and the name of its encoding if that is not UTF-8."""
    for mark, codec, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(codec, "replace"), encoding
    if re.match(rb"[\[{\s]\0[^\0]", data):
        return data.decode("utf-16-le", "replace"), "UTF-16"
    if re.match(rb"\0[\[{\s]\0", data):
        return data.decode("utf-16-be", "replace"), "UTF-16"
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        return data.decode("latin-1"), "an encoding other than UTF-8, read as Latin-1"


def _parse(text: str, name: str) -> tuple[Any, list[Finding]]:
    """The JSON value at the beginning, and a note if more follows."""
    if sum(map(text.count, "[{,")) > MAX_VALUES:
        raise Unreadable("too-large:values", name)
    decoder = json.JSONDecoder(parse_int=_integer, parse_constant=lambda _: None)
    try:
        value, end = decoder.raw_decode(text)
    except RecursionError:
        raise Unreadable("corrupt-json:depth", name) from None
    except json.JSONDecodeError as error:
        raise _no_json(text, name, error) from None
    if text[end:].strip():
        return value, [finding("extra-data", name=name)]
    return value, []


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= MAX_DIGITS else None


def _no_json(text: str, name: str, error: json.JSONDecodeError) -> Unreadable:
    """What a file that does not parse probably is, and what its student can do."""
    if re.search(r"^<{7}( |$)", text, re.MULTILINE) and re.search(r"^>{7}( |$)", text, re.MULTILINE):
        return Unreadable("merge-conflict", name)
    if text.startswith("<"):
        return Unreadable("not-a-notebook:page", name)
    if not text.startswith("{"):
        return Unreadable("not-a-notebook:text", name)
    if not text.endswith("}"):
        return Unreadable("truncated", name)
    return Unreadable("corrupt-json", name, line=error.lineno)


# ---------------------------------------------------------------------------------------------------
# Notebook


def _interpret(value: Any, name: str) -> tuple[NotebookNode, list[Finding]]:
    """A parsed value as a notebook of format 4.5; Unreadable if it is none."""
    if not isinstance(value, dict) or not {"cells", "worksheets", "nbformat"} & value.keys():
        raise Unreadable("not-a-notebook:json", name)
    raw = _raw_cells(value)
    if raw is None:
        raise Unreadable("no-cells", name)
    if len(raw) > MAX_CELLS:
        raise Unreadable("too-large:cells", name, count=len(raw))
    pairs = [_cell(cell) for cell in raw]
    cells = [cell for cell, _ in pairs]
    _number(cells)
    findings = [*_format_findings(value, name)]
    if damaged := sum(not sound for _, sound in pairs):
        findings.append(finding("damaged-cells", name=name, count=damaged))
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": _notebook_metadata(value), "cells": cells}
    return nbformat.from_dict(notebook), findings


def _raw_cells(value: dict) -> list | None:
    """The cells of format 4, or those of the sheets that older formats have."""
    if isinstance(value.get("cells"), list):
        return value["cells"]
    if not isinstance(value.get("worksheets"), list):
        return None
    sheets = [sheet.get("cells") for sheet in value["worksheets"] if isinstance(sheet, dict)]
    return [cell for cells in sheets if isinstance(cells, list) for cell in cells]


def _format_findings(value: dict, name: str) -> Iterable[Finding]:
    version = value.get("nbformat")
    if not isinstance(version, int) or isinstance(version, bool):
        yield finding("damaged-notebook", name=name)
    elif version < 4:
        yield finding("old-format", name=name, version=str(version)[:6])
    elif version > 4:
        yield finding("newer-format", name=name, version=str(version)[:6])


def _notebook_metadata(value: dict) -> dict[str, Any]:
    """What tells the language: kernel and language."""
    metadata = value.get("metadata")
    kept = {}
    for key in ("kernelspec", "language_info"):
        data = metadata.get(key) if isinstance(metadata, dict) else None
        if isinstance(data, dict):
            texts = {field: data.get(field) for field in ("name", "display_name", "language", "version")}
            kept[key] = {field: _clean(text)[:100] for field, text in texts.items() if isinstance(text, str)}
    return kept


def _cell(raw: Any) -> tuple[dict[str, Any], bool]:
    """A cell of format 4, and whether it was sound as it came."""
    if not isinstance(raw, dict):
        text, _ = _text(raw)
        return {"cell_type": "raw", "metadata": {}, "source": text}, False
    text, sound = _text(raw.get("source", raw.get("input")))
    cell_type = _TYPES.get(raw["cell_type"]) if isinstance(raw.get("cell_type"), str) else None
    if cell_type is None:
        sound = False
        cell_type = "code" if raw.keys() & {"outputs", "execution_count", "input"} else "markdown"
    if raw.get("cell_type") == "heading":
        text = f"{'#' * _level(raw.get('level'))} {text}"
    metadata, whole = _cell_metadata(raw.get("metadata", {}))
    cell = {"cell_type": cell_type, "metadata": metadata, "source": text}
    if isinstance(raw.get("id"), str) and _CELL_ID.fullmatch(raw["id"]):
        cell["id"] = raw["id"]
    if cell_type == "code":
        cell |= {"execution_count": None, "outputs": []}
    elif attachments := _attachments(raw.get("attachments")):
        cell["attachments"] = attachments
    return cell, sound and whole


def _level(value: Any) -> int:
    return value if isinstance(value, int) and 1 <= value <= 6 else 1


def _text(value: Any) -> tuple[str, bool]:
    """A cell's source: text, or lines of it; and whether it was that."""
    if isinstance(value, str):
        text, sound = value, True
    elif isinstance(value, list):
        lines = [line for line in value if isinstance(line, str)]
        text, sound = "".join(lines), len(lines) == len(value)
    else:
        text, sound = ("" if value is None or isinstance(value, dict) else str(value)), False
    clean = _clean(text)
    return clean, sound and clean == text


def _clean(text: str) -> str:
    """Text that can be hashed, compiled and stored: no NUL, no half of a surrogate pair."""
    text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _cell_metadata(value: Any) -> tuple[dict[str, Any], bool]:
    """What grading compares with the release: nbgrader's metadata and the tags."""
    if not isinstance(value, dict):
        return {}, False
    kept: dict[str, Any] = {}
    if "nbgrader" in value:
        kept["nbgrader"] = _grader_metadata(value["nbgrader"])
    if isinstance(value.get("tags"), list):
        kept["tags"] = [_clean(tag) for tag in value["tags"][:MAX_TAGS] if isinstance(tag, str)]
    return kept, True


def _grader_metadata(value: Any) -> dict[str, Any] | str:
    """nbgrader's fields; an empty text where it is of a wrong type, as that may be of any depth."""
    if not isinstance(value, dict):
        return ""
    return {key: _scalar(value[key]) for key in sorted(_NBGRADER & value.keys())}


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    return value if isinstance(value, int | float) else None


def _attachments(value: Any) -> dict[str, dict[str, str]]:
    """Images in a cell of text, by name and type."""
    images = {}
    for name, bundle in value.items() if isinstance(value, dict) else ():
        pictures = _images(bundle) if isinstance(bundle, Mapping) else {}
        if pictures:
            images[_clean(name)] = pictures
    return images


def _images(bundle: Mapping[str, Any]) -> dict[str, str]:
    types = ("image/png", "image/jpeg", "image/gif", "image/webp")  # an SVG may hold a script
    return {kind: text for kind in types if kind in bundle and (text := _text(bundle[kind])[0])}


def _number(cells: list[dict[str, Any]]) -> None:
    """Give every cell an id of its own; of several equal ones the first keeps it."""
    taken: set[str] = set()
    for position, cell in enumerate(cells):
        if cell.get("id") in taken or "id" not in cell:
            numbers = itertools.chain([position], itertools.count(len(cells)))
            cell["id"] = next(name for n in numbers if (name := f"handed-in-{n}") not in taken)
        taken.add(cell["id"])
