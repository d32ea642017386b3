"""``--greta-report``: what GitHub and GitLab are given, with hostile ids, many failures, crashed workers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from greta_project import Project, case

from pytest_greta.report import github
from pytest_greta.report.gitlab import code_quality
from tests.support import results as samples
from tests.support.results import result as probe_result


@pytest.fixture
def forge(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The step summary's file."""
    folder = tmp_path_factory.mktemp("forge")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.delenv("CI_PROJECT_DIR", raising=False)
    return folder / "summary.md"


def commands(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("::")]


def test_failures_are_annotated_at_their_line_and_summed_up(project: Project, forge: Path) -> None:
    project.cases(case("ok_1"), case("bad_2"), case("boom_4"))
    result = project.run("--greta-report", "github", "-q")
    found = commands(result)
    assert len(found) == 2
    assert re.match(
        r"::error file=a\.greta\.yaml,line=6,title=KV_MISMATCH KV_MISALIGNMENT%3A bad_2 kv_aligned::", found[0]
    )
    assert "line=9,title=INCONCLUSIVE%3A boom_4" in found[1]
    text = forge.read_text()
    assert text.index("bad_2") < text.index("boom_4") < text.index("ok_1")  # worst first
    assert "probes: 3 (1 passed, 2 failed, 0 not run)" in text
    assert text.count("<details>") == 2


def test_nothing_for_a_forge_unless_asked_for(project: Project, forge: Path) -> None:
    result = project.cases(case("bad_2")).run()
    assert commands(result) == []
    assert not forge.exists()


def test_paths_start_at_the_workspace(project: Project, forge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))
    (command,) = commands(project.cases(case("bad_2")).run("--greta-report=github"))
    assert f"file={project.path.name}/a.greta.yaml,line=3" in command


def test_a_summary_is_added_to_what_is_there(project: Project, forge: Path) -> None:
    forge.write_text("# before\n")
    project.cases(case("ok_1")).run("--greta-report=github")
    assert forge.read_text().startswith("# before\n## pytest-greta\n")


def test_without_the_variable_it_says_so(project: Project, forge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    result = project.cases(case("bad_2")).run("--greta-report=github")
    assert len(commands(result)) == 1
    assert project.cases(case("ok_1")).run("--greta-report=github").ret == 0, "a remark, not a failure"
    result.stdout.fnmatch_lines(["--greta-report github: GITHUB_STEP_SUMMARY is not set*"])


def test_a_summary_that_cannot_be_written_is_said_and_changes_no_verdict(
    project: Project, forge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(forge.parent))
    result = project.cases(case("ok_1")).run("--greta-report=github", "-q", "--greta-lang=en")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["--greta-report github: *Is a directory", "what was asked for could not be written*exit code 1*"]
    )


def test_a_crashed_worker_is_annotated_and_has_properties(project: Project, forge: Path) -> None:
    project.cases(case("ok_1"), case("segv_2"))
    result = project.run_apart("-n", "1", "--greta-report=github", "--junitxml=j.xml")
    (command,) = commands(result)
    assert re.match(r"::error file=a\.greta\.yaml,line=6,title=INCONCLUSIVE%3A segv_2 kv_aligned::", command)
    assert 'name="verdict" value="INCONCLUSIVE"' in (project.path / "j.xml").read_text()


def test_ten_errors_at_most_and_the_rest_is_counted(project: Project, forge: Path) -> None:
    project.cases(*(case(f"bad_{i}") for i in range(12)))
    found = commands(project.run("--greta-report=github"))
    assert len(found) == 10
    assert "3 more failures" in found[-1]


def test_ids_cannot_write_commands() -> None:
    evil = probe_result(case="a%0A::stop-commands::x\n::error::y,z:", outcome="failed", where="d/a:b,c.greta.yaml:7")
    (line,) = github.commands([evil], "en", Path("/w"), None)
    assert "\n" not in line
    assert line.startswith("::error file=d/a%3Ab%2Cc.greta.yaml,line=7,title=")
    assert line.count("::") == 2
    assert "%250A" in line


def test_a_summary_of_ten_thousand_fits_and_says_what_it_left_out() -> None:
    many = [probe_result(case=f"case_{i:05d}" + "x" * 60, outcome="failed") for i in range(10_000)]
    text = github.step_summary(many, "both")
    assert len(text.encode()) <= github.MOST_BYTES
    assert re.search(r"\d+ more rows did not fit", text)
    assert "\n| " in text


@pytest.mark.parametrize("taken", [900_000, 2**20 - 9_000])
def test_two_runs_in_one_step_share_its_limit(taken: int) -> None:
    many = [probe_result(case=f"case_{i:05d}" + "x" * 60, outcome="failed") for i in range(10_000)]
    text = github.step_summary(many, "both", taken)
    assert text
    assert taken + len(text.encode()) <= 2**20
    assert re.search(r"\d+ more rows did not fit", text)


def test_a_full_summary_is_left_as_it_is_and_said(project: Project, forge: Path) -> None:
    forge.write_bytes(b"x" * 2**20)
    result = project.cases(case("bad_2")).run("--greta-report=github")
    assert forge.stat().st_size == 2**20
    result.stdout.fnmatch_lines(["--greta-report github: no room left in *"])
    assert len(commands(result)) == 1


def issues(project: Project) -> list[dict]:
    return json.loads((project.path / "out/gl-code-quality-report.json").read_text())


def test_gitlab_is_given_a_code_quality_report(project: Project, forge: Path) -> None:
    project.cases(case("ok_1"), case("bad_2"), case("boom_4"))
    project.run("--greta-report", "gitlab", "--greta-artifacts", "out")
    first, second = issues(project)
    assert (first["severity"], second["severity"]) == ("critical", "major")
    assert first["location"] == {"path": "a.greta.yaml", "lines": {"begin": 6}}
    assert first["check_name"] == "greta.kv_aligned"
    assert first["description"].startswith("KV_MISMATCH KV_MISALIGNMENT: bad_2 kv_aligned: ")
    again = first["fingerprint"]
    project.run("--greta-report", "gitlab", "--greta-artifacts", "out")
    assert issues(project)[0]["fingerprint"] == again != second["fingerprint"]
    project.run("--greta-report", "gitlab", "--greta-artifacts", "out", "-k", "ok_1")
    assert issues(project) == []


@pytest.mark.parametrize("value", ["githb", "github,", "md", ""])
def test_an_unknown_report_is_a_usage_error(project: Project, value: str) -> None:
    result = project.cases(case("ok_1")).run(f"--greta-report={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--greta-report: unknown report*github,gitlab*"])


def test_two_probes_of_one_test_are_two_issues() -> None:
    results = [probe_result(case=case, nodeid="test_x.py::test", outcome="failed") for case in ("test", "test.1")]
    found = json.loads(code_quality(results, "en", Path(), None))
    assert len({issue["fingerprint"] for issue in found}) == 2


@pytest.mark.parametrize("name", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
def test_hostile_ids_end_no_command_and_open_no_tag(name: str) -> None:
    results = [samples.mismatch(name, where=f"{name}:3", nodeid=name)]
    for command in github.commands(results, "en", Path(), None):
        assert command.startswith("::error ")
        assert command.isprintable()
        assert command.count("::") == 2 or "::" in name
    shown = github.step_summary(results, "both")
    assert "<script>" not in re.sub(r"(?<![`\\])(`+)(?!`).*?(?<!`)\1(?!`)", "", shown, flags=re.DOTALL), "but in code"
    assert all(c.isprintable() for c in shown.replace("\n", ""))
    (issue,) = json.loads(code_quality(results, "both", Path(), None))
    assert all(value.isprintable() for value in (issue["description"], issue["location"]["path"]))
