"""A planted fault changes the one argument it names, in the calls it names, and no tap sees the planting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_greta.cases.model import Inject
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, trace_probe
from pytest_greta.faults.kinds import BY_NAME, KINDS
from pytest_greta.faults.plant import PlantedSession, PlantedWeights, as_another_type
from pytest_greta.trace.records import Trace
from pytest_greta.trace.stages import order
from tests.support.plain import PlainBackend


class Recorder:
    """A session that writes down what it was given and answers with zeros."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Any]] = []

    def rope(self, layer, phase, batch, q, k):
        self.calls.append(("rope", layer, batch.positions.copy()))

    def kv_write(self, layer, batch, k, v):
        self.calls.append(("kv_write", layer, batch.slots.copy()))

    def attend(self, layer, phase, batch, q, k_new=None, v_new=None):
        self.calls.append(("attend", layer, (batch.kv_len.copy(), q.copy())))
        return q.copy(), q[..., 0].astype(np.float32)


@pytest.fixture(scope="module")
def source():
    return load_source("synthetic")


def batch():
    from pytest_greta.backends.base import Batch

    rows = np.arange(4, dtype=np.int32)
    return Batch(np.array([0, 4], np.int32), np.array([4], np.int32), rows, rows.copy(), np.zeros(1, np.int32))


def planted(source, **fault):
    recorder = Recorder()
    return recorder, PlantedSession(recorder, Inject(**fault), source.config)


def q(heads: int = 8) -> np.ndarray:
    return np.arange(4 * heads * 2, dtype=np.float32).reshape(4, heads, 2) + 1


def test_rope_pos_shifts_the_position_in_its_layer_only(source):
    recorder, session = planted(source, fault="rope_pos", layer=1, magnitude=2)
    for layer in (0, 1):
        session.rope(layer, "decode", batch(), q(), q(4))
    assert [call[2].tolist() for call in recorder.calls] == [[0, 1, 2, 3], [2, 3, 4, 5]]


def test_rope_pos_may_hit_one_row(source):
    recorder, session = planted(source, fault="rope_pos", position=2)
    session.rope(0, "prefill", batch(), q(), q(4))
    assert recorder.calls[0][2].tolist() == [0, 1, 3, 3]


def test_kv_slot_shifts_the_slot_and_nothing_else(source):
    recorder, session = planted(source, fault="kv_slot")
    session.kv_write(0, batch(), q(4), q(4))
    session.attend(0, "decode", batch(), q())
    assert recorder.calls[0][2].tolist() == [1, 2, 3, 4]
    assert recorder.calls[1][2][0].tolist() == [4]


def test_kv_len_changes_the_length(source):
    recorder, session = planted(source, fault="kv_len")
    session.attend(0, "decode", batch(), q())
    assert recorder.calls[0][2][0].tolist() == [3]


def test_qk_scale_changes_the_query_of_its_head(source):
    recorder, session = planted(source, fault="qk_scale", head=3, magnitude=0.5)
    given = q()
    session.attend(0, "decode", batch(), given)
    seen = recorder.calls[0][2][1]
    assert np.array_equal(seen[:, 3], given[:, 3] * 1.5)
    assert np.array_equal(np.delete(seen, 3, axis=1), np.delete(given, 3, axis=1))
    assert np.array_equal(given, q())  # the caller's array is what the tap saw


def test_gqa_map_gives_each_head_another_kv_head_and_its_own_output(source):
    recorder, session = planted(source, fault="gqa_map")
    given = q()
    out, lse = session.attend(0, "decode", batch(), given)
    assert np.array_equal(out, given)  # the recorder echoes q: rows come back in the caller's order
    assert np.array_equal(lse, given[..., 0])
    seen = recorder.calls[0][2][1]
    assert not np.array_equal(seen, given)
    # the library's head slots 0 and 1 belong to kv head 0: they now carry the queries of another group
    assert np.array_equal(seen[:, :2], given[:, 6:])


@pytest.mark.parametrize("stage", BY_NAME["w_route"].stages)
def test_w_route_changes_the_weight_it_names(source, stage):
    weights = PlantedWeights(source.weights, Inject("w_route", stage=stage, layer=2), source.config)
    names = ["embed", "lm_head", *(f"layers.{i}.{n}" for i in (1, 2) for n in ("q", "k", "v", "o", "gate"))]
    changed = {n for n in names if not np.array_equal(weights[n], source.weights[n])}
    expected = {"embed_out": "embed", "logits": "lm_head"}.get(stage, f"layers.2.{stage[0]}")
    assert changed == {expected}
    assert weights[expected].shape == source.weights[expected].shape


def first_difference(left: Trace, right: Trace) -> tuple[int, str, str]:
    """The first stage whose bytes differ between two traces of the same probe."""
    for key in sorted(left.paths["decode"].taps, key=lambda k: order(k.layer, k.stage)):
        for path in ("full", "prefix", "decode"):
            a, b = left.tap(path, *key), right.tap(path, *key)
            assert a is not None
            assert b is not None
            if a.values.tobytes() != b.values.tobytes():
                return key.layer, key.stage, path
    raise AssertionError("no difference")


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("rope_pos", "q_rope"),
        ("kv_slot", "kv_write"),
        ("kv_len", "lse"),
        ("qk_scale", "lse"),
        ("gqa_map", "lse"),
        ("w_route", "q_proj"),
        ("rope_apply", "q_rope"),
        ("dtype_mix", "kv_write"),
        ("gain:q_rope", "q_rope"),
        ("gain:kv_write", "kv_write"),
        ("in_row", "x_in"),
        ("in_row:attn_norm", "attn_norm"),
        ("in_row:ffn_norm", "ffn_norm"),
        ("gemm_prec:o_proj", "o_proj"),
        ("dtype_mix:x_in", "x_in"),
        ("gain", "o_proj"),
    ],
)
def test_the_first_tap_that_changes_is_the_one_behind_the_planting(source, kind, stage, phase):
    kind, _, at = kind.partition(":")
    clean, faulty = (
        traced(source, inject) for inject in (None, Inject(kind, phase=phase, layer=3, stage=at or None, magnitude=1))
    )
    layer, found, path = first_difference(clean, faulty)
    assert (layer, found) == (3, stage)
    assert path == ("decode" if phase == "decode" else "full")


def traced(source, inject: Inject | None, text: str = "under the trace point") -> Trace:
    library = Library(PlainBackend())
    ids = tuple(source.tokenizer.encode(text))
    return trace_probe(source, RunPlan(ids, inject=inject), {"prefill": library, "decode": library})


@pytest.mark.parametrize(
    ("kind", "model", "stage"),
    [
        ("qk_norm", "synthetic:qwen3", "q_norm"),
        ("qk_norm:k_norm", "synthetic:qwen3", "k_norm"),
        ("rope_table", "synthetic:qwen3", "q_rope"),
        ("rope_table:k_rope", "synthetic:gpt-oss", "k_rope"),
    ],
)
def test_kinds_that_need_a_model(kind, model, stage):
    kind, _, at = kind.partition(":")
    source = load_source(model)
    clean, faulty = (traced(source, inject) for inject in (None, Inject(kind, layer=3, stage=at or None)))
    assert first_difference(clean, faulty) == (3, stage, "decode")


def test_a_wrong_input_row_is_the_one_before_it_of_this_sequence(source):
    clean, faulty = (traced(source, inject) for inject in (None, Inject("in_row", "both", 2)))
    given, taken = clean.tap("full", 1, "x_out"), faulty.tap("full", 2, "x_in")
    assert np.array_equal(taken.row(0), given.row(0))  # there is none before it
    assert np.array_equal(taken.row(1), given.row(0))
    n = clean.n_prefix  # the decoded row takes one that the prefill computed
    assert np.array_equal(faulty.tap("decode", 2, "x_in").row(n), clean.tap("prefix", 1, "x_out").row(n - 1))


def test_the_low_bit_of_one_element_and_of_no_other(source):
    recorder = Recorder()
    session = PlantedSession(recorder, Inject("gain", stage="kv_write", head=5, position=2, magnitude=1), source.config)
    k = np.arange(1, 4 * 4 * 2 + 1, dtype=np.float32).reshape(4, 4, 2)
    seen = session._low_bit(batch(), k)
    differs = np.argwhere(seen != k)
    assert differs.tolist() == [[2, 2, 0]]  # query head 5 is of kv head 2; row 2 has its element 2 mod 2
    assert seen[2, 2, 0] == np.nextafter(k[2, 2, 0], np.float32(np.inf))


@pytest.mark.parametrize(("name", "kept"), [("f32", 2.0**-8), ("f16", 2.0**-8), ("bf16", 2.0**-4)])
def test_another_type_keeps_its_own_bits(name, kept):
    x = np.linspace(1.01, 1.99, 50, dtype=np.float32).astype(DTYPES[name].numpy)
    other = as_another_type(x).astype(np.float64)
    error = np.abs(other / x.astype(np.float64) - 1)
    assert kept / 8 < error.max() <= kept


def test_every_kind_is_planted_somewhere():
    assert {BY_NAME[kind].planted for kind in KINDS} == {"argument", "weights", "engine", "kernel"}
    assert all(BY_NAME[kind].seen_in for kind in KINDS if kind != "gain")
    assert len(KINDS) == 25
