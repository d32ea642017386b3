"""H0 / H1: what rejects, what is only shown, and the figures against their definitions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest

from pytest_greta.backends.base import Numerics
from pytest_greta.checks import reference as ref
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.judge import Group, Place, judge
from pytest_greta.checks.result import StageCheck
from pytest_greta.decide import decide_kv_aligned
from pytest_greta.digest import gains as gains_of
from pytest_greta.hypotheses import over_run, p_of, two_sided
from pytest_greta.report.failure import failure_text
from pytest_greta.report.markdown import final_report
from pytest_greta.report.terminal import summary
from pytest_greta.result import ProbeResult
from pytest_greta.verdict import Evidence
from tests.support import results as samples

f32 = np.float32
ROWS = [Group("full", np.arange(6))]


def check(p: float | None, elements: int = 100, stage: str = "q_proj", path: str = "full", **more: Any) -> StageCheck:
    return StageCheck(path, 0, stage, 0.5, 0.2, 1, elements, p_value=p, **more)


def of(case: str, *checks: StageCheck) -> ProbeResult:
    verdict = decide_kv_aligned(checks, [], Evidence(stages=1))
    return replace(samples.result(case), stages=checks, verdict=verdict, prompt=case)


def summed(x: np.ndarray, w: np.ndarray, truncate: bool) -> np.ndarray:
    """x w.T as a serial float32 sum of exact products, each step rounded to nearest or toward zero."""
    total = np.zeros((len(x), len(w)))
    for i in range(x.shape[1]):
        total = total + x[:, i : i + 1].astype(float) * w[:, i].astype(float)
        nearest = total.astype(f32)
        beyond = truncate & (np.abs(nearest.astype(float)) > np.abs(total))
        total = np.where(beyond, np.nextafter(nearest, f32(0)), nearest).astype(float)
    return total.astype(f32)


def linear(seed: int, truncate: bool = False, gain: float = 0.0, acc_round: str = "rne") -> ProbeResult:
    """A case of one projection of width 256."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((6, 256)).astype(f32), rng.standard_normal((96, 256)).astype(f32)
    stored = (summed(x, w, truncate) * f32(1 + gain)).astype(f32)
    numerics = Numerics(acc_round=acc_round)
    reference = ref.linear(x, w, None, numerics)
    checks = judge(reference, stored, ROWS, Place(0, "o_proj"), statistical=acc_round == "rne")
    return of(f"case{seed}", *checks)


# -- p -----------------------------------------------------------------------------------------------------------------


def test_p_of_several_checks_is_the_formula_over_all_their_elements():
    """As if the elements had been judged at once: expected values by mpmath."""
    rng = np.random.default_rng(0)
    checks, rhos, total = [], [], 0
    for count, size in ((50, 1.4), (3000, 1.1), (700, 0.9)):
        y, root = np.ones((1, count)), np.full((1, count), 1e-4)
        det = np.full((1, count), 2e-5)
        stored = (1.0 + rng.uniform(-1, 1, (1, count)) * size * 1e-4).astype(f32)
        checks += judge(
            Reference(y, det, root, root), stored, [Group("full", np.arange(1))], Place(0, "lse"), statistical=True
        )
        lo, hi = (stored.astype(float) + sign * np.spacing(stored).astype(float) / 2 for sign in (-1, 1))
        rhos.append(np.max(np.maximum(0, np.maximum(0, np.maximum(lo - 1.0, 1.0 - hi)) - 2e-5) / 1e-4))
        total += count
    p, elements = p_of(checks)
    expected = min(1, 2 * total * mpmath.exp(mpmath.mpf("-1.5") * (5 * mpmath.mpf(max(rhos))) ** 2))
    assert elements == total
    assert p == pytest.approx(float(expected), rel=1e-3)


def test_the_harness_s_own_call_and_worst_case_bounds_have_no_say():
    assert p_of([check(None), check(1e-9, path="aligned")]) == (None, 0)
    assert p_of([check(0.5), check(1e-9, path="aligned")]) == (0.5, 100)
    assert p_of([check(0.0), check(1.0)]) == (0.0, 200)


def test_healthy_sums_have_no_small_p():
    results = [linear(seed) for seed in range(20)]
    test = over_run(results)
    assert test.state == "H0"
    assert test.p is not None
    assert test.p > 1e-3
    assert test.elements == 20 * 6 * 96


def test_p_alone_rejects_and_changes_no_status():
    result = of("close", check(1e-7))
    assert result.verdict is not None
    assert (result.verdict.status, result.verdict.hypothesis) == ("PASS", "H1")
    assert result.verdict.p_value == pytest.approx(1e-7)
    test = over_run([result, of("other", check(1.0, elements=50))])
    assert (test.state, test.rejecting) == ("p", ())
    assert test.p == pytest.approx(1.5e-7)
    assert "H0 rejected by p alone" in " ".join(summary([result], lang="en").split())
    assert "solo por p" in " ".join(summary([result], lang="es").split())
    assert over_run([of("kept", check(2e-6))]).state == "H0"


def test_a_run_of_many_cases_asks_for_a_smaller_p():
    """One case of 1e-7 among a hundred such: the run's M is a hundred times as large."""
    results = [of("close", check(1e-7)), *(of(f"far{i}", check(1.0)) for i in range(99))]
    assert over_run(results).p == pytest.approx(1e-5)
    assert over_run(results).state == "H0"


# -- what rejects ------------------------------------------------------------------------------------------------------


def test_a_real_mismatch_rejects():
    """A gain of 1e-3 in a weight: beyond both tiers."""
    results = [linear(seed) for seed in range(3)]
    wrong = linear(9, gain=1e-3)
    assert wrong.verdict is not None
    assert (wrong.verdict.status, wrong.verdict.hypothesis) == ("KV_MISMATCH", "H1")
    assert wrong.verdict.p_value is not None
    assert wrong.verdict.p_value < 1e-6
    test = over_run([*results, wrong])
    assert (test.state, [r.case for r in test.rejecting]) == ("H1", ["case9"])
    assert over_run([*results, samples.as_designed()]).state == "H0", "an expected mismatch does not reject"
    assert over_run([*results, replace(wrong, fault="gain")]).state == "H0", "nor does a planted fault"


def test_bytes_that_differ_are_no_evidence_for_h0():
    """as_designed expects a mismatch, of drift or of a library that is wrong: it says nothing of either."""
    bytes_alone = over_run([samples.as_designed()])
    assert (bytes_alone.state, bytes_alone.judged) == ("bytes", 0)
    assert over_run([samples.as_designed(), linear(1)]).judged == 1


# -- the gain sign test ------------------------------------------------------------------------------------------------


def test_a_kernel_that_truncates_leans_and_is_not_rejected():
    """Declared or not, within its bound: every case smaller than its reference, and H0 stays."""
    for declared in ("rz", "rne"):
        results = [linear(seed, truncate=True, acc_round=declared) for seed in range(14)]
        assert {r.verdict.status for r in results if r.verdict} == {"PASS"}
        test = over_run(results)
        assert test.state == "H0"
        (gain,) = test.gains
        assert (gain.stage, gain.positive, gain.negative) == ("o_proj", 0, 14)
        assert gain.median < -8 * 2.0**-24
        assert gain.leans
        assert gain.p == pytest.approx(2 * 0.5**14)
        text = " ".join(summary(results, lang="en").split())
        assert "o_proj leans, 0 cases larger and 14 smaller" in text
        assert "H0 kept" in text
        assert (test.p is None) == (declared == "rz"), "a truncating accumulator's bound is no statistical one"


def test_rounding_to_nearest_does_not_lean():
    test = over_run([linear(seed) for seed in range(14)])
    assert not any(gain.leans for gain in test.gains)
    assert "no stage leans" in summary([linear(seed) for seed in range(3)], lang="en")


def test_the_gain_is_that_of_all_layers_and_paths_of_a_case():
    layers = [check(None, gain=(2.0, 100.0)), check(None, gain=(-1.0, 100.0), path="decode")]
    left_out = [
        check(None, gain=(50.0, 1.0), path="aligned"),
        check(None, gain=(50.0, 1.0), stage="kv_write"),
        check(None, stage="x_in"),
    ]
    assert gains_of([*layers, *left_out]) == {"q_proj": 0.005}


@pytest.mark.parametrize(("stage", "zero"), [("q_proj", 8), ("lse", 16), ("attn_out", 16)])
def test_small_gains_count_as_none(stage, zero):
    u = 2.0**-24
    results = [
        of(f"c{i}", check(None, stage=stage, gain=(g * u, 1.0)))
        for i, g in enumerate((zero * 0.99, -zero * 0.99, zero * 1.01, -zero * 1.01, zero * 2))
    ]
    (gain,) = over_run(results).gains
    assert (gain.zero, gain.positive, gain.negative) == (2, 2, 1)


def test_cases_of_one_model_dtype_and_prompt_count_once():
    same = [replace(of(f"c{i}", check(None, gain=(1.0 + i, 100.0))), prompt="one") for i in range(20)]
    (gain,) = over_run(same).gains
    assert (gain.positive, gain.p) == (1, 1.0)
    assert gain.median == pytest.approx(0.105)
    others = [replace(result, settings={"dtype": f"t{i}"}) for i, result in enumerate(same)]
    assert over_run(others).gains[0].positive == 20


def test_further_calls_count_for_nothing():
    extra = check(1e-9, gain=(50.0, 1.0), part="q0")
    assert p_of([check(0.5), extra]) == (0.5, 100)
    assert gains_of([extra]) == {}


@pytest.mark.parametrize(("positive", "negative"), [(0, 0), (1, 0), (3, 3), (9, 1), (0, 14), (40, 60)])
def test_the_sign_test_is_the_binomial_tail(positive, negative):
    n, most = positive + negative, max(positive, negative)
    expected = min(1.0, 2 * sum(math.comb(n, k) * 0.5**n for k in range(most, n + 1)))
    assert two_sided(positive, negative) == pytest.approx(expected)


def test_holm_over_the_stages():
    def case(i: int) -> ProbeResult:
        leans = check(None, stage="o_proj", gain=(1e-3 + i * 1e-6, 1.0))
        slightly = check(None, stage="lse", gain=((1e-3 + i * 1e-6) * (1 if i else -1), 1.0))
        evenly = check(None, stage="logits", gain=((1e-3 + i * 1e-6) * (-1) ** i, 1.0))
        return of(f"c{i}", leans, slightly, evenly)

    gains = {g.stage: g for g in over_run([case(i) for i in range(12)]).gains}
    assert list(gains) == ["lse", "o_proj", "logits"]
    p = {stage: g.p for stage, g in gains.items()}
    assert gains["o_proj"].holm == pytest.approx(3 * p["o_proj"])
    assert gains["lse"].holm == pytest.approx(2 * p["lse"])
    assert gains["logits"].holm == 1.0
    assert [stage for stage, g in gains.items() if g.leans] == ["o_proj"]


# -- shown -------------------------------------------------------------------------------------------------------------


def test_the_failure_text_gives_the_case_s_p():
    assert "hypothesis           H1 (p 1.0e-09)" in failure_text(samples.mismatch(p_value=1e-9), "en")
    assert "hypothesis           H1 (p < 1e-300)" in failure_text(samples.mismatch(p_value=0.0), "en")


def test_the_report_fills_the_tables_of_the_seed():
    results = [*samples.every_kind(), *(linear(seed, truncate=True) for seed in range(14))]
    for lang in ("en", "es", "both"):
        report = final_report(results, suite="s", date="2026-01-01", lang=lang)  # type: ignore[arg-type]
        section = report.split("\n## 9.")[1].split("\n## 10.")[0]
        assert "| o\\_proj |" in section or "| o_proj | 0 | 14 | 0 |" in section
        assert "| STRUCTURAL_DRIFT |" in section.replace("\\", "")
    report = final_report(results, suite="s", date="2026-01-01", lang="en")
    section = report.split("\n## 9.")[1].split("\n## 10.")[0]
    assert "| K-V aligned | true | false where the cache or its addressing is wrong | true: " in section
    assert "Q, K and V hashes by layer: 0 of 1 comparisons equal, over 1 layers" in section
    assert "scores -4 to 9, largest probability 0.9" in section
    assert "K-V alignment across prompts: true in" in section
