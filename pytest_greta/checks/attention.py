"""The float64 reference of attention, with the bounds of the lse and of the output (ENV: any schedule)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks.bounds import Float64, Reference, floor, sum_tiers
from pytest_greta.checks.constants import (
    DOT_OPERANDS,
    DS_PRODUCT,
    EPS_DISTANCE,
    EPS_RESCALE,
    LSE_DET,
    OUT_DET,
    SOFTCAP_DET,
    SPLITS_UNDECLARED,
    TILE_UNDECLARED,
    U,
)
from pytest_greta.dtypes import DTYPES, Array, DType

_SCORES = 1 << 20
"""Scores held at a time, 8 MiB an array of float64; longer inputs go in chunks of rows."""

_DEVIATIONS = 1 << 20
"""Elements of |v_j - o| held at a time."""


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
    """Which keys each query row sees: cache slots start .. stop - 1, and the row's own ``slot``. All int64 [R]."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    slot: NDArray[np.int64]

    @classmethod
    def causal(cls, slots: NDArray[np.int64], kv_start: int = 0, window: int = 0) -> Rows:
        """Rows kv_start up to each slot itself, the last ``window`` of them where it is not 0."""
        stop = slots + 1
        start = np.full_like(slots, kv_start) if window == 0 else np.maximum(kv_start, stop - window)
        return cls(np.minimum(start, stop), stop, slots)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Rows:
        return Rows(self.start[index], self.stop[index], self.slot[index])


@dataclass(frozen=True)
class Spread:
    """min, sum and max over ``count`` visible pairs of query and key."""

    low: float
    high: float
    total: float
    count: int

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")

    def __add__(self, other: Spread) -> Spread:
        return Spread(
            min(self.low, other.low), max(self.high, other.high), self.total + other.total, self.count + other.count
        )


@dataclass(frozen=True)
class AttentionReference:
    """``lse`` [R, heads], ``out`` [R, heads, dv]; the scores before and the weights after softmax in figures."""

    lse: Reference
    out: Reference
    scores: Spread
    probs: Spread


def attention(
    q: Array, k: Array, v: Array, rows: Rows, options: Options, act: DType, numerics: Numerics
) -> AttentionReference:
    """q [R, heads, dqk] over the dequantised cache k [slots, kv_heads, dqk], v [slots, kv_heads, dv].

    Query head h reads kv head h // (heads / kv_heads). Row 0 of k and v is slot 0. A row that sees no key has out = 0 and
    lse = -inf. With ``kv_heads == 1`` and chosen slices any other mapping can be tried.
    """
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    first, last = (int(rows.start.min()), int(rows.stop.max())) if len(q) else (0, 0)
    k, v = k[first:last], v[first:last]
    step = max(1, _SCORES // max(1, q.shape[1] * len(k)))
    with np.errstate(all="ignore"):  # what is not finite is judged, not warned of
        parts = [
            _chunk(q[i : i + step], k, v, rows[i : i + step], first, options, act, numerics)
            for i in range(0, len(q), step)
        ]
    if not parts:
        raise ValueError("attention needs at least one query row")
    scores, probs = parts[0].scores, parts[0].probs
    for part in parts[1:]:
        scores, probs = scores + part.scores, probs + part.probs
    return AttentionReference(
        _concatenate([p.lse for p in parts]), _concatenate([p.out for p in parts]), scores, probs
    )


def _concatenate(parts: list[Reference]) -> Reference:
    if len(parts) == 1:
        return parts[0]
    fields = ("y", "b_det", "b_sqrt", "b_sqrt2")
    return Reference(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def _chunk(
    q: Float64, k: Float64, v: Float64, rows: Rows, first: int, options: Options, act: DType, numerics: Numerics
) -> AttentionReference:
    """All arrays below are [kv heads, M, keys], M = rows x group, the row the slower; letters as in numerics.md."""
    R, H, dqk = q.shape
    n_keys, B, dv = v.shape
    G = H // B

    def by_head(values: Array) -> Array:
        """[R, H, ...] -> [B, R * G, ...]"""
        split = values.reshape(R, B, G, *values.shape[2:])
        return np.moveaxis(split, 1, 0).reshape(B, R * G, *values.shape[2:])

    def by_row(values: Array) -> Array:
        """The inverse."""
        split = values.reshape(B, R, G, *values.shape[2:])
        return np.moveaxis(split, 0, 1).reshape(R, H, *values.shape[2:])

    def of_heads(values: Float64) -> Float64:
        """[H] -> [B, M, 1]"""
        return by_head(np.broadcast_to(values, (R, H)))[..., None]

    slots = first + np.arange(n_keys)
    seen_by_row = (slots >= rows.start[:, None]) & (slots < rows.stop[:, None])
    visible = by_head(np.broadcast_to(seen_by_row[:, None], (R, H, n_keys)))
    n = visible.sum(axis=-1)

    # scores, and their error: A for the sum over the head, det for what has no sqrt
    queries, keys = by_head(q), k.transpose(1, 2, 0)
    s = options.scale * (queries @ keys)
    A = abs(options.scale) * (np.abs(queries) @ np.abs(keys))
    det = DS_PRODUCT * U * np.abs(s) + _declared_dot(numerics, act) * A
    if numerics.flush:
        tiny_q, tiny_k = _subnormal(queries, act), _subnormal(keys, act)
        det += abs(options.scale) * (tiny_q @ np.abs(keys) + np.abs(queries) @ tiny_k)
    if options.softcap:
        s = options.softcap * np.tanh(s / options.softcap)
        damp = 1.0 - (s / options.softcap) ** 2
        A = damp * A
        det = damp * det + (SOFTCAP_DET * U + numerics.tanh_rel) * np.abs(s)
    if options.alibi is not None:
        distance = slots - rows.slot[:, None]
        a = of_heads(options.alibi) * by_head(np.broadcast_to(distance[:, None], (R, H, n_keys)))
        s = s + a
        det = det + U * (np.abs(a) + np.abs(s))

    # softmax
    m = np.where(visible, s, -np.inf).max(axis=-1, keepdims=True, initial=-np.inf)
    sink = None if options.sinks is None else of_heads(options.sinks)
    if sink is not None:
        m, n = np.maximum(m, sink), n + 1
    empty = np.isneginf(m)
    m0 = np.where(empty, 0.0, m)
    s = np.where(visible, s, m0)
    weight = np.where(visible, np.exp(s - m0), 0.0)
    l = weight.sum(axis=-1, keepdims=True)  # noqa: E741 (the field's letter)
    if sink is not None:
        sink_weight = np.exp(sink - m0)
        l = l + sink_weight
    l = np.where(empty, 1.0, l)  # noqa: E741
    p = weight / l
    o = p @ np.moveaxis(v, 1, 0)
    lse = np.where(empty, -np.inf, m0 + np.log(l))[..., 0]

    # the first-order error of each weight: eps = t(d) A + t(T) M + det
    slope, constant = EPS_RESCALE
    M = slope * np.maximum(np.abs(m0), np.abs(s)) + constant
    det = det + U * (EPS_DISTANCE * np.abs(s - m0) + M) + numerics.exp_rel
    tiers_d = sum_tiers(dqk, numerics)
    tiers_t = sum_tiers(np.ceil(n / (numerics.tile or TILE_UNDECLARED)) + (numerics.splits or SPLITS_UNDECLARED), numerics)
    tiers_n = sum_tiers(n, numerics)
    terms = np.stack([p * A, p * M, p * det], axis=2)  # [B, M, 3, keys]
    total = terms.sum(axis=-1)  # over the keys: for the lse
    spread = _deviation(terms, np.moveaxis(v, 1, 0), o)  # times |v_j - o|: for the output
    if sink is not None:
        M_sink = slope * np.maximum(np.abs(m0), np.abs(sink)) + constant
        det_sink = U * (EPS_DISTANCE * np.abs(sink - m0) + M_sink) + numerics.exp_rel
        p_sink = sink_weight / l
        extra = np.stack([0.0 * p_sink, p_sink * M_sink, p_sink * det_sink], axis=2)[..., 0]
        total = total + extra
        spread = spread + extra[..., None] * np.abs(o)[:, :, None, :]

    slope, constant = LSE_DET
    with_p = DTYPES[numerics.p_dtype]
    after = with_p.u if numerics.l_from == "after" else 0.0
    lse_det = total[..., 2] + U * (slope * np.abs(np.where(np.isneginf(lse), 0.0, lse)) + constant) + after + floor(numerics)
    lse_sqrt, lse_sqrt2 = (
        d * total[..., 0] + t * total[..., 1] + k_
        for d, t, k_ in (
            (tiers_d.first, tiers_t.first, tiers_n.first),
            (tiers_d.second, tiers_t.second, tiers_n.second),
        )
    )

    magnitudes = np.moveaxis(np.abs(v), 1, 0)
    pv = p @ magnitudes
    size = np.abs(o)
    eta = with_p.smallest_normal if numerics.flush else 0.5 * with_p.smallest_subnormal
    envelope = np.maximum(with_p.u * p, np.minimum(p, eta / (numerics.p_scale * l)))
    out_det = spread[:, :, 2] + (OUT_DET * U + after) * size + envelope @ magnitudes + floor(numerics)
    out_det += _declared_value(numerics, act) * pv
    if numerics.flush:
        out_det += p @ _subnormal(np.moveaxis(v, 1, 0), act)
    out_sqrt, out_sqrt2 = (
        d * spread[:, :, 0] + t[..., None] * spread[:, :, 1] + k_[..., None] * (pv + size)
        for d, t, k_ in (
            (tiers_d.first, tiers_t.first, tiers_n.first),
            (tiers_d.second, tiers_t.second, tiers_n.second),
        )
    )
    return AttentionReference(
        Reference(*(by_row(x) for x in (lse, lse_det, lse_sqrt, lse_sqrt2))),
        Reference(*(by_row(x) for x in (o, out_det, out_sqrt, out_sqrt2))),
        _spread(s, visible),
        _spread(p, visible),
    )


def _declared_dot(numerics: Numerics, act: DType) -> float:
    """Relative to A_j: declared roundings of the operands of q k."""
    relative = act.u * ((numerics.q_prescale == "act") + (numerics.kv_dequant == "act"))
    if numerics.dot_bits < Numerics.dot_bits:
        relative += DOT_OPERANDS * 2.0**-numerics.dot_bits
    return relative


def _declared_value(numerics: Numerics, act: DType) -> float:
    """Relative to sum p |v|: v dequantised to the activation type, and partial outputs kept in it.

    The partials' own term is u_a sum_s w_s |o_s|, which sum p |v| bounds whatever the splits are.
    """
    return act.u * ((numerics.kv_dequant == "act") + (numerics.split_partials == "act"))


def _subnormal(x: Float64, dtype: DType) -> Float64:
    """|x| where the type holds it as a subnormal, else 0."""
    size = np.abs(x)
    return np.where(size < dtype.smallest_normal, size, 0.0)


def _deviation(terms: Float64, v: Float64, o: Float64) -> Float64:
    """sum_j terms[.., j] |v_j - o|: terms [B, M, 3, keys], v [B, keys, dv], o [B, M, dv] -> [B, M, 3, dv]."""
    B, M, _, n_keys = terms.shape
    dv = v.shape[-1]
    result = np.zeros((B, M, 3, dv))
    keys = max(1, min(n_keys, _DEVIATIONS // dv))
    step = max(1, _DEVIATIONS // (B * keys * dv))
    for i in range(0, M, step):
        for j in range(0, n_keys, keys):
            away = np.abs(v[:, None, j : j + keys] - o[:, i : i + step, None])
            result[:, i : i + step] += terms[:, i : i + step, :, j : j + keys] @ away
    return result


def _spread(values: Float64, visible: NDArray[np.bool_]) -> Spread:
    chosen = values[visible]
    if chosen.size == 0:
        return Spread(float("inf"), float("-inf"), 0.0, 0)
    return Spread(float(chosen.min()), float(chosen.max()), float(chosen.sum()), int(chosen.size))
