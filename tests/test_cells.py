"""One recurrent step: its formula element by element, activations, gradients before three judges, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from array_api_compat import array_namespace

from coursekit.arrays import ShapeError
from coursekit.cells import (
    ACTIVATIONS,
    RECURRENT_INITIALISERS,
    RNNCell,
    RNNState,
    initial_weights,
    named_activation,
    rnn_step_backward,
    rnn_step_forward,
)
from coursekit.cells.initial import orthogonal
from coursekit.gradcheck import check_gradients

F = torch.nn.functional
N, D, U = 5, 3, 7

# name, alpha and beta, what torch calls it
TORCH = [
    ("tanh", (), torch.tanh),
    ("relu", (), torch.relu),
    ("identity", (), lambda a: a),
    ("sigmoid", (), torch.sigmoid),
    ("affine", (0.7, -0.3), lambda a: 0.7 * a - 0.3),
    ("leaky_relu", (0.2,), lambda a: F.leaky_relu(a, 0.2)),
    ("thresholded_relu", (0.4,), lambda a: F.threshold(a, 0.4, 0.0)),
    ("scaled_tanh", (1.7, 0.6), lambda a: 1.7 * torch.tanh(0.6 * a)),
    ("hard_sigmoid", (), lambda a: torch.clip(0.2 * a + 0.5, 0, 1)),
    ("elu", (0.8,), lambda a: F.elu(a, 0.8)),
    ("softsign", (), F.softsign),
    ("softplus", (), F.softplus),
]
activations = pytest.mark.parametrize(("name", "numbers", "judge"), TORCH, ids=[row[0] for row in TORCH])


def draw(rng, *, biases=2):
    """x, h, u, w and as many offsets as asked for."""
    shapes = (N, D), (N, U), (D, U), (U, U), *((U,),) * biases
    return [rng.standard_normal(shape) for shape in shapes]


def assert_close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)))


# activations


def test_every_activation_is_judged():
    assert [row[0] for row in TORCH] == list(ACTIVATIONS)


@activations
def test_an_activation_is_torchs(name, numbers, judge, library, rng):
    a = rng.normal(scale=2, size=(N, U))
    f = named_activation(name, *numbers)
    ours = library.numpy(f.value(array_namespace(library.array(a)), library.array(a)))
    assert_close(ours, judge(torch.from_numpy(a)).numpy(), library.tolerance)


@activations
def test_the_slope_read_off_the_value_is_autograds(name, numbers, judge, rng):
    a = torch.from_numpy(rng.normal(scale=2, size=(N, U))).requires_grad_()
    f = named_activation(name, *numbers)
    (expected,) = torch.autograd.grad(judge(a).sum(), a)
    xp = array_namespace(a)
    slope = f.slope(xp, f.value(xp, a.detach()))
    assert_close(slope.numpy(), expected.numpy())
    assert slope.dtype == a.dtype


@activations
def test_an_activation_keeps_float32(name, numbers, judge):
    a = np.linspace(-3, 3, 7, dtype="float32")
    f = named_activation(name, *numbers)
    assert f.value(np, a).dtype == f.slope(np, f.value(np, a)).dtype == np.float32


@activations
def test_large_values_overflow_nowhere(name, numbers, judge):
    a = np.array([-1e4, 1e4])
    for f in (named_activation(name), named_activation(name, *numbers)):
        assert np.isfinite(f.value(np, a)).all() and np.isfinite(f.slope(np, f.value(np, a))).all()


@pytest.mark.parametrize(
    ("name", "numbers", "error", "message"),
    [
        ("tan", (), ValueError, r"^activation 'tan' is unknown, expected one of \('tanh', 'relu',"),
        ("tanh", (1.0,), TypeError, r"^activation 'tanh' does not take 1 numbers: \(1.0,\)"),
        ("elu", (1.0, 2.0), TypeError, r"^activation 'elu' does not take 2 numbers: \(1.0, 2.0\)"),
    ],
)
def test_an_activation_that_does_not_exist_is_named(name, numbers, error, message):
    with pytest.raises(error, match=message):
        named_activation(name, *numbers)


# one step


def test_a_step_is_its_formula_unit_by_unit(rng):
    x, h, u, w, b, bw = draw(rng)
    after, _ = rnn_step_forward(x, h, u, w, b, bw)
    for n in range(N):
        for j in range(U):
            a = b[j] + bw[j]
            a += sum(x[n, i] * u[i, j] for i in range(D)) + sum(h[n, i] * w[i, j] for i in range(U))
            assert after[n, j] == pytest.approx(np.tanh(a), abs=1e-12)


def test_offsets_that_are_not_given_are_zero(rng):
    x, h, u, w = draw(rng, biases=0)
    zero = np.zeros(U)
    assert_close(rnn_step_forward(x, h, u, w)[0], rnn_step_forward(x, h, u, w, zero, zero)[0])


def test_only_the_sum_of_the_two_offsets_counts(rng):
    x, h, u, w, b, bw = draw(rng)
    assert_close(rnn_step_forward(x, h, u, w, b, bw)[0], rnn_step_forward(x, h, u, w, b + bw)[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_step_before_takes_back_what_the_gradients_predict(activation, rng):
    inputs = draw(rng)
    if activation == "identity":
        inputs = [a / 2 for a in inputs]
    check_gradients(
        lambda *a: rnn_step_forward(*a, activation=activation), rnn_step_backward, inputs, rng=rng
    )


def test_gradients_of_a_step_are_autograds(rng):
    inputs = draw(rng)
    tensors = [torch.from_numpy(a).requires_grad_() for a in inputs]
    dh = rng.standard_normal((N, U))
    expected = torch.autograd.grad(rnn_step_forward(*tensors)[0], tensors, torch.from_numpy(dh))
    ours = rnn_step_backward(dh, rnn_step_forward(*inputs)[1])
    for a, b in zip(ours, expected, strict=True):
        assert_close(a, b.numpy())


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_step_is_torchs_cell(nonlinearity, library, rng):
    x, h, u, w, b, bw = draw(rng)
    judge = torch.nn.RNNCell(D, U, nonlinearity=nonlinearity, dtype=torch.float64)
    for parameter, values in zip(judge.parameters(), (u.T, w.T, b, bw), strict=True):
        parameter.data = torch.from_numpy(values.copy())
    tx, th = (torch.from_numpy(a).requires_grad_() for a in (x, h))
    expected, dh = judge(tx, th), rng.standard_normal((N, U))
    expected.backward(torch.from_numpy(dh))
    after, cache = rnn_step_forward(*map(library.array, (x, h, u, w, b, bw)), activation=nonlinearity)
    ours = [library.numpy(a) for a in (after, *rnn_step_backward(library.array(dh), cache))]
    weights = [p.grad.numpy().T for p in judge.parameters()]
    for a, b in zip(
        ours, [expected.detach().numpy(), tx.grad.numpy(), th.grad.numpy(), *weights], strict=True
    ):
        assert_close(a, b, library.tolerance)


def test_gradients_of_offsets_that_are_not_there_are_none(rng):
    for biases, missing in ((0, {"db", "dbw"}), (1, {"dbw"}), (2, set())):
        after, cache = rnn_step_forward(*draw(rng, biases=biases))
        gradients = rnn_step_backward(after, cache)._asdict()
        assert {name for name, gradient in gradients.items() if gradient is None} == missing


def test_a_step_backward_takes_the_slopes_of_all_steps_or_finds_its_own(rng):
    x, h, u, w, b, bw = draw(rng)
    cell, states = RNNCell(u, w, b, bw), [RNNState(h)]
    for z in cell.project(np.stack([x, 2 * x])):
        states.append(cell.step(z, states[-1])[0])
    slopes = cell.local_slopes(RNNState(np.stack([state.h for state in states])), [(), ()])
    for t in (0, 1):
        alone = cell.step_backward(RNNState(h), states[t], states[t + 1])
        given = cell.step_backward(RNNState(h), states[t], states[t + 1], slopes[t])
        np.testing.assert_array_equal(alone[0], given[0])
        np.testing.assert_array_equal(alone[1].h, given[1].h)


def test_nothing_given_is_modified(rng):
    inputs = draw(rng)
    for array in inputs:
        array.flags.writeable = False
    after, cache = rnn_step_forward(*inputs)
    after.flags.writeable = False
    for gradient in rnn_step_backward(after, cache):
        assert not any(np.shares_memory(gradient, array) for array in (*inputs, after))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_nothing_is_made_on_the_cpu_by_mistake(activation, clip, rng):
    x, h, *parameters = (torch.empty(a.shape, device="meta") for a in draw(rng))
    cell = RNNCell(*parameters, activation=activation, clip=clip)
    before = cell.initial(x[None])
    after, saved = cell.step(cell.project(x[None])[0], before)
    dz, dbefore = cell.step_backward(RNNState(h), before, after, saved)
    gradients = cell.gradients(x, before, after, dz)
    assert {a.device.type for a in (after.h, dz, dbefore.h, *gradients)} == {"meta"}


# clipping what goes into the activation


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity", "sigmoid", "softsign", "elu", "softplus"])
def test_what_goes_in_is_cut_and_has_no_slope_there(activation, rng):
    x, h, u, w, b, bw = (torch.from_numpy(2 * a).requires_grad_() for a in draw(rng))
    cell = RNNCell(u, w, b, bw, activation=activation, clip=1.5)
    a = x @ u + h @ w + b + bw
    expected = named_activation(activation).value(array_namespace(x), torch.clip(a, -1.5, 1.5))
    after, _ = cell.step(cell.project(x[None])[0], RNNState(h))
    assert 0 < int((a.abs() > 1.5).sum()) < a.numel()
    assert_close(after.h.detach().numpy(), expected.detach().numpy())
    dh = torch.from_numpy(rng.standard_normal((N, U)))
    (da,) = torch.autograd.grad(expected, a, dh)
    with torch.no_grad():
        dz, _ = cell.step_backward(RNNState(dh), RNNState(h), after)
    assert_close(dz.numpy(), da.numpy())


def test_a_wide_clip_changes_nothing(rng):
    x, h, u, w, b, bw = draw(rng)
    cell, clipped = RNNCell(u, w, b, bw), RNNCell(u, w, b, bw, clip=1e3)
    z = cell.project(x[None])[0]
    np.testing.assert_array_equal(cell.step(z, RNNState(h))[0].h, clipped.step(z, RNNState(h))[0].h)


# weights to start with


def test_every_initialiser_has_its_property(rng):
    units = 64
    drawn = {name: draw_w(rng, units) for name, draw_w in RECURRENT_INITIALISERS.items()}
    assert set(drawn) == {"glorot", "orthogonal", "identity", "uniform"}
    assert_close(drawn["orthogonal"] @ drawn["orthogonal"].T, np.eye(units))
    np.testing.assert_array_equal(drawn["identity"], np.eye(units))
    assert units * drawn["glorot"].var() == pytest.approx(1, rel=0.1)
    assert units * drawn["uniform"].var() == pytest.approx(1 / 3, rel=0.1)
    assert np.abs(drawn["uniform"]).max() <= 1 / np.sqrt(units)


def test_orthogonal_draws_rotations_and_reflections(rng):
    signs = {round(np.linalg.det(orthogonal(rng, 3))) for _ in range(20)}
    assert signs == {-1, 1}


@pytest.mark.parametrize("recurrent", RECURRENT_INITIALISERS)
def test_initial_weights_scale_the_recurrent_ones_and_repeat(recurrent):
    one, two = (
        initial_weights(D, U, recurrent=recurrent, gain=gain, rng=np.random.default_rng(0), dtype="float64")
        for gain in (1.0, 0.5)
    )
    np.testing.assert_array_equal(two["w"], 0.5 * one["w"])
    np.testing.assert_array_equal(one["u"], two["u"])
    assert not one["b"].any() and {p.dtype for p in one.values()} == {np.dtype("float64")}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recurrent": "eye"}, ValueError, r"^initial_weights: recurrent 'eye' is unknown, expected one of"),
        ({"rng": 0}, TypeError, r"^initial_weights: rng must be a numpy.random.Generator .* got 0$"),
    ],
)
def test_bad_initialisation_is_named(options, error, message):
    with pytest.raises(error, match=message):
        initial_weights(D, U, **({"rng": np.random.default_rng(0)} | options))


# errors

X, H, W_IN, W_REC, B, BW = draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (X[0], H, W_IN, W_REC),
            ShapeError,
            r"x has 1 axes \(3,\), expected 2 \(N D\); x\[None\] adds",
        ),
        (
            (X[:, :2], H, W_IN, W_REC),
            ShapeError,
            r"x has shape \(5, 2\), expected \(5, 3\): u \(3, 7\)",
        ),
        (
            (X, H[:2], W_IN, W_REC),
            ShapeError,
            r"h has shape \(2, 7\), expected \(5, 7\): one row for each",
        ),
        ((X, H, W_IN, W_REC.T[:3]), ShapeError, r"w has shape \(3, 7\), expected \(7, 7\): 7 units, as u"),
        ((X, H, W_IN, W_REC, B[:3]), ShapeError, r"b has shape \(3,\), expected \(7,\): 7 units"),
        ((X, H, W_IN, W_REC, B, BW[:, None]), ShapeError, r"bw has shape \(7, 1\), expected \(7,\)"),
        ((X, H, W_IN[0], W_REC), ShapeError, r"u has 1 axes \(7,\), expected 2 \(D U\)"),
        ((X, H, W_IN, W_REC.astype("float32")), TypeError, "all arrays must have one dtype, got u float64"),
        ((X, torch.zeros(5, 7), W_IN, W_REC), TypeError, "all arrays must have one array library"),
        ((None, H, W_IN, W_REC), TypeError, "x is a NoneType, not an array"),
    ],
)
def test_bad_input_is_named_with_its_likely_fix(arguments, error, message):
    with pytest.raises(error, match="^rnn_step_forward: .*" + message):
        rnn_step_forward(*arguments)


def test_an_upstream_gradient_of_another_shape_or_dtype_is_named():
    _, cache = rnn_step_forward(X, H, W_IN, W_REC)
    with pytest.raises(ShapeError, match=r"^rnn_step_backward: dh has shape \(5, 3\), expected \(5, 7\)"):
        rnn_step_backward(X, cache)
    with pytest.raises(TypeError, match="^rnn_step_backward: all arrays must have one dtype"):
        rnn_step_backward(H.astype("float32"), cache)


@pytest.mark.parametrize("clip", [0, -1.0, float("nan")])
def test_a_clip_that_leaves_nothing_is_named(clip):
    with pytest.raises(ValueError, match=rf"^RNNCell: clip must be > 0, got {clip!r}; None does not clip"):
        RNNCell(W_IN, W_REC, clip=clip)
