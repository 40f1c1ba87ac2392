"""Figures of the digit classifier: its loss, its training, what it gets wrong and what it learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from coursekit import losses
from coursekit.figures import figure
from coursekit.figures.grids import number_grid, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int
    from matplotlib.figure import Figure

    from coursekit.arrays import Array


@figure
def surrogate() -> Figure:
    """The 0-1 loss and the cross-entropy of one image with two classes, against its margin."""
    margin = np.linspace(-4, 4, 401)
    logits = np.stack([margin, np.zeros_like(margin)], axis=1)
    right = np.zeros(1, dtype=np.int64)
    nats = [losses.cross_entropy_forward(z[None], right)[0] for z in logits]
    fig, axes = plt.subplots(figsize=(7, 2.8))
    axes.plot(margin, np.asarray(nats, dtype=float) / np.log(2), label="cross-entropy (bits)")
    axes.step(margin, margin <= 0, label="0-1 loss")
    axes.set(xlabel="margin: logit of the right class minus the other", ylabel="loss", ylim=(0, None))
    axes.legend()
    return fig


@figure
def training(
    loss: Sequence[float], error: Sequence[float], validation_error: Sequence[float], classes: int
) -> Figure:
    """Loss of every step and errors of every epoch; the dotted line is the loss of a blind guess."""
    epoch = np.arange(1, len(error) + 1)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8))
    left.plot(loss, linewidth=0.8)
    left.axhline(np.log(classes), color="0.5", linestyle=":", linewidth=1)
    left.text(len(loss), np.log(classes), "all classes alike", ha="right", va="bottom", fontsize=9)
    left.set(xlabel="step", ylabel="loss (nats)", ylim=(0, 1.15 * np.log(classes)))
    right.plot(epoch, np.multiply(error, 100), "o-", markersize=3, label="training")
    right.plot(epoch, np.multiply(validation_error, 100), "s--", markersize=3, label="held out")
    right.set(xlabel="epoch", ylabel="error (%)", ylim=(0, None))
    right.legend()
    return fig


@figure
def confusion(counts: Int[Array, "classes classes"]) -> Figure:
    """How often each class (row) was called each class (column); the diagonal is left out of the colours."""
    mistakes = counts - np.diag(np.diag(counts))
    fig, axes = plt.subplots(figsize=(5, 4.2))
    number_grid(axes, counts, "{:d}", cmap="YlOrBr", vmin=0, vmax=max(1, mistakes.max()))
    for text in axes.texts[:: len(counts) + 1]:
        text.set_color("black")
    for digit in range(len(counts)):
        axes.add_patch(plt.Rectangle((digit - 0.5, digit - 0.5), 1, 1, facecolor="0.9", edgecolor="white"))
    axes.set_xticks(range(len(counts)))
    axes.set_yticks(range(len(counts)))
    axes.set(xlabel="answer", ylabel="truth")
    return fig


@figure
def mistakes(
    images: Float[Array, "N H W"],
    labels: Int[Array, " N"],
    probabilities: Float[Array, "N K"],
    show: int = 12,
) -> Figure:
    """The images whose right class got the least probability, the worst first."""
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    worst = np.argsort(right)[:show]
    fig, grid = plt.subplots(2, show // 2, figsize=(7, 3))
    for axes, i in zip(grid.flat, worst, strict=True):
        answer = int(np.argmax(probabilities[i]))
        picture(axes, images[i], f"{labels[i]}, called {answer}").axes.title.set_fontsize(8)
        axes.set_xlabel(f"p({labels[i]}) = {right[i]:.1g}", fontsize=8)
    return fig


@figure
def filters(before: Float[Array, "F 1 KH KW"], after: Float[Array, "F 1 KH KW"], show: int = 8) -> Figure:
    """The first filters of a first layer, before and after training, in one colour scale."""
    limit = float(np.abs(after).max())
    fig, rows = plt.subplots(2, show, figsize=(7, 2))
    for axes, stage, kernels in zip(rows, ("before", "after"), (before, after), strict=True):
        axes[0].set_ylabel(stage)
        for panel, kernel in zip(axes, kernels[:show, 0], strict=True):
            picture(panel, kernel, "", cmap="PuOr_r", vmin=-limit, vmax=limit)
    return fig
