"""The examiner's end of a student's process: forked from the zygote, or in a container."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coursekit.grading.execution import container, sandbox
from coursekit.grading.execution.channel import Channel, ChannelClosed, ReplyLate
from coursekit.grading.execution.scratch import remove
from coursekit.grading.records import Job

START_SECONDS = 120.0
MESSAGE_BYTES = 2**31


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """Write the files that lie beside a notebook."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class StudentZygote:
    """The way from an examiner's process to the zygote of the students' processes.

    The examiner's process works in the folder of the last process that was started.

    control: socket that the zygote listens on.   scratch: folder in which each process gets its own.
    """

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
        os.chdir(folder)
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
        os.chdir(self._folder.parent)
        remove(self._folder)
        return message

    def _line(self) -> dict[str, Any]:
        try:
            return json.loads(self._lines.readline() or "{}")
        except ValueError:
            return {}


class Containers:
    """Starts each student's process in a container of an image."""

    def __init__(self, image: str, job: Job, scratch: Path) -> None:
        self.protection: tuple[str, ...] = (f"everything: a container of {image} ({container.engine()})",)
        self._image, self._job, self._scratch = image, job, scratch

    def start(self) -> ContainerConnection:
        """A fresh process for the student's code; OSError where no container can be had."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        lay_out(self._job.files, folder)
        policy = sandbox.Policy(folder, limits=self._job.limits, gpu=self._job.gpu)
        arguments = ["-m", "coursekit.grading.execution.student", self._job.execution]
        try:
            connection = ContainerConnection(
                container.start(self._image, policy, arguments), folder, self._job
            )
            os.chdir(folder)
            return connection
        except (RuntimeError, ChannelClosed, ReplyLate) as error:
            raise OSError(str(error)) from error


class ContainerConnection:
    """A student's process in a container: its standard streams are the channel."""

    confined = True

    def __init__(self, running: subprocess.Popen, folder: Path, job: Job) -> None:
        self._running, self._folder = running, folder
        self.channel = Channel(running.stdout.fileno(), running.stdin.fileno(), job.limits.message_bytes)
        self.channel.receive(START_SECONDS)

    def end(self, seconds: float = 0.0) -> str:
        """End the container; says with which status it had ended by itself, if it did so in time."""
        try:
            message = f"its container ended with status {self._running.wait(seconds or 0.001)}"
        except subprocess.TimeoutExpired:
            message = ""
            self._running.kill()
        self._running.wait()
        self._running.stdin.close()
        self._running.stdout.close()
        os.chdir(self._folder.parent)
        remove(self._folder)
        return message
