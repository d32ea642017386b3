"""TILE: the output of an attention whose weights P are rounded below float32, by the schedule that rounds them.

A flash kernel rounds exp(s - m_t) S, m_t the running max when the key's tile was met, so that tile, direction and
splits decide which way each weight rounds. The reference rounds in the same order; what is left to the bound is float32
arithmetic, and the weights so near to a rounding boundary that it may move them across. Where the values do not fit the
declared schedule, ``search`` looks for the one that they fit. Letters as in ``docs/concepts/numerics.md``; a schedule
as ``docs/library.md`` defines it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from pytest_greta.backends.base import Numerics, Schedule
from pytest_greta.checks.attention import (
    Call,
    Softmax,
    by_tier,
    concatenate,
    declared_value,
    rescale,
    rescales,
    subnormal,
)
from pytest_greta.checks.bounds import Float64, Reference, floor, sum_tiers
from pytest_greta.checks.constants import (
    EPS_DISTANCE,
    FLIP_DET,
    FLIP_SHIFT,
    OUT_DET,
    SEARCHED_SPLITS,
    SEARCHED_TILES,
    U,
)
from pytest_greta.checks.heads import by_row
from pytest_greta.checks.result import StageCheck
from pytest_greta.checks.rounding import error, round_to
from pytest_greta.dtypes import DTYPES, Array, DType, dtype_of
from pytest_greta.trace.records import Tap

FIELDS = tuple(field.name for field in fields(Schedule))
"""Of ``Numerics``: those that say by which schedule P is rounded."""


_PLAIN = Numerics(splits=1)
_WALK, _TYPE = FIELDS[1:5], FIELDS[5:]


def differ(a: Numerics, b: Numerics) -> bool:
    """The two are known to round P otherwise than each other."""
    known = a.p_dtype != b.p_dtype or (a.schedule_known and b.schedule_known)
    return known and (a.rounds_p or b.rounds_p) and any(getattr(a, name) != getattr(b, name) for name in FIELDS)


def spelled(numerics: Numerics, beside: Numerics | None = None) -> str:
    """``96``, with whatever is not plain behind it: ``96 splits 2 direction reverse``; "" where undeclared.

    P's type and scale are named where they are not those of ``beside``.
    """
    words = [str(numerics.tile)] if numerics.schedule_known else []
    others = [name for name in _WALK if numerics.schedule_known and getattr(numerics, name) != getattr(_PLAIN, name)]
    if numerics.max_update == "none":  # every weight rounds alike then, whatever its tile
        words, others = [], ["max_update"]
    if beside is not None:
        others += [name for name in _TYPE if getattr(numerics, name) != getattr(beside, name)]
    values = ((name, getattr(numerics, name)) for name in others)
    return " ".join(
        [*words, *(f"{name} {value:g}" if name == "p_scale" else f"{name} {value}" for name, value in values)]
    )


def is_exact(call: Call) -> bool:
    """With q = 0 every score is 0, every weight 1, and P the scale itself: no schedule shows and nothing is rounded.

    Not where P is divided by its sum first, where a bias makes the scores differ, nor where a sink may be the running
    max of a library that counts it.
    """
    scale, sinks = np.array([call.numerics.p_scale]), call.options.sinks
    kept = float(_rounded(scale, DTYPES[call.numerics.p_dtype])[0]) == call.numerics.p_scale
    kept = kept and not call.numerics.p_normalised
    return kept and call.options.alibi is None and (sinks is None or bool((sinks <= 0.0).all()))


def unrounded(call: Call) -> Call:
    """That call with P as it is: its type holds exp(0) = 1 exactly.

    A coarser exp gives 1 + d there, |d| <= exp_rel. P's type rounds that by |d| at most, since 1 is a value of the
    type, and by its u at most, while l sums what was not rounded.
    """
    numerics = call.numerics
    off = min(DTYPES[numerics.p_dtype].u, numerics.exp_rel) if numerics.rounds_p else 0.0
    return replace(call, numerics=replace(numerics, p_dtype="f32"), weights_off=off)


def by_schedule_of(numerics: Numerics, other: Numerics) -> Numerics:
    return replace(numerics, **{name: getattr(other, name) for name in FIELDS})


def plainest(numerics: Numerics) -> Numerics:
    """With one tile and one split where the library does not say."""
    return replace(numerics, tile=numerics.tile or 1 << 30, splits=numerics.splits or 1)


def reference(call: Call, numerics: Numerics | None = None) -> Reference:
    """The output [R, heads, dv] with P rounded by the schedule of ``numerics`` (the call's own where None), and TILE.

    ``call.spans`` must be there. Both tiers: each has flips of its own.
    """
    numerics = call.numerics if numerics is None else numerics
    with np.errstate(all="ignore"):
        return concatenate([_emulated(part, softmax, numerics) for part, softmax in call.chunks()])


@dataclass(frozen=True)
class _Running:
    """``m`` [kv heads, M, keys]: the running max by which each key's weight was rounded. ``gap`` [kv heads, M]: how
    near the scores came to a decision of ``lazy``; inf where there was none."""

    m: Float64
    gap: Float64


def _emulated(call: Call, sm: Softmax, numerics: Numerics) -> Reference:
    p_type, act, values = DTYPES[numerics.p_dtype], call.act, np.moveaxis(call.v, 1, 0)
    running = _running_max(call, sm, numerics)
    magnitudes, fixed = np.abs(values), numerics.max_update == "none"
    scale = np.exp(running.m - sm.m) / (sm.l * numerics.p_scale)  # w
    x = np.where(sm.visible, np.exp(sm.s - running.m), 0.0) * numerics.p_scale
    rounded = _rounded(x, p_type)
    weights = rounded * scale
    sink = np.zeros_like(sm.l) if sm.sink is None else np.exp(sm.sink - sm.m) / sm.l
    # l sums before P is rounded, or after it
    total = weights.sum(axis=-1, keepdims=True) + sink if numerics.l_from == "after" else np.ones_like(sm.l)
    o = weights @ values / total
    size, pv = np.abs(o), sm.p @ magnitudes

    det = declared_value(numerics, act) * pv + floor(numerics)
    if numerics.flush:
        det += sm.p @ subnormal(values, act) + np.where(rounded < p_type.smallest_normal, weights, 0.0) @ magnitudes
    d = sum_tiers(call.q.shape[-1], numerics)
    t = sum_tiers(np.maximum(rescales(sm.n, call.numerics), rescales(sm.n, numerics)), numerics)
    n = sum_tiers(sm.n, numerics)
    M = rescale(sm.m, sm.s)
    bounds = []
    for a, b, c in by_tier(d, t, n):
        ds = a * sm.A + sm.ds
        eps = sm.p * (a * sm.A + (b[..., None] + U) * M + sm.det)
        spread = eps.sum(axis=-1, keepdims=True)
        if sm.sink is not None:
            away, again = np.abs(sm.sink - sm.m), rescale(sm.m, sm.sink)
            spread += sink * (U * EPS_DISTANCE * away + (b[..., None] + U) * again + numerics.exp_rel)
        sums = c[..., None] * (pv + size) + OUT_DET * U * size
        highest = np.where(sm.visible, ds, 0.0).max(axis=-1, keepdims=True, initial=0.0)
        moved = ds + (0.0 if fixed else highest) + numerics.exp_rel
        moved += U * (FLIP_SHIFT * (np.abs(sm.s - running.m) + np.abs(running.m)) + FLIP_DET)
        flips = np.maximum(
            _rounded(x * (1.0 + moved), p_type) - rounded,
            rounded - _rounded(x * np.maximum(1.0 - moved, 0.0), p_type),
        ) * scale  # fmt: skip
        bound = eps @ magnitudes + size * spread + sums * (1.0 + p_type.u) + flips @ magnitudes / total
        if numerics.l_from == "after":
            bound += size * flips.sum(axis=-1, keepdims=True) / total
        # a row of which the running max itself is in doubt is left to ENV
        unsure = running.gap <= 2.0 * highest[..., 0]
        bounds.append(np.where(unsure[..., None], np.inf, bound))
    heads = call.q.shape[1]
    return Reference(*(by_row(y, heads) for y in (o, det, *bounds)))


def _rounded(x: Float64, dtype: DType) -> Float64:
    return round_to(x, dtype).astype(np.float64)


# -- the running max -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """Tiles of ``tile`` keys from key ``first`` on (which may lie before key 0), ``per_split`` of them a split."""

    first: int
    tile: int
    per_split: int


def _grids(call: Call, numerics: Numerics) -> Mapping[_Grid, list[int]]:
    """The rows of each grid. Rows of one call share theirs, unless tiles are counted from each row's own window."""
    spans = call.spans
    assert spans is not None
    if numerics.tile_origin == "window" and spans.window:
        spans = replace(spans, begin=call.rows.start, end=call.rows.stop)
    found: dict[_Grid, list[int]] = {}
    for row, (begin, end) in enumerate(zip(spans.begin.tolist(), spans.end.tolist(), strict=True)):
        origin = begin if numerics.tile_origin == "window" else -spans.slot
        tile = min(numerics.tile, max(1, end - origin))
        first, last = (begin - origin) // tile, (max(end, begin + 1) - 1 - origin) // tile
        grid = _Grid(origin + first * tile, tile, (last - first) // numerics.splits + 1)
        found.setdefault(grid, []).append(row)
    return found


def _running_max(call: Call, sm: Softmax, numerics: Numerics) -> _Running:
    B, M, _ = sm.s.shape
    gap = np.full((B, M), np.inf)
    if numerics.max_update == "none":
        return _Running(np.zeros_like(sm.s), gap)
    seen = np.where(sm.visible, sm.s, -np.inf)
    m, group = np.empty_like(seen), M // max(1, len(call.rows.start))
    for grid, rows in _grids(call, numerics).items():
        at = (np.array(rows)[:, None] * group + np.arange(group)).ravel()
        m[:, at], gap[:, at] = _over_tiles(seen[:, at], grid, numerics)
    return _Running(np.where(sm.visible, m, sm.m), gap)


def _over_tiles(seen: Float64, grid: _Grid, numerics: Numerics) -> tuple[Float64, Float64]:
    """``seen`` [kv heads, m, keys], -inf where a key is not visible -> the running max at each key, and the gap."""
    B, m, keys = seen.shape
    width = numerics.splits * grid.per_split * grid.tile
    lo, hi = max(grid.first, 0), max(min(grid.first + width, keys), 0)
    inside, padded = slice(lo - grid.first, hi - grid.first), np.full((B, m, width), -np.inf)
    padded[..., inside] = seen[..., lo:hi]
    tiles = padded.reshape(B, m, numerics.splits, grid.per_split, grid.tile).max(axis=-1)
    backwards = slice(None, None, -1 if numerics.direction == "reverse" else 1)
    ordered, gap = tiles[..., backwards], np.full((B, m), np.inf)
    if numerics.max_update == "every_tile":
        running = np.maximum.accumulate(ordered, axis=-1)
    else:
        running, gap = _lazily(ordered, float(numerics.max_update.partition(":")[2]))
    at_keys = np.repeat(running[..., backwards].reshape(B, m, -1), grid.tile, axis=-1)
    result = np.full_like(seen, -np.inf)
    result[..., lo:hi] = at_keys[..., inside]
    return result, gap


def _lazily(tiles: Float64, threshold: float) -> tuple[Float64, Float64]:
    """The max moves only where a tile's exceeds it by more than ``threshold``. tiles [kv heads, m, splits, tiles]."""
    running, gap = np.empty_like(tiles), np.full(tiles.shape[:2], np.inf)
    m = np.full(tiles.shape[:-1], -np.inf)
    for i in range(tiles.shape[-1]):
        tile = tiles[..., i]
        above = tile - m
        decides = np.isfinite(m) & np.isfinite(tile)
        moves = (tile > m) & (~np.isfinite(m) | (above > threshold))
        near = np.abs(above - threshold) - 2.0 * U * (np.abs(tile) + np.abs(m) + threshold)
        gap = np.minimum(gap, np.where(decides, near, np.inf).min(axis=-1))
        m = np.where(moves, tile, m)
        running[..., i] = m
    return running, gap


# -- the search ----------------------------------------------------------------------------------------------------


def candidates(numerics: Numerics) -> Iterator[Numerics]:
    """The family, nearest to what is declared first: another tile, then another direction, then other splits, then no
    running max."""
    splits = numerics.splits or 1
    others = [n for n in SEARCHED_SPLITS if n != splits]
    turned = "forward" if numerics.direction == "reverse" else "reverse"
    for parts in ((splits,), others):
        for direction in (numerics.direction, turned):
            for tile in SEARCHED_TILES:
                for count in parts:
                    yield replace(numerics, tile=tile, splits=count, direction=direction)
    yield replace(plainest(numerics), max_update="none")


def search(check: StageCheck, call: Call, stored: Tap, known: Numerics | None = None) -> Numerics | None:
    """The schedule by which P was rounded in the flagged queries of ``check``; None where none of the family fits.

    ``stored``: the output as traced. ``known``: what was found in another layer, tried first.
    """
    flagged = [(p, h) for p in _ends(check.positions) for h in _ends(check.heads)]
    suspects = [_suspect(call, stored, position, head) for position, head in flagged]
    with np.errstate(all="ignore"):
        for numerics in (*([known] if known else []), *candidates(call.numerics)):
            if all(suspect.fits(numerics) for suspect in suspects):
                return numerics
    return None


@dataclass(frozen=True)
class _Suspect:
    """One flagged query of one head, its softmax found once."""

    call: Call
    softmax: Softmax
    stored: Array

    def fits(self, numerics: Numerics) -> bool:
        emulated = _emulated(self.call, self.softmax, numerics)
        e, beyond = error(emulated.y, self.stored, dtype_of(self.stored))
        return beyond is None and bool((e <= emulated.b1).all())


def _suspect(call: Call, stored: Tap, position: int, head: int) -> _Suspect:
    group = int(call.q.shape[1]) // int(call.k.shape[1])
    own = call.one(int(np.searchsorted(call.positions, position)), head, head // group)
    part, softmax = next(own.chunks())
    row = np.ascontiguousarray(stored.row(position)[None, head : head + 1])
    return _Suspect(part, softmax, row)


def _ends(values: Sequence[int]) -> Sequence[int]:
    """The first and the last few, four at most: what a schedule changes grows with the length."""
    return values if len(values) <= 4 else (*values[:1], *values[-3:])
