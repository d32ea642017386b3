"""The files of a run: where they are, what they survive, and what is said where they cannot be."""

from __future__ import annotations

import datetime
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_greta import artifacts
from pytest_greta.artifacts import RESULTS, ArtifactError, RunFolder, read_results, replacing, safe_name, write_atomic
from tests.support import results as samples

DAY = "2026-02-07"


def everything(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*")}


def test_layout(tmp_path):
    folder = RunFolder.create(tmp_path, DAY, "b3_66_v2")
    folder.log("p0_short", "kv_aligned-bf16", "started")
    folder.append(samples.result())
    folder.write(folder.report_path, "# report")
    folder.write(folder.analysis_path, "a\tb")
    write_atomic(folder.trace_path("p0_short", "kv_aligned-bf16"), b"{}\n")
    write_atomic(folder.trace_path("p0_short", "kv_aligned-bf16", ".safetensors"), b"x")
    below = f"{DAY}/b3_66_v2"
    assert everything(tmp_path) == {
        DAY,
        below,
        f"{below}/run",
        f"{below}/run/p0_short_kv_aligned-bf16.log",
        f"{below}/traces",
        f"{below}/traces/p0_short_kv_aligned-bf16_trace.jsonl",
        f"{below}/traces/p0_short_kv_aligned-bf16_trace.safetensors",
        f"{below}/B3_66_V2_FINAL_REPORT.md",
        f"{below}/B3_66_V2_ANALYSIS.tsv",
        f"{below}/results.jsonl",
    }


def test_a_later_run_of_the_day_gets_the_next_number(tmp_path):
    names = [RunFolder.create(tmp_path, datetime.date(2026, 2, 7), "s").path.name for _ in range(3)]
    assert names == ["s", "s.2", "s.3"]
    assert RunFolder.create(tmp_path, "2026-02-08", "s").path.name == "s"


def test_two_processes_that_start_together_share_no_folder(tmp_path):
    code = (
        "import sys; from pytest_greta.artifacts import RunFolder\n"
        f"for _ in range(40): print(RunFolder.create({str(tmp_path)!r}, {DAY!r}, 's').path)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = [path for process in running for path in process.communicate(timeout=60)[0].split()]
    assert len(paths) == len(set(paths)) == 80
    assert sorted(p.name for p in (tmp_path / DAY).iterdir()) == sorted(["s", *(f"s.{i}" for i in range(2, 81))])


@pytest.mark.parametrize("name", [*samples.HOSTILE, "..", ".", "/etc/passwd", "-rf", "a/../../b", "%2E", "con\0nul"])
def test_no_id_leaves_the_folder(tmp_path, name):
    root = tmp_path / "root"
    folder = RunFolder.create(root, DAY, name)
    folder.log(name, name, "x")
    folder.write(folder.report_path, "x")
    write_atomic(folder.trace_path(name, name, ".safetensors"), b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["root"]
    assert [p.name for p in (root / DAY).iterdir()] == [folder.path.name]
    assert sorted(p.name for p in folder.path.iterdir() if p.is_dir()) == ["run", "traces"]
    for path in root.rglob("*"):
        assert not path.name.startswith(".")
        assert len(path.name.encode()) <= 255
        assert path.name.isascii()


def test_names_are_readable_and_never_the_same_for_two_ids():
    assert safe_name("p0_short.v1-x") == "p0_short.v1-x"
    assert safe_name("../../x") == "%2E.%2F..%2Fx"
    assert safe_name("") == "%00"
    long = ["x" * 400, "x" * 401, "y" * 400, "é" * 90]
    ids = ["a b", "a%20b", "a_b", "a/b", "%2E.", "..", *long, *(safe_name(name) for name in long)]
    assert len({safe_name(i) for i in ids}) == len(set(ids))


def test_a_worker_writes_only_its_own_probes(tmp_path):
    folder = RunFolder.create(tmp_path, DAY, "s")
    worker = RunFolder.worker(str(folder.path))
    assert worker.log_path("c", "p") == folder.log_path("c", "p")
    with pytest.raises(ValueError, match="controller"):
        worker.append(samples.result())


def test_nothing_is_written_elsewhere(tmp_path):
    folder = RunFolder.create(tmp_path, DAY, "s")
    with pytest.raises(ValueError, match="not in"):
        folder.write(tmp_path / "x", "x")


def test_results_come_back_as_they_went(tmp_path):
    folder = RunFolder.create(tmp_path, DAY, "s")
    sent = [*samples.every_kind(), samples.mismatch("inf", rho=float("inf"))]
    for i, result in enumerate(sent):
        folder.append(result)
        assert (folder.path / RESULTS).read_bytes().count(b"\n") == i + 1, "each is on the disk when append returns"
    assert read_results(folder.path / RESULTS) == (sent, [])
    assert b'"inf"' in (folder.path / RESULTS).read_bytes()
    assert b"null,null,null" not in (folder.path / RESULTS).read_bytes()


@pytest.mark.parametrize("name", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
def test_hostile_ids_in_results(tmp_path, name):
    folder = RunFolder.create(tmp_path, DAY, "s")
    folder.append(samples.mismatch(name))
    ((result,), problems) = read_results(folder.path / RESULTS)
    assert problems == []
    assert result.case == name.encode("utf-8", "backslashreplace").decode()


def test_a_cut_last_line_costs_that_line(tmp_path):
    folder = RunFolder.create(tmp_path, DAY, "s")
    for name in "abc":
        folder.append(samples.result(name))
    path = folder.path / RESULTS
    path.write_bytes(path.read_bytes()[:-50])
    results, problems = read_results(path)
    assert [r.case for r in results] == ["a", "b"]
    assert len(problems) == 1
    assert f"{path}:3" in problems[0]


def test_a_kill_costs_the_line_that_was_being_written_at_most(tmp_path):
    code = (
        "from pytest_greta.artifacts import RunFolder; from tests.support import results\n"
        f"f = RunFolder.create({str(tmp_path)!r}, {DAY!r}, 's'); r = results.mismatch('x' * 5000)\n"
        "while True: f.append(r)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    path = tmp_path / DAY / "s" / RESULTS
    until = time.monotonic() + 30
    while time.monotonic() < until and not (path.exists() and path.stat().st_size > 100_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    results, problems = read_results(path)
    lines = path.read_bytes().split(b"\n")
    assert len(results) == len(lines) - 1 >= 3
    assert len(problems) == bool(lines[-1])
    assert all(r == results[0] for r in results)


def test_a_kill_between_writing_and_renaming_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.md"
    write_atomic(path, b"old")
    code = (
        "import os, signal; from pathlib import Path; from pytest_greta.artifacts import replacing\n"
        f"with replacing(Path({str(path)!r})) as t:\n t.write_bytes(b'new'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_an_exception_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "report.md"
    write_atomic(path, b"old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def one_clear_message(error: ArtifactError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert " / " in text
    for word in words:
        assert word in text


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArtifactError) as caught:
            RunFolder.create(root, DAY, "s")
        one_clear_message(caught.value, "file in the way", "hay un archivo", "--greta-artifacts")


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, error):
    def refuse(*args, **kwargs):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ArtifactError) as caught:
        RunFolder.create(tmp_path, DAY, "s")
    one_clear_message(caught.value, str(tmp_path), "cannot be written", os.strerror(error), "--greta-artifacts")


def test_a_folder_of_the_system_that_takes_no_files():
    with pytest.raises(ArtifactError) as caught:
        RunFolder.create("/proc/greta", DAY, "s")
    one_clear_message(caught.value, "/proc/greta", "--greta-artifacts")


def test_a_full_disk(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path, DAY, "s")
    folder.append(samples.result("a"))
    real = os.write
    monkeypatch.setattr(artifacts.os, "write", lambda file, data: real(file, data[:100]))
    with pytest.raises(ArtifactError) as caught:
        folder.append(samples.result("b"))
    one_clear_message(caught.value, "disk is full", "disco lleno")
    monkeypatch.undo()
    results, problems = read_results(folder.path / RESULTS)
    assert ([r.case for r in results], problems) == (["a"], [])


def test_a_full_disk_while_a_report_is_written(tmp_path):
    def fill() -> None:
        with replacing(tmp_path / "r.md") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ArtifactError) as caught:
        fill()
    one_clear_message(caught.value, "disk is full")
    assert list(tmp_path.iterdir()) == []


def test_a_results_file_that_is_not_there(tmp_path):
    with pytest.raises(ArtifactError) as caught:
        read_results(tmp_path / RESULTS)
    one_clear_message(caught.value, RESULTS)


def test_a_log_grows_by_lines(tmp_path):
    folder = RunFolder.create(tmp_path, DAY, "s")
    folder.log("c", "kv_aligned", "one")
    folder.log("c", "kv_aligned", "two\n")
    assert folder.log_path("c", "kv_aligned").read_text() == "one\ntwo\n"


def test_files_have_the_rights_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "f", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640
