"""Small GGUFs whose scores are neither flat nor of one key alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tiny_gguf

from pytest_greta.llamacpp.library import library

FIELDS = {"llama.context_length": 1024}
WIDE = 256
"""Of matrices in blocks of 256."""
WIDE_FIELDS = {
    "llama.embedding_length": WIDE,
    "llama.feed_forward_length": 2 * WIDE,
    "llama.rope.dimension_count": WIDE // tiny_gguf.HEADS,
}


def write(path: Path, kind: str, **more: Any) -> str:
    """The model's name. ``more``: of ``tiny_gguf.write_gguf``."""
    rng = np.random.default_rng(1)
    q_and_k = {
        name: 0.25 * rng.standard_normal(shape)
        for name, shape in tiny_gguf.shapes().items()
        if name.endswith(("attn_q.weight", "attn_k.weight"))
    }
    more = {"fields": FIELDS, **more, "tensors": {**q_and_k, **more.get("tensors", {})}}
    tiny_gguf.write_gguf(path / "tiny.gguf", kind, **more)
    return f"llamacpp:{path / 'tiny.gguf'}"


def write_wide(path: Path, kind: str, **more: Any) -> str:
    """The same of matrices 256 and 512 wide, by llama.cpp's own quantiser: the package gguf only reads some types."""
    rng = np.random.default_rng(1)
    wider = {tiny_gguf.WIDTH: WIDE, tiny_gguf.FFN: 2 * WIDE, tiny_gguf.KV_HEADS * tiny_gguf.HEAD_DIM: WIDE // 2}
    tensors = {}
    for name, shape in tiny_gguf.shapes().items():
        wide = tuple(wider.get(n, n) for n in shape)
        size = 0.06 if name.endswith(("attn_q.weight", "attn_k.weight")) else 1.0 if len(shape) == 1 else 0.5
        tensors[name] = size * rng.standard_normal(wide)
    more = {"fields": {**FIELDS, **WIDE_FIELDS}, "tensors": tensors, "quantise": by_llama_cpp, **more}
    tiny_gguf.write_gguf(path / "wide.gguf", kind, **more)
    return f"llamacpp:{path / 'wide.gguf'}"


def by_llama_cpp(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Float32 [out, n] -> stored rows [out, bytes] (``ggml_quantize_chunk``)."""
    from cffi import FFI

    if kind.name in ("F32", "F16"):
        return values.astype({"F32": np.float32, "F16": np.float16}[kind.name])
    ffi = FFI()
    ffi.cdef(
        "size_t ggml_quantize_chunk(int type, const float *src, void *dst, int64_t start, int64_t nrows, "
        "int64_t n_per_row, const float *imatrix);"
    )
    size, stored = gguf.GGML_QUANT_SIZES[kind]
    raw = np.zeros((len(values), values.shape[1] // size * stored), np.uint8)
    values = np.ascontiguousarray(values, np.float32)
    done = ffi.dlopen(library("llamacpp:-").path).ggml_quantize_chunk(
        int(kind), ffi.from_buffer("float[]", values), ffi.from_buffer(raw), 0, *values.shape, ffi.NULL
    )
    assert done == raw.nbytes
    return raw
