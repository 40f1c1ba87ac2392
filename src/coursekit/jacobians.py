"""What a recurrent net does to its gradients over time: Jacobians of one step and of many, and their size.

A trajectory is the cache of `coursekit.recurrent.unroll`, so that everything here works for any cell: a
Jacobian is found by sending unit vectors backward through the cell's own `step_backward`.  In the row-vector
convention of the course, entry (i, j) of a Jacobian says how number j of the state after a step changes with
number i of the state before it, and the Jacobian of many steps is their product from left to right in time.
If the state consists of several arrays, its numbers are counted through all of them, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from array_api_compat import array_namespace, device

from coursekit.arrays import Array, ShapeError, expect_shape
from coursekit.recurrent import Trace

if TYPE_CHECKING:
    from jaxtyping import Float

    from coursekit.recurrent.unrolling import State

__all__ = ["lag_jacobians", "lyapunov_exponents", "singular_values", "state_gradients", "step_jacobians"]


def step_jacobians(trace: Trace) -> Float[Array, "T N S S"]:
    """The Jacobian of every step of a trajectory; for the plain cell, W diag(slope at this step).

    Implements eq-longterm-jacobian.

    trace: the cache of unroll.   S: numbers in the state, U for the plain cell.
    Costs S backward steps for each step of the trajectory.

    >>> import numpy as np
    >>> from coursekit.recurrent import rnn_forward
    >>> w = np.array([[0.0, 2.0], [-2.0, 0.0]])
    >>> _, trace = rnn_forward(np.zeros((3, 1, 2)), np.eye(2), w)
    >>> bool((step_jacobians(trace)[0, 0] == w).all())  # at h = 0 the slope of tanh is 1
    True
    """
    xp, first = trace.cell.xp, _at(trace.states, 0)
    size = sum(a.shape[-1] for a in first)
    like = {"dtype": first[0].dtype, "device": device(first[0])}
    units = [_split(unit, first) for unit in xp.eye(size, **like)]
    columns = [[_join(xp, _back(trace, t, unit)) for unit in units] for t in range(len(trace.saved))]
    if not columns:
        return xp.zeros((0, first[0].shape[0], size, size), **like)
    return xp.stack([xp.stack(column, axis=-1) for column in columns])


def lag_jacobians(jacobians: Float[Array, "T N S S"]) -> Float[Array, "T+1 N S S"]:
    """The Jacobian of the last k steps together, for k = 0 to T: d(last state) / d(state k steps before it).

    Implements eq-longterm-product.   jacobians: of every step, as step_jacobians gives them.
    """
    _expect_square("lag_jacobians", jacobians)
    xp = array_namespace(jacobians)
    size = jacobians.shape[-1]
    unit = xp.eye(size, dtype=jacobians.dtype, device=device(jacobians))
    products = [xp.broadcast_to(unit, jacobians.shape[1:])]
    for t in reversed(range(jacobians.shape[0])):
        products.append(jacobians[t, ...] @ products[-1])
    return xp.stack(products)


def singular_values(jacobians: Float[Array, "... S S"]) -> Float[Array, "... S"]:
    """By how much each Jacobian stretches, from its best direction to its worst.

    A value that is below S times the rounding error of the largest one is rounding itself, and is given as
    nan: a long product has such values, and no digit of them is right.

    >>> import numpy as np
    >>> singular_values(np.array([[0.0, 2.0], [0.5, 0.0]]))
    array([2. , 0.5])
    """
    _expect_square("singular_values", jacobians)
    xp = array_namespace(jacobians)
    values = xp.linalg.svdvals(jacobians)
    floor = values.shape[-1] * xp.finfo(values.dtype).eps * values[..., :1]
    return xp.where(values > floor, values, xp.nan)


def lyapunov_exponents(jacobians: Float[Array, "T N S S"]) -> Float[Array, "N S"]:
    """The mean growth per step, as a natural logarithm, of the product's singular values in falling order.

    Re-orthogonalises after every step (QR), so that small exponents are found as exactly as large ones and
    nothing overflows.  Their sum is the mean of log |det|.  A direction that is lost altogether gives -inf.
    Implements eq-longterm-lyapunov.

    >>> import numpy as np
    >>> lyapunov_exponents(np.broadcast_to(np.diag([0.5, 2.0]), (400, 1, 2, 2))).round(2)
    array([[ 0.69, -0.69]])
    """
    _expect_square("lyapunov_exponents", jacobians)
    xp = array_namespace(jacobians)
    T, N, size = jacobians.shape[:3]
    if T == 0:
        raise ValueError("lyapunov_exponents: no steps to average over, jacobians has T = 0")
    unit = xp.eye(size, dtype=jacobians.dtype, device=device(jacobians))
    frame = xp.broadcast_to(unit, (N, size, size))
    total = xp.zeros((N, size), dtype=jacobians.dtype, device=device(jacobians))
    for t in reversed(range(T)):
        frame, r = xp.linalg.qr(jacobians[t, ...] @ frame)
        total = total + _log_diagonal(xp, r)
    return xp.flip(xp.sort(total / T, axis=-1), axis=-1)


def state_gradients(trace: Trace, dlast: State) -> State:
    """The gradient of a loss on the last state, by every state of the trajectory, the initial one first.

    Implements eq-longterm-adjoint.   dlast: gradient by the last state.
    Costs one backward step for each step, S times less than the Jacobians.
    """
    xp, gradients = trace.cell.xp, [type(trace.states)(*dlast)]
    for name, given, own in zip(trace.states._fields, dlast, _at(trace.states, -1), strict=True):
        expect_shape("state_gradients", f"dlast.{name}", given, own.shape, "the shape of the last state")
    for t in reversed(range(len(trace.saved))):
        gradients.append(_back(trace, t, gradients[-1]))
    return type(trace.states)(*(xp.stack(list(steps[::-1])) for steps in zip(*gradients, strict=True)))


def _back(trace: Trace, t: int, dafter: State) -> State:
    """The gradient by the state before step t; a sequence that has ended hands it on as it is."""
    xp, before, after = trace.cell.xp, _at(trace.states, t), _at(trace.states, t + 1)
    _, dbefore = trace.cell.step_backward(dafter, before, after, trace.saved[t])
    if trace.inside is None:
        return dbefore
    pairs = zip(dbefore, dafter, strict=True)
    return type(dbefore)(*(xp.where(trace.inside[t, ...], a, b) for a, b in pairs))


def _at(states: State, t: int) -> State:
    return type(states)(*(a[t, ...] for a in states))


def _split(numbers: Float[Array, " S"], state: State) -> State:
    """A vector cut into the arrays of a state, the same for every sequence of the batch."""
    xp, parts, start = array_namespace(numbers), [], 0
    for a in state:
        parts.append(xp.broadcast_to(numbers[start : start + a.shape[-1]], a.shape))
        start += a.shape[-1]
    return type(state)(*parts)


def _join(xp, state: State) -> Float[Array, "N S"]:
    return state[0] if len(state) == 1 else xp.concat(list(state), axis=-1)


def _log_diagonal(xp, r: Float[Array, "N S S"]) -> Float[Array, "N S"]:
    sizes = xp.abs(xp.linalg.diagonal(r))
    lost = sizes == 0
    return xp.where(lost, -xp.inf, xp.log(xp.where(lost, xp.ones_like(sizes), sizes)))


def _expect_square(function: str, jacobians: Array) -> None:
    if jacobians.ndim < 2 or jacobians.shape[-1] != jacobians.shape[-2]:
        raise ShapeError(
            f"{function}: jacobians has shape {tuple(jacobians.shape)}, expected square matrices in the last "
            "two axes; step_jacobians gives them"
        )
