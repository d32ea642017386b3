"""llama.cpp over small files: healthy runs pass, whatever their logits do; broken ones are found where they are."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_gguf

import pytest_greta as greta
from pytest_greta.backends.base import BackendError, Unsupported
from pytest_greta.engine.store import ModelError, ModelMissing
from pytest_greta.llamacpp import library, watch
from pytest_greta.llamacpp.context import Context
from pytest_greta.llamacpp.plants import Plants
from pytest_greta.llamacpp.state import parse
from tests.docs.pages import table
from tests.llamacpp.small_files import FIELDS, write

pytestmark = pytest.mark.llamacpp

N = 30
IDS = np.random.default_rng(3).integers(tiny_gguf.VOCAB, size=N + 1).tolist()


@pytest.fixture
def f16(tmp_path: Path) -> str:
    return write(tmp_path, "F16")


@pytest.mark.parametrize(("kv_dtype", "attention"), [("f32", "plain"), ("f16", "flash"), ("f16", "plain")])
@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_an_untouched_model_passes(tmp_path: Path, kind: str, kv_dtype: str, attention: str) -> None:
    run = greta.probe(write(tmp_path, kind), IDS, kv_dtype=kv_dtype, backend=attention, steps=2)
    assert run.verdict.status == "PASS", run.verdict
    assert run.verdict.finding == "NONE"
    stages = {check.stage for check in run.result.stages}
    assert {"q_rope", "k_rope", "kv_write", "kv_read", "attn_out", "x_out", "logits"} <= stages
    kernels = {(k["path"], k["kernel"], k["calls"]) for k in run.verdict.evidence.kernels}
    assert kernels == {("full", attention, 2), ("prefix", attention, 2), ("decode", attention, 4)}
    assert {c.outcome for c in run.verdict.evidence.canaries} <= {"found", "skipped"}


@pytest.mark.parametrize("kv_dtype", ["f32", "f16"])
def test_biases_of_qwen2(tmp_path: Path, kv_dtype: str) -> None:
    llama = {key: value for key, value in {**tiny_gguf.FIELDS, **FIELDS}.items() if key.startswith("llama.")}
    fields = {**dict.fromkeys(llama), **{f"qwen2.{key.removeprefix('llama.')}": v for key, v in llama.items()}}
    rng = np.random.default_rng(2)
    widths = {"q": tiny_gguf.HEADS, "k": tiny_gguf.KV_HEADS, "v": tiny_gguf.KV_HEADS}
    biases = {
        f"blk.{i}.attn_{part}.bias": rng.standard_normal(heads * tiny_gguf.HEAD_DIM)
        for i in range(tiny_gguf.LAYERS)
        for part, heads in widths.items()
    }
    run = greta.probe(write(tmp_path, "F16", arch="qwen2", fields=fields, tensors=biases), IDS, kv_dtype=kv_dtype)
    assert run.verdict.status == "PASS", run.verdict


@pytest.mark.parametrize(
    "keys", [{"chunk": 50}, {"q_len": 3, "steps": 6}, {"layers": [1]}, {"lengths": [100]}, {"context": 600}]
)
def test_other_ways_to_the_token(f16: str, keys: dict[str, Any]) -> None:
    ids = np.random.default_rng(4).integers(tiny_gguf.VOCAB, size=140).tolist()
    run = greta.probe(f16, ids, kv_dtype="f16", **keys)
    assert run.verdict.status == "PASS", run.verdict


@pytest.mark.parametrize(
    ("n", "jumps"),
    [
        (30, False),
        (62, False),
        (63, True),
        (64, True),
        (130, True),
        (511, True),
        (512, False),
        (513, False),
        (600, True),
    ],
)
def test_logits_that_jump_are_rounding(f16: str, n: int, jumps: bool) -> None:
    """At 64 tokens flash attention takes another kernel for the prompt, at 512 a prompt goes in pieces."""
    ids = np.random.default_rng(n).integers(tiny_gguf.VOCAB, size=n + 1).tolist()
    run = greta.probe(f16, ids, kv_dtype="f16")
    assert run.verdict.status == "PASS", run.verdict
    full, decode = (run.trace.tap(path, -1, "logits").row(n) for path in ("full", "decode"))
    assert (np.abs(full - decode).max() > 0.01) == jumps
    said = table("docs/llamacpp.md", "Logits that jump")[0][str(n)]
    assert float(said) == pytest.approx(float(np.abs(full - decode).max()), abs=0.02)


@pytest.mark.parametrize("n", [40, 100, 600])
def test_a_cache_row_that_is_wrong_at_any_length(f16: str, n: int) -> None:
    """Whatever the logits do by themselves: one low bit of one element of K."""
    ids = np.random.default_rng(n).integers(tiny_gguf.VOCAB, size=n + 1).tolist()
    found = greta.probe(greta.load_model(f16, between=flipped), ids, kv_dtype="f16").verdict
    assert found.status == "KV_MISMATCH"
    assert (found.first_failure.layer, found.first_failure.stage, found.first_failure.positions) == (1, "kv_read", (7,))


@pytest.mark.parametrize("kv_dtype", ["f32", "f16"])
def test_attention_that_is_wrong_in_a_row_that_no_other_stage_is_looked_at_in(
    f16: str, kv_dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(self: Plants, layer: int, stage: str, values: Any, own: Any = Plants.computed) -> None:
        own(self, layer, stage, values)
        if stage == "attn_out" and len(values) > 11:
            values[11] *= 2

    monkeypatch.setattr(Plants, "computed", computed)
    found = greta.probe(f16, IDS, kv_dtype=kv_dtype).verdict
    assert found.status == "KV_MISMATCH"
    assert (found.first_failure.layer, found.first_failure.stage, found.first_failure.positions) == (
        0,
        "attn_out",
        (11,),
    )


@pytest.mark.parametrize("kv_dtype", ["f32", "f16"])
@pytest.mark.parametrize(
    ("inject", "place", "scenario"),
    [
        ({"fault": "rope_pos", "phase": "decode", "magnitude": 1}, (0, "q_rope", "decode"), "KV_MISALIGNMENT"),
        ({"fault": "rope_pos", "phase": "decode", "layer": 1}, (1, "q_rope", "decode"), "KV_MISALIGNMENT"),
        ({"fault": "kv_slot", "phase": "decode"}, (0, "kv_write", "decode"), "REAL_MISMATCH"),
        ({"fault": "gain", "phase": "decode", "layer": 1, "stage": "kv_write", "magnitude": 1},
         (1, "kv_write", "decode"), "REAL_MISMATCH"),
        ({"fault": "kv_len", "phase": "decode", "layer": 1}, (1, "attn_out", "decode"), "KV_MISALIGNMENT"),
        ({"fault": "gqa_map", "phase": "prefill"}, (0, "attn_out", "prefill"), "REAL_MISMATCH"),
        ({"fault": "w_route", "phase": "prefill", "layer": 1}, (1, "q_proj", "prefill"), "REAL_MISMATCH"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found_where_it_is(
    f16: str, inject: dict[str, Any], place: tuple[int, str, str], scenario: str, kv_dtype: str
) -> None:
    verdict = greta.probe(f16, IDS, kv_dtype=kv_dtype, inject=inject).verdict
    assert (verdict.status, verdict.scenario) == ("KV_MISMATCH", scenario)
    found = verdict.first_failure
    assert found is not None
    assert (found.layer, found.stage, found.phase) == place


def flipped(context: Context) -> None:
    """The sequence's state taken back with another bit in layer 1's K of row 7."""
    raw = bytearray(context.state())
    state = parse(bytes(raw))
    raw[state.at_k[1] + 7 * state.k[1].shape[1] * 2] ^= 1
    context.set_state(bytes(raw))


def other_base(context: Context) -> Context:
    """Decode in another context, whose RoPE has another base."""
    other = context.again(rope_freq_base=40000.0)
    other.set_state(context.state())
    return other


def shifted(context: Context) -> None:
    """As a context shift that nobody meant: all rows but the last are turned on by one position."""
    context.shift(0, len(parse(context.state()).positions) - 1, 1)


@pytest.mark.parametrize(
    ("between", "layer", "stage", "positions"),
    [(flipped, 1, "kv_read", (7,)), (other_base, 0, "q_rope", (N,)), (shifted, 0, "kv_read", None)],
)
def test_what_goes_wrong_between_prefill_and_decode(
    f16: str, between: Callable[[Context], Context | None], layer: int, stage: str, positions: tuple[int, ...] | None
) -> None:
    model = greta.load_model(f16, between=between)
    found = greta.probe(model, IDS, kv_dtype="f16").verdict
    assert found.status == "KV_MISMATCH", found
    assert found.first_failure is not None
    assert (found.first_failure.layer, found.first_failure.stage) == (layer, stage)
    assert positions is None or found.first_failure.positions == positions


def test_a_cache_that_is_handed_over_is_healthy(f16: str) -> None:
    def handed_over(context: Context) -> Context:
        other = context.again()
        other.set_state(context.state())
        return other

    run = greta.probe(greta.load_model(f16, between=handed_over), IDS, kv_dtype="f16")
    assert run.verdict.status == "PASS", run.verdict


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"dtype": "bf16"}, "dtype f32, not bf16"),
        ({"kv_dtype": "bf16"}, "kv_dtype f32, f16, not bf16"),
        ({"page_size": 16}, "page_size cannot be asked"),
        ({"backend": {"cache": "static"}}, "has the key attention, not cache"),
        ({"backend": "eager"}, "attention 'eager' of llama.cpp"),
        ({"backend": "flash"}, "copies an f32 cache into f16"),
        ({"inject": {"fault": "kv_stale", "phase": "decode"}}, "cannot be planted"),
    ],
)
def test_what_llama_cpp_cannot_be_asked(f16: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        greta.probe(f16, IDS, **keys)


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights of the types BF16, for whose products in llama.cpp there is no"):
        greta.load_model(write(tmp_path, "BF16"))


def test_another_model_takes_nothing_between() -> None:
    with pytest.raises(ModelError, match=r"not one of llama.cpp"):
        greta.load_model("synthetic", between=flipped)


def test_another_release_is_not_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_opened", library._opened.__wrapped__)
    monkeypatch.setattr(library, "RELEASES", ("1",))
    with pytest.raises(ModelMissing, match=r"is not a release whose llama.cpp is known here; known: 1"):
        library.library("llamacpp:x.gguf")


@pytest.mark.parametrize(
    ("known", "field", "value"),
    [
        (library._CONTEXT, "n_ubatch", 4096),
        (library._CONTEXT, "n_samplers", 1),
        (library._MODEL, "n_gpu_layers", 0),
        (library._MODEL, "load_mtp", 1),
        (library._MODEL, "kv_overrides", 1),
    ],
)
def test_structs_laid_out_otherwise_are_not_trusted(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], field: str, value: int
) -> None:
    monkeypatch.setattr(library, "_opened", library._opened.__wrapped__)
    monkeypatch.setitem(known, field, value)
    with pytest.raises(ModelMissing, match=f"does not lay out {field}"):
        library.library("llamacpp:x.gguf")


@pytest.mark.parametrize(
    ("struct", "field"),
    [("llama_model_params", "vocab_only"), ("llama_model_params", "n_gpu_layers"), ("llama_context_params", "type_k")],
)
def test_a_struct_with_a_field_more_is_not_trusted(monkeypatch: pytest.MonkeyPatch, struct: str, field: str) -> None:
    """As another release might have it: what stands behind the new field is read eight bytes too far on."""
    kind = {"vocab_only": "bool", "n_gpu_layers": "int32_t", "type_k": "int"}[field]
    first = f"{kind} {field}"
    declared = library._DECLARATIONS.replace(first, f"int64_t new_one; {first}", 1)
    assert declared != library._DECLARATIONS
    monkeypatch.setattr(library, "_opened", library._opened.__wrapped__)
    monkeypatch.setattr(library, "_DECLARATIONS", declared)
    with pytest.raises(ModelMissing, match="does not lay out"):
        library.library("llamacpp:x.gguf")


def test_the_table_says_where_each_stage_is() -> None:
    said = {row["stage"].strip("`"): row["node"] for row in table("docs/llamacpp.md", "What is traced")}
    for (node, op), stage in {**watch.OUTSIDE, **watch.STAGES}.items():
        if stage != "attn_out":
            assert said.pop(stage) == f"`{node}` {op}"
    assert set(said) == {"x_in", "kv_write", "kv_read", "attn_out", "o_proj"}


def test_a_state_of_another_layout() -> None:
    with pytest.raises(BackendError, match="magic 1 at byte 4 of 8"):
        parse(struct.pack("<2I", 1, 0))
    with pytest.raises(BackendError, match="end at byte 4 of 4"):
        parse(struct.pack("<I", 0xAF143CD8))


def test_the_plugin_runs_a_file(f16: str, pytester: pytest.Pytester) -> None:
    suite = f"suite: llama\ndefaults: {{model: '{f16}', kv_dtype: f16}}\n"
    pytester.makefile(".greta.yaml", own=f"{suite}cases:\n- {{id: one, token_ids: [7, 1, 99, 5, 23, 8]}}\n")
    result = pytester.runpytest("-q")
    result.assert_outcomes(passed=1)
