"""Caches of transformers: which rows of the sequence the rows of a cache's tensors are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Unsupported
from pytest_greta.texts import text

CACHES = ("dynamic", "static")
"""By the names that users type. A layer with a sliding window gets the sliding form of either."""


def new_cache(name: str, config: Any, rows: int) -> Any:
    """An empty cache for ``rows`` rows."""
    from transformers import DynamicCache, StaticCache

    return StaticCache(config=config, max_cache_len=rows) if name == "static" else DynamicCache(config=config)


def check_cache(cache: Any) -> None:
    """Raises ``Unsupported`` for a cache whose tensors are not the rows themselves, such as a quantised one."""
    from transformers import cache_utils

    known = (cache_utils.DynamicLayer, cache_utils.StaticLayer)
    foreign = tuple(
        found for name in ("BaseQuantizedLayer", "QuantizedLayer") if (found := getattr(cache_utils, name, None))
    )
    layers = getattr(cache, "layers", None)
    if not layers:
        raise Unsupported("cache", text("hf.cache", kind=type(cache).__name__))
    for layer in layers:
        if not isinstance(layer, known) or isinstance(layer, foreign):
            raise Unsupported("cache", text("hf.cache", kind=f"{type(cache).__name__} ({type(layer).__name__})"))


def rows_of(length: int, total: int) -> tuple[slice, NDArray[np.int64]]:
    """Of a tensor of ``length`` rows after ``total`` rows were written: (which are in use, their sequence rows).

    A cache with room to spare fills from the front; one without has the last rows, the newest at its end.
    """
    if length >= total:
        return slice(0, total), np.arange(total, dtype=np.int64)
    return slice(0, length), np.arange(total - length, total, dtype=np.int64)
