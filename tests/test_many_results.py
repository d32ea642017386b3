"""A run of many probes is reported in a time that grows with their number only, and within seconds."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_greta import api
from pytest_greta.artifacts import REPORT, RESULTS
from pytest_greta.cli import main
from pytest_greta.digest import digest
from pytest_greta.hypotheses import two_sided
from pytest_greta.packed import Line, pack, unpack
from pytest_greta.result import ProbeResult


@pytest.fixture(scope="module")
def real() -> list[ProbeResult]:
    """Of the embedded model, in both modes: a hundred stages and more, each on its paths."""
    results = [api.probe("synthetic", "Hola", mode=mode).result for mode in ("as_designed", "kv_aligned")]
    assert all(len(result.bytes) > 100 for result in results)
    return [replace(r, suite="many", outcome="passed", expected="PASS", reproduce="pytest many") for r in results]


def many(folder: Path, real: list[ProbeResult], count: int) -> Path:
    folder.mkdir()
    with (folder / RESULTS).open("wb") as file:
        for number in range(count):
            like, case = real[number % len(real)], f"case_{number // len(real):05d}"
            file.write(pack(replace(like, case=case, nodeid=f"{case}::{like.probe}", prompt=case)))
    (folder / f"MANY{REPORT}").touch()  # the run came to its end
    return folder


def seconds(folder: Path, out: Path) -> float:
    """Of processor time: the machine may have others to serve."""
    start = time.process_time()
    assert main(["report", "--merge", str(folder), "--output", str(out), "--lang", "en"]) == 0
    return time.process_time() - start


def test_a_packed_line_gives_the_same_result_and_the_same_digest(real):
    for result in real:
        line = pack(result)
        again = unpack(Line(lambda line=line: line))
        assert again == result
        assert again.digest == digest(result.stages, result.bytes, result.stats)
        assert pack(again) == line


def test_the_time_grows_with_the_number_of_results(tmp_path, real, capsys):
    sizes = (60, 480)
    folders = [many(tmp_path / str(size), real, size) for size in sizes]
    seconds(folders[0], tmp_path / "warm")
    few, lots = (seconds(folder, tmp_path / f"out{folder.name}") for folder in folders)
    assert lots < 2 * few * sizes[1] / sizes[0]
    assert f"probes: {sizes[1]} ({sizes[1]} passed" in capsys.readouterr().out


def test_the_sign_test_of_thousands_of_cases_takes_no_time():
    start = time.process_time()
    assert two_sided(5_000, 5_000) == 1.0
    assert two_sided(6_000, 4_000) < 1e-80
    assert time.process_time() - start < 2.0


@pytest.mark.slow
def test_ten_thousand_results_are_reported(tmp_path, real):
    folder = many(tmp_path / "runs", real, 10_000)
    took = seconds(folder, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    print(f"10,000 results, {(folder / RESULTS).stat().st_size / 1e6:.0f} MB: {took:.1f} s of processor time")
    assert took < 10


WRONG = {
    "rho": lambda t: t["rho"].__setitem__(0, [1]),
    "stage": lambda t: t["stage"].__setitem__(0, 5),
    "layer": lambda t: t["layer"].__setitem__(0, "two"),
    "worst": lambda t: t["worst"].__setitem__(0, "x"),
    "lengths": lambda t: t["rho"].pop(),
    "absent": lambda t: t.pop("path"),
    "no columns": lambda t: t.clear(),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_line_whose_rows_are_wrong_is_named_and_the_rest_reported(tmp_path, real, capsys, wrong):
    folder = many(tmp_path / "runs", real, 4)
    lines = (folder / RESULTS).read_bytes().splitlines()
    plain = json.loads(lines[1])
    WRONG[wrong](plain["stages"])
    lines[1] = json.dumps(plain).encode()
    (folder / RESULTS).write_bytes(b"\n".join(lines) + b"\n")
    assert main(["report", "--merge", str(folder), "--output", str(tmp_path / "out"), "--lang", "en"]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert f"{RESULTS}:2: stages" in said.replace("- ", "")
    assert "probes: 3 (3 passed" in said


def test_a_line_whose_numbers_are_none_is_named_and_the_rest_reported(tmp_path, real, capsys):
    folder = many(tmp_path / "runs", real, 4)
    lines = (folder / RESULTS).read_bytes().splitlines()
    plain = json.loads(lines[1])
    plain["stages"]["rho"][0] = "x"
    lines[1] = json.dumps(plain).encode()
    (folder / RESULTS).write_bytes(b"\n".join(lines) + b"\n")
    assert main(["report", "--merge", str(folder), "--output", str(tmp_path / "out"), "--lang", "en"]) == 3
    said = " ".join(capsys.readouterr().out.split()).replace("- ", "")
    assert f"{RESULTS}:2: could not convert" in said
    assert "probes: 3 (3 passed" in said


@pytest.mark.parametrize("room", ["absent", "full"])
def test_without_room_for_rows_that_are_made_early_the_table_is_the_same(tmp_path, real, monkeypatch, room):
    folder = many(tmp_path / "runs", real, 6)
    expected = table(folder, tmp_path / "with")
    if room == "absent":
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    else:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: io.FileIO("/dev/full", "r+"))
    assert table(folder, tmp_path / "without") == expected


def table(folder: Path, out: Path) -> bytes:
    assert main(["report", "--merge", str(folder), "--output", str(out), "--lang", "en"]) == 0
    (tsv,) = out.rglob("*_ANALYSIS.tsv")
    return tsv.read_bytes()


def test_a_stage_of_a_later_version_stands_last(tmp_path, real, capsys):
    folder = many(tmp_path / "runs", real, 2)
    text = (folder / RESULTS).read_text().replace('"lse"', '"moe_gate"')
    (folder / RESULTS).write_text(text)
    assert main(["report", "--merge", str(folder), "--output", str(tmp_path / "out"), "--lang", "en"]) == 0
    (tsv,) = (tmp_path / "out").rglob("*_ANALYSIS.tsv")
    stages = [line.split("\t")[8] for line in tsv.read_text().splitlines() if line.split("\t")[7] == "0"]
    assert stages[-1] == "moe_gate"
