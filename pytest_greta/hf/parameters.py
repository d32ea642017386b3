"""``ModelConfig`` from a configuration of transformers: what the checks need, each formula written anew.

RoPE's scalings: https://github.com/huggingface/transformers/blob/main/src/transformers/modeling_rope_utils.py;
that of Llama 3: https://github.com/meta-llama/llama-models/blob/main/models/llama3/model.py (apply_scaling).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_greta.backends.base import LayerConfig
from pytest_greta.dtypes import DType
from pytest_greta.engine.spec import ModelConfig
from pytest_greta.engine.store import ModelError
from pytest_greta.hf.families import FAMILIES, Family
from pytest_greta.texts import text

_GELUS = ("gelu_pytorch_tanh", "gelu_new")


def family_of(config: Any, name: str) -> Family:
    """Raises ``ModelError`` for an architecture that is not in the table."""
    kind = str(getattr(config, "model_type", type(config).__name__))
    if kind not in FAMILIES:
        message = text("hf.arch", model=name, arch=kind)
        raise ModelError("arch", message, text("mend.one_of", names=", ".join(FAMILIES)))
    return FAMILIES[kind]


def parameters(config: Any, family: Family, act: DType, name: str) -> ModelConfig:
    """What a model of this configuration computes when its activations are ``act``.

    Raises ``ModelError`` for a part that the checks have no reference for.
    """
    if config.model_type == "gpt2":
        return _gpt2(config, name)
    if getattr(config, "mlp_bias", False):
        raise _beyond(name, "mlp_bias", True, "False")
    heads = int(config.num_attention_heads)
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    width = int(config.hidden_size)
    n_layers = int(config.num_hidden_layers)
    scalar = getattr(config, "query_pre_attn_scalar", None)
    scale = np.asarray(width**0.5, np.float32).astype(act.numpy) if family.scaled_embeddings else 1.0
    return ModelConfig(
        arch=str(config.model_type),
        n_layers=n_layers,
        width=width,
        ffn_width=int(config.intermediate_size),
        n_heads=heads,
        n_kv_heads=int(config.num_key_value_heads or heads),
        head_dim_qk=head_dim,
        head_dim_v=head_dim,
        vocab=int(config.vocab_size),
        context=int(config.max_position_embeddings),
        rms_eps=float(config.rms_norm_eps),
        softmax_scale=float(scalar or head_dim) ** -0.5,
        layers=tuple(_layer(config, i, head_dim, name) for i in range(n_layers)),
        qkv_bias=bool(getattr(config, "attention_bias", False)) or config.model_type == "qwen2",
        o_bias=bool(getattr(config, "attention_bias", False)),
        qk_norm="q_norm" in family.layer,
        post_norms="post_attn_norm" in family.layer,
        ffn_act=_activation(config, name),
        embed_scale=float(scale),
        logits_softcap=float(getattr(config, "final_logit_softcapping", None) or 0.0),
    )


def _gpt2(config: Any, name: str) -> ModelConfig:
    """https://github.com/huggingface/transformers/blob/main/src/transformers/models/gpt2/modeling_gpt2.py"""
    if config.activation_function != "gelu_new":
        raise _beyond(name, "activation_function", config.activation_function, "gelu_new")
    for key in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"):
        if getattr(config, key, False):
            raise _beyond(name, key, True, "False")
    width, heads = int(config.n_embd), int(config.n_head)
    head_dim = width // heads
    return ModelConfig(
        arch="gpt2",
        n_layers=int(config.n_layer),
        width=width,
        ffn_width=int(config.n_inner or 4 * width),
        n_heads=heads,
        n_kv_heads=heads,
        head_dim_qk=head_dim,
        head_dim_v=head_dim,
        vocab=int(config.vocab_size),
        context=int(config.n_positions),
        rms_eps=float(config.layer_norm_epsilon),
        softmax_scale=head_dim**-0.5 if config.scale_attn_weights else 1.0,
        layers=(LayerConfig(rope_style="none"),) * int(config.n_layer),
        qkv_bias=True,
        o_bias=True,
        ffn_bias=True,
        norm="layer_norm",
        learned_positions=True,
        ffn_act="gelu",
    )


def _activation(config: Any, name: str) -> Any:
    given = getattr(config, "hidden_activation", None) or config.hidden_act
    if given == "silu":
        return "swiglu"
    if given in _GELUS:
        return "geglu"
    raise _beyond(name, "hidden_act", given, "silu, gelu_pytorch_tanh")


def _layer(config: Any, i: int, head_dim: int, name: str) -> LayerConfig:
    kinds = getattr(config, "layer_types", None)
    kind = kinds[i] if kinds else ("sliding_attention" if getattr(config, "sliding_window", None) else "full_attention")
    if kind not in ("full_attention", "sliding_attention"):
        raise _beyond(name, f"layer_types[{i}]", kind, "full_attention, sliding_attention")
    rope = config.rope_parameters
    rope = rope.get(kind, rope)
    return LayerConfig(
        rope_base=float(rope["rope_theta"]),
        rope_factors=_factors(rope, head_dim, name),
        window=int(config.sliding_window) if kind == "sliding_attention" else 0,
        softcap=float(getattr(config, "attn_logit_softcapping", None) or 0.0),
    )


def _factors(rope: Mapping[str, Any], head_dim: int, name: str) -> tuple[float, ...] | None:
    """What each pair's frequency is divided by; None: nothing."""
    kind, pairs = rope.get("rope_type", "default"), head_dim // 2
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise _beyond(name, "partial_rotary_factor", rope["partial_rotary_factor"], "1.0")
    if kind == "default":
        return None
    if kind == "linear":
        return (float(rope["factor"]),) * pairs
    if kind != "llama3":
        raise _beyond(name, "rope_type", kind, "default, linear, llama3")
    factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    old = float(rope["original_max_position_embeddings"])
    wavelength = 2.0 * math.pi * float(rope["rope_theta"]) ** (2.0 * np.arange(pairs) / head_dim)
    blend = np.clip((old / wavelength - low) / (high - low), 0.0, 1.0)
    return tuple((1.0 / ((1.0 - blend) / factor + blend)).tolist())


def _beyond(name: str, key: str, value: Any, known: str) -> ModelError:
    message = text("hf.parameter", model=name, key=key, value=value)
    return ModelError("hyper-parameter", message, text("mend.one_of", names=known))
