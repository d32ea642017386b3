"""``greta.Recorder``: another engine's values, judged by ``greta analyze --model``; the example of the docs is the
engine."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import pytest_greta as greta
from pytest_greta.cli import main
from pytest_greta.recorder import RecordError
from pytest_greta.trace.sidecar import load_sidecar

EXAMPLE = Path(__file__).parents[1] / "docs/examples/recorder/engine.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recorder_example", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(example: ModuleType, folder: Path, bug: bool = False, skip=lambda phase, layer, name: False, **keys):
    """A recorder that the example's engine has filled, but for what ``skip`` drops."""
    model = greta.load_model("synthetic")
    tokens = model.tokenize("Hi, you two.")
    record = greta.Recorder(folder, "synthetic", tokens, name="mine", **keys)
    kept = record.stage
    record.stage = lambda *args: None if skip(*args[:3]) else kept(*args)  # type: ignore[method-assign]
    example.Engine(model, record, bug).run("prefill", tokens, 0)
    two = example.Engine(model, record, bug)
    two.run("prefix", tokens[:-1], 0)
    two.run("decode", tokens[-1:], len(tokens) - 1)
    record.stage = kept  # type: ignore[method-assign]
    return record


def analyze(folder: Path, *more: str) -> int:
    written = ["--output", str(folder / "r.md"), "--json", str(folder / "r.json")]
    return main(
        ["analyze", "--traces-dir", str(folder), "--mode", "kv_aligned", *written, "--model", "synthetic", *more]
    )


def verdict(folder: Path) -> dict:
    (result,) = json.loads((folder / "r.json").read_text())["results"]
    return result["verdict"]


def test_the_examples_engine_is_judged_and_passes(tmp_path, monkeypatch, example, capsys):
    monkeypatch.setattr("sys.argv", ["engine.py", str(tmp_path)])
    example.main()
    assert analyze(tmp_path) == 0
    found = verdict(tmp_path)
    assert (found["status"], found["scenario"]) == ("PASS", "STRUCTURAL_DRIFT")
    assert found["evidence"]["elements"] > 100_000
    assert {run["library"] for run in found["evidence"]["kernels"]} == {"mine 1.0"}
    assert "PASS" in capsys.readouterr().out


def test_the_examples_bug_is_found_where_it_is(tmp_path, monkeypatch, example):
    monkeypatch.setattr("sys.argv", ["engine.py", str(tmp_path), "--bug"])
    example.main()
    assert analyze(tmp_path) == 1
    found = verdict(tmp_path)
    first = found["first_failure"]
    assert (found["scenario"], first["layer"], first["stage"], first["phase"]) == (
        "KV_MISALIGNMENT",
        0,
        "q_rope",
        "decode",
    )


@pytest.mark.parametrize("stage", ["lse", "attn_out", "kv_write", "o_proj", "x_out", "logits"])
def test_a_wrong_value_is_found_at_its_stage(tmp_path, example, stage):
    """One element of the decoded row, in the middle of the model, by a thousandth."""
    layer = -1 if stage == "logits" else 3
    record = recorded(example, tmp_path)
    for (path, key), taps in record._parts.items():
        if path == "decode" and key.layer == layer and key.stage == stage:
            flat = taps[0].values.reshape(-1)
            flat[np.argmax(np.abs(flat))] *= 1.001
    record.close()
    assert analyze(tmp_path) == 1
    first = verdict(tmp_path)["first_failure"]
    assert (first["layer"], first["stage"], first["phase"]) == (layer, stage, "decode")
    if stage == "attn_out":  # nobody made the third call that says who is to blame
        assert not [cause for cause in first["causes"] if cause.startswith("who.")]


def test_an_engine_that_taps_little_is_judged_on_that(tmp_path, example):
    few = {"q_rope", "k_rope", "v_proj", "kv_write", "attn_out"}
    recorded(example, tmp_path, skip=lambda phase, layer, name: name not in few).close()
    assert analyze(tmp_path) == 0
    trace = load_sidecar(tmp_path / "mine_trace.safetensors")
    assert set(trace.facts["recorded"]) == few


@pytest.mark.parametrize("dropped", ["q_rope", "kv_write", "attn_out"])
def test_what_is_needed_is_asked_for(tmp_path, example, dropped):
    record = recorded(example, tmp_path, skip=lambda phase, layer, name: (phase, layer, name) == ("decode", 2, dropped))
    with pytest.raises(RecordError, match=rf"run decode: layer 2 {dropped} was not recorded"):
        record.close()
    assert not list(tmp_path.iterdir())


def test_a_stage_that_is_missing_in_one_run_is_inconclusive(tmp_path, example):
    recorded(example, tmp_path, skip=lambda *place: place == ("decode", 4, "o_proj")).close()
    assert analyze(tmp_path) == 3
    assert "o_proj" in json.dumps(verdict(tmp_path)["evidence"]["breaches"])


def test_another_models_weights_are_refused(tmp_path, example):
    recorded(example, tmp_path).close()
    assert analyze(tmp_path, "--model", "synthetic:qwen3") == 3
    assert "other_weights" in json.dumps(verdict(tmp_path)["evidence"]["breaches"])


def test_json_lines_are_the_same_as_calls(tmp_path, example):
    """As a C++ engine would write them: bytes in base64."""
    record = recorded(example, tmp_path / "a")
    names = {"full": "prefill", "prefix": "prefix", "decode": "decode"}
    lines = [
        {
            "phase": names[path],
            "layer": key.layer,
            "stage": key.stage,
            "part": key.part,
            "positions": tap.positions.tolist(),
            "dtype": "f32",
            "shape": list(tap.values.shape),
            "data": base64.b64encode(tap.values.tobytes()).decode(),
        }
        for (path, key), taps in record._parts.items()
        for tap in taps
    ]
    file = tmp_path / "stages.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    other = greta.Recorder(tmp_path / "b", "synthetic", record.tokens.tolist(), name="mine")
    other.read(file)
    record.close()
    other.close()
    one, two = ((tmp_path / folder / "mine_trace.safetensors").read_bytes() for folder in "ab")
    assert one == two


START = '{"phase":"decode","layer":0,"stage":"q_rope","positions":[0],'
BAD_LINES = {
    "{": "JSONDecodeError",
    "[]": "TypeError",
    '{"phase": "decode"}': "KeyError: 'data'",
    START + '"dtype":"f64","shape":[1],"data":""}': "'f64'",
    START + '"dtype":"f32","shape":[1],"data":"%"}': "Error",
    START + '"dtype":"f32","shape":[9],"data":"AAAA"}': "ValueError",
    START.replace("decode", "later") + '"dtype":"f32","shape":[1],"data":"AAAAAA=="}': "later",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_lines_are_named(tmp_path, line):
    file = tmp_path / "s.jsonl"
    file.write_text(f"\n{line}\n")
    record = greta.Recorder(tmp_path, "synthetic", [1, 2, 3])
    with pytest.raises(RecordError, match=r"s\.jsonl:2: .*expected phase, layer, stage") as caught:
        record.read(file)
    assert BAD_LINES[line] in str(caught.value)


ROW = np.zeros((1, 8, 32), np.float32)
BAD_CALLS = [
    (("later", 0, "q_rope", [2], ROW), "unknown phase 'later'; expected one of prefill, prefix, decode"),
    (("decode", 0, "q_rot", [2], ROW), "decode layer 0 q_rot: the model has no such stage; it has x_in, attn_norm"),
    (("decode", 0, "q_norm", [2], ROW), "the model has no such stage"),
    (("decode", 9, "q_rope", [2], ROW), "decode layer 9 q_rope: the model has no such stage"),
    (("decode", 0, "kv_write", [2], ROW), "kv_write: the model has no such stage"),
    (("decode", 0, "q_rope", [2], ROW[:, :4]), r"the array is \[1, 4, 32\], expected 1 rows .* of \[8, 32\]"),
    (("decode", 0, "q_rope", [1, 2], ROW), "expected 2 rows"),
    (("decode", 0, "q_rope", [], ROW[:0]), "expected 0 rows"),
    (("decode", 0, "q_rope", [1], ROW), "row 1 is not of this run, expected 2 to 2"),
    (("prefix", 0, "q_rope", [2], ROW), "row 2 is not of this run, expected 0 to 1"),
    (("prefill", 0, "q_rope", [-1], ROW), "row -1 is not of this run"),
    (("decode", 0, "q_rope", [2], ROW.astype(np.float64)), "float64 is not a storage type"),
]


@pytest.mark.parametrize(("call", "words"), BAD_CALLS, ids=[words[:30] for _, words in BAD_CALLS])
def test_bad_calls_are_named(tmp_path, call, words):
    record = greta.Recorder(tmp_path, "synthetic", [1, 2, 3])
    with pytest.raises(RecordError, match=words):
        record.stage(*call)


def test_a_row_that_comes_twice_and_types_that_differ(tmp_path, example):
    record = recorded(example, tmp_path)
    record.stage("decode", 1, "q_rope", [record.n_prefix], ROW)
    with pytest.raises(RecordError, match=r"layer 1 q_rope: row \d+ was recorded twice"):
        record.close()
    other = recorded(example, tmp_path, skip=lambda *place: place == ("decode", 1, "q_rope"))
    other.stage("decode", 1, "q_rope", [other.n_prefix], ROW.astype(np.float16))
    with pytest.raises(RecordError, match="several types were recorded as one: f16, f32"):
        other.close()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"steps": 3}, "steps is 3, expected 1 to one less than the 3 tokens"),
        ({"steps": 0}, "steps is 0"),
        ({"tokens": [1, 2, 999]}, "token 999 is not in the model's vocabulary of 259"),
        ({"numerics": {"decoding": None}}, "unknown key 'decoding'"),
    ],
)
def test_bad_recorders(tmp_path, keys, words):
    with pytest.raises(RecordError, match=words):
        greta.Recorder(tmp_path, "synthetic", **{"tokens": [1, 2, 3], **keys})


def test_nothing_is_written_where_the_engine_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), greta.Recorder(tmp_path, "synthetic", [1, 2, 3]):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())
