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

_PHASES = ("prefill", "decode", "both")
_MISALIGNED, _REAL = "KV_MISALIGNMENT", "REAL_MISMATCH"
_TWO_SPLITS = (
    {"decode": {"tile": 16, "splits": 2}},
    {"decode": {"tile": 32, "splits": 3}},
    {"decode": {"tile": 64, "splits": 2}},
)

FIXTURES: tuple[Fixture, ...] = (
    Fixture(
        "rope_pos",
        "rope_pos",
        Expected(_MISALIGNED, ("q_rope", "k_rope")),
        keys={"page_size": (0, 16), "left_pad": (0, 5)},
        inject={"phase": _PHASES, "layer": ("any",), "magnitude": (-1, 1, 2)},
    ),
    Fixture(
        "rope_pos",
        "rope_pos_one_row",
        Expected(_MISALIGNED, ("q_rope", "k_rope")),
        keys={"chunk": (None, 48)},
        inject={"phase": ("prefill",), "layer": ("any",), "position": ("cached",), "magnitude": (-1, 1)},
    ),
    Fixture(
        "kv_slot",
        "kv_slot",
        Expected(_REAL, ("kv_write", "kv_read")),
        keys={"page_size": (0, 16), "batch": ((), (9, 40))},
        inject={"phase": ("decode",), "layer": ("any",), "magnitude": (-1, 1)},
    ),
    Fixture(
        "kv_slot",
        "kv_slot_prefill",  # upwards: there is no slot before the first, and a library refuses it
        Expected(_REAL, ("kv_write", "kv_read")),
        keys={"page_size": (0, 16), "batch": ((), (9, 40))},
        inject={"phase": ("prefill",), "layer": ("any",), "magnitude": (1, 2)},
    ),
    Fixture(
        "kv_slot",
        "kv_slot_one_row",
        Expected(_REAL, ("kv_write", "kv_read")),
        keys={"page_size": (0, 16)},
        inject={"phase": ("prefill",), "layer": ("any",), "position": ("cached",), "magnitude": (-1, 1)},
    ),
    Fixture(
        "kv_len",
        "kv_len",
        Expected(_MISALIGNED, ("lse",)),
        keys={"page_size": (0, 16), "batch": ((), (9, 40))},
        inject={"phase": _PHASES, "layer": ("any",), "magnitude": (-1, 1)},
    ),
    Fixture(
        "qk_scale",
        "qk_scale",
        Expected(_MISALIGNED, ("lse",)),
        inject={"phase": _PHASES, "layer": ("any",), "head": (None, "any")},
        # the query is scaled in its own type: what is below half a unit in the last place changes nothing
        smallest={"f32": 1e-3, "f16": 4e-3, "bf16": 3e-2},
    ),
    Fixture(
        "gqa_map",
        "gqa_map",
        Expected(_REAL, ("lse", "attn_out")),
        keys={"page_size": (0, 16)},
        inject={"phase": _PHASES, "layer": ("any",), "head": (None, "any"), "magnitude": (1, 2, 3)},
    ),
    *(
        Fixture(
            "w_route",
            f"w_route_{stage}",
            Expected(_REAL, (stage,)),
            rows=(2, 512),
            inject={"phase": _PHASES, "layer": ("any",), "stage": (stage,), "magnitude": (1, 2)},
        )
        for stage in ("q_proj", "k_proj", "v_proj", "o_proj")
    ),
    *(
        Fixture(
            "w_route",
            f"w_route_{stage}",
            Expected(_REAL, (stage,), layer=False),
            rows=(2, 512),
            inject={"phase": _PHASES, "stage": (stage,), "magnitude": (1, 2)},
        )
        for stage in ("embed_out", "logits")
    ),
    Fixture(
        "split_merge",
        "split_merge",
        Expected(_MISALIGNED, ("lse", "attn_out")),
        rows=(130, 512),
        keys={"schedule": _TWO_SPLITS, "page_size": (0, 16), "batch": ((), (9, 40))},
        inject={"phase": ("decode",), "layer": ("any",), "head": (None, "any"), "magnitude": (1,)},
    ),
)
"""By kind in the order of ``KINDS``; names are unique."""
