"""A copy of the course that can be public: what students need, without solutions, hand-ins and grades.

`mirror` copies what git tracks, leaves out what is private, and then reads every file of the copy for lines
that the release took out of the source notebooks: solutions, hidden tests and mark schemes.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import nbformat
from nbgrader.utils import is_solution

from coursekit.grading.reports.hidden import split

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["MirrorError", "mirror"]

# By path or by any folder above it.
PRIVATE = (
    "solutions",
    "submitted",
    "autograded",
    "feedback",
    "gradebook.db*",
    "grades.csv",
    ".coursekit",
    ".env*",
    # They read solutions/ or quote it.
    "tests/solution_text.py",
    "tests/test_authoring.py",
    "tests/test_checks_*.py",
    "tests/test_nbgrader.py",
    "tests/test_notebooks.py",
    "tests/grading_*.py",
    "tests/test_grading_*.py",
)
# The patches of the demo's class quote solutions; without solutions/ there is no demo.
MISTAKES = "src/coursekit/grading/mistakes.py"
NO_MISTAKES = '''"""Typical mistakes of the demo class: none here, as they quote the solutions."""

from __future__ import annotations

MISTAKES: dict[str, dict[str, tuple[str, str, str]]] = {}
'''
LIBRARY = "src"  # public by design, reference and checks included
TELLING = 20  # characters of a line, blanks aside, below which it is an idiom
REGIONS = [(f"BEGIN {name}", f"END {name}") for name in ("SOLUTION", "HIDDEN TESTS", "MARK SCHEME")]
MARKERS = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS|MARK SCHEME)|^\s*(# )?%%")


class MirrorError(RuntimeError):
    """No mirror was made; nothing was written."""


def mirror(root: Path, target: Path, *, repository: bool = False) -> list[Path]:
    """Make a public copy of the course at root, and return the files in it, relative to target.

    target: a folder that does not exist or is empty, outside of root.   repository: make it a git repository
    with one commit, so that nothing of the course's history is in it.
    Raises MirrorError, and leaves target as it was, if anything in the copy would give away a line of a
    solution, a hidden test or a mark scheme, or cannot be looked into.
    """
    root, target = root.resolve(), target.resolve()
    _check_places(root, target)
    with tempfile.TemporaryDirectory(prefix=".mirror-", dir=_existing(target)) as folder:
        copy = Path(folder, "copy")
        files = _copy(root, copy)
        _verify(copy, files, _secrets(root))
        if repository:
            _commit(root, copy)
        if target.exists():
            target.rmdir()
        target.parent.mkdir(parents=True, exist_ok=True)
        copy.replace(target)
    return files


def _check_places(root: Path, target: Path) -> None:
    if not (root / "solutions").is_dir():
        raise MirrorError(f"{root} has no folder solutions; run this at the root of the course")
    if target.is_relative_to(root):
        raise MirrorError(f"{target} lies in the course itself; name a folder outside of {root}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MirrorError(f"{target} holds something already; name an empty folder or a new one")


def _existing(target: Path) -> Path:
    """The folder nearest above target that exists, on whose disk the copy is made."""
    return next(parent for parent in target.parents if parent.is_dir())


# ---------------------------------------------------------------------------------------------------
# Copying


def _copy(root: Path, copy: Path) -> list[Path]:
    files = [Path(name) for name in _tracked(root) if not _is_private(name)]
    for name in files:
        source = root / name
        if source.is_symlink() or not source.is_file():
            raise MirrorError(f"{name} is a link, a submodule or missing; the mirror takes plain files only")
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy / name)
    if (copy / MISTAKES).exists():
        (copy / MISTAKES).write_text(NO_MISTAKES, encoding="utf-8")
    return files


def _tracked(root: Path) -> list[str]:
    """What git tracks, so that nothing that merely lies around is published."""
    done = _git(root, "ls-files", "-z", "--cached", ".")
    return sorted(name for name in done.split("\0") if name)


def _is_private(name: str) -> bool:
    path = PurePosixPath(name)
    return any(
        fnmatchcase(part.as_posix(), pattern) or ("/" not in pattern and fnmatchcase(part.name, pattern))
        for part in (path, *path.parents)
        for pattern in PRIVATE
    )


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True)
    except FileNotFoundError:
        raise MirrorError("git is not installed; the mirror holds what git tracks") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip()
        raise MirrorError(f"git {arguments[0]} failed in {folder}: {said}") from None
    return done.stdout.decode("utf-8", "surrogateescape")


def _commit(root: Path, copy: Path) -> None:
    """One commit by whoever the course's repository names; no hook and no template of the machine's."""
    _git(copy, "init", "--quiet", "--initial-branch=main", "--template=")
    _git(copy, "add", "--all", "--force", ".")
    who = [f"user.{key}={_setting(root, f'user.{key}')}" for key in ("name", "email")]
    options = [part for setting in (*who, "commit.gpgsign=false") for part in ("-c", setting)]
    _git(copy, *options, "commit", "--quiet", "--message=Publish the course")


def _setting(root: Path, key: str) -> str:
    try:
        return _git(root, "config", key).strip()
    except MirrorError:
        return {"user.name": "coursekit", "user.email": "coursekit@localhost"}[key]


# ---------------------------------------------------------------------------------------------------
# Looking for what leaks


def _secrets(root: Path) -> dict[str, str]:
    """Squeezed lines and sentences that only the sources of the assignments hold, and where they stand."""
    secret: dict[str, str] = {}
    given: list[str] = []
    for path in sorted([*root.glob("solutions/**/*.py"), *root.glob("solutions/**/*.ipynb")]):
        released = (root / "exercises" / path.stem / f"{path.stem}.ipynb").exists()
        for hidden, rest in map(_parted if released else _whole, _cells(path)):
            given.append(_squeezed(rest))
            for line in _telling(hidden):
                secret.setdefault(line, path.relative_to(root).as_posix())
    public = [path for path in root.glob(f"{LIBRARY}/**/*.py") if path != root / MISTAKES]
    known = "\n".join([*given, *(_squeezed(path.read_text(encoding="utf-8")) for path in public)])
    return {line: place for line, place in secret.items() if line not in known}


def _cells(path: Path) -> list[NotebookNode]:
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4).cells
    text = re.sub(r"^# ?", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [nbformat.v4.new_raw_cell(text)]


def _parted(cell: NotebookNode) -> tuple[str, str]:
    """What the release takes out of a cell and what it leaves; of an answer without marks, nothing."""
    parts = split(cell.source, REGIONS)
    if is_solution(cell) and not parts.hidden:
        return _whole(cell)
    return "\n".join(parts.hidden.values()), parts.released


def _whole(cell: NotebookNode) -> tuple[str, str]:
    return cell.source, ""


def _telling(text: str) -> Iterator[str]:
    """The lines of a text, and its sentences, which may be wrapped elsewhere in another way."""
    lines = [line for line in text.split("\n") if not MARKERS.search(line)]
    sentences = re.split(r"(?<=[.;:!?])\s+|\n\s*\n|\n\s*[-*]\s", "\n".join(lines))
    for part in (*lines, *sentences):
        squeezed = _squeezed(part.lstrip(" \n-*>#"))
        if len(squeezed) >= TELLING:
            yield squeezed


def _squeezed(text: str) -> str:
    """Without blanks, escapes and kinds of quotes, so that a quotation is found however it is written."""
    return re.sub(r"\\[nt]|[\s\\]+", "", html.unescape(text)).replace('"', "'")


def _verify(copy: Path, files: Iterable[Path], secrets: Mapping[str, str]) -> None:
    leaks = [f"{name}: {leak}" for name in files for leak in _leaks(copy / name, secrets)]
    if leaks:
        more = f" (and {len(leaks) - 5} more)" if len(leaks) > 5 else ""
        listed = "".join(f"\n  {leak}" for leak in leaks[:5])
        raise MirrorError(f"no mirror was made, as it would give away:{listed}{more}")


def _leaks(path: Path, secrets: Mapping[str, str]) -> Iterator[str]:
    if zipfile.is_zipfile(path) or path.suffix in (".gz", ".tar", ".tgz", ".7z", ".xz", ".bz2"):
        yield "an archive, which is not looked into; keep it out of the repository"
        return
    squeezed = _squeezed(_text(path))
    for line, place in secrets.items():
        if line in squeezed:
            yield f"{line[:60]!r} of {place}"


def _text(path: Path) -> str:
    """All that a file says; of a notebook and other JSON, its strings as they read."""
    text = path.read_bytes().decode("utf-8", "replace")
    if path.suffix in (".ipynb", ".json"):
        try:
            return "\n".join([text, *_strings(json.loads(text))])
        except ValueError:
            return text
    return text


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value; the lines of a notebook's cell as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield "".join(value)
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
