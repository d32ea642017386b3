"""RoPE in NumPy, for libraries that have no ``greta_rope``: the harness then turns q and k itself, and says so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig


def rotate(x: NDArray[Any], positions: NDArray[np.int32], layer: LayerConfig) -> NDArray[Any]:
    """x [T, heads, dim] at RoPE positions [T], computed with float64 angles, float32 products, one rounding to x's
    dtype."""
    if layer.rope_style == "none":
        return x
    dim = layer.rotary_dim or x.shape[-1]
    half = dim // 2
    inverse = layer.rope_base ** (-2.0 * np.arange(half) / dim)
    if layer.rope_factors is not None:
        inverse = inverse / np.asarray(layer.rope_factors, np.float64)
    angle = positions[:, None].astype(np.float64) * inverse
    cos, sin = np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]
    first, second = (
        (slice(0, half), slice(half, dim)) if layer.rope_style == "half" else (slice(0, dim, 2), slice(1, dim, 2))
    )
    a, b = x[..., first].astype(np.float32), x[..., second].astype(np.float32)
    y: NDArray[Any] = x.copy()
    y[..., first] = (a * cos - b * sin).astype(x.dtype)
    y[..., second] = (a * sin + b * cos).astype(x.dtype)
    return y
