"""The script behind the page on peepholes: its nets differ as they should, and a stopped run goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest

peepholes = pytest.importorskip("benchmarks.peepholes", reason="benchmarks/ is at the repository's root")

SMALL = peepholes.Setting(gap=3, peepholes=0.5)


def test_nets_of_one_seed_start_alike_with_and_without_peepholes():
    without, with_them = (
        peepholes.start(SMALL._replace(peepholes=factor), np.random.default_rng(0)) for factor in (0, 1)
    )
    assert set(with_them[0]) - set(without[0]) == {"p"} and not with_them[0]["p"].any()
    for name, values in (without[0] | without[1]).items():
        np.testing.assert_array_equal(values, (with_them[0] | with_them[1])[name])


@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_the_first_update_moves_a_peephole_by_its_share_of_the_rate(factor):
    setting = SMALL._replace(peepholes=factor)
    weights, *_ = peepholes.learn(setting, np.random.default_rng(0), updates=1)
    np.testing.assert_allclose(np.abs(weights["p"]), factor * setting.rate, rtol=1e-2)


@pytest.mark.parametrize("ask", ["moment", "interval"])
def test_the_gradient_of_the_loss_is_that_of_central_differences(ask):
    rng = np.random.default_rng(0)
    setting = SMALL._replace(ask=ask)
    _, target, _ = setting.draw(4, rng)
    target = target if ask == "moment" else target.astype("float64")
    said = rng.normal(size=(*target.shape[:2], 2 if ask == "moment" else 1))
    _, dy = peepholes.loss_and_gradient(said, target)
    direction = rng.normal(size=said.shape)
    above, below = (peepholes.loss_and_gradient(said + e * direction, target)[0] for e in (1e-5, -1e-5))
    np.testing.assert_allclose((above - below) / 2e-5, np.sum(dy * direction), rtol=1e-6)


@pytest.mark.parametrize("ask", ["moment", "interval"])
def test_a_trained_net_reports_what_the_page_needs(ask):
    result = peepholes.train(SMALL._replace(ask=ask), 0, updates=3)
    assert set(result) == {"loss", "chance", "wrong", "seconds", "curve"}
    assert 0 <= result["wrong"] <= 1 and len(result["curve"]) == 1


def test_the_states_after_a_spike_are_kept_of_the_nets_that_the_page_looks_into():
    result = peepholes.train(peepholes.SHOWN[1], 0, updates=1)
    assert np.shape(result["states"]) == (2, 31)


def test_a_spike_is_the_first_of_the_states_after_it():
    weights = {"u": np.zeros((1, 4)), "w": np.zeros((1, 4)), "b": np.array([99.0, 99.0, 0.0, 0.0])}
    weights["u"][0, 2] = 99  # the unit counts spikes
    weights = {name: a.astype("float32") for name, a in weights.items()}
    assert peepholes.after_a_spike(SMALL, weights) == [[2.0] * 6]


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    asked = []

    def train(setting, seed):
        asked.append(seed)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"loss": 0.5}

    monkeypatch.setattr(peepholes, "RESULTS", tmp_path / "peepholes.json")
    monkeypatch.setattr(peepholes, "runs", lambda: iter([(SMALL, 0), (SMALL, 1)]))
    monkeypatch.setattr(peepholes, "train", train)
    monkeypatch.setattr("sys.argv", ["peepholes"])
    with pytest.raises(KeyboardInterrupt):
        peepholes.main()
    peepholes.main()
    assert asked == [0, 1, 1]
    assert [run["seed"] for run in json.loads(peepholes.RESULTS.read_text())["runs"]] == [0, 1]


def test_the_stored_results_hold_every_run():
    if not peepholes.RESULTS.exists():
        pytest.skip("no results")
    stored = json.loads(peepholes.RESULTS.read_text())["runs"]
    named = [{**setting._asdict(), "seed": seed} for setting, seed in peepholes.runs()]
    assert [{name: run[name] for name in named[0]} for run in stored] == named
