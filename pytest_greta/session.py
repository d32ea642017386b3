"""One session, in the one process that has all results: alone, or as the controller of xdist's workers."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greta import given, located, texts, worker
from pytest_greta import settings as settings_
from pytest_greta.baseline import gate

if TYPE_CHECKING:
    from pytest_greta.artifacts import RunFolder
    from pytest_greta.files import Files
    from pytest_greta.result import ProbeResult

SESSION: pytest.StashKey[Session] = pytest.StashKey()


def folder(config: pytest.Config, suite: str) -> RunFolder | None:
    """Where a probe of ``suite`` writes its log and traces; None where nothing is to be written."""
    if SESSION in config.stash:
        files = config.stash[SESSION].files
        return files.folder(suite) if files is not None else None
    path = worker.worker_folders(config).get(suite)
    if path is None:
        return None
    from pytest_greta.artifacts import RunFolder

    return RunFolder.worker(path)


class Session:
    """Gathers results as they come, writes the files, prints the summary, decides about the exit code."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.run_id = uuid.uuid4().hex[:16]
        self.shard = ""
        self.results: list[ProbeResult] = []
        self.files: Files | None = None
        self.outcomes: list[str] = []
        """Of the probes of case files, not of those of the fixture."""
        self.nothing_ran = False
        self.awaited: list[str] = []
        """Node ids of what was to be run, ordinary tests included."""
        self.reached: set[str] = set()
        self.notes: list[str] = []
        """Shown with the settings, once there are cases."""
        self.commands: list[str] = []
        """Lines for a forge that reads the output."""
        self.remarks: list[str] = []
        self.unwritten: list[str] = []
        """What was asked for and could not be written, baselines aside."""
        self.baseline = gate.Told()

    def begin(self, suites: Iterable[str]) -> None:
        """Cases will run. Raises ``pytest.UsageError`` for a wrong setting or a folder that cannot be written."""
        from pytest_greta.merge import current_shard

        settings = settings_.read(self.config)
        try:
            self.shard = current_shard()
        except ValueError as error:
            raise pytest.UsageError(texts.say(settings["lang"], "runs.bad_shard", value=error)) from None
        if settings["artifacts"] is None:
            return
        from pytest_greta.files import Files

        self.files = self.files or Files(settings["artifacts"], settings.sources["artifacts"], settings["lang"])
        for suite in suites:
            self.files.folder(suite)

    def prepare(self, nodeids: list[str]) -> None:
        """``--collect-only``: the report names what would run, and no folder of results is begun."""
        rows = located.prepared(self.config, nodeids)
        self.begin(dict.fromkeys(row.suite for row in rows))
        if self.files is not None:
            self.files.finish(rows, settings_.lang(self.config))

    def settings_lines(self) -> list[str]:
        notes = [f"greta: {line}" for line in self.notes]
        return settings_.read(self.config).lines() + given.notes(self.config) + notes

    def write_line(self, line: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self.config.option.verbose >= 0:
            reporter.ensure_newline()
            reporter.write_line(line)

    def so_far(self) -> str:
        """For the last words of a process that ends itself."""
        if not self.results:
            return ""
        lang = settings_.lang(self.config)
        lines = texts.text("so_far").lines(lang)
        for result in self.results:
            verdict = result.verdict
            said = (
                f"{verdict.status} {verdict.scenario or ''}".strip()
                if verdict
                else " / ".join(result.not_run_text.lines(lang))
            )
            lines.append(f"  {result.outcome:8} {result.nodeid} {said}")
        return "\n".join(lines)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # a case that was interrupted has only its setup, and under --setup-only a teardown too
        if report.when != "teardown" and (report.when != "setup" or not report.passed):
            self.reached.add(report.nodeid)
        lines: list[str] | None = getattr(report, "greta", None)
        if not lines:
            return
        from pytest_greta.packed import from_text

        worker = getattr(report, "worker_id", "")  # set by xdist
        known = {"run_id": self.run_id, "shard": self.shard, **({"worker": worker} if worker else {})}
        results = [from_text(line, **known) for line in lines]
        self.results += results
        if self.files is None:
            self.begin(())  # under xdist the fixture's probes come without any case
        if self.files is not None:
            self.files.append(results)
        if getattr(report, "greta_case", False):
            self.outcomes += [result.outcome for result in results]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        missed = [nodeid for nodeid in self.awaited if nodeid not in self.reached]
        rows = self._add_not_reached(missed) if missed else []
        if self.files is not None and not self.config.option.collectonly:
            self.files.finish(self.results, settings_.lang(self.config))
        if self.results:
            self._report_to_ci()
            self.baseline = gate.finish(self.config, self.results, reached_all=not missed)
        outcomes = self.outcomes + [row.outcome for row in rows]
        empty = bool(outcomes) and all(outcome == "not_run" for outcome in outcomes)
        if empty and session.exitstatus == pytest.ExitCode.OK and not settings_.read(self.config)["allow_empty"]:
            self.nothing_ran = True
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.unwritten += self.files.problems if self.files is not None else ()
        if (self.unwritten or self.baseline.problems) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _report_to_ci(self) -> None:
        """What ``--greta-report`` asks for, for a forge's own pages."""
        settings = settings_.read(self.config)
        if settings["report"]:
            from pytest_greta.ci import publish

            root = self.files.root if self.files is not None else None
            base = self.config.invocation_params.dir
            found = publish(settings["report"], self.results, settings["lang"], base, root)
            self.commands, self.remarks, problems = found
            self.unwritten += problems

    def _add_not_reached(self, nodeids: list[str]) -> list[ProbeResult]:
        from dataclasses import replace

        from pytest_greta.cases.model import CaseError

        with_results = {result.suite for result in self.results}
        try:
            rows = [
                replace(row, run_id=self.run_id, shard=self.shard) for row in located.not_reached(self.config, nodeids)
            ]
        except (CaseError, OSError):  # someone changed the file during the run: what was run still counts
            return []
        self.results += rows
        if self.files is not None:
            self.files.discard_empty(with_results)
            self.files.append([row for row in rows if row.suite in self.files.folders])
        return rows

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for command in self.commands:  # whatever the verbosity: a program reads them
            terminalreporter.ensure_newline()
            terminalreporter.write_line(command)
        self._tell_baseline(terminalreporter)
        if self.config.option.collectonly:
            self._tell_files(terminalreporter)
        spoken = self.unwritten or any(result.outcome != "passed" for result in self.results)
        if not self.results or (self.config.option.verbose < 0 and not spoken):
            return
        from pytest_greta.report.terminal import summary
        from pytest_greta.result import NOT_REACHED

        lang: Any = settings_.lang(self.config)
        width = min(shutil.get_terminal_size().columns, 120)
        terminalreporter.section("greta", sep="=", bold=True)
        for line in summary(self.results, lang=lang, width=width, style=_style(self.config)).splitlines():
            terminalreporter.write_line(line)
        self._tell_files(terminalreporter)
        missed = sum(result.not_run_kind == NOT_REACHED for result in self.results)
        if missed:
            terminalreporter.write_line("")
            for line in texts.say(lang, "interrupted", count=missed).splitlines():
                terminalreporter.write_line(line, red=True)
        if self.nothing_ran:
            terminalreporter.write_line("")
            for line in texts.say(lang, "nothing_ran").splitlines():
                terminalreporter.write_line(line, red=True)

    def _tell_files(self, terminalreporter: Any) -> None:
        for folder in self.files.folders.values() if self.files is not None else ():
            said = texts.say(settings_.lang(self.config), "written", path=os.path.relpath(folder.path))
            for line in said.splitlines():
                terminalreporter.write_line(line)
        unwritten = texts.text("unwritten").lines(settings_.lang(self.config)) if self.unwritten else []
        for said in (*self.remarks, *self.unwritten, *unwritten):
            for line in said.splitlines():
                terminalreporter.write_line(line, red=True)

    def _tell_baseline(self, terminalreporter: Any) -> None:
        """Whatever the verbosity: nothing is widened silently."""
        lang = settings_.lang(self.config)
        for said, red in ((self.baseline.lines, False), (self.baseline.problems, True)):
            for text in said:
                terminalreporter.ensure_newline()
                for line in text.lines(lang):
                    terminalreporter.write_line(line, red=red)


_ROLES: dict[str, dict[str, bool]] = {
    "good": {"green": True},
    "bad": {"red": True, "bold": True},
    "warn": {"yellow": True},
    "dim": {"light": True},
    "bold": {"bold": True},
}


def _style(config: pytest.Config) -> Callable[[str, str], str]:
    writer = config.get_terminal_writer()
    return lambda text, role: writer.markup(text, **_ROLES.get(role, {})) if writer.hasmarkup else text
