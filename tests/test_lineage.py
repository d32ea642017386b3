"""``greta analyze`` on traces as GRETA CORE writes them: written by hand from the documented form, right and wrong."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_greta.cli import main
from pytest_greta.lineage.parsing import LineError, parse

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
