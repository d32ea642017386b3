"""A result as one short line of JSON: rows of one kind as columns, without what is default.

``"stages": {"path": ["full", ...], "layer": [-1, ...], "rho": [0.31, ...]}``. The line is what a worker of xdist sends
home and what ``results.jsonl`` holds; where it is read, its tables stay in it until a report asks for rows.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from operator import attrgetter
from typing import Any

import orjson

from pytest_greta.checks.result import ByteCheck, Price, Sees, StageCheck
from pytest_greta.digest import Digest
from pytest_greta.jsonline import fit
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.result import AttentionStat, ProbeResult
from pytest_greta.rows import Rows, Table, default_values

TABLES: dict[str, type[Any]] = {
    "stages": StageCheck,
    "bytes": ByteCheck,
    "stats": AttentionStat,
    "prices": Price,
    "sees": Sees,
}
"""The fields of a result that hold many rows of one dataclass."""

LARGE = ("stages", "bytes", "stats")
"""A row a layer and more."""

_STR = frozenset({str})
_PLAIN = ({int}, {bool}, {int, bool})


def pack(result: ProbeResult) -> bytes:
    """One line of UTF-8 JSON with its newline; nan and inf as "nan", "inf", "-inf"."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    tables = {name: _table(kind, rows) for name, kind in TABLES.items() if (rows := fields.pop(name))}
    head = {name: fit(to_plain(value)) for name, value in fields.items()}
    head["digest"] = fit(to_plain(result.digest))
    return orjson.dumps(head | tables, option=orjson.OPT_APPEND_NEWLINE)


def _table(kind: type[Any], rows: Sequence[Any]) -> Table:
    """Values that JSON can hold. A column that holds its default in every row is left out."""
    if isinstance(rows, Rows):
        return rows.table()
    defaults = default_values(kind)
    found = {}
    for field in dataclasses.fields(kind):
        column = list(map(attrgetter(field.name), rows))
        if field.name not in defaults or any(value != defaults[field.name] for value in column):
            found[field.name] = _column(column)
    return found


def _column(values: list[Any]) -> list[Any]:
    """Most columns are fit as they are, which one look at the whole shows."""
    kinds = set(map(type, values))
    if kinds == {float} and math.isfinite(sum(values)):
        return values
    if kinds == {str} and "".join(values).isascii():
        return values
    if kinds in _PLAIN and max(values) < 1 << 63 and min(values) >= -(1 << 63):
        return values
    return [fit(_nested(value)) for value in values]


def _nested(value: Any) -> Any:
    """A dataclass in a cell as the list of its values: names in every row would be half of the file."""
    if dataclasses.is_dataclass(value):
        return [to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    return to_plain(value)


class Line:
    """A packed line, in memory or in a file, that tables are decoded from when someone asks."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.read = read

    def table(self, name: str) -> Table:
        found: Table = _decoded(self)[name]
        return found


@lru_cache(maxsize=4)
def _decoded(line: Line) -> Any:
    """The lines asked for last: a report asks for several tables of one result, then goes on to the next."""
    return orjson.loads(line.read())


def unpack(line: Line, **changes: Any) -> ProbeResult:
    """The inverse of ``pack``; ``changes`` replace fields.

    Raises ``ValueError``, ``TypeError``, ``KeyError`` or ``AttributeError`` for what is no packed line.
    """
    plain = _decoded(line)
    if not isinstance(plain, dict):
        raise ValueError(f"expected an object, got {type(plain).__name__}")
    tables: dict[str, Any] = {}
    for name, kind in TABLES.items():
        if name in plain:
            rows = _rows(line, name, kind, plain[name])
            tables[name] = rows if name in LARGE else tuple(rows)
    result = from_plain(ProbeResult, {**plain, **tables, **changes})
    if not changes:
        object.__setattr__(result, "_line", line)  # no field: a changed copy has none, and is packed anew
    vars(result)["digest"] = from_plain(Digest, plain["digest"])
    return result


def as_text(result: ProbeResult) -> str:
    """For a report of pytest, which other plugins may write as JSON."""
    return pack(result).decode("utf-8")


def from_text(text: str, **changes: Any) -> ProbeResult:
    """The inverse of ``as_text``; ``changes`` replace fields."""
    return unpack(Line(partial(bytes, text, "utf-8")), **changes)


def line_of(result: ProbeResult) -> bytes:
    """The packed line of a result, as it was read where it has not been changed since."""
    line: Line | None = getattr(result, "_line", None)
    return line.read() if line is not None else pack(result)


@cache
def _types(kind: Any) -> dict[str, frozenset[type]]:
    """What JSON may hold in each column: what is wrong must show where the file is read, not in a report."""
    return {name: frozenset(_plain_types(hint)) for name, hint in typing.get_type_hints(kind).items()}


def _plain_types(hint: Any) -> Iterator[type]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for inner in typing.get_args(hint):
            yield from _plain_types(inner)
    elif hint is float:
        yield from (float, int, str)  # nan and inf
    elif origin is tuple or dataclasses.is_dataclass(hint):
        yield list
    elif origin is typing.Literal:
        yield str
    else:
        yield hint


@cache
def _wanted(kind: Any) -> frozenset[str]:
    """The columns without a default."""
    return frozenset(field.name for field in dataclasses.fields(kind)) - default_values(kind).keys()


def _fits(values: list[Any], fit_types: frozenset[type]) -> bool:
    if fit_types == _STR:  # half of the columns, and to join them takes a quarter of the time
        try:
            "".join(values)
        except TypeError:
            return False
        return True
    return fit_types.issuperset(map(type, values))


def _rows(line: Line, name: str, kind: Any, table: Any) -> Rows[Any]:
    if not isinstance(table, dict) or not all(isinstance(column, list) for column in table.values()):
        raise ValueError(f"{name}: expected columns")
    sizes = set(map(len, table.values()))
    if len(sizes) != 1:
        raise ValueError(f"{name}: columns of different lengths")
    for column, fit_types in _types(kind).items():
        if column in table and not _fits(table[column], fit_types):
            wrong = next(value for value in table[column] if type(value) not in fit_types)
            raise ValueError(f"{name}.{column}: unexpected {wrong!r}"[:200])
    if absent := _wanted(kind) - table.keys():
        raise ValueError(f"{name}: no column {min(absent)}")
    return Rows(kind, sizes.pop(), partial(line.table, name))
