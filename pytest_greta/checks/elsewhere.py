"""The other places of the cache that a kernel could have read from, as the trace knows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.view import Cache, View
from pytest_greta.dtypes import Array
from pytest_greta.engine.spec import ModelConfig
from pytest_greta.trace.records import Tap


@dataclass(frozen=True)
class Pages:
    """A paged cache as it lies in memory: ``k`` and ``v`` [pages, size, kv_heads, dim], zero where nobody wrote.

    ``table``: the page of each block of the probed sequence, which is sequence ``seq``; ``slots`` [keys]: where its
    rows lie in its blocks.
    """

    size: int
    seq: int
    table: NDArray[np.int64]
    slots: NDArray[np.int64]
    k: Array
    v: Array

    def rows(self, table: NDArray[np.int64]) -> tuple[Array, Array]:
        """The probed rows as another table would find them."""
        at = table[self.slots // self.size], self.slots % self.size
        return self.k[at], self.v[at]


class Elsewhere:
    """Of one layer on one path. All rows are stored ones; "not yet written" is zero, as a fresh cache is.

    What the trace does not hold (a layer that was not asked for, a run without companions) is simply not there.
    """

    def __init__(self, view: View, config: ModelConfig, path: str, layer: int) -> None:
        self._view, self._config, self._path, self._layer = view, config, path, layer
        self._trace = view.trace
        way = self._trace.facts.get("way", {})
        self._pad, self._n_companions = int(way.get("left_pad", 0)), len(way.get("companions", ()))
        own = view.cache(path, layer)
        assert own is not None  # there is no call to explain without one
        self.own: Cache = own
        self.k_scale, self.v_scale = config.layers[layer].k_scale, config.layers[layer].v_scale
        self.window = config.layers[layer].window
        self.windows = tuple(sorted({other.window for other in config.layers} - {self.window, 0}))

    def segment(self, position: int) -> tuple[int, int]:
        """The rows first .. stop - 1 that were computed in one call with this one."""
        for _, first, count in self._trace.paths[self._path].segments:
            if first <= position < first + count:
                return first, first + count
        return position, position + 1

    def layers(self, position: int) -> Iterator[tuple[int, Array, Array]]:
        """The same rows of the other layers, as they were when this query ran: a later layer's are written later."""
        new = self.segment(position)[0] - self.own.first
        for other in self._trace.layers:
            found = self._view.other_cache(self._path, other) if other != self._layer else None
            if found is None or found.k.shape[1:] != self.own.k.shape[1:] or len(found.k) != len(self.own.k):
                continue
            k, v = found.k, found.v
            if other > self._layer and self._path != "aligned":
                k, v = (_replaced(x, slice(new, None), np.zeros_like(x[:1])) for x in (k, v))
            yield other, k, v

    def sequences(self, position: int) -> Iterator[tuple[int, Array, Array, int]]:
        """(companion, its rows at the probed slots, how many keys its own length would give)."""
        for seq, k, v in self._companions(position):
            rows = [_at_slots(values, self._slots) for values in (k, v)]
            yield seq, rows[0], rows[1], max(0, len(k) - self._pad - self.own.first)

    def pad_rows(self) -> tuple[Array, Array] | None:
        """Of the left padding."""
        k, v = (self._beside(f"{part}.pad") for part in "kv")
        return None if k is None or v is None else (k.values, v.values)

    def previous(self) -> tuple[NDArray[np.int64], Array, Array] | None:
        """Indices of rows that once held something else, and what it was."""
        k, v = (self._beside(f"{part}.before") for part in "kv")
        if k is None or v is None:
            return None
        at = k.positions - self.own.first
        inside = (at >= 0) & (at < len(self.own.k))
        return at[inside], k.values[inside], v.values[inside]

    def pages(self, position: int) -> Pages | None:
        """As the memory was when this query ran; None where the cache is not paged."""
        facts: dict[str, Any] | None = self._trace.facts.get("pages")
        if not facts:
            return None
        size, table = int(facts["size"]), np.asarray(facts["table"], dtype=np.int64)
        if table.size == 0 or table.min() < 0 or table.max() >= int(facts["count"]):
            return None
        k, v = (np.zeros((int(facts["count"]), size, *x.shape[1:]), x.dtype) for x in (self.own.k, self.own.v))
        rows = [(seq, np.arange(len(held)), held, held_v) for seq, held, held_v in self._companions(position)]
        last = len(table) - 1
        if (padding := self.pad_rows()) is not None:
            rows.append((last, np.arange(len(padding[0])), *padding))
        written = slice(self.segment(position)[1] - self.own.first)
        rows.append((last, self._slots[written], self.own.k[written], self.own.v[written]))
        for seq, slots, held, held_v in rows:
            at = table[seq][slots // size], slots % size
            k[at], v[at] = held, held_v
        return Pages(size, last, table[last], self._slots, k, v)

    @property
    def _slots(self) -> NDArray[np.int64]:
        return np.arange(len(self.own.k)) + self.own.first + self._pad

    def _companions(self, position: int) -> Iterator[tuple[int, Array, Array]]:
        """Their rows at the time: in the decode path they grow with the probed sequence."""
        ahead = int(self._trace.paths[self._path].rows[-1]) + 1 - self.segment(position)[1]
        for seq in range(self._n_companions):
            k, v = (self._beside(f"{part}.seq{seq}") for part in "kv")
            if k is not None and v is not None:
                length = len(k.values) - (ahead if self._path == "decode" else 0)
                yield seq, k.values[:length], v.values[:length]

    def _beside(self, part: str) -> Tap | None:
        return self._view.beside(self._path, self._layer, part)


def _at_slots(values: Array, slots: NDArray[np.int64]) -> Array:
    """``values`` [rows, ...] at ``slots``, zero beyond its end."""
    there = slots < len(values)
    rows = np.zeros((len(slots), *values.shape[1:]), values.dtype)
    rows[there] = values[slots[there]]
    return rows


def _replaced(values: Array, at: Any, by: Array) -> Array:
    values = values.copy()
    values[at] = by
    return values
