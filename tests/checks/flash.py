"""A flash attention in NumPy float32, one query head at a time, and random inputs of the kinds that break bounds.

Shares nothing with the checks: what a healthy kernel may do (any tile, order, split, accumulation order) is done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

f32 = np.float32
TYPES: dict[str, Any] = {
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e4m3fn": ml_dtypes.float8_e4m3fn,
}


@dataclass(frozen=True)
class Kernel:
    """How the emulated kernel works. ``fast_exp``: relative error of its exp. ``order``: of the sums."""

    tile: int = 32
    splits: int = 1
    reverse: bool = False
    p_dtype: str = "f32"
    order: str = "blas"
    prescale: bool = False
    """q is scaled before the product, in float32."""
    exp2: bool = False
    """exp(x) as exp2(x log2 e), as GPU kernels do."""
    l_after: bool = False
    """l is summed after P was rounded."""
    partials: str = "f32"
    """The type in which split outputs are kept."""


def dot(a: np.ndarray, b: np.ndarray, order: str) -> np.ndarray:
    """a [m, n] times b [n, o] in float32, summed in the order asked for."""
    if order == "blas":
        return a @ b
    total = np.zeros((len(a), b.shape[1]), f32)
    steps = range(a.shape[1]) if order == "serial" else reversed(range(a.shape[1]))
    for i in steps:
        total += a[:, i : i + 1] * b[i : i + 1]
    return total


def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, kernel: Kernel, *, cap=0.0, bias=None, sink=None
) -> tuple[np.ndarray, np.float32]:
    """q [d], k [n, d], v [n, dv], all float32 values; -> out [dv] float32, lse. ``bias`` [n] float32."""
    n, scale = len(k), f32(scale)
    log2e = f32(np.log2(np.e))

    def exp(x):
        return np.exp2(x * log2e) if kernel.exp2 else np.exp(x)

    tiles = [slice(i, min(i + kernel.tile, n)) for i in range(0, n, kernel.tile)]
    share = -(-len(tiles) // kernel.splits)
    partial = []
    for s in range(kernel.splits):
        mine = tiles[s * share : (s + 1) * share]
        m, total, o = f32(-np.inf), f32(0), np.zeros(v.shape[1], f32)
        if s == 0 and sink is not None:
            m, total = f32(sink), f32(1)
        for t in reversed(mine) if kernel.reverse else mine:
            if kernel.prescale:
                scores = dot((q * scale)[None], k[t].T, kernel.order)[0]
            else:
                scores = dot(q[None], k[t].T, kernel.order)[0] * scale
            if cap:
                scores = f32(cap) * np.tanh(scores / f32(cap))
            if bias is not None:
                scores = scores + bias[t]
            new = np.maximum(m, scores.max())
            p, old = exp(scores - new), exp(m - new) if np.isfinite(m) else f32(0)
            rounded = p.astype(TYPES[kernel.p_dtype]).astype(f32)
            total = total * old + (rounded if kernel.l_after else p).sum(dtype=f32)
            o = o * old + dot(rounded[None], v[t], kernel.order)[0]
            m = new
        if np.isfinite(m):
            part = (o / total) if kernel.splits > 1 else o
            partial.append((m, total, part.astype(TYPES[kernel.partials]).astype(f32)))
    if kernel.splits == 1:
        m, total, o = partial[0]
        return o / total, m + np.log(total)
    top = max(m for m, _, _ in partial)
    weights = [share * exp(m - top) for m, share, _ in partial]
    total = f32(0)
    out = np.zeros(v.shape[1], f32)
    for w, (_, _, o) in zip(weights, partial, strict=True):
        total += w
        out += w * o
    return out / total, top + np.log(total)


def inputs(rng: np.random.Generator, shape: tuple[int, int, int, int, int], act: str, kind: str):
    """``shape`` (rows, keys, heads, kv_heads, d) -> q [rows, heads, d] and k, v [keys, kv_heads, d], stored as ``act``.

    ``kind``: plain, hot (logits in the hundreds), sink (one key takes nearly all), outlier (a few huge channels in v
    and k), equal (all keys alike), tiny (values near the smallest normal).
    """
    rows, keys, heads, kv_heads, d = shape
    q, k, v = (rng.standard_normal(s) for s in ((rows, heads, d), (keys, kv_heads, d), (keys, kv_heads, d)))
    if kind == "hot":
        q *= 12
        k *= 3
    elif kind == "sink":
        k[0] += 4 * np.sign(q.mean(axis=(0, 1)))
        q += 3 * np.sign(k[0].mean(axis=0))
    elif kind == "outlier":
        k[..., rng.integers(d)] *= 60
        v[..., rng.integers(d)] *= 300
        v[rng.integers(keys)] *= 40
    elif kind == "equal":
        k[:] = k[:1]
    elif kind == "tiny":
        v *= 1e-6
        q *= 1e-4
    return tuple(x.astype(TYPES[act]) for x in (q, k, v))
