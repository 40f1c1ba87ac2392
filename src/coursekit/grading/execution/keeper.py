"""Watches over one student's process and all that it starts: memory, processes, files; ends them together."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from coursekit.grading.execution import kernel, scratch
from coursekit.grading.records import MIB, Limits

INTERVAL = 0.05  # seconds between two looks at processes and memory
CPU_GRACE = 5  # seconds between the signal that asks a process to end and the one that ends it
THREADS = 512  # threads that a student may have beyond the processes


class End(NamedTuple):
    """How a student's process ended: kind and detail for programs, a message for people."""

    kind: str
    detail: int | str
    message: str


@contextmanager
def ending() -> Iterator[None]:
    """End this forked process here, whatever happens: it must never return into what its parent was doing."""
    try:
        yield
    except BaseException:  # noqa: B036
        traceback.print_exc()
    finally:
        os._exit(1)


@cache
def init_program() -> str | None:
    """The program that holds a pid namespace: it waits until the keeper is gone."""
    return shutil.which("cat", path=os.environ.get("PATH", os.defpath) + ":/usr/bin:/bin")


class Keeper:
    """Forks the student's process and stays with it until nothing is left of it.

    folder: the scratch folder.   shm: a /dev/shm of its own, None if it has none.   watched: whether /proc
    tells about its processes.
    """

    def __init__(
        self, control: socket.socket, limits: Limits, folder: Path, *, shm: Path | None, watched: bool
    ) -> None:
        self._control, self._limits, self._scratch = control, limits, Path(os.path.realpath(folder))
        self._shm, self._watched = shm, watched
        self._init: int | None = None
        self._student = 0
        self._end: End | None = None
        self._look_at_memory = self._look_at_files = 0.0  # when to do so next, on the monotonic clock
        self._free = scratch.free(folder)

    def keep(
        self, isolate: Callable[[], bool], confine: Callable[..., None], run: Callable[[], None],
        descriptors: tuple[int, ...], protection: tuple[str, ...],
    ) -> NoReturn:  # fmt: skip
        """Run the student's process to its end, report how it ended, and end this process too.

        isolate: enters namespaces; whether processes have one.   confine: called in the student's process
        before `run`, with `keep=` a descriptor to leave open.   descriptors: closed here, open there.
        """
        os.setsid()
        try:
            if sys.platform == "linux":
                kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
            if isolate():
                self._init, hold = _start_init()  # noqa: F841 (the pipe closes with this process)
            confined = self._fork(confine, run)
        except Exception as error:
            self._finish(End("unprotected", str(error), f"not run: {error}"))
        if sys.platform == "linux":
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        for descriptor in set(descriptors) - {0, 1, 2}:
            os.close(descriptor)
        try:
            self._tell({"started": self._student, "protection": list(protection)})
            self._finish(self._supervise(confined))
        finally:
            self._kill_all()

    def _fork(self, confine: Callable[..., None], run: Callable[[], None]) -> int:
        """Fork the student's process; the descriptor says at its end why it is not confined, or nothing."""
        read, write = os.pipe()
        keeper = os.getpid()
        self._student = os.fork()
        if not self._student:
            with ending():
                _begin(confine, run, write, keeper)
        os.close(write)
        return read

    def _finish(self, end: End) -> NoReturn:
        self._kill_all()
        self._tell({"ended": end.kind, "detail": end.detail, "message": end.message})
        os._exit(0)

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # nobody listens any more
            pass

    # ---- Watching

    def _supervise(self, confined: int) -> End:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(confined, select.POLLIN)
        if hasattr(os, "pidfd_open"):
            poll.register(os.pidfd_open(self._student), select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(INTERVAL * 1000)}
            if self._control.fileno() in ready and self._is_left():
                self._kill_all()
                os._exit(0)
            if confined in ready:
                poll.unregister(confined)
                if reason := _read_all(confined):
                    return End("unprotected", reason, f"not run: {reason}")
            self._reap(os.WNOHANG)
            end = self._end or self._passed_limit()
            if end:
                return end

    def _is_left(self) -> bool:
        """Whether the other side closed the control socket, or died."""
        try:
            return not self._control.recv(4096)
        except OSError:
            return True

    def _reap(self, flags: int) -> bool:
        """Take the statuses of processes that ended; whether children are left."""
        try:
            while True:
                pid, status, usage = os.wait4(-1, flags)
                if pid == self._student:
                    self._end = _ended(status, usage.ru_utime + usage.ru_stime, self._limits)
                if not pid:
                    return True
        except ChildProcessError:
            return False

    def _passed_limit(self) -> End | None:
        """The limit that the processes have passed together, if any."""
        if not self._watched:
            return None
        pids = list(islice(self._pids(), self._limits.processes + 1))  # of a fork bomb no more: time is short
        tree = {pid: status(pid) for pid in pids}
        end = self._too_many(len(pids), sum(one.get("Threads", 0) for one in tree.values()))
        return end or self._too_much_memory(tree) or self._too_many_files()

    def _pids(self) -> Iterator[int]:
        """The student's process and all that come from it."""
        return (pid for pid in descendants(os.getpid()) if pid != self._init)

    def _too_many(self, processes: int, threads: int = 0) -> End | None:
        most, most_threads = self._limits.processes, self._limits.processes + THREADS
        if processes <= most and threads <= most_threads:
            return None
        text = f"started more than the {most} processes or {most_threads} threads allowed"
        return End("processes", processes, text)

    def _too_much_memory(self, tree: dict[int, dict[str, int]]) -> End | None:
        """Pages that processes share count for each of them at first; only where that is too much, once."""
        shared = os.statvfs(self._shm) if self._shm else None
        files = (shared.f_blocks - shared.f_bfree) * shared.f_bsize if shared else 0
        limit = self._limits.memory_bytes * 5 // 4
        if files + sum(map(_memory, tree.values())) <= limit or time.monotonic() < self._look_at_memory:
            return None
        with self._stopped() as pids:
            began = time.monotonic()
            used = files + sum(map(_proportional_memory, pids))
            self._look_at_memory = 2 * time.monotonic() - began  # looking costs half of the time at most
            if used <= limit:
                return self._too_many(len(pids))
        text = f"used more than the {self._limits.memory_bytes // MIB} MiB of memory allowed"
        return End("memory", used, text)

    def _too_many_files(self) -> End | None:
        began = time.monotonic()
        if began < self._look_at_files:
            return None
        limit = self._limits.scratch_bytes
        used = scratch.size(self._scratch, limit)
        if self._free - scratch.free(self._scratch) > limit:
            with self._stopped() as pids:
                used += sum(scratch.deleted_size(pid, self._scratch, limit) for pid in pids)
        # A large folder is looked at less often, so that looking costs a tenth of the time at most.
        self._look_at_files = time.monotonic() + max(4 * INTERVAL, 10 * (time.monotonic() - began))
        if used <= limit:
            return None
        text = f"wrote more files than the {limit // MIB} MiB and {scratch.FILES} files allowed"
        return End("scratch", used, text)

    @contextmanager
    def _stopped(self) -> Iterator[set[int]]:
        """Stop all processes for a look that one of them could delay: who forks holds its memory's lock."""
        pids = self._stop()
        yield pids
        _signal(signal.SIGCONT, *pids)

    def _stop(self) -> set[int]:
        """Stop all processes, so that none can start another while the rest is found."""
        seen: set[int] = set()
        while new := set(self._pids()) - seen:
            _signal(signal.SIGSTOP, *new)
            seen |= new
        return seen

    # ---- Ending

    def _kill_all(self) -> None:
        """Kill the student's process and all that comes from it, and wait until they are gone."""
        if self._init:
            _signal(signal.SIGKILL, self._init)  # the kernel ends a pid namespace with its first process
        if self._student and not self._end:
            _signal(signal.SIGKILL, self._student)
        while self._reap(os.WNOHANG):
            if not self._init:
                _signal(signal.SIGKILL, *self._stop())
            time.sleep(0.0005)


def _begin(confine: Callable[..., None], run: Callable[[], None], failed: int, keeper: int) -> None:
    """The student's process: confined or not at all, then the function, then the end."""
    try:
        if sys.platform == "linux":
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() not in (0, keeper):  # 0: the keeper lies outside the namespace
                os._exit(1)
        confine(keep=(failed,))
    except BaseException as error:  # noqa: B036
        os.write(failed, (str(error) or type(error).__name__).encode())
        os._exit(1)
    os.close(failed)
    try:
        run()
    except SystemExit as error:
        os._exit(error.code if isinstance(error.code, int) else error.code is not None)
    os._exit(0)


def _start_init() -> tuple[int, int]:
    """Start the first process of the new pid namespace: it ends when the pipe closes, and all with it."""
    program = init_program()
    assert program is not None
    read, write = os.pipe()
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # inherited: whatever it adopts leaves no zombie
    actions = [(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_CLOSE, write)]
    try:
        pid = os.posix_spawn(program, [program], {}, file_actions=actions)
    finally:
        signal.signal(signal.SIGCHLD, previous)
    os.close(read)
    return pid, write


def _ended(status: int, cpu_seconds: float, limits: Limits) -> End:
    """What the status of the student's process means."""
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        return End("exit", code, f"ended by itself with exit code {code}")
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU or number == signal.SIGKILL and cpu_seconds >= limits.notebook_seconds:
        return End("cpu", number, f"used all of its processor time ({cpu_seconds:.0f} s)")
    name = (signal.strsignal(number) or "unknown").lower()
    return End("signal", number, f"killed by signal {number} ({name})")


def _signal(number: int, *pids: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _read_all(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as file:
        return file.read().decode("utf-8", "replace")


# ---------------------------------------------------------------------------------------------------
# Measuring


def status(pid: int | str) -> dict[str, int]:
    """Numbers of /proc/PID/status, memory in KiB; empty if the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.partition(":")[::2] for line in lines if line.startswith(("Vm", "Rss", "Threads", "Uid")))
    return {name: int(value.split()[0]) for name, value in fields}


def children(pid: int) -> list[int]:
    """Processes that a process started or adopted, if it lives."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except OSError:
        pass
    return found


def descendants(pid: int) -> Iterator[int]:
    """Processes that come from a process, and what they adopted."""
    waiting, found = children(pid), set()
    while waiting:
        new = waiting.pop()
        if new not in found:
            found.add(new)
            yield new
            waiting += children(new)


def tasks_of(user: int) -> int:
    """Processes and threads that a user has on this machine."""
    found = [status(name) for name in os.listdir("/proc") if name.isdecimal()]
    return sum(one["Threads"] for one in found if one.get("Uid") == user)


def _memory(one: Mapping[str, int]) -> int:
    """Bytes of a process by its status, files aside."""
    return (one.get("RssAnon", 0) + one.get("RssShmem", 0)) * 1024


def _proportional_memory(pid: int) -> int:
    """Bytes of a process, pages that several share divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0
    except OSError:  # hidden from us: then it counts in full
        return _memory(status(pid))
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem"))) * 1024
