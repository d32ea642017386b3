"""llama.cpp over quantised files: healthy in every type and at every length, and faults found where they are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_gguf

import pytest_greta as greta
from pytest_greta.engine.gguf_blocks import minima_of, stored_types
from pytest_greta.llamacpp import run
from pytest_greta.llamacpp.numerics import BLOCKS
from pytest_greta.llamacpp.plants import Plants
from tests.docs.pages import table
from tests.llamacpp.small_files import by_llama_cpp, write, write_wide

pytestmark = pytest.mark.llamacpp

OF_32 = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
SMOLLM2 = "llamacpp:smollm2-135m"
IDS = np.random.default_rng(3).integers(tiny_gguf.VOCAB, size=31).tolist()


def ids(n: int) -> list[int]:
    return np.random.default_rng(n).integers(tiny_gguf.VOCAB, size=n + 1).tolist()


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("kv_dtype", "attention"), [("f32", "plain"), ("f16", "flash"), ("f16", "plain")])
def test_an_untouched_file_passes(tmp_path: Path, kind: str, kv_dtype: str, attention: str) -> None:
    model = (write if kind in OF_32 else write_wide)(tmp_path, kind)
    probed = greta.probe(model, IDS, kv_dtype=kv_dtype, backend=attention, steps=2)
    assert probed.verdict.status == "PASS", probed.verdict
    assert {c.outcome for c in probed.verdict.evidence.canaries} <= {"found", "skipped"}
    assert probed.result.roundings["model"]["dot_blocks"] is True


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q4_K", "Q6_K"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 100, 512, 600])
def test_every_length_passes(tmp_path: Path, kind: str, n: int) -> None:
    """Repacked weights take rows by four and the rest one by one, K-quants other kernels from 8 rows on."""
    model = (write if kind in OF_32 else write_wide)(tmp_path, kind)
    probed = greta.probe(model, ids(n), kv_dtype="f16")
    assert probed.verdict.status == "PASS", probed.verdict


ROWS = {
    name.strip(): row["rows of a call from which on another kernel shows"]
    for row in table("docs/llamacpp.md", "Quantised files")
    for name in row.get("weights", "").split(",")
    if name
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_from_how_many_rows_on_another_kernel_runs(tmp_path: Path, kind: str) -> None:
    """Row 0 of a prompt, whose input is the same at every length: its bytes as the page says, and the verdict."""
    rows = 0 if ROWS[kind].startswith("none") else int(ROWS[kind])
    model = (write if kind in OF_32 else write_wide)(tmp_path, kind)
    first, tokens = [], ids(40)
    for n in (1, 2, 3, 6, 7, 33):
        probed = greta.probe(model, tokens[: n + 1], kv_dtype="f16")
        assert probed.verdict.status == "PASS", probed.verdict
        first.append((n + 1, probed.trace.tap("full", 0, "q_proj").row(0).tobytes()))
    alone = first[0][1]
    assert [n for n, found in first if found != alone] == [n for n, _ in first if rows and n >= rows]


@pytest.mark.parametrize("keys", [{"chunk": 50}, {"q_len": 3, "steps": 6}, {"layers": [1]}])
def test_other_ways_to_the_token(tmp_path: Path, keys: dict[str, Any]) -> None:
    probed = greta.probe(write(tmp_path, "Q4_0"), ids(140), kv_dtype="f16", **keys)
    assert probed.verdict.status == "PASS", probed.verdict


def test_a_file_of_several_types(tmp_path: Path) -> None:
    """As llama-quantize makes them: each matrix by the blocks of its own type."""
    kinds = {"ffn_down.weight": "Q6_K", "token_embd.weight": "Q8_0", "attn_v.weight": "F16", "attn_q.weight": "Q5_1"}
    model = write_wide(tmp_path, "Q4_K", kinds=kinds)
    stored = stored_types(Path(model.removeprefix("llamacpp:")), "several")
    assert sorted(set(stored.types.values())) == ["F16", "Q4_K", "Q5_1", "Q6_K", "Q8_0"]
    assert stored.types["lm_head"] == "Q8_0"
    assert greta.probe(model, IDS, kv_dtype="f16").verdict.status == "PASS"


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q4_K"])
@pytest.mark.parametrize(
    ("inject", "place", "scenario"),
    [
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
    tmp_path: Path, kind: str, inject: dict[str, Any], place: tuple[int, str, str], scenario: str
) -> None:
    model = (write if kind in OF_32 else write_wide)(tmp_path, kind)
    verdict = greta.probe(model, IDS, kv_dtype="f16", inject=inject).verdict
    assert (verdict.status, verdict.scenario) == ("KV_MISMATCH", scenario)
    found = verdict.first_failure
    assert found is not None
    assert (found.layer, found.stage, found.phase) == place


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q4_K", "Q6_K"])
@pytest.mark.parametrize("stage", ["k_proj", "o_proj", "gate_proj", "down_proj"])
def test_a_small_gain_of_a_product_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stage: str
) -> None:
    """A thousandth: far below what the activation's rounding changes."""

    def computed(self: Plants, layer: int, at: str, values: Any, own: Any = Plants.computed) -> None:
        own(self, layer, at, values)
        if (layer, at) == (1, stage):
            values *= np.float32(1.001)

    monkeypatch.setattr(Plants, "computed", computed)
    model = (write if kind in OF_32 else write_wide)(tmp_path, kind)
    verdict = greta.probe(model, IDS, kv_dtype="f16").verdict
    assert verdict.status == "KV_MISMATCH"
    assert verdict.first_failure is not None
    assert (verdict.first_failure.layer, verdict.first_failure.stage) == (1, stage)


@pytest.mark.parametrize(("kind", "of_block"), [("Q4_0", 0), ("Q4_1", 2), ("Q8_0", 5), ("Q4_K", 2)])
def test_weights_that_are_not_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, of_block: int
) -> None:
    """llama.cpp is given a file in which a byte of one block of layer 1's K matrix is another: a step, a minimum, an
    element."""
    model = (write if kind in OF_32 else write_wide)(tmp_path, kind)
    path = Path(model.removeprefix("llamacpp:"))
    other = shutil.copy(path, tmp_path / "other.gguf")
    (matrix,) = (t for t in gguf.GGUFReader(path).tensors if t.name == "blk.1.attn_k.weight")
    raw = bytearray(path.read_bytes())
    raw[matrix.data_offset + of_block] ^= 0x40
    Path(other).write_bytes(raw)
    own = run._Run.__init__

    def init(self: Any, subject: Any, plan: Any) -> None:
        own(self, replace(subject, path=str(other)), plan)

    monkeypatch.setattr(run._Run, "__init__", init)
    verdict = greta.probe(model, IDS, kv_dtype="f16").verdict
    assert verdict.status == "KV_MISMATCH"
    assert verdict.first_failure is not None
    assert (verdict.first_failure.layer, verdict.first_failure.stage) == (1, "k_proj")


@pytest.mark.parametrize("kind", BLOCKS)
def test_minima_are_what_an_element_of_no_steps_is(kind: str) -> None:
    """An oracle of its own: with random blocks, the least that any element's value can be is its minimum, or the steps
    count from both sides of 0 and there is none."""
    rng = np.random.default_rng(5)
    values = rng.standard_normal((4, 512)).astype(np.float32) + 3
    raw = by_llama_cpp(values, gguf.GGMLQuantizationType[kind])
    least = minima_of(raw, kind)
    assert (least is None) == (kind not in ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"))
    if least is not None:
        whole = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind]).reshape(*least.shape, -1)
        above = whole - least[..., None]
        step = np.where(above > 1e-6, above, np.inf).min(axis=-1, keepdims=True)
        steps = np.where(np.isfinite(step), above / step, 0)
        assert (above >= -1e-6).all()
        assert (above.max(axis=-1) > 0).any()
        assert steps.max() <= 2 ** int(kind[1]) - 1 + 1e-3


@pytest.mark.model
@pytest.mark.parametrize("n", [16, 100, 513])
def test_smollm2_as_it_is_pulled(n: int) -> None:
    tokens = np.random.default_rng(n).integers(49152, size=n + 1).tolist()
    probed = greta.probe(SMOLLM2, tokens, kv_dtype="f16", layers=[0, 14, 29])
    assert probed.verdict.status == "PASS", probed.verdict


@pytest.mark.model
def test_smollm2_with_a_fault() -> None:
    tokens = np.random.default_rng(1).integers(49152, size=101).tolist()
    inject = {"fault": "rope_pos", "phase": "decode", "layer": 14}
    found = greta.probe(SMOLLM2, tokens, kv_dtype="f16", layers=[0, 14, 29], inject=inject).verdict.first_failure
    assert found is not None
    assert (found.layer, found.stage, found.phase) == (14, "q_rope", "decode")
