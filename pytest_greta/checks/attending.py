"""The attention stages of a trace: the path's own calls, the calls beside them, and P's rounding by its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Numerics
from pytest_greta.checks import schedule
from pytest_greta.checks.attention import AttentionReference, Call, Options, Rows, rows_of
from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.elsewhere import Elsewhere
from pytest_greta.checks.judge import Group
from pytest_greta.checks.places import Places
from pytest_greta.checks.provenance import provenance
from pytest_greta.checks.result import Rounding, StageCheck, beside
from pytest_greta.checks.rounding import is_same
from pytest_greta.checks.stack import equal_rows
from pytest_greta.checks.view import Cache, View
from pytest_greta.dtypes import Array, DType
from pytest_greta.engine.spec import ModelConfig, StageSpec
from pytest_greta.result import AttentionStat
from pytest_greta.trace.paths import PATHS, RUNS, phase_of
from pytest_greta.trace.records import Tap
from pytest_greta.trace.stages import ATTENTION_STAGES, PADS


class Attending:
    """Judges lse and attn_out, layer by layer. ``numerics`` by path."""

    def __init__(
        self, view: View, places: Places, config: ModelConfig, act: DType, numerics: Mapping[str, Numerics]
    ) -> None:
        self.view, self.places, self.trace = view, places, view.trace
        self.config, self.act, self.numerics = config, act, numerics
        self.stats: list[AttentionStat] = []
        self._calls: dict[tuple[str, str], tuple[Call, AttentionReference] | None] = {}
        self._cached: dict[str, tuple[Array, Array]] = {}
        self._alike: dict[str, int] = {}
        self._wrong: dict[str, int] = {}
        self._cause: dict[str, tuple[str, str]] = {}
        self._schedules: dict[str, Numerics | None] = {}

    def forget(self) -> None:
        """Drop the layer's references: stages come layer by layer."""
        self._calls.clear()
        self._cached.clear()
        self._alike.clear()

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
        k, v = self._values(path, layer)
        return Call(
            positions=checked,
            q=np.zeros_like(queries) if part == "q0" else queries,
            k=k,
            v=v,
            rows=Rows.causal(checked - cache.first, settings.window),
            options=Options.of(settings, self.config.softmax_scale, self.config.head_dim_qk),
            act=self.act,
            numerics=self.numerics[path],
            spans=self.view.spans(path, checked, cache.first, settings.window),
        )

    def _values(self, path: str, layer: int) -> tuple[Array, Array]:
        """The numbers that a path's cache stands for, float64; the full run's where the bytes are the same."""
        if path not in self._cached:
            cache, settings = self.view.cache(path, layer), self.config.layers[layer]
            full = self.view.cache("full", layer) if "full" in self._cached else None
            assert cache is not None
            self._alike[path] = 0 if full is None else _alike(cache, full)
            if self._alike[path] == len(cache.k):
                k, v = (x[: len(cache.k)] for x in self._cached["full"])
            else:
                k, v = _scaled(cache.k, settings.k_scale), _scaled(cache.v, settings.v_scale)
            self._cached[path] = k, v
        return self._cached[path]

    def judge(self, spec: StageSpec) -> list[StageCheck]:
        """The checks of lse or of attn_out, a path each, with those of the calls beside it."""
        checks = []
        for path in PATHS:
            tap = self.view.tap(path, spec.layer, spec.stage) if path in self.trace.paths else None
            if tap is None:
                continue
            made = self._made(path, spec.layer)
            if made is None:
                self.view.report(path, spec, "no query or cache row in common with it")
                continue
            call, both = made
            numerics = self.numerics[path]
            statistical = numerics.acc_round == "rne" and (spec.stage == "lse" or not numerics.rounds_p)
            reference = _of(spec, both)
            checks += [self._explained(c, call) for c in self._rows(spec, path, tap, call, reference, statistical)]
            if path in RUNS and np.array_equal(call.positions, tap.positions):
                self.places.weighing.price(spec, [path], numerics, partial(_declaring, spec, call), tap.values)
            checks += self._further(spec, path, call, reference)
            if spec.stage == "attn_out":
                checks += self._by_schedule(spec, path, tap, call)
        return checks + self._beside(spec)

    def _beside(self, spec: StageSpec) -> list[StageCheck]:
        """Pad rows, which see no key, and companions of the batch, over the bytes that their rows are read back as."""
        checks = []
        for path in RUNS:
            for part in (*self.view.companions(), PADS):
                tap = self.view.tap_beside(path, spec.layer, spec.stage, part)
                made = None if tap is None else self._made_beside(path, spec.layer, part)
                if tap is not None and made is not None:
                    judged = self._rows(spec, path, tap, made[0], _of(spec, made[1]))
                    checks += [beside(check, part) for check in judged]
        return checks

    def _made_beside(self, path: str, layer: int, part: str) -> tuple[Call, AttentionReference] | None:
        """As ``_made``; None in a layer of which the rows were not kept. A prefix run that asked the same of the same
        bytes as the full one shares its reference."""
        if (path, part) in self._calls:
            return self._calls[path, part]
        places = ("q_rope", part), ("kv_read", f"k.{part}"), ("kv_read", f"v.{part}")
        taps, whole = ([self.view.tap_beside(name, layer, *place) for place in places] for name in (path, "full"))
        found = [tap for tap in taps if tap is not None]
        if len(found) < len(places):
            return None
        if path == "prefix" and self.numerics[path] == self.numerics["full"] and all(map(_is_same_tap, taps, whole)):
            self._calls[path, part] = self._made_beside("full", layer, part)
        else:
            call = self._call_beside(path, layer, part, *found)
            self._calls[path, part] = call, call.reference()
        return self._calls[path, part]

    def _call_beside(self, path: str, layer: int, part: str, q: Tap, k: Tap, v: Tap) -> Call:
        settings, unseen = self.config.layers[layer], np.zeros_like(q.positions)
        return Call(
            positions=q.positions,
            q=q.values,
            k=_scaled(k.values, settings.k_scale),
            v=_scaled(v.values, settings.v_scale),
            rows=Rows(unseen, unseen, unseen) if part == PADS else Rows.causal(q.positions, settings.window),
            options=Options.of(settings, self.config.softmax_scale, self.config.head_dim_qk),
            act=self.act,
            numerics=self.numerics[path],
        )

    def _rows(
        self, spec: StageSpec, path: str, tap: Tap, call: Call, reference: Reference, statistical: bool = False
    ) -> list[StageCheck]:
        """The rows of a tap that the call has too, judged."""
        if np.array_equal(tap.positions, call.positions):
            group = Group(path, tap.positions)
            return self.places.judge(spec, reference, tap.values, [group], statistical=statistical)
        inside = np.isin(tap.positions, call.positions)
        at = np.searchsorted(call.positions, tap.positions[inside])
        group = Group(path, tap.positions[inside])
        rows = rows_of(reference, at)
        return self.places.judge(spec, rows, tap.values[inside], [group], statistical=statistical)

    def _made(self, path: str, layer: int, part: str = "") -> tuple[Call, AttentionReference] | None:
        """A call and its reference, found once a layer; None where it was not traced."""
        key = (path, part)
        if key not in self._calls:
            call = self.call(path, layer, part)
            if call is not None and part == "q0" and schedule.is_exact(call):
                call = schedule.unrounded(call)
            self._calls[key] = None if call is None else (call, self._reference(call, path, part))
            if part == "" and (made := self._calls[key]) is not None:
                self.stats += made[1].spread.stats(layer, path)
        return self._calls[key]

    def _reference(self, call: Call, path: str, part: str) -> AttentionReference:
        """Each row's from the full run where that asked the same of the same keys, as most rows of a prefix run did."""
        full = self._calls.get(("full", part)) if path == "prefix" else None
        if full is None:
            return call.reference()
        at = np.minimum(np.searchsorted(full[0].positions, call.positions), len(full[0].positions) - 1)
        known = _same(call, full[0], at) & (call.rows.stop <= self._alike[path])
        if not known.any():
            return call.reference()
        found = [full[1].rows(at[known])]
        if not known.all():
            found.append(call.of_rows(~known).reference())
        order = np.argsort(~known, kind="stable")  # of the rows as they were found
        return AttentionReference.of(found).rows(np.argsort(order))

    def _further(self, spec: StageSpec, path: str, call: Call, reference: Reference) -> list[StageCheck]:
        """The calls beside the path's own: repeats whose bytes are others, and the one with q = 0."""
        checks = []
        for part in ("repeat", "alone"):
            first, again = (self.trace.tap(path, spec.layer, spec.stage, name) for name in ("", part))
            if first is None or again is None:
                continue
            equal = equal_rows(again.values, first.values, np.searchsorted(first.positions, again.positions))
            if not equal.all():
                differs = tuple(int(p) for p in again.positions[~equal])
                judged = self._rows(spec, path, again, call, reference)
                checks += [replace(c, part=part, differs=differs) for c in judged]
        tap = self.trace.tap(path, spec.layer, spec.stage, "q0")
        if tap is not None and (zero := self._made(path, spec.layer, "q0")) is not None:
            call, both = zero
            judged = self._rows(spec, path, tap, call, _of(spec, both))
            checks += [replace(self._explained(c, call, "q0"), part="q0") for c in judged]
        return checks

    def _by_schedule(self, spec: StageSpec, path: str, tap: Tap, call: Call) -> list[StageCheck]:
        """TILE: the output with P rounded as its schedule rounds it, where a schedule shows."""
        own, other = self.numerics[path], self.numerics["full" if phase_of(path) == "decode" else "decode"]
        differ = schedule.differ(own, other)
        if call.spans is None or path == "aligned" or own.p_normalised or not (own.rounds_p or differ):
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
                for name in ATTENTION_STAGES
                if (tap := self.trace.tap(check.path, check.layer, name, part)) is not None
            }
            elsewhere = Elsewhere(self.view, self.config, check.path, check.layer)
            self._cause[place] = provenance(check, call, stored, elsewhere)
        cause, note = self._cause[place]
        return replace(check, cause=cause, note=note) if cause else check


def _declaring(spec: StageSpec, call: Call, numerics: Numerics) -> Reference:
    return _of(spec, replace(call, numerics=numerics).reference())


def _of(spec: StageSpec, both: AttentionReference) -> Reference:
    return both.lse if spec.stage == "lse" else both.out


def _same(call: Call, other: Call, at: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which rows of ``call`` are the rows ``at`` of ``other``: the same query, over as many keys, of one kernel."""
    same: NDArray[np.bool_] = (
        (other.positions[at] == call.positions)
        & (other.rows.start[at] == call.rows.start)
        & (other.rows.stop[at] == call.rows.stop)
        & (call.numerics == other.numerics)
    )
    return same & equal_rows(call.q, other.q, at)


def _is_same_tap(mine: Tap | None, theirs: Tap | None) -> bool:
    """The same rows, and the same bytes in them."""
    if mine is None or theirs is None:
        return False
    return np.array_equal(mine.positions, theirs.positions) and is_same(mine.values, theirs.values)


def _alike(cache: Cache, full: Cache) -> int:
    """How many of the first keys have the same bytes in both."""
    n = min(len(cache.k), len(full.k))
    same = np.ones(n, dtype=bool)
    for mine, theirs in ((cache.k, full.k), (cache.v, full.v)):
        if mine.dtype != theirs.dtype or mine.shape[1:] != theirs.shape[1:]:
            return 0
        same &= equal_rows(mine[:n], theirs, np.arange(n))
    return n if same.all() else int(np.argmin(same))


def _scaled(stored: Array, scales: tuple[float, ...] | None) -> Array:
    """Stored rows [keys, kv_heads, dim] as the numbers that they stand for; in memory by head, as they are read."""
    values: Array = stored.swapaxes(0, 1).astype(np.float64, order="C").swapaxes(0, 1)
    return values if scales is None else values * np.asarray(scales, dtype=np.float32).astype(np.float64)[:, None]
