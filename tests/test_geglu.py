"""Gemma's activation in ``synthetic:gemma2``: run, judged, and another activation found in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_greta.backends.registry import open_backends
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import decoder_stages
from pytest_greta.probing import judge, judge_trace


def test_gemma2_has_a_gelu_and_a_silu_in_its_place_is_found():
    source = load_source("synthetic:gemma2")
    assert {s.op for s in decoder_stages(source.config) if s.stage == "ffn_act"} == {"geglu"}
    backends = open_backends("cpu", extra={}, base=Path())
    plan = RunPlan(tuple(source.tokenizer.encode("Hi, you two.")), act_dtype="bf16", kv_dtype="bf16")
    judged = judge(source, plan, backends, "kv_aligned")
    assert judged.verdict.status == "PASS"
    silu = replace(source, config=replace(source.config, ffn_act="swiglu"))
    said = {phase: backend.describe() for phase, backend in backends.items()}
    verdict = judge_trace(judged.trace, silu, said, judged.numerics, "kv_aligned").verdict
    assert verdict.first_failure is not None
    assert (verdict.scenario, verdict.first_failure.layer, verdict.first_failure.stage) == (
        "REAL_MISMATCH",
        0,
        "ffn_act",
    )
