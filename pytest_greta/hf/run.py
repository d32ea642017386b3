"""The four paths of a model that runs itself. Out comes the same ``Trace`` as from our decoder.

``aligned`` is the decode run's own attention call, with the full run's query of row N, and over the full run's rows in
the places where the decode run's rows were: what differs from the decode path is what it was given.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_greta.engine.own_pass import OwnPath, OwnRun
from pytest_greta.engine.run import RunPlan
from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.tracer import Tracer
from pytest_greta.engine.ways import Segment
from pytest_greta.hf.attention import compiled
from pytest_greta.hf.caches import scheme_of
from pytest_greta.hf.families import Family
from pytest_greta.hf.plants import Plants
from pytest_greta.hf.watch import Called, Watch
from pytest_greta.pytorch.arrays import to_numpy, to_torch
from pytest_greta.trace.records import Key, PathTrace, Trace
from pytest_greta.trace.stages import MODEL

LIBRARY = "transformers"


@dataclass(frozen=True)
class Subject:
    """A model ready to run: the module in the plan's type, which attention it is to use, and how a cache is made."""

    module: Any
    family: Family
    source: ModelSource
    implementation: str
    new_cache: Callable[[int], Any]
    """From the number of rows that it must hold."""


def trace(subject: Subject, further: tuple[str, ...], plan: RunPlan) -> Trace:
    """Run all paths. ``further``: attention calls beside each path's own that the declarations ask for."""
    run = _Run(subject, plan, tuple(part for part in plan.further if part in further))
    with _quiet(plan.threads), compiled(subject.implementation):
        paths = {"full": run.full(), "prefix": run.prefix(), "decode": run.decode(), "aligned": run.aligned()}
    scheme = {"cache": run.scheme} if run.scheme else {}
    return run.trace(paths, logits_dtype=plan.act_dtype, **scheme)


class _Run(OwnRun):
    def __init__(self, subject: Subject, plan: RunPlan, further: tuple[str, ...]) -> None:
        super().__init__(subject.source, plan, LIBRARY, subject.implementation)
        self.subject, self.further = subject, further
        self.scheme: dict[str, Any] = {}
        self._cache: Any = None
        self._kept: dict[int, Called] = {}
        self._full: PathTrace | None = None
        accepted = inspect.signature(subject.module.forward).parameters
        self._cache_name = "cache" if "cache" in accepted else "past_key_values"

    # -- the paths -------------------------------------------------------------------------------------------------

    def full(self) -> PathTrace:
        path = OwnPath("full", Tracer(self.layers, self.full_rows, self.further, self.dealt))
        self._call(path, self._new_cache(), Segment("prefill", 0, len(self.plan.tokens)))
        self._full = self.path(path)
        return self._full

    def prefix(self) -> PathTrace:
        path = OwnPath("prefix", Tracer(self.layers, self.prefix_rows, self.further, self.dealt))
        self._cache = self._new_cache()
        for segment in self.plan.ways.prefill(self.plan.n_prefix):
            self._call(path, self._cache, segment)
        return self.path(path)

    def decode(self) -> PathTrace:
        """Goes on with the prefix run's cache."""
        n, steps = self.plan.n_prefix, self.plan.steps
        path = OwnPath("decode", Tracer(self.layers, range(n, n + steps), self.further))
        for segment in self.plan.ways.decode(n, steps):
            self._call(path, self._cache, segment, keep=True)
        return self.path(path)

    def aligned(self) -> PathTrace:
        import torch

        assert self._full is not None
        n, taps = self.plan.n_prefix, self._full.taps
        path = OwnPath("aligned", Tracer(self.layers, [n]), [("decode", n, 1)])
        row = np.array([n], dtype=np.int64)
        for layer in self.layers:
            call = self._kept[layer]
            q, k, v = call.q.clone(), call.k.clone(), call.v.clone()
            rows = np.arange(n, n + q.shape[2])
            queries = taps[Key(layer, "q_rope")]
            q[0] = to_torch(queries.values[rows]).transpose(0, 1)
            for cached, part in ((k, "k"), (v, "v")):
                stored = taps[Key(layer, "kv_write", part)]
                cached[0, :, call.used] = to_torch(stored.values[call.positions]).transpose(0, 1)
            with torch.inference_mode():
                out, _ = call.inner(call.module, q, k, v, call.mask, **call.options)
            path.tracer.tap(layer, "q_rope", row, queries.values[rows[:1]])
            path.tracer.tap(layer, "attn_out", row, to_numpy(out[0, :1]))
            path.calls["decode"] += 1
        return self.path(path)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _new_cache(self) -> Any:
        plan, config = self.plan, self.subject.source.config
        cache = self.subject.new_cache(len(plan.tokens))
        chunks = [segment.count for segment in plan.ways.prefill(plan.n_prefix)]
        self.scheme = scheme_of(cache, config.n_kv_heads * config.head_dim_qk, chunks, plan.steps)
        return cache

    def _call(self, path: OwnPath, cache: Any, segment: Segment, keep: bool = False) -> None:
        import torch

        subject, config = self.subject, self.subject.source.config
        rows = np.arange(segment.start, segment.start + segment.count, dtype=np.int64)
        plants = Plants(self.faults, segment.phase, config, self.fired)
        kept = self._kept if keep else {}
        watch = Watch(subject.family, config, path.tracer, rows, plants, bool(self.scheme), keep, kept)
        ids = torch.tensor([[self.plan.tokens[row] for row in rows]])
        with torch.inference_mode(), watch.over(subject.module, cache, subject.implementation):
            given = {self._cache_name: cache, "use_cache": True}
            logits = subject.module(input_ids=ids, **given).logits[0]
        wanted = (rows == rows[-1]) | (rows >= self.plan.n_prefix)
        path.tracer.tap(MODEL, "logits", rows[wanted], to_numpy(logits[torch.from_numpy(wanted)]))
        watch.after(cache)
        path.segments.append((segment.phase, segment.start, segment.count))
        path.calls[segment.phase] += watch.calls.total()


@contextlib.contextmanager
def _quiet(threads: int) -> Iterator[None]:
    """torch on so many threads within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
