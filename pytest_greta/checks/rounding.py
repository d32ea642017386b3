"""Rounding to a storage type, and back: which real numbers a stored value may stand for.

Everything is float64 in and out and vectorised. All storage types are subsets of float64, so that scaling by a power of
two, halving and comparing are exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks import compiled
from pytest_greta.dtypes import Array, DType

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_EXPONENT = np.int64(0x7FF0000000000000)


def _power(value: Float64, dtype: DType, out: Float64 | None = None) -> Float64:
    """2^floor(log2 |x|), clamped to the smallest normal of ``dtype``."""
    power = np.empty(value.shape) if out is None else out
    np.bitwise_and(value.view(np.int64), _EXPONENT, out=power.view(np.int64))
    np.maximum(power, dtype.smallest_normal, out=power)
    return power


def _half_ulp(value: Float64, dtype: DType, out: Float64 | None = None) -> Float64:
    """Half the spacing of ``dtype`` at each value."""
    half = _power(value, dtype, out)
    half *= dtype.u
    return half


def half_ulp(magnitude: Float64, dtype: DType) -> Float64:
    """Half the spacing of ``dtype`` at each magnitude >= 0."""
    return _half_ulp(np.ascontiguousarray(magnitude), dtype)


def overflow_threshold(dtype: DType) -> float:
    """The smallest magnitude that rounds beyond the largest finite value."""
    largest = np.array([dtype.max])
    return dtype.max + float(_half_ulp(largest, dtype)[0])


def round_to(y: Array, dtype: DType) -> Array:
    """``y`` (float64, any shape) rounded once, to nearest even, into ``dtype``.

    Never through float32, which would round twice. Overflow gives inf where the type has one; an fp8 type saturates.
    """
    y = np.ascontiguousarray(y, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        spacing = 2.0 * _half_ulp(y, dtype)
        rounded = np.where(np.isfinite(y), np.rint(y / spacing) * spacing, y)
        if dtype.has_inf:
            rounded = np.where(np.abs(rounded) > dtype.max, np.copysign(np.inf, rounded), rounded)
        else:
            rounded = np.clip(rounded, -dtype.max, dtype.max)
        return rounded.astype(dtype.numpy)


def preimage(stored: Array, dtype: DType) -> tuple[Float64, Float64]:
    """[lo, hi] of the reals that round to nearest even into each stored value; float64, the shape of ``stored``.

    Half an ulp each side, a quarter toward zero at a power of two, the subnormal spacing below the smallest normal. The
    largest finite value ends at the overflow threshold; open where the type saturates (fp8). NaN and inf give NaN.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN
        value = np.ascontiguousarray(stored).astype(np.float64)
    magnitude = np.abs(value)
    power, half = _power(value, dtype), _half_ulp(value, dtype)
    inner = np.where((magnitude == power) & (power > dtype.smallest_normal), 0.5 * half, half)
    outer = half if dtype.has_inf else np.where(magnitude == dtype.max, np.inf, half)
    negative = np.signbit(value)
    lo = np.where(negative, value - outer, value - inner)
    hi = np.where(negative, value + inner, value + outer)
    zero = magnitude == 0
    lo, hi = np.where(zero, -half, lo), np.where(zero, half, hi)
    bad = ~np.isfinite(value)
    return np.where(bad, np.nan, lo), np.where(bad, np.nan, hi)


def error(y: Float64, stored: Array, dtype: DType) -> tuple[Float64, Bool | None]:
    """``distance`` without the differences, and 0 within the preimage."""
    with np.errstate(invalid="ignore", over="ignore"):
        e, _, beyond = distance(y, stored, dtype)
    return np.maximum(e, 0.0, out=e), beyond


def distance(y: Float64, stored: Array, dtype: DType) -> tuple[Float64, Float64, Bool | None]:
    """Of the reference ``y`` from the preimage of each stored value v: e = max(lo - y, y - hi), 0 or less within it.

    Returns (e, v - y, beyond). ``beyond`` marks the stored values that are not finite, None where all are. An inf
    stands for all that overflows on its side, and so does the NaN of an fp8 type on both: e is the distance to the
    threshold. Any other NaN has e = inf, unless the reference is not finite either. An infinite reference stored as
    itself is exact (the lse of an empty row is -inf).
    """
    stored = np.ascontiguousarray(stored)
    half = stored.astype(np.float64)
    apart = half - y
    e = np.abs(apart, order="C")
    _half_ulp(half, dtype, out=half)  # in place: the fewer arrays, the more of them stay in a second-level cache
    e -= half
    word: Any = np.dtype(f"u{dtype.itemsize}")
    at_power = np.flatnonzero((stored.view(word) & word.type((1 << (dtype.p - 1)) - 1)) == 0)
    if len(at_power):  # the preimage is narrower toward zero
        value = stored.take(at_power).astype(np.float64)
        narrow = (np.abs(value) > dtype.smallest_normal) & (apart.take(at_power) * value > 0.0)
        at_power = at_power[narrow]
        e.reshape(-1)[at_power] += 0.5 * half.take(at_power)
    if not dtype.has_inf:  # open-ended at saturation
        value = stored.astype(np.float64)
        e[(np.abs(value) == dtype.max) & (apart * value < 0.0)] = 0.0
    if np.isfinite(e.max(initial=0.0)):  # where y or v is not, e is not
        return e, apart, None
    e, beyond = _not_finite(e, y, stored.astype(np.float64), dtype)
    return e, apart, beyond


def _not_finite(e: Float64, y: Float64, value: Float64, dtype: DType) -> tuple[Float64, Bool | None]:
    exact = np.isinf(y) & (y == value)
    beyond: Bool = ~np.isfinite(value) & ~exact
    short = np.maximum(overflow_threshold(dtype) - np.abs(y), 0.0)
    reached = np.isnan(value) if not dtype.has_inf else np.isinf(value) & (np.sign(y) == np.sign(value))
    e = np.where(beyond, np.where(reached, short, np.inf), e)
    e = np.where(np.isfinite(value) & ~np.isfinite(y), np.inf, e)
    e = np.where(exact | (beyond & np.isnan(y)), 0.0, e)
    return e, beyond if beyond.any() else None


def same_bytes(left: Array, right: Array) -> Bool:
    """Elementwise equality of the stored bytes, [shape of the arrays]; NaN equals the same NaN, -0 is not 0.

    Raises ``TypeError`` where shape or type differ: such arrays are not comparable at all.
    """
    if left.dtype != right.dtype or left.shape != right.shape:
        raise TypeError(f"cannot compare {left.dtype}{left.shape} with {right.dtype}{right.shape} by bytes")
    word: Any = np.dtype(f"u{left.dtype.itemsize}")
    equal: Bool = np.ascontiguousarray(left).view(word) == np.ascontiguousarray(right).view(word)
    return equal


def same_rows(left: Array, right: Array) -> Bool:
    """Which rows have the same stored bytes, [R]. Raises as ``same_bytes`` does."""
    if left.dtype != right.dtype or left.shape != right.shape:
        same_bytes(left, right)
    if (found := compiled.same_rows(left, right)) is not None:
        return found
    width = math.prod(left.shape[1:]) * left.itemsize
    word = "u8" if width % 8 == 0 else f"u{left.itemsize}"  # as many bytes at a time as there can be
    mine, theirs = (np.ascontiguousarray(x).reshape(len(x), width // x.itemsize).view(word) for x in (left, right))
    equal = mine == theirs
    # all of them, as a rule, and much faster than row by row
    return np.ones(len(left), dtype=bool) if equal.all() else np.asarray(equal.all(axis=1))


def is_same(left: Array, right: Array) -> bool:
    """Same type, same shape, same bytes."""
    return left.dtype == right.dtype and left.shape == right.shape and bool(same_rows(left, right).all())
