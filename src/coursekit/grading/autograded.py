"""One hand-in's folder in `autograded`, in nbgrader's form; a file appears there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbgrader.utils import remove

from coursekit.grading.records import Outcome

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Folder", "note"]

PART = ".coursekit-part"  # ends the name of a file that is being written
NOTE = "coursekit-note"
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:@^=])")


@dataclass(frozen=True)
class Folder:
    """permissions: of files.   group_shared: whether the group may write, as nbgrader's `groupshared`."""

    path: Path
    permissions: int
    group_shared: bool = False

    def holds(self, notebook: str) -> bool:
        """Whether a graded notebook lies here."""
        return (self.path / f"{notebook}.ipynb").is_file()

    def keep_only(self, files: Collection[str]) -> None:
        """Remove what earlier grading left: files half written, and all but these, by relative path."""
        for path in list(self._files()):
            if path.relative_to(self.path).as_posix() not in files:
                remove(str(path))
        for folder, _, _ in os.walk(self.path, topdown=False):
            if not os.listdir(folder):
                os.rmdir(folder)

    def write(self, name: str, content: bytes) -> None:
        """Write a file at a relative path, in place of what is there."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._share(path.parent)
        part = path.with_name(hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16] + PART)
        part.write_bytes(content)
        part.chmod(self.permissions)
        if os.name == "nt" and path.exists():
            path.chmod(stat.S_IWRITE)  # Windows replaces no file that is read-only
        part.replace(path)

    def write_notebook(self, name: str, notebook: NotebookNode, outcome: Outcome) -> None:
        """Write a graded notebook, with a note on top if there is something to know about it."""
        remark = note(outcome)
        cells = [remark, *notebook.cells] if remark else notebook.cells
        text = nbformat.writes(nbformat.from_dict({**notebook, "cells": cells}))
        self.write(f"{name}.ipynb", text.encode("utf-8", "replace"))

    def _files(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.path):
            yield from (Path(folder, name) for name in names)

    def _share(self, folder: Path) -> None:
        while self.group_shared and folder != self.path.parent:
            folder.chmod(folder.stat().st_mode & 0o2777 | 0o2770)
            folder = folder.parent


def note(outcome: Outcome) -> NotebookNode | None:
    """A cell that says what a person should know about a graded notebook; None if there is nothing.

    Messages may quote names that a student chose: they are shown as they are, never as markup.
    """
    lines = [
        f"- {_plain(finding.message)}{' **(needs review)**' if finding.review else ''}"
        for finding in outcome.findings
    ]
    lines += [
        f"- {_plain(f'{score.cell}: {score.review}')} **(needs review)**"
        for score in outcome.scores
        if score.review
    ]
    if not lines:
        return None
    title = "**This hand-in needs review.**" if outcome.status != "graded" else "**Notes on this hand-in.**"
    cell = nbformat.v4.new_markdown_cell("\n".join([title, "", *lines]), id=NOTE)
    cell.metadata.update(deletable=False, editable=False)
    return cell


def _plain(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", escape(" ".join(text.split()), quote=False))
