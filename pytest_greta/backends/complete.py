"""A full session over a library that has only the required functions.

The decoder always sees the whole protocol; what the library lacks is done here, and ``Completed.done_by_engine`` says
what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import (
    Array,
    AttentionSession,
    Batch,
    Description,
    Phase,
    PythonError,
    SessionConfig,
    Unsupported,
)
from pytest_greta.dtypes import DTYPES, DType
from pytest_greta.engine.rope import rotate
from pytest_greta.texts import text

_FLOATS = frozenset({np.dtype(np.float64), *(dtype.numpy for dtype in DTYPES.values())})

_SHOWN = 3
"""Elements of a tuple or list that are described."""


class Completed:
    """An ``AttentionSession`` that adds RoPE, call counts and, for a stateless library, the cache."""

    def __init__(self, session: AttentionSession, description: Description, config: SessionConfig) -> None:
        self._inner = session
        self._config = config
        self._has = description.features
        self._kernels = description.kernels
        self._name = description.name
        self._calls: Counter[tuple[str, str]] = Counter()
        self._cache = _Cache(config) if description.kv == "stateless" else None
        self._fresh: tuple[Array, Array] | None = None
        self._takes_fresh = description.prefill_kv == "fresh"
        if self._cache is None:
            for feature in ("kv_write", "kv_read"):
                if feature not in self._has:
                    what = text("backend.keeps_cache", library=description.name, function=f"greta_{feature}")
                    raise Unsupported(feature, what)
        own = [name for name in ("rope", "counters") if name not in self._has]
        self.done_by_engine = tuple(own + (["cache"] if self._cache else []))

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        if self._cache is not None:
            k_new, v_new = self._cache.gather(layer, batch)
        elif self._takes_fresh and phase == "prefill" and self._fresh is not None:
            k_new, v_new = (x[-batch.n_tokens :] for x in self._fresh)  # the last sequence may be asked for alone
        result = self._pair(self._inner.attend(layer, phase, batch, q, k_new, v_new), batch)
        self._calls[phase, self._kernels.get(phase, "?")] += 1
        return result

    def _pair(self, result: Any, batch: Batch) -> tuple[Array, NDArray[np.float32] | None]:
        """``result`` if it is what ``attend`` must return; a backend in Python may return anything."""
        c = self._config
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise PythonError(text("backend.attend_pair", name=self._name, got=described(result)))
        rows = (batch.n_tokens, c.n_heads)
        act = DTYPES[c.act_dtype].numpy
        expected = {"out": (act, (*rows, c.head_dim_v)), "lse": (np.dtype(np.float32), rows)}
        for (name, (dtype, shape)), array in zip(expected.items(), result, strict=True):
            if name == "lse" and array is None:
                continue
            # another float type of out is for the evidence rules to judge: the run then says that it compared nothing
            fits = isinstance(array, np.ndarray) and (array.dtype in _FLOATS if name == "out" else array.dtype == dtype)
            if not fits or array.shape != shape:
                words = {"array": name, "got": described(array), "expected": f"{dtype} {list(shape)}"}
                raise PythonError(text("backend.attend_array", name=self._name, **words))
        out, lse = result
        return out, lse

    def rope(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        if "rope" in self._has:
            self._inner.rope(layer, phase, batch, q, k)
            return
        for x in (q, k):
            x[...] = rotate(x, batch.positions, self._config.layers[layer])

    def kv_write(self, layer: int, batch: Batch, k: Array, v: Array) -> None:
        if self._cache is not None:
            self._cache.write(layer, batch, k, v)
            return
        self._fresh = (k, v)
        self._inner.kv_write(layer, batch, k, v)

    def kv_read(self, layer: int, seq: int, start: int, count: int) -> tuple[Array, Array]:
        if self._cache is not None:
            return self._cache.read(layer, seq, start, count)
        return self._inner.kv_read(layer, seq, start, count)

    def kv_load(self, layer: int, seq: int, start: int, k: Array, v: Array) -> None:
        if self._cache is not None:
            self._cache.load(layer, seq, start, k, v)
        elif "kv_load" in self._has:
            self._inner.kv_load(layer, seq, start, k, v)
        else:
            raise Unsupported("kv_load", text("backend.no_kv_load"))

    def kv_trim(self, seq: int, length: int) -> None:
        if self._cache is not None:
            self._cache.trim(seq, length)
            return
        if "kv_trim" not in self._has:
            raise Unsupported("kv_trim", text("backend.no_feature", library=self._name, feature="kv_trim"))
        self._inner.kv_trim(seq, length)

    def counters(self) -> Mapping[tuple[str, str], int]:
        return self._inner.counters() if "counters" in self._has else dict(self._calls)

    def sync(self) -> None:
        if "sync" in self._has:
            self._inner.sync()

    def close(self) -> None:
        self._inner.close()


def described(value: Any) -> str:
    """What a function returned in place of an array, in words: an array of any library by type and shape."""
    if isinstance(value, (tuple, list)):
        parts = [_array(part) for part in value[:_SHOWN]]
        return f"{type(value).__name__} ({', '.join(parts)}{', ..' if len(value) > _SHOWN else ''})"
    return _array(value)


def _array(value: Any) -> str:
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return type(value).__name__
    device = getattr(value, "device", "cpu")  # NumPy's own arrays have one
    return f"{value.dtype} {list(value.shape)}" + ("" if str(device) == "cpu" else f" on {device}")


class _Cache:
    """The harness's own KV cache, by sequence and slot, in the cache's storage type."""

    def __init__(self, config: SessionConfig) -> None:
        self._layers, self._dtype = config.layers, DTYPES[config.kv_dtype]
        dtype = self._dtype.numpy
        shape = (config.n_layers, config.max_seqs, config.max_len, config.n_kv_heads)
        self.k = np.zeros((*shape, config.head_dim_qk), dtype)
        self.v = np.zeros((*shape, config.head_dim_v), dtype)

    def write(self, layer: int, batch: Batch, k: Array, v: Array) -> None:
        for s, seq in enumerate(batch.seq_ids):
            tokens = slice(int(batch.cu_q[s]), int(batch.cu_q[s + 1]))
            slots = batch.slots[tokens]
            self.k[layer, seq, slots] = _stored(k[tokens], self._layers[layer].k_scale, self._dtype)
            self.v[layer, seq, slots] = _stored(v[tokens], self._layers[layer].v_scale, self._dtype)

    def read(self, layer: int, seq: int, start: int, count: int) -> tuple[Array, Array]:
        rows = slice(start, start + count)
        return self.k[layer, seq, rows].copy(), self.v[layer, seq, rows].copy()

    def load(self, layer: int, seq: int, start: int, k: Array, v: Array) -> None:
        self.k[layer, seq, start : start + len(k)] = k
        self.v[layer, seq, start : start + len(v)] = v

    def trim(self, seq: int, length: int) -> None:
        self.k[:, seq, length:] = 0
        self.v[:, seq, length:] = 0

    def gather(self, layer: int, batch: Batch) -> tuple[Array, Array]:
        """All kv_len rows of each sequence, one after the other."""
        pairs = [self.read(layer, int(s), 0, int(n)) for s, n in zip(batch.seq_ids, batch.kv_len, strict=True)]
        return np.concatenate([k for k, _ in pairs]), np.concatenate([v for _, v in pairs])


def _stored(rows: Array, scale: tuple[float, ...] | None, dtype: DType) -> Array:
    """rows [tokens, kv_heads, dim] as a cache holds them: divided by their head's scale, rounded to nearest even; the
    fp8 types saturate."""
    if scale is not None:
        rows = rows.astype(np.float32) / np.array(scale, np.float32)[:, None]
    if not dtype.has_inf:
        rows = np.clip(rows.astype(np.float32), -dtype.max, dtype.max)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is judged, not warned of
        return rows.astype(dtype.numpy)
