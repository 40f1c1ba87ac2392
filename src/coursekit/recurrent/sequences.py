"""One cell along a batch of sequences, as a pair of functions for each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from coursekit.arrays import Array
from coursekit.cells import Activation, GRUCell, LSTMCell, LSTMState, RNNCell, RNNState
from coursekit.recurrent.unrolling import Lengths, Trace, unroll, unroll_backward

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "GRUGradients",
    "LSTMGradients",
    "RNNGradients",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]


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

    >>> import numpy as np
    >>> h, _ = rnn_forward(np.ones((7, 4, 2)), np.ones((2, 3)), np.eye(3))
    >>> h.shape
    (7, 4, 3)
    """
    cell = RNNCell(u, w, b, bw, activation=activation, clip=clip, function="rnn_forward")
    h, _, trace = unroll(cell, x, RNNState(h0), lengths=lengths, reverse=reverse, function="rnn_forward")
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


class LSTMGradients(NamedTuple):
    """Gradients of lstm_forward; those of what was not given, or not asked for, are None."""

    dx: Float[Array, "T N D"] | None
    du: Float[Array, "D G*U"]
    dw: Float[Array, "P G*U"]
    db: Float[Array, " G*U"] | None
    dbw: Float[Array, " G*U"] | None
    dp: Float[Array, "S U"] | None
    dproj: Float[Array, "U P"] | None
    dh0: Float[Array, "N P"]
    dc0: Float[Array, "N U"]


def lstm_forward(
    x: Float[Array, "T N D"],
    u: Float[Array, "D G*U"],
    w: Float[Array, "P G*U"],
    b: Float[Array, " G*U"] | None = None,
    bw: Float[Array, " G*U"] | None = None,
    p: Float[Array, "S U"] | None = None,
    proj: Float[Array, "U P"] | None = None,
    *,
    h0: Float[Array, "N P"] | None = None,
    c0: Float[Array, "N U"] | None = None,
    lengths: Lengths = None,
    reverse: bool = False,
    **options: Any,
) -> tuple[Float[Array, "T N P"], Trace]:
    """An LSTM along a batch of sequences: the hidden state after every step, and the cache.

    Implements eq-lstm-gates, eq-lstm-state and eq-lstm-output.

    x, lengths, reverse: as in unroll.   h0, c0: the states before the first step, zero by default.
    u, w, b, bw, p, proj, options: as in LSTMCell.
    Raises ShapeError, TypeError or ValueError if they do not fit.
    Source: hochreiter1997long; gers2000learning.

    >>> import numpy as np
    >>> h, cache = lstm_forward(np.ones((7, 4, 2)), np.ones((2, 12)), np.ones((3, 12)))
    >>> h.shape, cache.states.c.shape
    ((7, 4, 3), (8, 4, 3))
    """
    cell = LSTMCell(u, w, b, bw, p, proj, function="lstm_forward", **options)
    start = LSTMState(h0, c0)
    h, _, trace = unroll(cell, x, start, lengths=lengths, reverse=reverse, function="lstm_forward")
    return h, trace


def lstm_backward(
    dh: Float[Array, "T N P"], cache: Trace, dlast: LSTMState | None = None, *, inputs: bool = True
) -> LSTMGradients:
    """Backpropagation through time for an LSTM.

    Implements eq-lstm-step-backward and eq-bptt-weights.

    dh: gradient by the hidden state of every step, as far as the loss uses it directly.
    dlast: gradients by the last h and c, where something is computed from them too.
    inputs: whether to give the gradient of x.
    Raises ShapeError unless they have the shapes of what they belong to.
    """
    gradients, dstate = unroll_backward(dh, cache, dlast, inputs=inputs, function="lstm_backward")
    return LSTMGradients(*gradients, *dstate)


class GRUGradients(NamedTuple):
    """Gradients of gru_forward; those of what was not given, or not asked for, are None."""

    dx: Float[Array, "T N D"] | None
    du: Float[Array, "D 3*U"]
    dw: Float[Array, "U 3*U"]
    db: Float[Array, " 3*U"] | None
    dbw: Float[Array, " 3*U"] | None
    dh0: Float[Array, "N U"]


def gru_forward(
    x: Float[Array, "T N D"],
    u: Float[Array, "D 3*U"],
    w: Float[Array, "U 3*U"],
    b: Float[Array, " 3*U"] | None = None,
    bw: Float[Array, " 3*U"] | None = None,
    *,
    h0: Float[Array, "N U"] | None = None,
    lengths: Lengths = None,
    reverse: bool = False,
    **options: Any,
) -> tuple[Float[Array, "T N U"], Trace]:
    """A GRU along a batch of sequences: the hidden state after every step, and the cache.

    Implements eq-gru-gates and eq-gru-state.

    x, h0, lengths, reverse: as in unroll.   u, w, b, bw, options: as in GRUCell.
    Raises ShapeError, TypeError or ValueError if they do not fit.
    Source: cho2014learning; chung2014empirical.

    >>> import numpy as np
    >>> gru_forward(np.ones((7, 4, 2)), np.ones((2, 9)), np.ones((3, 9)))[0].shape
    (7, 4, 3)
    """
    cell = GRUCell(u, w, b, bw, function="gru_forward", **options)
    h, _, trace = unroll(cell, x, RNNState(h0), lengths=lengths, reverse=reverse, function="gru_forward")
    return h, trace


def gru_backward(
    dh: Float[Array, "T N U"],
    cache: Trace,
    dlast: Float[Array, "N U"] | None = None,
    *,
    inputs: bool = True,
) -> GRUGradients:
    """Backpropagation through time for a GRU.

    Implements eq-gru-step-backward and eq-bptt-weights.

    dh, dlast, inputs: as in rnn_backward.
    Raises ShapeError unless they have the shapes of what they belong to.
    """
    gradients, dstate = unroll_backward(dh, cache, dlast, inputs=inputs, function="gru_backward")
    return GRUGradients(*gradients, *dstate)
