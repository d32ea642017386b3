"""The one place where the checks use compiled code: ``libgreta_reference``, the passes over every element of a stage.

A pass that judges only says that a stage is within its bounds, with the definition's own numbers. Whatever it does not
say that of (an element beyond its bound, a value that is not finite, a type or shape that it does not know) is judged
by the definition, in NumPy. Without the library everything is: the same answers, later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.bounds import Float64, Reference
from pytest_greta.dtypes import BF16, F16, F32, Array

if TYPE_CHECKING:
    from pytest_greta.checks.attention import Softmax

FILE = "libgreta_reference.so"
_TYPES = {F32: 0, BF16: 1, F16: 2}
"""``greta_reference_stored.type``."""
_C_TYPES = {
    np.dtype(kind).char: f"{name}[]"
    for kind, name in ((np.float64, "double"), (np.float32, "float"), (np.int64, "int64_t"), (np.uint8, "uint8_t"))
}


@dataclass(frozen=True)
class Struct:
    """``pointer`` to a struct of the header, and what its fields point to, for as long as it is used."""

    pointer: Any
    keep: Mapping[str, Any]


@dataclass(frozen=True)
class Library:
    """``ffi`` holds the declarations, ``lib`` the functions."""

    ffi: Any
    lib: Any

    @classmethod
    def at(cls, path: Path) -> Library:
        """Raises ``ImportError`` where the package is installed only in part, ``OSError`` where it cannot be loaded."""
        from _greta_native._abi import ffi

        return cls(ffi, ffi.dlopen(str(path)))

    def pointer(self, values: Array) -> Any:
        """To an array, by its type, so that a field of another type refuses it. ``ValueError`` where it is not
        contiguous."""
        kind = _C_TYPES.get(values.dtype.char)
        if kind is None:  # bfloat16 has no buffer of its own
            return self.ffi.from_buffer("uint16_t[]", values.view(np.uint16))
        return self.ffi.from_buffer(kind, values)

    def struct(self, name: str, arrays: Mapping[str, Array | None], numbers: Mapping[str, Any]) -> Struct:
        """An array is copied where it is not contiguous; None is a null pointer."""
        fields = {key: self.pointer(np.ascontiguousarray(x)) for key, x in arrays.items() if x is not None}
        return Struct(self.ffi.new(name, {**fields, **numbers}), fields)


@cache
def library() -> Library | None:
    """The installed one; None where there is none."""
    try:
        import _greta_native

        return Library.at(Path(next(iter(_greta_native.__path__))) / FILE)
    except (ImportError, OSError):
        return None


@dataclass(frozen=True)
class Within:
    """Rows without an element beyond its bound, as ``judge._Rows`` has them."""

    most: Float64
    sums: Float64
    index: NDArray[np.int64]
    worst: Float64


def within(reference: Reference, stored: Array, statistical: bool) -> Within | None:
    """``judge._judged`` of all rows; None: not known to be within. ``stored`` [R, ...]."""
    terms = {"y": reference.y, "det": reference.b_det, "root": reference.b_sqrt, "root2": reference.b_sqrt2}
    arrays = [x for x in terms.values() if x is not None]
    if len(arrays) == 3 or any(x.shape != stored.shape or x.dtype != np.float64 for x in arrays):
        return None
    return _judged("within", "bounded", terms, {}, stored, statistical and len(arrays) == 4)


def rope_within(x: Array, tables: Mapping[str, Float64], numbers: Mapping[str, float], stored: Array) -> Within | None:
    """The same of RoPE. x [R, heads, head_dim] and ``stored`` alike; ``tables``: own, other, own_bound, other_bound,
    each [R, rotary]; ``numbers``: interleaved, floor."""
    shape, dim = next(iter(tables.values())).shape, x.shape[-1]
    if x.ndim != 3 or x.shape != stored.shape or x.dtype != stored.dtype:
        return None
    if shape != (len(x), shape[-1]) or shape[1] > dim or shape[1] % 2:
        return None
    if any(t.shape != shape or t.dtype != np.float64 for t in tables.values()):
        return None
    return _judged(
        "rope_within", "rope", {"x": x, **tables}, {**numbers, "dim": dim, "rotary": shape[1]}, stored, False
    )


def _judged(
    function: str, struct: str, of: Mapping[str, Array | None], numbers: Mapping[str, float], stored: Array, pull: bool
) -> Within | None:
    """``struct``: that of the reference, of which ``of`` and ``numbers`` are the fields."""
    found = library()
    dtype = next((known for known in _TYPES if stored.dtype == known.numpy), None)
    if found is None or dtype is None or stored.size == 0 or numbers.get("dim", 0) > found.lib.GRETA_REFERENCE_DIM:
        return None
    rows = len(stored)
    table, index = np.empty((10, rows)), np.empty(rows, dtype=np.int64)
    table[2], table[3] = np.nan, 0.0
    values = found.struct(
        "greta_reference_stored *",
        {"data": stored},
        {
            "type": _TYPES[dtype], "smallest_normal": dtype.smallest_normal, "u": dtype.u, "rows": rows,
            "elements": stored.size // rows,
        },
    )  # fmt: skip
    reference = found.struct(f"greta_reference_{struct} *", of, numbers)
    results = found.struct("greta_reference_rows *", {"table": table, "index": index}, {"pull": pull})
    call = getattr(found.lib, f"greta_reference_{function}")
    if not call(values.pointer, reference.pointer, results.pointer):
        return None
    return Within(table[:4], table[4:6], index, table[6:])


def softmax(
    s: Float64,
    ds: Float64,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    sink: Float64 | None,
    distance: float,
    exp_rel: float,
) -> tuple[Float64, Float64, Float64, Float64, Float64, Float64] | None:
    """``attention._normalised``, with ``Softmax.seen``; in place of a mask the keys that each query [R] sees.
    ``distance``: det's part of |s - m|."""
    found = library()
    heads, rows, keys = shape = s.shape
    by_row = (heads, rows, 1)
    if found is None or len(start) == 0 or rows % len(start) or ds.shape != shape or s.dtype != np.float64:
        return None
    if start.shape != stop.shape or (sink is not None and sink.shape != by_row):
        return None
    begin = np.clip(start, 0, keys)
    made = {
        "s": np.ascontiguousarray(s), "m": np.empty(by_row), "weight": np.empty(shape), "l": np.empty(by_row),
        "eps": np.empty(shape), "seen": np.empty((6, heads, rows)),
    }  # fmt: skip
    scores = found.struct(
        "greta_reference_scores *",
        {**made, "begin": begin, "end": np.clip(stop, begin, keys), "sink": sink, "det": ds},
        {
            "heads": heads, "rows": rows, "keys": keys, "group": rows // len(start), "distance": distance,
            "exp_rel": exp_rel,
        },
    )  # fmt: skip
    found.lib.greta_reference_shift(scores.pointer)
    np.exp(made["weight"], out=made["weight"])
    found.lib.greta_reference_normalise(scores.pointer)
    return made["s"], made["weight"], made["m"], made["l"], made["eps"], made["seen"]


def weighed(
    sm: Softmax, v: Float64, o: Float64, least: Float64, relative: float, rescale: tuple[float, float], u: float
) -> tuple[Float64, Float64, Float64] | None:
    """``attention._weighed``."""
    found = library()
    heads, rows, keys = shape = sm.p.shape
    dim, by_row = v.shape[-1], (heads, rows, 1)
    arrays = {"p": sm.p, "s": sm.s, "a": sm.A, "det": sm.det, "m": sm.m, "least": least, "v": v, "o": o}
    shapes = [shape] * 4 + [by_row] * 2 + [(heads, keys, dim), (heads, rows, dim)]
    if found is None or [x.shape for x in arrays.values()] != shapes:
        return None
    total, spread, envelope = np.empty((heads, rows, 3)), np.empty((heads, rows, 3, dim)), np.empty(shape)
    numbers = {
        "heads": heads, "rows": rows, "keys": keys, "dim": dim, "u": u, "relative": relative,
        "slope": rescale[0], "constant": rescale[1],
    }  # fmt: skip
    results = {"total": total, "spread": spread, "envelope": envelope, "scratch": np.empty(6 * keys)}
    given, made = (
        found.struct("greta_reference_softmax *", arrays, numbers),
        found.struct("greta_reference_weighed *", results, {}),
    )
    found.lib.greta_reference_weigh(given.pointer, made.pointer)
    return total, spread, envelope


def widened(matrix: Array, step: int) -> Iterator[tuple[slice, Float64, NDArray[np.float32]]] | None:
    """``reference.widened``."""
    found = library()
    if found is None or matrix.dtype != np.float32 or not matrix.flags.c_contiguous or matrix.size == 0:
        return None
    return _widened(found, matrix, step)


def _widened(found: Library, matrix: Array, step: int) -> Iterator[tuple[slice, Float64, NDArray[np.float32]]]:
    out, n = matrix.shape
    wide, magnitude = np.empty((step, n)), np.empty((step, n), dtype=np.float32)
    values, to, size = (found.pointer(x) for x in (matrix, wide, magnitude))
    for start in range(0, out, step):
        rows = min(step, out - start)
        found.lib.greta_reference_widen(values + start * n, rows * n, to, size)
        yield slice(start, start + rows), wide[:rows], magnitude[:rows]


def same_rows(left: Array, right: Array) -> NDArray[np.bool_] | None:
    """``rounding.same_rows`` of two arrays of one type and shape."""
    found, rows = library(), len(left)
    if found is None or left.size == 0:
        return None
    same = np.empty(rows, dtype=np.bool_)
    mine, theirs, to = (found.pointer(np.ascontiguousarray(x).view(np.uint8)) for x in (left, right, same))
    found.lib.greta_reference_same(mine, theirs, rows, left.nbytes // rows, to)
    return same
