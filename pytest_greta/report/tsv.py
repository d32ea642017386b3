"""``<SUITE>_ANALYSIS.tsv``: one row a stage of a layer of a probe, for a spreadsheet or a script."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import IO, Any, NamedTuple

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
    """The whole table, see ``Sheet.pieces``."""
    return "".join(Sheet().pieces(results))


class Sheet:
    """The rows of results made while their columns are at hand, which takes half as long as to read these again."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[ProbeResult, int, int]] = {}
        """By id of the result, which therefore has to live: first byte and bytes of its rows."""
        self._size = 0
        self._file: IO[bytes] | None = None

    def add(self, result: ProbeResult) -> None:
        """Makes its rows now, once. Where there is no room for them they are made when they are asked for."""
        if id(result) in self._kept:
            return
        rows = _rows(result).encode()
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the sheet
                weakref.finalize(self, self._file.close)
            if self._file.write(rows) == len(rows):
                self._kept[id(result)] = (result, self._size, len(rows))
            self._size = self._file.tell()

    def pieces(self, results: Sequence[ProbeResult]) -> Iterator[str]:
        """A header, then the rows of each probe, by mode, case and variant, in the order of the stages. A probe without
        stages has one row."""
        yield "\t".join(COLUMNS) + "\n"
        for result in sorted(results, key=lambda r: (r.suite, r.mode, r.case, r.variant)):
            yield self._rows(result)

    def _rows(self, result: ProbeResult) -> str:
        if self._file is None or id(result) not in self._kept:
            return _rows(result)
        _, place, size = self._kept[id(result)]
        return os.pread(self._file.fileno(), size, place).decode()


def _rows(result: ProbeResult) -> str:
    verdict = result.verdict
    ids = map(cell, (result.suite, result.mode, result.case, result.variant))
    said = (verdict.status, verdict.scenario or "") if verdict else ("", "")
    head = "\t".join((*ids, result.outcome, *said))
    stages = [column(result.stages, name) for name in ("layer", "stage", "path", "part")]
    couples = [column(result.bytes, name) for name in ("layer", "stage", "part", "left", "right")]
    layout = _layout(orjson.dumps([stages, couples]))
    if not layout:
        return head + "\t" * (len(COLUMNS) - 7) + "\n"
    checked, compared = _checked(result), _compared(result)
    return "".join(
        [
            f"{head}\t{place}\t{checked(checks) if checks else _NO_CHECK}\t{compared(pairs) if pairs else _NO_PAIR}\n"
            for place, checks, pairs in layout
        ]
    )


class _Checks(NamedTuple):
    """Of one stage of a layer: the rows of its checks, those of the stage itself, what picks one a path out of all (the
    last where there is none), and what each is called."""

    rows: list[int]
    own: list[int]
    by_path: Callable[[list[str]], Iterable[str]]
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
        found = checks.setdefault((layer, stage), _Checks([], [], iter, {}, {}))
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
        checks[key] = found._replace(by_path=itemgetter(*(by_path.get(path, -1) for path in PATHS)))
    keys = sorted(checks.keys() | couples.keys(), key=lambda key: order(*key))
    return [(f"{key[0]}\t{cell(key[1])}", checks.get(key), couples.get(key)) for key in keys]


def _checked(result: ProbeResult) -> Callable[[_Checks], str]:
    rho, rho2 = (floats(column(result.stages, name)) for name in ("rho", "rho2"))
    rows, elements = (column(result.stages, name) for name in ("rows", "elements"))
    text = ("%.6g\t" * len(rho) % tuple(rho)).split("\t")  # with an empty one at the end, for what has no row
    fine = all(map((1.0).__ge__, rho)) and all(map((1.0).__ge__, rho2))
    badness: list[Any] = rho
    if not fine:  # the gravest finding first, and nan is worse than any number
        badness = [(b > 1.0, math.inf if math.isnan(a) else a) for a, b in zip(rho, rho2, strict=True)]

    bad = badness.__getitem__

    def said(checks: _Checks) -> str:
        every, own, by_path, names, parts = checks
        worst = max(every, key=bad)
        found = "NONE" if fine else finding(rho[worst], rho2[worst], parts[worst])
        paths = "\t".join(by_path(text))
        n_rows = n_elements = 0
        for index in own:
            n_rows += rows[index]
            n_elements += elements[index]
        first = text[worst]
        second = first if rho[worst] == rho2[worst] else f"{rho2[worst]:.6g}"
        return f"{first}\t{second}\t{found}\t{names[worst]}\t{paths}\t{n_rows}\t{n_elements}"

    return said


def _compared(result: ProbeResult) -> Callable[[_Couples], str]:
    left, right = (_hashes(column(result.bytes, name)) for name in ("left_hash", "right_hash"))
    differs, apart = (column(result.bytes, name) for name in ("differs", "max_abs"))

    def said(couples: _Couples) -> str:
        rows, names = couples
        chosen = rows[0]
        for index in rows:
            if differs[index]:
                chosen = index
                break
        where = differs[chosen]
        named = f"{names[chosen]}\t{left[chosen]}\t{right[chosen]}"
        far = f"{float(apart[chosen]):.6g}" if apart[chosen] else "0"
        return f"{named}\tfalse\t{where[0]}\t{far}" if where else f"{named}\ttrue\t\t{far}"

    return said


def _hashes(texts: list[str]) -> list[str]:
    if not "".join(texts).encode("ascii", "replace").isalnum():  # "?" is neither; ten times as fast as of a str
        texts = list(map(clean, texts))
    return [text and f"#{text}" for text in texts]


def cell(text: str) -> str:
    """Text without tab or newline that no spreadsheet takes for a formula."""
    text = clean(text)
    return "'" + text if text.startswith(("=", "+", "-", "@")) else text
