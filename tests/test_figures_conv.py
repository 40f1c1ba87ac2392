"""Each figure of the convolution chapters draws what it claims: its artists are counted and read back."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch, Rectangle

from coursekit import arrays
from coursekit.figures import conv

STAGES = [
    ("convolution", (2, 7, 5), 20),
    ("detector", (2, 7, 5), 0),
    ("pooling", (2, 3, 2), 0),
    ("classifier", (3,), 39),
]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def rectangles(axes):
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": 3, "padding": 1},
        {"padding": "full"},
        {"padding": ((2, 0),), "dilation": 2},
    ],
)
def test_windows_draws_each_output_as_one_row_of_taps(options):
    (axes,) = conv.windows(7, 3, {"panel": options}, columns=1).axes
    bars = [patch for patch in rectangles(axes) if patch.get_height() < 1]
    assert len(bars) == 3 * arrays.output_size(7, 3, **options)


def test_windows_keep_inside_the_padded_row():
    options = {"stride": 3, "padding": ((1, 2),), "dilation": 2}
    (axes,) = conv.windows(7, 3, {"panel": options}, columns=1).axes
    drawn = rectangles(axes)
    assert min(patch.get_x() for patch in drawn) == -1
    assert max(patch.get_x() + patch.get_width() for patch in drawn) == 9


def test_padding_modes_writes_the_padded_values():
    (axes,) = conv.padding_modes([3, 1, 4, 1, 5], (3, 2), ["reflect", "circular"]).axes
    assert texts(axes) == ["reflect", *"1413141514", "circular", *"4153141531"]


def test_two_vocabularies_frames_two_complex_and_four_simple_layers():
    (axes,) = conv.two_vocabularies(STAGES).axes
    frames = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch) and patch.zorder == 0]
    assert len(frames) == 2 + 4
    assert texts(axes).count("no parameters") == 2 * 2


def test_gather_and_scatter_names_the_kernel_values_that_meet_the_pixel():
    _, right = conv.gather_and_scatter(7, 3, stride=2, output=1, pixel=2).axes
    assert [text for text in texts(right) if "w" in text] == ["$w_2$", "$w_0$"]


def test_blind_spots_tell_a_zero_error_from_a_caught_one():
    (axes,) = conv.blind_spots(np.array([[0.0, 0.5]]), ["wrong dw"], ["ones", "random"]).axes
    assert texts(axes) == ["passes", "caught (error 0.5)"]


@pytest.mark.parametrize(
    "figure",
    [
        conv.receptive_fields([3, 9, 20], [3, 9, 20], [3, 7, 12]),
        conv.gradient_supports({"a": np.eye(5)}),
        conv.receptive_field_growth({"constant": [3, 5, 7], "doubling": [3, 7, 15]}),
        conv.lag_accuracy([3, 7, 11], {"stack": [1, 1, 0.25]}, 0.25),
        conv.difference_errors([1e-1, 1e-3], {"central": [1e-2, 1e-6]}),
    ],
    ids=["receptive fields", "supports", "growth", "lag", "differences"],
)
def test_plots_label_both_axes_in_lower_case_with_a_unit_or_a_count(figure):
    for axes in figure.axes:
        for label in (axes.get_xlabel(), axes.get_ylabel()):
            assert label and label == label.lower()


def test_receptive_fields_puts_equal_pairs_on_the_diagonal():
    (axes,) = conv.receptive_fields([3, 11], [3, 11], [3, 5]).axes
    _, spans, counts = axes.lines
    assert list(spans.get_xdata()) == list(spans.get_ydata())
    assert list(counts.get_ydata()) == [3, 5]


def test_gradient_supports_counts_the_pixels_it_shows():
    (axes,) = conv.gradient_supports({"diagonal": np.eye(5)}).axes
    assert axes.get_title(loc="left") == "diagonal\n5 of 25 pixels"


def test_number_grids_writes_every_value():
    left, right = conv.number_grids({"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((3, 2))}).axes
    assert (texts(left), texts(right)) == (list("012345"), ["0"] * 6)


def test_three_stages_writes_the_signal_after_every_stage():
    (axes,) = conv.three_stages({"in": [1, 2, 3], "conv": [-1, 1], "relu": [0, 1], "pool": [1]}).axes
    assert texts(axes) == ["in", "1", "2", "3", "conv", "-1", "1", "relu", "0", "1", "pool", "1"]


def test_cost_ratios_writes_each_ratio_clear_of_the_line_of_equal_cost():
    (axes,) = conv.cost_ratios(["fast", "naive"], [0.9, 1540.0]).axes
    assert texts(axes) == ["0.90", "1540"]
    assert [text.xy[0] for text in axes.texts] == [1, 1540]
    assert [1, 1] in [list(line.get_xdata()) for line in axes.lines]
