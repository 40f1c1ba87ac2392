"""The checks of the assignment `bptt`: its solution, slips in its text, shortcuts, references."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest
import torch
from grading_notebooks import answered, cell, job, notebook
from solution_text import SolutionText

from coursekit import bptt, cells, jacobians, losses, recurrent
from coursekit.checks import bptt as checks

SOLUTION = SolutionText("bptt")


G = "g = dh[:, t] + carried"
DZ = "dz[:, t] = g * (1 - h[:, t] ** 2)"
LOOP = "for t in reversed(range(dh.shape[1])):"
BEGIN = f"dz = np.empty_like(dh)\n    carried = np.zeros_like(dh[:, 0])\n    {LOOP}"
LAST = "(t + 1) % k == 0 or t == dh.shape[1] - 1"
DETACH = "        if t > 0 and t % k == 0:\n            state = state.detach()\n"
NEW = "state = torch.tanh(x[:, t] @ u + state @ w + b)"
# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("output-gradient", " / labels.size", "", 0, "mean-forgotten"),
    ("output-gradient", "labels.size", "len(labels)", 0.5, "batch-mean-only"),
    ("output-gradient", "labels.size", "labels.shape[1]", 0.5, "time-mean-only"),
    ("output-gradient", "labels.size", "o.size", 0, "mean-over-classes-too"),
    ("output-gradient", "(p - y)", "(y - p)", 0, "sign-lost"),
    ("output-gradient", "(p - y)", "p", 0, "labels-forgotten"),
    ("output-gradient", "(p - y)", "np.where(y, p - 1, 0 * p)", 0, "right-class-only"),
    ("output-gradient", "(p - y)", "-(y / p)", 0, "by-the-probabilities"),
    ("output-gradient", "(p - y)", "((p - y) * p * (1 - p))", 0, "slope-twice"),
    ("output-gradient", "o - o.max(axis=2, keepdims=True)", "o", 2.5, "not-shifted"),
    ("output-gradient", "o - o.max(axis=2, keepdims=True)", "o - o.max()", 2.5, "one-largest-for-all"),
    ("output-gradient", "p / p.sum(axis=2", "p / p.sum(axis=1", 0, None),
    ("output-gradient", "(p - y)", "(p - np.eye(o.shape[2])[labels])", 2.5, "double-precision"),
    ("head-backward", "dv += ", "dv = ", 2.25, "last-step-only"),
    ("head-backward", "h[:, t].T @ do[:, t]", "h[:, t - 1].T @ do[:, t]", 2.25, None),
    ("head-backward", "do @ v.T", "do @ v.reshape(v.shape[::-1])", 2, "reshaped-v"),
    ("head-backward", "do @ v.T", "do @ v.T * (1 - h**2)", 2, "slope-too-early"),
    ("head-backward", "return do", "dv = dv / h.shape[1]\n    return do", 2.25, "averaged-over-time"),
    ("head-backward", "do.sum(axis=(0, 1))", "do.sum(axis=0)", 2, "dc-of-each-step"),
    ("head-backward", "do.sum(axis=(0, 1))", "do.sum(axis=2)", 2, "dc-over-the-classes"),
    ("head-backward", "do.sum(axis=(0, 1))", "do.mean(axis=(0, 1))", 2, "averaged"),
    ("head-backward", "np.zeros_like(v)", "np.zeros(v.shape)", 2.75, "double-precision"),
    ("step-backward", "g * (1 - after**2)", "g", 0, "slope-forgotten"),
    ("step-backward", "1 - after**2", "1 - np.tanh(after) ** 2", 0, "slope-at-h"),
    ("step-backward", "1 - after**2", "1 - before**2", 0, "slope-of-the-state-before"),
    ("step-backward", "1 - after**2", "1 - (x @ u + before @ w) ** 2", 0, "slope-without-tanh"),
    ("step-backward", "1 - after**2", "after * (1 - after)", 0, "slope-of-a-sigmoid"),
    ("step-backward", "dz @ w.T", "dz @ w", 4, "w-not-transposed"),
    ("step-backward", "dz @ w.T", "g @ w.T", 4, "slope-forgotten-on-the-way-back"),
    ("step-backward", "dz @ u.T", "g @ u.T", 4, "slope-forgotten-in-dx"),
    ("step-backward", "before.T @ dz", "after.T @ dz", 4, "state-after-in-dw"),
    ("step-backward", "before.T @ dz", "dz.T @ before", 4, "transposed-dw"),
    ("step-backward", "before.T @ dz", "before.T @ dz / len(g)", 4.25, "batch-averaged"),
    ("step-backward", "dz.sum(axis=0)", "dz.sum(axis=1)", 4, "db-over-the-units"),
    ("step-backward", "dz.sum(axis=0)", "dz.sum()", 4, "db-of-the-whole"),
    ("step-backward", "dz.sum(axis=0)", "dz", 4, "db-of-each-sequence"),
    ("step-backward", "dz.sum(axis=0)", "g.sum(axis=0)", 4, "slope-forgotten-in-db"),
    ("state-backward", G, "g = dh[:, t]", 1, "path-dropped"),
    ("state-backward", G, "g = carried if t < dh.shape[1] - 1 else dh[:, t]", 1, "last-loss-only"),
    ("state-backward", DZ, "dz[:, t] = g", 0, "slope-forgotten"),
    ("state-backward", DZ, "dz[:, t] = g * (1 - np.tanh(h[:, t]) ** 2)", 0, "slope-at-h"),
    ("state-backward", DZ, "dz[:, t] = g * (1 - (h[:, t - 1] if t else 0 * g) ** 2)", 0,
     "slope-of-the-state-before"),
    ("state-backward", DZ, "dz[:, t] = dh[:, t] * (1 - h[:, t] ** 2) + carried", 1,
     "slope-on-one-path-only"),
    ("state-backward", "dz[:, t] @ w.T", "dz[:, t] @ w", 0.5, "w-not-transposed"),
    ("state-backward", "dz[:, t] @ w.T", "g @ w.T", 0.5, "slope-forgotten-on-the-way-back"),
    ("state-backward", "dz[:, t] @ w.T", "dz[:, t]", 0.5, "w-forgotten"),
    ("state-backward", "carried = dz[:, t] @ w.T", "carried = carried + dz[:, t] @ w.T", 1,
     "carried-piles-up"),
    ("state-backward", "carried = dz[:, t] @ w.T", "carried = (dh[:, t] * (1 - h[:, t] ** 2)) @ w.T", 1,
     "one-step-back"),
    ("state-backward", LOOP, "for t in range(dh.shape[1]):", 1, "time-not-reversed"),
    ("state-backward", "return dz, carried", "return dz, np.zeros_like(carried)", 2,
     "start-without-gradient"),
    ("state-backward", "return dz, carried", "return dz, dz[:, 0]", 2, "start-without-w"),
    ("state-backward", "return dz, carried", "return dz, g", 2, "start-one-step-late"),
    ("state-backward", "return dz, carried", "return dz[:, ::-1], carried", 2.5, "not-turned-back"),
    ("state-backward", G, "g = dh[:, t]\n        g += carried", 1, "overwrites-dh"),
    ("state-backward", "np.empty_like(dh)", "np.empty(dh.shape)", 3, "double-precision"),
    ("state-backward", BEGIN, BEGIN.replace("empty", "zeros").replace("range(dh", "range(1, dh"), 0,
     "step-0-left-out"),
    ("weight-gradients", "range(x.shape[1])", "range(1, x.shape[1])", 1, "step-0-left-out"),
    ("weight-gradients", "        before = h[:, t]\n", "", 2.25, "start-for-all"),
    ("weight-gradients", "before.T @", "h[:, t].T @", 2, "state-of-the-step"),
    ("weight-gradients", "before.T @", "h[:, t - 1].T @", 2, "start-at-the-end"),
    ("weight-gradients", "before = h0", "before = 0 * h0", 2, "start-forgotten"),
    ("weight-gradients", "dw +=", "dw =", 2.25, "last-step-only"),
    ("weight-gradients", "du +=", "du =", 2.25, "last-step-only"),
    ("weight-gradients", "before.T @ dz[:, t]", "dz[:, t].T @ before", 2, "transposed-dw"),
    ("weight-gradients", "dz.sum(axis=(0, 1))", "dz.sum(axis=1)", 2, "db-of-each-sequence"),
    ("weight-gradients", "dz.sum(axis=(0, 1))", "dz.sum(axis=0)", 2, "db-of-each-step"),
    ("weight-gradients", "dz.sum(axis=(0, 1))", "dz.sum(axis=2)", 2, "db-over-the-units"),
    ("weight-gradients", "dz.sum(axis=(0, 1))", "dz.mean(axis=(0, 1))", 2, "db-averaged"),
    ("weight-gradients", "return du, dw,", "return du / len(x), dw / len(x),", 1.5, "mean-over-the-batch"),
    ("weight-gradients", "return du, dw,", "return du, dw / x.shape[1],", 2.25, "mean-over-time"),
    ("weight-gradients", "dw = np.zeros((h.shape[2], h.shape[2]), dz.dtype)",
     "dw = np.zeros((h.shape[2], h.shape[2]))", 2.75, "double-precision"),
    ("truncated-backward", LAST, "t == dh.shape[1] - 1", 1, "not-cut"),
    ("truncated-backward", LAST, "True", 1, "cut-at-every-step"),
    ("truncated-backward", LAST, "t % k == 0 or t == dh.shape[1] - 1", 1, "cut-behind-the-first-step"),
    ("truncated-backward", LAST, "(dh.shape[1] - 1 - t) % k == 0", 3, "counted-from-the-end"),
    ("truncated-backward", "(t + 1) % k", "(t + 1) % (k + 1)", 1, "one-step-too-long"),
    ("truncated-backward", "if t > 0 else h0", "if t % k else h0", 3, "restarted-at-h0"),
    ("truncated-backward", "before = h[:, t - 1] if t > 0 else h0",
     "before = h[:, t - 1] if t % k else h0 if t == 0 else 0 * h0", 3, "state-reset"),
    ("truncated-backward", "before = h[:, t - 1] if t > 0 else h0", "before = h[:, t]", 2.5,
     "state-of-the-step"),
    ("truncated-backward", "@ w.T", "@ w", 1, "w-not-transposed"),
    ("truncated-backward", " * (1 - h[:, t] ** 2)", "", 0, "slope-forgotten"),
    ("truncated-backward", "before.T @ dz[:, t]", "dz[:, t].T @ before", 2.5, "transposed-dw"),
    ("truncated-backward", "dw += ", "dw = (0 if (t + 1) % k == 0 else dw) + ", 3, "dw-of-the-first-chunk"),
    ("jacobian", "np.linalg.norm(product, 2, axis=(1, 2))", "np.abs(np.linalg.det(product))", 1.5,
     "determinant"),
    ("jacobian", "np.linalg.norm(product, 2, axis=(1, 2))", "np.linalg.norm(product, axis=(1, 2))", 1.5,
     "frobenius"),
    ("jacobian", "np.linalg.norm(product, 2, axis=(1, 2))",
     "np.abs(np.linalg.eigvals(product)).max(axis=1)", 1.5, "spectral-radius"),
    ("jacobian", "product @ (w * (1 - h[:, t, None] ** 2))", "(w * (1 - h[:, t, None] ** 2)) @ product", 1,
     "steps-reversed"),
    ("jacobian", "range(first + 1, last + 1)", "range(first, last + 1)", 0, "first-step-included"),
    ("jacobian", "range(first + 1, last + 1)", "range(first + 1, last)", 0, None),
    ("jacobian", "range(first + 1, last + 1)", "range(first, last)", 0, "slope-of-the-state-before"),
    ("jacobian", "h[:, t, None]", "h[:, t, :, None]", 0, "slope-on-the-rows"),
    ("jacobian", "(w * (1 - h[:, t, None] ** 2))", "(w.T * (1 - h[:, t, None] ** 2))", 0, "w-transposed"),
    ("jacobian", "(w * (1 - h[:, t, None] ** 2))", "(w + 0 * h[:, t, None])", 0, "slope-forgotten"),
    ("jacobian", "return product,", "return product.swapaxes(1, 2),", 1.5, "transposed"),
    ("jacobian", "product @ (w", "product * (w", 0, None),
    ("jacobian", ", dtype=w.dtype", "", 2, "double-precision"),
    ("gradient-error", "(eps, -eps)", "(eps, 0)", 0, None),
    ("gradient-error", "(2 * eps)", "eps", 0, "half-the-width"),
    ("gradient-error", " / (2 * eps)", "", 0, "not-divided"),
    ("gradient-error", "/ (2 * eps)", "/ 2 * eps", 0, "times-eps"),
    ("gradient-error", "step * direction[name]", "step", 0, "direction-ignored"),
    ("gradient-error", "g * direction[name]", "g", 0, "gradients-summed"),
    ("gradient-error", "float(abs(numeric - exact)", "float((numeric - exact)", 0, "signed"),
    ("gradient-error", " / max(abs(numeric), abs(exact))", "", 0, "absolute"),
    ("gradient-error", "max(abs(numeric), abs(exact))", "(abs(numeric) + abs(exact))", 0,
     "divided-by-the-sum"),
    ("sequence-gradients", "(x, h, h0, dz)", "(x, h, h0, dh)", 1.5, "dh-for-dz"),
    ("sequence-gradients", "(x, h, h0, dz)", "(x, h, 0 * h0, dz)", 2.5, "start-ignored-in-dw"),
    ("sequence-gradients", "v, b, c, h0)", "v, b, c, 0 * h0)", 0, "start-ignored-forward"),
    ("sequence-gradients", "(dh, h, w)", "(dh, h, w.T)", 1, "w-transposed"),
    ("sequence-gradients", "(dh, h, w)", "(dh * (1 - h**2), h, w)", 1, "slope-twice"),
    ("sequence-gradients", "(o, labels)", "(o, labels) * labels.size", 0, "mean-undone"),
    ("sequence-gradients", "du, dw, dv, db, dc, dh0\n", "du, dw, db, dv, dc, dh0\n", 2, "as-they-come"),
    ("sequence-gradients", "dc, dh0\n", "dc, 0 * dh0\n", 2.5, "start-without-gradient"),
    ("truncated-forward", DETACH, "", 3.5, "not-cut"),
    ("truncated-forward", "t > 0 and t % k == 0", "t > 0", 2.25, "cut-at-every-step"),
    ("truncated-forward", "t > 0 and t % k == 0", "t % k == 0", 5, "start-cut-off"),
    ("truncated-forward", "t % k == 0", "(t + 1) % k == 0", 3.5, "one-step-early"),
    ("truncated-forward", "state.detach()", "torch.zeros_like(state)", 3.5, "state-reset"),
    ("truncated-forward", "state.detach()", "h0", 3, "restarted-at-h0"),
    ("truncated-forward", "state.detach()", "h0.detach()", 3.5, "restarted-at-h0"),
    ("truncated-forward", "states.append(state)", "states.append(state.detach())", 0, "detached"),
    ("truncated-forward", DETACH + "        " + NEW,
     "        " + NEW + "\n        if (t + 1) % k == 0:\n            state = state.detach()", 3.5,
     "output-cut-off"),
    ("truncated-forward", "states, state = [], h0", "states, state = [], h0 + torch.zeros(h0.shape)", 4.5,
     "made-on-cpu"),
]  # fmt: skip


# Errors that cost points in their own rungs alone.
SPOILT = {"output_gradient": (" / labels.size", ""), "state_backward": (G, "g = dh[:, t]")}


def test_dropping_the_path_through_the_next_state_is_said_in_these_words():
    names = SOLUTION.written(state_backward=(G, "g = dh[:, t]"))
    report = checks.state_backward.grade(names["state_backward"]).report
    assert "You dropped the path through h(t+1)" in report


# Other honest ways, from the text of the assignment alone.


def output_gradient_step_by_step(o, labels):
    do = np.zeros_like(o)
    for n, t in np.ndindex(*labels.shape):
        e = np.exp(o[n, t] - max(o[n, t]))
        do[n, t] = e / e.sum()
        do[n, t, labels[n, t]] -= 1
    do /= labels.shape[0] * labels.shape[1]
    return do


def head_backward_flat(do, h, v):
    rows, columns = h.reshape(-1, h.shape[2]), do.reshape(-1, do.shape[2])
    return (columns @ v.T).reshape(h.shape), rows.T @ columns, columns.sum(0)


def step_backward_by_einsum(g, x, before, after, u, w):
    delta = g - g * after * after
    return [
        np.einsum("nj,ij->ni", delta, u),
        np.einsum("nj,ij->ni", delta, w),
        np.einsum("ni,nj->ij", x, delta),
        np.einsum("ni,nj->ij", before, delta),
        np.einsum("nj->j", delta),
    ]


def state_backward_by_jacobians(dh, h, w):
    """Without a carried gradient: every loss is sent back on its own."""
    dz, dh0 = np.zeros_like(dh), np.zeros_like(dh[:, 0])
    for s in range(dh.shape[1]):
        g = dh[:, s]
        for t in range(s, -1, -1):
            delta = g * (1 - h[:, t] ** 2)
            dz[:, t] += delta
            g = delta @ w.T
        dh0 += g
    return dz, dh0


def weight_gradients_at_once(x, h, h0, dz):
    before = np.concatenate([h0[:, None], h[:, :-1]], 1)
    return np.tensordot(x, dz, ([0, 1], [0, 1])), np.tensordot(before, dz, ([0, 1], [0, 1])), dz.sum(0).sum(0)


def truncated_backward_by_chunks(dh, h, h0, w, k):
    dz, dw = np.zeros_like(dh), np.zeros_like(w)
    for start in range(0, dh.shape[1], k):
        stop = min(start + k, dh.shape[1])
        carried = np.zeros_like(h0)
        for t in range(stop - 1, start - 1, -1):
            dz[:, t] = (1 - h[:, t] ** 2) * (dh[:, t] + carried)
            carried = dz[:, t] @ w.T
            dw += (h[:, t - 1] if t else h0).T @ dz[:, t]
    return dz, dw


def jacobian_by_sequence(h, w, first, last):
    products = []
    for one in h:
        product = np.identity(len(w), w.dtype)
        for t in range(first + 1, last + 1):
            product = product @ w @ np.diag(1 - one[t] ** 2)
        products.append(product)
    return np.stack(products), np.array([np.linalg.svd(product)[1].max() for product in products])


def gradient_error_with_copies(loss_of, parameters, gradients, direction, eps):
    up, down = ({name: p.copy() for name, p in parameters.items()} for _ in range(2))
    exact = 0.0
    for name in parameters:
        up[name] += eps * direction[name]
        down[name] -= eps * direction[name]
        exact += np.vdot(gradients[name], direction[name])
    numeric = (loss_of(up) - loss_of(down)) / (eps + eps)
    return (
        abs(1 - min(numeric / exact, exact / numeric))
        if numeric * exact > 0
        else np.float64(abs(numeric - exact) / max(abs(numeric), abs(exact)))
    )


def sequence_gradients_in_one_piece(x, labels, parameters, h0, rungs):
    u, w, v, b, c = (parameters[name] for name in "uwvbc")
    states = [h0]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ u + states[-1] @ w + b))
    grads = {name: np.zeros_like(p) for name, p in parameters.items()}
    carried = np.zeros_like(h0)
    for t in range(x.shape[1] - 1, -1, -1):
        do = output_gradient_step_by_step((states[t + 1] @ v + c)[:, None], labels[:, t : t + 1])[:, 0]
        do /= x.shape[1]
        dx, carried, du, dw, db = step_backward_by_einsum(
            do @ v.T + carried, x[:, t], states[t], states[t + 1], u, w
        )
        parts = {"u": du, "w": dw, "b": db, "v": states[t + 1].T @ do, "c": do.sum(0)}
        grads = {name: grads[name] + parts[name] for name in grads}
    return *(grads[name] for name in ("u", "w", "v", "b", "c")), carried


def truncated_forward_by_chunks(x, u, w, b, h0, k):
    pieces, state = [], h0
    for piece in x.split(k, dim=1):
        h = []
        for step in piece.unbind(1):
            state = (step @ u + state @ w + b).tanh()
            h.append(state[:, None])
        pieces += h
        state = state.data
    return torch.cat(pieces, 1)


HONEST = [
    (checks.output_gradient, output_gradient_step_by_step),
    (checks.head_backward, head_backward_flat),
    (checks.step_backward, step_backward_by_einsum),
    (checks.state_backward, state_backward_by_jacobians),
    (checks.weight_gradients, weight_gradients_at_once),
    (checks.truncated_backward, truncated_backward_by_chunks),
    (checks.jacobian, jacobian_by_sequence),
    (checks.gradient_error, gradient_error_with_copies),
    (checks.sequence_gradients, sequence_gradients_in_one_piece),
    (checks.truncated_forward, truncated_forward_by_chunks),
]


# The library, which puts time first and hoists its products.


def time_first(*arrays):
    return [np.swapaxes(a, 0, 1) for a in arrays]


def output_gradient_of_the_library(o, labels):
    _, cache = losses.cross_entropy_forward(o.reshape(-1, o.shape[2]), labels.ravel())
    return losses.cross_entropy_backward(cache).reshape(o.shape)


def step_backward_of_the_library(g, x, before, after, u, w):
    cache = cells.rnn_step_forward(x, before, u, w, np.zeros_like(w[0]))[1]
    return cells.rnn_step_backward(g, cache)[:5]


def trace_of(states, w, u):
    """As if a run had gone through these states (N, T + 1, U)."""
    cell = cells.RNNCell(u, w, np.zeros_like(w[0]))
    steps = states.shape[1] - 1
    x = np.zeros((steps, len(states), len(u)), states.dtype)
    return recurrent.Trace(
        cell, x, cells.RNNState(np.swapaxes(states, 0, 1)), [()] * steps, None, False, None
    )


def state_backward_of_the_library(dh, h, w):
    states = np.concatenate([np.zeros_like(h[:, :1]), h], axis=1)
    trace = trace_of(states, w, np.eye(len(w), dtype=w.dtype))  # with such a u, dx is dz
    gradients, dstate = recurrent.unroll_backward(dh.swapaxes(0, 1), trace)
    return gradients.dx.swapaxes(0, 1), dstate.h


def weight_gradients_of_the_library(x, h, h0, dz):
    U = h.shape[2]
    cell = cells.RNNCell(np.zeros((x.shape[2], U), x.dtype), np.eye(U, dtype=x.dtype), np.zeros(U, x.dtype))
    before = np.concatenate([h0[:, None], h[:, :-1]], axis=1)
    x, before, dz = time_first(x, before, dz)
    return cell.gradients(x, cells.RNNState(before), cells.RNNState(before), dz)[1:4]


def jacobian_of_the_library(h, w, first, last):
    steps = jacobians.step_jacobians(trace_of(h[:, : last + 1], w, np.zeros_like(w[:1])))
    product = jacobians.lag_jacobians(steps)[last - first]
    return product, jacobians.singular_values(product)[:, 0]


def sequence_gradients_of_the_library(x, labels, parameters, h0, rungs):
    x, labels = time_first(x, labels)
    u, w, v, b, c = (parameters[name] for name in "uwvbc")
    _, cache = recurrent.sequence_loss_forward(x, labels, u, w, v, b, c, h0=h0)
    gradients = recurrent.sequence_loss_backward(cache)
    return tuple(getattr(gradients, name) for name in ("du", "dw", "dv", "db", "dc", "dh0"))


SHORTCUTS = [
    (checks.output_gradient, output_gradient_of_the_library),
    (checks.step_backward, step_backward_of_the_library),
    (checks.state_backward, state_backward_of_the_library),
    (checks.weight_gradients, weight_gradients_of_the_library),
    (checks.jacobian, jacobian_of_the_library),
    (checks.sequence_gradients, sequence_gradients_of_the_library),
]


def by_torch_rnn(x, u, w, b, h0, k):
    layer = torch.nn.RNN(*u.shape, batch_first=True, dtype=x.dtype, device=x.device)
    weights = u.T, w.T, b, torch.zeros_like(b)
    named = dict(zip(dict(layer.named_parameters()), weights, strict=True))
    call, pieces, state = torch.func.functional_call, [], h0[None]
    for piece in x.split(k, dim=1):
        h, last = call(layer, named, (piece, state))
        pieces.append(h)
        state = last.detach()
    return torch.cat(pieces, dim=1)


def by_torch_cell(x, u, w, b, h0, k):
    states, state = [], h0
    for t, step in enumerate(x.unbind(1)):
        state = state.detach() if t and t % k == 0 else state
        state = torch.rnn_tanh_cell(step, state, u.T, w.T, b, torch.zeros_like(b))
        states.append(state)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("shortcut", [by_torch_rnn, by_torch_cell])
def test_torchs_own_rnn_agrees_and_earns_nothing(shortcut):
    check = checks.truncated_forward
    score = check.grade(shortcut, watched=False)
    assert score.points == check.points, score.report
    score = check.grade(shortcut)
    assert score.points == 0 and score.shortcut.startswith("torch.rnn_tanh")


def by_autograd(x, labels, parameters, h0, rungs):
    tensors = [torch.tensor(parameters[name], requires_grad=True) for name in ("u", "w", "v", "b", "c")]
    u, w, v, b, c = tensors
    state = start = torch.tensor(h0, requires_grad=True)
    states = []
    for t in range(x.shape[1]):
        state = torch.tanh(torch.tensor(x[:, t]) @ u + state @ w + b)
        states.append(state)
    scores = (torch.stack(states, dim=1) @ v + c).flatten(0, 1)
    torch.nn.functional.cross_entropy(scores, torch.tensor(labels).flatten()).backward()
    return tuple(tensor.grad.numpy() for tensor in (*tensors, start))


def test_autograd_agrees_with_the_rungs_and_earns_nothing():
    check = checks.sequence_gradients
    score = check.grade(by_autograd, watched=False)
    assert score.points == check.points, score.report
    score = check.grade(by_autograd)
    assert score.points == 0 and score.shortcut.startswith("torch.")


@pytest.mark.skipif(sys.platform != "linux", reason="hand-ins run on Linux")
def test_the_functions_that_the_check_hands_out_may_be_called_in_a_notebook_that_has_torch():
    """The grader looks at torch's random state around such a call; a student's own torch is seen."""
    from coursekit.grading.execution.executor import Executor

    tasks = "gradient-error", "sequence-gradients"
    given = cell("import numpy as np\nimport torch\nfrom coursekit import checks", "locked", "given")
    answers = [cell(SOLUTION.cells[task], "solution", task) for task in tasks]
    calls = [f"checks.bptt.{task}({task})".replace("-", "_") for task in tasks]
    tests = [
        cell(call, "test", f"test-{task}", SOLUTION.checks[task.replace("-", "_")].points)
        for call, task in zip(calls, tasks, strict=True)
    ]
    source = notebook(given, *answers, *tests)
    cheat = inspect.getsource(by_autograd).replace("by_autograd", "sequence_gradients")
    with Executor(["numpy", "torch"]) as executor:
        honest = executor.run(job(source)).scores
        caught = executor.run(job(source, answered(source, {"sequence-gradients": cheat}))).scores
    for test in tests:
        mark = test.metadata["nbgrader"]
        assert honest[mark["grade_id"]].points == mark["points"]
    assert caught["test-sequence-gradients"].points == 0
    assert caught["test-sequence-gradients"].record["shortcut"].startswith("torch.")


@pytest.mark.parametrize(("steps", "k"), [(9, 3), (8, 3), (5, 1), (4, 7)])
def test_truncation_by_hand_in_torch_and_in_the_library_are_one(steps, k, rng):
    N, D, U = 2, 3, 5
    x, dh, h0 = (rng.normal(size=shape) for shape in ((N, steps, D), (N, steps, U), (N, U)))
    u, w, b = (rng.normal(size=shape) / 2 for shape in ((D, U), (U, U), (U,)))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, u, w, b, h0)]
    h = checks.truncated_forward.reference(*tensors, k)
    dx, _, dw, _, _ = torch.autograd.grad(h, tensors, torch.tensor(dh))
    by_hand = checks.truncated_backward.reference(dh, h.detach().numpy(), h0, w, k)
    upstream = np.swapaxes(dh, 0, 1)
    theirs = bptt.truncated_bptt(
        cells.RNNCell(u, w, b),
        np.swapaxes(x, 0, 1),
        lambda t0, h: (0.0, upstream[t0 : t0 + len(h)]),
        cells.RNNState(h0),
        k1=k,
    ).gradients
    np.testing.assert_allclose(by_hand[1], dw, atol=1e-12)
    np.testing.assert_allclose(by_hand[1], theirs.dw, atol=1e-12)
    np.testing.assert_allclose(by_hand[0] @ u.T, dx, atol=1e-12)


def test_the_rungs_together_are_the_gradient_that_autograd_finds(rng):
    N, T, D, U, K = 2, 6, 3, 5, 4
    shapes = {"u": (D, U), "w": (U, U), "v": (U, K), "b": (U,), "c": (K,)}
    parameters = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
    x, h0, labels = rng.normal(size=(N, T, D)), rng.normal(size=(N, U)), rng.integers(0, K, (N, T))
    found = checks.sequence_gradients.reference(x, labels, parameters, h0, checks.RUNGS)
    u, w, v, b, c, start = (torch.tensor(p, requires_grad=True) for p in (*parameters.values(), h0))
    h = checks.truncated_forward.reference(torch.tensor(x), u, w, b, start, T)
    loss = torch.nn.functional.cross_entropy((h @ v + c).flatten(0, 1), torch.tensor(labels).flatten())
    for mine, theirs in zip(found, torch.autograd.grad(loss, (u, w, v, b, c, start)), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_the_growth_is_the_most_that_a_gradient_can_grow(rng):
    h, w = np.tanh(rng.normal(size=(2, 7, 5))), rng.normal(size=(5, 5))
    product, growth = checks.jacobian.reference(h, w, 1, 6)
    g = rng.normal(size=(2000, 2, 5))
    back = np.einsum("rnj,nij->rni", g, product)
    ratio = np.linalg.norm(back, axis=2) / np.linalg.norm(g, axis=2)
    assert (ratio <= growth * (1 + 1e-12)).all() and (ratio.max(axis=0) > 0.6 * growth).all()


def test_the_experiment_comes_out_as_its_mark_scheme_says():
    names = SOLUTION.written()
    errors = {}
    for gain in (0.5, 1, 1.5):
        net, rng = names["new_net"](np.random.default_rng(0), U=32, gain=gain), np.random.default_rng(0)
        x, labels, h0 = rng.normal(size=(4, 40, 3)), rng.integers(0, 4, (4, 40)), np.zeros((4, 32))
        h, o = names["forward"](x, *(net[name] for name in "uwvbc"), h0)
        dh = names["head_backward"](names["output_gradient"](o, labels), h, net["v"])[0]
        whole = names["truncated_backward"](dh, h, h0, net["w"], 40)[1]
        cut = [names["truncated_backward"](dh, h, h0, net["w"], k)[1] for k in (1, 2, 5, 10, 20)]
        errors[gain] = np.array([np.linalg.norm(dw - whole) / np.linalg.norm(whole) for dw in cut])
    assert all((np.diff(own) < 0).all() for own in errors.values())
    assert (errors[0.5] < errors[1]).all() and (errors[1] < errors[1.5]).all()
    assert np.allclose([own[3] for own in errors.values()], [0.05, 0.15, 0.4], atol=0.06)
