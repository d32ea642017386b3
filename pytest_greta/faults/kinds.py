"""The kinds of faults that ``inject:`` knows, by name. Light: read at collection, imports nothing heavy.

What each kind is, and what its magnitude means, stands in both languages in ``catalogue.faults``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_greta.cases.model import Inject

Planted = Literal["argument", "weights", "engine", "kernel"]


@dataclass(frozen=True)
class Kind:
    """One kind of real bug.

    ``planted``: ``argument``, by the harness between tap and call, on any library; ``weights``, by the harness in the
    engine's weights; ``engine``, in the engine's own arithmetic; ``kernel``, in the faulty twin of our library; by
    stage where it differs (``elsewhere``). ``magnitude``: the default. ``uses``: which of ``head:``, ``position:`` and
    ``stage:`` narrow it, by stage where that differs (``uses_at``); another would be ignored, and is refused.
    ``choices``: all magnitudes that it knows, where there are few. ``stages``: what ``stage:`` may say; the first is
    the default. ``found``: the stages at one of which it is found; empty where that is the stage itself, or
    ``found_at``. A kind with both ``stages`` and ``found`` spoils all of them where the case names none. ``scenario``:
    the verdict's; "" where it depends on the stage.
    """

    name: str
    planted: Planted
    magnitude: float
    scenario: str
    found: tuple[str, ...]
    seen_in: str
    uses: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    choices: tuple[float, ...] = ()
    elsewhere: Mapping[str, Planted] = field(default_factory=dict)
    uses_at: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    found_at: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_MISALIGNED, _REAL = "KV_MISALIGNMENT", "REAL_MISMATCH"
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_TURNED = ("q_rope", "k_rope")
_ATTENTION = ("lse", "attn_out")
_IN_KERNEL = ("head", "position")
_ONE = (1,)
"""The choices of a kind that is there or not."""

_ALL = (
    Kind(
        "w_route",
        "weights",
        1,
        _REAL,
        (),
        "GRETA B3.8, B3.16, B3.33-36, B3.40",
        ("stage",),
        (*_PROJECTIONS, "embed_out", "logits"),
    ),
    Kind(
        "in_row",
        "engine",
        1,
        _REAL,
        (),
        "GRETA B3.11, B3.28, B3.42",
        ("stage", "position"),
        ("x_in", "attn_norm", "ffn_norm", "final_norm"),
    ),
    Kind("qk_norm", "engine", 1, _REAL, (), "tt-mlir 9042", ("stage", "position"), ("q_norm", "k_norm"), _ONE),
    Kind("gemm_prec", "engine", 8, _REAL, (), "aprender 3483", ("stage", "position"), _PROJECTIONS),
    Kind(
        "rope_pos",
        "argument",
        1,
        _MISALIGNED,
        _TURNED,
        "fla 766, mlx-vlm 1983, unsloth 3795",
        ("position",),
    ),
    Kind(
        "rope_table",
        "argument",
        1,
        _MISALIGNED,
        _TURNED,
        "transformers 33129, llama.cpp 12373",
        ("stage", "position"),
        _TURNED,
    ),
    Kind(
        "rope_apply",
        "argument",
        -1,
        _MISALIGNED,
        _TURNED,
        "sglang 24148",
        ("stage", "position"),
        _TURNED,
        choices=(-1, 1, 2),
    ),
    Kind("kv_slot", "argument", 1, _REAL, ("kv_write",), "vllm 47056, transformers 37574", ("position",)),
    Kind("kv_stale", "kernel", 1, _REAL, _ATTENTION, "mlx-lm 1109, vllm-mlx 775", _IN_KERNEL, choices=_ONE),
    Kind(
        "kv_scale",
        "kernel",
        1,
        _REAL,
        (),
        "flashinfer 1023",
        ("stage", *_IN_KERNEL),
        _ATTENTION,
        choices=(1, 2),
    ),
    Kind(
        "dtype_mix",
        "argument",
        1,
        _REAL,
        (),
        "GRETA B3.64",
        ("stage", "position"),
        ("kv_write", "x_in"),
        _ONE,
        elsewhere={"x_in": "engine"},
    ),
    Kind("layer_base", "kernel", -1, _REAL, _ATTENTION, "GRETA B3.20-25", _IN_KERNEL),
    Kind("page_addr", "kernel", 1, _REAL, _ATTENTION, "aiter block-id test, vllm 50427", _IN_KERNEL),
    Kind("gqa_map", "argument", 1, _REAL, _ATTENTION, "LMCache 3092", ("head",)),
    Kind("tile_walk", "kernel", 1, _MISALIGNED, ("attn_out",), "ik_llama 2031, tt-metal 22096", _IN_KERNEL),
    Kind("kv_len", "argument", -1, _MISALIGNED, ("lse",), "GRETA B3.19, executorch 2689"),
    Kind("causal_align", "kernel", 1, _MISALIGNED, ("lse",), "gpt-neox 1178", _IN_KERNEL, choices=_ONE),
    Kind("window", "kernel", 1, _MISALIGNED, ("lse",), "transformers 39408", _IN_KERNEL),
    Kind("qk_scale", "argument", 1, _MISALIGNED, ("lse",), "vllm-plugin-FL 400", ("head",)),
    Kind("score_mod", "kernel", 1, _MISALIGNED, ("lse",), "flashinfer 350", _IN_KERNEL, choices=(1, 2)),
    Kind(
        "split_merge",
        "kernel",
        1,
        _MISALIGNED,
        _ATTENTION,
        "flash-attention 1217, rocm-libraries 12229",
        _IN_KERNEL,
        choices=_ONE,
    ),
    Kind("tile_quant", "kernel", 32, "STRUCTURAL_DRIFT", ("attn_out",), "sglang 25790", _IN_KERNEL),
    Kind(
        "tail_nan",
        "kernel",
        1,
        _MISALIGNED,
        ("attn_out",),
        "flash-attention 1745, vllm 43961",
        _IN_KERNEL,
        choices=_ONE,
    ),
    Kind(
        "gain",
        "engine",
        1e-3,
        "",
        (),
        "",
        ("stage", *_IN_KERNEL),
        ("o_proj", "attn_out", "lse", "q_rope", "kv_read", "kv_write"),
        elsewhere={
            "attn_out": "kernel",
            "lse": "kernel",
            "kv_read": "kernel",
            "q_rope": "argument",
            "kv_write": "argument",
        },
        uses_at={"o_proj": ("stage", "position"), "q_rope": ("stage", "position")},
        found_at={"q_rope": _TURNED, "kv_read": ("lse",)},
    ),
    Kind("race", "kernel", 1, "", _ATTENTION, "GRETA B3.62, llama.cpp 28058", _IN_KERNEL, choices=(1, 2)),
)

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in _ALL}
KINDS: tuple[str, ...] = tuple(BY_NAME)


def stage_of(fault: Inject) -> str:
    """As the case says, or the kind's default; "" for a kind that has no stages, or that spoils all of them."""
    kind = BY_NAME[fault.fault]
    return fault.stage or (kind.stages[0] if kind.stages and not kind.found else "")


def found_at(fault: Inject) -> tuple[str, ...]:
    """The stages at one of which a perfect localiser points."""
    kind, stage = BY_NAME[fault.fault], stage_of(fault)
    return kind.found_at.get(stage) or ((stage,) if stage else kind.found)


def used_by(kind: Kind, stage: str | None) -> tuple[str, ...]:
    """The keys of ``inject:`` that narrow it where it is planted at ``stage`` (None: the default)."""
    return kind.uses_at.get(stage or next(iter(kind.stages), ""), kind.uses)


def planted_in(fault: Inject) -> Planted:
    """Who plants it."""
    kind = BY_NAME[fault.fault]
    return kind.elsewhere.get(stage_of(fault), kind.planted)


def magnitude(fault: Inject) -> float:
    """As the case says, or the kind's default."""
    return BY_NAME[fault.fault].magnitude if fault.magnitude is None else fault.magnitude
