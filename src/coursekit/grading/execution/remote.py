"""The examiner's hold on a student's process: run cells, fetch names, call functions, start anew."""

from __future__ import annotations

import functools
import linecache
import pickle
import sys
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from coursekit.grading.execution.channel import Channel, ChannelClosed, ReplyLate
from coursekit.grading.execution.codec import BadData, Decoder, Encoder, Unencodable, type_name
from coursekit.grading.execution.proxies import Proxies, Reference, RemoteWatch, reference_of
from coursekit.grading.execution.randomness import Streams
from coursekit.grading.execution.shell import is_storable, storable_metadata
from coursekit.grading.records import Limits

FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
SECRET = ("coursekit.checks.", "coursekit.grading.", "__main__.", "__mp_main__.")


class Connection(Protocol):
    """A running student's process."""

    channel: Channel
    confined: bool

    def end(self, seconds: float = 0.0) -> str:
        """End it and all that it started; says what had become of it, if it ended by itself in time."""


class ProcessEnded(Exception):
    """The student's process ended while it was asked for something."""


class NotStarted(Exception):
    """No student's process can be had: the grader's failure, not the student's."""


class TimeUp(Exception):
    """A call or a cell took longer than it may."""


@dataclass(frozen=True)
class Request:
    """A request that a new life of the process must hear again; seconds: how long it took."""

    source: str
    cell: str
    seconds: float


class Student:
    """One hand-in's process, through all its lives.

    start: makes a process.   names, bound: what the student's namespace holds, and what the cells that
    ran since the last look have bound.   lost: what became of processes that ended before their time.
    broken: why no process can be had any more; then nothing that happened counts.
    """

    def __init__(self, start: Callable[[], Connection], limits: Limits) -> None:
        self.generation = 0
        self.names: set[str] = set()
        self.bound: set[str] = set()
        self.lost: list[str] = []
        self.broken: str | None = None
        self.watching: RemoteWatch | None = None
        self.deadline: float | None = None
        self.pending: Callable[[], tuple[dict[str, Any], list[str]]] = lambda: ({}, [])
        self.show: Callable[[list[dict[str, Any]]], None] = lambda outputs: None
        self.renewed: Callable[[], None] = lambda: None
        self._start, self._limits = start, limits
        self._connection: Connection | None = None
        self._history: list[Request] = []
        self._proxies = Proxies(self)
        self._callbacks: list[Callable] = []
        self._streams = Streams()

    def watch(self, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> RemoteWatch:
        """A watch over the calls of a check."""
        return RemoteWatch(self, forbidden, allowed)

    # ---- Cells

    def begin(self) -> None:
        """Have a process, and with it a folder to work in, before the first cell."""
        try:
            self._ensure()
        except NotStarted:  # which is what `broken` says from now on
            pass

    def run(self, source: str, cell: str, again: bool = True) -> tuple[list[dict[str, Any]], bool]:
        """Run a cell of the student's; its outputs, and whether it got to its end.

        again: whether a new life of the process is to run it too.
        """
        _remember_lines(source, cell)
        began = time.monotonic()
        try:
            message = {"do": "run", "source": source, "cell": cell}
            reply, _ = self._ask(message, seconds=self._limits.cell_seconds)
            outputs = [_checked(output) for output in self._learn(reply)]
        except (ProcessEnded, TimeUp, NotStarted, BadData) as error:
            return [error_output(type(error).__name__, str(error))], False
        if again:
            self._history.append(Request(source, cell, time.monotonic() - began))
        return outputs, bool(reply.get("success"))

    def forget(self) -> None:
        """Go on in a new process, which remembers the cells but no call, unless they took too long."""
        if sum(request.seconds for request in self._history) <= self._limits.repeat_seconds:
            self.end()

    def end(self) -> None:
        """End the process, if there is one."""
        if self._connection is not None:
            self._connection.end()
            self._connection = None

    def _learn(self, reply: dict[str, Any]) -> list[Any]:
        """Note which names there are after a cell; its outputs."""
        self.names = set(map(str, reply["names"]))
        self.bound |= set(map(str, reply["bound"]))
        return reply["outputs"]

    def _ensure(self) -> Channel:
        """The channel to a living process, which has run all that was run before."""
        if self.broken:
            raise NotStarted(self.broken)
        if self._connection is None:
            self._connection = self._started()
            self.generation += 1
            for request in self._history:
                message = {"do": "run", "source": request.source, "cell": request.cell}
                reply, _ = self._exchange(message, [], self._limits.cell_seconds)
                self._learn(reply)
            if self.generation > 1:
                self.renewed()
        return self._connection.channel

    def _started(self) -> Connection:
        try:
            return self._start()
        except OSError as error:
            self.broken = f"the student's process could not be started: {error}"
            raise NotStarted(self.broken) from error

    # ---- Values

    def fetch(self, names: Sequence[str]) -> dict[str, Any]:
        """What the student's namespace holds under these names: data, or stand-ins."""
        wanted = [name for name in names if name in self.names]
        if not wanted:
            return {}
        reply, buffers = self._ask({"do": "get", "names": wanted})
        decoder = Decoder(buffers, self._dereference)
        values = {}
        for name, node in reply["values"].items():
            named = isinstance(node, list) and node[:1] == ["ref"]
            values[name] = self._proxies.make(node, name) if named else decoder.decode(node)
        return values

    def call(self, reference: Reference, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call an object of the student's; what it raises is raised here."""
        return self._operate(reference, "call", args, kwargs)

    def operate(self, reference: Reference, how: str, *args: Any) -> Any:
        """Do something else with an object: "getattr", "len", "add" ..."""
        return self._operate(reference, how, args, {})

    def _operate(self, reference: Reference, how: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        self._ensure()
        encoder = _Outgoing(self)
        message = {
            "do": "call",
            "ref": self._current(reference),
            "how": how,
            "args": [encoder.encode(value) for value in args],
            "kwargs": {name: encoder.encode(value) for name, value in kwargs.items()},
            "watch": self.watching.spec if self.watching else None,
        }
        reply, buffers = self._ask(message, encoder)
        decoder = Decoder(buffers, lambda node: self._of_call(node, encoder))
        self.show([_checked(output) for output in reply.get("outputs", [])])
        if self.watching and reply.get("used"):
            self.watching.used = self.watching.used or str(reply["used"])
        for number, node in reply.get("changed", []):
            _restore(encoder.mutables[number], decoder.decode(node))
        if "error" in reply:
            raise self._proxies.exception(reply["error"])
        return self._with_graphs(decoder.decode(_bare(reply["value"])), reply["value"], encoder.mutables)

    def _of_call(self, node: list, encoder: _Outgoing) -> Any:
        """What a node of a call's reply refers to: one of its arguments, or something of the student's."""
        if node[0] == "argument":
            return encoder.mutables[node[1]]
        return self._dereference(node)

    def _current(self, reference: Reference) -> int:
        """The number of an object now; after a new start, that of what has its name."""
        if reference.generation == self.generation:
            return reference.number
        if reference.name is None:
            raise ProcessEnded("the student's process was started anew; this object went with the old one")
        fresh = reference_of(self.fetch([reference.name]).get(reference.name))
        if fresh is None:
            raise ProcessEnded(f"the student's process was started anew and has no {reference.name}")
        return fresh.number

    def _with_graphs(self, value: Any, node: Any, inputs: list[Any]) -> Any:
        """The value with every tensor tied to its graph in the student's process."""
        if not isinstance(node, list) or not node:
            return value
        if node[0] == "tensor" and len(node) > 8:
            return _tied(self, int(node[8]), value, [x for x in inputs if getattr(x, "requires_grad", False)])
        if node[0] in ("list", "tuple") and node[1]:
            pairs = zip(value, node[1], strict=True)
            return type(value)(self._with_graphs(item, part, inputs) for item, part in pairs)
        if node[0] == "dict":
            for key, (_, part) in zip(list(value), node[1], strict=True):
                value[key] = self._with_graphs(value[key], part, inputs)
        return value

    def backward(self, graph: int, dy: Any, generation: int) -> list[Any]:
        """Gradients of the inputs of an earlier call, given that of its result."""
        if generation != self.generation:
            raise ProcessEnded("the student's process was started anew; the graph was lost with the old one")
        encoder = _Outgoing(self)
        reply, buffers = self._ask({"do": "backward", "graph": graph, "dy": encoder.encode(dy)}, encoder)
        if "error" in reply:
            raise self._proxies.exception(reply["error"])
        return Decoder(buffers, self._dereference).decode(reply["value"])

    def can_send(self, value: Any) -> bool:
        """Whether a value can be handed to the student's process."""
        encoder = _Outgoing(self)
        try:
            encoder.encode(value)
            encoder.finish({})
        except Unencodable:
            return False
        return True

    def reference(self, value: Any, encoder: _Outgoing) -> list:
        """The node for a value of the examiner's that is no data."""
        reference = reference_of(value)
        if reference is not None:
            return ["mine", self._current(reference)]
        if isinstance(value, type) and type_name(value):
            return ["type", type_name(value)]
        if isinstance(value, types.ModuleType):
            return ["import", value.__name__, ""]
        if isinstance(value, type) and value.__module__ == "__main__":
            return ["main", value.__name__]
        if callable(value) and _importable(value):
            return ["import", value.__module__, value.__qualname__]
        if isinstance(value, FUNCTIONS) or _is_guarded(value):
            self._callbacks.append(value)
            return ["callback", len(self._callbacks) - 1, getattr(value, "__name__", "function")]
        return encoder.pickle(value)

    def _dereference(self, node: list) -> Any:
        if node[0] == "yours":
            return self._callbacks[node[1]]
        return self._proxies.make(node)

    # ---- Messages

    def _ask(
        self, message: dict[str, Any], encoder: _Outgoing | None = None, seconds: float | None = None
    ) -> tuple[dict[str, Any], list[bytearray]]:
        """Ask for something within the time that is left; ProcessEnded or TimeUp where nothing comes."""
        self._ensure()
        encoder = encoder or _Outgoing(self)
        values, deleted = self.pending()
        beside = encoder.beside()
        if values or deleted:
            message["set"] = {name: beside.encode(value) for name, value in values.items()}
            message["delete"] = deleted
        if news := self._streams.news():
            message["random"] = beside.encode(news)
        seconds = seconds or self._limits.call_seconds
        reply, buffers = self._exchange(message, encoder.finish(message), seconds)
        if "random" in reply:
            self._streams.adopt(Decoder(buffers, self._dereference).decode(reply["random"]))
        return reply, buffers

    def _exchange(
        self, message: dict[str, Any], buffers: list[Any], seconds: float
    ) -> tuple[dict[str, Any], list[bytearray]]:
        allowed = seconds if self.deadline is None else min(seconds, self.deadline - time.monotonic())
        if allowed <= 0:
            raise TimeUp("not run: the time of this cell was used up before")
        end = time.monotonic() + allowed
        channel = self._connection.channel
        try:
            channel.send(message, buffers)
            while True:
                reply, received = channel.receive(end - time.monotonic())
                if "callback" not in reply:
                    break
                self._call_back(channel, reply, received)
        except ReplyLate:
            self._give_up(f"took longer than {_rounded(allowed)} s")
            raise TimeUp(f"did not finish within {_rounded(allowed)} s") from None
        except ChannelClosed as error:
            raise ProcessEnded(self._give_up(str(error), wait=5.0)) from None
        except BaseException:  # interrupted while a reply is on its way
            self._give_up("was interrupted")
            raise
        if "failed" in reply:
            raise BadData(str(reply["failed"]))
        if not _answers(reply, message["do"]):  # whoever writes out of turn is not listened to any more
            raise ProcessEnded(self._give_up("it sent what is no answer"))
        return reply, received

    def _call_back(self, channel: Channel, message: dict[str, Any], buffers: list[bytearray]) -> None:
        """The student's code calls a function of the examiner's."""
        decoder = Decoder(buffers, self._dereference)
        try:
            args = [decoder.decode(node) for node in message["args"]]
            kwargs = {str(name): decoder.decode(node) for name, node in message["kwargs"].items()}
            encoder = _Outgoing(self)
            reply = {"value": encoder.encode(self._callbacks[message["callback"]](*args, **kwargs))}
            sent = encoder.finish(reply)
        except Exception as error:
            encoder = _Outgoing(self)
            reply = {"error": encoder.pickle(_bared(error))}
            sent = encoder.finish(reply)
        channel.send(reply, sent)

    def _give_up(self, reason: str, wait: float = 0.0) -> str:
        """End the process; says what had become of it."""
        ended = self._connection.end(wait) or reason
        if not self._connection.confined:
            self.broken = f"the student's process could not be confined: {ended}"
        self._connection = None
        self.lost.append(ended)
        return ended


class _Outgoing(Encoder):
    """Encodes the examiner's values; what is no data and no function goes as one pickle."""

    def __init__(self, student: Student) -> None:
        super().__init__(lambda value: student.reference(value, self))
        self._student = student
        self._pickled: list[Any] = []

    def pickle(self, value: Any) -> list:
        """The node of an object that is pickled beside the message, together with the others."""
        self._pickled.append(value)
        return ["pickled", len(self._pickled) - 1]

    def beside(self) -> _Outgoing:
        """An encoder of further values of the same message, which no call is given."""
        other = _Outgoing(self._student)
        other.buffers, other._pickled = self.buffers, self._pickled
        return other

    def finish(self, message: dict[str, Any]) -> list[Any]:
        """The buffers of the message; Unencodable where an object cannot be pickled."""
        if not self._pickled:
            return self.buffers
        torch = sys.modules.get("torch")
        if torch is not None:
            self.mutables += [value for value in self._pickled if isinstance(value, torch.nn.Module)]
        try:
            data = pickle.dumps(self._pickled)
        except Exception as error:
            kinds = ", ".join(sorted({type(value).__name__ for value in self._pickled}))
            raise Unencodable(
                f"{kinds}: cannot be handed to the student's process ({error}); "
                "give the cell the tag same-process"
            ) from error
        message["pickled"] = True
        return [*self.buffers, data]


def _importable(value: Any) -> bool:
    """Whether the student's process finds the same function or class under its name, and may."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or not name or "<" in name or f"{module}.".startswith(SECRET):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _is_guarded(value: Any) -> bool:
    """Whether a callable belongs to the checks: such a one is called here, never handed over."""
    return callable(value) and str(type(value).__module__).startswith("coursekit.checks")


def _bared(error: Exception) -> Exception:
    """The error if it can be pickled, else one that says the same."""
    try:
        pickle.dumps(error.with_traceback(None))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _bare(node: Any) -> Any:
    """A node without the numbers of graphs, which only this side knows of."""
    if not isinstance(node, list):
        return node
    if node[:1] == ["tensor"]:
        return node[:8]
    return [_bare(part) for part in node]


def _restore(original: Any, value: Any) -> None:
    """Make the original hold what its copy in the student's process holds now."""
    torch = sys.modules.get("torch")
    if isinstance(original, np.ndarray):
        original[...] = value
    elif isinstance(original, np.random.Generator):
        original.bit_generator.state = value.bit_generator.state
    elif torch is not None and isinstance(original, torch.nn.Module):
        original.load_state_dict(value["state"])
        for name, parameter in original.named_parameters():
            parameter.grad = value["gradients"].get(name)
    elif torch is not None and isinstance(original, torch.Tensor):
        with torch.no_grad():
            original.copy_(value)
    elif isinstance(original, (dict, set)):
        original.clear()
        original.update(value)
    else:
        original[:] = value


def _tied(student: Student, graph: int, value: Any, inputs: list[Any]) -> Any:
    """A tensor whose gradient is sent back through the student's graph."""
    import torch

    generation = student.generation

    class Remote(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, anchor: Any, *leaves: Any) -> Any:
            return value.detach()

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return None, *student.backward(graph, dy, generation)

    anchor = torch.zeros((), device=value.device).requires_grad_()
    return Remote.apply(anchor, *inputs)


def _remember_lines(source: str, cell: str) -> None:
    """Let tracebacks quote the cell."""
    name, lines = f"<cell {cell}>", source.splitlines(keepends=True)
    while lines and not lines[0].strip():  # IPython counts from the first line that says something
        del lines[0]
    linecache.cache[name] = (len(source), None, lines, name)


def _rounded(seconds: float) -> str:
    """Seconds as a person says them: a little less than 4 were 4."""
    return f"{seconds:.0f}" if seconds >= 1 else f"{seconds:.1g}"


def error_output(name: str, text: str, lines: Sequence[str] = ()) -> dict[str, Any]:
    """An error as a notebook stores it."""
    traceback = [str(line) for line in lines] or [f"{name}: {text}"]
    return {"output_type": "error", "ename": name, "evalue": text, "traceback": traceback}


def _answers(reply: dict[str, Any], request: str) -> bool:
    """Whether a reply has the parts that an answer to this request has."""
    match request, reply:
        case "run", {"names": list(), "bound": list(), "outputs": list()}:
            return True
        case "get", {"values": dict()}:
            return True
        case "call", {"changed": list()}:
            return "value" in reply or "error" in reply
        case "backward", {"value": _} | {"error": _}:
            return True
    return False


def _checked(output: Any) -> dict[str, Any]:
    """An output as a notebook may hold it; BadData where the student's process sent something else."""
    match output:
        case {"output_type": "stream", "name": "stdout" | "stderr" as name, "text": str(text)}:
            return {"output_type": "stream", "name": name, "text": text}
        case {"output_type": "error", "ename": str(), "evalue": str(), "traceback": list(lines)}:
            return error_output(output["ename"], output["evalue"], lines)
        case {"output_type": "display_data" | "execute_result" as kind, "data": dict(data)} if all(
            is_storable(mime, value) for mime, value in data.items()
        ):
            count = {"execution_count": None} if kind == "execute_result" else {}
            metadata = storable_metadata(output.get("metadata"))
            return {"output_type": kind, "data": data, "metadata": metadata, **count}
    raise BadData("an output is no output")
