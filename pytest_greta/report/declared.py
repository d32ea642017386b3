"""What a library declares beyond plain float32, what that costs, and what the checks can still see."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pytest_greta.checks.result import Price
from pytest_greta.report.md import escape, paragraph, table
from pytest_greta.report.messages import Lang, prose, say
from pytest_greta.report.text import clean, number
from pytest_greta.result import ProbeResult
from pytest_greta.trace.stages import ORDER

SHOWN = ("q_proj", "q_rope", "lse", "attn_out", "o_proj", "logits")
"""Stages whose smallest gain a failure shows; the report has all of them."""


def price_lines(result: ProbeResult, lang: Lang) -> list[str]:
    """For a failure: a sentence a declaration and stage, and one of the smallest gains, in each language."""
    lines = [line for price in result.prices for line in prose("declared.price", lang, **_words(price))]
    seen: dict[str, float] = {}
    for sees in result.sees:
        seen[sees.stage] = max(seen.get(sees.stage, 0.0), sees.gain)
    gains = ", ".join(f"{stage} {number(seen[stage])}" for stage in SHOWN if stage in seen)
    return [*lines, *(prose("declared.sees", lang, gains=gains) if gains else [])]


def widest(results: Sequence[ProbeResult]) -> list[dict[str, str]]:
    """For the summary: of each declaration of each library the stage that it widens most, over all probes."""
    found: dict[tuple[str, ...], Price] = {}
    for result in results:
        for price in result.prices:
            key = (_library(result, price.phase), price.phase, price.name, price.value)
            if key not in found or price.median > found[key].median:
                found[key] = price
    return [{"library": clean(key[0]), **_words(price)} for key, price in found.items()]


def declared(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    """Two tables of the Markdown report: the prices, and the smallest gain that each stage's check would see."""
    return [*_prices(results, lang), *_sees(results, lang)]


def _prices(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    found: dict[tuple[str, ...], list[Price]] = {}
    for result in results:
        for price in result.prices:
            key = (_library(result, price.phase), price.phase, price.name, price.value, price.stage)
            found.setdefault(key, []).append(price)
    if not found:
        return []
    rows = (
        [*map(escape, key), number(median(p.median for p in same)), number(max(p.worst for p in same)), str(len(same))]
        for key, same in found.items()
    )
    labels = ("library", "phase", "declaration", "value", "stage", "median", "at_worst", "probes")
    headers = [say(f"word.{label}", lang) for label in labels]
    return [f"### {say('report.prices', lang)}", "", *paragraph("report.price_note", lang), *table(headers, rows)]


def _sees(results: Sequence[ProbeResult], lang: Lang) -> list[str]:
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for seen in result.sees:
            dtype = str(result.settings.get("dtype", "-"))
            found.setdefault(seen.stage, {}).setdefault(dtype, []).append(seen.gain)
    if not found:
        return []
    dtypes = sorted({dtype for by_dtype in found.values() for dtype in by_dtype})
    rows = (
        [escape(stage), *(_range(found[stage].get(dtype, [])) for dtype in dtypes)]
        for stage in sorted(found, key=lambda stage: ORDER.get(stage, 0))
    )
    headers = [say("word.stage", lang), *map(escape, dtypes)]
    return [f"### {say('report.sees', lang)}", "", *paragraph("report.sees_note", lang), *table(headers, rows)]


def _range(gains: Sequence[float]) -> str:
    if not gains:
        return "-"
    low, high = number(min(gains)), number(max(gains))
    return low if low == high else f"{low} .. {high}"


def _words(price: Price) -> dict[str, str]:
    names = {key: clean(str(getattr(price, key))) for key in ("phase", "stage", "name", "value")}
    return {**names, "median": number(price.median), "worst": number(price.worst)}


def _library(result: ProbeResult, phase: str) -> str:
    kernels = result.verdict.evidence.kernels if result.verdict else ()
    return next((str(row.get("library", "?")) for row in kernels if row.get("phase") == phase), "?")
