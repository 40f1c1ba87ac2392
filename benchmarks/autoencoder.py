"""A sequence autoencoder for growing lengths and states: how often is the whole sequence recovered?

`python -m benchmarks.autoencoder` trains a net for each length, number of units and seed, all for equally
many steps and one for more, and writes results/autoencoder.json after each; started again, it goes on where
it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.__main__ import cpu_name

RESULTS = Path(__file__).parent / "results" / "autoencoder.json"
SYMBOLS, BATCH, RATE, CLIP, TEST = 4, 64, 3e-3, 1.0, 4000
SEEDS = (0, 1, 2)
UNITS = (4, 8, 16, 32)
LENGTHS = (4, 6, 8, 12, 16, 24)
STEPS = 2000
LONGER = 16, 16, 8000, 0  # units, length, steps and seed of the net that is trained for longer


class Autoencoder(nn.Module):
    """A plain net reads the sequence; a second one starts from its last state and says it, last symbol first.

    The second net gets no input: all that it knows has come through one state of `units` numbers.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.RNN(SYMBOLS, units), nn.RNN(1, units)
        self.answer = nn.Linear(units, SYMBOLS)
        for net in (self.encoder, self.decoder):
            nn.init.orthogonal_(net.weight_hh_l0)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The last state, (N U), of sequences x (T N S)."""
        return self.encoder(x)[1][0]

    def decode(self, state: torch.Tensor, length: int) -> torch.Tensor:
        """Scores (T N S) for the symbols in their own order."""
        nothing = torch.zeros(length, len(state), 1)
        return self.answer(self.decoder(nothing, state[None])[0]).flip(0)


class Recovery(NamedTuple):
    """Shares of whole sequences and of single symbols that are right; bits of the input that the state holds.

    bits: those offered less the cross-entropy of the answers, a lower bound of what the state tells about
    the input.
    """

    exact: float
    symbols: float
    bits: float


def draw(length: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sequences, one-hot (T N S), and their symbols (T N)."""
    symbols = torch.randint(SYMBOLS, (length, count))
    return nn.functional.one_hot(symbols, SYMBOLS).float(), symbols


def train(units: int, length: int, *, steps: int, seed: int = 0, frozen: bool = False) -> Autoencoder:
    """A net trained on fresh sequences, with a learning rate that falls to zero over the second half.

    frozen: leave the encoder as it was drawn, and train the rest.
    """
    torch.manual_seed(seed)
    net = Autoencoder(units)
    net.encoder.requires_grad_(not frozen)
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, 2 - 2 * step / steps))
    for _ in range(steps):
        x, symbols = draw(length, BATCH)
        scores = net.decode(net.encode(x), length)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), symbols.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()
        schedule.step()
    return net


@torch.no_grad()
def recovery(scores: torch.Tensor, symbols: torch.Tensor) -> Recovery:
    """What the scores (T N S) recover of the symbols (T N)."""
    right = scores.argmax(2) == symbols
    nats = nn.functional.cross_entropy(scores.flatten(0, 1), symbols.flatten()).item()
    bits = len(symbols) * (math.log2(SYMBOLS) - nats / math.log(2))
    return Recovery(right.all(0).float().mean().item(), right.float().mean().item(), bits)


def runs() -> Iterator[tuple[int, int, int, int]]:
    """Units, length, steps and seed of every run."""
    yield from ((units, length, STEPS, seed) for units in UNITS for length in LENGTHS for seed in SEEDS)
    yield LONGER


def conditions() -> dict[str, Any]:
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "versions": {"torch": torch.__version__},
        "symbols": SYMBOLS, "batch": BATCH, "rate": RATE, "clip": CLIP, "test": TEST,
        "net": "torch.nn.RNN, tanh, as encoder and as decoder, w orthogonal, Adam",
    }


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.autoencoder", description=__doc__).parse_args()
    torch.set_num_threads(1)
    record = conditions()
    stored = json.loads(RESULTS.read_text("utf8")) if RESULTS.exists() else {}
    done = stored.get("runs", []) if all(stored.get(k) == v for k, v in record.items()) else []
    for units, length, steps, seed in runs():
        name = {"units": units, "length": length, "steps": steps, "seed": seed}
        if any(name.items() <= run.items() for run in done):
            continue
        start = time.process_time()
        net = train(units, length, steps=steps, seed=seed)
        seconds = round(time.process_time() - start, 1)
        x, symbols = draw(length, TEST)
        measured = recovery(net.decode(net.encode(x), length), symbols)._asdict()
        found = {what: round(value, 4) for what, value in measured.items()}
        done.append(name | found | {"cpu_seconds": seconds})
        print(*name.values(), found, f"{seconds} s", flush=True)
        record["date"] = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        RESULTS.write_text(json.dumps(record | {"runs": done}, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main()
