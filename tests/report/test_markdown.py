"""The final report: every section of the seed, in both languages, nothing left to be filled in, ids that stay text."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from pytest_greta.checks.result import ByteCheck
from pytest_greta.report.author import default_author
from pytest_greta.report.markdown import final_report
from pytest_greta.report.md import block, code, escape
from pytest_greta.result import NOT_REACHED
from tests.support import results as samples


def report(results=None, **changes) -> str:
    facts = {"suite": "b3_66_v2", "date": "2026-02-07", "author": "L.E.T"}
    return final_report(samples.every_kind() if results is None else results, **{**facts, **changes})


def section(text: str, number: int) -> str:
    return re.split(rf"^## {number}\. .*\n", text, maxsplit=1, flags=re.MULTILINE)[1].split("\n## ")[0]


def cells(row: str) -> list[str]:
    """As GFM splits a table row: at pipes that no backslash escapes."""
    return re.split(r"(?<!\\)\|", row)[1:-1]


def test_sections_in_both_languages_and_in_order():
    text = report()
    numbers = [int(n) for n in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, 14))
    for words in (
        "Executive summary / Resumen ejecutivo",
        "KV indicators / Indicadores KV",
        "Recommendation / Recomendación",
    ):
        assert words in text
    assert "**Date / Fecha**: 2026-02-07" in text
    assert "**Author / Autor**: L.E.T" in text
    assert "**Status / Estado**: FAIL" in text


@pytest.mark.parametrize(
    ("lang", "there", "not_there"), [("es", "Resumen ejecutivo", "Executive"), ("en", "Executive", "Resumen")]
)
def test_one_language(lang, there, not_there):
    text = report(lang=lang)
    assert there in text
    assert not_there not in text


def test_an_interrupted_run_does_not_say_pass():
    passed, missed = (
        samples.result(),
        replace(samples.result(), outcome="not_run", verdict=None, not_run_kind=NOT_REACHED),
    )
    assert "**Status / Estado**: PASS (1 / 1)" in report([passed])
    assert "**Status / Estado**: INTERRUPTED (1 / 2)" in report([passed, missed])


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (("xfailed", "xfailed"), "XFAIL (0 / 2), xfail: 2"),
        (("xfailed", "passed"), "PASS (1 / 2), xfail: 1"),
        (("xfailed", "failed"), "FAIL (0 / 2), xfail: 1"),
        (("xfailed", "not_run"), "XFAIL (0 / 2), xfail: 1"),
    ],
)
def test_what_fails_as_its_mark_says_is_no_pass(outcomes, status):
    text = report([replace(samples.result(), outcome=outcome) for outcome in outcomes])
    assert f"**Status / Estado**: {status}  \n" in text


def test_nothing_is_left_to_be_filled_in():
    text = report([samples.result(drift=None)])
    for word in ("TBD", "TODO", "None", "nan"):
        assert word not in text
    assert "Not measured in this run." in section(text, 6)
    assert "No medido en esta corrida." in section(text, 6)
    assert "not measured / no medido" in section(text, 3)


def test_of_no_results_every_section_says_so():
    text = report([])
    assert text.count("Not measured in this run.") >= 6


def test_verdicts_by_mode():
    text = section(report(), 3)
    designed, aligned = text.split("### 3.2 ")
    assert "ATTENTION_COMPUTATION_MISMATCH" in designed
    assert "expected / esperado" in designed
    row = next(line for line in aligned.splitlines() if line.startswith("| rope_bug"))
    assert [c.strip() for c in cells(row)][2:7] == [
        "KV_MISMATCH KV_MISALIGNMENT",
        "NONE",
        "L3 q_rope decode",
        "1.2e+04",
        "0.0123",
    ]
    assert "kernel k of lib did not run" in aligned
    assert "greta model pull smollm2-135m" in aligned


def test_both_modes_of_a_prompt_side_by_side():
    results = [samples.result(prompt="Hi\n|", n_tokens=7), samples.as_designed()]
    rows = [line for line in section(report(results), 4).splitlines() if line.startswith("| p0_short")]
    assert len(rows) == 1
    assert [c.strip() for c in cells(rows[0])][2:4] == ["`Hi\\n\\|`", "7"]
    assert [c.strip() for c in cells(rows[0])][4:] == [
        "KV_MISMATCH ATTENTION_COMPUTATION_MISMATCH (L0 q_proj), expected / esperado",
        "PASS STRUCTURAL_DRIFT",
        "0.31",
    ]


def test_hashes_and_statistics():
    text = report([samples.mismatch()])
    assert "| 3 | q_rope | full / decode | `00aa11bb22cc33dd` | `44ee55ff66008811` | ≠ | 0.25 |" in section(text, 6)
    assert "| 3 | scores | decode | -4 | 9 | 0.5 | derived / derivado |" in section(text, 7)
    assert "never evidence" in section(text, 7)


def test_hypothesis_and_conclusion_turn_with_the_results():
    kept, rejected, open_ = (report(r) for r in ([samples.result()], [samples.mismatch()], [samples.inconclusive()]))
    assert "H0 kept" in section(kept, 9)
    assert "nothing to fix" in section(kept, 10)
    assert "H0 rejected" in section(rejected, 9)
    assert "the first is rope_bug kv_aligned: K and V are right" in section(rejected, 10)
    assert "H0 / H1 open" in section(open_, 9)
    assert "Inconclusive probes: 1" in section(open_, 10)
    assert "**Status / Estado**: PASS (1 / 1)" in kept


def test_kernels_are_summed_over_the_probes():
    text = section(report([samples.result("a"), samples.result("b")]), 9)
    assert "| decode | decode | greta-cpu | split_decode | library / biblioteca | 60 |" in text


def test_recommendations_only_for_what_was_found():
    text = section(report([samples.result()]), 11)
    assert "STRUCTURAL_DRIFT (1)" in text
    assert "REAL_MISMATCH" not in text


def test_environment_and_roundings():
    roundings = {"prefill": {"tile": 8}, "decode": {"tile": 16}}
    result = samples.result(environment={"numpy": "2.1", "cpu": {"name": "a|b"}}, roundings=roundings)
    text = section(report([result]), 13)
    assert "| numpy | 2.1 |" in text
    assert "| cpu.name | a\\|b |" in text
    assert "|  | prefill | decode |" in text
    assert "| tile | 8 | 16 |" in text


def test_notes_stand_in_the_summary():
    assert "- traces alone" in section(report(notes=["traces alone"]), 1)


@pytest.mark.parametrize("name", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
def test_hostile_ids_stay_text(name):
    fields = {
        "suite": name,
        "variant": name,
        "fault": name,
        "reproduce": f"pytest '{name}'",
        "not_run": name,
        "mend": name,
    }
    results = [
        samples.mismatch(name, **fields),
        samples.not_run(name, **fields),
        samples.inconclusive(name, reason=name),
    ]
    text = report(results, suite=name, author=name)
    text.encode("utf-8")
    assert not [c for c in text if c != "\n" and not c.isprintable()]
    assert [int(n) for n in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)] == list(range(1, 14))
    outside_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "<script>" not in outside_code.replace("\\<", "")
    width = None
    for line in outside_code.splitlines():
        if not line.startswith("|"):
            width = None
            continue
        width = width or len(cells(line))
        assert len(cells(line)) == width, line


@pytest.mark.parametrize("text", ["`", "``x``", "a`b", "```\nrm -rf /\n```"])
def test_code_cannot_be_closed_from_inside(text):
    fence = re.match(r"`+", code(text)).group()
    assert fence not in code(text)[len(fence) : -len(fence)]
    lines = block(text)
    assert all(not line.startswith(lines[-2]) for line in lines[1:-2])


def test_names_of_stages_and_verdicts_are_not_disfigured():
    assert escape("ATTENTION_COMPUTATION_MISMATCH kv_aligned") == "ATTENTION_COMPUTATION_MISMATCH kv_aligned"
    assert escape("_a_ *b* [c](d) <e>") == r"\_a\_ \*b\* \[c\](d) \<e\>"


def test_a_thousand_results_with_a_thousand_hashes():
    compared = tuple(ByteCheck(i, "q_proj", "", "full", "decode", "a", "b", 1, (1,)) for i in range(30))
    results = [samples.result(f"c{i}", bytes=compared) for i in range(1000)]
    start = time.perf_counter()
    text = report(results, analysis_file="B3_ANALYSIS.tsv")
    assert time.perf_counter() - start < 5
    assert len(text) < 1_000_000
    assert "B3_ANALYSIS.tsv" in section(text, 3)
    assert "28500 further rows are in B3_ANALYSIS.tsv" in section(text, 6)


def test_a_mismatch_says_between_which_taps_and_in_which_pattern():
    text = section(report([samples.mismatch()]), 3)
    assert f"between {escape('q_norm and q_rope')}; one head of each group, number 0 of it; layers from 3 on" in text
    assert f"entre {escape('q_norm y q_rope')}; una cabeza de cada grupo" in text


def test_what_changes_from_mode_to_mode_is_counted():
    text = section(final_report([samples.mismatch(), samples.as_designed()], suite="s", date="d", lang="en"), 2)
    rows = {row[0].strip(): [c.strip() for c in row[1:]] for row in map(cells, text.splitlines()) if len(row) == 3}
    assert rows["probes judged"] == ["1", "1"]
    assert rows["chosen by"][1] == "`--greta-mode=kv_aligned`, `GRETA_B3_66_MODE=kv_aligned`"
    assert rows["elements judged against a bound"] == ["not measured", "600"]
    assert rows["of these, Q / K / V hashes (equal)"] == ["not measured", "1 (0)"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"GIT_CONFIG_COUNT": "1"}, "Ana Núñez"), ({}, "(git has no user.name)"), (None, "(git is not installed")],
    ids=["named", "unset", "no git"],
)
def test_the_author_is_git_s_or_it_is_said_why_not(monkeypatch, tmp_path, settings, expected):
    monkeypatch.chdir(tmp_path)
    if settings is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    nothing = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    name = {"GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Ana Núñez"}
    for key, value in {**nothing, **name, **(settings or {})}.items():
        monkeypatch.setenv(key, value)
    assert expected in default_author("en")


def test_the_conclusion_names_what_is_expected_and_no_line_is_left_double():
    passed = samples.result(roundings={"prefill": {"flush": False}, "decode": {"flush": True}})
    text = final_report([passed, samples.as_designed()], suite="s", date="d", lang="en")
    assert "in 1 as_designed probes bytes differ" in section(text, 10)
    assert "\n\n\n" not in text
    assert "| flush | false | true |" in text


def test_differing_bytes_alone_are_not_called_right():
    text = final_report([samples.as_designed()], suite="s", date="d", lang="en")
    assert "nothing to fix" not in text
    assert "was not judged: run the cases in kv_aligned" in section(text, 10)
