"""``<SUITE>_ANALYSIS.tsv``: one row a stage of a layer of a probe, for a spreadsheet or a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from pytest_greta.checks.result import finding
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
from pytest_greta.rows import columns
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

_CHECK = ("path", "part", "rho", "rho2", "rows", "elements")
_PAIR = ("part", "left", "right", "left_hash", "right_hash", "differs", "max_abs")
_NO_CHECK = "\t" * (5 + len(PATHS))
_NO_PAIR = "\t" * 5

Key = tuple[int, str]
Row = tuple[Any, ...]


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
    judged = _grouped(columns(result.stages, "layer", "stage", *_CHECK))
    compared = _grouped(columns(result.bytes, "layer", "stage", *_PAIR))
    for key in sorted(judged.keys() | compared.keys(), key=_place):
        checks, pairs = judged.get(key), compared.get(key)
        layer, stage = key
        own = _checked(checks) if checks else _NO_CHECK
        yield f"{head}\t{layer}\t{_name(stage)}\t{own}\t{_compared(pairs) if pairs else _NO_PAIR}\n"
    if not judged and not compared:
        yield head + "\t" * (len(COLUMNS) - 7) + "\n"


def _grouped(rows: Iterator[Row]) -> Mapping[Key, list[Row]]:
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[:2], []).append(row)
    return groups


def _checked(checks: list[Row]) -> str:
    worst, worst_rho, worst_rho2 = checks[0], -1.0, 0.0
    by_path: dict[str, str] = {}
    rows = elements = 0
    for check in checks:
        _, _, path, part, rho, rho2, n_rows, n_elements = check
        rho, rho2 = float(rho), float(rho2)
        if not part:
            by_path[path] = f"{rho:.6g}"
            rows += n_rows
            elements += n_elements
        definite, worse = (rho2 > 1.0) - (worst_rho2 > 1.0), not rho <= worst_rho  # nan is worse than any
        if definite > 0 or (worse and not definite):
            worst, worst_rho, worst_rho2 = check, rho, rho2
    path, part = worst[2:4]
    place = _name(f"{path}.{part}" if part else path)
    paths = "\t".join([by_path.get(name, "") for name in PATHS])
    said = finding(worst_rho, worst_rho2, part)
    return f"{worst_rho:.6g}\t{worst_rho2:.6g}\t{said}\t{place}\t{paths}\t{rows}\t{elements}"


def _compared(pairs: list[Row]) -> str:
    chosen = pairs[0]
    for pair in pairs:
        if pair[7]:
            chosen = pair
            break
    _, _, part, left, right, left_hash, right_hash, differs, max_abs = chosen
    place = _name(f"{left} / {right} {part}" if part else f"{left} / {right}")
    said = f"false\t{differs[0]}" if differs else "true\t"
    return f"{place}\t{_hash(left_hash)}\t{_hash(right_hash)}\t{said}\t{float(max_abs):.6g}"


@cache
def _place(key: Key) -> tuple[int, int]:
    return order(*key)


@lru_cache
def _name(text: str) -> str:
    """One of the few names that come again and again."""
    return cell(text)


def _hash(text: str) -> str:
    return f"#{text if text.isalnum() else clean(text)}" if text else ""


def cell(text: str) -> str:
    """Text without tab or newline that no spreadsheet takes for a formula."""
    text = clean(text)
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text
