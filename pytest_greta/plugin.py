"""The pytest plugin ``greta``: hooks, thin. Importing it loads neither NumPy nor cffi nor YAML."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_greta import devices, given, hookspecs, nodes, running
from pytest_greta import options as options_
from pytest_greta import settings as settings_
from pytest_greta.baseline import gate
from pytest_greta.cases.model import MODES
from pytest_greta.controller import Controller
from pytest_greta.fixture import greta
from pytest_greta.session import SESSION, Session
from pytest_greta.watchdog import Watchdog
from pytest_greta.worker import tell_wrong

if TYPE_CHECKING:
    from _pytest.config import PytestPluginManager

__all__ = ["greta"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("greta", "prefill/decode drift of attention libraries (pytest-greta)")
    for option in options_.OPTIONS:
        variables = "".join(f" [env: {name}]" for name in option.env)
        help = f"{option.help}{variables}"
        if option.is_flag:
            group.addoption(option.flag, dest=option.dest, action="store_true", default=False, help=help)
            parser.addini(option.dest, help, type="bool", default=False)
        else:
            group.addoption(option.flag, dest=option.dest, metavar=option.metavar, default=None, help=help)
            parser.addini(option.dest, help, type="string", default="")
    parser.addini(options_.FILES_INI, "names of case files", type="args", default=options_.FILES_DEFAULT)


def pytest_addhooks(pluginmanager: PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    for mode in MODES:
        config.addinivalue_line("markers", f"{mode}: pytest-greta cases run in the mode {mode}")
    config.addinivalue_line("markers", f"{nodes.FAULT_MARK}: pytest-greta cases that plant a fault to see it found")
    # A copy, because stderr itself is redirected while a case runs.
    backstop = not float(config.getini("faulthandler_timeout") or 0) if _has_faulthandler(config) else True
    config.stash[running.WATCHDOG] = Watchdog(os.dup(_stderr()), backstop)
    if not settings_.is_worker(config):
        _mask_this_process(config)
        session = config.stash[SESSION] = Session(config)
        config.stash[running.SO_FAR] = session.so_far
        config.pluginmanager.register(session, "greta-session")
        config.pluginmanager.register(Controller(config, session), "greta-controller")


def _mask_this_process(config: pytest.Config) -> None:
    """Where there are no workers, and before anything of a runtime is loaded that would read the mask."""
    if getattr(config.option, "tx", None):
        return
    given = devices.for_this_process(config)
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)

    def restore() -> None:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value

    config.add_cleanup(restore)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    return devices.count_for_auto(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if running.WATCHDOG in config.stash:
        os.close(config.stash[running.WATCHDOG].fd)
        del config.stash[running.WATCHDOG]


def _has_faulthandler(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin("faulthandler")


def _stderr() -> int:
    """The file descriptor of stderr; under xdist and some IDEs ``sys.stderr`` has none."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> nodes.GretaFile | None:
    if any(file_path.match(pattern) for pattern in parent.config.getini(options_.FILES_INI)):
        return nodes.GretaFile.from_parent(parent, path=file_path)
    if file_path.suffix in (".yaml", ".yml") and parent.session.isinitpath(file_path):
        from pytest_greta.cases.loader import is_case_file

        if is_case_file(file_path, explicit=True):
            return nodes.GretaFile.from_parent(parent, path=file_path)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not any(nodes.suite_of(item) for item in items):
        return
    mode = settings_.read(config)["mode"]  # a wrong setting ends the run here, now that it matters
    try:
        given.check(config)
        gate.check(config, (i.probe.case.suite for i in items if isinstance(i, nodes.GretaProbe)))
    except pytest.UsageError as error:
        if not tell_wrong(config, str(error)):
            raise
    if mode is not None:
        others = {i for i in items if isinstance(i, nodes.GretaProbe) and i.probe.mode != mode}
        if others:
            config.hook.pytest_deselected(items=[i for i in items if i in others])
            items[:] = [i for i in items if i not in others]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    if SESSION not in config.stash:
        return []
    if not any(nodes.suite_of(item) for item in items):
        return [] if items else given.nothing(config)
    return config.stash[SESSION].settings_lines()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """The first moment at which it is sure that cases will run: without xdist, the folders are made here."""
    config = session.config
    suites = [suite for suite in map(nodes.suite_of, session.items) if suite]
    stopped = session.testsfailed and not config.option.continue_on_collection_errors
    if SESSION not in config.stash or not suites or stopped:
        return
    nodeids = [item.nodeid for item in session.items]
    if config.option.collectonly:
        config.stash[SESSION].prepare(nodeids)
    else:
        config.stash[SESSION].begin(dict.fromkeys(suites))
        config.stash[SESSION].awaited = nodeids


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    results = item.stash.get(nodes.RESULTS, None)
    if report.skipped and report.when == "setup" and isinstance(item, nodes.GretaProbe):
        results = [item.left_out(report)]
    if report.passed and report.when == "setup":
        return report  # probes of a fixture: the test has still to look at them
    if results:
        from pytest_greta.packed import as_text

        is_case = isinstance(item, nodes.GretaProbe)
        if not is_case and not report.passed:
            from pytest_greta.fixture import REFUSED

            refused = item.stash[REFUSED]
            results = [replace(r, outcome="failed") if refused(r) else r for r in results]
        if report.passed and not is_case:
            from pytest_greta.fixture import UNSEEN

            if unseen := item.stash[UNSEEN]():
                report.outcome, report.longrepr = "failed", unseen
            else:
                results = [replace(result, outcome="passed") for result in results]  # the test had its own expectation
        elif hasattr(report, "wasxfail") and report.skipped:
            results = [replace(r, outcome="xfailed") if r.outcome == "failed" else r for r in results]
        elif is_case and report.failed:  # a strict xfail, too, whose probe passed
            results = [replace(result, outcome="failed") for result in results]
        vars(report).update(greta=list(map(as_text, results)), greta_case=is_case)
        item.stash[nodes.RESULTS] = []
    if report.skipped and isinstance(item, nodes.GretaProbe) and isinstance(report.longrepr, tuple):
        path, line, _ = item.reportinfo()
        if not hasattr(report, "wasxfail"):
            report.longrepr = (str(path), line + 1, report.longrepr[2])
    return report


def pytest_enter_pdb(config: pytest.Config) -> None:
    config.stash[running.WATCHDOG].cancel()
