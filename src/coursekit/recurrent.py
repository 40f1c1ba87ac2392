"""Recurrent layers: a cell run along sequences, forward and backward through time.

`unroll` runs any cell of `coursekit.cells`; `unroll_backward` is backpropagation through time.  Sequences may
have different lengths: a sequence that has ended keeps its state, and its outputs are zero.  In reverse, a
sequence is read from its own last step on, not from the padding's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj

from coursekit.arrays import (
    Array,
    ShapeError,
    expect_axes,
    expect_shape,
    is_torch,
    multiply,
    namespace,
    per_axis,
    rows_of,
    stack,
    transposed,
    unstack,
)
from coursekit.cells import Activation, RNNCell, RNNState, initial_weights
from coursekit.layers import Layer, Parameters
from coursekit.losses import cross_entropy_backward, cross_entropy_forward

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Bool, Float, Int
    from numpy.typing import DTypeLike

__all__ = [
    "LastStep",
    "RNN",
    "RNNGradients",
    "SequenceCache",
    "SequenceGradients",
    "Trace",
    "go_back",
    "reverse_sequences",
    "rnn_backward",
    "rnn_forward",
    "sequence_loss_backward",
    "sequence_loss_forward",
    "stack_backward",
    "stack_forward",
    "unroll",
    "unroll_backward",
]

Lengths = Any  # N integers, as an array or a sequence; None where all sequences have T steps
State = Any  # a NamedTuple of arrays with the batch as first axis; the first one is the cell's output


class Trace(NamedTuple):
    """What unroll_backward needs: the cell, its input, all states, what each step kept, and the mask.

    x: in the order of processing.   states: one state whose arrays have T + 1 entries, the initial one first.
    Its first array shares memory with the outputs.   inside: whether step t of sequence n exists, or None.
    lengths: steps of each sequence, or None.
    """

    cell: Any
    x: Float[Array, "T N D"]
    states: State
    saved: list[tuple]
    inside: Bool[Array, "T N 1"] | None
    reverse: bool
    lengths: Lengths


# ---------------------------------------------------------------------------------------------------
# Any cell, one direction


def unroll(
    cell: Any,
    x: Float[Array, "T N D"],
    state: State | None = None,
    *,
    lengths: Lengths = None,
    reverse: bool = False,
    function: str = "unroll",
) -> tuple[Float[Array, "T N U"], State, Trace]:
    """Run a cell along a batch of sequences: its output after every step, its last state, and the cache.

    Implements eq-rnn-unroll.

    x: one input per step.   state: before the first step; zero by default.
    lengths: steps of each sequence, 0 to T; afterwards its state stays and its output is zero.
    reverse: read each sequence from its last step to its first; output t still belongs to input t.
    Raises ShapeError or TypeError if x or state do not fit the cell, ValueError for lengths outside 0 ... T.
    """
    state = expect_sequence(function, cell, x, state)
    lengths = _expect_lengths(function, lengths, x)
    inside = None if lengths is None else _inside(lengths, x)
    if reverse:
        x = reverse_sequences(x, lengths)
    states, saved = [state], []
    for z, counts in zip(unstack(cell.project(x)), _steps(inside, len(x)), strict=True):
        after, kept = cell.step(z, state)
        state = after if counts is None else _choose(cell.xp, counts, after, state)
        states.append(state)
        saved.append(kept)
    trace = Trace(cell, x, stack_states(states), saved, inside, reverse, lengths)
    h = trace.states[0][1:]
    h = h if inside is None else cell.xp.where(inside, h, cell.xp.zeros_like(h))
    return (reverse_sequences(h, lengths) if reverse else h), state, trace


def unroll_backward(
    dh: Float[Array, "T N U"],
    trace: Trace,
    dlast: State | None = None,
    *,
    inputs: bool = True,
    function: str = "unroll_backward",
) -> tuple[Any, State]:
    """Backpropagation through time: the cell's gradients over the sequence, and those of the initial state.

    Implements eq-bptt-state and eq-bptt-weights.

    dh: gradient of the loss by every output.   dlast: gradient by the last state, where the loss uses it.
    inputs: whether to give the gradient of x, which the first layer of a net has no use for.
    Raises ShapeError unless dh and dlast have the shapes of what unroll returned.
    """
    xp, inside, h = trace.cell.xp, trace.inside, trace.states[0][1:]
    namespace(dh, h, function=function, names=("dh", "h"))
    expect_shape(function, "dh", dh, h.shape, "the shape of the outputs")
    if trace.reverse:
        dh = reverse_sequences(dh, trace.lengths)
    if inside is not None:
        dh = xp.where(inside, dh, xp.zeros_like(dh))
    first = type(trace.states)(*(a[0] for a in trace.states))
    dlast = zeros_like(xp, first) if dlast is None else _expect_dlast(function, dlast, first)
    mask = _steps(inside, len(dh))
    gradients, dstate = go_back(
        trace.cell, trace.x, trace.states, trace.saved, unstack(dh), dlast, mask, inputs=inputs
    )
    if trace.reverse and inputs:
        gradients = gradients._replace(dx=reverse_sequences(gradients.dx, trace.lengths))
    return gradients, dstate


def go_back(
    cell: Any,
    x: Float[Array, "T N D"],
    states: State,
    saved: list[tuple],
    upstream: Sequence[Float[Array, "N U"] | None],
    dstate: State,
    mask: Sequence[Bool[Array, "N 1"] | None],
    *,
    inputs: bool = True,
) -> tuple[Any, State]:
    """Back through steps in a row: the cell's gradients over them, and those of the state before them.

    Implements eq-bptt-state and eq-bptt-weights.

    x: in the order of processing.   states, saved: as in Trace.   upstream: gradient by every output, None
    where the loss does not use it.   dstate: gradient by the state after them.   mask: which sequences have
    a step, None where all have it.   inputs: as in unroll_backward.
    """
    xp, each, slopes = cell.xp, _states(states), cell.local_slopes(states, saved)
    dz: list[Array] = [None] * len(saved)
    for t in reversed(range(len(saved))):
        dafter = dstate if upstream[t] is None else type(dstate)(dstate[0] + upstream[t], *dstate[1:])
        inner = dafter if mask[t] is None else _choose(xp, mask[t], dafter, zeros_like(xp, dafter))
        dz[t], dstate = cell.step_backward(inner, each[t], each[t + 1], slopes[t])
        if mask[t] is not None:  # a sequence that has ended hands the gradient of its state on as it is
            dstate = _choose(xp, mask[t], dstate, dafter)
    before = type(states)(*(a[:-1] for a in states))
    return cell.gradients(x, before, stack(dz) if dz else cell.project(x), inputs=inputs), dstate


def reverse_sequences(x: Float[Array, "T N C"], lengths: Lengths = None) -> Float[Array, "T N C"]:
    """Every sequence from its last step to its first; the padding after it stays where it is.

    >>> reverse_sequences(np.arange(4.0)[:, None, None], [3])[:, 0, 0]
    array([2., 1., 0., 3.])
    """
    xp = array_namespace(x)
    if lengths is None:
        return xp.flip(x, axis=0)
    t = xp.arange(x.shape[0], device=device(x))[:, None]
    n = xp.asarray(lengths, device=device(x))[None, :]
    source = xp.where(t < n, n - 1 - t, t)
    return xp.take_along_axis(x, xp.broadcast_to(source[:, :, None], x.shape), axis=0)


def stack_states(states: Sequence[State]) -> State:
    """One state whose arrays have an entry for each of these."""
    return type(states[0])(*(stack(arrays) for arrays in zip(*states, strict=True)))


def _states(stacked: State) -> list[State]:
    """One state per step."""
    return list(map(type(stacked), *map(unstack, stacked)))


def zeros_like(xp: ModuleType, state: State) -> State:
    """A state of zeros."""
    return type(state)(*map(xp.zeros_like, state))


def _choose(xp: ModuleType, condition: Array, new: State, old: State) -> State:
    return type(new)(*(xp.where(condition, a, b) for a, b in zip(new, old, strict=True)))


def _steps(inside: Bool[Array, "T N 1"] | None, steps: int) -> list[Array | None]:
    """Which sequences have step t; None where all have it."""
    return [None] * steps if inside is None else unstack(inside)


def _inside(lengths: Int[np.ndarray, " N"], x: Array) -> Bool[Array, "T N 1"]:
    xp = array_namespace(x)
    t = np.arange(x.shape[0])[:, None, None]
    return xp.asarray(t < lengths[None, :, None], device=device(x))


def expect_sequence(function: str, cell: Any, x: Array, state: Any) -> State:
    """The state before the first step, zero if state is None, once x and it are known to fit the cell."""
    namespace(x, cell.w, function=function, names=("x", "w"))
    expect_axes(function, "x", x, "T N D")
    if x.shape[-1] != cell.features:
        raise ShapeError(
            f"{function}: x has {x.shape[-1]} features, the cell takes {cell.features} (x {tuple(x.shape)}, "
            f"u {tuple(cell.u.shape)}); is x batch-first? Its layout is T N D"
        )
    return cell.initial(x) if state is None else _expect_state(function, cell, x, state)


def _expect_lengths(function: str, lengths: Lengths, x: Array) -> Int[np.ndarray, " N"] | None:
    """Lengths as NumPy integers: the loop's shape depends on them, whatever the device."""
    if lengths is None:
        return None
    if is_array_api_obj(lengths) and is_torch(lengths):
        lengths = lengths.cpu().numpy()
    values = np.asarray(lengths)
    values = values if values.size else values.astype(int)  # an empty list has no kind of its own
    if values.dtype.kind not in "iu":
        raise TypeError(f"{function}: lengths must be integers, got dtype {values.dtype}")
    T, N = x.shape[:2]
    if values.shape != (N,):
        raise ShapeError(
            f"{function}: lengths has shape {values.shape}, expected ({N},): one for each sequence of x "
            f"{tuple(x.shape)}"
        )
    if N and not (0 <= values.min() and values.max() <= T):
        raise ValueError(
            f"{function}: lengths run from {values.min()} to {values.max()}, but x has {T} steps (0 to {T})"
        )
    return values


def _expect_state(function: str, cell: Any, x: Array, state: Any) -> State:
    """The state as the cell's own named tuple; a bare array is its first field if it has no other."""
    kind = type(zero := cell.initial(x))
    if is_array_api_obj(state):
        state = (state,)
    if len(state) != len(zero):
        raise TypeError(f"{function}: the state has {len(state)} arrays, expected {zero._fields}")
    because = "one row per sequence, one column per unit"
    for name, given, expected in zip(zero._fields, state, zero, strict=True):
        namespace(given, x, function=function, names=(f"state.{name}", "x"))
        expect_shape(function, f"state.{name}", given, expected.shape, because)
    return kind(*state)


def _expect_dlast(function: str, dlast: Any, state: State) -> State:
    dlast = (dlast,) if is_array_api_obj(dlast) else dlast
    if len(dlast) != len(state):
        raise TypeError(f"{function}: dlast has {len(dlast)} arrays, expected {state._fields}")
    for name, given, expected in zip(state._fields, dlast, state, strict=True):
        expect_shape(function, f"dlast.{name}", given, expected.shape, "the shape of the last state")
    return type(state)(*dlast)


# ---------------------------------------------------------------------------------------------------
# The plain cell along a sequence


class RNNGradients(NamedTuple):
    """Gradients of rnn_forward; those of what was not given, or not asked for, are None."""

    dx: Float[Array, "T N D"] | None
    du: Float[Array, "D U"]
    dw: Float[Array, "U U"]
    db: Float[Array, " U"] | None
    dbw: Float[Array, " U"] | None
    dh0: Float[Array, "N U"]


def rnn_forward(
    x: Float[Array, "T N D"],
    u: Float[Array, "D U"],
    w: Float[Array, "U U"],
    b: Float[Array, " U"] | None = None,
    bw: Float[Array, " U"] | None = None,
    *,
    h0: Float[Array, "N U"] | None = None,
    lengths: Lengths = None,
    reverse: bool = False,
    activation: str | Activation = "tanh",
    clip: float | None = None,
) -> tuple[Float[Array, "T N U"], Trace]:
    """The plain cell along a batch of sequences: the hidden state after every step, and the cache.

    Implements eq-rnn-forward and eq-rnn-unroll.

    x, h0, lengths, reverse: as in unroll.   u, w, b, bw, activation, clip: as in RNNCell.
    Raises ShapeError, TypeError or ValueError if they do not fit.
    Source: goodfellow2016deep, section 10.2.

    >>> h, _ = rnn_forward(np.ones((7, 4, 2)), np.ones((2, 3)), np.eye(3))
    >>> h.shape
    (7, 4, 3)
    """
    cell = RNNCell(u, w, b, bw, activation=activation, clip=clip, function="rnn_forward")
    state = None if h0 is None else RNNState(h0)
    h, _, trace = unroll(cell, x, state, lengths=lengths, reverse=reverse, function="rnn_forward")
    return h, trace


def rnn_backward(
    dh: Float[Array, "T N U"],
    cache: Trace,
    dlast: Float[Array, "N U"] | None = None,
    *,
    inputs: bool = True,
) -> RNNGradients:
    """Backpropagation through time for the plain cell.

    Implements eq-bptt-state and eq-bptt-weights.

    dh: gradient by the hidden state of every step, as far as the loss uses it directly.
    dlast: gradient by the last state, where something is computed from it too.
    inputs: whether to give the gradient of x.
    Raises ShapeError unless they have the shapes of what they belong to.
    """
    gradients, dstate = unroll_backward(dh, cache, dlast, inputs=inputs, function="rnn_backward")
    return RNNGradients(*gradients, dstate.h)


# ---------------------------------------------------------------------------------------------------
# Layers on layers, both directions


def stack_forward(
    layers: Sequence[Sequence[Any]],
    x: Float[Array, "T N D"],
    states: Sequence[Sequence[State | None]] | None = None,
    *,
    lengths: Lengths = None,
    function: str = "stack_forward",
) -> tuple[Float[Array, "T N C"], list[list[State]], list[list[Trace]]]:
    """Run layers of cells, each on the outputs of the one below: outputs of the last, last states, cache.

    layers: for each layer one cell, or two: the second reads the sequences in reverse, and the outputs of
    both are joined along the features.   states: initial states, arranged like the layers.   lengths: as in
    unroll.
    """
    lasts, traces = [], []
    for depth, cells in enumerate(layers):
        given = [None] * len(cells) if states is None else states[depth]
        ran = [
            unroll(cell, x, state, lengths=lengths, reverse=bool(side), function=function)
            for side, (cell, state) in enumerate(zip(cells, given, strict=True))
        ]
        outputs, last, trace = zip(*ran, strict=True)
        x = outputs[0] if len(cells) == 1 else cells[0].xp.concat(outputs, axis=-1)
        lasts.append(list(last))
        traces.append(list(trace))
    return x, lasts, traces


def stack_backward(
    dy: Float[Array, "T N C"],
    cache: list[list[Trace]],
    dlasts: Sequence[Sequence[State | None]] | None = None,
    *,
    function: str = "stack_backward",
) -> tuple[Float[Array, "T N D"], list[list[Any]], list[list[State]]]:
    """Gradients of the input, of every cell (as its `gradients` gives them) and of the initial states.

    dlasts: gradients by the last states, in the arrangement of the layers.
    """
    gradients: list[list[Any]] = []
    dstates: list[list[State]] = []
    for depth, traces in reversed(list(enumerate(cache))):
        given = [None] * len(traces) if dlasts is None else dlasts[depth]
        units = [trace.states[0].shape[-1] for trace in traces]
        parts = [dy] if len(traces) == 1 else [dy[..., : units[0]], dy[..., units[0] :]]
        ran = [
            unroll_backward(part, trace, dlast, function=function)
            for part, trace, dlast in zip(parts, traces, given, strict=True)
        ]
        dy = sum((own.dx for own, _ in ran[1:]), ran[0][0].dx)
        gradients.insert(0, [own for own, _ in ran])
        dstates.insert(0, [dstate for _, dstate in ran])
    return dy, gradients, dstates


class RNN(Layer):
    """Recurrent layer with the plain cell: x (T N D) becomes the last layer's hidden states (T N U).

    Parameters of layer 0 are "0.u", "0.w" and "0.b"; those that read in reverse are "0.reverse.u" and so on.

    features, units: D and U.   layers: how many, one on the other.   bidirectional: give every layer a second
    cell that reads in reverse; the outputs then have 2 U features.   activation: as in RNNCell.
    init, gain: how w starts, "orthogonal", "glorot", "identity" or "uniform", and a factor.   rng: draws.

    >>> layer = RNN(2, 3, layers=2, bidirectional=True, rng=np.random.default_rng(0))
    >>> layer(np.ones((7, 4, 2), "float32")).shape, layer.parameter_count
    ((7, 4, 6), 96)
    """

    def __init__(
        self,
        features: int,
        units: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        activation: str | Activation = "tanh",
        init: str = "orthogonal",
        gain: float = 1.0,
        rng: np.random.Generator,
        dtype: DTypeLike = "float32",
    ) -> None:
        features, units, layers = per_axis((features, units, layers), 3, "RNN: sizes", 1)
        self.prefixes = [
            [f"{depth}.", f"{depth}.reverse."] if bidirectional else [f"{depth}."] for depth in range(layers)
        ]
        self.activation = activation
        parameters: Parameters = {}
        for depth, sides in enumerate(self.prefixes):
            width = features if depth == 0 else units * len(sides)
            for prefix in sides:
                drawn = initial_weights(width, units, recurrent=init, gain=gain, rng=rng, dtype=dtype)
                parameters |= {prefix + name: p for name, p in drawn.items()}
        super().__init__(parameters)

    def cells(self) -> list[list[RNNCell]]:
        """The cells of each layer, over the layer's own parameters."""
        return [[self._cell(prefix) for prefix in sides] for sides in self.prefixes]

    def _cell(self, prefix: str) -> RNNCell:
        own = {name: self.parameters[prefix + name] for name in ("u", "w", "b")}
        return RNNCell(**own, activation=self.activation, function="RNN")

    def run(
        self,
        x: Float[Array, "T N D"],
        states: Sequence[Sequence[State | None]] | None = None,
        *,
        lengths: Lengths = None,
    ) -> tuple[Float[Array, "T N C"], list[list[State]], Any]:
        """Outputs, last states and cache, from initial states, over sequences of these lengths."""
        return stack_forward(self.cells(), x, states, lengths=lengths, function="RNN")

    def forward(
        self, x: Float[Array, "T N D"], *, lengths: Lengths = None
    ) -> tuple[Float[Array, "T N C"], Any]:
        y, _, cache = self.run(x, lengths=lengths)
        return y, cache

    def backward(
        self, dy: Float[Array, "T N C"], cache: Any, dlasts: Sequence[Sequence[State | None]] | None = None
    ) -> tuple[Float[Array, "T N D"], Parameters]:
        dx, by_cell, _ = stack_backward(dy, cache, dlasts, function="RNN")
        gradients = {
            prefix + name: getattr(own, f"d{name}")
            for sides, cells in zip(self.prefixes, by_cell, strict=True)
            for prefix, own in zip(sides, cells, strict=True)
            for name in ("u", "w", "b")
        }
        return dx, gradients


class LastStep(Layer):
    """The last of T steps: a sequence becomes one vector, x (T N C) becomes (N C)."""

    def forward(self, x: Float[Array, "T N C"]) -> tuple[Float[Array, "N C"], Any]:
        namespace(x, function="LastStep.forward")
        expect_axes("LastStep.forward", "x", x, "T N C")
        if x.shape[0] == 0:
            raise ShapeError(f"LastStep.forward: x has no steps, so no last one (x {tuple(x.shape)})")
        return x[-1], x.shape

    def backward(self, dy: Float[Array, "N C"], cache: Any) -> tuple[Float[Array, "T N C"], Parameters]:
        xp = namespace(dy, function="LastStep.backward", names=("dy",))
        expect_shape("LastStep.backward", "dy", dy, cache[1:], "the shape of y")
        dx = xp.zeros(cache, dtype=dy.dtype, device=device(dy))
        dx[-1] = dy
        return dx, {}


# ---------------------------------------------------------------------------------------------------
# A sequence of outputs as long as the input


class SequenceCache(NamedTuple):
    """What sequence_loss_backward needs."""

    trace: Trace
    h: Float[Array, "T N U"]
    v: Float[Array, "U K"]
    c: Float[Array, " K"] | None
    loss: Any


class SequenceGradients(NamedTuple):
    """Gradients of sequence_loss_forward; those of what was not given, or not asked for, are None."""

    dx: Float[Array, "T N D"] | None
    du: Float[Array, "D U"]
    dw: Float[Array, "U U"]
    dv: Float[Array, "U K"]
    db: Float[Array, " U"] | None
    dc: Float[Array, " K"] | None
    dh0: Float[Array, "N U"]


def sequence_loss_forward(
    x: Float[Array, "T N D"],
    labels: Int[Array, "T N"],
    u: Float[Array, "D U"],
    w: Float[Array, "U U"],
    v: Float[Array, "U K"],
    b: Float[Array, " U"] | None = None,
    c: Float[Array, " K"] | None = None,
    *,
    h0: Float[Array, "N U"] | None = None,
    lengths: Lengths = None,
    activation: str | Activation = "tanh",
    reduction: str = "mean",
) -> tuple[Float[Array, ""], SequenceCache]:
    """The loss of a network that says one thing per step: cross-entropy of softmax(h_t v + c) and the labels.

    Implements eq-rnn-output and eq-rnn-loss.  u, w, v are the matrices of goodfellow2016deep, figure 10.3.

    x, u, w, b, h0, lengths, activation: as in rnn_forward.   v, c: from the hidden state to K scores.
    labels: class number of every step; after a sequence's end they are not looked at.
    reduction: "mean" over all steps that exist, or "sum".
    Raises ShapeError, TypeError or ValueError if they do not fit.

    >>> zero = np.zeros
    >>> loss, _ = sequence_loss_forward(
    ...     zero((7, 4, 2)), zero((7, 4), int), zero((2, 3)), zero((3, 3)), zero((3, 5))
    ... )
    >>> round(float(loss), 4)  # log(5)
    1.6094
    """
    function = "sequence_loss_forward"
    xp = namespace(x, u, w, v, b, c, h0, function=function, names=("x", "u", "w", "v", "b", "c", "h0"))
    expect_axes(function, "v", v, "U K")
    expect_shape(function, "v", v, (w.shape[0], v.shape[1]), f"one row for each unit of w {tuple(w.shape)}")
    if c is not None:
        expect_shape(function, "c", c, v.shape[1:], f"one offset for each column of v {tuple(v.shape)}")
    cell = RNNCell(u, w, b, activation=activation, function=function)
    state = None if h0 is None else RNNState(h0)
    h, _, trace = unroll(cell, x, state, lengths=lengths, function=function)
    if not is_array_api_obj(labels) or tuple(labels.shape) != tuple(x.shape[:2]):
        raise ShapeError(
            f"{function}: labels must be an array of shape {tuple(x.shape[:2])}, one class number for each "
            f"step of x {tuple(x.shape)}, got {getattr(labels, 'shape', labels)!r}"
        )
    o = multiply(h, v, c)
    rows, wanted = _counted(xp, o, trace.inside), _counted(xp, labels[..., None], trace.inside)[:, 0]
    loss, cache = cross_entropy_forward(rows, wanted, reduction=reduction)
    return loss, SequenceCache(trace, h, v, c, cache)


def sequence_loss_backward(cache: SequenceCache, *, inputs: bool = True) -> SequenceGradients:
    """Gradients of the loss by everything that went in.   inputs: whether to give the gradient of x.

    Implements eq-bptt-output, eq-bptt-state and eq-bptt-weights.
    """
    trace, h, v, c, loss = cache
    xp, rows = trace.cell.xp, cross_entropy_backward(loss)
    if trace.inside is None:
        do = xp.reshape(rows, (*h.shape[:2], v.shape[1]))
    else:
        do = xp.zeros((*h.shape[:2], v.shape[1]), dtype=h.dtype, device=device(h))
        do[trace.inside[..., 0]] = rows
    flat = rows_of(do)
    dv = rows_of(h).T @ flat
    dc = None if c is None else xp.sum(flat, axis=0)
    dh = multiply(do, transposed(v))
    gradients, dstate = unroll_backward(dh, trace, inputs=inputs, function="sequence_loss_backward")
    return SequenceGradients(gradients.dx, gradients.du, gradients.dw, dv, gradients.db, dc, dstate.h)


def _counted(xp: ModuleType, a: Array, inside: Array | None) -> Array:
    """The rows of the steps that exist."""
    return rows_of(a) if inside is None else a[inside[..., 0]]
