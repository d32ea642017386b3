"""Query heads beside the kv head that they share: the layout in which a product serves a group at once."""

from __future__ import annotations

from pytest_greta.dtypes import Array


def by_head(values: Array, kv_heads: int) -> Array:
    """[R, H, ...] -> [kv heads, R * group, ...]"""
    R, H = values.shape[:2]
    split = values.reshape(R, kv_heads, H // kv_heads, *values.shape[2:])
    together: Array = split.swapaxes(0, 1).reshape(kv_heads, R * H // kv_heads, *values.shape[2:])
    return together


def by_row(values: Array, heads: int) -> Array:
    """The inverse: [kv heads, R * group, ...] -> [R, H, ...]"""
    B, M = values.shape[:2]
    rows = B * M // heads
    split = values.reshape(B, rows, heads // B, *values.shape[2:])
    apart: Array = split.swapaxes(0, 1).reshape(rows, heads, *values.shape[2:])
    return apart
