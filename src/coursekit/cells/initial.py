"""Weights that recurrent cells start with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from coursekit.arrays import Array
from coursekit.cells.gru import expect_reset
from coursekit.cells.lstm import lstm_blocks
from coursekit.layers import glorot

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import DTypeLike

__all__ = ["RECURRENT_INITIALISERS", "initial_gru_weights", "initial_lstm_weights", "initial_weights"]


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
    _expect_start("initial_weights", recurrent, rng)
    return _drawn(features, units, 1, recurrent, gain, rng, dtype)


def initial_lstm_weights(
    features: int,
    units: int,
    *,
    forget_bias: float = 1.0,
    gates: str = "ifo",
    coupled: str | None = None,
    peepholes: bool = False,
    recurrent: str = "orthogonal",
    gain: float = 1.0,
    rng: np.random.Generator,
    dtype: DTypeLike = "float32",
) -> dict[str, Any]:
    """Parameters u, w and b of an LSTM, every block drawn as in initial_weights; with peepholes, p is zero.

    forget_bias: the offsets that the forget gate starts with.  With i = 1 - f they are what it is.  Where
    f = 1 - i, the input gate starts with the negative; where there is no forget gate, it has no effect.
    gates, coupled: as in LSTMCell.   recurrent, gain: as in initial_weights.
    Raises ValueError for an unknown option, TypeError if rng is no generator.
    Source: gers2000learning; jozefowicz2015empirical (bias of the forget gate).

    >>> drawn = initial_lstm_weights(2, 3, rng=np.random.default_rng(0))
    >>> {k: p.shape for k, p in drawn.items()}, drawn["b"][3:6]
    ({'u': (2, 12), 'w': (3, 12), 'b': (12,)}, array([1., 1., 1.], dtype=float32))
    """
    _expect_start("initial_lstm_weights", recurrent, rng)
    blocks = lstm_blocks(gates, coupled, "initial_lstm_weights")
    drawn = _drawn(features, units, len(blocks), recurrent, gain, rng, dtype)
    set_forget_bias(drawn["b"], forget_bias, blocks, coupled)
    if peepholes:
        drawn["p"] = np.zeros((len(blocks) - 1, units), dtype)
    return drawn


def set_forget_bias(b: Float[Array, " G*U"], value: float, blocks: str, coupled: str | None) -> None:
    """Write the forget gate's offsets into b; where f = 1 - i, into the block of i, with the other sign."""
    block, sign = ("i", -1) if coupled == "input" else ("f", 1)
    if block in blocks:
        units = len(b) // len(blocks)
        start = blocks.index(block) * units
        b[start : start + units] = sign * value


def initial_gru_weights(
    features: int,
    units: int,
    *,
    reset: str = "after",
    recurrent: str = "orthogonal",
    gain: float = 1.0,
    rng: np.random.Generator,
    dtype: DTypeLike = "float32",
) -> dict[str, Any]:
    """Parameters u, w and b of a GRU, every block drawn as in initial_weights.

    reset: as in GRUCell.  After the product, there is also bw, zero: it is more than a second b then.
    Raises ValueError for an unknown name, TypeError if rng is no generator.

    >>> {k: p.shape for k, p in initial_gru_weights(2, 3, rng=np.random.default_rng(0)).items()}
    {'u': (2, 9), 'w': (3, 9), 'b': (9,), 'bw': (9,)}
    """
    _expect_start("initial_gru_weights", recurrent, rng)
    expect_reset("initial_gru_weights", reset)
    drawn = _drawn(features, units, 3, recurrent, gain, rng, dtype)
    return drawn | ({"bw": np.zeros(3 * units, dtype)} if reset == "after" else {})


def _expect_start(function: str, recurrent: str, rng: Any) -> None:
    if recurrent not in RECURRENT_INITIALISERS:
        names = tuple(RECURRENT_INITIALISERS)
        raise ValueError(f"{function}: recurrent {recurrent!r} is unknown, expected one of {names}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"{function}: rng must be a numpy.random.Generator such as default_rng(0), got {rng!r}"
        )


def _drawn(
    features: int,
    units: int,
    blocks: int,
    recurrent: str,
    gain: float,
    rng: np.random.Generator,
    dtype: DTypeLike,
) -> dict[str, Any]:
    u, w = [], []
    for _ in range(blocks):
        u.append(glorot(rng, (features, units), features, units))
        w.append(gain * RECURRENT_INITIALISERS[recurrent](rng, units))
    return {
        "u": np.concatenate(u, axis=1).astype(dtype),
        "w": np.concatenate(w, axis=1).astype(dtype),
        "b": np.zeros(blocks * units, dtype),
    }
