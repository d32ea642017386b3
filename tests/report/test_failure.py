"""The text of a failure: what was expected and not found, one cause before six guesses, one language where asked."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_greta.checks.provenance import HYPOTHESES
from pytest_greta.checks.result import ByteCheck, StageCheck, Worst
from pytest_greta.decide import decide_kv_aligned
from pytest_greta.report.failure import failure_text
from pytest_greta.report.notes import note_text
from pytest_greta.report.terminal import summary
from pytest_greta.verdict import Breach, Evidence, FirstFailure, Indicators
from tests.support import results as samples

LONG = "case_with_18_chars"


@pytest.mark.parametrize("lang", ["both", "es", "en"])
def test_all_but_the_quoted_lines_and_the_command_fit_into_80_columns(lang):
    for result in samples.every_kind():
        lines = [line for line in failure_text(result, lang).splitlines()[1:-1] if not line.startswith("    pytest ")]
        assert max(map(len, lines)) <= 80


def test_what_is_expected_and_not_found_stands_below_the_headline():
    expected = "status: KV_MISMATCH, layer: 77, stage: lse|attn_out, phase: decode, heads: 0|2, positions: 5"
    lines = failure_text(samples.mismatch(expected=expected), "en").splitlines()
    assert lines[1:4] == [
        "  expected layer 77, found 3",
        "  expected stage lse or attn_out, found q_rope",
        "  expected position 5, found 32",
    ]
    assert (
        "  se esperaba capa 77; se encontró 3" in failure_text(samples.mismatch(expected=expected), "es").splitlines()
    )
    plain = failure_text(samples.mismatch(expected="PASS"), "en").splitlines()
    assert plain[1] == "  expected PASS, found KV_MISMATCH KV_MISALIGNMENT"
    why = samples.inconclusive(expected="status: INCONCLUSIVE, reason: no, never", reason="kernel_not_run")
    assert "expected reason no, never, found kernel_not_run" in failure_text(replace(why, stages=_stages(why)), "en")


def _stages(_: object) -> tuple[StageCheck, ...]:
    return samples.mismatch().stages


def test_a_broken_contract_does_not_look_like_a_pass():
    broken = samples.result(outcome="failed", expected="PASS (contract bitwise)", bytes=samples.mismatch().bytes)
    text = failure_text(broken, "en")
    assert text.splitlines()[0].startswith("contract bitwise broken (PASS STRUCTURAL_DRIFT) cases/")
    assert text.splitlines()[-1].startswith("contract bitwise broken")
    words = " ".join(text.split())
    assert "first differing stage q_rope in layer 3, full against decode, position 32" in words
    assert "la primera etapa que difiere es q_rope" in " ".join(failure_text(broken, "es").split())


def test_where_nothing_ran_there_is_a_reason_and_no_measurement():
    reason = "typo: no such key"
    died = samples.inconclusive(reason=reason, evidence=Evidence(), drift=None, indicators=Indicators())
    assert failure_text(died, "both").splitlines() == [
        "INCONCLUSIVE cases/b3_66.greta.yaml:12 crash kv_aligned",
        "  reason / motivo: typo: no such key",
        "  reproduce / reproducir",
        "    pytest 'cases/b3_66.greta.yaml::crash::kv_aligned'",
        "INCONCLUSIVE: typo: no such key",
    ]
    text = summary([died], lang="both")
    assert text.count(reason) == 1
    assert "not measured" not in text
    required = replace(died, not_run="no model", not_run_es="falta el modelo", mend="greta model pull x")
    assert "  to run them / para ejecutarlos: greta model pull x" in failure_text(required, "both").splitlines()


def test_a_mismatch_that_nobody_asserted_is_not_called_expected():
    result = samples.mismatch(outcome="passed", expected="", suite="api")
    text = summary([result], lang="both")
    assert "not asserted\n" in text
    assert "no afirmado" in text
    assert "expected" not in text
    assert "mismatches that no test asserted: 1" in text
    assert "discrepancias que ninguna prueba afirmó: 1" in text


def test_not_a_number_comes_before_all_guesses():
    worst = Worst(32, 0, 7, math.nan, 0.25, math.inf, 2e-5)
    failure = FirstFailure(3, "lse", "decode", (32,), (0,), math.inf, ("cause.kv_len", "who.decode_kernel"))
    check = StageCheck("decode", 3, "lse", math.inf, math.inf, 1, 9, (32,), (0,), worst)
    text = failure_text(samples.mismatch(first_failure=failure, stages=(check,)), "en")
    assert text.count("    - ") == 2
    assert "    - the library returned NaN or inf\n    - to blame: the decode kernel" in text


def test_hashes_are_those_of_the_failing_phase():
    prefix = ByteCheck(3, "k_proj", "", "full", "prefix", "aaaa", "bbbb", 1, (3,), 0.25)
    decode = ByteCheck(3, "k_proj", "", "full", "decode", "cccc", "dddd", 1, (32,), 0.25)
    for path, phase, shown in (("decode", "decode", "cccc"), ("prefix", "prefill", "aaaa")):
        check = StageCheck(path, 3, "k_proj", 99.0, 99.0, 1, 9, (32,))
        verdict = decide_kv_aligned([check], [prefix, decode], Evidence(1, 1, 1, samples.KERNELS))
        assert verdict.first_failure is not None
        assert (verdict.first_failure.phase, verdict.first_failure.hashes[0]) == (phase, shown)
        result = samples.mismatch(first_failure=verdict.first_failure, bytes=(prefix, decode), stages=(check,))
        assert f"full {shown}" in failure_text(result, "en")


def test_the_largest_rho_and_that_of_the_first_failure_have_two_names():
    assert "  rho (first failure) " in failure_text(samples.mismatch(), "en")
    assert "  rho (primer fallo) " in failure_text(samples.mismatch(), "es")


def test_checksums_are_cut_and_sequences_are_no_tuples():
    result = samples.result(
        outcome="failed", evidence=Evidence(1, 2, 3, samples.KERNELS, weights="sha256:" + "ab" * 32)
    )
    assert "sha256:abababababab\n" in failure_text(result, "en")
    breach = Breach("tokens_differ", {"left": (1, 2), "right": [1, 3]})
    assert "different tokens: 1, 2 and 1, 3" in failure_text(
        samples.inconclusive(evidence=Evidence(breaches=(breach,)))
    )


def test_in_spanish_there_is_no_english_word_of_ours():
    failure = FirstFailure(3, "attn_out", "both", (32,), (), 9.0, ("cause.kv_len",), None, "fits without the last key")
    mismatch = samples.mismatch(first_failure=failure, variant="bf16")
    text = failure_text(samples.mismatch(first_failure=failure, hypothesis="open"), "es")
    assert ": capa 3 etapa attn_out ambas\n" in text
    assert "encaja sin la última clave" in text
    for english in ("layer", "stage", "both", "fits", "library", "none", "off", "open", "calls"):
        assert english not in text.replace("cases/", "").split(), english
    assert "fase ambas" in failure_text(mismatch, "es").splitlines()[-1]


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("fits kv head 2 in place of 0", "encaja con la cabeza kv 2 en lugar de la 0"),
        ("fits softmax scale times 0.98", "encaja con la escala del softmax por 0.98"),
        ("part k; part v", "parte k; parte v"),
        ("words of a library", "words of a library"),
    ],
)
def test_notes(note, said):
    assert note_text(note, "es") == said
    assert note_text(note, "en") == note


def test_every_wording_of_provenance_has_a_spanish_one():
    """Each word of a hypothesis is one of the catalogue's: none stays English."""
    import inspect
    import re

    from pytest_greta.checks import provenance

    for hypothesis in HYPOTHESES.values():
        for words in re.findall(r'yield f?"([^"]+)"', inspect.getsource(hypothesis)):
            note = "fits " + re.sub(r"\{[^}]*\}", "7", words)
            assert note_text(note, "es") != note
    assert provenance.HYPOTHESES


def test_names_get_the_room_that_the_table_leaves():
    text = summary([samples.result(LONG, variant="variant_of_18_char")], lang="en")
    assert "variant_of_18_char" in text
    assert LONG in text


def test_between_which_taps_and_in_which_pattern():
    text = " ".join(failure_text(samples.mismatch(), "en").split())
    assert "between q_norm and q_rope" in text
    assert "pattern one head of each group, number 0 of it; layers from 3 on; decode only" in text
    assert "block: page 2: 7" in text
    spanish = " ".join(failure_text(samples.mismatch(), "es").split())
    assert "entre q_norm y q_rope" in spanish
    assert "patrón una cabeza de cada grupo, la número 0; las capas desde la 3; solo decode" in spanish
