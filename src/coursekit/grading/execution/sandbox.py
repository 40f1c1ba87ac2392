"""Confines a student's process on Linux without root or containers, and says what a machine cannot confine.

A zygote forks a keeper, which calls `keep`; the keeper forks the student's process, which is confined
before any of its code runs.  Several layers hold one another: Landlock (files, TCP, signals), a seccomp
filter (sockets and other system calls), namespaces where they can be had, resource limits, no capabilities.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

from coursekit.grading.execution import keeper, kernel, landlock, seccomp
from coursekit.grading.execution.readable import default_readable, own_rules, rules
from coursekit.grading.records import MIB, Limits

try:
    import resource
except ImportError:  # Windows
    resource = None

__all__ = [
    "Policy", "Protection", "Unprotected", "confine_files", "default_readable", "enter", "environment",
    "keep", "prepare", "protection",
]  # fmt: skip

DESCRIPTORS = 256  # open files that a process may have
_SHM = Path("/dev/shm")
_VARIABLES = {
    "PATH", "LANG", "LANGUAGE", "TZ", "TERM", "MPLBACKEND", "LD_LIBRARY_PATH", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "COURSEKIT_DATA_DIR",
}  # fmt: skip
_FAMILIES = (  # of variables, by how their names begin
    "LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_",
    "KMP_", "TORCH_", "CUDA_", "NVIDIA_", "CUBLAS_", "CUDNN_", "NCCL_",
)  # fmt: skip


class Unprotected(Exception):
    """A layer that this machine can give could not be set up: the student's code must not run."""


@dataclass(frozen=True)
class Policy:
    """What a student's process may reach.

    scratch: the one folder that it may write; it becomes its working folder, HOME and TMPDIR.   readable:
    files and folders beyond `default_readable`.   hidden: never readable although inside a readable folder,
    byte code included; their names can still be listed.   gpu: opens NVIDIA devices and leaves address space
    unlimited, which CUDA reserves.   descriptors: open files that the process keeps, beside 0, 1 and 2, which
    lead nowhere unless they are listed.
    """

    scratch: Path
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    gpu: bool = False
    descriptors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        scratch = Path(os.path.realpath(self.scratch))
        if not scratch.is_dir():
            raise ValueError(f"scratch {str(self.scratch)!r} is no folder; make it first")
        if scratch.is_relative_to(_SHM):
            raise ValueError(f"scratch {str(self.scratch)!r} lies in /dev/shm, which the sandbox replaces")


@dataclass(frozen=True)
class Protection:
    """Which layers this machine gives.

    landlock: its ABI, 0 for none.   namespaces: those that can be entered.   shm: whether /dev/shm can be
    made private.   read_only: whether mounts can be.   counted: whether the kernel limits this user's
    processes (root's it does not).   watched: whether a tree of processes can be measured.   leaks: what
    an attack in a trial run reached all the same, by name of the layer.
    """

    landlock: int = 0
    seccomp: bool = False
    namespaces: tuple[str, ...] = ()
    shm: bool = False
    read_only: bool = False
    counted: bool = False
    watched: bool = False
    leaks: frozenset[str] = frozenset()

    @property
    def layers(self) -> dict[str, str]:
        """The layers that hold, each with the means that hold it."""
        found = {name: ", ".join(filter(None, means)) for name, means in self._means().items()}
        return {name: means for name, means in found.items() if means and name not in self.leaks}

    @property
    def missing(self) -> tuple[str, ...]:
        """A sentence for each layer that this machine does not give."""
        return tuple(text for name, text in _MISSING.items() if name not in self.layers)

    def describe(self) -> tuple[str, ...]:
        """Plain sentences for instructors, what is missing last and marked."""
        held = tuple(f"{name}: {means}" for name, means in self.layers.items())
        return held + tuple(f"NOT PROTECTED: {text}" for text in self.missing)

    def _means(self) -> dict[str, tuple[str | bool, ...]]:
        linux, own_pids = sys.platform == "linux", "pid" in self.namespaces
        return {
            "files": (
                self.landlock and f"Landlock ABI {self.landlock}", self.read_only and "read-only mounts",
            ),
            "attributes": (self.read_only and "read-only mounts" or self.seccomp and "seccomp",),
            "network": (
                self.seccomp and "no sockets (seccomp)",
                self.landlock >= 4 and "no TCP (Landlock)",
                "net" in self.namespaces and "an empty network namespace",
            ),
            "processes": (own_pids and "pid namespace, counted by the keeper", self.counted and "rlimit"),
            "signals": (
                self.landlock >= 6 and "Landlock", own_pids and "pid namespace", self.seccomp and "seccomp",
            ),
            "memory": (resource and "rlimit for each process", self.watched and "the keeper for all"),
            "shared memory": (self.shm and "private /dev/shm" or self.landlock and "none can be made",),
            "privileges": (linux and "no capabilities, no_new_privs",),
        }  # fmt: skip


_MISSING = {
    "files": "files: student code can read and write what you can (Linux 5.13 or newer has Landlock)",
    "attributes": "attributes: student code can change modes and times of your files",
    "network": "network: student code can open connections",
    "processes": "processes: a detached process can outlive a grader that is killed",
    "signals": "signals: student code can end your other processes",
    "memory": "memory: nothing limits it",
    "shared memory": "shared memory: student code can fill /dev/shm and read what others leave there",
    "privileges": "privileges: student code has yours",
}


# ---------------------------------------------------------------------------------------------------
# What this machine gives


def protection() -> Protection:
    """What this machine gives: tried out once in processes that are thrown away, with real attacks."""
    return _tried(os.geteuid() if hasattr(os, "geteuid") else None)


@cache
def _tried(user: int | None) -> Protection:
    if sys.platform != "linux":
        return Protection()
    with tempfile.TemporaryDirectory(prefix="coursekit-trial-") as folder:
        scratch = Path(folder, "scratch")
        scratch.mkdir()
        held = _available(scratch)
        return replace(held, leaks=_leaks(held, Path(folder), scratch))


def _available(scratch: Path) -> Protection:
    namespaces: list[str] = []
    for name in kernel.NAMESPACES:
        if (name != "pid" or keeper.init_program()) and _works(kernel.enter_namespaces, [*namespaces, name]):
            namespaces.append(name)
    mount = "mount" in namespaces
    return Protection(
        landlock=landlock.abi(),
        seccomp=seccomp.available(),
        namespaces=tuple(namespaces),
        shm=mount and _works(_isolate, namespaces, kernel.mount_private_shm, MIB),
        read_only=mount and _works(_isolate, namespaces, kernel.mount_read_only, [scratch]),
        counted=not _works(_fork_beyond_limit),
        watched=Path(f"/proc/self/task/{os.getpid()}/children").exists(),
    )


def _isolate(namespaces: Iterable[str], then: Callable[[Any], None], argument: Any) -> None:
    kernel.enter_namespaces(namespaces)
    then(argument)


def _fork_beyond_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    if os.fork() == 0:
        os._exit(0)


def _works(function: Callable[..., None], *args: Any) -> bool:
    """Whether a function ends without an error, in a process that is thrown away."""
    child = os.fork()
    if not child:
        try:
            function(*args)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _leaks(held: Protection, folder: Path, scratch: Path) -> frozenset[str]:
    """Names of the layers that attacks from inside a confined process pass."""
    secret = folder / "secret"
    secret.write_text("secret")
    read, write = os.pipe()
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        with keeper.ending():
            policy = Policy(scratch, descriptors=(write,))
            _keep(partial(_attack, secret, os.getppid(), write), policy, theirs, held)
    os.close(write)
    theirs.close()
    with ours, os.fdopen(read, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return frozenset(json.loads(text)) if text else frozenset(_MISSING)


def _attack(secret: Path, outside: int, answer: int) -> None:
    """Try what must fail; write the names of the layers that let it pass."""
    attacks: dict[str, tuple[Callable[[], Any], ...]] = {
        "files": (
            secret.read_bytes, partial(secret.open, "a"), partial(os.truncate, secret, 0), secret.unlink,
        ),
        "attributes": (partial(secret.chmod, 0o600), partial(os.utime, secret, (0, 0))),
        "network": (socket.socket, partial(socket.socket, socket.AF_UNIX)),
        "signals": (partial(os.kill, outside, 0),),
        "privileges": (partial(kernel.call, "unshare", kernel.NAMESPACES["net"]),),
    }  # fmt: skip
    leaks = [name for name, tries in attacks.items() if any(map(_passes, tries))]
    os.write(answer, json.dumps(leaks).encode())


def _passes(attack: Callable[[], Any]) -> bool:
    try:
        attack()
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------
# The confined process


def prepare(readable: Iterable[Path] = (), hidden: Iterable[Path] = (), *, gpu: bool = False) -> None:
    """Do once, in the zygote, what every process with these paths shares: the trial and the list of files."""
    protection()
    rules(tuple(readable), tuple(hidden), gpu)


def environment(scratch: Path | None = None, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that student code may see: of `os.environ`, what says nothing about the instructor.

    A zygote should be started with it: a process can read the environment that it was started with.
    """
    variables = os.environ if variables is None else variables
    kept = {name: variables[name] for name in variables if name in _VARIABLES or name.startswith(_FAMILIES)}
    if scratch is not None:
        kept |= {"HOME": str(scratch), "TMPDIR": str(scratch)}
    return kept


def enter(policy: Policy) -> None:
    """Confine the calling process for good: it was just forked and has one thread.

    Raises Unprotected if a layer that `protection` promises cannot be set up.
    """
    _confine(policy, protection())


def confine_files(writable: Path, readable: Iterable[Path] = ()) -> None:
    """Let the calling process, which is trusted, write in one folder alone: it may be led astray by links.

    Does nothing where the machine has no Landlock.
    """
    if version := protection().landlock:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        shared = rules(tuple(readable), (), True)
        landlock.restrict((*shared, *own_rules(writable, False)), version)


def _confine(policy: Policy, held: Protection, keep: tuple[int, ...] = ()) -> None:
    try:
        _settle(policy.scratch)
        _close_descriptors({*policy.descriptors, *keep})
        _limit(policy, held)
        if sys.platform == "linux":
            _give_up(policy, held)
    except OSError as error:
        raise Unprotected(str(error)) from error


def _settle(scratch: Path) -> None:
    """Live in the scratch folder, in a session and with an environment of one's own."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir(scratch)
    kept = environment(scratch)
    os.environ.clear()
    os.environ.update(kept)
    tempfile.tempdir = None


def _close_descriptors(keep: set[int]) -> None:
    """Close what is open; lead 0, 1 and 2 nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in {0, 1, 2} - keep:
        os.dup2(null, descriptor)
    kernel.close_descriptors({0, 1, 2} | keep)


def _limit(policy: Policy, held: Protection) -> None:
    """Set the limits that the kernel keeps for each process, or for all of a user."""
    if resource is None:
        return
    limits = policy.limits
    seconds = math.ceil(limits.notebook_seconds) * _processors()
    wanted = {
        "CORE": 0, "FSIZE": limits.scratch_bytes, "NOFILE": DESCRIPTORS, "MSGQUEUE": 0, "CPU": seconds,
    }  # fmt: skip
    if sys.platform == "linux":
        status = keeper.status("self")
        wanted["DATA"] = status["VmData"] * 1024 + limits.memory_bytes
        if not policy.gpu:
            wanted["AS"] = status["VmSize"] * 1024 + limits.memory_bytes
    if held.counted:
        others = 0 if "user" in held.namespaces else keeper.tasks_of(os.getuid())
        wanted["NPROC"] = others + limits.processes + keeper.THREADS
    for name, value in wanted.items():
        _set_limit(name, value)


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _set_limit(name: str, value: int) -> None:
    number = getattr(resource, f"RLIMIT_{name}", None)
    if number is None:
        return
    _, most = resource.getrlimit(number)
    soft = value if most == resource.RLIM_INFINITY else min(value, most)
    # The signal at the soft limit can be caught; the hard one ends the process.
    grace = keeper.CPU_GRACE if name == "CPU" and (most == resource.RLIM_INFINITY or soft < most) else 0
    resource.setrlimit(number, (soft, soft + grace))


def _give_up(policy: Policy, held: Protection) -> None:
    """Give up files, network, signals, privileges and system calls; check that it is so."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # the keeper reads the memory that is used
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if held.landlock:
        shared = rules(policy.readable, policy.hidden, policy.gpu)
        landlock.restrict((*shared, *own_rules(policy.scratch, held.shm)), held.landlock)
    kernel.drop_capabilities()
    if held.seccomp:
        own_pids = "pid" in held.namespaces
        seccomp.install(seccomp.Restrictions(
            metadata=not held.read_only,
            signals=not own_pids and held.landlock < 6,
            processes=not own_pids and not held.counted,
        ))  # fmt: skip
    if held.landlock and _passes(partial(os.listdir, "/")) or held.seccomp and _passes(socket.socket):
        raise Unprotected("the sandbox was set up, yet files or network can be reached")


# ---------------------------------------------------------------------------------------------------
# The keeper


def keep(run: Callable[[], None], policy: Policy, control: socket.socket) -> NoReturn:
    """Run a function in a confined process, watch over it, and end with all that it started.

    Called in a process just forked by one with a single thread.  Writes two JSON lines to `control`:
    {"started": pid, "protection": [...]} and, at the end, {"ended": how, "detail": ..., "message": ...},
    where how is "exit", "signal", "memory", "processes", "scratch", "cpu" or "unprotected".  When the other
    side closes `control`, everything is killed.  All processes together may have a quarter more memory than
    one alone.
    """
    _keep(run, policy, control, protection())


def _keep(run: Callable[[], None], policy: Policy, control: socket.socket, held: Protection) -> NoReturn:
    with keeper.ending():
        kernel.close_descriptors({0, 1, 2, control.fileno(), *policy.descriptors})
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        watch = keeper.Keeper(
            control, policy.limits, policy.scratch, shm=_SHM if held.shm else None, watched=held.watched
        )
        isolate = partial(_leave_machine, policy, held)
        watch.keep(isolate, partial(_confine, policy, held), run, policy.descriptors, held.describe())


def _leave_machine(policy: Policy, held: Protection) -> bool:
    """Enter the namespaces; whether processes that are forked now have one of their own."""
    try:
        kernel.enter_namespaces(held.namespaces)
        if held.shm:
            kernel.mount_private_shm(policy.limits.memory_bytes // 2)
        if held.read_only:
            kernel.mount_read_only([policy.scratch, *([_SHM] if held.shm else [])])
    except OSError as error:
        raise Unprotected(str(error)) from error
    return "pid" in held.namespaces
