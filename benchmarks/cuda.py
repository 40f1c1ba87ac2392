"""LSTMs on a GPU: cuDNN, the loop under autograd, the hand-written backward, and that as one CUDA graph.

Writes results/cuda.json: medians of wall-clock seconds, and ratios to torch.nn.LSTM, after checking that all
give the same numbers in float32 without TF32.  Needs a GPU.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.__main__ import conditions
from coursekit import nn

RESULTS = Path(__file__).parent / "results" / "cuda.json"
# steps, sequences, features, units
SIZES = {"small": (100, 32, 64, 128), "wide": (50, 20, 65, 512), "long": (1024, 16, 768, 768)}
ROUNDS = 15
VARIANTS = {"peepholes": {"peepholes": True}, "f = 1 - i": {"coupled": "input"}}


def train(module: torch.nn.Module, x: torch.Tensor, dh: torch.Tensor) -> list[torch.Tensor]:
    """Outputs and all gradients."""
    h, _ = module(x)
    return [h, *torch.autograd.grad(h, [x, *module.parameters()], dh)]


def graphed(module: torch.nn.Module, x: torch.Tensor, dh: torch.Tensor):
    """The same work recorded once as a CUDA graph; calling it replays the record."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train(module, x, dh)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = train(module, x, dh)

    def replay() -> list[torch.Tensor]:
        graph.replay()
        return results

    return replay


def seconds(run) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def contest(sizes: tuple[int, int, int, int]) -> dict[str, Any]:
    T, N, D, U = sizes
    torch.manual_seed(0)
    layer = torch.nn.LSTM(D, U, device="cuda")
    x, dh = torch.randn(T, N, D, device="cuda", requires_grad=True), torch.randn(T, N, U, device="cuda")
    by_hand = nn.LSTM.from_torch(layer)
    runs = {
        "torch": partial(train, layer, x, dh),
        "by hand": partial(train, by_hand, x, dh),
        "autograd": partial(train, nn.LSTM.from_torch(layer, hand_written=False), x, dh),
        "by hand, CUDA graph": graphed(by_hand, x, dh),
    }
    expected = runs["torch"]()
    errors = {}
    for name, run in runs.items():
        pairs = zip(run(), expected, strict=True)
        errors[name] = max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)
        if not errors[name] < 1e-3:
            raise AssertionError(f"{name} is off by {errors[name]:.1e}")
    runs |= {
        name: partial(train, nn.LSTM(D, U, device="cuda", **own), x, dh) for name, own in VARIANTS.items()
    }
    times = [{name: seconds(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    return {
        "work": f"T={T}, N={N}, D={D}, U={U}",
        "seconds": {name: median(row[name] for row in times) for name in runs},
        "ratio": {name: median(row[name] / row["torch"] for row in times) for name in runs},
        "largest_relative_error": errors,
    }


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.cuda: no GPU here, nothing measured")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = {name: contest(sizes) for name, sizes in SIZES.items()}
    for name, result in found.items():
        print(name, {k: round(v, 2) for k, v in result["ratio"].items()})
    hardware = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    report = conditions(0) | {"clock": "wall, synchronised", "rounds": ROUNDS} | hardware
    RESULTS.write_text(json.dumps(report | {"contests": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
