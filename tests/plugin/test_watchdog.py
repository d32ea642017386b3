"""Without xdist a hang or a crash ends the run: what is left behind must say where, and what was known by then."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from greta_project import Project, case

from pytest_greta.watchdog import Watchdog, as_line_of


@pytest.mark.parametrize("where", ["option", "ini", "case"])
def test_a_hang_ends_the_process_with_results_stacks_and_the_line(project: Project, where: str) -> None:
    project.cases(case("ok_1"), case("bad_2"), case("hang_3", *(["timeout: 0.5"] if where == "case" else [])))
    args = {"option": ["--greta-timeout", "0.5"], "ini": [], "case": ["--greta-timeout", "50"]}[where]
    if where == "ini":
        project.ini("greta_timeout = 0.5")
    begin = time.monotonic()
    result = project.run_apart("-p", "no:xdist", "--greta-artifacts", "out", *args)
    assert time.monotonic() - begin < 20
    assert result.ret == 1
    result.stderr.fnmatch_lines(
        [
            "resultados hasta ahora:",
            "results so far:",
            "  passed   a.greta.yaml::ok_1::kv_aligned PASS ALIGNED",
            "  failed   a.greta.yaml::bad_2::kv_aligned KV_MISMATCH KV_MISALIGNMENT",
            "a.greta.yaml:9: a.greta.yaml::hang_3::kv_aligned no terminó en 0.5 s; se termina este proceso",
            "a.greta.yaml:9: a.greta.yaml::hang_3::kv_aligned did not end within 0.5 s; this process is ended",
            '*stub_probe.py", line * in _hang',
            '*a.greta.yaml", line 9 in a.greta.yaml::hang_3::kv_aligned',
        ]
    )
    assert set(project.written(project.path / "out")) == {"ok_1::kv_aligned", "bad_2::kv_aligned"}
    (log,) = (project.path / "out").glob("*/demo/run/hang_3_kv_aligned.log")
    assert "start a.greta.yaml:9 a.greta.yaml::hang_3::kv_aligned" in log.read_text()


def test_a_hang_that_holds_the_gil(project: Project) -> None:
    project.conftest("import pytest_greta.watchdog\npytest_greta.watchdog.GRACE = 0.2")
    result = project.cases(case("ok_1"), case("spin_2")).run_apart("-p", "no:xdist", "--greta-timeout", "0.5")
    assert result.ret == 1
    result.stderr.fnmatch_lines(["Timeout (*", '*a.greta.yaml", line 6 in a.greta.yaml::spin_2::kv_aligned'])


def test_a_native_crash_names_its_case(project: Project) -> None:
    project.cases(case("ok_1"), case("segv_2"), case("ok_3"))
    result = project.run_apart("-p", "no:xdist", "--greta-artifacts", "out")
    assert result.ret == -signal.SIGSEGV
    result.stderr.fnmatch_lines(
        ["Fatal Python error: Segmentation fault", '*a.greta.yaml", line 6 in a.greta.yaml::segv_2::kv_aligned']
    )
    assert set(project.written(project.path / "out")) == {"ok_1::kv_aligned"}
    logs = {file.name for file in (project.path / "out").glob("*/demo/run/*")}
    assert logs == {"ok_1_kv_aligned.log", "segv_2_kv_aligned.log"}


@pytest.fixture
def leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library that calls ``exit(0)``, or ``quick_exit(0)`` where GRETA_TEST_QUICK is set."""
    source, library = tmp_path / "leaves.c", tmp_path / "libleaves.so"
    source.write_text(
        '#include <stdlib.h>\nvoid leave(void) { if (getenv("GRETA_TEST_QUICK")) quick_exit(0); exit(0); }\n'
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    monkeypatch.setenv("GRETA_TEST_LEAVES", str(library))


@pytest.mark.usefixtures("leaves")
@pytest.mark.parametrize("quick", [False, True])
def test_a_library_that_calls_exit_does_not_end_the_run_green(
    project: Project, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    if quick:
        monkeypatch.setenv("GRETA_TEST_QUICK", "1")
    project.cases(case("ok_1"), case("exit_2"), case("ok_3"))
    result = project.run_apart("-p", "no:xdist")
    assert result.ret == 70
    result.stderr.fnmatch_lines(
        [
            "results so far:",
            "  passed   a.greta.yaml::ok_1::kv_aligned PASS ALIGNED",
            "a.greta.yaml:6: a.greta.yaml::exit_2::kv_aligned llamó a exit()*",
            "a.greta.yaml:6: a.greta.yaml::exit_2::kv_aligned called exit()*",
        ]
    )


@pytest.mark.usefixtures("leaves")
def test_a_library_that_calls_exit_costs_one_case_under_xdist(project: Project) -> None:
    pytest.importorskip("xdist")
    project.cases(case("ok_1"), case("exit_2"), case("ok_3"))
    result = project.run_apart("-n", "1")
    assert result.parseoutcomes() == {"passed": 2, "failed": 1}
    result.stdout.fnmatch_lines(["INCONCLUSIVE a.greta.yaml:6 exit_2 kv_aligned*"])


@pytest.mark.usefixtures("leaves")
@pytest.mark.parametrize("quick", [False, True])
def test_exit_outside_of_a_case_and_in_a_forked_child_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    if quick:
        monkeypatch.setenv("GRETA_TEST_QUICK", "1")
    body = """
import os
from cffi import FFI
from pytest_greta.exit_guard import guarded
ffi = FFI(); ffi.cdef("void leave(void); int fork(void);")
for _ in range(100):
    with guarded(2, lambda: "said"):
        pass
with guarded(2, lambda: "said"):
    pid = ffi.dlopen(None).fork()
    if pid == 0:
        ffi.dlopen(os.environ["GRETA_TEST_LEAVES"]).leave()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
ffi.dlopen(os.environ["GRETA_TEST_LEAVES"]).leave()
"""
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_case_that_ends_in_time_is_left_alone(project: Project) -> None:
    project.cases(case("ok_1"), case("ok_2"))
    project.conftest("import pytest_greta.watchdog\npytest_greta.watchdog.GRACE = 0")
    project.pytester.makepyfile(test_z="import time\ndef test_sleeps(): time.sleep(0.4)")
    result = project.run_apart("-p", "no:xdist", "--greta-timeout", "0.2")
    assert result.parseoutcomes() == {"passed": 3}


def test_the_users_own_faulthandler_timeout_stays(project: Project) -> None:
    """A process has one such timer: taking it would silence what the user asked for."""
    project.ini("faulthandler_timeout = 0.3", "faulthandler_exit_on_timeout = true")
    result = project.cases(case("hang_1")).run_apart("-p", "no:xdist", "--greta-timeout", "30")
    result.stderr.fnmatch_lines(["Timeout (0:00:00.3*", '*a.greta.yaml", line 3 in *'])


def test_without_the_faulthandler_plugin(project: Project) -> None:
    result = project.cases(case("hang_1")).run_apart("-p", "no:faulthandler", "--greta-timeout", "0.3")
    assert result.ret == 1
    result.stderr.fnmatch_lines(["*a.greta.yaml:3: *did not end within 0.3 s*"])


def test_a_frame_stands_at_the_given_line(tmp_path: Path) -> None:
    def dump() -> str:
        with (tmp_path / "stack").open("w+") as file:
            faulthandler.dump_traceback(file, all_threads=False)
        return (tmp_path / "stack").read_text()

    stack = as_line_of(tmp_path / "a b.yaml", 41, "a::b", dump)
    assert f'File "{tmp_path}/a b.yaml", line 41 in a::b\n' in stack
    assert as_line_of(tmp_path, 1, "x", lambda: 5) == 5


def test_a_debugger_stops_the_clock() -> None:
    dog = Watchdog(os.dup(2))
    with dog.watch(0.05, lambda: "never said"):
        dog.cancel()
        time.sleep(0.15)
    os.close(dog.fd)
