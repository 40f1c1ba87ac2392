"""Data: what the loaders return, where they look, what they refuse.  No test here reaches for the network."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import requests

from coursekit import data
from coursekit.data import DataUnavailable
from coursekit.data.idx import read_idx

SHARED = Path(__file__).parents[2] / "shared" / "data"


def idx(array: np.ndarray) -> bytes:
    """The IDX file of an array of bytes."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to connect fails, as on a machine without a network."""

    def refuse(*arguments, **options):
        raise requests.ConnectionError("no network in tests")

    monkeypatch.setattr(requests.Session, "request", refuse)
    monkeypatch.setattr(requests, "get", refuse)


@pytest.fixture
def folder(tmp_path, monkeypatch, no_network):
    """An empty folder that COURSEKIT_DATA_DIR names."""
    monkeypatch.setenv("COURSEKIT_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def mnist_folder(folder, monkeypatch, rng):
    """10,000 made-up images in MNIST's format, whose hashes are taken for the published ones.

    The label is the last digit of the first pixel.
    """
    pixels = rng.integers(0, 256, (10_000, 28, 28))
    labels = pixels[:, 0, 0] % 10
    for name, array in zip(data.SHA256, (pixels, labels), strict=True):
        content = gzip.compress(idx(array), compresslevel=1)
        (folder / name).write_bytes(content)
        monkeypatch.setitem(data.SHA256, name, hashlib.sha256(content).hexdigest())
    return pixels


# Reading


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 5), (0, 3)])
def test_an_idx_file_gives_back_the_array_that_was_written(shape, rng):
    array = rng.integers(0, 256, size=shape)
    np.testing.assert_array_equal(read_idx(idx(array)), array, strict=False)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not an IDX file of unsigned bytes, it begins with ''"),
        (b"<html>", "it begins with '3c 68 74 6d'"),
        (bytes([0, 0, 0x0D, 1]), "not an IDX file of unsigned bytes"),
        (bytes([0, 0, 8, 2, 0, 0, 0, 1]), "8 bytes cannot hold the sizes of 2 axes"),
        (idx(np.zeros((2, 3)))[:-1], r"sizes \(2, 3\) need 6 values, there are 5"),
        (idx(np.zeros((2, 3))) + b"x", "there are 7"),
    ],
)
def test_a_file_that_is_not_idx_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_idx(content)


# The sets


@pytest.mark.parametrize("split, count", [("train", 1437), ("test", 360)])
def test_the_embedded_digits(split, count):
    images = data.digits(split)
    assert images.x.shape == (count, 1, 8, 8)
    assert (images.x.dtype, images.labels.dtype) == (np.float32, np.int64)
    assert (images.x.min(), images.x.max()) == (0, 1)
    assert set(images.labels) == set(range(10))
    assert images.name == "scikit-learn digits 8x8"


def test_no_digit_is_in_both_splits_and_none_is_lost():
    from sklearn.datasets import load_digits

    everything = np.concatenate([data.digits(split).x for split in data.SPLITS]).reshape(1797, 64) * 16
    expected = load_digits().data
    np.testing.assert_array_equal(np.sort(everything, axis=0), np.sort(expected, axis=0))


def test_the_split_is_the_same_every_time_and_mixes_the_writers():
    np.testing.assert_array_equal(data.digits("test").labels, data.digits("test").labels)
    # the set comes in runs of 0, 1, 2, ...: a split that kept the order would keep the runs
    assert not np.array_equal(data.digits("train").labels[:10], np.arange(10))


def test_mnist_is_split_and_scaled(mnist_folder):
    pixels = mnist_folder
    train, test = data.mnist("train"), data.mnist("test")
    assert (train.x.shape, test.x.shape) == ((8000, 1, 28, 28), (2000, 1, 28, 28))
    assert (train.x.min(), train.x.max(), train.x.dtype) == (0, 1, np.float32)
    assert train.name == "MNIST 10k"
    everything = np.concatenate([train.x, test.x])[:, 0] * 255
    np.testing.assert_allclose(np.sort(everything, axis=0), np.sort(pixels, axis=0), rtol=1e-6)
    for split in (train, test):
        np.testing.assert_array_equal(np.round(split.x[:, 0, 0, 0] * 255) % 10, split.labels)


def test_the_dtype_can_be_chosen(mnist_folder):
    assert data.mnist("test", dtype="float64").x.dtype == np.float64
    assert data.digits("test", dtype="float64").x.dtype == np.float64


def test_handwritten_is_mnist_where_it_can_be_had(mnist_folder):
    assert data.handwritten("test").name == "MNIST 10k"


def test_handwritten_is_the_embedded_set_elsewhere_and_says_why(folder):
    images = data.handwritten("test")
    assert images.name == "scikit-learn digits 8x8"
    assert images.x.shape[2:] == (8, 8)
    assert "because: mnist_t10k-images-idx3-ubyte.gz is not in the folder" in images.note


@pytest.mark.skipif(
    not (os.environ.get("COURSEKIT_DATA_DIR") or SHARED.is_dir()), reason="needs a folder with MNIST's files"
)
def test_the_published_files_have_the_hashes_that_we_expect(monkeypatch):
    monkeypatch.setenv("COURSEKIT_DATA_DIR", os.environ.get("COURSEKIT_DATA_DIR") or str(SHARED))
    train, test = data.mnist("train"), data.mnist("test")
    # the counts of the digits 0 to 9 in MNIST's test part, as published
    counts = np.bincount(train.labels) + np.bincount(test.labels)
    np.testing.assert_array_equal(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])


# Refusals


def test_a_missing_file_is_named_with_what_to_do(folder):
    with pytest.raises(DataUnavailable, match=f"images-idx3-ubyte.gz is not in the folder {folder}.*unset"):
        data.mnist("train")


def test_a_damaged_file_is_never_used(mnist_folder, folder):
    damaged = folder / "mnist_t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes() + b"x")
    with pytest.raises(DataUnavailable, match="labels-idx1-ubyte.gz in the folder .* is damaged"):
        data.mnist("train")
    assert data.handwritten("train").name == "scikit-learn digits 8x8"


def test_a_file_that_may_not_be_read_is_as_good_as_missing(mnist_folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("pooch.file_hash", refuse)  # the superuser may read whatever the mode says
    with pytest.raises(DataUnavailable, match="images-idx3-ubyte.gz in .* cannot be read: Permission"):
        data.mnist("train")
    assert data.handwritten("train").name == "scikit-learn digits 8x8"


def test_the_folder_may_lie_in_the_home_directory(mnist_folder, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("COURSEKIT_DATA_DIR", f"~/{folder.name}")
    assert data.mnist("test").name == "MNIST 10k"


def test_a_cache_that_cannot_be_written_is_as_good_as_no_network(monkeypatch, tmp_path, no_network):
    monkeypatch.delenv("COURSEKIT_DATA_DIR", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "file" / "coursekit")
    with pytest.raises(DataUnavailable, match=r"could not be downloaded from .*\(NotADirectoryError\)"):
        data.mnist("train")


def test_without_a_folder_and_a_network_the_address_is_named(monkeypatch, tmp_path, no_network):
    monkeypatch.delenv("COURSEKIT_DATA_DIR", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path)
    with pytest.raises(DataUnavailable, match=r"could not be downloaded from https://.*\(ConnectionError\)"):
        data.mnist("train")


def test_a_file_in_the_cache_needs_no_network(monkeypatch, mnist_folder, folder):
    monkeypatch.delenv("COURSEKIT_DATA_DIR")
    monkeypatch.setattr("pooch.os_cache", lambda project: folder)
    assert data.mnist("test").x.shape == (2000, 1, 28, 28)


@pytest.mark.parametrize("load", [data.digits, data.mnist, data.handwritten])
def test_an_unknown_split_is_refused(load, folder):
    with pytest.raises(ValueError, match="split 'valid' is unknown, expected one of"):
        load("valid")
