"""The kinds of faults that ``inject:`` knows, by name. Light: read at collection, imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Kind:
    """One kind of real bug.

    ``planted``: ``argument``, by the harness between tap and call, on any library; ``weights``, by the harness in the
    engine's weights; ``kernel``, in the faulty twin of our library. ``magnitude``: the default, and what it means.
    ``uses``: which of ``head:``, ``position:`` and ``stage:`` narrow it; another would be ignored, and is refused.
    ``stages``: what ``stage:`` may say; the first is the default.
    """

    name: str
    planted: Literal["argument", "weights", "kernel"]
    magnitude: float
    meaning: str
    seen_in: str
    uses: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()


_ALL = (
    Kind("rope_pos", "argument", 1, "added to the RoPE position", "fla 766, mlx-vlm 1983, unsloth 3795", ("position",)),
    Kind(
        "kv_slot",
        "argument",
        1,
        "added to the cache slot of a written row",
        "vllm 47056, transformers 37574",
        ("position",),
    ),
    Kind("kv_len", "argument", -1, "added to the number of keys", "GRETA B3.19, executorch 2689"),
    Kind("qk_scale", "argument", 1, "the query is multiplied by 1 + magnitude", "vllm-plugin-FL 400", ("head",)),
    Kind("gqa_map", "argument", 1, "kv heads by which the map is off", "LMCache 3092", ("head",)),
    Kind(
        "w_route",
        "weights",
        1,
        "transposed where the matrix is square, else the weight this many layers (or rows) further on",
        "GRETA B3.8, B3.16, B3.33-36, B3.40",
        ("stage",),
        ("q_proj", "k_proj", "v_proj", "o_proj", "embed_out", "logits"),
    ),
    Kind(
        "split_merge",
        "kernel",
        1,
        "partial results combined without rescaling",
        "flash-attention 1217, rocm-libraries 12229",
        ("head", "position"),
    ),
)

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in _ALL}
KINDS: tuple[str, ...] = tuple(BY_NAME)
