"""From a reference and stored values to a ``StageCheck``: e, rho on both tiers, where, and how likely under H0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks import compiled, pattern
from pytest_greta.checks.bounds import ByRows, Float64, Reference
from pytest_greta.checks.constants import C_EXPONENT, C
from pytest_greta.checks.result import Pattern, StageCheck, Worst
from pytest_greta.checks.rounding import distance, same_bytes, same_rows
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


@dataclass(frozen=True)
class _Rows:
    """How wrong each row is: no element is looked at twice, whatever groups have its row.

    ``most`` [4, R]: the largest rho of the row; the largest on the second tier; the largest rho', NaN where no p value
    is asked; 1 where a value overflowed as its reference does. ``sums`` [2, R]: sum (v - y) y and sum y^2, NaN where
    no gain is. ``index`` [R]: the element whose rho is the largest, and ``worst`` [4, R] its reference, stored value,
    error and bound. ``over`` [R, ...]: the elements with rho > 1; a view of a single False where there is none.
    """

    most: Float64
    sums: Float64
    index: NDArray[np.intp]
    worst: Float64
    over: NDArray[np.bool_]

    @classmethod
    def of(cls, rho: Float64, y: Float64, stored: Array, e: Float64, bound: Float64) -> _Rows:
        """Of every element, [R, ...], with nothing known beside rho. An element within its preimage may have a rho
        below 0: its row's is 0 then."""
        ranks = _flat(rho)
        index = ranks.argmax(axis=1)
        starts = np.arange(0, ranks.size, max(1, ranks.shape[1]))
        top = ranks.take(starts + index)
        largest = top.max(initial=0.0)
        if largest == np.inf:  # rho alone cannot rank elements whose rho is inf: the error does
            ranks = np.where(ranks == top[:, None], np.where(np.isinf(ranks), _flat(e), 0.0), -1.0)
            index = ranks.argmax(axis=1)
        worst, at = np.empty((4, len(rho))), starts + index
        for i, values in enumerate((y, stored, e, bound)):
            worst[i] = values.take(at)
        most, sums = np.empty((4, len(rho))), np.empty((2, len(rho)))
        most[:2], most[2], most[3], sums[:] = _at_least_0(top), np.nan, 0.0, np.nan
        return cls(most, sums, index, worst, rho > 1.0 if largest > 1.0 else _nowhere(rho.shape))

    @classmethod
    def within(cls, found: compiled.Within, shape: tuple[int, ...]) -> _Rows:
        """Of rows in which no element is beyond its bound."""
        return cls(found.most, found.sums, found.index, found.worst, _nowhere(shape))

    @classmethod
    def joined(cls, parts: Sequence[_Rows]) -> _Rows:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        index = np.concatenate([p.index for p in parts])
        tables = zip(*((p.most, p.sums, p.worst) for p in parts), strict=True)
        most, sums, worst = (np.concatenate(x, axis=1) for x in tables)
        if any(p.over.any() for p in parts):
            over = np.concatenate([p.over for p in parts])
        else:
            over = _nowhere((len(index), *parts[0].over.shape[1:]))
        return cls(most, sums, index, worst, over)


@lru_cache
def _nowhere(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """False throughout, a view of a single one."""
    return np.broadcast_to(np.False_, shape)


def judge(
    reference: Reference | ByRows, stored: Array, groups: Sequence[Group], place: Place, *, statistical: bool = False
) -> list[StageCheck]:
    """One check a group. ``stored`` [R, ...] in its storage type, R the rows of all groups, one after the other.

    ``statistical``: give a p value, where the bound has square-root terms.
    """
    step = max(1, _BLOCK // max(1, math.prod(stored.shape[1:])))
    with np.errstate(all="ignore"):  # what is not finite is judged, not warned of
        if (found := _within(reference, stored, statistical)) is not None:
            rows = _Rows.within(found, stored.shape)
        elif len(stored) <= step:
            rows = _judged(reference.whole(), stored, statistical)
        else:
            blocks = [slice(start, start + step) for start in range(0, len(stored), step)]
            rows = _Rows.joined([_judged(reference.rows(at), stored[at], statistical) for at in blocks])
    return [_check(place, group, rows, at) for group, at in _at(groups)]


def _within(reference: Reference | ByRows, stored: Array, statistical: bool) -> compiled.Within | None:
    """What compiled code finds, where it finds all rows within their bounds."""
    if isinstance(reference, ByRows):
        return None if reference.within is None else reference.within(stored)
    return compiled.within(reference, stored, statistical)


def _judged(reference: Reference, stored: Array, statistical: bool) -> _Rows:
    b1, b2, y = reference.b1, reference.b2, _flat(reference.y)
    e, apart, past = distance(reference.y, stored, dtype_of(stored))
    rho = _ratio(e, b1)
    if past is not None:  # what the reference reaches too, within its bound, is an overflow and no error
        rho[past & (rho > 1.0)] = np.inf
    found = _Rows.of(rho, reference.y, stored, e, b1)
    if b2 is not None:
        found.most[1] = _at_least_0(_flat(_ratio(e, b2)).max(axis=1))
    if statistical and reference.b_sqrt is not None:
        found.most[2] = _at_least_0(_flat(_ratio(e - reference.b_det, reference.b_sqrt)).max(axis=1))
    if past is not None:
        found.most[3] = _flat(past & (rho <= 1.0)).any(axis=1)
    np.vecdot(_flat(apart), y, out=found.sums[0])  # what is not finite has no gain
    np.vecdot(y, y, out=found.sums[1])
    return found


def judge_bytes(expected: Array, stored: Array, groups: Sequence[Group], place: Place) -> list[StageCheck]:
    """The same for stages whose bound is 0: equal bytes give a rho of 0, others inf."""
    if same_rows(expected, stored).all():
        return judge_equal(stored, groups, place)
    equal = same_bytes(expected, stored)
    y = expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        e = np.nan_to_num(np.abs(y - stored.astype(np.float64)), nan=np.inf)
    rows = _Rows.of(np.where(equal, 0.0, np.inf), y, stored, e, np.zeros_like(y))
    return [_check(place, group, rows, at) for group, at in _at(groups)]


def judge_equal(stored: Array, groups: Sequence[Group], place: Place) -> list[StageCheck]:
    """The same where all bytes are known to be equal."""
    return [_clean(place, group, len(group.positions) * math.prod(stored.shape[1:])) for group in groups]


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


def _at(groups: Sequence[Group]) -> Iterator[tuple[Group, slice | NDArray[np.intp]]]:
    """Each group with the rows that are its own."""
    start = 0
    for group in groups:
        count = len(group.positions)
        yield group, slice(start, start + count) if group.at is None else group.at
        start += count


def _flat(values: Array) -> Array:
    """[R, elements]"""
    return values.reshape(len(values), -1)


def _at_least_0(values: Float64) -> Float64:
    """In place, and without a negative zero."""
    values[values <= 0.0] = 0.0
    return values


def _ratio(e: Float64, bound: Float64) -> Float64:
    """e / bound with 0 / 0 = 0 and inf / inf = inf: an error is never excused by a bound that is not finite."""
    rho: Float64 = e / bound
    if np.isnan(rho.max(initial=0.0)):
        bad = np.isnan(rho)
        rho[bad] = np.where(e[bad] > 0.0, np.inf, 0.0)
    return rho


def _p_value(pull: float, elements: int) -> float:
    """p = min(1, 2 M exp(-1.5 (c rho')^2)), rho' the largest max(0, e - b_det) / b_sqrt of the M elements."""
    return min(1.0, 2.0 * elements * math.exp(-C_EXPONENT * (C * min(pull, 1e6)) ** 2))


def _clean(place: Place, group: Group, elements: int) -> StageCheck:
    return StageCheck(group.path, place.layer, place.stage, 0.0, 0.0, len(group.positions), elements)


def _check(place: Place, group: Group, rows: _Rows, at: slice | NDArray[np.intp]) -> StageCheck:
    """``at``: the group's among the rows."""
    count = len(group.positions)
    elements = count * math.prod(rows.over.shape[1:])
    if count == 0:
        return _clean(place, group, elements)
    most = rows.most[:, at]
    top, top2, pull, past = most.max(axis=1).tolist()
    moved, size = rows.sums[:, at].sum(axis=1).tolist()
    found = partial(
        StageCheck, group.path, place.layer, place.stage, top,
        rho2=top2 if 0.0 < top < math.inf else top,
        rows=count,
        elements=elements,
        p_value=None if math.isnan(pull) else _p_value(pull, elements),
        gain=(moved, size) if math.isfinite(moved) and math.isfinite(size) else None,
        overflow=past > 0.0,
    )  # fmt: skip
    if top == 0.0:
        return found()
    own = most[0]
    of = int((own if top < math.inf else np.where(own == top, rows.worst[2, at], -1.0)).argmax())
    row = at.start + of if isinstance(at, slice) else int(at[of])
    y, v, e, bound = rows.worst[:, row].tolist()
    head, index = divmod(int(rows.index[row]), rows.over.shape[-1] if rows.over.ndim == 3 else 1)
    within = (head, index) if rows.over.ndim == 3 else (head,)
    worst = Worst(
        position=int(group.positions[of]),
        head=within[0] if place.by_head else None,
        index=within[-1] if rows.over.ndim > (2 if place.by_head else 1) else None,
        stored=v,
        reference=y,
        error=e,
        bound=bound,
    )
    if top <= 1.0:
        return found(worst=worst)
    over = rows.over[at]
    positions = group.positions[_flat(over).any(axis=1)]
    heads = np.flatnonzero(over.any(axis=(0, *range(2, over.ndim)))) if place.by_head else ()
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
