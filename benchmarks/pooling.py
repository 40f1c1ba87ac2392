"""Pooling beside torch.nn.functional: maximum and average, forward alone and forward with backward."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.race import Candidate, Contest
from coursekit import pooling

# name: images, channels, image side, kernel side; the stride is 2
SHAPES = {"pool-k2": (32, 32, 32, 2), "pool-k3": (64, 64, 28, 3)}
STRIDE = 2


def contests() -> Iterator[Contest]:
    for dtype in ("float32", "float64"):
        for name in SHAPES:
            for kind in ("max", "avg"):
                yield _contest(f"{kind}-{name}-forward", kind, name, dtype, backward=False)
                yield _contest(f"{kind}-{name}-forward-backward", kind, name, dtype, backward=True)


def _contest(title: str, kind: str, name: str, dtype: str, *, backward: bool) -> Contest:
    N, C, H, K = SHAPES[name]
    HO = (H - K) // STRIDE + 1
    candidates = _forward_backward if backward else _forward

    def enter(rng: np.random.Generator) -> dict[str, Candidate]:
        x, dy = (rng.standard_normal((N, C, side, side)).astype(dtype) for side in (H, HO))
        return candidates(kind, x, dy, K)

    return Contest(title, f"N={N}, C={C}, {H}x{H} image, {K}x{K} window, stride {STRIDE}", dtype, enter)


def _forward(kind: str, x, dy, kernel: int) -> dict[str, Candidate]:
    ours = getattr(pooling, f"{kind}_pool2d_forward")
    theirs, tx = getattr(torch.nn.functional, f"{kind}_pool2d"), torch.from_numpy(x)
    return {
        "torch": Candidate(lambda: (theirs(tx, kernel, STRIDE),), len(x)),
        "coursekit": Candidate(lambda: (ours(x, kernel, stride=STRIDE)[0],), len(x)),
    }


def _forward_backward(kind: str, x, dy, kernel: int) -> dict[str, Candidate]:
    forward, backward = (getattr(pooling, f"{kind}_pool2d_{way}") for way in ("forward", "backward"))
    theirs, tx = getattr(torch.nn.functional, f"{kind}_pool2d"), torch.from_numpy(x).requires_grad_()

    def run_torch():
        y = theirs(tx, kernel, STRIDE)
        return y.detach(), *torch.autograd.grad(y, tx, torch.from_numpy(dy))

    def run_ours():
        y, cache = forward(x, kernel, stride=STRIDE)
        return y, backward(dy, cache)

    return {"torch": Candidate(run_torch, len(x)), "coursekit": Candidate(run_ours, len(x))}
