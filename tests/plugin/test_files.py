"""What is written with ``--greta-artifacts``, where, and what is said where it cannot be."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from greta_project import SUITE, Project, case


def files(folder: Path) -> set[str]:
    return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}


def test_nothing_is_written_unless_asked_for(project: Project) -> None:
    project.cases(case("ok_1"), case("bad_2"))
    before = files(project.path)
    project.run("-p", "no:cacheprovider")
    assert {f for f in files(project.path) - before if not f.endswith(".pyc")} == set()


def test_one_folder_a_suite_and_run(project: Project) -> None:
    project.cases(case("ok_1"), case("bad_2", "matrix: {dtype: [bf16]}"))
    project.cases(case("ok_1"), file="sub/b.greta.yaml", suite=SUITE.replace("demo", "other"))
    project.run("--greta-artifacts", "out")
    day = project.path / "out" / datetime.date.today().isoformat()
    assert files(day) == {
        "demo/results.jsonl",
        "demo/DEMO_FINAL_REPORT.md",
        "demo/DEMO_ANALYSIS.tsv",
        "demo/run/ok_1_kv_aligned.log",
        "demo/run/bad_2_kv_aligned-bf16.log",
        "other/results.jsonl",
        "other/OTHER_FINAL_REPORT.md",
        "other/OTHER_ANALYSIS.tsv",
        "other/run/ok_1_kv_aligned.log",
    }
    assert "KV_MISMATCH" in (day / "demo/DEMO_FINAL_REPORT.md").read_text()
    assert "KV_MISMATCH" not in (day / "other/OTHER_FINAL_REPORT.md").read_text()
    log = (day / "demo/run/bad_2_kv_aligned-bf16.log").read_text()
    assert "start a.greta.yaml:6" in log
    assert "KV_MISMATCH KV_MISALIGNMENT" in log

    project.run("--greta-artifacts", "out", "-k", "ok_1", "a.greta.yaml")
    assert sorted(f.name for f in day.iterdir()) == ["demo", "demo.2", "other"]


def test_the_summary_says_where(project: Project) -> None:
    result = project.cases(case("ok_1")).run("--greta-artifacts", "out")
    result.stdout.fnmatch_lines(["escrito en out/20*/demo", "written to out/20*/demo"])


@pytest.mark.parametrize("args", [["-k", "nothing"], ["-m", "fault"]])
def test_no_folder_where_no_case_is_run(project: Project, args: list[str]) -> None:
    project.cases(case("ok_1")).run("--greta-artifacts", "out", *args)
    assert not (project.path / "out").exists()


def test_no_folder_where_collection_failed(project: Project) -> None:
    project.cases(case("ok_1"), file="b.greta.yaml").cases(case("ok_1", "nonsense: 1"))
    project.run("--greta-artifacts", "out")
    assert not (project.path / "out").exists()


@pytest.mark.parametrize("where", ["option", "ini"])
def test_a_folder_that_cannot_be_written_is_a_usage_error(project: Project, where: str) -> None:
    project.pytester.makepyfile("def test_other(): pass")
    (project.path / "taken").write_text("a file")
    args = ["--greta-artifacts", "taken"] if where == "option" else []
    if where == "ini":
        project.ini("greta_artifacts = taken")
    project.run(*args).assert_outcomes(passed=1)
    result = project.cases(case("ok_1")).run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    source = "--greta-artifacts" if where == "option" else "ini greta_artifacts"
    result.stderr.fnmatch_lines([f"ERROR: {source}: *taken*"])
    result.stdout.no_fnmatch_line("*passed*")


def test_a_disk_that_fails_later_costs_no_verdict(project: Project) -> None:
    project.conftest(
        """
def pytest_runtest_setup(item):
    import shutil, pathlib
    for folder in pathlib.Path(item.config.rootpath, "out").glob("*/*"):
        shutil.rmtree(folder)
"""
    )
    result = project.cases(case("ok_1"), case("bad_2")).run("--greta-artifacts", "out")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*results.jsonl*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    passing = project.cases(case("ok_1")).run("--greta-artifacts", "out", "-q", "--greta-lang=en")
    passing.assert_outcomes(passed=1)
    assert passing.ret == pytest.ExitCode.TESTS_FAILED
    passing.stdout.fnmatch_lines(["*results.jsonl*", "what was asked for could not be written*exit code 1*"])


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_collect_only_writes_what_would_run(project: Project, workers: tuple[str, ...]) -> None:
    project.cases(case("ok_1"), case("bad_2"))
    run = project.run_apart if workers else project.run
    result = run("--collect-only", "--greta-artifacts=out", *workers)
    assert result.ret == 0
    (report,) = (project.path / "out").rglob("*_FINAL_REPORT.md")
    text = report.read_text("utf-8")
    assert "**Status / Estado**: PREPARED_FOR_EXECUTION (0 / 2)" in text
    assert "hay 2 sondas listas" in text
    assert "2 probes are ready" in text
    assert "pytest a.greta.yaml::bad_2::kv_aligned" in text
    assert not list((project.path / "out").rglob("results.jsonl"))
    result.stdout.fnmatch_lines(["written to out/*"])


def test_collect_only_without_a_folder_writes_nothing(project: Project) -> None:
    project.cases(case("ok_1"))
    assert project.run("--collect-only").ret == 0
    assert not list(project.path.rglob("*_FINAL_REPORT.md"))
