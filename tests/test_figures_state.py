"""The figures on windows, states and what they hold draw what they claim: their artists are read back."""

from __future__ import annotations

import numpy as np
import pytest

from coursekit.figures import recurrence, state


def labelled(axes):
    return {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}


def titles(fig):
    return [axes.get_title(loc="left") for axes in fig.axes]


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_a_window_reads_its_last_inputs_and_no_later_one(kernel):
    arrows = recurrence.convolution_arrows(7, kernel)
    read = {t: [i for (_, i), (_, end) in arrows if end == t] for t in range(7)}
    assert read == {t: list(range(max(0, t - kernel + 1), t + 1)) for t in range(7)}


@pytest.mark.parametrize("source", [0, 2, 6])
def test_an_input_reaches_as_many_outputs_as_the_window_is_long_and_every_later_state(source):
    windows = recurrence.reached(recurrence.convolution_arrows(7, 3), ("x", source))
    states = recurrence.reached(recurrence.recurrence_arrows(7), ("x", source))
    assert windows - {("x", source)} == {("y", t) for t in range(source, min(source + 3, 7))}
    assert states - {("x", source)} == {("h", t) for t in range(source, 7)}


def test_a_state_reads_its_input_and_the_state_before():
    assert recurrence.recurrence_arrows(2) == [
        (("x", 0), ("h", 0)),
        (("x", 1), ("h", 1)),
        (("h", 0), ("h", 1)),
    ]


def test_two_ways_light_what_the_input_reaches():
    top, bottom = recurrence.two_ways(6, 2, 1).axes
    assert titles(top.figure) == ["convolution, receptive field 2", "recurrence"]
    for axes, lit in ((top, 3), (bottom, 6)):  # the input itself and what it reaches
        widths = [circle.get_linewidths()[0] for circle in axes.collections]
        assert len(widths) == 12
        assert sum(width > 2 for width in widths) == lit


def test_responses_draw_each_kernel():
    fig = recurrence.responses({"window": [1, 0.5, 0], "state": [1, 0.5, 0.25]})
    assert titles(fig) == ["window", "state"]
    assert [list(axes.lines[0].get_ydata()) for axes in fig.axes] == [[1, 0.5, 0], [1, 0.5, 0.25]]


def test_recall_draws_every_net_chance_and_the_lags_that_training_did_not_show():
    fig = recurrence.recall_by_lag([1, 2, 8], {"a": [1, 1, 0.25], "b": [1, 1, 1]}, chance=0.25, longest=4)
    (axes,) = fig.axes
    lines = labelled(axes)
    assert list(lines["a"].get_ydata()) == [1, 1, 0.25]
    assert set(lines["chance"].get_ydata()) == {0.25}
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (4, 8)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "8"]


def test_memory_draws_medians_and_sums_over_the_lags():
    shares = {"a": np.array([[1.0, 0.5], [0.8, 0.3], [0.9, 0.1]]), "b": np.zeros((3, 2))}
    left, right = state.memory(shares, 2, asked=[1]).axes
    np.testing.assert_allclose(labelled(left)["a"].get_ydata(), [0.9, 0.3])
    assert len(left.lines) == 1 + 2 * (1 + 3)
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], [1.1, 0])
    ticks = [sorted(line.get_xdata()) for line in right.lines[:2]]
    np.testing.assert_allclose(ticks, [[1.0, 1.1, 1.5], [0, 0, 0]])
    assert [label.get_text() for label in right.get_yticklabels()] == ["a", "b"]


def test_recovery_draws_medians_runs_and_chance():
    exact, bits = np.array([[1.0, 0.5], [1.0, 0.1], [0.9, 0.2]]), np.array([[4.0, 6], [4, 5], [3, 5]])
    left, right = state.recovery([2, 4], {"a": exact}, {"a": bits}, bits_per_step=2).axes
    np.testing.assert_allclose(labelled(left)["a"].get_ydata(), [1.0, 0.2])
    np.testing.assert_allclose(labelled(left)["chance"].get_ydata(), [1 / 16, 1 / 256])
    np.testing.assert_allclose(labelled(right)["a"].get_xdata(), [4, 8])
    dots = right.lines[1]
    assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [
        (4, 4), (8, 6), (4, 4), (8, 5), (4, 3), (8, 5)
    ]
