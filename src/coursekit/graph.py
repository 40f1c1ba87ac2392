"""Recurrent networks as graphs: units, connections, feedback, update order, and unfolding in time.

A `RecurrentGraph` holds the structure alone; the numbers that it learns are a dictionary, one entry for each
parameter id.  Two connections that name the same id share the number.  `unfold` copies the units once for
each time step and keeps the ids, so the copies share their parameters too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx
from array_api_compat import device, is_array_api_obj

from coursekit.arrays import Array, ShapeError, expect_axes, expect_shape, namespace, per_axis
from coursekit.cells import Activation, named_activation

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Float

__all__ = [
    "GraphGradients",
    "KINDS",
    "RecurrentGraph",
    "Unit",
    "UnfoldedGraph",
    "Weight",
    "mass_spring",
    "newton_cooling",
    "unfold",
    "unfolded_backward",
    "unfolded_forward",
]

KINDS = ("forward", "direct", "lateral", "indirect")
"""Kinds of connections; all but the first are feedback."""

Edge = tuple[str, str]  # source, target
Node = tuple[str, int]  # unit, step
Order = str | Sequence[str | Sequence[str]]
Parameters = Mapping[str, Any]  # parameter id -> a number or an array with no axes


class Weight(NamedTuple):
    """The strength offset + scale p of a connection or a bias, p being the parameter; None is a constant."""

    parameter: str | None = None
    scale: float = 0.0
    offset: float = 0.0

    def value(self, parameters: Parameters) -> Any:
        """The strength, when the parameters have these values."""
        if self.parameter is None:
            return self.offset
        return self.offset + self.scale * parameters[self.parameter]


def _weight(of: str, weight: str | float, scale: float = 1.0, offset: float = 0.0) -> Weight:
    if isinstance(weight, str):
        return Weight(weight, float(scale), float(offset))
    if is_array_api_obj(weight) or isinstance(weight, bool):
        raise TypeError(f"{of} is {weight!r}, expected a number or the name of a parameter")
    return Weight(offset=offset + scale * float(weight))


class Unit(NamedTuple):
    """One unit of a graph.  external: whether an input from outside is added to its net input."""

    name: str
    activation: Activation
    bias: Weight
    external: bool
    layer: int | None


# ---------------------------------------------------------------------------------------------------
# The graph


class RecurrentGraph:
    """A network as a directed graph G = (U, C): units U, connections C, cycles allowed.

    Implements eq-graph-unit.  The structure is built once, unit by unit and connection by connection, and
    holds no numbers that are learnt: those come as a dictionary when it runs.

    graph: the networkx.DiGraph itself, each node with its `unit`, each edge with its `weight`.
    Source: kruse2016computational, chapter "General neural networks".

    >>> import numpy as np
    >>> net = RecurrentGraph()
    >>> net.add_unit("x", external=True)
    >>> net.add_unit("h", activation="tanh")
    >>> net.connect("x", "h", "u")
    >>> net.connect("h", "h", "w")
    >>> net.feedback()
    {('h', 'h'): 'direct'}
    >>> net.run({"u": 1.0, "w": 0.5}, np.ones((3, 1, 1)))[-1].round(4)
    array([[1.    , 0.8938]])
    """

    def __init__(self) -> None:
        self.graph = nx.DiGraph()

    # Building

    def add_unit(
        self,
        name: str,
        *,
        activation: str | Activation = "identity",
        bias: str | float = 0.0,
        external: bool = False,
        layer: int | None = None,
    ) -> None:
        """Add a unit.

        activation: name in coursekit.cells.ACTIVATIONS, or an Activation.   bias: a number, or the id of a
        parameter.   external: add a column of the network's input to what the unit receives.
        layer: 0, 1, ... if you want to say where it stands; give it for all units or for none.
        Raises ValueError if there is a unit of this name or the activation is unknown.
        """
        if name in self.graph:
            raise ValueError(f"RecurrentGraph.add_unit: there is a unit {name!r} already; take another name")
        offset = _weight(f"RecurrentGraph.add_unit: bias of {name!r}", bias)
        unit = Unit(name, named_activation(activation), offset, external, layer)
        self.graph.add_node(name, unit=unit)

    def connect(
        self,
        source: str,
        target: str,
        weight: str | float = 1.0,
        *,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        """Let target read source, times offset + scale weight.

        weight: a number, or the id of a parameter; the same id twice means a shared parameter.
        scale, offset: known factors around the parameter, as in 1 - dt k.
        Raises ValueError if a unit is unknown or the connection exists.
        """
        for end, name in (("source", source), ("target", target)):
            if name not in self.graph:
                raise ValueError(
                    f"RecurrentGraph.connect: {end} {name!r} is unknown, units are {self.units}; "
                    "add it first with add_unit"
                )
        if self.graph.has_edge(source, target):
            raise ValueError(
                f"RecurrentGraph.connect: {source!r} -> {target!r} exists already; "
                "C is a set, so put both strengths into one weight"
            )
        of = f"RecurrentGraph.connect: weight of {source!r} -> {target!r}"
        self.graph.add_edge(source, target, weight=_weight(of, weight, scale, offset))

    # Reading

    def unit(self, name: str) -> Unit:
        """The unit of this name."""
        return self.graph.nodes[name]["unit"]

    @property
    def units(self) -> tuple[str, ...]:
        """Names of all units in the order of their columns in a state or a result."""
        return tuple(self.graph)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the units with an external input, in the order of the input's columns."""
        return tuple(name for name in self.graph if self.unit(name).external)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Ids of all parameters, each once."""
        return _ids(self.graph)

    def strengths(self, parameters: Parameters) -> dict[Edge, Any]:
        """What each connection multiplies by, when the parameters have these values."""
        weights = {edge: self.graph.edges[edge]["weight"] for edge in self.graph.edges}
        return {edge: weight.value(parameters) for edge, weight in weights.items()}

    # The structure in time

    def components(self) -> tuple[tuple[str, ...], ...]:
        """Strongly connected components, each before those that read it.

        Units of one component reach each other, so each influences itself through the others.
        """
        place = {name: i for i, name in enumerate(self.graph)}
        condensed = nx.condensation(self.graph)
        members = {c: sorted(condensed.nodes[c]["members"], key=place.get) for c in condensed}
        order = nx.lexicographical_topological_sort(condensed, key=lambda c: place[members[c][0]])
        return tuple(tuple(members[c]) for c in order)

    def layers(self) -> dict[str, int]:
        """The layer of each unit: as given, or else as the graph says.

        The distance of a unit is the least number of connections that lead there from an external input, or
        from a component that reads nothing.  Of the connections on cycles, those that lead no farther are set
        aside; the layer is the longest path to the unit along the others.
        Raises ValueError if only some units were given a layer.
        """
        given = {name: self.unit(name).layer for name in self.graph}
        lacking = [name for name, layer in given.items() if layer is None]
        if not lacking:
            return given
        if len(lacking) < len(given):
            raise ValueError(
                f"RecurrentGraph.layers: {lacking} have no layer, but others have; give it for all or none"
            )
        generations = enumerate(nx.topological_generations(self._farther()))
        found = {name: number for number, names in generations for name in names}
        return {name: found[name] for name in self.graph}

    def _farther(self) -> nx.DiGraph:
        """The graph without those connections of its cycles that lead no farther from the inputs."""
        component = self._component_of()
        layers = enumerate(nx.bfs_layers(self.graph, self._sources()))
        distance = {name: number for number, names in layers for name in names}
        farther = nx.DiGraph()
        farther.add_nodes_from(self.graph)
        farther.add_edges_from(
            (source, target)
            for source, target in self.graph.edges
            if component[source] != component[target] or distance[source] < distance[target]
        )
        return farther

    def _sources(self) -> list[str]:
        """Units from which all others can be reached: external ones first, then whole components."""
        sources = list(self.inputs)
        for names in self.components():
            read = {source for name in names for source in self.graph.pred[name]}
            if read <= set(names) and not set(names) & set(sources):
                sources += names
        return sources

    def _component_of(self) -> dict[str, int]:
        return {name: number for number, names in enumerate(self.components()) for name in names}

    def kinds(self) -> dict[Edge, str]:
        """The kind of each connection: "forward", or the kind of its feedback.

        A connection is feedback if it lies on a cycle and does not lead to a later layer: "direct" from a
        unit to itself, "lateral" to another unit of the same layer, "indirect" to an earlier layer.  Without
        its feedback the graph has no cycle.  Implements eq-graph-kinds.
        Source: kriesel2007brief, section 3.3.2.
        """
        layer, component = self.layers(), self._component_of()

        def kind(source: str, target: str) -> str:
            if source == target:
                return "direct"
            if component[source] != component[target] or layer[source] < layer[target]:
                return "forward"
            return "lateral" if layer[source] == layer[target] else "indirect"

        return {edge: kind(*edge) for edge in self.graph.edges}

    def feedback(self) -> dict[Edge, str]:
        """The feedback connections, each with its kind; none in a feed-forward net."""
        return {edge: kind for edge, kind in self.kinds().items() if kind != "forward"}

    def update_order(self, order: Order = "synchronous") -> tuple[tuple[str, ...], ...]:
        """Groups of units in the order of their update; the units of a group are updated at once.

        order: "synchronous" makes every component a group; "layers" every layer; or say it yourself: a
        sequence of names, or of sequences of names, with each unit once.
        Raises ValueError for another word, or for a unit that is missing, unknown or named twice.
        """
        if order == "synchronous":
            return self.components()
        if order == "layers":
            layer = self.layers()
            return tuple(
                tuple(name for name in self.graph if layer[name] == number)
                for number in sorted(set(layer.values()))
            )
        if isinstance(order, str):
            raise ValueError(
                f"RecurrentGraph.update_order: order {order!r} is unknown, expected 'synchronous', 'layers' "
                f"or a sequence of the units {self.units}"
            )
        groups = tuple((group,) if isinstance(group, str) else tuple(group) for group in order)
        named = [name for group in groups for name in group]
        if sorted(named) != sorted(self.graph):
            raise ValueError(
                f"RecurrentGraph.update_order: order {groups} must name each of {self.units} exactly once"
            )
        return groups

    def delays(self, order: Order = "synchronous") -> dict[Edge, int]:
        """How many steps ago each connection's source is read: 0 if its group came earlier, else 1."""
        group = {name: i for i, names in enumerate(self.update_order(order)) for name in names}
        return {(source, target): int(group[source] >= group[target]) for source, target in self.graph.edges}

    # Running

    def run(
        self,
        parameters: Parameters,
        x: Float[Array, "T N D"] | None = None,
        *,
        h0: Float[Array, "N U"] | None = None,
        steps: int | None = None,
        order: Order = "synchronous",
    ) -> Float[Array, "T N U"]:
        """What every unit holds after each of T steps.

        Implements eq-graph-step.

        parameters: a value for each id.   x: external inputs, one column for each unit of `inputs`; a network
        without any takes steps = T in its place.   h0: what the units hold before the first step, zero if not
        given.   order: as in update_order.
        Raises ValueError if a parameter is missing or unknown, ShapeError or TypeError if arrays do not fit.
        """
        start = _start("RecurrentGraph.run", self, parameters, x, h0, steps)
        weights = self.strengths(parameters)
        groups, delays = self.update_order(order), self.delays(order)
        now, rows = start.before, []
        for t in range(start.steps):
            before, now = now, {}
            for name in (name for group in groups for name in group):
                read = [
                    (weights[source, name], (before if delays[source, name] else now)[source])
                    for source in self.graph.pred[name]
                ]
                now[name] = _updated(start, self.unit(name), parameters, read, t)
            rows.append(start.xp.stack([now[name] for name in self.units], axis=-1))
        return start.xp.stack(rows)


def _ids(graph: nx.DiGraph) -> tuple[str, ...]:
    """Parameter ids of biases and weights in order of appearance, each once."""
    weights = [unit.bias for _, unit in graph.nodes.data("unit") if unit] + [
        weight for *_, weight in graph.edges.data("weight")
    ]
    return tuple(dict.fromkeys(weight.parameter for weight in weights if weight.parameter is not None))


class _Start(NamedTuple):
    """Arguments of a run, checked: inputs by unit and the values before the first step."""

    xp: ModuleType
    steps: int
    inputs: dict[str, Float[Array, "T N"]]
    before: dict[str, Float[Array, " N"]]


def _start(
    function: str, net: RecurrentGraph, parameters: Parameters, x: Array | None, h0: Array | None, steps: Any
) -> _Start:
    _expect_parameters(function, net.parameters, parameters)
    arrays = {"x": x, "h0": h0} | {name: p for name, p in parameters.items() if is_array_api_obj(p)}
    arrays = {name: a for name, a in arrays.items() if a is not None}
    if x is None and h0 is None:
        raise TypeError(f"{function}: x and h0 are both None; h0 (N, {len(net.units)}) says how many runs")
    xp = namespace(*arrays.values(), function=function, names=tuple(arrays))
    if net.inputs:
        expect_axes(function, "x", x, "T N D")
        because = f"one column for each of the inputs {net.inputs}"
        expect_shape(function, "x", x, (*x.shape[:2], len(net.inputs)), because)
        if steps not in (None, x.shape[0]):
            raise ValueError(f"{function}: steps is {steps}, but x has {x.shape[0]}; leave steps out")
        steps = x.shape[0]
    elif x is not None:
        raise ShapeError(f"{function}: x was given, but no unit is external; pass steps={x.shape[0]} instead")
    (steps,) = per_axis(steps, 1, f"{function}: steps", 1)
    like = h0 if x is None else x[0]
    if h0 is None:
        h0 = xp.zeros((like.shape[0], len(net.units)), dtype=like.dtype, device=device(like))
    expect_axes(function, "h0", h0, "N U")
    expect_shape(function, "h0", h0, (like.shape[0], len(net.units)), f"one column for each of {net.units}")
    inputs = {name: x[..., i] for i, name in enumerate(net.inputs)}
    return _Start(xp, steps, inputs, {name: h0[:, i] for i, name in enumerate(net.units)})


def _expect_parameters(function: str, ids: Sequence[str], parameters: Parameters) -> None:
    missing = [name for name in ids if name not in parameters]
    if missing:
        raise ValueError(f"{function}: parameters lack {missing}; the graph has {tuple(ids)}")
    unknown = [name for name in parameters if name not in ids]
    if unknown:
        raise ValueError(f"{function}: parameters have {unknown}, but the graph has only {tuple(ids)}")
    for name, value in parameters.items():
        if is_array_api_obj(value) and value.ndim:
            raise ShapeError(
                f"{function}: parameter {name!r} has shape {tuple(value.shape)}, expected () or a number"
            )


def _updated(
    start: _Start, unit: Unit, parameters: Parameters, read: Sequence[tuple[Any, Array]], t: int
) -> Float[Array, " N"]:
    """f(bias + external input + sum of weight times value) of one unit at step t: eq-graph-unit."""
    net_input = start.xp.zeros_like(start.before[unit.name]) + unit.bias.value(parameters)
    if unit.external:
        net_input = net_input + start.inputs[unit.name][t]
    for weight, value in read:
        net_input = net_input + weight * value
    return unit.activation.value(start.xp, net_input)


# ---------------------------------------------------------------------------------------------------
# Unfolding


class UnfoldedGraph(NamedTuple):
    """A recurrent network over a fixed number of steps, as a graph without cycles.

    graph: a networkx.DiGraph with a node (name, t) for each unit and step, and (name, -1) for the values
    before the first step that something reads.  Nodes carry their `unit`, edges their `weight` (the same in
    every step) and the `kind` of the connection that they are a copy of.
    net: what was unfolded.   steps: T.
    """

    graph: nx.DiGraph
    net: RecurrentGraph
    steps: int

    @property
    def parameters(self) -> tuple[str, ...]:
        """Ids of all parameters in the graph, each once: those of net, whatever the number of steps."""
        used = set(_ids(self.graph))
        return tuple(name for name in self.net.parameters if name in used)


def unfold(net: RecurrentGraph, steps: int, *, order: Order = "synchronous") -> UnfoldedGraph:
    """Copy every unit of net once for each step, so that the copies form a feed-forward graph.

    Implements eq-unfold-graph.

    steps: T, at least 1.   order: the update order that the copy follows, as in RecurrentGraph.update_order.
    Source: goodfellow2016deep, section 10.1.

    >>> unfolded = unfold(mass_spring(0.1), 5)
    >>> len(unfolded.graph.edges), unfolded.parameters
    (20, ('k/m',))
    """
    (steps,) = per_axis(steps, 1, "unfold: steps", 1)
    graph, kinds, delays = nx.DiGraph(), net.kinds(), net.delays(order)
    for t in range(steps):
        graph.add_nodes_from(((name, t), {"unit": net.unit(name)}) for name in net.units)
    for t in range(steps):
        for (source, target), kind in kinds.items():
            weight = net.graph.edges[source, target]["weight"]
            graph.add_edge((source, t - delays[source, target]), (target, t), weight=weight, kind=kind)
    return UnfoldedGraph(graph, net, steps)


class UnfoldedCache(NamedTuple):
    """What unfolded_backward needs: every node's value and every connection's strength."""

    unfolded: UnfoldedGraph
    values: dict[Node, Float[Array, " N"]]
    weights: dict[Edge, Any]


class GraphGradients(NamedTuple):
    """Gradients of an unfolded graph; dx is None without external inputs.

    dparameters: by parameter id, each an array with no axes.
    """

    dx: Float[Array, "T N D"] | None
    dh0: Float[Array, "N U"]
    dparameters: dict[str, Float[Array, ""]]


def unfolded_forward(
    unfolded: UnfoldedGraph,
    parameters: Parameters,
    x: Float[Array, "T N D"] | None = None,
    *,
    h0: Float[Array, "N U"] | None = None,
) -> tuple[Float[Array, "T N U"], UnfoldedCache]:
    """Compute every node of an unfolded graph in topological order: the same numbers as net.run.

    parameters, x, h0: as in RecurrentGraph.run.
    Returns what each unit holds after each step, and the cache.
    Raises ShapeError if x has another number of steps, and whatever RecurrentGraph.run raises.
    """
    function, net = "unfolded_forward", unfolded.net
    if x is not None and x.shape[0] != unfolded.steps:
        raise ShapeError(
            f"{function}: x has {x.shape[0]} steps, the graph was unfolded over {unfolded.steps}; "
            f"unfold(net, {x.shape[0]}) has the same parameters"
        )
    start = _start(function, net, parameters, x, h0, unfolded.steps)
    weights = net.strengths(parameters)
    values = {(name, -1): value for name, value in start.before.items()}
    for name, t in _computed(unfolded):
        sources = unfolded.graph.pred[name, t]
        read = [(weights[source, name], values[source, s]) for source, s in sources]
        values[name, t] = _updated(start, net.unit(name), parameters, read, t)
    h = [start.xp.stack([values[name, t] for name in net.units], axis=-1) for t in range(unfolded.steps)]
    return start.xp.stack(h), UnfoldedCache(unfolded, values, weights)


def _computed(unfolded: UnfoldedGraph) -> Iterator[Node]:
    """Nodes in topological order, without the values given from before the first step."""
    return ((name, t) for name, t in nx.topological_sort(unfolded.graph) if t >= 0)


def unfolded_backward(dh: Float[Array, "T N U"], cache: UnfoldedCache) -> GraphGradients:
    """Backpropagation through an unfolded graph: every node hands its gradient to what it read.

    Implements eq-unfold-backward.

    dh: gradient of the loss by what each unit holds after each step.
    Raises ShapeError unless dh has the shape of that.
    """
    unfolded, values = cache.unfolded, cache.values
    units, one = unfolded.net.units, next(iter(values.values()))
    xp = namespace(dh, one, function="unfolded_backward", names=("dh", "h"))
    shape = (unfolded.steps, one.shape[0], len(units))
    expect_shape("unfolded_backward", "dh", dh, shape, "the shape of what unfolded_forward returns")
    dvalues = {(name, t): dh[t, :, i] for t in range(unfolded.steps) for i, name in enumerate(units)}
    dvalues |= {(name, -1): xp.zeros_like(dh[0, :, i]) for i, name in enumerate(units)}
    dnet = _net_gradients(xp, dvalues, cache)
    names, steps = unfolded.net.inputs, range(unfolded.steps)
    dx = [xp.stack([dnet[name, t] for name in names], axis=-1) for t in steps] if names else None
    dh0 = xp.stack([dvalues[name, -1] for name in units], axis=-1)
    return GraphGradients(None if dx is None else xp.stack(dx), dh0, _parameter_gradients(xp, dnet, cache))


def _net_gradients(xp: ModuleType, dvalues: dict[Node, Array], cache: UnfoldedCache) -> dict[Node, Array]:
    """Gradient of every node's net input, last node first; adds to dvalues what goes to each node read."""
    graph, dnet = cache.unfolded.graph, {}
    for node in reversed(list(_computed(cache.unfolded))):
        activation = graph.nodes[node]["unit"].activation
        dnet[node] = dvalues[node] * activation.slope(xp, cache.values[node])
        for source in graph.pred[node]:
            weight = cache.weights[source[0], node[0]]
            dvalues[source] = dvalues[source] + weight * dnet[node]
    return dnet


def _parameter_gradients(
    xp: ModuleType, dnet: Mapping[Node, Array], cache: UnfoldedCache
) -> dict[str, Float[Array, ""]]:
    """A parameter's gradient collects from every copy of every weight and bias that names it."""
    graph = cache.unfolded.graph
    biases = [(graph.nodes[node]["unit"].bias, xp.sum(d)) for node, d in dnet.items()]
    weights = [
        (weight, xp.sum(cache.values[source] * dnet[node]))
        for source, node, weight in graph.edges.data("weight")
    ]
    zero = xp.zeros_like(xp.sum(next(iter(dnet.values()))))
    dparameters = dict.fromkeys(cache.unfolded.parameters, zero)
    for weight, d in (*biases, *weights):
        if weight.parameter is not None:
            dparameters[weight.parameter] = dparameters[weight.parameter] + weight.scale * d
    return {name: xp.asarray(d) for name, d in dparameters.items()}


# ---------------------------------------------------------------------------------------------------
# Difference equations as graphs


def newton_cooling(dt: float) -> RecurrentGraph:
    """A body that cools: one unit "theta" with a loop 1 - dt k, and the temperature around it as input.

    Implements eq-graph-cooling.  Parameter "k", the cooling rate per unit of time.
    dt: time from step to step.

    >>> import numpy as np
    >>> newton_cooling(0.1).run({"k": 2.0}, np.full((2, 1, 1), 20.0), h0=np.array([[20.0, 70.0]]))[:, 0, 1]
    array([60., 52.])
    """
    net = RecurrentGraph()
    net.add_unit("ambient", external=True)
    net.add_unit("theta")
    net.connect("ambient", "theta", "k", scale=dt)
    net.connect("theta", "theta", "k", scale=-dt, offset=1.0)
    return net


def mass_spring(dt: float) -> RecurrentGraph:
    """A mass on a spring: position "x" and velocity "v", each with a loop of 1, each reading the other.

    Implements eq-graph-spring.  Parameter "k/m", the spring's stiffness over the mass.
    dt: time from step to step.   Run it with order ("v", "x") to update the velocity first.
    Source: kruse2016computational, chapter "Recurrent networks".

    >>> import numpy as np
    >>> h = mass_spring(0.1).run({"k/m": 5.0}, h0=np.array([[1.0, 0.0]]), steps=2, order=("v", "x"))
    >>> h[:, 0, 0].round(4)
    array([0.95  , 0.8525])
    """
    net = RecurrentGraph()
    net.add_unit("x")
    net.add_unit("v")
    net.connect("x", "x")
    net.connect("v", "v")
    net.connect("v", "x", dt)
    net.connect("x", "v", "k/m", scale=-dt)
    return net
