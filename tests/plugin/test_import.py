"""The plugin costs a project that only has it installed next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from greta_project import Project

HEAVY = ("numpy", "cffi", "_cffi_backend", "yaml", "jsonschema", "ml_dtypes", "tabulate", "orjson", "safetensors")

MEASURE = """
import json, sys, time
import pytest, _pytest.config, _pytest.faulthandler, _pytest.runner, _pytest.nodes
sys.stdlib = set(sys.modules)
begin = time.perf_counter()
import pytest_greta.plugin
seconds = time.perf_counter() - begin
print(json.dumps([seconds, sorted(sys.modules)]))
"""


def measure() -> tuple[float, set[str]]:
    out = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    seconds, modules = json.loads(out)
    return seconds, set(modules)


def test_importing_the_plugin_loads_nothing_heavy_and_takes_under_50_ms() -> None:
    runs = [measure() for _ in range(3)]
    for name in HEAVY:
        assert name not in runs[0][1], name
    assert min(seconds for seconds, _ in runs) < 0.05


@pytest.mark.parametrize("args", [[], ["-n", "1"]])
def test_a_run_without_cases_loads_nothing_heavy(project: Project, args: list[str]) -> None:
    project.conftest("sys.modules.pop('pytest_greta.probe')")
    (project.path / "conftest.py").write_text("")
    (project.path / "data.yaml").write_text("a: 1")
    project.pytester.makepyfile(f"import sys\ndef test_it(): assert not {{*{HEAVY!r}}} & set(sys.modules)")
    project.run_apart("-p", "no:pytest_cov", *args).assert_outcomes(passed=1)
