"""Arrays of host memory for what a library writes, with known bytes on both sides: what it writes beyond them shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pytest_greta.dtypes import Array

BYTES = 64
"""On each side. A cache line, so that the array is aligned as the memory around it is."""
_KNOWN = 0x7A


def fenced(shape: tuple[int, ...], dtype: Any, fill: Any) -> Array:
    """``np.full``, with a fence around it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.full(BYTES + size + BYTES, _KNOWN, np.uint8)
    array: Array = room[BYTES : BYTES + size].view(dtype).reshape(shape)
    array[...] = fill
    return array


def is_broken(array: Any) -> bool:
    """Whether anything was written beyond what ``fenced`` gave; False for any other array."""
    room = getattr(array, "base", None)
    if not isinstance(room, np.ndarray) or room.dtype != np.uint8 or room.nbytes != array.nbytes + 2 * BYTES:
        return False
    return not (room[:BYTES] == _KNOWN).all() or not (room[-BYTES:] == _KNOWN).all()
