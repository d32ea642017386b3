"""The decoder against a second forward written here in float64 loops, and the properties that the product leans on."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_greta.engine.load import load_source
from pytest_greta.engine.rows import DEALT, LEAST_DEALT, checked_rows, dealt_rows
from pytest_greta.engine.run import Library, RunPlan, last_logits, trace_probe
from pytest_greta.engine.store import ModelError
from tests.support.plain import PlainBackend


@pytest.fixture(scope="module")
def source():
    return load_source("synthetic")


@pytest.fixture(scope="module")
def library():
    return Library(PlainBackend())


def float64_logits(source, ids: list[int]) -> np.ndarray:
    """Plain loops over positions and heads, float64, nothing shared with the engine."""
    c, w = source.config, source.weights
    x = np.array([w["embed"][i] for i in ids], dtype=np.float64)

    def norm(v, name):
        return v / np.sqrt((v * v).mean() + c.rms_eps) * w[name].astype(np.float64)

    def turn(v, position):
        half = c.head_dim_qk // 2
        y = v.copy()
        for i in range(half):
            angle = position * c.layers[0].rope_base ** (-2.0 * i / c.head_dim_qk)
            a, b = v[i], v[i + half]
            y[i] = a * np.cos(angle) - b * np.sin(angle)
            y[i + half] = a * np.sin(angle) + b * np.cos(angle)
        return y

    for layer in range(c.n_layers):
        p = f"layers.{layer}."
        weight = {name: w[p + name].astype(np.float64) for name in ("q", "k", "v", "o", "gate", "up", "down")}
        keys, values, out = [], [], []
        for t, row in enumerate(x):
            n = norm(row, p + "attn_norm")
            keys.append([turn(k, t) for k in (weight["k"] @ n).reshape(c.n_kv_heads, -1)])
            values.append((weight["v"] @ n).reshape(c.n_kv_heads, -1))
            heads = []
            for h, q in enumerate((weight["q"] @ n).reshape(c.n_heads, -1)):
                turned, g = turn(q, t), h // (c.n_heads // c.n_kv_heads)
                s = np.array([np.dot(turned, keys[j][g]) for j in range(t + 1)]) / np.sqrt(c.head_dim_qk)
                e = np.exp(s - s.max())
                heads.append(sum(e[j] * values[j][g] for j in range(t + 1)) / e.sum())
            attended = row + weight["o"] @ np.concatenate(heads)
            n = norm(attended, p + "ffn_norm")
            gate = weight["gate"] @ n
            out.append(attended + weight["down"] @ (gate / (1 + np.exp(-gate)) * (weight["up"] @ n)))
        x = np.array(out)
    return w["lm_head"].astype(np.float64) @ norm(x[-1], "final_norm")


@pytest.mark.parametrize("text", ["Hi\n", "¿Dónde está la biblioteca?"])
def test_logits_agree_with_a_float64_forward(source, library, text):
    ids = source.tokenizer.encode(text)
    found = last_logits(source, RunPlan(tuple(ids), steps=0, layers=()), library)
    assert np.abs(found - float64_logits(source, ids)).max() < 2e-5


def test_the_float64_forward_would_see_a_wrong_pairing(source, library):
    """The comparison above can fail: the other RoPE style moves the logits by far more than its tolerance."""
    from dataclasses import replace

    layers = tuple(replace(layer, rope_style="interleaved") for layer in source.config.layers)
    wrong = replace(source, config=replace(source.config, layers=layers))
    ids = source.tokenizer.encode("¿Dónde está la biblioteca?")
    found = last_logits(wrong, RunPlan(tuple(ids), steps=0, layers=()), library)
    assert np.abs(found - float64_logits(source, ids)).max() > 1e-2


def test_rowwise_rows_do_not_depend_on_their_neighbours(source, library):
    """``gemm: rowwise`` makes ALIGNED possible: a row's projections are the same bytes in prefill and decode."""
    ids = tuple(source.tokenizer.encode("row by row"))
    trace = trace_probe(source, RunPlan(ids, gemm="rowwise"), {"prefill": library, "decode": library})
    for stage in ("q_proj", "k_proj", "v_proj"):
        full, prefix = trace.tap("full", 0, stage), trace.tap("prefix", 0, stage)
        assert full is not None
        assert prefix is not None
        assert full.values[:-1].tobytes() == prefix.values.tobytes()


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_a_trace_holds_every_stage_in_the_type_of_the_case(source, library, dtype):
    ids = tuple(source.tokenizer.encode("types"))
    trace = trace_probe(source, RunPlan(ids, act_dtype=dtype, kv_dtype=dtype), {"prefill": library, "decode": library})
    stored = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[dtype]
    for key, tap in trace.paths["decode"].taps.items():
        expected = "float32" if key.stage in ("lse", "logits") else stored
        assert tap.values.dtype.name == expected, key
    assert trace.n_prefix == len(ids) - 1


def test_only_the_layers_asked_for_are_traced(source, library):
    ids = tuple(source.tokenizer.encode("layers"))
    trace = trace_probe(source, RunPlan(ids, layers=(2, 5)), {"prefill": library, "decode": library})
    assert {key.layer for path in trace.paths.values() for key in path.taps} == {-1, 2, 5}


def test_several_steps_are_rows_of_one_decode_path(source, library):
    ids = tuple(source.tokenizer.encode("four steps"))
    trace = trace_probe(source, RunPlan(ids, steps=4), {"prefill": library, "decode": library})
    logits = trace.tap("decode", -1, "logits")
    assert logits is not None
    n = len(ids) - 4
    assert logits.positions.tolist() == [n, n + 1, n + 2, n + 3]
    assert trace.paths["decode"].segments == tuple(("decode", n + i, 1) for i in range(4))


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 100])
def test_checked_rows_are_inside_and_hold_the_ends_and_the_boundaries(n):
    prefix, full = checked_rows(n, 2, 1, [64])
    assert {0, n - 1, n // 2} <= prefix
    assert all(0 <= row < n for row in prefix)
    assert full == prefix | {n, n + 1}
    if n > 64:
        assert {63, 64} <= prefix


def test_every_boundary_is_looked_at_where_there_are_few_and_the_seed_draws_where_there_are_many():
    assert {15, 16, 31, 32, 47, 48, 63, 64} <= checked_rows(70, 1, 1, [16])[0]
    many = [checked_rows(1000, 1, seed, [16])[0] for seed in (1, 2)]
    assert {15, 16, 991, 992} <= many[0] & many[1]
    assert many[0] != many[1]
    assert max(len(rows) for rows in many) <= 5 + 2 * 12


@pytest.mark.parametrize(("n", "layers"), [(1, 6), (2, 1), (40, 6), (60, 30), (512, 30), (512, 80)])
def test_rows_are_dealt_to_the_layers_so_that_each_comes_once_before_one_comes_twice(n, layers):
    checked = checked_rows(n, 1, 1, [64])[0]
    others = set(range(n)) - checked
    dealt = dealt_rows(n, checked, 1, range(3, 3 + layers))
    assert list(dealt) == list(range(3, 3 + layers))
    assert {len(rows) for rows in dealt.values()} == {min(len(others), max(LEAST_DEALT, -(-DEALT // layers)))}
    flat = [row for rows in dealt.values() for row in rows]
    assert len(set(flat)) == min(len(flat), len(others))
    assert set(flat) <= others
    assert len(others) < 60 or dealt != dealt_rows(n, checked, 2, range(3, 3 + layers))


def test_a_row_of_the_library_that_is_not_finite_is_kept_whichever_it_is(source):
    def spoil(layer, phase, out, lse):
        if layer == 2 and phase == "prefill":
            out[17, 5, 3] = np.nan

    library = Library(PlainBackend(spoil))
    ids = tuple(source.tokenizer.encode("a prompt of some more tokens"))
    trace = trace_probe(source, RunPlan(ids), {"prefill": library, "decode": library})
    kept = trace.tap("full", 2, "attn_out")
    assert kept is not None
    assert 17 in kept.positions
    clean = trace.tap("full", 1, "attn_out")
    assert clean is not None
    assert 17 not in clean.positions


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("synthetic:lama", "did you mean synthetic:llama"),
        ("smolm2-135m", "smollm2-135m"),
        ("hf://a/b", "cannot be loaded"),
    ],
)
def test_an_unknown_model_is_one_clear_line(name, fragment):
    with pytest.raises(ModelError, match=fragment) as error:
        load_source(name)
    assert "\n" not in str(error.value)
