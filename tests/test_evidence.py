"""No verdict without evidence: a healthy trace, then one piece of evidence taken away, and nothing can be concluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_greta.checks.result import ByteCheck
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, trace_probe
from pytest_greta.engine.spec import decoder_stages
from pytest_greta.evidence import gather, must_hold
from pytest_greta.trace.records import KernelRun, Key, PathTrace, Tap, Trace
from tests.support.plain import PlainBackend

COMPARED = [ByteCheck(0, "q_proj", "", "full", "decode", "a", "a", 1)]


@pytest.fixture(scope="module")
def source():
    return load_source("synthetic")


@pytest.fixture(scope="module")
def library():
    return Library(PlainBackend())


@pytest.fixture(scope="module")
def trace(source, library) -> Trace:
    plan = RunPlan(tuple(source.tokenizer.encode("A trace to break.")), layers=(0, 1, 4))
    return trace_probe(source, plan, {"prefill": library, "decode": library})


def reasons(trace: Trace, source: Any, library: Library, descriptions: Mapping[str, Any] | None = None) -> set[str]:
    said = descriptions or {"prefill": library.description, "decode": library.description}
    return {b.key for b in gather(trace, decoder_stages(source.config), said, (), COMPARED).breaches}


def with_path(trace: Trace, name: str, **changes: Any) -> Trace:
    return replace(trace, paths={**trace.paths, name: replace(trace.paths[name], **changes)})


def with_tap(trace: Trace, path: str, key: Key, values: Any) -> Trace:
    taps = dict(trace.paths[path].taps)
    taps[key] = Tap(taps[key].positions, values)
    return with_path(trace, path, taps=taps)


def kernels_of(path: PathTrace, **changes: Any) -> tuple[KernelRun, ...]:
    return tuple(replace(k, **changes) for k in path.kernels)


def test_a_healthy_trace_has_its_evidence(trace, source, library):
    evidence = gather(
        trace,
        decoder_stages(source.config),
        {"prefill": library.description, "decode": library.description},
        (),
        COMPARED,
    )
    assert evidence.breaches == ()
    ran = {(k["path"], k["phase"], k["kernel"], k["calls"]) for k in evidence.kernels}
    assert ran == {
        ("full", "prefill", "plain_prefill", 6),
        ("prefix", "prefill", "plain_prefill", 6),
        ("decode", "decode", "plain_decode", 6),
        ("aligned", "decode", "plain_decode", 3),
    }
    assert evidence.cache == "engine"  # the library is stateless
    assert evidence.weights == "synthetic seed 1"


def test_nothing_compared(trace, source, library):
    said = {"prefill": library.description, "decode": library.description}
    assert [b.key for b in gather(trace, decoder_stages(source.config), said).breaches] == ["nothing_compared"]


def test_a_kernel_that_did_not_run(trace, source, library):
    assert "kernel_not_run" in reasons(with_path(trace, "decode", kernels=()), source, library)


def test_a_decode_that_secretly_calls_prefill(trace, source, library):
    kernels = kernels_of(trace.paths["decode"], kernel="plain_prefill")
    found = reasons(with_path(trace, "decode", kernels=kernels), source, library)
    assert {"kernel_not_run", "other_kernel"} <= found


def test_a_kernel_that_ran_beside_the_named_one(trace, source, library):
    kernels = (*trace.paths["decode"].kernels, KernelRun("plain", "plain_prefill", "decode", 1))
    assert reasons(with_path(trace, "decode", kernels=kernels), source, library) == {"other_kernel", "one_kernel"}


def test_a_kernel_of_another_library(trace, source, library):
    kernels = kernels_of(trace.paths["full"], library="someone-else")
    assert "other_library" in reasons(with_path(trace, "full", kernels=kernels), source, library)


def test_a_kernel_that_ran_for_some_layers_only(trace, source, library):
    kernels = kernels_of(trace.paths["prefix"], calls=5)
    assert reasons(with_path(trace, "prefix", kernels=kernels), source, library) == {"too_few_calls"}


def test_one_kernel_for_both_phases_must_be_declared(trace, source, library):
    one = replace(library.description, kernels={"prefill": "k", "decode": "k"})
    changed = trace
    for name, path in trace.paths.items():
        changed = with_path(changed, name, kernels=kernels_of(path, kernel="k"))
    assert reasons(changed, source, library, {"prefill": one, "decode": one}) == {"one_kernel"}
    declared = replace(one, one_kernel=True)
    assert reasons(changed, source, library, {"prefill": declared, "decode": declared}) == set()


@pytest.mark.parametrize(
    ("field", "reason"),
    [("tokens", "tokens_differ"), ("rows", "rows_differ"), ("rope_positions", "positions_differ")],
)
def test_same_token_same_position_on_both_paths(trace, source, library, field, reason):
    values = getattr(trace.paths["decode"], field) + 1
    assert reasons(with_path(trace, "decode", **{field: values}), source, library) == {reason}


def test_a_path_that_is_missing(trace, source, library):
    paths = {name: path for name, path in trace.paths.items() if name != "decode"}
    assert "path_missing" in reasons(replace(trace, paths=paths), source, library)


@pytest.mark.parametrize("stage", ["q_proj", "kv_read", "lse", "attn_out", "x_out"])
def test_a_stage_that_is_missing_or_empty(trace, source, library, stage):
    taps = {key: tap for key, tap in trace.paths["decode"].taps.items() if (key.layer, key.stage) != (1, stage)}
    assert reasons(with_path(trace, "decode", taps=taps), source, library) == {"stage_missing"}
    key = next(k for k in trace.paths["decode"].taps if (k.layer, k.stage) == (1, stage))
    empty = with_tap(trace, "decode", key, trace.paths["decode"].taps[key].values[:0])
    assert reasons(empty, source, library) == {"stage_missing"}


def test_empty_logits_are_no_evidence(trace, source, library):
    empty = with_tap(trace, "decode", Key(-1, "logits"), np.empty((0, 259), np.float32))
    assert "stage_missing" in reasons(empty, source, library)


def test_a_tap_that_is_dead_in_every_layer(trace, source, library):
    dead = trace
    for layer in trace.layers:
        key = Key(layer, "o_proj")
        dead = with_tap(dead, "decode", key, np.zeros_like(trace.paths["decode"].taps[key].values))
    assert reasons(dead, source, library) == {"dead_tap"}


def test_nothing_is_compared_with_itself(trace, source, library):
    key = Key(1, "o_proj")
    mine = trace.paths["full"].taps[key]
    shared = mine.values[-1:]
    assert reasons(with_tap(trace, "decode", key, shared), source, library) == {"same_buffer"}


def test_what_must_hold_where_drift_is_expected(trace):
    assert must_hold(trace) is None


@pytest.mark.parametrize(
    ("layer", "stage", "spoil", "cause", "phase"),
    [
        (-1, "embed_out", lambda v: v + 1, "cause.embedding", "decode"),
        (4, "attn_out", lambda v: v * np.nan, "cause.not_finite", "decode"),
        (1, "o_proj", np.zeros_like, "cause.dead_row", "decode"),
        (-1, "logits", lambda v: v[:, :-1], "cause.shape", "decode"),
    ],
)
def test_embeddings_shapes_finite_values_and_live_rows_must_hold(trace, layer, stage, spoil, cause, phase):
    key = Key(layer, stage)
    with np.errstate(invalid="ignore"):
        broken = with_tap(trace, "decode", key, spoil(trace.paths["decode"].taps[key].values))
    failure = must_hold(broken)
    assert failure is not None
    assert (failure.layer, failure.stage, failure.phase, failure.causes) == (layer, stage, phase, (cause,))
