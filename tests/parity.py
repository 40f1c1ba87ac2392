"""What comparisons with another implementation share."""

from __future__ import annotations

import importlib

import numpy as np
import torch


def assert_close(ours, theirs, tolerance=1e-11):
    """Equal up to tolerance times the largest of theirs, shapes and dtypes included."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    scale = max(1, np.abs(theirs).max(initial=0))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale, strict=True)


def numpy_state(module):
    """The state dictionary of a torch module, as copies."""
    return {name: p.numpy().copy() for name, p in module.state_dict().items()}


def onnx_node_cases(*operators):
    """The cases of the operators' own pages; imported alone, as collecting all operators takes seconds."""
    cases = importlib.import_module("onnx.backend.test.case.node")
    for operator in operators:
        importlib.import_module(f"onnx.backend.test.case.node.{operator.lower()}")
    return [case for case in cases._NodeTestCases if case.model.graph.node[0].op_type in operators]
