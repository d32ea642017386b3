"""Ways to a token: whatever the way, each row is computed once, in order, and lies where the batch says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, trace_probe
from pytest_greta.engine.ways import Layout, Reuse, Segment, Ways
from tests.support.plain import PlainBackend

WAYS = st.builds(
    Ways,
    chunk=st.integers(0, 9),
    q_len=st.integers(1, 4),
    left_pad=st.integers(0, 5),
    reuse=st.none() | st.builds(Reuse, prefix=st.integers(1, 12), rollback=st.integers(0, 3)),
    companions=st.lists(st.integers(1, 7), max_size=3).map(tuple),
)

EACH = [
    Ways(chunk=5),
    Ways(q_len=3),
    Ways(left_pad=4),
    Ways(reuse=Reuse(4, 2)),
    Ways(companions=(3, 9)),
    Ways(5, 2, 3, Reuse(4, 2), (4,)),
]


@given(ways=WAYS, n=st.integers(12, 40), steps=st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_every_row_is_in_one_segment_and_in_order(ways, n, steps):
    segments = [*ways.prefill(n), *ways.decode(n, steps)]
    assert [row for s in segments for row in range(s.start, s.start + s.count)] == list(range(n + steps))
    assert all(s.count <= (ways.chunk or n) for s in segments if s.phase == "prefill")
    assert all(s.count <= ways.q_len for s in segments if s.phase == "decode")
    if ways.reuse is not None:
        assert ways.reuse.prefix in {s.start for s in segments} | {n + steps}


@given(ways=WAYS, n=st.integers(12, 40), steps=st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_a_batch_says_where_its_rows_lie(ways, n, steps):
    ids = np.arange(n + steps, dtype=np.int64) + 1000
    layout = Layout(ways, ids, vocab=50, seed=1, block_table=None)
    held = [0] * (len(ways.companions) + 1)
    for call in layout.calls([*ways.prefill(n), *ways.decode(n, steps)]):
        batch = call.batch
        assert batch.cu_q[-1] == batch.n_tokens == len(call.tokens)
        assert call.seq == len(ways.companions)
        assert np.array_equal(call.tokens[call.probed], ids[call.rows])
        # the probed sequence is judged by its rows: slot = row + pad, RoPE position = row
        assert np.array_equal(batch.slots[call.probed], call.rows + ways.left_pad)
        assert np.array_equal(batch.positions[call.probed], call.rows)
        for s, seq in enumerate(batch.seq_ids):
            slots = batch.slots[batch.cu_q[s] : batch.cu_q[s + 1]]
            assert slots.tolist() == list(range(held[seq], batch.kv_len[s]))  # new rows follow the old ones
            held[seq] = int(batch.kv_len[s])
    assert held[-1] == ways.left_pad + n + steps
    assert held[:-1] == [length + steps for length in ways.companions]
    assert max(held) <= ways.longest(n + steps, steps)


@pytest.mark.parametrize("ways", EACH)
@pytest.mark.parametrize("page_size", [0, 4])
def test_a_row_has_the_same_values_whatever_the_way(ways, page_size):
    """With row-wise projections and a library whose result for a row depends on nothing but its keys, to the bit."""
    source, library = load_source("synthetic"), Library(PlainBackend())
    libraries = {"prefill": library, "decode": library}
    plan = RunPlan(
        tuple(source.tokenizer.encode("any way")), steps=2, gemm="rowwise", page_size=page_size, layers=(0, 5)
    )
    one = trace_probe(source, plan, libraries)
    other = trace_probe(source, replace(plan, ways=ways), libraries)
    for path in ("full", "prefix", "decode"):
        assert set(one.paths[path].taps) == set(other.paths[path].taps)
        for key, tap in one.paths[path].taps.items():
            # the plain library computes a prefill row and a decode row in different ways: compare like with like
            found = other.paths[path].taps[key]
            for row in np.intersect1d(tap.positions, found.positions):
                assert tap.row(int(row)).tobytes() == found.row(int(row)).tobytes(), (path, key, row)


def test_the_rollback_leaves_nothing_of_itself():
    source, library = load_source("synthetic"), Library(PlainBackend())
    libraries = {"prefill": library, "decode": library}
    ids = tuple(source.tokenizer.encode("roll back"))
    trace = trace_probe(source, RunPlan(ids, ways=Ways(reuse=Reuse(4, 3))), libraries)
    assert trace.paths["prefix"].segments == (("prefill", 0, 4), ("prefill", 4, len(ids) - 1 - 4))
    assert {k.kernel for k in trace.paths["prefix"].kernels} == {"plain_prefill"}  # the detour's decode is not its own


def test_segments_of_a_chunked_prefill():
    assert Ways(chunk=48).prefill(100) == [
        Segment("prefill", 0, 48),
        Segment("prefill", 48, 48),
        Segment("prefill", 96, 4),
    ]
