"""Schedules from Python: each field reaches the kernels of its own phase, and changes what it must and nothing else.

That P is rounded in the schedule's order, weight by weight, is tested where P can be seen: native/tests/test_p.cpp.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attention_cases import Array, backend, batch, config, randn, run

from pytest_greta.backends.base import LayerConfig, Phase, Schedule

PHASES: tuple[Phase, ...] = ("prefill", "decode")
BASE = Schedule(tile=8, splits=1)
WINDOW = LayerConfig(rope_style="none", window=20)
"""Of 45 rows the last 20: the first visible one lies within a tile of 8."""

FIELDS = {
    "tile": replace(BASE, tile=5),
    "splits": replace(BASE, splits=3),
    "direction": replace(BASE, direction="reverse"),
    "tile_origin": replace(BASE, tile_origin="window"),
    "max_none": replace(BASE, max_update="none"),
    "max_lazy": replace(BASE, max_update="lazy:1.5"),
    "p_bf16": replace(BASE, p_dtype="bf16"),
    "p_f16": replace(BASE, p_dtype="f16"),
    "p_fp8": replace(BASE, p_dtype="fp8_e4m3fn"),
    "p_fnuz": replace(BASE, p_dtype="fp8_e4m3fnuz", p_scale=100.0),
    "p_scale": replace(BASE, p_scale=100.0),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_field_changes_its_own_phase_only(phase: Phase, name: str) -> None:
    other: Phase = "decode" if phase == "prefill" else "prefill"
    plain = {p: run(p, layers=(WINDOW,), schedule=dict.fromkeys(PHASES, BASE)) for p in PHASES}
    changed = {phase: FIELDS[name], other: BASE}
    assert run(phase, layers=(WINDOW,), schedule=changed) != plain[phase]
    assert run(other, layers=(WINDOW,), schedule=changed) == plain[other]


def test_defaults_spelled_out_are_the_defaults() -> None:
    spelled = Schedule(direction="forward", tile_origin="zero", max_update="every_tile", p_dtype="f32", p_scale=1.0)
    for phase in PHASES:
        assert run(phase, schedule={phase: spelled}) == run(phase)


@pytest.mark.parametrize("name", FIELDS)
def test_one_tile_and_one_split_give_the_same_bytes_in_both_kernels(name: str, isa: str) -> None:
    one = replace(FIELDS[name], tile=10_000, splits=1)
    for n in (1, 20, 21, 45):
        for layer in (WINDOW, replace(WINDOW, window=0, softcap=2.0, sinks=(0.5, 1.0, -1.0, 3.0))):
            results = [run(phase, n=n, layers=(layer,), schedule=dict.fromkeys(PHASES, one)) for phase in PHASES]
            assert results[0] == results[1]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("phase", PHASES)
def test_batch_companions_and_threads_change_no_byte(phase: Phase, name: str) -> None:
    schedule = {phase: replace(FIELDS[name], splits=3)}
    alone = run(phase, schedule=schedule, layers=(WINDOW,), threads=1)
    for companions in ([1], [48, 7]):
        assert run(phase, schedule=schedule, layers=(WINDOW,), companions=companions, threads=3) == alone


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("heads", [(1, 1), (130, 1), (131, 1)])
def test_tiles_from_the_window_on_with_any_group(phase: Phase, heads: tuple[int, int]) -> None:
    """More heads a kv head than a block of rows holds, even and odd; each query has tiles of its own."""
    rng, n, (h, kv) = np.random.default_rng(0), 30, heads
    k, v, q = (randn(rng, (n, count, 16), "f32") for count in (kv, kv, h))
    out: list[Array] = []
    for schedule in (Schedule(tile=4, splits=2, tile_origin="window"), Schedule(tile=64, splits=1)):
        c = config(
            n_heads=h, n_kv_heads=kv, layers=(replace(WINDOW, window=9),), schedule=dict.fromkeys(PHASES, schedule)
        )
        with backend().open(c) as session:
            session.kv_write(0, batch([n], [n]), k, v)
            out.append(session.attend(0, phase, batch([n], [n]), q)[0])
    np.testing.assert_allclose(out[0], out[1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("phase", PHASES)
def test_p_in_fp8_is_coarse_and_p_scale_helps_small_weights(phase: Phase) -> None:
    """300 equal keys but one that is far ahead: without a scale the small weights vanish in e4m3fn, as they must."""
    n = 300
    k, v = np.zeros((n, 2, 16), np.float32), np.ones((n, 2, 16), np.float32)
    k[0, :, 0], v[0] = 1.0, 0.0
    q = np.zeros((1, 4, 16), np.float32)
    q[..., 0] = 4.0 * 8.0  # a score of 8: the other weights are exp(-8) = 3.4e-4, below e4m3fn's 2^-10
    results = {}
    for scale in (0.0, 448.0):
        schedule = dict.fromkeys(PHASES, Schedule(tile=512, splits=1, p_dtype="fp8_e4m3fn", p_scale=scale))
        with backend().open(config(max_len=n, schedule=schedule)) as session:
            session.kv_write(0, batch([n], [n]), k, v)
            results[scale] = float(session.attend(0, phase, batch([1], [n]), q)[0][0, 0, 0])
    true = 299 * np.exp(-8.0) / (1 + 299 * np.exp(-8.0))
    assert results[0.0] == 0.0
    assert abs(results[448.0] - true) < 2**-4 * true
