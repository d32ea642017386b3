"""From a reference and stored values to a ``StageCheck``: e, rho on both tiers, where, and how likely under H0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks import pattern
from pytest_greta.checks.bounds import Float64, Reference
from pytest_greta.checks.constants import C_EXPONENT, C
from pytest_greta.checks.result import Pattern, StageCheck, Worst
from pytest_greta.checks.rounding import error, same_bytes
from pytest_greta.dtypes import Array, dtype_of

_BLOCK = 1 << 15
"""Elements that are worked on at a time: 256 KiB of float64, so that they stay in a second-level cache."""


@dataclass(frozen=True)
class Group:
    """The rows of one path within stacked rows: rows ``at`` of them, or, where it is None, those that follow the last
    group's."""

    path: str
    positions: NDArray[np.int64]
    at: NDArray[np.intp] | None = None


@dataclass(frozen=True)
class Place:
    """What is judged. ``by_head``: axis 1 of its values counts heads, ``group`` of which share a kv head.

    ``inputs``: the taps that it is judged from. ``tiles``: keys a tile, by path, and ``page``: rows a page, 0 where
    there is none; ``table``: the page of each block, where the stage is the cache; ``pad``: slots before row 0.
    """

    layer: int
    stage: str
    by_head: bool = False
    group: int = 1
    inputs: tuple[str, ...] = ()
    tiles: Mapping[str, int] = field(default_factory=dict)
    page: int = 0
    table: tuple[int, ...] = ()
    pad: int = 0


def judge(
    reference: Reference, stored: Array, groups: Sequence[Group], place: Place, *, statistical: bool = False
) -> list[StageCheck]:
    """One check a group. ``stored`` [R, ...] in its storage type, R the rows of all groups, one after the other.

    ``statistical``: give a p value, where the bound has square-root terms.
    """
    e, beyond = error(reference.y, stored, dtype_of(stored))
    b1, b2 = reference.b1, reference.b2
    rho = _ratio(e, b1)
    if beyond is not None:  # what the reference reaches too, within its bound, is an overflow and no error
        rho[beyond & (rho > 1.0)] = np.inf
        beyond &= rho <= 1.0
    gains = _gains(reference.y, stored)
    checks = []
    for group, rows in _slices(groups):
        own = rho[rows]
        two_tiers = b2 is not None and 0.0 < own.max(initial=0.0) < np.inf
        root = reference.b_sqrt if statistical else None
        moved, size = float(gains[0][rows].sum()), float(gains[1][rows].sum())
        facts = {
            "p_value": None if root is None else _p_value(e[rows], reference.b_det[rows], root[rows]),
            "gain": (moved, size) if np.isfinite(moved) and np.isfinite(size) else None,
            "overflow": beyond is not None and bool(beyond[rows].any()),
        }
        if two_tiers and b2 is not None:
            facts["rho2"] = float(_ratio(e[rows], b2[rows]).max())
        checks.append(_check(place, group, own, reference.y[rows], stored[rows], e[rows], b1[rows], **facts))
    return checks


def judge_bytes(expected: Array, stored: Array, groups: Sequence[Group], place: Place) -> list[StageCheck]:
    """The same for stages whose bound is 0: equal bytes give a rho of 0, others inf."""
    equal = same_bytes(expected, stored)
    checks = []
    for group, rows in _slices(groups):
        if equal[rows].all():
            checks.append(_clean(place, group, equal[rows].size))
            continue
        y = expected[rows].astype(np.float64)
        with np.errstate(invalid="ignore"):
            e = np.nan_to_num(np.abs(y - stored[rows].astype(np.float64)), nan=np.inf)
        checks.append(_check(place, group, np.where(equal[rows], 0.0, np.inf), y, stored[rows], e, np.zeros_like(y)))
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
        gain=None,
    )


def _slices(groups: Sequence[Group]) -> Iterator[tuple[Group, slice | NDArray[np.intp]]]:
    start = 0
    for group in groups:
        count = len(group.positions)
        first = start if group.at is None or count == 0 else int(group.at[0])
        # a slice where the rows lie together: no copy
        together = group.at is None or np.array_equal(group.at, np.arange(first, first + count))
        yield group, slice(first, first + count) if together or group.at is None else group.at
        start += count


def _ratio(e: Float64, bound: Float64) -> Float64:
    """e / bound with 0 / 0 = 0 and inf / inf = inf: an error is never excused by a bound that is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rho: Float64 = e / bound
    if np.isnan(rho.max(initial=0.0)):
        bad = np.isnan(rho)
        rho[bad] = np.where(e[bad] > 0.0, np.inf, 0.0)
    return rho


def _p_value(e: Float64, b_det: Float64, b_sqrt: Float64) -> float:
    """p = min(1, 2 M exp(-1.5 (c rho')^2)), rho' the largest max(0, e - b_det) / b_sqrt of the M elements."""
    rho = float(_ratio(np.maximum(e - b_det, 0.0), b_sqrt).max(initial=0.0))
    return min(1.0, 2.0 * e.size * float(np.exp(-C_EXPONENT * (C * min(rho, 1e6)) ** 2)))


def _gains(y: Float64, stored: Array) -> tuple[Float64, Float64]:
    """Of each row [R]: sum (v - y) y and sum y^2."""
    y, stored = y.reshape(len(y), -1), stored.reshape(len(y), -1)
    moved, size = np.empty(len(y)), np.empty(len(y))
    step = max(1, _BLOCK // max(1, y.shape[1]))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite has no gain
        for start in range(0, len(y), step):
            at = slice(start, start + step)
            np.einsum("ri,ri->r", stored[at].astype(np.float64) - y[at], y[at], out=moved[at])
            np.einsum("ri,ri->r", y[at], y[at], out=size[at])
    return moved, size


def _clean(place: Place, group: Group, elements: int) -> StageCheck:
    return StageCheck(group.path, place.layer, place.stage, 0.0, 0.0, len(group.positions), elements)


def _check(place: Place, group: Group, rho: Float64, *shown: Array, **facts: Any) -> StageCheck:
    """``shown``: y, stored, e and bound of the group's rows, from which the worst element is named. ``facts``: what
    else is known of the check; ``rho2`` where it is not ``rho``."""
    highest = int(np.argmax(rho)) if rho.size else 0
    top = float(rho.flat[highest]) if rho.size else 0.0
    facts = {"rho": top, "rho2": top, "rows": len(group.positions), "elements": rho.size, **facts}
    found = partial(StageCheck, group.path, place.layer, place.stage, **facts)
    if top == 0.0:
        return found()
    y, stored, e, bound = shown
    if np.isinf(top):  # rho alone cannot rank elements whose rho is inf: the error does
        highest = int(np.argmax(np.where(rho == top, e, -1.0)))
    at = np.unravel_index(highest, rho.shape)
    worst = Worst(
        position=int(group.positions[at[0]]),
        head=int(at[1]) if place.by_head else None,
        index=int(at[-1]) if rho.ndim > (2 if place.by_head else 1) else None,
        stored=float(stored[at]),
        reference=float(y[at]),
        error=float(e[at]),
        bound=float(bound[at]),
    )
    if top <= 1.0:
        return found(worst=worst)
    over = rho > 1.0
    positions = group.positions[over.reshape(len(rho), -1).any(axis=1)]
    heads = np.flatnonzero(over.any(axis=(0, *range(2, rho.ndim)))) if place.by_head else ()
    blocks = sorted({(int(p) + place.pad) // place.page for p in positions}) if place.table else []
    return found(
        worst=worst,
        positions=tuple(int(p) for p in positions),
        heads=tuple(int(h) for h in heads),
        inputs=place.inputs,
        pattern=_pattern(place, group, over),
        pages=tuple((block, place.table[block]) for block in blocks if block < len(place.table)),
    )


def _pattern(place: Place, group: Group, over: NDArray[np.bool_]) -> tuple[Pattern, ...]:
    """``over`` [R, ...]: which elements are beyond their bound."""

    def along(axis: int) -> list[int]:
        found = over.any(axis=tuple(i for i in range(over.ndim) if i != axis))
        return [int(i) for i in np.flatnonzero(found)]

    positions = group.positions.tolist()
    sizes = {"tile": place.tiles.get(group.path, 0), "page": place.page}
    found = [*pattern.rows([positions[i] for i in along(0)], positions, sizes)]
    if place.by_head:
        found += pattern.heads(along(1), over.shape[1], place.group)
    if over.ndim > (2 if place.by_head else 1):
        found += pattern.channels(along(over.ndim - 1), over.shape[-1])
    return tuple(found)
