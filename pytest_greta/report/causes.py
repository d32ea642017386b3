"""Likely causes of a guilty stage, most likely first, as message keys. Pure and light: the verdict reads it."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_greta.trace.stages import ATTENTION_STAGES, CACHE_STAGES

PROVENANCE: dict[str, str] = {
    "kv_head": "cause.kv_head",
    "kv_len": "cause.kv_len",
    "window": "cause.window",
    "mask": "cause.mask",
    "qk_scale": "cause.softmax_scale",
    "layer": "cause.layer",
    "sequence": "cause.sequence",
    "page": "cause.page",
    "previous_bytes": "cause.stale",
    "kv_scale": "cause.cache_scale",
    "score_mod": "cause.score_mod",
    "norm_eps": "cause.norm_eps",
}
"""By what the checks say (``StageCheck.cause``)."""

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


_ATTENTION_PATTERN: dict[str, tuple[str, ...]] = {
    "row_one": ("cause.stale", "cause.tail"),
    "row_last": ("cause.kv_len", "cause.stale"),
    "rows_all": ("cause.softmax_scale", "cause.mask", "cause.kv_len"),
    "rows_but_first": ("cause.kv_len", "cause.mask", "cause.layer"),
    "rows_from": ("cause.window", "cause.page", "cause.kv_len"),
    "rows_from_tile": ("cause.tile_walk", "cause.split_merge", "cause.window"),
    "rows_from_page": ("cause.page", "cause.window"),
    "rows_tile_first": ("cause.tile_walk",),
    "rows_tile_last": ("cause.tile_walk",),
    "rows_page_first": ("cause.page",),
    "rows_page_last": ("cause.page",),
    "head_one": ("cause.kv_head", "cause.score_mod", "cause.cache_scale"),
    "heads_group": ("cause.kv_head", "cause.cache_scale"),
    "heads_each_group": ("cause.kv_head", "cause.score_mod"),
    "channel_one": ("cause.tile_walk", "cause.value_rows"),
    "channels_range": ("cause.tile_walk", "cause.value_rows"),
    "layers_from": ("cause.layer",),
    "layers_every": ("cause.window", "cause.score_mod"),
}
_ROPE_PATTERN: dict[str, tuple[str, ...]] = {
    "row_one": ("cause.rope_position",),
    "rows_all": ("cause.rope_position",),
    "rows_but_first": ("cause.rope_table", "cause.rope_apply"),
    "rows_from": ("cause.rope_table",),
    "channel_one": ("cause.rope_table",),
    "channels_range": ("cause.rope_table", "cause.rope_apply"),
    "layers_every": ("cause.rope_table",),
}
_CACHE_PATTERN: dict[str, tuple[str, ...]] = {
    "row_one": ("cause.cache_slot", "cause.stale"),
    "row_last": ("cause.cache_slot",),
    "rows_from": ("cause.stale", "cause.cache_slot"),
    "rows_from_page": ("cause.page",),
    "rows_page_first": ("cause.page",),
    "rows_page_last": ("cause.page",),
    "head_one": ("cause.cache_scale",),
    "channel_one": ("cause.cache_bytes",),
}
_LINEAR_PATTERN: dict[str, tuple[str, ...]] = {
    "row_one": ("cause.row",),
    "row_first": ("cause.row",),
    "row_last": ("cause.row",),
    "channel_one": ("cause.projection",),
}
_PATTERN: dict[str, dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(ATTENTION_STAGES, _ATTENTION_PATTERN),
    **dict.fromkeys(("q_rope", "k_rope"), _ROPE_PATTERN),
    **dict.fromkeys(CACHE_STAGES, _CACHE_PATTERN),
}
"""What a pattern speaks for, by stage; ``_LINEAR_PATTERN`` elsewhere. It only orders the causes, or adds one."""


def likely_causes(stage: str, provenance: str = "", pattern: Iterable[str] = ()) -> tuple[str, ...]:
    """Message keys for a stage, most likely first; what ``provenance`` (``StageCheck.cause``) names are the only ones.

    A provenance is some of the checks' words (``kv_head``, ``kv_len``, ...), joined by commas; an unknown one adds
    nothing. ``pattern``: keys of ``checks.pattern``; what they speak for comes first.
    """
    named = tuple(dict.fromkeys(PROVENANCE[key] for key in provenance.split(",") if key in PROVENANCE))
    if named:
        return named
    spoken = _PATTERN.get(stage, _LINEAR_PATTERN)
    first = (key for word in pattern for key in spoken.get(word, ()))
    return tuple(dict.fromkeys((*first, *_STAGE.get(stage, ()))))
