"""A dense decoder in GGUF: which hyper-parameters it has, which tensors of what shape, and what they are called here.

What a family adds is in ``gguf_families.py``. What is not understood is refused, never ignored: a bias or a scaling
left out gives a model that runs and is wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig
from pytest_greta.engine.gguf_families import FAMILIES, Family
from pytest_greta.engine.spec import ModelConfig
from pytest_greta.engine.store import ModelError
from pytest_greta.texts import Text, chain, join, text

Shape = tuple[int, ...]
_MAX = 1 << 31
_ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class Plan:
    config: ModelConfig
    tensors: Mapping[str, str]
    """The file's tensor name by ours (``spec.Weights``)."""
    aliases: dict[str, str]
    """Our second names of tensors: ``lm_head`` of a tied model."""
    rope_factors: str | None
    """The tensor of frequency divisors (Llama 3), where there is one."""


def plan(where: str, arch: str, fields: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Plan:
    """How to read a checkpoint of the family ``arch``. ``shapes``: of every tensor in the file, rows first. Raises
    ``ModelError``."""
    config = _config(_Fields(where, arch, fields), FAMILIES[arch], shapes)
    expected = _expected(config)
    tied = "output.weight" not in shapes
    if tied:
        del expected["lm_head"]
    for ours, (theirs, shape) in expected.items():
        if theirs not in shapes:
            raise _tensor(where, text("gguf.tensor_missing", name=theirs, ours=ours))
        if shapes[theirs] != shape:
            raise _tensor(where, _shape(theirs, shapes, list(shape)))
    factors = _ROPE_FACTORS if _ROPE_FACTORS in shapes else None
    if factors and shapes[factors] != (config.layers[0].rotary_dim // 2,):
        raise _tensor(where, _shape(factors, shapes, text("gguf.half_rotary")))
    known = {theirs for theirs, _ in expected.values()} | {_ROPE_FACTORS}
    if strange := sorted(set(shapes) - known):
        names = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        message = join(": ", where, text("gguf.no_place", arch=arch, count=len(strange), names=names))
        raise ModelError("arch", message, text("mend.dense"))
    tensors = {ours: theirs for ours, (theirs, _) in expected.items()}
    return Plan(config, tensors, {"lm_head": "embed"} if tied else {}, factors)


def with_rope_factors(config: ModelConfig, factors: NDArray[np.float32]) -> ModelConfig:
    """``config`` with the frequency divisors [rotary_dim / 2] in every layer."""
    values = tuple(float(f) for f in factors)
    return dataclasses.replace(
        config, layers=tuple(dataclasses.replace(layer, rope_factors=values) for layer in config.layers)
    )


def _tensor(where: str, what: Text) -> ModelError:
    return ModelError("tensor", join(": ", where, what), text("mend.other_family"))


def _shape(name: str, shapes: Mapping[str, Shape], expected: object) -> Text:
    return text("gguf.shape", name=name, shape=list(shapes[name]), expected=expected)


class _Fields:
    """Typed access to ``ARCH.*`` that says which key is wrong."""

    def __init__(self, where: str, arch: str, fields: Mapping[str, Any]) -> None:
        self.where, self.arch, self.fields = where, arch, fields

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(f"{self.arch}.{name}", default)

    def error(self, name: str, expected: Text) -> ModelError:
        key, value = f"{self.arch}.{name}", self.get(name)
        if value is None:
            what = text("gguf.field_missing", key=key, expected=expected)
        else:
            what = text("gguf.field", key=key, value=str(value)[:60], expected=expected)
        return ModelError("hyper-parameter", join(": ", self.where, what), text("mend.convert"))

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.get(name, default)
        if type(value) is not int or not 0 < value < _MAX:
            raise self.error(name, text("gguf.whole"))
        return value

    def real(self, name: str, default: float | None = None) -> float:
        value = self.get(name, default)
        if type(value) is not float or not (math.isfinite(value) and value > 0):
            raise self.error(name, text("gguf.real"))
        return value

    def real_or_zero(self, name: str) -> float:
        """0 where the file does not have it."""
        return 0.0 if self.get(name) is None else self.real(name)


def _config(fields: _Fields, family: Family, shapes: Mapping[str, Shape]) -> ModelConfig:
    n_layers = fields.whole("block_count")
    if n_layers > len(shapes):
        raise fields.error("block_count", text("gguf.at_most_tensors", count=len(shapes)))
    width, n_heads = fields.whole("embedding_length"), fields.whole("attention.head_count")
    n_kv_heads = fields.whole("attention.head_count_kv", n_heads)
    if n_heads % n_kv_heads:
        raise fields.error("attention.head_count_kv", text("gguf.divisor", count=n_heads))
    head_dim = fields.whole("attention.key_length", width // n_heads)
    rotary_dim = fields.whole("rope.dimension_count", head_dim)
    if rotary_dim % 2 or rotary_dim > head_dim:
        raise fields.error("rope.dimension_count", text("gguf.even", width=head_dim))
    if fields.get("expert_count", 0):
        raise fields.error("expert_count", text("gguf.no_experts"))
    embed = shapes.get("token_embd.weight", ())
    return ModelConfig(
        arch=fields.arch,
        n_layers=n_layers,
        width=width,
        ffn_width=fields.whole("feed_forward_length"),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim_qk=head_dim,
        head_dim_v=fields.whole("attention.value_length", head_dim),
        vocab=embed[0] if embed else 0,
        context=fields.whole("context_length"),
        rms_eps=fields.real("attention.layer_norm_rms_epsilon"),
        softmax_scale=1.0 / math.sqrt(width // n_heads if n_layers == family.scale_by_width else head_dim),
        layers=_layers(fields, family, n_layers, rotary_dim),
        qkv_bias="blk.0.attn_q.bias" in shapes,
        qk_norm=family.qk_norm,
        post_norms=family.post_norms,
        ffn_act=family.ffn_act,
        embed_scale=math.sqrt(width) if family.scaled_embeddings else 1.0,
        logits_softcap=fields.real_or_zero("final_logit_softcapping"),
    )


def _layers(fields: _Fields, family: Family, n_layers: int, rotary_dim: int) -> tuple[LayerConfig, ...]:
    window = 0 if fields.get("attention.sliding_window") is None else fields.whole("attention.sliding_window")
    everywhere = LayerConfig(
        rope_base=fields.real("rope.freq_base", 10000.0),
        rope_style=family.rope_style,
        rotary_dim=rotary_dim,
        rope_factors=_linear_factors(fields, rotary_dim),
        softcap=fields.real_or_zero("attn_logit_softcapping"),
    )
    local = dataclasses.replace(everywhere, window=window)
    if family.local_base:  # the scaling is for the layers that see far
        base = fields.real("rope.freq_base_swa", family.local_base)
        local = dataclasses.replace(local, rope_base=base, rope_factors=None)
    every = fields.whole("attention.sliding_window_pattern", family.window_every)
    return tuple(local if window and (every == 1 or i % every < every - 1) else everywhere for i in range(n_layers))


def _linear_factors(fields: _Fields, rotary_dim: int) -> tuple[float, ...] | None:
    """Linear position scaling is one divisor for all frequencies; yarn and others are refused."""
    kind = fields.get("rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind != "linear":
        raise fields.error("rope.scaling.type", chain("or", ("none", "linear")))
    return (fields.real("rope.scaling.factor", 1.0),) * (rotary_dim // 2)


def _expected(c: ModelConfig) -> dict[str, tuple[str, Shape]]:
    """Our name: the file's name and its shape."""
    q, k, v = c.n_heads * c.head_dim_qk, c.n_kv_heads * c.head_dim_qk, c.n_kv_heads * c.head_dim_v
    table: dict[str, tuple[str, Shape]] = {"embed": ("token_embd.weight", (c.vocab, c.width))}
    for i in range(c.n_layers):
        rows: dict[str, tuple[str, Shape]] = {
            "attn_norm": ("attn_norm.weight", (c.width,)),
            "q": ("attn_q.weight", (q, c.width)),
            "k": ("attn_k.weight", (k, c.width)),
            "v": ("attn_v.weight", (v, c.width)),
            "o": ("attn_output.weight", (c.width, c.n_heads * c.head_dim_v)),
            "ffn_norm": ("ffn_norm.weight", (c.width,)),
            "gate": ("ffn_gate.weight", (c.ffn_width, c.width)),
            "up": ("ffn_up.weight", (c.ffn_width, c.width)),
            "down": ("ffn_down.weight", (c.width, c.ffn_width)),
        }
        if c.qk_norm:
            rows |= {f"{n}_norm": (f"attn_{n}_norm.weight", (c.head_dim_qk,)) for n in ("q", "k")}
        if c.post_norms:
            rows |= {
                "post_attn_norm": ("post_attention_norm.weight", (c.width,)),
                "post_ffn_norm": ("post_ffw_norm.weight", (c.width,)),
            }
        if c.qkv_bias:
            rows |= {f"{n}_bias": (f"attn_{n}.bias", (size,)) for n, size in (("q", q), ("k", k), ("v", v))}
        table |= {f"layers.{i}.{ours}": (f"blk.{i}.{theirs}", shape) for ours, (theirs, shape) in rows.items()}
    table["final_norm"] = ("output_norm.weight", (c.width,))
    table["lm_head"] = ("output.weight", (c.vocab, c.width))
    return table
