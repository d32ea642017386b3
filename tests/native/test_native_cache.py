"""The KV cache: rounding on the way in, rows by logical order, the remembered page table, trimming."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attention_cases import backend, batch, config, int32, randn

from pytest_greta.backends.base import BackendError, Batch
from pytest_greta.dtypes import DTYPES

TYPES = ("f32", "bf16", "f16")


def awkward(dtype: str, n: int) -> np.ndarray:
    """Every kind of value: subnormals, ties, overflow, infinities, NaN, and the whole range of exponents."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, n, dtype=np.uint64).astype(np.uint32)
    bits[: n // 4] &= 0xFFFFF000  # ties of f16 and near ties of bf16
    bits[n // 4 : n // 2] &= 0xFFFF8000  # ties of bf16
    bits[n // 2 : 3 * n // 4] = (bits[n // 2 : 3 * n // 4] & 0x8FFFFFFF) + 0x32000000  # around f16's range
    bits[:8] = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x477FF000, 0x33000000, 0x33000001]
    values = bits.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(DTYPES[dtype].numpy)


@pytest.mark.parametrize("kv", TYPES)
@pytest.mark.parametrize("act", TYPES)
def test_rows_are_rounded_to_nearest_even_like_numpy(act: str, kv: str) -> None:
    n, t = 64, DTYPES[kv].numpy
    rows = awkward(act, n * 4 * 64).reshape(n, 4, 64)
    with backend().open(
        config(n_kv_heads=4, head_dim_qk=64, head_dim_v=64, max_len=n, act_dtype=act, kv_dtype=kv)
    ) as s:
        s.kv_write(0, batch([n], [n]), rows, rows[::-1].copy())
        k, v = s.kv_read(0, 0, 0, n)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = rows.astype(np.float32).astype(t)
    nan = np.isnan(expected.astype(np.float32))
    assert (np.isnan(k.astype(np.float32)) == nan).all()
    as_bits = np.uint32 if kv == "f32" else np.uint16
    assert (k.view(as_bits)[~nan] == expected.view(as_bits)[~nan]).all()
    assert (v[::-1].view(as_bits)[~nan] == expected.view(as_bits)[~nan]).all()


def test_a_fresh_cache_is_zero_and_slots_say_where_rows_go() -> None:
    rng = np.random.default_rng(0)
    k, v = randn(rng, (3, 2, 16), "f32"), randn(rng, (3, 2, 8), "f32")
    with backend().open(config(head_dim_v=8, n_layers=2)) as session:
        b = Batch(int32([0, 3]), int32([9]), int32([0, 1, 2]), int32([8, 0, 5]), int32([1]))
        session.kv_write(1, b, k, v)
        for layer, seq in ((0, 0), (0, 1), (1, 0)):
            got_k, got_v = session.kv_read(layer, seq, 0, 48)
            assert not got_k.any()
            assert not got_v.any()
        got_k, got_v = session.kv_read(1, 1, 0, 48)
        for slot, row in ((8, 0), (0, 1), (5, 2)):
            assert (got_k[slot] == k[row]).all()
            assert (got_v[slot] == v[row]).all()
        assert np.count_nonzero(got_k.any(axis=(1, 2))) == 3
        part, _ = session.kv_read(1, 1, 5, 4)
        assert (part == got_k[5:9]).all()


@pytest.mark.parametrize("page", [0, 1, 7, 16])
def test_loaded_bytes_come_back(page: int) -> None:
    rng = np.random.default_rng(1)
    blocks = 0 if page == 0 else -(-48 // page)
    with backend().open(config(kv_dtype="bf16", page_size=page, n_pages=2 * blocks)) as session:
        k, v = randn(rng, (20, 2, 16), "bf16"), randn(rng, (20, 2, 16), "bf16")
        session.kv_load(0, 1, 11, k, v)
        got_k, got_v = session.kv_read(0, 1, 11, 20)
        assert got_k.tobytes() == k.tobytes()
        assert got_v.tobytes() == v.tobytes()
        assert not session.kv_read(0, 0, 0, 48)[0].astype(np.float32).any()


def test_reads_follow_the_table_that_was_last_written_with() -> None:
    rng = np.random.default_rng(2)
    k = randn(rng, (10, 2, 16), "f32")
    with backend().open(config(max_seqs=1, max_len=12, page_size=4, n_pages=6)) as session:
        b = batch([10], [10], table=np.array([[5, 0, 3]]))
        session.kv_write(0, b, k, k)
        assert (session.kv_read(0, 0, 0, 10)[0] == k).all()
        # the same pages in another order, given with a row that changes nothing: the logical order follows
        moved = Batch(int32([0, 1]), int32([10]), int32([0]), int32([0]), int32([0]), None, int32([[3, 0, 5]]))
        session.kv_write(0, moved, k[8:9], k[8:9])
        assert (session.kv_read(0, 0, 4, 8)[0] == np.concatenate([k[4:8], k[0:4]])).all()


def test_trimmed_rows_are_gone_in_all_layers() -> None:
    rng = np.random.default_rng(3)
    k = randn(rng, (10, 2, 16), "f32")
    with backend().open(config(n_layers=2)) as session:
        for layer in (0, 1):
            for seq in (0, 1):
                session.kv_write(layer, batch([10], [10], [seq]), k, k)
        session.kv_trim(1, 4)
        for layer in (0, 1):
            assert (session.kv_read(layer, 0, 0, 10)[0] == k).all()
            got, _ = session.kv_read(layer, 1, 0, 10)
            assert (got[:4] == k[:4]).all()
            assert not got[4:].any()


@pytest.mark.parametrize("page", [0, 4])
def test_every_row_that_was_ever_written_or_loaded_is_forgotten(page: int) -> None:
    """Trimming, writing further back, trimming again: no row beyond the cut may live on, whatever put it there."""
    k = np.ones((12, 2, 16), np.float32)
    table = np.array([[5, 0, 3], [1, 4, 2]]) if page else None

    def put(slots: list[int]) -> Batch:
        mine = None if table is None else int32(table[1:])
        n = len(slots)
        return Batch(int32([0, n]), int32([12]), int32(slots), int32(slots), int32([1]), None, mine)

    def live(session: Any, seq: int = 1) -> list[int]:
        rows = session.kv_read(1, seq, 0, 12)
        assert (rows[0].any(axis=(1, 2)) == rows[1].any(axis=(1, 2))).all()
        return [int(slot) for slot in np.flatnonzero(rows[0].any(axis=(1, 2)))]

    with backend().open(config(n_layers=2, max_len=12, page_size=page, n_pages=6 if page else 0)) as session:
        session.kv_write(1, batch([12], [12], table=table), k, k)  # sequence 0: nothing of it may be touched
        session.kv_write(1, put([0, 1, 2, 7]), k[:4], k[:4])
        session.kv_trim(1, 8)
        assert live(session) == [0, 1, 2, 7], "row 7 is before the cut"
        session.kv_trim(1, 2)
        assert live(session) == [0, 1]
        session.kv_write(1, put([5]), k[:1], k[:1])
        session.kv_trim(1, 5)
        assert live(session) == [0, 1]
        session.kv_load(1, 1, 9, k[:3], k[:3])
        assert live(session) == [0, 1, 9, 10, 11]
        session.kv_write(0, put([3]), k[:1], k[:1])  # a shorter write elsewhere forgets nothing of what is to trim
        session.kv_trim(1, 10)
        assert live(session) == [0, 1, 9]
        session.kv_trim(1, 0)
        assert live(session) == []
        assert not session.kv_read(0, 1, 0, 12)[0].any()
        session.kv_trim(1, 12)
        assert live(session, 0) == list(range(12))


def test_attention_after_a_rollback_is_that_of_a_fresh_session() -> None:
    """Ten rows, cut back to six, four others: the bytes are those of a session that never had the first ones."""
    rng = np.random.default_rng(5)
    k, wrong, q = randn(rng, (10, 2, 16), "bf16"), randn(rng, (4, 2, 16), "bf16"), randn(rng, (1, 4, 16), "bf16")
    results = []
    for rolled_back in (True, False):
        with backend().open(config(act_dtype="bf16", kv_dtype="bf16")) as session:
            session.kv_write(0, batch([6], [6]), k[:6], k[:6])
            if rolled_back:
                session.kv_write(0, batch([4], [10]), wrong, wrong)
                session.kv_trim(0, 6)
            session.kv_write(0, batch([4], [10]), k[6:], k[6:])
            results.append(session.attend(0, "decode", batch([1], [10]), q)[0].tobytes())
    assert results[0] == results[1]


def test_a_refused_write_changes_nothing() -> None:
    k = np.ones((2, 2, 16), np.float32)
    with backend().open(config()) as session:
        with pytest.raises(BackendError, match=r"slots\[1\] is 48"):
            session.kv_write(0, Batch(int32([0, 2]), int32([2]), int32([0, 1]), int32([0, 48]), int32([0])), k, k)
        assert not session.kv_read(0, 0, 0, 48)[0].any()
