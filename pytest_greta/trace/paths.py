"""The four ways to the token, and the phase that each belongs to. Light, because reports read it too."""

from __future__ import annotations

from typing import Literal

PathName = Literal["full", "prefix", "decode", "aligned"]
"""full: prefill(N + steps). prefix: prefill(N). decode: the steps after it. aligned: the decode kernel over the full
run's cache with the full run's query of row N."""

RUNS: tuple[str, ...] = ("full", "prefix", "decode")
"""Those that run the whole model. ``aligned`` is one attention call a layer."""

PATHS: tuple[str, ...] = (*RUNS, "aligned")
"""In the order in which they are run."""

PREFILL_PATHS: tuple[PathName, ...] = ("full", "prefix")


def phase_of(path: str) -> str:
    """``prefill`` or ``decode``, as verdicts and ``inject:`` say it."""
    return "prefill" if path in PREFILL_PATHS else "decode"


def phase_label(path: str, position: int, n_prefix: int, last: int) -> str:
    """The ``phase`` of a JSONL record, GRETA's spelling: ``prefill``, ``prefill_last``, ``decode0``, ..."""
    if path in PREFILL_PATHS:
        return "prefill_last" if position == last else "prefill"
    return f"decode{position - n_prefix}"
