"""Grade one class with stock nbgrader and with coursekit's grader in one run; write results/grading.json.

CPU seconds are those of all processes of a grader together, from its start to its end.
"""

from __future__ import annotations

import argparse
import atexit
import json
import logging
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from benchmarks.__main__ import cpu_name
from coursekit.grading import ONE_THREAD

RESULTS = Path(__file__).parent / "results" / "grading.json"
SLUG = "task"
STOCK = (
    "c = get_config()\n"
    "c.CourseDirectory.source_directory = 'solutions'\n"
    "c.CourseDirectory.release_directory = 'exercises'\n"
)
OURS = "from coursekit.grading import configure\n\nconfigure(get_config())\n"

CELLS = [
    ("locked", "setup", 0, "import numpy as np\nimport torch"),
    (
        "solution", "relu", 0,
        "def relu(x):\n    ### BEGIN SOLUTION\n    return x.clamp(min=0)\n    ### END SOLUTION",
    ),
    (
        "test", "test-relu", 2,
        "x = torch.linspace(-2, 2, 5)\nassert torch.equal(relu(x), torch.relu(x))\n"
        "### BEGIN HIDDEN TESTS\nassert relu(x.double()).dtype == torch.float64\n### END HIDDEN TESTS",
    ),
    (
        "solution", "softmax", 0,
        "def softmax(z):\n    ### BEGIN SOLUTION\n    e = np.exp(z - z.max(axis=1, keepdims=True))\n"
        "    return e / e.sum(axis=1, keepdims=True)\n    ### END SOLUTION",
    ),
    (
        "test", "test-softmax", 3,
        "z = np.random.default_rng(0).normal(size=(5, 7))\np = softmax(z)\nassert p.shape == z.shape\n"
        "assert np.allclose(p.sum(axis=1), 1)\nassert np.allclose(softmax(z + 1000), p)",
    ),
    (
        "solution", "layer", 0,
        "def layer(x, w, b):\n    ### BEGIN SOLUTION\n    return relu(x @ w + b)\n    ### END SOLUTION",
    ),
    (
        "test", "test-layer", 3,
        "torch.manual_seed(0)\nx, b = torch.randn(8, 5), torch.zeros(3)\n"
        "w = torch.randn(5, 3, requires_grad=True)\ny = layer(x, w, b)\n"
        "assert y.shape == (8, 3)\ny.sum().backward()\nassert w.grad.shape == w.shape",
    ),
    ("written", "why", 2, "Why the maximum?\n\n### BEGIN SOLUTION\nexp overflows.\n### END SOLUTION"),
]  # fmt: skip
ANSWERS = {
    "right": {},
    "no-shift": {"softmax": "def softmax(z):\n    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)"},
    "wrong-axis": {"softmax": "def softmax(z):\n    e = np.exp(z - z.max())\n    return e / e.sum(axis=0)"},
    "raises": {"layer": "def layer(x, w, b):\n    return relu(x @ w.T + b)"},
    "detached": {"layer": "def layer(x, w, b):\n    return relu(x @ w.detach() + b)"},
}


def source() -> NotebookNode:
    """The instructor's notebook."""
    cells = []
    for role, name, points, text in CELLS:
        mark = {
            "schema_version": 3, "grade_id": name, "grade": role in ("test", "written"),
            "solution": role in ("solution", "written"), "locked": role in ("test", "locked"), "task": False,
        }  # fmt: skip
        new = nbformat.v4.new_markdown_cell if role == "written" else nbformat.v4.new_code_cell
        metadata = {"nbgrader": mark | ({"points": points} if points else {})}
        cells.append(new(text, metadata=metadata, id=name))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def hand_in(released: NotebookNode, number: int) -> NotebookNode:
    """What a student hands in: right, or with one of the mistakes, and a comment of its own."""
    wrong = list(ANSWERS.values())[number % len(ANSWERS)]
    right = {name: "\n".join(_unmarked(text)) for role, name, _, text in CELLS if role == "solution"}
    notebook = nbformat.from_dict(released)
    for cell in notebook.cells:
        if cell.id in right:
            cell.source = f"{wrong.get(cell.id, right[cell.id])}\n# student {number}"
        elif cell.id == "why":
            cell.source = f"Because exp overflows, says student {number}."
    return notebook


def _unmarked(text: str) -> list[str]:
    return [line for line in text.splitlines() if "SOLUTION" not in line]


def make_course(folder: Path, config: str, count: int) -> None:
    """A course in which a class of so many students has handed in."""
    (folder / "solutions" / SLUG).mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(config)
    nbformat.write(source(), folder / "solutions" / SLUG / f"{SLUG}.ipynb")
    run(folder, "nbgrader", "generate_assignment", SLUG)
    released = nbformat.read(folder / "exercises" / SLUG / f"{SLUG}.ipynb", as_version=4)
    for number in range(count):
        place = folder / "submitted" / f"student{number:05}" / SLUG
        place.mkdir(parents=True)
        nbformat.write(hand_in(released, number), place / f"{SLUG}.ipynb")


def run(folder: Path, module: str, *arguments: str) -> dict[str, float]:
    """Run a command in a course; wall and CPU seconds of all its processes."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])  # nbgrader runs `alembic`
    environment = {**os.environ, **ONE_THREAD, "PATH": path}
    before, began = cpu_seconds(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    wall, spent = time.monotonic() - began, cpu_seconds(resource.RUSAGE_CHILDREN) - before
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return {"wall_seconds": wall, "cpu_seconds": spent}


def grades(folder: Path) -> dict[str, dict[str, Any]]:
    """Automatic points of every student and cell, from the gradebook."""
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: {grade.name: grade.auto_score for grade in submission.notebooks[0].grades}
            for submission in gradebook.find_assignment(SLUG).submissions
        }


def compare(folder: Path, count: int) -> dict[str, Any]:
    """Stock against ours on the same class: through nbgrader's own command, and with 1 and 2 workers."""
    ways = {
        "stock nbgrader autograde": (STOCK, "nbgrader", "autograde", SLUG),
        "nbgrader autograde": (OURS, "nbgrader", "autograde", SLUG, "--Grader.workers=1"),
        "coursekit grade, 1 worker": (OURS, "coursekit", "grade", SLUG, "--workers=1"),
        "coursekit grade, 2 workers": (OURS, "coursekit", "grade", SLUG, "--workers=2"),
    }
    results: dict[str, Any] = {}
    expected = None
    for name, (config, *command) in ways.items():
        course, single = folder / name.replace(" ", "-"), folder / f"one-{name.replace(' ', '-')}"
        make_course(course, config, count)
        make_course(single, config, 1)
        whole, one = run(course, *command), run(single, *command)
        expected = expected or grades(course)
        if grades(course) != expected:
            raise AssertionError(f"{name} gives other grades than stock nbgrader")
        results[name] = row(whole, one, count)
        print(f"{name:28} {results[name]}", flush=True)
    baseline = results["stock nbgrader autograde"]
    for result in results.values():
        for clock in ("cpu", "wall"):
            key = f"{clock}_per_hand_in"
            result[f"{clock}_times_faster"] = round(baseline[key] / result[key], 2)
    return results


def row(whole: dict[str, float], one: dict[str, float], count: int) -> dict[str, float]:
    """Seconds for each hand-in, all told, and for each further one."""
    return {
        "cpu_per_hand_in": round(whole["cpu_seconds"] / count, 4),
        "wall_per_hand_in": round(whole["wall_seconds"] / count, 4),
        "cpu_per_further_hand_in": round((whole["cpu_seconds"] - one["cpu_seconds"]) / (count - 1), 4),
        "wall_per_further_hand_in": round((whole["wall_seconds"] - one["wall_seconds"]) / (count - 1), 4),
        "start_cpu": round(one["cpu_seconds"], 2),
    }


def stages(folder: Path, count: int) -> dict[str, float]:
    """Where the CPU seconds of each further hand-in go, and what the start takes: two runs, one of one."""
    runs = {}
    for size in (1, count):
        course = folder / f"stages-{size}"
        make_course(course, OURS, size)
        runs[size] = run_json(course, "stages")
    further = {
        name: (runs[count][name] * count - runs[1][name]) / (count - 1) for name in ("grader", "others")
    }
    return {
        "start of the grader": round(runs[1]["grader"], 3),
        "start of the warm processes": round(runs[1]["others"], 3),
        "reading, reconciling, gradebook and files": round(further["grader"], 4),
        "examiner's process": round(runs[count]["examiner"], 4),
        "forks, sandbox and the student's process": round(further["others"], 4),
    }


def scale(folder: Path, count: int) -> dict[str, Any]:
    """A large class: time, and memory of the grader as it goes."""
    course = folder / "scale"
    make_course(course, OURS, count)
    return run_json(course, "scale")


def run_json(course: Path, what: str) -> Any:
    """Measure in a fresh process, which prints its result."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.grading", "--inside", what],
        cwd=course,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def inside(what: str) -> None:
    """Grade the course in this folder in this process; at its end, print what was measured."""
    samples: list[tuple[int, float]] = []
    began, before = time.monotonic(), cpu_seconds(resource.RUSAGE_SELF)
    # The first to be registered is the last to run, after the warm processes have been ended.
    atexit.register(lambda: print(json.dumps(measured(what, began, before, samples))))

    from nbgrader.apps.baseapp import NbGrader

    from coursekit.grading.engine import Grader
    from coursekit.grading.progress import Progress

    class Sampling(Progress):
        def step(self, review: bool) -> None:
            self._done += 1
            if what == "scale" and self._done % 50 == 0:
                samples.append((self._done, memory_mib()))

    app = NbGrader()
    app.log_level = logging.WARNING
    app.initialize([])
    Grader(parent=app, workers=2 if what == "scale" else 1).grade(app.coursedir, SLUG, progress=Sampling(0))


def measured(what: str, began: float, before: float, samples: list) -> dict[str, Any]:
    """What one run in this process took; `before`: CPU seconds of the interpreter's own start."""
    wall = time.monotonic() - began
    with sqlite3.connect("gradebook.db") as gradebook:
        query = "select count(*), avg(cpu_seconds) from coursekit_outcome"
        count, examiner = gradebook.execute(query).fetchone()
    own, others = cpu_seconds(resource.RUSAGE_SELF) - before, cpu_seconds(resource.RUSAGE_CHILDREN)
    if what == "stages":
        return {"grader": own / count, "examiner": examiner, "others": others / count - examiner}
    return {
        "hand_ins": count, "workers": 2, "wall_seconds": round(wall, 1), "per_second": round(count / wall, 2),
        "cpu_per_hand_in": round((own + others) / count, 4), "memory_mib": samples,
    }  # fmt: skip


def cpu_seconds(who: int) -> float:
    """User and system time of this process, or of all that it has waited for."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def memory_mib() -> float:
    """Memory of this process and all below it, shared pages counted once (PSS)."""
    import psutil

    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return round(total / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grading", description=__doc__)
    parser.add_argument("--students", type=int, default=40)
    parser.add_argument("--scale", type=int, default=1000, help="size of the large class; 0 leaves it out")
    parser.add_argument("--inside", choices=("stages", "scale"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside)
        return
    folder = Path(tempfile.mkdtemp(prefix="grading-benchmark-"))
    try:
        results = {
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "hardware": {"cpu": cpu_name(), "cores": os.cpu_count()},
            "students": options.students,
            "ways": compare(folder, options.students),
            "cpu_seconds_by_stage": stages(folder, options.students),
        }
        if options.scale:
            results["large_class"] = scale(folder, options.scale)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
