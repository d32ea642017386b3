"""What a quantised cache may change of a row: by draws of a cache written anew here, healthy and with mistakes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from pytest_greta.checks.quantised import may_differ
from pytest_greta.checks.rounding import error
from pytest_greta.dtypes import DTYPES

HEADS, ROWS, LATER, DIM, GROUP = 2, 9, 2, 32, 64
FP8 = {"scheme": "fp8"}


def draw(rng, act):
    """Rows with outliers and, often, a mean far from 0, as keys have."""
    shape = (ROWS + LATER, HEADS, DIM)
    rows = rng.standard_normal(shape) * rng.choice([1e-2, 1, 30], size=(1, HEADS, DIM))
    return (rows + rng.choice([0.0, 0.0, 5.0, 60.0])).astype(act.numpy)


def in_steps(rows, bits, act, *, levels=0):
    """Every operation in the type, as PyTorch does it. ``levels``: another number of steps than 2^bits - 1."""

    def kept(x):
        return np.asarray(x, np.float32).astype(act.numpy).astype(np.float32)

    groups = rows.astype(np.float32)[:ROWS].transpose(1, 0, 2).reshape(-1, GROUP)
    least, most = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    top = levels or 2**bits - 1
    step = kept(kept(most - least) / np.float32(top))
    whole = np.clip(np.round(kept(kept(groups - least) / step)), 0, top)
    back = kept(kept(whole * step) + least).reshape(HEADS, ROWS, DIM).transpose(1, 0, 2)
    return np.concatenate([back.astype(act.numpy), rows[ROWS:]])


def by_hqq(rows, bits, act, *, levels=0):
    """HQQ's proximal steps (``optimize_weights_proximal_legacy``), written anew."""
    groups = rows.astype(np.float32)[:ROWS].transpose(1, 0, 2).reshape(GROUP, -1)
    least, most = groups.min(axis=0), groups.max(axis=0)
    top = np.float32(levels or 2**bits - 1)
    scale = np.where(most - least <= 1e-4, np.float32(1), top / np.maximum(most - least, np.float32(1e-30)))
    scale = np.minimum(scale, np.float32(2e4)).astype(np.float32)
    zero, best = -least * scale, np.inf
    for _ in range(20):
        whole = np.clip(np.round(groups * scale + zero), 0, top)
        off = groups - (whole - zero) / scale
        size = np.abs(off)
        with np.errstate(divide="ignore"):
            shrunk = np.sign(off) * np.maximum(size - size ** np.float32(-0.3) / 10, 0)
        zero = np.mean(whole - (groups - shrunk) * scale, axis=0)
        if not size.mean() < best:
            break
        best = size.mean()
    whole = np.clip(np.round(groups * scale + zero), 0, top)

    def kept(x):
        return np.asarray(x, np.float32).astype(act.numpy).astype(np.float32)

    back = kept(kept(whole - kept(zero)) * kept(1 / scale)).reshape(HEADS, ROWS, DIM).transpose(1, 0, 2)
    return np.concatenate([back.astype(act.numpy), rows[ROWS:]])


def in_fp8(rows, act, mantissa=ml_dtypes.float8_e4m3fn):
    x = rows.astype(np.float32)
    scale = np.abs(x[:ROWS]).max() / np.float32(448)
    limited = np.clip(x / scale, -448, 448)
    return (limited.astype(mantissa).astype(np.float32) * scale).astype(act.numpy)


def rho(rows, read, facts, act):
    wrong, _ = error(rows.astype(np.float64), read, act)
    may = may_differ(rows, ROWS, facts, act, read)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nan_to_num(np.where(wrong > 0, wrong / may, 0.0)).max())


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("bits", [2, 4])
def test_a_healthy_cache_in_steps(dtype, bits):
    act, rng = DTYPES[dtype], np.random.default_rng(bits)
    facts = {"scheme": "groups", "bits": bits, "group": GROUP}
    worst, other = 0.0, []
    for _ in range(300):
        rows = draw(rng, act)
        worst = max(worst, rho(rows, in_steps(rows, bits, act), facts, act))
        other.append(rho(rows, in_steps(rows, bits, act, levels=2 ** (bits - 1) - 1), facts, act))
    print(f"{dtype}, {bits} bits: worst {worst:.3f}, one bit fewer at least {min(other):.3f}")
    assert worst <= 1.0
    assert min(other) > 1.0


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("bits", [2, 4])
def test_a_healthy_cache_by_hqq(dtype, bits):
    act, rng = DTYPES[dtype], np.random.default_rng(bits)
    facts = {"scheme": "hqq", "bits": bits, "group": GROUP}
    worst, other = 0.0, []
    for _ in range(300):
        rows = draw(rng, act)
        read = by_hqq(rows, bits, act)
        worst = max(worst, rho(rows, read, facts, act))
        other.append(rho(rows, by_hqq(rows, bits, act, levels=2 ** (bits - 1) - 1), facts, act))
    print(f"{dtype}, {bits} bits: worst {worst:.3f}, one bit fewer at least {min(other):.3f}")
    assert worst <= 1.0
    assert min(other) > 1.0


def test_values_that_hqq_cuts_off():
    """Few draws have one: what was read says that it is the group's outermost level."""
    act, rng, facts = DTYPES["f32"], np.random.default_rng(2), {"scheme": "hqq", "bits": 4, "group": GROUP}
    worst, beyond = 0.0, 0
    for _ in range(200):
        rows = (rng.standard_normal((ROWS + LATER, HEADS, DIM)) ** 3).astype(np.float32)
        read = by_hqq(rows, 4, act)
        worst = max(worst, rho(rows, read, facts, act))
        beyond += (np.abs(read.astype(np.float64) - rows) > may_differ(rows, ROWS, facts, act)).any()
    assert beyond >= 3
    assert worst <= 1.0


def test_a_cache_by_hqq_that_gives_back_one_number():
    """Whichever it is: values cannot be cut off on both sides, nor by more than the zero can have moved."""
    act, facts = DTYPES["f32"], {"scheme": "hqq", "bits": 4, "group": GROUP}
    rows = draw(np.random.default_rng(3), act)
    groups = rows[:ROWS].transpose(1, 0, 2).reshape(GROUP, -1)
    for of in (np.min, np.median, np.max):
        one = np.broadcast_to(of(groups, axis=0), groups.shape).reshape(HEADS, ROWS, DIM).transpose(1, 0, 2)
        assert rho(rows, np.concatenate([one, rows[ROWS:]]).astype(np.float32), facts, act) > 1.0
    assert rho(rows, np.concatenate([by_hqq(rows, 4, act)[:ROWS] / 2, rows[ROWS:]]), facts, act) > 1.0


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_a_healthy_cache_in_fp8(dtype):
    act, rng = DTYPES[dtype], np.random.default_rng(8)
    worst, other = 0.0, []
    for _ in range(300):
        rows = draw(rng, act)
        worst = max(worst, rho(rows, in_fp8(rows, act), FP8, act))
        other.append(rho(rows, in_fp8(rows, act, ml_dtypes.float8_e5m2), FP8, act))
    print(f"{dtype}: worst {worst:.3f}, e5m2 at least {min(other):.3f}")
    assert worst <= 1.0
    assert min(other) > 1.0


@pytest.mark.parametrize("facts", [FP8, *({"scheme": s, "bits": 4, "group": GROUP} for s in ("groups", "hqq"))])
def test_another_row_and_a_lost_one(facts):
    act = DTYPES["f32"]
    rows = draw(np.random.default_rng(1), act)
    read = in_fp8(rows, act) if facts is FP8 else {"groups": in_steps, "hqq": by_hqq}[facts["scheme"]](rows, 4, act)
    for spoilt in (read[[0, 1, 2, 4, 3, *range(5, ROWS + LATER)]], np.where(np.arange(ROWS + LATER) == 3, 0, read.T).T):
        assert rho(rows, spoilt, facts, act) > 1.0
    later = read.copy()
    later[-1, 0, 0] *= np.float32(1.3)
    assert rho(rows, later, facts, act) > 1.0, "a row after the prefill"
