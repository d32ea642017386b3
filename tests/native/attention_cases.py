"""Sessions over random data, and attention in float64 with the derived bounds, written here anew."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends import native
from pytest_greta.backends.base import Batch, LayerConfig, Phase, Schedule, SessionConfig
from pytest_greta.dtypes import DTYPES

Array = NDArray[Any]
U = 2.0**-24
C = 5.0
TANH_REL = 2.0**-22
ONE = {"prefill": Schedule(tile=10_000, splits=1), "decode": Schedule(tile=10_000, splits=1)}
"""One tile and one split: where the two kernels must agree to the bit."""


def int32(values: Any) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, dtype=np.int32)


def config(**changes: Any) -> SessionConfig:
    """A small session; ``rope`` is off unless ``layers`` says otherwise."""
    values: dict[str, Any] = {
        "n_layers": 1,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim_qk": 16,
        "head_dim_v": 16,
        "max_seqs": 2,
        "max_len": 48,
        "act_dtype": "f32",
        "kv_dtype": "f32",
        "softmax_scale": 0.0,
    } | changes
    values.setdefault("layers", (LayerConfig(rope_style="none"),) * values["n_layers"])
    return SessionConfig(**values)


def batch(
    q_lens: list[int],
    kv_lens: list[int],
    seq_ids: list[int] | None = None,
    *,
    table: Array | None = None,
    kv_start: list[int] | None = None,
) -> Batch:
    """The last ``q_len`` rows of each sequence."""
    slots = [np.arange(kv - q, kv) for q, kv in zip(q_lens, kv_lens, strict=True)]
    ids = list(range(len(q_lens))) if seq_ids is None else seq_ids
    return Batch(
        cu_q=int32(np.cumsum([0, *q_lens])),
        kv_len=int32(kv_lens),
        positions=int32(np.concatenate(slots)),
        slots=int32(np.concatenate(slots)),
        seq_ids=int32(ids),
        kv_start=None if kv_start is None else int32(kv_start),
        block_table=None if table is None else int32(table[ids]),
    )


def randn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.standard_normal(shape).astype(DTYPES[dtype].numpy)


@dataclass(frozen=True)
class Reference:
    out: Array
    out_bound: Array
    lse: float
    lse_bound: float


def reference(
    q: Array,
    k: Array,
    v: Array,
    scale: float,
    schedule: Schedule,
    act: str,
    *,
    cap: float = 0.0,
    bias: Array | float = 0.0,
    sink: float = -np.inf,
    p_dtype: str = "f32",
    exp_rel: float = 0.0,
) -> Reference:
    """One row: q [dqk], k [n, dqk], v [n, dv], ``bias`` [n]; ``exp_rel`` beyond that of a good exp. First tier, ENV."""
    q, k, v = (np.asarray(x, dtype=np.float64) for x in (q, k, v))
    n, d = k.shape
    s = scale * (k @ q)
    size = scale * (np.abs(k) @ np.abs(q))
    ds = U * (C * np.sqrt(d) * size + 3 * np.abs(s))
    if cap:
        s = cap * np.tanh(s / cap)
        ds = (1 - (s / cap) ** 2) * ds + (4 * U + TANH_REL) * np.abs(s)
    s = s + bias
    ds = ds + U * (np.abs(bias) + np.abs(s)) * np.any(bias)
    if np.isfinite(sink):  # one more key, exact, with value 0
        s, ds, v, n = np.append(s, sink), np.append(ds, 0.0), np.concatenate([v, np.zeros_like(v[:1])]), n + 1
    m = s.max()
    weights = np.exp(s - m)
    p = weights / weights.sum()
    lse = m + np.log(weights.sum())
    tiles = -(-n // schedule.tile) + schedule.splits
    eps = ds + exp_rel + U * (2 * np.abs(s - m) + (2 * np.maximum(abs(m), np.abs(s)) + 4) * (1 + C * np.sqrt(tiles)))
    out = p @ v
    core = (p * eps) @ np.abs(v - out) + 4 * U * np.abs(out) + C * np.sqrt(n) * U * (p @ np.abs(v) + np.abs(out))
    kind = DTYPES[p_dtype]
    lost = np.maximum(kind.u * p, np.minimum(p, kind.smallest_subnormal / 2 / weights.sum()))
    u_act, tiny = DTYPES[act].u, DTYPES[act].smallest_subnormal
    rounding = u_act * np.abs(out) * 1.01 + tiny / 2
    return Reference(
        out, core + lost @ np.abs(v) + rounding, lse, p @ eps + C * np.sqrt(n) * U + 2 * U * abs(lse) + 4 * U
    )


def run(phase: Phase, **options: Any) -> tuple[bytes, bytes]:
    """The last row of a sequence of ``n`` rows, by one phase: prefill of all, or decode of the last."""
    n, act, seed = options.pop("n", 45), options.pop("act", "f32"), options.pop("seed", 0)
    table, companions = options.pop("table", None), options.pop("companions", [])
    rng = np.random.default_rng(seed)
    c = config(act_dtype=act, kv_dtype=options.pop("kv", act), max_seqs=1 + len(companions), **options)
    mine = {name: randn(rng, (n, heads, dim), act) for name, heads, dim in sizes(c)}
    others = [{name: randn(rng, (m, heads, dim), act) for name, heads, dim in sizes(c)} for m in companions]
    lens = [*companions, n]

    def rows(name: str, counts: list[int]) -> Array:
        parts = [x[name][len(x[name]) - count :] for x, count in zip([*others, mine], counts, strict=True)]
        return np.ascontiguousarray(np.concatenate(parts))

    with backend().open(c) as session:
        session.kv_write(0, batch(lens, lens, table=table), rows("k", lens), rows("v", lens))
        q_lens = lens if phase == "prefill" else [1] * len(lens)
        out, lse = session.attend(0, phase, batch(q_lens, lens, table=table), rows("q", q_lens))
        assert lse is not None
        return out[-1].tobytes(), lse[-1].tobytes()


def sizes(c: Any) -> list[tuple[str, int, int]]:
    return [("q", c.n_heads, c.head_dim_qk), ("k", c.n_kv_heads, c.head_dim_qk), ("v", c.n_kv_heads, c.head_dim_v)]


def compile_library(folder: Path, source: str, name: str = "libuser.so") -> Path:
    """A shared library from a few lines of C++, with the header on the include path."""
    header = Path(__file__).parents[2] / "native" / "include"
    path, code = folder / name, folder / f"{name}.cpp"
    code.write_text(source, encoding="utf-8")
    subprocess.run(["g++", "-shared", "-fPIC", "-O0", f"-I{header}", "-o", str(path), str(code)], check=True)
    return path


def backend() -> native.NativeBackend:
    return native.load()
