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

import numpy as np

from pytest_greta.backends.base import LayerConfig
from pytest_greta.engine.spec import F32Weights, ModelConfig, ModelSource

N_LAYERS, WIDTH, FFN, N_HEADS, N_KV_HEADS, HEAD_DIM, CONTEXT = 6, 256, 512, 8, 4, 32, 8192
BOS, EOS, PAD = 256, 257, 258
VOCAB = 259

CONSTANT, IS_BOS = 0, 1
"""Residual channels with a meaning: one that every token has, one that only BOS has. The sinks are made of them."""
OUTLIERS = (7, 100, 201)
OUTLIER_GAIN = 30.0
GROUP = N_HEADS // N_KV_HEADS
SINK_KV_HEADS = range(0, N_KV_HEADS, 2)
SINK_SCORE = 5.0
"""Of BOS, where other keys score about +-1: most of the weight in a short prompt, a good part of it in a long one."""
HOT_HEADS = tuple(h for h in range(N_HEADS) if h // GROUP not in SINK_KV_HEADS)
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
    softmax_scale: float = HEAD_DIM**-0.5


SHORT_WINDOW = 24
"""Keys of a sliding window: short, so that an ordinary prompt is longer."""


def _mistral(_: int) -> LayerConfig:
    return LayerConfig(window=SHORT_WINDOW)


def _gemma2(i: int) -> LayerConfig:
    """Every second layer has a window; the cap lies near the hot heads' scores."""
    return LayerConfig(window=SHORT_WINDOW if i % 2 == 0 else 0, softcap=12.0)


def _gpt_oss(i: int) -> LayerConfig:
    """Learned sinks, alternating windows, YaRN-like factors: slow dimensions are turned 4 times slower."""
    pairs = HEAD_DIM // 2
    return LayerConfig(
        rope_base=150000.0,
        rope_factors=tuple(float(f) for f in np.interp(np.arange(pairs), [pairs / 4, 3 * pairs / 4], [1.0, 4.0])),
        window=SHORT_WINDOW if i % 2 == 0 else 0,
        sinks=tuple(float(x) for x in np.random.default_rng([3, i]).normal(1.0, 2.0, N_HEADS)),
    )


def _qwen3(i: int) -> LayerConfig:
    """Two bases and a partial rotary in every third layer."""
    return LayerConfig(rope_base=1e6 if i % 2 else 1e4, rotary_dim=HEAD_DIM // 2 if i % 3 == 2 else 0)


VARIANTS: Mapping[str, Variant] = {
    "llama": Variant(),
    "qwen3": Variant(_qwen3, qk_norm=True),
    "mistral": Variant(_mistral),
    "gemma2": Variant(_gemma2, post_norms=True, softmax_scale=0.2),
    "gpt-oss": Variant(_gpt_oss, qkv_bias=True, o_bias=True),
}


def synthetic(variant: str = "llama", seed: int = 1) -> ModelSource:
    """The model of one family for one weight seed. Weights float32, [out, in], scale 1/sqrt(in)."""
    family = VARIANTS[variant]
    config = ModelConfig(
        arch=f"synthetic-{variant}",
        n_layers=N_LAYERS,
        width=WIDTH,
        ffn_width=FFN,
        n_heads=N_HEADS,
        n_kv_heads=N_KV_HEADS,
        head_dim_qk=HEAD_DIM,
        head_dim_v=HEAD_DIM,
        vocab=VOCAB,
        context=CONTEXT,
        rms_eps=1e-5,
        softmax_scale=family.softmax_scale,
        layers=tuple(family.layer(i) for i in range(N_LAYERS)),
        qkv_bias=family.qkv_bias,
        o_bias=family.o_bias,
        qk_norm=family.qk_norm,
        post_norms=family.post_norms,
    )
    name = "synthetic" if variant == "llama" else f"synthetic:{variant}"
    weights = _weights(seed) | _added(family, seed)
    return ModelSource(name, config, F32Weights(weights), ByteTokenizer(), f"{name} seed {seed}")


def _added(family: Variant, seed: int) -> dict[str, np.ndarray]:
    """The tensors that a family has and the llama has not; the llama's own stay what they are."""
    rng = np.random.default_rng([seed, 1])
    added: dict[str, np.ndarray] = {}
    for i in range(N_LAYERS):
        if family.qk_norm:
            added |= {f"layers.{i}.{name}": rng.uniform(0.5, 2.0, HEAD_DIM) for name in ("q_norm", "k_norm")}
        if family.qkv_bias:
            heads = {"q": N_HEADS, "k": N_KV_HEADS, "v": N_KV_HEADS}
            added |= {f"layers.{i}.{n}_bias": rng.normal(0.0, 0.3, count * HEAD_DIM) for n, count in heads.items()}
        if family.o_bias:
            added[f"layers.{i}.o_bias"] = rng.normal(0.0, 0.1, WIDTH)
        if family.post_norms:
            norms = ("post_attn_norm", "post_ffn_norm")
            added |= {f"layers.{i}.{name}": rng.uniform(0.2, 0.6, WIDTH) for name in norms}
    return added


def _weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        w: np.ndarray = rng.standard_normal((rows, columns)) / np.sqrt(columns)
        return w

    def norm() -> np.ndarray:
        weight = rng.uniform(0.5, 1.5, WIDTH)
        weight[[CONSTANT, IS_BOS]] = 1.0
        return weight

    embed = rng.standard_normal((VOCAB, WIDTH))
    embed[:, OUTLIERS] *= OUTLIER_GAIN
    embed[:, CONSTANT] = 4.0
    embed[:, IS_BOS] = 0.0
    embed[BOS, IS_BOS] = 40.0
    rms = np.sqrt(np.mean(embed**2, axis=1))
    constant, is_bos = np.median(embed[:, CONSTANT] / rms), embed[BOS, IS_BOS] / rms[BOS]
    score = SINK_SCORE * np.sqrt(HEAD_DIM) / (constant * is_bos)
    weights = {"embed": embed}
    for i in range(N_LAYERS):
        q = matrix(N_HEADS * HEAD_DIM, WIDTH)
        k = matrix(N_KV_HEADS * HEAD_DIM, WIDTH)
        _add_sinks(rng, q, k, score)
        q.reshape(N_HEADS, HEAD_DIM, WIDTH)[HOT_HEADS[i % len(HOT_HEADS)]] *= HOT_GAIN
        o, down = matrix(WIDTH, N_HEADS * HEAD_DIM), matrix(WIDTH, FFN)
        o[[CONSTANT, IS_BOS]] = 0.0  # nothing writes to the channels with a meaning
        down[[CONSTANT, IS_BOS]] = 0.0
        weights |= {
            f"layers.{i}.attn_norm": norm(),
            f"layers.{i}.q": q,
            f"layers.{i}.k": k,
            f"layers.{i}.v": matrix(N_KV_HEADS * HEAD_DIM, WIDTH),
            f"layers.{i}.o": o,
            f"layers.{i}.ffn_norm": norm(),
            f"layers.{i}.gate": matrix(FFN, WIDTH),
            f"layers.{i}.up": matrix(FFN, WIDTH),
            f"layers.{i}.down": down,
        }
    weights["final_norm"] = norm()
    weights["lm_head"] = matrix(VOCAB, WIDTH)
    return weights


def _add_sinks(rng: np.random.Generator, q: np.ndarray, k: np.ndarray, score: float) -> None:
    """In every second kv head, let each query look at BOS: the constant channel through wq meets BOS's through wk.

    Both land in the pair of dimensions that RoPE turns slowest, so that distance hardly weakens the score. ``score``:
    the raw dot product wanted per unit of both weights' product.
    """
    slow = HEAD_DIM // 2 - 1
    for kv in SINK_KV_HEADS:
        k.reshape(N_KV_HEADS, HEAD_DIM, WIDTH)[kv, slow, IS_BOS] = np.sqrt(score) * rng.uniform(0.9, 1.1)
        for h in range(kv * GROUP, (kv + 1) * GROUP):
            q.reshape(N_HEADS, HEAD_DIM, WIDTH)[h, slow, CONSTANT] = np.sqrt(score) * rng.uniform(0.9, 1.1)
