"""Graphs with feedback: their structure, their run, their unfolding and its gradient."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
import torch

from coursekit.arrays import ShapeError
from coursekit.cells import ACTIVATIONS
from coursekit.gradcheck import check_gradients
from coursekit.graph import (
    KINDS,
    RecurrentGraph,
    mass_spring,
    newton_cooling,
    unfold,
    unfolded_backward,
    unfolded_forward,
)
from coursekit.optim import SGD
from coursekit.recurrent import rnn_forward

# x and |v| of the mass on a spring, dt = 0.1 and dt k/m = 0.5, velocity first.
SPRING_X = [1.0000, 0.9500, 0.8525, 0.7124, 0.5366, 0.3341, 0.1148]
SPRING_V = [0.0000, 0.5000, 0.9750, 1.4012, 1.7574, 2.0258, 2.1928]

ORDERS = ["synchronous", "layers", "one by one"]
KINKED = {"relu", "leaky_relu", "thresholded_relu", "elu", "hard_sigmoid"}
SMOOTH = [name for name in ACTIVATIONS if name not in KINKED]


def build(units, edges, **options):
    """A graph from names ("x*" has an external input) and "source target" pairs, one parameter each."""
    net = RecurrentGraph()
    for name in units.split():
        net.add_unit(name.strip("*"), external=name.endswith("*"), **options)
    for edge in edges.split(","):
        net.connect(*edge.split(), edge.strip())
    return net


def random_net(rng, units=7, edges=17, inputs=2):
    """Any topology: random connections, some sharing a parameter, biases and activations of all kinds."""
    net = RecurrentGraph()
    names = [f"u{i}" for i in range(units)]
    for i, name in enumerate(names):
        bias = f"b{i % 3}" if i % 2 else 0.1
        net.add_unit(name, activation=str(rng.choice(SMOOTH)), bias=bias, external=i < inputs)
    pairs = list(itertools.product(names, repeat=2))
    for i, chosen in enumerate(rng.permutation(len(pairs))[:edges]):
        net.connect(*pairs[chosen], f"w{i % 11}", scale=rng.normal(), offset=0.1 * rng.normal())
    return net


def order_of(net, word, rng):
    return rng.permutation(net.units).tolist() if word == "one by one" else word


def inputs_of(net, rng, steps=5, batch=3):
    x = rng.normal(size=(steps, batch, len(net.inputs)))
    parameters = {name: np.asarray(0.4 * rng.normal()) for name in net.parameters}
    return parameters, x, rng.normal(size=(batch, len(net.units)))


# Structure


def test_a_feed_forward_net_has_no_feedback():
    net = build("x* a b y", "x a, x b, a y, b y, a b")
    assert net.feedback() == {}
    assert set(net.kinds().values()) == {"forward"}


def test_feedback_is_direct_lateral_or_indirect():
    net = build("x* a b y", "x a, x b, a y, b y, a a, a b, b a, y a")
    assert net.feedback() == {
        ("a", "a"): "direct",
        ("a", "b"): "lateral",
        ("b", "a"): "lateral",
        ("y", "a"): "indirect",
    }


def test_a_connection_within_a_layer_that_closes_no_cycle_is_no_feedback():
    assert build("x* a b", "x a, x b, a b").feedback() == {}


@pytest.mark.parametrize("seed", range(20))
def test_every_feedback_connection_lies_on_a_cycle_and_every_cycle_has_one(seed):
    net = random_net(np.random.default_rng(seed))
    for source, target in net.feedback():
        assert nx.has_path(net.graph, target, source)
    assert set(net.kinds().values()) <= set(KINDS)
    rest = nx.DiGraph(edge for edge, kind in net.kinds().items() if kind == "forward")
    assert nx.is_directed_acyclic_graph(rest)


@pytest.mark.parametrize(
    "edges, kind",
    [
        ("x a, x b, b y, a y, y a", "indirect"),  # y stands after b, whatever a does
        ("x a, x b, b y, x y, a y, y a", "indirect"),
        ("x a, x y, a y, y a, a b", "lateral"),  # the input reaches both at once
    ],
)
def test_a_connection_back_is_indirect_if_something_else_puts_its_source_later(edges, kind):
    assert build("x* a b y", edges).kinds()["y", "a"] == kind


def test_every_unit_has_a_layer_without_any_input():
    net = build("a b c", "a b, b a, b c, c c")
    assert net.layers() == {"a": 0, "b": 0, "c": 1}


@pytest.mark.parametrize("seed", range(20))
def test_layers_grow_along_every_connection_that_is_not_feedback(seed):
    net = random_net(np.random.default_rng(seed))
    component = {name: i for i, names in enumerate(net.components()) for name in names}
    layers = net.layers()
    for source, target in net.graph.edges:
        if component[source] != component[target]:
            assert layers[source] < layers[target]


def test_layers_can_be_given():
    net = RecurrentGraph()
    for layer, name in enumerate("vx"):
        net.add_unit(name, layer=layer)
    net.connect("v", "x")
    net.connect("x", "v")
    assert net.feedback() == {("x", "v"): "indirect"}
    assert net.update_order("layers") == (("v",), ("x",))


def test_components_come_before_those_that_read_them():
    net = build("y b a x*", "x a, a b, b a, b y")
    assert net.components() == (("x",), ("b", "a"), ("y",))


def test_only_feedback_waits_a_step_in_the_order_of_layers():
    net = build("x* a b y", "x a, x b, a y, b y, a a, a b, b a, y a")
    delays = net.delays("layers")
    assert {edge for edge, delay in delays.items() if delay} == set(net.feedback())


# Running


def test_a_full_layer_equals_the_plain_recurrent_layer(library, rng):
    u, w, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)
    net, parameters = RecurrentGraph(), {}
    for i in range(2):
        net.add_unit(f"x{i}", external=True)
    for j in range(3):
        net.add_unit(f"h{j}", activation="tanh", bias=f"b{j}")
        parameters[f"b{j}"] = library.array(b[j])
    for source, matrix in (("x", u), ("h", w)):
        for i, j in np.ndindex(*matrix.shape):
            net.connect(f"{source}{i}", f"h{j}", f"{source}{i}{j}")
            parameters[f"{source}{i}{j}"] = library.array(matrix[i, j])
    x = rng.normal(size=(5, 7, 2))
    h = library.numpy(net.run(parameters, library.array(x)))[..., 2:]
    expected, _ = rnn_forward(x, u, w, b)
    np.testing.assert_allclose(h, expected, rtol=library.tolerance, atol=library.tolerance)


@pytest.mark.parametrize("word", ORDERS)
def test_a_batch_equals_one_run_after_the_other(word, rng):
    net = random_net(rng)
    parameters, x, h0 = inputs_of(net, rng)
    order = order_of(net, word, rng)
    h = net.run(parameters, x, h0=h0, order=order)
    for n in range(x.shape[1]):
        one = net.run(parameters, x[:, [n]], h0=h0[[n]], order=order)
        np.testing.assert_allclose(h[:, [n]], one, rtol=1e-12)


@pytest.mark.parametrize("word", ORDERS)
def test_a_run_equals_two_runs_joined(word, rng):
    net = random_net(rng)
    parameters, x, h0 = inputs_of(net, rng)
    order = order_of(net, word, rng)
    whole = net.run(parameters, x, h0=h0, order=order)
    first = net.run(parameters, x[:2], h0=h0, order=order)
    second = net.run(parameters, x[2:], h0=first[-1], order=order)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))


def test_a_synchronous_update_reads_the_step_before_whatever_the_order_of_the_units():
    forth, back = build("a b", "a b, b a"), build("b a", "b a, a b")
    parameters = {"a b": 1.0, "b a": 1.0}
    h = forth.run(parameters, h0=np.array([[2.0, 5.0]]), steps=1)
    assert h.tolist() == [[[5.0, 2.0]]]
    assert back.run(parameters, h0=np.array([[5.0, 2.0]]), steps=1).tolist() == [[[2.0, 5.0]]]


def test_an_ordered_update_reads_what_was_updated_before():
    net = build("a b", "a b, b a")
    h = net.run({"a b": 1.0, "b a": 1.0}, h0=np.array([[2.0, 5.0]]), steps=1, order=["a", "b"])
    assert h.tolist() == [[[5.0, 5.0]]]


def test_a_shared_parameter_is_one_number():
    net = RecurrentGraph()
    for name in "ab":
        net.add_unit(name)
        net.connect(name, name, "w")
    assert net.parameters == ("w",)
    h = net.run({"w": 3.0}, h0=np.array([[1.0, 2.0]]), steps=2)
    assert h[-1].tolist() == [[9.0, 18.0]]


def test_arguments_stay_as_they_were(rng):
    net = random_net(rng)
    parameters, x, h0 = inputs_of(net, rng)
    kept = {name: p.copy() for name, p in parameters.items()}, x.copy(), h0.copy()
    h, cache = unfolded_forward(unfold(net, 5), parameters, x, h0=h0)
    unfolded_backward(h, cache)
    net.run(parameters, x, h0=h0)
    assert kept[0] == parameters
    np.testing.assert_array_equal(kept[1], x)
    np.testing.assert_array_equal(kept[2], h0)


# Unfolding


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("word", ORDERS)
def test_an_unfolded_graph_has_no_cycle(word, seed):
    rng = np.random.default_rng(seed)
    net = random_net(rng)
    assert nx.is_directed_acyclic_graph(unfold(net, 5, order=order_of(net, word, rng)).graph)


@pytest.mark.parametrize("word", ORDERS)
def test_the_unfolded_run_equals_the_recurrent_run(word, library, rng):
    net = random_net(rng)
    order = order_of(net, word, rng)
    parameters, x, h0 = inputs_of(net, rng)
    parameters = {name: library.array(p) for name, p in parameters.items()}
    x, h0 = library.array(x), library.array(h0)
    h, _ = unfolded_forward(unfold(net, 5, order=order), parameters, x, h0=h0)
    expected = library.numpy(net.run(parameters, x, h0=h0, order=order))
    np.testing.assert_allclose(library.numpy(h), expected, rtol=library.tolerance, atol=library.tolerance)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 11])
def test_the_parameters_do_not_depend_on_the_number_of_steps(steps, rng):
    net = random_net(rng)
    unfolded = unfold(net, steps)
    assert unfolded.parameters == net.parameters
    assert len(unfolded.graph.edges) == steps * len(net.graph.edges)


def test_the_unfolded_graph_keeps_the_kind_of_every_connection():
    net = build("x* h", "x h, h h")
    graph = unfold(net, 2).graph
    assert dict(nx.get_edge_attributes(graph, "kind")) == {
        (("x", 0), ("h", 0)): "forward",
        (("h", -1), ("h", 0)): "direct",
        (("x", 1), ("h", 1)): "forward",
        (("h", 0), ("h", 1)): "direct",
    }


# Gradients


@pytest.mark.parametrize("word", ORDERS)
def test_the_gradients_agree_with_central_differences(word, rng):
    net = random_net(rng)
    unfolded = unfold(net, 5, order=order_of(net, word, rng))
    parameters, x, h0 = inputs_of(net, rng)

    def forward(x, h0, *values):
        return unfolded_forward(unfolded, dict(zip(parameters, values, strict=True)), x, h0=h0)

    def backward(dh, cache):
        gradients = unfolded_backward(dh, cache)
        return [gradients.dx, gradients.dh0, *(gradients.dparameters[name] for name in parameters)]

    check_gradients(forward, backward, [x, h0, *parameters.values()], rng=rng)


@pytest.mark.parametrize("word", ORDERS)
def test_the_gradients_agree_with_autograd_through_the_recurrent_run(word, rng):
    net = random_net(rng)
    order = order_of(net, word, rng)
    parameters, x, h0 = inputs_of(net, rng)
    h, cache = unfolded_forward(unfold(net, 5, order=order), parameters, x, h0=h0)
    dh = rng.normal(size=h.shape)
    ours = unfolded_backward(dh, cache)
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in parameters.items()}
    x, h0 = (torch.from_numpy(a).requires_grad_() for a in (x, h0))
    wanted = [x, h0, *tensors.values()]
    run = net.run(tensors, x, h0=h0, order=order)
    theirs = torch.autograd.grad(run, wanted, torch.from_numpy(dh), allow_unused=True)
    gradients = [ours.dx, ours.dh0, *(ours.dparameters[name] for name in tensors)]
    for got, expected in zip(gradients, theirs, strict=True):
        expected = np.zeros(np.shape(got)) if expected is None else expected.numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_a_parameter_used_at_every_step_collects_from_every_step():
    net = build("a", "a a")
    h, cache = unfolded_forward(unfold(net, 3), {"a a": 2.0}, h0=np.array([[1.0]]))
    dh = np.zeros_like(h)
    dh[-1] = 1.0
    gradients = unfolded_backward(dh, cache)
    assert gradients.dparameters == {"a a": 12.0}  # of w^3 at w = 2
    assert gradients.dh0.tolist() == [[8.0]]
    assert gradients.dx is None


def test_gradients_fit_the_optimisers():
    net = mass_spring(0.1)
    parameters = {"k/m": np.asarray(2.0)}
    h, cache = unfolded_forward(unfold(net, 3), parameters, h0=np.array([[1.0, 0.0]]))
    SGD(lr=1.0).step(parameters, unfolded_backward(np.ones_like(h), cache).dparameters)
    assert parameters["k/m"] != 2.0


# Difference equations


def test_the_mass_on_a_spring_gives_the_textbook_table():
    h = mass_spring(0.1).run({"k/m": 5.0}, h0=np.array([[1.0, 0.0]]), steps=6, order=("v", "x"))
    assert h[:, 0, 0].round(4).tolist() == SPRING_X[1:]
    assert np.abs(h[:, 0, 1]).round(4).tolist() == SPRING_V[1:]


def test_updated_at_once_the_spring_gains_the_same_share_of_energy_in_every_step():
    h = mass_spring(0.1).run({"k/m": 5.0}, h0=np.array([[1.0, 0.0]]), steps=100)
    energy = 5.0 * h[:, 0, 0] ** 2 + h[:, 0, 1] ** 2
    np.testing.assert_allclose(energy, 5.0 * 1.05 ** np.arange(1, 101))


@pytest.mark.parametrize("order, sign", [(("v", "x"), -1), (("x", "v"), 1)])
def test_updated_in_turn_the_spring_keeps_a_quantity_close_to_its_energy(order, sign):
    h = mass_spring(0.1).run({"k/m": 5.0}, h0=np.array([[1.0, 0.0]]), steps=500, order=order)
    x, v = h[:, 0, 0], h[:, 0, 1]
    np.testing.assert_allclose(5.0 * x**2 + v**2 + sign * 0.5 * x * v, 5.0, rtol=1e-9)


def test_a_cooling_body_approaches_the_ambient_temperature_geometrically(rng):
    ambient, start, rate, dt = 20.0, 80.0, 0.3, 0.5
    h0 = np.array([[ambient, start]])
    h = newton_cooling(dt).run({"k": rate}, np.full((11, 1, 1), ambient), h0=h0)
    expected = ambient + (start - ambient) * (1 - dt * rate) ** np.arange(1, 12)
    np.testing.assert_allclose(h[:, 0, 1], expected, rtol=1e-12)


def test_the_spring_is_learnt_from_its_positions():
    net, h0 = mass_spring(0.1), np.array([[1.0, 0.0]])
    order = ("v", "x")
    unfolded = unfold(net, 20, order=order)
    target = net.run({"k/m": 5.0}, h0=h0, steps=20, order=order)[..., 0]
    parameters, descent = {"k/m": np.asarray(2.0)}, SGD(lr=0.3)
    for _ in range(100):
        h, cache = unfolded_forward(unfolded, parameters, h0=h0)
        dh = np.zeros_like(h)
        dh[..., 0] = h[..., 0] - target
        descent.step(parameters, unfolded_backward(dh, cache).dparameters)
    assert abs(float(parameters["k/m"]) - 5.0) < 1e-6


# Errors


def test_bad_graphs_are_refused_with_what_to_do():
    net = build("a b", "a b")
    with pytest.raises(ValueError, match=r"add_unit: there is a unit 'a' already; take another name"):
        net.add_unit("a")
    with pytest.raises(ValueError, match=r"activation 'step' is unknown, expected one of"):
        net.add_unit("c", activation="step")
    with pytest.raises(ValueError, match=r"connect: source 'c' is unknown, units are .*; add it first"):
        net.connect("c", "a")
    with pytest.raises(ValueError, match=r"connect: target 'c' is unknown"):
        net.connect("a", "c")
    with pytest.raises(ValueError, match=r"connect: 'a' -> 'b' exists already; C is a set"):
        net.connect("a", "b", 2.0)
    with pytest.raises(
        TypeError, match=r"weight of 'b' -> 'a' is array\(2\.\), expected a number or the name"
    ):
        net.connect("b", "a", np.array(2.0))


def test_layers_for_some_units_only_are_refused():
    net = RecurrentGraph()
    net.add_unit("a", layer=0)
    net.add_unit("b")
    with pytest.raises(ValueError, match=r"\['b'\] have no layer, but others have; give it for all or none"):
        net.layers()


@pytest.mark.parametrize("order", [("a",), ("a", "b", "a"), ("a", "c"), (("a", "b"), "b")])
def test_an_order_must_name_each_unit_once(order):
    with pytest.raises(ValueError, match=r"must name each of \('a', 'b'\) exactly once"):
        build("a b", "a b").update_order(order)


def test_an_unknown_word_for_the_order_is_refused():
    with pytest.raises(ValueError, match=r"order 'random' is unknown, expected 'synchronous', 'layers' or"):
        build("a b", "a b").update_order("random")


RUN = [
    ({}, (5, 3, 1), None, None, ValueError, r"parameters lack \['x a'\]; the graph has \('x a',\)"),
    (
        {"x a": 1, "w": 2},
        (5, 3, 1),
        None,
        None,
        ValueError,
        r"parameters have \['w'\], but the graph has only",
    ),
    (
        {"x a": np.ones(2)},
        (5, 3, 1),
        None,
        None,
        ShapeError,
        r"parameter 'x a' has shape \(2,\), expected \(\)",
    ),
    ({"x a": np.float32(1)}, (5, 3, 1), None, None, TypeError, r"one dtype, got x float64, x a float32"),
    ({"x a": 1}, (5, 3), None, None, ShapeError, r"x has 2 axes \(5, 3\), expected 3 \(T N D\)"),
    ({"x a": 1}, (5, 3, 2), None, None, ShapeError, r"one column for each of the inputs \('x',\)"),
    ({"x a": 1}, (5, 3, 1), (3, 1), None, ShapeError, r"one column for each of \('x', 'a'\)"),
    ({"x a": 1}, (5, 3, 1), (2, 2), None, ShapeError, r"h0 has shape \(2, 2\), expected \(3, 2\)"),
    ({"x a": 1}, (5, 3, 1), None, 7, ValueError, r"steps is 7, but x has 5; leave steps out"),
    ({"x a": 1}, None, (3, 2), None, TypeError, r"x is None, expected an array with 3 axes \(T N D\)"),
    ({"x a": 1}, None, None, 5, TypeError, r"x and h0 are both None; h0 \(N, 2\) says how many runs"),
]


@pytest.mark.parametrize("parameters, x, h0, steps, error, message", RUN)
def test_arguments_that_do_not_fit_are_named(parameters, x, h0, steps, error, message):
    x, h0 = (None if shape is None else np.ones(shape) for shape in (x, h0))
    with pytest.raises(error, match=f"RecurrentGraph.run: .*{message}"):
        build("x* a", "x a").run(parameters, x, h0=h0, steps=steps)


def test_a_net_without_inputs_wants_steps_and_no_x():
    net = build("a", "a a")
    with pytest.raises(ShapeError, match=r"x was given, but no unit is external; pass steps=5 instead"):
        net.run({"a a": 1.0}, np.ones((5, 3, 1)))
    with pytest.raises(TypeError, match=r"steps must be an integer, got None"):
        net.run({"a a": 1.0}, h0=np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"unfold: steps must be >= 1, got 0"):
        unfold(net, 0)


def test_an_input_of_another_length_wants_another_unfolding():
    unfolded = unfold(build("x* a", "x a"), 5)
    with pytest.raises(ShapeError, match=r"x has 7 steps, the graph was unfolded over 5; unfold\(net, 7\)"):
        unfolded_forward(unfolded, {"x a": 1.0}, np.ones((7, 3, 1)))


def test_an_upstream_gradient_of_another_shape_is_refused():
    _, cache = unfolded_forward(unfold(build("a", "a a"), 2), {"a a": 1.0}, h0=np.ones((3, 1)))
    with pytest.raises(ShapeError, match=r"dh has shape \(2, 3, 2\), expected \(2, 3, 1\)"):
        unfolded_backward(np.ones((2, 3, 2)), cache)
