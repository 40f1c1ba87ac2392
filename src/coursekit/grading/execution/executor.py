"""The grader's end of the execution: starts the warm processes and hands them jobs."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from coursekit import data
from coursekit.grading import ONE_THREAD
from coursekit.grading.execution.channel import Channel, ChannelClosed, ReplyLate
from coursekit.grading.execution.connection import MESSAGE_BYTES, START_SECONDS
from coursekit.grading.execution.names import Instructor
from coursekit.grading.execution.scratch import remove
from coursekit.grading.records import CellScore, Finding, Job, Result

ENVIRONMENT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH",
    "SYSTEMROOT", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
)  # fmt: skip
GRACE_SECONDS = 20.0


class Executor:
    """Runs jobs in forked processes; a context manager, and safe to use from several threads.

    modules: what the notebooks import, loaded once before the first job.   image: of the containers that the
    students' processes run in, where they are not confined by this machine itself.
    """

    def __init__(self, modules: Iterable[str] = (), image: str = "") -> None:
        self._modules, self._image = sorted(set(modules)), image

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
            channel.send({"scratch": str(self._folder), "image": self._image}, [pickle.dumps(job)])
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
        kept[data.FOLDER_VARIABLE] = str(data.folder())
        environment = {
            **kept, **ONE_THREAD, "HOME": str(self._folder), "TMPDIR": str(self._folder),
            "IPYTHONDIR": str(self._folder / "ipython"), "MPLCONFIGDIR": str(_fonts(self._folder)),
            "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1",
            "COURSEKIT_ZYGOTE": json.dumps([sockets, self._modules]),
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "coursekit.grading.execution.zygote"],
            env=environment,
            cwd=self._folder,
            pass_fds=sockets,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the grader's to handle
        )


def _fonts(scratch: Path) -> Path:
    """Where matplotlib keeps its list of fonts, which takes it seconds to make."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
    named = os.environ.get("MPLCONFIGDIR")
    return Path(named) if named else cache if cache.is_dir() else scratch / "matplotlib"


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
