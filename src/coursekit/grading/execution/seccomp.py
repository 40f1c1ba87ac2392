"""A seccomp filter, by which a Linux process gives up system calls for good, without root.

The filter refuses by name and lets the rest pass: what stays is what an ordinary program needs.  Numbers
stand for x86_64 and aarch64; on other machines there is no filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from coursekit.grading.execution.kernel import NAMESPACES, prctl

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # x86_64 numbers from here on mean another ABI
_CLONE_THREAD = 0x00010000

# Number on x86_64 and aarch64; None where the machine lacks the call.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "accept": (43, 202), "accept4": (288, 242), "acct": (163, 89), "add_key": (248, 217),
    "adjtimex": (159, 171), "bind": (49, 200), "bpf": (321, 280), "chmod": (90, None), "chown": (92, None),
    "chroot": (161, 51), "clock_adjtime": (305, 266), "clock_settime": (227, 112), "clone": (56, 220),
    "clone3": (435, 435), "connect": (42, 203), "creat": (85, None), "delete_module": (176, 106),
    "fanotify_init": (300, 262), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "fchown": (93, 55), "fchownat": (260, 54), "file_setattr": (469, 469), "finit_module": (313, 273),
    "fork": (57, None), "fremovexattr": (199, 16), "fsconfig": (431, 431), "fsetxattr": (190, 7),
    "fsmount": (432, 432), "fsopen": (430, 430), "fspick": (433, 433), "futimesat": (261, None),
    "init_module": (175, 105), "inotify_init": (253, None), "inotify_init1": (294, 26), "ioctl": (16, 29),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "ioperm": (173, None), "iopl": (172, None), "kcmp": (312, 272), "kexec_file_load": (320, 294),
    "kexec_load": (246, 104), "keyctl": (250, 219), "kill": (62, 129), "lchown": (94, None),
    "listen": (50, 201), "lremovexattr": (198, 15), "lsetxattr": (189, 6), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "migrate_pages": (256, 238), "mknod": (133, None), "mknodat": (259, 33),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239),
    "mq_open": (240, 180), "msgget": (68, 186), "name_to_handle_at": (303, 264), "open": (2, None),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "open_tree_attr": (467, 467),
    "openat": (257, 56), "openat2": (437, 437), "perf_event_open": (298, 241), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "prctl": (157, 167), "prlimit64": (302, 261),
    "process_madvise": (440, 440), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "ptrace": (101, 117), "quotactl": (179, 60), "quotactl_fd": (443, 443), "reboot": (169, 142),
    "removexattr": (197, 14), "removexattrat": (466, 466), "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "semget": (64, 190),
    "setdomainname": (171, 162), "sethostname": (170, 161), "setns": (308, 268), "setpriority": (141, 140),
    "settimeofday": (164, 170), "setxattr": (188, 5), "setxattrat": (463, 463), "shmget": (29, 194),
    "socket": (41, 198), "socketpair": (53, 199), "swapoff": (168, 225), "swapon": (167, 224),
    "syslog": (103, 116), "tgkill": (234, 131), "tkill": (200, 130), "umount2": (166, 39),
    "unshare": (272, 97), "userfaultfd": (323, 282), "utime": (132, None), "utimensat": (280, 88),
    "utimes": (235, None), "vfork": (58, None),
}  # fmt: skip

# Refused whatever the arguments.  ENOSYS makes a C library take another way.
_REFUSED = {
    errno.EACCES: "socket bind connect listen accept accept4",
    errno.ENOSYS: "clone3 openat2 memfd_create memfd_secret io_uring_setup io_uring_enter io_uring_register",
    errno.EPERM: """
        ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp migrate_pages move_pages
        mount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick
        mount_setattr unshare setns chroot open_by_handle_at name_to_handle_at quotactl quotactl_fd
        bpf perf_event_open userfaultfd add_key request_key keyctl
        kexec_load kexec_file_load reboot init_module finit_module delete_module swapon swapoff acct syslog
        settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm
        shmget msgget semget mq_open inotify_init inotify_init1 fanotify_init""",
}
# Refused where mounts are not read-only: Landlock does not keep modes, owners, times and attributes.
_METADATA = """
    chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes futimesat utimensat setxattr
    lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr"""
# Which argument holds a file's mode: no set-user-id program may be left behind.
_MODES = {
    "chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "open": 2, "openat": 3, "mknod": 1,
    "mknodat": 2,
}  # fmt: skip
# Which prctl options are refused: they hide memory from the keeper, or outlive it.
_PRCTL = (1, 4, 35, 0x59616D61)  # PDEATHSIG, DUMPABLE, MM, PTRACER
_IOCTL = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX type into a terminal


class Restrictions(NamedTuple):
    """What the filter refuses beyond the usual, where no other layer does.

    metadata: changes of modes, owners, times.   signals: to other processes.   processes: new ones.
    """

    metadata: bool = False
    signals: bool = False
    processes: bool = False


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def available() -> bool:
    """Whether this machine can have the filter: tried out, without installing one."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    try:
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0)
    except OSError as error:  # a kernel that knows the mode misses the program at address 0
        return error.errno == errno.EFAULT
    return False


def install(restrictions: Restrictions) -> None:
    """Filter the system calls of this thread and all that it starts; no_new_privs must be set."""
    code = program(platform.machine(), os.getpid(), restrictions)
    description = _Program(len(code) // 8, code)
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(description))


def program(machine: str, pid: int, restrictions: Restrictions) -> bytes:
    """The filter as classic BPF for a machine, "x86_64" or "aarch64"."""
    column = list(_ARCHITECTURES).index(machine)
    code = [
        _step(_LOAD, 4), _step(_JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0), _refuse(errno.EPERM),
        _step(_LOAD, 0), _step(_JUMP_AT_LEAST, _X32, 0, 1), _refuse(errno.EPERM),
    ]  # fmt: skip
    for name, check in _checks(pid, restrictions):
        number = NUMBERS[name][column]
        if number is not None:
            # The check ends with the number loaded again, for the calls that follow.
            code += [_step(_JUMP_EQUAL, number, 0, len(check)), *check]
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _checks(pid: int, restrictions: Restrictions) -> Iterator[tuple[str, list[bytes]]]:
    """Names of calls, each with the steps that refuse it or let it through."""
    for number, names in _REFUSED.items():
        for name in names.split():
            yield name, [_refuse(number)]
    if restrictions.metadata:
        for name in _METADATA.split():
            yield name, [_refuse(errno.EPERM)]
    if restrictions.processes:
        yield "fork", [_refuse(errno.EPERM)]
        yield "vfork", [_refuse(errno.EPERM)]
        yield "clone", _refuse_unless_bit(0, _CLONE_THREAD)
    if restrictions.signals:
        for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            yield name, _refuse_unless(0, pid)
        yield "tkill", [_refuse(errno.EPERM)]
        yield "pidfd_send_signal", [_refuse(errno.EPERM)]
    yield "clone", _refuse_bits(0, sum(NAMESPACES.values()) | 0x06000000)  # also cgroup and host name
    yield "prlimit64", _refuse_unless(0, 0, pid)
    yield "setpriority", _refuse_unless(1, 0, pid)
    yield "socketpair", _refuse_unless(1, 1, mask=0xF)  # a datagram socket could be connected to others
    yield "prctl", _refuse_values(0, *_PRCTL)
    yield "ioctl", _refuse_values(1, *_IOCTL)
    for name, argument in _MODES.items():
        yield name, _refuse_bits(argument, 0o6000)


def _refuse_bits(argument: int, bits: int) -> list[bytes]:
    return [_load(argument), _step(_JUMP_ANY_BIT, bits, 0, 1), _refuse(errno.EPERM), _step(_LOAD, 0)]


def _refuse_unless_bit(argument: int, bits: int) -> list[bytes]:
    return [_load(argument), _step(_JUMP_ANY_BIT, bits, 1, 0), _refuse(errno.EPERM), _step(_LOAD, 0)]


def _refuse_values(argument: int, *values: int) -> list[bytes]:
    tests = [step for value in values for step in (_step(_JUMP_EQUAL, value, 0, 1), _refuse(errno.EPERM))]
    return [_load(argument), *tests, _step(_LOAD, 0)]


def _refuse_unless(argument: int, *values: int, mask: int = 2**32 - 1) -> list[bytes]:
    last = len(values) - 1
    tests = [_step(_JUMP_EQUAL, value, last - number + 1, 0) for number, value in enumerate(values)]
    return [_load(argument), _step(_AND, mask), *tests, _refuse(errno.EPERM), _step(_LOAD, 0)]


def _load(argument: int) -> bytes:
    """Load the low word of an argument."""
    return _step(_LOAD, 16 + 8 * argument)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _REFUSE | number)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
