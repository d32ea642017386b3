"""Records of one prompt, paired as they come: a prefill and a decode record of one form, point, layer and position.

A pair is compared and dropped; what waits for its counterpart is kept, up to a limit over all prompts, so that memory
does not grow with the files.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

from pytest_greta.checks.result import ByteCheck
from pytest_greta.lineage.attention import Scores
from pytest_greta.lineage.points import AFTER_ATTENTION, POINTS, WEIGHT, place
from pytest_greta.lineage.records import HASHED, Record
from pytest_greta.result import AttentionStat
from pytest_greta.trace.stages import ORDER, order
from pytest_greta.verdict import Breach, FirstFailure

HELD = 100_000
"""Records, of all prompts together, that may wait for a counterpart."""
HELD_BYTES = 128 << 20
"""Of their samples: a writer may print whole rows."""
LISTED = 40_000
"""Stages, of all prompts together, that are listed one by one."""
_POSITIONS = 10_000


@dataclass
class Room:
    """What all prompts share."""

    held: int = 0
    bytes: int = 0
    listed: int = 0


@dataclass
class _Stage:
    rows: int = 0
    differs: list[int] = field(default_factory=list)
    hashes: tuple[str, str] = ("", "")
    max_abs: float = 0.0


Key = tuple[str, str, int, int]


@dataclass
class Prompt:
    """What was seen of one prompt. ``unpaired``: reason to (count, example)."""

    room: Room
    waiting: dict[bool, dict[Key, Record]] = field(default_factory=lambda: {True: {}, False: {}})
    seen: Counter[bool] = field(default_factory=Counter)
    places: dict[tuple[str, str, int, bool], int] = field(default_factory=dict)
    stages: dict[tuple[int, str, str], _Stage] = field(default_factory=dict)
    failure: tuple[tuple[int, int, int], FirstFailure] | None = None
    difference: tuple[tuple[int, int, int], FirstFailure, float] | None = None
    breaches: dict[str, Breach] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    scores: dict[tuple[int, str, str], Scores] = field(default_factory=dict)
    rows: int = 0
    elements: int = 0
    after_attention: bool = False
    printed: int = 0
    widest: int = 0
    narrow: set[int] = field(default_factory=set)
    logits: set[int] = field(default_factory=set)
    other_call: bool = False

    def take(self, record: Record) -> None:
        for found in record.scores:
            self._score(record, found)
        if record.form == "attention_scores":
            return
        if record.point not in POINTS:
            if record.point in self.unknown or len(self.unknown) < 32:
                self.unknown[record.point] += 1
            return
        side = record.is_prefill
        self.seen[side] += 1
        if not record.finite:
            self._fail(record, "prefill" if side else "decode", "cause.not_finite")
        at = 0 if record.point == WEIGHT else record.position
        key = (record.form, record.point, record.layer, at)
        other = self.waiting[not side].pop(key, None)
        if other is not None:
            self.room.held -= 1
            self.room.bytes -= len(other.sample)
            self._pair(*((record, other) if side else (other, record)))
        elif key in self.waiting[side]:
            if (self.waiting[side][key].hash, self.waiting[side][key].sample) != (record.hash, record.sample):
                self._note("records_disagree", record)
        elif self.room.held < HELD and self.room.bytes < HELD_BYTES:
            self.room.held += 1
            self.room.bytes += len(record.sample)
            self.waiting[side][key] = record
        else:
            self._note("too_many_waiting", record)
        if side:
            self.places.setdefault((*key[:3], side), record.position)

    def _score(self, record: Record, found: Scores) -> None:
        side = "full" if record.is_prefill else "decode"
        if not found.finite:
            self._fail_at(record.layer, found.stage, record, "prefill" if record.is_prefill else "decode")
            return
        key = (record.layer, found.stage, side)
        if key in self.scores:
            old = self.scores[key]
            low, high = min(old.low, found.low), max(old.high, found.high)
            found = Scores(found.stage, low, high, old.total + found.total, old.values + found.values)
        elif self.room.listed >= LISTED:
            return
        else:
            self.room.listed += 1
        self.scores[key] = found

    def _pair(self, full: Record, decode: Record) -> None:
        if None not in (full.logical, decode.logical) and full.logical != decode.logical:
            self._note("other_logical_token", decode)
            return
        cause = _broken(full, decode)
        if cause:
            self._fail(decode, "prefill" if full.state != "live" == decode.state else "decode", cause)
        if full.state == decode.state != "live":
            self._note("dead_on_both", decode)
        by_hash = full.hash is not None and decode.hash is not None
        samples = full.sample == decode.sample
        equal = full.hash == decode.hash and (samples or full.form == "stage_trace") if by_hash else samples
        if full.form == "stage_logits":
            equal = equal and samples
        elif by_hash and equal and not samples and len(full.sample) == len(decode.sample):
            self._note("hash_against_sample", decode)
        if not equal and full.point in ("embed_out", WEIGHT) and not cause:
            self._fail(decode, "decode", "cause.embedding")
        self._count(full, decode, equal, by_hash)

    def _count(self, full: Record, decode: Record, equal: bool, by_hash: bool) -> None:
        layer, stage = place(full.point, full.layer)
        width, printed = full.width, len(full.sample) // 4
        part = "weight" if full.point == WEIGHT else ""
        if not part:
            self.rows += 1
            self.elements += min(width or HASHED, HASHED) if by_hash else printed
            self.after_attention |= ORDER[stage] >= AFTER_ATTENTION
            self.printed += not by_hash
            self.widest = max(self.widest, width or 0)
            if stage == "logits" and equal:
                self.logits.add(full.position)
            elif (width is None or width > HASHED) and len(self.narrow) < _POSITIONS:
                self.narrow.add(full.position)
        if full.call != decode.call:
            self.other_call = True
        apart = 0.0 if equal else _apart(full, decode)
        hashes = (_hex(full.hash), _hex(decode.hash))
        key = (layer, stage, part)
        found = self.stages.get(key)
        if found is None and self.room.listed < LISTED:
            self.room.listed += 1
            found = self.stages[key] = _Stage(hashes=hashes)
        if found is not None:
            found.rows += 1
            found.max_abs = max(found.max_abs, apart)
            if not equal:
                found.hashes = found.hashes if found.differs else hashes
                if len(found.differs) < _POSITIONS:
                    found.differs.append(full.position)
        if not equal:
            at = (*order(layer, stage), full.position)
            if self.difference is None or at < self.difference[0]:
                shown = hashes if by_hash else None
                failure = FirstFailure(layer, stage, "decode", (full.position,), hashes=shown)
                self.difference = (at, failure, apart)

    def _fail(self, record: Record, phase: str, cause: str) -> None:
        self._fail_at(*place(record.point, record.layer), record, phase, cause)

    def _fail_at(self, layer: int, stage: str, record: Record, phase: str, cause: str = "cause.not_finite") -> None:
        at = (*order(layer, stage), record.position)
        if self.failure is None or at < self.failure[0]:
            self.failure = (at, FirstFailure(layer, stage, phase, (record.position,), causes=(cause,)))

    def _note(self, key: str, record: Record, **values: object) -> None:
        old = self.breaches.get(key)
        if old is not None:
            self.breaches[key] = Breach(key, {**old.values, "count": old.values["count"] + 1})
            return
        where = {"point": record.point, "layer": record.layer, "phase": record.phase, "position": record.position}
        self.breaches[key] = Breach(key, {"count": 1, **where, **values})

    def finish(self) -> None:
        """What still waits could not be paired: each is counted under its reason, and its room given back."""
        for key, record in self.waiting[False].items():
            other = self.places.get((*key[:3], True))
            if other is None:
                self._note("unpaired_point", record)
            else:
                self._note("unpaired_position", record, other=other)
        for record in self.waiting[True].values():
            self._note("left_prefill", record)
        left = [*self.waiting[True].values(), *self.waiting[False].values()]
        self.room.held -= len(left)
        self.room.bytes -= sum(len(record.sample) for record in left)
        self.waiting = {True: {}, False: {}}

    def stats(self) -> tuple[AttentionStat, ...]:
        """Of the printed values, by layer: before and after softmax, prefill and decode."""
        found = sorted(self.scores.items(), key=lambda i: (i[0][0], ORDER[i[0][1]], i[0][2]))
        return tuple(
            AttentionStat(layer, stage, side, s.low, s.high, s.total / s.values, "trace")  # type: ignore[arg-type]
            for (layer, stage, side), s in found
        )

    def checks(self) -> tuple[ByteCheck, ...]:
        found = sorted(self.stages.items(), key=lambda i: order(i[0][0], i[0][1]))
        return tuple(
            ByteCheck(*key, "full", "decode", *s.hashes, s.rows, tuple(sorted(set(s.differs))), s.max_abs)
            for key, s in found
        )


def _broken(full: Record, decode: Record) -> str:
    if None not in (full.token, decode.token) and full.token != decode.token:
        return "cause.other_token"
    widths = (full.width, decode.width)
    if widths[0] != widths[1] if None not in widths else len(full.sample) != len(decode.sample):
        return "cause.shape"
    if full.state != decode.state and "live" in (full.state, decode.state):
        return "cause.dead_row" if "zero" in (full.state, decode.state) else "cause.constant_row"
    return ""


def _apart(full: Record, decode: Record) -> float:
    """The largest difference of the printed values; of logits, of their statistics and two best."""
    code = "d" if full.form == "stage_logits" else "f"
    left, right = array(code, full.sample), array(code, decode.sample)
    return max((abs(a - b) for a, b in zip(left, right, strict=False)), default=0.0)


def _hex(value: int | None) -> str:
    return "" if value is None else f"{value:016x}"
