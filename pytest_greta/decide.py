"""The decision table: from checks, byte comparisons and evidence to a verdict. Pure functions.

The order of the rules is the order of ``docs/concepts/verdicts.md``; every rule has a test that turns it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_greta import schedules
from pytest_greta.checks.configuration import stage_of
from pytest_greta.checks.constants import P_REJECTS
from pytest_greta.checks.pattern import of_stage
from pytest_greta.checks.result import ByteCheck, Difference, StageCheck
from pytest_greta.hypotheses import p_of
from pytest_greta.report.causes import likely_causes
from pytest_greta.report.pick import differing
from pytest_greta.trace.paths import PATHS, phase_of
from pytest_greta.trace.stages import ATTENTION_STAGES, CACHE_STAGES, is_beside, order
from pytest_greta.verdict import (
    ALIGNED,
    ATTENTION_COMPUTATION_MISMATCH,
    INCONCLUSIVE,
    KV_MISALIGNMENT,
    KV_MISMATCH,
    PASS,
    REAL_MISMATCH,
    STRUCTURAL_DRIFT,
    Breach,
    Canary,
    Drift,
    Evidence,
    FirstFailure,
    Indicators,
    Rerun,
    Verdict,
)

_SAID = 4
"""Parameters that are spelled out, of those that differ."""
MISALIGNED_STAGES = ("q_rope", "k_rope", *ATTENTION_STAGES)
"""Culprits that leave K and V themselves right."""

ADDRESSING = frozenset({"kv_head", "kv_scale", "layer", "sequence", "page", "previous_bytes"})
"""Provenance keys of a kernel that read the wrong rows, or read them wrongly: a cache fault, though it first shows in
the attention."""

WHO = {
    "rww": "who.decode_kernel",
    "rwr": "who.decode_run",
    "wrr": "who.prefill_kernel",
    "wrw": "who.prefill_kernel",
    "wwr": "who.both_separately",
    "www": "who.both",
}
"""prefill / decode / aligned right (r) or wrong (w) at one layer's attention: who is to blame. ``rrw`` is the
harness."""


def decide_kv_aligned(
    checks: Sequence[StageCheck],
    compared: Sequence[ByteCheck],
    evidence: Evidence,
    drift: Drift | None = None,
    configuration: Sequence[Difference] = (),
) -> Verdict:
    """Every stage was judged from its own traced input: the first that is wrong is the culprit. ``configuration``: what
    the run was set up with otherwise than checkpoint and plan say; then nothing else needs explaining."""
    p, _ = p_of(checks)
    base = Verdict(
        PASS,
        ALIGNED if all(b.equal for b in compared) else STRUCTURAL_DRIFT,
        mode="kv_aligned",
        indicators=indicators_of(checks, compared),
        evidence=evidence,
        drift=drift,
        rho=max((c.rho for c in checks if c.part != schedules.TILE), default=0.0),
        hypothesis="H1" if p is not None and p < P_REJECTS else "H0",
        p_value=p,
    )
    if evidence.breaches or configuration:
        return inconclusive(base, evidence.breaches) if evidence.breaches else _misconfigured(base, configuration)

    wrong = sorted((c for c in checks if _is_wrong(c)), key=_in_order)
    main = _of_one([c for c in wrong if c.path != "aligned"])
    if not main and wrong:  # both runs are right and only the harness's own third call is not
        return inconclusive(base, (Breach("harness", {"layer": wrong[0].layer, "stage": wrong[0].stage}),))
    repeats = sorted((c for c in checks if c.part == "repeat"), key=_in_order)
    if main:
        return _mismatch(base, main, wrong, repeats, compared, checks)
    return _drift(base, checks, repeats, compared)


def _of_one(wrong: Sequence[StageCheck]) -> list[StageCheck]:
    """Those of the probed sequence; where there are none, those of the first companion or of the pad rows."""
    own = [c for c in wrong if not is_beside(c.part)]
    return own or [c for c in wrong if c.part == wrong[0].part]


def _is_wrong(check: StageCheck) -> bool:
    """By a bound that holds for any schedule."""
    return check.part != schedules.TILE and (check.grade == "definite" or check.overflow)


def _mismatch(
    base: Verdict,
    main: Sequence[StageCheck],
    wrong: Sequence[StageCheck],
    repeats: Sequence[StageCheck],
    compared: Sequence[ByteCheck],
    checks: Sequence[StageCheck],
) -> Verdict:
    """``main``: the wrong checks of the runs, the culprit first; ``wrong``: those of ``aligned`` too."""
    culprit = main[0]
    failure = _first_failure(culprit, main, wrong, compared, checks)
    if culprit.overflow:
        where = {"layer": culprit.layer, "stage": culprit.stage}
        return replace(inconclusive(base, (Breach("overflow", where),)), finding="OVERFLOW", first_failure=failure)
    if not culprit.cause and _only_q0(culprit, main):
        return _imprecise(base, failure)
    verdict = replace(
        base, status=KV_MISMATCH, scenario=_scenario(culprit, main), hypothesis="H1", first_failure=failure
    )
    races = culprit.stage in ATTENTION_STAGES and any(c.layer == culprit.layer for c in repeats)
    return replace(verdict, finding="NONDETERMINISTIC") if races else verdict


def _drift(
    base: Verdict, checks: Sequence[StageCheck], repeats: Sequence[StageCheck], compared: Sequence[ByteCheck]
) -> Verdict:
    """Every stage is within a bound that holds for any schedule: what else was seen?"""
    tiles = schedules.of_tiles(checks)
    rounded = _by_schedule(base, tiles, compared)
    if rounded is not None and rounded.status != PASS:
        return rounded
    if repeats:
        failure = _structural(repeats, compared, "cause.nondeterministic")
        return replace(base, scenario=STRUCTURAL_DRIFT, finding="NONDETERMINISTIC", first_failure=failure)
    suspects = _suspects(checks)
    if suspects:
        failure = _first_failure(suspects[0], suspects, suspects, compared, checks)
        return replace(base, scenario=STRUCTURAL_DRIFT, finding="SUSPECT", first_failure=failure)
    return rounded or base


def _suspects(checks: Sequence[StageCheck]) -> list[StageCheck]:
    return _of_one(sorted((c for c in _unexplained(checks) if c.grade == "suspect"), key=_in_order))


def _unexplained(checks: Sequence[StageCheck]) -> list[StageCheck]:
    """Those of the runs. A schedule that is another explains what is above the first tier of the declared one."""
    explained = schedules.TILE if schedules.misfits(schedules.of_tiles(checks)) else None
    return [c for c in checks if c.path != "aligned" and c.part != explained]


def _by_schedule(base: Verdict, tiles: Sequence[StageCheck], compared: Sequence[ByteCheck]) -> Verdict | None:
    """None where the values fit what each phase declares, and the two show no difference."""
    wrong = schedules.misfits(tiles)
    false = [c for c in wrong if c.rounding and c.rounding.declared and not c.rounding.found]
    if false:  # no schedule explains it: it is not rounded as it says
        return _imprecise(base, _first_failure(false[0], false, (), compared, tiles))
    shown = wrong or schedules.apart(tiles)
    if not shown:
        return None
    failure = replace(_structural(shown, compared, "cause.schedule"), detail=schedules.words(tiles))
    return replace(base, scenario=STRUCTURAL_DRIFT, finding="SCHEDULE", first_failure=failure)


def _only_q0(culprit: StageCheck, wrong: Sequence[StageCheck]) -> bool:
    """P's rounding hides it wherever there is one: only the call with q = 0, where P is exact, is wrong."""
    here = [c for c in wrong if c.layer == culprit.layer and c.stage in ATTENTION_STAGES]
    return culprit.part == "q0" and all(c.part == "q0" for c in here)


def _imprecise(base: Verdict, failure: FirstFailure) -> Verdict:
    return replace(
        base,
        status=KV_MISMATCH,
        scenario=KV_MISALIGNMENT,
        finding="PRECISION",
        hypothesis="H1",
        rho=max(base.rho, failure.rho),
        first_failure=replace(failure, causes=("cause.precision",)),
    )


def _structural(found: Sequence[StageCheck], compared: Sequence[ByteCheck], cause: str) -> FirstFailure:
    """The first place of a finding that is no failure by itself."""
    same = [c for c in found if (c.layer, c.stage) == (found[0].layer, found[0].stage)]
    failure = _first_failure(found[0], same, (), compared, found)
    positions = {p for c in same for p in (*c.positions, *c.differs, *(c.rounding.apart if c.rounding else ()))}
    return replace(failure, positions=tuple(sorted(positions)), causes=(cause,))


def decide_as_designed(
    compared: Sequence[ByteCheck],
    evidence: Evidence,
    broken: FirstFailure | None = None,
    drift: Drift | None = None,
) -> Verdict:
    """The B3.66 v1 behaviour: bytes against bytes. ``broken``: what must be equal or alive and is not."""
    base = Verdict(
        PASS, ALIGNED, mode="as_designed", indicators=indicators_of((), compared), evidence=evidence, drift=drift
    )
    if evidence.breaches:
        return inconclusive(base, evidence.breaches)
    if broken is not None:
        return replace(base, status=KV_MISMATCH, scenario=REAL_MISMATCH, hypothesis="H1", first_failure=broken)
    differing = sorted((b for b in compared if not b.equal), key=lambda b: order(b.layer, b.stage))
    if not differing:
        return base
    first = differing[0]
    failure = FirstFailure(
        first.layer,
        first.stage,
        phase_of(first.right),
        first.differs,
        hashes=(first.left_hash, first.right_hash),
        causes=("cause.as_designed",),
    )
    # an expected mismatch: drift travels, so it does not speak against H0
    return replace(base, status=KV_MISMATCH, scenario=ATTENTION_COMPUTATION_MISMATCH, first_failure=failure)


@dataclass(frozen=True)
class Again:
    """A suspect case run again with other tokens, drawn from ``seed``."""

    seed: tuple[int, ...]
    checks: Sequence[StageCheck]
    verdict: Verdict


def settle_suspect(
    verdict: Verdict, checks: Sequence[StageCheck], compared: Sequence[ByteCheck], again: Sequence[Again]
) -> Verdict:
    """A suspect that comes again, at the same layer and stage with other tokens, is a mismatch; one that does not is
    rounding, and shown. What a rerun finds beyond doubt elsewhere counts as if the case had found it."""
    suspects = _suspects(checks)
    places = list(dict.fromkeys((c.layer, c.stage) for c in suspects))
    valid = [run for run in again if run.verdict.status != INCONCLUSIVE]
    repeated = [place for place in places if any(_worst_at(run.checks, place).grade != "ok" for run in valid)]
    place = (repeated or places)[0]
    verdict = replace(
        verdict, evidence=replace(verdict.evidence, reruns=tuple(_rerun(run, place, places) for run in again))
    )
    if repeated:
        culprit = next(c for c in suspects if (c.layer, c.stage) == place)
        failure = _first_failure(culprit, suspects, suspects, compared, checks)
        scenario = _scenario(culprit, suspects)
        return replace(verdict, status=KV_MISMATCH, scenario=scenario, hypothesis="H1", first_failure=failure)
    if wrong := next((run.verdict for run in valid if run.verdict.status == KV_MISMATCH), None):
        return replace(wrong, evidence=verdict.evidence, indicators=verdict.indicators, drift=verdict.drift)
    if unclear := next((run.verdict for run in again if run not in valid), None):
        return inconclusive(verdict, unclear.evidence.breaches)
    return verdict


def _worst_at(checks: Sequence[StageCheck], place: tuple[int, str]) -> StageCheck:
    found = [c for c in _unexplained(checks) if (c.layer, c.stage) == place]
    return max(found, key=lambda c: c.rho, default=StageCheck("", *place, 0.0, 0.0, 0, 0))


def _rerun(run: Again, place: tuple[int, str], suspects: Sequence[tuple[int, str]]) -> Rerun:
    worst, failure = _worst_at(run.checks, place), run.verdict.first_failure
    elsewhere = failure is not None and (failure.layer, failure.stage) not in suspects
    wrong = f"L{failure.layer} {failure.stage}" if failure and elsewhere and run.verdict.status != PASS else ""
    said = "unclear" if run.verdict.status == INCONCLUSIVE else worst.grade
    return Rerun(run.seed, *place, said, worst.rho, wrong)


def with_canary(verdict: Verdict, found: Sequence[Canary]) -> Verdict:
    """The verdict with what became of the planted faults; a gate that missed one has proved nothing."""
    planted = [c for c in found if c.outcome != "skipped"]
    evidence = replace(verdict.evidence, canary="planted" if planted else "none", canaries=tuple(found))
    missed = tuple(
        Breach(
            "canary_missed",
            {"fault": c.fault, "phase": c.phase, "layer": c.layer, "stage": c.stage, "said": c.said or PASS},
        )
        for c in planted
        if c.outcome == "missed"
    )
    verdict = replace(verdict, evidence=evidence)
    return inconclusive(verdict, (*evidence.breaches, *missed)) if missed else verdict


def inconclusive(base: Verdict, breaches: tuple[Breach, ...]) -> Verdict:
    """No verdict without evidence: what was found stays visible, the conclusion does not."""
    return replace(
        base,
        status=INCONCLUSIVE,
        scenario=None,
        hypothesis="open",
        reason=breaches[0].key,
        evidence=replace(base.evidence, breaches=breaches),
    )


def indicators_of(checks: Iterable[StageCheck], compared: Iterable[ByteCheck]) -> Indicators:
    """K (V) hash consistency: k_proj (v_proj) of rows 0..N-1 byte-equal in both prefills. K-V aligned: rows read = rows
    written on both paths, and every written row within its bound."""
    compared, cache = list(compared), [c for c in checks if c.stage in CACHE_STAGES]

    def consistent(stage: str) -> bool | None:
        rows = [b.equal for b in compared if b.stage == stage and b.right == "prefix"]
        return all(rows) if rows else None

    aligned = all(c.grade == "ok" for c in cache) if cache else None
    return Indicators(consistent("k_proj"), consistent("v_proj"), aligned)


def _in_order(check: StageCheck) -> tuple[tuple[int, int], int]:
    return order(check.layer, check.stage), PATHS.index(check.path)


def _scenario(culprit: StageCheck, wrong: Sequence[StageCheck]) -> str:
    kv_right = not any(c.layer == culprit.layer and c.stage in ("k_proj", "v_proj", "kv_read") for c in wrong)
    addressing = bool(culprit.cause) and set(culprit.cause.split(",")) <= ADDRESSING
    if culprit.stage in MISALIGNED_STAGES and kv_right and not addressing:
        return KV_MISALIGNMENT
    return REAL_MISMATCH


def _misconfigured(base: Verdict, found: Sequence[Difference]) -> Verdict:
    first = found[0]
    phases = {d.phase for d in found if (d.layer, d.name) == (first.layer, first.name)}
    said = dict.fromkeys(f"{d.name} is {d.given}, the checkpoint or the plan says {d.wanted}" for d in found)
    failure = FirstFailure(
        first.layer,
        stage_of(first.name),
        "both" if len(phases) == 2 else first.phase,
        causes=("cause.configuration",),
        detail="; ".join(list(said)[:_SAID]),
    )
    verdict = replace(base, status=KV_MISMATCH, scenario=REAL_MISMATCH, hypothesis="H1", first_failure=failure)
    return replace(verdict, finding="CONFIGURATION")


def _first_failure(
    culprit: StageCheck,
    main: Sequence[StageCheck],
    wrong: Sequence[StageCheck],
    compared: Sequence[ByteCheck],
    checks: Sequence[StageCheck],
) -> FirstFailure:
    same = [c for c in main if (c.layer, c.stage) == (culprit.layer, culprit.stage)]
    phases = {phase_of(c.path) for c in same}
    pattern = of_stage(same, main, checks)
    causes = likely_causes(culprit.stage, culprit.cause, [p.key for p in pattern])
    if culprit.stage in ATTENTION_STAGES:
        asked = any(c.path == "aligned" and c.layer == culprit.layer for c in checks)
        causes = (*causes, *(_who(culprit.layer, wrong) if asked else ()))
    worst = max(same, key=lambda c: c.rho)
    phase = "both" if len(phases) == 2 else phases.pop()
    shown = differing(compared, culprit.layer, culprit.stage, phase)
    hashes = (shown.left_hash, shown.right_hash) if shown is not None and not shown.equal else None
    return FirstFailure(
        culprit.layer,
        culprit.stage,
        phase,
        tuple(sorted({p for c in same for p in c.positions})),
        tuple(sorted({h for c in same for h in c.heads})),
        worst.rho,
        causes,
        hashes,
        worst.note,
        culprit.inputs,
        pattern,
        tuple(sorted({place for c in same for place in c.pages})),
    )


def _who(layer: int, wrong: Sequence[StageCheck]) -> tuple[str, ...]:
    """Whose fault a wrong attention is, by prefill / decode / aligned."""
    paths = {c.path for c in wrong if c.layer == layer and c.stage in ATTENTION_STAGES}
    sides = (paths & {"full", "prefix"}, paths & {"decode"}, paths & {"aligned"})
    pattern = "".join("w" if side else "r" for side in sides)
    return (WHO[pattern],) if pattern in WHO else ()
