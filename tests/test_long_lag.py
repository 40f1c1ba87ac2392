"""The script behind the table of long lags: its guessed nets are real nets, and a stopped run goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from coursekit.recurrent import rnn_forward

long_lag = pytest.importorskip("benchmarks.long_lag", reason="benchmarks/ is at the repository's root")


@pytest.mark.parametrize("task", long_lag.TASKS)
def test_guessed_nets_are_scored_as_the_librarys_own_net(task):
    x, target, _ = long_lag.TASKS[task].draw(7, 11, rng=0)
    nets = long_lag.random_nets(np.random.default_rng(0), x.shape[2], long_lag.TASKS[task].outputs)
    u, w, b, v, c = (a[3] for a in nets)
    h, _ = rnn_forward(x, u, w, b[0])
    expected = long_lag.loss_and_error(torch.from_numpy(h[-1] @ v + c), torch.from_numpy(target))[1]
    np.testing.assert_allclose(long_lag.net_errors(nets, x, target)[3], expected, rtol=1e-4)


def test_guessing_finds_a_net_for_parity_that_works_at_any_length():
    found = long_lag.guess("parity", 12, 0, budget=20)
    assert found["solved"] and found["error"] < 0.02


@pytest.mark.parametrize("cell", long_lag.CELLS)
def test_a_trained_net_reports_what_the_table_needs(cell):
    result = long_lag.train("temporal order", 5, cell, 0, budget=0.05, units=3)
    assert set(result) == {"error", "solved", "steps", "seconds"}
    assert 0 <= result["error"] <= 1 and result["steps"] >= 1


def test_an_lstm_starts_with_a_forget_bias_of_one():
    layer = long_lag.lstm(2, 5)
    torch.testing.assert_close((layer.bias_ih_l0 + layer.bias_hh_l0)[5:10], torch.ones(5))


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    asked = []

    def train(task, length, cell, seed, *, budget):
        asked.append((task, length, cell, seed))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"error": 0.5, "solved": False, "steps": 1, "seconds": budget}

    wanted = [("adding", 50, "tanh", seed) for seed in (0, 1)]
    monkeypatch.setattr(long_lag, "RESULTS", tmp_path / "long_lag.json")
    monkeypatch.setattr(long_lag, "runs", lambda: iter(wanted))
    monkeypatch.setattr(long_lag, "train", train)
    monkeypatch.setattr("sys.argv", ["long_lag"])
    with pytest.raises(KeyboardInterrupt):
        long_lag.main()
    long_lag.main()
    assert asked == [wanted[0], wanted[1], wanted[1]]
    assert [run["seed"] for run in json.loads(long_lag.RESULTS.read_text())["runs"]] == [0, 1]


def test_other_settings_start_the_table_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(long_lag, "RESULTS", tmp_path / "long_lag.json")
    monkeypatch.setattr(long_lag, "runs", lambda: iter([("parity", 50, long_lag.GUESSING, 0)]))
    monkeypatch.setattr(long_lag, "guess", lambda *_, budget: {"error": budget, "solved": True})
    monkeypatch.setattr("sys.argv", ["long_lag"])
    long_lag.main()
    monkeypatch.setattr(long_lag, "GUESSING_SECONDS", 7)
    long_lag.main()
    assert [run["error"] for run in json.loads(long_lag.RESULTS.read_text())["runs"]] == [7]
