"""Find an assignment's notebooks among the files of a hand-in, whatever they are called there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from nbformat import NotebookNode

from coursekit.grading.handin.findings import finding
from coursekit.grading.handin.folders import Entry, Folder, folded, listing
from coursekit.grading.handin.reading import read_notebook, shown
from coursekit.grading.handin.source import grade_ids
from coursekit.grading.records import Finding

__all__ = ["TIMESTAMP", "Search", "is_like_a_notebook"]

TIMESTAMP = "timestamp.txt"
MAX_TRIED = 20  # files of other names that are read

_ENDING = re.compile(r"\.ipynb(\.txt|\.json)?$|\.json$", re.IGNORECASE)
# Only one way to match each mark: a name of many marks would otherwise take for ever.
_COPY_MARK = re.compile(r"(?:[\s_-]*\(\d+\)|[\s_-]+copy(?:[\s_-]*\d+)?)+$", re.IGNORECASE)


def is_like_a_notebook(name: str) -> bool:
    """Whether a file's name could be a notebook's.

    >>> [name for name in ("conv (1).ipynb", "conv.ipynb.txt", "conv.py") if is_like_a_notebook(name)]
    ['conv (1).ipynb', 'conv.ipynb.txt']
    """
    return _ENDING.search(name) is not None


@dataclass(frozen=True)
class Candidate:
    """A file that may be a notebook that is looked for; it is read when that is asked for."""

    entry: Entry
    max_bytes: int

    @cached_property
    def _read(self) -> tuple[NotebookNode | None, tuple[Finding, ...]]:
        return read_notebook(self.entry.path, self.max_bytes)

    @property
    def notebook(self) -> NotebookNode | None:
        return self._read[0]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self._read[1]

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(grade_ids(self.notebook))

    @property
    def stem(self) -> str:
        """Its name without endings, marks of copies and case."""
        return folded(_COPY_MARK.sub("", _ENDING.sub("", self.entry.name)))

    @property
    def data(self) -> bool:
        """Whether it may be data of the student's: JSON by name."""
        return ".ipynb" not in self.entry.name.casefold()


class Search:
    """What was found for every notebook of an assignment.

    notebooks: by name, None where none could be read.   findings: by the same names.   used: the files
    that stand for them, read or not.
    """

    def __init__(self, folder: Folder, wanted: Mapping[str, Collection[str]], max_bytes: int):
        self.notebooks: dict[str, NotebookNode | None] = {}
        self.findings: dict[str, tuple[Finding, ...]] = {}
        self.used: dict[str, Entry] = {}
        self._folder = folder
        self._wanted = {name: frozenset(ids) for name, ids in wanted.items()}
        candidates = [
            Candidate(entry, max_bytes) for entry in folder.entries if is_like_a_notebook(entry.name)
        ]
        names = {f"{name}.ipynb" for name in wanted}
        self._right = {c.entry.name: c for c in candidates if c.entry.top and c.entry.name in names}
        others = [c for c in candidates if c not in self._right.values()]
        self._others = sorted(others, key=lambda c: (not c.entry.top, c.data))[:MAX_TRIED]
        self._run()

    def _run(self) -> None:
        for name in self._wanted:
            self.notebooks[name], self.findings[name] = self._find(name)
        if not any(self.notebooks.values()):
            # What seemed to be left out by choice needs a look if nothing at all could be read.
            for name, found in self.findings.items():
                self.findings[name] = tuple(replace(each, review=True) for each in found)

    def _find(self, name: str) -> tuple[NotebookNode | None, tuple[Finding, ...]]:
        right = self._right.get(f"{name}.ipynb")
        if right is not None and right.notebook is not None:
            self.used[name] = right.entry
            return right.notebook, (*right.findings, *self._beside(name))
        fitting = self._fitting(name)
        if not fitting:
            return None, self._nothing(name, right)
        best = max(fitting, key=lambda candidate: self._rank(candidate, name))
        self.used[name] = best.entry
        damage = right.findings if right else ()
        return best.notebook, (*damage, *best.findings, self._choice(name, right, best, fitting))

    def _fitting(self, name: str) -> list[Candidate]:
        """Readable files of another name that may be this notebook, the deeper ones only if need be."""
        free = [c for c in self._others if c.entry not in self.used.values() and c.notebook is not None]
        sole = len(self._wanted) == 1 and self._folder.home.own
        fitting = [c for c in free if sole or self._belongs(c, name)]
        return [c for c in fitting if c.entry.top] or fitting

    def _belongs(self, candidate: Candidate, name: str) -> bool:
        shares = {other: len(ids & candidate.ids) for other, ids in self._wanted.items()}
        return candidate.stem == folded(name) or 0 < shares[name] == max(shares.values())

    def _rank(self, candidate: Candidate, name: str) -> tuple[int, float, str]:
        """Most of the assignment's grade ids first, then the newest."""
        entry = candidate.entry
        return len(self._wanted[name] & candidate.ids), entry.status.st_mtime, entry.relative

    def _choice(
        self, name: str, right: Candidate | None, best: Candidate, fitting: list[Candidate]
    ) -> Finding:
        details = {"wanted": f"{name}.ipynb", "chosen": shown(best.entry.relative)}
        if right is not None:
            return finding("replaced-notebook", **details)
        if len(fitting) == 1:
            return finding("other-name", **details)
        rest = listing(candidate.entry.relative for candidate in fitting if candidate is not best)
        return finding("several-notebooks", found=rest, **details)

    def _beside(self, name: str) -> list[Finding]:
        """A note on further notebooks in a hand-in that has the right one."""
        names = [c.entry.relative for c in self._others if c.entry.top and not c.data]
        if not names or len(self._wanted) > 1 or not self._folder.home.own:
            return []
        return [finding("other-notebooks", wanted=f"{name}.ipynb", found=listing(names))]

    def _nothing(self, name: str, right: Candidate | None) -> tuple[Finding, ...]:
        """Why there is no notebook: the damage of the file that should be it, or what lies there instead."""
        if self._folder.home.broken:
            return ()
        damaged = right or self._damaged(name)
        if damaged is not None:
            self.used[name] = damaged.entry
            return damaged.findings
        wanted = f"{name}.ipynb"
        if self.used:
            return (finding("missing-notebook", wanted=wanted),)
        found = [entry.relative for entry in self._folder.entries if entry.relative != TIMESTAMP]
        if not found:
            return (finding("empty-folder", name=shown(self._folder.home.path.name), wanted=wanted),)
        return (finding("no-notebook", wanted=wanted, found=listing(found)),)

    def _damaged(self, name: str) -> Candidate | None:
        """A file of another name that is probably the notebook, though it cannot be read."""
        free = [c for c in self._others if c.entry not in self.used.values() and not c.data]
        sole = len(self._wanted) == 1 and self._folder.home.own
        return next((c for c in free if c.stem == folded(name) or sole), None)
