"""What a run on another machine has shown: the verdicts of its results, and every reason to conclude nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greta import exit_codes
from pytest_greta.artifacts import RESULTS, ArtifactError, read_results
from pytest_greta.remote.fetching import Fetched
from pytest_greta.result import ProbeResult
from pytest_greta.texts import Text, text

PASSED, FAILED, INTERRUPTED, USAGE_ERROR, NOTHING_COLLECTED = 0, 1, 2, 4, 5
"""pytest's own exit codes."""

LOW = 1 << 20
"""Bytes: with less than that free on the host, a full disk is the likely reason for what is missing."""


@dataclass(frozen=True)
class Judgement:
    """``code``: 0 as expected, 1 a mismatch, 2 nothing was run, 3 inconclusive. ``reasons``: why it is no better."""

    code: int
    results: tuple[ProbeResult, ...]
    reasons: tuple[Text, ...] = ()


def judge(fetched: Fetched) -> Judgement:
    results: list[ProbeResult] = []
    reasons: list[Text] = []
    for folder in fetched.folders:
        try:
            found, problems = read_results(folder / RESULTS)
        except ArtifactError as error:
            found, problems = [], [str(error)]
        results += found
        reasons += [Text(problem, problem) for problem in problems]
    code, total = fetched.header["code"], fetched.header["total"]
    if not results and (code in (USAGE_ERROR, NOTHING_COLLECTED) or (code == INTERRUPTED and total is None)):
        return Judgement(exit_codes.USAGE, (), (text("remote.not_run", code=code),))
    reasons += _incomplete(fetched, results)
    failed = [result for result in results if result.outcome == "failed"]
    if code == FAILED and not failed:
        nothing = all(result.outcome == "not_run" for result in results)
        reasons.append(text("remote.nothing_judged" if nothing else "remote.failed_elsewhere"))
    return Judgement(exit_codes.of_results(results, incomplete=bool(reasons)), tuple(results), tuple(reasons))


def _incomplete(fetched: Fetched, results: Sequence[ProbeResult]) -> list[Text]:
    header, reasons = fetched.header, []
    reached = len({result.nodeid for result in results})
    if header["state"] == "lost":
        reasons.append(text("remote.lost"))
    elif header["code"] not in (PASSED, FAILED):
        reasons.append(text("remote.ended_with", code=header["code"]))
    if header["total"] is None or reached < header["total"]:
        reasons.append(
            text("remote.incomplete", got=reached, total="?" if header["total"] is None else header["total"])
        )
    if reasons and header["free"] < LOW:
        reasons.append(text("remote.disk_full", path=header["folder"]))
    return reasons
