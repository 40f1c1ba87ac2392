"""The student's side: runs cells and calls their functions on request, in a process that nobody trusts."""

from __future__ import annotations

import importlib
import inspect
import operator
import os
import pickle
import re
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

import numpy as np

from coursekit.grading.execution import surroundings
from coursekit.grading.execution.channel import Channel, ChannelClosed
from coursekit.grading.execution.codec import BadData, Decoder, Encoder, Unencodable, type_name
from coursekit.grading.execution.randomness import Streams
from coursekit.grading.execution.shell import Shell, Stream

FUNCTIONS = (
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType, np.ufunc,
    partial,
)  # fmt: skip
SPECIAL = (
    "len iter next call getitem setitem delitem contains eq ne lt le gt ge bool int float index hash str "
    "repr abs neg pos invert add radd sub rsub mul rmul matmul rmatmul truediv rtruediv floordiv rfloordiv "
    "mod rmod pow rpow and rand or ror xor rxor iadd isub imul itruediv enter exit array round"
).split()
_OWN_NAMES = re.compile(r"_(i*|\d+|i\d+|oh|ih|dh|_+|exit_code)|In|Out|exit|quit|open|get_ipython|__\w+__")


class Agent:
    """Answers the examiner's requests until the channel closes.

    objects: what the examiner holds references to, by number.
    """

    def __init__(self, channel: Channel, shell: Shell) -> None:
        self.objects: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._channel, self._shell, self._process = channel, shell, os.getpid()
        self._graphs: dict[int, tuple[Any, list[Any]]] = {}
        self._printed = _redirect_descriptors()
        self._streams = Streams()

    def serve(self) -> None:
        """Answer requests; returns never, ChannelClosed ends it."""
        while True:
            self._answer(*self._channel.receive())

    def _answer(self, request: dict[str, Any], buffers: list[bytearray]) -> None:
        decoder, encoder = Decoder(buffers, self._dereference), Encoder(self._reference)
        beside = Decoder(buffers, self._dereference)
        self._pickled = pickle.loads(buffers[-1]) if request.get("pickled") else ()
        self._streams.adopt(beside.decode(request["random"]) if "random" in request else ())
        self._synchronise(request.get("set", {}), request.get("delete", ()), beside)
        try:
            reply = getattr(self, f"_do_{request['do']}")(request, decoder, encoder)
        except Exception as error:  # the student's objects may do anything when they are looked at
            encoder, reply = Encoder(self._reference), {"failed": f"{type(error).__name__}: {_text(error)}"}
        if os.getpid() != self._process:  # a fork in the student's code: only the original answers
            os._exit(0)
        if news := self._streams.news():
            reply["random"] = encoder.encode(news)
        self._channel.send(reply, encoder.buffers)

    def _synchronise(self, values: dict[str, Any], deleted: list[str], decoder: Decoder) -> None:
        for name, node in values.items():
            self._shell.user_ns[name] = decoder.decode(node)
        for name in deleted:
            self._shell.user_ns.pop(name, None)

    # ---- Requests

    def _do_run(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Run a cell; tell its outputs and which names the student has now and which are new."""
        before = {name: id(value) for name, value in self._names().items()}
        ran = self._shell.run(request["source"], request["cell"])
        names = self._names()
        bound = [name for name, value in names.items() if before.get(name) != id(value)]
        outputs = ran.outputs + self._printed()
        return {"outputs": outputs, "success": ran.success, "names": list(names), "bound": bound}

    def _do_get(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        names = self._names()
        wanted = [name for name in request["names"] if name in names]
        return {"values": {name: self._node(encoder, names[name]) for name in wanted}}

    def _do_call(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Call an object, or an operator on it, and tell the result and which arguments changed."""
        function = self._function(request)
        args = [decoder.decode(node) for node in request["args"]]
        kwargs = {name: decoder.decode(node) for name, node in request["kwargs"].items()}
        values = [*decoder.mutables, *filter(_is_module, self._pickled)]
        copies = [_snapshot(value) for value in values]
        reply: dict[str, Any] = {}
        with self._recorded(reply), self._watch(request.get("watch"), reply):
            try:
                value = function(*args, **kwargs)
            except BaseException as error:  # whatever the student raises is an answer
                reply["error"] = self._describe(error, encoder)
            else:
                encoder.arguments = {id(one): number for number, one in enumerate(values)}
                reply["value"] = self._node(encoder, value, decoder.mutables)
                encoder.arguments = {}
        reply["changed"] = [
            [number, self._state(encoder, value)]
            for number, (value, copy) in enumerate(zip(values, copies, strict=True))
            if not _same(value, copy)
        ]
        return reply

    def _do_backward(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Send a gradient back through the graph of an earlier result."""
        y, inputs = self._graphs[request["graph"]]
        for x in inputs:
            x.grad = None
        try:
            y.backward(decoder.decode(request["dy"]), retain_graph=True)
        except Exception as error:
            return {"error": self._describe(error, encoder)}
        return {"value": encoder.encode([x.grad for x in inputs])}

    def _function(self, request: dict[str, Any]) -> Callable:
        target = self.objects[request["ref"]]
        match request["how"]:
            case "call":
                return target
            case "getattr":
                return partial(getattr, target)
            case "setattr":
                return partial(setattr, target)
            case "delattr":
                return partial(delattr, target)
            case special:
                return partial(_special(special), target)

    @contextmanager
    def _recorded(self, reply: dict[str, Any]) -> Iterator[None]:
        """Collect what the student's code prints and shows."""
        recorder = self._shell.recorder
        recorder.start()
        previous = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Stream(recorder, "stdout", 1), Stream(recorder, "stderr", 2)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = previous
            reply["outputs"] = recorder.finished() + self._printed()

    @contextmanager
    def _watch(self, spec: dict[str, list[str]] | None, reply: dict[str, Any]) -> Iterator[None]:
        """Notice shortcuts, where a check asks for it."""
        if spec is None:
            yield
            return
        from coursekit.checks.engine.shortcuts import Watch

        watch = Watch(tuple(spec["forbidden"]), (*spec["allowed"], "coursekit.grading"))
        try:
            with watch:
                yield
        finally:
            reply["used"] = watch.used

    def _names(self) -> dict[str, Any]:
        """The student's own names, without IPython's."""
        return {name: value for name, value in self._shell.user_ns.items() if not _OWN_NAMES.fullmatch(name)}

    # ---- Values

    def _node(self, encoder: Encoder, value: Any, inputs: list[Any] | None = None) -> Any:
        """The node of a value; a tensor with a graph keeps it here, to be gone back through later."""
        try:
            node = encoder.encode(value)
        except Unencodable:
            return self._reference(value)
        if inputs is not None:
            self._keep_graphs(node, value, [x for x in inputs if getattr(x, "requires_grad", False)])
        return node

    def _keep_graphs(self, node: Any, value: Any, inputs: list[Any]) -> None:
        """Give every tensor in the node that has a graph the number under which it is kept."""
        if not isinstance(node, list):
            return
        if node[0] == "tensor" and value.grad_fn is not None:
            number = len(self._graphs)
            self._graphs[number] = value, inputs
            node.append(number)
        elif node[0] in ("list", "tuple"):
            for part, item in zip(node[1], value, strict=True):
                self._keep_graphs(part, item, inputs)
        elif node[0] == "dict":
            for (_, part), item in zip(node[1], value.values(), strict=True):
                self._keep_graphs(part, item, inputs)

    def _reference(self, value: Any) -> list:
        """A node for what is no data: a reference by number, with what can be told about it."""
        if isinstance(value, type) and type_name(value):
            return ["type", type_name(value)]
        callback = getattr(value, "__callback__", None) if type(value) is types.FunctionType else None
        if callback is not None:
            return ["yours", callback]
        number = self._number(value)
        if isinstance(value, FUNCTIONS):
            return ["ref", number, "function", _about_function(value)]
        if isinstance(value, type):
            return ["ref", number, "class", self._about_class(value)]
        if isinstance(value, BaseException):
            return ["ref", number, "exception", self._describe(value, None)]
        if isinstance(value, types.ModuleType):
            return ["ref", number, "object", {"class": [number, "module", "module", [], []]}]
        return ["ref", number, "object", {"class": self._about_class(type(value))}]

    def _number(self, value: Any) -> int:
        number = self._numbers.setdefault(id(value), len(self._numbers) + 1)
        self.objects[number] = value  # kept, so that its id stays its own
        return number

    def _about_class(self, kind: type) -> list:
        """[number, module, name, ancestors, special methods] of a class."""
        ancestors = [[str(base.__module__), base.__name__] for base in kind.__mro__]
        special = [name for name in SPECIAL if _defines(kind, f"__{name}__")]
        return [self._number(kind), str(kind.__module__), kind.__name__, ancestors, special]

    def _describe(self, error: BaseException, encoder: Encoder | None) -> dict[str, Any]:
        """An exception as data: its ancestors, arguments, text, and where it was raised."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename != __file__][-30:]
        return {
            "class": self._about_class(type(error)),
            "args": _plain(getattr(error, "args", ())),
            "text": _text(error),
            "frames": [[frame.filename, frame.lineno or 0, frame.name] for frame in own],
        }

    def _state(self, encoder: Encoder, value: Any) -> Any:
        """What a changed argument holds now."""
        if _is_module(value):
            gradients = {name: p.grad for name, p in value.named_parameters() if p.grad is not None}
            value = {"state": dict(value.state_dict()), "gradients": gradients}
        return self._node(encoder, value)

    def _dereference(self, node: list) -> Any:
        """What the examiner means: an object of ours, one of its own functions, or something to import."""
        match node:
            case ["mine", number]:
                return self.objects[number]
            case ["callback", number, name]:
                return self._callback(number, name)
            case ["import", module, name]:
                return reduce(getattr, filter(None, name.split(".")), importlib.import_module(module))
            case ["main", name]:
                return self._shell.user_ns[name]
            case ["pickled", number]:
                return self._pickled[number]
            case _:
                raise BadData(f"unknown value {node[0]!r}")

    def _callback(self, number: int, name: str) -> Callable:
        """A function of the examiner's that the student's code may call."""

        def callback(*args: Any, **kwargs: Any) -> Any:
            encoder = Encoder(self._reference)
            nodes = [encoder.encode(value) for value in args]
            named = {key: encoder.encode(value) for key, value in kwargs.items()}
            self._channel.send({"callback": number, "args": nodes, "kwargs": named}, encoder.buffers)
            while True:
                message, buffers = self._channel.receive()
                if "do" not in message:
                    break
                self._answer(message, buffers)  # the examiner's function calls one of the student's
            decoder = Decoder(buffers, self._dereference)
            if "error" in message:
                raise decoder.decode(message["error"])
            return decoder.decode(message["value"])

        callback.__name__ = name
        callback.__callback__ = number
        return callback


def _special(name: str) -> Callable:
    """The operation behind a special method."""
    simple = {
        "len": len, "iter": iter, "next": next, "bool": bool, "int": int, "float": float, "hash": hash,
        "str": str, "repr": repr, "abs": abs, "array": np.asarray, "round": round, "plain": _plain_base,
        "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
        "contains": operator.contains, "index": operator.index, "neg": operator.neg, "pos": operator.pos,
        "invert": operator.invert, "dir": dir,
    }  # fmt: skip
    return simple.get(name) or (lambda value, *arguments: getattr(value, f"__{name}__")(*arguments))


def _plain_base(value: Any) -> Any:
    """The plain data in an object of a class that extends a kind of data; TypeError if it extends none."""
    kinds = (list, tuple, dict, set, frozenset, str, bytes, int, float, complex)
    if isinstance(value, np.ndarray):
        return np.array(value, subok=False)
    base = next((kind for kind in kinds if isinstance(value, kind)), None)
    if base is None:
        raise TypeError(f"{type(value).__name__} extends no kind of data")
    return base(value)


def _defines(kind: type, name: str) -> bool:
    """Whether a class has a special method of its own, not just object's."""
    return getattr(kind, name, None) not in (None, getattr(object, name, None))


def _about_function(function: Callable) -> dict[str, Any]:
    """Name, documentation, parameters and place of a function."""
    code = getattr(function, "__code__", None)
    return {
        "name": str(getattr(function, "__name__", type(function).__name__)),
        "doc": getattr(function, "__doc__", None) if isinstance(function, types.FunctionType) else None,
        "parameters": _parameters(function),
        "place": [code.co_filename, code.co_firstlineno] if code else None,
    }


def _parameters(function: Callable) -> list | None:
    """[name, kind, has a default, the default if it is plain] for each parameter; None if unknown."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None
    return [[p.name, int(p.kind), *_default(p)] for p in parameters]


def _default(parameter: inspect.Parameter) -> list:
    given = parameter.default is not parameter.empty
    return [given, *(_plain([parameter.default]) if given else [None])]


def _plain(values: Any) -> list:
    """Values that JSON has, others as their text."""
    plain = (type(None), bool, int, float, str)
    return [value if type(value) in plain else _text(value) for value in tuple(values)[:20]]


def _text(value: Any) -> str:
    try:
        return str(value)[:4000]
    except BaseException:  # a student's class may fail to describe itself
        return ""


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _snapshot(value: Any) -> Any:
    """Enough of a value to tell later whether it was changed."""
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if _is_module(value):
        return {name: tensor.detach().clone() for name, tensor in value.state_dict().items()}
    if hasattr(value, "requires_grad"):
        return value.detach().clone()
    return value.copy()


def _same(value: Any, copy: Any) -> bool:
    """Whether a value is what it was when the snapshot was made."""
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state) == copy
    if _is_module(value):
        state = value.state_dict()
        fresh = all(p.grad is None for p in value.parameters())
        return fresh and state.keys() == copy.keys() and all(_same(state[name], copy[name]) for name in copy)
    if hasattr(value, "requires_grad"):
        if value.is_meta or value.shape != copy.shape:
            return value.shape == copy.shape
        return bool(((value.detach() == copy) | ((value != value) & (copy != copy))).all())
    if isinstance(value, np.ndarray):
        return value.shape == copy.shape and np.array_equal(value, copy, equal_nan=value.dtype.kind in "fc")
    if isinstance(value, dict):
        return list(value) == list(copy) and all(map(operator.is_, value.values(), copy.values()))
    if isinstance(value, (set, bytearray)):
        return value == copy
    return len(value) == len(copy) and all(map(operator.is_, value, copy))


def _redirect_descriptors() -> Callable[[], list[dict[str, Any]]]:
    """Send descriptors 1 and 2 to a file; the result gives what C code and subprocesses wrote since."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)

    def written() -> list[dict[str, Any]]:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return []
        text = os.pread(file.fileno(), min(size, 2**20), 0).decode("utf-8", "replace")
        os.ftruncate(file.fileno(), 0)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return [{"output_type": "stream", "name": "stdout", "text": text}]

    return written


def serve(channel: Channel) -> None:
    """Be the student's process on this channel, with the shell that the process has."""
    sys.path.append(os.getcwd())  # modules beside the notebook, which shadow no others
    Agent(channel, Shell.instance()).serve()


def main(execution: str) -> None:
    """Be the student's process on standard input and output, as a container has them."""
    channel = Channel(os.dup(0), os.dup(1), 2**31)
    with open(os.devnull, "r+b") as null:
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)
    os.environ["NBGRADER_EXECUTION"] = execution
    Shell.start()
    surroundings.prepare()
    channel.send({"ready": True})
    try:
        serve(channel)
    except ChannelClosed:
        return


if __name__ == "__main__":
    main(sys.argv[1])
