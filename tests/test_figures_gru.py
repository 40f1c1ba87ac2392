"""Each figure of the page on the GRU draws what it claims: its artists are counted and read back."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from coursekit.figures import gru
from coursekit.figures.conv import BLUE, ORANGE

CURVES = {"a": np.array([[0.7, 0.1, 0.0], [0.7, 0.5, 0.3], [0.7, 0.4, 0.1]]), "b": np.full((3, 3), 0.75)}


def test_differences_tell_rounding_from_a_real_difference():
    (axes,) = gru.differences({"same": 1e-16, "exactly": 0.0, "apart": 0.3}).axes
    assert [line.get_xdata()[0] for line in axes.lines] == [1e-16, gru.SMALLEST, 0.3]
    assert [to_hex(line.get_color()) for line in axes.lines] == [BLUE, BLUE, ORANGE]
    assert [line.get_marker() for line in axes.lines] == ["o", "o", "D"]


def test_differences_are_read_from_top_to_bottom():
    (axes,) = gru.differences({"first": 1.0, "second": 0.1}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.yaxis_inverted()


def test_learning_draws_the_median_and_every_seed():
    (axes,) = gru.learning({"task": CURVES}, [1, 2, 3], chance=0.75).axes
    named = {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
    assert list(named["a"].get_ydata()) == pytest.approx([0.7, 0.4, 0.1])
    assert len(axes.lines) == 2 * (1 + 3) + 1


def test_learning_gives_every_curve_of_a_panel_a_style_of_its_own():
    left, right = gru.learning({"one": CURVES, "two": CURVES}, [1, 2, 3], chance=0.75).axes
    for axes in (left, right):
        named = [line for line in axes.lines if line.get_label()[0] != "_"]
        assert len({line.get_linestyle() for line in named}) == len(named)
        assert axes.get_xlabel() == "updates"
    assert left.get_ylim() == right.get_ylim()
