"""The container that takes the sandbox's place: what its engine is told, by a stand-in for docker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from grading_notebooks import cell, job, notebook

from coursekit.grading.execution import container
from coursekit.grading.execution.executor import Executor
from coursekit.grading.execution.sandbox import Policy
from coursekit.grading.records import MIB, Limits

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")

SECONDS = 60  # longer than anything here takes
LIMITS = Limits(memory_bytes=512 * MIB, processes=16, scratch_bytes=32 * MIB)
STUB = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
    info) exit {status};;
    run) while [ "$1" != image ]; do shift; done; shift 2; exec {python} "$@";;
esac
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Puts a stand-in for docker alone on the path; tells the commands that it got."""

    def put(status: int = 0) -> Callable[[], list[str]]:
        log, stub = tmp_path / "log", tmp_path / "bin" / "docker"
        stub.parent.mkdir()
        stub.write_text(STUB.format(log=log, status=status, python=sys.executable))
        stub.chmod(0o755)
        monkeypatch.setenv("PATH", str(stub.parent))
        return lambda: log.read_text().splitlines()

    container.engine.cache_clear()
    yield put
    container.engine.cache_clear()


def test_an_engine_counts_only_if_it_answers(engine):
    engine(status=1)
    assert container.engine() is None


def test_without_an_engine_the_error_says_what_to_do(engine, tmp_path):
    engine(status=1)
    with pytest.raises(RuntimeError, match="start docker, or install podman"):
        container.command("image", Policy(tmp_path), [])


def test_a_container_gets_every_limit_of_the_policy(engine, tmp_path):
    engine()
    policy = Policy(tmp_path, limits=LIMITS)
    command = " ".join(container.command("image", policy, ["-c", "pass"], "mine"))
    assert command.startswith("docker run --rm --interactive --name mine ")
    for option in (
        "--network none", "--read-only", "--cap-drop ALL",
        "--security-opt no-new-privileges", f"--memory {512 * MIB}", f"--memory-swap {512 * MIB}",
        "--pids-limit 16", "--ulimit nofile=256", f"--ulimit fsize={32 * MIB}",
        f"--tmpfs /tmp:size={32 * MIB}",
        f"--mount type=bind,source={tmp_path},target={tmp_path}", f"--workdir {tmp_path}",
        f"--env HOME={tmp_path}", f"--user {os.getuid()}:{os.getgid()}",
    ):  # fmt: skip
        assert f" {option} " in command
    assert command.endswith(" image python -c pass")


def test_a_container_shows_what_is_readable_and_not_what_is_hidden(engine, tmp_path):
    engine()
    for name in ("scratch", "whole", "mixed", "mixed/secret"):
        (tmp_path / name).mkdir()
    (tmp_path / "mixed" / "data").touch()
    policy = Policy(
        tmp_path / "scratch",
        readable=(tmp_path / "whole", tmp_path / "mixed"),
        hidden=(tmp_path / "mixed" / "secret",),
    )
    mounts = [part for part in container.command("image", policy, []) if part.startswith("type=bind")]
    shown = [tmp_path / "mixed" / "data", tmp_path / "whole"]
    assert mounts[1:] == [f"type=bind,source={path},target={path},readonly" for path in shown]


def test_a_container_talks_through_its_standard_streams(engine, tmp_path):
    engine()
    running = container.start("image", Policy(tmp_path), ["-c", "print(input()[::-1])"])
    assert running.communicate(b"hello\n", SECONDS)[0] == b"olleh\n"
    assert running.returncode == 0


def test_killing_a_container_kills_more_than_its_client(engine, tmp_path):
    commands = engine()
    running = container.start("image", Policy(tmp_path), ["-c", "input()"])
    running.kill()
    running.communicate()
    assert f"kill {running.name}" in commands()


def test_a_hand_in_is_graded_in_containers(engine):
    commands = engine()
    source = notebook(
        cell("def f(x):\n    return x + 1", "solution", "f"),
        cell("assert f(1) == 2", "test", "test-f", 1),
        cell("import os\nos._exit(3)", "solution", "end"),
        cell("assert f(2) == 3", "test", "test-again", 1),
    )
    with Executor(["numpy"], image="image") as executor:
        result = executor.run(job(source, limits=Limits(scratch_bytes=32 * MIB)))
    assert {name: score.points for name, score in result.scores.items()} == {"test-f": 1, "test-again": 1}
    assert result.protection == ("everything: a container of image (docker)",)
    assert [finding.message for finding in result.findings] == [
        "the student's process ended: its container ended with status 3"
    ]
    assert sum(command.startswith("run ") for command in commands()) == 2


def test_without_a_container_nothing_is_scored(engine):
    engine(status=1)
    source = notebook(cell("f = 1", "solution", "f"), cell("assert f", "test", "test-f", 1))
    with Executor([], image="image") as executor:
        result = executor.run(job(source))
    assert result.scores == {}
    assert "no container can be started" in result.findings[0].message
