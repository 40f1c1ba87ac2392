"""Weights of recurrent layers in other layouts: torch's state dictionaries, the tensors of ONNX operators.

Here weights have one dictionary: "0.u" are the weights from the input of layer 0, "0.w" those from its state,
"0.b" and "0.bw" its offsets, and "0.reverse.u" and so on belong to its second cell, which reads in reverse.
Inputs are rows, so that u is (D, U); torch and ONNX store (U, D).  Everything given is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from itertools import count
from typing import TYPE_CHECKING

from array_api_compat import array_namespace

from coursekit.arrays import Array, ShapeError, copy
from coursekit.cells import ACTIVATIONS, Activation

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = [
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
TORCH_NAMES = {"u": "weight_ih", "w": "weight_hh", "b": "bias_ih", "bw": "bias_hh"}
SIDES = ("", "reverse.")


def from_torch(state: Parameters) -> dict[str, Array]:
    """Parameters in our layout, from the state dictionary of a torch.nn.RNN.

    Raises ValueError for a name that such a layer does not have.

    >>> import numpy as np
    >>> list(from_torch({"weight_ih_l0_reverse": np.zeros((3, 2)), "bias_hh_l1": np.zeros(3)}))
    ['0.reverse.u', '1.bw']
    """
    ours = {theirs: name for name, theirs in TORCH_NAMES.items()}
    parameters = {}
    for key, values in state.items():
        found = re.fullmatch(r"((?:weight|bias)_[ih]h)_l(\d+)(_reverse)?", key)
        if not found:
            raise ValueError(f"from_torch: {key!r} is no parameter of torch.nn.RNN, e.g. 'weight_ih_l0'")
        kind, layer, reverse = found.groups()
        parameters[f"{layer}.{SIDES[bool(reverse)]}{ours[kind]}"] = _turned(values)
    return parameters


def to_torch(parameters: Parameters) -> dict[str, Array]:
    """A state dictionary for torch.nn.RNN, from parameters in our layout.

    Where a cell has one of the two offsets, the other is zero: torch has both or none.
    Raises ValueError for a name that is not ours.

    >>> import numpy as np
    >>> {name: p.shape for name, p in to_torch({"0.u": np.zeros((2, 3)), "0.b": np.zeros(3)}).items()}
    {'weight_ih_l0': (3, 2), 'bias_ih_l0': (3,), 'bias_hh_l0': (3,)}
    """
    state = {}
    for key, values in parameters.items():
        found = re.fullmatch(r"(\d+)\.(reverse\.)?(u|w|b|bw)", key)
        if not found:
            raise ValueError(f"to_torch: {key!r} is no parameter of a recurrent layer, e.g. '0.u'")
        layer, reverse, name = found.groups()
        ending = f"_l{layer}" + ("_reverse" if reverse else "")
        state[TORCH_NAMES[name] + ending] = _turned(values)
        if name in ("b", "bw"):
            for offset in ("b", "bw"):
                if f"{layer}.{reverse or ''}{offset}" not in parameters:
                    state[TORCH_NAMES[offset] + ending] = array_namespace(values).zeros_like(values)
    return state


def from_onnx(
    weights: Float[Array, "directions U D"],
    recurrent: Float[Array, "directions U U"],
    offsets: Float[Array, "directions 2*U"] | None = None,
) -> dict[str, Array]:
    """Parameters in our layout, from the inputs W, R and B of the ONNX operator RNN.

    Raises ShapeError unless all have the same one or two directions, and offsets two for every unit.

    >>> import numpy as np
    >>> list(from_onnx(np.zeros((2, 3, 5)), np.zeros((2, 3, 3))))
    ['0.u', '0.w', '0.reverse.u', '0.reverse.w']
    """
    _expect_onnx(weights, recurrent, offsets)
    parameters = {}
    for d in range(weights.shape[0]):
        prefix = f"0.{SIDES[d]}"
        parameters |= {f"{prefix}u": _turned(weights[d, ...]), f"{prefix}w": _turned(recurrent[d, ...])}
        if offsets is not None:
            half = offsets.shape[1] // 2
            parameters |= {f"{prefix}b": copy(offsets[d, :half]), f"{prefix}bw": copy(offsets[d, half:])}
    return parameters


def to_onnx(parameters: Parameters) -> tuple[Array, Array, Array | None]:
    """W, R and B of the ONNX operator RNN, from the parameters of one layer; B is None if it has no offsets.

    Raises ValueError for more layers than one.

    >>> import numpy as np
    >>> w, r, b = to_onnx({"0.u": np.zeros((2, 3)), "0.w": np.zeros((3, 3)), "0.b": np.zeros(3)})
    >>> w.shape, r.shape, b.shape
    ((1, 3, 2), (1, 3, 3), (1, 6))
    """
    layers = cell_parameters(parameters)
    if len(layers) != 1:
        raise ValueError(
            f"to_onnx: the operator has one layer, expected one, got {len(layers)}: {list(parameters)}"
        )
    (cells,) = layers
    xp = array_namespace(cells[0]["u"])
    weights, recurrent = (xp.stack([_turned(cell[name]) for cell in cells]) for name in ("u", "w"))
    if not any(name in cell for cell in cells for name in ("b", "bw")):
        return weights, recurrent, None
    zero = xp.zeros_like(weights[0, :, 0])
    both = [xp.concat([cell.get("b", zero), cell.get("bw", zero)]) for cell in cells]
    return weights, recurrent, xp.stack(both)


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
    """The same parameters with b + bw as b, and no bw: only the sum has an effect.

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


def _turned(values: Array) -> Array:
    """A copy; of a matrix, its transpose."""
    return copy(values.T if values.ndim == 2 else values)


def _expect_onnx(weights: Array, recurrent: Array, offsets: Array | None) -> None:
    directions, units = tuple(recurrent.shape[:2]) if recurrent.ndim == 3 else (0, 0)
    expected = {
        "weights": (weights, (directions, units, weights.shape[-1])),
        "recurrent": (recurrent, (directions, units, units)),
        "offsets": (offsets, (directions, 2 * units)),
    }
    for name, (given, shape) in expected.items():
        if given is not None and (tuple(given.shape) != shape or directions not in (1, 2)):
            raise ShapeError(
                f"from_onnx: {name} has shape {tuple(given.shape)}, expected W (directions, U, D), "
                f"R (directions, U, U), B (directions, 2 U) with one or two directions"
            )
