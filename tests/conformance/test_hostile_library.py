"""A hostile library under pytest: one clear message, one lost case, and no second pytest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from backend_command import ROOT, Build

DOES = {
    "exits": (11, "crash: worker"),
    "leaves": (12, "crash: worker"),
    "loops": (13, "timeout: not ended within"),
    "forks": (14, "greta_attend of * forked: a library must not"),
    "scribbles_q": (15, "wrote into q, which is an input"),
    "scribbles_k": (16, "wrote into k_new, which is an input"),
    "scribbles_batch": (17, "wrote into batch.kv_len, which is an input"),
    "before_out": (9, "wrote beyond out, into memory that is not its own"),
    "behind_lse": (10, "wrote beyond lse, into memory that is not its own"),
    "behind_out": (19, "wrote beyond out, into memory that is not its own"),
    "nan": (18, None),
}
"""Case: the length of its prompt, and what is said."""


@pytest.fixture(scope="module")
def hostile(build: Build) -> Path:
    pytest.importorskip("_greta_native", reason="the native library is not installed: pip install .")
    return build(Path(__file__).with_name("hostile_cases.c"), "-Wno-unused-result", "-Wno-implicit-fallthrough")


def run(library: Path, folder: Path, cases: list[str], *args: str) -> subprocess.CompletedProcess[str]:
    """Each case between two that are fine, in a process group of its own that must be empty in the end."""
    lines = ["suite: hostile", "cases:"]
    for id, length in [("first", 20), *((c, DOES[c][0]) for c in cases), ("last", 21)]:
        limit = ", timeout: 5" if id == "loops" else ""
        lines.append(f"  - {{id: {id}, random_tokens: {length}, layers: [0]{limit}}}")
    (folder / "h.greta.yaml").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--greta-library={library}", *args]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--greta-canary=off", "h.greta.yaml"],
        cwd=folder, env=environment, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=300)
    deadline = time.monotonic() + 30
    while alive(process.pid):
        assert time.monotonic() < deadline, "something of it runs on"
        time.sleep(0.1)
    return subprocess.CompletedProcess(command, process.returncode, " ".join(out.split()), " ".join(err.split()))


def alive(group: int) -> list[Path]:
    """The processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp, *_ = stat.read_text(encoding="latin-1").rpartition(")")[2].split()
            if int(pgrp) == group and state not in "ZX":
                found.append(stat)
    return found


def test_in_a_process_of_their_own_each_costs_one_case(hostile: Path, tmp_path: Path) -> None:
    done = run(hostile, tmp_path, list(DOES), "-n", "1", "--greta-lang=en")
    assert done.returncode == 1, done.stdout
    assert f"{len(DOES)} failed, 2 passed" in done.stdout
    assert done.stdout.count(" passed in ") == 1, "a second pytest would say so, too"
    for _, said in DOES.values():
        assert said is None or all(part in done.stdout for part in said.split(" * ")), said


def test_what_comes_back_costs_one_case_without_xdist_too(hostile: Path, tmp_path: Path) -> None:
    cases = ["forks", "scribbles_q", "scribbles_k", "scribbles_batch", "before_out", "behind_lse", "behind_out", "nan"]
    done = run(hostile, tmp_path, cases, "-p", "no:xdist", "--greta-lang=en")
    assert done.returncode == 1, done.stdout
    assert f"{len(cases)} failed, 2 passed" in done.stdout
    assert done.stdout.count(" passed in ") == 1
    for case in cases:
        said = DOES[case][1]
        assert said is None or all(part in done.stdout for part in said.split(" * ")), said


@pytest.mark.parametrize(
    ("case", "code", "said"), [("exits", 70, "called exit()"), ("loops", 1, "did not end within 5 s")]
)
def test_what_does_not_is_named_and_never_green(hostile: Path, tmp_path: Path, case: str, code: int, said: str) -> None:
    done = run(hostile, tmp_path, [case], "-p", "no:xdist", "--greta-lang=en")
    assert done.returncode == code
    assert f"h.greta.yaml::{case}::kv_aligned {said}" in done.stderr
    assert "with pytest -n 1 the cases have a process of their own" in done.stderr
    assert "passed h.greta.yaml::first::kv_aligned" in done.stderr
