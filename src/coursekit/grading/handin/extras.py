"""What comes with a notebook: other files, the time of submission, and a fingerprint of everything."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import stat
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.utils import parse_utc

from coursekit.grading.handin.findings import finding
from coursekit.grading.handin.folders import MAX_ENTRIES, Entry, Folder, listing
from coursekit.grading.handin.reading import Unreadable, read_bytes, shown
from coursekit.grading.handin.search import TIMESTAMP, is_like_a_notebook
from coursekit.grading.records import MIB, Finding

__all__ = ["MAX_FILES", "MAX_FILES_BYTES", "files_beside", "fingerprint", "shadows", "timestamp"]

MAX_FILES = 500
MAX_FILES_BYTES = 64 * MIB  # of all of them
MAX_NOTES = 20  # about single files
MAX_TIMESTAMP_BYTES = 1024

_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+(\w+)", re.MULTILINE)


def files_beside(
    folder: Folder, notebooks: Collection[Entry], max_file_bytes: int
) -> tuple[dict[str, Path], list[Finding]]:
    """Regular files within the limits that are no notebooks, by relative path."""
    files, left_out, total = {}, [], 0
    others = [e for e in folder.entries if e not in notebooks and not e.name.casefold().endswith(".ipynb")]
    for entry in filter(lambda entry: entry.regular, others):
        size = entry.status.st_size
        if len(files) == MAX_FILES or size > max_file_bytes or total + size > MAX_FILES_BYTES:
            left_out.append(entry.relative)
        else:
            total += size
            files[entry.relative] = entry.path
    return files, [*_odd_kinds(others)][:MAX_NOTES] + _excess(folder, left_out)


def _odd_kinds(entries: Iterable[Entry]) -> Iterator[Finding]:
    for entry in entries:
        if not entry.regular:
            key = "link:left-out" if entry.link else "not-a-file:left-out"
            yield finding(key, name=shown(entry.relative))


def _excess(folder: Folder, left_out: list[str]) -> list[Finding]:
    if len(folder.entries) >= MAX_ENTRIES:
        left_out = [*left_out, f"what comes after {MAX_ENTRIES} names"]
    return [finding("files-left-out", found=listing(left_out))] if left_out else []


def shadows(files: Iterable[str], notebooks: Iterable[NotebookNode | None]) -> list[Finding]:
    """Notes on files and folders at the top that are called like a module that a notebook imports."""
    cells = [cell for notebook in notebooks if notebook for cell in notebook.cells]
    imported = {"coursekit", *_IMPORT.findall("\n".join(cell.source for cell in cells))}
    found: dict[str, str] = {}
    for name in files:
        top, below, _ = name.partition("/")
        module = top if below else top.removesuffix(".py")
        if module in imported and (below or top != module) and _is_installed(module):
            found.setdefault(module, top)
    return [finding("shadows-module", name=shown(top), module=module) for module, top in found.items()]


def _is_installed(module: str) -> bool:
    if module in sys.stdlib_module_names or module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def timestamp(folder: Folder) -> tuple[datetime | None, list[Finding]]:
    """When it was handed in, as nbgrader reads it, in UTC; a finding if that is written but unknown."""
    entry = next((entry for entry in folder.entries if entry.relative == TIMESTAMP), None)
    if entry is None:
        return None, []
    try:
        time = _parsed(read_bytes(entry.path, MAX_TIMESTAMP_BYTES).decode("utf-8").strip())
    except (Unreadable, ValueError):
        return None, [finding("bad-timestamp", name=TIMESTAMP)]
    if time > datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(days=1):
        return time, [finding("future-timestamp", time=f"{time:%Y-%m-%d %H:%M}")]
    return time, []


def _parsed(text: str) -> datetime:
    """ValueError for what is no time of this century; nbgrader takes "5" for the fifth of this month."""
    if not re.search(r"\d{4}", text):
        raise ValueError(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a time zone that nobody knows
            time = parse_utc(text)
    except Exception as error:  # dateutil raises whatever its arithmetic does
        raise ValueError(text) from error
    if time.year < 2000:
        raise ValueError(text)
    return time


def fingerprint(folder: Folder, files: Collection[str], max_bytes: int) -> str:
    """Hash of names and contents of everything that counts; of what is not read, its size and time."""
    total = hashlib.sha256()
    for entry in sorted(folder.entries, key=lambda entry: entry.relative):
        name = entry.relative.encode("utf-8", "surrogatepass")
        counts = entry.relative in files or entry.relative == TIMESTAMP or is_like_a_notebook(entry.name)
        total.update(f"{len(name)} ".encode() + name + _content(entry, counts, max_bytes))
    return total.hexdigest()


def _content(entry: Entry, counts: bool, max_bytes: int) -> bytes:
    if counts:
        try:
            return hashlib.sha256(read_bytes(entry.path, max_bytes)).digest()
        except Unreadable:
            pass
    status = entry.status
    return f" {stat.S_IFMT(status.st_mode)} {status.st_size} {status.st_mtime_ns} ".encode()
