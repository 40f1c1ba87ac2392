"""One step of any cell as a pair of functions, with the checks that a single step needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from coursekit.arrays import Array, expect_axes, expect_shape, namespace

if TYPE_CHECKING:
    from jaxtyping import Float

State = Any  # a NamedTuple of arrays (N U)


class StepCache(NamedTuple):
    """What step_backward needs: the cell, its input, the states around the step, and what it kept."""

    cell: Any
    x: Float[Array, "N D"]
    before: State
    after: State
    saved: tuple


def step_forward(function: str, cell: Any, x: Float[Array, "N D"], before: State) -> tuple[State, StepCache]:
    """The state after one step, and the cache, once x and the state before are known to fit the cell."""
    namespace(x, *before, cell.w, function=function, names=("x", *before._fields, "w"))
    expect_axes(function, "x", x, "N D")
    rows = x.shape[0]
    expect_shape(function, "x", x, (rows, cell.features), f"u {tuple(cell.u.shape)} takes its rows as input")
    for name, array, zero in zip(before._fields, before, cell.initial(x[None]), strict=True):
        expect_shape(function, name, array, zero.shape, "one row for each of x, one column per unit")
    after, saved = cell.step(cell.project(x), before)
    return after, StepCache(cell, x, before, after, saved)


def step_backward(function: str, dafter: State, cache: StepCache) -> tuple[Any, State]:
    """The cell's gradients over this one step, and those of the state before it."""
    cell, x, before, after, saved = cache
    for name, given, state in zip(after._fields, dafter, after, strict=True):
        namespace(given, state, function=function, names=(f"d{name}", name))
        expect_shape(function, f"d{name}", given, state.shape, "the shape of the state after the step")
    dz, dbefore = cell.step_backward(dafter, before, after, saved)
    return cell.gradients(x, before, after, dz), dbefore
