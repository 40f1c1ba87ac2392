"""How nbgrader grades a course: `nbgrader_config.py` hands its configuration to `configure`.

`engine` goes through a class, `handin` reads what arrived, `execution` runs it, `gradebook` writes it down,
`reports` tells people, and `hooks` puts all of it behind nbgrader's own commands.

>>> from traitlets.config import Config
>>> c = Config()
>>> configure(c)
>>> c.CourseDirectory.source_directory
'solutions'
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traitlets.config import Config

__all__ = ["KERNEL_ARGUMENTS", "ONE_THREAD", "configure", "put_alembic_on_path"]

CODE_STUB = "# Write your code here, in place of the next line.\nraise NotImplementedError"
TEXT_STUB = "*Your answer here.*"
# For the environment of kernels that run side by side.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
KERNEL_ARGUMENTS = (
    # A coursekit.py beside the notebook must not shadow the package.
    "--InteractiveShellApp.ignore_cwd=True",
    # ipykernel 7 warns about its TCP connection at every start.
    "--IPKernelApp.log_level=ERROR",
)


def configure(c: Config) -> None:
    """Fill nbgrader's configuration; a line after the call in `nbgrader_config.py` overrides it.

    From then on, nbgrader's own commands and the formgrader grade with the engine of this package.
    """
    from coursekit.grading import hooks
    from coursekit.grading.reports.feedback import configure_feedback

    hooks.install()
    put_alembic_on_path()
    _place_folders(c)
    _release(c)
    _execute(c)
    configure_feedback(c)
    # Student text and output reach the instructor's browser: no script of theirs may run there.
    c.HTMLExporter.sanitize_html = True  # what was printed and shown
    c.HTMLExporter.filters = {"markdown2html": "coursekit.grading.reports.safe.formgrader_markdown"}


def put_alembic_on_path() -> None:
    """nbgrader runs `alembic` by name for a new gradebook, which an environment not activated hides."""
    if shutil.which("alembic") is None:
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")])


def _place_folders(c: Config) -> None:
    c.CourseDirectory.source_directory = "solutions"
    c.CourseDirectory.release_directory = "exercises"
    # nbgrader's own solution step would otherwise put a `solution` folder beside ours.
    c.CourseDirectory.solution_directory = "_build/nbgrader/solution"
    c.CourseDirectory.source_with_tests_directory = "_build/nbgrader/source_with_tests"


def _release(c: Config) -> None:
    c.ClearSolutions.code_stub = {"python": CODE_STUB}
    c.ClearSolutions.text_stub = TEXT_STUB
    # exercises/ is committed: in a fresh clone nbgrader would skip the existing folder and leave the
    # gradebook empty.
    c.GenerateAssignment.force = True


def _execute(c: Config) -> None:
    c.Execute.timeout = 60
    c.Execute.shutdown_kernel = "immediate"
    # A cell that is tagged `skip-execution` has no output, and no output means full points.
    c.Execute.skip_cells_with_tag = "no cell carries this tag"
    c.Execute.extra_arguments = list(KERNEL_ARGUMENTS)
    # Without its cell a check leaves no grade at all; put back, it counts as failed or passed.
    c.OverwriteCells.add_missing_cells = True
