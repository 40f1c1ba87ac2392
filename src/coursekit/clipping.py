"""Gradient clipping: keep a step short where the loss is steep, by value or by norm.

A step of gradient descent trusts the slope as far as the gradient is long.  Clipping bounds that trust.  Both
functions take the gradients of all parameters at once, as any tree of arrays, and change none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from coursekit.arrays import Array, is_torch, namespace

__all__ = ["Clipped", "clip_norm", "clip_value", "global_norm"]

Tree = Any  # an array, None, or a mapping, list, tuple or named tuple of trees


class Clipped(NamedTuple):
    """The clipped gradients, a tree like the one that came in, and the norm of those that came in.

    A norm above the limit says that clip_norm did something; a norm that is not finite says that the
    gradients are of no use.
    """

    gradients: Tree
    norm: float


def clip_value(gradients: Tree, limit: float) -> Clipped:
    """Cut every number of every gradient down to between -limit and limit.

    Implements eq-clip-value.  Numbers are cut one by one, so that the direction changes wherever one is cut.

    gradients: an array, or a mapping, list, tuple or named tuple of such trees; None stays None.
    limit: a number > 0; math.inf cuts nothing.
    Returns new arrays in a tree of the same kind, and the 2-norm over all gradients before the cut.
    An infinite number becomes the limit with its sign; one that is not a number stays so.
    Source: mikolov2012statistical; goodfellow2016deep, section 10.11.1.

    >>> clip_value({"w": np.array([3.0, -0.5]), "b": np.array([-4.0])}, 1.0).gradients
    {'w': array([ 1. , -0.5]), 'b': array([-1.])}
    """
    limit = _positive("clip_value: limit", limit)
    norm = _norm("clip_value", gradients, 2.0)

    def cut(g: Array) -> Array:
        return g.clip(-limit, limit)

    return Clipped(_map(cut, gradients), norm)


def clip_norm(gradients: Tree, limit: float, *, norm: float = 2.0, eps: float = 0.0) -> Clipped:
    """Scale all gradients by one factor, so that together they are no longer than the limit.

    Implements eq-clip-norm: g limit / |g| where |g| > limit, and g itself otherwise.  g stands for the
    numbers of all gradients in one vector; a factor for each array would change its direction.

    gradients: an array, or a mapping, list, tuple or named tuple of such trees; None stays None.
    limit: a number > 0; math.inf scales nothing and only measures.
    norm: p of the p-norm that is compared with the limit, > 0; math.inf takes the largest number.
    eps: added to |g|.  torch.nn.utils.clip_grad_norm_ has 1e-6 there, and scales a little more for it.
    Returns new arrays in a tree of the same kind, and the norm over all gradients before scaling.
    If a gradient is infinite, the others become 0 and it is no longer a number; if one is not a number,
    none is.  As in torch, nothing is raised: look at the norm before you step.
    Source: pascanu2013difficulty; goodfellow2016deep, section 10.11.1, equations 10.48 and 10.49.

    >>> clip_norm({"w": np.array([3.0]), "b": np.array([-4.0])}, 1.0)
    Clipped(gradients={'w': array([0.6]), 'b': array([-0.8])}, norm=5.0)
    """
    limit = _positive("clip_norm: limit", limit)
    power = _positive("clip_norm: norm", norm)
    if not 0 <= eps < math.inf:
        raise ValueError(f"clip_norm: eps must be a number >= 0, got {eps!r}")
    seen = _norm("clip_norm", gradients, power)
    factor = 1.0 if seen + eps <= limit else limit / (seen + eps)

    def scaled(g: Array) -> Array:
        with np.errstate(invalid="ignore"):  # 0 times infinity
            return g * factor

    return Clipped(_map(scaled, gradients), seen)


def global_norm(gradients: Tree, *, norm: float = 2.0) -> float:
    """The p-norm of all gradients as one vector, 0 if there are none.

    norm: p, > 0; math.inf takes the largest number.

    >>> global_norm([np.array([3.0]), (np.array([[4.0]]), None)])
    5.0
    """
    return _norm("global_norm", gradients, _positive("global_norm: norm", norm))


def _norm(function: str, gradients: Tree, power: float) -> float:
    arrays = [_values(g) for g in _leaves(function, gradients, "gradients")]
    with np.errstate(over="ignore"):
        seen = _norm_of_norms(arrays, power)
        if math.isinf(seen) and math.isfinite(largest := _norm_of_norms(arrays, math.inf)):
            # Only the powers were too large for the dtype, as float32 squares are from 2e19 on.
            return largest * _norm_of_norms([g / largest for g in arrays], power)
    return seen


def _norm_of_norms(arrays: list[Array], power: float) -> float:
    norms = [float(array_namespace(g).linalg.vector_norm(g, ord=power)) for g in arrays if math.prod(g.shape)]
    return float(np.linalg.norm(norms, ord=power)) if norms else 0.0


def _leaves(function: str, tree: Tree, path: str) -> Iterator[Array]:
    """Every array of a tree, in order; path says in an error where the tree stands."""
    if tree is None:
        return
    if is_array_api_obj(tree) or isinstance(tree, np.ma.MaskedArray):
        namespace(tree, function=function, names=(path,))
        yield tree
    elif isinstance(tree, (Mapping, list, tuple)):
        for key, branch in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _leaves(function, branch, f"{path}[{key!r}]")
    else:
        raise TypeError(
            f"{function}: {path} is a {type(tree).__name__}; expected an array, None, or a mapping, list or "
            "tuple of those"
        )


def _map(change: Callable[[Array], Array], tree: Tree) -> Tree:
    """A tree of the same kind with every array changed."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: _map(change, branch) for key, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        branches = [_map(change, branch) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    return change(_values(tree))


def _values(g: Array) -> Array:
    """The same numbers, out of autograd's sight."""
    return g.detach() if is_torch(g) else g


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be a number > 0, got {value!r}")
    return float(value)
