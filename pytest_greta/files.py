"""The result files of a session: one run folder a suite, filled as results come, finished with the reports."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_greta import texts

if TYPE_CHECKING:
    from pytest_greta.artifacts import RunFolder
    from pytest_greta.report.messages import Lang
    from pytest_greta.result import ProbeResult

DATE = "GRETA_DATE"
"""Environment: the day of the folder and the reports, YYYY-MM-DD. The clock of another machine may have another day."""


def day() -> datetime.date:
    """Raises ``pytest.UsageError`` where the variable holds no date."""
    given = os.environ.get(DATE, "")
    try:
        return datetime.date.fromisoformat(given) if given else datetime.date.today()
    except ValueError:
        said = texts.say("both", "bad_value", source=DATE, name="date", value=given, expected="YYYY-MM-DD")
        raise pytest.UsageError(said) from None


class Files:
    """Only the process that has all results makes one. A folder is made when its suite first needs it."""

    def __init__(self, root: str, source: str, lang: Lang = "both") -> None:
        from pytest_greta.report.tsv import Sheet

        self.root = root
        self.source = source
        self.lang = lang
        self.date = day()
        self.folders: dict[str, RunFolder] = {}
        self.sheet = Sheet()
        self.problems: list[str] = []
        """What could not be written after the start: said in the summary, because the verdicts stand without it."""

    def folder(self, suite: str) -> RunFolder:
        """The folder of a suite. Raises ``pytest.UsageError`` where it cannot be made."""
        from pytest_greta.artifacts import ArtifactError, RunFolder

        if suite not in self.folders:
            try:
                self.folders[suite] = RunFolder.create(self.root, self.date, suite)
            except ArtifactError as error:
                said = texts.join(": ", self.source, error.said)
                raise pytest.UsageError("\n".join(said.lines(self.lang))) from None
        return self.folders[suite]

    def append(self, results: Sequence[ProbeResult]) -> None:
        """At once, so that they are on the disk when the next case takes the process with it."""
        from pytest_greta.artifacts import ArtifactError

        for result in results:
            self.sheet.add(result)
            try:
                self.folder(result.suite).append(result)
            except (ArtifactError, pytest.UsageError) as error:
                self._note(error)

    def discard_empty(self, suites: Collection[str]) -> None:
        """Takes back the folders of all suites but these, where nothing was written into them."""
        for suite in [suite for suite in self.folders if suite not in suites]:
            path = self.folders[suite].path
            if not any(file.is_file() for file in path.rglob("*")):
                shutil.rmtree(path, ignore_errors=True)
                del self.folders[suite]
                with contextlib.suppress(OSError):  # another run's, or the user's own
                    path.parent.rmdir()

    def finish(self, results: Sequence[ProbeResult], lang: Lang) -> None:
        """The reports, for people and for spreadsheets."""
        from pytest_greta.artifacts import ArtifactError
        from pytest_greta.report.author import default_author
        from pytest_greta.report.markdown import final_report

        author = default_author(lang)
        for suite, folder in self.folders.items():
            rows = [result for result in results if result.suite == suite]
            tsv = folder.analysis_path
            try:
                folder.write(tsv, self.sheet.pieces(rows))
                report = final_report(
                    rows,
                    suite=suite,
                    date=self.date.isoformat(),
                    author=author,
                    lang=lang,
                    analysis_file=tsv.name,
                    files=folder.files(),
                )
                folder.write(folder.report_path, report)
            except ArtifactError as error:
                self._note(error)

    def _note(self, error: Exception) -> None:
        said: texts.Text | None = getattr(error, "said", None)
        for problem in [str(error)] if said is None else said.lines(self.lang):
            if problem not in self.problems:
                self.problems.append(problem)
