"""One hash for every byte comparison: fast, and named beside every value that it gives."""

from __future__ import annotations

import numpy as np
import xxhash

from pytest_greta.dtypes import Array

HASH_ALGO = "xxh3_64"


def digest(array: Array) -> str:
    """16 hex digits over the raw bytes of ``array`` in C order; its shape and type are not part of it."""
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(array).view(np.uint8).data)
