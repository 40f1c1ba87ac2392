"""The checks of the assignment `lstm`: its solution, slips in its text, shortcuts, references."""

from __future__ import annotations

import inspect
import math
import sys

import numpy as np
import pytest
import torch
from grading_notebooks import answered, cell, job, notebook
from solution_text import SolutionText

from coursekit import cells, recurrent
from coursekit.checks import lstm as checks

SOLUTION = SolutionText("lstm")


C = "c_after = f * c + i * g"
SHOW = "o * np.tanh(c_after), c_after"
SUM = 'x @ p["w_ih"].T + p["b_ih"] + h @ p["w_hh"].T + p["b_hh"]'
FOUR = "a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)"
MEM = "c_after = f * c + i * np.tanh(a_g)"
SQ = "(1 + np.tanh(part / 2)) / 2"
SETB = "b_ih[units : 2 * units] = bias"
SETZ = "b_hh[units : 2 * units] = 0\n"
HEARD = "heard = dc + dh * o * (1 - shown**2)"
OUT = "return heard * g, heard * c, heard * i, dh * shown, heard * f"
JOIN = "np.concatenate(parts, axis=1)"
PARTS = "di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)"
KEEP = "h, c = np.where(runs, h_new, h), np.where(runs, c_new, c)"
INTO = "(dh[:, t] + dh_next) * runs, dc_next * runs"
BACK = "dh_next, dc_next = np.where(runs, dh_before, dh_next), np.where(runs, dc_before, dc_next)"
COLLECT = "dp = {name: dp.get(name, 0) + d for name, d in dp_t.items()}"
HEAR = "np.linalg.norm(by_c) / np.linalg.norm(dc)"
BIASES = 'p["b_ih"].copy(), p["b_hh"].copy()'
STEP = '            _, by_h, by_c, _ = rungs["step_backward"](by_h, by_c, records[t], opened)\n'
LEFT = f"            left[b, t] = {HEAR}\n"
SETTINGS = '"overwrite": (1, 0, 0), "hold": (0, 1, 0), "show": (0, 1, 1), "add": (1, 1, 1)'
# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("gates", "i, f, g, o = np.split", "i, o, f, g = np.split", 1.25, "onnx-order"),
    ("gates", "i, f, g, o = np.split", "i, f, o, g = np.split", 2, "sigmoids-first"),
    ("gates", "i, f, g, o = np.split", "i, g, f, o = np.split", 2, "candidate-second"),
    ("gates", "i, f, g, o = np.split", "f, i, g, o = np.split", 2, "forget-first"),
    ("gates", "np.split(a, 4, axis=1)", "(a[:, k::4] for k in range(4))", 0, "interleaved"),
    ("gates", "np.split(a, 4, axis=1)", "a.reshape(4, len(a), -1)", 1, "rows-for-blocks"),
    ("gates", "sigmoid(f), np.tanh(g)", "sigmoid(f), sigmoid(g)", 3, "sigmoid-everywhere"),
    ("gates", "sigmoid(f), np.tanh(g)", "sigmoid(f), g", 3, "candidate-linear"),
    ("gates", "(1 + np.tanh(a / 2)) / 2", "np.tanh(a)", 1, "tanh-everywhere"),
    ("gates", "(1 + np.tanh(a / 2)) / 2", "(1 + np.tanh(a)) / 2", 1.75, "too-steep"),
    ("gates", "(1 + np.tanh(a / 2)) / 2", "1 / (1 + np.exp(a))", 1, "gates-turned"),
    ("gates", "(1 + np.tanh(a / 2)) / 2", "np.exp(a) / (1 + np.exp(a))", 3.25, "overflow"),
    ("gates", "(1 + np.tanh(a / 2)) / 2", "np.clip(a / 4 + 0.5, 0, 1)", 1.75, "hard-sigmoid"),
    ("gates", "(1 + np.tanh(a / 2)) / 2", "a", 1, "no-activation"),
    ("gates", "return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)",
     "return np.concatenate([sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)], axis=1)", 0, "not-split"),
    ("gates", "return sigmoid(i)",
     "a[:] = np.concatenate([sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)], axis=1)\n    return "
     "sigmoid(i)", 0, "overwrites-a"),
    ("gates", "return (1", "return np.ones(a.shape) * (1", 3.25, "double-precision"),
    ("update", SHOW, "o * c_after, c_after", 1.5, "tanh-left-out"),
    ("update", SHOW, "o / (1 + np.exp(-c_after)), c_after", 1.5, "sigmoid-of-c"),
    ("update", SHOW, "o * np.tanh(c), c_after", 1.5, "old-state-shown"),
    ("update", SHOW, "o * np.tanh(g), c_after", 1.5, "candidate-shown"),
    ("update", SHOW, "np.tanh(o * c_after), c_after", 1.5, "gate-inside-tanh"),
    ("update", SHOW, "np.tanh(c_after), c_after", 1.5, "always-shown"),
    ("update", SHOW, "c_after, o * np.tanh(c_after)", 0, "states-swapped"),
    ("update", SHOW, "o * np.tanh(c_after), o * np.tanh(c_after)", 1.5, "h-kept-for-c"),
    ("update", C, "c_after = o * (f * c + i * g)", 0, "output-gate-twice"),
    ("update", C + "\n    return " + SHOW,
     "c_after = o * (f * c + i * g)\n    return np.tanh(c_after), c_after", 0, "output-gate-on-c"),
    ("update", C + "\n    return " + SHOW,
     "c_after = np.tanh(f * c + i * g)\n    return o * c_after, c_after", 1.5, "c-squashed"),
    ("update", C, "c_after = np.tanh(f * c + i * g)", 0, "c-squashed-twice"),
    ("update", C, "c_after = i * c + f * g", 0, "kept-and-written-swapped"),
    ("update", C, "c_after = (1 - f) * c + i * g", 0, "forget-gate-turned"),
    ("update", C, "c_after = c + i * g", 0, "never-forgets"),
    ("update", C, "c_after = f * c + g", 0, "always-written"),
    ("update", C, "c_after = i * g", 0, "nothing-kept"),
    ("update", C, "c_after = f * c + (1 - f) * g", 0, "coupled"),
    ("update", C, "c_after = f * (c + i * g)", 0, "forget-gate-on-all"),
    ("update", C, "c_after = i * (f * c + g)", 0, "input-gate-on-all"),
    ("update", C, "c_after = f * c * i * g", 0, "gates-multiplied"),
    ("update", C, "c_after = f * c + i * np.tanh(g)", 0, "candidate-squashed-again"),
    ("update", C, "c *= f\n    c += i * g\n    c_after = c", 0, "overwrites-c"),
    ("update", C, C + " + np.zeros(c.shape)", 2.5, "double-precision"),
    ("step", FOUR, FOUR.replace("a_f, a_g, a_o", "a_o, a_f, a_g"), 0, "onnx-order"),
    ("step", FOUR, FOUR.replace("a_g, a_o", "a_o, a_g"), 0, "sigmoids-first"),
    ("step", FOUR, FOUR.replace("a_f, a_g", "a_g, a_f"), 0, "candidate-second"),
    ("step", FOUR, FOUR.replace("a_i, a_f", "a_f, a_i"), 0, "forget-first"),
    ("step", FOUR, FOUR.replace("np.split(a, 4, axis=1)", "(a[:, k::4] for k in range(4))"), 0,
     "interleaved"),
    ("step", ' + p["b_hh"]', "", 0, "second-bias-forgotten"),
    ("step", ' + p["b_ih"]', "", 0, "first-bias-forgotten"),
    ("step", 'p["b_hh"]', 'p["b_ih"]', 0, "one-bias-twice"),
    ("step", SUM, 'x @ p["w_ih"].T + h @ p["w_hh"].T', 0, "biases-forgotten"),
    ("step", ' + h @ p["w_hh"].T', "", 0, "not-recurrent"),
    ("step", 'x @ p["w_ih"].T + p["b_ih"]', 'p["b_ih"]', 0, "input-ignored"),
    ("step", 'h @ p["w_hh"].T', 'c @ p["w_hh"].T', 0, "gates-read-c"),
    ("step", SUM,
     'x @ p["w_ih"].reshape(x.shape[1], -1) + p["b_ih"] + h @ p["w_hh"].reshape(h.shape[1], -1) + p["b_hh"]',
     0, "reshaped-weights"),
    ("step", "a = " + SUM, f"a = np.tanh({SUM})", 0, "squashed-first"),
    ("step", 'x @ p["w_ih"].T', 'x @ p["w_ih"]', 0, None),
    ("step", "np.tanh(a_g)", "(1 + np.tanh(a_g / 2)) / 2", 0, "sigmoid-everywhere"),
    ("step", SQ, "np.tanh(part)", 0, "tanh-everywhere"),
    ("step", "o * np.tanh(c_after), c_after", "o * c_after, c_after", 1.5, "tanh-left-out"),
    ("step", "o * np.tanh(c_after), c_after", "o * np.tanh(c), c_after", 1.5, "old-state-shown"),
    ("step", "o * np.tanh(c_after), c_after", "c_after, o * np.tanh(c_after)", 0, "states-swapped"),
    ("step", MEM, "c_after = f * h + i * np.tanh(a_g)", 0, "old-c-lost"),
    ("step", MEM, "c_after = np.tanh(f * c + i * np.tanh(a_g))", 0, "c-squashed-twice"),
    ("step", MEM, "c_after = o * (f * c + i * np.tanh(a_g))", 0, "output-gate-twice"),
    ("step", MEM, "c_after = c + i * np.tanh(a_g)", 0, "never-forgets"),
    ("step", MEM, "c_after = (1 - i) * c + i * np.tanh(a_g)", 0, "coupled-to-the-input-gate"),
    ("step", MEM, "c_after = f * c + (1 - f) * np.tanh(a_g)", 0, "coupled"),
    ("step", "return o * np.tanh(c_after), c_after",
     "h[...], c[...] = o * np.tanh(c_after), c_after\n    return h, c", 0, "overwrites-the-states"),
    ("step", MEM, MEM + " + np.zeros(c.shape)", 2.5, "double-precision"),
    ("set-forget-bias", SETZ, "b_hh[units : 2 * units] = bias\n", 1.5, "set-in-both"),
    ("set-forget-bias", SETZ, "\n", 1.5, "second-left"),
    ("set-forget-bias", SETB + "\n    " + SETZ, "b_hh[units : 2 * units] = bias\n", 1.5, "first-left"),
    ("set-forget-bias", SETB + "\n    " + SETZ, "b_ih[units : 2 * units] += bias\n", 1.5, "added"),
    ("set-forget-bias", SETB + "\n    " + SETZ, "b_ih[:], b_hh[:] = bias, 0\n", 1.5, "all-blocks"),
    ("set-forget-bias", SETB + "\n    " + SETZ, "b_ih[:] = bias\n", 0, "all-blocks-of-the-first"),
    ("set-forget-bias", "[units : 2 * units]", "[:units]", 0, "input-block"),
    ("set-forget-bias", "[units : 2 * units]", "[2 * units : 3 * units]", 0, "third-block"),
    ("set-forget-bias", "[units : 2 * units]", "[3 * units :]", 0, "last-block"),
    ("set-forget-bias", "[units : 2 * units]", "[1::4]", 0, "interleaved"),
    ("set-forget-bias", "[units : 2 * units]", "[units]", 1.5, "one-unit"),
    ("set-forget-bias", BIASES, 'np.zeros_like(p["b_ih"]), np.zeros_like(p["b_hh"])', 1.5, "rest-at-zero"),
    ("set-forget-bias", SETB, "b_ih[units : 2 * units] = 1 / (1 + math.exp(-bias))", 1.5, "gate-for-offset"),
    ("set-forget-bias", SETB, "b_ih[units : 2 * units] = -bias", 1.5, "sign-turned"),
    ("set-forget-bias", "{**p, ", "{", 1.5, "offsets-alone"),
    ("set-forget-bias", BIASES, 'p["b_ih"], p["b_hh"]', 0, "shallow-copy"),
    ("set-forget-bias", BIASES, 'p["b_ih"], p["b_hh"].copy()', 0, "shallow-copy-of-the-first"),
    ("set-forget-bias", BIASES, 'p["b_ih"] + np.zeros(4 * units), p["b_hh"] + np.zeros(4 * units)', 2,
     "double-precision"),
    ("update-backward", HEARD, "heard = dh * o * (1 - shown**2)", 2, "dc-not-carried-in"),
    ("update-backward", HEARD, "heard = dc", 2, "path-through-h-missing"),
    ("update-backward", HEARD, "heard = dc + dh * o", 2, "slope-forgotten"),
    ("update-backward", HEARD, "heard = dc + dh * (1 - shown**2)", 2, "output-gate-forgotten"),
    ("update-backward", HEARD, "heard = dc + dh * o * shown", 2, "tanh-for-its-slope"),
    ("update-backward", HEARD, "heard = dc + dh * o * (1 - c_after**2)", 2, "slope-without-tanh"),
    ("update-backward", HEARD, "heard = dc + dh * o * (1 - np.tanh(shown) ** 2)", 2, "slope-at-the-tanh"),
    ("update-backward", HEARD, "heard = dc + dh * o * (1 - np.tanh(c) ** 2)", 2, "slope-of-the-old-c"),
    ("update-backward", HEARD, "heard = dc + dh * o * shown * (1 - shown)", 2, "slope-of-a-sigmoid"),
    ("update-backward", HEARD, "heard = (dc + dh) * o * (1 - shown**2)", 2, "dc-through-tanh"),
    ("update-backward", HEARD, "heard = (dc + dh * o) * (1 - shown**2)", 2, "dc-through-the-slope"),
    ("update-backward", HEARD, "heard = o * (dc + dh * (1 - shown**2))", 2, "dc-through-the-output-gate"),
    ("update-backward", OUT, OUT.replace("heard * g, heard * c", "heard * c, heard * g"), 3,
     "input-and-forget-swapped"),
    ("update-backward", OUT,
     OUT.replace("heard * g, heard * c, heard * i", "heard * i, heard * c, heard * g"), 3,
     "input-and-candidate-swapped"),
    ("update-backward", OUT, OUT.replace("heard * c,", "heard * c_after,"), 4, "new-c-in-df"),
    ("update-backward", OUT, OUT.replace("heard * c,", "heard * np.tanh(c),"), 4, "tanh-of-c-in-df"),
    ("update-backward", OUT, OUT.replace("dh * shown", "dh * c_after"), 4.25, "c-without-tanh-in-do"),
    ("update-backward", OUT, OUT.replace("dh * shown", "dh * np.tanh(c)"), 4.25, "old-c-in-do"),
    ("update-backward", OUT, OUT.replace("dh * shown", "heard * shown"), 4, "output-gate-hears-c"),
    ("update-backward", OUT, OUT.replace("dh * shown", "dh * shown * (1 - shown**2)"), 4.25, "slope-in-do"),
    ("update-backward", OUT, OUT.replace("heard * f", "heard"), 4, "forget-gate-forgotten"),
    ("update-backward", OUT, OUT.replace("heard * f", "heard * i"), 4, "input-gate-on-the-way-back"),
    ("update-backward", OUT, OUT.replace("heard * f", "dc * f"), 4.25, "only-dc-goes-on"),
    ("update-backward", OUT, OUT.replace("heard * f", "(heard - dc) * f"), 4.25, "dc-goes-on-unread"),
    ("update-backward", OUT,
     "return heard * g * i * (1 - i), heard * c * f * (1 - f), heard * i * (1 - g**2), dh * shown * o * "
     "(1 - o), heard * f", 1.25, "slopes-too-early"),
    ("update-backward", HEARD, "dc += dh * o * (1 - shown**2)\n    heard = dc", 1.25, "overwrites-dc"),
    ("update-backward", HEARD, HEARD + " + np.zeros(c.shape)", 4, "double-precision"),
    ("gates-backward", PARTS,
     "di * sigmoid(i) * (1 - sigmoid(i)), df * sigmoid(f) * (1 - sigmoid(f)), dg * (1 - np.tanh(g) ** 2), "
     "do * sigmoid(o) * (1 - sigmoid(o))", 0, "slope-at-the-value"),
    ("gates-backward", "(1 - g**2)", "(1 - np.tanh(g) ** 2)", 0, "slope-of-g-at-the-value"),
    ("gates-backward", "dg * (1 - g**2)", "dg * g * (1 - g)", 0, "sigmoid-slopes-everywhere"),
    ("gates-backward", PARTS, "di * (1 - i**2), df * (1 - f**2), dg * (1 - g**2), do * (1 - o**2)", 0,
     "tanh-slopes-everywhere"),
    ("gates-backward", PARTS, "di, df, dg, do", 0, "slopes-forgotten"),
    ("gates-backward", PARTS, "di, df, dg * (1 - g**2), do", 0, "slopes-of-the-gates-forgotten"),
    ("gates-backward", " * (1 - g**2)", "", 0, "slope-of-g-forgotten"),
    ("gates-backward", PARTS, "di * (1 - i), df * (1 - f), dg * (1 - g**2), do * (1 - o)", 0, "half-a-slope"),
    ("gates-backward", PARTS, "di * i, df * f, dg * (1 - g**2), do * o", 0, "value-for-slope"),
    ("gates-backward", "(1 - g**2)", "(1 - g)", 0, "slope-not-squared"),
    ("gates-backward", PARTS, "di / (i * (1 - i)), df / (f * (1 - f)), dg / (1 - g**2), do / (o * (1 - o))",
     0, "slopes-divided"),
    ("gates-backward", JOIN, "np.concatenate([parts[0], parts[3], parts[1], parts[2]], axis=1)", 0,
     "onnx-order"),
    ("gates-backward", JOIN, "np.concatenate([parts[0], parts[1], parts[3], parts[2]], axis=1)", 0,
     "sigmoids-first"),
    ("gates-backward", JOIN, "np.concatenate([parts[0], parts[2], parts[1], parts[3]], axis=1)", 0,
     "candidate-second"),
    ("gates-backward", JOIN, "np.concatenate([parts[1], parts[0], parts[2], parts[3]], axis=1)", 0,
     "forget-first"),
    ("gates-backward", JOIN, "np.stack(parts, axis=2).reshape(len(i), -1)", 0, "interleaved"),
    ("gates-backward", JOIN, "np.concatenate(parts)", 0, "blocks-below-each-other"),
    ("gates-backward", JOIN, "np.stack(parts, axis=1)", 0, "four-arrays"),
    ("gates-backward", JOIN, JOIN + " * np.ones(1)", 1.5, "double-precision"),
    ("step-backward", 'da @ p["w_ih"], ', 'da @ p["w_ih"].T.reshape(p["w_ih"].shape), ', 2, "reshaped-w_ih"),
    ("step-backward", 'da @ p["w_hh"], dp', 'da @ p["w_hh"].T.reshape(p["w_hh"].shape), dp', 2,
     "reshaped-w_hh"),
    ("step-backward", 'da @ p["w_hh"], dp', 'da[:, : h.shape[1]] @ p["w_hh"][: h.shape[1]], dp', 2,
     "one-gate-only"),
    ("step-backward", 'da.T @ x, "w_hh": da.T @ h', 'x.T @ da, "w_hh": h.T @ da', 2, "transposed-weights"),
    ("step-backward", "da.T @ x", "x.T @ da", 2, "transposed-w_ih"),
    ("step-backward", "da.T @ h", "h.T @ da", 2, "transposed-w_hh"),
    ("step-backward", 'da.T @ x, "w_hh": da.T @ h',
     '(x.T @ da).reshape(p["w_ih"].shape), "w_hh": (h.T @ da).reshape(p["w_hh"].shape)', 2,
     "reshaped-gradients"),
    ("step-backward", 'da.T @ x, "w_hh": da.T @ h', 'da.T @ h, "w_hh": da.T @ x', 2, "keys-swapped"),
    ("step-backward", '"w_ih": da.T @ x, "w_hh": da.T @ h, "b_ih": offsets, "b_hh"',
     '"dw_ih": da.T @ x, "dw_hh": da.T @ h, "db_ih": offsets, "db_hh"', 2, "names-with-d"),
    ("step-backward", '"b_hh": offsets', '"b_hh": 0 * offsets', 2, "second-offset-without-gradient"),
    ("step-backward", "offsets = da.sum(axis=0)", "offsets = da.sum(axis=0) / 2", 2, "offsets-share"),
    ("step-backward", "offsets = da.sum(axis=0)", "offsets = da", 2, "offsets-of-each-sequence"),
    ("step-backward", "da.sum(axis=0)", "da.mean(axis=0)", 2.25, "offsets-averaged"),
    ("step-backward", "da.sum(axis=0)", "da.sum(axis=1)", 2, "offsets-over-the-gates"),
    ("step-backward", "da.sum(axis=0)", "da.sum(axis=0, keepdims=True)", 2, "offsets-not-flat"),
    ("step-backward", "return da", "dp = {name: d / len(x) for name, d in dp.items()}\n    return da", 2.25,
     "batch-averaged"),
    ("step-backward", "offsets = da", "da = np.zeros(da.shape) + da\n    offsets = da", 2.25,
     "double-precision"),
    ("sequence", "x[:, t], h, c, p)", "x[:, t], h, c0, p)", 0, "c-not-carried"),
    ("sequence", "x[:, t], h, c, p)", "x[:, t], h0, c, p)", 0, "h-not-carried"),
    ("sequence", "x[:, t], h, c, p)", "x[:, t], h0, c0, p)", 0, "nothing-carried"),
    ("sequence", "[], h0, c0", "[], 0 * h0, 0 * c0", 0, "start-ignored"),
    ("sequence", "[], h0, c0", "[], h0, 0 * c0", 0, "start-of-c-ignored"),
    ("sequence", "[], h0, c0", "[], 0 * h0, c0", 0, "start-of-h-ignored"),
    ("sequence", "[], h0, c0", "[], c0, h0", 0, "starts-swapped"),
    ("sequence", "(t < lengths)", "(t < lengths + x.shape[1])", 0.75, "lengths-ignored"),
    ("sequence", KEEP, "h, c = h_new, c_new", 1.5, "states-go-on"),
    ("sequence", KEEP, "h, c = h_new, np.where(runs, c_new, c)", 2.25, "h-goes-on"),
    ("sequence", KEEP, "h, c = np.where(runs, h_new, h), c_new", 2.25, "c-goes-on"),
    ("sequence", KEEP, "h, c = h_new * runs, c_new * runs", 1.5, "states-lost"),
    ("sequence", "h * runs", "h", 2.25, "padding-not-empty"),
    ("sequence", "h * runs", "h_new", 2.25, "padding-shown"),
    ("sequence", "t < lengths", "t <= lengths", 0.75, "one-step-too-many"),
    ("sequence", "t < lengths", "t < lengths - 1", 0, "one-step-too-few"),
    ("sequence", "t < lengths", "x.shape[1] - t <= lengths", 0.75, "padding-in-front"),
    ("sequence", "t < lengths", "t < 0 * lengths + lengths.min()", 0.75, "cut-to-the-shortest"),
    ("sequence", "axis=1), h, c", "axis=1), outputs[-1], c", 2.25, "last-column"),
    ("sequence", "h * runs", "c * runs", 2, "c-for-output"),
    ("sequence", "axis=1), h, c", "axis=1), c, h", 1, "last-states-swapped"),
    ("sequence", "axis=1)", "axis=0)", 2, "time-first"),
    ("sequence", "in range(x.shape[1])", "in reversed(range(x.shape[1]))", 0, "backwards-in-time"),
    ("sequence", "[], h0, c0", "[], h0 + np.zeros(h0.shape), c0", 2.25, "double-precision"),
    ("sequence-backward", INTO, "(dh[:, t] + dh_next) * runs, 0 * dc_next", 0, "c-left-out"),
    ("sequence-backward", BACK,
     BACK.replace("np.where(runs, dc_before, dc_next)", "np.where(runs, 0 * dc_before, dc_next)"), 0.75,
     "dc-not-carried"),
    ("sequence-backward", BACK, BACK.replace("np.where(runs, dc_before, dc_next)", "dc_last"), 0.75,
     "same-dc-at-every-step"),
    ("sequence-backward", BACK,
     BACK.replace("np.where(runs, dh_before, dh_next)", "np.where(runs, 0 * dh_before, dh_next)"), 0.75,
     "dh-not-carried"),
    ("sequence-backward", BACK,
     "dh_next, dc_next = np.where(runs, 0 * dh_before, dh_next), np.where(runs, 0 * dc_before, dc_next)", 0.5,
     "nothing-carried"),
    ("sequence-backward", "(dh[:, t] + dh_next)", "dh_next", 0, "own-output-dropped"),
    ("sequence-backward", "(dh[:, t] + dh_next)", "(2 * dh[:, t] + dh_next)", 0, "own-output-twice"),
    ("sequence-backward", "(dh[:, t] + dh_next)", "(dh_next + dh[:, t] * (t == dh.shape[1] - 1))", 1,
     "last-output-only"),
    ("sequence-backward", "{}, dh_last, dc_last", "{}, 0 * dh_last, dc_last", 0, "dh_last-ignored"),
    ("sequence-backward", "{}, dh_last, dc_last", "{}, dh_last, 0 * dc_last", 0, "dc_last-ignored"),
    ("sequence-backward", "{}, dh_last, dc_last", "{}, 0 * dh_last, 0 * dc_last", 0, "last-states-ignored"),
    ("sequence-backward", "{}, dh_last, dc_last", "{}, dc_last, dh_last", 0, "last-states-swapped"),
    ("sequence-backward", "dx, dp, dh_next",
     "dh = dh.copy()\n    dh[:, -1] += dh_last\n    dh_last = 0 * dh_last\n    dx, dp, dh_next", 2,
     "last-at-the-end"),
    ("sequence-backward", "(t < lengths)", "(t < lengths + dh.shape[1])", 2, "lengths-ignored"),
    ("sequence-backward", BACK, "dh_next, dc_next = dh_before, dc_before", 2, "lost-in-the-padding"),
    ("sequence-backward", INTO, "dh[:, t] + dh_next, dc_next", 3.5, "padding-goes-through"),
    ("sequence-backward", BACK, BACK.replace("dh_before, dh_next)", "dh_before, dh_next + dh[:, t])"), 2,
     "padding-heard"),
    ("sequence-backward", BACK, BACK.replace("np.where(runs, dc_before, dc_next)", "dc_before"), 2,
     "dc-lost-in-the-padding"),
    ("sequence-backward", "t < lengths", "t <= lengths", 2, "one-step-too-many"),
    ("sequence-backward", "t < lengths", "t < lengths - 1", 0, "one-step-too-few"),
    ("sequence-backward", COLLECT, "dp = dp_t", 4, "weights-of-step-0"),
    ("sequence-backward", COLLECT, "dp = dp or dp_t", 4, "weights-of-the-last-step"),
    ("sequence-backward", "dh_next, dc_next, dp\n",
     "dh_next, dc_next, {name: d / dh.shape[1] for name, d in dp.items()}\n", 4, "averaged-over-time"),
    ("sequence-backward", "dh_next, dc_next, dp\n",
     "dh_next, dc_next, {name: d / len(dh) for name, d in dp.items()}\n", 3.75, "averaged-over-the-batch"),
    ("sequence-backward", "in reversed(range(dh.shape[1]))", "in range(dh.shape[1])", 1, "forward-in-time"),
    ("sequence-backward", "dx[::-1]", "dx", 4, "not-turned-back"),
    ("sequence-backward", "axis=1)", "axis=0)", 3.75, "time-first"),
    ("sequence-backward", "dh_next, dc_next, dp\n", "dc_next, dh_next, dp\n", 2.5, "starts-swapped"),
    ("sequence-backward", "dh_next, dc_next, dp\n", "dh_next, 0 * dc_next, dp\n", 3.75,
     "start-of-c-without-gradient"),
    ("sequence-backward", "dh_next, dc_next, dp\n", "0 * dh_next, 0 * dc_next, dp\n", 2.5,
     "starts-without-gradient"),
    ("sequence-backward", "dx, dp, dh_next", "dh[:, -1] += dh_last\n    dx, dp, dh_next", 0, "overwrites-dh"),
    ("sequence-backward", COLLECT, COLLECT.replace("dp.get(name, 0)", "dp.get(name, np.zeros(d.shape))"),
     4.75, "double-precision"),
    ("gate-settings", '(0, 1, 0), "show": (0, 1, 1), "add": (1, 1, 1)',
     '(0, 0, 0), "show": (0, 0, 1), "add": (1, 1, 1)', 2.5, "closed-to-hold"),
    ("gate-settings", SETTINGS,
     '"overwrite": (1, 1, 0), "hold": (0, 0, 0), "show": (0, 0, 1), "add": (1, 0, 1)', 2,
     "forget-gate-turned"),
    ("gate-settings", '"hold": (0, 1, 0), "show": (0, 1, 1)', '"hold": (1, 1, 0), "show": (1, 1, 1)', 2.5,
     "written-while-held"),
    ("gate-settings", '"overwrite": (1, 0, 0), "hold": (0, 1, 0)',
     '"overwrite": (1, 0, 1), "hold": (0, 1, 1)', 2.5, "always-shown"),
    ("gate-settings", '"overwrite": (1, 0, 0), "hold": (0, 1, 0), "show": (0, 1, 1)',
     '"overwrite": (1, 0, 1), "hold": (0, 1, 0), "show": (0, 1, 0)', 2.5, "output-gate-writes"),
    ("gate-settings", '"add": (1, 1, 1)', '"add": (1, 0, 1)', 2.75, "coupled"),
    ("gate-settings", '"overwrite": (1, 0, 0)', '"overwrite": (0, 0, 0)', 2.75, "nothing-written"),
    ("gate-settings", '"overwrite": (1, 0, 0)', '"overwrite": (1, 1, 0)', 2.75, "kept-while-overwritten"),
    ("gate-settings", '"hold": (0, 1, 0)', '"hold": (0, 0, 0)', 2.75, "all-closed-to-hold"),
    ("gate-settings", '"hold": (0, 1, 0)', '"hold": (0, 1, 1)', 2.75, "shown-while-held"),
    ("gate-settings", '"show": (0, 1, 1)', '"show": (0, 1, 0)', 2.75, "hidden-while-kept"),
    ("gate-settings", '"add": (1, 1, 1)', '"add": (0, 1, 1)', 2.75, "nothing-added"),
    ("gate-settings", '"add": (1, 1, 1)', '"add": (1, 1, 0)', 2.75, "hidden-while-written"),
    ("remaining", "first + 1 : last + 1", "first : last + 1", 0, "first-step-included"),
    ("remaining", "first + 1 : last + 1", "first + 1 : last", 0, "last-step-left-out"),
    ("remaining", "first + 1 : last + 1", "first : last", 0, "one-step-early"),
    ("remaining", "[:, first + 1 : last + 1]", "", 0, "all-steps"),
    ("remaining", "np.prod(f[", "np.sum(f[", 0.5, "added"),
    ("remaining", "np.prod(f[", "np.mean(f[", 0.5, "averaged"),
    ("remaining", "axis=1)", "axis=1) ** (1 / (last - first))", 0.5, "per-step"),
    ("remaining", "np.prod(f[", "np.prod(1 - f[", 0, "forgotten-for-kept"),
    ("remaining", "np.prod(f[", "1 - np.prod(f[", 0, "lost-share"),
    ("remaining", "np.prod(f[", "np.min(f[", 0.5, "smallest-gate"),
    ("remaining", "np.prod(f[", "np.prod((f - f**2)[", 0, "slopes-for-gates"),
    ("remaining", "np.prod(f[", "np.sum(np.log(f)[", 0, "logarithm-left"),
    ("remaining", "axis=1)", "axis=2)", 0, "over-the-units"),
    ("remaining", "axis=1)", "axis=(1, 2))", 0, "one-number"),
    ("remaining", "return np", "return np.ones(1) * np", 1.5, "double-precision"),
    ("bias-for", "return math.log(f / (1 - f))", "return f", 0, "gate-for-offset"),
    ("bias-for", "math.log(f / (1 - f))", "math.log(f)", 0, "logarithm-alone"),
    ("bias-for", "math.log(f / (1 - f))", "math.log((1 - f) / f)", 0, "sign-turned"),
    ("bias-for", "math.log(f / (1 - f))", "math.atanh(f)", 0, "inverse-of-tanh"),
    ("bias-for", "math.log(f / (1 - f))", "math.log10(f / (1 - f))", 0, "logarithm-to-base-ten"),
    ("bias-for", "share ** (1 / steps)", "share", 0, "one-step"),
    ("bias-for", "share ** (1 / steps)", "1 - (1 - share) / steps", 0, "loss-spread-evenly"),
    ("bias-for", "share ** (1 / steps)", "share / steps", 0, "share-divided"),
    ("bias-for", "share ** (1 / steps)", "1 - 1 / steps", 0, "share-ignored"),
    ("bias-for", "share ** (1 / steps)", "(1 - share) ** (1 / steps)", 0, "lost-for-left"),
    ("bias-for", "share ** (1 / steps)", "share ** (1 / (steps - 1))", 0, "one-step-too-few"),
    ("bias-for", "share ** (1 / steps)", "share**steps", 0, "power-for-root"),
    ("gradients-left", 'rungs["set_forget_bias"](p, bias)', "p", 0, "bias-not-set"),
    ("gradients-left", "by_h, by_c, records[t]", "0 * by_h, by_c, records[t]", 0, "carousel-alone"),
    ("gradients-left", "by_h, by_c, records[t]", "by_h, 0 * by_c, records[t]", 0, "h-alone"),
    ("gradients-left", "by_h, by_c, records[t]", "by_h, by_c + dc, records[t]", 0, "loss-at-every-step"),
    ("gradients-left", "by_h, by_c = np.zeros_like(dc), dc", "by_h, by_c = dc, np.zeros_like(dc)", 0,
     "started-at-h"),
    ("gradients-left", "by_h, by_c = np.zeros_like(dc), dc", "by_h, by_c = dc, dc", 0, "started-at-both"),
    ("gradients-left", "norm(by_c)", "norm(by_h)", 0, "h-measured"),
    ("gradients-left", " / np.linalg.norm(dc)", "", 0, "not-divided"),
    ("gradients-left", "left[b, t] = ", "left[b, -1 - t] = ", 0, "last-step-first"),
    ("gradients-left", HEAR, "np.sum(by_c**2) / np.sum(dc**2)", 0, "squares"),
    ("gradients-left", HEAR, "np.abs(by_c).max() / np.abs(dc).max()", 0, "largest-entry"),
    ("gradients-left", HEAR, "np.abs(by_c).mean() / np.abs(dc).mean()", 0, "absolute-values"),
    ("gradients-left", HEAR, "np.linalg.norm(by_c, 2) / np.linalg.norm(dc, 2)", 0, "spectral-norm"),
    ("gradients-left", "return left", "return left.T", 0, "steps-for-biases"),
    ("gradients-left", STEP + LEFT, LEFT + STEP, 0, "one-step-late"),
]  # fmt: skip


# Errors that cost points in their own rungs alone.
SPOILT = {
    "gates": ("i, f, g, o = np.split", "i, o, f, g = np.split"),
    "update": (SHOW, "o * c_after, c_after"),
    "update_backward": (HEARD, "heard = dh * o * (1 - shown**2)"),
}


@pytest.mark.parametrize(
    ("task", "right", "wrong", "said"),
    [
        ("gates", "i, f, g, o = np.split", "i, o, f, g = np.split", "as torch has them: i, f, g, o"),
        ("update", SHOW, "o * c_after, c_after", "tanh(c) is left out"),
        ("set_forget_bias", SETZ, "b_hh[units : 2 * units] = bias\n", "twice what you wanted"),
        ("sequence_backward", INTO, "(dh[:, t] + dh_next) * runs, 0 * dc_next", "c is not carried"),
    ],
)
def test_the_best_known_mistakes_are_said_in_these_words(task, right, wrong, said):
    report = SOLUTION.grade(SOLUTION.checks[task], **{task: (right, wrong)}).report
    assert said in " ".join(report.split())
    assert "Read gates/lstm.html#" in report


# Other honest ways, from the text of the assignment alone.


def gates_by_slices(a):
    U = a.shape[1] // 4
    out = [np.empty((len(a), U), a.dtype) for _ in range(4)]
    for k in range(4):
        block = a[:, k * U : (k + 1) * U]
        out[k][:] = np.tanh(block) if k == 2 else 1 / (1 + np.exp(-block))
    return out


def update_by_lists(i, f, g, o, c):
    new = np.array(c)
    new *= f
    new += np.multiply(g, i)
    e = np.exp(-2 * np.abs(new))
    return [np.sign(new) * (1 - e) / (1 + e) * o, new]


def step_gate_by_gate(x, h, c, p):
    U = h.shape[1]

    def block(k):
        rows = slice(k * U, k * U + U)
        by_input = np.einsum("nd,ud->nu", x, p["w_ih"][rows])
        return by_input + np.inner(h, p["w_hh"][rows]) + (p["b_ih"] + p["b_hh"])[rows]

    i, f, o = (1 / (1 + np.exp(-block(k))) for k in (0, 1, 3))
    new = i * np.tanh(block(2)) + c * f
    return [np.tanh(new) * o, new]


def set_forget_bias_in_halves(p, bias):
    q = {name: np.array(a) for name, a in p.items()}
    for j in range(len(q["b_ih"]) // 4, len(q["b_ih"]) // 2):
        q["b_ih"][j] = bias / 2
        q["b_hh"][j] = bias - bias / 2
    return q


def set_forget_bias_by_the_difference(p, bias):
    forget = np.repeat(np.arange(4) == 1, len(p["b_ih"]) // 4)
    b_hh = np.where(forget, np.asarray(bias, p["b_ih"].dtype) - p["b_ih"], p["b_hh"])
    return dict(p, b_hh=b_hh)


def update_backward_by_cosh(dh, dc, i, f, g, o, c, c_after):
    heard = o * dh / np.cosh(c_after) ** 2 + dc
    return [g * heard, c * heard, i * heard, np.tanh(f * c + i * g) * dh, f * heard]


def gates_backward_in_one_array(di, df, dg, do, i, f, g, o):
    da = np.hstack([di, df, dg, do])
    values = np.hstack([i, f, g, o])
    third = np.repeat([False, False, True, False], i.shape[1])
    return da * np.where(third, (1 - values) * (1 + values), values - values * values)


def step_backward_by_rows(da, x, h, p):
    dp = {name: np.zeros_like(a) for name, a in p.items()}
    for n in range(len(da)):
        dp["w_ih"] += np.outer(da[n], x[n])
        dp["w_hh"] += np.outer(da[n], h[n])
        for name in ("b_ih", "b_hh"):
            dp[name] += da[n]
    return [np.einsum("nk,kd->nd", da, p["w_ih"]), np.einsum("nk,kd->nd", da, p["w_hh"]), dp]


def sequence_one_by_one(x, h0, c0, p, lengths, rungs):
    h = np.zeros((*x.shape[:2], h0.shape[1]), x.dtype)
    h_last, c_last = np.array(h0), np.array(c0)
    for n, length in enumerate(lengths):
        for t in range(length):
            h_last[n : n + 1], c_last[n : n + 1], _ = rungs["step"](
                x[n : n + 1, t], h_last[n : n + 1].copy(), c_last[n : n + 1].copy(), p
            )
            h[n, t] = h_last[n]
    return h, h_last, c_last


def sequence_backward_from_each_end(dh, dh_last, dc_last, records, p, lengths, rungs):
    """Without handing on: what the last states hear enters at every sequence's own last step."""
    T, total = dh.shape[1], {name: np.zeros_like(a) for name, a in p.items()}
    by_h, by_c = np.zeros_like(dh_last), np.zeros_like(dc_last)
    dx = [None] * T
    for t in range(T - 1, -1, -1):
        ends, exists = (lengths == t + 1)[:, None], (lengths > t)[:, None]
        by_h = by_h + ends * dh_last + exists * dh[:, t]
        by_c = by_c + ends * dc_last
        dx[t], by_h, by_c, dp = rungs["step_backward"](by_h, by_c, records[t], p)
        for name in total:
            total[name] += dp[name]
    return [np.stack(dx, 1), by_h, by_c, total]


def gate_settings_by_cases(wish):
    i = wish in ("overwrite", "add")
    f = 0.0 if wish == "overwrite" else 1.0
    return [i, f, np.float64(wish in ("show", "add"))]


def remaining_by_a_loop(f, first, last):
    factor = np.ones_like(f[:, 0])
    for t in range(last, first, -1):
        factor = factor * f[:, t]
    return factor


def bias_for_by_logarithms(steps, share):
    return -np.log(np.expm1(-np.log(share) / steps))


def gradients_left_by_lists(x, p, dc, biases, rungs):
    rows = []
    for bias in biases:
        weights, states, records = rungs["set_forget_bias"](p, bias), [0 * dc, 0 * dc], []
        for inputs in np.swapaxes(x, 0, 1):
            *states, record = rungs["step"](inputs, *states, weights)
            records += [record]
        back, row = (0 * dc, dc), []
        while records:
            back = rungs["step_backward"](*back, records.pop(), weights)[1:3]
            row.append(math.sqrt(np.sum(back[1] ** 2) / np.sum(dc**2)))
        rows.append(row[::-1])
    return np.array(rows)


HONEST = [
    (checks.gates, gates_by_slices),
    (checks.update, update_by_lists),
    (checks.step, step_gate_by_gate),
    (checks.set_forget_bias, set_forget_bias_in_halves),
    (checks.set_forget_bias, set_forget_bias_by_the_difference),
    (checks.update_backward, update_backward_by_cosh),
    (checks.gates_backward, gates_backward_in_one_array),
    (checks.step_backward, step_backward_by_rows),
    (checks.sequence, sequence_one_by_one),
    (checks.sequence_backward, sequence_backward_from_each_end),
    (checks.gate_settings, gate_settings_by_cases),
    (checks.remaining, remaining_by_a_loop),
    (checks.bias_for, bias_for_by_logarithms),
    (checks.gradients_left, gradients_left_by_lists),
]


# The library, which puts time first and a column for each number that a weight makes; and torch.


def turned(p):
    return p["w_ih"].T, p["w_hh"].T, p["b_ih"], p["b_hh"]


def turned_back(gradients):
    return {"w_ih": gradients.du.T, "w_hh": gradients.dw.T, "b_ih": gradients.db, "b_hh": gradients.dbw}


def step_of_the_library(x, h, c, p):
    return tuple(cells.lstm_step_forward(x, h, c, *turned(p))[0])


def gates_backward_of_the_library(di, df, dg, do, i, f, g, o):
    sigmoid, tanh = (cells.named_activation(name).slope for name in ("sigmoid", "tanh"))
    parts = di * sigmoid(np, i), df * sigmoid(np, f), dg * tanh(np, g), do * sigmoid(np, o)
    return np.concatenate(parts, axis=1)


def sequence_of_the_library(x, h0, c0, p, lengths, rungs):
    h, cache = recurrent.lstm_forward(x.swapaxes(0, 1), *turned(p), h0=h0, c0=c0, lengths=lengths)
    return h.swapaxes(0, 1), cache.states.h[-1], cache.states.c[-1]


def sequence_backward_of_the_library(dh, dh_last, dc_last, records, p, lengths, rungs):
    x, h0, c0 = np.stack([record[0] for record in records]), *records[0][1:3]
    _, cache = recurrent.lstm_forward(x, *turned(p), h0=h0, c0=c0, lengths=lengths)
    last = cells.LSTMState(dh_last, dc_last)
    gradients = recurrent.lstm_backward(dh.swapaxes(0, 1), cache, last)
    return gradients.dx.swapaxes(0, 1), gradients.dh0, gradients.dc0, turned_back(gradients)


def gradients_left_of_the_library(x, p, dc, biases, rungs):
    left = np.zeros((len(biases), x.shape[1]))
    for row, bias in zip(left, biases, strict=True):
        weights, kept, (h, c) = turned(rungs["set_forget_bias"](p, bias)), [], (0 * dc, 0 * dc)
        for t in range(x.shape[1]):
            (h, c), cache = cells.lstm_step_forward(x[:, t], h, c, *weights)
            kept.append(cache)
        by_h, by_c = 0 * dc, dc
        for t in reversed(range(x.shape[1])):
            gradients = cells.lstm_step_backward(by_h, by_c, kept[t])
            by_h, by_c = gradients.dh, gradients.dc
            row[t] = np.linalg.norm(by_c) / np.linalg.norm(dc)
    return left


def gates_by_torch(a):
    i, f, g, o = torch.tensor(a).chunk(4, dim=1)
    return i.sigmoid().numpy(), f.sigmoid().numpy(), g.tanh().numpy(), o.sigmoid().numpy()


def step_by_torch(x, h, c, p):
    x, h, c = (torch.tensor(a) for a in (x, h, c))
    weights = [torch.tensor(p[name]) for name in checks.NAMES]
    return tuple(a.numpy() for a in torch.lstm_cell(x, (h, c), *weights))


def torchs_lstm(p):
    units, features = p["w_hh"].shape[1], p["w_ih"].shape[1]
    net = torch.nn.LSTM(features, units, batch_first=True, dtype=torch.tensor(p["w_ih"]).dtype)
    long = [f"{kind}_{side}_l0" for kind in ("weight", "bias") for side in ("ih", "hh")]
    state = {name: torch.tensor(p[short]) for name, short in zip(long, checks.NAMES, strict=True)}
    net.load_state_dict(state)
    return net


def by_torch(x, h0, c0, p, lengths):
    """Outputs and last states of torch's LSTM, and the leaves that they came from."""
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, h0, c0)]
    net = torchs_lstm(p)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        leaves[0], torch.as_tensor(lengths), batch_first=True, enforce_sorted=False
    )
    h, (h_last, c_last) = net(packed, (leaves[1][None], leaves[2][None]))
    h, _ = torch.nn.utils.rnn.pad_packed_sequence(h, batch_first=True, total_length=x.shape[1])
    return (h, h_last[0], c_last[0]), [*leaves, *net.parameters()]


def sequence_by_torch(x, h0, c0, p, lengths, rungs):
    return tuple(a.detach().numpy() for a in by_torch(x, h0, c0, p, lengths)[0])


def sequence_backward_by_torch(dh, dh_last, dc_last, records, p, lengths, rungs):
    x, h0, c0 = np.stack([record[0] for record in records], axis=1), *records[0][1:3]
    results, leaves = by_torch(x, h0, c0, p, lengths)
    upstream = [torch.tensor(a) for a in (dh, dh_last, dc_last)]
    dx, dh0, dc0, *weights = (a.numpy() for a in torch.autograd.grad(results, leaves, upstream))
    return dx, dh0, dc0, dict(zip(checks.NAMES, weights, strict=True))


SHORTCUTS = [
    (checks.step, step_of_the_library),
    (checks.gates_backward, gates_backward_of_the_library),
    (checks.sequence, sequence_of_the_library),
    (checks.sequence_backward, sequence_backward_of_the_library),
    (checks.gradients_left, gradients_left_of_the_library),
    (checks.gates, gates_by_torch),
    (checks.step, step_by_torch),
    (checks.sequence, sequence_by_torch),
    (checks.sequence_backward, sequence_backward_by_torch),
]


@pytest.mark.skipif(sys.platform != "linux", reason="hand-ins run on Linux")
def test_the_functions_that_the_checks_hand_out_may_be_called_in_a_notebook_that_has_torch():
    from coursekit.grading.execution.executor import Executor

    tasks = "sequence", "sequence-backward", "gradients-left"
    given = cell("import numpy as np\nimport torch\nfrom coursekit import checks", "locked", "given")
    answers = [cell(SOLUTION.cells[task], "solution", task) for task in tasks]
    names = [task.replace("-", "_") for task in tasks]
    tests = [
        cell(f"checks.lstm.{name}({name})", "test", f"test-{task}", SOLUTION.checks[name].points)
        for task, name in zip(tasks, names, strict=True)
    ]
    source = notebook(given, *answers, *tests)
    cheat = inspect.getsource(sequence_one_by_one).replace("sequence_one_by_one", "sequence")
    cheat = cheat.replace("    h = ", "    torch.zeros(1)\n    h = ", 1)
    with Executor(["numpy", "torch"]) as executor:
        honest = executor.run(job(source)).scores
        caught = executor.run(job(source, answered(source, {"sequence": cheat}))).scores
    for test in tests:
        mark = test.metadata["nbgrader"]
        assert honest[mark["grade_id"]].points == mark["points"]
    assert caught["test-sequence"].points == 0
    assert caught["test-sequence"].record["shortcut"].startswith("torch.")


def test_a_rung_that_is_handed_out_does_not_open_the_others(rng):
    def by_the_reference(x, h0, c0, p, lengths, rungs):
        return checks._sequence(x, h0, c0, p, lengths, rungs)

    score = checks.sequence.grade(by_the_reference)
    assert score.points == 0 and score.shortcut.startswith("coursekit.checks.lstm")


def test_what_is_left_along_c_is_what_the_forget_gates_leave(rng):
    """With no way through h, the gradient by c is dc times the gates, whatever they are."""
    x, dc = rng.normal(size=(3, 7, 2)), rng.normal(size=(3, 4))
    p = {name: rng.normal(size=16) for name in ("b_ih", "b_hh")}
    p |= {"w_ih": rng.normal(size=(16, 2)), "w_hh": np.zeros((16, 4))}
    left = checks.gradients_left.reference(x, p, dc, [0.5], checks.RUNGS)[0]
    opened = checks.set_forget_bias.reference(p, 0.5)
    a = x @ opened["w_ih"].T + opened["b_ih"] + opened["b_hh"]
    f = 1 / (1 + np.exp(-a[:, :, 4:8]))
    factor = checks.remaining.reference(np.insert(f, 0, 1, axis=1), 0, 7)
    assert np.isclose(left[0], np.linalg.norm(dc * factor) / np.linalg.norm(dc))


@pytest.mark.parametrize(("steps", "share"), [(1, 0.75), (10, 0.5), (200, 0.1)])
def test_the_offset_leaves_the_share_that_was_asked_for(steps, share):
    gate = 1 / (1 + math.exp(-checks.bias_for.reference(steps, share)))
    f = np.full((1, steps + 1, 1), gate)
    assert np.isclose(checks.remaining.reference(f, 0, steps)[0, 0], share)


def test_the_rungs_of_the_solution_make_torchs_lstm(rng):
    names = SOLUTION.written()
    x, lengths = rng.normal(size=(4, 6, 3)), np.array([6, 1, 4, 6])
    net = torch.nn.LSTM(3, 5, batch_first=True, dtype=torch.float64)
    p, zero = names["weights_of"](net), np.zeros((4, 5))
    rungs = {"step": names["record_step"], "step_backward": names["record_step_backward"]}
    results, leaves = by_torch(x, zero, zero, p, lengths)
    for mine, theirs in zip(names["sequence"](x, zero, zero, p, lengths, rungs), results, strict=True):
        np.testing.assert_allclose(mine, theirs.detach(), atol=1e-12)
    upstream = [rng.normal(size=result.shape) for result in results]
    records, states = [], (zero, zero)
    for t in range(6):
        *states, record = names["record_step"](x[:, t], *states, p)
        records.append(record)
    *mine, dp = names["sequence_backward"](*upstream, records, p, lengths, rungs)
    theirs = torch.autograd.grad(results, leaves, [torch.tensor(a) for a in upstream])
    for a, b in zip([*mine, *(dp[name] for name in checks.NAMES)], theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_the_offset_decides_as_the_mark_scheme_says():
    """Wide margins: a net at its start rounds otherwise on another processor."""
    names = SOLUTION.written()
    shut, opened = ([names["train_with"](bias, seed) for seed in (0, 1, 2)] for bias in (0.0, 4.0))
    assert max(shut) < 0.5 < sorted(opened)[1]


def test_the_written_answer_has_the_factors_that_it_says():
    for bias, said in ((0, 6e-61), (1, 6e-28), (5, 0.26)):
        assert np.isclose((1 / (1 + math.exp(-bias))) ** 200, said, rtol=0.1)
    assert -350 < 200 * math.log10(1 / (1 + math.exp(4))) < -348
