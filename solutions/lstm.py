# %% [markdown]
# # The long short-term memory, one gate at a time
#
# A plain recurrent net rewrites its whole state at every step, and its gradient pays for it. Here you build
# the cell that was made to do better: a memory c that nobody multiplies by a matrix, and three gates that
# say what is written, kept and shown. You write it forward and backward, run it over sequences of different
# lengths, and find out what one number, the offset of the forget gate, is worth.
#
# | rung | you write | section of the book |
# |---|---|---|
# | 1 | four gates from one product | *Write the cell down*, *Keep the blocks in order* |
# | 2 | what is kept, written and shown | *Put the pieces together*, *Write the cell down* |
# | 3 | one step forward | *Write the cell down* |
# | 4 | an open forget gate at the start | *Open the forget gate before training* |
# | 5 | back through what is kept, written and shown | *Work two steps by hand*, *Derive every gradient* |
# | 6 | back through the four activations | *Derive every gradient* |
# | 7 | back to the input, the state before and the weights | *Derive every gradient* |
# | 8 | forward over sequences of different lengths | *Write the cell down* |
# | 9 | back over sequences of different lengths | *Derive every gradient*, *Make the mistakes on purpose* |
# | 10 | which gates are open, and what they leave of a gradient | *Forget*, *Follow the two ways back* |
# | 11 | the experiment: how much a forget bias leaves | *Follow the two ways back* |
# | | an answer in words, an experiment | *Open the forget gate before training* |
#
# **How it works.** Write your code where the cell says so and run the one-line cell below it. It calls your
# function on arrays of many shapes, prints what went wrong and on which case, and shows your points. The
# same line grades your work, on other random numbers. Run it as often as you like. Each function is tested
# with its own correct inputs: an error in one does not cost you points in another.
#
# **Rules.** NumPy only. Write the functions yourself: a call to `coursekit`'s or PyTorch's own version is
# noticed. No function changes its arguments. Results have the dtype of what comes in.
#
# **Names.** N sequences in a batch, T steps, D features, U units, all counted from 0. The batch is the
# **first** axis everywhere, time the second; the pages and the library put time first. The weights are
# those that PyTorch stores, under their names there, in a dictionary `p`:
#
# | key | shape | stands next to |
# |---|---|---|
# | `"w_ih"` | (4 U, D) | the input |
# | `"w_hh"` | (4 U, U) | the hidden state before |
# | `"b_ih"`, `"b_hh"` | (4 U,) each | nothing: both are added |
#
# Every one of them holds four **blocks** of U rows, in the order i, f, g, o. Mind that a weight has a row
# for each number that it makes; in the pages it has a column. The gradient of the loss by something is d
# and its name, and has its shape.

# %% locked="setup"
import math

import numpy as np
import torch

from coursekit import checks
from coursekit.data import sequences

# %% [markdown]
# ## Rung 1. Four gates from one product
#
# A step computes one array `a` (N, 4 U). Cut it into its four blocks and send each through its activation:
#
# $$\mathbf i = \sigma(\mathbf a_i) \qquad \mathbf f = \sigma(\mathbf a_f) \qquad
# \mathbf g = \tanh(\mathbf a_g) \qquad \mathbf o = \sigma(\mathbf a_o)$$
#
# $\sigma(a) = 1 / (1 + e^{-a})$ is a share between 0 and 1. The numbers in `a` may be in the thousands, and
# no result may be `nan`. (A warning that something overflowed is not counted.)
#
# By hand: one sequence, one unit, `a = [[0, 100, -100, 0]]`. The gates are i = 0.5, f = 1, g = -1, o = 0.5.

# %% solution="gates"
def gates(a):
    """(i, f, g, o), each (N, U), from a (N, 4 U) with the blocks i, f, g, o."""
    ### BEGIN SOLUTION
    i, f, g, o = np.split(a, 4, axis=1)
    return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


def sigmoid(a):
    return (1 + np.tanh(a / 2)) / 2
    ### END SOLUTION

# %%
# Try it on the numbers that you did by hand.
print(*gates(np.array([[0.0, 100.0, -100.0, 0.0]])))

# %% check="test-gates"
checks.lstm.gates(gates)

# %% [markdown]
# ## Rung 2. What is kept, written and shown
#
# The gates are there. The new cell state is what is kept of the old one plus what is written; the new
# hidden state is what is shown of the new cell state:
#
# $$\mathbf c' = \mathbf f \odot \mathbf c + \mathbf i \odot \mathbf g \qquad
# \mathbf h' = \mathbf o \odot \tanh(\mathbf c')$$
#
# Return **h first**, then c, as PyTorch does.
#
# By hand: i = 0.5, f = 1, g = -1, o = 0.5 and c = 2 give c' = 2 - 0.5 = 1.5 and
# h' = 0.5 · tanh(1.5) = 0.4526.

# %% solution="update"
def update(i, f, g, o, c):
    """(h, c) after the step, each (N, U), from the gates and the cell state before it."""
    ### BEGIN SOLUTION
    c_after = f * c + i * g
    return o * np.tanh(c_after), c_after
    ### END SOLUTION

# %%
print(*update(*(np.array([[number]]) for number in (0.5, 1.0, -1.0, 0.5, 2.0))))

# %% check="test-update"
checks.lstm.update(update)

# %% [markdown]
# ## Rung 3. One step forward
#
# Now from the input. Each row of `w_ih` and `w_hh` belongs to one entry of $\mathbf a$, so that a step with
# rows for sequences is
#
# $$\mathbf a = \mathbf x \, \mathbf W_{ih}^\top + \mathbf b_{ih}
# + \mathbf h \, \mathbf W_{hh}^\top + \mathbf b_{hh}$$
#
# and then come the gates and the update. Write all of it here, in one piece, rather than call your rungs 1
# and 2: so an error in one of them does not follow you.
#
# By hand, with one number for everything: x = 1, h = 2, c = 4, `w_ih = [[2], [0], [1], [0]]`,
# `w_hh = [[-1], [0], [0], [50]]`, `b_ih = [0, 0, -1, 0]`, `b_hh = [0, 0, 100, 0]`. Then
# `a = [[0, 0, 100, 100]]`, so that i = f = 0.5 and g = o = 1: c' = 2.5 and h' = tanh(2.5) = 0.9866.

# %% solution="step"
def step(x, h, c, p):
    """(h, c) after the step: x (N, D), h and c (N, U) before it, p the four weights."""
    ### BEGIN SOLUTION
    a = x @ p["w_ih"].T + p["b_ih"] + h @ p["w_hh"].T + p["b_hh"]
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    i, f, o = ((1 + np.tanh(part / 2)) / 2 for part in (a_i, a_f, a_o))
    c_after = f * c + i * np.tanh(a_g)
    return o * np.tanh(c_after), c_after
    ### END SOLUTION

# %%
by_hand = {
    "w_ih": np.array([[2.0], [0.0], [1.0], [0.0]]),
    "w_hh": np.array([[-1.0], [0.0], [0.0], [50.0]]),
    "b_ih": np.array([0.0, 0.0, -1.0, 0.0]),
    "b_hh": np.array([0.0, 0.0, 100.0, 0.0]),
}
print(*step(*(np.array([[number]]) for number in (1.0, 2.0, 4.0)), by_hand))

# %% check="test-step"
checks.lstm.step(step)

# %% [markdown]
# Take the weights out of PyTorch's own cell. Does your step agree with it?

# %%
cell = torch.nn.LSTMCell(3, 5, dtype=torch.float64)
weights = {"w_ih": cell.weight_ih, "w_hh": cell.weight_hh, "b_ih": cell.bias_ih, "b_hh": cell.bias_hh}
x, h, c = torch.randn(7, 3, dtype=torch.float64), *torch.randn(2, 7, 5, dtype=torch.float64)
mine = step(x.numpy(), h.numpy(), c.numpy(), {name: w.detach().numpy() for name, w in weights.items()})
theirs = [state.detach().numpy() for state in cell(x, (h, c))]
print("the same:", np.allclose(mine[0], theirs[0]) and np.allclose(mine[1], theirs[1]))

# %% [markdown]
# ## Rung 4. An open forget gate at the start
#
# PyTorch draws all offsets near 0, so that every forget gate starts near $\sigma(0) = 0.5$. Make a
# dictionary like `p` in which the offset of the **forget gate** is `bias` in every unit. The cell adds
# `b_ih` and `b_hh`; it is their **sum** that must be `bias`. All else stays as it was drawn, and `p` itself
# and its arrays are not changed.
#
# By hand, one unit: `b_ih = [0.1, 0.2, 0.3, 0.4]`, `b_hh = [0.5, 0.6, 0.7, 0.8]`, `bias = 1.0`. The second
# entries must add up to 1, in whatever way; the other six stay.

# %% solution="set-forget-bias"
def set_forget_bias(p, bias):
    """The weights p, with b_ih + b_hh = bias in the block of the forget gate: a new dictionary."""
    ### BEGIN SOLUTION
    units = len(p["b_ih"]) // 4
    b_ih, b_hh = p["b_ih"].copy(), p["b_hh"].copy()
    b_ih[units : 2 * units] = bias
    b_hh[units : 2 * units] = 0
    return {**p, "b_ih": b_ih, "b_hh": b_hh}
    ### END SOLUTION

# %%
drawn = {"b_ih": np.array([0.1, 0.2, 0.3, 0.4]), "b_hh": np.array([0.5, 0.6, 0.7, 0.8])}
opened = set_forget_bias(drawn, 1.0)
print(opened["b_ih"] + opened["b_hh"], "was", drawn["b_ih"] + drawn["b_hh"])

# %% check="test-set-forget-bias"
checks.lstm.set_forget_bias(set_forget_bias)

# %% [markdown]
# ## Rung 5. Back through what is kept, written and shown
#
# Two gradients come in. `dh` is that of the new hidden state, and `dc` is what the *next step* says about
# the new cell state. But c' has acted on the loss in a second way as well: it is shown in h'. Find out
# first all that c' hears, from both. Then give each of the five that have made c' and h' its part.
#
# Return `di, df, dg, do, dc_before`. The first four are gradients by the gates' **values**; their
# activations come in the next rung. `c` is the cell state before the step, `c_after` the one after it.
#
# By hand, with one number for everything: dh = 2, dc = 3, i = 0.5, f = 0.25, g = -1, o = 0.5, c = 2. Then
# c' = 0.5 - 0.5 = 0, where tanh is 0 and its slope 1. So c' hears 3 + 2 · 0.5 · 1 = 4, and the results are
# -4, 8, 2, 0, 1.

# %% solution="update-backward"
def update_backward(dh, dc, i, f, g, o, c, c_after):
    """(di, df, dg, do, dc_before), all (N, U), like everything that comes in."""
    ### BEGIN SOLUTION
    shown = np.tanh(c_after)
    heard = dc + dh * o * (1 - shown**2)
    return heard * g, heard * c, heard * i, dh * shown, heard * f
    ### END SOLUTION

# %%
print(*update_backward(*(np.array([[number]]) for number in (2.0, 3.0, 0.5, 0.25, -1.0, 0.5, 2.0, 0.0))))

# %% check="test-update-backward"
checks.lstm.update_backward(update_backward)

# %% [markdown]
# ## Rung 6. Back through the four activations
#
# From the gradients by the gates' values to `da` (N, 4 U), the gradient by what went into the activations,
# with the blocks where they belong. You need not know `a`: with $s = \sigma(a)$ the slope of the sigmoid is
# $s (1 - s)$, and that of $g = \tanh(a)$ is $1 - g^2$.
#
# By hand: di = -4, df = 8, dg = 2, do = 4 with i = 0.5, f = 0.25, g = 0.5, o = 0.5 give
# `[[-1, 1.5, 1.5, 1]]`.

# %% solution="gates-backward"
def gates_backward(di, df, dg, do, i, f, g, o):
    """da (N, 4 U), from gradients by the gates' values, and those values, each (N, U)."""
    ### BEGIN SOLUTION
    parts = di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)
    return np.concatenate(parts, axis=1)
    ### END SOLUTION

# %%
print(gates_backward(*(np.array([[number]]) for number in (-4.0, 8.0, 2.0, 4.0, 0.5, 0.25, 0.5, 0.5))))

# %% check="test-gates-backward"
checks.lstm.gates_backward(gates_backward)

# %% [markdown]
# ## Rung 7. Back to the input, the state before and the weights
#
# From `da` to all that made `a`. Return three things: `dx`, `dh` (the hidden state *before* the step), and
# `dp`, a dictionary with the **keys of p**, in which each gradient has the shape of its weight.
#
# By hand: `da = [[1, 0, 0, 2]]`, x = 3, h = -1, `w_ih = [[1], [5], [5], [2]]`, `w_hh = [[0], [5], [5],
# [1]]`. Then dx = 1 + 4 = 5 and dh = 2; the gradient of `w_ih` is `[[3], [0], [0], [6]]`, that of `w_hh` is
# `[[-1], [0], [0], [-2]]`, and both offsets have `[1, 0, 0, 2]`.

# %% solution="step-backward"
def step_backward(da, x, h, p):
    """(dx, dh, dp): da (N, 4 U), x (N, D), h (N, U) before the step, p the four weights."""
    ### BEGIN SOLUTION
    offsets = da.sum(axis=0)
    dp = {"w_ih": da.T @ x, "w_hh": da.T @ h, "b_ih": offsets, "b_hh": offsets}
    return da @ p["w_ih"], da @ p["w_hh"], dp
    ### END SOLUTION

# %%
two_rows = {"w_ih": np.array([[1.0], [5.0], [5.0], [2.0]]), "w_hh": np.array([[0.0], [5.0], [5.0], [1.0]])}
two_rows |= {"b_ih": np.zeros(4), "b_hh": np.zeros(4)}
print(*step_backward(np.array([[1.0, 0.0, 0.0, 2.0]]), np.array([[3.0]]), np.array([[-1.0]]), two_rows))

# %% check="test-step-backward"
checks.lstm.step_backward(step_backward)

# %% [markdown]
# ## Rung 8. Forward over sequences of different lengths
#
# Run a step along T steps. A batch holds sequences of different lengths, filled up with padding at the end:
# sequence n has the steps 0 to `lengths[n] - 1`. Where a sequence has ended,
#
# * its output `h[n, t]` is 0,
# * and it **keeps** both states as they were after its own last step.
#
# The step comes in the dictionary `rungs`, and the check puts a *right* one there: `rungs["step"](x, h, c,
# p)` gives `h, c, record`: the states after it, and a record for the way back, which you don't need yet.
#
# Return `h` (N, T, U), `h_last` and `c_last` (N, U).
#
# By hand, with a step that only counts, h + x and c + 2 x, and no records: two sequences of the lengths 3
# and 1, one unit, all x are 1, both states start at 0. Then `h` is 1, 2, 3 in the first sequence and 1, 0,
# 0 in the second; `h_last` is 3 and 1, `c_last` is 6 and 2.

# %% solution="sequence"
def sequence(x, h0, c0, p, lengths, rungs):
    """(h, h_last, c_last): x (N, T, D), h0, c0 (N, U), lengths (N,) of integers from 1 to T."""
    ### BEGIN SOLUTION
    outputs, h, c = [], h0, c0
    for t in range(x.shape[1]):
        runs = (t < lengths)[:, None]
        h_new, c_new, _ = rungs["step"](x[:, t], h, c, p)
        h, c = np.where(runs, h_new, h), np.where(runs, c_new, c)
        outputs.append(h * runs)
    return np.stack(outputs, axis=1), h, c
    ### END SOLUTION

# %%
counting = {"step": lambda x, h, c, p: (h + x, c + 2 * x, None)}
nothing = np.zeros((2, 1))
for result in sequence(np.ones((2, 3, 1)), nothing, nothing, {}, np.array([3, 1]), counting):
    print(result[..., 0])

# %% check="test-sequence"
checks.lstm.sequence(sequence)

# %% [markdown]
# ## Rung 9. Back over sequences of different lengths
#
# `dh` (N, T, U) is what each state hears from its *own output*; `dh_last` and `dc_last` (N, U) are
# gradients by the states that every sequence ended with. From the last step to the first, and with **two**
# gradients carried: that of h and that of c. Where a sequence has no step t,
#
# * the `dh` of that output counts for nothing,
# * what is carried is **handed on** as it is, since the states were kept,
# * and neither x nor the weights hear anything.
#
# `rungs["step_backward"](dh, dc, records[t], p)` gives `dx, dh, dc, dp`: the gradients of the input of step
# t, of both states *before* it, and of the weights, a dictionary. Each sum runs over the whole batch: where
# no gradient goes in, none comes out.
#
# Return `dx` (N, T, D), `dh0`, `dc0` (N, U), and `dp`, the dictionary **accumulated** over all steps.
#
# By hand, with a step that hands back dx = dh, dh as it is, half of dc, and `{"w": sum of dh}`: two
# sequences of the lengths 2 and 1, `dh` is 10 at step 0 and 1 at step 1, `dh_last` is 0 and `dc_last` is 8.
# The first sequence has dx = 11, 1 and ends with dh0 = 11 and dc0 = 2. The second has dx = 10, 0 and ends
# with dh0 = 10 and dc0 = 4. The gradient of `w` is 1 + 11 + 10 = 22.

# %% solution="sequence-backward"
def sequence_backward(dh, dh_last, dc_last, records, p, lengths, rungs):
    """(dx, dh0, dc0, dp): dh (N, T, U), dh_last, dc_last (N, U), T records, p the weights, lengths (N,)."""
    ### BEGIN SOLUTION
    dx, dp, dh_next, dc_next = [], {}, dh_last, dc_last
    for t in reversed(range(dh.shape[1])):
        runs = (t < lengths)[:, None]
        into_step = (dh[:, t] + dh_next) * runs, dc_next * runs
        dx_t, dh_before, dc_before, dp_t = rungs["step_backward"](*into_step, records[t], p)
        dh_next, dc_next = np.where(runs, dh_before, dh_next), np.where(runs, dc_before, dc_next)
        dp = {name: dp.get(name, 0) + d for name, d in dp_t.items()}
        dx.append(dx_t)
    return np.stack(dx[::-1], axis=1), dh_next, dc_next, dp
    ### END SOLUTION

# %%
halving = {"step_backward": lambda dh, dc, record, p: (dh, dh, dc / 2, {"w": float(dh.sum())})}
dx, dh0, dc0, dp = sequence_backward(
    np.array([[[10.0], [1.0]], [[10.0], [1.0]]]), np.zeros((2, 1)), np.full((2, 1), 8.0),
    [None, None], {}, np.array([2, 1]), halving,
)  # fmt: skip
print(dx[..., 0].tolist(), dh0[:, 0], dc0[:, 0], dp)

# %% check="test-sequence-backward"
checks.lstm.sequence_backward(sequence_backward)

# %% [markdown]
# Put your own rungs together. `record_step` and `record_step_backward` are what the check hands out, made
# of *your* functions. Autograd judges the whole: PyTorch's LSTM with the same weights, every gradient
# compared.

# %% locked="own-rungs"
def record_step(x, h, c, p):
    """The states after a step, and its record."""
    opened = gates(x @ p["w_ih"].T + p["b_ih"] + h @ p["w_hh"].T + p["b_hh"])
    h_after, c_after = update(*opened, c)
    return h_after, c_after, (x, h, c, c_after, *opened)


def record_step_backward(dh, dc, record, p):
    """Gradients of the input, of h and c before the step, and of the weights."""
    x, h, c, c_after, *opened = record
    *by_value, dc_before = update_backward(dh, dc, *opened, c, c_after)
    dx, dh_before, dp = step_backward(gates_backward(*by_value, *opened), x, h, p)
    return dx, dh_before, dc_before, dp


def weights_of(net):
    """The weights of a torch.nn.LSTM as arrays, by their short names."""
    names = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
    return {short: getattr(net, name).detach().numpy().copy() for short, name in names.items()}


# %%
torch.manual_seed(0)
net = torch.nn.LSTM(3, 5, batch_first=True, dtype=torch.float64)
x, weights = torch.randn(4, 9, 3, dtype=torch.float64), weights_of(net)
lengths = np.array([9, 2, 5, 7])
rungs = {"step": record_step, "step_backward": record_step_backward}
zero = np.zeros((4, 5))
h, h_last, c_last = sequence(x.numpy(), zero, zero, weights, lengths, rungs)

packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
outputs, (last_h, last_c) = net(packed)
outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
print("forward:", np.allclose(h, outputs.detach()), np.allclose(c_last, last_c[0].detach()))

upstream = np.random.default_rng(0).normal(size=h.shape)
(outputs * torch.tensor(upstream)).sum().add(last_c.sum()).backward()
records, states = [], (zero, zero)
for t in range(9):
    *states, record = record_step(x[:, t].numpy(), *states, weights)
    records.append(record)
found = sequence_backward(upstream, zero, zero + 1, records, weights, lengths, rungs)
wanted = {"w_ih": net.weight_ih_l0, "w_hh": net.weight_hh_l0, "b_ih": net.bias_ih_l0, "b_hh": net.bias_hh_l0}
print("backward:", {name: np.allclose(found[3][name], w.grad) for name, w in wanted.items()})

# %% [markdown]
# A question: the records come from a run that did not care for the lengths. Why does that do no harm?
#
# ## Rung 10. Read a carousel
#
# Follow one number in a cell, and let a gate be open, 1, or closed, 0. Which gates must be open for each of
# these wishes?
#
# | wish | what is to happen in this step |
# |---|---|
# | `"overwrite"` | the old content goes, g takes its place; h shows nothing |
# | `"hold"` | the content stays, whatever g is; h shows nothing |
# | `"show"` | the content stays, whatever g is; h shows it |
# | `"add"` | g is added to the content; h shows the sum |
#
# Return the numbers i, f, o, in this order.

# %% solution="gate-settings"
def gate_settings(wish):
    """(i, f, o), each 0 or 1, for "overwrite", "hold", "show" or "add"."""
    ### BEGIN SOLUTION
    return {"overwrite": (1, 0, 0), "hold": (0, 1, 0), "show": (0, 1, 1), "add": (1, 1, 1)}[wish]
    ### END SOLUTION

# %%
# Two units of one cell, with the content 2 and -1, and g = 0.5: what becomes of them?
for wish in ("overwrite", "hold", "show", "add"):
    i, f, o = (np.full((1, 2), float(gate)) for gate in gate_settings(wish))
    h, c = update(i, f, np.full((1, 2), 0.5), o, np.array([[2.0, -1.0]]))
    print(f"{wish:9} content {c[0]}, shown {h[0].round(3)}")

# %% check="test-gate-settings"
checks.lstm.gate_settings(gate_settings)

# %% [markdown]
# Between $\mathbf c_\text{first}$ and $\mathbf c_\text{last}$ the gradient passes some forget gates. Look
# at the path along c alone: $\partial \mathbf c_t / \partial \mathbf c_{t-1}$ is then what? Return the
# factor by which the gradient is multiplied on its way from step `last` back to step `first`, for every
# sequence and unit.
#
# By hand: one sequence, one unit, the gates 0.9, 0.5, 0.5, 1 at the steps 0 to 3. From step 2 back to step
# 0 it is 0.25, from step 3 back to step 2 it is 1.

# %% solution="remaining"
def remaining(f, first, last):
    """Factor (N, U) of the gradient along c from step last back to step first < last: f (N, T, U)."""
    ### BEGIN SOLUTION
    return np.prod(f[:, first + 1 : last + 1], axis=1)
    ### END SOLUTION

# %%
four_gates = np.array([0.9, 0.5, 0.5, 1.0]).reshape(1, 4, 1)
print(remaining(four_gates, 0, 2), remaining(four_gates, 2, 3))

# %% check="test-remaining"
checks.lstm.remaining(remaining)

# %% [markdown]
# Turn the question round. If the forget gate hears its offset and nothing else, it has the same value f at
# every step. Which offset leaves the `share` of a gradient after `steps` steps? Return a float.
#
# By hand: half of it after one step, or a quarter after two, is f = 0.5 and the offset 0. Three quarters
# after one step is f = 0.75 and the offset log 3 = 1.0986.

# %% solution="bias-for"
def bias_for(steps, share):
    """The offset of a forget gate that leaves this share, 0 < share < 1, after so many steps."""
    ### BEGIN SOLUTION
    f = share ** (1 / steps)
    return math.log(f / (1 - f))
    ### END SOLUTION

# %%
print(bias_for(2, 0.25), round(bias_for(1, 0.75), 4))

# %% check="test-bias-for"
checks.lstm.bias_for(bias_for)

# %% [markdown]
# Guess before you run the cell: which offset leaves half of a gradient after 10, 100 and 1000 steps? And
# what does an offset of 0 leave after 10, 100 and 1000?

# %%
for steps in (10, 100, 1000):
    print(f"{steps:4} steps: half is left with {bias_for(steps, 0.5):.2f}; offset 0 leaves {0.5**steps:.0e}")

# %% [markdown]
# ## Rung 11. The experiment
#
# In a real cell the gates hear x and h as well, and the gradient has other ways than that along c: through
# h and all four gates. So measure. For each of the offsets in `biases`:
#
# 1. Make the weights, `rungs["set_forget_bias"](p, bias)`, always from the same `p`.
# 2. Run `rungs["step"]` along x (N, T, D), from states that are 0. No padding here.
# 3. Let the loss look at the **cell state** after the last step, with the gradient `dc` (N, U), and at
#    nothing else. Go back through all steps with `rungs["step_backward"]`, and carry both gradients.
# 4. `left[b, t]` is the norm of the gradient by the cell state **before** step t, divided by the norm of
#    `dc`. The norm is the root of the sum of all squares, over sequences and units.
#
# The functions in `rungs` are called as in rungs 4, 8 and 9. Return `left`, an array (B, T) for B offsets.

# %% solution="gradients-left"
def gradients_left(x, p, dc, biases, rungs):
    """left (B, T): share of the gradient dc by the last cell state that is left before step t."""
    ### BEGIN SOLUTION
    left = np.zeros((len(biases), x.shape[1]))
    for b, bias in enumerate(biases):
        opened = rungs["set_forget_bias"](p, bias)
        records, h, c = [], np.zeros_like(dc), np.zeros_like(dc)
        for t in range(x.shape[1]):
            h, c, record = rungs["step"](x[:, t], h, c, opened)
            records.append(record)
        by_h, by_c = np.zeros_like(dc), dc
        for t in reversed(range(x.shape[1])):
            _, by_h, by_c, _ = rungs["step_backward"](by_h, by_c, records[t], opened)
            left[b, t] = np.linalg.norm(by_c) / np.linalg.norm(dc)
    return left
    ### END SOLUTION

# %% check="test-gradients-left"
checks.lstm.gradients_left(gradients_left)

# %% [markdown]
# Measure an untrained LSTM of 32 units, as PyTorch draws it, on 30 random steps. How much of the gradient
# gets back to the start for the offsets 0, 1 and 4? Write down three numbers before you run the cell; rung
# 10 tells you which.

# %%
torch.manual_seed(0)
drawn = weights_of(torch.nn.LSTM(6, 32, dtype=torch.float64))
rng = np.random.default_rng(0)
x, dc = rng.normal(size=(16, 30, 6)), rng.normal(size=(16, 32))
rungs["set_forget_bias"] = set_forget_bias
for bias, row in zip((0.0, 1.0, 4.0), gradients_left(x, drawn, dc, [0.0, 1.0, 4.0], rungs), strict=True):
    along_c = 1 / (1 + math.exp(-bias))
    print(f"bias {bias}: {row[0]:.1e} is left of the gradient; along c alone it would be {along_c**30:.1e}")

# %% [markdown]
# Is more left than was there in one of the rows? Where can it come from, if along c every gate takes its
# share? Look at what your rung 7 returns for h.
#
# ### Does it learn?
#
# Temporal order: a sequence of 30 symbols, most of them distractors. An A or a B stands among the first
# few, another one near the middle. After the last step the net is asked for both, in their order: four
# classes, and who guesses is right in a quarter. `train_with` takes PyTorch's LSTM of 32 units, sets the
# offset by *your* rung 4, makes 400 updates (a second or two), and gives the share of right answers on new
# sequences.

# %% locked="temporal-order"
def train_with(bias, seed, updates=400):
    """Share of right answers to 1000 new sequences, after training from this forget bias."""
    torch.manual_seed(seed)
    net, read = torch.nn.LSTM(6, 32), torch.nn.Linear(32, 4)
    long_names = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
    opened = set_forget_bias(weights_of(net), bias)
    net.load_state_dict({long_names[name]: torch.tensor(w) for name, w in opened.items()})
    parameters = [*net.parameters(), *read.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        batch = sequences.temporal_order(32, 30, rng=rng)
        h, _ = net(torch.tensor(batch.x))
        loss = torch.nn.functional.cross_entropy(read(h[-1]), torch.tensor(batch.target))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    test = sequences.temporal_order(1000, 30, rng=10**6)
    with torch.no_grad():
        answers = read(net(torch.tensor(test.x))[0][-1]).argmax(dim=1)
    return float((answers == torch.tensor(test.target)).float().mean())


# %% tags=["nbval-ignore-output"]
for bias in (0.0, 4.0):
    print(f"bias {bias}: {train_with(bias, 0):.2f} right")

# %% [markdown]
# ## In words, and by experiment

# %% [markdown] written="which-gate" points=4
# **Question.** A net must name, after 200 steps, a symbol that was shown at step 0. "A forget gate is for
# forgetting," says a colleague, "and here nothing is to be forgotten. So I start it at an offset of -4, to
# keep it out of the way, and open the input gate with an offset of +4, so that the symbol gets in." What
# happens to the content of the cell, and to the gradient, in the first forward and backward pass? Give the
# factor along c over 200 steps for the offsets -4, 0, 1 and 5. What would the open input gate do, even with
# a good forget gate? And why not take the forget gate out altogether (f = 1 for ever), when this task
# forgets nothing?
#
# ### BEGIN SOLUTION
# The name misleads: f is the share that is *kept*. With an offset of -4 it is 0.018, so that the content is
# gone after one or two steps, and the gradient that comes back along c is multiplied by 0.018 at each step.
# Over 200 steps the factor is 0.018^200 (about 1e-349, 0 in double precision), 0.5^200 = 6e-61,
# 0.731^200 = 6e-28 and 0.9933^200 = 0.26. Only the last offset lets step 0 hear anything of the loss.
#
# The open input gate writes all 200 symbols, not the first alone: with a good forget gate the cell holds
# the sum of all of them, and what came first is one part in 200. It must be open at step 0 and (nearly)
# closed afterwards; near 0 it can learn this, at +4 its slope i (1 - i) is 0.018, and it learns slowly.
#
# Without a forget gate (1997) the content is never emptied: on a stream of sequences, or where something
# outdated must go, c grows without bound. tanh(c) saturates: h says nothing more of c, and the slope is 0.
# For this task alone it would do; a large offset has the same effect at the start and can be unlearnt.
#
# 1 point: f is what is kept, so that -4 empties the cell. 1 point: the four factors (orders of magnitude).
# 1 point: the input gate must close again, or later symbols drown the first. 1 point: f = 1 for ever cannot
# empty the cell (c grows, tanh saturates); it is learnt, and the offset is only where it starts.
# ### END SOLUTION

# %% [markdown] task="which-bias" points=4
# **Experiment.** Which forget bias learns temporal order? Train with the offsets -2, 0, 1 and 4 and the
# seeds 0, 1 and 2, all else as above (about half a minute). **First** write down what you expect, with the
# help of rungs 10 and 11: over how many steps must the gradient get back, and what is left of it? Then
# measure, print a table of the share of right answers, 4 offsets by 3 seeds, and add cells below with
# prediction, code, table, and a few sentences: which offsets learn it, and does what is left of the
# gradient at the *start* explain it? Name one thing that this experiment does not show.
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: a prediction that stands before the measurement, with numbers (about 14 to 26 steps back; along
#   c an offset of 0 leaves about 1e-5 to 1e-8 of the gradient, 1 about 1e-2 to 1e-4, 4 more than half).
# - 1 point: the table, 4 offsets by 3 seeds, by code that runs.
# - 1 point: -2 and 0 stay near a quarter, 4 learns it on every seed or nearly, 1 lies between and differs
#   from seed to seed; the order is that of the gradients that get back.
# - 1 point: a limit of the experiment: one task, one length, one size, one learning rate, 400 updates (a
#   smaller offset may learn later, or with more units), three seeds; an offset of 4 may hurt where a cell
#   must learn to forget.
#
# === END MARK SCHEME ===
