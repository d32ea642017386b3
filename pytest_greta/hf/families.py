"""Where the stages of each architecture are in its modules, by ``config.model_type``: one table, read by the tracer,
by the weights and by the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Site(NamedTuple):
    """What goes into (``in``) or comes out of (``out``) a submodule; "" is the layer, or the model, itself.

    ``part``: which third of the output it is, where one matrix gives q, k and v.
    """

    module: str
    side: Literal["in", "out"] = "out"
    part: int | None = None


_LLAMA: Mapping[str, Site] = {
    "x_in": Site("", "in"),
    "attn_norm": Site("input_layernorm"),
    "q_proj": Site("self_attn.q_proj"),
    "k_proj": Site("self_attn.k_proj"),
    "v_proj": Site("self_attn.v_proj"),
    "o_proj": Site("self_attn.o_proj"),
    "residual_attn": Site("post_attention_layernorm", "in"),
    "ffn_norm": Site("post_attention_layernorm"),
    "gate_proj": Site("mlp.gate_proj"),
    "up_proj": Site("mlp.up_proj"),
    "ffn_act": Site("mlp.down_proj", "in"),
    "down_proj": Site("mlp.down_proj"),
    "x_out": Site(""),
}
_HEAD_NORMS: Mapping[str, Site] = {"q_norm": Site("self_attn.q_norm"), "k_norm": Site("self_attn.k_norm")}
_GEMMA: Mapping[str, Site] = {
    "post_attn_norm": Site("post_attention_layernorm"),
    "residual_attn": Site("pre_feedforward_layernorm", "in"),
    "ffn_norm": Site("pre_feedforward_layernorm"),
    "post_ffn_norm": Site("post_feedforward_layernorm"),
}


_GPT2: Mapping[str, Site] = {
    "x_in": Site("", "in"),
    "attn_norm": Site("ln_1"),
    "q_proj": Site("attn.c_attn", part=0),
    "k_proj": Site("attn.c_attn", part=1),
    "v_proj": Site("attn.c_attn", part=2),
    "o_proj": Site("attn.c_proj"),
    "residual_attn": Site("ln_2", "in"),
    "ffn_norm": Site("ln_2"),
    "up_proj": Site("mlp.c_fc"),
    "ffn_act": Site("mlp.c_proj", "in"),
    "down_proj": Site("mlp.c_proj"),
    "x_out": Site(""),
}


@dataclass(frozen=True)
class Family:
    """One architecture. ``layer``: the sites of a layer's stages, relative to it; ``outside``: of the others, relative
    to the decoder (``body``) within the model with its output matrix."""

    title: str
    layer: Mapping[str, Site]
    body: str = "model"
    layers: str = "layers"
    outside: Mapping[str, Site] = field(
        default_factory=lambda: {"embed_out": Site("embed_tokens"), "final_norm": Site("norm")}
    )
    one_plus_weight: bool = False
    """Norms multiply by 1 + weight, in float32 (Gemma); the others' by weight, after a cast to the model's type."""
    heads_first: bool = False
    """q_norm and k_norm see [heads, tokens, dim], where others see [tokens, heads, dim]."""
    scaled_embeddings: bool = False
    """Times sqrt(width), rounded to the model's type."""
    positions: str = ""
    """The module whose weight holds a row for each position, added to the embedding."""
    transposed: bool = False
    """Matrices of the layers are stored [in, out]."""
    layer_norm: bool = False
    """LayerNorm, float32 until its end, in place of RMS norm."""


FAMILIES: Mapping[str, Family] = {
    "llama": Family("Llama, SmolLM2", _LLAMA),
    "mistral": Family("Mistral", _LLAMA),
    "qwen2": Family("Qwen2", _LLAMA),
    "qwen3": Family("Qwen3", {**_LLAMA, **_HEAD_NORMS}),
    "gemma2": Family("Gemma 2", {**_LLAMA, **_GEMMA}, one_plus_weight=True, scaled_embeddings=True),
    "gemma3_text": Family(
        "Gemma 3",
        {**_LLAMA, **_HEAD_NORMS, **_GEMMA},
        one_plus_weight=True,
        heads_first=True,
        scaled_embeddings=True,
    ),
    "gpt2": Family(
        "GPT-2",
        _GPT2,
        body="transformer",
        layers="h",
        outside={"embed_out": Site("wte"), "pos_embed": Site("drop", "in"), "final_norm": Site("ln_f")},
        positions="wpe",
        transposed=True,
        layer_norm=True,
    ),
}

WEIGHTS: Mapping[str, str] = {
    "attn_norm": "attn_norm",
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "q_norm": "q_norm",
    "k_norm": "k_norm",
    "o_proj": "o",
    "post_attn_norm": "post_attn_norm",
    "ffn_norm": "ffn_norm",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "post_ffn_norm": "post_ffn_norm",
}
"""Stages with a weight, and the weight's name in ``spec.Weights`` after ``layers.N.``."""
NORMS = ("attn_norm", "q_norm", "k_norm", "post_attn_norm", "ffn_norm", "post_ffn_norm", "final_norm")
