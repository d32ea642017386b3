"""``Trace``: what a probe saw, as arrays. Everything right of it is a pure function.

Shapes, R the number of rows recorded:

====================  ======================  =========================================
stage                 part                    values
====================  ======================  =========================================
embed_out .. x_out    ""                      [R, width]
q_proj q_norm q_rope  ""                      [R, n_heads, head_dim_qk]
k_proj k_norm k_rope  ""                      [R, n_kv_heads, head_dim_qk]
v_proj                ""                      [R, n_kv_heads, head_dim_v]
kv_write              "k", "v"                [R, n_kv_heads, dim], bytes of the cache
kv_read               "k", "v"                the same rows read directly before attend
kv_read               "k_after", "v_after"    the same rows read again after the phase
lse                   ""                      [R, n_heads] float32
attn_out              ""                      [R, n_heads, head_dim_v]
lse, attn_out         "q0"                    the same of a call with q = 0
lse, attn_out         "repeat", "alone"       of the same call again, of the probed sequence alone
logits                ""                      [R, vocab] float32
====================  ======================  =========================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_greta.trace.paths import PathName


class Key(NamedTuple):
    """Where a value was tapped. ``layer`` is ``stages.MODEL`` (-1) for stages outside the layers."""

    layer: int
    stage: str
    part: str = ""


@dataclass(frozen=True)
class Tap:
    """The rows of one stage.

    ``positions`` int64 [R], ascending: the sequence row that each row of ``values`` belongs to (row = cache slot, not
    the RoPE position). ``values``: see the module's table; its dtype is the storage type of the stage.
    """

    positions: NDArray[np.int64]
    values: NDArray[Any]

    def row(self, position: int) -> NDArray[Any]:
        """``values`` of one sequence row. Raises ``KeyError`` where it was not recorded."""
        index = int(np.searchsorted(self.positions, position))
        if index >= len(self.positions) or self.positions[index] != position:
            raise KeyError(position)
        row: NDArray[Any] = self.values[index]
        return row


@dataclass(frozen=True)
class KernelRun:
    """Calls of one kernel during a path. ``source``: counted by the library, or by the harness from its own calls."""

    library: str
    kernel: str
    phase: str
    calls: int
    source: Literal["library", "declared"] = "library"


@dataclass(frozen=True)
class PathTrace:
    """One way to the token.

    ``tokens`` int64 [T]: the ids that this path was given, for sequence rows ``rows`` int64 [T].
    ``rope_positions`` int64 [T]: the planned RoPE position of each.
    ``segments``: (phase, first row, number of rows) of each call to the model, in order.
    """

    path: PathName
    tokens: NDArray[np.int64]
    rows: NDArray[np.int64]
    rope_positions: NDArray[np.int64]
    taps: Mapping[Key, Tap]
    kernels: tuple[KernelRun, ...] = ()
    segments: tuple[tuple[str, int, int], ...] = ()
    beside: Mapping[Key, Tap] = field(default_factory=dict)
    """Cache rows that are no part of the path, but that a kernel could have read in place of its own: see
    ``engine.beside``; provenance reads them. And stages of tokens of the same calls that are no part of it either
    (``stages.is_beside``): q_rope, lse and attn_out of the queries that are looked at; of companions also q before
    RoPE, k before and after it, and v. They are judged, never compared."""

    def get(self, layer: int, stage: str, part: str = "") -> Tap | None:
        return self.taps.get(Key(layer, stage, part))


@dataclass(frozen=True)
class Trace:
    """All paths of one probe.

    ``n_prefix`` is N: rows in the cache before the first decoded token. ``layers`` are those that were asked for.
    """

    n_prefix: int
    steps: int
    layers: tuple[int, ...]
    act_dtype: str
    kv_dtype: str
    paths: Mapping[str, PathTrace]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for the report: model, weights source, libraries, threads, seed, timings; and for provenance ``way``
    and, of a paged cache, ``pages`` (``size``, ``count``, and the ``table`` of every sequence)."""

    def tap(self, path: str, layer: int, stage: str, part: str = "") -> Tap | None:
        found = self.paths.get(path)
        return None if found is None else found.get(layer, stage, part)
