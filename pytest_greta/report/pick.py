"""What several reports ask of the results: how bad, expected or not, which check is the guilty one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.report.text import clean, number
from pytest_greta.result import ProbeResult
from pytest_greta.trace.paths import phase_of
from pytest_greta.trace.stages import MODEL, order
from pytest_greta.verdict import (
    ATTENTION_COMPUTATION_MISMATCH,
    DRIFT_REGRESSION,
    INCONCLUSIVE,
    KV_MISALIGNMENT,
    PASS,
    REAL_MISMATCH,
    FirstFailure,
    Verdict,
)


def severity(result: ProbeResult) -> tuple[int, float, str, str]:
    """A sort key, worst first."""
    verdict = result.verdict
    rho = verdict.rho if verdict is not None else 0.0
    return (_rank(result), -_or_inf(rho), result.case, result.probe)


def _or_inf(rho: float) -> float:
    return math.inf if math.isnan(rho) else rho


def _rank(result: ProbeResult) -> int:
    verdict = result.verdict
    if result.outcome == "failed":
        if verdict is None or verdict.status == INCONCLUSIVE:
            return 1
        return 2 if verdict.finding == "SUSPECT" else 0
    if result.outcome == "not_run" or verdict is None:
        return 7
    if verdict.status != PASS:
        return 5 if result.fault else 4
    return 3 if verdict.finding == "SUSPECT" else 6


def worst_first(results: Iterable[ProbeResult]) -> list[ProbeResult]:
    return sorted(results, key=severity)


def is_expected(result: ProbeResult) -> bool:
    """Not a PASS, and just what the case expects: shown as "expected / esperado"."""
    return bool(result.expected) and _passed_without_pass(result)


def is_unasserted(result: ProbeResult) -> bool:
    """Not a PASS, of a probe that expects nothing (the API's): its test went on without ``assert_aligned``."""
    return not result.expected and _passed_without_pass(result)


def _passed_without_pass(result: ProbeResult) -> bool:
    return result.outcome == "passed" and result.verdict is not None and result.verdict.status != PASS


def marks(result: ProbeResult) -> list[str]:
    """The key of the word that stands beside the verdict, if any."""
    kinds = (("expected", is_expected), ("unasserted", is_unasserted), ("unexpected", is_unexpected))
    found = [f"word.{name}" for name, holds in kinds if holds(result)]
    return [*found, "word.xfailed"] if result.outcome == "xfailed" else found


def counts(results: Sequence[ProbeResult]) -> tuple[str, dict[str, int]]:
    """The sentence that counts results by outcome: its key and values. xfail is spoken of only where there is one."""
    found = Counter(result.outcome for result in results)
    values = {name: found[name] for name in ("passed", "failed", "not_run", "xfailed")}
    return "summary.counts_xfailed" if found["xfailed"] else "summary.counts", {"total": len(results), **values}


def is_unexpected(result: ProbeResult) -> bool:
    """A PASS where the case expects something else: a fault that was missed, a breach of contract."""
    failed = result.outcome == "failed" and not is_regression(result)
    return failed and result.verdict is not None and result.verdict.status == PASS


def is_regression(result: ProbeResult) -> bool:
    """Worse than the baseline, and no mismatch by itself."""
    verdict = result.verdict
    mismatch = verdict is None or verdict.scenario in (REAL_MISMATCH, KV_MISALIGNMENT)
    return not mismatch and verdict is not None and verdict.finding == DRIFT_REGRESSION


def expected_mismatches(results: Iterable[ProbeResult]) -> list[ProbeResult]:
    """as_designed mismatches that are the documented behaviour."""
    return [r for r in results if is_expected(r) and r.verdict and r.verdict.scenario == ATTENTION_COMPUTATION_MISMATCH]


def differing(checks: Iterable[ByteCheck], layer: int, stage: str, phase: str) -> ByteCheck | None:
    """The byte comparison of a stage that shows what differs: that of the failing phase before that of another."""
    sides = {"prefill": ("prefix",), "decode": ("decode",)}.get(phase, ("prefix", "decode"))
    found = [check for check in checks if (check.layer, check.stage) == (layer, stage)]
    return min(found, key=lambda check: (check.right not in sides, check.equal), default=None)


def in_order(check: ByteCheck) -> tuple[tuple[int, int], bool]:
    return order(check.layer, check.stage), check.right == "decode"


def guilty_check(result: ProbeResult) -> StageCheck | None:
    """The check of the first failure's layer and stage: in its phase where there is one, else the worst of any."""
    failure = result.verdict.first_failure if result.verdict else None
    if failure is None:
        return None
    found = [c for c in result.stages if (c.layer, c.stage) == (failure.layer, failure.stage)]
    in_phase = [c for c in found if failure.phase in ("both", phase_of(c.path))]
    return max(in_phase or found, key=lambda c: _or_inf(c.rho), default=None)


def place(failure: FirstFailure) -> str:
    """``L3 q_rope``; a stage outside the layers has no number."""
    stage = clean(failure.stage)
    return stage if failure.layer == MODEL else f"L{failure.layer} {stage}"


def layer_text(layer: int) -> str:
    return "-" if layer == MODEL else str(layer)


def rho_text(verdict: Verdict) -> str:
    """The largest rho; "-" where nothing was judged by bounds."""
    return number(verdict.rho) if verdict.rho or (verdict.status == PASS and verdict.mode == "kv_aligned") else "-"


def title(result: ProbeResult) -> str:
    """``PASS ALIGNED``, ``INCONCLUSIVE``, ``NOT_RUN``, ``DRIFT_REGRESSION (PASS ALIGNED)``."""
    verdict = result.verdict
    if verdict is None:
        return "NOT_RUN"
    found = f"{verdict.status} {verdict.scenario}" if verdict.scenario else verdict.status
    return f"{DRIFT_REGRESSION} ({found})" if is_regression(result) else found


def mode_text(result: ProbeResult) -> str:
    return f"{result.mode}-{result.variant}" if result.variant else result.mode
