"""Taps: which rows of which stages a run keeps. The decoder offers everything; the tracer copies what is asked for."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import AttentionSession
from pytest_greta.engine.ways import Others
from pytest_greta.trace.records import Key, Tap
from pytest_greta.trace.stages import ATTENTION_STAGES, MODEL

ALL_ROWS = frozenset({"q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "q_rope", "k_rope", "kv_write", "kv_read"})
"""RoPE and the cache are checked on every row: one wrong row among thousands must not escape. So are their inputs
kept."""


ASIDE = -1
"""The position of a row that is no row of the prompt."""

ATTENDED = frozenset(ATTENTION_STAGES)
"""What the library under test gives back: here each layer keeps rows of its own beside (``rows.dealt_rows``), and a row
that is not finite, so that it is judged, whichever row it is."""


_Parts = dict[Key, list[tuple[NDArray[np.int64], NDArray[Any]]]]


class Tracer:
    """Collects the taps of one path.

    ``layers``: those to keep (stages outside the layers are always kept). ``rows``: the sequence rows to keep of every
    stage that is not in ``ALL_ROWS``. Several calls of one stage (decode steps, chunks) are concatenated. ``further``:
    attention calls to make beside the path's own, by the part that they are tapped as (``stages.EXTRA``). ``dealt``: by
    layer, rows to keep beside of ``ATTENDED``, but of the call with q = 0 (``q0``). ``layers_beside``: those of which
    tokens beside the probed rows are kept (``beside.kept_layers``).
    """

    def __init__(
        self,
        layers: Iterable[int],
        rows: Iterable[int],
        further: Iterable[str] = (),
        dealt: Mapping[int, Sequence[int]] = MappingProxyType({}),
        layers_beside: Iterable[int] = (),
    ) -> None:
        self.further = tuple(further)
        self.ran: Counter[tuple[str, str]] = Counter()
        """Kernels of those calls, which are not the path's, by (phase, kernel)."""
        self.layers = frozenset(layers) | {MODEL}
        self.rows = np.array(sorted(set(rows)), dtype=np.int64)
        self.dealt = dealt
        self.layers_beside = frozenset(layers_beside)
        self.has_aside = False
        self._parts: _Parts = {}
        self._beside: _Parts = {}

    @contextlib.contextmanager
    def beside(self, session: AttentionSession) -> Iterator[None]:
        """The kernels that run inside the block are not the path's."""
        before = Counter(session.counters())
        yield
        self.ran.update(Counter(session.counters()) - before)

    def wants(self, layer: int) -> bool:
        return layer in self.layers

    def tap(
        self,
        layer: int,
        stage: str,
        rows: NDArray[np.int64],
        values: NDArray[Any],
        part: str = "",
        also: NDArray[np.bool_] | None = None,
    ) -> None:
        """Keep ``values`` [T, ...] of the sequence rows ``rows`` [T]: copied, because the caller's buffer lives on.

        ``also`` [T]: rows to keep beside those that are asked for.
        """
        if layer not in self.layers:
            return
        keep = np.full(len(rows), stage in ALL_ROWS) | np.isin(rows, self.rows)
        if also is not None:
            keep |= also
        if stage in ATTENDED:
            if self.dealt and part != "q0":
                keep |= np.isin(rows, self.dealt[layer])
            keep |= ~np.isfinite(values.reshape(len(rows), -1)).all(axis=1)
        kept = rows[keep]
        if len(kept):
            self._parts.setdefault(Key(layer, stage, part), []).append((kept.copy(), values[keep].copy()))

    def replace(self, layer: int, stage: str, rows: NDArray[np.int64], values: NDArray[Any], part: str = "") -> None:
        """As ``tap``, for a snapshot of which only the last counts."""
        self._parts.pop(Key(layer, stage, part), None)
        self.tap(layer, stage, rows, values, part)

    def aside(self, layer: int, stage: str, part: str, values: NDArray[Any]) -> None:
        """Keep one row [1, ...] that belongs to no row of the prompt: its position is ``ASIDE``."""
        self.has_aside = True
        if layer in self.layers:
            self._parts[Key(layer, stage, part)] = [(np.array([ASIDE], dtype=np.int64), values.copy())]

    def tap_beside(
        self, layer: int, stage: str, other: Others, values: NDArray[Any], which: NDArray[np.int64] | None = None
    ) -> None:
        """Keep the rows of ``values`` [T, ...], of all tokens of a call, that belong to ``other``; of these only those
        that ``which`` has the indices of, where it is given."""
        if layer in self.layers_beside:
            rows, at = (x if which is None else x[which] for x in (other.rows, other.at))
            self._beside.setdefault(Key(layer, stage, other.name), []).append((rows, values[at]))

    def taps(self) -> dict[Key, Tap]:
        return _joined(self._parts)

    def beside_taps(self) -> dict[Key, Tap]:
        """Of tokens that are no part of the path."""
        return _joined(self._beside)


def _joined(found: _Parts) -> dict[Key, Tap]:
    """Stages of which the same rows were kept share one array of positions: readers tell so at a glance."""
    known: dict[bytes, NDArray[np.int64]] = {}
    joined = {}
    for key, parts in found.items():
        rows = np.concatenate([rows for rows, _ in parts])
        values = np.concatenate([values for _, values in parts])
        joined[key] = Tap(known.setdefault(rows.tobytes(), rows), values)
    return joined
