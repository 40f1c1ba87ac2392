"""Time and memory of backpropagation through time, full and with less memory; writes results/bptt.json.

All ways run in turn in one process on one thread; gradients of the whole loss are compared bit for bit.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import conditions
from benchmarks.race import INSTANCES, ROUNDS
from coursekit.bptt import BPTT, bptt, checkpoint_plan, checkpointed_bptt, truncated_bptt
from coursekit.cells import RNNCell, initial_weights
from coursekit.recurrent import rnn_forward, unroll, unroll_backward

RESULTS = Path(__file__).parent / "results" / "bptt.json"
STEPS = 100, 200, 400, 1000, 2000
N, D, U = 32, 64, 128
GAIN = 0.9  # of the recurrent weights: gradients fade, but slowly
BLOCK = 4  # steps that go through the products for the weights together
FEW = 10  # slots; five per cent of the steps are not fewer
CHUNK = 20  # steps of truncated backpropagation
CHUNKS = 5, 10, 20, 50, 100, 200  # of which the error is measured
TORCH_STEPS = 100

Ways = dict[str, Callable[[], Any]]


class Task:
    """A cell, a batch of sequences, and a loss that needs no memory: the sum of h_t r_t, 17 r's in turn."""

    def __init__(self, steps: int, seed: Any) -> None:
        rng = np.random.default_rng(seed)
        self.cell = RNNCell(**initial_weights(D, U, gain=GAIN, rng=rng))
        self.x = rng.standard_normal((steps, N, D), dtype="float32")
        self.readouts = rng.standard_normal((17, N, U), dtype="float32")

    def head(self, t0: int, h: np.ndarray) -> tuple[Any, np.ndarray]:
        dh = self.readouts[np.arange(t0, t0 + len(h)) % len(self.readouts)]
        return np.vdot(h, dh), dh

    def ways(self, block: int = BLOCK) -> Ways:
        """Names and calls; the first is what times are compared with."""
        given, fixed = (self.cell, self.x, self.head), {"inputs": False}
        five = max(FEW, len(self.x) // 20)
        return {
            "full": lambda: bptt(*given, block=block, **fixed),
            "truncated": lambda: truncated_bptt(*given, k1=CHUNK, **fixed),
            "root": lambda: checkpointed_bptt(*given, block=block, **fixed),
            "optimal, 5 %": lambda: checkpointed_bptt(*given, slots=five, block=block, **fixed),
            "optimal, 10 slots": lambda: checkpointed_bptt(*given, slots=FEW, block=block, **fixed),
        }

    def unrolled(self) -> Any:
        """All steps through one product for the weights."""
        h, _, trace = unroll(self.cell, self.x)
        return unroll_backward(self.head(0, h)[1], trace, inputs=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bptt", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two short lengths; nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for steps in STEPS[: 2 if options.quick else None] for row in measured(steps, options.seed)]
    results = {
        "work": f"tanh cell, N={N}, D={D}, U={U}, float32, blocks of {BLOCK} steps",
        "chunk": CHUNK,
        "block": BLOCK,
        "state_bytes": 4 * N * U,
        "rows": rows,
        "truncation": truncation(STEPS[3], options.seed),
        "single_steps": single_steps(STEPS[3], options.seed),
        "torch": torch_bytes(options.seed),
    }
    if options.quick:
        print(json.dumps(results["truncation"] + [results["single_steps"], results["torch"]], indent=1))
        return
    RESULTS.write_text(json.dumps(conditions(options.seed) | results, indent=1) + "\n")
    print(f"wrote {RESULTS}")


def measured(steps: int, seed: int) -> list[dict[str, Any]]:
    """One row for each way at this length: time, memory, forward steps, and how it compares with full."""
    tasks = [Task(steps, [seed, steps, instance]) for instance in range(INSTANCES)]
    seconds, ratios = timed([task.ways() | {"unrolled": task.unrolled} for task in tasks])
    whole, rows = tasks[0].ways()["full"](), []
    for name, way in tasks[0].ways().items():
        result = way()
        rows.append(
            {
                "steps": steps,
                "way": name,
                "seconds": median(seconds[name]),
                "ratio": median(ratios[name]),
                "ratio_range": [min(ratios[name]), max(ratios[name])],
                "forward_steps": result.forward_steps,
                "stored_states": result.stored_states,
                "peak_bytes": peak_bytes(way),
                "same_bits": same_bits(result, whole),
            }
        )
        print(as_line(rows[-1]), flush=True)
    rows[0]["unrolled_ratio"] = median(ratios["unrolled"])
    return rows


def timed(instances: list[Ways]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every way, and ratios to the first way of the same round."""
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    for ways in instances:
        for way in ways.values():  # plans are found once, and are not part of the work
            way()
        for _ in range(ROUNDS):
            spent = {name: _spent(way) for name, way in ways.items()}
            for name, value in spent.items():
                seconds.setdefault(name, []).append(value)
                ratios.setdefault(name, []).append(value / next(iter(spent.values())))
    return seconds, ratios


def _spent(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return max(time.process_time() - start, 1e-9)


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most memory that was allocated at the same time during a call."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def same_bits(result: BPTT, whole: BPTT) -> bool:
    pairs = zip(result.gradients, whole.gradients, strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs if b is not None)


def truncation(steps: int, seed: int) -> list[dict[str, Any]]:
    """How far the truncated gradient of w is from the whole one."""
    task = Task(steps, [seed, steps, 0])
    whole = bptt(task.cell, task.x, task.head).gradients.dw.astype("float64")
    rows = []
    for k in CHUNKS:
        part = truncated_bptt(task.cell, task.x, task.head, k1=k).gradients.dw.astype("float64")
        lengths = np.linalg.norm(part), np.linalg.norm(whole)
        error = np.linalg.norm(part - whole) / lengths[1]
        rows.append({"k": k, "relative_error": error, "cosine": np.vdot(part, whole) / np.prod(lengths)})
    return rows


def single_steps(steps: int, seed: int) -> dict[str, Any]:
    """The bar without blocks: full and 5 % where every step is worked on alone."""
    ways = Task(steps, [seed, steps, 0]).ways(block=1)
    wanted = {name: ways[name] for name in ("full", "optimal, 5 %")}
    seconds, ratios = timed([wanted] * INSTANCES)
    return {
        "steps": steps,
        "seconds": median(seconds["full"]),
        "ratio": median(ratios["optimal, 5 %"]),
        "forward_steps": checkpoint_plan(steps, steps // 20).forward_steps,
    }


def torch_bytes(seed: int) -> dict[str, Any]:
    """What autograd keeps for its backward pass, beside the states that ours keeps."""
    task = Task(TORCH_STEPS, [seed, TORCH_STEPS, 0])
    cell = task.cell
    weights = [torch.from_numpy(a).requires_grad_() for a in (cell.u, cell.w, cell.b)]
    x = torch.from_numpy(task.x)
    layer = torch.nn.RNN(D, U)
    return {
        "steps": TORCH_STEPS,
        "states": 4 * TORCH_STEPS * N * U,
        "autograd": saved_bytes(lambda: rnn_forward(x, *weights), x, *weights),
        "torch.nn.RNN": saved_bytes(lambda: layer(x), x, *layer.parameters()),
    }


def saved_bytes(run: Callable[[], Any], *given: torch.Tensor) -> int:
    """Bytes of all tensors that autograd saves during a call, shared memory counted once, inputs left out."""
    inputs, seen = {a.untyped_storage().data_ptr() for a in given}, {}

    def pack(a: torch.Tensor) -> torch.Tensor:
        storage = a.untyped_storage()
        if storage.data_ptr() not in inputs:
            seen[storage.data_ptr()] = storage.nbytes()
        return a

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda a: a):
        result = run()
    del result
    return sum(seen.values())


def as_line(row: dict[str, Any]) -> str:
    return (
        f"T={row['steps']:5} {row['way']:18} {1e3 * row['seconds']:8.1f} ms ({row['ratio']:.2f})"
        f"  forward steps {row['forward_steps'] / row['steps']:.2f} T  states {row['stored_states']:5}"
        f"  peak {row['peak_bytes'] / 1e6:7.2f} MB  {'same bits' if row['same_bits'] else 'another gradient'}"
    )


if __name__ == "__main__":
    main()
