"""The IDX format of MNIST: a magic number, the sizes, then the values."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import UInt8

UNSIGNED_BYTE = 0x08


def read_idx(content: bytes) -> UInt8[np.ndarray, ...]:
    """The array of unsigned bytes that an IDX file holds.

    The first four bytes are 0, 0, the type code and the number of axes; each axis' size follows as a
    big-endian 32-bit integer, then the values in row-major order.
    Raises ValueError if the content is not that.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]))
    array([5, 6, 7], dtype=uint8)
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        start = content[:4].hex(" ")
        raise ValueError(f"read_idx: not an IDX file of unsigned bytes, it begins with {start!r}")
    axes = content[3]
    header = 4 + 4 * axes
    if len(content) < header:
        raise ValueError(f"read_idx: {len(content)} bytes cannot hold the sizes of {axes} axes")
    shape = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"read_idx: sizes {shape} need {math.prod(shape)} values, there are {len(content) - header}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
