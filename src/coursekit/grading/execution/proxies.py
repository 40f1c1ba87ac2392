"""Stand-ins for what lives in the student's process: functions, classes and objects.

A proxy gives data or other proxies.  It never lets the student's code decide a comparison with a value of
the examiner's: an object that a student's function returned cannot say of itself that it equals 9.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import tblib

from coursekit.grading.execution.codec import EXACT, BadData

if TYPE_CHECKING:
    from coursekit.grading.execution.remote import Student

REFUSED = (
    "{name} object: the result is no plain data (a number, text, list, array, tensor ...), so it is not "
    "compared with anything"
)
DERIVED = "{name} derives from a class of the student's: give the cell the tag same-process"
# What an operator of these would decide about a value of the examiner's.
_VERDICTS = "eq ne lt le gt ge contains".split()
_ARITHMETIC = (
    "add radd sub rsub mul rmul matmul rmatmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod "
    "pow rpow and rand or ror xor rxor lshift rshift iadd isub imul imatmul itruediv ifloordiv imod ipow "
    "iand ior ixor"
).split()
_FREE = (
    "len iter next call getitem setitem delitem bool index int float complex hash format abs neg pos invert "
    "enter exit array round reversed await fspath"
).split()
# Of attributes with underscores, those of functions and objects that a test may look at.
_OPEN = frozenset(
    f"__{name}__"
    for name in (
        "dict name qualname doc wrapped code defaults kwdefaults annotations closure func self cause "
        "dataclass_fields dataclass_params members match_args abstractmethods version"
    ).split()
)
# Classes of Python itself that have their names elsewhere; a coroutine is only ever awaited.
_TYPES = {
    kind.__name__: kind
    for kind in (
        types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.GeneratorType, types.CodeType,
        types.ModuleType, types.MappingProxyType, functools.partial, type(functools.lru_cache(len)),
    )
}  # fmt: skip


class Reference(NamedTuple):
    """Where an object lives: its number in one life of the student's process, and its name if it has one."""

    number: int
    generation: int
    name: str | None = None


class Handle:
    """Base of every stand-in for an object; `_remote` is its reference, `_made` whether a test made it."""

    __slots__ = ("_made", "_remote", "_student")

    def __getattr__(self, name: str) -> Any:
        """The attribute of the student's object."""
        if _is_closed(name):
            raise AttributeError(name)
        return self._student.operate(self._remote, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the attribute of the student's object."""
        self._student.operate(self._remote, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        """Delete the attribute of the student's object."""
        self._student.operate(self._remote, "delattr", name)

    def __hash__(self) -> int:
        """By identity, where its class does not say more."""
        return id(self)

    def __eq__(self, other: Any) -> Any:
        """Whether it is the same object, where its class does not say more."""
        return self is other

    def __bool__(self) -> bool:
        """True, or whether it is empty."""
        return not any("__len__" in vars(kind) for kind in type(self).__mro__) or bool(len(self))

    def __repr__(self) -> str:
        """As the student's object describes itself."""
        return str(self._student.operate(self._remote, "repr"))

    def __str__(self) -> str:
        """As the student's object describes itself."""
        return str(self._student.operate(self._remote, "str"))

    def __format__(self, how: str) -> str:
        """As the student's object describes itself."""
        return str(self._student.operate(self._remote, "format", how))

    def __dir__(self) -> list[str]:
        """The attributes of the student's object."""
        return list(self._student.operate(self._remote, "dir"))

    def __copy__(self) -> Any:
        """A copy, made where the object lives."""
        return _as_made(self, self._student.operate(self._remote, "copy"))

    def __deepcopy__(self, memo: Any) -> Any:
        """A copy, made where the object lives."""
        return _as_made(self, self._student.operate(self._remote, "deepcopy"))


def _is_closed(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name not in _OPEN


def _as_made(handle: Handle, value: Any) -> Any:
    """The value; an object that comes of one that a test made counts as made by it."""
    if isinstance(type(value), RemoteType) and handle._made:
        object.__setattr__(value, "_made", True)
    return value


class Function(Handle):
    """A stand-in for a function: it can be called, and tells what functions tell."""

    __slots__ = ("__signature__", "_about")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the student's function gives, or raises."""
        return self._student.call(self._remote, args, kwargs)

    __class__ = property(lambda self: _TYPES.get(self._about["kind"], types.FunctionType))
    __name__ = property(lambda self: str(self._about["name"]))
    __doc__ = property(lambda self: self._about.get("doc"))
    __module__ = "__main__"
    __watch__ = property(lambda self: self._student.watch)


class RemoteType(type):
    """Class of the stand-ins for the student's classes: calling one makes an object over there."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, own: bool = False) -> type:
        """A stand-in if `own`; else a test tries to derive a class."""
        if not own:
            raise TypeError(DERIVED.format(name=name))
        return super().__new__(cls, name, bases, body)

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, own: bool = False) -> None:
        super().__init__(name, bases, body)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """An object of the student's class, made in the student's process."""
        made = cls._owner.call(cls._class, args, kwargs)
        if isinstance(type(made), RemoteType) and isinstance(made, Handle):
            object.__setattr__(made, "_made", True)
        return made

    def __getattr__(cls, name: str) -> Any:
        """The attribute of the student's class."""
        if _is_closed(name):
            raise AttributeError(name)
        return cls._owner.operate(cls._class, "getattr", name)

    def __setattr__(cls, name: str, value: Any) -> None:
        """Set the attribute of the student's class."""
        cls._owner.operate(cls._class, "setattr", name, value)

    def __delattr__(cls, name: str) -> None:
        """Delete the attribute of the student's class."""
        cls._owner.operate(cls._class, "delattr", name)

    def __dir__(cls) -> list[str]:
        """The attributes of the student's class."""
        return list(cls._owner.operate(cls._class, "dir"))

    def __getitem__(cls, key: Any) -> Any:
        """A member of an enumeration, or a generic class with its parameters."""
        return cls._owner.operate(cls._class, "getitem", key)

    def __iter__(cls) -> Any:
        """The members of an enumeration."""
        return cls._owner.operate(cls._class, "iter")

    def __len__(cls) -> int:
        """How many members an enumeration has."""
        return int(cls._owner.operate(cls._class, "len"))

    def __contains__(cls, value: Any) -> bool:
        """Whether a value is a member of an enumeration."""
        return any(value is member for member in cls)

    def __bool__(cls) -> bool:
        """True: it is a class."""
        return True


class Proxies:
    """Makes and remembers the stand-ins of one student's process."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self._known: dict[tuple[int, int], Any] = {}
        self._classes: dict[tuple[int, int], type] = {}

    def make(self, node: list, name: str | None = None) -> Any:
        """The stand-in for a reference; BadData where the node is none."""
        match node:
            case ["ref", int(number), "function", {"name": _, "kind": _} as about]:
                return self._remembered(number, lambda: self._function(self._at(number, name), about))
            case ["ref", int(number), "class", {"number": _} as about]:
                return self.kind(about, name)
            case ["ref", int(number), "exception", {"class": _} as about]:
                return self._remembered(number, lambda: self.exception(about))
            case ["ref", int(number), "object", {"number": _} as about]:
                return self._remembered(number, lambda: self._object(self._at(number, name), about))
        raise BadData("an unknown kind of value")

    def exception(self, about: dict[str, Any]) -> BaseException:
        """An exception of the nearest known class, with the student's lines as its traceback."""
        if "yours" in about:
            return self._student.raised[about["yours"]]
        kind = self.kind(about["class"])
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = RuntimeError
        error = _instance(kind, tuple(about["args"]), str(about["text"]))
        error.__dict__["_remote"] = self._at(about["number"], None)
        error.__dict__["_student"] = self._student
        if about.get("cause"):
            error.__cause__ = self.exception(about["cause"])
        return error.with_traceback(_traceback(about["frames"]))

    def _at(self, number: int, name: str | None) -> Reference:
        return Reference(number, self._student.generation, name)

    def _remembered(self, number: int, make: Callable[[], Any]) -> Any:
        key = self._student.generation, number
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _function(self, reference: Reference, about: dict[str, Any]) -> Function:
        function = self._new(Function, reference)
        object.__setattr__(function, "_about", about)
        signature = _signature(about)
        if signature is not None:
            object.__setattr__(function, "__signature__", signature)
        return function

    def _object(self, reference: Reference, about: dict[str, Any]) -> Handle:
        return self._new(self._handle_class(about), reference)

    def _new(self, kind: type, reference: Reference) -> Any:
        handle = object.__new__(kind)
        for name, value in (("_student", self._student), ("_remote", reference), ("_made", False)):
            object.__setattr__(handle, name, value)
        return handle

    def kind(self, about: dict[str, Any], name: str | None = None) -> type:
        """What stands for a class: the one that is known here, or a stand-in."""
        known = self._student.space.classes.get(about["name"]) if about["module"] == "__main__" else None
        if known is not None:
            return known
        error = next((kind for kind in _known(about) if issubclass(kind, BaseException)), None)
        if error is not None and about["module"] != "__main__":
            exact = [error.__module__, error.__name__] == list(about["ancestors"][0])
            return error if exact else type(str(about["name"]), (error,), {"__module__": "__main__"})
        return self._handle_class(about, name, error)

    def _handle_class(
        self, about: dict[str, Any], name: str | None = None, error: type | None = None
    ) -> type:
        key = self._student.generation, int(about["number"])
        if key not in self._classes:
            self._classes[key] = self._stand_in(about, self._at(int(about["number"]), name), error)
        return self._classes[key]

    def _stand_in(self, about: dict[str, Any], reference: Reference, error: type | None) -> type:
        own = [kind for kind in map(self.kind, about.get("bases", ())) if isinstance(kind, RemoteType)]
        body = {"__module__": "__main__", "_owner": self._student, "_class": reference}
        body["__doc__"] = about.get("doc")
        if about.get("dataclass") is not None:
            body["__dataclass_fields__"] = _fields(about["dataclass"])
        signature = _signature(about)
        if signature is not None:
            body["__signature__"] = signature
        if error is not None:
            bases = (*own, *(() if any(issubclass(kind, error) for kind in own) else (error,)))
            body["__getattr__"] = _attribute_of_error
        elif about.get("fields") is not None:
            bases, more = _named(about, reference)
            body |= more
        else:
            bases = (*own, *(() if own else (Handle,)))
            body |= {f"__{one}__": _method(one) for one in about["special"] if one in _METHODS}
            body |= {"__slots__": (), "__class__": property(lambda self: self._student.class_of(self))}
            body["_about"] = about
        return RemoteType(str(about["name"]), bases, body, own=True)


def class_of(handle: Handle, known: Mapping[str, type]) -> type:
    """What isinstance sees: the nearest class that is known here, else the stand-in."""
    return next(_known(type(handle)._about, known), type(handle))


def is_subclass(kind: type, parents: Any, known: Mapping[str, type]) -> bool:
    """Whether a class derives from another, a stand-in too.   known: classes of the notebook's own."""
    about = vars(kind).get("_about") if type(kind) is RemoteType else None
    above = () if about is None else _known(about, known)
    return issubclass(kind, parents) or any(issubclass(base, parents) for base in above)


def _attribute_of_error(self: BaseException, name: str) -> Any:
    """The attribute of the student's exception."""
    if name.startswith("_") or "_remote" not in self.__dict__:
        raise AttributeError(name)
    return self._student.operate(self._remote, "getattr", name)


def _named(about: dict[str, Any], reference: Reference) -> tuple[tuple[type, ...], dict[str, Any]]:
    """Bases and body of a named tuple's class: its values are here, its methods over there."""
    plain = namedtuple(str(about["name"]), about["fields"])

    def attribute(self: Any, name: str) -> Any:
        if _is_closed(name):
            raise AttributeError(name)
        return type(self)._owner.call_of(self, name)

    return (plain,), {"__slots__": (), "__getattr__": attribute}


def _fields(described: list) -> dict[str, dataclasses.Field]:
    """The fields of a dataclass, as `dataclasses.fields` finds them."""
    made = {}
    for name, init, compare in described:
        made[name] = dataclasses.field(init=bool(init), compare=bool(compare))
        made[name].name, made[name]._field_type = str(name), dataclasses._FIELD
    return made


def _method(name: str) -> Callable:
    if name == "await":
        def method(self: Handle) -> Iterator[Any]:
            return self._student.operate(self._remote, "await")
            yield
    elif name in _FREE:
        def method(self: Handle, *args: Any, **kwargs: Any) -> Any:
            if name == "call":
                return self._student.call(self._remote, args, kwargs)
            if name == "array":
                import numpy as np

                value = self._student.operate(self._remote, "array")
                return np.asarray(value, *args[:1])
            return _as_made(self, self._student.operate(self._remote, name, *args))
    else:
        def method(self: Handle, *args: Any) -> Any:
            if not self._made and not all(isinstance(value, Handle) for value in args):
                return _judged(self, name, *args)
            return _as_made(self, self._student.operate(self._remote, name, *args))

    method.__name__ = f"__{name}__"
    return method


def _judged(handle: Handle, name: str, *args: Any) -> Any:
    """An operation with a value of the examiner's, done here, on what is data about the object."""
    if name in ("eq", "ne") and args[0] is None:
        return name == "ne"
    about = type(handle)._about
    if name == "contains" and "iter" in about["special"]:
        return any(item is args[0] or item == args[0] for item in handle)
    refused = TypeError(REFUSED.format(name=type(handle).__name__))
    try:
        plain = handle._student.operate(handle._remote, "data")
    except TypeError:
        raise refused from None
    if reference_of(plain) is not None:
        raise refused
    return getattr(plain, f"__{name}__")(*args)


_METHODS = {*_VERDICTS, *_ARITHMETIC, *_FREE}


def _known(about: dict[str, Any], own: Mapping[str, type] = MappingProxyType({})) -> Iterator[type]:
    """The ancestors that are loaded here already: of libraries, or `own`; never object itself."""
    for module, name in about["ancestors"]:
        if module in ("__main__", "__mp_main__"):
            kind = own.get(name)
        elif module == "builtins" and name in (*_TYPES, "object"):
            kind = _TYPES.get(name)
        else:
            kind = getattr(sys.modules.get(str(module)), str(name), None)
        if isinstance(kind, type):
            yield kind


def _instance(kind: type[BaseException], args: tuple, text: str) -> BaseException:
    try:
        error = kind.__new__(kind, *args) if isinstance(kind, RemoteType) else kind(*args)
        if str(error) == text:
            return error
    except Exception:  # a class with arguments of its own
        pass
    if isinstance(kind, RemoteType):
        body = {"__str__": lambda self: text, "__module__": "__main__"}
        shown = RemoteType(kind.__name__, (kind,), body, own=True)
    else:
        shown = type(kind.__name__, (kind,), {"__str__": lambda self: text, "__module__": kind.__module__})
    error = shown.__new__(shown)
    error.args = args
    return error


def _traceback(frames: list) -> types.TracebackType | None:
    """A traceback that names the student's lines."""
    chain = None
    for file, line, name in reversed(frames[:50]):
        code = {"co_filename": str(file), "co_name": str(name)}
        space = {"__name__": "__main__", "__file__": str(file)}
        frame = {"f_globals": space, "f_code": code, "f_lineno": int(line)}
        chain = {"tb_frame": frame, "tb_lineno": max(1, int(line)), "tb_next": chain}
    return tblib.Traceback.from_dict(chain).as_traceback() if chain else None


def _signature(about: dict[str, Any]) -> inspect.Signature | None:
    """How a function or a class is called; None if that is unknown."""
    if about.get("parameters") is None:
        return None
    try:
        parameters = [
            inspect.Parameter(
                str(name),
                inspect._ParameterKind(kind),
                default=default if given else inspect.Parameter.empty,
                annotation=_annotation(annotation),
            )
            for name, kind, given, default, annotation in about["parameters"]
        ]
        return inspect.Signature(parameters, return_annotation=_annotation(about.get("returns")))
    except (ValueError, TypeError):
        return None


def _annotation(told: Any) -> Any:
    """The annotation that was told: [] if there is none, [name] of a class, or its text."""
    match told:
        case [str(name)] if name in EXACT:
            return EXACT[name]
        case str(text):
            return text
    return inspect.Parameter.empty


def reference_of(value: Any) -> Reference | None:
    """Where the object behind a stand-in lives; None for any other value."""
    kind = type(value)
    if kind is RemoteType:
        return type.__getattribute__(value, "_class")
    if issubclass(kind, Handle):
        return object.__getattribute__(value, "_remote")
    return value.__dict__.get("_remote") if issubclass(kind, BaseException) else None


class RemoteWatch:
    """A check's watch over a function of the student's process; see checks.engine.shortcuts.Watch."""

    def __init__(self, student: Student, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> None:
        self.used: str | None = None
        self._student = student
        self.spec = {"forbidden": list(forbidden), "allowed": list(allowed)}

    def __enter__(self) -> RemoteWatch:
        self._student.watching = self
        return self

    def __exit__(self, *exception: object) -> None:
        self._student.watching = None
