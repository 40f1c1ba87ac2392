"""Which parts of a gated cell matter: one part taken away at a time, two tasks, many starts.

`python -m benchmarks.ablation` writes results/ablation.json after each run; started again, it goes on where
it stopped.  Every variant first chooses its learning rate on a few starts, and is then judged on others.  All
runs of a task have equally many steps, and runs of one seed see the same sequences in the same order.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.__main__ import cpu_name
from benchmarks.log import Log
from coursekit.cells import (
    GRUCell,
    LSTMCell,
    RNNCell,
    initial_gru_weights,
    initial_lstm_weights,
    initial_weights,
)
from coursekit.clipping import clip_norm
from coursekit.data import folder, sequences
from coursekit.losses import cross_entropy_backward, cross_entropy_forward, error_rate
from coursekit.optim import Adam
from coursekit.recurrent import unroll, unroll_backward

RESULTS = Path(__file__).parent / "results" / "ablation.json"
UNITS, BATCH, CLIP = 32, 32, 1.0
RATES = (0.001, 0.004, 0.016)
TRIALS = (100, 101, 102)  # seeds that choose a rate
SEEDS = tuple(range(10))  # seeds that judge it
SHAKESPEARE = "tinyshakespeare.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
Parameters = dict[str, np.ndarray]


# ------------------------------------------------------------------------------------------------- variants


class Variant(NamedTuple):
    """A cell, and how its weights start.

    draw: (features, units, rng) -> its weights.   cell: weights -> the cell.
    as_large: with as many units as the reference has numbers for, instead of UNITS.
    """

    draw: Callable[..., Parameters]
    cell: Callable[..., Any]
    as_large: bool = False


def lstm(
    *, forget_bias: float = 1.0, peepholes: bool = False, activations: tuple = (), **blocks: Any
) -> Variant:
    """An LSTM.   blocks: gates or coupled, as in LSTMCell."""
    functions = {"activations": activations} if activations else {}

    def draw(features: int, units: int, rng: np.random.Generator) -> Parameters:
        start = {"forget_bias": forget_bias, "peepholes": peepholes}
        return initial_lstm_weights(features, units, rng=rng, **start, **blocks)

    return Variant(draw, lambda **weights: LSTMCell(**weights, **blocks, **functions))


def gru(*, reset: str = "after", update_bias: float = 0.0) -> Variant:
    """A GRU.   update_bias: offsets that the gate that keeps the state starts with."""

    def draw(features: int, units: int, rng: np.random.Generator) -> Parameters:
        # with one bias, so that both forms start with the same numbers
        drawn = initial_gru_weights(features, units, reset="before", rng=rng)
        drawn["b"][units : 2 * units] = update_bias
        return drawn

    return Variant(draw, lambda **weights: GRUCell(**weights, reset=reset))


def plain() -> Variant:
    """The tanh net."""
    return Variant(lambda features, units, rng: initial_weights(features, units, rng=rng), RNNCell)


REFERENCE = "LSTM"
VARIANTS = {
    REFERENCE: lstm(),
    "forget bias 0": lstm(forget_bias=0.0),
    "no input gate": lstm(gates="fo"),
    "no forget gate": lstm(gates="io"),
    "no output gate": lstm(gates="if"),
    "no input activation": lstm(activations=("sigmoid", "identity", "tanh")),
    "no output activation": lstm(activations=("sigmoid", "tanh", "identity")),
    "coupled, f = 1 - i": lstm(coupled="input"),
    "peepholes": lstm(peepholes=True),
    "GRU, reset after": gru(),
    "GRU, reset before": gru(reset="before"),
    "GRU, update bias 1": gru(update_bias=1.0),
    "tanh RNN": plain(),
}
for _name in ("coupled, f = 1 - i", "GRU, reset after", "tanh RNN"):
    VARIANTS[f"{_name}, as large"] = VARIANTS[_name]._replace(as_large=True)


def units_of(variant: Variant, features: int) -> int:
    """UNITS, or the most units with which the variant is no larger than the reference."""
    if not variant.as_large:
        return UNITS
    rng = np.random.default_rng(0)
    limit = count(VARIANTS[REFERENCE].draw(features, UNITS, rng))
    larger = UNITS
    while count(variant.draw(features, larger + 1, rng)) <= limit:
        larger += 1
    return larger


def count(parameters: Parameters) -> int:
    return sum(p.size for p in parameters.values())


# ---------------------------------------------------------------------------------------------------- tasks


class Task(NamedTuple):
    """Mini-batches to train on and sequences to be judged by.

    batches: (rng) -> endless (x, labels, whether the states go on from the batch before).
    test: -> batches of the same kind.   measure: name of what is judged, small is good.   chance: what a net
    gets that has learnt nothing.
    """

    features: int
    classes: int
    steps: int
    batches: Callable[[np.random.Generator], Iterator[tuple[np.ndarray, np.ndarray, bool]]]
    test: Callable[[], Iterator[tuple[np.ndarray, np.ndarray, bool]]]
    measure: str
    chance: float


ORDER_LENGTH = 50


def order_batches(rng: np.random.Generator, sequences_each: int = BATCH) -> Iterator[tuple]:
    while True:
        x, labels, _ = sequences.temporal_order(sequences_each, ORDER_LENGTH, rng=rng)
        yield x, labels, False


def order_test() -> Iterator[tuple]:
    yield next(order_batches(np.random.default_rng(12345), 1000))


WINDOW = 32  # steps of the text that a gradient goes back


@cache
def text() -> tuple[str, str]:
    """The text and its name: Shakespeare where it can be had, else modules of Python's own library."""
    name, expected = SHAKESPEARE
    path = folder() / name
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == expected:
        return path.read_text("utf8"), name
    modules = (argparse, json, hashlib)
    return "".join(Path(m.__file__).read_text("utf8") for m in modules), f"Python {platform.python_version()}"


@cache
def symbols() -> tuple[np.ndarray, int]:
    """The text as numbers, and how many different ones."""
    characters = np.array(list(text()[0]))
    alphabet, numbers = np.unique(characters, return_inverse=True)
    return numbers, len(alphabet)


def windows(numbers: np.ndarray, streams: int, start: int = 0) -> Iterator[tuple]:
    """The text in so many streams side by side, window by window, for ever if it is not stopped."""
    _, classes = symbols()
    length = len(numbers) // streams
    side_by_side = numbers[: length * streams].reshape(streams, length).T
    scaled = (np.sqrt(classes) * np.eye(classes)).astype("float32")  # mean square 1
    first = True
    while True:
        for t in range(start, length - WINDOW - 1, WINDOW):
            seen, wanted = (side_by_side[t + i : t + i + WINDOW] for i in (0, 1))
            yield scaled[seen], wanted, not first
            first = False
        start, first = 0, True


def text_batches(rng: np.random.Generator) -> Iterator[tuple]:
    numbers, _ = symbols()
    train = numbers[: len(numbers) * 9 // 10]
    yield from windows(train, BATCH, int(rng.integers(len(train) // BATCH // 2)))


def text_test() -> Iterator[tuple]:
    numbers, _ = symbols()
    held_out = numbers[len(numbers) * 9 // 10 :][:32_000]
    streams = 100
    batches = windows(held_out, streams)
    for _ in range((len(held_out) // streams - 2) // WINDOW):
        yield next(batches)


@cache
def tasks() -> dict[str, Task]:
    classes = symbols()[1]
    return {
        "temporal order": Task(6, 4, 500, order_batches, order_test, "wrong answers", 0.75),
        "text": Task(
            classes, classes, 500, text_batches, text_test, "nats per character", float(np.log(classes))
        ),
    }


# ------------------------------------------------------------------------------------------------- training


class Reader:
    """A recurrent layer and a linear readout: of its last state if there is one label for each sequence."""

    def __init__(self, variant: Variant, features: int, classes: int, rng: np.random.Generator) -> None:
        self.build, units = variant.cell, units_of(variant, features)
        self.parameters = variant.draw(features, units, rng)
        self.own, self.size = tuple(self.parameters), count(self.parameters)
        self.parameters["v"] = (rng.standard_normal((units, classes)) / np.sqrt(units)).astype("float32")
        self.parameters["c"] = np.zeros(classes, "float32")

    def run(self, x: np.ndarray, labels: np.ndarray, state: Any) -> tuple[Any, np.ndarray, Any, np.ndarray]:
        """Last state, scores, cache and labels, one row for each label."""
        cell = self.build(**{name: self.parameters[name] for name in self.own})
        h, last, trace = unroll(cell, x, state)
        read = h[-1] if labels.ndim == 1 else h.reshape(-1, h.shape[-1])
        return last, read @ self.parameters["v"] + self.parameters["c"], (trace, read), labels.ravel()

    def gradients(self, dscores: np.ndarray, cache: Any) -> Parameters:
        trace, read = cache
        h = trace.states[0][1:]
        dread = dscores @ self.parameters["v"].T
        if len(read) == h.shape[1]:
            dh = np.zeros_like(h)
            dh[-1] = dread
        else:
            dh = dread.reshape(h.shape)
        by_cell, _ = unroll_backward(dh, trace, inputs=False)
        found = {name: getattr(by_cell, f"d{name}") for name in self.own}
        return found | {"v": read.T @ dscores, "c": dscores.sum(axis=0)}


def train(name: str, variant: str, rate: float, seed: int, *, steps: int | None = None) -> dict[str, Any]:
    """Train one net, and judge it.   steps: other than the task's.

    A net whose loss is no longer a number is judged as one that has learnt nothing.
    """
    task = tasks()[name]
    net = Reader(VARIANTS[variant], task.features, task.classes, np.random.default_rng([seed, 0]))
    optimiser, batches = Adam(rate), task.batches(np.random.default_rng([seed, 1]))
    start, state = time.process_time(), None
    for _, (x, labels, goes_on) in zip(range(steps or task.steps), batches, strict=False):
        state, scores, cache, wanted = net.run(x, labels, state if goes_on else None)
        loss, back = cross_entropy_forward(scores, wanted)
        if not np.isfinite(loss):
            break
        gradients = net.gradients(cross_entropy_backward(back), cache)
        optimiser.step(net.parameters, clip_norm(gradients, CLIP).gradients)
    seconds = time.process_time() - start
    result = judge(task, net) if np.isfinite(loss) else task.chance
    return {"result": result, "parameters": net.size, "seconds": round(seconds, 2)}


def judge(task: Task, net: Reader) -> float:
    """Mean over all labels of what the task is judged by."""
    state, total, labelled = None, 0.0, 0
    for x, labels, goes_on in task.test():
        state, scores, _, wanted = net.run(x, labels, state if goes_on else None)
        if task.measure == "wrong answers":
            total += error_rate(scores, wanted) * len(wanted)
        else:
            total += float(cross_entropy_forward(scores, wanted, reduction="sum")[0])
        labelled += len(wanted)
    return total / labelled


# ------------------------------------------------------------------------------------------------ all of it


def trials() -> Iterator[dict[str, Any]]:
    """The runs that choose a rate for every variant on every task."""
    for task in tasks():
        for variant in VARIANTS:
            for rate in RATES:
                yield from ({"task": task, "variant": variant, "rate": rate, "seed": s} for s in TRIALS)


def best_rate(done: list[dict[str, Any]], task: str, variant: str) -> float:
    """The rate whose trials were best on average; of equals the smallest."""
    wanted = {"task": task, "variant": variant}
    tried = [run for run in done if wanted.items() <= run.items() and run["seed"] in TRIALS]
    return min(RATES, key=lambda rate: np.mean([run["result"] for run in tried if run["rate"] == rate]))


def finals(done: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The runs that are judged: new seeds, at the rate that the trials chose."""
    for task in tasks():
        for variant in VARIANTS:
            rate = best_rate(done, task, variant)
            yield from ({"task": task, "variant": variant, "rate": rate, "seed": s} for s in SEEDS)


def conditions() -> dict[str, Any]:
    """All that the numbers depend on."""
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "clock": "CPU time of the process",
        "versions": {"numpy": np.__version__},
        "settings": {
            "units": UNITS, "batch": BATCH, "clip": CLIP, "rates": list(RATES), "optimiser": "Adam",
            "trials": list(TRIALS), "seeds": list(SEEDS), "variants": list(VARIANTS),
            "steps": {name: task.steps for name, task in tasks().items()},
            "measures": {name: task.measure for name, task in tasks().items()},
            "chance": {name: task.chance for name, task in tasks().items()},
            "length": ORDER_LENGTH, "window": WINDOW, "text": text()[1],
        },
    }  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__).parse_args()
    log = Log(RESULTS, conditions())
    for planned in (trials, lambda: finals(log.runs)):
        for run in planned():
            if log.has(run):
                continue
            log.add(run | train(run["task"], run["variant"], run["rate"], run["seed"]))
            print(*log.runs[-1].values(), flush=True)


if __name__ == "__main__":
    main()
