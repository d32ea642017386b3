"""Bytes against bytes: the decode path against the full prefill, and how far the logits are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.result import ByteCheck
from pytest_greta.checks.rounding import same_bytes, same_rows
from pytest_greta.checks.stack import rows_at
from pytest_greta.dtypes import Array
from pytest_greta.trace.hashing import digest
from pytest_greta.trace.records import Key, Trace
from pytest_greta.trace.stages import DERIVED, EXTRA, MODEL, order
from pytest_greta.verdict import Drift

CACHED = ("k_proj", "v_proj", "k_rope", "kv_write")
"""Stages of which rows 0..N-1 are compared too: those that the decode path takes from prefill(N)."""


def compare_paths(trace: Trace) -> list[ByteCheck]:
    """In the order of the stages: the decoded rows of every stage between ``full`` and ``decode``, and rows 0..N-1 of K
    and V between ``full`` and ``prefix``; of every stage where ``prefix`` ran in pieces, which are then what is judged.

    The hashes (``trace.hashing.HASH_ALGO``) are of the first row that differs, or of the last row compared. Stages with
    no row in common give no check. Raises ``TypeError`` where the two have another type or shape.
    """
    full, n = trace.paths.get("full"), trace.n_prefix
    checks = []
    common = _Common()
    for right, first, last in (("prefix", 0, n), ("decode", n, n + trace.steps)):
        other = trace.paths.get(right)
        if full is None or other is None:
            continue
        for key, tap in other.taps.items():
            mine = full.taps.get(key)
            if mine is None or key.stage in DERIVED or key.part in EXTRA:
                continue
            if right == "prefix" and len(other.segments) <= 1 and key.stage not in CACHED:
                continue
            rows, at, both = common.rows(mine.positions, tap.positions, first, last)
            if len(rows):
                checks.append(_compare(key, right, rows, rows_at(mine.values, at), rows_at(tap.values, both)))
    return sorted(checks, key=lambda c: (order(c.layer, c.stage), c.right == "decode", c.part))


class _Common:
    """Rows first .. last - 1 that two taps have in common. Most taps of a path share their positions, so that they are
    looked up once for all."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int, int, int], tuple[NDArray[Any], NDArray[Any], NDArray[Any], Any]] = {}

    def rows(
        self, mine: NDArray[np.int64], other: NDArray[np.int64], first: int, last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
        """(positions, where they are in ``mine``, where they are in ``other``)."""
        key = (id(mine), id(other), first, last)
        if key not in self._found:
            at = np.minimum(np.searchsorted(mine, other), len(mine) - 1)
            wanted = (other >= first) & (other < last)
            both = np.flatnonzero(wanted & (mine[at] == other)) if len(mine) else at[:0]
            self._found[key] = other[both], at[both], both, (mine, other)  # held, so that their ids stay theirs
        return self._found[key][:3]


def _compare(key: Key, right: str, rows: NDArray[np.int64], a: Array, b: Array) -> ByteCheck:
    equal = same_rows(a, b)
    alike = bool(equal.all())
    at = len(rows) - 1 if alike else int(equal.argmin())
    left_hash = digest(a[at])
    return ByteCheck(
        layer=key.layer,
        stage=key.stage,
        part=key.part,
        left="full",
        right=right,
        left_hash=left_hash,
        right_hash=left_hash if alike else digest(b[at]),
        rows=len(rows),
        differs=() if alike else tuple(rows[~equal].tolist()),
        max_abs=0.0 if alike else _max_abs(a[~equal], b[~equal]),
    )


def _max_abs(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Largest |a - b|; inf where one of them is NaN and the bytes differ, so that it never looks small."""
    with np.errstate(invalid="ignore"):
        left, right = a.astype(np.float64), b.astype(np.float64)
        apart = np.abs(left - right)
    largest = float(apart.max())
    if np.isfinite(largest):
        return largest
    apart[(left == right) | same_bytes(a, b)] = 0.0
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max())


def logits_drift(trace: Trace) -> Drift | None:
    """The decoded row whose logits are furthest apart; None where the two paths have no logits in common."""
    left, right = (trace.tap(path, MODEL, "logits") for path in ("full", "decode"))
    if left is None or right is None:
        return None
    rows = np.intersect1d(left.positions, right.positions)
    drifts = [drift_of(left.row(int(row)), right.row(int(row))) for row in rows]
    return _worst(drifts)


def _worst(drifts: Sequence[Drift]) -> Drift | None:
    return max(drifts, key=lambda d: (not np.isfinite(d.max_abs), d.max_abs), default=None)


def drift_of(full: NDArray[Any], other: NDArray[Any]) -> Drift:
    """Both [vocab]. All figures in float64; KL(full || other) in nats."""
    a, b = full.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
        log_a, log_b = (x - x.max() - np.log(np.exp(x - x.max()).sum()) for x in (a, b))
        kl = float((np.exp(log_a) * (log_a - log_b)).sum())
    best = np.partition(a, -2)[-2:] if len(a) > 1 else np.repeat(a, 2)
    return Drift(
        max_abs=float(apart.max()),
        p99_abs=float(np.quantile(apart, 0.99)),
        top1_agrees=bool(a.argmax() == b.argmax()),
        margin=float(best[1] - best[0]),
        kl=max(kl, 0.0) if np.isfinite(kl) else kl,
    )
