"""What the notebook's names mean in the examiner's process: the instructor's, the tests', the student's."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from IPython.core.error import StdinNotImplementedError

from coursekit.grading.execution.names import BUILTINS, DYNAMIC, Instructor, bound, parse, used
from coursekit.grading.execution.pairs import CONTAINERS, ROOM, size
from coursekit.grading.execution.proxies import is_subclass, reference_of
from coursekit.grading.execution.remote import Student

_INPUT, _STDIN = builtins.input, sys.stdin
_GONE, _NOT_SENT = object(), object()


class Namespace:
    """The names of one notebook, from its first test to its last.

    classes: those of locked cells, by name.   owned: names of locked cells whose values stay what they are,
    whatever the student's code does to its own.
    """

    def __init__(self, instructor: Instructor, space: dict[str, Any]) -> None:
        self.classes: dict[str, type] = {}
        self.owned: set[str] = set()
        self._instructor, self._space = instructor, space
        self._done: set[int] = set()
        self._tools: set[str] = set()
        self._tested: set[str] = set()
        self._offered: set[str] = set()
        self._shared: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._sent: set[str] = set()
        self._before: dict[str, Any] = {}
        self._student: Student
        space["issubclass"] = lambda kind, parents: is_subclass(kind, parents, self.classes)

    def belong_to(self, student: Student) -> None:
        """Say whose names these are."""
        self._student = student

    # ---- Around a test

    def begin_test(self, name: str, source: str, visible: str) -> None:
        """Let every name in a test's text mean something: the instructor's own, else the student's."""
        names = set(used(source))
        if names & DYNAMIC:
            names |= self._student.names
        self._prepare(name, names)
        self._student.begin_test()
        binds = {name for statement in parse(visible) for name in bound(statement)}
        theirs = self._instructor.mentions | self._instructor.answers
        self._offer(binds & theirs)
        self._lend(names)
        own = {name for statement in parse(source) for name in bound(statement)} - theirs
        for name in own:  # a test's variable, whatever the student may have called so
            self._shared.pop(name, None)
        self._take(names - own)
        self._before = dict(self._space)

    def end_test(self, visible: str, later: Sequence[str]) -> None:
        """Note what a test has bound; later cells of the student's get what they use of it."""
        self._tested |= {key for key, value in self._space.items() if self._before.get(key) is not value}
        binds = {name for statement in parse(visible) for name in bound(statement)}
        self._offer((binds - self._student.names).intersection(set().union(*map(used, later))))

    def _prepare(self, name: str, names: set[str]) -> None:
        """Run the instructor's statements that the test depends on, unless they have been run."""
        for tool in self._instructor.needed(name, names, self._student.names):
            if id(tool) in self._done:
                continue
            self._done.add(id(tool))
            try:
                exec(compile(ast.Module([tool.code], []), f"<cell {name}>", "exec"), self._space)
            except Exception:  # then the name comes from the student's process, where it also failed
                continue
            names |= tool.mentions
            self._own(tool.binds - self._instructor.answers)

    def _own(self, names: set[str]) -> None:
        """Take these names for the instructor's."""
        self._tools |= names
        for name in names & self._space.keys():
            value = self._shared[name] = self._space[name]
            if isinstance(value, type) and value.__module__ == "__main__":
                self.classes[name] = value

    def _offer(self, names: set[str]) -> None:
        """From here on, the student's code finds what the test means by these names."""
        self._offered |= names

    def _lend(self, names: set[str]) -> None:
        """Let the student's code see what a test changes in values of the instructor's that it uses."""
        for name in names & self._tools & self._instructor.mentions & self._space.keys():
            value = self._space[name]
            if isinstance(value, (np.ndarray, *CONTAINERS)) and size(value) <= ROOM:
                self.owned.add(name)
                self._shared.pop(name, None)

    def _take(self, names: set[str]) -> None:
        """Fetch what the test needs and only the student has."""
        wanted = sorted(name for name in names if self._is_students(name))
        for name in set(wanted) - self._student.names:
            if name in self._shared and self._space.get(name) is self._shared[name]:
                del self._shared[name], self._space[name]
        values = self._student.fetch(wanted)
        self._space.update(values)
        self._shared.update(values)

    def _is_students(self, name: str) -> bool:
        """Whether a name means the student's object: an answer, or what is neither tool nor builtin."""
        if name in self._kept:
            return False
        if name in self._instructor.answers:
            return True
        return name not in self._tools and name not in BUILTINS and (
            name in self._shared or name not in self._space
        )  # fmt: skip

    # ---- What the other process hears, and says

    def news(self) -> tuple[dict[str, Any], list[str]]:
        """What has been bound or deleted here of the names that the student's code knows."""
        names = self._shared.keys() | (self._offered & self._space.keys()) | (self.owned & self._space.keys())
        now = {name: self._space.get(name, _GONE) for name in names}
        changed = {name: value for name, value in now.items() if value is not self._shared.get(name, _GONE)}
        self._kept = {
            name: value
            for name, value in changed.items()
            if value is not _GONE and (self._kept.get(name) is value or not self._student.can_send(value))
        }
        sent = {name: value for name, value in changed.items() if name not in self._kept}
        self._shared |= sent
        self._sent |= sent.keys()
        deleted = [name for name, value in sent.items() if value is _GONE]
        for name in deleted:
            del sent[name], self._shared[name]
        self._student.names -= set(deleted)
        self._student.names |= sent.keys()
        return sent, deleted

    def renew(self) -> None:
        """A new process has not heard what a test bound or deleted in the old one."""
        self._shared |= dict.fromkeys(self._sent, _NOT_SENT)

    def hold_objects(self) -> bool:
        """Whether a test has kept an object that lives in the student's process under no name."""
        held = map(reference_of, map(self._space.get, self._tested))
        return any(reference is not None and reference.name is None for reference in held)

    def learn(self, values: dict[str, Any], deleted: Sequence[str]) -> None:
        """The student's code has bound or deleted names that it shares with the tests."""
        for name in deleted:
            if self._is_students(name):
                self._space.pop(name, None)
                self._shared.pop(name, None)
        mine = {name: value for name, value in values.items() if self._is_students(name)}
        self._space.update(mine)
        self._shared.update(mine)

    def input(self, prompt: str) -> str:
        """What `input` gives where a test has put something in its place; else an error, as in nbgrader."""
        ours = self._space.get("input", builtins.input)
        if ours is _INPUT and sys.stdin is _STDIN:
            raise StdinNotImplementedError(
                "raw_input was called, but this frontend does not support input requests."
            )
        return ours(prompt)
