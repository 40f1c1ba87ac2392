"""Stand-ins for what lives in the student's process: functions, classes and objects.

A proxy gives data or other proxies.  It never lets the student's code decide a comparison with a value of
the examiner's: an object that a student's function returned cannot say of itself that it equals 9.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import tblib

from coursekit.grading.execution.codec import BadData

if TYPE_CHECKING:
    from coursekit.grading.execution.remote import Student

REFUSED = (
    "{name} object: the result is no plain data (a number, text, list, array, tensor ...), so it is not "
    "compared with anything"
)
# What an operator of these would decide about a value of the examiner's.
_VERDICTS = "eq ne lt le gt ge contains".split()
_ARITHMETIC = (
    "add radd sub rsub mul rmul matmul rmatmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow "
    "and rand or ror xor rxor iadd isub imul itruediv"
).split()
_FREE = (
    "len iter next call getitem setitem delitem index int float abs neg pos invert enter exit array round"
).split()


class Reference(NamedTuple):
    """Where an object lives: its number in one life of the student's process, and its name if it has one."""

    number: int
    generation: int
    name: str | None = None


class Handle:
    """Base of every stand-in for an object; `_remote` is its reference, `_made` whether a test made it."""

    _student: Student
    _remote: Reference
    _made: bool

    def __getattr__(self, name: str) -> Any:
        """The attribute of the student's object."""
        if name.startswith("__") and name.endswith("__") and name != "__dict__":
            raise AttributeError(name)
        return self._student.operate(self._remote, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the attribute of the student's object."""
        self._student.operate(self._remote, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        """Delete the attribute of the student's object."""
        self._student.operate(self._remote, "delattr", name)

    def __hash__(self) -> int:
        """By identity."""
        return id(self)

    def __eq__(self, other: Any) -> Any:
        """Whether it is the same object, where its class does not say more."""
        return self is other

    def __bool__(self) -> bool:
        """True, or whether it is empty."""
        return bool(len(self)) if hasattr(type(self), "__len__") else True

    def __repr__(self) -> str:
        """As the student's object describes itself."""
        return str(self._student.operate(self._remote, "repr"))

    def __str__(self) -> str:
        """As the student's object describes itself."""
        return str(self._student.operate(self._remote, "str"))

    def __dir__(self) -> list[str]:
        """The attributes of the student's object."""
        return list(self._student.operate(self._remote, "dir"))


class RemoteType(type):
    """Class of the stand-ins for the student's classes: calling one makes an object over there."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """An object of the student's class, made in the student's process."""
        made = cls._student.call(cls._class, args, kwargs)
        if isinstance(made, Handle):
            object.__setattr__(made, "_made", True)
        return made

    def __getattr__(cls, name: str) -> Any:
        """The attribute of the student's class."""
        if name.startswith("__"):
            raise AttributeError(name)
        return cls._student.operate(cls._class, "getattr", name)


class Proxies:
    """Makes and remembers the stand-ins of one student's process."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self._known: dict[tuple[int, int], Any] = {}
        self._classes: dict[tuple[int, int], type] = {}

    def make(self, node: list, name: str | None = None) -> Any:
        """The stand-in for a reference; BadData where the node is none."""
        match node:
            case ["ref", int(number), "function", {"name": _} as about]:
                return self._remembered(number, lambda: self._function(self._at(number, name), about))
            case ["ref", int(number), "class", about]:
                return self._class(about, name)
            case ["ref", int(number), "exception", {"class": _} as about]:
                return self._remembered(number, lambda: self.exception(about))
            case ["ref", int(number), "object", {"class": about}]:
                return self._remembered(number, lambda: self._object(self._at(number, name), about))
        raise BadData("an unknown kind of value")

    def exception(self, about: dict[str, Any]) -> BaseException:
        """An exception of the nearest known class, with the student's lines as its traceback."""
        kind = self._class(about["class"])
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = RuntimeError
        error = _instance(kind, tuple(about["args"]), str(about["text"]))
        return error.with_traceback(_traceback(about["frames"]))

    def _at(self, number: int, name: str | None) -> Reference:
        return Reference(number, self._student.generation, name)

    def _remembered(self, number: int, make: Callable[[], Any]) -> Any:
        key = self._student.generation, number
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _function(self, reference: Reference, about: dict[str, Any]) -> Callable:
        student = self._student

        def function(*args: Any, **kwargs: Any) -> Any:
            return student.call(reference, args, kwargs)

        function.__name__ = function.__qualname__ = str(about["name"])
        function.__doc__ = about.get("doc")
        function.__module__ = "__main__"
        function.__remote__ = reference
        function.__watch__ = student.watch
        function.__wrapped__ = _place(about)
        signature = _signature(about.get("parameters"))
        if signature is not None:
            function.__signature__ = signature
        return function

    def _object(self, reference: Reference, about: list) -> Handle:
        handle = object.__new__(self._class(about, handle=True))
        for name, value in (("_student", self._student), ("_remote", reference), ("_made", False)):
            object.__setattr__(handle, name, value)
        return handle

    def _class(self, about: list, name: str | None = None, handle: bool = False) -> type:
        """The stand-in for a class; a known exception class stands for itself."""
        number, module, own_name, ancestors, special = about
        key = self._student.generation, int(number)
        if key not in self._classes:
            error = next((kind for kind in _known(ancestors) if issubclass(kind, BaseException)), None)
            if error is not None and not handle:
                exact = [error.__module__, error.__name__] == list(ancestors[0])
                body = {"__module__": "__main__"}
                self._classes[key] = error if exact else type(str(own_name), (error,), body)
            else:
                here = self._at(int(number), name)
                self._classes[key] = self._handle_class(here, own_name, special, ancestors)
        return self._classes[key]

    def _handle_class(self, reference: Reference, name: str, special: list, ancestors: list) -> type:
        methods: dict[str, Any] = {f"__{one}__": _method(one) for one in special if one in _METHODS}
        # so that isinstance sees the library's class that it is or inherits from
        methods["__class__"] = property(lambda self: next(_known(ancestors), type(self)))
        body = {"__module__": "__main__", "_student": self._student, "_class": reference, **methods}
        return RemoteType(str(name), (Handle,), body)


def _method(name: str) -> Callable:
    if name in _FREE:
        def method(self: Handle, *args: Any, **kwargs: Any) -> Any:
            if name == "call":
                return self._student.call(self._remote, args, kwargs)
            if name == "array":
                import numpy as np

                value = self._student.operate(self._remote, "array")
                return np.asarray(value, *args[:1])
            return self._student.operate(self._remote, name, *args)
    else:
        def method(self: Handle, *args: Any) -> Any:
            if not self._made and not all(isinstance(value, Handle) for value in args):
                if name in ("eq", "ne") and args[0] is None:
                    return name == "ne"
                return getattr(_plain(self), f"__{name}__")(*args)
            return self._student.operate(self._remote, name, *args)

    method.__name__ = f"__{name}__"
    return method


def _plain(handle: Handle) -> Any:
    """The data in an object whose class extends a kind of data; TypeError where there is none to compare."""
    kind = type(handle).__name__
    try:
        plain = handle._student.operate(handle._remote, "plain")
    except TypeError:
        raise TypeError(REFUSED.format(name=kind)) from None
    if is_proxy(plain):
        raise TypeError(REFUSED.format(name=kind))
    return plain


_METHODS = {*_VERDICTS, *_ARITHMETIC, *_FREE}


def _known(ancestors: list) -> Iterator[type]:
    """The ancestors that are loaded here already, of libraries and not of a notebook; never object itself."""
    for module, name in ancestors:
        if module not in ("__main__", "__mp_main__") and (module, name) != ("builtins", "object"):
            kind = getattr(sys.modules.get(str(module)), str(name), None)
            if isinstance(kind, type):
                yield kind


def _instance(kind: type[BaseException], args: tuple, text: str) -> BaseException:
    try:
        error = kind(*args)
        if str(error) == text:
            return error
    except Exception:  # a class with arguments of its own
        pass
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


def _place(about: dict[str, Any]) -> Callable:
    """A function that does nothing, at the place of the student's: for inspect.getsource."""

    def function() -> None: ...

    if about.get("place"):
        file, line = about["place"]
        place = {"co_filename": str(file), "co_firstlineno": int(line), "co_name": str(about["name"])}
        function.__code__ = function.__code__.replace(**place)
    return function


def _signature(parameters: list | None) -> inspect.Signature | None:
    try:
        return inspect.Signature([
            inspect.Parameter(
                str(name), inspect._ParameterKind(kind), default=default if given else inspect.Parameter.empty
            )
            for name, kind, given, default in parameters or ()
        ]) if parameters is not None else None  # fmt: skip
    except (ValueError, TypeError):
        return None


def is_proxy(value: Any) -> bool:
    """Whether a value stands for something in the student's process."""
    return reference_of(value) is not None


def reference_of(value: Any) -> Reference | None:
    """Where the object behind a stand-in lives; None for any other value."""
    if isinstance(type(value), RemoteType):
        return object.__getattribute__(value, "_remote")
    if type(value) is RemoteType:
        return type.__getattribute__(value, "_class")
    if type(value) is types.FunctionType:
        return getattr(value, "__remote__", None)
    return None


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
