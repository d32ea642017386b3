"""The verdict of one probe in one sentence."""

from __future__ import annotations

from pytest_greta.report.messages import translate
from pytest_greta.report.pick import layer_text
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
from pytest_greta.verdict import INCONCLUSIVE


def sentence(result: ProbeResult, language: str) -> str:
    """One line in one language, without the verdict's name."""
    verdict = result.verdict
    if verdict is None:
        return translate("verdict.not_run", language, reason=clean(result.not_run) or "?")
    if verdict.status == INCONCLUSIVE or verdict.scenario is None:
        reasons = verdict.reason or "; ".join(verdict.evidence.breaches) or "?"
        return translate("verdict.INCONCLUSIVE", language, reason=clean(reasons))
    failure = verdict.first_failure
    return translate(
        f"verdict.{verdict.scenario}",
        language,
        layer=layer_text(failure.layer) if failure else "?",
        stage=clean(failure.stage) if failure else "?",
        phase=failure.phase if failure else "?",
    )
