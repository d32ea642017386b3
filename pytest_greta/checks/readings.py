"""What a kernel could have read, or done, in place of what it should have: one hypothesis a cause.

A hypothesis is a function from one flagged query to the calls to try. Nothing is tried of what a layer, a cache or a
batch does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.attention import Call, Rows
from pytest_greta.checks.elsewhere import Elsewhere, Pages
from pytest_greta.dtypes import Array

_FARTHEST = 8
"""How far off, in ids, all pages of a table are tried."""
_MOST_MISSING = 64
"""Keys that nobody wrote, at most."""


@dataclass(frozen=True)
class Suspect:
    """One flagged query of one head. ``row``: its index in the call. ``lse``: as stored, None where it was not.

    ``lse_right``: the keys may be right then, so that other values alone are tried too.
    """

    call: Call
    row: int
    position: int
    head: int
    lse: float | None
    lse_right: bool
    elsewhere: Elsewhere

    @property
    def kv_head(self) -> int:
        """The one that it should have read."""
        return self.head // (int(self.call.q.shape[1]) // int(self.call.k.shape[1]))

    @cached_property
    def own(self) -> Call:
        """The call of this query alone, as it should have been."""
        return self.call.one(self.row, self.head, self.kv_head)

    @property
    def seen(self) -> tuple[int, int]:
        """Keys start .. stop - 1."""
        return int(self.own.rows.start[0]), int(self.own.rows.stop[0])

    def over(self, k: Array, v: Array) -> Call:
        """The same over other stored rows [keys, kv_heads, dim], with the layer's own scales."""
        g = self.kv_head
        scales = (_scale_of(s, g) for s in (self.elsewhere.k_scale, self.elsewhere.v_scale))
        k, v = (x[:, g : g + 1].astype(np.float64) * s for x, s in zip((k, v), scales, strict=True))
        return replace(self.own, k=k, v=v)

    def seeing(self, start: int, stop: int) -> Call:
        """The same over keys start .. stop - 1, rows of zeros where there are none."""
        own = self.own
        missing = max(0, stop - len(own.k))
        k, v = ((np.concatenate([x, _zeros(x, missing)]) if missing else x) for x in (own.k, own.v))
        return replace(own, k=k, v=v, rows=Rows(np.array([start]), np.array([stop]), own.rows.slot))


@dataclass(frozen=True)
class Reading:
    """``words``: what is tried. ``variant``: must be the same for all flagged queries of a check, where it says
    something. ``fitted``: ``value``, or the variant, was sought so that the lse fits, and proves less."""

    words: str
    call: Call
    variant: str = ""
    value: float = 0.0
    fitted: bool = False


Hypothesis = Callable[[Suspect], Iterator[Reading]]


# -- other rows ----------------------------------------------------------------------------------------------------


def _kv_head(s: Suspect) -> Iterator[Reading]:
    for other in range(s.call.k.shape[1]):
        if other != s.kv_head:
            values = s.call.one(s.row, s.head, other)
            if s.lse_right:
                yield Reading(f"values of kv head {other} in place of {s.kv_head}", replace(s.own, v=values.v))
            else:
                yield Reading(f"kv head {other} in place of {s.kv_head}", values)


def _layer(s: Suspect) -> Iterator[Reading]:
    for layer, k, v in s.elsewhere.layers(s.position):
        yield Reading(f"the cache of layer {layer}", s.over(k, v), f"{layer}")


def _sequence(s: Suspect) -> Iterator[Reading]:
    start, stop = s.seen
    for seq, k, v, length in s.elsewhere.sequences(s.position):
        call = s.over(k, v)
        yield Reading(f"the cache of sequence {seq} of the batch", call, f"{seq}")
        if start < length < stop:
            rows = Rows(np.array([start]), np.array([length]), call.rows.slot)
            yield Reading(f"the cache of sequence {seq} of the batch", replace(call, rows=rows), f"{seq}, its length")


def _page(s: Suspect) -> Iterator[Reading]:
    pages = s.elsewhere.pages(s.position)
    if pages is None:
        return
    table, count = pages.table, len(pages.k)
    blocks = np.arange(len(table))
    used = blocks <= pages.slots[s.seen[1] - 1] // pages.size

    def through(other: NDArray[np.int64], words: str, fitted: bool = False) -> Iterator[Reading]:
        other = np.where(used, other, table)
        if ((other >= 0) & (other < count)).all() and not np.array_equal(other, table):
            yield Reading(words, s.over(*pages.rows(other)), words, fitted=fitted)

    yield from through(blocks, "the pages without the page table")
    yield from through(blocks + pages.seq * len(table), "the pages without the page table")
    for by in (1, -1):
        yield from through(np.roll(table, by), f"the page of the {'block before' if by > 0 else 'next block'}")
    for by in (x for step in range(1, _FARTHEST + 1) for x in (step, -step)):
        yield from through((table + by) % count, f"page ids off by {by}")
    for bits in range(1, int(table.max()).bit_length()):
        yield from through(table % (1 << bits), f"page ids cut to {bits} bits")
    if s.lse is not None and not s.lse_right and s.own.options.alibi is None:
        for block, page in _one_page(s, pages):
            other = table.copy()
            other[block] = page
            yield from through(other, f"page {page} in place of {table[block]} as block {block}", fitted=True)


def _one_page(s: Suspect, pages: Pages) -> list[tuple[int, int]]:
    """The three single exchanges (block, page) whose lse comes closest to the stored one.

    The sum of exp(score) over the keys of a block is exchanged for that over the same rows of each page.
    """
    flat = [x.reshape(-1, *x.shape[2:]) for x in (pages.k, pages.v)]
    everything = Rows(np.array([0]), np.array([len(flat[0])]), s.own.rows.slot)
    sm = next(replace(s.over(*flat), rows=everything).softmax())
    weight = np.exp(sm.s[0, 0] - sm.m[0, 0]).reshape(len(pages.k), pages.size)
    slots = pages.slots[slice(*s.seen)]
    offsets = np.zeros((len(pages.table), pages.size))
    offsets[slots // pages.size, slots % pages.size] = 1.0
    sums = offsets @ weight.T  # [blocks, pages]
    own = sums[np.arange(len(pages.table)), pages.table]
    sought = np.exp((s.lse or 0.0) - sm.m[0, 0, 0]) - np.exp(float(next(s.own.softmax()).lse[0, 0]) - sm.m[0, 0, 0])
    off = np.abs(sums - own[:, None] - sought)
    off[offsets.sum(axis=1) == 0] = np.inf
    off[np.arange(len(pages.table)), pages.table] = np.inf
    best = np.argsort(off, axis=None)[:3]
    return [(int(i // off.shape[1]), int(i % off.shape[1])) for i in best if np.isfinite(off.flat[i])]


def _previous_bytes(s: Suspect) -> Iterator[Reading]:
    own, (start, stop) = s.elsewhere.own, s.seen
    held = s.elsewhere.previous()
    if held is not None:
        at, k, v = held
        inside = (at >= start) & (at < stop)
        for some, words in ((inside, "the rows"), (inside & (at == at[inside].max(initial=-1)), "the last row")):
            if some.any():
                rows = (_with(x, at[some], y[some]) for x, y in ((own.k, k), (own.v, v)))
                yield Reading(f"{words} that an earlier request left behind", s.over(*rows), words)
        for row in at[inside][:_MOST_MISSING]:
            rows = (_with(x, row, y[at == row][0]) for x, y in ((own.k, k), (own.v, v)))
            yield Reading(f"row {row} as an earlier request left it", s.over(*rows), f"{row}", fitted=True)
    first = s.elsewhere.segment(s.position)[0] - own.first
    for row, words in (
        (stop - 1, "its own row before it was written"),
        (first, "the call's rows before they were written"),
    ):
        if start <= row < stop:
            rows = (_with(x, slice(row, stop), 0) for x in (own.k, own.v))
            yield Reading(words, s.over(*rows), words)


# -- other parameters ----------------------------------------------------------------------------------------------


def _kv_scale(s: Suspect) -> Iterator[Reading]:
    """Of a scaled cache: a scale forgotten, exchanged, applied twice or the wrong way, or another head's."""
    scales = s.elsewhere.k_scale, s.elsewhere.v_scale
    if scales == (None, None):
        return
    g = s.kv_head
    k, v = (_scale_of(values, g) for values in scales)
    tries = [
        ("k scale 1", 1.0, v),
        ("v scale 1", k, 1.0),
        ("k and v scale 1", 1.0, 1.0),
        ("k and v scales exchanged", v, k),
        ("the v scale for both", v, v),
        ("the k scale for both", k, k),
        ("k scale applied twice", k * k, v),
        ("v scale applied twice", k, v * v),
        ("the inverse of the scales", 1.0 / k, 1.0 / v),
    ]
    for h in range(s.call.k.shape[1]):
        tries.append((f"the scales of kv head {h}", _scale_of(scales[0], h), _scale_of(scales[1], h)))
    for words, other_k, other_v in tries:
        if (other_k, other_v) != (k, v):
            own = s.own
            yield Reading(words, replace(own, k=own.k / k * other_k, v=own.v / v * other_v), words)


def _window(s: Suspect) -> Iterator[Reading]:
    """One key more or less, none, or the window of another layer."""
    own, (start, stop) = s.own, s.seen
    mine = s.elsewhere.window
    others = [*((mine + 1, mine - 1, 0) if mine else ()), *s.elsewhere.windows]
    for window in dict.fromkeys(others):
        rows = Rows.causal(own.rows.slot, window)
        if (mine or window) and int(rows.start[0]) != start and int(rows.stop[0]) == stop:
            words = f"window {window} in place of {mine}" if window else "the window ignored"
            yield Reading(
                words if mine else f"a window of {window} where there is none", replace(own, rows=rows), words
            )


def _mask(s: Suspect) -> Iterator[Reading]:
    """Causal corner at the first key, no causal mask at all, or pad rows seen."""
    own, (start, stop) = s.own, s.seen
    first, last = (row - s.elsewhere.own.first for row in s.elsewhere.segment(s.position))
    corner = int(own.rows.slot[0]) - first + 1
    if first > 0 and last - first > 1:
        yield Reading("a causal mask aligned to the first key", s.seeing(0, corner), "corner")
    if last > stop:
        yield Reading("no causal mask", s.seeing(start, last), "none")
    pads = s.elsewhere.pad_rows()
    if pads is not None and start == 0:
        mine = (s.elsewhere.own.k, s.elsewhere.own.v)
        call = s.over(*(np.concatenate([pad, x]) for pad, x in zip(pads, mine, strict=True)))
        n = len(pads[0])
        yield Reading(
            "the pad rows seen", replace(call, rows=Rows(own.rows.start, own.rows.stop + n, own.rows.slot + n))
        )


def _kv_len(s: Suspect) -> Iterator[Reading]:
    """One key too few at either end, one too many (the next row, or one that nobody wrote: zero), then any number."""
    start, stop = s.seen
    windowed = s.elsewhere.window > 0
    if stop > start:
        yield Reading("without the last key", s.seeing(start, stop - 1), "-1")
    if windowed and start > 0:  # the window moves along
        yield Reading("without the last key", s.seeing(start - 1, stop - 1), "-1")
    if stop > start and not windowed:
        yield Reading("without the first key", s.seeing(start + 1, stop), "first")
    for first in (start, start + 1) if windowed else (start,):
        if stop < len(s.own.k):
            yield Reading("with one key after the end", s.seeing(first, stop + 1), "+1")
        yield Reading("with one key that was never written", _padded(s, first, 1), "+1")
    if s.lse is None or s.lse_right:
        return
    sm = next(s.seeing(start, len(s.own.k)).softmax())
    ahead = -np.inf if sm.sink is None else float(sm.sink[0, 0, 0])
    reached = np.logaddexp.accumulate(np.concatenate([[ahead], sm.s[0, 0, start:]]))[1:]
    end = start + 1 + int(np.argmin(np.abs(reached - s.lse)))
    if abs(end - stop) > 1:
        words = f"without the last {stop - end} keys" if end < stop else f"with {end - stop} keys after the end"
        yield Reading(words, s.seeing(start, end), f"{end - stop:+d}", fitted=True)
    own = float(next(s.own.softmax()).lse[0, 0])
    count = np.exp(s.lse) - np.exp(own)  # a row of zeros has a score of 0
    if s.own.options.alibi is None and 1.5 < count < _MOST_MISSING:
        m = round(float(count))
        yield Reading(f"with {m} keys that were never written", _padded(s, start, m), f"+{m}", fitted=True)


def _score_mod(s: Suspect) -> Iterator[Reading]:
    """Soft cap, sink and bias: left out, or another's."""
    own, options = s.own, s.own.options
    if options.softcap:
        yield Reading("without the soft cap", replace(own, options=replace(options, softcap=0.0)), "softcap")
        # cap tanh(qk / cap) scale is the soft cap cap * scale after the scale
        early = replace(options, softcap=options.softcap * options.scale)
        yield Reading("the soft cap before the scale", replace(own, options=early), "early")
    if options.sinks is not None and s.call.options.sinks is not None:
        yield Reading("without the sink", replace(own, options=replace(options, sinks=None)), "sink")
        for head, sink in enumerate(s.call.options.sinks):
            if head != s.head:
                other = replace(options, sinks=np.array([sink]))
                yield Reading(
                    f"the sink of head {head}", replace(own, options=other), f"{(head - s.head) % s.call.q.shape[1]}"
                )
    if options.alibi is not None and s.call.options.alibi is not None:
        yield Reading("without ALiBi", replace(own, options=replace(options, alibi=None)), "alibi")
        for head, slope in enumerate(s.call.options.alibi):
            if head != s.head:
                other = replace(options, alibi=np.array([slope]))
                yield Reading(
                    f"the ALiBi slope of head {head}",
                    replace(own, options=other),
                    f"{(head - s.head) % s.call.q.shape[1]}",
                )


def _scale(s: Suspect) -> Iterator[Reading]:
    """A scale of 1, doubled or applied twice, and whatever factor the stored lse asks for."""
    own = s.own
    scale = own.options.scale

    def scaled(other: float) -> Call:
        return replace(own, options=replace(own.options, scale=other))

    for words, other in (("1", 1.0), ("doubled", 2.0 * scale), ("applied twice", scale * scale)):
        yield Reading(f"softmax scale {words}", scaled(other), words)
    # one key fits any scale, so that it proves nothing
    if s.lse is not None and s.seen[1] - s.seen[0] > 1:
        factor = _root(lambda x: float(next(scaled(x * scale).softmax()).lse[0, 0]) - float(s.lse or 0.0))
        if factor is not None:
            words = f"softmax scale times {_factor(factor)}"
            yield Reading(words, scaled(factor * scale), "factor", factor, fitted=True)


HYPOTHESES: Mapping[str, Hypothesis] = {
    "kv_scale": _kv_scale,
    "kv_head": _kv_head,
    "layer": _layer,
    "sequence": _sequence,
    "page": _page,
    "previous_bytes": _previous_bytes,
    "window": _window,
    "mask": _mask,
    "kv_len": _kv_len,
    "score_mod": _score_mod,
    "qk_scale": _scale,
}
"""By the key that names the cause, most specific first."""


def _root(f: Callable[[float], float]) -> float | None:
    """A root of a smooth function near 1, by secants; None where they do not settle on a positive one."""
    a, b = 1.0, 1.0 + 2.0**-10
    fa, fb = f(a), f(b)
    for _ in range(60):
        if not np.isfinite(fb) or fa == fb:
            break
        a, b, fa = b, b - fb * (b - a) / (fb - fa), fb
        fb = f(b)
        if abs(b - a) <= 2.0**-40 * abs(b):
            return b if b > 0.0 else None
    return b if b > 0.0 and fb == 0.0 else None


def _factor(value: float) -> str:
    """In four digits, or as many as show two of its difference from 1."""
    apart = abs(value - 1.0)
    digits = 4 if apart == 0.0 else max(4, 2 - math.floor(math.log10(apart)))
    return f"{value:.{digits}g}"


def _padded(s: Suspect, start: int, count: int) -> Call:
    """Keys start .. stop - 1 and ``count`` rows of zeros behind them."""
    stop = s.seen[1]
    call = s.seeing(start, stop + count)
    k, v = (_with(x, slice(stop, stop + count), 0.0) for x in (call.k, call.v))
    return replace(call, k=k, v=v)


def _with(values: Array, at: Any, by: Any) -> Array:
    values = values.copy()
    values[at] = by
    return values


def _zeros(like: Array, rows: int) -> Array:
    return np.zeros((rows, *like.shape[1:]), like.dtype)


def _scale_of(scales: tuple[float, ...] | None, kv_head: int) -> float:
    return 1.0 if scales is None else float(np.float32(scales[kv_head]))
