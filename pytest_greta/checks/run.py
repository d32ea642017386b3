"""Walk a trace: every stage of every requested layer on every path, each from its own traced input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import blocks as in_blocks
from pytest_greta.checks import reference as ref
from pytest_greta.checks.attending import Attending
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.constants import EPSILONS
from pytest_greta.checks.judge import Group, judge, judge_bytes, judge_equal, merge
from pytest_greta.checks.places import Places
from pytest_greta.checks.price import Weighing
from pytest_greta.checks.quantised import may_differ
from pytest_greta.checks.result import Price, Sees, StageCheck, beside
from pytest_greta.checks.rounding import is_same, round_to
from pytest_greta.checks.stack import concatenated, stack
from pytest_greta.checks.view import Gathered, Missing, View
from pytest_greta.dtypes import DTYPES, Array
from pytest_greta.engine.spec import ModelSource, StageSpec
from pytest_greta.result import AttentionStat
from pytest_greta.trace.paths import PATHS, RUNS, phase_of
from pytest_greta.trace.records import Trace
from pytest_greta.trace.stages import MODEL

READS = ("k", "v", "k_after", "v_after")


@dataclass(frozen=True)
class Examination:
    """``checks`` in the order of the stages; ``missing``: what was expected in the trace and could not be judged;
    ``prices`` and ``sees``: what the declarations cost, in the middle one of the traced layers and outside of them;
    ``stats``: min / max / mean of scores and probs over the checked rows, as the references have them."""

    checks: tuple[StageCheck, ...]
    missing: tuple[Missing, ...]
    prices: tuple[Price, ...] = ()
    sees: tuple[Sees, ...] = ()
    stats: tuple[AttentionStat, ...] = ()


def examine(
    trace: Trace,
    source: ModelSource,
    stages: Sequence[StageSpec],
    numerics: Mapping[str, Numerics],
    model_numerics: Numerics | None = None,
) -> Examination:
    """Judge every stage in ``stages`` of the traced layers.

    ``numerics``: what the attention library declares, by phase (or by path, which comes first), for RoPE, cache and
    attention. ``model_numerics``: the same for norms, projections and FFN, all float32 where it is None. Weights and
    hyper-parameters come from ``source``. Raises ``ValueError`` where a traced array's shape cannot be its stage's.
    """
    walk = _Walk(trace, source, numerics, model_numerics or Numerics())
    checks: list[StageCheck] = []
    with np.errstate(all="ignore"):  # what is not finite is judged, not warned of
        for spec in stages:
            if spec.layer == MODEL or spec.layer in trace.layers:
                checks += walk.judge(spec)
    missing, weighing = tuple(dict.fromkeys(walk.view.missing)), walk.weighing
    return Examination(tuple(checks), missing, tuple(weighing.prices), weighing.seen(), tuple(walk.attending.stats))


def check_trace(
    trace: Trace,
    source: ModelSource,
    stages: Sequence[StageSpec],
    numerics: Mapping[str, Numerics],
    model_numerics: Numerics | None = None,
) -> list[StageCheck]:
    """The checks of ``examine`` alone."""
    return list(examine(trace, source, stages, numerics, model_numerics).checks)


class _Walk:
    """One pass over a trace. Rows of all paths are stacked, so that each weight is read once."""

    def __init__(
        self, trace: Trace, source: ModelSource, numerics: Mapping[str, Numerics], model_numerics: Numerics
    ) -> None:
        self.trace, self.config, self.weights, self.blocks = trace, source.config, source.weights, source.blocks
        self.view = View(trace, source.config.n_layers)
        self.act = DTYPES[trace.act_dtype]
        self.numerics = {p: numerics.get(p, numerics.get(phase_of(p), Numerics())) for p in PATHS}
        self.model_numerics = model_numerics
        self._angles: dict[Any, tuple[ref.Angles, ref.Turning]] = {}
        self._layer = MODEL
        self.weighing = Weighing(trace.layers, source.config)
        self.places = Places.of_trace(trace, source.config.n_kv_heads, self.numerics, self.weighing)
        self.attending = Attending(self.view, self.places, self.config, self.act, self.numerics)
        self._by_op: Mapping[str, Callable[[StageSpec], list[StageCheck]]] = {
            "embedding": self._embedding,
            "positions": self._positions,
            "same": self._same,
            "norm": self._norm,
            "layer_norm": self._norm,
            "linear": self._linear,
            "rope": self._rope,
            "cache": self._cache,
            "attention": self.attending.judge,
            "add": self._add,
            "swiglu": self._swiglu,
            "geglu": self._geglu,
            "gelu": self._gelu,
        }

    def judge(self, spec: StageSpec) -> list[StageCheck]:
        """The checks of one stage, a path each. Stages come layer by layer, so that a layer's caches can go with it."""
        if spec.layer != self._layer:
            self._layer = spec.layer
            self.attending.forget()
            self.view.forget()
        return self._by_op[spec.op](spec)

    # -- stages whose bound is 0 -----------------------------------------------------------------------------------

    def _embedding(self, spec: StageSpec) -> list[StageCheck]:
        table = self.weights[spec.weights[0]]
        checks = []
        for found in self.view.gather(spec, RUNS, ()):
            tokens = self.view.tokens(found.path, found.positions)
            if self.config.embed_scale != 1.0:
                scaled = ref.scaled(table[tokens], self.config.embed_scale, self.model_numerics)
                checks += self.places.judge(spec, scaled, found.stored, [found.group])
                continue
            expected = round_to(table[tokens].astype(np.float64), self.act)
            checks += judge_bytes(expected, found.stored, [found.group], self.places.of(spec, found.stored))
        return checks

    def _same(self, spec: StageSpec) -> list[StageCheck]:
        if spec.stage == "kv_read":
            return self._cache_read(spec) + self._read_beside(spec)
        found = self.view.gather(spec, RUNS, spec.inputs)
        return [
            check
            for part in found
            for check in judge_bytes(part.inputs[0], part.stored, [part.group], self.places.of(spec, part.stored))
        ]

    def _cache_read(self, spec: StageSpec) -> list[StageCheck]:
        """Rows read, before attend and after the phase, against the rows as they were written: the same bytes, or, of a
        cache that keeps them in fewer bits, no farther than that."""
        checks = []
        for path in RUNS:
            cache = self.view.written(path, spec.layer)
            parts = []
            for part in READS:
                tap = self.view.tap(path, spec.layer, "kv_read", part)
                if tap is None or cache is None:
                    continue
                written = cache.k if part.startswith("k") else cache.v
                positions, values = tap.positions, tap.values
                inside = (positions >= cache.first) & (positions < cache.first + len(written))
                if not inside.all():
                    positions, values = positions[inside], values[inside]
                own = written if len(positions) == len(written) else written[positions - cache.first]
                group = Group(path, positions)
                if self.view.quantised:
                    whole = values if len(positions) == len(written) else None
                    may = may_differ(written, self.view.first_call(path), self.view.quantised, self.act, whole)
                    reference = Reference(own.astype(np.float64), may[positions - cache.first])
                    judged = self.places.judge(spec, reference, values, [group])
                else:
                    judged = judge_bytes(own, values, [group], self.places.of(spec, values))
                parts += [_named(c, part) for c in judged]
            if parts:
                checks.append(merge(parts))
        return checks

    def _read_beside(self, spec: StageSpec) -> list[StageCheck]:
        """The same of companions, whose rows are read once, at the end of a path."""
        checks = []
        for name in self.view.companions():
            parts: dict[str, list[StageCheck]] = {}
            for part in "kv":
                for check in self._read_of(spec, part, name):
                    parts.setdefault(check.path, []).append(_named(check, part))
            checks += [beside(merge(judged), name) for judged in parts.values()]
        return checks

    def _read_of(self, spec: StageSpec, part: str, name: str) -> list[StageCheck]:
        """What a path gave ``kv_write``, in the cache's type; of the rows that decode found there, the bytes that the
        prefix run read."""
        layer = self.config.layers[spec.layer]
        given, scales = ("k_rope", layer.k_scale) if part == "k" else ("v_proj", layer.v_scale)
        spec, read = replace(spec, inputs=(given,)), f"{part}.{name}"
        checks = []
        gathered = self.view.gather_beside(spec.layer, (spec.stage, read), (given, name))
        for numerics, found in self._by_numerics(gathered):
            rows = stack(found)
            place = self.places.of(spec, rows.stored)
            if scales is None and is_same(rows.inputs[0], rows.stored):
                checks += judge_equal(rows.stored, rows.groups, place)
            else:
                checks += judge(ref.cache(rows.inputs[0], scales, numerics), rows.stored, rows.groups, place)
        before, after = (self.view.beside(path, spec.layer, read) for path in ("prefix", "decode"))
        if before is not None and after is not None:
            still = after.values[: len(before.values)]
            group = Group("decode", before.positions)
            checks += judge_bytes(before.values, still, [group], self.places.of(spec, still))
        return checks

    # -- rows of all paths stacked ---------------------------------------------------------------------------------

    def _norm(self, spec: StageSpec) -> list[StageCheck]:
        checks = self._stacked(spec, partial(self._norm_reference, spec, self.config.rms_eps), statistical=True)
        tiny = self._tiny(spec, [check.path for check in checks])
        alone = dict(zip(tiny, self._with_eps(spec, list(tiny.values()), self.config.rms_eps), strict=True))
        return [self._with_tiny(spec, c, tiny[c.path], alone[c.path]) if c.path in tiny else c for c in checks]

    def _norm_reference(self, spec: StageSpec, eps: float, x: Array) -> Reference:
        weight = self.weights[spec.weights[0]]
        if spec.op == "layer_norm":
            return ref.layer_norm(x, weight, self.weights[spec.weights[1]], eps, self.act, self.model_numerics)
        return ref.norm(x, weight, eps, self.act, self.model_numerics)

    def _with_eps(self, spec: StageSpec, found: Sequence[Gathered], eps: float) -> list[StageCheck]:
        """The norm judged with another epsilon, a check each."""
        if not found:
            return []
        reference = self._norm_reference(spec, eps, concatenated([f.inputs[0] for f in found]))
        return self.places.judge(spec, reference, concatenated([f.stored for f in found]), [f.group for f in found])

    def _tiny(self, spec: StageSpec, paths: Sequence[str]) -> dict[str, Gathered]:
        """The row of tiny norm, of each path on which it was traced."""
        found = {}
        for path in paths:
            x, y = (self.trace.tap(path, spec.layer, spec.stage, part) for part in ("tiny_in", "tiny"))
            if x is not None and y is not None:
                found[path] = Gathered(path, y.positions, y.values, (x.values,))
        return found

    def _with_tiny(self, spec: StageSpec, check: StageCheck, tiny: Gathered, alone: StageCheck) -> StageCheck:
        """With the row of tiny norm, and with the epsilon that fits a norm that is wrong."""
        if alone.grade == "ok" and check.grade == "ok":
            return check
        rows, own = self.view.gather(spec, (check.path,), spec.inputs), self.config.rms_eps
        # of a norm by head the added row has no heads: each by itself
        judged = {eps: [*self._with_eps(spec, [tiny], eps), *self._with_eps(spec, rows, eps)] for eps in EPSILONS}
        fits = [eps for eps, checks in judged.items() if all(c.rho <= 1.0 for c in checks)]
        notes = [] if check.grade != "ok" else ["only on the added row of tiny norm"]
        notes += [f"fits epsilon {eps:g} in place of {own:g}" for eps in fits[:1]]
        cause = "norm_eps" if fits else ""
        if check.grade != "ok":
            return replace(check, note="; ".join(notes), cause=cause)
        return merge([check, replace(alone, positions=(), pattern=(), note="; ".join(notes), cause=cause)])

    def _linear(self, spec: StageSpec) -> list[StageCheck]:
        matrix = self.weights[spec.weights[0]]
        bias = self.weights[spec.weights[1]] if len(spec.weights) > 1 else None
        cap = self.config.logits_softcap if spec.stage == "logits" else 0.0

        blocks = self.blocks.get(spec.weights[0]) if self.model_numerics.dot_blocks else None

        def reference(x: Array) -> Reference:
            rows = x.reshape(len(x), -1)
            if blocks is None:
                product = ref.linear(rows, matrix, bias, self.model_numerics, self.act)
            else:
                product = in_blocks.linear(rows, matrix, blocks, bias, self.model_numerics)
            return ref.capped(product, cap, self.model_numerics, self.act) if cap else product

        return self._stacked(spec, reference, statistical=True)

    def _add(self, spec: StageSpec) -> list[StageCheck]:
        return self._stacked(spec, lambda a, b: ref.add(a, b, self.model_numerics))

    def _positions(self, spec: StageSpec) -> list[StageCheck]:
        """The embedding plus the learned row of each position: planned positions, not those that were looked up."""
        found = self.view.gather(spec, RUNS, spec.inputs)
        if not found:
            return []
        rows = stack(found)
        positions = np.concatenate([self.view.rope_positions(path, kept) for path, kept in rows.rows])
        learned = self.weights[spec.weights[0]][positions]
        (embedded,) = rows.inputs
        return self.places.judge(spec, ref.add(embedded, learned, self.model_numerics), rows.stored, rows.groups)

    def _swiglu(self, spec: StageSpec) -> list[StageCheck]:
        return self._stacked(spec, lambda gate, up: ref.swiglu(gate, up, self.act, self.model_numerics))

    def _geglu(self, spec: StageSpec) -> list[StageCheck]:
        return self._stacked(spec, lambda gate, up: ref.geglu(gate, up, "tanh", self.act, self.model_numerics))

    def _gelu(self, spec: StageSpec) -> list[StageCheck]:
        numerics = self.model_numerics
        if numerics.act_round == "act":
            return self._stacked(spec, lambda up: ref.gelu_in_steps(up, self.act, numerics))
        return self._stacked(spec, lambda up: ref.gelu(up, "tanh", numerics))

    def _stacked(
        self, spec: StageSpec, reference: Callable[..., Reference], *, statistical: bool = False
    ) -> list[StageCheck]:
        found = self.view.gather(spec, RUNS, spec.inputs)
        if not found:
            return []
        rows = stack(found)
        statistical &= self.model_numerics.acc_round == "rne"
        return self.places.judge(spec, reference(*rows.inputs), rows.stored, rows.groups, statistical=statistical)

    def _rope(self, spec: StageSpec) -> list[StageCheck]:
        checks = self._turned(spec, self.view.gather(spec, RUNS, spec.inputs), self.view.rope_positions)
        for name in self.view.companions():
            found = self.view.gather_beside(spec.layer, (spec.stage, name), (spec.inputs[0], name))
            checks += [beside(check, name) for check in self._turned(spec, found, lambda _, slots: slots)]
        return checks

    def _turned(
        self,
        spec: StageSpec,
        gathered: Sequence[Gathered],
        positions_of: Callable[[str, NDArray[np.int64]], NDArray[np.int64]],
    ) -> list[StageCheck]:
        layer = self.config.layers[spec.layer]
        checks = []
        for numerics, found in self._by_numerics(gathered):
            rows = stack(found)
            (x,) = rows.inputs
            if layer.rope_style == "none":
                checks += judge_bytes(x, rows.stored, rows.groups, self.places.of(spec, rows.stored))
                continue
            positions = np.concatenate([positions_of(path, kept) for path, kept in rows.rows])
            angles, turning = self._angles_of(positions, layer, x.shape[-1], numerics)
            reference = ref.rope_by_rows(x, turning, layer, numerics)
            judged = self.places.judge(spec, reference, rows.stored, rows.groups)
            make = partial(ref.rope, x, angles, layer, self.act)
            self.weighing.price(spec, [f.path for f in found], numerics, make, rows.stored)
            if angles.blind.any():
                first = positions[angles.blind].min()
                note = f"no power from position {first} on: the float32 angle itself is off by a radian there"
                judged = [replace(c, note=note) for c in judged]
            checks += judged
        return checks

    def _angles_of(
        self, positions: NDArray[np.int64], layer: LayerConfig, head_dim: int, numerics: Numerics
    ) -> tuple[ref.Angles, ref.Turning]:
        """Layers of one base and one style share their tables, as q and k do."""
        key = (
            positions.tobytes(), layer.rope_base, layer.rotary_dim, layer.rope_factors, layer.rope_style, head_dim,
            numerics.angle, numerics.rope_dtype,
        )  # fmt: skip
        if key not in self._angles:
            angles = ref.rope_angles(positions, layer, head_dim, numerics)
            self._angles[key] = angles, ref.turning(angles, layer, self.act, numerics)
        return self._angles[key]

    # -- cache ---------------------------------------------------------------------------------------------------

    def _cache(self, spec: StageSpec) -> list[StageCheck]:
        layer = self.config.layers[spec.layer]
        parts: dict[str, list[StageCheck]] = {}
        for part, name, scales in zip(("k", "v"), spec.inputs, (layer.k_scale, layer.v_scale), strict=True):
            for numerics, found in self._by_numerics(self.view.gather(spec, RUNS, (name,), part)):
                rows = stack(found)
                # nothing was converted: no error; a reference is wanted where the declarations are weighed
                exact = scales is None and spec.layer not in self.weighing.layers
                if exact and is_same(rows.inputs[0], rows.stored):
                    judged = judge_equal(rows.stored, rows.groups, self.places.of(spec, rows.stored))
                else:
                    reference = ref.cache(rows.inputs[0], scales, numerics)
                    judged = self.places.judge(spec, reference, rows.stored, rows.groups)
                for check in judged:
                    parts.setdefault(check.path, []).append(_named(check, part))
        return [merge(checks) for checks in parts.values()]

    # -- small helpers ---------------------------------------------------------------------------------------------

    def _by_numerics(self, found: Sequence[Gathered]) -> list[tuple[Numerics, list[Gathered]]]:
        """Paths of one declaration together, so that they stack."""
        groups: dict[Numerics, list[Gathered]] = {}
        for part in found:
            groups.setdefault(self.numerics[part.path], []).append(part)
        return list(groups.items())


def _named(check: StageCheck, part: str) -> StageCheck:
    return replace(check, note=f"part {part}") if check.rho > 1.0 else check
