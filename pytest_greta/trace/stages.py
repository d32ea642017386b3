"""The stages of a transformer layer, in the order in which they happen.

A trace record names one of these and nothing else. This module imports nothing, so that the plugin can read it cheaply.
"""

from __future__ import annotations

STAGES: tuple[str, ...] = (
    "embed_out",
    "pos_embed",
    "x_in",
    "attn_norm",
    "q_proj",
    "k_proj",
    "v_proj",
    "q_norm",
    "k_norm",
    "q_rope",
    "k_rope",
    "kv_write",
    "kv_read",
    "scores",
    "probs",
    "lse",
    "attn_out",
    "o_proj",
    "post_attn_norm",
    "residual_attn",
    "ffn_norm",
    "gate_proj",
    "up_proj",
    "ffn_act",
    "down_proj",
    "post_ffn_norm",
    "x_out",
    "final_norm",
    "logits",
)

ORDER: dict[str, int] = {stage: index for index, stage in enumerate(STAGES)}

BEFORE_LAYERS: tuple[str, ...] = ("embed_out", "pos_embed")
AFTER_LAYERS: tuple[str, ...] = ("final_norm", "logits")

CACHE_STAGES: tuple[str, ...] = ("kv_write", "kv_read")
"""Snapshots of the cache. Only here may a row be all zero: it was written elsewhere, and the checks say so."""

ATTENTION_STAGES: tuple[str, ...] = ("lse", "attn_out")
"""What an attention call gives."""

EXTRA: tuple[str, ...] = ("q0", "repeat", "alone")
"""Parts of lse and attn_out from further calls of the same kernel: with q = 0, once more from the same inputs, without
the rest of the batch. Each is judged for itself; between the paths they are not compared."""

PADS = "pad"
"""Part of a stage's pad rows, at positions below 0. Those of companion n of the batch are ``seqN``, and their positions
its slots."""


def is_beside(part: str) -> bool:
    """Of tokens that are no part of the probed sequence."""
    return part == PADS or part.startswith("seq")


DERIVED: tuple[str, ...] = ("scores", "probs")
"""Computed by the harness from traced values where the kernel has none: shown, never compared, never evidence."""

MODEL = -1
"""The ``layer`` of a stage that belongs to no layer."""


def order(layer: int, stage: str) -> tuple[int, int]:
    """A sort key: the order in which (layer, stage) happens in a forward pass."""
    if stage in BEFORE_LAYERS:
        return (-1, ORDER[stage])
    if stage in AFTER_LAYERS:
        return (1 << 30, ORDER[stage])
    return (layer, ORDER.get(stage, len(STAGES)))  # one of a later version stands last
