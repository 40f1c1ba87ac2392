"""The folder that a student's process may write: how much it holds, and how it is removed."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import uuid
from pathlib import Path

FILES = 20_000  # files that it may have
DEPTH = 64  # folders within folders that it may have


def size(folder: Path, limit: int) -> int:
    """Bytes that a folder takes on disk; more than the limit where its files cannot all be seen."""
    used, files, waiting = 0, 0, [(str(folder), 0)]
    while waiting and used <= limit:
        path, depth = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    files += 1
                    used += _blocks(entry)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    if files > FILES or depth > DEPTH:
                        return limit + 1
        except FileNotFoundError:
            continue
        except OSError:  # closed to us, or its path is too long
            return limit + 1
    return used


def free(folder: Path) -> int:
    """Bytes that are free where a folder lies."""
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


def _blocks(entry: os.DirEntry) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def deleted_size(pid: int, folder: Path, limit: int) -> int:
    """Bytes of files that a process deleted but keeps: open, or mapped, whose size nobody can tell."""
    kept: dict[int, int] = {}
    mark = os.fsencode(f" {folder}/")
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            found = os.stat(f"/proc/{pid}/fd/{name}")
            if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                kept[found.st_ino] = found.st_blocks * 512
        maps = Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:  # it ended, or closed a file meanwhile: the next look counts it
        return sum(kept.values())
    if b" (deleted)" in maps:
        lines = [line for line in maps.splitlines() if line.endswith(b" (deleted)") and mark in line]
        kept = {int(line.split()[4]): limit for line in lines} | kept
    return sum(kept.values())


def remove(folder: Path) -> None:
    """Remove a folder when no process uses it any more, however deep or closed the folders in it are."""
    if sys.platform == "win32":
        shutil.rmtree(folder)
        return
    mark = uuid.uuid4().hex
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(top, 0o700)
        waiting, emptied = ["."], 0
        while waiting:
            emptied += 1
            waiting += _empty(top, waiting.pop(), f"{mark}-{emptied}")
    finally:
        os.close(top)
    os.rmdir(folder)


def _empty(top: int, name: str, mark: str) -> list[str]:
    """Delete the files of a folder and the folder; names of its folders, which are moved to the top."""
    moved = []
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry, is_folder in found:
            if is_folder:
                moved.append(f"{mark}-{len(moved)}")
                os.chmod(entry, 0o700, dir_fd=folder)
                os.rename(entry, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(entry, dir_fd=folder)
    finally:
        os.close(folder)
    if name != ".":
        os.rmdir(name, dir_fd=top)
    return moved
