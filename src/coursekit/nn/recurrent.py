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
from coursekit.cells import Activation, RNNCell, RNNState, initial_weights, named_activation
from coursekit.recurrent.unrolling import Lengths, State, Trace, reverse_sequences, unroll, unroll_backward
from coursekit.weights import to_torch

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["RNN", "unrolled"]

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


class RNN(torch.nn.Module):
    """torch.nn.RNN, with our functions inside: the same arguments, parameters, inputs and outputs.

    Implements eq-rnn-forward and eq-rnn-unroll.  State dictionaries of torch.nn.RNN fit, in both directions.

    nonlinearity: "tanh", "relu" or any other of coursekit.cells.ACTIVATIONS, or an Activation.
    clip: as in coursekit.cells.RNNCell.
    init, gain: "uniform" starts like torch.nn.RNN, number by number if the seed is the same; "orthogonal",
    "glorot" and "identity" start as coursekit.cells.initial_weights does, w times gain.
    hand_written: as in unrolled.
    dropout is between layers, while training.
    """

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
        init: str = "uniform",
        gain: float = 1.0,
        hand_written: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = (input_size, hidden_size, num_layers)
        self.input_size, self.hidden_size, self.num_layers = per_axis(sizes, 3, "nn.RNN: sizes", 1)
        if not 0 <= dropout <= 1:
            raise ValueError(f"nn.RNN: dropout must be a probability, got {dropout!r}")
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        self.dropout, self.bidirectional, self.clip = float(dropout), bidirectional, clip
        self.init, self.gain, self.hand_written = init, gain, hand_written
        self.activation = named_activation(nonlinearity)
        for name, shape in self._shapes().items():
            self.register_parameter(name, torch.nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in torch's order."""
        units, shapes = self.hidden_size, {}
        for layer in range(self.num_layers):
            width = units * self.directions if layer else self.input_size
            for ending in self._endings(layer):
                shapes |= {f"weight_ih{ending}": (units, width), f"weight_hh{ending}": (units, units)}
                if self.bias:
                    shapes |= {f"bias_ih{ending}": (units,), f"bias_hh{ending}": (units,)}
        return shapes

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _endings(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

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
            width = self.hidden_size * self.directions if layer else self.input_size
            for side in ("", "reverse.")[: self.directions]:
                own = initial_weights(
                    width, self.hidden_size, recurrent=self.init, gain=self.gain, rng=rng, dtype="float64"
                )
                drawn |= {f"{layer}.{side}{name}": values for name, values in own.items()}
        with torch.no_grad():
            for name, values in to_torch(drawn).items():
                if name in self._parameters:
                    self.get_parameter(name).copy_(torch.from_numpy(values))

    @classmethod
    def from_torch(cls, module: torch.nn.RNN, **options: Any) -> RNN:
        """Ours with the arguments of torch's module and a copy of its parameters.   options: ours alone."""
        names = ("input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "dropout")
        given = {name: getattr(module, name) for name in (*names, "bidirectional")}
        like = module.weight_ih_l0
        ours = cls(**given, device=like.device, dtype=like.dtype, **options)
        ours.load_state_dict(module.state_dict())
        return ours.train(module.training)

    def forward(
        self,
        input: torch.Tensor | PackedSequence,
        hx: torch.Tensor | None = None,
        *,
        lengths: Lengths = None,
    ) -> tuple[torch.Tensor | PackedSequence, Float[torch.Tensor, "layers*directions N U"]]:
        """Outputs of the last layer at every step, and the last state of every layer and direction.

        input: (T, N, D); (N, T, D) if batch_first; (T, D) for one sequence; or packed sequences.
        hx: initial states, (layers * directions, N, U), without N for one sequence; zero by default.
        lengths: of the sequences, as in coursekit.recurrent.unroll.
        """
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise TypeError(
                    "nn.RNN: packed sequences have lengths of their own, but lengths is given too"
                )
            x, lengths = pad_packed_sequence(input)
            y, last = self._run(x, hx, lengths)
            return _packed_like(input, y, lengths), last
        if input.ndim == 2:
            self._expect_states(hx, ())
            y, last = self._run(input[:, None], None if hx is None else hx[:, None], lengths)
            return y[:, 0], last[:, 0]
        if input.ndim != 3:
            raise ShapeError(f"nn.RNN: input has {input.ndim} axes {tuple(input.shape)}, expected 3, or 2")
        y, last = self._run(input.transpose(0, 1) if self.batch_first else input, hx, lengths)
        return (y.transpose(0, 1) if self.batch_first else y), last

    def _run(
        self, x: Float[torch.Tensor, "T N D"], hx: torch.Tensor | None, lengths: Lengths
    ) -> tuple[torch.Tensor, torch.Tensor]:
        shape = self._expect_states(hx, x.shape[1:2])
        hx = x.new_zeros(shape) if hx is None else hx
        states, last = iter(hx.unbind(0)), []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = torch.nn.functional.dropout(x, self.dropout, self.training)
            ran = [
                unrolled(
                    self._cell,
                    self._arguments(ending),
                    x,
                    RNNState(next(states)),
                    lengths=lengths,
                    reverse=bool(side),
                    hand_written=self.hand_written,
                )
                for side, ending in enumerate(self._endings(layer))
            ]
            x = torch.cat([h for h, _ in ran], dim=-1)
            last += [state.h for _, state in ran]
        return x, torch.stack(last)

    def _expect_states(self, hx: torch.Tensor | None, batch: Sequence[int]) -> tuple[int, ...]:
        shape = self.num_layers * self.directions, *batch, self.hidden_size
        if hx is not None and hx.shape != shape:
            axes = (
                "layers * directions, N, U" if batch else "layers * directions, U, as input has no batch axis"
            )
            raise ShapeError(f"nn.RNN: hx has shape {tuple(hx.shape)}, expected {shape}: {axes}")
        return shape

    def _cell(self, *parameters: torch.Tensor | None) -> RNNCell:
        return RNNCell(*parameters, activation=self.activation, clip=self.clip, function="nn.RNN")

    def _arguments(self, ending: str) -> list[torch.Tensor | None]:
        """u, w, b and bw of one cell."""
        weights = [getattr(self, f"weight_{kind}{ending}").t() for kind in ("ih", "hh")]
        return weights + [getattr(self, f"bias_{kind}{ending}", None) for kind in ("ih", "hh")]

    def extra_repr(self) -> str:
        return ", ".join(f"{name} {tuple(p.shape)}" for name, p in self.named_parameters())


def _packed_like(given: PackedSequence, y: torch.Tensor, lengths: torch.Tensor) -> PackedSequence:
    """y (T N C), whose batch is in the order that the user packed, packed as given is."""
    order = given.sorted_indices
    if order is not None:
        y, lengths = y.index_select(1, order), lengths[order.to(lengths.device)]
    data = pack_padded_sequence(y, lengths).data
    return PackedSequence(data, given.batch_sizes, given.sorted_indices, given.unsorted_indices)
