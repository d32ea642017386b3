"""The HIP libraries over random data, against attention in float64: the emulated ones; or the one on a device, where
GRETA_TEST_DEVICE names its backend (``benchmarks/gpu.py`` sets it)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from attention_cases import Array, C, Reference, batch, config, int32, randn, reference

from pytest_greta.backends import native
from pytest_greta.backends.base import Batch, LayerConfig, Numerics, Phase, Schedule
from pytest_greta.backends.registry import NATIVE
from pytest_greta.dtypes import DTYPES

TILE = 64
DEVICE = os.environ.get("GRETA_TEST_DEVICE", "")
WAVES = {DEVICE: NATIVE[DEVICE]} if DEVICE else {"cdna": "_hip_emulated", "warp": "_hip_emulated_warp32"}
"""Wave width 64 with AMD's matrix instructions; 32 with NVIDIA's."""


def emulated(wave: str = next(iter(WAVES)), *, faulty: bool = False) -> native.NativeBackend:
    """The built-in library of that wave width, or the one at $GRETA_TEST_EMULATED, which was broken on purpose."""
    path = os.environ.get("GRETA_TEST_EMULATED")
    return native.load(Path(path)) if path else native.load(ending=WAVES[wave], faulty=faulty)


@dataclass(frozen=True)
class Shape:
    """One attention call. ``kv_lens`` rows a sequence, the last ``q_lens`` of them queries; ``spare`` rows of the cache
    behind the longest."""

    kv_lens: tuple[int, ...]
    q_lens: tuple[int, ...]
    act: str = "bf16"
    kv: str = "bf16"
    heads: int = 4
    kv_heads: int = 2
    dqk: int = 64
    dv: int = 64
    page: int = 0
    spare: int = 3
    splits: int = 0
    starts: tuple[int, ...] = ()
    window: int = 0
    cap: float = 0.0
    sinks: bool = False
    alibi: bool = False
    scaled: bool = False
    seed: int = 0
    phases: tuple[Phase, ...] = field(default=("prefill", "decode"))


def layer_of(shape: Shape, rng: np.random.Generator) -> LayerConfig:
    def values(on: bool, low: float, high: float, count: int) -> tuple[float, ...] | None:
        return tuple(float(np.float32(x)) for x in rng.uniform(low, high, count)) if on else None

    return LayerConfig(
        rope_style="none",
        window=shape.window,
        softcap=shape.cap,
        sinks=values(shape.sinks, -2.0, 3.0, shape.heads),
        alibi=values(shape.alibi, 0.0, 0.3, shape.heads),
        k_scale=values(shape.scaled, 0.3, 2.0, shape.kv_heads),
        v_scale=values(shape.scaled, 0.3, 2.0, shape.kv_heads),
    )


def check(library: native.NativeBackend, shape: Shape) -> dict[Phase, tuple[bytes, bytes]]:
    """Runs both phases over a cache whose unused rows are NaN, in permuted pages; asserts that each row lies within its
    bound. The bytes of out and lse by phase."""
    rng = np.random.default_rng(shape.seed)
    layer = layer_of(shape, rng)
    n, max_len = len(shape.kv_lens), max(shape.kv_lens) + shape.spare
    blocks = -(-max_len // shape.page) if shape.page else 0
    table = rng.permutation(n * blocks).reshape(n, blocks) if shape.page else None
    c = config(
        n_heads=shape.heads, n_kv_heads=shape.kv_heads, head_dim_qk=shape.dqk, head_dim_v=shape.dv, max_seqs=n,
        max_len=max_len, act_dtype=shape.act, kv_dtype=shape.kv, page_size=shape.page, n_pages=n * blocks,
        layers=(layer,), schedule={"decode": Schedule(splits=shape.splits)},
    )  # fmt: skip
    result: dict[Phase, tuple[bytes, bytes]] = {}
    starts = list(shape.starts) or [0] * n
    with library.open(c) as session:
        poison = [np.full((max_len, shape.kv_heads, d), np.nan, DTYPES[shape.kv].numpy) for d in (shape.dqk, shape.dv)]
        for seq in range(n):
            session.kv_load(0, seq, 0, *poison)
        cu, slots = [0], list[int]()
        for kv_len, start in zip(shape.kv_lens, starts, strict=True):  # rows below kv_start stay NaN
            slots += range(start, kv_len)
            cu.append(len(slots))
        write = Batch(
            int32(cu), int32(shape.kv_lens), int32(slots), int32(slots), int32(range(n)), None, table_of(table)
        )
        if slots:
            k, v = (randn(rng, (len(slots), shape.kv_heads, d), shape.act) for d in (shape.dqk, shape.dv))
            session.kv_write(0, write, k, v)
        b = batch(list(shape.q_lens), list(shape.kv_lens), table=table, kv_start=starts)
        q = randn(rng, (b.n_tokens, shape.heads, shape.dqk), shape.act)
        rows = [session.kv_read(0, seq, 0, kv_len) for seq, kv_len in enumerate(shape.kv_lens)]
        if slots and shape.act == shape.kv and not shape.scaled:  # each sequence has its own, not merely some
            for seq, start in enumerate(starts):
                for read, given in zip(rows[seq], (k, v), strict=True):
                    assert read[start:].tobytes() == given[cu[seq] : cu[seq + 1]].tobytes()
        for phase in shape.phases:
            out, lse = session.attend(0, phase, b, q)
            assert lse is not None
            declared = library.describe().declared(phase, shape.act)
            _judge(shape, layer, phase, declared, starts, b, q, rows, out, lse)
            result[phase] = out.tobytes(), lse.tobytes()
    return result


def table_of(table: Array | None) -> Array | None:
    return None if table is None else int32(table)


def _judge(
    shape: Shape,
    layer: LayerConfig,
    phase: Phase,
    declared: Numerics,
    starts: list[int],
    b: Batch,
    q: Array,
    rows: Any,
    out: Array,
    lse: Array,
) -> None:
    for seq, (q_len, kv_len) in enumerate(zip(shape.q_lens, shape.kv_lens, strict=True)):
        for query in range(q_len):
            token, end = b.cu_q[seq] + query, kv_len - q_len + query + 1
            begin = max(starts[seq], end - shape.window if shape.window else 0)
            for head in range(shape.heads):
                where = f"{phase}, sequence {seq}, query {query}, head {head}, {shape}"
                sink = layer.sinks[head] if layer.sinks else -np.inf
                if end <= begin:
                    assert not out[token, head].astype(float).any(), where
                    assert lse[token, head] == np.float32(sink), where
                    continue
                row = q[token, head]
                expected, rounding = _expected(shape, layer, phase, declared, row, rows[seq], head, begin, end, sink)
                assert abs(lse[token, head] - expected.lse) <= expected.lse_bound, where
                error = np.abs(out[token, head].astype(float) - expected.out)
                assert (error <= expected.out_bound + rounding).all(), where


def _expected(
    shape: Shape,
    layer: LayerConfig,
    phase: Phase,
    declared: Numerics,
    q: Array,
    rows: Any,
    head: int,
    begin: int,
    end: int,
    sink: float,
) -> tuple[Reference, Array]:
    """The reference, and what P's rounding in prefill adds to the bound."""
    kv_head = head // (shape.heads // shape.kv_heads)
    k, v = (x[begin:end, kv_head].astype(float) for x in rows)
    if layer.k_scale and layer.v_scale:
        k, v = k * layer.k_scale[kv_head], v * layer.v_scale[kv_head]
    scale = float(np.float32(1 / np.sqrt(shape.dqk)))
    bias = layer.alibi[head] * np.arange(begin - end + 1, 1) if layer.alibi else 0.0
    schedule = Schedule(tile=TILE, splits=8)
    if declared.acc_round != "rne":
        # An accumulator that truncates errs on one side, by 2 u a step of k_step products (docs/concepts/numerics.md,
        # acc_round): the tests' sums are short enough for the bound's own term, c sqrt(terms) u, to be the greater one.
        assert all(2 * -(-terms // declared.k_step) <= C * np.sqrt(terms) for terms in (shape.dqk, end - begin))
    r = reference(q, k, v, scale, schedule, shape.act, cap=shape.cap, bias=bias, sink=sink)
    if phase == "decode" or shape.act == "f32":
        return r, np.zeros(shape.dv)
    s = scale * (k @ q.astype(float))
    p = np.exp((shape.cap * np.tanh(s / shape.cap) if shape.cap else s) + bias - r.lse)
    act = DTYPES[shape.act]
    # Of a P below the smallest normal its rounding loses half a subnormal's spacing; a matrix core that flushes its
    # operands loses all of it (numerics.md, eta of ENV; CDNA 2 does: AMD, "MI200 MFMA behavior specifics"). It flushes
    # q, k and v too, which of normally drawn f16 moved no lse by more than 0.6 and no output by more than 0.8 of its
    # bound (1000 rows computed so, scores up to four times these); without eta, outputs moved by up to 51 bounds.
    lost = act.smallest_normal if declared.flush else act.smallest_subnormal / 2
    return r, 1.01 * (np.maximum(act.u * p, np.minimum(p, lost)) @ np.abs(v))
