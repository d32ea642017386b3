"""``<SUITE>_ANALYSIS.tsv``: one row a stage of a layer of a probe, for a spreadsheet or a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from pytest_greta.checks.result import finding
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
from pytest_greta.rows import column, floats
from pytest_greta.trace.paths import PATHS
from pytest_greta.trace.stages import order

COLUMNS = (
    "suite",
    "mode",
    "case",
    "variant",
    "outcome",
    "status",
    "scenario",
    "layer",
    "stage",
    "rho",
    "rho2",
    "finding",
    "path",
    *(f"rho_{path}" for path in PATHS),
    "rows",
    "elements",
    "compared",
    "left_hash",
    "right_hash",
    "equal",
    "first_difference",
    "max_abs",
)
"""``rho``, ``rho2``, ``finding`` and ``path`` are those of the worst check of the stage; ``compared`` to ``max_abs``
those of the first comparison that differs, else of the first. A hash starts with ``#``: then none reads as a number."""

_NO_CHECK = "\t" * (5 + len(PATHS))
_NO_PAIR = "\t" * 5


def analysis(results: Sequence[ProbeResult]) -> str:
    """The whole table, see ``pieces``."""
    return "".join(pieces(results))


def pieces(results: Sequence[ProbeResult]) -> Iterator[str]:
    """A header, then the rows of each probe, by mode, case and variant, in the order of the stages. A probe without
    stages has one row."""
    yield "\t".join(COLUMNS) + "\n"
    for result in sorted(results, key=lambda r: (r.suite, r.mode, r.case, r.variant)):
        yield "".join(_rows(result))


def _rows(result: ProbeResult) -> Iterator[str]:
    verdict = result.verdict
    ids = map(cell, (result.suite, result.mode, result.case, result.variant))
    said = (verdict.status, verdict.scenario or "") if verdict else ("", "")
    head = "\t".join((*ids, result.outcome, *said))
    stages = [column(result.stages, name) for name in ("layer", "stage", "path", "part")]
    pairs = [column(result.bytes, name) for name in ("layer", "stage", "part", "left", "right")]
    layout = _layout(orjson.dumps([stages, pairs]))
    if not layout:
        yield head + "\t" * (len(COLUMNS) - 7) + "\n"
        return
    checked, compared = _checked(result), _compared(result)
    for place, checks, couples in layout:
        own = checked(checks) if checks else _NO_CHECK
        yield f"{head}\t{place}\t{own}\t{compared(couples) if couples else _NO_PAIR}\n"


class _Checks(NamedTuple):
    """Of one stage of a layer: the rows of its checks, those of the stage itself, by path, and what each is called."""

    rows: list[int]
    own: list[int]
    by_path: tuple[int | None, ...]
    names: dict[int, str]
    parts: dict[int, str]


class _Couples(NamedTuple):
    rows: list[int]
    names: dict[int, str]


@lru_cache(maxsize=64)
def _layout(columns: bytes) -> list[tuple[str, _Checks | None, _Couples | None]]:
    """Which rows belong to which stage, in the order of the stages. ``columns``: JSON of the columns that say so: the
    probes of a run share a few layouts, and to compare bytes is cheaper than to sort rows."""
    stages, pairs = orjson.loads(columns)
    checks: dict[tuple[int, str], _Checks] = {}
    couples: dict[tuple[int, str], _Couples] = {}
    for index, (layer, stage, path, part) in enumerate(zip(*stages, strict=True)):
        found = checks.setdefault((layer, stage), _Checks([], [], (), {}, {}))
        found.rows.append(index)
        found.names[index] = cell(f"{path}.{part}" if part else path)
        found.parts[index] = part
        if not part:
            found.own.append(index)
    for index, (layer, stage, part, left, right) in enumerate(zip(*pairs, strict=True)):
        couple = couples.setdefault((layer, stage), _Couples([], {}))
        couple.rows.append(index)
        couple.names[index] = cell(f"{left} / {right} {part}" if part else f"{left} / {right}")
    for key, found in checks.items():
        by_path = {found.names[index]: index for index in found.own}
        checks[key] = found._replace(by_path=tuple(map(by_path.get, PATHS)))
    keys = sorted(checks.keys() | couples.keys(), key=lambda key: order(*key))
    return [(f"{key[0]}\t{cell(key[1])}", checks.get(key), couples.get(key)) for key in keys]


def _checked(result: ProbeResult) -> Callable[[_Checks], str]:
    rho, rho2 = (floats(column(result.stages, name)) for name in ("rho", "rho2"))
    rows, elements = (column(result.stages, name) for name in ("rows", "elements"))
    text = [f"{value:.6g}" for value in rho]
    fine = all(map((1.0).__ge__, rho)) and all(map((1.0).__ge__, rho2))
    badness: list[Any] = rho
    if not fine:  # the gravest finding first, and nan is worse than any number
        badness = [(b > 1.0, math.inf if math.isnan(a) else a) for a, b in zip(rho, rho2, strict=True)]

    def said(checks: _Checks) -> str:
        worst = max(checks.rows, key=badness.__getitem__)
        found = "NONE" if fine else finding(rho[worst], rho2[worst], checks.parts[worst])
        paths = "\t".join(["" if index is None else text[index] for index in checks.by_path])
        n_rows = n_elements = 0
        for index in checks.own:
            n_rows += rows[index]
            n_elements += elements[index]
        second = text[worst] if rho[worst] == rho2[worst] else f"{rho2[worst]:.6g}"
        return f"{text[worst]}\t{second}\t{found}\t{checks.names[worst]}\t{paths}\t{n_rows}\t{n_elements}"

    return said


def _compared(result: ProbeResult) -> Callable[[_Couples], str]:
    left, right = (_hashes(column(result.bytes, name)) for name in ("left_hash", "right_hash"))
    differs, apart = (column(result.bytes, name) for name in ("differs", "max_abs"))

    def said(couples: _Couples) -> str:
        chosen = couples.rows[0]
        for index in couples.rows:
            if differs[index]:
                chosen = index
                break
        where = differs[chosen]
        equal = f"false\t{where[0]}" if where else "true\t"
        far = f"{float(apart[chosen]):.6g}" if apart[chosen] else "0"
        return f"{couples.names[chosen]}\t{left[chosen]}\t{right[chosen]}\t{equal}\t{far}"

    return said


def _hashes(texts: list[str]) -> list[str]:
    if not "".join(texts).isalnum():
        texts = list(map(clean, texts))
    return [text and f"#{text}" for text in texts]


def cell(text: str) -> str:
    """Text without tab or newline that no spreadsheet takes for a formula."""
    text = clean(text)
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text
