"""The checks of the assignment `gru`: its solution, slips in its text, shortcuts, references."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from grading_notebooks import answered, cell, job, notebook
from solution_text import SolutionText

from coursekit import cells, recurrent
from coursekit.checks import gru as checks
from coursekit.grading.records import Limits

SOLUTION = SolutionText("gru")


MERGE = "(1 - z) * np.tanh(an) + z * h"
MIX = "(1 - z) * n + z * h"
SUM = "x @ u[k] + b[k] + h @ w[k] + bw[k]"
AFTER = "np.tanh(x @ u[2] + b[2] + r * m)"
BEFORE = "np.tanh(x @ u[2] + b[2] + (r * h) @ w[2] + bw[2])"
PATHS = "da_z @ w[0].T + da_r @ w[1].T + dm @ w[2].T"
EITHER = '    if max(far.values()) < 1e-9:\n        return "either"\n'
DRAWN = "rng.normal(size=(1000, w.shape[1]))"
BLOCK = "D * U + U * U + biases * U"
COUPLE = "c = (1 - i) * c + i * g"
ZEROS = "x.new_zeros(len(x), self.w.shape[1])"
# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("merge-state", MERGE, "z * np.tanh(an) + (1 - z) * h", 1, "swapped"),
    ("merge-state", MERGE, "np.tanh(an) + z * h", 1, "candidate-not-weighed"),
    ("merge-state", MERGE, "(1 - z) * np.tanh(an) + h", 1, "old-state-not-weighed"),
    ("merge-state", MERGE, "z * (np.tanh(an) + h)", 1, "both-by-z"),
    ("merge-state", "np.tanh(an)", "an", 1, "tanh-forgotten"),
    ("merge-state", "np.tanh(an)", "1 / (1 + np.exp(-an))", 1, "sigmoid-candidate"),
    ("merge-state", MERGE, "np.tanh((1 - z) * an + z * h)", 1, "squashed-at-the-end"),
    ("merge-state", "1 / (1 + np.exp(-az))", "np.tanh(az)", 0, "tanh-gate"),
    ("merge-state", "1 / (1 + np.exp(-az))", "az", 0, "gate-not-squashed"),
    ("merge-state", "np.exp(-az)", "np.exp(az)", 0, "gate-turned"),
    ("merge-state", "1 / (1 + np.exp(-az))", "np.exp(az) / (1 + np.exp(az))", 1.5, "overflow"),
    ("merge-state", "return z,", "return 1 - z,", 1, "returned-the-other-share"),
    ("merge-state", "return z, " + MERGE, "h *= z\n    return z, (1 - z) * np.tanh(an) + h", 0,
     "overwrites-h"),
    ("merge-state", MERGE, MERGE + " * np.ones(h.shape)", 1.75, "double-precision"),
    ("gru-after", MIX, "z * n + (1 - z) * h", 0, "swapped"),
    ("gru-after", "in (0, 1)", "in (1, 0)", 0, "torchs-order"),
    ("gru-after", AFTER, BEFORE, 0, "before-the-product"),
    ("gru-after", AFTER, "np.tanh(x @ u[2] + b[2] + r * (h @ w[2]) + bw[2])", 0, "bw-not-reset"),
    ("gru-after", AFTER, "np.tanh(x @ u[2] + r * (b[2] + m))", 0, "b-reset"),
    ("gru-after", AFTER, "np.tanh(r * (x @ u[2] + b[2] + m))", 0, "all-reset"),
    ("gru-after", AFTER, "r * np.tanh(x @ u[2] + b[2] + m)", 0, "candidate-reset-whole"),
    ("gru-after", "+ r * m", "+ m", 0, "no-reset"),
    ("gru-after", "+ r * m", "+ z * m", 0, "update-resets"),
    ("gru-after", "+ r * m", "+ (1 - r) * m", 0, "reset-turned"),
    ("gru-after", "z * h\n", "r * h\n", 0.5, "reset-merges"),
    ("gru-after", "z * h\n", "z * (r * h)\n", 0.5, "reset-state-kept"),
    ("gru-after", "m = h @ w[2] + bw[2]", "m = h @ w[2]", 0, "bw-forgotten-in-the-candidate"),
    ("gru-after", SUM, "x @ u[k] + b[k] + h @ w[k]", 0, "bw-forgotten-in-the-gates"),
    ("gru-after", SUM, "x @ u[k] + b[k] + bw[k]", 0.5, "gates-see-no-state"),
    ("gru-after", AFTER, "x @ u[2] + b[2] + r * m", 0, "tanh-forgotten"),
    ("gru-after", AFTER, "1 / (1 + np.exp(-(x @ u[2] + b[2] + r * m)))", 0, "sigmoid-candidate"),
    ("gru-after", "1 / (1 + np.exp(-(" + SUM + ")))", "np.tanh(" + SUM + ")", 0, "tanh-gates"),
    ("gru-after", "z, r = ", "w = w.transpose(0, 2, 1)\n    z, r = ", 1, "w-transposed"),
    ("gru-after", MIX, MIX + " + np.zeros(h.shape)", 2.5, "double-precision"),
    ("gru-after", "return ", "h[...] = ", 0, "overwrites-h"),
    ("gru-before", BEFORE, "np.tanh(x @ u[2] + b[2] + r * (h @ w[2] + bw[2]))", 0, "after-the-product"),
    ("gru-before", BEFORE, "np.tanh(x @ u[2] + b[2] + r * (h @ w[2]) + bw[2])", 1, "product-reset"),
    ("gru-before", "+ bw[2])", "+ r * bw[2])", 0, "bw-reset"),
    ("gru-before", "(r * h) @ w[2]", "h @ w[2]", 0.5, "no-reset"),
    ("gru-before", "(r * h) @ w[2]", "(z * h) @ w[2]", 0.5, "update-resets"),
    ("gru-before", "(r * h) @ w[2]", "r * ((r * h) @ w[2])", 0.5, "reset-both"),
    ("gru-before", "z * h\n", "z * (r * h)\n", 0.5, "reset-state-kept"),
    ("gru-before", MIX, "z * n + (1 - z) * h", 0, "swapped"),
    ("gru-before", "    n = ",
     "    z = 1 / (1 + np.exp(-(x @ u[0] + b[0] + (r * h) @ w[0] + bw[0])))\n    n = ", 0.5,
     "update-sees-the-reset-state"),
    ("gru-before", "    n = ", "    h *= r\n    n = ", 0.5, "overwrites-h"),
    ("gru-backward", "g * z + ", "", 5, "direct-path-dropped"),
    ("gru-backward", "g * z + ", "g * (1 - z) + ", 5, "direct-path-by-the-other-share"),
    ("gru-backward", "g * z + ", "g + ", 5, "direct-path-not-weighed"),
    ("gru-backward", " + dm @ w[2].T", "", 5, "product-path-dropped"),
    ("gru-backward", " + da_r @ w[1].T + dm", " + dm", 5, "reset-path-dropped"),
    ("gru-backward", "da_z @ w[0].T + ", "", 5, "update-path-dropped"),
    ("gru-backward", PATHS, "dm @ w[2].T", 5, "gate-paths-dropped"),
    ("gru-backward", " + " + PATHS, "", 5, "direct-path-alone"),
    ("gru-backward", "dm @ w[2].T", "da_n @ w[2].T", 5, "product-not-reset"),
    ("gru-backward", "dm = da_n * r", "dm = da_n", 3, "product-not-reset"),
    ("gru-backward", "da_n * m * r", "da_n * before * r", 0, "reset-hears-through-h"),
    ("gru-backward", "da_n * m * r", "da_n * n * r", 0, "reset-hears-through-n"),
    ("gru-backward", "da_n * m * r", "da_n * r", 0, "reset-hears-without-factor"),
    ("gru-backward", "g * (1 - z) * (1 - n**2)", "g * (1 - n**2)", 0, "share-left-out"),
    ("gru-backward", "g * (1 - z) * (1 - n**2)", "g * z * (1 - n**2)", 0, "shares-swapped"),
    ("gru-backward", "(before - n)", "(n - before)", 0, "sign-of-the-update"),
    ("gru-backward", "(before - n)", "before", 0, "update-hears-the-state-alone"),
    ("gru-backward", "(before - n)", "-n", 0, "update-hears-the-candidate-alone"),
    ("gru-backward", " * (1 - n**2)", "", 0, "tanh-slope-dropped"),
    ("gru-backward", "(1 - n**2)", "(1 - np.tanh(n) ** 2)", 0, "tanh-slope-twice"),
    ("gru-backward", "(1 - n**2)", "n * (1 - n)", 0, "sigmoid-slope-of-the-candidate"),
    ("gru-backward", "(before - n) * z * (1 - z)", "(before - n)", 0, "update-slope-dropped"),
    ("gru-backward", "m * r * (1 - r)", "m", 0, "reset-slope-dropped"),
    ("gru-backward", "by_state.sum(axis=1)", "by_input.sum(axis=1)", 5, "dbw-is-db"),
    ("gru-backward", "by_input.sum(axis=1), ", "by_state.sum(axis=1), ", 5, "db-is-dbw"),
    ("gru-backward", "before.T @ by_state", "(r * before).T @ by_state", 5, "reset-state-in-dw"),
    ("gru-backward", "before.T @ by_state", "((1 - z) * n + z * before).T @ by_state", 5,
     "state-after-in-dw"),
    ("gru-backward", PATHS, PATHS.replace(".T", ""), 5, "not-transposed"),
    ("gru-backward", "[da_z, da_r, da_n]), np.stack([da_z, da_r, dm])",
     "[da_r, da_z, da_n]), np.stack([da_r, da_z, dm])", 2, "torchs-order"),
    ("gru-backward", "before.T @ by_state", "(before.T @ by_state).swapaxes(1, 2)", 5, "transposed-dw"),
    ("gru-backward", "by_input.sum(axis=1), by_state.sum(axis=1)", "by_input, by_state", 4,
     "biases-of-each-sequence"),
    ("gru-backward", "by_input.sum(axis=1), by_state.sum(axis=1)",
     "by_input.sum(axis=2), by_state.sum(axis=2)",
     4, "biases-over-the-units"),
    ("which-form", DRAWN, "np.zeros((1000, w.shape[1]))", 2.5, "probed-at-zero"),
    ("which-form", EITHER, "", 2.5, "exact-equality"),
    ("which-form", EITHER, '    if np.isclose(far["after"], 0):\n        return "after"\n', 2.5,
     "ties-to-after"),
    ("which-form", EITHER, '    if np.isclose(far["before"], 0):\n        return "before"\n', 2.5,
     "ties-to-before"),
    ("which-form", "max(far.values()) < 1e-9", "max(far.values()) == 0", 2.5, "exact-equality"),
    ("which-form", "max(far.values()) < 1e-9", "max(far.values()) < 2e-2", 3.5, "too-tolerant"),
    ("which-form", "np.max(np.abs(seen - form(x, h, u, w, b, bw)))",
     "np.max(np.abs(seen - form(x, h, u, w, b, bw))[:, 0])", 3.5, "one-unit-compared"),
    ("which-form", "max(far.values()) < 1e-9", "np.allclose(w[2], np.diag(np.diag(w[2])))", 3,
     "diagonal-is-enough"),
    ("which-form", "max(far.values()) < 1e-9", "not bw[2].any()", 2.5, "probed-at-zero"),
    ("which-form", "max(far.values()) < 1e-9",
     "not bw[2].any() and not (w[2] - np.diag(np.diag(w[2]))).any()",
     3.5, "equal-resets-overlooked"),
    ("which-form", "return min(", "return max(", 1.5, "names-exchanged"),
    ("made-alike", "    bw[2] = 0\n", "", 1, "bw-kept"),
    ("made-alike", "bw[2] = 0", "bw = 0 * bw", 1, "bw-of-the-gates-too"),
    ("made-alike", "bw[2] = 0", "bw[1] = 0", 1, "bw-of-another-block"),
    ("made-alike", "w[2] * np.eye(len(w[2]))", "0", 1, "all-of-w"),
    ("made-alike", "np.eye(len(w[2]))", "(1 - np.eye(len(w[2])))", 1, "diagonal-zeroed"),
    ("made-alike", "w[2] * np.eye(len(w[2]))", "np.eye(len(w[2]))", 1, "identity"),
    ("made-alike", "w[2] * np.eye(len(w[2]))", "np.triu(w[2])", 1, "one-triangle"),
    ("made-alike", "w[2] = w[2] * np.eye(len(w[2]))", "w *= np.eye(len(w[2]), dtype=w.dtype)", 1,
     "gates-too"),
    ("made-alike", "w, bw = w.copy(), bw.copy()\n", "pass\n", 0, "overwrites-w"),
    ("made-alike", "    w[2] = w[2] * np.eye(len(w[2]))\n",
     "    w = w * np.stack([np.ones_like(w[2]), np.ones_like(w[2]), np.eye(len(w[2]))])\n", 1.5,
     "double-precision"),
    ("count-parameters", "biases * U", "U", 1.25, "one-bias-only"),
    ("count-parameters", " + biases * U", "", 1.25, "biases-forgotten"),
    ("count-parameters", "biases * U", "biases", 1.25, "a-number-for-a-vector"),
    ("count-parameters", "U * U + ", "", 0, "no-recurrent-weights"),
    ("count-parameters", "U * U", "D * D", 0, "features-squared"),
    ("count-parameters", "3 * block, 4 * block + 3", "4 * block, 4 * block + 3", 4, "coupled-has-four"),
    ("count-parameters", "3 * block, 4 * block + 3", "2 * block, 4 * block + 3", 4, "coupled-has-two"),
    ("count-parameters", "return block, 3", "return block, 2", 4, "gru-has-two"),
    ("count-parameters", "+ 3 * U", "+ 3 * U * U", 4, "full-peepholes"),
    ("count-parameters", "+ 3 * U", "+ 4 * U", 4, "peepholes-of-four"),
    ("count-parameters", "+ 3 * U", "+ U", 4, "peephole-of-one"),
    ("count-parameters", "4 * block + 3 * U", "3 * U", 4, "peepholes-alone"),
    ("peephole-step", "p[2] * new", "p[2] * c", 2, "output-sees-the-old-state"),
    ("peephole-step", "p[2] * new", "p[2] * np.tanh(new)", 2, "output-sees-the-squashed-state"),
    ("peephole-step", "a_o + p[2] * new", "a_o", 2, "output-without-peephole"),
    ("peephole-step", "a_f + p[1] * c", "a_f + p[1] * h", 0, None),
    ("peephole-step", "    i = 1", "    p = 0 * p\n    i = 1", 0, "no-peepholes"),
    ("peephole-step", "np.tanh(a_g)", "np.tanh(a_g + p[0] * c)", 0, "candidate-peeps"),
    ("peephole-step", "    i = 1", "    p = p[[1, 0, 2]]\n    i = 1", 0, "rows-exchanged"),
    ("peephole-step", "a_i, a_f, a_g, a_o =", "a_i, a_f, a_o, a_g =", 0, "gates-first"),
    ("peephole-step", "f * c + i * np.tanh(a_g)", "i * c + f * np.tanh(a_g)", 0, "write-and-keep-exchanged"),
    ("peephole-step", "o * np.tanh(new)", "o * new", 2, "tanh-left-out"),
    ("peephole-step", "o * np.tanh(new)", "o * np.tanh(c)", 2, "old-state-read"),
    ("peephole-step", "h @ w[k]", "h @ w[k].T", 1, "w-transposed"),
    ("peephole-step", "o * np.tanh(new), new", "new, o * np.tanh(new)", 0, "states-exchanged"),
    ("coupled-lstm", COUPLE, "c = i * c + (1 - i) * g", 2, "wrong-gate-drives"),
    ("coupled-lstm", COUPLE, "c = c + i * g", 2, "forget-gate-open"),
    ("coupled-lstm", COUPLE, "c = i * c + i * g", 2, "tied-not-coupled"),
    ("coupled-lstm", COUPLE, "c = (1 - i) * c + g", 2, "candidate-not-gated"),
    ("coupled-lstm", "o * c.tanh()", "o * c", 2, "tanh-left-out"),
    ("coupled-lstm", "o * c.tanh()", "c.tanh()", 2, "output-gate-left-out"),
    ("coupled-lstm", "a[1].tanh(), a[2].sigmoid()", "a[2].tanh(), a[1].sigmoid()", 2, "candidate-last"),
    ("coupled-lstm", "torch.nn.Parameter(", "(", 4, "not-registered"),
    ("coupled-lstm", "torch.nn.Parameter(torch.zeros(3, hidden_size))", "torch.zeros(3, hidden_size)", 4,
     "bias-not-registered"),
    ("coupled-lstm", "(3, ", "(4, ", 4, "four-blocks"),
    ("coupled-lstm", ZEROS, "torch.zeros(len(x), self.w.shape[1])", 2.5, "zeros-on-the-cpu"),
    ("coupled-lstm", ZEROS, "torch.zeros(len(x), self.w.shape[1], device=x.device)", 3.75,
     "zeros-of-float32"),
    ("coupled-lstm", ZEROS, "torch.zeros(len(x), self.w.shape[1], dtype=x.dtype)", 3.75,
     "zeros-not-on-the-device"),
    ("coupled-lstm", COUPLE, "c *= 1 - i\n            c += i * g", 3.75, "in-place"),
    ("coupled-lstm", "if state is None", "if True", 4, "state-ignored"),
    ("coupled-lstm", "h, c = state", "c, h = state", 4, "start-exchanged"),
    ("coupled-lstm", "h, c = state", "h, c = (s.detach() for s in state)", 4.75, "start-detached"),
    ("coupled-lstm", "outputs.append(h)", "outputs.append(h)\n            h, c = h.detach(), c.detach()",
     4.25,
     "state-detached"),
    ("coupled-lstm", "outputs.append(h)", "outputs.append(c)", 3.5, "cell-state-returned"),
    ("coupled-lstm", "dim=1), (h, c)", "dim=1), (c, h)", 2.75, "last-exchanged"),
    ("coupled-lstm", "dim=1), (h, c)", "dim=0), (h, c)", 3.25, "time-first"),
    ("coupled-lstm", "torch.stack(outputs, dim=1), (h, c)", "h, (h, c)", 3.25, "last-step-alone"),
]  # fmt: skip


# Errors that cost points in their own tasks alone.
SPOILT = {"gru_after": (MIX, "z * n + (1 - z) * h"), "gru_before": ("(r * h) @ w[2]", "r * (h @ w[2])")}


def test_swapped_shares_are_said_in_these_words():
    names = SOLUTION.written(merge_state=(MERGE, "z * np.tanh(an) + (1 - z) * h"))
    report = checks.merge_state.grade(names["merge_state"]).report
    assert "z and 1 - z are swapped. Here z = 1 keeps the old state" in " ".join(report.split())


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (COUPLE, "c *= 1 - i\n            c += i * g", "changed a tensor in place that autograd needs"),
        (COUPLE, COUPLE + " if c.sum() < 1e9 else c", "needs a tensor's values on the CPU"),
        (ZEROS, "torch.zeros(len(x), self.w.shape[1], device=x.device)", "float32 and float64 meet"),
        ("h, c = state\n", "h, c = (one.detach() for one in state)\n", "It is that by h0, c0."),
    ],
)
def test_what_goes_wrong_in_torch_alone_is_said_in_words(right, wrong, said):
    report = SOLUTION.grade(checks.coupled_lstm, coupled_lstm=(right, wrong)).report
    assert said in " ".join(report.split())


# Other honest ways, from the text of the assignment alone.


def merge_state_by_a_stable_sigmoid(az, an, h):
    small = np.exp(-np.abs(az))
    z = np.where(az > 0, 1 / (1 + small), small / (1 + small))
    n = np.tanh(an)
    return [z, n + z * (h - n)]


def gru_after_by_einsum(x, h, u, w, b, bw):
    by_input = np.einsum("nd,kdu->knu", x, u) + b[:, None]
    by_state = np.einsum("ni,kiu->knu", h, w) + bw[:, None]
    gates = 0.5 * np.tanh(0.5 * (by_input + by_state)[:2]) + 0.5
    n = np.tanh(by_input[2] + gates[1] * by_state[2])
    return n - gates[0] * (n - h)


def gru_before_side_by_side(x, h, u, w, b, bw):
    inputs, state = (np.concatenate([a, np.ones_like(a[:, :1])], 1) for a in (x, h))
    wide = [np.concatenate([u[k], b[k : k + 1], w[k], bw[k : k + 1]]) for k in range(3)]
    z, r = (1 / (1 + np.exp(-np.concatenate([inputs, state], 1) @ block)) for block in wide[:2])
    reset = state * np.concatenate([r, np.ones_like(r[:, :1])], 1)
    new = np.zeros_like(h)
    for row in range(len(x)):
        candidate = np.tanh(np.concatenate([inputs, reset], 1)[row] @ wide[2])
        new[row] = candidate * (1 - z[row]) + z[row] * h[row]
    return new


def gru_backward_in_wide_matrices(g, x, before, u, w, z, r, n, m):
    wide_u, wide_w = (np.concatenate(list(a), axis=1) for a in (u, w))
    dn = (g - g * z) * (1 - n * n)
    by_input = np.concatenate([(before - n) * g * (z - z * z), dn * m * (r - r * r), dn], axis=1)
    by_state = by_input * np.concatenate([np.ones_like(z), np.ones_like(z), r], axis=1)
    U = g.shape[1]

    def blocks(a):
        return np.stack([a[..., k * U : k * U + U] for k in range(3)])

    du, dw = blocks(x.T @ by_input), blocks(before.T @ by_state)
    db, dbw = blocks(by_input.sum(0)), blocks(by_state.sum(0))
    return [by_input @ wide_u.T, by_state @ wide_w.T + z * g, du, dw, db, dbw]


def which_form_by_allclose(step, forms, u, w, b, bw):
    rng, fits = np.random.default_rng(), {"after": True, "before": True}
    for _ in range(50):
        x, h = rng.uniform(-2, 2, (4, u.shape[1])), rng.uniform(-1, 1, (4, w.shape[2]))
        for name in fits:
            fits[name] &= np.allclose(step(x, h), forms[name](x, h, u, w, b, bw), atol=1e-9, rtol=0)
    return "either" if all(fits.values()) else next(name for name in fits if fits[name])


def made_alike_entry_by_entry(w, bw):
    w, bw = np.array(w), np.array(bw)
    for i, j in np.ndindex(*w[2].shape):
        if i != j:
            w[2, i, j] = 0
    bw[-1, :] = 0
    return w, bw


def count_parameters_by_arrays(D, U, biases):
    def block():
        return sum(np.zeros(shape).size for shape in [(D, U), (U, U)] + biases * [(U,)])

    counts = [sum(block() for _ in gates) for gates in ("h", "zrn", "ifgo", "igo", "ifgo")]
    counts[-1] += np.zeros((3, U)).size
    return counts


def peephole_step_stacked(x, h, c, u, w, b, p):
    a = x @ u + h @ w + b[:, None]
    a[:2] += p[:2, None] * c
    i, f = 1 / (1 + np.exp(-a[:2]))
    c = c * f + i * np.tanh(a[2])
    return [np.tanh(c) / (1 + np.exp(-a[3] - p[2] * c)), c]


class WideCoupledLSTM(torch.nn.Module):
    """Blocks side by side, the input's products before the loop, and a state of zeros by torch.zeros."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        for name, shape in (("b", ()), ("w", (hidden_size,)), ("u", (input_size,))):
            start = torch.empty(3, *shape, hidden_size).uniform_(-0.1, 0.1)
            self.register_parameter(name, torch.nn.Parameter(start))

    def forward(self, x, state=None):
        h, c = state or torch.zeros(2, x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
        wide = torch.cat(tuple(self.w), dim=1)
        projected = (x @ torch.cat(tuple(self.u), dim=1) + self.b.flatten()).unbind(1)
        rows = []
        for row in projected:
            i, g, o = (row + h @ wide).chunk(3, dim=-1)
            c = torch.lerp(c, torch.tanh(g), torch.sigmoid(i))
            h = torch.sigmoid(o) * torch.tanh(c)
            rows += [h[:, None]]
        return torch.cat(rows, 1), (h, c)


def run_of(module):
    """The function of the notebook that runs a module, with another one."""
    names = SOLUTION.written()
    names["CoupledLSTM"] = module
    return names["run_coupled_lstm"]


run_wide_coupled_lstm = run_of(WideCoupledLSTM)


HONEST = [
    (checks.merge_state, merge_state_by_a_stable_sigmoid),
    (checks.gru_after, gru_after_by_einsum),
    (checks.gru_before, gru_before_side_by_side),
    (checks.gru_backward, gru_backward_in_wide_matrices),
    (checks.which_form, which_form_by_allclose),
    (checks.made_alike, made_alike_entry_by_entry),
    (checks.count_parameters, count_parameters_by_arrays),
    (checks.peephole_step, peephole_step_stacked),
    (checks.coupled_lstm, run_wide_coupled_lstm),
]


# The library, which puts the blocks side by side, in torch's order.

RZN = [1, 0, 2]


def side_by_side(*stacks, order=None):
    return [np.concatenate(list(stack if order is None else stack[order]), axis=-1) for stack in stacks]


def stacked(a, order):
    return np.stack(np.split(a, len(order), axis=-1))[list(order)]


def gru_after_of_the_library(x, h, *weights):
    return cells.gru_step_forward(x, h, *side_by_side(*weights, order=RZN))[0]


def gru_before_of_the_library(x, h, *weights):
    return cells.gru_step_forward(x, h, *side_by_side(*weights, order=RZN), reset="before")[0]


def gru_backward_of_the_library(g, x, before, u, w, z, r, n, m):
    """As if the step had been made with a bias that gives these gates."""
    b = np.zeros((3, g.shape[1]), g.dtype)
    cell = cells.GRUCell(*side_by_side(u, w, b, b, order=RZN))
    state = cells.RNNState(before)
    dz, dbefore = cell.step_backward(cells.RNNState(g), state, state, (np.concatenate([r, z], 1), n, m))
    gradients = cell.gradients(x[None], cells.RNNState(before[None]), state, dz[None])
    rest = (stacked(a, RZN) for a in gradients[1:])
    return gradients.dx[0], dbefore.h, *rest


def which_form_of_the_library(step, forms, u, w, b, bw):
    x, h = (np.sin(np.outer(np.arange(99), 1 + np.arange(a.shape[1]))) for a in (u, w))
    told = {"after": gru_after_of_the_library, "before": gru_before_of_the_library}
    fits = [name for name, form in told.items() if np.abs(step(x, h) - form(x, h, u, w, b, bw)).max() < 1e-9]
    return fits[0] if len(fits) == 1 else "either"


def count_parameters_of_the_library(D, U, biases):
    def count(weights):
        return sum(a.size for name, a in weights.items() if name in "uwp") + biases * weights["b"].size

    common = {"rng": np.random.default_rng(0), "recurrent": "identity"}
    options = {}, {"coupled": "input"}, {"peepholes": True}
    plain, gated = cells.initial_weights(D, U, **common), cells.initial_gru_weights(D, U, **common)
    long = [cells.initial_lstm_weights(D, U, **common, **option) for option in options]
    return tuple(map(count, (plain, gated, *long)))


def peephole_step_of_the_library(x, h, c, u, w, b, p):
    return tuple(cells.lstm_step_forward(x, h, c, *side_by_side(u, w, b), p=p)[0])


def coupled_lstm_of_the_library(x, u, w, b, h0=None, c0=None):
    u, w, b = (torch.cat(tuple(a), dim=-1) for a in (u, w, b))
    cell = cells.LSTMCell(u, w, b, coupled="input")
    before = cell.initial(x.swapaxes(0, 1)) if h0 is None else cells.LSTMState(h0, c0)
    shapes = {name: (3, *a.shape[:-1], a.shape[-1] // 3) for name, a in (("u", u), ("w", w), ("b", b))}
    h = []
    for z in cell.project(x).unbind(1):
        before, _ = cell.step(z, before)
        h.append(before.h)
    return shapes, torch.stack(h, dim=1), *before


SHORTCUTS = [
    (checks.gru_after, gru_after_of_the_library),
    (checks.gru_before, gru_before_of_the_library),
    (checks.gru_backward, gru_backward_of_the_library),
    (checks.which_form, which_form_of_the_library),
    (checks.count_parameters, count_parameters_of_the_library),
    (checks.peephole_step, peephole_step_of_the_library),
    (checks.coupled_lstm, coupled_lstm_of_the_library),
]


class TorchsLSTM(torch.nn.Module):
    """torch's own, made to look as if it were coupled."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.u = torch.nn.Parameter(torch.zeros(3, input_size, hidden_size))
        self.w = torch.nn.Parameter(torch.zeros(3, hidden_size, hidden_size))
        self.b = torch.nn.Parameter(torch.zeros(3, hidden_size))

    def forward(self, x, state=None):
        def rows(a):
            return torch.cat([a[0].mT, -a[0].mT, a[1].mT, a[2].mT])

        h, c = state or x.new_zeros(2, len(x), self.w.shape[1])
        outputs = []
        for step in x.unbind(1):
            bias = torch.cat([self.b[0], -self.b[0], self.b[1], self.b[2]])
            h, c = torch.lstm_cell(step, (h, c), rows(self.u), rows(self.w), bias)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)


def test_torchs_lstm_with_tied_weights_agrees_and_earns_nothing():
    run, check = run_of(TorchsLSTM), checks.coupled_lstm
    score = check.grade(run, watched=False)
    assert score.points == check.points, score.report
    score = check.grade(run)
    assert score.points == 0 and score.shortcut == "torch.lstm_cell"


def gru_after_of_torch(x, h, u, w, b, bw):
    weights = [torch.from_numpy(np.concatenate([a[k] for k in RZN], -1).T.copy()) for a in (u, w, b, bw)]
    return torch.gru_cell(torch.from_numpy(x), torch.from_numpy(h), *weights).numpy()


def test_torchs_gru_is_the_form_with_the_reset_after_the_product_and_earns_nothing():
    check = checks.gru_after
    score = check.grade(gru_after_of_torch, watched=False)
    assert score.points == check.points, score.report
    score = check.grade(gru_after_of_torch)
    assert score.points == 0 and score.shortcut.startswith("torch.")


def test_the_stranger_in_the_notebook_is_recognised():
    names = SOLUTION.written()
    torch.manual_seed(0)
    step, weights = names["torch_box"](3, 5)
    forms = {"after": names["gru_after"], "before": names["gru_before"]}
    assert names["which_form"](step, forms, *weights) == "after"


def test_made_alike_makes_the_forms_agree_and_no_zero_is_too_many(rng):
    D, U = 3, 4
    u, w, b, bw = (rng.normal(size=shape) for shape in ((3, D, U), (3, U, U), (3, U), (3, U)))
    x, h = rng.normal(size=(50, D)), rng.normal(size=(50, U))

    def gap(w, bw):
        forms = checks.step_after, checks.step_before
        after, before = (form(x, h, u, w, b, bw) for form in forms)
        return np.abs(after - before).max()

    alike_w, alike_bw = checks.made_alike.reference(w, bw)
    assert gap(alike_w, alike_bw) < 1e-12
    for k in np.argwhere((alike_w == 0) & (w != 0)):
        one_back = alike_w.copy()
        one_back[tuple(k)] = 1.0
        assert gap(one_back, alike_bw) > 1e-4
    for k in range(U):
        one_back = alike_bw.copy()
        one_back[2, k] = 1.0
        assert gap(alike_w, one_back) > 1e-4


def test_the_backward_step_is_autograds(rng):
    N, D, U = 3, 2, 5
    shapes = (N, D), (N, U), (3, D, U), (3, U, U), (3, U), (3, U)
    leaves = [torch.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]
    x, h, u, w, b, bw = leaves
    z, r = (torch.sigmoid(x @ u[k] + b[k] + h @ w[k] + bw[k]) for k in (0, 1))
    m = h @ w[2] + bw[2]
    n = torch.tanh(x @ u[2] + b[2] + r * m)
    g = torch.tensor(rng.normal(size=(N, U)))
    wanted = torch.autograd.grad((1 - z) * n + z * h, leaves, g)
    given = [a.detach().numpy() for a in (g, x, h, u, w, z, r, n, m)]
    for mine, theirs in zip(checks.gru_backward.reference(*given), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_coupled_gates_are_those_of_an_lstm_whose_forget_gate_is_tied(rng):
    N, T, D, U = 2, 6, 3, 4
    x, u, w, b = (rng.normal(size=shape) for shape in ((N, T, D), (3, D, U), (3, U, U), (3, U)))
    tied = side_by_side(*(np.stack([a[0], -a[0], a[1], a[2]]) for a in (u, w, b)))
    h, cache = recurrent.lstm_forward(x.swapaxes(0, 1), *tied)
    _, found, last_h, last_c = checks.coupled_lstm.reference(*map(torch.tensor, (x, u, w, b)))
    np.testing.assert_allclose(found, h.swapaxes(0, 1), atol=1e-12)
    np.testing.assert_allclose(last_h, h[-1], atol=1e-12)
    np.testing.assert_allclose(last_c, cache.states.c[-1], atol=1e-12)


def test_the_experiment_comes_out_as_its_mark_scheme_says():
    names = SOLUTION.written()

    def gaps(gain, opened=0.0):
        rng = np.random.default_rng(0)
        u, w = rng.normal(size=(3, 4, 32)) / 2, gain * rng.normal(size=(3, 32, 32)) / math.sqrt(32)
        b, bw, found = np.zeros((3, 32)), np.zeros((3, 32)), []
        b[1] = opened
        after = before = np.zeros((20, 32))
        for _ in range(40):
            x = rng.normal(size=(20, 4))
            after = names["gru_after"](x, after, u, w, b, bw)
            before = names["gru_before"](x, before, u, w, b, bw)
            found.append(np.linalg.norm(after - before) / np.linalg.norm(before))
        return np.array(found)[[0, 1, 9, 39]]

    table = np.array([gaps(gain) for gain in (0.1, 0.5, 1, 3)])
    assert (table[:, 0] == 0).all() and (np.diff(table[:, 1:], axis=0) > 0).all()
    np.testing.assert_allclose(table[:3, 2], [0.01, 0.06, 0.14], rtol=0.3)
    assert (np.abs(table[:3, 3] / table[:3, 2] - 1) < 0.3).all() and 0.6 < table[3, 3] < 1
    assert (gaps(1, 5.0)[1:] < 0.2 * table[2, 1:]).all()


@pytest.mark.skipif(sys.platform != "linux", reason="hand-ins run on Linux")
def test_a_module_and_a_black_box_are_graded_in_a_process_of_their_own():
    """Autograd goes through the student's module from outside; a black box answers from outside."""
    from coursekit.grading.execution.executor import Executor

    tasks = "which-form", "coupled-lstm"
    given = cell(SOLUTION.cells["setup"], "locked", "setup")
    answers = [cell(SOLUTION.cells[task], "solution", task) for task in tasks]
    calls = "checks.gru.which_form(which_form)", "checks.gru.coupled_lstm(run_coupled_lstm)"
    tests = [
        cell(call, "test", f"test-{task}", SOLUTION.checks[task.replace("-", "_")].points)
        for call, task in zip(calls, tasks, strict=True)
    ]
    source = notebook(given, *answers, *tests)
    wrong = {
        "which-form": SOLUTION.cells["which-form"].replace(DRAWN, "np.zeros((1000, w.shape[1]))"),
        "coupled-lstm": SOLUTION.cells["coupled-lstm"].replace("torch.nn.Parameter(", "("),
    }
    patient = Limits(call_seconds=20.0)  # others may use the machine, too
    with Executor(["numpy", "torch"]) as executor:
        honest = executor.run(job(source, limits=patient)).scores
        caught = executor.run(job(source, answered(source, wrong), limits=patient)).scores
    for test in tests:
        mark = test.metadata["nbgrader"]
        assert honest[mark["grade_id"]].points == mark["points"], honest[mark["grade_id"]]
    said = {name: score.record["misconceptions"] for name, score in caught.items()}
    assert said == {"test-which-form": ["probed-at-zero"], "test-coupled-lstm": ["not-registered"]}
