"""A pytest plugin that is sent to the host: how many tests there are, and a letter for each that is done.

It runs under the host's pytest and imports nothing of ours. A full disk is no reason to end a run.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("GRETA_REMOTE_PROGRESS")
    if path and not hasattr(config, "workerinput"):  # the controller of xdist hears of all tests
        config.pluginmanager.register(_Progress(Path(path)))


class _Progress:
    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._begin(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:  # noqa: ARG002
        self._begin(len(ids))

    def _begin(self, total: int) -> None:
        with contextlib.suppress(OSError), self._path.open("x") as file:  # the first of several workers
            file.write(f"{total} {time.time()}\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # "???" is xdist's word for a test whose worker died
        if report.when in ("call", "???") or (report.when == "setup" and not report.passed):
            letter = "F" if report.failed else "s" if report.skipped else "."
            with contextlib.suppress(OSError), self._path.open("a") as file:
                file.write(letter)
