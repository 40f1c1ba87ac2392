"""Convolution against its two specifications: torch's layers and the ONNX operator Conv."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from coursekit.arrays import PAD_MODES
from coursekit.conv import (
    conv1d_backward,
    conv1d_forward,
    conv2d_backward,
    conv2d_forward,
    effective_kernel,
)

FORWARD = {1: conv1d_forward, 2: conv2d_forward}
BACKWARD = {1: conv1d_backward, 2: conv2d_backward}
ONNX_DATA = Path(onnx.__file__).parent / "backend/test/data/pytorch-converted"
torch_copies_for_even_kernels = pytest.mark.filterwarnings(
    "ignore:Using padding='same' with even kernel:UserWarning"
)


def draw_configuration(rng, axes):
    """Shapes and options of one random convolution that has at least one window."""
    draw = lambda low, high: tuple(int(n) for n in rng.integers(low, high, axes))  # noqa: E731
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel, dilation, stride = draw(1, 5), draw(1, 4), draw(1, 5)
    least = [effective_kernel(k, d) for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(n + int(rng.integers(0, 7)) for n in least)
    channels, filters = groups * int(rng.integers(1, 5)), groups * int(rng.integers(1, 8))
    x = rng.standard_normal((int(rng.integers(1, 4)), channels, *size))
    w = rng.standard_normal((filters, channels // groups, *kernel))
    b = rng.standard_normal(filters) if rng.random() < 0.7 else None
    return x, w, b, {"stride": stride, "dilation": dilation, "groups": groups}


def torch_layer(x, w, b, **options):
    """torch.nn's layer with our weights copied in."""
    layer = getattr(torch.nn, f"Conv{x.ndim - 2}d")(
        x.shape[1], w.shape[0], w.shape[2:], bias=b is not None, dtype=torch.float64, **options
    )
    layer.weight.data = torch.from_numpy(w)
    if b is not None:
        layer.bias.data = torch.from_numpy(b)
    return layer


def assert_equals_torch(rng, x, w, b, **options):
    layer, tx = torch_layer(x, w, b, **options), torch.from_numpy(x).requires_grad_()
    expected = layer(tx)
    dy = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.from_numpy(dy))
    axes = x.ndim - 2
    y, cache = FORWARD[axes](x, w, b, **options)
    gradients = BACKWARD[axes](dy, cache)
    close = {"rtol": 1e-10, "atol": 1e-11, "strict": True}
    np.testing.assert_allclose(y, expected.detach().numpy(), **close)
    np.testing.assert_allclose(gradients.dx, tx.grad.numpy(), **close)
    np.testing.assert_allclose(gradients.dw, layer.weight.grad.numpy(), **close)
    if b is None:
        assert gradients.db is None
    else:
        np.testing.assert_allclose(gradients.db, layer.bias.grad.numpy(), **close)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("draw", range(40))
def test_random_configurations_equal_torchs_layer(rng, axes, draw):
    x, w, b, options = draw_configuration(rng, axes)
    mode = PAD_MODES[draw % 4]
    # torch's reflection needs less padding than there are pixels, its wrapping not more.
    widest = [n - (mode == "reflect") for n in x.shape[2:]]
    padding = tuple(int(rng.integers(0, min(4, n) + 1)) for n in widest)
    assert_equals_torch(rng, x, w, b, padding=padding, padding_mode=mode, **options)


@torch_copies_for_even_kernels
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("draw", range(10))
@pytest.mark.parametrize("word", ["same", "valid"])
def test_padding_by_word_equals_torchs_layer(rng, axes, draw, word):
    x, w, b, options = draw_configuration(rng, axes)
    options["stride"] = 1
    assert_equals_torch(rng, x, w, b, padding=word, **options)


@torch_copies_for_even_kernels
def test_same_with_an_even_kernel_puts_the_odd_pixel_where_torch_does(rng):
    x, w = rng.standard_normal((2, 3, 7, 5)), rng.standard_normal((11, 3, 4, 2))
    assert_equals_torch(rng, x, w, None, padding="same")


def ours_from_onnx(node, x, w, b=None):
    """Run an ONNX Conv node with our function."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axes = x.ndim - 2
    auto_pad = given.get("auto_pad", b"NOTSET").decode()
    pads = given.get("pads", [0] * 2 * axes)
    padding = tuple(zip(pads[:axes], pads[axes:], strict=True)) if auto_pad == "NOTSET" else auto_pad.lower()
    return FORWARD[axes](
        x,
        w,
        b,
        stride=given.get("strides", 1),
        dilation=given.get("dilations", 1),
        groups=given.get("group", 1),
        padding=padding,
    )[0]


def onnx_node_cases():
    """The cases of the operator's own page; imported alone, as collecting all operators takes seconds."""
    cases = importlib.import_module("onnx.backend.test.case.node")
    importlib.import_module("onnx.backend.test.case.node.conv")
    return [case for case in cases._NodeTestCases if case.model.graph.node[0].op_type == "Conv"]


@pytest.mark.parametrize("case", onnx_node_cases(), ids=lambda case: case.name)
def test_onnx_node_cases(case):
    for inputs, (expected,) in case.data_sets:
        y = ours_from_onnx(case.model.graph.node[0], *inputs)
        np.testing.assert_allclose(y, expected, rtol=1e-6, strict=True)


@pytest.mark.parametrize("folder", sorted(ONNX_DATA.glob("test_Conv[12]d*")), ids=lambda folder: folder.name)
def test_onnx_stored_models(folder):
    graph = onnx.load(folder / "model.onnx").graph
    parameters = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    x, expected = (
        numpy_helper.to_array(onnx.load_tensor(folder / "test_data_set_0" / f"{name}_0.pb"))
        for name in ("input", "output")
    )
    y = ours_from_onnx(graph.node[0], x, *parameters)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5, strict=True)


def test_onnx_stored_models_are_there():
    assert len(list(ONNX_DATA.glob("test_Conv[12]d*"))) >= 15


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("draw", range(5))
def test_random_configurations_equal_the_onnx_reference(rng, axes, auto_pad, draw):
    x, w, b, options = draw_configuration(rng, axes)
    attributes = {"strides": options["stride"], "dilations": options["dilation"], "group": options["groups"]}
    if auto_pad == "NOTSET":
        attributes["pads"] = [int(n) for n in rng.integers(0, 4, 2 * axes)]
    else:
        attributes["auto_pad"] = auto_pad
    inputs = {"x": x, "w": w} | ({} if b is None else {"b": b})
    node = onnx.helper.make_node("Conv", list(inputs), ["y"], kernel_shape=w.shape[2:], **attributes)
    (expected,) = ReferenceEvaluator(node).run(None, inputs)
    np.testing.assert_allclose(ours_from_onnx(node, x, w, b), expected, rtol=1e-10, atol=1e-11, strict=True)
