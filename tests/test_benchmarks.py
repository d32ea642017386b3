"""The benchmark runs, at sizes that measure nothing, and says what it could not compare."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "attention.py"
TINY = ["--prefill", "16", "--decode", "48", "--rounds", "1", "--stream-mib", "4", "--cold-mib", "1", "--no-torch"]


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


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
