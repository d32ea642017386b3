"""What reports over a whole run ask of the rows of one result, summed up once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.rows import columns
from pytest_greta.trace.paths import RUNS
from pytest_greta.trace.stages import CACHE_STAGES

QKV = ("q_proj", "k_proj", "v_proj", "q_rope", "k_rope", "kv_write")
"""Whose hashes the report lists."""


@dataclass(frozen=True)
class Odds:
    """Of the checks with a statistical bound: the smallest p over the elements of its check, and all their elements."""

    least: float
    elements: int

    @property
    def p(self) -> float:
        return min(1.0, self.least * self.elements)


@dataclass(frozen=True)
class Digest:
    elements: int
    """Of all stage checks."""
    odds: Odds | None
    gains: Mapping[str, float]
    """By stage, see ``gains``."""
    compared: int
    """Comparisons by hash, and how many of them are equal."""
    same: int
    hashes: int
    """Those of Q, K and V, and how many of them are equal."""
    equal: int
    hash_layers: tuple[int, ...]
    score_layers: tuple[int, ...]
    scores: tuple[float, float] | None
    """The smallest and the largest of all layers and paths."""
    prob: float | None
    """The largest."""


def digest(stages: Sequence[StageCheck], hashes: Sequence[ByteCheck], figures: Sequence[Any]) -> Digest:
    """Of one result's stage checks, comparisons by hash and attention statistics."""
    pairs = list(columns(hashes, "layer", "differs", "stage"))
    compared = [row[:2] for row in pairs if row[2] in QKV]
    stats = list(columns(figures, "layer", "stage", "min", "max"))
    scores = [(layer, float(low), float(high)) for layer, stage, low, high in stats if stage == "scores"]
    return Digest(
        elements=sum(elements for elements, _ in columns(stages, "elements", "layer")),
        odds=odds(stages),
        gains=gains(stages),
        compared=len(pairs),
        same=sum(not differs for _, differs, _ in pairs),
        hashes=len(compared),
        equal=sum(not differs for _, differs in compared),
        hash_layers=_distinct(layer for layer, _ in compared),
        score_layers=_distinct(layer for layer, _, _ in scores),
        scores=(min(low for _, low, _ in scores), max(high for _, _, high in scores)) if scores else None,
        prob=max((float(high) for _, stage, _, high in stats if stage == "probs"), default=None),
    )


def _distinct(layers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(layers)))


def odds(checks: Sequence[StageCheck]) -> Odds | None:
    """None where no bound is statistical."""
    least, total = float("inf"), 0
    for p, elements, path, part in columns(checks, "p_value", "elements", "path", "part"):
        if p is not None and elements and not part and path in RUNS:
            least = min(least, float(p) / elements)
            total += elements
    return Odds(least, total) if total else None


def gains(checks: Sequence[StageCheck]) -> dict[str, float]:
    """g = sum (v - y) y / sum y^2 of each stage, over all layers and paths of a case.

    Of the case's own runs: no further call, nor the output judged by a schedule. Not of the cache: saturation shrinks.
    """
    sums: dict[str, list[float]] = {}
    for gain, path, stage, part in columns(checks, "gain", "path", "stage", "part"):
        if gain is not None and not part and path in RUNS and stage not in CACHE_STAGES:
            total = sums.setdefault(stage, [0.0, 0.0])
            total[0] += float(gain[0])
            total[1] += float(gain[1])
    return {stage: moved / size for stage, (moved, size) in sums.items() if size > 0.0}
