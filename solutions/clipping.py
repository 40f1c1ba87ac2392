# %% [markdown]
# # Clip the gradient
#
# A recurrent net can be gentle for a thousand steps of training and a cliff at the next one: a gradient that
# is a hundred times as long as all before it throws the weights away, and what was learnt is lost. The cure
# takes three lines. Here you write them, in two kinds, and put them in the right place of the loop. Then you
# hand your loop a task that it cannot learn without them.
#
# | part | you write | section of the page *Clip the gradient* |
# |---|---|---|
# | 1 | clipping by value | *Cut number by number* |
# | 2 | clipping by norm | *Scale the whole gradient*, *Clip all arrays together* |
# | 3 | a training loop that clips | *Put it between backward and step*, *Leave out what is broken* |
# | 4 | an answer in words, an experiment | *See what happens to the direction*, *Choose the limit* |
#
# **How it works.** Write your code where the cell says so and run the one-line cell below it. It calls your
# function on arrays of many shapes, prints what went wrong and on which case, and shows your points. The
# same line grades your work, on other random numbers. Run it as often as you like. Each function is tested
# with its own correct inputs: an error in one does not cost you points in another.
#
# **Rules.** NumPy only. Write the functions yourself: a call to `coursekit`'s or PyTorch's own version is
# noticed. No function changes its arguments: it makes new arrays and new dictionaries. Every array keeps its
# dtype.
#
# **Names.** The gradients of a net are a dictionary: name of the parameter → array. `limit` is a float above
# zero.

# %% locked="setup"
import math

import numpy as np

from coursekit import cells, checks, clipping, recurrent
from coursekit.data import sequences

# %% [markdown]
# ## Part 1. By value
#
# Every single number of every array is cut down to the range from `-limit` to `limit`; what lies inside the
# range stays as it is. A number that is *exactly* at the limit stays, too.
#
# Return two things: the clipped gradients, a dictionary with the same keys, and the **share** of numbers
# that were cut, as a float: how many were cut in all arrays together, divided by how many there are.
#
# By hand, with `limit = 1.0`: `{"w": [[3.0, -0.5], [1.0, -2.0]], "b": [0.25]}` becomes
# `{"w": [[1.0, -0.5], [1.0, -1.0]], "b": [0.25]}`. Two of five numbers were cut: `0.4`.

# %% solution="clip-by-value"
def clip_by_value(gradients, limit):
    """(clipped gradients, share of numbers that were cut), for a dictionary of arrays."""
    ### BEGIN SOLUTION
    clipped = {name: np.clip(g, -limit, limit) for name, g in gradients.items()}
    cut = sum(np.sum(np.abs(g) > limit) for g in gradients.values())
    return clipped, cut / sum(g.size for g in gradients.values())
    ### END SOLUTION

# %%
# Try it on the numbers that you did by hand.
by_hand = {"w": np.array([[3.0, -0.5], [1.0, -2.0]]), "b": np.array([0.25])}
print(clip_by_value(by_hand, 1.0))

# %% check="test-clip-by-value"
checks.clipping.clip_by_value(clip_by_value)

# %% [markdown]
# ## Part 2. By norm
#
# Think of all the numbers of all the arrays as one long vector $\mathbf g$. Its norm is the root of the sum
# of all squares. If the norm exceeds the limit, the whole vector is scaled so that its norm *is* the limit;
# otherwise nothing happens:
#
# $$\mathbf g \leftarrow \mathbf g \, \frac{\text{limit}}{\lVert \mathbf g \rVert}
# \quad \text{if } \lVert \mathbf g \rVert > \text{limit}$$
#
# Return two things: the clipped gradients and the norm **before** clipping, as a float. A caller wants to
# know how steep it was, and the norm afterwards says nothing.
#
# By hand, with `limit = 1.0`: `{"w": [3.0], "b": [-4.0]}` has the norm 5 and becomes
# `{"w": [0.6], "b": [-0.8]}`. Neither array was asked how long it is by itself. With `limit = 10.0` it stays.

# %% solution="clip-by-norm"
def clip_by_norm(gradients, limit):
    """(clipped gradients, norm before clipping), for a dictionary of arrays that are clipped together."""
    ### BEGIN SOLUTION
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype="float64"))) for g in gradients.values()))
    factor = limit / norm if norm > limit else 1.0
    return {name: g * factor for name, g in gradients.items()}, norm
    ### END SOLUTION

# %%
print(clip_by_norm({"w": np.array([3.0]), "b": np.array([-4.0])}, 1.0))

# %% check="test-clip-by-norm"
checks.clipping.clip_by_norm(clip_by_norm)

# %% [markdown]
# How often does a gradient of independent normal numbers exceed the limit 1 if the net has 10, 100 or 1000
# of them? Does a limit that suits a small net suit a large one?

# %%
for size in (10, 100, 1000):
    noise = {"w": 0.1 * np.random.default_rng(0).normal(size=size)}
    clipped, norm = clip_by_norm(noise, 1.0)
    print(f"{size:5} numbers: norm {norm:.2f}, first number {noise['w'][0]:.3f} -> {clipped['w'][0]:.3f}")

# %% [markdown]
# ## Part 3. The loop
#
# Now put it in its place. `train` goes through the batches once, in their order, and makes one step of
# gradient descent with momentum for each:
#
# 1. `gradient_of(parameters, batch)` gives a dictionary of gradients. Ask it for the parameters *of now*.
# 2. Clip the gradients by norm, all together.
# 3. The velocity becomes $\mathbf v \leftarrow \text{momentum} \cdot \mathbf v + \mathbf g$. It starts at 0.
# 4. The parameters become $\mathbf p \leftarrow \mathbf p - \text{lr} \cdot \mathbf v$.
#
# One more thing: sometimes the norm is not a finite number, because something overflowed. No scaling helps
# then. Leave that batch out: **parameters and velocity stay as they are**, and training goes on.
#
# Return three things: the parameters at the end, the norms *before* clipping as an array with one entry for
# each batch, the broken ones included, and the **clip rate**: the number of batches whose gradients were
# scaled down, divided by the number of all batches. A broken batch is left out, not scaled.
#
# By hand, with one parameter `p = 1.0`, `lr = 0.1`, `momentum = 0.5` and `limit = 2.0`: the first gradient is
# 8, which is clipped to 2; the velocity is 2 and `p` becomes 0.8. The second gradient is 1; the velocity is
# 0.5 · 2 + 1 = 2 and `p` becomes 0.6. The norms are `[8, 1]`, the clip rate is 0.5.
#
# Use your `clip_by_norm`. This is the one place where an earlier error would follow you: while its check is
# not green, call the library's `clipping.clip_norm(gradients, limit)` instead, which gives the same two
# things. `math.isfinite(norm)` tells whether a number is finite. NumPy warns where something overflows; that
# is no error.

# %% solution="train"
def train(parameters, gradient_of, batches, lr, momentum, limit):
    """(parameters, norms before clipping, clip rate) after one step for each batch; see the text above."""
    ### BEGIN SOLUTION
    velocity = {name: np.zeros_like(p) for name, p in parameters.items()}
    norms, clipped = [], 0
    for batch in batches:
        gradients, norm = clip_by_norm(gradient_of(parameters, batch), limit)
        norms.append(norm)
        if math.isfinite(norm):
            clipped += norm > limit
            velocity = {name: momentum * velocity[name] + g for name, g in gradients.items()}
            parameters = {name: p - lr * velocity[name] for name, p in parameters.items()}
    return parameters, np.array(norms), clipped / len(batches)
    ### END SOLUTION

# %%
# The example by hand: these two gradients come whatever the parameters are.
gradients_by_hand = iter([{"p": np.array([8.0])}, {"p": np.array([1.0])}])
print(train({"p": np.array([1.0])}, lambda p, batch: next(gradients_by_hand), [0, 1], 0.1, 0.5, 2.0))

# %% check="test-train"
checks.clipping.train(train)

# %% [markdown]
# ### Will it survive?
#
# The parity of 50 bits: is the number of ones odd? Change any one bit, and the answer turns. The net below is
# a plain recurrent net of 16 units, with a random rotation for its recurrent weights. It is asked after every
# bit, and judged by its last answer. Whoever guesses is right half of the time, and so is who always says
# "odd".

# %% locked="parity"
BITS, UNITS, STEPS = 50, 16, 1500


def new_net(seed):
    """Parameters u, w, b, v, c of a plain recurrent net, float32."""
    rng = np.random.default_rng(seed)
    parameters = cells.initial_weights(1, UNITS, rng=rng)
    parameters["v"] = (rng.normal(size=(UNITS, 2)) / math.sqrt(UNITS)).astype("float32")
    parameters["c"] = np.zeros(2, "float32")
    return parameters


def new_batches(seed):
    """One batch of 32 sequences for each step."""
    rng = np.random.default_rng([seed, 1])
    return [sequences.parity(32, BITS, rng=rng, running=True) for _ in range(STEPS)]


def parity_gradient(parameters, batch):
    """Gradients of the cross-entropy after every bit, by backpropagation through time."""
    _, cache = recurrent.sequence_loss_forward(batch.x, batch.target, **parameters)
    gradients = recurrent.sequence_loss_backward(cache)
    return {name: getattr(gradients, f"d{name}") for name in parameters}


def share_right(parameters):
    """Share of 1000 new sequences whose parity the net knows after the last bit."""
    x, odd, _ = sequences.parity(1000, BITS, rng=2)
    h, _ = recurrent.rnn_forward(x, parameters["u"], parameters["w"], parameters["b"])
    return np.mean((h[-1] @ parameters["v"] + parameters["c"]).argmax(axis=1) == odd)


# %% [markdown]
# The same net, the same batches, the same learning rate, once without a limit and once with. Predict: which
# of the two has the larger norms? Which has the larger share of right answers?

# %% tags=["nbval-ignore-output"]
for limit in (math.inf, 0.3):
    trained, norms, rate = train(new_net(0), parity_gradient, new_batches(0), 0.2, 0.9, limit)
    print(
        f"limit {limit}: {share_right(trained):.3f} right, clip rate {rate:.3f}, "
        f"norms: median {np.median(norms):.3f}, largest {norms.max():.1f}"
    )

# %% [markdown]
# ## Part 4. In words, and by experiment

# %% [markdown] written="direction" points=3
# **Question.** A net has two weights, each an array of its own, and its gradient is $(30,\ 0.4)$. Anna clips
# by value with limit 1, Ben by norm with limit 1, both arrays together, and Cem by norm with limit 1, each
# array on its own. Give the three clipped gradients and their angles to the raw one. Does each of the three
# still lead downhill, if the step is small enough, and why? Which of the three steps is the steepest way
# down, and what has happened to the ratio of the two weights in the others?
#
# ### BEGIN SOLUTION
# Anna: $(1,\ 0.4)$. The raw gradient points $\arctan(0.4 / 30) = 0.8°$ away from the first axis, hers
# $\arctan 0.4 = 21.8°$: an angle of 21.0°. Ben: $(0.9999,\ 0.0133)$, the angle is 0. Cem: $(1,\ 0.4)$ like
# Anna, since an array of one number is scaled to the limit as the number would be cut.
#
# All three lead downhill: the inner product with the raw gradient is positive (30.2, 30.0, 30.2), because no
# entry has changed its sign. Ben's is the steepest way down, the direction of the gradient itself. In the
# others the second weight, whose part of the step was 75 times smaller than that of the first, is now moved
# only 2.5 times less: the ratio is lost wherever one number or one array is cut and another is not.
#
# 1 point: the three vectors and angles. 1 point: downhill, because the signs stay (or: the inner products
# are positive). 1 point: only Ben keeps the direction; the ratio of 75 becomes 2.5 in the others.
# ### END SOLUTION

# %% [markdown] task="choose-a-limit" points=4
# **Experiment.** How much does the limit matter? Train the parity net for the seeds 0 and 1 with the limits
# 0.01, 0.1, 0.3, 1 and 3, all else as above. **First** write down what you expect: at which limits does the
# net learn the task, and how does the clip rate change with the limit? Then measure, print a table of the
# share right and the clip rate, and add cells below with prediction, code, table, and two or three
# sentences: where were you wrong, what is wrong with a limit that is far too low, and what with one that is
# far too high?
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: a prediction that stands before the measurement.
# - 1 point: the table, 5 limits by 2 seeds, by code that runs.
# - 1 point: the clip rate falls as the limit rises; there is a broad middle (about 0.1 to 1 here) where the
#   net learns the task, with clip rates from a half down to one in a hundred.
# - 1 point: far too low, every step is cut to the same short length, and the net gets nowhere in the time it
#   has (with momentum, it moves at most lr · limit / (1 - momentum) at a step); far too high, the rare steep
#   steps come through, as without a limit.
#
# === END MARK SCHEME ===
