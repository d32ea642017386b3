"""``--greta-baseline`` and ``--greta-update-baseline`` in a session: which file is whose, and what becomes of it.

Every process reads the files for itself and compares the probes that it runs; only the one with all results writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_greta import settings as settings_
from pytest_greta import texts
from pytest_greta.cases.model import CaseError

if TYPE_CHECKING:
    from pytest_greta.baseline.entry import Entry
    from pytest_greta.cases.model import Probe
    from pytest_greta.result import ProbeResult

SUFFIXES = (".yaml", ".yml")
"""Of a path that is one suite's file; any other is a folder of files, one a suite."""
NAME = ".baseline.yaml"
"""What ends the name of a suite's file in a folder."""

Read = tuple[str, dict[str, "Entry"]]

_READ: pytest.StashKey[dict[Path, Read | None]] = pytest.StashKey()


def path_of(config: pytest.Config, suite: str) -> Path | None:
    """The suite's file; None where no baseline was given."""
    given = settings_.read(config)["baseline"]
    if given is None:
        return None
    if Path(given).suffix in SUFFIXES:
        return Path(given)
    from pytest_greta.artifacts import safe_name

    return Path(given) / (safe_name(suite) + NAME)


def shown(config: pytest.Config, path: Path) -> str:
    return os.path.relpath(path, config.invocation_params.dir)


def updates(config: pytest.Config) -> bool:
    return bool(settings_.read(config)["update_baseline"])


def check(config: pytest.Config, suites: Iterable[str]) -> None:
    """Before anything is run. Raises ``pytest.UsageError`` for a baseline that cannot be used by these suites."""
    settings, lang = settings_.read(config), settings_.lang(config)
    given = settings["baseline"]
    if given is None:
        if settings["update_baseline"]:
            source = settings.sources["update_baseline"]
            raise pytest.UsageError(texts.say(lang, "baseline.needed", source=source))
        return
    path, source = Path(given), settings.sources["baseline"]
    names = list(dict.fromkeys(suites))
    if not settings["update_baseline"] and not path.exists():
        raise pytest.UsageError(texts.say(lang, "baseline.absent", source=source, path=shown(config, path)))
    is_file = path.suffix in SUFFIXES
    if path.exists() and path.is_dir() == is_file:
        key = "baseline.is_folder" if is_file else "baseline.is_file"
        raise pytest.UsageError(texts.say(lang, key, source=source, path=shown(config, path), name=NAME))
    try:
        found = {name: read(config, name) for name in names}
    except CaseError as error:
        raise pytest.UsageError("\n".join(texts.join(": ", source, error.said).lines(lang))) from None
    if not settings["update_baseline"]:
        return
    for name, one in found.items():
        if (is_file and len(names) > 1) or (one is not None and one[0] != name):
            at = path_of(config, name) or path
            values = {"path": shown(config, at), "suites": ", ".join(names), "held": one[0] if one else "-"}
            raise pytest.UsageError(texts.say(lang, "baseline.one_suite", source=source, **values))


def read(config: pytest.Config, suite: str, *, anew: bool = False) -> Read | None:
    """Whose the suite's file is, and its entries; None where there is no such file. Raises ``CaseError``."""
    path = path_of(config, suite)
    if path is None:
        return None
    cache = config.stash.setdefault(_READ, {})
    if anew or path not in cache:
        from pytest_greta.baseline import file

        cache[path] = file.read(path) if path.exists() else None
    return cache[path]


def run(config: pytest.Config, probe: Probe, call: Callable[[Probe], ProbeResult]) -> ProbeResult:
    """The probe's result beside the baseline. To record it, it is run with further seeds; one that fails is the
    result."""
    path = path_of(config, probe.case.suite)
    if path is None:
        return call(probe)
    if updates(config):
        return _recorded(probe, call, shown(config, path))
    return _compared(config, probe, call(probe), shown(config, path))


def runs(config: pytest.Config, probe: Probe) -> int:
    """How often ``run`` calls."""
    from pytest_greta.baseline.entry import SEEDS

    many = path_of(config, probe.case.suite) is not None and updates(config) and _is_recordable(probe)
    return SEEDS if many and probe.mode == "kv_aligned" else 1


def _is_recordable(probe: Probe) -> bool:
    """A baseline is of healthy runs."""
    return probe.case.inject is None


def _recorded(probe: Probe, call: Callable[[Probe], ProbeResult], file: str) -> ProbeResult:
    from pytest_greta.baseline.entry import SEEDS, entry_of
    from pytest_greta.baseline.file import plain
    from pytest_greta.result import Beside

    first = call(probe)
    if not _is_recordable(probe) or first.verdict is None or first.outcome != "passed":
        return first
    results = [first]
    seed = int(probe.settings["seed"])
    for other in range(seed + 1, seed + SEEDS) if probe.mode == "kv_aligned" else ():
        result = call(replace(probe, settings={**probe.settings, "seed": other}))
        if result.outcome != "passed":
            return replace(result, reproduce=f"{result.reproduce} --greta-seed={other}")
        results.append(result)
    entry = entry_of(results)
    return replace(first, baseline=Beside(file, "recorded", entry.verdict, entry=plain(entry)))


def _compared(config: pytest.Config, probe: Probe, result: ProbeResult, file: str) -> ProbeResult:
    from pytest_greta.baseline.entry import probe_key
    from pytest_greta.baseline.judging import beside
    from pytest_greta.result import Beside

    suite, entries = read(config, probe.case.suite) or ("", {})
    entry = entries.get(probe_key(result)) if suite == probe.case.suite else None
    if entry is not None:
        return beside(result, entry, file, probe.expect)
    new = _is_recordable(probe) and result.verdict is not None
    return replace(result, baseline=Beside(file, "new")) if new else result


@dataclass
class Told:
    """What the end of a session says of its baselines. ``problems``: what could not be written or read."""

    lines: list[texts.Text] = field(default_factory=list)
    problems: list[texts.Text] = field(default_factory=list)


def finish(config: pytest.Config, results: Sequence[ProbeResult], *, reached_all: bool) -> Told:
    """Writes what is to be recorded, and names entries that no case answers to; that only after a whole run."""
    from pytest_greta.baseline.stale import is_whole, stale

    told = Told()
    suites = {r.suite for r in results if r.suite != settings_.API_SUITE}
    for path, suite in {path_of(config, suite): suite for suite in sorted(suites)}.items():
        if path is None:
            return told
        try:
            held, entries = read(config, suite, anew=updates(config)) or (suite, {})
            gone = stale(config, entries) if reached_all and is_whole(config) else []
            if updates(config):
                _update(config, path, suite, entries, results, gone, told)
            elif gone and held == suite:
                values = {"path": shown(config, path), "count": len(gone), "probes": ", ".join(gone[:5])}
                told.lines.append(texts.text("baseline.stale", **values))
        except CaseError as error:
            told.problems.append(error.said)
    return told


def _update(
    config: pytest.Config,
    path: Path,
    suite: str,
    entries: dict[str, Entry],
    results: Sequence[ProbeResult],
    gone: Collection[str],
    told: Told,
) -> None:
    from pytest_greta.artifacts import ArtifactError
    from pytest_greta.baseline import file
    from pytest_greta.baseline.change import changes

    recorded = [
        file.of_plain(r.baseline.entry) for r in results if r.suite == suite and r.baseline and r.baseline.entry
    ]
    if not recorded and not gone:
        told.lines.append(texts.text("baseline.nothing", path=shown(config, path)))
        return
    after = {name: entry for name, entry in entries.items() if name not in gone}
    after |= {entry.probe: entry for entry in recorded}
    try:
        file.write(path, suite, after.values())
    except ArtifactError as error:
        told.problems.append(error.said)
        return
    told.lines += changes(shown(config, path), entries, after)
