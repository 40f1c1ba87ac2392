"""Fixtures that several test modules share."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the suite has a process for each core


@dataclass(frozen=True)
class Library:
    """One way to hold an array: a library, a dtype and a device."""

    name: str
    dtype: str
    device: str = "cpu"

    def array(self, values):
        """values as an array of this library, a copy."""
        values = np.array(values, dtype=self.dtype)
        return torch.from_numpy(values).to(self.device) if self.name == "torch" else values

    def numpy(self, array):
        """array as NumPy; fails if it left its library, dtype or device on the way."""
        assert isinstance(array, torch.Tensor if self.name == "torch" else np.ndarray)
        assert str(array.dtype).removeprefix("torch.") == self.dtype
        if self.name == "torch":
            assert array.device.type == self.device
            return array.detach().cpu().numpy()
        return array

    @property
    def tolerance(self) -> float:
        """Largest relative error that rounding explains in sums of some hundred terms."""
        return 1e-4 if self.dtype == "float32" else 1e-11

    def __str__(self) -> str:
        return f"{self.name}-{self.dtype}-{self.device}"


LIBRARIES = [Library(name, dtype) for name in ("numpy", "torch") for dtype in ("float32", "float64")]
if torch.cuda.is_available():
    # TF32 keeps ten bits of the mantissa: not what a comparison with float32 means.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    LIBRARIES += [Library("torch", dtype, "cuda") for dtype in ("float32", "float64")]


@pytest.fixture(params=LIBRARIES, ids=str)
def library(request) -> Library:
    """Every array library, dtype and device that this machine has."""
    return request.param


@pytest.fixture
def rng(request) -> np.random.Generator:
    """A generator seeded with the test's name: each test has its own draws, the same in every run."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
