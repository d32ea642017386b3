"""The built-in library's attention against float64, and what must not change a byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_cases import ONE, backend, batch, config, int32, randn, reference, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_greta.backends.base import Phase, Schedule
from pytest_greta.dtypes import DTYPES

TYPES = ("f32", "bf16", "f16")


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_random_configurations_lie_within_the_bound(data: st.DataObject) -> None:
    draw = data.draw
    act, kv = draw(st.sampled_from(TYPES)), draw(st.sampled_from(TYPES))
    n_kv, group = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    dqk, dv = draw(st.sampled_from([2, 16, 40, 64, 256])), draw(st.sampled_from([1, 16, 48, 64]))
    schedule = {
        phase: Schedule(tile=draw(st.integers(1, 80)), splits=draw(st.integers(1, 5)))
        for phase in ("prefill", "decode")
    }
    kv_lens = draw(st.lists(st.integers(1, 70), min_size=1, max_size=3))
    q_lens = [draw(st.integers(1, n + 3)) for n in kv_lens]  # more queries than keys: the first see none
    starts = [draw(st.integers(0, n)) for n in kv_lens]
    page = draw(st.sampled_from([0, 1, 7, 16]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    blocks = 0 if page == 0 else -(-70 // page)
    table = rng.permutation(3 * blocks).reshape(3, blocks) if page else None
    c = config(
        n_heads=n_kv * group, n_kv_heads=n_kv, head_dim_qk=dqk, head_dim_v=dv, max_seqs=3, max_len=70, act_dtype=act,
        kv_dtype=kv, schedule=schedule, page_size=page, n_pages=3 * blocks,
    )  # fmt: skip
    scale = float(np.float32(1 / np.sqrt(dqk)))
    with backend().open(c) as session:
        write = batch(kv_lens, kv_lens, table=table)
        shape = (write.n_tokens, n_kv)
        session.kv_write(0, write, randn(rng, (*shape, dqk), act), randn(rng, (*shape, dv), act))
        b = batch(q_lens, kv_lens, table=table, kv_start=starts)
        q = randn(rng, (b.n_tokens, n_kv * group, dqk), act)
        for phase in ("prefill", "decode"):
            out, lse = session.attend(0, phase, b, q)
            assert lse is not None
            for i, (q_len, kv_len, start) in enumerate(zip(q_lens, kv_lens, starts, strict=True)):
                k, v = session.kv_read(0, i, 0, kv_len)
                for query in range(q_len):
                    token, end = b.cu_q[i] + query, kv_len - q_len + query + 1
                    for head in range(n_kv * group):
                        if end <= start:
                            assert not out[token, head].astype(float).any()
                            assert lse[token, head] == -np.inf
                            continue
                        rows = slice(start, end)
                        r = reference(q[token, head], k[rows, head // group], v[rows, head // group], scale,
                                      schedule[phase], act)  # fmt: skip
                        assert abs(lse[token, head] - r.lse) <= r.lse_bound
                        assert (np.abs(out[token, head].astype(float) - r.out) <= r.out_bound).all()


@pytest.mark.parametrize("kv", TYPES)
@pytest.mark.parametrize("act", TYPES)
def test_one_tile_and_one_split_give_the_same_bytes_in_both_kernels(act: str, kv: str, isa: str) -> None:
    for n in (1, 2, 15, 16, 17, 33, 45):
        for heads, dqk, dv in ((4, 16, 16), (6, 40, 24), (2, 64, 64)):
            options = {
                "n": n,
                "act": act,
                "kv": kv,
                "schedule": ONE,
                "n_heads": heads,
                "head_dim_qk": dqk,
                "head_dim_v": dv,
            }
            assert run("prefill", **options) == run("decode", **options), options


def test_other_schedules_give_other_bytes() -> None:
    """Without this the test above could compare a kernel with itself."""
    split = {"prefill": Schedule(tile=8, splits=1), "decode": Schedule(tile=16, splits=3)}
    assert run("prefill", schedule=split) != run("decode", schedule=split)


def test_the_two_phases_run_two_kernels() -> None:
    c = config()
    described = backend().describe()
    with backend().open(c) as session:
        assert session.counters() == {}
        session.kv_write(0, batch([4], [4]), np.ones((4, 2, 16), np.float32), np.ones((4, 2, 16), np.float32))
        session.attend(0, "prefill", batch([4], [4]), np.ones((4, 4, 16), np.float32))
        for _ in range(2):
            session.attend(0, "decode", batch([1], [4]), np.ones((1, 4, 16), np.float32))
        assert session.counters() == {
            ("prefill", described.kernels["prefill"]): 1,
            ("decode", described.kernels["decode"]): 2,
        }
    assert described.kernels["prefill"] != described.kernels["decode"]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_page_table_changes_no_byte(phase: Phase) -> None:
    rng = np.random.default_rng(3)
    plain = run(phase)
    for page in (1, 5, 16, 64):
        blocks = -(-48 // page)
        table = rng.permutation(2 * blocks)[:blocks].reshape(1, blocks)
        assert run(phase, page_size=page, n_pages=2 * blocks, table=table) == plain


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("act", TYPES)
def test_batch_companions_change_no_byte(phase: Phase, act: str) -> None:
    schedule = {name: Schedule(tile=8, splits=3) for name in ("prefill", "decode")}
    alone = run(phase, act=act, schedule=schedule)
    for companions in ([1], [48, 7], [31, 31, 2]):
        assert run(phase, act=act, schedule=schedule, companions=companions) == alone


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_threads_change_no_byte(phase: Phase) -> None:
    """Large enough that the library really uses a second thread (it does from 8e6 multiplications on)."""
    sizes: dict[str, Any] = {"n": 400 if phase == "prefill" else 4000, "max_len": 4000, "n_heads": 12, "n_kv_heads": 6}
    sizes |= {"head_dim_qk": 128, "head_dim_v": 128, "schedule": {"decode": Schedule(splits=8)}}
    assert len({run(phase, threads=threads, **sizes) for threads in (1, 2, 3, 7)}) == 1


def test_a_row_does_not_see_what_it_must_not(isa: str) -> None:
    """NaN in unused rows, and infinities in the values of masked rows, stay where they are."""
    rng = np.random.default_rng(0)
    n, poison = 40, np.full((48, 2, 16), np.nan, np.float32)
    k, v, q = (randn(rng, (n, heads, 16), "f32") for heads in (2, 2, 4))
    schedule = {phase: Schedule(tile=16, splits=2) for phase in ("prefill", "decode")}
    results = []
    for poisoned in (False, True):
        with backend().open(config(schedule=schedule)) as session:
            if poisoned:
                session.kv_load(0, 0, 0, poison, poison)
            session.kv_write(0, batch([n - 3], [n]), k[3:], v[3:])
            if poisoned:
                late = v[30:].copy()
                late[:] = np.inf
                session.kv_write(0, batch([10], [n]), k[30:], late)
            out, lse = session.attend(0, "prefill", batch([n], [n], kv_start=[3]), q)
            one, one_lse = session.attend(0, "decode", batch([1], [30], kv_start=[3]), q[29:30])
            results.append((out[:30].tobytes(), lse[:30].tobytes(), one.tobytes(), one_lse.tobytes()))  # type: ignore[index, union-attr]
            if poisoned:
                assert not np.isfinite(out[30:]).any()
    assert results[0] == results[1]


def test_non_finite_scores_are_shown_not_hidden() -> None:
    k = np.ones((4, 2, 16), np.float32)
    k[2] = np.nan
    with backend().open(config()) as session:
        session.kv_write(0, batch([4], [4]), k, np.ones_like(k))
        for phase in ("prefill", "decode"):
            out, lse = session.attend(0, phase, batch([1], [4]), np.ones((1, 4, 16), np.float32))
            assert np.isnan(out).all()
            assert lse is not None
            assert np.isnan(lse).all()


def test_exp_keeps_its_declared_error(isa: str) -> None:
    """Keys with scores 0 and x, values 0 and 1: out = exp(x) / (1 + exp(x)), whose own two roundings come on top."""
    x = np.concatenate([-np.logspace(-7, 1.94, 6000), -np.linspace(0.3, 0.4, 2000)]).astype(np.float32)
    n = len(x)
    c = config(n_heads=1, n_kv_heads=1, head_dim_qk=1, head_dim_v=1, max_seqs=n, max_len=2, softmax_scale=1.0)
    declared = backend().describe().numerics["decode"].exp_rel
    with backend().open(c) as session:
        rows = np.tile(np.array([0, 1], np.float32), n).reshape(2 * n, 1, 1)
        session.kv_write(0, batch([2] * n, [2] * n), rows, rows)
        out, _ = session.attend(0, "decode", batch([1] * n, [2] * n), x.reshape(n, 1, 1))
    e = np.exp(x.astype(np.float64))
    exact = e / (1 + e)
    error = np.abs(out[:, 0, 0] - exact) / exact
    assert declared == 2.0**-23
    assert error.max() <= declared + 2 * 2.0**-24
    assert error.max() > 2.0**-25, "an error below half an ulp would mean that nothing was rounded"


def test_softmax_scale_zero_means_one_over_root_d() -> None:
    assert run("decode") == run("decode", softmax_scale=float(np.float32(16**-0.5)))
    assert run("decode") != run("decode", softmax_scale=0.3)


def test_positions_and_slots_do_not_touch_attention() -> None:
    q = np.ones((1, 4, 16), np.float32)
    with backend().open(config()) as session:
        k = randn(np.random.default_rng(0), (4, 2, 16), "f32")
        session.kv_write(0, batch([4], [4]), k, k)
        b = batch([1], [4])
        other = type(b)(b.cu_q, b.kv_len, int32([77]), int32([9]), b.seq_ids)
        assert session.attend(0, "decode", b, q)[0].tobytes() == session.attend(0, "decode", other, q)[0].tobytes()


@pytest.mark.parametrize("act", ["bf16", "f16"])
def test_outputs_are_rounded_to_nearest_even(act: str) -> None:
    """One key: out is its value, through f32. The value is exact in f32's cache and not in the activation type."""
    t = DTYPES[act].numpy
    one = np.arange(1, 33, dtype=np.float32).reshape(1, 2, 16) * np.float32(1 + 2.0**-9 + 2.0**-12)
    with backend().open(config(act_dtype=act)) as session:
        session.kv_load(0, 0, 0, np.zeros((1, 2, 16), np.float32), one)
        out, _ = session.attend(0, "decode", batch([1], [1]), np.ones((1, 4, 16), t))
    assert out[0].tobytes() == np.repeat(one[0].astype(t), 2, axis=0).tobytes()
