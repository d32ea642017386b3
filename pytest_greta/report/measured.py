"""Sections of the Markdown report that list what was measured: indicators, hashes, statistics, environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pytest_greta.checks.result import ByteCheck
from pytest_greta.digest import QKV
from pytest_greta.report import pick
from pytest_greta.report.md import code, escape, paragraph, table
from pytest_greta.report.messages import Lang, say, truth
from pytest_greta.report.text import number
from pytest_greta.result import ProbeResult
from pytest_greta.trace.stages import order

LISTED = 200
"""Rows of a table of probes; the rest is in the files beside the report."""

ROWS = 1500
"""Rows of hashes in one report: SmolLM2 has 180 a probe."""

_NAMED = 6
_KEY = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


def indicators(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    headers = [say(f"word.{w}", lang) for w in ("case", "mode")]
    headers += [say(f"indicator.{w}", lang) for w in ("k", "v", "kv")]
    judged = [(result, result.verdict.indicators.by_key.values()) for result in results if result.verdict is not None]
    if not judged:
        return []
    notes = paragraph("report.indicator_note", lang) + paragraph("summary.indicators_note", lang)
    rows = (
        [escape(result.case), escape(pick.mode_text(result)), *(truth(v, lang) for v in values)]
        for result, values in judged[:LISTED]
    )
    lines = notes + table(headers, rows)
    if len(judged) > LISTED:
        lines += paragraph("report.folded", lang, count=len(judged) - LISTED, file="results.jsonl")
    return lines


def hashes(results: Sequence[ProbeResult], lang: Lang, analysis_file: str) -> list[str]:
    """Hashes of Q, K and V of each layer of each probe: the first row that differs, else the first compared."""
    lines: list[str] = []
    left_out = 0
    budget = ROWS
    headers = [
        *(say(f"word.{w}", lang) for w in ("layer", "stage", "compared")),
        say("word.hash_of", lang, path="full"),
        *(say(f"word.{w}", lang) for w in ("other_hash", "equal", "apart")),
    ]
    for result in results:
        if not budget:
            left_out += result.digest.hashes
            continue
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
    headers = [say(f"word.{w}", lang) for w in ("layer", "stage", "path", "min", "max", "mean", "origin")]
    for result in results:
        shown = result.stats[:budget] if budget else ()
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
                    say("word.derived", lang) if s.source == "derived" else escape(s.source),
                ]
                for s in shown
            )
            lines += table(headers, rows)
    if not lines:
        return []
    if left_out:
        lines += paragraph("report.folded", lang, count=left_out, file="results.jsonl")
    return paragraph("report.stats_note", lang) + lines


def _grid(values: Mapping[str, Any]) -> list[str]:
    """A table of names and values; mappings of one shape (prefill, decode) stand side by side."""
    inner = [v for v in values.values() if isinstance(v, Mapping)]
    if len(inner) == len(values) and inner and all(v.keys() == inner[0].keys() for v in inner):
        rows = ([escape(name), *(escape(_shown(v[name])) for v in inner)] for name in inner[0])
        return table(["", *map(escape, values)], rows)
    return table(["", ""], ([escape(name), escape(value)] for name, value in _flat(values)))


def environment(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """Of the run, and every rounding that a library declares; one table a distinct set, with its probes."""
    lines: list[str] = []
    for title, name in (("word.machine", "environment"), ("report.roundings", "roundings")):
        groups: dict[bytes, list[ProbeResult]] = {}
        for result in results:
            if getattr(result, name):
                groups.setdefault(orjson.dumps(getattr(result, name), default=str, option=_KEY), []).append(result)
        for group in groups.values():
            lines += [f"### {say(title, lang)}", ""]
            if len(groups) > 1:
                names = [f"{escape(r.case)} {escape(pick.mode_text(r))}" for r in group]
                more = f" {say('failure.more', lang, count=len(names) - _NAMED)}" if len(names) > _NAMED else ""
                lines += [", ".join(names[:_NAMED]) + more, ""]
            lines += _grid(getattr(group[0], name))
    return lines


def _shown(value: Any) -> str:
    """As JSON and the declarations write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{name}.")
        else:
            out.append((f"{prefix}{name}", _shown(value)))
    return out
