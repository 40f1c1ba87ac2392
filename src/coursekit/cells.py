"""Recurrent cells: what happens in one time step, forward and backward, and how the weights start.

A cell splits its work in two.  `project` is the input's part, which needs no state: one matrix product does
it for all steps at once.  `step` is the rest, and must wait for the step before.  Backward, `local_slopes` is
what no gradient is needed for, `step_backward` goes back step by step, and `gradients` collects the weights'
gradients in one product.
`coursekit.recurrent` runs any cell along a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
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
from coursekit.layers import glorot

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Float
    from numpy.typing import DTypeLike

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "RECURRENT_INITIALISERS",
    "RNNCell",
    "RNNGradients",
    "RNNState",
    "RNNStepGradients",
    "initial_weights",
    "named_activation",
    "rnn_step_backward",
    "rnn_step_forward",
]


# ---------------------------------------------------------------------------------------------------
# Activations


class Activation(NamedTuple):
    """A detector h = f(a) whose slope can be read off its value: a need not be kept.

    value: (xp, a) -> h.   slope: (xp, h) -> dh/da.
    """

    value: Callable[[ModuleType, Array], Array]
    slope: Callable[[ModuleType, Array], Array]


def _affine(alpha: float = 1.0, beta: float = 0.0) -> Activation:
    return Activation(lambda xp, a: alpha * a + beta, lambda xp, h: xp.full_like(h, alpha))


def _leaky_relu(alpha: float = 0.01) -> Activation:
    return Activation(
        lambda xp, a: xp.where(a > 0, a, alpha * a),
        lambda xp, h: xp.where(h > 0, 1.0, xp.full_like(h, alpha)),
    )


def _thresholded_relu(alpha: float = 1.0) -> Activation:
    return Activation(
        lambda xp, a: xp.where(a > alpha, a, xp.zeros_like(a)), lambda xp, h: xp.astype(h != 0, h.dtype)
    )


def _scaled_tanh(alpha: float = 1.0, beta: float = 1.0) -> Activation:
    return Activation(lambda xp, a: alpha * xp.tanh(beta * a), lambda xp, h: beta * (alpha - h * h / alpha))


def _hard_sigmoid(alpha: float = 0.2, beta: float = 0.5) -> Activation:
    return Activation(
        lambda xp, a: xp.clip(alpha * a + beta, 0.0, 1.0),
        lambda xp, h: xp.where((h > 0) & (h < 1), alpha, xp.zeros_like(h)),
    )


def _elu(alpha: float = 1.0) -> Activation:
    return Activation(
        lambda xp, a: xp.where(a > 0, a, alpha * xp.expm1(xp.where(a > 0, 0.0, a))),
        lambda xp, h: xp.where(h > 0, 1.0, h + alpha),
    )


TANH = Activation(lambda xp, a: xp.tanh(a), lambda xp, h: 1 - h * h)
RELU = Activation(lambda xp, a: xp.where(a > 0, a, xp.zeros_like(a)), lambda xp, h: xp.astype(h > 0, h.dtype))
IDENTITY = Activation(lambda xp, a: a, lambda xp, h: xp.ones_like(h))
# In float32 a tanh costs less than an exponential, and it never overflows.
SIGMOID = Activation(lambda xp, a: 0.5 * xp.tanh(0.5 * a) + 0.5, lambda xp, h: h * (1 - h))
SOFTSIGN = Activation(lambda xp, a: a / (1 + xp.abs(a)), lambda xp, h: (1 - xp.abs(h)) ** 2)
SOFTPLUS = Activation(
    lambda xp, a: RELU.value(xp, a) + xp.log1p(xp.exp(-xp.abs(a))), lambda xp, h: -xp.expm1(-h)
)

ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "tanh": lambda: TANH,
    "relu": lambda: RELU,
    "identity": lambda: IDENTITY,
    "sigmoid": lambda: SIGMOID,
    "affine": _affine,
    "leaky_relu": _leaky_relu,
    "thresholded_relu": _thresholded_relu,
    "scaled_tanh": _scaled_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "elu": _elu,
    "softsign": lambda: SOFTSIGN,
    "softplus": lambda: SOFTPLUS,
}


def named_activation(name: str | Activation, *numbers: float) -> Activation:
    """The activation of this name; numbers are its alpha and beta, as the ONNX operators have them.

    Raises ValueError for an unknown name, TypeError for more numbers than it takes.

    >>> float(named_activation("leaky_relu", 0.1).value(np, np.array(-2.0)))
    -0.2
    """
    if isinstance(name, Activation):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown, expected one of {tuple(ACTIVATIONS)}")
    try:
        return ACTIVATIONS[name](*numbers)
    except TypeError as error:
        raise TypeError(f"activation {name!r} does not take {len(numbers)} numbers: {numbers}") from error


def _clipped(inner: Activation, limit: float) -> Activation:
    """inner after a has been cut to [-limit, limit]: where it was cut, the slope is 0."""

    def slope(xp: ModuleType, h: Array) -> Array:
        low, high = (inner.value(xp, xp.full_like(h[..., :1], a)) for a in (-limit, limit))
        # torch's values of one a may differ in their last bit, as vectors and what is left over are computed
        slack = 4 * xp.finfo(h.dtype).eps * (xp.abs(low) + xp.abs(high))
        return xp.where((h - low > slack) & (high - h > slack), inner.slope(xp, h), xp.zeros_like(h))

    return Activation(lambda xp, a: inner.value(xp, xp.clip(a, -limit, limit)), slope)


# ---------------------------------------------------------------------------------------------------
# The plain cell


class RNNState(NamedTuple):
    """What a plain cell hands to its next step.  h: hidden state, which is also its output."""

    h: Float[Array, "N U"]


class RNNGradients(NamedTuple):
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
        if clip is not None and not clip > 0:
            raise ValueError(f"{function}: clip must be > 0, got {clip!r}; None does not clip")
        self.u, self.w, self.b, self.bw = u, w, b, bw
        chosen = named_activation(activation)
        self.activation = chosen if clip is None else _clipped(chosen, clip)
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
        self, x: Float[Array, "T N D"], before: RNNState, dz: Float[Array, "T N U"], *, inputs: bool = True
    ) -> RNNGradients:
        """Gradients of the input and the parameters, from the dz of any number of steps.

        before: the states that these steps began with, (T N U).   inputs: whether to give the gradient of x.
        """
        flat = rows_of(dz)
        db = self.xp.sum(flat, axis=0) if self.b is not None or self.bw is not None else None
        return RNNGradients(
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


class RNNStepCache(NamedTuple):
    """What rnn_step_backward needs."""

    cell: RNNCell
    x: Float[Array, "N D"]
    before: RNNState
    after: RNNState


def rnn_step_forward(
    x: Float[Array, "N D"],
    h: Float[Array, "N U"],
    u: Float[Array, "D U"],
    w: Float[Array, "U U"],
    b: Float[Array, " U"] | None = None,
    bw: Float[Array, " U"] | None = None,
    *,
    activation: str | Activation = "tanh",
) -> tuple[Float[Array, "N U"], RNNStepCache]:
    """One step of the plain cell: the next hidden state f(x u + h w + b + bw), and the cache.

    Implements eq-rnn-forward.

    x: this step's input.   h: hidden state before it.   u, w, b, bw, activation: as in RNNCell.
    Raises ShapeError or TypeError if the arrays do not fit.

    >>> rnn_step_forward(np.ones((4, 2)), np.zeros((4, 3)), np.ones((2, 3)), np.eye(3))[0].shape
    (4, 3)
    """
    function = "rnn_step_forward"
    namespace(x, h, u, w, b, bw, function=function, names=("x", "h", "u", "w", "b", "bw"))
    cell = RNNCell(u, w, b, bw, activation=activation, function=function)
    expect_axes(function, "x", x, "N D")
    expect_shape(function, "x", x, (x.shape[0], cell.features), f"u {tuple(u.shape)} takes its rows as input")
    expect_shape(function, "h", h, (x.shape[0], cell.units), "one row for each of x, one column per unit")
    before = RNNState(h)
    after, _ = cell.step(cell.project(x), before)
    return after.h, RNNStepCache(cell, x, before, after)


def rnn_step_backward(dh: Float[Array, "N U"], cache: RNNStepCache) -> RNNStepGradients:
    """Gradients of one step.   dh: gradient of the loss by the state after it, from wherever it is used.

    Implements eq-rnn-step-backward.
    Raises ShapeError unless dh has the shape of that state.
    """
    cell, x, before, after = cache
    namespace(dh, after.h, function="rnn_step_backward", names=("dh", "h"))
    expect_shape("rnn_step_backward", "dh", dh, after.h.shape, "the shape of the state after the step")
    dz, dbefore = cell.step_backward(RNNState(dh), before, after)
    dx, *weights = cell.gradients(x, before, dz)
    return RNNStepGradients(dx, dbefore.h, *weights)


# ---------------------------------------------------------------------------------------------------
# Weights to start with


def orthogonal(rng: np.random.Generator, units: int) -> np.ndarray:
    """A random rotation or reflection, uniformly distributed: keeps every length.  saxe2014exact."""
    q, r = np.linalg.qr(rng.normal(size=(units, units)))
    return q * np.sign(np.diag(r))


def identity(rng: np.random.Generator, units: int) -> np.ndarray:
    """The identity: with rectifiers, a state that stays what it is until the input says so.  le2015simple."""
    return np.eye(units)


def square_glorot(rng: np.random.Generator, units: int) -> np.ndarray:
    """Uniform with variance 1 / units, so that lengths are kept on average.  glorot2010."""
    return glorot(rng, (units, units), units, units)


def uniform(rng: np.random.Generator, units: int) -> np.ndarray:
    """Uniform between -1 and 1 over the root of units, torch's default: variance 1 / (3 units)."""
    return rng.uniform(-1, 1, (units, units)) / math.sqrt(units)


RECURRENT_INITIALISERS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "glorot": square_glorot,
    "orthogonal": orthogonal,
    "identity": identity,
    "uniform": uniform,
}


def initial_weights(
    features: int,
    units: int,
    *,
    recurrent: str = "orthogonal",
    gain: float = 1.0,
    rng: np.random.Generator,
    dtype: DTypeLike = "float32",
) -> dict[str, Any]:
    """Parameters u, w and b of a plain cell: u after Glorot, w by the named initialiser times gain, b zero.

    recurrent: "glorot", "orthogonal", "identity" or "uniform".
    Raises ValueError for another name, TypeError if rng is no generator.

    >>> {k: p.shape for k, p in initial_weights(2, 3, rng=np.random.default_rng(0)).items()}
    {'u': (2, 3), 'w': (3, 3), 'b': (3,)}
    """
    if recurrent not in RECURRENT_INITIALISERS:
        names = tuple(RECURRENT_INITIALISERS)
        raise ValueError(f"initial_weights: recurrent {recurrent!r} is unknown, expected one of {names}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"initial_weights: rng must be a numpy.random.Generator such as default_rng(0), got {rng!r}"
        )
    u = glorot(rng, (features, units), features, units)
    w = gain * RECURRENT_INITIALISERS[recurrent](rng, units)
    return {"u": u.astype(dtype), "w": w.astype(dtype), "b": np.zeros(units, dtype)}
