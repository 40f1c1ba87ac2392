# %% [markdown]
# # The gated recurrent unit, and gates that share
#
# A GRU has one gate where the LSTM has two: what it writes, it makes room for. Two forms of it are in use,
# under one name, and weights trained in the one do not work in the other. Here you write both, go back
# through one of them, and find out which one a stranger is by asking it. Then you let the gates of an LSTM
# see more (peepholes), and have one fewer of them (coupled gates), as a module that runs wherever torch runs.
#
# | part | you write | section of the book |
# |---|---|---|
# | 1 | the update gate, the merged state | *Mind which way the update gate turns* |
# | 2 | a step, reset after the product | *Reset before the product, or after it*, *Keep the second bias* |
# | 3 | a step, reset before the product | *Reset before the product, or after it* |
# | 4 | back through a step | *Derive the gradients of both* |
# | 5 | which form is it? | *Find out which form a library has*, *See when they coincide* |
# | 6 | what each cell has to learn, counted | *Merge two states and two gates* |
# | 7 | a step with peepholes | *See what a gate cannot see* |
# | 8 | coupled gates, as a module of torch | the page *Vary the cell: peepholes and coupled gates* |
# | | an answer in words, an experiment | |
#
# **How it works.** Write your code where the cell says so and run the one-line cell below it. It calls your
# function on arrays of many shapes, prints what went wrong and on which case, and shows your points. The
# same line grades your work, on other random numbers. Run it as often as you like. Each function is tested
# with its own correct inputs: an error in one does not cost you points in another.
#
# **Rules.** NumPy only, up to part 7. Write the functions yourself: a call to `coursekit`'s or PyTorch's own
# version is noticed. No function changes its arguments. Results have the dtype of what comes in.
#
# **Names.** N sequences in a batch, D features, U units; vectors are rows. A GRU has the gates z (update) and
# r (reset) and the candidate n. Its weights are *stacked*, a block for each, **in the order z, r, n**, as
# ONNX orders them:
#
# | | shape | meaning |
# |---|---|---|
# | `u` | (3, D, U) | `u[0]`, `u[1]`, `u[2]`: from the input to z, r and n |
# | `w` | (3, U, U) | from the state before the step |
# | `b` | (3, U) | offsets that come with the input's part, `x @ u[k] + b[k]` |
# | `bw` | (3, U) | offsets that come with the state's part, `h @ w[k] + bw[k]` |
#
# (The pages and the library put the blocks side by side in one matrix, in the order r, z, n, as torch does.)

# %% locked="setup"
import math

import numpy as np
import torch

from coursekit import checks

# %% [markdown]
# ## Part 1. One gate for two
#
# You are given pre-activations: `az` of the update gate, `an` of the candidate. The gate is $\mathbf z =
# \sigma(\mathbf a_z)$, the candidate is $\mathbf n = \tanh(\mathbf a_n)$, and the new state is a mixture,
#
# $$\mathbf h_t = (1 - \mathbf z_t) \odot \mathbf n_t + \mathbf z_t \odot \mathbf h_{t-1}$$
#
# The two shares sum to 1. Which of them is `z`, and what does a gate of 1 do? Papers differ on that.
# Return `z` and the new state. Pre-activations may be in the thousands.
#
# By hand, with one number each: `az = ln 3` makes $z = 3/4$, `an = ln 2` makes $n = 0.6$. With `h = 0.2`, the
# new state is 0.25 · 0.6 + 0.75 · 0.2 = 0.3.

# %% solution="merge-state"
def merge_state(az, an, h):
    """(z, state after the step), each (N, U), from the pre-activations az and an and the old state h."""
    ### BEGIN SOLUTION
    z = 1 / (1 + np.exp(-az))
    return z, (1 - z) * np.tanh(an) + z * h
    ### END SOLUTION

# %%
# Try it on the numbers that you did by hand.
print(*merge_state(np.array([[math.log(3)]]), np.array([[math.log(2)]]), np.array([[0.2]])))

# %% check="test-merge-state"
checks.gru.merge_state(merge_state)

# %% [markdown]
# ## Part 2. Reset after the product
#
# Both gates see the input and the old state $\mathbf h$:
#
# $$\mathbf z = \sigma(\mathbf x \mathbf U_z + \mathbf b_z + \mathbf h \mathbf W_z + \mathbf b'_z) \qquad
# \mathbf r = \sigma(\mathbf x \mathbf U_r + \mathbf b_r + \mathbf h \mathbf W_r + \mathbf b'_r)$$
#
# The reset gate $\mathbf r$ decides how much of the state the candidate gets to see. In the first form it
# multiplies what comes out of the product with $\mathbf W_n$, offset included:
#
# $$\mathbf n = \tanh\bigl(\mathbf x \mathbf U_n + \mathbf b_n + \mathbf r \odot (\mathbf h \mathbf W_n +
# \mathbf b'_n)\bigr)$$
#
# The new state is that of part 1. Return it.
#
# By hand: one unit, `u`, `w` and `b` are 0, `bw = [[0], [0], [ln 4]]`, `h = 0.5`. Then $z = r = 1/2$, the
# candidate is $\tanh(\tfrac12 \ln 4) = \tanh(\ln 2) = 0.6$, and the new state is 0.55.

# %% solution="gru-after"
def gru_after(x, h, u, w, b, bw):
    """State after the step (N, U): x (N, D), h (N, U), u (3, D, U), w (3, U, U), b and bw (3, U)."""
    ### BEGIN SOLUTION
    z, r = (1 / (1 + np.exp(-(x @ u[k] + b[k] + h @ w[k] + bw[k]))) for k in (0, 1))
    m = h @ w[2] + bw[2]
    n = np.tanh(x @ u[2] + b[2] + r * m)
    return (1 - z) * n + z * h
    ### END SOLUTION

# %%
one_unit = {"u": np.zeros((3, 1, 1)), "w": np.zeros((3, 1, 1)), "b": np.zeros((3, 1))}
one_unit["bw"] = np.array([[0], [0], [math.log(4)]])
print(gru_after(np.ones((1, 1)), np.array([[0.5]]), **one_unit))

# %% check="test-gru-after"
checks.gru.gru_after(gru_after)

# %% [markdown]
# ## Part 3. Reset before the product
#
# In the second form, the older one, each unit of the state is reset *before* it is sent to the others:
#
# $$\mathbf n = \tanh\bigl(\mathbf x \mathbf U_n + \mathbf b_n + (\mathbf r \odot \mathbf h) \mathbf W_n +
# \mathbf b'_n\bigr)$$
#
# All else is as in part 2.
#
# By hand, the same numbers: the candidate is now $\tanh(\ln 4) = 15/17$, as no reset comes near the offset,
# and the new state is 0.5 · 0.8824 + 0.5 · 0.5 = 0.6912.

# %% solution="gru-before"
def gru_before(x, h, u, w, b, bw):
    """State after the step (N, U): x (N, D), h (N, U), u (3, D, U), w (3, U, U), b and bw (3, U)."""
    ### BEGIN SOLUTION
    z, r = (1 / (1 + np.exp(-(x @ u[k] + b[k] + h @ w[k] + bw[k]))) for k in (0, 1))
    n = np.tanh(x @ u[2] + b[2] + (r * h) @ w[2] + bw[2])
    return (1 - z) * n + z * h
    ### END SOLUTION

# %%
print(gru_before(np.ones((1, 1)), np.array([[0.5]]), **one_unit))

# %% check="test-gru-before"
checks.gru.gru_before(gru_before)

# %% [markdown]
# ## Part 4. Back through a step
#
# The step of **part 2** has made a new state from `x` and `before`. You are told `g`, the gradient of the
# loss by the new state, and what the step has kept: the gates `z` and `r`, the candidate `n`, and `m`, which
# is $\mathbf h \mathbf W_n + \mathbf b'_n$, what the reset gate has multiplied.
#
# How many ways lead from the old state to the new one? Draw them before you write. Then go back along each:
# what stands next to $z$ in the new state, and with which sign? What stands next to $r$?
#
# Return `dx`, `dbefore`, `du`, `dw`, `db`, `dbw`. Two of them look alike and are not.
#
# By hand, with one number for everything: `g = 8`, `x = 3`, `before = 1`, `u = w = [1, 10, 100]`, `z = r =
# 0.5`, `n = 0`, `m = 2`. The gradients by the pre-activations of z, r and n are 2, 2 and 4, that by `m` is 2.
# So `dx = 422`, `dbefore = 226`, `du = [6, 6, 12]`, `dw = [2, 2, 2]`, `db = [2, 2, 4]`, `dbw = [2, 2, 2]`.

# %% solution="gru-backward"
def gru_backward(g, x, before, u, w, z, r, n, m):
    """(dx, dbefore, du, dw, db, dbw); g, before, z, r, n, m are (N, U), the gradients as what they are of."""
    ### BEGIN SOLUTION
    da_n = g * (1 - z) * (1 - n**2)
    da_z = g * (before - n) * z * (1 - z)
    da_r = da_n * m * r * (1 - r)
    dm = da_n * r
    by_input, by_state = np.stack([da_z, da_r, da_n]), np.stack([da_z, da_r, dm])
    dx = da_z @ u[0].T + da_r @ u[1].T + da_n @ u[2].T
    dbefore = g * z + da_z @ w[0].T + da_r @ w[1].T + dm @ w[2].T
    return dx, dbefore, x.T @ by_input, before.T @ by_state, by_input.sum(axis=1), by_state.sum(axis=1)
    ### END SOLUTION

# %%
weights = np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
g, x, before, z, r, n, m = (np.array([[number]]) for number in (8.0, 3.0, 1.0, 0.5, 0.5, 0.0, 2.0))
for gradient in gru_backward(g, x, before, weights, weights, z, r, n, m):
    print(gradient.ravel())

# %% check="test-gru-backward"
checks.gru.gru_backward(gru_backward)

# %% [markdown]
# How much of a gradient comes through a step, if the update gate stays near 1? And if it stays near 0? The
# cell sets all of `z` to a value and sends a gradient of length 1 back through 30 steps. Guess before you run
# it.

# %%
rng = np.random.default_rng(0)
w, u = rng.normal(size=(3, 16, 16)) / 4, rng.normal(size=(3, 4, 16)) / 2
for share in (0.01, 0.5, 0.9, 0.99):
    g = np.full((1, 16), 0.25)
    for _ in range(30):
        r, n, m, h = (np.tanh(rng.normal(size=(1, 16))) for _ in range(4))
        g = gru_backward(g, rng.normal(size=(1, 4)), h, u, w, np.full((1, 16), share), (1 + r) / 2, n, m)[1]
    print(f"z = {share}: {np.linalg.norm(g):.1e}")

# %% [markdown]
# ## Part 5. Which form is it?
#
# A framework has a "GRU", and its page does not say which. You cannot look inside, but you can ask: `step(x,
# h)` gives the state after a step for any inputs `x` (N, D) and any states `h` (N, U) that you choose, as
# many rows as you like. You know its weights, and you have both forms to compare with:
#
# * `forms["after"](x, h, u, w, b, bw)` and `forms["before"](x, h, u, w, b, bw)` are the functions of parts 2
#   and 3 (the check puts right ones there).
#
# Return `"after"`, `"before"`, or `"either"` if these weights make the two forms agree for *every* x and h.
# Choose what you ask with care: there are x and h at which the forms agree although they differ elsewhere.
# The gates may be nearly open or nearly shut. Rounding makes differences of about 1e-16, which mean nothing;
# a difference of 1e-6 means something.

# %% solution="which-form"
def which_form(step, forms, u, w, b, bw):
    """The form of the cell behind step(x, h): "after", "before", or "either" if nothing can tell."""
    ### BEGIN SOLUTION
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=(1000, u.shape[1])), rng.normal(size=(1000, w.shape[1]))
    seen = step(x, h)
    far = {name: np.max(np.abs(seen - form(x, h, u, w, b, bw))) for name, form in forms.items()}
    if max(far.values()) < 1e-9:
        return "either"
    return min(far, key=far.get)
    ### END SOLUTION

# %% check="test-which-form"
checks.gru.which_form(which_form)

# %% [markdown]
# Now ask the one that you may meet most often. This cell hides `torch.nn.GRUCell` behind `step` and brings
# its weights into the layout of this notebook. Which form is it?

# %% locked="torchs-gru"
def torch_box(D, U):
    """torch.nn.GRUCell as a step(x, h), and its weights u, w, b, bw in blocks z, r, n."""
    cell = torch.nn.GRUCell(D, U, dtype=torch.float64)

    def step(x, h):
        with torch.no_grad():
            return cell(torch.from_numpy(x), torch.from_numpy(h)).numpy()

    def blocks(parameter):
        r, z, n = parameter.detach().numpy().reshape(3, U, -1)
        return np.stack([z.T, r.T, n.T])

    b, bw = (blocks(bias)[:, 0] for bias in (cell.bias_ih, cell.bias_hh))
    return step, (blocks(cell.weight_ih), blocks(cell.weight_hh), b, bw)


# %%
stranger, its_weights = torch_box(3, 5)
print(which_form(stranger, {"after": gru_after, "before": gru_before}, *its_weights))

# %% [markdown]
# **When does it not matter?** Return copies of `w` and `bw` in which as few numbers as possible are set to 0,
# so that the two forms agree for every x and h, *whatever* the gates do: `u`, `b`, and the gates' blocks may
# have any values, and are not changed. No other number changes.
#
# By hand, with two units: write down the two candidates of unit 0, and see which terms differ.

# %% solution="made-alike"
def made_alike(w, bw):
    """(w (3, U, U), bw (3, U)) with the fewest zeros that make both forms agree for all x and h."""
    ### BEGIN SOLUTION
    w, bw = w.copy(), bw.copy()
    w[2] = w[2] * np.eye(len(w[2]))
    bw[2] = 0
    return w, bw
    ### END SOLUTION

# %%
rng = np.random.default_rng(0)
u, w, b, bw = (rng.normal(size=shape) for shape in ((3, 2, 3), (3, 3, 3), (3, 3), (3, 3)))
x, h = np.ones((1, 2)), np.ones((1, 3))
for one_w, one_bw in ((w, bw), made_alike(w, bw)):
    print(np.abs(gru_after(x, h, u, one_w, b, one_bw) - gru_before(x, h, u, one_w, b, one_bw)).max().round(9))

# %% check="test-made-alike"
checks.gru.made_alike(made_alike)

# %% [markdown]
# ## Part 6. What they cost
#
# How many numbers does each cell have to learn, with D features and U units? `biases` says how many bias
# vectors each block has: one as in most books, two as in torch and here, or none. The five cells are
#
# * the plain recurrent cell;
# * the GRU;
# * the LSTM, with the gates i, f, o and the candidate g;
# * the coupled LSTM, where $\mathbf f = 1 - \mathbf i$ needs no weights of its own;
# * the LSTM with peepholes: each of its three gates sees the cell state *of its own unit*, with one weight.
#
# Return five whole numbers in this order.
#
# By hand: D = 2, U = 3 and one bias vector give 18, 54, 72, 54, 81.

# %% solution="count-parameters"
def count_parameters(D, U, biases):
    """(RNN, GRU, LSTM, coupled LSTM, LSTM with peepholes): how many numbers each has to learn."""
    ### BEGIN SOLUTION
    block = D * U + U * U + biases * U
    return block, 3 * block, 4 * block, 3 * block, 4 * block + 3 * U
    ### END SOLUTION

# %%
print(count_parameters(2, 3, 1))

# %% check="test-count-parameters"
checks.gru.count_parameters(count_parameters)

# %% [markdown]
# ## Part 7. Peepholes
#
# The gates of an LSTM see the input and $\mathbf h$, which is what the output gate lets through. While it is
# shut, they know nothing of the cell state that they rule. A peephole shows it to them. There is one weight
# for each gate and unit, so $\mathbf p$ multiplies entry by entry:
#
# $$\begin{aligned}
# \mathbf i_t &= \sigma(\mathbf x_t \mathbf U_i + \mathbf h_{t-1} \mathbf W_i + \mathbf b_i
#   + \mathbf p_i \odot \mathbf c_{t-1}) \qquad \text{and } \mathbf f_t \text{ likewise} \\
# \mathbf c_t &= \mathbf f_t \odot \mathbf c_{t-1} + \mathbf i_t \odot \mathbf g_t \qquad
#   \mathbf g_t = \tanh(\mathbf x_t \mathbf U_g + \mathbf h_{t-1} \mathbf W_g + \mathbf b_g) \\
# \mathbf o_t &= \sigma(\mathbf x_t \mathbf U_o + \mathbf h_{t-1} \mathbf W_o + \mathbf b_o
#   + \mathbf p_o \odot \mathbf c_?) \qquad \mathbf h_t = \mathbf o_t \odot \tanh(\mathbf c_t)
# \end{aligned}$$
#
# Which cell state does the output gate see? Think of what it decides about. The blocks of `u`, `w` and `b`
# stand in the order i, f, g, o, the rows of `p` in the order i, f, o. Return the new h and the new c.
#
# By hand, one unit: `x = h = 0`, `c = 2`, `b = [0, 0, ln 2, 0]`, `p = [ln 3 / 2, 0, 1]`. Then i = 0.75, f =
# 0.5, g = 0.6, and the new c is 1.45. The output gate is 0.8100, and h is 0.7255.

# %% solution="peephole-step"
def peephole_step(x, h, c, u, w, b, p):
    """(h, c) after the step, each (N, U): u (4, D, U), w (4, U, U), b (4, U), p (3, U)."""
    ### BEGIN SOLUTION
    a_i, a_f, a_g, a_o = (x @ u[k] + h @ w[k] + b[k] for k in range(4))
    i = 1 / (1 + np.exp(-(a_i + p[0] * c)))
    f = 1 / (1 + np.exp(-(a_f + p[1] * c)))
    new = f * c + i * np.tanh(a_g)
    o = 1 / (1 + np.exp(-(a_o + p[2] * new)))
    return o * np.tanh(new), new
    ### END SOLUTION

# %%
nothing, blocks = np.zeros((1, 1)), np.zeros((4, 1, 1))
b, p = np.array([[0], [0], [math.log(2)], [0]]), np.array([[math.log(3) / 2], [0], [1]])
print(*peephole_step(nothing, nothing, np.array([[2.0]]), blocks, blocks, b, p))

# %% check="test-peephole-step"
checks.gru.peephole_step(peephole_step)

# %% [markdown]
# ## Part 8. Coupled gates, in torch
#
# torch has an LSTM, but none with coupled gates. Write one, as a module that can be trained, saved, and moved
# to a GPU. It has **one** gate for writing and keeping. The input gate drives, and
# $\mathbf f_t = 1 - \mathbf i_t$:
#
# $$\mathbf c_t = (1 - \mathbf i_t) \odot \mathbf c_{t-1} + \mathbf i_t \odot \mathbf g_t \qquad
# \mathbf h_t = \mathbf o_t \odot \tanh(\mathbf c_t)$$
#
# * `CoupledLSTM(input_size, hidden_size)` has three parameters: `u` (3, D, U), `w` (3, U, U) and `b` (3, U),
#   with the blocks in the order i, g, o. How they start is up to you. torch finds what is an `nn.Parameter`
#   and stands on `self`, and nothing else.
# * `forward(x, state=None)` takes `x` (N, T, D), the **batch first**, and a state `(h, c)`, each (N, U).
#   Without one it starts from zero. It returns `h` of all steps, (N, T, U), and the last state `(h, c)`.
# * It must run in float32 and float64, wherever `x` lives. A tensor made by `torch.zeros(...)` is float32 and
#   on the CPU; `x.new_zeros(...)` is like x. The check tries this without a GPU, on torch's `meta` device,
#   where tensors have a shape and a dtype but no numbers, and on a GPU if there is one.
# * Autograd goes back through it by itself, unless you cut it off or change in place what it needs.
#
# The check makes a cell, moves it to where `x` is, looks at its parameters, and calls it with weights
# that it brings. `run_coupled_lstm`, below the class, is what it calls for that.
#
# `torch.nn.LSTM` and its relatives are out of bounds.

# %% solution="coupled-lstm"
class CoupledLSTM(torch.nn.Module):
    """An LSTM whose forget gate is 1 - i."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        ### BEGIN SOLUTION
        self.u = torch.nn.Parameter(torch.randn(3, input_size, hidden_size) / math.sqrt(input_size))
        self.w = torch.nn.Parameter(torch.randn(3, hidden_size, hidden_size) / math.sqrt(hidden_size))
        self.b = torch.nn.Parameter(torch.zeros(3, hidden_size))
        ### END SOLUTION

    def forward(self, x, state=None):
        """(h of all steps (N, T, U), (last h, last c)) from x (N, T, D)."""
        ### BEGIN SOLUTION
        if state is None:
            state = [x.new_zeros(len(x), self.w.shape[1]) for _ in range(2)]
        h, c = state
        outputs = []
        for t in range(x.shape[1]):
            a = x[:, t] @ self.u + h @ self.w + self.b[:, None]
            i, g, o = a[0].sigmoid(), a[1].tanh(), a[2].sigmoid()
            c = (1 - i) * c + i * g
            h = o * c.tanh()
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)
        ### END SOLUTION


def run_coupled_lstm(x, u, w, b, h0=None, c0=None):
    """What the check calls; leave it as it is.  It does with your module what torch's own tools do."""
    cell = CoupledLSTM(x.shape[2], w.shape[2]).to(x.device, x.dtype)
    shapes = {name: tuple(parameter.shape) for name, parameter in cell.named_parameters()}
    state = None if h0 is None else (h0, c0)
    h, (last_h, last_c) = torch.func.functional_call(cell, {"u": u, "w": w, "b": b}, (x, state))
    return shapes, h, last_h, last_c

# %% check="test-coupled-lstm"
checks.gru.coupled_lstm(run_coupled_lstm)

# %% [markdown]
# Does it learn? Ten bits come in, one at a step, and the net must say at the end what the *first* one was.
# The loss of guessing is ln 2 = 0.693. Where there is a GPU, the same lines run on it.

# %% tags=["nbval-ignore-output"]
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
cell, head = CoupledLSTM(1, 16).to(device), torch.nn.Linear(16, 2).to(device)
optimiser = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.02)
for step in range(101):
    x = torch.randint(0, 2, (64, 10, 1), device=device).float()
    h, _ = cell(x)
    loss = torch.nn.functional.cross_entropy(head(h[:, -1]), x[:, 0, 0].long())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 25 == 0:
        print(f"step {step}: loss {loss.item():.3f}")

# %% [markdown]
# ## In words, and by experiment

# %% [markdown] written="the-other-form" points=4
# **Question.** A GRU was trained in a tool that resets *before* the product. A colleague copies its weights
# into `torch.nn.GRU`, block by block and in the right order. "All shapes fit and nothing was raised," she
# says, "so it works." What has happened, and how would you notice? For which weights would she be right?
# Could the weights be converted, so that torch's cell computes the same? And if the older form came first:
# what does a framework gain by resetting *after* the product? (Think of when $\mathbf r$ is known.)
#
# ### BEGIN SOLUTION
# The weights of the two forms have the same shapes, so that nothing can be raised, but the cell computes
# another function: its states differ from those in training from the first step on which the reset gates are
# not all open, and the difference is fed back at each step. One would notice only by comparing outputs, step
# by step on the same input (at h = 0 and without $\mathbf b'_n$ the first step even agrees), or by a score
# that is worse than it was.
#
# She is right if $W_n$ is diagonal and $\mathbf b'_n = 0$, or if no unit's reset differs from another's ($r h
# W = r (h W)$ for one number r) and $\mathbf b'_n = 0$, or, to rounding, if all resets are open, r = 1. With
# trained weights none of this holds.
#
# In general they cannot be converted: before the product, unit j sees $\sum_i r_i h_i w_{ij}$, where each
# source has its own reset; after it, $r_j \sum_i h_i w_{ij}$ with one for the reader. One has to train
# further, or to use a cell of the right form.
#
# After the product, $h W$ for all three blocks is one matrix product, which can start before r is known;
# before it, the product for n must wait for r: two smaller products, one after the other, at every step.
#
# 1 point: same shapes, another function, no error; found by comparing outputs. 1 point: diagonal with
# $\mathbf b'_n = 0$ (or equal or open resets). 1 point: no conversion, because each source has its own reset
# and the reader one. 1 point: one product for three blocks, no waiting for r.
# ### END SOLUTION

# %% [markdown] task="how-far-apart" points=4
# **Experiment.** How far apart do the two forms run with the same weights? Take D = 4, U = 32, 40 steps of
# random input for 20 sequences, weights `u = rng.normal(size=(3, 4, 32)) / 2`, `w = gain *
# rng.normal(size=(3, 32, 32)) / sqrt(32)`, `b = 0`, and `bw = 0`, both forms from h = 0. Measure
# `norm(h_after - h_before) / norm(h_before)` after 1, 2, 10 and 40 steps, for the gains 0.1, 0.5, 1 and 3.
# **First** write down what you expect: where is the difference 0, how does it grow with the gain, and does it
# grow with the steps for ever? Then measure, and measure once more at gain 1 with the reset gates held open
# (`b[1] = 5`). Add cells below with prediction, code, a table, and two or three sentences: where were you
# wrong, and what would you ask of somebody who says that the two forms "are practically the same"?
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: a prediction that stands before the measurement.
# - 1 point: the table, 4 gains by 4 numbers of steps and the row with open gates, by code that runs.
# - 1 point: 0 after one step, because h and bw are 0, whatever the weights; then about in proportion to the
#   gain up to 1 (after 10 steps about 0.01, 0.06 and 0.14). It has settled after about ten steps, as each
#   step keeps only a part of what came before; at gain 3 it does not settle so soon and becomes nearly as
#   large as the state itself (0.7 to 0.9). With open gates it is about a tenth of what it was.
# - 1 point: the difference depends on the weights, above all on how far w[2] mixes units and on how far the
#   reset gates are from 1 and from each other. So ask for the weights, or for a comparison on them; a first
#   step from zero, or small weights, shows nothing.
#
# === END MARK SCHEME ===
