"""Likely causes of a guilty stage, most likely first, as message keys. Pure and light: the verdict reads it."""

from __future__ import annotations

_PROVENANCE: dict[str, str] = {
    "kv_head": "cause.kv_head",
    "kv_len": "cause.kv_len",
    "window": "cause.window",
    "mask": "cause.mask",
    "softmax_scale": "cause.softmax_scale",
    "qk_scale": "cause.softmax_scale",
    "layer": "cause.layer",
    "sequence": "cause.sequence",
    "page": "cause.page",
    "stale": "cause.stale",
    "previous_bytes": "cause.stale",
    "kv_scale": "cause.cache_scale",
    "score_mod": "cause.score_mod",
    "split_merge": "cause.split_merge",
    "weight_route": "cause.weight_route",
    "configuration": "cause.configuration",
}

_PROJECTION = ("cause.weight_route", "cause.projection", "cause.row")
_NORM = ("cause.norm", "cause.row")
_ROPE = ("cause.rope_position", "cause.rope_table", "cause.rope_apply")

_STAGE: dict[str, tuple[str, ...]] = {
    "embed_out": ("cause.embedding", "cause.weight_route", "cause.row"),
    "pos_embed": ("cause.embedding", "cause.row"),
    "x_in": ("cause.layer_input", "cause.row"),
    "attn_norm": _NORM,
    "q_proj": _PROJECTION,
    "k_proj": _PROJECTION,
    "v_proj": _PROJECTION,
    "q_norm": ("cause.qk_norm", "cause.row"),
    "k_norm": ("cause.qk_norm", "cause.row"),
    "q_rope": _ROPE,
    "k_rope": _ROPE,
    "kv_write": ("cause.cache_slot", "cause.cache_bytes", "cause.cache_scale"),
    "kv_read": ("cause.cache_bytes", "cause.cache_slot", "cause.stale", "cause.page"),
    "lse": ("cause.kv_len", "cause.softmax_scale", "cause.kv_head", "cause.mask", "cause.page", "cause.score_mod"),
    "attn_out": ("cause.split_merge", "cause.value_rows", "cause.tile_walk", "cause.kv_head", "cause.tail"),
    "o_proj": _PROJECTION,
    "post_attn_norm": _NORM,
    "residual_attn": ("cause.residual", "cause.row"),
    "ffn_norm": _NORM,
    "gate_proj": _PROJECTION,
    "up_proj": _PROJECTION,
    "ffn_act": ("cause.ffn",),
    "down_proj": _PROJECTION,
    "post_ffn_norm": _NORM,
    "x_out": ("cause.residual", "cause.row"),
    "final_norm": _NORM,
    "logits": ("cause.logits", "cause.weight_route", "cause.projection"),
}


def likely_causes(stage: str, provenance: str = "") -> tuple[str, ...]:
    """Message keys for a stage, most likely first; what ``provenance`` (``StageCheck.cause``) names are the only ones.

    A provenance may be ``cause.*`` itself or some of the checks' words (``kv_head``, ``kv_len``, ...), joined by
    commas; an unknown one adds nothing.
    """
    keys = (key if key in _KEYS else _PROVENANCE.get(key, "") for key in provenance.split(","))
    named = tuple(dict.fromkeys(key for key in keys if key))
    return named or _STAGE.get(stage, ())


_KEYS = frozenset(_PROVENANCE.values()) | {key for keys in _STAGE.values() for key in keys}
