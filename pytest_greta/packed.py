"""A result as one short line: rows of one kind as a table whose columns are named once, without what is default."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pytest_greta.result import ProbeResult, to_plain

TABLES = ("stages", "bytes", "stats", "prices", "sees")
"""The fields of a result that hold many rows of one dataclass."""


def pack(result: ProbeResult) -> dict[str, Any]:
    """Plain values, the ``TABLES`` as ``{"columns": [...], "rows": [...]}``; ``unpack`` is the inverse."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    tables = {name: _table(rows) for name in TABLES if (rows := fields.pop(name))}
    return {name: to_plain(value) for name, value in fields.items()} | tables


def _table(rows: Sequence[Any]) -> dict[str, Any]:
    """A column that holds its default in every row is left out; trailing defaults of a row are, too."""
    fields = dataclasses.fields(rows[0])
    defaults = [_default(field) for field in fields]
    used = [i for i, f in enumerate(fields) if any(getattr(row, f.name) != defaults[i] for row in rows)]
    names, absent = [fields[i].name for i in used], [defaults[i] for i in used]
    return {"columns": names, "rows": [_row(row, names, absent) for row in rows]}


def _row(row: Any, names: Sequence[str], defaults: Sequence[Any]) -> list[Any]:
    values = [getattr(row, name) for name in names]
    while values and values[-1] == defaults[len(values) - 1]:
        values.pop()
    return [to_plain(value) for value in values]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default  # MISSING is unlike any value


def unpack(plain: dict[str, Any]) -> dict[str, Any]:
    """What ``from_plain`` reads. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is no packed line."""
    return {key: _unpack(value) if key in TABLES and isinstance(value, dict) else value for key, value in plain.items()}


def _unpack(table: dict[str, Any]) -> list[dict[str, Any]]:
    """A short row has the defaults of the dataclass in its last columns, except where they come before others."""
    columns = table["columns"]
    if any(len(row) > len(columns) for row in table["rows"]):
        raise ValueError("a row is longer than its columns")
    return [dict(zip(columns, row, strict=False)) for row in table["rows"]]
