"""The checks of the assignment `recurrence`: its solution, slips in its text, shortcuts, references."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy.special import log_softmax
from solution_text import SolutionText

from coursekit import cells, graph, losses, recurrent
from coursekit.checks import recurrence as checks

SOLUTION = SolutionText("recurrence")


SUM = """    a = x + b
    for source, target, weight in edges:
        a[:, target] += weight * h[:, source]
"""
COLUMNS = "columns = [ACTIVATIONS[name](a[:, j]) for j, name in enumerate(activations)]"
# One unit after the other, each into the array that the next one reads.
UNIT_BY_UNIT = """    h = h.copy()
    for j, name in enumerate(activations):
        a = x[:, j] + b[j]
        for source, target, weight in edges:
            if target == j:
                a = a + weight * h[:, source]
        h[:, j] = ACTIVATIONS[name](a)
    return h
"""
LOOP = "    for t in range(steps):\n        for source, target, delay, parameter in edges:\n"
STATE = "state = np.tanh(x[:, t] @ u + state @ w + b)"
LOG_P = "shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))"
# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("synchronous-step", SUM, UNIT_BY_UNIT, 0, "in-place"),
    ("synchronous-step", SUM, UNIT_BY_UNIT.replace("    h = h.copy()\n", ""), 0, "overwrites-h"),
    ("synchronous-step", "a[:, target] += weight * h[:, source]", "a[:, source] += weight * h[:, target]",
     1, "turned-edges"),
    ("synchronous-step", "weight * h[:, source]", "weight * a[:, source]", 0, None),
    ("synchronous-step", "a[:, target] +=", "a[:, target] =", 1, None),
    ("synchronous-step", "x + b", "x.copy()", 1, "bias-forgotten"),
    ("synchronous-step", "x + b", "np.zeros_like(x) + b", 1, "input-forgotten"),
    ("synchronous-step", "x + b", "h + x + b", 0, "old-value-added"),
    ("synchronous-step", "+= weight * h[:, source]", "+= weight * h[:, source] + b[target]", 1, None),
    ("synchronous-step", "ACTIVATIONS[name](a[:, j])", "a[:, j]", 1, "no-activation"),
    ("synchronous-step", COLUMNS, "columns = list(ACTIVATIONS[activations[0]](a).T)", 1, "first-activation"),
    ("synchronous-step", "a = x + b", "a = np.zeros(x.shape) + x + b", 3, "double-precision"),
    ("connection-kinds", "source not in reached(target) or ", "", 3, "backwards-is-feedback"),
    ("connection-kinds", " or layers[source] < layers[target]", "", 2, "whole-cycle"),
    ("connection-kinds", "layers[source] < layers[target]", "source < target", 0, None),
    ("connection-kinds", "{start}, [start]", "set(), [start]", 4, None),
    ("connection-kinds", "reached(target)", "reached(source)", 3, "backwards-is-feedback"),
    ("connection-kinds", "source not in reached(target)",
     "source != target and (target, source) not in edges", 2, "pairs-only"),
    ("connection-kinds", "if source not in", "if source == target or source not in", 2, "loops-forgotten"),
    ("connection-kinds", 'elif source == target:\n            kinds[source, target] = "direct"',
     'elif False:\n            pass', 2, "loops-lateral"),
    ("connection-kinds", '"lateral" if layers[source] == layers', '"lateral" if layers[source] != layers',
     0, "kinds-swapped"),
    ("connection-kinds", "layers[source] == layers[target]", "(target, source) in edges", 1, None),
    ("connection-kinds", "elif source == target", "elif (target, source) in edges", 1, "direct-if-mutual"),
    ("unfold-edges", "t - delay", "t", 2, "never-delayed"),
    ("unfold-edges", "t - delay", "t - 1", 2, "always-one-step-ago"),
    ("unfold-edges", "t - delay, target, t,", "t, target, t + delay,", 2, "sent-forward"),
    ("unfold-edges", "t - delay", "max(0, t - delay)", 2, "start-at-zero"),
    ("unfold-edges", "range(steps)", "range(steps + 1)", 2, "one-step-too-many"),
    ("unfold-edges", "range(steps)", "range(1, steps + 1)", 2, "counted-from-one"),
    ("unfold-edges", "rows.append", "if t >= delay: rows.append", 2, "start-left-out"),
    ("unfold-edges", "t, parameter)", "t, parameter + t * (edges[:, 3].max() + 1))", 2.5,
     "a-parameter-for-each-step"),
    ("unfold-edges", "source, t - delay, target, t", "target, t - delay, source, t", 2, "ends-turned"),
    ("unfold-edges", "source, t - delay, target, t", "source, target, t - delay, t", 2,
     "columns-out-of-order"),
    ("unfold-edges", LOOP,
     "    for source, target, delay, parameter in edges:\n        for t in range(steps):\n", 2.5,
     "connection-by-connection"),
    ("unfold-edges", "len(set(edges[:, 3].tolist()))", "len(edges)", 2, "connections-counted"),
    ("unfold-edges", "len(set(edges[:, 3].tolist()))", "len(rows)", 2, "copies-counted"),
    ("unfold-edges", "len(set(edges[:, 3].tolist()))", "steps * len(set(edges[:, 3].tolist()))", 2.5,
     "parameters-times-steps"),
    ("rnn-forward", "state = h0", "state = np.zeros_like(h0)", 0, "start-ignored"),
    ("rnn-forward", "state @ w", "h0 @ w", 1, "start-at-every-step"),
    ("rnn-forward", "state @ w", "(h[:, t - 2] if t > 1 else h0) @ w", 1, "two-steps-before"),
    ("rnn-forward", "state @ w", "state @ w.T", 0, "transposed-w"),
    ("rnn-forward", "state @ w", "w @ state", 0, None),
    ("rnn-forward", STATE, "state = x[:, t] @ u + state @ w + b", 0, "without-tanh"),
    ("rnn-forward", STATE, "state += np.tanh(x[:, t] @ u + state @ w + b)", 0, "overwrites-h0"),
    ("rnn-forward", STATE, "state = state + np.tanh(x[:, t] @ u + state @ w + b)", 0, "old-state-added"),
    ("rnn-forward", STATE, "state[...] = np.tanh(x[:, t] @ u + state @ w + b)", 0, "overwrites-h0"),
    ("rnn-forward", STATE, "state = np.tanh(x[:, t] @ u + b) + state @ w", 0, "outside-tanh"),
    ("rnn-forward", STATE, "state = 1 / (1 + np.exp(-(x[:, t] @ u + state @ w + b)))", 0, "sigmoid"),
    ("rnn-forward", " + b)", ")", 0, "b-forgotten"),
    ("rnn-forward", "h @ v + c", "h @ v", 2, "c-forgotten"),
    ("rnn-forward", "x[:, t]", "x[:, 0]", 1, "first-input-only"),
    ("rnn-forward", "x[:, t]", "x[:, -1 - t]", 1, "time-reversed"),
    ("rnn-forward", "x[:, t]", "x[t]", 0, None),
    ("rnn-forward", "x.shape[1], len(w)), x.dtype", "x.shape[1], len(w))", 3, "double-precision"),
    ("rnn-forward", "return h, h @ v + c", "return state, state @ v + c", 0, "last-step-only"),
    ("rnn-forward", "return h, h @ v + c", "h = h.swapaxes(0, 1)\n    return h, h @ v + c", 0,
     "time-first"),
    ("rnn-forward", STATE + "\n        h[:, t] = state", "h[:, t] = state\n        " + STATE, 0,
     ("states-before", "output-of-the-state-before")),
    ("rnn-forward", "h @ v + c", "np.tanh(h @ v + c)", 2, "tanh-of-the-scores"),
    ("sequence-loss", "o - o.max(axis=2, keepdims=True)", "o", 2, "sum-not-shifted"),
    ("sequence-loss", "o - o.max(axis=2, keepdims=True)", "o - o.max()", 2.5, "sum-shifted-by-one-number"),
    ("sequence-loss", "shifted - np.log(np.exp(shifted)", "o - np.log(np.exp(shifted)", 0,
     "shift-not-undone"),
    ("sequence-loss", LOG_P, "np.log(np.exp(shifted) / np.exp(shifted).sum(axis=2, keepdims=True))", 3,
     "log-of-zero"),
    ("sequence-loss", LOG_P, "np.log(np.exp(shifted) / np.exp(shifted).sum(axis=2, keepdims=True) + 1e-12)",
     3, "kept-from-zero"),
    ("sequence-loss", ".mean()", ".sum()", 0, "sum-for-mean"),
    ("sequence-loss", ".mean()", ".sum() / len(o)", 0.5, "mean-over-the-batch-only"),
    ("sequence-loss", ".mean()", ".sum() / o.shape[1]", 0.5, "mean-over-time-only"),
    ("sequence-loss", ".mean()", ".sum() / o.size", 0, "mean-over-classes-too"),
    ("sequence-loss", "-float", "float", 0, "sign-lost"),
    ("sequence-loss", "np.log(np", "np.log2(np", 1, None),
    ("sequence-loss", "labels[..., None]", "labels.T.reshape(*labels.shape, 1)", 1, "labels-turned"),
    ("sequence-loss", "take_along_axis(log_p", "take_along_axis(shifted", 1, "not-normalised"),
    ("sequence-loss", "take_along_axis(log_p", "take_along_axis(o", 0, "without-softmax"),
    ("sequence-loss", "np.take_along_axis(log_p, labels[..., None], axis=2)", "log_p.max(axis=2)", 0,
     "largest-for-right"),
    ("sequence-loss", "np.take_along_axis(log_p", "np.take_along_axis(np.exp(log_p)", 0, "without-log"),
]  # fmt: skip


# An error that costs points in its own task alone: task -> what the solution says, what it says then
SPOILT = {"rnn_forward": ("state @ w", "state @ w.T")}


# Other honest ways, from the text of the assignment alone.


def step_by_matrix(h, x, edges, b, activations):
    w = np.zeros((h.shape[1], h.shape[1]), h.dtype)
    for source, target, weight in edges:
        w[source, target] = weight
    a = h @ w + x + b
    kinds = np.array(activations)
    return np.select([kinds == "tanh", kinds == "relu"], [np.tanh(a), a * (a > 0)], a)


def kinds_by_matrix(edges, layers):
    step = np.eye(len(layers), dtype=int)
    for source, target in edges:
        step[source, target] = 1
    there = np.linalg.matrix_power(step, len(layers)) > 0
    kinds = {}
    for source, target in edges:
        height = layers[target] - layers[source]
        if height > 0 or not there[target, source]:
            kinds[(source, target)] = "forward"
        else:
            kinds[(source, target)] = "indirect" if height else "lateral" if source != target else "direct"
    return kinds


def unfolded_by_columns(edges, steps):
    t = np.repeat(np.arange(steps), len(edges))
    source, target, delay, parameter = np.tile(edges, (steps, 1)).T
    return np.column_stack([source, t - delay, target, t, parameter]), np.unique(edges[:, 3]).size


def forward_by_lists(x, u, w, v, b, c, h0):
    h, o = [h0], []
    for step in np.moveaxis(x, 1, 0):
        h.append(np.tanh(step @ u + h[-1] @ w + b))
        o.append(h[-1] @ v + c)
    return np.stack(h[1:], 1), np.stack(o, 1)


def loss_by_steps(o, labels):
    losses = [
        np.log(np.exp(o[n, t] - o[n, t].max()).sum()) + o[n, t].max() - o[n, t, labels[n, t]]
        for n, t in np.ndindex(*labels.shape)
    ]
    return np.mean(losses)


def loss_by_logaddexp(o, labels):
    log_p = o - np.logaddexp.reduce(o, axis=-1, keepdims=True)
    return -log_p[(*np.indices(labels.shape), labels)].mean()


HONEST = [
    (checks.synchronous_step, step_by_matrix),
    (checks.connection_kinds, kinds_by_matrix),
    (checks.unfold_edges, unfolded_by_columns),
    (checks.rnn_forward, forward_by_lists),
    (checks.sequence_loss, loss_by_steps),
    (checks.sequence_loss, loss_by_logaddexp),
]


def as_graph(edges, units, layers=None, b=None, activations=None):
    net = graph.RecurrentGraph()
    for j in range(units):
        net.add_unit(
            str(j),
            external=True,
            layer=layers and layers[j],
            bias=0.0 if b is None else float(b[j]),
            activation="identity" if activations is None else activations[j],
        )
    for source, target, *weight in edges:
        net.connect(str(source), str(target), *weight)
    return net


def step_of_the_library(h, x, edges, b, activations):
    net = as_graph(edges, h.shape[1], b=b, activations=activations)
    return net.run({}, x[None], h0=h, order=[net.units])[0]


def kinds_of_the_library(edges, layers):
    kinds = as_graph(edges, len(layers), layers).kinds()
    return {(int(source), int(target)): kind for (source, target), kind in kinds.items()}


def forward_of_the_library(x, u, w, v, b, c, h0):
    h = recurrent.rnn_forward(np.swapaxes(x, 0, 1), u, w, b, h0=h0)[0].swapaxes(0, 1)
    return h, h @ v + c


def forward_by_cells(x, u, w, v, b, c, h0):
    h = []
    for t in range(x.shape[1]):
        h0 = cells.rnn_step_forward(x[:, t], h0, u, w, b)[0]
        h.append(h0)
    return np.stack(h, 1), np.stack(h, 1) @ v + c


def loss_of_the_library(o, labels):
    return float(losses.cross_entropy_forward(o.reshape(-1, o.shape[2]), labels.ravel())[0])


SHORTCUTS = [
    (checks.synchronous_step, step_of_the_library),
    (checks.connection_kinds, kinds_of_the_library),
    (checks.rnn_forward, forward_of_the_library),
    (checks.rnn_forward, forward_by_cells),
    (checks.sequence_loss, loss_of_the_library),
]


def kinds_by_networkx(edges, layers):
    component = {}
    for number, units in enumerate(nx.strongly_connected_components(nx.DiGraph(edges))):
        component |= dict.fromkeys(units, number)
    returning = [edge for edge in edges if component[edge[0]] == component[edge[1]]]
    return dict.fromkeys(edges, "forward") | kinds_by_matrix(returning, layers)


def loss_by_scipy(o, labels):
    return -np.take_along_axis(log_softmax(o, axis=2), labels[..., None], axis=2).mean()


@pytest.mark.parametrize(
    ("check", "shortcut", "used"),
    [
        (checks.connection_kinds, kinds_by_networkx, "networkx."),
        (checks.sequence_loss, loss_by_scipy, "scipy."),
    ],
)
def test_another_library_is_a_shortcut_that_works_and_earns_nothing(check, shortcut, used):
    assert check.grade(shortcut, watched=False).points == check.points
    score = check.grade(shortcut)
    assert score.points == 0 and score.shortcut.startswith(used)


@pytest.mark.parametrize("order", ["synchronous", "layers", "one by one"])
def test_the_librarys_unfolding_has_the_rows_of_the_check(order, rng):
    pairs = [divmod(int(i), 5) for i in rng.permutation(25)[:9]]
    net = graph.RecurrentGraph()
    for j in range(5):
        net.add_unit(str(j))
    for i, (source, target) in enumerate(pairs):
        net.connect(str(source), str(target), f"{i % 4}")
    order = net.units if order == "one by one" else order
    delays = net.delays(order)
    edges = [[i, j, delays[str(i), str(j)], n % 4] for n, (i, j) in enumerate(pairs)]
    rows, parameters = checks.unfold_edges.reference(np.array(edges), 7)
    unfolded = graph.unfold(net, 7, order=order)
    theirs = {
        (int(i), s, int(j), t, int(weight.parameter))
        for (i, s), (j, t), weight in unfolded.graph.edges.data("weight")
    }
    assert {tuple(row) for row in rows.tolist()} == theirs and len(rows) == 63
    assert parameters == len(unfolded.parameters)


@pytest.mark.parametrize("seed", range(5))
def test_on_random_graphs_the_kinds_are_the_librarys(seed):
    rng = np.random.default_rng(seed)
    edges = [divmod(int(i), 7) for i in rng.permutation(49)[: 8 + 2 * seed]]
    layers = rng.integers(0, 3, 7).tolist()
    assert checks.connection_kinds.reference(edges, layers) == kinds_of_the_library(edges, layers)


def test_the_experiment_comes_out_as_its_mark_scheme_says():
    forward = SOLUTION.written()["rnn_forward"]
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0]
    h0, zero = 0.1 * np.random.default_rng(1).normal(size=(2, 32)), np.zeros
    kept = {}
    for gain in (0.5, 0.9, 1, 1.5):
        weights = zero((1, 32)), gain * orthogonal, zero((32, 3)), zero(32), zero(3)
        h, _ = forward(zero((2, 100, 1)), *weights, h0)
        kept[gain] = np.linalg.norm(h[0, -1] - h[1, -1]) / np.linalg.norm(h0[0] - h0[1])
    assert 1e-31 < kept[0.5] < 1e-29 and 1e-6 < kept[0.9] < 1e-4
    assert 0.3 < kept[1] < 0.95 and kept[1.5] > 2
