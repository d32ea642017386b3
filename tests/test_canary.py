"""The canary: what it plants, that a healthy gate finds all of it, and that one which cannot fail is not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_greta import canary, probing
from pytest_greta.backends.base import BackendError
from pytest_greta.backends.registry import open_backends
from pytest_greta.checks.result import StageCheck
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import ModelSource
from pytest_greta.faults.kinds import planted_in
from pytest_greta.verdict import Verdict

PLAN = RunPlan((7, 91, 33, 4, 250, 61, 9), threads=1)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process knows already is another test's."""
    monkeypatch.setattr(canary, "_KNOWN", {})


@pytest.fixture(scope="module")
def source() -> ModelSource:
    return load_source("synthetic")


def judge(source, backend="cpu", setting="on", mode="kv_aligned", **plan) -> Verdict:
    backends = open_backends(backend, extra={}, base=None) if isinstance(backend, str) else backend  # type: ignore[arg-type]
    return probing.judge(source, replace(PLAN, **plan), backends, mode, setting).verdict


class Wrapped:
    """The CPU library behind a class of its own; ``attend`` may be replaced."""

    def __init__(self, attend=None) -> None:
        self.inner = open_backends("cpu", extra={}, base=None)["prefill"]  # type: ignore[arg-type]
        self.attend = attend
        self.opened = 0

    def describe(self):
        return self.inner.describe()

    def device_count(self) -> int:
        return 1

    def open(self, config):
        self.opened += 1
        session = self.inner.open(config)
        return _Session(session, self.attend) if self.attend else session

    def pair(self):
        return {"prefill": self, "decode": self}


class _Session:
    def __init__(self, inner, attend) -> None:
        self._inner, self._attend = inner, attend

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def attend(self, layer, phase, batch, q, k_new=None, v_new=None):
        return self._attend(self._inner, layer, phase, batch, q)


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("synthetic", "f32"),
        ("synthetic", "f16"),
        ("synthetic:qwen3", "bf16"),
        ("synthetic:mistral", "f32"),
        ("synthetic:gemma2", "f32"),
        ("synthetic:gpt-oss", "bf16"),
    ],
)
def test_every_planted_fault_is_found_where_it_was_planted(model, dtype):
    verdict = judge(load_source(model), act_dtype=dtype, kv_dtype=dtype)
    assert verdict.status == "PASS"
    found = verdict.evidence.canaries
    assert verdict.evidence.canary == "planted"
    assert [c.fault for c in found] == [p.fault.fault for p in canary.PLANTINGS]
    assert {c.outcome for c in found} == {"found"}
    assert all(c.said in c.stage.split(" / ") for c in found)
    assert len({c.layer for c in found}) == len(found), "each in a layer of its own"


def test_the_faults_are_the_harness_s_own_so_that_any_library_can_have_them():
    assert {planted_in(p.fault) for p in canary.PLANTINGS} <= {"argument", "weights"}


@pytest.mark.parametrize("page_size", [4, 16, 64])
def test_a_wrong_page_is_found_where_there_is_more_than_one(source, page_size):
    verdict = judge(source, page_size=page_size)
    assert verdict.status == "PASS"
    (wrong_page,) = (c for c in verdict.evidence.canaries if c.fault == "page_addr")
    assert (wrong_page.outcome, wrong_page.phase) == ("found", "decode")
    assert wrong_page.said in wrong_page.stage.split(" / ")
    assert {c.outcome for c in verdict.evidence.canaries} == {"found"}


@pytest.mark.parametrize(("backend", "page_size"), [("cpu", 0), ("cpu", 128), ("numpy", 4)])
def test_no_wrong_page_is_planted_where_there_is_none(source, backend, page_size):
    """No pages, one page, and a library to which the engine hands the rows themselves."""
    verdict = judge(source, backend, page_size=page_size)
    assert verdict.status == "PASS"
    assert "page_addr" not in [c.fault for c in verdict.evidence.canaries]


def test_a_library_that_ignores_its_page_table_is_not_believed(source):
    """It finds the pages by itself, from the table of the prefill: another table changes nothing."""
    tables = {}

    def attend(inner, layer, phase, batch, q):
        known, _ = tables.setdefault((id(inner), layer), (batch.block_table, inner))  # alive, its id is its own
        return inner.attend(layer, phase, replace(batch, block_table=known), q)

    assert judge(source, Wrapped(attend).pair(), "off", page_size=4).status == "PASS"
    verdict = judge(source, Wrapped(attend).pair(), page_size=4)
    assert (verdict.status, verdict.reason) == ("INCONCLUSIVE", "canary_missed")
    (breach,) = verdict.evidence.breaches
    assert breach.values["fault"] == "page_addr"


def test_a_library_that_ignores_its_lengths_is_not_believed(source):
    """It takes the number of keys from the slots, so a wrong length changes nothing: the fault cannot be found."""

    def attend(inner, layer, phase, batch, q):
        ends = batch.slots[batch.cu_q[1:] - 1] + 1
        return inner.attend(layer, phase, replace(batch, kv_len=ends.astype(np.int32)), q)

    assert judge(source, Wrapped(attend).pair(), "off").status == "PASS"
    verdict = judge(source, Wrapped(attend).pair())
    assert (verdict.status, verdict.scenario, verdict.reason) == ("INCONCLUSIVE", None, "canary_missed")
    (breach,) = verdict.evidence.breaches
    assert (breach.values["fault"], breach.values["said"]) == ("kv_len", "PASS")
    assert [c.outcome for c in verdict.evidence.canaries].count("missed") == 1


def test_checks_that_find_nothing_are_not_believed(source, monkeypatch):
    """The gate itself is broken: every rho is 0."""
    real = canary.check_trace

    def blind(*args):
        return [replace(c, rho=0.0, rho2=0.0) for c in real(*args)]

    monkeypatch.setattr(canary, "check_trace", blind)
    verdict = judge(source)
    assert verdict.status == "INCONCLUSIVE"
    assert len(verdict.evidence.breaches) == len(canary.PLANTINGS)


def test_a_broken_library_stays_a_mismatch(source):
    """What is wrong in the case's own run does not count as a canary's miss."""

    def attend(inner, layer, phase, batch, q):
        return inner.attend(layer, phase, batch, (q.astype(np.float32) * np.float32(1.01)).astype(q.dtype))

    verdict = judge(source, Wrapped(attend).pair())
    assert (verdict.status, verdict.scenario) == ("KV_MISMATCH", "KV_MISALIGNMENT")
    assert {c.outcome for c in verdict.evidence.canaries} == {"found"}


@pytest.mark.parametrize(
    ("wrong", "definite", "outcome", "said"),
    [
        ((), ("kv_write",), "found", "kv_write"),
        ((), ("kv_write", "lse"), "missed", "lse"),
        (("lse",), ("kv_write", "lse"), "found", "kv_write"),
        ((), ("lse",), "missed", "lse"),
        ((), (), "missed", ""),
        ((), ("k_rope", "kv_write"), "missed", "k_rope"),
        (("k_rope",), ("k_rope", "kv_write"), "found", "kv_write"),
        (("k_rope", "kv_write"), ("k_rope", "kv_write"), "found", "kv_write"),
    ],
)
def test_found_is_the_only_wrong_stage_of_the_layer(wrong, definite, outcome, said):
    planting = next(p for p in canary.PLANTINGS if p.fault.fault == "kv_slot")
    checks = [StageCheck("decode", 3, stage, 7.0, 7.0, 1, 1) for stage in definite]
    checks += [StageCheck("decode", 2, "q_proj", 7.0, 7.0, 1, 1), StageCheck("aligned", 3, "q_proj", 7.0, 7.0, 1, 1)]
    checks += [StageCheck("full", 3, "q_proj", 7.0, 0.5, 1, 1)]  # a suspect is not enough
    result = canary.judged(planting, 3, checks, frozenset(wrong))
    assert (result.outcome, result.said) == (outcome, said)


def test_a_model_of_few_layers_has_several_runs(source):
    config = replace(source.config, n_layers=2, layers=source.config.layers[:2])
    runs, skipped = canary.rounds(config)
    assert not skipped
    assert [p for run in runs for p, _ in run] != []
    assert sorted(p.fault.fault for run in runs for p, _ in run) == sorted(p.fault.fault for p in canary.PLANTINGS)
    for run in runs:
        layers = [layer for _, layer in run]
        assert len(set(layers)) == len(layers)
        assert set(layers) <= {0, 1}
    verdict = judge(replace(source, config=config))
    assert [c.outcome for c in verdict.evidence.canaries].count("missed") == 0
    assert verdict.status == "PASS"


def test_what_a_model_leaves_no_room_for_is_skipped_and_said(source):
    layers = tuple(replace(layer, rope_style="none") for layer in source.config.layers)
    runs, skipped = canary.rounds(replace(source.config, layers=layers, n_kv_heads=1))
    assert [(c.fault, c.outcome, c.why) for c in skipped] == [
        ("rope_pos", "skipped", "canary.no_rope"),
        ("gqa_map", "skipped", "canary.no_kv_heads"),
    ]
    assert [p.fault.fault for run in runs for p, _ in run] == ["w_route", "kv_slot", "gain", "kv_len"]


def test_a_fault_that_the_library_refuses_is_skipped_and_the_others_are_planted(source):
    def attend(inner, layer, phase, batch, q):
        if (batch.kv_len <= batch.slots[-1]).any():
            raise BackendError("GRETA_INVALID_ARGUMENT", "kv_len must hold the new rows")
        return inner.attend(layer, phase, batch, q)

    verdict = judge(source, Wrapped(attend).pair())
    assert verdict.status == "PASS"
    outcomes = {c.fault: (c.outcome, c.why) for c in verdict.evidence.canaries}
    assert outcomes.pop("kv_len") == ("skipped", "GRETA_INVALID_ARGUMENT: kv_len must hold the new rows")
    assert set(outcomes.values()) == {("found", "")}


def test_a_library_that_refuses_every_run_but_the_case_s_own_is_not_believed(source):
    def attend(inner, layer, phase, batch, q):
        if batch.kv_len.max() >= canary.TOKENS - 1:
            raise BackendError("GRETA_INTERNAL", "not today")
        return inner.attend(layer, phase, batch, q)

    verdict = judge(source, Wrapped(attend).pair())
    assert (verdict.status, verdict.reason) == ("INCONCLUSIVE", "canary_missed")
    (breach,) = verdict.evidence.breaches
    assert (breach.values["fault"], breach.values["said"]) == ("w_route", "GRETA_INTERNAL: not today")


def test_a_decode_that_gives_back_what_the_prefill_computed_is_not_believed(source):
    """Right wherever both paths were asked the same, which is what a case asks; by the same GEMV, so that they are, to
    the bit, whatever BLAS a processor has."""
    known = {}

    def attend(inner, layer, phase, batch, q):
        out, lse = inner.attend(layer, phase, batch, q)
        for row, position in enumerate(batch.positions.tolist() if q.any() else ()):
            if phase == "prefill":
                known[layer, position] = out[row].copy(), lse[row].copy()
            else:
                out[row], lse[row] = known[layer, position]
        return out, lse

    assert judge(source, Wrapped(attend).pair(), "off", gemm="rowwise").status == "PASS"
    verdict = judge(source, Wrapped(attend).pair(), gemm="rowwise")
    assert (verdict.status, verdict.reason) == ("INCONCLUSIVE", "canary_missed")


def test_a_sound_case_does_not_lean_on_the_canary_of_a_wrong_one(source):
    """It ignores its lengths, which nobody hears while its lse is wrong anyway."""

    def attend(inner, layer, phase, batch, q):
        ends = batch.slots[batch.cu_q[1:] - 1] + 1
        out, lse = inner.attend(layer, phase, replace(batch, kv_len=ends.astype(np.int32)), q)
        return out, lse + np.float32(broken)

    backend = Wrapped(attend).pair()
    broken = 1.0
    assert judge(source, backend, "auto").status == "KV_MISMATCH"
    broken = 0.0
    assert judge(source, backend, "auto").reason == "canary_missed"


def test_none_applicable_is_said(source, monkeypatch):
    monkeypatch.setattr(canary, "PLANTINGS", canary.PLANTINGS[1:2])
    layers = tuple(replace(layer, rope_style="none") for layer in source.config.layers)
    verdict = judge(replace(source, config=replace(source.config, layers=layers)))
    assert verdict.evidence.canary == "none"
    assert verdict.status == "PASS"


def test_auto_plants_once_for_a_library_dtype_and_model(source):
    backend = Wrapped()

    def opened(setting, **plan) -> int:
        before = backend.opened
        judge(source, backend.pair(), setting, **plan)
        return backend.opened - before

    alone = opened("off")
    assert opened("auto") == 2 * alone
    assert opened("auto") == alone
    assert opened("auto", page_size=16) > alone, "a paged cache has a fault more"
    assert opened("auto", page_size=4) == alone
    assert opened("auto", act_dtype="bf16", kv_dtype="bf16") == 2 * alone
    assert opened("on") == 2 * alone
    assert judge(source, backend.pair(), "auto").evidence.canary == "planted"


def test_never_for_as_designed_nor_beside_a_planted_fault(source):
    from pytest_greta.cases.model import Inject

    assert judge(source, mode="as_designed").evidence.canary == "off"
    verdict = judge(source, inject=Inject("kv_len", layer=2))
    assert (verdict.status, verdict.evidence.canary, verdict.evidence.canaries) == ("KV_MISMATCH", "inject", ())


@pytest.mark.parametrize("page_size", [0, 16])
def test_with_the_case_s_own_settings(source, page_size):
    verdict = judge(source, page_size=page_size, kv_dtype="fp8_e4m3fn", gemm="rowwise")
    assert {c.outcome for c in verdict.evidence.canaries if c.fault != "gain"} == {"found"}
    # a last bit of f32 is no bit of fp8
    assert [c.why for c in verdict.evidence.canaries if c.fault == "gain"] == ["canary.no_same_type"]
