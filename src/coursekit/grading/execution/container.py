"""Where a machine cannot confine a process itself: the student's process in a container of docker or podman.

The process talks through its standard input and output; the container has no network, a read-only root and
the scratch folder at the path that it has outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from coursekit.grading.execution.landlock import READ
from coursekit.grading.execution.readable import opened
from coursekit.grading.execution.sandbox import DESCRIPTORS, Policy

ENGINES = ("docker", "podman")
_SECONDS = 10.0  # until an engine's daemon counts as absent


@cache
def engine() -> str | None:
    """The engine that works here, "docker" or "podman": its command exists and it answers."""
    return next((name for name in ENGINES if shutil.which(name) and _answers(name)), None)


def _answers(name: str) -> bool:
    try:
        done = subprocess.run(
            [name, "info"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def command(image: str, policy: Policy, python_args: Sequence[str], name: str | None = None) -> list[str]:
    """The command that runs the image's Python in a container, which `name` names.

    Raises RuntimeError where no engine works.
    """
    program = engine()
    if program is None:
        raise RuntimeError("no container can be started: start docker, or install podman")
    limits, scratch = policy.limits, os.path.realpath(policy.scratch)
    arguments = [
        program, "run", "--rm", "--interactive", "--name", name or _name(),
        "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes),
        "--pids-limit", str(limits.processes), "--shm-size", str(limits.memory_bytes // 2),
        "--ulimit", f"nofile={DESCRIPTORS}", "--ulimit", f"fsize={limits.scratch_bytes}",
        "--ulimit", "core=0", "--tmpfs", f"/tmp:size={limits.scratch_bytes}",
        "--mount", f"type=bind,source={scratch},target={scratch}",
        "--workdir", scratch, "--env", f"HOME={scratch}", "--env", f"TMPDIR={scratch}",
    ]  # fmt: skip
    if hasattr(os, "getuid"):
        arguments += ["--user", f"{os.getuid()}:{os.getgid()}"]
    if policy.gpu:
        arguments += ["--gpus", "all"] if program == "docker" else ["--device", "nvidia.com/gpu=all"]
    return [*arguments, *_mounts(policy.readable, policy.hidden), image, "python", *python_args]


def start(image: str, policy: Policy, python_args: Sequence[str]) -> Container:
    """Start the image's Python in a container, with pipes to its standard input and output."""
    return Container(image, policy, python_args)


class Container(subprocess.Popen):
    """The client of a running container; `kill` ends the container too, not the client alone."""

    def __init__(self, image: str, policy: Policy, python_args: Sequence[str]) -> None:
        self.name = _name()
        super().__init__(
            command(image, policy, python_args, self.name),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip

    def kill(self) -> None:
        """Kill the container and its client."""
        subprocess.run(
            [self.args[0], "kill", self.name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=_SECONDS,
        )  # fmt: skip
        super().kill()


def _name() -> str:
    return f"coursekit-{uuid.uuid4().hex[:12]}"


def _mounts(readable: Iterable[Path], hidden: Iterable[Path]) -> list[str]:
    """Show what is readable: whole where nothing in it is hidden, else piece by piece."""
    shown = [rule.path for rule in opened(readable, hidden) if rule.access == READ]
    return [part for path in shown for part in ("--mount", f"type=bind,source={path},target={path},readonly")]
