"""What shows that a verdict could have been another one: the canary, and the reruns of a suspect, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pytest_greta.hypotheses import RunTest
from pytest_greta.report.messages import known, translate
from pytest_greta.report.text import clean, number
from pytest_greta.result import ProbeResult
from pytest_greta.texts import Text
from pytest_greta.verdict import Evidence, Rerun


def canary_text(evidence: Evidence) -> Text:
    """``5 of 5 found``, what was missed and what could not be planted."""
    return Text(*(_canary(evidence, language) for language in ("en", "es")))


def _canary(evidence: Evidence, language: str) -> str:
    outcomes = Counter(c.outcome for c in evidence.canaries)
    planted = outcomes["found"] + outcomes["missed"]
    key = "canary.found" if evidence.canary == "planted" else f"canary.{evidence.canary}"
    said = [translate(key, language, found=outcomes["found"], planted=planted) if known(key) else clean(key)]
    for canary in evidence.canaries:
        why = translate(canary.why, language) if known(canary.why) else clean(canary.why)
        values = {**vars(canary), "why": why, "said": canary.said or "PASS"}
        if canary.outcome != "found":
            said.append(translate(f"canary.{canary.outcome}", language, **values))
    return "; ".join(said)


def canary_lines(results: Sequence[ProbeResult]) -> list[tuple[str, dict[str, Any]]]:
    """What the canary showed in the probes that it is due in (kv_aligned, no injected fault): keys of messages with
    their values."""
    counts: Counter[str] = Counter()
    for result in results:
        if result.verdict is None or result.fault or result.mode != "kv_aligned" or not result.verdict.evidence.stages:
            continue
        evidence = result.verdict.evidence
        missed = any(c.outcome == "missed" for c in evidence.canaries)
        counts["missed" if missed else evidence.canary] += 1
    lines: list[tuple[str, dict[str, Any]]] = [
        ("summary.canary", {"found": counts["planted"], "due": counts["planted"] + counts["missed"]})
    ]
    return [
        *(lines if counts["planted"] or counts["missed"] else []),
        *((f"summary.canary_{word}", {"count": counts[word]}) for word in ("off", "none") if counts[word]),
    ]


def figures(test: RunTest) -> list[tuple[str, dict[str, Any]]]:
    """p and the gain sign test of a run: keys of messages with their values."""
    lines: list[tuple[str, dict[str, Any]]] = []
    if test.p is not None:
        lines.append(("hypothesis.p_value", {"p": p_text(test.p), "elements": test.elements}))
    for gain in test.gains:
        if gain.leans:
            values = {"median": number(gain.median), "p": p_text(gain.holm)}
            lines.append(("hypothesis.leans", {**vars(gain), **values}))
    if test.gains and not any(gain.leans for gain in test.gains):
        least = p_text(min(gain.holm for gain in test.gains))
        lines.append(("hypothesis.even", {"p": least, "stages": len(test.gains)}))
    return lines


def p_text(p: float) -> str:
    return number(p) if p > 0.0 else "< 1e-300"


def rerun_text(rerun: Rerun) -> Text:
    return Text(*(_rerun(rerun, language) for language in ("en", "es")))


def _rerun(rerun: Rerun, language: str) -> str:
    values = {"seed": " ".join(map(str, rerun.seed)), "layer": rerun.layer, "stage": clean(rerun.stage)}
    said = translate(f"rerun.{rerun.said}", language, **values, rho=number(rerun.rho))
    return translate("rerun.wrong", language, rerun=said, wrong=clean(rerun.wrong)) if rerun.wrong else said
