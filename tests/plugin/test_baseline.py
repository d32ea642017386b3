"""A baseline made, and what a run beside it says: drift, verdicts, other setups, a part of a run, wrong files."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from greta_project import QUIET, SUITE, Project, case

for _name in ("probing", "trace.jsonl", "faults.engine", "report.markdown", "baseline.file", "baseline.judging"):
    importlib.import_module(f"pytest_greta.{_name}")  # once: see greta_project

MADE = ("--greta-baseline=base.yaml", "--greta-lang=en", "-p", "no:cacheprovider")
UPDATE = (*MADE, "--greta-update-baseline")


def base(project: Project) -> Path:
    return project.path / "base.yaml"


def edit(project: Project, old: str, new: str) -> None:
    text = base(project).read_text()
    assert old in text
    base(project).write_text(text.replace(old, new))


@pytest.fixture
def made(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two cases and their baseline: the largest rho of o_proj is 0.15."""
    monkeypatch.delenv("GRETA_SHARD", raising=False)
    project.cases(case("rho_1"), case("ok_2"))
    project.run(*UPDATE).assert_outcomes(passed=2)
    return project


def test_a_baseline_is_made_and_can_be_reviewed(made: Project) -> None:
    assert base(made).read_text().splitlines()[2:] == [
        "schema: 1",
        "suite: demo",
        "probes:",
        "  - probe: a.greta.yaml::ok_2::kv_aligned",
        "    verdict: PASS ALIGNED",
        "    library: stub",
        '    version: "1.0"',
        "    device_kind: cpu",
        "    model: synthetic",
        "    seeds: [1, 2, 3, 4, 5]",
        "  - probe: a.greta.yaml::rho_1::kv_aligned",
        "    verdict: PASS STRUCTURAL_DRIFT",
        "    library: stub",
        '    version: "1.0"',
        "    device_kind: cpu",
        "    model: synthetic",
        "    seeds: [1, 2, 3, 4, 5]",
        "    rho:",
        "      o_proj: 0.15",
    ]
    before = base(made).stat().st_mtime_ns
    result = made.run(*MADE)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["baseline: 2 probes compared, 0 worse, 0 better"])
    assert base(made).stat().st_mtime_ns == before, "a run that compares writes nothing"


@pytest.mark.parametrize(
    ("recorded", "rho", "fails"), [(0.15, 0.29, 0), (0.15, 0.31, 1), (0.09, 0.19, 0), (0, 0.21, 1)]
)
def test_up_to_twice_the_largest_of_five_seeds_and_up_to_a_fifth(
    made: Project, monkeypatch: pytest.MonkeyPatch, recorded: float, rho: float, fails: int
) -> None:
    edit(made, "o_proj: 0.15", f"o_proj: {recorded}")
    monkeypatch.setenv("GRETA_TEST_RHO", str(rho))
    result = made.run(*MADE)
    result.assert_outcomes(passed=2 - fails, failed=fails)
    head = "DRIFT_REGRESSION (PASS STRUCTURAL_DRIFT) a.greta.yaml:3 rho_1 kv_aligned: layer 3 stage o_proj decode"
    assert (head in result.outlines) == bool(fails)


def test_it_is_said_in_both_languages_and_wherever_a_failure_is(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRETA_TEST_RHO", "0.75")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(made.path / "step.md"))
    shown = ("--junitxml=j.xml", "--greta-report=github,gitlab", "--greta-artifacts=out")
    result = made.run("--greta-baseline=base.yaml", *shown)
    result.assert_outcomes(passed=1, failed=1)
    en = "worse than the baseline, in layer 3, stage o_proj, phase decode: rho of o_proj is 0.75, more than twice"
    es = "peor que la línea base, en la capa 3, etapa o_proj, fase decode: rho de o_proj es 0.75, más del doble"
    assert result.stdout.str().count(en) == result.stdout.str().count(es) == 2, "the last line, and GitHub's annotation"
    row = made.written(made.path / "out")["rho_1::kv_aligned"]
    assert (row["outcome"], row["verdict"]["status"], row["verdict"]["finding"]) == (
        "failed",
        "PASS",
        "DRIFT_REGRESSION",
    )
    assert (row["verdict"]["first_failure"]["layer"], row["verdict"]["first_failure"]["stage"]) == (3, "o_proj")
    assert (row["baseline"]["state"], row["baseline"]["was"]) == ("worse", "PASS STRUCTURAL_DRIFT")
    (report,) = made.path.glob("out/*/demo/DEMO_FINAL_REPORT.md")
    gitlab = made.path / "out/gl-code-quality-report.json"
    for file in (report, made.path / "j.xml", made.path / "step.md", gitlab):
        assert "DRIFT_REGRESSION" in file.read_text(), file
        assert "o_proj" in file.read_text(), file
    assert [issue["severity"] for issue in json.loads(gitlab.read_text())] == ["critical"]
    assert '<property name="finding" value="DRIFT_REGRESSION"' in (made.path / "j.xml").read_text()


def test_it_stays_what_it_is_in_a_merged_run(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRETA_TEST_RHO", "0.75")
    made.run(*MADE, "--greta-artifacts=out", "-k", "rho")
    made.run(*MADE, "--greta-artifacts=more", "-k", "ok")
    merged = made.pytester.run(
        *(sys.executable, "-m", "pytest_greta.cli", "report", "--merge", "out", "more"),
        *("--output", "whole", "--lang", "en"),
    )
    assert merged.ret == 1
    merged.stdout.fnmatch_lines(["baseline: 2 probes compared, 1 worse, 0 better"])
    row = made.written(made.path / "whole")["rho_1::kv_aligned"]
    assert (row["verdict"]["finding"], row["baseline"]["state"]) == ("DRIFT_REGRESSION", "worse")


def test_a_case_may_expect_it(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "expect: {finding: DRIFT_REGRESSION, first_failure: {layer: 3, stage: o_proj}}"
    made.cases(case("rho_1", expected), case("ok_2"))
    monkeypatch.setenv("GRETA_TEST_RHO", "0.75")
    made.run(*MADE).assert_outcomes(passed=2)
    made.run().assert_outcomes(passed=1, failed=1)


def test_a_verdict_that_got_worse_fails(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(made, "PASS STRUCTURAL_DRIFT", "PASS ALIGNED")
    result = made.run(*MADE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "DRIFT_REGRESSION (PASS STRUCTURAL_DRIFT) a.greta.yaml:3 rho_1 kv_aligned",
            "  worse than the baseline base.yaml: it was PASS ALIGNED, it is PASS",
            "    STRUCTURAL_DRIFT",
        ]
    )


def test_a_mismatch_keeps_its_place_and_says_what_it_was(made: Project) -> None:
    made.cases(case("rho_1"), case("bad_2"))
    edit(made, "ok_2", "bad_2")
    result = made.run(*MADE, "--greta-artifacts=out")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["KV_MISMATCH KV_MISALIGNMENT a.greta.yaml:6 bad_2 kv_aligned: layer 3 stage q_rope decode"]
    )
    row = made.written(made.path / "out")["bad_2::kv_aligned"]
    assert row["verdict"]["finding"] == "DRIFT_REGRESSION"
    assert row["baseline"]["worse"][0]["en"] == "it was PASS ALIGNED, it is KV_MISMATCH KV_MISALIGNMENT"


def test_a_verdict_that_got_better_is_said(made: Project) -> None:
    edit(made, "PASS ALIGNED", "PASS STRUCTURAL_DRIFT\n    finding: SCHEDULE")
    result = made.run(*MADE)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "baseline: 2 probes compared, 0 worse, 1 better",
            "better than the baseline: 1 (ok_2 kv_aligned); --greta-update-baseline records it",
        ]
    )


def test_another_device_is_labelled_and_only_right_and_wrong_are_compared(
    made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRETA_TEST_DEVICE", "hip")
    monkeypatch.setenv("GRETA_TEST_RHO", "0.9")
    edit(made, "PASS STRUCTURAL_DRIFT", "PASS ALIGNED")
    said = "baseline of another setup (device_kind: cpu -> hip): of 2 probes only right and wrong were compared"
    result = made.run(*MADE)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([said])
    edit(made, "ok_2", "bad_2")
    result = made.cases(case("rho_1"), case("bad_2")).run(*MADE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["KV_MISMATCH KV_MISALIGNMENT a.greta.yaml:6 bad_2 *", "baseline: *1 worse*", said])


def test_another_version_is_said_and_compared(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(made, 'version: "1.0"', 'version: "0.9"')
    monkeypatch.setenv("GRETA_TEST_RHO", "0.75")
    result = made.run(*MADE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["since the baseline (version: 0.9 -> 1.0): 2 probes, compared all the same"])


def test_a_probe_without_an_entry_is_named(made: Project) -> None:
    result = made.cases(case("rho_1"), case("ok_2"), case("ok_3")).run(*MADE)
    result.assert_outcomes(passed=3)
    said = "not in the baseline: 1 (ok_3 kv_aligned), not compared; --greta-update-baseline adds them"
    result.stdout.fnmatch_lines([said])


STALE = "base.yaml: entries that no case answers to: 1 (a.greta.yaml::gone_2::kv_aligned); *"
PARTS = (["-k", "rho"], ["a.greta.yaml::rho_1"], ["-m", "kv_aligned"], ["--deselect", "a.greta.yaml::ok_2"])


@pytest.mark.parametrize("args", PARTS)
def test_a_partial_run_calls_nothing_stale_and_keeps_the_others(made: Project, args: list[str]) -> None:
    edit(made, "ok_2", "gone_2")
    made.run(*MADE, *args).stdout.no_fnmatch_line("*no case answers to*")
    made.run(*UPDATE, *args).stdout.fnmatch_lines(["base.yaml written: * 0 removed)"])
    assert "gone_2" in base(made).read_text()


def test_a_shard_and_a_run_that_stops_call_nothing_stale(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(made, "ok_2", "gone_2")
    made.cases(case("bad_1"), case("rho_1")).run(*MADE, "-x").stdout.no_fnmatch_line("*no case answers to*")
    monkeypatch.setenv("GRETA_SHARD", "1/2")
    made.run(*MADE).stdout.no_fnmatch_line("*no case answers to*")


def test_a_whole_run_names_stale_entries_and_an_update_removes_them(made: Project) -> None:
    edit(made, "ok_2", "gone_2")
    result = made.run(*MADE, "-q")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([STALE])
    made.run(*UPDATE).stdout.fnmatch_lines(
        [
            "base.yaml written: 2 entries (1 new, 0 changed, 1 removed)",
            "  a.greta.yaml::ok_2::kv_aligned: new, PASS ALIGNED",
            "  a.greta.yaml::gone_2::kv_aligned: removed, was PASS ALIGNED",
        ]
    )
    made.run(*MADE).stdout.no_fnmatch_line("*no case answers to*")


def test_a_suite_of_two_files_of_which_one_is_run(made: Project) -> None:
    made.cases(case("ok_3"), file="b.greta.yaml")
    made.run(*UPDATE, "b.greta.yaml").stdout.fnmatch_lines(["base.yaml written: 3 entries (1 new, 0 changed, 0 *"])
    made.run(*MADE, "b.greta.yaml").stdout.no_fnmatch_line("*no case answers to*")


def test_old_against_new_whatever_the_verbosity(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRETA_TEST_RHO", "0.75")
    edit(made, "PASS ALIGNED", "PASS STRUCTURAL_DRIFT\n    finding: SCHEDULE\n    rho: {lse: 0.3}")
    result = made.run(*UPDATE, "-q")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "base.yaml written: 2 entries (0 new, 2 changed, 0 removed)",
            "  a.greta.yaml::ok_2::kv_aligned",
            "    verdict: PASS STRUCTURAL_DRIFT SCHEDULE -> PASS ALIGNED",
            "    rho of lse: 0.3 -> 0, narrower",
            "  a.greta.yaml::rho_1::kv_aligned",
            "    rho of o_proj: 0.15 -> 0.8, wider",
        ]
    )
    made.run(*MADE).assert_outcomes(passed=2)


def test_what_fails_or_has_a_planted_fault_is_not_recorded(made: Project) -> None:
    fault = "inject: {fault: gain, stage: o_proj}"
    before = base(made).read_text()
    made.cases(case("rho_1", "expect: KV_MISMATCH"), case("bad_2"), case("ok_3", fault), case("nomodel_4"))
    result = made.run(*UPDATE, "-k", "rho or bad or ok or nomodel")
    result.assert_outcomes(passed=1, failed=2, skipped=1)
    result.stdout.fnmatch_lines(["base.yaml: nothing was recorded*it stays as it was"])
    assert base(made).read_text() == before


def test_a_mismatch_at_a_later_seed_fails_the_case_and_names_the_seed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.conftest(
        """
from dataclasses import replace
plain = module.run_probe
def run_probe(probe, settings):
    result = plain(probe, settings)
    wrong = probe.settings["seed"] == 4
    return replace(result, verdict=module._bad("kv_aligned"), outcome="failed") if wrong else result
module.run_probe = run_probe
"""
    )
    result = project.cases(case("rho_1")).run(*UPDATE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["KV_MISMATCH KV_MISALIGNMENT *", "*pytest a.greta.yaml::rho_1::kv_aligned *--greta-seed=4"]
    )
    assert not base(project).exists()


def test_two_workers_give_the_same_file_and_the_same_failure(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist")
    alone = base(made).read_text()
    base(made).unlink()
    made.run_apart("-n", "2", *UPDATE).assert_outcomes(passed=2)
    assert base(made).read_text() == alone
    monkeypatch.setenv("GRETA_TEST_RHO", "0.75")
    result = made.run_apart("-n", "2", *MADE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["DRIFT_REGRESSION (PASS STRUCTURAL_DRIFT) * layer 3 stage o_proj decode"])
    assert base(made).read_text() == alone
    edit(made, "ok_2", "gone_2")
    made.run_apart("-n", "2", *MADE).stdout.fnmatch_lines([STALE])
    made.run_apart("-n", "2", *MADE, "-k", "rho").stdout.no_fnmatch_line("*no case answers to*")
    made.run_apart("-n", "2", *UPDATE, "-k", "ok").stdout.fnmatch_lines(["base.yaml written: 3 entries (1 new, 0 *"])


def test_a_folder_holds_one_file_a_suite(project: Project) -> None:
    project.cases(case("ok_1")).cases(case("ok_1"), file="b.greta.yaml", suite=SUITE.replace("demo", "other/x"))
    both = project.run(*UPDATE)
    assert both.ret == pytest.ExitCode.USAGE_ERROR
    both.stderr.fnmatch_lines(["*a file holds one suite, and this is a run of demo, other/x*"])
    project.run("--greta-baseline=kept", "--greta-update-baseline").assert_outcomes(passed=2)
    names = sorted(file.name for file in (project.path / "kept").iterdir())
    assert names == ["demo.baseline.yaml", "other%2Fx.baseline.yaml"]
    project.run("--greta-baseline=kept", "--greta-lang=en").stdout.fnmatch_lines(["baseline: 2 probes compared, 0 *"])
    (project.path / "kept/demo.baseline.yaml").replace(project.path / "kept/other%2Fx.baseline.yaml")
    moved = project.run("--greta-baseline=kept", "--greta-update-baseline", "--greta-lang=en")
    assert moved.ret == pytest.ExitCode.USAGE_ERROR
    moved.stderr.fnmatch_lines(["*a file holds one suite*(in kept/other%2Fx.baseline.yaml: demo)*"])


def test_an_interrupted_update_records_what_ran_and_keeps_the_rest(made: Project) -> None:
    edit(made, "ok_2", "gone_2")
    result = made.cases(case("rho_1"), case("ok_3"), case("interrupt_4"), case("ok_5")).run_apart(*UPDATE)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["base.yaml written: 3 entries (1 new, 0 changed, 0 removed)"])
    assert {name for name in ("rho_1", "gone_2", "ok_3") if f"::{name}::" in base(made).read_text()} == {
        "rho_1",
        "gone_2",
        "ok_3",
    }


def test_the_ini_file_names_it_and_collecting_writes_nothing(made: Project) -> None:
    made.ini("greta_baseline = base.yaml")
    made.run("--greta-lang=en").stdout.fnmatch_lines(["baseline: 2 probes compared, 0 worse, 0 better"])
    base(made).unlink()
    made.run("--collect-only", "--greta-update-baseline", "--greta-artifacts=out")
    assert not base(made).exists()


# ------------------------------------------------------------------------------------------------- wrong files

TOP = "schema: 1\nsuite: demo\nprobes:\n"
ENTRY = "  - {probe: 'a.greta.yaml::one::kv_aligned', verdict: PASS ALIGNED"
HOSTILE = {
    "no YAML": ("schema: 1\nsuite: [", "base.yaml:2:*"),
    "JSON": ('{"schema": 1, "suite": "demo", "probes": {}}', "base.yaml:1:42: expected a list, got a mapping"),
    "nothing": ("", "base.yaml:1:1: *"),
    "another version": ("schema: 2\nsuite: demo\nprobes: []\n", "base.yaml:1:9: schema 2 is not known; expected 1*"),
    "true": ("schema: true\nsuite: demo\nprobes: []\n", "base.yaml:1:9: schema true is not known*"),
    "a key lacks": ("schema: 1\nprobes: []\n", "base.yaml:1:1: the key suite is missing"),
    "a key twice": ("schema: 1\nsuite: demo\nsuite: demo\nprobes: []\n", "base.yaml:3:1: *suite*line 2*"),
    "a typo": ("schema: 1\nsuite: demo\nprobe: []\n", "base.yaml:3:1: *'probe'*did you mean probes?"),
    "a probe twice": (f"{TOP}{ENTRY}}}\n{ENTRY}}}\n", "base.yaml:5:*twice*line 4*"),
    "a list": (f"{TOP}{ENTRY}, rho: []}}\n", "base.yaml:4:*expected a mapping, got a list"),
    "NaN": (f"{TOP}{ENTRY}, rho: {{lse: .nan}}}}\n", "base.yaml:4:*finite number*got nan"),
    "-1": (f"{TOP}{ENTRY}, rho: {{lse: -1}}}}\n", "base.yaml:4:*finite number*got -1"),
    "text": (f"{TOP}{ENTRY}, rho: {{lse: '1'}}}}\n", "base.yaml:4:*finite number*got '1'"),
    "a seed": (f"{TOP}{ENTRY}, seeds: [x]}}\n", "base.yaml:4:*a whole number, got 'x'"),
    "a verdict": (f"{TOP}  - {{probe: p, verdict: FINE}}\n", "base.yaml:4:*a status (PASS,*'FINE'"),
    "a finding": (f"{TOP}{ENTRY}, finding: NO}}\n", "base.yaml:4:*one of NONE,*got 'NO'"),
    "bytes": ("schema: 1\nsuite: \udcff\nprobes: []\n", "base.yaml:2:8: *"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_wrong_file_is_one_message_with_its_line(project: Project, kind: str) -> None:
    text, said = HOSTILE[kind]
    data = text.encode("utf-8", "surrogateescape")
    project.cases(case("ok_1"))
    base(project).write_bytes(data)
    result = project.run(*(MADE if len(kind) % 2 else UPDATE))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --greta-baseline: *{said}"])
    assert len([line for line in result.errlines if line]) == 1
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert base(project).read_bytes() == data, "as it was"


def test_a_wrong_file_is_said_once_by_two_workers(project: Project) -> None:
    pytest.importorskip("xdist")
    project.cases(case("ok_1"))
    base(project).write_text("schema: 2\nsuite: demo\nprobes: []\n")
    result = project.run_apart("-n", "2", *MADE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("schema 2 is not known") == 1


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "absent": (lambda _: None, "--greta-baseline=base.yaml", "--greta-baseline: there is no baseline at base.yaml; *"),
    "unnamed": (lambda _: None, "--greta-update-baseline", "--greta-update-baseline: *without --greta-baseline=FILE"),
    "folder": (lambda p: (p / "b.yaml").mkdir(), "--greta-baseline=b.yaml", "--greta-baseline: b.yaml is a folder; *"),
    "file": (lambda p: (p / "kept").touch(), "--greta-baseline=kept", "--greta-baseline: kept is a file; *"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_use_is_one_message(project: Project, kind: str) -> None:
    prepare, arg, said = WRONG[kind]
    prepare(project.path)
    result = project.cases(case("ok_1")).run(arg, "--greta-lang=en")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_a_file_of_another_suite_compares_nothing_and_is_not_overwritten(made: Project) -> None:
    edit(made, "suite: demo", "suite: other")
    made.run(*MADE).stdout.fnmatch_lines(["not in the baseline: 2 (rho_1 kv_aligned, ok_2 kv_aligned), *"])
    result = made.run(*UPDATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a file holds one suite*demo (in base.yaml: other)*"])


FULL = """
import pytest, resource
@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""


def test_a_full_disk_leaves_the_old_file_and_a_red_exit_code(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRETA_TEST_RHO", "0.75")
    before = base(made).read_text()
    result = made.conftest(FULL).run_apart("-p", "no:xdist", *UPDATE)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*cannot write *base.yaml: *another --greta-baseline"])
    result.stdout.no_fnmatch_line("base.yaml written*")
    assert base(made).read_text() == before
    assert [file for file in made.path.iterdir() if file.suffix == ".tmp"] == []


def test_a_folder_that_cannot_be_written(project: Project) -> None:
    args = ("--greta-baseline=/proc/none/base.yaml", "--greta-update-baseline", "--greta-lang=en")
    result = project.cases(case("ok_1")).run(*args)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*cannot write /proc/none*--greta-baseline"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


# ------------------------------------------------------------------------------------------------- real probes


@pytest.fixture
def real(project: Project) -> Project:
    """The same without the stub; one layer is looked at."""
    project.pytester.makeconftest("")
    return project


def one(fault: str = "", *more: str) -> str:
    return case(
        "one", "layers: [3]", *([f"inject: {{fault: gain, stage: o_proj, layer: 3, {fault}}}"] if fault else []), *more
    )


def test_a_planted_gain_is_named(real: Project) -> None:
    """1e-5 is within the bound, 1e-4 is not. The mode as_designed stands for a verdict without any rho."""
    quick = ("--greta-canary=off", "-p", "no:xdist", *QUIET[:4])
    two = case("two", "layers: [3]", "mode: as_designed")
    real.cases(one(), two).run(*UPDATE, *quick).assert_outcomes(passed=2)
    text = base(real).read_text()
    assert re.search(r"^      o_proj: 0\.0\d+$", text, re.MULTILINE)
    assert "      decode: 64 splits 2, p f32\n" in text
    assert str(real.path) not in text, "no path of this machine"
    real.run(*MADE, *quick).stdout.fnmatch_lines(["baseline: 2 probes compared, 0 worse, 0 better"])

    result = real.cases(one("magnitude: 1e-5"), two).run(*MADE, *quick)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["DRIFT_REGRESSION (PASS STRUCTURAL_DRIFT) * layer 3 stage o_proj decode"])
    result = real.cases(one("magnitude: 1e-4"), two).run(*MADE, *quick)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["KV_MISMATCH REAL_MISMATCH * layer 3 stage o_proj decode", "*worse than the baseline*rho of o_proj*"]
    )


def test_bytes_that_are_promised_are_kept_and_compared(real: Project) -> None:
    quick = ("--greta-canary=off", "-p", "no:xdist", *QUIET[:4])
    real.cases(case("one", "layers: [3]", "mode: as_designed", "gemm: rowwise", "contract: {bitwise: true}"))
    real.run(*UPDATE, *quick).assert_outcomes(passed=1)
    found = re.search(r"      attn_out: \[(\S+)\]", base(real).read_text())
    assert found is not None
    edit(real, f"attn_out: [{found[1]}]", 'attn_out: ["00000000"]')
    result = real.run(*MADE, *quick)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["DRIFT_REGRESSION (PASS ALIGNED) * layer 3 stage attn_out *"])
    edit(real, "version: 0.1.0", "version: 0.0.9")
    real.run(*MADE, *quick).assert_outcomes(passed=1)
