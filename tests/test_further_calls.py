"""The attention calls beside each path's own, from a library to the verdict: repeats, q = 0, without the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_greta as greta
from pytest_greta.backends.base import Numerics
from pytest_greta.backends.registry import open_backends
from pytest_greta.cases.model import CaseError
from pytest_greta.checks.run import check_trace
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import Library, RunPlan, trace_probe
from pytest_greta.engine.spec import decoder_stages
from pytest_greta.engine.ways import Ways
from pytest_greta.probing import default_contract, judge, judge_trace
from pytest_greta.settings import RunSettings
from pytest_greta.trace.records import Key
from pytest_greta.trace.sidecar import load_sidecar, save_sidecar
from tests.support.plain import PlainBackend

PLAN = RunPlan(tuple(range(1, 14)), layers=(0, 2))


def judged(backend: Any, plan: RunPlan = PLAN):
    return judge(load_source("synthetic"), plan, {"prefill": backend, "decode": backend}, "kv_aligned")


class Racing:
    """The second call of a phase in layer 2, which is the repeat of the first, gives one row otherwise."""

    def __init__(self, phase: str, row: int = 0, size: float = 2.0**-22) -> None:
        self.phase, self.row, self.size, self.calls = phase, row, size, 0

    def __call__(self, layer: int, phase: str, out: np.ndarray, lse: np.ndarray) -> None:
        if phase == self.phase and layer == 2:
            self.calls += 1
            if self.calls == 2:
                out[self.row] *= np.float32(1 + self.size)


def test_a_race_is_found_at_its_row_though_that_row_is_not_looked_at_otherwise():
    plan = replace(PLAN, tokens=tuple(range(1, 60)))
    clean = judged(PlainBackend(), plan)
    row = min(set(range(59)) - {int(p) for p in clean.trace.tap("full", 2, "attn_out").positions})
    run = judged(PlainBackend(Racing("prefill", row=row)), plan)
    verdict = run.verdict
    assert (verdict.status, verdict.finding) == ("PASS", "NONDETERMINISTIC")
    assert verdict.first_failure is not None
    assert (verdict.first_failure.layer, verdict.first_failure.stage) == (2, "attn_out")
    assert verdict.first_failure.phase == "prefill"
    assert verdict.first_failure.positions == (row,)
    assert clean.verdict.finding == "NONE"


def test_a_race_beyond_the_bounds_is_a_mismatch():
    verdict = judged(PlainBackend(Racing("prefill", size=0.1))).verdict
    assert (verdict.status, verdict.finding) == ("KV_MISMATCH", "NONDETERMINISTIC")


def test_calls_beside_the_paths_own_are_not_counted_as_its_own():
    run = judged(PlainBackend())
    assert {k["path"]: k["calls"] for k in run.verdict.evidence.kernels} == {
        "full": 6, "prefix": 6, "decode": 6, "aligned": 2,
    }  # fmt: skip
    # two layers on three paths; the library says nothing of its schedule, so that q = 0 is asked of it
    assert (run.verdict.evidence.repeats, run.verdict.evidence.zeros) == (6, 6)
    told = {p: Numerics(tile=10_000, splits=1) for p in ("prefill", "decode")}
    assert judged(PlainBackend(numerics=told)).verdict.evidence.zeros == 0
    without = judged(PlainBackend(), replace(PLAN, further=()))
    assert (without.verdict.evidence.repeats, without.verdict.evidence.zeros) == (0, 0)
    assert without.verdict.finding == "NONE"


def coarse(layer: int, phase: str, out: np.ndarray, lse: np.ndarray) -> None:
    """A gain of 2^-7 in decode: within what bf16 P excuses, and beyond what q = 0 does."""
    if phase == "decode" and layer == 2:
        out *= np.float32(1 + 2.0**-12)


def test_a_small_gain_that_a_low_precision_p_excuses_shows_with_q_0():
    declared = dict.fromkeys(("prefill", "decode"), Numerics(p_dtype="bf16", tile=10_000, splits=1))
    backend = PlainBackend(coarse, numerics=declared, p_dtypes=("bf16", "f32"))
    run = judged(backend)
    own = [c for c in run.checks if c.stage == "attn_out" and not c.part]
    assert max(c.rho for c in own) <= 1.0
    assert (run.verdict.status, run.verdict.scenario) == ("KV_MISMATCH", "KV_MISALIGNMENT")
    assert run.verdict.finding == "PRECISION"
    assert run.verdict.first_failure is not None
    assert (run.verdict.first_failure.layer, run.verdict.first_failure.phase) == (2, "decode")


def native() -> Any:
    return open_backends("cpu", extra={}, base=Path())["prefill"]


@pytest.mark.parametrize("page_size", [0, 8])
@pytest.mark.parametrize("pad", [0, 3])
def test_the_probed_sequence_alone_gives_the_same_bytes(page_size: int, pad: int):
    plan = replace(
        PLAN, further=("repeat", "alone"), ways=Ways(companions=(5, 30), left_pad=pad, chunk=6), page_size=page_size
    )
    run = judged(native(), plan)
    taps = [tap for path in run.trace.paths.values() for key, tap in path.taps.items() if key.part == "alone"]
    assert len(taps) == 2 * 2 * 3  # lse and attn_out, two layers, three paths
    assert not [c for c in run.checks if c.part == "alone"]
    assert run.verdict.status == "PASS"


def test_a_library_that_looks_at_the_batch_breaks_the_contract():
    def spoil(layer: int, phase: str, out: np.ndarray, lse: np.ndarray) -> None:
        if phase == "decode" and len(out) > 1:
            out *= np.float32(1 + 2.0**-23)

    plan = replace(PLAN, further=("repeat", "alone"), ways=Ways(companions=(5,)))
    run = judged(PlainBackend(spoil), plan)
    assert run.verdict.status == "PASS"
    found = [c for c in run.checks if c.part == "alone"]
    assert {(c.path, c.layer, c.differs) for c in found} == {("decode", 0, (12,)), ("decode", 2, (12,))}


def test_a_stored_trace_is_judged_anew_with_its_further_calls_and_an_old_one_without(tmp_path):
    source, backend = load_source("synthetic"), PlainBackend(Racing("prefill", row=4))
    run = judged(backend)
    save_sidecar(tmp_path / "t.safetensors", run.trace)
    again = load_sidecar(tmp_path / "t.safetensors")
    descriptions = dict.fromkeys(("prefill", "decode"), backend.describe())
    verdict = judge_trace(again, source, descriptions, {}, "kv_aligned").verdict
    assert (verdict.finding, verdict.evidence.repeats) == ("NONDETERMINISTIC", 6)
    paths = {
        name: replace(p, taps={k: t for k, t in p.taps.items() if k.part not in ("repeat", "q0")})
        for name, p in again.paths.items()
    }
    old = replace(again, paths=paths, facts={k: v for k, v in again.facts.items() if k != "way"})
    verdict = judge_trace(old, source, descriptions, {}, "kv_aligned").verdict
    assert (verdict.status, verdict.finding, verdict.evidence.repeats) == ("PASS", "NONE", 0)


def test_a_schedule_other_than_the_declared_one_is_named():
    """The trace says nothing of tiles; a library that rounds by 48 keys and declares 16 is found out."""
    source, library = load_source("synthetic"), Library(native())
    tokens = tuple(int(t) for t in np.random.default_rng(0).integers(1, 200, size=120))
    from pytest_greta.backends.base import Schedule

    real = dict.fromkeys(("prefill", "decode"), Schedule(tile=48, splits=1, p_dtype="bf16"))
    trace = trace_probe(source, RunPlan(tokens, schedule=real), {"prefill": library, "decode": library})
    said = dict.fromkeys(("prefill", "decode"), Numerics(tile=16, splits=1, p_dtype="bf16"))
    descriptions = dict.fromkeys(("prefill", "decode"), library.description)
    verdict = judge_trace(trace, source, descriptions, said, "kv_aligned").verdict
    assert (verdict.status, verdict.finding) == ("PASS", "SCHEDULE")
    assert verdict.first_failure is not None
    assert "decode: declared schedule 16, found 48" in verdict.first_failure.detail
    assert "differ" not in verdict.first_failure.detail  # both phases round by 48
    unsaid = dict.fromkeys(("prefill", "decode"), Numerics(p_dtype="bf16"))
    found = judge_trace(trace, source, descriptions, unsaid, "kv_aligned").verdict
    assert (found.status, found.finding) == ("PASS", "SCHEDULE")
    checks = check_trace(trace, source, decoder_stages(source.config), unsaid)
    assert {c.rounding.found for c in checks if c.part == "tile" and c.grade == "definite"} == {"48"}


def test_key_of_a_further_call():
    run = judged(PlainBackend())
    assert Key(0, "lse", "q0") in run.trace.paths["decode"].taps


FP8_TILES = """\
suite: tiles
cases:
  - id: red
    random_tokens: 130
    dtype: bf16
    layers: [0]
    schedule: {prefill: {tile: 160, splits: 1, p_dtype: fp8_e4m3}, decode: {tile: 96, splits: 1, p_dtype: fp8_e4m3}}
"""


def test_the_fp8_tiles_are_red_under_the_contract_of_equal_schedules(pytester: pytest.Pytester):
    path = pytester.path / "tiles.greta.yaml"
    path.write_text(FP8_TILES)
    green = pytester.runpytest_subprocess(path, "--greta-lang", "en", "--greta-canary", "off")
    green.assert_outcomes(passed=1)
    path.write_text(FP8_TILES + "    contract: {schedule: equal}\n")
    red = pytester.runpytest_subprocess(path, "--greta-lang", "en", "--greta-canary", "off")
    red.assert_outcomes(failed=1)
    red.stdout.fnmatch_lines_random([
        "contract schedule broken (PASS STRUCTURAL_DRIFT) *tiles.greta.yaml:3 red*",
        "*contract schedule broken: the phases round P by different schedules",
        "*P rounding schedules differ (decode 96, prefill 160), not*",
    ])  # fmt: skip


def test_a_race_fails_with_a_built_in_backend_and_where_the_case_asks_for_it():
    ids = list(range(1, 14))
    for spoil, contract, outcome in (
        (Racing("prefill"), None, "passed"),
        (Racing("prefill"), {"repeatable": True}, "failed"),
        (None, {"repeatable": True}, "passed"),
    ):
        run = greta.probe("synthetic", ids, backend=PlainBackend(spoil), layers=[2], contract=contract, expect="PASS")
        assert run.result.outcome == outcome
        assert ("contract repeatable" in run.result.expected) == (outcome == "failed")
        assert run.verdict.status == "PASS"
    assert default_contract({"contract": {}}, "cpu", RunSettings()) == {"repeatable": True}
    assert default_contract({"contract": {"repeatable": False}}, "cpu", RunSettings()) == {"repeatable": False}
    assert default_contract({}, {"library": "a.so"}, RunSettings()) == {"repeatable": False}
    assert default_contract({}, {"prefill": "cpu", "decode": {"library": "a.so"}}, RunSettings()) == {
        "repeatable": False
    }


def test_batch_invariance_without_a_batch_is_said():
    with pytest.raises(CaseError, match="there is no batch to compare with; add batch"):
        greta.probe("synthetic", [1, 2, 3], contract={"batch_invariant": True})
