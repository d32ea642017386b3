"""The float64 reference of attention, with the bounds of the lse and of the output (ENV: any schedule).

Arrays without a shape beside them are [kv heads, M, keys], M = rows x group with the row the slower; letters as in
``docs/concepts/numerics.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import compiled
from pytest_greta.checks.bounds import Float64, Reference, Tiers, floor, sum_tiers
from pytest_greta.checks.constants import (
    DOT_OPERANDS,
    DS_PRODUCT,
    EPS_DISTANCE,
    EPS_RESCALE,
    LSE_DET,
    OUT_DET,
    SCORE_CAST,
    SOFTCAP_DET,
    SPLITS_UNDECLARED,
    TILE_UNDECLARED,
    U,
)
from pytest_greta.checks.heads import by_head, by_row
from pytest_greta.checks.spread import Spread, joined, spread_of
from pytest_greta.dtypes import DTYPES, Array, DType

Index = slice | NDArray[np.int64] | NDArray[np.bool_]

_SCORES = 1 << 20
"""Scores held at a time, 8 MiB an array of float64; longer inputs go in chunks of rows."""

_LONG, _CUTS = 128, 2
"""From so many keys on, half of the rows at a time: earlier rows see fewer keys."""

_DEVIATIONS = 1 << 15
"""Elements of |v_j - o| held at a time: 256 KiB of float64, so that they stay in a second-level cache."""


@dataclass(frozen=True)
class Options:
    """What a layer does to its scores, and the scale. ``sinks`` and ``alibi`` are [heads] or None."""

    scale: float
    softcap: float = 0.0
    sinks: Float64 | None = None
    alibi: Float64 | None = None

    @classmethod
    def of(cls, layer: LayerConfig, softmax_scale: float, head_dim: int) -> Options:
        """``softmax_scale`` of 0 means 1 / sqrt(head_dim)."""

        def heads(values: tuple[float, ...] | None) -> Float64 | None:
            return None if values is None else np.asarray(values, dtype=np.float64)

        return cls(softmax_scale or head_dim**-0.5, layer.softcap, heads(layer.sinks), heads(layer.alibi))


@dataclass(frozen=True)
class Rows:
    """Which keys a query sees: rows start .. stop - 1 of k and v; and the query's own ``slot``. All int64 [R]."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    slot: NDArray[np.int64]

    @classmethod
    def causal(cls, slots: NDArray[np.int64], window: int = 0) -> Rows:
        """All rows up to each slot itself, or the last ``window`` of them."""
        stop = slots + 1
        return cls(np.zeros_like(slots) if window == 0 else np.maximum(0, stop - window), stop, slots)

    def __getitem__(self, index: Index) -> Rows:
        return Rows(self.start[index], self.stop[index], self.slot[index])


@dataclass(frozen=True)
class Spans:
    """What the call of each query spans: its tiles are cut into splits. ``begin`` .. ``end`` - 1, int64 [R]: the keys
    that any query of the same call sees. ``slot``: the cache slot of key 0, for tiles that are counted from slot 0.
    ``window``: the layer has one."""

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    slot: int = 0
    window: bool = False

    def __getitem__(self, index: Index) -> Spans:
        return replace(self, begin=self.begin[index], end=self.end[index])


@dataclass(frozen=True)
class AttentionReference:
    """``lse`` [R, heads], ``out`` [R, heads, dv]."""

    lse: Reference
    out: Reference
    spread: Spread

    @classmethod
    def of(cls, parts: list[AttentionReference]) -> AttentionReference:
        """The rows of all parts, one after the other."""
        return cls(
            concatenate([p.lse for p in parts]), concatenate([p.out for p in parts]), joined([p.spread for p in parts])
        )

    def rows(self, at: NDArray[np.intp]) -> AttentionReference:
        """Those rows alone."""
        spread = self.spread
        scores, probs = ((low[at], high[at], total[at]) for low, high, total in (spread.scores, spread.probs))
        return AttentionReference(rows_of(self.lse, at), rows_of(self.out, at), Spread(scores, probs, spread.count[at]))


@dataclass(frozen=True)
class Softmax:
    """One chunk of rows after softmax, with what its error is made of: eps = t(d) A + t(T) M + det."""

    s: Float64
    """Scores after scale, cap and bias; the row's max where a key is not visible."""
    p: Float64
    visible: NDArray[np.bool_]
    m: Float64
    """[kv heads, M, 1]"""
    l: Float64  # noqa: E741 (the field's letter)
    lse: Float64
    """[kv heads, M]"""
    n: NDArray[np.int64]
    """[kv heads, M] keys seen, the sink one of them."""
    A: Float64
    det: Float64
    ds: Float64
    """The part of ``det`` that is the score's own: ds = t(d) A + ds."""
    sink: Float64 | None
    """[kv heads, M, 1]"""
    v_size: Float64
    """|v| [keys, kv heads, dv]"""
    seen: Float64 | None = None
    """[6, kv heads, M]: least, largest and sum of the visible scores, and of their p, where they are known."""


@dataclass(frozen=True)
class Call:
    """One attention call: q [R, heads, dqk] over the dequantised cache k [keys, kv_heads, dqk], v [keys, kv_heads, dv].

    R >= 1. Query head h reads kv head h // (heads / kv_heads); with one head and one kv head sliced out any other
    mapping can be tried. A row that sees no key has out = 0 and lse = -inf. ``positions`` int64 [R]: the sequence rows
    that the queries belong to.
    """

    positions: NDArray[np.int64]
    q: Array
    k: Array
    v: Array
    rows: Rows
    options: Options
    act: DType
    numerics: Numerics
    spans: Spans | None = None
    """None where no schedule is looked at."""
    weights_off: float = 0.0
    """By what part of itself each weight may be off, beyond what ``numerics`` says."""

    def reference(self) -> AttentionReference:
        return AttentionReference.of([_bounded(part, softmax) for part, softmax in self.chunks()])

    def of_rows(self, at: NDArray[np.bool_]) -> Call:
        """The same call for those queries alone."""
        spans = None if self.spans is None else self.spans[at]
        return replace(self, positions=self.positions[at], q=self.q[at], rows=self.rows[at], spans=spans)

    def softmax(self) -> Iterator[Softmax]:
        """The softmax alone, in chunks of rows so that memory stays bounded."""
        for _, softmax in self.chunks(all_keys=True):
            yield softmax

    def one(self, row: int, head: int, kv_head: int) -> Call:
        """The same call for one query of one head, over any kv head."""

        def of(values: Array | None) -> Array | None:
            return None if values is None else values[head : head + 1]

        return replace(
            self,
            positions=self.positions[row : row + 1],
            q=self.q[row : row + 1, head : head + 1],
            k=self.k[:, kv_head : kv_head + 1],
            v=self.v[:, kv_head : kv_head + 1],
            rows=self.rows[row : row + 1],
            options=replace(self.options, sinks=of(self.options.sinks), alibi=of(self.options.alibi)),
            spans=None if self.spans is None else self.spans[row : row + 1],
        )

    def chunks(self, all_keys: bool = False) -> Iterator[tuple[Call, Softmax]]:
        """The call cut into chunks of rows, in float64, each over the keys that its rows see, with its softmax.

        ``all_keys``: over all of them instead, so that key 0 stays key 0.
        """
        q, k, v = (x.astype(np.float64, copy=False) for x in (self.q, self.k, self.v))
        call = replace(self, q=q, k=_by_head_in_memory(k), v=_by_head_in_memory(v))
        k_size, v_size = np.abs(call.k), np.abs(call.v)
        step = max(1, _SCORES // max(1, self.q.shape[1] * len(self.k)))
        if len(self.k) >= _LONG and not all_keys:
            step = min(step, -(-len(self.q) // _CUTS))
        for i in range(0, len(self.q), step):
            part, keys = call._part(slice(i, i + step), all_keys)
            with np.errstate(all="ignore"):  # what is not finite is judged, not warned of
                softmax = _softmax(part, k_size[keys], v_size[keys])
            yield part, softmax

    def _part(self, at: slice, all_keys: bool) -> tuple[Call, slice]:
        """Rows ``at``, over the keys from the first to the last that any of them sees; key 0 is that first one. And
        which keys of this call they are."""
        rows = self.rows[at]
        lo, hi = (0, len(self.k)) if all_keys else (int(rows.start.min()), int(rows.stop.max()))
        hi = max(lo, hi)
        spans = None
        if self.spans is not None:
            of_rows = self.spans[at]
            spans = replace(of_rows, begin=of_rows.begin - lo, end=of_rows.end - lo, slot=of_rows.slot + lo)
        part = replace(
            self,
            positions=self.positions[at],
            q=self.q[at],
            k=self.k[lo:hi],
            v=self.v[lo:hi],
            rows=Rows(rows.start - lo, rows.stop - lo, rows.slot - lo),
            spans=spans,
        )
        return part, slice(lo, hi)


def _by_head_in_memory(values: Float64) -> Float64:
    """[keys, kv heads, dim] unchanged; each head's keys lie together, as every product reads them."""
    together: Float64 = np.ascontiguousarray(values.swapaxes(0, 1)).swapaxes(0, 1)
    return together


def _scores(call: Call, k_size: Float64) -> tuple[Float64, Float64, Float64]:
    """(s, A, det): the scores after scale, cap and bias, of visible keys and of others; ds = t(d) A + det."""
    q, k, rows, options, act, numerics = call.q, call.k, call.rows, call.options, call.act, call.numerics
    B = k.shape[1]
    queries, kt, kt_size = by_head(q, B), k.transpose(1, 2, 0), k_size.transpose(1, 2, 0)
    s = queries @ kt
    s *= options.scale
    A = np.abs(queries) @ kt_size
    A *= abs(options.scale)
    in_act = act.u if numerics.score_dtype == "act" else 0.0
    det = np.abs(s)
    det *= DS_PRODUCT * U + SCORE_CAST * in_act
    if relative := _declared_dot(numerics, act):
        det += relative * A
    if numerics.flush:
        lost = subnormal(queries, act) @ kt_size + np.abs(queries) @ subnormal(kt, act)
        det += abs(options.scale) * lost
    if options.softcap:
        if in_act:  # the quotient, before tanh; and what tanh's slope changes within such an error
            det += in_act * np.abs(s)
            det += det * det / options.softcap
        s = options.softcap * np.tanh(s / options.softcap)
        damp = 1.0 - (s / options.softcap) ** 2
        A = damp * A
        det = damp * det + (SOFTCAP_DET * U + numerics.tanh_rel + SCORE_CAST * in_act) * np.abs(s)
    if options.alibi is not None:
        a = _of_heads(options.alibi, call) * _of_pairs(np.arange(len(k)) - rows.slot[:, None], call)
        s = s + a
        det = det + U * (np.abs(a) + np.abs(s))
    return s, A, det


def _of_pairs(values: Array, call: Call) -> Array:
    """[R, ...] -> [B, M, ...], alike for every head"""
    heads, kv_heads = call.q.shape[1], call.k.shape[1]
    group = heads // kv_heads
    return np.broadcast_to(np.repeat(values, group, axis=0), (kv_heads, len(values) * group, *values.shape[1:]))


def _of_heads(values: Float64, call: Call) -> Float64:
    """[H] -> [B, M, 1], alike for every row"""
    return by_head(np.broadcast_to(values, call.q.shape[:2]), call.k.shape[1])[..., None]


def _softmax(call: Call, k_size: Float64, v_size: Float64) -> Softmax:
    """``k_size`` and ``v_size``: |k| and |v|, as the call has them."""
    rows, options, keys = call.rows, call.options, np.arange(len(call.k))
    of_rows = (keys >= rows.start[:, None]) & (keys < rows.stop[:, None])
    visible, n = _of_pairs(of_rows, call), _of_pairs(of_rows.sum(axis=-1), call)
    s, A, ds = _scores(call, k_size)
    sink = None
    if options.sinks is not None:
        sink, n = _of_heads(options.sinks, call), n + 1
    found = compiled.softmax(s, ds, rows.start, rows.stop, sink, U * EPS_DISTANCE, call.numerics.exp_rel)
    s, p, m, l, det, seen = found or (*_normalised(s, ds, visible, sink, call.numerics.exp_rel), None)  # noqa: E741
    empty = np.isneginf(m)
    m = np.where(empty, 0.0, m)
    lse = np.where(empty, -np.inf, m + np.log(l))[..., 0]
    return Softmax(s, p, visible, m, l, lse, n, A, det, ds, sink, v_size, seen)


def _normalised(
    s: Float64, ds: Float64, visible: NDArray[np.bool_], sink: Float64 | None, exp_rel: float
) -> tuple[Float64, Float64, Float64, Float64, Float64]:
    """(s, p, m, l, det) of a ``Softmax``; m -inf where nothing is visible, and l 1."""
    hidden = None if visible.all() else ~visible
    if hidden is not None:
        np.copyto(s, -np.inf, where=hidden)
    m = s.max(axis=-1, keepdims=True, initial=-np.inf)
    if sink is not None:
        m = np.maximum(m, sink)
    empty = np.isneginf(m)
    largest = np.where(empty, 0.0, m)
    if hidden is not None:
        np.copyto(s, largest, where=hidden)
    apart = s - largest
    weight = np.exp(apart)
    if hidden is not None:
        np.copyto(weight, 0.0, where=hidden)
    l = weight.sum(axis=-1, keepdims=True)  # noqa: E741
    if sink is not None:
        l = l + np.exp(sink - largest)  # noqa: E741
    l = np.where(empty, 1.0, l)  # noqa: E741
    det = np.abs(apart, out=apart)
    det *= U * EPS_DISTANCE
    det += ds
    det += exp_rel
    weight /= l
    return s, weight, m, l, det


def _bounded(call: Call, sm: Softmax) -> AttentionReference:
    """The output and both bounds of a chunk."""
    act, numerics = call.act, call.numerics
    values = np.moveaxis(call.v, 1, 0)
    magnitudes = np.moveaxis(sm.v_size, 1, 0)
    with np.errstate(all="ignore"):
        o = sm.p @ values
        size = np.abs(o)
        p_type = DTYPES[numerics.p_dtype]
        eta = p_type.smallest_normal if numerics.flush else 0.5 * p_type.smallest_subnormal
        # with max_update none the kernel's l is sum exp(s), ours sum exp(s - m)
        l_kernel = sm.l * np.exp(sm.m) if numerics.max_update == "none" else sm.l
        l_kernel = np.ones_like(l_kernel) if numerics.p_normalised else l_kernel
        least = eta / (numerics.p_scale * l_kernel)
        total, spread, envelope = _weighed(sm, values, o, least, p_type.u + call.weights_off)
        if sm.sink is not None:  # one more key with v = 0, whose score is exact
            p = np.exp(sm.sink - sm.m) / sm.l
            M = rescale(sm.m, sm.sink)
            det = U * (EPS_DISTANCE * np.abs(sm.sink - sm.m) + M) + numerics.exp_rel
            extra = np.concatenate([0.0 * p, p * M, p * det], axis=-1)
            total = total + extra
            spread = spread + extra[..., None] * size[:, :, None, :]

        d = sum_tiers(call.q.shape[-1], numerics)
        t = sum_tiers(rescales(sm.n, numerics), numerics)
        n = sum_tiers(sm.n, numerics)
        # where l sums the rounded weights it is off by this part of itself, at most
        after = envelope.sum(axis=-1) if numerics.l_from == "after" else np.zeros(())

        slope, constant = LSE_DET
        lse_size = np.where(np.isneginf(sm.lse), 0.0, np.abs(sm.lse))
        lse_det = total[..., 2] + U * (slope * lse_size + constant) + floor(numerics)
        lse_det = lse_det - np.log1p(-np.minimum(after, 1.0))
        lse = [sm.lse, lse_det, *(a * total[..., 0] + b * total[..., 1] + c for a, b, c in by_tier(d, t, n))]

        pv = sm.p @ magnitudes
        rounded = (envelope @ magnitudes + after[..., None] * size) / np.maximum(1.0 - after[..., None], 0.0)
        out_det = spread[:, :, 2] + OUT_DET * U * size + rounded
        out_det += declared_value(numerics, act) * pv + floor(numerics)
        if numerics.flush:
            out_det += sm.p @ subnormal(values, act)
        kept, vanishing = _kept(sm.n, numerics)
        out_det += vanishing[..., None] / l_kernel
        out = [
            o,
            out_det,
            *(
                a * spread[:, :, 0] + b[..., None] * spread[:, :, 1] + c[..., None] * (pv + size) + e[..., None] * pv
                for (a, b, c), e in zip(by_tier(d, t, n), (kept.first, kept.second), strict=True)
            ),
        ]
    heads = call.q.shape[1]
    return AttentionReference(
        Reference(*(by_row(x, heads) for x in lse)), Reference(*(by_row(x, heads) for x in out)), spread_of(sm, heads)
    )


def _weighed(sm: Softmax, v: Float64, o: Float64, least: Float64, relative: float) -> tuple[Float64, Float64, Float64]:
    """With t = p A, p M and p (u M + det), [B, M, 3, keys]: (sum_j t, for the lse; sum_j t |v_j - o|, for the output;
    how far each weight may be off when it is rounded). v [B, keys, dv], o [B, M, dv]; ``least`` [B, M, 1]: a weight
    below it may vanish; ``relative``: the part of itself that another may be off by."""
    if (found := compiled.weighed(sm, v, o, least, relative, EPS_RESCALE, U)) is not None:
        return found
    M = rescale(sm.m, sm.s)
    terms = np.empty((*sm.p.shape[:2], 3, sm.p.shape[2]))
    np.multiply(sm.p, sm.A, out=terms[:, :, 0])
    np.multiply(sm.p, M, out=terms[:, :, 1])
    M *= U
    M += sm.det
    np.multiply(sm.p, M, out=terms[:, :, 2])
    envelope = np.minimum(sm.p, least)
    np.maximum(relative * sm.p, envelope, out=envelope)
    return terms.sum(axis=-1), _deviation(terms, v, o), envelope


def rescales(n: NDArray[np.int64], numerics: Numerics) -> Float64:
    """T, how often an online softmax over n keys rescales."""
    tile, splits = numerics.tile or TILE_UNDECLARED, numerics.splits or SPLITS_UNDECLARED
    times: Float64 = np.ceil(n / tile) + splits
    return times


def rescale(m: Float64, s: Float64) -> Float64:
    slope, constant = EPS_RESCALE
    size = np.abs(s)
    np.maximum(size, np.abs(m), out=size)
    size *= slope
    size += constant
    return size


def _kept(n: NDArray[np.int64], numerics: Numerics) -> tuple[Tiers, Float64]:
    """Of an output that is kept in ``o_dtype`` from key to key, relative to sum p |v|; and what vanishes in subnormals
    altogether, before the division by l. Two roundings a key: of the sum, and of a rescale."""
    if numerics.o_dtype == "f32":
        nothing = np.zeros(n.shape)
        return Tiers(nothing, nothing), nothing
    dtype = DTYPES[numerics.o_dtype]
    vanishing = 2.0 * n.astype(np.float64) * (0.5 * dtype.smallest_subnormal)
    return sum_tiers(2 * n, Numerics(acc_bits=dtype.p)), vanishing


def by_tier(d: Tiers, t: Tiers, n: Tiers) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    return (d.first, t.first, n.first), (d.second, t.second, n.second)


def _declared_dot(numerics: Numerics, act: DType) -> float:
    """Relative to A_j: declared roundings of the operands of q k."""
    relative = act.u * ((numerics.q_prescale == "act") + (numerics.kv_dequant == "act"))
    if numerics.dot_bits < Numerics.dot_bits:
        relative += DOT_OPERANDS * 2.0**-numerics.dot_bits
    return relative


def declared_value(numerics: Numerics, act: DType) -> float:
    """Relative to sum p |v|: v dequantised to the activation type, and partial outputs kept in it.

    The partials' own term is u_a sum_s w_s |o_s|, which sum p |v| bounds whatever the splits are.
    """
    return act.u * ((numerics.kv_dequant == "act") + (numerics.split_partials == "act"))


def subnormal(x: Float64, dtype: DType) -> Float64:
    """|x| where the type holds it as a subnormal, else 0."""
    size = np.abs(x)
    return np.where(size < dtype.smallest_normal, size, 0.0)


def _deviation(terms: Float64, v: Float64, o: Float64) -> Float64:
    """sum_j terms[.., j] |v_j - o|: terms [B, M, 3, keys], v [B, keys, dv], o [B, M, dv] -> [B, M, 3, dv]."""
    B, M, _, n_keys = terms.shape
    dv = v.shape[-1]
    result = np.zeros((B, M, 3, dv))
    keys = max(1, min(n_keys, _DEVIATIONS // dv))
    step = max(1, min(M, _DEVIATIONS // (keys * dv)))
    away = np.empty((step, keys, dv))
    for b in range(B):
        for j in range(0, n_keys, keys):
            some = np.ascontiguousarray(v[b, j : j + keys])
            for i in range(0, M, step):
                rows = o[b, i : i + step, None]
                part = away[: len(rows), : len(some)]
                np.copyto(part, rows)  # o by all keys first: a difference in rows of dv alone takes half as long again
                together = part.reshape(len(rows), -1)
                np.subtract(some.reshape(-1), together, out=together)
                np.abs(part, out=part)
                result[b, i : i + step] += terms[b, i : i + step, :, j : j + keys] @ part
    return result


def concatenate(parts: list[Reference]) -> Reference:
    if len(parts) == 1:
        return parts[0]
    fields = ("y", "b_det", "b_sqrt", "b_sqrt2")
    return Reference(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def rows_of(reference: Reference, at: NDArray[np.intp]) -> Reference:
    """Those rows of a reference; itself where they are all of them."""
    if len(at) == len(reference.y) and np.array_equal(at, np.arange(len(at))):
        return reference
    return reference.map(lambda x: x[at])
