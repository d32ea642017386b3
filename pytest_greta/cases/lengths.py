"""``lengths: sweep``: how many rows are in the cache before the first decoded token, from the case alone.

Node ids must be the same wherever a case is collected, so that nothing here asks a library or a model file: what the
case does not say is taken from the tables below.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

SWEEP = "sweep"

TILE = 64
SPLITS: Mapping[str, int] = {"prefill": 1, "decode": 2}
"""What the CPU library does where ``schedule:`` does not say; a test holds both to what it declares."""

WINDOWS: Mapping[str, int] = dict.fromkeys(("synthetic:mistral", "synthetic:gemma2", "synthetic:gpt-oss"), 24)
"""Keys of the sliding window of the embedded models; a test holds them to the models. Another model's window is not
known before it is loaded: list the lengths around it."""


def sweep(settings: Mapping[str, Any], most: int) -> tuple[int, ...]:
    """Values of N, ascending: 1, 2, ``most``, both sides of every boundary, and between those each next one twice the
    last and one more, so that no step is a multiple of another.

    ``settings``: all of one probe. Boundaries are the tile of each phase, the keys at which every split has a tile, the
    page, the window and the chunk. With ``reuse`` it begins at the reused prefix.
    """
    reuse = settings["reuse"] or {}
    least = min(int(reuse.get("prefix", 1)), most)
    edges = {1, 2, most} | {size + by for size in _boundaries(settings) for by in (-1, 0, 1)}
    lengths = sorted({least} | {n for n in edges if least <= n <= most})
    between = []
    for low, high in pairwise(lengths):
        while (low := 2 * low + 1) < high:
            between.append(low)
    return tuple(sorted([*lengths, *between]))


def _boundaries(settings: Mapping[str, Any]) -> set[int]:
    sizes = {int(settings["page_size"]), int(settings["chunk"] or 0), WINDOWS.get(str(settings["model"]), 0)}
    for phase, splits in SPLITS.items():
        schedule = settings["schedule"].get(phase, {})
        tile = int(schedule.get("tile", TILE))
        sizes |= {tile, tile * int(schedule.get("splits", splits))}
    return sizes - {0}
