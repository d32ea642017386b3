"""Reads our JSONL traces back: every line that can be understood, and a word about each that cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pytest_greta.checks.result import StageCheck
from pytest_greta.plain import from_plain
from pytest_greta.result import AttentionStat
from pytest_greta.trace.hashing import digest
from pytest_greta.trace.jsonl import TRACE_SCHEMA
from pytest_greta.trace.lines import lines
from pytest_greta.trace.records import Trace
from pytest_greta.trace.sidecar import TraceError, load_sidecar
from pytest_greta.trace.stages import ORDER
from pytest_greta.verdict import Breach, Drift, Evidence


@dataclass(frozen=True)
class Row:
    """A ``stage_trace`` or ``stage_logits`` record. ``hashes``: by sequence row."""

    path: str
    layer: int
    stage: str
    part: str
    row: int
    dtype: str
    hash_algo: str
    hashes: Mapping[int, str]
    elements: int
    nz_count: int
    not_finite: int
    minimum: float
    maximum: float
    rho: float | None
    rho2: float | None
    line: int


@dataclass
class TraceFile:
    """What one file holds. ``problems``: (line, what is wrong with it)."""

    path: Path
    header: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    checks: list[StageCheck] = field(default_factory=list)
    stats: list[AttentionStat] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


def read_trace(path: Path) -> TraceFile:
    """All records of a trace. Raises ``TraceError`` where the file cannot be opened."""
    found = TraceFile(path)
    ended, count, number = False, 0, 0
    for number, line in lines(path):
        if isinstance(line, Breach):
            if number == 1 and line.key == "file_cut":
                raise TraceError(f"{path}: {line.values['error']}")
            said = line.values.get("error") or f"longer than {line.values['limit']} bytes"
            found.problems.append((number, said))
            continue
        try:
            record = orjson.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
            ended = _take(found, record, number, count)
            count += 1
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            missing = f"no {error}" if isinstance(error, KeyError) else str(error)
            found.problems.append((number, missing))
    if count and not ended:
        found.problems.append((number, "the file is cut: no trace_end"))
    if count and not found.header:
        found.problems.append((1, "no trace_header"))
    return found


def recorded_mode(path: Path) -> str | None:
    """Of a trace's header, its first record; None where that does not say."""
    for _, line in lines(path):
        try:
            record = None if isinstance(line, Breach) else orjson.loads(line)
        except ValueError:
            record = None
        return record.get("mode") if isinstance(record, dict) and record.get("event") == "trace_header" else None
    return None


def _take(found: TraceFile, record: dict[str, Any], line: int, count: int) -> bool:
    """File one record; True for the last. Raises ``ValueError``, ``KeyError``, ``TypeError`` for a wrong one."""
    event = record.get("event")
    if record.get("schema") != TRACE_SCHEMA:
        raise ValueError(f"schema {record.get('schema')!r}; this version reads {TRACE_SCHEMA}")
    if event == "trace_end":
        if record["records"] != count and not found.problems:
            raise ValueError(f"{record['records']} records were written, {count} are readable before the end")
        return True
    if event == "trace_header":
        _check_header(record)
        found.header = record
    elif event in ("stage_trace", "stage_logits"):
        found.rows.append(_row(record, line))
    elif event in ("attention_stat", "stage_check"):
        known = {"stage": _stage(record), **{k: v for k, v in record.items() if k not in ("event", "schema", "point")}}
        if event == "stage_check":
            _number(record["rho"])
            _number(record["rho2"])
            found.checks.append(from_plain(StageCheck, known))
        else:
            found.stats.append(from_plain(AttentionStat, known))
    else:
        raise ValueError(f"unknown event {event!r}")
    return False


def _check_header(record: dict[str, Any]) -> None:
    """Raises for a header that the analysis could stumble over."""
    _whole(record, "n_prefix", "steps")
    for name, path in record["paths"].items():
        if not isinstance(path["kernels"], list):
            raise ValueError(f"paths.{name}.kernels: a list expected")
        for facts in (path["tokens"], path["rows"], path["positions"]):
            if not all(type(value) is int for value in facts):
                raise ValueError(f"paths.{name}: tokens, rows and positions are lists of whole numbers")
    for name, kind in (("evidence", Evidence), ("drift", Drift)):
        if record[name] is not None:
            from_plain(kind, record[name])


def _row(record: dict[str, Any], line: int) -> Row:
    stage = _stage(record)
    _whole(record, "layer", "token_index", "nz_count", "nan", "inf")
    row, whole = record["token_index"], str(record["hash"])
    by_row = "row_hashes" in record
    hashes = dict(zip(record["rows"], record["row_hashes"], strict=True)) if by_row else {row: whole}
    elements = 1
    for size in record["shape"]:
        elements *= int(size)
    return Row(
        path=str(record["path"]),
        layer=record["layer"],
        stage=stage,
        part=str(record.get("part", "")),
        row=row,
        dtype=str(record["dtype"]),
        hash_algo=str(record["hash_algo"]),
        hashes=hashes,
        elements=elements,
        nz_count=record["nz_count"],
        not_finite=record["nan"] + record["inf"],
        minimum=float(record["min"]),
        maximum=float(record["max"]),
        rho=_number(record.get("rho")),
        rho2=_number(record.get("rho2")),
        line=line,
    )


def _stage(record: dict[str, Any]) -> str:
    stage = str(record["point"])
    if stage not in ORDER:
        raise ValueError(f"unknown point {stage!r}")
    return stage


def _whole(record: dict[str, Any], *names: str) -> None:
    for name in names:
        if type(record[name]) is not int:
            raise ValueError(f"{name}: a whole number expected, {record[name]!r} found")


def _number(value: Any) -> float | None:
    """Raises for NaN, which no check gives and no bound would refuse."""
    number = None if value is None else float(value)
    if number is not None and math.isnan(number):
        raise ValueError("rho: a number expected, nan found")
    return number


def load_trace(jsonl: Path, sidecar: Path) -> Trace:
    """The full trace of a probe, with which an old run can be checked anew.

    Raises ``TraceError`` where a file is damaged, or the sidecar's bytes are not those whose hashes the records hold.
    """
    found = read_trace(jsonl)
    if found.problems:
        line, problem = found.problems[0]
        raise TraceError(f"{jsonl}:{line}: {problem}")
    trace = load_sidecar(sidecar)
    for row in found.rows:
        tap = trace.tap(row.path, row.layer, row.stage, row.part)
        for position, stored in row.hashes.items():
            try:
                same = tap is not None and digest(tap.row(position)) == stored
            except KeyError:
                same = False
            if not same:
                where = f"path {row.path}, layer {row.layer}, stage {row.stage}, row {position}"
                raise TraceError(f"{sidecar}: {where} is not what {jsonl}:{row.line} was written from")
    return trace
