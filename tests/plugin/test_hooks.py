"""What users may implement, and how the plugin bears being switched off."""

from __future__ import annotations

import importlib.metadata

import pytest
from greta_project import Project, case

HOOK = """
import pytest
@pytest.hookimpl(optionalhook=True)
def pytest_greta_backends(config):
    return {"mine": object, "other": object}
"""


def test_backends_of_the_user_reach_the_probe(project: Project) -> None:
    project.conftest(HOOK).cases(case("ok_1"))
    assert project.results()["ok_1::kv_aligned"]["settings"]["backends"] == ["mine", "other"]


def test_the_nearer_conftest_wins(project: Project) -> None:
    project.cases(case("ok_1"), file="sub/a.greta.yaml")
    project.conftest(
        """
from pytest_greta.user_backends import user_backends
def far(): return "far"
def pytest_greta_backends(config): return {"mine": far, "far": far}
def pytest_runtest_teardown(item):
    found = user_backends(item.config)
    assert found["far"]() == "far" and found["mine"]() == "near"
"""
    )
    (project.path / "sub" / "conftest.py").write_text(
        "def pytest_greta_backends(config): return {'mine': lambda: 'near'}"
    )
    project.run("sub").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("value", "en", "es"),
    [
        ("'mine'", "hook * returned 'mine'; expected {name: function}", "* devolvió 'mine'; se esperaba *"),
        ("['mine']", "hook * returned [[]'mine'[]]; expected *", "* devolvió [[]'mine'[]]; *"),
        ("{3: dict}", "hook * the name 3 is of type int; expected a string", "* el nombre 3 es de tipo int; *"),
        (
            "{'ok': dict, 'mine': 3.5}",
            'hook * "mine" is of type float; expected a function without arguments: "mine": lambda: ...',
            'hook * "mine" es de tipo float; se esperaba una función sin argumentos: "mine": lambda: ...',
        ),
    ],
)
def test_a_hook_that_returns_something_else_is_told_so(project: Project, value: str, en: str, es: str) -> None:
    """With the line of the hook, and of eight entries with the one that is wrong alone."""
    project.conftest(f"def pytest_greta_backends(config): return {value}").cases(case("ok_1"))
    result = project.run("--greta-lang=both")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([es, en])
    result.stdout.fnmatch_lines(["*pytest_greta_backends (conftest.py:*)*"])
    result.stdout.no_fnmatch_line("Traceback*")


@pytest.mark.skipif(not importlib.metadata.entry_points(group="pytest11", name="greta"), reason="not installed")
def test_switched_off(project: Project) -> None:
    project.cases(case("ok_1"))
    project.pytester.makeconftest(HOOK)
    project.pytester.makepyfile("def test_other(): pass")
    result = project.run_apart("-p", "no:greta")
    assert result.parseoutcomes() == {"passed": 1}
    assert project.run_apart("-p", "no:greta", "--greta-mode=x").ret == pytest.ExitCode.USAGE_ERROR


def test_hook_is_documented_where_users_look() -> None:
    from pytest_greta import hookspecs

    assert "optionalhook=True" in (hookspecs.pytest_greta_backends.__doc__ or "")
