"""Warm processes that are forked for each hand-in, so that the course's imports are paid for once.

An `Executor` has two of them, the second forked from the first.  The examiner's zygote forks the process
that examines one notebook; that one asks the student's zygote for processes to run the student's code in.
The student's zygote has never seen a source notebook, a check's cases or a reference solution: what is
forked from it cannot hold them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from coursekit.grading import ONE_THREAD
from coursekit.grading.execution.channel import Channel, ChannelClosed, ReplyLate
from coursekit.grading.execution.names import Instructor
from coursekit.grading.execution.scratch import remove
from coursekit.grading.records import CellScore, Finding, Job, Result

ENVIRONMENT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "COURSEKIT_DATA_DIR", "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH", "SYSTEMROOT", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
)  # fmt: skip
START_SECONDS = 120.0
GRACE_SECONDS = 20.0
MESSAGE_BYTES = 2**31


class Executor:
    """Runs jobs in forked processes; a context manager, and safe to use from several threads.

    modules: what the notebooks import, loaded once before the first job.
    """

    def __init__(self, modules: Iterable[str] = ()) -> None:
        self._modules = sorted(set(modules))

    @classmethod
    def for_job(cls, job: Job) -> Executor:
        """An executor that has loaded what the job's notebook imports."""
        return cls(Instructor(job.source).modules())

    def __enter__(self) -> Executor:
        self._folder = Path(tempfile.mkdtemp(prefix="coursekit-grading-"))
        students, for_examiners = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control, examiners = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with students, for_examiners, examiners:
            self._process = self._start([end.fileno() for end in (students, for_examiners, examiners)])
        return self

    def __exit__(self, *exception: object) -> None:
        self._control.close()  # both zygotes end when nobody is left to ask
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._folder.exists():
            remove(self._folder)

    def run(self, job: Job) -> Result:
        """Examine one notebook in processes of its own; a result without scores where that failed."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                socket.send_fds(self._control, [b"job"], [theirs.fileno()])
            except OSError:
                return failed(job, "the grader's own process is gone")
            theirs.close()
            channel = Channel(ours.fileno(), ours.fileno(), MESSAGE_BYTES)
            return self._result(job, channel)

    def _result(self, job: Job, channel: Channel) -> Result:
        examiner = None
        try:
            channel.send({"scratch": str(self._folder)}, [pickle.dumps(job)])
            examiner = channel.receive(START_SECONDS)[0]["pid"]
            message, _ = channel.receive(job.limits.notebook_seconds + GRACE_SECONDS)
        except ReplyLate:
            return failed(job, f"it took longer than {job.limits.notebook_seconds:g} s")
        except ChannelClosed:
            return failed(job, "the process that examined it ended")
        finally:
            _kill(examiner)
        return failed(job, message["failed"]) if "failed" in message else _to_result(message)

    def _start(self, sockets: Sequence[int]) -> subprocess.Popen:
        kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment = {
            **kept, **ONE_THREAD, "HOME": str(self._folder), "TMPDIR": str(self._folder),
            "IPYTHONDIR": str(self._folder / "ipython"), "MPLCONFIGDIR": str(self._folder / "matplotlib"),
            "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1",
            "COURSEKIT_ZYGOTE": json.dumps([sockets, self._modules]),
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=environment,
            cwd=self._folder,
            pass_fds=sockets,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the grader's to handle
        )


def failed(job: Job, reason: str) -> Result:
    """The result of a job that could not be done: nothing is scored, a person must look."""
    text = f"the notebook could not be graded: {reason}"
    finding = Finding("grader-failed", text, review=True, stage="run")
    return Result(job.student, job.assignment, job.notebook, job.cells, {}, (finding,))


def _kill(pid: int | None) -> None:
    if pid is not None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _to_result(message: dict[str, Any]) -> Result:
    scores = {name: CellScore(**fields) for name, fields in message["scores"].items()}
    findings = tuple(Finding(**fields) for fields in message["findings"])
    own = {"scores": scores, "findings": findings, "protection": tuple(message["protection"])}
    return Result(**{**message, **own})


# ---------------------------------------------------------------------------------------------------
# Inside the zygotes


def main() -> None:
    """Be both zygotes: load everything, then fork a process for each request while anybody can ask."""
    (students, for_examiners, examiners), modules = json.loads(os.environ.pop("COURSEKIT_ZYGOTE"))
    folder = Path.cwd()
    from coursekit.grading.execution import sandbox
    from coursekit.grading.execution.shell import Shell

    shell = Shell.start()
    warm(shell, [name for name in modules if not _is_secret(name)])
    sandbox.prepare(hidden=hidden())
    gc.collect()
    gc.freeze()
    if os.fork() == 0:
        os.close(students)
        _die_with_parent()
        load(filter(_is_secret, modules))
        _fork_for_each(examiners, lambda data, ends: _examine(shell, ends, for_examiners))
        os._exit(0)
    os.close(for_examiners)
    os.close(examiners)
    hide_checks()
    _fork_for_each(students, lambda data, ends: _run_student(shell, data, ends))
    os.chdir("/")
    remove(folder)  # the grader may have been killed
    os._exit(0)


def warm(shell: Any, modules: Iterable[str]) -> None:
    """Load modules, and what the first cell, the first error and the first plot would load."""
    from coursekit.grading.execution import examiner, student  # noqa: F401

    load(modules)
    if "torch" in sys.modules:
        load(["torch.fx.experimental.symbolic_shapes"])  # the first backward with a gradient imports it
    shell.run("import numpy\nnumpy.zeros(2)", "warm")
    shell.run("1 / 0", "warm")
    shell.user_ns.pop("numpy")
    shell.execution_count = 1
    if "matplotlib" in sys.modules:
        import matplotlib.pyplot  # noqa: F401


def load(modules: Iterable[str]) -> None:
    """Import modules."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # then the cell that imports it says so
            continue


def _is_secret(module: str) -> bool:
    return module.startswith(("coursekit.checks.", "coursekit.grading."))


def hide_checks() -> None:
    """Put stand-ins in the place of the checks: the student's cells may mention them, no more."""
    from coursekit import checks
    from coursekit.checks.engine import shortcuts  # noqa: F401

    for topic in checks.topics():
        stand_in = _Topic(f"coursekit.checks.{topic}")
        sys.modules[stand_in.__name__] = stand_in
        setattr(checks, topic, stand_in)


class _Topic(types.ModuleType):
    """A topic of the checks in which every check does nothing: only the grader's own calls count."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)
        return _does_nothing


def _does_nothing(*functions: Any) -> None:
    print("(your own calls of a check are not run while your work is graded)")


def _fork_for_each(requests: int, serve: Callable[[bytes, list[int]], None]) -> None:
    """Fork for every message on the socket; the child serves it and never returns."""
    control = socket.socket(fileno=requests)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 2**20, 4)
        if not data:
            break
        if os.fork() == 0:
            control.close()
            _serve_and_exit(serve, data, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _reap(os.WNOHANG)
    _reap(0)


def _serve_and_exit(serve: Callable, data: bytes, descriptors: list[int]) -> NoReturn:
    try:
        reseed()
        serve(data, descriptors)
    except ChannelClosed:
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _reap(options: int) -> None:
    """Take note of the processes that have ended; with 0, wait for all that have not."""
    try:
        while os.waitpid(-1, options)[0]:
            pass
    except ChildProcessError:
        pass


def reseed() -> None:
    """Give a forked process its own random numbers, as a fresh process has."""
    random.seed()
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed()


# ---- An examiner's process


def _examine(shell: Any, ends: list[int], students: int) -> None:
    from coursekit.grading.execution.examiner import examine
    from coursekit.grading.execution.remote import NotStarted

    _die_with_parent()
    channel = Channel(ends[0], ends[0], MESSAGE_BYTES)
    message, (pickled,) = channel.receive(START_SECONDS)
    channel.send({"pid": os.getpid()})
    job: Job = pickle.loads(pickled)
    os.environ["NBGRADER_EXECUTION"] = job.execution
    _limit_memory(2 * job.limits.memory_bytes)  # a test may hold what the student gave, and its own
    if job.execution == "validate":
        os.environ["NBGRADER_VALIDATING"] = "1"
    if job.seed is not None:
        os.environ["COURSEKIT_CHECK_SEED"] = job.seed
    zygote = StudentZygote(students, job, Path(message["scratch"]))
    with tempfile.TemporaryDirectory(dir=message["scratch"], ignore_cleanup_errors=True) as folder:
        lay_out(job.files, Path(folder))
        os.chdir(folder)
        try:
            reply = asdict(examine(job, zygote.start, shell))
        except NotStarted as error:
            reply = {"failed": str(error)}
        os.chdir("/")
    channel.send({**reply, "protection": list(zygote.protection)})


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """Write the files that lie beside a notebook."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _die_with_parent() -> None:
    """Ask Linux to end this process when the zygote ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _limit_memory(more: int) -> None:
    """Let this process take so much more memory than it has now, and no more."""
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (now + more, now + more))


class StudentZygote:
    """The way from an examiner's process to the zygote of the students' processes."""

    def __init__(self, control: int, job: Job, scratch: Path) -> None:
        self.protection: tuple[str, ...] = ()
        self._control, self._job, self._scratch = control, job, scratch

    def start(self) -> StudentConnection:
        """A fresh process for the student's code, in a folder of its own."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        lay_out(self._job.files, folder)
        ours, theirs = socket.socketpair()
        watch, keeper = socket.socketpair()
        order = {
            "scratch": str(folder), "limits": asdict(self._job.limits), "gpu": self._job.gpu,
            "execution": self._job.execution,
        }  # fmt: skip
        with socket.socket(fileno=os.dup(self._control)) as control:
            socket.send_fds(control, [json.dumps(order).encode()], [theirs.fileno(), keeper.fileno()])
        theirs.close(), keeper.close()
        connection = StudentConnection(ours, watch, folder, self._job.limits.message_bytes)
        self.protection = connection.started.get("protection", ())
        return connection


class StudentConnection:
    """A student's process: the channel to it, and the line to its keeper."""

    def __init__(self, ours: socket.socket, watch: socket.socket, folder: Path, limit: int) -> None:
        self._ours, self._watch, self._folder = ours, watch, folder
        self.confined = True
        self._lines = watch.makefile("r")
        watch.settimeout(START_SECONDS)
        self.channel = Channel(ours.fileno(), ours.fileno(), limit)
        self.started = self._line()

    def end(self, seconds: float = 0.0) -> str:
        """End it and all that it started; says what had become of it, if it ended by itself in time."""
        self._ours.close()
        message = ""
        try:
            self._watch.settimeout(seconds or 0.001)
            ended = self._line()
            message = ended.get("message", "")
            self.confined = ended.get("ended") != "unprotected"
        except OSError:
            pass
        try:
            self._watch.settimeout(10)
            self._watch.shutdown(socket.SHUT_WR)  # the keeper ends what is left, and then itself
            while self._watch.recv(4096):
                pass
        except OSError:
            pass
        self._watch.close()
        remove(self._folder)
        return message

    def _line(self) -> dict[str, Any]:
        try:
            return json.loads(self._lines.readline() or "{}")
        except ValueError:
            return {}


# ---- A student's process


def _run_student(shell: Any, data: bytes, ends: list[int]) -> None:
    from coursekit.grading.execution.sandbox import Policy, keep
    from coursekit.grading.execution.student import serve
    from coursekit.grading.records import Limits

    order = json.loads(data)
    limits = Limits(**order["limits"])
    end, line = ends
    policy = Policy(Path(order["scratch"]), (), hidden(), limits, order["gpu"], descriptors=(end,))
    channel = Channel(end, end, MESSAGE_BYTES)
    shell.recorder.limit = limits.output_bytes

    def run() -> None:
        os.environ["NBGRADER_EXECUTION"] = order["execution"]  # confined, it has no other variable of ours
        serve(channel)

    keep(run, policy, socket.socket(fileno=line))


def hidden() -> tuple[Path, ...]:
    """Parts of the package that a student's process has no business to read."""
    package = Path(__file__).parents[2]
    topics = [path for path in (package / "checks").glob("*") if path.name not in ("__init__.py", "engine")]
    return (*topics, package / "authoring.py", package / "book")


if __name__ == "__main__":
    main()
