"""The meter must read 0 where theory says 0, and the size of the fault where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from coursekit.arrays import ShapeError
from coursekit.conv import conv1d_forward, conv2d_forward
from coursekit.equivariance import equivariance_error, translate, unchanged_share
from coursekit.pooling import max_pool1d_forward


def circular_convolution(rng, stride=1):
    w = rng.normal(size=(3, 2, 3, 3))
    return lambda x: conv2d_forward(x, w, stride=stride, padding=1, padding_mode="circular")[0]


def slow_waves(rng, size, below):
    """Random periodic images without any frequency of below or more, in periods per image."""
    spectrum = np.fft.fft2(rng.normal(size=(1, 2, size, size)))
    index = np.abs(np.fft.fftfreq(size, 1 / size))
    return np.fft.ifft2(spectrum * (index[:, None] < below) * (index < below)).real


def test_whole_pixels_are_rolled(library, rng):
    values = rng.normal(size=(2, 5, 7))
    moved = library.numpy(translate(library.array(values), (2, -3)))
    np.testing.assert_array_equal(moved, np.roll(values, (2, -3), axis=(1, 2)).astype(library.dtype))


def test_half_a_pixel_twice_is_one_pixel(library, rng):
    x = library.array(rng.normal(size=(2, 7, 5)))
    twice = library.numpy(translate(translate(x, (0.5, -0.5)), (0.5, -0.5)))
    np.testing.assert_allclose(twice, library.numpy(translate(x, (1, -1))), atol=library.tolerance)


def test_a_fraction_moves_a_wave_by_that_fraction():
    pixel = np.arange(11)
    wave = np.cos(2 * np.pi * 3 * pixel / 11)
    expected = np.cos(2 * np.pi * 3 * (pixel - 0.3) / 11)
    np.testing.assert_allclose(translate(wave, [0.3]), expected, atol=1e-12)


def test_translate_names_a_shift_with_too_many_numbers():
    with pytest.raises(ShapeError, match=r"shift \(1, 2\) has 2 numbers, x has 1 axes"):
        translate(np.ones(3), (1, 2))


def test_a_circular_convolution_is_equivariant(library, rng):
    w = library.array(rng.normal(size=(3, 2, 3, 3)))
    x = library.array(rng.normal(size=(1, 2, 7, 11)))
    error = equivariance_error(
        lambda x: conv2d_forward(x, w, padding=1, padding_mode="circular")[0], x, (2, 3)
    )
    assert error < library.tolerance


def test_zero_padding_breaks_equivariance_at_the_border_alone(rng):
    w, x = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(1, 2, 7, 11))

    def layer(x):
        return conv2d_forward(x, w, padding=1)[0]

    assert equivariance_error(layer, x, (0, 1)) > 0.01
    difference = layer(translate(x, (0, 1))) - translate(layer(x), (0, 1))
    columns = np.abs(difference).max(axis=(0, 1, 2))
    assert np.flatnonzero(columns > 1e-12).tolist() == [0, 1, 10]


def test_a_strided_layer_is_equivariant_to_multiples_of_its_stride(rng):
    layer, x = circular_convolution(rng, stride=3), rng.normal(size=(1, 2, 12, 12))
    errors = [equivariance_error(layer, x, (0, pixels), stride=3) for pixels in range(7)]
    assert [error < 1e-12 for error in errors] == [True, False, False, True, False, False, True]


def test_a_strided_layer_is_equivariant_to_every_shift_of_an_image_it_does_not_alias(rng):
    layer = circular_convolution(rng, stride=2)
    fine, slow = rng.normal(size=(1, 2, 12, 12)), slow_waves(rng, 12, below=3)
    assert equivariance_error(layer, fine, (0, 1), stride=2) > 0.1
    assert equivariance_error(layer, slow, (0, 1), stride=2) < 1e-12


def test_a_constant_added_to_the_output_does_not_hide_an_error(rng):
    layer, x = circular_convolution(rng, stride=2), rng.normal(size=(1, 2, 12, 12))
    plain, lifted = (
        equivariance_error(lambda x, c=constant: layer(x) + c, x, (0, 1), stride=2) for constant in (0, 100)
    )
    assert lifted == pytest.approx(plain)


def test_an_image_that_the_function_erases_is_refused():
    with pytest.raises(ValueError, match=r"f\(x\) is constant"):
        equivariance_error(lambda x: 0 * x, np.ones((1, 1, 3, 5)), (0, 1))


def test_a_constant_whose_mean_is_rounded_is_still_a_constant(library):
    y = library.array(np.full((2, 3, 5, 7), 0.1))
    with pytest.raises(ValueError, match=r"f\(x\) is constant"):
        equivariance_error(lambda x: y, y, (0, 1))


def test_a_numpy_scalar_as_shift_does_not_change_the_dtype(library):
    library.numpy(translate(library.array(np.ones(5)), [np.float64(0.5)]))


def test_an_image_that_is_a_list_is_refused_by_name():
    with pytest.raises(TypeError, match="translate: x is a list, not an array"):
        translate([1.0, 2.0], [1])


@pytest.mark.parametrize(("window", "pixels"), [(2, 1), (3, 1), (5, 2), (7, 5), (3, 3)])
def test_max_pooled_noise_stays_as_often_as_the_shared_pixels_hold_the_maximum(rng, window, pixels):
    noise = rng.uniform(size=(1, 1, 20011))
    before, after = (max_pool1d_forward(x, window, stride=1)[0] for x in (noise, translate(noise, [pixels])))
    expected = (window - pixels) / (window + pixels)
    assert unchanged_share(before, after) == pytest.approx(expected, abs=0.02)


def test_average_pooled_noise_never_stays(rng):
    noise = rng.uniform(size=(1, 1, 101))
    blur = np.full((1, 1, 3), 1 / 3)
    before, after = (conv1d_forward(x, blur)[0] for x in (noise, translate(noise, [1])))
    assert unchanged_share(before, after) == 0


def test_empty_background_does_not_count_as_unchanged():
    before, after = np.array([0.0, 0.0, 0.0, 2.0, 5.0]), np.array([0.0, 0.0, 0.0, 2.0, 3.0])
    assert unchanged_share(before, after) == 0.5


def test_a_share_of_more_units_than_half_precision_can_count():
    assert unchanged_share(np.ones(70_001, "float16"), np.ones(70_001, "float16")) == 1


def test_shares_of_different_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"before has shape \(3,\), after \(5,\)"):
        unchanged_share(np.ones(3), np.ones(5))


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match="every unit is 0"):
        unchanged_share(np.zeros(3), np.zeros(3))
