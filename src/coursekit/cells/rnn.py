"""The plain recurrent cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from array_api_compat import device

from coursekit.arrays import (
    Array,
    expect_axes,
    expect_shape,
    multiply,
    namespace,
    rows_of,
    transposed,
    unstack,
)
from coursekit.cells.activations import Activation, activations_of
from coursekit.cells.step import StepCache, step_backward, step_forward

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "RNNCell",
    "RNNCellGradients",
    "RNNState",
    "RNNStepGradients",
    "rnn_step_backward",
    "rnn_step_forward",
]


class RNNState(NamedTuple):
    """What a plain cell hands to its next step.  h: hidden state, which is also its output."""

    h: Float[Array, "N U"]


class RNNCellGradients(NamedTuple):
    """Gradients of a plain cell over a sequence; of what it lacks, or was not asked for, None.

    db and dbw are equal, since b and bw are only ever added.
    """

    dx: Float[Array, "T N D"] | None
    du: Float[Array, "D U"]
    dw: Float[Array, "U U"]
    db: Float[Array, " U"] | None
    dbw: Float[Array, " U"] | None


class RNNCell:
    """The plain cell: h_t = f(x_t u + h_{t-1} w + b + bw).

    Implements eq-rnn-forward.

    u: weights from the input.   w: weights from the state before.   b, bw: offsets; torch and ONNX have two,
    one of which is enough.   activation: name in ACTIVATIONS, or an Activation.   clip: cut what goes into
    the activation to [-clip, clip].
    Raises ShapeError or TypeError if the parameters do not fit each other, ValueError for an unknown option.
    Source: elman1990finding; goodfellow2016deep, equation 10.8.

    >>> import numpy as np
    >>> cell = RNNCell(np.ones((2, 3)), np.eye(3))
    >>> state, _ = cell.step(cell.project(np.zeros((1, 4, 2)))[0], RNNState(np.zeros((4, 3))))
    >>> state.h.shape
    (4, 3)
    """

    def __init__(
        self,
        u: Float[Array, "D U"],
        w: Float[Array, "U U"],
        b: Float[Array, " U"] | None = None,
        bw: Float[Array, " U"] | None = None,
        *,
        activation: str | Activation = "tanh",
        clip: float | None = None,
        function: str = "RNNCell",
    ) -> None:
        self.xp = namespace(u, w, b, bw, function=function, names=("u", "w", "b", "bw"))
        expect_axes(function, "u", u, "D U")
        self.features, self.units = u.shape
        because = f"{self.units} units, as u {tuple(u.shape)} has columns"
        expect_shape(function, "w", w, (self.units, self.units), because)
        for name, offset in (("b", b), ("bw", bw)):
            if offset is not None:
                expect_shape(function, name, offset, (self.units,), because)
        self.u, self.w, self.b, self.bw = u, w, b, bw
        self.dz_columns = self.units
        (self.activation,) = activations_of(function, [activation], 1, clip)
        self._w_transposed: Array | None = None

    def initial(self, x: Float[Array, "T N D"]) -> RNNState:
        """The state before the first step of the batch x, all zero."""
        return RNNState(self.xp.zeros((x.shape[1], self.units), dtype=self.w.dtype, device=device(self.w)))

    def project(self, x: Float[Array, "T N D"]) -> Float[Array, "T N U"]:
        """The input's part of every step: x u + b + bw."""
        offsets = [offset for offset in (self.b, self.bw) if offset is not None]
        return multiply(x, self.u, sum(offsets[1:], offsets[0]) if offsets else None)

    def step(self, z: Float[Array, "N U"], before: RNNState) -> tuple[RNNState, tuple]:
        """The state after a step whose input's part is z, and what step_backward needs beside it: nothing."""
        return RNNState(self.activation.value(self.xp, multiply(before.h, self.w, z))), ()

    def local_slopes(self, states: RNNState, saved: list[tuple]) -> list[tuple]:
        """What every step_backward can be given as saved: f'(a_t) of all steps, computed at once.

        states: the T + 1 states of a sequence.   saved: what its steps kept.
        """
        return [(slope,) for slope in unstack(self.activation.slope(self.xp, states.h[1:]))]

    def step_backward(
        self, dafter: RNNState, before: RNNState, after: RNNState, saved: tuple = ()
    ) -> tuple[Float[Array, "N U"], RNNState]:
        """Gradients of a step's z and of the state before it.

        Implements eq-rnn-step-backward.

        dafter: gradient of the state after it.   saved: what step kept, or this step's of local_slopes.
        """
        if self._w_transposed is None:
            self._w_transposed = transposed(self.w)
        dz = dafter.h * (saved[0] if saved else self.activation.slope(self.xp, after.h))
        return dz, RNNState(multiply(dz, self._w_transposed))

    def gradients(
        self,
        x: Float[Array, "T N D"],
        before: RNNState,
        after: RNNState,
        dz: Float[Array, "T N U"],
        *,
        inputs: bool = True,
    ) -> RNNCellGradients:
        """Gradients of the input and the parameters, from the dz of any number of steps.

        before, after: the states that these steps began and ended with.   inputs: whether to give that of x.
        """
        flat = rows_of(dz)
        db = self.xp.sum(flat, axis=0) if self.b is not None or self.bw is not None else None
        return RNNCellGradients(
            dx=multiply(dz, transposed(self.u)) if inputs else None,
            du=rows_of(x).T @ flat,
            dw=rows_of(before.h).T @ flat,
            db=None if self.b is None else db,
            dbw=None if self.bw is None else db,
        )


class RNNStepGradients(NamedTuple):
    """Gradients of one step of a plain cell; those of parameters that it does not have are None."""

    dx: Float[Array, "N D"]
    dh: Float[Array, "N U"]
    du: Float[Array, "D U"]
    dw: Float[Array, "U U"]
    db: Float[Array, " U"] | None
    dbw: Float[Array, " U"] | None


def rnn_step_forward(
    x: Float[Array, "N D"],
    h: Float[Array, "N U"],
    u: Float[Array, "D U"],
    w: Float[Array, "U U"],
    b: Float[Array, " U"] | None = None,
    bw: Float[Array, " U"] | None = None,
    *,
    activation: str | Activation = "tanh",
) -> tuple[Float[Array, "N U"], StepCache]:
    """One step of the plain cell: the next hidden state f(x u + h w + b + bw), and the cache.

    Implements eq-rnn-forward.

    x: this step's input.   h: hidden state before it.   u, w, b, bw, activation: as in RNNCell.
    Raises ShapeError or TypeError if the arrays do not fit.

    >>> import numpy as np
    >>> rnn_step_forward(np.ones((4, 2)), np.zeros((4, 3)), np.ones((2, 3)), np.eye(3))[0].shape
    (4, 3)
    """
    cell = RNNCell(u, w, b, bw, activation=activation, function="rnn_step_forward")
    after, cache = step_forward("rnn_step_forward", cell, x, RNNState(h))
    return after.h, cache


def rnn_step_backward(dh: Float[Array, "N U"], cache: StepCache) -> RNNStepGradients:
    """Gradients of one step.   dh: gradient of the loss by the state after it, from wherever it is used.

    Implements eq-rnn-step-backward.
    Raises ShapeError unless dh has the shape of that state.
    """
    (dx, *weights), dbefore = step_backward("rnn_step_backward", RNNState(dh), cache)
    return RNNStepGradients(dx, *dbefore, *weights)
