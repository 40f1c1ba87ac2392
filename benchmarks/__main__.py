"""Run every contest, print a table and write results/cpu.json with all that a reader needs to judge it."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.race import INSTANCES, ROUNDS, race

RESULTS = Path(__file__).parent / "results" / "cpu.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="only contests whose name contains one of these; not written"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for contest in contests():
        if not options.names or any(name in contest.name for name in options.names):
            results.append(race(contest, options.seed))
            print(as_line(results[-1]), flush=True)
    if not results:
        parser.error(f"no contest has a name with any of {options.names} in it")
    if not options.names:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(conditions(options.seed) | {"contests": results}, indent=1) + "\n")
        print(f"wrote {RESULTS}")


def contests():
    """The contests of every module beside this one that offers some."""
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        yield from getattr(importlib.import_module(f"benchmarks.{path.stem}"), "contests", tuple)()


def as_line(result: dict[str, Any]) -> str:
    times = ", ".join(
        f"{name} {1e3 * seconds:.3f} ms ({result['ratio'][name]:.2f})"
        for name, seconds in result["seconds_per_item"].items()
    )
    return f"{result['name']:32} {result['dtype']:8} {times}"


def conditions(seed: int) -> dict[str, Any]:
    """Where and how the numbers were taken."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "clock": "CPU time of the process",
        "instances": INSTANCES,
        "rounds": ROUNDS,
        "hardware": {"cpu": cpu_name(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
    }


def cpu_name() -> str:
    """What Linux calls the processor; elsewhere what Python knows of it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
