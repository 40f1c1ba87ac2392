"""Checks of the assignment `gru`: a step in both forms, forward and backward, and cells whose gates share.

The right functions are written out here with a place for each mistake; a wrong variant fills one of them
differently, or changes what goes in or comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from coursekit.checks.engine import (
    Arguments,
    CallFailed,
    Case,
    Check,
    Draw,
    Failure,
    Misconception,
    call,
    with_gradients,
)
from coursekit.checks.engine.torch import CHANGED_IN_PLACE, CREATED_ON_CPU, CUT_OFF

if TYPE_CHECKING:
    from jaxtyping import Float

    from coursekit.arrays import Array

GATES = "gates/gru#eq-gru-gates"
STATE = "gates/gru#eq-gru-state"
BACKWARD = "gates/gru#eq-gru-step-backward"
SWAP = "gates/gru#sec-gru-swap"
AFTER = "gates/gru#eq-gru-after"
BEFORE = "gates/gru#eq-gru-before"
BIAS = "gates/gru#sec-gru-bias"
FORMS = "gates/gru#sec-gru-forms"
WHICH = "gates/gru#sec-gru-which"
MERGED = "gates/gru#sec-gru-merge"
COINCIDE = "gates/gru#sec-gru-coincide"
COUNTED = "gates/variants#sec-variants-coupled"
PEEPHOLE = "gates/variants#eq-peephole-gates"
PEEPHOLE_OUTPUT = "gates/variants#eq-peephole-output"
COUPLED = "gates/variants#eq-coupled-input"
GATED = "gates/lstm#eq-lstm-gates"
CELL = "gates/lstm#eq-lstm-state"
OUTPUT = "gates/lstm#eq-lstm-output"
WIDER = "float64 for float32 arguments: np.zeros, np.ones and np.eye make float64 unless told a dtype."


def _changed(function: Callable, position: int, change: Callable) -> Callable:
    """The function, given something else for one argument.   change: that argument -> what instead."""

    def wrong(*args: Any) -> Any:
        return function(*args[:position], change(args[position]), *args[position + 1 :])

    return wrong


def _afterwards(function: Callable, change: Callable) -> Callable:
    """The function, and something else for what it gives.   change: its result -> what instead."""
    return lambda *args: change(function(*args))


def _double(result: Any) -> Any:
    return tuple(map(np.float64, result)) if isinstance(result, tuple) else result.astype(np.float64)


def _overwritten(function: Callable, position: int, term: int | None = None) -> Callable:
    """The function, which also writes its result into one of its arguments.   term: of several results."""

    def wrong(*args: Any) -> Any:
        result = function(*args)
        args[position][...] = result if term is None else result[term]
        return result

    return wrong


def _sigmoid(a: Array) -> Array:
    return (1 + np.tanh(a / 2)) / 2


def _overflowing(a: Array) -> Array:
    return np.exp(a) / (1 + np.exp(a))


def _transposed(w: Float[Array, "K U U"]) -> Float[Array, "K U U"]:
    return np.ascontiguousarray(w.swapaxes(1, 2))


# --- 1: the merged state -----------------------------------------------------------------------------------


def _mixed(z: Array, n: Array, h: Array) -> Array:
    return (1 - z) * n + z * h


def _merge_state(
    az: Float[Array, "N U"],
    an: Float[Array, "N U"],
    h: Float[Array, "N U"],
    *,
    gate: Callable = _sigmoid,
    candidate: Callable = np.tanh,
    mix: Callable = _mixed,
) -> tuple[Float[Array, "N U"], Float[Array, "N U"]]:
    z = gate(az)
    return z, mix(z, candidate(an), h)


def _merge_case(N: int, U: int, shift: float = 0.0) -> Callable[[Draw], Arguments]:
    """shift: how far the gates are pushed, to either side."""

    def arguments(draw: Draw) -> Arguments:
        az = 2 * draw(N, U)
        return call((az + shift * np.sign(az)).astype(draw.dtype), 2 * draw(N, U), np.tanh(draw(N, U)))

    return arguments


merge_state = Check(
    name="gru.merge_state",
    title="the update gate and the merged state",
    reference=_merge_state,
    terms=("z", "after"),
    cases=(
        Case("one sequence", 0.25, _merge_case(1, 4)),
        Case("a batch", 0.25, _merge_case(3, 5)),
        Case("gates wide open and shut", 0.25, _merge_case(5, 2, 1000.0)),
        Case("float32", 0.25, _merge_case(2, 7), "float32"),
    ),
    misconceptions=(
        Misconception(
            "swapped",
            "z and 1 - z are swapped. Here z = 1 keeps the old state; some papers write it the other way "
            "round.",
            SWAP,
            partial(_merge_state, mix=lambda z, n, h: z * n + (1 - z) * h),
        ),
        Misconception(
            "returned-the-other-share",
            "The new state is right, but 1 - z is returned for z.",
            SWAP,
            _afterwards(_merge_state, lambda result: (1 - result[0], result[1])),
        ),
        Misconception(
            "gate-turned",
            "The gate is turned: this is 1 - z, as 1 / (1 + exp(a)) gives. The sigmoid is 1 / (1 + exp(-a)).",
            GATES,
            partial(_merge_state, gate=lambda a: _sigmoid(-a)),
        ),
        Misconception(
            "candidate-not-weighed",
            "The candidate is added whole. What makes room for it is 1 - z: the two shares sum to 1.",
            STATE,
            partial(_merge_state, mix=lambda z, n, h: n + z * h),
        ),
        Misconception(
            "old-state-not-weighed",
            "The old state is kept whole, as in h + (1 - z) n. Its share is z, or it grows without bound.",
            STATE,
            partial(_merge_state, mix=lambda z, n, h: (1 - z) * n + h),
        ),
        Misconception(
            "both-by-z",
            "Candidate and old state have the same share, z. Their shares sum to 1: 1 - z and z.",
            STATE,
            partial(_merge_state, mix=lambda z, n, h: z * n + z * h),
        ),
        Misconception(
            "tanh-forgotten",
            "The candidate's tanh is missing: what is mixed in is its pre-activation.",
            GATES,
            partial(_merge_state, candidate=lambda a: a),
        ),
        Misconception(
            "sigmoid-candidate",
            "The candidate goes through a sigmoid. It is content, not a gate: tanh, so that it can be "
            "negative.",
            GATES,
            partial(_merge_state, candidate=_sigmoid),
        ),
        Misconception(
            "tanh-gate",
            "The gate goes through tanh. A share lies between 0 and 1, which the sigmoid sees to.",
            GATES,
            partial(_merge_state, gate=np.tanh),
        ),
        Misconception(
            "gate-not-squashed",
            "The gate is its pre-activation. A share lies between 0 and 1: the sigmoid is missing.",
            GATES,
            partial(_merge_state, gate=lambda a: a),
        ),
        Misconception(
            "squashed-at-the-end",
            "The tanh is taken of the mixture, old state included. Only the candidate goes through it.",
            STATE,
            partial(
                _merge_state, candidate=lambda a: a, mix=lambda z, n, h: np.tanh((1 - z) * n + z * h)
            ),
        ),
        Misconception(
            "overflow",
            "exp(a) overflows where the gate is wide open, and inf / inf is nan. 1 / (1 + exp(-a)) does not.",
            GATES,
            partial(_merge_state, gate=_overflowing),
        ),
        Misconception(
            "overwrites-h",
            "The old state was overwritten: h *= z changes the caller's array. Make a new one.",
            STATE,
            _overwritten(_merge_state, 2, 1),
        ),
        Misconception(
            "double-precision", f"The results are {WIDER}", STATE, _afterwards(_merge_state, _double)
        ),
    ),
)


# --- 2 and 3: a step, with the reset after the product and before it ---------------------------------------


def _after(x: Array, h: Array, r: Array, u: Array, w: Array, b: Array, bw: Array) -> Array:
    """What goes into the candidate's tanh; u, w, b, bw: its own."""
    return x @ u + b + r * (h @ w + bw)


def _before(x: Array, h: Array, r: Array, u: Array, w: Array, b: Array, bw: Array) -> Array:
    return x @ u + b + (r * h) @ w + bw


def _ungated(x: Array, h: Array, r: Array, u: Array, w: Array, b: Array, bw: Array) -> Array:
    return x @ u + b + h @ w + bw


def _step(
    x: Float[Array, "N D"],
    h: Float[Array, "N U"],
    u: Float[Array, "3 D U"],
    w: Float[Array, "3 U U"],
    b: Float[Array, "3 U"],
    bw: Float[Array, "3 U"],
    *,
    form: Callable,
    blocks: str = "zrn",
    sums: Callable = lambda x, h, u, w, b, bw: x @ u + h @ w + b + bw,
    gate: Callable = _sigmoid,
    resets: Callable = lambda r, z: r,
    seen: Callable = lambda z, r, h: h,
    candidate: Callable = lambda a, r: np.tanh(a),
    merge: Callable = lambda z, r, n, h: _mixed(z, n, h),
) -> Float[Array, "N U"]:
    """One step.

    sums: what goes into a gate.   resets: the factor in the candidate.   merge: the new state.
    """
    of = {name: [a[k] for a in (u, w, b, bw)] for k, name in enumerate(blocks)}
    z, r = (gate(sums(x, h, *of[name])) for name in "zr")
    n = candidate(form(x, h, resets(r, z), *of["n"]), r)
    return merge(z, r, n, h)


_step_after, _step_before = partial(_step, form=_after), partial(_step, form=_before)


def step_after(x: Array, h: Array, u: Array, w: Array, b: Array, bw: Array) -> Array:
    """A step with the reset after the product."""
    return _step_after(x, h, u, w, b, bw)


def step_before(x: Array, h: Array, u: Array, w: Array, b: Array, bw: Array) -> Array:
    """A step with the reset before the product."""
    return _step_before(x, h, u, w, b, bw)


def _mistakes_of(step: Callable, other: Callable) -> tuple[Misconception, ...]:
    """Those of either form.   other: what the candidate of the form in hand would see without a reset."""
    return (
        Misconception(
            "swapped",
            "z and 1 - z are swapped in the new state. Here z = 1 keeps the old one.",
            SWAP,
            partial(step, merge=lambda z, r, n, h: _mixed(z, h, n)),
        ),
        Misconception(
            "torchs-order",
            "The gates are exchanged: torch's blocks stand in the order r, z, n, those here in z, r, n.",
            GATES,
            partial(step, blocks="rzn"),
        ),
        Misconception(
            "candidate-first",
            "The blocks are taken in the order n, z, r. Here they stand in z, r, n.",
            GATES,
            partial(step, blocks="nzr"),
        ),
        Misconception(
            "no-reset",
            "The reset gate is not used. It decides how much of the state the candidate sees.",
            FORMS,
            partial(step, resets=lambda r, z: np.ones_like(r)),
        ),
        Misconception(
            "update-resets",
            "The update gate stands in the candidate where the reset gate belongs.",
            FORMS,
            partial(step, resets=lambda r, z: z),
        ),
        Misconception(
            "reset-turned",
            "The candidate is gated by 1 - r. It is r itself: r = 1 lets the state through.",
            FORMS,
            partial(step, resets=lambda r, z: 1 - r),
        ),
        Misconception(
            "reset-merges",
            "The old state is kept by the reset gate. r acts in the candidate; the update gate z does the "
            "mixing.",
            STATE,
            partial(step, merge=lambda z, r, n, h: (1 - z) * n + r * h),
        ),
        Misconception(
            "reset-state-kept",
            "The state that is kept is reset, too: z r h. The reset is for the candidate alone.",
            STATE,
            partial(step, merge=lambda z, r, n, h: _mixed(z, n, r * h)),
        ),
        Misconception(
            "candidate-reset-whole",
            "r multiplies the finished candidate, outside the tanh. It belongs inside, on the state's part.",
            FORMS,
            partial(step, form=_ungated, candidate=lambda a, r: r * np.tanh(a)),
        ),
        Misconception(
            "all-reset",
            "r multiplies the input's part of the candidate as well. It gates only what comes from the "
            "state.",
            FORMS,
            partial(step, form=lambda x, h, r, *weights: r * _ungated(x, h, r, *weights)),
        ),
        Misconception(
            "w-transposed",
            "w is transposed: entry (i, j) of a block leads from unit i of the state to unit j, so h @ w.",
            GATES,
            _changed(step, 3, _transposed),
        ),
        Misconception(
            "tanh-forgotten",
            "The candidate's tanh is missing.",
            FORMS,
            partial(step, candidate=lambda a, r: a),
        ),
        Misconception(
            "sigmoid-candidate",
            "The candidate goes through a sigmoid. It is content, not a gate: tanh, so that it can be "
            "negative.",
            FORMS,
            partial(step, candidate=lambda a, r: _sigmoid(a)),
        ),
        Misconception(
            "tanh-gates",
            "The gates go through tanh. A gate lies between 0 and 1: sigmoid.",
            GATES,
            partial(step, gate=np.tanh),
        ),
        Misconception(
            "gates-see-no-state",
            "The gates see the input alone. They see the state before the step, too: h @ w.",
            GATES,
            partial(step, sums=lambda x, h, u, w, b, bw: x @ u + b + bw),
        ),
        Misconception(
            "b-forgotten",
            "b is missing.",
            FORMS,
            _changed(step, 4, np.zeros_like),
        ),
        Misconception(
            "bw-forgotten",
            "bw is missing.",
            BIAS,
            _changed(step, 5, np.zeros_like),
        ),
        Misconception(
            "bw-forgotten-in-the-gates",
            "bw is missing in the gates. There it stands beside b.",
            BIAS,
            partial(step, sums=lambda x, h, u, w, b, bw: x @ u + h @ w + b),
        ),
        Misconception(
            "bw-forgotten-in-the-candidate",
            "bw is missing in the candidate.",
            BIAS,
            partial(step, form=lambda x, h, r, u, w, b, bw: other(x, h, r, u, w, b, 0 * bw)),
        ),
        Misconception(
            "overwrites-h",
            "The old state was overwritten: h *= r or h[...] = changes the caller's array. Make a new one.",
            STATE,
            _overwritten(step, 1),
        ),
        Misconception("double-precision", f"The result is {WIDER}", STATE, _afterwards(step, _double)),
    )


def _step_case(N: int, D: int, U: int, *, start: float = 1.0) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        h = (start * np.tanh(draw(N, U))).astype(draw.dtype)
        return call(draw(N, D), h, draw(3, D, U), draw(3, U, U), draw(3, U), draw(3, U))

    return arguments


STEPS = (
    Case("one sequence", 0.5, _step_case(1, 3, 4)),
    Case("a batch", 1, _step_case(3, 2, 5)),
    Case("a single unit", 0.5, _step_case(4, 3, 1)),
    Case("from a state of zero", 0.5, _step_case(2, 5, 3, start=0.0)),
    Case("float32", 0.5, _step_case(5, 4, 3), "float32"),
)

gru_after = Check(
    name="gru.gru_after",
    title="a step with the reset after the product",
    reference=step_after,
    terms=("after",),
    cases=STEPS,
    misconceptions=(
        Misconception(
            "before-the-product",
            "The state is reset before the product. That is the other form: here r multiplies h w + bw.",
            AFTER,
            _step_before,
        ),
        Misconception(
            "bw-not-reset",
            "r multiplies h w, and bw is added afterwards. In this form bw is inside: r (h w + bw).",
            BIAS,
            partial(_step, form=lambda x, h, r, u, w, b, bw: x @ u + b + r * (h @ w) + bw),
        ),
        Misconception(
            "b-reset",
            "Both biases are inside the bracket that r multiplies. Only bw is; b comes with the input.",
            BIAS,
            partial(_step, form=lambda x, h, r, u, w, b, bw: x @ u + r * (h @ w + b + bw)),
        ),
        Misconception(
            "biases-exchanged",
            "b is inside the bracket that r multiplies, and bw outside. It is bw that comes with the state.",
            BIAS,
            partial(_step, form=lambda x, h, r, u, w, b, bw: x @ u + bw + r * (h @ w + b)),
        ),
        *_mistakes_of(_step_after, _after),
    ),
)

gru_before = Check(
    name="gru.gru_before",
    title="a step with the reset before the product",
    reference=step_before,
    terms=("after",),
    cases=STEPS,
    misconceptions=(
        Misconception(
            "after-the-product",
            "r multiplies the product h w + bw. That is the other form: here it multiplies h, then comes w.",
            BEFORE,
            _step_after,
        ),
        Misconception(
            "product-reset",
            "r multiplies the product h w. In this form each unit of h is reset before it is sent to the "
            "others.",
            BEFORE,
            partial(_step, form=lambda x, h, r, u, w, b, bw: x @ u + b + r * (h @ w) + bw),
        ),
        Misconception(
            "bw-reset",
            "bw is multiplied by r. In this form only h is reset; bw is added as it is.",
            BIAS,
            partial(_step, form=lambda x, h, r, u, w, b, bw: x @ u + b + (r * h) @ w + r * bw),
        ),
        Misconception(
            "reset-both",
            "r multiplies twice, h before the product and the product after it.",
            BEFORE,
            partial(_step, form=lambda x, h, r, u, w, b, bw: x @ u + b + r * ((r * h) @ w) + bw),
        ),
        Misconception(
            "update-sees-the-reset-state",
            "The update gate sees r h. Both gates see the whole state; only the candidate sees r h.",
            GATES,
            lambda x, h, u, w, b, bw: _update_after_reset(x, h, u, w, b, bw),
        ),
        *_mistakes_of(_step_before, _before),
    ),
)


def _update_after_reset(x: Array, h: Array, u: Array, w: Array, b: Array, bw: Array) -> Array:
    r = _sigmoid(x @ u[1] + h @ w[1] + b[1] + bw[1])
    z = _sigmoid(x @ u[0] + (r * h) @ w[0] + b[0] + bw[0])
    return _mixed(z, np.tanh(_before(x, h, r, u[2], w[2], b[2], bw[2])), h)


# --- 4: back through a step --------------------------------------------------------------------------------


def _gru_backward(
    g: Float[Array, "N U"],
    x: Float[Array, "N D"],
    before: Float[Array, "N U"],
    u: Float[Array, "3 D U"],
    w: Float[Array, "3 U U"],
    z: Float[Array, "N U"],
    r: Float[Array, "N U"],
    n: Float[Array, "N U"],
    m: Float[Array, "N U"],
    *,
    share: Callable = lambda z: 1 - z,
    contrast: Callable = lambda h, n: h - n,
    factor: Callable = lambda m, h, n: m,
    slope_z: Callable = lambda z, r: z * (1 - z),
    slope_r: Callable = lambda r, z: r * (1 - r),
    slope_n: Callable = lambda n: 1 - n**2,
    reset: Callable = lambda dan, r: dan * r,
    direct: Callable = lambda g, z: g * z,
    paths: Sequence[int] = (0, 1, 2),
    turned: Callable = lambda v: v.T,
    state: Callable = lambda h, r: h,
    summed: Callable = lambda d: d.sum(axis=0),
) -> tuple[Array, ...]:
    """dx, dbefore, du, dw, db, dbw; paths: the blocks through which dbefore hears."""
    dan = g * share(z) * slope_n(n)
    daz = g * contrast(before, n) * slope_z(z, r)
    dar = dan * factor(m, before, n) * slope_r(r, z)
    by_input, by_state = (daz, dar, dan), (daz, dar, reset(dan, r))
    dx = sum(d @ turned(block) for d, block in zip(by_input, u, strict=True))
    dbefore = direct(g, z) + sum((by_state[k] @ turned(w[k]) for k in paths), np.zeros_like(g))
    du = np.stack([x.T @ d for d in by_input])
    dw = np.stack([state(before, r).T @ d for d in by_state])
    return dx, dbefore, du, dw, np.stack([*map(summed, by_input)]), np.stack([*map(summed, by_state)])


def _replaced(*terms: int, by: Callable) -> Callable:
    """Some of the six gradients replaced.   by: the six gradients, the position, g ... -> another."""

    def wrong(*args: Any) -> tuple:
        right = _gru_backward(*args)
        return tuple(by(right, k, *args) if k in terms else part for k, part in enumerate(right))

    return wrong


def _backward_case(N: int, D: int, U: int) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        z, r, n = _sigmoid(draw(N, U)), _sigmoid(draw(N, U)), np.tanh(draw(N, U))
        h, u, w = np.tanh(draw(N, U)), draw(3, D, U), draw(3, U, U)
        return call(draw(N, U), draw(N, D), h, u, w, z, r, n, (h @ w[2] + draw(U)).astype(draw.dtype))

    return arguments


gru_backward = Check(
    name="gru.gru_backward",
    title="back through a step with the reset after the product",
    reference=_gru_backward,
    terms=("dx", "dbefore", "du", "dw", "db", "dbw"),
    cases=(
        Case("one sequence", 0.25, _backward_case(1, 3, 4)),
        Case("a batch", 0.25, _backward_case(5, 2, 3)),
        Case("more features than units", 0.25, _backward_case(3, 7, 2)),
        Case("float32", 0.25, _backward_case(4, 3, 5), "float32"),
    ),
    misconceptions=(
        Misconception(
            "direct-path-dropped",
            "The direct path is missing in dbefore: h is kept by z, so g z goes back without any weight.",
            BACKWARD,
            partial(_gru_backward, direct=lambda g, z: np.zeros_like(g)),
        ),
        Misconception(
            "direct-path-by-the-other-share",
            "The direct path carries g (1 - z). The old state's share is z.",
            BACKWARD,
            partial(_gru_backward, direct=lambda g, z: g * (1 - z)),
        ),
        Misconception(
            "direct-path-not-weighed",
            "The direct path carries all of g, as if h were added whole. It is multiplied by z.",
            BACKWARD,
            partial(_gru_backward, direct=lambda g, z: g),
        ),
        Misconception(
            "product-path-dropped",
            "dbefore does not hear from the candidate's product h w. Send the gradient of m back through "
            "w[2].",
            BACKWARD,
            partial(_gru_backward, paths=(0, 1)),
        ),
        Misconception(
            "reset-path-dropped",
            "dbefore does not hear from the reset gate, which has seen h as well.",
            BACKWARD,
            partial(_gru_backward, paths=(0, 2)),
        ),
        Misconception(
            "update-path-dropped",
            "dbefore does not hear from the update gate, which has seen h as well.",
            BACKWARD,
            partial(_gru_backward, paths=(1, 2)),
        ),
        Misconception(
            "gate-paths-dropped",
            "dbefore does not hear from the gates. Both have seen h: back through w[0] and w[1], too.",
            BACKWARD,
            partial(_gru_backward, paths=(2,)),
        ),
        Misconception(
            "direct-path-alone",
            "dbefore is g z alone. h also goes into both gates and into the candidate: four paths in all.",
            BACKWARD,
            partial(_gru_backward, paths=()),
        ),
        Misconception(
            "reset-hears-through-h",
            "The reset gate's gradient is multiplied by h. r multiplied the product here: m is its factor.",
            BACKWARD,
            partial(_gru_backward, factor=lambda m, h, n: h),
        ),
        Misconception(
            "reset-hears-through-n",
            "The reset gate's gradient is multiplied by n. r multiplied m = h w + bw: m is its factor.",
            BACKWARD,
            partial(_gru_backward, factor=lambda m, h, n: n),
        ),
        Misconception(
            "reset-hears-without-factor",
            "The reset gate's gradient has no factor. In r m, the derivative by r is m.",
            BACKWARD,
            partial(_gru_backward, factor=lambda m, h, n: np.ones_like(m)),
        ),
        Misconception(
            "share-left-out",
            "1 - z is left out of the candidate's gradient: only that share of n enters the new state.",
            BACKWARD,
            partial(_gru_backward, share=np.ones_like),
        ),
        Misconception(
            "shares-swapped",
            "The candidate's gradient is multiplied by z. Its share of the new state is 1 - z.",
            BACKWARD,
            partial(_gru_backward, share=lambda z: z),
        ),
        Misconception(
            "sign-of-the-update",
            "The update gate hears n - h: the sign is turned. More z means more h and less n: h - n.",
            BACKWARD,
            partial(_gru_backward, contrast=lambda h, n: n - h),
        ),
        Misconception(
            "update-hears-the-state-alone",
            "The update gate hears h alone. z stands in (1 - z) n, too: h - n.",
            BACKWARD,
            partial(_gru_backward, contrast=lambda h, n: h),
        ),
        Misconception(
            "update-hears-the-candidate-alone",
            "The update gate hears -n alone. z stands in z h, too: h - n.",
            BACKWARD,
            partial(_gru_backward, contrast=lambda h, n: -n),
        ),
        Misconception(
            "tanh-slope-dropped",
            "The slope of the candidate's tanh is missing: 1 - n^2.",
            BACKWARD,
            partial(_gru_backward, slope_n=np.ones_like),
        ),
        Misconception(
            "tanh-slope-twice",
            "The slope of tanh is taken at n. n is the tanh already: the slope is 1 - n^2.",
            BACKWARD,
            partial(_gru_backward, slope_n=lambda n: 1 - np.tanh(n) ** 2),
        ),
        Misconception(
            "sigmoid-slope-of-the-candidate",
            "The candidate has the slope of a sigmoid, n (1 - n). It went through tanh: 1 - n^2.",
            BACKWARD,
            partial(_gru_backward, slope_n=lambda n: n * (1 - n)),
        ),
        Misconception(
            "update-slope-dropped",
            "The slope of the update gate's sigmoid is missing: z (1 - z).",
            BACKWARD,
            partial(_gru_backward, slope_z=lambda z, r: np.ones_like(z)),
        ),
        Misconception(
            "reset-slope-dropped",
            "The slope of the reset gate's sigmoid is missing: r (1 - r).",
            BACKWARD,
            partial(_gru_backward, slope_r=lambda r, z: np.ones_like(r)),
        ),
        Misconception(
            "gate-slopes-dropped",
            "The slopes of the gates' sigmoids are missing: z (1 - z) and r (1 - r).",
            BACKWARD,
            partial(
                _gru_backward,
                slope_z=lambda z, r: np.ones_like(z),
                slope_r=lambda r, z: np.ones_like(r),
            ),
        ),
        Misconception(
            "tanh-slopes-of-the-gates",
            "The gates have the slope of tanh. They went through a sigmoid: z (1 - z) and r (1 - r).",
            BACKWARD,
            partial(
                _gru_backward, slope_z=lambda z, r: 1 - z**2, slope_r=lambda r, z: 1 - r**2
            ),
        ),
        Misconception(
            "slopes-exchanged",
            "The gates' slopes are exchanged: r (1 - r) at the update gate, z (1 - z) at the reset gate.",
            BACKWARD,
            partial(
                _gru_backward, slope_z=lambda z, r: r * (1 - r), slope_r=lambda r, z: z * (1 - z)
            ),
        ),
        Misconception(
            "dbw-is-db",
            "dbw is a copy of db. In the candidate bw is inside the reset, b is not: there dbw has a factor "
            "r.",
            BIAS,
            _replaced(5, by=lambda right, k, *args: right[4]),
        ),
        Misconception(
            "product-not-reset",
            "The gradient of m = h w + bw lacks the factor r, in dbefore, dw and dbw.",
            BACKWARD,
            partial(_gru_backward, reset=lambda dan, r: dan),
        ),
        Misconception(
            "db-is-dbw",
            "db is a copy of dbw. In the candidate b is outside the reset: there db has no factor r.",
            BIAS,
            _replaced(4, by=lambda right, k, *args: right[5]),
        ),
        Misconception(
            "reset-state-in-dw",
            "dw takes r h for the state, as in the form with the reset before the product. Here w is fed h.",
            FORMS,
            partial(_gru_backward, state=lambda h, r: r * h),
        ),
        Misconception(
            "state-after-in-dw",
            "dw takes the state after the step. w has multiplied the state before it.",
            BACKWARD,
            _replaced(3, by=lambda right, k, *args: _dw_of_the_state_after(*args)),
        ),
        Misconception(
            "not-transposed",
            "w is not transposed on the way back: forward is h @ w, back is da @ w.T.",
            BACKWARD,
            _replaced(1, by=lambda right, k, *args: _changed(_gru_backward, 4, _transposed)(*args)[1]),
        ),
        Misconception(
            "reshaped",
            "The weights are reshaped where they must be transposed, .T.",
            BACKWARD,
            partial(_gru_backward, turned=lambda v: v.reshape(v.shape[::-1])),
        ),
        Misconception(
            "torchs-order",
            "The blocks are in torch's order r, z, n. Here they stand in z, r, n.",
            GATES,
            _replaced(2, 3, 4, 5, by=lambda right, k, *args: right[k][[1, 0, 2]]),
        ),
        Misconception(
            "transposed-dw",
            "The blocks of dw are transposed. dw has the layout of w: before.T @ da.",
            BACKWARD,
            _replaced(3, by=lambda right, k, *args: _transposed(right[3])),
        ),
        Misconception(
            "batch-averaged",
            "The weights' gradients are divided by N. If the loss is a mean, g knows; they are plain sums.",
            BACKWARD,
            _replaced(2, 3, 4, 5, by=lambda right, k, g, *rest: right[k] / len(g)),
        ),
        Misconception(
            "biases-of-each-sequence",
            "The biases' gradients are not summed over the batch, which shares them: shape (3, U).",
            BACKWARD,
            partial(_gru_backward, summed=lambda d: d),
        ),
        Misconception(
            "biases-over-the-units",
            "The biases' gradients are summed over the units. Sum over the batch, axis 0.",
            BACKWARD,
            partial(_gru_backward, summed=lambda d: d.sum(axis=1)),
        ),
        Misconception(
            "overwrites-g",
            "g was overwritten: g *= ... changes the caller's array. Make a new one.",
            BACKWARD,
            _overwritten(_gru_backward, 0, 1),
        ),
        Misconception(
            "double-precision", f"The results are {WIDER}", BACKWARD, _afterwards(_gru_backward, _double)
        ),
    ),
)


def _dw_of_the_state_after(g: Array, x: Array, before: Array, u: Array, w: Array, *saved: Array) -> Array:
    z, _, n, _ = saved
    return _gru_backward(g, x, before, u, w, *saved, state=lambda h, r: _mixed(z, n, h))[3]


# --- 5: telling them apart ---------------------------------------------------------------------------------

FORM: dict[str, Callable] = {"after": step_after, "before": step_before}


def black_box(form: str, weights: Sequence[Array]) -> Callable[[Array, Array], Array]:
    """A cell of one form that can only be asked: state after a step from x and the state before."""

    def step(x: Array, h: Array) -> Array:
        return FORM[form](x, h, *weights)

    return step


def _probes(u: Array, w: Array) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, u.shape[1])), rng.normal(size=(300, w.shape[1]))


def _from_zero(u: Array, w: Array) -> tuple[Array, Array]:
    x, h = _probes(u, w)
    return x, np.zeros_like(h)


def _far(seen: Array, told: Array) -> float:
    return float(np.abs(seen - told).max())


def _nearest(far: Mapping[str, float], w: Array, bw: Array, *, either: float = 1e-10) -> str:
    return "either" if max(far.values()) < either else min(far, key=far.get)


def _which_form(
    step: Callable,
    forms: Mapping[str, Callable],
    u: Array,
    w: Array,
    b: Array,
    bw: Array,
    *,
    probe: Callable = _probes,
    far: Callable = _far,
    verdict: Callable = _nearest,
) -> str:
    """far: a distance of two outputs.   verdict: the answer, by the distances of both forms."""
    x, h = probe(u, w)
    seen = step(x, h)
    return verdict({name: far(seen, form(x, h, u, w, b, bw)) for name, form in forms.items()}, w, bw)


def _asked(which: Callable, **weights: Array) -> tuple[Any, Any]:
    """The answers for two boxes with the same weights, one of each form."""
    given = tuple(weights.values())
    return tuple(which(black_box(form, given), FORM, *given) for form in FORM)


def _is_diagonal(w: Array) -> bool:
    return not np.any(w[2] - np.diag(np.diag(w[2])))


def _by_weights_first(alike: Callable[[Array, Array], bool]) -> Callable:
    """A verdict that says "either" where the weights look alike, and else the nearest of the two."""

    def verdict(far: Mapping[str, float], w: Array, bw: Array) -> str:
        return "either" if alike(w, bw) else min(far, key=far.get)

    return verdict


def _weights_case(D: int, U: int, change: Callable) -> Callable[[Draw], Arguments]:
    """change: makes something special of the weights u, w, b, bw."""

    def arguments(draw: Draw) -> Arguments:
        u, w, b, bw = draw(3, D, U), draw(3, U, U), draw(3, U), draw(3, U)
        change(u, w, b, bw)
        return call(u=u, w=w, b=b, bw=bw)

    return arguments


def _nothing(u: Array, w: Array, b: Array, bw: Array) -> None:
    """These weights are like any others."""


def _no_bw(u: Array, w: Array, b: Array, bw: Array) -> None:
    bw[...] = 0


def _one_other(u: Array, w: Array, b: Array, bw: Array) -> None:
    """Nothing but one weight, from unit 0 to the last one, tells the forms apart."""
    bw[...] = 0
    w[2] *= np.eye(len(w[2]))
    w[2, 0, -1] = 1.5


def _diagonal(u: Array, w: Array, b: Array, bw: Array) -> None:
    w[2] *= np.eye(len(w[2]))


def _diagonal_no_bw(u: Array, w: Array, b: Array, bw: Array) -> None:
    _diagonal(u, w, b, bw)
    bw[2] = 0


def _wide_open(u: Array, w: Array, b: Array, bw: Array) -> None:
    """One unit is hardly ever reset, the other not at all; no tanh is saturated."""
    b[1], bw[...] = (14, 8), 0
    u[1], w[1], u[2], b[2], w[2] = u[1] / 5, w[1] / 5, u[2] / 2, b[2] / 2, np.sign(w[2])


def _one_reset_for_all(u: Array, w: Array, b: Array, bw: Array) -> None:
    bw[...], b[1] = 0, b[1, 0]
    u[1], w[1] = u[1, :, :1], w[1, :, :1]


which_form = Check(
    name="gru.which_form",
    title="tell the two forms apart from outputs alone",
    reference=_which_form,
    terms=("answers",),
    observe=_asked,
    allowed=tuple(
        f"{__name__}.{name}"
        for name in ("step", "step_after", "step_before", "_step", "_after", "_before", "_sigmoid", "_mixed")
    )
    + (f"{__name__}.<lambda>", f"{__name__}.<dictcomp>", f"{__name__}.<listcomp>", f"{__name__}.<genexpr>"),
    cases=(
        Case("any weights", 0.5, _weights_case(3, 4, _nothing)),
        Case("bw = 0", 0.5, _weights_case(2, 5, _no_bw)),
        Case("w[2] diagonal", 0.5, _weights_case(4, 3, _diagonal)),
        Case("w[2] diagonal, bw[2] = 0", 0.5, _weights_case(3, 5, _diagonal_no_bw)),
        Case("w[2] diagonal but for one entry, bw = 0", 0.5, _weights_case(2, 3, _one_other)),
        Case("reset gates nearly open, bw = 0", 0.5, _weights_case(3, 2, _wide_open)),
        Case("one unit, bw = 0", 0.5, _weights_case(2, 1, _no_bw)),
        Case("the same reset for all units, bw = 0", 0.5, _weights_case(2, 4, _one_reset_for_all)),
    ),
    misconceptions=(
        Misconception(
            "probed-at-zero",
            "The boxes are asked at h = 0 only. There nothing but bw[2] is reset: the forms agree if it is "
            "0.",
            COINCIDE,
            partial(_which_form, probe=_from_zero),
        ),
        Misconception(
            "ties-to-after",
            "Where both forms agree with the box, it says 'after'. Compare with both: 'either' if both fit.",
            COINCIDE,
            partial(_which_form, verdict=lambda far, w, bw: "after" if far["after"] < 1e-10 else "before"),
        ),
        Misconception(
            "ties-to-before",
            "Where both forms agree with the box, it says 'before'. Compare with both: 'either' if both fit.",
            COINCIDE,
            partial(_which_form, verdict=lambda far, w, bw: "before" if far["before"] < 1e-10 else "after"),
        ),
        Misconception(
            "exact-equality",
            "Numbers are compared by ==. Two right ways to compute one thing differ by rounding: "
            "np.allclose.",
            COINCIDE,
            partial(_which_form, verdict=partial(_nearest, either=1e-300)),
        ),
        Misconception(
            "too-tolerant",
            "Differences of a hundredth pass for equal. Rounding makes about 1e-16 here.",
            COINCIDE,
            partial(_which_form, verdict=partial(_nearest, either=2e-2)),
        ),
        Misconception(
            "one-unit-compared",
            "Only unit 0 is compared. Each unit has weights of its own, and any of them may tell.",
            COINCIDE,
            partial(_which_form, far=lambda seen, told: _far(seen[:, 0], told[:, 0])),
        ),
        Misconception(
            "diagonal-is-enough",
            "'either' is said wherever w[2] is diagonal. bw[2] tells them apart, too: r bw against bw.",
            COINCIDE,
            partial(_which_form, verdict=_by_weights_first(lambda w, bw: _is_diagonal(w))),
        ),
        Misconception(
            "equal-resets-overlooked",
            "Is a diagonal w[2] the only way to agree? If all units have the same reset, r h w is r (h w).",
            COINCIDE,
            partial(
                _which_form,
                verdict=_by_weights_first(lambda w, bw: _is_diagonal(w) and not bw[2].any()),
            ),
        ),
        Misconception(
            "names-exchanged",
            "The names are exchanged: 'after' is said of the box that resets before the product.",
            WHICH,
            partial(
                _which_form,
                verdict=lambda far, w, bw: {"after": "before", "before": "after"}.get(
                    answer := _nearest(far, w, bw), answer
                ),
            ),
        ),
        Misconception(
            "always-after",
            "The answer is 'after' whatever the box does. Does it depend on what step(x, h) gives?",
            WHICH,
            lambda step, forms, u, w, b, bw: "after",
        ),
        Misconception(
            "always-before",
            "The answer is 'before' whatever the box does. Does it depend on what step(x, h) gives?",
            WHICH,
            lambda step, forms, u, w, b, bw: "before",
        ),
        Misconception(
            "always-either",
            "The answer is 'either' whatever the box does. What do the forms differ in? Ask where that "
            "shows.",
            WHICH,
            lambda step, forms, u, w, b, bw: "either",
        ),
    ),
)


def _made_alike(
    w: Float[Array, "3 U U"],
    bw: Float[Array, "3 U"],
    *,
    block: Sequence[int] = (2,),
    kept: Callable = lambda a: np.diag(np.diag(a)),
    offset: Callable = np.zeros_like,
    offset_block: Sequence[int] | None = None,
) -> tuple[Float[Array, "3 U U"], Float[Array, "3 U"]]:
    w, bw = w.copy(), bw.copy()
    for k in block:
        w[k] = kept(w[k])
    for k in block if offset_block is None else offset_block:
        bw[k] = offset(bw[k])
    return w, bw


def _alike_case(U: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw(3, U, U), draw(3, U))


def _made_alike_in_place(w: Array, bw: Array) -> tuple[Array, Array]:
    w[2], bw[2] = np.diag(np.diag(w[2])), 0
    return w, bw


made_alike = Check(
    name="gru.made_alike",
    title="weights with which the two forms agree",
    reference=_made_alike,
    terms=("w", "bw"),
    cases=(
        Case("four units", 0.5, _alike_case(4)),
        Case("seven units, float32", 0.5, _alike_case(7), "float32"),
    ),
    misconceptions=(
        Misconception(
            "bw-kept",
            "bw[2] is still there: after the product it is reset, before it is not.",
            COINCIDE,
            partial(_made_alike, offset_block=()),
        ),
        Misconception(
            "bw-of-the-gates-too",
            "All of bw is 0. In the gates bw is never reset: only the candidate's needs to go.",
            COINCIDE,
            partial(_made_alike, offset_block=(0, 1, 2)),
        ),
        Misconception(
            "bw-of-another-block",
            "bw of a gate is 0, and the candidate's is not. The candidate is block 2.",
            COINCIDE,
            partial(_made_alike, offset_block=(1,)),
        ),
        Misconception(
            "all-of-w",
            "All of w[2] is 0. A unit's weight to itself meets its own r either way: the diagonal may stay.",
            COINCIDE,
            partial(_made_alike, kept=np.zeros_like),
        ),
        Misconception(
            "diagonal-zeroed",
            "The diagonal is 0, and the rest is not. It is the rest that carries one unit's h to another's "
            "r.",
            COINCIDE,
            partial(_made_alike, kept=lambda a: a - np.diag(np.diag(a))),
        ),
        Misconception(
            "identity",
            "w[2] has become the identity. Its diagonal may keep its values.",
            COINCIDE,
            partial(_made_alike, kept=lambda a: np.eye(len(a), dtype=a.dtype)),
        ),
        Misconception(
            "one-triangle",
            "One triangle of w[2] is left: unit i still feeds unit j > i, with another r.",
            COINCIDE,
            partial(_made_alike, kept=np.triu),
        ),
        Misconception(
            "other-triangle",
            "One triangle of w[2] is left: unit i still feeds unit j < i, with another r.",
            COINCIDE,
            partial(_made_alike, kept=np.tril),
        ),
        Misconception(
            "gates-too",
            "The gates' blocks are changed, too. Both forms use them in the same way.",
            COINCIDE,
            partial(_made_alike, block=(0, 1, 2)),
        ),
        Misconception(
            "reset-block",
            "The reset gate's block is changed, not the candidate's. r acts in the candidate: w[2] and "
            "bw[2].",
            COINCIDE,
            partial(_made_alike, block=(1,)),
        ),
        Misconception(
            "overwrites-w",
            "w or bw was overwritten. Change a copy.",
            COINCIDE,
            _made_alike_in_place,
        ),
        Misconception(
            "double-precision", f"The results are {WIDER}", COINCIDE, _afterwards(_made_alike, _double)
        ),
    ),
)


# --- 6: parameters counted ---------------------------------------------------------------------------------


def _count_parameters(
    D: int,
    U: int,
    biases: int,
    *,
    block: Callable = lambda D, U, biases: D * U + U * U + biases * U,
    blocks: Sequence[int] = (1, 3, 4, 3),
    peepholes: Callable = lambda U: 3 * U,
) -> tuple[int, ...]:
    """blocks: of RNN, GRU, LSTM and the coupled LSTM."""
    counts = [number * block(D, U, biases) for number in blocks]
    return *counts, counts[2] + peepholes(U)


def _count_case(D: tuple[int, int], U: tuple[int, int], biases: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw.integer(*D), draw.integer(*U), biases)


count_parameters = Check(
    name="gru.count_parameters",
    title="count what each cell has to learn",
    reference=_count_parameters,
    terms=("rnn", "gru", "lstm", "coupled", "peephole"),
    cases=(
        Case("one bias vector", 0.25, _count_case((3, 8), (11, 20), 1)),
        Case("two, as in torch", 0.25, _count_case((3, 8), (11, 20), 2)),
        Case("without biases", 0.25, _count_case((30, 40), (3, 9), 0)),
        Case("large", 0.25, _count_case((200, 300), (400, 600), 2)),
    ),
    misconceptions=(
        Misconception(
            "one-bias-only",
            "One bias vector is counted whatever `biases` says: torch has two for each block, others one or "
            "none.",
            MERGED,
            partial(_count_parameters, block=lambda D, U, biases: D * U + U * U + U),
        ),
        Misconception(
            "biases-forgotten",
            "The biases are not counted: for each block, `biases` vectors of length U.",
            MERGED,
            partial(_count_parameters, block=lambda D, U, biases: D * U + U * U),
        ),
        Misconception(
            "a-number-for-a-vector",
            "A bias is counted as one number. Each unit has its own: U of them.",
            MERGED,
            partial(_count_parameters, block=lambda D, U, biases: D * U + U * U + biases),
        ),
        Misconception(
            "bias-not-in-every-block",
            "The biases are counted once for the cell. Every block has its own.",
            MERGED,
            lambda D, U, biases: tuple(
                count - (number - 1) * biases * U
                for count, number in zip(_count_parameters(D, U, biases), (1, 3, 4, 3, 4), strict=True)
            ),
        ),
        Misconception(
            "no-recurrent-weights",
            "The weights from the state before are not counted: U U for each block.",
            MERGED,
            partial(_count_parameters, block=lambda D, U, biases: D * U + biases * U),
        ),
        Misconception(
            "features-squared",
            "The recurrent weights are counted as D D. They lead from U units to U units.",
            MERGED,
            partial(_count_parameters, block=lambda D, U, biases: D * U + D * D + biases * U),
        ),
        Misconception(
            "coupled-has-four",
            "The coupled LSTM has three blocks: the gate that is 1 minus the other needs no weights.",
            COUNTED,
            partial(_count_parameters, blocks=(1, 3, 4, 4)),
        ),
        Misconception(
            "coupled-has-two",
            "The coupled LSTM lacks one gate, not two: blocks for one of i and f, for g and for o.",
            COUNTED,
            partial(_count_parameters, blocks=(1, 3, 4, 2)),
        ),
        Misconception(
            "gru-has-two",
            "The GRU's candidate has weights as well: three blocks, z, r and n.",
            MERGED,
            partial(_count_parameters, blocks=(1, 2, 4, 3)),
        ),
        Misconception(
            "lstm-has-three",
            "The LSTM has three gates and a candidate: four blocks, i, f, g and o.",
            MERGED,
            partial(_count_parameters, blocks=(1, 3, 3, 3)),
        ),
        Misconception(
            "gates-only",
            "Only the gates are counted. The candidate has weights as well: one block more in each gated "
            "cell.",
            MERGED,
            partial(_count_parameters, blocks=(1, 2, 3, 2)),
        ),
        Misconception(
            "full-peepholes",
            "Peepholes are counted as full matrices. Each gate sees its own unit's cell state: U numbers a "
            "gate.",
            PEEPHOLE_OUTPUT,
            partial(_count_parameters, peepholes=lambda U: 3 * U * U),
        ),
        Misconception(
            "peepholes-of-four",
            "Four peepholes are counted. The candidate has none: three gates, 3 U.",
            PEEPHOLE_OUTPUT,
            partial(_count_parameters, peepholes=lambda U: 4 * U),
        ),
        Misconception(
            "peephole-of-one",
            "One peephole vector is counted. Each of the three gates has its own: 3 U.",
            PEEPHOLE_OUTPUT,
            partial(_count_parameters, peepholes=lambda U: U),
        ),
        Misconception(
            "peepholes-alone",
            "These are the peepholes alone. The cell has all the weights of an LSTM besides.",
            PEEPHOLE_OUTPUT,
            lambda D, U, biases: (*_count_parameters(D, U, biases)[:4], 3 * U),
        ),
    ),
)


# --- 7: peepholes ------------------------------------------------------------------------------------------


def _peephole_step(
    x: Float[Array, "N D"],
    h: Float[Array, "N U"],
    c: Float[Array, "N U"],
    u: Float[Array, "4 D U"],
    w: Float[Array, "4 U U"],
    b: Float[Array, "4 U"],
    p: Float[Array, "3 U"],
    *,
    blocks: str = "ifgo",
    rows: str = "ifo",
    early: Callable = lambda h, c, p: p * c,
    late: Callable = lambda c, new, p: p * new,
    at_candidate: Callable = lambda c, p: 0,
    gate: Callable = lambda a, seen: _sigmoid(a + seen),
    write: Callable = lambda i, f, g, c: f * c + i * g,
    read: Callable = lambda o, c, new: o * np.tanh(new),
) -> tuple[Float[Array, "N U"], Float[Array, "N U"]]:
    """early: what i and f see of the cell state.   late: what o sees.   at_candidate: what g sees."""
    a = {name: x @ u[k] + h @ w[k] + b[k] for k, name in enumerate(blocks)}
    row = {name: p[k] for k, name in enumerate(rows)}
    i, f = (gate(a[name], early(h, c, row[name])) for name in "if")
    new = write(i, f, np.tanh(a["g"] + at_candidate(c, row["i"])), c)
    return read(gate(a["o"], late(c, new, row["o"])), c, new), new


def _peephole_case(N: int, D: int, U: int) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        h, c = np.tanh(draw(N, U)), 2 * draw(N, U)
        return call(draw(N, D), h, c, draw(4, D, U), draw(4, U, U), draw(4, U), draw(3, U))

    return arguments


peephole_step = Check(
    name="gru.peephole_step",
    title="a step of an LSTM whose gates see the cell state",
    reference=_peephole_step,
    terms=("h", "c"),
    cases=(
        Case("one sequence", 0.5, _peephole_case(1, 3, 4)),
        Case("a batch", 0.5, _peephole_case(3, 2, 5)),
        Case("a single unit", 0.5, _peephole_case(4, 5, 1)),
        Case("float32", 0.5, _peephole_case(2, 4, 3), "float32"),
    ),
    misconceptions=(
        Misconception(
            "output-sees-the-old-state",
            "The output gate sees c(t-1). It reads the cell after the write, so its peephole sees the new c.",
            PEEPHOLE_OUTPUT,
            partial(_peephole_step, late=lambda c, new, p: p * c),
        ),
        Misconception(
            "output-sees-the-squashed-state",
            "The output gate sees tanh(c). A peephole sees the cell state itself.",
            PEEPHOLE_OUTPUT,
            partial(_peephole_step, late=lambda c, new, p: p * np.tanh(new)),
        ),
        Misconception(
            "output-without-peephole",
            "The output gate has no peephole here. It has one, on the new cell state.",
            PEEPHOLE_OUTPUT,
            partial(_peephole_step, late=lambda c, new, p: 0),
        ),
        Misconception(
            "output-alone",
            "The input and the forget gate have no peephole here. They see the cell state before the step.",
            PEEPHOLE,
            partial(_peephole_step, early=lambda h, c, p: 0),
        ),
        Misconception(
            "no-peepholes",
            "The peepholes are missing: this is the plain LSTM.",
            PEEPHOLE,
            partial(_peephole_step, early=lambda h, c, p: 0, late=lambda c, new, p: 0),
        ),
        Misconception(
            "peeps-at-h",
            "The input and the forget gate's peepholes see h. They see the cell state c, which o may hide "
            "from h.",
            PEEPHOLE,
            partial(_peephole_step, early=lambda h, c, p: p * h),
        ),
        Misconception(
            "peeps-at-tanh",
            "The input and the forget gate's peepholes see tanh(c). They see the cell state itself.",
            PEEPHOLE,
            partial(_peephole_step, early=lambda h, c, p: p * np.tanh(c)),
        ),
        Misconception(
            "candidate-peeps",
            "The candidate g has a peephole here. Only the gates have.",
            PEEPHOLE,
            partial(_peephole_step, at_candidate=lambda c, p: p * c),
        ),
        Misconception(
            "outside-the-sigmoid",
            "The peepholes are added outside the sigmoid. They belong to the pre-activation.",
            PEEPHOLE,
            partial(_peephole_step, gate=lambda a, seen: _sigmoid(a) + seen),
        ),
        Misconception(
            "multiplied",
            "The peepholes multiply the pre-activation. They are one more term of its sum.",
            PEEPHOLE,
            partial(_peephole_step, gate=lambda a, seen: _sigmoid(a * seen)),
        ),
        Misconception(
            "summed-over-the-units",
            "A gate sees the sum of p c over all units. Each unit's gate sees its own cell only: no sum.",
            PEEPHOLE,
            partial(
                _peephole_step,
                early=lambda h, c, p: (p * c).sum(axis=1, keepdims=True),
                late=lambda c, new, p: (p * new).sum(axis=1, keepdims=True),
            ),
        ),
        Misconception(
            "rows-exchanged",
            "The rows of p are taken in another order: they stand in i, f, o.",
            PEEPHOLE,
            partial(_peephole_step, rows="fio"),
        ),
        Misconception(
            "onnx-order",
            "The blocks or rows are taken in ONNX's order, i, o, f. Here they stand in i, f, g, o, and p in "
            "i, f, o.",
            GATED,
            partial(_peephole_step, blocks="iofg", rows="iof"),
        ),
        Misconception(
            "gates-first",
            "The blocks are taken in the order i, f, o, g. Here the candidate is third: i, f, g, o.",
            GATED,
            partial(_peephole_step, blocks="ifog"),
        ),
        Misconception(
            "write-and-keep-exchanged",
            "i multiplies the old cell state and f the candidate. f keeps, i writes: f c + i g.",
            CELL,
            partial(_peephole_step, write=lambda i, f, g, c: i * c + f * g),
        ),
        Misconception(
            "tanh-left-out",
            "The tanh of the new cell state is left out of h = o tanh(c).",
            OUTPUT,
            partial(_peephole_step, read=lambda o, c, new: o * new),
        ),
        Misconception(
            "old-state-read",
            "h reads the old cell state. It reads what the step has just written.",
            OUTPUT,
            partial(_peephole_step, read=lambda o, c, new: o * np.tanh(c)),
        ),
        Misconception(
            "w-transposed",
            "w is transposed: entry (i, j) of a block leads from unit i of the state to unit j, so h @ w.",
            GATED,
            _changed(_peephole_step, 4, _transposed),
        ),
        Misconception(
            "states-exchanged",
            "The results are exchanged: return h first, then c.",
            OUTPUT,
            _afterwards(_peephole_step, lambda result: result[::-1]),
        ),
        Misconception(
            "overwrites-c",
            "The old cell state was overwritten: c *= f changes the caller's array. Make a new one.",
            CELL,
            _overwritten(_peephole_step, 2, 1),
        ),
        Misconception(
            "double-precision", f"The results are {WIDER}", OUTPUT, _afterwards(_peephole_step, _double)
        ),
    ),
)


# --- 8: coupled gates, as a module of torch ----------------------------------------------------------------

OTHER_DTYPE = "float32 and float64 meet: a tensor made without a dtype is float32; take x.new_zeros(...)"


def _new_zeros(x: Array, shape: tuple[int, int]) -> Array:
    return x.new_zeros(shape)


def _registered(u: Array, w: Array, b: Array) -> dict[str, tuple[int, ...]]:
    return {name: tuple(a.shape) for name, a in (("u", u), ("w", w), ("b", b))}


def _without_bias(u: Array, w: Array, b: Array) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in _registered(u, w, b).items() if name != "b"}


def _run_coupled_lstm(
    x: Float[Array, "N T D"],
    u: Float[Array, "3 D U"],
    w: Float[Array, "3 U U"],
    b: Float[Array, "3 U"],
    h0: Float[Array, "N U"] | None = None,
    c0: Float[Array, "N U"] | None = None,
    *,
    registered: Callable = _registered,
    zeros: Callable = _new_zeros,
    start: Callable = lambda h0, c0, x: (h0, c0),
    blocks: str = "igo",
    couple: Callable = lambda i: (i, 1 - i),
    write: Callable = lambda i, f, g, c: f * c + i * g,
    read: Callable = lambda o, c, old: o * c.tanh(),
    carried: Callable = lambda state: state,
    shown: Callable = lambda h, c: h,
    stacked: Callable = lambda steps: _stack(steps, 1),
    last: Callable = lambda h, c: (h, c),
    order: Callable = lambda T: range(T),
) -> tuple[Any, ...]:
    """What the cell registers, its outputs, and its last h and c.   couple: i, f from the one gate."""
    N, U = len(x), w.shape[2]
    h, c = (zeros(x, (N, U)), zeros(x, (N, U))) if h0 is None else start(h0, c0, x)
    steps = []
    for t in order(x.shape[1]):
        a = {name: x[:, t] @ u[k] + h @ w[k] + b[k] for k, name in enumerate(blocks)}
        i, f = couple(a["i"].sigmoid())
        old, c = c, write(i, f, a["g"].tanh(), c)
        h = read(a["o"].sigmoid(), c, old)
        steps.append(shown(h, c))
        h, c = carried(h), carried(c)
    return registered(u, w, b), stacked(steps), *last(h, c)


def _stack(tensors: Sequence[Array], axis: int) -> Array:
    import torch

    return torch.stack(list(tensors), axis)


def _zeros_on_the_cpu(x: Array, shape: tuple[int, int]) -> Array:
    import torch

    return torch.zeros(shape)


def _zeros_of_float32(x: Array, shape: tuple[int, int]) -> Array:
    import torch

    return torch.zeros(shape, device=x.device)


def _zeros_of_its_dtype_on_the_cpu(x: Array, shape: tuple[int, int]) -> Array:
    import torch

    return torch.zeros(shape, dtype=x.dtype)


def _module_outputs(
    run: Callable, x: Array, u: Array, w: Array, b: Array, *state: Array
) -> tuple[Any, ...]:
    """Parameters, outputs, last states, and autograd's gradients of all outputs by all that goes in."""
    given = dict(zip(("x", "u", "w", "b", "h0", "c0"), (x, u, w, b, *state), strict=False))
    made: list[Any] = []

    def outputs(*leaves: Array) -> Array:
        made[:] = run(*leaves)
        return _in_one(made[1:], x.device)

    try:
        _, *gradients = with_gradients(outputs, *given.values())
    except CallFailed as error:
        raise CallFailed(_explained(error.failure)) from error
    cut = ", ".join(name for name, g in zip(given, gradients, strict=True) if isinstance(g, Failure))
    parameters, *states = made
    gradient = Failure("detached", cut, f"{CUT_OFF.message} It is that by {cut}.") if cut else None
    return parameters, *(a.detach() for a in states), gradient or dict(zip(given, gradients, strict=True))


def _explained(failure: Failure) -> Failure:
    """The failure, by its cause where torch's error has one that students meet here."""
    said = failure.message
    if failure.kind == "exception" and ("same dtype" in said or "scalar type" in said):
        return Failure("dtype", "", OTHER_DTYPE)
    if failure.kind == "exception" and (failure.detail == "in place" or "in-place operation" in said):
        return Failure("in place", "", CHANGED_IN_PLACE)
    return failure


def _in_one(tensors: Sequence[Any], device: Any) -> Array:
    """All numbers of some tensors in one; what is none of the tensors wanted is told."""
    import torch

    for tensor, name in zip(tensors, ("h", "the last h", "the last c"), strict=True):
        if not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            raise CallFailed(Failure("result", name, f"{name} is of type {kind}, expected a torch tensor"))
        if tensor.device != device:
            raise CallFailed(Failure("device", "created", CREATED_ON_CPU))
    return torch.cat([tensor.flatten() for tensor in tensors])


def _module_case(N: int, T: int, D: int, U: int, *, state: bool) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        given = (np.tanh(draw(N, U)), draw(N, U)) if state else ()
        return call(draw(N, T, D), draw(3, D, U), draw(3, U, U), draw(3, U), *given)

    return arguments


coupled_lstm = Check(
    name="gru.coupled_lstm",
    title="a module of torch with coupled gates",
    reference=_run_coupled_lstm,
    library="torch",
    terms=("parameters", "h", "h_last", "c_last", "gradient"),
    observe=_module_outputs,
    forbidden=("torch.*rnn*", "torch.*lstm*", "torch.*gru*"),
    cases=(
        Case("with a state", 0.25, _module_case(3, 5, 2, 4, state=True)),
        Case("from zero, float32", 0.25, _module_case(2, 7, 3, 5, state=False), "float32"),
        Case("from zero, float64", 0.25, _module_case(4, 3, 5, 2, state=False)),
        Case("on another device", 0.25, _module_case(2, 4, 3, 5, state=False), "float32", device="meta"),
    ),
    misconceptions=(
        Misconception(
            "wrong-gate-drives",
            "The weights drive f, and i = 1 - f. Block 0 is the input gate's: it drives, and f = 1 - i.",
            COUPLED,
            partial(_run_coupled_lstm, couple=lambda gate: (1 - gate, gate)),
        ),
        Misconception(
            "forget-gate-open",
            "There is no forget gate: the old cell state is kept whole. With coupled gates f = 1 - i.",
            COUPLED,
            partial(_run_coupled_lstm, couple=lambda gate: (gate, gate.new_ones(()))),
        ),
        Misconception(
            "tied-not-coupled",
            "f = i: what is written more is kept more. Coupled gates make room for what they write: f = 1 - "
            "i.",
            COUPLED,
            partial(_run_coupled_lstm, couple=lambda gate: (gate, gate)),
        ),
        Misconception(
            "candidate-not-gated",
            "The candidate is written whole. The share that is written is i, and 1 - i is kept.",
            COUPLED,
            partial(_run_coupled_lstm, couple=lambda gate: (gate.new_ones(()), 1 - gate)),
        ),
        Misconception(
            "tanh-left-out",
            "The tanh of the new cell state is left out of h = o tanh(c).",
            OUTPUT,
            partial(_run_coupled_lstm, read=lambda o, c, old: o * c),
        ),
        Misconception(
            "output-gate-left-out",
            "The output gate is left out: h = o tanh(c).",
            OUTPUT,
            partial(_run_coupled_lstm, read=lambda o, c, old: c.tanh()),
        ),
        Misconception(
            "old-state-read",
            "h reads the cell state before the step. It reads what the step has just written.",
            OUTPUT,
            partial(_run_coupled_lstm, read=lambda o, c, old: o * old.tanh()),
        ),
        Misconception(
            "candidate-last",
            "The blocks are taken in the order i, o, g. They stand in i, g, o.",
            GATED,
            partial(_run_coupled_lstm, blocks="iog"),
        ),
        Misconception(
            "not-registered",
            "These are plain tensors or buffers. Only an nn.Parameter on self is found by optimisers and "
            "trained.",
            COUPLED,
            partial(_run_coupled_lstm, registered=lambda u, w, b: {}),
        ),
        Misconception(
            "four-blocks",
            "There are parameters for four blocks. The coupled gate needs none: a quarter fewer.",
            COUNTED,
            partial(
                _run_coupled_lstm,
                registered=lambda u, w, b: {
                    name: (4, *shape[1:]) for name, shape in _registered(u, w, b).items()
                },
            ),
        ),
        Misconception(
            "bias-not-registered",
            "b is a plain tensor or a buffer. Only an nn.Parameter on self is found by optimisers and "
            "trained.",
            COUPLED,
            partial(_run_coupled_lstm, registered=_without_bias),
        ),
        Misconception(
            "bias-forgotten",
            "b is missing, as a parameter and in the sums.",
            COUPLED,
            lambda x, u, w, b, *state: _run_coupled_lstm(
                x, u, w, b.new_zeros(b.shape), *state, registered=_without_bias
            ),
        ),
        Misconception(
            "zeros-on-the-cpu",
            "The state of zeros is float32 on the CPU wherever x is, and of whatever dtype: "
            "x.new_zeros(...).",
            COUPLED,
            partial(_run_coupled_lstm, zeros=_zeros_on_the_cpu),
        ),
        Misconception(
            "zeros-of-float32",
            "The state of zeros is float32 whatever x is: x.new_zeros(...), or torch.zeros with "
            "dtype=x.dtype.",
            COUPLED,
            partial(_run_coupled_lstm, zeros=_zeros_of_float32),
        ),
        Misconception(
            "zeros-not-on-the-device",
            "The state of zeros is on the CPU wherever x is: x.new_zeros(...), or torch.zeros with "
            "device=x.device.",
            COUPLED,
            partial(_run_coupled_lstm, zeros=_zeros_of_its_dtype_on_the_cpu),
        ),
        Misconception(
            "in-place",
            "c is changed in place (c *= ...), and at the first step that is the caller's state. Make a new "
            "one: c = ...",
            COUPLED,
            partial(_run_coupled_lstm, write=lambda i, f, g, c: c.mul_(f).add_(i * g)),
        ),
        Misconception(
            "start-detached",
            "The state that was given is detached: nothing that made it can learn from here.",
            COUPLED,
            partial(_run_coupled_lstm, start=lambda h0, c0, x: (h0.detach(), c0.detach())),
        ),
        Misconception(
            "state-ignored",
            "The state that was given is ignored: the cell starts from zero.",
            COUPLED,
            partial(_run_coupled_lstm, start=lambda h0, c0, x: [_new_zeros(x, h0.shape)] * 2),
        ),
        Misconception(
            "start-exchanged",
            "The state that was given is taken as (c, h). It is (h, c).",
            COUPLED,
            partial(_run_coupled_lstm, start=lambda h0, c0, x: (c0, h0)),
        ),
        Misconception(
            "last-exchanged",
            "The last state is returned as (c, h). It is (h, c).",
            COUPLED,
            partial(_run_coupled_lstm, last=lambda h, c: (c, h)),
        ),
        Misconception(
            "state-detached",
            "The state is detached at every step: no gradient goes back in time.",
            COUPLED,
            partial(_run_coupled_lstm, carried=lambda state: state.detach()),
        ),
        Misconception(
            "cell-state-returned",
            "The cell state is returned for all steps. What a cell shows is h = o tanh(c).",
            OUTPUT,
            partial(_run_coupled_lstm, shown=lambda h, c: c),
        ),
        Misconception(
            "time-first",
            "The states are stacked with time first. Here the batch is first: torch.stack(..., dim=1).",
            COUPLED,
            partial(_run_coupled_lstm, stacked=lambda steps: _stack(steps, 0)),
        ),
        Misconception(
            "last-step-alone",
            "Only the last step's h is returned. All of them are asked for: (N, T, U).",
            COUPLED,
            partial(_run_coupled_lstm, stacked=lambda steps: steps[-1]),
        ),
        Misconception(
            "time-reversed",
            "The steps are taken from the last to the first.",
            COUPLED,
            partial(
                _run_coupled_lstm,
                order=lambda T: range(T - 1, -1, -1),
                stacked=lambda steps: _stack(steps[::-1], 1),
            ),
        ),
        Misconception(
            "w-transposed",
            "w is transposed: entry (i, j) of a block leads from unit i of the state to unit j, so h @ w.",
            GATED,
            lambda x, u, w, b, *state: _run_coupled_lstm(x, u, w.swapaxes(1, 2), b, *state),
        ),
    ),
)
