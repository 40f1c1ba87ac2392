"""Train a classifier: shuffle, take mini-batches, step against the gradient, keep a history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from array_api_compat import is_array_api_obj
from tqdm import tqdm

from coursekit.arrays import Array, namespace, per_axis
from coursekit.layers import Layer
from coursekit.losses import cross_entropy_backward, cross_entropy_forward, error_rate
from coursekit.optim import Optimiser, Schedule, constant

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Evaluation", "History", "TrainingError", "evaluate", "fit"]

Loss = tuple[Callable, Callable]
CROSS_ENTROPY: Loss = (cross_entropy_forward, cross_entropy_backward)


@dataclass
class History:
    """What happened during training.

    loss: mean loss of each mini-batch, before the step that it led to; loss[0] is the loss at initialisation.
    error, validation_error, seconds: one entry per epoch.  error is the share of wrong answers on the
    mini-batches as they came, so it lags behind what the model can do at the epoch's end.
    validation_error is empty without a validation set; seconds count from the start.
    """

    loss: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    validation_error: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class TrainingError(ArithmeticError):
    """The loss is no longer a number.  history holds everything up to then."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class Evaluation(NamedTuple):
    """Mean loss and share of wrong answers on a data set."""

    loss: float
    error: float


def fit(
    model: Layer,
    optimiser: Optimiser,
    x: Float[Array, "N ..."],
    labels: Int[Array, " N"],
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    schedule: Schedule = constant,
    validation: tuple[Array, Array] | None = None,
    loss: Loss = CROSS_ENTROPY,
    progress: bool = True,
) -> History:
    """Train model in place for some passes over the data, in a new random order each.

    epochs: passes over the data.   batch_size: examples per step; the last batch of an epoch may be smaller.
    rng: draws the order.   schedule: factor of the learning rate, from the step and the number of steps.
    validation: images and labels to measure the error on after each epoch.
    loss: the pair of functions forward(z, labels) -> (loss, cache) and backward(cache) -> dz.
    progress: show a progress bar, if the output is a terminal.
    Raises ValueError if there is nothing to train on, TrainingError if the loss is no longer finite.
    """
    _expect_examples("fit", x, labels)
    (epochs,) = per_axis(epochs, 1, "fit: epochs", 1)
    (batch_size,) = per_axis(batch_size, 1, "fit: batch_size", 1)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"fit: rng must be a numpy.random.Generator such as default_rng(0), got {rng!r}")
    if validation is not None:
        _expect_examples("fit: validation", *validation)
    history, started = History(), time.perf_counter()
    steps = epochs * math.ceil(x.shape[0] / batch_size)
    with tqdm(total=steps, unit="step", disable=None if progress else True) as bar:
        for _ in range(epochs):
            wrong = 0.0
            for chosen in _mini_batches(x.shape[0], batch_size, rng):
                factor = schedule(len(history.loss), steps)
                batch = x[chosen], labels[chosen]
                wrong += len(chosen) * _step(model, optimiser, *batch, factor, loss, history)
                bar.update()
            history.error.append(wrong / x.shape[0])
            if validation is not None:
                history.validation_error.append(evaluate(model, *validation).error)
            history.seconds.append(time.perf_counter() - started)
            bar.set_postfix(loss=history.loss[-1], error=history.error[-1])
    return history


def evaluate(
    model: Layer, x: Float[Array, "N ..."], labels: Int[Array, " N"], *, batch_size: int = 256
) -> Evaluation:
    """Mean cross-entropy and share of wrong answers of a model on a data set, batch by batch.

    Raises ValueError if the set is empty or there are not as many labels as examples.
    """
    _expect_examples("evaluate", x, labels)
    (batch_size,) = per_axis(batch_size, 1, "evaluate: batch_size", 1)
    loss = wrong = 0.0
    for start in range(0, x.shape[0], batch_size):
        batch = slice(start, start + batch_size)
        z = model(x[batch])
        loss += float(cross_entropy_forward(z, labels[batch], reduction="sum")[0])
        wrong += error_rate(z, labels[batch]) * z.shape[0]
    return Evaluation(loss / x.shape[0], wrong / x.shape[0])


def _mini_batches(count: int, batch_size: int, rng: np.random.Generator) -> list[Int[np.ndarray, " B"]]:
    return np.split(rng.permutation(count), range(batch_size, count, batch_size))


def _step(
    model: Layer,
    optimiser: Optimiser,
    x: Array,
    labels: Array,
    factor: float,
    loss: Loss,
    history: History,
) -> float:
    """One step on one mini-batch, its loss noted in history; returns the share of wrong answers."""
    loss_forward, loss_backward = loss
    z, model_cache = model.forward(x)
    value, loss_cache = loss_forward(z, labels)
    history.loss.append(float(value))
    if not math.isfinite(history.loss[-1]):
        raise TrainingError(
            f"fit: loss is {history.loss[-1]} at step {len(history.loss) - 1}; lower the learning rate "
            f"(lr={optimiser.lr}), or look for NaN in the images and parameters",
            history,
        )
    _, gradients = model.backward(loss_backward(loss_cache), model_cache)
    optimiser.step(model.parameters, gradients, factor=factor)
    return error_rate(z, labels)


def _expect_examples(function: str, x: Array, labels: Array) -> None:
    namespace(x, function=function)
    if not is_array_api_obj(labels):
        raise TypeError(f"{function}: labels are a {type(labels).__name__}, not an array")
    if x.shape[0] == 0:
        raise ValueError(f"{function}: the data set is empty (x {tuple(x.shape)})")
    if tuple(labels.shape) != (x.shape[0],):
        raise ValueError(
            f"{function}: x {tuple(x.shape)} needs labels of shape ({x.shape[0]},), got {tuple(labels.shape)}"
        )
