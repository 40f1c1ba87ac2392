"""The student's side: runs cells and calls their functions on request, in a process that nobody trusts."""

from __future__ import annotations

import builtins
import importlib
import io
import operator
import os
import pickle
import re
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial, reduce
from typing import Any

import numpy as np

from coursekit.grading.execution import surroundings
from coursekit.grading.execution.channel import Channel, ChannelClosed
from coursekit.grading.execution.codec import BadData, Decoder, Encoder, Unencodable
from coursekit.grading.execution.descriptions import References, text
from coursekit.grading.execution.pairs import Pairs
from coursekit.grading.execution.randomness import Streams
from coursekit.grading.execution.shell import Shell, Stream

DATA = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset)
_GONE = object()
_OWN_NAMES = re.compile(r"_(i*|\d+|i\d+|oh|ih|dh|_+|exit_code)|In|Out|exit|quit|open|get_ipython|__\w+__")


class Agent:
    """Answers the examiner's requests until the channel closes."""

    def __init__(self, channel: Channel, shell: Shell) -> None:
        self._channel, self._shell, self._process = channel, shell, os.getpid()
        self._references = References(shell.user_ns)
        self._pairs, self._streams = Pairs(1), Streams()
        self._told: dict[str, Any] = {}
        self._graphs: list[tuple[Any, list[Any]]] = []
        self._pickled: list[Any] = []
        self._recording = False
        self._watching: Any = None  # the Watch of the call that runs, if a check asked for one
        self._printed = _redirect_descriptors()
        builtins.input = self._input

    def serve(self) -> None:
        """Answer requests; returns never, ChannelClosed ends it."""
        while True:
            self._answer(*self._channel.receive())

    def _answer(self, request: dict[str, Any], buffers: list[bytearray]) -> None:
        encoder = self._encoder()
        try:
            decoder = self._decoder(request, buffers)
            reply = getattr(self, f"_do_{request['do']}")(request, decoder, encoder)
        except Exception as error:  # the student's objects may do anything when they are looked at
            encoder.undo()
            reply = {"failed": f"{type(error).__name__}: {text(error)}"}
        self._send(reply, encoder)

    def _send(self, message: dict[str, Any], encoder: Encoder) -> None:
        if os.getpid() != self._process:  # a fork in the student's code: only the original answers
            os._exit(0)
        if news := self._streams.news():
            message["random"] = encoder.apart(news)
        self._channel.send(message, encoder.buffers)

    def _encoder(self) -> Encoder:
        encoder = Encoder(self._pairs, lambda value: self._references.node(value, encoder))
        return encoder

    def _keep_graph(self, tensor: Any, inputs: list[Any]) -> int:
        """The number of a tensor's graph, which leads back to these inputs."""
        self._graphs.append((tensor, inputs))
        return len(self._graphs) - 1

    def _decoder(self, message: dict[str, Any], buffers: list[bytearray]) -> Decoder:
        """A decoder of the examiner's values, after what has changed over there has been changed here."""
        decoder = Decoder(buffers, self._pairs, self._dereference)
        decoder.instantiate = lambda name: object.__new__(self._shell.user_ns[name])
        if "fresh" in message:
            self._pairs.clear()
            self._told.clear()
            self._references.known = frozenset(message["fresh"])
        if message.get("pickled"):
            self._pickled = _Unpickler(io.BytesIO(buffers[-1]), self._dereference, self._pairs).load()
        if "random" in message:
            self._streams.adopt(decoder.decode(message["random"]))
        decoder.restore(message.get("changed", []))
        self._pairs.forget(message.get("forget", ()))
        for name, node in message.get("set", {}).items():
            self._shell.user_ns[name] = self._told[name] = decoder.decode(node)
        for name in message.get("delete", ()):
            self._shell.user_ns.pop(name, None)
            self._told.pop(name, None)
        return decoder

    # ---- Requests

    def _do_run(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Run a cell; tell its outputs and which names the student has now."""
        ran = self._shell.run(request["source"], request["cell"])
        outputs = ran.outputs + self._printed()
        return {"outputs": outputs, "success": ran.success, "names": list(self._names())}

    def _do_get(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        names = self._names()
        wanted = [name for name in request["names"] if name in names]
        self._told |= {name: names[name] for name in wanted}
        return {"values": {name: self._node(encoder, names[name]) for name in wanted}}

    def _do_call(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Call an object, or an operator on it, and tell the result and what has changed."""
        function = self._function(request)
        args = [decoder.decode(node) for node in request["args"]]
        kwargs = {name: decoder.decode(node) for name, node in request["kwargs"].items()}
        encoder.graph = lambda tensor: self._keep_graph(tensor, decoder.tensors)
        reply: dict[str, Any] = {}
        self._pairs.settle()
        with self._surrounded(request, decoder, reply):
            try:
                value, error = function(*args, **kwargs), None
            except BaseException as raised:  # whatever the student raises is an answer
                value, error = None, raised
        reply |= self._changes(encoder)
        if error is None:
            reply["value"] = self._node(encoder, value)
        else:
            reply["error"] = self._references.describe(error)
        return reply

    def _do_backward(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Send a gradient back through the graph of an earlier result."""
        y, inputs = self._graphs[request["graph"]]
        dy = decoder.decode(request["dy"])
        self._pairs.settle()
        before = [x.grad for x in inputs]
        for x in inputs:
            x.grad = None
        try:
            y.backward(dy, retain_graph=True)
            return {"value": encoder.apart([x.grad for x in inputs])}
        except Exception as error:
            return {"error": self._references.describe(error)}
        finally:
            for x, gradient in zip(inputs, before, strict=True):
                x.grad = gradient  # the examiner's own autograd adds to its copies

    def _do_shell(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Run a command of the shell; tell what it printed and its status."""
        output, status = self._shell.command(request["command"])
        return {"output": output, "status": status}

    def _do_finish(self, request: dict[str, Any], decoder: Decoder, encoder: Encoder) -> dict[str, Any]:
        """Tell what is displayed at the end of a cell: open figures."""
        reply: dict[str, Any] = {}
        with self._recorded(reply):
            self._shell.events.trigger("post_execute")
        return reply

    def _function(self, request: dict[str, Any]) -> Callable:
        if request["ref"] is None:
            return reduce(getattr, request["how"][1].split("."), importlib.import_module(request["how"][0]))
        target = self._references.objects[request["ref"]]
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
                return partial(self._special(special), target)

    def _special(self, name: str) -> Callable:
        """The operation behind a special method."""
        if name == "await":
            return self._shell.await_now
        return _SPECIAL.get(name) or (lambda value, *arguments: getattr(value, f"__{name}__")(*arguments))

    # ---- While the student's code runs

    @contextmanager
    def _surrounded(self, request: dict[str, Any], decoder: Decoder, reply: dict[str, Any]) -> Iterator[None]:
        """Let the student's code find what it would find in the test's process."""
        printing = builtins.print
        if "print" in request:
            builtins.print = decoder.decode(request["print"])
        try:
            with self._recorded(reply), self._watch(request.get("watch"), reply), _gradients(request):
                yield
        finally:
            builtins.print = printing

    @contextmanager
    def _recorded(self, reply: dict[str, Any]) -> Iterator[None]:
        """Collect what the student's code prints and shows."""
        recorder = self._shell.recorder
        recorder.start()
        previous, self._recording = (sys.stdout, sys.stderr, self._recording), True
        sys.stdout, sys.stderr = Stream(recorder, "stdout", 1), Stream(recorder, "stderr", 2)
        try:
            yield
        finally:
            reply["shown"] = self._outputs_so_far()
            sys.stdout, sys.stderr, self._recording = previous

    def _outputs_so_far(self) -> list[dict[str, Any]]:
        """What a call has printed and shown since it was last asked for."""
        if not self._recording:  # a cell's outputs are told at its end
            return []
        outputs = self._shell.recorder.finished() + self._printed()
        self._shell.recorder.start()
        return outputs

    @contextmanager
    def _watch(self, spec: dict[str, list[str]] | None, reply: dict[str, Any]) -> Iterator[None]:
        """Notice shortcuts, where a check asks for it."""
        if spec is None:
            yield
            return
        from coursekit.checks.engine.shortcuts import Watch

        watch = Watch(tuple(spec["forbidden"]), (*spec["allowed"], "coursekit.grading"))
        around, self._watching = self._watching, watch
        try:
            with watch:
                yield
        finally:
            self._watching = around
            reply["used"] = watch.used

    def _changes(self, encoder: Encoder) -> dict[str, Any]:
        """What has changed of what the examiner knows: copies, and names that mean something else now."""
        changed = [[number, encoder.content(value)] for number, value in self._pairs.changed()]
        names = self._shell.user_ns
        now = {name: names.get(name, _GONE) for name in self._told}
        bound = {name: value for name, value in now.items() if value is not self._told[name]}
        self._told |= bound
        deleted = [name for name, value in bound.items() if value is _GONE]
        for name in deleted:
            del self._told[name], bound[name]
        return {
            "changed": changed,
            "rebound": {name: self._node(encoder, value) for name, value in bound.items()},
            "unbound": deleted,
        }

    def _names(self) -> dict[str, Any]:
        """The student's own names, without IPython's."""
        return {name: value for name, value in self._shell.user_ns.items() if not _OWN_NAMES.fullmatch(name)}

    # ---- Values

    def _node(self, encoder: Encoder, value: Any) -> Any:
        """The node of a value; a reference where it holds what is neither data nor referable."""
        try:
            return encoder.encode(value)
        except Unencodable:
            return self._references.node(value, encoder)

    def _dereference(self, node: list) -> Any:
        """What the examiner means: an object of ours, one of its own functions, or something to import."""
        match node:
            case ["mine", number]:
                return self._references.objects[number]
            case ["callback", number, name, doc]:
                return self._callback(number, name, doc)
            case ["iterator", number]:
                return _Remote(self._callback(number, "next", None))
            case ["import", module, name]:
                return reduce(getattr, filter(None, name.split(".")), importlib.import_module(module))
            case ["main", name]:
                return self._shell.user_ns[name]
            case ["member", name, member]:
                return self._shell.user_ns[name][member]
            case ["fields", name, fields]:
                return namedtuple(name, fields)
            case ["raised", number, ancestors, args, said]:
                return _raised(number, ancestors, args, said)
            case ["pickled", number]:
                return self._pickled[number]
            case _:
                raise BadData(f"unknown value {node[0]!r}")

    # ---- The examiner's functions

    def _callback(self, number: int, name: str, doc: str | None) -> Callable:
        """A function of the examiner's that the student's code may call."""

        def callback(*args: Any, **kwargs: Any) -> Any:
            with self._watching.paused() if self._watching else nullcontext():
                return self._call_back(number, args, kwargs)

        callback.__name__ = callback.__qualname__ = name
        callback.__doc__ = doc
        return self._references.is_callback(callback, number)

    def _input(self, prompt: Any = "", /) -> str:
        """In place of the builtin: a test may have put something in the place of its own."""
        return self._call_back("input", (str(prompt),), {})

    def _call_back(self, number: int | str, args: tuple, kwargs: dict[str, Any]) -> Any:
        encoder = self._encoder()
        message = {"callback": number, **self._changes(encoder), "shown": self._outputs_so_far()}
        message["args"] = [self._node(encoder, value) for value in args]
        message["kwargs"] = {key: self._node(encoder, value) for key, value in kwargs.items()}
        self._send(message, encoder)
        while True:
            message, buffers = self._channel.receive()
            if "do" not in message:
                break
            self._answer(message, buffers)  # the examiner's function calls one of the student's
        decoder = self._decoder(message, buffers)
        node = message["error"] if "error" in message else message["value"]
        value = decoder.decode(node)
        self._pairs.settle()
        if "error" in message:
            raise value
        return value


class _Unpickler(pickle.Unpickler):
    """Reads the examiner's objects, in which others may be that this process has already."""

    def __init__(self, file: io.BytesIO, dereference: Callable[[list], Any], pairs: Pairs) -> None:
        super().__init__(file)
        self._dereference, self._pairs = dereference, pairs

    def persistent_load(self, node: list) -> Any:
        """The object of a pair, or of a reference."""
        return self._pairs.objects[node[1]] if node[0] == "pair" else self._dereference(list(node))


class _Remote:
    """An iterator of the examiner's."""

    def __init__(self, step: Callable[[], Any]) -> None:
        self._step = step

    def __iter__(self) -> _Remote:
        return self

    def __next__(self) -> Any:
        return self._step()


def _raised(number: int, ancestors: list, args: list, said: str) -> BaseException:
    """An exception of the examiner's, as the nearest class that is known here."""
    kinds = (getattr(sys.modules.get(module), name, None) for module, name in ancestors)
    kind = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseException))
    shown = type(ancestors[0][1], (kind,), {"__str__": lambda self: said, "__examiner__": number})
    error = shown.__new__(shown, *args)
    error.args = tuple(args)
    return error


def _gradients(request: dict[str, Any]) -> Any:
    if "no_grad" not in request:
        return nullcontext()
    import torch

    return torch.no_grad()


def _data(value: Any) -> Any:
    """An object that extends a kind of data, as plain data."""
    if isinstance(value, np.ndarray):
        return np.array(value, subok=False)
    base = next((base for base in DATA if isinstance(value, base)), None)
    if base is None:
        raise TypeError(f"{type(value).__name__} object: no plain data")
    return base(value)


def _copy(value: Any) -> Any:
    import copy

    return copy.copy(value)


def _deepcopy(value: Any) -> Any:
    import copy

    return copy.deepcopy(value)


_SPECIAL: dict[str, Callable] = {
    "len": len, "iter": iter, "next": next, "bool": bool, "int": int, "float": float, "complex": complex,
    "hash": hash, "str": str, "repr": repr, "format": format, "abs": abs, "array": np.asarray,
    "round": round, "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "contains": operator.contains, "index": operator.index, "neg": operator.neg, "pos": operator.pos,
    "invert": operator.invert, "dir": dir, "reversed": reversed, "divmod": divmod, "data": _data,
    "copy": _copy, "deepcopy": _deepcopy, "fspath": os.fspath,
}  # fmt: skip


def _redirect_descriptors() -> Callable[[], list[dict[str, Any]]]:
    """Send descriptors 1 and 2 to a file; the result gives what C code and subprocesses wrote since."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)

    def written() -> list[dict[str, Any]]:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return []
        words = os.pread(file.fileno(), min(size, 2**20), 0).decode("utf-8", "replace")
        os.ftruncate(file.fileno(), 0)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return [{"output_type": "stream", "name": "stdout", "text": words}]

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
