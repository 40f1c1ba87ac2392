"""Recurrent layers against their two specifications: torch.nn.RNN and the ONNX operator RNN."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from parity import assert_close, numpy_state, onnx_node_cases
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from coursekit.arrays import ShapeError
from coursekit.cells import ACTIVATIONS, RNNCell, RNNState
from coursekit.recurrent import RNN, stack_backward, stack_forward, unroll
from coursekit.weights import (
    cell_parameters,
    from_onnx,
    from_torch,
    joined_offsets,
    onnx_activations,
    to_onnx,
    to_torch,
)

T, N, D, U = 7, 5, 3, 11
LENGTHS = [7, 1, 3, 2, 6]


# torch.nn.RNN

BOOLS = (False, True)
CONFIGURATIONS = list(product(("tanh", "relu"), (1, 2, 3), BOOLS, BOOLS))


@pytest.fixture(params=CONFIGURATIONS, ids=str)
def judge(request):
    nonlinearity, layers, bidirectional, bias = request.param
    torch.manual_seed(0)
    return torch.nn.RNN(
        D, U, layers, nonlinearity, bias=bias, bidirectional=bidirectional, dtype=torch.float64
    )


def ours_from_torch(module):
    """Our cells with the weights of torch's module, layer by layer."""
    layers = cell_parameters(from_torch(numpy_state(module)))
    return [[RNNCell(**own, activation=module.nonlinearity) for own in cells] for cells in layers]


def grouped(states, layers):
    """torch's (layers * directions, N, U) in the arrangement of the layers."""
    states = iter(states)
    return [[RNNState(next(states)) for _ in cells] for cells in layers]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "packed"])
@pytest.mark.parametrize("given", BOOLS, ids=["from zero", "from h_0"])
def test_values_and_gradients_equal_torchs_module(judge, lengths, given, rng):
    layers = ours_from_torch(judge)
    count = len(layers) * len(layers[0])
    x, h0 = rng.standard_normal((T, N, D)), rng.standard_normal((count, N, U)) * given
    tx, th = (torch.from_numpy(a).requires_grad_() for a in (x, h0))
    if lengths is None:
        expected, ends = judge(tx, th if given else None)
    else:
        packed = pack_padded_sequence(tx, torch.tensor(lengths), enforce_sorted=False)
        expected, ends = judge(packed, th if given else None)
        expected, _ = pad_packed_sequence(expected)
    dy, dends = rng.standard_normal(tuple(expected.shape)), rng.standard_normal((count, N, U))
    torch.autograd.backward((expected, ends), (torch.from_numpy(dy), torch.from_numpy(dends)))

    y, lasts, cache = stack_forward(layers, x, grouped(h0, layers) if given else None, lengths=lengths)
    dx, gradients, dstates = stack_backward(dy, cache, grouped(dends, layers))
    assert_close(y, expected)
    assert_close(dx, tx.grad)
    assert_close(np.stack([last.h for pair in lasts for last in pair]), ends)
    if given:
        assert_close(np.stack([state.h for pair in dstates for state in pair]), th.grad)
    judged = cell_parameters(from_torch({name: p.grad.numpy() for name, p in judge.named_parameters()}))
    for own, theirs in zip(sum(gradients, []), sum(judged, []), strict=True):
        for name, expected in theirs.items():
            assert_close(getattr(own, f"d{name}"), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_dtypes_and_batch_first_equal_torchs_module(dtype, rng):
    torch.manual_seed(0)
    judge = torch.nn.RNN(D, U, 2, batch_first=True, dtype=getattr(torch, dtype))
    x = rng.standard_normal((N, T, D)).astype(dtype)
    y, *_ = stack_forward(ours_from_torch(judge), x.swapaxes(0, 1))
    assert_close(y.swapaxes(0, 1), judge(torch.from_numpy(x))[0], {"float32": 1e-5, "float64": 1e-12}[dtype])


def test_one_sequence_without_a_batch_axis_equals_torchs_module(rng):
    torch.manual_seed(0)
    judge, x = torch.nn.RNN(D, U, dtype=torch.float64), rng.standard_normal((T, D))
    y, *_ = stack_forward(ours_from_torch(judge), x[:, None])
    assert_close(y[:, 0], judge(torch.from_numpy(x))[0])


def test_dropout_is_a_mask_on_what_goes_from_layer_to_layer(rng):
    torch.manual_seed(0)
    judge = torch.nn.RNN(D, U, 2, dropout=0.4, dtype=torch.float64)
    x = rng.standard_normal((T, N, D))
    lower, upper = ours_from_torch(judge)
    torch.manual_seed(1)
    expected = judge(torch.from_numpy(x))[0]
    torch.manual_seed(1)
    mask = torch.nn.functional.dropout(torch.ones(T, N, U, dtype=torch.float64), 0.4).numpy()
    assert_close(stack_forward([upper], mask * stack_forward([lower], x)[0])[0], expected)
    assert_close(stack_forward([lower, upper], x)[0], judge.eval()(torch.from_numpy(x))[0])


def test_our_layer_with_torchs_weights_equals_torchs_module(judge, rng):
    x = rng.standard_normal((T, N, D))
    options = {"layers": judge.num_layers, "bidirectional": judge.bidirectional}
    layer = RNN(D, U, **options, activation=judge.nonlinearity, rng=rng, dtype="float64")
    parameters = joined_offsets(from_torch(numpy_state(judge)))
    assert_close(layer.with_parameters(layer.parameters | parameters)(x), judge(torch.from_numpy(x))[0])


# adapters


def test_torchs_state_dictionary_comes_back_as_it_was(judge):
    state = numpy_state(judge)
    back = to_torch(from_torch(state))
    assert list(back) == list(state)
    for name in state:
        np.testing.assert_array_equal(back[name], state[name])
    judge.load_state_dict({name: torch.from_numpy(p) for name, p in back.items()})


def test_tensors_stay_tensors_and_are_copied(judge):
    for adapt in (from_torch, lambda state: to_torch(from_torch(state))):
        for p in adapt(judge.state_dict()).values():
            assert isinstance(p, torch.Tensor) and p.is_contiguous()
            p.zero_()
    assert all(p.any() for p in judge.state_dict().values())


def test_our_layers_parameters_work_in_torchs_module(rng):
    layer = RNN(D, U, layers=2, bidirectional=True, rng=rng, dtype="float64")
    judge = torch.nn.RNN(D, U, 2, bidirectional=True, dtype=torch.float64)
    judge.load_state_dict({name: torch.from_numpy(p) for name, p in to_torch(layer.parameters).items()})
    x = rng.standard_normal((T, N, D))
    assert_close(layer(x), judge(torch.from_numpy(x))[0])


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("bias", BOOLS)
def test_onnx_tensors_come_back_as_they_were(directions, bias, library, rng):
    shapes = ((directions, U, D), (directions, U, U), (directions, 2 * U))[: 2 + bias]
    given = [library.array(rng.standard_normal(shape)) for shape in shapes]
    parameters = from_onnx(*given)
    assert tuple(parameters["0.u"].shape) == (D, U)
    back = to_onnx(parameters)
    for ours, theirs in zip(back, given, strict=False):
        np.testing.assert_array_equal(library.numpy(ours), library.numpy(theirs))
    assert (back[2] is None) != bias
    assert set(from_onnx(*back)) == set(parameters)


def test_a_single_offset_gets_a_partner_of_zeros(rng):
    b = rng.standard_normal(U)
    parameters = {"0.u": np.zeros((D, U)), "0.w": np.zeros((U, U)), "0.b": b}
    np.testing.assert_array_equal(to_onnx(parameters)[2][0], np.concatenate([b, 0 * b]))
    state = to_torch(parameters)
    np.testing.assert_array_equal(state["bias_ih_l0"], b)
    assert not state["bias_hh_l0"].any()


def test_offsets_are_joined_wherever_there_are_two(rng):
    given = {"0.b": np.ones(U), "0.bw": np.ones(U), "0.reverse.b": np.ones(U), "1.bw": np.ones(U)}
    joined = joined_offsets(given)
    assert {name: float(p[0]) for name, p in joined.items()} == {"0.b": 2, "0.reverse.b": 1, "1.b": 1}


def test_names_and_shapes_that_do_not_fit_are_refused():
    a = np.zeros((1, U, D))
    with pytest.raises(ValueError, match="^from_torch: 'linear.weight' is no parameter of torch.nn.RNN"):
        from_torch({"linear.weight": a[0]})
    with pytest.raises(ValueError, match="^to_torch: 'u' is no parameter of a recurrent layer, e.g. '0.u'"):
        to_torch({"u": a[0]})
    with pytest.raises(ValueError, match="^to_onnx: the operator has one layer, expected one, got 2"):
        to_onnx({"0.u": a[0], "1.u": a[0]})
    with pytest.raises(
        ShapeError, match=r"^from_onnx: weights has shape \(1, 11, 3\), expected W \(directions"
    ):
        from_onnx(a, np.zeros((2, U, U)))
    with pytest.raises(ShapeError, match=r"^from_onnx: recurrent has shape \(1, 11, 3\)"):
        from_onnx(a, a)
    with pytest.raises(ShapeError, match=r"^from_onnx: offsets has shape \(1, 11\)"):
        from_onnx(a, np.zeros((1, U, U)), np.zeros((1, U)))


# the ONNX operator


def ours_from_onnx(node, x, weights, recurrent, offsets=None, lengths=None, h0=None):
    """Run an ONNX RNN node with our functions: Y and Y_h."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    batch_first = given.get("layout", 0) == 1
    if batch_first:
        x, h0 = x.swapaxes(0, 1), None if h0 is None else h0.swapaxes(0, 1)
    (cells,) = cell_parameters(from_onnx(weights, recurrent, offsets))
    names = [name.decode() for name in given.get("activations", [b"Tanh"] * len(cells))]
    functions = onnx_activations(names, given.get("activation_alpha"), given.get("activation_beta"))
    clip, direction = given.get("clip"), given.get("direction", b"forward").decode()
    outputs, ends = [], []
    for d, (own, function) in enumerate(zip(cells, functions, strict=True)):
        cell = RNNCell(**own, activation=function, clip=clip)
        state = None if h0 is None else RNNState(h0[d])
        reverse = direction == "reverse" or d == 1
        h, last, _ = unroll(cell, x, state, lengths=lengths, reverse=reverse)
        outputs.append(h)
        ends.append(last.h)
    y, y_h = np.stack(outputs, axis=1), np.stack(ends)
    return (y.transpose(2, 0, 1, 3), y_h.swapaxes(0, 1)) if batch_first else (y, y_h)


@pytest.mark.parametrize("case", onnx_node_cases("RNN"), ids=lambda case: case.name)
def test_onnx_node_cases(case):
    node = case.model.graph.node[0]
    for inputs, expected in case.data_sets:
        results = dict(zip(("Y", "Y_h"), ours_from_onnx(node, *inputs), strict=True))
        for name, theirs in zip((name for name in node.output if name), expected, strict=True):
            np.testing.assert_allclose(results[name], theirs, rtol=1e-5, strict=True)


def test_onnx_node_cases_are_there():
    assert len(onnx_node_cases("RNN")) >= 6


DIRECTIONS = ("forward", "reverse", "bidirectional")


def draw_onnx(rng, direction, layout):
    """Inputs of the operator: X, W, R, B, initial_h."""
    directions = 1 + (direction == "bidirectional")
    x, h0 = rng.standard_normal((T, N, D)), rng.standard_normal((directions, N, U))
    shapes = (directions, U, D), (directions, U, U), (directions, 2 * U)
    weights = [rng.standard_normal(shape) / 3 for shape in shapes]
    return [x.swapaxes(0, 1), *weights, h0.swapaxes(0, 1)] if layout else [x, *weights, h0]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("name", ["Tanh", "Affine"])
@pytest.mark.parametrize("given", BOOLS, ids=["from zero", "from initial_h"])
def test_random_configurations_equal_the_onnx_reference(direction, layout, name, given, rng):
    x, w, r, b, h0 = draw_onnx(rng, direction, layout)
    directions = len(w)
    attributes = {"direction": direction, "layout": layout, "hidden_size": U}
    attributes["activations"] = [name] * directions
    if name == "Affine":
        # one pair for both directions: the reference gives the second direction the first one's function
        attributes["activation_alpha"] = [0.375] * directions
        attributes["activation_beta"] = [-0.625] * directions
    inputs = {"X": x, "W": w, "R": r, "B": b} | ({"H": h0} if given else {})
    names = ["X", "W", "R", "B", "", "H"][: 6 if given else 4]
    node = onnx.helper.make_node("RNN", names, ["Y", "Y_h"], **attributes)
    expected = ReferenceEvaluator(node).run(None, inputs)
    ours = ours_from_onnx(node, x, w, r, b, None, h0 if given else None)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-11, strict=True)


# What the operator's page says of its functions, for one number.
FORMULAS = {
    "Relu": (0, lambda a: max(0.0, a)),
    "Tanh": (0, lambda a: np.tanh(a)),
    "Sigmoid": (0, lambda a: 1 / (1 + np.exp(-a))),
    "Affine": (2, lambda a, alpha, beta: alpha * a + beta),
    "LeakyRelu": (1, lambda a, alpha: a if a >= 0 else alpha * a),
    "ThresholdedRelu": (1, lambda a, alpha: a if a >= alpha else 0.0),
    "ScaledTanh": (2, lambda a, alpha, beta: alpha * np.tanh(beta * a)),
    "HardSigmoid": (2, lambda a, alpha, beta: min(max(alpha * a + beta, 0.0), 1.0)),
    "Elu": (1, lambda a, alpha: a if a >= 0 else alpha * (np.exp(a) - 1)),
    "Softsign": (0, lambda a: a / (1 + abs(a))),
    "Softplus": (0, lambda a: np.log(1 + np.exp(a))),
}
# The defaults of the functions' own operators.
DEFAULTS = {"LeakyRelu": (0.01,), "ThresholdedRelu": (1.0,), "HardSigmoid": (0.2, 0.5), "Elu": (1.0,)}


def loops_of_the_operator(x, w, r, b, h0, lengths, functions, clip, direction):
    """The operator's equation, number by number of every sequence and direction (layout 0)."""
    steps, batch, _ = x.shape
    directions, units = r.shape[:2]
    y, y_h = np.zeros((steps, directions, batch, units)), h0.copy()
    for d in range(directions):
        f = np.vectorize(lambda a, f=functions[d]: f(max(-clip, min(clip, a))), otypes=[float])
        for n in range(batch):
            times = range(lengths[n])
            for t in reversed(times) if direction == "reverse" or d == 1 else times:
                y_h[d, n] = f(w[d] @ x[t, n] + r[d] @ y_h[d, n] + b[d, :units] + b[d, units:])
                y[t, d, n] = y_h[d, n]
    return y, y_h


@pytest.mark.parametrize("first", FORMULAS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("draw", range(2))
def test_functions_clip_lengths_and_directions_equal_the_loops_of_the_definition(first, direction, draw, rng):
    layout = int(rng.integers(2))
    x, w, r, b, h0 = draw_onnx(rng, direction, layout)
    names = [first, str(rng.choice(list(FORMULAS)))][: len(w)]
    numbers = [[float(np.float32(a)) for a in rng.uniform(0.3, 0.7, FORMULAS[name][0])] for name in names]
    lengths, clip = rng.integers(0, T + 1, N), float(rng.choice([0.75, 1e6]))
    attributes = {"direction": direction, "layout": layout, "activations": names, "hidden_size": U}
    if alphas := [own[0] for own in numbers if own]:
        attributes["activation_alpha"] = alphas
    if betas := [own[1] for own in numbers if len(own) > 1]:
        attributes["activation_beta"] = betas
    node = onnx.helper.make_node("RNN", ["X", "W", "R", "B", "L", "H"], ["Y", "Y_h"], clip=clip, **attributes)
    ours = ours_from_onnx(node, x, w, r, b, lengths, h0)
    functions = [
        lambda a, f=FORMULAS[name][1], own=own: f(a, *own) for name, own in zip(names, numbers, strict=True)
    ]
    turn = (lambda a: a.swapaxes(0, 1)) if layout else (lambda a: a)
    expected = loops_of_the_operator(turn(x), w, r, b, turn(h0), lengths, functions, clip, direction)
    if layout:
        ours = ours[0].transpose(1, 2, 0, 3), ours[1].swapaxes(0, 1)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-11, strict=True)


def test_every_function_of_the_operator_is_there():
    assert {name.lower() for name in FORMULAS} == {name.replace("_", "") for name in ACTIVATIONS} - {
        "identity"
    }


@pytest.mark.parametrize("name", FORMULAS)
def test_functions_without_numbers_have_the_defaults_of_their_operators(name):
    defaults = DEFAULTS.get(name, (1.0, {"Affine": 0.0}.get(name, 1.0)))[: FORMULAS[name][0]]
    (function,) = onnx_activations([name])
    for a in (-3.0, -0.4, 0.6, 2.5):
        assert function.value(np, np.array(a)) == pytest.approx(FORMULAS[name][1](a, *defaults), abs=1e-12)


def test_numbers_go_to_the_functions_that_take_some():
    (tanh, leaky), (_, same) = (
        onnx_activations(["Tanh", "LeakyRelu"], alpha) for alpha in ([0.5], [7.0, 0.5])
    )
    assert tanh.value(np, np.array(1.0)) == np.tanh(1.0)
    assert leaky.value(np, np.array(-2.0)) == same.value(np, np.array(-2.0)) == -1.0


def test_functions_and_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^onnx_activations: \['Swish', 'Identity'\] are unknown"):
        onnx_activations(["Tanh", "Swish", "Identity"])
    with pytest.raises(ValueError, match="^onnx_activations: alpha has 3 numbers, expected 1: one for each"):
        onnx_activations(["Tanh", "Elu"], [1.0, 2.0, 3.0])
