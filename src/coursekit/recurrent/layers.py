"""Recurrent layers for networks that train with coursekit.optim: layers on layers, both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import device

from coursekit.arrays import Array, ShapeError, expect_axes, expect_shape, namespace, per_axis
from coursekit.cells import (
    Activation,
    GRUCell,
    LSTMCell,
    RNNCell,
    initial_gru_weights,
    initial_lstm_weights,
    initial_weights,
)
from coursekit.layers import Layer, Parameters
from coursekit.recurrent.unrolling import Lengths, State, Trace, unroll, unroll_backward

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import DTypeLike

__all__ = ["GRU", "LSTM", "LastStep", "RNN", "stack_backward", "stack_forward"]


def stack_forward(
    layers: Sequence[Sequence[Any]],
    x: Float[Array, "T N D"],
    states: Sequence[Sequence[State | None]] | None = None,
    *,
    lengths: Lengths = None,
    function: str = "stack_forward",
) -> tuple[Float[Array, "T N C"], list[list[State]], list[list[Trace]]]:
    """Run layers of cells, each on the outputs of the one below: outputs of the last, last states, cache.

    layers: for each layer one cell, or two: the second reads the sequences in reverse, and the outputs of
    both are joined along the features.   states: initial states, arranged like the layers.   lengths: as in
    unroll.
    """
    lasts, traces = [], []
    for depth, cells in enumerate(layers):
        given = [None] * len(cells) if states is None else states[depth]
        ran = [
            unroll(cell, x, state, lengths=lengths, reverse=bool(side), function=function)
            for side, (cell, state) in enumerate(zip(cells, given, strict=True))
        ]
        outputs, last, trace = zip(*ran, strict=True)
        x = outputs[0] if len(cells) == 1 else cells[0].xp.concat(outputs, axis=-1)
        lasts.append(list(last))
        traces.append(list(trace))
    return x, lasts, traces


def stack_backward(
    dy: Float[Array, "T N C"],
    cache: list[list[Trace]],
    dlasts: Sequence[Sequence[State | None]] | None = None,
    *,
    function: str = "stack_backward",
) -> tuple[Float[Array, "T N D"], list[list[Any]], list[list[State]]]:
    """Gradients of the input, of every cell (as its `gradients` gives them) and of the initial states.

    dlasts: gradients by the last states, in the arrangement of the layers.
    """
    gradients: list[list[Any]] = []
    dstates: list[list[State]] = []
    for depth, traces in reversed(list(enumerate(cache))):
        given = [None] * len(traces) if dlasts is None else dlasts[depth]
        units = [trace.states[0].shape[-1] for trace in traces]
        parts = [dy] if len(traces) == 1 else [dy[..., : units[0]], dy[..., units[0] :]]
        ran = [
            unroll_backward(part, trace, dlast, function=function)
            for part, trace, dlast in zip(parts, traces, given, strict=True)
        ]
        dy = sum((own.dx for own, _ in ran[1:]), ran[0][0].dx)
        gradients.insert(0, [own for own, _ in ran])
        dstates.insert(0, [dstate for _, dstate in ran])
    return dy, gradients, dstates


class Recurrent(Layer):
    """Layers of one kind of cell: x (T N D) becomes the last layer's hidden states (T N U).

    Parameters of layer 0 are "0.u", "0.w" and "0.b"; those that read in reverse are "0.reverse.u" and so on.
    A subclass says how a cell's parameters are drawn, and builds the cell.
    """

    def __init__(
        self,
        features: int,
        units: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        init: str = "orthogonal",
        gain: float = 1.0,
        rng: np.random.Generator,
        dtype: DTypeLike = "float32",
    ) -> None:
        self.name = type(self).__name__
        features, units, layers = per_axis((features, units, layers), 3, f"{self.name}: sizes", 1)
        self.prefixes = [
            [f"{depth}.", f"{depth}.reverse."] if bidirectional else [f"{depth}."] for depth in range(layers)
        ]
        parameters: Parameters = {}
        for depth, sides in enumerate(self.prefixes):
            width = features if depth == 0 else units * len(sides)
            for prefix in sides:
                drawn = self._draw(width, units, recurrent=init, gain=gain, rng=rng, dtype=dtype)
                parameters |= {prefix + name: p for name, p in drawn.items()}
        super().__init__(parameters)

    def _draw(self, features: int, units: int, **options: Any) -> Parameters:
        raise NotImplementedError

    def _cell(self, parameters: Parameters) -> Any:
        raise NotImplementedError

    def cells(self) -> list[list[Any]]:
        """The cells of each layer, over the layer's own parameters."""
        return [[self._cell(self._own(prefix)) for prefix in sides] for sides in self.prefixes]

    def _own(self, prefix: str) -> Parameters:
        """The parameters of one cell, by their own names."""
        start = len(prefix)
        return {k[start:]: p for k, p in self.parameters.items() if k.rpartition(".")[0] == prefix[:-1]}

    def run(
        self,
        x: Float[Array, "T N D"],
        states: Sequence[Sequence[State | None]] | None = None,
        *,
        lengths: Lengths = None,
    ) -> tuple[Float[Array, "T N C"], list[list[State]], Any]:
        """Outputs, last states and cache, from initial states, over sequences of these lengths."""
        return stack_forward(self.cells(), x, states, lengths=lengths, function=self.name)

    def forward(
        self, x: Float[Array, "T N D"], *, lengths: Lengths = None
    ) -> tuple[Float[Array, "T N C"], Any]:
        y, _, cache = self.run(x, lengths=lengths)
        return y, cache

    def backward(
        self, dy: Float[Array, "T N C"], cache: Any, dlasts: Sequence[Sequence[State | None]] | None = None
    ) -> tuple[Float[Array, "T N D"], Parameters]:
        dx, by_cell, _ = stack_backward(dy, cache, dlasts, function=self.name)
        gradients = {
            prefix + name: getattr(own, f"d{name}")
            for sides, cells in zip(self.prefixes, by_cell, strict=True)
            for prefix, own in zip(sides, cells, strict=True)
            for name in self._own(prefix)
        }
        return dx, gradients


class RNN(Recurrent):
    """Recurrent layer with the plain cell: x (T N D) becomes the last layer's hidden states (T N U).

    Parameters of layer 0 are "0.u", "0.w" and "0.b"; those that read in reverse are "0.reverse.u" and so on.

    features, units: D and U.   layers: how many, one on the other.   bidirectional: give every layer a second
    cell that reads in reverse; the outputs then have 2 U features.   activation: as in RNNCell.
    init, gain: how w starts, "orthogonal", "glorot", "identity" or "uniform", and a factor.   rng: draws.

    >>> layer = RNN(2, 3, layers=2, bidirectional=True, rng=np.random.default_rng(0))
    >>> layer(np.ones((7, 4, 2), "float32")).shape, layer.parameter_count
    ((7, 4, 6), 96)
    """

    def __init__(
        self, features: int, units: int, *, activation: str | Activation = "tanh", **options: Any
    ) -> None:
        self.activation = activation
        super().__init__(features, units, **options)

    def _draw(self, features: int, units: int, **options: Any) -> Parameters:
        return initial_weights(features, units, **options)

    def _cell(self, parameters: Parameters) -> RNNCell:
        return RNNCell(**parameters, activation=self.activation, function="RNN")


class LSTM(Recurrent):
    """Recurrent layer with LSTM cells: x (T N D) becomes the last layer's hidden states (T N U).

    features, units, layers, bidirectional, init, gain, rng, dtype: as in RNN.
    gates, coupled: as in LSTMCell.   forget_bias, peepholes: as in initial_lstm_weights.

    >>> layer = LSTM(2, 3, peepholes=True, rng=np.random.default_rng(0))
    >>> layer(np.ones((7, 4, 2), "float32")).shape, layer.parameter_count
    ((7, 4, 3), 81)
    """

    def __init__(
        self,
        features: int,
        units: int,
        *,
        forget_bias: float = 1.0,
        gates: str = "ifo",
        coupled: str | None = None,
        peepholes: bool = False,
        **options: Any,
    ) -> None:
        self.variant = {"gates": gates, "coupled": coupled}
        self.start = {"forget_bias": forget_bias, "peepholes": peepholes, **self.variant}
        super().__init__(features, units, **options)

    def _draw(self, features: int, units: int, **options: Any) -> Parameters:
        return initial_lstm_weights(features, units, **self.start, **options)

    def _cell(self, parameters: Parameters) -> LSTMCell:
        return LSTMCell(**parameters, **self.variant, function="LSTM")


class GRU(Recurrent):
    """Recurrent layer with GRU cells: x (T N D) becomes the last layer's hidden states (T N U).

    features, units, layers, bidirectional, init, gain, rng, dtype: as in RNN.   reset: as in GRUCell.

    >>> layer = GRU(2, 3, rng=np.random.default_rng(0))
    >>> layer(np.ones((7, 4, 2), "float32")).shape, layer.parameter_count
    ((7, 4, 3), 63)
    """

    def __init__(self, features: int, units: int, *, reset: str = "after", **options: Any) -> None:
        self.reset = reset
        super().__init__(features, units, **options)

    def _draw(self, features: int, units: int, **options: Any) -> Parameters:
        return initial_gru_weights(features, units, reset=self.reset, **options)

    def _cell(self, parameters: Parameters) -> GRUCell:
        return GRUCell(**parameters, reset=self.reset, function="GRU")


class LastStep(Layer):
    """The last of T steps: a sequence becomes one vector, x (T N C) becomes (N C)."""

    def forward(self, x: Float[Array, "T N C"]) -> tuple[Float[Array, "N C"], Any]:
        namespace(x, function="LastStep.forward")
        expect_axes("LastStep.forward", "x", x, "T N C")
        if x.shape[0] == 0:
            raise ShapeError(f"LastStep.forward: x has no steps, so no last one (x {tuple(x.shape)})")
        return x[-1], x.shape

    def backward(self, dy: Float[Array, "N C"], cache: Any) -> tuple[Float[Array, "T N C"], Parameters]:
        xp = namespace(dy, function="LastStep.backward", names=("dy",))
        expect_shape("LastStep.backward", "dy", dy, cache[1:], "the shape of y")
        dx = xp.zeros(cache, dtype=dy.dtype, device=device(dy))
        dx[-1] = dy
        return dx, {}
