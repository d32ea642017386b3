"""Gemma's own in ``synthetic:gemma2``: the activation, scaled embeddings and capped logits are run and judged, and
another in their place is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_greta.backends.registry import open_backends
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import decoder_stages
from pytest_greta.probing import judge, judge_trace


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("embed_out", {"embed_scale": 1.0}),
        ("embed_out", {"embed_scale": 1.31}),
        ("logits", {"logits_softcap": 0.0}),
        ("logits", {"logits_softcap": 3.01}),
    ],
)
def test_another_scale_or_cap_is_found(stage, change, dtype):
    """The run is right; the model that it is held to has another parameter, as a kernel that forgot it would look."""
    source = load_source("synthetic:gemma2")
    backends = open_backends("cpu", extra={}, base=Path())
    plan = RunPlan(tuple(source.tokenizer.encode("Hi, you two.")), act_dtype=dtype, kv_dtype=dtype)
    judged = judge(source, plan, backends, "kv_aligned")
    assert judged.verdict.status == "PASS"
    other = replace(source, config=replace(source.config, **change))
    said = {phase: backend.describe() for phase, backend in backends.items()}
    found = judge_trace(judged.trace, other, said, judged.numerics, "kv_aligned").verdict
    assert found.first_failure is not None
    assert (found.scenario, found.first_failure.stage) == ("REAL_MISMATCH", stage)


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
