"""Temporal order over 50 steps, learnt by an LSTM whose forget gate starts at different biases.

`python -m benchmarks.forget_bias` trains one net for every start, bias and seed of the table, five minutes in
all, and writes results/forget_bias.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.__main__ import cpu_name
from benchmarks.long_lag import CLIP, SOLVED, TEST, loss_and_error
from coursekit.data import sequences
from coursekit.nn.recurrent import LSTM

RESULTS = Path(__file__).parent / "results" / "forget_bias.json"
LENGTH, UNITS, BATCH, RATE = 50, 64, 32, 5e-3
UPDATES, EVERY = 1000, 20
# How all the other weights start, and the biases that are tried with it; None is what torch draws.
STARTS = {"uniform": (None, 1.0, 2.0, 3.0, 4.0), "orthogonal": (0.0, 1.0, 2.0, 3.0, 4.0)}
SEEDS = (0, 1, 2, 3, 4)


class Reader(nn.Module):
    """torch's LSTM reads the sequence, and a linear layer answers from its last hidden state.

    start: "uniform", as torch draws, or "orthogonal", as coursekit.cells.initial_lstm_weights does.
    forget_bias: of all units; None leaves what torch draws.
    """

    def __init__(self, start: str, forget_bias: float | None) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(6, UNITS)
        started = LSTM(6, UNITS, init=start, forget_bias=forget_bias)
        self.recurrent.load_state_dict(started.state_dict())
        self.answer = nn.Linear(UNITS, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.recurrent(x)[0][-1])


def train(start: str, forget_bias: float | None, seed: int, *, updates: int = UPDATES) -> dict[str, Any]:
    """Train on new sequences until the running error is below SOLVED, or for so many updates.

    curve: the running error after every EVERY updates.   seconds: of CPU time.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, target, _ = sequences.temporal_order(count, LENGTH, rng=rng)
        return torch.from_numpy(x), torch.from_numpy(target)

    net = Reader(start, forget_bias)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    begun, step, running, curve = time.process_time(), 0, 0.75, []
    while running >= SOLVED and step < updates:
        x, target = batch(BATCH)
        loss, error = loss_and_error(net(x), target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()
        step, running = step + 1, 0.95 * running + 0.05 * error
        if step % EVERY == 0:
            curve.append(round(running, 4))
    seconds = round(time.process_time() - begun, 2)
    with torch.no_grad():
        x, target = batch(TEST)
        _, error = loss_and_error(net(x), target)
    return {
        "error": round(error, 4),
        "solved": running < SOLVED,
        "updates": step,
        "seconds": seconds,
        "curve": curve,
    }


def runs() -> Iterator[tuple[str, float | None, int]]:
    """Every run of the table: start, bias, seed."""
    for start, biases in STARTS.items():
        yield from ((start, bias, seed) for bias in biases for seed in SEEDS)


def conditions() -> dict[str, Any]:
    """All that the numbers depend on."""
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "clock": "CPU time of the process",
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "settings": {
            "task": "temporal order", "length": LENGTH, "units": UNITS, "batch": BATCH, "rate": RATE,
            "clip": CLIP, "test": TEST, "solved": SOLVED, "updates": UPDATES, "seeds": list(SEEDS),
        },
    }  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.forget_bias", description=__doc__).parse_args()
    torch.set_num_threads(1)
    done = []
    for start, bias, seed in runs():
        name = {"start": start, "forget_bias": bias, "seed": seed}
        result = train(start, bias, seed)
        del result["curve"]
        done.append(name | result)
        print(*name.values(), result["error"], result["updates"], result["seconds"], flush=True)
    RESULTS.write_text(json.dumps(conditions() | {"runs": done}, indent=1) + "\n")


if __name__ == "__main__":
    main()
