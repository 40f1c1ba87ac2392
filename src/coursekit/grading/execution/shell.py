"""An IPython shell without a kernel: runs a cell and gives its outputs as a notebook stores them."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.text import SList
from traitlets.config import Config

OWN = os.path.dirname(__file__)
DEEPEST = 50  # lists and objects inside one another that a notebook's data may have
_JSON_TYPE = re.compile(r"application/(.*\+)?json")
CUT = "\n[output beyond {limit} bytes was cut off]\n"


@dataclass
class Recorder:
    """The outputs of the cell that is running, up to `limit` bytes.

    results: the objects behind its execute_results.
    """

    limit: int = 2**20
    outputs: list[dict[str, Any]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    size: int = 0
    clear_next: bool = False

    def start(self) -> None:
        """Forget the last cell."""
        self.outputs, self.results, self.size, self.clear_next = [], [], 0, False

    def stream(self, name: str, text: str) -> None:
        """Add text to a stream, in one output with the text before it."""
        room = self._room(len(text))
        if room:
            self._clear_if_due()
            self._append(name, text[:room])
        self._say_if_cut(len(text))

    def add(self, output: dict[str, Any]) -> None:
        """Add a display, a result or an error if there is room for it."""
        size = sum(len(str(value)) for value in output.get("data", output).values())
        if self._room(size) >= size:
            self._clear_if_due()
            self.outputs.append(output)
        self._say_if_cut(size)

    def update(self, display_id: str, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Replace what was displayed under an id."""
        for output in self.outputs:
            if output.get("display_id") == display_id:
                output.update(data=data, metadata=metadata)

    def clear(self, wait: bool) -> None:
        """Drop the outputs so far, now or when the next one comes."""
        self.clear_next = wait
        if not wait:
            self.outputs.clear()

    def finished(self) -> list[dict[str, Any]]:
        """The outputs in the form of a notebook."""
        return [_stored(output) for output in self.outputs]

    def _room(self, size: int) -> int:
        """How much of so many more bytes still fits; they count as used from here on."""
        before, self.size = self.size, self.size + size
        return min(size, max(0, self.limit - before))

    def _say_if_cut(self, size: int) -> None:
        """Say it where the last so many bytes were the first that did not fit."""
        if self.size - size <= self.limit < self.size:
            self._append("stderr", CUT.format(limit=self.limit))

    def _append(self, name: str, text: str) -> None:
        last = self.outputs[-1] if self.outputs else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"].append(text)
        else:
            self.outputs.append({"output_type": "stream", "name": name, "text": [text]})

    def _clear_if_due(self) -> None:
        if self.clear_next:
            self.clear(wait=False)


def _stored(output: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in output.items() if key != "display_id"}
    return {**kept, "text": "".join(kept["text"])} if kept["output_type"] == "stream" else kept


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr of a cell."""

    encoding = "utf-8"

    def __init__(self, recorder: Recorder, name: str, descriptor: int) -> None:
        self._recorder, self.name, self._descriptor = recorder, name, descriptor

    def write(self, text: str) -> int:
        """Record text; anything else is a TypeError, as for a file."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._recorder.stream(self.name, text)
        return len(text)

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor that a subprocess would write to."""
        return self._descriptor

    def isatty(self) -> bool:
        """False."""
        return False


class Publisher(DisplayPublisher):
    """Where `display` and the inline backend put their data."""

    def publish(self, data, metadata=None, *, transient=None, update=False, **kwargs):
        """Record a display, or replace the one with the same id."""
        recorder, display_id = self.shell.recorder, (transient or {}).get("display_id")
        if update:
            recorder.update(display_id, _encodable(data), storable_metadata(metadata))
            return
        shown = {"data": _encodable(data), "metadata": storable_metadata(metadata)}
        output = {"output_type": "display_data", **shown}
        recorder.add({**output, "display_id": display_id} if display_id else output)

    def clear_output(self, wait: bool = False) -> None:
        """Drop the outputs of the cell so far."""
        self.shell.recorder.clear(wait)


class Hook(DisplayHook):
    """Records the value of a cell's last line as its execute_result."""

    def write_output_prompt(self) -> None:
        """Nothing: a notebook shows the prompt itself."""

    def write_format_data(self, format_dict, md_dict=None) -> None:  # noqa: ANN001
        """Record the value in every format that it has."""
        self.shell.recorder.add({
            "output_type": "execute_result",
            "execution_count": self.prompt_count,
            "data": _encodable(format_dict),
            "metadata": storable_metadata(md_dict),
        })

    def log_output(self, format_dict) -> None:  # noqa: ANN001
        """Nothing: there is no log."""

    def finish_displayhook(self) -> None:
        """Nothing: there is no terminal to flush."""

    def fill_exec_result(self, result) -> None:  # noqa: ANN001
        """Keep the object itself too: a score is read from it."""
        super().fill_exec_result(result)
        self.shell.recorder.results.append(result)


def is_storable(mime: str, value: Any) -> bool:
    """Whether a notebook may hold this as data of a type: text, lines of text, JSON if it is a JSON type.

    >>> is_storable("text/plain", "5"), is_storable("text/plain", 5), is_storable("application/json", 5)
    (True, False, True)
    """
    if _JSON_TYPE.fullmatch(mime):
        return _is_json(value)
    lines = value if isinstance(value, list) else [value]
    return all(type(line) is str for line in lines)


def storable_metadata(metadata: Any) -> dict[str, Any]:
    """Of an output's metadata the numbers, such as a picture's width, also those for one form of the data.

    Text would stand in the formgrader's page as it is: nbconvert quotes no width.
    """
    if not isinstance(metadata, dict):
        return {}
    forms = {str(form): _numbers(value) for form, value in metadata.items() if isinstance(value, dict)}
    return _numbers(metadata) | {form: numbers for form, numbers in forms.items() if numbers}


def _numbers(values: dict[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in values.items() if type(value) in (bool, int, float)}


def _is_json(value: Any, depth: int = 0) -> bool:
    """Whether JSON has the value, nested no deeper than programs read it."""
    if isinstance(value, dict):
        return depth < DEEPEST and all(
            type(key) is str and _is_json(item, depth + 1) for key, item in value.items()
        )
    if isinstance(value, (list, tuple)):
        return depth < DEEPEST and all(_is_json(item, depth + 1) for item in value)
    return value is None or type(value) in (str, bool, int, float)


def _encodable(data: dict[str, Any]) -> dict[str, Any]:
    """Image bytes as base64 text; what a notebook may not hold as text."""
    return {str(mime): _encoded(str(mime), value) for mime, value in data.items()}


def _encoded(mime: str, value: Any) -> Any:
    if isinstance(value, bytes):
        from base64 import encodebytes

        return encodebytes(value).decode()
    return value if is_storable(mime, value) else str(value)


class Compiler(CachingCompiler):
    """Names the code of a cell after the cell, so that a traceback says where it happened."""

    cell = "cell"

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """`<cell NAME>` for the cell that is running."""
        return f"<cell {self.cell}>"

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        """How a traceback announces the cell."""
        return ("Cell", name[6:-1]) if name.startswith("<cell ") else super().format_code_name(name)


@dataclass(frozen=True)
class Ran:
    """A cell that ran: its outputs as a notebook stores them, its results, whether it got to its end."""

    outputs: list[dict[str, Any]]
    results: list[Any]
    success: bool


def _without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    if trace is None:
        return None
    rest = _without_own_frames(trace.tb_next)
    if trace.tb_frame.f_code.co_filename.startswith(OWN):
        return rest
    trace.tb_next = rest
    return trace


class Shell(InteractiveShell):
    """IPython's shell with recorded outputs; `Shell.start()` makes the one of this process."""

    displayhook_class = Hook
    display_pub_class = Publisher
    compiler_class = Compiler

    @classmethod
    def start(cls) -> Shell:
        """Make the process's shell, without history, profile or terminal."""
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryManager.hist_file = ":memory:"
        config.InteractiveShell.colors = "neutral"
        config.InteractiveShell.cache_size = 0
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        return cls.instance(config=config)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.recorder = Recorder()
        super().__init__(*args, **kwargs)

    def run(self, source: str, name: str, at_end: Callable[[], None] = lambda: None) -> Ran:
        """Run one cell of a notebook; an exception in it becomes an output.   at_end: belongs to it."""
        self.recorder.start()
        self.compile.cell = name
        previous = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Stream(self.recorder, "stdout", 1), Stream(self.recorder, "stderr", 2)
        try:
            done = self.run_cell(source, store_history=True)
            at_end()
        finally:
            sys.stdout, sys.stderr = previous
        return Ran(self.recorder.finished(), self.recorder.results, done.success)

    def _get_exc_info(self, exc_tuple: tuple | None = None) -> tuple:
        """The exception to show, without the grader's own frames."""
        kind, error, trace = super()._get_exc_info(exc_tuple)
        return kind, error, _without_own_frames(trace)

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        """Record an exception as the error output of a notebook."""
        try:
            text = str(evalue)
        except Exception:  # a student's own exception may fail to describe itself
            text = ""
        self.recorder.add(
            {"output_type": "error", "ename": etype.__name__, "evalue": text, "traceback": list(stb)}
        )

    def ask_exit(self) -> None:
        """Nothing: `exit()` in a cell does not end a notebook."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Nothing: there is no screen."""

    def command(self, command: str) -> tuple[str, int]:
        """Run a command of the shell; what it printed, and its status."""
        import subprocess

        done = subprocess.run(
            command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        return done.stdout, done.returncode

    def system(self, command: str) -> None:
        """Run `!command` and record what it prints."""
        output, status = self.command(self.var_expand(command, depth=1))
        sys.stdout.write(output)
        self.user_ns["_exit_code"] = status

    def getoutput(self, command: str, split: bool = True, depth: int = 0) -> Any:
        """What `!command` prints, as a list of lines."""
        output, _ = self.command(self.var_expand(command, depth=depth + 1))
        return SList(output.splitlines()) if split else output

    def await_now(self, awaitable: Any) -> Any:
        """The result of an awaitable."""

        async def waiting() -> Any:
            return await awaitable

        return self.loop_runner(waiting())
