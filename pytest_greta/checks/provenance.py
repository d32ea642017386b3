"""Where a wrong attention output came from: the other readings of the cache that could explain it.

Each hypothesis recomputes the flagged query over other keys or with another scale; the one whose lse and output lie
within their own bounds names the cause. A hypothesis is a function from one query of one head to the calls to try:
window, mask, other layers, other sequences, pages and previous bytes are further entries of ``HYPOTHESES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from pytest_greta.checks.attention import Call, Rows
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.result import StageCheck
from pytest_greta.checks.rounding import error
from pytest_greta.dtypes import Array, dtype_of
from pytest_greta.trace.records import Tap

_TRIED = 4
"""Flagged positions, and heads, that a hypothesis must explain; more would say nothing new."""


Hypothesis = Callable[[Call, int, int], Iterator[tuple[str, Call]]]
"""(the call, row index, head) -> (what is tried, in words; the call as it would have been)."""


def _kv_head(call: Call, row: int, head: int) -> Iterator[tuple[str, Call]]:
    own = _own(call, head)
    for other in range(call.k.shape[1]):
        if other != own:
            yield f"kv head {other} in place of {own}", call.one(row, head, other)


def _kv_len(call: Call, row: int, head: int) -> Iterator[tuple[str, Call]]:
    """One key too few at either end, or one too many: the next row, or one that nobody wrote (zero)."""
    own = call.one(row, head, _own(call, head))
    start, stop = int(own.rows.start[0]), int(own.rows.stop[0])

    def seen(start: int, stop: int) -> Rows:
        return Rows(np.array([start]), np.array([stop]), own.rows.slot)

    if stop - start > 1:
        yield "without the last key", replace(own, rows=seen(start, stop - 1))
        yield "without the first key", replace(own, rows=seen(start + 1, stop))
    if stop < len(own.k):
        yield "with one key after the end", replace(own, rows=seen(start, stop + 1))
    if start > 0:
        yield "with one key before the start", replace(own, rows=seen(start - 1, stop))
    k, v = (np.concatenate([x[:stop], np.zeros_like(x[:1])]) for x in (own.k, own.v))
    yield "with one key that was never written", replace(own, k=k, v=v, rows=seen(start, stop + 1))


def _scale(call: Call, row: int, head: int) -> Iterator[tuple[str, Call]]:
    own = call.one(row, head, _own(call, head))
    scale = own.options.scale
    for words, other in (
        ("softmax scale 1", 1.0),
        ("softmax scale doubled", 2.0 * scale),
        ("softmax scale halved", 0.5 * scale),
        ("softmax scale applied twice", scale * scale),
    ):
        yield words, replace(own, options=replace(own.options, scale=other))


HYPOTHESES: Mapping[str, Hypothesis] = {"kv_head": _kv_head, "kv_len": _kv_len, "qk_scale": _scale}
"""By the key that names the cause, most specific first."""


def provenance(check: StageCheck, call: Call, stored: Mapping[str, Tap]) -> tuple[str, str]:
    """(cause, what fits in words) for a check of lse or attn_out that was flagged; ("", "") where nothing fits.

    A hypothesis must explain every flagged position and head that is tried, lse and output both.
    """
    places = [
        (int(np.searchsorted(call.positions, position)), position, head)
        for position in _few(check.positions)
        for head in _few(check.heads)
    ]
    flagged = [
        place for place in places if not _fits(call.one(place[0], place[2], _own(call, place[2])), *place[1:], stored)
    ]
    if not flagged:
        return "", ""
    for cause, hypothesis in HYPOTHESES.items():
        words = [
            next((w for w, other in hypothesis(call, row, head) if _fits(other, position, head, stored)), "")
            for row, position, head in flagged
        ]
        if all(words):
            return cause, f"fits {words[0]}"
    return "", ""


def _own(call: Call, head: int) -> int:
    return head // (int(call.q.shape[1]) // int(call.k.shape[1]))


def _few(values: tuple[int, ...]) -> tuple[int, ...]:
    """The first and the last of them: a length that is off shows at the last rows most."""
    return values if len(values) <= _TRIED else values[: _TRIED // 2] + values[-_TRIED // 2 :]


def _fits(call: Call, position: int, head: int, stored: Mapping[str, Tap]) -> bool:
    reference = call.reference()
    return all(
        _within(reference.lse if name == "lse" else reference.out, tap.row(position)[None, head : head + 1])
        for name, tap in stored.items()
        if position in tap.positions
    )


def _within(reference: Reference, stored: Array) -> bool:
    e, beyond = error(reference.y, np.ascontiguousarray(stored), dtype_of(stored))
    return beyond is None and bool((e <= reference.b1).all())
