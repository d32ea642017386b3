"""Rows of one dataclass, held as columns. A run has millions of them, and most are only counted or summed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeVar, overload

from pytest_greta.plain import converters

T = TypeVar("T")

Table = Mapping[str, list[Any]]
"""Columns of plain values, all of one length. A column that is not there holds its default in every row."""


class Rows(Sequence[T]):
    """A sequence of ``kind`` whose table is read each time that someone asks for its rows, and not kept."""

    def __init__(self, kind: type[T], size: int, read: Callable[[], Table]) -> None:
        self.kind = kind
        self._size = size
        self.table = read
        """The columns as they are stored."""

    def columns(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """The rows' values of these fields: plain ones, with lists for tuples, and strings for nan and inf in them."""
        table, defaults = self.table(), default_values(self.kind)
        return zip(*(table.get(name) or repeat(defaults[name], self._size) for name in names), strict=True)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        table, defaults = self.table(), default_values(self.kind)
        values: list[Iterable[Any]] = []
        for name, change in converters(self.kind):
            found = table.get(name) or repeat(defaults[name], self._size)
            values.append(found if change is None else [v if v is None else change(v) for v in found])
        return map(self.kind, *values)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Rows({self.kind.__name__}, {self._size})"


def column(rows: Sequence[Any], name: str) -> list[Any]:
    """The values of one field, as ``columns`` gives them."""
    if not isinstance(rows, Rows):
        return [getattr(row, name) for row in rows]
    found = rows.table().get(name)
    return [default_values(rows.kind)[name]] * len(rows) if found is None else found


def floats(values: list[Any]) -> list[float]:
    """A column of numbers, where nan and inf may be strings."""
    return list(map(float, values)) if str in set(map(type, values)) else values


def columns(rows: Sequence[Any], *names: str) -> Iterator[tuple[Any, ...]]:
    """The values of these fields (two at least) of each row, whether the rows are dataclasses or columns."""
    return rows.columns(*names) if isinstance(rows, Rows) else map(attrgetter(*names), rows)


def default_values(kind: Any) -> Mapping[str, Any]:
    """By field; those without a default are left out."""
    return _default_values(kind)


@cache
def _default_values(kind: Any) -> Mapping[str, Any]:
    found = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found
