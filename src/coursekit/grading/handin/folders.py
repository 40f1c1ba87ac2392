"""Where hand-ins lie in the `submitted` folder, and what lies in one: names and kinds, nothing opened."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nbgrader.utils import full_split

from coursekit.grading.handin.findings import finding
from coursekit.grading.handin.reading import shown
from coursekit.grading.records import Finding

if TYPE_CHECKING:
    from nbgrader.coursedir import CourseDirectory

__all__ = ["MAX_ENTRIES", "Entry", "Folder", "Home", "folded", "homes", "listing", "walked"]

MAX_ENTRIES = 5000  # names that are looked at in one hand-in
MAX_NAME = 128  # characters of a student's name in the gradebook

_LEFT_BY_SYSTEMS = ("__MACOSX", ".*", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Home:
    """Where a student's hand-in lies.

    own: whether the folder is the assignment's; else it is the student's and may hold other assignments.
    broken: why it cannot be entered.
    """

    student: str
    path: Path
    own: bool = True
    broken: Finding | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A file, or whatever else lies where a file could lie.   relative: with slashes."""

    relative: str
    path: Path
    status: os.stat_result

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def top(self) -> bool:
        """Whether it lies in the folder itself, not deeper."""
        return "/" not in self.relative

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)


@dataclass(frozen=True)
class Folder:
    """What lies in a hand-in, and what was odd on the way through it."""

    home: Home
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def homes(coursedir: CourseDirectory, assignment: str) -> Iterator[Home]:
    """Folders that fit nbgrader's directory structure, in the order of their names.

    A link in place of a student's or an assignment's folder is a broken home.
    """
    structure = coursedir.directory_structure.replace("{nbgrader_step}", coursedir.submitted_directory)
    found = [Home("", Path(coursedir.root))]
    for part in full_split(structure):
        found = [below for home in found for below in _below(home, part, assignment, coursedir.ignore)]
    for home in found:
        name = _student_name(home.student)
        odd = (finding("odd-name", student=name),) if name != home.student else ()
        yield Home(name, home.path, home.own, home.broken, (*home.findings, *odd))


def walked(home: Home, ignore: Collection[str]) -> Folder:
    """Everything in a hand-in and below it, about MAX_ENTRIES names at most; no link is followed."""
    folder = Folder(home)
    waiting = [] if home.broken else [(home.path, "")]
    while waiting and len(folder.entries) < MAX_ENTRIES:
        path, prefix = waiting.pop(0)
        entries, error = _listed(path)
        folder.findings.extend([error] if error else [])
        for entry in entries[:MAX_ENTRIES]:
            if _ignored(entry.name, ignore):
                continue
            if _is_folder(entry):
                # Other folders of a student's belong to other assignments.
                waiting += [(Path(entry.path), f"{prefix}{entry.name}/")] if home.own else []
            elif status := _status(entry):
                folder.entries.append(Entry(prefix + entry.name, Path(entry.path), status))
    return folder


def folded(name: str) -> str:
    """A name without what keyboards and file systems vary: case, white space at the ends, composition."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def listing(names: Iterable[str]) -> str:
    """Some names for a message."""
    names = list(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


# ---------------------------------------------------------------------------------------------------
# From the course's folder to the hand-in


def _below(home: Home, part: str, assignment: str, ignore: Collection[str]) -> Iterator[Home]:
    """The folders in a folder that fit one part of the structure."""
    name = part.replace("{assignment_id}", assignment)
    if home.broken or not home.own:
        yield home
    elif "{student_id}" in part:
        yield from _student_folders(home, name, ignore)
    elif name != part:
        yield from _assignment_folder(home, name)
    else:
        yield Home(home.student, home.path / part)


def _student_folders(home: Home, part: str, ignore: Collection[str]) -> Iterator[Home]:
    before, _, after = part.partition("{student_id}")
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL | re.IGNORECASE)
    entries, _ = _listed(home.path)
    for entry in entries:
        match = pattern.fullmatch(entry.name)
        folder = entry.is_symlink() or entry.is_dir(follow_symlinks=False)
        if match and folder and not _ignored(entry.name, ignore):
            yield Home(match[1], Path(entry.path), broken=_broken(entry), findings=home.findings)


def _assignment_folder(home: Home, wanted: str) -> Iterator[Home]:
    """The folder of that name, else one whose name differs in case, else the student's folder itself."""
    entries, error = _listed(home.path)
    if error is not None:
        yield Home(home.student, home.path, broken=error)
        return
    fits = [entry for entry in entries if entry.name == wanted]
    fits = fits or [entry for entry in entries if folded(entry.name) == folded(wanted)]
    if fits:
        notes = tuple(_naming([entry.name for entry in fits], wanted))
        yield Home(home.student, Path(fits[0].path), broken=_broken(fits[0]), findings=notes)
    elif home.student:
        yield Home(home.student, home.path, own=False)


def _naming(names: list[str], wanted: str) -> Iterator[Finding]:
    if names[0] != wanted:
        yield finding("other-folder", name=shown(names[0]), wanted=wanted)
    if len(names) > 1:
        yield finding("several-folders", name=shown(names[0]), found=listing(names[1:]))


def _broken(entry: os.DirEntry[str]) -> Finding | None:
    """Why what should be a folder cannot be entered."""
    if entry.is_symlink():
        return finding("link", name=shown(entry.name))
    return None if entry.is_dir(follow_symlinks=False) else finding("not-a-folder", name=shown(entry.name))


def _listed(folder: Path) -> tuple[list[os.DirEntry[str]], Finding | None]:
    """What lies in a folder, by name, or why it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name), None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return [], finding("unreadable", name=shown(folder.name), reason=reason)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether to look below it: a folder that is called like a notebook stands for the notebook."""
    return entry.is_dir(follow_symlinks=False) and not entry.name.endswith(".ipynb")


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:  # gone meanwhile
        return None


def _ignored(name: str, ignore: Collection[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in (*ignore, *_LEFT_BY_SYSTEMS))


def _student_name(name: str) -> str:
    """A name that the gradebook can hold: printable, not too long, and another one for every folder."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    if len(text) <= MAX_NAME:
        return text
    return f"{text[: MAX_NAME - 13]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
