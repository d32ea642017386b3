"""The paths of a model that llama.cpp runs. Out comes the same ``Trace`` as from our decoder.

There is no ``aligned`` path: llama.cpp has no call for one attention alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_greta.backends.base import BackendError
from pytest_greta.engine.own_pass import OwnPath, OwnRun
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.tracer import Tracer
from pytest_greta.engine.ways import Segment
from pytest_greta.llamacpp.context import Context, Wanted, loaded
from pytest_greta.llamacpp.library import UBATCH, library
from pytest_greta.llamacpp.plants import Plants
from pytest_greta.llamacpp.state import parse
from pytest_greta.llamacpp.watch import Watch
from pytest_greta.texts import text
from pytest_greta.trace.records import PathTrace, Trace
from pytest_greta.trace.stages import MODEL

NAME = "llama.cpp"
Between = Callable[[Context], Context | None]


@dataclass(frozen=True)
class Subject:
    """A file to run: its path, what our reader finds in it, and which attention is to be used. ``between``: called
    with the context once its prompt is in; decoding goes on with what it gives, or with the same."""

    path: str
    source: ModelSource
    attention: str
    between: Between | None = None


def trace(subject: Subject, plan: RunPlan) -> Trace:
    """Run all paths."""
    run = _Run(subject, plan)
    return run.trace({"full": run.full(), **run.prefix_and_decode()})


class _Run(OwnRun):
    def __init__(self, subject: Subject, plan: RunPlan) -> None:
        super().__init__(subject.source, plan, NAME, subject.attention, (UBATCH,))
        self.subject, self.config = subject, subject.source.config
        self.llama = library(subject.source.name)
        self.model = loaded(subject.path, subject.source.name)
        self._watch: Watch | None = None

    def full(self) -> PathTrace:
        path = OwnPath("full", Tracer(self.layers, self.full_rows, (), self.dealt))
        self._call(path, self._context(), Segment("prefill", 0, len(self.plan.tokens)))
        return self.path(path)

    def prefix_and_decode(self) -> dict[str, PathTrace]:
        """The decode run goes on with the prefix run's cache."""
        n, steps, context = self.plan.n_prefix, self.plan.steps, self._context()
        prefix = OwnPath("prefix", Tracer(self.layers, self.prefix_rows, (), self.dealt))
        for segment in self.plan.ways.prefill(n):
            self._call(prefix, context, segment)
        if self.subject.between is not None:
            context = self.subject.between(context) or context
        decode = OwnPath("decode", Tracer(self.layers, range(n, n + steps)))
        for segment in self.plan.ways.decode(n, steps):
            self._call(decode, context, segment)
        return {path.name: self.path(path) for path in (prefix, decode)}

    def _context(self) -> Context:
        def watch(tensor: Any, ask: bool) -> bool:
            return self._watch is not None and self._watch(tensor, ask)

        plan = self.plan
        rows = max(plan.context, len(plan.tokens) + 1)
        wanted = Wanted(self.config.vocab, rows, plan.kv_dtype, self.subject.attention, plan.threads)
        return Context(self.llama, self.model, wanted, watch)

    def _call(self, path: OwnPath, context: Context, segment: Segment) -> None:
        plan = self.plan
        rows = np.arange(segment.start, segment.start + segment.count, dtype=np.int64)
        wanted = np.isin(rows, path.tracer.rows) | (rows == rows[-1])
        plants = Plants(self.faults, segment.phase, self.config, self.fired)
        self._watch = Watch(self.llama, self.config, path.tracer, rows, wanted, plants)
        logits = context.decode([plan.tokens[row] for row in rows], segment.start, wanted)
        shown = (rows == rows[-1]) | (rows >= plan.n_prefix)
        path.tracer.tap(MODEL, "logits", rows[shown], logits[shown[wanted]])
        self._after(path, context.state(), int(rows[-1]) + 1)
        path.segments.append((segment.phase, segment.start, segment.count))
        path.calls[segment.phase] += self._watch.calls.total()

    def _after(self, path: OwnPath, raw: bytes, total: int) -> None:
        """The rows that llama.cpp saves of the sequence, once the call is through."""
        state = parse(raw)
        if len(state.positions) != total:
            message = text("llamacpp.cells", found=len(state.positions), expected=total)
            raise BackendError("GRETA_INTERNAL", message)
        for layer in self.layers:
            for part, rows in (("k", state.k[layer]), ("v", state.v[layer])):
                values = rows.reshape(total, self.config.n_kv_heads, -1)
                path.tracer.replace(layer, "kv_read", np.arange(total), values, f"{part}_after")
