"""xdist: threads a worker, one artifacts folder for all, and a row for the case inside which a worker died."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greta import devices, masks, texts
from pytest_greta import settings as settings_
from pytest_greta.environment import cores
from pytest_greta.options import FILES_INI

if TYPE_CHECKING:
    from pytest_greta.cases.model import Probe
    from pytest_greta.result import ProbeResult
    from pytest_greta.session import Session

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

WORKERINPUT = "greta_scratch"
"""A folder of this session on this machine: ``folders.json`` from the controller, notes from dying workers."""

DEVICE = "greta_device"
"""The worker's device, as the caller counts them."""

FOLDERS = "folders.json"

WRONG = ".wrong"
"""What ends the name of a worker's file that says why the run cannot begin."""


def threads(config: pytest.Config) -> int:
    """For the attention library of one process; 0 without xdist, where the library may choose."""
    if not settings_.is_worker(config):
        return 0
    return max(1, cores() // int(config.workerinput["workercount"]))  # type: ignore[attr-defined]


def thread_environment(environ: Mapping[str, str], workers: int) -> dict[str, str]:
    """OpenMP and BLAS share the cores among the workers; what the user has set stays."""
    share = str(max(1, cores() // max(1, workers)))
    return {name: share for name in THREAD_VARIABLES if name not in environ}


def device_option(config: pytest.Config) -> str:
    """What gives the device of this worker to a run without workers; "" where it has none of its own."""
    index = getattr(config, "workerinput", {}).get(DEVICE)
    return "" if index is None else f"--greta-devices={index}"


def crashed(config: pytest.Config, nodeid: str, worker: str, reason: texts.Text) -> ProbeResult | None:
    """A row for a probe that took its process with it; None where ``nodeid`` is no probe of a case file.

    The controller has collected nothing, so the case is looked up in its file again.
    """
    from pytest_greta import unfinished

    for probe, settings in find_probes(config, [nodeid]):
        return unfinished.inconclusive(probe, settings, reason, worker)
    return None


def not_reached(config: pytest.Config, nodeids: Sequence[str]) -> list[ProbeResult]:
    """A row for each probe of a case file that was still to be run when the run ended."""
    from pytest_greta import unfinished
    from pytest_greta.result import NOT_REACHED

    said, mend = texts.text("not_reached"), texts.as_text("")
    return [unfinished.not_run(p, s, NOT_REACHED, said, mend) for p, s in find_probes(config, nodeids)]


def prepared(config: pytest.Config, nodeids: Sequence[str]) -> list[ProbeResult]:
    """A row for each probe of a case file that would be run."""
    from pytest_greta import unfinished
    from pytest_greta.result import PREPARED

    nothing = texts.as_text("")
    return [unfinished.not_run(p, s, PREPARED, nothing, nothing) for p, s in find_probes(config, nodeids)]


def find_probes(config: pytest.Config, nodeids: Sequence[str]) -> Iterator[tuple[Probe, settings_.RunSettings]]:
    """The probes of case files among ``nodeids``, with what identifies them. A file is read once."""
    from pytest_greta.cases.loader import load_suite
    from pytest_greta.plan import expand
    from pytest_greta.running import reproduce, where_of

    for file, ids in groupby(nodeids, key=lambda nodeid: nodeid.partition("::")[0]):
        if not is_case_name(config, file):
            continue
        path, wanted = config.rootpath / file, {}
        for nodeid in ids:
            rest = nodeid.partition("::")[2]
            wanted[rest] = wanted[rest.rpartition("@")[0]] = nodeid  # loadgroup appends "@group" to node ids
        for case in load_suite(path).cases:
            for probe in expand(case, settings_.read(config).overrides):
                if nodeid := wanted.get(f"{case.id}::{probe.id}", ""):
                    where = where_of(config, path, case.where.line)
                    yield probe, settings_.RunSettings(nodeid, where, reproduce=reproduce(config, nodeid))


def is_case_name(config: pytest.Config, file: str) -> bool:
    """Whether a node id's file can be a case file: by pattern, or a YAML that was named on the command line."""
    path = PurePath(file)
    return path.suffix in (".yaml", ".yml") or any(path.match(p) for p in config.getini(FILES_INI))


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
        result = crashed(self.config, crashitem, worker, self._reason(worker))
        if result is not None:
            file, _, line = result.where.rpartition(":")
            text = failure_text(result, settings_.lang(self.config))
            report.longrepr = failure_repr(text, file, int(line))
            report.location = (file, int(line) - 1, f"{result.case}::{result.probe}")  # the head of the failure
            _tell_junit(self.config, report, properties(result))
            vars(report).update(greta=[as_text(result)], greta_case=True)

    def _reason(self, worker: str) -> texts.Text:
        note = self.scratch / worker if self.scratch is not None else None
        if note is not None and note.is_file():
            deadline, seconds = json.loads(note.read_text(encoding="utf-8"))
            if time.time() >= deadline:
                return texts.text("timeout_reason", seconds=seconds)
        return texts.text("crash_reason", worker=worker)

    def pytest_unconfigure(self) -> None:
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _tell_junit(config: pytest.Config, report: pytest.TestReport, properties: Sequence[tuple[str, Any]]) -> None:
    """JUnit's writer takes a test's properties from its teardown, and a crashed one has none."""
    from _pytest.junitxml import xml_key

    if (xml := config.stash.get(xml_key, None)) is not None:
        for name, value in properties:
            xml.node_reporter(report).add_property(name, str(value))


def _scratch(config: pytest.Config) -> Path | None:
    """In a worker, the controller's folder; None in any other process, or on another machine than the controller's."""
    path = Path(getattr(config, "workerinput", {}).get(WORKERINPUT, "/nonexistent"))
    return path if path.is_dir() else None


def worker_folders(config: pytest.Config) -> dict[str, str]:
    """Folder by suite, as the controller chose them."""
    scratch = _scratch(config)
    if scratch is None or not (scratch / FOLDERS).is_file():
        return {}
    folders: dict[str, str] = json.loads((scratch / FOLDERS).read_text(encoding="utf-8"))
    return folders


def leave_note(config: pytest.Config, seconds: float) -> None:
    """Until when this worker's probe has time: a controller that finds the worker dead after that knows why."""
    scratch = _scratch(config)
    if scratch is not None:
        note = json.dumps([time.time() + seconds, seconds])
        (scratch / config.workerinput["workerid"]).write_text(note, encoding="utf-8")  # type: ignore[attr-defined]


def tell_wrong(config: pytest.Config, error: str) -> bool:
    """Leaves it to the controller to end the run before it begins: only workers know every conftest.py.

    False where there is no controller on this machine to be told.
    """
    scratch = _scratch(config)
    if scratch is not None:
        (scratch / (config.workerinput["workerid"] + WRONG)).write_text(error, encoding="utf-8")  # type: ignore[attr-defined]
    return scratch is not None
