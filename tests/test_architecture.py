"""The structure that a newcomer is promised: imports point one way, `import coursekit` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "coursekit"

# A module imports only from those above it in this list.
ORDER = [
    "arrays",
    "conv",
    "pooling",
    "detectors",
    "losses",
    "layers",
    "equivariance",
    "cells",
    "graph",
    "recurrent",
    "weights",
    "bptt",
    "jacobians",
    "probes",
    "clipping",
    "optim",
    "train",
    "gradcheck",
    "nn",
    "data",
    "checks",
    "figures",
    "grading",
    "authoring",
    "book",
    "cli",
]


def parts() -> list[Path]:
    """Every module of the package, the one-line `__init__` and `__main__` at its top aside."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.stem[0] != "_"]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Names of coursekit's parts that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("coursekit.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "coursekit":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coursekit."):
            found.add(node.module.split(".")[1])
    return found & set(ORDER)


def test_every_part_has_its_place_in_the_order():
    assert {part_of(path) for path in parts()} == set(ORDER)


@pytest.mark.parametrize("path", parts(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up_the_list(path):
    above = set(ORDER[: ORDER.index(part_of(path)) + 1])
    assert imported_parts(path) <= above


def test_no_module_imports_relatively():
    relative = [
        path.name
        for path in parts()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize("heavy", ["torch", "matplotlib", "sklearn", "IPython", "sphinx"])
def test_importing_the_library_does_not_import(heavy):
    code = f"import sys, coursekit.train, coursekit.checks; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
