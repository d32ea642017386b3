"""The plugin costs a project that only has it installed next to nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from greta_project import Project

HEAVY = ("numpy", "cffi", "_cffi_backend", "yaml", "jsonschema", "ml_dtypes", "tabulate", "orjson", "safetensors")

MEASURE = """
import json, sys, time
import pytest, _pytest.config, _pytest.pathlib
begin = time.process_time()  # of this process, because the machine may be busy with others
import pytest_greta.plugin
seconds = time.process_time() - begin
print(json.dumps([seconds, sorted(sys.modules)]))
"""


def measure(cache: Path) -> tuple[float, set[str]]:
    """Seconds and the modules loaded after it, with the byte code that an installed package has."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPYCACHEPREFIX": str(cache)}
    out = subprocess.run([sys.executable, "-c", MEASURE], env=env, capture_output=True, text=True, check=True).stdout
    seconds, modules = json.loads(out)
    return seconds, set(modules)


def test_importing_the_plugin_loads_nothing_heavy_and_takes_under_50_ms(tmp_path: Path) -> None:
    runs = [measure(tmp_path) for _ in range(4)]
    for name in HEAVY:
        assert name not in runs[0][1], name
    assert min(seconds for seconds, _ in runs) < 0.05


@pytest.mark.parametrize("args", [[], ["-n", "1"]])
def test_a_run_without_cases_loads_nothing_heavy(project: Project, args: list[str]) -> None:
    project.conftest("sys.modules.pop('pytest_greta.probing')")
    (project.path / "conftest.py").write_text("")
    (project.path / "data.yaml").write_text("a: 1")
    project.pytester.makepyfile(f"import sys\ndef test_it(): assert not {{*{HEAVY!r}}} & set(sys.modules)")
    project.run_apart("-p", "no:pytest_cov", *args).assert_outcomes(passed=1)
