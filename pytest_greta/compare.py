"""Two runs side by side: for every probe whether it is better, the same or worse. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_greta import exit_codes
from pytest_greta.merge import key
from pytest_greta.result import ProbeResult
from pytest_greta.verdict import INCONCLUSIVE

SAME = 0.05
"""A largest rho that moved by less than this share of itself, or of 1, has not changed."""

_RIGHT, _INCONCLUSIVE, _MISMATCH = 0, 1, 2
"""How bad a result is."""

Kind = Literal["worse", "incomparable", "only_before", "only_after", "better", "same"]
ORDER: tuple[Kind, ...] = ("worse", "incomparable", "only_before", "only_after", "better", "same")


@dataclass(frozen=True)
class Change:
    """One probe in both runs; None where a run has not got it."""

    kind: Kind
    before: ProbeResult | None
    after: ProbeResult | None

    @property
    def result(self) -> ProbeResult:
        found = self.after or self.before
        assert found is not None
        return found


def compare(before: Sequence[ProbeResult], after: Sequence[ProbeResult]) -> list[Change]:
    """Worst change first."""
    left, right = {key(r): r for r in before}, {key(r): r for r in after}
    changes = [_change(left.get(name), right.get(name)) for name in sorted(left.keys() | right.keys())]
    return sorted(changes, key=lambda change: (ORDER.index(change.kind), -_growth(change)))


def exit_code(changes: Sequence[Change]) -> int:
    """0 the same or better, 1 something worse, 3 nothing worse but something that cannot be compared. A probe that only
    the later run has and that failed there is worse, or unclear, by itself."""
    kinds = {change.kind for change in changes}
    new = {_rank(c.result) for c in changes if c.kind == "only_after" and c.result.outcome == "failed"}
    unclear = not kinds or bool(kinds & {"incomparable", "only_before"}) or _INCONCLUSIVE in new
    return exit_codes.weigh(mismatch="worse" in kinds or _MISMATCH in new, unclear=unclear)


def _change(before: ProbeResult | None, after: ProbeResult | None) -> Change:
    if before is None or after is None:
        return Change("only_after" if before is None else "only_before", before, after)
    ranks = _rank(before), _rank(after)
    if None in ranks:
        return Change("same" if ranks == (None, None) else "incomparable", before, after)
    if ranks[0] != ranks[1]:
        return Change("worse" if ranks[1] > ranks[0] else "better", before, after)  # type: ignore[operator]
    if _inconclusive(before):
        return Change("incomparable", before, after)
    growth = _rho(after) - _rho(before)
    if math.isnan(growth) or abs(growth) <= SAME * max(1.0, min(_rho(before), _rho(after))):
        return Change("same", before, after)
    return Change("worse" if growth > 0 else "better", before, after)


def _rank(result: ProbeResult) -> int | None:
    """How bad; None where nothing was judged."""
    if result.verdict is None:
        return None
    if result.outcome == "passed":
        return _RIGHT
    return _INCONCLUSIVE if _inconclusive(result) else _MISMATCH


def _inconclusive(result: ProbeResult) -> bool:
    return result.verdict is not None and result.verdict.status == INCONCLUSIVE


def _rho(result: ProbeResult) -> float:
    rho = result.verdict.rho if result.verdict else 0.0
    return math.inf if math.isnan(rho) else rho


def _growth(change: Change) -> float:
    after = _rho(change.after) if change.after else 0.0
    before = _rho(change.before) if change.before else 0.0
    growth = after - before
    return 0.0 if math.isnan(growth) else growth
