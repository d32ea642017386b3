"""A project with cases whose probes are played by ``stub_probe.py``: the plugin is tested here, not the numerics."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

# Loaded before pytester takes its snapshot of sys.modules, which it restores after each run: NumPy cannot be imported
# twice in a process, and what the package keeps of the others must stay theirs.
for name in (
    *("numpy", "yaml", "jsonschema", "orjson", "tabulate", "cffi", "stub_probe"),
    *(f"pytest_greta.{n}" for n in ("plan", "cases.loader", "engine.store", "files", "artifacts", "report.terminal")),
):
    importlib.import_module(name)

STUB = Path(__file__).with_name("stub_probe.py")

CONFTEST = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pytest_greta.probing", {str(STUB)!r})
sys.modules["pytest_greta.probing"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""

QUIET = (
    *("-p", "no:hypothesispytest", "-p", "no:anyio"),
    *("-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"),
)
"""Plugins of the test environment that would be imported anew, slowly, in each run; and the one warning of an editable
install of ours."""

SUITE = "suite: demo\ncases:\n"


def case(id: str, *lines: str) -> str:
    """A case in YAML; ``lines`` are further keys."""
    given = "\n".join(lines)
    text = f"  - id: {id}\n    prompt: Hello\n"
    if "mode:" not in given:
        text += "    mode: kv_aligned\n"
    return text + "".join(f"    {line}\n" for line in lines)


class Project:
    """A pytester folder with case files."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.runs = 0
        pytester.makeconftest(CONFTEST)

    def cases(self, *cases: str, file: str = "a.greta.yaml", suite: str = SUITE) -> Project:
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(suite + "".join(cases), encoding="utf-8")
        return self

    def ini(self, *lines: str) -> Project:
        self.pytester.makeini("[pytest]\n" + "\n".join(lines) + "\n")
        return self

    def conftest(self, text: str) -> Project:
        self.pytester.makeconftest(CONFTEST + "\n" + text)
        return self

    def run(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(*args, *QUIET)

    def run_apart(self, *args: str) -> pytest.RunResult:
        """In a process of its own: xdist, crashes, file descriptors."""
        return self.pytester.runpytest_subprocess(*args, *QUIET, timeout=60)

    def results(self, *args: str) -> dict[str, dict[str, Any]]:
        """The lines of ``results.jsonl`` by ``case::probe``, after a run with ``args``."""
        self.runs += 1
        out = self.path / f"out{self.runs}"
        self.run("--greta-artifacts", str(out), *args)
        return self.written(out)

    def written(self, out: Path) -> dict[str, dict[str, Any]]:
        rows = [json.loads(line) for file in out.glob("*/*/results.jsonl") for line in file.read_text().splitlines()]
        return {f"{row['case']}::{row['probe']}": row for row in rows}
