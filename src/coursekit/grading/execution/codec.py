"""Values as data: what may cross between the student's process and the examiner's.

A value becomes JSON plus raw buffers.  None, booleans, numbers and text stand for themselves, everything
else is a list [tag, ...].  What can be changed in place becomes a pair: see `pairs`.  Decoding builds data
and nothing else: no class is looked up by a name that the other side chose, except those that `EXACT` and
the two ends' own references allow.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from coursekit.grading.execution.pairs import (
    BUFFERS,
    CONTAINERS,
    GENERATORS,
    Pairs,
    is_stateful,
    restore_state,
    state,
)

DEPTH = 60
ARRAY_KINDS = "biufcSUMm"


class Unencodable(TypeError):
    """A value cannot cross as data; the message says which and why."""


class BadData(ValueError):
    """What the other side sent does not decode."""


class Encoder:
    """One message's values.

    reference: gives a node for an object that is no data, or raises Unencodable.   graph: gives the number
    under which a tensor's graph is kept, None if it is not.   own: whether the values stay what they are,
    whatever the other side does to its copies.   tensors: those that want a gradient, in order.
    """

    def __init__(self, pairs: Pairs, reference: Callable[[Any], list]) -> None:
        self.buffers: list[Any] = []
        self.tensors: list[Any] = []
        self.own = False
        self.graph: Callable[[Any], int | None] = lambda tensor: None
        self._pairs, self._reference = pairs, reference
        self._added: list[int] = []
        self._apart = False

    def encode(self, value: Any, depth: int = 0) -> Any:
        """The node of a value; Unencodable where it holds something that is neither data nor referable."""
        if depth > DEPTH:
            raise Unencodable(f"a value is nested more than {DEPTH} deep")
        kind = type(value)
        if kind is int and not -(2**63) <= value < 2**63:
            return ["int", hex(value)]
        if value is None or kind in (bool, int, float, str):
            return value
        encode = _ENCODERS.get(kind) or self._by_library(value)
        if encode is None:
            return self._reference(value)
        if kind in CONTAINERS or encode in _PAIRED:
            return self.paired(value, lambda: encode(self, value, depth + 1))
        return encode(self, value, depth + 1)

    def paired(self, value: Any, content: Callable[[], list]) -> list:
        """The node of a value that can be changed in place.   content: gives what it holds."""
        if getattr(value, "requires_grad", False) is True:
            self.tensors.append(value)
        if self._apart or getattr(value, "grad_fn", None) is not None:
            return content()
        number = self._pairs.number(value)
        if number is not None:
            return ["pair", number]
        number = self._pairs.add(value, self.own)
        self._added.append(number)
        return ["pair", number, content()]

    def content(self, value: Any) -> list:
        """The node of what a value holds now that the other side has a copy of."""
        if isinstance(value, (*GENERATORS, *BUFFERS)) or is_stateful(value):
            return ["state", self.apart(state(value))]
        encode = _ENCODERS.get(type(value)) or self._by_library(value)
        return encode(self, value, 1) if encode else self.instance(value)

    def instance(self, value: Any) -> list:
        """The node of a plain object: the name of its class, and its attributes."""
        held = state(value).items()
        return ["instance", type(value).__name__, [[name, self.encode(item, 1)] for name, item in held]]

    def apart(self, value: Any) -> Any:
        """The node of data that nobody else refers to."""
        before, self._apart = self._apart, True
        try:
            return self.encode(value, 1)
        finally:
            self._apart = before

    def undo(self) -> None:
        """Take back the numbers that were given: this is not sent."""
        self._pairs.forget(self._added)
        self._added.clear()

    def buffer(self, data: Any) -> int:
        """The number of a buffer that is sent beside the JSON."""
        self.buffers.append(data)
        return len(self.buffers) - 1

    def items(self, values: Any, depth: int) -> list:
        """The nodes of several values."""
        return [self.encode(value, depth) for value in values]

    def _by_library(self, value: Any) -> Callable | None:
        kind = type(value)
        if kind is np.ndarray:
            return _array if _is_plain(value.dtype) else _objects
        if isinstance(value, np.generic):
            return _scalar if _is_plain(value.dtype) else None
        if isinstance(value, np.dtype):
            return _dtype
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return _namedtuple if kind.__module__ != "__main__" else _own_namedtuple
        if kind.__module__ == "torch" and kind.__name__ == "Size":
            return _size
        if isinstance(value, (list, tuple, dict, set, str, int, float)) and kind.__module__ != "__main__":
            return _by_base
        torch = sys.modules.get("torch")
        if torch is not None:
            for known, encode in ((torch.Tensor, _tensor), (torch.nn.Parameter, _tensor)):
                if kind is known and value.layout is torch.strided and not value.is_quantized:
                    return encode
            if kind in (torch.dtype, torch.device):
                return {torch.dtype: _torch_dtype, torch.device: _device}[kind]
        return None


def _is_plain(dtype: np.dtype) -> bool:
    """Whether an array of a dtype is data: numbers, text, dates, or fields of such."""
    return dtype.kind in ARRAY_KINDS or dtype.names is not None and not dtype.hasobject


def _describe(dtype: np.dtype) -> Any:
    """A dtype as JSON values: its text, or [name, dtype, shape] of each field."""
    if dtype.names is None:
        return dtype.str
    fields = [(name, dtype[name]) for name in dtype.names]
    return [[name, _describe(field.base), list(field.shape)] for name, field in fields]


def _array(encoder: Encoder, value: np.ndarray, depth: int) -> list:
    about = _describe(value.dtype)
    data = np.ascontiguousarray(value, _plain_dtype(about))  # without gaps between its fields
    data = data.view("u1") if data.dtype.kind in "USMmV" and data.size else data
    number = encoder.buffer(data.reshape(-1).view("u1") if data.size else b"")
    return ["array", number, about, list(value.shape), value.flags.writeable]


def _objects(encoder: Encoder, value: np.ndarray, depth: int) -> list:
    if value.dtype.kind != "O":
        raise Unencodable(f"an array of dtype {value.dtype} cannot be handed over")
    return ["objects", list(value.shape), encoder.items(value.reshape(-1).tolist(), depth)]


def _scalar(encoder: Encoder, value: np.generic, depth: int) -> list:
    return ["scalar", encoder.buffer(value.tobytes()), _describe(value.dtype)]


def _dtype(encoder: Encoder, value: np.dtype, depth: int) -> list:
    if not _is_plain(value) and value.kind != "O":
        raise Unencodable(f"the dtype {value} cannot be handed over")
    return ["dtype", _describe(value)]


def _namedtuple(encoder: Encoder, value: tuple, depth: int) -> list:
    kind = type(value)
    return ["named", kind.__module__, kind.__name__, list(kind._fields), encoder.items(value, depth)]


def _own_namedtuple(encoder: Encoder, value: tuple, depth: int) -> list:
    return ["named-as", encoder.encode(type(value), depth), encoder.items(value, depth)]


def _by_base(encoder: Encoder, value: Any, depth: int) -> Any:
    """A library's list, number or text of its own kind, as the plain one that it extends."""
    base = next(base for base in (list, tuple, dict, set, str, int, float) if isinstance(value, base))
    return encoder.encode(base(value), depth)


def _tensor(encoder: Encoder, value: Any, depth: int) -> list:
    import torch

    number = None
    if not value.is_meta:
        flat = value.detach().cpu().clone(memory_format=torch.contiguous_format).reshape(-1)
        number = encoder.buffer(flat.view(torch.uint8).numpy() if flat.numel() else b"")
    parameter = type(value) is torch.nn.Parameter
    about = str(value.dtype).removeprefix("torch."), list(value.shape), str(value.device)
    gradient = encoder.apart(value.grad) if value.is_leaf else None
    graph = None if value.grad_fn is None else encoder.graph(value)
    return ["tensor", number, *about, value.requires_grad, parameter, gradient, graph]


def _size(encoder: Encoder, value: Any, depth: int) -> list:
    return ["torch.Size", list(value)]


def _torch_dtype(encoder: Encoder, value: Any, depth: int) -> list:
    return ["torch.dtype", str(value).removeprefix("torch.")]


def _device(encoder: Encoder, value: Any, depth: int) -> list:
    return ["torch.device", str(value)]


def _generator(encoder: Encoder, value: Any, depth: int) -> list:
    bits = getattr(value, "bit_generator", value)
    return ["generator", type(bits).__name__, encoder.apart(state(value))]


def _buffer(encoder: Encoder, value: Any, depth: int) -> list:
    return ["buffer", type(value).__name__, encoder.apart(state(value))]


def _pairs(encoder: Encoder, value: dict, depth: int) -> list:
    return [[encoder.encode(key, depth), encoder.encode(item, depth)] for key, item in value.items()]


_ENCODERS: dict[type, Callable] = {
    list: lambda e, v, d: ["list", e.items(v, d)],
    tuple: lambda e, v, d: ["tuple", e.items(v, d)],
    set: lambda e, v, d: ["set", e.items(v, d)],
    frozenset: lambda e, v, d: ["frozenset", e.items(v, d)],
    collections.deque: lambda e, v, d: ["deque", e.items(v, d), v.maxlen],
    dict: lambda e, v, d: ["dict", _pairs(e, v, d)],
    collections.OrderedDict: lambda e, v, d: ["OrderedDict", _pairs(e, v, d)],
    collections.Counter: lambda e, v, d: ["Counter", _pairs(e, v, d)],
    collections.defaultdict: lambda e, v, d: [
        "defaultdict", _pairs(e, v, d), e.encode(v.default_factory, d)
    ],
    type({}.keys()): lambda e, v, d: ["dict_keys", e.items(v, d)],
    type({}.values()): lambda e, v, d: ["dict_values", e.items(v, d)],
    type({}.items()): lambda e, v, d: ["dict_items", e.items(v, d)],
    complex: lambda e, v, d: ["complex", v.real, v.imag],
    bytes: lambda e, v, d: ["bytes", e.buffer(v)],
    bytearray: lambda e, v, d: ["bytearray", e.buffer(bytes(v))],
    range: lambda e, v, d: ["range", v.start, v.stop, v.step],
    slice: lambda e, v, d: ["slice", *e.items((v.start, v.stop, v.step), d)],
    type(...): lambda e, v, d: ["..."],
    type(NotImplemented): lambda e, v, d: ["NotImplemented"],
    fractions.Fraction: lambda e, v, d: ["Fraction", *e.items((v.numerator, v.denominator), d)],
    decimal.Decimal: lambda e, v, d: ["Decimal", str(v)],
    datetime.datetime: lambda e, v, d: ["datetime", v.isoformat()],
    datetime.date: lambda e, v, d: ["date", v.isoformat()],
    datetime.timedelta: lambda e, v, d: ["timedelta", v.days, v.seconds, v.microseconds],
    datetime.time: lambda e, v, d: ["time", v.isoformat()],
    datetime.timezone: lambda e, v, d: ["timezone", v.utcoffset(None).total_seconds(), v.tzname(None)],
    pathlib.PurePosixPath: lambda e, v, d: ["PurePosixPath", str(v)],
    pathlib.PureWindowsPath: lambda e, v, d: ["PureWindowsPath", str(v)],
    type(pathlib.Path()): lambda e, v, d: ["Path", str(v)],
    types.SimpleNamespace: lambda e, v, d: ["SimpleNamespace", _pairs(e, vars(v), d)],
    **dict.fromkeys(GENERATORS, _generator),
    **dict.fromkeys(BUFFERS, _buffer),
}
_PAIRED = (_array, _objects, _tensor, _generator, _buffer)

# Classes that are recognised by name on the other side: types of data, and nothing that does anything.
EXACT: dict[str, type] = {
    **{
        kind.__name__: kind
        for kind in (
            bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range,
            object, type, slice, type(None),
        )
    },
    **{f"numpy.{kind.__name__}": kind for kind in (*np.sctypeDict.values(), np.ndarray, np.generic)},
}  # fmt: skip


class Decoder:
    """One message's values, from its buffers.

    dereference: gives the object behind a node that is a reference, or raises BadData.   instantiate: gives
    an empty object of the known class of that name.   tie: gives the tensor for one with a graph over there.
    tensors: those that want a gradient, in order.
    """

    def __init__(self, buffers: list[bytearray], pairs: Pairs, dereference: Callable[[list], Any]) -> None:
        self.tensors: list[Any] = []
        self.instantiate: Callable[[str], Any] | None = None
        self.tie: Callable[[Any, int], Any] = lambda tensor, graph: tensor
        self._buffers, self._pairs, self._dereference = buffers, pairs, dereference

    def decode(self, node: Any) -> Any:
        """The value of a node; BadData where it is none."""
        try:
            return self._decode(node)
        except BadData:
            raise
        except Exception as error:  # whatever a malformed node makes NumPy or torch raise
            raise BadData(f"a value does not decode ({type(error).__name__})") from error

    def restore(self, changes: list[list]) -> None:
        """Make copies hold what the other side's hold now: [number, content] of each."""
        try:
            for number, node in changes:
                tag = node[0]
                content = self._decode(node[1]) if tag == "state" else self._held(node)
                self._pairs.restore(number, content)
        except BadData:
            raise
        except Exception as error:
            raise BadData(f"a change does not decode ({type(error).__name__})") from error

    def _held(self, node: list) -> Any:
        return self._attributes(node[2], 0) if node[0] == "instance" else self._decode(node)

    def _decode(self, node: Any, depth: int = 0) -> Any:
        if depth > DEPTH + 5:
            raise BadData("a value is nested too deep")
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise BadData("a value has no tag")
            return node
        tag, *rest = node
        if tag == "pair":
            return self._pair(*rest, depth=depth)
        if tag in _CONTAINERS:
            return self._fill(self._empty(node), node, depth)
        if tag in _FROZEN:
            return _FROZEN[tag]([self._decode(item, depth + 1) for item in rest[0]])
        build = _DECODERS.get(tag)
        return self._dereference(node) if build is None else build(self, *rest)

    def _pair(self, number: int, node: list | None = None, *, depth: int) -> Any:
        """A value that can be changed in place: known, or with what it holds."""
        if node is None:
            value = self._pairs.objects[number]
            if getattr(value, "requires_grad", False) is True:
                self.tensors.append(value)
        elif node[0] in _CONTAINERS or node[0] == "instance":  # it may hold itself
            value = self._empty(node)
            self._pairs.receive(number, value)
            self._fill(value, node, depth)
        else:
            value = self._decode(node, depth + 1)
            self._pairs.receive(number, value)
        return value

    def _empty(self, node: list) -> Any:
        tag, *rest = node
        if tag == "instance":
            return self.instantiate(rest[0])
        if tag == "deque":
            return collections.deque(maxlen=rest[1])
        return collections.defaultdict(self._decode(rest[1])) if tag == "defaultdict" else _CONTAINERS[tag]()

    def _fill(self, target: Any, node: list, depth: int) -> Any:
        tag, *rest = node
        if tag == "instance":
            for name, value in self._attributes(rest[1], depth).items():
                object.__setattr__(target, name, value)
        elif isinstance(target, dict):
            for key, item in rest[0]:
                target[self._decode(key, depth + 1)] = self._decode(item, depth + 1)
        else:
            (target.update if tag == "set" else target.extend)(self._decode(i, depth + 1) for i in rest[0])
        return target

    def _attributes(self, nodes: list, depth: int) -> dict[str, Any]:
        if any(name.startswith("__") for name, _ in nodes):
            raise BadData("an attribute that is no data")
        return {str(name): self._decode(node, depth + 1) for name, node in nodes}

    def take(self, number: int) -> bytearray:
        """A buffer by its number."""
        if type(number) is not int or not 0 <= number < len(self._buffers):
            raise BadData("a buffer is missing")
        return self._buffers[number]


_CONTAINERS = {
    kind.__name__: kind
    for kind in (
        list, set, dict, collections.deque, collections.OrderedDict, collections.Counter,
        collections.defaultdict,
    )
}  # fmt: skip
_FROZEN: dict[str, Callable] = {
    "tuple": tuple,
    "frozenset": frozenset,
    "dict_keys": lambda items: dict.fromkeys(items).keys(),
    "dict_values": lambda items: dict(enumerate(items)).values(),
    "dict_items": lambda items: dict(items).items(),
}


def _plain_dtype(about: Any) -> np.dtype:
    """The dtype that `_describe` described; BadData where it holds objects."""
    if isinstance(about, list):
        return np.dtype([(str(name), _plain_dtype(field), tuple(shape)) for name, field, shape in about])
    dtype = np.dtype(str(about))
    if dtype.kind not in ARRAY_KINDS:
        raise BadData(f"an array of dtype {about!r}")
    return dtype


def _build_array(decoder: Decoder, number: int, dtype: Any, shape: list, writeable: bool) -> np.ndarray:
    array = np.frombuffer(decoder.take(number), _plain_dtype(dtype)).reshape(shape)
    array.flags.writeable = bool(writeable)
    return array


def _build_objects(decoder: Decoder, shape: list, nodes: list) -> np.ndarray:
    array = np.empty(len(nodes), object)
    array[:] = [decoder._decode(node) for node in nodes]
    return array.reshape(shape)


def _build_tensor(
    decoder: Decoder, number: int | None, name: str, shape: list, device: str, requires_grad: bool,
    parameter: bool, gradient: Any, graph: int | None,
) -> Any:  # fmt: skip
    import torch

    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise BadData(f"a tensor of dtype {name!r}")
    if number is None:
        tensor = torch.empty(shape, dtype=dtype, device="meta")
    else:
        raw = decoder.take(number)
        flat = torch.frombuffer(raw, dtype=torch.uint8).view(dtype) if raw else torch.empty(0, dtype=dtype)
        tensor = flat.reshape(shape).to(device)
    if parameter:
        tensor = torch.nn.Parameter(tensor, requires_grad=requires_grad)
    elif requires_grad:
        tensor.requires_grad_()
    if gradient is not None:
        tensor.grad = decoder._decode(gradient)
    if requires_grad:
        decoder.tensors.append(tensor)
    return tensor if graph is None else decoder.tie(tensor, graph)


def _build_named(decoder: Decoder, module: str, name: str, fields: list, nodes: list) -> tuple:
    """A named tuple: of the known class of that name if its fields agree, else of a new one like it."""
    known = getattr(sys.modules.get(module), name, None)
    named = isinstance(known, type) and issubclass(known, tuple) and hasattr(known, "_fields")
    if not named or list(known._fields) != fields:
        known = collections.namedtuple(name, fields)
    return tuple.__new__(known, [decoder._decode(node) for node in nodes])


def _build_named_as(decoder: Decoder, kind: Any, nodes: list) -> tuple:
    """A named tuple of a class that the two sides know."""
    return tuple.__new__(decoder._decode(kind), [decoder._decode(node) for node in nodes])


def _build_generator(decoder: Decoder, name: str, content: Any) -> Any:
    if name == "RandomState":
        made = np.random.RandomState(0)
    else:
        kinds = np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64
        made = np.random.Generator({kind.__name__: kind for kind in kinds}[name]())
    restore_state(made, decoder._decode(content))
    return made


def _build_buffer(decoder: Decoder, name: str, content: Any) -> Any:
    made = {kind.__name__: kind for kind in BUFFERS}[name]()
    restore_state(made, decoder._decode(content))
    return made


def _torch(name: str, *arguments: Any) -> Any:
    import torch

    return getattr(torch, name)(*arguments)


def _build_torch_dtype(decoder: Decoder, name: str) -> Any:
    import torch

    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise BadData(f"{name!r} is no dtype")
    return dtype


_DECODERS: dict[str, Callable] = {
    "int": lambda d, text: int(text, 16),
    "complex": lambda d, real, imag: complex(real, imag),
    "bytes": lambda d, number: bytes(d.take(number)),
    "bytearray": lambda d, number: bytearray(d.take(number)),
    "range": lambda d, *bounds: range(*bounds),
    "slice": lambda d, *bounds: slice(*map(d._decode, bounds)),
    "...": lambda d: ...,
    "NotImplemented": lambda d: NotImplemented,
    "Fraction": lambda d, up, down: fractions.Fraction(d._decode(up), d._decode(down)),
    "Decimal": lambda d, text: decimal.Decimal(text),
    "datetime": lambda d, text: datetime.datetime.fromisoformat(text),
    "date": lambda d, text: datetime.date.fromisoformat(text),
    "timedelta": lambda d, days, seconds, micro: datetime.timedelta(days, seconds, micro),
    "array": _build_array,
    "objects": _build_objects,
    "scalar": lambda d, number, dtype: np.frombuffer(d.take(number), _plain_dtype(dtype))[0],
    "dtype": lambda d, about: np.dtype(object) if about == "|O" else _plain_dtype(about),
    "time": lambda d, text: datetime.time.fromisoformat(text),
    "timezone": lambda d, seconds, name: datetime.timezone(datetime.timedelta(seconds=seconds), name),
    "PurePosixPath": lambda d, text: pathlib.PurePosixPath(text),
    "PureWindowsPath": lambda d, text: pathlib.PureWindowsPath(text),
    "Path": lambda d, text: pathlib.Path(text),
    "SimpleNamespace": lambda d, pairs: types.SimpleNamespace(
        **{str(d._decode(name)): d._decode(item) for name, item in pairs}
    ),
    "named": _build_named,
    "named-as": _build_named_as,
    "tensor": _build_tensor,
    "torch.Size": lambda d, sizes: _torch("Size", sizes),
    "torch.dtype": _build_torch_dtype,
    "torch.device": lambda d, text: _torch("device", text),
    "generator": _build_generator,
    "buffer": _build_buffer,
    "type": lambda d, name: EXACT[name],
}


def type_name(kind: type) -> str | None:
    """The name under which a class is in `EXACT`; None if it is not."""
    name = f"numpy.{kind.__name__}" if kind.__module__ == "numpy" else kind.__name__
    return name if EXACT.get(name) is kind else None
