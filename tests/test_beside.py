"""A result beside an entry: each rule at its edge. What a session does with it is in ``plugin/test_baseline.py``."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from pytest_greta.baseline import file
from pytest_greta.baseline.entry import Entry, entry_of
from pytest_greta.baseline.judging import beside
from pytest_greta.cases.model import Expect
from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.result import ProbeResult
from pytest_greta.verdict import Breach, Evidence
from tests.support.results import result

PASSES = Expect(accept=("PASS",))
SETTINGS = {"seed": 1, "model": "synthetic", "dtype": "f32", "kv_dtype": "f32"}
MACHINE = {"library": "greta-cpu", "library_version": "0.1.0", "device_kind": "cpu", "numpy": "2", "threads": 1}
DIFFERS = ByteCheck(2, "attn_out", "", "full", "decode", "aa", "bb", 1, differs=(16,))


def check(layer: int, stage: str, rho: float, path: str = "decode", part: str = "") -> StageCheck:
    return StageCheck(path, layer, stage, rho, rho, 1, 1, part=part)


def one(*stages: StageCheck, **changes: Any) -> ProbeResult:
    return result(**{"stages": stages, "settings": SETTINGS, "environment": MACHINE, "bytes": (DIFFERS,), **changes})


def at(seed: int, *stages: StageCheck) -> ProbeResult:
    return one(*stages, settings={**SETTINGS, "seed": seed})


def place(found: ProbeResult) -> tuple[int, str, str] | None:
    failure = found.verdict.first_failure if found.verdict else None
    return (failure.layer, failure.stage, failure.phase) if failure else None


BEST_FIRST = [
    {"scenario": "ALIGNED"},
    {},
    {"finding": "SCHEDULE"},
    {"finding": "SUSPECT"},
    {"finding": "NONDETERMINISTIC"},
    {"status": "KV_MISMATCH", "scenario": "ATTENTION_COMPUTATION_MISMATCH"},
    {"status": "INCONCLUSIVE", "scenario": None, "evidence": Evidence(breaches=(Breach("harness"),))},
    {"status": "KV_MISMATCH", "scenario": "KV_MISALIGNMENT"},
]


@pytest.mark.parametrize(("better", "worse"), list(pairwise(BEST_FIRST)))
def test_each_verdict_beside_the_next(better: dict[str, Any], worse: dict[str, Any]) -> None:
    good, bad = one(**better), one(**worse)
    states = [
        beside(now, entry_of([then]), "b", PASSES).baseline.state  # type: ignore[union-attr]
        for then, now in ((good, good), (good, bad), (bad, good), (bad, bad))
    ]
    assert states == ["same", "worse", "better", "same"]


def test_the_largest_of_all_seeds_layers_and_paths_counts() -> None:
    entry = entry_of([at(1, check(0, "lse", 0.1)), at(2, check(0, "lse", 0.2, "full"), check(4, "lse", 0.15))])
    assert entry.rho == {"lse": 0.2}
    assert entry.seeds == (1, 2)


def test_the_first_layer_and_stage_above_the_limit_is_named() -> None:
    entry = entry_of([one(check(0, "lse", 0.2), check(0, "attn_out", 0.3))])
    found = beside(one(check(5, "lse", 0.41), check(3, "attn_out", 0.61), check(2, "lse", 0.4)), entry, "b", PASSES)
    assert place(found) == (3, "attn_out", "decode")
    assert found.baseline is not None
    assert [said.en.split(",")[0] for said in found.baseline.worse] == ["rho of attn_out is 0.61", "rho of lse is 0.41"]


def test_a_call_with_q_0_is_a_stage_of_its_own_and_the_harness_own_call_is_none() -> None:
    entry = entry_of([one(check(0, "attn_out", 0.9), check(0, "attn_out", 0.1, part="q0"))])
    assert entry.rho == {"attn_out": 0.9, "attn_out.q0": 0.1}
    assert place(beside(one(check(1, "attn_out", 0.3, part="q0")), entry, "b", PASSES)) == (1, "attn_out", "decode")
    aside = (check(1, "attn_out", 5.0, "aligned"), check(1, "attn_out", 5.0, part="tile"))
    assert beside(one(*aside), entry, "b", PASSES).outcome == "passed"


def test_another_seed_may_be_another_pass() -> None:
    entry = entry_of([one(scenario="ALIGNED")])
    assert beside(at(7), entry, "b", PASSES).outcome == "passed"
    assert beside(at(7, check(0, "lse", 0.3)), entry, "b", PASSES).outcome == "failed", "but rho is compared"


def test_a_worse_verdict_is_placed_where_bytes_first_differ() -> None:
    found = beside(one(), entry_of([one(scenario="ALIGNED")]), "b", PASSES)
    assert place(found) == (2, "attn_out", "decode")
    assert found.verdict is not None
    assert (found.outcome, found.verdict.status, found.verdict.finding) == ("failed", "PASS", "DRIFT_REGRESSION")


@pytest.mark.parametrize("name", ["device_kind", "library"])
def test_another_setup_forgives_rho(name: str) -> None:
    entry = replace(entry_of([one(check(0, "lse", 0.1))]), **{name: "other"})
    found = beside(one(check(0, "lse", 0.9)), entry, "b", PASSES)
    assert found.outcome == "passed"
    assert found.baseline is not None
    assert found.baseline.alien
    assert found.baseline.differs == (f"{name}: other -> {MACHINE[name]}",)


ODD = ("a b", "x: y", "# no", "1e3", "null", "ñ€😀", 'q"uo\\te', "tab\there", "\x7f", "\u2028", "'", "-", "é" * 2000)


@pytest.mark.parametrize("text", ODD)
def test_whatever_an_id_or_a_name_holds_is_read_back(text: str, tmp_path: Any) -> None:
    entry = Entry(f"a.yaml::{text}::m", "PASS", "ALIGNED", library=text, schedule={"prefill": text}, rho={"lse": 1e-9})
    other = Entry("b", "INCONCLUSIVE", finding="OVERFLOW", seeds=(0, 2**63), hashes={"lse": ("12345678", "1e234567")})
    path = tmp_path / "b.yaml"
    file.write(path, text, [entry, other])
    assert file.read(path) == (text, {entry.probe: entry, "b": other})


def test_an_empty_baseline_is_one(tmp_path: Any) -> None:
    file.write(tmp_path / "b.yaml", "s", [])
    assert file.read(tmp_path / "b.yaml") == ("s", {})
