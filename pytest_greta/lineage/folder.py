"""A folder of GRETA's stage traces: its files read in order, and a result for each prompt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pytest_greta.lineage.judging import judge, remarks
from pytest_greta.lineage.pairing import Prompt, Room
from pytest_greta.lineage.parsing import LineError, parse
from pytest_greta.lineage.records import read
from pytest_greta.result import ProbeResult
from pytest_greta.trace.lines import lines
from pytest_greta.verdict import PASS, Breach

_SHOWN = 3
"""Bad lines of a file that are spelled out."""
PROMPTS = 10_000
_SNIFFED = 64
_MARKS = frozenset(("metric", "attention_scores"))


@dataclass
class _Seen:
    prompt: Prompt
    where: str
    files: set[Path] = field(default_factory=set)


def is_lineage(path: Path) -> bool:
    """Some of its first lines are of a form of GRETA's, and none is ours (ours name their ``schema``)."""
    for number, line in lines(path):
        if number > _SNIFFED:
            return False
        if isinstance(line, Breach):
            continue
        try:
            record = parse(line)
        except LineError:
            continue
        if "schema" in record:
            return False
        if not _MARKS.isdisjoint(record) or record.get("event") in ("stage_trace", "stage_logits", "attention_scores"):
            return True
    return False


Judged = tuple[list[ProbeResult], list[tuple[str, Breach]]]


def judge_folders(paths: Iterable[Path], folder: Path, mode: str, suite: str) -> Judged:
    """Each folder for itself: a prompt of one name in two of them is two runs, and not a pair."""
    results: list[ProbeResult] = []
    said: list[tuple[str, Breach]] = []
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    for parent, files in by_folder.items():
        below = parent.relative_to(folder).as_posix()
        found, remarks_ = judge_files(files, mode, suite, "" if below == "." else f"{below}/")
        results += found
        said += remarks_
    return results, said


def judge_files(paths: Iterable[Path], mode: str, suite: str, prefix: str = "") -> Judged:
    """A result a prompt, and (prompt, remark) of what a report says beside the verdicts."""
    room, seen, problems = Room(), dict[str, _Seen](), dict[Path, list[Breach]]()
    for path in paths:
        bad = problems[path] = []
        for number, line in lines(path):
            where = f"{path}:{number}"
            if isinstance(line, Breach):
                _add(bad, line)
                continue
            try:
                record = read(parse(line))
                entry = seen.get(record.prompt)
                if entry is None:
                    if len(seen) >= PROMPTS:
                        raise LineError("line_prompts", limit=PROMPTS)
                    entry = seen[record.prompt] = _Seen(Prompt(room), where)
            except LineError as error:
                _add(bad, Breach(error.breach.key, {"where": where, **error.breach.values}))
                continue
            entry.files.add(path)
            entry.prompt.take(record)
    results, said = [], []
    for prompt, entry in seen.items():
        name = prefix + prompt
        entry.prompt.finish()
        bad = [breach for path in sorted(entry.files) for breach in problems[path]]
        verdict = judge(entry.prompt, mode, bad)
        nodeid = f"{suite}::{name}::{mode}"
        outcome: Literal["passed", "failed"] = "passed" if verdict.status == PASS else "failed"
        result = ProbeResult(suite, name, mode, mode, "", nodeid, entry.where, outcome, "", verdict)
        results.append(replace(result, bytes=entry.prompt.checks(), stats=entry.prompt.stats()))
        said += [(name, remark) for remark in remarks(entry.prompt)]
    return results, said


def _add(bad: list[Breach], breach: Breach) -> None:
    if len(bad) < _SHOWN:
        bad.append(breach)
    elif len(bad) == _SHOWN:
        bad.append(Breach("lines_more", {"where": breach.values["where"]}))
