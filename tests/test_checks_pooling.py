"""The checks of the assignment `pooling`: its solution, slips in its text, shortcuts, references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from solution_text import SolutionText

from coursekit import losses, pooling
from coursekit.checks import pooling as checks

SOLUTION = SolutionText("pooling")


# (grade id, what the solution says, what a student might say, points left, name of the mistake)
SLIPS = [
    ("count-parameters", 'elif stage["stage"] == "dense":', "else:", 2, None),
    ("count-parameters", ' + stage["bias"]', "", 1, "bias-forgotten"),
    ("detector-forward", "u > 0, u, slope * u", "u > 0, slope * u, u", 0, "slope-on-the-positive-side"),
    ("detector-backward", "u > 0", "u >= 0", 2, "slope-one-at-zero"),
    ("detector-backward", "u > 0", "dy > 0", 0, "mask-from-dy"),
    ("max-pool-forward", "padding, -np.inf)", "padding, 0)", 3, "zeros-win"),
    ("max-pool-forward", "-np.inf, x.dtype)", "0, x.dtype)", 2, "running-maximum-from-zero"),
    (
        "max-pool-forward",
        "((0, 0), (0, 0), (PH, PH), (PW, PW))",
        "((0, 0), (0, 0), (PH, 0), (PW, 0))",
        3,
        None,
    ),
    ("max-pool-backward", "left + column] +=", "left + column] =", 2, "overwrites-winners"),
    ("max-pool-backward", ".argmax(axis=-1)", "[..., ::-1].argmax(axis=-1)", 0, None),
    (
        "max-pool-backward",
        "[:, :, PH : PH + H, PW : PW + W]",
        "[:, :, PH:-PH, PW:-PW]",
        2,
        "crop-with-minus-zero",
    ),
    ("max-pool-backward", "PH : PH + H, PW : PW + W", ":H, :W", 3, "crop-after"),
    ("average-pool-forward", "if count_padding else", "if not count_padding else", 1, "flag-inverted"),
    (
        "average-pool-forward",
        "if count_padding else",
        "if True else",
        2,
        "padding-always-counts",
        "average-pool-backward",
    ),
    ("average-pool-backward", "piece += share", "piece[...] = share", 1, "overwrites-by-offset"),
    (
        "average-pool-backward",
        "share = dy / divisor(image, kernel, stride, padding, count_padding)",
        "share = dy",
        0,
        "not-divided",
    ),
    ("lp-pool-backward", "np.sign(x) * ", "", 0, "sign-dropped"),
    ("lp-pool-backward", "] += share", "] = share", 3, "overwrites"),
    (
        "lp-pool-backward",
        "np.divide(dy, y ** (p - 1), out=np.zeros_like(dy), where=y > 0)",
        "dy / y ** (p - 1)",
        3,
        "zero-by-zero",
    ),
    (
        "complex-layer",
        "detector_forward(convolve(x, w) + b[:, None, None], 0.0)",
        "detector_forward(convolve(x, w), 0.0) + b[:, None, None]",
        0,
        "activation-before-bias",
    ),
    ("cross-entropy-forward", "z - z.max(axis=1, keepdims=True)", "z", 2.5, "log-sum-exp-not-shifted"),
    ("cross-entropy-forward", "np.exp(shifted).sum(axis=1,", "np.exp(shifted).sum(axis=0,", 0, None),
    (
        "cross-entropy-forward",
        "targets[np.arange(len(z)), labels]",
        "targets[:, labels]",
        0.5,
        "every-row-gets-every-label",
        "cross-entropy-backward",
    ),
    ("cross-entropy-backward", " / len(z)", "", 0.5, "sum-for-mean"),
    ("cross-entropy-backward", " / len(z)", " / z.size", 0, "mean-over-classes-too"),
    ("train-step", "value - lr", "value + lr", 1, "uphill"),
    (
        "train-step",
        "detector_backward(max_pool_backward(dm, h, *window), u, 0.0)",
        "max_pool_backward(dm, h, *window)",
        3,
        "detector-skipped",
    ),
    ("train-step", "(dz @ v.T)", "(dz @ (v - lr * features.T @ dz).T)", 3, "v-updated-too-early"),
    (
        "train-step",
        "cross_entropy_forward(z, labels, 0.0), new",
        "len(x) * cross_entropy_forward(z, labels, 0.0), new",
        1,
        "summed-loss",
        "read-digits",
    ),
    ("blur-pool", "2 * down[..., 1]", "down[..., 1]", 2, None),
    ("blur-pool", "x.unfold(2", "x.detach().unfold(2", 0, "detached"),
]


# An error that costs points in its own task alone: task -> what the solution says, what it says then
SPOILT = {"max_pool_forward": ("-np.inf, x.dtype)", "0, x.dtype)")}


# Other honest ways, from the text of the assignment alone.


def max_pool_by_views(x, kernel, stride, padding):
    PH, PW = padding
    padded = np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=-np.inf)
    seen = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    return seen[:, :, :: stride[0], :: stride[1]].max(axis=(4, 5))


def max_pool_pixel_by_pixel(x, kernel, stride, padding):
    N, C, H, W = x.shape
    HO, WO = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip((H, W), padding, kernel, stride, strict=True))
    y = np.empty((N, C, HO, WO), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
        rows, columns = slice(max(top, 0), top + kernel[0]), slice(max(left, 0), left + kernel[1])
        y[n, c, i, j] = x[n, c, rows, columns].max()
    return y


HONEST = [
    (checks.max_pool_forward, max_pool_by_views),
    (checks.max_pool_forward, max_pool_pixel_by_pixel),
]


def max_pool_of_the_library(x, kernel, stride, padding):
    return pooling.max_pool2d_forward(x, kernel, stride=stride, padding=padding)[0]


def max_pool_of_torch(x, kernel, stride, padding):
    return torch.max_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy()


def blur_by_convolution(x, stride):
    g = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (g[:, None] * g).expand(x.shape[1], 1, 3, 3)
    return getattr(torch.nn.functional, "conv" + "2d")(x, kernel, stride=stride, groups=x.shape[1])


SHORTCUTS = [
    (checks.max_pool_forward, max_pool_of_the_library),
    (checks.max_pool_forward, max_pool_of_torch),
    (checks.blur_pool, blur_by_convolution),
]


def test_the_library_may_stand_in_for_a_stage_of_the_network():
    names = SOLUTION.written()

    def max_pool_forward(x, *window):
        return pooling.max_pool2d_forward(x, 2)[0]

    def cross_entropy_forward(z, labels, smoothing):
        return float(losses.cross_entropy_forward(z, labels)[0])

    names |= {"max_pool_forward": max_pool_forward, "cross_entropy_forward": cross_entropy_forward}
    assert checks.train_step.grade(names["train_step"]).points == checks.train_step.points


# The references that are not the library's own, against torch.


def test_the_rectifier_of_the_checks_is_that_of_torch():
    u, dy = np.array([-2.0, 0.0, 3.0, -0.5]), np.array([1.0, 2.0, 3.0, 5.0])
    x = torch.tensor(u, requires_grad=True)
    y = torch.nn.functional.leaky_relu(x, 0.1)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(checks.detector_forward.reference(u, 0.1), y.detach())
    np.testing.assert_allclose(checks.detector_backward.reference(dy, u, 0.1), x.grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_cross_entropy_of_the_checks_is_that_of_torch(smoothing, rng):
    z, labels = 50 * rng.standard_normal((5, 7)), rng.integers(7, size=5)
    scores = torch.tensor(z, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(labels), label_smoothing=smoothing)
    loss.backward()
    np.testing.assert_allclose(checks.cross_entropy_forward.reference(z, labels, smoothing), loss.item())
    gradient = checks.cross_entropy_backward.reference(z, labels, smoothing)
    np.testing.assert_allclose(gradient, scores.grad, atol=1e-12)


def test_the_training_step_of_the_checks_is_that_of_torch():
    case = checks.train_step.cases[0]
    given = checks.train_step.arguments(case).kwargs
    tensors = {name: torch.tensor(given[name], requires_grad=True) for name in "wbvc"}
    x, labels = torch.tensor(given["x"]), torch.tensor(given["labels"])
    h = torch.nn.functional.conv2d(x, tensors["w"], tensors["b"]).relu()
    z = torch.nn.functional.max_pool2d(h, 2).flatten(1) @ tensors["v"] + tensors["c"]
    loss = torch.nn.functional.cross_entropy(z, labels)
    loss.backward()
    parameters = {name: given[name] for name in "wbvc"}
    got, new = checks.train_step.reference(given["x"], given["labels"], parameters, given["lr"])
    np.testing.assert_allclose(got, loss.item())
    for name, tensor in tensors.items():
        np.testing.assert_allclose(new[name], (tensor - given["lr"] * tensor.grad).detach(), atol=1e-12)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda loss, new: new, "returned dict with the keys w, b, v, c, expected a tuple (loss,"),
        (lambda loss, new: (new, loss), "returned a tuple with float"),
        (lambda loss, new: (loss, {"v": new["v"]}), "returned a tuple with dict with the keys v, expected"),
        (lambda loss, new: None, "returned NoneType, expected a tuple (loss,"),
    ],
)
@pytest.mark.parametrize("check", [checks.train_step, checks.read_digits], ids=lambda check: check.name)
def test_a_training_step_of_another_form_is_told_the_form(check, spoil, said):
    score = check.grade(lambda *args: spoil(*checks.train_step.reference(*args)), watched=False)
    assert score.points == 0 and said in " ".join(score.report.split())


@pytest.mark.parametrize("low", [-1.0, -999.0, -1e6])
def test_padding_with_a_low_number_does_not_pass_for_minus_infinity(low):
    def pool(x, kernel, stride, padding):
        (H, W), (PH, PW) = x.shape[2:], padding
        framed = np.full((*x.shape[:2], H + 2 * PH, W + 2 * PW), low, x.dtype)
        framed[:, :, PH : PH + H, PW : PW + W] = x
        return checks.max_pool_forward.reference(framed, kernel, stride, (0, 0))

    score = checks.max_pool_forward.grade(pool, watched=False)
    assert [o.case for o in score.outcomes if o.problem][0] == "padding around negative pixels"
