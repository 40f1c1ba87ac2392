"""Each figure of the chapter on clipping draws what it claims: its artists are counted and read back."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Circle, Rectangle

from coursekit.figures import clipping
from coursekit.figures.clipping import Log, Outcomes

GRADIENTS = [(4.0, 1.2), (0.5, 0.3)]


def texts(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def arrows(axes):
    """Where the arrows of a panel end, the dashed raw ones and the clipped ones in turn."""
    return [text.xy for text in axes.texts if text.arrowprops]


def curve(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def test_directions_draws_the_raw_and_the_clipped_gradient():
    by_value, by_norm = clipping.directions(GRADIENTS, 1.0).axes
    np.testing.assert_allclose(arrows(by_value), [(4, 1.2), (1, 1), (0.5, 0.3), (0.5, 0.3)])
    unit = np.array([4, 1.2]) / np.hypot(4, 1.2)
    np.testing.assert_allclose(arrows(by_norm), [(4, 1.2), unit, (0.5, 0.3), (0.5, 0.3)])


def test_directions_writes_an_angle_where_something_was_clipped():
    by_value, by_norm = clipping.directions(GRADIENTS, 1.0).axes
    assert texts(by_value) == ["28°"]
    assert texts(by_norm) == ["0°"]


@pytest.mark.parametrize("limit", [0.5, 1.0])
def test_directions_shades_a_square_and_a_disc_of_the_limit(limit):
    by_value, by_norm = clipping.directions(GRADIENTS, limit).axes
    (square,) = [patch for patch in by_value.patches if isinstance(patch, Rectangle)]
    (disc,) = [patch for patch in by_norm.patches if isinstance(patch, Circle)]
    assert (square.get_width(), square.get_height(), disc.radius) == (2 * limit, 2 * limit, limit)
    assert square.get_xy() == (-limit, -limit)


def test_training_draws_each_run_in_both_panels_with_the_limit_and_the_chance_level():
    runs = {"a": Log(np.array([0.7, 0.6]), np.array([0.1, 2.0])), "b": Log(np.ones(2), np.ones(2))}
    above, below = clipping.training(runs, 0.3, 0.693).axes
    np.testing.assert_array_equal(curve(above, "a").get_ydata(), [0.7, 0.6])
    np.testing.assert_array_equal(curve(below, "a").get_ydata(), [0.1, 2.0])
    assert set(curve(above, "best constant answer").get_ydata()) == {0.693}
    assert set(curve(below, "limit").get_ydata()) == {0.3}
    assert below.get_yscale() == "log"
    assert len(above.lines) == len(below.lines) == 3


def test_training_shows_the_whole_loss_but_for_its_highest_peaks():
    loss = np.full(1000, 0.7)
    loss[17] = 50.0
    above, _ = clipping.training({"a": Log(loss, loss)}, 0.3, 0.693).axes
    assert 0.7 < above.get_ylim()[1] < 2


def test_cosines_draws_one_point_for_each_step_and_kind():
    norms = np.array([0.1, 1.0, 10.0])
    (axes,) = clipping.cosines(norms, {"by norm": np.ones(3), "by value": np.array([1, 0.9, 0.6])}).axes
    np.testing.assert_array_equal(curve(axes, "by value").get_xdata(), norms)
    np.testing.assert_array_equal(curve(axes, "by value").get_ydata(), [1, 0.9, 0.6])
    assert axes.get_xscale() == "log"
    assert {line.get_linestyle() for line in axes.lines} == {"None"}


def test_outcomes_draws_a_panel_for_each_setting_with_ticks_where_it_was_measured():
    first = Outcomes([0.01, 0.1], {"no limit": [0, 0], "limit 0.3": [0, 10]}, "learning rate", "runs")
    second = Outcomes([0.1, 0.3, 1], {"clip rate": [4, 1, 0]}, "limit", "")
    left, right = clipping.outcomes([first, second]).axes
    np.testing.assert_array_equal(curve(left, "limit 0.3").get_ydata(), [0, 10])
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["0.1", "0.3", "1"]
    assert (left.get_xlabel(), left.get_ylabel(), right.get_xlabel()) == ("learning rate", "runs", "limit")
    assert left.get_ylim()[0] < 0 and left.get_ylim()[1] > 10
