"""Backpropagation through time in less memory: full, truncated, and with states computed a second time.

Full backpropagation keeps the state after every step.  Truncated backpropagation keeps the last few and gives
another gradient.  Checkpointed backpropagation keeps a few and gives the same gradient, bit for bit: it runs
steps again from the nearest state that was kept, as a `Plan` says.

The loss comes from a *head*, which sees the outputs of a few steps at a time and answers with their share of
the loss and its gradient, so that nothing of all steps is ever in memory at once but the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from coursekit.arrays import (
    Array,
    expect_axes,
    expect_shape,
    namespace,
    per_axis,
    rows_of,
    stack,
    unstack,
)
from coursekit.losses import cross_entropy_backward, cross_entropy_forward
from coursekit.recurrent.unrolling import State, expect_sequence, go_back, stack_states, zeros_like

if TYPE_CHECKING:

    from jaxtyping import Float, Int

__all__ = [
    "Action",
    "BPTT",
    "Plan",
    "SoftmaxHead",
    "bptt",
    "checkpoint_plan",
    "checkpointed_bptt",
    "full_plan",
    "root_plan",
    "truncated_bptt",
]

# (t0, h) -> (loss, dh): outputs h of the steps t0, t0 + 1, ...; what they add to the loss, and its gradient
Head = Callable[[int, Array], tuple[Any, Array]]


class BPTT(NamedTuple):
    """A loss over a sequence and its gradients, and what they cost.

    gradients: of the cell, as its `gradients` gives them; dx is None if it was not asked for.
    last: state after the last step.   dstate: gradient by the state before the first.
    forward_steps: steps computed, repeated ones included.
    stored_states: most states held at the same time, the one before the first step not counted.
    """

    loss: Any
    gradients: Any
    last: State
    dstate: State
    forward_steps: int
    stored_states: int


# ---------------------------------------------------------------------------------------------------
# Which states to keep


class Action(NamedTuple):
    """Steps start ... stop - 1, from the state before them, which is at hand.

    kind: "advance" runs them and keeps the last state only; "back" runs them, keeps all states, goes back
    through them and gives all of them free.
    """

    kind: str
    start: int
    stop: int


class Plan(NamedTuple):
    """A schedule of backpropagation through time, and what it costs.

    block: steps that are worked on as one piece; every action begins at a multiple of it.
    forward_steps, stored_states: as in BPTT.
    """

    steps: int
    block: int
    actions: tuple[Action, ...]
    forward_steps: int
    stored_states: int


def full_plan(steps: int, *, block: int = 1) -> Plan:
    """Keep every state and compute each once.

    >>> full_plan(7).actions
    (Action(kind='back', start=0, stop=7),)
    """
    steps, block = _sizes("full_plan", steps, block)
    return _plan(steps, block, [Action("back", 0, steps)] if steps else [])


def root_plan(steps: int, *, block: int = 1) -> Plan:
    """Keep one state in about the root of the number of steps; run each stretch between them a second time.

    Source: chen2016training.

    >>> plan = root_plan(100)
    >>> plan.forward_steps, plan.stored_states
    (190, 19)
    """
    steps, block = _sizes("root_plan", steps, block)
    stretch = block * math.ceil(math.sqrt(math.ceil(steps / block)))
    starts = list(range(0, steps, stretch)) if steps else []
    advances = [Action("advance", start, start + stretch) for start in starts[:-1]]
    backs = [Action("back", start, min(start + stretch, steps)) for start in reversed(starts)]
    return _plan(steps, block, advances + backs)


def checkpoint_plan(steps: int, slots: int, *, block: int = 1) -> Plan:
    """The plan with the fewest forward steps among those that hold at most so many states at a time.

    Implements eq-bptt-policy.  Finding it takes about steps^2 slots / (2 block^2) additions, once.

    steps: T.   slots: states that there is room for, beside the one before the first step.
    Raises ValueError unless slots > block, or slots >= steps.
    Source: gruslys2016memory.

    >>> [checkpoint_plan(1000, slots).forward_steps for slots in (10, 50, 1000)]
    [4265, 1977, 1000]
    """
    function = "checkpoint_plan"
    steps, block = _sizes(function, steps, block)
    (slots,) = per_axis(slots, 1, f"{function}: slots", 1)
    if slots >= steps:
        return full_plan(steps, block=block)
    if slots <= block:
        raise ValueError(
            f"{function}: {slots} slots are too few for {steps} steps, expected at least {block + 1}: "
            f"those of one block of {block} steps, and one to come back to"
        )
    actions = [
        Action(kind, start * block, min(stop * block, steps))
        for kind, start, stop in _optimal_actions(math.ceil(steps / block), slots, block)
    ]
    return _plan(steps, block, actions)


def _optimal_actions(blocks: int, slots: int, block: int) -> Iterator[tuple[str, int, int]]:
    """Actions in blocks.  What is pushed last is done first: the later part, then the earlier one."""
    split = _splits(blocks, slots, block)
    waiting = [(0, blocks, slots)]
    while waiting:
        start, count, room = waiting.pop()
        middle = start + int(split[room, count])
        if middle == start:
            yield "back", start, start + count
        else:
            yield "advance", start, middle
            waiting += [(start, middle - start, room), (middle, start + count - middle, room - 1)]


@cache
def _splits(blocks: int, slots: int, block: int) -> Int[np.ndarray, "slots+1 blocks+1"]:
    """How far to advance before the next state is kept, by free slots and blocks to go; 0 where all fit."""
    cost = np.full((slots + 1, blocks + 1), np.inf)
    cost[:, 0] = 0
    split = np.zeros(cost.shape, dtype=int)
    for t in range(1, blocks + 1):
        room = min(t * block, slots + 1)  # from here on all states fit
        cost[room:, t] = t
        if t > 1:
            choices = np.arange(1, t) + cost[: room - 1, t - 1 : 0 : -1] + cost[1:room, 1:t]
            split[1:room, t] = 1 + np.argmin(choices, axis=1)
            cost[1:room, t] = np.min(choices, axis=1)
    return split


def _plan(steps: int, block: int, actions: list[Action]) -> Plan:
    """The plan with its costs, counted."""
    kept, most = set(), 0
    for kind, start, stop in actions:
        if kind == "advance":
            kept.add(stop)
            most = max(most, len(kept))
        else:
            most = max(most, len(kept) + stop - start)
            kept.discard(start)
    forward_steps = sum(stop - start for _, start, stop in actions)
    return Plan(steps, block, tuple(actions), forward_steps, most)


def _sizes(function: str, steps: int, block: int) -> tuple[int, int]:
    return per_axis(steps, 1, f"{function}: steps", 0) + per_axis(block, 1, f"{function}: block", 1)


# ---------------------------------------------------------------------------------------------------
# The whole gradient


def bptt(
    cell: Any,
    x: Float[Array, "T N D"],
    head: Head,
    state: State | None = None,
    *,
    block: int = 1,
    inputs: bool = True,
) -> BPTT:
    """Full backpropagation through time: every state is kept.

    Implements eq-bptt-state and eq-bptt-weights.

    cell: of coursekit.cells.   x: one input per step.   state: before the first step, zero by default.
    head: called with t0 and the outputs h of a block of steps from t0 on; gives the loss of these steps and
    its gradient dh.  Blocks come from the last to the first.  Where sequences have ended, dh must be zero.
    block: steps that go through the head, and through the products for all weights, together.
    inputs: whether to give the gradient of x.
    With torch, no array may require gradients, or autograd keeps all that is computed here.
    Raises ShapeError or TypeError if arrays do not fit.
    Source: werbos1990backpropagation.
    """
    state = expect_sequence("bptt", cell, x, state)
    return _follow("bptt", full_plan(x.shape[0], block=block), cell, x, head, state, inputs)


def checkpointed_bptt(
    cell: Any,
    x: Float[Array, "T N D"],
    head: Head,
    state: State | None = None,
    *,
    slots: int | None = None,
    block: int = 1,
    inputs: bool = True,
) -> BPTT:
    """Full backpropagation through time with few states in memory: the others are computed again.

    Loss and gradients equal those of bptt with the same block in every bit, since each block goes through the
    same operations on arrays of the same shapes, and blocks are added in the same order.

    slots: states to keep at most, used as checkpoint_plan says; by default about twice the root of T, used as
    root_plan says.   cell, x, head, state, block, inputs: as in bptt; the head is called once for a block.
    Raises as bptt and checkpoint_plan do.
    Source: chen2016training; gruslys2016memory.
    """
    function = "checkpointed_bptt"
    state = expect_sequence(function, cell, x, state)
    steps = x.shape[0]
    plan = root_plan(steps, block=block) if slots is None else checkpoint_plan(steps, slots, block=block)
    return _follow(function, plan, cell, x, head, state, inputs)


def _follow(function: str, plan: Plan, cell: Any, x: Array, head: Head, state: State, inputs: bool) -> BPTT:
    """Do what the plan says, and count what it costs."""
    total, dstate, last = _Total(cell, x, inputs), zeros_like(cell.xp, state), state
    kept, forward_steps, most = {0: state}, 0, 0
    for kind, start, stop in plan.actions:
        forward_steps += stop - start
        if kind == "advance":
            for after, _ in _steps(cell, x[start:stop], kept[start], plan.block):
                kept[stop] = after
            most = max(most, len(kept) - 1)
            continue
        states, saved = _record(cell, x[start:stop], kept[start], plan.block)
        most = max(most, len(kept) - 1 + len(saved))
        if stop == plan.steps:
            last = states[-1]
        for t in reversed(range(start, stop, plan.block)):  # the last block may be shorter
            block = slice(t - start, t - start + plan.block)
            begun = states[block.start : block.stop + 1]
            loss, dh = _ask(function, head, t, _outputs(begun))
            part = x[t : t + len(begun) - 1]
            gradients, dstate = _back(cell, part, begun, saved[block], dh, dstate, inputs)
            total.add(t, loss, gradients)
        if start:
            del kept[start]
    return BPTT(total.loss, total.gradients(), last, dstate, forward_steps, most)


# ---------------------------------------------------------------------------------------------------
# A part of the gradient


def truncated_bptt(
    cell: Any,
    x: Float[Array, "T N D"],
    head: Head,
    state: State | None = None,
    *,
    k1: int,
    k2: int | None = None,
    update: Callable[[Any], Any] | None = None,
    inputs: bool = True,
) -> BPTT:
    """Truncated backpropagation through time: after every k1 steps, go back through the last k2 of them.

    The state is carried on from piece to piece; the gradient is not.  The losses of a piece of k1 steps reach
    its own steps and the k2 - k1 before it, and nothing earlier.

    k1: steps from one update to the next; the last piece may be shorter.   k2: steps to go back, >= k1; by
    default k1, which cuts the sequence into chunks.
    update: called with the cell's gradients after each piece; what it returns is the cell to go on with.
    head: called with the k1 steps of each piece, from the first to the last.
    cell, x, state, inputs: as in bptt.   gradients of the result: the sum over all pieces.
    Raises ValueError if k2 < k1; otherwise as bptt does.
    Source: williams1990efficient, where this is BPTT(k2; k1).
    """
    function = "truncated_bptt"
    (k1,) = per_axis(k1, 1, f"{function}: k1", 1)
    (k2,) = per_axis(k1 if k2 is None else k2, 1, f"{function}: k2", 1)
    if k2 < k1:
        raise ValueError(f"{function}: k2 is {k2}, expected >= k1, {k1}: else some steps get no gradient")
    last = expect_sequence(function, cell, x, state)
    total, dstate = _Total(cell, x, inputs), zeros_like(cell.xp, last)
    states, saved, most = [last], [], 0
    for start in range(0, x.shape[0], k1):
        stop = min(start + k1, x.shape[0])
        begin = max(0, start - (k2 - k1))
        drop = len(saved) - (start - begin)  # states that the next backward pass does not reach
        states, saved = states[drop:], saved[drop:]
        new, kept = _record(cell, x[start:stop], last, k1)
        states, saved, last = states + new[1:], saved + kept, new[-1]
        most = max(most, len(states) - (begin == 0))
        loss, dh = _ask(function, head, start, _outputs(new))
        cut = zeros_like(cell.xp, last)
        gradients, reached = _back(cell, x[begin:stop], states, saved, dh, cut, inputs)
        if begin == 0:
            dstate = _add(dstate, reached)
        total.add(begin, loss, gradients)
        cell = cell if update is None else _updated(function, update(gradients))
    return BPTT(total.loss, total.gradients(), last, dstate, x.shape[0], most)


# ---------------------------------------------------------------------------------------------------
# Stretches of steps


def _steps(cell: Any, x: Array, state: State, block: int) -> Iterator[tuple[State, tuple]]:
    """After every step its state and what it saved.  A block of inputs is projected at a time."""
    for t in range(0, x.shape[0], block):
        for z in unstack(cell.project(x[t : t + block])):
            state, kept = cell.step(z, state)
            yield state, kept


def _record(cell: Any, x: Array, state: State, block: int) -> tuple[list[State], list[tuple]]:
    """All states, the one before the first step included, and what every step saved."""
    after, saved = zip(*_steps(cell, x, state, block), strict=True)
    return [state, *after], list(saved)


def _back(
    cell: Any, x: Array, states: list[State], saved: list[tuple], dh: Array, dstate: State, inputs: bool
) -> tuple[Any, State]:
    """Gradients of some steps in a row, and of the state before them.

    dh: gradient by the outputs of the last len(dh) of them.   dstate: gradient by the state after them.
    """
    upstream = [None] * (len(saved) - dh.shape[0]) + unstack(dh)
    everywhere = [None] * len(saved)
    return go_back(cell, x, stack_states(states), saved, upstream, dstate, everywhere, inputs=inputs)


class _Total:
    """The loss and the gradients of pieces, added up in the order in which they come."""

    def __init__(self, cell: Any, x: Array, inputs: bool) -> None:
        self.loss: Any = 0.0
        self.dx = cell.xp.zeros_like(x) if inputs else None
        start = cell.initial(x)
        self.sum, _ = go_back(cell, x[:0], stack_states([start]), [], [], start, [], inputs=False)

    def add(self, start: int, loss: Any, gradients: Any) -> None:
        self.loss = self.loss + loss
        if self.dx is not None:
            self.dx[start : start + gradients.dx.shape[0]] += gradients.dx
        self.sum = _add(self.sum, gradients._replace(dx=None))

    def gradients(self) -> Any:
        return self.sum._replace(dx=self.dx)


def _add(one: Any, other: Any) -> Any:
    """The sum of two named tuples of arrays; None stays None."""
    return type(one)(*(None if a is None else a + b for a, b in zip(one, other, strict=True)))


def _outputs(states: list[State]) -> Float[Array, "T N U"]:
    return stack([state[0] for state in states[1:]])


def _updated(function: str, cell: Any) -> Any:
    if not hasattr(cell, "step_backward"):
        raise TypeError(f"{function}: update returned {cell!r}, expected the cell to go on with")
    return cell


def _ask(function: str, head: Head, t0: int, h: Array) -> tuple[Any, Array]:
    loss, dh = head(t0, h)
    namespace(dh, h, function=function, names=("dh of the head", "h"))
    expect_shape(function, "dh of the head", dh, h.shape, f"the shape of the outputs of t0 = {t0}")
    return loss, dh


# ---------------------------------------------------------------------------------------------------
# A head


class SoftmaxHead:
    """The mean cross-entropy of softmax(h v + c) and a label at every step, a head for bptt and its kin.

    Implements eq-rnn-output, eq-rnn-loss and eq-bptt-output.  dv and dc add up what every call gives, from
    zero on; use a new head for a new gradient.

    labels: class number of every step; one below 0 does not count, as where a sequence has ended.
    v, c: from U outputs to K scores; c may be None.
    Raises ShapeError or TypeError if they do not fit.

    >>> head = SoftmaxHead(np.zeros((7, 4), int), np.zeros((3, 5)))
    >>> loss, dh = head(2, np.ones((1, 4, 3)))  # step 2 of 7
    >>> round(7 * float(loss), 4), dh.shape  # log(5)
    (1.6094, (1, 4, 3))
    """

    def __init__(
        self, labels: Int[Array, "T N"], v: Float[Array, "U K"], c: Float[Array, " K"] | None = None
    ) -> None:
        xp = namespace(v, c, function="SoftmaxHead", names=("v", "c"))
        expect_axes("SoftmaxHead", "labels", labels, "T N")
        expect_axes("SoftmaxHead", "v", v, "U K")
        if c is not None:
            expect_shape("SoftmaxHead", "c", c, v.shape[1:], f"one for each column of v {tuple(v.shape)}")
        self.labels, self.v, self.c = labels, v, c
        self.count = max(1, int((labels >= 0).sum()))
        self.dv = xp.zeros_like(v)
        self.dc = None if c is None else xp.zeros_like(c)

    def __call__(self, t0: int, h: Float[Array, "T N U"]) -> tuple[Any, Float[Array, "T N U"]]:
        """Loss of the steps from t0 on and its gradient by their outputs h."""
        xp = array_namespace(h)
        rows = rows_of(h)
        scores = rows @ self.v if self.c is None else rows @ self.v + self.c
        labels = xp.reshape(self.labels[t0 : t0 + h.shape[0], ...], (-1,))
        counted = labels >= 0
        loss, cached = cross_entropy_forward(scores[counted], labels[counted], reduction="sum")
        do = xp.zeros_like(scores)
        do[counted] = cross_entropy_backward(cached) / self.count
        self.dv = self.dv + rows.T @ do
        self.dc = None if self.c is None else self.dc + xp.sum(do, axis=0)
        return loss / self.count, xp.reshape(do @ self.v.T, h.shape)
