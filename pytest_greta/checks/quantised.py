"""A cache that keeps rows in fewer bits than they came in: how far a row that is read may be from the one written.

A trace says so in ``facts["cache"]``. Rows of a path's first call are kept rounded, and that call still attends over
them as they came; every later call attends over what the cache gives back. ``docs/concepts/derivations.md`` derives the
two bounds.

``{"scheme": "groups", "bits": n, "group": g}``: the first call's rows, K or V [kv_heads, rows, dim] in that order, are
cut into groups of g elements, each kept as a number of steps from its group's least, the step (max - min) / (2^n - 1).
Later rows are kept as they came.

``{"scheme": "hqq", "bits": n, "group": g}``: element i of the same first rows, in the same order, is of group i modulo
their number over g; a group is kept in whole steps from a zero of its own, which HQQ chooses. So what was read says
where the levels are: a value is at the nearest one, or, beyond the group's first or last, at that one.

``{"scheme": "fp8"}``: every row in e4m3 at one scale, the largest magnitude of the first call's rows over 448; what is
larger in a later row is cut off there, which is no error, as it is none in a cache whose scale was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.checks.constants import (
    FP8_SCALED,
    GROUP_ROUNDINGS,
    GROUP_STEP,
    HQQ_F32,
    HQQ_ITERATIONS,
    HQQ_KEPT,
    HQQ_RANGES,
    HQQ_ZERO,
    U,
)
from pytest_greta.dtypes import DTYPES, Array, DType

Float64 = NDArray[np.float64]
_FP8 = DTYPES["fp8_e4m3fn"]


def may_differ(written: Array, first: int, facts: Mapping[str, Any], act: DType, read: Array | None = None) -> Float64:
    """By how much each element of rows [R, kv_heads, dim] may have moved, 0 where it must not.

    ``written``: rows from row 0 on; ``first``: how many of them the first call wrote; ``act``: what they are in, and
    what the cache computes in. ``read``: the same rows as they were given back, where they are all there; only a
    scheme whose levels nothing else tells looks at them.
    """
    x = written.astype(np.float64)
    if facts["scheme"] == "fp8":
        scale = np.abs(x[:first]).max(initial=0.0) / _FP8.max
        rounded = np.maximum(_FP8.u * np.abs(x), _FP8.smallest_subnormal / 2 * scale)
        beyond = np.maximum(np.abs(x) - _FP8.max * scale, 0.0)
        own: Float64 = np.maximum(rounded, beyond) + FP8_SCALED * U * np.abs(x)
        return own
    if facts["scheme"] == "hqq":
        return _nearest_level(x, first, facts, act, None if read is None else read.astype(np.float64))
    heads, dim = x.shape[1:]
    groups = x[:first].transpose(1, 0, 2).reshape(-1, int(facts["group"]))
    least, most = groups.min(axis=1), groups.max(axis=1)
    step = (most - least) / (2 ** int(facts["bits"]) - 1)
    reach = np.maximum(most - least, np.maximum(np.abs(least), np.abs(most)))
    bound = step / 2 * (1 + GROUP_STEP * act.u) + GROUP_ROUNDINGS * act.u * reach
    moved = np.zeros_like(x)
    moved[:first] = np.broadcast_to(bound[:, None], groups.shape).reshape(heads, first, dim).transpose(1, 0, 2)
    return moved


def _nearest_level(x: Float64, first: int, facts: Mapping[str, Any], act: DType, read: Float64 | None) -> Float64:
    heads, dim = x.shape[1:]

    def grouped(rows: Float64) -> Float64:
        """[g, groups]"""
        by_head: Float64 = rows[:first].transpose(1, 0, 2)
        return by_head.reshape(int(facts["group"]), -1)

    w = grouped(x)
    least, most = w.min(axis=0), w.max(axis=0)
    spread = most - least
    flat, smallest = HQQ_RANGES
    step = np.where(spread <= flat, 1.0, np.maximum(spread / (2 ** int(facts["bits"]) - 1), smallest))
    drift = HQQ_ITERATIONS / 2 * step
    zero = np.abs(least) + drift
    kept = act.u * (HQQ_ZERO * zero + HQQ_KEPT * (np.abs(w) + step))
    bound = step / 2 + kept + HQQ_F32 * U * (spread + zero)
    if read is not None:
        r = grouped(read)
        # the levels span the range: values are cut off on one side at most, on that to which the zero has moved
        below = (w < r.min(axis=0)) & (r <= r.min(axis=0) + 2 * kept)
        above = (w > r.max(axis=0)) & (r >= r.max(axis=0) - 2 * kept)
        far = [np.where(side, np.abs(w - r), 0.0).max(axis=0) for side in (below, above)]
        bound += np.where(np.where(far[0] >= far[1], below, above), drift, 0.0)
    moved = np.zeros_like(x)
    moved[:first] = bound.reshape(heads, first, dim).transpose(1, 0, 2)
    return moved
