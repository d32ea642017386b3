"""Small random transformers models, and the GGUF files that llama.cpp's converter would make of them.

Of the converter (``convert_hf_to_gguf.py``) two things matter beyond names: a llama's q and k rows are permuted,
because llama.cpp rotates neighbours, and Gemma's norms are stored as 1 + weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from tiny_gguf import _add

WIDTH, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB, WINDOW, CONTEXT = 64, 96, 4, 2, 16, 96, 6, 128
BASE = 50000.0


@dataclass(frozen=True)
class Made:
    """``arch``: the file's. ``own``: what the configuration has beyond the common ones; ``fields``: the file's."""

    arch: str
    config: str
    own: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 3
    plus_one: bool = False
    permuted: bool = False


_GEMMA: Mapping[str, Any] = {
    "query_pre_attn_scalar": HEAD_DIM,
    "sliding_window": WINDOW,
    "hidden_activation": "gelu_pytorch_tanh",
}
FAMILIES: Mapping[str, Made] = {
    "llama": Made("llama", "LlamaConfig", permuted=True),
    "mistral": Made(
        "llama",
        "MistralConfig",
        {"sliding_window": WINDOW},
        {"attention.sliding_window": WINDOW},
        permuted=True,
    ),
    "qwen2": Made("qwen2", "Qwen2Config"),
    "qwen3": Made("qwen3", "Qwen3Config"),
    "gemma2": Made(
        "gemma2",
        "Gemma2Config",
        {**_GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.5},
        {
            "attention.sliding_window": WINDOW,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 1.5,
        },
        plus_one=True,
    ),
    "gemma3": Made(
        "gemma3",
        "Gemma3TextConfig",
        {
            **_GEMMA,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": BASE},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        {
            "attention.sliding_window": WINDOW,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        layers=7,  # the sixth sees everything
        plus_one=True,
    ),
}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def make(family: str) -> Any:
    """A seeded model whose weights are large enough that every part of it moves the logits."""
    made = FAMILIES[family]
    common: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": FFN,
        "num_hidden_layers": made.layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rope_parameters": {"rope_type": "default", "rope_theta": BASE},
        "rms_norm_eps": 1e-5,
        "attn_implementation": "eager",
    }
    config = getattr(transformers, made.config)(**{**common, **made.own})
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().to(torch.float32)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 2 and "embed" not in name:
                value.normal_(0.0, 1.5 / value.shape[1] ** 0.5)
            elif value.ndim == 1:
                value.copy_(torch.rand_like(value) - (0.5 if made.plus_one or "bias" in name else -0.5))
    return model


def write(model: Any, family: str, path: Path) -> None:
    """The model as a GGUF in F32, without a tokenizer."""
    made = FAMILIES[family]
    state = {name.removeprefix("model."): value.numpy() for name, value in model.state_dict().items()}
    tied = bool(model.config.tie_word_embeddings)
    tensors = {"token_embd.weight": state["embed_tokens.weight"], "output_norm.weight": state["norm.weight"]}
    if not tied:
        tensors["output.weight"] = state["lm_head.weight"]
    block = _BLOCK | (_GEMMA_NORMS if made.plus_one else {})
    for i in range(made.layers):
        for theirs, ours in block.items():
            for part in ("weight", "bias"):
                name = f"layers.{i}.{ours}.{part}"
                if name in state:
                    tensors[f"blk.{i}.{theirs}.{part}"] = state[name]
    for name, value in tensors.items():
        if made.plus_one and "norm" in name:
            tensors[name] = value + 1
        elif made.permuted and any(part in name for part in ("attn_q", "attn_k")):
            halves = value.reshape(-1, 2, HEAD_DIM // 2, value.shape[-1])
            tensors[name] = halves.swapaxes(1, 2).reshape(value.shape)
    writer = gguf.GGUFWriter(path, made.arch)
    fields = {
        "vocab_size": VOCAB,
        "block_count": made.layers,
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD_DIM,
        "attention.value_length": HEAD_DIM,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": BASE,
        **made.fields,
    }
    for key, value in fields.items():
        _add(writer, f"{made.arch}.{key}", value)
    writer.add_string("tokenizer.ggml.model", "none")
    for name, value in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
