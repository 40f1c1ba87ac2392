"""Handwritten digits: MNIST's 10,000-image part where it can be had, scikit-learn's small ones everywhere.

Files come from the folder that the environment variable COURSEKIT_DATA_DIR names, or else from their public
address into the user's cache folder; each is held to its SHA-256 before it is read.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coursekit.data.idx import read_idx

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import DTypeLike

    from coursekit.arrays import Array

__all__ = ["DataUnavailable", "Images", "digits", "folder", "handwritten", "mnist"]

SPLITS = ("train", "test")
FOLDER_VARIABLE = "COURSEKIT_DATA_DIR"
MNIST_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {
    "mnist_t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "mnist_t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# Seconds to reach the server, seconds between two packets: a machine without a network falls back soon.
TIMEOUT = (3, 30)


class DataUnavailable(RuntimeError):
    """A data set cannot be had; the message says which file is missing and what to do."""


class Images(NamedTuple):
    """Labelled images: x from 0 (paper) to 1 (ink), the digit that each shows, and which set they are.

    note: what a reader should know about the choice of the set.
    """

    x: Float[Array, "N 1 H W"]
    labels: Int[Array, " N"]
    name: str
    note: str


def folder() -> Path:
    """Where data files come from: the folder that COURSEKIT_DATA_DIR names, else the user's cache."""
    import pooch

    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser().absolute() if named else Path(pooch.os_cache("coursekit"))


def digits(split: str, *, dtype: DTypeLike = "float32") -> Images:
    """1,797 digits of 8 x 8 pixels that scikit-learn carries: 1,437 to train on, 360 to test.

    split: "train" or "test", a fixed random choice.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    chosen = _split(split, len(labels))
    x = (pixels.reshape(-1, 1, 8, 8)[chosen] / 16).astype(dtype)
    note = "1,797 images of 8 x 8 pixels, part of scikit-learn"
    return Images(x, labels[chosen].astype(np.int64), "scikit-learn digits 8x8", note)


def mnist(split: str, *, dtype: DTypeLike = "float32") -> Images:
    """MNIST's 10,000 test images of 28 x 28 pixels, divided anew: 8,000 to train on, 2,000 to test.

    split: "train" or "test", a fixed random choice.
    Raises DataUnavailable if a file is neither in COURSEKIT_DATA_DIR (where that is set) nor in the cache or
    at its public address (where it is not), or if its SHA-256 is wrong.
    Source: lecun1998gradient.
    """
    chosen = _split(split, 10_000)
    pixels, labels = (read_idx(gzip.decompress(_fetch(name).read_bytes())) for name in SHA256)
    x = (pixels[chosen][:, None] / 255).astype(dtype)
    note = "the 10,000 images of MNIST's test part, 28 x 28 pixels"
    return Images(x, labels[chosen].astype(np.int64), "MNIST 10k", note)


def handwritten(split: str, *, dtype: DTypeLike = "float32") -> Images:
    """MNIST's 10,000 images where they can be had, else scikit-learn's digits; name and note say which.

    split: "train" or "test".
    """
    try:
        return mnist(split, dtype=dtype)
    except DataUnavailable as missing:
        embedded = digits(split, dtype=dtype)
        return embedded._replace(note=f"{embedded.note}, because: {missing}")


def _split(split: str, count: int) -> Int[np.ndarray, " chosen"]:
    """Numbers of the images in a split: four fifths train."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown, expected one of {SPLITS}")
    # RandomState, unlike Generator, promises the same order in every version of NumPy
    order = np.random.RandomState(0).permutation(count)
    train = count * 4 // 5
    return order[:train] if split == "train" else order[train:]


def _fetch(name: str) -> Path:
    """Path of a data file whose content has been checked."""
    return _from_folder(name, folder()) if os.environ.get(FOLDER_VARIABLE) else _from_cache(name)


def _from_folder(name: str, place: Path) -> Path:
    import pooch

    path = place / name
    if not path.is_file():
        raise DataUnavailable(
            f"{name} is not in the folder {place} that {FOLDER_VARIABLE} names; "
            f"put it there, or unset {FOLDER_VARIABLE} to download it"
        )
    try:
        found = pooch.file_hash(str(path))
    except OSError as error:
        raise DataUnavailable(f"{name} in the folder {place} cannot be read: {error.strerror}") from error
    if found != SHA256[name]:
        raise DataUnavailable(
            f"{name} in the folder {place} is damaged or another file: its SHA-256 is {found[:12]}..., "
            f"expected {SHA256[name][:12]}...; put the published file in its place"
        )
    return path


def _from_cache(name: str) -> Path:
    """Path in the user's cache, downloaded on first use; pooch checks the hash in both cases."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # its notices go to stderr, which is for what goes wrong
    address = MNIST_ADDRESS + name.removeprefix("mnist_")
    try:
        return Path(
            pooch.retrieve(
                address,
                known_hash=SHA256[name],
                fname=name,
                path=folder(),
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
            )
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
        raise DataUnavailable(
            f"{name} could not be downloaded from {address} ({type(error).__name__}); "
            f"connect to the network, or put the file into a folder and name that in {FOLDER_VARIABLE}"
        ) from error
