"""The controller of xdist's workers: their environment, one artifacts folder for all, a row for a worker that died."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greta import devices, masks, texts
from pytest_greta import settings as settings_
from pytest_greta.located import crashed, is_case_name
from pytest_greta.worker import DEVICE, FOLDERS, WORDS, WORKERINPUT, WRONG, thread_environment

if TYPE_CHECKING:
    from pytest_greta.session import Session


class Controller:
    """The hooks of xdist, all optional: they do not exist under ``-p no:xdist``."""

    def __init__(self, config: pytest.Config, session: Session) -> None:
        self.config = config
        self.session = session
        self.scratch: Path | None = None
        self.started = False
        self.mask: devices.Mask | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[Any]) -> None:
        """A worker's environment is set before it imports anything, and stays with a crashed worker's successor."""
        for spec in specs:
            spec.env.update(thread_environment({**os.environ, **spec.env}, len(specs)))
        # Only workers of this machine, and none for which the user has chosen.
        ours = [spec for spec in specs if spec.popen and not set(masks.VARIABLES) & set(spec.env)]
        self.mask = devices.for_workers(self.config) if ours else None
        if self.mask is not None:
            for number, spec in enumerate(ours):
                spec.env.update(self.mask.of_worker(number))
            given = [(spec.id, spec.env[self.mask.variable]) for spec in ours]
            self.session.notes += devices.note(self.mask, given).lines(settings_.lang(self.config))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self.scratch is None:
            self.scratch = Path(tempfile.mkdtemp(prefix="greta-"))
        node.workerinput[WORKERINPUT] = str(self.scratch)
        entry = node.gateway.spec.env.get(self.mask.variable) if self.mask is not None else None
        if self.mask is not None and entry in self.mask.entries:
            node.workerinput[DEVICE] = self.mask.index_of(entry)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Nothing has been scheduled yet when the first worker has collected: time for settings and folders."""
        files = dict.fromkeys(i.partition("::")[0] for i in ids)
        cases = [self.config.rootpath / f for f in files if is_case_name(self.config, f)]
        if self.started or not cases:
            return
        self.started = True
        assert self.scratch is not None
        wrong = self.scratch / (node.gateway.id + WRONG)
        if wrong.is_file():
            raise pytest.UsageError(wrong.read_text(encoding="utf-8"))
        from pytest_greta.cases.loader import load_suite

        self.session.begin([load_suite(path).name for path in cases])
        self.session.awaited = list(ids)
        for line in self.session.settings_lines():
            self.session.write_line(line)
        made = self.session.files.folders if self.session.files is not None else {}
        folders = {suite: str(folder.path) for suite, folder in made.items()}
        (self.scratch / FOLDERS).write_text(json.dumps(folders), encoding="utf-8")

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        from pytest_greta.nodes import failure_repr, properties
        from pytest_greta.packed import as_text
        from pytest_greta.report.failure import failure_text

        worker = report.node.gateway.id
        result = crashed(self.config, crashitem, worker, self._reason(worker, _signal(report.node)))
        if result is not None:
            file, _, line = result.where.rpartition(":")
            text = failure_text(result, settings_.lang(self.config))
            report.longrepr = failure_repr(text, file, int(line))
            report.location = (file, int(line) - 1, f"{result.case}::{result.probe}")  # the head of the failure
            _tell_junit(self.config, report, properties(result))
            vars(report).update(greta=[as_text(result)], greta_case=True)

    def _reason(self, worker: str, ended_by: str) -> texts.Text:
        note = self.scratch / worker if self.scratch is not None else None
        if note is not None and note.is_file():
            deadline, seconds = json.loads(note.read_text(encoding="utf-8"))
            if time.time() >= deadline:
                return texts.text("timeout_reason", seconds=seconds)
        crash, words = texts.text("crash_reason", worker=worker), self._words(worker)
        return texts.join(": ", crash, words or ended_by) if words or ended_by else crash

    def _words(self, worker: str) -> texts.Text | None:
        left = self.scratch / (worker + WORDS) if self.scratch is not None else None
        return (
            texts.Text(*json.loads(left.read_text(encoding="utf-8"))) if left is not None and left.is_file() else None
        )

    def pytest_unconfigure(self) -> None:
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _signal(node: Any) -> str:
    """The signal that ended a worker of this machine; "" where it is not known. execnet tells nobody, so its own handle
    of the process is asked."""
    process = getattr(getattr(node.gateway, "_io", None), "popen", None)
    with contextlib.suppress(AttributeError, ValueError, subprocess.TimeoutExpired):
        return signal.Signals(-process.wait(timeout=1)).name  # type: ignore[union-attr]
    return ""


def _tell_junit(config: pytest.Config, report: pytest.TestReport, properties: Sequence[tuple[str, Any]]) -> None:
    """JUnit's writer takes a test's properties from its teardown, and a crashed one has none."""
    from _pytest.junitxml import xml_key

    if (xml := config.stash.get(xml_key, None)) is not None:
        for name, value in properties:
            xml.node_reporter(report).add_property(name, str(value))
