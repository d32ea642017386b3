"""Tiny llama GGUFs, written with the package's own writer, and what they hold by the format's definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, FFN, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 64, 96, 4, 2, 16, 2
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, by byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b if b in printable else next(others)) for b in range(256)]


MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w", "1 2")
TOKENS = (*SPECIALS, *_byte_alphabet(), "he", "ll", "hell", "hello", "Ġw", "12", "<user>")
TYPES = (3, 3, 3, *[1] * 256, 1, 1, 1, 1, 1, 1, 4)
VOCAB = len(TOKENS)

FIELDS: dict[str, Any] = {
    "llama.block_count": LAYERS,
    "llama.context_length": 512,
    "llama.embedding_length": WIDTH,
    "llama.feed_forward_length": FFN,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 50000.0,
    "llama.rope.dimension_count": HEAD_DIM,
    "general.name": "tiny",
    "general.license": "mit",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": list(TOKENS),
    "tokenizer.ggml.token_type": list(TYPES),
    "tokenizer.ggml.merges": list(MERGES),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}
BLOCK: dict[str, tuple[int, ...]] = {
    "attn_norm.weight": (WIDTH,),
    "attn_q.weight": (HEADS * HEAD_DIM, WIDTH),
    "attn_k.weight": (KV_HEADS * HEAD_DIM, WIDTH),
    "attn_v.weight": (KV_HEADS * HEAD_DIM, WIDTH),
    "attn_output.weight": (WIDTH, HEADS * HEAD_DIM),
    "ffn_norm.weight": (WIDTH,),
    "ffn_gate.weight": (FFN, WIDTH),
    "ffn_up.weight": (FFN, WIDTH),
    "ffn_down.weight": (WIDTH, FFN),
}
OURS = {
    "attn_norm": "attn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "ffn_norm": "ffn_norm.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
}


def shapes(tied: bool = True) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    if not tied:
        table["output.weight"] = (VOCAB, WIDTH)
    for i in range(LAYERS):
        table |= {f"blk.{i}.{name}": shape for name, shape in BLOCK.items()}
    return table


def write_gguf(
    path: Path,
    kind: str = "F32",
    tied: bool = True,
    *,
    arch: str = "llama",
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray | None] | None = None,
    seed: int = 0,
    kinds: Mapping[str, str] | None = None,
    quantise: Callable[[np.ndarray, gguf.GGMLQuantizationType], np.ndarray] = gguf.quants.quantize,
) -> dict[str, np.ndarray]:
    """Writes the file and returns its float32 tensors by GGUF name, decoded here from the bytes written.

    ``fields``, ``tensors``: what differs; None leaves one out. Matrices are stored as ``kind``, or as ``kinds`` says of
    the end of their name, vectors as F32.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {name: rng.standard_normal(shape) for name, shape in shapes(tied).items()}
    values |= tensors or {}
    writer = gguf.GGUFWriter(path, arch)
    for key, value in {**FIELDS, **(fields or {})}.items():
        if value is not None:
            _add(writer, key, value)
    expected = {}
    for name, value in values.items():
        if value is None:
            continue
        array = np.asarray(value, np.float32)
        own = next((other for end, other in (kinds or {}).items() if name.endswith(end)), kind)
        quant = gguf.GGMLQuantizationType[own if array.ndim == 2 else "F32"]
        raw = quantise(array, quant)
        writer.add_tensor(name, raw, raw_dtype=quant)
        expected[name] = decode(raw, quant.name, array.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
    getattr(writer, f"add_{kinds[type(value)]}")(key, value)


def decode(raw: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 from stored bytes, by the block layouts of ggml (``ggml-common.h``), written anew here for four types."""
    if kind in ("F32", "F16"):
        return raw.astype(np.float32)
    if kind not in ("Q8_0", "Q4_1"):
        return np.asarray(gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])).reshape(shape)
    blocks = raw.reshape(-1, {"Q8_0": 34, "Q4_1": 20}[kind])
    scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    if kind == "Q8_0":
        return (scale * blocks[:, 2:].view(np.int8).astype(np.float32)).reshape(shape)
    least = np.ascontiguousarray(blocks[:, 2:4]).view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return (scale * nibbles.astype(np.float32) + least).reshape(shape)
