"""Attacks from inside the sandbox: each has its exact outcome, and the outside stays unharmed."""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401 (an ordinary user might not be able to, later)
import errno
import json
import mmap
import os
import pickle
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coursekit.grading.execution import keeper, kernel, landlock, readable, sandbox, scratch, seccomp
from coursekit.grading.execution.sandbox import Policy, Protection
from coursekit.grading.records import MIB, Limits

resource = pytest.importorskip("resource")  # not on Windows
pytestmark = pytest.mark.skipif(not landlock.abi(), reason="needs Linux with Landlock")

NOBODY = 65534
SECONDS = 60  # longer than anything here takes
LIMITS = Limits(memory_bytes=512 * MIB, processes=16, scratch_bytes=32 * MIB)
PACKAGE = Path(sandbox.__file__).parents[2]
FULL = ["root", "user"]
WITHOUT_NAMESPACES = ["root without namespaces", "user without namespaces"]
DENIED = "PermissionError"


# ---------------------------------------------------------------------------------------------------
# Running something inside


@dataclass
class Ran:
    """What came out of the sandbox: the keeper's lines, and what the function returned or raised."""

    lines: list[dict[str, Any]]
    answer: Any

    @property
    def ended(self) -> str:
        return self.lines[-1]["ended"]


class Inside:
    """A process in the sandbox that has not been waited for."""

    def __init__(
        self, function: Callable[[], Any], policy: Policy, held: Protection, user: int | None
    ) -> None:
        self.control, theirs = socket.socketpair()
        self.control.settimeout(SECONDS)
        self._answer, write = os.pipe()
        self.keeper = fork()
        if not self.keeper:
            with keeper.ending():
                become(user)
                sandbox.protection = lambda: held
                policy = replace(policy, descriptors=(*policy.descriptors, write))
                sandbox.keep(partial(answer_with, function, write), policy, theirs)
        os.close(write)
        theirs.close()

    def answer(self) -> Any:
        """What the function answered; waits until every process inside is gone."""
        with os.fdopen(self._answer, "rb") as file:
            text = file.read()
        return json.loads(text) if text else None

    def first_line(self) -> dict[str, Any]:
        return json.loads(self.control.recv(65536).splitlines()[0])

    def wait(self) -> Ran:
        text = b""
        with self.control:
            while received := self.control.recv(65536):
                text += received
        os.waitpid(self.keeper, 0)
        return Ran([json.loads(line) for line in text.splitlines()], self.answer())


def answer_with(function: Callable[[], Any], write: int) -> None:
    os.write(write, json.dumps(outcome(function)).encode())


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the name of what it raises."""
    try:
        return function(*args)
    except Exception as error:
        return type(error).__name__


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 where a library has threads
        return os.fork()


def become(user: int | None) -> None:
    """Live as an ordinary user; what was imported stays, as this user might not read Python's folder."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


@cache
def protection_of(user: int | None) -> Protection:
    read, write = os.pipe()
    child = fork()
    if not child:
        with keeper.ending():
            become(user)
            os.write(write, pickle.dumps(sandbox.protection()))
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        held = pickle.load(file)
    os.waitpid(child, 0)
    return held


class Sandbox:
    """One kind of user on one kind of machine, with a folder that is this user's own."""

    def __init__(self, kind: str, folder: Path) -> None:
        who, _, lacking = kind.partition(" without ")
        root = os.geteuid() == 0
        if who == "root" and not root:
            pytest.skip("needs root")
        self.user = NOBODY if who == "user" and root else None
        self.held = protection_of(self.user)
        if lacking:
            self.held = replace(self.held, namespaces=(), shm=False, read_only=False)
        elif "pid" not in self.held.namespaces:
            pytest.skip("this machine gives no namespaces")
        self.kind, self.folder, self.scratch = kind, folder, folder / "scratch"
        self.scratch.mkdir()
        self.write("secret", "secret")

    @property
    def forks(self) -> bool:
        """Whether processes can be started inside: root's cannot be counted without a namespace."""
        return "pid" in self.held.namespaces or self.held.counted

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    def start(self, function: Callable[[], Any], **policy: Any) -> Inside:
        if self.user is not None:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, self.user, self.user)
        return Inside(function, Policy(self.scratch, **{"limits": LIMITS} | policy), self.held, self.user)

    def run(self, function: Callable[[], Any], **policy: Any) -> Ran:
        return self.start(function, **policy).wait()

    def answer(self, function: Callable[[], Any], **policy: Any) -> Any:
        ran = self.run(function, **policy)
        assert ran.lines[-1]["ended"] == "exit", ran.lines
        return ran.answer


@pytest.fixture(params=FULL)
def box(request):
    """A sandbox on this machine, for root and for an ordinary user."""
    with make_box(request.param) as made:
        yield made


@pytest.fixture(params=FULL + WITHOUT_NAMESPACES)
def any_box(request):
    """The same, and as if the machine gave no namespaces."""
    with make_box(request.param) as made:
        yield made


@contextmanager
def make_box(kind: str):
    folder = Path(tempfile.mkdtemp(prefix="coursekit-test-"))
    folder.chmod(0o755)
    try:
        yield Sandbox(kind, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bystander():
    """Starts a process of the student's own user, which no attack may touch."""
    started: list[int] = []

    def start(user: int | None) -> int:
        child = fork()
        if not child:
            with keeper.ending():
                become(user)
                signal.pause()
        started.append(child)
        return child

    yield start
    for child in started:
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL  # until now it lived


# ---------------------------------------------------------------------------------------------------
# Files


def test_a_file_beside_the_scratch_folder_cannot_be_read(any_box):
    assert any_box.answer((any_box.folder / "secret").read_text) == DENIED


def test_a_readable_folder_can_be_read(any_box):
    data = any_box.write("data/numbers.txt", "1 2 3")
    assert any_box.answer(data.read_text, readable=(data.parent,)) == "1 2 3"
    assert any_box.answer(partial(data.write_text, "4"), readable=(data.parent,)) in (DENIED, "OSError")
    assert data.read_text() == "1 2 3"


def test_a_hidden_file_in_a_readable_folder_cannot_be_read(any_box):
    shown, hidden = any_box.write("course/a/shown.py", "1"), any_box.write("course/a/hidden.py", "2")
    compiled = any_box.write("course/a/__pycache__/hidden.cpython-311.pyc", "3")
    other = any_box.write("course/a/__pycache__/shown.cpython-311.pyc", "4")
    names = any_box.write("course/b/c/names", "5")
    answer = any_box.answer(
        lambda: [outcome(path.read_text) for path in (shown, hidden, compiled, other, names)],
        readable=(any_box.folder / "course",),
        hidden=(hidden, any_box.folder / "course" / "b"),
    )
    assert answer == ["1", DENIED, DENIED, "4", DENIED]


def test_byte_code_that_is_written_later_stays_hidden_too(tmp_path):
    hidden = tmp_path / "hidden.py"
    (tmp_path / "__pycache__").mkdir()
    rules = readable.rules((tmp_path,), (hidden,), False)
    opened = [rule for rule in rules if rule.path == str(tmp_path / "__pycache__")]
    assert opened == [landlock.Rule(str(tmp_path / "__pycache__"), landlock.LIST)]


def test_hidden_wins_over_readable(any_box):
    secret = any_box.write("course/secrets/key", "key")
    policy = {"readable": (secret.parent, secret), "hidden": (secret.parent,)}
    assert any_box.answer(secret.read_text, **policy) == DENIED


def test_the_package_can_be_read_but_for_its_hidden_modules(box):
    if box.user is not None and not os.access(PACKAGE, os.R_OK):
        pytest.skip("the package is not this user's to read")
    shown, hidden = PACKAGE / "conv.py", PACKAGE / "checks" / "conv.py"
    answer = box.answer(
        lambda: [len(shown.read_bytes()), outcome(hidden.read_bytes), outcome(os.listdir, PACKAGE.parent)],
        hidden=(hidden,),
    )
    assert answer == [shown.stat().st_size, DENIED, DENIED]


@pytest.mark.parametrize("folder", ["/", "/tmp", "/root", "/home", "/var", "/etc", "~"])
def test_folders_of_the_machine_cannot_be_listed(any_box, folder):
    path = os.path.expanduser(folder)
    if os.path.isdir(path):
        assert any_box.answer(partial(os.listdir, path)) == DENIED


def test_another_scratch_folder_cannot_be_read_or_written(any_box):
    other = any_box.write("other-scratch/answer.py", "42")
    answer = any_box.answer(
        lambda: [outcome(other.read_text), outcome(os.listdir, other.parent), outcome(other.write_text, "")]
    )
    assert answer[:2] == [DENIED, DENIED] and answer[2] in (DENIED, "OSError")
    assert other.read_text() == "42"


def test_a_symbolic_link_leads_nowhere(any_box):
    secret = any_box.folder / "secret"

    def attack():
        os.symlink(secret, "link")
        os.symlink(secret.parent, "folder")
        names = ("link", "folder/secret", "/proc/self/cwd/../secret")
        return [outcome(Path(name).read_text) for name in names]

    assert any_box.answer(attack) == [DENIED] * 3


def test_a_hard_link_cannot_be_made(any_box):
    assert any_box.answer(partial(os.link, any_box.folder / "secret", "link")) in (DENIED, "OSError")


@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd", "root", "cwd", "task", "status"])
def test_the_examiner_cannot_be_read_through_proc(any_box, name):
    path = f"/proc/{os.getpid()}/{name}"
    assert any_box.answer(lambda: outcome(os.listdir if os.path.isdir(path) else open, path)) == DENIED


def test_nothing_outside_can_be_changed(any_box):
    secret = any_box.folder / "secret"
    secret.chmod(0o640)
    os.utime(secret, (1, 1))

    def attack():
        new = secret.with_name("new")
        attacks = [
            partial(secret.write_text, "broken"), partial(open, secret, "a"), partial(os.truncate, secret, 0),
            secret.unlink, partial(secret.rename, new), partial(secret.rename, "mine"), new.touch, new.mkdir,
            partial(os.symlink, "a", new), partial(os.mkfifo, new), partial(secret.chmod, 0o777),
            partial(os.utime, secret, (2, 2)), partial(os.chown, secret, os.getuid(), os.getgid()),
            partial(os.setxattr, secret, "user.a", b"b"), secret.parent.rmdir,
            partial(Path("mine").replace, secret),
        ]  # fmt: skip
        Path("mine").touch()
        return [type(failed).__name__ for failed in map(raised, attacks)]

    assert set(any_box.answer(attack)) <= {DENIED, "OSError"}
    after = secret.stat()
    assert (after.st_mode & 0o777, after.st_mtime, secret.read_text()) == (0o640, 1, "secret")
    assert sorted(path.name for path in any_box.folder.iterdir()) == ["scratch", "secret"]


def raised(function: Callable[[], Any]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


def test_the_scratch_folder_can_be_used_as_usual(any_box):
    def work():
        Path("a/b").mkdir(parents=True)
        Path("a/b/c").write_text("1")
        Path("a/b/c").rename("d")
        with sqlite3.connect("data.db") as database:
            database.execute("create table t (x)")
        database.close()
        with tempfile.NamedTemporaryFile() as file:
            here = [os.getcwd(), os.path.dirname(file.name), os.path.expanduser("~")]
        return [*here, sorted(os.listdir())]

    scratch = os.path.realpath(any_box.scratch)
    assert any_box.answer(work) == [scratch, scratch, scratch, ["a", "d", "data.db"]]
    assert (any_box.scratch / "d").read_text() == "1"


def test_modes_and_times_can_be_changed_in_the_scratch_folder(box):
    def work():
        Path("a").touch()
        shutil.copy2("a", "b")
        os.chmod("a", 0o700)
        return [outcome(os.chmod, "a", 0o4755), outcome(os.open, "c", os.O_CREAT | os.O_WRONLY, 0o4755)]

    assert box.answer(work) == [DENIED, DENIED]  # but no program that runs as its owner
    assert (box.scratch / "a").stat().st_mode & 0o7777 == 0o700


def test_inherited_descriptors_are_closed(any_box):
    descriptor = os.open(any_box.folder / "secret", os.O_RDONLY)
    os.set_inheritable(descriptor, True)

    def attack():
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        targets = {os.readlink(link).partition(":")[0] for link in links if os.path.lexists(link)}
        return [outcome(os.read, descriptor, 9), sorted(targets)]

    assert any_box.answer(attack) == ["OSError", ["/dev/null", "pipe"]]
    os.close(descriptor)


def test_the_environment_holds_nothing_of_the_examiner(any_box, monkeypatch):
    monkeypatch.setenv("COURSE_DATABASE", "postgresql://me:password@host")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    answer = any_box.answer(lambda: dict(os.environ))
    assert "COURSE_DATABASE" not in answer and answer["OMP_NUM_THREADS"] == "1"
    assert answer["HOME"] == answer["TMPDIR"] == str(any_box.scratch)


# ---------------------------------------------------------------------------------------------------
# Network and system calls


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_ALG"])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"])
def test_no_socket_can_be_made(any_box, family, kind):
    make = partial(socket.socket, getattr(socket, family), getattr(socket, kind))
    assert any_box.answer(make) == DENIED


def test_names_are_not_looked_up(any_box):
    assert any_box.answer(partial(socket.getaddrinfo, "example.org", 80)) == "gaierror"


def test_a_pair_of_sockets_works_but_not_one_that_can_be_connected_elsewhere(any_box):
    def work():
        left, right = socket.socketpair()
        left.sendall(b"hello")
        received = right.recv(5).decode()
        datagrams = outcome(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM)
        return [received, datagrams, outcome(left.connect, "/run/docker.sock"), outcome(left.bind, "x")]

    assert any_box.answer(work) == ["hello", DENIED, DENIED, DENIED]


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize(("landlock_abi", "namespaces"), [(landlock.abi(), False), (0, True)])
def test_each_network_layer_holds_alone(kind, landlock_abi, namespaces):
    """TCP to a server that listens: stopped by Landlock alone, and by a namespace alone."""
    if not namespaces and landlock_abi < 4:
        pytest.skip("this kernel's Landlock does not know TCP")
    with make_box(kind) as box:
        kept = box.held.namespaces if namespaces else ()
        box.held = Protection(landlock_abi, namespaces=kept)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            answer = box.answer(lambda: outcome(socket.create_connection, address, 5))
        assert answer == ("OSError" if namespaces else DENIED)


REFUSED = {
    "ptrace": (16, 1), "process_vm_readv": (1, 0, 0, 0, 0, 0), "mount": (0, 0, 0, 0, 0), "umount2": (0, 0),
    "pivot_root": (0, 0), "unshare": (0x10000000,), "setns": (0, 0), "chroot": (0,), "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0), "userfaultfd": (0,), "keyctl": (0, 0), "add_key": (0, 0, 0, 0, 0),
    "kexec_load": (0, 0, 0, 0), "reboot": (0, 0, 0), "init_module": (0, 0, 0), "swapon": (0, 0),
    "open_by_handle_at": (0, 0, 0), "quotactl": (0, 0, 0, 0), "pidfd_getfd": (0, 0, 0),
    "mount_setattr": (0,) * 5,
    "clone": (0x10000011, 0, 0, 0, 0), "shmget": (0, 4096, 0o1600), "mq_open": (0, 0o102, 0o600, 0),
    "prlimit64": (1, 7, 0, 0), "setpriority": (0, 1, 19), "prctl": (4, 0, 0, 0, 0), "inotify_init1": (0,),
}  # fmt: skip
UNKNOWN = {"clone3": (0, 0), "io_uring_setup": (8, 0), "memfd_create": (0, 0), "openat2": (0, 0, 0, 0)}


def test_system_calls_that_no_notebook_needs_are_refused(any_box):
    machine = os.uname().machine
    column = ["x86_64", "aarch64"].index(machine)

    def attack():
        library = ctypes.CDLL(None, use_errno=True)
        numbers = {name: seccomp.NUMBERS[name][column] for name in (*REFUSED, *UNKNOWN)}
        failed = {}
        for name, arguments in (REFUSED | UNKNOWN).items():
            words = [ctypes.c_long(argument) for argument in arguments]
            assert library.syscall(ctypes.c_long(numbers[name]), *words) == -1
            failed[name] = ctypes.get_errno()
        return failed

    expected = dict.fromkeys(REFUSED, errno.EPERM) | dict.fromkeys(UNKNOWN, errno.ENOSYS)
    assert any_box.answer(attack) == expected


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is an ABI of x86_64")
def test_calls_by_another_abi_are_refused(any_box):
    def attack():
        library = ctypes.CDLL(None, use_errno=True)
        result = library.syscall(ctypes.c_long(0x40000000 + 39))
        return [result, ctypes.get_errno()]

    assert any_box.answer(attack) == [-1, errno.EPERM]


def test_no_capability_is_left_and_none_comes_back(any_box):
    def attack():
        text = Path("/proc/self/status").read_text()
        names = ("CapPrm", "CapEff", "NoNewPrivs", "Seccomp")
        return [re.search(rf"{name}:\s*(\w+)", text)[1] for name in names]

    assert any_box.answer(attack) == ["0" * 16, "0" * 16, "1", "2"]


def run_filter(machine: str, call: str, *arguments: int, **restrictions: bool) -> int:
    """What the filter says to a call: 0 lets it pass, else the error number."""
    column = ["x86_64", "aarch64"].index(machine)
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    architecture = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    data = struct.pack("=iIQ6Q", seccomp.NUMBERS[call][column], architecture, 0, *words)
    program = seccomp.program(machine, 77, seccomp.Restrictions(**restrictions))
    steps = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                value = struct.unpack_from("=I", data, operand)[0]
            case 0x54:
                value &= operand
            case 0x15 | 0x35 | 0x45:
                true = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
                at += if_true if true else if_false
            case 0x06:
                return 0 if operand == 0x7FFF0000 else operand & 0xFFFF


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("call", "arguments", "restrictions", "expected"),
    [
        ("socket", (2,), {}, errno.EACCES),
        ("clone", (0x11,), {}, 0),
        ("clone", (0x20000011,), {}, errno.EPERM),
        ("clone", (0x11,), {"processes": True}, errno.EPERM),
        ("clone", (0x3D0F00,), {"processes": True}, 0),
        ("prlimit64", (0,), {}, 0),
        ("prlimit64", (77,), {}, 0),
        ("prlimit64", (78,), {}, errno.EPERM),
        ("kill", (78,), {}, 0),
        ("kill", (78,), {"signals": True}, errno.EPERM),
        ("kill", (77,), {"signals": True}, 0),
        ("fchmod", (3, 0o644), {}, 0),
        ("fchmod", (3, 0o2644), {}, errno.EPERM),
        ("fchmod", (3, 0o644), {"metadata": True}, errno.EPERM),
        ("openat", (0, 0, 0, 0o666), {}, 0),
        ("socketpair", (1, 0x80001), {}, 0),
        ("socketpair", (1, 2), {}, errno.EPERM),
        ("ioctl", (0, 0x5401), {}, 0),
        ("ioctl", (0, 0x5412), {}, errno.EPERM),
        ("prctl", (15,), {}, 0),
        ("prctl", (1,), {}, errno.EPERM),
    ],
)
def test_the_filter_judges_the_same_on_both_machines(machine, call, arguments, restrictions, expected):
    assert run_filter(machine, call, *arguments, **restrictions) == expected


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_of_calls_are_the_kernels(column, header):
    if not os.path.exists(header):
        pytest.skip("the kernel's headers are not installed")
    text = Path(header).read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    ours = {name: numbers[column] for name, numbers in seccomp.NUMBERS.items()}
    newest = max(known.values())  # numbers from 424 on are the same everywhere; old headers lack the last
    expected = {name: known.get(name) if (ours[name] or 0) <= newest else ours[name] for name in ours}
    uniform = {"clone3": 435, "memfd_secret": 447}  # left out of the generic header unless asked for
    assert ours == expected | {name: number for name, number in uniform.items() if expected[name] is None}


# ---------------------------------------------------------------------------------------------------
# Other processes


def test_other_processes_cannot_be_signalled_traced_or_limited(any_box, bystander):
    victim = bystander(any_box.user)

    def attack():
        return [
            outcome(os.kill, victim, signal.SIGKILL),
            outcome(os.kill, os.getppid() or victim, signal.SIGKILL),
            outcome(kernel.call, "ptrace", 16, victim, 0, 0),
            outcome(resource.prlimit, victim, resource.RLIMIT_NOFILE, (0, 0)),
            outcome(os.setpriority, os.PRIO_PROCESS, victim, 19),
        ]

    answer = any_box.answer(attack)
    assert set(answer[:2]) <= {DENIED, "ProcessLookupError"}
    assert answer[2:] == [DENIED] * 3
    assert "Max open files            0" not in Path(f"/proc/{victim}/limits").read_text()


def test_a_signal_to_everybody_reaches_nobody_outside(any_box, bystander):
    bystander(any_box.user)
    assert any_box.answer(partial(os.kill, -1, signal.SIGTERM)) in (DENIED, "ProcessLookupError", None)


def test_signals_are_stopped_without_landlocks_help(bystander):
    with make_box("user without namespaces") as box:
        box.held = replace(box.held, landlock=min(5, box.held.landlock))
        assert box.answer(partial(os.kill, bystander(box.user), signal.SIGKILL)) == DENIED
        assert box.answer(partial(os.kill, 0, 0)) == DENIED


# ---------------------------------------------------------------------------------------------------
# Memory


def test_too_much_memory_at_once_is_an_ordinary_error(any_box):
    def attack():
        failed = outcome(bytearray, 2 * LIMITS.memory_bytes)
        return [failed, len(bytearray(MIB))]

    assert any_box.answer(attack) == ["MemoryError", MIB]


def test_shared_memory_counts_as_memory(any_box):
    assert any_box.answer(lambda: mmap.mmap(-1, 2 * LIMITS.memory_bytes) and None) == "OSError"


@pytest.mark.parametrize("attack", ["private", "shared"])
def test_memory_that_address_space_does_not_limit_is_limited(any_box, attack):
    """As for CUDA, which reserves more address space than there is memory."""

    def bomb():
        if attack == "private":
            return outcome(bytearray, 2 * LIMITS.memory_bytes)
        while True:
            fill(mmap.mmap(-1, 64 * MIB))

    ran = any_box.run(bomb, gpu=True)
    assert (ran.ended, ran.answer) == (("exit", "MemoryError") if attack == "private" else ("memory", None))


KEPT = []  # what a bomb holds on to


def fill(memory: mmap.mmap) -> None:
    KEPT.append(memory)
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1


def test_many_processes_together_have_a_limit_of_memory(box):
    def bomb():
        for _ in range(4):
            if not os.fork():
                fill(mmap.mmap(-1, 300 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
                signal.pause()
        signal.pause()

    ran = box.run(bomb)
    assert ran.ended == "memory" and ran.answer is None
    assert ran.lines[-1]["message"] == "used more than the 512 MiB of memory allowed"


def test_memory_that_processes_share_counts_once(box):
    def work():
        shared = mmap.mmap(-1, 200 * MIB)
        fill(shared)
        for _ in range(5):
            if not os.fork():
                sum(shared[at] for at in range(0, len(shared), mmap.PAGESIZE))
                time.sleep(5 * keeper.INTERVAL)
                os._exit(0)
        while outcome(os.wait) != "ChildProcessError":
            pass
        return "done"

    assert box.answer(work) == "done"


def test_shared_memory_files_are_private_and_limited(box):
    name = f"coursekit-test-{os.getpid()}"

    def attack():
        with open(f"/dev/shm/{name}", "wb") as file:
            return outcome(lambda: [file.write(bytes(MIB)) for _ in range(2 * LIMITS.memory_bytes // MIB)])

    assert box.answer(attack, limits=replace(LIMITS, scratch_bytes=2**40)) == "OSError"
    assert not os.path.exists(f"/dev/shm/{name}")


@pytest.mark.parametrize("kind", WITHOUT_NAMESPACES)
def test_the_machines_shared_memory_stays_closed(kind):
    with make_box(kind) as box:
        answer = box.answer(lambda: [outcome(open, "/dev/shm/mine", "w"), outcome(os.listdir, "/dev/shm")])
        assert answer == [DENIED, DENIED]


# ---------------------------------------------------------------------------------------------------
# Processes


def test_a_fork_bomb_ends(any_box):
    def bomb():
        while True:
            try:
                os.fork()
            except BlockingIOError:
                signal.pause()

    ran = any_box.run(bomb)
    expected = ("processes", None) if any_box.forks else ("exit", DENIED)
    assert (ran.ended, ran.answer) == expected


def test_a_bomb_of_threads_ends(any_box):
    def bomb():
        event = threading.Event()
        while True:
            threading.Thread(target=event.wait, daemon=True).start()

    ran = any_box.run(bomb, gpu=True)
    assert ran.ended == "processes" or ran.answer == "RuntimeError"


def detach() -> int:
    """Start a process that no longer belongs to its parent or session; the descriptors stay open in it."""
    read, write = os.pipe()
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(write, b"1")
        signal.pause()
    os.wait()
    return len(os.read(read, 1))


@pytest.fixture(params=[*FULL, "user without namespaces"])
def forking_box(request):
    with make_box(request.param) as box:
        if not box.forks:
            pytest.skip("no processes can be started here")
        yield box


def test_a_detached_process_ends_with_the_student(forking_box):
    assert forking_box.answer(detach) == 1  # answered once every process has closed the pipe


def test_everything_ends_when_the_examiner_is_gone(forking_box):
    inside = forking_box.start(lambda: detach() and print(signal.pause()))
    assert inside.first_line()["started"] > 0
    inside.control.close()
    assert inside.answer() is None
    assert os.waitpid(inside.keeper, 0)[1] == 0


def test_everything_ends_when_the_keeper_is_killed(box):
    ready, write = os.pipe()

    def work():
        detach()
        os.write(write, b"1")
        signal.pause()

    inside = box.start(work, descriptors=(write,))
    os.close(write)
    assert os.read(ready, 1) == b"1"
    os.kill(inside.keeper, signal.SIGKILL)
    assert inside.answer() is None
    os.waitpid(inside.keeper, 0)
    os.close(ready)
    inside.control.close()


@pytest.mark.parametrize("kind", WITHOUT_NAMESPACES)
def test_the_student_ends_with_a_killed_keeper_on_any_machine(kind):
    with make_box(kind) as box:
        inside = box.start(signal.pause)
        assert inside.first_line()["started"] > 0
        os.kill(inside.keeper, signal.SIGKILL)
        assert inside.answer() is None
        os.waitpid(inside.keeper, 0)
        inside.control.close()


# ---------------------------------------------------------------------------------------------------
# Ways to end


def test_a_function_that_returns_ends_with_exit_code_0(any_box):
    ran = any_box.run(lambda: 42)
    assert ran.answer == 42
    assert [sorted(line) for line in ran.lines] == [["protection", "started"], ["detail", "ended", "message"]]
    assert ran.lines[1] == {"ended": "exit", "detail": 0, "message": "ended by itself with exit code 0"}


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda: os._exit(3), ("exit", 3, "ended by itself with exit code 3")),
        (lambda: sys.exit(4), ("exit", 4, "ended by itself with exit code 4")),
        (lambda: ctypes.string_at(0), ("signal", 11, "killed by signal 11 (segmentation fault)")),
        (os.abort, ("signal", 6, "killed by signal 6 (aborted)")),
        (lambda: os.kill(os.getpid(), 9), ("signal", 9, "killed by signal 9 (killed)")),
    ],
    ids=["exit", "sys.exit", "segfault", "abort", "kill"],
)
def test_how_a_process_ended_is_told(any_box, end, expected):
    ran = any_box.run(end)
    assert (ran.ended, ran.lines[-1]["detail"], ran.lines[-1]["message"]) == expected


def test_endless_computing_ends(any_box):
    def spin():
        while True:
            pass

    one = {min(os.sched_getaffinity(0))}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, one)
    try:
        inside = any_box.start(spin, limits=replace(LIMITS, notebook_seconds=1))
    finally:
        os.sched_setaffinity(0, before)
    assert inside.wait().ended == "cpu"


# ---------------------------------------------------------------------------------------------------
# The scratch folder


def test_one_file_cannot_be_too_large(any_box):
    def attack():
        with open("large", "wb", buffering=0) as file:
            while True:
                file.write(bytes(MIB))

    assert any_box.answer(attack) == "OSError"
    assert (any_box.scratch / "large").stat().st_size <= LIMITS.scratch_bytes


def large(name: str, size: int = 8 * MIB) -> Any:
    file = open(name, "wb+", buffering=0)
    file.write(bytes(size))
    return file


def many_files():
    for number in range(scratch.FILES + 1):
        Path(f"{number}").touch()


def much_data():
    for number in range(64):
        large(f"{number}").close()


def deleted_files():
    for number in range(64):
        KEPT.append(large(f"{number}"))
        os.unlink(f"{number}")


def mapped_files():
    for number in range(64):
        with large(f"{number}") as file:
            KEPT.append(mmap.mmap(file.fileno(), mmap.PAGESIZE))
        os.unlink(f"{number}")


def deep_folders():
    for _ in range(200):
        os.mkdir("d")
        os.chdir("d")


def hidden_folder():
    os.mkdir("closed")
    large("closed/large", MIB).close()
    os.mkdir("closed/" + "x" * 255)
    os.chdir("closed/" + "x" * 255)
    for _ in range(20):
        os.mkdir("y" * 255)
        os.chdir("y" * 255)


@pytest.mark.parametrize(
    "flood", [many_files, much_data, deleted_files, mapped_files, deep_folders, hidden_folder]
)
def test_a_flood_of_files_ends(any_box, flood, monkeypatch):
    monkeypatch.setattr(scratch, "FILES", 500)
    ran = any_box.run(lambda: flood() or signal.pause())
    assert (ran.ended, ran.answer) == ("scratch", None)


def test_a_scratch_folder_is_removed_whatever_it_holds(any_box):
    def fill():
        os.makedirs("closed/inner")
        Path("closed/file").touch()
        os.symlink(any_box.folder, "link")
        os.mkfifo("fifo")
        if any_box.held.read_only:
            os.chmod("closed", 0)
        for _ in range(1500):
            os.mkdir("deep")
            os.chdir("deep")

    any_box.run(fill)
    scratch.remove(any_box.scratch)
    assert [path.name for path in any_box.folder.iterdir()] == ["secret"]


# ---------------------------------------------------------------------------------------------------
# Honest work


def test_arrays_tensors_and_figures_work(any_box):
    from matplotlib import font_manager  # noqa: F401 (which looks for fonts, for long, when it is first loaded)
    from matplotlib.backends import backend_agg  # noqa: F401 (the ordinary user cannot import it)
    from matplotlib.figure import Figure

    def work():
        figure = Figure()
        figure.subplots().plot(np.arange(9) @ np.ones((9, 2)))
        figure.savefig("figure.png")
        torch.set_num_threads(1)  # threads of the tests before are not in a forked process, and waited for
        product = torch.ones(64, 64) @ torch.ones(64, 64)
        return [os.path.getsize("figure.png") > 1000, float(product[0, 0])]

    assert any_box.answer(work, limits=replace(LIMITS, memory_bytes=2**30)) == [True, 64.0]


def test_threads_work(any_box):
    def work():
        found = []
        threads = [threading.Thread(target=found.append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(found)

    assert any_box.answer(work) == [0, 1, 2, 3]


def test_programs_can_be_started_where_they_can_be_counted(any_box):
    def work():
        return subprocess.run(["ls", "/usr"], capture_output=True, text=True, check=True).stdout.split()

    answer = any_box.answer(work)
    assert "bin" in answer if any_box.forks else answer == DENIED


def test_a_pool_of_processes_works_where_shared_memory_is_private(box):
    # The ordinary user cannot import them.
    from multiprocessing import get_context, pool, popen_fork, queues, synchronize  # noqa: F401

    def work():
        with get_context("fork").Pool(2) as workers:
            return workers.map(abs, [-1, -2, 3])

    assert box.answer(work) == [1, 2, 3]


# ---------------------------------------------------------------------------------------------------
# What a machine gives


def test_this_machine_lets_no_attack_of_the_trial_pass(any_box):
    assert not any_box.held.leaks


def test_each_layer_is_described_as_held_or_missing():
    nothing, everything = Protection(), protection_of(None)
    assert all(text.startswith("NOT PROTECTED: ") for text in nothing.describe()[2:])
    if everything.read_only:
        assert f"files: Landlock ABI {landlock.abi()}, read-only mounts" in everything.describe()
    leaky = replace(everything, leaks=frozenset({"network"}))
    assert leaky.missing == ("network: student code can open connections",)


def test_a_machine_whose_layer_does_not_hold_says_so(monkeypatch):
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    monkeypatch.setattr(seccomp, "available", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as in fork
        held = sandbox._tried.__wrapped__("without Landlock and seccomp")
    assert held.leaks >= {"files"}
    assert "NOT PROTECTED: files: student code can read and write what you can (Linux 5.13 or newer has " \
        "Landlock)" in held.describe()  # fmt: skip


@pytest.mark.parametrize("broken", ["refused", "without effect"])
def test_nothing_runs_when_a_promised_layer_fails(any_box, monkeypatch, broken):
    def restrict(*_):
        if broken == "refused":
            raise OSError("no Landlock today")

    monkeypatch.setattr(landlock, "restrict", restrict)
    ran = any_box.run(lambda: "ran")
    assert (ran.ended, ran.answer) == ("unprotected", None)
    expected = "no Landlock today" if broken == "refused" else "yet files or network can be reached"
    assert expected in ran.lines[-1]["message"]


def test_nothing_runs_when_namespaces_fail(box, monkeypatch):
    def refuse(_):
        raise OSError("no namespaces today")

    monkeypatch.setattr(kernel, "enter_namespaces", refuse)
    ran = box.run(lambda: "ran")
    assert (ran.ended, ran.answer) == ("unprotected", None)


@pytest.mark.parametrize("abi", range(1, landlock.abi() + 1))
def test_older_versions_of_landlock_protect_files_too(abi):
    with make_box("user without namespaces") as box:
        box.held = replace(box.held, landlock=abi)
        secret = box.folder / "secret"
        answer = box.answer(lambda: [outcome(secret.read_text), outcome(secret.write_text, "broken")])
        assert answer == [DENIED, DENIED] and secret.read_text() == "secret"


def test_a_scratch_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="scratch .*absent.* is no folder; make it first"):
        Policy(tmp_path / "absent")


def test_the_modules_can_be_imported_on_other_systems():
    code = """
import ctypes, sys
sys.modules["resource"] = None
sys.platform = "darwin"
ctypes.CDLL = None
from coursekit.grading.execution import sandbox
print(len(sandbox.protection().missing))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("8\n", "")
