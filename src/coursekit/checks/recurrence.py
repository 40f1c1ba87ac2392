"""Checks of the assignment `recurrence`: update and feedback of a graph, unfolding, a forward pass, its loss.

The right functions are written out here with a place for each mistake; a wrong variant fills one of them
differently, or changes what goes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from coursekit.checks.engine import Arguments, Case, Check, Draw, Misconception, call

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from coursekit.arrays import Array

Pair = tuple[int, int]  # source, target
Edge = tuple[int, int, float]  # source, target, weight

UNIT = "recurrence/graph#eq-graph-unit"
STEP = "recurrence/graph#eq-graph-step"
IN_PLACE = "recurrence/graph#sec-graph-in-place"
KINDS = "recurrence/graph#sec-graph-kinds"
THREE_KINDS = "recurrence/graph#eq-graph-kinds"
UNFOLD = "recurrence/unfolding#eq-unfold-graph"
LENGTH = "recurrence/unfolding#sec-unfold-slider"
RECURSION = "recurrence/unfolding#eq-unfold-recursion"
FORWARD = "gradients/bptt#eq-rnn-forward"
OUTPUT = "gradients/bptt#eq-rnn-output"
LOSS = "gradients/bptt#eq-rnn-loss"
SOFTMAX = "convolution/classifier#eq-softmax"


# --- Part 1: one step of a graph ---------------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda a: a,
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
}


def _net_input(
    h: Float[Array, "N U"], x: Float[Array, "N U"], edges: Sequence[Edge], b: Float[Array, " U"]
) -> Float[Array, "N U"]:
    a = x + b
    for source, target, weight in edges:
        a[:, target] += weight * h[:, source]
    return a


def _activated(a: Float[Array, "N U"], activations: Sequence[str]) -> Float[Array, "N U"]:
    return np.stack([ACTIVATIONS[name](a[:, j]) for j, name in enumerate(activations)], axis=1)


def _synchronous_step(
    h: Float[Array, "N U"],
    x: Float[Array, "N U"],
    edges: Sequence[Edge],
    b: Float[Array, " U"],
    activations: Sequence[str],
    *,
    net_input: Callable[..., Array] = _net_input,
    activated: Callable[..., Array] = _activated,
) -> Float[Array, "N U"]:
    return activated(net_input(h, x, edges, b), activations)


def _unit_by_unit(
    h: Float[Array, "N U"], x: Array, edges: Sequence[Edge], b: Array, activations: Sequence[str]
) -> Float[Array, "N U"]:
    """Compute each unit into h itself, where the next one reads it."""
    for j in range(h.shape[1]):
        h[:, j] = _synchronous_step(h, x, edges, b, activations)[:, j]
    return h


def _in_place(h: Array, *rest: object) -> Array:
    return _unit_by_unit(h.copy(), *rest)


def _last_unit_first(h: Array, x: Array, edges: Sequence[Edge], b: Array, names: Sequence[str]) -> Array:
    last = len(b) - 1
    mirrored = [(last - source, last - target, weight) for source, target, weight in edges]
    return _in_place(h[:, ::-1], x[:, ::-1], mirrored, b[::-1], names[::-1])[:, ::-1]


def _last_edge_only(h: Array, x: Array, edges: Sequence[Edge], b: Array) -> Array:
    a = x + b
    for source, target, weight in edges:
        a[:, target] = x[:, target] + b[target] + weight * h[:, source]
    return a


def _bias_of_each_edge(h: Array, x: Array, edges: Sequence[Edge], b: Array) -> Array:
    a = x.copy()
    for source, target, weight in edges:
        a[:, target] += weight * h[:, source] + b[target]
    return a


def _unread_units_kept(h: Array, x: Array, edges: Sequence[Edge], b: Array, names: Sequence[str]) -> Array:
    read = np.isin(np.arange(len(b)), [target for _, target, _ in edges])
    return np.where(read, _synchronous_step(h, x, edges, b, names), h)


def _turned(edges: Iterable[Edge]) -> list[Edge]:
    return [(target, source, weight) for source, target, weight in edges]


def _loops_left_out(edges: Iterable[Edge]) -> list[Edge]:
    return [edge for edge in edges if edge[0] != edge[1]]


def _swap_case(draw: Draw) -> Arguments:
    """Two units that read each other, and nothing else."""
    nothing = np.zeros((3, 2), draw.dtype)
    edges = [(0, 1, 1.0), (1, 0, 1.0)]
    return call(draw(3, 2), nothing, edges, nothing[0], ["identity", "identity"])


def _graph_case(sequences: int, units: int, connections: int) -> Callable[[Draw], Arguments]:
    """A random net with a loop and with connections in both directions, whose first unit reads nothing."""

    def arguments(draw: Draw) -> Arguments:
        pairs = [(i, j) for i in range(units) for j in range(1, units)]
        chosen = [pairs[i] for i in draw.rng.permutation(len(pairs))[:connections]]
        fixed = [(1, 1), (0, units - 1), (1, 2), (2, 1), (units - 1, 1)]
        drawn = list(dict.fromkeys([*chosen, *fixed]))
        order = draw.rng.permutation(len(drawn))
        edges = [(*drawn[i], round(float(draw.rng.uniform(0.3, 1.5)), 2) * (-1) ** int(i)) for i in order]
        names = [("tanh", "relu", "identity")[i % 3] for i in range(units)]
        return call(draw(sequences, units), draw(sequences, units), edges, draw(units), names)

    return arguments


synchronous_step = Check(
    name="recurrence.synchronous_step",
    title="one synchronous step of a graph with feedback",
    reference=_synchronous_step,
    terms=("h",),
    forbidden=("networkx",),
    cases=(
        Case("two units that read each other", 1, _swap_case),
        Case("a net with loops", 1, _graph_case(3, 4, 4)),
        Case("many connections", 1, _graph_case(2, 7, 20)),
        Case("more sequences than units, float32", 1, _graph_case(11, 5, 8), "float32"),
    ),
    misconceptions=(
        Misconception(
            "in-place",
            "A unit reads this step's value of the units before it: updated in place. All must read the "
            "values from before the step.",
            IN_PLACE,
            _in_place,
        ),
        Misconception(
            "in-place-backwards",
            "The last unit is updated first, and the others read its new value. All must read the values "
            "from before the step.",
            IN_PLACE,
            _last_unit_first,
        ),
        Misconception(
            "overwrites-h",
            "h is overwritten, unit by unit, so that later units read new values. Write into a new array.",
            IN_PLACE,
            _unit_by_unit,
        ),
        Misconception(
            "turned-edges",
            "Source and target are swapped: in (source, target, weight), the target reads the source.",
            UNIT,
            lambda h, x, edges, b, names: _synchronous_step(h, x, _turned(edges), b, names),
        ),
        Misconception(
            "overwritten-sum",
            "Each connection overwrites what the ones before it brought. A unit adds up all that it reads.",
            UNIT,
            partial(_synchronous_step, net_input=_last_edge_only),
        ),
        Misconception(
            "input-forgotten",
            "The external input is missing: x[:, j] is added to what unit j reads.",
            UNIT,
            lambda h, x, edges, b, names: _synchronous_step(h, np.zeros_like(x), edges, b, names),
        ),
        Misconception(
            "bias-forgotten",
            "The bias is missing: b[j] is added to what unit j reads.",
            UNIT,
            lambda h, x, edges, b, names: _synchronous_step(h, x, edges, np.zeros_like(b), names),
        ),
        Misconception(
            "bias-of-each-edge",
            "The bias is added once for each connection that arrives. It is added once for each unit.",
            UNIT,
            partial(_synchronous_step, net_input=_bias_of_each_edge),
        ),
        Misconception(
            "input-outside",
            "The external input is added after the activation. It belongs into the sum that goes through it.",
            UNIT,
            lambda h, x, edges, b, names: x + _synchronous_step(h, np.zeros_like(x), edges, b, names),
        ),
        Misconception(
            "old-value-added",
            "A unit's own old value is added though no loop says so. Only connections carry values over.",
            STEP,
            partial(_synchronous_step, net_input=lambda h, *rest: h + _net_input(h, *rest)),
        ),
        Misconception(
            "loops-left-out",
            "Loops are left out. A unit that is connected to itself reads its own value of before the step.",
            STEP,
            lambda h, x, edges, b, names: _synchronous_step(h, x, _loops_left_out(edges), b, names),
        ),
        Misconception(
            "unread-units-kept",
            "A unit without incoming connections keeps its old value. It becomes f(b + x), like any other.",
            UNIT,
            _unread_units_kept,
        ),
        Misconception(
            "no-activation",
            "The activations are not applied: h is the sum itself.",
            UNIT,
            partial(_synchronous_step, activated=lambda a, names: a),
        ),
        Misconception(
            "first-activation",
            "All units have the first unit's activation. Each has its own.",
            UNIT,
            partial(_synchronous_step, activated=lambda a, names: ACTIVATIONS[names[0]](a)),
        ),
        Misconception(
            "activated-before-the-sum",
            "The values that are read go through the activation once more. Only the sum does.",
            UNIT,
            lambda h, x, edges, b, names: _synchronous_step(_activated(h, names), x, edges, b, names),
        ),
        Misconception(
            "two-steps",
            "Two steps are made. One step reads the values of before and writes new ones, once.",
            STEP,
            lambda h, *rest: _synchronous_step(_synchronous_step(h, *rest), *rest),
        ),
        Misconception(
            "double-precision",
            "The result is float64 for a float32 state, most often because np.zeros(shape) is: give it "
            "dtype=h.dtype.",
            UNIT,
            lambda *args: _synchronous_step(*args).astype(np.float64),
        ),
    ),
)


# --- Part 2: kinds of connections --------------------------------------------------------------------------


def _reached(edges: Iterable[Pair], start: int) -> set[int]:
    """The units to which a path leads from start, start itself included."""
    edges, seen, waiting = list(edges), {start}, [start]
    while waiting:
        unit = waiting.pop()
        new = {target for source, target in edges if source == unit} - seen
        seen |= new
        waiting += new
    return seen


def _returns(edges: Sequence[Pair], source: int, target: int) -> bool:
    return source in _reached(edges, target)


def _not_later(source: int, target: int, layers: Sequence[int]) -> bool:
    return layers[target] <= layers[source]


def _kind(source: int, target: int, layers: Sequence[int], edges: Sequence[Pair]) -> str:
    if source == target:
        return "direct"
    return "lateral" if layers[source] == layers[target] else "indirect"


def _connection_kinds(
    edges: Sequence[Pair],
    layers: Sequence[int],
    *,
    on_cycle: Callable[..., bool] = _returns,
    backwards: Callable[..., bool] = _not_later,
    kind: Callable[..., str] = _kind,
) -> dict[Pair, str]:
    def of(source: int, target: int) -> str:
        feedback = on_cycle(edges, source, target) and backwards(source, target, layers)
        return kind(source, target, layers, edges) if feedback else "forward"

    return {edge: of(*edge) for edge in edges}


def _returns_some_way(edges: Sequence[Pair], source: int, target: int) -> bool:
    """Whether a path leads back if the arrows' directions do not count."""
    others = [edge for edge in edges if edge != (source, target)]
    return source in _reached([*others, *((b, a) for a, b in others)], target)


def _read_backwards(edges: Sequence[Pair], layers: Sequence[int]) -> dict[Pair, str]:
    kinds = _connection_kinds([(target, source) for source, target in edges], layers)
    return {(source, target): kinds[target, source] for source, target in edges}


def _swapped(source: int, target: int, layers: Sequence[int], edges: Sequence[Pair]) -> str:
    turned = {"lateral": "indirect", "indirect": "lateral"}
    kind = _kind(source, target, layers, edges)
    return turned.get(kind, kind)


def _lateral_if_mutual(source: int, target: int, layers: Sequence[int], edges: Sequence[Pair]) -> str:
    kind = _kind(source, target, layers, edges)
    return "indirect" if kind == "lateral" and (target, source) not in edges else kind


def _direct_if_mutual(source: int, target: int, layers: Sequence[int], edges: Sequence[Pair]) -> str:
    return "direct" if (target, source) in edges else _kind(source, target, layers, edges)


def _loops_lateral(source: int, target: int, layers: Sequence[int], edges: Sequence[Pair]) -> str:
    return "lateral" if layers[source] == layers[target] else "indirect"


def _neighbours_only(source: int, target: int, layers: Sequence[int], edges: Sequence[Pair]) -> str:
    return "forward" if layers[source] - layers[target] > 1 else _kind(source, target, layers, edges)


def _kinds_case(edges: Sequence[Pair], layers: Sequence[int]) -> Callable[[Draw], Arguments]:
    """A net whose units are numbered, and whose connections are listed, at random."""

    def arguments(draw: Draw) -> Arguments:
        names = draw.rng.permutation(len(layers))
        listed = [edges[i] for i in draw.rng.permutation(len(edges))]
        by_name = [layers[i] for i in np.argsort(names)]
        return call([(int(names[i]), int(names[j])) for i, j in listed], by_name)

    return arguments


# units:      0  1  2  3
LOOPS = [(0, 1), (0, 2), (1, 3), (2, 3), (1, 1), (3, 3), (1, 2), (2, 1)], [0, 1, 1, 2]
# units:         0  1  2  3  4  5
LONG_WAY = [(0, 1), (1, 2), (2, 3), (3, 1), (2, 4), (4, 2), (3, 5), (4, 5)], [0, 1, 2, 3, 3, 4]
# Three units of one layer in a ring.
RING = [(0, 1), (1, 2), (2, 3), (3, 1), (3, 4), (0, 4), (2, 2), (0, 3)], [0, 1, 1, 1, 2]
# Connections that lead to an earlier layer, or stay in their own, and never return; beside one that does.
NO_CYCLE = (
    [(0, 1), (0, 2), (1, 2), (1, 3), (3, 4), (4, 5), (2, 5), (5, 6), (6, 8), (1, 7), (7, 1)],
    [0, 1, 1, 2, 1, 2, 3, 2, 2],
)

connection_kinds = Check(
    name="recurrence.connection_kinds",
    title="the kind of each connection",
    reference=_connection_kinds,
    terms=("kinds",),
    forbidden=("networkx",),
    cases=(
        Case("loops and pairs", 1, _kinds_case(*LOOPS)),
        Case("a long way back", 1, _kinds_case(*LONG_WAY)),
        Case("a ring within a layer", 1, _kinds_case(*RING)),
        Case("backwards without return", 1, _kinds_case(*NO_CYCLE)),
    ),
    misconceptions=(
        Misconception(
            "backwards-is-feedback",
            "A connection that does not lead to a later layer counts as feedback though nothing returns. "
            "Ask for a path back.",
            KINDS,
            partial(_connection_kinds, on_cycle=lambda edges, source, target: True),
        ),
        Misconception(
            "whole-cycle",
            "Every connection of a cycle counts as feedback. Those that lead to a later layer are forward.",
            KINDS,
            partial(_connection_kinds, backwards=lambda source, target, layers: True),
        ),
        Misconception(
            "numbers-for-layers",
            "The units' numbers are compared. Numbers are names; the layers say where forward is.",
            KINDS,
            lambda edges, layers: _connection_kinds(edges, range(len(layers))),
        ),
        Misconception(
            "pairs-only",
            "Only a connection straight back makes a cycle here. The path back may pass through other units.",
            KINDS,
            partial(
                _connection_kinds,
                on_cycle=lambda edges, source, target: source == target or (target, source) in edges,
            ),
        ),
        Misconception(
            "loops-forgotten",
            "A loop is called forward. The path from its target back to its source has no steps: it returns.",
            THREE_KINDS,
            partial(
                _connection_kinds,
                on_cycle=lambda edges, i, j: i != j and _returns(edges, i, j),
            ),
        ),
        Misconception(
            "directions-ignored",
            "A cycle is closed by walking against an arrow. A value travels along the arrows only.",
            KINDS,
            partial(_connection_kinds, on_cycle=_returns_some_way),
        ),
        Misconception(
            "arrows-turned",
            "Source and target are swapped: (i, j) leads from i to j.",
            THREE_KINDS,
            _read_backwards,
        ),
        Misconception(
            "kinds-swapped",
            "Lateral and indirect are swapped: lateral stays in its layer, indirect leads to an earlier one.",
            THREE_KINDS,
            partial(_connection_kinds, kind=_swapped),
        ),
        Misconception(
            "lateral-if-mutual",
            "Lateral feedback is taken for a pair of units that read each other. Staying in the layer is "
            "enough.",
            THREE_KINDS,
            partial(_connection_kinds, kind=_lateral_if_mutual),
        ),
        Misconception(
            "direct-if-mutual",
            "Two units that read each other are called direct feedback. That is a unit which reads itself.",
            THREE_KINDS,
            partial(_connection_kinds, kind=_direct_if_mutual),
        ),
        Misconception(
            "loops-lateral",
            "A loop is called lateral. Source and target are one unit: direct.",
            THREE_KINDS,
            partial(_connection_kinds, kind=_loops_lateral),
        ),
        Misconception(
            "neighbours-only",
            "Feedback over more than one layer is called forward. Any earlier layer makes it indirect.",
            THREE_KINDS,
            partial(_connection_kinds, kind=_neighbours_only),
        ),
    ),
)


# --- Part 3: unfolding -------------------------------------------------------------------------------------


def _lagged(t: int, delay: int, steps: int) -> int:
    return t - delay


def _unfold_edges(
    edges: Int[Array, "C 4"],
    steps: int,
    *,
    times: Callable[[int], Iterable[int]] = range,
    read_at: Callable[[int, int, int], int] = _lagged,
    parameter: Callable[[int, int, int], int] = lambda p, t, total: p,
    count: Callable[[Array, int], int] = lambda unfolded, steps: len(set(unfolded[:, 4].tolist())),
) -> tuple[Int[Array, "T*C 5"], int]:
    total = int(edges[:, 3].max()) + 1
    rows = [
        (source, read_at(t, delay, steps), target, t, parameter(p, t, total))
        for t in times(steps)
        for source, target, delay, p in edges.tolist()
    ]
    unfolded = np.array(rows, int).reshape(-1, 5)
    return unfolded, count(unfolded, steps)


def _sent_forward(edges: Array, steps: int) -> tuple[Array, int]:
    """Each copy leads from step t to step t + delay, so that the last ones lead out of the graph."""
    unfolded, count = _unfold_edges(edges, steps)
    delays = np.tile(edges[:, 2], steps)
    return unfolded + delays[:, None] * np.array([0, 1, 0, 1, 0]), count


def _without_the_start(edges: Array, steps: int) -> tuple[Array, int]:
    unfolded, count = _unfold_edges(edges, steps)
    return unfolded[unfolded[:, 1] >= 0], count


def _connection_by_connection(edges: Array, steps: int) -> tuple[Array, int]:
    unfolded, count = _unfold_edges(edges, steps)
    return np.swapaxes(unfolded.reshape(steps, -1, 5), 0, 1).reshape(-1, 5), count


def _counted_from_one(edges: Array, steps: int) -> tuple[Array, int]:
    unfolded, count = _unfold_edges(edges, steps)
    return unfolded + np.array([0, 1, 0, 1, 0]), count


def _ends_turned(edges: Array, steps: int) -> tuple[Array, int]:
    return _unfold_edges(edges[:, [1, 0, 2, 3]], steps)


def _times_after_units(edges: Array, steps: int) -> tuple[Array, int]:
    unfolded, count = _unfold_edges(edges, steps)
    return unfolded[:, [0, 2, 1, 3, 4]], count


def _unfold_case(units: int, connections: int, parameters: int, steps: int) -> Callable[[Draw], Arguments]:
    """A random net some of whose connections share a parameter; delays of both kinds."""

    def arguments(draw: Draw) -> Arguments:
        there, back = units - 1, (units - 1) * units
        others = [i for i in draw.rng.permutation(units * units) if i not in (there, back)]
        pairs = draw.rng.permutation([there, back, *others[: connections - 2]])
        delays = np.where(pairs // units < pairs % units, draw.rng.integers(0, 2, connections), 1)
        delays[pairs == there] = 0
        ids = draw.rng.permutation(np.arange(connections) % parameters)
        return call(np.stack([pairs // units, pairs % units, delays, ids], axis=1), steps)

    return arguments


unfold_edges = Check(
    name="recurrence.unfold_edges",
    title="a net unfolded over T steps",
    reference=_unfold_edges,
    terms=("unfolded", "parameters"),
    forbidden=("networkx",),
    cases=(
        Case("a few units", 0.5, _unfold_case(3, 5, 4, 4)),
        Case("many units", 0.5, _unfold_case(6, 14, 11, 3)),
        Case("few parameters", 0.5, _unfold_case(4, 9, 2, 7)),
        Case("a single step", 0.5, _unfold_case(4, 7, 5, 1)),
    ),
    misconceptions=(
        Misconception(
            "always-one-step-ago",
            "Every connection is given a delay of one step. Where it is 0, the source of this step is read.",
            UNFOLD,
            partial(_unfold_edges, read_at=lambda t, delay, steps: t - 1),
        ),
        Misconception(
            "never-delayed",
            "No connection is given a delay, so that a cycle stays a cycle within each step.",
            UNFOLD,
            partial(_unfold_edges, read_at=lambda t, delay, steps: t),
        ),
        Misconception(
            "sent-forward",
            "Copy t leads from step t to t + delay, out of the graph at the end. It leads from t - delay "
            "to t.",
            UNFOLD,
            _sent_forward,
        ),
        Misconception(
            "start-left-out",
            "Connections from step -1 are missing. The values before the first step are given, and are read.",
            UNFOLD,
            _without_the_start,
        ),
        Misconception(
            "start-at-zero",
            "Step 0 reads itself where it should read step -1, the values before the first step.",
            UNFOLD,
            partial(_unfold_edges, read_at=lambda t, delay, steps: max(t - delay, 0)),
        ),
        Misconception(
            "start-at-the-end",
            "Step 0 reads the last step, as index -1 does in Python. It reads step -1: the values before it.",
            UNFOLD,
            partial(_unfold_edges, read_at=lambda t, delay, steps: (t - delay) % steps),
        ),
        Misconception(
            "counted-from-one",
            "Steps are counted from 1. They run from 0 to T - 1, and what was before them is step -1.",
            UNFOLD,
            _counted_from_one,
        ),
        Misconception(
            "one-step-too-many",
            "There are T + 1 copies of the net: range(steps + 1)?",
            UNFOLD,
            partial(_unfold_edges, times=lambda steps: range(steps + 1)),
        ),
        Misconception(
            "first-step-missing",
            "The copies of step 0 are missing, the steps run from 1 on.",
            UNFOLD,
            partial(_unfold_edges, times=lambda steps: range(1, steps)),
        ),
        Misconception(
            "connection-by-connection",
            "All copies of the first connection come first. List them step by step: all connections of step "
            "0, then of 1.",
            UNFOLD,
            _connection_by_connection,
        ),
        Misconception(
            "ends-turned",
            "Source and target are swapped.",
            UNFOLD,
            _ends_turned,
        ),
        Misconception(
            "columns-out-of-order",
            "The columns are out of order: source, its step, target, its step, parameter.",
            UNFOLD,
            _times_after_units,
        ),
        Misconception(
            "connections-counted",
            "This is the number of the net's connections. Those that share an id share a parameter.",
            LENGTH,
            partial(_unfold_edges, count=lambda unfolded, steps: len(unfolded) // steps),
        ),
        Misconception(
            "copies-counted",
            "The parameters are counted at every step. However long the sequence, there is one for each id.",
            LENGTH,
            partial(_unfold_edges, count=lambda unfolded, steps: len(unfolded)),
        ),
        Misconception(
            "parameters-times-steps",
            "The number of parameters grows with T. It does not: all steps use the same ones.",
            LENGTH,
            partial(_unfold_edges, count=lambda unfolded, steps: steps * len(set(unfolded[:, 4].tolist()))),
        ),
        Misconception(
            "a-parameter-for-each-step",
            "Each copy has a parameter of its own. All copies of a connection share one: same id at every "
            "step.",
            LENGTH,
            partial(_unfold_edges, parameter=lambda p, t, total: p + t * total),
        ),
    ),
)


# --- Part 4: the net of figure 10.3, forward ---------------------------------------------------------------


def _rnn_forward(
    x: Float[Array, "N T D"],
    u: Float[Array, "D U"],
    w: Float[Array, "U U"],
    v: Float[Array, "U K"],
    b: Float[Array, " U"],
    c: Float[Array, " K"],
    h0: Float[Array, "N U"],
    *,
    activation: Callable[[Array], Array] = np.tanh,
    read: Callable[..., Array] = lambda before, a, h: h,
    carried: Callable[..., Array] = lambda before, a, h: h,
) -> tuple[Float[Array, "N T U"], Float[Array, "N T K"]]:
    """read: what the output is made of.   carried: what the next step gets."""
    before, states, outputs = h0, [], []
    for t in range(x.shape[1]):
        a = x[:, t] @ u + before @ w + b
        h = activation(a)
        outputs.append(read(before, a, h) @ v + c)
        states.append(h)
        before = carried(before, a, h)
    return np.stack(states, axis=1), np.stack(outputs, axis=1)


def _changed_forward(change: Callable[..., dict[str, Array]]) -> Callable:
    """Run the right function on changed arguments.   change: (the arguments by name) -> those to exchange."""

    def wrong(x, u, w, v, b, c, h0):
        given = {"x": x, "u": u, "w": w, "v": v, "b": b, "c": c, "h0": h0}
        return _rnn_forward(**{**given, **change(**given)})

    return wrong


def _then(change: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Callable:
    """Change what comes out.   change: (h, o, h0) -> h, o."""
    return lambda *args: change(*_rnn_forward(*args), args[-1])


def _softmax(o: Array, axis: int | tuple[int, ...] = -1) -> Array:
    e = np.exp(o - o.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _reset_every_step(x, u, w, v, b, c, h0):
    return _rnn_forward(x, u, w, v, b, c, h0, carried=lambda before, a, h: h0)


def _one_long_sequence(x, u, w, v, b, c, h0):
    """The state of each sequence starts where the one before it ended."""
    states, outputs, before = [], [], h0[:1]
    for one in x:
        h, o = _rnn_forward(one[None], u, w, v, b, c, before)
        states.append(h)
        outputs.append(o)
        before = h[:, -1]
    return np.concatenate(states), np.concatenate(outputs)


def _outside_tanh(x, u, w, v, b, c, h0):
    before, states = h0, []
    for t in range(x.shape[1]):
        before = np.tanh(x[:, t] @ u + b) + before @ w
        states.append(before)
    h = np.stack(states, axis=1)
    return h, h @ v + c


def _residual(x, u, w, v, b, c, h0):
    before, states = h0, []
    for t in range(x.shape[1]):
        before = before + np.tanh(x[:, t] @ u + before @ w + b)
        states.append(before)
    h = np.stack(states, axis=1)
    return h, h @ v + c


def _two_steps_before(x, u, w, v, b, c, h0):
    """States kept in a list that starts with h0, where entry t - 1 is not the one before step t."""
    states = [h0]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ u + states[max(t - 1, 0)] @ w + b))
    h = np.stack(states[1:], axis=1)
    return h, h @ v + c


def _over_h0(x, u, w, v, b, c, h0):
    h, o = _rnn_forward(x, u, w, v, b, c, h0)
    h0[...] = h[:, -1]
    return h, o


def _forward_case(N: int, T: int, D: int, U: int, K: int) -> Callable[[Draw], Arguments]:
    def arguments(draw: Draw) -> Arguments:
        x, h0 = draw(N, T, D), draw(N, U) / 2
        u, w, v = (draw(*shape) / 2 for shape in ((D, U), (U, U), (U, K)))
        return call(x, u, w, v, draw(U), draw(K), h0)

    return arguments


rnn_forward = Check(
    name="recurrence.rnn_forward",
    title="the forward pass of a recurrent net with outputs",
    reference=_rnn_forward,
    terms=("h", "o"),
    cases=(
        Case("one sequence", 0.5, _forward_case(1, 5, 3, 4, 2)),
        Case("a batch", 0.5, _forward_case(3, 7, 2, 5, 4)),
        Case("a single step", 0.5, _forward_case(4, 1, 5, 3, 2)),
        Case("more features than units, float32", 0.5, _forward_case(2, 11, 7, 3, 5), "float32"),
    ),
    misconceptions=(
        Misconception(
            "start-ignored",
            "The state starts at zero though h0 was given: step 0 reads h0.",
            FORWARD,
            _changed_forward(lambda h0, **_: {"h0": np.zeros_like(h0)}),
        ),
        Misconception(
            "start-at-every-step",
            "Every step reads h0. Step t reads the state after step t - 1: that is what recurrence is.",
            RECURSION,
            _reset_every_step,
        ),
        Misconception(
            "two-steps-before",
            "Step t reads the state after step t - 2. In a list that starts with h0, the state before step t "
            "is entry t.",
            RECURSION,
            _two_steps_before,
        ),
        Misconception(
            "transposed-w",
            "w is transposed. Vectors are rows here: h @ w, where w[i, j] leads from unit i to unit j.",
            FORWARD,
            _changed_forward(lambda w, **_: {"w": w.T}),
        ),
        Misconception(
            "without-tanh",
            "The tanh is missing, so that the state is the sum itself.",
            FORWARD,
            partial(_rnn_forward, activation=lambda a: a),
        ),
        Misconception(
            "sigmoid",
            "The activation is a sigmoid, between 0 and 1. Here it is tanh, between -1 and 1.",
            FORWARD,
            partial(_rnn_forward, activation=lambda a: 1 / (1 + np.exp(-a))),
        ),
        Misconception(
            "sum-carried",
            "The next step reads the sum a from before the tanh. It reads h = tanh(a).",
            FORWARD,
            partial(_rnn_forward, carried=lambda before, a, h: a),
        ),
        Misconception(
            "outside-tanh",
            "h @ w is added after the tanh. All three terms go through it together.",
            FORWARD,
            _outside_tanh,
        ),
        Misconception(
            "old-state-added",
            "The old state is added to the new one. It comes in through w only.",
            FORWARD,
            _residual,
        ),
        Misconception(
            "b-forgotten",
            "The bias b of the hidden units is missing.",
            FORWARD,
            _changed_forward(lambda b, **_: {"b": np.zeros_like(b)}),
        ),
        Misconception(
            "c-forgotten",
            "The bias c of the outputs is missing.",
            OUTPUT,
            _changed_forward(lambda c, **_: {"c": np.zeros_like(c)}),
        ),
        Misconception(
            "first-input-only",
            "Every step reads the input of step 0. Step t reads x[:, t].",
            FORWARD,
            _changed_forward(lambda x, **_: {"x": np.repeat(x[:, :1], x.shape[1], axis=1)}),
        ),
        Misconception(
            "time-reversed",
            "The steps run from the last to the first. A state knows the past, not the future.",
            RECURSION,
            _changed_forward(lambda x, **_: {"x": x[:, ::-1]}),
        ),
        Misconception(
            "one-long-sequence",
            "A sequence starts with the state where the one before it in the batch ended. Each has its own "
            "row of h0.",
            FORWARD,
            _one_long_sequence,
        ),
        Misconception(
            "states-before",
            "The states are one step late, h0 first and the last one missing. h[:, t] is the state after "
            "step t.",
            FORWARD,
            _then(lambda h, o, h0: (np.concatenate([h0[:, None], h[:, :-1]], axis=1), o)),
        ),
        Misconception(
            "start-included",
            "h has T + 1 states because it starts with h0. Return those after the steps 0 to T - 1.",
            FORWARD,
            _then(lambda h, o, h0: (np.concatenate([h0[:, None], h], axis=1), o)),
        ),
        Misconception(
            "last-step-only",
            "Only the last step is returned. Return state and scores of every step.",
            OUTPUT,
            _then(lambda h, o, h0: (h[:, -1], o[:, -1])),
        ),
        Misconception(
            "time-first",
            "Time is the first axis of the result. Here it is the second: N, T, then units or classes.",
            FORWARD,
            _then(lambda h, o, h0: (np.swapaxes(h, 0, 1), np.swapaxes(o, 0, 1))),
        ),
        Misconception(
            "output-of-the-state-before",
            "The output of a step is made of the state before it. First the new state, then its output.",
            OUTPUT,
            partial(_rnn_forward, read=lambda before, a, h: before),
        ),
        Misconception(
            "output-of-the-sum",
            "The output is made of the sum a. It is made of h = tanh(a).",
            OUTPUT,
            partial(_rnn_forward, read=lambda before, a, h: a),
        ),
        Misconception(
            "probabilities-for-scores",
            "These are probabilities. o holds the scores; the softmax comes with the loss.",
            OUTPUT,
            _then(lambda h, o, h0: (h, _softmax(o))),
        ),
        Misconception(
            "tanh-of-the-scores",
            "The scores went through a tanh. o = h v + c is all.",
            OUTPUT,
            _then(lambda h, o, h0: (h, np.tanh(o))),
        ),
        Misconception(
            "overwrites-h0",
            "h0 is overwritten by the states. Let a new name refer to the new state: h = np.tanh(...).",
            FORWARD,
            _over_h0,
        ),
        Misconception(
            "double-precision",
            "The result is float64 for float32 arguments, most often because np.zeros(shape) is: give it "
            "dtype=x.dtype.",
            FORWARD,
            lambda *args: tuple(a.astype(np.float64) for a in _rnn_forward(*args)),
        ),
    ),
)


# --- Part 5: its loss --------------------------------------------------------------------------------------


def _log_softmax(o: Array, axis: int | tuple[int, ...] = -1) -> Array:
    shifted = o - o.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _right_ones(log_p: Float[Array, "N T K"], labels: Int[Array, "N T"]) -> Float[Array, "N T"]:
    return np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]


def _sequence_loss(
    o: Float[Array, "N T K"],
    labels: Int[Array, "N T"],
    *,
    log_p: Callable[[Array], Array] = _log_softmax,
    pick: Callable[[Array, Array], Array] = _right_ones,
    merge: Callable[[Array], float] = np.mean,
) -> float:
    return -float(merge(pick(log_p(o), labels)))


def _unshifted(o: Array) -> Array:
    e = np.exp(o)
    return e / e.sum(axis=-1, keepdims=True)


def _shifted_by_one_number(o: Array) -> Array:
    e = np.exp(o - o.max())
    return np.log(e / e.sum(axis=-1, keepdims=True))


def _kept_from_zero(o: Array) -> Array:
    """The logarithm of probabilities that are cut at a tiny number: log(p + 1e-12)."""
    return np.log(_softmax(o) + 1e-12)


def _labels_turned(log_p: Array, labels: Array) -> Array:
    return _right_ones(log_p, labels.T.reshape(labels.shape))


def _loss_case(N: int, T: int, K: int, *, shifts: Sequence[float] = (0,), scale: float = 1.0) -> Callable:
    """shifts: added to all scores of a step, in turn."""

    def arguments(draw: Draw) -> Arguments:
        o = scale * draw(N, T, K) + np.resize(shifts, T)[:, None]
        return call(o, draw.rng.integers(0, K, (N, T)))

    return arguments


sequence_loss = Check(
    name="recurrence.sequence_loss",
    title="the mean loss over all steps",
    reference=_sequence_loss,
    terms=("loss",),
    cases=(
        Case("one sequence", 0.5, _loss_case(1, 5, 3)),
        Case("a batch", 0.5, _loss_case(3, 7, 4)),
        Case("a single step", 0.5, _loss_case(4, 1, 3)),
        Case("scores near 1000", 1, _loss_case(2, 5, 3, shifts=[1000])),
        Case("scores near -400 and 400", 0.5, _loss_case(2, 7, 3, shifts=[-400, 400])),
        Case("scores hundreds apart", 1, _loss_case(3, 4, 5, scale=400.0)),
    ),
    misconceptions=(
        Misconception(
            "not-shifted",
            "exp of large scores overflows, and inf / inf is nan. Subtract the largest score of each step "
            "first.",
            SOFTMAX,
            partial(_sequence_loss, log_p=lambda o: np.log(_unshifted(o))),
        ),
        Misconception(
            "sum-not-shifted",
            "exp of large scores overflows to inf, and so does its logarithm. Subtract the largest score of "
            "each step first.",
            SOFTMAX,
            partial(_sequence_loss, log_p=lambda o: o - np.log(np.exp(o).sum(axis=-1, keepdims=True))),
        ),
        Misconception(
            "log-of-zero",
            "A probability rounds to 0, and its logarithm is -inf. Write log p as o - max - log(sum of exp), "
            "without p.",
            SOFTMAX,
            partial(_sequence_loss, log_p=lambda o: np.log(_softmax(o))),
        ),
        Misconception(
            "kept-from-zero",
            "log(p + 1e-12) is never below -28, so that a grave error costs no more than a small one. Write "
            "log p without p.",
            SOFTMAX,
            partial(_sequence_loss, log_p=_kept_from_zero),
        ),
        Misconception(
            "one-largest-for-all",
            "The largest score of the whole array is subtracted, and exp of the others becomes 0. Take each "
            "step's own.",
            SOFTMAX,
            partial(_sequence_loss, log_p=_shifted_by_one_number),
        ),
        Misconception(
            "sum-shifted-by-one-number",
            "The largest score of the whole array is subtracted, and a step's sum may become 0. Take each "
            "step's own largest.",
            SOFTMAX,
            partial(
                _sequence_loss,
                log_p=lambda o: o - o.max() - np.log(np.exp(o - o.max()).sum(axis=-1, keepdims=True)),
            ),
        ),
        Misconception(
            "not-normalised",
            "The largest score is subtracted and nothing else: the logarithm of the sum of all exp is "
            "missing.",
            SOFTMAX,
            partial(_sequence_loss, log_p=lambda o: o - o.max(axis=-1, keepdims=True)),
        ),
        Misconception(
            "shift-not-undone",
            "The largest score is subtracted inside the sum only. Subtract it from the right class's score "
            "too.",
            SOFTMAX,
            partial(
                _sequence_loss,
                log_p=lambda o: o - np.log(np.exp(o - o.max(axis=-1, keepdims=True)).sum(-1, keepdims=True)),
            ),
        ),
        Misconception(
            "sum-for-mean",
            "The losses are added up. Divide by N T, or the gradient grows with the batch and with the "
            "length.",
            LOSS,
            partial(_sequence_loss, merge=np.sum),
        ),
        Misconception(
            "mean-over-the-batch-only",
            "The steps' losses are added up and averaged over the batch. Average over the steps too.",
            LOSS,
            partial(_sequence_loss, merge=lambda a: a.sum() / len(a)),
        ),
        Misconception(
            "mean-over-time-only",
            "The losses are averaged over the steps and added over the batch. Average over the batch too.",
            LOSS,
            partial(_sequence_loss, merge=lambda a: a.sum() / a.shape[1]),
        ),
        Misconception(
            "mean-over-classes-too",
            "The mean runs over all N T K numbers. There is one loss for each step, whatever K is.",
            LOSS,
            lambda o, labels: _sequence_loss(o, labels) / o.shape[2],
        ),
        Misconception(
            "last-step-only",
            "Only the last step's loss counts here. Every step has a label.",
            LOSS,
            partial(_sequence_loss, merge=lambda a: a[:, -1].mean()),
        ),
        Misconception(
            "softmax-over-time",
            "The softmax runs over the steps. The probabilities of one step's classes sum to 1: axis 2.",
            OUTPUT,
            partial(_sequence_loss, log_p=partial(_log_softmax, axis=1)),
        ),
        Misconception(
            "softmax-over-the-batch",
            "The softmax runs over the sequences. The probabilities of one step's classes sum to 1: axis 2.",
            OUTPUT,
            partial(_sequence_loss, log_p=partial(_log_softmax, axis=0)),
        ),
        Misconception(
            "softmax-over-everything",
            "One softmax runs over the whole array. The probabilities of each step's classes sum to 1.",
            OUTPUT,
            partial(_sequence_loss, log_p=partial(_log_softmax, axis=(0, 1, 2))),
        ),
        Misconception(
            "without-softmax",
            "These are the scores of the right classes, not yet the logarithms of their probabilities.",
            OUTPUT,
            partial(_sequence_loss, log_p=lambda o: o),
        ),
        Misconception(
            "without-log",
            "The probabilities of the right classes are averaged. The loss is minus their logarithm.",
            LOSS,
            partial(_sequence_loss, log_p=_softmax),
        ),
        Misconception(
            "one-minus-p",
            "This is the mean of 1 - p. The loss is -log p, which has no upper bound.",
            LOSS,
            lambda o, labels: 1 + _sequence_loss(o, labels, log_p=_softmax),
        ),
        Misconception(
            "sign-lost",
            "The minus is missing: a loss is never below 0.",
            LOSS,
            lambda o, labels: -_sequence_loss(o, labels),
        ),
        Misconception(
            "bits",
            "The logarithm has base 2. np.log, the natural one, is meant.",
            LOSS,
            lambda o, labels: _sequence_loss(o, labels) / math.log(2),
        ),
        Misconception(
            "labels-turned",
            "Labels and scores are out of step: the labels were flattened in the other order, time first.",
            LOSS,
            partial(_sequence_loss, pick=_labels_turned),
        ),
        Misconception(
            "largest-for-right",
            "This is the loss of the classes with the largest scores. Take those that labels names.",
            LOSS,
            partial(_sequence_loss, pick=lambda log_p, labels: log_p.max(axis=-1)),
        ),
        Misconception(
            "log-of-the-mean",
            "The probabilities are averaged before the logarithm. Take the logarithm of each, then the mean.",
            LOSS,
            lambda o, labels: -float(np.log(_right_ones(_softmax(o), labels).mean())),
        ),
    ),
)
