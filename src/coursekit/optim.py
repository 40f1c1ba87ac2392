"""Optimisers that update parameters in place, and learning-rate schedules.

They compute the numbers of torch.optim's SGD, Adam and AdamW.  Parameters and gradients are dictionaries with
equal keys, as layers hold them; the optimiser keeps its own state per key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from array_api_compat import array_namespace

from coursekit.arrays import Array, expect_shape, is_torch, namespace

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Adam", "AdamW", "Optimiser", "SGD", "Schedule", "constant", "cosine", "one_cycle"]

Schedule = Callable[[int, int], float]


class Optimiser:
    """What optimisers share: a learning rate, a count of the steps made, one update per parameter.

    A subclass defines update(name, parameter, gradient, lr, xp), which changes parameter in place.
    """

    def __init__(self, lr: float) -> None:
        self.lr = _at_least_zero(self, "lr", lr)
        self.steps = 0

    def step(
        self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], *, factor: float = 1.0
    ) -> None:
        """Move every parameter one step against its gradient, in place.

        factor: multiplies the learning rate of this step; a schedule gives it.
        Raises ValueError if the keys differ, ShapeError or TypeError if a gradient does not fit.
        """
        _expect_gradients(f"{type(self).__name__}.step", parameters, gradients)
        self.steps += 1
        for name, parameter in parameters.items():
            values = _values(parameter), _values(gradients[name])
            self.update(name, *values, self.lr * factor, array_namespace(parameter))

    def update(self, name: str, parameter: Array, gradient: Array, lr: float, xp: ModuleType) -> None:
        raise NotImplementedError


class SGD(Optimiser):
    """Stochastic gradient descent with momentum: v = momentum v + g, p = p - lr v.

    nesterov: step along g + momentum v instead, the gradient looked up one step ahead.
    weight_decay: adds weight_decay p to the gradient, the derivative of an L2 penalty.
    Source: goodfellow2016deep, sections 8.3.1-8.3.3.

    >>> import numpy as np
    >>> p = {"w": np.array([1.0])}
    >>> SGD(lr=0.1).step(p, {"w": np.array([2.0])}); p["w"]
    array([0.8])
    """

    def __init__(
        self, lr: float, momentum: float = 0.0, *, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr)
        self.momentum = _below_one(self, "momentum", momentum)
        self.nesterov = nesterov
        self.weight_decay = _at_least_zero(self, "weight_decay", weight_decay)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs momentum > 0, got 0")
        self.velocity: dict[str, Array] = {}

    def update(self, name: str, parameter: Array, gradient: Array, lr: float, xp: ModuleType) -> None:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        if self.momentum:
            velocity = self.velocity.setdefault(name, xp.zeros_like(parameter))
            velocity *= self.momentum
            velocity += gradient
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        parameter -= lr * gradient


class Adam(Optimiser):
    """Steps of about lr per parameter: the mean gradient over the root of its mean square.

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  p = p - lr m' / (sqrt(v') + eps), where m' and v' are
    corrected for having started at zero.
    Source: kingma2015adam.
    """

    def __init__(
        self, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(lr)
        self.betas = _below_one(self, "betas[0]", betas[0]), _below_one(self, "betas[1]", betas[1])
        self.eps = _at_least_zero(self, "eps", eps)
        self.mean: dict[str, Array] = {}
        self.square: dict[str, Array] = {}

    def update(self, name: str, parameter: Array, gradient: Array, lr: float, xp: ModuleType) -> None:
        b1, b2 = self.betas
        mean = self.mean.setdefault(name, xp.zeros_like(parameter))
        square = self.square.setdefault(name, xp.zeros_like(parameter))
        mean *= b1
        mean += (1 - b1) * gradient
        square *= b2
        square += (1 - b2) * gradient * gradient
        scale = xp.sqrt(square / (1 - b2**self.steps)) + self.eps
        parameter -= lr / (1 - b1**self.steps) * mean / scale


class AdamW(Adam):
    """Adam with weights that shrink by lr weight_decay per step, apart from the gradient.

    Source: loshchilov2019decoupled.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(lr, betas, eps)
        self.weight_decay = _at_least_zero(self, "weight_decay", weight_decay)

    def update(self, name: str, parameter: Array, gradient: Array, lr: float, xp: ModuleType) -> None:
        parameter *= 1 - lr * self.weight_decay
        super().update(name, parameter, gradient, lr, xp)


def constant(step: int, steps: int) -> float:
    """The schedule that changes nothing: factor 1 at each of the steps."""
    return 1.0


def cosine(warmup: float = 0.0) -> Schedule:
    """A schedule that falls from 1 to 0 along half a cosine, after a linear rise.

    warmup: share of the steps that the rise takes, 0 <= warmup < 1.

    >>> [cosine()(step, 4) for step in (0, 2)]
    [1.0, 0.5]
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"cosine: warmup must be a share with 0 <= warmup < 1, got {warmup!r}")

    def factor(step: int, steps: int) -> float:
        rise = warmup * steps
        if step < rise:
            return (step + 1) / (rise + 1)
        return _half_cosine(1.0, 0.0, (step - rise) / (steps - rise))

    return factor


def one_cycle(warmup: float = 0.3, *, start: float = 1 / 25, end: float = 4e-6) -> Schedule:
    """A schedule that rises from start to 1 and falls to end, both along half a cosine.

    It is torch's OneCycleLR with its default numbers.
    warmup: share of the steps that the rise takes, 0 < warmup < 1.
    Source: smith2019superconvergence.
    """
    if not 0 < warmup < 1:
        raise ValueError(f"one_cycle: warmup must be a share with 0 < warmup < 1, got {warmup!r}")

    def factor(step: int, steps: int) -> float:
        peak = warmup * steps - 1
        if step < peak:
            return _half_cosine(start, 1.0, step / peak)
        return _half_cosine(1.0, end, (step - peak) / (steps - 1 - peak))

    return factor


def _expect_gradients(
    function: str, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
) -> None:
    if set(parameters) != set(gradients):
        odd = ", ".join(sorted(set(parameters) ^ set(gradients)))
        raise ValueError(f"{function}: parameters and gradients need the same names, unpaired: {odd}")
    for name, parameter in parameters.items():
        namespace(parameter, gradients[name], function=function, names=(name, f"d{name}"))
        if isinstance(parameter, np.generic):
            raise TypeError(f"{function}: {name} is a NumPy scalar, which no step can change; use an array")
        expect_shape(function, f"d{name}", gradients[name], parameter.shape, f"the shape of {name}")


def _values(a: Array) -> Array:
    """The same numbers in the same memory, out of autograd's sight."""
    return a.detach() if is_torch(a) else a


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _at_least_zero(owner: Optimiser, name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{type(owner).__name__}: {name} must be a number >= 0, got {value!r}")
    return value


def _below_one(owner: Optimiser, name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{type(owner).__name__}: {name} must satisfy 0 <= {name} < 1, got {value!r}")
    return value
