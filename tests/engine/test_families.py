"""Every family that a GGUF may hold, run by our engine, against transformers on the same small random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pytest_greta as greta

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("own_cache")]

LONG = 40
"""Tokens: more than a window, so that it matters."""


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_logits_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    hf_gguf = pytest.importorskip("hf_gguf")
    import torch

    model = hf_gguf.make(family)
    hf_gguf.write(model, family, tmp_path / "m.gguf")
    ids = np.random.default_rng(5).integers(hf_gguf.VOCAB, size=LONG).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    ours = greta.load_model(str(tmp_path / "m.gguf"))
    size = float(np.abs(expected).max())
    for count in (1, 5, LONG):
        got = ours.logits(ids[:count])
        worst = float(np.abs(got - expected[count - 1]).max())
        print(f"{family}: {count} tokens, max |d| {worst:.1e} of {size:.2f}")
        assert worst < 1e-5 * size
    assert np.abs(expected[LONG - 1] - expected[5]).max() > 1e-2 * size


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_probe_of_a_gemma_by_its_own_forward_pass_passes(tmp_path: Path, family: str, dtype: str) -> None:
    """transformers takes the 1 off the norms as they are stored, and so must the weights that it is held to."""
    hf_gguf = pytest.importorskip("hf_gguf")
    pytest.importorskip("accelerate", reason="pip install accelerate")
    hf_gguf.write(hf_gguf.make(family), family, tmp_path / "m.gguf")
    ids = np.random.default_rng(5).integers(hf_gguf.VOCAB, size=LONG).tolist()
    run = greta.probe(f"transformers:{tmp_path / 'm.gguf'}", ids, dtype=dtype)
    assert run.verdict.status == "PASS", run.verdict.first_failure


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "gemma2", "gemma3"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_probe_of_it_passes(tmp_path: Path, family: str, dtype: str) -> None:
    hf_gguf = pytest.importorskip("hf_gguf")
    hf_gguf.write(hf_gguf.make(family), family, tmp_path / "m.gguf")
    ids = np.random.default_rng(5).integers(hf_gguf.VOCAB, size=LONG).tolist()
    run = greta.probe(greta.load_model(str(tmp_path / "m.gguf")), ids, mode="kv_aligned", backend="cpu", dtype=dtype)
    assert run.verdict.status == "PASS", run.verdict.first_failure
