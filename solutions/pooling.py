# %% [markdown]
# # Detect, pool, and read digits
#
# In the assignment `conv` you built the first stage of a convolutional layer. Here you build the other two,
# the **detector stage** and the **pooling stage**, with their gradients. Then you put the three stages
# together, add a loss, and train the whole on handwritten digits: every number in that training run comes
# out of functions that you wrote.
#
# | part | you write | page of the book |
# |---|---|---|
# | 1 | a parameter counter | *Name the parts of a convolutional layer* |
# | 2 to 5 | detector, max, average and $L_p$ pooling, with gradients | *Detect, then pool* |
# | 6 | the complex layer, a loss and a training step | *Train a digit classifier* |
# | 7 | a pooling stage in PyTorch for any device | *Ask what the layer assumes* |
# | 8 | two answers in words, one experiment | all of them |
#
# **How it works.** Write your code where the cell says so and run the one-line cell below it. It calls your
# function on arrays of many shapes, prints what went wrong and on which case, and shows your points. The
# same line grades your work, on other random numbers. Run it as often as you like. Each part is tested with
# its own correct inputs: an error in one function does not cost you points in another, with the one
# exception that part 6 announces.
#
# **Rules.** NumPy only, except in part 7. Write the stages yourself: a call to `coursekit`'s or PyTorch's
# own version is noticed. Results have the dtype of the input, and no function changes its arguments.
#
# **Names.** N images in a batch, C channels, H × W pixels, F filters, K classes; a gradient is `d` and the
# name of what it belongs to: `dx` has the shape of `x`.

# %% locked="setup"
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from coursekit import checks, data

# %% [markdown]
# ## Part 1. Which stages have parameters?
#
# What one book calls *a convolutional layer* is three steps: a convolution stage, a detector stage and a
# pooling stage. Another book calls each step a layer of its own. Either way the parameters are the same
# ones. Which are they?
#
# A network is described by a list with one dictionary for each stage, from the input to the output:
#
# ```python
# {"stage": "convolution", "channels": 1, "filters": 8, "kernel": (3, 5), "bias": True}
# {"stage": "detector", "function": "relu"}
# {"stage": "pooling", "function": "max", "kernel": (2, 2)}
# {"stage": "dense", "inputs": 72, "outputs": 10, "bias": True}
# ```
#
# `kernel` is (height, width). A dense stage multiplies by a matrix; its bias has one entry for each output.
# Return the number of trainable parameters of the whole list as an `int`.
#
# By hand: the four stages above, in this order, have 8 · 1 · 3 · 5 + 8 = 128 parameters in the convolution
# and 72 · 10 + 10 = 730 in the dense stage. You know how many the two in between add.

# %% solution="count-parameters"
def count_parameters(stages):
    """Number of trainable parameters of a network, given as a list of dictionaries, one for each stage."""
    ### BEGIN SOLUTION
    total = 0
    for stage in stages:
        if stage["stage"] == "convolution":
            height, width = stage["kernel"]
            total += stage["filters"] * (stage["channels"] * height * width + stage["bias"])
        elif stage["stage"] == "dense":
            total += stage["outputs"] * (stage["inputs"] + stage["bias"])
    return total
    ### END SOLUTION

# %% check="test-count-parameters"
checks.pooling.count_parameters(count_parameters)

# %% [markdown]
# ## Part 2. The detector stage
#
# The convolution stage computes `u`, a weighted sum for each filter and position. The detector stage
# answers "is the pattern there?" one number at a time. You write the *leaky* rectifier
#
# $$y = \begin{cases} u & u > 0 \\ a\,u & u \le 0 \end{cases}$$
#
# with a slope $a$ between 0 and 1. With $a = 0$ it is the ReLU, and you will use it as such in part 6.
#
# By hand, with $a = 0.1$: `[-2.0, 0.0, 3.0]` gives `[-0.2, 0.0, 3.0]`.

# %% solution="detector-forward"
def detector_forward(u, slope):
    """Leaky rectifier of every entry of u, any shape; slope is a float in [0, 1)."""
    ### BEGIN SOLUTION
    return np.where(u > 0, u, slope * u)
    ### END SOLUTION

# %% check="test-detector-forward"
checks.pooling.detector_forward(detector_forward)

# %% [markdown]
# Now backwards. The next stage hands down `dy`, the gradient of the loss with respect to `y`; you return
# `du`. The rectifier has a kink at 0. Follow the definition above: what does its second line say happens at
# $u = 0$?

# %% solution="detector-backward"
def detector_backward(dy, u, slope):
    """Gradient of the loss with respect to u, given dy and the u of the forward pass, both of one shape."""
    ### BEGIN SOLUTION
    return np.where(u > 0, dy, slope * dy)
    ### END SOLUTION

# %% check="test-detector-backward"
checks.pooling.detector_backward(detector_backward)

# %% [markdown]
# ## Part 3. Max pooling
#
# A window of KH × KW pixels moves over each channel in steps of SH down and SW across, and keeps the
# largest value that it sees. The image is first padded by PH rows above *and* below and PW columns left
# *and* right. Padding must never win: think about which value cannot be the largest, even among negative
# numbers.
#
# $$y_{n,c,i,j} = \max_{0 \le k < KH,\ 0 \le l < KW} \tilde x_{n,\,c,\,i \cdot SH + k,\ j \cdot SW + l}
# \qquad HO = \left\lfloor \frac{H + 2\,PH - KH}{SH} \right\rfloor + 1$$
#
# and WO likewise. Kernel, stride and padding are pairs (down, across), and the windows may overlap. PH is
# at most KH / 2, so that no window sees padding alone.
#
# By hand, `kernel=(1, 3)`, `stride=(1, 2)`, `padding=(0, 1)`: the row `[-4, -7, -1, -5, -9]` has the
# windows `[pad -4 -7]`, `[-7 -1 -5]`, `[-5 -9 pad]` and gives `[-4, -1, -5]`.
#
# A hint on speed: you need not visit every window. For one offset (k, l) *inside* the window, the pixels
# that all windows see there are one strided slice of the padded image. A running maximum over KH · KW such
# slices is all.

# %% solution="max-pool-forward"
def max_pool_forward(x, kernel, stride, padding):
    """Largest value in each window: x (N, C, H, W) -> y (N, C, HO, WO)."""
    ### BEGIN SOLUTION
    padded = pad_image(x, padding, -np.inf)
    y = np.full(x.shape[:2] + output_size(x, kernel, stride, padding), -np.inf, x.dtype)
    for piece in pieces(padded, kernel, stride, y.shape):
        np.maximum(y, piece, out=y)
    return y


def pad_image(x, padding, value):
    PH, PW = padding
    return np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=value)


def output_size(x, kernel, stride, padding):
    (KH, KW), (SH, SW), (PH, PW) = kernel, stride, padding
    H, W = x.shape[2:]
    return (H + 2 * PH - KH) // SH + 1, (W + 2 * PW - KW) // SW + 1


def pieces(padded, kernel, stride, shape):
    """For each offset inside the window: a view of the pixels that all windows see there."""
    (SH, SW), (HO, WO) = stride, shape[2:]
    for k in range(kernel[0]):
        for l in range(kernel[1]):
            yield padded[:, :, k : k + SH * HO : SH, l : l + SW * WO : SW]
    ### END SOLUTION

# %%
# Try it on the row that you did by hand.
row = np.array([-4.0, -7.0, -1.0, -5.0, -9.0]).reshape(1, 1, 1, 5)
print(max_pool_forward(row, (1, 3), (1, 2), (0, 1)))

# %% check="test-max-pool-forward"
checks.pooling.max_pool_forward(max_pool_forward)

# %% [markdown]
# ### And back
#
# Only the pixel that won a window moved its output, so it alone receives that window's `dy`. Two things to
# decide:
#
# * a pixel may win *several* overlapping windows: what is its gradient then?
# * when two pixels of a window tie, the *first* in reading order (row by row, left to right) takes all, as
#   in PyTorch.
#
# By hand, `kernel=(1, 3)`, `stride=(1, 1)`, no padding: in the row `[1, 5, 2, 5]` the windows are `[1 5 2]`
# and `[5 2 5]`. With `dy = [10, 100]` the gradient is `dx = [0, 110, 0, 0]`. Can you say why the last pixel
# gets nothing?
#
# This time walk over the windows: a double loop over the output positions, each step for all N · C images
# at once. `np.ogrid[:N, :C]` gives you the first two indices for an assignment such as `dx[n, c, row,
# column] += ...`.

# %% solution="max-pool-backward"
def max_pool_backward(dy, x, kernel, stride, padding):
    """Gradient with respect to x (N, C, H, W), given dy (N, C, HO, WO) and the x of the forward pass."""
    ### BEGIN SOLUTION
    (KH, KW), (SH, SW), (PH, PW) = kernel, stride, padding
    N, C, H, W = x.shape
    padded = pad_image(x, padding, -np.inf)
    dpadded = np.zeros_like(padded)
    n, c = np.ogrid[:N, :C]
    for i, j in np.ndindex(dy.shape[2:]):
        top, left = i * SH, j * SW
        window = padded[:, :, top : top + KH, left : left + KW]
        row, column = np.divmod(window.reshape(N, C, -1).argmax(axis=-1), KW)
        dpadded[n, c, top + row, left + column] += dy[:, :, i, j]
    return dpadded[:, :, PH : PH + H, PW : PW + W]
    ### END SOLUTION

# %%
row = np.array([1.0, 5.0, 2.0, 5.0]).reshape(1, 1, 1, 4)
dy = np.array([10.0, 100.0]).reshape(1, 1, 1, 2)
print(max_pool_backward(dy, row, (1, 3), (1, 1), (0, 0)))

# %% check="test-max-pool-backward"
checks.pooling.max_pool_backward(max_pool_backward)

# %% [markdown]
# ## Part 4. Average pooling, and the border
#
# The same windows, but each gives its mean. In the middle of the image that is the sum over KH · KW pixels.
# At the border a window holds zeros that are not part of the image. Do they count? Both answers are in use,
# so you write both:
#
# * `count_padding=True`: divide by KH · KW everywhere;
# * `count_padding=False`: divide by the number of pixels of the window that lie in the image.
#
# By hand, `kernel=(1, 3)`, `stride=(1, 2)`, `padding=(0, 1)`: the row `[6, 6, 6]` gives `[4, 4]` if padding
# counts and `[6, 6]` if it does not. All sizes follow the rule of part 3.

# %% solution="average-pool-forward"
def average_pool_forward(x, kernel, stride, padding, count_padding):
    """Mean of each window: x (N, C, H, W) -> y (N, C, HO, WO)."""
    ### BEGIN SOLUTION
    total = window_sums(x, kernel, stride, padding)
    return total / divisor(x, kernel, stride, padding, count_padding)


def window_sums(x, kernel, stride, padding):
    shape = x.shape[:2] + output_size(x, kernel, stride, padding)
    return sum(pieces(pad_image(x, padding, 0), kernel, stride, shape))


def divisor(x, kernel, stride, padding, count_padding):
    """Number of pixels that each window is divided by, (1, 1, HO, WO) or one number."""
    inside = np.ones_like(x[:1, :1])
    return kernel[0] * kernel[1] if count_padding else window_sums(inside, kernel, stride, padding)
    ### END SOLUTION

# %% check="test-average-pool-forward"
checks.pooling.average_pool_forward(average_pool_forward)

# %% [markdown]
# Backwards, every pixel of a window receives the same share of that window's `dy`. The values of `x` do not
# matter, so you get only the size (H, W) of the image. Gradients that fall on the padding are lost.
#
# By hand, as above with `count_padding=False`, and `dy = [4, 10]`: the two windows hold two pixels each, so
# `dx = [2, 7, 5]`.

# %% solution="average-pool-backward"
def average_pool_backward(dy, size, kernel, stride, padding, count_padding):
    """Gradient with respect to an image batch (N, C, H, W), given dy (N, C, HO, WO) and size = (H, W)."""
    ### BEGIN SOLUTION
    (H, W), (PH, PW) = size, padding
    image = np.zeros(dy.shape[:2] + (H, W), dy.dtype)
    share = dy / divisor(image, kernel, stride, padding, count_padding)
    dpadded = pad_image(image, padding, 0)
    for piece in pieces(dpadded, kernel, stride, dy.shape):
        piece += share
    return dpadded[:, :, PH : PH + H, PW : PW + W]
    ### END SOLUTION

# %% check="test-average-pool-backward"
checks.pooling.average_pool_backward(average_pool_backward)

# %% [markdown]
# ## Part 5. Between average and max: $L_p$ pooling
#
# Over a window of a one-dimensional signal, $L_p$ pooling is a length:
#
# $$y_{n,c,i} = \Big( \sum_{0 \le k < K} |x_{n,c,\,i S + k}|^p \Big)^{1/p}$$
#
# With $p = 1$ it is a sum, and as $p$ grows it approaches the largest $|x|$. The forward pass
# holds nothing new, so you are given its result `y` and write only the gradient. Derive it on paper first:
# raise the definition to the power $p$ and differentiate both sides. Kernel and stride are plain integers
# here, and there is no padding: TO = (T - K) // S + 1.
#
# Two traps. The derivative of $|x|$ is the sign of $x$, with 0 at 0. And a window of zeros has $y = 0$: let
# it pass on no gradient, rather than dividing by zero.
#
# By hand, `kernel=2`, `stride=2`, `p=2`: the window `[3, -4]` has $y = 5$; with `dy = [10]` it receives
# `[6, -8]`.

# %% solution="lp-pool-backward"
def lp_pool_backward(dy, x, y, kernel, stride, p):
    """Gradient with respect to x (N, C, T), given dy and y (N, C, TO); kernel, stride: int; p: float >= 1."""
    ### BEGIN SOLUTION
    share = np.divide(dy, y ** (p - 1), out=np.zeros_like(dy), where=y > 0)
    slope = np.sign(x) * np.abs(x) ** (p - 1)
    dx = np.zeros_like(x)
    for k in range(kernel):
        seen = slice(k, k + stride * dy.shape[2], stride)
        dx[:, :, seen] += share * slope[:, :, seen]
    return dx
    ### END SOLUTION

# %% check="test-lp-pool-backward"
checks.pooling.lp_pool_backward(lp_pool_backward)

# %% [markdown]
# ## Part 6. A network that reads digits
#
# ### The three stages in order
#
# The convolution is given this time. It slides the filters, no more: it adds no bias.

# %% locked="convolution"
def convolve(x, w):
    """Filter responses without bias: x (N, C, H, W), w (F, C, KH, KW) -> (N, F, HO, WO)."""
    seen = sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwkl,fckl->nfhw", seen, w, optimize=True)


def convolve_backward(dz, x):
    """Gradient with respect to w, given dz (N, F, HO, WO) and the x of the forward pass."""
    seen = sliding_window_view(x, dz.shape[2:], axis=(2, 3))
    return np.einsum("nfhw,ncklhw->fckl", dz, seen, optimize=True)


# %% [markdown]
# Assemble one complex layer from it: the convolution stage, which includes a bias for each filter, then the
# detector stage with a ReLU, then a pooling stage that takes the *average* over windows of `pool` × `pool`
# pixels, side by side. `pool` divides the height and the width that the convolution leaves.
#
# By hand: with the 1 × 1 filter `w = 1`, `b = [-2]` and `pool=2`, the image `[[1, 3], [5, 1]]` gives
# `[[1.0]]`. Write down what each stage passes on. Then swap two of the stages, and see what comes out.

# %% solution="complex-layer"
def complex_layer(x, w, b, pool):
    """Three stages: x (N, C, H, W), w (F, C, KH, KW), b (F,) -> y (N, F, HO / pool, WO / pool)."""
    ### BEGIN SOLUTION
    detected = detector_forward(convolve(x, w) + b[:, None, None], 0.0)
    return average_pool_forward(detected, (pool, pool), (pool, pool), (0, 0), True)
    ### END SOLUTION

# %% check="test-complex-layer"
checks.pooling.complex_layer(complex_layer)

# %% [markdown]
# ### What is a wrong digit worth?
#
# The last layer gives K scores $z_{n,k}$ for each image. Softmax turns them into probabilities, and the
# cross-entropy measures how surprised they are by the truth. To keep the network from boasting, the truth
# may be *smoothed*: the right class gets $1 - \varepsilon$, and the remaining $\varepsilon$ is shared out
# evenly among all K classes, the right one included.
#
# $$p_{n,k} = \frac{e^{z_{n,k}}}{\sum_m e^{z_{n,m}}} \qquad
# q_{n,k} = (1 - \varepsilon)\,[k = \mathrm{label}_n] + \frac{\varepsilon}{K} \qquad
# L = -\frac{1}{N} \sum_{n,k} q_{n,k} \log p_{n,k}$$
#
# Scores in the thousands are legal, and $e^{1000}$ is not a number that your computer can hold. Adding the
# same number to all scores of one image changes no probability: use that.
#
# By hand: two equal scores give $L = \log 2 \approx 0.693$, whatever the label and $\varepsilon$.

# %% solution="cross-entropy-forward"
def cross_entropy_forward(z, labels, smoothing):
    """Mean cross-entropy of scores z (N, K) and integer labels (N,), as a float; smoothing: epsilon."""
    ### BEGIN SOLUTION
    return -float((smooth_targets(z, labels, smoothing) * log_probabilities(z)).sum() / len(z))


def log_probabilities(z):
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def smooth_targets(z, labels, smoothing):
    targets = np.full_like(z, smoothing / z.shape[1])
    targets[np.arange(len(z)), labels] += 1 - smoothing
    return targets
    ### END SOLUTION

# %% check="test-cross-entropy-forward"
checks.pooling.cross_entropy_forward(cross_entropy_forward)

# %% [markdown]
# The gradient with respect to the scores is one of the shortest results in the field. Derive it, then write
# it.
#
# By hand: `z = [[0, 0]]`, label 0, no smoothing: `dz = [[-0.5, 0.5]]`. With the same row twice, each row of
# `dz` is half that. Why?

# %% solution="cross-entropy-backward"
def cross_entropy_backward(z, labels, smoothing):
    """Gradient of cross_entropy_forward with respect to z (N, K)."""
    ### BEGIN SOLUTION
    return (np.exp(log_probabilities(z)) - smooth_targets(z, labels, smoothing)) / len(z)
    ### END SOLUTION

# %% check="test-cross-entropy-backward"
checks.pooling.cross_entropy_backward(cross_entropy_backward)

# %% [markdown]
# ### One step downhill
#
# The network, with the shapes for an 8 × 8 image and F filters of 3 × 3:
#
# | step | gives | parameters |
# |---|---|---|
# | convolution stage: `convolve` and a bias | u (N, F, 6, 6) | `w` (F, 1, 3, 3), `b` (F,) |
# | detector stage: ReLU | h (N, F, 6, 6) | |
# | pooling stage: max over 2 × 2, stride 2 | m (N, F, 3, 3) | |
# | dense layer: flatten, times `v`, plus `c` | z (N, K) | `v` (9 F, K), `c` (K,) |
# | loss: cross-entropy without smoothing | a float | |
#
# Write one step of gradient descent. Run forward, run backward, and return a tuple: the loss *before* the
# step, and a **new** dictionary that holds each parameter minus `lr` times its gradient. `m.reshape(N,
# -1)` flattens; `convolve_backward` is given above. Build it from your functions. This is the one place
# where an earlier error would follow you: where a cell above is not green yet, you may call the library's
# stage instead (`from coursekit import pooling, losses`, described in the book's reference).

# %% solution="train-step"
def train_step(x, labels, parameters, lr):
    """One step of gradient descent on images x (N, 1, H, W): loss before it, new parameters."""
    ### BEGIN SOLUTION
    w, b, v, c = (parameters[name] for name in "wbvc")
    window = (2, 2), (2, 2), (0, 0)
    u = convolve(x, w) + b[:, None, None]
    h = detector_forward(u, 0.0)
    m = max_pool_forward(h, *window)
    features = m.reshape(len(x), -1)
    z = features @ v + c

    dz = cross_entropy_backward(z, labels, 0.0)
    dm = (dz @ v.T).reshape(m.shape)
    du = detector_backward(max_pool_backward(dm, h, *window), u, 0.0)
    gradients = {
        "w": convolve_backward(du, x),
        "b": du.sum(axis=(0, 2, 3)),
        "v": features.T @ dz,
        "c": dz.sum(axis=0),
    }
    new = {name: value - lr * gradients[name] for name, value in parameters.items()}
    return cross_entropy_forward(z, labels, 0.0), new
    ### END SOLUTION

# %% check="test-train-step"
checks.pooling.train_step(train_step)

# %% [markdown]
# One step is right; what do a hundred do? This check lets your step run four times through 1,437 real
# digits and then counts how many of 360 others the network reads. You need nothing new for it.

# %% check="test-read-digits"
checks.pooling.read_digits(train_step)

# %% [markdown]
# Now watch it learn. The first loss is no accident: can you compute it in your head?

# %% tags=["nbval-ignore-output"]
seen, unseen = data.digits("train"), data.digits("test")


def initial_parameters(filters, rng):
    """Small random filters; a last layer of zeros, which finds all ten digits equally likely."""
    arrays = {
        "w": rng.normal(0, 0.5, (filters, 1, 3, 3)),
        "b": np.zeros(filters),
        "v": np.zeros((9 * filters, 10)),
        "c": np.zeros(10),
    }
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def error_rate(x, labels, parameters):
    """Share of images that the network reads wrongly."""
    u = convolve(x, parameters["w"]) + parameters["b"][:, None, None]
    m = np.maximum(u, 0).reshape(*u.shape[:2], 3, 2, 3, 2).max(axis=(3, 5))
    z = m.reshape(len(x), -1) @ parameters["v"] + parameters["c"]
    return np.mean(z.argmax(axis=1) != labels)


def train(parameters, rng, epochs=10, batch=50, lr=0.5):
    """Trained parameters; prints the error on unseen digits after every epoch."""
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(seen.labels))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            loss, parameters = train_step(seen.x[chosen], seen.labels[chosen], parameters, lr)
            if epoch == 1 and start == 0:
                print(f"first loss {loss:.4f}")
        errors = error_rate(unseen.x, unseen.labels, parameters)
        print(f"epoch {epoch}: reads {errors:.1%} of the unseen digits wrongly")
    return parameters


rng = np.random.default_rng(0)
parameters = train(initial_parameters(8, rng), rng)

# %% [markdown]
# ## Part 7. Pool on any device
#
# Plain subsampling looks at every second pixel and can be fooled. A row of fine stripes, `0 4 0 4 0`, turns
# into `0 0 0`: the stripes are gone, and after a shift by one pixel it is all `4`. The cure is to blur
# first. *Blur pooling* is an average pooling with weights: each window is 3 × 3, and the pixel in row k and
# column l of the window has the weight $g_k\,g_l$ with $g = (1, 2, 1) / 4$. There is no padding, and the
# stride is the same down and across.
#
# By hand, along one axis with stride 2: `0 4 0 4 0` gives `2 2`, and so does `4 0 4 0 4`.
#
# Write it in PyTorch, so that gradients flow through it and it runs wherever `x` lives: CPU or GPU, float32
# or float64. There need not be a GPU in your computer: the check also runs your function on PyTorch's
# *meta* device, which computes shapes only and refuses any tensor that was made elsewhere. The pooling and
# convolution functions of `torch.nn` are off limits; slices, `Tensor.unfold` and arithmetic are all you
# need.

# %% solution="blur-pool"
def blur_pool(x, stride):
    """Weighted average of 3 x 3 windows: tensor x (N, C, H, W) -> (N, C, HO, WO), stride an int."""
    ### BEGIN SOLUTION
    down = x.unfold(2, 3, stride)
    x = (down[..., 0] + 2 * down[..., 1] + down[..., 2]) / 4
    across = x.unfold(3, 3, stride)
    return (across[..., 0] + 2 * across[..., 1] + across[..., 2]) / 4
    ### END SOLUTION

# %%
stripes = torch.tensor([0.0, 4.0, 0.0, 4.0, 0.0]).expand(1, 1, 5, 5)
print(blur_pool(stripes, 2))

# %% check="test-blur-pool"
checks.pooling.blur_pool(blur_pool)

# %% [markdown]
# ## Part 8. In your own words
#
# A person reads this part. A few sentences each are enough; a small example often says more than a
# paragraph.

# %% [markdown] written="stage-order" points=3
# **Question 1.** Sofia exchanges the detector and the pooling stage of a network with ReLU and *max*
# pooling. All of her tests still pass, to the last bit, and training gets a little faster. Then she does
# the same in a network with ReLU and *average* pooling, and the results change. Explain both, and say why
# the first network got faster.
#
# ### BEGIN SOLUTION
# The ReLU never decreases: of two numbers the larger one is still the larger one (or equal) after it. So
# the largest of the rectified values is the rectified largest value, and the two stages commute. A mean
# mixes the values before the ReLU can cut the negative ones off: for the window [-1, 1], ReLU first gives
# 1/2, mean first gives relu(0) = 0. Pooling first leaves the ReLU with fewer numbers, a quarter of them for
# 2 x 2 windows.
#
# 1 point: ReLU is monotone, so it commutes with the maximum. 1 point: a counterexample for the mean, or
# that the mean is of both signs. 1 point: fewer values to rectify.
# ### END SOLUTION

# %% [markdown] written="first-loss" points=3
# **Question 2.** Three friends start to train on ten classes, with batches of 32 images and a last layer of
# zeros. Before the first step their programs print the losses 2.303, 3.466 and 73.68. What does each number
# tell you? One program is right; name the error in each of the others.
#
# ### BEGIN SOLUTION
# Equal scores mean p = 1/10 for each class, so the mean loss is log 10 = 2.303: right. 3.466 = log 32: the
# softmax runs over the 32 images of the batch and not over the 10 classes. 73.68 = 32 log 10: the losses of
# the batch are summed and not averaged, so that the learning rate acts 32 times as strongly.
#
# 1 point for each number with its reason.
# ### END SOLUTION

# %% [markdown] task="shifted-digits" points=4
# **Experiment.** Does pooling make the reader robust to where the digit stands? Move every unseen digit by
# one pixel to the left, right, up and down (fill with 0) and measure the error rate of your trained
# `parameters` on each. Then train again on digits of which a random half is moved, and measure again. Add
# cells below with your code, your numbers, and two or three sentences: how much of a shift does a 2 × 2
# pooling stage absorb, and what teaches the rest?
#
# === BEGIN MARK SCHEME ===
#
# - 1 point: the four shifted error rates, by code that shifts by exactly one pixel and fills with zeros
#   (np.roll wraps around).
# - 1 point: retrained with shifted copies, compared on the same unseen digits.
# - 2 points: pooling absorbs a shift only where the maximum stays inside its window, about half the time for
#   a shift by one, and the dense layer has a weight for every position, so the error rises steeply; examples
#   in new positions teach the rest.
#
# === END MARK SCHEME ===
