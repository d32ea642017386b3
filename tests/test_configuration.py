"""What a run was set up with, against the checkpoint: sessions, tokens, positions, and the epsilon of every norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_greta.backends.base import Numerics
from pytest_greta.backends.registry import open_backends
from pytest_greta.checks.configuration import configuration, stage_of
from pytest_greta.engine import decoder
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, trace_probe
from pytest_greta.engine.scales import with_cache_scales
from pytest_greta.engine.spec import ModelSource
from pytest_greta.probing import judge_trace
from pytest_greta.report.notes import note_text
from pytest_greta.trace.sidecar import load_sidecar, save_sidecar

PROMPT = "To be, or not."


def traced(source: ModelSource, kv_dtype: str = "f32", dtype: str = "f32"):
    library = Library(open_backends("cpu", extra={}, base=Path())["prefill"])
    plan = RunPlan(tuple(source.tokenizer.encode(PROMPT)), act_dtype=dtype, kv_dtype=kv_dtype)
    return trace_probe(source, plan, {"prefill": library, "decode": library}), library.description


def run(source: ModelSource, judged_as: ModelSource | None = None, **dtypes: str):
    """A probe of ``source`` that is judged by another checkpoint."""
    trace, said = traced(source, **dtypes)
    numerics = {phase: said.numerics.get(phase, Numerics()) for phase in ("prefill", "decode")}
    return judge_trace(trace, judged_as or source, {"prefill": said, "decode": said}, numerics, "kv_aligned")


def with_config(source: ModelSource, **changes: Any) -> ModelSource:
    return replace(source, config=replace(source.config, **changes))


def with_layer(source: ModelSource, layer: int, **changes: Any) -> ModelSource:
    layers = list(source.config.layers)
    layers[layer] = replace(layers[layer], **changes)
    return with_config(source, layers=tuple(layers))


def other(values: tuple[float, ...] | None) -> tuple[float, ...]:
    assert values is not None
    return (*values[:2], values[2] * 1.0001, *values[3:])


CASES: dict[str, tuple[str, Callable[[ModelSource], ModelSource], int, str, str]] = {
    "scale": ("gemma2", lambda s: with_config(s, softmax_scale=0.21), -1, "lse", "softmax_scale is 0.21"),
    "window": (
        "mistral",
        lambda s: with_layer(s, 4, window=25),
        4,
        "lse",
        "window is 25",
    ),
    "no window": ("mistral", lambda s: with_layer(s, 2, window=0), 2, "lse", "window is 0"),
    "soft cap": ("gemma2", lambda s: with_layer(s, 1, softcap=12.5), 1, "lse", "softcap is 12.5"),
    "sinks": ("gpt-oss", lambda s: with_layer(s, 3, sinks=other(s.config.layers[3].sinks)), 3, "lse", "sinks[2] is"),
    "no sinks": ("gpt-oss", lambda s: with_layer(s, 3, sinks=None), 3, "lse", "sinks is None"),
    "alibi": ("llama", lambda s: with_layer(s, 0, alibi=(0.1,) * 8), 0, "lse", "alibi is 8 values"),
    "base": ("qwen3", lambda s: with_layer(s, 5, rope_base=1e4), 5, "q_rope", "rope_base is 10000.0"),
    "rotary": ("qwen3", lambda s: with_layer(s, 2, rotary_dim=0), 2, "q_rope", "rotary_dim is 32"),
    "style": ("llama", lambda s: with_layer(s, 2, rope_style="interleaved"), 2, "q_rope", "rope_style is interleaved"),
    "factors": ("gpt-oss", lambda s: with_layer(s, 1, rope_factors=None), 1, "q_rope", "rope_factors is None"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_session_that_was_opened_otherwise_is_a_difference(name):
    """The prompt is shorter than the windows: nothing but the parameter itself shows the difference."""
    model, change, layer, stage, given = CASES[name]
    source = load_source(f"synthetic:{model}")
    trace, _ = traced(change(source))
    found = configuration(trace, source)
    assert [d.phase for d in found] == ["prefill", "decode"]
    assert {(d.layer, f"{d.name} is {d.given}".startswith(given), stage_of(d.name)) for d in found} == {
        (layer, True, stage)
    }
    assert not configuration(trace, change(source))


def test_a_difference_is_a_real_mismatch_whatever_the_checks_say():
    source = load_source("synthetic:mistral")
    verdict = run(with_layer(source, 4, window=25), source).verdict
    assert (verdict.status, verdict.scenario, verdict.finding) == ("KV_MISMATCH", "REAL_MISMATCH", "CONFIGURATION")
    failure = verdict.first_failure
    assert failure is not None
    assert (failure.layer, failure.stage, failure.phase) == (4, "lse", "both")
    assert failure.detail == "window is 25, the checkpoint or the plan says 24"
    assert note_text(failure.detail, "es") == "window es 25; según el checkpoint o el plan es 24"
    assert failure.causes == ("cause.configuration",)


def test_the_scales_of_a_cache_are_compared():
    source = with_cache_scales(load_source("synthetic"), "fp8_e4m3fn")
    trace, _ = traced(source, "fp8_e4m3fn")
    assert not configuration(trace, source)
    changed = with_layer(source, 2, v_scale=other(source.config.layers[2].v_scale))
    assert {(d.layer, d.name, stage_of(d.name)) for d in configuration(trace, changed)} == {
        (2, "v_scale[2]", "kv_write")
    }


def test_neutral_spellings_are_no_difference():
    source = load_source("synthetic")
    same = with_config(source, softmax_scale=0.0)
    same = with_layer(same, 1, rotary_dim=32, k_scale=(1.0,) * 4, rope_factors=(1.0,) * 16)
    assert not configuration(traced(source)[0], same)


def test_tokens_and_positions_are_the_plans(tmp_path):
    source = load_source("synthetic")
    trace, _ = traced(source)
    save_sidecar(tmp_path / "x.safetensors", trace)
    assert not configuration(load_sidecar(tmp_path / "x.safetensors"), source)  # lists, not tuples
    decode = trace.paths["decode"]
    token = replace(trace, paths={**trace.paths, "decode": replace(decode, tokens=decode.tokens + 1)})
    (found,) = configuration(token, source)
    assert (found.phase, found.name, found.given - found.wanted) == ("decode", f"token[{trace.n_prefix}]", 1)
    shifted = replace(trace, paths={**trace.paths, "decode": replace(decode, rope_positions=decode.rows + 2)})
    (found,) = configuration(shifted, source)
    assert (found.name, found.given, found.wanted) == (
        f"position[{trace.n_prefix}]",
        trace.n_prefix + 2,
        trace.n_prefix,
    )
    longer = replace(trace, paths={"full": replace(trace.paths["full"], rows=trace.paths["full"].rows + 1000)})
    assert "None" in str(configuration(longer, source))


# -- epsilon -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eps", "dtype"), [(1e-6, "bf16"), (0.0, "f32"), (1e-3, "f16")])
def test_a_wrong_epsilon_in_the_engine_is_found_in_layer_and_stage(eps, dtype):
    source = load_source("synthetic")
    judged = run(with_config(source, rms_eps=eps), source, kv_dtype=dtype, dtype=dtype)
    verdict, failure = judged.verdict, judged.verdict.first_failure
    assert (verdict.status, verdict.scenario) == ("KV_MISMATCH", "REAL_MISMATCH")
    assert failure is not None
    assert (failure.layer, failure.stage, failure.phase) == (0, "attn_norm", "both")
    wrong = {c.stage for c in judged.checks if c.rho > 1}
    assert wrong == {"attn_norm", "ffn_norm", "final_norm"}
    assert failure.causes == ("cause.norm_eps",)
    assert f"fits epsilon {eps:g} in place of 1e-05" in failure.detail
    assert ("tiny norm" in failure.detail) == (eps < 1e-3)  # which shows on the prompt's own rows as well
    assert (failure.positions == ()) == (eps < 1e-3)


def test_a_healthy_model_has_the_tiny_row_and_passes():
    for model in ("synthetic:qwen3", "synthetic:gemma2"):
        source = load_source(model)
        judged = run(source)
        assert judged.verdict.status == "PASS"
        norms = {key for key in judged.trace.paths["decode"].taps if key.part == "tiny"}
        assert len(norms) == 1 + 6 * 4  # final_norm; four norms a layer in either family
        row = judged.trace.paths["full"].get(0, "attn_norm", "tiny_in")
        assert row is not None
        assert float(np.sqrt(np.mean(row.values.astype(float) ** 2))) == pytest.approx(2e-3, rel=0.2)


def test_one_norm_of_one_layer_in_one_phase(monkeypatch):
    source = load_source("synthetic:qwen3")
    healthy = decoder.Decoder._rms_norm

    def norm(self, x, name):
        if name == "layers.3.k_norm" and self.tracer.rows.min() > 0:  # the decode path
            wrong = decoder.Decoder.__new__(decoder.Decoder)
            wrong.__dict__ = {**self.__dict__, "config": replace(self.config, rms_eps=1e-6)}
            return healthy(wrong, x, name)
        return healthy(self, x, name)

    monkeypatch.setattr(decoder.Decoder, "_rms_norm", norm)
    failure = run(source).verdict.first_failure
    assert failure is not None
    assert (failure.layer, failure.stage, failure.phase) == (3, "k_norm", "decode")
    assert failure.causes == ("cause.norm_eps",)
