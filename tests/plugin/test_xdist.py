"""Several workers: the same results, one summary, one folder; a crash or a hang costs one case."""

from __future__ import annotations

import importlib.util
import os
import re
from xml.etree import ElementTree

import pytest
from greta_project import Project, case

from pytest_greta.environment import cores
from pytest_greta.worker import THREAD_VARIABLES, thread_environment

pytest.importorskip("xdist")

CASES = (
    case("ok_1"),
    case("bad_2", "matrix: {dtype: [f32, bf16]}"),
    case("nomodel_3"),
    case("boom_4"),
    case("numpy_5"),
)


def without_process(row: dict[str, object]) -> dict[str, object]:
    """A result without what rightly differs from process to process."""
    return {k: v for k, v in row.items() if k not in ("run_id", "worker", "settings", "seconds")}


def test_two_workers_give_what_one_process_gives(project: Project) -> None:
    project.cases(*CASES)
    alone = project.run_apart("-p", "no:xdist", "--greta-artifacts", "alone")
    both = project.run_apart("-n", "2", "--greta-artifacts", "both", "--junitxml=j.xml", "-rs", "-v", "--greta-seed=5")
    assert alone.parseoutcomes() == both.parseoutcomes() == {"passed": 2, "failed": 3, "skipped": 1}
    assert alone.ret == both.ret == 1
    one, two = project.written(project.path / "alone"), project.written(project.path / "both")
    assert len(two) == 6
    for key, row in one.items():
        row["reproduce"] = row["reproduce"] + " --greta-seed=5"
        assert without_process(row) == without_process(two[key])
    assert {row["worker"] for row in two.values()} == {"gw0", "gw1"}
    assert len({row["run_id"] for row in two.values()}) == 1

    lines = both.outlines
    assert sum(line.strip("= ") == "greta" for line in lines) == 1, "one summary"
    assert sum("seed=5 (--greta-seed)" in line for line in lines if line.startswith("greta: ")) == 1
    folders = list((project.path / "both").glob("*/*"))
    assert [folder.name for folder in folders] == ["demo"], "one folder"
    assert {f.name for f in folders[0].iterdir()} >= {
        "results.jsonl",
        "DEMO_FINAL_REPORT.md",
        "DEMO_ANALYSIS.tsv",
        "run",
    }
    assert {row["settings"]["folder"] for row in two.values() if row["settings"]} == {str(folders[0])}
    assert len(list((folders[0] / "run").iterdir())) == 6
    both.stdout.fnmatch_lines(["SKIPPED [[]1[]] a.greta.yaml:10: no ejecutado (model)* / not run (model)*"])

    properties = [p.get("value") for p in ElementTree.parse(project.path / "j.xml").iter("property")]
    assert properties.count("KV_MISALIGNMENT") == 2


def test_workers_share_the_cores(project: Project) -> None:
    project.cases(case("ok_1"))
    project.run_apart("-n", "2", "--greta-artifacts", "out")
    found = project.written(project.path / "out")["ok_1::kv_aligned"]["settings"]
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert found["threads"] == share
    assert found["omp"] == found["blas"] == found["mkl"] == str(share)


def test_what_the_user_has_set_stays() -> None:
    assert thread_environment({}, 1) == dict.fromkeys(THREAD_VARIABLES, str(cores()))
    assert thread_environment({"OMP_NUM_THREADS": "3"}, 10**6) == dict.fromkeys(THREAD_VARIABLES[1:], "1")


def test_a_crash_and_a_hang_cost_one_case_each(project: Project) -> None:
    hang, spin = case("hang_3", "timeout: 1"), case("spin_6", "timeout: 1")
    project.cases(case("ok_1"), case("segv_2"), hang, case("ok_4"), case("ok_5"), spin)
    project.conftest("import pytest_greta.watchdog\npytest_greta.watchdog.GRACE = 0.5")
    result = project.run_apart("-n", "2", "--greta-artifacts", "out", "--junitxml=j.xml", "-v")
    assert result.parseoutcomes() == {"passed": 3, "failed": 3}
    rows = project.written(project.path / "out")
    assert {key.partition("::")[0]: row["outcome"] for key, row in rows.items()} == {
        **dict.fromkeys(["ok_1", "ok_4", "ok_5"], "passed"),
        **dict.fromkeys(["segv_2", "hang_3", "spin_6"], "failed"),
    }
    verdicts = {key.partition("::")[0]: row["verdict"] for key, row in rows.items()}
    assert verdicts["segv_2"]["status"] == "INCONCLUSIVE"
    assert re.fullmatch(r"crash: worker gw\d+ died inside this case: SIGSEGV", verdicts["segv_2"]["reason"])
    result.stdout.fnmatch_lines(["*pytest a.greta.yaml::segv_2::kv_aligned* -n 1"])
    for name in ("hang_3", "spin_6"):
        assert verdicts[name]["reason"] == "timeout: not ended within 1 s"
        assert verdicts[name]["reason_es"] == "tiempo agotado: no terminó en 1 s"
    assert sum(line.strip("_ ") == "segv_2::kv_aligned" for line in result.outlines) == 1, "the head of the failure"
    for line, name in ((6, "segv_2"), (9, "hang_3"), (19, "spin_6")):
        result.stdout.fnmatch_lines([f"INCONCLUSIVE a.greta.yaml:{line} {name} kv_aligned*"])
    result.stderr.fnmatch_lines(["*a.greta.yaml:9: a.greta.yaml::hang_3::kv_aligned did not end within 1 s*"])
    for line in (6, 9, 19):
        assert f'a.greta.yaml", line {line} in ' in result.stderr.str(), "each stack has a frame at the case's line"
    cases = ElementTree.parse(project.path / "j.xml").iter("testcase")
    assert sum(e.find("error") is not None for e in cases) == 3


def test_a_crash_in_a_library_names_what_looks_for_it(project: Project) -> None:
    (project.path / "my lib.so").touch()
    project.cases(case("segv_1", 'backend: {library: "my lib.so"}'))
    said = " ".join(project.run_apart("-n", "1", "--greta-lang=both").stdout.str().split())
    assert "SIGSEGV; `greta backend check 'my lib.so'` tries each of its calls alone" in said
    assert "SIGSEGV; `greta backend check 'my lib.so'` prueba por separado cada una de sus llamadas" in said


def test_a_crash_of_a_case_with_a_group(project: Project) -> None:
    """xdist appends the group to the node id (and, left alone, would start the crashed case anew for ever)."""
    project.cases(case("ok_1"), case("segv_2", "marks: [xdist_group]"))
    result = project.run_apart("-n", "1", "--dist", "loadgroup", "--max-worker-restart=0")
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["INCONCLUSIVE a.greta.yaml:6 segv_2 kv_aligned*"])


def test_a_crash_of_an_ordinary_test_is_left_to_pytest(project: Project) -> None:
    project.cases(case("ok_1"))
    project.pytester.makepyfile("import os\ndef test_dies(): os._exit(3)")
    result = project.run_apart("-n", "1")
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.parametrize("option", ["--greta-mode=x", "--greta-artifacts=a.greta.yaml/below"])
def test_a_usage_error_is_said_once_by_the_controller(project: Project, option: str) -> None:
    result = project.cases(case("ok_1")).run_apart("-n", "2", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sum(line.startswith(f"ERROR: {option.partition('=')[0]}: ") for line in result.errlines) == 1
    assert "Traceback" not in result.stderr.str()
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_when_nothing_could_be_run_the_exit_code_is_1(project: Project) -> None:
    project.cases(case("nomodel_1"), case("nomodel_2"))
    assert project.run_apart("-n", "2").ret == 1
    assert project.run_apart("-n", "2", "--greta-allow-empty").ret == 0


def test_the_mode_is_narrowed_in_workers_too(project: Project) -> None:
    project.cases(case("ok_1", "mode: [as_designed, kv_aligned]"), case("ok_2"))
    result = project.run_apart("-n", "2", "--greta-mode", "as_designed")
    assert result.parseoutcomes()["passed"] == 1


def test_everything_works_without_xdist(project: Project) -> None:
    assert importlib.util.find_spec("xdist")
    project.cases(case("ok_1"), case("bad_2")).run("-p", "no:xdist").assert_outcomes(passed=1, failed=1)
