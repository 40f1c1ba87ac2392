"""One gate at a time: four tasks, each of which needs one gate more, and the cells up to the LSTM.

`python -m benchmarks.gates` trains every cell on every task and writes results/gates.json after each run;
started again, it goes on where it stopped.  The page "One gate at a time" trains a part of them by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.__main__ import cpu_name
from benchmarks.log import Log
from coursekit import recurrent
from coursekit.cells import initial_lstm_weights, initial_weights
from coursekit.clipping import clip_norm
from coursekit.optim import Adam, cosine

RESULTS = Path(__file__).parent / "results" / "gates.json"
LENGTH, EARLY, UNITS, BATCH, UPDATES, CLIP, TEST = 50, 10, 2, 32, 400, 1.0, 1000
ASKED, MARKED = 0.2, 0.1  # how often a question, and in a stream a mark, comes
SEEDS = tuple(range(10))
LARGE = {"units": 8, "updates": 1200}  # does more of everything help?
TASKS = ("hold", "pick", "ask", "stream")

Weights = dict[str, np.ndarray]


class Cell(NamedTuple):
    """What there is in a cell: gates as in LSTMCell, None for the plain net; and how its training starts."""

    gates: str | None
    rate: float = 0.03
    forget_bias: float = 4.0
    recurrent: str = "orthogonal"


CELLS = {
    "plain, as torch": Cell(None, recurrent="uniform"),
    "plain, rotation": Cell(None),
    "carousel": Cell("", rate=0.01),
    "input gate": Cell("i"),
    "and output gate": Cell("io"),
    "and forget gate": Cell("ifo"),
    "forget bias 1": Cell("ifo", forget_bias=1.0),
}
LARGER = (
    ("plain, rotation", "hold"),
    ("input gate", "ask"),
    ("and output gate", "ask"),
    ("and output gate", "stream"),
    ("and forget gate", "stream"),
)


class Examples(NamedTuple):
    """x (T N 3): a number, whether it is marked, whether a question is asked.

    target (T N 1): what is to be said.   counted (T N 1): 1 where the answer counts, else 0.
    """

    x: np.ndarray
    target: np.ndarray
    counted: np.ndarray


def draw(task: str, count: int, rng: np.random.Generator, length: int = LENGTH) -> Examples:
    """Sequences of a task.  Numbers are uniform between -1 and 1; the one to say is the last marked one.

    hold: the marked number, at one of the first EARLY steps, is the only one; to be said at the end.
    pick: other numbers at every other step.   ask: to be said whenever asked, and 0 otherwise.
    stream: the same, with new marks all the time.
    """
    shape = length, count
    number, marked = rng.uniform(-1, 1, shape), np.zeros(shape)
    if task == "stream":
        marked[:] = rng.random(shape) < MARKED
        marked[0] = 1
    else:
        marked[rng.integers(0, EARLY, count), np.arange(count)] = 1
    if task == "hold":
        number *= marked
    asked = np.zeros(shape)
    if task in ("ask", "stream"):
        asked[:] = rng.random(shape) < ASKED
        asked[0] = 0
    asked[-1] = 1
    last = np.maximum.accumulate(np.where(marked == 1, np.arange(length)[:, None], -1))
    held = np.where(last >= 0, np.take_along_axis(number, np.maximum(last, 0), axis=0), 0)
    counted = asked if task in ("hold", "pick") else np.ones(shape)
    return Examples(np.stack([number, marked, asked], -1), (held * asked)[..., None], counted[..., None])


def start(cell: str, units: int, rng: np.random.Generator) -> Weights:
    """Weights of a cell and of what reads it.  A gated cell starts with w = 0 and input gates nearly shut."""
    gates, _, forget_bias, first = CELLS[cell]
    if gates is None:
        weights = initial_weights(3, units, recurrent=first, rng=rng, dtype="float64")
    else:
        options = {"gates": gates, "forget_bias": forget_bias}
        weights = initial_lstm_weights(3, units, gain=0.0, rng=rng, dtype="float64", **options)
        if "i" in gates:
            weights["b"][:units] = -2
    return weights | {"v": rng.normal(size=(units, 1)) / units**0.5, "c": np.zeros(1)}


def run(cell: str, weights: Weights, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
    """The answers h v + c at every step, h, and the cache."""
    own = {name: weights[name] for name in "uwb"}
    gates = CELLS[cell].gates
    forward = recurrent.rnn_forward if gates is None else recurrent.lstm_forward
    h, cache = forward(x, **own, **({} if gates is None else {"gates": gates}))
    return h @ weights["v"] + weights["c"], h, cache


def gradients(cell: str, weights: Weights, batch: Examples) -> Weights:
    """Of the mean squared error of the answers that count."""
    answer, h, cache = run(cell, weights, batch.x)
    error = 2 * (answer - batch.target) * batch.counted / batch.counted.sum()
    backward = recurrent.rnn_backward if CELLS[cell].gates is None else recurrent.lstm_backward
    found = backward(error @ weights["v"].T, cache, inputs=False)
    dv = np.einsum("tnu,tnk->uk", h, error)
    return {"u": found.du, "w": found.dw, "b": found.db, "v": dv, "c": error.sum((0, 1))}


def train(
    task: str,
    cell: str,
    seed: int,
    *,
    units: int = UNITS,
    updates: int = UPDATES,
) -> Weights:
    """Adam on new sequences at every update, the gradient clipped.

    The learning rate falls along half a cosine.
    """
    rng = np.random.default_rng([seed, TASKS.index(task)])
    weights = start(cell, units, rng)
    optimiser, schedule = Adam(CELLS[cell].rate), cosine()
    for update in range(updates):
        found = gradients(cell, weights, draw(task, BATCH, rng))
        clipped, _ = clip_norm(found, CLIP)
        factor = schedule(update, updates)
        optimiser.step(weights, clipped, factor=factor)
    return weights


def error(task: str, cell: str, weights: Weights) -> float:
    """Mean squared error on new sequences, as a multiple of the best constant answer's."""
    examples = draw(task, TEST, np.random.default_rng(1))
    return _score(run(cell, weights, examples.x)[0], examples)


def late_error(cell: str, weights: Weights) -> float:
    """The same on the second half of streams that are 40 times as long as those of the training."""
    examples = draw("stream", 16, np.random.default_rng(5), 40 * LENGTH)
    answer, _, _ = run(cell, weights, examples.x)
    half = slice(20 * LENGTH, None)
    return _score(answer[half], Examples(*(a[half] for a in examples)))


def _score(answer: np.ndarray, examples: Examples) -> float:
    _, target, counted = examples
    constant = (target * counted).sum() / counted.sum()
    return float((counted * (answer - target) ** 2).sum() / (counted * (constant - target) ** 2).sum())


def runs() -> Iterator[dict[str, Any]]:
    """Every run of the table: cell, task, units, updates and seed."""
    usual = {"units": UNITS, "updates": UPDATES}
    for task in TASKS:
        for cell in CELLS:
            yield from ({"cell": cell, "task": task, **usual, "seed": seed} for seed in SEEDS)
    for cell, task in LARGER:
        yield from ({"cell": cell, "task": task, **LARGE, "seed": seed} for seed in SEEDS)


def conditions() -> dict[str, Any]:
    """All that the numbers depend on."""
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "clock": "CPU time of the process",
        "versions": {"numpy": np.__version__},
        "settings": {
            "length": LENGTH, "early": EARLY, "asked": ASKED, "marked": MARKED, "batch": BATCH, "clip": CLIP,
            "test": TEST, "units": UNITS, "updates": UPDATES, "large": LARGE, "seeds": list(SEEDS),
            "cells": {name: list(cell) for name, cell in CELLS.items()},
        },
    }  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.gates", description=__doc__).parse_args()
    log = Log(RESULTS, conditions())
    for name in runs():
        if log.has(name):
            continue
        clock = time.process_time()
        own = {key: name[key] for key in ("units", "updates")}
        weights = train(name["task"], name["cell"], name["seed"], **own)
        seconds = round(time.process_time() - clock, 2)
        found = {"error": error(name["task"], name["cell"], weights), "seconds": seconds}
        if name["task"] == "stream":
            found["late_error"] = late_error(name["cell"], weights)
        log.add(name | found)
        print(*name.values(), found["error"], flush=True)


if __name__ == "__main__":
    main()
