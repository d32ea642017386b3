"""What a probe's result does to its pytest item, to the summary and to the exit code."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from greta_project import Project, case

FINDS_IT = "expect: {status: KV_MISMATCH, first_failure: {layer: 3, stage: q_rope}}"


def test_a_mismatch_fails_with_its_verdict_on_the_first_and_the_last_line(project: Project) -> None:
    result = project.cases(case("ok_1"), case("bad_2")).run()
    result.assert_outcomes(passed=1, failed=1)
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if line.startswith("___") and "bad_2::kv_aligned" in line)
    text = lines[start + 1 : next(i for i, line in enumerate(lines) if i > start and line.startswith("==="))]
    assert text[0].startswith(
        "KV_MISMATCH KV_MISALIGNMENT a.greta.yaml:6 bad_2 kv_aligned: layer 3 stage q_rope decode"
    )
    assert text[-1].startswith("KV_MISMATCH KV_MISALIGNMENT")
    assert "    pytest a.greta.yaml::bad_2::kv_aligned" in text
    assert not any(".py" in line for line in text)


def test_the_line_that_reproduces_a_failure_carries_the_settings(project: Project) -> None:
    (project.path / "my model.gguf").touch()
    result = project.cases(case("bad_2")).run("--greta-seed", "7", "--greta-model", "my model.gguf")
    result.stdout.fnmatch_lines(
        ["*pytest a.greta.yaml::bad_2::kv_aligned --greta-model=*'*/my model.gguf' --greta-seed=7"]
    )


@pytest.mark.parametrize("args", [["-p", "no:xdist"], ["-n", "1"]])
def test_paths_are_those_of_the_folder_where_pytest_was_started(
    project: Project, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    project.ini().cases(case("bad_1"), case("segv_2") if "-n" in args else case("boom_2"), file="sub/a.greta.yaml")
    monkeypatch.chdir(project.path / "sub")
    result = project.run_apart(*args)
    result.stdout.fnmatch_lines_random(
        [
            "KV_MISMATCH KV_MISALIGNMENT a.greta.yaml:3 bad_1 kv_aligned*",
            "INCONCLUSIVE a.greta.yaml:6 *_2 kv_aligned*",
            "*pytest a.greta.yaml::bad_1::kv_aligned",
            "*pytest a.greta.yaml::*_2::kv_aligned" + (" -n 1" if "-n" in args else ""),
        ]
    )


def test_a_fault_that_is_found_passes(project: Project) -> None:
    project.cases(case("bad_1", FINDS_IT), case("ok_2", FINDS_IT)).run().assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize(("lang", "has", "lacks"), [("en", "probes: 1", "sondas: 1"), ("es", "sondas: 1", "probes: 1")])
def test_one_language(project: Project, lang: str, has: str, lacks: str) -> None:
    shown = project.cases(case("ok_1")).run("--greta-lang", lang).stdout.str()
    assert has in shown
    assert lacks not in shown


def test_x_stops_at_the_first(project: Project) -> None:
    project.cases(case("bad_1"), case("ok_2")).run("-x").assert_outcomes(failed=1)


def test_last_failed_and_stepwise(project: Project) -> None:
    project.cases(case("ok_1"), case("bad_2"), case("ok_3"), case("bad_4"))
    project.run().assert_outcomes(passed=2, failed=2)
    result = project.run("--lf", "-v")
    result.assert_outcomes(failed=2)
    project.run("--sw").assert_outcomes(passed=1, failed=1)
    result = project.run("--sw", "-v")
    result.assert_outcomes(failed=1, deselected=1)
    project.run("--ff", "-v").stdout.fnmatch_lines(["*bad_2::*", "*bad_4::*", "*ok_1::*"])


@pytest.mark.parametrize("name", ["p_1", "a b", "ok_é", "ok_1=2"])
def test_last_failed_whatever_the_id(project: Project, name: str) -> None:
    ids = project.cases(case(f'"bad_{name}"')).run("-q", "--co")
    if ids.ret != 0:
        pytest.xfail("the loader refuses the id")
    project.run().assert_outcomes(failed=1)
    project.run("--lf").assert_outcomes(failed=1)


# ------------------------------------------------------------------------------------------------- not run


def test_what_is_missing_is_a_skip_at_the_line_of_the_case(project: Project) -> None:
    result = project.cases(case("ok_1"), case("nomodel_2"), case("nolib_3"), case("nofeature_4")).run("-rs")
    result.assert_outcomes(passed=1, skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "SKIPPED [[]1[]] a.greta.yaml:6: no ejecutado (model): el modelo tiny no está en the cache; "
            "para remediarlo: greta model pull tiny / "
            "not run (model): model tiny is not in the cache; to mend it: greta model pull tiny",
            "SKIPPED [[]1[]] a.greta.yaml:9: no ejecutado (library): no native library; "
            "para remediarlo: reinstall pytest-greta / "
            "not run (library): no native library; to mend it: reinstall pytest-greta",
            "SKIPPED [[]1[]] a.greta.yaml:12: no ejecutado (feature): no admite softcap (library mine has none) / "
            "not run (feature): unsupported softcap (library mine has none)",
        ]
    )
    result.stdout.fnmatch_lines(["*3 not run*"])


@pytest.mark.parametrize("name", ["skip_2", "xfail_2"])
def test_a_backend_that_skips_by_pytest_fails_its_case(project: Project, name: str) -> None:
    """Else the case were in no summary, and the run green."""
    result = project.cases(case("ok_1"), case(name)).run("--greta-lang", "en")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"INCONCLUSIVE a.greta.yaml:6 {name} kv_aligned", "*probes: 2 (1 passed, 1 failed*"])
    said = " ".join(result.stdout.str().split())
    assert "stub_probe.py:" in said
    assert "a backend skips no case by pytest: for what it cannot run it raises BackendMissing" in said


@pytest.mark.parametrize("option", ["--setup-only", "--setup-plan"])
def test_a_run_that_runs_no_case_is_not_green(project: Project, option: str) -> None:
    project.cases(case("ok_1"), case("bad_2"))
    assert project.run(option).ret == pytest.ExitCode.TESTS_FAILED
    assert project.run(option, "--greta-allow-empty").ret == pytest.ExitCode.OK


def test_the_summary_counts_what_was_not_run_with_the_command_that_mends_it(project: Project) -> None:
    result = project.cases(case("ok_1"), case("nomodel_2"), case("nomodel_3")).run("--greta-lang", "en")
    result.stdout.fnmatch_lines(["*not run: 2*model tiny is not in the cache*", "*greta model pull tiny*"])


@pytest.mark.parametrize(
    ("require", "failed"), [("model", 1), ("library,device", 1), ("all", 2), ("extra", 0), ("model, library", 2)]
)
@pytest.mark.parametrize("where", ["option", "ini"])
def test_require(project: Project, require: str, failed: int, where: str) -> None:
    project.cases(case("ok_1"), case("nomodel_2"), case("nolib_3"))
    args = ["--greta-require", require] if where == "option" else []
    if where == "ini":
        project.ini(f"greta_require = {require}")
    result = project.run(*args)
    result.assert_outcomes(passed=1, failed=failed, skipped=2 - failed)
    assert result.ret == (1 if failed else 0)
    if "model" in require:
        result.stdout.fnmatch_lines(
            [
                "INCONCLUSIVE*a.greta.yaml:6*",
                "*el modelo tiny no está en the cache; greta model*",
                "*model tiny is not in the cache; greta model*",
            ]
        )


def test_when_nothing_could_be_run_the_exit_code_is_1(project: Project) -> None:
    project.cases(case("nomodel_1"), case("nomodel_2"))
    result = project.run()
    result.assert_outcomes(skipped=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["no se ejecutó*", "no selected case was run: exit code 1*"])


@pytest.mark.parametrize("where", ["option", "ini"])
def test_unless_that_is_allowed(project: Project, where: str) -> None:
    project.cases(case("nomodel_1"))
    if where == "ini":
        project.ini("greta_allow_empty = true")
    result = project.run(*(["--greta-allow-empty"] if where == "option" else []))
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*exit code 1*")


def test_ordinary_tests_do_not_hide_that_no_case_was_run(project: Project) -> None:
    project.pytester.makepyfile("def test_other(): pass")
    result = project.cases(case("nomodel_1")).run()
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 1


def test_a_project_without_cases_is_left_alone(project: Project) -> None:
    project.pytester.makepyfile("import pytest\ndef test_other(): pytest.skip('no')")
    result = project.run()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*greta =*")


# ------------------------------------------------------------------------------------------------- exceptions


def test_an_exception_of_a_backend_is_inconclusive_and_fails(project: Project) -> None:
    result = project.cases(case("boom_1"), case("ok_2")).run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "INCONCLUSIVE a.greta.yaml:3 boom_1 kv_aligned",
            "*RuntimeError: the backend exploded (*stub_probe.py:*)",
        ]
    )
    assert sum("the backend exploded" in line for line in result.stdout.lines if "motivo" in line) == 1, "one reason"
    result.stdout.no_fnmatch_line("Traceback*")


@pytest.mark.parametrize("option", ["-vv", "--tb=long"])
def test_its_traceback_is_there_for_who_asks(project: Project, option: str) -> None:
    result = project.cases(case("boom_1")).run(option)
    result.stdout.fnmatch_lines(["Traceback*", "*stub_probe.py*", "RuntimeError: the backend exploded"])


def test_an_exception_is_never_what_a_case_expects(project: Project) -> None:
    expects = "expect: {status: INCONCLUSIVE, reason: exploded}"
    project.cases(case("boom_1", expects)).run().assert_outcomes(failed=1)


def test_a_case_that_asks_for_the_impossible_says_so_without_a_traceback(project: Project) -> None:
    result = project.cases(case("badcase_1")).run("-vv")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*x.greta.yaml:7:1: capa 99: el modelo tiny tiene las capas 0 a 5",
            "*x.greta.yaml:7:1: layer 99: model tiny has layers 0 to 5",
        ]
    )
    result.stdout.no_fnmatch_line("Traceback*")


# ------------------------------------------------------------------------------------------------- reports


def junit(project: Project, *args: str) -> dict[str, dict[str, str]]:
    project.run("--junitxml=j.xml", *args)
    tree = ElementTree.parse(project.path / "j.xml")
    return {
        f"{test.get('classname')}::{test.get('name')}": {
            p.attrib["name"]: p.attrib["value"] for p in test.iter("property")
        }
        for test in tree.iter("testcase")
    }


def test_junit_properties(project: Project) -> None:
    project.cases(case("ok_1"), case("bad_2"), case("nomodel_3"))
    found = junit(project)
    assert found == {
        "a.greta.yaml.ok_1::kv_aligned": {"verdict": "PASS", "scenario": "ALIGNED", "rho": "0.25"},
        "a.greta.yaml.bad_2::kv_aligned": {
            "verdict": "KV_MISMATCH",
            "scenario": "KV_MISALIGNMENT",
            "stage": "layer 3 q_rope",
            "rho": "412",
        },
        "a.greta.yaml.nomodel_3::kv_aligned": {"not_run": "model"},
    }


def test_numpy_scalars_never_leave_an_item(project: Project) -> None:
    project.cases(case("numpy_1"))
    items: list[pytest.TestReport] = []

    class Spy:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            items.append(report)

    project.pytester.inline_run(plugins=[Spy()])
    (line,) = next(report.greta for report in items if hasattr(report, "greta"))
    assert type(json.loads(line)["verdict"]["rho"]) is float


@pytest.mark.parametrize(("args", "shown"), [([], True), (["-q"], True), (["-qq"], False)])
def test_quiet_is_quiet(project: Project, args: list[str], shown: bool) -> None:
    text = project.cases(case("ok_1")).run(*args, "--greta-lang", "en").stdout.str()
    assert ("probes: 1" in text) is (shown and args != ["-q"])


def test_quiet_speaks_when_something_failed(project: Project) -> None:
    text = project.cases(case("bad_1")).run("-qq", "--greta-lang", "en").stdout.str()
    assert "probes: 1" in text


def test_quiet_speaks_when_something_was_not_run(project: Project) -> None:
    result = project.cases(case("nomodel_1")).run("-q", "--greta-lang", "en")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*not run: 1*", "*greta model pull tiny*", "no selected case was run: exit code 1*"])


def test_the_summary_fits_80_columns_and_is_coloured_only_where_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    project.cases(case("ok_1"), case("bad_2"))
    lines = project.run("--color=no").outlines
    start = next(i for i, line in enumerate(lines) if line.strip("= ") == "greta")
    assert max(len(line) for line in lines[start : start + 30] if "FAILED" not in line) <= 80
    assert not any("\x1b" in line for line in lines)
    assert any("\x1b[31m" in line and "KV_MISMATCH" in line for line in project.run("--color=yes").outlines[start:])


def test_without_a_terminal_reporter(project: Project) -> None:
    assert project.cases(case("ok_1")).run("-p", "no:terminal").ret == 0


@pytest.mark.parametrize("extra", [[], ["-n1"]], ids=["alone", "xdist"])
def test_where_ci_is_set_the_short_summary_quotes_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, extra: list[str]
) -> None:
    """pytest does not shorten there, and a failure's text stood twice in every CI log."""
    monkeypatch.setenv("CI", "true")
    result = project.cases(case("bad_1")).run("--color=no", *extra)
    result.assert_outcomes(failed=1)
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if "short test summary info" in line)
    assert lines[start + 1].startswith("FAILED a.greta.yaml::bad_1::kv_aligned - KV_MISMATCH")
    assert lines[start + 2].startswith("=") or "1 failed" in lines[start + 2]
