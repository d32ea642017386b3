"""GGUF files: what is in them comes back, and whatever is wrong with one is said in one clear line."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_gguf import FFN, HEAD_DIM, HEADS, KV_HEADS, LAYERS, OURS, VOCAB, WIDTH, shapes, write_gguf

from pytest_greta.engine.gguf import load_gguf
from pytest_greta.engine.store import ModelError, ModelMissing

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
def test_every_tensor_comes_back_under_our_name(tmp_path: Path, kind: str, tied: bool) -> None:
    expected = write_gguf(tmp_path / "m.gguf", kind, tied)
    source = load_gguf(tmp_path / "m.gguf")
    names = {"embed": "token_embd.weight", "final_norm": "output_norm.weight"}
    names["lm_head"] = "token_embd.weight" if tied else "output.weight"
    for i in range(LAYERS):
        names |= {f"layers.{i}.{ours}": f"blk.{i}.{theirs}" for ours, theirs in OURS.items()}
    for ours, theirs in names.items():
        weight = source.weights[ours]
        assert weight.dtype == np.float32
        assert not weight.flags.writeable
        np.testing.assert_array_equal(weight, expected[theirs], err_msg=ours)
    assert np.shares_memory(source.weights["lm_head"], source.weights["embed"]) is tied
    assert source.extras["tied"] is tied
    assert "layers.2.q" not in source.weights


def test_hyper_parameters_are_the_files(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    source = load_gguf(tmp_path / "m.gguf")
    c = source.config
    assert (c.n_layers, c.width, c.ffn_width, c.n_heads, c.n_kv_heads) == (LAYERS, WIDTH, FFN, HEADS, KV_HEADS)
    assert (c.head_dim_qk, c.head_dim_v, c.vocab, c.context, c.softmax_scale) == (HEAD_DIM, HEAD_DIM, VOCAB, 512, 0.25)
    assert c.rms_eps == np.float32(1e-5)
    assert len(c.layers) == LAYERS
    assert {(p.rope_base, p.rope_style, p.rotary_dim, p.rope_factors) for p in c.layers} == {
        (50000.0, "interleaved", HEAD_DIM, None)
    }
    assert source.name == "tiny"
    assert source.origin.startswith("gguf sha256:")
    assert source.origin.endswith(" m.gguf")
    assert source.extras["licence"] == "mit"
    # The same from the cache, where the lists of JSON have to become tuples again.
    assert load_gguf(tmp_path / "m.gguf").config == c


def test_rope_factors_and_linear_scaling(tmp_path: Path) -> None:
    factors = np.linspace(1, 8, HEAD_DIM // 2)
    write_gguf(tmp_path / "a.gguf", tensors={"rope_freqs.weight": factors})
    for _ in range(2):
        config = load_gguf(tmp_path / "a.gguf").config
        assert config.layers[1].rope_factors == tuple(factors.astype(np.float32).tolist())
    write_gguf(tmp_path / "b.gguf", fields={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0})
    assert load_gguf(tmp_path / "b.gguf").config.layers[0].rope_factors == (4.0,) * (HEAD_DIM // 2)


def test_biases_and_unequal_head_widths(tmp_path: Path) -> None:
    extra: dict[str, Any] = {}
    for i in range(LAYERS):
        extra[f"blk.{i}.attn_q.bias"] = np.arange(HEADS * HEAD_DIM)
        extra[f"blk.{i}.attn_k.bias"] = np.arange(KV_HEADS * HEAD_DIM)
        extra[f"blk.{i}.attn_v.bias"] = np.arange(KV_HEADS * 32)
        extra[f"blk.{i}.attn_v.weight"] = np.ones((KV_HEADS * 32, WIDTH))
        extra[f"blk.{i}.attn_output.weight"] = np.ones((WIDTH, HEADS * 32))
    fields = {"llama.attention.key_length": HEAD_DIM, "llama.attention.value_length": 32}
    write_gguf(tmp_path / "m.gguf", tensors=extra, fields=fields)
    source = load_gguf(tmp_path / "m.gguf")
    assert source.config.qkv_bias
    assert (source.config.head_dim_qk, source.config.head_dim_v) == (HEAD_DIM, 32)
    np.testing.assert_array_equal(source.weights["layers.1.v_bias"], np.arange(64))


def _nan(shape: tuple[int, ...], at: tuple[int, ...], value: float = np.nan) -> np.ndarray:
    array = np.ones(shape)
    array[at] = value
    return array


BAD: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "arch": ("arch", {"arch": "mamba"}, ("'mamba'", "one of: llama")),
    "no_layers_key": ("hyper-parameter", {"fields": {"llama.block_count": None}}, ("llama.block_count is missing",)),
    "no_eps": (
        "hyper-parameter",
        {"fields": {"llama.attention.layer_norm_rms_epsilon": None}},
        ("rms_epsilon is miss",),
    ),
    "text_eps": (
        "hyper-parameter",
        {"fields": {"llama.attention.layer_norm_rms_epsilon": "x"}},
        ("rms_epsilon is 'x'",),
    ),
    "inf_base": ("hyper-parameter", {"fields": {"llama.rope.freq_base": float("inf")}}, ("freq_base", "positive")),
    "no_heads": ("hyper-parameter", {"fields": {"llama.attention.head_count": 0}}, ("head_count is '0'", "positive")),
    "kv_heads": ("hyper-parameter", {"fields": {"llama.attention.head_count_kv": 3}}, ("head_count_kv", "divisor of")),
    "rotary": ("hyper-parameter", {"fields": {"llama.rope.dimension_count": 18}}, ("dimension_count", "(16)")),
    "layers": ("hyper-parameter", {"fields": {"llama.block_count": 1 << 30}}, ("block_count", "tensors (20)")),
    "yarn": ("hyper-parameter", {"fields": {"llama.rope.scaling.type": "yarn"}}, ("'yarn'", "none or linear")),
    "experts": ("hyper-parameter", {"fields": {"llama.expert_count": 8}}, ("expert_count", "dense")),
    "missing": ("tensor", {"tensors": {"blk.1.attn_k.weight": None}}, ("blk.1.attn_k.weight (layers.1.k) is missing",)),
    "no_embed": ("tensor", {"tensors": {"token_embd.weight": None}}, ("token_embd.weight", "missing")),
    "shape": ("tensor", {"tensors": {"blk.0.ffn_up.weight": np.ones((64, 64))}}, ("[64, 64], expected [96, 64]",)),
    "turned": ("tensor", {"tensors": {"blk.0.ffn_up.weight": np.ones((64, 96))}}, ("[64, 96], expected [96, 64]",)),
    "factors": ("tensor", {"tensors": {"rope_freqs.weight": np.ones(5)}}, ("rope_freqs.weight", "[5]")),
    "strange": ("arch", {"tensors": {"blk.0.attn_output.bias": np.ones(64)}}, ("blk.0.attn_output.bias", "no place")),
    "fewer_layers": ("arch", {"fields": {"llama.block_count": 1}}, ("blk.1.", "no place")),
    "nan": ("nan", {"tensors": {"blk.1.attn_q.weight": _nan((64, 64), (3, 5))}}, ("blk.1.attn_q.weight", "[3, 5]")),
    "inf": ("nan", {"tensors": {"output_norm.weight": _nan((64,), (7,), np.inf)}}, ("output_norm.weight", "[7]")),
    "tokens": ("tokenizer", {"fields": {"tokenizer.ggml.tokens": ["a"]}}, ("as many numbers",)),
    "merges": ("tokenizer", {"fields": {"tokenizer.ggml.merges": ["q nowhere"]}}, ("nowhere",)),
    "bos": (
        "tokenizer",
        {"fields": {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 9999}},
        ("9999",),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(tmp_path: Path, own_cache: Path, name: str) -> None:
    kind, changes, words = BAD[name]
    path = tmp_path / "bad.gguf"
    write_gguf(path, **changes)
    for _ in range(2):  # a second look must not find a cache file that says otherwise
        with pytest.raises(ModelError) as caught:
            load_gguf(path)
        text = str(caught.value)
        assert caught.value.kind == kind
        assert not isinstance(caught.value, ModelMissing)
        assert str(path) in text
        assert "\n" not in text
        assert all(word in text for word in words), text
        assert caught.value.mend
    assert not list(own_cache.rglob("*.safetensors"))


def test_names_in_a_foreign_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tensors={"x\n\x1b[31m\u202e": np.ones(3)})
    with pytest.raises(ModelError, match="no place") as caught:
        load_gguf(tmp_path / "m.gguf")
    assert r"x\n\x1b[31m\u202e" in str(caught.value)
    write_gguf(tmp_path / "n.gguf", fields={"general.name": "a\nb", "general.license": "\x1b[0m"})
    source = load_gguf(tmp_path / "n.gguf")
    assert (source.name, source.extras["licence"]) == (r"a\nb", r"\x1b[0m")


@pytest.mark.parametrize("content", [b"", b"G", b"PK\x03\x04" * 100, b"{}", bytes(4096)], ids=repr)
def test_foreign_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.gguf"
    path.write_bytes(content[:4096])
    with pytest.raises(ModelError, match=r"expected a GGUF file|expected b'GGUF'") as caught:
        load_gguf(path)
    assert caught.value.kind == "foreign"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"no model file at .*none\.gguf") as caught:
        load_gguf(tmp_path / "none.gguf")
    assert caught.value.kind == "model"
    with pytest.raises(ModelError, match="expected a GGUF file") as folder:
        load_gguf(tmp_path)
    assert folder.value.kind == "io"


@pytest.mark.parametrize("package", ["gguf", "tokenizers"])
def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    write_gguf(tmp_path / "m.gguf")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ModelMissing, match=package) as caught:
        load_gguf(tmp_path / "m.gguf")
    assert caught.value.kind == "extra"
    assert caught.value.mend == "pip install 'pytest-greta[gguf]'"


def test_big_endian_and_old_versions(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path)
    for version in (b"\x00\x00\x00\x03", b"\x01\x00\x00\x00", b"\x09\x00\x00\x00"):
        path.write_bytes(b"GGUF" + version + path.read_bytes()[8:])
        with pytest.raises(ModelError, match=r"GGUF version .*little-endian"):
            load_gguf(path)


def test_a_stored_type_that_is_no_weight(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_tensor("token_embd.weight", np.ones((4, 4), np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="embedding_length is missing"):
        load_gguf(path)


@dataclass(frozen=True)
class Good:
    """A good file's bytes, and where its header ends. A short repr: hypothesis prints it."""

    content: bytes = field(repr=False)
    header: int


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    path = tmp_path_factory.mktemp("gguf") / "good.gguf"
    write_gguf(path, "Q4_1")
    return Good(path.read_bytes(), int(gguf.GGUFReader(path).data_offset))


def test_truncated_anywhere(good: Good, tmp_path: Path) -> None:
    data, header = good.content, good.header
    path = tmp_path / "cut.gguf"
    # The writer pads the last tensor (a vector or a matrix of whole blocks) to 32 bytes; all shorter files are broken.
    cuts = [*range(1, 40), *range(40, header, 97), header - 1, header, header + 1, len(data) // 2, len(data) - 33]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(ModelError) as caught:
            load_gguf(path)
        assert caught.value.kind == ("foreign" if cut < 4 else "truncated"), cut
        assert f"the file has {cut}" in str(caught.value) or cut < 4


flips = st.lists(
    st.tuples(st.sampled_from(["start", "header", "anywhere"]), st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=flips, cut=st.none() | st.floats(0, 1))
def test_damaged_anywhere_gives_a_model_error_or_finite_weights(
    flips: list[tuple[str, float, int]], cut: float | None, good: Good, own_cache: Path
) -> None:
    content = good.content
    damaged = bytearray(content)
    size = {"start": 1200, "header": good.header, "anywhere": len(content)}
    for region, fraction, bit in flips:
        damaged[int(fraction * size[region])] ^= 1 << bit
    path = own_cache.parent / "damaged.gguf"
    path.write_bytes(damaged if cut is None else damaged[: int(cut * len(content))])
    message = ""
    try:
        source = load_gguf(path)
    except ModelError as error:
        message = str(error)
    else:
        assert all(np.isfinite(source.weights[name]).all() for name in ("embed", "lm_head", "layers.0.q"))
    finally:
        shutil.rmtree(own_cache, ignore_errors=True)
    assert "\n" not in message


def test_shapes_helper_matches_the_table_of_names() -> None:
    assert len(shapes()) == 2 + LAYERS * len(OURS)
