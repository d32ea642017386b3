"""The four calls of a probe: full prefill, prefix prefill, decode, aligned. Out comes a ``Trace``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import (
    PHASES,
    AttentionBackend,
    AttentionSession,
    Description,
    Numerics,
    Phase,
    Schedule,
    SessionConfig,
)
from pytest_greta.backends.complete import Completed
from pytest_greta.cases.model import Inject
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.beside import Beside, kept_layers
from pytest_greta.engine.decoder import Decoder, Gemm
from pytest_greta.engine.recording import Recording
from pytest_greta.engine.rows import checked_rows, dealt_rows
from pytest_greta.engine.spec import ModelSource
from pytest_greta.engine.tracer import Tracer
from pytest_greta.engine.ways import Call, Layout, Reuse, Segment, Ways
from pytest_greta.faults.engine import EnginePlant, plants_engine
from pytest_greta.faults.kernel import fired, plants_kernel
from pytest_greta.faults.plant import PlantedSession, PlantedWeights, plants_session, plants_weights
from pytest_greta.trace.paths import PathName
from pytest_greta.trace.records import Key, PathTrace, Tap, Trace

SLACK = 3
"""Rows a session holds beyond the run: a length that is one too long must reach a row, not an error."""

POISONED = 2
"""Of these rows, the last: their V is NaN."""


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
    canary: tuple[Inject, ...] = ()
    """Faults of the harness's own, beside that of the case: see ``canary.py``."""
    ways: Ways = field(default_factory=Ways)
    cut_from: int = 0
    """Tokens of the whole prompt, where ``tokens`` are only its first."""
    further: tuple[str, ...] = ("repeat", "q0")
    """Attention calls beside each path's own (``stages.EXTRA``); "q0" only in a phase that rounds P or does not say by
    which schedule."""

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


def declared(library: Library, phase: Phase, plan: RunPlan) -> Numerics:
    """What the library declares, with the schedule that the case sets."""
    numerics = library.description.declared(phase, plan.act_dtype)
    schedule = plan.schedule.get(phase)
    if schedule is None:
        return numerics
    changed = {k: v for k, v in vars(schedule).items() if v}
    return replace(numerics, **changed)


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
        "not_given": [] if all(library.description.lse for library in libraries.values()) else ["lse"],
        "threads": plan.threads,
        "seed": plan.seed,
        "gemm": plan.gemm,
        "tokens": list(plan.tokens),
        "opened": run.opened,
        "way": {
            "cut_from": plan.cut_from,
            "left_pad": run.pad,
            "companions": [run.companions[seq] for seq in sorted(run.companions)],
            "reused": run.reused,
            "rolled_back": run.rolled_back,
        },
        "run_seconds": time.perf_counter() - started,
        **run.page_facts(),
    }
    if plan.inject is not None:
        facts |= {"fault": plan.inject.fault, "fault_fired": run.fault_fired}
    if plan.canary:
        facts["canary_fired"] = [fault in run.fired for fault in plan.canary]
    return Trace(plan.n_prefix, plan.steps, run.layers, plan.act_dtype, plan.kv_dtype, paths, facts)


def last_logits(source: ModelSource, plan: RunPlan, library: Library) -> NDArray[np.float32]:
    """Float32 logits [vocab] of the last token of ``plan.tokens`` after one prefill. Nothing is traced."""
    run = _Run(source, plan, dict.fromkeys(PHASES, library))
    try:
        return run.logits()
    finally:
        run.close()


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
            [segment.start for segment in plan.ways.prefill(plan.n_prefix)[1:]],
        )
        self.dealt = dealt_rows(plan.n_prefix, self.prefix_rows, plan.seed, self.layers)
        self.pad, self.reused, self.rolled_back = 0, 0, 0
        self.companions: dict[int, int] = {}
        """What was really asked of the library: pad rows, rows kept and trimmed, the companions' rows by sequence."""
        self._open = contextlib.ExitStack()
        self.done_by_engine: tuple[str, ...] = ()
        self.fired: set[Inject] = set()
        """The faults that changed what was passed on."""
        self.layers_beside = kept_layers(self.layers, plan.ways, plan.steps, self.config)
        self._before = Beside(self.layers_beside)
        self._engine_plant = EnginePlant(plan.inject) if plan.inject and plants_engine(plan.inject) else None
        self.opened: dict[str, dict[str, Any]] = {}
        """What the sessions of each phase's library were opened with."""
        self._full: tuple[Completed, Layout, Mapping[Key, Tap]] | None = None
        self._prefix: tuple[Completed, Layout] | None = None

    def close(self) -> None:
        self._open.close()

    @property
    def fault_fired(self) -> bool:
        """Whether the case's fault changed anything at all."""
        if self._engine_plant is not None:
            return self._engine_plant.fired
        if self.plan.inject is not None and plants_kernel(self.plan.inject):
            return fired(library.backend for library in self.libraries.values())
        return self.plan.inject in self.fired

    # -- the four paths ------------------------------------------------------------------------------------------

    def full(self) -> PathTrace:
        """prefill(N + steps), in one call."""
        path, layout = self._prefill("full", self.full_rows)
        self._run(path, layout, [Segment("prefill", 0, len(self.ids))])
        trace = path.trace(self.ids, Beside(self.layers_beside).read(path.session, layout))
        self._full = (path.session, layout, trace.taps)
        return trace

    def prefix(self) -> PathTrace:
        """prefill(N) in the case's own way, whose cache the decode path goes on with."""
        path, layout = self._prefill("prefix", self.prefix_rows)
        reuse, n = self.plan.ways.reuse, self.plan.n_prefix
        for segment in self.plan.ways.prefill(n):
            self._run(path, layout, [segment])
            if reuse is not None and segment.start + segment.count == reuse.prefix:
                self._detour(path.session, layout, reuse)
        self._prefix = (path.session, layout)
        return path.trace(self.ids, self._before.read(path.session, layout))

    def decode(self) -> PathTrace:
        """The last ``steps`` tokens, ``q_len`` a call, over the prefix run's cache."""
        assert self._prefix is not None
        n, steps = self.plan.n_prefix, self.plan.steps
        prefill, layout = self._prefix
        session = self._handed_over(prefill, layout, n)
        tracer = self._tracer("decode", range(n, n + steps))
        path = Recording("decode", self.libraries["decode"].description, session, tracer)
        self._run(path, layout, self.plan.ways.decode(n, steps))
        return path.trace(self.ids, Beside(self.layers_beside).read(session, layout))

    def aligned(self) -> PathTrace:
        """The decode kernel with the full run's query of row N, over the full run's cache: one call a layer."""
        assert self._full is not None
        n = self.plan.n_prefix
        prefill, layout, taps = self._full
        session = self._handed_over(prefill, layout, n + 1)
        path = Recording("aligned", self.libraries["decode"].description, session, Tracer(self.layers, [n]))
        call = layout.call(Segment("decode", n, 1), alone=True)
        with path.counting(call):
            for layer in self.layers:
                q = taps[Key(layer, "q_rope")].row(n)[None].copy()
                out, lse = session.attend(layer, "decode", call.batch, q)
                path.tracer.tap(layer, "q_rope", call.rows, q)
                path.tracer.tap(layer, "attn_out", call.rows, out)
                if lse is not None:
                    path.tracer.tap(layer, "lse", call.rows, lse)
            session.sync()
        return path.trace(self.ids)

    # -- parts ---------------------------------------------------------------------------------------------------

    def page_facts(self) -> dict[str, Any]:
        """Where the rows of a paged cache lie in memory: what provenance needs to try other places."""
        if self.block_table is None:
            return {}
        size, count = self.config.page_size, self.config.n_pages
        return {"pages": {"size": size, "count": count, "table": self.block_table.tolist()}}

    def logits(self) -> NDArray[np.float32]:
        """Of the last position after one prefill of everything: float32 [vocab]."""
        call = self._layout().call(Segment("prefill", 0, len(self.ids)))
        last: NDArray[np.float32] = self._forward(self._session("prefill"), Tracer((), ()), call)[-1]
        return last

    def _prefill(self, name: PathName, rows: Iterable[int]) -> tuple[Recording, Layout]:
        """A path in a session of its own."""
        session, layout = self._session("prefill"), self._layout()
        self._poison(session, layout)
        return Recording(name, self.libraries["prefill"].description, session, self._tracer("prefill", rows)), layout

    def _run(self, path: Recording, layout: Layout, segments: list[Segment]) -> None:
        for call in layout.calls(segments):
            with path.counting(call):
                self._forward(path.session, path.tracer, call)
            self.pad = max(self.pad, call.pad)
            self.companions |= dict(zip(call.batch.seq_ids[:-1].tolist(), call.batch.kv_len[:-1].tolist(), strict=True))

    def _detour(self, session: Completed, layout: Layout, reuse: Reuse) -> None:
        """Other tokens after the earlier request's prefix, which are then forgotten; what they left in the cache is
        kept."""
        rng = np.random.default_rng([self.plan.seed, 2])
        # a library that only prefills decodes nothing: there the other tokens come one prefill each
        phase: Phase = "decode" if self.libraries["prefill"] is self.libraries["decode"] else "prefill"
        for row in range(reuse.prefix, reuse.prefix + reuse.rollback):
            other = rng.integers(self.source.config.vocab, size=1).astype(np.int64)
            call = layout.call(Segment(phase, row, 1), alone=True, tokens=other)
            self._forward(session, Tracer((), ()), call)
            self.rolled_back += 1
        self._before.rolled_back(session, layout, reuse)
        session.kv_trim(len(self.plan.ways.companions), self.plan.ways.left_pad + reuse.prefix)
        self.reused = reuse.prefix
        self._poison(session, layout)

    def _poison(self, session: Completed, layout: Layout) -> None:
        """NaN as V in rows behind the probed sequence, which no call of the run writes: a kernel that goes on to the
        end of its tile with a weight of 0 must show it. Their K is zero, as in rows that nobody wrote, so that lse
        still tells how many keys a kernel took by mistake; and a paged cache has none, so that the output does where
        a kernel took another page."""
        if self.block_table is not None:
            return
        c = self.config
        batch = layout.behind(c.max_len - POISONED, POISONED)
        k = np.zeros((POISONED, c.n_kv_heads, c.head_dim_qk), self.act.numpy)
        v = np.full((POISONED, c.n_kv_heads, c.head_dim_v), np.nan, self.act.numpy)
        for layer in range(c.n_layers):
            session.kv_write(layer, batch, k, v)

    def _forward(self, session: Completed, tracer: Tracer, call: Call) -> NDArray[np.float32]:
        plan, config, weights = self.plan, self.source.config, self.source.weights
        target: AttentionSession = session
        planted: dict[Inject, PlantedWeights | PlantedSession] = {}
        for fault in (*([plan.inject] if plan.inject else []), *plan.canary):
            if fault.phase not in (call.phase, "both"):
                continue
            if plants_weights(fault):
                weights = planted[fault] = PlantedWeights(weights, fault, config)
            elif plants_session(fault) or fault in plan.canary:
                target = planted[fault] = PlantedSession(target, fault, config)
        new_decoder = self._engine_plant.decoder if self._engine_plant else Decoder
        decoder = new_decoder(config, weights, target, self.act, plan.gemm, tracer)
        logit_rows = {int(call.rows[-1])} | set(range(plan.n_prefix, plan.n_prefix + plan.steps))
        logits = decoder.forward(call, logit_rows)
        if tracer.rows.size and not tracer.has_aside:
            decoder.tiny_norms()
        session.sync()
        self.fired |= {fault for fault, plant in planted.items() if plant.fired}
        for layer in self.layers:
            decoder.read_cache(layer, call, "_after")
        return logits

    def _tracer(self, phase: Phase, rows: Iterable[int]) -> Tracer:
        numerics = declared(self.libraries[phase], phase, self.plan)
        doubt = numerics.rounds_p or not numerics.schedule_known
        further = (part for part in self.plan.further if part != "q0" or doubt)
        return Tracer(self.layers, rows, further, self.dealt, self.layers_beside)

    def _layout(self) -> Layout:
        return Layout(self.plan.ways, self.ids, self.source.config.vocab, self.plan.seed, self.block_table)

    def _session(self, phase: Phase) -> Completed:
        session = self.libraries[phase].open(self.config)
        for served in PHASES:
            if self.libraries[served] is self.libraries[phase]:
                self.opened[served] = asdict(self.config)
        self._open.callback(session.close)
        self.done_by_engine = tuple(sorted({*self.done_by_engine, *session.done_by_engine}))
        return session

    def _handed_over(self, session: Completed, layout: Layout, rows: int) -> Completed:
        """The decode library's session with a prefill session's cache: ``rows`` rows of the probed sequence, all rows
        of its companions."""
        if self.libraries["prefill"] is self.libraries["decode"]:
            return session
        other = self._session("decode")
        self._poison(other, layout)
        for layer in range(self.source.config.n_layers):
            for seq, length in enumerate(layout.lengths(rows)):
                if length:
                    other.kv_load(layer, seq, 0, *session.kv_read(layer, seq, 0, length))
        return other

    def _session_config(self) -> SessionConfig:
        plan, model = self.plan, self.source.config
        max_len = max(plan.context, plan.ways.longest(len(plan.tokens), plan.steps) + SLACK)
        max_seqs = len(plan.ways.companions) + 1
        blocks = -(-max_len // plan.page_size) if plan.page_size else 0
        return SessionConfig(
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            n_kv_heads=model.n_kv_heads,
            head_dim_qk=model.head_dim_qk,
            head_dim_v=model.head_dim_v,
            max_seqs=max_seqs,
            max_len=max_len,
            act_dtype=plan.act_dtype,
            kv_dtype=plan.kv_dtype,
            softmax_scale=model.softmax_scale,
            layers=model.layers,
            page_size=plan.page_size,
            n_pages=2 * blocks * max_seqs,
            device=plan.device,
            threads=plan.threads,
            schedule=plan.schedule,
        )

    def _block_table(self) -> NDArray[np.int32] | None:
        """[max_seqs, blocks]: a seeded permutation of twice as many pages as are needed, so that neighbours in a
        sequence are not neighbours in memory."""
        cfg = self.config
        if cfg.page_size == 0:
            return None
        pages = np.arange(cfg.n_pages)
        # rows handed from one library to the other are loaded before the first write, where pages are the identity
        if self.libraries["prefill"] is self.libraries["decode"]:
            pages = np.random.default_rng(self.plan.seed).permutation(pages)
        used = pages[: cfg.max_seqs * cfg.blocks_per_seq]
        return used.reshape(cfg.max_seqs, cfg.blocks_per_seq).astype(np.int32)
