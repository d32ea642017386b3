"""What a layer does to its scores (window, soft cap, sink, bias, cache scales), against float64 and by kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_cases import ONE, Array, backend, batch, config, randn, reference, run

from pytest_greta.backends.base import LayerConfig, Phase, Schedule
from pytest_greta.dtypes import DTYPES

NO_ROPE = LayerConfig(rope_style="none")
SINKS, SLOPES = (0.5, -np.inf, 3.0, -2.0), (0.5, 0.25, 0.0, -0.03)
K_SCALE, V_SCALE = (0.37, 2.5), (3.0, 0.11)

LAYERS = {
    "window": replace(NO_ROPE, window=17),
    "window_of_one": replace(NO_ROPE, window=1),
    "window_beyond": replace(NO_ROPE, window=2**31 - 1),
    "softcap": replace(NO_ROPE, softcap=1.5),
    "sinks": replace(NO_ROPE, sinks=SINKS),
    "alibi": replace(NO_ROPE, alibi=SLOPES),
    "scales": replace(NO_ROPE, k_scale=K_SCALE, v_scale=V_SCALE),
    "all": replace(NO_ROPE, window=17, softcap=1.5, sinks=SINKS, alibi=SLOPES, k_scale=K_SCALE, v_scale=V_SCALE),
}
PHASES: tuple[Phase, ...] = ("prefill", "decode")


@pytest.mark.parametrize("name", LAYERS)
def test_one_tile_and_one_split_give_the_same_bytes_in_both_kernels(name: str, isa: str) -> None:
    for n in (1, 2, 16, 17, 18, 33, 45):
        for kv in ("f32", "bf16", "fp8_e4m3fn", "fp8_e4m3fnuz"):
            options: dict[str, Any] = {"n": n, "act": "bf16", "kv": kv, "schedule": ONE, "layers": (LAYERS[name],)}
            assert run("prefill", **options) == run("decode", **options), options


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "window_beyond"])
def test_each_changes_the_result(name: str) -> None:
    for phase in PHASES:
        assert run(phase, layers=(LAYERS[name],), kv="bf16") != run(phase, layers=(NO_ROPE,), kv="bf16")


def test_a_window_that_holds_everything_is_none() -> None:
    for phase in PHASES:
        assert run(phase, layers=(LAYERS["window_beyond"],)) == run(phase)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("phase", PHASES)
def test_batch_companions_and_threads_change_no_byte(phase: Phase, name: str) -> None:
    schedule = {name: Schedule(tile=8, splits=3) for name in PHASES}
    alone = run(phase, schedule=schedule, layers=(LAYERS[name],), threads=1)
    for companions in ([1], [48, 7]):
        assert run(phase, schedule=schedule, layers=(LAYERS[name],), companions=companions, threads=3) == alone


@pytest.mark.parametrize("act", ["f32", "f16"])
@pytest.mark.parametrize(
    ("dqk", "dv"), [(64, 64), (80, 80), (96, 96), (128, 128), (192, 192), (256, 256), (192, 128), (80, 64), (64, 128)]
)
@pytest.mark.parametrize("kv", ["f32", "fp8_e4m3fn", "fp8_e4m3fnuz"])
def test_every_head_size_lies_within_the_bound(dqk: int, dv: int, kv: str, act: str) -> None:
    """Decode with several queries and prefill of all, with every feature at once."""
    rng, n, layer = np.random.default_rng(dqk + dv), 40, LAYERS["all"]
    schedule = {"prefill": Schedule(tile=16, splits=1), "decode": Schedule(tile=7, splits=3)}
    c = config(
        head_dim_qk=dqk, head_dim_v=dv, act_dtype=act, kv_dtype=kv, layers=(layer,), schedule=schedule, max_seqs=1
    )
    scale = float(np.float32(1 / np.sqrt(dqk)))
    with backend().open(c) as session:
        session.kv_write(0, batch([n], [n]), randn(rng, (n, 2, dqk), act), randn(rng, (n, 2, dv), act))
        k, v = (x.astype(np.float64) for x in session.kv_read(0, 0, 0, n))
        k *= np.float32(K_SCALE)[:, None].astype(np.float64)
        v *= np.float32(V_SCALE)[:, None].astype(np.float64)
        q = randn(rng, (n, 4, dqk), act)
        for phase, q_len in (("prefill", n), ("decode", 3)):
            out, lse = session.attend(0, phase, batch([q_len], [n]), q[n - q_len :])  # type: ignore[arg-type]
            assert lse is not None
            for slot in range(n - q_len, n):
                rows = slice(max(0, slot - 16), slot + 1)
                for head in range(4):
                    bias = np.float32(SLOPES[head]).astype(np.float64) * (np.arange(n)[rows] - slot)
                    r = reference(q[slot, head], k[rows, head // 2], v[rows, head // 2], scale, schedule[phase], act,
                                  cap=1.5, bias=bias, sink=SINKS[head])  # fmt: skip
                    row = slot - (n - q_len)
                    assert abs(lse[row, head] - r.lse) <= r.lse_bound
                    assert (np.abs(out[row, head].astype(float) - r.out) <= r.out_bound).all()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("window", [1, 4, 7, 8, 9])
def test_a_window_ends_where_it_ends(phase: Phase, window: int) -> None:
    """The key before the window may be anything; the window's first key must count."""
    rng, n = np.random.default_rng(0), 30
    k, v, q = (randn(rng, (n, heads, 16), "f32") for heads in (2, 2, 4))
    results = []
    for poisoned in (-1, n - 1 - window, n - window):
        with backend().open(
            config(layers=(replace(NO_ROPE, window=window),), schedule={p: Schedule(tile=8, splits=2) for p in PHASES})
        ) as session:
            mine = k.copy(), v.copy()
            if poisoned >= 0:
                mine[0][poisoned], mine[1][poisoned] = np.nan, np.nan
            session.kv_write(0, batch([n], [n]), *mine)
            q_len = n if phase == "prefill" else 1
            out, lse = session.attend(0, phase, batch([q_len], [n]), q[n - q_len :])
            results.append((out[-1].tobytes(), lse[-1].tobytes() if lse is not None else b""))
            if poisoned == n - window:
                assert np.isnan(out[-1]).all()
    assert results[0] == results[1]


@pytest.mark.parametrize("phase", PHASES)
def test_queries_before_the_first_row_are_empty(phase: Phase) -> None:
    """kv_len below q_len: the first queries see nothing, the others what they would see alone."""
    rng = np.random.default_rng(1)
    k, q = randn(rng, (2, 2, 16), "f32"), randn(rng, (5, 4, 16), "f32")
    for layer in (NO_ROPE, replace(NO_ROPE, window=2), replace(NO_ROPE, softcap=3.0, alibi=SLOPES)):
        with backend().open(config(layers=(layer,))) as session:
            session.kv_write(0, batch([2], [2]), k, k)
            b = replace(batch([5], [5]), kv_len=np.array([2], np.int32))
            out, lse = session.attend(0, phase, b, q)
            two, two_lse = session.attend(0, phase, batch([2], [2]), q[3:])
        assert lse is not None
        assert two_lse is not None
        assert not out[:3].any()
        assert np.isneginf(lse[:3]).all()
        assert out[3:].tobytes() == two.tobytes()
        assert lse[3:].tobytes() == two_lse.tobytes()


@pytest.mark.parametrize("phase", PHASES)
def test_a_sink_alone_is_a_key_with_value_zero(phase: Phase) -> None:
    """A row that sees no key: out 0, lse the sink's score, or -inf where a head has none."""
    with backend().open(config(layers=(LAYERS["sinks"],))) as session:
        b = replace(batch([1], [1]), kv_len=np.zeros(1, np.int32))
        out, lse = session.attend(0, phase, b, np.ones((1, 4, 16), np.float32))
    assert not out.any()
    assert lse is not None
    assert lse[0].tolist() == list(SINKS)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("layer", [NO_ROPE, LAYERS["sinks"]], ids=["plain", "sinks"])
def test_scores_that_are_all_nan_are_shown_not_hidden(phase: Phase, layer: LayerConfig) -> None:
    with backend().open(config(layers=(layer,))) as session:
        session.kv_write(0, batch([4], [4]), *(np.ones((4, 2, 16), np.float32),) * 2)
        out, lse = session.attend(0, phase, batch([1], [4]), np.full((1, 4, 16), np.nan, np.float32))
    assert lse is not None
    assert np.isnan(out).all()
    assert np.isnan(lse).all()


def test_decoding_several_queries_at_once_gives_the_bytes_of_one_by_one() -> None:
    rng, n = np.random.default_rng(2), 40
    k, v, q = (randn(rng, (n, heads, 16), "bf16") for heads in (2, 2, 4))
    for layer in LAYERS.values():
        with backend().open(config(act_dtype="bf16", kv_dtype="bf16", layers=(layer,), schedule=ONE)) as session:
            session.kv_write(0, batch([n], [n]), k, v)
            together = session.attend(0, "decode", batch([5], [n]), q[n - 5 :])[0]
            single = [session.attend(0, "decode", batch([1], [m]), q[m - 1 : m])[0] for m in range(n - 4, n + 1)]
        assert together.tobytes() == np.concatenate(single).tobytes()


def test_layers_have_parameters_of_their_own() -> None:
    """Layer 1 of two gives what it gives as the only layer."""
    rng, n = np.random.default_rng(3), 30
    k, v, q = (randn(rng, (n, heads, 16), "f32") for heads in (2, 2, 4))
    for name, layer in LAYERS.items():
        results: list[Array] = []
        for layers in ((LAYERS["all"], layer), (layer,)):
            with backend().open(config(n_layers=len(layers), layers=layers)) as session:
                last = len(layers) - 1
                session.kv_write(last, batch([n], [n]), k, v)
                results.append(session.attend(last, "decode", batch([1], [n]), q[:1])[0])
        assert results[0].tobytes() == results[1].tobytes(), name


def test_scales_that_are_powers_of_two_change_nothing_but_the_stored_bytes() -> None:
    """In bf16, where k / 4 is exact: the cache holds a quarter, the result is the same to the bit."""
    layer = replace(NO_ROPE, k_scale=(4.0, 4.0), v_scale=(0.5, 0.5))
    for phase in PHASES:
        assert run(phase, act="bf16", layers=(layer,)) == run(phase, act="bf16")
    k = randn(np.random.default_rng(4), (3, 2, 16), "bf16")
    with backend().open(config(act_dtype="bf16", kv_dtype="bf16", layers=(layer,))) as session:
        session.kv_write(0, batch([3], [3]), k, k)
        stored_k, stored_v = session.kv_read(0, 0, 0, 3)
    t = DTYPES["bf16"].numpy
    assert stored_k.tobytes() == (k.astype(np.float32) / 4).astype(t).tobytes()
    assert stored_v.tobytes() == (k.astype(np.float32) * 2).astype(t).tobytes()
