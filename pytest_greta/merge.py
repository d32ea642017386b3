"""Several runs of one suite, shards or hosts, put together as if they had been one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greta import exit_codes
from pytest_greta.artifacts import REPORT, RESULTS, ArtifactError, Seen, read_results
from pytest_greta.report.pick import severity
from pytest_greta.result import ProbeResult
from pytest_greta.texts import Text, text

SHARD = "GRETA_SHARD"
"""Environment: which part of a run this one is, ``2/3``. Each result keeps it, so that a merge can say what lacks."""

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Runs:
    """``problems``: why the results are not all of a whole run; ``notes``: what does not change the verdict."""

    results: tuple[ProbeResult, ...]
    problems: tuple[Text, ...] = ()
    notes: tuple[Text, ...] = ()

    @property
    def code(self) -> int:
        """0 all as expected, 1 a mismatch, 3 inconclusive, incomplete or nothing judged; a mismatch outweighs the
        rest."""
        judged = any(result.outcome != "not_run" for result in self.results)
        return exit_codes.of_results(self.results, incomplete=bool(self.problems) or not judged)


def shard(value: str) -> tuple[int, int] | None:
    """(number, of how many) of ``2/3``; None where it is no shard."""
    found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", value)
    if found is None or int(found[1]) > int(found[2]):
        return None
    return int(found[1]), int(found[2])


def current_shard() -> str:
    """That of this process; "" where there is none. Raises ``ValueError`` for one that is none."""
    value = os.environ.get(SHARD, "").strip()
    if value and shard(value) is None:
        raise ValueError(value)
    return value


def key(result: ProbeResult) -> Key:
    return result.suite, result.case, result.probe


def read(folders: Iterable[Path], seen: Seen | None = None) -> Runs:
    """All results below the folders; ``seen`` as in ``read_results``. Raises ``ArtifactError`` for a folder that holds
    none."""
    results: list[ProbeResult] = []
    problems: list[Text] = []
    for folder in folders:
        files = sorted(folder.rglob(RESULTS)) if folder.is_dir() else []
        if not files:
            raise ArtifactError(text("runs.nothing", path=str(folder), file=RESULTS))
        for file in files:
            found, unread = read_results(file, seen)
            results += found
            problems += [Text(line, line) for line in unread]
        problems += [text("runs.unfinished", path=str(path)) for path in _unfinished(folder, files)]
    return Runs(tuple(results), tuple(problems))


def _unfinished(folder: Path, files: Iterable[Path]) -> list[Path]:
    """Run folders without a report, which is written last: the run was killed, and of the probes that it did not get to
    nothing is there. One that died in its first probe has only that one's log."""
    runs = {file.parent for file in files} | {log.parent.parent for log in folder.rglob("run/*.log")}
    return sorted(run for run in runs if not any(run.glob(f"*{REPORT}")))


def merge(runs: Runs) -> Runs:
    """One result a probe, in the order of their names. Of one that is there twice the worse counts."""
    kept: dict[Key, ProbeResult] = {}
    twice: dict[Key, int] = {}
    for result in runs.results:
        name = key(result)
        if name in kept:
            twice[name] = twice.get(name, 1) + 1
        kept[name] = min(kept.get(name, result), result, key=_standing)
    notes = tuple(text("runs.twice", name="::".join(name[1:]), suite=name[0], count=n) for name, n in twice.items())
    ordered = tuple(kept[name] for name in sorted(kept))
    return Runs(ordered, runs.problems + tuple(_missing(runs.results)) + tuple(_unreached(ordered)), runs.notes + notes)


def _standing(result: ProbeResult) -> tuple[bool, tuple[int, float, str, str]]:
    """What was run before what was not, then the worse."""
    return result.outcome == "not_run", severity(result)


def _missing(results: Sequence[ProbeResult]) -> Iterable[Text]:
    found = {pair for result in results if (pair := shard(result.shard)) is not None}
    totals = sorted({total for _, total in found})
    if len(totals) > 1:
        yield text("runs.mixed", totals=", ".join(map(str, totals)))
    for total in totals:
        absent = [f"{n}/{total}" for n in range(1, total + 1) if (n, total) not in found]
        if absent:
            more = len(absent) - 20
            named = ", ".join(absent[:20]) + (f" (+{more})" if more > 0 else "")
            yield text("runs.missing", shards=named)


def _unreached(results: Sequence[ProbeResult]) -> Iterable[Text]:
    count = sum(result.not_run_kind == "not_reached" for result in results)
    if count:
        yield text("runs.unreached", count=count)
