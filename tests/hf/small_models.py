"""Small random models of transformers, whose weights are large enough that every part of them moves the logits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import transformers

with warnings.catch_warnings():  # hqq's, of torch's compiler
    warnings.simplefilter("ignore")
    import transformers.cache_utils

VOCAB, WINDOW = 128, 16
_COMMON: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCAB,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
_GPT2: Mapping[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": VOCAB}
_GEMMA: Mapping[str, Any] = {
    "query_pre_attn_scalar": 24,
    "sliding_window": WINDOW,
    "hidden_activation": "gelu_pytorch_tanh",
    "layer_types": ["sliding_attention", "full_attention"],
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 50000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("LlamaConfig", {"rope_parameters": _LLAMA3}),
    "mistral": ("MistralConfig", {"sliding_window": WINDOW}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "gemma2": ("Gemma2Config", {**_GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.5}),
    "gemma3": (
        "Gemma3TextConfig",
        {
            **_GEMMA,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gpt2": ("GPT2Config", _GPT2),
}


def make(family: str, **own: Any) -> Any:
    kind, fields = FAMILIES[family]
    common = {} if family == "gpt2" else _COMMON
    config = getattr(transformers, kind)(**{**common, **fields, **own})
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().float()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1:
                low = -0.5 if "bias" in name or family.startswith("gemma") else 0.5
                value.copy_(torch.rand_like(value) + low)
            else:
                embedded = any(part in name for part in ("embed", "wte", "wpe"))
                fan_in = value.shape[0 if "attn.c_" in name or "mlp.c_" in name else 1]  # Conv1D is [in, out]
                value.normal_(0.0, 1.0 if embedded else 1.5 / fan_in**0.5)
    return model


def save(model: Any, folder: Any) -> str:
    """The name by which the saved model is probed."""
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return f"transformers:{folder}"
