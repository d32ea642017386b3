"""``--greta-report``: what a forge shows of a run, written where the forge looks for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pytest_greta.artifacts import ArtifactError, write_atomic
from pytest_greta.report import github, gitlab
from pytest_greta.report.messages import Lang
from pytest_greta.result import ProbeResult
from pytest_greta.texts import text


def publish(
    reports: Sequence[str], results: Sequence[ProbeResult], lang: Lang, base: Path, artifacts: str | None
) -> tuple[list[str], list[str], list[str]]:
    """(lines for the output, remarks, what could not be written). ``base``: the folder that ``ProbeResult.where``
    starts from. ``artifacts``: of the run; without it GitLab's file lies in ``base``."""
    commands: list[str] = []
    remarks: list[str] = []
    problems: list[str] = []
    if "github" in reports:
        commands = github.commands(results, lang, base, _folder(github.WORKSPACE))
        try:
            remarks = _summary(results, lang)
        except OSError as error:
            values = {"report": "github", "path": os.environ[github.SUMMARY], "error": error.strerror or error}
            problems += text("ci.unwritable", **values).lines(lang)
    if "gitlab" in reports:
        path = Path(artifacts or base) / gitlab.FILE
        try:
            write_atomic(path, gitlab.code_quality(results, lang, base, _folder(gitlab.PROJECT)), "--greta-report")
        except ArtifactError as error:
            problems += error.said.lines(lang)
    return commands, remarks, problems


def _summary(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """Appended: other steps' summaries are in other files, but other tools of this step write into this one. What
    there is to remark. Raises ``OSError``."""
    path = os.environ.get(github.SUMMARY, "")
    if not path:
        return text("ci.no_summary", variable=github.SUMMARY).lines(lang)
    with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
        summary = github.step_summary(results, lang, taken=os.fstat(file.fileno()).st_size)
        file.write(summary)
    return [] if summary else text("ci.summary_full", path=path).lines(lang)


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable, "")
    return Path(value) if value else None
