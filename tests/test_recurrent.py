"""Recurrent layers: laws first, then gradients before three judges, layers and losses, then bad input."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from coursekit.arrays import ShapeError
from coursekit.cells import ACTIVATIONS, RNNCell, RNNState, rnn_step_backward, rnn_step_forward
from coursekit.gradcheck import check_gradients
from coursekit.layers import Dense, Sequential
from coursekit.losses import cross_entropy_backward, cross_entropy_forward
from coursekit.optim import Adam
from coursekit.recurrent import (
    RNN,
    LastStep,
    reverse_sequences,
    rnn_backward,
    rnn_forward,
    sequence_loss_backward,
    sequence_loss_forward,
    stack_backward,
    stack_forward,
    unroll,
    unroll_backward,
)

T, N, D, U, K = 7, 5, 3, 11, 2
LENGTHS = [7, 0, 3, 1, 6]

OPTIONS = {
    "plain": {},
    "reverse": {"reverse": True},
    "lengths": {"lengths": LENGTHS},
    "reverse, lengths": {"reverse": True, "lengths": LENGTHS},
    "relu": {"activation": "relu"},
    "clip": {"activation": "identity", "clip": 0.9, "lengths": LENGTHS},
}


@pytest.fixture(params=OPTIONS, ids=str)
def options(request):
    return OPTIONS[request.param]


def draw(rng, steps=T, batch=N):
    """x, u, w, b, bw and h0."""
    shapes = (steps, batch, D), (D, U), (U, U), (U,), (U,), (batch, U)
    return [
        rng.standard_normal(shape) / scale for shape, scale in zip(shapes, (1, 1, 3, 1, 1, 1), strict=True)
    ]


def run(x, u, w, b, bw, h0, **options):
    return rnn_forward(x, u, w, b, bw, h0=h0, **options)


def assert_close(a, b, tolerance=1e-11):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)))


# laws


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_sequence_is_its_steps_one_after_the_other(activation, rng):
    x, u, w, b, bw, h = draw(rng)
    ours, cache = run(x, u, w, b, bw, h, activation=activation)
    dh = rng.standard_normal((T, N, U))
    steps = []
    for t in range(T):
        h, step = rnn_step_forward(x[t], h, u, w, b, bw, activation=activation)
        steps.append(step)
        assert_close(ours[t], h)
    gradients, reached, sums = rnn_backward(dh, cache), 0.0, 0.0
    for t in reversed(range(T)):
        step = rnn_step_backward(dh[t] + reached, steps[t])
        assert_close(gradients.dx[t], step.dx)
        reached, sums = step.dh, [a + b for a, b in zip(step[2:], sums or [0] * 4, strict=True)]
    for ours, expected in zip(gradients[1:], [*sums, reached], strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("cut", range(T + 1))
def test_a_sequence_is_two_sequences_the_second_going_on_from_the_first(cut, rng):
    x, u, w, b, bw, h0 = draw(rng)
    cell, dh, dlast = RNNCell(u, w, b, bw), rng.standard_normal((T, N, U)), rng.standard_normal((N, U))
    h, last, trace = unroll(cell, x, RNNState(h0))
    first, middle, early = unroll(cell, x[:cut], RNNState(h0))
    second, end, late = unroll(cell, x[cut:], middle)
    assert_close(h, np.concatenate([first, second]))
    assert_close(last.h, end.h)
    gradients, dstate = unroll_backward(dh, trace, RNNState(dlast))
    after, dmiddle = unroll_backward(dh[cut:], late, RNNState(dlast))
    before, dfirst = unroll_backward(dh[:cut], early, dmiddle)
    assert_close(dstate.h, dfirst.h)
    assert_close(gradients.dx, np.concatenate([before.dx, after.dx]))
    for whole, *parts in zip(gradients[1:], before[1:], after[1:], strict=True):
        assert_close(whole, sum(parts))


def test_a_batch_is_its_sequences_one_by_one(options, rng):
    x, u, w, b, bw, h0 = draw(rng)
    h, cache = run(x, u, w, b, bw, h0, **options)
    dh = rng.standard_normal(h.shape)
    gradients = rnn_backward(dh, cache)
    sums = [0.0] * 4
    for n in range(N):
        one = slice(n, n + 1)
        own = options | ({"lengths": options["lengths"][one]} if "lengths" in options else {})
        alone, cache = run(x[:, one], u, w, b, bw, h0[one], **own)
        single = rnn_backward(dh[:, one], cache)
        assert_close(h[:, one], alone)
        assert_close(gradients.dx[:, one], single.dx)
        assert_close(gradients.dh0[one], single.dh0)
        sums = [a + b for a, b in zip(sums, single[1:5], strict=True)]
    for ours, expected in zip(gradients[1:5], sums, strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_padded_sequence_gives_what_it_gives_alone(reverse, rng):
    x, u, w, b, bw, h0 = draw(rng)
    cell = RNNCell(u, w, b, bw)
    h, last, trace = unroll(cell, x, RNNState(h0), lengths=LENGTHS, reverse=reverse)
    dh, dlast = rng.standard_normal((T, N, U)), rng.standard_normal((N, U))
    gradients, dstate = unroll_backward(dh, trace, RNNState(dlast))
    for n, length in enumerate(LENGTHS):
        one = slice(n, n + 1)
        alone, end, trace = unroll(cell, x[:length, one], RNNState(h0[one]), reverse=reverse)
        single, dstart = unroll_backward(dh[:length, one], trace, RNNState(dlast[one]))
        assert_close(h[:length, one], alone)
        assert_close(last.h[one], end.h)
        assert_close(gradients.dx[:length, one], single.dx)
        assert_close(dstate.h[one], dstart.h)
        assert not h[length:, n].any() and not gradients.dx[length:, n].any()


def test_what_stands_in_the_padding_has_no_influence(library, rng):
    x, *rest = draw(rng)
    x[3:, 2] = np.nan
    lengths = [T, T, 3, T, T]
    for reverse in (False, True):
        h, cache = run(*map(library.array, (x, *rest)), lengths=lengths, reverse=reverse)
        clean, other = run(*map(library.array, (np.nan_to_num(x), *rest)), lengths=lengths, reverse=reverse)
        np.testing.assert_array_equal(library.numpy(h), library.numpy(clean))
        dh = library.array(rng.standard_normal((T, N, U)))
        assert np.isfinite(library.numpy(rnn_backward(dh, other).dw)).all()


def test_full_lengths_are_no_lengths(rng):
    inputs = draw(rng)
    for reverse in (False, True):
        results = []
        for lengths in (None, [T] * N):
            h, cache = run(*inputs, lengths=lengths, reverse=reverse)
            results.append((h, *rnn_backward(np.cos(h), cache)))
        for a, b in zip(*results, strict=True):
            assert_close(a, b)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_reversing_twice_changes_nothing(lengths, library, rng):
    x = library.array(rng.standard_normal((T, N, D)))
    twice = reverse_sequences(reverse_sequences(x, lengths), lengths)
    np.testing.assert_array_equal(library.numpy(twice), library.numpy(x))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_to_run_in_reverse_is_to_run_on_the_reversed_sequence(lengths, rng):
    x, *rest = draw(rng)
    h, cache = run(x, *rest, lengths=lengths, reverse=True)
    turned, other = run(reverse_sequences(x, lengths), *rest, lengths=lengths)
    assert_close(h, reverse_sequences(turned, lengths))
    dh = rng.standard_normal(h.shape)
    ours, theirs = rnn_backward(dh, cache), rnn_backward(reverse_sequences(dh, lengths), other)
    assert_close(ours.dx, reverse_sequences(theirs.dx, lengths))
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert_close(a, b)


def test_the_future_has_no_influence_on_the_past(rng):
    x, *rest = draw(rng)
    h = run(x, *rest)[0]
    x[4] += 1
    changed = run(x, *rest)[0]
    np.testing.assert_array_equal(changed[:4], h[:4])
    assert (changed[4:] != h[4:]).any(axis=(1, 2)).all()


def test_the_backward_is_the_adjoint_of_a_linear_cell(rng):
    x, u, w, b, bw, h0 = draw(rng)
    h, cache = run(x, u, w, b, bw, h0, activation="identity")
    dh = rng.standard_normal(h.shape)
    gradients = rnn_backward(dh, cache)
    # h is linear in (x, b, bw, h0), all together
    inner = [np.vdot(gradients.dx, x), np.vdot(gradients.db, b), np.vdot(gradients.dbw, bw)]
    assert np.vdot(dh, h) == pytest.approx(sum(inner) + np.vdot(gradients.dh0, h0))


def test_without_recurrent_weights_every_step_stands_alone(rng):
    x, u, w, b, bw, h0 = draw(rng)
    assert_close(run(x, u, np.zeros_like(w), b, bw, h0)[0], np.tanh(x @ u + b + bw))


def test_an_identity_cell_at_rest_adds_up_its_input(rng):
    x = rng.standard_normal((T, N, U))
    h, _ = rnn_forward(x, np.eye(U), np.eye(U), activation="identity")
    assert_close(h, np.cumsum(x, axis=0))


def test_no_initial_state_is_zero_and_absent_offsets_are_zero(rng):
    x, u, w, *_ = draw(rng)
    zero = np.zeros(U)
    assert_close(rnn_forward(x, u, w)[0], run(x, u, w, zero, zero, np.zeros((N, U)))[0])


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("lengths", [False, True])
def test_no_steps_hand_the_state_on(steps, lengths, library, rng):
    x, u, w, b, bw, h0 = map(library.array, draw(rng, steps))
    cell = RNNCell(u, w, b, bw)
    h, last, trace = unroll(cell, x, RNNState(h0), lengths=[0] * N if lengths else None)
    gradients, dstate = unroll_backward(h, trace, RNNState(h0))
    if steps == 0 or lengths:
        assert_close(library.numpy(last.h), library.numpy(h0))
        assert_close(library.numpy(dstate.h), library.numpy(h0))
        assert not any(library.numpy(g).any() for g in gradients)
    assert library.numpy(h).shape == (steps, N, U)


def test_an_empty_batch_gives_empty_outputs_and_zero_gradients(library, options, rng):
    options = options | ({"lengths": []} if "lengths" in options else {})
    h, cache = run(*map(library.array, draw(rng, batch=0)), **options)
    gradients = rnn_backward(h, cache)
    assert library.numpy(h).shape == (T, 0, U)
    assert library.numpy(gradients.dx).shape == (T, 0, D)
    assert not any(library.numpy(g).any() for g in gradients[1:])


# libraries


def test_every_library_gives_the_same_numbers(options, library, rng):
    inputs = draw(rng)
    h, cache = run(*inputs, **options)
    dh, dlast = rng.standard_normal(h.shape), rng.standard_normal((N, U))
    expected = (h, *rnn_backward(dh, cache, RNNState(dlast)))
    ours, cache = run(*map(library.array, inputs), **options)
    results = (ours, *rnn_backward(library.array(dh), cache, RNNState(library.array(dlast))))
    for result, reference in zip(results, expected, strict=True):
        assert_close(library.numpy(result), reference, library.tolerance)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_lengths_come_as_any_integers(kind, rng):
    inputs = draw(rng)
    np.testing.assert_array_equal(run(*inputs, lengths=kind(LENGTHS))[0], run(*inputs, lengths=LENGTHS)[0])


def test_inputs_are_not_modified(options, rng):
    inputs, dh = draw(rng), np.ones((T, N, U))
    for array in (*inputs, dh):
        array.flags.writeable = False
    h, cache = run(*inputs, **options)
    for result in (h, *rnn_backward(dh, cache)):
        assert not any(np.shares_memory(result, array) for array in (*inputs, dh))


def test_a_second_backward_gives_the_same(options, rng):
    h, cache = run(*draw(rng), **options)
    for once, again in zip(rnn_backward(h, cache), rnn_backward(h, cache), strict=True):
        np.testing.assert_array_equal(once, again)


def test_the_gradient_of_the_input_may_be_left_out(options, rng):
    h, cache = run(*draw(rng), **options)
    whole, part = rnn_backward(h, cache), rnn_backward(h, cache, inputs=False)
    assert part.dx is None
    for once, again in zip(whole[1:], part[1:], strict=True):
        np.testing.assert_array_equal(once, again)


def test_nothing_is_made_on_the_cpu_by_mistake(options, rng):
    meta = [torch.empty(a.shape, device="meta") for a in draw(rng)]
    h, cache = run(*meta, **options)
    results = (h, *rnn_backward(torch.empty_like(h), cache, RNNState(torch.empty(N, U, device="meta"))))
    assert {result.device.type for result in results} == {"meta"}


# gradients before three judges


def test_gradients_agree_with_central_differences(options, rng):
    error = check_gradients(lambda *a: run(*a, **options), rnn_backward, draw(rng), rng=rng)
    assert error < 1e-7


@pytest.mark.parametrize("given", [3, 4, 5])
def test_gradients_are_right_without_what_may_be_missing(given, rng):
    error = check_gradients(
        rnn_forward, lambda dh, cache: rnn_backward(dh, cache)[:given], draw(rng)[:given], rng=rng
    )
    assert error < 1e-7


def test_gradients_agree_with_autograd_through_our_forward(options, rng):
    tensors = [torch.from_numpy(a).requires_grad_() for a in draw(rng)]
    x, u, w, b, bw, h0 = tensors
    choices = {name: value for name, value in options.items() if name in ("activation", "clip")}
    over = {name: value for name, value in options.items() if name not in choices}
    h, last, trace = unroll(RNNCell(u, w, b, bw, **choices), x, RNNState(h0), **over)
    dh, dlast = (torch.from_numpy(rng.standard_normal(tuple(a.shape))) for a in (h, last.h))
    expected = torch.autograd.grad((h, last.h), tensors, (dh, dlast))
    with torch.no_grad():
        gradients, dstate = unroll_backward(dh, trace, RNNState(dlast))
    for ours, judged in zip((*gradients, dstate.h), expected, strict=True):
        assert_close(ours.numpy(), judged.numpy())


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_sequence_is_torchs(nonlinearity, library, rng):
    x, u, w, b, bw, h0 = draw(rng)
    judge = torch.nn.RNN(D, U, nonlinearity=nonlinearity, dtype=torch.float64)
    for parameter, values in zip(judge.parameters(), (u.T, w.T, b, bw), strict=True):
        parameter.data = torch.from_numpy(values.copy())
    tx, th = (torch.from_numpy(a).requires_grad_() for a in (x, h0[None]))
    expected, tlast = judge(tx, th)
    dh, dlast = rng.standard_normal((T, N, U)), rng.standard_normal((N, U))
    torch.autograd.backward((expected, tlast), (torch.from_numpy(dh), torch.from_numpy(dlast[None])))
    h, cache = run(*map(library.array, (x, u, w, b, bw, h0)), activation=nonlinearity)
    gradients = rnn_backward(library.array(dh), cache, library.array(dlast))
    weights = [p.grad.numpy().T for p in judge.parameters()]
    theirs = [expected.detach().numpy(), tx.grad.numpy(), *weights, th.grad.numpy()[0]]
    for ours, reference in zip((h, *gradients), theirs, strict=True):
        assert_close(library.numpy(ours), reference, library.tolerance)


@pytest.mark.parametrize("batch", [1, 20, 40])
def test_large_nets_which_are_multiplied_in_pieces_are_torchs(batch, rng):
    features, units = 70, 300
    judge = torch.nn.RNN(features, units, dtype=torch.float64)
    u, w, b, bw = (p.detach().numpy().T.copy() for p in judge.parameters())
    x, dh = rng.standard_normal((3, batch, features)), rng.standard_normal((3, batch, units))
    tx = torch.from_numpy(x).requires_grad_()
    expected = judge(tx)[0]
    expected.backward(torch.from_numpy(dh))
    h, cache = rnn_forward(x, u, w, b, bw)
    ours = h, *rnn_backward(dh, cache)[:5]
    theirs = expected, tx.grad, *(p.grad.t() for p in judge.parameters())
    for a, reference in zip(ours, theirs, strict=True):
        assert_close(a, reference.detach().numpy())


# layers on layers


def stack_of(rng, library=None):
    """Two layers in both directions with the states that they start from."""
    make = library.array if library else np.copy
    layers, states = [], []
    for width in (D, 2 * U):
        shapes = (width, U), (U, U), (U,)
        layers.append([RNNCell(*(make(rng.standard_normal(s) / 3) for s in shapes)) for _ in range(2)])
        states.append([RNNState(make(rng.standard_normal((N, U)))) for _ in range(2)])
    return layers, states


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_a_stack_is_its_layers_one_on_the_other(lengths, rng):
    layers, states = stack_of(rng)
    x = rng.standard_normal((T, N, D))
    y, lasts, _ = stack_forward(layers, x, states, lengths=lengths)
    for cells, begun, ended in zip(layers, states, lasts, strict=True):
        runs = [
            unroll(cell, x, state, lengths=lengths, reverse=side)
            for side, (cell, state) in enumerate(zip(cells, begun, strict=True))
        ]
        x = np.concatenate([outputs for outputs, _, _ in runs], axis=-1)
        for (_, last, _), given in zip(runs, ended, strict=True):
            assert_close(given.h, last.h)
    assert_close(y, x)


def test_gradients_of_a_stack_are_autograds(rng):
    like = type("", (), {"array": staticmethod(lambda a: torch.from_numpy(a).requires_grad_())})
    layers, states = stack_of(rng, like)
    x = torch.from_numpy(rng.standard_normal((T, N, D))).requires_grad_()
    y, lasts, cache = stack_forward(layers, x, states, lengths=LENGTHS)
    ends = [last.h for pair in lasts for last in pair]
    dy, *dends = (torch.from_numpy(rng.standard_normal(tuple(a.shape))) for a in (y, *ends))
    leaves = [x] + [a for pair in layers for cell in pair for a in (cell.u, cell.w, cell.b)]
    leaves += [state.h for pair in states for state in pair]
    expected = torch.autograd.grad((y, *ends), leaves, (dy, *dends))
    dlasts = [[RNNState(a) for a in pair] for pair in (dends[:2], dends[2:])]
    with torch.no_grad():
        dx, gradients, dstates = stack_backward(dy, cache, dlasts)
    ours = [dx] + [a for pair in gradients for own in pair for a in (own.du, own.dw, own.db)]
    ours += [state.h for pair in dstates for state in pair]
    for a, judged in zip(ours, expected, strict=True):
        assert_close(a.numpy(), judged.numpy())


LAYERS = {
    "one": {},
    "two": {"layers": 2},
    "both directions": {"bidirectional": True, "activation": "relu"},
    "two in both directions": {"layers": 2, "bidirectional": True, "init": "uniform"},
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_gradients_agree_with_central_differences(name, rng):
    layer = RNN(D, U, **LAYERS[name], rng=rng, dtype="float64")
    names = list(layer.parameters)

    def forward(x, *parameters):
        twin = layer.with_parameters(dict(zip(names, parameters, strict=True)))
        y, cache = twin.forward(x, lengths=LENGTHS)
        return y, (twin, cache)

    def backward(dy, cache):
        dx, gradients = cache[0].backward(dy, cache[1])
        return [dx, *(gradients[name] for name in names)]

    x = rng.standard_normal((T, N, D))
    assert check_gradients(forward, backward, [x, *layer.parameters.values()], rng=rng) < 1e-7


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_runs_on_every_library(name, library, rng):
    layer = RNN(D, U, **LAYERS[name], rng=rng, dtype="float64")
    x = rng.standard_normal((T, N, D))
    expected, cache = layer.forward(x)
    dx, _ = layer.backward(np.sin(expected), cache)
    twin = layer.to(library.array(x))
    y, cache = twin.forward(library.array(x))
    assert_close(library.numpy(y), expected, library.tolerance)
    gradient, gradients = twin.backward(library.array(np.sin(expected)), cache)
    assert_close(library.numpy(gradient), dx, library.tolerance)
    assert {n: g.shape for n, g in gradients.items()} == {n: p.shape for n, p in twin.parameters.items()}


def test_a_layer_goes_on_from_the_states_that_it_ended_with(rng):
    layer = RNN(D, U, layers=2, rng=rng, dtype="float64")
    x = rng.standard_normal((T, N, D))
    y, lasts, _ = layer.run(x)
    first, middle, _ = layer.run(x[:3])
    second, end, _ = layer.run(x[3:], middle)
    assert_close(np.concatenate([first, second]), y)
    assert_close(end[1][0].h, lasts[1][0].h)


def test_a_layer_starts_as_its_initialiser_says(rng):
    w = {
        init: RNN(D, U, layers=2, init=init, gain=0.9, rng=rng, dtype="float64").parameters["1.w"]
        for init in ("identity", "orthogonal")
    }
    assert_close(w["identity"], 0.9 * np.eye(U))
    assert_close(w["orthogonal"] @ w["orthogonal"].T, 0.81 * np.eye(U))


@pytest.mark.parametrize("sizes", [(0, 3), (2, 0)])
def test_a_layer_of_no_size_is_refused(sizes, rng):
    with pytest.raises(ValueError, match=r"^RNN: sizes must be >= 1, got \(\d, \d, 1\)"):
        RNN(*sizes, rng=rng)


def test_the_last_step_is_cut_out_and_gets_all_of_the_gradient(library, rng):
    layer, x = LastStep(), rng.standard_normal((T, N, D))
    y, cache = layer.forward(library.array(x))
    np.testing.assert_array_equal(library.numpy(y), x[-1].astype(library.dtype))
    dx, gradients = layer.backward(y, cache)
    expected = np.zeros_like(x)
    expected[-1] = x[-1]
    np.testing.assert_array_equal(library.numpy(dx), expected.astype(library.dtype))
    assert gradients == {}


def test_a_net_with_a_recurrent_layer_learns_what_came_first():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, 64)
    x = rng.normal(scale=0.1, size=(T, 64, K)).astype("float32")
    x[0, np.arange(64), labels] += 1
    net, optimiser = Sequential(RNN(K, U, rng=rng), LastStep(), Dense(U, K, rng=rng)), Adam(0.01)
    losses = []
    for _ in range(60):
        scores, cache = net.forward(x)
        loss, scored = cross_entropy_forward(scores, labels)
        losses.append(float(loss))
        _, gradients = net.backward(cross_entropy_backward(scored), cache)
        optimiser.step(net.parameters, gradients)
    assert losses[0] > 0.3 and losses[-1] < 0.05


# the loss of a sequence of outputs


def draw_loss(rng):
    """x, u, w, v, b, c, h0 and labels."""
    x, u, w, b, _, h0 = draw(rng)
    return (x, u, w, rng.standard_normal((U, K)), b, rng.standard_normal(K), h0), rng.integers(0, K, (T, N))


def loss_of(labels, x, u, w, v, b, c, h0, **options):
    return sequence_loss_forward(x, labels, u, w, v, b, c, h0=h0, **options)


LOSSES = {
    "mean": {},
    "sum": {"reduction": "sum", "activation": "relu"},
    "lengths": {"lengths": LENGTHS},
    "lengths, sum": {"lengths": LENGTHS, "reduction": "sum"},
}


@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
def test_the_loss_is_torchs_at_the_steps_that_exist(options, library, rng):
    inputs, labels = draw_loss(rng)
    tensors = [torch.from_numpy(a).requires_grad_() for a in inputs]
    x, u, w, v, b, c, h = tensors
    rows, wanted = [], []
    f = getattr(torch, options.get("activation", "tanh"))
    for t in range(T):
        h = f(x[t] @ u + h @ w + b)
        here = [n for n in range(N) if t < options.get("lengths", [T] * N)[n]]
        rows.append((h @ v + c)[here])
        wanted.append(torch.from_numpy(labels[t, here]))
    expected = torch.nn.functional.cross_entropy(
        torch.cat(rows), torch.cat(wanted), reduction=options.get("reduction", "mean")
    )
    theirs, expected = torch.autograd.grad(expected, tensors), float(expected.detach())
    like = torch.from_numpy(labels).to(library.device) if library.name == "torch" else labels
    loss, cache = loss_of(like, *map(library.array, inputs), **options)
    assert float(loss) == pytest.approx(expected, rel=library.tolerance)
    dx, du, dw, dv, db, dc, dh0 = sequence_loss_backward(cache)
    for ours, judged in zip((dx, du, dw, dv, db, dc, dh0), theirs, strict=True):
        assert_close(library.numpy(ours), judged.numpy(), library.tolerance)


@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
def test_the_gradient_of_the_loss_agrees_with_central_differences(options, rng):
    inputs, labels = draw_loss(rng)
    check_gradients(
        lambda *a: loss_of(labels, *a, **options),
        lambda dloss, cache: [dloss * g for g in sequence_loss_backward(cache)],
        inputs,
        rng=rng,
    )


def test_the_loss_without_offsets_and_state_has_no_gradients_of_them(rng):
    (x, u, w, v, *_), labels = draw_loss(rng)
    loss, cache = sequence_loss_forward(x, labels, u, w, v)
    zero = np.zeros
    assert float(loss) == pytest.approx(float(loss_of(labels, x, u, w, v, zero(U), zero(K), zero((N, U)))[0]))
    gradients = sequence_loss_backward(cache, inputs=False)
    assert gradients.db is None and gradients.dc is None and gradients.dx is None


def test_labels_in_the_padding_are_not_looked_at(rng):
    inputs, labels = draw_loss(rng)
    expected = loss_of(labels, *inputs, lengths=LENGTHS)[0]
    for n, length in enumerate(LENGTHS):
        labels[length:, n] = -1
    assert loss_of(labels, *inputs, lengths=LENGTHS)[0] == expected


# errors

X, W_IN, W_REC, B, BW, H0 = draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X[0], W_IN, W_REC), {}, ShapeError, r"x has 2 axes \(5, 3\), expected 3 \(T N D\)"),
        (
            (X.swapaxes(1, 2), W_IN, W_REC),
            {},
            ShapeError,
            r"x has 5 features, the cell takes 3 \(x \(7, 3, 5\), u \(3, 11\)\); is x batch-first\?",
        ),
        ((X, W_IN, W_REC[:3]), {}, ShapeError, r"w has shape \(3, 11\), expected \(11, 11\): 11 units"),
        ((X, W_IN, W_REC, B[:2]), {}, ShapeError, r"b has shape \(2,\), expected \(11,\)"),
        ((X.astype("float32"), W_IN, W_REC), {}, TypeError, "all arrays must have one dtype, got x float32"),
        ((torch.from_numpy(X), W_IN, W_REC), {}, TypeError, "all arrays must have one array library"),
        ((X.astype(int), W_IN, W_REC), {}, TypeError, "all arrays must have one dtype, got x int64"),
        ((X, W_IN, W_REC), {"h0": H0[:2]}, ShapeError, r"state.h has shape \(2, 11\), expected \(5, 11\)"),
        (
            (X, W_IN, W_REC),
            {"h0": H0.astype("float32")},
            TypeError,
            "one dtype, got state.h float32, x float64",
        ),
        ((X, W_IN, W_REC), {"lengths": [1, 2]}, ShapeError, r"lengths has shape \(2,\), expected \(5,\)"),
        ((X, W_IN, W_REC), {"lengths": [1.0] * 5}, TypeError, "lengths must be integers, got dtype float64"),
        ((X, W_IN, W_REC), {"lengths": [1, 2, 8, 0, 3]}, ValueError, "lengths run from 0 to 8, but x has 7"),
        ((X, W_IN, W_REC), {"lengths": [-1, 2, 3, 0, 3]}, ValueError, "lengths run from -1 to 3"),
        ((X, W_IN, W_REC), {"clip": 0}, ValueError, "clip must be > 0, got 0"),
    ],
)
def test_bad_input_is_named_with_its_likely_fix(arguments, options, error, message):
    with pytest.raises(error, match="^rnn_forward: .*" + message):
        rnn_forward(*arguments, **options)


def test_a_bad_upstream_gradient_is_named():
    h, cache = rnn_forward(X, W_IN, W_REC)
    with pytest.raises(ShapeError, match=r"^rnn_backward: dh has shape \(5, 11\), expected \(7, 5, 11\)"):
        rnn_backward(h[-1], cache)
    with pytest.raises(TypeError, match="^rnn_backward: all arrays must have one dtype"):
        rnn_backward(h.astype("float32"), cache)
    with pytest.raises(ShapeError, match=r"^rnn_backward: dlast.h has shape \(2, 11\), expected \(5, 11\)"):
        rnn_backward(h, cache, h[-1, :2])


def test_a_state_with_another_number_of_arrays_is_named():
    class Two(NamedTuple):
        h: np.ndarray
        c: np.ndarray

    with pytest.raises(TypeError, match=r"^unroll: the state has 2 arrays, expected \('h',\)"):
        unroll(RNNCell(W_IN, W_REC), X, Two(H0, H0))
    with pytest.raises(TypeError, match=r"^unroll_backward: dlast has 2 arrays, expected \('h',\)"):
        unroll_backward(np.zeros((T, N, U)), unroll(RNNCell(W_IN, W_REC), X)[2], Two(H0, H0))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"labels": np.zeros((N, T), int)},
            ShapeError,
            r"labels must be an array of shape \(7, 5\), .* got \(5, 7\)",
        ),
        ({"labels": [[0] * N] * T}, ShapeError, r"labels must be an array of shape \(7, 5\)"),
        (
            {"v": np.zeros((3, K))},
            ShapeError,
            r"v has shape \(3, 2\), expected \(11, 2\): one row for each unit",
        ),
        ({"c": np.zeros(3)}, ShapeError, r"c has shape \(3,\), expected \(2,\): one offset for each column"),
        ({"reduction": "max"}, ValueError, "reduction 'max' is unknown"),
    ],
)
def test_bad_input_of_the_loss_is_named(changes, error, message):
    given = {"labels": np.zeros((T, N), int), "v": np.zeros((U, K)), "c": np.zeros(K)} | changes
    with pytest.raises(error, match=message):
        sequence_loss_forward(X, u=W_IN, w=W_REC, **given)


def test_a_last_step_of_nothing_recurrent_is_named():
    with pytest.raises(ShapeError, match=r"^LastStep.forward: x has 2 axes \(5, 3\), expected 3 \(T N C\)"):
        LastStep().forward(X[0])
    with pytest.raises(ShapeError, match=r"^LastStep.forward: x has no steps"):
        LastStep().forward(X[:0])
    with pytest.raises(ShapeError, match=r"^LastStep.backward: dy has shape \(7, 5, 3\), expected \(5, 3\)"):
        LastStep().backward(X, X.shape)
