"""``greta selftest --backend``: the study through another library, and what that library does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_greta import cli
from pytest_greta.backends.base import Unsupported
from pytest_greta.cli_selftest import CLEAN, FAILED, USAGE
from pytest_greta.faults.fixtures import FIXTURES
from pytest_greta.faults.kinds import KINDS
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.report.text import width
from pytest_greta.selftest import pool, run
from pytest_greta.selftest.plan import LIBRARIES, Planned, Shape, Study, plan
from pytest_greta.selftest.run import Record
from pytest_greta.selftest.table import as_lines, as_page
from pytest_greta.selftest.tally import Summary, is_odd, tally

EMULATED = Study(1, 300, False, ("",), ("synthetic", "synthetic:mistral"), "hip-emulated")
MOST = 160


def planned(study: Study = EMULATED) -> list[Planned]:
    return plan(study, lambda _: Shape(6, 8))


def test_a_study_of_the_emulation_is_short_and_asks_for_what_its_kernels_have():
    runs = planned()
    assert {p.keys["backend"] for p in runs} == {"hip-emulated"}
    assert max(p.rows for p in runs) <= MOST
    assert max(max(p.keys.get("batch", (0,))) for p in runs) <= MOST
    fixed = {f.name for f in FIXTURES if "schedule" in f.keys}
    drawn = [p.keys["schedule"] for p in runs if "schedule" in p.keys and p.fixture not in fixed]
    assert {tuple(s) for s in drawn} == {("decode",)}
    assert {s["decode"]["splits"] for s in drawn} == set(range(1, 9))
    tiles = {p.keys["schedule"]["decode"]["tile"] for p in runs if p.fixture in ("tile_walk", "split_merge")}
    assert tiles == {64}


def test_on_a_device_runs_are_as_long_as_on_the_cpu():
    longest = {p.fixture: p.rows for p in sorted(planned(replace(EMULATED, backend="hip")), key=lambda p: p.rows)}
    assert max(longest.values()) > 3000
    assert sum(rows > MOST for rows in longest.values()) > 20
    assert not [p for p in planned(replace(EMULATED, backend="cpu")) if "backend" in p.keys]


def studied(*not_run: str) -> Summary:
    """A study in which the runs of these kinds (healthy ones: "") were not run."""
    study = replace(EMULATED, runs=len(FIXTURES), quick=True)
    runs = planned(study)
    right = {"found": True, "stage_right": True, "layer_right": True, "scenario_right": True}
    records = [
        Record(p.id, not_run="tile: 64 only")
        if p.inject.get("fault", "") in not_run
        else Record(p.id, **(right if p.fixture else {}))
        for p in runs
    ]
    assert not [p for p, r in zip(runs, records, strict=True) if is_odd(p, r)]
    return tally(study, runs, records)


def test_what_was_not_run_is_counted_and_said_and_fails_nothing():
    found = studied("tile_quant")
    assert found.clean
    assert [(n.what, n.runs, n.why) for n in found.not_run] == [("tile_quant", 2, "tile: 64 only")]
    assert [k.runs for k in found.kinds if k.kind == "tile_quant"] == [0]
    assert from_plain(Summary, to_plain(found)) == found
    for lang, words in (
        ("en", ("tile_quant: 2; tile: 64 only", "2 runs were not run, because hip-emulated")),
        ("es", ("tile_quant: 2; tile: 64 only", "2 corridas no se ejecutaron, porque hip-emulated")),
    ):
        lines = as_lines(found, lang)
        assert max(map(width, lines)) <= 80
        for shown in (" ".join(" ".join(lines).split()), " ".join(as_page(found, lang).split())):
            assert all(word in shown.replace("\\", "") for word in words)


def test_a_study_of_which_nothing_was_run_is_no_success():
    found = studied("", *KINDS)
    assert not found.clean
    assert "selftest FAILED: nothing was run" in " ".join(as_lines(found, "en"))
    assert "selftest FALLIDO: no se ejecutó nada" in " ".join(as_lines(found, "es"))


def selftest(*words: str) -> int:
    return cli.main(["selftest", "--backend", "hip-emulated", "--lang", "en", "--jobs", "0", *words])


def test_a_small_study_through_the_emulation(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    journal = str(tmp_path / "journal")
    assert selftest("--runs", "1", "--quick", "--resume", journal) == CLEAN
    shown = capsys.readouterr()
    assert "through hip-emulated and its faulty twin" in shown.err
    assert f"at most {MOST} rows" in shown.err
    assert "selftest passed: every fault found" in shown.out
    assert cli.main(["selftest", "--runs", "1", "--quick", "--resume", journal, "--lang", "en"]) == USAGE
    assert "another study" in capsys.readouterr().err


def of_kind(kind: str) -> str:
    study = Study(1, len(FIXTURES), True, ("",), ("synthetic",), "hip-emulated")
    return next(p.id for p in planned(study) if p.inject.get("fault") == kind and p.part == "fault")


@pytest.mark.parametrize("kind", ["kv_stale", "window"])
def test_faults_in_its_kernels_are_found(kind: str, capsys: pytest.CaptureFixture[str]):
    assert selftest("--quick", "--only", of_kind(kind)) == CLEAN
    shown = capsys.readouterr().out
    assert "greta-hip-emulated-faulty / decode_split" in shown
    assert "backend=hip-emulated" in shown


def test_a_kind_that_it_does_not_have_is_not_run(capsys: pytest.CaptureFixture[str]):
    assert selftest("--quick", "--only", of_kind("tile_quant")) == FAILED
    assert "not run: fault: kind 'tile_quant'; these kernels have tiles of 64 keys" in capsys.readouterr().out


def test_what_a_library_lacks_is_a_record(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def lacks(_: Planned) -> None:
        raise Unsupported("page_size", "only 16")

    monkeypatch.setattr(run, "probe", lacks)
    assert selftest("--runs", "1", "--quick") == FAILED
    assert "page_size: only 16" in capsys.readouterr().out
    assert pool.execute(planned()[0]).not_run == "page_size: only 16"


@pytest.mark.parametrize("backend", [name for name in LIBRARIES if name in ("hip", "cuda")])
def test_without_the_library_or_its_device_nothing_is_run(backend: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["selftest", "--backend", backend, "--runs", "1", "--lang", "en"]) == USAGE
    said = capsys.readouterr().err
    assert said.startswith("greta selftest: ")
    assert backend in said or "no device" in said
    assert "Traceback" not in said


def test_a_backend_without_a_twin_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["selftest", "--backend", "numpy"])
    assert stop.value.code == USAGE
    assert "invalid choice: 'numpy'" in capsys.readouterr().err


@pytest.mark.slow
def test_every_kind_through_the_emulation(tmp_path: Path):
    """A run a variant, and what is below and beside it: two minutes of a core."""
    import orjson

    path = tmp_path / "out.json"
    assert selftest("--quick", "--json", str(path)) == CLEAN
    found = orjson.loads(path.read_bytes())
    assert {n["what"] for n in found["not_run"]} == {"tile_quant"}
    assert {k["kind"] for k in found["kinds"] if k["runs"] == 0} == {"tile_quant"}
    assert [k["found"] for k in found["kinds"]] == [k["runs"] for k in found["kinds"]]
