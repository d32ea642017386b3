"""The backend ``numpy``: attention as its formula is written, in float32, by the same helper as a user's function."""

from __future__ import annotations

import numpy as np

from pytest_greta.backends.base import WHOLE_ROW, Array, Numerics
from pytest_greta.backends.function import FunctionBackend, function_backend
from pytest_greta.dtypes import DTYPES

EXP_REL = TANH_REL = 4 * 2.0**-23
"""NumPy's functions of float32: its sources say at most 2.52 ulp of exp and 4 of tanh; held by a test on what the
machine has."""
NUMERICS = Numerics(tile=WHOLE_ROW, splits=1, exp_rel=EXP_REL, tanh_rel=TANH_REL)


def attend(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float,
    mask: Array,
    softcap: float,
    sinks: Array | None,
    alibi: Array | None,
    k_scale: Array | None,
    v_scale: Array | None,
) -> tuple[Array, Array]:
    """See ``function.AttentionFunction``."""
    T, heads, _ = q.shape
    rows, kv_heads, _ = k.shape
    group = heads // kv_heads

    def of_kv_heads(x: Array | None) -> Array:
        """[kv_heads] -> [kv_heads, 1, 1, 1], 1 where there is none."""
        return np.ones(1, np.float32) if x is None else x[:, None, None, None]

    def of_heads(x: Array) -> Array:
        """[heads] -> [kv_heads, group, 1, 1]"""
        return x.reshape(kv_heads, group, 1, 1)

    # [kv_heads, group, T, d], [kv_heads, 1, rows, d]
    q4 = q.astype(np.float32).reshape(T, kv_heads, group, -1).transpose(1, 2, 0, 3)
    k4, v4 = (x.astype(np.float32).transpose(1, 0, 2)[:, None] for x in (k, v))
    s = (q4 @ k4.swapaxes(-1, -2)) * (np.float32(scale) * of_kv_heads(k_scale))
    if softcap:
        s = np.float32(softcap) * np.tanh(s / np.float32(softcap))
    if alibi is not None:
        distance = np.arange(rows) - np.arange(rows - T, rows)[:, None]
        s = s + of_heads(alibi) * distance.astype(np.float32)
    s = np.where(mask, s, np.float32(-np.inf))
    m = s.max(axis=-1, keepdims=True)
    if sinks is not None:
        m = np.maximum(m, of_heads(sinks))
    p = np.exp(s - m)
    total = p.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(of_heads(sinks) - m)
    out = (p @ v4) / total * of_kv_heads(v_scale)
    lse = (m + np.log(total))[..., 0]
    return out.transpose(2, 0, 1, 3).reshape(T, heads, -1).astype(q.dtype), lse.transpose(2, 0, 1).reshape(T, heads)


def backend() -> FunctionBackend:
    return function_backend(attend, name="numpy", numerics=NUMERICS, kv_dtypes=tuple(DTYPES))
