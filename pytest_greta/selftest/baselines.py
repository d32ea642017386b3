"""What fixed tolerances say of the same run: the two gates that people use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pytest_greta.trace.records import Trace
from pytest_greta.verdict import Drift

MAX_DLOGIT, P99_DLOGIT = 5e-3, 1e-3
CLOSE: Mapping[str, tuple[float, float]] = {"f32": (1.3e-6, 1e-5), "bf16": (1.6e-2, 1e-5), "f16": (1e-3, 1e-5)}
"""(rtol, atol) of ``torch.testing.assert_close`` by type."""


def logits_differ(drift: Drift | None) -> bool:
    """Largest |dlogit|, its 99th percentile and the top-1 token, prefill against decode. True: flagged."""
    if drift is None:
        return False
    return not (drift.max_abs <= MAX_DLOGIT and drift.p99_abs <= P99_DLOGIT and drift.top1_agrees)


def attention_differs(trace: Trace) -> bool:
    """``assert_close`` of every traced layer's attn_out, the decoded rows of decode against the full prefill's."""
    rtol, atol = CLOSE[trace.act_dtype]
    for layer in trace.layers:
        full, decode = (trace.tap(path, layer, "attn_out") for path in ("full", "decode"))
        if full is None or decode is None:
            continue
        rows = np.intersect1d(full.positions, decode.positions)
        left, right = (t.values[np.searchsorted(t.positions, rows)].astype(np.float64) for t in (full, decode))
        if not np.allclose(right, left, rtol=rtol, atol=atol):
            return True
    return False
