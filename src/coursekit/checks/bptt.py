"""Checks of the assignment `bptt`: backpropagation through time as a ladder, each rung checked by itself.

The right functions are written out here with a place for each mistake; a wrong variant fills one of them
differently, or changes what goes in or comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from coursekit.checks.engine import Arguments, Case, Check, Draw, Misconception, call, with_gradients

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from coursekit.arrays import Array

FORWARD = "gradients/bptt#eq-rnn-forward"
LOSS = "gradients/bptt#eq-rnn-loss"
OUTPUT = "gradients/bptt#eq-bptt-output"
STEP = "gradients/bptt#eq-rnn-step-backward"
STATE = "gradients/bptt#eq-bptt-state"
WEIGHTS = "gradients/bptt#eq-bptt-weights"
INDICES = "gradients/bptt#sec-bptt-derivation"
BY_HAND = "gradients/bptt#sec-bptt-by-hand"
MISTAKES = "gradients/bptt#sec-bptt-mistakes"
JUDGES = "gradients/bptt#sec-bptt-judges"
TRUNCATE = "gradients/bptt#sec-bptt-truncate"
JACOBIAN = "gradients/long-term#eq-longterm-jacobian"
PRODUCT = "gradients/long-term#eq-longterm-product"
SINGULAR = "gradients/long-term#sec-longterm-singular"
COUNTER = "gradients/long-term#sec-longterm-counter"
SOFTMAX = "convolution/classifier#eq-softmax"

Cut = Callable[..., Any]


def _double(function: Callable) -> Callable:
    """The same, but in double precision."""

    def wrong(*args: Any) -> Any:
        result = function(*args)
        return tuple(map(np.float64, result)) if isinstance(result, tuple) else result.astype(np.float64)

    return wrong


def _changed(function: Callable, position: int, change: Callable) -> Callable:
    """The function, given something else for one argument.   change: that argument -> what instead."""

    def wrong(*args: Any) -> Any:
        return function(*args[:position], change(args[position]), *args[position + 1 :])

    return wrong


def _before(h: Float[Array, "N T U"], h0: Float[Array, "N U"]) -> Float[Array, "N T U"]:
    """The state before each step."""
    return np.concatenate([h0[:, None], h[:, :-1]], axis=1)


def _only(a: Float[Array, "N T C"], step: int) -> Float[Array, "N T C"]:
    """Zero but at one step."""
    kept = np.zeros_like(a)
    kept[:, step] = a[:, step]
    return kept


def _time_flattened_first(a: Float[Array, "N T C"]) -> Float[Array, "N T C"]:
    """The rows of a in the order of a batch whose first axis is time."""
    return np.swapaxes(a, 0, 1).reshape(a.shape)


# --- Rung 1: by the scores ---------------------------------------------------------------------------------


def _softmax(o: Array, axis: int = -1) -> Array:
    e = np.exp(o - o.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _one_hot(o: Float[Array, "N T K"], labels: Int[Array, "N T"]) -> Float[Array, "N T K"]:
    return (labels[..., None] == np.arange(o.shape[-1])).astype(o.dtype)


def _output_gradient(
    o: Float[Array, "N T K"],
    labels: Int[Array, "N T"],
    *,
    probabilities: Callable = _softmax,
    wanted: Callable = _one_hot,
    difference: Callable = lambda p, y: p - y,
    terms: Callable = lambda o: o.shape[0] * o.shape[1],
) -> Float[Array, "N T K"]:
    return difference(probabilities(o), wanted(o, labels)) / terms(o)


def _unshifted(o: Array) -> Array:
    e = np.exp(o)
    return e / e.sum(axis=-1, keepdims=True)


def _shifted_by_one_number(o: Array) -> Array:
    e = np.exp(o - o.max())
    return e / e.sum(axis=-1, keepdims=True)


def _shifted_in_place(o: Array, labels: Array) -> Array:
    o -= o.max(axis=-1, keepdims=True)
    return _output_gradient(o, labels)


def _output_case(N: int, T: int, K: int, shifts: Sequence[float] = (0,)) -> Callable[[Draw], Arguments]:
    """shifts: added to all scores of a step, in turn."""

    def arguments(draw: Draw) -> Arguments:
        o = draw(N, T, K) + np.resize(shifts, T)[:, None]
        return call(o.astype(draw.dtype), draw.rng.integers(0, K, (N, T)))

    return arguments


output_gradient = Check(
    name="bptt.output_gradient",
    title="the gradient by the scores",
    reference=_output_gradient,
    terms=("do",),
    cases=(
        Case("one sequence", 0.5, _output_case(1, 5, 3)),
        Case("a batch", 0.5, _output_case(3, 7, 4)),
        Case("a single step", 0.5, _output_case(4, 1, 3)),
        Case("scores near 1000", 0.5, _output_case(2, 5, 3, [1000])),
        Case("scores near -400 and 400", 0.5, _output_case(2, 7, 3, [-400, 400])),
        Case("many classes, float32", 0.5, _output_case(3, 2, 11), "float32"),
    ),
    misconceptions=(
        Misconception(
            "mean-forgotten",
            "The factor 1 / (N T) is missing: the loss is a mean over all steps of all sequences.",
            LOSS,
            partial(_output_gradient, terms=lambda o: 1),
        ),
        Misconception(
            "batch-mean-only",
            "The gradient is divided by N and not by T: the loss is a mean over the steps, too.",
            LOSS,
            partial(_output_gradient, terms=lambda o: o.shape[0]),
        ),
        Misconception(
            "time-mean-only",
            "The gradient is divided by T and not by N: the loss is a mean over the batch, too.",
            LOSS,
            partial(_output_gradient, terms=lambda o: o.shape[1]),
        ),
        Misconception(
            "mean-over-classes-too",
            "The gradient is divided by N T K. A step has one loss, however many classes there are.",
            LOSS,
            partial(_output_gradient, terms=np.size),
        ),
        Misconception(
            "sign-lost",
            "This is y - p, the way down. The gradient points up: p - y.",
            OUTPUT,
            partial(_output_gradient, difference=lambda p, y: y - p),
        ),
        Misconception(
            "labels-forgotten",
            "These are the probabilities alone. Subtract 1 at the right class.",
            OUTPUT,
            partial(_output_gradient, difference=lambda p, y: p),
        ),
        Misconception(
            "right-class-only",
            "Only the right class's score gets a gradient. The others stand in the sum, too: p for them.",
            OUTPUT,
            partial(_output_gradient, difference=lambda p, y: y * (p - 1)),
        ),
        Misconception(
            "by-the-probabilities",
            "This is the gradient by p, -y / p. By the scores, the softmax's own slope turns it into p - y.",
            OUTPUT,
            partial(_output_gradient, difference=lambda p, y: -y / p),
        ),
        Misconception(
            "slope-twice",
            "p - y is multiplied by p (1 - p). With cross-entropy that slope cancels; it stays with squared "
            "errors.",
            OUTPUT,
            partial(_output_gradient, difference=lambda p, y: (p - y) * p * (1 - p)),
        ),
        Misconception(
            "squared-error",
            "This is 2 (p - y), as for a squared error. The logarithm of the softmax gives p - y.",
            OUTPUT,
            partial(_output_gradient, difference=lambda p, y: 2 * (p - y)),
        ),
        Misconception(
            "without-softmax",
            "The label is subtracted from the scores. Subtract it from their softmax.",
            OUTPUT,
            partial(_output_gradient, probabilities=lambda o: o),
        ),
        Misconception(
            "softmax-over-time",
            "The softmax runs over the steps. The probabilities of one step's classes sum to 1: axis 2.",
            SOFTMAX,
            partial(_output_gradient, probabilities=partial(_softmax, axis=1)),
        ),
        Misconception(
            "softmax-over-the-batch",
            "The softmax runs over the sequences. The probabilities of one step's classes sum to 1: axis 2.",
            SOFTMAX,
            partial(_output_gradient, probabilities=partial(_softmax, axis=0)),
        ),
        Misconception(
            "not-shifted",
            "exp of large scores overflows, and inf / inf is nan. Subtract the largest score of each step "
            "first.",
            SOFTMAX,
            partial(_output_gradient, probabilities=_unshifted),
        ),
        Misconception(
            "one-largest-for-all",
            "The largest score of the whole array is subtracted, and exp of the others becomes 0. Take each "
            "step's own.",
            SOFTMAX,
            partial(_output_gradient, probabilities=_shifted_by_one_number),
        ),
        Misconception(
            "largest-for-right",
            "1 is subtracted at the largest score. Subtract it at the class that labels names.",
            OUTPUT,
            partial(_output_gradient, wanted=lambda o, labels: _one_hot(o, o.argmax(axis=-1))),
        ),
        Misconception(
            "labels-turned",
            "Labels and scores are out of step: the labels were flattened in the other order, time first.",
            OUTPUT,
            partial(_output_gradient, wanted=lambda o, labels: _one_hot(o, labels.T.reshape(labels.shape))),
        ),
        Misconception(
            "overwrites-o",
            "The scores were overwritten: o -= ... changes the caller's array. Write o = o - ...",
            OUTPUT,
            _shifted_in_place,
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 scores, most often because np.zeros or np.eye made a part of "
            "it.",
            OUTPUT,
            _double(_output_gradient),
        ),
    ),
)


# --- Rung 2: the head --------------------------------------------------------------------------------------


def _products(h: Float[Array, "N T U"], do: Float[Array, "N T K"]) -> Float[Array, "U K"]:
    return np.einsum("ntu,ntk->uk", h, do)


def _sums(do: Float[Array, "N T K"]) -> Float[Array, " K"]:
    return do.sum(axis=(0, 1))


def _head_backward(
    do: Float[Array, "N T K"],
    h: Float[Array, "N T U"],
    v: Float[Array, "U K"],
    *,
    back: Callable = lambda do, h, v: do @ v.T,
    products: Callable = _products,
    sums: Callable = _sums,
) -> tuple[Float[Array, "N T U"], Float[Array, "U K"], Float[Array, " K"]]:
    return back(do, h, v), products(h, do), sums(do)


def _collected(collect: Callable[[Array], Array]) -> Callable:
    """A wrong head whose sums run over something else.   collect: do -> what is summed."""
    return lambda do, h, v: _head_backward(
        do, h, v, products=lambda h, do: _products(h, collect(do)), sums=lambda do: _sums(collect(do))
    )


def _head_case(N: int, T: int, U: int, K: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw(N, T, K), draw(N, T, U), draw(U, K))


head_backward = Check(
    name="bptt.head_backward",
    title="back through the output layer",
    reference=_head_backward,
    terms=("dh", "dv", "dc"),
    cases=(
        Case("one sequence", 0.25, _head_case(1, 5, 4, 3)),
        Case("a batch", 0.25, _head_case(3, 7, 2, 5)),
        Case("a single step", 0.25, _head_case(4, 1, 5, 2)),
        Case("float32", 0.25, _head_case(2, 3, 7, 5), "float32"),
    ),
    misconceptions=(
        Misconception(
            "reshaped-v",
            "v is reshaped where it must be transposed: h[i] stands in o[k] next to v[i, k].",
            INDICES,
            partial(_head_backward, back=lambda do, h, v: do @ v.reshape(v.shape[::-1])),
        ),
        Misconception(
            "slope-too-early",
            "dh is multiplied by tanh' already. It is the gradient by h; the slope comes on the way to a.",
            STATE,
            partial(_head_backward, back=lambda do, h, v: (do @ v.T) * (1 - h**2)),
        ),
        Misconception(
            "last-step-only",
            "Only the last step is in the sums: overwritten, not accumulated? dv += and dc +=, from 0.",
            WEIGHTS,
            _collected(lambda do: _only(do, -1)),
        ),
        Misconception(
            "first-step-only",
            "Only step 0 is in the sums: overwritten rather than accumulated? dv += and dc +=, from 0.",
            WEIGHTS,
            _collected(lambda do: _only(do, 0)),
        ),
        Misconception(
            "first-sequence-only",
            "Only the first sequence is in the sums. All N sequences use the same v and c.",
            WEIGHTS,
            _collected(lambda do: do * (np.arange(len(do)) == 0).astype(do.dtype)[:, None, None]),
        ),
        Misconception(
            "averaged",
            "The sums are divided by N T. The mean is in do already; these gradients are plain sums.",
            WEIGHTS,
            _collected(lambda do: do / (do.shape[0] * do.shape[1])),
        ),
        Misconception(
            "averaged-over-time",
            "The sums are divided by T. The mean is in do already; a parameter's gradient is the plain sum.",
            WEIGHTS,
            _collected(lambda do: do / do.shape[1]),
        ),
        Misconception(
            "averaged-over-the-batch",
            "The sums are divided by N. The mean is in do already; a parameter's gradient is the plain sum.",
            WEIGHTS,
            _collected(lambda do: do / do.shape[0]),
        ),
        Misconception(
            "state-before",
            "dv takes the state before the step, h(t-1). The output o(t) reads h(t).",
            WEIGHTS,
            partial(_head_backward, products=lambda h, do: _products(_before(h, np.zeros_like(h[:, 0])), do)),
        ),
        Misconception(
            "transposed-dv",
            "dv is transposed: it has the shape of v, (U, K).",
            WEIGHTS,
            partial(_head_backward, products=lambda h, do: _products(h, do).T),
        ),
        Misconception(
            "sums-multiplied",
            "The sum of all h is multiplied by the sum of all do. Multiply step by step, then add.",
            WEIGHTS,
            partial(_head_backward, products=lambda h, do: np.outer(_sums(h), _sums(do))),
        ),
        Misconception(
            "out-of-step",
            "h and do are out of step: one was flattened time first, the other batch first.",
            WEIGHTS,
            partial(_head_backward, products=lambda h, do: _products(h, _time_flattened_first(do))),
        ),
        Misconception(
            "dv-of-each-sequence",
            "dv has a matrix for each sequence. The sequences share v, so sum over them, too.",
            WEIGHTS,
            partial(_head_backward, products=lambda h, do: np.einsum("ntu,ntk->nuk", h, do)),
        ),
        Misconception(
            "dc-of-each-step",
            "dc is summed over the batch only, which leaves a bias per step. All share c: shape (K,).",
            WEIGHTS,
            partial(_head_backward, sums=lambda do: do.sum(axis=0)),
        ),
        Misconception(
            "dc-of-each-sequence",
            "dc is summed over the steps only, which leaves one bias per sequence. All share c: shape (K,).",
            WEIGHTS,
            partial(_head_backward, sums=lambda do: do.sum(axis=1)),
        ),
        Misconception(
            "dc-over-the-classes",
            "dc is summed over the wrong axis, the classes. Each class keeps its own; sum steps and "
            "sequences.",
            WEIGHTS,
            partial(_head_backward, sums=lambda do: do.sum(axis=2)),
        ),
        Misconception(
            "dc-not-flat",
            "dc has shape (1, 1, K): summed with keepdims. It has the shape of c, (K,).",
            WEIGHTS,
            partial(_head_backward, sums=lambda do: do.sum(axis=(0, 1), keepdims=True)),
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 arguments, most often because np.zeros(shape) is: give it "
            "a dtype.",
            WEIGHTS,
            _double(_head_backward),
        ),
    ),
)


# --- Rung 3: one step --------------------------------------------------------------------------------------


def _slope(h: Array) -> Array:
    return 1 - h**2


# What is taken for the slope of tanh: name, message, from the state after the step.
SLOPES: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    (
        "slope-forgotten",
        "You forgot tanh': the gradient by a is the gradient by h times 1 - h^2.",
        np.ones_like,
    ),
    (
        "slope-at-h",
        "This is tanh' taken at h, 1 - tanh(h)^2. It is taken at a, and tanh(a) is h already: 1 - h^2.",
        lambda h: 1 - np.tanh(h) ** 2,
    ),
    (
        "slope-without-tanh",
        "This is 1 - a^2. The slope of tanh at a is 1 - tanh(a)^2, which is 1 - h^2.",
        lambda h: 1 - np.arctanh(h) ** 2,
    ),
    (
        "slope-of-a-sigmoid",
        "The slope h (1 - h) is that of a sigmoid. That of tanh is 1 - h^2.",
        lambda h: h * (1 - h),
    ),
    ("slope-not-squared", "The slope is 1 - h here. It is 1 - h^2: square h.", lambda h: 1 - h),
    ("slope-upside-down", "The slope is h^2 here. It is 1 - h^2, steepest where h is 0.", lambda h: h**2),
    (
        "slope-twice",
        "tanh' is multiplied in twice. Each step goes through one tanh.",
        lambda h: (1 - h**2) ** 2,
    ),
)


def _step_backward(
    g: Float[Array, "N U"],
    x: Float[Array, "N D"],
    before: Float[Array, "N U"],
    after: Float[Array, "N U"],
    u: Float[Array, "D U"],
    w: Float[Array, "U U"],
    *,
    slope: Callable[[Array], Array] = _slope,
    **changed: Callable[[dict[str, Array]], Array],
) -> tuple[Array, Array, Array, Array, Array]:
    """changed: what comes out under a name, from all that is there."""
    dz = g * slope(after)
    there = {"g": g, "x": x, "before": before, "after": after, "u": u, "w": w, "dz": dz}
    right = {
        "dx": dz @ u.T, "dbefore": dz @ w.T, "du": x.T @ dz, "dw": before.T @ dz, "db": dz.sum(axis=0),
    }  # fmt: skip
    return tuple(changed[name](there) if name in changed else value for name, value in right.items())


def _batch_averaged(g: Array, *rest: Array) -> tuple[Array, ...]:
    dx, dbefore, du, dw, db = _step_backward(g, *rest)
    return dx, dbefore, du / len(g), dw / len(g), db / len(g)


def _slope_of_before(g: Array, x: Array, before: Array, after: Array, u: Array, w: Array) -> tuple:
    return _step_backward(g, x, before, after, u, w, slope=lambda _: _slope(before))


def _step_case(N: int, D: int, U: int) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        x, before, u, w = draw(N, D), np.tanh(draw(N, U)), draw(D, U) / 2, draw(U, U) / 2
        return call(draw(N, U), x, before, np.tanh(x @ u + before @ w), u, w)

    return arguments


step_backward = Check(
    name="bptt.step_backward",
    title="back through one step",
    reference=_step_backward,
    terms=("dx", "dbefore", "du", "dw", "db"),
    cases=(
        Case("one sequence", 0.25, _step_case(1, 2, 3)),
        Case("more sequences than units", 0.25, _step_case(7, 2, 5)),
        Case("more units than sequences", 0.25, _step_case(3, 5, 7)),
        Case("float32", 0.25, _step_case(5, 4, 3), "float32"),
    ),
    misconceptions=(
        Misconception(
            "slope-of-the-state-before",
            "tanh' is taken from the state before the step. It belongs to the step itself: 1 - h^2 of the "
            "state after.",
            STEP,
            _slope_of_before,
        ),
        Misconception(
            "slope-forgotten-on-the-way-back",
            "The gradient by the state before is made from g. It comes through a, so take g times tanh'.",
            STEP,
            partial(_step_backward, dbefore=lambda s: s["g"] @ s["w"].T),
        ),
        Misconception(
            "slope-forgotten-in-dx",
            "dx is made from g. The input acts through a, so take g times tanh'.",
            STEP,
            partial(_step_backward, dx=lambda s: s["g"] @ s["u"].T),
        ),
        Misconception(
            "slope-forgotten-in-dw",
            "dw is made from g. w acts through a, so take g times tanh'.",
            STEP,
            partial(_step_backward, dw=lambda s: s["before"].T @ s["g"]),
        ),
        Misconception(
            "slope-forgotten-in-db",
            "db is the sum of g. The bias acts through a, so take g times tanh'.",
            STEP,
            partial(_step_backward, db=lambda s: s["g"].sum(axis=0)),
        ),
        Misconception(
            "one-slope-too-many",
            "The gradient by the state before is multiplied by the tanh' of the step before. That step does "
            "it itself.",
            STEP,
            partial(_step_backward, dbefore=lambda s: (s["dz"] @ s["w"].T) * _slope(s["before"])),
        ),
        Misconception(
            "w-not-transposed",
            "w is not transposed on the way back: h[i] stands in a[j] next to w[i, j], and j is summed.",
            INDICES,
            partial(_step_backward, dbefore=lambda s: s["dz"] @ s["w"]),
        ),
        Misconception(
            "reshaped-u",
            "u is reshaped where it must be transposed: x[i] stands in a[j] next to u[i, j].",
            INDICES,
            partial(_step_backward, dx=lambda s: s["dz"] @ s["u"].reshape(s["u"].shape[::-1])),
        ),
        Misconception(
            "straight-through",
            "g itself is added to the gradient by the state before. It gets there through w only.",
            STEP,
            partial(_step_backward, dbefore=lambda s: s["g"] + s["dz"] @ s["w"].T),
        ),
        Misconception(
            "state-after-in-dw",
            "dw has the wrong time index: it takes the state after the step. w stands next to the state "
            "before it.",
            STEP,
            partial(_step_backward, dw=lambda s: s["after"].T @ s["dz"]),
        ),
        Misconception(
            "transposed-dw",
            "dw is transposed. Entry (i, j) belongs to w[i, j]: state i before the step times dz of unit j.",
            STEP,
            partial(_step_backward, dw=lambda s: s["dz"].T @ s["before"]),
        ),
        Misconception(
            "transposed-du",
            "du is transposed: it has the shape of u, (D, U).",
            STEP,
            partial(_step_backward, du=lambda s: s["dz"].T @ s["x"]),
        ),
        Misconception(
            "batch-averaged",
            "The gradients of the parameters are divided by N. The mean is in g already; they are plain "
            "sums.",
            STEP,
            _batch_averaged,
        ),
        Misconception(
            "db-over-the-units",
            "db is summed over the wrong axis, the units. Each unit has its own bias; sum over the batch.",
            STEP,
            partial(_step_backward, db=lambda s: s["dz"].sum(axis=1)),
        ),
        Misconception(
            "db-of-each-sequence",
            "db has a bias for each sequence. They share b, so sum over the batch.",
            STEP,
            partial(_step_backward, db=lambda s: s["dz"]),
        ),
        Misconception(
            "db-not-flat",
            "db has shape (1, U): summed with keepdims. It has the shape of b, (U,).",
            STEP,
            partial(_step_backward, db=lambda s: s["dz"].sum(axis=0, keepdims=True)),
        ),
        Misconception(
            "db-of-the-whole",
            "db is one number, summed over units too. Each unit has its own bias.",
            STEP,
            partial(_step_backward, db=lambda s: s["dz"].sum()),
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 arguments: something in it was made by np.zeros or np.ones "
            "without dtype.",
            STEP,
            _double(_step_backward),
        ),
        *(
            Misconception(name, message, STEP, partial(_step_backward, slope=slope))
            for name, message, slope in SLOPES
        ),
    ),
)


# --- Rung 4: the way back through all states ---------------------------------------------------------------


def _state_backward(
    dh: Float[Array, "N T U"],
    h: Float[Array, "N T U"],
    w: Float[Array, "U U"],
    *,
    slope: Callable[[Array], Array] = _slope,
    gather: Callable = lambda upstream, carried: upstream + carried,
    back: Callable = lambda g, dz, w, carried: dz @ w.T,
) -> tuple[Float[Array, "N T U"], Float[Array, "N U"]]:
    """gather: both paths into one gradient.   back: what the step before gets."""
    carried, dz, slopes = np.zeros((len(dh), len(w)), dh.dtype), np.empty_like(dh), slope(h)
    for t in reversed(range(dh.shape[1])):
        g = gather(dh[:, t], carried)
        dz[:, t] = g * slopes[:, t]
        carried = back(g, dz[:, t], w, carried)
    return dz, carried


def _with_start(start: Callable) -> Callable:
    """Another gradient of the initial state.   start: (dz, dh0, g of step 0) -> dh0."""

    def wrong(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
        dz, dh0 = _state_backward(dh, h, w)
        return dz, start(dz, dh0, dz[:, 0] / _slope(h[:, 0]))

    return wrong


def _forward_in_time(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    dz, dh0 = _state_backward(dh[:, ::-1], h[:, ::-1], w)
    return dz[:, ::-1], dh0


def _not_turned_back(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    dz, dh0 = _state_backward(dh, h, w)
    return dz[:, ::-1], dh0


def _one_step_back(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    own = dh * _slope(h)
    received = np.concatenate([own[:, 1:] @ w.T, np.zeros_like(dh[:, :1])], axis=1)
    return (dh + received) * _slope(h), own[:, 0] @ w.T


def _without_step_0(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    dz, dh0 = _state_backward(dh[:, 1:], h[:, 1:], w)
    return np.concatenate([np.zeros_like(dh[:, :1]), dz], axis=1), dh0


def _gradients_of_h(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    dz, dh0 = _state_backward(dh, h, w)
    return dz / _slope(h), dh0


def _added_into_dh(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    dz, dh0 = _state_backward(dh, h, w)
    dh[...] = dz / _slope(h)
    return dz, dh0


def _slope_moved(h: Array, steps: int) -> Array:
    """The slope of the state so many steps later, 1 beyond the ends."""
    moved = np.ones_like(h)
    if steps > 0:
        moved[:, :-1] = _slope(h[:, 1:])
    else:
        moved[:, 1:] = _slope(h[:, :-1])
    return moved


def _sequence_case(N: int, T: int, U: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw(N, T, U), np.tanh(draw(N, T, U)), draw(U, U) / 2)


state_backward = Check(
    name="bptt.state_backward",
    title="back through time",
    reference=_state_backward,
    terms=("dz", "dh0"),
    cases=(
        Case("one sequence", 0.5, _sequence_case(1, 4, 3)),
        Case("a batch", 0.5, _sequence_case(3, 7, 5)),
        Case("a single step", 0.5, _sequence_case(4, 1, 3)),
        Case("many steps, float32", 0.5, _sequence_case(2, 13, 4), "float32"),
    ),
    misconceptions=(
        Misconception(
            "path-dropped",
            "You dropped the path through h(t+1): h(t) reaches the loss by its own output and by the next "
            "state.",
            STATE,
            partial(_state_backward, gather=lambda upstream, carried: upstream),
        ),
        Misconception(
            "last-loss-only",
            "Only the last step's loss goes back. Every step adds its own dh to what comes from the next.",
            STATE,
            _changed(_state_backward, 0, lambda dh: _only(dh, -1)),
        ),
        Misconception(
            "one-step-back",
            "A loss goes back one step and no further: a step must hand on all it got, not its dh alone.",
            STATE,
            _one_step_back,
        ),
        Misconception(
            "time-not-reversed",
            "The loop runs forward in time. What comes from h(t+1) must be there first: start at the end.",
            STATE,
            _forward_in_time,
        ),
        Misconception(
            "step-0-left-out",
            "Step 0 has no gradient: the loop stops at step 1, as range(T - 1, 0, -1) does. It must reach 0.",
            STATE,
            _without_step_0,
        ),
        Misconception(
            "not-turned-back",
            "dz is in the order in which it was computed, last step first. dz[:, t] belongs to step t.",
            STATE,
            _not_turned_back,
        ),
        Misconception(
            "slope-of-the-state-before",
            "tanh' is taken from h(t-1). It belongs to the step itself: 1 - h(t)^2.",
            STATE,
            partial(_state_backward, slope=lambda h: _slope_moved(h, -1)),
        ),
        Misconception(
            "slope-of-the-next-state",
            "tanh' is taken from h(t+1). That one is in the dz of step t + 1; here it is 1 - h(t)^2.",
            STATE,
            partial(_state_backward, slope=lambda h: _slope_moved(h, 1)),
        ),
        Misconception(
            "slope-forgotten-on-the-way-back",
            "What goes back to the step before has no tanh' in it: send dz w', not g w'.",
            STATE,
            partial(_state_backward, back=lambda g, dz, w, carried: g @ w.T),
        ),
        Misconception(
            "slope-on-one-path-only",
            "Only dh is multiplied by tanh'; what comes from h(t+1) is added after it. Add first, then "
            "multiply.",
            STATE,
            lambda dh, h, w: _slope_on_one_path(dh, h, w),
        ),
        Misconception(
            "w-not-transposed",
            "w is not transposed on the way back: h[i] stands in a[j] next to w[i, j], and j is summed.",
            INDICES,
            _changed(_state_backward, 2, np.transpose),
        ),
        Misconception(
            "w-forgotten",
            "The gradient goes back without w. h(t-1) stands in a(t) next to w.",
            STATE,
            partial(_state_backward, back=lambda g, dz, w, carried: dz),
        ),
        Misconception(
            "carried-piles-up",
            "What was handed back at later steps is added once more. Replace the carried gradient at each "
            "step.",
            STATE,
            partial(_state_backward, back=lambda g, dz, w, carried: carried + dz @ w.T),
        ),
        Misconception(
            "paths-averaged",
            "The mean of both paths is taken. A small change of h(t) acts on both at once: add them.",
            STATE,
            partial(_state_backward, gather=lambda upstream, carried: (upstream + carried) / 2),
        ),
        Misconception(
            "g-for-dz",
            "This is the gradient by h. Return that by a: times tanh'.",
            STATE,
            _gradients_of_h,
        ),
        Misconception(
            "start-without-gradient",
            "The initial state's gradient is 0 here. h0 is read by step 0: dz(0) w'.",
            BY_HAND,
            _with_start(lambda dz, dh0, g: np.zeros_like(dh0)),
        ),
        Misconception(
            "start-one-step-late",
            "This is the gradient by h(0), the state after step 0. h0 is before it: one more step, dz(0) w'.",
            STATE,
            _with_start(lambda dz, dh0, g: g),
        ),
        Misconception(
            "start-without-w",
            "This is dz(0). From there to the initial state, w is in the way: dz(0) w'.",
            STATE,
            _with_start(lambda dz, dh0, g: dz[:, 0]),
        ),
        Misconception(
            "start-summed",
            "The initial state's gradient is summed over the batch. Each sequence has its own: shape (N, U).",
            STATE,
            _with_start(lambda dz, dh0, g: dh0.sum(axis=0)),
        ),
        Misconception(
            "overwrites-dh",
            "dh was overwritten: dh[:, t] += ... changes the caller's array. Write g = dh[:, t] + ...",
            STATE,
            _added_into_dh,
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 arguments, most often because np.zeros(shape) is: give it "
            "a dtype.",
            STATE,
            _double(_state_backward),
        ),
        *(
            Misconception(name, message, STATE, partial(_state_backward, slope=slope))
            for name, message, slope in SLOPES
        ),
    ),
)


def _slope_on_one_path(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    carried, dz = np.zeros_like(dh[:, 0]), np.empty_like(dh)
    for t in reversed(range(dh.shape[1])):
        dz[:, t] = dh[:, t] * _slope(h[:, t]) + carried
        carried = dz[:, t] @ w.T
    return dz, carried


# --- Rung 5: the shared weights ----------------------------------------------------------------------------


def _weight_gradients(
    x: Float[Array, "N T D"],
    h: Float[Array, "N T U"],
    h0: Float[Array, "N U"],
    dz: Float[Array, "N T U"],
    *,
    before: Callable[[Array, Array], Array] = _before,
    products: Callable[[Array, Array], Array] = _products,
    sums: Callable[[Array], Array] = _sums,
) -> tuple[Float[Array, "D U"], Float[Array, "U U"], Float[Array, " U"]]:
    return products(x, dz), products(before(h, h0), dz), sums(dz)


def _two_before(h: Array, h0: Array) -> Array:
    return _before(_before(h, h0), np.zeros_like(h0))


def _next(h: Array, h0: Array) -> Array:
    return np.concatenate([h[:, 1:], np.zeros_like(h[:, :1])], axis=1)


def _turned(position: int) -> Callable:
    """One of the gradients transposed."""

    def wrong(*args: Array) -> tuple[Array, ...]:
        result = list(_weight_gradients(*args))
        result[position] = result[position].T
        return tuple(result)

    return wrong


def _dz_changed(change: Callable[[Array], Array]) -> Callable:
    return _changed(_weight_gradients, 3, change)


def _weights_case(N: int, T: int, D: int, U: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw(N, T, D), draw(N, T, U), draw(N, U), draw(N, T, U))


weight_gradients = Check(
    name="bptt.weight_gradients",
    title="the gradients of the shared weights",
    reference=_weight_gradients,
    terms=("du", "dw", "db"),
    cases=(
        Case("one sequence", 0.25, _weights_case(1, 5, 2, 3)),
        Case("a batch", 0.25, _weights_case(3, 7, 4, 2)),
        Case("a single step", 0.25, _weights_case(4, 1, 2, 5)),
        Case("float32", 0.25, _weights_case(5, 4, 3, 7), "float32"),
    ),
    misconceptions=(
        Misconception(
            "state-of-the-step",
            "dw has the wrong time index: it takes h(t). w stands in a(t) next to h(t-1).",
            WEIGHTS,
            partial(_weight_gradients, before=lambda h, h0: h),
        ),
        Misconception(
            "state-of-the-next-step",
            "dw takes h(t+1): shifted the wrong way. w stands in a(t) next to h(t-1).",
            WEIGHTS,
            partial(_weight_gradients, before=_next),
        ),
        Misconception(
            "state-two-steps-before",
            "dw takes h(t-2): shifted twice. w stands in a(t) next to h(t-1).",
            WEIGHTS,
            partial(_weight_gradients, before=_two_before),
        ),
        Misconception(
            "start-forgotten",
            "Step 0 has no part in dw. The state before it is h0.",
            WEIGHTS,
            _changed(_weight_gradients, 2, np.zeros_like),
        ),
        Misconception(
            "start-at-the-end",
            "Step 0 takes the last state for the one before it, as h[:, t - 1] does at t = 0. It is h0.",
            WEIGHTS,
            partial(_weight_gradients, before=lambda h, h0: np.roll(h, 1, axis=1)),
        ),
        Misconception(
            "start-for-all",
            "Every step takes h0. Step t takes h(t-1).",
            WEIGHTS,
            partial(_weight_gradients, before=lambda h, h0: np.repeat(h0[:, None], h.shape[1], axis=1)),
        ),
        Misconception(
            "step-0-left-out",
            "Step 0 has no part in the sums: the loop starts at step 1. The state before step 0 is h0.",
            WEIGHTS,
            _dz_changed(lambda dz: np.where(np.arange(dz.shape[1])[:, None] > 0, dz, np.zeros_like(dz))),
        ),
        Misconception(
            "first-step-only",
            "Only step 0 is left: each step overwrote the sum of those before it. Accumulate: dw += ..., "
            "from 0.",
            MISTAKES,
            _dz_changed(lambda dz: _only(dz, 0)),
        ),
        Misconception(
            "last-step-only",
            "Only the last step is left: each step overwrote the sum. Accumulate: dw += ..., from 0.",
            MISTAKES,
            _dz_changed(lambda dz: _only(dz, -1)),
        ),
        Misconception(
            "db-averaged",
            "db is averaged over steps and sequences. The bias acts on all of them: sum.",
            WEIGHTS,
            partial(_weight_gradients, sums=lambda dz: dz.mean(axis=(0, 1))),
        ),
        Misconception(
            "mean-over-time",
            "The sum is divided by T. The weight acts at every step at once: its gradient is the plain sum.",
            WEIGHTS,
            _dz_changed(lambda dz: dz / dz.shape[1]),
        ),
        Misconception(
            "mean-over-the-batch",
            "The sum is divided by N. The mean is in the loss already: the gradient is the plain sum.",
            WEIGHTS,
            _dz_changed(lambda dz: dz / dz.shape[0]),
        ),
        Misconception(
            "mean-over-both",
            "The sum is divided by N T. The mean is in the loss already: the gradient is the plain sum.",
            WEIGHTS,
            _dz_changed(lambda dz: dz / (dz.shape[0] * dz.shape[1])),
        ),
        Misconception(
            "first-sequence-only",
            "Only the first sequence is in the sums. All N sequences use the same weights.",
            WEIGHTS,
            _dz_changed(lambda dz: dz * (np.arange(len(dz)) == 0).astype(dz.dtype)[:, None, None]),
        ),
        Misconception(
            "transposed-dw",
            "dw is transposed. Entry (i, j) belongs to w[i, j]: state i before the step times dz of unit j.",
            WEIGHTS,
            _turned(1),
        ),
        Misconception(
            "transposed-du",
            "du is transposed: it has the shape of u, (D, U).",
            WEIGHTS,
            _turned(0),
        ),
        Misconception(
            "sums-multiplied",
            "The sums over all steps are multiplied. Multiply what belongs to one step, then add.",
            WEIGHTS,
            partial(_weight_gradients, products=lambda a, dz: np.outer(_sums(a), _sums(dz))),
        ),
        Misconception(
            "out-of-step",
            "The factors are out of step: one was flattened time first, the other batch first.",
            WEIGHTS,
            partial(_weight_gradients, products=lambda a, dz: _products(a, _time_flattened_first(dz))),
        ),
        Misconception(
            "time-against-time",
            "dz is in the opposite order of time: it goes with the last step first.",
            WEIGHTS,
            partial(_weight_gradients, products=lambda a, dz: _products(a, dz[:, ::-1])),
        ),
        Misconception(
            "db-of-each-sequence",
            "db is summed over the steps only: a bias per sequence. They share b, so sum over the batch too.",
            WEIGHTS,
            partial(_weight_gradients, sums=lambda dz: dz.sum(axis=1)),
        ),
        Misconception(
            "db-of-each-step",
            "db is summed over the batch only: a bias per step. All steps share b, so sum over them too.",
            WEIGHTS,
            partial(_weight_gradients, sums=lambda dz: dz.sum(axis=0)),
        ),
        Misconception(
            "db-over-the-units",
            "db is summed over the wrong axis, the units. Each unit has its own bias.",
            WEIGHTS,
            partial(_weight_gradients, sums=lambda dz: dz.sum(axis=2)),
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 arguments, most often because np.zeros(shape) is: give it "
            "a dtype.",
            WEIGHTS,
            _double(_weight_gradients),
        ),
    ),
)


# --- Rung 6: cut -------------------------------------------------------------------------------------------


def _chunks(T: int, k: int) -> list[slice]:
    return [slice(start, min(start + k, T)) for start in range(0, T, k)]


def _truncated_backward(
    dh: Float[Array, "N T U"],
    h: Float[Array, "N T U"],
    h0: Float[Array, "N U"],
    w: Float[Array, "U U"],
    k: int,
    *,
    chunks: Callable[[int, int], list[slice]] = _chunks,
    back: Callable = _state_backward,
    before: Callable = lambda h, h0, chunks: _before(h, h0),
    collect: Callable = sum,
) -> tuple[Float[Array, "N T U"], Float[Array, "U U"]]:
    """collect: the chunks' gradients of w into one."""
    dz, cuts = np.zeros_like(dh), chunks(dh.shape[1], k)
    for chunk in cuts:
        dz[:, chunk] = back(dh[:, chunk], h[:, chunk], w)[0]
    read = before(h, h0, cuts)
    return dz, collect([_products(read[:, chunk], dz[:, chunk]) for chunk in cuts])


def _counted_from_the_end(T: int, k: int) -> list[slice]:
    return [slice(max(0, stop - k), stop) for stop in range(T, 0, -k)][::-1]


def _first_chunk_of_one(T: int, k: int) -> list[slice]:
    return [slice(0, 1), *(slice(start, min(start + k, T)) for start in range(1, T, k))]


def _restarted(value: Callable[[Array], Array]) -> Callable:
    """The states before each step, where every chunk but the first begins anew.   value: h0 -> its start."""

    def before(h: Array, h0: Array, chunks: list[slice]) -> Array:
        read = _before(h, h0)
        for chunk in chunks[1:]:
            read[:, chunk.start] = value(h0)
        return read

    return before


def _sliding(dh: Array, h: Array, h0: Array, w: Array, k: int) -> tuple[Array, Array]:
    """Every loss goes back through k steps: an update after each step."""
    dz = np.zeros_like(dh)
    for stop in range(1, dh.shape[1] + 1):
        window = slice(max(0, stop - k), stop)
        dz[:, window] += _state_backward(_only(dh[:, window], -1), h[:, window], w)[0]
    return dz, _products(_before(h, h0), dz)


def _without_first_steps(dh: Array, h: Array, w: Array) -> tuple[Array, Array]:
    dz, dh0 = _state_backward(dh, h, w)
    dz[:, 0] = 0
    return dz, dh0


def _cut_case(N: int, T: int, U: int, k: int) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        states = np.tanh(draw(N, T + 1, U))
        return call(draw(N, T, U), states[:, 1:].copy(), states[:, 0].copy(), draw(U, U) / 2, k)

    return arguments


truncated_backward = Check(
    name="bptt.truncated_backward",
    title="truncated: the state is carried on, the gradient is cut",
    reference=_truncated_backward,
    terms=("dz", "dw"),
    cases=(
        Case("two whole chunks", 0.5, _cut_case(2, 6, 4, 3)),
        Case("a shorter chunk at the end", 0.5, _cut_case(3, 8, 5, 3)),
        Case("chunks of one step", 0.5, _cut_case(2, 5, 3, 1)),
        Case("longer than the sequence", 0.5, _cut_case(3, 4, 2, 7)),
        Case("many chunks, float32", 0.5, _cut_case(2, 13, 3, 4), "float32"),
    ),
    misconceptions=(
        Misconception(
            "not-cut",
            "The gradient still crosses the cuts: this is full backpropagation. Start each chunk's way back "
            "from 0.",
            TRUNCATE,
            partial(_truncated_backward, chunks=lambda T, k: [slice(0, T)]),
        ),
        Misconception(
            "cut-at-every-step",
            "The path through h(t+1) is cut at every step. It is cut between chunks and left whole within "
            "them.",
            TRUNCATE,
            lambda dh, h, h0, w, k: _truncated_backward(dh, h, h0, w, 1),
        ),
        Misconception(
            "state-reset",
            "dw takes a state of 0 at the start of each chunk. The state is carried on: only the gradient is "
            "cut.",
            TRUNCATE,
            partial(_truncated_backward, before=_restarted(np.zeros_like)),
        ),
        Misconception(
            "restarted-at-h0",
            "dw takes h0 at the start of each chunk. The state is carried on: it is the last state of the "
            "chunk before.",
            TRUNCATE,
            partial(_truncated_backward, before=_restarted(lambda h0: h0)),
        ),
        Misconception(
            "counted-from-the-end",
            "The chunks are counted from the end of the sequence. The first one starts at step 0; the last "
            "may be shorter.",
            TRUNCATE,
            partial(_truncated_backward, chunks=_counted_from_the_end),
        ),
        Misconception(
            "one-step-too-long",
            "The chunks have k + 1 steps. Steps 0 to k - 1 are the first chunk.",
            TRUNCATE,
            lambda dh, h, h0, w, k: _truncated_backward(dh, h, h0, w, k + 1),
        ),
        Misconception(
            "one-step-too-short",
            "The chunks have k - 1 steps. Steps 0 to k - 1 are the first chunk.",
            TRUNCATE,
            lambda dh, h, h0, w, k: _truncated_backward(dh, h, h0, w, max(1, k - 1)),
        ),
        Misconception(
            "cut-behind-the-first-step",
            "The cuts lie behind the steps 0, k, 2 k, ... They lie before k, 2 k, ...: the first chunk has k "
            "steps, too.",
            TRUNCATE,
            partial(_truncated_backward, chunks=_first_chunk_of_one),
        ),
        Misconception(
            "sliding",
            "Each loss goes back k steps, across the cuts. Here a loss stays in its chunk, however near its "
            "start it is.",
            TRUNCATE,
            _sliding,
        ),
        Misconception(
            "number-of-chunks",
            "k is taken for the number of chunks. It is the number of steps in each.",
            TRUNCATE,
            partial(_truncated_backward, chunks=lambda T, k: _chunks(T, math.ceil(T / k))),
        ),
        Misconception(
            "rest-left-out",
            "The shorter chunk at the end is left out. Its steps have gradients too.",
            TRUNCATE,
            partial(
                _truncated_backward,
                chunks=lambda T, k: [chunk for chunk in _chunks(T, k) if chunk.stop - chunk.start == k],
                collect=lambda parts: sum(parts) if parts else np.zeros(()),
            ),
        ),
        Misconception(
            "dw-of-the-last-chunk",
            "dw is that of the last chunk: overwritten. Here the chunks' gradients are added up.",
            MISTAKES,
            partial(_truncated_backward, collect=lambda parts: parts[-1]),
        ),
        Misconception(
            "dw-of-the-first-chunk",
            "dw is that of the first chunk: overwritten. Here the chunks' gradients are added up.",
            MISTAKES,
            partial(_truncated_backward, collect=lambda parts: parts[0]),
        ),
        Misconception(
            "first-chunk-only",
            "Only the first chunk has gradients. Every chunk goes back through its own steps.",
            TRUNCATE,
            partial(_truncated_backward, chunks=lambda T, k: _chunks(T, k)[:1]),
        ),
        Misconception(
            "last-chunk-only",
            "Only the last chunk has gradients, as if truncation meant k steps in all. Every chunk has its "
            "turn.",
            TRUNCATE,
            partial(_truncated_backward, chunks=lambda T, k: _chunks(T, k)[-1:]),
        ),
        Misconception(
            "first-steps-lost",
            "The first step of each chunk gets no gradient. The cut lies before it, not behind it.",
            TRUNCATE,
            partial(_truncated_backward, back=_without_first_steps),
        ),
        Misconception(
            "dw-averaged",
            "dw is the mean over the chunks. Here their gradients are added up.",
            TRUNCATE,
            partial(_truncated_backward, collect=lambda parts: sum(parts) / len(parts)),
        ),
        Misconception(
            "state-of-the-step",
            "dw has the wrong time index: it takes h(t). w stands in a(t) next to h(t-1).",
            WEIGHTS,
            partial(_truncated_backward, before=lambda h, h0, chunks: h),
        ),
        Misconception(
            "transposed-dw",
            "dw is transposed. Entry (i, j) belongs to w[i, j]: state i before the step times dz of unit j.",
            WEIGHTS,
            partial(_truncated_backward, collect=lambda parts: sum(parts).T),
        ),
        Misconception(
            "w-not-transposed",
            "w is not transposed on the way back: h[i] stands in a[j] next to w[i, j], and j is summed.",
            INDICES,
            _changed(_truncated_backward, 3, np.transpose),
        ),
        Misconception(
            "slope-forgotten",
            "You forgot tanh': the gradient by a is the gradient by h times 1 - h^2.",
            STATE,
            partial(_truncated_backward, back=partial(_state_backward, slope=np.ones_like)),
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 arguments, most often because np.zeros(shape) is: give it "
            "a dtype.",
            STATE,
            _double(_truncated_backward),
        ),
    ),
)


# --- Rung 7: what many steps do to a gradient --------------------------------------------------------------


def _step_jacobian(h: Float[Array, "N T U"], w: Float[Array, "U U"], t: int) -> Float[Array, "N U U"]:
    return w * _slope(h[:, t])[:, None]


def _largest_stretch(
    product: Float[Array, "N U U"], steps: list[Float[Array, "N U U"]]
) -> Float[Array, " N"]:
    return np.linalg.svd(product, compute_uv=False)[:, 0]


def _jacobian(
    h: Float[Array, "N T U"],
    w: Float[Array, "U U"],
    first: int,
    last: int,
    *,
    times: Callable[[int, int], Sequence[int]] = lambda first, last: range(first + 1, last + 1),
    step: Callable = _step_jacobian,
    growth: Callable = _largest_stretch,
) -> tuple[Float[Array, "N U U"], Float[Array, " N"]]:
    steps = [step(h, w, t) for t in times(first, last)]
    product = np.broadcast_to(np.eye(len(w), dtype=w.dtype), (len(h), *w.shape))
    for one in steps:
        product = product @ one
    return product, growth(product, steps)


def _spectral_radius(product: Array, steps: list[Array]) -> Array:
    return np.abs(np.linalg.eigvals(product)).max(axis=1).astype(product.dtype)


def _bound(product: Array, steps: list[Array]) -> Array:
    stretches = [_largest_stretch(one, []) for one in steps]
    return np.prod(stretches, axis=0).astype(product.dtype)


def _transposed_jacobian(h: Array, w: Array, first: int, last: int) -> tuple[Array, Array]:
    product, growth = _jacobian(h, w, first, last)
    return product.swapaxes(1, 2), growth


def _jacobian_case(N: int, T: int, U: int, first: int, last: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(np.tanh(draw(N, T, U)), draw(U, U), first, last)


jacobian = Check(
    name="bptt.jacobian",
    title="what several steps do to a gradient",
    reference=_jacobian,
    terms=("jacobian", "growth"),
    cases=(
        Case("one step", 0.5, _jacobian_case(2, 5, 3, 2, 3)),
        Case("three steps", 0.5, _jacobian_case(3, 7, 4, 1, 4)),
        Case("from the first state to the last, float32", 0.5, _jacobian_case(2, 6, 5, 0, 5), "float32"),
    ),
    misconceptions=(
        Misconception(
            "determinant",
            "This is the determinant, the product of all stretches: far below 1 while one of them is large. "
            "Take the largest.",
            COUNTER,
            partial(_jacobian, growth=lambda product, steps: np.abs(np.linalg.det(product))),
        ),
        Misconception(
            "spectral-radius",
            "This is the largest eigenvalue, the growth of a direction that is kept. Others may grow more.",
            COUNTER,
            partial(_jacobian, growth=_spectral_radius),
        ),
        Misconception(
            "frobenius",
            "This is the root of the sum of all squares. It counts all directions; the largest singular "
            "value is one.",
            SINGULAR,
            partial(_jacobian, growth=lambda product, steps: np.linalg.norm(product, axis=(1, 2))),
        ),
        Misconception(
            "smallest-stretch",
            "This is the smallest singular value: the direction that is lost most. Take the largest.",
            SINGULAR,
            partial(_jacobian, growth=lambda p, steps: np.linalg.svd(p, compute_uv=False)[:, -1]),
        ),
        Misconception(
            "mean-stretch",
            "This is the mean of the singular values. Take the largest.",
            SINGULAR,
            partial(_jacobian, growth=lambda p, steps: np.linalg.svd(p, compute_uv=False).mean(axis=1)),
        ),
        Misconception(
            "bound",
            "The steps' own growths are multiplied. That is a bound: the direction that one step stretches "
            "most is another's least.",
            "gradients/long-term#eq-longterm-bounds",
            partial(_jacobian, growth=_bound),
        ),
        Misconception(
            "largest-entry",
            "This is the largest entry. The largest singular value says how much a whole vector may grow.",
            SINGULAR,
            partial(_jacobian, growth=lambda product, steps: np.abs(product).max(axis=(1, 2))),
        ),
        Misconception(
            "steps-reversed",
            "The factors are in the opposite order. With rows they go from left to right in time.",
            PRODUCT,
            partial(_jacobian, times=lambda first, last: range(last, first, -1)),
        ),
        Misconception(
            "first-step-included",
            "There is one factor too many: the step from before h(first) to it. Begin at first + 1.",
            PRODUCT,
            partial(_jacobian, times=lambda first, last: range(first, last + 1)),
        ),
        Misconception(
            "last-step-missing",
            "There is one factor too few: the step to h(last) is missing.",
            PRODUCT,
            partial(_jacobian, times=lambda first, last: range(first + 1, last)),
        ),
        Misconception(
            "slope-of-the-state-before",
            "The slopes are one step early: the step to h(t) has 1 - h(t)^2.",
            JACOBIAN,
            partial(_jacobian, times=lambda first, last: range(first, last)),
        ),
        Misconception(
            "slope-forgotten",
            "You forgot tanh': this is a power of w. Each step brings the slopes 1 - h^2 of where it is.",
            JACOBIAN,
            partial(_jacobian, step=lambda h, w, t: np.broadcast_to(w, (len(h), *w.shape))),
        ),
        Misconception(
            "slope-on-the-rows",
            "The slopes multiply the rows of w. They belong to the units that read: the columns.",
            JACOBIAN,
            partial(_jacobian, step=lambda h, w, t: w * _slope(h[:, t])[:, :, None]),
        ),
        Misconception(
            "w-transposed",
            "w is transposed. Entry (i, j) is the derivative of h(t)[j] by h(t-1)[i]: w[i, j] times a slope.",
            JACOBIAN,
            _changed(_jacobian, 1, np.transpose),
        ),
        Misconception(
            "transposed",
            "The result is transposed: that is what a gradient is multiplied by. Entry (i, j) is dh[j] by "
            "dh[i].",
            PRODUCT,
            _transposed_jacobian,
        ),
        Misconception(
            "last-step-only",
            "This is the last step alone: overwritten. Multiply all of them.",
            PRODUCT,
            partial(_jacobian, times=lambda first, last: [last]),
        ),
        Misconception(
            "steps-added",
            "The steps' Jacobians are added. One step acts on the result of the other: multiply.",
            PRODUCT,
            lambda h, w, first, last: _summed_jacobians(h, w, first, last),
        ),
        Misconception(
            "entry-by-entry",
            "The Jacobians are multiplied entry by entry, with *. The chain rule wants matrix products, @.",
            PRODUCT,
            lambda h, w, first, last: _entrywise_jacobians(h, w, first, last),
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 arguments, most often because np.eye(U) is: give it a dtype.",
            PRODUCT,
            _double(_jacobian),
        ),
    ),
)


def _merged_jacobians(merge: Callable, h: Array, w: Array, first: int, last: int) -> tuple[Array, Array]:
    merged = merge([_step_jacobian(h, w, t) for t in range(first + 1, last + 1)], axis=0)
    return merged, _largest_stretch(merged, [])


_summed_jacobians = partial(_merged_jacobians, np.sum)
_entrywise_jacobians = partial(_merged_jacobians, np.prod)


# --- Rung 8: the judge -------------------------------------------------------------------------------------

Parameters = Mapping[str, np.ndarray]


def loss_of(parameters: Parameters) -> float:
    """A smooth loss of two arrays, curved in every direction."""
    w, b = parameters["w"], parameters["b"]
    return float(np.sum(np.exp(w / 2)) + np.sum(np.sin(b) * w.sum(axis=0)) + np.sum(b**3) / 3)


def _moved(parameters: Parameters, direction: Parameters, eps: float) -> dict[str, np.ndarray]:
    return {name: p + eps * direction[name] for name, p in parameters.items()}


def _central(loss: Callable, parameters: Parameters, direction: Parameters, eps: float) -> float:
    above, below = (loss(_moved(parameters, direction, step)) for step in (eps, -eps))
    return (above - below) / (2 * eps)


def _inner(gradients: Parameters, direction: Parameters) -> float:
    return sum(float((g * direction[name]).sum()) for name, g in gradients.items())


def _relative(numeric: float, exact: float) -> float:
    return abs(numeric - exact) / max(abs(numeric), abs(exact))


def _gradient_error(
    loss: Callable[[Parameters], float],
    parameters: Parameters,
    gradients: Parameters,
    direction: Parameters,
    eps: float,
    *,
    numeric: Callable = _central,
    exact: Callable = _inner,
    compare: Callable[[float, float], float] = _relative,
) -> float:
    return compare(numeric(loss, parameters, direction, eps), exact(gradients, direction))


def _one_sided(loss: Callable, parameters: Parameters, direction: Parameters, eps: float) -> float:
    return (loss(_moved(parameters, direction, eps)) - loss(parameters)) / eps


def _moved_in_place(
    loss: Callable, parameters: Parameters, gradients: Parameters, direction: Parameters, eps: float
) -> float:
    error = _gradient_error(loss, parameters, gradients, direction, eps)
    for name, p in parameters.items():
        p += eps * direction[name]
    return error


def _first_alone(direction: Parameters) -> dict[str, np.ndarray]:
    first = next(iter(direction))
    return {name: d if name == first else np.zeros_like(d) for name, d in direction.items()}


def _one_by_one(
    loss: Callable, parameters: Parameters, gradients: Parameters, direction: Parameters, eps: float
) -> float:
    """The largest error of one parameter at a time."""
    alone = [
        {name: d if name == moving else np.zeros_like(d) for name, d in direction.items()}
        for moving in direction
    ]
    return max(_gradient_error(loss, parameters, gradients, one, eps) for one in alone)


def _of_length_one(direction: Parameters) -> dict[str, np.ndarray]:
    length = math.sqrt(_inner(direction, direction))
    return {name: d / length for name, d in direction.items()}


def _judge_case(eps: float, wrong: str | None) -> Callable[[Draw], Arguments]:
    """wrong: the parameter whose gradient is not right, if there is one; it then promises too much."""

    def arguments(draw: Draw) -> Arguments:
        parameters = {"w": draw(3, 2), "b": draw(2)}
        w, b = parameters.values()
        gradients = {"w": np.exp(w / 2) / 2 + np.sin(b), "b": np.cos(b) * w.sum(axis=0) + b**2}
        if wrong:
            gradients[wrong] = gradients[wrong] * 1.5 + 0.25
        direction = {"w": draw(3, 2), "b": draw(2)}
        if _inner(gradients, direction) < _central(loss_of, parameters, direction, 1e-4):
            direction = {name: -d for name, d in direction.items()}
        return call(loss_of, parameters, gradients, direction, eps)

    return arguments


gradient_error = Check(
    name="bptt.gradient_error",
    title="a judge of gradients",
    reference=_gradient_error,
    terms=("error",),
    allowed=(f"{__name__}.loss_of",),
    cases=(
        Case("right gradients, large eps", 1, _judge_case(0.4, None)),
        Case("right gradients, small eps", 0.5, _judge_case(1e-4, None)),
        Case("the gradient of w is wrong", 0.75, _judge_case(0.1, "w")),
        Case("the gradient of b is wrong", 0.75, _judge_case(1e-3, "b")),
    ),
    misconceptions=(
        Misconception(
            "one-sided",
            "The slope is taken on one side only, and its error falls like eps. Both sides together: like "
            "eps^2.",
            JUDGES,
            partial(_gradient_error, numeric=_one_sided),
        ),
        Misconception(
            "half-the-width",
            "The difference is divided by eps. From one side to the other it is 2 eps.",
            JUDGES,
            partial(_gradient_error, numeric=lambda *args: 2 * _central(*args)),
        ),
        Misconception(
            "not-divided",
            "The difference of the losses is not divided by 2 eps.",
            JUDGES,
            partial(_gradient_error, numeric=lambda *args: 2 * args[-1] * _central(*args)),
        ),
        Misconception(
            "times-eps",
            "The difference is divided by 2, then multiplied by eps. Brackets: / (2 * eps).",
            JUDGES,
            partial(_gradient_error, numeric=lambda *args: args[-1] ** 2 * _central(*args)),
        ),
        Misconception(
            "direction-ignored",
            "Every number is moved by eps. Move along the direction: p + eps d.",
            JUDGES,
            partial(
                _gradient_error,
                numeric=lambda loss, parameters, direction, eps: _central(
                    loss, parameters, {name: np.ones_like(d) for name, d in direction.items()}, eps
                ),
            ),
        ),
        Misconception(
            "gradients-summed",
            "The gradients are summed without the direction. The slope along d is the sum of all g times d.",
            JUDGES,
            partial(
                _gradient_error,
                exact=lambda gradients, direction: sum(float(g.sum()) for g in gradients.values()),
            ),
        ),
        Misconception(
            "length-of-the-gradient",
            "This compares with the length of the gradient. The slope along d is the sum of all g times d.",
            JUDGES,
            partial(
                _gradient_error,
                exact=lambda gradients, direction: math.sqrt(_inner(gradients, gradients)),
            ),
        ),
        Misconception(
            "first-parameter-only",
            "Only the first parameter is moved. Move all at once.",
            JUDGES,
            _changed(_gradient_error, 3, _first_alone),
        ),
        Misconception(
            "one-by-one",
            "One parameter is moved at a time, and the worst is returned. Here all move together, along one "
            "direction.",
            JUDGES,
            _one_by_one,
        ),
        Misconception(
            "direction-normalised",
            "The direction is scaled to length 1 for the differences, not for the inner product: take it as "
            "it is.",
            JUDGES,
            partial(
                _gradient_error,
                numeric=lambda loss, parameters, direction, eps: _central(
                    loss, parameters, _of_length_one(direction), eps
                ),
            ),
        ),
        Misconception(
            "absolute",
            "The error is not divided by anything. What is small depends on how steep it is.",
            JUDGES,
            partial(_gradient_error, compare=lambda numeric, exact: abs(numeric - exact)),
        ),
        Misconception(
            "signed",
            "The sign is left: a large negative error would look smaller than none. Take absolute values.",
            JUDGES,
            partial(
                _gradient_error,
                compare=lambda numeric, exact: (numeric - exact) / max(abs(numeric), abs(exact)),
            ),
        ),
        Misconception(
            "divided-by-the-sum",
            "The error is divided by the sum of both absolute values. Divide by the larger one.",
            JUDGES,
            partial(
                _gradient_error,
                compare=lambda numeric, exact: abs(numeric - exact) / (abs(numeric) + abs(exact)),
            ),
        ),
        Misconception(
            "divided-by-the-smaller",
            "The error is divided by the smaller absolute value. Divide by the larger one.",
            JUDGES,
            partial(
                _gradient_error,
                compare=lambda numeric, exact: abs(numeric - exact) / min(abs(numeric), abs(exact)),
            ),
        ),
        Misconception(
            "squared",
            "The error is squared, so that one in a thousand looks like one in a million.",
            JUDGES,
            partial(_gradient_error, compare=lambda numeric, exact: _relative(numeric, exact) ** 2),
        ),
        Misconception(
            "overwrites-parameters",
            "The parameters that came in were moved and not moved back. Make new ones: p + eps * d.",
            JUDGES,
            _moved_in_place,
        ),
    ),
)


# --- Rung 9: all together ----------------------------------------------------------------------------------


def forward(x: Array, u: Array, w: Array, v: Array, b: Array, c: Array, h0: Array) -> tuple[Array, Array]:
    """States (N, T, U) and scores (N, T, K)."""
    states, state = [], h0
    for t in range(x.shape[1]):
        state = np.tanh(x[:, t] @ u + state @ w + b)
        states.append(state)
    h = np.stack(states, axis=1)
    return h, h @ v + c


RUNGS: dict[str, Callable] = {
    "forward": forward,
    "output_gradient": _output_gradient,
    "head_backward": _head_backward,
    "state_backward": _state_backward,
    "weight_gradients": _weight_gradients,
}
_CALLED = (*RUNGS.values(), _softmax, _one_hot, _products, _sums, _slope, _before)


def _sequence_gradients(
    x: Float[Array, "N T D"],
    labels: Int[Array, "N T"],
    parameters: Parameters,
    h0: Float[Array, "N U"],
    rungs: Mapping[str, Callable],
    *,
    started: Callable[[Array], Array] = lambda h0: h0,
    scored: Callable[[Array], Array] = lambda do: do,
    head: Callable[..., tuple] = lambda rungs, do, h, h0, v: rungs["head_backward"](do, h, v),
    back: Callable[..., tuple] = lambda rungs, dh, h, w: rungs["state_backward"](dh, h, w),
    weights: Callable[..., tuple] = lambda rungs, x, h, h0, dz, dh: rungs["weight_gradients"](x, h, h0, dz),
) -> tuple[Array, ...]:
    u, w, v, b, c = (parameters[name] for name in "uwvbc")
    h, o = rungs["forward"](x, u, w, v, b, c, started(h0))
    do = scored(rungs["output_gradient"](o, labels))
    dh, dv, dc = head(rungs, do, h, h0, v)
    dz, dh0 = back(rungs, dh, h, w)
    du, dw, db = weights(rungs, x, h, h0, dz, dh)
    return du, dw, dv, db, dc, dh0


def _afterwards(change: Callable[[list[Array], Array], list[Array]]) -> Callable:
    """Change what comes out.   change: (du, dw, dv, db, dc, dh0), x -> six others."""
    return lambda x, *rest: tuple(change(list(_sequence_gradients(x, *rest)), x))


def _reordered(order: Sequence[int]) -> Callable:
    return _afterwards(lambda gradients, x: [gradients[i] for i in order])


def _whole_case(N: int, T: int, D: int, U: int, K: int) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        shapes = {"u": (D, U), "w": (U, U), "v": (U, K), "b": (U,), "c": (K,)}
        parameters = {name: draw(*shape) / 2 for name, shape in shapes.items()}
        labels = draw.rng.integers(0, K, (N, T))
        return call(draw(N, T, D), labels, parameters, np.tanh(draw(N, U)), RUNGS)

    return arguments


sequence_gradients = Check(
    name="bptt.sequence_gradients",
    title="all gradients of the loss, from the rungs",
    reference=_sequence_gradients,
    terms=("du", "dw", "dv", "db", "dc", "dh0"),
    allowed=tuple(f"{__name__}.{f.__name__}" for f in _CALLED) + (f"{__name__}.<lambda>",),
    cases=(
        Case("a batch", 0.25, _whole_case(3, 5, 2, 4, 6)),
        Case("float32", 0.25, _whole_case(2, 7, 5, 3, 4), "float32"),
    ),
    misconceptions=(
        Misconception(
            "dh-for-dz",
            "The weights get dh, the gradient that comes from the outputs alone. They need dz, from "
            "state_backward.",
            WEIGHTS,
            partial(
                _sequence_gradients,
                weights=lambda rungs, x, h, h0, dz, dh: rungs["weight_gradients"](x, h, h0, dh),
            ),
        ),
        Misconception(
            "start-ignored-forward",
            "The forward pass starts at 0 although h0 was given.",
            FORWARD,
            partial(_sequence_gradients, started=np.zeros_like),
        ),
        Misconception(
            "start-ignored-in-dw",
            "weight_gradients gets a start of 0 although h0 was given.",
            WEIGHTS,
            partial(
                _sequence_gradients,
                weights=lambda rungs, x, h, h0, dz, dh: rungs["weight_gradients"](
                    x, h, np.zeros_like(h0), dz
                ),
            ),
        ),
        Misconception(
            "shifted-twice",
            "weight_gradients gets the states before each step and shifts them once more. It wants those "
            "after each step.",
            WEIGHTS,
            partial(
                _sequence_gradients,
                weights=lambda rungs, x, h, h0, dz, dh: rungs["weight_gradients"](x, _before(h, h0), h0, dz),
            ),
        ),
        Misconception(
            "head-of-the-state-before",
            "head_backward gets the states before each step. The output o(t) reads h(t).",
            WEIGHTS,
            partial(
                _sequence_gradients,
                head=lambda rungs, do, h, h0, v: rungs["head_backward"](do, _before(h, h0), v),
            ),
        ),
        Misconception(
            "w-transposed",
            "state_backward gets w transposed, and transposes it once more.",
            STATE,
            partial(_sequence_gradients, back=lambda rungs, dh, h, w: rungs["state_backward"](dh, h, w.T)),
        ),
        Misconception(
            "slope-twice",
            "dh was multiplied by tanh' before state_backward, which does it itself.",
            STATE,
            partial(
                _sequence_gradients,
                back=lambda rungs, dh, h, w: rungs["state_backward"](dh * _slope(h), h, w),
            ),
        ),
        Misconception(
            "last-loss-only",
            "Only the last step's loss goes back. Every step has a label.",
            LOSS,
            partial(_sequence_gradients, scored=lambda do: _only(do, -1)),
        ),
        Misconception(
            "mean-undone",
            "All gradients are those of the sum. The loss is the mean over N T steps.",
            LOSS,
            partial(_sequence_gradients, scored=lambda do: do * (do.shape[0] * do.shape[1])),
        ),
        Misconception(
            "averaged-twice",
            "The gradients were divided by N T although output_gradient has done it already.",
            LOSS,
            partial(_sequence_gradients, scored=lambda do: do / (do.shape[0] * do.shape[1])),
        ),
        Misconception(
            "downhill",
            "The sign is turned: these are the steps downhill. Return the gradients.",
            OUTPUT,
            partial(_sequence_gradients, scored=lambda do: -do),
        ),
        Misconception(
            "start-without-gradient",
            "The initial state's gradient is 0 here. It is the second result of state_backward.",
            STATE,
            _afterwards(lambda gradients, x: [*gradients[:5], np.zeros_like(gradients[5])]),
        ),
        Misconception(
            "start-summed",
            "The initial state's gradient is summed over the batch. Each sequence has its own: shape (N, U).",
            STATE,
            _afterwards(lambda gradients, x: [*gradients[:5], gradients[5].sum(axis=0)]),
        ),
        Misconception(
            "alphabetical",
            "The gradients are in another order: du, dw, dv, db, dc, dh0.",
            WEIGHTS,
            _reordered([3, 4, 5, 0, 2, 1]),
        ),
        Misconception(
            "as-they-come",
            "The gradients are in another order: du, dw, dv, db, dc, dh0. This is du, dw, db, dv, dc, dh0.",
            WEIGHTS,
            _reordered([0, 1, 3, 2, 4, 5]),
        ),
    ),
)


# --- Rung 10: in torch -------------------------------------------------------------------------------------


def _truncated_forward(
    x: Float[Array, "N T D"],
    u: Float[Array, "D U"],
    w: Float[Array, "U U"],
    b: Float[Array, " U"],
    h0: Float[Array, "N U"],
    k: int,
    *,
    at: Callable[[int, int, int], bool] = lambda t, k, T: t % k == 0 and t > 0,
    cut: Cut = lambda state, h0: state.detach(),
    shown: Callable[[Array, bool], Array] = lambda state, last: state,
) -> Float[Array, "N T U"]:
    """at: whether a chunk begins at step t.   shown: what is returned of a state; last: of its chunk."""
    import torch

    T, states, state = x.shape[1], [], h0
    for t in range(T):
        if at(t, k, T):
            state = cut(state, h0)
        state = torch.tanh(x[:, t] @ u + state @ w + b)
        states.append(shown(state, at(t + 1, k, T)))
    return torch.stack(states, dim=1)


def _made_on_the_cpu(x: Array, u: Array, w: Array, b: Array, h0: Array, k: int) -> Array:
    import torch

    return torch.zeros(h0.shape, dtype=h0.dtype)[:, None] + _truncated_forward(x, u, w, b, h0, k)


def _made_float32(*args: Any) -> Array:
    return _truncated_forward(*args).float()


def _without_gradient(*args: Any) -> Array:
    return _truncated_forward(*args).detach()


def _weights_cut(x: Array, u: Array, w: Array, b: Array, h0: Array, k: int) -> Array:
    """w, not the state, is cut off at the first step of each chunk."""
    import torch

    states, state = [], h0
    for t in range(x.shape[1]):
        cut = t % k == 0 and t > 0
        state = torch.tanh(x[:, t] @ u + state @ (w.detach() if cut else w) + b)
        states.append(state)
    return torch.stack(states, dim=1)


def _torch_case(N: int, T: int, D: int, U: int, k: int) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        return call(draw(N, T, D), draw(D, U) / 2, draw(U, U) / 2, draw(U), np.tanh(draw(N, U)), k)

    return arguments


truncated_forward = Check(
    name="bptt.truncated_forward",
    title="truncated, with torch's autograd",
    reference=_truncated_forward,
    library="torch",
    terms=("h", "dx", "du", "dw", "db", "dh0"),
    observe=with_gradients,
    forbidden=("torch.*rnn*", "torch.*lstm*", "torch.*gru*"),
    cases=(
        Case("a shorter chunk at the end", 0.25, _torch_case(2, 10, 3, 4, 3)),
        Case("chunks of two, float32", 0.25, _torch_case(3, 7, 4, 2, 2), "float32"),
        Case("longer than the sequence", 0.25, _torch_case(2, 3, 5, 4, 8)),
        Case("another device", 0.25, _torch_case(3, 5, 2, 4, 2), device="meta"),
    ),
    misconceptions=(
        Misconception(
            "not-cut",
            "The gradient still crosses the cuts. Detach the state before the first step of each chunk but "
            "the first.",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: False),
        ),
        Misconception(
            "cut-at-every-step",
            "The state is detached at every step, so that no gradient gets back through h(t+1).",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: t > 0),
        ),
        Misconception(
            "start-cut-off",
            "h0 is detached at step 0 (0 % k is 0). Nothing is cut before the first chunk.",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: t % k == 0),
        ),
        Misconception(
            "one-step-early",
            "The cuts are one step early, before steps k - 1, 2 k - 1, ... They lie before k, 2 k, ...",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: (t + 1) % k == 0 and t > 0),
        ),
        Misconception(
            "one-step-late",
            "The cuts are one step late, before steps k + 1, 2 k + 1, ... They lie before k, 2 k, ...",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: t % k == 1 and t > 1),
        ),
        Misconception(
            "chunks-too-long",
            "The chunks have k + 1 steps.",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: t % (k + 1) == 0 and t > 0),
        ),
        Misconception(
            "first-cut-only",
            "There is one cut only, before step k. There is one before every multiple of k.",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: t == k),
        ),
        Misconception(
            "counted-from-the-end",
            "The chunks are counted from the end of the sequence. The first one starts at step 0.",
            TRUNCATE,
            partial(_truncated_forward, at=lambda t, k, T: (T - t) % k == 0 and t > 0),
        ),
        Misconception(
            "state-reset",
            "The state is 0 at the start of each chunk. It is carried on: only the gradient is cut.",
            TRUNCATE,
            partial(_truncated_forward, cut=lambda state, h0: state.new_zeros(state.shape)),
        ),
        Misconception(
            "restarted-at-h0",
            "Each chunk starts at h0. The state is carried on: only the gradient is cut.",
            TRUNCATE,
            partial(_truncated_forward, cut=lambda state, h0: h0),
        ),
        Misconception(
            "output-cut-off",
            "The last state of each chunk is returned detached: its own loss is lost. Detach what the next "
            "step reads.",
            TRUNCATE,
            partial(_truncated_forward, shown=lambda state, last: state.detach() if last else state),
        ),
        Misconception(
            "weights-cut-off",
            "w is detached at the cuts, and the state is not. w learns at every step; cut the state.",
            TRUNCATE,
            _weights_cut,
        ),
        Misconception(
            "detached",
            "All is cut off from autograd: nothing can be learnt through it. Detach the state, at the cuts.",
            TRUNCATE,
            _without_gradient,
        ),
        Misconception(
            "always-float32",
            "The result is float32 whatever comes in, as torch.zeros(shape) is: keep x.dtype.",
            FORWARD,
            _made_float32,
        ),
        Misconception(
            "made-on-cpu",
            "A tensor is made on the CPU whatever the input's device: x.new_zeros or device=x.device.",
            FORWARD,
            _made_on_the_cpu,
        ),
    ),
)
