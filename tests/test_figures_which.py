"""Each figure of the page that takes gated cells apart draws what it claims: its artists are read back."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from coursekit.figures import which
from coursekit.figures.conv import BLUE, GREY, INK, ORANGE

RESULTS = {
    "order": {"LSTM": [0.0, 0.1, 0.5], "GRU": [0.2, 0.2, 0.2]},
    "text": {"LSTM": [2.0, 2.1, 2.3], "GRU": [1.9, 2.0, 2.2]},
}
MEASURES = {"order": "wrong answers", "text": "nats"}
EFFECTS = {
    task: {
        "better": which.Effect(-1.0, -1.5, -0.5, clear=True),
        "worse": which.Effect(1.0, 0.5, 1.5, clear=True),
        "noise": which.Effect(0.2, -0.5, 1.0, clear=False),
    }
    for task in MEASURES
}


def colour(line):
    return to_hex(line.get_color())


def test_seeds_draws_every_seed_and_the_median_of_each_variant():
    for axes, task in zip(which.seeds(RESULTS, "LSTM", MEASURES).axes, RESULTS, strict=True):
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        assert [sorted(line.get_xdata()) for line in dots] == [sorted(v) for v in RESULTS[task].values()]
        medians = [line.get_xdata()[0] for line in axes.lines if colour(line) == INK]
        assert medians == [np.median(v) for v in RESULTS[task].values()]
        assert axes.get_xlabel() == MEASURES[task]


def test_seeds_shows_equal_results_one_by_one_and_marks_the_reference():
    axes = which.seeds(RESULTS, "LSTM", MEASURES).axes[0]
    lstm, gru = (line for line in axes.lines if line.get_marker() == "o")
    assert len(set(gru.get_ydata())) == 3
    assert (colour(lstm), colour(gru)) == (ORANGE, BLUE)
    assert axes.lines[0].get_xdata()[0] == 0.1


def test_effects_fill_only_what_is_more_than_noise():
    axes = which.effects(EFFECTS, MEASURES).axes[0]
    marks = [line for line in axes.lines if line.get_marker() in ("o", "D")]
    assert [colour(mark) for mark in marks] == [BLUE, ORANGE, GREY]
    filled = [to_hex(mark.get_markerfacecolor()) == colour(mark) for mark in marks]
    assert filled == [True, True, False]
    bars = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2][1:]
    assert bars == [(-1.5, -0.5), (0.5, 1.5), (-0.5, 1.0)]


def test_effects_are_read_from_top_to_bottom():
    axes = which.effects(EFFECTS, MEASURES).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "worse", "noise"]
    assert axes.yaxis_inverted()


def test_rates_print_every_mean_and_frame_the_best_of_each_row():
    table = np.array([[0.3, 0.1, 0.7], [2.0, 3.0, 1.0]])
    (axes,) = which.rates({"order": table}, ["a", "b"], [0.1, 0.2, 0.4]).axes
    assert [text.get_text() for text in axes.texts] == ["0.30", "0.10", "0.70", "2.00", "3.00", "1.00"]
    framed = [text.get_text() for text in axes.texts if text.get_bbox_patch().get_edgecolor()[3] > 0]
    assert framed == ["0.10", "1.00"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.2", "0.4"]


@pytest.mark.parametrize("draw", [which.seeds, which.effects])
def test_plots_label_both_tasks(draw):
    given = (RESULTS, "LSTM", MEASURES) if draw is which.seeds else (EFFECTS, MEASURES)
    assert [axes.get_title(loc="left") for axes in draw(*given).axes] == list(MEASURES)
