"""The parity of 50 bits, with and without gradient clipping: ten seeds for each learning rate and limit.

`python -m benchmarks.parity` trains the plain recurrent net of the page on clipping, and torch's LSTM, and
writes results/parity.json after each setting; started again, it goes on where it stopped.  No run is left
out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.__main__ import cpu_name
from coursekit.cells import initial_weights
from coursekit.clipping import clip_norm, clip_value, global_norm
from coursekit.data.sequences import parity
from coursekit.losses import cross_entropy_backward, cross_entropy_forward
from coursekit.optim import SGD
from coursekit.recurrent import (
    rnn_backward,
    rnn_forward,
    sequence_loss_backward,
    sequence_loss_forward,
)

RESULTS = Path(__file__).parent / "results" / "parity.json"
BITS, BATCH, UNITS, MOMENTUM, TEST = 50, 32, 16, 0.9, 2000
SOLVED = 0.99  # share of right answers on new sequences
SEEDS = range(10)


class Setting(NamedTuple):
    """One line of the table.

    clip, limit: kind of clipping and its limit, None without.   asked: after which bits the parity is asked.
    """

    net: str
    rate: float
    clip: str
    limit: float | None
    steps: int = 2000
    asked: str = "every"


def settings() -> Iterator[Setting]:
    for rate in (0.01, 0.03, 0.1, 0.2, 0.3, 0.5):
        yield Setting("plain", rate, "none", None)
        yield Setting("plain", rate, "norm", 0.3)
    for limit in (0.03, 0.1, 1.0, 3.0):
        yield Setting("plain", 0.2, "norm", limit)
    for limit in (0.01, 0.03, 0.1, 0.3):
        yield Setting("plain", 0.2, "value", limit)
    for limit in (0.03, 0.1, 0.3):
        yield Setting("plain", 0.2, "each array", limit)
    for rate in (0.01, 0.03):
        yield Setting("LSTM", rate, "none", None)
        yield Setting("LSTM", rate, "norm", 1.0)
    yield Setting("plain", 0.03, "none", None, steps=8000)
    yield Setting("plain", 0.03, "norm", 0.3, steps=8000)
    yield Setting("plain", 0.2, "none", None, asked="last")
    yield Setting("plain", 0.2, "norm", 0.3, asked="last")


def clip_each(gradients: dict[str, np.ndarray], limit: float) -> tuple[dict[str, np.ndarray], float]:
    """What clipping by norm is not: every array on its own."""
    return {name: clip_norm(g, limit).gradients for name, g in gradients.items()}, global_norm(gradients)


CLIPS: dict[str, Callable] = {
    "none": lambda gradients, limit: clip_norm(gradients, math.inf),
    "norm": clip_norm,
    "value": clip_value,
    "each array": clip_each,
}


def train_plain(setting: Setting, seed: int) -> dict[str, float]:
    """Train coursekit's tanh net with SGD; test its answer after the last bit."""
    rng = np.random.default_rng(seed)
    p = initial_weights(1, UNITS, rng=rng)
    p["v"] = rng.normal(size=(UNITS, 2)).astype("float32") / math.sqrt(UNITS)
    p["c"] = np.zeros(2, "float32")
    optimiser, log = SGD(setting.rate, MOMENTUM), []
    for _ in range(setting.steps):
        x, target, _ = parity(BATCH, BITS, rng=rng, running=True)
        loss, g = gradients_of(p, x, target, setting.asked)
        clipped, norm = CLIPS[setting.clip](g, setting.limit)
        optimiser.step(p, clipped)
        log.append((float(loss), norm, global_norm(clipped) < (1 - 1e-6) * norm))
    x, target, _ = parity(TEST, BITS, rng=rng)
    h, _ = rnn_forward(x, p["u"], p["w"], p["b"])
    right = (h[-1] @ p["v"] + p["c"]).argmax(1) == target
    return summary(right.mean(), log)


def gradients_of(
    p: dict[str, np.ndarray], x: np.ndarray, target: np.ndarray, asked: str
) -> tuple[float, dict[str, np.ndarray]]:
    """Cross-entropy of the answers that are asked for, and its gradients."""
    if asked == "every":
        loss, cache = sequence_loss_forward(x, target, **p)
        g = sequence_loss_backward(cache)
        return loss, {name: getattr(g, f"d{name}") for name in p}
    h, cache = rnn_forward(x, p["u"], p["w"], p["b"])
    loss, surprise = cross_entropy_forward(h[-1] @ p["v"] + p["c"], target[-1])
    dz = cross_entropy_backward(surprise)
    g = rnn_backward(np.zeros_like(h), cache, dlast=dz @ p["v"].T)
    return loss, {"u": g.du, "w": g.dw, "b": g.db, "v": h[-1].T @ dz, "c": dz.sum(axis=0)}


def train_lstm(setting: Setting, seed: int) -> dict[str, float]:
    """The same task for torch's LSTM of 32 units with Adam."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    lstm, out = torch.nn.LSTM(1, 32), torch.nn.Linear(32, 2)
    parameters = [*lstm.parameters(), *out.parameters()]
    optimiser, log, limit = torch.optim.Adam(parameters, setting.rate), [], setting.limit or math.inf
    for _ in range(setting.steps):
        x, target, _ = parity(BATCH, BITS, rng=rng, running=True)
        z = out(lstm(torch.from_numpy(x))[0])
        loss = torch.nn.functional.cross_entropy(z.flatten(0, 1), torch.from_numpy(target).flatten())
        optimiser.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        optimiser.step()
        log.append((loss.item(), norm, norm > limit))
    x, target, _ = parity(TEST, BITS, rng=rng)
    with torch.no_grad():
        right = out(lstm(torch.from_numpy(x))[0][-1]).argmax(1).numpy() == target
    return summary(right.mean(), log)


def summary(right: float, log: list[tuple[float, float, bool]]) -> dict[str, float | None]:
    """A run in a few numbers; log holds loss, norm of the gradient and whether it was clipped, step by step.

    learnt_at: the first step whose loss is below 0.05 nats.
    """
    losses, norms, clipped = map(np.array, zip(*log, strict=True))
    low = np.flatnonzero(losses < 0.05)
    return {
        "right": round(float(right), 4),
        "largest_norm": float(f"{norms.max():.4g}"),
        "median_norm": float(f"{np.median(norms):.4g}"),
        "clip_rate": round(float(clipped.mean()), 4),
        "learnt_at": int(low[0]) if len(low) else None,
    }


def conditions() -> dict[str, Any]:
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
        "bits": BITS, "batch": BATCH, "test": TEST, "solved": SOLVED, "seeds": len(SEEDS),
        "nets": {
            "plain": f"tanh, {UNITS} units, w orthogonal, SGD with momentum {MOMENTUM}",
            "LSTM": "torch.nn.LSTM, 32 units, default initialisation, Adam",
        },
    }


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__).parse_args()
    torch.set_num_threads(1)
    record = conditions()
    stored = json.loads(RESULTS.read_text("utf8")) if RESULTS.exists() else {}
    done = stored.get("settings", []) if all(stored.get(k) == v for k, v in record.items()) else []
    for setting in settings():
        name = setting._asdict()
        if any(name.items() <= line.items() for line in done):
            continue
        start = time.process_time()
        train = train_lstm if setting.net == "LSTM" else train_plain
        runs = [train(setting, seed) for seed in SEEDS]
        solved = sum(run["right"] >= SOLVED for run in runs)
        seconds = round(time.process_time() - start, 1)
        done.append(name | {"solved": solved, "cpu_seconds": seconds, "runs": runs})
        print(*setting, f"solved {solved} of {len(runs)}", f"{seconds} s", flush=True)
        record["date"] = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        RESULTS.write_text(json.dumps(record | {"settings": done}, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main()
