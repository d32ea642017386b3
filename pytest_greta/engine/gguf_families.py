"""The model families that GGUF files hold, by ``general.architecture``: what each adds to a llama.

llama.cpp: ``src/llama-arch.cpp``, ``src/llama-model.cpp`` and ``src/models/*.cpp``. Mistral's files are of arch llama.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Family:
    rope_style: Literal["half", "interleaved"] = "half"
    """The converter permutes a llama's q and k rows, so that llama.cpp can rotate neighbours; no other's."""
    qk_norm: bool = False
    post_norms: bool = False
    ffn_act: Literal["swiglu", "geglu"] = "swiglu"
    scaled_embeddings: bool = False
    """Times sqrt(width)."""
    window_every: int = 1
    """Where the file has a window: of so many layers the last has none; 1: all layers have it."""
    local_base: float = 0.0
    """RoPE's base in the layers with a window, where it is not everyone's."""
    scale_by_width: int = 0
    """The number of layers at which the softmax scale is (width / heads)^-1/2: the 27B models, which the file does not
    tell apart otherwise."""


FAMILIES: Mapping[str, Family] = {
    "llama": Family(rope_style="interleaved"),
    "qwen2": Family(),
    "qwen3": Family(qk_norm=True),
    "gemma2": Family(post_norms=True, ffn_act="geglu", scaled_embeddings=True, window_every=2, scale_by_width=46),
    "gemma3": Family(
        qk_norm=True,
        post_norms=True,
        ffn_act="geglu",
        scaled_embeddings=True,
        window_every=6,
        local_base=10000.0,
        scale_by_width=62,
    ),
}
