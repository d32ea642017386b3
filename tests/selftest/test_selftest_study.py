"""Small studies through the command: red when the detector is broken, whole when interrupted or when a run dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from pytest_greta import cli
from pytest_greta.checks import judge
from pytest_greta.cli_selftest import CLEAN, FAILED, STOPPED, USAGE
from pytest_greta.jsonline import json_line
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.selftest import pool
from pytest_greta.selftest.plan import Planned
from pytest_greta.selftest.run import Record

TINY = ("selftest", "--runs", "4", "--quick", "--seed", "5", "--lang", "en")


def tiny(*words: str, jobs: str = "0") -> int:
    return cli.main([*TINY, "--jobs", jobs, *words])


def figures(path: Path) -> dict:
    return {k: v for k, v in orjson.loads(path.read_bytes()).items() if k != "machine"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The figures and the journal of one study that nothing disturbed, two processes wide."""
    folder = tmp_path_factory.mktemp("study")
    json, journal = folder / "out.json", folder / "journal.jsonl"
    assert tiny("--json", str(json), "--resume", str(journal), jobs="2") == CLEAN
    return json, journal


def test_a_study_finds_what_it_plants(whole, capsys):
    found = figures(whole[0])
    assert [k["runs"] for k in found["kinds"]] == [k["found"] for k in found["kinds"]]
    assert sum(k["runs"] for k in found["kinds"]) == 4
    assert sum(b["runs"] for b in found["benign"]) == 6
    assert cli.main(["selftest", "--from", str(whole[0]), "--lang", "es"]) == CLEAN
    assert "selftest aprobado" in capsys.readouterr().out


def test_what_is_not_finite_travels(whole):
    """A broken byte has a rho of inf; the journal and the processes carry it as such."""
    sent = Record("x", rho=float("inf"))
    assert from_plain(Record, orjson.loads(json_line(to_plain(sent)))) == sent
    lines = [orjson.loads(line) for line in whole[1].read_bytes().splitlines()[1:]]
    assert None not in {line["rho"] for line in lines}


def test_in_this_process_the_figures_are_the_same(whole, tmp_path):
    assert tiny("--json", str(tmp_path / "o.json")) == CLEAN
    assert figures(tmp_path / "o.json") == figures(whole[0])


def test_an_interrupted_study_goes_on_where_it_stopped(whole, tmp_path, monkeypatch, capsys):
    """The journal of a study cut off in the middle of a line; only what is missing runs again."""
    lines = whole[1].read_bytes().splitlines(keepends=True)
    journal = tmp_path / "j.jsonl"
    journal.write_bytes(b"".join(lines[:5]) + lines[5][: len(lines[5]) // 2])
    made = []
    execute = pool.execute
    monkeypatch.setattr(pool, "execute", lambda planned: made.append(planned.id) or execute(planned))
    assert tiny("--json", str(tmp_path / "o.json"), "--resume", str(journal)) == CLEAN
    assert len(made) == len(lines) - 5
    assert "4 runs are in" in capsys.readouterr().err
    assert figures(tmp_path / "o.json") == figures(whole[0])
    assert sorted(orjson.loads(x)["id"] for x in journal.read_bytes().splitlines()[1:]) == sorted(
        orjson.loads(x)["id"] for x in lines[1:]
    )


def test_ctrl_c_is_clean(tmp_path):
    journal = tmp_path / "j.jsonl"
    words = ["env", "--default-signal=INT"]  # a job in the background has it ignored
    words += [sys.executable, "-m", "pytest_greta.cli", "selftest", "--runs", "500", "--jobs", "1", "--lang", "en"]
    process = subprocess.Popen(
        [*words, "--resume", str(journal)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 3):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = process.communicate(timeout=30)
    assert process.returncode == STOPPED, err
    assert "Traceback" not in err + out
    assert "interrupted after" in out
    assert "to go on: the same command again" in out
    assert journal.read_bytes().endswith(b"\n")


def test_a_bound_that_is_too_wide_turns_it_red(monkeypatch, capsys):
    ratio = judge._ratio
    monkeypatch.setattr(judge, "_ratio", lambda e, bound: ratio(e, bound * 1e6))
    assert tiny() == FAILED
    assert ": missed" in capsys.readouterr().out


def test_a_bound_that_is_too_narrow_is_an_alarm(monkeypatch, capsys):
    ratio = judge._ratio
    monkeypatch.setattr(judge, "_ratio", lambda e, bound: ratio(e, bound * 1e-3))
    assert tiny() == FAILED
    assert ": false alarm" in capsys.readouterr().out


def test_a_fault_that_is_not_planted_turns_it_red(monkeypatch, capsys):
    from pytest_greta.faults.plant import PlantedSession, PlantedWeights

    for planter in (PlantedSession, PlantedWeights):
        monkeypatch.setattr(planter, "_hits", lambda *_: False)
    assert tiny() == FAILED
    assert ": nothing was planted" in capsys.readouterr().out


def test_a_process_that_dies_costs_its_run(monkeypatch):
    """And the runs after it go on in another one."""
    script = (
        "import os, sys, orjson\n"
        "for line in sys.stdin.buffer:\n"
        "    id = orjson.loads(line)['id']\n"
        "    if id == 'dies': os.kill(os.getpid(), 11)\n"
        "    if id == 'leaves': os._exit(3)\n"
        "    if id == 'hangs': __import__('time').sleep(60)\n"
        "    print(orjson.dumps({'id': id}).decode(), flush=True)\n"
    )
    real = subprocess.Popen
    monkeypatch.setattr(pool.subprocess, "Popen", lambda words, **keys: real([words[0], "-c", script], **keys))
    names = ["a", "dies", "b", "leaves", "hangs", "c", "d"]
    planned = [Planned(name, "benign", "synthetic", 1, {}, "portable") for name in names]
    records: dict[str, Record] = {}
    pool.run_all(planned, 2, lambda r: records.update({r.id: r}), timeout=2.0)
    errors = {name: record.error for name, record in records.items() if record.error}
    assert set(records) == set(names)
    assert errors == {
        "dies": "the process was ended by SIGSEGV",
        "leaves": "the process ended with exit code 3",
        "hangs": "no answer in 2 s",
    }


def test_an_exception_is_a_record():
    from pytest_greta.selftest.run import execute

    found = execute(Planned("x", "benign", "synthetic:none", 4, {"dtype": "f32"}, "portable"))
    assert found.error.startswith("ModelError: ")


def test_the_models_are_all_there_are(whole):
    from pytest_greta.engine.synthetic import VARIANTS

    models = {name.partition(":")[2] or "llama" for name in figures(whole[0])["study"]["models"] if "synthetic" in name}
    assert models == set(VARIANTS)


def test_one_run_by_itself(whole, capsys):
    assert tiny("--only", "fault-00003") == CLEAN
    out = capsys.readouterr().out
    assert out.startswith("fault-00003: ")
    assert "rho (first failure)" in out
    assert tiny("--only", "fault-99") == USAGE
    assert "fault-99 is no run of this study; expected fault-00000 to benign-00005" in capsys.readouterr().err


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--runs", "0"], "expected a whole number from 1 to 1000000, got '0'"),
            (["--runs", "x"], "got 'x'"),
            (["--jobs", "-1"], "expected a whole number from 0 to"),
            (["--lang", "fr"], "invalid choice"),
        ],
    )
    def test_usage(self, words, said, capsys):
        with pytest.raises(SystemExit) as stop:
            cli.main(["selftest", *words])
        assert stop.value.code == USAGE
        assert said in capsys.readouterr().err

    def test_markdown_without_figures(self, capsys):
        assert tiny("--markdown") == USAGE
        assert "--markdown goes with --from" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("content", "said"), [(None, "No such file"), (b"{}", "holds no"), (b"[1", "holds no"), (b"\xff", "holds no")]
    )
    def test_figures_that_are_none(self, tmp_path, capsys, content, said):
        path = tmp_path / "f.json"
        if content is not None:
            path.write_bytes(content)
        assert cli.main(["selftest", "--from", str(path), "--lang", "en"]) == USAGE
        assert said in capsys.readouterr().err

    def test_a_journal_of_another_study(self, whole, capsys):
        words = ["selftest", "--runs", "4", "--quick", "--seed", "6", "--jobs", "0", "--lang", "en"]
        assert cli.main([*words, "--resume", str(whole[1])]) == USAGE
        assert "is the journal of another study (seed: 5 there, 6 here)" in capsys.readouterr().err

    def test_a_journal_of_other_code_proves_nothing_of_this(self, whole, capsys, monkeypatch):
        monkeypatch.setattr("pytest_greta.selftest.journal._code", lambda: "changed")
        assert tiny("--resume", str(whole[1])) == USAGE
        assert "is the journal of another study (code: " in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("content", "said"), [(b"hello\n", "is not the journal"), (b'{"event": "selftest"}\n', "is not the journal")]
    )
    def test_a_file_that_is_no_journal(self, tmp_path, capsys, content, said):
        (tmp_path / "j").write_bytes(content)
        assert tiny("--resume", str(tmp_path / "j")) == USAGE
        assert said in capsys.readouterr().err
        assert (tmp_path / "j").read_bytes() == content

    def test_a_damaged_line(self, whole, tmp_path, capsys):
        lines = whole[1].read_bytes().splitlines(keepends=True)
        (tmp_path / "j").write_bytes(lines[0] + b"{broken\n" + lines[1])
        assert tiny("--resume", str(tmp_path / "j")) == USAGE
        assert "j:2: not a run of this study" in capsys.readouterr().err

    def test_a_journal_that_cannot_be_written(self, tmp_path, capsys):
        assert tiny("--resume", str(tmp_path / "no" / "j")) == USAGE
        assert "No such file" in capsys.readouterr().err
        assert tiny("--resume", str(tmp_path)) == USAGE


def test_the_bar_is_for_a_terminal(monkeypatch):
    from io import StringIO

    from pytest_greta.selftest.progress import Progress

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "120")
    now = np.arange(0, 1000, 10.0).tolist()
    for stream, every, expected in (
        (Terminal(), 1, "\r[##########..........] 2 of 4 runs, 1 not as they should be, 0:20 to go"),
        (StringIO(), 3, "2 of 4 runs, 1 not as they should be, 1:00 to go\n"),
    ):
        times = iter([every * second for second in now])
        progress = Progress(stream, "en", 4, clock=times.__next__)
        progress.add(odd=False)
        progress.add(odd=True)
        assert expected in stream.getvalue()
