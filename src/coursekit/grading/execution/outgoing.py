"""What the examiner hands to the student's process: data, and references to what stays on either side."""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from coursekit.grading.execution.codec import Encoder, Unencodable, type_name
from coursekit.grading.execution.pairs import is_plain, is_stateful
from coursekit.grading.execution.proxies import reference_of

if TYPE_CHECKING:
    from coursekit.grading.execution.remote import Student

FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
SECRET = ("coursekit.checks.", "coursekit.grading.", "__main__.", "__mp_main__.")
REFUSED = "{what} cannot be handed to the student's process; give the cell the tag same-process"


class Outgoing(Encoder):
    """Encodes the examiner's values; what is no data and no function goes as one pickle."""

    def __init__(self, student: Student) -> None:
        super().__init__(student.pairs, self._refer)
        self._student = student
        self._pickled: list[Any] = []

    def keep(self) -> None:
        """What has been encoded so far is sent, whatever happens to the rest."""
        self._added.clear()

    def error(self, error: Exception) -> list:
        """The node of an exception that the student's code gets to see, and may let pass."""
        reference = reference_of(error)
        if reference is not None:
            return ["mine", self._student.current(reference)]
        self._student.raised.append(error)
        ancestors = [[kind.__module__, kind.__name__] for kind in type(error).__mro__]
        plain = [value if type(value) in (str, int, float, bool) else str(value) for value in error.args]
        return ["raised", len(self._student.raised) - 1, ancestors, plain, str(error)]

    def finish(self, message: dict[str, Any]) -> list[Any]:
        """The buffers of the message; Unencodable where an object cannot be pickled."""
        if not self._pickled:
            return self.buffers
        try:
            data = self._dumped(self._pickled)
        except Exception as error:
            kinds = ", ".join(sorted({type(value).__name__ for value in self._pickled}))
            raise Unencodable(REFUSED.format(what=f"{kinds} ({error})")) from error
        message["pickled"] = True
        return [*self.buffers, data]

    def _refer(self, value: Any) -> list:
        """The node of a value that is no data."""
        reference = reference_of(value)
        if reference is not None:
            return ["mine", self._student.current(reference)]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):
            return ["import", value.__name__, ""]
        if is_stateful(value):
            return self.paired(value, lambda: self._pickle(value))
        if callable(value):
            return self._callable(value)
        if isinstance(value, io.TextIOBase):
            return self._text_file(value)
        if isinstance(value, Iterator):
            return ["iterator", self._callback(value.__next__)]
        if type(value).__module__ == "__main__":
            return self._object(value)
        return self._pickle(value)

    def _class(self, value: type) -> list:
        if type_name(value):
            return ["type", type_name(value)]
        if self._student.space.classes.get(value.__name__) is value:
            return ["main", value.__name__]
        if issubclass(value, tuple) and hasattr(value, "_fields"):
            return ["fields", value.__name__, list(value._fields)]
        return self._callable(value)

    def _callable(self, value: Any) -> list:
        if _importable(value):
            return ["import", value.__module__, value.__qualname__]
        # What belongs to the checks is called here, never handed over.
        guarded = str(type(value).__module__).startswith("coursekit.checks")
        if guarded or isinstance(value, (type, *FUNCTIONS)) or not self._can_be_pickled(value):
            name = str(getattr(value, "__name__", "function"))
            return ["callback", self._callback(value), name, getattr(value, "__doc__", None)]
        return self._pickle(value)

    def _callback(self, value: Any) -> int:
        callbacks = self._student.callbacks
        for number, known in enumerate(callbacks):
            if known is value:
                return number
        callbacks.append(value)
        return len(callbacks) - 1

    def _object(self, value: Any) -> list:
        """An object of a class of the notebook's: one that both sides know, or nothing."""
        kind = type(value)
        if self._student.space.classes.get(kind.__name__) is not kind:
            raise Unencodable(REFUSED.format(what=f"an object of the test's own class {kind.__name__}"))
        if isinstance(value, Enum):
            return ["member", kind.__name__, value.name]
        if is_plain(kind):
            return self.paired(value, lambda: self.instance(value))
        return self._pickle(value)

    def _text_file(self, value: io.TextIOBase) -> list:
        """A file that is open for reading, as text in memory."""
        try:
            position = value.tell()
            content = value.read()
            value.seek(position)
        except (OSError, ValueError) as error:
            raise Unencodable(REFUSED.format(what=f"an open file ({error})")) from error
        return self.encode(io.StringIO(content))

    def _pickle(self, value: Any) -> list:
        self._pickled.append(value)
        return ["pickled", len(self._pickled) - 1]

    def _can_be_pickled(self, value: Any) -> bool:
        try:
            self._dumped(value)
        except Exception:
            return False
        return True

    def _dumped(self, value: Any) -> bytes:
        file = io.BytesIO()
        _Pickler(file, self._student, set(self._added)).dump(value)
        return file.getvalue()


class _Pickler(pickle.Pickler):
    """Writes objects in which others may be that the student's process has already.

    new: numbers that it is yet to learn.
    """

    def __init__(self, file: io.BytesIO, student: Student, new: set[int]) -> None:
        super().__init__(file)
        self._student, self._new = student, new

    def persistent_id(self, value: Any) -> tuple | None:
        """A pair, or a reference to an object of the student's."""
        reference = reference_of(value)
        if reference is not None:
            return "mine", self._student.current(reference)
        number = self._student.pairs.number(value)
        return None if number is None or number in self._new else ("pair", number)


def _importable(value: Any) -> bool:
    """Whether the student's process finds the same function or class under its name, and may."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or not isinstance(name, str) or "<" in name or f"{module}.".startswith(SECRET):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value
