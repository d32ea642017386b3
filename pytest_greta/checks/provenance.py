"""Where a wrong attention output came from: the other readings of the cache that could explain it.

The kernel has an addressing of its own, which no read function shows. So each hypothesis (``readings.py``) recomputes
the flagged queries over other keys, other rows or with another parameter; one whose lse and output lie within their own
bounds, at every flagged row and head that is tried, names the cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pytest_greta.checks.attention import Call
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.elsewhere import Elsewhere
from pytest_greta.checks.readings import HYPOTHESES, Hypothesis, Reading, Suspect
from pytest_greta.checks.result import StageCheck
from pytest_greta.checks.rounding import error
from pytest_greta.dtypes import Array, dtype_of
from pytest_greta.trace.records import Tap

_TRIED = 4
"""Flagged positions, and heads, that a hypothesis must explain; more would say nothing new."""

_SAME = 0.01
"""Fitted values (the factor of a scale) that are this close, relatively, are one: each is as exact as its row's lse."""


def provenance(check: StageCheck, call: Call, stored: Mapping[str, Tap], elsewhere: Elsewhere) -> tuple[str, str]:
    """(cause, what fits in words) for a check of lse or attn_out that was flagged; ("", "") where nothing fits.

    Readings that fit equally well are all named, most specific first: causes joined by a comma, words by a semicolon.
    A value that was fitted to the output (a factor, a length, a page) counts only where nothing else fits.
    """
    suspects = [
        _suspect(call, position, head, stored, elsewhere)
        for position in _few(check.positions)
        for head in _few(check.heads)
    ]
    flagged = [s for s in suspects if not _fits(s.own, s, stored)]
    if not flagged:
        return "", ""
    found = {cause: reading for cause, h in HYPOTHESES.items() if (reading := _explains(h, flagged, stored))}
    plain = {cause: reading for cause, reading in found.items() if not reading.fitted}
    chosen = plain or found
    return ",".join(chosen), "; ".join(f"fits {reading.words}" for reading in chosen.values())


def _explains(hypothesis: Hypothesis, flagged: list[Suspect], stored: Mapping[str, Tap]) -> Reading | None:
    """The reading that fits every flagged query in one and the same variant; an exact one before a fitted one."""
    fitting: dict[str, Reading] | None = None
    for suspect in flagged:
        mine: dict[str, Reading] = {}
        for reading in hypothesis(suspect):
            known = fitting is None or (reading.variant in fitting and _same(reading, fitting[reading.variant]))
            if known and reading.variant not in mine and _explained(reading.call, suspect, stored):
                mine[reading.variant] = reading
        fitting = mine if fitting is None else {name: first for name, first in fitting.items() if name in mine}
        if not fitting:
            return None
    return min((fitting or {}).values(), key=lambda reading: reading.fitted, default=None)


def _explained(call: Call, suspect: Suspect, stored: Mapping[str, Tap]) -> bool:
    """Whether the call fits; where lse is right, its values with the right keys too. A right lse does not show that the
    keys were: one of little weight may be another."""
    if _fits(call, suspect, stored):
        return True
    own = suspect.own
    other_keys = call.k is not own.k and call.k.shape == own.k.shape
    return suspect.lse_right and other_keys and _fits(replace(call, k=own.k), suspect, stored)


def _same(reading: Reading, first: Reading) -> bool:
    return bool(np.isclose(reading.value, first.value, rtol=_SAME, atol=0.0))


def _suspect(call: Call, position: int, head: int, stored: Mapping[str, Tap], elsewhere: Elsewhere) -> Suspect:
    row = int(np.searchsorted(call.positions, position))
    tap = stored.get("lse")
    lse = float(tap.row(position)[head]) if tap is not None and position in tap.positions else None
    suspect = Suspect(call, row, position, head, lse, False, elsewhere)
    right = (
        lse is not None and tap is not None and _within(suspect.own.reference().lse, tap.row(position)[None, [head]])
    )
    return Suspect(call, row, position, head, lse, right, elsewhere)


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
