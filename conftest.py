"""The repository's own rules for its tests; imports nothing beyond pytest, so that any plain environment can read it.

``GRETA_TEST_REQUIRE=all``: a skipped test fails, and so does a case whose model, library or extra is missing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Generator
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

pytest_plugins = ["pytester"]

ASKED_FOR = ("slow", "oracle", "system")
"""Run only where ``-m`` names them."""

REQUIRE_ALL = os.environ.get("GRETA_TEST_REQUIRE") == "all"


def pytest_configure(config: pytest.Config) -> None:
    if REQUIRE_ALL and getattr(config.option, "greta_require", "") is None:
        config.option.greta_require = "all"


def has_gpu() -> bool:
    """By what a driver leaves behind: a GPU is never initialised to find out."""
    return os.path.exists("/dev/kfd") or shutil.which("nvidia-smi") is not None  # noqa: PTH110


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselected, not skipped: a skip would say that something was to be run and could not."""
    unwanted = {mark for mark in ASKED_FOR if mark not in config.option.markexpr}
    if not has_gpu():
        unwanted.add("gpu")
    if not all(importlib.util.find_spec(package) for package in ("torch", "transformers")):
        unwanted.add("transformers")
    if not importlib.util.find_spec("xllamacpp"):
        unwanted.add("llamacpp")
    dropped = {item for item in items if any(item.get_closest_marker(mark) for mark in unwanted)}
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _not_skipped((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _not_skipped((yield))


def _not_skipped(report: Report) -> Report:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, which GRETA_TEST_REQUIRE=all forbids: {reason}"
    return report
