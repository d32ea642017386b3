"""Preimages and rounding against exact rationals and ml_dtypes."""

from __future__ import annotations

from bisect import bisect
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_greta.checks.rounding import error, preimage, round_to, same_bytes
from pytest_greta.dtypes import BF16, DTYPES, F16, F32, FP8_E4M3FN, FP8_E4M3FNUZ, DType

NARROW = [BF16, F16, FP8_E4M3FN, FP8_E4M3FNUZ]
ALL = list(DTYPES.values())
ids = {"ids": lambda d: d.name}


@cache
def every_value(dtype: DType) -> list[float]:
    """All finite values of a type of 8 or 16 bits, ascending, 0 once; read off the bit patterns."""
    bits = np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them
        values = bits.view(dtype.numpy).astype(np.float64)
    return sorted({float(v) + 0.0 for v in values if np.isfinite(v)})


def nearest_even(y: Fraction, dtype: DType) -> set[float]:
    """The nearest values of the type by exact arithmetic: one, or two on a tie. Overflow is not asked for."""
    every = every_value(dtype)
    at = bisect(every, y)
    values = every[max(0, at - 2) : at + 2]
    best = min(abs(Fraction(v) - y) for v in values)
    return {v for v in values if abs(Fraction(v) - y) == best}


@pytest.mark.parametrize("dtype", NARROW, **ids)
def test_preimages_tile_the_line(dtype):
    """Between neighbours the preimages meet at the exact midpoint: no gap, no overlap."""
    values = every_value(dtype)
    lo, hi = preimage(np.array(values).astype(dtype.numpy), dtype)
    for left, right, a, b in zip(hi[:-1], lo[1:], values[:-1], values[1:], strict=True):
        assert Fraction(left) == Fraction(right) == (Fraction(a) + Fraction(b)) / 2


@pytest.mark.parametrize("dtype", NARROW, **ids)
def test_preimage_ends_at_overflow_or_is_open(dtype):
    top = np.array([dtype.max, -dtype.max]).astype(dtype.numpy)
    lo, hi = preimage(top, dtype)
    if dtype.has_inf:
        below = every_value(dtype)[-2]
        end = dtype.max + (dtype.max - below) / 2
        assert hi[0] == end
        assert lo[1] == -end
        with np.errstate(over="ignore"):
            assert np.isinf(np.array([end]).astype(np.float32).astype(dtype.numpy).astype(np.float32))[0]
    else:
        assert hi[0] == np.inf
        assert lo[1] == -np.inf


def test_f32_preimage_at_the_corners():
    one, tiny, least = np.float32(1), np.finfo(np.float32).tiny, np.float32(2**-149)
    values = np.array([one, -one, tiny, least, 0.0], dtype=np.float32)
    lo, hi = preimage(values, F32)
    assert (lo[0], hi[0]) == (1 - 2**-25, 1 + 2**-24)  # a quarter ulp toward zero at a power of two
    assert (lo[1], hi[1]) == (-1 - 2**-24, -1 + 2**-25)
    assert (lo[2], hi[2]) == (2**-126 - 2**-150, 2**-126 + 2**-150)  # subnormal spacing below
    assert (lo[3], hi[3]) == (2**-150, 1.5 * 2**-149)
    assert (lo[4], hi[4]) == (-(2**-150), 2**-150)


@pytest.mark.parametrize("dtype", NARROW, **ids)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_round_to_is_exact(dtype, data):
    values = every_value(dtype)
    at = data.draw(st.integers(0, len(values) - 2))
    a, b = values[at], values[at + 1]
    y = a + data.draw(st.floats(0, 1)) * (b - a)
    y = data.draw(
        st.sampled_from([y, (a + b) / 2, float(np.nextafter((a + b) / 2, b)), float(np.nextafter((a + b) / 2, a))])
    )
    got = float(round_to(np.array([y]), dtype)[0])
    near = nearest_even(Fraction(y), dtype)
    assert got in near
    if len(near) == 2:  # ties to the even pattern
        assert int(np.array([got]).astype(dtype.numpy).view(f"u{dtype.itemsize}")[0]) % 2 == 0


def test_round_to_does_not_round_twice():
    """Just above a bf16 tie, by less than float32 can hold: through float32 it would land on the tie and go to even."""
    y = 1 + 2**-8 + 2**-40
    assert float(round_to(np.array([y]), BF16)[0]) == 1 + 2**-7
    assert float(np.array([y]).astype(np.float32).astype(ml_dtypes.bfloat16)[0]) == 1.0  # the mistake


@settings(max_examples=200, deadline=None)
@given(st.floats(width=64, allow_nan=False))
def test_round_to_f32_and_f16_agree_with_numpy(y):
    with np.errstate(over="ignore"):
        for dtype in (F32, F16):  # NumPy converts these two from float64 directly
            assert np.array_equal(round_to(np.array([y]), dtype), np.array([y]).astype(dtype.numpy))


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_round_to_agrees_with_ml_dtypes_from_float32(y):
    x = np.array([y], dtype=np.float32)
    assert float(round_to(x.astype(np.float64), BF16)[0]) == float(x.astype(ml_dtypes.bfloat16)[0])
    for dtype in (FP8_E4M3FN, FP8_E4M3FNUZ):
        if abs(y) <= dtype.max:
            assert float(round_to(x.astype(np.float64), dtype)[0]) == float(x.astype(dtype.numpy)[0])


@pytest.mark.parametrize("dtype", [FP8_E4M3FN, FP8_E4M3FNUZ], **ids)
def test_fp8_saturates(dtype):
    assert list(round_to(np.array([1e9, -1e9]), dtype).astype(float)) == [dtype.max, -dtype.max]
    e, beyond = error(np.array([1e9, -1e9]), np.array([dtype.max, -dtype.max]).astype(dtype.numpy), dtype)
    assert list(e) == [0, 0]
    assert beyond is None


@pytest.mark.parametrize("dtype", ALL, **ids)
def test_error_is_the_distance_to_the_preimage(dtype):
    rng = np.random.default_rng(7)
    stored = (rng.standard_normal(4000) * 2.0 ** rng.integers(-12, 6, 4000)).astype(dtype.numpy)
    stored[:40] = (2.0 ** rng.integers(-6, 6, 40)).astype(dtype.numpy)  # powers of two
    y = stored.astype(np.float64) * (1 + rng.standard_normal(4000) * 2 * dtype.u)
    lo, hi = preimage(stored, dtype)
    e, beyond = error(y, stored, dtype)
    assert beyond is None
    expected = np.maximum(0, np.maximum(lo - y, y - hi))
    assert np.allclose(e, expected, rtol=1e-12, atol=0)
    assert (e > 0).any()
    assert (e == 0).any()


@pytest.mark.parametrize("dtype", ALL, **ids)
def test_a_rounded_value_has_no_error(dtype):
    rng = np.random.default_rng(3)
    y = rng.standard_normal(5000) * 2.0 ** rng.integers(-20, 8, 5000)
    e, beyond = error(y, round_to(y, dtype), dtype)
    assert beyond is None
    assert e.max() == 0
    assert (
        error(np.nextafter(y, 10) + 3 * abs(y) * dtype.u + dtype.smallest_subnormal, round_to(y, dtype), dtype)[0].max()
        > 0
    )


def test_values_that_are_not_finite():
    inf, nan = np.inf, np.nan
    stored = np.array([inf, inf, -inf, nan, nan, -inf, 1.0, inf], dtype=np.float16)
    y = np.array([70000, 65000, 70000, 1.0, nan, -inf, inf, inf])
    e, beyond = error(y, stored, F16)
    assert list(e) == [0, 520, inf, inf, 0, 0, inf, 0]
    assert list(beyond) == [True, True, True, True, True, False, False, False]
    e, beyond = error(np.array([470.0, 1.0]), np.array([nan, nan]).astype(ml_dtypes.float8_e4m3fn), FP8_E4M3FN)
    assert e[0] == 0
    assert e[1] > 400
    assert list(beyond) == [True, True]


def test_same_bytes():
    a = np.array([0.0, np.nan, 1.0], dtype=np.float32)
    b = np.array([-0.0, np.nan, 1.0], dtype=np.float32)
    assert list(same_bytes(a, b)) == [False, True, True]
    with pytest.raises(TypeError, match="cannot compare"):
        same_bytes(a, a.astype(np.float16))


@pytest.mark.parametrize("dtype", ALL, **ids)
def test_long_arrays_are_judged_as_their_pieces_are(dtype):
    """Errors are found block by block: the same as element for element, and what is not finite is seen in any block."""
    rng = np.random.default_rng(1)
    stored = (rng.standard_normal((70, 1100)) * 2.0 ** rng.integers(-4, 4, (70, 1100))).astype(dtype.numpy)
    y = stored.astype(np.float64) * (1 + rng.standard_normal(stored.shape) * 2 * dtype.u)
    e, beyond = error(y, stored, dtype)
    assert beyond is None
    lo, hi = preimage(stored, dtype)
    assert np.allclose(e, np.maximum(0, np.maximum(lo - y, y - hi)), rtol=1e-12, atol=0)
    stored[69, 1099] = np.nan
    e, beyond = error(y, stored, dtype)
    assert np.argwhere(beyond).tolist() == [[69, 1099]]
    assert e[69, 1099] > 1 if not dtype.has_inf else e[69, 1099] == np.inf
    y[0, 0] = np.inf
    assert error(y, stored, dtype)[0][0, 0] == np.inf
