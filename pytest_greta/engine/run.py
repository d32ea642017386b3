"""The four calls of a probe: full prefill, prefix prefill, decode, aligned. Out comes a ``Trace``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import (
    PHASES,
    AttentionBackend,
    AttentionSession,
    Batch,
    Description,
    Phase,
    Schedule,
    SessionConfig,
)
from pytest_greta.backends.complete import Completed
from pytest_greta.cases.model import Inject
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.decoder import Decoder, Gemm
from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.tracer import Tracer
from pytest_greta.faults.plant import PlantedSession, PlantedWeights, plants_session, plants_weights
from pytest_greta.trace.records import KernelRun, Key, PathName, PathTrace, Tap, Trace

SLACK = 2
"""Rows a session holds beyond the run: a length that is one too long must reach a row, not an error."""


@dataclass(frozen=True)
class RunPlan:
    """How to run one probe. ``tokens`` are all N + steps ids; the last ``steps`` are decoded one by one."""

    tokens: tuple[int, ...]
    steps: int = 1
    act_dtype: str = "f32"
    kv_dtype: str = "f32"
    gemm: Gemm = "blas"
    page_size: int = 0
    seed: int = 1
    layers: tuple[int, ...] | None = None
    """Those to trace; None: all."""
    schedule: Mapping[str, Schedule] = field(default_factory=dict)
    context: int = 0
    """Rows a session holds; 0: as many as the run needs."""
    threads: int = 0
    device: int = 0
    inject: Inject | None = None

    @property
    def n_prefix(self) -> int:
        """N."""
        return len(self.tokens) - self.steps


class Library:
    """One phase's attention library: the backend and what it says of itself, asked once."""

    def __init__(self, backend: AttentionBackend) -> None:
        self.backend = backend
        self.description: Description = backend.describe()

    def open(self, config: SessionConfig) -> Completed:
        session = self.backend.open(config)
        try:
            return Completed(session, self.description, config)
        except BaseException:
            session.close()
            raise


def trace_probe(source: ModelSource, plan: RunPlan, libraries: Mapping[Phase, Library]) -> Trace:
    """Run all paths. ``libraries`` by phase; the same object in both where one library does both."""
    started = time.perf_counter()
    run = _Run(source, plan, libraries)
    try:
        paths = {"full": run.full(), "prefix": run.prefix(), "decode": run.decode(), "aligned": run.aligned()}
    finally:
        run.close()
    facts: dict[str, Any] = {
        "model": source.name,
        "n_layers": source.config.n_layers,
        "weights": source.origin,
        "libraries": {phase: run.libraries[phase].description.name for phase in PHASES},
        "done_by_engine": list(run.done_by_engine),
        "threads": plan.threads,
        "seed": plan.seed,
        "gemm": plan.gemm,
        "run_seconds": time.perf_counter() - started,
    }
    if plan.inject is not None and (plants_weights(plan.inject) or plants_session(plan.inject)):
        facts |= {"fault": plan.inject.fault, "fault_fired": run.fault_fired}
    return Trace(plan.n_prefix, plan.steps, run.layers, plan.act_dtype, plan.kv_dtype, paths, facts)


def last_logits(source: ModelSource, plan: RunPlan, library: Library) -> NDArray[np.float32]:
    """Float32 logits [vocab] of the last token of ``plan.tokens`` after one prefill. Nothing is traced."""
    run = _Run(source, plan, dict.fromkeys(PHASES, library))
    try:
        return run.logits()
    finally:
        run.close()


def checked_rows(n: int, steps: int, seed: int, boundaries: Sequence[int]) -> tuple[set[int], set[int]]:
    """The rows whose every stage is kept, for prefill(N) and for prefill(N + steps).

    {0, 1, N/2, N-1}, one drawn from the seed, and both sides of the first and last tile and page boundary; all decoded
    rows in the full run.
    """
    rows = {0, 1, n // 2, n - 1, int(np.random.default_rng(seed).integers(n))}
    for size in boundaries:
        for edge in (size, (n - 1) // size * size) if size else ():
            rows |= {edge - 1, edge}
    prefix = {row for row in rows if 0 <= row < n}
    return prefix, prefix | set(range(n, n + steps))


class _Run:
    def __init__(self, source: ModelSource, plan: RunPlan, libraries: Mapping[Phase, Library]) -> None:
        self.source, self.plan, self.libraries = source, plan, libraries
        self.layers = plan.layers if plan.layers is not None else tuple(range(source.config.n_layers))
        self.act = DTYPES[plan.act_dtype]
        self.ids = np.array(plan.tokens, dtype=np.int64)
        self.config = self._session_config()
        self.block_table = self._block_table()
        tiles = [d.tile for lib in libraries.values() for d in lib.description.numerics.values()]
        self.prefix_rows, self.full_rows = checked_rows(
            plan.n_prefix,
            plan.steps,
            plan.seed,
            sorted({*tiles, plan.page_size, *(s.tile for s in plan.schedule.values())}),
        )
        self._open = contextlib.ExitStack()
        self.done_by_engine: tuple[str, ...] = ()
        self.fault_fired = False
        self._full: tuple[Completed, Mapping[Key, Tap]] | None = None
        self._prefix: tuple[Completed, Tracer] | None = None

    def close(self) -> None:
        self._open.close()

    # -- the four paths ------------------------------------------------------------------------------------------

    def full(self) -> PathTrace:
        """prefill(N + steps)."""
        total = len(self.ids)
        session = self._session("prefill")
        tracer = Tracer(self.layers, self.full_rows)
        self._forward(session, tracer, "prefill", 0, total)
        path = self._path("full", session, tracer, "prefill", [("prefill", 0, total)])
        self._full = (session, path.taps)
        return path

    def prefix(self) -> PathTrace:
        """prefill(N), whose cache the decode path goes on with."""
        n = self.plan.n_prefix
        session = self._session("prefill")
        tracer = Tracer(self.layers, self.prefix_rows)
        self._forward(session, tracer, "prefill", 0, n)
        path = self._path("prefix", session, tracer, "prefill", [("prefill", 0, n)])
        self._prefix = (session, tracer)
        return path

    def decode(self) -> PathTrace:
        """The last ``steps`` tokens, one by one, over the prefix run's cache."""
        assert self._prefix is not None
        n, steps = self.plan.n_prefix, self.plan.steps
        session = self._handed_over(self._prefix[0], n)
        before = dict(session.counters())
        tracer = Tracer(self.layers, range(n, n + steps))
        for row in range(n, n + steps):
            self._forward(session, tracer, "decode", row, 1)
        return self._path(
            "decode", session, tracer, "decode", [("decode", row, 1) for row in range(n, n + steps)], before
        )

    def aligned(self) -> PathTrace:
        """The decode kernel with the full run's query of row N, over the full run's cache: one call a layer."""
        assert self._full is not None
        n = self.plan.n_prefix
        session = self._handed_over(self._full[0], n + 1)
        before = dict(session.counters())
        tracer = Tracer(self.layers, [n])
        row, batch = np.array([n], dtype=np.int64), self._batch(n, 1)
        for layer in self.layers:
            q = self._full[1][Key(layer, "q_rope")].row(n)[None].copy()
            out, lse = session.attend(layer, "decode", batch, q)
            tracer.tap(layer, "q_rope", row, q)
            tracer.tap(layer, "attn_out", row, out)
            if lse is not None:
                tracer.tap(layer, "lse", row, lse)
        session.sync()
        return self._path("aligned", session, tracer, "decode", [("decode", n, 1)], before)

    # -- parts ---------------------------------------------------------------------------------------------------

    def logits(self) -> NDArray[np.float32]:
        """Of the last position after one prefill of everything: float32 [vocab]."""
        session = self._session("prefill")
        last: NDArray[np.float32] = self._forward(session, Tracer((), ()), "prefill", 0, len(self.ids))[-1]
        return last

    def _forward(self, session: Completed, tracer: Tracer, phase: Phase, start: int, count: int) -> NDArray[np.float32]:
        plan, fault = self.plan, self.plan.inject
        config, weights = self.source.config, self.source.weights
        target: AttentionSession = session
        planted: PlantedWeights | PlantedSession | None = None
        if fault is not None and fault.phase in (phase, "both"):
            if plants_weights(fault):
                weights = planted = PlantedWeights(weights, fault, config)
            elif plants_session(fault):
                target = planted = PlantedSession(session, fault, config)
        decoder = Decoder(config, weights, target, self.act, plan.gemm, tracer)
        rows = np.arange(start, start + count, dtype=np.int64)
        logit_rows = {start + count - 1} | set(range(plan.n_prefix, plan.n_prefix + plan.steps))
        logits = decoder.forward(phase, self.ids[rows], rows, self._batch(start, count), logit_rows)
        session.sync()
        self.fault_fired = self.fault_fired or (planted is not None and planted.fired)
        for layer in self.layers:
            decoder.read_cache(layer, 0, start + count, "_after")
        return logits

    def _path(
        self,
        name: PathName,
        session: Completed,
        tracer: Tracer,
        phase: Phase,
        segments: list[tuple[str, int, int]],
        before: Mapping[tuple[str, str], int] | None = None,
    ) -> PathTrace:
        rows = np.concatenate([np.arange(start, start + count) for _, start, count in segments]).astype(np.int64)
        library = self.libraries[phase].description
        source: Literal["library", "declared"] = "library" if "counters" in library.features else "declared"
        counted = {key: calls - (before or {}).get(key, 0) for key, calls in session.counters().items()}
        kernels = tuple(
            KernelRun(library.name, kernel, ran, calls, source)
            for (ran, kernel), calls in sorted(counted.items())
            if calls > 0
        )
        return PathTrace(name, self.ids[rows], rows, rows.copy(), tracer.taps(), kernels, tuple(segments))

    def _session(self, phase: Phase) -> Completed:
        session = self.libraries[phase].open(self.config)
        self._open.callback(session.close)
        self.done_by_engine = tuple(sorted({*self.done_by_engine, *session.done_by_engine}))
        return session

    def _handed_over(self, session: Completed, rows: int) -> Completed:
        """The decode library's session with the first ``rows`` rows of a prefill session's cache."""
        if self.libraries["prefill"] is self.libraries["decode"]:
            return session
        other = self._session("decode")
        for layer in range(self.source.config.n_layers):
            other.kv_load(layer, 0, 0, *session.kv_read(layer, 0, 0, rows))
        return other

    def _batch(self, start: int, count: int) -> Batch:
        """Rows start .. start + count - 1 of the one sequence; all rows before them are in the cache."""
        rows = np.arange(start, start + count, dtype=np.int32)
        return Batch(
            cu_q=np.array([0, count], np.int32),
            kv_len=np.array([start + count], np.int32),
            positions=rows,
            slots=rows.copy(),
            seq_ids=np.zeros(1, np.int32),
            block_table=self.block_table,
        )

    def _session_config(self) -> SessionConfig:
        plan, model = self.plan, self.source.config
        max_len = max(plan.context, len(plan.tokens) + SLACK)
        blocks = -(-max_len // plan.page_size) if plan.page_size else 0
        return SessionConfig(
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            n_kv_heads=model.n_kv_heads,
            head_dim_qk=model.head_dim_qk,
            head_dim_v=model.head_dim_v,
            max_seqs=1,
            max_len=max_len,
            act_dtype=plan.act_dtype,
            kv_dtype=plan.kv_dtype,
            softmax_scale=model.softmax_scale,
            layers=model.layers,
            page_size=plan.page_size,
            n_pages=2 * blocks,
            device=plan.device,
            threads=plan.threads,
            schedule=plan.schedule,
        )

    def _block_table(self) -> NDArray[np.int32] | None:
        """A seeded permutation of twice as many pages as are needed: neighbours in a sequence are not neighbours in
        memory."""
        cfg = self.config
        if cfg.page_size == 0:
            return None
        if self.libraries["prefill"] is not self.libraries["decode"]:
            # rows handed from one library to the other are loaded before the first write, where pages are the identity
            return np.arange(cfg.blocks_per_seq, dtype=np.int32)[None]
        pages = np.random.default_rng(self.plan.seed).permutation(cfg.n_pages)
        return pages[: cfg.blocks_per_seq].astype(np.int32)[None]
