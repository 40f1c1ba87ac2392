"""Each figure of the chapter on the LSTM draws what it claims, and the script behind one of them runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from coursekit.cells import lstm_step_backward, lstm_step_forward
from coursekit.figures import lstm
from coursekit.figures.conv import BLUE, GREY, ORANGE, PURPLE

forget_bias = pytest.importorskip("benchmarks.forget_bias", reason="benchmarks/ is at the repository's root")


def patches(axes, kind):
    return [patch for patch in axes.patches if isinstance(patch, kind)]


def test_two_ways_leads_back_by_one_arrow_and_by_three():
    (axes,) = lstm.two_ways().axes
    arrows = [to_hex(arrow.get_edgecolor()) for arrow in patches(axes, FancyArrowPatch)]
    assert [arrows.count(colour) for colour in (ORANGE, PURPLE, GREY)] == [1, 3, 11]


def test_two_ways_marks_the_cell_state_that_is_asked_about():
    (axes,) = lstm.two_ways().axes
    nodes = patches(axes, Circle)
    assert [node.get_gid() for node in nodes if to_hex(node.get_edgecolor()) == ORANGE] == ["c0"]
    assert len(nodes) == 8


def test_block_orders_draws_every_block_where_it_stands():
    (axes,) = lstm.block_orders({"here": "ifgo", "there": "iofg"}).axes
    texts = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert texts[1.5, 0.5] == r"$\mathbf{f}$" and texts[1.5, 1.5] == r"$\mathbf{o}$"
    assert len(patches(axes, Rectangle)) == 8
    assert [label.get_text() for label in axes.get_yticklabels()] == ["here", "there"]


def test_gradient_sizes_draws_the_whole_thicker_than_the_lane():
    sizes = np.ones(5), np.full(5, 0.5)
    left, right = lstm.gradient_sizes({"one": {0.0: sizes, 1.0: sizes}, "two": {0.0: sizes}}).axes
    curves = [line for line in left.lines if len(line.get_ydata()) == 5]
    assert [line.get_ydata()[0] for line in curves] == [1, 0.5, 1, 0.5]
    assert curves[0].get_linewidth() > curves[1].get_linewidth()
    assert curves[0].get_color() == curves[1].get_color() != curves[2].get_color()
    assert (left.get_title("left"), right.get_title("left")) == ("one", "two")


def test_running_errors_start_at_chance_and_name_each_setting_once():
    (axes,) = lstm.running_errors({"a": [[0.5, 0.1], [0.6]], "b": [[0.7]]}, 20, chance=0.75).axes
    assert [line.get_label() for line in axes.lines if line.get_label()[0] != "_"] == ["a", "b"]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0, 20, 40])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.75, 0.5, 0.1])


def test_updates_by_bias_tells_the_solved_from_the_failed():
    runs = [
        {"start": "uniform", "forget_bias": None, "solved": False, "updates": 100},
        {"start": "uniform", "forget_bias": 1.0, "solved": True, "updates": 30},
        {"start": "uniform", "forget_bias": 1.0, "solved": False, "updates": 100},
        {"start": "orthogonal", "forget_bias": 1.0, "solved": True, "updates": 40},
    ]
    left, right = lstm.updates_by_bias(runs, 100).axes
    dots = [float(line.get_ydata()[0]) for line in left.lines if line.get_color() == BLUE]
    crosses = [float(line.get_ydata()[0]) for line in left.lines if line.get_color() == ORANGE]
    assert dots == [30] and len(crosses) == 2 and min(crosses) > 100
    assert [text.get_text() for text in left.texts + right.texts] == ["0 of 1", "1 of 2", "1 of 1"]
    assert [label.get_text() for label in left.get_xticklabels()] == ["torch's", "1"]


# The script


@pytest.mark.parametrize("start, bias", [("uniform", 1.0), ("orthogonal", 3.0)])
def test_the_forget_gates_two_offsets_add_up_to_the_bias(start, bias):
    layer = forget_bias.Reader(start, bias).recurrent
    U = forget_bias.UNITS
    offsets = layer.bias_ih_l0 + layer.bias_hh_l0
    torch.testing.assert_close(offsets[U : 2 * U], torch.full((U,), bias))


def test_without_a_bias_the_net_starts_as_torchs():
    torch.manual_seed(0)
    ours = forget_bias.Reader("uniform", None).recurrent
    bound = forget_bias.UNITS**-0.5
    assert all(float(p.detach().abs().max()) <= bound for p in ours.parameters())
    assert float(ours.bias_ih_l0.detach().std()) > bound / 3


def test_a_trained_net_reports_what_the_table_needs():
    result = forget_bias.train("uniform", None, 0, updates=forget_bias.EVERY)
    assert set(result) == {"error", "solved", "updates", "seconds", "curve"}
    assert result["updates"] == forget_bias.EVERY and len(result["curve"]) == 1
    assert not result["solved"] and result["error"] > 0.4


def test_the_stored_table_has_every_run():
    stored = json.loads(forget_bias.RESULTS.read_text())
    named = [(run["start"], run["forget_bias"], run["seed"]) for run in stored["runs"]]
    assert named == list(forget_bias.runs())
    assert stored["settings"]["updates"] == forget_bias.UPDATES


# What the page works by hand


def test_a_step_whose_gates_are_halves_and_quarters_is_worked_by_hand():
    three, zero = np.log(3.0), np.zeros((1, 1))
    u, b = np.array([[0, 0, np.log(2.0), 0]]), np.array([0, three, 0, 0])
    after, cache = lstm_step_forward(np.ones((1, 1)), zero, np.full((1, 1), 0.4), u, np.zeros((1, 4)), b)
    assert after.c.item() == pytest.approx(0.75 * 0.4 + 0.5 * 0.6)
    assert lstm_step_backward(zero, np.ones((1, 1)), cache).dc.item() == pytest.approx(0.75)
