"""From records to figures. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_greta.faults.fixtures import FIXTURES, SPAN, Fixture
from pytest_greta.selftest.plan import Planned, Study
from pytest_greta.selftest.run import Record

CONFIDENCE = 0.95
BINS_A_DECADE = 2
_DECADES = round(math.log10(SPAN))
BINS = 2 * _DECADES * BINS_A_DECADE
"""Of the detection curve: from a hundredth of the smallest magnitude to a hundred times it."""


@dataclass(frozen=True)
class KindRow:
    """Fault runs of one kind."""

    kind: str
    runs: int
    found: int
    stage: int
    layer: int
    scenario: int
    logits: int
    close: int


@dataclass(frozen=True)
class Curve:
    """One variant whose magnitude is drawn: found and planted runs in bins of the magnitude over the stated minimum,
    smallest first; by dtype, that minimum and the least magnitude that was found, those below it included."""

    fixture: str
    found: tuple[int, ...]
    runs: tuple[int, ...]
    stated: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BenignRow:
    """Benign runs of one model. ``suspects``: passed after reruns."""

    model: str
    runs: int
    alarms: int
    suspects: int
    logits: int
    close: int
    rho: float


@dataclass(frozen=True)
class NotRun:
    """Runs of something that the library does not have. ``what``: a kind of fault, or "" for healthy runs."""

    what: str
    runs: int
    why: str


@dataclass(frozen=True)
class Odd:
    """A run that should have ended otherwise: a fault missed or misplaced, a false alarm, a crash."""

    id: str
    what: str
    """missed, not_planted, misplaced, alarm, error"""
    plan: str
    got: str


@dataclass(frozen=True)
class Summary:
    """All that the tables show; what ``--json`` holds."""

    study: Study
    kinds: tuple[KindRow, ...]
    curves: tuple[Curve, ...]
    benign: tuple[BenignRow, ...]
    odd: tuple[Odd, ...]
    planned: int
    done: int
    machine: Mapping[str, Any] = field(default_factory=dict)
    not_run: tuple[NotRun, ...] = ()
    """Counted in ``done``, and in nothing else."""

    @property
    def nothing(self) -> bool:
        """The library had nothing of what was planned."""
        return self.done > 0 and sum(n.runs for n in self.not_run) == self.done

    @property
    def clean(self) -> bool:
        """Everything planned that the library has was run, found, rightly located, and nothing else was said."""
        return not self.odd and self.done == self.planned and not self.nothing


def tally(
    study: Study, planned: Sequence[Planned], records: Iterable[Record], fixtures: Sequence[Fixture] = FIXTURES
) -> Summary:
    """The figures of a study, whatever the order of its records."""
    by_id = {record.id: record for record in records}
    ended = [(p, by_id[p.id]) for p in planned if p.id in by_id]
    pairs = [(p, r) for p, r in ended if not r.not_run]
    by_name = {f.name: f for f in fixtures}
    kinds = dict.fromkeys(f.kind for f in fixtures)
    return Summary(
        study=study,
        kinds=tuple(
            _kind(kind, [r for p, r in pairs if p.part == "fault" and by_name[p.fixture].kind == kind])
            for kind in kinds
        ),
        curves=tuple(
            _curve(f, [(p, r) for p, r in pairs if p.fixture == f.name and not r.error]) for f in fixtures if f.smallest
        ),
        benign=tuple(
            _benign(model, [r for p, r in pairs if p.part == "benign" and p.model == model])
            for model in sorted({p.model for p in planned if p.part == "benign"})
        ),
        odd=tuple(odd for p, r in pairs if (odd := _odd(p, r)) is not None),
        planned=len(planned),
        done=len(ended),
        not_run=_not_run([(p, r.not_run) for p, r in ended if r.not_run]),
    )


def upper_limit(events: int, runs: int) -> float:
    """One-sided upper limit of a rate after ``events`` of ``runs``: Clopper and Pearson, Biometrika 26 (1934).

    The p at which ``events`` or fewer have the probability 1 - CONFIDENCE; 1 - (1 - CONFIDENCE)^(1 / runs) for none.
    """
    if runs <= 0 or events >= runs:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(100):
        p = (low + high) / 2
        low, high = (p, high) if _at_most(events, runs, p) > 1 - CONFIDENCE else (low, p)
    return high


def _at_most(events: int, runs: int, p: float) -> float:
    """The probability of ``events`` or fewer of ``runs``."""
    if p <= 0.0 or p >= 1.0:
        return float(p <= 0.0)
    terms = (
        math.lgamma(runs + 1)
        - math.lgamma(k + 1)
        - math.lgamma(runs - k + 1)
        + k * math.log(p)
        + (runs - k) * math.log1p(-p)
        for k in range(events + 1)
    )
    return math.fsum(map(math.exp, terms))


def _not_run(runs: Sequence[tuple[Planned, str]]) -> tuple[NotRun, ...]:
    counts = Counter((str(p.inject.get("fault", "")), why) for p, why in runs)
    return tuple(NotRun(what, count, why) for (what, why), count in counts.items())


def _kind(kind: str, due: Sequence[Record]) -> KindRow:
    return KindRow(
        kind,
        runs=len(due),
        found=sum(r.found for r in due),
        stage=sum(r.stage_right for r in due),
        layer=sum(r.layer_right for r in due),
        scenario=sum(r.scenario_right for r in due),
        logits=sum(r.logits for r in due),
        close=sum(r.close for r in due),
    )


def _curve(fixture: Fixture, pairs: Sequence[tuple[Planned, Record]]) -> Curve:
    assert fixture.smallest is not None
    found, runs = [0] * BINS, [0] * BINS
    seen: dict[str, float] = {}
    for planned, record in pairs:
        if not record.planted:
            continue
        dtype, magnitude = planned.keys["dtype"], abs(planned.inject["magnitude"])
        ratio = magnitude / fixture.smallest[dtype]
        at = min(max(math.floor((math.log10(ratio) + _DECADES) * BINS_A_DECADE), 0), BINS - 1)
        runs[at] += 1
        found[at] += record.found
        if record.found:
            seen[dtype] = min(seen.get(dtype, math.inf), magnitude)
    return Curve(fixture.name, tuple(found), tuple(runs), dict(fixture.smallest), seen)


def _benign(model: str, records: Sequence[Record]) -> BenignRow:
    suspects = sum(r.finding == "SUSPECT" and not r.alarm for r in records)
    counts = (sum(r.alarm for r in records), suspects, sum(r.logits for r in records), sum(r.close for r in records))
    return BenignRow(model, len(records), *counts, max((r.rho for r in records if math.isfinite(r.rho)), default=0.0))


def is_odd(planned: Planned, record: Record) -> bool:
    """Whether a run should have ended otherwise."""
    return _odd(planned, record) is not None


def _odd(planned: Planned, record: Record) -> Odd | None:
    if record.not_run:
        return None
    what = ""
    if record.error:
        what = "error"
    elif record.alarm:
        what = "alarm"
    elif planned.part == "fault" and not record.planted:
        what = "not_planted"
    elif planned.part == "fault" and not record.found:
        what = "missed"
    elif planned.part == "fault" and not (record.stage_right and record.layer_right and record.scenario_right):
        what = "misplaced"
    return Odd(planned.id, what, describe(planned), _got(record)) if what else None


def describe(planned: Planned) -> str:
    """A plan in one line."""
    view = "" if planned.view is None else f" layers {','.join(map(str, planned.view))} alone"
    words = [f"{planned.fixture or planned.model}{view}", f"N={planned.rows}"]
    if planned.fixture:
        words.insert(1, planned.model)
    given = {**planned.keys, **{f"inject.{k}": v for k, v in planned.inject.items()}}
    if planned.isa:
        given["isa"] = planned.isa
    return ", ".join([*words, *(f"{key}={_short(value)}" for key, value in given.items())])


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _got(record: Record) -> str:
    if record.error:
        return record.error
    words = [record.status, record.scenario, "" if record.finding == "NONE" else record.finding, record.reason]
    if record.stage:
        words.append(f"layer {record.layer} {record.stage} {record.phase} rho {record.rho:.3g}")
    return " ".join(filter(None, words))
