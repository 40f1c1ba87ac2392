"""The examiner's hold on a student's process: run cells, fetch names, call functions, start anew."""

from __future__ import annotations

import builtins
import linecache
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from coursekit.grading.execution.channel import Channel, ChannelClosed, ReplyLate
from coursekit.grading.execution.codec import BadData, Decoder, Unencodable
from coursekit.grading.execution.outgoing import Outgoing
from coursekit.grading.execution.pairs import ROOM, Pairs
from coursekit.grading.execution.proxies import (
    Handle,
    Proxies,
    Reference,
    RemoteWatch,
    class_of,
    reference_of,
)
from coursekit.grading.execution.randomness import Streams
from coursekit.grading.execution.shell import is_storable, storable_metadata
from coursekit.grading.execution.substitutes import own_programs
from coursekit.grading.records import Limits

_PRINT = builtins.print
WIDGET = "application/vnd.jupyter.widget-view+json"


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


class Names(Protocol):
    """What the names of the notebook mean in the examiner's process."""

    classes: Mapping[str, type]
    owned: set[str]

    def news(self) -> tuple[dict[str, Any], list[str]]:
        """Names that the student's process must learn, with what they mean; and names that are gone."""

    def renew(self) -> None:
        """A new process has not heard what a test bound or deleted in the old one."""

    def learn(self, values: dict[str, Any], deleted: list[str]) -> None:
        """Names that mean something else since the student's code ran; and names that are gone."""

    def input(self, prompt: str) -> str:
        """What `input` gives here."""


class Student:
    """One hand-in's process, through all its lives.

    start: makes a process.   space: what names mean here.   names: what the student's namespace holds.
    lost: what became of processes that ended before their time.   broken: why no process can be had any more;
    then nothing that happened counts.
    """

    def __init__(self, start: Callable[[], Connection], limits: Limits, space: Names) -> None:
        self.generation = 0
        self.names: set[str] = set()
        self.lost: list[str] = []
        self.broken: str | None = None
        self.watching: RemoteWatch | None = None
        self.deadline: float | None = None
        self.show: Callable[[list[dict[str, Any]]], None] = lambda outputs: None
        self.space = space
        self._start, self._limits = start, limits
        self._connection: Connection | None = None
        self._history: list[Request] = []
        self.proxies = Proxies(self)
        self.pairs, self.callbacks, self.raised = Pairs(-1), [], []
        self._streams, self._fresh = Streams(), True

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
            with self._message("run", source=source, cell=cell) as (message, encoder):
                pass
            reply, _ = self._ask(message, encoder, self._limits.cell_seconds)
            outputs = [_checked(output) for output in self._learn(reply)]
        except (ProcessEnded, TimeUp, NotStarted, BadData) as error:
            return [error_output(type(error).__name__, str(error))], False
        if again:
            self._history.append(Request(source, cell, time.monotonic() - began))
        return outputs, bool(reply.get("success"))

    def begin_test(self) -> None:
        """From here on, copies that the last test left have nothing to do with each other."""
        self.pairs.clear()
        self._fresh = True

    def end_test(self) -> None:
        """Show what a cell shows at its end: open figures."""
        if self._connection is None or "matplotlib.pyplot" not in sys.modules:
            return
        try:
            with self._message("finish") as (message, encoder):
                pass
            self._ask(message, encoder)
        except (ProcessEnded, TimeUp, NotStarted, BadData):  # what the test earned stands
            pass

    def command(self, command: str) -> tuple[str, int]:
        """Run a command of the shell where the student's files are; what it printed, and its status."""
        with self._message("shell", command=command) as (message, encoder):
            pass
        reply, _ = self._ask(message, encoder)
        return str(reply["output"]), int(reply["status"])

    def forget(self) -> None:
        """Go on in a new process, which remembers the cells but no call, unless they took too long."""
        if sum(request.seconds for request in self._history) <= self._limits.repeat_seconds:
            self.end()

    def end(self) -> None:
        """End the process, if there is one."""
        if self._connection is not None:
            with own_programs():
                self._connection.end()
            self._connection = None

    def _learn(self, reply: dict[str, Any]) -> list[Any]:
        """Note which names there are after a cell; its outputs."""
        self.names = set(map(str, reply["names"]))
        return reply["outputs"]

    def _ensure(self) -> Channel:
        """The channel to a living process, which has run all that was run before."""
        if self.broken:
            raise NotStarted(self.broken)
        if self._connection is None:
            self._connection = self._started()
            self.generation += 1
            self.begin_test()
            for request in self._history:
                message = {"do": "run", "source": request.source, "cell": request.cell}
                reply, _ = self._exchange(message, [], self._limits.cell_seconds)
                self._learn(reply)
            if self.generation > 1:
                self.space.renew()
        return self._connection.channel

    def _started(self) -> Connection:
        try:
            with own_programs():
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
        with self._message("get", names=wanted) as (message, encoder):
            pass
        reply, decoder = self._ask(message, encoder)
        values = {name: self._named(name, node, decoder) for name, node in reply["values"].items()}
        self.pairs.settle(ROOM)
        return values

    def _named(self, name: str, node: Any, decoder: Decoder) -> Any:
        """What a name means; a stand-in knows it, to find its object again in a new life."""
        reference = isinstance(node, list) and node[:1] == ["ref"]
        return self.proxies.make(node, name) if reference else decoder.decode(node)

    def call(self, reference: Reference, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call an object of the student's; what it raises is raised here."""
        return self._operate(reference, "call", args, kwargs)

    def operate(self, reference: Reference, how: str, *args: Any) -> Any:
        """Do something else with an object: "getattr", "len", "add" ..."""
        return self._operate(reference, how, args, {})

    def call_of(self, value: Any, name: str) -> Any:
        """The attribute of a named tuple of the student's."""
        return self._operate(None, ["builtins", "getattr"], (value, name), {})

    def class_of(self, handle: Handle) -> type:
        """What isinstance sees of a stand-in."""
        return class_of(handle, self.space.classes)

    def call_imported(self, module: str, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a library's function in the student's process."""
        return self._operate(None, [module, name], args, kwargs)

    def _operate(
        self, reference: Reference | None, how: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        self._ensure()
        number = None if reference is None else self.current(reference)
        watch = self.watching.spec if self.watching else None
        with self._message("call", ref=number, how=how, watch=watch) as (message, encoder):
            message["args"] = [encoder.encode(value) for value in args]
            message["kwargs"] = {name: encoder.encode(value) for name, value in kwargs.items()}
            if builtins.print is not _PRINT:
                message["print"] = encoder.encode(builtins.print)
        torch = sys.modules.get("torch")
        if torch is not None and not torch.is_grad_enabled():
            message["no_grad"] = True
        reply, decoder = self._ask(message, encoder)
        if self.watching and reply.get("used"):
            self.watching.used = self.watching.used or str(reply["used"])
        if "error" in reply:
            raise self.proxies.exception(reply["error"])
        value = decoder.decode(reply["value"])
        self.pairs.settle(ROOM)
        return value

    def current(self, reference: Reference) -> int:
        """The number of an object now; after a new start, that of what has its name."""
        if reference.generation == self.generation:
            return reference.number
        if reference.name is None:
            raise ProcessEnded("the student's process was started anew; this object went with the old one")
        fresh = reference_of(self.fetch([reference.name]).get(reference.name))
        if fresh is None:
            raise ProcessEnded(f"the student's process was started anew and has no {reference.name}")
        return fresh.number

    def backward(self, graph: int, dy: Any, generation: int) -> list[Any]:
        """Gradients of the inputs of an earlier call, given that of its result."""
        if generation != self.generation:
            raise ProcessEnded("the student's process was started anew; the graph was lost with the old one")
        with self._message("backward", graph=graph) as (message, encoder):
            message["dy"] = encoder.apart(dy)
        reply, decoder = self._ask(message, encoder)
        if "error" in reply:
            raise self.proxies.exception(reply["error"])
        gradients = decoder.decode(reply["value"])
        self.pairs.settle(ROOM)
        return gradients

    def can_send(self, value: Any) -> bool:
        """Whether a value can be handed to the student's process."""
        encoder = Outgoing(self)
        try:
            encoder.encode(value)
            encoder.finish({})
        except Unencodable:
            return False
        finally:
            encoder.undo()
        return True

    def _dereference(self, node: list) -> Any:
        match node:
            case ["yours", int(number)]:
                return self.callbacks[number]
            case ["member", str(name), str(member)] if name in self.space.classes:
                return self.space.classes[name][member]
        return self.proxies.make(node)

    def _instantiate(self, name: str) -> Any:
        if name not in self.space.classes:
            raise BadData(f"no class {name!r} is known")
        return object.__new__(self.space.classes[name])

    # ---- Messages

    @contextmanager
    def _message(self, do: str, **parts: Any) -> Iterator[tuple[dict[str, Any], Outgoing]]:
        """A request that begins with what is new here; its own values are encoded in the body."""
        self._ensure()
        encoder = Outgoing(self)
        message = {"do": do, **parts, **self._news(encoder)}
        try:
            yield message, encoder
        except Unencodable:  # what is new must arrive all the same
            encoder.undo()
            news = {key: value for key, value in message.items() if key not in parts}
            news |= {"do": "get", "names": []}
            self._exchange(news, encoder.finish(news), self._limits.call_seconds)
            raise

    def _news(self, encoder: Outgoing) -> dict[str, Any]:
        """What has changed here since the student's process heard of it."""
        news: dict[str, Any] = {}
        if self._fresh:
            news["fresh"] = list(self.space.classes)
        self._fresh = False
        news["changed"] = [[number, encoder.content(value)] for number, value in self.pairs.changed()]
        news["forget"] = self.pairs.idle()
        self.pairs.forget(news["forget"])
        values, deleted = self.space.news()
        if values or deleted:
            news |= {"set": {name: self._lent(name, value, encoder) for name, value in values.items()}}
            news["delete"] = deleted
        if streams := self._streams.news():
            news["random"] = encoder.apart(streams)
        encoder.keep()
        return news

    def _lent(self, name: str, value: Any, encoder: Outgoing) -> Any:
        encoder.own = name in self.space.owned
        try:
            return encoder.encode(value)
        finally:
            encoder.own = False

    def _ask(
        self, message: dict[str, Any], encoder: Outgoing, seconds: float | None = None
    ) -> tuple[dict[str, Any], Decoder]:
        """Ask for something within the time that is left; ProcessEnded or TimeUp where nothing comes."""
        seconds = seconds or self._limits.call_seconds
        reply, buffers = self._exchange(message, encoder.finish(message), seconds)
        decoder = Decoder(buffers, self.pairs, self._dereference)
        decoder.instantiate = self._instantiate
        decoder.tie = lambda tensor, graph: _tied(self, int(graph), tensor, encoder.tensors)
        self._follow(reply, decoder)
        return reply, decoder

    def _follow(self, message: dict[str, Any], decoder: Decoder) -> None:
        """Let happen here what has happened in the student's process; BadData where it says nonsense."""
        try:
            if "random" in message:
                self._streams.adopt(decoder.decode(message["random"]))
            decoder.restore(message.get("changed", []))
            rebound, unbound = message.get("rebound", {}), [str(name) for name in message.get("unbound", ())]
            self.space.learn({str(n): self._named(n, node, decoder) for n, node in rebound.items()}, unbound)
            outputs = [_checked(output) for output in message.get("shown", [])]
        except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
            raise BadData(f"what it says of changes is garbled ({type(error).__name__}: {error})") from error
        self.show(outputs)

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
        decoder = Decoder(buffers, self.pairs, self._dereference)
        decoder.instantiate = self._instantiate
        error = value = None
        try:
            self._follow(message, decoder)
            args = [decoder.decode(node) for node in message["args"]]
            kwargs = {str(name): decoder.decode(node) for name, node in message["kwargs"].items()}
            self.pairs.settle(ROOM)
            number = message["callback"]
            function = self.space.input if number == "input" else self.callbacks[number]
            value = function(*args, **kwargs)
        except Exception as raised:
            error = raised
        encoder = Outgoing(self)
        reply = self._news(encoder)
        try:
            reply["value"] = encoder.encode(value)
        except Unencodable as raised:
            error = raised
        if error is not None:
            reply["error"] = encoder.error(error)
        channel.send(reply, encoder.finish(reply))

    def _give_up(self, reason: str, wait: float = 0.0) -> str:
        """End the process; says what had become of it."""
        with own_programs():
            ended = self._connection.end(wait) or reason
        if not self._connection.confined:
            self.broken = f"the student's process could not be confined: {ended}"
        self._connection = None
        self.lost.append(ended)
        return ended


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
        case "run", {"names": list(), "outputs": list()}:
            return True
        case "get", {"values": dict()}:
            return True
        case "call", {"changed": list()}:
            return "value" in reply or "error" in reply
        case "finish", {"shown": list()}:
            return True
        case "shell", {"output": _, "status": _}:
            return True
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
            # A notebook holds no state of widgets: nothing can show them, the formgrader fails if it tries.
            shown = {mime: value for mime, value in data.items() if mime != WIDGET}
            return {"output_type": kind, "data": shown, "metadata": metadata, **count}
    raise BadData("an output is no output")
