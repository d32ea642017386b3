"""SmolLM2-135M against llama.cpp on an F32 copy of the same weights: tokens exact, last-position logits within 2e-4."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expected import ORACLES, check_producer, load_expected
from safetensors.numpy import save_file

import pytest_greta as greta
from pytest_greta.engine.gguf import load_gguf

TOLERANCE = 2e-4
EXPECTED = load_expected()


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Any:
    return greta.load_model("smollm2-135m")


@pytest.mark.model
def test_expected_values_are_of_these_weights(smollm2: Path) -> None:
    assert load_gguf(smollm2).extras["sha256"] == EXPECTED.weights_sha256


@pytest.mark.model
def test_tokens_are_llama_cpps(smollm2: Path) -> None:
    tokenizer = load_gguf(smollm2).tokenizer
    texts = [*EXPECTED.tokenizer, *(p for p in EXPECTED.prompts.values() if p["text"] is not None)]
    wrong = [entry["text"] for entry in texts if tokenizer.encode(entry["text"]) != entry["ids"]]
    assert len(texts) >= 370
    assert wrong == []


@pytest.mark.model
def test_tokens_decode_to_the_text(smollm2: Path) -> None:
    tokenizer = load_gguf(smollm2).tokenizer
    texts = [entry["text"] for entry in EXPECTED.tokenizer]
    assert [text for text in texts if tokenizer.decode(tokenizer.encode(text)) != text] == []


@pytest.mark.model
@pytest.mark.parametrize("name", EXPECTED.prompts)
def test_logits_are_llama_cpps(model: Any, name: str) -> None:
    prompt = EXPECTED.prompts[name]
    logits = model.logits(prompt["ids"])
    assert logits.dtype == np.float32
    assert logits.shape == (49152,)
    np.testing.assert_allclose(logits[prompt["at"]], np.float32(prompt["logits"]), rtol=0, atol=TOLERANCE)
    assert abs(float(logits.max()) - prompt["max"]) <= TOLERANCE
    assert int(logits.argmax()) == prompt["top"]
    if name in EXPECTED.whole:
        np.testing.assert_allclose(logits, EXPECTED.whole[name], rtol=0, atol=TOLERANCE)


def test_expected_values_cover_what_they_should() -> None:
    lengths = sorted(len(prompt["ids"]) for prompt in EXPECTED.prompts.values())
    assert len(lengths) >= 8
    assert lengths[0] == 1
    assert 550 <= lengths[-1] <= 600
    assert all(len(prompt["at"]) >= 512 for prompt in EXPECTED.prompts.values())
    assert {len(row) for row in EXPECTED.whole.values()} == {49152}
    assert len(EXPECTED.whole) >= 2


@pytest.mark.parametrize("producer", ["pytest-greta", "pytest_greta", "", None])
def test_values_of_our_own_engine_are_refused(tmp_path: Path, producer: str | None) -> None:
    record = json.loads((ORACLES / "smollm2_135m.json").read_text(encoding="utf-8"))
    own = tmp_path / "smollm2_135m.json"
    shutil.copy(ORACLES / "smollm2_135m.safetensors", own.with_suffix(".safetensors"))
    own.write_text(json.dumps(record), encoding="utf-8")
    load_expected(own)
    own.write_text(json.dumps({**record, "producer": producer}), encoding="utf-8")
    with pytest.raises(ValueError, match="producer"):
        load_expected(own)
    own.write_text(json.dumps(record), encoding="utf-8")
    facts = {"producer": str(producer), "version": "1", "weights_sha256": record["weights_sha256"], "date": "today"}
    save_file({"short": np.zeros(2, np.float32)}, own.with_suffix(".safetensors"), facts)
    with pytest.raises(ValueError, match="safetensors: producer"):
        load_expected(own)


@pytest.mark.parametrize("key", ["version", "weights_sha256", "date"])
def test_a_producer_without_its_facts_is_refused(key: str) -> None:
    facts = {"producer": "llama.cpp", "version": "1", "weights_sha256": "0", "date": "today"}
    check_producer(facts, Path("x"))
    with pytest.raises(ValueError, match=key):
        check_producer({**facts, key: ""}, Path("x"))


@pytest.mark.oracle
@pytest.mark.model
def test_live_llama_cpp_on_fresh_prompts(model: Any, smollm2: Path, tmp_path: Path) -> None:
    """``GRETA_ORACLE_PYTHON`` names an interpreter with llama-cpp-python and gguf, where this one has none;
    ``GRETA_ORACLE_SEED`` repeats a run."""
    python = os.environ.get("GRETA_ORACLE_PYTHON", sys.executable)
    if python == sys.executable and not importlib.util.find_spec("llama_cpp"):
        pytest.skip("pip install llama-cpp-python, or name an interpreter that has it in GRETA_ORACLE_PYTHON")
    seed = int(os.environ.get("GRETA_ORACLE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"GRETA_ORACLE_SEED={seed}")
    rng = random.Random(seed)
    texts = runpy.run_path(str(ORACLES / "prompts.py"))
    prompts: list[Any] = [texts["words"](rng, rng.randint(1, 150)) for _ in range(3)]
    prompts += [texts["random_text"](rng, 60), texts["random_text"](rng, 140)]  # a character is at most 4 tokens
    prompts += [[rng.randrange(49152) for _ in range(n)] for n in (rng.randint(2, 599), 600)]
    strings = [texts["random_text"](rng, rng.randint(1, 60)) for _ in range(2000)]
    request, out = tmp_path / "request.json", tmp_path / "out.npz"
    request.write_text(json.dumps({"tokenize": strings, "logits": prompts}), encoding="utf-8")
    subprocess.run([python, str(ORACLES / "llama_cpp_run.py"), str(smollm2), str(request), str(out)], check=True)
    with np.load(out) as answer:
        meta = json.loads(str(answer["meta"]))
        rows = [answer[f"logits_{i}"] for i in range(len(prompts))]
    check_producer(meta, out)
    wrong = [text for text, ids in zip(strings, meta["tokenize"], strict=True) if model.tokenize(text) != ids]
    assert wrong == []
    assert max(map(len, meta["prompts"])) == 600
    worst = []
    for prompt, ids, row in zip(prompts, meta["prompts"], rows, strict=True):
        assert not isinstance(prompt, str) or model.tokenize(prompt) == ids
        worst.append(float(np.abs(model.logits(ids) - row).max()))
    print(f"max |d logit| by prompt: {worst}")
    assert max(worst) <= TOLERANCE
