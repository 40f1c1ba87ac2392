"""Checks of the assignment `lstm`: the cell gate by gate, forward, backward, over a sequence, its carousel.

The right functions are written out here with a place for each mistake; a wrong variant fills one of them
differently, or changes what goes in or comes out.  Batch first; weights as torch stores them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from coursekit.checks.engine import Arguments, Case, Check, Draw, Misconception, call

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from coursekit.arrays import Array

GATES = "gates/lstm#eq-lstm-gates"
STATE = "gates/lstm#eq-lstm-state"
OUTPUT = "gates/lstm#eq-lstm-output"
BACK = "gates/lstm#eq-lstm-step-backward"
ORDER = "gates/lstm#sec-lstm-order"
PLACES = "gates/lstm#sec-lstm-derivation"
WAYS = "gates/lstm#sec-lstm-ways"
CAROUSEL = "gates/lstm#eq-lstm-lane"
SEEN = "gates/lstm#sec-lstm-mistakes"
FORGET = "gates/lstm#sec-lstm-bias"
INPUT_GATE = "gates/index#sec-gates-input"
OUTPUT_GATE = "gates/index#sec-gates-output"
FORGET_GATE = "gates/index#sec-gates-forget"
COUPLED = "gates/variants#sec-variants-coupled"
BLIND = "gates/variants#sec-variants-blind"
PIECES = "gates/index#sec-gates-pieces"
LENGTHS = "gradients/bptt#sec-bptt-code"
INDICES = "gradients/bptt#sec-bptt-derivation"
WEIGHTS = "gradients/bptt#eq-bptt-weights"
TIME = "gradients/bptt#eq-bptt-state"
MISTAKES = "gradients/bptt#sec-bptt-mistakes"

Parameters = Mapping[str, np.ndarray]
NAMES = ("w_ih", "w_hh", "b_ih", "b_hh")


def _double(function: Callable) -> Callable:
    """The same, but in double precision."""

    def wrong(*args: Any) -> Any:
        return _as_double(function(*args))

    return wrong


def _as_double(result: Any) -> Any:
    if isinstance(result, dict):
        return {name: _as_double(value) for name, value in result.items()}
    return tuple(map(_as_double, result)) if isinstance(result, tuple) else result.astype("float64")


def _double_precision(function: Callable, see: str) -> Misconception:
    return Misconception(
        "double-precision",
        "The result is float64 for float32 arguments, most often because np.zeros(shape) is: give it a "
        "dtype.",
        see,
        _double(function),
    )


def _picked(function: Callable, order: Sequence[int]) -> Callable:
    """The function's results in another order."""

    def wrong(*args: Any) -> tuple:
        result = function(*args)
        return tuple(result[place] for place in order)

    return wrong


# --- Where the blocks stand --------------------------------------------------------------------------------

# What is taken for the order of the blocks: name, message, that order.
ORDERS = (
    (
        "onnx-order",
        "The blocks are taken as i, o, f, g, as ONNX has them. These are stored as torch has them: i, f, g, "
        "o.",
        "iofg",
    ),
    (
        "sigmoids-first",
        "The blocks are taken as i, f, o, g, the three sigmoids side by side. They stand as i, f, g, o: g "
        "third.",
        "ifog",
    ),
    (
        "candidate-second",
        "The blocks are taken as i, g, f, o, as old TensorFlow has them. They stand as i, f, g, o.",
        "igfo",
    ),
    (
        "forget-first",
        "i and f have changed places. The blocks stand as i, f, g, o: what is written first, what is kept "
        "second.",
        "figo",
    ),
)


def _split(a: Float[Array, "N 4*U"], order: str = "ifgo") -> list[Float[Array, "N U"]]:
    """The blocks i, f, g, o of an array that holds them in this order."""
    parts = dict(zip(order, np.split(a, 4, axis=1), strict=True))
    return [parts[block] for block in "ifgo"]


def _interleaved(a: Float[Array, "N 4*U"]) -> list[Float[Array, "N U"]]:
    return [a[:, block::4] for block in range(4)]


def _of_rows(a: Float[Array, "N 4*U"]) -> list[Float[Array, "N U"]]:
    return list(a.reshape(4, len(a), -1))


def _join(i: Array, f: Array, g: Array, o: Array, order: str = "ifgo") -> Float[Array, "N 4*U"]:
    parts = {"i": i, "f": f, "g": g, "o": o}
    return np.concatenate([parts[block] for block in order], axis=1)


# --- 1: the gates ------------------------------------------------------------------------------------------


def _sigmoid(a: Array) -> Array:
    return (1 + np.tanh(a / 2)) / 2


def _gates(
    a: Float[Array, "N 4*U"],
    *,
    split: Callable = _split,
    gate: Callable = _sigmoid,
    candidate: Callable = np.tanh,
) -> tuple[Array, Array, Array, Array]:
    i, f, g, o = split(a)
    return gate(i), gate(f), candidate(g), gate(o)


def _overflowing(a: Array) -> Array:
    return np.exp(a) / (1 + np.exp(a))


def _competing(a: Float[Array, "N 4*U"]) -> tuple[Array, Array, Array, Array]:
    """The three gates share 1."""
    i, f, g, o = _split(a)
    e = [np.exp(part - np.maximum(np.maximum(i, f), o)) for part in (i, f, o)]
    total = e[0] + e[1] + e[2]
    return e[0] / total, e[1] / total, np.tanh(g), e[2] / total


def _in_place(a: Float[Array, "N 4*U"]) -> tuple[Array, Array, Array, Array]:
    parts = _gates(a)
    a[...] = np.concatenate(parts, axis=1)
    return parts


def _gates_case(N: int, U: int, shifts: Sequence[float] = (0,)) -> Callable[[Draw], Arguments]:
    """shifts: added to the columns in turn."""
    return lambda draw: call((draw(N, 4 * U) * 2 + np.resize(shifts, 4 * U)).astype(draw.dtype))


gates = Check(
    name="lstm.gates",
    title="four gates from one product",
    reference=_gates,
    terms=("i", "f", "g", "o"),
    cases=(
        Case("one sequence", 0.25, _gates_case(1, 3)),
        Case("a batch", 0.25, _gates_case(3, 5)),
        Case("numbers near -1000 and 1000", 0.25, _gates_case(4, 3, [1000, -1000])),
        Case("float32", 0.25, _gates_case(7, 2), "float32"),
    ),
    misconceptions=(
        *(
            Misconception(name, message, ORDER, partial(_gates, split=partial(_split, order=order)))
            for name, message, order in ORDERS
        ),
        Misconception(
            "interleaved",
            "Every fourth column is taken. A block is U columns side by side, one for each unit.",
            ORDER,
            partial(_gates, split=_interleaved),
        ),
        Misconception(
            "rows-for-blocks",
            "a is reshaped to (4, N, U), which mixes the sequences. The blocks stand side by side in every "
            "row.",
            ORDER,
            partial(_gates, split=_of_rows),
        ),
        Misconception(
            "sigmoid-everywhere",
            "g went through the sigmoid, too. It is what is written, not how much: tanh, so that c can also "
            "fall.",
            GATES,
            partial(_gates, candidate=_sigmoid),
        ),
        Misconception(
            "tanh-everywhere",
            "The gates went through tanh. A gate is a share between 0 and 1: sigmoid. Only g takes tanh.",
            GATES,
            partial(_gates, gate=np.tanh),
        ),
        Misconception(
            "activations-changed-places",
            "tanh and sigmoid have changed places: i, f and o are shares (sigmoid), g is what is written "
            "(tanh).",
            GATES,
            partial(_gates, gate=np.tanh, candidate=_sigmoid),
        ),
        Misconception(
            "candidate-linear",
            "g has no activation: it is written as it comes. It goes through tanh.",
            GATES,
            partial(_gates, candidate=lambda a: a),
        ),
        Misconception(
            "no-activation",
            "The blocks are split and nothing more. i, f and o go through the sigmoid, g through tanh.",
            GATES,
            lambda a: tuple(_split(a)),
        ),
        Misconception(
            "gates-turned",
            "The sigmoid is turned around: exp(a) where it must be exp(-a). A large number opens a gate.",
            GATES,
            partial(_gates, gate=lambda a: _sigmoid(-a)),
        ),
        Misconception(
            "too-steep",
            "The gates are sigmoid(2 a): by tanh, the sigmoid of a is (1 + tanh(a / 2)) / 2.",
            GATES,
            partial(_gates, gate=lambda a: _sigmoid(2 * a)),
        ),
        Misconception(
            "hard-sigmoid",
            "The gates are a straight line that is cut off at 0 and 1. The sigmoid is 1 / (1 + exp(-a)).",
            GATES,
            partial(_gates, gate=lambda a: np.clip(a / 4 + 0.5, 0, 1)),
        ),
        Misconception(
            "overflow",
            "exp(a) overflows, and inf / inf is nan. 1 / (1 + exp(-a)) does not, nor does (1 + tanh(a / 2)) "
            "/ 2.",
            GATES,
            partial(_gates, gate=_overflowing),
        ),
        Misconception(
            "gates-compete",
            "The gates are a softmax and share 1. Each opens by itself: all may be open, or all closed.",
            GATES,
            _competing,
        ),
        Misconception(
            "not-split",
            "This is one array. Return four, each (N, U): i, f, g, o.",
            GATES,
            lambda a: np.concatenate(_gates(a), axis=1),
        ),
        Misconception(
            "overwrites-a",
            "a was overwritten: a slice is a view, and writing into it (out=, -=, [...] =) changes a.",
            GATES,
            _in_place,
        ),
        _double_precision(_gates, GATES),
    ),
)


# --- 2: what is kept, written, shown -----------------------------------------------------------------------


def _update(
    i: Float[Array, "N U"],
    f: Float[Array, "N U"],
    g: Float[Array, "N U"],
    o: Float[Array, "N U"],
    c: Float[Array, "N U"],
    *,
    new: Callable = lambda s: s["f"] * s["c"] + s["i"] * s["g"],
    show: Callable = lambda s: s["o"] * np.tanh(s["new"]),
) -> tuple[Float[Array, "N U"], Float[Array, "N U"]]:
    """new, show: the cell state and the hidden state after the step, from all that is there."""
    there = {"i": i, "f": f, "g": g, "o": o, "c": c}
    there["new"] = new(there)
    return show(there), there["new"]


def _c_in_place(i: Array, f: Array, g: Array, o: Array, c: Array) -> tuple[Array, Array]:
    h, after = _update(i, f, g, o, c)
    c[...] = after
    return h, after


# What becomes of c and h: name, message, page, the wrong variant.  The step's check names them, too.
UPDATES: tuple[tuple[str, str, str, Callable], ...] = (
    (
        "tanh-left-out",
        "h is o times c: tanh(c) is left out. c may be any size; tanh brings it between -1 and 1.",
        SEEN,
        partial(_update, show=lambda s: s["o"] * s["new"]),
    ),
    (
        "sigmoid-of-c",
        "h is o times sigmoid(c), which hides the sign of c. It is o times tanh(c).",
        OUTPUT,
        partial(_update, show=lambda s: s["o"] * _sigmoid(s["new"])),
    ),
    (
        "old-state-shown",
        "h shows the cell state from before the step. It is o times tanh of the new c.",
        OUTPUT,
        partial(_update, show=lambda s: s["o"] * np.tanh(s["c"])),
    ),
    (
        "candidate-shown",
        "h shows g, what was to be written. It shows the cell state: o times tanh of the new c.",
        OUTPUT,
        partial(_update, show=lambda s: s["o"] * np.tanh(s["g"])),
    ),
    (
        "gate-inside-tanh",
        "h is tanh(o c). The gate comes after tanh: o times tanh(c).",
        OUTPUT,
        partial(_update, show=lambda s: np.tanh(s["o"] * s["new"])),
    ),
    (
        "always-shown",
        "h is tanh(c): the output gate does nothing. It is o times tanh(c).",
        OUTPUT,
        partial(_update, show=lambda s: np.tanh(s["new"])),
    ),
    (
        "output-gate-on-c",
        "The output gate cuts c. It acts on h alone: what is not shown stays in the cell.",
        OUTPUT,
        partial(
            _update,
            new=lambda s: s["o"] * (s["f"] * s["c"] + s["i"] * s["g"]),
            show=lambda s: np.tanh(s["new"]),
        ),
    ),
    (
        "output-gate-twice",
        "The output gate acts on c and on h. It acts on h alone: what is not shown stays in the cell.",
        OUTPUT,
        partial(_update, new=lambda s: s["o"] * (s["f"] * s["c"] + s["i"] * s["g"])),
    ),
    (
        "h-kept-for-c",
        "h is handed on as the cell state, too. c goes to the next step as it is, without o and tanh.",
        OUTPUT,
        lambda i, f, g, o, c: (_update(i, f, g, o, c)[0],) * 2,
    ),
    (
        "c-squashed",
        "The cell state goes through tanh: over many steps that wears it down. c = f c + i g, and tanh only "
        "on the way to h.",
        STATE,
        partial(
            _update,
            new=lambda s: np.tanh(s["f"] * s["c"] + s["i"] * s["g"]),
            show=lambda s: s["o"] * s["new"],
        ),
    ),
    (
        "c-squashed-twice",
        "The cell state goes through tanh before it is handed on, and once more for h. It is handed on as "
        "it is.",
        STATE,
        partial(_update, new=lambda s: np.tanh(s["f"] * s["c"] + s["i"] * s["g"])),
    ),
    (
        "forget-gate-turned",
        "f is taken as how much is forgotten, 1 - f. It says how much is kept: f = 1 keeps all.",
        FORGET_GATE,
        partial(_update, new=lambda s: (1 - s["f"]) * s["c"] + s["i"] * s["g"]),
    ),
    (
        "never-forgets",
        "c is kept whole: the forget gate does nothing (as in 1997). c = f c + i g.",
        FORGET_GATE,
        partial(_update, new=lambda s: s["c"] + s["i"] * s["g"]),
    ),
    (
        "always-written",
        "g is written whole: the input gate does nothing. c = f c + i g.",
        STATE,
        partial(_update, new=lambda s: s["f"] * s["c"] + s["g"]),
    ),
    (
        "nothing-kept",
        "The new c is i g alone: the old one is lost. c = f c + i g.",
        STATE,
        partial(_update, new=lambda s: s["i"] * s["g"]),
    ),
    (
        "coupled-to-the-input-gate",
        "1 - i stands where f must be: that is the cell with coupled gates. Here f decides by itself.",
        COUPLED,
        partial(_update, new=lambda s: (1 - s["i"]) * s["c"] + s["i"] * s["g"]),
    ),
    (
        "coupled",
        "1 - f stands where i must be: that is the cell with coupled gates. Here i decides by itself.",
        COUPLED,
        partial(_update, new=lambda s: s["f"] * s["c"] + (1 - s["f"]) * s["g"]),
    ),
    (
        "forget-gate-on-all",
        "f acts on what is written, too. It acts on the old c alone: f c + i g.",
        STATE,
        partial(_update, new=lambda s: s["f"] * (s["c"] + s["i"] * s["g"])),
    ),
    (
        "input-gate-on-all",
        "i acts on what is kept, too. It acts on g alone: f c + i g.",
        STATE,
        partial(_update, new=lambda s: s["i"] * (s["f"] * s["c"] + s["g"])),
    ),
    (
        "gates-multiplied",
        "Kept and written are multiplied. They are added: that is what lets the gradient pass.",
        STATE,
        partial(_update, new=lambda s: s["f"] * s["c"] * s["i"] * s["g"]),
    ),
)
SWAPPED = (
    "states-swapped",
    "The states come as (c, h). Return h first, then c, as torch does.",
    OUTPUT,
)


def _update_case(N: int, U: int, size: float = 1.0) -> Callable[[Draw], Arguments]:
    """size: about how large the cell state is."""

    def arguments(draw: Draw) -> Arguments:
        return call(*_gates(draw(N, 4 * U)), (size * draw(N, U)).astype(draw.dtype))

    return arguments


update = Check(
    name="lstm.update",
    title="what is kept, written and shown",
    reference=_update,
    terms=("h", "c"),
    cases=(
        Case("one sequence", 0.25, _update_case(1, 3)),
        Case("a batch", 0.5, _update_case(4, 5)),
        Case("a large cell state", 0.5, _update_case(3, 7, 5.0)),
        Case("float32", 0.25, _update_case(5, 2, 2.0), "float32"),
    ),
    misconceptions=(
        *(Misconception(*row) for row in UPDATES),
        Misconception(
            "kept-and-written-swapped",
            "i and f have changed places: i acts on g, what is written, and f on the old c, what is kept.",
            STATE,
            partial(_update, new=lambda s: s["i"] * s["c"] + s["f"] * s["g"]),
        ),
        Misconception(
            "candidate-squashed-again",
            "g goes through tanh once more. It has been through it already.",
            STATE,
            partial(_update, new=lambda s: s["f"] * s["c"] + s["i"] * np.tanh(s["g"])),
        ),
        Misconception(*SWAPPED, _picked(_update, [1, 0])),
        Misconception(
            "overwrites-c",
            "c was overwritten: c *= f changes the caller's array, and the backward pass needs it. Make a "
            "new one.",
            STATE,
            _c_in_place,
        ),
        _double_precision(_update, STATE),
    ),
)


# --- 3: the step forward -----------------------------------------------------------------------------------


def _pre_activation(x: Array, h: Array, c: Array, p: Parameters) -> Float[Array, "N 4*U"]:
    return x @ p["w_ih"].T + p["b_ih"] + h @ p["w_hh"].T + p["b_hh"]


def _step(
    x: Float[Array, "N D"],
    h: Float[Array, "N U"],
    c: Float[Array, "N U"],
    p: Parameters,
    *,
    pre: Callable = _pre_activation,
    opened: Callable = _gates,
    updated: Callable = _update,
) -> tuple[Float[Array, "N U"], Float[Array, "N U"]]:
    return updated(*opened(pre(x, h, c, p)), c)


def _without(*names: str) -> Callable:
    """What goes into the gates without some of the parameters."""
    return lambda x, h, c, p: _pre_activation(
        x, h, c, {name: np.zeros_like(a) if name in names else a for name, a in p.items()}
    )


def _reshaped(w: Array) -> Array:
    return w.reshape(w.shape[::-1]).T


def _states_in_place(x: Array, h: Array, c: Array, p: Parameters) -> tuple[Array, Array]:
    after = _step(x, h, c, p)
    h[...], c[...] = after
    return after


def _parameters(draw: Draw, D: int, U: int) -> dict[str, np.ndarray]:
    shapes = {"w_ih": (4 * U, D), "w_hh": (4 * U, U), "b_ih": (4 * U,), "b_hh": (4 * U,)}
    return {name: draw(*shape) / 2 for name, shape in shapes.items()}


def _step_case(N: int, D: int, U: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw(N, D), np.tanh(draw(N, U)), 2 * draw(N, U), _parameters(draw, D, U))


step = Check(
    name="lstm.step",
    title="one step forward, with torch's weights",
    reference=_step,
    terms=("h", "c"),
    cases=(
        Case("one sequence", 0.25, _step_case(1, 2, 3)),
        Case("a batch", 0.5, _step_case(5, 3, 4)),
        Case("more features than units", 0.5, _step_case(3, 7, 2)),
        Case("float32", 0.25, _step_case(4, 2, 5), "float32"),
    ),
    misconceptions=(
        *(
            Misconception(
                name,
                message,
                ORDER,
                partial(_step, opened=partial(_gates, split=partial(_split, order=order))),
            )
            for name, message, order in ORDERS
        ),
        Misconception(
            "interleaved",
            "Every fourth row of the weights is taken for one gate. A block is U rows one below the other.",
            ORDER,
            partial(_step, opened=partial(_gates, split=_interleaved)),
        ),
        *(
            Misconception(name, message, see, partial(_step, updated=wrong))
            for name, message, see, wrong in UPDATES
        ),
        Misconception(
            "reshaped-weights",
            "The weights are reshaped where they must be transposed: row k of w_ih makes pre-activation k.",
            GATES,
            partial(
                _step,
                pre=lambda x, h, c, p: _pre_activation(
                    x, h, c, {name: _reshaped(a) if a.ndim == 2 else a for name, a in p.items()}
                ),
            ),
        ),
        Misconception(
            "second-bias-forgotten",
            "b_hh is left out. torch has two vectors of offsets, and both are added.",
            GATES,
            partial(_step, pre=_without("b_hh")),
        ),
        Misconception(
            "first-bias-forgotten",
            "b_ih is left out. torch has two vectors of offsets, and both are added.",
            GATES,
            partial(_step, pre=_without("b_ih")),
        ),
        Misconception(
            "biases-forgotten",
            "The offsets are left out: b_ih and b_hh are both added.",
            GATES,
            partial(_step, pre=_without("b_ih", "b_hh")),
        ),
        Misconception(
            "one-bias-twice",
            "b_ih is added twice, and b_hh never.",
            GATES,
            partial(_step, pre=lambda x, h, c, p: _pre_activation(x, h, c, {**p, "b_hh": p["b_ih"]})),
        ),
        Misconception(
            "not-recurrent",
            "The gates do not read h: the product with w_hh is left out.",
            GATES,
            partial(_step, pre=_without("w_hh")),
        ),
        Misconception(
            "input-ignored",
            "The gates do not read x: the product with w_ih is left out.",
            GATES,
            partial(_step, pre=_without("w_ih")),
        ),
        Misconception(
            "gates-read-c",
            "w_hh is multiplied by c. The gates read x and h; the cell state they see only with peepholes.",
            BLIND,
            partial(_step, pre=lambda x, h, c, p: _pre_activation(x, c, c, p)),
        ),
        Misconception(
            "squashed-first",
            "x and h were put through a tanh before the gates, as in a plain net. Each gate has its own "
            "activation, and no other.",
            GATES,
            partial(_step, pre=lambda *args: np.tanh(_pre_activation(*args))),
        ),
        Misconception(
            "sigmoid-everywhere",
            "g went through the sigmoid, too. It is what is written, not how much: tanh, so that c can also "
            "fall.",
            GATES,
            partial(_step, opened=partial(_gates, candidate=_sigmoid)),
        ),
        Misconception(
            "tanh-everywhere",
            "The gates went through tanh. A gate is a share between 0 and 1: sigmoid. Only g takes tanh.",
            GATES,
            partial(_step, opened=partial(_gates, gate=np.tanh)),
        ),
        Misconception(
            "old-c-lost",
            "The step starts from c = 0, or from h. It starts from the c that comes in.",
            STATE,
            lambda x, h, c, p: _update(*_gates(_pre_activation(x, h, c, p)), h),
        ),
        Misconception(*SWAPPED, _picked(_step, [1, 0])),
        Misconception(
            "overwrites-the-states",
            "h and c were overwritten. The steps before still need them: make new arrays.",
            STATE,
            _states_in_place,
        ),
        _double_precision(_step, GATES),
    ),
)


# --- 4: the offset of the forget gate ----------------------------------------------------------------------


def _block(b: Float[Array, " 4*U"], place: int) -> slice:
    return slice(place * len(b) // 4, (place + 1) * len(b) // 4)


def _with_offsets(
    p: Parameters, bias: float, where: Callable = lambda b: _block(b, 1), second: float | None = 0.0
) -> dict[str, np.ndarray]:
    """bias goes to these entries of b_ih, second to those of b_hh, None for what is there."""
    b_ih, b_hh = p["b_ih"].copy(), p["b_hh"].copy()
    b_ih[where(b_ih)] = bias
    if second is not None:
        b_hh[where(b_hh)] = second
    return {**p, "b_ih": b_ih, "b_hh": b_hh}


def _set_forget_bias(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    return _with_offsets(p, bias)


def _look_at_offsets(function: Callable, p: Parameters, bias: float) -> tuple[Array, dict[str, Array]]:
    """The sum of both offsets in the block f, whatever each has of it, and all else."""
    q = function(p, bias)
    if type(q) is not dict:
        return q, q
    forget, rest = _block(q["b_ih"], 1), dict(q)
    for name in ("b_ih", "b_hh"):
        rest[name] = np.delete(q[name], forget)
    return q["b_ih"][forget] + q["b_hh"][forget], rest


def _added(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    b_ih = p["b_ih"].copy()
    b_ih[_block(b_ih, 1)] += bias
    return {**p, "b_ih": b_ih}


def _offsets_in_place(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    q = _with_offsets(p, bias)
    for name in ("b_ih", "b_hh"):
        p[name][...] = q[name]
    return q


def _first_offsets_in_place(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    p["b_ih"][_block(p["b_ih"], 1)] = bias
    return dict(p)


def _offsets_alone(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    q = _with_offsets(p, bias)
    return {name: q[name] for name in ("b_ih", "b_hh")}


def _rest_at_zero(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    zero = {name: np.zeros_like(p[name]) for name in ("b_ih", "b_hh")}
    return _with_offsets({**p, **zero}, bias)


def _rest_of_the_first_at_zero(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    return _with_offsets({**p, "b_ih": np.zeros_like(p["b_ih"])}, bias)


def _double_offsets(p: Parameters, bias: float) -> dict[str, np.ndarray]:
    q = _with_offsets(p, bias)
    return {**q, **{name: q[name].astype("float64") for name in ("b_ih", "b_hh")}}


def _offsets_case(D: int, U: int, bias: float) -> Callable[[Draw], Arguments]:
    return lambda draw: call(_parameters(draw, D, U), bias)


set_forget_bias = Check(
    name="lstm.set_forget_bias",
    title="open the forget gate at the start",
    reference=_set_forget_bias,
    observe=_look_at_offsets,
    terms=("b_ih + b_hh of f", "all else"),
    cases=(
        Case("a small cell", 0.5, _offsets_case(2, 3, 1.0)),
        Case("more units", 0.5, _offsets_case(3, 7, 4.0)),
        Case("a negative offset, float32", 0.5, _offsets_case(5, 4, -2.5), "float32"),
    ),
    misconceptions=(
        Misconception(
            "set-in-both",
            "Both b_ih and b_hh are set to bias, and the gate reads their sum: twice what you wanted.",
            FORGET,
            lambda p, bias: _with_offsets(p, bias, second=bias),
        ),
        Misconception(
            "second-left",
            "b_hh was left as it was drawn, and it is added: the sum is not bias. Set its block f to 0.",
            FORGET,
            partial(_with_offsets, second=None),
        ),
        Misconception(
            "first-left",
            "b_ih was left as it was drawn, and it is added: the sum is not bias. Set its block f to 0.",
            FORGET,
            lambda p, bias: _with_offsets(p, p["b_ih"][_block(p["b_ih"], 1)], second=bias),
        ),
        Misconception(
            "added",
            "bias is added to what was drawn. The offset is to be bias, whatever stood there.",
            FORGET,
            _added,
        ),
        Misconception(
            "all-blocks",
            "All blocks are set. An open input gate writes at every step: set the block f and no other.",
            FORGET,
            partial(_with_offsets, where=lambda b: slice(None)),
        ),
        Misconception(
            "all-blocks-of-the-first",
            "All of b_ih is set, and b_hh is left. Set the block f and no other, in both.",
            FORGET,
            partial(_with_offsets, where=lambda b: slice(None), second=None),
        ),
        Misconception(
            "input-block",
            "This is the first block, the input gate's: it opens what is written. f is second, U to 2 U.",
            FORGET,
            partial(_with_offsets, where=lambda b: _block(b, 0)),
        ),
        Misconception(
            "third-block",
            "This is the third block, where ONNX has f. In torch g stands there, and f is second: U to 2 U.",
            FORGET,
            partial(_with_offsets, where=lambda b: _block(b, 2)),
        ),
        Misconception(
            "last-block",
            "This is the last block, the output gate's. f is second: U to 2 U.",
            FORGET,
            partial(_with_offsets, where=lambda b: _block(b, 3)),
        ),
        Misconception(
            "interleaved",
            "Every fourth entry is set. The block f is U entries side by side: U to 2 U.",
            FORGET,
            partial(_with_offsets, where=lambda b: slice(1, None, 4)),
        ),
        Misconception(
            "one-unit",
            "One entry is set. Every unit has its own forget gate: U to 2 U.",
            FORGET,
            partial(_with_offsets, where=lambda b: len(b) // 4),
        ),
        Misconception(
            "rest-at-zero",
            "The other offsets are set to 0. They stay as they were drawn.",
            FORGET,
            _rest_at_zero,
        ),
        Misconception(
            "rest-of-the-first-at-zero",
            "The other offsets of b_ih are set to 0. They stay as they were drawn.",
            FORGET,
            _rest_of_the_first_at_zero,
        ),
        Misconception(
            "gate-for-offset",
            "The offset is sigmoid(bias), the gate's value. bias itself is what goes into the sigmoid.",
            FORGET,
            lambda p, bias: _with_offsets(p, _sigmoid(bias)),
        ),
        Misconception(
            "sign-turned",
            "The offset is -bias, which closes the gate. A large f keeps, so the offset that keeps is "
            "positive.",
            FORGET,
            lambda p, bias: _with_offsets(p, -bias),
        ),
        Misconception(
            "offsets-alone",
            "Only the offsets came back. Return all four arrays: a cell needs its weights, too.",
            FORGET,
            _offsets_alone,
        ),
        Misconception(
            "shallow-copy",
            "The arrays that came in were changed. dict(p) copies the dictionary, not its arrays: copy "
            "those, too.",
            FORGET,
            _offsets_in_place,
        ),
        Misconception(
            "shallow-copy-of-the-first",
            "The b_ih that came in was changed. dict(p) copies the dictionary, not its arrays: copy those, "
            "too.",
            FORGET,
            _first_offsets_in_place,
        ),
        Misconception(
            "double-precision",
            "The offsets are float64 for a float32 cell, most often because np.zeros or np.full is: give it "
            "a dtype.",
            FORGET,
            _double_offsets,
        ),
    ),
)


# --- 5: back through the update ----------------------------------------------------------------------------

There = dict[str, Any]


def _update_backward(
    dh: Float[Array, "N U"],
    dc: Float[Array, "N U"],
    i: Float[Array, "N U"],
    f: Float[Array, "N U"],
    g: Float[Array, "N U"],
    o: Float[Array, "N U"],
    c: Float[Array, "N U"],
    c_after: Float[Array, "N U"],
    *,
    slope: Callable[[There], Array] = lambda s: 1 - s["read"] ** 2,
    total: Callable[[There], Array] = lambda s: s["dc"] + s["dh"] * s["o"] * s["slope"],
    **changed: Callable[[There], Array],
) -> tuple[Array, Array, Array, Array, Array]:
    """total: all that reaches the new c.   changed: what comes out under a name, from all that is there."""
    there = {"dh": dh, "dc": dc, "i": i, "f": f, "g": g, "o": o, "c": c, "after": c_after}
    there["read"] = np.tanh(c_after)
    there["slope"] = slope(there)
    there["total"] = all_of_it = total(there)
    right = {
        "di": all_of_it * g, "df": all_of_it * c, "dg": all_of_it * i, "do": dh * there["read"],
        "dc_before": all_of_it * f,
    }  # fmt: skip
    return tuple(changed[name](there) if name in changed else value for name, value in right.items())


def _dc_in_place(dh: Array, dc: Array, *rest: Array) -> tuple[Array, ...]:
    result = _update_backward(dh, dc, *rest)
    dc += dh
    return result


def _slopes_already(dh: Array, dc: Array, i: Array, f: Array, g: Array, o: Array, *rest: Array) -> tuple:
    di, df, dg, do, before = _update_backward(dh, dc, i, f, g, o, *rest)
    return di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o), before


def _update_backward_case(N: int, U: int, by_h: float = 1, by_c: float = 1) -> Callable[[Draw], Arguments]:
    """by_h, by_c: how large the gradients are that come in."""

    def arguments(draw: Draw) -> Arguments:
        i, f, g, o = _gates(draw(N, 4 * U))
        c = draw(N, U)
        return call(by_h * draw(N, U), by_c * draw(N, U), i, f, g, o, c, f * c + i * g)

    return arguments


update_backward = Check(
    name="lstm.update_backward",
    title="back through what is kept, written and shown",
    reference=_update_backward,
    terms=("di", "df", "dg", "do", "dc_before"),
    cases=(
        Case("a gradient by h alone", 0.25, _update_backward_case(2, 3, by_c=0)),
        Case("a gradient by c alone", 0.25, _update_backward_case(3, 2, by_h=0)),
        Case("both", 0.25, _update_backward_case(4, 5)),
        Case("float32", 0.25, _update_backward_case(5, 3), "float32"),
    ),
    misconceptions=(
        Misconception(
            "dc-goes-on-unread",
            "dc_before takes what came through h alone. dc itself goes on, too: that is the carousel.",
            PLACES,
            partial(_update_backward, dc_before=lambda s: s["dh"] * s["o"] * s["slope"] * s["f"]),
        ),
        Misconception(
            "only-dc-goes-on",
            "dc_before takes dc alone. What c heard through h goes on to the step before, too.",
            PLACES,
            partial(_update_backward, dc_before=lambda s: s["dc"] * s["f"]),
        ),
        Misconception(
            "dc-not-carried-in",
            "dc is not carried in: the new c is read by the next step, too, and dc is what comes back from "
            "there. Add it.",
            PLACES,
            partial(_update_backward, total=lambda s: s["dh"] * s["o"] * s["slope"]),
        ),
        Misconception(
            "path-through-h-missing",
            "c hears from the next step only. It is also shown, in h: add dh o (1 - tanh(c)^2) to dc.",
            PLACES,
            partial(_update_backward, total=lambda s: s["dc"]),
        ),
        Misconception(
            "slope-forgotten",
            "The slope of tanh is missing between h and c: dh o (1 - tanh(c)^2).",
            SEEN,
            partial(_update_backward, slope=lambda s: np.ones_like(s["c"])),
        ),
        Misconception(
            "output-gate-forgotten",
            "The output gate is missing between h and c: what it hides has no part in h. dh o (1 - "
            "tanh(c)^2).",
            BACK,
            partial(_update_backward, total=lambda s: s["dc"] + s["dh"] * s["slope"]),
        ),
        Misconception(
            "tanh-for-its-slope",
            "tanh(c) stands where its slope must: c hears dh o (1 - tanh(c)^2).",
            BACK,
            partial(_update_backward, slope=lambda s: s["read"]),
        ),
        Misconception(
            "slope-without-tanh",
            "The slope is 1 - c^2 here. That of tanh at c is 1 - tanh(c)^2: c itself is no tanh of anything.",
            BACK,
            partial(_update_backward, slope=lambda s: 1 - s["after"] ** 2),
        ),
        Misconception(
            "slope-at-the-tanh",
            "The slope is taken at tanh(c): tanh twice. It is 1 - tanh(c)^2.",
            BACK,
            partial(_update_backward, slope=lambda s: 1 - np.tanh(s["read"]) ** 2),
        ),
        Misconception(
            "slope-of-the-old-c",
            "The slope is taken at the cell state before the step. h shows the new one: c_after.",
            BACK,
            partial(_update_backward, slope=lambda s: 1 - np.tanh(s["c"]) ** 2),
        ),
        Misconception(
            "slope-of-a-sigmoid",
            "The slope is that of a sigmoid, s (1 - s). That of tanh is 1 - tanh(c)^2.",
            BACK,
            partial(_update_backward, slope=lambda s: s["read"] * (1 - s["read"])),
        ),
        Misconception(
            "dc-through-tanh",
            "dc was multiplied by o and the slope of tanh. Those lie between h and c; dc comes along c "
            "itself.",
            PLACES,
            partial(_update_backward, total=lambda s: (s["dc"] + s["dh"]) * s["o"] * s["slope"]),
        ),
        Misconception(
            "dc-through-the-slope",
            "dc was multiplied by the slope of tanh. It comes along c itself, where there is no tanh.",
            PLACES,
            partial(_update_backward, total=lambda s: (s["dc"] + s["dh"] * s["o"]) * s["slope"]),
        ),
        Misconception(
            "dc-through-the-output-gate",
            "dc was multiplied by o. It comes along c itself; the output gate stands on the way to h.",
            PLACES,
            partial(_update_backward, total=lambda s: (s["dc"] + s["dh"] * s["slope"]) * s["o"]),
        ),
        Misconception(
            "input-and-forget-swapped",
            "di and df have changed places: i stands next to g, and f next to the old c.",
            PLACES,
            _picked(_update_backward, [1, 0, 2, 3, 4]),
        ),
        Misconception(
            "input-and-candidate-swapped",
            "di and dg have changed places: each is multiplied by the other one's value, di by g, dg by i.",
            BACK,
            _picked(_update_backward, [2, 1, 0, 3, 4]),
        ),
        Misconception(
            "new-c-in-df",
            "df takes the cell state after the step. f stands next to the one before it.",
            BACK,
            partial(_update_backward, df=lambda s: s["total"] * s["after"]),
        ),
        Misconception(
            "tanh-of-c-in-df",
            "df takes tanh(c). f multiplies the old c as it is.",
            BACK,
            partial(_update_backward, df=lambda s: s["total"] * np.tanh(s["c"])),
        ),
        Misconception(
            "c-without-tanh-in-do",
            "do takes c. o stands next to tanh(c).",
            BACK,
            partial(_update_backward, do=lambda s: s["dh"] * s["after"]),
        ),
        Misconception(
            "old-c-in-do",
            "do takes the cell state before the step. o shows the new one: tanh(c_after).",
            BACK,
            partial(_update_backward, do=lambda s: s["dh"] * np.tanh(s["c"])),
        ),
        Misconception(
            "output-gate-hears-c",
            "do is made of all that c hears. o acts on h alone: dh tanh(c_after), without dc.",
            PLACES,
            partial(_update_backward, do=lambda s: s["total"] * s["read"]),
        ),
        Misconception(
            "slope-in-do",
            "do is multiplied by the slope of tanh. o stands behind tanh: dh tanh(c_after).",
            BACK,
            partial(_update_backward, do=lambda s: s["dh"] * s["read"] * s["slope"]),
        ),
        Misconception(
            "forget-gate-forgotten",
            "dc_before lacks f: the old c reaches the new one through the forget gate.",
            WAYS,
            partial(_update_backward, dc_before=lambda s: s["total"]),
        ),
        Misconception(
            "input-gate-on-the-way-back",
            "dc_before is multiplied by i. The old c passes the forget gate: f.",
            BACK,
            partial(_update_backward, dc_before=lambda s: s["total"] * s["i"]),
        ),
        Misconception(
            "slopes-too-early",
            "The slopes of the activations are in already. These are the gradients by i, f, g and o "
            "themselves.",
            BACK,
            _slopes_already,
        ),
        Misconception(
            "overwrites-dc",
            "dc was overwritten: dc += ... changes the caller's array. Write dc = dc + ...",
            BACK,
            _dc_in_place,
        ),
        _double_precision(_update_backward, BACK),
    ),
)


# --- 6: back through the activations -----------------------------------------------------------------------


def _sigmoid_slope(s: Array) -> Array:
    return s * (1 - s)


def _tanh_slope(g: Array) -> Array:
    return 1 - g**2


def _gates_backward(
    di: Float[Array, "N U"],
    df: Float[Array, "N U"],
    dg: Float[Array, "N U"],
    do: Float[Array, "N U"],
    i: Float[Array, "N U"],
    f: Float[Array, "N U"],
    g: Float[Array, "N U"],
    o: Float[Array, "N U"],
    *,
    gate: Callable = _sigmoid_slope,
    candidate: Callable = _tanh_slope,
    join: Callable = _join,
) -> Float[Array, "N 4*U"]:
    return join(di * gate(i), df * gate(f), dg * candidate(g), do * gate(o))


def _join_interleaved(*parts: Array) -> Float[Array, "N 4*U"]:
    return np.stack(parts, axis=2).reshape(len(parts[0]), -1)


def _gates_backward_case(N: int, U: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(*(draw(N, U) for _ in range(4)), *_gates(draw(N, 4 * U)))


gates_backward = Check(
    name="lstm.gates_backward",
    title="back through the four activations",
    reference=_gates_backward,
    terms=("da",),
    cases=(
        Case("one sequence", 0.5, _gates_backward_case(1, 3)),
        Case("a batch", 1, _gates_backward_case(3, 5)),
        Case("float32", 0.5, _gates_backward_case(5, 2), "float32"),
    ),
    misconceptions=(
        Misconception(
            "slope-at-the-value",
            "The slope is taken at the gate's value: sigmoid twice. With s = sigmoid(a) it is s (1 - s), "
            "and s is known.",
            BACK,
            partial(
                _gates_backward,
                gate=lambda s: _sigmoid_slope(_sigmoid(s)),
                candidate=lambda g: _tanh_slope(np.tanh(g)),
            ),
        ),
        Misconception(
            "slope-of-the-gates-at-the-value",
            "The slope of the gates is taken at their value: sigmoid twice. It is s (1 - s), with s the "
            "gate.",
            BACK,
            partial(_gates_backward, gate=lambda s: _sigmoid_slope(_sigmoid(s))),
        ),
        Misconception(
            "slope-of-g-at-the-value",
            "The slope of g is taken at its value: tanh twice. It is 1 - g^2.",
            BACK,
            partial(_gates_backward, candidate=lambda g: _tanh_slope(np.tanh(g))),
        ),
        Misconception(
            "sigmoid-slopes-everywhere",
            "g has the slope of a sigmoid. It is a tanh: 1 - g^2.",
            BACK,
            partial(_gates_backward, candidate=_sigmoid_slope),
        ),
        Misconception(
            "tanh-slopes-everywhere",
            "The gates have the slope of tanh. They are sigmoids: s (1 - s).",
            BACK,
            partial(_gates_backward, gate=_tanh_slope),
        ),
        Misconception(
            "slopes-forgotten",
            "The slopes are missing: da is the gradient by what goes into the activations.",
            BACK,
            partial(_gates_backward, gate=np.ones_like, candidate=np.ones_like),
        ),
        Misconception(
            "slopes-of-the-gates-forgotten",
            "The gates have no slope here. Multiply by s (1 - s).",
            BACK,
            partial(_gates_backward, gate=np.ones_like),
        ),
        Misconception(
            "slope-of-g-forgotten",
            "g has no slope here. Multiply by 1 - g^2.",
            BACK,
            partial(_gates_backward, candidate=np.ones_like),
        ),
        Misconception(
            "half-a-slope",
            "The slope of the gates is 1 - s here. It is s (1 - s).",
            BACK,
            partial(_gates_backward, gate=lambda s: 1 - s),
        ),
        Misconception(
            "value-for-slope",
            "The gates are multiplied by their own value. The slope is s (1 - s): a gate that is quite open "
            "or shut learns nothing.",
            BACK,
            partial(_gates_backward, gate=lambda s: s),
        ),
        Misconception(
            "slope-not-squared",
            "The slope of g is 1 - g here. It is 1 - g^2.",
            BACK,
            partial(_gates_backward, candidate=lambda g: 1 - g),
        ),
        Misconception(
            "slopes-divided",
            "The gradients are divided by the slopes. Going back multiplies by them.",
            BACK,
            partial(
                _gates_backward, gate=lambda s: 1 / _sigmoid_slope(s), candidate=lambda g: 1 / _tanh_slope(g)
            ),
        ),
        *(
            Misconception(name, message, ORDER, partial(_gates_backward, join=partial(_join, order=order)))
            for name, message, order in ORDERS
        ),
        Misconception(
            "interleaved",
            "The four gradients of a unit stand side by side. A block is U columns: all of i, then all of f.",
            ORDER,
            partial(_gates_backward, join=_join_interleaved),
        ),
        Misconception(
            "blocks-below-each-other",
            "The blocks stand below each other, (4 N, U). They stand side by side, (N, 4 U): axis=1.",
            ORDER,
            partial(_gates_backward, join=lambda *parts: np.concatenate(parts, axis=0)),
        ),
        Misconception(
            "four-arrays",
            "These are four arrays, or an array with three axes. Put the blocks side by side: (N, 4 U).",
            ORDER,
            partial(_gates_backward, join=lambda *parts: np.stack(parts, axis=1)),
        ),
        _double_precision(_gates_backward, BACK),
    ),
)


# --- 7: back to the input, the state before and the weights ------------------------------------------------


def _step_backward(
    da: Float[Array, "N 4*U"],
    x: Float[Array, "N D"],
    h: Float[Array, "N U"],
    p: Parameters,
    **changed: Callable[[There], Any],
) -> tuple[Float[Array, "N D"], Float[Array, "N U"], dict[str, np.ndarray]]:
    """changed: what comes out under a name, from all that is there."""
    there = {"da": da, "x": x, "h": h, **p}
    right = {
        "dx": da @ p["w_ih"], "dh": da @ p["w_hh"], "w_ih": da.T @ x, "w_hh": da.T @ h,
        "b_ih": da.sum(axis=0), "b_hh": da.sum(axis=0),
    }  # fmt: skip
    found = {name: changed[name](there) if name in changed else value for name, value in right.items()}
    return found.pop("dx"), found.pop("dh"), found


def _refilled(w: Array) -> Array:
    """w transposed, then reshaped to fit."""
    return w.T.reshape(w.shape)


def _both_offsets(value: Callable[[Array], Any]) -> Callable:
    return partial(_step_backward, b_ih=lambda s: value(s["da"]), b_hh=lambda s: value(s["da"]))


def _batch_averaged(da: Array, *rest: Any) -> tuple[Array, Array, dict[str, np.ndarray]]:
    dx, dh, dp = _step_backward(da, *rest)
    return dx, dh, {name: d / len(da) for name, d in dp.items()}


def _renamed(*args: Any) -> tuple[Array, Array, dict[str, np.ndarray]]:
    dx, dh, dp = _step_backward(*args)
    return dx, dh, {f"d{name}": d for name, d in dp.items()}


def _keys_swapped(*args: Any) -> tuple[Array, Array, dict[str, np.ndarray]]:
    dx, dh, dp = _step_backward(*args)
    return dx, dh, {**dp, "w_ih": dp["w_hh"], "w_hh": dp["w_ih"]}


def _step_backward_case(N: int, D: int, U: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw(N, 4 * U), draw(N, D), np.tanh(draw(N, U)), _parameters(draw, D, U))


step_backward = Check(
    name="lstm.step_backward",
    title="back to the input, the state before and the weights",
    reference=_step_backward,
    terms=("dx", "dh", "dp"),
    cases=(
        Case("one sequence", 0.25, _step_backward_case(1, 2, 3)),
        Case("a batch", 0.25, _step_backward_case(5, 3, 2)),
        Case("more features than units", 0.25, _step_backward_case(3, 7, 4)),
        Case("float32", 0.25, _step_backward_case(4, 5, 3), "float32"),
    ),
    misconceptions=(
        Misconception(
            "reshaped-w_ih",
            "w_ih is reshaped. a = x w_ih' + ..., so x hears da w_ih, and nothing is turned.",
            INDICES,
            partial(_step_backward, dx=lambda s: s["da"] @ _refilled(s["w_ih"])),
        ),
        Misconception(
            "reshaped-w_hh",
            "w_hh is reshaped. a = ... + h w_hh', so h hears da w_hh, and nothing is turned.",
            INDICES,
            partial(_step_backward, dh=lambda s: s["da"] @ _refilled(s["w_hh"])),
        ),
        Misconception(
            "one-gate-only",
            "h hears from one gate only. All four read it: da w_hh, over all 4 U columns.",
            BACK,
            partial(
                _step_backward,
                dh=lambda s: s["da"][:, : s["h"].shape[1]] @ s["w_hh"][: s["h"].shape[1]],
            ),
        ),
        Misconception(
            "transposed-weights",
            "The gradients of the weights are transposed. They have the shape of the weights: (4 U, D), (4 "
            "U, U).",
            WEIGHTS,
            partial(_step_backward, w_ih=lambda s: s["x"].T @ s["da"], w_hh=lambda s: s["h"].T @ s["da"]),
        ),
        Misconception(
            "transposed-w_ih",
            "The gradient of w_ih is transposed. It has the shape of w_ih, (4 U, D).",
            WEIGHTS,
            partial(_step_backward, w_ih=lambda s: s["x"].T @ s["da"]),
        ),
        Misconception(
            "transposed-w_hh",
            "The gradient of w_hh is transposed. It has the shape of w_hh, (4 U, U).",
            WEIGHTS,
            partial(_step_backward, w_hh=lambda s: s["h"].T @ s["da"]),
        ),
        Misconception(
            "reshaped-gradients",
            "The gradients of the weights are reshaped to fit. Multiply the other way round: da' x, da' h.",
            WEIGHTS,
            partial(
                _step_backward,
                w_ih=lambda s: (s["x"].T @ s["da"]).reshape(s["w_ih"].shape),
                w_hh=lambda s: (s["h"].T @ s["da"]).reshape(s["w_hh"].shape),
            ),
        ),
        Misconception(
            "keys-swapped",
            "The gradients of w_ih and w_hh have changed places: w_ih stands next to x, w_hh next to h.",
            WEIGHTS,
            _keys_swapped,
        ),
        Misconception(
            "names-with-d",
            "The keys have a d in front. dp has the keys of p, so that p - lr dp is easy to write.",
            WEIGHTS,
            _renamed,
        ),
        Misconception(
            "second-offset-without-gradient",
            "b_hh has no gradient. It is added like b_ih, so it has the same.",
            WEIGHTS,
            partial(_step_backward, b_hh=lambda s: np.zeros_like(s["b_hh"])),
        ),
        Misconception(
            "offsets-share",
            "The gradient is shared out between the two offsets. Each acts in full: both have the whole sum.",
            WEIGHTS,
            _both_offsets(lambda da: da.sum(axis=0) / 2),
        ),
        Misconception(
            "offsets-of-each-sequence",
            "The offsets have a gradient for each sequence. They share the offsets, so sum over the batch.",
            WEIGHTS,
            _both_offsets(lambda da: da),
        ),
        Misconception(
            "offsets-averaged",
            "The gradients of the offsets are averaged over the batch. The offset acts on all: sum.",
            WEIGHTS,
            _both_offsets(lambda da: da.mean(axis=0)),
        ),
        Misconception(
            "offsets-over-the-gates",
            "The gradients of the offsets are summed over the wrong axis. Each of the 4 U has its own: "
            "axis=0.",
            WEIGHTS,
            _both_offsets(lambda da: da.sum(axis=1)),
        ),
        Misconception(
            "offsets-not-flat",
            "The gradients of the offsets have shape (1, 4 U): summed with keepdims. They have that of the "
            "offsets.",
            WEIGHTS,
            _both_offsets(lambda da: da.sum(axis=0, keepdims=True)),
        ),
        Misconception(
            "batch-averaged",
            "The gradients of the parameters are divided by N. The mean is in da already; they are plain "
            "sums.",
            WEIGHTS,
            _batch_averaged,
        ),
        _double_precision(_step_backward, BACK),
    ),
)


# --- 8: a whole sequence -----------------------------------------------------------------------------------


def recorded_step(x: Array, h: Array, c: Array, p: Parameters) -> tuple[Array, Array, tuple[Array, ...]]:
    """The states after a step, and what recorded_step_backward needs of it."""
    opened = _gates(_pre_activation(x, h, c, p))
    h_after, c_after = _update(*opened, c)
    return h_after, c_after, (x, h, c, c_after, *opened)


def recorded_step_backward(
    dh: Array, dc: Array, record: tuple[Array, ...], p: Parameters
) -> tuple[Array, Array, Array, dict[str, np.ndarray]]:
    """dx, the gradients of h and c before the step, and those of the parameters."""
    x, h, c, c_after, *opened = record
    *gradients, dc = _update_backward(dh, dc, *opened, c, c_after)
    dx, dh, dp = _step_backward(_gates_backward(*gradients, *opened), x, h, p)
    return dx, dh, dc, dp


RUNGS: dict[str, Callable] = {
    "step": recorded_step,
    "step_backward": recorded_step_backward,
    "set_forget_bias": _set_forget_bias,
}


def _rungs(*names: str) -> dict[str, Callable]:
    return {name: RUNGS[name] for name in names}


_CALLED = (
    *RUNGS.values(), _gates, _split, _sigmoid, _pre_activation, _update, _update_backward, _gates_backward,
    _step_backward, _join, _sigmoid_slope, _tanh_slope, _with_offsets, _block,
)  # fmt: skip
ALLOWED = tuple(f"{__name__}.{f.__name__}" for f in _CALLED) + tuple(
    f"{__name__}.<{kind}>" for kind in ("lambda", "listcomp", "dictcomp", "genexpr")
)

Pair = tuple[Any, Any]


def _goes_on(t: int, T: int, lengths: Int[Array, " N"]) -> Array:
    """Which sequences have a step t."""
    return (t < lengths)[:, None]


def _kept(runs: Array, new: Pair, old: Pair) -> Pair:
    """A sequence that has ended keeps its states."""
    return np.where(runs, new[0], old[0]), np.where(runs, new[1], old[1])


def _shown(runs: Array, new: Pair, old: Pair, kept: Pair) -> Array:
    return np.where(runs, new[0], np.zeros_like(new[0]))


def _sequence(
    x: Float[Array, "N T D"],
    h0: Float[Array, "N U"],
    c0: Float[Array, "N U"],
    p: Parameters,
    lengths: Int[Array, " N"],
    rungs: Mapping[str, Callable],
    *,
    runs: Callable = _goes_on,
    read: Callable[[Pair, Pair], Pair] = lambda states, start: states,
    keep: Callable = _kept,
    show: Callable = _shown,
) -> tuple[Float[Array, "N T U"], Float[Array, "N U"], Float[Array, "N U"]]:
    """read: what a step starts from.   keep, show: states and output after it, of new and old states."""
    states, outputs, T = (h0, c0), [], x.shape[1]
    for t in range(T):
        old, alive = read(states, (h0, c0)), runs(t, T, lengths)
        h, c, _ = rungs["step"](x[:, t], *old, p)
        kept = keep(alive, (h, c), old)
        outputs.append(show(alive, (h, c), old, kept))
        states = kept
    return np.stack(outputs, axis=1), *states


def _started(start: Callable[[Array, Array], Pair]) -> Callable:
    """The whole sequence from other initial states."""
    return lambda x, h0, c0, *rest: _sequence(x, *start(h0, c0), *rest)


def _last_column(*args: Any) -> tuple[Array, Array, Array]:
    h, _, c = _sequence(*args)
    return h, h[:, -1], c


def _backwards_in_time(x: Array, *rest: Any) -> tuple[Array, Array, Array]:
    return _sequence(x[:, ::-1], *rest, runs=lambda t, T, lengths: _goes_on(T - 1 - t, T, lengths))


def _time_first(*args: Any) -> tuple[Array, Array, Array]:
    h, *states = _sequence(*args)
    return np.swapaxes(h, 0, 1), *states


def _to_the_shortest(
    x: Array, h0: Array, c0: Array, p: Parameters, lengths: Array, rungs: Mapping
) -> tuple[Array, Array, Array]:
    return _sequence(x, h0, c0, p, np.full_like(lengths, lengths.min()), rungs)


def _lengths(draw: Draw, N: int, T: int) -> Int[Array, " N"]:
    """One sequence of all T steps, one of a single step where there is room, others between."""
    lengths = draw.rng.integers(2, T, N)
    lengths[:2] = [T, 1][:N]
    return draw.rng.permutation(lengths)


def _sequence_case(N: int, T: int, D: int, U: int, padded: bool = True) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        lengths = _lengths(draw, N, T) if padded else np.full(N, T)
        x, h0, c0 = draw(N, T, D), np.tanh(draw(N, U)), draw(N, U)
        return call(x, h0, c0, _parameters(draw, D, U), lengths, _rungs("step"))

    return arguments


sequence = Check(
    name="lstm.sequence",
    title="forward over sequences of different lengths",
    reference=_sequence,
    terms=("h", "h_last", "c_last"),
    allowed=ALLOWED,
    cases=(
        Case("all of one length", 0.25, _sequence_case(2, 5, 3, 4, padded=False)),
        Case("different lengths", 0.5, _sequence_case(4, 6, 2, 3)),
        Case("float32", 0.25, _sequence_case(3, 7, 5, 2), "float32"),
    ),
    misconceptions=(
        Misconception(
            "c-not-carried",
            "Every step starts from c0. c goes on from step to step: that is the memory.",
            STATE,
            partial(_sequence, read=lambda states, start: (states[0], start[1])),
        ),
        Misconception(
            "h-not-carried",
            "Every step starts from h0. h goes on from step to step, like c.",
            STATE,
            partial(_sequence, read=lambda states, start: (start[0], states[1])),
        ),
        Misconception(
            "nothing-carried",
            "Every step starts from h0 and c0. Both states go on from step to step.",
            STATE,
            partial(_sequence, read=lambda states, start: start),
        ),
        Misconception(
            "start-ignored",
            "The first step starts at 0 although h0 and c0 were given.",
            STATE,
            _started(lambda h0, c0: (np.zeros_like(h0), np.zeros_like(c0))),
        ),
        Misconception(
            "start-of-c-ignored",
            "The cell state starts at 0 although c0 was given.",
            STATE,
            _started(lambda h0, c0: (h0, np.zeros_like(c0))),
        ),
        Misconception(
            "start-of-h-ignored",
            "The hidden state starts at 0 although h0 was given.",
            STATE,
            _started(lambda h0, c0: (np.zeros_like(h0), c0)),
        ),
        Misconception(
            "starts-swapped",
            "h0 and c0 have changed places.",
            STATE,
            _started(lambda h0, c0: (c0, h0)),
        ),
        Misconception(
            "states-go-on",
            "The outputs of the padding are 0, but the states go on. A sequence that has ended keeps h and "
            "c.",
            LENGTHS,
            partial(_sequence, keep=lambda runs, new, old: new),
        ),
        Misconception(
            "lengths-ignored",
            "lengths does nothing: a sequence that has ended goes on, over its padding.",
            LENGTHS,
            partial(_sequence, runs=lambda t, T, lengths: np.full((len(lengths), 1), True)),
        ),
        Misconception(
            "h-goes-on",
            "c is kept where a sequence has ended, but h goes on. Keep both.",
            LENGTHS,
            partial(_sequence, keep=lambda runs, new, old: (new[0], np.where(runs, new[1], old[1]))),
        ),
        Misconception(
            "c-goes-on",
            "h is kept where a sequence has ended, but c goes on. Keep both.",
            LENGTHS,
            partial(_sequence, keep=lambda runs, new, old: (np.where(runs, new[0], old[0]), new[1])),
        ),
        Misconception(
            "last-column",
            "h_last is the output at step T - 1, which is 0 for a shorter sequence. It is the state after "
            "its own last step.",
            LENGTHS,
            _last_column,
        ),
        Misconception(
            "states-lost",
            "The states become 0 where a sequence has ended. Keep them: they are its last states.",
            LENGTHS,
            partial(_sequence, keep=lambda runs, new, old: (new[0] * runs, new[1] * runs)),
        ),
        Misconception(
            "padding-not-empty",
            "The outputs of the padding repeat the last state. They are 0.",
            LENGTHS,
            partial(_sequence, show=lambda runs, new, old, kept: kept[0]),
        ),
        Misconception(
            "padding-shown",
            "The outputs of the padding are those of steps that do not exist. They are 0.",
            LENGTHS,
            partial(_sequence, show=lambda runs, new, old, kept: new[0]),
        ),
        Misconception(
            "one-step-too-many",
            "Every sequence has one step more than its length: steps are counted from 0, so t < length.",
            LENGTHS,
            partial(_sequence, runs=lambda t, T, lengths: _goes_on(t, T, lengths + 1)),
        ),
        Misconception(
            "one-step-too-few",
            "Every sequence has one step less than its length: t < length, which includes length - 1.",
            LENGTHS,
            partial(_sequence, runs=lambda t, T, lengths: _goes_on(t, T, lengths - 1)),
        ),
        Misconception(
            "padding-in-front",
            "The padding is taken to stand in front. A sequence starts at step 0, and its padding follows.",
            LENGTHS,
            partial(_sequence, runs=lambda t, T, lengths: (t >= T - lengths)[:, None]),
        ),
        Misconception(
            "cut-to-the-shortest",
            "All sequences end with the shortest. Each has its own length.",
            LENGTHS,
            _to_the_shortest,
        ),
        Misconception(
            "c-for-output",
            "The outputs are cell states. A step shows h.",
            OUTPUT,
            partial(_sequence, show=lambda runs, new, old, kept: new[1] * runs),
        ),
        Misconception(
            "state-before-shown",
            "The output of a step is the state before it. It is the one after it.",
            OUTPUT,
            partial(_sequence, show=lambda runs, new, old, kept: old[0] * runs),
        ),
        Misconception(
            "last-states-swapped",
            "c_last comes before h_last. Return h of all steps, then h_last, then c_last.",
            OUTPUT,
            _picked(_sequence, [0, 2, 1]),
        ),
        Misconception(
            "backwards-in-time",
            "The steps are run from the last to the first. Going forward starts at step 0.",
            STATE,
            _backwards_in_time,
        ),
        Misconception(
            "time-first",
            "h has time first, (T, N, U). Here the batch comes first: np.stack(..., axis=1).",
            STATE,
            _time_first,
        ),
        _double_precision(_sequence, STATE),
    ),
)


# --- 9: back through the sequence --------------------------------------------------------------------------


def _taken_back(runs: Array, new: Pair, old: Pair) -> Pair:
    """A step that does not exist hands on what it was given."""
    return _kept(runs, new, old)


def _added_up(dp: dict[str, np.ndarray] | None, one: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return one if dp is None else {name: dp[name] + one[name] for name in one}


def _sequence_backward(
    dh: Float[Array, "N T U"],
    dh_last: Float[Array, "N U"],
    dc_last: Float[Array, "N U"],
    records: Sequence[tuple],
    p: Parameters,
    lengths: Int[Array, " N"],
    rungs: Mapping[str, Callable],
    *,
    runs: Callable = _goes_on,
    gather: Callable[[Array, Array, int], Array] = lambda own, carried, t: own + carried,
    into: Callable[[Array, Pair], Pair] = lambda runs, pair: (pair[0] * runs, pair[1] * runs),
    back: Callable = _taken_back,
    collect: Callable = _added_up,
) -> tuple[Float[Array, "N T D"], Float[Array, "N U"], Float[Array, "N U"], dict[str, np.ndarray]]:
    """gather: own and carried gradient of h.   into: what goes into a step.   back: what it hands back."""
    carried, dp, dx, T = (dh_last, dc_last), None, [], dh.shape[1]
    for t in reversed(range(T)):
        alive = runs(t, T, lengths)
        both = gather(dh[:, t], carried[0], t), carried[1]
        one_dx, *before, one = rungs["step_backward"](*into(alive, both), records[t], p)
        carried = back(alive, tuple(before), carried)
        dp = collect(dp, one)
        dx.insert(0, one_dx)
    return np.stack(dx, axis=1), *carried, dp


def _arguments_changed(**changes: Callable[[Array], Array]) -> Callable:
    """The way back, given something else for some arguments.   changes: by name, that argument -> another."""
    places = {"dh": 0, "dh_last": 1, "dc_last": 2}

    def wrong(*args: Any) -> tuple:
        given = list(args)
        for name, change in changes.items():
            given[places[name]] = change(given[places[name]])
        return _sequence_backward(*given)

    return wrong


def _last_at_the_end(dh: Array, dh_last: Array, dc_last: Array, *rest: Any) -> tuple:
    """The gradient of the last state goes to the output at step T - 1, where a short sequence has padding."""
    dh = dh.copy()
    dh[:, -1] += dh_last
    return _sequence_backward(dh, np.zeros_like(dh_last), dc_last, *rest)


def _only_last(dh: Array) -> Array:
    kept = np.zeros_like(dh)
    kept[:, -1] = dh[:, -1]
    return kept


def _forward_in_time(
    dh: Array,
    dh_last: Array,
    dc_last: Array,
    records: Sequence,
    p: Parameters,
    lengths: Array,
    rungs: Mapping,
) -> tuple:
    T = dh.shape[1]
    dx, *rest = _sequence_backward(
        dh[:, ::-1], dh_last, dc_last, records[::-1], p, lengths, rungs,
        runs=lambda t, T, lengths: _goes_on(T - 1 - t, T, lengths),
    )  # fmt: skip
    return dx[:, ::-1][:, :T], *rest


def _not_turned(*args: Any) -> tuple:
    dx, *rest = _sequence_backward(*args)
    return dx[:, ::-1], *rest


def _at_result(place: int, change: Callable[[Any, tuple], Any]) -> Callable:
    """One of the results changed.   change: that result, all arguments -> another."""

    def wrong(*args: Any) -> tuple:
        result = list(_sequence_backward(*args))
        result[place] = change(result[place], args)
        return tuple(result)

    return wrong


def _scaled(dp: dict[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    return {name: d * factor for name, d in dp.items()}


def _starts_at_zero(*args: Any) -> tuple:
    dx, dh0, dc0, dp = _sequence_backward(*args)
    return dx, np.zeros_like(dh0), np.zeros_like(dc0), dp


def _padding_heard(
    dh: Array,
    dh_last: Array,
    dc_last: Array,
    records: Sequence,
    p: Parameters,
    lengths: Array,
    rungs: Mapping,
) -> tuple:
    """As if every sequence's last state had also been shown at each step of its padding."""
    padding = np.arange(dh.shape[1]) >= lengths[:, None]
    heard = dh_last + np.sum(dh * padding[..., None], axis=1, dtype=dh.dtype)
    return _sequence_backward(dh, heard, dc_last, records, p, lengths, rungs)


def _dh_in_place(dh: Array, dh_last: Array, *rest: Any) -> tuple:
    result = _sequence_backward(dh, dh_last, *rest)
    dh[:, -1] += dh_last
    return result


def _records(x: Array, h: Array, c: Array, p: Parameters) -> list[tuple]:
    records = []
    for t in range(x.shape[1]):
        h, c, record = recorded_step(x[:, t], h, c, p)
        records.append(record)
    return records


def _sequence_backward_case(
    N: int, T: int, D: int, U: int, padded: bool = True
) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        p, lengths = _parameters(draw, D, U), _lengths(draw, N, T) if padded else np.full(N, T)
        records = _records(draw(N, T, D), np.tanh(draw(N, U)), draw(N, U), p)
        return call(draw(N, T, U), draw(N, U), draw(N, U), records, p, lengths, _rungs("step_backward"))

    return arguments


sequence_backward = Check(
    name="lstm.sequence_backward",
    title="back over sequences of different lengths",
    reference=_sequence_backward,
    terms=("dx", "dh0", "dc0", "dp"),
    allowed=ALLOWED,
    cases=(
        Case("all of one length", 0.25, _sequence_backward_case(2, 5, 3, 4, padded=False)),
        Case("a single step", 0.25, _sequence_backward_case(3, 1, 2, 4, padded=False)),
        Case("different lengths", 0.5, _sequence_backward_case(4, 6, 2, 3)),
        Case("float32", 0.25, _sequence_backward_case(3, 5, 4, 2), "float32"),
    ),
    misconceptions=(
        Misconception(
            "start-of-c-without-gradient",
            "c0 has no gradient. It is the dc that step 0 hands back.",
            BACK,
            _at_result(2, lambda dc0, args: np.zeros_like(dc0)),
        ),
        Misconception(
            "starts-without-gradient",
            "h0 and c0 have no gradient. They are what step 0 hands back.",
            BACK,
            _starts_at_zero,
        ),
        Misconception(
            "c-left-out",
            "c is not carried into the backward: every step gets dc = 0. It starts with dc_last; then hand "
            "on what step t + 1 gave.",
            SEEN,
            partial(_sequence_backward, into=lambda runs, pair: (pair[0] * runs, 0 * pair[1])),
        ),
        Misconception(
            "dc-not-carried",
            "c is not carried into the backward: only the last step gets a dc, dc_last. Hand on what step t "
            "+ 1 gave.",
            SEEN,
            partial(
                _sequence_backward,
                back=lambda runs, new, old: (
                    np.where(runs, new[0], old[0]),
                    np.where(runs, np.zeros_like(new[1]), old[1]),
                ),
            ),
        ),
        Misconception(
            "dh-not-carried",
            "h is not carried back: each step hears its own output only. Step t + 1 has read h(t), too.",
            TIME,
            partial(
                _sequence_backward,
                back=lambda runs, new, old: (
                    np.where(runs, np.zeros_like(new[0]), old[0]),
                    np.where(runs, new[1], old[1]),
                ),
            ),
        ),
        Misconception(
            "nothing-carried",
            "Nothing is carried back: the steps do not know of each other. dh and dc of step t come from t "
            "+ 1.",
            WAYS,
            partial(
                _sequence_backward,
                back=lambda runs, new, old: tuple(
                    np.where(runs, np.zeros_like(b), a) for b, a in zip(new, old, strict=True)
                ),
            ),
        ),
        Misconception(
            "same-dc-at-every-step",
            "Every step gets dc_last. It belongs to the last state; each step before hears what the next "
            "one gave.",
            PLACES,
            partial(
                _sequence_backward,
                back=lambda runs, new, old: (np.where(runs, new[0], old[0]), old[1]),
            ),
        ),
        Misconception(
            "own-output-dropped",
            "A step hears from step t + 1 only. Its own output has a gradient, too: add dh[:, t].",
            TIME,
            partial(_sequence_backward, gather=lambda own, carried, t: carried),
        ),
        Misconception(
            "own-output-twice",
            "dh[:, t] is added twice: once before the loop, or in the step, and once more.",
            TIME,
            partial(_sequence_backward, gather=lambda own, carried, t: own + own + carried),
        ),
        Misconception(
            "last-output-only",
            "Only the output at the last step goes back. Every step adds its own dh.",
            TIME,
            _arguments_changed(dh=_only_last),
        ),
        Misconception(
            "dh_last-ignored",
            "dh_last goes nowhere. The carried gradient of h starts with it.",
            BACK,
            _arguments_changed(dh_last=np.zeros_like),
        ),
        Misconception(
            "dc_last-ignored",
            "dc_last goes nowhere. The carried gradient of c starts with it.",
            BACK,
            _arguments_changed(dc_last=np.zeros_like),
        ),
        Misconception(
            "last-states-ignored",
            "dh_last and dc_last go nowhere. The carried gradients start with them, not with 0.",
            BACK,
            _arguments_changed(dh_last=np.zeros_like, dc_last=np.zeros_like),
        ),
        Misconception(
            "last-states-swapped",
            "dh_last and dc_last have changed places.",
            BACK,
            lambda dh, dh_last, dc_last, *rest: _sequence_backward(dh, dc_last, dh_last, *rest),
        ),
        Misconception(
            "last-at-the-end",
            "dh_last is added to the output at step T - 1. A shorter sequence has padding there, and it is "
            "lost.",
            LENGTHS,
            _last_at_the_end,
        ),
        Misconception(
            "lengths-ignored",
            "lengths does nothing: gradients come in from steps that do not exist.",
            LENGTHS,
            partial(_sequence_backward, runs=lambda t, T, lengths: np.full((len(lengths), 1), True)),
        ),
        Misconception(
            "lost-in-the-padding",
            "The carried gradients become 0 in the padding. The state was kept there, so its gradient is "
            "kept.",
            LENGTHS,
            partial(_sequence_backward, back=lambda runs, new, old: tuple(b * runs for b in new)),
        ),
        Misconception(
            "padding-goes-through",
            "In the padding the gradient goes through the step, too. It is handed on as it is: the state "
            "was kept.",
            LENGTHS,
            partial(_sequence_backward, into=lambda runs, pair: pair),
        ),
        Misconception(
            "padding-heard",
            "dh of the padding is added to what is handed on. Those outputs are 0 whatever the state is.",
            LENGTHS,
            _padding_heard,
        ),
        Misconception(
            "dc-lost-in-the-padding",
            "The carried gradient of c becomes 0 in the padding, that of h does not. Both are handed on.",
            LENGTHS,
            partial(
                _sequence_backward,
                back=lambda runs, new, old: (np.where(runs, new[0], old[0]), new[1] * runs),
            ),
        ),
        Misconception(
            "one-step-too-many",
            "Every sequence has one step more than its length: steps are counted from 0, so t < length.",
            LENGTHS,
            partial(_sequence_backward, runs=lambda t, T, lengths: _goes_on(t, T, lengths + 1)),
        ),
        Misconception(
            "one-step-too-few",
            "Every sequence has one step less than its length: t < length, which includes length - 1.",
            LENGTHS,
            partial(_sequence_backward, runs=lambda t, T, lengths: _goes_on(t, T, lengths - 1)),
        ),
        Misconception(
            "padding-in-front",
            "The padding is taken to stand in front. A sequence starts at step 0, and its padding follows.",
            LENGTHS,
            partial(_sequence_backward, runs=lambda t, T, lengths: (t >= T - lengths)[:, None]),
        ),
        Misconception(
            "weights-of-step-0",
            "dp is that of step 0, the last that the loop came to: overwritten. Accumulate over all steps.",
            MISTAKES,
            partial(_sequence_backward, collect=lambda dp, one: one),
        ),
        Misconception(
            "weights-of-the-last-step",
            "dp is that of the last step. All steps use the same weights: accumulate.",
            MISTAKES,
            partial(_sequence_backward, collect=lambda dp, one: one if dp is None else dp),
        ),
        Misconception(
            "averaged-over-time",
            "dp is divided by T. A weight acts at every step at once: its gradient is the plain sum.",
            WEIGHTS,
            _at_result(3, lambda dp, args: _scaled(dp, 1 / args[0].shape[1])),
        ),
        Misconception(
            "averaged-over-the-batch",
            "dp is divided by N. The mean is in what came in already: its gradient is the plain sum.",
            WEIGHTS,
            _at_result(3, lambda dp, args: _scaled(dp, 1 / args[0].shape[0])),
        ),
        Misconception(
            "forward-in-time",
            "The loop runs forward in time. What comes from step t + 1 must be there first: start at the "
            "end.",
            TIME,
            _forward_in_time,
        ),
        Misconception(
            "not-turned-back",
            "dx is in the order in which it was computed, last step first. dx[:, t] belongs to step t.",
            TIME,
            _not_turned,
        ),
        Misconception(
            "time-first",
            "dx has time first, (T, N, D). Here the batch comes first: np.stack(..., axis=1).",
            TIME,
            _at_result(0, lambda dx, args: np.swapaxes(dx, 0, 1)),
        ),
        Misconception(
            "starts-swapped",
            "dh0 and dc0 have changed places.",
            BACK,
            _picked(_sequence_backward, [0, 2, 1, 3]),
        ),
        Misconception(
            "overwrites-dh",
            "dh was overwritten: dh[:, -1] += ... changes the caller's array. Write dh[:, t] + ... instead.",
            TIME,
            _dh_in_place,
        ),
        _double_precision(_sequence_backward, BACK),
    ),
)


# --- 10: reading a carousel --------------------------------------------------------------------------------

# What the gates i, f, o must be for each wish.
SETTINGS = {
    "overwrite": (1.0, 0.0, 0.0),
    "hold": (0.0, 1.0, 0.0),
    "show": (0.0, 1.0, 1.0),
    "add": (1.0, 1.0, 1.0),
}


def _gate_settings(wish: str, *, of: Callable = lambda i, f, o: (i, f, o)) -> tuple[float, float, float]:
    return of(*SETTINGS[wish])


def _read_settings(function: Callable, wish: str) -> Any:
    """The gates as floats: 1, 1.0 and True are all open."""
    gates = function(wish)
    if not isinstance(gates, (tuple, list)):
        return gates
    return tuple(float(gate) if isinstance(gate, (bool, int, np.generic)) else gate for gate in gates)


gate_settings = Check(
    name="lstm.gate_settings",
    title="which gates are open, which are closed",
    reference=_gate_settings,
    observe=_read_settings,
    terms=("i", "f", "o"),
    cases=tuple(
        Case(wish, 0.25, lambda draw, wish=wish: call(wish)) for wish in ("overwrite", "hold", "show", "add")
    ),
    misconceptions=(
        Misconception(
            "kept-while-overwritten",
            "The old content stays, and g is added to it. To overwrite, empty the cell in the same step: f "
            "= 0.",
            FORGET_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, 1.0, o)),
        ),
        Misconception(
            "nothing-written",
            "Nothing is written where the old content goes. What takes its place must be let in: i = 1.",
            INPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i * f, f, o)),
        ),
        Misconception(
            "nothing-added",
            "Nothing is added where the old content stays. To add, let g in as well: i = 1.",
            INPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i * (1 - f), f, o)),
        ),
        Misconception(
            "shown-while-held",
            "The cell is shown where it is to be held unseen. What is kept need not be shown: o = 0.",
            OUTPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f, f)),
        ),
        Misconception(
            "hidden-while-kept",
            "h shows nothing where the content stays and is to be seen: o = 1, whether or not something is "
            "written.",
            OUTPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f, o * i)),
        ),
        Misconception(
            "hidden-while-written",
            "h shows nothing where the sum is to be seen. Writing and showing do not exclude each other: o "
            "= 1.",
            OUTPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f, o * (1 - i))),
        ),
        Misconception(
            "forget-gate-turned",
            "The name misleads: a forget gate of 1 forgets nothing. f is the share that is kept.",
            FORGET_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, 1 - f, o)),
        ),
        Misconception(
            "closed-to-hold",
            "A forget gate of 0 shuts nothing in: it empties the cell. To hold c, f is 1 and i is 0.",
            FORGET_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f * i, o)),
        ),
        Misconception(
            "written-while-held",
            "The input gate is open while c is to stay: whatever comes is written. Close it.",
            INPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (1.0, f, o)),
        ),
        Misconception(
            "input-gate-turned",
            "The input gate is turned around: 1 lets g in, 0 keeps it out.",
            INPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (1 - i, f, o)),
        ),
        Misconception(
            "output-gate-turned",
            "The output gate is turned around: 1 shows the cell, 0 hides it.",
            OUTPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f, 1 - o)),
        ),
        Misconception(
            "always-shown",
            "The output gate is always open, and h tells all. What is to be hidden has o = 0.",
            OUTPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f, 1.0)),
        ),
        Misconception(
            "output-gate-writes",
            "o is opened where something is written. i writes; o decides what h shows.",
            OUTPUT_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f, i)),
        ),
        Misconception(
            "all-closed-to-hold",
            "With all gates closed the cell is emptied: f = 0 keeps nothing. To hold c unseen, f is 1.",
            FORGET_GATE,
            partial(_gate_settings, of=lambda i, f, o: (i, f * o, o)),
        ),
        Misconception(
            "output-gate-for-forget-gate",
            "f and o have changed places. The order is i, f, o.",
            PIECES,
            partial(_gate_settings, of=lambda i, f, o: (i, o, f)),
        ),
        Misconception(
            "forget-gate-for-input-gate",
            "i and f have changed places. The order is i, f, o.",
            PIECES,
            partial(_gate_settings, of=lambda i, f, o: (f, i, o)),
        ),
        Misconception(
            "coupled",
            "f is 1 - i here. An LSTM may write and keep at the same time: to add, both are open.",
            COUPLED,
            partial(_gate_settings, of=lambda i, f, o: (i, 1 - i, o)),
        ),
    ),
)


def _remaining(
    f: Float[Array, "N T U"],
    first: int,
    last: int,
    *,
    steps: Callable[[int, int], slice] = lambda first, last: slice(first + 1, last + 1),
    factor: Callable[[Array], Array] = lambda passed: np.prod(passed, axis=1),
) -> Float[Array, "N U"]:
    return factor(f[:, steps(first, last)])


def _remaining_case(N: int, T: int, U: int, first: int, last: int) -> Callable[[Draw], Arguments]:
    return lambda draw: call(_sigmoid(draw(N, T, U) + 1), first, last)


remaining = Check(
    name="lstm.remaining",
    title="what is left of a gradient on the carousel",
    reference=_remaining,
    terms=("factor",),
    cases=(
        Case("one step", 0.5, _remaining_case(2, 6, 3, 2, 3)),
        Case("several steps", 1, _remaining_case(3, 8, 4, 1, 5)),
        Case("from the first to the last, float32", 0.5, _remaining_case(4, 7, 2, 0, 6), "float32"),
    ),
    misconceptions=(
        Misconception(
            "first-step-included",
            "The gate of step first is in the product. It stands between c(first - 1) and c(first), outside.",
            CAROUSEL,
            partial(_remaining, steps=lambda first, last: slice(first, last + 1)),
        ),
        Misconception(
            "last-step-left-out",
            "The gate of step last is missing. It stands between c(last - 1) and c(last): the slice ends at "
            "last + 1.",
            CAROUSEL,
            partial(_remaining, steps=lambda first, last: slice(first + 1, last)),
        ),
        Misconception(
            "one-step-early",
            "The gates are those of steps first to last - 1. They are those of first + 1 to last.",
            CAROUSEL,
            partial(_remaining, steps=lambda first, last: slice(first, last)),
        ),
        Misconception(
            "all-steps",
            "The product runs over all steps. It runs from first + 1 to last.",
            CAROUSEL,
            partial(_remaining, steps=lambda first, last: slice(None)),
        ),
        Misconception(
            "added",
            "The gates are added up. Each takes its share of what the one before has left: multiply.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: passed.sum(axis=1)),
        ),
        Misconception(
            "averaged",
            "This is the mean of the gates. Each takes its share of what the one before has left: multiply.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: passed.mean(axis=1)),
        ),
        Misconception(
            "mean-to-the-power",
            "This is the mean gate to the power of the number of steps. One closed gate stops all: multiply "
            "them.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: passed.mean(axis=1) ** passed.shape[1]),
        ),
        Misconception(
            "per-step",
            "This is the factor per step, a root. The question is what is left after all of them.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: np.prod(passed, axis=1) ** (1 / passed.shape[1])),
        ),
        Misconception(
            "smallest-gate",
            "This is the smallest gate alone. The others take their share, too: multiply.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: passed.min(axis=1, initial=1)),
        ),
        Misconception(
            "forgotten-for-kept",
            "This is what is lost at every step, 1 - f, multiplied. f is the share that is kept.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: np.prod(1 - passed, axis=1)),
        ),
        Misconception(
            "lost-share",
            "This is the share that is lost. Asked is what is left.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: 1 - np.prod(passed, axis=1)),
        ),
        Misconception(
            "slopes-for-gates",
            "These are slopes of the sigmoid, f (1 - f). Along c a gradient is multiplied by f itself.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: np.prod(passed * (1 - passed), axis=1)),
        ),
        Misconception(
            "sigmoid-again",
            "f went through the sigmoid once more. These are the gates already.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: np.prod(_sigmoid(passed), axis=1)),
        ),
        Misconception(
            "logarithm-left",
            "This is the logarithm of the factor: take exp of the sum.",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: np.log(passed).sum(axis=1)),
        ),
        Misconception(
            "over-the-units",
            "The product runs over the units. It runs over the steps, and every unit has its own: shape (N, "
            "U).",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: np.prod(passed, axis=2)),
        ),
        Misconception(
            "one-number",
            "The units are multiplied with each other. Each has its own carousel: shape (N, U).",
            CAROUSEL,
            partial(_remaining, factor=lambda passed: np.prod(passed, axis=(1, 2))),
        ),
        _double_precision(_remaining, CAROUSEL),
    ),
)


def _logit(gate: float) -> float:
    return math.log(gate / (1 - gate))


def _bias_for(
    steps: int, share: float, *, gate: Callable = lambda steps, share: share ** (1 / steps)
) -> float:
    return _logit(gate(steps, share))


def _bias_case(low: int, high: int, least: float, most: float) -> Callable[[Draw], Arguments]:
    return lambda draw: call(draw.integer(low, high), round(float(draw.rng.uniform(least, most)), 2))


bias_for = Check(
    name="lstm.bias_for",
    title="the offset that a memory needs",
    reference=_bias_for,
    terms=("bias",),
    cases=(
        Case("a few steps", 0.5, _bias_case(3, 8, 0.4, 0.7)),
        Case("some ten steps", 0.5, _bias_case(11, 60, 0.2, 0.45)),
        Case("hundreds of steps", 1, _bias_case(150, 900, 0.55, 0.9)),
    ),
    misconceptions=(
        Misconception(
            "gate-for-offset",
            "This is the forget gate's value. Asked is what must go into the sigmoid: log(f / (1 - f)).",
            FORGET,
            lambda steps, share: share ** (1 / steps),
        ),
        Misconception(
            "logarithm-alone",
            "This is log f. The sigmoid's inverse is log(f / (1 - f)).",
            FORGET,
            lambda steps, share: math.log(share) / steps,
        ),
        Misconception(
            "sign-turned",
            "The sign is turned: this offset closes the gate. log(f / (1 - f)), with f close to 1, is "
            "positive.",
            FORGET,
            lambda steps, share: -_bias_for(steps, share),
        ),
        Misconception(
            "inverse-of-tanh",
            "This is the inverse of tanh, half of log((1 + f) / (1 - f)). The gate is a sigmoid.",
            FORGET,
            lambda steps, share: math.atanh(share ** (1 / steps)),
        ),
        Misconception(
            "one-step",
            "This is the offset for one step: steps does nothing. f to the power of steps is to be share.",
            CAROUSEL,
            partial(_bias_for, gate=lambda steps, share: share),
        ),
        Misconception(
            "power-for-root",
            "share is taken to the power of steps. It is f to the power of steps that is share: take the "
            "root.",
            CAROUSEL,
            lambda steps, share: steps * math.log(share) - math.log1p(-(share**steps)),
        ),
        Misconception(
            "loss-spread-evenly",
            "The loss is spread evenly, f = 1 - (1 - share) / steps. It is a share of what is left each "
            "time: a root.",
            CAROUSEL,
            partial(_bias_for, gate=lambda steps, share: 1 - (1 - share) / steps),
        ),
        Misconception(
            "share-divided",
            "share is divided by steps. Gates are multiplied: f is the root of share.",
            CAROUSEL,
            partial(_bias_for, gate=lambda steps, share: share / steps),
        ),
        Misconception(
            "share-ignored",
            "This is log(steps - 1), a rule of thumb that leaves about 1 / e. Here share is asked for.",
            CAROUSEL,
            partial(_bias_for, gate=lambda steps, share: 1 - 1 / steps),
        ),
        Misconception(
            "lost-for-left",
            "After so many steps share is lost here. It is to be left.",
            CAROUSEL,
            lambda steps, share: _bias_for(steps, 1 - share),
        ),
        Misconception(
            "one-step-too-many",
            "The root is that of steps + 1. The gradient passes steps gates.",
            CAROUSEL,
            lambda steps, share: _bias_for(steps + 1, share),
        ),
        Misconception(
            "one-step-too-few",
            "The root is that of steps - 1. The gradient passes steps gates.",
            CAROUSEL,
            lambda steps, share: _bias_for(steps - 1, share),
        ),
        Misconception(
            "logarithm-to-base-ten",
            "The logarithm is that to base 10. exp is undone by the natural one.",
            FORGET,
            lambda steps, share: _bias_for(steps, share) / math.log(10),
        ),
    ),
)


# --- 11: the experiment ------------------------------------------------------------------------------------


def _norm_of(a: Array) -> float:
    return float(np.linalg.norm(a))


def _gradients_left(
    x: Float[Array, "N T D"],
    p: Parameters,
    dc: Float[Array, "N U"],
    biases: Sequence[float],
    rungs: Mapping[str, Callable],
    *,
    prepared: Callable = lambda rungs, p, bias: rungs["set_forget_bias"](p, bias),
    into: Callable[[Array, Array, Array], Pair] = lambda dh, dc, dc_last: (dh, dc),
    start: Callable[[Array], Pair] = lambda dc: (np.zeros_like(dc), dc),
    seen: Callable[[Array, Array], Array] = lambda dh, dc: dc,
    size: Callable[[Array], float] = _norm_of,
    compared: Callable[[Array, float], Array] = lambda sizes, whole: sizes / whole,
) -> Float[Array, "B T"]:
    """seen, size: what is measured, and how.   compared: sizes before each step, size at the end -> row."""
    rows = []
    for bias in biases:
        q = prepared(rungs, p, bias)
        h = c = np.zeros_like(dc)
        records, sizes = [], []
        for t in range(x.shape[1]):
            h, c, record = rungs["step"](x[:, t], h, c, q)
            records.append(record)
        dh, carried = start(dc)
        for record in reversed(records):
            _, dh, carried, _ = rungs["step_backward"](*into(dh, carried, dc), record, q)
            sizes.insert(0, size(seen(dh, carried)))
        rows.append(compared(np.array(sizes), size(dc)))
    return np.array(rows)


def _one_late(sizes: Array, whole: float) -> Array:
    """The size after each step."""
    return np.append(sizes[1:], whole) / whole


def _left_case(N: int, T: int, D: int, U: int, biases: Sequence[float]) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        return call(draw(N, T, D), _parameters(draw, D, U), draw(N, U), list(biases), RUNGS)

    return arguments


gradients_left = Check(
    name="lstm.gradients_left",
    title="how much of a gradient the forget bias leaves",
    reference=_gradients_left,
    terms=("left",),
    allowed=ALLOWED,
    cases=(
        Case("one bias", 0.5, _left_case(2, 4, 3, 5, [1.0])),
        Case("three biases", 1.5, _left_case(3, 6, 2, 4, [0.0, 1.0, 4.0])),
        Case("from large to small", 1, _left_case(2, 5, 4, 3, [3.0, -1.0])),
    ),
    misconceptions=(
        Misconception(
            "bias-not-set",
            "All rows are one: the biases are not set. Each row has a cell of its own, set_forget_bias(p, "
            "bias).",
            FORGET,
            partial(_gradients_left, prepared=lambda rungs, p, bias: p),
        ),
        Misconception(
            "bias-in-both",
            "The offset is twice the bias: it stands in both vectors. Take set_forget_bias from rungs.",
            FORGET,
            partial(_gradients_left, prepared=lambda rungs, p, bias: _with_offsets(p, bias, second=bias)),
        ),
        Misconception(
            "bias-in-all-blocks",
            "All blocks have the bias. Only the forget gate's has: take set_forget_bias from rungs.",
            FORGET,
            partial(
                _gradients_left,
                prepared=lambda rungs, p, bias: _with_offsets(p, bias, where=lambda b: slice(None)),
            ),
        ),
        Misconception(
            "carousel-alone",
            "The gradient by h is dropped at every step. It goes back too: through all four gates.",
            WAYS,
            partial(_gradients_left, into=lambda dh, dc, dc_last: (np.zeros_like(dh), dc)),
        ),
        Misconception(
            "h-alone",
            "The gradient by c is dropped at every step: c is not carried into the backward.",
            WAYS,
            partial(_gradients_left, into=lambda dh, dc, dc_last: (dh, np.zeros_like(dc))),
        ),
        Misconception(
            "loss-at-every-step",
            "dc is added again at every step. The loss looks at the last cell state only.",
            BACK,
            partial(_gradients_left, into=lambda dh, dc, dc_last: (dh, dc + dc_last)),
        ),
        Misconception(
            "started-at-h",
            "dc is handed to h. It is the gradient of the last cell state; that of h starts at 0.",
            BACK,
            partial(_gradients_left, start=lambda dc: (dc, np.zeros_like(dc))),
        ),
        Misconception(
            "started-at-both",
            "dc is handed to h, too. It is the gradient of the last cell state; that of h starts at 0.",
            BACK,
            partial(_gradients_left, start=lambda dc: (dc, dc)),
        ),
        Misconception(
            "h-measured",
            "The gradient by h is measured. Measure that by c.",
            CAROUSEL,
            partial(_gradients_left, seen=lambda dh, dc: dh),
        ),
        Misconception(
            "not-divided",
            "The norms are not divided by that of dc. Asked is the share that is left.",
            CAROUSEL,
            partial(_gradients_left, compared=lambda sizes, whole: sizes),
        ),
        Misconception(
            "per-step",
            "Each norm is divided by that one step later. Divide all of them by the norm of dc.",
            CAROUSEL,
            partial(_gradients_left, compared=lambda sizes, whole: sizes / np.append(sizes[1:], whole)),
        ),
        Misconception(
            "one-step-late",
            "left[b, t] is the gradient after step t. It is the one before it: what step t hands back.",
            CAROUSEL,
            partial(_gradients_left, compared=_one_late),
        ),
        Misconception(
            "last-step-first",
            "The rows are in the order of the way back, last step first. left[b, t] belongs to step t.",
            CAROUSEL,
            partial(_gradients_left, compared=lambda sizes, whole: sizes[::-1] / whole),
        ),
        Misconception(
            "squares",
            "These are ratios of squares: the root is missing in the norm.",
            CAROUSEL,
            partial(_gradients_left, size=lambda a: _norm_of(a) ** 2),
        ),
        Misconception(
            "largest-entry",
            "The largest entry is measured. The norm is the root of the sum of all squares.",
            CAROUSEL,
            partial(_gradients_left, size=lambda a: float(np.abs(a).max())),
        ),
        Misconception(
            "absolute-values",
            "Absolute values are summed or averaged. The norm is the root of the sum of all squares.",
            CAROUSEL,
            partial(_gradients_left, size=lambda a: float(np.abs(a).sum())),
        ),
        Misconception(
            "spectral-norm",
            "np.linalg.norm(a, 2) of a matrix is its largest singular value. Leave the 2 out.",
            CAROUSEL,
            partial(_gradients_left, size=lambda a: float(np.linalg.norm(a, 2))),
        ),
        Misconception(
            "steps-for-biases",
            "The result is transposed. It has a row for each bias: (B, T).",
            CAROUSEL,
            lambda *args: _gradients_left(*args).T,
        ),
    ),
)
