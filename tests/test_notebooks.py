"""Every notebook runs: solutions against their stored outputs, chapters as the book executes them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_cache import get_cache
from myst_nb.core.config import NbParserConfig
from myst_nb.core.read import create_nb_reader
from myst_parser.config.main import MdParserConfig

from coursekit import authoring
from coursekit.book import execution
from coursekit.grading import ONE_THREAD

ROOT = Path(__file__).parents[1]
# JupyterLab leaves copies of the pages that a reader opened.
PAGES = sorted(path for path in ROOT.glob("chapters/**/*.md") if ".ipynb_checkpoints" not in path.parts)
CHAPTERS = [path for path in PAGES if "```{code-cell}" in path.read_text(encoding="utf-8")]


def nbval(path: Path) -> subprocess.CompletedProcess:
    """Run a notebook under nbval, apart from this project's own pytest options."""
    options = ["-c", os.devnull, "--rootdir", str(path.parent), "-p", "no:cacheprovider", "-q", "-n", "0"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--nbval", "--nbval-current-env", str(path)],
        env={**os.environ, **ONE_THREAD, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.mark.parametrize("slug", authoring.slugs(ROOT))
def test_a_solution_repeats_its_stored_outputs(slug):
    done = nbval(ROOT / "solutions" / slug / f"{slug}.ipynb")
    assert done.returncode == 0, done.stdout


def test_another_output_than_the_stored_one_is_noticed(tmp_path):
    slug = authoring.slugs(ROOT)[0]
    text = (ROOT / "solutions" / slug / f"{slug}.ipynb").read_text(encoding="utf-8")
    path = tmp_path / "changed.ipynb"
    path.write_text(text.replace(" points\\n", " pints\\n", 1), encoding="utf-8")
    done = nbval(path)
    assert done.returncode == 1
    assert "1 failed" in done.stdout


@pytest.fixture(scope="module")
def errors() -> dict[Path, str | None]:
    """What stopped a chapter, if anything; several run at a time, each in a process of its own."""
    config = SimpleNamespace()
    execution.choose_cache(SimpleNamespace(confdir=ROOT, outdir=ROOT / "_build" / "html"), config)
    run = partial(error, config.nb_execution_cache_path)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        return dict(zip(CHAPTERS, pool.map(run, CHAPTERS), strict=True))


def error(cache_path: str, path: Path) -> str | None:
    """Run a chapter unless the book's cache holds it; what runs here serves the book's next build."""
    os.environ.update(ONE_THREAD)
    cache = get_cache(cache_path)
    text = path.read_text(encoding="utf-8")
    reader = create_nb_reader(str(path), MdParserConfig(), NbParserConfig(), text)
    page = execution.Page(path, reader.read(text))
    if execution.is_stored(cache, page):
        return None
    result = execution.execute(page, timeout=300)
    if result.err is None:
        execution.store(cache, page, result)
    return result.err and execution.failure(page, result)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_from_top_to_bottom(path, errors):
    assert errors[path] is None
