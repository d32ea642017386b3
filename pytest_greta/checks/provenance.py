"""Where a wrong attention output came from: the other readings of the cache that could explain it.

Each hypothesis recomputes the flagged query over other keys or with another scale; the one whose lse and output lie
within their own bounds names the cause. A hypothesis is a function from one flagged query to the calls to try:
window, mask, other layers, other sequences, pages and previous bytes are further entries of ``HYPOTHESES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pytest_greta.checks.attention import Call, Rows
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.result import StageCheck
from pytest_greta.checks.rounding import error
from pytest_greta.dtypes import Array, dtype_of
from pytest_greta.trace.records import Tap

_TRIED = 4
"""Flagged positions, and heads, that a hypothesis must explain; more would say nothing new."""


@dataclass(frozen=True)
class Suspect:
    """One flagged query of one head. ``row``: its index in the call. ``lse``: as stored, None where it was not."""

    call: Call
    row: int
    position: int
    head: int
    lse: float | None

    @property
    def kv_head(self) -> int:
        """The one that it should have read."""
        return self.head // (int(self.call.q.shape[1]) // int(self.call.k.shape[1]))

    def over(self, kv_head: int | None = None) -> Call:
        """The call of this query alone, over any kv head."""
        return self.call.one(self.row, self.head, self.kv_head if kv_head is None else kv_head)


Hypothesis = Callable[[Suspect], Iterator[tuple[str, Call]]]
"""A flagged query -> (what is tried, in words; the call as it would have been)."""


def _kv_head(suspect: Suspect) -> Iterator[tuple[str, Call]]:
    for other in range(suspect.call.k.shape[1]):
        if other != suspect.kv_head:
            yield f"kv head {other} in place of {suspect.kv_head}", suspect.over(other)


def _kv_len(suspect: Suspect) -> Iterator[tuple[str, Call]]:
    """One key too few at either end, or one too many: the next row, or one that nobody wrote (zero)."""
    own = suspect.over()
    start, stop = int(own.rows.start[0]), int(own.rows.stop[0])

    def seen(start: int, stop: int) -> Rows:
        return Rows(np.array([start]), np.array([stop]), own.rows.slot)

    if stop > start:
        yield "without the last key", replace(own, rows=seen(start, stop - 1))
        yield "without the first key", replace(own, rows=seen(start + 1, stop))
    if stop < len(own.k):
        yield "with one key after the end", replace(own, rows=seen(start, stop + 1))
    if start > 0:
        yield "with one key before the start", replace(own, rows=seen(start - 1, stop))
    k, v = (np.concatenate([x[:stop], np.zeros_like(x[:1])]) for x in (own.k, own.v))
    yield "with one key that was never written", replace(own, k=k, v=v, rows=seen(start, stop + 1))


def _scale(suspect: Suspect) -> Iterator[tuple[str, Call]]:
    """A scale of 1, doubled or applied twice, and whatever factor the stored lse asks for."""
    own = suspect.over()
    scale = own.options.scale

    def scaled(other: float) -> Call:
        return replace(own, options=replace(own.options, scale=other))

    yield "softmax scale 1", scaled(1.0)
    yield "softmax scale doubled", scaled(2.0 * scale)
    yield "softmax scale applied twice", scaled(scale * scale)
    # one key fits any scale, so that it proves nothing
    if suspect.lse is not None and own.rows.stop[0] - own.rows.start[0] > 1:
        factor = _root(lambda x: float(next(scaled(x * scale).softmax()).lse[0, 0]) - float(suspect.lse or 0.0))
        if factor is not None:
            yield f"softmax scale times {factor:.4g}", scaled(factor * scale)


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


HYPOTHESES: Mapping[str, Hypothesis] = {"kv_head": _kv_head, "kv_len": _kv_len, "qk_scale": _scale}
"""By the key that names the cause, most specific first."""


def provenance(check: StageCheck, call: Call, stored: Mapping[str, Tap]) -> tuple[str, str]:
    """(cause, what fits in words) for a check of lse or attn_out that was flagged; ("", "") where nothing fits.

    A hypothesis must explain every flagged position and head that is tried, lse and output both.
    """
    suspects = [
        Suspect(call, row, position, head, _lse(stored, position, head))
        for row, position in ((int(np.searchsorted(call.positions, p)), p) for p in _few(check.positions))
        for head in _few(check.heads)
    ]
    flagged = [s for s in suspects if not _fits(s.over(), s, stored)]
    if not flagged:
        return "", ""
    for cause, hypothesis in HYPOTHESES.items():
        words = ""
        for suspect in flagged:
            fitting = next((w for w, other in hypothesis(suspect) if _fits(other, suspect, stored)), "")
            words = words or fitting
            if not fitting:
                break
        else:
            return cause, f"fits {words}"
    return "", ""


def _lse(stored: Mapping[str, Tap], position: int, head: int) -> float | None:
    tap = stored.get("lse")
    return float(tap.row(position)[head]) if tap is not None and position in tap.positions else None


def _few(values: tuple[int, ...]) -> tuple[int, ...]:
    """The first and the last of them: a length that is off shows at the last rows most."""
    return values if len(values) <= _TRIED else values[: _TRIED // 2] + values[-_TRIED // 2 :]


def _fits(call: Call, suspect: Suspect, stored: Mapping[str, Tap]) -> bool:
    reference, head = call.reference(), suspect.head
    return all(
        _within(reference.lse if name == "lse" else reference.out, tap.row(suspect.position)[None, head : head + 1])
        for name, tap in stored.items()
        if suspect.position in tap.positions
    )


def _within(reference: Reference, stored: Array) -> bool:
    e, beyond = error(reference.y, np.ascontiguousarray(stored), dtype_of(stored))
    return beyond is None and bool((e <= reference.b1).all())
