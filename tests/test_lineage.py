"""``greta analyze`` on traces as GRETA CORE writes them: written by hand from the documented form, right and wrong."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_greta.cli import main
from pytest_greta.lineage import pairing
from pytest_greta.lineage.parsing import LineError, parse
from pytest_greta.trace.lines import LIMIT

ROW = [0.0078, -0.0067, -0.0053, -0.0111]


def fnv(values: list[float]) -> int:
    """The hash of the old traces, from its description."""
    h = 1469598103934665603
    for value in values[:256]:
        h = ((h ^ struct.unpack("<I", struct.pack("<f", value))[0]) * 1099511628211) % 2**64
    return h


def row(
    phase: str, point: str = "attn_out", layer: int = 0, pos: int = 3, values: list[float] | None = None, **more: Any
):
    values = ROW if values is None else values
    prefill = phase.startswith("prefill")
    record = {
        "event": "stage_trace", "prompt_id": "p0", "phase": phase, "point": point, "layer": layer,
        "step": 0, "pos_id": pos, "seq_len": pos + 1 if prefill else 1, "tokens_total": 4,
        "token_index": pos if prefill else 0, "stride_elems": len(values), "sample_n": len(values), "ptr": 1,
        "offset_bytes": 0, "hash": fnv(values), "nan": 0, "inf": 0, "nz_count": sum(v != 0 for v in values),
        "sample": values,
    }  # fmt: skip
    return record | more


def pair(**more: Any) -> list[dict[str, Any]]:
    return [row("prefill_last"), row("decode0", **more)]


def analyze(tmp_path: Path, records: list[Any], mode: str = "kv_aligned") -> tuple[int, dict[str, Any]]:
    traces = tmp_path / "traces"
    traces.mkdir(exist_ok=True)
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
    (traces / "p0_trace.jsonl").write_text(text)
    return command(tmp_path, mode)


def command(tmp_path: Path, mode: str = "kv_aligned") -> tuple[int, dict[str, Any]]:
    words = ["analyze", "--traces-dir", str(tmp_path / "traces"), "--mode", mode]
    words += ["--output", str(tmp_path / "r.md"), "--json", str(tmp_path / "r.json"), "--tsv", str(tmp_path / "r.tsv")]
    code = main(words)
    return code, json.loads((tmp_path / "r.json").read_text())["results"][0]["verdict"]


def keys(verdict: dict[str, Any]) -> set[str]:
    return {breach["key"] for breach in verdict["evidence"]["breaches"]}


@pytest.mark.parametrize("mode", ["kv_aligned", "as_designed"])
def test_equal_rows_that_the_hash_covers_pass(tmp_path, mode):
    code, verdict = analyze(tmp_path, pair(), mode)
    assert (code, verdict["scenario"]) == (0, "ALIGNED")


def test_the_order_and_gzip_do_not_matter(tmp_path):
    (tmp_path / "traces").mkdir()
    for name, record in zip(("p0_prefill", "p0_decode"), pair(), strict=True):
        (tmp_path / "traces" / f"{name}.jsonl.gz").write_bytes(gzip.compress(json.dumps(record).encode()))
    assert command(tmp_path)[0] == 0
    (tmp_path / "2").mkdir()
    assert analyze(tmp_path / "2", pair()[::-1])[0] == 0


def test_other_positions_are_inconclusive(tmp_path, capsys):
    code, verdict = analyze(tmp_path, [row("prefill_last", pos=37), row("decode0", pos=0)])
    assert (code, verdict["status"]) == (3, "INCONCLUSIVE")
    assert "unpaired_position" in keys(verdict)
    assert "positions differ" in " ".join(capsys.readouterr().out.split())


WRONG = {
    "zero": ({"values": [0.0] * 4}, "cause.dead_row"),
    "constant": ({"values": [0.5] * 4}, "cause.constant_row"),
    "nan": ({"nan": 1}, "cause.not_finite"),
    "shape": ({"values": ROW[:3]}, "cause.shape"),
    "token": ({"token_id": 7}, "cause.other_token"),
}


@pytest.mark.parametrize("mode", ["kv_aligned", "as_designed"])
@pytest.mark.parametrize("name", WRONG)
def test_what_must_hold_is_a_real_mismatch(tmp_path, name, mode):
    change, cause = WRONG[name]
    prefill = row("prefill_last", layer=2, token_id=5)
    code, verdict = analyze(tmp_path, [*pair(), prefill, row("decode0", layer=2, **change)], mode)
    failure = verdict["first_failure"]
    assert (code, verdict["scenario"]) == (1, "REAL_MISMATCH")
    assert (failure["layer"], failure["stage"], failure["phase"], failure["causes"]) == (
        2,
        "attn_out",
        "decode",
        [cause],
    )


def test_differing_rows_need_a_reference(tmp_path):
    records = pair(values=[0.0078, -0.0067, -0.0053, -0.0112])
    code, verdict = analyze(tmp_path, records)
    assert (code, verdict["reason"]) == (3, "no_reference")
    assert verdict["evidence"]["breaches"][0]["values"]["apart"] == "0.0001"
    code, verdict = analyze(tmp_path, records, "as_designed")
    assert (code, verdict["scenario"]) == (1, "ATTENTION_COMPUTATION_MISMATCH")


def test_a_hash_says_nothing_beyond_its_words(tmp_path):
    wide = {"stride_elems": 4096}
    records = [row("prefill_last", **wide), row("decode0", **wide)]
    assert keys(analyze(tmp_path, records)[1]) == {"hash_narrow"}
    logits = {"event": "stage_logits", "min": -1.0, "max": 2.0, "top1_id": 3, "vocab": 49152}
    records += [row(phase, "logits", -1) | logits for phase in ("prefill_last", "decode0")]
    assert analyze(tmp_path, records)[0] == 0
    records[-1] |= {"top1_id": 4}
    assert analyze(tmp_path, records)[1]["reason"] == "no_reference"


def test_metrics_show_faults_and_no_pass(tmp_path):
    base = {"metric": "norm_out", "prompt": "p0", "layer": 0, "logical_tok_idx": 2, "pos_id": 2, "bytes_size": 16}
    prefill, decode = (
        base | {"phase": "prefill_last", "seq_len_used": 3},
        base | {"phase": "decode0", "seq_len_used": 1},
    )
    verdict = analyze(tmp_path, [prefill | {"data": ROW}, decode | {"data": ROW}])[1]
    assert keys(verdict) == {"printed_only", "no_attention"}
    code, verdict = analyze(tmp_path, [prefill | {"data": ROW}, decode | {"data": [-0.0, 0, 0, -0.0]}])
    assert (code, verdict["first_failure"]["stage"]) == (1, "attn_norm")


def test_the_same_run_twice(tmp_path, capsys):
    code, verdict = analyze(tmp_path, pair(seq_len=4, token_index=3))
    assert (code, keys(verdict)) == (3, {"same_run"})
    assert "the same run twice?" in capsys.readouterr().out


def test_unknown_points_are_named_and_outside(tmp_path, capsys):
    assert analyze(tmp_path, [*pair(), row("decode0", "flux|\x1b[31m", values=[0.0] * 4)])[0] == 0
    out = capsys.readouterr().out
    assert "outside the verdict: flux|\\x1b" in " ".join(out.split())
    assert "\x1b" not in out + (tmp_path / "r.md").read_text()


BAD = {
    "{": "line_json",
    "[1]": "line_object",
    '{"event":"magic"}': "line_event",
    '{"event":"stage_trace","layer":1, "layer" :1}': "line_twice",
    json.dumps(row("decode0", layer="two")): "line_whole",
    json.dumps(row("decode0", sample=["x"])): "line_numbers",
    json.dumps(row("sideways")): "line_phase",
    json.dumps(row("decode0", prompt_id=5)): "line_text",
    "[" * 5000: "line_json",
    '"' + '\\"' * 5000: "line_json",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_is_named_and_the_rest_judged(tmp_path, bad):
    code, verdict = analyze(tmp_path, [*pair(), bad])
    assert (code, verdict["reason"], verdict["evidence"]["rows"]) == (3, BAD[bad], 1)
    assert verdict["evidence"]["breaches"][0]["values"]["where"].endswith("p0_trace.jsonl:3")
    assert analyze(tmp_path, [*pair(values=[0.0] * 4), bad])[0] == 1


def test_bare_nan_and_the_known_double_key() -> None:
    line = b'{"a":[nan,-nan,inf,-inf,1],"id":"nan, inf","offset_bytes":1,"offset_bytes":2}'
    record = parse(line)
    assert str(record["a"]) == "[nan, nan, inf, -inf, 1]"
    assert (record["id"], record["offset_bytes"]) == ("nan, inf", 1)
    assert parse(b'{"id":"a:b","offset_bytes":1,"offset_bytes":2}')["offset_bytes"] == 1
    for line in (b'{"hash" :1,"hash":2}', b'{"hash":1,"x":"offset_bytes","hash":2}', b'{"a":"x:y","a":1}'):
        with pytest.raises(LineError):
            parse(line)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=60).map(lambda t: json.dumps({"event": t}).encode())))
def test_any_line_is_an_object_or_one_error(line: bytes) -> None:
    with contextlib.suppress(LineError):
        assert isinstance(parse(line), dict)


def logits(tmp_path: Path, phase: str, text: str | None) -> None:
    folder = tmp_path / "traces" / "runs" / "kv_aligned_1" / "seed_1" / phase
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    if text is not None:
        (folder / "logits.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def token(index: int, values: list[float], id_: int = 5) -> str:
    return json.dumps({"token_idx": index, "token_id": id_, "logits": values}) + "\n"


LOGITS = {
    "equal": (token(3, ROW), 0, "ALIGNED"),
    "differs": (token(3, [*ROW[:3], 0.5]), 3, None),
    "empty": ("", 3, None),
    "missing": (None, 3, None),
    "bad": (token(3, ROW) + "{", 3, None),
    "elsewhere": (token(9, ROW), 3, None),
    "zero": (token(3, [0.0] * 4), 1, "REAL_MISMATCH"),
    "nan": (token(3, ROW).replace("0.0078", "nan"), 1, "REAL_MISMATCH"),
    "token": (token(3, ROW, 6), 1, "REAL_MISMATCH"),
    "shape": (token(3, ROW[:3]), 1, "REAL_MISMATCH"),
}


@pytest.mark.parametrize("name", LOGITS)
def test_logits_files(tmp_path, name):
    text, code, scenario = LOGITS[name]
    logits(tmp_path, "prefill", token(2, ROW[::-1]) + token(3, ROW))
    logits(tmp_path, "decode", text)
    found, verdict = command(tmp_path)
    assert (found, verdict["scenario"]) == (code, scenario)


def test_one_file_in_both_places_proves_nothing(tmp_path, capsys):
    text = token(2, ROW[::-1]) + token(3, ROW)
    logits(tmp_path, "prefill", text)
    logits(tmp_path, "decode", text)
    assert command(tmp_path)[0] == 3
    assert "the same run twice?" in capsys.readouterr().out


def test_a_truncated_logits_file_is_inconclusive(tmp_path):
    for phase in ("prefill", "decode"):
        logits(tmp_path, phase, token(3, ROW))
    path = next((tmp_path / "traces").rglob("decode/logits.jsonl.gz"))
    path.write_bytes(path.read_bytes()[:-9])
    assert command(tmp_path)[0] == 3


def results(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {r["case"]: r for r in json.loads((tmp_path / "r.json").read_text())["results"]}


def test_the_metadata_of_a_run_is_shown_and_held_together(tmp_path, capsys):
    for phase, seed in (("prefill", 1), ("decode", 1)):
        logits(tmp_path, phase, token(3, ROW) + token(4, ROW if phase == "decode" else ROW[::-1]))
        path = tmp_path / "traces/runs/kv_aligned_1/seed_1" / phase / "metadata.json"
        path.write_text(json.dumps({"seed": seed, "run": {"model": "greta-v1|<b>"}, "host": phase}))
    command(tmp_path)
    (found,) = results(tmp_path).values()
    assert found["environment"]["decode"] == {"seed": "1", "run.model": "greta-v1|<b>", "host": "decode"}
    assert r"greta-v1\|\<b\>" in (tmp_path / "r.md").read_text()
    path.write_text('{"seed": 2}')
    code, verdict = command(tmp_path)
    assert code == 3
    assert "metadata_apart" in keys(verdict)
    path.write_text("{")
    assert "metadata_unread" in keys(command(tmp_path)[1])


def test_an_empty_seed_folder_is_named(tmp_path):
    (tmp_path / "traces/runs/kv_aligned_0/seed_9").mkdir(parents=True)
    assert command(tmp_path)[0] == 3
    (found,) = results(tmp_path).values()
    assert found["case"] == "runs/kv_aligned_0/seed_9"
    assert "logits_missing" in keys(found["verdict"])


def test_a_prompt_in_two_folders_is_two_runs(tmp_path):
    for name, records in (("a", [row("prefill_last")]), ("b", [row("decode0")]), ("c/d", pair())):
        (tmp_path / "traces" / name).mkdir(parents=True)
        text = "\n".join(map(json.dumps, records))
        (tmp_path / "traces" / name / "x.jsonl").write_text(text)
    assert command(tmp_path)[0] == 3
    found = {case: (r["verdict"]["status"], keys(r["verdict"])) for case, r in results(tmp_path).items()}
    assert found["c/d/p0"] == ("PASS", set())
    assert "phase_missing" in found["a/p0"][1] & found["b/p0"][1]


@pytest.mark.parametrize(
    "scores",
    [
        {"attention_scores": {"pre_softmax": [-2.0, 4.0], "post_softmax": [0.25, 0.75]}},
        {"raw_scores": [-2.0, 4.0], "softmax_scores": [0.25, 0.75]},
    ],
)
def test_attention_scores_are_shown(tmp_path, scores):
    assert analyze(tmp_path, [row("prefill_last", **scores), row("decode0", **scores)])[0] == 0
    (found,) = results(tmp_path).values()
    shown = [(s["stage"], s["path"], s["min"], s["max"], s["mean"], s["source"]) for s in found["stats"]]
    assert shown == [
        ("scores", "decode", -2.0, 4.0, 1.0, "trace"),
        ("scores", "full", -2.0, 4.0, 1.0, "trace"),
        ("probs", "decode", 0.25, 0.75, 0.5, "trace"),
        ("probs", "full", 0.25, 0.75, 0.5, "trace"),
    ]
    only = {"event": "attention_scores", "prompt_id": "p0", "phase": "decode0", "layer": 1, **scores}
    assert analyze(tmp_path, [*pair(), only])[0] == 0
    code, verdict = analyze(tmp_path, [*pair(), json.dumps({**only, "raw_scores": [1.0]}).replace("1.0]", "nan]")])
    assert (code, verdict["first_failure"]["stage"]) == (1, "scores")
    assert "line_numbers" in keys(analyze(tmp_path, [*pair(), {**only, "raw_scores": ["x"]}])[1])


HOSTILE = "p0|`\x1b[31m<b>\t\n\u202e=1+1"


def test_ids_are_text_wherever_they_are_shown(tmp_path, capsys):
    assert analyze(tmp_path, [{**record, "prompt_id": HOSTILE} for record in pair(values=[0.0] * 4)])[0] == 1
    shown = capsys.readouterr().out + (tmp_path / "r.md").read_text() + (tmp_path / "r.tsv").read_text()
    assert not [c for c in "\x1b\u202e" if c in shown]
    assert "<b>" not in (tmp_path / "r.md").read_text()
    lines = (tmp_path / "r.tsv").read_text().splitlines()
    assert {line.count("\t") for line in lines} == {lines[0].count("\t")}


def test_ids_of_formulas_are_text_in_a_spreadsheet(tmp_path):
    analyze(tmp_path, [{**record, "prompt_id": "=1+1"} for record in pair()])
    assert (tmp_path / "r.tsv").read_text().splitlines()[1].split("\t")[2] == "'=1+1"


def test_a_thousand_prompts_are_judged_one_by_one(tmp_path):
    records = [{**record, "prompt_id": f"p{n:04d}"} for n in range(1000) for record in pair()]
    assert analyze(tmp_path, records)[0] == 0
    assert len(results(tmp_path)) == 1000


def test_a_gigantic_line_is_named_and_the_rest_judged(tmp_path):
    huge = json.dumps(row("decode0", point="x_in"))[:-1] + ',"x":"' + "y" * (LIMIT + 10) + '"}'
    code, verdict = analyze(tmp_path, [huge, *pair()])
    assert (code, verdict["reason"], verdict["evidence"]["rows"]) == (3, "line_long", 1)
    assert verdict["evidence"]["breaches"][0]["values"]["where"].endswith("p0_trace.jsonl:1")


@pytest.mark.parametrize("value", ["1e999", "-1e999", "123456789012345678901234567890", "true", "null", "{}"])
def test_wrong_numbers_are_named(tmp_path, value):
    text = json.dumps(row("decode0", layer=9)).replace('"pos_id": 3', f'"pos_id": {value}')
    code, verdict = analyze(tmp_path, [*pair(), text])
    assert (code, verdict["evidence"]["rows"]) == (3, 1)
    assert verdict["evidence"]["breaches"][0]["values"]["where"].endswith(":3")


def test_what_waits_is_bounded_by_its_bytes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(pairing, "HELD_BYTES", 4_000)
    wide = [row(phase, pos=pos, values=ROW * 100) for phase in ("prefill_last", "decode0") for pos in range(6)]
    code, verdict = analyze(tmp_path, wide)
    assert code == 3
    assert "too_many_waiting" in keys(verdict)
    together = [wide[n // 2 + 6 * (n % 2)] for n in range(12)]
    assert "too_many_waiting" not in keys(analyze(tmp_path, together)[1])


def test_a_point_of_any_length_is_a_bad_line(tmp_path):
    assert "line_text" in keys(analyze(tmp_path, [*pair(), row("decode0", point="x" * 5000)])[1])
    assert analyze(tmp_path, pair(src_ptr="y" * 100_000))[0] == 0


def long_trace(path: Path, megabytes: int) -> None:
    """As GRETA's writers make it: 256 printed values a record, each position's prefill record before its decode's."""
    chosen = random.Random(7)
    rows = [",".join(f"{chosen.gauss(0, 1):.6g}" for _ in range(256)) for _ in range(64)]
    points = ("x_in", "attn_norm", "q", "k", "v", "attn_out", "wo_out", "residual_out", "ffn_norm", "mlp_out", "x_out")
    line = json.dumps({**row("prefill_last"), "stride_elems": 256, "sample_n": 256, "nz_count": 256, "sample": "@"})
    head, tail = line.replace('"@"', "@").split("@")
    with path.open("w") as file:
        position = 0
        while file.tell() < megabytes << 20:
            for phase, step in (("prefill_last", 0), ("decode0", 1)):
                text = head.replace('"prefill_last"', f'"{phase}"').replace('"pos_id": 3', f'"pos_id": {position}')
                for layer in range(32):
                    for number, point in enumerate(points):
                        values = rows[(position * 31 + layer * 7 + number) % 64]
                        named = text.replace('"layer": 0', f'"layer": {layer}').replace("attn_out", point, 1)
                        named = named.replace('"ptr": 1', f'"ptr": {2 + step}')
                        file.write(f"{named}[{values}]{tail}\n")
            position += 1


@pytest.mark.slow
def test_rate_and_memory_of_a_long_trace(tmp_path):
    """No less than a third of what a bare parser does on one core, in less than 300 MiB whatever the size."""
    (tmp_path / "traces").mkdir()
    path = tmp_path / "traces" / "p0_trace.jsonl"
    long_trace(path, int(os.environ.get("GRETA_TEST_TRACE_MB", "300")))
    words = ["analyze", "--traces-dir", str(path.parent), "--mode", "kv_aligned", "--output", str(tmp_path / "r.md")]
    bare = "import orjson, sys\nfor line in open(sys.argv[1], 'rb'): orjson.loads(line)"
    took = []
    for command_ in ([sys.executable, "-c", bare, str(path)], [sys.executable, "-m", "pytest_greta.cli", *words]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command_, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    mebibytes = after.ru_maxrss / 1024
    print(f"{path.stat().st_size / 1e6:.0f} MB: {took[0] / took[1]:.2f} of a bare pass, {mebibytes:.0f} MiB")
    assert took[0] / took[1] >= 1 / 3
    assert mebibytes < 300
