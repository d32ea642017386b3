"""Scales of an fp8 cache: per kv head, K's different from V's and neither 1, as a calibrated checkpoint has them."""

from __future__ import annotations

from dataclasses import replace

from pytest_greta.engine.spec import ModelSource

K_SCALE, V_SCALE = (0.19, 0.043), (0.11, 0.027)
"""(of kv head 0, more for each further head): no powers of two, so that a forgotten scale is not an exact shift."""


def with_cache_scales(source: ModelSource, kv_dtype: str) -> ModelSource:
    """``source`` with k and v scales in every layer, where the cache is fp8 and the checkpoint has none."""
    if not kv_dtype.startswith("fp8") or source.config.layers[0].k_scale is not None:
        return source
    heads = range(source.config.n_kv_heads)
    k, v = (tuple(first + more * h for h in heads) for first, more in (K_SCALE, V_SCALE))
    layers = tuple(replace(layer, k_scale=k, v_scale=v) for layer in source.config.layers)
    return replace(source, config=replace(source.config, layers=layers))
