"""Caches whose offsets need 64 bits, over memory that is never touched."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from attention_cases import backend, batch, config, randn

from pytest_greta.backends.base import Phase

PAGE, HEADS, DIM, PAGES = 16, 8, 128, 300_000
FIRST_BEYOND = 2**31 // (PAGE * HEADS * DIM)
"""The first page at or beyond 2^31 elements, which are bytes here."""


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_high_page_ids_and_offsets_beyond_2_to_the_31(phase: Phase) -> None:
    """A cache of 4.6 GiB each for k and v, of which a few pages are used: ids around 2^16 and 2^31 elements, the last.

    An id cut to 16 bits or an offset cut to 32 would meet another page of these, or an untouched one, which is zero.
    """
    ids = [65_535, 65_536, 65_537, 0, 1, FIRST_BEYOND - 1, FIRST_BEYOND, 2 * FIRST_BEYOND - 1, 2 * FIRST_BEYOND,
           PAGES - 1]  # fmt: skip
    assert PAGES > 2 * FIRST_BEYOND > 2 * 65_536
    n, rng = PAGE * len(ids), np.random.default_rng(0)
    k, v, q = (randn(rng, (n, heads, DIM), "f32") for heads in (HEADS, HEADS, 2 * HEADS))
    before, results = resident_mib(), []
    for pages, table in ((PAGES, np.array([ids])), (len(ids), np.arange(len(ids))[None])):
        c = config(
            n_heads=2 * HEADS, n_kv_heads=HEADS, head_dim_qk=DIM, head_dim_v=DIM, max_seqs=1, max_len=n,
            kv_dtype="fp8_e4m3fn", page_size=PAGE, n_pages=pages,
        )  # fmt: skip
        with backend().open(c) as session:
            session.kv_write(0, batch([n], [n], table=table), k, v)
            stored = session.kv_read(0, 0, 0, n)
            q_len = n if phase == "prefill" else 1
            out, lse = session.attend(0, phase, batch([q_len], [n], table=table), q[n - q_len :])
            assert lse is not None
            results.append([x.tobytes() for x in (*stored, out, lse)])
            session.kv_trim(0, n - 1)
            assert not session.kv_read(0, 0, n - 1, 1)[0].astype(np.float32).any()
            if pages == PAGES:
                assert resident_mib() - before < 200, "the cache was touched as a whole"
    assert results[0] == results[1]
