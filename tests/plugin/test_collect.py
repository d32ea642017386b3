"""From case files to pytest items: ids, markers, selection, and what is said about wrong files."""

from __future__ import annotations

import pytest
from greta_project import QUIET, Project, case

from pytest_greta.artifacts import read_results

BOTH = "mode: [as_designed, kv_aligned]"


def collected(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line and not line.startswith(("ERROR", "FAILED"))]


def test_ids_are_nested_and_have_no_brackets(project: Project) -> None:
    project.cases(case("ok_1", BOTH, "matrix: {dtype: [f32, bf16], page_size: [0, 16]}"), file="cases/x.greta.yaml")
    ids = collected(project.run("--collect-only", "-q"))
    assert ids == [
        f"cases/x.greta.yaml::ok_1::{mode}-{dtype}-page_size={page}"
        for mode in ("as_designed", "kv_aligned")
        for dtype in ("f32", "bf16")
        for page in (0, 16)
    ]


def test_any_id_selects_its_probe(project: Project) -> None:
    project.cases(case("ok_1", BOTH), case("ok_2", BOTH))
    project.run("a.greta.yaml::ok_2::kv_aligned").assert_outcomes(passed=1)
    project.run("a.greta.yaml::ok_2").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        (["-k", "ok_1"], {"ok_1::as_designed", "ok_1::kv_aligned"}),
        (["-k", "ok_1 and kv_aligned"], {"ok_1::kv_aligned"}),
        (["-m", "kv_aligned"], {"ok_1::kv_aligned", "ok_2::kv_aligned"}),
        (["-m", "as_designed"], {"ok_1::as_designed"}),
        (["-m", "fault"], {"bad_3::kv_aligned"}),
        (["-m", "slow"], {"ok_2::kv_aligned"}),
        (["-p", "no:xdist", "-m", "slow"], {"ok_2::kv_aligned"}),
        (["--strict-markers", "-W", "error", "-m", "slow"], {"ok_2::kv_aligned"}),
    ],
)
def test_selection(project: Project, args: list[str], ids: set[str]) -> None:
    project.ini("markers = slow: takes long").cases(
        case("ok_1", BOTH),
        case("ok_2", "marks: [slow]"),
        case("bad_3", "inject: {fault: rope_pos, layer: 3}", "expect: KV_MISMATCH"),
    )
    result = project.run("--collect-only", "-q", *args)
    assert {line.split("::", 1)[1] for line in collected(result)} == ids
    assert "Warning" not in result.stdout.str()


def test_markers_are_registered(project: Project) -> None:
    result = project.run("--markers")
    for mark in ("kv_aligned", "as_designed", "fault"):
        result.stdout.fnmatch_lines([f"@pytest.mark.{mark}: *"])


def test_an_unregistered_mark_is_an_error_with_its_line(project: Project) -> None:
    project.cases(case("ok_1"), case("ok_2", "marks: [sloow]"))
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a.greta.yaml:6*marca desconocida 'sloow'*", "*a.greta.yaml:6*unknown mark 'sloow'*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_marks_of_pytest_work(project: Project) -> None:
    project.cases(case("ok_1", "marks: [skip]"), case("bad_2", "marks: [xfail]"), case("ok_3", "marks: [xfail]"))
    project.run().assert_outcomes(skipped=1, xfailed=1, xpassed=1)


MARKED = "probes: 4 (2 passed, 0 failed, 1 failed as their mark xfail says, 1 not run)"
MARCADAS = "sondas: 4 (aprobadas: 2, fallidas: 0, fallidas como dice su marca xfail: 1, no ejecutadas: 1)"


def test_what_marks_leave_out_or_expect_to_fail_is_counted_as_such(project: Project) -> None:
    project.cases(
        case("ok_1", "marks: [skip]"), case("bad_2", "marks: [xfail]"), case("ok_3", "marks: [xfail]"), case("ok_4")
    )
    result = project.run("--greta-artifacts=out")
    assert result.ret == pytest.ExitCode.OK
    said = " ".join(result.stdout.str().split())
    assert MARKED in said
    assert MARCADAS in said
    assert "not run: 1, a mark leaves it out (unconditional skip)" in said
    assert "no ejecutado: 1, una marca lo omite (unconditional skip)" in said
    (folder,) = (project.path / "out").glob("*/demo")
    outcomes = {r.case: r.outcome for r in read_results(folder / "results.jsonl")[0]}
    assert outcomes == {"ok_1": "not_run", "bad_2": "xfailed", "ok_3": "passed", "ok_4": "passed"}
    report = " ".join((folder / "DEMO_FINAL_REPORT.md").read_text().split())
    assert MARKED in report
    assert "PASS (2 / 4)" in report


def test_a_strict_xfail_that_passes_has_failed(project: Project) -> None:
    project.ini("xfail_strict = true").cases(case("ok_1", "marks: [xfail]"), case("ok_2"))
    result = project.run("--greta-lang=en")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "probes: 2 (1 passed, 1 failed, 0 not run)" in " ".join(result.stdout.str().split())


def test_cases_that_are_all_left_out_by_marks_are_no_pass(project: Project) -> None:
    project.cases(case("ok_1", "marks: [skip]"))
    assert project.run().ret == pytest.ExitCode.TESTS_FAILED
    assert project.run("--greta-allow-empty").ret == pytest.ExitCode.OK


def test_a_wrong_file_is_a_clean_collection_error(project: Project) -> None:
    project.cases(case("ok_1", "modus: kv_aligned", "mode: kv_aligned"))
    project.cases(case("ok_1"), file="b.greta.yaml", suite="suite: other\ncases:\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a.greta.yaml:5:5: *modus*mode*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*.py:*")


def test_an_unreadable_file_is_a_clean_collection_error(project: Project) -> None:
    (project.path / "a.greta.yaml").write_bytes(b"suite: \xff\xfe\x00\n")
    (project.path / "b.greta.yaml").symlink_to("nowhere.yaml")
    result = project.run("a.greta.yaml")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a.greta.yaml*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*.py:*")


def test_one_id_twice_in_a_suite_of_two_files(project: Project) -> None:
    project.cases(case("ok_1")).cases(case("ok_1"), file="b.greta.yaml")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*b.greta.yaml:3*ok_1*a.greta.yaml:3*"])


def test_an_id_that_climbs_out_is_refused(project: Project) -> None:
    project.cases(case("../../x"))
    result = project.run("--greta-artifacts", "out")
    assert result.ret != 0
    assert not list(project.path.parent.rglob("x_kv_aligned*"))


@pytest.mark.parametrize(
    ("text", "collects"),
    [("suite: demo\ncases:\n" + case("ok_1"), True), ("services:\n  web: {}\n", False), ("suite: [", False)],
)
def test_another_yaml_file_only_when_it_is_named(project: Project, text: str, collects: bool) -> None:
    (project.path / "mine.yaml").write_text(text)
    assert project.run().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result = project.run("mine.yaml")
    assert result.parseoutcomes().get("passed", 0) == int(collects)


def test_the_pattern_of_case_files_is_an_ini_setting(project: Project) -> None:
    project.ini("greta_files = probe_*.yml").cases(case("ok_1"), file="probe_1.yml").cases(case("ok_2"))
    assert collected(project.run("--collect-only", "-q")) == ["probe_1.yml::ok_1::kv_aligned"]


def test_items_stand_at_the_line_of_their_case(project: Project) -> None:
    project.cases(case("ok_1", BOTH), case("ok_2"))
    items, _ = project.pytester.inline_genitems(*QUIET)
    assert [item.location[:2] for item in items] == [("a.greta.yaml", 2), ("a.greta.yaml", 2), ("a.greta.yaml", 5)]


def test_a_mode_override_deselects_and_counts(project: Project) -> None:
    project.cases(case("ok_1", BOTH), case("ok_2"))
    result = project.run("--greta-mode", "as_designed", "-v")
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["*ok_1::as_designed PASSED*"])
