"""GitHub Actions: the step summary, worst first, and an annotation at the YAML line of each failure.

Limits: a step's summary holds 1 MiB, of one step 10 errors are shown. How a value is written into a command:
https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pytest_greta.report import md
from pytest_greta.report.failure import failure_text
from pytest_greta.report.messages import Lang, say
from pytest_greta.report.pick import counts, mode_text, place, rho_text, title, worst_first
from pytest_greta.report.sentence import sentence
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
from pytest_greta.texts import languages

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Environment: the file that a step appends its summary to."""
WORKSPACE = "GITHUB_WORKSPACE"
"""Environment: what paths in annotations are relative to."""

LIMIT = 2**20
"""Bytes of a step's summary. One that is larger is not shown at all."""
MOST_BYTES = 900_000
"""Of ours: what other tools of the step write must have room, too."""
MOST_ERRORS = 10
_TOLD = 20
"""Failures whose whole text is shown."""


def commands(results: Sequence[ProbeResult], lang: Lang, base: Path, workspace: Path | None) -> list[str]:
    """``::error`` commands, worst first. ``base``: what ``ProbeResult.where`` is relative to."""
    failed = [r for r in worst_first(results) if r.outcome == "failed"]
    shown = failed if len(failed) <= MOST_ERRORS else failed[: MOST_ERRORS - 1]
    lines = []
    for result in shown:
        file, _, line = result.where.rpartition(":")
        path = os.path.relpath(base / file, workspace) if workspace is not None else file
        words = " / ".join(dict.fromkeys(sentence(result, language) for language in languages(lang)))
        heading = f"{title(result)}: {result.case} {mode_text(result)}"
        lines.append(
            f"::error file={_property(path)},line={_property(line)},title={_property(heading)}::{_data(words)}"
        )
    if len(shown) < len(failed):
        rest = say("summary.more_failures", lang, count=len(failed) - len(shown))
        lines.append(f"::error title=pytest-greta::{_data(rest)}")
    return lines


def step_summary(results: Sequence[ProbeResult], lang: Lang, taken: int = 0) -> str:
    """Markdown of at most ``MOST_BYTES``: counts, a table worst first, and the worst failures in full.

    ``taken``: bytes of the file that the step has written already; "" where too few are left for the counts.
    """
    ordered = worst_first(results)
    key, values = counts(ordered)
    head = ["## pytest-greta", "", *md.paragraph(key, lang, **values)]
    headers = [say(f"word.{name}", lang) for name in ("case", "mode", "verdict", "first_failure", "max_rho", "place")]
    room = min(MOST_BYTES, LIMIT - taken) - len("\n".join([*head, *md.table(headers, [])]).encode()) - 2_000
    if room < 0:
        return ""
    rows: list[list[str]] = []
    for result in ordered:
        row = _row(result)
        room -= len(("| " + " | ".join(row) + " |\n").encode())
        if room < 0:
            break
        rows.append(row)
    lines = [*head, *md.table(headers, rows)]
    if len(rows) < len(ordered):
        lines += md.paragraph("summary.cut", lang, count=len(ordered) - len(rows))
    for result in [r for r in ordered if r.outcome == "failed"][:_TOLD]:
        text = failure_text(result, lang)
        detail = [f"<details><summary>{md.escape(result.nodeid)}</summary>", "", *md.block(text), "</details>", ""]
        room -= len("\n".join(detail).encode()) + 1
        if room < 0:
            break
        lines += detail
    return "\n".join(lines) + "\n"


def _row(result: ProbeResult) -> list[str]:
    verdict = result.verdict
    first = place(verdict.first_failure) if verdict and verdict.first_failure else ""
    return [
        md.code(result.case),
        md.code(mode_text(result)),
        md.escape(title(result)),
        md.code(first),
        md.escape(rho_text(verdict)) if verdict else "",
        md.code(result.where),
    ]


def _data(value: str) -> str:
    return clean(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")
