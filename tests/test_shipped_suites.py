"""The shipped cases say what they must: real drift on the real model, equal bytes where nothing may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greta.cases.loader import load_suite
from pytest_greta.cases.model import Probe
from pytest_greta.plan import expand
from pytest_greta.probing import run_probe
from pytest_greta.result import ProbeResult
from pytest_greta.settings import RunSettings

CASES = Path(__file__).parents[1] / "cases"


def probes(file: str, mode: str) -> list[Probe]:
    suite = load_suite(CASES / file)
    return [probe for case in suite.cases for probe in expand(case, {}) if probe.mode == mode]


def scenario(result: ProbeResult) -> str | None:
    assert result.verdict is not None
    return result.verdict.scenario


@pytest.mark.model
def test_smollm2_drifts_and_every_drift_is_rounding():
    """ALIGNED throughout would mean that decode secretly calls prefill."""
    found = [run_probe(probe, RunSettings()) for probe in probes("b3_66.greta.yaml", "kv_aligned")]
    assert len(found) == 5
    assert {scenario(r) for r in found} == {"STRUCTURAL_DRIFT"}
    assert {r.outcome for r in found} == {"passed"}
    for result in found:
        assert result.verdict is not None
        kernels = {(k["phase"], k["kernel"]) for k in result.verdict.evidence.kernels}
        assert len({kernel for _, kernel in kernels}) == 2, kernels
        assert result.verdict.drift is not None
        assert 0 < result.verdict.drift.max_abs < 1e-2


@pytest.mark.parametrize("mode", ["kv_aligned", "as_designed"])
def test_synthetic_has_aligned_with_two_kernels_and_structural_drift(mode):
    found = [
        run_probe(probe, RunSettings())
        for probe in probes("synthetic.greta.yaml", mode)
        if probe.case.id == "aligned_rowwise" or "f32" in probe.id
    ]
    aligned = [r for r in found if scenario(r) == "ALIGNED"]
    assert aligned
    drift = "STRUCTURAL_DRIFT" if mode == "kv_aligned" else "ATTENTION_COMPUTATION_MISMATCH"
    assert drift in {scenario(r) for r in found}
    for result in aligned:
        assert result.verdict is not None
        assert all(b.equal for b in result.bytes)
        assert len({k["kernel"] for k in result.verdict.evidence.kernels}) == 2


def test_every_kind_of_fault_has_a_case_file():
    from pytest_greta.faults.kinds import KINDS

    planted = {c.inject.fault for f in (CASES / "faults").glob("*.greta.yaml") for c in load_suite(f).cases if c.inject}
    assert planted == set(KINDS)
