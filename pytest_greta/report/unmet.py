"""What the case expects and did not get, field by field, from the words of its YAML (``ProbeResult.expected``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_greta.result import ProbeResult

_CONTRACT = re.compile(r" ?\(contract (\w+)\)$")
_FIELDS = ("status", "scenario", "finding", "layer", "stage", "phase", "positions", "heads", "reason")


@dataclass(frozen=True)
class Unmet:
    """``name`` is "" for a plain list of statuses or scenarios; ``found`` is "" where there is nothing."""

    name: str
    wanted: tuple[str, ...]
    found: str


def contract(result: ProbeResult) -> str:
    """The contract that the run broke, or ""."""
    found = _CONTRACT.search(result.expected)
    return found.group(1) if found and result.outcome == "failed" else ""


def unmet(result: ProbeResult) -> list[Unmet]:
    """Every field that the verdict does not have as the case expects it; [] for a probe that was not run."""
    if result.verdict is None or result.outcome != "failed":
        return []
    wanted, _, reason = _CONTRACT.sub("", result.expected).partition("reason: ")
    fields = [(name, tuple(values.split("|"))) for name, values in map(_split, wanted.split(", ")) if values]
    if reason:
        fields.append(("reason", (reason,)))
    found = _found(result)
    return [Unmet(name, values, ", ".join(found[name])) for name, values in fields if not _met(name, values, found)]


def _split(part: str) -> tuple[str, str]:
    name, colon, values = part.partition(": ")
    return (name, values) if colon else ("", name)


def _found(result: ProbeResult) -> dict[str, tuple[str, ...]]:
    verdict = result.verdict
    assert verdict is not None
    failure = verdict.first_failure
    found: dict[str, tuple[str, ...]] = dict.fromkeys(_FIELDS, ())
    found |= {
        "": tuple(word for word in (verdict.status, verdict.scenario) if word),
        "status": (verdict.status,),
        "scenario": (verdict.scenario,) if verdict.scenario else (),
        "finding": (verdict.finding,),
        "reason": (verdict.reason,) if verdict.reason else (),
    }
    if failure is not None:
        found |= {
            "layer": (str(failure.layer),),
            "stage": (failure.stage,),
            "phase": (failure.phase,),
            "positions": tuple(map(str, failure.positions)),
            "heads": tuple(map(str, failure.heads)),
        }
    return found


def _met(name: str, wanted: tuple[str, ...], found: dict[str, tuple[str, ...]]) -> bool:
    if name not in found:
        return True  # words of a later version: nothing that could be said of them
    if name in ("positions", "heads"):
        return set(wanted) == set(found[name])
    if name == "reason":
        return any(wanted[0] in words for words in found[name])
    return bool(set(wanted) & set(found[name]))
