"""Figures of dynamics and cliff draw what they claim, and the lines of the theory are where nets say."""

from __future__ import annotations

import numpy as np
import pytest

from coursekit import recurrent
from coursekit.figures import cliff, dynamics


def settle(w: float, b: float, start: float, steps: int = 4000) -> np.ndarray:
    """The last two states of a unit that was left alone."""
    nothing, own = np.zeros((steps, 1, 1)), np.array([[w]])
    h, _ = recurrent.rnn_forward(nothing, np.zeros((1, 1)), own, np.array([b]), h0=np.array([[start]]))
    return h[-2:, 0, 0]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


@pytest.mark.parametrize("w", [1.2, 2.0, 5.0])
def test_two_states_become_one_at_the_fold(w):
    edge = dynamics.fold(np.array([w]))[0]
    inside, outside = (settle(w, edge + off, -1.0)[-1] for off in (-1e-3, 1e-3))
    assert inside < 0 < outside
    assert settle(w, edge - 1e-3, 1.0)[-1] > 0


@pytest.mark.parametrize("w", [-1.2, -2.0, -5.0])
def test_a_cycle_of_two_ends_at_the_flip(w):
    edge = dynamics.flip(np.array([w]))[0]
    inside, outside = (settle(w, edge + off, 0.5) for off in (-1e-2, 1e-2))
    assert abs(inside[1] - inside[0]) > 1e-2
    assert abs(outside[1] - outside[0]) < 1e-6


def test_a_cobweb_steps_to_where_the_net_goes():
    figure = dynamics.cobwebs({"a": (2.0, 0.1), "b": (0.5, 0.0)}, [-0.9, 0.4], steps=50)
    assert titles(figure) == ["a", "b"]
    ends = [line.get_ydata()[-1] for line in figure.axes[0].lines if len(line.get_xdata()) == 101]
    assert ends == pytest.approx([settle(2.0, 0.1, -0.9)[-1], settle(2.0, 0.1, 0.4)[-1]])


def test_the_lines_of_the_bifurcation_are_fixed_points_and_cycles():
    w = np.linspace(-2, 2, 11)
    top, bottom = dynamics.bifurcation(w, np.zeros((3, 11)), np.zeros(11)).axes
    drawn = {line.get_label(): np.array(line.get_data()) for line in top.lines}
    for label, sign in (("fixed points", 1), ("cycle of two", -1)):
        at, h = drawn[label]
        np.testing.assert_allclose(np.tanh(at * h), sign * h)
    assert drawn["computed"].shape == (2, 3 * 11)


def test_hysteresis_draws_both_ways_and_where_two_states_live():
    b = np.r_[np.linspace(-1, 1, 5), np.linspace(1, -1, 5)]
    left, right = dynamics.hysteresis(b, np.arange(10.0) / 10, 2.0).axes
    ways = {line.get_label(): line.get_ydata() for line in left.lines}
    assert ways["rising"].tolist() + ways["falling"].tolist() == (np.arange(10.0) / 10).tolist()
    assert [text.get_text().split("\n")[0] for text in right.texts] == ["one", "two", "cycle"]


def test_memory_draws_the_pulses_and_the_size_of_the_gradient():
    x, gradient = np.array([0.0, 2.0, 0.0]), np.array([-1e-3, 1e-2, -1e-1])
    top, bottom = dynamics.memory(x, np.zeros(3), gradient, slope=0.5).axes
    assert [len(path.vertices) for path in top.collections[0].get_paths()] == [2]
    drawn, decay = (line.get_ydata() for line in bottom.lines)
    np.testing.assert_array_equal(drawn, np.abs(gradient))
    np.testing.assert_allclose(decay, [0.025, 0.05, 0.1])


def test_portraits_draw_every_path_and_its_end():
    paths = {"a": np.zeros((50, 3, 2)), "b": np.ones((50, 2, 2))}
    figure = dynamics.portraits(paths, settled=10)
    assert titles(figure) == ["a", "b"]
    assert [len(axes.lines) for axes in figure.axes] == [2 * 3 + 1, 2 * 2 + 1]
    assert len(figure.axes[1].lines[-1].get_xdata()) == 10 * 2


# The cliff


@pytest.mark.parametrize("h0", [-0.4, 0.0, 0.5])
def test_a_unit_changes_its_basin_at_the_watershed(h0):
    edge = cliff.watershed(np.array([2.5]), h0)[0]
    below, above = (settle(2.5, edge + off, h0)[-1] for off in (-1e-4, 1e-4))
    assert below < 0 < above


def test_there_is_no_watershed_where_the_start_is_stable():
    assert np.isnan(cliff.watershed(np.array([1.3, 1.4]), 0.5)).tolist() == [True, False]


def test_the_surface_spans_the_loss():
    loss = np.outer([0.0, 1.0, 2.0], [1.0, 1.5])
    (axes,) = cliff.surface(np.array([0.0, 1.0]), np.array([0.0, 1.0, 2.0]), loss).axes
    low, high = axes.get_zlim()
    assert low <= 0 and high >= 3


def test_last_states_draw_a_map_for_each_start():
    w, b = np.linspace(0, 3, 4), np.linspace(-1, 1, 5)
    figure = cliff.last_states(w, b, {0.0: np.zeros((5, 4)), 0.5: np.ones((5, 4))})
    assert titles(figure) == ["start 0", "start 0.5", ""]
    for axes, value in zip(figure.axes[:2], (0, 1), strict=True):
        assert (axes.collections[0].get_array() == value).all()
        assert len(axes.lines) == 3


def test_growth_draws_a_line_for_each_wall():
    (axes,) = cliff.growth([1, 2], {"a": [1, 10], "b": [1, 4]}).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 10], [1, 4]]


def steps(b):
    return cliff.Steps(np.ones(len(b)), np.array(b), np.ones(len(b)), np.arange(1.0, len(b) + 1))


def test_descents_draw_both_ways_and_say_how_far_one_was_thrown():
    w, b = np.linspace(0, 2, 3), np.linspace(-1, 1, 4)
    paths = {"raw": steps([0.5, 0.1, 31.4, 31.4]), "clipped": steps([0.5, 0.1, 0.0, 0.1])}
    left, right = cliff.descents(w, b, np.ones((4, 3)), paths, limit=0.5).axes
    assert [text.get_text() for text in left.texts] == ["to $b$ = 31"]
    drawn = {line.get_label(): line for line in left.lines}
    assert drawn["clipped"].get_ydata().tolist() == [0.5, 0.1, 0.0, 0.1]
    assert [line.get_label() for line in right.lines] == ["threshold", "raw", "clipped"]
    assert right.lines[1].get_ydata().tolist() == [1, 2, 3, 4]
