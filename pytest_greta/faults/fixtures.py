"""What each kind of fault needs to be seen, and what must then be said of it: the suite of ``greta selftest``.

One entry a variant of a kind. The fixture is what makes the fault visible: without it a run proves nothing. Light: read
without NumPy. The expectations come from the nature of the bug, never from a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DTYPES = ("f32", "bf16", "f16")


@dataclass(frozen=True)
class Expected:
    """What the verdict must be. ``stages``: those at which a perfect localiser may point, one of them.

    ``layer``: the injected layer is the one that must be named (the first, where the fault is in all); False where the
    fault is outside of the layers (-1). ``finding``: one of these, where the fault counts as found by its finding.
    ``scenario`` of "": either, because two bugs with one effect would be called differently (a gain of K's cache scale
    and one of the softmax scale).
    """

    scenario: str
    stages: tuple[str, ...]
    status: str = "KV_MISMATCH"
    layer: bool = True
    finding: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fixture:
    """One variant of a kind of fault, with everything of it that may be drawn.

    ``rows``: least and most N, the rows in the cache before the first decoded token; draw log-uniformly. The prompt has
    N + ``steps`` random tokens. ``keys``: keys of a case, each with the values that it may have. ``inject``: keys of
    ``inject:`` likewise, where

    - ``layer`` may be ``any`` or ``upper`` (not the first), ``head`` may be ``any``;
    - ``position`` may be ``cached`` (one of rows 1 .. N - 1) or ``decoded`` (row N);
    - None leaves the key out.

    ``smallest``: by dtype, the least magnitude (of either sign where ``signed``) at which every run must be found;
    draw from there to ``SPAN`` times that. None where the magnitude is a count or a choice: then ``inject`` has it.
    ``dtypes``: activation types. ``expect``: the verdict.
    """

    kind: str
    name: str
    expect: Expected
    rows: tuple[int, int] = (16, 512)
    model: str = "synthetic"
    keys: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    inject: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    smallest: Mapping[str, float] | None = None
    signed: bool = True
    dtypes: tuple[str, ...] = DTYPES


SPAN = 100.0
"""Magnitudes are drawn log-uniformly from the smallest to so many times that."""

ANY, ONE_HEAD, PHASES, PAGES, OTHERS = ("any",), (None, "any"), ("prefill", "decode", "both"), (0, 16), ((), (9, 40))
_MISALIGNED, _REAL = "KV_MISALIGNMENT", "REAL_MISMATCH"
_TURNED, _ATTENTION = ("q_rope", "k_rope"), ("lse", "attn_out")
_SPLITS = (
    {"decode": {"tile": 16, "splits": 2}},
    {"decode": {"tile": 32, "splits": 3}},
    {"decode": {"tile": 64, "splits": 2}},
)
_TILES = tuple({"prefill": {"tile": tile}, "decode": {"tile": tile}} for tile in (16, 32, 64))
_OWN_TYPE = (None,)
"""The cache holds the activation type: what another one rounds away was not there."""


_SEVERAL = (8,)
"""Decoded rows: in one alone the largest score of every head may lie in the first tile of both schedules, which then
round alike."""


def _rounded(p_dtype: str, p_scale: float) -> tuple[dict[str, Any], ...]:
    """One schedule for both phases, so that a healthy run finds none that is another."""
    schedules = ({"tile": tile, "splits": 1, "p_dtype": p_dtype, "p_scale": p_scale} for tile in (32, 64, 96))
    return tuple({"prefill": schedule, "decode": schedule} for schedule in schedules)


def _kernel(
    phases: tuple[str, ...] = PHASES, layer: str = "any", **more: tuple[Any, ...]
) -> dict[str, tuple[Any, ...]]:
    """What may be drawn of a fault inside the kernel."""
    return {"phase": phases, "layer": (layer,), "head": ONE_HEAD, **more}


FIXTURES: tuple[Fixture, ...] = (
    *(
        Fixture(
            "w_route",
            f"w_route_{stage}",
            Expected(_REAL, (stage,)),
            rows=(2, 512),
            inject={"phase": PHASES, "layer": ANY, "stage": (stage,), "magnitude": (1, 2)},
        )
        for stage in ("q_proj", "k_proj", "v_proj", "o_proj")
    ),
    *(
        Fixture(
            "w_route",
            f"w_route_{stage}",
            Expected(_REAL, (stage,), layer=False),
            rows=(2, 512),
            inject={"phase": PHASES, "stage": (stage,), "magnitude": (1, 2)},
        )
        for stage in ("embed_out", "logits")
    ),
    *(
        Fixture(
            "in_row",
            f"in_row_{stage}",
            Expected(_REAL, (stage,)),
            keys={"page_size": PAGES, "batch": OTHERS},
            inject={"phase": PHASES, "layer": ANY, "stage": (stage,), "magnitude": (1, 2)},
        )
        for stage in ("x_in", "attn_norm", "ffn_norm")
    ),
    Fixture(
        "in_row",
        "in_row_final_norm",
        Expected(_REAL, ("final_norm",), layer=False),
        inject={"phase": ("decode",), "stage": ("final_norm",), "magnitude": (1,)},
    ),
    *(
        Fixture(
            "qk_norm",
            f"qk_norm_{stage}",
            Expected(_REAL, (stage,)),
            model="synthetic:qwen3",
            inject={"phase": PHASES, "layer": ANY, "stage": (stage,), "magnitude": (1,)},
        )
        for stage in ("q_norm", "k_norm")
    ),
    *(
        Fixture(
            "gemm_prec",
            f"gemm_prec_{stage}",
            Expected(_REAL, (stage,)),
            inject={"phase": PHASES, "layer": ANY, "stage": (stage,), "magnitude": (8,)},
        )
        for stage in ("q_proj", "k_proj", "v_proj", "o_proj")
    ),
    Fixture(
        "gemm_prec",
        "gemm_prec_tf32",
        Expected(_REAL, ("q_proj", "k_proj", "v_proj", "o_proj")),
        inject={"phase": PHASES, "layer": ANY, "stage": ("q_proj", "v_proj", "o_proj"), "magnitude": (11,)},
        dtypes=("f32",),
    ),
    Fixture(
        "rope_pos",
        "rope_pos",
        Expected(_MISALIGNED, _TURNED),
        keys={"page_size": PAGES, "left_pad": (0, 5)},
        inject={"phase": PHASES, "layer": ANY, "magnitude": (-1, 1, 2)},
    ),
    Fixture(
        "rope_pos",
        "rope_pos_one_row",
        Expected(_MISALIGNED, _TURNED),
        keys={"chunk": (None, 48)},
        inject={"phase": ("prefill",), "layer": ANY, "position": ("cached",), "magnitude": (-1, 1)},
    ),
    Fixture(
        "rope_table",
        "rope_table_two_bases",
        Expected(_MISALIGNED, _TURNED),
        model="synthetic:qwen3",
        inject={"phase": PHASES, "layer": ANY, "stage": (None, "q_rope", "k_rope"), "magnitude": (1, 3)},
    ),
    Fixture(
        "rope_table",
        "rope_table_scaling",
        Expected(_MISALIGNED, _TURNED),
        model="synthetic:gpt-oss",
        inject={"phase": PHASES, "layer": ANY, "stage": (None, "q_rope", "k_rope"), "magnitude": (1,)},
    ),
    Fixture(
        "rope_apply",
        "rope_apply",
        Expected(_MISALIGNED, _TURNED),
        keys={"left_pad": (0, 5)},
        inject={"phase": PHASES, "layer": ANY, "stage": (None, "q_rope", "k_rope"), "magnitude": (-1, 1, 2)},
    ),
    Fixture(
        "rope_apply",
        "rope_apply_one_row",
        Expected(_MISALIGNED, _TURNED),
        inject={"phase": ("prefill",), "layer": ANY, "position": ("cached",), "magnitude": (-1, 1, 2)},
    ),
    Fixture(
        "kv_slot",
        "kv_slot",
        Expected(_REAL, ("kv_write", "kv_read")),
        keys={"page_size": PAGES, "batch": OTHERS},
        inject={"phase": ("decode",), "layer": ANY, "magnitude": (-1, 1)},
    ),
    Fixture(
        "kv_slot",
        "kv_slot_prefill",  # upwards: there is no slot before the first, and a library refuses it
        Expected(_REAL, ("kv_write", "kv_read")),
        keys={"page_size": PAGES, "batch": OTHERS},
        inject={"phase": ("prefill",), "layer": ANY, "magnitude": (1, 2)},
    ),
    Fixture(
        "kv_slot",
        "kv_slot_one_row",
        Expected(_REAL, ("kv_write", "kv_read")),
        keys={"page_size": PAGES},
        inject={"phase": ("prefill",), "layer": ANY, "position": ("cached",), "magnitude": (-1, 1)},
    ),
    Fixture(
        "kv_stale",
        "kv_stale",
        Expected(_REAL, _ATTENTION),
        rows=(24, 512),
        keys={"reuse": ({"prefix": 8, "rollback": 6}, {"prefix": 16, "rollback": 3}), "page_size": PAGES},
        inject=_kernel(magnitude=(1,)),
    ),
    *(
        Fixture(
            "kv_scale",
            f"kv_scale_{stage}",
            Expected(_REAL, (stage,)),
            keys={"kv_dtype": ("fp8_e4m3fn", "fp8_e4m3fnuz"), "page_size": PAGES},
            inject=_kernel(stage=(stage,), magnitude=(1, 2)),
        )
        for stage in _ATTENTION
    ),
    Fixture(
        "dtype_mix",
        "dtype_mix_kv_write",
        Expected(_REAL, ("kv_write",)),
        keys={"page_size": PAGES, "kv_dtype": _OWN_TYPE},
        inject={"phase": PHASES, "layer": ANY, "stage": ("kv_write",), "magnitude": (1,)},
    ),
    Fixture(
        "dtype_mix",
        "dtype_mix_one_row",
        Expected(_REAL, ("kv_write",)),
        keys={"kv_dtype": _OWN_TYPE},
        inject={"phase": ("prefill",), "layer": ANY, "position": ("cached",), "magnitude": (1,)},
    ),
    Fixture(
        "dtype_mix",
        "dtype_mix_x_in",
        Expected(_REAL, ("x_in",)),
        inject={"phase": PHASES, "layer": ANY, "stage": ("x_in",), "magnitude": (1,)},
    ),
    Fixture(
        "layer_base",
        "layer_base",
        Expected(_REAL, _ATTENTION),
        keys={"page_size": PAGES},
        inject=_kernel(layer="upper", magnitude=(-1,)),
    ),
    Fixture(
        "page_addr",
        "page_addr",
        Expected(_REAL, _ATTENTION),
        keys={"page_size": (8, 16), "batch": OTHERS},
        inject=_kernel(magnitude=(1, 3)),
    ),
    Fixture(
        "page_addr",
        "page_addr_truncated",
        Expected(_REAL, _ATTENTION),
        rows=(64, 512),
        keys={"page_size": (8, 16)},
        inject=_kernel(magnitude=(-1, -2)),
    ),
    Fixture(
        "gqa_map",
        "gqa_map",
        Expected(_REAL, _ATTENTION),
        keys={"page_size": PAGES},
        inject={"phase": PHASES, "layer": ANY, "head": ONE_HEAD, "magnitude": (1, 2, 3)},
    ),
    Fixture(
        "tile_walk",
        "tile_walk",
        Expected(_MISALIGNED, ("attn_out",)),
        rows=(80, 512),
        keys={"schedule": _TILES, "page_size": PAGES},
        inject=_kernel(magnitude=(1, 2)),
    ),
    Fixture(
        "kv_len",
        "kv_len",
        Expected(_MISALIGNED, ("lse",)),
        keys={"page_size": PAGES, "batch": OTHERS},
        inject={"phase": PHASES, "layer": ANY, "magnitude": (-1, 1)},
    ),
    Fixture(
        "causal_align",
        "causal_align_blocks",
        Expected(_MISALIGNED, ("lse",)),
        keys={"steps": (6,), "q_len": (2, 3, 6), "page_size": PAGES},
        inject=_kernel(("decode",), magnitude=(1,)),
    ),
    Fixture(
        "causal_align",
        "causal_align_chunks",
        Expected(_MISALIGNED, ("lse",)),
        rows=(40, 512),
        keys={"chunk": (32,), "page_size": PAGES},
        inject=_kernel(("prefill",), magnitude=(1,)),
    ),
    Fixture(
        "window",
        "window_off",
        Expected(_MISALIGNED, ("lse",)),
        rows=(24, 512),
        model="synthetic:mistral",
        keys={"page_size": PAGES},
        inject=_kernel(magnitude=(-1, 1)),
    ),
    Fixture(
        "window",
        "window_ignored",
        Expected(_MISALIGNED, ("lse",)),
        rows=(24, 512),
        model="synthetic:mistral",
        inject=_kernel(magnitude=(-24,)),
    ),
    Fixture(
        "qk_scale",
        "qk_scale",
        Expected(_MISALIGNED, ("lse",)),
        inject={"phase": PHASES, "layer": ANY, "head": ONE_HEAD},
        # the query is scaled in its own type: what is below half a unit in the last place changes nothing
        smallest={"f32": 1e-3, "f16": 4e-3, "bf16": 3e-2},
    ),
    Fixture(
        "score_mod",
        "score_mod_cap",
        Expected(_MISALIGNED, ("lse",)),
        model="synthetic:gemma2",
        inject={"phase": PHASES, "layer": ANY, "magnitude": (1, 2)},
    ),
    Fixture(
        "score_mod",
        "score_mod_sinks",
        Expected(_MISALIGNED, ("lse",)),
        model="synthetic:gpt-oss",
        inject=_kernel(magnitude=(1, 2)),
    ),
    Fixture(
        "score_mod",
        "score_mod_alibi",
        Expected(_MISALIGNED, ("lse",)),
        model="synthetic:bloom",
        inject=_kernel(magnitude=(1, 2)),
    ),
    Fixture(
        "split_merge",
        "split_merge",
        Expected(_MISALIGNED, _ATTENTION),
        rows=(130, 512),
        keys={"schedule": _SPLITS, "page_size": PAGES, "batch": OTHERS},
        inject=_kernel(("decode",), magnitude=(1,)),
    ),
    Fixture(
        "tile_quant",
        "tile_quant_fp8",
        Expected("STRUCTURAL_DRIFT", ("attn_out",), status="PASS", finding=("SCHEDULE",)),
        rows=(130, 512),
        keys={"schedule": _rounded("fp8_e4m3", 256.0), "steps": _SEVERAL},
        inject={"phase": ("decode",), "layer": ANY, "magnitude": (16, 32)},
    ),
    Fixture(
        "tile_quant",
        "tile_quant_bf16",
        Expected("STRUCTURAL_DRIFT", ("attn_out",), status="PASS", finding=("SCHEDULE",)),
        rows=(130, 512),
        keys={"schedule": _rounded("bf16", 1.0), "steps": _SEVERAL},
        inject={"phase": ("decode",), "layer": ANY, "magnitude": (16, 32)},
        dtypes=("f32",),  # an output of P's own type hides its rounding
    ),
    Fixture(
        "tail_nan",
        "tail_nan",
        Expected(_MISALIGNED, ("attn_out",)),
        rows=(16, 60),
        keys={"schedule": ({"prefill": {"tile": 64}, "decode": {"tile": 64}},)},
        inject=_kernel(magnitude=(1,)),
    ),
    Fixture(
        "gain",
        "gain_o_proj",
        Expected(_REAL, ("o_proj",)),
        rows=(16, 128),
        model="synthetic:wide",
        keys={"steps": (16,)},
        inject={"phase": PHASES, "layer": ANY, "stage": ("o_proj",)},
        smallest={"f32": 3e-5, "f16": 1e-4, "bf16": 3e-4},
    ),
    Fixture(
        "gain",
        "gain_attn_out",
        Expected(_MISALIGNED, ("attn_out",)),
        inject={"phase": PHASES, "layer": ANY, "stage": ("attn_out",)},
        smallest={"f32": 1e-4, "f16": 3e-4, "bf16": 1e-3},
    ),
    Fixture(
        "gain",
        "gain_softmax_scale",
        Expected(_MISALIGNED, ("lse",)),
        inject={"phase": PHASES, "layer": ANY, "stage": ("lse",)},
        smallest=dict.fromkeys(DTYPES, 1e-5),
    ),
    Fixture(
        "gain",
        "gain_k_scale",
        Expected("", ("lse",)),
        keys={"kv_dtype": ("fp8_e4m3fn", "fp8_e4m3fnuz")},
        inject={"phase": PHASES, "layer": ANY, "stage": ("kv_read",)},
        smallest=dict.fromkeys(DTYPES, 1e-5),
    ),
    Fixture(
        "gain",
        "gain_rope_base",
        Expected(_MISALIGNED, _TURNED),
        rows=(64, 512),
        inject={"phase": PHASES, "layer": ANY, "stage": ("q_rope",)},
        smallest={"f32": 1e-5, "f16": 1e-4, "bf16": 1e-3},
    ),
    Fixture(
        "gain",
        "gain_low_bit_of_k",
        Expected(_REAL, ("kv_write",)),
        keys={"page_size": PAGES, "kv_dtype": _OWN_TYPE},
        inject={
            "phase": ("prefill",),
            "layer": ANY,
            "head": ANY,
            "stage": ("kv_write",),
            "position": ("cached",),
            "magnitude": (1,),
        },
    ),
    Fixture(
        "race",
        "race_order",
        Expected("STRUCTURAL_DRIFT", _ATTENTION, status="PASS", finding=("NONDETERMINISTIC",)),
        rows=(130, 512),
        keys={"schedule": _TILES},
        inject={"phase": ("decode",), "layer": ANY, "magnitude": (1,)},
        dtypes=("f32",),  # the rounding to 16 bits hides most of it
    ),
    Fixture(
        "race",
        "race_newest_row",
        Expected("", _ATTENTION, finding=("NONDETERMINISTIC",)),
        inject={"phase": ("prefill", "decode"), "layer": ANY, "magnitude": (2,)},
    ),
)
"""By kind in the order of ``KINDS``; names are unique."""
