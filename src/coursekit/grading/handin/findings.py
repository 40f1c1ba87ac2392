"""What can be odd about a hand-in, in the words that student and instructor read.

A kind may have several wordings: what follows the colon in a key tells them apart and is no part of it.
"""

from __future__ import annotations

from typing import Any

from coursekit.grading.records import Finding

__all__ = ["catalogue", "finding"]

_FILE_REVIEWS = {
    "archive": "{name} is an archive; unpack it and upload the notebook in it.",
    "bad-timestamp": "The time in {name} cannot be read, so whether this is late is unknown.",
    "corrupt-json": "{name} is damaged in line {line}; open it in Jupyter, save it and upload it again.",
    "corrupt-json:depth": "{name} is nested too deeply; open it in Jupyter, save it and upload it again.",
    "empty-file": "{name} is empty; save the notebook and upload it again.",
    "empty-folder": "The folder {name} is empty; upload the notebook {wanted} again.",
    "future-timestamp": "The time of submission, {time} UTC, has not come yet; check whether this is late.",
    "link": "{name} is a link to another place, which is not followed; upload the file itself.",
    "merge-conflict": "{name} holds marks of a git merge conflict; resolve it and upload it again.",
    "no-cells": "{name} holds no list of cells; open it in Jupyter, check it and upload it again.",
    "no-notebook": "There is no notebook {wanted}, only {found}; upload the notebook itself, as .ipynb.",
    "not-a-file:device": "{name} is a pipe or a device, not a file; upload the notebook itself.",
    "not-a-file:folder": "{name} is a folder; upload the notebook in it.",
    "not-a-folder": "{name} is a file, not the folder with the notebook; upload the notebook again.",
    "not-a-notebook:json": "{name} is other JSON; download the notebook as .ipynb and upload that.",
    "not-a-notebook:page": "{name} is a web page; download the notebook as .ipynb and upload that.",
    "not-a-notebook:text": "{name} holds other text; download the notebook as .ipynb and upload that.",
    "replaced-notebook": "{wanted} cannot be read; {chosen} was taken in its place.",
    "several-folders": "Of folders whose names differ only in case {name} was taken, not {found}.",
    "several-notebooks": "No notebook is called {wanted}; {chosen} holds most of it and was taken, "
    "not {found}.",
    "too-large": "{name} has {size:.0f} MiB, more than the {limit:.0f} MiB that are read; "
    "clear all outputs and upload it again.",
    "too-large:values": "{name} holds millions of numbers or lists; clear all outputs and upload it again.",
    "too-large:cells": "{name} holds {count} cells; delete what is no answer and upload it again.",
    "too-large:grew": "{name} grew while it was read; upload it again.",
    "truncated": "{name} ends in the middle, as after a broken upload; upload it again.",
    "unreadable": "{name} cannot be opened ({reason}); upload it again.",
}
_FILE_NOTES = {
    "damaged-cells": "{name} had damaged cells ({count}); what could be read was kept.",
    "damaged-notebook": "{name} does not say in which format it is; it was read as format 4.",
    "encoding": "{name} was in {encoding}; it was converted to UTF-8.",
    "extra-data": "{name} went on after the end of the notebook; the rest was left out.",
    "files-left-out": "Files that are too large or too many were left out: {found}.",
    "link:left-out": "{name} is a link to another place and was left out.",
    "missing-notebook": "The notebook {wanted} was not handed in.",
    "newer-format": "{name} is in the newer format {version}; it was read as format 4.",
    "no-folder": "The notebook lies outside of the folder {wanted}; it was taken all the same.",
    "not-a-file:left-out": "{name} is a pipe, a device or a folder, and was left out.",
    "nul-bytes": "{name} held NUL bytes, which were removed.",
    "odd-name": "The folder's name does not fit the gradebook; the student is called {student} there.",
    "old-format": "{name} is in the old format {version}; it was converted to format 4.",
    "other-folder": "The folder is called {name} instead of {wanted}; it was taken all the same.",
    "other-name": "The notebook is called {chosen} instead of {wanted}; it was taken all the same.",
    "other-notebooks": "{wanted} was taken; other notebooks beside it are ignored: {found}.",
    "shadows-module": "{name} is called like the module {module}; the module is imported, not the file.",
}
_RELEASE_REVIEWS = {
    "cell-too-long": "A cell holds {size:.1f} million characters; its text was left out.",
    "empty-notebook": "The notebook has no cells; check it and upload it again.",
    "other-notebook": "No cell of this assignment is in the notebook; upload the right one.",
    "too-many-cells": "The notebook has {count} cells; after the first {limit} only answers were kept.",
}
_RELEASE_NOTES = {
    "answer-deleted": "The answer {cell} was missing; an empty cell stands in its place.",
    "cell-changed": "The text of the cell {cell} is not as released; the released text was put back.",
    "cell-deleted": "The cell {cell} was missing and was put back.",
    "cell-duplicated": "The cell {cell} was there {count} times; one counts.",
    "cell-merged": "The answer {cell} was merged into the cell {host}; it counts all the same.",
    "cell-recovered": "The cell {cell} had lost its mark; its id, text or place told which it is.",
    "cell-retyped": "The cell {cell} had become {type}; it was turned back into {wanted}.",
    "cell-tagged": "The cell {cell} carried a tag ({tags}), which has no effect.",
    "cells-moved": "Cells stand in another order than released; tests run after what they test.",
    "kernel-changed": "The notebook was saved for another kernel; it ran with {kernel}.",
    "metadata-damaged": "nbgrader's metadata is damaged in some cells, which run as plain cells.",
    "metadata-edited": "The metadata of the cell {cell} was edited ({fields}), which has no effect.",
    "metadata-version": "Metadata of another version of nbgrader was converted.",
    "other-release": "The notebook comes from another release of the assignment than the one that is graded.",
    "unknown-grade-id": "Grade ids that this assignment does not have were removed ({count}).",
}
_TABLES = [
    (_FILE_REVIEWS, True, "file"),
    (_FILE_NOTES, False, "file"),
    (_RELEASE_REVIEWS, True, "release"),
    (_RELEASE_NOTES, False, "release"),
]
_KNOWN = {key: (text, review, stage) for table, review, stage in _TABLES for key, text in table.items()}


def catalogue() -> list[Finding]:
    """Everything that `finding` can say, with {names} in the place of details.

    >>> catalogue()[0].kind
    'archive'
    """
    return [
        Finding(key.partition(":")[0], text, review, None, stage)
        for key, (text, review, stage) in _KNOWN.items()
    ]


def finding(key: str, cell: str | None = None, **details: Any) -> Finding:
    """A finding in the words of its table, which also says whether a person must look.

    >>> finding("cell-deleted", "test-sum").message
    'The cell test-sum was missing and was put back.'
    """
    text, review, stage = _KNOWN[key]
    return Finding(key.partition(":")[0], text.format(cell=cell, **details), review, cell, stage)
