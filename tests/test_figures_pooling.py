"""The figures of pooling, equivariance and the classifier draw what their captions claim."""

from __future__ import annotations

import numpy as np
import pytest

from coursekit.conv import conv2d_forward
from coursekit.figures import classifier, equivariance, pooling
from coursekit.pooling import avg_pool1d_forward


def texts(axes):
    return [text.get_text() for text in axes.texts]


def shown(axes):
    """The array behind an axes' image."""
    return np.asarray(axes.images[0].get_array())


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_zoo_draws_the_slope_of_each_detector():
    for axes in pooling.zoo().axes:
        _, value, slope = axes.lines
        z, y = value.get_data()
        away_from_kinks = np.abs(z[1:-1]) > 0.1
        rise = (y[2:] - y[:-2]) / (z[2:] - z[:-2])
        np.testing.assert_allclose(slope.get_ydata()[1:-1][away_from_kinks], rise[away_from_kinks], atol=1e-3)


def test_stages_shrink_the_image_by_the_pool(rng):
    figure = pooling.stages(rng.uniform(size=(8, 6)), rng.normal(size=(3, 3)), pool=2)
    assert [shown(axes).shape for axes in figure.axes] == [(8, 6)] * 3 + [(4, 3)] * 2
    assert shown(figure.axes[1]).min() < 0 == shown(figure.axes[2]).min()


def test_lp_family_runs_from_sum_and_average_to_the_maximum():
    (axes,) = pooling.lp_family((1.0, 2.0, 6.0)).axes
    norm, mean = (line.get_ydata() for line in axes.lines[:2])
    assert (norm[0], mean[0]) == pytest.approx((9, 3))
    assert norm[-1] == pytest.approx(6)
    assert 5.8 < mean[-1] < 6


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [(8, 3, 2, 1), (7, 2, 2, 0), (11, 5, 3, 2)])
def test_window_extents_count_what_average_pooling_counts(size, kernel, stride, padding, ceil_mode):
    extents = pooling.window_extents(size, kernel, stride, padding, ceil_mode)
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    ones = np.ones((1, 1, size))
    sums = avg_pool1d_forward(ones, kernel, divisor=1, **options)[0]
    means = avg_pool1d_forward(ones, kernel, **options)[0]
    assert [inside for *_, inside in extents] == sums[0, 0].tolist()
    np.testing.assert_allclose([inside / (stop - start) for start, stop, inside in extents], means[0, 0])


def test_windows_labels_the_windows_that_reach_into_the_padding():
    floor, ceil = pooling.windows(8, 3, 2, 1).axes
    assert [text for text in texts(floor) if "of" in text] == ["2 of 3"]
    assert [text for text in texts(ceil) if "of" in text] == ["2 of 3", "1 of 2"]


def test_routes_hands_back_one_per_window(rng):
    _, largest, average = pooling.routes(rng.permutation(35).reshape(5, 7).astype(float), 3, 2).axes
    assert shown(largest).sum() == pytest.approx(6) == shown(average).sum()
    assert np.count_nonzero(shown(largest)) <= 6


def test_matrices_counts_the_different_weights_of_each_layer():
    for axes, title in zip(
        (figure := equivariance.matrices(7, (3.0, 2.0, 1.0))).axes, titles(figure), strict=True
    ):
        weights = shown(axes)
        assert f"{len(np.unique(weights[weights != 0]))} weights" in title


def test_permuted_images_keep_their_grey_values(rng):
    images = rng.uniform(size=(3, 5, 7))
    panels = equivariance.permuted(images, rng.permutation(35)).axes
    for above, below in zip(panels[:3], panels[3:], strict=True):
        np.testing.assert_array_equal(np.sort(shown(above), axis=None), np.sort(shown(below), axis=None))
        assert not np.array_equal(shown(above), shown(below))


def test_errors_by_net_writes_the_means_in_per_cent():
    (axes,) = equivariance.errors_by_net({"a": [0.01, 0.03]}, {"a": [0.05, 0.1]}).axes
    assert texts(axes) == ["2.0", "7.5"]


def test_meter_writes_each_error_in_per_cent():
    (axes,) = equivariance.meter({"good": [0.0, 0.004], "bad": [0.5, 1.2]}, [1, 2]).axes
    assert texts(axes) == ["0", "0", "50", "120"]


def test_border_is_blank_where_the_layer_is_equivariant(rng):
    w = rng.normal(size=(2, 1, 3, 3))
    layers = {
        mode: lambda x, mode=mode: conv2d_forward(x, w, padding=1, padding_mode=mode)[0]
        for mode in ("zeros", "circular")
    }
    zeros, circular, _ = equivariance.border(layers, rng.normal(size=(1, 1, 7, 11)), (0, 2)).axes
    assert shown(circular).max() < 1e-12 < shown(zeros).max()


def test_invariance_draws_the_formula_through_the_measured_shares(rng):
    shift, pool = np.arange(5), np.arange(1, 5)[:, None]
    formula = np.maximum(pool - shift, 0) / (pool + shift)
    _, right = equivariance.invariance(formula, formula, range(1, 5)).axes
    for line, marks in zip(right.lines[::2], right.lines[1::2], strict=True):
        np.testing.assert_allclose(line.get_ydata(), marks.get_ydata())


def test_aliasing_names_the_slow_wave_that_comes_out():
    _, sampled, blurred = titles(equivariance.aliasing(40, 0.4, 2))
    assert sampled.startswith("every second pixel: 0.1 periods per pixel")
    assert blurred.endswith("height 0.01")


def test_rings_blurred_first_leave_no_false_rings_at_the_corner():
    _, sampled, blurred = (shown(axes) for axes in equivariance.rings(96).axes)
    assert sampled[:8, :8].std() > 0.5 > 10 * blurred[:8, :8].std()


def test_surrogate_lies_above_the_error_and_meets_it_at_margin_zero():
    (axes,) = classifier.surrogate().axes
    bits, error = (line.get_ydata() for line in axes.lines)
    assert np.all(bits >= error - 1e-12)
    assert bits[200] == pytest.approx(1)


def test_training_marks_the_loss_of_a_guess():
    left, right = classifier.training([2.0, 1.0, 0.5, 0.2], [0.3, 0.1], [0.4, 0.2], 7).axes
    assert left.lines[1].get_ydata()[0] == pytest.approx(np.log(7))
    np.testing.assert_allclose([line.get_ydata() for line in right.lines], [[30, 10], [40, 20]])


def test_confusion_colours_mistakes_and_not_the_diagonal():
    counts = np.array([[90, 2], [5, 80]])
    (axes,) = classifier.confusion(counts).axes
    assert texts(axes) == ["90", "2", "5", "80"]
    assert axes.images[0].get_clim() == (0, 5)
    assert [patch.get_xy() for patch in axes.patches] == [(-0.5, -0.5), (0.5, 0.5)]


def test_mistakes_come_worst_first(rng):
    labels = np.array([0, 1, 0, 1])
    p_right = np.array([0.9, 0.1, 0.4, 0.3])
    p = np.where(np.eye(2)[labels] == 1, p_right[:, None], 1 - p_right[:, None])
    figure = classifier.mistakes(rng.uniform(size=(4, 5, 7)), labels, p, show=4)
    assert titles(figure) == ["1, called 0", "1, called 0", "0, called 1", "0, called 0"]


def test_filters_share_one_colour_scale(rng):
    before, after = rng.normal(size=(2, 11, 1, 3, 3))
    panels = classifier.filters(before, after, show=5).axes
    assert len(panels) == 10
    assert {axes.images[0].get_clim() for axes in panels} == {(-np.abs(after).max(), np.abs(after).max())}
