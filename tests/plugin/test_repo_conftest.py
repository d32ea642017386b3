"""The rules of the repository's own ``conftest.py``."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from greta_project import CONFTEST, Project, case

ROOT = Path(__file__).parents[2]

MARKED = """
import pytest
@pytest.mark.{mark}
def test_marked(): pass
def test_plain(): pass
"""


@pytest.fixture
def repo(project: Project) -> Project:
    """A project with this repository's conftest.py beside the stub."""
    project.ini(
        "addopts = --strict-markers", "markers =", *(f"    {m}: x" for m in ("slow", "oracle", "system", "gpu"))
    )
    source = (ROOT / "conftest.py").read_text()
    head, future, rest = source.partition("from __future__ import annotations\n")
    (project.path / "conftest.py").write_text(head + future + CONFTEST + rest)
    return project


def test_it_imports_nothing_beyond_pytest() -> None:
    tree = ast.parse((ROOT / "conftest.py").read_text())
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) == {"pytest"}


@pytest.mark.parametrize("mark", ["slow", "oracle", "system"])
def test_some_marks_run_only_where_they_are_asked_for(repo: Project, mark: str) -> None:
    repo.pytester.makepyfile(MARKED.format(mark=mark))
    repo.run().assert_outcomes(passed=1, deselected=1)
    repo.run("-m", mark).assert_outcomes(passed=1, deselected=1)
    repo.run("-m", f"{mark} or not {mark}").assert_outcomes(passed=2)


def test_cases_obey_too(repo: Project) -> None:
    repo.cases(case("ok_1"), case("ok_2", "marks: [slow]")).run().assert_outcomes(passed=1, deselected=1)


def test_gpu_is_deselected_without_a_device(repo: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.pytester.makepyfile(MARKED.format(mark="gpu"))
    empty = repo.path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    if not Path("/dev/kfd").exists():
        repo.run().assert_outcomes(passed=1, deselected=1)
        repo.run("-m", "gpu").assert_outcomes(deselected=2)
    (empty / "nvidia-smi").touch(mode=0o755)
    repo.run().assert_outcomes(passed=2)


SKIPS = {
    "body": "import pytest\ndef test_it(): pytest.skip('no tool')",
    "mark": "import pytest\n@pytest.mark.skipif(True, reason='no tool')\ndef test_it(): pass",
    "fixture": "import pytest\n@pytest.fixture\ndef tool(): pytest.skip('no tool')\ndef test_it(tool): pass",
    "module": "import pytest\npytest.importorskip('no_such_tool')\ndef test_it(): pass",
}


@pytest.mark.parametrize("how", SKIPS)
def test_a_skipped_test_fails_under_require_all(repo: Project, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    repo.pytester.makepyfile(SKIPS[how])
    assert repo.run().ret in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    monkeypatch.setenv("GRETA_TEST_REQUIRE", "all")
    result = repo.run()
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    result.stdout.fnmatch_lines(["*skipped, which GRETA_TEST_REQUIRE=all forbids: *no*tool*"])


def test_an_expected_failure_is_no_skip(repo: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRETA_TEST_REQUIRE", "all")
    repo.pytester.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_it(): assert 0")
    repo.run().assert_outcomes(xfailed=1)


@pytest.mark.parametrize("args", [(), ("-n", "1")])
def test_a_missing_model_fails_under_require_all(
    repo: Project, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    repo.cases(case("ok_1"), case("nomodel_2"), case("nofeature_3"))
    run = repo.run_apart if args else repo.run
    assert run(*args).parseoutcomes() == {"passed": 1, "skipped": 2}
    monkeypatch.setenv("GRETA_TEST_REQUIRE", "all")
    result = run(*args)
    assert result.parseoutcomes() == {"passed": 1, "failed": 2}
    result.stdout.fnmatch_lines(["*model tiny is not in the cache; greta model pull tiny*"])
