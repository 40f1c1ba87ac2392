"""Values that both processes hold a copy of: what is changed in one copy is changed in the other.

What can be changed in place crosses as a copy under a number.  With each message, each side tells what has
changed in its copies since the last one, so that two copies behave like one object: lists that a function
changes or keeps, arrays that share a name, a module that is trained.
"""

from __future__ import annotations

import collections
import io
import math
import operator
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

ROOM = 2**20  # bytes of data whose changes are watched from call to call; what is larger is a copy
PLACE = 64  # bytes that an item of a container counts

CONTAINERS = (
    list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.Counter,
    collections.defaultdict,
)  # fmt: skip
BUFFERS = (io.StringIO, io.BytesIO)
GENERATORS = (np.random.Generator, np.random.RandomState)


class Pairs:
    """The copies on this side.

    sign: 1 or -1, the sign of the numbers that this side gives; the other side gives the others.
    """

    def __init__(self, sign: int) -> None:
        self.objects: dict[int, Any] = {}
        self._sign, self._last = sign, 0
        self._numbers: dict[int, int] = {}
        self._known: dict[int, Any] = {}
        self._own: set[int] = set()

    def number(self, value: Any) -> int | None:
        """The number of a value, None if it has none."""
        return self._numbers.get(id(value))

    def add(self, value: Any, own: bool = False) -> int:
        """A new number for a value.   own: whatever the other side does to its copy, this one stays."""
        self._last += 1
        number = self._sign * self._last
        self._put(number, value)
        if own:
            self._own.add(number)
        return number

    def receive(self, number: int, value: Any) -> None:
        """Note a value to which the other side gave a new number; ValueError where it may not."""
        if type(number) is not int or number * self._sign >= 0 or number in self.objects:
            raise ValueError(f"{number!r} is no new number")
        self._put(number, value)

    def _put(self, number: int, value: Any) -> None:
        self.objects[number] = value
        self._numbers[id(value)] = number

    def settle(self, room: float = math.inf) -> None:
        """From here on, watch everything for changes that takes no more than so many bytes."""
        for number in self.objects.keys() - self._known.keys():
            if size(self.objects[number]) <= room:
                self._known[number] = snapshot(self.objects[number])

    def changed(self) -> list[tuple[int, Any]]:
        """What has changed since `settle`, with its number."""
        found = [
            (number, self.objects[number])
            for number, copy in self._known.items()
            if not same(self.objects[number], copy)
        ]
        for number, _ in found:
            del self._known[number]
        return found

    def restore(self, number: int, content: Any) -> None:
        """Make a value hold what the other side's copy holds now."""
        if number not in self._own:
            restore(self.objects[number], content)
            self._known.pop(number, None)

    def forget(self, numbers: Iterable[int]) -> None:
        """From here on, copies with these numbers have nothing to do with each other."""
        for number in numbers:
            value = self.objects.pop(number, None)
            self._numbers.pop(id(value), None)
            self._known.pop(number, None)

    def clear(self) -> None:
        """Forget everything."""
        self.forget(list(self.objects))

    def idle(self) -> list[int]:
        """Numbers of values that are not to be watched any more: nobody has them, or they are too large."""
        # one reference is the table's, one the argument's
        dead = [number for number in self.objects if sys.getrefcount(self.objects[number]) == 2]
        sizes = {number: size(value) for number, value in self.objects.items()}
        total = sum(sizes.values())
        for number in sorted(sizes, key=lambda number: (sizes[number] < ROOM / 4, abs(number))):
            if total <= ROOM:
                break
            total -= sizes[number]
            dead.append(number)
        return dead


# ---------------------------------------------------------------------------------------------------
# Kinds of values


def _torch() -> Any:
    return sys.modules.get("torch")


def is_stateful(value: Any) -> bool:
    """Whether a value is a module or an optimiser: pickled once, then told by its state."""
    torch = _torch()
    return torch is not None and isinstance(value, (torch.nn.Module, torch.optim.Optimizer))


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor."""
    torch = _torch()
    return torch is not None and isinstance(value, torch.Tensor)


def size(value: Any) -> int:
    """Bytes that a value counts; what a model consists of counts nothing, it is always watched."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_tensor(value):
        return 0 if isinstance(value, _torch().nn.Parameter) else value.numel() * value.element_size()
    return PLACE * len(value) if isinstance(value, CONTAINERS) else 0


def attributes(value: Any) -> dict[str, Any]:
    """The attributes of a plain object, those in slots too."""
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    return {
        **{name: getattr(value, name) for name in slots if hasattr(value, name)},
        **getattr(value, "__dict__", {}),
    }


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def is_plain(kind: type) -> bool:
    """Whether objects of a class of the notebook's are nothing but their attributes."""
    return all(base.__module__ in ("__main__", "abc", "typing") or base is object for base in kind.__mro__)


def state(value: Any) -> Any:
    """What a module, an optimiser, a buffer, a generator or a plain object holds, as data."""
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, BUFFERS):
        return [value.getvalue(), value.tell()]
    if is_stateful(value):
        parts = {"state": dict(value.state_dict())}
        if isinstance(value, _torch().nn.Module):
            parts["training"] = [module.training for module in value.modules()]
            parts["gradients"] = {name: p.grad for name, p in value.named_parameters() if p.grad is not None}
            parts["trained"] = [p.requires_grad for p in value.parameters()]
        return parts
    return attributes(value)


def is_state(value: Any) -> bool:
    """Whether what a value holds is told by `state`."""
    return not isinstance(value, (np.ndarray, *CONTAINERS)) and not is_tensor(value)


# ---------------------------------------------------------------------------------------------------
# Whether a value has changed


def snapshot(value: Any) -> Any:
    """Enough of a value to tell later whether it was changed."""
    if is_tensor(value):
        gradient = value.grad if value.is_leaf else None
        copy = value.detach().clone()
        return copy, value.requires_grad, None if gradient is None else gradient.detach().clone()
    if isinstance(value, (np.ndarray, *CONTAINERS)):
        return value.copy()
    # what the attributes of a plain object hold is watched for itself
    return _frozen(state(value)) if _is_told_whole(value) else attributes(value)


def _is_told_whole(value: Any) -> bool:
    return isinstance(value, (*GENERATORS, *BUFFERS)) or is_stateful(value)


def _frozen(value: Any) -> Any:
    """Data with copies of what could change in it."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_frozen(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.detach().clone() if is_tensor(value) else value


def same(value: Any, copy: Any) -> bool:
    """Whether a value is what it was when its snapshot was made."""
    if is_tensor(value):
        tensor, requires_grad, gradient = copy
        now = value.grad if value.is_leaf else None
        return value.requires_grad == requires_grad and _equal(value, tensor) and _equal(now, gradient)
    if isinstance(value, dict):
        return list(value) == list(copy) and all(map(operator.is_, value.values(), copy.values()))
    if isinstance(value, (np.ndarray, set, bytearray)):
        return _equal(value, copy)
    if isinstance(value, CONTAINERS):
        return len(value) == len(copy) and all(map(operator.is_, value, copy))
    if _is_told_whole(value):
        return _equal(state(value), copy)
    now = attributes(value)
    return list(now) == list(copy) and all(map(operator.is_, now.values(), copy.values()))


def _equal(value: Any, copy: Any) -> bool:
    """Whether two pieces of data are equal; NaN equals itself, an object only itself."""
    if is_tensor(value) and is_tensor(copy):
        if value.is_meta or value.shape != copy.shape:
            return value.shape == copy.shape
        return bool(((value == copy) | ((value != value) & (copy != copy))).all())
    if isinstance(value, np.ndarray) and isinstance(copy, np.ndarray):
        floats = value.dtype.kind in "fc"
        return value.shape == copy.shape and np.array_equal(value, copy, equal_nan=floats)
    if isinstance(value, dict) and isinstance(copy, dict):
        return list(value) == list(copy) and all(_equal(value[key], copy[key]) for key in value)
    if isinstance(value, (list, tuple)) and isinstance(copy, list):
        return len(value) == len(copy) and all(map(_equal, value, copy))
    plain = (bool, int, float, str, bytes, set, bytearray)
    return value is copy or type(value) in plain and type(value) is type(copy) and value == copy


# ---------------------------------------------------------------------------------------------------
# Changing a value


def restore(original: Any, content: Any) -> None:
    """Make a value hold this content: one of its own kind, or its `state`."""
    if isinstance(original, np.ndarray):
        original[...] = content
    elif is_tensor(original):
        _restore_tensor(original, content)
    elif isinstance(original, (dict, set)):
        original.clear()
        original.update(content)
    elif isinstance(original, collections.deque):
        original.clear()
        original.extend(content)
    elif isinstance(original, (list, bytearray)):
        original[:] = content
    else:
        restore_state(original, content)


def _restore_tensor(original: Any, content: Any) -> None:
    if original.is_leaf and original.requires_grad != content.requires_grad:
        original.requires_grad_(content.requires_grad)
    with _torch().no_grad():
        if not _equal(original, content):  # else what autograd has kept stays valid
            original.copy_(content)
    if original.is_leaf:
        original.grad = content.grad


def restore_state(original: Any, content: Any) -> None:
    """Make a value hold what another one's `state` said."""
    if isinstance(original, np.random.Generator):
        original.bit_generator.state = content
    elif isinstance(original, np.random.RandomState):
        original.set_state(content)
    elif isinstance(original, BUFFERS):
        original.seek(0)
        original.truncate()
        original.write(content[0])
        original.seek(content[1])
    elif is_stateful(original):
        _restore_model(original, content)
    else:
        _restore_attributes(original, content)


def _restore_model(original: Any, content: dict[str, Any]) -> None:
    original.load_state_dict(content["state"])
    if isinstance(original, _torch().nn.Module):
        for module, training in zip(original.modules(), content["training"], strict=True):
            module.training = training
        for (name, parameter), trained in zip(original.named_parameters(), content["trained"], strict=True):
            parameter.requires_grad_(trained).grad = content["gradients"].get(name)


def _restore_attributes(original: Any, content: dict[str, Any]) -> None:
    for name in attributes(original).keys() - content.keys():
        object.__delattr__(original, name)
    for name, value in content.items():
        object.__setattr__(original, name, value)
