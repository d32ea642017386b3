"""No verdict without evidence: a healthy trace, then one piece of evidence taken away, and nothing can be concluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_greta.cases.model import Inject
from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, trace_probe
from pytest_greta.engine.spec import decoder_stages
from pytest_greta.evidence import gather, must_hold
from pytest_greta.probing import judge, judge_trace
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


@pytest.mark.parametrize(
    ("stage", "part"), [("attn_out", ""), ("lse", ""), ("logits", ""), ("kv_write", "k"), ("kv_read", "v_after")]
)
def test_a_stage_in_a_coarser_type_would_excuse_its_own_rounding(trace, source, library, stage, part):
    key = Key(-1 if stage == "logits" else 1, stage, part)
    coarse = trace
    for path in ("full", "prefix", "decode"):
        coarse = with_tap(coarse, path, key, trace.paths[path].taps[key].values.astype(np.float16))
    assert reasons(coarse, source, library) == {"other_dtype"}


def test_a_coarser_output_does_not_pass(source):
    """On both paths alike, so that no comparison between them can tell."""

    class Coarse(PlainBackend):
        def open(self, config):
            session = super().open(config)
            attend = session.attend

            def coarse(*args):
                out, lse = attend(*args)
                return out.astype(np.float16), lse

            session.attend = coarse
            return session

    plan = RunPlan(tuple(source.tokenizer.encode("Too coarse.")))
    backend = Coarse()
    for mode in ("kv_aligned", "as_designed"):
        verdict = judge(source, plan, {"prefill": backend, "decode": backend}, mode).verdict
        assert (verdict.status, verdict.reason) == ("INCONCLUSIVE", "other_dtype")


@pytest.mark.parametrize("path", ["full", "prefix", "decode"])
def test_a_stage_that_is_there_and_could_not_be_judged(trace, source, library, path):
    """The cache has a hole, so that no reference can be made of the attention over it."""
    taps = dict(trace.paths[path].taps)
    for part in "kv":
        tap = taps[Key(1, "kv_write", part)]
        other = tap.positions + np.arange(len(tap.positions)) if len(tap.positions) > 1 else tap.positions + 1
        taps[Key(1, "kv_write", part)] = Tap(other, tap.values)
    said = {"prefill": library.description, "decode": library.description}
    holed = with_path(trace, path, taps=taps)
    verdict = judge_trace(holed, source, said, library.description.numerics, "kv_aligned").verdict
    assert verdict.status == "INCONCLUSIVE"
    assert (path, 1, "attn_out") in {
        (b.values["path"], b.values["layer"], b.values["stage"])
        for b in verdict.evidence.breaches
        if b.key == "not_judged"
    }


def test_a_check_of_no_element_is_no_check(trace, source, library):
    said = {"prefill": library.description, "decode": library.description}
    empty = StageCheck("decode", 1, "lse", 0.0, 0.0, 0, 0)
    found = gather(trace, decoder_stages(source.config), said, [empty], COMPARED)
    assert [(b.key, b.values["stage"]) for b in found.breaches] == [("not_judged", "lse")]


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "rope_pos", "magnitude": 0},
        {"fault": "rope_pos", "position": 500},
        {"fault": "rope_pos", "magnitude": 0.5},
        {"fault": "kv_slot", "position": 0},
        {"fault": "kv_len", "magnitude": 0},
        {"fault": "qk_scale", "magnitude": 0},
        {"fault": "gqa_map", "magnitude": 4},
        {"fault": "w_route", "stage": "k_proj", "magnitude": 6},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_a_fault_that_changes_nothing_was_not_there_to_be_missed(source, library, fault):
    plan = RunPlan(tuple(source.tokenizer.encode("No fault.")), layers=(0, 5), inject=Inject(**fault))
    planted = trace_probe(source, plan, {"prefill": library, "decode": library})
    assert reasons(planted, source, library) == {"fault_not_planted"}


def test_a_fault_that_changes_something_was_planted(source, library):
    for fault in ("rope_pos", "kv_slot", "kv_len", "qk_scale", "gqa_map", "w_route"):
        plan = RunPlan(tuple(source.tokenizer.encode("A fault.")), layers=(0, 5), inject=Inject(fault))
        planted = trace_probe(source, plan, {"prefill": library, "decode": library})
        assert reasons(planted, source, library) == set(), fault


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
