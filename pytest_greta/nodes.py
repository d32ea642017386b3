"""``GretaFile > GretaCase > GretaProbe``: what pytest collects from a case file.

Collectors are nested instead of parametrised, because names with brackets lose ``--lf``, ``--sw`` and loadgroup.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greta import running, texts
from pytest_greta import settings as settings_
from pytest_greta.cases.model import Case, CaseError, Probe, Where
from pytest_greta.located import where_of

if TYPE_CHECKING:
    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from pytest_greta.result import ProbeResult

FAULT_MARK = "fault"

RESULTS: pytest.StashKey[list[ProbeResult]] = pytest.StashKey()
"""Plain results that an item has produced and no report has carried away yet."""

_SEEN: pytest.StashKey[MutableMapping[tuple[str, str], Where]] = pytest.StashKey()
"""Cases by suite and id: a suite may be spread over files."""


class ProbeFailed(Exception):
    """The verdict is not what the case expects. ``trace``: the traceback where an exception was the reason."""

    def __init__(self, result: ProbeResult, trace: str = "") -> None:
        super().__init__(result.nodeid)
        self.result = result
        self.trace = trace


class GretaFile(pytest.File):
    """A file of cases."""

    def collect(self) -> Iterator[GretaCase]:
        from pytest_greta.cases.loader import check_unique, load_suite

        try:
            suite = load_suite(self.path)
            check_unique(suite, self.session.stash.setdefault(_SEEN, {}))
        except CaseError as error:
            raise self.CollectError(error.text(settings_.lang(self.config))) from None
        except OSError as error:
            raise self.CollectError(str(error)) from None
        for case in suite.cases:
            yield GretaCase.from_parent(self, name=case.id, case=case)


class GretaCase(pytest.Collector):
    """A case, the parent of the probes of its matrix."""

    def __init__(self, *, case: Case, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case

    def collect(self) -> Iterator[GretaProbe]:
        from pytest_greta.plan import expand

        self._check_marks()
        try:
            overrides = settings_.read(self.config).overrides
        except pytest.UsageError:
            overrides = {}  # raised for the whole session, once all is collected
        try:
            probes = expand(self.case, overrides)
        except CaseError as error:
            raise self.CollectError(error.text(settings_.lang(self.config))) from None
        for probe in probes:
            yield GretaProbe.from_parent(self, name=probe.id, probe=probe)

    def _check_marks(self) -> None:
        known = registered_marks(self.config)
        for mark in self.case.marks:
            if mark not in known:
                where, names = str(self.case.where), ", ".join(sorted(known))
                lang = settings_.lang(self.config)
                raise self.CollectError(texts.say(lang, "unknown_mark", where=where, mark=mark, known=names))


class GretaProbe(pytest.Item):
    """One cell of a case's matrix: runs the probe and compares the verdict with what the case expects."""

    def __init__(self, *, probe: Probe, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.probe = probe
        self.stash[RESULTS] = []
        self.add_marker(FAULT_MARK if probe.case.inject else probe.mode)
        for mark in probe.case.marks:
            self.add_marker(mark)

    def reportinfo(self) -> tuple[Path, int, str]:
        where = self.probe.case.where
        return self.path, where.line - 1, f"{self.probe.case.id}::{self.probe.id}"

    @property
    def where(self) -> str:
        """file:line of the case, as ``located.where_of`` gives it."""
        return where_of(self.config, self.path, self.probe.case.where.line)

    def runtest(self) -> None:
        settings = running.run_settings(self.config, self.probe, self.nodeid, self.where)
        found = running.run(self.config, self.probe, settings)
        result, trace = (found.result, found.trace) if isinstance(found, running.Unfinished) else (found, "")
        self.stash[RESULTS].append(result)
        self.user_properties += properties(result)
        if result.outcome == "failed":
            raise ProbeFailed(result, trace)
        if result.outcome == "not_run":
            pytest.skip(skip_reason(result, settings_.lang(self.config)))

    def left_out(self, report: pytest.TestReport) -> ProbeResult:
        """The result of a probe that a mark, ``skip`` for one, keeps from being run."""
        from pytest_greta import unfinished

        longrepr = report.longrepr
        reason = longrepr[2].removeprefix("Skipped: ") if isinstance(longrepr, tuple) else str(longrepr or "")
        settings = running.run_settings(self.config, self.probe, self.nodeid, self.where)
        message = texts.text("marked", reason=reason)
        result = unfinished.not_run(self.probe, settings, "mark", message, texts.as_text(""))
        self.user_properties += properties(result)
        return result

    def repr_failure(self, excinfo: ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> str | TerminalRepr:
        """Text under pytest's own classes: what a worker of xdist sends home is only those, or ``str``."""
        error = excinfo.value
        if isinstance(error, pytest.UsageError):
            return str(error)
        if not isinstance(error, ProbeFailed):
            return super().repr_failure(excinfo, *args, **kwargs)
        from pytest_greta.report.failure import failure_text

        text = failure_text(error.result, settings_.lang(self.config))
        option = self.config.option
        if error.trace and (option.verbose >= 2 or option.tbstyle == "long"):
            text = f"{text}\n\n{error.trace}"
        path, line, _ = self.reportinfo()
        return failure_repr(text, str(path), (line or 0) + 1)


def failure_repr(text: str, path: str, line: int) -> TerminalRepr:
    """``text`` as pytest holds a failure: its first line is what the short summary and JUnit quote.

    A plain string would be quoted whole: where ``CI`` is set pytest does not shorten, and every failure stood twice.
    """
    from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

    body = ReprTraceback([ReprEntryNative([text.rstrip("\n") + "\n"])], None, "native")
    return ReprExceptionInfo(body, ReprFileLocation(path, line, text.partition("\n")[0]))


def suite_of(item: pytest.Item) -> str:
    """The suite that an item's results belong to; "" for an item that has nothing to do with us."""
    if isinstance(item, GretaProbe):
        return item.probe.case.suite
    return settings_.API_SUITE if "greta" in getattr(item, "fixturenames", ()) else ""


def skip_reason(result: ProbeResult, lang: str) -> str:
    """One line, because that is what ``-rs`` and JUnit show."""
    values = {"kind": result.not_run_kind, "message": result.not_run_text, "mend": result.mend_text}
    return " / ".join(texts.text("not_run_mend" if result.mend else "not_run", **values).lines(lang))


def properties(result: ProbeResult) -> list[tuple[str, Any]]:
    """For JUnit's ``<properties>``."""
    verdict = result.verdict
    if verdict is None:
        return [("not_run", result.not_run_kind)]
    found = [("verdict", verdict.status), ("scenario", verdict.scenario or "")]
    if verdict.finding != "NONE":
        found.append(("finding", verdict.finding))
    if verdict.first_failure is not None:
        found.append(("stage", f"layer {verdict.first_failure.layer} {verdict.first_failure.stage}"))
    return [*found, ("rho", f"{float(verdict.rho):.3g}")]


def registered_marks(config: pytest.Config) -> set[str]:
    return {line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")}
