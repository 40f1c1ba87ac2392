"""What Linux can do and Python has no name for, by ctypes: privileges, namespaces, mounts."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

NAMESPACES = {
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000, "mount": 0x00020000,
}  # fmt: skip
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR, _AT_RECURSIVE, _AT_FDCWD, _RDONLY = 442, 0x8000, -100, 1


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(function: str, *args: int | bytes | ctypes.Array | ctypes.Structure | None) -> int:
    """Call a function of the C library with words and pointers; OSError where it returns -1."""
    words = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
    result = getattr(_libc(), function)(*words)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def prctl(option: int, *args: int) -> int:
    """Change a property of this process; OSError where the kernel refuses."""
    return call("prctl", option, *args, *(0 for _ in range(4 - len(args))))


# ---------------------------------------------------------------------------------------------------
# Privileges


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def drop_capabilities() -> None:
    """Give up every capability for good, root's too; a program started later gets none back."""
    for number in range(64):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError:  # beyond the last capability, or without the right to drop: then there is none
            break
    prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    call("capset", ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), (ctypes.c_uint32 * 6)())


def close_descriptors(keep: Iterable[int]) -> None:
    """Close every file descriptor but these."""
    open_now = os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    for descriptor in {int(name) for name in open_now} - set(keep):
        try:
            os.close(descriptor)
        except OSError:  # the one that the list was read from
            pass


# ---------------------------------------------------------------------------------------------------
# Namespaces


def enter_namespaces(names: Iterable[str]) -> None:
    """Leave the machine's namespaces for new ones; "pid" holds for processes forked later."""
    names, uid, gid = tuple(names), os.geteuid(), os.getegid()
    call("unshare", sum(NAMESPACES[name] for name in names))
    if "user" in names:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    if "mount" in names:
        _mount("none", "/", None, _MS_REC | _MS_PRIVATE)


def mount_private_shm(size: int) -> None:
    """Put an empty /dev/shm of so many bytes in place of the machine's, in a new mount namespace."""
    _mount("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size},nr_inodes=16384,mode=1777")


def mount_read_only(writable: Iterable[Path]) -> None:
    """Make every mount read-only but these folders and /dev/shm, in a new mount namespace.

    This also holds what Landlock does not: modes, owners, times and attributes of files.
    """
    writable = tuple(writable)
    for path in writable:
        _mount(path, path, None, _MS_BIND | _MS_REC)
    _mount_setattr("/", _AT_RECURSIVE, set=_RDONLY)
    for path in writable:
        _mount_setattr(path, 0, clear=_RDONLY)


def _mount(
    source: str | Path, target: str | Path, kind: str | None, flags: int, data: str | None = None
) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    call("mount", *texts[:3], flags, texts[3])


def _mount_setattr(path: str | Path, flags: int, *, set: int = 0, clear: int = 0) -> None:
    attributes = (ctypes.c_uint64 * 4)(set, clear, 0, 0)
    size = ctypes.sizeof(attributes)
    call("syscall", _MOUNT_SETATTR, _AT_FDCWD & 2**64 - 1, os.fsencode(path), flags, attributes, size)
