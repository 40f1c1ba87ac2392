"""Figures of what a convolutional layer assumes: locality, sharing, equivariance, invariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_hex

from coursekit import conv
from coursekit.equivariance import translate
from coursekit.figures import figure
from coursekit.figures.grids import number_grid, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jaxtyping import Float, Int
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coursekit.arrays import Array

BINOMIAL = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


@figure
def matrices(size: int = 12, kernel: tuple[float, ...] = (1.5, -2.0, 1.0), seed: int = 0) -> Figure:
    """The weights of three linear layers on one signal, as matrices: all free, local, local and shared."""
    w = np.array(kernel)[None, None]
    shared = _matrix(w, size)
    free = np.random.default_rng(seed).normal(size=shared.shape)
    layers = {
        "fully connected": (free, free.size),
        "locally connected": (free * (_matrix(np.ones_like(w), size) != 0), w.size * len(shared)),
        "convolution": (shared, w.size),
    }
    fig, row = plt.subplots(1, 3, figsize=(7, 2.4))
    for axes, (name, (matrix, parameters)) in zip(row, layers.items(), strict=True):
        picture(axes, matrix, f"{name}:\n{parameters} weights", cmap="PuOr_r", vmin=-2.5, vmax=2.5)
    row[0].set(xlabel="input", ylabel="output")
    return fig


def _matrix(w: Float[Array, "1 1 K"], size: int) -> Float[Array, "out size"]:
    """The matrix of a convolution: what it makes of each unit vector is a column."""
    return conv.conv1d_forward(np.eye(size)[:, None], w)[0][:, 0].T


@figure
def permuted(images: Float[Array, "N H W"], order: Int[Array, " pixels"]) -> Figure:
    """Images above, the same images with their pixels in another order below."""
    fig, rows = plt.subplots(2, len(images), figsize=(7, 2.2))
    for (above, below), image in zip(rows.T, images, strict=True):
        picture(above, image, "")
        picture(below, image.reshape(-1)[order].reshape(image.shape), "")
    rows[0, 0].set_ylabel("plain")
    rows[1, 0].set_ylabel("permuted")
    return fig


@figure
def errors_by_net(plain: Mapping[str, Sequence[float]], shuffled: Mapping[str, Sequence[float]]) -> Figure:
    """Error of every run (dots) and the mean per net (bar), on plain and on permuted images."""
    fig, axes = plt.subplots(figsize=(7, 3))
    groups = ((plain, "plain", -0.18, to_hex("C0"), "o"), (shuffled, "permuted", 0.18, to_hex("C1"), "s"))
    for errors, label, side, colour, marker in groups:
        for place, runs in enumerate(errors.values()):
            centre = place + side
            spread = centre + np.linspace(-0.08, 0.08, len(runs))
            handle = axes.plot(spread, np.multiply(runs, 100), marker, color=colour, mfc="none", ls="none")
            mean = 100 * float(np.mean(runs))
            axes.hlines(mean, centre - 0.14, centre + 0.14, color=colour, linewidth=2.5, linestyle="-")
            axes.text(centre + 0.15, mean, f"{mean:.1f}", va="center", fontsize=9)
        handle[0].set_label(label)
    axes.set_xticks(range(len(plain)), plain)
    axes.set(ylabel="test error (%)", ylim=(0, None), xlim=(-0.5, len(plain) - 0.4))
    axes.legend(loc="upper left", ncols=2)
    return fig


@figure
def meter(errors: Mapping[str, Sequence[float]], shifts: Sequence[int]) -> Figure:
    """One row per layer, one column per shift: the relative equivariance error, in per cent."""
    values = 100 * np.array(list(errors.values()))
    fig, axes = plt.subplots(figsize=(7, 0.34 * len(errors) + 0.8))
    number_grid(axes, values, "{:.0f}", cmap="YlOrBr", vmin=0, vmax=100, aspect="auto")
    axes.set_yticks(range(len(errors)), errors)
    axes.set_xticks(range(len(shifts)), shifts)
    axes.set(xlabel="shift of the input (pixels)", title="equivariance error (%)")
    return fig


@figure
def border(layers: Mapping[str, Callable[[Array], Array]], x: Array, shift: tuple[int, int]) -> Figure:
    """Where f(shift x) and shift f(x) differ, pixel by pixel, for layers that keep the image's size."""
    fig, row = plt.subplots(1, len(layers), figsize=(7, 2.2))
    maps = {
        name: np.abs(layer(translate(x, shift)) - translate(layer(x), shift)).max(axis=(0, 1))
        for name, layer in layers.items()
    }
    top = max(float(m.max()) for m in maps.values())
    for axes, (name, difference) in zip(row, maps.items(), strict=True):
        image = picture(axes, difference, name, cmap="YlOrBr", vmin=0, vmax=top)
    fig.colorbar(image, ax=row, label="largest difference", shrink=0.9)
    return fig


@figure
def invariance(
    images: Float[Array, "pools shifts"], noise: Float[Array, "pools shifts"], pools: Sequence[int]
) -> Figure:
    """Share of unchanged max-pooled units: measured on images, and on noise against (p - d) / (p + d)."""
    shifts = range(images.shape[1])
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.3))
    number_grid(left, 100 * images, "{:.0f}", cmap="Blues", vmin=0, vmax=100)
    left.set_xticks(shifts)
    left.set_yticks(range(len(pools)), pools)
    left.set(xlabel="shift d (pixels)", ylabel="pool size p", title="digits: unchanged units (%)")
    for place, row in list(enumerate(noise))[1::2]:
        _noise_curve(right, row, pools[place], to_hex(f"C{place // 2}"))
    right.set(xlabel="shift d (pixels)", title="noise: measured (marks), formula (lines)", ylim=(-4, 104))
    right.legend(title="pool size p")
    return fig


def _noise_curve(axes: Axes, measured: Float[Array, " shifts"], pool: int, colour: str) -> None:
    shift = np.arange(len(measured))
    expected = np.maximum(pool - shift, 0) / (pool + shift)
    axes.plot(shift, 100 * expected, color=colour, linewidth=1.2)
    axes.plot(shift, 100 * measured, "os^D"[pool // 2 % 4], color=colour, linestyle="none", label=str(pool))


def grating(size: int, frequency: float) -> Float[Array, "1 1 size"]:
    """A wave of frequency periods per pixel, as a batch of one signal with one channel."""
    return np.cos(2 * np.pi * frequency * np.arange(size))[None, None]


def peak_frequency(y: Float[Array, "1 1 size"], stride: int) -> float:
    """The strongest frequency of a signal sampled every stride pixels, in periods per pixel."""
    spectrum = np.abs(np.fft.rfft(y[0, 0]))
    return float(np.argmax(spectrum)) / y.shape[-1] / stride


@figure
def aliasing(size: int = 40, frequency: float = 0.4, stride: int = 2) -> Figure:
    """A fast wave, every second sample of it, and the same after a blur."""
    x = grating(size, frequency)
    pixel, kept = np.arange(size), np.arange(0, size, stride)
    blur = BINOMIAL[None, None]
    sampled = {
        "every second pixel": x[..., ::stride],
        "blurred, then every second pixel": conv.conv1d_forward(
            x, blur, stride=stride, padding=2, padding_mode="circular"
        )[0],
    }
    fig, rows = plt.subplots(3, 1, figsize=(7, 4.2), sharex=True, sharey=True)
    rows[0].plot(pixel, x[0, 0], "o-", markersize=3, linewidth=1)
    rows[0].set_title(f"input: {frequency:g} periods per pixel")
    for axes, (name, y) in zip(rows[1:], sampled.items(), strict=True):
        axes.plot(pixel, x[0, 0], color="0.8", linewidth=1, linestyle="-")
        axes.plot(kept, y[0, 0], "s-", color=to_hex("C1"), markersize=4)
        axes.set_title(f"{name}: {peak_frequency(y, stride):g} periods per pixel, height {np.ptp(y) / 2:.2f}")
    rows[-1].set_xlabel("pixel")
    return fig


def zone_plate(size: int) -> Float[Array, "size size"]:
    """Rings whose frequency grows with the radius, to 1/2 period per pixel at the middle of each side."""
    across = np.arange(size) - (size - 1) / 2
    return np.cos(np.pi / size * (across[:, None] ** 2 + across**2))


@figure
def rings(size: int = 96, stride: int = 2) -> Figure:
    """A zone plate, every second pixel of it, and every second pixel of it blurred."""
    x = zone_plate(size)[None, None]
    blur = np.outer(BINOMIAL, BINOMIAL)[None, None]
    blurred, _ = conv.conv2d_forward(x, blur, stride=stride, padding=2, padding_mode="reflect")
    fig, row = plt.subplots(1, 3, figsize=(7, 2.6))
    shown = {"input": x, "every second pixel": x[..., ::stride, ::stride], "blurred first": blurred}
    for axes, (title, image) in zip(row, shown.items(), strict=True):
        picture(axes, image[0, 0], title, cmap="gray", vmin=-1, vmax=1)
    return fig
