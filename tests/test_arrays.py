"""Padding, windows, output sizes and blocks: laws first, then torch's numbers, then errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from coursekit.arrays import (
    BLOCK_BYTES,
    PAD_MODES,
    ShapeError,
    batch_blocks,
    copy,
    expect_axes,
    expect_shape,
    is_torch,
    map_batch,
    multiply,
    namespace,
    output_size,
    pad,
    pad_backward,
    per_axis,
    resolve_padding,
    scatter_add,
    stack,
    transposed,
    unstack,
    windows,
)

PADS = [((0, 0), (0, 0)), ((1, 2), (3, 0)), ((2, 2), (1, 4))]


# windows


def test_windows_are_what_slicing_cuts_out(library, rng):
    x = rng.standard_normal((2, 3, 11, 13))
    view = library.numpy(windows(library.array(x), (2, 3), stride=(3, 2), dilation=(5, 4)))
    assert view.shape == (2, 3, 2, 3, 2, 3)
    for i, j in itertools.product(range(2), range(3)):
        expected = x[:, :, 3 * i : 3 * i + 6 : 5, 2 * j : 2 * j + 9 : 4].astype(library.dtype)
        np.testing.assert_array_equal(view[:, :, i, j], expected)


def test_windows_copy_nothing(rng):
    x = rng.standard_normal((2, 7, 5))
    assert np.shares_memory(windows(x, (3, 2), stride=2), x)
    t = torch.from_numpy(x)
    assert windows(t, (3, 2), stride=2).data_ptr() == t.data_ptr()


def test_windows_of_one_axis_leave_the_others_alone(library, rng):
    x = rng.standard_normal((2, 3, 7)).astype(library.dtype)
    view = library.numpy(windows(library.array(x), 5))
    np.testing.assert_array_equal(view[1, 2], np.stack([x[1, 2, i : i + 5] for i in range(3)]))


def test_a_window_larger_than_its_array_is_refused():
    with pytest.raises(
        ShapeError, match=r"a window covers \[3, 9\] pixels, x has \[5, 7\] \(x \(2, 5, 7\)\)"
    ):
        windows(np.ones((2, 5, 7)), (3, 5), dilation=(1, 2))
    with pytest.raises(ShapeError, match=r"a window covers \[1, 1\] pixels, x has \[5\] \(x \(5,\)\)"):
        windows(np.ones(5), (1, 1))


# padding


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("pads", PADS)
def test_padding_gives_torchs_numbers(library, rng, pads, mode):
    x = rng.standard_normal((2, 3, 7, 5)).astype(library.dtype)
    (top, bottom), (left, right) = pads
    torch_mode = "constant" if mode == "zeros" else mode
    expected = torch.nn.functional.pad(torch.from_numpy(x), (left, right, top, bottom), mode=torch_mode)
    np.testing.assert_array_equal(
        library.numpy(pad(library.array(x), pads, mode=mode)), expected.numpy(), strict=True
    )


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("pads", PADS)
def test_pad_backward_is_the_adjoint_of_pad(library, rng, pads, mode):
    x = library.array(rng.standard_normal((2, 3, 7, 5)))
    padded = pad(x, pads, mode=mode)
    dpadded = library.array(rng.standard_normal(tuple(padded.shape)))
    dx = pad_backward(dpadded, pads, mode=mode)
    assert dx.shape == x.shape
    assert float((dpadded * padded).sum()) == pytest.approx(float((dx * x).sum()), rel=library.tolerance)


@pytest.mark.parametrize("mode", PAD_MODES)
def test_autograd_sees_through_pad(rng, mode):
    x = torch.from_numpy(rng.standard_normal((2, 3, 7, 5))).requires_grad_()
    padded = pad(x, PADS[1], mode=mode)
    dpadded = torch.from_numpy(rng.standard_normal(tuple(padded.shape)))
    padded.backward(dpadded)
    torch.testing.assert_close(pad_backward(dpadded, PADS[1], mode=mode), x.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("pads", PADS)
def test_padding_never_shares_memory_with_its_input(rng, pads, mode):
    x = rng.standard_normal((2, 7, 5))
    padded = pad(x, pads, mode=mode)
    back = pad_backward(padded, pads, mode=mode)
    for source, result in ((x, padded), (padded, back)):
        assert not np.shares_memory(result, source)
        assert result.flags.c_contiguous and result.flags.writeable


def test_padding_with_a_value_is_for_pooling(library):
    padded = library.numpy(pad(library.array(np.zeros((2, 3))), ((1, 0), (0, 2)), value=-np.inf))
    assert np.isneginf(padded[0]).all() and np.isneginf(padded[:, 3:]).all() and (padded[1:, :3] == 0).all()


@pytest.mark.parametrize(
    "mode, pads, error, message",
    [
        ("mirror", ((1, 1),), ValueError, "pad: padding_mode 'mirror' is unknown, expected one of"),
        ("zeros", ((1, -1),), ValueError, "pad: padding must be >= 0"),
        ("reflect", ((1, 5),), ShapeError, "'reflect' can add at most 4 pixels to an axis of 5"),
        ("circular", ((6, 0),), ShapeError, "'circular' can add at most 5 pixels to an axis of 5"),
        ("replicate", ((1, 0), (0, 0)), ShapeError, "'replicate' can add at most 0 pixels to an axis of 0"),
    ],
)
def test_impossible_padding_is_refused(mode, pads, error, message):
    with pytest.raises(error, match=message):
        pad(np.ones((0, 5)), pads, mode=mode)


def test_the_edge_can_be_repeated_more_often_than_the_axis_has_pixels(rng):
    x = torch.from_numpy(rng.standard_normal((1, 1, 2, 3))).requires_grad_()
    expected = torch.nn.functional.pad(x, (7, 0, 3, 5), mode="replicate")
    pads = ((3, 5), (7, 0))
    np.testing.assert_array_equal(pad(x.detach().numpy(), pads, mode="replicate"), expected.detach())
    dxp = rng.standard_normal(expected.shape)
    expected.backward(torch.from_numpy(dxp))
    np.testing.assert_allclose(pad_backward(dxp, pads, mode="replicate"), x.grad, rtol=1e-12)


# sizes


@pytest.mark.parametrize("word, before_minus_after", [("same", (0, -1)), ("same_lower", (0, 1))])
def test_same_gives_one_output_per_stride(word, before_minus_after):
    for n, k, s, d in itertools.product((1, 2, 5, 7, 11), (1, 2, 3), (1, 2, 3, 5), (1, 2, 3)):
        (pads,) = resolve_padding(word, (n,), (k,), stride=s, dilation=d)
        assert output_size(n, k, stride=s, padding=(pads,), dilation=d) == -(-n // s)
        assert pads[0] - pads[1] in before_minus_after


def test_same_and_same_upper_are_one():
    same, upper = (resolve_padding(word, (7, 5), (4, 2), stride=2) for word in ("same", "same_upper"))
    assert same == upper == ((1, 2), (0, 1))


def test_full_lets_every_window_count_that_sees_a_pixel():
    assert resolve_padding("full", (7, 5), (3, 2), dilation=(1, 3)) == ((2, 2), (3, 3))
    assert output_size((7, 5), (3, 2), padding="full", dilation=(1, 3)) == (7 + 2, 5 + 3)


@pytest.mark.parametrize(
    "padding, pads",
    [
        ("valid", ((0, 0), (0, 0))),
        (3, ((3, 3), (3, 3))),
        ((1, 2), ((1, 1), (2, 2))),
        ([(1, 2), (3, 5)], ((1, 2), (3, 5))),
    ],
)
def test_padding_can_be_asked_for_in_several_ways(padding, pads):
    assert resolve_padding(padding, (7, 5), (3, 3)) == pads


def test_output_size_counts_the_windows_that_fit():
    for n, k, s, d, p in itertools.product((5, 7, 11), (1, 2, 3), (1, 2, 3), (1, 2), (0, 1, 2)):
        starts = [a for a in range(0, n + 2 * p, s) if a + d * (k - 1) < n + 2 * p]
        assert output_size(n, k, stride=s, padding=p, dilation=d) == len(starts)


def test_ceil_mode_is_torchs():
    for n, k, s, d in itertools.product((5, 6, 7, 11), (1, 2, 3), (1, 2, 3, 5), (1, 2)):
        for p in range(k // 2 + 1):
            pool = torch.nn.functional.max_pool1d
            expected = pool(torch.zeros(1, 1, n), k, s, p, d, ceil_mode=True).shape[-1]
            assert output_size(n, k, stride=s, padding=p, dilation=d, ceil_mode=True) == expected


def test_a_kernel_larger_than_the_padded_input_is_refused():
    with pytest.raises(ShapeError, match=r"kernel covers 9 pixels \(kernel 5, dilation 2\).* has only 7"):
        output_size(5, 5, padding=1, dilation=2)


@pytest.mark.parametrize(
    "padding, error, message",
    [
        ("some", ValueError, "padding 'some' is unknown, expected numbers or one of"),
        (-1, ValueError, "padding must be >= 0, got -1"),
        ((1, 2, 3), ValueError, r"padding has 3 entries, expected one integer or 2, got \(1, 2, 3\)"),
        (((1, 2),), ValueError, r"needs a \(before, after\) pair for each of 2 axes"),
        (((1, 2), 3), ValueError, r"needs a \(before, after\) pair for each of 2 axes"),
        (1.0, TypeError, "padding must be an integer or 2 of them, got 1.0"),
    ],
)
def test_padding_that_makes_no_sense_is_refused(padding, error, message):
    with pytest.raises(error, match=message):
        resolve_padding(padding, (7, 5), (3, 3))


def test_per_axis_repeats_or_checks():
    assert per_axis(np.int64(3), 2, "stride", 1) == (3, 3)
    assert per_axis([2, 3], 2, "stride", 1) == (2, 3)
    with pytest.raises(ValueError, match="stride must be >= 1, got 0"):
        per_axis(0, 2, "stride", 1)
    with pytest.raises(TypeError, match="stride must be an integer or 2 of them, got True"):
        per_axis(True, 2, "stride", 1)
    with pytest.raises(TypeError, match="^groups must be an integer, got 1.5"):
        per_axis(1.5, 1, "groups", 1)


# arrays and their libraries


def test_the_namespace_is_the_arrays_own(library):
    xp = namespace(library.array([1.0]), None, library.array([2.0]))
    assert library.numpy(xp.ones((2,), dtype=getattr(xp, library.dtype))).sum() == 2
    assert is_torch(library.array([1.0])) == (library.name == "torch")


@pytest.mark.parametrize(
    "x, w, message",
    [
        (np.ones(2), torch.ones(2), "f: all arrays must have one array library, got x numpy, w torch"),
        (np.ones(2), np.ones(2, "f"), "f: all arrays must have one dtype, got x float64, w float32"),
        (
            torch.ones(2),
            torch.ones(2, device="meta"),
            "f: all arrays must have one device, got x cpu, w meta",
        ),
        (np.ones(2, int), np.ones(2, int), "f: x has dtype int64, expected a floating one"),
        (np.ones(2), [1.0, 2.0], "f: w is a list, not an array; convert it, e.g. numpy.asarray"),
        (None, np.ones(2), "f: x is a NoneType, not an array"),
        (np.ones(2), np.ma.ones(2), r"f: w is masked, and masks are not kept; use w.filled\(0\)"),
    ],
)
def test_arrays_that_do_not_mix_are_refused(x, w, message):
    with pytest.raises(TypeError, match=message):
        namespace(x, w, function="f")


def test_a_subclass_belongs_to_the_library_of_its_arrays():
    class Photograph(np.ndarray):
        pass

    assert namespace(np.ones(3).view(Photograph), np.ones(2)) is namespace(np.ones(2))


def test_nothing_where_an_array_should_be_is_named():
    with pytest.raises(TypeError, match=r"f: w is None, expected an array with 2 axes \(D K\)"):
        expect_axes("f", "w", None, "D K")


def test_a_missing_batch_axis_is_recognised():
    with pytest.raises(
        ShapeError, match=r"f: x has 3 axes \(3, 7, 5\), expected 4 \(N C H W\); x\[None\] adds"
    ):
        expect_axes("f", "x", np.ones((3, 7, 5)), "N C H W")


def test_a_wrong_shape_is_reported_with_the_reason():
    with pytest.raises(ShapeError, match=r"f: b has shape \(3,\), expected \(5,\): one offset per filter"):
        expect_shape("f", "b", np.ones(3), (5,), "one offset per filter")


def test_a_copy_is_new_and_in_c_order(library, rng):
    x = library.array(rng.standard_normal((3, 5))).T
    duplicate = copy(x)
    np.testing.assert_array_equal(library.numpy(duplicate), library.numpy(x))
    assert library.numpy(duplicate).flags.c_contiguous
    duplicate[0, 0] = 7
    assert x[0, 0] != 7


# scattered sums


def test_scattering_is_the_adjoint_of_picking(library, rng):
    picked, image = rng.standard_normal((2, 3, 11)), rng.standard_normal((2, 3, 5, 7))
    positions = rng.integers(0, 10, picked.shape)  # ten pixels for eleven values: some meet
    on = image.reshape(2, 3, 35)
    expected = (picked * np.take_along_axis(on, positions, axis=2)).sum()
    values = library.array(picked)
    positions = torch.from_numpy(positions).to(library.device) if is_torch(values) else positions
    scattered = library.numpy(scatter_add(values, positions, image.shape))
    np.testing.assert_allclose((scattered * image).sum(), expected, rtol=library.tolerance)


# blocks


def test_blocks_cut_numpys_batch_once_and_leave_torchs_whole():
    x = np.ones((7, 2))
    blocks = list(batch_blocks(x, BLOCK_BYTES // 3))
    assert [b.stop - b.start for b in blocks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([np.arange(7)[b] for b in blocks]), np.arange(7))
    assert list(batch_blocks(torch.ones(7, 2), BLOCK_BYTES)) == [slice(0, 7)]


@pytest.mark.parametrize("item_bytes", [1, BLOCK_BYTES // 2, 2 * BLOCK_BYTES])
def test_map_batch_is_the_function_on_the_whole_batch(library, rng, item_bytes):
    x, y = (library.array(rng.standard_normal((7, n))) for n in (2, 3))
    result = library.numpy(map_batch(lambda x, y: x[:, :1] * y, x, y, item_bytes=item_bytes))
    np.testing.assert_array_equal(result, library.numpy(x[:, :1] * y))


def test_map_batch_of_an_empty_batch_keeps_the_shape(library):
    x = library.array(np.ones((0, 3)))
    assert library.numpy(map_batch(lambda x: x[:, None] * 2, x, item_bytes=1)).shape == (0, 1, 3)


# products and steps

# Every way to cut a product is met: as it is, in blocks of 64 and of 32 columns with and without a rest,
# too many terms for any block, one product for every step, and one for all.
PRODUCTS = [
    ((5, 3), 7),
    ((20, 300), 256),
    ((20, 300), 300),
    ((32, 600), 100),
    ((33, 1200), 40),
    ((1, 1100), 1000),
    ((3, 9, 5), 7),
    ((3, 2, 5), 7),
    ((2, 90, 130), 100),
    ((2, 3, 9, 5), 7),
    ((0, 9, 5), 7),
    ((3, 0, 5), 7),
]


@pytest.mark.parametrize(("shape", "columns"), PRODUCTS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_product_in_pieces_is_the_product(shape, columns, order, library, rng):
    a, w = rng.standard_normal(shape), rng.standard_normal((shape[-1], columns))
    plus = rng.standard_normal(columns)
    given = library.array(a), library.array(np.asarray(w, order=order))
    ours = library.numpy(multiply(*given)), library.numpy(multiply(*given, library.array(plus)))
    assert ours[0].shape == (*shape[:-1], columns)
    for product, expected in zip(ours, (a @ w, a @ w + plus), strict=True):
        np.testing.assert_allclose(product, expected, atol=library.tolerance * 100)


def test_a_product_modifies_nothing_that_it_is_given(rng):
    for shape, columns in PRODUCTS:
        given = [rng.standard_normal(s) for s in (shape, (shape[-1], columns), (*shape[:-1], columns))]
        for array in given:
            array.flags.writeable = False
        assert not any(np.shares_memory(multiply(*given), array) for array in given)


def test_matrices_that_do_not_fit_are_refused():
    for shape in ((5, 3), (2, 9, 3), (2, 3, 3)):
        with pytest.raises(ValueError, match="mismatch|not aligned"):
            multiply(np.ones(shape), np.ones((4, 7)))


def test_steps_stacked_and_unstacked_are_the_same(library, rng):
    x = rng.standard_normal((3, 2, 5))
    parts = unstack(library.array(x))
    assert len(parts) == 3
    np.testing.assert_array_equal(library.numpy(stack(parts)), x.astype(library.dtype))


def test_a_transposed_matrix_is_the_transpose(library, rng):
    w = rng.standard_normal((2, 5))
    np.testing.assert_array_equal(library.numpy(transposed(library.array(w))), w.T.astype(library.dtype))
