"""What the student's process tells of its own functions, classes, objects and exceptions: data about them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import traceback
import types
from collections.abc import Callable
from enum import EnumMeta
from typing import Any

import numpy as np

from coursekit.grading.execution.codec import Encoder, type_name
from coursekit.grading.execution.pairs import is_plain

FUNCTIONS = (
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType, np.ufunc,
    functools.partial, type(functools.lru_cache(len)),
)  # fmt: skip
SPECIAL = (
    "len iter next call getitem setitem delitem contains eq ne lt le gt ge bool int float complex index hash "
    "str repr format abs neg pos invert add radd sub rsub mul rmul matmul rmatmul truediv rtruediv floordiv "
    "rfloordiv mod rmod divmod rdivmod pow rpow and rand or ror xor rxor lshift rshift iadd isub imul "
    "imatmul itruediv ifloordiv imod ipow iand ior ixor enter exit array round reversed await fspath"
).split()


class References:
    """What the examiner holds references to, by number.

    known: names of the classes of locked cells, which the examiner has too.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self.objects: dict[int, Any] = {}
        self.known: frozenset[str] = frozenset()
        self._names = names
        self._numbers: dict[int, int] = {}
        self._callbacks: dict[int, tuple[int, Callable]] = {}

    def is_callback(self, value: Callable, number: int) -> Callable:
        """Note that a function stands for one of the examiner's; the function."""
        self._callbacks[id(value)] = number, value
        return value

    def number(self, value: Any) -> int:
        """The number of an object; it is kept, so that its id stays its own."""
        number = self._numbers.setdefault(id(value), len(self._numbers) + 1)
        self.objects[number] = value
        return number

    def node(self, value: Any, encoder: Encoder) -> list:
        """A node for what is no data: a reference by number, with what can be told about it."""
        if isinstance(value, type) and type_name(value):
            return ["type", type_name(value)]
        if id(value) in self._callbacks:
            return ["yours", self._callbacks[id(value)][0]]
        if isinstance(value, FUNCTIONS):
            return ["ref", self.number(value), "function", about_function(value)]
        if isinstance(value, type):
            return ["ref", self.number(value), "class", self.about_class(value)]
        if isinstance(value, BaseException):
            return ["ref", self.number(value), "exception", self.describe(value)]
        if isinstance(value, types.ModuleType):
            about = {"number": self.number(value), "module": "builtins", "name": "module", "special": []}
            return ["ref", self.number(value), "object", {**about, "ancestors": [["builtins", "module"]]}]
        if self._is_known(type(value)):
            if isinstance(type(value), EnumMeta):
                return ["member", type(value).__name__, value.name]
            return encoder.paired(value, lambda: encoder.instance(value))
        return ["ref", self.number(value), "object", self.about_class(type(value))]

    def _is_known(self, kind: type) -> bool:
        """Whether a class is the one of a locked cell, and its objects nothing but their attributes."""
        if kind.__module__ != "__main__" or kind.__name__ not in self.known:
            return False
        return self._names.get(kind.__name__) is kind and (isinstance(kind, EnumMeta) or is_plain(kind))

    def about_class(self, kind: type) -> dict[str, Any]:
        """Name, place in the hierarchy and special methods of a class."""
        about = {
            "number": self.number(kind),
            "module": str(kind.__module__),
            "name": kind.__name__,
            "ancestors": [[str(base.__module__), base.__name__] for base in kind.__mro__],
            "special": [name for name in SPECIAL if _defines(kind, f"__{name}__")],
        }
        if kind.__module__ != "__main__":
            return about
        own = [base for base in kind.__bases__ if base.__module__ == "__main__"]
        about |= {"bases": [self.about_class(base) for base in own], "doc": _words(kind.__doc__)}
        about |= {} if isinstance(kind, EnumMeta) else about_call(kind)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            about["fields"] = list(kind._fields)
        if dataclasses.is_dataclass(kind):
            fields = dataclasses.fields(kind)
            about["dataclass"] = [[field.name, field.init, field.compare] for field in fields]
        return about

    def describe(self, error: BaseException) -> dict[str, Any]:
        """An exception as data: its class, arguments, text, cause, and where it was raised."""
        if hasattr(error, "__examiner__"):
            return {"yours": error.__examiner__}
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith(_FOLDER)][-30:]
        return {
            "number": self.number(error),
            "class": self.about_class(type(error)),
            "args": _plain(_arguments(error)),
            "text": text(error),
            "frames": [[frame.filename, frame.lineno or 0, frame.name] for frame in own],
            "cause": self.describe(error.__cause__) if isinstance(error.__cause__, Exception) else None,
        }


_FOLDER = __file__.removesuffix("descriptions.py")


def _defines(kind: type, name: str) -> bool:
    """Whether a class has a special method of its own, not just object's."""
    return getattr(kind, name, None) not in (None, getattr(object, name, None))


def about_function(function: Callable) -> dict[str, Any]:
    """Name, documentation, kind and parameters of a function."""
    return {
        "name": str(getattr(function, "__name__", type(function).__name__)),
        "doc": _words(getattr(function, "__doc__", None)),
        "kind": type(function).__name__,
        **about_call(function),
    }


def about_call(function: Callable) -> dict[str, Any]:
    """How a function or a class is called.

    parameters: [name, kind, has a default, the default if it is plain, annotation] of each; None if unknown.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return {"parameters": None}
    parameters = signature.parameters.values()
    return {
        "parameters": [[p.name, int(p.kind), *_default(p), _annotation(p.annotation)] for p in parameters],
        "returns": _annotation(signature.return_annotation),
    }


def _annotation(annotation: Any) -> Any:
    """[] where there is none, [name] for a class of data, else its text."""
    if annotation is inspect.Parameter.empty:
        return []
    name = type_name(annotation) if isinstance(annotation, type) else None
    return [name] if name else text(annotation)


def _default(parameter: inspect.Parameter) -> list:
    given = parameter.default is not parameter.empty
    return [given, *(_plain([parameter.default]) if given else [None])]


def _arguments(error: BaseException) -> tuple:
    if isinstance(error, OSError) and error.filename is not None:
        return error.errno, error.strerror, error.filename
    return getattr(error, "args", ())


def _plain(values: Any) -> list:
    """Values that JSON has, others as their text."""
    plain = (type(None), bool, int, float, str)
    return [value if type(value) in plain else text(value) for value in tuple(values)[:20]]


def _words(value: Any) -> str | None:
    return value if type(value) is str else None


def text(value: Any) -> str:
    """What a value says of itself, as far as it can."""
    try:
        return str(value)[:4000]
    except BaseException:  # a student's class may fail to describe itself
        return ""
