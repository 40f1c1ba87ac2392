"""LSTM and GRU: every variant against its formula, number by number, and its gradients before two judges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity import assert_close

from coursekit.arrays import ShapeError
from coursekit.cells import (
    GRUCell,
    LSTMCell,
    LSTMState,
    RNNState,
    gru_step_backward,
    gru_step_forward,
    initial_gru_weights,
    initial_lstm_weights,
    lstm_blocks,
    lstm_step_backward,
    lstm_step_forward,
)
from coursekit.gradcheck import check_gradients
from coursekit.recurrent import (
    GRU,
    LSTM,
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    unroll,
    unroll_backward,
)

T, N, D, U, P = 6, 4, 3, 5, 2
LENGTHS = [6, 1, 0, 4]

VARIANTS = {
    "vanilla": {},
    "without input gate": {"gates": "fo"},
    "without forget gate": {"gates": "io"},
    "without output gate": {"gates": "if"},
    "input gate only": {"gates": "i"},
    "carousel": {"gates": ""},
    "f = 1 - i": {"coupled": "input"},
    "i = 1 - f": {"coupled": "forget"},
    "f = 1 - i without output gate": {"coupled": "input", "gates": "if"},
    "without output activation": {"activations": ("sigmoid", "tanh", "identity")},
    "without input activation": {"activations": ("sigmoid", "identity", "tanh")},
    "other activations": {"activations": ("hard_sigmoid", "softsign", "relu")},
    "clipped": {"clip": 0.7},
}
CASES = [
    pytest.param(options, peepholes, projected, id=f"{name}{' peepholes' * peepholes}{' proj' * projected}")
    for name, options in VARIANTS.items()
    for peepholes in (False, True)
    for projected in (False, True)
    if not (peepholes and options.get("gates") == "")
]
FORMS = pytest.mark.parametrize("reset", ["after", "before"])


def lstm_parameters(rng, options, peepholes=False, projected=False):
    blocks = lstm_blocks(options.get("gates", "ifo"), options.get("coupled"))
    G, outputs = len(blocks), P if projected else U
    shapes = [(D, G * U), (outputs, G * U), (G * U,), (G * U,)]
    shapes += [(G - 1, U)] if peepholes else [()]
    shapes += [(U, P)] if projected else [()]
    return [rng.normal(size=shape) if shape else None for shape in shapes]


def gru_parameters(rng):
    return [rng.normal(size=shape) for shape in ((D, 3 * U), (U, 3 * U), (3 * U,), (3 * U,))]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


# Values


def lstm_number_by_number(x, h, c, u, w, b, bw, p, proj, *, gates="ifo", coupled=None):
    """One sequence, one step, one unit at a time; the blocks that are there in the order i, f, g, o."""
    blocks = lstm_blocks(gates, coupled)
    seeing = [k for k in blocks if k != "g"]
    m, after = np.zeros(U), np.zeros(U)
    for k in range(U):

        def gate(name, state, k=k):
            if name not in blocks:
                return 1.0
            j = blocks.index(name) * U + k
            a = sum(x[d] * u[d, j] for d in range(D)) + b[j] + bw[j]
            a += sum(h[i] * w[i, j] for i in range(len(h)))
            if name == "g":
                return np.tanh(a)
            return sigmoid(a + (0 if p is None else p[seeing.index(name), k] * state))

        i, f = gate("i", c[k]), gate("f", c[k])
        i, f = (i, 1 - i) if coupled == "input" else (1 - f, f) if coupled else (i, f)
        after[k] = f * c[k] + i * gate("g", None)
        m[k] = gate("o", after[k]) * np.tanh(after[k])
    return m if proj is None else m @ proj, after


PLAIN = [case for case in CASES if not set(case.values[0]) & {"activations", "clip"}]


@pytest.mark.parametrize(("options", "peepholes", "projected"), PLAIN)
def test_an_lstm_is_its_formula(options, peepholes, projected, library, rng):
    parameters = lstm_parameters(rng, options, peepholes, projected)
    x, h0, c0 = (
        rng.normal(size=(T, N, D)),
        rng.normal(size=(N, P if projected else U)),
        rng.normal(size=(N, U)),
    )
    given = [None if a is None else library.array(a) for a in parameters]
    states = {"h0": library.array(h0), "c0": library.array(c0)}
    h, cache = lstm_forward(library.array(x), *given, **states, **options)
    h, c = library.numpy(h), library.numpy(cache.states.c)
    for n in range(N):
        state = h0[n], c0[n]
        for t in range(T):
            state = lstm_number_by_number(x[t, n], *state, *parameters, **options)
            assert_close(h[t, n].astype(float), state[0], library.tolerance)
            assert_close(c[t + 1, n].astype(float), state[1], library.tolerance)


def gru_number_by_number(x, h, u, w, b, bw, *, reset):
    after = np.zeros(U)
    r = [sigmoid(x @ u[:, k] + h @ w[:, k] + b[k] + bw[k]) for k in range(U)]
    for k in range(U):
        z = sigmoid(x @ u[:, U + k] + h @ w[:, U + k] + b[U + k] + bw[U + k])
        j = 2 * U + k
        if reset == "after":
            a = x @ u[:, j] + b[j] + r[k] * (h @ w[:, j] + bw[j])
        else:
            a = x @ u[:, j] + b[j] + (r * h) @ w[:, j] + bw[j]
        after[k] = (1 - z) * np.tanh(a) + z * h[k]
    return after


@FORMS
def test_a_gru_is_its_formula(reset, library, rng):
    parameters = gru_parameters(rng)
    x, h0 = rng.normal(size=(T, N, D)), rng.normal(size=(N, U))
    given = [library.array(a) for a in parameters]
    h, _ = gru_forward(library.array(x), *given, h0=library.array(h0), reset=reset)
    for n in range(N):
        state = h0[n]
        for t in range(T):
            state = gru_number_by_number(x[t, n], state, *parameters, reset=reset)
            assert_close(library.numpy(h)[t, n].astype(float), state, library.tolerance)


def test_a_coupled_lstm_is_one_whose_forget_gate_is_tied(rng):
    u, w, b, bw, *_ = lstm_parameters(rng, {"coupled": "input"})

    def tied(a):
        i, g, o = np.split(a, 3, axis=-1)
        return np.concatenate([i, -i, g, o], axis=-1)  # 1 - sigmoid(a) = sigmoid(-a)

    x = rng.normal(size=(T, N, D))
    one, _ = lstm_forward(x, u, w, b, bw, coupled="input")
    other, _ = lstm_forward(x, *map(tied, (u, w, b, bw)))
    assert_close(one, other, 1e-14)
    assert 4 * u.size == 3 * tied(u).size


@pytest.mark.parametrize("reset_gate", ["closed", "open"])
def test_the_two_forms_of_the_gru_differ_unless_the_reset_gate_is_open_or_closed(reset_gate, rng):
    u, w, b, bw = gru_parameters(rng)
    x = rng.normal(size=(T, N, D))
    after, before = (gru_forward(x, u, w, b, bw, reset=reset)[0] for reset in ("after", "before"))
    assert np.abs(after - before).max() > 0.1
    b = b.copy()
    b[:U] = 1e3 if reset_gate == "open" else -1e3
    bw = bw.copy()
    bw[2 * U :] = 0
    after, before = (gru_forward(x, u, w, b, bw, reset=reset)[0] for reset in ("after", "before"))
    assert_close(after, before, 1e-14)


# Gradients


@pytest.mark.parametrize(("options", "peepholes", "projected"), CASES)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_an_lstm_are_differences(options, peepholes, projected, reverse, rng):
    parameters = lstm_parameters(rng, options, peepholes, projected)
    names = [n for n, a in zip(("b", "bw", "p", "proj"), parameters[2:], strict=True) if a is not None]
    states = rng.normal(size=(N, P if projected else U)), rng.normal(size=(N, U))
    order = {"lengths": LENGTHS, "reverse": True} if reverse else {}

    def forward(x, h0, c0, u, w, *rest):
        return lstm_forward(x, u, w, **dict(zip(names, rest, strict=True)), h0=h0, c0=c0, **order, **options)

    def backward(dh, cache):
        g = lstm_backward(dh, cache)
        return [g.dx, g.dh0, g.dc0, g.du, g.dw, *(getattr(g, f"d{name}") for name in names)]

    given = [rng.normal(size=(T, N, D)), *states, *(a for a in parameters if a is not None)]
    tolerance = 1e-4 if {"clip", "activations"} & set(options) else 1e-7
    assert check_gradients(forward, backward, given, rng=rng) < tolerance


@FORMS
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("clip", [None, 0.7])
def test_gradients_of_a_gru_are_differences(reset, reverse, clip, rng):
    order = {"lengths": LENGTHS, "reverse": True} if reverse else {}

    def forward(x, h0, *parameters):
        return gru_forward(x, *parameters, h0=h0, reset=reset, clip=clip, **order)

    def backward(dh, cache):
        g = gru_backward(dh, cache)
        return [g.dx, g.dh0, g.du, g.dw, g.db, g.dbw]

    given = [rng.normal(size=(T, N, D)), rng.normal(size=(N, U)), *gru_parameters(rng)]
    assert check_gradients(forward, backward, given, rng=rng) < (1e-4 if clip else 1e-7)


def cells_of(rng):
    """Every variant, by name, with its parameters as torch tensors that want a gradient."""
    for case in CASES:
        options, peepholes, projected = case.values
        yield case.id, LSTMCell, lstm_parameters(rng, options, peepholes, projected), options
    for reset in ("after", "before"):
        yield f"GRU {reset}", GRUCell, gru_parameters(rng), {"reset": reset}


@pytest.mark.parametrize("index", range(len(CASES) + 2))
def test_gradients_by_hand_are_autograds_from_outputs_and_last_states(index, rng):
    _, make, parameters, options = list(cells_of(rng))[index]
    leaves = [a if a is None else torch.from_numpy(a).requires_grad_() for a in parameters]
    x = torch.from_numpy(rng.normal(size=(T, N, D))).requires_grad_()
    cell = make(*leaves, **options)
    h, last, trace = unroll(cell, x)
    upstream = [torch.from_numpy(rng.normal(size=tuple(a.shape))) for a in (h, *last)]
    wanted = [x, *(a for a in leaves if a is not None)]
    expected = torch.autograd.grad((h, *last), wanted, upstream)
    with torch.no_grad():
        gradients, _ = unroll_backward(upstream[0], trace, type(last)(*upstream[1:]))
    found = [a for a in gradients if a is not None]
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine.detach().numpy(), theirs.numpy())


def test_steps_are_sequences_of_one(rng):
    u, w, b, bw, *_ = lstm_parameters(rng, {})
    x, h, c, dh, dc = (rng.normal(size=(N, n)) for n in (D, U, U, U, U))
    after, cache = lstm_step_forward(x, h, c, u, w, b, bw)
    sequence, trace = lstm_forward(x[None], u, w, b, bw, h0=h, c0=c)
    assert_close(after.h, sequence[0], 0)
    expected = lstm_backward(dh[None], trace, LSTMState(np.zeros_like(dh), dc))
    found = lstm_step_backward(dh, dc, cache)
    assert_close(found.dx, expected.dx[0])
    for name in ("du", "dw", "db", "dbw"):
        assert_close(getattr(found, name), getattr(expected, name))
    assert_close(found.dh, expected.dh0)
    assert_close(found.dc, expected.dc0)
    u, w, b, bw = gru_parameters(rng)
    after, cache = gru_step_forward(x, h, u, w, b, bw, reset="before")
    sequence, trace = gru_forward(x[None], u, w, b, bw, h0=h, reset="before")
    assert_close(after, sequence[0], 0)
    found, expected = gru_step_backward(dh, cache), gru_backward(dh[None], trace)
    assert_close(found.dh, expected.dh0)
    assert_close(found.dw, expected.dw)


def test_a_sequence_without_steps_has_gradients_of_zero(rng):
    for _, make, parameters, options in cells_of(rng):
        cell = make(*parameters, **options)
        h, last, trace = unroll(cell, np.zeros((0, N, D)))
        gradients, dstate = unroll_backward(h, trace, last)
        for gradient, parameter in zip(gradients[1:], parameters, strict=True):
            assert parameter is None or (gradient.shape == parameter.shape and not gradient.any())
        assert all(not a.any() for a in dstate)


def test_nothing_given_is_modified_and_nothing_returned_is_shared(rng):
    for _, make, parameters, options in cells_of(rng):
        x = rng.normal(size=(T, N, D))
        for array in (x, *(a for a in parameters if a is not None)):
            array.flags.writeable = False
        h, _, trace = unroll(make(*parameters, **options), x)
        h.flags.writeable = False
        gradients, _ = unroll_backward(h, trace)
        for gradient in gradients:
            assert gradient is None or not any(
                np.shares_memory(gradient, a) for a in (x, *parameters) if a is not None
            )


def test_nothing_is_made_on_the_cpu_by_mistake(rng):
    for name, make, parameters, options in cells_of(rng):
        meta = [None if a is None else torch.empty(a.shape, device="meta") for a in parameters]
        cell = make(*meta, **options)
        h, _, trace = unroll(cell, torch.empty(T, N, D, device="meta"))
        gradients, dstate = unroll_backward(h, trace)
        arrays = [a for a in (h, *gradients, *dstate) if a is not None]
        assert {a.device.type for a in arrays} == {"meta"}, name


# Weights to start with, and layers


def test_the_forget_gate_starts_open(rng):
    b = initial_lstm_weights(D, U, forget_bias=2.0, rng=rng)["b"].reshape(4, U)
    assert [row[0] for row in b] == [0, 2, 0, 0] and (b == b[:, :1]).all()
    coupled = initial_lstm_weights(D, U, forget_bias=2.0, coupled="input", rng=rng)["b"].reshape(3, U)
    assert [row[0] for row in coupled] == [-2, 0, 0]  # f = 1 - sigmoid(-2) = sigmoid(2)
    driving = initial_lstm_weights(D, U, forget_bias=2.0, coupled="forget", rng=rng)["b"].reshape(3, U)
    assert [row[0] for row in driving] == [2, 0, 0]
    assert not initial_lstm_weights(D, U, forget_bias=2.0, gates="io", rng=rng)["b"].any()


def test_every_block_of_w_is_drawn_by_itself(rng):
    for drawn, blocks in ((initial_lstm_weights(D, U, rng=rng), 4), (initial_gru_weights(D, U, rng=rng), 3)):
        parts = np.split(drawn["w"].astype(float), blocks, axis=1)
        for part in parts:
            assert_close(part @ part.T, np.eye(U), 1e-6)
        assert np.abs(parts[0] - parts[1]).max() > 0.1


@pytest.mark.parametrize("options", [{}, {"peepholes": True, "coupled": "input"}, {"gates": "io"}], ids=str)
def test_a_layer_of_lstms_trains_all_its_parameters(options, rng):
    layer = LSTM(D, U, layers=2, bidirectional=True, rng=rng, dtype="float64", **options)

    def forward(x, *parameters):
        return layer.with_parameters(dict(zip(layer.parameters, parameters, strict=True))).forward(x)

    def backward(dy, cache):
        dx, gradients = layer.backward(dy, cache)
        return [dx, *(gradients[name] for name in layer.parameters)]

    given = [
        rng.normal(size=(T, N, D)),
        *(p + 0.1 * rng.normal(size=p.shape) for p in layer.parameters.values()),
    ]
    assert check_gradients(forward, backward, given, rng=rng) < 1e-7


@FORMS
def test_a_layer_of_grus_trains_all_its_parameters(reset, rng):
    layer = GRU(D, U, layers=2, reset=reset, rng=rng, dtype="float64")
    assert ("0.bw" in layer.parameters) == (reset == "after")

    def forward(x, *parameters):
        return layer.with_parameters(dict(zip(layer.parameters, parameters, strict=True))).forward(x)

    def backward(dy, cache):
        dx, gradients = layer.backward(dy, cache)
        return [dx, *(gradients[name] for name in layer.parameters)]

    given = [rng.normal(size=(T, N, D)), *layer.parameters.values()]
    assert check_gradients(forward, backward, given, rng=rng) < 1e-7


# Errors

UI, WI = np.zeros((D, 4 * U)), np.zeros((U, 4 * U))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: LSTMCell(UI, WI[:, :-1]),
            ShapeError,
            r"^LSTMCell: w has shape \(5, 19\), expected \(5, 20\): 4 b",
        ),
        (
            lambda: LSTMCell(UI[:, :15], WI),
            ShapeError,
            r"u has shape \(3, 15\), expected \(3, 20\): 4 blocks \(i, f",
        ),
        (lambda: LSTMCell(UI, WI, np.zeros(U)), ShapeError, r"b has shape \(5,\), expected \(20,\)"),
        (
            lambda: LSTMCell(UI, WI, p=np.zeros((2, U))),
            ShapeError,
            r"p has shape \(2, 5\), expected \(3, 5\): a row",
        ),
        (
            lambda: LSTMCell(UI, WI, proj=np.zeros((U, P))),
            ShapeError,
            r"proj has shape \(5, 2\), expected \(5, 5\)",
        ),
        (
            lambda: LSTMCell(UI, WI, gates="ifgo"),
            ValueError,
            "gates 'ifgo' is unknown, expected some of 'ifo'",
        ),
        (lambda: LSTMCell(UI, WI, gates="ii"), ValueError, "gates 'ii' is unknown"),
        (lambda: LSTMCell(UI, WI, coupled="f"), ValueError, "coupled 'f' is unknown, expected one of"),
        (
            lambda: LSTMCell(UI, WI, coupled="input", gates="io"),
            ValueError,
            "needs both gates, i and f, got gates='io'",
        ),
        (lambda: LSTMCell(UI, WI, clip=0), ValueError, "clip must be > 0, got 0; None does not clip"),
        (lambda: LSTMCell(UI, WI, activations=("tanh",)), ValueError, "activations must be 3 names, got"),
        (lambda: LSTMCell(UI, WI, activations="tanh"), ValueError, "activations must be 3 names, got 'tanh'"),
        (lambda: LSTMCell(UI, WI.astype("float32")), TypeError, "one dtype, got u float64, w float32"),
        (
            lambda: LSTMCell(UI[:, :U], WI[:, :U], gates="", p=np.zeros((0, U))),
            ValueError,
            "p is given, but no gate that could see",
        ),
        (
            lambda: GRUCell(UI, WI),
            ShapeError,
            r"^GRUCell: w has shape \(5, 20\), expected \(5, 15\): 3 blocks \(r, z",
        ),
        (
            lambda: GRUCell(UI, WI, reset="both"),
            ValueError,
            "reset 'both' is unknown, expected 'after' or 'before'",
        ),
        (
            lambda: lstm_forward(np.zeros((T, N, D + 1)), UI, WI),
            ShapeError,
            "^lstm_forward: x has 4 features",
        ),
        (
            lambda: lstm_forward(np.zeros((T, N, D)), UI, WI, c0=np.zeros((N, U + 1))),
            ShapeError,
            r"^lstm_forward: state.c has shape \(4, 6\), expected \(4, 5\)",
        ),
        (
            lambda: lstm_step_forward(np.zeros((N, D)), np.zeros((N, U)), np.zeros((1, U)), UI, WI),
            ShapeError,
            r"^lstm_step_forward: c has shape \(1, 5\), expected \(4, 5\): one row for each of x",
        ),
        (lambda: LSTM(D, U, coupled="f", rng=np.random.default_rng(0)), ValueError, "coupled 'f' is unknown"),
        (lambda: GRU(D, U, reset="f", rng=np.random.default_rng(0)), ValueError, "reset 'f' is unknown"),
        (lambda: initial_gru_weights(D, U, rng=0), TypeError, "^initial_gru_weights: rng must be a numpy"),
    ],
)
def test_bad_input_is_named_with_its_likely_fix(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_state_of_an_lstm_has_two_arrays(rng):
    cell = LSTMCell(UI, WI)
    x, h = np.zeros((T, N, D)), np.zeros((N, U))
    with pytest.raises(TypeError, match=r"^unroll: the state has 1 arrays, expected \('h', 'c'\)"):
        unroll(cell, x, RNNState(h))
    assert unroll(cell, x, LSTMState(h, None))[1].c.shape == (N, U)
