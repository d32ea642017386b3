"""A trace as the checks look at it: a stage's rows beside its inputs', and the cache that a path attends over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.attention import Spans
from pytest_greta.checks.judge import Group
from pytest_greta.dtypes import Array
from pytest_greta.engine.spec import StageSpec
from pytest_greta.trace.paths import RUNS
from pytest_greta.trace.records import Key, Tap, Trace
from pytest_greta.trace.stages import BEFORE_LAYERS, MODEL


@dataclass(frozen=True)
class Missing:
    """What the trace does not hold. ``why`` in words, English."""

    path: str
    layer: int
    stage: str
    why: str


@dataclass(frozen=True)
class Gathered:
    """Rows of one stage on one path, and the same rows of its inputs: ``stored`` and each input [R, ...]."""

    path: str
    positions: NDArray[np.int64]
    stored: Array
    inputs: tuple[Array, ...]

    def rows(self, at: NDArray[np.bool_]) -> Gathered:
        """Those rows alone."""
        return Gathered(self.path, self.positions[at], self.stored[at], tuple(x[at] for x in self.inputs))

    @property
    def group(self) -> Group:
        return Group(self.path, self.positions)


@dataclass(frozen=True)
class Cache:
    """Stored bytes of rows first .. first + len - 1: k [len, kv_heads, dqk], v [len, kv_heads, dv]."""

    first: int
    k: Array
    v: Array


class View:
    """Reads a trace; what it does not find, it adds to ``missing``."""

    def __init__(self, trace: Trace, n_layers: int) -> None:
        self.trace, self.n_layers = trace, n_layers
        self.missing: list[Missing] = []
        self._caches: dict[tuple[str, int], Cache | None] = {}

    def tap(self, path: str, layer: int, stage: str, part: str = "") -> Tap | None:
        """A tap with at least one row."""
        found = self.trace.tap(path, layer, stage, part)
        if found is None or len(found.positions) == 0:
            self.missing.append(Missing(path, layer, stage, f"not traced{f' (part {part})' if part else ''}"))
            return None
        return found

    def report(self, path: str, spec: StageSpec, why: str) -> None:
        self.missing.append(Missing(path, spec.layer, spec.stage, why))

    def gather(self, spec: StageSpec, paths: Sequence[str], inputs: Sequence[str], part: str = "") -> list[Gathered]:
        """The rows of ``spec`` that were traced together with all of its ``inputs``, by path."""
        places = [self._place(spec, name) for name in inputs]
        if any(layer != MODEL and layer not in self.trace.layers for layer, _ in places):
            return []  # the layer before was not asked for: nothing is missing
        found = []
        for path in paths:
            out = self.tap(path, spec.layer, spec.stage, part)
            taps = [self.tap(path, layer, stage) for layer, stage in places]
            if out is None or any(t is None for t in taps):
                continue
            present = [t for t in taps if t is not None]
            rows = out.positions
            for tap in present:
                if tap.positions is not rows and not np.array_equal(tap.positions, rows):
                    rows = np.intersect1d(rows, tap.positions, assume_unique=True)
            if len(rows) == 0:
                self.report(path, spec, "no row in common with its inputs")
                continue
            found.append(Gathered(path, rows, _rows(out, rows), tuple(_rows(t, rows) for t in present)))
        return found

    def _place(self, spec: StageSpec, name: str) -> tuple[int, str]:
        """Where an input of a stage was tapped: ``x_out`` is the layer before's, and ``embed_out`` before layer 0."""
        if spec.stage == "x_in" and name == "x_out":
            return (spec.layer - 1, "x_out") if spec.layer > 0 else (MODEL, "embed_out")
        if spec.layer == MODEL and name == "x_out":
            return self.n_layers - 1, "x_out"
        return MODEL if name in BEFORE_LAYERS else spec.layer, name

    def tokens(self, path: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._planned(path, positions, self.trace.paths[path].tokens)

    def rope_positions(self, path: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._planned(path, positions, self.trace.paths[path].rope_positions)

    def _planned(self, path: str, positions: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = self.trace.paths[path].rows
        order = np.argsort(rows)
        at = order[np.minimum(np.searchsorted(rows, positions, sorter=order), len(rows) - 1)]
        unknown = positions[rows[at] != positions]
        if len(unknown):
            raise ValueError(f"path {path}: row {unknown[0]} was traced but is not among the rows that were planned")
        return values[at]

    def cache(self, path: str, layer: int) -> Cache | None:
        """The bytes as written of all rows that the path's last query may see.

        The decode path goes on with the prefix run's cache; ``aligned`` reads the full run's.
        """
        key = (path, layer)
        if key not in self._caches:
            self._caches[key] = self._cache(path, layer)
        return self._caches[key]

    def written(self, path: str, layer: int) -> Cache | None:
        """The same rows as they were written, where they are kept rounded (``quantised.py``)."""
        return self._written(path, layer) if self.quantised else self.cache(path, layer)

    @property
    def quantised(self) -> Mapping[str, Any]:
        """How the cache keeps rows in fewer bits; empty: it does not."""
        facts: Mapping[str, Any] = self.trace.facts.get("cache", {})
        return facts

    def first_call(self, path: str) -> int:
        """Rows that the first call of a path's cache wrote."""
        segments = self.trace.paths[{"decode": "prefix", "aligned": "full"}.get(path, path)].segments
        return int(segments[0][2])

    def other_cache(self, path: str, layer: int) -> Cache | None:
        """The same of a layer that is not being judged: not kept."""
        return self._caches.get((path, layer)) or self._cache(path, layer)

    def beside(self, path: str, layer: int, part: str) -> Tap | None:
        """Cache rows beside those of a path (``engine.beside``). ``aligned`` reads the full run's session; what was
        rolled back was so before the decode path went on."""
        source = {"aligned": "full"}.get(path, path)
        if path == "decode" and part.endswith(".before"):
            source = "prefix"
        return self.tap_beside(source, layer, "kv_read", part)

    def tap_beside(self, path: str, layer: int, stage: str, part: str) -> Tap | None:
        """Of tokens that are no part of the probed sequence; not every run has them, nor every layer."""
        found = self.trace.paths.get(path)
        return None if found is None else found.beside.get(Key(layer, stage, part))

    def companions(self) -> Iterator[str]:
        """Their names, which are the parts of what was tapped of them."""
        for seq in range(len(self.trace.facts.get("way", {}).get("companions", ()))):
            yield f"seq{seq}"

    def gather_beside(self, layer: int, of: tuple[str, str], given: tuple[str, str]) -> list[Gathered]:
        """By run: the rows of ``given`` that were tapped beside the probed ones, and the same rows of ``of``; both are
        (stage, part)."""
        found = []
        for path in RUNS:
            out, x = (self.tap_beside(path, layer, *place) for place in (of, given))
            if out is not None and x is not None:
                found.append(Gathered(path, x.positions, _rows(out, x.positions), (x.values,)))
        return found

    def spans(self, path: str, positions: NDArray[np.int64], first: int, window: int) -> Spans | None:
        """What the calls of these rows span, keys counted from row ``first`` on; None where the trace does not say.

        The splits of a call share the tiles between the first key that any of its queries sees and its last.
        """
        pad, segments = self.trace.facts.get("way", {}).get("left_pad"), self.trace.paths[path].segments
        if pad is None or not segments:
            return None
        starts = np.array([start for _, start, _ in segments], dtype=np.int64)
        ends = np.array([start + count for _, start, count in segments], dtype=np.int64)
        at = np.argmax((positions[:, None] >= starts) & (positions[:, None] < ends), axis=1)
        begin = np.maximum(starts[at] - window + 1, 0) if window else np.zeros_like(positions)
        return Spans(np.maximum(begin - first, 0), ends[at] - first, int(pad) + first, window > 0)

    def forget(self) -> None:
        """Drop the caches that were put together: a layer's are not asked for again."""
        self._caches.clear()

    def _cache(self, path: str, layer: int) -> Cache | None:
        if path == "decode" and self.quantised:
            return self._given(path, layer)
        return self._written(path, layer)

    def _given(self, path: str, layer: int) -> Cache | None:
        """What attention was handed, in place of what was written."""
        k, v = (self.tap(path, layer, "kv_read", part) for part in ("k", "v"))
        return None if k is None or v is None else Cache(int(k.positions[0]), k.values, v.values)

    def _written(self, path: str, layer: int) -> Cache | None:
        sources = {"decode": ("prefix", "decode"), "aligned": ("full",)}.get(path, (path,))
        rows: list[NDArray[np.int64]] = []
        parts: dict[str, list[Array]] = {"k": [], "v": []}
        for source in sources:
            k, v = (self.tap(source, layer, "kv_write", part) for part in ("k", "v"))
            if k is None or v is None:
                return None
            # what was written before a rollback below N is not in the cache any more
            keep = k.positions < self.trace.n_prefix if path == "decode" and source == "prefix" else slice(None)
            rows.append(k.positions[keep])
            parts["k"].append(k.values[keep])
            parts["v"].append(v.values[keep])
        positions = np.concatenate(rows)
        first = int(positions[0])
        if not np.array_equal(positions, np.arange(first, first + len(positions))):
            self.missing.append(Missing(path, layer, "kv_write", "rows are not contiguous"))
            return None
        return Cache(first, *(p[0] if len(p) == 1 else np.concatenate(p) for p in parts.values()))


def _rows(tap: Tap, positions: NDArray[np.int64]) -> Array:
    if len(tap.positions) == len(positions):
        return tap.values
    values: Array = tap.values[np.searchsorted(tap.positions, positions)]
    return values
