"""The canary and the reruns of suspects, in both languages: in the failure text, the summary and the report."""

from __future__ import annotations

from dataclasses import replace

from pytest_greta.report.failure import failure_text
from pytest_greta.report.markdown import final_report
from pytest_greta.report.proof import canary_text
from pytest_greta.report.terminal import summary
from pytest_greta.verdict import Breach, Canary, Evidence, Rerun
from tests.support import results as samples

FOUND = Canary("rope_pos", "decode", 3, "q_rope", "q_rope")
MISSED = Canary("kv_len", "decode", 4, "lse / attn_out", "", "missed")
SKIPPED = Canary("gqa_map", "prefill", -1, "lse / attn_out", "", "skipped", "canary.no_kv_heads")
REFUSED = replace(SKIPPED, fault="kv_slot", why="GRETA_INVALID_ARGUMENT: slot 5")


def evidence(*canaries: Canary, **more) -> Evidence:
    return replace(samples.result().verdict.evidence, canary="planted", canaries=canaries, **more)  # type: ignore[union-attr]


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_canary_in_words():
    assert canary_text(evidence(FOUND, FOUND)).en == "2 of 2 found"
    said = canary_text(evidence(FOUND, MISSED, SKIPPED, REFUSED))
    assert said.en == (
        "1 of 2 found; missed: kv_len (decode, layer 4), due at lse / attn_out, found: PASS; "
        "not planted: gqa_map (only one kv head); not planted: kv_slot (GRETA_INVALID_ARGUMENT: slot 5)"
    )
    assert said.es.startswith("1 de 2 hallados; no hallado: kv_len (decode, capa 4), debía verse en lse / attn_out")
    assert canary_text(Evidence()).en == "off"
    assert canary_text(Evidence(canary="inject")).es == "ninguno, el fallo inyectado es su propia prueba"
    none = canary_text(Evidence(canary="none", canaries=(SKIPPED,)))
    assert none.en == "none applicable; not planted: gqa_map (only one kv head)"


def test_the_failure_text_tells_both():
    result = samples.mismatch(
        evidence=evidence(
            FOUND, reruns=(Rerun((1, 3, 0), 2, "lse", "ok", 0.5), Rerun((1, 3, 1), 2, "lse", "suspect", 1.25))
        )
    )
    text = words(failure_text(result, "en"))
    assert "canary: 1 of 1 found; cache kept by: library" in text
    assert "rerun with random tokens (seed 1 3 0): layer 2 lse clean, rho 0.5" in text
    assert "rerun with random tokens (seed 1 3 1): layer 2 lse suspect again, rho 1.25" in text
    assert "repetición con tokens al azar (semilla 1 3 1): capa 2 lse sospechosa otra vez" in words(
        failure_text(result, "es")
    )


def test_a_missed_canary_is_the_reason():
    values = {"fault": "kv_len", "phase": "decode", "layer": 4, "stage": "lse / attn_out", "said": "PASS"}
    breach = Breach("canary_missed", values)
    result = samples.inconclusive(evidence=evidence(MISSED, breaches=(breach,)), reason="canary_missed")
    text = words(failure_text(result, "en"))
    assert "the fault kv_len was planted in layer 4 (decode), due at lse / attn_out; found: PASS" in text
    assert "se plantó el fallo kv_len en la capa 4" in words(summary([result], lang="es"))


def test_the_summary_counts_probes_and_says_where_there_was_none():
    results = [
        samples.result("one", evidence=evidence(FOUND)),
        samples.result("two", evidence=evidence(FOUND)),
        samples.inconclusive("three", evidence=evidence(MISSED)),
        samples.result("four", evidence=replace(evidence(), canary="none")),
        samples.result("five", evidence=replace(evidence(), canary="off")),
        samples.mismatch("planted", outcome="passed", fault="rope_pos", evidence=replace(evidence(), canary="inject")),
        samples.as_designed(),
    ]
    text = words(summary(results, lang="en"))
    assert "canary: every planted fault was found in 2 of 3 probes" in text
    assert "canary: none applicable (1 probes)" in text
    assert "canary: off (1 probes)" in text
    assert "canario: en 2 de 3 sondas" in words(summary(results, lang="es"))
    report = final_report(results, suite="s", date="2026-01-01", lang="en")
    assert "canary: every planted fault was found in 2 of 3 probes" in report


def test_what_the_reruns_of_a_passing_suspect_said_is_shown():
    reruns = (Rerun((1, 3, 0), 2, "lse", "ok", 0.5), Rerun((1, 3, 1), 2, "lse", "unclear", 0.0, "L3 q_proj"))
    result = samples.result("odd", finding="SUSPECT", rho=1.2, evidence=evidence(FOUND, reruns=reruns))
    text = words(summary([result], lang="en"))
    assert "odd kv_aligned: rerun with random tokens (seed 1 3 0): layer 2 lse clean, rho 0.5" in text
    assert "(seed 1 3 1): inconclusive; beyond doubt wrong there: L3 q_proj" in text
    assert "layer 2 lse clean" in final_report([result], suite="s", date="2026-01-01", lang="en")
