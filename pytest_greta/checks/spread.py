"""Min, max and mean of scores and probabilities, for the report: a flash kernel has neither, so the reference's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.bounds import Float64
from pytest_greta.checks.heads import by_row
from pytest_greta.result import AttentionStat

if TYPE_CHECKING:
    from pytest_greta.checks.attention import Softmax


@dataclass(frozen=True)
class Spread:
    """Of each row, over its heads and visible keys: least, largest and sum of scores and probs, and how many; all
    [R]."""

    scores: tuple[Float64, Float64, Float64]
    probs: tuple[Float64, Float64, Float64]
    count: NDArray[np.int64]

    def stats(self, layer: int, path: str) -> list[AttentionStat]:
        """min / max / mean over all rows; of nothing inf, -inf, nan."""
        count = int(self.count.sum())
        found = []
        stages: tuple[tuple[Literal["scores", "probs"], tuple[Float64, Float64, Float64]], ...]
        stages = (("scores", self.scores), ("probs", self.probs))
        for stage, (low, high, total) in stages:
            mean = float(total.sum()) / count if count else float("nan")
            found.append(AttentionStat(layer, stage, path, low.min(initial=np.inf), high.max(initial=-np.inf), mean))
        return found


def spread_of(sm: Softmax, heads: int) -> Spread:
    count = sm.n if sm.sink is None else sm.n - 1
    hidden = sm.visible.shape[-1] - count
    some = count > 0

    def of(low: Float64, high: Float64, total: Float64) -> tuple[Float64, Float64, Float64]:
        if not some.all():
            low, high, total = np.where(some, low, np.inf), np.where(some, high, -np.inf), np.where(some, total, 0.0)
        return by_row(low, heads).min(axis=-1), by_row(high, heads).max(axis=-1), by_row(total, heads).sum(axis=-1)

    low, high, total, *probs = sm.seen if sm.seen is not None else _seen(sm, hidden)
    return Spread(of(low, high, total), of(*probs), by_row(count, heads).sum(axis=-1))


def _seen(sm: Softmax, hidden: NDArray[np.int64]) -> list[Float64]:
    """``Softmax.seen``. ``hidden``: how many are not visible."""
    shown_s, shown_p = sm.s, sm.p
    if hidden.any():
        shown_s, shown_p = np.where(sm.visible, sm.s, -np.inf), np.where(sm.visible, sm.p, np.inf)
    return [
        sm.s.min(axis=-1, initial=np.inf),  # one that is not visible holds the row's max
        shown_s.max(axis=-1, initial=-np.inf),
        sm.s.sum(axis=-1, where=sm.visible),
        shown_p.min(axis=-1, initial=np.inf),
        sm.p.max(axis=-1, initial=-np.inf),
        sm.p.sum(axis=-1),
    ]


def joined(parts: list[Spread]) -> Spread:
    def of(values: list[tuple[Float64, Float64, Float64]]) -> tuple[Float64, Float64, Float64]:
        low, high, total = (np.concatenate(x) for x in zip(*values, strict=True))
        return low, high, total

    count = np.concatenate([p.count for p in parts])
    return Spread(of([p.scores for p in parts]), of([p.probs for p in parts]), count)
