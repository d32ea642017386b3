"""``greta analyze``: the verdict of a live run from its traces alone, and none where the traces cannot carry one."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pytest_greta import cli_analyze, exit_codes
from pytest_greta.analysis import judge_file
from pytest_greta.artifacts import RunFolder
from pytest_greta.engine.load import load_source
from pytest_greta.engine.run import RunPlan
from pytest_greta.probing import Judged, judge
from pytest_greta.trace.hashing import digest
from pytest_greta.trace.jsonl import write_trace
from pytest_greta.trace.reading import load_trace, read_trace
from pytest_greta.trace.records import Key, PathTrace, Tap, Trace
from pytest_greta.trace.sidecar import TraceError, load_sidecar, save_sidecar
from tests.support import results as samples
from tests.support.plain import PlainBackend

LAYERS = (0, 2, 4)
MODES = ("as_designed", "kv_aligned")


def gain_in_decode(layer: int, phase: str, out: Any, lse: Any) -> None:
    if layer == 2 and phase == "decode":
        out *= 1.01


def live(mode: str, spoil: Any = None, **plan: Any) -> Judged:
    source = load_source("synthetic")
    backend = PlainBackend(spoil)
    tokens = tuple(source.tokenizer.encode("A trace."))
    return judge(source, RunPlan(tokens, layers=LAYERS, **plan), {"prefill": backend, "decode": backend}, mode)


@pytest.fixture(scope="module")
def runs() -> dict[str, Judged]:
    return {
        "as_designed": live("as_designed"),
        "kv_aligned": live("kv_aligned"),
        "broken": live("kv_aligned", gain_in_decode),
        "bf16": live("kv_aligned", act_dtype="bf16", kv_dtype="f16"),
        "rowwise": live("as_designed", gemm="rowwise"),
    }


def save(tmp_path: Path, judged: Judged, case: str = "p0", *, full: bool = False) -> Path:
    verdict = judged.verdict
    result = replace(samples.result(case, verdict.mode), verdict=verdict, stats=judged.stats)
    folder = RunFolder.create(tmp_path / "artifacts", "2026-02-07", "s")
    write_trace(folder, result, judged.trace, judged.checks, full=full)
    return folder.trace_path(case, verdict.mode)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Apply ``change`` to every record; None drops it. The end record is set right again."""
    kept = [r for r in map(change, records(path)) if r is not None]
    kept[-1]["records"] = len(kept) - 1
    path.write_text("".join(json.dumps(r) + "\n" for r in kept))


def analyze(path: Path, mode: str, *more: str) -> int:
    parser = argparse.ArgumentParser()
    cli_analyze.add_parser(parser.add_subparsers())
    output = path.parent / "REPORT.md"
    words = ["analyze", "--traces-dir", str(path.parent), "--mode", mode, "--output", str(output), *more]
    args = parser.parse_args(words)
    code: int = args.func(args)
    return code


# ---------------------------------------------------------------- the records


def test_every_line_is_json_with_greta_s_names(tmp_path, runs):
    found = records(save(tmp_path, runs["kv_aligned"]))
    assert found[0]["event"] == "trace_header"
    assert found[-1] == {"event": "trace_end", "schema": 1, "records": len(found) - 1}
    names = {
        "event",
        "prompt_id",
        "phase",
        "point",
        "layer",
        "step",
        "pos_id",
        "seq_len",
        "tokens_total",
        "token_index",
    }
    names |= {"stride_elems", "sample_n", "hash", "min", "max", "mean", "abs_sum", "nan", "inf", "nz_count"}
    names |= {"sample", "schema", "path", "dtype", "shape", "hash_algo", "source", "rho", "finding"}
    row = next(r for r in found if r.get("point") == "q_proj" and r["path"] == "decode")
    assert names <= row.keys()
    trace = runs["kv_aligned"].trace
    n = trace.n_prefix
    assert (row["prompt_id"], row["phase"], row["step"], row["token_index"]) == ("p0", "decode0", 0, n)
    assert (row["pos_id"], row["seq_len"], row["tokens_total"]) == (n, 1, n + 1)


def test_statistics_are_those_of_the_row(tmp_path, runs):
    """Against NumPy on the tap, not against the writer."""
    trace = runs["bf16"].trace
    for record in records(save(tmp_path, runs["bf16"])):
        if record["event"] not in ("stage_trace", "stage_logits") or record["point"] in ("kv_write", "kv_read"):
            continue
        values = trace.tap(record["path"], record["layer"], record["point"], record["part"]).row(record["token_index"])
        assert record["hash"] == digest(values)
        assert record["shape"] == list(values.shape)
        wide = values.astype(np.float64)
        assert record["min"] == wide.min()
        assert record["max"] == wide.max()
        assert record["abs_sum"] == pytest.approx(np.abs(wide).sum())
        assert record["nz_count"] == np.count_nonzero(wide)
        assert record["sample"] == pytest.approx(wide.ravel()[: record["sample_n"]])


def test_phases(tmp_path, runs):
    n = runs["kv_aligned"].trace.n_prefix
    phases = {
        (r["path"], r["token_index"]): r["phase"] for r in records(save(tmp_path, runs["kv_aligned"])) if "phase" in r
    }
    assert phases["full", n] == "prefill_last"
    assert phases["prefix", n - 1] == "prefill_last"
    assert phases["full", n - 1] == "prefill"
    assert phases["decode", n] == phases["aligned", n] == "decode0"


def test_cache_rows_are_hashed_one_by_one_as_written_and_as_read(tmp_path, runs):
    trace = runs["kv_aligned"].trace
    found = {
        (r["path"], r["point"], r["part"]): r
        for r in records(save(tmp_path, runs["kv_aligned"]))
        if r["event"] == "stage_trace" and r["point"] in ("kv_write", "kv_read") and r["layer"] == 2
    }
    for key, record in found.items():
        tap = trace.tap(key[0], 2, *key[1:])
        assert record["rows"] == tap.positions.tolist()
        assert record["row_hashes"] == [digest(row) for row in tap.values]
    assert {part for _, stage, part in found if stage == "kv_read"} == {"k", "v", "k_after", "v_after"}


def test_nan_and_inf_are_strings(tmp_path, runs):
    trace = runs["kv_aligned"].trace
    path = trace.paths["decode"]
    key = Key(2, "attn_out")
    values = path.taps[key].values.copy()
    values.ravel()[:2] = np.nan, np.inf
    taps = {**path.taps, key: Tap(path.taps[key].positions, values)}
    spoilt = replace(trace, paths={**trace.paths, "decode": replace(path, taps=taps)})
    file = save(tmp_path, replace(runs["kv_aligned"], trace=spoilt))
    row = next(r for r in records(file) if (r.get("path"), r.get("layer"), r.get("point")) == ("decode", 2, "attn_out"))
    assert (row["nan"], row["inf"], row["max"], row["mean"]) == (1, 1, "inf", "nan")
    assert row["sample"][:2] == ["nan", "inf"]
    assert b"null" not in json.dumps(row).encode()
    assert read_trace(file).problems == []


# ---------------------------------------------------------------- the sidecar


@pytest.mark.parametrize("name", ["kv_aligned", "bf16"])
def test_a_full_trace_comes_back_to_the_byte(tmp_path, runs, name):
    path = save(tmp_path, runs[name], full=True)
    trace, back = runs[name].trace, load_trace(path, path.with_suffix(".safetensors"))
    assert (back.n_prefix, back.steps, back.layers) == (trace.n_prefix, trace.steps, trace.layers)
    assert (back.act_dtype, back.kv_dtype) == (trace.act_dtype, trace.kv_dtype)
    assert back.paths.keys() == trace.paths.keys()
    for mine, other in ((trace.paths[p], back.paths[p]) for p in trace.paths):
        assert (mine.kernels, mine.segments) == (other.kernels, other.segments)
        assert mine.taps.keys() == other.taps.keys()
        for name_ in ("tokens", "rows", "rope_positions"):
            assert np.array_equal(getattr(mine, name_), getattr(other, name_))
        for key, tap in mine.taps.items():
            assert np.array_equal(tap.positions, other.taps[key].positions)
            assert tap.values.dtype == other.taps[key].values.dtype
            assert tap.values.tobytes() == other.taps[key].values.tobytes()


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz"])
def test_8_bit_floats_come_back_to_the_byte(tmp_path, name):
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8).view(getattr(ml_dtypes, name))
    rows = np.arange(4)
    path = PathTrace("full", rows, rows, rows, {Key(0, "kv_write", "k"): Tap(rows, values)})
    save_sidecar(tmp_path / "t.safetensors", Trace(3, 1, (0,), "f32", "fp8_e4m3fn", {"full": path}))
    back = load_sidecar(tmp_path / "t.safetensors").tap("full", 0, "kv_write", "k").values
    assert back.dtype == values.dtype
    assert back.shape == values.shape
    assert back.tobytes() == values.tobytes()


def test_bf16_is_stored_as_bf16(tmp_path, runs):
    path = save(tmp_path, runs["bf16"], full=True).with_suffix(".safetensors")
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["full.0.q_proj.values"]["dtype"] == "BF16"
    assert header["full.0.kv_write.k.values"]["dtype"] == "F16"


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "huge"])
def test_a_damaged_sidecar_is_one_clear_message(tmp_path, runs, damage):
    path = save(tmp_path, runs["kv_aligned"], full=True)
    sidecar = path.with_suffix(".safetensors")
    data = sidecar.read_bytes()
    sidecar.write_bytes({"empty": b"", "cut": data[:-100], "text": b"hello world", "huge": b"\xff" * 64}[damage])
    with pytest.raises(TraceError, match="not the sidecar of a full trace"):
        load_sidecar(sidecar)
    assert analyze(path, "kv_aligned", "--json", str(path.parent / "r.json")) == exit_codes.INCONCLUSIVE
    assert "not the sidecar" in (path.parent / "r.json").read_text()


def test_a_sidecar_of_another_run_is_refused(tmp_path, runs):
    path, other = save(tmp_path, runs["kv_aligned"], full=True), save(tmp_path, runs["broken"], full=True)
    path.with_suffix(".safetensors").write_bytes(other.with_suffix(".safetensors").read_bytes())
    with pytest.raises(TraceError, match="layer 2, stage attn_out"):
        load_trace(path, path.with_suffix(".safetensors"))
    assert analyze(path, "kv_aligned") == exit_codes.INCONCLUSIVE


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize("name", ["as_designed", "kv_aligned", "broken", "bf16", "rowwise"])
@pytest.mark.parametrize("full", [False, True])
def test_the_verdict_is_that_of_the_live_run(tmp_path, runs, name, full):
    judged = runs[name]
    path = save(tmp_path, judged, full=full)
    trace = load_trace(path, path.with_suffix(".safetensors")) if full else None
    found = judge_file(read_trace(path), judged.verdict.mode, trace)
    assert found.verdict.evidence.breaches == ()
    for field in ("status", "scenario", "finding", "first_failure", "indicators", "hypothesis", "rho", "drift"):
        assert getattr(found.verdict, field) == getattr(judged.verdict, field), field
    assert found.stages == judged.checks
    assert [(b.layer, b.stage, b.part, b.right, b.differs) for b in found.bytes] == [
        (b.layer, b.stage, b.part, b.right, b.differs) for b in judged.compared
    ]


CODES = {
    ("kv_aligned", "kv_aligned"): exit_codes.PASSED,
    ("broken", "kv_aligned"): exit_codes.MISMATCH,
    ("as_designed", "as_designed"): exit_codes.MISMATCH,
    ("broken", "as_designed"): exit_codes.MISMATCH,
    ("as_designed", "kv_aligned"): exit_codes.INCONCLUSIVE,
}


@pytest.mark.parametrize("run", CODES)
def test_exit_codes(tmp_path, runs, capsys, run):
    name, mode = run
    path = save(tmp_path, runs[name])
    assert analyze(path, mode) == CODES[run]
    assert "stored rho, no more" in capsys.readouterr().out
    assert "## 13. " in (path.parent / "REPORT.md").read_text()


def test_a_mismatch_that_its_case_expects_passes_as_in_pytest(tmp_path, runs, capsys):
    """Of the mode that it was recorded in only, and not under a contract that the run broke."""
    drift, other = "ALIGNED|ATTENTION_COMPUTATION_MISMATCH", exit_codes.MISMATCH
    for name, mode, expected, code in (
        ("as_designed", "as_designed", drift, exit_codes.PASSED),
        ("as_designed", "as_designed", "PASS", other),
        ("as_designed", "as_designed", f"{drift} (contract bitwise)", other),
        ("broken", "as_designed", drift, other),
        ("broken", "kv_aligned", "status: KV_MISMATCH, layer: 2, stage: attn_out", exit_codes.PASSED),
        ("broken", "kv_aligned", "status: KV_MISMATCH, layer: 4", other),
    ):
        path = save(tmp_path, runs[name])
        edit(path, changing(expected=expected))
        assert analyze(path, mode) == code, (name, mode, expected)
        out = capsys.readouterr().out
        assert ("expected / esperado" in out or "esperado\n" in out) == (code == exit_codes.PASSED), out


def test_aligned_bytes_pass_as_designed(tmp_path, runs):
    """Row N of decode put in the place of the full prefill's: equal bytes everywhere."""
    trace = runs["as_designed"].trace
    full, decode, prefix = (trace.paths[p] for p in ("full", "decode", "prefix"))
    taps = {}
    for key, tap in full.taps.items():
        values = tap.values.copy()
        for other in (prefix, decode):
            there = other.taps[key]
            for i in np.flatnonzero(np.isin(tap.positions, there.positions)):
                values[i] = there.row(int(tap.positions[i]))
        taps[key] = Tap(tap.positions, values)
    same = replace(trace, paths={**trace.paths, "full": replace(full, taps=taps)})
    path = save(tmp_path, replace(runs["as_designed"], trace=same))
    assert analyze(path, "as_designed") == exit_codes.PASSED
    assert judge_file(read_trace(path), "as_designed").verdict.scenario == "ALIGNED"


def test_a_changed_hash_is_found_at_its_stage(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])

    def spoil(record):
        place = [record.get(name) for name in ("point", "path", "layer", "part")]
        if place == ["kv_write", "decode", 2, "v"] and record["event"] == "stage_trace":
            record["row_hashes"][-1] = "0" * 16
        return record

    before = judge_file(read_trace(path), "as_designed").bytes
    edit(path, spoil)
    after = judge_file(read_trace(path), "as_designed").bytes
    changed = [b for a, b in zip(before, after, strict=True) if a.right_hash != b.right_hash]
    assert [(b.layer, b.stage, b.part, b.right) for b in changed] == [(2, "kv_write", "v", "decode")]
    assert not changed[0].equal


def test_a_changed_rho_turns_the_verdict(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])

    def spoil(record):
        place = [record.get(name) for name in ("event", "point", "path", "layer")]
        if place == ["stage_check", "k_rope", "decode", 4]:
            record |= {"rho": 50.0, "rho2": 50.0}
        return record

    edit(path, spoil)
    assert analyze(path, "kv_aligned") == exit_codes.MISMATCH
    failure = judge_file(read_trace(path), "kv_aligned").verdict.first_failure
    assert (failure.layer, failure.stage, failure.phase) == (4, "k_rope", "decode")


def test_rho_of_the_rows_is_used_where_the_check_was_lost(tmp_path, runs):
    path = save(tmp_path, runs["broken"])
    edit(path, lambda r: None if r["event"] == "stage_check" else r)
    verdict = judge_file(read_trace(path), "kv_aligned").verdict
    assert (verdict.status, verdict.first_failure.layer, verdict.first_failure.stage) == ("KV_MISMATCH", 2, "attn_out")


def test_with_the_model_a_full_trace_is_checked_anew(tmp_path, runs, capsys):
    """The stored rho is not believed: it is wiped, and found again from the arrays."""
    for name, code in (("kv_aligned", exit_codes.PASSED), ("broken", exit_codes.MISMATCH)):
        path = save(tmp_path, runs[name], full=True)
        edit(path, lambda r: {**r, **({"rho": 0.0, "rho2": 0.0} if "rho" in r else {})})
        assert analyze(path, "kv_aligned") == exit_codes.PASSED
        assert analyze(path, "kv_aligned", "--model", "synthetic", "--json", str(path.parent / "r.json")) == code
        assert "1 of 1 traces were checked anew" in capsys.readouterr().out
        found = json.loads((path.parent / "r.json").read_text())["results"][0]
        assert found["verdict"]["rho"] == runs[name].verdict.rho
        assert len(found["stages"]) == len(runs[name].checks)


def test_with_the_model_but_without_the_arrays(tmp_path, runs, capsys):
    path = save(tmp_path, runs["kv_aligned"])
    assert analyze(path, "kv_aligned", "--model", "synthetic") == exit_codes.INCONCLUSIVE
    out = capsys.readouterr().out
    assert "0 of 1 traces were checked anew" in out
    assert "0 de 1 trazas se verificaron de nuevo" in out
    assert "0 of 1 traces were checked anew" in (path.parent / "REPORT.md").read_text()
    assert "--greta-trace full" in (path.parent / "REPORT.md").read_text()


def test_with_another_model(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"], full=True)
    source = replace(load_source("synthetic"), origin="sha256:other")
    trace = load_trace(path, path.with_suffix(".safetensors"))
    verdict = judge_file(read_trace(path), "kv_aligned", trace, source).verdict
    assert verdict.status == "INCONCLUSIVE"
    assert "other_weights" in {b.key for b in verdict.evidence.breaches}


def test_a_model_that_is_not_there_or_not_needed(tmp_path, runs, capsys):
    path = save(tmp_path, runs["kv_aligned"], full=True)
    assert analyze(path, "kv_aligned", "--model", "no-such-model") == exit_codes.USAGE
    assert "no-such-model" in capsys.readouterr().err
    assert analyze(path, "as_designed", "--model", "synthetic") == exit_codes.USAGE
    assert "--mode kv_aligned" in capsys.readouterr().err


# ---------------------------------------------------------------- no verdict without evidence


def breaches(path: Path, mode: str = "kv_aligned") -> set[str]:
    result = judge_file(read_trace(path), mode)
    assert result.verdict.status == "INCONCLUSIVE"
    assert result.outcome == "failed"
    return {b.key for b in result.verdict.evidence.breaches}


def without(**wanted: Any) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    return lambda r: None if all(r.get(k) == v for k, v in wanted.items()) else r


def changing(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, **changes} if record["event"] == "trace_header" else record

    return change


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_path(tmp_path, runs, mode):
    path = save(tmp_path, runs["kv_aligned"])
    edit(path, lambda r: None if r["event"] in ("stage_trace", "stage_logits") and r["path"] == "decode" else r)
    assert "path_missing" in breaches(path, mode)
    assert analyze(path, mode) == exit_codes.INCONCLUSIVE


@pytest.mark.parametrize("lost", ["full", "decode"])
@pytest.mark.parametrize("mode", MODES)
def test_a_missing_counterpart(tmp_path, runs, lost, mode):
    path = save(tmp_path, runs["kv_aligned"])
    edit(path, without(event="stage_trace", path=lost, layer=2, point="o_proj"))
    assert "no_counterpart" in breaches(path, mode)


def test_no_rho(tmp_path, runs):
    path = save(tmp_path, runs["as_designed"])
    assert breaches(path) == {"no_rho"}


def test_a_dead_stage(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    edit(
        path,
        lambda r: {**r, "nz_count": 0} if r.get("point") == "o_proj" and r["path"] == "decode" and "hash" in r else r,
    )
    assert breaches(path) == {"dead_tap"}


@pytest.mark.parametrize("name", ["tokens", "rows", "positions"])
def test_other_inputs_on_the_two_paths(tmp_path, runs, name):
    path = save(tmp_path, runs["kv_aligned"])
    paths = records(path)[0]["paths"]
    paths["decode"][name][-1] += 1
    edit(path, changing(paths=paths))
    assert breaches(path) == {f"{name}_differ"}


def test_no_kernel_was_seen(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    paths = records(path)[0]["paths"]
    paths["decode"]["kernels"] = []
    edit(path, changing(paths=paths))
    assert breaches(path) == {"no_kernels"}


def test_what_the_live_run_could_not_show_stays_unshown(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    evidence = {**records(path)[0]["evidence"], "breaches": [{"key": "other_library", "values": {"path": "decode"}}]}
    edit(path, changing(evidence=evidence))
    assert breaches(path) == {"other_library"}


def test_other_hash_algorithms_are_not_compared(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    edit(path, lambda r: {**r, "hash_algo": "fnv"} if r.get("path") == "decode" and "hash" in r else r)
    assert "hash_algo" in breaches(path)


def test_two_records_that_disagree(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    lines = path.read_text().splitlines()
    twice = next(r for r in records(path) if r.get("point") == "q_norm" or r.get("point") == "q_proj")
    lines.insert(-1, json.dumps({**twice, "hash": "f" * 16}))
    path.write_text("\n".join(lines) + "\n")
    edit(path, lambda r: r)
    assert breaches(path) == {"duplicate"}


def test_broken_even_as_designed(tmp_path, runs):
    """What must be equal or alive where drift is expected."""
    for change, stage in (
        ({"hash": "0" * 16}, "embed_out"),
        ({"nan": 3}, "gate_proj"),
        ({"nz_count": 0}, "ffn_act"),
    ):
        path = save(tmp_path, runs["as_designed"])
        wanted = {"path": "decode", "point": stage, "layer": -1 if stage == "embed_out" else 2}
        edit(path, lambda r, w=wanted, c=change: {**r, **c} if all(r.get(k) == v for k, v in w.items()) else r)
        verdict = judge_file(read_trace(path), "as_designed").verdict
        assert (verdict.status, verdict.scenario, verdict.first_failure.stage) == (
            "KV_MISMATCH",
            "REAL_MISMATCH",
            stage,
        )


# ---------------------------------------------------------------- damaged files


def test_a_cut_file_is_inconclusive_and_names_the_line(tmp_path, runs, capsys):
    path = save(tmp_path, runs["kv_aligned"])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    lines = path.read_bytes().count(b"\n") + 1
    assert analyze(path, "kv_aligned") == exit_codes.INCONCLUSIVE
    assert f"{path}:{lines}" in (path.parent / "REPORT.md").read_text().replace("\\", "")
    assert "unreadable record" in capsys.readouterr().out


def test_a_file_cut_between_two_lines_is_cut_too(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:-1]))
    assert breaches(path) == {"unreadable"}


def test_a_lost_line_in_the_middle_is_noticed(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    lines = path.read_text().splitlines()
    stat = next(i for i, line in enumerate(lines) if "attention_stat" in line)
    path.write_text("".join(line + "\n" for i, line in enumerate(lines) if i != stat))
    assert breaches(path) == {"unreadable"}


BAD_LINES = (
    b"{",
    b"\xff\xfe",
    b"[1]",
    b"null",
    b"{}",
    b'{"event":"stage_trace","schema":1}',
    b'{"event":"stage_trace","schema":1,"point":"no_such_stage"}',
    b'{"event":"stage_trace","schema":99}',
    b'{"event":"magic","schema":1}',
    b'{"event":"stage_check","schema":1,"point":"lse"}',
)


@pytest.mark.parametrize("bad", BAD_LINES)
def test_an_unreadable_line_costs_the_pass_but_not_the_rest(tmp_path, runs, bad):
    for name, status in (("kv_aligned", "INCONCLUSIVE"), ("broken", "KV_MISMATCH")):
        path = save(tmp_path, runs[name])
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join([*lines[:5], bad, *lines[5:]]))
        found = read_trace(path)
        assert [line for line, _ in found.problems] == [6]
        verdict = judge_file(found, "kv_aligned").verdict
        assert verdict.status == status
        assert verdict.evidence.breaches[0].key == "unreadable"
        assert f"{path}:6" in verdict.evidence.breaches[0].values["where"]


def test_wrong_values_in_a_line_are_a_word_and_no_traceback(tmp_path, runs):
    path = save(tmp_path, runs["kv_aligned"])
    lines = path.read_bytes().splitlines()
    for name, value in (("shape", "x"), ("layer", "two"), ("rows", 5), ("hash", None), ("nz_count", 1.5), ("min", [])):
        for point in ("attn_norm", "kv_write"):
            at, record = next((i, r) for i, r in enumerate(map(json.loads, lines)) if r.get("point") == point)
            bad = json.dumps({**record, name: value}).encode()
            path.write_bytes(b"\n".join([*lines[:at], bad, *lines[at + 1 :]]) + b"\n")
            judge_file(read_trace(path), "kv_aligned")


def test_a_header_that_is_no_header(tmp_path, runs):
    wrong = (
        ("n_prefix", "x"),
        ("paths", 5),
        ("paths", {"full": 1}),
        ("paths", {}),
        ("evidence", 3),
        ("drift", {"x": 1}),
    )
    for name, value in wrong:
        path = save(tmp_path, runs["kv_aligned"])
        edit(path, changing(**{name: value}))
        assert analyze(path, "kv_aligned") == exit_codes.INCONCLUSIVE, (name, value)


# ---------------------------------------------------------------- the command


def test_no_records(tmp_path, capsys):
    (tmp_path / "traces").mkdir()
    assert analyze(tmp_path / "traces" / "x", "kv_aligned") == exit_codes.INCONCLUSIVE
    out = capsys.readouterr().out
    assert "no trace records" in out
    assert "no hay registros" in out
    assert "INCONCLUSIVE" not in out
    assert out.count("--greta-trace=stats") == 2
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file(tmp_path, text):
    (tmp_path / "p0_kv_aligned_trace.jsonl").write_text(text)
    assert analyze(tmp_path / "x", "kv_aligned") == exit_codes.INCONCLUSIVE


def test_a_folder_with_the_name_of_a_trace(tmp_path):
    (tmp_path / "p0_kv_aligned_trace.jsonl").mkdir()
    assert analyze(tmp_path / "x", "kv_aligned", "--json", str(tmp_path / "r.json")) == exit_codes.INCONCLUSIVE
    assert "unreadable" in (tmp_path / "r.json").read_text()


def test_not_a_folder(tmp_path, capsys):
    assert analyze(tmp_path / "nowhere" / "x", "kv_aligned") == exit_codes.USAGE
    error = capsys.readouterr().err
    assert "is not a folder" in error
    assert "no es una carpeta" in error


def test_an_unknown_mode(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        analyze(tmp_path / "x", "sideways")
    assert caught.value.code == exit_codes.USAGE
    assert "as_designed" in capsys.readouterr().err


def test_an_output_that_cannot_be_written(tmp_path, runs, capsys):
    path = save(tmp_path, runs["kv_aligned"])
    assert analyze(path, "kv_aligned", "--json", str(path / "x.json")) == exit_codes.USAGE
    assert "greta analyze:" in capsys.readouterr().err
    (path.parent / "file").write_text("x")
    assert analyze(path, "kv_aligned", "--tsv", str(path.parent / "file" / "x.tsv")) == exit_codes.USAGE
    error = capsys.readouterr().err
    assert error.startswith("greta analyze: ")
    assert "with --tsv" in error
    assert "--greta-artifacts" not in error


def test_the_folder_of_an_output_is_made(tmp_path, runs):
    path, new = save(tmp_path, runs["kv_aligned"]), tmp_path / "new" / "er"
    more = ["--output", str(new / "r.md"), "--tsv", str(new / "t" / "a.tsv"), "--json", str(new / "j" / "r.json")]
    assert analyze(path, "kv_aligned", *more) == exit_codes.PASSED
    assert [p.name for p in sorted(new.rglob("*.*"))] == ["r.json", "r.md", "a.tsv"]


def test_it_says_where_the_report_is(tmp_path, runs, capsys):
    path = save(tmp_path, runs["kv_aligned"])
    analyze(path, "kv_aligned")
    assert f"written to / escrito en: {path.parent / 'REPORT.md'}" in capsys.readouterr().out


def test_only_traces_of_the_mode_are_judged(tmp_path, runs, capsys):
    aligned, designed = (save(tmp_path, runs[name]) for name in ("kv_aligned", "as_designed"))
    (aligned.parent / designed.name).write_bytes(designed.read_bytes())
    assert analyze(aligned, "kv_aligned", "--lang", "en") == exit_codes.PASSED
    assert "1 traces of other modes" in capsys.readouterr().out


def test_a_mismatch_outweighs_what_is_inconclusive(tmp_path, runs):
    path, other = save(tmp_path, runs["broken"], "a"), save(tmp_path, runs["kv_aligned"], "b")
    (path.parent / "b_kv_aligned_trace.jsonl").write_bytes(other.read_bytes()[:5000])
    assert analyze(path, "kv_aligned") == exit_codes.MISMATCH


def test_tsv_and_json(tmp_path, runs):
    path = save(tmp_path, runs["broken"])
    tsv, js = path.parent / "a.tsv", path.parent / "r.json"
    analyze(path, "kv_aligned", "--tsv", str(tsv), "--json", str(js), "--author", "Ada | <b>")
    assert "\t2\tattn_out\t" in tsv.read_text()
    found = json.loads(js.read_text())
    assert (found["exit_code"], found["mode"]) == (exit_codes.MISMATCH, "kv_aligned")
    assert found["results"][0]["verdict"]["first_failure"]["stage"] == "attn_out"
    assert "Ada \\| \\<b\\>" in (path.parent / "REPORT.md").read_text()


def test_greta_s_own_traces_are_not_ours(tmp_path):
    line = '{"event":"stage_trace","prompt_id":"p0","phase":"prefill_last","point":"x_in","layer":0,"hash":7}'
    (tmp_path / "p0_trace.jsonl").write_text(f"{line}\n" * 100)
    assert analyze(tmp_path / "x", "kv_aligned") == exit_codes.INCONCLUSIVE
    assert len((tmp_path / "REPORT.md").read_text()) < 20_000


def test_packed_traces_in_subfolders_are_read_as_they_are(tmp_path, runs, capsys):
    path = save(tmp_path, runs["kv_aligned"], full=True)
    below = path.parent / "earlier"
    below.mkdir()
    (below / (path.name + ".gz")).write_bytes(gzip.compress(path.read_bytes()))
    path.with_suffix(".safetensors").rename(below / path.with_suffix(".safetensors").name)
    path.unlink()
    assert analyze(path, "kv_aligned") == 0
    assert "earlier/p0" in capsys.readouterr().out


@pytest.mark.parametrize("event", ["stage_check", "stage_trace"])
def test_a_rho_that_is_no_number_is_no_pass(tmp_path, runs, event):
    path = save(tmp_path, runs["kv_aligned"])
    edit(path, lambda r: r | {"rho": "nan", "rho2": "nan"} if r["event"] == event and "rho" in r else r)
    assert analyze(path, "kv_aligned") == exit_codes.INCONCLUSIVE


def test_of_two_checks_of_one_place_the_worse_counts(tmp_path, runs):
    path = save(tmp_path, runs["broken"])
    found = records(path)
    again = [r | {"rho": 0.1, "rho2": 0.1} for r in found if r["event"] == "stage_check"]
    path.write_text("".join(json.dumps(r) + "\n" for r in [*found[:-1], *again, found[-1]]))
    edit(path, lambda r: r)
    assert analyze(path, "kv_aligned") == exit_codes.MISMATCH
