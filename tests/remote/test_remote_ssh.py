"""``greta remote`` against a real OpenSSH server: whole runs, and each thing that can go wrong on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.remote import sshd
from tests.remote.sshd import Server

pytestmark = pytest.mark.system

CASES = """\
suite: far
defaults: {model: synthetic, layers: [0]}
cases:
  - id: short
    prompt_file: ../prompts/a prompt.txt
    mode: [as_designed, kv_aligned]
  - id: fault
    random_tokens: 12
    mode: kv_aligned
    inject: {fault: rope_pos, phase: decode, layer: 0, magnitude: 1}
    expect: {status: KV_MISMATCH}
    marks: [mine]
"""
WRONG = "suite: wrong\ncases:\n  - {id: a, model: synthetic, prompt: Hi, mode: kv_aligned, expect: REAL_MISMATCH}\n"
DAY = "2026-02-07"
GATED = "--pytest-args=-p gate"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from sshd.serving(tmp_path_factory.mktemp("a server"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A project here, whose folders have spaces in their names."""
    project = tmp_path / "my project"
    (project / "my cases").mkdir(parents=True)
    (project / "prompts").mkdir()
    (project / "prompts/a prompt.txt").write_text("Hello there\n")
    (project / "my cases/far.greta.yaml").write_text(CASES)
    (project / "wrong.greta.yaml").write_text(WRONG)
    return project


def flat(text: str) -> str:
    """Without the line breaks of 80 columns."""
    return " ".join(text.split())


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def ended(server: Server) -> Path:
    """The latest run, once it is over."""
    until((server.runs()[-1] / "ended.json").exists)
    until(lambda: holders(server) == [])
    return server.runs()[-1]


def holders(server: Server) -> list[int]:
    """Processes that have the lock's file open."""
    (lock,) = server.home.glob(".greta-remote/*/lock")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(link) == str(lock) for link in (process / "fd").iterdir()):  # noqa: PTH115
                found.append(int(process.name))
        except OSError:
            pass
    return found


def test_a_whole_run(server, work):
    done = server.greta("run", "--cases", "my cases", "--date", DAY, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = work / "artifacts_remote" / DAY / "far"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "FAR_ANALYSIS.tsv",
        "FAR_FINAL_REPORT.md",
        "origin.json",
        "results.jsonl",
        "run/fault_kv_aligned.log",
        "run/pytest.log",
        "run/short_as_designed.log",
        "run/short_kv_aligned.log",
        "traces/fault_kv_aligned_trace.jsonl",
        "traces/short_as_designed_trace.jsonl",
        "traces/short_kv_aligned_trace.jsonl",
    ]
    rows = {row["case"]: row for row in map(json.loads, (folder / "results.jsonl").read_text().splitlines())}
    assert rows["fault"]["verdict"]["status"] == "KV_MISMATCH"
    assert rows["short"]["verdict"]["status"] in ("PASS", "KV_MISMATCH")
    assert DAY in (folder / "FAR_FINAL_REPORT.md").read_text()
    assert "3 of 3 probes, 0 failed\n" in done.stderr
    assert "PASS: todos los veredictos son los esperados\nPASS: every verdict is as expected" in done.stdout
    long = [
        line for line in (done.stdout + done.stderr).splitlines() if len(line) > 80 and str(server.folder) not in line
    ]
    assert long == []
    # the same run again: kept where it is
    again = server.greta("fetch", "--lang", "es", cwd=work)
    assert again.returncode == 0
    assert [p.name for p in (work / "artifacts_remote" / DAY).iterdir()] == ["far"]
    assert "every verdict" not in again.stdout


def test_a_wrong_verdict_is_the_exit_code(server, work):
    done = server.greta("run", "--cases", "wrong.greta.yaml", "--lang", "en", cwd=work)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.endswith("MISMATCH: a verdict is not as expected\n")
    assert len(list((work / "artifacts_remote").glob("*/wrong/WRONG_FINAL_REPORT.md"))) == 1


def test_a_run_with_workers_and_arguments(server, work):
    more = ("--devices", "0,3", "--pytest-args", "-n 2 -p gate -k 'short or nothing'")
    with server.open_gate():
        done = server.greta("run", "--cases", "my cases", *more, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 probes, 0 failed" in done.stderr
    (log,) = work.glob("artifacts_remote/*/far/run/pytest.log")
    assert "VISIBLE_DEVICES: gw0 0, gw1 3\n" in log.read_text()


def test_nothing_that_is_selected(server, work):
    done = server.greta("run", "--cases", "my cases", "--pytest-args=-k absent", "--lang", "en", cwd=work)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "3 deselected" in done.stdout
    assert "pytest ran no probe there (exit code 5)" in flat(done.stdout)


def test_a_cut_connection_loses_nothing(server, work):
    command = server.words("run", "--cases", "my cases", "--lang", "en", GATED)
    env = {**os.environ, "PYTHONPATH": str(sshd.ROOT)}
    greta = subprocess.Popen(command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert greta.stderr is not None
    for line in greta.stderr:
        if "3 probes" in line:
            break
    for session in server.sessions():
        os.kill(session, signal.SIGKILL)
    said, errors = greta.communicate(timeout=60)
    assert (greta.returncode, said) == (3, ""), errors
    run = server.runs()[-1]
    assert "the connection ended; the run does not need it and goes on" in errors
    assert f"  greta remote attach node --run {run.name} " in errors
    assert not (run / "ended.json").exists()
    with server.open_gate():
        done = server.greta("attach", "--run", run.name, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 probes, 0 failed" in done.stderr


def test_ctrl_c_is_for_the_watching_only(server, work):
    assert server.greta("run", "--cases", "my cases", "--detach", GATED, cwd=work).returncode == 0
    env = {**os.environ, "PYTHONPATH": str(sshd.ROOT)}
    greta = subprocess.Popen(server.words("attach"), cwd=work, env=env, stderr=subprocess.PIPE, text=True)
    assert greta.stderr is not None
    assert greta.stderr.readline()  # it watches
    greta.send_signal(signal.SIGINT)
    _, errors = greta.communicate(timeout=60)
    assert greta.returncode == 130
    assert "left; the run goes on there" in flat(errors)
    name = server.runs()[-1].name
    assert [line.split()[2] for line in errors.splitlines() if f" --run {name} " in line] == ["attach", "stop"]
    with server.open_gate():
        assert server.greta("attach", cwd=work).returncode == 0


def test_one_run_at_a_time_and_an_end_to_it(server, work):
    assert server.greta("run", "--cases", "my cases", "--detach", GATED, cwd=work).returncode == 0
    run = server.runs()[-1]
    second = server.greta("run", "--cases", "my cases", "--lang", "en", cwd=work)
    assert second.returncode == 2
    assert f"your run {run.name} is on that host since" in flat(second.stderr)
    assert server.runs()[-1] == run
    early = server.greta("fetch", "--lang", "en", cwd=work)
    assert early.returncode == 2
    assert f"the run {run.name} is not over" in flat(early.stderr)
    until((run / "progress").exists)
    stopped = server.greta("stop", "--lang", "en", cwd=work)
    assert stopped.returncode == 0
    assert flat(stopped.stdout).startswith(f"{run.name}: ended, pytest's exit code 2")
    fetched = server.greta("fetch", "--lang", "en", cwd=work)
    assert fetched.returncode == 3
    assert "pytest ended with 2 there: interrupted" in flat(fetched.stdout)
    assert server.greta("run", "--cases", "my cases", "--pytest-args=-k fault", cwd=work).returncode == 0


def test_a_run_that_died_leaves_no_lock_and_no_verdict(server, work):
    assert server.greta("run", "--cases", "my cases", "--detach", GATED, cwd=work).returncode == 0
    run = server.runs()[-1]
    until((run / "progress").exists)
    runner = os.getpgid(holders(server)[0])
    os.kill(runner, signal.SIGKILL)
    locked = server.greta("run", "--cases", "my cases", cwd=work)
    assert locked.returncode == 2, "pytest itself still runs"
    os.killpg(runner, signal.SIGKILL)
    until(lambda: holders(server) == [])
    status = server.greta("status", "--lang", "en", cwd=work)
    assert status.returncode == 0
    assert f"{run.name}: lost before its end" in flat(status.stdout)
    done = server.greta("attach", "--run", run.name, "--lang", "en", cwd=work)
    assert done.returncode == 3
    assert "the run's processes are gone" in flat(done.stdout)
    assert "of 3 probes came back" in flat(done.stdout) or "of ? probes came back" in flat(done.stdout)
    again = server.greta("run", "--cases", "my cases", "--pytest-args=-k fault", cwd=work)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("how", ["altered", "removed", "added"])
def test_files_that_are_not_what_they_were(server, work, how):
    assert server.greta("run", "--cases", "my cases", "--detach", "--pytest-args=-k fault", cwd=work).returncode == 0
    (results,) = ended(server).glob("artifacts/*/far/results.jsonl")
    if how == "altered":
        results.write_text(results.read_text().replace('"outcome":"failed"', '"outcome":"passed"') + "\n")
    elif how == "removed":
        results.unlink()
    else:
        (results.parent / "more.txt").write_text("x")
    done = server.greta("fetch", "--lang", "en", cwd=work)
    assert done.returncode == 3
    assert "files are not what they were when the run ended (1: artifacts/" in flat(done.stderr)
    assert [p for p in (work / "artifacts_remote").rglob("*") if p.is_file()] == []


def config(server: Server, work: Path, **how: str) -> Path:
    path = work / "config"
    path.write_text(server.client(**how))
    return path


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"known": "nobody"}, "the host key of node is not among your known hosts"),
        ({"known": "others"}, "the host key of node is another than the one you know"),
        ({"identity": "stranger"}, "node refuses you"),
    ],
)
def test_who_the_host_is_and_who_you_are(server, work, how, said):
    if not (server.folder / "others").exists():
        public = sshd.key(server.folder / "stranger")
        (server.folder / "others").write_text(f"[127.0.0.1]:{server.port} {public}")
    before = server.runs()
    done = server.greta("run", "--cases", "my cases", "--lang", "en", cwd=work, config=config(server, work, **how))
    assert done.returncode == 2
    assert flat(done.stderr).startswith(said)
    assert "  ssh: " in done.stderr
    assert not (server.folder / "nobody").exists(), "no key is ever taken unseen"
    assert server.runs() == before


def test_a_python_that_is_not_there(server, work):
    done = server.greta("run", "--cases", "my cases", "--lang", "en", cwd=work, python="no such/python")
    assert done.returncode == 2
    assert flat(done.stderr).startswith("no such/python cannot be run on node")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of six megabytes on the host."""
    place = tmp_path / "small disk"
    place.mkdir()
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", "size=6m,mode=1777", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run([*sudo, "umount", "-l", place], check=True)


def fill(place: Path) -> None:
    with (place / "other people's files").open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), b"x" * 4096)


def test_a_disk_that_is_full_before(server, work, small_disk):
    fill(small_disk)
    words = ("--cases", "my cases", "--remote-dir", str(small_disk), "--lang", "en")
    done = server.greta("run", *words, cwd=work)
    assert done.returncode == 2
    assert "has 0 bytes free and the run needs" in flat(done.stderr)
    assert "--remote-dir" in done.stderr


def test_a_disk_that_is_full_here(server, work, small_disk):
    assert server.greta("run", "--cases", "my cases", "--detach", "--pytest-args=-k fault", cwd=work).returncode == 0
    fill(small_disk)
    ended(server)
    done = server.greta("fetch", "--artifacts", str(small_disk), "--lang", "en", cwd=work)
    assert done.returncode == 3
    assert "the disk is full" in flat(done.stderr)
    assert "--artifacts" in done.stderr
    assert server.greta("fetch", cwd=work).returncode == 0


def test_a_disk_that_fills_up_on_the_way(server, work, small_disk):
    words = ("--cases", "my cases", "--remote-dir", str(small_disk), "--lang", "en", "--detach", GATED)
    assert server.greta("run", *words, cwd=work).returncode == 0
    until((server.runs()[-1] / "progress").exists)
    fill(small_disk)
    with server.open_gate():
        until(lambda: holders(server) == [])
    done = server.greta("attach", "--lang", "en", cwd=work)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "is full" in flat(done.stdout)
    assert done.stdout.endswith("INCONCLUSIVE: no verdict without evidence\n")


def test_workers_of_xdist_over_ssh(server, work, tmp_path):
    """The way of docs/remote.md that pytest-xdist goes. Its ssh takes no path with a space."""
    (tmp_path / "config").write_text(server.config.read_text())
    (tmp_path / "cases").mkdir()
    case = "  - {id: a, model: synthetic, layers: [0], prompt: Hi, mode: [as_designed, kv_aligned]}\n"
    (tmp_path / "cases/a.greta.yaml").write_text("suite: spread\ncases:\n" + case)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    tx = f"ssh=node//ssh_config=config//python={sys.executable}//chdir={tmp_path}/far"
    cases = f"{tmp_path}/cases"
    words = ["-d", "--tx", tx, f"--rsyncdir={cases}", cases, "--greta-artifacts=out"]
    env = {**os.environ, "PYTHONPATH": str(sshd.ROOT)}
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    (results,) = (tmp_path / "out").glob("*/spread/results.jsonl")
    assert {json.loads(line)["worker"] for line in results.read_text().splitlines()} == {"gw0"}
    assert (tmp_path / "far/cases/a.greta.yaml").exists()
