"""Is a trace alive? A comparison of nothing, of zeros, or of a buffer with itself proves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pytest_greta.trace.paths import RUNS
from pytest_greta.trace.records import Key, Tap, Trace
from pytest_greta.trace.stages import BEFORE_LAYERS, CACHE_STAGES, EXTRA, MODEL
from pytest_greta.verdict import Breach


def liveness(trace: Trace) -> tuple[Breach, ...]:
    """Every reason why a comparison within ``trace`` would show nothing; empty where there is none.

    ``stage_missing``: a tap without values. ``dead_tap``: a stage that is zero in every layer of a run (two runs of
    zeros are equal, and prove nothing); one that is dead in a single layer is a mismatch, and the checks say so, as is
    a cache row that reads as zero (it was written elsewhere). ``same_buffer``: two values that are compared lie in one
    memory.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return (*_empty(trace), *_dead(trace), *_shared(trace))


def _empty(trace: Trace) -> Iterator[Breach]:
    for path in RUNS:
        for key, tap in _taps(trace, path):
            if tap.values.size == 0 or len(tap.positions) == 0:
                yield Breach("stage_missing", {"path": path, "layer": key.layer, "stage": key.stage})


def _dead(trace: Trace) -> Iterator[Breach]:
    alive: dict[str, dict[str, bool]] = {}
    for path in RUNS:
        for key, tap in _taps(trace, path):
            if key.stage not in CACHE_STAGES:
                paths = alive.setdefault(key.stage, {})
                paths[path] = paths.get(path, False) or bool(np.any(tap.values != 0))
    for stage, paths in alive.items():
        dead = [path for path, lives in paths.items() if not lives]
        if dead:
            yield Breach("dead_tap", {"stage": stage, "path": ", ".join(dead)})


def _shared(trace: Trace) -> Iterator[Breach]:
    for path, key, tap, other_path, other in _compared(trace):
        if np.shares_memory(tap.values, other.values):
            yield Breach("same_buffer", {"stage": key.stage, "layer": key.layer, "path": path, "other": other_path})


def _compared(trace: Trace) -> Iterator[tuple[str, Key, Tap, str, Tap]]:
    """Pairs of taps of which one is judged by the bytes of the other."""
    for path in RUNS:
        for key, tap in _taps(trace, path):
            pairs = [("full", key)] if path != "full" else []
            if key.stage == "kv_read":
                pairs += [(path, Key(key.layer, "kv_write", key.part[0]))]
                pairs += [(path, Key(key.layer, "kv_read", key.part[0]))] if key.part.endswith("_after") else []
            elif key.stage == "x_in":
                before = [Key(key.layer - 1, "x_out")] if key.layer > 0 else [Key(MODEL, s) for s in BEFORE_LAYERS]
                pairs += [(path, place) for place in before]
            for other_path, place in pairs:
                other = trace.tap(other_path, *place)
                if other is not None:
                    yield path, key, tap, other_path, other


def _taps(trace: Trace, path: str) -> Iterator[tuple[Key, Tap]]:
    if path in trace.paths:
        yield from ((key, tap) for key, tap in trace.paths[path].taps.items() if key.part not in EXTRA)
