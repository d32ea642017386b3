"""The float64 references of the stages outside attention, each with its bound (the table of ``numerics.md``).

A reference reads the stage's own traced input; what it returns is compared with the stage's traced output. Rows are the
leading dimension throughout, and rows of several paths may be stacked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import compiled
from pytest_greta.checks.bounds import ByRows, Float64, Reference, floor, sum_tiers
from pytest_greta.checks.constants import (
    BLIND_ANGLE,
    CACHE_SCALE,
    DOT_OPERANDS,
    EXP_LIMIT,
    GELU_DET,
    GELU_ERF_ARGUMENT,
    GELU_TANH_ARGUMENT,
    LAYER_NORM_DET,
    LAYER_NORM_SHIFT,
    NORM_DET,
    NORM_SUM,
    ROPE_ANGLE,
    ROPE_CAST,
    ROPE_PRODUCT,
    SCORE_CAST,
    SOFTCAP_DET,
    SWIGLU,
    U64,
    U,
)
from pytest_greta.dtypes import F32, Array, DType

_BLOCK = 1 << 15
"""Elements that are worked on at a time: 256 KiB of float64, so that they stay in a second-level cache."""


def norm(x: Array, weight: NDArray[np.float32], eps: float, act: DType, numerics: Numerics) -> Reference:
    """RMS norm over the last axis: x [..., d], weight [d]. ``x / sqrt(mean(x^2) + eps) * weight``."""
    x = x.astype(np.float64)
    d = x.shape[-1]
    y = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight.astype(np.float64)
    size = np.abs(y)
    tiers = sum_tiers(d, numerics)
    cast = act.u if numerics.norm_cast == "act" else 0.0
    return Reference(
        y, (NORM_DET * U + cast) * size + floor(numerics), NORM_SUM * tiers.first * size, NORM_SUM * tiers.second * size
    )


def layer_norm(
    x: Array,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    eps: float,
    act: DType,
    numerics: Numerics,
) -> Reference:
    """LayerNorm over the last axis: x [..., d], weight and bias [d]. ``(x - mean) / sqrt(var + eps) * weight + bias``.

    var is the mean of the squared differences (no Bessel correction). The bound is derived in
    ``docs/concepts/derivations.md``; it holds for a variance in two passes or by Welford's update, not for
    mean(x^2) - mean(x)^2.
    """
    x = x.astype(np.float64)
    mean = np.mean(x, axis=-1, keepdims=True)
    size = np.mean(np.abs(x), axis=-1, keepdims=True)
    r = 1.0 / np.sqrt(np.mean((x - mean) ** 2, axis=-1, keepdims=True) + eps)
    kappa = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * r
    w = weight.astype(np.float64)
    part = (x - mean) * r * w
    y = part if bias is None else part + bias.astype(np.float64)
    gain = r * np.abs(w)
    cast = act.u if numerics.norm_cast == "act" else 0.0
    det = (LAYER_NORM_DET * U + cast) * np.abs(part) + LAYER_NORM_SHIFT * U * gain * (np.abs(x) + np.abs(mean))
    det += floor(numerics) + (0.0 if bias is None else U * np.abs(y))

    def sums(t: float) -> Float64:
        shift = t * size + U * np.abs(mean)
        of_variance: Float64 = 0.5 * (t * kappa + (shift * r) ** 2)
        summed: Float64 = gain * t * size + of_variance * np.abs(part)
        return summed

    tiers = sum_tiers(x.shape[-1], numerics)
    return Reference(y, det, sums(float(tiers.first)), sums(float(tiers.second)))


def linear(
    x: Array, matrix: NDArray[np.float32], bias: NDArray[np.float32] | None, numerics: Numerics, act: DType = F32
) -> Reference:
    """x [R, n] times matrix [out, n] transposed, plus bias [out]: [R, out].

    ``act``: the type in which split-K partials are kept, where they are. Their own term is u_a sum |part|, which
    sum |W x| bounds whatever the parts are.
    """
    y, size = products(x.astype(np.float64), matrix)
    det = np.full_like(size, floor(numerics))
    if numerics.dot_bits < Numerics.dot_bits:
        det += DOT_OPERANDS * 2.0**-numerics.dot_bits * size
    if numerics.split_partials == "act":
        det += act.u * size
    if bias is not None:
        y += bias
        det += U * np.abs(bias.astype(np.float64))
    tiers = sum_tiers(x.shape[-1], numerics)
    return Reference(y, det, tiers.first * size, tiers.second * size)


def products(rows: Float64, matrix: NDArray[np.float32]) -> tuple[Float64, Float64]:
    """rows [R, n] times matrix [out, n] transposed, and the same of the magnitudes, at least: both [R, out].

    The matrix is widened to float64 block by block, so that a model never needs its weights twice. The sum of |W x| is
    taken in float32 on |W|: its terms are positive, so that it is short by at most (n + 3) u relative, which is added.
    """
    n = rows.shape[-1]
    out = len(matrix)
    y = np.empty((len(rows), out))
    size32 = np.empty((len(rows), out), dtype=np.float32)
    rows32 = np.abs(rows).astype(np.float32)
    step = max(1, _BLOCK // n)
    with np.errstate(over="ignore", invalid="ignore"):
        for at, wide, magnitude in compiled.widened(matrix, step) or _widened(matrix, step):
            np.matmul(rows, wide.T, out=y[:, at])
            np.matmul(rows32, magnitude.T, out=size32[:, at])
    size = size32.astype(np.float64) * (1.0 + (n + 3) * U)
    if not np.isfinite(size).all():  # beyond float32, or an input that is not finite
        size = np.abs(rows) @ np.abs(matrix.astype(np.float64)).T
    return y, size


def _widened(matrix: Array, step: int) -> Iterator[tuple[slice, Float64, NDArray[np.float32]]]:
    """``step`` rows at a time: which, in float64, and their magnitudes; both are overwritten by the next."""
    wide, magnitude = np.empty((step, matrix.shape[1])), np.empty((step, matrix.shape[1]), dtype=np.float32)
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step]
        np.copyto(wide[: len(block)], block)
        np.abs(block, out=magnitude[: len(block)])
        yield slice(start, start + len(block)), wide[: len(block)], magnitude[: len(block)]


def scaled(x: Array, scale: float, numerics: Numerics) -> Reference:
    """x times ``scale``, a float32: one rounding."""
    y = x.astype(np.float64) * float(np.float32(scale))
    return Reference(y, U * np.abs(y) + floor(numerics))


def capped(logits: Reference, cap: float, numerics: Numerics, act: DType = F32) -> Reference:
    """cap tanh(logits / cap) of logits that are themselves off by ``logits``'s bounds. ``act``: the type in which each
    step of it is kept, where they are (``score_dtype``): logits and quotient before tanh, tanh and product behind it.

    tanh damps an error d by 1 - tanh^2; what that slope changes within d is below d^2 / cap, as |tanh''| < 1.
    """
    cast = SCORE_CAST * act.u if numerics.score_dtype == "act" else 0.0
    logits = Reference(logits.y, logits.b_det + cast * np.abs(logits.y), logits.b_sqrt, logits.b_sqrt2)
    y = cap * np.tanh(logits.y / cap)
    damp = 1.0 - (y / cap) ** 2
    own = (SOFTCAP_DET * U + numerics.tanh_rel + cast) * np.abs(y) + floor(numerics)
    det = damp * logits.b_det + own + logits.b1**2 / cap

    def damped(root: Float64 | None) -> Float64 | None:
        return None if root is None else damp * root

    second = damped(logits.b_sqrt2)
    if second is not None and logits.b2 is not None:
        second = second + logits.b2**2 / cap
    return Reference(y, det, damped(logits.b_sqrt), second)


def add(a: Array, b: Array, numerics: Numerics) -> Reference:
    """A residual: a + b."""
    y = a.astype(np.float64) + b.astype(np.float64)
    return Reference(y, U * np.abs(y) + floor(numerics))


def swiglu(gate: Array, up: Array, act: DType, numerics: Numerics) -> Reference:
    """silu(gate) * up = gate / (1 + exp(-gate)) * up."""
    g = gate.astype(np.float64)
    with np.errstate(over="ignore"):
        y = g / (1.0 + np.exp(-g)) * up.astype(np.float64)
    size = np.abs(y)
    slope, constant = SWIGLU
    relative = U * (slope * np.abs(g) + constant)
    if numerics.act_round == "act":
        relative += act.u
    relative = np.where(g < -EXP_LIMIT, 1.0, relative)
    return Reference(y, relative * size + floor(numerics))


Gelu = Literal["erf", "tanh"]

_erf, _erfc = (np.frompyfunc(f, 1, 1) for f in (math.erf, math.erfc))
"""NumPy has neither, and SciPy would be a dependency for these two."""


def gelu(x: Array, form: Gelu, numerics: Numerics) -> Reference:
    """x Phi(x) by erf, or its approximation by tanh: x/2 (1 + tanh(sqrt(2/pi)(x + 0.044715 x^3))).

    The bound is derived in ``docs/concepts/derivations.md``. Far to the left it is absolute, because 1 + erf cancels.
    """
    x = x.astype(np.float64)
    half = 0.5 * np.abs(x)
    if form == "erf":
        t = x * 0.5**0.5
        value = _erf(t).astype(np.float64)
        slope = 2.0 / np.pi**0.5 * np.exp(-t * t)
        bent = numerics.erf_rel * np.abs(value) + GELU_ERF_ARGUMENT * U * np.abs(t) * slope
        y = 0.5 * x * _erfc(-t).astype(np.float64)  # 1 + erf(t), without its cancellation
        relative = GELU_DET * U
    else:
        a = (2.0 / np.pi) ** 0.5 * (x + 0.044715 * x**3)
        value = np.tanh(a)
        with np.errstate(over="ignore"):
            bent = numerics.tanh_rel * np.abs(value) + GELU_TANH_ARGUMENT * U * np.abs(a) / np.cosh(a) ** 2
            y = x / (1.0 + np.exp(-2.0 * a))  # x/2 (1 + tanh(a)), without its cancellation
        relative = GELU_DET * U + numerics.exp_rel
    return Reference(y, half * bent + relative * np.abs(y) + floor(numerics))


def gelu_in_steps(x: Array, act: DType, numerics: Numerics) -> Reference:
    """``gelu`` by tanh as separate operations, each of which rounds its result to ``act`` (``gelu_new`` in bf16, f16).

    The bound is derived in ``docs/concepts/derivations.md``.
    """
    exact = gelu(x, "tanh", numerics)
    x, u, s = x.astype(np.float64), act.u, act.smallest_subnormal
    half = 0.5 * np.abs(x)
    a = np.abs((2.0 / np.pi) ** 0.5 * (x + 0.044715 * x**3))
    t = np.tanh(a)
    off = (1.0 + u) ** GELU_TANH_ARGUMENT - 1.0
    with np.errstate(over="ignore"):
        argument = off * a / np.cosh((1.0 - off) * a) ** 2 + s
    of_tanh = argument + (u + numerics.tanh_rel) * (t + argument) + s / 2
    of_sum = of_tanh + u * (1.0 + np.copysign(t, x) + of_tanh)
    halved = s / 2 * (1.0 + np.copysign(t, x) + of_sum)
    det = half * of_sum + halved + GELU_DET * U * (np.abs(exact.y) + half * of_sum)
    return Reference(exact.y, det + floor(numerics))


def geglu(gate: Array, up: Array, form: Gelu, act: DType, numerics: Numerics) -> Reference:
    """gelu(gate) * up, as Gemma has it in place of SwiGLU."""
    inner, size = gelu(gate, form, numerics), up.astype(np.float64)
    y = inner.y * size
    cast = act.u if numerics.act_round == "act" else 0.0
    return Reference(y, inner.b_det * np.abs(size) + (U + cast) * np.abs(y) + floor(numerics))


@dataclass(frozen=True)
class Angles:
    """cos and sin of every pair at every planned position, [R, rotary_dim / 2], and the angle's own bound."""

    cos: Float64
    sin: Float64
    bound: Float64

    @cached_property
    def blind(self) -> NDArray[np.bool_]:
        """[R]: where the bound excuses any rotation."""
        return np.asarray((self.bound > BLIND_ANGLE).any(axis=-1))


@dataclass(frozen=True)
class Turning:
    """``Angles`` as factors of a head's own element and of the other one of its pair, all [R, rotary_dim]: y = own *
    ``own`` + other * ``other``, and the same of the magnitudes for the bound. Layers of one base share them."""

    own: Float64
    other: Float64
    own_bound: Float64
    other_bound: Float64

    def rows(self, at: slice) -> Turning:
        return Turning(self.own[at], self.other[at], self.own_bound[at], self.other_bound[at])


def rope_angles(positions: NDArray[np.int64], layer: LayerConfig, head_dim: int, numerics: Numerics) -> Angles:
    """theta = position * base^(-2 i / rotary_dim) / factor_i.

    ``angle: f64`` tables make the same mistakes in float64: u becomes 2^-53, which covers the reference's own too.
    """
    rotary = layer.rotary_dim or head_dim
    frequency = layer.rope_base ** (-2.0 * np.arange(rotary // 2) / rotary)
    if layer.rope_factors is not None:
        frequency = frequency / np.asarray(layer.rope_factors, dtype=np.float64)
    theta = positions[:, None].astype(np.float64) * frequency
    slope, constant, evaluation = ROPE_ANGLE
    u = U64 if numerics.angle == "f64" else U
    bound = u * ((slope * np.log(layer.rope_base) + constant) * np.abs(theta) + evaluation)
    return Angles(np.cos(theta), np.sin(theta), bound)


def rope(x: Array, angles: Angles, layer: LayerConfig, act: DType, numerics: Numerics) -> Reference:
    """x [R, heads, head_dim] turned by ``angles``; what lies beyond rotary_dim passes unchanged, with a bound of 0."""
    return _turned(x, turning(angles, layer, act, numerics), layer, numerics)


def turning(angles: Angles, layer: LayerConfig, act: DType, numerics: Numerics) -> Turning:
    """The factors of ``rope`` for every row."""
    relative = ROPE_PRODUCT * U + (ROPE_CAST * act.u if numerics.rope_dtype == "act" else 0.0)
    cos, sin = (relative * np.abs(table) + angles.bound for table in (angles.cos, angles.sin))
    both = [(angles.cos, angles.cos), (-angles.sin, angles.sin), (cos, cos), (sin, sin)]
    return Turning(*(_pairs(first, second, layer) for first, second in both))


def _halves(rotary: int, layer: LayerConfig) -> tuple[slice, slice]:
    """Where the first and the second element of each pair lie."""
    if layer.rope_style == "interleaved":
        return slice(0, rotary, 2), slice(1, rotary, 2)
    return slice(0, rotary // 2), slice(rotary // 2, rotary)


def _pairs(of_first: Array, of_second: Array, layer: LayerConfig) -> Float64:
    """[R, .., rotary / 2] twice -> [R, .., rotary], each where its half of the pairs lies."""
    rotary = 2 * of_first.shape[-1]
    first, second = _halves(rotary, layer)
    both = np.empty((*of_first.shape[:-1], rotary))
    both[..., first], both[..., second] = of_first, of_second
    return both


def _turned(x: Array, by: Turning, layer: LayerConfig, numerics: Numerics) -> Reference:
    rotary = by.own.shape[-1]
    first, second = _halves(rotary, layer)
    own = x[..., :rotary].astype(np.float64)
    other = _pairs(own[..., second], own[..., first], layer)
    y = other * by.other[:, None]
    part = own * by.own[:, None]
    y += part
    bound, other = np.abs(own, out=own), np.abs(other, out=other)
    bound *= by.own_bound[:, None]
    other *= by.other_bound[:, None]
    bound += other
    bound += floor(numerics)
    if rotary < x.shape[-1]:
        beyond = x[..., rotary:].astype(np.float64)
        y, bound = np.concatenate([y, beyond], axis=-1), np.concatenate([bound, np.zeros_like(beyond)], axis=-1)
    return Reference(y, bound)


def rope_by_rows(x: Array, by: Turning, layer: LayerConfig, numerics: Numerics) -> ByRows:
    """``rope``, of which every row of a prompt is checked."""
    numbers = {"interleaved": layer.rope_style == "interleaved", "floor": floor(numerics)}
    return ByRows(
        x.shape,
        lambda at: _turned(x[at], by.rows(at), layer, numerics),
        lambda stored: compiled.rope_within(x, vars(by), numbers, stored),
    )


def cache(row: Array, scales: tuple[float, ...] | None, numerics: Numerics) -> Reference:
    """What the cache should hold of row [R, kv_heads, dim]: row / scale, scale by kv head.

    A scale of 1 rounds nothing but the conversion, so the bound is 0 there and one low bit shows.
    """
    y = row.astype(np.float64)
    flushed = floor(numerics) if numerics.flush else 0.0
    if scales is None:
        return Reference(y, np.full_like(y, flushed))
    # the scale that the library was given is float32
    scale = np.asarray(scales, dtype=np.float32).astype(np.float64)[:, None]
    y = y / scale
    return Reference(y, np.where(scale == 1.0, flushed, CACHE_SCALE * U * np.abs(y) + floor(numerics)))
