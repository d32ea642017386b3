"""Compiled passes against their definition in NumPy: the same numbers, whatever comes in; and a wrong one is seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import compiled
from pytest_greta.checks import reference as ref
from pytest_greta.checks.attention import AttentionReference, Call, Options, Rows
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.judge import Group, Place, judge
from pytest_greta.checks.result import StageCheck
from pytest_greta.checks.rounding import round_to, same_rows
from pytest_greta.dtypes import BF16, DTYPES, F16, F32, Array

pytestmark = pytest.mark.skipif(
    compiled.library() is None, reason="libgreta_reference is not installed: native/ has changed, install again"
)
STORED = [F32, BF16, F16]
ODD = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -2.0, 2.0**-130, -(2.0**-25), 1e38, 65504.0]
seeds = st.integers(0, 2**32 - 1)


@contextmanager
def using(library: compiled.Library | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: library)
        yield


def both(f: Callable[[], Any]) -> tuple[Any, Any]:
    """(compiled, by the definition)"""
    with np.errstate(all="ignore"):  # as examine judges
        mine = f()
        with using(None):
            return mine, f()


def same_checks(mine: list[StageCheck], theirs: list[StageCheck]) -> None:
    for a, b in zip(mine, theirs, strict=True):
        assert repr(replace(a, gain=None)) == repr(replace(b, gain=None))  # as text: NaN equals NaN
        assert (a.gain is None) == (b.gain is None)
        if a.gain and b.gain:
            assert a.gain[1] == pytest.approx(b.gain[1], rel=1e-12)
            assert a.gain[0] == pytest.approx(b.gain[0], abs=1e-12 * math.sqrt(a.gain[1]) * max(1.0, a.gain[1]))


def stage(seed: int, shape: tuple[int, ...], tiers: bool, spoiled: int, reach: float = 0.5) -> tuple[Reference, Array]:
    """A reference and stored values off by up to ``reach`` of its bounds; ``spoiled`` elements are anything at all."""
    rng = np.random.default_rng(seed)
    dtype = STORED[seed % 3]
    y = rng.standard_normal(shape) * 2.0 ** rng.integers(-30, 10, shape)
    at_power = rng.random(shape) < 0.2  # where the preimage is narrower on one side
    y[at_power] = 1.0 - dtype.u * rng.random(shape)[at_power]
    det, root = np.abs(y) * 2.0**-20, np.abs(y) * 2.0**-18
    moved = y + reach * rng.uniform(-1, 1, shape) * (det + root if tiers else det)
    moved[at_power] = 1.0
    det[at_power] += dtype.u
    values = round_to(moved, dtype)
    for _ in range(spoiled if y.size else 0):
        at = int(rng.integers(y.size))
        target = [y, det, values][int(rng.integers(3))]
        with np.errstate(over="ignore"):
            target.reshape(-1)[at] = rng.choice(ODD)
    return Reference(y, np.abs(det), root if tiers else None, 2 * root if tiers else None), values


@settings(max_examples=300, deadline=None)
@given(
    seeds,
    st.integers(1, 4),
    st.sampled_from([(1,), (7,), (64,), (1500,), (2, 8), (3, 17)]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 1, 3]),
    st.sampled_from([0.1, 1.0, 1.5]),
)
def test_judging(
    seed: int, rows: int, row: tuple[int, ...], tiers: bool, statistical: bool, spoiled: int, reach: float
) -> None:
    reference, stored = stage(seed, (rows, *row), tiers, spoiled, reach)
    cut = rows // 2
    groups = [Group("full", np.arange(cut)), Group("decode", np.arange(cut, rows))]
    place = Place(1, "x", by_head=len(row) == 2)
    same_checks(*both(lambda: judge(reference, stored, groups, place, statistical=statistical)))


@settings(max_examples=150, deadline=None)
@given(
    seeds,
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([(4, 4), (6, 2), (64, 64), (80, 32), (130, 128), (1026, 1026)]),
    st.sampled_from(["half", "interleaved"]),
    st.sampled_from([0, 0, 1, 3]),
)
def test_rope(seed: int, rows: int, heads: int, dims: tuple[int, int], style: Any, spoiled: int) -> None:
    rng = np.random.default_rng(seed)
    (dim, rotary), dtype = dims, STORED[seed % 3]
    layer = LayerConfig(rope_style=style, rotary_dim=rotary)
    numerics = Numerics(flush=bool(seed % 2))
    x = round_to(rng.standard_normal((rows, heads, dim)), dtype)
    turning = ref.turning(ref.rope_angles(np.arange(rows) * 1000, layer, dim, numerics), layer, dtype, numerics)
    reference = ref.rope_by_rows(x, turning, layer, numerics)
    whole = reference.whole()
    stored = round_to(whole.y + rng.uniform(-1, 1, x.shape) * whole.b_det, dtype)
    for _ in range(spoiled if x.size else 0):
        with np.errstate(over="ignore"):
            [x, stored][int(rng.integers(2))].reshape(-1)[int(rng.integers(x.size))] = rng.choice(ODD)
    groups = [Group("full", np.arange(rows))]
    same_checks(*both(lambda: judge(reference, stored, groups, Place(1, "q_rope", by_head=True))))
    longest = compiled.library().lib.GRETA_REFERENCE_DIM
    if spoiled == 0 and dim <= longest:  # a pass that never says "within" would be none, and its mistakes unseen
        assert reference.within is not None
        assert reference.within(stored) is not None


def close(mine: Array, theirs: Array) -> None:
    """Within 1e-12 of the larger of the two; what is not finite alike."""
    assert mine.shape == theirs.shape
    finite = np.isfinite(mine) & np.isfinite(theirs)
    assert np.array_equal(np.where(finite, 0.0, mine), np.where(finite, 0.0, theirs), equal_nan=True)
    with np.errstate(invalid="ignore"):
        assert np.all((np.abs(mine - theirs) <= 1e-12 * np.maximum(np.abs(mine), np.abs(theirs)) + 1e-300)[finite])


def same_attention(mine: AttentionReference, theirs: AttentionReference, size: float) -> None:
    for a, b in ((mine.lse, theirs.lse), (mine.out, theirs.out)):
        finite = np.isfinite(b.y)
        assert np.array_equal(np.isfinite(a.y), finite)
        assert np.all(np.abs(a.y - b.y)[finite] <= 1e-13 * size)
        for x, y in ((a.b_det, b.b_det), (a.b_sqrt, b.b_sqrt), (a.b_sqrt2, b.b_sqrt2)):
            assert x is not None
            assert y is not None
            # of a bound that is all cancellation (|v - o| of one key) what is left is the rounding of o
            with np.errstate(invalid="ignore"):
                apart = np.abs(x - y) > 1e-12 * np.maximum(np.abs(x), np.abs(y)) + 1e-18 * size
            assert not apart[np.isfinite(y)].any()
            assert np.array_equal(np.isfinite(x), np.isfinite(y))
    assert np.array_equal(mine.spread.count, theirs.spread.count)
    for a, b in ((mine.spread.scores, theirs.spread.scores), (mine.spread.probs, theirs.spread.probs)):
        for x, y in zip(a, b, strict=True):
            assert np.allclose(x, y, rtol=1e-11, atol=1e-11 * size, equal_nan=True)


@settings(max_examples=200, deadline=None)
@given(
    seeds,
    st.integers(1, 5),
    st.integers(1, 140),
    st.sampled_from([(1, 1), (2, 1), (4, 2), (9, 3)]),
    st.sampled_from([(4, 4), (8, 3), (16, 33), (64, 64)]),
    st.sampled_from(["", "sinks", "softcap", "alibi", "window", "nothing", "spoiled", "hot"]),
    st.sampled_from([Numerics(), Numerics(flush=True, p_dtype="bf16", l_from="after"), Numerics(max_update="none")]),
)
def test_attention(
    seed: int, rows: int, keys: int, heads: tuple[int, int], dims: tuple[int, int], kind: str, numerics: Numerics
) -> None:
    rng = np.random.default_rng(seed)
    (H, B), (dqk, dv) = heads, dims
    q, k, v = (rng.standard_normal(s) for s in ((rows, H, dqk), (keys, B, dqk), (keys, B, dv)))
    slots = np.sort(rng.integers(0, keys, rows))
    seen = Rows.causal(slots, 3 if kind == "window" else 0)
    if kind == "nothing":  # rows that see no key
        seen = Rows(np.zeros_like(slots), np.where(rng.random(rows) < 0.5, 0, slots + 1), slots)
    if kind == "spoiled":
        x = [q, k, v][int(rng.integers(3))]
        x.reshape(-1)[int(rng.integers(x.size))] = rng.choice([math.nan, math.inf, -math.inf])
    if kind == "hot":
        q *= 30
    options = Options(
        dqk**-0.5,
        softcap=5.0 if kind == "softcap" else 0.0,
        sinks=rng.standard_normal(H) * 5 if kind == "sinks" else None,
        alibi=rng.random(H) if kind == "alibi" else None,
    )
    call = Call(slots, q, k, v, seen, options, F32, numerics)
    size = max(1.0, *(float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in (q, k, v))) ** 2 * dqk
    with np.errstate(all="ignore"):
        same_attention(*both(call.reference), size)


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(0, 5), st.integers(1, 300), st.sampled_from([1, 8, 576, 40000]), st.booleans())
def test_linear(seed: int, rows: int, out: int, n: int, spoiled: bool) -> None:
    rng = np.random.default_rng(seed)
    out = min(out, 200000 // n)
    x, matrix = rng.standard_normal((rows, n)).astype(np.float32), rng.standard_normal((out, n)).astype(np.float32)
    if spoiled:
        matrix[0, 0] = rng.choice([math.nan, math.inf, 1e38])
    mine, theirs = both(lambda: ref.linear(x, matrix, None, Numerics()))
    for a, b in ((mine.y, theirs.y), (mine.b1, theirs.b1), (mine.b2, theirs.b2)):
        assert a is not None
        assert b is not None
        assert np.array_equal(a, b, equal_nan=True)


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(0, 5), st.sampled_from([(), (3,), (2, 8)]), st.sampled_from(list(DTYPES.values())))
def test_rows_that_are_the_same(seed: int, rows: int, row: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    a = round_to(rng.standard_normal((2 * rows, *row)), dtype)[::2]
    b = a.copy()
    if b.size:
        b.reshape(-1).view(f"u{dtype.itemsize}")[int(rng.integers(b.size))] ^= 1
    mine, theirs = both(lambda: same_rows(a, b))
    assert np.array_equal(mine, theirs)
    assert np.count_nonzero(~mine) == (1 if b.size else 0)


def test_without_the_library_numpy_judges(tmp_path: Path) -> None:
    """No file, or one that is no library: the same checks."""
    (tmp_path / compiled.FILE).write_text("no library")
    for path in (tmp_path / compiled.FILE, tmp_path / "absent.so"):
        with pytest.raises(OSError, match=r"\.so"):
            compiled.Library.at(path)
    with using(None):
        reference, stored = stage(1, (3, 8), True, 0)
        assert compiled.within(reference, stored, True) is None
        (check,) = judge(reference, stored, [Group("full", np.arange(3))], Place(1, "x"))
    assert check.grade == "ok"


def test_what_does_not_fit_is_left_to_numpy() -> None:
    """Nothing is read beyond an array: another shape or type never reaches the library."""
    reference, stored = stage(1, (3, 8), True, 0)
    assert compiled.within(reference, stored, True) is not None
    assert compiled.within(reference, stored[:, :7], True) is None
    assert compiled.within(reference, stored.astype(np.float64), True) is None
    assert compiled.within(replace(reference, b_sqrt2=None), stored, True) is None
    assert compiled.within(reference.map(lambda x: x.astype(np.float32)), stored, True) is None
    backwards = Reference(*(x[::-1] for x in (reference.y, reference.b_det)))
    assert compiled.within(backwards, stored[::-1], False) is not None
    x = np.zeros((3, 2, 8), np.float32)
    numbers = {"interleaved": 0, "floor": 0.0}
    tables = dict.fromkeys(("own", "other", "own_bound", "other_bound"), np.ones((3, 8)))
    assert compiled.rope_within(x, tables, numbers, x) is not None
    for wrong in (np.ones((2, 8)), np.ones((3, 10)), np.ones((3, 7)), np.ones(8), np.ones((3, 8), np.float32)):
        for names in (tuple(tables), ("other",)):
            assert compiled.rope_within(x, {**tables, **dict.fromkeys(names, wrong)}, numbers, x) is None
    assert compiled.rope_within(x.astype(np.float16), tables, numbers, x) is None
