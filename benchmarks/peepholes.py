"""Count the gap with small LSTMs that differ in their peepholes alone.

`python -m benchmarks.peepholes` trains the nets of `runs` and writes results/peepholes.json after each;
started again, it goes on where it stopped.  All peepholes start at zero: nets of one seed start alike.
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
from coursekit import clipping, optim, recurrent
from coursekit.cells import initial_lstm_weights
from coursekit.data import sequences
from coursekit.losses import (
    cross_entropy_backward,
    cross_entropy_forward,
    mean_squared_error_backward,
    mean_squared_error_forward,
)

RESULTS = Path(__file__).parent / "results" / "peepholes.json"
SEEDS = (0, 1, 2, 3, 4)
UPDATES, BATCH, CLIP, TEST, EVERY = 1000, 32, 1.0, 1000, 50


class Setting(NamedTuple):
    """What a net learns, and with what.

    ask, gap: the task, in sequences as long as three gaps.   units: of the LSTM.
    peepholes: the factor by which they learn more slowly than the rest; 0 for an LSTM without them.
    rate: Adam's, constant for half of the updates and then falling to zero.
    """

    ask: str = "moment"
    gap: int = 20
    units: int = 2
    peepholes: float = 0.0
    rate: float = 0.1

    def draw(self, count: int, rng: np.random.Generator) -> sequences.Sequences:
        return sequences.count_the_gap(count, 3 * self.gap, self.gap, ask=self.ask, rng=rng)


SHOWN = Setting(), Setting(peepholes=0.01)


def start(setting: Setting, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters of the LSTM, and of the linear layer that answers from its hidden state."""
    outputs = 2 if setting.ask == "moment" else 1
    v = rng.normal(size=(setting.units, outputs)) / setting.units**0.5
    answer = {"v": v.astype("float32"), "c": np.zeros(outputs, "float32")}
    return initial_lstm_weights(1, setting.units, peepholes=setting.peepholes > 0, rng=rng), answer


def loss_and_gradient(answer: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over all steps: the cross-entropy of classes, in nats, or the squared error of numbers."""
    if np.issubdtype(target.dtype, np.floating):
        loss, cache = mean_squared_error_forward(answer, target)
        return float(loss), mean_squared_error_backward(cache)
    loss, cache = cross_entropy_forward(answer.reshape(-1, 2), target.reshape(-1))
    return float(loss), cross_entropy_backward(cache).reshape(answer.shape)


def learn(
    setting: Setting, rng: np.random.Generator, *, updates: int = UPDATES
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[float]]:
    """Train on new sequences: weights of the LSTM and of the answer, and the loss of every EVERY-th batch."""
    weights, answer = start(setting, rng)
    own, slower = optim.Adam(setting.rate), optim.Adam(setting.rate * setting.peepholes)
    curve = []
    for update in range(updates):
        x, target, _ = setting.draw(BATCH, rng)
        h, cache = recurrent.lstm_forward(x, **weights)
        loss, dy = loss_and_gradient(h @ answer["v"] + answer["c"], target)
        by_weight = recurrent.lstm_backward(dy @ answer["v"].T, cache, inputs=False)
        gradients = {name: getattr(by_weight, f"d{name}") for name in weights}
        gradients |= {"v": np.tensordot(h, dy, ((0, 1), (0, 1))), "c": dy.sum((0, 1))}
        gradients, _ = clipping.clip_norm(gradients, CLIP)
        fall = min(1.0, 2 * (updates - update) / updates)
        if "p" in weights:
            slower.step({"p": weights["p"]}, {"p": gradients.pop("p")}, factor=fall)
        own.step({name: (weights | answer)[name] for name in gradients}, gradients, factor=fall)
        if update % EVERY == 0:
            curve.append(float(f"{loss:.3g}"))
    return weights, answer, curve


def train(setting: Setting, seed: int, *, updates: int = UPDATES) -> dict[str, Any]:
    """Train and test one net.

    loss: on TEST new sequences.   chance: of the best constant answer.   wrong: share of the sequences with a
    step at which the answer is wrong, or off by more than half a step.   curve: as in learn.
    states: as after_a_spike gives them, in the two settings that the page looks into.
    """
    rng, clock = np.random.default_rng(seed), time.process_time()
    weights, answer, curve = learn(setting, rng, updates=updates)
    seconds = round(time.process_time() - clock, 2)
    x, target, chance = setting.draw(TEST, rng)
    said = recurrent.lstm_forward(x, **weights)[0] @ answer["v"] + answer["c"]
    loss, _ = loss_and_gradient(said, target)
    if setting.ask == "moment":
        off = said.argmax(axis=2) != target
    else:
        off = np.abs(said - target)[..., 0] > 0.5 / (2 * setting.gap)
    result = {"loss": float(f"{loss:.4g}"), "chance": chance.constant, "wrong": float(off.any(axis=0).mean())}
    result |= {"seconds": seconds, "curve": curve}
    return result | ({"states": after_a_spike(setting, weights)} if setting in SHOWN else {})


def after_a_spike(setting: Setting, weights: dict[str, np.ndarray]) -> list[list[float]]:
    """Cell state of every unit at a spike, the second one, and for one and a half gaps after it."""
    second, length = setting.gap // 2 + 1, 2 * setting.gap + 2
    x = np.zeros((length, 1, 1), "float32")
    x[[0, second]] = 1
    c = recurrent.lstm_forward(x, **weights)[1].states.c[second + 1 :, 0]
    return [[float(f"{value:.3g}") for value in unit] for unit in c.T]


def runs() -> Iterator[tuple[Setting, int]]:
    """Every run: by gap and the rate of the peepholes, by question, by units, by the rate of all."""
    settings = [Setting(peepholes=factor) for factor in (0, 0.01, 0.03)]
    settings += [Setting(gap=10, peepholes=factor) for factor in (0, 0.01, 0.03, 0.1, 1)]
    settings += [Setting(ask="interval", peepholes=factor) for factor in (0, 0.01)]
    settings += [Setting(units=units, peepholes=factor) for units in (4, 1, 8) for factor in (0, 0.01)]
    settings += [Setting(rate=rate, peepholes=factor) for rate in (0.03, 0.3) for factor in (0, 0.01)]
    settings += [Setting(peepholes=factor) for factor in (0.1, 1)]
    yield from ((setting, seed) for setting in settings for seed in SEEDS)


def conditions() -> dict[str, Any]:
    """All that the numbers depend on beside the settings of a run."""
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "clock": "CPU time of the process",
        "versions": {"numpy": np.__version__},
        "settings": {"updates": UPDATES, "batch": BATCH, "clip": CLIP, "test": TEST, "every": EVERY},
    }


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.peepholes", description=__doc__).parse_args()
    log = Log(RESULTS, conditions())
    for setting, seed in runs():
        name = setting._asdict() | {"seed": seed}
        if log.has(name):
            continue
        log.add(name | train(setting, seed))
        print(*log.runs[-1].values(), flush=True)


if __name__ == "__main__":
    main()
