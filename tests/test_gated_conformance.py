"""LSTM and GRU layers against their specifications: torch.nn.LSTM, torch.nn.GRU, the ONNX operators."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from parity import assert_close, numpy_state, onnx_node_cases
from scipy.special import expit
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from coursekit.arrays import ShapeError
from coursekit.cells import GRUCell, LSTMCell, LSTMState, RNNState
from coursekit.recurrent import GRU, LSTM, stack_backward, stack_forward, unroll
from coursekit.weights import (
    cell_parameters,
    from_onnx,
    from_torch,
    joined_offsets,
    onnx_activations,
    to_onnx,
    to_torch,
)

T, N, D, U, P = 7, 5, 3, 6, 4
LENGTHS = [7, 1, 3, 2, 6]
BOOLS = (False, True)
CELLS = {"LSTM": LSTMCell, "GRU": GRUCell}
STATES = {"LSTM": LSTMState, "GRU": RNNState}


# torch


CONFIGURATIONS = list(product(("LSTM", "LSTM with proj_size", "GRU"), (1, 2), BOOLS, BOOLS))


@pytest.fixture(params=CONFIGURATIONS, ids=str)
def judge(request):
    kind, layers, bidirectional, bias = request.param
    projection = {"proj_size": P} if "proj" in kind else {}
    torch.manual_seed(0)
    return getattr(torch.nn, kind[:4].strip())(
        D, U, layers, bias=bias, bidirectional=bidirectional, dtype=torch.float64, **projection
    )


def ours_from_torch(module):
    """Our cells with the weights of torch's module, layer by layer."""
    layers = cell_parameters(from_torch(numpy_state(module)))
    return [[CELLS[module.mode](**own) for own in cells] for cells in layers]


def draw_states(judge, rng):
    """Arrays as torch has them, (layers * directions, N, width): one for a GRU, two for an LSTM."""
    count = judge.num_layers * (1 + judge.bidirectional)
    widths = (judge.proj_size or U, U)[: 1 + (judge.mode == "LSTM")]
    return [rng.standard_normal((count, N, width)) for width in widths]


def grouped(judge, states):
    """torch's states in the arrangement of the layers."""
    each = (STATES[judge.mode](*arrays) for arrays in zip(*states, strict=True))
    return [[next(each) for _ in range(1 + judge.bidirectional)] for _ in range(judge.num_layers)]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "packed"])
@pytest.mark.parametrize("given", BOOLS, ids=["from zero", "from a state"])
def test_values_and_gradients_equal_torchs_module(judge, lengths, given, rng):
    layers = ours_from_torch(judge)
    x, states = rng.standard_normal((T, N, D)), draw_states(judge, rng)
    tx, *leaves = (torch.from_numpy(a).requires_grad_() for a in (x, *states))
    hx = (tuple(leaves) if len(leaves) == 2 else leaves[0]) if given else None
    if lengths is None:
        expected, ends = judge(tx, hx)
    else:
        expected, ends = judge(pack_padded_sequence(tx, torch.tensor(lengths), enforce_sorted=False), hx)
        expected, _ = pad_packed_sequence(expected)
    ends = ends if isinstance(ends, tuple) else (ends,)
    dy, dends = rng.standard_normal(tuple(expected.shape)), draw_states(judge, rng)
    torch.autograd.backward((expected, *ends), [torch.from_numpy(a) for a in (dy, *dends)])

    y, lasts, cache = stack_forward(layers, x, grouped(judge, states) if given else None, lengths=lengths)
    dx, gradients, dstates = stack_backward(dy, cache, grouped(judge, dends))
    assert_close(y, expected)
    assert_close(dx, tx.grad)
    for ours, theirs in zip(zip(*sum(lasts, []), strict=True), ends, strict=True):
        assert_close(np.stack(ours), theirs)
    if given:
        for ours, leaf in zip(zip(*sum(dstates, []), strict=True), leaves, strict=True):
            assert_close(np.stack(ours), leaf.grad)
    judged = cell_parameters(from_torch({name: p.grad.numpy() for name, p in judge.named_parameters()}))
    for own, theirs in zip(sum(gradients, []), sum(judged, []), strict=True):
        assert {name[1:] for name, gradient in own._asdict().items() if gradient is not None} == {
            *theirs,
            "x",
        }
        for name, expected in theirs.items():
            assert_close(getattr(own, f"d{name}"), expected)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_dtypes_and_batch_first_equal_torchs_module(kind, dtype, rng):
    torch.manual_seed(0)
    judge = getattr(torch.nn, kind)(D, U, 2, batch_first=True, dtype=getattr(torch, dtype))
    x = rng.standard_normal((N, T, D)).astype(dtype)
    y, *_ = stack_forward(ours_from_torch(judge), x.swapaxes(0, 1))
    assert_close(y.swapaxes(0, 1), judge(torch.from_numpy(x))[0], {"float32": 1e-5, "float64": 1e-12}[dtype])


def test_the_gru_of_torch_resets_after_the_product(rng):
    torch.manual_seed(0)
    judge, x = torch.nn.GRU(D, U, dtype=torch.float64), rng.standard_normal((T, N, D))
    ((own,),) = cell_parameters(from_torch(numpy_state(judge)))
    expected = judge(torch.from_numpy(x))[0].detach().numpy()
    assert_close(unroll(GRUCell(**own, reset="after"), x)[0], expected)
    assert np.abs(unroll(GRUCell(**own, reset="before"), x)[0] - expected).max() > 1e-3


def test_our_layers_with_torchs_weights_equal_torchs_modules(rng):
    x = rng.standard_normal((T, N, D))
    torch.manual_seed(0)
    for ours, theirs, adapt in ((LSTM, torch.nn.LSTM, joined_offsets), (GRU, torch.nn.GRU, dict)):
        judge = theirs(D, U, 2, bidirectional=True, dtype=torch.float64)
        layer = ours(D, U, layers=2, bidirectional=True, rng=rng, dtype="float64")
        layer = layer.with_parameters(adapt(from_torch(numpy_state(judge))))
        assert_close(layer(x), judge(torch.from_numpy(x))[0])
        state = {name: torch.from_numpy(p) for name, p in to_torch(layer.parameters).items()}
        judge.load_state_dict(state)
        assert_close(layer(x), judge(torch.from_numpy(x))[0])


# adapters


def test_torchs_state_dictionary_comes_back_as_it_was(judge):
    state = numpy_state(judge)
    back = to_torch(from_torch(state))
    assert set(back) == set(state)
    for name in state:
        np.testing.assert_array_equal(back[name], state[name])
    judge.load_state_dict({name: torch.from_numpy(p) for name, p in back.items()})


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("blocks", [3, 4])
@pytest.mark.parametrize("bias", BOOLS)
def test_onnx_tensors_come_back_as_they_were(directions, blocks, bias, library, rng):
    shapes = [(directions, blocks * U, D), (directions, blocks * U, U)]
    shapes += [(directions, 2 * blocks * U)] * bias + [(directions, 3 * U)] * (bias and blocks == 4)
    given = [library.array(rng.standard_normal(shape)) for shape in shapes]
    back = to_onnx(from_onnx(*given))
    for ours, theirs in zip(back, given, strict=False):
        np.testing.assert_array_equal(library.numpy(ours), library.numpy(theirs))
    assert [a is None for a in back[2:]] == [not bias, not (bias and blocks == 4)]


def test_onnx_blocks_are_in_another_order(rng):
    numbered = np.repeat(np.arange(4.0), U)[None, :, None]
    iofc = from_onnx(np.broadcast_to(numbered, (1, 4 * U, D)), np.broadcast_to(numbered, (1, 4 * U, U)))
    assert iofc["0.u"][0, ::U].tolist() == [0, 2, 3, 1]  # i, f, g, o among i, o, f, c
    zrh = from_onnx(*(np.broadcast_to(numbered[:, : 3 * U], (1, 3 * U, width)) for width in (D, U)))
    assert zrh["0.w"][0, ::U].tolist() == [1, 0, 2]


def test_a_coupled_lstm_has_an_idle_block_in_onnx(rng):
    shapes = (1, 4 * U, D), (1, 4 * U, U), (1, 8 * U), (1, 3 * U)
    given = [rng.standard_normal(shape) for shape in shapes]
    own = from_onnx(*given, coupled=True)
    assert own["0.w"].shape == (U, 3 * U) and own["0.p"].shape == (2, U)
    back = to_onnx(own, coupled=True)
    for ours, theirs, axis, blocks in zip(back, given, (1, 1, 1, 1), (4, 4, 8, 3), strict=True):
        parts = zip(np.split(ours, blocks, axis), np.split(theirs, blocks, axis), strict=True)
        for k, (a, b) in enumerate(parts):
            np.testing.assert_array_equal(a, 0 * b if k % 4 == 2 else b)


def test_what_the_operators_lack_is_refused(rng):
    a = np.zeros((1, 3 * U, U))
    with pytest.raises(
        ValueError, match="^from_onnx: coupled and peepholes are for LSTM, but R has 3 blocks"
    ):
        from_onnx(a, a, coupled=True)
    with pytest.raises(ShapeError, match=r"^from_onnx: peepholes has shape \(1, 6\), expected"):
        from_onnx(np.zeros((1, 4 * U, U)), np.zeros((1, 4 * U, U)), peepholes=np.zeros((1, U)))
    with pytest.raises(ValueError, match=r"^to_onnx: w \(6, 12\) has 2 blocks, the operators take 1, 3 or 4"):
        to_onnx({"0.u": np.zeros((D, 2 * U)), "0.w": np.zeros((U, 2 * U))})
    with pytest.raises(ValueError, match="has 4 blocks, the operators take 3 of an LSTM with f = 1 - i"):
        to_onnx({"0.u": np.zeros((D, 4 * U)), "0.w": np.zeros((U, 4 * U))}, coupled=True)
    with pytest.raises(ValueError, match="and no projection"):
        to_onnx({"0.u": np.zeros((D, 4 * U)), "0.w": np.zeros((U, 4 * U)), "0.proj": np.zeros((U, U))})


# the ONNX operators

DEFAULTS = {"LSTM": [b"Sigmoid", b"Tanh", b"Tanh"], "GRU": [b"Sigmoid", b"Tanh"]}


def ours_from_onnx(node, x, w, r, b=None, lengths=None, h0=None, c0=None, p=None):
    """Run an ONNX LSTM or GRU node with our functions: Y, Y_h and, for an LSTM, Y_c."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    turn = (lambda a: a if a is None else a.swapaxes(0, 1)) if given.get("layout", 0) else (lambda a: a)
    x, h0, c0 = turn(x), turn(h0), turn(c0)
    options = {"clip": given.get("clip")}
    if node.op_type == "LSTM":
        options["coupled"] = "input" if given.get("input_forget", 0) else None
    else:
        options["reset"] = "after" if given.get("linear_before_reset", 0) else "before"
    (cells,) = cell_parameters(from_onnx(w, r, b, p, coupled=bool(options.get("coupled"))))
    count = len(DEFAULTS[node.op_type])
    names = [name.decode() for name in given.get("activations", DEFAULTS[node.op_type] * len(cells))]
    functions = onnx_activations(names, given.get("activation_alpha"), given.get("activation_beta"))
    outputs, ends = [], []
    for d, own in enumerate(cells):
        cell = CELLS[node.op_type](**own, activations=functions[d * count : (d + 1) * count], **options)
        state = [None if a is None else a[d] for a in (h0, c0)][: len(STATES[node.op_type]._fields)]
        reverse = given.get("direction", b"forward") == b"reverse" or d == 1
        h, last, _ = unroll(cell, x, STATES[node.op_type](*state), lengths=lengths, reverse=reverse)
        outputs.append(h)
        ends.append(last)
    y, states = np.stack(outputs, axis=1), [np.stack(arrays) for arrays in zip(*ends, strict=True)]
    return (y.transpose(2, 0, 1, 3) if given.get("layout", 0) else y, *map(turn, states))


@pytest.mark.parametrize("case", onnx_node_cases(*CELLS), ids=lambda case: case.name)
def test_onnx_node_cases(case):
    node = case.model.graph.node[0]
    for inputs, expected in case.data_sets:
        given = dict(zip((name for name in node.input if name), inputs, strict=True))
        inputs = [given.get(name) for name in node.input]
        results = ours_from_onnx(node, *inputs)
        for name, theirs in zip((name for name in node.output if name), expected, strict=True):
            ours = results[list(node.output).index(name)]
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, strict=True)


def test_onnx_node_cases_are_there():
    kinds = [case.model.graph.node[0].op_type for case in onnx_node_cases(*CELLS)]
    assert kinds.count("LSTM") >= 4 and kinds.count("GRU") >= 4


def draw_onnx(rng, kind, directions):
    """X, W, R, B, initial_h, initial_c and P, layout 0; None for what the operator does not have."""
    G, gated = {"LSTM": (4, True), "GRU": (3, False)}[kind]
    x, h0 = rng.standard_normal((T, N, D)), rng.standard_normal((directions, N, U))
    w, r, b = (
        rng.standard_normal((directions, *shape)) / 2 for shape in ((G * U, D), (G * U, U), (2 * G * U,))
    )
    c0 = rng.standard_normal((directions, N, U)) if gated else None
    return x, w, r, b, h0, c0, rng.standard_normal((directions, 3 * U)) if gated else None


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("full", BOOLS, ids=["least inputs", "all inputs"])
@pytest.mark.parametrize("linear", [0, 1])
def test_random_configurations_equal_the_onnx_reference(kind, layout, full, linear, rng):
    """The reference runs one direction and the default functions only, the loops below all the rest."""
    x, w, r, b, h0, c0, p = draw_onnx(rng, kind, 1)
    if layout:
        x, h0, c0 = (a if a is None else a.swapaxes(0, 1) for a in (x, h0, c0))
    attributes = {"layout": layout, "hidden_size": U}
    if kind == "GRU":
        attributes["linear_before_reset"] = linear
    inputs = {"X": x, "W": w, "R": r, "B": b, "H": h0} | ({"C": c0, "P": p} if kind == "LSTM" else {})
    names = ["X", "W", "R", "B", "", "H", *(["C", "P"] if kind == "LSTM" else [])]
    if not full:
        inputs, names = {name: inputs[name] for name in ("X", "W", "R")}, ["X", "W", "R"]
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (kind == "LSTM")]
    node = onnx.helper.make_node(kind, names, outputs, **attributes)
    expected = ReferenceEvaluator(node).run(None, inputs)
    ours = ours_from_onnx(node, *([x, w, r, b, None, h0, c0, p] if full else [x, w, r]))
    for mine, theirs in zip(ours, expected, strict=False):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-11, strict=True)


FORMULAS = {
    "Sigmoid": expit,
    "Tanh": np.tanh,
    "Relu": lambda a: max(0.0, a),
    "HardSigmoid": lambda a: min(max(0.2 * a + 0.5, 0.0), 1.0),
    "Softsign": lambda a: a / (1 + abs(a)),
}


def clipped(name, clip):
    return np.vectorize(lambda a: FORMULAS[name](max(-clip, min(clip, a))), otypes=[float])


def lstm_step(x, h, c, w, r, b, p, names, clip, input_forget):
    """The operator's equations for one sequence, one direction; blocks i, o, f, c."""
    f, g, k = (clipped(name, clip) for name in names)
    wi, wo, wf, wc = np.split(w @ x + r @ h + b[: 4 * U] + b[4 * U :], 4)
    pi, po, pf = np.split(p, 3)
    it = f(wi + pi * c)
    ft = 1 - it if input_forget else f(wf + pf * c)
    after = ft * c + it * g(wc)
    return f(wo + po * after) * k(after), after


def gru_step(x, h, w, r, b, names, clip, linear_before_reset):
    f, g = (clipped(name, clip) for name in names)
    (wz, wr, wh), (rz, rr, rh) = np.split(w, 3), np.split(r, 3)
    bwz, bwr, bwh, brz, brr, brh = np.split(b, 6)
    z, reset = f(wz @ x + rz @ h + bwz + brz), f(wr @ x + rr @ h + bwr + brr)
    inner = reset * (rh @ h + brh) if linear_before_reset else rh @ (reset * h) + brh
    return (1 - z) * g(wh @ x + inner + bwh) + z * h


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("variant", [0, 1], ids=["", "input_forget or linear_before_reset"])
@pytest.mark.parametrize("draw", range(4))
def test_functions_clip_lengths_and_directions_equal_the_loops_of_the_definition(
    kind, direction, variant, draw, rng
):
    directions, count = 1 + (direction == "bidirectional"), len(DEFAULTS[kind])
    x, w, r, b, h0, c0, p = draw_onnx(rng, kind, directions)
    names = [str(name) for name in rng.choice(list(FORMULAS), directions * count)]
    lengths, clip = rng.integers(0, T + 1, N), float(rng.choice([0.75, 1e6]))
    y, h, c = np.zeros((T, directions, N, U)), h0.copy(), h0.copy() if c0 is None else c0.copy()
    for d, n in product(range(directions), range(N)):
        times, own = range(lengths[n]), names[d * count : (d + 1) * count]
        for t in reversed(times) if direction == "reverse" or d == 1 else times:
            if kind == "LSTM":
                state = x[t, n], h[d, n], c[d, n], w[d], r[d], b[d], p[d], own, clip, variant
                h[d, n], c[d, n] = lstm_step(*state)
            else:
                h[d, n] = gru_step(x[t, n], h[d, n], w[d], r[d], b[d], own, clip, variant)
            y[t, d, n] = h[d, n]
    attribute = {"LSTM": "input_forget", "GRU": "linear_before_reset"}[kind]
    attributes = {"direction": direction, "activations": names, "clip": clip, attribute: variant}
    node = onnx.helper.make_node(kind, ["X"], ["Y"], hidden_size=U, **attributes)
    ours = ours_from_onnx(node, x, w, r, b, lengths, h0, c0, p)
    for mine, theirs in zip(ours, (y, h, c), strict=False):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-10, strict=True)
