"""A library that computes one layer with another parameter than the checkpoint's is found at that layer.

So the checks of windows, caps, sinks, scales and tables can fail; the shipped suite ``features`` shows that they pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_greta.backends.registry import open_backends
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.scales import with_cache_scales
from pytest_greta.probing import judge

LAYER = 2
PROMPT = "The quick brown fox jumps over the lazy dog, and then some more."


class Another:
    """The CPU library, told another value of one parameter in one layer."""

    def __init__(self, name: str, change: Callable[[Any], Any]) -> None:
        self.inner = open_backends("cpu", extra={}, base=Path())["prefill"]
        self.name, self.change = name, change

    def describe(self):
        return self.inner.describe()

    def device_count(self) -> int:
        return self.inner.device_count()

    def open(self, config):
        layers = list(config.layers)
        layers[LAYER] = replace(layers[LAYER], **{self.name: self.change(getattr(layers[LAYER], self.name))})
        return self.inner.open(replace(config, layers=tuple(layers)))


def one_percent(values):
    return tuple(value * 1.01 for value in values)


@pytest.mark.parametrize(
    ("model", "dtype", "kv_dtype", "name", "change", "stage"),
    [
        ("mistral", "f32", "f32", "window", lambda w: w + 1, "lse"),
        ("mistral", "bf16", "bf16", "window", lambda w: w - 1, "lse"),
        ("mistral", "f16", "f16", "window", lambda _: 0, "lse"),
        ("gemma2", "f32", "f32", "softcap", lambda cap: cap * 1.01, "lse"),
        ("gemma2", "bf16", "bf16", "softcap", lambda _: 0.0, "lse"),
        ("gpt-oss", "f32", "f32", "sinks", lambda sinks: tuple(x + 0.01 for x in sinks), "lse"),
        ("gpt-oss", "bf16", "bf16", "sinks", lambda _: None, "lse"),
        ("llama", "f32", "f32", "alibi", lambda _: (0.001,) * 8, "lse"),
        ("gpt-oss", "f32", "f32", "rope_factors", lambda _: None, "q_rope"),
        ("qwen3", "f32", "f32", "rope_base", lambda base: base * 1.001, "q_rope"),
        ("llama", "bf16", "fp8_e4m3fn", "k_scale", one_percent, "kv_write"),
        ("llama", "bf16", "fp8_e4m3fnuz", "v_scale", one_percent, "kv_write"),
    ],
)
def test_another_parameter_in_one_layer_is_found_there(model, dtype, kv_dtype, name, change, stage):
    source = with_cache_scales(load_source(f"synthetic:{model}"), kv_dtype)
    plan = RunPlan(tuple(source.tokenizer.encode(PROMPT)), act_dtype=dtype, kv_dtype=kv_dtype)
    library = Another(name, change)
    verdict = judge(source, plan, {"prefill": library, "decode": library}, "kv_aligned").verdict
    assert verdict.status == "KV_MISMATCH"
    assert verdict.first_failure is not None
    assert (verdict.first_failure.layer, verdict.first_failure.stage) == (LAYER, stage)
    assert verdict.first_failure.phase == "both"
