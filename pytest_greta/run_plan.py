"""What a probe asks for: of its model, as a plan to run, and of the libraries that run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_greta import environment
from pytest_greta.backends.base import PHASES, Phase, Schedule, Unsupported
from pytest_greta.backends.function import FunctionBackend
from pytest_greta.cases.model import CaseError, OptionError, Probe, Prompt, Where
from pytest_greta.dtypes import stored_name
from pytest_greta.engine.run import Library, RunPlan
from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.ways import Reuse, Ways
from pytest_greta.settings import RunSettings
from pytest_greta.texts import join, text


def run_plan(probe: Probe, source: ModelSource, settings: RunSettings) -> RunPlan:
    """The runs that the probe asks for. Raises ``CaseError`` where it asks for what the model does not have,
    ``OptionError`` where an option does."""
    wanted, where = probe.settings, probe.case.where
    tokens, steps = _tokens(probe.case.prompt, source, int(wanted["seed"])), int(wanted["steps"])
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
        said = text("probe.layer", layer=outside[0], model=source.name, last=config.n_layers - 1)
        stated = (probe.case.settings.get("layers", "all"), *probe.case.matrix.get("layers", ()))
        if outside[0] in (layers or ()) and wanted["layers"] not in stated:
            raise OptionError(join(": ", "--greta-layers", said))
        raise CaseError(where, said)
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


def _tokens(prompt: Prompt, source: ModelSource, seed: int) -> tuple[int, ...]:
    """The ids of a prompt. ``random_tokens`` are drawn from the seed over the whole vocabulary."""
    if prompt.token_ids is not None:
        return prompt.token_ids
    if prompt.random_tokens is not None:
        return source.random_tokens(seed, prompt.random_tokens)
    return tuple(source.tokenizer.encode(prompt.text or ""))


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


def of_device(plan: RunPlan, device_kind: str) -> RunPlan:
    """``fp8_e4m3`` as the type that the device has."""
    schedule = {p: replace(s, p_dtype=stored_name(s.p_dtype, device_kind)) for p, s in plan.schedule.items()}
    return replace(plan, kv_dtype=stored_name(plan.kv_dtype, device_kind), schedule=schedule)


def require_features(plan: RunPlan, libraries: Mapping[Phase, Library]) -> None:
    """Raises ``Unsupported`` for what a library does not declare: the case is "not run", before anything is run."""
    for library in set(libraries.values()):
        said = library.description
        for value, have, name, key, argument in (
            (plan.act_dtype, said.act_dtypes, "dtype", "act_dtypes", "dtypes"),
            (plan.kv_dtype, said.kv_dtypes, "kv_dtype", "kv_dtypes", "kv_dtypes"),
        ):
            if value not in have:
                names = {"name": name, "names": ", ".join(have)}
                of_function = isinstance(library.backend, FunctionBackend)
                said_by = text("function.declares" if of_function else "backend.declares", library=said.name, **names)
                mend = text(
                    "backend.declares_mend", wanted=value, where=f"{argument}=" if of_function else key, **names
                )
                raise Unsupported(f"{name} {value}", said_by, mend if have else "")
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
