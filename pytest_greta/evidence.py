"""No verdict without evidence: what was really run and compared, and every reason to conclude nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Description, Numerics
from pytest_greta.checks.liveness import liveness
from pytest_greta.checks.price import spelled
from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.checks.rounding import same_bytes
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.spec import StageSpec
from pytest_greta.trace.paths import RUNS, phase_of
from pytest_greta.trace.records import Key, PathTrace, Tap, Trace
from pytest_greta.trace.stages import EXTRA, MODEL, is_beside
from pytest_greta.verdict import Breach, Evidence, FirstFailure

PARTS: Mapping[str, tuple[str, ...]] = {
    "kv_write": ("k", "v"),
    "kv_read": ("k", "v", "k_after", "v_after"),
}
FLOAT32: Mapping[str, str] = {"lse": "f32", "logits": "f32"}
"""Stages whose type is not the case's; a model that keeps its logits in its own type says so (``logits_dtype``)."""


def gather(
    trace: Trace,
    stages: Sequence[StageSpec],
    descriptions: Mapping[str, Description],
    checks: Sequence[StageCheck] = (),
    compared: Sequence[ByteCheck] = (),
    unjudged: Iterable[tuple[str, int, str]] = (),
) -> Evidence:
    """``descriptions`` by phase: what the libraries that the case names say of themselves. ``unjudged``: (path, layer,
    stage) of what the checks should have judged and could not."""
    breaches = [
        *_paths(trace),
        *_kernels(trace, descriptions),
        *_stages(trace, stages),
        *_types(trace),
        *_planted(trace),
        *liveness(trace),
    ]
    breaches += [_unjudged(c.path, c.layer, c.stage) for c in checks if c.elements == 0]
    breaches += [_unjudged(path, layer, stage) for path, layer, stage in unjudged]
    if not checks and not compared:
        breaches.append(Breach("nothing_compared"))
    kernels = tuple(
        {
            "path": path,
            "phase": run.phase,
            "library": run.library,
            "kernel": run.kernel,
            "calls": run.calls,
            "rows": [count for phase, _, count in found.segments if phase == run.phase],
            "source": run.source,
        }
        for path, found in trace.paths.items()
        for run in found.kernels
    )
    return Evidence(
        stages=len({(c.path, c.layer, c.stage) for c in checks} | {(b.right, b.layer, b.stage) for b in compared}),
        rows=sum(c.rows for c in checks) + sum(b.rows for b in compared),
        elements=sum(c.elements for c in checks),
        kernels=kernels,
        weights=str(trace.facts.get("weights", "")),
        cache="engine" if "cache" in trace.facts.get("done_by_engine", ()) else "library",
        ways=(*ways(trace), *(_unjudged_beside(trace) if checks else ())),
        repeats=_further(trace, "repeat"),
        zeros=_further(trace, "q0"),
        breaches=tuple(breaches),
    )


def _further(trace: Trace, part: str) -> int:
    """Layers of which a path was called once more, by the part of those calls."""
    keys = (key for path in trace.paths.values() for key in path.taps)
    return sum(key.stage == "attn_out" and key.part == part for key in keys)


def ways(trace: Trace) -> Iterable[Mapping[str, Any]]:
    """How the decoded token was really reached, one plain row a departure from one prefill and one decoded token: its
    ``way`` (``way.NAME`` of ``report.messages``) and the values that go with it. Read from the calls that were made.
    """
    made = trace.facts.get("way", {})
    if made.get("cut_from"):
        yield {"way": "cut", "n": trace.n_prefix, "tokens": trace.n_prefix + trace.steps, "whole": made["cut_from"]}
    prefill, decode = (
        [count for _, _, count in trace.paths[path].segments] if path in trace.paths else []
        for path in ("prefix", "decode")
    )
    if len(prefill) > 1:
        yield {"way": "chunks", "count": len(prefill), "sizes": prefill}
    if made.get("reused"):
        yield {"way": "reuse", "rows": made["reused"], "rolled_back": made["rolled_back"]}
    if kept := trace.facts.get("cache"):
        yield {"way": f"cache_{kept['scheme']}", **kept}
    if made.get("left_pad"):
        yield {"way": "left_pad", "rows": made["left_pad"]}
    if made.get("companions"):
        yield {"way": "batch", "count": len(made["companions"]), "rows": list(made["companions"])}
    if len(decode) > 1 or decode[:1] > [1]:
        yield {"way": "decode", "count": len(decode), "sizes": decode}


def _unjudged_beside(trace: Trace) -> Iterable[Mapping[str, Any]]:
    """One more row, where companions and pad rows are judged in some layers only: in those of which every path kept
    their rows of the cache (``engine.beside.MOST``)."""
    made = trace.facts.get("way", {})
    kept = [
        {key.layer for key in path.beside if key.stage == "kv_read" and is_beside(key.part.partition(".")[2])}
        for name, path in trace.paths.items()
        if name in RUNS
    ]
    layers = set.intersection(*kept) if kept else set()
    if (made.get("left_pad") or made.get("companions")) and len(layers) < len(trace.layers):
        yield {"way": "beside", "layers": len(layers), "of": len(trace.layers)}


def declares_less(
    wanted: Mapping[str, float], numerics: Mapping[str, Numerics], descriptions: Mapping[str, Description]
) -> list[Breach]:
    """What the case's key ``numerics`` asks for and a phase's library does not declare: nothing is concluded at a
    precision that the library does not promise."""
    breaches = []
    for phase, declared in numerics.items():
        bits = {"acc": declared.acc_bits, "dot": declared.dot_bits, "p": DTYPES[declared.p_dtype].p}
        for key, limit in wanted.items():
            values = {"phase": phase, "library": descriptions[phase].name, "name": key}
            if key.startswith("max_"):
                if (error := getattr(declared, name := key.removeprefix("max_"))) > limit:
                    said = {"says": name, "declared": spelled(error), "most": spelled(limit)}
                    breaches.append(Breach("declares_coarser", {**values, **said}))
            elif (found := bits[key.removeprefix("min_").removesuffix("_bits")]) < limit:
                breaches.append(Breach("declares_less", {**values, "least": limit, "declared": found}))
    return breaches


def _paths(trace: Trace) -> Iterable[Breach]:
    """Same token, same position on both paths."""
    missing = [name for name in RUNS if name not in trace.paths]
    if missing:
        yield Breach("path_missing", {"path": missing[0]})
        return
    full = trace.paths["full"]
    other = [np.concatenate([_facts(trace.paths[p])[i] for p in ("prefix", "decode")]) for i in range(3)]
    for name, left, right in zip(("tokens", "rows", "positions"), _facts(full), other, strict=True):
        if not np.array_equal(left, right):
            yield Breach(f"{name}_differ", {"left": _short(left), "right": _short(right)})


def _facts(path: PathTrace) -> tuple[Any, Any, Any]:
    return path.tokens, path.rows, path.rope_positions


def _short(values: Any) -> str:
    shown = [str(int(v)) for v in values[-4:]]
    return f"{len(values)}: ..{','.join(shown)}"


def _kernels(trace: Trace, descriptions: Mapping[str, Description]) -> Iterable[Breach]:
    """Each phase ran in the library and the kernel that the case names, once a layer and call, and nothing else did."""
    ran: dict[str, set[str]] = {}
    for name, path in trace.paths.items():
        phase = phase_of(name)
        wanted = descriptions[phase]
        expected = wanted.kernels.get(phase, "")
        seen = {run.kernel for run in path.kernels}
        ran.setdefault(phase, set()).update(seen)
        values = {"path": name, "phase": phase, "kernel": expected, "library": wanted.name}
        if not expected or expected not in seen:
            yield Breach("kernel_not_run", {**values, "seen": ", ".join(sorted(seen)) or "-"})
        for run in path.kernels:
            if run.library != wanted.name:
                yield Breach("other_library", {**values, "seen": run.library})
            elif run.phase != phase or run.kernel != expected:
                yield Breach("other_kernel", {**values, "seen": f"{run.kernel} ({run.phase})"})
        calls = sum(run.calls for run in path.kernels if run.kernel == expected)
        layers = trace.facts.get("n_layers", len(trace.layers)) if name != "aligned" else len(trace.layers)
        least = layers * len(path.segments)
        if expected in seen and calls < least:
            yield Breach("too_few_calls", {**values, "seen": calls, "expected": least})
    both = ran.get("prefill", set()) & ran.get("decode", set())
    same_library = descriptions["prefill"].name == descriptions["decode"].name
    if both and same_library and not descriptions["decode"].one_kernel:
        yield Breach("one_kernel", {"kernel": ", ".join(sorted(both)), "library": descriptions["decode"].name})


def _stages(trace: Trace, stages: Sequence[StageSpec]) -> Iterable[Breach]:
    """Every stage that the model declares is present, for every requested layer, on every run."""
    for path in RUNS:
        if path not in trace.paths:
            continue
        for spec in stages:
            if spec.layer != MODEL and spec.layer not in trace.layers:
                continue
            for part in PARTS.get(spec.stage, ("",)):
                if trace.tap(path, spec.layer, spec.stage, part) is None:
                    yield Breach("stage_missing", {"path": path, "layer": spec.layer, "stage": spec.stage})
                    break


def _unjudged(path: str, layer: int, stage: str) -> Breach:
    return Breach("not_judged", {"path": path, "layer": layer, "stage": stage})


def _planted(trace: Trace) -> Iterable[Breach]:
    """A fault that changed nothing was not there to be found, or to be missed."""
    if trace.facts.get("fault_fired") is False:
        yield Breach("fault_not_planted", {"fault": trace.facts.get("fault", "")})


def _types(trace: Trace) -> Iterable[Breach]:
    """Every stage is held in the type that the case names: a value is judged by the rounding of the type that it is
    stored in, so that a coarser one would excuse itself."""
    own = {**FLOAT32, "logits": trace.facts.get("logits_dtype", FLOAT32["logits"])}
    for path, found in trace.paths.items():
        for key, tap in found.taps.items():
            name = own.get(key.stage) or (trace.kv_dtype if key.stage in PARTS else trace.act_dtype)
            if tap.values.dtype != DTYPES[name].numpy:
                place = {"path": path, "layer": key.layer, "stage": key.stage}
                yield Breach("other_dtype", {**place, "seen": str(tap.values.dtype), "expected": name})


def must_hold(trace: Trace) -> FirstFailure | None:
    """What must be equal or alive even where drift is expected: ``embed_out`` bytes, shapes, finite values, live rows.

    Of the decoded rows; where the prefix run came in pieces, of its checked rows too.
    """
    full = trace.paths["full"]
    for path in ("prefix", "decode") if len(trace.paths["prefix"].segments) > 1 else ("decode",):
        taps = trace.paths[path].taps
        embedded = Key(MODEL, "embed_out")
        for key in sorted(taps, key=lambda k: k != embedded):  # stable: stages stay in order
            if key.part in EXTRA:
                continue
            failure = _rows_broken(key, path, taps[key], full.taps.get(key))
            if failure is not None:
                return failure
    return None


def _rows_broken(key: Key, path: str, tap: Tap, other: Tap | None) -> FirstFailure | None:
    """The first row of a stage that is in both runs and cannot be rounding."""
    rows = np.intersect1d(tap.positions, other.positions) if other is not None else ()
    if other is None or not len(rows):
        return None
    phase = phase_of(path)
    mine, theirs = (t.values[np.searchsorted(t.positions, rows)].reshape(len(rows), -1) for t in (tap, other))

    def failure(at: int, phase: str, cause: str) -> FirstFailure:
        return FirstFailure(key.layer, key.stage, phase, (int(rows[at]),), causes=(cause,))

    if mine.shape != theirs.shape:
        return failure(0, phase, "cause.shape")
    if key == (MODEL, "embed_out", "") and not (equal := same_bytes(mine, theirs).all(axis=1)).all():
        return failure(int(np.argmin(equal)), phase, "cause.embedding")
    both = np.stack([theirs, mine]).astype(np.float32)
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(both), axis=2)
    if key.stage == "lse":  # of an empty row it is -inf
        finite[:] = True
    alive: NDArray[np.bool_] = np.logical_or.reduce(both != 0, axis=2)
    sound = finite.all(axis=0) & (alive[0] == alive[1])
    if sound.all():
        return None
    at = int(np.argmin(sound))
    for side, fine in (("prefill", finite[0]), (phase, finite[1])):
        if not fine[at]:
            return failure(at, side, "cause.not_finite")
    return failure(at, phase if alive[0, at] else "prefill", "cause.dead_row")
