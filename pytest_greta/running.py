"""Runs one probe inside a pytest item: its settings, the watchdog, and what becomes of exceptions."""

from __future__ import annotations

import contextlib
import datetime
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_greta import dying, exit_guard, session, texts, worker
from pytest_greta import settings as settings_
from pytest_greta.baseline import gate
from pytest_greta.cases.model import CaseError, OptionError
from pytest_greta.located import reproduce, where_of
from pytest_greta.settings import API_SUITE, RunSettings
from pytest_greta.user_backends import user_backends
from pytest_greta.watchdog import Watchdog, as_line_of, say

if TYPE_CHECKING:
    from pytest_greta.api import Run
    from pytest_greta.cases.model import Probe
    from pytest_greta.result import ProbeResult

T = TypeVar("T")

OUTCOMES = (pytest.skip.Exception, pytest.xfail.Exception)
"""What a backend must not raise: pytest would count the case as skipped or expected to fail, and the run would be green
without a word of ours."""

WATCHDOG: pytest.StashKey[Watchdog] = pytest.StashKey()
SO_FAR: pytest.StashKey[Callable[[], str]] = pytest.StashKey()
"""The results so far, in the process that has them."""


def run_settings(config: pytest.Config, probe: Probe, nodeid: str, where: str) -> RunSettings:
    settings = settings_.read(config)
    return RunSettings(
        nodeid=nodeid,
        where=where,
        threads=worker.threads(config),
        library=settings["library"],
        trace=settings["trace"],
        canary=settings["canary"],
        artifacts=session.folder(config, probe.case.suite),
        require=settings["require"],
        lang=settings["lang"],
        backends=user_backends(config),
        reproduce=reproduce(config, nodeid),
    )


@dataclass(frozen=True)
class Unfinished:
    """A probe that came to no verdict. ``trace``: the traceback where an exception that is no answer ended it."""

    result: ProbeResult
    trace: str = ""


def run(config: pytest.Config, probe: Probe, settings: RunSettings) -> ProbeResult | Unfinished:
    """One probe of a case file. Its log says that it started before it starts: what crashes can say nothing after."""
    _log(probe, settings, f"start {settings.where} {settings.nodeid}")

    further = replace(settings, canary="off", trace="off", artifacts=None)

    def once(one: Probe) -> ProbeResult:
        from pytest_greta.probing import run_probe

        return run_probe(one, settings if one is probe else further)

    found = guarded(config, probe, settings, lambda: gate.run(config, probe, once), gate.runs(config, probe))
    if settings.artifacts is not None:
        from pytest_greta.report.failure import failure_text

        result, trace = (found.result, found.trace) if isinstance(found, Unfinished) else (found, "")
        _log(probe, settings, f"{result.outcome}\n{failure_text(result, settings.lang)}\n{trace}")
    return found


def _log(probe: Probe, settings: RunSettings, text: str) -> None:
    if settings.artifacts is None:
        return
    from pytest_greta.artifacts import ArtifactError

    now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
    with contextlib.suppress(ArtifactError):  # the results meet the same disk, and that is said in the summary
        settings.artifacts.log(probe.case.id, probe.id, f"{now} {text}")


def run_api(item: pytest.Item, name: str, model: Any, prompt: Any, mode: str, **keys: Any) -> Run | Unfinished:
    """One probe of the fixture, by the public API; ``keys`` as ``pytest_greta.probe`` takes them."""
    from pytest_greta.cases.model import Case, Expect, Probe, Prompt, Where

    path, line, _ = item.reportinfo()
    where = Where(Path(path), (line or 0) + 1)
    # Stands for the test in messages and for its timeout; what is run is the API's own probe.
    case = Case(name, API_SUITE, where, Prompt(), (mode,), {})
    probe = Probe(mode, mode, "", case, keys, Expect())
    shown = where_of(item.config, where.path, where.line)
    settings = run_settings(item.config, probe, item.nodeid, shown)

    def call() -> Run:
        from pytest_greta import api

        return api.probe(model, prompt, mode=mode, name=name, settings=settings, **keys)

    return guarded(item.config, probe, settings, call)


def guarded(
    config: pytest.Config, probe: Probe, settings: RunSettings, call: Callable[[], T], runs: int = 1
) -> T | Unfinished:
    """What ``call`` returns, under the watchdog; or, where it raises, the result that stands for that.

    ``runs``: how often the probe is run, each as long as it may take.
    """
    from pytest_greta import unfinished
    from pytest_greta.backends.base import BackendError, BackendMissing, Unsupported
    from pytest_greta.engine.store import ModelError, ModelMissing

    where = probe.case.where
    seconds = runs * float(probe.settings.get("timeout") or settings_.read(config)["timeout"])
    worker.leave_note(config, seconds)
    try:
        with (
            exit_guard.guarded(config.stash[WATCHDOG].fd, lambda: _last_words(config, settings, "exited")),
            config.stash[WATCHDOG].watch(seconds, lambda: _last_words(config, settings, "timeout", seconds=seconds)),
            dying.heard(lambda said: _dying(config, settings, said)),
        ):
            return as_line_of(where.path, where.line, settings.nodeid, call)
    except (ModelMissing, BackendMissing) as missing:
        return Unfinished(unfinished.not_run(probe, settings, missing.kind, missing.message_text, missing.mend_text))
    except Unsupported as error:
        key = "unsupported" if error.message == error.feature else "unsupported_why"
        said = texts.text(key, feature=error.feature, message=error.message_text)
        return Unfinished(unfinished.not_run(probe, settings, "feature", said, error.mend_text))
    except (CaseError, OptionError, ModelError, BackendError) as error:
        return Unfinished(unfinished.inconclusive(probe, settings, error.said))
    except OUTCOMES as error:
        return Unfinished(unfinished.from_outcome(probe, settings, error), traceback.format_exc())
    except Exception as error:
        return Unfinished(unfinished.from_exception(probe, settings, error), traceback.format_exc())


def _dying(config: pytest.Config, settings: RunSettings, said: texts.Text) -> None:
    worker.leave_words(config, said)
    say(config.stash[WATCHDOG].fd, _last_words(config, settings, "aborted", said=said))


def _last_words(config: pytest.Config, settings: RunSettings, key: str, **values: object) -> str:
    said = texts.say(settings.lang, key, where=settings.where, nodeid=settings.nodeid, **values)
    if settings_.is_worker(config):
        return said
    results = config.stash[SO_FAR]() if SO_FAR in config.stash else ""
    return "\n".join(filter(None, (results, said, texts.say(settings.lang, "alone"))))
