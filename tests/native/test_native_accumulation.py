"""The CPU library declares 24-bit accumulators that round to nearest; sums that others get wrong hold it to that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attention_cases import backend, batch, config

PHASES = ("prefill", "decode")
DIM, KEYS = 64, 64
Sums = Callable[[Any, Any], Any]
"""(weights [n], values [n, d]) -> [d]"""


def attend(phase: str, q: Any, k: Any, v: Any) -> tuple[Any, Any]:
    """The last row of one head over all keys: q [d], k and v [n, d] -> out float32 [d], lse."""
    n, d = k.shape
    c = config(n_heads=1, n_kv_heads=1, head_dim_qk=d, head_dim_v=d, max_seqs=1, max_len=n, softmax_scale=1.0)
    with backend().open(c) as session:
        session.kv_write(0, batch([n], [n]), k[:, None].copy(), v[:, None].copy())
        rows = n if phase == "prefill" else 1
        queries = np.zeros((rows, 1, d), np.float32)
        queries[-1, 0] = q
        out, lse = session.attend(0, phase, batch([rows], [n]), queries)  # type: ignore[arg-type]
        assert lse is not None
        return out[-1, 0], lse[-1, 0]


def truncated(bits: int, nearest: bool) -> Sums:
    """A serial sum whose accumulator has ``bits`` bits: what the checks below must not let pass."""

    def rounded(x: Any) -> Any:
        step = np.exp2(np.floor(np.log2(np.where(x == 0, 1.0, np.abs(x)))) - bits + 1)
        return (np.rint if nearest else np.trunc)(x / step) * step

    def total(weights: Any, values: Any) -> Any:
        sums = np.zeros(values.shape[1])
        for weight, row in zip(weights.astype(float), values.astype(float), strict=True):
            sums = rounded(sums + weight * row)
        return sums

    return total


def whole_values() -> Any:
    """[KEYS, DIM]: one 2^23 and small odd numbers. The sum needs all 24 bits, and every order of adding is exact."""
    v = np.random.default_rng(0).integers(0, 3, (KEYS, DIM)).astype(np.float32) * 2 + 1
    v[17] = 2.0**23
    return v


def is_exact(sums: Any) -> bool:
    """The mean of ``whole_values`` as 2^-6 of the exact sum."""
    return bool(np.array_equal(sums, whole_values().astype(float).sum(axis=0) / KEYS))


def leans(sums: Any, values: Any) -> float:
    """The mean relative error of means over ``values`` > 0, in u, times the square root of their number: as one of them
    deviates."""
    exact = values.astype(float).mean(axis=0)
    return float(np.mean((sums - exact) / exact) * 2.0**24 * np.sqrt(values.shape[1]))


def many_values() -> Any:
    return np.random.default_rng(1).uniform(1, 2, (4096, 128)).astype(np.float32)


LEANS = 85.0
"""4 standard deviations. Step i of a serial sum of n like terms rounds a partial sum, i / n of the whole, by a uniform
error of variance u^2 / 3: n u^2 / 9 together, 21 u at n = 4096, and less in any other order."""


@pytest.mark.parametrize("phase", PHASES)
def test_declared(phase):
    declared = backend().describe().numerics[phase]
    assert (declared.acc_bits, declared.acc_round, declared.dot_bits, declared.flush) == (24, "rne", 24, False)
    assert (declared.p_dtype, declared.split_partials, declared.l_from) == ("f32", "f32", "before")


@pytest.mark.parametrize("phase", PHASES)
def test_values_are_summed_in_24_bits(isa, phase):
    """q = 0: all weights are 1 exactly, and the output is the mean."""
    zero = np.zeros(DIM, np.float32)
    out, lse = attend(phase, zero, np.ones((KEYS, DIM), np.float32), whole_values())
    assert is_exact(out)
    assert lse == np.float32(np.log(KEYS))


@pytest.mark.parametrize("phase", PHASES)
def test_scores_are_summed_in_24_bits(isa, phase):
    """One key: the lse is the score itself, 2^23 and 63 small whole numbers."""
    q = np.ones(DIM, np.float32)
    k = np.random.default_rng(2).integers(0, 3, (1, DIM)).astype(np.float32) * 2 + 1
    q[5], k[0, 5] = 2.0**12, 2.0**11
    _, lse = attend(phase, q, k, np.ones((1, DIM), np.float32))
    assert lse == k[0].astype(float) @ q.astype(float)


@pytest.mark.parametrize("phase", PHASES)
def test_sums_round_to_nearest(isa, phase):
    values = many_values()
    zero = np.zeros(128, np.float32)
    out, _ = attend(phase, zero, np.zeros_like(values), values)
    assert abs(leans(out, values)) < LEANS


@pytest.mark.parametrize(("bits", "nearest"), [(23, True), (23, False), (16, True), (8, True)])
def test_coarser_sums_would_be_seen(bits, nearest):
    v = whole_values()
    assert is_exact(truncated(24, True)(np.ones(KEYS), v) / KEYS), "24 bits are enough"
    assert not is_exact(truncated(bits, nearest)(np.ones(KEYS), v) / KEYS)


def test_truncating_sums_would_be_seen():
    """16 lanes, as a vector has them, each of 24 bits that truncate."""
    values = many_values()
    lanes = [truncated(24, False)(np.ones(256), values[i::16]) for i in range(16)]
    assert abs(leans(truncated(24, False)(np.ones(16), np.array(lanes)) / 4096, values)) > 5 * LEANS
