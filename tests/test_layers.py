"""Layers: two vocabularies for one net, sharing against not sharing, agreement with torch.nn, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from coursekit import layers
from coursekit.arrays import ShapeError
from coursekit.gradcheck import check_gradients
from coursekit.layers import (
    AvgPool2d,
    ComplexLayer,
    Conv1d,
    Conv2d,
    Dense,
    Detector,
    Flatten,
    Layer,
    LocallyConnected2d,
    LpPool2d,
    MaxPool2d,
    Sequential,
)


def make(kind, rng, dtype="float64"):
    """A layer of each kind and the shape of an input that it takes."""
    return {
        "Conv1d": (Conv1d(3, 5, 2, rng=rng, dtype=dtype), (2, 3, 7)),
        "Conv2d": (Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, rng=rng, dtype=dtype), (2, 4, 7, 5)),
        "Conv2d without bias": (Conv2d(3, 5, 2, bias=False, rng=rng, dtype=dtype), (2, 3, 7, 5)),
        "LocallyConnected2d": (
            LocallyConnected2d(3, 5, 2, (7, 11), stride=(2, 1), padding=1, dilation=2, rng=rng, dtype=dtype),
            (2, 3, 7, 11),
        ),
        "LocallyConnected2d without bias": (
            LocallyConnected2d(3, 5, 2, (7, 5), bias=False, rng=rng, dtype=dtype),
            (2, 3, 7, 5),
        ),
        "Dense": (Dense(7, 3, rng=rng, dtype=dtype), (2, 7)),
        "Dense without bias": (Dense(7, 3, bias=False, rng=rng, dtype=dtype), (2, 7)),
        "MaxPool2d": (MaxPool2d(3, stride=2, padding=1), (2, 3, 7, 5)),
        "AvgPool2d": (AvgPool2d((3, 2), ceil_mode=True), (2, 3, 7, 5)),
        "LpPool2d": (LpPool2d(2, p=3), (2, 3, 7, 5)),
        "Detector": (Detector("softplus"), (2, 3, 7, 5)),
        "Flatten": (Flatten(), (2, 3, 7, 5)),
        "ComplexLayer": (
            ComplexLayer(Conv2d(3, 5, 2, rng=rng, dtype=dtype), Detector("tanh"), AvgPool2d(2)),
            (2, 3, 7, 5),
        ),
        "Sequential": (
            Sequential(Conv2d(3, 5, 2, rng=rng, dtype=dtype), Flatten(), Dense(120, 2, rng=rng, dtype=dtype)),
            (2, 3, 7, 5),
        ),
    }[kind]


ALL = [
    "Conv1d",
    "Conv2d",
    "Conv2d without bias",
    "LocallyConnected2d",
    "LocallyConnected2d without bias",
    "Dense",
    "Dense without bias",
    "MaxPool2d",
    "AvgPool2d",
    "LpPool2d",
    "Detector",
    "Flatten",
    "ComplexLayer",
    "Sequential",
]


@pytest.fixture(params=ALL)
def kind(request):
    return request.param


def test_every_public_layer_is_tested():
    assert {kind.split()[0] for kind in ALL} == set(layers.__all__) - {"INITIALISERS", "Layer"}


# What every layer keeps


def test_the_gradients_of_input_and_parameters_agree_with_central_differences(kind, rng):
    layer, shape = make(kind, rng)
    names = list(layer.parameters)
    x = rng.permutation(np.linspace(-2, 2.01, math.prod(shape))).reshape(shape)

    def forward(x, *parameters):
        twin = layer.with_parameters(dict(zip(names, parameters, strict=True)))
        y, cache = twin.forward(x)
        return y, (twin, cache)

    def backward(dy, cache):
        twin, cache = cache
        dx, gradients = twin.backward(dy, cache)
        return (dx, *(gradients[name] for name in names))

    check_gradients(forward, backward, [x, *layer.parameters.values()], rng=rng)


def test_gradients_have_the_names_and_shapes_of_the_parameters(kind, rng):
    layer, shape = make(kind, rng)
    y, cache = layer.forward(rng.normal(size=shape))
    _, gradients = layer.backward(y, cache)
    assert {n: g.shape for n, g in gradients.items()} == {n: p.shape for n, p in layer.parameters.items()}


def test_the_same_layer_runs_on_every_array_library(kind, library, rng):
    layer, shape = make(kind, rng)
    values = rng.normal(size=shape)
    expected, expected_cache = layer.forward(values)
    expected_dx, expected_gradients = layer.backward(expected, expected_cache)

    twin = layer.to(library.array([0.0]))
    y, cache = twin.forward(library.array(values))
    dx, gradients = twin.backward(y, cache)

    close = {"rtol": 1e-3, "atol": 20 * library.tolerance}
    np.testing.assert_allclose(library.numpy(y), expected, **close)
    np.testing.assert_allclose(library.numpy(dx), expected_dx, **close)
    for name, gradient in expected_gradients.items():
        np.testing.assert_allclose(library.numpy(gradients[name]), gradient, **close)


def test_a_layer_without_values_runs_on_the_meta_device(kind, rng):
    layer, shape = make(kind, rng)
    x = torch.ones(shape, dtype=torch.float64, device="meta")
    y, cache = layer.to(x).forward(x)
    dx, _ = layer.to(x).backward(y, cache)
    assert tuple(dx.shape) == shape


def test_an_empty_batch_gives_empty_outputs_and_zero_gradients(kind, rng):
    layer, shape = make(kind, rng)
    y, cache = layer.forward(np.zeros((0, *shape[1:])))
    dx, gradients = layer.backward(y, cache)
    assert dx.shape == (0, *shape[1:])
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_a_layer_can_run_twice_before_it_runs_back(kind, rng):
    layer, shape = make(kind, rng)
    first, second = rng.normal(size=(2, *shape))
    y, cache = layer.forward(first)
    expected = layer.backward(y, cache)[0]
    y, cache = layer.forward(first)
    layer.forward(second)
    np.testing.assert_array_equal(layer.backward(y, cache)[0], expected)


def test_with_parameters_leaves_the_layer_itself_as_it_was(rng):
    layer = Dense(2, 3, rng=rng)
    twin = layer.with_parameters({"w": np.zeros((2, 3)), "b": np.zeros(3)})
    assert layer.parameters["w"].any()
    assert not twin.parameters["w"].any()


# Two vocabularies


def test_a_complex_layer_equals_three_simple_layers(rng):
    stages = Conv2d(3, 5, 3, padding=1, rng=rng, dtype="float64"), Detector("relu"), MaxPool2d(2)
    complex_layer, simple_layers = ComplexLayer(*stages), Sequential(*stages)
    x = rng.normal(size=(2, 3, 7, 11))
    (y, cache), (y_simple, cache_simple) = complex_layer.forward(x), simple_layers.forward(x)
    np.testing.assert_array_equal(y, y_simple)
    dy = rng.normal(size=y.shape)
    (dx, gradients), (dx_simple, gradients_simple) = (
        complex_layer.backward(dy, cache),
        simple_layers.backward(dy, cache_simple),
    )
    np.testing.assert_array_equal(dx, dx_simple)
    np.testing.assert_array_equal(gradients["w"], gradients_simple["0.w"])
    assert complex_layer.parameter_count == simple_layers.parameter_count == 5 * 3 * 3 * 3 + 5


@pytest.mark.parametrize("kind", ["MaxPool2d", "AvgPool2d", "LpPool2d", "Detector", "Flatten"])
def test_not_every_layer_has_parameters(kind, rng):
    layer, _ = make(kind, rng)
    assert (layer.parameters, layer.parameter_count) == ({}, 0)


# Sharing


def test_a_locally_connected_layer_with_tied_kernels_is_a_convolution(rng):
    options = {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "rng": rng, "dtype": "float64"}
    shared, local = Conv2d(3, 5, (3, 2), **options), LocallyConnected2d(3, 5, (3, 2), (7, 11), **options)
    w, b = shared.parameters["w"], shared.parameters["b"]
    HO, WO = local.parameters["w"].shape[:2]
    tied = {"w": np.tile(w, (HO, WO, 1, 1, 1, 1)), "b": np.tile(b[:, None, None], (1, HO, WO))}
    local = local.with_parameters(tied)
    x = rng.normal(size=(2, 3, 7, 11))
    (y, cache), (y_local, cache_local) = shared.forward(x), local.forward(x)
    np.testing.assert_allclose(y_local, y, rtol=1e-11, atol=1e-12)

    dy = rng.normal(size=y.shape)
    (dx, gradients), (dx_local, gradients_local) = shared.backward(dy, cache), local.backward(dy, cache_local)
    np.testing.assert_allclose(dx_local, dx, rtol=1e-11, atol=1e-12)
    # sharing a kernel means adding up what its positions ask for
    np.testing.assert_allclose(gradients_local["w"].sum(axis=(0, 1)), gradients["w"], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gradients_local["b"].sum(axis=(1, 2)), gradients["b"], rtol=1e-11, atol=1e-12)


def test_a_locally_connected_layer_is_a_dense_product_at_every_position(rng):
    layer = LocallyConnected2d(3, 5, 2, (5, 7), stride=(1, 2), rng=rng, dtype="float64")
    x = rng.normal(size=(2, 3, 5, 7))
    y, w, b = layer(x), layer.parameters["w"], layer.parameters["b"]
    for h in range(4):
        for v in range(3):
            window = x[:, :, h : h + 2, 2 * v : 2 * v + 2].reshape(2, 12)
            expected = window @ w[h, v].reshape(5, 12).T + b[:, h, v]
            np.testing.assert_allclose(y[:, :, h, v], expected, rtol=1e-12)


def test_not_sharing_costs_one_kernel_per_position(rng):
    shared, local = Conv2d(3, 5, 2, rng=rng), LocallyConnected2d(3, 5, 2, (7, 11), rng=rng)
    assert local.parameter_count == 6 * 10 * shared.parameter_count


# Agreement with torch.nn


def test_a_small_net_agrees_with_torch(rng):
    net = Sequential(
        Conv2d(3, 5, 3, padding=1, rng=rng, dtype="float64"),
        Detector("relu"),
        MaxPool2d(2),
        Flatten(),
        Dense(30, 7, rng=rng, dtype="float64"),
    )
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(30, 7),
    ).double()
    p = {name: torch.tensor(value) for name, value in net.parameters.items()}
    theirs.load_state_dict(
        {"0.weight": p["0.w"], "0.bias": p["0.b"], "4.weight": p["4.w"].T, "4.bias": p["4.b"]}
    )
    x = torch.tensor(rng.normal(size=(2, 3, 4, 7)), requires_grad=True)
    expected = theirs(x)
    dy = rng.normal(size=(2, 7))
    expected.backward(torch.tensor(dy))

    y, cache = net.forward(x.detach().numpy())
    dx, gradients = net.backward(dy, cache)

    close = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(y, expected.detach().numpy(), **close)
    np.testing.assert_allclose(dx, x.grad.numpy(), **close)
    np.testing.assert_allclose(gradients["0.w"], theirs[0].weight.grad.numpy(), **close)
    np.testing.assert_allclose(gradients["0.b"], theirs[0].bias.grad.numpy(), **close)
    np.testing.assert_allclose(gradients["4.w"], theirs[4].weight.grad.numpy().T, **close)
    np.testing.assert_allclose(gradients["4.b"], theirs[4].bias.grad.numpy(), **close)


# Initialisation


def test_equal_seeds_give_equal_weights_in_every_dtype():
    single, double = (Conv2d(3, 5, 2, rng=np.random.default_rng(7), dtype=d) for d in ("float32", "float64"))
    assert single.parameters["w"].dtype == np.float32
    np.testing.assert_allclose(single.parameters["w"], double.parameters["w"], rtol=1e-6)


@pytest.mark.parametrize("init, variance", [("he", 2 / 144), ("glorot", 2 / (144 + 576)), ("zeros", 0)])
def test_weights_have_the_variance_of_their_initialiser(init, variance, rng):
    w = Conv2d(16, 64, 3, init=init, rng=rng).parameters["w"]  # sees 16 * 9, is seen by 64 * 9
    assert w.var() == pytest.approx(variance, rel=0.05)
    assert abs(w.mean()) < 0.005


def test_groups_see_fewer_inputs_and_so_start_larger(rng):
    whole, grouped = Conv2d(64, 64, 3, rng=rng), Conv2d(64, 64, 3, groups=4, rng=rng)
    assert grouped.parameters["w"].std() / whole.parameters["w"].std() == pytest.approx(2, rel=0.05)


# Sequential


def test_sequential_numbers_its_parameters_and_shares_them_with_its_layers(rng):
    dense = Dense(2, 3, rng=rng)
    net = Sequential(Flatten(), dense)
    assert list(net.parameters) == ["1.w", "1.b"]
    net.parameters["1.w"] += 1
    assert dense.parameters["w"] is net.parameters["1.w"]


def test_sequential_within_sequential_keeps_every_name_apart(rng):
    inner = Sequential(Dense(2, 3, rng=rng), Dense(3, 2, rng=rng))
    net = Sequential(inner, Dense(2, 1, bias=False, rng=rng))
    assert list(net.parameters) == ["0.0.w", "0.0.b", "0.1.w", "0.1.b", "1.w"]
    assert net.parameter_count == 2 * inner.parameters["0.w"].size + 3 + 2 + 2


def test_the_summary_adds_up(rng):
    net, shape = make("Sequential", rng)
    table = net.summary(np.zeros(shape)).splitlines()
    assert table[0].split() == ["layer", "output", "parameters"]
    assert "(2, 5, 6, 4)" in table[1]
    assert table[1].endswith("65")
    assert table[2].endswith("0")
    assert table[4].split() == ["total", str(net.parameter_count)]


def test_a_detector_shows_its_options():
    assert repr(Detector("leaky_relu", slope=0.2)) == "Detector('leaky_relu', slope=0.2)"


def test_parameters_in_any_memory_layout_go_to_torch(rng):
    layer = Dense(3, 5, bias=False, rng=rng)
    mirrored = layer.with_parameters({"w": layer.parameters["w"][::-1]}).to(torch.zeros(1))
    np.testing.assert_array_equal(mirrored.parameters["w"].numpy(), layer.parameters["w"][::-1])


@pytest.mark.parametrize("bias", [True, False])
def test_a_locally_connected_layer_lays_its_output_out_in_c_order(bias, library, rng):
    layer = LocallyConnected2d(1, 2, 3, (5, 7), bias=bias, rng=rng).to(library.array([0.0]))
    y = layer(library.array(rng.normal(size=(3, 1, 5, 7))))
    assert library.numpy(y).flags.c_contiguous


def test_an_empty_sequence_is_the_identity():
    x = np.ones((2, 3))
    np.testing.assert_array_equal(Sequential()(x), x)


# Errors


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda r: Conv2d(3, 5, 0, rng=r), ValueError, "Conv2d: kernel must be >= 1, got 0"),
        (lambda r: Conv2d(0, 5, 3, rng=r), ValueError, r"Conv2d: sizes must be >= 1, got \(0, 5, 1\)"),
        (lambda r: Conv2d(3, 5, 3, groups=2, rng=r), ValueError, "groups=2 must divide 3 channels"),
        (lambda r: Conv2d(3, 5, 3, rng=0), TypeError, "rng must be a numpy.random.Generator"),
        (lambda r: Conv2d(3, 5, 3, init="hee", rng=r), ValueError, "init 'hee' is unknown"),
        (lambda r: Conv1d(3, 5, (2, 2), rng=r), ValueError, "Conv1d: kernel has 2 entries"),
        (lambda r: Dense(2, 0, rng=r), ValueError, r"Dense: sizes must be >= 1, got \(2, 0\)"),
        (lambda r: LocallyConnected2d(3, 5, 4, (3, 3), rng=r), ShapeError, "the kernel covers 4"),
        (lambda r: MaxPool2d(2, strides=1), TypeError, "unexpected keyword argument 'strides'"),
        (lambda r: Detector("rely"), ValueError, "Detector: 'rely' is unknown, expected one of"),
        (lambda r: Sequential([Flatten()]), TypeError, "Sequential: argument 0 is a list, not a Layer"),
        (lambda r: Detector("relu", slope=1), TypeError, "unexpected keyword argument 'slope'"),
        (
            lambda r: ComplexLayer(Conv2d(1, 1, 1, rng=r), Dense(1, 1, rng=r), MaxPool2d(1)),
            ValueError,
            "only the convolution stage may have parameters",
        ),
    ],
)
def test_layers_that_make_no_sense_are_refused(build, error, message, rng):
    with pytest.raises(error, match=message):
        build(rng)


@pytest.mark.parametrize(
    "kind, x, error, message",
    [
        ("Dense", np.ones((2, 3, 7)), ShapeError, r"\(2, 3, 7\), expected \(N, 7\) .* Flatten\(\)"),
        ("Dense", np.ones((2, 5)), ShapeError, r"x has shape \(2, 5\), expected \(N, 7\)"),
        ("Dense", np.ones((2, 7), "float32"), TypeError, "one dtype, got x float32, w float64, b float64"),
        ("Dense", torch.ones(2, 7, dtype=torch.float64), TypeError, "library, got x torch, w numpy"),
        ("LocallyConnected2d", np.ones((2, 3, 7, 5)), ShapeError, r"expected \(2, 3, 7, 11\): every"),
        ("LocallyConnected2d", np.ones((3, 7, 11)), ShapeError, r"x\[None\] adds a batch axis"),
        ("Flatten", np.ones(3, int), TypeError, "Flatten.forward: x has dtype int"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(kind, x, error, message, rng):
    layer, _ = make(kind, rng)
    with pytest.raises(error, match=message):
        layer(x)


@pytest.mark.parametrize("kind", ["Dense", "LocallyConnected2d", "Flatten"])
def test_gradients_that_do_not_fit_are_refused(kind, rng):
    layer, shape = make(kind, rng)
    y, cache = layer.forward(rng.normal(size=shape))
    with pytest.raises(ShapeError, match=f"{kind}.backward: dy has shape"):
        layer.backward(y[:1], cache)


@pytest.mark.parametrize("kind", ["Dense", "ComplexLayer", "Sequential"])
def test_parameters_that_do_not_fit_are_refused(kind, rng):
    layer, _ = make(kind, rng)
    first = next(iter(layer.parameters))
    with pytest.raises(ValueError, match=r"has parameters \[.*\], got \['v'\]"):
        layer.with_parameters({"v": np.ones(1)})
    with pytest.raises(ShapeError, match=r"has shape \(1,\), expected"):
        layer.with_parameters(layer.parameters | {first: np.ones(1)})


def test_the_base_class_computes_nothing():
    with pytest.raises(NotImplementedError):
        Layer().forward(np.ones(1))
    with pytest.raises(NotImplementedError):
        Layer().backward(np.ones(1), None)
