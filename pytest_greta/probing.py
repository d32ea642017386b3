"""One probe, from a cell of a case's matrix to its result: load, run, check, decide, compare with what was expected."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_greta import environment, schedules
from pytest_greta.backends.base import PHASES, AttentionBackend, Numerics, Phase
from pytest_greta.backends.registry import BUILT_IN, UnknownBackend, open_backends
from pytest_greta.canary import canaries
from pytest_greta.cases.expect import contract_breach, matches, spelled
from pytest_greta.cases.model import CaseError, Inject, Probe, Prompt
from pytest_greta.checks.compare import compare_paths, logits_drift
from pytest_greta.checks.configuration import configuration
from pytest_greta.checks.result import ByteCheck, Price, Sees, StageCheck
from pytest_greta.checks.run import examine
from pytest_greta.decide import Again, decide_as_designed, decide_kv_aligned, inconclusive, settle_suspect, with_canary
from pytest_greta.engine.engine import Engine
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, declared, trace_probe
from pytest_greta.engine.scales import with_cache_scales
from pytest_greta.engine.spec import ModelSource, StageSpec, decoder_stages
from pytest_greta.engine.store import ModelError
from pytest_greta.evidence import declares_less, gather, must_hold
from pytest_greta.faults.kernel import armed, plants_kernel
from pytest_greta.plain import to_plain
from pytest_greta.result import AttentionStat, ProbeResult
from pytest_greta.run_plan import of_device, require_features, run_plan
from pytest_greta.settings import RunSettings
from pytest_greta.texts import Text, join, text
from pytest_greta.trace.records import Trace
from pytest_greta.verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """What a run says: the verdict and all that it rests on."""

    trace: Trace
    verdict: Verdict
    checks: tuple[StageCheck, ...]
    compared: tuple[ByteCheck, ...]
    stats: tuple[AttentionStat, ...]
    numerics: Mapping[str, Numerics]
    prices: tuple[Price, ...] = ()
    sees: tuple[Sees, ...] = ()


def run_probe(probe: Probe, settings: RunSettings) -> ProbeResult:
    """Run and judge one probe; see ``run_judged``."""
    return run_judged(probe, settings, load_source(str(probe.settings["model"])))[0]


def run_judged(probe: Probe, settings: RunSettings, source: ModelSource) -> tuple[ProbeResult, Judged]:
    """Run and judge one probe of a loaded model.

    Raises ``ModelError``/``ModelMissing``, ``BackendMissing`` and ``Unsupported`` where it cannot be run here,
    ``CaseError`` where the case asks for something that the model cannot do.
    """
    started = time.perf_counter()
    wanted, case = probe.settings, probe.case
    source = with_cache_scales(source, str(wanted["kv_dtype"]))
    plan = run_plan(probe, source, settings)
    # a path given as an option is relative to where pytest was started, not to the case file
    spec = {"library": Path(settings.library).absolute()} if settings.library else wanted["backend"]
    if source.own_engine is not None:
        if settings.library:
            raise CaseError(case.where, text("probe.own_attention", model=source.name))
        engine = source.own_engine(spec, plan)
        with blas_threads(plan.threads):
            judged = judge_engine(engine, plan, probe.mode, settings.canary)
        descriptions, roundings = engine.descriptions, {**judged.numerics, "model": engine.model_numerics}
    else:
        in_kernel = case.inject is not None and plants_kernel(case.inject)
        try:
            backends = open_backends(spec, extra=settings.backends, base=case.where.path.parent, faulty=in_kernel)
        except UnknownBackend as error:
            raise CaseError(case.where, join("", error.said, _path_hint(spec))) from None
        with armed(backends.values(), case.inject), blas_threads(plan.threads):
            judged = judge(source, plan, backends, probe.mode, settings.canary)
        descriptions = {phase: backend.describe() for phase, backend in backends.items()}
        roundings = dict(judged.numerics)
    if less := declares_less(wanted["numerics"] or {}, judged.numerics, descriptions):
        verdict = inconclusive(judged.verdict, (*judged.verdict.evidence.breaches, *less))
        judged = replace(judged, verdict=verdict)
    expected = matches(judged.verdict, probe.expect)
    broken = contract_breach(default_contract(wanted, spec, settings), kept_contracts(judged), probe.expect)
    result = ProbeResult(
        suite=case.suite,
        case=case.id,
        probe=probe.id,
        mode=probe.mode,
        variant=probe.variant,
        nodeid=settings.nodeid,
        where=settings.where or f"{case.where.path}:{case.where.line}",
        outcome="passed" if expected and not broken else "failed",
        expected=spelled(probe.expect) + (f" (contract {broken})" if broken else ""),
        verdict=judged.verdict,
        prompt=_preview(case.prompt, source, plan.tokens),
        n_tokens=len(plan.tokens),
        fault=describe_fault(case.inject),
        reproduce=settings.reproduce,
        settings=to_plain({k: _spelled(v) for k, v in wanted.items()}),
        stages=judged.checks,
        bytes=judged.compared,
        stats=judged.stats,
        roundings=to_plain(roundings),
        prices=judged.prices,
        sees=judged.sees,
        environment={**environment.describe(), "threads": plan.threads, **_of_library(descriptions)},
        seconds=time.perf_counter() - started,
    )
    _write_traces(result, judged, settings)
    return result, judged


def _path_hint(spec: Any) -> str | Text:
    """Of a name that is none: a path stands under ``library``."""
    path = isinstance(spec, str) and (os.sep in spec or spec.endswith(".so"))
    return text("probe.library_path", path=spec) if path else ""


def _of_library(descriptions: Mapping[str, Any]) -> dict[str, str]:
    """What was probed; both where the phases are of two libraries."""
    said = [descriptions[phase] for phase in PHASES if phase in descriptions]
    names = {"library": "name", "library_version": "version", "device_kind": "device_kind"}
    return {key: " + ".join(dict.fromkeys(getattr(d, field) for d in said)) for key, field in names.items()}


RERUNS = 2
"""Of a suspect, each with tokens of its own."""


def judge(
    source: ModelSource, plan: RunPlan, backends: Mapping[Phase, AttentionBackend], mode: str, canary: str = "off"
) -> Judged:
    """Run all paths of our decoder around the libraries, and decide: see ``judge_engine``."""
    unique = {id(b): Library(b) for b in backends.values()}
    libraries: dict[Phase, Library] = {phase: unique[id(backends[phase])] for phase in PHASES}
    plan = of_device(plan, libraries["decode"].description.device_kind)
    require_features(plan, libraries)
    engine = Engine(
        source=source,
        stages=tuple(spec for spec in decoder_stages(source.config) if spec.stage != "lse" or _gives_lse(libraries)),
        descriptions={p: lib.description for p, lib in libraries.items()},
        numerics={phase: declared(libraries[phase], phase, plan) for phase in PHASES},
        model_numerics=Numerics(),
        trace=partial(trace_probe, source, libraries=libraries),
        identity=tuple(_identity(library) for library in libraries.values()),
    )
    return judge_engine(engine, plan, mode, canary)


def judge_engine(engine: Engine, plan: RunPlan, mode: str, canary: str = "off") -> Judged:
    """Run all paths and decide; a suspect is run again, and ``canary`` (auto, on, off) shows that the gate can fail.

    Pure but for the runs themselves, and for what ``auto`` remembers.
    """

    def run(own: RunPlan) -> Judged:
        trace = engine.trace(own)
        stages, more = engine.stages, engine.model_numerics
        return judge_trace(trace, engine.source, engine.descriptions, engine.numerics, mode, stages, more)

    judged = run(plan)
    if judged.verdict.finding == "SUSPECT":
        again = [_again(run, engine.source, plan, number) for number in range(RERUNS)]
        verdict = settle_suspect(judged.verdict, judged.checks, judged.compared, again)
        judged = replace(judged, verdict=verdict)
    return replace(judged, verdict=_canary(judged, engine, plan, mode, canary))


def _gives_lse(libraries: Mapping[Phase, Library]) -> bool:
    return all(library.description.lse for library in libraries.values())


def _identity(library: Library) -> tuple[type[AttentionBackend], str, str, str]:
    """The class too: two backends in Python may have one name."""
    said = library.description
    return type(library.backend), said.name, said.version, said.path


def _again(run: Callable[[RunPlan], Judged], source: ModelSource, plan: RunPlan, number: int) -> Again:
    """The case with as many random tokens in place of its own."""
    seed = (plan.seed, 3, number)
    judged = run(replace(plan, tokens=source.random_tokens(seed, len(plan.tokens))))
    return Again(seed, judged.checks, judged.verdict)


def _canary(judged: Judged, engine: Engine, plan: RunPlan, mode: str, setting: str) -> Verdict:
    """The verdict, with what the canary showed. Bytes are compared without it, and a planted fault is one itself."""
    verdict = judged.verdict
    if setting == "off" or mode == "as_designed":
        return verdict
    if plan.inject is not None:
        return replace(verdict, evidence=replace(verdict.evidence, canary="inject"))
    wrong = {c.stage for c in judged.checks if c.grade == "definite" and not c.part}
    return with_canary(verdict, canaries(engine, plan, setting, wrong))


def judge_trace(
    trace: Trace,
    source: ModelSource,
    descriptions: Mapping[str, Any],
    numerics: Mapping[str, Numerics],
    mode: str,
    stages: Sequence[StageSpec] | None = None,
    model_numerics: Numerics | None = None,
) -> Judged:
    """Decide over a trace, whoever made it. ``stages``: those that it must hold; None: all of our decoder's."""
    stages = decoder_stages(source.config) if stages is None else stages
    compared = tuple(compare_paths(trace))
    drift = logits_drift(trace)
    if mode == "as_designed":
        evidence = gather(trace, stages, descriptions, compared=compared)
        broken = None if evidence.breaches else must_hold(trace)
        return Judged(trace, decide_as_designed(compared, evidence, broken, drift), (), compared, (), numerics)
    examined = examine(trace, source, stages, numerics, model_numerics)
    checks = examined.checks
    unjudged = dict.fromkeys((m.path, m.layer, m.stage) for m in examined.missing)
    evidence = gather(trace, stages, descriptions, checks, compared, unjudged)
    verdict = decide_kv_aligned(checks, compared, evidence, drift, configuration(trace, source))
    return Judged(trace, verdict, checks, compared, examined.stats, numerics, examined.prices, examined.sees)


def kept_contracts(judged: Judged) -> dict[str, bool]:
    """Which promises the run kept, by the contract's name. All but ``bitwise`` rest on the checks of kv_aligned."""
    return {
        "bitwise": all(b.equal for b in judged.compared),
        "schedule": schedules.are_equal(judged.checks),
        "repeatable": not any(c.part == "repeat" for c in judged.checks),
        "batch_invariant": not any(c.part == "alone" for c in judged.checks),
    }


def default_contract(wanted: Mapping[str, Any], spec: Any, settings: RunSettings) -> dict[str, Any]:
    """The case's, with ``repeatable`` for libraries of ours: a race in them is a bug, whatever the case says."""
    names = spec.values() if isinstance(spec, Mapping) and set(spec) == set(PHASES) else [spec]
    ours = all(isinstance(name, str) and name in BUILT_IN and name not in settings.backends for name in names)
    return {"repeatable": ours, **(wanted.get("contract") or {})}


def describe_fault(fault: Inject | None) -> str:
    """``rope_pos phase=decode layer=3``, or ""."""
    if fault is None:
        return ""
    stated = {k: v for k, v in vars(fault).items() if v is not None and k != "fault"}
    return " ".join([fault.fault, *(f"{k}={v}" for k, v in stated.items())])


def blas_threads(threads: int) -> contextlib.AbstractContextManager[Any]:
    """Bounds BLAS inside the block only: the tests around a probe keep what they had."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(threads, user_api="blas")
    return limits


def _preview(prompt: Prompt, source: ModelSource, tokens: Sequence[int]) -> str:
    words = prompt.text
    if words is None:
        try:
            words = source.tokenizer.decode(list(tokens[:48]))
        except ModelError:  # a checkpoint whose tokenizer is not supported runs by token ids
            words = " ".join(map(str, tokens[:48]))
    return words if len(words) <= 80 else words[:77] + "..."


def _spelled(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _write_traces(result: ProbeResult, judged: Judged, settings: RunSettings) -> None:
    if settings.artifacts is None or settings.trace == "off":
        return
    from pytest_greta.trace.jsonl import write_trace

    write_trace(settings.artifacts, result, judged.trace, judged.checks, full=settings.trace == "full")
