"""LSTM and GRU beside torch's: what each step of making an LSTM fast buys, in NumPy and in torch.

`make bench` races the layers.  `python -m benchmarks.ladder` climbs the rungs, asks torch's compilers, counts
what the way back keeps, and writes results/ladder.json.  `python -m benchmarks.cuda` does it on a GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._inductor.config

from benchmarks.__main__ import as_line, conditions
from benchmarks.race import Candidate, Contest, race
from coursekit import nn
from coursekit.arrays import multiply, rows_of, transposed
from coursekit.recurrent import gru_backward, gru_forward, lstm_backward, lstm_forward
from coursekit.weights import cell_parameters, from_torch

# name: steps, sequences, features, units
SIZES = {"small": (100, 32, 64, 128), "wide": (50, 20, 65, 512)}
DTYPES = "float32", "float64"
RESULTS = Path(__file__).parent / "results" / "ladder.json"

Candidates = dict[str, Candidate]


def contests() -> Iterator[Contest]:
    """Training LSTM and GRU in both dtypes, as NumPy and as a torch module."""
    for name, sizes in SIZES.items():
        for dtype in DTYPES:
            for kind in ("lstm", "gru"):
                yield _contest(f"{kind}-{name}-forward-backward", sizes, dtype, partial(_layers, kind))
                yield _contest(f"{kind}-{name}-module", sizes, dtype, partial(_modules, kind))


def _contest(name: str, sizes: tuple, dtype: str, candidates: Callable[..., Candidates]) -> Contest:
    def enter(rng: np.random.Generator) -> Candidates:
        torch.manual_seed(int(rng.integers(2**31)))
        return candidates(sizes, rng, dtype)

    return Contest(name, "T={}, N={}, D={}, U={}".format(*sizes), dtype, enter)


def _given(kind: str, sizes: tuple, rng: np.random.Generator, dtype: str) -> tuple:
    """torch's module with one offset, its weights as ours, inputs, and the gradient that comes back."""
    T, N, D, U = sizes
    layer = getattr(torch.nn, kind.upper())(D, U, dtype=getattr(torch, dtype))
    if kind == "lstm":
        torch.nn.init.zeros_(layer.bias_hh_l0)
    weights = cell_parameters(from_torch({k: p.detach().numpy() for k, p in layer.named_parameters()}))[0][0]
    if kind == "lstm":
        del weights["bw"]
    x, dh = (rng.standard_normal(shape).astype(dtype) for shape in ((T, N, D), (T, N, U)))
    return layer, weights, x, dh


def _run_torch(module: torch.nn.Module, x: torch.Tensor, dh: torch.Tensor) -> tuple[Any, ...]:
    h, _ = module(x)
    dx, du, dw, *db = torch.autograd.grad(h, [x, *module.parameters()], dh)
    return tuple(a.detach() for a in (h, dx, du.T, dw.T, *db))


def _layers(kind: str, sizes, rng, dtype: str) -> Candidates:
    layer, weights, x, dh = _given(kind, sizes, rng, dtype)
    tx, tdh = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dh)
    forward, backward = {"lstm": (lstm_forward, lstm_backward), "gru": (gru_forward, gru_backward)}[kind]

    def run_ours():
        h, cache = forward(x, **weights)
        return h, *backward(dh, cache)[: 4 if kind == "lstm" else 5]

    N = x.shape[1]
    return {
        "torch": Candidate(partial(_run_torch, layer, tx, tdh), N),
        "coursekit": Candidate(run_ours, N),
    }


def _modules(kind: str, sizes, rng, dtype: str) -> Candidates:
    """torch's module, and ours with both ways back, all under autograd."""
    layer, _, x, dh = _given(kind, sizes, rng, dtype)
    tx, tdh = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dh)
    ours = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
    modules = {
        "torch": layer,
        "by hand": ours.from_torch(layer),
        "autograd": ours.from_torch(layer, hand_written=False),
    }
    return {name: Candidate(partial(_run_torch, m, tx, tdh), x.shape[1]) for name, m in modules.items()}


# ---------------------------------------------------------------------------------------------------
# The rungs in NumPy: h, dx, du, dw and db of an LSTM with blocks i, f, g, o


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * a) + 0.5


def gate_by_gate(x, u, w, b, dhs):
    """A product for every gate and input at every step, forward and backward."""
    us, ws, bs = (np.split(a, 4, axis=-1) for a in (u, w, b))
    us, ws = ([np.ascontiguousarray(a) for a in parts] for parts in (us, ws))
    uts, wts = ([np.ascontiguousarray(a.T) for a in parts] for parts in (us, ws))
    h = c = np.zeros_like(dhs[0])
    outputs, kept = np.empty_like(dhs), []
    for t in range(len(x)):
        ai, af, ag, ao = (x[t] @ us[k] + h @ ws[k] + bs[k] for k in range(4))
        i, f, g, o = sigmoid(ai), sigmoid(af), np.tanh(ag), sigmoid(ao)
        kept.append((h, c, i, f, g, o))
        c = f * c + i * g
        h = outputs[t] = o * np.tanh(c)
        kept[-1] += (np.tanh(c),)
    dx, dh, dc = np.empty_like(x), np.zeros_like(h), np.zeros_like(h)
    dus, dws, dbs = ([np.zeros_like(a) for a in parts] for parts in (us, ws, bs))
    for t in reversed(range(len(x))):
        das, dc, before = _gradients(dhs[t] + dh, dc, *kept[t])
        for k, da in enumerate(das):
            dus[k] += x[t].T @ da
            dws[k] += before.T @ da
            dbs[k] += da.sum(axis=0)
        dx[t] = sum(da @ uts[k] for k, da in enumerate(das))
        dh = sum(da @ wts[k] for k, da in enumerate(das))
    return outputs, dx, *(np.concatenate(parts, axis=-1) for parts in (dus, dws, dbs))


def _gradients(dh, dc, h, c, i, f, g, o, read):
    """Gradients of the four pre-activations and of the cell state before, and the hidden state before."""
    dc = dc + dh * o * (1 - read * read)
    das = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * read * o * (1 - o)
    return das, dc * f, h


def fused(x, u, w, b, dhs, *, deferred=False):
    """One product for all gates; deferred: those for dx and the weights wait for the end."""
    h = c = np.zeros_like(dhs[0])
    outputs, kept = np.empty_like(dhs), []
    for t in range(len(x)):
        ai, af, ag, ao = np.split(x[t] @ u + h @ w + b, 4, axis=-1)
        i, f, g, o = sigmoid(ai), sigmoid(af), np.tanh(ag), sigmoid(ao)
        kept.append((h, c, i, f, g, o))
        c = f * c + i * g
        read = np.tanh(c)
        kept[-1] += (read,)
        h = outputs[t] = o * read
    ut, wt = (np.ascontiguousarray(a.T) for a in (u, w))
    dx, dh, dc = np.empty_like(x), np.zeros_like(h), np.zeros_like(h)
    das = np.empty((*x.shape[:2], len(b)), x.dtype)
    du, dw, db = map(np.zeros_like, (u, w, b))
    for t in reversed(range(len(x))):
        parts, dc, before = _gradients(dhs[t] + dh, dc, *kept[t])
        da = np.concatenate(parts, axis=-1, out=das[t])
        if not deferred:
            du += x[t].T @ da
            dw += before.T @ da
            db += da.sum(axis=0)
            dx[t] = da @ ut
        dh = da @ wt
    if deferred:
        befores, flat = np.stack([h for h, *_ in kept]), rows_of(das)
        dx, du, dw = das @ ut, rows_of(x).T @ flat, rows_of(befores).T @ flat
        db = flat.sum(axis=0)
    return outputs, dx, du, dw, db


def hoisted(x, u, w, b, dhs):
    """The input's part of all steps in one product too: what coursekit does."""
    h, cache = lstm_forward(x, u, w, b)
    return h, *lstm_backward(dhs, cache)[:4]


def in_place(x, u, w, b, dhs):
    """The same with every array made once, before the loops."""
    (T, N, _), U = x.shape, len(w)
    order = np.r_[0 : 2 * U, 3 * U : 4 * U, 2 * U : 3 * U]  # i, f, o, g
    u, w = u[:, order], w[:, order]
    a = rows_of(x) @ u
    a += b[order]
    a = a.reshape(T, N, 4 * U)
    hs, cs, reads = (np.zeros((T + 1, N, U), x.dtype) for _ in range(3))
    product, wide, row = (
        np.empty((N, 4 * U), x.dtype),
        np.empty((N, 3 * U), x.dtype),
        np.empty((N, U), x.dtype),
    )
    for t in range(T):
        np.matmul(hs[t], w, out=product)
        a[t] += product
        gates, g = a[t, :, : 3 * U], a[t, :, 3 * U :]
        gates *= 0.5
        np.tanh(a[t], out=a[t])
        gates *= 0.5
        gates += 0.5
        np.multiply(a[t, :, U : 2 * U], cs[t], out=cs[t + 1])
        np.multiply(a[t, :, :U], g, out=row)
        cs[t + 1] += row
        np.tanh(cs[t + 1], out=reads[t + 1])
        np.multiply(a[t, :, 2 * U : 3 * U], reads[t + 1], out=hs[t + 1])
    wt, dz = np.ascontiguousarray(w.T), np.empty_like(a)
    dh, dc, two = (np.zeros((N, U), x.dtype) for _ in range(3))
    for t in reversed(range(T)):
        i, f, o, g = (a[t, :, k * U : (k + 1) * U] for k in range(4))
        dh += dhs[t]
        np.multiply(reads[t + 1], reads[t + 1], out=row)
        np.subtract(1, row, out=row)
        row *= o
        row *= dh
        dc += row
        np.multiply(dc, g, out=dz[t, :, :U])
        np.multiply(dc, cs[t], out=dz[t, :, U : 2 * U])
        np.multiply(dh, reads[t + 1], out=dz[t, :, 2 * U : 3 * U])
        np.subtract(1, a[t, :, : 3 * U], out=wide)
        wide *= a[t, :, : 3 * U]
        dz[t, :, : 3 * U] *= wide
        np.multiply(g, g, out=two)
        np.subtract(1, two, out=two)
        two *= i
        np.multiply(two, dc, out=dz[t, :, 3 * U :])
        np.matmul(dz[t], wt, out=dh)
        dc *= f
    flat, back = rows_of(dz), np.argsort(order)
    dx = (flat @ u.T).reshape(x.shape)
    du, dw = rows_of(x).T @ flat, rows_of(hs[:-1]).T @ flat
    return hs[1:], dx, du[:, back], dw[:, back], flat.sum(axis=0)[back]


def products(x, u, w, b, dhs):
    """The floor: the products of the hoisted form and nothing else.  Its results are no gradients."""
    z = multiply(x, u)
    for t in range(len(x)):
        multiply(dhs[t], w, z[t])
    wt = transposed(w)
    for t in range(len(x)):
        multiply(z[t], wt)
    flat = rows_of(z)
    rows_of(x).T @ flat, rows_of(dhs).T @ flat, multiply(z, transposed(u))
    return ()


RUNGS = {
    "a product for every gate": gate_by_gate,
    "gates fused": fused,
    "weight gradients deferred": partial(fused, deferred=True),
    "input projection hoisted": hoisted,
    "everything in place": in_place,
    "products alone": products,
}


def _rungs(sizes, rng, dtype: str) -> Candidates:
    layer, weights, x, dh = _given("lstm", sizes, rng, dtype)
    tx, tdh = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dh)
    own = [np.ascontiguousarray(weights[name]) for name in ("u", "w", "b")]
    runs = {"torch": partial(_run_torch, layer, tx, tdh)}
    runs |= {name: partial(rung, x, *own, dh) for name, rung in RUNGS.items()}
    return {name: Candidate(run, x.shape[1]) for name, run in runs.items()}


# ---------------------------------------------------------------------------------------------------
# Ways in torch


def torch_gate_by_gate(x, w_ih, w_hh, b_ih, b_hh):
    us, ws, bs = (a.chunk(4) for a in (w_ih, w_hh, b_ih + b_hh))
    h = c = x.new_zeros(x.shape[1], w_hh.shape[1])
    outputs = []
    for x_t in x.unbind(0):
        i, f, g, o = (x_t @ us[k].t() + h @ ws[k].t() + bs[k] for k in range(4))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def torch_fused(x, w_ih, w_hh, b_ih, b_hh):
    b = b_ih + b_hh
    h = c = x.new_zeros(x.shape[1], w_hh.shape[1])
    outputs = []
    for x_t in x.unbind(0):
        i, f, g, o = (x_t @ w_ih.t() + h @ w_hh.t() + b).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def torch_hoisted(
    x: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor, b_hh: torch.Tensor
):
    z = x @ w_ih.t() + (b_ih + b_hh)
    h = torch.zeros(x.shape[1], w_hh.shape[1], dtype=x.dtype, device=x.device)
    c = h
    w = w_hh.t()
    outputs: list[torch.Tensor] = []
    for z_t in z.unbind(0):
        i, f, g, o = torch.addmm(z_t, h, w).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


class Loop(torch.nn.Module):
    """A loop over the parameters of torch's module, called like it."""

    def __init__(self, layer: torch.nn.LSTM, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        for name, parameter in layer.named_parameters():
            self.register_parameter(name, parameter)
        self.function = function

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.function(x, *self.parameters()), None


LOOPS = {
    "a product for every gate": torch_gate_by_gate,
    "gates fused": torch_fused,
    "input projection hoisted": torch_hoisted,
}


def _compiled() -> dict[str, Callable]:
    """The hoisted loop as torch's compilers make it, without what they made earlier."""
    torch._inductor.config.force_disable_caches = True
    return {
        "torch.jit.script": torch.jit.script(torch_hoisted),
        "torch.compile": torch.compile(torch_hoisted),
    }


def _ways(compiled: dict[str, Callable], sizes, rng, dtype: str) -> Candidates:
    layer, _, x, dh = _given("lstm", sizes, rng, dtype)
    tx, tdh = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dh)
    modules = {"torch": layer, "by hand": nn.LSTM.from_torch(layer)}
    modules |= {name: Loop(layer, function) for name, function in {**LOOPS, **compiled}.items()}
    return {name: Candidate(partial(_run_torch, m, tx, tdh), x.shape[1]) for name, m in modules.items()}


def first_calls(compiled: dict[str, Callable], sizes: tuple, dtype: str) -> dict[str, float]:
    """Seconds of the first forward and backward of each compiled loop."""
    layer, _, x, dh = _given("lstm", sizes, np.random.default_rng(0), dtype)
    tx, tdh = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dh)
    seconds = {}
    for name, function in compiled.items():
        start = time.perf_counter()
        _run_torch(Loop(layer, function), tx, tdh)
        seconds[name] = time.perf_counter() - start
    return seconds


def kept_for_the_way_back(sizes: tuple) -> dict[str, float]:
    """Numbers that autograd keeps for every step, sequence and unit, input and weights aside."""
    layer, _, x, _ = _given("lstm", sizes, np.random.default_rng(0), "float32")
    tx = torch.from_numpy(x).requires_grad_()
    modules = {"torch": layer, "by hand": nn.LSTM.from_torch(layer)}
    modules |= {name: Loop(layer, function) for name, function in LOOPS.items()}
    counted = {}
    for name, module in modules.items():
        seen: dict[int, int] = {}

        def keep(tensor, seen=seen):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            h, _ = module(tx)
        known = {a.untyped_storage().data_ptr() for a in (tx, *layer.parameters(), *module.parameters())}
        counted[name] = sum(size for key, size in seen.items() if key not in known) / h.nbytes
    return counted


# ---------------------------------------------------------------------------------------------------
# Variants


def _variants(sizes, rng, dtype: str) -> Candidates:
    """Each variant on weights of its own: they need not agree."""
    T, N, D, U = sizes
    x, dh = (rng.standard_normal(shape).astype(dtype) for shape in ((T, N, D), (T, N, U)))

    def weights(blocks: int, peepholes: int = 0) -> dict[str, np.ndarray]:
        shapes = {"u": (D, blocks * U), "w": (U, blocks * U), "b": (blocks * U,)}
        shapes |= {"p": (peepholes, U)} if peepholes else {}
        return {name: rng.uniform(-1, 1, shape).astype(dtype) / U**0.5 for name, shape in shapes.items()}

    def run(forward, backward, own, **options):
        _, cache = forward(x, **own, **options)
        backward(dh, cache)
        return ()

    lstm, gru = (lstm_forward, lstm_backward), (gru_forward, gru_backward)
    runs = {
        "LSTM": partial(run, *lstm, weights(4)),
        "peepholes": partial(run, *lstm, weights(4, 3)),
        "f = 1 - i": partial(run, *lstm, weights(3), coupled="input"),
        "1997, no forget gate": partial(run, *lstm, weights(3), gates="io"),
        "GRU": partial(run, *gru, weights(3)),
        "GRU, reset before": partial(run, *gru, weights(3), reset="before"),
    }
    return {name: Candidate(one, N) for name, one in runs.items()}


def main() -> None:
    torch.set_num_threads(1)
    compiled, results, seconds = _compiled(), [], {}
    for name, sizes in SIZES.items():
        for dtype in DTYPES:
            seconds[f"{name} {dtype}"] = first_calls(compiled, sizes, dtype)
            for kind, candidates in (
                ("numpy", _rungs),
                ("torch", partial(_ways, compiled)),
                ("variants", _variants),
                ("gru", partial(_layers, "gru")),
                ("gru-module", partial(_modules, "gru")),
            ):
                results.append(race(_contest(f"{kind}-{name}", sizes, dtype, candidates), 0))
                print(as_line(results[-1]), flush=True)
    found = {
        "contests": results,
        "seconds_of_the_first_call": seconds,
        "kept_for_the_way_back": {name: kept_for_the_way_back(sizes) for name, sizes in SIZES.items()},
    }
    RESULTS.write_text(json.dumps(conditions(0) | found, indent=1) + "\n")
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
