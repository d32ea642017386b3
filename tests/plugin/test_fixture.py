"""The fixture ``greta``, over a stub of the public API's ``probe``."""

from __future__ import annotations

import pytest
from greta_project import Project

API = """
import types
import pytest_greta
from pytest_greta.api import Run, WatchedRun

def probe(model, ids, *, mode, backend, dtype, name, settings, **keys):
    verdict = getattr(module, "_" + ids)(mode)
    result = ProbeResult("api", name, mode, mode, "", settings.nodeid, settings.where,
        "passed" if verdict.status == "PASS" else "failed", "PASS", verdict,
        settings={"seed": keys.get("seed"), "library": settings.library, "backend": backend, "dtype": dtype})
    return Run(verdict, ["a trace"], result, settings.lang)

from pytest_greta.result import ProbeResult
api = types.ModuleType("pytest_greta.api")
api.probe, api.WatchedRun = probe, WatchedRun
sys.modules["pytest_greta.api"] = api
pytest_greta.api = api
"""


def run(project: Project, body: str, *args: str):  # type: ignore[no-untyped-def]
    project.conftest(API)
    project.pytester.makepyfile(test_mine=f"import pytest\n{body}")
    return project.run("test_mine.py", *args)


def test_probes_join_the_summary_and_the_result_files(project: Project) -> None:
    body = """
def test_one(greta):
    run = greta.probe("synthetic", "ok", seed=9, dtype="bf16")
    assert run.verdict.status == "PASS" and run.trace == ["a trace"]
    run.assert_aligned()
    greta.probe("synthetic", "ok").assert_aligned()
"""
    result = run(project, body, "--greta-artifacts", "out", "--greta-lang", "en")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*probes: 2 (2 passed*"])
    rows = project.written(project.path / "out")
    assert {row["where"] for row in rows.values()} == {"test_mine.py:3"}
    assert {row["nodeid"] for row in rows.values()} == {"test_mine.py::test_one"}
    assert [row["case"] for row in rows.values()] == ["test_one", "test_one.1"]
    assert rows["test_one::kv_aligned"]["settings"] == {
        "seed": 9,
        "library": None,
        "backend": "cpu",
        "dtype": "bf16",
    }


def test_assert_aligned_says_all(project: Project) -> None:
    result = run(project, "def test_one(greta):\n    greta.probe('synthetic', 'bad').assert_aligned()")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * KV_MISMATCH KV_MISALIGNMENT test_mine.py:2 test_one kv_aligned: layer 3 stage*"])
    result.stdout.fnmatch_lines(["*probes: 1 (0 passed, 1 failed*"])


@pytest.mark.parametrize(("mark", "outcome"), [("", "failed"), ("@pytest.mark.xfail\n", "xfailed")])
def test_drift_that_assert_aligned_refuses_is_a_failure_that_says_why(
    project: Project, mark: str, outcome: str
) -> None:
    body = f"{mark}def test_one(greta):\n    greta.probe('synthetic', 'Hi', mode='as_designed').assert_aligned()"
    project.pytester.makeconftest("")  # the real probe
    project.pytester.makepyfile(test_mine=f"import pytest\n{body}")
    result = project.run_apart("test_mine.py", "--greta-artifacts", "out")
    result.assert_outcomes(**{outcome: 1})
    (row,) = project.written(project.path / "out").values()
    assert (row["outcome"], row["verdict"]["scenario"]) == (outcome, "ATTENTION_COMPUTATION_MISMATCH")
    if not mark:
        result.stdout.fnmatch_lines(["*pide un PASS*mode='kv_aligned'*", "*wants a PASS*mode='kv_aligned'*"])
        result.stdout.fnmatch_lines(["*probes: 1 (0 passed, 1 failed*"])


def test_a_mismatch_that_the_test_looks_for_is_no_failure(project: Project) -> None:
    body = "def test_one(greta):\n    assert greta.probe('synthetic', 'bad').verdict.status == 'KV_MISMATCH'"
    result = run(project, body)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*probes: 1 (1 passed, 0 failed*"])


@pytest.mark.parametrize(
    ("looks", "outcomes"),
    [
        ("assert found.verdict.status == 'KV_MISMATCH'", {"passed": 1}),
        ("pass", {"failed": 1}),
        ("found.assert_aligned()", {"failed": 1}),
    ],
)
def test_a_probe_of_another_fixture_is_the_test_s_to_look_at(
    project: Project, looks: str, outcomes: dict[str, int]
) -> None:
    body = f"""
@pytest.fixture
def found(greta):
    return greta.probe("synthetic", "bad")

def test_one(found):
    {looks}
"""
    result = run(project, body, "--greta-artifacts", "out")
    result.assert_outcomes(**outcomes)
    (row,) = project.written(project.path / "out").values()
    assert row["outcome"] == next(iter(outcomes))


def test_a_probe_when_a_fixture_ends_is_looked_at_too(project: Project) -> None:
    body = """
@pytest.fixture
def late(greta):
    yield
    greta.probe("synthetic", "bad")

def test_one(late):
    pass
"""
    run(project, body).assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize("look", ["", ".trace", "; print(found)", "; assert found == found"])
def test_a_mismatch_that_the_test_does_not_look_at_fails_it(project: Project, look: str) -> None:
    body = f"def test_one(greta):\n    found = greta.probe('synthetic', 'bad'){look}"
    result = run(project, body, "--greta-artifacts", "out", "--greta-lang", "en")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the test passed without a look at this verdict*", "*KV_MISMATCH*layer 3*"])
    (row,) = project.written(project.path / "out").values()
    assert row["outcome"] == "failed"


def test_what_is_missing_skips_or_fails(project: Project) -> None:
    body = "def test_one(greta):\n    greta.probe('synthetic', 'nomodel')"
    result = run(project, body, "-rs")
    result.assert_outcomes(skipped=1)
    assert result.ret == 0, "an ordinary test is no case"
    result.stdout.fnmatch_lines(["*not run (model): model tiny*"])
    result = run(project, body, "--greta-require", "model")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*model tiny is not in the cache; greta model pull tiny*"])


def test_an_exception_fails_the_test_with_its_traceback(project: Project) -> None:
    result = run(project, "def test_one(greta):\n    greta.probe('synthetic', 'boom')")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["INCONCLUSIVE test_mine.py:2 *", "*RuntimeError: the backend exploded"])


def test_settings_are_checked_at_the_start(project: Project) -> None:
    body = "def test_one(greta):\n    greta.probe('synthetic', 'ok')"
    assert run(project, body, "--greta-seed", "x").ret == pytest.ExitCode.USAGE_ERROR
    assert run(project, body, "--greta-artifacts", "conftest.py/below").ret == pytest.ExitCode.USAGE_ERROR


def test_results_survive_xdist(project: Project) -> None:
    project.conftest(API)
    body = "def test_{}(greta):\n    greta.probe('synthetic', 'ok')\n"
    project.pytester.makepyfile(test_mine="".join(body.format(n) for n in range(4)))
    result = project.run_apart("-n", "2", "--greta-lang", "en", "--greta-artifacts", "out")
    assert result.parseoutcomes() == {"passed": 4}
    result.stdout.fnmatch_lines(["*probes: 4 (4 passed*"])
    assert len(project.written(project.path / "out")) == 4
