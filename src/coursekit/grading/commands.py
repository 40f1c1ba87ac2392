"""The instructor's commands: `coursekit grade`, `regrade`, `summary`, `similarity`, `mirror` and more."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nbgrader.apps.baseapp import NbGrader
from nbgrader.converters.autograde import Autograde
from nbgrader.converters.base import NbGraderException

from coursekit.grading import hooks, mirror
from coursekit.grading.engine import ClassResult, Grader, hand_in_count
from coursekit.grading.execution import sandbox
from coursekit.grading.gradebook import regrade
from coursekit.grading.gradebook.ledger import LedgerError
from coursekit.grading.handin.arrival import arrivals
from coursekit.grading.handin.reconcile import reconcile
from coursekit.grading.progress import Progress
from coursekit.grading.reports import similarity, summary
from coursekit.grading.state import CourseError

if TYPE_CHECKING:
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import LoggingConfigurable

__all__ = ["add_commands"]


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the instructor's commands to a command line."""
    grade = _add(commands, "grade", _grade, "grade what was handed in and is not graded yet")
    again = _add(commands, "regrade", _regrade, "grade again and show which scores change")
    grade.add_argument("--force", action="store_true", help="grade again what is graded")
    for parser in (grade, again):
        parser.add_argument("slug", help="the assignment")
        parser.add_argument(
            "--students", nargs="+", metavar="NAME", help="whom to grade; everybody by default"
        )
        parser.add_argument(
            "--notebook", default="*", metavar="PATTERN", help="notebooks to grade; all by default"
        )
        parser.add_argument("--workers", type=int, metavar="N", help="notebooks to run side by side")
        parser.add_argument("--scheduler", metavar="ADDRESS", help="dask scheduler whose workers run them")
    parser = _add(commands, "summary", _summary, "show how the class did in an assignment")
    parser.add_argument("slug", help="the assignment")
    parser.add_argument("--html", type=Path, metavar="PATH", help="where the page is written")
    parser = _add(commands, "similarity", _similarity, "show which hand-ins share much of their own code")
    parser.add_argument("slug", help="the assignment")
    parser = _add(commands, "mirror", _mirror, "copy the course, without its solutions, to publish it")
    parser.add_argument("target", type=Path, help="a new or empty folder outside of the course")
    parser.add_argument("--git", action="store_true", help="make it a git repository with one commit")
    _add(commands, "protection", _protection, "tell what confines student code on this machine, and what not")


def _add(
    commands: argparse._SubParsersAction, verb: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(verb, help=text, description=text)
    parser.set_defaults(run=lambda options: _explained(run, options))
    return parser


def _explained(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command; what it raises on purpose is said in a line."""
    try:
        return run(options)
    except NbGraderException:  # the log has said why
        return 1
    except (CourseError, LedgerError, mirror.MirrorError) as error:
        print(error, file=sys.stderr)
        return 1


# ---------------------------------------------------------------------------------------------------
# The course


def _course() -> NbGrader:
    """nbgrader's application for the current folder, with the configuration that nbgrader would read."""
    app = NbGrader()
    app.log_level = logging.WARNING  # the progress and the tables say the rest
    app.initialize([])
    root = Path(app.coursedir.root)
    if not (Path("nbgrader_config.py").exists() or (root / app.coursedir.source_directory).is_dir()):
        raise CourseError(
            f"{root} is no course: it has neither nbgrader_config.py nor {app.coursedir.source_directory}/; "
            "run this at the root of a course"
        )
    return app


def _converter(options: argparse.Namespace) -> Autograde:
    app = _course()
    app.coursedir.assignment_id = options.slug
    app.coursedir.notebook_id = options.notebook
    for name in ("workers", "scheduler"):
        if (value := getattr(options, name)) is not None:
            app.config.Grader[name] = value
    return Autograde(coursedir=app.coursedir, parent=app)


def _grader(options: argparse.Namespace) -> tuple[CourseDirectory, Grader]:
    app = _course()
    return app.coursedir, Grader(parent=app)


def _names(options: argparse.Namespace) -> list[str] | None:
    """Students as `--students a b` or `--students a,b` names them."""
    if options.students is None:
        return None
    return [name for text in options.students for name in text.split(",") if name]


# ---------------------------------------------------------------------------------------------------
# Grading


def _grade(options: argparse.Namespace) -> int:
    converter = _converter(options)
    converter.force = options.force
    return _run(converter, _names(options))


def _regrade(options: argparse.Namespace) -> int:
    converter = _converter(options)
    converter.force = True
    with Grader(parent=converter).open_ledger(converter.coursedir) as ledger:
        before = regrade.snapshot(ledger, options.slug)
    status = _run(converter, _names(options))
    with Grader(parent=converter).open_ledger(converter.coursedir) as ledger:
        print(regrade.table(regrade.diff(before, regrade.snapshot(ledger, options.slug))))
    return status


def _run(converter: Autograde, students: Sequence[str] | None) -> int:
    """Grade with a live progress, then print how the class stands."""
    coursedir = converter.coursedir
    total = len(students) if students else hand_in_count(coursedir, coursedir.assignment_id)
    with Progress(total) as progress:
        result = hooks.grade(converter, students=students, progress=progress)
    return _conclude(converter, result, students)


def _conclude(converter: Autograde, result: ClassResult, students: Sequence[str] | None) -> int:
    absent = sorted(set(students or ()) - result.students)
    if not result.students:
        print(f"nothing was handed in for {result.assignment!r}", file=sys.stderr)
        return 1
    page = _show_summary(converter, converter.coursedir)
    print(f"\n{result}\nsummary   {page}")
    for student in absent:
        print(f"{student}: nothing was handed in", file=sys.stderr)
    for student, reason in result.failed.items():
        print(f"{student}: WITHOUT AN OUTCOME: {reason}", file=sys.stderr)
    for student in result.unknown:
        print(f"{student}: not in the gradebook, so not graded", file=sys.stderr)
    return 1 if absent or result.failed or result.unknown else 0


# ---------------------------------------------------------------------------------------------------
# Reports


def _summary(options: argparse.Namespace) -> int:
    coursedir, grader = _grader(options)
    coursedir.assignment_id = options.slug
    with grader.open_ledger(coursedir) as ledger:
        ledger.source(options.slug, None, None)  # which says so if there is no such assignment
    print(f"\npage      {_show_summary(grader, coursedir, options.html)}")
    return 0


def _show_summary(parent: LoggingConfigurable, coursedir: CourseDirectory, page: Path | None = None) -> Path:
    found = hooks.class_summary(parent, coursedir)
    print(summary.as_text(found))
    return hooks.write_report(coursedir, "summary.html", summary.as_html(found), page)


def _similarity(options: argparse.Namespace) -> int:
    coursedir, grader = _grader(options)
    coursedir.assignment_id = options.slug
    with grader.open_ledger(coursedir) as ledger:
        steps = (coursedir.source_directory, coursedir.release_directory)
        folders = [Path(coursedir.format_path(step, ".", options.slug)) for step in steps]
        sources = ledger.source(options.slug, *folders)
    texts = {}
    for submission in arrivals(
        coursedir, options.slug, {name: tuple(s.cells) for name, s in sources.items()}
    ):
        found = {name: nb for name, nb in submission.notebooks.items() if nb is not None}
        notebooks = [reconcile(nb, sources[name]).notebook for name, nb in found.items()]
        texts[submission.student] = "\n\n".join(map(similarity.answers, notebooks))
    given = [
        similarity.answers(source.released or reconcile(None, source).notebook) for source in sources.values()
    ]
    pairs = similarity.compare(texts, given)
    print(similarity.as_text(pairs), end="")
    page = hooks.write_report(coursedir, "similarity.html", similarity.as_html(pairs, options.slug))
    print(f"page      {page}")
    return 0


def _mirror(options: argparse.Namespace) -> int:
    target = options.target.absolute()
    files = mirror.mirror(Path.cwd(), target, repository=options.git)
    print(f"{len(files)} files in {target}, no solution among them")
    return 0


def _protection(options: argparse.Namespace) -> int:
    found = sandbox.protection()
    print("\n".join(found.describe()))
    return 1 if found.missing else 0
