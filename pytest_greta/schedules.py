"""By which schedule each phase rounded P, from the checks of the part ``tile``: what verdict and contract say of it.

A schedule is spelled as ``checks.schedule.spelled`` writes it, ``?`` where nothing is known of it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_greta.checks.result import StageCheck
from pytest_greta.trace.paths import phase_of
from pytest_greta.trace.stages import order

TILE = "tile"
UNKNOWN = "?"


def of_tiles(checks: Iterable[StageCheck]) -> list[StageCheck]:
    """The checks of the part ``tile``, in the order of the layers."""
    return sorted((c for c in checks if c.part == TILE and c.rounding), key=lambda c: order(c.layer, c.stage))


def misfits(tiles: Sequence[StageCheck]) -> list[StageCheck]:
    """Those whose values do not fit the schedule that was declared, or, where none was, one tile over all keys."""
    return [c for c in tiles if c.grade == "definite"]


def apart(tiles: Sequence[StageCheck]) -> list[StageCheck]:
    """Those that show, in this run's values, that the two phases round by different schedules."""
    return [c for c in tiles if c.rounding and c.rounding.apart]


def used(tiles: Sequence[StageCheck]) -> dict[str, str]:
    """By phase: the schedule found where the values do not fit the declared one, else the declared one."""
    found: dict[str, str] = {}
    wrong = misfits(tiles)
    for check in [*wrong, *tiles]:
        rounding = check.rounding
        if rounding is not None and phase_of(check.path) not in found:
            declared = UNKNOWN if check in wrong else rounding.declared
            found[phase_of(check.path)] = rounding.found or declared or UNKNOWN
    return found


def are_equal(checks: Iterable[StageCheck]) -> bool:
    """Both phases round P by one schedule. Where neither rounds P there are no such checks, and nothing to differ."""
    by_phase = set(used(of_tiles(checks)).values())
    return len(by_phase) <= 1 and UNKNOWN not in by_phase


def words(tiles: Sequence[StageCheck]) -> str:
    """In English, for ``FirstFailure.detail``; the templates are the notes ``schedule*`` of the catalogue."""
    by_phase = used(tiles)
    prefill, decode = (by_phase.get(phase, UNKNOWN) for phase in ("prefill", "decode"))
    notes = []
    if prefill != decode or prefill == UNKNOWN:
        notes.append(f"P rounding schedules differ (decode {decode}, prefill {prefill}), not bit-reproducible")
    for phase in ("prefill", "decode"):
        check = next((c for c in misfits(tiles) if phase_of(c.path) == phase), None)
        if check is not None and check.rounding is not None:
            declared = check.rounding.declared or UNKNOWN
            notes.append(f"{phase}: declared schedule {declared}, found {check.rounding.found or UNKNOWN}")
    return "; ".join(notes)
