"""The canary: faults that the harness plants by itself, to see the gate fail before its silence is believed.

Argument and weight faults only, so that any library can have them. Several go into one short run, each into a layer of
its own: a stage is judged from its own input, so that the layers do not disturb one another. Neither the faults nor the
checks know of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_greta.backends.base import BackendError
from pytest_greta.cases.model import Inject
from pytest_greta.checks.result import StageCheck
from pytest_greta.checks.run import check_trace
from pytest_greta.engine.engine import Engine
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import ModelConfig
from pytest_greta.engine.ways import Ways
from pytest_greta.faults.plant import plants_weights
from pytest_greta.trace.paths import RUNS
from pytest_greta.trace.records import Trace
from pytest_greta.trace.stages import ATTENTION_STAGES, order
from pytest_greta.verdict import Canary

TOKENS = 12
"""Of the canary's prompt: 11 rows in the cache and one decoded. Enough for every fault to move something."""

DRAWS = 5
"""Prompts, each in the next layer, until a fault of attention shows. One that leaves a key out, or takes another
head's, changes nothing where no query gives that key any weight, as under logits that are not scaled; a gate that
cannot fail misses it in every one of them."""

LARGEST_PAGE = 64
"""Rows a page up to which the prompt is made as long as it takes to have two pages."""


@dataclass(frozen=True)
class Planting:
    """A fault, the stages that it makes wrong, at one of which it must be found, and what it needs: ``rope``,
    ``kv_heads``, ``same_type`` (the cache holds K in the type it is given) or nothing."""

    fault: Inject
    stages: tuple[str, ...]
    needs: str = ""

    def fits(self, model: ModelConfig, layer: int, same_type: bool) -> bool:
        if self.needs == "rope":
            return model.layers[layer].rope_style != "none"
        if self.needs == "same_type":
            return same_type
        return self.needs != "kv_heads" or model.n_kv_heads > 1


PLANTINGS = (
    Planting(Inject("w_route", "prefill", stage="q_proj"), ("q_proj",)),
    Planting(Inject("rope_pos", "decode"), ("q_rope", "k_rope"), "rope"),
    Planting(Inject("kv_slot", "decode"), ("kv_write",)),
    Planting(Inject("gain", "decode", stage="kv_write", magnitude=1), ("kv_write",), "same_type"),
    Planting(Inject("kv_len", "decode"), ATTENTION_STAGES),
    Planting(Inject("gqa_map", "prefill"), ATTENTION_STAGES, "kv_heads"),
)
"""Of each part that a verdict speaks of, one: weights, RoPE, the cache's addressing, one bit of it, lengths, the heads'
map."""

PAGED = Planting(Inject("page_addr", "decode"), ATTENTION_STAGES)
"""A wrong page, where there is more than one: by the harness in the table that it hands over, so that it is no fault
of the kernel here."""

_KNOWN: dict[Any, tuple[Canary, ...]] = {}
"""What ``auto`` has found in this process, by library, dtype and model."""


def canaries(
    engine: Engine,
    plan: RunPlan,
    setting: str,
    wrong: Iterable[str] = (),
) -> tuple[Canary, ...]:
    """What became of each of ``PLANTINGS``, and of ``PAGED`` in a paged cache; for ``auto`` once for a library, dtype
    and model of this process, and once more with pages.

    ``plan``: the case's, of which tokens, ways and layers are replaced. ``wrong``: stages at which the case's own run
    is wrong already, which say nothing here.
    """
    if setting == "on":
        return _all(engine, plan, frozenset(wrong))
    # what was found beside a case that is wrong itself shows less: a sound case does not lean on it
    heard = frozenset(wrong)
    key = (*engine.identity, plan.act_dtype, engine.source.name, engine.source.origin, plan.page_size > 0, heard)
    if key not in _KNOWN:
        _KNOWN[key] = _all(engine, plan, heard)
    return _KNOWN[key]


def rounds(
    config: ModelConfig, same_type: bool = True, pages: bool = False
) -> tuple[list[list[tuple[Planting, int]]], list[Canary]]:
    """The runs, each of faults with their layers, no layer twice in a run; and the faults that fit no layer.

    Layers are spread over the model's depth. ``pages``: there is more than one.
    """
    runs: list[dict[int, Planting]] = []
    skipped = []
    plantings = (*PLANTINGS, PAGED) if pages else PLANTINGS
    for index, planting in enumerate(plantings):
        start = index * config.n_layers // len(plantings)
        layers = [(start + i) % config.n_layers for i in range(config.n_layers)]
        fitting = [i for i in layers if planting.fits(config, i, same_type)]
        if not fitting:
            skipped.append(_canary(planting, -1, outcome="skipped", why=f"canary.no_{planting.needs}"))
            continue
        run = next((run for run in runs if any(i not in run for i in fitting)), None)
        if run is None:
            runs.append(run := {})
        run[next(i for i in fitting if i not in run)] = planting
    return [[(planting, layer) for layer, planting in run.items()] for run in runs], skipped


def _all(engine: Engine, plan: RunPlan, wrong: frozenset[str]) -> tuple[Canary, ...]:
    library = engine.descriptions["decode"]
    # a stateless library sees no table: the engine keeps the cache
    paged = plan.page_size > 0 and "paged" in library.features and library.kv != "stateless"
    pages = paged and plan.page_size < _length(engine, plan)
    runs, found = rounds(engine.source.config, plan.act_dtype == plan.kv_dtype, pages)
    for planted in runs:
        try:
            found += _run(engine, plan, wrong, planted)
        except BackendError:  # the library refuses one of them: each by itself
            for one in planted:
                try:
                    found += _run(engine, plan, wrong, [one])
                except BackendError as error:
                    found.append(_refused(*one, str(error)))
    plantings = {(planting.fault.fault, layer): planting for planted in runs for planting, layer in planted}
    return tuple(
        _until_it_shows(engine, plan, wrong, plantings[said.fault, said.layer], said)
        if said.outcome == "missed" and not said.said
        else said
        for said in found
    )


def _until_it_shows(engine: Engine, plan: RunPlan, wrong: frozenset[str], planting: Planting, said: Canary) -> Canary:
    """A fault that nothing was heard of, in other layers and over other prompts; ``said`` again where none shows it."""
    if planting.stages != ATTENTION_STAGES:
        return said
    model, same_type = engine.source.config, plan.act_dtype == plan.kv_dtype
    for draw in range(1, DRAWS):
        layer = (said.layer + draw) % model.n_layers
        if not planting.fits(model, layer, same_type):
            continue
        try:
            (again,) = _run(engine, plan, wrong, [(planting, layer)], draw)
        except BackendError:
            return said
        if again.outcome == "found":
            return again
    return said


def _length(engine: Engine, plan: RunPlan) -> int:
    wanted = max(TOKENS, plan.page_size + 2) if plan.page_size <= LARGEST_PAGE else TOKENS
    return min(wanted, engine.source.config.context)


def _refused(planting: Planting, layer: int, why: str) -> Canary:
    """A library sees nothing of a fault of weights: where it refuses that run it refuses a sound one."""
    if plants_weights(planting.fault):
        return _canary(planting, layer, said=why, outcome="missed")
    return _canary(planting, layer, outcome="skipped", why=why)


def _run(
    engine: Engine, plan: RunPlan, wrong: frozenset[str], planted: Sequence[tuple[Planting, int]], draw: int = 0
) -> list[Canary]:
    """One run of some faults with their layers. ``draw``: which of the prompts that the seed gives."""
    source = engine.source
    layers = tuple(sorted(layer for _, layer in planted))
    own = replace(
        plan,
        tokens=source.random_tokens((plan.seed, 4, *([draw] if draw else [])), _length(engine, plan)),
        steps=1,
        layers=layers,
        context=0,
        inject=None,
        further=(),
        canary=tuple(replace(planting.fault, layer=layer) for planting, layer in planted),
        ways=Ways(),
    )
    trace = engine.trace(own)
    stages = [spec for spec in engine.stages if spec.layer in layers]
    numerics = engine.declared(own) if engine.declared else engine.numerics
    checks = check_trace(trace, source, stages, numerics, engine.model_numerics)
    found = []
    for (planting, layer), fired in zip(planted, trace.facts["canary_fired"], strict=True):
        said = judged(planting, layer, checks, wrong)
        if not fired:
            said = _canary(planting, layer, outcome="skipped", why="canary.no_change")
        elif said.outcome == "missed" and not said.said and wrong and not _finite(trace, layer):
            said = _canary(planting, layer, outcome="skipped", why="canary.not_finite")
        found.append(said)
    return found


def _finite(trace: Trace, layer: int) -> bool:
    """Whether what came into the layer is: over NaN of an earlier layer no fault can show."""
    taps = (trace.tap(path, layer, "x_in") for path in RUNS)
    return all(bool(np.isfinite(tap.values.astype(np.float32)).all()) for tap in taps if tap is not None)


def judged(planting: Planting, layer: int, checks: Iterable[StageCheck], wrong: frozenset[str]) -> Canary:
    """Found where the planting's stages are wrong beyond doubt, and no other of the layer is: each is judged from its
    own input, so that whatever else is wrong there is so by itself, as in a library that gives back what it remembers.
    """
    definite = {c.stage for c in checks if c.layer == layer and c.path in RUNS and c.grade == "definite" and not c.part}
    heard = sorted(definite - (wrong - set(planting.stages)), key=lambda stage: order(layer, stage))
    said = next((stage for stage in heard if stage not in planting.stages), heard[0] if heard else "")
    return _canary(planting, layer, said=said, outcome="found" if said in planting.stages else "missed")


def _canary(planting: Planting, layer: int, **more: str) -> Canary:
    return Canary(planting.fault.fault, planting.fault.phase, layer, " / ".join(planting.stages), **more)
