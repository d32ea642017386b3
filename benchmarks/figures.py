"""What the benchmarks share: shapes, a median with its range, ratios within a round, tables and command lines."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pytest_greta.dtypes import DTYPES


@dataclass(frozen=True)
class Heads:
    query: int
    kv: int
    dim: int

    def __str__(self) -> str:
        return f"{self.query}/{self.kv} D{self.dim}"


@dataclass(frozen=True)
class Shape:
    phase: str
    """prefill: ``length`` queries over as many keys, causal; decode: one query over ``length`` keys"""
    heads: Heads
    length: int
    dtype: str
    """of activations and cache"""
    batch: int = 1
    """sequences, each of that length"""

    @property
    def kv_bytes(self) -> int:
        return 2 * self.batch * self.length * self.heads.kv * self.heads.dim * DTYPES[self.dtype].numpy.itemsize

    @property
    def flops(self) -> float:
        """Of the two products, counting what a causal mask leaves."""
        pairs = self.length * (self.length + 1) / 2 if self.phase == "prefill" else self.length
        return 4.0 * self.batch * pairs * self.heads.query * self.heads.dim

    @property
    def work(self) -> float:
        """What a rate counts: FLOP in prefill, bytes of keys and values in decode."""
        return self.flops if self.phase == "prefill" else self.kv_bytes

    @property
    def unit(self) -> str:
        return "GFLOP/s" if self.phase == "prefill" else "GB/s"


@dataclass(frozen=True)
class Figure:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} .. {self.high:.3g})"


def rates(shape: Shape, lasted: Sequence[float]) -> Figure | None:
    """In the shape's unit; None where nothing was measured."""
    return Figure.of([shape.work / s / 1e9 for s in lasted]) if lasted else None


def speedup(ours: Sequence[float], theirs: Sequence[float]) -> Figure | None:
    """Our speed over theirs, round by round; None where theirs was not measured."""
    return Figure.of([b / a for a, b in zip(ours, theirs, strict=True)]) if theirs else None


def of_bandwidth(shape: Shape, ours: Sequence[float], bandwidth: Sequence[float]) -> Figure | None:
    """Our bytes a second over those (in GB/s) of a plain read, round by round."""
    if not bandwidth:
        return None
    return Figure.of([shape.kv_bytes / a / 1e9 / b for a, b in zip(ours, bandwidth, strict=True)])


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a row under the names of the columns; "-" for None and ""."""
    lines = [[str(value) if value not in (None, "") else "-" for value in row.values()] for row in rows]
    return tabulate(lines, headers=list(rows[0]), disable_numparse=True) if rows else ""


def described(shape: Shape) -> dict[str, Any]:
    """A row's first columns."""
    return {"phase": shape.phase, "heads": shape.heads, "length": shape.length, "dtype": shape.dtype}


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def numbers(text: str) -> tuple[int, ...]:
    values = tuple(int(part) for part in text.split(",") if part)
    if any(value < 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: expected positive numbers, separated by commas")
    return values


def positive(text: str) -> int:
    (value,) = numbers(text) or (0,)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number")
    return value
