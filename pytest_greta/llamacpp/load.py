"""A GGUF as a ``ModelSource`` that llama.cpp runs, held to what our own reader finds in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_greta.backends.base import PHASES, Description, Numerics, Unsupported
from pytest_greta.engine.engine import Engine
from pytest_greta.engine.gguf import load_gguf
from pytest_greta.engine.gguf_blocks import stored_types
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import BlockDot, ModelSource, decoder_stages
from pytest_greta.engine.store import ModelError, resolve
from pytest_greta.faults.own_pass import PLANTED, plantable
from pytest_greta.llamacpp import numerics
from pytest_greta.llamacpp.library import FLASH, TYPES, UBATCH, library
from pytest_greta.llamacpp.run import NAME, Between, Subject, trace
from pytest_greta.texts import text

PREFIX = "llamacpp:"
_ACT = "f32"
"""llama.cpp's activations on a CPU are float32 between any two nodes."""


def load(name: str) -> ModelSource:
    """``llamacpp:PATH.gguf``, or ``llamacpp:`` and the name of a known model.

    Raises ``ModelMissing`` where the extra or the file is not there, ``ModelError`` for one that cannot be probed.
    """
    library(name)
    path = resolve(name.removeprefix(PREFIX))
    source = load_gguf(path)
    config = source.config
    for key, odd in {
        "qk_norm": config.qk_norm,
        "post_norms": config.post_norms,
        "ffn_act": config.ffn_act != "swiglu",
        "window": any(layer.window for layer in config.layers),
        "sinks": any(layer.sinks is not None for layer in config.layers),
    }.items():
        if odd:
            raise ModelError(
                "arch", text("llamacpp.arch", model=name, arch=config.arch, key=key), text("llamacpp.mend.arch")
            )
    known = (*numerics.DOT_BITS, *numerics.BLOCKS)
    if foreign := _types(source) - set(known):
        message = text("llamacpp.types", model=name, found=", ".join(sorted(foreign)))
        raise ModelError("tensor", message, text("llamacpp.mend.types", names=", ".join(known)))
    source = replace(source, blocks=_blocks(path, source))
    return ModelSource(
        name=name,
        config=config,
        weights=source.weights,
        tokenizer=source.tokenizer,
        origin=source.origin,
        extras=dict(source.extras),
        own_engine=partial(_engine, name, path, source),
        blocks=source.blocks,
    )


def _blocks(path: Path, source: ModelSource) -> dict[str, BlockDot]:
    """What each quantised matrix is multiplied with."""
    if not _types(source) & set(numerics.BLOCKS):
        return {}
    stored = stored_types(path, str(source.extras["sha256"]))
    return {
        name: BlockDot(numerics.BLOCKS[kind], stored.minima.get(name))
        for name, kind in stored.types.items()
        if kind in numerics.BLOCKS
    }


def _types(source: ModelSource) -> frozenset[str]:
    """Of the tensors in the file: ``F16 211, F32 61`` is {F16, F32}."""
    return frozenset(entry.split()[0] for entry in source.extras["file_type"].split(", "))


def with_between(source: ModelSource, between: Between) -> ModelSource:
    """The same model, with something done between prefill and decode. Raises ``ModelError`` for one that llama.cpp
    does not run."""
    engine = source.own_engine
    if not isinstance(engine, partial) or engine.func is not _engine:
        raise ModelError(
            "foreign", text("llamacpp.between", model=source.name), text("mend.use", names=f"{PREFIX}PATH")
        )
    return replace(source, own_engine=partial(engine, between=between))


def _engine(
    name: str, path: Path, source: ModelSource, spec: Any, plan: RunPlan, between: Between | None = None
) -> Engine:
    _require(name, source, plan)
    attention = _chosen(name, spec, plan.kv_dtype)

    def declare(of: RunPlan) -> dict[str, Numerics]:
        return {phase: numerics.attention(attention, of.kv_dtype, _queries(of, phase)) for phase in PHASES}

    declared = declare(plan)
    described = Description(
        name=NAME,
        version=library(name).release,
        device_kind="cpu",
        features=frozenset(),
        act_dtypes=(_ACT,),
        kv_dtypes=tuple(TYPES),
        p_dtypes=(_ACT, "f16"),
        kernels=dict.fromkeys(PHASES, attention),
        numerics=declared,
        one_kernel=True,
        lse=False,
    )
    own = replace(source, name=name)
    return Engine(
        source=own,
        stages=tuple(spec for spec in decoder_stages(source.config) if spec.stage != "lse"),
        descriptions=dict.fromkeys(PHASES, described),
        numerics=declared,
        model_numerics=numerics.model(_types(source)),
        trace=partial(trace, Subject(str(path), own, attention, between)),
        identity=(NAME, attention, plan.kv_dtype, id(between)),
        declared=declare,
    )


def _queries(plan: RunPlan, phase: str) -> list[int]:
    """Of each attention call of a phase: a call of the model goes in pieces of ``UBATCH``."""
    n, steps = plan.n_prefix, plan.steps
    prefill = [len(plan.tokens), *(segment.count for segment in plan.ways.prefill(n))]
    counts = prefill if phase == "prefill" else [segment.count for segment in plan.ways.decode(n, steps)]
    return [piece for count in counts for piece in (UBATCH if count >= UBATCH else count, count % UBATCH) if piece]


def _chosen(name: str, spec: Any, kv_dtype: str) -> str:
    """The attention that a case's ``backend`` asks for. ``cpu`` is flash, as llama.cpp itself takes it there; but plain
    over an f32 cache, which flash copies into f16 at every call, so that what it reads is not the cache."""
    usual = "plain" if kv_dtype == "f32" else "flash"
    wanted = spec if isinstance(spec, Mapping) else {} if spec == "cpu" else {"attention": spec}
    attention = str(wanted.get("attention", usual))
    if foreign := set(wanted) - {"attention"}:
        raise Unsupported("backend", text("llamacpp.backend", model=name, backend=", ".join(sorted(foreign))))
    if attention not in FLASH:
        raise Unsupported("attention", text("llamacpp.attention", name=attention, names=", ".join(FLASH)))
    if attention == "flash" and kv_dtype == "f32":
        raise Unsupported("attention", text("llamacpp.flash_f32"))
    return attention


def _require(name: str, source: ModelSource, plan: RunPlan) -> None:
    """Raises ``Unsupported`` for what llama.cpp cannot be asked."""
    asked = {
        "page_size": plan.page_size > 0,
        "left_pad": plan.ways.left_pad > 0,
        "batch": bool(plan.ways.companions),
        "reuse": plan.ways.reuse is not None,
        "schedule": bool(plan.schedule),
        "gemm": plan.gemm != "blas",
    }
    for feature, wanted in asked.items():
        if wanted:
            raise Unsupported(feature, text("hf.feature", feature=feature, model=name))
    for key, said, known in (("dtype", plan.act_dtype, (_ACT,)), ("kv_dtype", plan.kv_dtype, tuple(TYPES))):
        if said not in known:
            raise Unsupported(key, text("llamacpp.dtype", key=key, said=said, names=", ".join(known)))
    if plan.inject is not None and not plantable(plan.inject, source.config):
        names = ", ".join(PLANTED)
        raise Unsupported("inject", text("hf.inject", fault=plan.inject.fault, model=name, names=names))
