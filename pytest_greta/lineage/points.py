"""GRETA's names of what was traced, and the stages that they are here."""

from __future__ import annotations

from pytest_greta.trace.stages import AFTER_LAYERS, BEFORE_LAYERS, MODEL, ORDER

POINTS: dict[str, str] = {
    "embd_w_hash": "embed_out",
    "embed_out": "embed_out",
    "x_in": "x_in",
    "attn_norm": "attn_norm",
    "attn_rms_in": "attn_norm",
    "attn_norm_out": "attn_norm",
    "norm_out": "attn_norm",
    "q_pre_rope": "q_proj",
    "q_post_rope": "q_rope",
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "q_proj": "q_proj",
    "k_proj": "k_proj",
    "v_proj": "v_proj",
    "kv_cache_fp": "kv_read",
    "attn_out": "attn_out",
    "wo_out": "o_proj",
    "residual_out": "residual_attn",
    "ffn_norm": "ffn_norm",
    "mlp_out": "down_proj",
    "x_out": "x_out",
    "logits": "logits",
}
WEIGHT = "embd_w_hash"
"""Not a row: the same at every position."""

AFTER_ATTENTION = ORDER["attn_out"]


def place(point: str, layer: int) -> tuple[int, str]:
    """(layer, stage) of a known point."""
    stage = POINTS[point]
    return (MODEL if stage in (*BEFORE_LAYERS, *AFTER_LAYERS) else layer), stage
