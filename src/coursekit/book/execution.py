"""Execute the chapters in parallel, and again only when something that they can show has changed.

MyST-NB keys its cache on a page's own code alone, so a change in coursekit would leave old numbers in the
book. Here the cache's folder is named after everything else that a page can show, and is filled beforehand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.read import create_nb_reader
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.console import strip_colors

import coursekit
from coursekit import data
from coursekit.grading import ONE_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_cache.base import JupyterCacheAbstract
    from nbformat import NotebookNode
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

logger = logging.getLogger(__name__)

PACKAGE = Path(coursekit.__file__).parent
LIBRARIES = ("matplotlib", "numpy", "scikit-learn", "torch")


QUIET = ["--log-level=ERROR"]
"""A kernel's own remarks, on transport encryption for one, are not the page's."""


class Page(NamedTuple):
    path: Path
    notebook: NotebookNode


def sources(package: Path, results: Path) -> list[Path]:
    """Files that a page can show: the package without the book's machinery, and the committed results."""
    files = [path for path in package.rglob("*") if path.suffix in {".py", ".mplstyle"}]
    files = [path for path in files if package / "book" not in path.parents]
    return sorted(files) + sorted(results.glob("*.json"))


def fingerprint(files: Iterable[Path], facts: Iterable[str]) -> str:
    """Short hash of the files' names and contents and of the facts.

    >>> fingerprint([], ["numpy 1"]) == fingerprint([], ["numpy 2"])
    False
    """
    digest = hashlib.sha256()
    for item in [*facts, *(f"{path.name}\n{path.read_text('utf8')}" for path in files)]:
        digest.update(f"{len(item)}:{item}".encode())
    return digest.hexdigest()[:12]


def choose_cache(app: Sphinx, config: Config) -> None:
    """Name the cache's folder after what the pages depend on, and drop the folders of other states."""
    facts = [f"{name} {metadata.version(name)}" for name in LIBRARIES] + [data.handwritten("test").name]
    key = fingerprint(sources(PACKAGE, Path(app.confdir) / "benchmarks" / "results"), facts)
    caches = Path(app.outdir).parent / ".jupyter_cache"
    for stale in caches.glob("*"):
        if stale.name != key:
            shutil.rmtree(stale)
    config.nb_execution_cache_path = str(caches / key)


def execute_pages(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Run all pages that are about to be read and have no stored outputs, several at a time."""
    cache = get_cache(env.mystnb_config.execution_cache_path)
    pages = [page for page in read_notebooks(env, docnames) if not is_stored(cache, page)]
    workers = min(len(pages), os.cpu_count() or 1)
    if not pages:
        return
    logger.info("executing %d pages, %d at a time", len(pages), workers)
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda page: execute(page, env.mystnb_config.execution_timeout), pages))
    failures = []
    for page, result in zip(pages, results, strict=True):
        if result.err is None:
            store(cache, page, result)
        else:
            failures.append(failure(page, result))
    if failures:
        raise ExtensionError("\n\n".join(failures))


def read_notebooks(env: BuildEnvironment, docnames: list[str]) -> list[Page]:
    """The pages with code, as notebooks, read exactly as MyST-NB will read them."""
    pages = []
    for path in map(Path, map(env.doc2path, docnames)):
        text = path.read_text("utf8")
        reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
        if reader is not None:
            pages.append(Page(path, reader.read(text)))
    return pages


def is_stored(cache: JupyterCacheAbstract, page: Page) -> bool:
    try:
        cache.match_cache_notebook(page.notebook)
    except KeyError:
        return False
    return True


def execute(page: Page, timeout: int) -> ExecutionResult:
    """Run one page's cells in a fresh kernel, in the page's folder."""
    folder = str(page.path.parent)
    result = single_nb_execution(page.notebook, folder, timeout, allow_errors=False, extra_arguments=QUIET)
    logger.info("executed %s in %.1f s", page.path.name, result.time)
    return result


def store(cache: JupyterCacheAbstract, page: Page, result: ExecutionResult) -> None:
    bundle = CacheBundleIn(page.notebook, str(page.path), data={"execution_seconds": result.time})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def failure(page: Page, result: ExecutionResult) -> str:
    """Say which cell of which page stopped, with its traceback."""
    lines = page.notebook.metadata["source_map"]
    for cell, line in zip(page.notebook.cells, lines, strict=True):
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return f"{page.path}:{line}: this cell raised an error\n{strip_colors(str(result.err))}"
    return f"{page.path}: {result.err}"


def setup(app: Sphinx) -> None:
    """One thread a kernel: pages run side by side, and their numbers do not depend on the number of cores."""
    for variable, count in ONE_THREAD.items():
        os.environ.setdefault(variable, count)
    app.connect("config-inited", choose_cache)
    app.connect("env-before-read-docs", execute_pages)
