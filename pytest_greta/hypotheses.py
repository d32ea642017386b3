"""H0, "all drift is structural", against H1: over one case and over a run. Pure.

H0 falls where a case is KV_MISMATCH. Beside that stand two figures that change no exit status:

- p = min(1, 2 M exp(-1.5 (c rho')^2)), M the elements compared and rho' the largest max(0, e - b_det) / b_sqrt among
  them: the tail of ``constants.C_EXPONENT``, times M for the choice of the worst. Only stages whose bound is
  statistical have one: norms, projections, logits, lse, and attn_out where P is f32. Worst-case bounds are reached by
  healthy runs.
- the gain sign test: does a stage err to one side, larger or smaller, in more cases than a coin would? It rejects
  nothing, because hardware that truncates has a true common gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from pytest_greta.checks.constants import GAIN_LEANS, GAIN_ZERO, P_REJECTS, U
from pytest_greta.checks.result import StageCheck
from pytest_greta.digest import Odds, odds
from pytest_greta.report import pick
from pytest_greta.result import ProbeResult
from pytest_greta.trace.stages import ATTENTION_STAGES, ORDER
from pytest_greta.verdict import ATTENTION_COMPUTATION_MISMATCH, INCONCLUSIVE, KV_MISMATCH


@dataclass(frozen=True)
class StageGain:
    """The sign test of one stage. ``positive`` and ``negative`` count cases, ``zero`` those whose gain is below
    ``GAIN_ZERO``; cases that share model, dtype and prompt round alike, and count once, by their median gain. ``p`` is
    binomial and two-sided; ``holm`` the same after Holm over the stages."""

    stage: str
    positive: int
    negative: int
    zero: int
    median: float
    p: float
    holm: float = 1.0

    @property
    def leans(self) -> bool:
        return self.holm < GAIN_LEANS


@dataclass(frozen=True)
class RunTest:
    """H0 / H1 over a whole run; probes with an injected fault and expected as_designed mismatches do not count."""

    state: Literal["H0", "H1", "p", "none", "bytes", "open"]
    """``p``: no case is a mismatch, and p alone rejects. ``none``: probes were judged, and all have a fault. ``bytes``:
    bytes differ, in as_designed alone, which cannot tell why."""
    judged: int
    rejecting: tuple[ProbeResult, ...]
    faults: int
    p: float | None
    """None where no bound was statistical."""
    elements: int
    """M of p."""
    gains: tuple[StageGain, ...]


def over_run(results: Sequence[ProbeResult]) -> RunTest:
    concluding = [r for r in results if r.verdict is not None and not r.fault and r.verdict.status != INCONCLUSIVE]
    judged = [r for r in concluding if not _bytes_differ(r)]
    rejecting = tuple(r for r in pick.worst_first(judged) if r.verdict and r.verdict.status == KV_MISMATCH)
    probes = [r for r in results if r.verdict is not None]
    planted = [r for r in probes if r.fault]
    concluded = any(r.verdict.status != INCONCLUSIVE for r in planted if r.verdict)
    only_faults = concluded and len(planted) == len(probes)
    p, elements = _joined(r.digest.odds for r in judged)
    state: Literal["H0", "H1", "p", "none", "bytes", "open"]
    state = "bytes" if concluding else "none" if only_faults else "open"
    if judged:
        state = "H1" if rejecting else "p" if p is not None and p < P_REJECTS else "H0"
    return RunTest(state, len(judged), rejecting, len(planted), p, elements, gains(judged))


def _bytes_differ(result: ProbeResult) -> bool:
    """An expected mismatch of as_designed: drift travels there, and so does a bug's, so that it says nothing of H0."""
    scenario = result.verdict.scenario if result.verdict else None
    return result.mode == "as_designed" and scenario == ATTENTION_COMPUTATION_MISMATCH


def p_of(checks: Iterable[StageCheck]) -> tuple[float | None, int]:
    """(p, M) over all of ``checks`` that have one; (None, 0) where none has. The harness's own calls do not count."""
    return _joined([odds(tuple(checks))])


def _joined(found: Iterable[Odds | None]) -> tuple[float | None, int]:
    """A check's own p is 2 M_i exp(..), so the one with the largest rho' has the smallest p / M_i."""
    known = [one for one in found if one is not None]
    if not known:
        return None, 0
    joined = Odds(min(one.least for one in known), sum(one.elements for one in known))
    return joined.p, joined.elements


def gains(results: Iterable[ProbeResult]) -> tuple[StageGain, ...]:
    """The sign test of each stage, in the order of the stages."""
    by_stage: dict[str, dict[tuple[object, ...], list[float]]] = {}
    for result in results:
        data = (result.settings.get("model"), result.settings.get("dtype"), result.prompt, result.n_tokens)
        for stage, gain in result.digest.gains.items():
            by_stage.setdefault(stage, {}).setdefault(data, []).append(gain)
    tests = [_sign_test(stage, list(map(_median, values.values()))) for stage, values in by_stage.items()]
    return _holm(sorted(tests, key=lambda test: ORDER.get(test.stage, len(ORDER))))


def _median(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else median(values)  # most data are of one probe, and there are many


def _sign_test(stage: str, values: Sequence[float]) -> StageGain:
    zero = GAIN_ZERO[stage in ATTENTION_STAGES] * U
    positive, negative = sum(g > zero for g in values), sum(g < -zero for g in values)
    p = two_sided(positive, negative)
    return StageGain(stage, positive, negative, len(values) - positive - negative, median(values), p)


def two_sided(positive: int, negative: int) -> float:
    """The binomial sign test: how likely a coin gives a split as uneven."""
    n, least = positive + negative, min(positive, negative)
    tail = ways = 1  # C(n, k) of k = 0, each from the one before: a run of 10,000 cases has numbers of 3000 digits
    for k in range(1, least + 1):
        ways = ways * (n - k + 1) // k
        tail += ways
    return min(1.0, 2 * tail / (1 << n))


def _holm(tests: Sequence[StageGain]) -> tuple[StageGain, ...]:
    """p times the tests that are left, never less than that of a smaller p."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for rank, test in enumerate(sorted(tests, key=lambda t: t.p)):
        least = max(least, min(1.0, (len(tests) - rank) * test.p))
        adjusted[test.stage] = least
    return tuple(replace(test, holm=adjusted[test.stage]) for test in tests)
