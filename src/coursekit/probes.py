"""Linear probes: what can be read off a state with one matrix, measured on examples that the fit never saw.

A probe finds only what lies in the state as a weighted sum.  What it does not find may be there all the same,
in another form; what it does find is there for certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coursekit.arrays import Array, ShapeError, expect_axes, expect_shape, namespace, rows_of

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Probe", "fit_probe", "lag_r_squared", "r_squared"]


class Probe(NamedTuple):
    """A linear readout y = h v + c."""

    v: Float[Array, "U K"]
    c: Float[Array, " K"]

    def __call__(self, h: Float[Array, "... U"]) -> Float[Array, "... K"]:
        return h @ self.v + self.c


def fit_probe(h: Float[Array, "M U"], y: Float[Array, "M K"]) -> Probe:
    """The linear readout of h that comes closest to y, by least squares.

    Implements eq-state-probe.  Units that say nothing new (dead, or copies of others) do no harm: of all best
    readouts it is the one with the smallest weights.
    h: states, one row for each example.   y: what is to be read off them.
    Raises ShapeError unless h and y are tables with as many rows as each other, ValueError without rows.
    Source: alain2017understanding.

    >>> h = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]])
    >>> probe = fit_probe(h, 3 * h[:, :1] + 1)
    >>> probe.v.round(6) + 0.0, probe.c.round(6)
    (array([[3.],
           [0.]]), array([1.]))
    """
    xp = _expect_tables("fit_probe", h, y, ("h", "y"))
    h_mean, y_mean = xp.mean(h, axis=0), xp.mean(y, axis=0)
    rounding = h.shape[1] * xp.finfo(h.dtype).eps
    v = xp.linalg.pinv(h - h_mean, rtol=rounding) @ (y - y_mean)
    return Probe(v, y_mean - h_mean @ v)


def r_squared(y: Float[Array, "M K"], prediction: Float[Array, "M K"]) -> Float[Array, " K"]:
    """The share of each column's variance that a prediction explains, 1 if it is exact.

    Implements eq-state-r2.  Always answering the mean scores 0, and something worse is negative; a column
    that does not vary has no share to explain, and is nan.

    >>> y = np.array([[0.0], [1.0], [2.0]])
    >>> r_squared(y, y), r_squared(y, np.ones((3, 1))), r_squared(y, y[::-1])
    (array([1.]), array([0.]), array([-3.]))
    """
    xp = _expect_tables("r_squared", y, prediction, ("y", "prediction"))
    expect_shape("r_squared", "prediction", prediction, y.shape, "the shape of y")
    spread = xp.sum((y - xp.mean(y, axis=0)) ** 2, axis=0)
    varies = spread > 0
    missed = xp.sum((y - prediction) ** 2, axis=0) / xp.where(varies, spread, xp.ones_like(spread))
    return xp.where(varies, 1 - missed, xp.full_like(missed, xp.nan))


def lag_r_squared(
    h: Float[Array, "T N U"],
    x: Float[Array, "T N D"],
    lags: Sequence[int],
    *,
    fitted: int,
    start: int | None = None,
) -> Float[Array, "lags D"]:
    """How well a linear probe recovers the input of k steps ago from the state: R^2 for each lag k.

    The probes are fitted to the first `fitted` sequences and scored on the others: steps of one sequence
    resemble each other, so a part of its steps would be no test.
    h, x: states and inputs of the same steps.   lags: steps, 0 for the input that was just read.
    fitted: sequences, at least 1, fewer than N.   start: first step whose state is probed, the same for all
    lags; by default the largest lag.
    Computes in float64, so that a faint trace counts like a loud one; returns the dtype of h.
    Raises ShapeError or ValueError if they do not fit each other.

    >>> x = np.random.default_rng(0).normal(size=(9, 50, 1))
    >>> h = np.concatenate([x, np.roll(x, 2, axis=0)], axis=2)  # a state that holds x(t) and x(t - 2)
    >>> lag_r_squared(h, x, [0, 2], fitted=30)[:, 0].round(6)
    array([1., 1.])
    """
    xp = namespace(h, x, function="lag_r_squared", names=("h", "x"))
    expect_axes("lag_r_squared", "h", h, "T N U")
    expect_axes("lag_r_squared", "x", x, "T N D")
    lags, start = _expect_lags(h, x, lags, fitted, start)
    T, dtype = h.shape[0], h.dtype
    states = xp.astype(h[start:], xp.float64)
    past = xp.astype(xp.concat([x[start - k : T - k] for k in lags], axis=2), xp.float64)
    probe = fit_probe(rows_of(states[:, :fitted]), rows_of(past[:, :fitted]))
    shares = r_squared(rows_of(past[:, fitted:]), probe(rows_of(states[:, fitted:])))
    return xp.astype(xp.reshape(shares, (len(lags), x.shape[2])), dtype)


def _expect_tables(function: str, a: Array, b: Array, names: tuple[str, str]):
    xp = namespace(a, b, function=function, names=names)
    for name, array in zip(names, (a, b), strict=True):
        if array.ndim != 2:
            raise ShapeError(
                f"{function}: {name} has shape {tuple(array.shape)}, expected a table with one row for each "
                "example; reshape steps and sequences to one axis"
            )
    if a.shape[0] != b.shape[0]:
        raise ShapeError(
            f"{function}: {names[0]} {tuple(a.shape)} and {names[1]} {tuple(b.shape)} differ in their rows"
        )
    if a.shape[0] == 0:
        raise ValueError(f"{function}: {names[0]} has no rows")
    return xp


def _expect_lags(
    h: Array, x: Array, lags: Sequence[int], fitted: int, start: int | None
) -> tuple[list[int], int]:
    T, N = h.shape[:2]
    expect_shape("lag_r_squared", "x", x, (T, N, x.shape[2]), "the steps and sequences of h")
    lags = [int(k) for k in np.asarray(lags).ravel()]
    if not lags or min(lags) < 0:
        raise ValueError(f"lag_r_squared: lags must be one or more numbers of steps, 0 or above, got {lags}")
    start = max(lags) if start is None else start
    if not max(lags) <= start < T:
        raise ValueError(
            f"lag_r_squared: start {start} with a largest lag of {max(lags)} in {T} steps; "
            "take longer sequences, or a start from the largest lag to the last step"
        )
    if not 0 < fitted < N:
        raise ValueError(f"lag_r_squared: fitted={fitted} of {N} sequences; some must be left to be scored")
    return lags, start
