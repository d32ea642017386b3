"""``synthetic``: a small seeded llama with what real models have and random ones lack.

- outlier channels: a few residual channels are tens of times larger than the rest, as in trained models;
- attention sinks: in half of the heads the first token (BOS) draws most of the weight, however far away it is;
- hot logits: some heads have scores of +-20, so that softmax is nearly one-hot there;
- every matrix is non-symmetric and every layer is different, so that a transposed, misrouted or mixed-up weight shows.

No download, no file: the embedded default. The variants (``synthetic:qwen3``, ...) have what other families add to a
llama: each feature of the C ABI has a model that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pytest_greta.backends.base import LayerConfig
from pytest_greta.engine.spec import F32Weights, ModelConfig, ModelSource


@dataclass(frozen=True)
class Size:
    n_layers: int = 6
    width: int = 256
    ffn: int = 512
    n_heads: int = 8
    n_kv_heads: int = 4
    head_dim: int = 32

    @property
    def group(self) -> int:
        return self.n_heads // self.n_kv_heads

    @property
    def sink_kv_heads(self) -> range:
        return range(0, self.n_kv_heads, 2)

    @property
    def hot_heads(self) -> tuple[int, ...]:
        return tuple(h for h in range(self.n_heads) if h // self.group not in self.sink_kv_heads)


SMALL = Size()
WIDE = Size(n_layers=2, width=576, ffn=768, n_heads=9, n_kv_heads=3, head_dim=64)
"""The width and the heads of SmolLM2-135M: how small a gain in a projection shows depends on the width."""
CONTEXT = 8192
BOS, EOS, PAD = 256, 257, 258
VOCAB = 259

CONSTANT, IS_BOS = 0, 1
"""Residual channels with a meaning: one that every token has, one that only BOS has. The sinks are made of them."""
OUTLIERS = (7, 100, 201)
OUTLIER_GAIN = 30.0
SINK_SCORE = 5.0
"""Of BOS, where other keys score about +-1: most of the weight in a short prompt, a good part of it in a long one."""
HOT_GAIN = 6.0
"""One head a layer has scores of about +-6 to +-20."""


class ByteTokenizer:
    """UTF-8 bytes and three specials; ``encode`` puts BOS in front."""

    def encode(self, text: str) -> list[int]:
        return [BOS, *text.encode("utf-8")]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < BOS).decode("utf-8", errors="replace")


@dataclass(frozen=True)
class Variant:
    """What a family adds to the llama. ``layer``: the attention parameters of each layer."""

    layer: Callable[[int], LayerConfig] = lambda _: LayerConfig()
    qk_norm: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    post_norms: bool = False
    ffn_act: Literal["swiglu", "geglu"] = "swiglu"
    softmax_scale: float | None = None
    """None: 1 / sqrt(head_dim)."""
    embed_scale: float = 1.0
    logits_softcap: float = 0.0
    size: Size = SMALL


SHORT_WINDOW = 24
"""Keys of a sliding window: short, so that an ordinary prompt is longer."""


def _mistral(_: int) -> LayerConfig:
    return LayerConfig(window=SHORT_WINDOW)


def _gemma2(i: int) -> LayerConfig:
    """Every second layer has a window; the cap lies near the hot heads' scores."""
    return LayerConfig(window=SHORT_WINDOW if i % 2 == 0 else 0, softcap=12.0)


def _gpt_oss(i: int) -> LayerConfig:
    """Learned sinks, alternating windows, YaRN-like factors: slow dimensions are turned 4 times slower."""
    pairs = SMALL.head_dim // 2
    return LayerConfig(
        rope_base=150000.0,
        rope_factors=tuple(float(f) for f in np.interp(np.arange(pairs), [pairs / 4, 3 * pairs / 4], [1.0, 4.0])),
        window=SHORT_WINDOW if i % 2 == 0 else 0,
        sinks=tuple(float(x) for x in np.random.default_rng([3, i]).normal(1.0, 2.0, SMALL.n_heads)),
    )


def _qwen3(i: int) -> LayerConfig:
    """Two bases and a partial rotary in every third layer."""
    return LayerConfig(rope_base=1e6 if i % 2 else 1e4, rotary_dim=SMALL.head_dim // 2 if i % 3 == 2 else 0)


def _bloom(_: int) -> LayerConfig:
    """Positions by ALiBi alone: nothing is turned; head h falls off by 2^-(h + 1) a key."""
    return LayerConfig(rope_style="none", alibi=tuple(2.0 ** -(h + 1) for h in range(SMALL.n_heads)))


VARIANTS: Mapping[str, Variant] = {
    "llama": Variant(),
    "qwen3": Variant(_qwen3, qk_norm=True),
    "mistral": Variant(_mistral),
    "gemma2": Variant(
        _gemma2, post_norms=True, ffn_act="geglu", softmax_scale=0.2, embed_scale=1.3, logits_softcap=3.0
    ),
    "gpt-oss": Variant(_gpt_oss, qkv_bias=True, o_bias=True),
    "bloom": Variant(_bloom, o_bias=True),
    "wide": Variant(size=WIDE),
}


def synthetic(variant: str = "llama", seed: int = 1) -> ModelSource:
    """The model of one family for one weight seed. Weights float32, [out, in], scale 1/sqrt(in)."""
    family = VARIANTS[variant]
    size = family.size
    config = ModelConfig(
        arch=f"synthetic-{variant}",
        n_layers=size.n_layers,
        width=size.width,
        ffn_width=size.ffn,
        n_heads=size.n_heads,
        n_kv_heads=size.n_kv_heads,
        head_dim_qk=size.head_dim,
        head_dim_v=size.head_dim,
        vocab=VOCAB,
        context=CONTEXT,
        rms_eps=1e-5,
        softmax_scale=family.softmax_scale or size.head_dim**-0.5,
        layers=tuple(family.layer(i) for i in range(size.n_layers)),
        qkv_bias=family.qkv_bias,
        o_bias=family.o_bias,
        qk_norm=family.qk_norm,
        post_norms=family.post_norms,
        ffn_act=family.ffn_act,
        embed_scale=family.embed_scale,
        logits_softcap=family.logits_softcap,
    )
    name = "synthetic" if variant == "llama" else f"synthetic:{variant}"
    weights = _weights(size, seed) | _added(family, seed)
    return ModelSource(name, config, F32Weights(weights), ByteTokenizer(), f"{name} seed {seed}")


def _added(family: Variant, seed: int) -> dict[str, np.ndarray]:
    """The tensors that a family has and the llama has not; the llama's own stay what they are."""
    rng = np.random.default_rng([seed, 1])
    added: dict[str, np.ndarray] = {}
    size = family.size
    for i in range(size.n_layers):
        if family.qk_norm:
            added |= {f"layers.{i}.{name}": rng.uniform(0.5, 2.0, size.head_dim) for name in ("q_norm", "k_norm")}
        if family.qkv_bias:
            heads = {"q": size.n_heads, "k": size.n_kv_heads, "v": size.n_kv_heads}
            added |= {f"layers.{i}.{n}_bias": rng.normal(0.0, 0.3, count * size.head_dim) for n, count in heads.items()}
        if family.o_bias:
            added[f"layers.{i}.o_bias"] = rng.normal(0.0, 0.1, size.width)
        if family.post_norms:
            norms = ("post_attn_norm", "post_ffn_norm")
            added |= {f"layers.{i}.{name}": rng.uniform(0.2, 0.6, size.width) for name in norms}
    return added


def _weights(size: Size, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        w: np.ndarray = rng.standard_normal((rows, columns)) / np.sqrt(columns)
        return w

    def norm() -> np.ndarray:
        weight = rng.uniform(0.5, 1.5, size.width)
        weight[[CONSTANT, IS_BOS]] = 1.0
        return weight

    embed = rng.standard_normal((VOCAB, size.width))
    embed[:, OUTLIERS] *= OUTLIER_GAIN
    embed[:, CONSTANT] = 4.0
    embed[:, IS_BOS] = 0.0
    embed[BOS, IS_BOS] = 40.0
    rms = np.sqrt(np.mean(embed**2, axis=1))
    constant, is_bos = np.median(embed[:, CONSTANT] / rms), embed[BOS, IS_BOS] / rms[BOS]
    score = SINK_SCORE * np.sqrt(size.head_dim) / (constant * is_bos)
    weights = {"embed": embed}
    hot = size.hot_heads
    for i in range(size.n_layers):
        q = matrix(size.n_heads * size.head_dim, size.width)
        k = matrix(size.n_kv_heads * size.head_dim, size.width)
        _add_sinks(size, rng, q, k, score)
        q.reshape(size.n_heads, size.head_dim, size.width)[hot[i % len(hot)]] *= HOT_GAIN
        o, down = matrix(size.width, size.n_heads * size.head_dim), matrix(size.width, size.ffn)
        o[[CONSTANT, IS_BOS]] = 0.0  # nothing writes to the channels with a meaning
        down[[CONSTANT, IS_BOS]] = 0.0
        weights |= {
            f"layers.{i}.attn_norm": norm(),
            f"layers.{i}.q": q,
            f"layers.{i}.k": k,
            f"layers.{i}.v": matrix(size.n_kv_heads * size.head_dim, size.width),
            f"layers.{i}.o": o,
            f"layers.{i}.ffn_norm": norm(),
            f"layers.{i}.gate": matrix(size.ffn, size.width),
            f"layers.{i}.up": matrix(size.ffn, size.width),
            f"layers.{i}.down": down,
        }
    weights["final_norm"] = norm()
    weights["lm_head"] = matrix(VOCAB, size.width)
    return weights


def _add_sinks(size: Size, rng: np.random.Generator, q: np.ndarray, k: np.ndarray, score: float) -> None:
    """In every second kv head, let each query look at BOS: the constant channel through wq meets BOS's through wk.

    Both land in the pair of dimensions that RoPE turns slowest, so that distance hardly weakens the score. ``score``:
    the raw dot product wanted per unit of both weights' product.
    """
    slow = size.head_dim // 2 - 1
    for kv in size.sink_kv_heads:
        k.reshape(size.n_kv_heads, size.head_dim, size.width)[kv, slow, IS_BOS] = np.sqrt(score) * rng.uniform(0.9, 1.1)
        for h in range(kv * size.group, (kv + 1) * size.group):
            q.reshape(size.n_heads, size.head_dim, size.width)[h, slow, CONSTANT] = np.sqrt(score) * rng.uniform(
                0.9, 1.1
            )
