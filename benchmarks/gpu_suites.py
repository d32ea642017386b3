"""The test suites that a device library can be run through, each in a pytest of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
KERNELS = "tests/native/test_hip_emulated.py"
NOT_A_DEVICES = ("test_what_it_says_of_itself", "test_the_order_of_the_waves_changes_no_byte")
"""Tests of the emulation: its name, and the order in which it lets waves run."""
SMALL = "keys_and_values or companions"
FAULTS, FEW_FAULTS = "cases/faults", "cases/faults/gain.greta.yaml"
SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "synccheck")
FOUND = 99
"""The exit code that the sanitizer is asked for when it finds something."""
LAST_LINES = 25
SELFTEST_RUNS = 200
OWN = ("GRETA_TEST_REQUIRE", "GRETA_TEST_DEVICE", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
"""Of the caller's environment, not for these runs."""


@dataclass(frozen=True)
class Counts:
    passed: int
    failed: int
    not_run: int
    code: int
    last: str
    """The last lines of a run that did not pass."""

    @property
    def right(self) -> bool:
        return self.code == 0 and self.failed == 0 and self.passed > 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.not_run} not run"


def kernels(backend: str, quick: bool, prefix: Sequence[str] = ()) -> Counts:
    """Every kernel over head sizes, groups, types, ragged batches and lengths around every boundary."""
    names = [f"not {name}" for name in NOT_A_DEVICES]
    chosen = " and ".join([*names, f"({SMALL})"] if quick else names)
    return run_pytest([KERNELS, "-k", chosen], {"GRETA_TEST_DEVICE": backend}, prefix)


def faults(backend: str, quick: bool) -> Counts:
    """Every kind of fault: found where it was planted, and invisible without its fixture."""
    return run_pytest([FEW_FAULTS if quick else FAULTS, f"--greta-backend={backend}"], {})


@dataclass(frozen=True)
class Study:
    right: bool
    said: str
    last: str
    """The last lines of a study that was not clean."""


def selftest(backend: str, quick: bool) -> Study:
    """Faults drawn from every kind, and healthy runs, through the library and its twin."""
    size = ("--runs", "2", "--quick", "--jobs", "1") if quick else ("--runs", str(SELFTEST_RUNS))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_greta.cli", "selftest", "--backend", backend, "--lang", "en", *size],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() or done.stderr.splitlines() if line]
    begin = next((i for i, line in enumerate(lines) if line.startswith("selftest ")), max(len(lines) - 1, 0))
    right = done.returncode == 0
    return Study(right, " ".join(lines[begin:]), "" if right else "\n".join(lines[-LAST_LINES:]))


def sanitized(backend: str, tool: str) -> Counts:
    prefix = [SANITIZER, "--tool", tool, "--error-exitcode", str(FOUND), "--target-processes", "all"]
    return kernels(backend, True, prefix)


def no_sanitizer(backend: str) -> str:
    """Why the sanitizer cannot be run, or ""."""
    if backend != "cuda":
        return f"{SANITIZER} is NVIDIA's: it knows nothing of backend {backend}"
    return "" if shutil.which(SANITIZER) else f"{SANITIZER} is not on PATH; it comes with the CUDA toolkit"


def run_pytest(args: Sequence[str], environment: dict[str, str], prefix: Sequence[str] = ()) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        own = [f"--junit-xml={report}", f"--greta-artifacts={folder}/artifacts", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "pytest", *args, *own],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name not in OWN} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        passed, failed, not_run = _counted(report)
    last = "" if done.returncode == 0 else "\n".join(done.stdout.splitlines()[-LAST_LINES:])
    return Counts(passed, failed, not_run, done.returncode, last)


def _counted(report: Path) -> tuple[int, int, int]:
    """Passed, failed, not run; none of each where pytest did not come to write it."""
    if not report.is_file():
        return 0, 0, 0
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for name in total:
            total[name] += int(suite.get(name, 0))
    failed = total["failures"] + total["errors"]
    return total["tests"] - failed - total["skipped"], failed, total["skipped"]
