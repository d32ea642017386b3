"""Statistics of attention scores, where a record has them: printed values before and after softmax."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_greta.lineage.parsing import LineError

_NAMES = {"scores": ("pre_softmax", "raw_scores"), "probs": ("post_softmax", "softmax_scores")}


class Scores(NamedTuple):
    """Values of one layer. ``stage``: scores (before softmax) or probs (after)."""

    stage: str
    low: float
    high: float
    total: float
    values: int

    @property
    def finite(self) -> bool:
        return math.isfinite(self.total)


def read(record: dict[str, Any]) -> tuple[Scores, ...]:
    """Raises ``LineError`` for values that are no numbers. Empty for a record without any, as most are."""
    inner = record.get("attention_scores")
    if inner is None and "raw_scores" not in record and "softmax_scores" not in record:
        return ()
    if inner is not None and not isinstance(inner, dict):
        raise LineError("line_numbers", name="attention_scores", found=repr(inner)[:80])
    return tuple(_found({**record, **(inner or {})}))


def _found(record: dict[str, Any]) -> Iterator[Scores]:
    for stage, names in _NAMES.items():
        for name in names:
            values = record.get(name)
            if values is None or values == []:
                continue
            if type(values) is not list or any(type(v) not in (int, float) for v in values):
                raise LineError("line_numbers", name=name, found=repr(values)[:80])
            try:
                yield Scores(stage, float(min(values)), float(max(values)), float(sum(values)), len(values))
            except OverflowError:
                raise LineError("line_numbers", name=name, found=repr(values)[:80]) from None
