"""A small decoder in float32 NumPy that writes its own ``Trace``: nothing of the engine, so the checks are tried alone.

Three layers, 4 heads over 2 kv heads, QKV bias and QK norm, N = 9 and two decoded tokens. A test breaks it by changing
values as they are produced (``spoil``), or what a step of layer 1 is given (``Break``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pytest_greta.backends.base import LayerConfig
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.spec import ModelConfig, ModelSource, StageSpec, decoder_stages
from pytest_greta.trace.records import Key, PathTrace, Tap, Trace

f32 = np.float32
N, STEPS, LAYERS = 9, 2, 3
HEADS, KV_HEADS, DIM, WIDTH, FFN, VOCAB = 4, 2, 8, 16, 24, 40
BASE, EPS = 1e4, 1e-5
BESIDE = {"seq0": 7, "before": 2, "pad": 2}
BEFORE = 3
"""The first row that once held something else."""
PAGE = 4
CHECKED = (0, 1, 4, 8)
"""Rows whose every stage is kept; the decoded rows come with the full and the decode path."""

Array = np.ndarray
Spoil = Callable[[str, Key, Array], Array]
"""(path, key, values as stored) -> what the stage gives instead; the taps and all that follows see it."""


@dataclass(frozen=True)
class Read:
    """What the kernel of one query head is about to use: keys start .. stop - 1 of k and v [rows, dim], float32."""

    tiny: Tiny
    path: str
    layer: int
    row: int
    head: int
    kv_head: int
    k: Array
    v: Array
    start: int
    stop: int
    scale: float
    softcap: float
    sink: float | None
    slope: float

    def other(self, k: Array, v: Array) -> Read:
        """Other stored rows [rows, kv_heads, dim], zero where there are none, with this layer's scales."""
        tiny, g = self.tiny, self.kv_head
        rows = []
        for x, scales in ((k, tiny.k_scale), (v, tiny.v_scale)):
            values = x[:, g].astype(f32) * (f32(1) if scales is None else f32(scales[g]))
            rows.append(np.concatenate([values, np.zeros((N + STEPS + 1, DIM), f32)]))
        return replace(self, k=rows[0], v=rows[1])

    def to(self, kv_head: int) -> Read:
        cache = self.tiny.caches[self.path if self.path != "aligned" else "full", self.layer]
        return replace(self, kv_head=kv_head).other(*cache)


@dataclass(frozen=True)
class Break:
    """Faults of one path, at layer 1. Each is neutral by default."""

    path: str = "decode"
    positions: int = 0
    """Added to the RoPE position."""
    length: int = 0
    """Added to the number of keys."""
    scale: float = 1.0
    """Factor on the softmax scale."""
    heads: tuple[int, ...] = (0, 0, 1, 1)
    """The kv head of each head."""
    token: int = 0
    """Added to the token id before the embedding."""
    weight: str = ""
    """A projection whose matrix is that of the next layer."""
    reads: Callable[[Read], Read] = lambda read: read
    """What the kernel uses in place of what it should."""


class Recorder:
    """The taps of one path."""

    def __init__(self, path: str, checked: set[int], layers: tuple[int, ...], spoil: Spoil) -> None:
        self.path, self.checked, self.layers, self.spoil = path, checked, layers, spoil
        self.kept: dict[Key, list[tuple[Array, Array]]] = {}

    def tap(self, key: Key, rows: Array, values: Array, every: bool = False) -> Array:
        values = self.spoil(self.path, key, values)
        keep = np.array([every or int(r) in self.checked for r in rows])
        if key.layer in (-1, *self.layers):
            self.kept.setdefault(key, []).append((rows[keep], values[keep]))
        return values

    def snapshot(self, key: Key, values: Array) -> None:
        self.kept.pop(key, None)
        self.tap(key, np.arange(len(values)), values.copy(), True)

    def taps(self) -> dict[Key, Tap]:
        return {k: Tap(*(np.concatenate(x) for x in zip(*parts, strict=True))) for k, parts in self.kept.items()}


@dataclass
class Tiny:
    seed: int = 0
    act: str = "f32"
    kv: str = "f32"
    spoil: Spoil = field(default=lambda path, key, values: values)
    broken: Break = field(default_factory=Break)
    k_scale: tuple[float, ...] | None = None
    v_scale: tuple[float, ...] | None = None
    layers: tuple[int, ...] = (0, 1, 2)
    layer: LayerConfig = field(default_factory=LayerConfig)
    """Window, soft cap, sinks and ALiBi of every layer."""
    windows: tuple[int, ...] = (0, 0, 0)
    prefix: tuple[tuple[int, int], ...] = ((0, N),)
    """The calls (first row, rows) of the prefix path."""
    decode: tuple[tuple[int, int], ...] = tuple((N + i, 1) for i in range(STEPS))
    beside: tuple[str, ...] = ()
    """What lies beside the rows in the cache: ``seq0``, ``before`` (rows 3 and 4), ``pad`` (2 rows)."""
    pages: tuple[tuple[int, ...], ...] = ()
    """The page table, a row a sequence, of pages of 4 rows."""

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        shapes = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "q_norm": (DIM,), "k_norm": (DIM,)}
        shapes |= {"q": (HEADS * DIM, WIDTH), "k": (KV_HEADS * DIM, WIDTH), "v": (KV_HEADS * DIM, WIDTH)}
        shapes |= {"q_bias": (HEADS * DIM,), "k_bias": (KV_HEADS * DIM,), "v_bias": (KV_HEADS * DIM,)}
        shapes |= {"o": (WIDTH, HEADS * DIM), "gate": (FFN, WIDTH), "up": (FFN, WIDTH), "down": (WIDTH, FFN)}
        self.w: dict[str, Any] = {
            f"layers.{i}.{name}": rng.standard_normal(shape).astype(f32) * f32(0.8)
            for i in range(LAYERS)
            for name, shape in shapes.items()
        }
        self.w |= {"embed": rng.standard_normal((VOCAB, WIDTH)).astype(f32), "final_norm": np.full(WIDTH, 1.3, f32)}
        self.w["lm_head"] = rng.standard_normal((VOCAB, WIDTH)).astype(f32)
        self.ids = rng.integers(VOCAB, size=N + STEPS)
        self.t, self.tkv = DTYPES[self.act].numpy, DTYPES[self.kv].numpy
        self.caches: dict[tuple[str, int], list[Array]] = {}
        rng = np.random.default_rng([self.seed, 1])
        self.held = {
            (name, i, part): (rng.standard_normal((BESIDE[name], KV_HEADS, DIM)) * 2).astype(self.tkv)
            for name in self.beside
            for i in range(LAYERS)
            for part in "kv"
        }

    @property
    def source(self) -> ModelSource:
        layer = replace(self.layer, rope_base=BASE, k_scale=self.k_scale, v_scale=self.v_scale)
        layers = tuple(replace(layer, window=window) for window in self.windows)
        sizes = (WIDTH, FFN, HEADS, KV_HEADS, DIM, DIM, VOCAB, 64)
        config = ModelConfig("tiny", LAYERS, *sizes, EPS, DIM**-0.5, layers, qkv_bias=True, qk_norm=True)
        return ModelSource("tiny", config, self.w, None, "seed")  # type: ignore[arg-type]

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        return decoder_stages(self.source.config)

    def trace(self) -> Trace:
        decoded = set(range(N, N + STEPS))
        full = self._record("full", [(0, N + STEPS)], {*CHECKED, *decoded})
        prefix = self._record("prefix", self.prefix, set(CHECKED))
        decode = self._record("decode", self.decode, decoded)
        aligned, row = Recorder("aligned", {N}, self.layers, self.spoil), np.array([N])
        for i in self.layers:
            q = full.taps()[Key(i, "q_rope")].row(N)[None]
            lse, out = self._attend("aligned", i, q, [x[: N + 1] for x in self.caches["full", i]], row)
            aligned.tap(Key(i, "lse"), row, lse)
            aligned.tap(Key(i, "attn_out"), row, out)
        whole, one = ((0, N + STEPS),), ((N, 1),)
        runs = ((full, whole), (prefix, self.prefix), (decode, self.decode), (aligned, one))
        paths = {r.path: self._path(r, calls) for r, calls in runs}
        pad, companions = ([BESIDE[name]] if name in self.beside else [] for name in ("pad", "seq0"))
        facts: dict[str, Any] = {"way": {"left_pad": sum(pad), "companions": companions}}
        if self.pages:
            facts["pages"] = {"size": PAGE, "count": 2 * sum(map(len, self.pages)), "table": self.pages}
        return Trace(N, STEPS, self.layers, self.act, self.kv, paths, facts)

    def _path(self, recorder: Recorder, calls: tuple[tuple[int, int], ...]) -> PathTrace:
        name, first, stop = recorder.path, calls[0][0], sum(calls[-1])
        rows = np.arange(first, stop)
        segments = tuple(("decode" if name == "decode" else "prefill", *call) for call in calls)
        beside = {
            Key(i, "kv_read", f"{part}.{held}"): Tap(np.arange(len(x)) + (BEFORE if held == "before" else 0), x)
            for (held, i, part), x in self.held.items()
            if name in (("prefix",) if held == "before" else ("full", "prefix", "decode"))
        }
        return PathTrace(name, self.ids[rows], rows, rows, recorder.taps(), (), segments, beside)  # type: ignore[arg-type]

    def _record(self, path: str, calls: Sequence[tuple[int, int]], checked: set[int]) -> Recorder:
        recorder = Recorder(path, checked, self.layers, self.spoil)
        for start, count in calls:
            self._forward(recorder, np.arange(start, start + count))
        for i in self.layers:
            for part, values in zip(("k_after", "v_after"), self.caches[path, i], strict=True):
                recorder.snapshot(Key(i, "kv_read", part), values)
        return recorder

    def _forward(self, recorder: Recorder, rows: Array) -> None:
        t, here = self.t, recorder.path == self.broken.path
        ids = (self.ids[rows] + self.broken.token * here) % VOCAB
        x = recorder.tap(Key(-1, "embed_out"), rows, self.w["embed"][ids].astype(t))
        for i in range(LAYERS):
            x = self._layer(recorder, i, x, rows)
        final = recorder.tap(Key(-1, "final_norm"), rows, self._norm(x, "final_norm"))
        recorder.tap(Key(-1, "logits"), rows, final.astype(f32) @ self.w["lm_head"].T)

    def _layer(self, recorder: Recorder, i: int, x: Array, rows: Array) -> Array:
        t, path, here = self.t, recorder.path, recorder.path == self.broken.path and i == 1

        def put(stage: str, values: Array, every: bool = False, part: str = "") -> Array:
            return recorder.tap(Key(i, stage, part), rows, values, every)

        def lin(x: Array, name: str) -> Array:
            source = (i + 1) % LAYERS if here and name == self.broken.weight else i
            y = x.reshape(len(x), -1).astype(f32) @ self.w[f"layers.{source}.{name}"].T
            return (y + self.w.get(f"layers.{i}.{name}_bias", f32(0))).astype(t)

        x = put("x_in", x.copy())
        normed = put("attn_norm", self._norm(x, f"layers.{i}.attn_norm"))
        q = put("q_proj", lin(normed, "q").reshape(-1, HEADS, DIM), True)
        k = put("k_proj", lin(normed, "k").reshape(-1, KV_HEADS, DIM), True)
        v = put("v_proj", lin(normed, "v").reshape(-1, KV_HEADS, DIM), True)
        q = put("q_norm", self._norm(q, f"layers.{i}.q_norm"), True)
        k = put("k_norm", self._norm(k, f"layers.{i}.k_norm"), True)
        positions = rows + self.broken.positions * here
        q, k = put("q_rope", self._turn(q, positions), True), put("k_rope", self._turn(k, positions), True)
        cache = []
        goes_on = "prefix" if (path, rows[0]) == ("decode", N) else path
        before = self.caches[goes_on, i] if rows[0] > 0 else None
        for j, (part, new, scales) in enumerate((("k", k, self.k_scale), ("v", v, self.v_scale))):
            scale = f32(1) if scales is None else np.array(scales, f32)[:, None]
            stored = put("kv_write", (new.astype(f32) / scale).astype(self.tkv), True, part)
            cache.append(stored if before is None else np.concatenate([before[j], stored]))
            recorder.snapshot(Key(i, "kv_read", part), cache[j])
        self.caches[path, i] = cache
        lse, out = self._attend(path, i, q, cache, rows)
        put("lse", lse)
        o = put("o_proj", lin(put("attn_out", out), "o"))
        x = put("residual_attn", (x.astype(f32) + o.astype(f32)).astype(t))
        normed = put("ffn_norm", self._norm(x, f"layers.{i}.ffn_norm"))
        gate, up = put("gate_proj", lin(normed, "gate")), put("up_proj", lin(normed, "up"))
        g = gate.astype(f32)
        act = put("ffn_act", (g / (f32(1) + np.exp(-g)) * up.astype(f32)).astype(t))
        down = put("down_proj", lin(act, "down"))
        return put("x_out", (x.astype(f32) + down.astype(f32)).astype(t))

    def _attend(self, path: str, i: int, q: Array, cache: list[Array], rows: Array) -> tuple[Array, Array]:
        broken = self.broken if path == self.broken.path and i == 1 else Break()
        k, v = (
            x.astype(f32) * (f32(1) if s is None else np.array(s, f32)[:, None])
            for x, s in zip(cache, (self.k_scale, self.v_scale), strict=True)
        )
        spare = np.zeros((N + STEPS + 1, KV_HEADS, DIM), f32)  # rows that nobody wrote
        k, v = (np.concatenate([x, spare]) for x in (k, v))
        lse, out = np.empty((len(q), HEADS), f32), np.empty((len(q), HEADS, DIM), f32)
        for r, row in enumerate(int(row) for row in rows):
            for h, g in enumerate(broken.heads):
                n, w = row + 1 + broken.length, self.windows[i]
                start, sinks, alibi = max(0, n - w) if w else 0, self.layer.sinks, self.layer.alibi
                sink, slope = None if sinks is None else sinks[h], 0.0 if alibi is None else alibi[h]
                scale = DIM**-0.5 * broken.scale
                keys = (k[:, g], v[:, g], start, n, scale, self.layer.softcap, sink, slope)
                read = broken.reads(Read(self, path, i, row, h, g, *keys))
                lse[r, h], out[r, h] = _flash(q[r, h].astype(f32), read)
        return lse, out.astype(self.t)

    def _norm(self, x: Array, name: str) -> Array:
        x32 = x.astype(f32)
        mean = np.mean(x32 * x32, axis=-1, keepdims=True, dtype=f32)
        return (x32 / np.sqrt(mean + f32(EPS)) * self.w[name]).astype(self.t)

    def _turn(self, x: Array, positions: Array) -> Array:
        x32, half = x.astype(f32), DIM // 2
        angle = positions[:, None] * BASE ** (-2.0 * np.arange(half) / DIM)
        c, s = (f(angle).astype(f32)[:, None] for f in (np.cos, np.sin))
        a, b = x32[..., :half], x32[..., half:]
        return np.concatenate([a * c - b * s, b * c + a * s], axis=-1).astype(self.t)


def _flash(q: Array, read: Read) -> tuple[Array, Array]:
    """lse and out [dim] of one query head."""
    keys = slice(read.start, read.stop)
    s = read.k[keys] @ q * f32(read.scale)
    if read.softcap:
        s = f32(read.softcap) * np.tanh(s / f32(read.softcap))
    if read.slope:
        s = s + f32(read.slope) * (np.arange(read.start, read.stop) - read.row).astype(f32)
    if len(s) == 0 and read.sink is None:
        return f32(-np.inf), np.zeros(DIM, f32)
    m = np.max(s, initial=-np.inf if read.sink is None else f32(read.sink))
    p = np.exp(s - m)
    total = p.sum() + (f32(0) if read.sink is None else np.exp(f32(read.sink) - m))
    return m + np.log(total), p @ read.v[keys] / total
