"""Recurrent layers as torch modules, with the hand-written backward through time or with autograd's.

`unrolled` makes one operation of a whole sequence: forward it runs `coursekit.recurrent.unroll` without
autograd, backward `unroll_backward`.  Autograd keeps three or four tensors of every step and goes back
operation by operation; the hand-written backward keeps the states, and multiplies once for all steps where
autograd does for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from coursekit.arrays import ShapeError, per_axis
from coursekit.cells import (
    Activation,
    GRUCell,
    LSTMCell,
    LSTMState,
    RNNCell,
    RNNState,
    initial_gru_weights,
    initial_lstm_weights,
    initial_weights,
    lstm_blocks,
    named_activation,
)
from coursekit.cells.initial import set_forget_bias
from coursekit.recurrent.unrolling import Lengths, State, Trace, reverse_sequences, unroll, unroll_backward
from coursekit.weights import to_torch

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["GRU", "LSTM", "RNN", "unrolled"]

Make = Callable[..., Any]  # parameters -> cell


def unrolled(
    make: Make,
    parameters: Sequence[torch.Tensor | None],
    x: Float[torch.Tensor, "T N D"],
    state: State,
    *,
    lengths: Lengths = None,
    reverse: bool = False,
    hand_written: bool = True,
) -> tuple[Float[torch.Tensor, "T N U"], State]:
    """Outputs and last state of make(*parameters) along sequences, differentiable by autograd.

    make: builds a cell of coursekit.cells.   parameters: tensors, in the order of the cell's gradients.
    state, lengths, reverse: as in coursekit.recurrent.unroll.
    hand_written: go back by unroll_backward, unless that shall be differentiated too; else by autograd.
    """
    if not hand_written or x.shape[0] == 0:
        return unroll(make(*parameters), x, state, lengths=lengths, reverse=reverse)[:2]
    h, *last = _Unrolled.apply(make, len(state), lengths, reverse, x, *state, *parameters)
    return h, type(state)(*last)


class _Unrolled(torch.autograd.Function):
    """unroll and unroll_backward as one operation of autograd."""

    @staticmethod
    def forward(ctx, make, arrays, lengths, reverse, x, *tensors):
        cell = make(*tensors[arrays:])
        state = type(cell.initial(x))(*tensors[:arrays])
        h, last, trace = unroll(cell, x, state, lengths=lengths, reverse=reverse)
        ctx.make, ctx.state, ctx.options = make, type(state), {"lengths": lengths, "reverse": reverse}
        ctx.kept = [len(kept) for kept in trace.saved]
        saved = [array for kept in trace.saved for array in kept]
        # saved this way autograd sees it if something is overwritten before the way back
        ctx.save_for_backward(x, *tensors, trace.inside, *trace.states, *saved)
        return h, *last

    @staticmethod
    def backward(ctx, dh, *dlast):
        tensors, arrays = iter(ctx.saved_tensors), len(dlast)
        inputs = list(islice(tensors, len(ctx.needs_input_grad) - 4))
        x, state, parameters = inputs[0], ctx.state(*inputs[1 : 1 + arrays]), inputs[1 + arrays :]
        cell = ctx.make(*parameters)
        if torch.is_grad_enabled():  # to be differentiated again: let autograd record the sequence
            h, last, _ = unroll(cell, x, state, **ctx.options)
            wanted = [a for a, needed in zip(inputs, ctx.needs_input_grad[4:], strict=True) if needed]
            found = iter(torch.autograd.grad((h, *last), wanted, (dh, *dlast), create_graph=True))
            return None, None, None, None, *(next(found) if n else None for n in ctx.needs_input_grad[4:])
        inside, states = next(tensors), ctx.state(*islice(tensors, arrays))
        saved = [tuple(islice(tensors, kept)) for kept in ctx.kept]
        lengths, reverse = ctx.options["lengths"], ctx.options["reverse"]
        x = reverse_sequences(x, lengths) if reverse else x
        trace = Trace(cell, x, states, saved, inside, reverse, lengths)
        (dx, *dparameters), dstate = unroll_backward(
            dh, trace, ctx.state(*dlast), inputs=ctx.needs_input_grad[4]
        )
        return None, None, None, None, dx, *dstate, *dparameters


class Recurrent(torch.nn.Module):
    """What recurrent modules share: torch's arguments, parameters, inputs and outputs, our functions inside.

    A subclass says what its cell is and how many blocks of weights that has.

    init, gain: "uniform" starts like torch, number by number if the seed is the same; "orthogonal", "glorot"
    and "identity" start as coursekit.cells.initial_weights does, w times gain.
    hand_written: as in unrolled.   device, dtype: of the parameters.
    """

    blocks = 1
    torch_arguments: tuple[str, ...] = ()  # what from_torch hands over beside the common ones

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        *,
        init: str = "uniform",
        gain: float = 1.0,
        hand_written: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.name = f"nn.{type(self).__name__}"
        sizes = (input_size, hidden_size, num_layers)
        self.input_size, self.hidden_size, self.num_layers = per_axis(sizes, 3, f"{self.name}: sizes", 1)
        if not 0 <= dropout <= 1:
            raise ValueError(f"{self.name}: dropout must be a probability, got {dropout!r}")
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.init, self.gain, self.hand_written = bidirectional, init, gain, hand_written
        for name, shape in self._shapes().items():
            self.register_parameter(name, torch.nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    @property
    def output_size(self) -> int:
        """Features of one direction's output."""
        return self.hidden_size

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _endings(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _width(self, layer: int) -> int:
        return self.output_size * self.directions if layer else self.input_size

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in torch's order."""
        return {
            f"{name}{ending}": shape
            for layer in range(self.num_layers)
            for ending in self._endings(layer)
            for name, shape in self._cell_shapes(self._width(layer)).items()
        }

    def _cell_shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        rows = self.blocks * self.hidden_size
        shapes = {"weight_ih": (rows, width), "weight_hh": (rows, self.output_size)}
        return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {})

    def reset_parameters(self) -> None:
        """Draw all parameters anew, from torch's generator."""
        if self.init == "uniform":
            bound = self.gain / self.hidden_size**0.5
            for parameter in self.parameters():
                torch.nn.init.uniform_(parameter, -bound, bound)
            return
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        drawn = {}
        for layer in range(self.num_layers):
            for side in ("", "reverse.")[: self.directions]:
                own = self._draw(
                    self._width(layer),
                    self.hidden_size,
                    recurrent=self.init,
                    gain=self.gain,
                    rng=rng,
                    dtype="float64",
                )
                drawn |= {f"{layer}.{side}{name}": values for name, values in own.items()}
        with torch.no_grad():
            for name, values in to_torch(drawn).items():
                if name in self._parameters:
                    self.get_parameter(name).copy_(torch.from_numpy(values))

    @classmethod
    def from_torch(cls, module: torch.nn.RNNBase, **options: Any) -> Any:
        """Ours with the arguments of torch's module and a copy of its parameters.   options: ours alone."""
        common = "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"
        given = {name: getattr(module, name) for name in (*common, *cls.torch_arguments)}
        like = module.weight_ih_l0
        ours = cls(**given, device=like.device, dtype=like.dtype, **options)
        ours.load_state_dict(module.state_dict(), strict=False)
        return ours.train(module.training)

    def forward(
        self, input: torch.Tensor | PackedSequence, hx: Any = None, *, lengths: Lengths = None
    ) -> tuple[torch.Tensor | PackedSequence, Any]:
        """Outputs of the last layer at every step, and the last state of every layer and direction.

        input: (T, N, D); (N, T, D) if batch_first; (T, D) for one sequence; or packed sequences.
        hx: initial states, (layers * directions, N, U), without N for one sequence; zero by default.  An LSTM
        has two, (h0, c0), and returns two.
        lengths: of the sequences, as in coursekit.recurrent.unroll.
        """
        states = self._states_of(hx)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise TypeError(
                    f"{self.name}: packed sequences have lengths of their own, but lengths is given too"
                )
            x, lengths = pad_packed_sequence(input)
            y, last = self._run(x, states, lengths)
            return _packed_like(input, y, lengths), self._joined(last)
        if input.ndim == 2:
            self._expect_states(states, ())
            y, last = self._run(input[:, None], states and [a[:, None] for a in states], lengths)
            return y[:, 0], self._joined([a[:, 0] for a in last])
        if input.ndim != 3:
            shape = tuple(input.shape)
            raise ShapeError(f"{self.name}: input has {input.ndim} axes {shape}, expected 3, or 2")
        y, last = self._run(input.transpose(0, 1) if self.batch_first else input, states, lengths)
        return (y.transpose(0, 1) if self.batch_first else y), self._joined(last)

    def _run(
        self, x: Float[torch.Tensor, "T N D"], states: list[torch.Tensor] | None, lengths: Lengths
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Outputs, and the last states: one tensor for each array of the cell's state."""
        shapes = self._expect_states(states, x.shape[1:2])
        states = [x.new_zeros(shape) for shape in shapes] if states is None else states
        firsts, lasts = iter(zip(*(a.unbind(0) for a in states), strict=True)), []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = torch.nn.functional.dropout(x, self.dropout, self.training)
            ran = [
                unrolled(
                    self._cell,
                    self._arguments(ending),
                    x,
                    self.state(*next(firsts)),
                    lengths=lengths,
                    reverse=bool(side),
                    hand_written=self.hand_written,
                )
                for side, ending in enumerate(self._endings(layer))
            ]
            x = torch.cat([h for h, _ in ran], dim=-1)
            lasts += [last for _, last in ran]
        return x, [torch.stack(arrays) for arrays in zip(*lasts, strict=True)]

    def _expect_states(
        self, states: list[torch.Tensor] | None, batch: Sequence[int]
    ) -> list[tuple[int, ...]]:
        """The shapes that initial states have, once those given are known to have them."""
        widths = (self.output_size, self.hidden_size)[: len(self.state._fields)]
        shapes = [(self.num_layers * self.directions, *batch, width) for width in widths]
        for name, given, shape in zip(self._names(), states or [], shapes, strict=False):
            if given.shape != shape:
                axes = f"layers * directions, {'N, ' if batch else ''}U"
                axes += "" if batch else ", as input has no batch axis"
                raise ShapeError(
                    f"{self.name}: {name} has shape {tuple(given.shape)}, expected {shape}: {axes}"
                )
        return shapes

    def _names(self) -> list[str]:
        return ["hx"] if len(self.state._fields) == 1 else [f"{field}0" for field in self.state._fields]

    def _states_of(self, hx: Any) -> list[torch.Tensor] | None:
        """The initial states as a list, one tensor for each array of the cell's state."""
        if hx is None:
            return None
        names = self._names()
        given = [hx] if len(names) == 1 else hx
        if isinstance(given, torch.Tensor) or len(given) != len(names):
            raise TypeError(f"{self.name}: hx must be a pair ({', '.join(names)}), got {type(hx).__name__}")
        return list(given)

    def _joined(self, last: list[torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, ...]:
        return last[0] if len(last) == 1 else tuple(last)

    def _arguments(self, ending: str) -> list[torch.Tensor | None]:
        """u, w, b and bw of one cell."""
        weights = [getattr(self, f"weight_{kind}{ending}").t() for kind in ("ih", "hh")]
        return weights + [getattr(self, f"bias_{kind}{ending}", None) for kind in ("ih", "hh")]

    def extra_repr(self) -> str:
        return ", ".join(f"{name} {tuple(p.shape)}" for name, p in self.named_parameters())


class RNN(Recurrent):
    """torch.nn.RNN, with our functions inside: the same arguments, parameters, inputs and outputs.

    Implements eq-rnn-forward and eq-rnn-unroll.  State dictionaries of torch.nn.RNN fit, in both directions.

    nonlinearity: "tanh", "relu" or any other of coursekit.cells.ACTIVATIONS, or an Activation.
    clip: as in coursekit.cells.RNNCell.   dropout is between layers, while training.
    options: init, gain, hand_written, device and dtype of Recurrent.
    """

    state = RNNState
    torch_arguments = ("nonlinearity",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str | Activation = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        clip: float | None = None,
        **options: Any,
    ) -> None:
        self.nonlinearity, self.activation, self.clip = nonlinearity, named_activation(nonlinearity), clip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options
        )

    def _draw(self, features: int, units: int, **options: Any) -> dict[str, np.ndarray]:
        return initial_weights(features, units, **options)

    def _cell(self, *parameters: torch.Tensor | None) -> RNNCell:
        return RNNCell(*parameters, activation=self.activation, clip=self.clip, function=self.name)


class LSTM(Recurrent):
    """torch.nn.LSTM, with our functions inside and the variants that torch lacks.

    Implements eq-lstm-gates, eq-lstm-state and eq-lstm-output.  Without variants, state dictionaries of
    torch.nn.LSTM fit, in both directions.  Peephole weights are peephole_l0 and so on, a row for each gate.

    input_size ... proj_size: as in torch.nn.LSTM.
    gates, coupled, activations, clip: as in coursekit.cells.LSTMCell.   peepholes: let the gates see the cell
    state, at first with weight 0 unless init is "uniform".
    forget_bias: offset that the forget gate starts with; None leaves what init gives, as torch does.
    options: as in RNN.   init draws square w, all but "uniform" cannot go with proj_size.
    """

    state = LSTMState
    torch_arguments = ("proj_size",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        gates: str = "ifo",
        coupled: str | None = None,
        peepholes: bool = False,
        activations: Sequence[str | Activation] = ("sigmoid", "tanh", "tanh"),
        clip: float | None = None,
        forget_bias: float | None = None,
        **options: Any,
    ) -> None:
        self.order = lstm_blocks(gates, coupled, "nn.LSTM")
        self.blocks, self.proj_size, self.peepholes = len(self.order), proj_size, peepholes
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"nn.LSTM: proj_size must be from 0 to hidden_size - 1, got {proj_size!r}")
        if peepholes and self.order == "g":
            raise ValueError("nn.LSTM: peepholes=True, but there is no gate that could see the cell state")
        if forget_bias is not None and not bias:
            raise ValueError(f"nn.LSTM: forget_bias {forget_bias!r} needs bias=True")
        self.gates, self.coupled, self.activations, self.clip = gates, coupled, tuple(activations), clip
        self.forget_bias = forget_bias
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options
        )

    @property
    def output_size(self) -> int:
        """Features of one direction's output."""
        return self.proj_size or self.hidden_size

    def _cell_shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        shapes = super()._cell_shapes(width)
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        if self.peepholes:
            shapes["peephole"] = (self.blocks - 1, self.hidden_size)
        return shapes

    def reset_parameters(self) -> None:
        """Draw all parameters anew, from torch's generator."""
        super().reset_parameters()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith("peephole") and self.init != "uniform":
                    parameter.zero_()
                if name.startswith("bias") and self.forget_bias is not None:
                    value = self.forget_bias if name.startswith("bias_ih") else 0.0
                    set_forget_bias(parameter, value, self.order, self.coupled)

    def _draw(self, features: int, units: int, **options: Any) -> dict[str, np.ndarray]:
        if self.proj_size:
            raise ValueError(f"nn.LSTM: init {self.init!r} draws square w, with proj_size it is not square")
        variant = {"gates": self.gates, "coupled": self.coupled}
        return initial_lstm_weights(features, units, forget_bias=0.0, **variant, **options)

    def _arguments(self, ending: str) -> list[torch.Tensor | None]:
        """u, w, b, bw, p and proj of one cell."""
        proj = getattr(self, f"weight_hr{ending}", None)
        own = [getattr(self, f"peephole{ending}", None), None if proj is None else proj.t()]
        return super()._arguments(ending) + own

    def _cell(self, *parameters: torch.Tensor | None) -> LSTMCell:
        return LSTMCell(
            *parameters,
            gates=self.gates,
            coupled=self.coupled,
            activations=self.activations,
            clip=self.clip,
            function=self.name,
        )


class GRU(Recurrent):
    """torch.nn.GRU, with our functions inside, in both forms.

    Implements eq-gru-gates and eq-gru-state.  State dictionaries of torch.nn.GRU fit, in both directions, and
    with reset="after" give the same outputs.

    input_size ... bidirectional: as in torch.nn.GRU.   options: as in RNN.
    reset, activations, clip: as in coursekit.cells.GRUCell.
    """

    state = RNNState
    blocks = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset: str = "after",
        activations: Sequence[str | Activation] = ("sigmoid", "tanh"),
        clip: float | None = None,
        **options: Any,
    ) -> None:
        self.reset, self.activations, self.clip = reset, tuple(activations), clip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options
        )

    def _draw(self, features: int, units: int, **options: Any) -> dict[str, np.ndarray]:
        return initial_gru_weights(features, units, reset=self.reset, **options)

    def _cell(self, *parameters: torch.Tensor | None) -> GRUCell:
        return GRUCell(
            *parameters, reset=self.reset, activations=self.activations, clip=self.clip, function=self.name
        )


def _packed_like(given: PackedSequence, y: torch.Tensor, lengths: torch.Tensor) -> PackedSequence:
    """y (T N C), whose batch is in the order that the user packed, packed as given is."""
    order = given.sorted_indices
    if order is not None:
        y, lengths = y.index_select(1, order), lengths[order.to(lengths.device)]
    data = pack_padded_sequence(y, lengths).data
    return PackedSequence(data, given.batch_sizes, given.sorted_indices, given.unsorted_indices)
