"""Dataclasses to plain values and back.

``to_plain`` is the one gate through which anything leaves a test item: under xdist a single NumPy scalar in a report
ends the worker. Only str, int, float, bool, None, list and dict come out.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses, mappings, sequences and NumPy scalars to str, int, float, bool, None, list and dict.

    Raises ``TypeError`` for anything else, an array included: an array in a report is a mistake.
    """
    if value is None or isinstance(value, bool):
        return value
    for plain in (str, int, float):  # subclasses too: numpy.float64 is a float, and must not leave as one
        if isinstance(value, plain):
            return plain(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        return to_plain(item())
    raise TypeError(f"{type(value).__name__} cannot leave a probe; convert it first")


def from_plain(cls: type[T], data: Mapping[str, Any]) -> T:
    """The inverse of ``to_plain`` for a dataclass. Unknown keys are ignored, so that old readers read new files."""
    found = {}
    for name, convert in converters(cls):
        if name in data:
            value = data[name]
            found[name] = value if convert is None or value is None else convert(value)
    return cls(**found)


Convert = Callable[[Any], Any]


def converters(cls: Any) -> tuple[tuple[str, Convert | None], ...]:
    """Of each field of a dataclass, what makes its value from a plain one; None where the plain one is it."""
    return _converters(cls)


@cache
def _converters(cls: Any) -> tuple[tuple[str, Convert | None], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, _converter(hints[field.name])) for field in dataclasses.fields(cls))


@cache
def _converter(hint: Any) -> Convert | None:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _converter(next(h for h in args if h is not type(None)))
    if origin is Sequence or (origin is tuple and args[1:] == (Ellipsis,)):
        return partial(_tuple, _converter(args[0]))
    if origin is tuple:
        return partial(_fixed, tuple(map(_converter, args)))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return partial(_dataclass, hint)
    if hint is float:
        return _float
    if origin is Mapping and args[1] is float:
        return _numbers
    return None


def _tuple(convert: Convert | None, value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        if isinstance(value, Sequence) and not isinstance(value, str):
            return value  # rows that are read later
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return tuple(value if convert is None else [x if x is None else convert(x) for x in value])


def _fixed(converts: tuple[Convert | None, ...], value: Any) -> tuple[Any, ...]:
    return tuple(x if c is None or x is None else c(x) for c, x in zip(converts, value, strict=True))


def _dataclass(cls: type[Any], value: Any) -> Any:
    """From a mapping by names, or in a table a list of the fields' values in their order; one that is built stays."""
    if isinstance(value, cls):
        return value
    if not isinstance(value, list):
        return from_plain(cls, value)
    return cls(*(x if c is None or x is None else c(x) for x, (_, c) in zip(value, converters(cls), strict=False)))


def _numbers(value: Any) -> Any:
    return {name: float(number) for name, number in value.items()}


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value  # nan and inf travel as strings in JSON
