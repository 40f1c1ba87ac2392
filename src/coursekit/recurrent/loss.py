"""A sequence of outputs as long as the input, and its loss: the network of Goodfellow's figure 10.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import device, is_array_api_obj

from coursekit.arrays import (
    Array,
    ShapeError,
    expect_axes,
    expect_shape,
    multiply,
    namespace,
    rows_of,
    transposed,
)
from coursekit.cells import Activation, RNNCell, RNNState
from coursekit.losses import cross_entropy_backward, cross_entropy_forward
from coursekit.recurrent.unrolling import Lengths, Trace, unroll, unroll_backward

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Float, Int

__all__ = [
    "SequenceCache",
    "SequenceGradients",
    "sequence_loss_backward",
    "sequence_loss_forward",
]


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

    >>> import numpy as np
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
