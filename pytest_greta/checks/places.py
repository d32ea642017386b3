"""Where a stage of the model is judged: what its check must know of heads, tiles and pages, and the judgement there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greta.backends.base import Numerics
from pytest_greta.checks.bounds import ByRows, Reference
from pytest_greta.checks.judge import Group, Place, judge
from pytest_greta.checks.price import Weighing
from pytest_greta.checks.result import StageCheck
from pytest_greta.dtypes import Array
from pytest_greta.engine.spec import StageSpec
from pytest_greta.trace.records import Trace
from pytest_greta.trace.stages import CACHE_STAGES


@dataclass(frozen=True)
class Places:
    """Of one trace. ``tiles``: keys a tile, by path."""

    n_kv_heads: int
    tiles: Mapping[str, int]
    pages: Mapping[str, Any]
    pad: int
    weighing: Weighing

    @classmethod
    def of_trace(cls, trace: Trace, n_kv_heads: int, numerics: Mapping[str, Numerics], weighing: Weighing) -> Places:
        tiles = {path: found.tile for path, found in numerics.items()}
        pad = int(trace.facts.get("way", {}).get("left_pad", 0))
        return cls(n_kv_heads, tiles, trace.facts.get("pages") or {}, pad, weighing)

    def of(self, spec: StageSpec, values: Array) -> Place:
        by_head = values.ndim == 3 or spec.stage == "lse"
        return Place(
            spec.layer,
            spec.stage,
            by_head,
            max(1, values.shape[1] // self.n_kv_heads) if by_head else 1,
            spec.inputs,
            self.tiles,
            int(self.pages.get("size", 0)),
            tuple(self.pages["table"][-1]) if self.pages and spec.stage in CACHE_STAGES else (),
            self.pad,
        )

    def judge(
        self,
        spec: StageSpec,
        reference: Reference | ByRows,
        stored: Array,
        groups: Sequence[Group],
        *,
        statistical: bool = False,
    ) -> list[StageCheck]:
        """``judge.judge`` of a stage. Raises ``ValueError`` where the traced rows cannot be its rows."""
        if math.prod(reference.shape) != stored.size or reference.shape[0] != len(stored):
            raise ValueError(
                f"layer {spec.layer} {spec.stage}: traced rows have shape {stored.shape[1:]}; "
                f"expected {reference.shape[1:]} from {', '.join(spec.inputs)}"
            )
        if reference.shape != stored.shape:
            reference = reference.whole().map(lambda x: x.reshape(stored.shape))
        self.weighing.see(spec, [group.path for group in groups], reference, stored)
        return judge(reference, stored, groups, self.of(spec, stored), statistical=statistical)
