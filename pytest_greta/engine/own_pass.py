"""What all runs of models with their own forward pass have in common, whoever computes them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pytest_greta.backends.base import PHASES
from pytest_greta.cases.model import Inject
from pytest_greta.engine.rows import checked_rows, dealt_rows
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.tracer import Tracer
from pytest_greta.trace.paths import PathName
from pytest_greta.trace.records import KernelRun, PathTrace, Trace


@dataclass
class OwnPath:
    """The calls of one path: ``segments`` as ``PathTrace`` has them, ``calls`` of the attention by phase."""

    name: PathName
    tracer: Tracer
    segments: list[tuple[str, int, int]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)


class OwnRun:
    """The runs of a plan. ``kernel``: of ``library``, which computes every attention. ``boundaries``: rows at which it
    changes what it does, as in ``checked_rows``."""

    def __init__(
        self, source: ModelSource, plan: RunPlan, library: str, kernel: str, boundaries: Sequence[int] = ()
    ) -> None:
        self.source, self.plan, self.library, self.kernel = source, plan, library, kernel
        self.layers = plan.layers if plan.layers is not None else tuple(range(source.config.n_layers))
        cuts = [segment.start for segment in plan.ways.prefill(plan.n_prefix)[1:]]
        self.prefix_rows, self.full_rows = checked_rows(plan.n_prefix, plan.steps, plan.seed, boundaries, cuts)
        self.dealt = dealt_rows(plan.n_prefix, self.prefix_rows, plan.seed, self.layers)
        self.faults = (*plan.canary, *([plan.inject] if plan.inject else []))
        self.fired: set[Inject] = set()
        """Faults that had their chance."""
        self._started = time.perf_counter()

    def path(self, path: OwnPath) -> PathTrace:
        """What was kept of a path, all of whose calls were made."""
        rows = np.concatenate([np.arange(first, first + count) for _, first, count in path.segments])
        kernels = tuple(KernelRun(self.library, self.kernel, p, n, "declared") for p, n in sorted(path.calls.items()))
        tokens = np.asarray(self.plan.tokens, dtype=np.int64)[rows]
        return PathTrace(path.name, tokens, rows, rows.copy(), path.tracer.taps(), kernels, tuple(path.segments))

    def trace(self, paths: Mapping[str, PathTrace], **more: Any) -> Trace:
        """The trace of all paths. ``more``: further facts."""
        plan, source = self.plan, self.source
        facts: dict[str, Any] = {
            "model": source.name,
            "n_layers": source.config.n_layers,
            "weights": source.origin,
            "libraries": dict.fromkeys(PHASES, self.library),
            "done_by_engine": [],
            "not_given": ["lse"],
            "threads": plan.threads,
            "seed": plan.seed,
            "gemm": plan.gemm,
            "tokens": list(plan.tokens),
            "way": {"cut_from": plan.cut_from, "left_pad": 0, "companions": [], "reused": 0, "rolled_back": 0},
            "run_seconds": time.perf_counter() - self._started,
            **more,
        }
        if plan.inject is not None:
            facts |= {"fault": plan.inject.fault, "fault_fired": plan.inject in self.fired}
        if plan.canary:
            facts["canary_fired"] = [fault in self.fired for fault in plan.canary]
        return Trace(plan.n_prefix, plan.steps, self.layers, plan.act_dtype, plan.kv_dtype, paths, facts)
