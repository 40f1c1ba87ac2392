"""Three tasks with a long lag, five recurrent nets trained for equal CPU time, and two baselines.

`python -m benchmarks.long_lag` trains every net of the table and writes results/long_lag.json after each run;
started again, it goes on where it stopped.  Each run has its budget in seconds of CPU time on one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.__main__ import cpu_name
from benchmarks.log import Log
from coursekit.data import sequences

RESULTS = Path(__file__).parent / "results" / "long_lag.json"
UNITS, BATCH, CLIP, TEST = 64, 64, 1.0, 2000
SOLVED = 0.01  # mean squared error, or share of wrong answers
SEEDS = (0, 1, 2)
GUESSING = "weight guessing"


class Task(NamedTuple):
    """Sequences to draw, how many numbers a net answers with, and the CPU seconds that a run may take."""

    draw: Callable[..., sequences.Sequences]
    outputs: int
    budget: dict[int, float]  # by length


class Cell(NamedTuple):
    """A recurrent layer of torch, and for each task the best of a few learning rates that were tried."""

    build: Callable[[int, int], nn.Module]
    rates: dict[str, float]  # by task


TASKS = {
    "adding": Task(sequences.adding, 1, {50: 9, 100: 18}),
    "temporal order": Task(sequences.temporal_order, 4, {50: 7, 100: 10}),
    "parity": Task(sequences.parity, 2, {50: 3, 100: 3}),
}
GUESSING_SECONDS = 3


def plain(features: int, units: int) -> nn.Module:
    """A tanh net as torch starts it: weights uniform within one over the root of units."""
    return nn.RNN(features, units)


def orthogonal(features: int, units: int) -> nn.Module:
    """A tanh net whose recurrent matrix starts as a random rotation."""
    net = nn.RNN(features, units)
    nn.init.orthogonal_(net.weight_hh_l0)
    return net


def identity_relu(features: int, units: int) -> nn.Module:
    """Rectifiers whose recurrent matrix starts as the identity, after le2015simple."""
    net = nn.RNN(features, units, nonlinearity="relu")
    nn.init.eye_(net.weight_hh_l0)
    nn.init.normal_(net.weight_ih_l0, std=0.001)
    for offset in (net.bias_ih_l0, net.bias_hh_l0):
        nn.init.zeros_(offset)
    return net


def lstm(features: int, units: int) -> nn.Module:
    """An LSTM whose forget gate starts open: bias 1."""
    net = nn.LSTM(features, units)
    for offset, value in ((net.bias_ih_l0, 1.0), (net.bias_hh_l0, 0.0)):
        nn.init.constant_(offset[units : 2 * units], value)
    return net


def rates(adding: float, order: float, parity: float) -> dict[str, float]:
    return dict(zip(TASKS, (adding, order, parity), strict=True))


CELLS = {
    "tanh": Cell(plain, rates(1e-3, 1e-3, 1e-3)),
    "tanh, orthogonal": Cell(orthogonal, rates(3e-4, 3e-4, 1e-3)),
    "ReLU, identity": Cell(identity_relu, rates(1e-3, 3e-4, 1e-3)),
    "LSTM": Cell(lstm, rates(1e-2, 5e-3, 1e-2)),
    "GRU": Cell(nn.GRU, rates(1e-2, 1e-2, 1e-2)),
}


class Reader(nn.Module):
    """A recurrent layer that reads the sequence, and a linear layer that answers from its last state."""

    def __init__(self, cell: str, features: int, outputs: int, units: int) -> None:
        super().__init__()
        self.recurrent = CELLS[cell].build(features, units)
        self.answer = nn.Linear(units, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.recurrent(x)[0][-1])


def loss_and_error(answer: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Mean squared error twice for numbers, cross-entropy and share of wrong answers for classes."""
    if target.is_floating_point():
        loss = nn.functional.mse_loss(answer, target)
        return loss, loss.item()
    return nn.functional.cross_entropy(answer, target), (answer.argmax(1) != target).float().mean().item()


def train(
    task: str,
    length: int,
    cell: str,
    seed: int,
    *,
    budget: float,
    units: int = UNITS,
) -> dict[str, Any]:
    """Train on new sequences until the error is below SOLVED.

    budget: seconds of CPU time, after which training stops anyway.
    """
    torch.manual_seed(seed)
    draw, outputs, _ = TASKS[task]
    rng = np.random.default_rng([seed, length])

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, target, _ = draw(count, length, rng=rng)
        return torch.from_numpy(x), torch.from_numpy(target)

    net = Reader(cell, batch(1)[0].shape[2], outputs, units)
    rate = CELLS[cell].rates[task]
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    start, steps, running = time.process_time(), 0, math.inf
    while running >= SOLVED and time.process_time() - start < budget:
        x, target = batch(BATCH)
        loss, error = loss_and_error(net(x), target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()
        steps += 1
        running = error if steps == 1 else 0.95 * running + 0.05 * error
    seconds = round(time.process_time() - start, 2)
    with torch.no_grad():
        x, target = batch(TEST)
        _, error = loss_and_error(net(x), target)
    ended = {"solved": running < SOLVED, "steps": steps}
    return {"error": error, **ended, "seconds": seconds}


def guess(task: str, length: int, seed: int, *, budget: float) -> dict[str, Any]:
    """Draw tanh nets of two units at random, no training, and keep the best; the same end as for train.

    All weights are uniform between -100 and 100, after hochreiter1996hard.  A net is tried on 24 sequences,
    and on 500 others if none was better there.  steps: nets drawn.
    """
    draw, outputs, _ = TASKS[task]
    rng = np.random.default_rng([seed, length])
    few, many = (draw(count, length, rng=rng) for count in (24, 500))
    start, steps, lowest, best, error = time.process_time(), 0, math.inf, None, math.inf
    while error >= SOLVED and time.process_time() - start < budget:
        nets = random_nets(rng, few.x.shape[2], outputs)
        errors = net_errors(nets, *few[:2])
        steps += len(errors)
        if errors.min() <= lowest:
            lowest, one = errors.min(), int(errors.argmin())
            candidate = [a[one : one + 1] for a in nets]
            if (found := net_errors(candidate, *many[:2])[0]) < error:
                best, error = candidate, found
    seconds = time.process_time() - start
    tested = float(net_errors(best, *draw(TEST, length, rng=rng)[:2])[0])
    return {"error": tested, "solved": bool(error < SOLVED), "steps": steps, "seconds": round(seconds, 2)}


def random_nets(rng: np.random.Generator, features: int, outputs: int) -> list[np.ndarray]:
    """200 nets: u, w, b, v and c, each with one entry per net."""
    shapes = (features, 2), (2, 2), (1, 2), (2, outputs), (1, outputs)
    return [rng.uniform(-100, 100, (200, *shape)).astype("float32") for shape in shapes]


def net_errors(nets: list[np.ndarray], x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The error of every net on these sequences, in one loop over the steps."""
    u, w, b, v, c = nets
    h = np.zeros((len(u), x.shape[1], 2), "float32")
    for step in x:
        h = np.tanh(step @ u + h @ w + b)
    answer = h @ v + c
    if np.issubdtype(target.dtype, np.floating):
        return ((answer - target) ** 2).mean((1, 2))
    return (answer.argmax(-1) != target).mean(1)


def runs() -> Iterator[tuple[str, int, str, int]]:
    """Every run of the table: task, length, net, seed."""
    for task, (_, _, budget) in TASKS.items():
        for length in budget:
            for net in (*CELLS, GUESSING):
                yield from ((task, length, net, seed) for seed in SEEDS)


def conditions() -> dict[str, Any]:
    """All that the numbers depend on, and what is scored without a look at the sequences."""
    chances = {name: task.draw(1, 10, rng=0).chance._asdict() for name, task in TASKS.items()}
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "clock": "CPU time of the process",
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
        "settings": {
            "units": UNITS, "batch": BATCH, "clip": CLIP, "test": TEST, "solved": SOLVED,
            "seeds": list(SEEDS),
            "rates": {name: cell.rates for name, cell in CELLS.items()},
            "guessing_seconds": GUESSING_SECONDS,
            "budgets": {name: {str(T): s for T, s in task.budget.items()} for name, task in TASKS.items()},
        },
        "chance": chances,
    }


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.long_lag", description=__doc__).parse_args()
    torch.set_num_threads(1)
    log = Log(RESULTS, conditions())
    for task, length, net, seed in runs():
        name = {"task": task, "length": length, "net": net, "seed": seed}
        if log.has(name):
            continue
        if net == GUESSING:
            result = guess(task, length, seed, budget=GUESSING_SECONDS)
        else:
            result = train(task, length, net, seed, budget=TASKS[task].budget[length])
        log.add(name | result)
        print(*name.values(), result, flush=True)


if __name__ == "__main__":
    main()
