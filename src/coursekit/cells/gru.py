"""The gated recurrent unit, with its reset gate before or after the product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from coursekit.arrays import Array, multiply, rows_of, transposed
from coursekit.cells.activations import Activation, activations_of
from coursekit.cells.gated import GatedCell
from coursekit.cells.rnn import RNNState
from coursekit.cells.step import StepCache, step_backward, step_forward

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["GRUCell", "GRUCellGradients", "GRUStepGradients", "gru_step_backward", "gru_step_forward"]


class GRUCellGradients(NamedTuple):
    """Gradients of a GRU over a sequence; of what it lacks, or was not asked for, None."""

    dx: Float[Array, "T N D"] | None
    du: Float[Array, "D 3*U"]
    dw: Float[Array, "U 3*U"]
    db: Float[Array, " 3*U"] | None
    dbw: Float[Array, " 3*U"] | None


def expect_reset(function: str, reset: str) -> None:
    """Raise ValueError unless reset names a form of the GRU."""
    if reset not in ("after", "before"):
        raise ValueError(f"{function}: reset {reset!r} is unknown, expected 'after' or 'before'")


class GRUCell(GatedCell):
    """The gated recurrent unit: one gate chooses between the old state and a candidate, one resets.

    Implements eq-gru-gates and eq-gru-state: r, z = sigmoid(x u + h w + b + bw), h' = (1 - z) n + z h.  The
    candidate is n = tanh(x u + b + r (h w + bw)) with the reset after the product, and
    n = tanh(x u + (r h) w + b + bw) with the reset before it.  The blocks stand in the order r, z, n.

    u, w, b, bw: weights from the input and from the state before; offsets.
    reset: "after", as torch.nn.GRU has it, or "before", as it was published.
    activations: of the gates and of n; names in ACTIVATIONS, or Activations.
    clip: cut what goes into every activation to [-clip, clip].
    Raises ShapeError or TypeError if the parameters do not fit each other, ValueError for an unknown option.
    Source: cho2014learning; chung2014empirical.

    >>> import numpy as np
    >>> cell = GRUCell(np.ones((2, 9)), np.ones((3, 9)))
    >>> state, _ = cell.step(cell.project(np.zeros((1, 4, 2)))[0], RNNState(np.zeros((4, 3))))
    >>> state.h.shape
    (4, 3)
    """

    def __init__(
        self,
        u: Float[Array, "D 3*U"],
        w: Float[Array, "U 3*U"],
        b: Float[Array, " 3*U"] | None = None,
        bw: Float[Array, " 3*U"] | None = None,
        *,
        reset: str = "after",
        activations: Sequence[str | Activation] = ("sigmoid", "tanh"),
        clip: float | None = None,
        function: str = "GRUCell",
    ) -> None:
        expect_reset(function, reset)
        super().__init__(function, "rzn", u, w, b, bw)
        self.reset = reset
        self.gate, self.candidate = activations_of(function, activations, 2, clip)
        self._bw_gates, self._bw_candidate = (None, None) if bw is None else self._split(bw, 2, 1)
        if reset == "before":  # NumPy multiplies either one faster in C order than as columns of w
            self._w_gates, self._w_candidate = (transposed(part.T) for part in self._split(w, 2, 1))
        self.dz_columns = 4 * self.units
        self._transposed: list[Array] = []

    def initial(self, x: Float[Array, "T N D"]) -> RNNState:
        """The state before the first step of the batch x, all zero."""
        return RNNState(self._zeros(x, self.units))

    def project(self, x: Float[Array, "T N D"]) -> Float[Array, "T N 3*U"]:
        """The input's part of every step: x u + b, and bw as far as no reset comes between."""
        offsets = [] if self.b is None else [self.b]
        if self.bw is not None and self.reset == "before":
            offsets.append(self.bw)
        elif self.bw is not None:
            offsets.append(self.xp.concat([self._bw_gates, self.xp.zeros_like(self._bw_candidate)]))
        return multiply(x, self.u, sum(offsets[1:], offsets[0]) if offsets else None)

    def step(self, z: Float[Array, "N 3*U"], before: RNNState) -> tuple[RNNState, tuple]:
        """The state after a step whose input's part is z, and what step_backward needs.

        These are the gates, the candidate, and the factor of the reset gate: h, or h w + bw.
        """
        xp, h, (for_gates, for_candidate) = self.xp, before.h, self._split(z, 2, 1)
        if self.reset == "before":
            gates = self.gate.value(xp, multiply(h, self._w_gates, for_gates))
            reset, update = self._split(gates, 1, 1)
            factor, a = h, multiply(reset * h, self._w_candidate, for_candidate)
        else:
            from_gates, factor = self._split(multiply(h, self.w), 2, 1)
            if self.bw is not None:
                factor = factor + self._bw_candidate
            gates = self.gate.value(xp, for_gates + from_gates)
            reset, update = self._split(gates, 1, 1)
            a = for_candidate + reset * factor
        n = self.candidate.value(xp, a)
        return RNNState(n + update * (h - n)), (gates, n, factor)

    def step_backward(
        self, dafter: RNNState, before: RNNState, after: RNNState, saved: tuple
    ) -> tuple[Float[Array, "N 4*U"], RNNState]:
        """Gradients of a step's z, its candidate first, and of the state before it.

        Implements eq-gru-step-backward.

        A fourth block of columns is for the candidate's recurrent weights: their input r h, or with the reset
        after the product, the gradient of h w + bw.
        dafter: gradient of the state after it.   saved: what step kept.
        """
        if not self._transposed:
            used = (self.w,) if self.reset == "after" else (self._w_gates, self._w_candidate)
            self._transposed = [transposed(w) for w in used]
        xp, h, dh, (gates, n, factor) = self.xp, before.h, dafter.h, saved
        reset, update = self._split(gates, 1, 1)
        slope_reset, slope_update = self._split(self.gate.slope(xp, gates), 1, 1)
        carried = dh * update
        dn = (dh - carried) * self.candidate.slope(xp, n)
        dupdate = dh * (h - n) * slope_update
        if self.reset == "after":
            dz = xp.concat([dn, dn * factor * slope_reset, dupdate, dn * reset], axis=-1)
            (w,) = self._transposed
            return dz, RNNState(multiply(dz[:, self.units :], w, carried))
        w_gates, w_candidate = self._transposed
        dm = multiply(dn, w_candidate)
        dz = xp.concat([dn, dm * factor * slope_reset, dupdate, reset * h], axis=-1)
        dgates = dz[:, self.units : 3 * self.units]
        return dz, RNNState(multiply(dgates, w_gates, carried + dm * reset))

    def gradients(
        self,
        x: Float[Array, "T N D"],
        before: RNNState,
        after: RNNState,
        dz: Float[Array, "T N 4*U"],
        *,
        inputs: bool = True,
    ) -> GRUCellGradients:
        """Gradients of the input and the parameters, from what step_backward gave for any number of steps.

        before, after: the states that these steps began and ended with.   inputs: whether to give that of x.
        """
        xp, flat, h = self.xp, rows_of(dz), rows_of(before.h)
        by_input, fourth = self._split(flat, 3, 1)
        candidate, gates, _ = self._split(flat, 1, 2, 1)
        db = dbw = self._gates_first(xp.sum(by_input, axis=0))
        if self.reset == "after":
            by_state = flat[:, self.units :]
            dw, dbw = h.T @ by_state, xp.sum(by_state, axis=0)
        else:
            dw = xp.concat([h.T @ gates, fourth.T @ candidate], axis=-1)
        u_gates, u_candidate = self._split(self.u, 2, 1)
        u = xp.concat([u_candidate, u_gates], axis=-1)
        return GRUCellGradients(
            dx=multiply(dz[..., : 3 * self.units], transposed(u)) if inputs else None,
            du=self._gates_first(rows_of(x).T @ by_input),
            dw=dw,
            db=None if self.b is None else db,
            dbw=None if self.bw is None else dbw,
        )

    def _gates_first(self, a: Float[Array, "... 3*U"]) -> Float[Array, "... 3*U"]:
        """The blocks n, r, z in the order r, z, n."""
        candidate, gates = self._split(a, 1, 2)
        return self.xp.concat([gates, candidate], axis=-1)


class GRUStepGradients(NamedTuple):
    """Gradients of one step of a GRU; those of parameters that it does not have are None."""

    dx: Float[Array, "N D"]
    dh: Float[Array, "N U"]
    du: Float[Array, "D 3*U"]
    dw: Float[Array, "U 3*U"]
    db: Float[Array, " 3*U"] | None
    dbw: Float[Array, " 3*U"] | None


def gru_step_forward(
    x: Float[Array, "N D"],
    h: Float[Array, "N U"],
    u: Float[Array, "D 3*U"],
    w: Float[Array, "U 3*U"],
    b: Float[Array, " 3*U"] | None = None,
    bw: Float[Array, " 3*U"] | None = None,
    **options: Any,
) -> tuple[Float[Array, "N U"], StepCache]:
    """One step of a GRU: the next hidden state, and the cache.

    Implements eq-gru-gates and eq-gru-state.

    x: this step's input.   h: hidden state before it.   u, w, b, bw, options: as in GRUCell.
    Raises ShapeError or TypeError if the arrays do not fit.

    >>> import numpy as np
    >>> gru_step_forward(np.ones((4, 2)), np.zeros((4, 3)), np.ones((2, 9)), np.ones((3, 9)))[0].shape
    (4, 3)
    """
    cell = GRUCell(u, w, b, bw, function="gru_step_forward", **options)
    after, cache = step_forward("gru_step_forward", cell, x, RNNState(h))
    return after.h, cache


def gru_step_backward(dh: Float[Array, "N U"], cache: StepCache) -> GRUStepGradients:
    """Gradients of one step.   dh: gradient of the loss by the state after it, from wherever it is used.

    Implements eq-gru-step-backward.
    Raises ShapeError unless dh has the shape of that state.
    """
    (dx, *weights), dbefore = step_backward("gru_step_backward", RNNState(dh), cache)
    return GRUStepGradients(dx, *dbefore, *weights)
