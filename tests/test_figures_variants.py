"""Each figure of the LSTM's variants draws what it claims: its artists are counted and read back."""

from __future__ import annotations

import numpy as np
import pytest

from coursekit.figures import variants

SPIKES = np.array([1, 0, 0, 1, 0])
ROWS = {"c": {"new": np.arange(5.0), "old": np.ones(5)}, "h": {"new": np.zeros(5)}}
LOSSES = {"1 unit": {"with": [0.1, 0.2, 0.3], "without": [0.5]}, "2 units": {"with": [0.01]}}


def labelled(axes):
    return {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}


def legend_of(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def test_over_time_draws_a_row_per_name_with_a_line_at_each_spike():
    fig = variants.over_time(SPIKES, ROWS, SPIKES)
    assert [axes.get_ylabel() for axes in fig.axes] == ["c", "h"]
    for axes in fig.axes:
        assert [line.get_xdata()[0] for line in axes.lines[:2]] == [0, 3]
    np.testing.assert_array_equal(labelled(fig.axes[0])["new"].get_ydata(), np.arange(5))
    assert legend_of(fig) == ["new", "old"]


def test_over_time_marks_the_wanted_moments_in_the_last_row():
    fig = variants.over_time(SPIKES, ROWS, np.array([0, 1, 0, 0, 1]))
    marks = [line for axes in fig.axes for line in axes.lines if line.get_marker() == "v"]
    assert marks == [fig.axes[-1].lines[-1]]
    assert list(marks[0].get_xdata()) == [1, 4]


def test_learning_draws_every_seed_and_the_median():
    seeds = [[1.0, 0.5], [1.0, 0.1], [1.0, 0.2]]
    (axes,) = variants.learning({"a": seeds}, every=50, chance=0.7, ylabel="loss").axes
    median = labelled(axes)["a"]
    assert list(median.get_xdata()) == [0, 50] and list(median.get_ydata()) == [1, 0.2]
    thin = [line for line in axes.lines if line.get_linewidth() < median.get_linewidth()]
    assert len(thin) == 3 + 1  # and the line of chance
    assert axes.lines[-1].get_ydata()[0] == 0.7


def test_final_losses_draw_a_dot_per_seed_in_the_row_of_its_setting():
    (axes,) = variants.final_losses(LOSSES, xlabel="loss").axes
    drawn = labelled(axes)
    assert sorted(drawn["with"].get_xdata()) == [0.01, 0.1, 0.2, 0.3]
    assert list(np.round(drawn["with"].get_ydata())) == [0, 0, 0, 1]
    assert list(drawn["without"].get_xdata()) == [0.5]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1 unit", "2 units"]
    ticks = [line for line in axes.lines if line.get_marker() == "|"]
    assert [list(line.get_xdata()) for line in ticks] == [[0.2, 0.01], [0.5]]


def test_states_stand_beside_each_other_on_one_scale():
    fig = variants.states({"short": {"a": np.ones(3)}, "long": {"a": np.arange(9.0)}}, ylabel="c")
    assert [axes.get_title(loc="left") for axes in fig.axes] == ["short", "long"]
    assert fig.axes[0].get_ylim() == fig.axes[1].get_ylim()
    assert legend_of(fig) == []


def test_states_of_one_name_look_the_same_in_all_panels():
    panels = {"left": {"a": np.ones(3), "b": np.ones(3)}, "right": {"c": np.ones(3), "b": np.ones(3)}}
    left, right = (labelled(axes) for axes in variants.states(panels, ylabel="c").axes)
    assert left["b"].get_color() == right["b"].get_color()
    assert len({line.get_color() for line in (left["a"], left["b"], right["c"])}) == 3


@pytest.mark.parametrize(
    "figure",
    [
        variants.learning({"a": [[1.0]]}, every=1, chance=1, ylabel="loss"),
        variants.states({"a": {"b": np.ones(3)}}, ylabel="cell state"),
    ],
    ids=["learning", "states"],
)
def test_plots_label_both_axes(figure):
    for axes in figure.axes:
        assert axes.get_xlabel() and axes.get_ylabel()
