"""The cache rows in a state that llama.cpp saved of one sequence (``llama_state_seq_get_data``).

Little-endian words, as b11549 writes them (``src/llama-context.cpp``, ``src/llama-kv-cache.cpp``); u32 unless said:

    magic, 0; number of streams, 1; cells
    a cell: position (i32), number of sequences, those sequences
    1 where V is stored by element, number of layers, 0, 0
    a layer's K: type, bytes a row (u64), the rows
    a layer's V: the same; or by element: type, bytes an element, elements a row, then of each element all cells
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import BackendError
from pytest_greta.llamacpp.library import F16, F32
from pytest_greta.texts import text

MAGIC = 0xAF143CD8
_NUMPY: dict[int, np.dtype[Any]] = {F32: np.dtype("<f4"), F16: np.dtype("<f2")}


@dataclass(frozen=True)
class State:
    """``positions`` int64 [cells]. ``k``, ``v`` by layer: [cells, elements a row] in the cache's type. ``at_k``: where
    in the bytes each layer's K begins."""

    positions: NDArray[np.int64]
    k: tuple[NDArray[Any], ...]
    v: tuple[NDArray[Any], ...]
    at_k: tuple[int, ...]


class _Words:
    """Reads on, and says where it was when something is not as it must be."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, form: str) -> int:
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.raw):
            raise self.unknown("end")
        (value,) = struct.unpack_from("<" + form, self.raw, self.at)
        self.at += size
        return int(value)

    def expect(self, name: str, *known: int, form: str = "I") -> int:
        value = self.take(form)
        if value not in known:
            raise self.unknown(f"{name} {value}")
        return value

    def block(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        if count < 0 or self.at + count * dtype.itemsize > len(self.raw):
            raise self.unknown("end")
        values = np.frombuffer(self.raw, dtype, count, self.at)
        self.at += values.nbytes
        return values

    def unknown(self, what: str) -> BackendError:
        return BackendError("GRETA_INTERNAL", text("llamacpp.state", what=what, at=self.at, size=len(self.raw)))


def parse(raw: bytes) -> State:
    """Raises ``BackendError`` for a state of another layout than the one above, with the word and where it stands."""
    words = _Words(raw)
    words.expect("magic", MAGIC)
    words.expect("version", 0)
    words.expect("streams", 1)
    cells = words.take("I")
    positions = []
    for _ in range(cells):
        positions.append(words.take("i"))
        for _ in range(words.expect("sequences", 0, 1)):
            words.take("I")
    by_element = words.expect("V by element", 0, 1)
    layers = words.take("I")
    words.expect("reserved", 0)
    words.expect("reserved", 0)
    k, at_k = [], []
    for _ in range(layers):
        rows, at = _rows(words, cells)
        k.append(rows)
        at_k.append(at)
    v = [_columns(words, cells) if by_element else _rows(words, cells)[0] for _ in range(layers)]
    if words.at != len(raw):
        raise words.unknown("rest")
    return State(np.array(positions, dtype=np.int64), tuple(k), tuple(v), tuple(at_k))


def _rows(words: _Words, cells: int) -> tuple[NDArray[Any], int]:
    dtype = _NUMPY[words.expect("type", *_NUMPY, form="i")]
    width = words.take("Q") // dtype.itemsize
    at = words.at
    rows: NDArray[Any] = words.block(dtype, cells * width).reshape(cells, width)
    return rows, at


def _columns(words: _Words, cells: int) -> NDArray[Any]:
    dtype = _NUMPY[words.expect("type", *_NUMPY, form="i")]
    words.expect("bytes an element", dtype.itemsize)
    width = words.take("I")
    rows: NDArray[Any] = words.block(dtype, cells * width).reshape(width, cells).T
    return rows
