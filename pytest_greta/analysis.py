"""From a stored trace to a verdict. Without the model: hashes, statistics, liveness and the stored rho, no more.

Pure over ``TraceFile``; the decision itself is that of a live run (``decide.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_greta.backends.base import PHASES, BackendError, Numerics
from pytest_greta.checks.compare import CACHED, compare_paths, logits_drift
from pytest_greta.checks.configuration import configuration
from pytest_greta.checks.result import ByteCheck, Difference, StageCheck
from pytest_greta.checks.run import examine
from pytest_greta.decide import decide_as_designed, decide_kv_aligned, inconclusive
from pytest_greta.engine.scales import with_cache_scales
from pytest_greta.engine.spec import ModelSource, StageSpec, decoder_stages
from pytest_greta.plain import from_plain
from pytest_greta.report.unmet import contract, unmet
from pytest_greta.result import ProbeResult
from pytest_greta.trace.paths import RUNS
from pytest_greta.trace.reading import Row, TraceFile
from pytest_greta.trace.records import Key, Trace
from pytest_greta.trace.stages import CACHE_STAGES, EXTRA, MODEL, order
from pytest_greta.verdict import KV_MISMATCH, PASS, Breach, Drift, Evidence, FirstFailure, Verdict

_SHOWN = 3
"""Breaches of one kind that are spelled out; more say nothing new."""

Index = dict[tuple[str, Key], dict[int, Row]]


def judge_file(
    found: TraceFile, mode: str, trace: Trace | None = None, source: ModelSource | None = None
) -> ProbeResult:
    """The result of one stored trace in ``mode``.

    ``trace``: its arrays, where the sidecar is there. ``source``: the model; with both, every rho is found anew.
    """
    head = found.header
    damage = [Breach("unreadable", {"where": f"{found.path}:{n}", "error": why}) for n, why in found.problems[:_SHOWN]]
    if not found.rows:
        return _result(found, mode, _nothing(mode, (*damage, Breach("no_records", {"path": str(found.path)}))))
    index, duplicates = _index(found.rows)
    n, steps = _whole(head, "n_prefix"), _whole(head, "steps")
    breaches = [
        *duplicates[:_SHOWN],
        *_recorded(head),
        *_paths(head, found.rows),
        *_dead(found.rows),
        *list(_counterparts(index, n, steps))[:_SHOWN],
    ]
    drift = from_plain(Drift, head["drift"]) if isinstance(head.get("drift"), Mapping) else None
    if trace is None:
        compared, mixed = _compare(index, n, steps, pieces=_pieces(head))
        breaches += mixed
    else:
        compared, drift = compare_paths(trace), logits_drift(trace)
    checks: list[StageCheck] = []
    differences: list[Difference] = []
    if mode == "kv_aligned" and source is None:
        checks = _checks(found)
        breaches += [] if checks else [Breach("no_rho")]
    elif mode == "kv_aligned" and source is not None:
        if trace is not None:
            source = source if source.in_act is None else source.in_act(trace.act_dtype)
            source = with_cache_scales(source, trace.kv_dtype)
        checks, unfit = _anew(found, trace, source)
        breaches += unfit
        differences = configuration(trace, source) if trace is not None and checks else []
    evidence = _evidence(found, checks, compared, breaches)
    if mode == "kv_aligned":
        verdict = decide_kv_aligned(checks, compared, evidence, drift, differences)
    else:
        verdict = decide_as_designed(compared, evidence, _broken(index, n, steps), drift)
    if damage and verdict.status != KV_MISMATCH:  # a mismatch that is there stays one, whatever was lost beside it
        verdict = inconclusive(verdict, (*damage, *evidence.breaches))
    elif damage:
        verdict = replace(verdict, evidence=replace(verdict.evidence, breaches=tuple(damage)))
    return replace(_result(found, mode, verdict), stages=tuple(checks), bytes=tuple(compared))


def failed_file(path: str, mode: str, breach: Breach) -> ProbeResult:
    """A result for a file of which nothing could be read."""
    return ProbeResult("-", path, mode, mode, "", path, path, "failed", "", _nothing(mode, (breach,)))


def _result(found: TraceFile, mode: str, verdict: Verdict) -> ProbeResult:
    head = found.header

    def text(name: str, default: str = "") -> str:
        value = head.get(name)
        return value if isinstance(value, str) else default

    def mapping(name: str) -> Mapping[str, Any]:
        value = head.get(name)
        return value if isinstance(value, Mapping) else {}

    name = found.path.name.removesuffix("_trace.jsonl")
    result = ProbeResult(
        suite=text("suite", "-"),
        case=text("case", name),
        probe=text("probe", mode),
        mode=mode,
        variant=text("variant"),
        nodeid=text("nodeid", name),
        where=text("where", str(found.path)),
        outcome="failed",
        expected=text("expected"),
        verdict=verdict,
        prompt=text("prompt"),
        n_tokens=_whole(head, "n_prefix") + _whole(head, "steps"),
        fault=text("fault"),
        reproduce=text("reproduce"),
        settings=mapping("settings"),
        stats=tuple(found.stats),
        roundings=mapping("roundings"),
        environment=mapping("environment"),
        run_id=text("run_id"),
    )
    return replace(result, outcome="passed") if verdict.status == PASS or _as_expected(result, text("mode")) else result


def _as_expected(result: ProbeResult, recorded: str) -> bool:
    """A mismatch that the case expects of the mode that it was recorded in, as pytest has it."""
    mismatch = result.verdict is not None and result.verdict.status == KV_MISMATCH
    return bool(mismatch and result.expected and recorded == result.mode) and not (unmet(result) or contract(result))


def _nothing(mode: str, breaches: tuple[Breach, ...]) -> Verdict:
    return inconclusive(Verdict(PASS, None, mode=mode), breaches)


def _whole(head: Mapping[str, Any], name: str) -> int:
    value = head.get(name)
    return value if isinstance(value, int) else 0


def _index(rows: Iterable[Row]) -> tuple[Index, list[Breach]]:
    """Records by path, stage and sequence row; where two disagree the first counts, and it is said."""
    index: Index = {}
    duplicates = []
    for record in rows:
        at = index.setdefault((record.path, Key(record.layer, record.stage, record.part)), {})
        for row, value in record.hashes.items():
            if row in at and at[row].hashes[row] != value:
                duplicates.append(Breach("duplicate", {**_place(record), "position": row, "path": record.path}))
            if row not in at or row == record.row:  # the record of the row itself says more than a list of hashes
                at[row] = record
    return index, duplicates


def _place(record: Row) -> dict[str, Any]:
    return {"layer": record.layer, "stage": record.stage}


def _recorded(head: Mapping[str, Any]) -> Iterator[Breach]:
    """What the live run itself could not show: only it saw the kernels run."""
    evidence = head.get("evidence")
    for breach in evidence.get("breaches", ()) if isinstance(evidence, Mapping) else ():
        yield from_plain(Breach, breach)


def _paths(head: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[Breach]:
    """Each path was run by some kernel, and both were given the same tokens, rows and positions."""
    seen = {record.path for record in rows}
    missing = [path for path in RUNS if path not in seen]
    if missing:
        yield Breach("path_missing", {"path": missing[0]})
        return
    if not head:
        return  # already said to be unreadable
    paths = head["paths"]
    unlisted = [path for path in RUNS if path not in paths]
    if unlisted:
        yield Breach("path_missing", {"path": unlisted[0]})
        return
    for path in RUNS:
        if not paths[path].get("kernels"):
            yield Breach("no_kernels", {"path": path})
    for name in ("tokens", "rows", "positions"):
        full, prefix, decode = (paths[path].get(name, []) for path in RUNS)
        if full != prefix + decode:
            yield Breach(f"{name}_differ", {"left": full[-4:], "right": (prefix + decode)[-4:]})


def _dead(rows: Iterable[Row]) -> Iterator[Breach]:
    """A stage that is all zero in every layer of one path and alive in another."""
    alive: dict[str, dict[str, bool]] = {}
    for record in rows:
        if record.path in RUNS and record.stage not in CACHE_STAGES and record.part not in EXTRA:
            by_path = alive.setdefault(record.stage, {})
            by_path[record.path] = by_path.get(record.path, False) or record.nz_count > 0
    for stage, by_path in alive.items():
        dead = [path for path, lives in by_path.items() if not lives]
        if dead:
            yield Breach("dead_tap", {"stage": stage, "path": ", ".join(dead)})


def _counterparts(index: Index, n: int, steps: int) -> Iterator[Breach]:
    """Every decoded row that one of the two paths recorded, the other must have recorded too."""
    for path, key in sorted(index, key=lambda i: (order(i[1].layer, i[1].stage), i)):
        other = {"full": "decode", "decode": "full"}.get(path)
        if other is None or key.part in EXTRA:
            continue
        there = index.get((other, key), {})
        for row in index[path, key]:
            if n <= row < n + steps and row not in there:
                yield Breach("no_counterpart", {"layer": key.layer, "stage": key.stage, "position": row, "path": other})


def _pieces(head: Mapping[str, Any]) -> int:
    """Calls that the prefix run took."""
    paths = head.get("paths")
    prefix = paths.get("prefix") if isinstance(paths, Mapping) else None
    segments = prefix.get("segments") if isinstance(prefix, Mapping) else None
    return len(segments) if isinstance(segments, list) else 1


def _compare(index: Index, n: int, steps: int, pieces: int) -> tuple[list[ByteCheck], list[Breach]]:
    """As ``checks.compare.compare_paths``, over hashes; the largest difference is not known (nan)."""
    compared, mixed = [], []
    for right, first, last in (("prefix", 0, n), ("decode", n, n + steps)):
        for (path, key), there in index.items():
            mine = index.get(("full", key), {})
            if path != right or key.part in EXTRA or (right == "prefix" and pieces <= 1 and key.stage not in CACHED):
                continue
            rows = sorted(row for row in mine.keys() & there.keys() if first <= row < last)
            if not rows:
                continue
            algorithms = {mine[rows[0]].hash_algo, there[rows[0]].hash_algo}
            if len(algorithms) > 1:
                mixed.append(Breach("hash_algo", {"left": mine[rows[0]].hash_algo, "right": there[rows[0]].hash_algo}))
                continue
            differs = tuple(row for row in rows if _value(mine, row) != _value(there, row))
            at = differs[0] if differs else rows[-1]
            shown = (mine[at].hashes[at], there[at].hashes[at])
            check = ByteCheck(*key, "full", right, *shown, len(rows), differs)
            compared.append(replace(check, max_abs=float("nan")) if differs else check)
    return sorted(compared, key=lambda c: (order(c.layer, c.stage), c.right == "decode", c.part)), mixed[:1]


def _value(rows: Mapping[int, Row], row: int) -> tuple[str, str]:
    """Hash and type: equal bytes of two types are not equal values."""
    return rows[row].hashes[row], rows[row].dtype


def _checks(found: TraceFile) -> list[StageCheck]:
    """The stored checks, of two of one place the worse; where a line of them was lost, what the rows still say."""
    checks: dict[tuple[str, int, str, str], StageCheck] = {}
    for c in found.checks:
        known = checks.setdefault((c.path, c.layer, c.stage, c.part), c)
        if (c.rho2, c.rho) > (known.rho2, known.rho):
            checks[c.path, c.layer, c.stage, c.part] = c
    for record in found.rows:
        part = record.part if record.part in EXTRA else ""
        place = (record.path, record.layer, record.stage, part)
        if place not in checks and record.rho is not None:
            rho2 = record.rho if record.rho2 is None else record.rho2
            checks[place] = StageCheck(*place[:3], record.rho, rho2, len(record.hashes), record.elements, part=part)
    return list(checks.values())


def _anew(found: TraceFile, trace: Trace | None, source: ModelSource) -> tuple[list[StageCheck], list[Breach]]:
    """Every check from the arrays and the model, or why that cannot be."""
    if trace is None:
        return [], [Breach("no_sidecar", {"path": found.path.name})]
    weights = str(trace.facts.get("weights", ""))
    if weights != source.origin:
        return [], [Breach("other_weights", {"recorded": weights, "given": source.origin})]
    declared = found.header.get("roundings") or {}
    try:
        numerics = {name: from_plain(Numerics, declared.get(name, {})) for name in (*PHASES, "model")}
    except BackendError as error:
        return [], [Breach("unreadable", {"where": f"{found.path}: roundings", "error": str(error)})]
    absent = trace.facts.get("not_given", ())
    given = [spec for spec in decoder_stages(source.config) if spec.stage not in absent]
    stages = _recorded_stages(given, trace.facts.get("recorded"))
    try:
        examined = examine(trace, source, stages, numerics, numerics["model"])
    except ValueError as error:
        from pytest_greta.trace.sidecar import sidecar_of

        return [], [Breach("unreadable", {"where": str(sidecar_of(found.path)), "error": str(error)})]
    missing = [Breach("stage_missing", {"path": m.path, "layer": m.layer, "stage": m.stage}) for m in examined.missing]
    return list(examined.checks), missing[:_SHOWN]


def _recorded_stages(stages: Sequence[StageSpec], recorded: Sequence[str] | None) -> list[StageSpec]:
    """All, but of a recorder's trace those that the other engine gave with what they were made from."""
    if recorded is None:
        return list(stages)
    return [s for s in stages if s.stage in recorded and (set(s.inputs) <= set(recorded) or s.stage == "x_in")]


def _evidence(
    found: TraceFile, checks: list[StageCheck], compared: list[ByteCheck], breaches: list[Breach]
) -> Evidence:
    stored = found.header.get("evidence")
    base = from_plain(Evidence, stored) if isinstance(stored, Mapping) else Evidence()
    stages = {(c.path, c.layer, c.stage) for c in checks} | {(b.right, b.layer, b.stage) for b in compared}
    if not checks and not compared:
        breaches = [*breaches, Breach("nothing_compared")]
    return replace(
        base,
        stages=len(stages),
        rows=sum(c.rows for c in checks) + sum(b.rows for b in compared),
        elements=sum(c.elements for c in checks),
        breaches=tuple(breaches),
    )


def _broken(index: Index, n: int, steps: int) -> FirstFailure | None:
    """As ``evidence.must_hold``: what must be equal or alive even where drift is expected."""
    decoded = (key for path, key in index if path == "decode" and key.part not in EXTRA)
    keys = sorted(decoded, key=lambda k: (order(k.layer, k.stage), k.part))
    for key in keys:
        full, decode = index.get(("full", key), {}), index["decode", key]
        for row in sorted(r for r in full.keys() & decode.keys() if n <= r < n + steps):
            cause, phase = _row_broken(key, row, full, decode)
            if cause:
                return FirstFailure(key.layer, key.stage, phase, (row,), causes=(cause,))
    return None


def _row_broken(key: Key, row: int, full: Mapping[int, Row], decode: Mapping[int, Row]) -> tuple[str, str]:
    left, right = full[row], decode[row]
    if key == Key(MODEL, "embed_out") and _value(full, row) != _value(decode, row):
        return "cause.embedding", "decode"
    for phase, record in (("prefill", left), ("decode", right)):
        if key.stage != "lse" and record.not_finite:
            return "cause.not_finite", phase
    if key.stage not in CACHE_STAGES:
        if left.elements != right.elements:
            return "cause.shape", "decode"
        if bool(left.nz_count) != bool(right.nz_count):
            return "cause.dead_row", "decode" if left.nz_count else "prefill"
    return "", ""
