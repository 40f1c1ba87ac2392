"""Warm processes that are forked for each hand-in, so that the course's imports are paid for once.

There are two, the second forked from the first.  The examiner's zygote forks the process that examines one
notebook; that one asks the student's zygote for processes to run the student's code in.  The student's
zygote has never seen a source notebook, a check's cases or a reference solution: what is forked from it
cannot hold them.
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
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from coursekit.data import FOLDER_VARIABLE
from coursekit.grading.execution import examiner, sandbox, student, surroundings
from coursekit.grading.execution.channel import Channel, ChannelClosed
from coursekit.grading.execution.connection import (
    MESSAGE_BYTES,
    START_SECONDS,
    Containers,
    StudentZygote,
)
from coursekit.grading.execution.remote import NotStarted
from coursekit.grading.execution.scratch import remove
from coursekit.grading.execution.shell import Shell
from coursekit.grading.records import Job, Limits


def main() -> None:
    """Be both zygotes: load everything, then fork a process for each request while anybody can ask."""
    (students, for_examiners, examiners), modules = json.loads(os.environ.pop("COURSEKIT_ZYGOTE"))
    folder = Path.cwd()
    shell = Shell.start()
    warm(shell, [name for name in modules if not _is_secret(name)])
    sandbox.prepare(readable(), surroundings.hidden())
    gc.collect()
    gc.freeze()
    if os.fork() == 0:
        os.close(students)
        _die_with_parent()
        load(filter(_is_secret, modules))
        sandbox.prepare(_examiners_files(), gpu=True)
        _fork_for_each(examiners, lambda data, ends: _examine(shell, ends, for_examiners))
        os._exit(0)
    os.close(for_examiners)
    os.close(examiners)
    surroundings.prepare()
    _fork_for_each(students, lambda data, ends: _run_student(shell, data, ends))
    os.chdir("/")
    remove(folder)  # the grader may have been killed
    os._exit(0)


def warm(shell: Shell, modules: Sequence[str]) -> None:
    """Load modules, and what the first cell, the first error and the first plot would load."""
    load(modules)
    if "torch" in sys.modules:
        load(["torch.fx.experimental.symbolic_shapes"])  # the first backward with a gradient imports it
    if any(name.partition(".")[0] == "coursekit" for name in modules):
        warm_course()
    shell.run("import numpy\nnumpy.zeros(2)", "warm")
    shell.run("1 / 0", "warm")
    shell.user_ns.pop("numpy")
    shell.execution_count = 1
    if "matplotlib" in sys.modules:
        import matplotlib.pyplot  # noqa: F401


def warm_course() -> None:
    """Load what this course's own notebooks load when they first use it."""
    load(["sklearn.datasets"])
    if "torch" in sys.modules:
        import torch

        torch.empty(2, device="meta").neg()  # checks run torch tasks there; its first use takes a second


def load(modules: Iterable[str]) -> None:
    """Import modules."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # then the cell that imports it says so
            continue


def _is_secret(module: str) -> bool:
    return module.startswith(("coursekit.checks.", "coursekit.grading."))


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


def _examine(shell: Shell, ends: list[int], students: int) -> None:
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
    scratch, image = Path(message["scratch"]), message["image"]
    processes = Containers(image, job, scratch) if image else StudentZygote(students, job, scratch)
    if not image:  # tests work in the student's folder, where a link may lie in wait
        sandbox.confine_files(scratch, _examiners_files())
    try:
        reply = asdict(examiner.examine(job, processes.start, shell))
    except NotStarted as error:
        reply = {"failed": str(error)}
    channel.send({**reply, "protection": list(processes.protection)})


def _examiners_files() -> tuple[Path, ...]:
    """What an examiner's process may read beyond what Python needs: the data sets, and modules anywhere."""
    return (*readable(), *(Path(entry).absolute() for entry in sys.path if entry))


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


# ---- A student's process


def _run_student(shell: Shell, data: bytes, ends: list[int]) -> None:
    order = json.loads(data)
    limits = Limits(**order["limits"])
    end, line = ends
    folder, secret = Path(order["scratch"]), surroundings.hidden()
    policy = sandbox.Policy(folder, readable(), secret, limits, order["gpu"], descriptors=(end,))
    channel = Channel(end, end, MESSAGE_BYTES)
    shell.recorder.limit = limits.output_bytes

    def run() -> None:
        os.environ["NBGRADER_EXECUTION"] = order["execution"]  # confined, it has no other variable of ours
        student.serve(channel)

    sandbox.keep(run, policy, socket.socket(fileno=line))


def readable() -> tuple[Path, ...]:
    """What a student's process may read beyond what Python needs: the course's data sets."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    return (folder,) if folder.is_dir() else ()


if __name__ == "__main__":
    main()
