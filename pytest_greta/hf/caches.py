"""Caches of transformers: which rows of the sequence the rows of a cache's tensors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Unsupported
from pytest_greta.engine.store import ModelMissing
from pytest_greta.texts import text

PACKAGES: Mapping[str, str] = {"quanto": "optimum-quanto", "hqq": "hqq", "fp8": ""}
"""The quantised caches by the names that transformers has for them, and the package that each needs."""
_LAYERS = {"quanto": "QuantoQuantizedLayer", "hqq": "HQQQuantizedLayer", "fp8": "Fp8QuantizedLayer"}
_SCHEMES = {"quanto": "groups", "hqq": "hqq"}
CACHES = ("dynamic", "static", *PACKAGES)
"""By the names that users type. A layer with a sliding window gets the sliding form of the first two."""


def new_cache(name: str, config: Any, rows: int) -> Any:
    """An empty cache for ``rows`` rows.

    Raises ``ModelMissing`` where a package is missing, ``Unsupported`` for a model that the cache is not made for.
    """
    from transformers import DynamicCache, QuantizedCache, StaticCache

    if name not in PACKAGES:
        return StaticCache(config=config, max_cache_len=rows) if name == "static" else DynamicCache(config=config)
    try:
        return QuantizedCache(name, config=config)
    except ImportError:
        package = PACKAGES[name]
        message = text("hf.cache_package", name=name, package=package)
        raise ModelMissing("extra", message, f"pip install {package}") from None
    except ValueError as error:  # it knows layers without a window alone
        raise Unsupported("cache", text("hf.cache_refuses", name=name, error=str(error).splitlines()[0])) from None


def scheme_of(cache: Any, row: int, prefill: Sequence[int], later: int) -> dict[str, Any]:
    """How it keeps rows in fewer bits, as ``checks.quantised`` has it; empty where its tensors are the rows themselves.

    ``row``: elements of a row, ``prefill``: rows of each call of the prefill, ``later``: rows after it. Raises
    ``Unsupported`` for a cache whose rows cannot be told, among them one that would round them anew.
    """
    from transformers import cache_utils

    layers = getattr(cache, "layers", None)
    if not layers:
        raise Unsupported("cache", text("hf.cache", kind=type(cache).__name__))
    kinds = {type(layer) for layer in layers}
    quantised = {getattr(cache_utils, kind, None): name for name, kind in _LAYERS.items()}
    name = quantised.get(next(iter(kinds))) if len(kinds) == 1 else None
    if name is None:
        base = getattr(cache_utils, "BaseQuantizedLayer", cache_utils.QuantizedLayer)
        for layer in layers:
            plain = isinstance(layer, (cache_utils.DynamicLayer, cache_utils.StaticLayer))
            if not plain or isinstance(layer, (base, cache_utils.QuantizedLayer)):
                raise Unsupported("cache", text("hf.cache", kind=f"{type(cache).__name__} ({type(layer).__name__})"))
        return {}
    if len(prefill) > 1:
        raise Unsupported("chunk", text("hf.cache_chunk", name=name))
    if name == "fp8":
        return {"name": name, "scheme": name}
    one = layers[0]
    if (one.axis_key, one.axis_value) != (0, 0):
        raise Unsupported("cache", text("hf.cache_axis", name=name, key=one.axis_key, value=one.axis_value))
    if row % one.q_group_size:
        raise Unsupported("cache", text("hf.cache_groups", name=name, group=one.q_group_size, row=row))
    if later >= one.residual_length:
        raise Unsupported("steps", text("hf.cache_anew", name=name, rows=one.residual_length, later=later))
    return {"name": name, "scheme": _SCHEMES[name], "bits": one.nbits, "group": one.q_group_size}


def contents(layer: Any) -> tuple[Any, Any]:
    """Keys and values [1, heads, rows, dim] that a layer of a cache holds, as it would hand them out."""
    import torch

    if not hasattr(layer, "_quantized_keys"):
        return layer.keys, layer.values
    whole = []
    for kept, aside in ((layer._quantized_keys, layer.keys), (layer._quantized_values, layer.values)):
        rounded = layer._dequantize(kept)
        whole.append(torch.cat([rounded, aside], dim=-2) if aside.dim() == 4 else rounded)
    return whole[0], whole[1]


def rows_of(length: int, total: int) -> tuple[slice, NDArray[np.int64]]:
    """Of a tensor of ``length`` rows after ``total`` rows were written: (which are in use, their sequence rows).

    A cache with room to spare fills from the front; one without has the last rows, the newest at its end.
    """
    if length >= total:
        return slice(0, total), np.arange(total, dtype=np.int64)
    return slice(0, length), np.arange(total - length, total, dtype=np.int64)
