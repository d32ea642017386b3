"""Traces as JSON Lines, in GRETA's field names and with ours beside them: what can be compared without the arrays.

Events of a file, in order:

==================  ====================================================================================================
``trace_header``    what was run: n_prefix, steps, layers, dtypes, tokens and kernels by path, the result's identity
``stage_trace``     one row of one stage on one path; for ``kv_write`` and ``kv_read`` all rows, ``row_hashes`` beside
``stage_logits``    the same for logits, with the two best tokens
``attention_stat``  scores and probs of a layer, ``source`` derived: computed by the harness, never compared
``stage_check``     rho of a stage on a path, with its worst element
``trace_end``       the number of records before it: without it the file is cut
==================  ====================================================================================================

``hash`` is over the raw bytes of the row, ``min max mean abs_sum nan inf nz_count`` over all its values, ``sample`` its
first values. ``token_index`` is the sequence's row, ``pos_id`` its RoPE position, ``seq_len`` the rows of the call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pytest_greta.artifacts import RunFolder, write_atomic
from pytest_greta.checks.result import StageCheck
from pytest_greta.dtypes import Array, dtype_of
from pytest_greta.jsonline import json_line
from pytest_greta.plain import to_plain
from pytest_greta.result import ProbeResult
from pytest_greta.trace.hashing import HASH_ALGO, digest
from pytest_greta.trace.paths import phase_label
from pytest_greta.trace.records import Key, PathTrace, Tap, Trace
from pytest_greta.trace.sidecar import save_sidecar
from pytest_greta.trace.stages import CACHE_STAGES, EXTRA, order

TRACE_SCHEMA = 1
SAMPLE = 16
HASHED_BY_ROW = ("k_proj", "v_proj", "k_rope")
"""The last of their records lists the hashes of all rows: what the cache was filled from, row by row."""


def write_trace(
    folder: RunFolder, result: ProbeResult, trace: Trace, checks: Sequence[StageCheck], *, full: bool = False
) -> None:
    """Write a probe's trace into its run's folder; ``full`` adds the safetensors sidecar. Raises ``ArtifactError``."""
    lines = [json_line(to_plain(record)) for record in records(result, trace, checks)]
    lines.append(json_line({"event": "trace_end", "schema": TRACE_SCHEMA, "records": len(lines)}))
    write_atomic(folder.trace_path(result.case, result.probe), b"".join(lines))
    if full:
        save_sidecar(folder.trace_path(result.case, result.probe, ".safetensors"), trace)


def records(result: ProbeResult, trace: Trace, checks: Sequence[StageCheck]) -> Iterator[dict[str, Any]]:
    """All records but the last."""
    yield header(result, trace)
    judged = {(c.path, c.layer, c.stage, c.part): c for c in checks}
    for path in trace.paths.values():
        for key in sorted(path.taps, key=lambda k: (order(k.layer, k.stage), k.part)):
            check = judged.get((path.path, key.layer, key.stage, key.part if key.part in EXTRA else ""))
            for record in _tap_records(trace, path, key, path.taps[key]):
                record["prompt_id"] = result.case
                if check is not None:
                    record |= {"rho": check.rho, "rho2": check.rho2, "finding": check.finding}
                yield record
    for stat in result.stats:
        fields = dataclasses.asdict(stat)
        yield {"event": "attention_stat", "schema": TRACE_SCHEMA, "point": fields.pop("stage"), **fields}
    for check in checks:
        fields = dataclasses.asdict(check)
        yield {"event": "stage_check", "schema": TRACE_SCHEMA, "point": fields.pop("stage"), **fields}


def header(result: ProbeResult, trace: Trace) -> dict[str, Any]:
    """What a reader needs beside the records. The verdict is not in it: it is to be judged, not believed."""
    verdict = result.verdict
    return {
        "event": "trace_header",
        "schema": TRACE_SCHEMA,
        "hash_algo": HASH_ALGO,
        **{
            name: getattr(result, name)
            for name in ("suite", "case", "probe", "mode", "variant", "nodeid", "where", "expected", "prompt", "fault")
        },
        "reproduce": result.reproduce,
        "run_id": result.run_id,
        "n_prefix": trace.n_prefix,
        "steps": trace.steps,
        "layers": list(trace.layers),
        "act_dtype": trace.act_dtype,
        "kv_dtype": trace.kv_dtype,
        "settings": result.settings,
        "roundings": result.roundings,
        "environment": result.environment,
        "evidence": to_plain(verdict.evidence) if verdict else None,
        "drift": to_plain(verdict.drift) if verdict else None,
        "paths": {
            name: {
                "tokens": path.tokens.tolist(),
                "rows": path.rows.tolist(),
                "positions": path.rope_positions.tolist(),
                "segments": [list(segment) for segment in path.segments],
                "kernels": [dataclasses.asdict(run) for run in path.kernels],
            }
            for name, path in trace.paths.items()
        },
    }


def rows_of_interest(trace: Trace, positions: Array) -> list[int]:
    """Indices into ``positions`` of rows 0, 1, N/2, N-1, the decoded ones and the last, where they were tapped."""
    n = trace.n_prefix
    wanted = {0, 1, n // 2, n - 1, *range(n, n + trace.steps)}
    chosen = [i for i, position in enumerate(positions.tolist()) if position in wanted]
    last = len(positions) - 1
    return chosen if not len(positions) or last in chosen else [*chosen, last]


def _tap_records(trace: Trace, path: PathTrace, key: Key, tap: Tap) -> Iterator[dict[str, Any]]:
    if not len(tap.positions):
        return
    if key.stage in CACHE_STAGES:
        record = _head(trace, path, key, tap, int(tap.positions[-1]))
        record |= {"shape": list(tap.values.shape), "hash": digest(tap.values), **_by_row(tap)}
        yield record | {name: values[0] for name, values in _statistics(tap.values[None]).items()}
        return
    chosen = rows_of_interest(trace, tap.positions)
    values = tap.values[chosen]
    statistics = _statistics(values)
    for i, index in enumerate(chosen):
        record = _head(trace, path, key, tap, int(tap.positions[index]))
        record |= {"shape": list(values[i].shape), "hash": digest(values[i])}
        record |= {name: column[i] for name, column in statistics.items()}
        if key.stage in HASHED_BY_ROW and i == len(chosen) - 1:
            record |= _by_row(tap)
        if key.stage == "logits":
            record |= {"event": "stage_logits", **_best_two(values[i])}
        record["sample"] = [float(f"{v:.9g}") for v in values[i].ravel()[:SAMPLE].astype(np.float64)]
        yield record | {"sample_n": len(record["sample"])}


def _by_row(tap: Tap) -> dict[str, Any]:
    return {"rows": tap.positions.tolist(), "row_hashes": [digest(row) for row in tap.values]}


def _head(trace: Trace, path: PathTrace, key: Key, tap: Tap, row: int) -> dict[str, Any]:
    last = int(path.rows[-1]) if len(path.rows) else row
    where = np.flatnonzero(path.rows == row)
    decode = path.path in ("decode", "aligned")
    return {
        "event": "stage_trace",
        "schema": TRACE_SCHEMA,
        "path": path.path,
        "phase": phase_label(path.path, row, trace.n_prefix, last),
        "point": key.stage,
        "part": key.part,
        "layer": key.layer,
        "step": row - trace.n_prefix if decode else 0,
        "pos_id": int(path.rope_positions[where[0]]) if len(where) else row,
        "seq_len": next((count for _, first, count in path.segments if first <= row < first + count), 1),
        "tokens_total": trace.n_prefix + trace.steps,
        "token_index": row,
        "stride_elems": int(np.prod(tap.values.shape[1:], dtype=np.int64)),
        "dtype": dtype_of(tap.values).name,
        "hash_algo": HASH_ALGO,
        "source": "traced",
    }


def _statistics(values: Array) -> Mapping[str, list[Any]]:
    """Of each row of ``values`` [R, ...], as plain numbers."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    with np.errstate(all="ignore"):  # nan and inf are what is counted here
        return {
            "min": np.fmin.reduce(rows, axis=1).tolist(),
            "max": np.fmax.reduce(rows, axis=1).tolist(),
            "mean": rows.mean(axis=1).tolist(),
            "abs_sum": np.abs(rows).sum(axis=1).tolist(),
            "nan": np.isnan(rows).sum(axis=1).tolist(),
            "inf": np.isinf(rows).sum(axis=1).tolist(),
            "nz_count": np.count_nonzero(rows, axis=1).tolist(),
        }


def _best_two(logits: Array) -> dict[str, Any]:
    values = logits.ravel().astype(np.float64)
    second, first = np.argsort(values)[-2:].tolist() if values.size > 1 else (0, 0)
    return {
        "top1_id": first,
        "top1_logit": float(values[first]),
        "top2_id": second,
        "top2_logit": float(values[second]),
        "gap": float(values[first] - values[second]),
        "vocab": int(values.size),
    }
