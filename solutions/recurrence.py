# %% [markdown]
# # A net that reads itself
#
# A net with a cycle has no first unit to begin with: each waits for another. Here you give it time. You make
# one step of a graph, say which of its connections are feedback, take the cycles out by writing the steps
# side by side, and run the recurrent net that the rest of the course is about.
#
# | part | you write | sections of the book |
# |---|---|---|
# | 1 | one synchronous step of a graph | *Say which value each unit reads*, *Do not update in place* |
# | 2 | the kind of each connection | *Tell three kinds of feedback apart* |
# | 3 | the net unfolded over T steps | *Copy every unit once for each step* |
# | 4 | the forward pass of a recurrent net | *Write the forward pass down* |
# | 5 | its loss | *Write the forward pass down* |
# | 6 | an answer in words, an experiment | *Say what the state is*, *Judge a fixed point by its slope* |
#
# **How it works.** Write your code where the cell says so and run the one-line cell below it. It calls your
# function on arrays of many shapes, prints what went wrong and on which case, and shows your points. The
# same line grades your work, on other random numbers. Run it as often as you like. Each function is tested
# with its own correct inputs: an error in one does not cost you points in another.
#
# **Rules.** NumPy only. Write the functions yourself: a call to `coursekit`'s, PyTorch's or networkx's own
# version is noticed. No function changes its arguments. Results have the dtype of what comes in.
#
# **Names.** N sequences in a batch, T steps, D features, U units, K classes. Units, steps and classes are
# counted from 0. The batch is the **first** axis everywhere, time the second: `x` has the shape (N, T, D).
# The pages and the library put time first.

# %% locked="setup"
import numpy as np

from coursekit import checks

# %% [markdown]
# ## Part 1. One step of a graph
#
# A net is given by its connections, a list of triples `(source, target, weight)`, and for each unit $j$ a
# bias $b_j$ and an activation $f_j$. It may have loops and cycles of any length. In one **synchronous** step
# every unit adds up what it reads, its bias and its external input, and applies its activation:
#
# $$h'_j = f_j\Bigl(b_j + x_j + \sum_{i \to j} w_{ij} \, h_i\Bigr)$$
#
# All $h_i$ on the right are from *before* the step. Each row of `h` (N, U) holds the units' values of one
# sequence, and `x` (N, U) the external inputs; there are N copies of the net, which do not know each other.
# `b` has the shape (U,), and `activations` is a list of U names, the keys of the dictionary below.
#
# By hand: two units, both `"identity"`, no bias, no input, `edges = [(0, 1, 1.0), (1, 0, 1.0)]`. They hold
# `[2, 5]`. After one step they hold `[5, 2]`, after two steps `[2, 5]` again.

# %% locked="activations"
ACTIVATIONS = {"identity": lambda a: a, "tanh": np.tanh, "relu": lambda a: np.maximum(a, 0)}

# %% solution="synchronous-step"
def synchronous_step(h, x, edges, b, activations):
    """Values (N, U) after one step: h, x (N, U), edges [(source, target, weight), ...], b (U,)."""
    ### BEGIN SOLUTION
    a = x + b
    for source, target, weight in edges:
        a[:, target] += weight * h[:, source]
    columns = [ACTIVATIONS[name](a[:, j]) for j, name in enumerate(activations)]
    return np.stack(columns, axis=1)
    ### END SOLUTION

# %%
# Try it on the pair that you did by hand.
pair, silence = [(0, 1, 1.0), (1, 0, 1.0)], np.zeros((1, 2))
print(synchronous_step(np.array([[2.0, 5.0]]), silence, pair, np.zeros(2), ["identity", "identity"]))

# %% check="test-synchronous-step"
checks.recurrence.synchronous_step(synchronous_step)

# %% [markdown]
# A mass on a spring is a net of two units, position and velocity, each with a loop of 1; the position reads
# 0.1 times the velocity, and the velocity -0.5 times the position. Start it at 1 and at rest. Will the swing
# grow, stay as it is or die away? Guess before you run the cell.

# %%
spring = [(0, 0, 1.0), (1, 1, 1.0), (1, 0, 0.1), (0, 1, -0.5)]
h = np.array([[1.0, 0.0]])
for step in range(1, 85):
    h = synchronous_step(h, np.zeros((1, 2)), spring, np.zeros(2), ["identity", "identity"])
    if step % 14 == 0:
        print(f"step {step}: position {h[0, 0]:6.2f}, velocity {h[0, 1]:6.2f}")

# %% [markdown]
# Each step adds 5 per cent of energy. The page updates the velocity first and lets the position read the
# *new* one: that is another net, with a delay less, and its swing stays. Neither order is wrong by itself;
# what is wrong is to run the one where the other is meant.
#
# ## Part 2. Which connections are feedback?
#
# You get the connections, a list of pairs `(source, target)`, and the layer of each unit, `layers[unit]`.
# A connection is **feedback** if a path along the arrows leads from its target back to its source, *and* it
# does not lead to a later layer. There are three kinds:
#
# * `"direct"`: from a unit to itself;
# * `"lateral"`: to another unit of the same layer;
# * `"indirect"`: to a unit of an earlier layer.
#
# Every other connection is `"forward"`, even if it leads to an earlier layer: if nothing returns, nothing is
# fed back. The numbers of the units say nothing about their layers.
#
# Return a dictionary: connection → kind.
#
# By hand: `edges = [(0, 1), (1, 2), (2, 1), (1, 1), (3, 1)]` and `layers = [0, 1, 2, 1]`. Connection `(2, 1)`
# is indirect and `(1, 1)` direct. `(1, 2)` is on a cycle too, but leads to a later layer: forward. `(3, 1)`
# stays in layer 1, but no path leads from 1 to 3: forward.

# %% solution="connection-kinds"
def connection_kinds(edges, layers):
    """{(source, target): "forward", "direct", "lateral" or "indirect"} for all edges; layers[unit]."""
    ### BEGIN SOLUTION
    def reached(start):
        seen, waiting = {start}, [start]
        while waiting:
            unit = waiting.pop()
            new = {target for source, target in edges if source == unit} - seen
            seen |= new
            waiting += new
        return seen

    kinds = {}
    for source, target in edges:
        if source not in reached(target) or layers[source] < layers[target]:
            kinds[source, target] = "forward"
        elif source == target:
            kinds[source, target] = "direct"
        else:
            kinds[source, target] = "lateral" if layers[source] == layers[target] else "indirect"
    return kinds
    ### END SOLUTION

# %%
print(connection_kinds([(0, 1), (1, 2), (2, 1), (1, 1), (3, 1)], [0, 1, 2, 1]))

# %% check="test-connection-kinds"
checks.recurrence.connection_kinds(connection_kinds)

# %% [markdown]
# ## Part 3. Take the cycles out
#
# Give every step its own copy of every unit, and the cycles are gone. Each connection now comes with a
# *delay*: 0 if its target reads this step's value of the source, 1 if it reads the value of the step before.
# And it comes with the number of the parameter that is its weight; several connections may share one.
#
# `edges` is an integer array of shape (C, 4), one row `source, target, delay, parameter` for each connection.
# Its copy at step $t$ leads from the source at step $t - \text{delay}$ to the target at step $t$, for
# $t = 0, \dots, T - 1$. Step $-1$ holds the values before the first step; it is read and not computed.
#
# Return two things. First, an integer array of shape (T · C, 5) with a row
# `source, its step, target, its step, parameter` for each copy: all connections of step 0 in the order of
# `edges`, then those of step 1, and so on. Second, the number of different parameters of the unfolded net.
#
# By hand: a unit 1 with a loop that reads an input unit 0, `edges = [[0, 1, 0, 0], [1, 1, 1, 1]]`, over two
# steps. The rows are `[0, 0, 1, 0, 0]`, `[1, -1, 1, 0, 1]`, `[0, 1, 1, 1, 0]`, `[1, 0, 1, 1, 1]`, and there
# are 2 parameters.

# %% solution="unfold-edges"
def unfold_edges(edges, steps):
    """(rows (T * C, 5): source, step, target, step, parameter; number of parameters), edges (C, 4)."""
    ### BEGIN SOLUTION
    rows = []
    for t in range(steps):
        for source, target, delay, parameter in edges:
            rows.append((source, t - delay, target, t, parameter))
    return np.array(rows), len(set(edges[:, 3].tolist()))
    ### END SOLUTION

# %%
loop = np.array([[0, 1, 0, 0], [1, 1, 1, 1]])
rows, parameters = unfold_edges(loop, 2)
print(rows, parameters)

# %% check="test-unfold-edges"
checks.recurrence.unfold_edges(unfold_edges)

# %% [markdown]
# Is it still the same net? The next cell runs a net with cycles by your `synchronous_step`, and then your
# unfolded one, which knows no steps: it computes one copy of a unit after the other, as in any feed-forward
# net. How much longer does the list of connections become from 3 steps to 30? And the list of parameters?

# %%
rng = np.random.default_rng(0)
weights = rng.normal(size=3)
net = np.array([[0, 1, 1, 0], [1, 2, 1, 1], [2, 0, 1, 2], [2, 2, 1, 0], [1, 0, 1, 1]])
for steps in (3, 30):
    h = start = rng.normal(size=(1, 3))
    for _ in range(steps):
        h = synchronous_step(
            h, np.zeros((1, 3)), [(i, j, weights[p]) for i, j, _, p in net], np.zeros(3), ["tanh"] * 3
        )
    rows, parameters = unfold_edges(net, steps)
    values = {(unit, -1): start[0, unit] for unit in range(3)}
    for t in range(steps):
        for unit in range(3):
            read = [row for row in rows if (row[2], row[3]) == (unit, t)]
            values[unit, t] = np.tanh(sum(weights[p] * values[i, s] for i, s, _, _, p in read))
    unfolded = [values[unit, steps - 1] for unit in range(3)]
    print(
        f"{steps} steps: {len(rows)} connections, {parameters} parameters, "
        f"the same values: {np.allclose(h[0], unfolded)}"
    )

# %% [markdown]
# ## Part 4. A layer of such units
#
# Now the net that has one hidden layer whose units all read each other, and says something at every step:
#
# $$\mathbf h_t = \tanh(\mathbf x_t \mathbf U + \mathbf h_{t-1} \mathbf W + \mathbf b) \qquad
# \mathbf o_t = \mathbf h_t \mathbf V + \mathbf c$$
#
# Vectors are rows. $\mathbf h_{-1}$ is `h0` (N, U). Loop over the steps, and return the states of **all**
# steps as `h` (N, T, U), without `h0`, and the scores of all steps as `o` (N, T, K).
#
# By hand: one sequence, one feature, one unit, one class. `x = [1, 0]`, `u = 1`, `w = 0.5`, `b = 0`,
# `v = 2`, `c = 1`, `h0 = 0`. The states are `tanh(1)` = 0.762 and `tanh(0.381)` = 0.363, and the scores are
# 2.523 and 1.727.

# %% solution="rnn-forward"
def rnn_forward(x, u, w, v, b, c, h0):
    """States (N, T, U) and scores (N, T, K): x (N, T, D), u (D, U), w (U, U), v (U, K), b (U,), c (K,)."""
    ### BEGIN SOLUTION
    h = np.empty((x.shape[0], x.shape[1], len(w)), x.dtype)
    state = h0
    for t in range(x.shape[1]):
        state = np.tanh(x[:, t] @ u + state @ w + b)
        h[:, t] = state
    return h, h @ v + c
    ### END SOLUTION

# %%
one = np.ones((1, 1))
h, o = rnn_forward(np.array([[[1.0], [0.0]]]), one, 0.5 * one, 2 * one, np.zeros(1), np.ones(1), 0 * one)
print(h.ravel().round(3), o.ravel().round(3))

# %% check="test-rnn-forward"
checks.recurrence.rnn_forward(rnn_forward)

# %% [markdown]
# ## Part 5. What it should have said
#
# Every step has a label, the number of the right class: `labels` (N, T). The softmax of the scores gives
# probabilities, and the loss is the **mean**, over all steps of all sequences, of minus the logarithm of the
# right class's probability:
#
# $$L = - \frac{1}{N T} \sum_{n, t} \log p_{n, t, y_{n,t}} \qquad
# p_{n, t, k} = \frac{e^{o_{n, t, k}}}{\sum_l e^{o_{n, t, l}}}$$
#
# Return a float. Scores may be in the thousands, and a probability may be smaller than the smallest number
# that a computer has. The loss is finite all the same: do not compute $p$ on the way to $\log p$.
#
# By hand: one sequence, two steps, two classes, `o = [[[0, 0], [3, 0]]]` and `labels = [[0, 1]]`. The first
# step's loss is $\log 2 = 0.693$, the second's $\log(1 + e^3) = 3.049$, the mean is `1.871`.

# %% solution="sequence-loss"
def sequence_loss(o, labels):
    """Mean cross-entropy of softmax(o) and the labels: o (N, T, K), labels (N, T) of integers."""
    ### BEGIN SOLUTION
    shifted = o - o.max(axis=2, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))
    return -float(np.take_along_axis(log_p, labels[..., None], axis=2).mean())
    ### END SOLUTION

# %%
print(round(sequence_loss(np.array([[[0.0, 0.0], [3.0, 0.0]]]), np.array([[0, 1]])), 3))

# %% check="test-sequence-loss"
checks.recurrence.sequence_loss(sequence_loss)

# %% [markdown]
# ## Part 6. In words, and by experiment

# %% [markdown] written="lossy-summary" points=4
# **Question.** "The state of a recurrent net has been through every input of the sequence. So it remembers
# the whole sequence." Put this right in a few sentences. Compare what grows with the length of the sequence
# and what does not; give the largest number of sequences that a state of U numbers with q binary digits each
# can tell apart; say what decides which part of the past is kept. Last, what can such a net do that a
# convolution across time with a window of r steps cannot, and what does it pay for that?
#
# ### BEGIN SOLUTION
# The past grows with every step, the state does not: it is U numbers at step 3 and at step 3000. It can tell
# at most $2^{qU}$ pasts apart, and there are more sequences than that as soon as they are long enough, so
# that different sequences share a state. What they differ in is lost: the state is a lossy summary. Training
# decides what is kept. The loss rewards keeping what later outputs need; nothing rewards keeping the rest.
#
# The net can answer about an input at any lag, also one that it has not met in training. A window of r steps
# does not see an input more than r - 1 steps ago and is at chance there, however it is trained. The price is
# that steps must wait for each other, and that a gradient must travel through as many steps as the lag.
#
# 1 point: fixed size against growing past. 1 point: $2^{qU}$, so that sequences share states. 1 point: the
# training criterion decides. 1 point: any lag against r - 1, paid by sequential steps (or by long gradient
# paths).
# ### END SOLUTION

# %% [markdown] task="forget-the-start" points=4
# **Experiment.** How long does a state remember where it started? Take 32 units, no input (`x` = 0, D = 1)
# and no bias, and let `w` be a gain g times a random orthogonal matrix,
# `np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0]`. Run your `rnn_forward` for 100 steps from
# two random starts (as a batch of two, values of standard deviation 0.1) and follow the distance between the
# two states. **First** write down what you expect for g = 0.5, 0.9, 1 and 1.5. Then measure, print the
# distance after 1, 10 and 100 steps for each gain, and add cells below with prediction, code, table, and two
# or three sentences: in which nets is the start forgotten, how fast, and is a net that never forgets its
# start a good memory for its inputs?
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: a prediction that stands before the measurement.
# - 1 point: the table, 4 gains at 3 times, by code that runs.
# - 1 point: an orthogonal matrix keeps lengths, so that a step shrinks the distance by about g: at 0.5 some
#   1e-30 of it is left after 100 steps, at 0.9 some 1e-5; at 1 it falls too, but slowly, because tanh makes
#   every value a little smaller; at 1.5 it grows until tanh bounds it, and the states stay apart.
# - 1 point: not by itself. A state that keeps apart where it started is full of the start, and what the
#   inputs do is mixed into it or pressed into the flat ends of tanh: what to keep has to be chosen, and
#   training does that.
#
# === END MARK SCHEME ===
