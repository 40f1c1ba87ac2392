"""Landlock, by which a Linux process gives up files, TCP and signals for good, without root.

Rules allow: what none of them names is denied.  Linux 5.13 has ABI 1; later ABIs handle more.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from coursekit.grading.execution.kernel import call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION, _PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_FILE = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEV  # what a rule on a file can allow
LIST = READ_DIR
READ = EXECUTE | READ_FILE | READ_DIR
DEVICE = READ | WRITE_FILE | _TRUNCATE | _IOCTL_DEV
WRITE = (1 << 16) - 1 & ~(_MAKE_CHAR | _MAKE_BLOCK)
_NET = 0b11  # bind and connect
_SCOPED = 0b11  # abstract Unix sockets and signals
_LOG_OFF = 0b101  # refusals would fill the machine's audit log


class Rule(NamedTuple):
    """What is allowed on a file, or on a folder and everything in it."""

    path: str
    access: int


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("access", ctypes.c_uint64), ("parent", ctypes.c_int32)]


@cache
def abi() -> int:
    """Version of the kernel's Landlock, 0 where it has none."""
    if sys.platform != "linux":
        return 0
    try:
        return call("syscall", _CREATE_RULESET, None, 0, _GET_VERSION)
    except OSError:
        return 0


def handled(version: int) -> int:
    """File rights that an ABI can deny."""
    return (1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))) - 1 if version else 0


def restrict(rules: Iterable[Rule], version: int) -> None:
    """Confine this thread and all that it starts to the rules; no_new_privs must be set.

    A path that is gone or cannot be reached is left out, so that it stays denied.
    """
    rights = handled(version)
    attributes = _Ruleset(rights, _NET if version >= 4 else 0, _SCOPED if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = call("syscall", _CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        for rule in rules:
            _add(ruleset, rule, rights)
        call("syscall", _RESTRICT_SELF, ruleset, _LOG_OFF if version >= 7 else 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, rule: Rule, rights: int) -> None:
    try:
        descriptor = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        access = rule.access & rights
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _FILE
        beneath = _PathBeneath(access, descriptor)
        call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(descriptor)
