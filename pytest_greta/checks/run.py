"""Walk a trace: every stage of every requested layer on every path, each from its own traced input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import LayerConfig, Numerics
from pytest_greta.checks import reference as ref
from pytest_greta.checks import schedule
from pytest_greta.checks.attention import AttentionReference, Call, Options, Rows
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.constants import BLIND_ANGLE, EPSILONS
from pytest_greta.checks.elsewhere import Elsewhere
from pytest_greta.checks.judge import Group, Place, judge, judge_bytes, merge
from pytest_greta.checks.price import PLAIN, prices, smallest_gain
from pytest_greta.checks.provenance import provenance
from pytest_greta.checks.result import Price, Rounding, Sees, StageCheck
from pytest_greta.checks.rounding import round_to, same_bytes
from pytest_greta.checks.view import Gathered, Missing, View
from pytest_greta.dtypes import DTYPES, Array, dtype_of
from pytest_greta.engine.spec import ModelSource, StageSpec
from pytest_greta.result import AttentionStat
from pytest_greta.trace.paths import PATHS, RUNS, phase_of
from pytest_greta.trace.records import Tap, Trace
from pytest_greta.trace.stages import CACHE_STAGES, MODEL

READS = ("k", "v", "k_after", "v_after")


@dataclass(frozen=True)
class Examination:
    """``checks`` in the order of the stages; ``missing``: what was expected in the trace and could not be judged;
    ``prices`` and ``sees``: what the declarations cost, in the middle one of the traced layers and outside of them."""

    checks: tuple[StageCheck, ...]
    missing: tuple[Missing, ...]
    prices: tuple[Price, ...] = ()
    sees: tuple[Sees, ...] = ()


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
    sees = (Sees(stage, phase, gain) for (stage, phase), gain in walk.sees.items())
    return Examination(tuple(checks), tuple(dict.fromkeys(walk.view.missing)), tuple(walk.prices), tuple(sees))


def check_trace(
    trace: Trace,
    source: ModelSource,
    stages: Sequence[StageSpec],
    numerics: Mapping[str, Numerics],
    model_numerics: Numerics | None = None,
) -> list[StageCheck]:
    """The checks of ``examine`` alone."""
    return list(examine(trace, source, stages, numerics, model_numerics).checks)


def attention_stats(trace: Trace, source: ModelSource, numerics: Mapping[str, Numerics]) -> list[AttentionStat]:
    """min / max / mean of scores and probs over the checked rows, computed from the traced q_rope and kv_write."""
    walk = _Walk(trace, source, numerics, Numerics())
    stats = []
    with np.errstate(all="ignore"):
        for layer in trace.layers:
            walk.view.forget()
            for path in PATHS:
                if (call := walk.call(path, layer)) is None:
                    continue
                scores, probs = _Spread(), _Spread()
                for sm in call.softmax():
                    scores.add(sm.s[sm.visible])
                    probs.add(sm.p[sm.visible])
                stats.append(AttentionStat(layer, "scores", path, scores.low, scores.high, scores.mean))
                stats.append(AttentionStat(layer, "probs", path, probs.low, probs.high, probs.mean))
    return stats


class _Spread:
    def __init__(self) -> None:
        self.low, self.high, self.total, self.count = float("inf"), float("-inf"), 0.0, 0

    def add(self, values: NDArray[np.float64]) -> None:
        if values.size:
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
            self.total += float(values.sum())
            self.count += values.size

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")


class _Walk:
    """One pass over a trace. Rows of all paths are stacked, so that each weight is read once."""

    def __init__(
        self, trace: Trace, source: ModelSource, numerics: Mapping[str, Numerics], model_numerics: Numerics
    ) -> None:
        self.trace, self.config, self.weights = trace, source.config, source.weights
        self.view = View(trace, source.config.n_layers)
        self.act = DTYPES[trace.act_dtype]
        self.numerics = {p: numerics.get(p, numerics.get(phase_of(p), Numerics())) for p in PATHS}
        self.model_numerics = model_numerics
        self._angles: dict[Any, ref.Angles] = {}
        self._wrong: dict[str, int] = {}
        self._cause: dict[str, tuple[str, str]] = {}
        self._schedules: dict[str, Numerics | None] = {}
        self._layer = MODEL
        self._weighed = (MODEL, trace.layers[len(trace.layers) // 2] if trace.layers else MODEL)
        self.prices: list[Price] = []
        self.sees: dict[tuple[str, str], float] = {}
        self._attention: dict[str, tuple[Call, AttentionReference]] = {}
        self._by_op: Mapping[str, Callable[[StageSpec], list[StageCheck]]] = {
            "embedding": self._embedding,
            "same": self._same,
            "norm": self._norm,
            "linear": self._linear,
            "rope": self._rope,
            "cache": self._cache,
            "attention": self._attend,
            "add": self._add,
            "swiglu": self._swiglu,
        }

    def judge(self, spec: StageSpec) -> list[StageCheck]:
        """The checks of one stage, a path each. Stages come layer by layer, so that a layer's caches can go with it."""
        if spec.layer != self._layer:
            self._layer = spec.layer
            self._attention.clear()
            self.view.forget()
        return self._by_op[spec.op](spec)

    # -- stages whose bound is 0 -----------------------------------------------------------------------------------

    def _embedding(self, spec: StageSpec) -> list[StageCheck]:
        table = self.weights[spec.weights[0]]
        checks = []
        for found in self.view.gather(spec, RUNS, ()):
            tokens = self.view.tokens(found.path, found.positions)
            expected = round_to(table[tokens].astype(np.float64), self.act)
            checks += judge_bytes(expected, found.stored, [found.group], self._place(spec, found.stored))
        return checks

    def _same(self, spec: StageSpec) -> list[StageCheck]:
        if spec.stage == "kv_read":
            return self._cache_read(spec)
        found = self.view.gather(spec, RUNS, spec.inputs)
        return [
            check
            for part in found
            for check in judge_bytes(part.inputs[0], part.stored, [part.group], self._place(spec, part.stored))
        ]

    def _cache_read(self, spec: StageSpec) -> list[StageCheck]:
        """Rows read, before attend and after the phase, against the rows as they were written."""
        checks = []
        for path in RUNS:
            cache = self.view.cache(path, spec.layer)
            parts = []
            for part in READS:
                tap = self.view.tap(path, spec.layer, "kv_read", part)
                if tap is None or cache is None:
                    continue
                written = cache.k if part.startswith("k") else cache.v
                inside = (tap.positions >= cache.first) & (tap.positions < cache.first + len(written))
                rows = tap.positions[inside] - cache.first
                group = Group(path, tap.positions[inside])
                values = tap.values[inside]
                parts += [
                    _named(c, part) for c in judge_bytes(written[rows], values, [group], self._place(spec, values))
                ]
            if parts:
                checks.append(merge(parts))
        return checks

    # -- rows of all paths stacked ---------------------------------------------------------------------------------

    def _norm(self, spec: StageSpec) -> list[StageCheck]:
        checks = self._stacked(spec, partial(self._norm_reference, spec, self.config.rms_eps), statistical=True)
        return [self._with_tiny(spec, check) for check in checks]

    def _norm_reference(self, spec: StageSpec, eps: float, x: Array) -> Reference:
        return ref.norm(x, self.weights[spec.weights[0]], eps, self.act, self.model_numerics)

    def _with_tiny(self, spec: StageSpec, check: StageCheck) -> StageCheck:
        """With the row of tiny norm, where it was traced, and with the epsilon that fits a norm that is wrong."""
        x, y = (self.trace.tap(check.path, spec.layer, spec.stage, part) for part in ("tiny_in", "tiny"))
        if x is None or y is None:
            return check
        tiny = Gathered(check.path, y.positions, y.values, (x.values,))

        def judged(found: Gathered, eps: float) -> StageCheck:
            return self._judge(spec, self._norm_reference(spec, eps, found.inputs[0]), [found])[0]

        own = self.config.rms_eps
        alone = judged(tiny, own)
        if alone.grade == "ok" and check.grade == "ok":
            return check
        rows = self.view.gather(spec, (check.path,), spec.inputs)
        fits = [eps for eps in EPSILONS if all(judged(found, eps).rho <= 1.0 for found in (tiny, *rows))]
        notes = [] if check.grade != "ok" else ["only on the added row of tiny norm"]
        notes += [f"fits epsilon {eps:g} in place of {own:g}" for eps in fits[:1]]
        cause = "norm_eps" if fits else ""
        if check.grade != "ok":
            return replace(check, note="; ".join(notes), cause=cause)
        return merge([check, replace(alone, positions=(), pattern=(), note="; ".join(notes), cause=cause)])

    def _linear(self, spec: StageSpec) -> list[StageCheck]:
        matrix = self.weights[spec.weights[0]]
        bias = self.weights[spec.weights[1]] if len(spec.weights) > 1 else None
        return self._stacked(
            spec, lambda x: ref.linear(x.reshape(len(x), -1), matrix, bias, self.model_numerics), statistical=True
        )

    def _add(self, spec: StageSpec) -> list[StageCheck]:
        return self._stacked(spec, lambda a, b: ref.add(a, b, self.model_numerics))

    def _swiglu(self, spec: StageSpec) -> list[StageCheck]:
        return self._stacked(spec, lambda gate, up: ref.swiglu(gate, up, self.act, self.model_numerics))

    def _stacked(
        self, spec: StageSpec, reference: Callable[..., Reference], *, statistical: bool = False
    ) -> list[StageCheck]:
        found = self.view.gather(spec, RUNS, spec.inputs)
        if not found:
            return []
        inputs = [_stack([f.inputs[i] for f in found]) for i in range(len(spec.inputs))]
        return self._judge(spec, reference(*inputs), found, statistical and self.model_numerics.acc_round == "rne")

    def _rope(self, spec: StageSpec) -> list[StageCheck]:
        layer = self.config.layers[spec.layer]
        checks = []
        for numerics, found in self._by_numerics(self.view.gather(spec, RUNS, spec.inputs)):
            x = _stack([f.inputs[0] for f in found])
            if layer.rope_style == "none":
                stored = _stack([f.stored for f in found])
                checks += judge_bytes(x, stored, [f.group for f in found], self._place(spec, stored))
                continue
            positions = np.concatenate([self.view.rope_positions(f.path, f.positions) for f in found])
            angles = self._angles_of(positions, layer, x.shape[-1], numerics)
            judged = self._judge(spec, ref.rope(x, angles, layer, self.act, numerics), found)
            self._price(spec, found, numerics, partial(ref.rope, x, angles, layer, self.act))
            blind = positions[(angles.bound > BLIND_ANGLE).any(axis=-1)]
            if len(blind):
                note = f"no power from position {blind.min()} on: the float32 angle itself is off by a radian there"
                judged = [replace(c, note=note) for c in judged]
            checks += judged
        return checks

    def _angles_of(
        self, positions: NDArray[np.int64], layer: LayerConfig, head_dim: int, numerics: Numerics
    ) -> ref.Angles:
        """Layers of one base share their tables."""
        key = (
            positions.tobytes(), layer.rope_base, layer.rotary_dim, layer.rope_factors, head_dim, numerics.angle
        )  # fmt: skip
        if key not in self._angles:
            self._angles[key] = ref.rope_angles(positions, layer, head_dim, numerics)
        return self._angles[key]

    # -- cache and attention ---------------------------------------------------------------------------------------

    def _cache(self, spec: StageSpec) -> list[StageCheck]:
        layer = self.config.layers[spec.layer]
        parts: dict[str, list[StageCheck]] = {}
        for part, name, scales in zip(("k", "v"), spec.inputs, (layer.k_scale, layer.v_scale), strict=True):
            for numerics, found in self._by_numerics(self.view.gather(spec, RUNS, (name,), part)):
                reference = ref.cache(_stack([f.inputs[0] for f in found]), scales, numerics)
                for check in self._judge(spec, reference, found):
                    parts.setdefault(check.path, []).append(_named(check, part))
        return [merge(checks) for checks in parts.values()]

    def call(self, path: str, layer: int, part: str = "") -> Call | None:
        """The attention call of a path at its checked rows, from q_rope and the bytes as written; None: not traced.

        ``part``: of a further call; with "q0" its queries are 0.
        """
        taps = [self.trace.tap(path, layer, stage, part) for stage in ("attn_out", "lse")]
        cache = self.view.cache(path, layer)
        q = self.view.tap("full" if path == "aligned" else path, layer, "q_rope") if any(taps) and cache else None
        if q is None or cache is None:
            return None
        checked = np.unique(np.concatenate([t.positions for t in taps if t is not None]))
        checked = checked[np.isin(checked, q.positions)]
        checked = checked[(checked >= cache.first) & (checked < cache.first + len(cache.k))]
        if len(checked) == 0:
            return None
        settings = self.config.layers[layer]
        queries = q.values[np.searchsorted(q.positions, checked)]
        return Call(
            positions=checked,
            q=np.zeros_like(queries) if part == "q0" else queries,
            k=_scaled(cache.k, settings.k_scale),
            v=_scaled(cache.v, settings.v_scale),
            rows=Rows.causal(checked - cache.first, settings.window),
            options=Options.of(settings, self.config.softmax_scale, self.config.head_dim_qk),
            act=self.act,
            numerics=self.numerics[path],
            spans=self.view.spans(path, checked, cache.first, settings.window),
        )

    def _attend(self, spec: StageSpec) -> list[StageCheck]:
        checks = []
        for path in PATHS:
            tap = self.view.tap(path, spec.layer, spec.stage) if path in self.trace.paths else None
            if tap is None:
                continue
            if path not in self._attention:
                call = self.call(path, spec.layer)
                if call is None:
                    self.view.report(path, spec, "no query or cache row in common with it")
                    continue
                self._attention[path] = (call, call.reference())
            call, both = self._attention[path]
            numerics = self.numerics[path]
            statistical = numerics.acc_round == "rne" and (spec.stage == "lse" or not numerics.rounds_p)
            reference = _of(spec, both)
            checks += [self._explained(c, call) for c in self._rows(spec, path, tap, call, reference, statistical)]
            if path in RUNS and np.array_equal(call.positions, tap.positions):
                own = Gathered(path, tap.positions, tap.values, ())
                self._price(spec, [own], numerics, partial(_declaring, spec, call))
            checks += self._further(spec, path, call, reference)
            if spec.stage == "attn_out":
                checks += self._by_schedule(spec, path, tap, call)
        return checks

    def _rows(
        self, spec: StageSpec, path: str, tap: Tap, call: Call, reference: Reference, statistical: bool = False
    ) -> list[StageCheck]:
        """The rows of a tap that the call has too, judged."""
        inside = np.isin(tap.positions, call.positions)
        at = np.searchsorted(call.positions, tap.positions[inside])
        found = Gathered(path, tap.positions[inside], tap.values[inside], ())
        return self._judge(spec, _rows_of(reference, at), [found], statistical)

    def _further(self, spec: StageSpec, path: str, call: Call, reference: Reference) -> list[StageCheck]:
        """The calls beside the path's own: repeats whose bytes are others, and the one with q = 0."""
        checks = []
        for part in ("repeat", "alone"):
            first, again = (self.trace.tap(path, spec.layer, spec.stage, name) for name in ("", part))
            if first is None or again is None:
                continue
            rows = np.isin(first.positions, again.positions)
            equal = same_bytes(first.values[rows], again.values).reshape(len(again.values), -1).all(axis=1)
            if not equal.all():
                differs = tuple(int(p) for p in again.positions[~equal])
                judged = self._rows(spec, path, again, call, reference)
                checks += [replace(c, part=part, differs=differs) for c in judged]
        tap = self.trace.tap(path, spec.layer, spec.stage, "q0")
        if tap is not None and (zero := self._zero(path, spec.layer)) is not None:
            call, both = zero
            judged = self._rows(spec, path, tap, call, both.lse if spec.stage == "lse" else both.out)
            checks += [replace(self._explained(c, call, "q0"), part="q0") for c in judged]
        return checks

    def _zero(self, path: str, layer: int) -> tuple[Call, AttentionReference] | None:
        key = f"{path} q0"
        if key not in self._attention:
            call = self.call(path, layer, "q0")
            if call is None:
                return None
            if schedule.is_exact(call):  # P is 1: no type rounds it
                call = replace(call, numerics=replace(call.numerics, p_dtype="f32"))
            self._attention[key] = (call, call.reference())
        return self._attention[key]

    def _by_schedule(self, spec: StageSpec, path: str, tap: Tap, call: Call) -> list[StageCheck]:
        """TILE: the output with P rounded as its schedule rounds it, where a schedule shows."""
        own, other = self.numerics[path], self.numerics["full" if phase_of(path) == "decode" else "decode"]
        differ = schedule.differ(own, other)
        if call.spans is None or path == "aligned" or not (own.rounds_p or differ):
            return []
        checks = []
        for check in self._rows(spec, path, tap, call, schedule.reference(call, schedule.plainest(own))):
            rounding = Rounding(schedule.spelled(own, other if differ else None))
            if check.grade == "definite":
                rounding = replace(rounding, found=self._found(check, call, tap))
            elif not rounding.declared:  # one tile over all keys fits, and so does any that is as long
                rounding = replace(rounding, found=f">={int((call.rows.stop - call.rows.start).max())}")
            elif differ and path == "decode":
                reference = schedule.reference(call, schedule.plainest(schedule.by_schedule_of(own, other)))
                apart = [
                    p for c in self._rows(spec, path, tap, call, reference) if c.grade != "ok" for p in c.positions
                ]
                rounding = replace(rounding, apart=tuple(apart))
            checks.append(replace(check, part="tile", rounding=rounding))
        return checks

    def _found(self, check: StageCheck, call: Call, tap: Tap) -> str:
        """The schedule that fits a flagged output. A search that failed in one layer of a phase is not made again."""
        phase, known = phase_of(check.path), None
        if phase in self._schedules and (known := self._schedules[phase]) is None:
            return ""
        self._schedules[phase] = found = schedule.search(check, call, tap, known)
        return "" if found is None else schedule.spelled(found)

    def _explained(self, check: StageCheck, call: Call, part: str = "") -> StageCheck:
        """With its provenance, in the first layer of a path that is wrong: what follows there is seldom another
        fault."""
        if check.grade == "ok" or self._wrong.setdefault(check.path, check.layer) != check.layer:
            return check
        place = f"{check.path} {part}"
        if not self._cause.get(place, ("", ""))[0]:  # what explains the lse explains the output
            stored = {
                name: tap
                for name in ("lse", "attn_out")
                if (tap := self.trace.tap(check.path, check.layer, name, part)) is not None
            }
            elsewhere = Elsewhere(self.view, self.config, check.path, check.layer)
            self._cause[place] = provenance(check, call, stored, elsewhere)
        cause, note = self._cause[place]
        return replace(check, cause=cause, note=note) if cause else check

    def _price(
        self,
        spec: StageSpec,
        found: Sequence[Gathered],
        numerics: Numerics,
        make: Callable[[Numerics], Reference],
    ) -> None:
        """What the library's declarations cost here. Without a soft cap no tanh is computed."""
        if spec.layer not in self._weighed:
            return
        if not self.config.layers[spec.layer].softcap:
            numerics = replace(numerics, tanh_rel=PLAIN.tanh_rel)
        stored = _stack([f.stored for f in found])
        for phase in dict.fromkeys(phase_of(f.path) for f in found):
            known = {(p.phase, p.stage, p.name) for p in self.prices}
            priced = prices(make, numerics, spec.stage, phase, stored)
            self.prices += [p for p in priced if (p.phase, p.stage, p.name) not in known]

    # -- small helpers ---------------------------------------------------------------------------------------------

    def _place(self, spec: StageSpec, values: Array) -> Place:
        by_head = values.ndim == 3 or spec.stage == "lse"
        pages = self.trace.facts.get("pages") or {}
        return Place(
            spec.layer,
            spec.stage,
            by_head,
            max(1, values.shape[1] // self.config.n_kv_heads) if by_head else 1,
            spec.inputs,
            {path: numerics.tile for path, numerics in self.numerics.items()},
            int(pages.get("size", 0)),
            tuple(pages["table"][-1]) if pages and spec.stage in CACHE_STAGES else (),
            int(self.trace.facts.get("way", {}).get("left_pad", 0)),
        )

    def _by_numerics(self, found: Sequence[Gathered]) -> list[tuple[Numerics, list[Gathered]]]:
        """Paths of one declaration together, so that they stack."""
        groups: dict[Numerics, list[Gathered]] = {}
        for part in found:
            groups.setdefault(self.numerics[part.path], []).append(part)
        return list(groups.items())

    def _judge(
        self, spec: StageSpec, reference: Reference, found: Sequence[Gathered], statistical: bool = False
    ) -> list[StageCheck]:
        stored = _stack([f.stored for f in found])
        if reference.y.size != stored.size or len(reference.y) != len(stored):
            raise ValueError(
                f"layer {spec.layer} {spec.stage}: traced rows have shape {stored.shape[1:]}; "
                f"expected {reference.y.shape[1:]} from {', '.join(spec.inputs)}"
            )
        if reference.y.shape != stored.shape:
            reference = reference.map(lambda x: x.reshape(stored.shape))
        phases = {phase_of(f.path) for f in found}
        key = (spec.stage, phases.pop() if len(phases) == 1 else "both")
        if spec.layer in self._weighed and key not in self.sees:  # a stage's own rows come before further calls
            self.sees[key] = smallest_gain(reference, dtype_of(stored))
        return judge(reference, stored, [f.group for f in found], self._place(spec, stored), statistical=statistical)


def _declaring(spec: StageSpec, call: Call, numerics: Numerics) -> Reference:
    return _of(spec, replace(call, numerics=numerics).reference())


def _of(spec: StageSpec, both: AttentionReference) -> Reference:
    return both.lse if spec.stage == "lse" else both.out


def _named(check: StageCheck, part: str) -> StageCheck:
    return replace(check, note=f"part {part}") if check.rho > 1.0 else check


def _stack(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _scaled(stored: Array, scales: tuple[float, ...] | None) -> Array:
    """Stored rows [keys, kv_heads, dim] as the numbers that they stand for."""
    values = stored.astype(np.float64)
    return values if scales is None else values * np.asarray(scales, dtype=np.float32).astype(np.float64)[:, None]


def _rows_of(reference: Reference, at: NDArray[np.intp]) -> Reference:
    if len(at) == len(reference.y) and np.array_equal(at, np.arange(len(at))):
        return reference
    return reference.map(lambda x: x[at])
