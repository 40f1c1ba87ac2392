"""The long short-term memory with its variants: fewer gates, coupled gates, peepholes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from coursekit.arrays import (
    Array,
    expect_shape,
    multiply,
    namespace,
    rows_of,
    stack,
    transposed,
)
from coursekit.cells.activations import Activation, activations_of
from coursekit.cells.gated import GatedCell
from coursekit.cells.step import StepCache, step_backward, step_forward

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "LSTMCell",
    "LSTMCellGradients",
    "LSTMState",
    "LSTMStepGradients",
    "lstm_blocks",
    "lstm_step_backward",
    "lstm_step_forward",
]


class LSTMState(NamedTuple):
    """What an LSTM hands to its next step.  h: hidden state, which is also its output.   c: cell state.

    h has P columns, the units' U unless the cell projects it.
    """

    h: Float[Array, "N P"]
    c: Float[Array, "N U"]


class LSTMCellGradients(NamedTuple):
    """Gradients of an LSTM over a sequence; of what it lacks, or was not asked for, None."""

    dx: Float[Array, "T N D"] | None
    du: Float[Array, "D G*U"]
    dw: Float[Array, "P G*U"]
    db: Float[Array, " G*U"] | None
    dbw: Float[Array, " G*U"] | None
    dp: Float[Array, "S U"] | None
    dproj: Float[Array, "U P"] | None


def lstm_blocks(gates: str = "ifo", coupled: str | None = None, function: str = "lstm_blocks") -> str:
    """The blocks that the weights of an LSTM have, in their order: i, f, g, o without those that it lacks.

    Raises ValueError for options that LSTMCell does not have.

    >>> lstm_blocks(), lstm_blocks("io"), lstm_blocks(coupled="input")
    ('ifgo', 'igo', 'igo')
    """
    if not set(gates) <= set("ifo") or len(set(gates)) < len(gates):
        raise ValueError(f"{function}: gates {gates!r} is unknown, expected some of 'ifo'")
    driven = {None: "", "input": "f", "forget": "i"}
    if coupled not in driven:
        raise ValueError(f"{function}: coupled {coupled!r} is unknown, expected one of {tuple(driven)}")
    if coupled and not set("if") <= set(gates):
        raise ValueError(f"{function}: coupled={coupled!r} needs both gates, i and f, got gates={gates!r}")
    return "".join(block for block in "ifgo" if block in {*gates, "g"} - {driven[coupled]})


class LSTMCell(GatedCell):
    """The long short-term memory: a cell state c that gates write to, keep and read.

    Implements eq-lstm-gates, eq-lstm-state and eq-lstm-output: i, f, o = sigmoid(x u + h w + b),
    g = tanh(x u + h w + b), c' = f c + i g, h' = o tanh(c'); each with its own block of u, w and b.
    The blocks stand in the order i, f, g, o.

    u, w, b, bw: weights from the input and from the state before; offsets, torch and ONNX have two.
    p: peephole weights, with which i and f see c, and o sees c': a row for each of them that has a block.
    proj: what h' is multiplied by, so that the state w reads has P columns; the torch layer's proj_size.
    gates: those of i, f, o that there are; an absent one has no block and is always open.
    coupled: "input" computes f = 1 - i, "forget" i = 1 - f; the computed one has no block either.
    activations: of the gates, of g, and of c' where it is read; names in ACTIVATIONS, or Activations.
    clip: cut what goes into every activation to [-clip, clip].
    Raises ShapeError or TypeError if the parameters do not fit each other, ValueError for an unknown option.
    Source: hochreiter1997long; gers2000learning (forget gate); gers2002learning (peepholes);
    sak2014long (projection).

    >>> import numpy as np
    >>> cell = LSTMCell(np.ones((2, 12)), np.ones((3, 12)))
    >>> z, before = cell.project(np.zeros((1, 4, 2)))[0], LSTMState(np.zeros((4, 3)), np.ones((4, 3)))
    >>> float(cell.step(z, before)[0].c[0, 0])
    0.5
    """

    def __init__(
        self,
        u: Float[Array, "D G*U"],
        w: Float[Array, "P G*U"],
        b: Float[Array, " G*U"] | None = None,
        bw: Float[Array, " G*U"] | None = None,
        p: Float[Array, "S U"] | None = None,
        proj: Float[Array, "U P"] | None = None,
        *,
        gates: str = "ifo",
        coupled: str | None = None,
        activations: Sequence[str | Activation] = ("sigmoid", "tanh", "tanh"),
        clip: float | None = None,
        function: str = "LSTMCell",
    ) -> None:
        units = None if proj is None else proj.shape[0]
        super().__init__(function, lstm_blocks(gates, coupled, function), u, w, b, bw, units)
        if proj is not None:
            namespace(u, proj, function=function, names=("u", "proj"))
            because = "a column for each row of w, which reads what it gives"
            expect_shape(function, "proj", proj, (self.units, self.outputs), because)
        self.gates = self.blocks.replace("g", "")
        if p is not None:
            if not self.gates:
                raise ValueError(f"{function}: p is given, but no gate that could see the cell state")
            namespace(u, p, function=function, names=("u", "p"))
            because = f"a row for each of the gates {', '.join(self.gates)}, a column for each unit"
            expect_shape(function, "p", p, (len(self.gates), self.units), because)
        self.p, self.proj, self.coupled = p, proj, coupled
        self.gate, self.candidate, self.read = activations_of(function, activations, 3, clip)
        self._order = self.gates + "g"  # in which the cell computes: the gates share an activation
        self._u, self._w = (self._arranged(a, self.blocks, self._order) for a in (u, w))
        self._width = len(self.blocks) * self.units
        self.dz_columns = self._width + (0 if proj is None else self.units + self.outputs)
        self._w_transposed: Array | None = None

    def initial(self, x: Float[Array, "T N D"]) -> LSTMState:
        """The state before the first step of the batch x, all zero."""
        return LSTMState(self._zeros(x, self.outputs), self._zeros(x, self.units))

    def project(self, x: Float[Array, "T N D"]) -> Float[Array, "T N G*U"]:
        """The input's part of every step, x u + b + bw, the block g last."""
        given = [offset for offset in (self.b, self.bw) if offset is not None]
        offsets = [self._arranged(offset, self.blocks, self._order) for offset in given]
        return multiply(x, self._u, sum(offsets[1:], offsets[0]) if offsets else None)

    def step(self, z: Float[Array, "N G*U"], before: LSTMState) -> tuple[LSTMState, tuple]:
        """The state after a step whose input's part is z, and the gates, g and f(c') for step_backward."""
        xp, count = self.xp, len(self.gates)
        inputs, candidate = self._split(multiply(before.h, self._w, z), count, 1)
        g = self.candidate.value(xp, candidate)
        if self.p is None:
            gates = self.gate.value(xp, inputs)
            i, f, o = self._opened(gates)
            c = _times(f, before.c) + _times(i, g)
        else:
            gates, o, c = self._step_with_peepholes(inputs, g, before.c)
        read = self.read.value(xp, c)
        h = _times(o, read)
        return LSTMState(h if self.proj is None else multiply(h, self.proj), c), (gates, g, read)

    def _step_with_peepholes(
        self, inputs: Float[Array, "N S*U"], g: Float[Array, "N U"], c: Float[Array, "N U"]
    ) -> tuple[Array, Array | None, Array]:
        """The gates i and f see the cell state before the step, o sees the one after it."""
        parts = self._by_letter(inputs, self.gates)
        seen = dict(zip(self.gates, self.p, strict=True))
        early = {k: self.gate.value(self.xp, a + c * seen[k]) for k, a in parts.items() if k != "o"}
        i, f = self._coupled(early.get("i"), early.get("f"))
        c = _times(f, c) + _times(i, g)
        o = self.gate.value(self.xp, parts["o"] + c * seen["o"]) if "o" in parts else None
        late = [] if o is None else [o]
        return self.xp.concat([*early.values(), *late], axis=-1), o, c

    def _opened(self, gates: Float[Array, "N S*U"]) -> tuple[Array | None, Array | None, Array | None]:
        """i, f and o; None for one that is always open."""
        parts = self._by_letter(gates, self.gates)
        return *self._coupled(parts.get("i"), parts.get("f")), parts.get("o")

    def _coupled(self, i: Array | None, f: Array | None) -> tuple[Array | None, Array | None]:
        if self.coupled == "input":
            return i, 1 - i
        return (1 - f, f) if self.coupled else (i, f)

    def step_backward(
        self, dafter: LSTMState, before: LSTMState, after: LSTMState, saved: tuple
    ) -> tuple[Float[Array, "N ..."], LSTMState]:
        """Gradients of a step's z and of the state before it.

        Implements eq-lstm-step-backward.

        With a projection, further columns of dz are for it: its input, and the gradient of what it gave.
        dafter: gradient of the state after it.   saved: what step kept.
        """
        if self._w_transposed is None:
            self._w_transposed = transposed(self._w)
        (gates, g, read), xp = saved, self.xp
        i, f, o = self._opened(gates)
        slopes = self.gate.slope(xp, gates)
        dh = dafter.h if self.proj is None else multiply(dafter.h, self.proj.T)
        do, dc = dh * read, dafter.c + _times(o, dh) * self.read.slope(xp, read)
        if self.p is not None and o is not None:
            dc = dc + do * slopes[..., -self.units :] * self.p[-1]
        di, df = dc * g, dc * before.c
        if self.coupled:
            di, df = di - df, df - di
        by_gate, slopes = {"i": di, "f": df, "o": do}, self._by_letter(slopes, self.gates)
        ds = [by_gate[k] * slopes[k] for k in self.gates]
        dz = xp.concat([*ds, _times(i, dc) * self.candidate.slope(xp, g)], axis=-1)
        dbefore = _times(f, dc)
        if self.p is not None:
            seen = (d * p for k, d, p in zip(self.gates, ds, self.p, strict=True) if k != "o")
            dbefore = sum(seen, dbefore)
        dbefore = LSTMState(multiply(dz, self._w_transposed), dbefore)
        return dz if self.proj is None else xp.concat([dz, _times(o, read), dafter.h], axis=-1), dbefore

    def gradients(
        self,
        x: Float[Array, "T N D"],
        before: LSTMState,
        after: LSTMState,
        dz: Float[Array, "T N G*U"],
        *,
        inputs: bool = True,
    ) -> LSTMCellGradients:
        """Gradients of the input and the parameters, from the dz of any number of steps.

        before, after: the states that these steps began and ended with.   inputs: whether to give that of x.
        """
        dz, flat = dz[..., : self._width], rows_of(dz)
        flat, more = flat[:, : self._width], flat[:, self._width :]
        in_order = partial(self._arranged, given=self._order, wanted=self.blocks)
        db = None if self.b is None and self.bw is None else in_order(self.xp.sum(flat, axis=0))
        return LSTMCellGradients(
            dx=multiply(dz, transposed(self._u)) if inputs else None,
            du=in_order(rows_of(x).T @ flat),
            dw=in_order(rows_of(before.h).T @ flat),
            db=None if self.b is None else db,
            dbw=None if self.bw is None else db,
            dp=None if self.p is None else self._peephole_gradients(flat, before.c, after.c),
            dproj=None if self.proj is None else more[:, : self.units].T @ more[:, self.units :],
        )

    def _peephole_gradients(
        self, dz: Float[Array, "T*N G*U"], before: Float[Array, "T N U"], after: Float[Array, "T N U"]
    ) -> Float[Array, "S U"]:
        parts, late = self._by_letter(dz, self._order), {"o": after}
        return stack([self.xp.sum(parts[k] * rows_of(late.get(k, before)), axis=0) for k in self.gates])

    def _arranged(self, a: Float[Array, "... G*U"], given: str, wanted: str) -> Float[Array, "... G*U"]:
        """The blocks that stand in the order given, in the order wanted."""
        blocks = self._by_letter(a, given)
        return self.xp.concat([blocks[k] for k in wanted], axis=-1)


def _times(gate: Array | None, a: Array) -> Array:
    """What passes a gate; None is an open one."""
    return a if gate is None else gate * a


class LSTMStepGradients(NamedTuple):
    """Gradients of one step of an LSTM; those of parameters that it does not have are None."""

    dx: Float[Array, "N D"]
    dh: Float[Array, "N U"]
    dc: Float[Array, "N U"]
    du: Float[Array, "D G*U"]
    dw: Float[Array, "P G*U"]
    db: Float[Array, " G*U"] | None
    dbw: Float[Array, " G*U"] | None
    dp: Float[Array, "S U"] | None
    dproj: Float[Array, "U P"] | None


def lstm_step_forward(
    x: Float[Array, "N D"],
    h: Float[Array, "N P"],
    c: Float[Array, "N U"],
    u: Float[Array, "D G*U"],
    w: Float[Array, "P G*U"],
    b: Float[Array, " G*U"] | None = None,
    bw: Float[Array, " G*U"] | None = None,
    p: Float[Array, "S U"] | None = None,
    proj: Float[Array, "U P"] | None = None,
    **options: Any,
) -> tuple[LSTMState, StepCache]:
    """One step of an LSTM: the next hidden state and cell state, and the cache.

    Implements eq-lstm-gates, eq-lstm-state and eq-lstm-output.

    x: this step's input.   h, c: states before it.   the rest: as in LSTMCell.
    Raises ShapeError or TypeError if the arrays do not fit.

    >>> import numpy as np
    >>> zero = np.zeros((4, 3))
    >>> after, _ = lstm_step_forward(np.ones((4, 2)), zero, zero, np.ones((2, 12)), np.ones((3, 12)))
    >>> after.h.shape, after.c.shape
    ((4, 3), (4, 3))
    """
    cell = LSTMCell(u, w, b, bw, p, proj, function="lstm_step_forward", **options)
    return step_forward("lstm_step_forward", cell, x, LSTMState(h, c))


def lstm_step_backward(
    dh: Float[Array, "N P"], dc: Float[Array, "N U"], cache: StepCache
) -> LSTMStepGradients:
    """Gradients of one step.   dh, dc: of the loss by the states after it, from wherever they are used.

    Implements eq-lstm-step-backward.
    Raises ShapeError unless dh and dc have the shape of those states.
    """
    (dx, *weights), dbefore = step_backward("lstm_step_backward", LSTMState(dh, dc), cache)
    return LSTMStepGradients(dx, *dbefore, *weights)
