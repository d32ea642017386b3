"""The benchmarks run, at sizes that measure nothing, and say what they could not compare or run."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = ["--prefill", "16", "--decode", "48", "--rounds", "1", "--stream-mib", "4", "--cold-mib", "1", "--no-torch"]


EMULATED = ["--backend", "hip-emulated", "--quick", "--rounds", "1", "--stream-mib", "4"]
needs_torch = pytest.mark.transformers


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """Imports a script as Python does that runs it: its folder comes first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module
    for name in [name for name, module in sys.modules.items() if _is_ours(module)]:
        del sys.modules[name]


def _is_ours(module: Any) -> bool:
    return Path(getattr(module, "__file__", None) or "/").parent == FOLDER


@pytest.fixture(scope="module")
def benchmark(scripts: Any) -> Any:
    return scripts("attention")


@pytest.fixture(scope="module")
def gpu(scripts: Any) -> Any:
    return scripts("gpu")


def test_a_tiny_run_without_pytorch(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert benchmark.main([*TINY, "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    prefill = [line.split() for line in lines if line.startswith("prefill")]
    decode = [line.split() for line in lines if line.startswith("decode")]
    assert len(prefill) == len(decode) == 4  # two sets of heads in two types
    assert all(line[-4:] == ["-", "-", "-", "-"] for line in prefill)  # PyTorch's rate and way, and both ratios
    assert all("-" in line and line[-1] != "-" for line in decode)
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["machine"]["torch"] is None
    assert [row["shape"]["phase"] for row in written["rows"]] == ["prefill"] * 4 + ["decode"] * 4
    for row in written["rows"]:
        assert row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        assert row["to_torch"] is None
        assert (row["to_bandwidth"] is None) == (row["shape"]["phase"] == "prefill")
        assert row["rate"]["median"] > 0


@pytest.mark.parametrize("args", [["--dtypes", "f64"], ["--threads", "0"], ["--prefill", "0"], ["--rounds", "0"]])
def test_nonsense_is_refused_in_one_line(benchmark: Any, args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        benchmark.main([*TINY, *args])
    assert raised.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert args[0] in last
    assert repr(args[1]) in last or args[1] in last


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "-1")


@pytest.mark.parametrize("asked", [[], ["--backend", "hip"], ["--backend", "cuda"]])
def test_without_a_device_nothing_runs(
    gpu: Any, asked: list[str], no_device: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert gpu.main(["--all", *asked, "--json", str(file)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    first, *reasons, _, _ = err.splitlines()
    assert first == "gpu.py: nothing was run: there is no device with a library for it here."
    assert [line.split(":")[0].strip() for line in reasons] == (asked[1:] or ["hip", "cuda"])
    assert "greta doctor" in err
    assert not file.exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "one of the arguments --all --only is required"),
        (["--all", "--backend", "hip-emulated"], "expected --quick with it"),
        (["--only", "kernels,all"], "'all': expected some of kernels,faults,selftest,sanitizer,graph,speed"),
        (["--all", "--splits", "-1"], "'-1': expected 0, 1, .."),
        (["--all", "--backend", "cpu"], "invalid choice: 'cpu'"),
        (["--all", "--decode", "0"], "'0': expected positive numbers"),
    ],
)
def test_what_gpu_cannot_be_asked(gpu: Any, args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        gpu.main(args)
    assert raised.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


ONE_FAULT = """\
suite: faults
cases:
  - id: short_cache
    model: synthetic
    mode: kv_aligned
    random_tokens: 16
    inject: {fault: kv_len, phase: decode, layer: 0, magnitude: -1}
    expect: {status: KV_MISMATCH, scenario: KV_MISALIGNMENT, first_failure: {layer: 0, stage: lse, phase: decode}}
"""


def test_the_suites_of_a_device_over_the_emulation(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, file = tmp_path / "one.greta.yaml", tmp_path / "figures.json"
    cases.write_text(ONE_FAULT, encoding="utf-8")
    monkeypatch.setattr(gpu.gpu_suites, "FEW_FAULTS", str(cases))
    assert gpu.main([*EMULATED, "--only", "kernels,faults,selftest,sanitizer", "--json", str(file)]) == 0
    assert "times mean nothing, and no device was used" in capsys.readouterr().out.splitlines()[0]
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["emulated"] is True
    assert written["machine"]["device"] is None
    kernels, faults, selftest, sanitizer = written["parts"]
    assert kernels["said"] == "4 passed, 0 failed, 0 not run"
    assert faults["said"] == "1 passed, 0 failed, 0 not run"
    assert selftest["said"] == "selftest passed: every fault found and rightly placed, no false alarm"
    assert kernels["status"] == faults["status"] == selftest["status"] == "passed"
    assert sanitizer["status"] == "not run"
    assert "compute-sanitizer is NVIDIA's" in sanitizer["said"]


def test_a_study_that_cannot_be_made_fails_its_part(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    study = gpu.gpu_suites.selftest("cuda", True)
    assert not study.right
    assert study.said.startswith("greta selftest: ")
    assert study.last


def test_a_suite_that_fails_is_counted_and_its_end_is_shown(
    gpu: Any, scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = scripts("gpu_suites")
    file = tmp_path / "test_it.py"
    file.write_text("def test_a(): pass\ndef test_b(): assert 0, 'the words of it'\n", encoding="utf-8")
    part = gpu.suite("kernels", suites.run_pytest([str(file)], {}))
    assert (part.status, part.said) == ("failed", "1 passed, 1 failed, 0 not run, exit code 1")
    assert "the words of it" in part.detail
    nothing = gpu.suite("kernels", suites.run_pytest([str(file), "-k", "nothing_of_that_name"], {}))
    assert (nothing.status, nothing.said) == ("failed", "0 passed, 0 failed, 0 not run, exit code 5")


def test_a_sanitizer_that_finds_something_fails_its_part(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made-up one: it runs what it is given, then reports as the real one does."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tool = tmp_path / "compute-sanitizer"
    suites = gpu.gpu_suites
    monkeypatch.setattr(suites, "kernels", lambda backend, quick, prefix: suites.run_pytest(["--version"], {}, prefix))
    for code in (0, 99):
        tool.write_text(f"#!/bin/sh\necho $2\nexit {code}\n", encoding="utf-8")
        tool.chmod(0o755)
        parts = gpu.sanitizer("cuda")
        assert [part.name for part in parts] == ["sanitizer memcheck", "sanitizer racecheck", "sanitizer synccheck"]
        assert {part.status for part in parts} == {"failed"}, "one that ran no test shows nothing either"
        assert all(part.said.endswith(f"exit code {code}") == (code != 0) for part in parts)
        assert (parts[1].detail == "racecheck") == (code != 0)


def test_without_pytorch_the_parts_that_need_it_are_not_run(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu.main([*EMULATED, "--only", "graph,sanitizer,speed"]) == 3
    lines = [line for line in capsys.readouterr().out.splitlines() if ": not run: " in line]
    assert [line.split(":")[0] for line in lines] == ["graph", "sanitizer", "speed"]
    assert "pip install torch" in lines[0]
    assert gpu.main([*EMULATED, "--only", "sanitizer"]) == 0


@needs_torch
def test_measuring_and_replaying_over_the_emulation(
    gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    sizes = ["--prefill", "16", "--decode", "20", "--batch", "2"]
    assert gpu.main([*EMULATED, *sizes, "--only", "graph,speed", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "MISSED" not in out
    parts = json.loads(file.read_text(encoding="utf-8"))["parts"]
    assert [(part["name"], part["status"]) for part in parts] == [
        ("graph prefill", "tried"),
        ("graph decode", "tried"),
        ("speed", "tried"),
    ]
    prefill, decode = parts[-1]["rows"]
    assert prefill["to_bandwidth"] is None
    for figure in (prefill["to_flash"], prefill["to_best"], decode["to_best"], decode["to_bandwidth"]):
        assert 0 < figure["low"] <= figure["median"] <= figure["high"]


@needs_torch
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_replay_that_kept_the_old_lengths_is_found(gpu: Any, phase: Any) -> None:
    import torch

    library, place = gpu.usable("hip-emulated"), gpu.Place(torch, None)

    def frozen(place: Any, call: Any) -> Any:
        call()
        return lambda: None

    assert "rows differ from the call" in gpu.gpu_replay.same_as_eager(library.path, place, phase, frozen)


@needs_torch
def test_the_time_of_a_wrong_answer_is_none(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    speed = gpu.gpu_speed
    library, place = gpu.usable("hip-emulated"), gpu.Place(torch, None)
    rows = speed.Torch.rows
    monkeypatch.setattr(speed.Torch, "rows", lambda self, way: 1.1 * rows(self, way))
    args = gpu.parser().parse_args([*EMULATED, "--all", "--prefill", "8", "--decode", "9", "--batch", "1"])
    part = gpu.speed(library.path, place, args)
    assert part.status == "failed"
    assert part.rows == []
    assert part.detail.count("our output is 0.09") == 2


def test_a_table_of_made_up_figures(gpu: Any, scripts: Any) -> None:
    figures = scripts("figures")

    def row(phase: str, length: int, batch: int, flash: float, read: float | None) -> Any:
        shape = figures.Shape(phase, gpu.gpu_speed.HEADS, length, "bf16", batch)
        one = figures.Figure.of([1.0])
        to_read = None if read is None else figures.Figure.of([read, read + 1, 0.0])
        return gpu.gpu_speed.Row(
            shape, figures.Figure.of([0.002]), one, one, one, "FLASH_ATTENTION gqa",
            figures.Figure.of([flash, 0.1, 2.0]), one, to_read, {"CUDNN_ATTENTION gqa": "not built"},
        )  # fmt: skip

    rows = [row("prefill", 2048, 1, 0.51, None), row("decode", 32768, 8, 3.0, 0.79), row("decode", 32768, 4, 3.0, 0.1)]
    part = gpu.speed_part(rows, [], figures.Figure.of([3000.0]), 3, emulated=False)
    lines = part.detail.splitlines()
    assert "0.51 (0.1 .. 2)" in lines[2]
    assert lines[2].endswith("x flash >= 0.5: met")
    assert lines[3].endswith("x bandwidth >= 0.8: MISSED")
    assert lines[4].rstrip().endswith("-")
    assert lines[-2] == "read bandwidth 3e+03 (3e+03 .. 3e+03) GB/s; 3 rounds: median (lowest .. highest)"
    assert lines[-1] == "  not had: CUDNN_ATTENTION gqa: not built"
    assert (part.status, part.said) == ("failed", "3 shapes measured, 0 not; 2 held to a bar, 1 below it")
    assert gpu.speed_part(rows[:1], [], figures.Figure.of([3000.0]), 3, emulated=False).status == "passed"
    assert gpu.speed_part(rows[:1], ["x"], figures.Figure.of([3000.0]), 3, emulated=False).status == "failed"
    tried = gpu.speed_part(rows, [], figures.Figure.of([3000.0]), 3, emulated=True)
    assert (tried.status, "MISSED" in tried.detail) == ("tried", False)
