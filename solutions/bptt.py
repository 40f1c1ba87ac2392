# %% [markdown]
# # Backpropagation through time, rung by rung
#
# A framework would do all of this in one line, and you would not know which of the ways to get it wrong it
# has avoided for you. Here you write the backward pass of a recurrent net by hand, in ten short functions.
# Each is a rung of a ladder and is tested by itself; at the end you hold the whole gradient up to a judge
# that you have written too.
#
# | rung | you write | section of the book |
# |---|---|---|
# | 1 | the gradient by the scores | *Repeat it with all the indices* |
# | 2 | back through the output layer | *Repeat it with all the indices* |
# | 3 | back through one step | *Code it one step at a time* |
# | 4 | back through time | *Repeat it with all the indices* |
# | 5 | the gradients of the shared weights | *Repeat it with all the indices* |
# | 6 | truncated: the gradient is cut, the state is not | *Cut the gradient, keep the state* |
# | 7 | what many steps do to a gradient | *Multiply the Jacobians*, *Ask the singular values* |
# | 8 | a judge of gradients | *Call three judges* |
# | 9 | all together | *Write the forward pass down* |
# | 10 | truncated, in torch | *Cut the gradient, keep the state* |
# | | an answer in words, an experiment | *Measure what truncation takes away* |
#
# **How it works.** Write your code where the cell says so and run the one-line cell below it. It calls your
# function on arrays of many shapes, prints what went wrong and on which case, and shows your points. The
# same line grades your work, on other random numbers. Run it as often as you like. Each function is tested
# with its own correct inputs: an error in one does not cost you points in another.
#
# **Rules.** NumPy only, up to rung 9. Write the functions yourself: a call to `coursekit`'s or PyTorch's own
# version is noticed. No function changes its arguments. Results have the dtype of what comes in.
#
# **Names.** N sequences in a batch, T steps, D features, U units, K classes, all counted from 0. The batch is
# the **first** axis everywhere, time the second: `h` has the shape (N, T, U). (The pages and the library put
# time first.) The gradient of the loss by something is d and its name: `dh` is $\partial L / \partial h$ and
# has the shape of `h`. `dz` is the gradient by $\mathbf a_t$, what goes into the tanh. The net is
#
# $$\mathbf a_t = \mathbf x_t \mathbf U + \mathbf h_{t-1} \mathbf W + \mathbf b \qquad
# \mathbf h_t = \tanh(\mathbf a_t) \qquad \mathbf o_t = \mathbf h_t \mathbf V + \mathbf c$$
#
# with rows for vectors, and $\mathbf h_{-1}$ is `h0`.

# %% locked="setup"
import numpy as np
import torch

from coursekit import checks

# %% [markdown]
# ## Rung 1. By the scores
#
# The loss is the **mean**, over all steps of all sequences, of the cross-entropy between the softmax of the
# scores and the label:
#
# $$L = - \frac{1}{N T} \sum_{n, t} \log p_{n, t, y_{n,t}} \qquad
# p_{n, t, k} = \frac{e^{o_{n, t, k}}}{\sum_l e^{o_{n, t, l}}}$$
#
# Its gradient by the scores is $(p - y) / (N T)$, with $y$ being 1 at the right class and 0 elsewhere. Scores
# may be in the thousands.
#
# By hand: one sequence, two steps, two classes, `o = [[[0, 0], [0, 0]]]`, `labels = [[0, 1]]`. The
# probabilities are 1/2, the gradient is `[[[-0.25, 0.25], [0.25, -0.25]]]`.

# %% solution="output-gradient"
def output_gradient(o, labels):
    """do (N, T, K), the gradient of the mean cross-entropy: scores o (N, T, K), labels (N, T)."""
    ### BEGIN SOLUTION
    p = np.exp(o - o.max(axis=2, keepdims=True))
    p = p / p.sum(axis=2, keepdims=True)
    y = labels[:, :, None] == np.arange(o.shape[2])
    return (p - y) / labels.size
    ### END SOLUTION

# %%
# Try it on the scores that you did by hand.
print(output_gradient(np.zeros((1, 2, 2)), np.array([[0, 1]])))

# %% check="test-output-gradient"
checks.bptt.output_gradient(output_gradient)

# %% [markdown]
# ## Rung 2. Back through the output layer
#
# $\mathbf o_t = \mathbf h_t \mathbf V + \mathbf c$ is the same layer at every step. Return three gradients:
# `dh`, what each state hears from its own output; `dv` and `dc`, which every step of every sequence has a
# part in.
#
# By hand: one sequence, two steps, one unit, two classes. `do = [[[1, -1], [2, 0]]]`, `h = [[[0.5], [-1]]]`
# and `v = [[3, 4]]` give `dh = [[[-1], [6]]]`, `dv = [[-1.5, -0.5]]`, `dc = [3, -1]`.

# %% solution="head-backward"
def head_backward(do, h, v):
    """(dh (N, T, U), dv (U, K), dc (K,)) from do (N, T, K), h (N, T, U), v (U, K)."""
    ### BEGIN SOLUTION
    dv = np.zeros_like(v)
    for t in range(h.shape[1]):
        dv += h[:, t].T @ do[:, t]
    return do @ v.T, dv, do.sum(axis=(0, 1))
    ### END SOLUTION

# %%
for gradient in head_backward(
    np.array([[[1.0, -1.0], [2.0, 0.0]]]), np.array([[[0.5], [-1.0]]]), np.array([[3.0, 4.0]])
):
    print(gradient)

# %% check="test-head-backward"
checks.bptt.head_backward(head_backward)

# %% [markdown]
# ## Rung 3. Back through one step
#
# One step made the state `after` from its input `x` and the state `before`. You are told `g`, the gradient of
# the loss by `after`, wherever it came from. Return the gradients of all that went into the step, in this
# order: `dx`, `dbefore`, `du`, `dw`, `db`.
#
# The slope of tanh is $1 - \tanh^2$, and the tanh is known already.
#
# By hand, with one number for everything: `g = 2`, `x = 3`, `before = -1`, `after = 0.5`, `u = 4`, `w = 5`.
# Then `dz` is 2 · (1 - 0.25) = 1.5, and the gradients are `6`, `7.5`, `4.5`, `-1.5`, `1.5`.

# %% solution="step-backward"
def step_backward(g, x, before, after, u, w):
    """(dx, dbefore, du, dw, db): g, before, after (N, U), x (N, D), u (D, U), w (U, U)."""
    ### BEGIN SOLUTION
    dz = g * (1 - after**2)
    return dz @ u.T, dz @ w.T, x.T @ dz, before.T @ dz, dz.sum(axis=0)
    ### END SOLUTION

# %%
for gradient in step_backward(*(np.array([[number]]) for number in (2.0, 3.0, -1.0, 0.5, 4.0, 5.0))):
    print(gradient)

# %% check="test-step-backward"
checks.bptt.step_backward(step_backward)

# %% [markdown]
# ## Rung 4. Back through time
#
# Now all steps. `dh` is what each state hears from its *own output*. But $\mathbf h_t$ is used twice: by its
# output, and by step $t + 1$. Go from the last step to the first, and at each of them add what comes on both
# paths before you go on through the tanh.
#
# Return `dz` of all steps, and `dh0`, the gradient by the initial state, which only step 0 has used.
#
# By hand: one sequence, two steps, one unit, `dh = [[[1], [2]]]`, `h = [[[0.5], [0]]]`, `w = [[3]]`. Step 1
# hears 2 from its output and nothing else: `dz` is 2 · 1 = 2. Step 0 hears 1 from its output and 2 · 3 = 6
# from step 1: `dz` is 7 · 0.75 = 5.25. The initial state hears 5.25 · 3 = 15.75.

# %% solution="state-backward"
def state_backward(dh, h, w):
    """(dz (N, T, U), dh0 (N, U)) from dh (N, T, U), states h (N, T, U), w (U, U)."""
    ### BEGIN SOLUTION
    dz = np.empty_like(dh)
    carried = np.zeros_like(dh[:, 0])
    for t in reversed(range(dh.shape[1])):
        g = dh[:, t] + carried
        dz[:, t] = g * (1 - h[:, t] ** 2)
        carried = dz[:, t] @ w.T
    return dz, carried
    ### END SOLUTION

# %%
print(state_backward(np.array([[[1.0], [2.0]]]), np.array([[[0.5], [0.0]]]), np.array([[3.0]])))

# %% check="test-state-backward"
checks.bptt.state_backward(state_backward)

# %% [markdown]
# ## Rung 5. The shared weights
#
# `u`, `w` and `b` are used at every step, and `dz` says how the loss depends on what goes into each tanh.
# What stands next to `w` in $\mathbf a_t$? And at step 0? Go through the steps and **accumulate**.
#
# Return `du`, `dw`, `db`.
#
# By hand: one sequence, two steps, one feature, one unit, `x = [[[1], [2]]]`, `h = [[[0.5], [0.25]]]`,
# `h0 = [[4]]`, `dz = [[[10], [100]]]`. Then `du` is 10 + 200 = 210, `dw` is 4 · 10 + 0.5 · 100 = 90, and `db`
# is 110.

# %% solution="weight-gradients"
def weight_gradients(x, h, h0, dz):
    """(du (D, U), dw (U, U), db (U,)): x (N, T, D), states h and dz (N, T, U), initial state h0 (N, U)."""
    ### BEGIN SOLUTION
    du = np.zeros((x.shape[2], h.shape[2]), dz.dtype)
    dw = np.zeros((h.shape[2], h.shape[2]), dz.dtype)
    before = h0
    for t in range(x.shape[1]):
        du += x[:, t].T @ dz[:, t]
        dw += before.T @ dz[:, t]
        before = h[:, t]
    return du, dw, dz.sum(axis=(0, 1))
    ### END SOLUTION

# %%
for gradient in weight_gradients(
    np.array([[[1.0], [2.0]]]), np.array([[[0.5], [0.25]]]), np.array([[4.0]]), np.array([[[10.0], [100.0]]])
):
    print(gradient)

# %% check="test-weight-gradients"
checks.bptt.weight_gradients(weight_gradients)

# %% [markdown]
# ## Rung 6. Cut the gradient, keep the state
#
# Long sequences are cut into chunks of `k` steps: steps 0 to k - 1, then k to 2 k - 1, and so on; the last
# one may be shorter. **Truncated** backpropagation goes back within each chunk as in rung 4, and no gradient
# crosses a cut: the last step of a chunk hears from its own output only. The *state* was carried on across
# the cuts in the forward pass, which is why `h` is one array and comes from one run.
#
# Return `dz` of all steps and `dw`, added up over all chunks.
#
# By hand: one sequence, two steps, one unit, as in rung 4 and with `h0 = [[4]]`. With `k = 2` nothing is
# cut, and `dw` is 4 · 5.25 + 0.5 · 2 = 22. With `k = 1` step 0 does not hear from step 1: `dz` is
# 1 · 0.75 = 0.75 there, and `dw` is 4 · 0.75 + 0.5 · 2 = 4. The state 0.5 before step 1 is still there.

# %% solution="truncated-backward"
def truncated_backward(dh, h, h0, w, k):
    """(dz (N, T, U), dw (U, U)), cut between chunks of k steps: dh, h (N, T, U), h0 (N, U), w (U, U)."""
    ### BEGIN SOLUTION
    dz, dw = np.empty_like(dh), np.zeros_like(w)
    for t in reversed(range(dh.shape[1])):
        last_of_chunk = (t + 1) % k == 0 or t == dh.shape[1] - 1
        carried = 0 if last_of_chunk else dz[:, t + 1] @ w.T
        dz[:, t] = (dh[:, t] + carried) * (1 - h[:, t] ** 2)
        before = h[:, t - 1] if t > 0 else h0
        dw += before.T @ dz[:, t]
    return dz, dw
    ### END SOLUTION

# %%
for k in (2, 1):
    dz, dw = truncated_backward(
        np.array([[[1.0], [2.0]]]), np.array([[[0.5], [0.0]]]), np.array([[4.0]]), np.array([[3.0]]), k
    )
    print(k, dz.ravel(), dw)

# %% check="test-truncated-backward"
checks.bptt.truncated_backward(truncated_backward)

# %% [markdown]
# ## Rung 7. What many steps do to a gradient
#
# The Jacobian of one step has the entries $(i, j)$ of $\partial h_{t,j} / \partial h_{t-1,i}$, which is
# $\mathbf W \operatorname{diag}(1 - \mathbf h_t^2)$. Over several steps they are multiplied, in the order of
# time from left to right:
#
# $$\mathbf P = \frac{\partial \mathbf h_\text{last}}{\partial \mathbf h_\text{first}}
# = \mathbf J_{\text{first} + 1} \cdots \mathbf J_{\text{last}}$$
#
# Return `jacobian` (N, U, U), one product for each sequence, and `growth` (N,), the factor by which the
# gradient may grow *at most* on its way from step `last` back to step `first`: how much the product can
# stretch a vector. `np.linalg.svd`, `norm`, `det` and `eigvals` are all at your service; one of them is it.
#
# By hand: `w = [[0, 2], [0, 0]]` and `h` is 0 at all steps. One step: the Jacobian is `w`, and
# `(0, 1)` is made `(0, 1) wᵀ = (2, 0)`, so the growth is 2. Its determinant is 0, and so are both of its
# eigenvalues. Two steps: nothing is left, growth 0.

# %% solution="jacobian"
def jacobian(h, w, first, last):
    """(d h_last / d h_first (N, U, U), growth (N,)) of states h (N, T, U), first < last, w (U, U)."""
    ### BEGIN SOLUTION
    product = np.eye(len(w), dtype=w.dtype)
    for t in range(first + 1, last + 1):
        product = product @ (w * (1 - h[:, t, None] ** 2))
    return product, np.linalg.norm(product, 2, axis=(1, 2))
    ### END SOLUTION

# %%
for last in (1, 2):
    print(*jacobian(np.zeros((1, 3, 2)), np.array([[0.0, 2.0], [0.0, 0.0]]), 0, last))

# %% check="test-jacobian"
checks.bptt.jacobian(jacobian)

# %% [markdown]
# Which of these three nets has a gradient that vanishes over 30 steps? All have the same input and
# $\mathbf W = g$ times a random rotation. Guess before you run the cell.

# %%
rng = np.random.default_rng(0)
rotation, u = np.linalg.qr(rng.normal(size=(16, 16)))[0], rng.normal(size=(3, 16)) / 2
x = rng.normal(size=(1, 31, 3))
for gain in (0.8, 1.0, 1.3):
    states = [np.zeros((1, 16))]
    for t in range(31):
        states.append(np.tanh(x[:, t] @ u + states[-1] @ (gain * rotation)))
    growths = [jacobian(np.stack(states[1:], 1), gain * rotation, 30 - lag, 30)[1][0] for lag in (1, 10, 30)]
    print(f"gain {gain}: growth over 1, 10, 30 steps", *(f"{growth:.1e}" for growth in growths))

# %% [markdown]
# ## Rung 8. A judge
#
# A judge knows nothing of your derivation. It has the loss, a function of all parameters, and asks: if the
# parameters move a little along a *direction*, does the loss change as the gradients say?
#
# `loss_of(parameters)` gives a number. `parameters`, `gradients` and `direction` are dictionaries of arrays
# with the same keys and shapes. Compute
#
# $$\text{numeric} = \frac{L(\theta + \epsilon d) - L(\theta - \epsilon d)}{2 \epsilon} \qquad
# \text{exact} = \sum_i g_i d_i \qquad
# \text{error} = \frac{|\text{numeric} - \text{exact}|}{\max(|\text{numeric}|, |\text{exact}|)}$$
#
# and return the error, a float. All parameters move at the same time. The sum runs over all numbers of all
# arrays.
#
# By hand: one parameter, `p = [1.0]`, the loss is $p^3$, the gradient is said to be `[4.0]`, the direction is
# `[1.0]` and `eps = 1`. The losses are 8 and 0, so that numeric is 4: the error is 0. (The right gradient
# is 3. The judge is only as good as its eps is small.)

# %% solution="gradient-error"
def gradient_error(loss_of, parameters, gradients, direction, eps):
    """Relative error of the slope along the direction that the gradients promise."""
    ### BEGIN SOLUTION
    losses = []
    for step in (eps, -eps):
        losses.append(loss_of({name: p + step * direction[name] for name, p in parameters.items()}))
    numeric = (losses[0] - losses[1]) / (2 * eps)
    exact = sum(np.sum(g * direction[name]) for name, g in gradients.items())
    return float(abs(numeric - exact) / max(abs(numeric), abs(exact)))
    ### END SOLUTION

# %%
for eps in (1.0, 1e-3):
    one = {"p": np.ones(1)}
    print(eps, gradient_error(lambda at: float(at["p"][0] ** 3), one, {"p": np.full(1, 4.0)}, one, eps))

# %% check="test-gradient-error"
checks.bptt.gradient_error(gradient_error)

# %% [markdown]
# ## Rung 9. All together
#
# From input and labels to all gradients of the loss of rung 1. The parts that you need come in the dictionary
# `rungs`; the check puts *right* ones there, so this rung is tested by itself, too:
#
# * `rungs["forward"](x, u, w, v, b, c, h0)` gives `h, o`;
# * `rungs["output_gradient"]`, `rungs["head_backward"]`, `rungs["state_backward"]` and
#   `rungs["weight_gradients"]` are those that you have written.
#
# `parameters` is a dictionary with the keys `"u"`, `"w"`, `"v"`, `"b"`, `"c"`. Return six gradients in this
# order: `du, dw, dv, db, dc, dh0`.

# %% solution="sequence-gradients"
def sequence_gradients(x, labels, parameters, h0, rungs):
    """(du, dw, dv, db, dc, dh0) of the mean cross-entropy of all steps."""
    ### BEGIN SOLUTION
    u, w, v, b, c = (parameters[name] for name in "uwvbc")
    h, o = rungs["forward"](x, u, w, v, b, c, h0)
    do = rungs["output_gradient"](o, labels)
    dh, dv, dc = rungs["head_backward"](do, h, v)
    dz, dh0 = rungs["state_backward"](dh, h, w)
    du, dw, db = rungs["weight_gradients"](x, h, h0, dz)
    return du, dw, dv, db, dc, dh0
    ### END SOLUTION

# %% check="test-sequence-gradients"
checks.bptt.sequence_gradients(sequence_gradients)

# %% [markdown]
# Now take your own rungs and let your own judge look at the whole loss. Is the error what it should be? Then
# go back, break one rung on purpose, say, leave the path through the next state out, and run this cell again:
# what does the judge say? Mend it afterwards.

# %% locked="whole-net"
def forward(x, u, w, v, b, c, h0):
    """States (N, T, U) and scores (N, T, K)."""
    states, state = [], h0
    for t in range(x.shape[1]):
        state = np.tanh(x[:, t] @ u + state @ w + b)
        states.append(state)
    return np.stack(states, axis=1), np.stack(states, axis=1) @ v + c


def new_net(rng, D=3, U=5, K=4, gain=1.0):
    """Parameters; w is a gain times a random rotation."""
    rotation = np.linalg.qr(rng.normal(size=(U, U)))[0]
    shapes = {"u": (D, U), "w": (U, U), "v": (U, K), "b": (U,), "c": (K,)}
    drawn = {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}
    return drawn | {"w": gain * rotation}


# %%
rng = np.random.default_rng(1)
net, x, h0 = new_net(rng), rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 5))
labels = rng.integers(0, 4, (2, 9))


def whole_loss(at):
    o = forward(x, *(at[name] for name in ("u", "w", "v", "b", "c", "h0")))[1]
    o = o - o.max(axis=2, keepdims=True)
    right = np.take_along_axis(o, labels[:, :, None], axis=2)[:, :, 0]
    return float(np.mean(np.log(np.exp(o).sum(axis=2)) - right))


mine = {
    "forward": forward,
    "output_gradient": output_gradient,
    "head_backward": head_backward,
    "state_backward": state_backward,
    "weight_gradients": weight_gradients,
}
everything = net | {"h0": h0}
found = dict(zip(("u", "w", "v", "b", "c", "h0"), sequence_gradients(x, labels, net, h0, mine), strict=True))
direction = {name: rng.normal(size=p.shape) for name, p in everything.items()}
print("below 1e-7:", gradient_error(whole_loss, everything, found, direction, 1e-5) < 1e-7)

# %% [markdown]
# ## Rung 10. In torch
#
# Autograd goes back by itself. What is left for you to do is to *stop* it at the cuts: `state.detach()` is
# the same numbers without a past. Write the forward pass of the states for torch tensors so that its
# gradient is that of rung 6: chunks of `k` steps, the state is carried on, and no gradient crosses a cut.
# Return the states of all steps, (N, T, U).
#
# * Every state keeps its place in the loss: detach what the next step *reads*, not what you return.
# * `h0` has a gradient, too; nothing is cut before the first chunk.
# * It must run wherever `x` lives. A tensor made by `torch.zeros(...)` lives on the CPU; take
#   `x.new_zeros(...)`, or make none. The check tries this without a GPU, on torch's `meta` device, where
#   tensors have a shape and a dtype, but no numbers.
#
# `torch.nn.RNN` and its relatives are out of bounds.

# %% solution="truncated-forward"
def truncated_forward(x, u, w, b, h0, k):
    """States (N, T, U) as tensors: x (N, T, D), u (D, U), w (U, U), b (U,), h0 (N, U), chunks of k steps."""
    ### BEGIN SOLUTION
    states, state = [], h0
    for t in range(x.shape[1]):
        if t > 0 and t % k == 0:
            state = state.detach()
        state = torch.tanh(x[:, t] @ u + state @ w + b)
        states.append(state)
    return torch.stack(states, dim=1)
    ### END SOLUTION

# %% check="test-truncated-forward"
checks.bptt.truncated_forward(truncated_forward)

# %% [markdown]
# Two ways to one gradient. Does autograd agree with your rung 6?

# %%
tensors = {name: torch.tensor(p, requires_grad=True) for name, p in everything.items()}
upstream = rng.normal(size=(2, 9, 5))
states = truncated_forward(torch.tensor(x), *(tensors[name] for name in ("u", "w", "b", "h0")), 4)
by_autograd = torch.autograd.grad(states, tensors["w"], torch.tensor(upstream))[0]
by_hand = truncated_backward(upstream, states.detach().numpy(), h0, net["w"], 4)[1]
print("the same:", np.allclose(by_autograd, by_hand))

# %% [markdown]
# ## In words, and by experiment

# %% [markdown] written="what-a-cut-takes" points=4
# **Question.** Each step of a sequence shows a symbol, and the net must name the one that it saw 12 steps
# before. It is trained with chunks of k = 10 steps. "The state is carried over the cuts," says a colleague,
# "so the second chunk still knows what it saw in the first and can learn to use it." What is right about
# this, what is wrong? Which derivative is missing, and for which weights does it matter? What would you see
# in the loss and in the answers? Give two changes that would help, and what each of them costs.
#
# ### BEGIN SOLUTION
# Right: in the forward pass the second chunk starts from the first one's last state, so what happens to be
# in it can be read, and V, and the steps of the second chunk, learn to use it. Wrong: nobody tells the first
# chunk to put the symbol there. The lag of 12 is longer than a chunk, so that every loss is separated by a
# cut from the step that saw its symbol. The derivative of that loss by the state at the cut is set to 0, and
# with it the part of du, dw and db that comes from the steps before the cut. Only luck, what an untrained
# state echoes of its past, is left. The loss falls a little, to what the echo allows, and stays there, and
# the answers are hardly better than chance; no gradient is large or not finite, and nothing warns.
#
# It would help to take longer chunks (k well above 12, so that most losses have their symbol in their
# chunk), for more memory per update; to update every k1 steps and go back k2 > k1 + 12 of them, for
# k2 / k1 times the backward work; to go back all the way with checkpoints, for another forward pass.
#
# 1 point: the state crosses, so it can be read. 1 point: the gradient does not cross, so that the earlier
# chunk is not taught to keep it: the part of du, dw, db from before the cut is missing. 1 point: the loss
# stays near that of guessing (or of an echo), and there is no other sign. 1 point: two remedies with their
# costs.
# ### END SOLUTION

# %% [markdown] task="how-far-back" points=4
# **Experiment.** How many steps must a gradient go back? Take `new_net(np.random.default_rng(0), U=32,
# gain=g)` for the gains g = 0.5, 1 and 1.5, four random sequences of 40 steps with random labels, h0 = 0, and
# compare `dw` from your `truncated_backward` with the whole one (k = 40): the relative error
# `norm(dw - whole) / norm(whole)` for k = 1, 2, 5, 10, 20. **First** write down what you expect: for which
# gain does the error fall fastest with k? Then measure, print a table, and add cells below with prediction,
# code, table, and two or three sentences: where were you wrong, what has rung 7 to do with it, and does a
# small error mean that nothing is lost by truncation?
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: a prediction that stands before the measurement.
# - 1 point: the table, 3 gains by 5 chunk lengths, by code that runs.
# - 1 point: the error falls with k, and fastest for the smallest gain, where the Jacobians shrink a gradient
#   by more than half at each step, so that far losses have hardly a part in dw; with larger gains far losses
#   have a larger part (at k = 10 the error is about 0.05, 0.15 and 0.4).
# - 1 point: no. With a small gain the error is small *because* the net does not transport gradients: what it
#   would need for a long lag is missing in the whole gradient, too, or is a small part of it, and it is
#   exactly that part which is cut.
#
# === END MARK SCHEME ===
