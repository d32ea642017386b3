"""Probes of case files by their node ids, and a row for each that never ran."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import pytest

from pytest_greta import settings as settings_
from pytest_greta import texts, worker
from pytest_greta.options import FILES_INI

if TYPE_CHECKING:
    from pytest_greta.cases.model import Probe
    from pytest_greta.result import ProbeResult


def where_of(config: pytest.Config, path: Path, line: int) -> str:
    """file:line; a file of the project relative to where pytest was started, so that a click or a paste finds it."""
    return f"{_shown(config, path)}:{line}"


def _shown(config: pytest.Config, path: Path) -> str:
    inside = path.is_relative_to(config.rootpath)
    return Path(os.path.relpath(path, config.invocation_params.dir) if inside else path).as_posix()


def reproduce(config: pytest.Config, nodeid: str) -> str:
    """The line that runs one probe again, from where pytest was started. Node ids hold a file's name: quoted."""
    file, _, rest = nodeid.partition("::")
    here = f"{_shown(config, config.rootpath / file)}::{rest}"
    words = ["pytest", shlex.quote(here), settings_.read(config).command(), worker.device_option(config)]
    return " ".join(filter(None, words))


def crashed(config: pytest.Config, nodeid: str, process: str, reason: texts.Text) -> ProbeResult | None:
    """A row for a probe that took its process with it; None where ``nodeid`` is no probe of a case file.

    The controller has collected nothing, so the case is looked up in its file again.
    """
    from pytest_greta import unfinished

    for probe, settings in find_probes(config, [nodeid]):
        if library := _library(config, probe):
            check = texts.text("crash_check", library=shlex.quote(_shown(config, library)))
            reason = texts.join("; ", reason, check)
        result = unfinished.inconclusive(probe, settings, reason, process)
        # without a worker the case would end the pytest that runs it
        return replace(result, reproduce=f"{result.reproduce} -n 1")
    return None


def _library(config: pytest.Config, probe: Probe) -> Path | None:
    """The shared library of one's own that the probe runs with; of two the first."""
    if given := settings_.read(config)["library"]:
        return Path(given).absolute()
    spec = probe.settings.get("backend")
    for part in (spec, *spec.values()) if isinstance(spec, Mapping) else ():
        if isinstance(part, Mapping) and "library" in part:
            return (probe.case.where.path.parent / Path(str(part["library"])).expanduser()).absolute()
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
