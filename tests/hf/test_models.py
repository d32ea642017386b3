"""Healthy models of every architecture pass, untouched, in every type, with both attentions and both caches."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch
import transformers

import pytest_greta as greta
from pytest_greta import cli
from pytest_greta.backends.base import Unsupported
from pytest_greta.checks.reference import gelu_in_steps
from pytest_greta.checks.rounding import error
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.store import ModelError, ModelMissing, find_model
from pytest_greta.hf import numerics
from pytest_greta.hf.families import FAMILIES, Site
from pytest_greta.pytorch.arrays import to_numpy, to_torch
from pytest_greta.settings import RunSettings
from tests.docs.pages import table

pytestmark = pytest.mark.transformers

IDS = np.random.default_rng(5).integers(small_models.VOCAB, size=34).tolist()
"""More than two windows."""
CELLS = [
    ("llama", "f32", "eager", "dynamic"),
    ("llama", "f32", "sdpa", "static"),
    ("llama", "bf16", "sdpa", "dynamic"),
    ("llama", "f16", "sdpa", "static"),
    ("llama", "bf16", "eager", "static"),
    ("mistral", "f32", "sdpa", "static"),
    ("mistral", "bf16", "sdpa", "dynamic"),
    ("mistral", "f16", "eager", "dynamic"),
    ("qwen2", "f32", "sdpa", "dynamic"),
    ("qwen2", "bf16", "eager", "dynamic"),
    ("qwen2", "f16", "sdpa", "dynamic"),
    ("qwen3", "f32", "eager", "static"),
    ("qwen3", "bf16", "sdpa", "dynamic"),
    ("qwen3", "f16", "sdpa", "dynamic"),
    ("gemma2", "f32", "eager", "dynamic"),
    ("gemma2", "bf16", "eager", "static"),
    ("gemma2", "f16", "eager", "dynamic"),
    ("gemma3", "f32", "sdpa", "dynamic"),
    ("gemma3", "bf16", "sdpa", "static"),
    ("gemma3", "f16", "eager", "static"),
    ("gpt2", "f32", "eager", "static"),
    ("gpt2", "f32", "sdpa", "dynamic"),
    ("gpt2", "bf16", "eager", "dynamic"),
    ("gpt2", "bf16", "sdpa", "static"),
    ("gpt2", "f16", "eager", "dynamic"),
    ("gpt2", "f16", "sdpa", "static"),
]


@pytest.mark.parametrize(("family", "dtype", "attention", "cache"), CELLS)
def test_an_untouched_model_passes(tmp_path: Path, family: str, dtype: str, attention: str, cache: str) -> None:
    name = small_models.save(small_models.make(family), tmp_path)
    run = greta.probe(name, IDS, dtype=dtype, steps=2, backend={"attention": attention, "cache": cache})
    assert run.verdict.status == "PASS", run.verdict
    assert run.verdict.finding == "NONE"
    stages = {check.stage for check in run.result.stages}
    assert {"q_rope", "k_rope", "kv_write", "kv_read", "attn_out", "x_out", "logits"} <= stages
    kernels = {(k["path"], k["kernel"], k["calls"]) for k in run.verdict.evidence.kernels}
    assert kernels == {
        ("full", attention, 2),
        ("prefix", attention, 2),
        ("decode", attention, 4),
        ("aligned", attention, 2),
    }


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_the_gelu_of_transformers_stays_within_in_every_value(dtype: str) -> None:
    """``gelu_new`` as it is, over all finite values of the type, with what is declared of the model."""
    act = DTYPES[dtype]
    x = np.arange(1 << 16, dtype=np.uint16).view(act.numpy)
    x = x[np.isfinite(x.astype(np.float32))]
    y = to_numpy(transformers.activations.ACT2FN["gelu_new"](to_torch(x)))
    reference = gelu_in_steps(x, act, numerics.model(FAMILIES["gpt2"], dtype))
    wrong, _ = error(reference.y, y, act)
    assert (wrong <= reference.b1).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "relu"),
        ("scale_attn_by_inverse_layer_idx", True),
        ("reorder_and_upcast_attn", True),
        ("add_cross_attention", True),
    ],
)
def test_a_part_of_gpt2_without_a_reference(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=f"{key} is {value!r}, for which there is no reference"):
        greta.load_model(small_models.make("gpt2", **{key: value}))


@pytest.mark.parametrize("own", [{"n_inner": 96, "tie_word_embeddings": False}, {"scale_attn_weights": False}])
def test_gpt2_with_options_of_its_own(tmp_path: Path, own: dict[str, object]) -> None:
    name = small_models.save(small_models.make("gpt2", **own), tmp_path)
    assert greta.probe(name, IDS).verdict.status == "PASS"


def test_a_canary_that_cannot_show_in_one_layer_is_looked_for_in_another(tmp_path: Path) -> None:
    """Logits that are not scaled leave the newest key of layer 0 without any weight: leaving it out changes nothing."""
    own = {"n_inner": 96, "tie_word_embeddings": False, "scale_attn_weights": False}
    name = small_models.save(small_models.make("gpt2", **own), tmp_path)
    run = greta.probe(name, IDS, settings=RunSettings(canary="on"))
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE")
    outcomes = {c.fault: c.outcome for c in run.verdict.evidence.canaries}
    assert outcomes == {**dict.fromkeys(outcomes, "found"), "rope_pos": "skipped"}


def test_the_canary_is_found(tmp_path: Path) -> None:
    name = small_models.save(small_models.make("mistral", num_hidden_layers=6), tmp_path)
    run = greta.probe(name, IDS, backend="sdpa", settings=RunSettings(canary="on"))
    assert {c.outcome for c in run.verdict.evidence.canaries} == {"found"}, run.verdict.evidence.canaries
    assert len(run.verdict.evidence.canaries) == 6


def test_the_plugin_runs_a_folder(tmp_path: Path) -> None:
    """In a process of its own: pytester forgets modules that torch cannot be asked to import again."""
    name = small_models.save(small_models.make("llama"), tmp_path / "model")
    suite = "suite: hf\ncases:\n- {id: one, token_ids: [7, 1, 99, 5, 23, 8]}\n- {id: two, prompt: Hi}\n"
    (tmp_path / "hf.greta.yaml").write_text(suite)
    given = ["-m", "kv_aligned", f"--greta-model={name}", "--greta-lang=en", "-p", "no:cacheprovider", "hf.greta.yaml"]
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "comes without a tokenizer" in done.stdout


def test_a_stored_trace_is_judged_again(tmp_path: Path) -> None:
    """By what the model declares beyond attention, too, and without the lse that it has not."""
    name = small_models.save(small_models.make("llama"), tmp_path / "model")
    suite = "suite: hf\ncases:\n- {id: one, token_ids: [7, 1, 99, 5, 23, 8], dtype: bf16}\n"
    (tmp_path / "hf.greta.yaml").write_text(suite)
    run = ["-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider", f"--greta-model={name}"]
    more = ["hf.greta.yaml", "--greta-artifacts=out", "--greta-trace=full"]
    analyze = ["-m", "pytest_greta.cli", "analyze", "--mode=kv_aligned", "--output=r.md", f"--model={name}"]
    done = subprocess.run([sys.executable, *run, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (traces,) = tmp_path.glob("out/*/hf/traces")
    whole = [sys.executable, *analyze, f"--traces-dir={traces}"]
    done = subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    model = small_models.make("qwen3").to(torch.bfloat16)
    before = model.config._attn_implementation
    run = greta.probe(model, IDS)
    # .to() rounds RoPE's frequencies too, which from_pretrained(dtype=...) does not
    assert (run.verdict.status, run.verdict.first_failure.stage) == ("KV_MISMATCH", "q_rope")
    assert "not independent" in run.verdict.evidence.weights
    assert model.config._attn_implementation == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert greta.probe(small_models.make("qwen3"), IDS).verdict.status == "PASS"


def test_messages() -> None:
    model = small_models.make("llama")
    with pytest.raises(ModelError, match=r"training mode.*model\.eval\(\)"):
        greta.load_model(model.train())
    model.eval()
    with pytest.raises(ModelError, match="is on meta; expected cpu"):
        greta.load_model(small_models.make("llama").to("meta"))
    with pytest.raises(ModelError, match="no output matrix"):
        greta.load_model(model.model)
    with pytest.raises(ModelError, match="not a model of transformers"):
        greta.load_model(torch.nn.Linear(2, 2).eval())
    bert = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    with pytest.raises(ModelError, match=r"architecture 'bert'.*expected one of: llama"):
        greta.load_model(transformers.AutoModelForMaskedLM.from_config(bert).eval())
    with pytest.raises(Unsupported, match="loaded in f32, not in bf16"):
        greta.probe(model, IDS, dtype="bf16")
    with pytest.raises(Unsupported, match="attention 'flash_attention_2' needs flash-attn"):
        greta.probe(model, IDS, backend={"attention": "flash_attention_2"})
    with pytest.raises(Unsupported, match="attention 'paged' of transformers cannot be traced"):
        greta.probe(model, IDS, backend={"attention": "paged"})
    with pytest.raises(Unsupported, match="page_size cannot be asked"):
        greta.probe(model, IDS, page_size=16)
    with pytest.raises(ModelMissing, match="no folder '/nowhere'"):
        greta.load_model("transformers:/nowhere")


def test_an_unknown_cache() -> None:
    class Foreign(transformers.DynamicCache):
        layers = ()

        def __init__(self, config: object) -> None: ...

    with pytest.raises(Unsupported, match="Foreign cannot be read back"):
        greta.probe(greta.load_model(small_models.make("llama"), cache=Foreign), IDS)


QUANTISED = [
    pytest.param("quanto", marks=pytest.mark.skipif(not importlib.util.find_spec("optimum"), reason="optimum-quanto")),
    pytest.param("hqq", marks=pytest.mark.skipif(not importlib.util.find_spec("hqq"), reason="hqq")),
    "fp8",
]


@pytest.mark.parametrize("cache", QUANTISED)
@pytest.mark.parametrize(("family", "dtype"), [("llama", "f32"), ("qwen3", "bf16"), ("gpt2", "f16")])
def test_a_quantised_cache(tmp_path: Path, family: str, dtype: str, cache: str) -> None:
    """The rows that decode is given are within what the cache does to them; attention is judged from those rows."""
    own = {} if family == "gpt2" else {"head_dim": 32}
    name = small_models.save(small_models.make(family, **own), tmp_path)
    settings = RunSettings(canary="on")
    run = greta.probe(name, IDS, dtype=dtype, steps=3, backend={"cache": cache}, settings=settings)
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict.first_failure
    assert {c.outcome for c in run.verdict.evidence.canaries} <= {"found", "skipped"}
    (way,) = (way for way in run.verdict.evidence.ways if way["way"].startswith("cache"))
    assert way["name"] == cache
    read = [check.rho for check in run.result.stages if check.stage == "kv_read"]
    assert 0.3 < max(read) <= 1.0, "rounded, and no farther than that"


def test_what_a_quantised_cache_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mistral = small_models.make("llama"), small_models.make("mistral")
    with pytest.raises(Unsupported, match="a later chunk the rows of earlier ones rounded"):
        greta.probe(model, IDS, backend={"cache": "fp8"}, chunk=8)
    with pytest.raises(Unsupported, match="no cache 'fp8' for this model"):
        greta.probe(mistral, IDS, backend={"cache": "fp8"})
    known = "dynamic, static, quanto, hqq, fp8"
    with pytest.raises(Unsupported, match=f"cache 'kivi' cannot be traced; those that can: {known}"):
        greta.probe(model, IDS, backend={"cache": "kivi"})
    for name, package, asks in (
        ("quanto", "optimum-quanto", "is_optimum_quanto_available"),
        ("hqq", "hqq", "is_hqq_available"),
    ):
        monkeypatch.setattr(transformers.cache_utils, asks, lambda: False)
        with pytest.raises(ModelMissing, match=f"needs the package '{package}'") as missing:
            greta.probe(model, IDS, backend={"cache": name})
        assert missing.value.mend == f"pip install {package}"


def test_a_pathlib_path(tmp_path: Path) -> None:
    name = small_models.save(small_models.make("llama"), tmp_path)
    assert greta.load_model(tmp_path).name == name
    with pytest.raises(ModelMissing, match="absent"):
        greta.load_model(tmp_path / "absent.gguf")


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_smollm2_by_its_gguf(dtype: str) -> None:
    """transformers dequantises it, our own reader says what the weights are, byte for byte."""
    pytest.importorskip("accelerate", reason="pip install accelerate")
    run = greta.probe("transformers:smollm2-135m", list(range(100, 124)), dtype=dtype, layers=[0, 29])
    assert (run.verdict.status, run.verdict.finding) == ("PASS", "NONE"), run.verdict
    assert run.verdict.evidence.weights.startswith("gguf sha256:b179c95")


@pytest.mark.model
def test_a_gguf_without_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModelMissing, match="needs the package 'accelerate'") as missing:
        greta.load_model(f"transformers:{find_model('smollm2-135m')}")
    assert missing.value.mend == "pip install gguf accelerate"


def test_what_greta_model_says_of_gpt2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = small_models.save(small_models.make("gpt2", layer_norm_epsilon=3e-6), tmp_path)
    assert cli.main(["model", "info", name]) == 0
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()}
    assert said["positions / posiciones"] == "learned / aprendidas"
    assert said["LayerNorm eps"] == "3e-06"
    assert not {"RMS eps", "RoPE"} & set(said)


def test_tied_weights(tmp_path: Path) -> None:
    name = small_models.save(small_models.make("llama", tie_word_embeddings=True), tmp_path)
    assert greta.probe(name, IDS).verdict.status == "PASS"


def test_the_table_of_the_docs_is_the_code_s() -> None:
    columns = {
        "Llama, SmolLM2, Mistral, Qwen2": "llama",
        "Qwen3": "qwen3",
        "Gemma 2": "gemma2",
        "Gemma 3": "gemma3_text",
        "GPT-2": "gpt2",
    }
    rows = table("docs/transformers.md", "What is traced")
    assert FAMILIES["llama"].layer == FAMILIES["mistral"].layer == FAMILIES["qwen2"].layer
    for title, name in columns.items():
        family = FAMILIES[name]
        sites = {**family.layer, **family.outside}
        said = {row["stage"].strip("`"): row[title].strip() for row in rows if row[title].strip()}
        assert said == {stage: _said(site) for stage, site in sites.items()}


def _said(site: Site) -> str:
    part = "" if site.part is None else f", third {site.part + 1}"
    return f"`{site.module or 'the layer'}` {site.side}{part}"
