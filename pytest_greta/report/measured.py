"""Sections of the Markdown report that list what was measured: indicators, hashes, statistics, environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_greta.checks.result import ByteCheck
from pytest_greta.report import pick
from pytest_greta.report.md import code, escape, paragraph, table
from pytest_greta.report.messages import Lang, say, truth
from pytest_greta.report.text import number
from pytest_greta.result import ProbeResult
from pytest_greta.trace.stages import order

QKV = ("q_proj", "k_proj", "v_proj", "q_rope", "k_rope", "kv_write")
ROWS = 1500
"""Rows of hashes in one report: SmolLM2 has 180 a probe."""


def indicators(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    headers = [say(f"word.{w}", lang) for w in ("case", "mode")]
    headers += [say(f"indicator.{w}", lang) for w in ("k", "v", "kv")]
    rows = []
    for result in results:
        if result.verdict is None:
            continue
        found = result.verdict.indicators
        values = (found.k_hash_consistent, found.v_hash_consistent, found.kv_aligned)
        rows.append([escape(result.case), escape(pick.mode_text(result)), *(truth(v, lang) for v in values)])
    if not rows:
        return []
    return paragraph("report.indicator_note", lang) + paragraph("summary.indicators_note", lang) + table(headers, rows)


def hashes(results: Sequence[ProbeResult], lang: Lang, analysis_file: str) -> list[str]:
    """Hashes of Q, K and V of each layer of each probe: the first row that differs, else the first compared."""
    lines: list[str] = []
    left_out = 0
    budget = ROWS
    headers = [say(f"word.{w}", lang) for w in ("layer", "stage", "path")] + [
        "full",
        say("word.path", lang),
        "=",
        "max",
    ]
    for result in results:
        found = sorted((b for b in result.bytes if b.stage in QKV), key=lambda b: (*order(b.layer, b.stage), b.part))
        if not found:
            continue
        shown = found[:budget]
        budget -= len(shown)
        left_out += len(found) - len(shown)
        if shown:
            lines += [f"### {escape(result.case)} {escape(pick.mode_text(result))}", ""]
            lines += table(headers, (_hash_row(b) for b in shown))
    if not lines:
        return []
    if left_out:
        lines += paragraph("report.folded", lang, count=left_out, file=analysis_file or "results.jsonl")
    return paragraph("report.hash_note", lang) + lines


def _hash_row(check: ByteCheck) -> list[str]:
    stage = check.stage + (f".{check.part}" if check.part else "")
    paths = f"{check.left} / {check.right}"
    equal = "=" if check.equal else "≠"
    both = (code(check.left_hash), code(check.right_hash))
    return [pick.layer_text(check.layer), escape(stage), escape(paths), *both, equal, number(check.max_abs)]


def attention(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    lines: list[str] = []
    left_out = 0
    budget = ROWS
    headers = [say(f"word.{w}", lang) for w in ("layer", "stage", "path", "min", "max", "mean")] + ["source"]
    for result in results:
        shown = result.stats[:budget]
        budget -= len(shown)
        left_out += len(result.stats) - len(shown)
        if shown:
            lines += [f"### {escape(result.case)} {escape(pick.mode_text(result))}", ""]
            rows = (
                [
                    pick.layer_text(s.layer),
                    escape(s.stage),
                    escape(s.path),
                    *(number(v) for v in (s.min, s.max, s.mean)),
                    escape(s.source),
                ]
                for s in shown
            )
            lines += table(headers, rows)
    if not lines:
        return []
    if left_out:
        lines += paragraph("report.folded", lang, count=left_out, file="results.jsonl")
    return paragraph("report.stats_note", lang) + lines


def environment(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """Of the run, and every rounding that a library declares; one table a distinct set."""
    lines: list[str] = []
    seen: set[str] = set()
    for result in results:
        for key, values in (("", result.environment), ("report.roundings", result.roundings)):
            flat = _flat(values)
            if not flat or repr((key, flat)) in seen:
                continue
            seen.add(repr((key, flat)))
            title = say(key, lang) if key else say("report.12", lang)
            lines += [f"### {title}", ""] if len(seen) > 1 or key else []
            lines += table(["", ""], ([escape(name), escape(value)] for name, value in flat))
    return lines


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{name}.")
        else:
            out.append((f"{prefix}{name}", str(value)))
    return out
