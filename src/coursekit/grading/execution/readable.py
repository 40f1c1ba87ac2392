"""Which files Python and its packages need, and the Landlock rules that open them around hidden ones."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.util import cache_from_source
from pathlib import Path

from coursekit.grading.execution.landlock import DEVICE, LIST, READ, WRITE, Rule

_PACKAGE = Path(__file__).parents[2]
_SYSTEM = """
    /bin /sbin /lib /lib32 /lib64 /usr
    /etc/alternatives /etc/ca-certificates /etc/fonts /etc/group /etc/ld.so.cache /etc/ld.so.conf
    /etc/ld.so.conf.d /etc/localtime /etc/mime.types /etc/nsswitch.conf /etc/passwd /etc/pki /etc/ssl
    /etc/timezone
    /proc/cpuinfo /proc/filesystems /proc/loadavg /proc/meminfo /proc/stat /proc/uptime /proc/version
    /proc/sys/kernel /proc/sys/vm /sys/devices/system /sys/fs/cgroup /sys/kernel/mm/transparent_hugepage
"""
# Instructors keep nbgrader's exchange and configuration here.
_PRIVATE = ("/usr/local/etc", "/usr/local/share/jupyter", "/usr/local/share/nbgrader", "/usr/src")
_DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")
_GPU_READ = "/proc/devices /proc/driver/nvidia /proc/modules /sys/bus/pci /sys/devices /sys/module".split()
_GPU_DEVICES = ("/dev/nvidia*", "/dev/dri")


def default_readable() -> tuple[Path, ...]:
    """What runs Python with its packages: its own folders, shared libraries, fonts, time zones, certificates.

    Of `sys.path` only folders of installed packages count; elsewhere, as in an editable install, coursekit's
    own package is opened and nothing beside it.
    """
    installed = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    installed += [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return tuple(dict.fromkeys([*map(Path, _SYSTEM.split()), *map(Path, installed), _PACKAGE]))


@lru_cache(maxsize=8)
def rules(readable: Sequence[Path], hidden: Sequence[Path], gpu: bool) -> tuple[Rule, ...]:
    """Rules that open what every process may read, and these paths, but never what is hidden.

    Kept for the next call: a process forked after the first pays nothing.  Files that arrive in a folder with
    hidden parts later stay closed.
    """
    roots = [*default_readable(), *readable, *(map(Path, _GPU_READ) if gpu else ())]
    devices = [*_DEVICES, *(path for pattern in _GPU_DEVICES if gpu for path in glob.glob(pattern))]
    return (*opened(roots, [*map(Path, _PRIVATE), *hidden]), *(Rule(path, DEVICE) for path in devices))


def opened(roots: Iterable[Path], hidden: Iterable[Path]) -> list[Rule]:
    """Rules that open some paths around hidden ones, and around the byte code that belongs to these."""
    closed = {Path(os.path.realpath(path)) for path in hidden}
    closed |= {compiled for path in closed if path.suffix == ".py" for compiled in _compiled(path)}
    return [rule for root in _outermost(roots) for rule in _around(root, closed)]


def own_rules(scratch: Path, shm: bool) -> tuple[Rule, ...]:
    """Rules for what belongs to one process: its scratch folder, its entry in /proc, its shared memory."""
    shared = (Rule("/dev/shm", WRITE),) if shm else ()
    return (Rule(str(scratch), WRITE), Rule("/proc/self", READ), *shared)


def _compiled(source: Path) -> Iterator[Path]:
    """Byte code that holds what a source file holds, written already or by this Python later."""
    for optimisation in ("", "1", "2"):
        yield Path(cache_from_source(source, optimization=optimisation))
    yield from source.parent.glob(f"__pycache__/{glob.escape(source.stem)}.*")
    yield source.with_suffix(".pyc")


def _outermost(roots: Iterable[Path]) -> list[Path]:
    """The real paths, without those inside another one."""
    real = sorted({Path(os.path.realpath(root)) for root in roots if os.path.exists(root)})
    kept: list[Path] = []
    for root in real:
        if not any(root.is_relative_to(other) for other in kept):
            kept.append(root)
    return kept


def _around(root: Path, closed: set[Path]) -> Iterator[Rule]:
    """Rules that open a root but for the closed paths; imports need that their names can be listed."""
    if any(root.is_relative_to(path) for path in closed):
        return
    holes = {path for path in closed if path.is_relative_to(root)}
    if not holes:
        yield Rule(str(root), READ)
        return
    yield Rule(str(root), LIST)
    for entry in _entries(root):
        yield from _around(entry, holes)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, links aside: Landlock judges what they lead to."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.is_symlink())
    except OSError:  # gone, no folder or not ours to read: it stays closed
        return []
