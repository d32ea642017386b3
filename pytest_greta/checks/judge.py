"""From a reference and stored values to a ``StageCheck``: e, rho on both tiers, where, and how likely under H0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.bounds import Float64, Reference
from pytest_greta.checks.constants import C_EXPONENT, C
from pytest_greta.checks.result import StageCheck, Worst
from pytest_greta.checks.rounding import error, same_bytes
from pytest_greta.dtypes import Array, dtype_of


@dataclass(frozen=True)
class Group:
    """The rows of one path within stacked rows, in the order in which they are stacked."""

    path: str
    positions: NDArray[np.int64]


def judge(
    reference: Reference,
    stored: Array,
    groups: Sequence[Group],
    layer: int,
    stage: str,
    *,
    statistical: bool = False,
    by_head: bool | None = None,
) -> list[StageCheck]:
    """One check a group. ``stored`` [R, ...] in its storage type, R the rows of all groups, one after the other.

    ``statistical``: give a p value (only where the bound has square-root terms). ``by_head``: axis 1 counts heads;
    None: where there are three axes.
    """
    e, beyond = error(reference.y, stored, dtype_of(stored))
    rho = _ratio(e, reference.b1)
    if beyond is not None:
        beyond &= rho <= 1.0
        rho[~np.isfinite(stored.astype(np.float64)) & (rho > 1.0)] = np.inf
    b2 = reference.b2
    checks = []
    start = 0
    for group in groups:
        rows = slice(start, start + len(group.positions))
        start = rows.stop
        part = rho[rows]
        top = float(part.max(initial=0.0))
        second = top
        if b2 is not None and top > 0.0:
            second = np.inf if np.isinf(top) else float(_ratio(e[rows], b2[rows]).max())
        p_value = None
        if statistical and reference.b_sqrt is not None:
            p_value = _p_value(e[rows], reference.b_det[rows], reference.b_sqrt[rows])
        checks.append(
            _check(
                group, layer, stage, part, top, second,
                (reference.y[rows], stored[rows], e[rows], reference.b1[rows]) if top > 0.0 else None,
                p_value=p_value,
                overflow=beyond is not None and bool(beyond[rows].any()),
                by_head=stored.ndim == 3 if by_head is None else by_head,
            )
        )  # fmt: skip
    return checks


def judge_bytes(
    expected: Array, stored: Array, groups: Sequence[Group], layer: int, stage: str, *, by_head: bool | None = None
) -> list[StageCheck]:
    """The same for stages whose bound is 0: rho is 0 or inf."""
    rho = np.where(same_bytes(expected, stored), 0.0, np.inf)
    checks = []
    start = 0
    for group in groups:
        rows = slice(start, start + len(group.positions))
        start = rows.stop
        part = rho[rows]
        top = float(part.max(initial=0.0))
        shown = None
        if top > 0.0:
            y, value = expected[rows].astype(np.float64), stored[rows].astype(np.float64)
            with np.errstate(invalid="ignore"):
                shown = (y, value, np.where(part > 0, np.nan_to_num(np.abs(y - value), nan=np.inf), 0.0), np.zeros_like(y))
        checks.append(
            _check(
                group, layer, stage, part, top, top, shown,
                by_head=stored.ndim == 3 if by_head is None else by_head,
            )
        )  # fmt: skip
    return checks


def merge(checks: Sequence[StageCheck]) -> StageCheck:
    """Parts of one stage on one path (k and v of the cache) as one check: the worst of them, all their places."""
    worst = max(checks, key=lambda c: (c.rho, c.rho2))
    notes = dict.fromkeys(c.note for c in checks if c.note)
    return replace(
        worst,
        rho2=max(c.rho2 for c in checks),
        rows=max(c.rows for c in checks),
        elements=sum(c.elements for c in checks),
        positions=tuple(sorted({p for c in checks for p in c.positions})),
        heads=tuple(sorted({h for c in checks for h in c.heads})),
        note="; ".join(notes),
        overflow=any(c.overflow for c in checks),
    )


def _ratio(e: Float64, bound: Float64) -> Float64:
    """e / bound with 0 / 0 = 0 and inf / inf = inf: an error is never excused by a bound that is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rho: Float64 = e / bound
    bad = np.isnan(rho)
    if bad.any():
        rho[bad] = np.where(e[bad] > 0.0, np.inf, 0.0)
    return rho


def _p_value(e: Float64, b_det: Float64, b_sqrt: Float64) -> float | None:
    """p = min(1, 2 M exp(-1.5 (c rho')^2)), rho' the largest max(0, e - b_det) / b_sqrt of the M elements."""
    if e.size == 0:
        return None
    rho = float(_ratio(np.maximum(e - b_det, 0.0), b_sqrt).max())
    return min(1.0, 2.0 * e.size * float(np.exp(-C_EXPONENT * (C * min(rho, 1e6)) ** 2)))


def _check(
    group: Group,
    layer: int,
    stage: str,
    rho: Float64,
    top: float,
    second: float,
    shown: tuple[Any, Any, Any, Any] | None,
    *,
    by_head: bool,
    p_value: float | None = None,
    overflow: bool = False,
) -> StageCheck:
    positions: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    worst = None
    if shown is not None:
        # rho alone cannot rank elements whose rho is inf: the error does
        y, value, e, bound = shown
        at = np.unravel_index(int(np.argmax(np.where(rho == top, e, -1.0))), rho.shape)
        head = int(at[1]) if by_head else None
        index = int(at[-1]) if rho.ndim > (2 if by_head else 1) else None
        worst = Worst(
            int(group.positions[at[0]]), head, index, float(value[at]), float(y[at]), float(e[at]), float(bound[at])
        )
        if top > 1.0:
            over = rho > 1.0
            positions = tuple(int(p) for p in group.positions[over.reshape(len(rho), -1).any(axis=1)])
            if by_head:
                heads = tuple(int(h) for h in np.flatnonzero(over.any(axis=(0, *range(2, rho.ndim)))))
    return StageCheck(
        path=group.path,
        layer=layer,
        stage=stage,
        rho=top,
        rho2=second,
        rows=len(group.positions),
        elements=int(rho.size),
        positions=positions,
        heads=heads,
        worst=worst,
        overflow=overflow,
        p_value=p_value,
    )
