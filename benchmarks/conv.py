"""Convolution beside torch.nn.functional.conv2d: forward and backward, and the loops of the definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.race import Candidate, Contest
from coursekit.conv import conv2d_backward, conv2d_forward, conv2d_naive

# name: images, channels, filters, image side, kernel side, padding
SHAPES = {
    "conv-rgb": (32, 3, 32, 32, 5, 2),
    "conv-wide": (64, 64, 64, 28, 3, 1),
    "conv-gray": (64, 1, 16, 28, 5, 2),
    "conv-small": (128, 16, 32, 8, 3, 1),
}
LOOPS = ("conv-rgb", "conv-wide")


def contests() -> Iterator[Contest]:
    """Forward + backward of every shape; then the forward alone, with the naive loops."""
    for dtype in ("float32", "float64"):
        for name in SHAPES:
            yield _contest(f"{name}-forward-backward", name, dtype, _forward_backward)
    for name in LOOPS:
        yield _contest(f"{name}-forward", name, "float32", _forward)


def _contest(title: str, name: str, dtype: str, candidates) -> Contest:
    N, C, F, H, K, P = SHAPES[name]
    work = f"N={N}, C={C}, F={F}, {H}x{H} image, {K}x{K} kernel, padding {P}"

    def enter(rng: np.random.Generator) -> dict[str, Candidate]:
        shapes = (N, C, H, H), (F, C, K, K), (F,), (N, F, H, H)
        return candidates(*(rng.standard_normal(shape).astype(dtype) for shape in shapes), P)

    return Contest(title, work, dtype, enter)


def _forward_backward(x, w, b, dy, padding: int) -> dict[str, Candidate]:
    inputs = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]

    def run_torch():
        y = torch.nn.functional.conv2d(*inputs, padding=padding)
        return y.detach(), *torch.autograd.grad(y, inputs, torch.from_numpy(dy))

    def run_ours():
        y, cache = conv2d_forward(x, w, b, padding=padding)
        return y, *conv2d_backward(dy, cache)

    return {"torch": Candidate(run_torch, len(x)), "coursekit": Candidate(run_ours, len(x))}


def _forward(x, w, b, dy, padding: int) -> dict[str, Candidate]:
    inputs = [torch.from_numpy(a) for a in (x, w, b)]
    return {
        "torch": Candidate(lambda: (torch.nn.functional.conv2d(*inputs, padding=padding),), len(x)),
        "coursekit": Candidate(lambda: (conv2d_forward(x, w, b, padding=padding)[0],), len(x)),
        # One image is enough: the loops' time grows with the number of images and nothing else.
        "naive": Candidate(lambda: (conv2d_naive(x[:1], w, b, padding=padding),), 1),
    }
