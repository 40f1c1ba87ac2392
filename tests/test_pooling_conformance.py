"""Pooling against its two specifications: torch's functions and ONNX's MaxPool, AveragePool and LpPool."""

from __future__ import annotations

import importlib

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as tF
from onnx.reference import ReferenceEvaluator

from coursekit import pooling

CLOSE = {"rtol": 1e-10, "atol": 1e-12, "strict": True}
OPERATORS = {"MaxPool": "max", "AveragePool": "avg", "LpPool": "lp"}


def functions(kind, axes):
    return (getattr(pooling, f"{kind}_pool{axes}d_{way}") for way in ("forward", "backward"))


def draw_windows(rng, axes):
    """An image and the options of windows that torch accepts: padding up to half a window."""
    draw = lambda low, high: tuple(int(n) for n in rng.integers(low, high, axes))  # noqa: E731
    kernel, stride, dilation = draw(1, 5), draw(1, 5), draw(1, 4)
    covered = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [c + int(rng.integers(0, 7)) for c in covered]
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    x = rng.standard_normal((int(rng.integers(1, 4)), int(rng.integers(1, 4)), *size))
    options = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": bool(rng.random() < 0.5)}
    return x, options, dilation


def assert_equals_torch(rng, kind, x, options, theirs):
    axes = x.ndim - 2
    forward, backward = functions(kind, axes)
    tx = torch.from_numpy(x).requires_grad_()
    expected = theirs(tx)
    dy = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.from_numpy(dy))
    y, cache = forward(x, **options)
    np.testing.assert_allclose(y, expected.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(backward(dy, cache), tx.grad.numpy(), **CLOSE)
    return cache


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("draw", range(60))
def test_random_max_pools_equal_torchs(rng, axes, draw):
    x, options, dilation = draw_windows(rng, axes)
    if draw % 2:
        x = np.round(x)  # many ties
    options["dilation"] = dilation
    positions = []

    def theirs(tx):
        pool = getattr(tF, f"max_pool{axes}d")
        kernel = options["kernel"]
        rest = {name: option for name, option in options.items() if name != "kernel"}
        y, indices = pool(tx, kernel, **rest, return_indices=True)
        positions.append(indices)
        return y

    cache = assert_equals_torch(rng, "max", x, options, theirs)
    np.testing.assert_array_equal(cache.indices, positions[0].numpy(), strict=True)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("draw", range(40))
def test_random_average_pools_equal_torchs(rng, axes, draw):
    x, options, _ = draw_windows(rng, axes)
    include = bool(rng.random() < 0.5)
    where = options["kernel"], options["stride"], options["padding"], options["ceil_mode"], include
    divisor = {"divisor": 3} if axes == 2 and draw % 3 == 0 else {}
    pool = getattr(tF, f"avg_pool{axes}d")
    options |= {"count_include_pad": include, **divisor}
    assert_equals_torch(rng, "avg", x, options, lambda tx: pool(tx, *where, *divisor.values()))


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("draw", range(40))
def test_random_lp_pools_equal_torchs(rng, axes, draw):
    x, options, _ = draw_windows(rng, axes)
    # torch neither pads nor takes magnitudes, and it rescales the windows that hang over the end
    options |= {"padding": 0, "ceil_mode": False, "p": float(rng.choice([1.0, 1.5, 2.0, 3.0, 5.0]))}
    x = np.abs(x) + 0.01
    pool = getattr(tF, f"lp_pool{axes}d")
    # torch's lp_pool1d takes integers only
    where = options["p"], *(options[n] if axes == 2 else options[n][0] for n in ("kernel", "stride"))
    assert_equals_torch(rng, "lp", x, options, lambda tx: pool(tx, *where))


def test_an_even_order_takes_signed_values_as_torch_does(rng):
    x = rng.standard_normal((2, 3, 7, 5))
    assert_equals_torch(rng, "lp", x, {"kernel": 2, "p": 4.0}, lambda tx: tF.lp_pool2d(tx, 4.0, 2))


def ours_from_onnx(node, x):
    """Run an ONNX pooling node with our functions; its default stride is 1, not the kernel."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axes, kind = x.ndim - 2, OPERATORS[node.op_type]
    auto_pad = given.get("auto_pad", b"NOTSET").decode()
    pads = given.get("pads", [0] * 2 * axes)
    sides = tuple(zip(pads[:axes], pads[axes:], strict=True))
    options = {
        "stride": given.get("strides", 1),
        "dilation": given.get("dilations", 1),
        "ceil_mode": bool(given.get("ceil_mode", 0)),
        "padding": sides if auto_pad == "NOTSET" else auto_pad.lower(),
    }
    if kind == "avg":
        options["count_include_pad"] = bool(given.get("count_include_pad", 0))
    if kind == "lp":
        options["p"] = given.get("p", 2)
    forward, _ = functions(kind, axes)
    y, cache = forward(x, given["kernel_shape"], **options)
    if len(node.output) == 1:
        return [y]
    # ONNX counts through the whole batch, and column by column if storage_order is 1
    image = np.arange(y.shape[0] * y.shape[1]).reshape(*y.shape[:2], 1, 1) * x[0, 0].size
    indices = cache.indices
    if given.get("storage_order"):
        indices = indices % x.shape[3] * x.shape[2] + indices // x.shape[3]
    return [y, indices + image]


def onnx_node_cases():
    """The cases of the operators' own pages, up to two image axes."""
    cases = importlib.import_module("onnx.backend.test.case.node")
    for module in ("maxpool", "averagepool", "lppool"):
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    return [
        case
        for case in cases._NodeTestCases
        if case.model.graph.node[0].op_type in OPERATORS and case.data_sets[0][0][0].ndim <= 4
    ]


@pytest.mark.parametrize("case", onnx_node_cases(), ids=lambda case: case.name)
def test_onnx_node_cases(case):
    for (x,), expected in case.data_sets:
        # integers are a type that we do not take: their values go as floats
        floating = x.astype("float32")
        for ours, theirs in zip(ours_from_onnx(case.model.graph.node[0], floating), expected, strict=True):
            # one case is printed with four digits
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_onnx_node_cases_are_there():
    assert len(onnx_node_cases()) >= 35


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("draw", range(8))
def test_random_configurations_equal_the_onnx_reference(rng, axes, operator, draw):
    x, options, dilation = draw_windows(rng, axes)
    attributes = {
        "kernel_shape": options["kernel"],
        "strides": options["stride"],
        "dilations": dilation,
        "pads": [int(rng.integers(0, k)) for k in options["kernel"] * 2],
    }  # no ceil mode: there the evaluator puts half of what is missing before the image, unlike the standard
    attributes |= draw_attributes(rng, operator)
    node = onnx.helper.make_node(operator, ["x"], ["y"], **attributes)
    (expected,) = ReferenceEvaluator(node).run(None, {"x": x})
    np.testing.assert_allclose(ours_from_onnx(node, x)[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("draw", range(3))
def test_auto_pads_are_those_of_the_onnx_specification(rng, axes, operator, auto_pad, draw):
    x, options, dilation = draw_windows(rng, axes)
    kernel, stride = options["kernel"], options["stride"]
    attributes = {"kernel_shape": kernel, "strides": stride, "dilations": dilation}
    attributes |= draw_attributes(rng, operator)
    # the reference evaluator leaves dilation out of auto_pad; it gets the pads by the specification's formula
    shares = []
    for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        total = max(0, ((n - 1) // s) * s + (k - 1) * d + 1 - n)
        shares.append((total // 2, total - total // 2)[:: 1 if auto_pad == "SAME_UPPER" else -1])
    explicit = onnx.helper.make_node(operator, ["x"], ["y"], pads=np.array(shares).T.ravel(), **attributes)
    (expected,) = ReferenceEvaluator(explicit).run(None, {"x": x})
    ours = onnx.helper.make_node(operator, ["x"], ["y"], auto_pad=auto_pad, **attributes)
    np.testing.assert_allclose(ours_from_onnx(ours, x)[0], expected, rtol=1e-9, atol=1e-12)


def draw_attributes(rng, operator):
    """What only one of the operators has."""
    if operator == "AveragePool":
        return {"count_include_pad": int(rng.integers(0, 2))}
    return {"p": int(rng.integers(1, 5))} if operator == "LpPool" else {}
