"""Weights of recurrent layers in other layouts: torch's state dictionaries, the tensors of ONNX operators.

Here weights have one dictionary: "0.u" are the weights from the input of layer 0, "0.w" those from its state,
"0.b" and "0.bw" its offsets, and "0.reverse.u" and so on belong to its second cell, which reads in reverse.
An LSTM may have "0.p", its peephole weights, and "0.proj", its projection.
Inputs are rows, so that u is (D, U); torch and ONNX store (U, D).  The blocks of gated cells stand in torch's
order, i f g o and r z n; ONNX has i o f c and z r h.  Everything given is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from array_api_compat import array_namespace

from coursekit.arrays import Array, ShapeError, copy
from coursekit.cells import ACTIVATIONS, Activation

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
    "ONNXTensors",
    "cell_parameters",
    "from_onnx",
    "from_torch",
    "joined_offsets",
    "onnx_activations",
    "to_onnx",
    "to_torch",
]

Parameters = Mapping[str, Array]

# our name: the start of torch's
TORCH_NAMES = {
    "u": "weight_ih",
    "w": "weight_hh",
    "b": "bias_ih",
    "bw": "bias_hh",
    "p": "peephole",
    "proj": "weight_hr",
}
SIDES = ("", "reverse.")

# by the number of blocks in the operator's tensors: which of them are ours, in our order
ONNX_BLOCKS = {1: (0,), 3: (1, 0, 2), 4: (0, 2, 3, 1)}
COUPLED_BLOCKS = (0, 3, 1)  # i, g, o: where f = 1 - i, the operator has a block for f and ignores it


def from_torch(state: Parameters) -> dict[str, Array]:
    """Parameters in our layout, from the state dictionary of a torch.nn.RNN, LSTM or GRU.

    Those of coursekit.nn.LSTM are taken too: peephole_l0 becomes "0.p".
    Raises ValueError for a name that such a layer does not have.

    >>> import numpy as np
    >>> list(from_torch({"weight_ih_l0_reverse": np.zeros((3, 2)), "bias_hh_l1": np.zeros(3)}))
    ['0.reverse.u', '1.bw']
    """
    ours = {theirs: name for name, theirs in TORCH_NAMES.items()}
    parameters = {}
    for key, values in state.items():
        found = re.fullmatch(r"(\w+?)_l(\d+)(_reverse)?", key)
        if not found or found[1] not in ours:
            raise ValueError(f"from_torch: {key!r} is no parameter of torch.nn.RNN, e.g. 'weight_ih_l0'")
        kind, layer, reverse = found.groups()
        name = ours[kind]
        parameters[f"{layer}.{SIDES[bool(reverse)]}{name}"] = _turned(values, name)
    return parameters


def to_torch(parameters: Parameters) -> dict[str, Array]:
    """A state dictionary for torch.nn.RNN, LSTM or GRU, from parameters in our layout.

    Peephole weights, which torch does not have, are named as in coursekit.nn.LSTM.  Where a cell has one of
    the two offsets, the other is zero: torch has both or none.
    Raises ValueError for a name that is not ours.

    >>> import numpy as np
    >>> {name: p.shape for name, p in to_torch({"0.u": np.zeros((2, 3)), "0.b": np.zeros(3)}).items()}
    {'weight_ih_l0': (3, 2), 'bias_ih_l0': (3,), 'bias_hh_l0': (3,)}
    """
    state = {}
    for key, values in parameters.items():
        found = re.fullmatch(r"(\d+)\.(reverse\.)?(u|w|b|bw|p|proj)", key)
        if not found:
            raise ValueError(f"to_torch: {key!r} is no parameter of a recurrent layer, e.g. '0.u'")
        layer, reverse, name = found.groups()
        ending = f"_l{layer}" + ("_reverse" if reverse else "")
        state[TORCH_NAMES[name] + ending] = _turned(values, name)
        if name in ("b", "bw"):
            for offset in ("b", "bw"):
                if f"{layer}.{reverse or ''}{offset}" not in parameters:
                    state[TORCH_NAMES[offset] + ending] = array_namespace(values).zeros_like(values)
    return state


class ONNXTensors(NamedTuple):
    """The inputs W, R, B and P of the ONNX operators RNN, GRU and LSTM; None where there is none."""

    weights: Float[Array, "directions G*U D"]
    recurrent: Float[Array, "directions G*U U"]
    offsets: Float[Array, "directions 2*G*U"] | None
    peepholes: Float[Array, "directions 3*U"] | None


def from_onnx(
    weights: Float[Array, "directions G*U D"],
    recurrent: Float[Array, "directions G*U U"],
    offsets: Float[Array, "directions 2*G*U"] | None = None,
    peepholes: Float[Array, "directions 3*U"] | None = None,
    *,
    coupled: bool = False,
) -> dict[str, Array]:
    """Parameters in our layout, from the inputs W, R, B and P of the ONNX operators RNN, GRU and LSTM.

    Which operator it is, is told by the G = 1, 3 or 4 blocks of the tensors.
    coupled: the attribute input_forget of an LSTM; its forget gate's block is left out.
    Raises ShapeError unless the tensors have such blocks and the same one or two directions, ValueError if
    coupled or peepholes are given for another operator than LSTM.

    >>> import numpy as np
    >>> list(from_onnx(np.zeros((2, 3, 5)), np.zeros((2, 3, 3))))
    ['0.u', '0.w', '0.reverse.u', '0.reverse.w']
    """
    G = _expect_onnx(weights, recurrent, offsets, peepholes)
    if G != 4 and (coupled or peepholes is not None):
        raise ValueError(f"from_onnx: coupled and peepholes are for LSTM, but R has {G} blocks, expected 4")
    order = COUPLED_BLOCKS if coupled else ONNX_BLOCKS[G]
    parameters = {}
    for d in range(weights.shape[0]):
        own = {"u": weights[d, ...].T, "w": recurrent[d, ...].T}
        if offsets is not None:
            half = offsets.shape[1] // 2
            own |= {"b": offsets[d, :half], "bw": offsets[d, half:]}
        own = {name: _reordered(values, order, G) for name, values in own.items()}
        if peepholes is not None:
            rows = array_namespace(peepholes).reshape(peepholes[d, ...], (3, -1))
            own["p"] = _reordered(rows.T, (0, 1) if coupled else (0, 2, 1), 3).T
        parameters |= {f"0.{SIDES[d]}{name}": copy(values) for name, values in own.items()}
    return parameters


def to_onnx(parameters: Parameters, *, coupled: bool = False) -> ONNXTensors:
    """W, R, B and P of the ONNX operators RNN, GRU or LSTM, from the parameters of one layer.

    coupled: they are of an LSTM with f = 1 - i; the operator, with input_forget = 1, gets a block of zeros
    for f, which it ignores.
    Raises ValueError for more layers than one, and for what the operators lack: projections, fewer gates.

    >>> import numpy as np
    >>> tensors = to_onnx({"0.u": np.zeros((2, 3)), "0.w": np.zeros((3, 3)), "0.b": np.zeros(3)})
    >>> tensors.weights.shape, tensors.recurrent.shape, tensors.offsets.shape
    ((1, 3, 2), (1, 3, 3), (1, 6))
    """
    layers = cell_parameters(parameters)
    if len(layers) != 1:
        raise ValueError(
            f"to_onnx: the operator has one layer, expected one, got {len(layers)}: {list(parameters)}"
        )
    (cells,) = layers
    w = cells[0]["w"]
    xp, G = array_namespace(w), w.shape[1] // max(w.shape[0], 1)
    if G not in ({3} if coupled else ONNX_BLOCKS) or any("proj" in cell for cell in cells):
        kind = "3 of an LSTM with f = 1 - i" if coupled else "1, 3 or 4 (RNN, GRU, LSTM), and no projection"
        raise ValueError(f"to_onnx: w {tuple(w.shape)} has {G} blocks, the operators take {kind}")
    blocks = 4 if coupled else G
    order = COUPLED_BLOCKS if coupled else ONNX_BLOCKS[G]
    back = [order.index(k) if k in order else None for k in range(blocks)]
    turned = [{k: _reordered(cell[k], back, G) for k in ("u", "w", "b", "bw") if k in cell} for cell in cells]
    weights, recurrent = (xp.stack([copy(cell[name].T) for cell in turned]) for name in ("u", "w"))
    offsets = peepholes = None
    if any(name in cell for cell in cells for name in ("b", "bw")):
        zero = xp.zeros_like(weights[0, :, 0])
        offsets = xp.stack([xp.concat([cell.get("b", zero), cell.get("bw", zero)]) for cell in turned])
    if any("p" in cell for cell in cells):
        rows = (0, 1, None) if coupled else (0, 2, 1)
        peepholes = xp.stack([_flat_peepholes(cell["p"], rows) for cell in cells])
    return ONNXTensors(weights, recurrent, offsets, peepholes)


def _flat_peepholes(p: Float[Array, "S U"], rows: Sequence[int | None]) -> Float[Array, " 3*U"]:
    """The rows i, o, f one after the other."""
    return array_namespace(p).reshape(_reordered(p.T, rows, p.shape[0]).T, (-1,))


def _reordered(
    a: Float[Array, "... G*n"], order: Sequence[int | None], blocks: int
) -> Float[Array, "... M*n"]:
    """These of the blocks in a's last axis, one after the other; None is a block of zeros."""
    xp = array_namespace(a)
    width = a.shape[-1] // blocks
    parts = [a[..., k * width : (k + 1) * width] for k in range(blocks)]
    return xp.concat([xp.zeros_like(parts[0]) if k is None else parts[k] for k in order], axis=-1)


def cell_parameters(parameters: Parameters) -> list[list[dict[str, Array]]]:
    """The parameters by layer and direction, as arguments of a cell.

    >>> cell_parameters({"0.u": 1, "0.w": 2, "1.u": 3, "1.w": 4})
    [[{'u': 1, 'w': 2}], [{'u': 3, 'w': 4}]]
    """
    layers = []
    for layer in count():
        cells = [_under(f"{layer}.{side}", parameters) for side in SIDES]
        if not cells[0]:
            return layers
        layers.append([cell for cell in cells if cell])


def joined_offsets(parameters: Parameters) -> dict[str, Array]:
    """The same parameters with b + bw as b, and no bw, for cells where only the sum has an effect.

    That is all but a GRU whose reset comes after the product: its bw is part of what the reset multiplies.

    >>> joined_offsets({"0.b": 1, "0.bw": 2})
    {'0.b': 3}
    """
    joined = {key: values for key, values in parameters.items() if not key.endswith(".bw")}
    for key in parameters.keys() - joined.keys():
        b = key.removesuffix("w")
        joined[b] = joined[b] + parameters[key] if b in joined else parameters[key]
    return joined


def onnx_activations(
    names: Sequence[str], alpha: Sequence[float] | None = None, beta: Sequence[float] | None = None
) -> list[Activation]:
    """The activations that an ONNX operator's attributes name, in their order.

    alpha, beta: numbers for those that take some, in order; or one for every activation, used or not.
    Raises ValueError for an unknown name, or unless there are as many numbers as are taken.

    >>> [leaky] = onnx_activations(["LeakyRelu"], [0.5])
    >>> import numpy as np
    >>> float(leaky.value(np, np.array(-2.0)))
    -1.0
    """
    ours = {name.replace("_", ""): name for name in ACTIVATIONS}
    unknown = [name for name in names if name.lower() not in ours or name.lower() == "identity"]
    if unknown:
        raise ValueError(f"onnx_activations: {unknown} are unknown, the operators have 'Tanh', 'Relu', ...")
    makers = [ACTIVATIONS[ours[name.lower()]] for name in names]
    given = {"alpha": alpha, "beta": beta}
    numbers = {word: _numbers_for(word, given[word], makers) for word in given if given[word] is not None}
    return [
        make(**{word: numbers[word][i] for word in numbers if word in signature(make).parameters})
        for i, make in enumerate(makers)
    ]


def _numbers_for(word: str, given: Sequence[float], makers: list[Callable]) -> list[float]:
    """One number for every activation; those that take none get one that is not used."""
    if len(given) == len(makers):
        return list(given)
    taken = [word in signature(make).parameters for make in makers]
    if len(given) != sum(taken):
        raise ValueError(
            f"onnx_activations: {word} has {len(given)} numbers, expected {sum(taken)}: one for each "
            f"activation that takes one; or {len(makers)}, one for each"
        )
    rest = iter(given)
    return [next(rest) if takes else 0.0 for takes in taken]


def _under(prefix: str, parameters: Parameters) -> dict[str, Array]:
    names = {key.removeprefix(prefix): p for key, p in parameters.items() if key.startswith(prefix)}
    return {name: p for name, p in names.items() if name in TORCH_NAMES}


def _turned(values: Array, name: str) -> Array:
    """A copy; of a weight matrix, its transpose."""
    return copy(values.T if name in ("u", "w", "proj") else values)


def _expect_onnx(weights: Array, recurrent: Array, offsets: Array | None, peepholes: Array | None) -> int:
    """The number of blocks, once the tensors are known to fit each other."""
    directions, rows, units = tuple(recurrent.shape) if recurrent.ndim == 3 else (0, 0, 0)
    G = rows // units if units else 0
    expected = {
        "recurrent": (recurrent, (directions, G * units, units)),
        "weights": (weights, (directions, G * units, weights.shape[-1])),
        "offsets": (offsets, (directions, 2 * G * units)),
        "peepholes": (peepholes, (directions, 3 * units)),
    }
    for name, (given, shape) in expected.items():
        if given is not None and (
            tuple(given.shape) != shape or directions not in (1, 2) or G not in ONNX_BLOCKS
        ):
            raise ShapeError(
                f"from_onnx: {name} has shape {tuple(given.shape)}, expected W (directions, G U, D), "
                f"R (directions, G U, U), B (directions, 2 G U), P (directions, 3 U) with one or two "
                f"directions and G = 1 (RNN), 3 (GRU) or 4 (LSTM) blocks"
            )
    return G
