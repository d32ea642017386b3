"""TILE against plain loops that round P where the schedule says, against the native library, against wrong tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pytest_greta.backends import native
from pytest_greta.backends.base import Batch, LayerConfig, Numerics, Schedule, SessionConfig
from pytest_greta.checks import schedule
from pytest_greta.checks.attention import Call, Options, Rows, Spans
from pytest_greta.checks.judge import Group, Place, judge
from pytest_greta.dtypes import DTYPES
from pytest_greta.trace.records import Tap
from tests.checks.flash import inputs

f32 = np.float32
LOW = ("bf16", "f16", "fp8_e4m3fn", "fp8_e4m3fnuz")


def table(p_dtype: str) -> np.ndarray:
    """Every finite value of a type, ascending, as float64."""
    dtype = DTYPES[p_dtype]
    words = np.arange(2 ** (8 * dtype.itemsize), dtype=np.uint64).astype(f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        values = words.view(dtype.numpy).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


TABLES = {name: table(name) for name in LOW}


def nearest(x: float, p_dtype: str) -> float:
    """To nearest, ties to the even last bit, by looking at both neighbours; beyond the largest value, it."""
    values = TABLES[p_dtype]
    i = int(np.searchsorted(values, x))
    if i == len(values):
        return float(values[-1])
    below, above = values[max(i - 1, 0)], values[i]
    if x - below != above - x:
        return float(below if x - below < above - x else above)
    word = np.array([above]).astype(DTYPES[p_dtype].numpy).view(f"u{DTYPES[p_dtype].itemsize}")[0]
    return float(above if word % 2 == 0 else below)


@dataclass(frozen=True)
class Shape:
    """One attention call: the last ``q_len`` of ``kv_len`` rows, of which those before ``start`` are padding."""

    q_len: int
    kv_len: int
    window: int = 0
    start: int = 0


def plain(call: Call, n: Numerics, shape: Shape, r: int, h: int) -> np.ndarray:
    """The output of one query, by loops over splits, tiles and keys, in the words of docs/library.md."""
    slots = shape.start  # of key 0
    q = call.q[r, h].astype(np.float64)
    g = h // (call.q.shape[1] // call.k.shape[1])
    own = shape.kv_len - shape.q_len + r  # this query's slot, counted from slot 0
    first = max(shape.start, own - shape.window + 1) if shape.window else shape.start
    call_first = shape.kv_len - shape.q_len  # slot of the call's first query
    begin = max(shape.start, call_first - shape.window + 1) if shape.window else shape.start
    end = shape.kv_len
    if n.tile_origin == "window" and shape.window:
        begin, end = first, own + 1
    origin = begin if n.tile_origin == "window" else 0
    tiles = range((begin - origin) // n.tile, (end - 1 - origin) // n.tile + 1)
    share = math.ceil(len(tiles) / n.splits)

    def score(slot: int) -> float:
        s = call.options.scale * float(call.k[slot - slots, g].astype(np.float64) @ q)
        if call.options.softcap:
            s = call.options.softcap * math.tanh(s / call.options.softcap)
        if call.options.alibi is not None:
            s += call.options.alibi[h] * (slot - own)
        return s

    parts = []
    for i in range(n.splits):
        mine = list(tiles[i * share : (i + 1) * share])
        m, total, o = -math.inf, 0.0, np.zeros(call.v.shape[-1])
        for t in reversed(mine) if n.direction == "reverse" else mine:
            keys = [j for j in range(origin + t * n.tile, origin + (t + 1) * n.tile) if first <= j <= own]
            if not keys:
                continue
            s = [score(j) for j in keys]
            new = max(s)
            if n.max_update == "none":
                new = 0.0
            elif n.max_update.startswith("lazy:") and m > -math.inf:
                new = new if new - m > float(n.max_update[5:]) else m
            else:
                new = max(m, new)
            old = math.exp(m - new) if m > -math.inf else 0.0
            p = [math.exp(x - new) for x in s]
            stored = [nearest(x * n.p_scale, n.p_dtype) for x in p]
            total = total * old + (sum(stored) / n.p_scale if n.l_from == "after" else sum(p))
            o = o * old + sum(x * call.v[j - slots, g].astype(np.float64) for x, j in zip(stored, keys, strict=True))
            m = new
        parts.append((m, total, o))
    sink = -math.inf if call.options.sinks is None else float(call.options.sinks[h])
    top = max(sink, *(m for m, total, _ in parts if total))
    total = sum(t * math.exp(m - top) for m, t, _ in parts if t) + math.exp(sink - top)
    return sum(o * math.exp(m - top) for m, t, o in parts if t) / (total * n.p_scale)


def call_of(q, k, v, shape: Shape, numerics: Numerics, act="f32", **options) -> Call:
    """``k`` and ``v`` hold the rows from ``shape.start`` on, as a cache's checked rows do."""
    own = np.arange(shape.kv_len - shape.q_len, shape.kv_len) - shape.start
    begin = max(0, int(own[0]) - shape.window + 1) if shape.window else 0
    rows = np.full(len(own), begin), np.full(len(own), shape.kv_len - shape.start)
    spans = Spans(*rows, shape.start, bool(shape.window))
    opts = Options(options.pop("scale", q.shape[-1] ** -0.5), **options)
    return Call(own, q, k, v, Rows.causal(own, shape.window), opts, DTYPES[act], numerics, spans)


def rho(call: Call, out: np.ndarray, numerics: Numerics | None = None) -> float:
    reference = schedule.reference(call, numerics)
    (check,) = judge(reference, out, [Group("decode", call.positions)], Place(0, "attn_out", True))
    return check.rho


def drawn(seed: int) -> tuple[Numerics, Shape, str]:
    rng = np.random.default_rng(seed)
    p_dtype = LOW[seed % 4]
    numerics = Numerics(
        tile=int(rng.choice([3, 8, 16, 48, 500])),
        splits=int(rng.choice([1, 1, 2, 3, 5])),
        direction=str(rng.choice(["forward", "reverse"])),
        tile_origin=str(rng.choice(["zero", "window"])),
        max_update=str(rng.choice(["every_tile", "every_tile", "lazy:0.7", "none"])),
        p_dtype=p_dtype,
        p_scale=float(rng.choice([1, 1, 100, 224])) if p_dtype != "f16" else 1.0,
    )
    start = int(rng.choice([0, 0, 5]))
    kv_len = start + int(rng.choice([1, 7, 33, 96, 97, 130]))
    q_len = int(rng.integers(1, min(4, kv_len - start) + 1))
    return numerics, Shape(q_len, kv_len, int(rng.choice([0, 0, 20])), start), ["f32", "bf16", "f16"][seed % 3]


@pytest.mark.parametrize("l_from", ["before", "after"])
def test_the_emulation_is_the_plain_loops(l_from):
    """Each p_dtype, direction, split, origin, running max and padding; soft cap, sink and bias too. No rounding is
    shared: P is rounded through a table of all values there."""
    for seed in range(40):
        numerics, shape, _ = drawn(seed)
        numerics = replace(numerics, l_from=l_from)
        rng = np.random.default_rng(seed)
        n = shape.kv_len - shape.start
        q, k, v = inputs(rng, (shape.q_len, n, 4, 2, 8), "f32", ["plain", "outlier"][seed % 2])
        if numerics.max_update == "none":
            k = (k / 20).astype(f32)
        more = {"softcap": 3.0} if seed % 5 == 0 else {}
        more |= {"sinks": rng.standard_normal(4)} if seed % 3 == 0 else {}
        more |= {"alibi": -rng.random(4)} if seed % 7 == 0 else {}
        call = call_of(q, k, v, shape, numerics, **more)
        got = schedule.reference(call)
        for r in range(shape.q_len):
            for h in range(4):
                np.testing.assert_allclose(got.y[r, h], plain(call, numerics, shape, r, h), rtol=1e-9, atol=1e-12)


def run_native(q, k, v, shape: Shape, numerics: Numerics, act: str, phase: str, layer: LayerConfig) -> np.ndarray:
    fields = {name: getattr(numerics, name) for name in schedule.FIELDS}
    config = SessionConfig(
        n_layers=1, n_heads=q.shape[1], n_kv_heads=k.shape[1], head_dim_qk=q.shape[-1], head_dim_v=v.shape[-1],
        max_seqs=1, max_len=shape.kv_len, act_dtype=act, kv_dtype=act, softmax_scale=0.0, layers=(layer,),
        schedule=dict.fromkeys(("prefill", "decode"), Schedule(**fields)),
    )  # fmt: skip

    def batch(first: int, count: int) -> Batch:
        slots = np.arange(first, first + count, dtype=np.int32)
        start = np.array([shape.start], np.int32) if shape.start else None
        cu = np.array([0, count], np.int32)
        return Batch(cu, np.array([first + count], np.int32), slots, slots, np.zeros(1, np.int32), start)

    pad = np.zeros((shape.start, *k.shape[1:]), k.dtype)
    with native.load().open(config) as session:
        session.kv_write(0, batch(0, shape.kv_len), np.concatenate([pad, k]), np.concatenate([pad, v]))
        return session.attend(0, phase, batch(shape.kv_len - shape.q_len, shape.q_len), q)[0]


def layer_of(shape: Shape, rng: np.random.Generator, seed: int) -> tuple[LayerConfig, dict]:
    values = {"softcap": 3.0} if seed % 5 == 0 else {}
    heads = {"sinks": rng.standard_normal(4).astype(f32)} if seed % 3 == 0 else {}
    heads |= {"alibi": -rng.random(4).astype(f32)} if seed % 7 == 0 else {}
    layer = LayerConfig(
        rope_style="none", window=shape.window, **values, **{n: tuple(map(float, x)) for n, x in heads.items()}
    )
    return layer, values | {name: x.astype(np.float64) for name, x in heads.items()}


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_native_library_stays_within_by_every_schedule(phase):
    worst = 0.0
    for seed in range(160):
        numerics, shape, act = drawn(seed)
        rng = np.random.default_rng(seed)
        n = shape.kv_len - shape.start
        q, k, v = inputs(rng, (shape.q_len, n, 4, 2, 16), act, ["plain", "outlier", "hot", "sink"][seed // 12 % 4])
        if numerics.max_update == "none":
            k = (k.astype(f32) / 100).astype(k.dtype)
        layer, more = layer_of(shape, rng, seed)
        out = run_native(q, k, v, shape, numerics, act, phase, layer)
        found = rho(call_of(q, k, v, shape, numerics, act, **more), out)
        assert found <= 1.0, (seed, numerics, shape, act, found)
        worst = max(worst, found)
    print(f"worst rho {worst:.3f}")
    assert worst > 0.01


@pytest.mark.parametrize("p_dtype", ["bf16", "fp8_e4m3fn", "fp8_e4m3fnuz"])
@pytest.mark.parametrize(
    "true", [{"tile": 96}, {"tile": 160}, {"direction": "reverse"}, {"splits": 4}, {"max_update": "none"}]
)
def test_another_schedule_than_the_declared_one_is_seen_and_named(p_dtype, true):
    shape = Shape(1, 400)
    q, k, v = inputs(np.random.default_rng(2), (1, 400, 4, 2, 64), "f32", "plain")
    k *= f32(0.5 if "max_update" in true else 2.0)
    said = Numerics(tile=64, splits=1, p_dtype=p_dtype)
    real = replace(said, **true)
    out = run_native(q, k, v, shape, real, "f32", "decode", LayerConfig(rope_style="none"))
    call = call_of(q, k, v, shape, said)
    assert rho(call, out) > 5
    assert rho(call, out, real) <= 1
    (check,) = judge(schedule.reference(call), out, [Group("decode", call.positions)], Place(0, "attn_out", True))
    found = schedule.search(check, call, Tap(call.positions, out))
    assert found is not None
    assert schedule.spelled(found) == schedule.spelled(real)


@pytest.mark.parametrize(("p_dtype", "exp_rel"), [("f16", 2.0**-13), ("bf16", 2.0**-10), ("bf16", 2.0**-7)])
def test_an_exp_whose_1_is_rounded_away_in_p_and_summed_in_l(p_dtype: str, exp_rel: float) -> None:
    """q = 0 with exp(0) = 1 + exp_rel: P rounds it, l does not, and the output is less by what was rounded away."""
    rng = np.random.default_rng(3)
    n, d = 40, 32
    q, k, v = np.zeros((1, 1, d)), rng.standard_normal((n, 1, d)), rng.standard_normal((n, 1, d))
    one = 1.0 + exp_rel
    out = np.full(n, nearest(one, p_dtype)) @ v[:, 0] / (n * one)
    size = np.abs(v[:, 0]).mean(axis=0)

    def judged(declared: float, off: float = 0.0) -> float:
        numerics = Numerics(p_dtype=p_dtype, exp_rel=declared)
        found = schedule.unrounded(call_of(q, k, v, Shape(1, n), numerics)).reference().out
        return float((np.abs(out + off * size - found.y[0, 0]) / (found.b_det + found.b_sqrt2)[0, 0]).max())

    assert judged(exp_rel) <= 1.0
    if nearest(one, p_dtype) != one:
        assert judged(2.0**-23) > 1.0
    assert judged(exp_rel, 4.0 * min(DTYPES[p_dtype].u, exp_rel)) > 1.0
