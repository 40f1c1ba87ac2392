"""Any cell run along a batch of sequences, and backpropagation through time."""

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
    namespace,
    stack,
    unstack,
)

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Bool, Float, Int

__all__ = ["Trace", "go_back", "reverse_sequences", "unroll", "unroll_backward"]

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
    before, after = (type(states)(*(a[part] for a in states)) for part in (slice(-1), slice(1, None)))
    if dz:
        stacked = stack(dz)
    else:
        stacked = xp.zeros((0, x.shape[1], cell.dz_columns), dtype=x.dtype, device=device(x))
    return cell.gradients(x, before, after, stacked, inputs=inputs), dstate


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
    """The state as the cell's own named tuple, None as zero; a bare array is the one field of a state."""
    kind = type(zero := cell.initial(x))
    if is_array_api_obj(state):
        state = (state,)
    if len(state) != len(zero):
        raise TypeError(f"{function}: the state has {len(state)} arrays, expected {zero._fields}")
    because = "one row per sequence, one column per unit"
    state = [z if given is None else given for given, z in zip(state, zero, strict=True)]
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
