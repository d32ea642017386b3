"""One probe in a baseline: what is kept of its result. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pytest_greta.checks.result import StageCheck
from pytest_greta.engine.names import portable
from pytest_greta.result import ProbeResult
from pytest_greta.trace.stages import order

SEEDS = 5
"""A probe is recorded with as many seeds, its own and those after it: one alone says little of how far rho spreads."""

_JUDGED = ("", "q0")
"""Parts of a stage whose rho is kept: those that are judged by a bound which holds for any schedule."""


@dataclass(frozen=True)
class Entry:
    """``rho``: the largest of all seeds, layers and paths by stage (``attn_out``, ``attn_out.q0``), 0 for one that is
    not named. ``hashes``: only where the case promises equal bytes; by stage, one a layer, of the own seed."""

    probe: str
    """Its node id, without what xdist appends."""
    status: str
    scenario: str = ""
    finding: str = "NONE"
    library: str = ""
    version: str = ""
    device_kind: str = ""
    model: str = ""
    dtype: str = ""
    kv_dtype: str = ""
    schedule: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    rho: Mapping[str, float] = field(default_factory=dict)
    machine: str = ""
    """What the bytes depend on beside the library: processor, BLAS and threads."""
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return words(self.status, self.scenario, self.finding)


TEXTS = tuple(f.name for f in fields(Entry) if f.type == "str")


def words(status: str, scenario: str | None, finding: str) -> str:
    """``PASS STRUCTURAL_DRIFT SCHEDULE``"""
    return " ".join(word for word in (status, scenario, finding) if word and word != "NONE")


def probe_key(result: ProbeResult) -> str:
    """The node id as it is collected: xdist's loadgroup appends to it, and a file's name may hold any bytes."""
    file = result.nodeid.partition("::")[0]
    return "::".join((file, result.case, result.probe)).encode("utf-8", "backslashreplace").decode()


def entry_of(results: Sequence[ProbeResult]) -> Entry:
    """The entry of one probe from its results by seed, its own seed first. None of them may lack its verdict."""
    first = results[0]
    assert first.verdict is not None
    settings, machine = first.settings, first.environment
    hashes = _hashes(first)
    return Entry(
        probe=probe_key(first),
        status=first.verdict.status,
        scenario=first.verdict.scenario or "",
        finding=first.verdict.finding,
        library=str(machine.get("library", "")),
        version=str(machine.get("library_version", "")),
        device_kind=str(machine.get("device_kind", "")),
        model=portable(str(settings.get("model", ""))),
        dtype=str(settings.get("dtype", "")),
        kv_dtype=str(settings.get("kv_dtype", "")),
        schedule=_schedule(first.roundings),
        seeds=tuple(int(result.settings.get("seed", 0)) for result in results),
        rho=_largest(check for result in results for check in judged(result)),
        machine=", ".join(f"{name} {machine.get(name, '?')}" for name in ("processor", "numpy", "threads"))
        if hashes
        else "",
        hashes=hashes,
    )


def judged(result: ProbeResult) -> list[StageCheck]:
    """The checks that count, in the order of layers and stages. ``aligned`` is no run of the library's own."""
    found = [c for c in result.stages if c.part in _JUDGED and c.path != "aligned"]
    return sorted(found, key=lambda c: order(c.layer, c.stage))


def stage_key(check: StageCheck) -> str:
    return f"{check.stage}.{check.part}" if check.part else check.stage


def _largest(checks: Any) -> dict[str, float]:
    """By stage, in the order of the stages, as the file spells it: three digits."""
    found: dict[str, float] = {}
    for check in checks:
        found[stage_key(check)] = max(found.get(stage_key(check), 0.0), check.rho)
    kept = {key: float(f"{rho:.3g}") for key, rho in found.items() if rho > 0}
    return dict(sorted(kept.items(), key=lambda item: order(0, item[0].partition(".")[0])))


def compared_rows(result: ProbeResult) -> dict[str, dict[int, str]]:
    """By stage and layer: the hash of the full prefill's rows that are compared with decode. Eight digits tell a
    change, and can be read."""
    found: dict[str, dict[int, str]] = {}
    for check in sorted(result.bytes, key=lambda b: order(b.layer, b.stage)):
        if not check.part and check.right == "decode":
            found.setdefault(check.stage, {})[check.layer] = check.left_hash[:8]
    return found


def _hashes(result: ProbeResult) -> dict[str, tuple[str, ...]]:
    if not (result.settings.get("contract") or {}).get("bitwise"):
        return {}
    return {stage: tuple(by_layer.values()) for stage, by_layer in compared_rows(result).items()}


def _schedule(roundings: Mapping[str, Any]) -> dict[str, str]:
    """By phase, as reports spell it, with P's type: ``64 splits 2, p f32``; without a schedule that is known "?"."""
    from pytest_greta.backends.base import PHASES, Numerics
    from pytest_greta.checks.schedule import spelled
    from pytest_greta.plain import from_plain

    found: dict[str, str] = {}
    for phase in filter(roundings.__contains__, PHASES):
        numerics = from_plain(Numerics, roundings[phase])
        found[phase] = f"{spelled(numerics) or '?'}, p {numerics.p_dtype}"
    return found
