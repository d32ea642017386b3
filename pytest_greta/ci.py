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
) -> tuple[list[str], list[str]]:
    """(lines for the output, what could not be written). ``base``: the folder that ``ProbeResult.where`` starts from.
    ``artifacts``: of the run; without it GitLab's file lies in ``base``."""
    commands: list[str] = []
    problems: list[str] = []
    if "github" in reports:
        commands = github.commands(results, lang, base, _folder(github.WORKSPACE))
        problems += _summary(results, lang)
    if "gitlab" in reports:
        path = Path(artifacts or base) / gitlab.FILE
        try:
            write_atomic(path, gitlab.code_quality(results, lang, base, _folder(gitlab.PROJECT)), "--greta-report")
        except ArtifactError as error:
            problems.append(str(error))
    return commands, problems


def _summary(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """Appended: other steps' summaries are in other files, but other tools of this step write into this one."""
    path = os.environ.get(github.SUMMARY, "")
    if not path:
        return text("ci.no_summary", variable=github.SUMMARY).lines(lang)
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            summary = github.step_summary(results, lang, taken=os.fstat(file.fileno()).st_size)
            file.write(summary)
    except OSError as error:
        return text("ci.unwritable", report="github", path=path, error=error.strerror or error).lines(lang)
    return [] if summary else text("ci.summary_full", path=path).lines(lang)


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable, "")
    return Path(value) if value else None
