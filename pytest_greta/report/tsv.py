"""``<SUITE>_ANALYSIS.tsv``: one row a stage of a probe, for a spreadsheet or a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.report.text import clean
from pytest_greta.result import ProbeResult
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
    "part",
    "path",
    "rho",
    "rho2",
    "finding",
    "rows",
    "elements",
    "left",
    "left_hash",
    "right_hash",
    "equal",
    "first_difference",
    "max_abs",
)


def analysis(results: Sequence[ProbeResult]) -> str:
    """A header and the rows, by mode, case and variant, then in stage order. A probe without stages has one row."""
    lines = ["\t".join(COLUMNS)]
    for result in sorted(results, key=lambda r: (r.suite, r.mode, r.case, r.variant)):
        lines += ["\t".join(row) for row in _rows(result)]
    return "\n".join(lines) + "\n"


def _rows(result: ProbeResult) -> Iterator[list[str]]:
    verdict = result.verdict
    ids = (result.suite, result.mode, result.case, result.variant)
    head = [cell(v) for v in ids] + [
        result.outcome,
        verdict.status if verdict else "",
        (verdict.scenario or "") if verdict else "",
    ]
    entries: list[tuple[tuple[int, int, int], list[str]]] = []
    compared = {(b.layer, b.stage, b.right): b for b in result.bytes if not b.part}
    for check in result.stages:
        beside = None if check.part else compared.pop((check.layer, check.stage, check.path), None)
        entries.append((_place(check.layer, check.stage, check.path), _stage(check) + _bytes(beside)))
    shown = {id(b) for b in compared.values()}
    for byte in result.bytes:
        if byte.part or id(byte) in shown:
            where = [str(byte.layer), cell(byte.stage), cell(byte.part), cell(byte.right)]
            unjudged = ["", "", "", str(byte.rows), ""]
            entries.append((_place(byte.layer, byte.stage, byte.right), where + unjudged + _bytes(byte)))
    entries.sort(key=lambda e: e[0])
    if not entries:
        yield head + [""] * (len(COLUMNS) - len(head))
    for _, cells in entries:
        yield head + cells


def _place(layer: int, stage: str, path: str) -> tuple[int, int, int]:
    return (*order(layer, stage), PATHS.index(path) if path in PATHS else len(PATHS))


def _stage(check: StageCheck) -> list[str]:
    return [
        str(check.layer),
        cell(check.stage),
        cell(check.part),
        cell(check.path),
        f"{check.rho:.6g}",
        f"{check.rho2:.6g}",
        check.finding,
        str(check.rows),
        str(check.elements),
    ]


def _bytes(check: ByteCheck | None) -> list[str]:
    if check is None:
        return [""] * 6
    first = str(check.differs[0]) if check.differs else ""
    hashes = [cell(check.left_hash), cell(check.right_hash)]
    return [cell(check.left), *hashes, str(check.equal).lower(), first, f"{check.max_abs:.6g}"]


def cell(text: str) -> str:
    """Text without tab or newline that no spreadsheet takes for a formula."""
    text = clean(text)
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text
