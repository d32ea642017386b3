"""What lies beside the probed rows in the cache: rows that a kernel with wrong addressing would read in their place,
and over which their own queries attend.

Parts, of the pseudo-stage ``kv_read``, each once with ``k`` and once with ``v``:

==========  ==================================================================================================
``k.seq0``  all rows of companion 0 of the batch; positions are its slots
``k.pad``   the pad rows before the prompt; positions are slots
``k.before``  what rows of the probed sequence held before they were rolled back; positions are sequence rows
==========  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pytest_greta.backends.base import AttentionSession, SessionConfig
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.ways import Layout, Reuse, Ways
from pytest_greta.trace.records import Key, Tap

MOST = 160 << 20
"""Bytes kept of one path, 160 MiB: these rows, and of companions what was written to them, before RoPE and after. A
probe with longer companions goes without them in some layers, and its evidence says so (``evidence.ways``). In one
type that is 64 MiB of cache: 1455 rows of SmolLM2-135M in f32, a quarter of what is kept of as many probed ones."""


def kept_layers(layers: Sequence[int], ways: Ways, steps: int, config: SessionConfig) -> tuple[int, ...]:
    """Those of ``layers`` of which all that lies beside the probed rows is kept: all, or as many as ``MOST`` allows,
    evenly among them."""
    new = sum(length + steps for length in ways.companions)
    rows = new + ways.left_pad + (ways.reuse.rollback if ways.reuse else 0)
    held = (config.head_dim_qk + config.head_dim_v) * DTYPES[config.kv_dtype].itemsize
    given = (2 * config.head_dim_qk + config.head_dim_v) * DTYPES[config.act_dtype].itemsize
    fit = MOST // max(1, config.n_kv_heads * (rows * held + new * given))
    return tuple(layers) if fit >= len(layers) else tuple(layers[i * len(layers) // fit] for i in range(fit))


class Beside:
    """Reads those rows of one path, in ``layers``. Only cases with ``batch``, ``left_pad`` or ``reuse`` have any."""

    def __init__(self, layers: Iterable[int]) -> None:
        self._layers = tuple(layers)
        self._taps: dict[Key, Tap] = {}

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
            for part, values in zip("kv", session.kv_read(layer, seq, start, count), strict=True):
                self._taps[Key(layer, "kv_read", f"{part}.{name}")] = Tap(rows, values)
