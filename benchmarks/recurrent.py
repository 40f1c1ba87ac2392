"""The plain recurrent net beside torch.nn.RNN: training, one sequence at a time, sampling, and two loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.race import Candidate, Contest
from coursekit import nn
from coursekit.cells import RNNCell, RNNState
from coursekit.recurrent import (
    rnn_backward,
    rnn_forward,
    sequence_loss_backward,
    sequence_loss_forward,
)
from coursekit.weights import cell_parameters, from_torch

# name: steps, sequences, features, units
SIZES = {"rnn-small": (100, 32, 64, 128), "rnn-wide": (50, 20, 65, 512)}
SYMBOLS = 65  # of a text
CHAR = 25, 100  # steps and units of the smallest nets that write text
SAMPLED, SAMPLING_UNITS = 200, 128

Candidates = dict[str, Candidate]


def contests() -> Iterator[Contest]:
    """Training in both dtypes, as NumPy and as a torch module; small nets; what can be done at once."""
    for name, sizes in SIZES.items():
        work = "T={}, N={}, D={}, U={}".format(*sizes)
        for dtype in ("float32", "float64"):
            yield _contest(f"{name}-forward-backward", work, dtype, partial(_forward_backward, sizes))
            yield _contest(f"{name}-module", work, dtype, partial(_modules, sizes))
    work = "T={}, N=1, U={}, {} symbols".format(*CHAR, SYMBOLS)
    yield _contest("rnn-char-loss-gradients", work, "float32", _char)
    work = f"{SAMPLED} symbols of {SYMBOLS}, one after the other, U={SAMPLING_UNITS}"
    yield _contest("rnn-sampling", work, "float32", _sampling)
    for batch, units, lengths in ((1, 128, (100, 300, 1000)), (32, 128, (100, 300)), (32, 512, (100,))):
        for steps in lengths:
            work = f"T={steps}, N={batch}, D=K=32, U={units}"
            given = partial(_decoupled, steps, batch, units)
            yield _contest(f"teacher-forcing-N{batch}-U{units}-T{steps}", work, "float32", given)
    for steps in (400, 800):
        work = f"T={steps}, N=32, D=64, U=128"
        yield _contest(f"steps-of-a-tensor-T{steps}", work, "float32", partial(_steps_of_a_tensor, steps))


def _contest(name: str, work: str, dtype: str, candidates: Callable[..., Candidates]) -> Contest:
    def enter(rng: np.random.Generator) -> Candidates:
        torch.manual_seed(int(rng.integers(2**31)))
        return candidates(rng, dtype)

    return Contest(name, work, dtype, enter)


def _torch_layer(features: int, units: int, dtype: str) -> tuple[torch.nn.RNN, dict[str, np.ndarray]]:
    """torch's module, and its weights as ours."""
    layer = torch.nn.RNN(features, units, dtype=getattr(torch, dtype))
    state = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    return layer, cell_parameters(from_torch(state))[0][0]


def _forward_backward(sizes, rng, dtype: str) -> Candidates:
    T, N, D, U = sizes
    layer, weights = _torch_layer(D, U, dtype)
    x, dh = (rng.standard_normal(shape).astype(dtype) for shape in ((T, N, D), (T, N, U)))
    tx, tdh = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dh)

    def run_torch():
        h, _ = layer(tx)
        dx, du, dw, db, dbw = torch.autograd.grad(h, [tx, *layer.parameters()], tdh)
        return h.detach(), dx, du.T, dw.T, db, dbw

    def run_ours():
        h, cache = rnn_forward(x, **weights)
        return h, *rnn_backward(dh, cache)[:5]

    return {"torch": Candidate(run_torch, N), "coursekit": Candidate(run_ours, N)}


def _modules(sizes, rng, dtype: str) -> Candidates:
    """torch.nn.RNN, and ours with both ways back, all under autograd."""
    T, N, D, U = sizes
    layer, _ = _torch_layer(D, U, dtype)
    x = torch.from_numpy(rng.standard_normal((T, N, D)).astype(dtype)).requires_grad_()
    dh = torch.from_numpy(rng.standard_normal((T, N, U)).astype(dtype))

    def run(module):
        h, _ = module(x)
        return h.detach(), *torch.autograd.grad(h, [x, *module.parameters()], dh)

    modules = {
        "torch": layer,
        "by hand": nn.RNN.from_torch(layer),
        "autograd": nn.RNN.from_torch(layer, hand_written=False),
    }
    return {name: Candidate(partial(run, module), N) for name, module in modules.items()}


def _char(rng, dtype: str) -> Candidates:
    T, U = CHAR
    layer, weights = _torch_layer(SYMBOLS, U, dtype)
    read = torch.nn.Linear(U, SYMBOLS, dtype=getattr(torch, dtype))
    u, w, b = weights["u"], weights["w"], weights["b"] + weights["bw"]
    v, c = read.weight.detach().numpy().T.copy(), read.bias.detach().numpy()
    symbols = rng.integers(0, SYMBOLS, T + 1)
    x, labels = np.eye(SYMBOLS, dtype=dtype)[symbols[:-1, None]], symbols[1:, None]
    tx, tlabels = torch.from_numpy(x), torch.from_numpy(labels)

    def run_torch():
        scores = read(layer(tx)[0])
        loss = torch.nn.functional.cross_entropy(scores[:, 0], tlabels[:, 0])
        parameters = [*layer.parameters(), *read.parameters()]
        du, dw, db, _, dv, dc = torch.autograd.grad(loss, parameters)
        return loss.detach()[None], du.T, dw.T, dv.T, db, dc

    def run_ours():
        loss, cache = sequence_loss_forward(x, labels, u, w, v, b, c)
        gradients = sequence_loss_backward(cache, inputs=False)
        return loss[None], gradients.du, gradients.dw, gradients.dv, gradients.db, gradients.dc

    def run_loop(columns):
        loss, du, dw, dv, db, dc = _column_by_column(symbols, *columns)
        return loss[None], du.T, dw.T, dv.T, db[:, 0], dc[:, 0]

    columns = [np.ascontiguousarray(a.T) for a in (u, w, v, b[None], c[None])]
    runs = {
        "torch": run_torch,
        "coursekit": run_ours,
        "loop of columns": partial(run_loop, columns),
        # such scripts draw their weights with NumPy and leave them as they come
        "loop of columns, float64": partial(run_loop, [a.astype("float64") for a in columns]),
    }
    return {name: Candidate(run, T) for name, run in runs.items()}


def _column_by_column(symbols, u, w, v, b, c):
    """The loss of a text and its gradients as small scripts write them: vectors are columns, steps a loop."""
    steps = len(symbols) - 1
    inputs, states, shares = {}, {-1: np.zeros_like(b)}, {}
    loss = 0.0
    for t in range(steps):
        inputs[t] = np.zeros((u.shape[1], 1), u.dtype)
        inputs[t][symbols[t]] = 1
        states[t] = np.tanh(np.dot(u, inputs[t]) + np.dot(w, states[t - 1]) + b)
        scores = np.dot(v, states[t]) + c
        shares[t] = np.exp(scores) / np.sum(np.exp(scores))
        loss -= np.log(shares[t][symbols[t + 1], 0]) / steps
    du, dw, dv, db, dc = (np.zeros_like(a) for a in (u, w, v, b, c))
    dnext = np.zeros_like(b)
    for t in reversed(range(steps)):
        do = shares[t].copy()
        do[symbols[t + 1]] -= 1
        do /= steps
        dv += np.dot(do, states[t].T)
        dc += do
        dh = np.dot(v.T, do) + dnext
        dz = (1 - states[t] * states[t]) * dh
        db += dz
        du += np.dot(dz, inputs[t].T)
        dw += np.dot(dz, states[t - 1].T)
        dnext = np.dot(w.T, dz)
    return loss, du, dw, dv, db, dc


def _sampling(rng, dtype: str) -> Candidates:
    """Draw symbols from softmax(h v + c), each the input of the next step: all by the same random numbers."""
    U = SAMPLING_UNITS
    layer, weights = _torch_layer(SYMBOLS, U, dtype)
    read, memory = torch.nn.Linear(U, SYMBOLS), torch.nn.LSTM(SYMBOLS, U)
    v, c = read.weight.detach().numpy().T.copy(), read.bias.detach().numpy()
    draws = rng.random(SAMPLED).astype(dtype)
    one_hot = torch.eye(SYMBOLS)

    def run_torch(recurrent):
        symbol, state, drawn = 0, None, []
        with torch.no_grad():
            for draw in draws:
                h, state = recurrent(one_hot[symbol, None, None], state)
                shares = torch.softmax(read(h[0, 0]), 0).cumsum(0)
                symbol = min(int(torch.searchsorted(shares, float(draw))), SYMBOLS - 1)
                drawn.append(symbol)
        return (np.array(drawn),)

    def run_ours():
        cell = RNNCell(**weights)
        table = cell.project(np.eye(SYMBOLS, dtype=dtype)[:, None])  # the input's part of every symbol
        symbol, state, drawn = 0, RNNState(np.zeros((1, U), dtype)), []
        for draw in draws:
            state, _ = cell.step(table[symbol], state)
            scores = state.h[0] @ v + c
            shares = np.exp(scores - scores.max()).cumsum()
            symbol = min(int(shares.searchsorted(draw * shares[-1])), SYMBOLS - 1)
            drawn.append(symbol)
        return (np.array(drawn),)

    return {
        "torch": Candidate(partial(run_torch, layer), SAMPLED),
        "coursekit": Candidate(run_ours, SAMPLED),
        # another net, which draws other symbols: nothing to agree on
        "torch LSTM": Candidate(lambda: run_torch(memory)[1:], SAMPLED),
    }


def _decoupled(steps: int, batch: int, units: int, rng, dtype: str) -> Candidates:
    """Hidden recurrence against a net that is fed its targets instead of its state: no step waits."""
    symbols = 32
    shapes = (steps, batch, symbols), (symbols, units), (units, units), (symbols, units), (units,)
    x, u, w, r, b = (rng.standard_normal(shape).astype(dtype) / 10 for shape in shapes)
    w *= 5 / units**0.5
    v, before, do = (
        rng.standard_normal(shape).astype(dtype) / 10
        for shape in ((units, symbols), (steps, batch, symbols), (steps * batch, symbols))
    )

    def run_hidden():
        h, cache = rnn_forward(x, u, w, b)
        flat = h.reshape(-1, units)
        gradients = rnn_backward((do @ v.T).reshape(h.shape), cache)
        return flat @ v, flat.T @ do, *gradients[1:4]

    def run_decoupled():
        seen = np.concatenate([x, before], axis=2).reshape(-1, 2 * symbols)
        h = np.tanh(seen @ np.concatenate([u, r]) + b)
        dz = do @ v.T * (1 - h * h)
        h @ v, h.T @ do, seen.T @ dz, dz.sum(axis=0)
        return ()  # another net, with other numbers

    runs = {"hidden recurrence": run_hidden, "teacher forcing": run_decoupled}
    return {name: Candidate(run, steps * batch) for name, run in runs.items()}


def _steps_of_a_tensor(steps: int, rng, dtype: str) -> Candidates:
    """A loop over the steps of a tensor that needs a gradient: by index, and taken apart at once."""
    D, U = 64, 128
    shapes = (steps, 32, D), (D, U), (U, U), (U,)
    leaves = [
        torch.from_numpy(rng.standard_normal(shape).astype(dtype) / 10).requires_grad_() for shape in shapes
    ]
    x, u, w, b = leaves
    dh = torch.from_numpy(rng.standard_normal((steps, 32, U)).astype(dtype))

    def run(apart):
        h, states = torch.zeros(32, U), []
        for now in apart(x):
            h = torch.tanh(now @ u + h @ w + b)
            states.append(h)
        return torch.autograd.grad(torch.stack(states), leaves, dh)

    ways = {"x[t]": lambda x: (x[t] for t in range(steps)), "x.unbind(0)": lambda x: x.unbind(0)}
    return {name: Candidate(partial(run, way), steps) for name, way in ways.items()}
