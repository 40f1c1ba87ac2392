"""What a course keeps for the grader beside nbgrader's files: a lock for each assignment, and its secret."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["CourseError", "folder", "only_grader", "seed"]

SECRET = "COURSEKIT_GRADING_SECRET"


class CourseError(RuntimeError):
    """Grading cannot begin in this course; nothing was changed."""


def folder(root: Path) -> Path:
    """The folder `.coursekit` at a course's root, which git ignores; made if it is missing.

    Raises CourseError if it cannot be made.
    """
    path = root / ".coursekit"
    ignore = path / ".gitignore"
    try:
        path.mkdir(exist_ok=True)
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise CourseError(f"nothing can be written in {path} ({error.strerror})") from error
    return path


@contextmanager
def only_grader(root: Path, assignment: str) -> Iterator[None]:
    """Keep a second grader off the assignment; the system frees the lock when this process ends."""
    path = folder(root) / f"{assignment}.lock"
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise CourseError(
            f"another grader is at work on {assignment!r} in {root}; wait until it has finished, or stop it "
            f"(it holds {path})"
        ) from None


def _secret(root: Path) -> bytes:
    """What the cases of the checks are drawn from: nobody without it can foresee them.

    It is $COURSEKIT_GRADING_SECRET, else the file `.coursekit/secret`, made once.
    """
    if os.environ.get(SECRET):
        return os.environ[SECRET].encode()
    path = folder(root) / "secret"
    with FileLock(path.with_name("secret.lock")):
        if not path.exists():
            part = path.with_name("secret.part")
            part.touch(mode=0o600)
            part.write_text(secrets.token_hex(32), encoding="ascii")
            part.replace(path)
        secret = path.read_bytes().strip()
    if not secret:
        raise CourseError(f"{path} is empty; put the course's secret back, or remove it for a new one")
    return secret


def seed(root: Path, assignment: str) -> str:
    """The seed of an assignment's checks: the same for every student and in every regrade."""
    return hmac.new(_secret(root), assignment.encode(), hashlib.sha256).hexdigest()
