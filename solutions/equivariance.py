# %% [markdown]
# # What the layer assumes
#
# A convolutional layer does not see just any array of numbers. It takes for granted that neighbours belong
# together, that a pattern is worth finding wherever it stands, and that not every pixel counts. Here you take
# these assumptions one by one and put a number on each: what it saves, how exactly it holds, and what it
# hides.
#
# | part | you write | section of the page *Ask what the layer assumes* |
# |---|---|---|
# | 1 | a layer that shares nothing, and the price of three layers | *Count what locality and sharing save* |
# | 2 | a meter of equivariance | *Measure equivariance* |
# | 3 | a count of what pooling keeps | *Buy invariance with pool size* |
# | 4 | a prediction of what a stride does to a fast wave | *Sub-sample with care* |
# | 5 | an answer in words, an experiment | all of them |
#
# **How it works.** Write your code where the cell says so and run the one-line cell below it. It calls your
# function on arrays of many shapes, prints what went wrong and on which case, and shows your points. The
# same line grades your work, on other random numbers. Run it as often as you like. Each function is tested
# with its own correct inputs: an error in one does not cost you points in another.
#
# **Rules.** NumPy only. Write the functions yourself: a call to `coursekit`'s or PyTorch's own version is
# noticed. No function changes its arguments.
#
# **Names.** N images in a batch, C channels, H × W pixels, F filters or maps. Every pair of numbers is
# (down, across): first along the rows' axis H, then along the columns' axis W.

# %% locked="setup"
import numpy as np

from coursekit import checks, conv, layers, pooling

# %% [markdown]
# ## Part 1. What does sharing save?
#
# Take a convolutional layer and withdraw one of its assumptions: every position now has kernels **of its
# own**. It still looks at a small window, so it is *locally connected*, but nothing is shared.
#
# The kernels lie in an array `w` of shape (P, F, C, KH, KW) and the biases in `b` of shape (P, F), with one
# entry for each of the P = HO · WO positions. Positions are counted in reading order, along the first row,
# then along the second. The stride is (SH, SW), and there is no padding:
#
# $$HO = \left\lfloor \frac{H - KH}{SH} \right\rfloor + 1 \qquad
# WO = \left\lfloor \frac{W - KW}{SW} \right\rfloor + 1$$
#
# $$y_{n,f,i,j} = b_{p,f} + \sum_{c,k,l} w_{p,f,c,k,l}\; x_{n,\,c,\,i \cdot SH + k,\,j \cdot SW + l}
# \qquad p = \text{number of position } (i, j)$$
#
# The result has the dtype of `x`.
#
# By hand: the image has one row `[1, 2, 3, 4]`, and the windows are one pixel high and two wide, at stride
# (1, 1). The three positions have the kernels `[1, 0]`, `[0, 1]`, `[1, 1]` and the biases `0`, `10`, `0`.
# The result is `[1, 13, 7]`.

# %% solution="local-forward"
def local_forward(x, w, b, stride):
    """A kernel for each position: x (N, C, H, W), w (P, F, C, KH, KW), b (P, F) -> y (N, F, HO, WO)."""
    ### BEGIN SOLUTION
    (KH, KW), (SH, SW) = w.shape[3:], stride
    HO, WO = (x.shape[2] - KH) // SH + 1, (x.shape[3] - KW) // SW + 1
    y = np.empty((len(x), w.shape[1], HO, WO), x.dtype)
    for i, j in np.ndindex(HO, WO):
        p = i * WO + j
        window = x[:, :, i * SH : i * SH + KH, j * SW : j * SW + KW]
        y[:, :, i, j] = np.einsum("nckl,fckl->nf", window, w[p]) + b[p]
    return y
    ### END SOLUTION

# %%
# Try it on the row that you did by hand.
row = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
kernels = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).reshape(3, 1, 1, 1, 2)
print(local_forward(row, kernels, np.array([[0.0], [10.0], [0.0]]), (1, 1)))

# %% check="test-local-forward"
checks.equivariance.local_forward(local_forward)

# %% [markdown]
# ### And what does it cost?
#
# Three layers turn the same C × H × W numbers into the same F × HO × WO numbers (no padding, sizes as
# above):
#
# * `"dense"`: every output number is connected to every input number;
# * `"local"`: the layer that you have just written;
# * `"convolution"`: the same kernels and biases at every position.
#
# Return two whole numbers: how many **parameters** the layer has, biases included, and how many
# **multiplications** it takes for one image. A multiplication is one weight times one input number.
#
# By hand: one channel, an image of 1 × 5, two filters, a kernel of 1 × 3, stride (1, 1). There are three
# positions, so that 5 numbers become 6. The dense layer has 30 weights and 6 biases and takes 30
# multiplications: `(36, 30)`. The locally connected layer gives `(24, 18)`. Which of its two numbers does
# sharing change?

# %% solution="layer-cost"
def layer_cost(kind, channels, image, filters, kernel, stride):
    """(parameters, multiplications) of a "dense", "local" or "convolution" layer.

    channels: C.   image: (H, W).   filters: F.   kernel: (KH, KW).   stride: (SH, SW).
    """
    ### BEGIN SOLUTION
    positions = 1
    for n, k, s in zip(image, kernel, stride, strict=True):
        positions *= (n - k) // s + 1
    seen = image if kind == "dense" else kernel
    weights = channels * seen[0] * seen[1]
    multiplications = filters * positions * weights
    copies = 1 if kind == "convolution" else positions
    return filters * copies * (weights + 1), multiplications
    ### END SOLUTION

# %% check="test-layer-cost"
checks.equivariance.layer_cost(layer_cost)

# %% [markdown]
# Look at a layer of a useful size: 16 channels of 32 × 32 pixels, 32 filters of 3 × 3. Guess the ratio of
# the first two rows, and of the last two, before you run the cell.

# %%
for kind in ("dense", "local", "convolution"):
    parameters, multiplications = layer_cost(kind, 16, (32, 32), 32, (3, 3), (1, 1))
    print(f"{kind:12} {parameters:11,} parameters {multiplications:12,} multiplications")

# %% [markdown]
# ## Part 2. Does the output move along?
#
# Move the image, written $T x$, and look at what a layer $f$ makes of it. If the layer is *equivariant*, its
# output has moved along, $f(T x) = T' f(x)$, where $T'$ moves the output as $T$ moved the image. One thing
# is different: a layer with stride $s$ has one output unit for every $s$ pixels, so that $T'$ moves by
# $1/s$ as many units as $T$ moves pixels.
#
# The meter is the part that fails to move along, compared with how much there is to see:
#
# $$e = \frac{\lVert f(T x) - T' f(x) \rVert}{\lVert f(x) - \overline{f(x)} \rVert}$$
#
# $\lVert a \rVert$ is the root of the sum of all squares, over the whole batch. $\overline{f(x)}$ is the mean
# of each map of each image on its own, over its rows and columns.
#
# Your function gets the two outputs, `y` = $f(x)$ and `y_moved` = $f(T x)$. `shift` = (down, across) tells by
# how many *pixels* the image was moved, with negative numbers for up and left. What leaves the image on one
# side comes back on the other, and the same is true of $T'$. Both numbers of `shift` are multiples of the
# stride, which is the same down and across. Return a float.
#
# By hand: one map with one row, `y = [2, 2, 0, 0]`, `stride=2`, `shift=(0, 2)`. Moved along, it is
# `[0, 2, 2, 0]`. If `y_moved = [0, 2, 2, 1]`, the upper norm is 1 and the lower one is 2: $e = 0.5$.

# %% solution="equivariance-error"
def equivariance_error(y, y_moved, shift, stride):
    """|| y_moved - T' y || / || y - mean of each map ||, for outputs (N, F, HO, WO) of a layer."""
    ### BEGIN SOLUTION
    down, across = shift
    along = np.roll(y, (down // stride, across // stride), axis=(2, 3))
    variation = y - y.mean(axis=(2, 3), keepdims=True)
    return float(np.linalg.norm(y_moved - along) / np.linalg.norm(variation))
    ### END SOLUTION

# %%
y = np.array([2.0, 2.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
y_moved = np.array([0.0, 2.0, 2.0, 1.0]).reshape(1, 1, 1, 4)
print(equivariance_error(y, y_moved, (0, 2), 2))

# %% check="test-equivariance-error"
checks.equivariance.equivariance_error(equivariance_error)

# %% [markdown]
# Now hold your meter to some layers. Here they are, with a function that moves the images for you.

# %% locked="layers"
rng = np.random.default_rng(0)
noise = rng.normal(size=(4, 1, 12, 12))
w = rng.normal(size=(8, 1, 3, 3))
unshared = layers.LocallyConnected2d(1, 8, 3, (12, 12), padding=1, rng=rng, dtype="float64")


def convolution(stride=1, mode="circular"):
    """A convolution of images with one channel that keeps one unit for each stride pixels."""
    return lambda x: conv.conv2d_forward(x, w, stride=stride, padding=1, padding_mode=mode)[0]


def translate(x, shift):
    """Images (N, C, H, W) moved (down, across); what leaves on one side comes back on the other."""
    return np.roll(x, shift, axis=(2, 3))


def meter(layer, x, shift, stride=1):
    """Your meter, applied to a layer."""
    return equivariance_error(layer(x), layer(translate(x, shift)), shift, stride)


# %% [markdown]
# Predict each row: zero, or not? The second one is moved by a multiple of its stride, as your meter asks.
# What happens at the shifts in between is shown in the book, whose meter can move by half a unit.

# %%
print(f"circular padding            {meter(convolution(), noise, (0, 2)):.3f}")
print(f"circular padding, stride 2  {meter(convolution(2), noise, (0, 2), 2):.3f}")
print(f"zero padding                {meter(convolution(mode='zeros'), noise, (0, 2)):.3f}")
print(f"locally connected           {meter(unshared, noise, (0, 2)):.3f}")

# %% [markdown]
# ## Part 3. Does the output stay as it was?
#
# *Invariance* is another wish: $f(T x) = f(x)$. Pooling grants it in part. A pooled unit reports the largest
# value in its window, and as long as the winner stays inside the window, nobody notices that it moved.
#
# You get the maps of a detector stage, `before` and `after` the image was moved, and the window `pool` =
# (PH, PW). Pool both with the **maximum**, windows moving by **one pixel**, no padding: HO = H - PH + 1,
# WO = W - PW + 1. Then return the share of pooled units that have **exactly** the same value before and
# after, as a float.
#
# Count only units that were *active*, that is not 0, before **or** after. In most places of most images
# there is nothing to detect, and a unit that says "nothing here" twice has not shown any invariance. Every
# unit of every map and image counts once.
#
# By hand, with `pool=(1, 2)`: the row `[0, 3, 1, 2, 0, 0, 0]` is pooled to `[3, 3, 2, 2, 0, 0]`. Moved to the
# right by one pixel it is `[0, 0, 3, 1, 2, 0, 0]`, pooled `[0, 3, 3, 2, 2, 0]`. Five units are active before
# or after; two of them keep their value: `0.4`.
#
# For the pooling itself you may use the library, `pooling.max_pool2d_forward(maps, pool, stride=1)[0]`, or
# NumPy's `sliding_window_view`.

# %% solution="unchanged-share"
def unchanged_share(before, after, pool):
    """Share of active max-pooled units that keep their value: maps (N, F, H, W) before and after."""
    ### BEGIN SOLUTION
    before, after = (pooling.max_pool2d_forward(maps, pool, stride=1)[0] for maps in (before, after))
    active = (before != 0) | (after != 0)
    return float(np.mean((before == after)[active]))
    ### END SOLUTION

# %%
before = np.array([0.0, 3.0, 1.0, 2.0, 0.0, 0.0, 0.0]).reshape(1, 1, 1, 7)
print(unchanged_share(before, translate(before, (0, 1)), (1, 2)))

# %% check="test-unchanged-share"
checks.equivariance.unchanged_share(unchanged_share)

# %% [markdown]
# How large must a pool be to survive a step of one pixel, or of three? If the detectors are independent
# noise, a share of $(p - d) / (p + d)$ keeps its value, for a pool of $p \times p$ and a step of $d < p$.
# Your function measures it:

# %%
detectors = np.random.default_rng(1).uniform(0.1, 1, (1, 1, 150, 150))
for d in (1, 3):
    moved = translate(detectors, (0, d))
    shares = ", ".join(f"{unchanged_share(detectors, moved, (p, p)):.2f}" for p in range(2, 9))
    print(f"a step of {d}, pools of 2 to 8: {shares}")

# %% [markdown]
# ## Part 4. What becomes of a fast wave?
#
# A layer with stride $s$ is the same layer with stride 1 of whose outputs every $s$-th is kept, in each
# direction. It costs nothing to believe it less:

# %%
for stride in (2, 3):
    kept = convolution(1)(noise)[:, :, ::stride, ::stride]
    print(stride, np.allclose(convolution(stride)(noise), kept))

# %% [markdown]
# So a stride throws outputs away, and that has a price. Let the stride-1 output be a wave of $f$ periods per
# pixel, $\cos(2 \pi f j)$ at pixel $j$, with $f$ between 0 and 1/2. The stride keeps its samples at the
# pixels $0, s, 2s, \dots$ If the wave is fast, slower ones pass through the same samples, and the eye, like
# the next layer, sees the **slowest** of them. How many periods per *pixel* of the input does that one have?
# Return a number between 0 and $1 / (2s)$.
#
# Two facts are all you need. A whole number of periods between two samples goes unseen. And
# $\cos(2 \pi a) = \cos(2 \pi (1 - a))$.
#
# By hand: with $f = 0.4$ and $s = 2$, each sample is 0.8 periods after the one before, which looks like 0.2
# periods; over two pixels, that is `0.1` periods per pixel. With $f = 0.1$ and $s = 2$ nothing happens:
# `0.1`. And $f = 0.45$ with $s = 5$ makes 2.25 periods from sample to sample, which looks like `0.05`.

# %% solution="apparent-frequency"
def apparent_frequency(frequency, stride):
    """Periods per pixel of the slowest wave with the samples of a wave of `frequency`, stride an int."""
    ### BEGIN SOLUTION
    turns = frequency * stride
    return abs(turns - round(turns)) / stride
    ### END SOLUTION

# %% check="test-apparent-frequency"
checks.equivariance.apparent_frequency(apparent_frequency)

# %% [markdown]
# The proof is in the samples: the wave that you predict goes through all of them.

# %%
pixels = np.arange(0, 60, 3)
for f in (0.10, 0.22, 0.30, 0.45):
    slow = apparent_frequency(f, 3)
    same = np.allclose(np.cos(2 * np.pi * f * pixels), np.cos(2 * np.pi * slow * pixels))
    print(f"{f:.2f} periods per pixel at stride 3 look like {slow:.3f}: {same}")

# %% [markdown]
# ## Part 5. In words, and by experiment

# %% [markdown] written="invariant-net" points=3
# **Question.** "My network recognises a cat wherever it stands. Convolutions are translation invariant, so
# this was to be expected." The network has three convolution stages with zero padding, each followed by a
# ReLU and a max pooling of 2 × 2 with stride 2; a dense layer ends it. Put the sentence right: what do the
# convolutions do when the cat moves, for which steps does the output of the last pooling follow exactly as
# long as the cat stays away from the border, and which part of the network decides whether the answer stays
# the same?
#
# ### BEGIN SOLUTION
# A convolution is equivariant, not invariant: its maps move along with the cat. Three strides of 2 leave one
# unit for every 8 pixels, so the last maps follow exactly if the cat moves by a multiple of 8 pixels down
# and across (the border aside: zero padding breaks it there). In between, the windows meet other pixels and
# the maps change in content. Even if the maps only move, the answer need not stay: the dense layer has
# another weight for every position, so that the last word is with it. It has learnt from cats in many places,
# or it has not.
#
# 1 point: equivariant, the maps move along. 1 point: multiples of 2 · 2 · 2 = 8. 1 point: the dense layer
# has weights for each position; training on many positions (or global pooling before it) makes it invariant.
# ### END SOLUTION

# %% [markdown] task="predict-then-measure" points=4
# **Experiment.** Does it matter what the border is made of, and how far the image moves? Use `meter` on
# `noise` with convolutions of stride 1 that pad with `"zeros"`, `"reflect"`, `"replicate"` and `"circular"`,
# for shifts across of 1, 2, 4 and 6 pixels. **First** write your prediction as a ranking of the four. Then
# measure, print a table, and repeat it with images of 48 × 48 pixels. Add cells below with prediction, code,
# table, and two or three sentences: where were you wrong, what does the larger image change, and why does it
# not change the row of `"circular"`?
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: a prediction that stands before the measurement.
# - 1 point: both tables, 4 paddings by 4 shifts, by code that runs.
# - 1 point: zeros err less than reflect and replicate, since made-up pixels that are larger make larger
#   errors (mirrored noise is as loud as the image); all fall for the larger image, where the border is a
#   smaller part of the whole (about by half, the root of the ratio of the borders' shares).
# - 1 point: circular padding has no border in a world that wraps around, so the error is rounding at any
#   size.
#
# === END MARK SCHEME ===
