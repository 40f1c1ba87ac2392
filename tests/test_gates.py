"""The script behind "One gate at a time": its tasks ask what they claim, and its gradients are right."""

from __future__ import annotations

import json

import numpy as np
import pytest

gates = pytest.importorskip("benchmarks.gates", reason="benchmarks/ is at the repository's root")
T, N = 23, 7


def examples(task, length=T):
    x, target, counted = gates.draw(task, N, np.random.default_rng(0), length)
    return *np.moveaxis(x, -1, 0), target[..., 0], counted[..., 0]


@pytest.mark.parametrize("task", ["hold", "pick", "ask"])
def test_one_number_is_marked_and_early(task):
    _, marked, _, _, _ = examples(task)
    assert (marked.sum(axis=0) == 1).all()
    assert marked[gates.EARLY :].sum() == 0


def test_hold_brings_one_number_and_pick_one_at_every_step():
    assert ((examples("hold")[0] != 0).sum(axis=0) == 1).all()
    assert (examples("pick")[0] != 0).all()


@pytest.mark.parametrize("task", ["hold", "pick"])
def test_the_marked_number_is_to_be_said_at_the_end_and_nothing_else_counts(task):
    number, marked, _, target, counted = examples(task)
    np.testing.assert_array_equal(target[-1], (number * marked).sum(axis=0))
    assert counted[:-1].sum() == 0 and (counted[-1] == 1).all()


@pytest.mark.parametrize("task", ["ask", "stream"])
def test_the_last_marked_number_is_to_be_said_when_asked_and_nothing_otherwise(task):
    number, marked, asked, target, counted = examples(task)
    last = np.zeros(N)
    for t in range(T):
        last = np.where(marked[t] == 1, number[t], last)
        np.testing.assert_array_equal(target[t], np.where(asked[t] == 1, last, 0))
    assert (counted == 1).all()


def test_a_stream_has_more_than_one_mark():
    assert examples("stream", 200)[1].sum(axis=0).min() > 5


@pytest.mark.parametrize("cell", gates.CELLS)
def test_gradients_are_those_of_the_loss(cell):
    rng = np.random.default_rng(1)
    batch = gates.draw("ask", 5, rng, 11)
    weights = gates.start(cell, 3, rng)
    weights["w"] = weights["w"] + rng.normal(size=weights["w"].shape)
    found = gates.gradients(cell, weights, batch)

    def loss(moved):
        answer, _, _ = gates.run(cell, moved, batch.x)
        return (batch.counted * (answer - batch.target) ** 2).sum() / batch.counted.sum()

    for name, gradient in found.items():
        way = rng.normal(size=gradient.shape)
        ends = (loss(weights | {name: weights[name] + sign * 1e-6 * way}) for sign in (1, -1))
        slope = (next(ends) - next(ends)) / 2e-6
        assert (gradient * way).sum() == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_a_gated_cell_starts_as_a_carousel_whose_forget_gate_is_open():
    weights = gates.start("and forget gate", 3, np.random.default_rng(0))
    assert (weights["w"] == 0).all()
    assert weights["b"].tolist() == [-2] * 3 + [4] * 3 + [0] * 6


@pytest.mark.parametrize("cell", gates.CELLS)
def test_an_untrained_cell_is_no_better_than_a_constant(cell):
    weights = gates.start(cell, 2, np.random.default_rng(0))
    assert gates.error("pick", cell, weights | {"v": 0 * weights["v"]}) == pytest.approx(1, abs=0.01)


def test_the_stored_results_are_those_of_the_script():
    stored = json.loads(gates.RESULTS.read_text())
    settings = json.loads(json.dumps(gates.conditions()["settings"]))
    assert stored["settings"] == settings
    names = [
        {key: run[key] for key in ("cell", "task", "units", "updates", "seed")} for run in stored["runs"]
    ]
    assert sorted(map(str, names)) == sorted(map(str, gates.runs()))
    assert all("late_error" in run for run in stored["runs"] if run["task"] == "stream")
