"""Files to copy for a cluster parse; commands, options and settings that instructors read of exist."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from nbgrader.apps.nbgraderapp import NbGraderApp

from coursekit import authoring
from coursekit.grading import commands, demo
from coursekit.grading.engine import Grader
from coursekit.grading.records import Job, Limits
from coursekit.grading.workers import _resource

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
FILES = sorted(path for path in DEPLOY.rglob("*.*") if path.suffix != ".pyc")
PAGES = [
    ROOT / "README.md", DEPLOY / "README.md", ROOT / "chapters" / "using.md",
    *sorted((ROOT / "chapters" / "instructors").glob("*.md")),
]  # fmt: skip
SETTINGS = {  # classes of settings that pages name, by the module that has them
    "Grader": "coursekit.grading.engine",
    "LateDays": "coursekit.grading.gradebook.late",
    "CanvasExport": "coursekit.grading.gradebook.export",
    "FeedbackExporter": "coursekit.grading.reports.feedback",
    "CourseDirectory": "nbgrader.coursedir",
    "AssignLatePenalties": "nbgrader.preprocessors",
    "Execute": "nbgrader.preprocessors",
    "FileNameCollectorPlugin": "nbgrader.plugins",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
every_file = pytest.mark.parametrize("path", FILES, ids=name_of)


# The files


def test_the_readme_lists_every_file():
    listed = set(re.findall(r"^\| `([\w./-]+)`", (DEPLOY / "README.md").read_text("utf8"), re.MULTILINE))
    assert listed == {path.relative_to(DEPLOY).as_posix() for path in FILES if path.name != "README.md"} | {
        "container/Containerfile"
    }


@every_file
def test_a_file_parses(path):
    text = path.read_text("utf8")
    if path.suffix == ".yaml":
        assert all(isinstance(document, dict) for document in yaml.safe_load_all(text))
    elif path.suffix == ".py":
        ast.parse(text)
    elif path.suffix == ".sh":
        if shutil.which("bash") is None:
            pytest.skip("no bash")
        subprocess.run(["bash", "-n", str(path)], check=True)
    else:
        assert path.suffix == ".md"


def resource_of(kind: str) -> dict[str, Any]:
    """The description of a kind of thing that some file holds."""
    documents = [yaml.safe_load(path.read_text("utf8")) for path in KUBERNETES.glob("*.yaml")]
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def container_of(spec: dict[str, Any]) -> dict[str, Any]:
    (container,) = spec["spec"]["containers"]
    return container


def workers() -> dict[str, dict[str, Any]]:
    """The containers of workers, by what the grader asks of them."""
    cluster, gpu = resource_of("DaskCluster"), resource_of("DaskWorkerGroup")
    return {"process": container_of(cluster["spec"]["worker"]), "GPU": container_of(gpu["spec"]["worker"])}


def options(arguments: list[str]) -> dict[str, str]:
    """Options of a command line, each with what follows it."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return {option: value for option, value in pairs if option.startswith("--")}


@pytest.mark.parametrize("gpu", [False, True])
def test_a_worker_offers_what_the_grader_asks_for(gpu):
    wanted = _resource(Job("", "", "", {}, {}, gpu=gpu))
    given = options(workers()[wanted]["args"])
    offered, amount = given["--resources"].split("=")
    assert (offered, amount) == (wanted, given["--nthreads"])


@pytest.mark.parametrize("name", ["process", "GPU"])
def test_a_worker_has_memory_for_all_notebooks_that_it_runs_at_once(name):
    worker = workers()[name]
    mebibytes = 1024 * int(worker["resources"]["limits"]["memory"].removesuffix("Gi"))
    at_once = int(options(worker["args"])["--nthreads"])
    # All processes of a student's together may have a quarter more than one.
    assert mebibytes >= 1.25 * at_once * Limits().memory_bytes / 2**20


def test_workers_and_policy_belong_to_the_cluster():
    name = resource_of("DaskCluster")["metadata"]["name"]
    label = {"dask.org/cluster-name": name}
    assert resource_of("DaskWorkerGroup")["spec"]["cluster"] == name
    assert resource_of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == label
    assert label.items() <= resource_of("DaskCluster")["spec"]["scheduler"]["service"]["selector"].items()


@pytest.mark.parametrize("part", ["worker", "scheduler"])
def test_the_options_of_dask_exist(part):
    known = dask_options(part)
    spec = resource_of("DaskCluster")["spec"][part]
    arguments = container_of(spec)["args"]
    assert arguments[:2] == ["dask", part]
    assert options(arguments).keys() <= known


@cache
def dask_options(part: str) -> set[str]:
    main = pytest.importorskip(f"distributed.cli.dask_{part}").main
    return {option for parameter in main.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_the_keys_of_encryption_are_those_of_dask():
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    ours = yaml.safe_load((DEPLOY / "tls" / "dask.yaml").read_text("utf8"))["distributed"]["comm"]
    known = dask.config.get("distributed.comm")
    assert ours.keys() <= known.keys()
    assert ours["tls"].keys() <= known["tls"].keys()
    for end in ("scheduler", "worker", "client"):
        assert ours["tls"][end].keys() <= known["tls"][end].keys()


def test_the_image_is_made_from_files_and_extras_that_exist():
    text = (DEPLOY / "container" / "Containerfile").read_text("utf8")
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert copied and all((ROOT / name).exists() for name in copied)
    assert "solutions" not in copied
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    project = (ROOT / "pyproject.toml").read_text("utf8")
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))


# What pages say


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    subparsers = argparse.ArgumentParser().add_subparsers()
    for module in (authoring, commands, demo):
        module.add_commands(subparsers)
    return dict(subparsers.choices)


def said(program: str, page: Path) -> list[tuple[str, list[str]]]:
    """Verbs and options with which a page calls a program, in a block of code or in a line."""
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", page.read_text("utf8"), re.DOTALL))
    calls = re.findall(rf"(?<![\w.-]){program}\s([a-z_]+)([^\n`|#]*)", code)
    return [(verb, re.findall(r"--[a-z][a-z-]*", rest)) for verb, rest in calls]


def test_the_pages_call_every_command_of_the_grader():
    named = {verb for page in PAGES for verb, _ in said("coursekit", page)}
    added = argparse.ArgumentParser().add_subparsers()
    commands.add_commands(added)
    assert set(added.choices) <= named


@every_page
def test_a_command_of_coursekit_takes_the_options_that_a_page_gives_it(page):
    for verb, given in said("coursekit", page):
        assert verb in parsers(), f"coursekit {verb}"
        assert set(given) <= set(parsers()[verb]._option_string_actions), f"coursekit {verb} {given}"


@every_page
def test_a_command_of_nbgrader_exists(page):
    for verb, _ in said("nbgrader", page):
        assert verb in NbGraderApp().subcommands, f"nbgrader {verb}"


@every_page
def test_an_option_of_dask_exists(page):
    for part, given in said("dask", page):
        if part in ("scheduler", "worker"):
            assert set(given) <= dask_options(part), f"dask {part} {given}"


@every_page
def test_a_setting_exists(page):
    for name, setting in re.findall(r"\bc\.(\w+)\.(\w+)", page.read_text("utf8")):
        owner = getattr(importlib.import_module(SETTINGS[name]), name)
        assert setting in owner.class_traits(config=True), f"c.{name}.{setting}"


@every_page
def test_a_file_to_copy_exists(page):
    for name in re.findall(r"\bdeploy/[\w./-]*\w", page.read_text("utf8")):
        assert (ROOT / name).exists(), name


def test_the_page_about_limits_lists_every_setting_of_the_grader():
    page = (ROOT / "chapters" / "instructors" / "confinement.md").read_text("utf8")
    assert "Grader.class_own_traits()" in page
    assert all(trait.help for trait in Grader.class_own_traits(config=True).values())
