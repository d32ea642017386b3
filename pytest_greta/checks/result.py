"""What a check says of one stage: numbers, no judgement. ``decide.py`` judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_greta.trace.stages import PADS

Grade = Literal["ok", "suspect", "definite"]


@dataclass(frozen=True)
class Worst:
    """The element with the largest rho. ``head`` and ``index`` are None where the stage has none."""

    position: int
    head: int | None
    index: int | None
    stored: float
    reference: float
    error: float
    bound: float


@dataclass(frozen=True)
class Rounding:
    """By which schedule a path rounded P, each as ``checks.schedule.spelled`` writes it."""

    declared: str = ""
    """"" where the library and the case do not say."""
    found: str = ""
    """What the values fit, where they do not fit the declared one or none was declared; "" where nothing does."""
    apart: tuple[int, ...] = ()
    """Of decode: the positions whose values do not fit the schedule of prefill, ascending."""


@dataclass(frozen=True)
class Pattern:
    """Which elements are wrong, where that says something: a key of ``report.messages`` (``pattern.KEY``) and its
    values. See ``checks.pattern``."""

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Price:
    """What one declared rounding of a phase costs at one stage: its bound over the bound without the declaration, at
    the median element and at the one with the largest rho."""

    phase: str
    stage: str
    name: str
    value: str
    median: float
    worst: float


@dataclass(frozen=True)
class Sees:
    """The smallest gain of all values of a stage that its check would still see; ``phase``: prefill, decode or both."""

    stage: str
    phase: str
    gain: float


@dataclass(frozen=True)
class StageCheck:
    """One stage of one layer on one path, judged from its own traced input.

    ``rho``: the largest error over its first-tier bound; inf where a bound of 0 is broken. ``rho2`` the same over the
    second tier; equal to ``rho`` where the bound is a worst case and has one tier. ``positions`` and ``heads`` are
    those of the elements with rho > 1, ascending.
    """

    path: str
    layer: int
    stage: str
    rho: float
    rho2: float
    rows: int
    elements: int
    positions: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    worst: Worst | None = None
    note: str = ""
    """In words, English: why a check could say less than it should, or what fits (provenance)."""
    overflow: bool = False
    """The reference overflows the storage type too."""
    cause: str = ""
    """A provenance key (``kv_head``, ``kv_len`` ...) where another reading of the cache fits the output; several where
    they fit equally well, joined by commas."""
    p_value: float | None = None
    """min(1, 2 M exp(-1.5 (c rho')^2)), only where the bound is statistical."""
    part: str = ""
    """What was judged beside the stage itself: ``tile``, the output by the schedule of P's rounding; or a further call
    (``trace.stages.EXTRA``): ``q0``, and ``repeat`` and ``alone`` where their bytes are others; or queries that are
    no part of the probed sequence (``trace.stages.is_beside``)."""
    differs: tuple[int, ...] = ()
    """Of ``repeat`` and ``alone``: the positions whose bytes are not those of the first call, ascending."""
    rounding: Rounding | None = None
    """Of ``tile``."""
    gain: tuple[float, float] | None = None
    """(sum (v - y) y, sum y^2) of stored v and reference y: their quotient is the gain common to all elements. None
    where bytes are compared, or something is not finite."""
    inputs: tuple[str, ...] = ()
    """Of a check with rho > 1: the taps that it was judged from. What lies between them and the stage's own is
    charged here."""
    pattern: tuple[Pattern, ...] = ()
    """Of a check with rho > 1: which of its rows, heads and channels are wrong."""
    pages: tuple[tuple[int, int], ...] = ()
    """(block, page) of the wrong rows of a paged cache: the block within the sequence, and where it lies."""

    @property
    def finding(self) -> str:
        """The grade as traces and tables spell it."""
        return finding(self.rho, self.rho2, self.part)

    @property
    def grade(self) -> Grade:
        return grade(self.rho, self.rho2)


_PADS = "in pad rows, which see no key and give 0 and an lse of -inf, or of the sink's score"


def beside(check: StageCheck, part: str) -> StageCheck:
    """``check`` as one of rows that are no part of the probed sequence: of what was looked at for the case itself,
    patterns, pages and gains, it says nothing."""
    where = _PADS if part == PADS else f"in companion {part[3:]} of the batch"
    note = "; ".join(filter(None, (where, check.note))) if check.grade != "ok" else check.note
    return replace(check, part=part, note=note, pattern=(), pages=(), gain=None)


def grade(rho: float, rho2: float) -> Grade:
    if rho2 > 1.0:
        return "definite"
    return "suspect" if rho > 1.0 else "ok"


def finding(rho: float, rho2: float, part: str) -> str:
    """The grade of a check as traces and tables spell it."""
    definite = "SCHEDULE" if part == "tile" else "DEFINITE"
    return {"ok": "NONE", "suspect": "SUSPECT", "definite": definite}[grade(rho, rho2)]


@dataclass(frozen=True)
class Difference:
    """One parameter that a run was set up with and that is another in the checkpoint or the plan. ``layer``: -1 for
    one of the whole session."""

    phase: str
    layer: int
    name: str
    given: Any
    wanted: Any


@dataclass(frozen=True)
class ByteCheck:
    """Two byte strings that were compared by hash: a stage's row on two paths, or rows written and read.

    ``differs`` are the positions at which they differ, ascending.
    """

    layer: int
    stage: str
    part: str
    left: str
    right: str
    left_hash: str
    right_hash: str
    rows: int
    differs: tuple[int, ...] = ()
    max_abs: float = 0.0
    """Largest |left - right| over the compared rows."""

    @property
    def equal(self) -> bool:
        return not self.differs
