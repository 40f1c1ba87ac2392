"""From one hand-edited text to the two notebooks of an assignment.

`solutions/<slug>.py` (percent format) becomes `solutions/<slug>/<slug>.ipynb`, the source notebook that
nbgrader reads, executed and with its outputs; nbgrader then makes `exercises/<slug>/<slug>.ipynb` from
it.  A cell's marker gives it one role and its grade id:

    # %% locked="setup"                            given code, restored before grading
    # %% solution="conv2d-forward"                 the student's code, regions between ### BEGIN/END SOLUTION
    # %% check="test-conv2d-forward"               one call of a check, which alone knows its points
    # %% [markdown] written="why" points=3         an answer in words, graded by hand
    # %% [markdown] task="compare" points=4        a task of several cells, graded by hand
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jupytext
import nbformat
from nbclient import NotebookClient
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import determine_grade, is_grade
from traitlets.config import Config

from coursekit.checks.engine.report import MIME as SCORE_MIME
from coursekit.grading import KERNEL_ARGUMENTS, ONE_THREAD, configure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbformat import NotebookNode

__all__ = ["SourceError", "build", "check", "execute", "main", "parse", "release", "slugs"]

GRADE_ID = re.compile(r"(?=.{1,40}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
IGNORE_OUTPUT = "nbval-ignore-output"


class Role(NamedTuple):
    """What a kind of cell is to nbgrader, and what its source must hold."""

    cell_type: str | None
    grade: bool = False
    solution: bool = False
    locked: bool = False
    task: bool = False
    region: str | None = None


ROLES = {
    "locked": Role(None, locked=True),
    "solution": Role("code", solution=True, region="SOLUTION"),
    "check": Role("code", grade=True, locked=True),
    "written": Role("markdown", grade=True, solution=True, region="SOLUTION"),
    "task": Role("markdown", locked=True, task=True, region="MARK SCHEME"),
}


class SourceError(ValueError):
    """A text source that does not follow the format; the message names file and line."""


# ---------------------------------------------------------------------------------------------------
# Text to notebook


def parse(path: Path) -> NotebookNode:
    """Read `solutions/<slug>.py` as an nbgrader source notebook, without outputs.

    Raises SourceError, with file and line, where a marker or a cell breaks the format.
    """
    text = path.read_text(encoding="utf-8")
    starts = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("# %%")]
    if starts[:1] != [1]:
        raise SourceError(f"{path}:1: the first line must be a cell marker, `# %%` or `# %% [markdown]`")
    cells = jupytext.reads(text, fmt="py:percent").cells
    notebook = nbformat.v4.new_notebook(metadata=_notebook_metadata())
    taken: set[str] = set()
    anchor, since = "start", 0
    for line, cell in zip(starts, cells, strict=True):
        made = _cell(cell, f"{path}:{line}")
        grade_id = made.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in taken:
            raise SourceError(f"{path}:{line}: the grade id {grade_id!r} is used twice")
        anchor, since = (grade_id, 0) if grade_id else (anchor, since + 1)
        taken.add(anchor)
        made.id = grade_id or f"{anchor}--{since}"
        notebook.cells.append(made)
    return notebook


def _notebook_metadata() -> dict[str, Any]:
    """No version numbers: the same text gives the same bytes under every Python."""
    return {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def _cell(cell: NotebookNode, where: str) -> NotebookNode:
    marker = {key: value for key, value in cell.metadata.items() if key != "lines_to_next_cell"}
    new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
    metadata = {"tags": marker.pop("tags")} if "tags" in marker else {}
    points = marker.pop("points", None)
    if len(marker) > 1 or not set(marker) <= set(ROLES):
        raise SourceError(f"{where}: a cell has one role of {', '.join(ROLES)}; found {', '.join(marker)}")
    name = next(iter(marker), None)
    if name is not None:
        metadata["nbgrader"] = _nbgrader_metadata(cell, name, marker[name], points, where)
    elif points is not None:
        raise SourceError(f"{where}: points without a role")
    _require_region(cell.source, ROLES[name].region if name else None, where)
    return new(cell.source, metadata=metadata)


def _nbgrader_metadata(
    cell: NotebookNode, name: str, grade_id: str, points: int | None, where: str
) -> dict[str, Any]:
    role = ROLES[name]
    if not isinstance(grade_id, str) or not GRADE_ID.fullmatch(grade_id):
        raise SourceError(f"{where}: {name}={grade_id!r} is no grade id (a-z, 0-9, hyphens; 40 at most)")
    if role.cell_type not in (None, cell.cell_type):
        raise SourceError(f"{where}: {name}={grade_id!r} must be a {role.cell_type} cell")
    flags = {"grade": role.grade, "solution": role.solution, "locked": role.locked, "task": role.task}
    metadata = {"schema_version": 3, "grade_id": grade_id, **flags}
    if role.grade or role.task:
        metadata["points"] = _points(cell, name, points, where)
    elif points is not None:
        raise SourceError(f"{where}: a cell with {name}= is not graded, so it has no points")
    return metadata


def _points(cell: NotebookNode, name: str, points: int | None, where: str) -> int:
    """Points of a graded cell: a check's own, or those that the marker states."""
    if name == "check":
        if points is not None:
            raise SourceError(f"{where}: the points of a check stand in the check, not here")
        return _check_of(cell.source, where).points
    if not isinstance(points, int) or points < 1:
        raise SourceError(f"{where}: {name}= needs points=<a positive integer>")
    return points


def _check_of(source: str, where: str) -> Any:
    """The check that a cell calls; the cell must be exactly `checks.<slug>.<name>(...)`."""
    try:
        match ast.parse(source).body:
            case [ast.Expr(ast.Call(ast.Attribute(ast.Attribute(ast.Name("checks"), slug), name)))]:
                return getattr(importlib.import_module(f"coursekit.checks.{slug}"), name)
    except (SyntaxError, ImportError, AttributeError) as error:
        raise SourceError(f"{where}: {error}") from error
    raise SourceError(f"{where}: a check cell holds one call, checks.<slug>.<name>(...), and nothing else")


def _require_region(source: str, kind: str | None, where: str) -> None:
    """Solution text outside a region would reach the students, as would one in a cell without a role."""
    found = re.findall(r"(?:BEGIN|END) (?:SOLUTION|MARK SCHEME)", source)
    if kind is None and found:
        raise SourceError(f"{where}: {found[0]} in a cell that has no such region")
    if kind is not None and (not found or found != [f"BEGIN {kind}", f"END {kind}"] * (len(found) // 2)):
        raise SourceError(f"{where}: needs BEGIN {kind} and END {kind}, in this order; found {found}")


# ---------------------------------------------------------------------------------------------------
# Execution


def execute(notebook: NotebookNode) -> None:
    """Run every cell, errors included, in an empty folder with one thread; the notebook keeps the outputs."""
    env = {name: value for name, value in os.environ.items() if name != "COURSEKIT_CHECK_SEED"}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=300,
            allow_errors=True,
            record_timing=False,
            extra_arguments=list(KERNEL_ARGUMENTS),
            shutdown_kernel="immediate",
            resources={"metadata": {"path": folder}},
        )
        client.execute(env={**env, **ONE_THREAD})


def keep_comparable_outputs(notebook: NotebookNode) -> None:
    """Drop what differs between machines or swells the file: stderr, images, outputs marked to be ignored."""
    notebook.metadata = nbformat.from_dict(_notebook_metadata())
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ignored = IGNORE_OUTPUT in cell.metadata.get("tags", [])
            cell.outputs = [] if ignored else _merged(cell.outputs)
            for output in cell.outputs:
                for mime in [mime for mime in output.get("data", {}) if mime.startswith("image/")]:
                    del output.data[mime]


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without stderr, printed text in one piece: a kernel flushes it by the clock."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if merged and output.get("name") == merged[-1].get("name") == "stdout":
            merged[-1].text += output.text
        elif output.get("name") != "stderr":
            merged.append(output)
    return merged


class Result(NamedTuple):
    """What one graded cell earned; `recorded` tells whether a check really reported it."""

    grade_id: str
    points: float
    maximum: float
    recorded: bool


def _results(notebook: NotebookNode) -> list[Result]:
    return [
        Result(cell.id, *determine_grade(cell), _has_record(cell))
        for cell in notebook.cells
        if cell.cell_type == "code" and is_grade(cell)
    ]


def _has_record(cell: NotebookNode) -> bool:
    return any(SCORE_MIME in output.get("data", {}) for output in cell.outputs)


def _errors(notebook: NotebookNode) -> list[str]:
    """One line for each cell that raised."""
    return [
        f"{cell.id}: {output.ename}: {output.evalue}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


# ---------------------------------------------------------------------------------------------------
# Notebooks to folders


def slugs(root: Path) -> list[str]:
    """The assignments of the course in `root`."""
    return sorted(path.stem for path in (root / "solutions").glob("*.py"))


def build(slug: str, root: Path, target: Path) -> list[str]:
    """Make both notebooks of an assignment below `target`; return what is wrong with the solution."""
    notebook = parse(root / "solutions" / f"{slug}.py")
    execute(notebook)
    problems = _errors(notebook) + [
        f"{result.grade_id}: the solution earns {result.points:g} of {result.maximum:g} points"
        for result in _results(notebook)
        if result.points != result.maximum or not result.recorded
    ]
    keep_comparable_outputs(notebook)
    path = target / "solutions" / slug / f"{slug}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    _generate_assignment(slug, target)
    return problems


def _generate_assignment(slug: str, course: Path) -> None:
    """What `nbgrader generate_assignment <slug> --no-db` does at the root of a course."""
    config = Config()
    configure(config)
    config.GenerateAssignment.no_database = True
    config.SaveCells.enabled = False
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.assignment_id = slug
    GenerateAssignment(coursedir=CourseDirectory(config=config), config=config).start()


def _made(slug: str) -> tuple[str, str]:
    return f"solutions/{slug}/{slug}.ipynb", f"exercises/{slug}/{slug}.ipynb"


def release(slug: str, root: Path) -> list[str]:
    """Write both notebooks of an assignment into `root`; return what is wrong, and then write nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        problems = build(slug, root, Path(scratch))
        for name in [] if problems else _made(slug):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(scratch, name), root / name)
    return problems


def check(slug: str, root: Path) -> list[str]:
    """Everything that is wrong with an assignment: its solution, its stubs, its generated files."""
    with tempfile.TemporaryDirectory() as scratch:
        problems = build(slug, root, Path(scratch))
        for name in _made(slug):
            problems += _differences(root / name, Path(scratch, name), name)
        stubs = nbformat.read(Path(scratch, _made(slug)[1]), as_version=4)
    execute(stubs)
    for result in _results(stubs):
        if not result.recorded:
            problems.append(f"{result.grade_id}: no report on the stub; does it stand inside a function?")
        elif result.points:
            problems.append(f"{result.grade_id}: the untouched release earns {result.points:g} points")
    return problems + list(_strangers(slug, root))


def _differences(committed: Path, made: Path, name: str) -> list[str]:
    if not committed.exists():
        return [f"{name} is missing; run: coursekit release"]
    old, new = (path.read_text(encoding="utf-8").splitlines() for path in (committed, made))
    lines = list(difflib.unified_diff(old, new, "committed", "made from the text", lineterm="", n=1))
    return ["\n".join([f"{name} is out of date; run: coursekit release", *lines[:40]])] if lines else []


def _strangers(slug: str, root: Path) -> Iterator[str]:
    """nbgrader hands every file of an assignment's folder to the students."""
    for folder in ("solutions", "exercises"):
        for path in sorted((root / folder / slug).glob("**/*")):
            if path.is_file() and path.name != f"{slug}.ipynb" and ".ipynb_checkpoints" not in path.parts:
                yield f"{path.relative_to(root).as_posix()} does not belong there: nbgrader would hand it out"


# ---------------------------------------------------------------------------------------------------
# Commands


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `release` and `check` to a command line."""
    for run, verb, text in (
        (release, "release", "write solutions/<slug>/ and exercises/<slug>/ from solutions/<slug>.py"),
        (check, "check", "tell whether solutions, stubs and generated notebooks are as they should be"),
    ):
        parser = commands.add_parser(verb, help=text, description=text)
        parser.add_argument("slug", nargs="*", help="assignments; all of them when none is named")
        parser.set_defaults(run=lambda options, run=run: _run(run, options.slug, Path.cwd()))


def _run(step: Any, names: Sequence[str], root: Path) -> int:
    known = slugs(root)
    if not known:
        print(f"{root} holds no solutions/*.py; run this at the root of the course")
        return 1
    failed = 0
    for slug in names or known:
        try:
            problems = step(slug, root) if slug in known else [f"not one of {', '.join(known)}"]
        except (SourceError, OSError) as error:
            problems = [str(error)]
        failed += bool(problems)
        print("\n".join(f"{slug}: {problem}" for problem in problems) or f"{slug}: {step.__name__}: in order")
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line `python -m coursekit.authoring`, at the root of the course."""
    parser = argparse.ArgumentParser(prog="coursekit.authoring", description=__doc__.splitlines()[0])
    add_commands(parser.add_subparsers(required=True, metavar="command"))
    options = parser.parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
