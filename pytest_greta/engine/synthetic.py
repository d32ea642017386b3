"""``synthetic``: a small seeded llama with what real models have and random ones lack.

- outlier channels: a few residual channels are tens of times larger than the rest, as in trained models;
- attention sinks: in half of the heads the first token (BOS) draws most of the weight, however far away it is;
- hot logits: some heads have scores of +-20, so that softmax is nearly one-hot there;
- every matrix is non-symmetric and every layer is different, so that a transposed, misrouted or mixed-up weight shows.

No download, no file: the embedded default.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def synthetic(seed: int = 1) -> ModelSource:
    """The model for one weight seed. Weights float32, [out, in], scale 1/sqrt(in)."""
    layer = LayerConfig(rope_base=10000.0, rope_style="half")
    config = ModelConfig(
        arch="synthetic-llama",
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
        softmax_scale=HEAD_DIM**-0.5,
        layers=(layer,) * N_LAYERS,
    )
    return ModelSource("synthetic", config, F32Weights(_weights(seed)), ByteTokenizer(), f"synthetic seed {seed}")


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
