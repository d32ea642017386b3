"""A plain attention library in NumPy for tests: stateless, only the required functions, float32, one query at a time.

Two different code paths for the two phases, and hooks to break either: what a user's first backend looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Array, Batch, Description, Numerics, Phase, SessionConfig

Break = Callable[[int, Phase, Array, Array], None]


class PlainBackend:
    """``spoil(layer, phase, out, lse)`` may change a result in place."""

    def __init__(self, spoil: Break | None = None, name: str = "plain", **description: Any) -> None:
        self.spoil = spoil
        self.name = name
        self.description = description
        self.sessions: list[PlainSession] = []

    def describe(self) -> Description:
        facts: dict[str, Any] = {
            "name": self.name,
            "version": "1",
            "device_kind": "cpu",
            "features": frozenset({"gqa", "ragged", "q_len", "kv_start", "paged"}),
            "act_dtypes": ("f32", "bf16", "f16"),
            "kv_dtypes": ("f32", "bf16", "f16"),
            "p_dtypes": ("f32",),
            "kernels": {"prefill": "plain_prefill", "decode": "plain_decode"},
            "numerics": {"prefill": Numerics(), "decode": Numerics()},
            "kv": "stateless",
        }
        return Description(**{**facts, **self.description})

    def device_count(self) -> int:
        return 1

    def open(self, config: SessionConfig) -> PlainSession:
        session = PlainSession(config, self.spoil)
        self.sessions.append(session)
        return session


class PlainSession:
    def __init__(self, config: SessionConfig, spoil: Break | None) -> None:
        self.config, self.spoil, self.closed = config, spoil, False

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        assert k_new is not None
        assert v_new is not None
        cfg, group = self.config, self.config.n_heads // self.config.n_kv_heads
        out = np.zeros((len(q), cfg.n_heads, cfg.head_dim_v), q.dtype)
        lse = np.full((len(q), cfg.n_heads), -np.inf, np.float32)
        first = 0
        for s in range(batch.n_seqs):
            n, begin, end = int(batch.kv_len[s]), int(batch.cu_q[s]), int(batch.cu_q[s + 1])
            k = k_new[first : first + n].astype(np.float32)
            v = v_new[first : first + n].astype(np.float32)
            first += n
            start = 0 if batch.kv_start is None else int(batch.kv_start[s])
            for t in range(begin, end):
                seen = n - (end - begin) + (t - begin) + 1
                if seen <= start:
                    continue  # an empty row: out = 0, lse = -inf
                for h in range(cfg.n_heads):
                    x, kv = q[t, h].astype(np.float32), h // group
                    if phase == "prefill":
                        scores = (k[start:seen, kv] @ x) * np.float32(cfg.softmax_scale)
                    else:
                        scores = k[start:seen, kv] @ (x * np.float32(cfg.softmax_scale))
                    top = scores.max()
                    p = np.exp(scores - top)
                    total = p.sum(dtype=np.float32)
                    out[t, h] = ((p @ v[start:seen, kv]) / total).astype(q.dtype)
                    lse[t, h] = top + np.log(total)
        if self.spoil is not None:
            self.spoil(layer, phase, out, lse)
        return out, lse

    def close(self) -> None:
        self.closed = True

    # a stateless library has none of these; the protocol wants the names
    def rope(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        raise AssertionError("not a feature")

    def kv_write(self, layer: int, batch: Batch, k: Array, v: Array) -> None:
        raise AssertionError("not a feature")

    def kv_read(self, layer: int, seq: int, start: int, count: int) -> tuple[Array, Array]:
        raise AssertionError("not a feature")

    def kv_load(self, layer: int, seq: int, start: int, k: Array, v: Array) -> None:
        raise AssertionError("not a feature")

    def kv_trim(self, seq: int, length: int) -> None:
        raise AssertionError("not a feature")

    def counters(self) -> Mapping[tuple[str, str], int]:
        raise AssertionError("not a feature")

    def sync(self) -> None:
        raise AssertionError("not a feature")
