"""The section on what changes from as_designed to kv_aligned, with what this run measured in each."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_greta.cases.model import MODES
from pytest_greta.options import OPTIONS
from pytest_greta.report.md import code, paragraph, table
from pytest_greta.report.messages import Lang, say
from pytest_greta.result import ProbeResult


def modes_compared(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    by_mode = {mode: [r for r in results if r.mode == mode and r.verdict is not None] for mode in MODES}
    option = next(option for option in OPTIONS if option.flag == "--greta-mode")

    def chosen(mode: str) -> str:
        variables = ", ".join(code(f"{name}={mode}") for name in option.env)
        return f"{code(f'{option.flag}={mode}')}, {variables}"

    rows = [
        [say("modes.chosen", lang), *map(chosen, MODES)],
        [say("modes.question", lang), *(say(f"modes.{mode}", lang) for mode in MODES)],
        [say("modes.verdict", lang), *(say(f"modes.{mode}_verdict", lang) for mode in MODES)],
    ]
    counted = {mode: _counts(found) for mode, found in by_mode.items()}
    for key in ("probes", "bytes", "qkv", "judged", "kv", "scores", "canary"):
        cells = (counted[mode].get(key) or say("word.not_measured", lang) for mode in MODES)
        rows.append([say(f"modes.{key}", lang), *cells])
    return paragraph("modes.note", lang) + table([say("modes.aspect", lang), *MODES], rows)


def _counts(results: Sequence[ProbeResult]) -> dict[str, str]:
    """ "" for what nobody measured."""
    if not results:
        return {}
    digests = [r.digest for r in results]
    verdicts = [r.verdict for r in results if r.verdict is not None]
    canaries = [c.outcome for v in verdicts for c in v.evidence.canaries if c.outcome != "skipped"]
    layers = frozenset[int]().union(*(d.score_layers for d in digests))
    elements, hashes, compared = (sum(getattr(d, n) for d in digests) for n in ("elements", "hashes", "compared"))
    measured = sum(v.indicators.kv_aligned is not None for v in verdicts)
    return {
        "probes": str(len(results)),
        "bytes": f"{compared} ({sum(d.same for d in digests)})" if compared else "",
        "qkv": f"{hashes} ({sum(d.equal for d in digests)})" if hashes else "",
        "judged": str(elements or ""),
        "kv": str(measured or ""),
        "scores": str(len(layers) or ""),
        "canary": f"{canaries.count('found')} / {len(canaries)}" if canaries else "",
    }
