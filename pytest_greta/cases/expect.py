"""Does a verdict hold what a case expects, and did the run keep the case's contract? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_greta.cases.model import Expect
from pytest_greta.verdict import FirstFailure, Verdict


def matches(verdict: Verdict, expect: Expect) -> bool:
    """Every field that ``expect`` states. One that states nothing matches nothing: no wish is no test."""
    if expect.accept and not {verdict.status, verdict.scenario} & set(expect.accept):
        return False
    for name in ("status", "scenario", "finding"):
        wanted = getattr(expect, name)
        if wanted is not None and getattr(verdict, name) not in wanted:
            return False
    if expect.first_failure is not None and not _first_failure(verdict.first_failure, expect.first_failure):
        return False
    if expect.reason is not None and expect.reason not in verdict.reason:
        return False
    return expect != Expect()


def spelled(expect: Expect) -> str:
    """What a case expects, as its YAML says it: ``status: KV_MISMATCH, layer: 3, stage: lse|attn_out``."""
    parts = ["|".join(expect.accept)] if expect.accept else []
    for name in ("status", "scenario", "finding"):
        values = getattr(expect, name)
        if values:
            parts.append(f"{name}: {'|'.join(values)}")
    for name, value in (expect.first_failure or {}).items():
        parts.append(f"{name}: {'|'.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    if expect.reason:
        parts.append(f"reason: {expect.reason}")
    return ", ".join(parts)


CONTRACTS = ("bitwise", "schedule", "repeatable", "batch_invariant")
FINDING_OF: Mapping[str, str] = {"schedule": "SCHEDULE", "repeatable": "NONDETERMINISTIC"}
"""What a run that breaks the promise is found to be, where there is a word for it. A case may expect that."""


def contract_breach(contract: Mapping[str, Any], kept: Mapping[str, bool], expect: Expect) -> str:
    """The first promise that the run broke and that ``expect`` does not expect to be broken, or "". ``kept``: which of
    ``CONTRACTS`` hold; one not named was not measured."""
    broken = [name for name in CONTRACTS if contract.get(name) and not kept.get(name, True)]
    return next((name for name in broken if FINDING_OF.get(name) not in (expect.finding or ())), "")


def _first_failure(found: FirstFailure | None, wanted: Mapping[str, Any]) -> bool:
    if found is None:
        return False
    for name, value in wanted.items():
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if name in ("positions", "heads"):  # all that failed, no more and no fewer
            if set(getattr(found, name)) != set(values):
                return False
        elif getattr(found, name) not in values:
            return False
    return True
