"""One probe, from a cell of a case's matrix to its result: load, run, check, decide, compare with what was expected."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_greta import environment, schedules
from pytest_greta.backends.base import PHASES, AttentionBackend, Numerics, Phase, Schedule, Unsupported
from pytest_greta.backends.registry import BUILT_IN, UnknownBackend, open_backends
from pytest_greta.canary import canaries
from pytest_greta.cases.expect import contract_breach, matches, spelled
from pytest_greta.cases.model import CaseError, Inject, Probe, Prompt, Where
from pytest_greta.checks.compare import compare_paths, logits_drift
from pytest_greta.checks.configuration import configuration
from pytest_greta.checks.result import ByteCheck, Price, Sees, StageCheck
from pytest_greta.checks.run import examine
from pytest_greta.decide import Again, decide_as_designed, decide_kv_aligned, inconclusive, settle_suspect, with_canary
from pytest_greta.dtypes import stored_name
from pytest_greta.engine.engine import Engine
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, declared, trace_probe
from pytest_greta.engine.scales import with_cache_scales
from pytest_greta.engine.spec import ModelSource, StageSpec, decoder_stages
from pytest_greta.engine.store import ModelError
from pytest_greta.engine.ways import Reuse, Ways
from pytest_greta.evidence import declares_less, gather, must_hold
from pytest_greta.faults.kernel import armed, plants_kernel
from pytest_greta.plain import to_plain
from pytest_greta.result import AttentionStat, ProbeResult
from pytest_greta.settings import RunSettings
from pytest_greta.texts import text
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
    plan = _plan(probe, source, settings)
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
            raise CaseError(case.where, error.said) from None
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
    plan = _of_device(plan, libraries["decode"].description.device_kind)
    _require_features(plan, libraries)
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


def tokens_of(prompt: Prompt, source: ModelSource, seed: int) -> tuple[int, ...]:
    """The ids of a prompt. ``random_tokens`` are drawn from the seed over the whole vocabulary."""
    if prompt.token_ids is not None:
        return prompt.token_ids
    if prompt.random_tokens is not None:
        return source.random_tokens(seed, prompt.random_tokens)
    return tuple(source.tokenizer.encode(prompt.text or ""))


def describe_fault(fault: Inject | None) -> str:
    """``rope_pos phase=decode layer=3``, or ""."""
    if fault is None:
        return ""
    stated = {k: v for k, v in vars(fault).items() if v is not None and k != "fault"}
    return " ".join([fault.fault, *(f"{k}={v}" for k, v in stated.items())])


def _plan(probe: Probe, source: ModelSource, settings: RunSettings) -> RunPlan:
    wanted, where = probe.settings, probe.case.where
    tokens, steps = tokens_of(probe.case.prompt, source, int(wanted["seed"])), int(wanted["steps"])
    config = source.config
    context = min(int(wanted["context"]), config.context) if wanted.get("context") else config.context
    if len(tokens) < steps + 1:
        raise CaseError(where, text("probe.short", count=len(tokens), least=steps + 1, steps=steps))
    whole = len(tokens)
    if wanted["lengths"] is not None:
        tokens = _cut(tokens, int(wanted["lengths"]), steps, where)
    if len(tokens) > context:
        raise CaseError(where, text("probe.long", count=len(tokens), context=context))
    foreign = [t for t in tokens if not 0 <= t < config.vocab]
    if foreign:
        raise CaseError(where, text("probe.token", token=foreign[0], last=config.vocab - 1))
    layers = None if wanted["layers"] == "all" else tuple(int(i) for i in wanted["layers"])
    outside = [i for i in layers or () if not 0 <= i < config.n_layers]
    inject = probe.case.inject
    if inject is not None and inject.layer is not None and not 0 <= inject.layer < config.n_layers:
        outside.append(inject.layer)
    if outside:
        last = config.n_layers - 1
        raise CaseError(where, text("probe.layer", layer=outside[0], model=source.name, last=last))
    if inject is not None and inject.layer is not None and layers is not None and inject.layer not in layers:
        raise CaseError(where, text("probe.unseen", layer=inject.layer, layers=", ".join(map(str, layers))))
    if inject is not None and inject.head is not None and not 0 <= inject.head < config.n_heads:
        last = config.n_heads - 1
        raise CaseError(where, text("probe.head", head=inject.head, model=source.name, last=last))
    schedule = {phase: Schedule(**value) for phase, value in (wanted.get("schedule") or {}).items()}
    ways = _ways(probe, len(tokens) - steps)
    if (slots := ways.longest(len(tokens), steps)) > context:
        raise CaseError(where, text("probe.slots", count=slots, context=context))
    return RunPlan(
        tokens=tokens,
        steps=steps,
        act_dtype=str(wanted["dtype"]),
        kv_dtype=str(wanted["kv_dtype"]),
        gemm=wanted["gemm"],
        page_size=int(wanted["page_size"]),
        seed=int(wanted["seed"]),
        layers=layers,
        schedule=schedule,
        context=context if wanted.get("context") else 0,
        threads=settings.threads or default_threads(),
        device=settings.device,
        inject=inject,
        ways=ways,
        further=_further(probe),
        cut_from=whole if len(tokens) < whole else 0,
    )


def _further(probe: Probe) -> tuple[str, ...]:
    """Attention calls beside each path's own; ``as_designed`` compares the paths' bytes alone."""
    alone = bool((probe.settings.get("contract") or {}).get("batch_invariant"))
    if alone and not probe.settings["batch"]:
        raise CaseError(probe.case.where, text("probe.alone"))
    if probe.mode != "kv_aligned":
        return ()
    return ("repeat", "q0", *(["alone"] if alone else []))


def _cut(tokens: tuple[int, ...], length: int, steps: int, where: Where) -> tuple[int, ...]:
    """The first ``length`` tokens of a prompt, and the ``steps`` to be decoded after them."""
    if len(tokens) < length + steps:
        need = {"length": length, "need": length + steps, "steps": steps}
        raise CaseError(where, text("probe.length", **need, count=len(tokens)))
    return tokens[: length + steps]


def _ways(probe: Probe, n: int) -> Ways:
    """How the case reaches its token; ``n`` rows are in the cache before the first decoded one."""
    wanted = probe.settings
    reuse = Reuse(**wanted["reuse"]) if wanted["reuse"] else None
    if reuse is not None and reuse.prefix > n:
        raise CaseError(probe.case.where, text("probe.reuse", prefix=reuse.prefix, rows=n))
    return Ways(
        chunk=int(wanted["chunk"] or 0),
        q_len=int(wanted["q_len"]),
        left_pad=int(wanted["left_pad"]),
        reuse=reuse,
        companions=tuple(int(length) for length in wanted["batch"]),
    )


def _of_device(plan: RunPlan, device_kind: str) -> RunPlan:
    """``fp8_e4m3`` as the type that the device has."""
    schedule = {p: replace(s, p_dtype=stored_name(s.p_dtype, device_kind)) for p, s in plan.schedule.items()}
    return replace(plan, kv_dtype=stored_name(plan.kv_dtype, device_kind), schedule=schedule)


def _require_features(plan: RunPlan, libraries: Mapping[Phase, Library]) -> None:
    """A feature that the library does not declare makes the case "not run", before anything is run."""
    for library in set(libraries.values()):
        said = library.description
        for value, have, name in (
            (plan.act_dtype, said.act_dtypes, "dtype"),
            (plan.kv_dtype, said.kv_dtypes, "kv_dtype"),
        ):
            if value not in have:
                what = text("backend.declares", library=said.name, name=name, names=", ".join(have))
                raise Unsupported(f"{name} {value}", what)
        for phase in PHASES:
            wanted = plan.schedule.get(phase, Schedule()).p_dtype
            if libraries[phase] is library and wanted and wanted not in said.p_dtypes:
                what = text("backend.declares", library=said.name, name="p_dtype", names=", ".join(said.p_dtypes))
                raise Unsupported(f"p_dtype {wanted}", what)
        if plan.page_size and said.kv != "stateless" and "paged" not in said.features:
            raise Unsupported("paged", text("backend.no_pages", library=said.name))
        for asked, feature in (
            (plan.ways.q_len > 1, "q_len"),
            (plan.ways.left_pad > 0, "kv_start"),
            (bool(plan.ways.companions), "ragged"),
        ):
            if asked and feature not in said.features:
                raise Unsupported(feature, text("backend.no_feature", library=said.name, feature=feature))
        if plan.schedule and "schedule" not in said.features:
            raise Unsupported("schedule", text("backend.no_schedule", library=said.name))


def default_threads() -> int:
    """One core is left to everything else: OpenBLAS and OpenMP spin while they wait, and where the cores are contended
    two threads were measured five times slower than one.
    """
    return max(1, environment.cores() - 1)


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
