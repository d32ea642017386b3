"""Flex attention of transformers, as torch compiles it for a CPU: healthy models pass, and the kernel is held to what
is declared of it. A compilation takes seconds, and each mask and shape is one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
import torch
import transformers

import pytest_greta as greta
from pytest_greta.backends.base import BackendError
from pytest_greta.engine.store import ModelMissing
from pytest_greta.hf import attention
from pytest_greta.settings import RunSettings

pytestmark = pytest.mark.transformers

IDS = np.random.default_rng(5).integers(small_models.VOCAB, size=34).tolist()
FLEX = {"attention": "flex_attention"}


def probe(tmp_path: Path, family: str, canary: str = "off", **keys: Any) -> Any:
    name = small_models.save(small_models.make(family), tmp_path)
    return greta.probe(name, IDS, backend=FLEX, settings=RunSettings(canary=canary), **keys)


def test_an_untouched_model_passes(tmp_path: Path) -> None:
    run = probe(tmp_path, "llama")
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    stages = {check.stage for check in run.result.stages}
    assert {"q_rope", "k_rope", "kv_write", "kv_read", "attn_out", "x_out", "logits"} <= stages
    assert "lse" not in stages, "which torch does not give on a CPU"
    kernels = {(k["path"], k["kernel"], k["calls"]) for k in run.verdict.evidence.kernels}
    assert kernels == {(path, "flex_attention", 2) for path in ("full", "prefix", "decode", "aligned")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "dtype"), [("llama", "f32"), ("llama", "bf16"), ("llama", "f16"), ("gemma2", "f32"), ("gemma3", "bf16")]
)
def test_every_type_windows_and_a_soft_cap(tmp_path: Path, family: str, dtype: str) -> None:
    run = probe(tmp_path, family, canary="on", dtype=dtype)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    assert {c.outcome for c in run.verdict.evidence.canaries} == {"found"}, run.verdict.evidence.canaries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "stage"), [({"fault": "kv_len"}, "attn_out"), ({"fault": "qk_scale", "magnitude": 0.1}, "attn_out")]
)
def test_a_fault_of_the_case(tmp_path: Path, fault: dict[str, Any], stage: str) -> None:
    found = probe(tmp_path, "llama", inject={**fault, "phase": "decode", "layer": 1}).verdict.first_failure
    assert (found.layer, found.stage, found.phase) == (1, stage, "decode")


@pytest.mark.slow
def test_a_static_cache_is_found_to_show_a_row_too_many() -> None:
    """transformers 5.24: the mask keeps the cache's own count of rows, which the cache has moved on by the time that
    flex attention reads it. Where a release hands out a number, all is well."""
    model = small_models.make("llama")
    cache = transformers.StaticCache(config=model.config, max_cache_len=64)
    with torch.inference_mode():
        model(input_ids=torch.tensor([IDS[:4]]), cache=cache)
    moves = cache.get_query_offset() is cache.layers[0].cumulative_length
    settings = RunSettings(canary="off")
    run = greta.probe(
        model, IDS, steps=2, backend={**FLEX, "cache": "static"}, settings=settings
    )  # with a row to spare
    if moves:
        assert (run.verdict.status, run.verdict.scenario) == ("KV_MISMATCH", "KV_MISALIGNMENT")
        found = run.verdict.first_failure
        assert (found.layer, found.stage, found.phase) == (0, "attn_out", "decode")
    else:
        assert run.verdict.status == "PASS", run.verdict


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ModelMissing, match="is compiled by 'no-such-compiler', which is not here") as missing:
        greta.probe(small_models.make("llama"), IDS, backend=FLEX)
    assert missing.value.kind == "extra"
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ModelMissing, match="is compiled by 'g\\+\\+'"):
        greta.probe(small_models.make("llama"), IDS, backend=FLEX)


def test_what_torch_cannot_compile_is_one_message() -> None:
    from torch._inductor.exc import InductorError

    with (
        pytest.raises(BackendError, match=r"torch cannot compile flex_attention here: RuntimeError: first line$"),
        attention.compiled("flex_attention"),
    ):
        raise InductorError(RuntimeError("first line\nsecond"), None)


def test_no_other_form_of_it_is_run_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch gives up compiling, it would go on with another kernel, and only warn."""
    monkeypatch.setattr(attention, "_COMPILATIONS", 1)

    def compile_twice() -> None:
        @torch.compile(backend="eager")
        def double(x: torch.Tensor) -> torch.Tensor:
            return x * 2

        with attention.compiled("flex_attention"):
            double(torch.ones(2))
            double(torch.ones(3))

    with pytest.raises(BackendError, match="torch cannot compile flex_attention here"):
        compile_twice()
