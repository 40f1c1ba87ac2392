"""Small LSTMs that learn to predict the next character of a language with brackets and quotes.

`python -m benchmarks.trained_cell` trains one net for each seed and writes results/trained_cell.json: the
weights of all of them, which one has the single units that are easiest to read, and a few unseen texts.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.__main__ import cpu_name
from coursekit.nn import LSTM
from coursekit.recurrent import lstm_forward

RESULTS = Path(__file__).parent / "results" / "trained_cell.json"
UNITS, LENGTH, BATCH, RATE, CLIP, UPDATES = 6, 40, 32, 0.02, 1.0, 4000
SEEDS = (0, 1, 2, 3, 4, 5)
TESTED, TEST_LENGTH, TEXTS, TEXT_LENGTH = 300, 100, 4, 32

ALPHABET = 'abc()"'
STATES = ("outside", "in brackets", "in quotes", "in quotes in brackets")
CHANCES = np.array(
    [  # a     b     c     (     )     "
        [0.25, 0.25, 0.25, 0.15, 0.00, 0.10],
        [0.25, 0.25, 0.25, 0.00, 0.15, 0.10],
        [0.20, 0.20, 0.20, 0.10, 0.10, 0.20],
        [0.20, 0.20, 0.20, 0.10, 0.10, 0.20],
    ]
)
"""For each state, how likely each character comes next."""

NEXT = np.array(
    [
        [0, 0, 0, 1, 0, 2],
        [1, 1, 1, 1, 0, 3],
        [2, 2, 2, 2, 2, 0],
        [3, 3, 3, 3, 3, 1],
    ]
)
"""The state after each character: quotes turn the second bit, and brackets the first unless in quotes."""


class Draw(NamedTuple):
    """Texts as numbers of characters, and the state after each of them."""

    characters: np.ndarray  # T N
    states: np.ndarray  # T N


def draw(count: int, length: int, rng: np.random.Generator | int) -> Draw:
    """Texts of the language, all of them begun outside."""
    rng = np.random.default_rng(rng)
    limits, state = CHANCES.cumsum(axis=1), np.zeros(count, int)
    characters, states = np.zeros((2, length, count), int)
    for t, luck in enumerate(rng.random((length, count, 1))):
        characters[t] = np.minimum((luck >= limits[state]).sum(axis=1), len(ALPHABET) - 1)
        states[t] = state = NEXT[state, characters[t]]
    return Draw(characters, states)


def walk(text: str) -> list[int]:
    """The state after each character of a text."""
    state, states = 0, []
    for character in text:
        state = int(NEXT[state, ALPHABET.index(character)])
        states.append(state)
    return states


def write(characters: np.ndarray) -> str:
    """One text, in characters."""
    return "".join(ALPHABET[k] for k in characters)


def train(seed: int, *, updates: int = UPDATES) -> dict[str, list]:
    """Weights of an LSTM and its readout, trained on new texts at every update."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    cell, readout = LSTM(len(ALPHABET), UNITS, forget_bias=1.0), nn.Linear(UNITS, len(ALPHABET))
    parameters = [*cell.parameters(), *readout.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates, RATE / 200)
    one_hot = torch.eye(len(ALPHABET))
    for _ in range(updates):
        text = torch.from_numpy(draw(BATCH, LENGTH + 1, rng).characters)
        answer = readout(cell(one_hot[text[:-1]])[0])
        loss = nn.functional.cross_entropy(answer.flatten(0, 1), text[1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        schedule.step()
    return weights_of(cell, readout)


def weights_of(cell: LSTM, readout: nn.Linear) -> dict[str, list]:
    """As coursekit.recurrent.lstm_forward takes them, rounded: the rounded net is the net."""
    u, w, b, bw = (p.detach().double().numpy() for p in cell.parameters())
    v, bv = (p.detach().double().numpy() for p in readout.parameters())
    weights = {"u": u.T, "w": w.T, "b": b + bw, "v": v.T, "bv": bv}
    return {name: a.round(5).tolist() for name, a in weights.items()}


def predict(net: dict[str, list], characters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How likely each character comes next, after each step, and the cell states after each step."""
    u, w, b, v, bv = (np.array(net[name]) for name in ("u", "w", "b", "v", "bv"))
    h, cache = lstm_forward(np.eye(len(ALPHABET))[characters], u, w, b)
    scores = np.exp(h @ v + bv)
    return scores / scores.sum(axis=-1, keepdims=True), cache.states.c[1:]


def excess(predicted: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Expected loss above that of the true chances, in nats, at each step: a Kullback-Leibler divergence."""
    true = CHANCES[states]
    return np.sum(true * (np.log(np.where(true > 0, true, 1)) - np.log(predicted)), axis=-1)


def correlations(c: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Of each unit's cell state with being in brackets, and with being in quotes; one row for each unit."""
    flags = np.stack([states % 2, states // 2]).reshape(2, -1)
    both = np.corrcoef(c.reshape(-1, c.shape[-1]).T, flags)
    return both[:-2, -2:]


def readability(net: dict[str, list], test: Draw) -> float:
    """How well the best single unit tells of brackets, or of quotes: the worse of the two."""
    found = np.abs(correlations(predict(net, test.characters)[1], test.states))
    return float(found.max(axis=0).min())


def unseen(rng: np.random.Generator | int) -> list[str]:
    """Texts that spend some time in every state, end outside, and soon have a `)` in quotes in brackets."""
    drawn = draw(2000, TEXT_LENGTH, rng)
    tempted = (drawn.characters == ALPHABET.index(")")) & (drawn.states == 3)
    spent = np.array([(drawn.states == state).sum(axis=0) for state in range(len(STATES))])
    good = tempted[:20].any(axis=0) & (spent.min(axis=0) >= 3) & (drawn.states[-1] == 0)
    return [write(drawn.characters[:, k]) for k in np.flatnonzero(good)[:TEXTS]]


def train_and_test(seed: int, test: Draw) -> dict[str, Any]:
    """One net, how well it predicts, how well single units can be read, and the CPU seconds it took."""
    start = time.process_time()
    net = train(seed)
    seconds = round(time.process_time() - start, 1)
    told = {"excess": loss_above(net, test), "readability": readability(net, test)}
    return {"seed": seed, "seconds": seconds} | told | net


def loss_above(net: dict[str, list], test: Draw) -> float:
    return float(excess(predict(net, test.characters)[0], test.states).mean())


def choose(nets: list[dict[str, Any]], texts: list[str], test: Draw) -> dict[str, int]:
    """The net to look at, its unit that tells most of brackets, a step in quotes in them and a `)` there."""
    chosen = int(np.argmax([net["readability"] for net in nets]))
    found = correlations(predict(nets[chosen], test.characters)[1], test.states)
    start = walk(texts[0]).index(3)
    unit = int(np.abs(found[:, 0]).argmax())
    return {"chosen": chosen, "unit": unit, "from": start, "look": texts[0].index(")", start)}


def describe(nets: list[dict[str, Any]], test: Draw) -> dict[str, Any]:
    """All that the page and its drawing need."""
    texts = unseen(2000)
    return {
        "hardware": {"cpu": cpu_name(), "threads": 1},
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
        "settings": {
            "units": UNITS,
            "length": LENGTH,
            "batch": BATCH,
            "rate": RATE,
            "clip": CLIP,
            "updates": UPDATES,
            "seeds": list(SEEDS),
        },
        "alphabet": ALPHABET,
        "states": list(STATES),
        "chances": CHANCES.tolist(),
        "next": NEXT.tolist(),
        "texts": texts,
        **choose(nets, texts, test),
        "nets": nets,
    }


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.trained_cell", description=__doc__).parse_args()
    torch.set_num_threads(1)
    test, nets = draw(TESTED, TEST_LENGTH, 1000), []
    for seed in SEEDS:
        nets.append(train_and_test(seed, test))
        print(*(nets[-1][name] for name in ("seed", "seconds", "excess", "readability")), flush=True)
    RESULTS.write_text(layout(describe(nets, test)))


def layout(record: dict[str, Any]) -> str:
    """JSON with one line for each entry and each net."""
    nets = ",\n  ".join(json.dumps(net) for net in record["nets"])
    rest = [f'"{name}": {json.dumps(value)}' for name, value in record.items() if name != "nets"]
    return "{\n " + ",\n ".join([*rest, f'"nets": [\n  {nets}\n ]']) + "\n}\n"


if __name__ == "__main__":
    main()
