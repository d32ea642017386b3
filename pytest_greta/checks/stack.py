"""Rows of all paths one after the other, for one reference: a row that two prefills made alike is there once.

Prefill(N) and prefill(N + 1) mostly give the same bytes in their common rows. What has the same inputs, the same output
and the same position has the same error and bound, so that it is computed once and counted on both paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.judge import Group
from pytest_greta.checks.rounding import same_rows
from pytest_greta.checks.view import Gathered
from pytest_greta.dtypes import Array


@dataclass(frozen=True)
class Stack:
    """``inputs``, each [R, ...], and ``stored`` [R, ...]; which of these rows each path has; and ``rows``: the path and
    the positions of what was stacked, in order."""

    inputs: tuple[Array, ...]
    stored: Array
    groups: tuple[Group, ...]
    rows: tuple[tuple[str, NDArray[np.int64]], ...]


def stack(found: Sequence[Gathered]) -> Stack:
    """``found`` is not empty. Only ``prefix`` is looked up in ``full``: the other paths share no row."""
    kept: list[Gathered] = []
    groups: list[Group] = []
    count = 0
    for part in found:
        first = kept[0] if kept and part.path == "prefix" and kept[0].path == "full" else None
        at, new = _shared(part, first) if first else (None, None)
        if at is None or new is None:
            kept.append(part)
            at = np.arange(count, count + len(part.positions))
        elif new.any():
            kept.append(part if new.all() else part.rows(new))
            at[new] = np.arange(count, count + len(kept[-1].positions))
        groups.append(Group(part.path, part.positions, at))
        count = sum(len(k.positions) for k in kept)
    inputs = tuple(concatenated([f.inputs[i] for f in kept]) for i in range(len(kept[0].inputs)))
    stored = concatenated([f.stored for f in kept])
    return Stack(inputs, stored, tuple(groups), tuple((f.path, f.positions) for f in kept))


def concatenated(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _shared(part: Gathered, full: Gathered) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(index of each row of ``part`` in ``full``, the rows that are not there). ``full`` is the first of the stack."""
    at = np.minimum(np.searchsorted(full.positions, part.positions), len(full.positions) - 1)
    there = full.positions[at] == part.positions
    for mine, theirs in zip((part.stored, *part.inputs), (full.stored, *full.inputs), strict=True):
        if mine.dtype != theirs.dtype or mine.shape[1:] != theirs.shape[1:]:
            return at, np.ones_like(there)
        there = np.logical_and(there, equal_rows(mine, theirs, at))
    return at, ~there


def equal_rows(mine: Array, theirs: Array, at: NDArray[np.intp]) -> NDArray[np.bool_]:
    """[len(mine)]: whose bytes are those of ``theirs[at]``."""
    return same_rows(mine, rows_at(theirs, at))


def rows_at(values: Array, at: NDArray[np.intp]) -> Array:
    """``values[at]``, ``at`` ascending; rows that lie together, as a prefix's do in the whole, are not copied."""
    together = len(at) > 0 and int(at[-1]) - int(at[0]) == len(at) - 1
    rows: Array = values[int(at[0]) : int(at[-1]) + 1] if together else values[at]
    return rows
