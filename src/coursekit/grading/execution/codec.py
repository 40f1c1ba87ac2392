"""Values as data: what may cross between the student's process and the examiner's.

A value becomes JSON plus raw buffers.  None, booleans, numbers and text stand for themselves, everything
else is a list [tag, ...].  Decoding builds data and nothing else: no class is looked up by a name that
the other side chose, except those that `EXACT` and the two ends' own references allow.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

DEPTH = 60
ARRAY_KINDS = "biufcSUMm"


class Unencodable(TypeError):
    """A value cannot cross as data; the message says which and why."""


class BadData(ValueError):
    """What the other side sent does not decode."""


class Encoder:
    """One message's values.

    reference: gives a node for an object that is no data, or raises Unencodable.
    mutables: the originals of everything that could be changed in place, in the order of the message.
    arguments: by id, the numbers of objects that the other side has sent and means by them.
    """

    def __init__(self, reference: Callable[[Any], list]) -> None:
        self.buffers: list[Any] = []
        self.mutables: list[Any] = []
        self.arguments: dict[int, int] = {}
        self._reference = reference

    def encode(self, value: Any, depth: int = 0) -> Any:
        """The node of a value; Unencodable where it holds something that is neither data nor referable."""
        if depth > DEPTH:
            raise Unencodable(f"a value is nested more than {DEPTH} deep")
        kind = type(value)
        if kind is int and not -(2**63) <= value < 2**63:
            return ["int", hex(value)]
        if value is None or kind in (bool, int, float, str):
            return value
        if id(value) in self.arguments:
            return ["argument", self.arguments[id(value)]]
        encode = _ENCODERS.get(kind) or self._by_library(value)
        if encode is None:
            return self._reference(value)
        if kind in _MUTABLE:
            self.mutables.append(value)
        node = encode(self, value, depth + 1)
        if encode in (_array, _tensor, _generator):  # after what they hold, as they are decoded
            self.mutables.append(value)
        return node

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
            return _array if value.dtype.kind in ARRAY_KINDS else _objects
        if isinstance(value, np.generic):
            return _scalar if value.dtype.kind in ARRAY_KINDS else None
        if isinstance(value, np.dtype):
            return _dtype
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return _namedtuple
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


def _array(encoder: Encoder, value: np.ndarray, depth: int) -> list:
    data = np.ascontiguousarray(value)
    data = data.view("u1") if data.dtype.kind in "USMm" and data.size else data
    number = encoder.buffer(data.reshape(-1).view("u1") if data.size else b"")
    return ["array", number, value.dtype.str, list(value.shape), value.flags.writeable]


def _objects(encoder: Encoder, value: np.ndarray, depth: int) -> list:
    if value.dtype.kind != "O":
        raise Unencodable(f"an array of dtype {value.dtype} cannot be handed over")
    return ["objects", list(value.shape), encoder.items(value.reshape(-1).tolist(), depth)]


def _scalar(encoder: Encoder, value: np.generic, depth: int) -> list:
    return ["scalar", encoder.buffer(value.tobytes()), value.dtype.str]


def _dtype(encoder: Encoder, value: np.dtype, depth: int) -> list:
    if value.kind not in ARRAY_KINDS:
        raise Unencodable(f"the dtype {value} cannot be handed over")
    return ["dtype", value.str]


def _namedtuple(encoder: Encoder, value: tuple, depth: int) -> list:
    kind = type(value)
    return ["named", kind.__module__, kind.__name__, list(kind._fields), encoder.items(value, depth)]


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
    gradient = encoder.encode(value.grad, depth) if value.is_leaf else None
    return ["tensor", number, *about, value.requires_grad, parameter, gradient]


def _size(encoder: Encoder, value: Any, depth: int) -> list:
    return ["torch.Size", list(value)]


def _torch_dtype(encoder: Encoder, value: Any, depth: int) -> list:
    return ["torch.dtype", str(value).removeprefix("torch.")]


def _device(encoder: Encoder, value: Any, depth: int) -> list:
    return ["torch.device", str(value)]


def _generator(encoder: Encoder, value: np.random.Generator, depth: int) -> list:
    bits = value.bit_generator
    return ["generator", type(bits).__name__, encoder.encode(bits.state, depth)]


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
    collections.defaultdict: lambda e, v, d: ["defaultdict", _pairs(e, v, d)],
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
    np.random.Generator: _generator,
}
_MUTABLE = {
    list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.Counter,
    collections.defaultdict,
}  # fmt: skip

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

    dereference: gives the object behind a node that is a reference, or raises BadData.
    mutables: everything built that can be changed in place, in the order of the message.
    """

    def __init__(self, buffers: list[bytearray], dereference: Callable[[list], Any]) -> None:
        self._buffers, self._dereference = buffers, dereference
        self.mutables: list[Any] = []

    def decode(self, node: Any) -> Any:
        """The value of a node; BadData where it is none."""
        try:
            return self._decode(node)
        except BadData:
            raise
        except Exception as error:  # whatever a malformed node makes NumPy or torch raise
            raise BadData(f"a value does not decode ({type(error).__name__})") from error

    def _decode(self, node: Any, depth: int = 0) -> Any:
        if depth > DEPTH + 5:
            raise BadData("a value is nested too deep")
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise BadData("a value has no tag")
            return node
        tag, *rest = node
        if tag in _CONTAINERS:
            return self._container(tag, rest, depth)
        build = _DECODERS.get(tag)
        if build is None:
            return self._dereference(node)
        value = build(self, *rest)
        if tag in ("array", "tensor", "bytearray", "generator"):
            self.mutables.append(value)
        return value

    def _container(self, tag: str, rest: list, depth: int) -> Any:
        """A container; one that can change is listed before its items, as the encoder lists it."""
        kind, filled = _CONTAINERS[tag]
        target = kind() if filled else None
        if tag == "deque":
            target = collections.deque(maxlen=rest[1])
        if filled:
            self.mutables.append(target)
        if kind in (dict, collections.OrderedDict, collections.Counter, collections.defaultdict):
            for key, item in rest[0]:
                target[self._decode(key, depth + 1)] = self._decode(item, depth + 1)
            return target
        items = [self._decode(item, depth + 1) for item in rest[0]]
        if not filled:
            return kind(items)
        (target.update if kind is set else target.extend)(items)
        return target

    def take(self, number: int) -> bytearray:
        """A buffer by its number."""
        if type(number) is not int or not 0 <= number < len(self._buffers):
            raise BadData("a buffer is missing")
        return self._buffers[number]


_CONTAINERS = {
    "list": (list, True),
    "tuple": (tuple, False),
    "set": (set, True),
    "frozenset": (frozenset, False),
    "deque": (collections.deque, True),
    "dict": (dict, True),
    "OrderedDict": (collections.OrderedDict, True),
    "Counter": (collections.Counter, True),
    "defaultdict": (collections.defaultdict, True),
}


def _plain_dtype(text: str) -> np.dtype:
    dtype = np.dtype(str(text))
    if dtype.kind not in ARRAY_KINDS:
        raise BadData(f"an array of dtype {text!r}")
    return dtype


def _build_array(decoder: Decoder, number: int, dtype: str, shape: list, writeable: bool) -> np.ndarray:
    array = np.frombuffer(decoder.take(number), _plain_dtype(dtype)).reshape(shape)
    array.flags.writeable = bool(writeable)
    return array


def _build_objects(decoder: Decoder, shape: list, nodes: list) -> np.ndarray:
    array = np.empty(len(nodes), object)
    array[:] = [decoder._decode(node) for node in nodes]
    return array.reshape(shape)


def _build_tensor(
    decoder: Decoder, number: int | None, name: str, shape: list, device: str, requires_grad: bool,
    parameter: bool, gradient: Any,
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
    return tensor


def _build_named(decoder: Decoder, module: str, name: str, fields: list, nodes: list) -> tuple:
    """A named tuple: of the known class of that name if its fields agree, else of a new one like it."""
    known = getattr(sys.modules.get(module), name, None)
    named = isinstance(known, type) and issubclass(known, tuple) and hasattr(known, "_fields")
    if not named or list(known._fields) != fields:
        known = collections.namedtuple(name, fields)
    return tuple.__new__(known, [decoder._decode(node) for node in nodes])


def _build_generator(decoder: Decoder, name: str, state: Any) -> np.random.Generator:
    kinds = np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64
    bits = {kind.__name__: kind for kind in kinds}[name]()
    bits.state = decoder._decode(state)
    return np.random.Generator(bits)


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
    "dtype": lambda d, text: _plain_dtype(text),
    "named": _build_named,
    "tensor": _build_tensor,
    "torch.Size": lambda d, sizes: _torch("Size", sizes),
    "torch.dtype": _build_torch_dtype,
    "torch.device": lambda d, text: _torch("device", text),
    "generator": _build_generator,
    "type": lambda d, name: EXACT[name],
}


def type_name(kind: type) -> str | None:
    """The name under which a class is in `EXACT`; None if it is not."""
    name = f"numpy.{kind.__name__}" if kind.__module__ == "numpy" else kind.__name__
    return name if EXACT.get(name) is kind else None
