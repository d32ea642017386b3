"""Results of probes that came to no verdict of their own: not run, crashed, hung, or ended by an exception."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_greta import texts
from pytest_greta.cases.expect import spelled
from pytest_greta.result import ProbeResult
from pytest_greta.settings import RunSettings
from pytest_greta.texts import Text
from pytest_greta.verdict import INCONCLUSIVE, Verdict

if TYPE_CHECKING:
    from pytest_greta.cases.model import Probe


def not_run(probe: Probe, settings: RunSettings, kind: str, message: Text, mend: Text) -> ProbeResult:
    """Something that the case needs is not here. A failure where ``--greta-require`` names the kind."""
    required = kind in settings.require
    reason = texts.text("not_run", kind=kind, message=texts.join("; ", message, mend) if mend.en else message)
    return ProbeResult(
        **_identity(probe, settings),
        outcome="failed" if required else "not_run",
        verdict=_inconclusive(probe.mode, reason) if required else None,
        not_run=message.en,
        not_run_kind=kind,
        mend=mend.en,
        not_run_es=message.es,
        mend_es=mend.es,
    )


def inconclusive(probe: Probe, settings: RunSettings, reason: Text, worker: str = "") -> ProbeResult:
    """Nothing can be said, for ``reason``: the case fails."""
    return ProbeResult(
        **_identity(probe, settings), outcome="failed", verdict=_inconclusive(probe.mode, reason), worker=worker
    )


def from_exception(probe: Probe, settings: RunSettings, error: BaseException) -> ProbeResult:
    """An exception that is no answer: a defect of a backend, or ours. Its last line and its place are the reason."""
    return inconclusive(probe, settings, texts.as_text(_said(error)))


def from_outcome(probe: Probe, settings: RunSettings, error: BaseException) -> ProbeResult:
    """One of pytest's own outcomes, raised by a backend: it is no word of its on the case."""
    return inconclusive(probe, settings, texts.text("outcome_inside", error=_said(error)))


def _said(error: BaseException) -> str:
    last = traceback.format_exception_only(type(error), error)[-1].strip()
    raised = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in raised if "_pytest" not in Path(frame.filename).parts] or list(raised)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    return f"{last} ({place})"


def _identity(probe: Probe, settings: RunSettings) -> dict[str, Any]:
    case = probe.case
    return {
        "suite": case.suite,
        "case": case.id,
        "probe": probe.id,
        "mode": probe.mode,
        "variant": probe.variant,
        "nodeid": settings.nodeid,
        "where": settings.where,
        "expected": spelled(probe.expect),
        "fault": case.inject.fault if case.inject else "",
        "reproduce": settings.reproduce,
    }


def _inconclusive(mode: str, reason: Text) -> Verdict:
    return Verdict(INCONCLUSIVE, None, mode=mode, hypothesis="open", reason=reason.en, reason_es=reason.es)
