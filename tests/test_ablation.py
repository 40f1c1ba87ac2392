"""The script that takes gated cells apart: variants are what they are called, runs can be repeated."""

from __future__ import annotations

import json

import numpy as np
import pytest

from coursekit.cells import GRUCell, RNNCell

ablation = pytest.importorskip("benchmarks.ablation", reason="benchmarks/ is at the repository's root")


@pytest.fixture(autouse=True)
def embedded_text(monkeypatch, tmp_path):
    """The text that everybody has."""
    monkeypatch.setenv("COURSEKIT_DATA_DIR", str(tmp_path))
    remembered = ablation.text, ablation.symbols, ablation.tasks
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


def cell(name, features=3):
    variant = ablation.VARIANTS[name]
    weights = variant.draw(features, ablation.units_of(variant, features), np.random.default_rng(0))
    return variant.cell(**weights), weights


def forget_offsets(name):
    built, weights = cell(name)
    at = built.blocks.index("f") * built.units
    return weights["b"][at : at + built.units]


def test_one_part_is_missing_from_each_variant():
    blocks = {
        "LSTM": "ifgo",
        "no input gate": "fgo",
        "no forget gate": "igo",
        "no output gate": "ifg",
        "coupled, f = 1 - i": "igo",
        "peepholes": "ifgo",
        "GRU, reset after": "rzn",
    }
    assert {name: cell(name)[0].blocks for name in blocks} == blocks
    assert cell("peepholes")[1]["p"].shape == (3, ablation.UNITS)


def test_an_activation_that_was_taken_away_is_the_identity():
    a = np.linspace(-3, 3, 7)
    candidate = cell("no input activation")[0].candidate
    read = cell("no output activation")[0].read
    for function in (candidate, read):
        np.testing.assert_array_equal(function.value(np, a), a)
    reference = cell("LSTM")[0]
    for function in (reference.candidate, reference.read):
        np.testing.assert_allclose(function.value(np, a), np.tanh(a))


@pytest.mark.parametrize("name, offset", [("LSTM", 1), ("forget bias 0", 0), ("no output gate", 1)])
def test_forget_gates_start_with_the_offset_that_they_should(name, offset):
    np.testing.assert_array_equal(forget_offsets(name), offset)


def test_the_gates_that_keep_the_state_start_alike_where_they_are_coupled_or_a_grus():
    built, weights = cell("coupled, f = 1 - i")
    np.testing.assert_array_equal(weights["b"][: built.units], -1)
    built, weights = cell("GRU, update bias 1")
    np.testing.assert_array_equal(weights["b"].reshape(3, -1)[1], 1)


def test_both_forms_of_the_gru_start_with_the_same_numbers():
    (after, first), (before, second) = cell("GRU, reset after"), cell("GRU, reset before")
    assert isinstance(after, GRUCell) and (after.reset, before.reset) == ("after", "before")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("features", [6, 65])
@pytest.mark.parametrize("name", [name for name in ablation.VARIANTS if "as large" in name])
def test_a_variant_as_large_as_the_reference_has_no_more_numbers_and_no_room_for_a_unit(name, features):
    variant = ablation.VARIANTS[name]
    limit = ablation.count(cell(ablation.REFERENCE, features)[1])
    units = ablation.units_of(variant, features)
    sizes = [ablation.count(variant.draw(features, u, np.random.default_rng(0))) for u in (units, units + 1)]
    assert sizes[0] <= limit < sizes[1]
    assert units > ablation.UNITS


def test_a_plain_net_is_one_of_them():
    assert isinstance(cell("tanh RNN")[0], RNNCell)


@pytest.mark.parametrize("task", ["temporal order", "text"])
@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_the_net_has_the_gradients_of_its_loss(task, name):
    chosen = ablation.tasks()[task]
    net = ablation.Reader(ablation.VARIANTS[name], chosen.features, chosen.classes, np.random.default_rng(0))
    net.parameters = {k: p.astype("float64") for k, p in net.parameters.items()}
    x, labels, _ = next(chosen.batches(np.random.default_rng(1)))
    x, labels = x[-6:, :3].astype("float64"), labels[..., :3] if labels.ndim == 1 else labels[-6:, :3]

    def loss():
        _, scores, cache, wanted = net.run(x, labels, None)
        value, back = ablation.cross_entropy_forward(scores, wanted)
        return float(value), cache, back

    _, cache, back = loss()
    found = net.gradients(ablation.cross_entropy_backward(back), cache)
    rng = np.random.default_rng(2)
    way = {k: rng.normal(size=p.shape) for k, p in net.parameters.items()}
    expected = sum(float((found[k] * way[k]).sum()) for k in way)
    values, start = [], {k: p.copy() for k, p in net.parameters.items()}
    for step in (1e-5, -1e-5):
        net.parameters = {k: p + step * way[k] for k, p in start.items()}
        values.append(loss()[0])
    assert expected == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_runs_of_one_seed_are_the_same_and_see_the_same_sequences():
    twice = [ablation.train("temporal order", "tanh RNN", 0.004, 3, steps=3)["result"] for _ in range(2)]
    assert twice[0] == twice[1]
    seen = [next(ablation.order_batches(np.random.default_rng([3, 1])))[0] for _ in range(2)]
    np.testing.assert_array_equal(*seen)


def test_the_text_goes_on_from_window_to_window():
    batches = ablation.text_batches(np.random.default_rng(0))
    (x, wanted, goes_on), (after, _, goes_on_then) = next(batches), next(batches)
    assert (goes_on, goes_on_then) == (False, True)
    np.testing.assert_array_equal(x[1:].argmax(-1), wanted[:-1])
    np.testing.assert_array_equal(after[0].argmax(-1), wanted[-1])
    assert np.mean(x**2) == pytest.approx(1, rel=1e-5)


def test_what_is_held_out_is_not_trained_on():
    numbers, _ = ablation.symbols()
    held_out = numbers[len(numbers) * 9 // 10 :]
    x, wanted, _ = next(ablation.text_test())
    np.testing.assert_array_equal(x[:, 0].argmax(-1), held_out[: len(x)])
    np.testing.assert_array_equal(wanted[:, 0], held_out[1 : len(x) + 1])


def test_a_net_whose_loss_is_no_number_is_judged_by_chance(monkeypatch):
    monkeypatch.setattr(ablation, "cross_entropy_forward", lambda *_: (np.float32("nan"), None))
    assert ablation.train("temporal order", "tanh RNN", 0.004, 0, steps=2)["result"] == 0.75


def test_the_rate_is_chosen_by_trials_alone():
    def run(rate, seed, result):
        return {"task": "text", "variant": "LSTM", "rate": rate, "seed": seed, "result": result}

    low, middle, high = ablation.RATES
    done = [run(rate, seed, 2.0 + rate) for rate in ablation.RATES for seed in ablation.TRIALS]
    assert ablation.best_rate(done, "text", "LSTM") == low
    done[3] = run(middle, ablation.TRIALS[0], 0.0)
    assert ablation.best_rate([*done, run(high, 0, -99.0)], "text", "LSTM") == middle


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    asked = []

    def train(task, variant, rate, seed):
        asked.append((task, variant, rate, seed))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"result": rate, "parameters": 1, "seconds": 0.0}

    task = ablation.Task(1, 1, 1, None, None, "nats", 1.0)
    for name, value in {
        "RESULTS": tmp_path / "ablation.json", "train": train, "TRIALS": (100,), "SEEDS": (0,),
        "VARIANTS": {"LSTM": None}, "tasks": lambda: {"text": task},
    }.items():  # fmt: skip
        monkeypatch.setattr(ablation, name, value)
    monkeypatch.setattr("sys.argv", ["ablation"])
    with pytest.raises(KeyboardInterrupt):
        ablation.main()
    ablation.main()
    low, middle, high = ablation.RATES
    assert [rate for _, _, rate, _ in asked] == [low, middle, high, high, low]
    stored = json.loads(ablation.RESULTS.read_text())
    assert [run["seed"] for run in stored["runs"]] == [100, 100, 100, 0]
