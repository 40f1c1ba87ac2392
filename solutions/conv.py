# %% [markdown]
# # The convolutional layer, by hand
#
# You will build a convolutional layer from loops and array slices: how large its output is, its forward
# pass, its backward pass, dilation, padding that is more than zeros, and at the end one variant in torch
# that runs on any device. Each task uses an idea from the one before; each is graded on its own, so one
# mistake costs once.
#
# Read along in the book: *Compute the convolution stage* (`convolution/arithmetic`), *Derive the gradients*
# (`convolution/gradients`) and *See further with dilation* (`convolution/dilation`).
#
# **How to work.** Write your code in place of `raise NotImplementedError`, run the cell, then run the line
# below it. That line is the grading: it says what you have, and where it can, which mistake you made. Run it
# as often as you like. Your hand-in is graded on other random numbers.
#
# **Rules.** NumPy's slicing, arithmetic, `einsum`, `tensordot` and `pad` are yours. What does the whole job
# (`coursekit.conv`, `np.convolve`, `sliding_window_view`, `as_strided`, `scipy`) is what you build, so a
# check that sees it called gives 0; torch is for Task 9 alone, without its convolutions. Functions never
# change their arguments and keep the dtype of `x`.
#
# A later task may call a function of an earlier one. If that one is still wrong, use the book's helper in its
# place and lose nothing: `arrays.output_size`, `conv.effective_kernel` and `arrays.pad` of `coursekit` are
# allowed wherever they help and are not the task itself.
#
# **Notation.** `N` images, `C` channels in, `F` filters, `H` by `W` pixels, `KH` by `KW` taps of the kernel.

# %% locked="setup"
import numpy as np
import torch

from coursekit import checks

# %% [markdown]
# ## Task 1: how many windows fit?
#
# A row has `size` pixels. `before` and `after` pixels are added at its two ends. A kernel of `kernel` taps
# slides over it in steps of `stride`; neighbouring taps are `dilation` pixels apart. How many windows lie
# wholly inside the padded row?
#
# By hand, for 7 pixels, kernel 3 and stride 2: the windows start at pixels 0, 2 and 4, and one at 6 would
# stick out. So `output_size(7, 3, stride=2)` is `3`. With dilation 2 the same kernel covers 5 pixels, its
# windows start at 0 and 2: `output_size(7, 3, stride=2, dilation=2)` is `2`.

# %% solution="output-size"
def output_size(size, kernel, *, stride=1, before=0, after=0, dilation=1):
    """Number of windows along one axis, an int."""
    ### BEGIN SOLUTION
    covered = dilation * (kernel - 1) + 1
    return (size + before + after - covered) // stride + 1
    ### END SOLUTION

# %% check="test-output-size"
checks.conv.output_size(output_size)

# %% [markdown]
# ## Task 2: padding that keeps the size
#
# Turn Task 1 round. How many pixels must be added in total so that `ceil(size / stride)` windows fit, and
# no more than needed? Half of them go before the row and half after it; if the total is odd, the odd pixel
# goes to the side named by `odd_pixel`. Sometimes nothing has to be added: pads are never negative.
#
# By hand, for 7 pixels, kernel 4 and stride 2: `ceil(7 / 2) = 4` windows start at 0, 2, 4, 6 and the last
# one ends at 9, so 10 pixels are needed and 3 are missing: `(1, 2)`, or `(2, 1)` with `odd_pixel="before"`.

# %% solution="same-padding"
def same_padding(size, kernel, *, stride=1, dilation=1, odd_pixel="after"):
    """Pixels to add, a tuple (before, after) of two ints; odd_pixel is "before" or "after"."""
    ### BEGIN SOLUTION
    windows = -(-size // stride)
    needed = (windows - 1) * stride + dilation * (kernel - 1) + 1
    total = max(0, needed - size)
    smaller, larger = total // 2, total - total // 2
    return (smaller, larger) if odd_pixel == "after" else (larger, smaller)
    ### END SOLUTION

# %% check="test-same-padding"
checks.conv.same_padding(same_padding)

# %% [markdown]
# ## Task 3: one dimension
#
# Filter `f` looks at all channels of a window and adds its bias:
#
# $$y[n, f, i] = b[f] + \sum_{c} \sum_{k} w[f, c, k] \; x[n, c, i s + k]$$
#
# where $s$ is the stride. By hand, one channel and one filter: `x = [1, 2, 0, -1, 3]` and `w = [1, 0, -1]`
# give `y = [1 - 0, 2 + 1, 0 - 3] = [1, 3, -3]`. Nothing is flipped.
#
# The book's own code cuts out windows. Take the other way round: **loop over the taps** `k` of the kernel,
# and for each tap find, with one slice, the pixels that it meets in all windows at once. For tap 1 and
# stride 2 in a row of 7 with kernel 3 these are pixels 1, 3, 5.

# %% solution="conv1d-forward"
def conv1d_forward(x, w, b, *, stride=1):
    """x (N, C, W), w (F, C, K), b (F,) -> y (N, F, WO) in the dtype of x."""
    ### BEGIN SOLUTION
    windows = output_size(x.shape[2], w.shape[2], stride=stride)
    y = np.zeros((len(x), len(w), windows), x.dtype) + b[:, None]
    for k in range(w.shape[2]):
        met = x[:, :, k : k + stride * windows : stride]
        y += np.einsum("nci,fc->nfi", met, w[:, :, k])
    return y
    ### END SOLUTION

# %% check="test-conv1d-forward"
checks.conv.conv1d_forward(conv1d_forward)

# %% [markdown]
# ## Task 4: two dimensions
#
# The same with rows and columns, a stride for each, and zeros around the image:
#
# $$y[n, f, i, j] = b[f] + \sum_{c} \sum_{k} \sum_{l} w[f, c, k, l] \; x_p[n, c, i s_h + k, j s_w + l]$$
#
# `stride` is `(down the rows, along the columns)`, `pads` is `((top, bottom), (left, right))`, and $x_p$ is
# `x` with that many zeros on each side. A bias of `None` means that there is none. Loop over the taps again:
# a 3 by 3 kernel takes nine turns, however large the images are.

# %% solution="conv2d-forward"
def conv2d_forward(x, w, b=None, *, stride=(1, 1), pads=((0, 0), (0, 0))):
    """x (N, C, H, W), w (F, C, KH, KW), b (F,) or None -> y (N, F, HO, WO) in the dtype of x."""
    ### BEGIN SOLUTION
    xp = np.pad(x, ((0, 0), (0, 0), *pads))
    rows, columns = (output_size(xp.shape[a], w.shape[a], stride=stride[a - 2]) for a in (2, 3))
    y = np.zeros((len(x), len(w), rows, columns), x.dtype)
    for k, l in np.ndindex(w.shape[2:]):
        met = xp[:, :, k : k + stride[0] * rows : stride[0], l : l + stride[1] * columns : stride[1]]
        y += np.einsum("ncij,fc->nfij", met, w[:, :, k, l])
    return y if b is None else y + b[:, None, None]
    ### END SOLUTION

# %% check="test-conv2d-forward"
checks.conv.conv2d_forward(conv2d_forward)

# %% [markdown]
# ## Task 5: and back
#
# A loss $L$ depends on `y`, and somebody hands you `dy`, the gradient of $L$ with respect to `y`. Give the
# gradients with respect to `x`, `w` and `b`.
#
# By hand, with the row of Task 3 and `dy = [1, 10, 100]`. Tap 0 met pixels 0, 1, 2, so
# `dw[0] = 1 * 1 + 10 * 2 + 100 * 0 = 21`. Pixel 2 was met by tap 2 in window 0, by tap 1 in window 1 and by
# tap 0 in window 2, so `dx[2] = 1 * (-1) + 10 * 0 + 100 * 1 = 99`. The bias was added to every output:
# `db = 111`.
#
# In general: take your loop of Task 4. In its turn `(k, l)` some pixels were multiplied by `w[:, :, k, l]`
# and added to `y`. Going back, the same pixels receive `dy` times that weight, and that weight receives `dy`
# times those pixels, summed over everything that shared it. Whatever lands on padding is cut off at the end;
# `[p:-p]` is a trap when `p` is 0.

# %% solution="conv2d-backward"
def conv2d_backward(dy, x, w, *, stride=(1, 1), pads=((0, 0), (0, 0))):
    """dy (N, F, HO, WO), x and w as in the forward pass -> a tuple (dx, dw, db), shaped like x, w, b."""
    ### BEGIN SOLUTION
    (top, bottom), (left, right) = pads
    xp = np.pad(x, ((0, 0), (0, 0), *pads))
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    rows, columns = dy.shape[2:]
    for k, l in np.ndindex(w.shape[2:]):
        down = slice(k, k + stride[0] * rows, stride[0])
        along = slice(l, l + stride[1] * columns, stride[1])
        dxp[:, :, down, along] += np.einsum("nfij,fc->ncij", dy, w[:, :, k, l])
        dw[:, :, k, l] = np.einsum("nfij,ncij->fc", dy, xp[:, :, down, along])
    dx = dxp[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return dx, dw, dy.sum(axis=(0, 2, 3))
    ### END SOLUTION

# %% check="test-conv2d-backward"
checks.conv.conv2d_backward(conv2d_backward)

# %% [markdown] written="why-all-ones" points=3
# **Question 1 (3 points).** A student tests a backward pass like this: the loss is `y.sum()`, so `dy` is all
# ones; central differences of the loss agree with `dw` to nine digits. The code nevertheless contains
# `dw[:, :, k, l] = met.sum(axis=(0, 2, 3))`, broadcast over the filters. Why did the test not see the
# mistake, which other mistakes in `dx`, `dw` or `db` would it have missed as well, and what is the smallest
# change to the test that finds them?
#
# ### BEGIN SOLUTION
# With dy = 1 everywhere, a factor dy and a factor 1 are the same number, so a formula in which dy was
# forgotten gives the right gradient of this one loss. All that tells outputs apart is hidden too: dy taken
# at the wrong position (flipped, transposed, shifted by a stride), dy of another filter or another image.
# Draw dy at random, loss = (y * dy).sum(): then every output has a weight of its own.
#
# Rubric: 1 point for "dropped factor and factor 1 coincide", 1 for another class of hidden mistake (any
# permutation of dy), 1 for a random upstream gradient. A different loss such as (y ** 2).sum() is fine.
# ### END SOLUTION

# %% [markdown] task="gradient-check" points=4
# ## Task 6: judge your own backward pass
#
# You have two judges that do not know the formulas: the forward pass and arithmetic. Add cells below this
# one. For a random direction $u$ of the same shape as `w`, compare
#
# $$\frac{L(w + \epsilon u) - L(w - \epsilon u)}{2 \epsilon} \quad \text{with} \quad \sum dw \cdot u$$
#
# where $L(w) = \sum y \cdot dy$.
#
# Use random `dy` and float64. Then break your backward pass on purpose, in a way that the check of Task 5
# would catch, and show that your test catches it too. Print the relative error before and after for
# $\epsilon = 10^{-1}, 10^{-3}, 10^{-5}, 10^{-7}, 10^{-9}$. Say in one or two sentences what you see: $L$ is
# linear in `w`. What does that mean for large $\epsilon$? Why does it get worse for small $\epsilon$?
#
# === BEGIN MARK SCHEME ===
#
# - 2 points: a working comparison with random dy and u, relative error below 1e-8 for some epsilon.
# - 1 point: a deliberate mistake and its relative error far above that.
# - 1 point: linear in w, so the central difference is exact at any epsilon and large epsilon does no harm;
#   small epsilon loses digits, rounding error grows like 1e-16 / epsilon.
#
# === END MARK SCHEME ===

# %% [markdown]
# ## Task 7: spread the kernel
#
# **Dilation** keeps the `K` weights and moves neighbouring taps `dilation` pixels apart:
#
# $$y[n, f, i] = \sum_{c} \sum_{k} w[f, c, k] \; x[n, c, i + d k]$$
#
# First count how many pixels lie from the first tap to the last, both included. A kernel of 3 with dilation 1
# covers 3 pixels; with dilation 4 its taps sit at 0, 4, 8 and it covers 9.

# %% solution="effective-kernel"
def effective_kernel(kernel, dilation):
    """Pixels from the first tap to the last, an int."""
    ### BEGIN SOLUTION
    return dilation * (kernel - 1) + 1
    ### END SOLUTION

# %% check="test-effective-kernel"
checks.conv.effective_kernel(effective_kernel)

# %% [markdown]
# Now the layer: stride 1, no padding, no bias. By hand: `x = [1, 2, 0, -1, 3]`, `w = [1, -1]` and dilation 3
# give `[1 - (-1), 2 - 3] = [2, -1]`.

# %% solution="dilated-conv1d"
def dilated_conv1d(x, w, *, dilation=1):
    """x (N, C, W), w (F, C, K) -> y (N, F, WO) in the dtype of x."""
    ### BEGIN SOLUTION
    windows = x.shape[2] - effective_kernel(w.shape[2], dilation) + 1
    y = np.zeros((len(x), len(w), windows), x.dtype)
    for k in range(w.shape[2]):
        met = x[:, :, dilation * k : dilation * k + windows]
        y += np.einsum("nci,fc->nfi", met, w[:, :, k])
    return y
    ### END SOLUTION

# %% check="test-dilated-conv1d"
checks.conv.dilated_conv1d(dilated_conv1d)

# %% [markdown]
# Stack layers, and one output sees more and more of the input. How many input pixels does one output depend
# on, along one axis? A layer is a tuple `(kernel, stride, dilation)`, and the list goes from input to output.
#
# By hand: two layers of kernel 3. One output sees 3 pixels of the middle row, and the windows of these three
# cover 3 + 2 = 5 pixels of the input: `receptive_field([(3, 1, 1), (3, 1, 1)])` is `5`. If the first layer
# has stride 2, its neighbouring outputs are two input pixels apart, and
# `receptive_field([(3, 2, 1), (3, 1, 1)])` is `7`.

# %% solution="receptive-field"
def receptive_field(layers):
    """Input pixels that one output of the whole stack depends on, an int."""
    ### BEGIN SOLUTION
    size, step = 1, 1
    for kernel, stride, dilation in layers:
        size += step * (effective_kernel(kernel, dilation) - 1)
        step *= stride
    return size
    ### END SOLUTION

# %% check="test-receptive-field"
checks.conv.receptive_field(receptive_field)

# %% [markdown] written="stack-or-wide" points=3
# **Question 2 (3 points).** One layer with a 7 by 7 kernel, or three layers with 3 by 3 kernels, all with `C`
# channels in and out and stride 1. Compare the receptive field, the number of weights (without biases) and
# what the two can compute. What changes if nothing non-linear stands between the three layers?
#
# ### BEGIN SOLUTION
# Both see 7 by 7 pixels: 1 + 3 * 2 = 7. Weights: 49 C^2 against 3 * 9 C^2 = 27 C^2. With a detector
# (non-linearity) between the layers the stack computes functions that no single convolution can. Without it,
# three convolutions in a row are one convolution with a 7 by 7 kernel, and only some of those: the stack has
# fewer free weights.
#
# Rubric: 1 point for the equal receptive fields with a reason, 1 for the two counts, 1 for "collapses to one
# linear layer without a detector in between".
# ### END SOLUTION

# %% [markdown]
# ## Task 8: where do padded pixels come from?
#
# Zeros are not the only way to pad. For a row `a b c d e`, two pixels added on each side:
#
# | mode | padded row |
# |---|---|
# | `replicate` | `a a` **a b c d e** `e e` |
# | `circular` | `d e` **a b c d e** `a b` |
# | `reflect` | `c b` **a b c d e** `d c` |
#
# All three only copy pixels, so each is a list of indices: `x[..., pad_indices(...)]` pads the last axis. For
# `reflect` above it is `[2, 1, 0, 1, 2, 3, 4, 3, 2]`. All count from the front, `0` to `size - 1`. Build
# them by arithmetic on the positions `-before, ..., size + after - 1`; `np.pad` is out of bounds in this
# task. `before` and `after` are smaller than `size`.

# %% solution="pad-indices"
def pad_indices(size, before, after, mode):
    """Where every pixel of the padded row comes from: an int array of length before + size + after."""
    ### BEGIN SOLUTION
    positions = np.arange(-before, size + after)
    if mode == "replicate":
        return positions.clip(0, size - 1)
    if mode == "circular":
        return positions % size
    last = size - 1
    return last - abs(last - abs(positions))
    ### END SOLUTION

# %% check="test-pad-indices"
checks.conv.pad_indices(pad_indices)

# %% [markdown]
# ## Task 9: in torch, on any device
#
# A **depthwise** convolution gives every channel one filter of its own and does not mix channels: `w` has
# shape `(C, KH, KW)`, both kernel sizes odd. The image is padded by half a kernel on each side, in mode
# `"circular"` or `"reflect"`, so that the output has the size of the input.
#
# Write it with torch tensors and without torch's convolutions, `unfold` or `pad`; your `pad_indices` and your
# loop over taps are all you need: a tensor can be indexed by a NumPy array. Two things count:
#
# - autograd must be able to go through it, so stay with torch's operations and change nothing in place that
#   a gradient needs;
# - it must run wherever `x` lives. A tensor made by `torch.zeros(...)` lives on the CPU, and adding it to one
#   on a GPU fails. Take `x.new_zeros(...)`, `torch.zeros_like(x)` or `device=x.device`. The check tries this
#   without a GPU: on torch's `meta` device tensors have a shape and a dtype, but no numbers.

# %% solution="depthwise-conv2d"
def depthwise_conv2d(x, w, *, mode="circular"):
    """Tensors x (N, C, H, W), w (C, KH, KW) -> y (N, C, H, W) on the device and in the dtype of x."""
    ### BEGIN SOLUTION
    (height, width), (taps_down, taps_along) = x.shape[2:], w.shape[1:]
    rows = pad_indices(height, taps_down // 2, taps_down // 2, mode)
    columns = pad_indices(width, taps_along // 2, taps_along // 2, mode)
    xp = x[:, :, rows][:, :, :, columns]
    y = torch.zeros_like(x)
    for k in range(taps_down):
        for l in range(taps_along):
            y = y + w[:, k, l, None, None] * xp[:, :, k : k + height, l : l + width]
    return y
    ### END SOLUTION

# %% check="test-depthwise-conv2d"
checks.conv.depthwise_conv2d(depthwise_conv2d)

# %% [markdown] task="look" points=3
# ## Task 10: look at what a kernel sees
#
# Your layer works, so use it. Load digits with `from coursekit import data` and `data.digits("train").x[:5]`.
# Think of three 3 by 3 kernels: one that finds vertical strokes, one that finds horizontal strokes, one of
# your own. Run `conv2d_forward` with one pixel of padding, and show image and feature maps side by side with
# matplotlib, in cells that you add below this one. Say for each kernel, in a sentence, what makes its output
# large and what makes it negative.
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: three sensible kernels, run through the student's own conv2d_forward (flipped kernels are fine).
# - 1 point: a figure in which input and feature maps can be compared.
# - 1 point: sentences that fit the kernels; the sign is explained by the direction of the edge.
#
# === END MARK SCHEME ===
