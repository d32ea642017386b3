"""The summary and the text of a failure: what must be said, in 80 columns, whatever an id contains."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import unicodedata

import pytest

from pytest_greta.report.failure import failure_text
from pytest_greta.report.terminal import SHOWN, summary
from pytest_greta.report.text import clean, number, shorten
from pytest_greta.verdict import FirstFailure, Indicators
from tests.support import results as samples

LANGS = ("both", "es", "en")


def columns(line: str) -> int:
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def line_of(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def table_of(text: str) -> list[str]:
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("---"))
    return lines[start + 1 : lines.index("", start)]


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_too_long(lang, width):
    text = summary(samples.every_kind(), lang=lang, width=width)
    assert max(map(columns, text.splitlines())) <= max(width, 80)


@pytest.mark.parametrize("name", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
@pytest.mark.parametrize("lang", LANGS)
def test_hostile_ids_break_neither_width_nor_lines_nor_the_terminal(name, lang):
    bad = samples.mismatch(name, suite=name, variant=name, mode=name[:30], nodeid=name, where=name, reproduce=name)
    results = [
        bad,
        samples.inconclusive(name, reason=name, evidence=samples.Evidence()),
        samples.not_run(name, not_run=name, mend=name),
    ]
    for text in (summary(results, lang=lang), *(failure_text(r, lang) for r in results)):
        assert not [c for c in text if c != "\n" and not c.isprintable()]
        text.encode("utf-8")
    assert max(map(columns, summary(results, lang=lang).splitlines())) <= 80


def test_worst_first_and_passes_last():
    rows = table_of(summary(samples.every_kind(), lang="en"))
    order = [name for row in rows if (name := row.split(" ")[0])]
    assert order == ["rope_bug", "missed", "crash", "died", "suspect", "p0_short", "planted", "p0_short", "aligned"]


def test_among_the_failed_the_larger_rho_comes_first_and_nan_before_all():
    results = [samples.mismatch("a", rho=2.0), samples.mismatch("b", rho=float("nan")), samples.mismatch("c", rho=9e9)]
    assert [row.split(" ")[0] for row in table_of(summary(results, lang="en")) if row[0] != " "] == ["b", "c", "a"]


def test_columns_of_a_row():
    row = line_of(summary([samples.mismatch()], lang="en"), "rope_bug")
    assert row.split() == ["rope_bug", "kv_aligned", "KV_MISMATCH", "L3", "q_rope", "1.2e+04", "0.0123"]
    text = summary([samples.mismatch()], lang="en")
    assert "KV_MISALIGNMENT" in text
    assert "decode" in text


def test_an_expected_mismatch_is_called_expected_in_both_languages():
    text = summary([samples.as_designed()], lang="both")
    assert "expected / esperado" in text
    assert "discrepancias esperadas: 1 ATTENTION_COMPUTATION_MISMATCH" in text
    assert "expected mismatches: 1 ATTENTION_COMPUTATION_MISMATCH" in text


def test_the_same_mismatch_unexpected_is_named_and_not_called_expected():
    from dataclasses import replace

    text = summary([replace(samples.as_designed(), outcome="failed")], lang="en")
    assert "expected" not in text.replace("unexpected", "")
    assert "ATTENTION_" in text


def test_a_missed_fault_is_unexpected():
    assert "unexpected" in summary([samples.result(outcome="failed", fault="kv_len")], lang="en")


def test_many_passes_are_folded_and_counted_and_the_failure_is_not():
    results = [samples.result(f"ok{i}") for i in range(1000)] + [samples.mismatch()]
    start = time.perf_counter()
    text = summary(results, lang="both")
    assert time.perf_counter() - start < 2
    assert len([row for row in table_of(text) if row.startswith("ok")]) == SHOWN - 1
    assert table_of(text)[0].startswith("rope_bug")
    assert f"not shown: {1001 - SHOWN} more ({1001 - SHOWN} passed, 0 failed)" in text
    assert "probes: 1001 (1000 passed, 1 failed, 0 not run)" in text


def test_indicators_are_counted_and_faults_do_not_count():
    results = [
        samples.result("a", indicators=Indicators(True, False, None)),
        samples.result("b", indicators=Indicators(False, False, True)),
        samples.mismatch("c", fault="rope_pos", outcome="passed", indicators=Indicators(True, True, True)),
    ]
    text = summary(results, lang="en")
    assert line_of(text, "K hash consistency").split()[-3:] == ["1", "1", "0"]
    assert line_of(text, "V hash consistency").split()[-3:] == ["0", "2", "0"]
    assert line_of(text, "K-V aligned ").split()[-3:] == ["1", "0", "1"]
    assert "may be false in a pass" in text
    assert "puede ser falsa en un PASS" in summary(results, lang="es")


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([samples.result(), samples.as_designed()], "H0 kept: all drift seen is structural (probes judged: 1)"),
        ([samples.as_designed()], "H0 / H1 open: bytes differ, and as_designed cannot tell why"),
        ([samples.result(), samples.mismatch()], "H0 rejected, H1: 1 of 2"),
        ([samples.mismatch(fault="rope_pos", outcome="passed")], "no probe counts for H0 / H1: all have an injected"),
        ([samples.inconclusive()], "H0 / H1 open"),
    ],
)
def test_hypothesis(results, said):
    assert said in summary(results, lang="en")


def test_not_run_is_grouped_with_its_reason_and_its_command():
    text = summary(
        [samples.not_run("a"), samples.not_run("b"), samples.not_run("c", not_run="no device", mend="")], lang="both"
    )
    assert "not run / no ejecutado: 2, model smollm2-135m is not in the cache" in text
    assert text.count("greta model pull smollm2-135m") == 1
    assert "to run them / para ejecutarlos: greta model pull smollm2-135m" in text
    assert "not run / no ejecutado: 1, no device" in text
    said = summary([samples.not_run(not_run_es="falta el modelo", mend_es="descargarlo")], lang="both")
    assert "no ejecutado: 1, falta el modelo" in said
    assert "not run: 1, model smollm2-135m is not in the cache" in said
    assert "para ejecutarlos: descargarlo" in said


def test_the_reason_of_an_inconclusive_case_is_said_in_both_languages():
    text = summary([samples.inconclusive()], lang="both").replace("\n  ", " ")
    assert "kernel k of lib did not run in phase decode" in text
    assert "el kernel k de lib no corrió en la fase decode" in text


def test_two_suites_have_two_tables():
    text = summary([samples.result(suite="one"), samples.result(suite="two")], lang="en")
    assert "suite one" in text
    assert "suite two" in text


def test_colour_changes_nothing_but_colour():
    def colour(text: str, role: str) -> str:
        return f"\x1b[31m{text}\x1b[0m"

    results = samples.every_kind()
    coloured = summary(results, lang="both", style=colour)
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == summary(results, lang="both")


def test_nothing_to_say():
    assert summary([], lang="both") == ""


def test_failure_text_says_all():
    text = failure_text(samples.mismatch(variant="bf16"), "both")
    first, last = text.splitlines()[0], text.splitlines()[-1]
    assert first == (
        "KV_MISMATCH KV_MISALIGNMENT cases/b3_66.greta.yaml:12 rope_bug kv_aligned-bf16: layer 3 stage q_rope decode"
    )
    assert last.startswith("KV_MISMATCH KV_MISALIGNMENT: ")
    assert "K and V are right" in last
    assert "K y V son correctos" in last
    for label, value in {
        "layer / capa": "3",
        "stage / etapa": "q_rope",
        "phase / fase": "decode",
        "position / posición": "32",
        "head / cabeza": "0, 2",
        "stored / guardado": "0.5",
        "reference / referencia": "0.25",
        "bound / cota": "2e-05",
        "hypothesis / hipótesis": "H1",
    }.items():
        assert line_of(text, label).split(label)[1].strip() == value
    assert "1.2e+04" in line_of(text, "rho ")
    assert "00aa11bb22cc33dd" in line_of(text, "hashes")
    assert "decode 44ee55ff66008811" in text
    assert "RoPE gira según otra posición" in text
    assert "RoPE turns by another position" in text
    assert "greta-cpu / split_decode, 30 calls" in text
    assert "pytest 'cases/b3_66.greta.yaml::rope_bug::kv_aligned'" in text


def test_failure_text_of_the_worst_path_not_of_the_first():
    """The check of the guilty phase, not that of the healthy one with the same stage."""
    text = failure_text(samples.mismatch(), "en")
    assert "position 32, head 2, [7]" in line_of(text, "worst element")


def test_failure_text_where_nothing_is_known():
    for result in (samples.inconclusive(), samples.inconclusive("died", reason="crash: x"), samples.not_run()):
        lines = failure_text(result, "en").splitlines()
        assert lines[0].split()[0] in ("INCONCLUSIVE", "NOT_RUN")
        assert lines[-1].split(":")[0] in ("INCONCLUSIVE", "NOT_RUN")
    outside = samples.mismatch(first_failure=FirstFailure(-1, "logits", "both"), stages=(), bytes=())
    text = failure_text(outside, "en")
    assert "kv_aligned: stage logits both" in text.splitlines()[0]
    assert "outside the layers" in text
    assert "not measured" in line_of(text, "hashes")


def test_a_wrong_verdict_that_is_a_pass_says_so():
    lines = failure_text(samples.result(outcome="failed", expected="KV_MISMATCH"), "en").splitlines()
    assert lines[0].startswith("UNEXPECTED PASS STRUCTURAL_DRIFT ")
    assert lines[1] == "  expected KV_MISMATCH, found PASS STRUCTURAL_DRIFT"
    assert "not the one that the case expects" in failure_text(samples.result(outcome="failed", expected=""), "en")


def test_many_heads_are_counted():
    failure = FirstFailure(3, "attn_out", "decode", tuple(range(100)), tuple(range(32)))
    text = failure_text(samples.mismatch(first_failure=failure), "en")
    assert "and 92 more" in line_of(text, "position")
    assert "and 24 more" in line_of(text, "head")


NUMBERS = {0: "0", 0.5: "0.5", 1.5e-6: "1.5e-06", 12345.6: "1.2e+04", float("inf"): "inf", float("nan"): "nan"}


@pytest.mark.parametrize(("value", "said"), NUMBERS.items())
def test_number(value, said):
    assert number(value) == said


def test_shorten_keeps_both_ends():
    assert shorten("a_very_long_case_name_v2", 11) == "a_ver…me_v2"
    assert shorten("short", 11) == "short"
    assert columns(shorten("日本語" * 9, 11)) <= 11


def test_clean_is_reversible_to_the_eye():
    assert clean("a\nb\x1b\u202e") == "a\\nb\\x1b\\u202e"


def test_reports_load_neither_numpy_nor_cffi():
    modules = "terminal", "failure", "markdown", "tsv", "messages", "causes"
    code = ";".join(f"import pytest_greta.report.{m}" for m in modules)
    code += ";import pytest_greta.artifacts, sys; print(sorted({'numpy', 'cffi', 'yaml'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
