"""What lies beside the probed rows in the cache: rows that a kernel with wrong addressing would read in their place.

Parts, of the pseudo-stage ``kv_read``, each once with ``k`` and once with ``v``:

==========  ==================================================================================================
``k.seq0``  all rows of companion 0 of the batch; positions are its slots
``k.pad``   the pad rows before the prompt; positions are slots
``k.before``  what rows of the probed sequence held before they were rolled back; positions are sequence rows
==========  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pytest_greta.backends.base import AttentionSession
from pytest_greta.engine.ways import Layout, Reuse
from pytest_greta.trace.records import Key, Tap

MOST = 1 << 26
"""Bytes kept of one path, 64 MiB: a probe with longer companions goes without them."""


class Beside:
    """Reads those rows of one path, in the layers that are traced. Only cases with ``batch``, ``left_pad`` or ``reuse``
    have any."""

    def __init__(self, layers: Iterable[int]) -> None:
        self._layers = tuple(layers)
        self._taps: dict[Key, Tap] = {}
        self._bytes = 0

    def read(self, session: AttentionSession, layout: Layout) -> Mapping[Key, Tap]:
        """The companions' rows and the pad rows, as they are at the end of a path; and what was kept before."""
        *companions, _ = layout.lengths(0)
        for seq, length in enumerate(companions):
            self._keep(session, f"seq{seq}", seq, 0, length)
        self._keep(session, "pad", len(companions), 0, layout.ways.left_pad)
        return self._taps

    def rolled_back(self, session: AttentionSession, layout: Layout, reuse: Reuse) -> None:
        """What a rollback is about to forget."""
        seq, pad = len(layout.ways.companions), layout.ways.left_pad
        self._keep(session, "before", seq, pad + reuse.prefix, reuse.rollback, reuse.prefix)

    def _keep(
        self, session: AttentionSession, name: str, seq: int, start: int, count: int, first: int | None = None
    ) -> None:
        """``first``: the position of the first row; its slot where it is None."""
        if count == 0:
            return
        rows = np.arange(count, dtype=np.int64) + (start if first is None else first)
        for layer in self._layers:
            if self._bytes > MOST:
                return
            for part, values in zip("kv", session.kv_read(layer, seq, start, count), strict=True):
                self._taps[Key(layer, "kv_read", f"{part}.{name}")] = Tap(rows, values)
                self._bytes += values.nbytes
