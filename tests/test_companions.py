"""Queries that share a call with the probed rows: companions of the batch, and pad rows, which see no key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_greta.backends.registry import open_backends
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.ways import Reuse, Ways
from pytest_greta.probing import judge, judge_trace
from pytest_greta.report.notes import note_text
from pytest_greta.trace.sidecar import load_sidecar, save_sidecar
from tests.support.plain import PlainBackend

COMPANIONS, PADS = Ways(companions=(9, 4)), Ways(left_pad=3)


def judged(backend: Any, ways: Ways, model: str = "synthetic", **keys: Any) -> Any:
    plan = RunPlan(tuple(range(1, 14)), layers=(0, 2), ways=ways, **keys)
    return judge(load_source(model), plan, {"prefill": backend, "decode": backend}, "kv_aligned")


def spoiled(at: int, array: str, value: float, phase: str = "prefill") -> PlainBackend:
    """A plain library that adds ``value`` to one token's row of a call in layer 2, wherever it has company."""

    def spoil(layer: int, now: str, out: np.ndarray, lse: np.ndarray) -> None:
        if layer == 2 and now == phase and len(out) > (1 if phase == "decode" else 13):
            (out if array == "attn_out" else lse)[at] += np.float32(value)

    return PlainBackend(spoil)


@pytest.mark.parametrize(
    ("ways", "at", "stage", "phase", "positions", "english", "spanish"),
    [
        (COMPANIONS, 8, "attn_out", "prefill", (8,), "in companion 0 of", "en la secuencia acompañante 0"),
        (COMPANIONS, 12, "lse", "prefill", (3,), "in companion 1 of", "en la secuencia acompañante 1"),
        (COMPANIONS, 0, "attn_out", "decode", (9,), "in companion 0 of", "en la secuencia acompañante 0"),
        (PADS, 1, "attn_out", "prefill", (-2,), "in pad rows", "en filas de relleno"),
    ],
)
def test_a_query_beside_the_probed_ones_is_judged(
    ways: Ways, at: int, stage: str, phase: str, positions: tuple[int, ...], english: str, spanish: str
) -> None:
    run = judged(spoiled(at, stage, 0.01, phase), ways)
    assert (run.verdict.status, run.verdict.scenario) == ("KV_MISMATCH", "KV_MISALIGNMENT")
    failure = run.verdict.first_failure
    assert (failure.layer, failure.stage, failure.phase, failure.positions) == (2, stage, phase, positions)
    assert note_text(failure.detail, "en").startswith(english)
    assert note_text(failure.detail, "es").startswith(spanish)


def test_a_pad_row_that_sees_something_is_judged_by_its_lse() -> None:
    def sees(layer: int, phase: str, out: np.ndarray, lse: np.ndarray) -> None:
        if phase == "prefill" and len(out) > 13:
            lse[0] = 0.0

    failure = judged(PlainBackend(sees), PADS).verdict.first_failure
    assert (failure.stage, failure.positions) == ("lse", (-3,))


def test_what_is_wrong_in_the_probed_sequence_too_is_named_there() -> None:
    def both(layer: int, phase: str, out: np.ndarray, lse: np.ndarray) -> None:
        if layer == 2 and phase == "decode":
            out *= np.float32(1.01)

    failure = judged(PlainBackend(both), COMPANIONS).verdict.first_failure
    assert failure.positions == (12,)
    assert "companion" not in failure.detail


@pytest.mark.parametrize("model", ["synthetic", "synthetic:gpt-oss", "synthetic:gemma2"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_healthy_library_passes_with_all_of_them(model: str, dtype: str) -> None:
    ways = Ways(chunk=5, left_pad=3, companions=(40, 4), reuse=Reuse(4, 2))
    backend = open_backends("cpu", extra={}, base=Path())["prefill"]
    run = judged(backend, ways, model, act_dtype=dtype, kv_dtype=dtype, page_size=8)
    assert run.verdict.status == "PASS"
    parts = {(c.path, c.part) for c in run.checks if c.layer == 2 and c.stage == "lse"}
    assert {(path, part) for path in ("full", "prefix", "decode") for part in ("seq0", "seq1")} <= parts
    assert {("full", "pad"), ("prefix", "pad")} <= parts


def test_a_stored_trace_is_judged_alike(tmp_path: Path) -> None:
    run = judged(spoiled(8, "attn_out", 0.01), COMPANIONS)
    save_sidecar(tmp_path / "x.safetensors", run.trace)
    described = {phase: PlainBackend().describe() for phase in ("prefill", "decode")}
    trace = load_sidecar(tmp_path / "x.safetensors")
    again = judge_trace(trace, load_source("synthetic"), described, run.numerics, "kv_aligned")
    assert again.verdict.first_failure == run.verdict.first_failure
