"""A result beside its entry in a baseline: worse, better or the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pytest_greta.baseline.entry import Entry, compared_rows, entry_of, judged, stage_key
from pytest_greta.cases.expect import matches
from pytest_greta.cases.model import Expect
from pytest_greta.report.unmet import contract
from pytest_greta.result import Beside, ProbeResult
from pytest_greta.texts import Text, text
from pytest_greta.trace.paths import phase_of
from pytest_greta.trace.stages import order
from pytest_greta.verdict import (
    ALIGNED,
    ATTENTION_COMPUTATION_MISMATCH,
    DRIFT_REGRESSION,
    INCONCLUSIVE,
    STRUCTURAL_DRIFT,
    FirstFailure,
    Verdict,
)

FLOOR = 0.2
"""A rho up to this is never a regression: so far below the bound, a factor of two is chance. Of 2760 figures of healthy
runs with seeds that were not recorded, 55 were above twice the recorded largest, five of them above this, too."""
TIMES = 2.0
"""What a stage may rise to, of the largest of the recorded seeds."""

SETUP = ("device_kind", "library", "model", "dtype", "kv_dtype")
"""Where one of these is another, rho and bytes are those of other arithmetic: right or wrong alone can be compared."""
SHOWN = ("version", "schedule")
"""Said where they changed; all is compared."""

SOUND = (ALIGNED, STRUCTURAL_DRIFT, ATTENTION_COMPUTATION_MISMATCH)
"""Scenarios that are no mismatch by themselves, best first."""
_FINDINGS = {"SCHEDULE": 1, "SUSPECT": 2, "NONDETERMINISTIC": 3}
"""Of a STRUCTURAL_DRIFT: how much worse than none."""


@dataclass(frozen=True)
class Worse:
    """One thing that got worse, and where; ``place`` None: no stage can be named."""

    said: Text
    place: FirstFailure | None = None


def beside(result: ProbeResult, entry: Entry, file: str, expect: Expect) -> ProbeResult:
    """The result with what ``entry`` says of it; one that is worse fails, unless ``expect`` names DRIFT_REGRESSION.

    ``file``: the baseline's, as it is shown.
    """
    verdict = result.verdict
    if verdict is None:
        return result
    now = entry_of([result])
    alien = [_change(entry, now, name) for name in SETUP if getattr(entry, name) != getattr(now, name)]
    changed = [_change(entry, now, name) for name in SHOWN if getattr(entry, name) != getattr(now, name)]
    own_seed = entry.seeds[:1] == now.seeds
    rank = _exactly if own_seed and not alien else _roughly
    before, after = (rank(v.status, v.scenario, v.finding) for v in (entry, verdict))
    worse: list[Worse] = []
    if not alien:
        worse += _risen(result, entry)
        worse += _other_bytes(result, entry, now) if own_seed else ()
    if after > before:
        said = text("baseline.verdict", before=entry.verdict, after=now.verdict)
        worse.append(Worse(said, verdict.first_failure or _first_difference(result)))
    state: Literal["worse", "better", "same"] = "worse" if worse else "better" if after < before else "same"
    told = Beside(file, state, entry.verdict, tuple(w.said for w in worse), tuple(alien or changed), bool(alien))
    result = replace(result, baseline=told)
    return _regressed(result, verdict, worse, expect) if worse else result


def _roughly(status: str, scenario: str | None, finding: str) -> tuple[int, ...]:  # noqa: ARG001
    """Right, inconclusive or wrong."""
    return (0 if scenario in SOUND else 1 if status == INCONCLUSIVE else 2,)


def _exactly(status: str, scenario: str | None, finding: str) -> tuple[int, ...]:
    if scenario not in SOUND:
        return _roughly(status, scenario, finding)
    return 0, SOUND.index(scenario), _FINDINGS.get(finding, 0)


def _change(entry: Entry, now: Entry, name: str) -> str:
    return f"{name}: {_plain(getattr(entry, name))} -> {_plain(getattr(now, name))}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({inner})" for name, inner in value.items()) or "?"
    return str(value) or "?"


def _risen(result: ProbeResult, entry: Entry) -> Iterator[Worse]:
    """Every stage whose rho is above the limit, at the first layer where it is."""
    named = set()
    for check in judged(result):
        key, before = stage_key(check), entry.rho.get(stage_key(check), 0.0)
        if key in named or not check.rho > max(FLOOR, TIMES * before):
            continue
        named.add(key)
        values = {"stage": key, "rho": f"{check.rho:.3g}", "before": f"{before:.3g}", "count": len(entry.seeds)}
        place = FirstFailure(
            check.layer,
            check.stage,
            phase_of(check.path),
            check.positions or ((check.worst.position,) if check.worst and check.worst.position >= 0 else ()),
            rho=check.rho,
            causes=("cause.drift_regression",),
        )
        yield Worse(text("baseline.rho", **values), place)


def _other_bytes(result: ProbeResult, entry: Entry, now: Entry) -> Iterator[Worse]:
    """The first stage whose bytes are others, where all that they depend on is the same."""
    if not entry.hashes or (entry.machine, entry.version) != (now.machine, now.version):
        return
    differing = [
        (layer, stage)
        for stage, by_layer in compared_rows(result).items()
        for (layer, new), old in zip(by_layer.items(), entry.hashes.get(stage, ()), strict=False)
        if new != old
    ]
    if differing:
        layer, stage = min(differing, key=lambda place: order(*place))
        place = FirstFailure(layer, stage, "both", causes=("cause.drift_regression",))
        yield Worse(text("baseline.bytes", stage=stage), place)


def _first_difference(result: ProbeResult) -> FirstFailure | None:
    found = sorted((b for b in result.bytes if not b.equal), key=lambda b: order(b.layer, b.stage))
    if not found:
        return None
    first = found[0]
    hashes = (first.left_hash, first.right_hash)
    return FirstFailure(first.layer, first.stage, phase_of(first.right), first.differs, hashes=hashes)


def _regressed(result: ProbeResult, verdict: Verdict, worse: list[Worse], expect: Expect) -> ProbeResult:
    """Failed. A verdict that is a mismatch by itself keeps what it says of where and why."""
    if verdict.scenario in SOUND:
        place = next((w.place for w in worse if w.place), None)
        verdict = replace(verdict, finding=DRIFT_REGRESSION, first_failure=place or verdict.first_failure)
    elif verdict.status != INCONCLUSIVE and verdict.finding == "NONE":
        verdict = replace(verdict, finding=DRIFT_REGRESSION)
    wanted = DRIFT_REGRESSION in (expect.finding or ()) and matches(verdict, expect) and not contract(result)
    return replace(result, verdict=verdict, outcome="passed" if wanted else "failed")
