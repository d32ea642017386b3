"""Each barrier, mask and guard of the HIP kernels taken away in turn: a test of the emulated kernels must turn red.

pytest -m slow -n 2 tests/native/test_hip_mutants.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from breaking import broken, build, copied
from hip_build import ROOT
from hip_mutants import CHOICES, FILES, HIP, MUTANTS, Mutant, sites

BUILDS = {
    "cdna": ("greta_attn_hip_emulated",),
    "warp": ("greta_attn_hip_emulated_warp32",),
    "races": ("greta_attn_hip_emulated", "-DGRETA_EMULATED_RACES=ON"),
}
"""The target, and options, of each build in which there are mutants."""
TESTS = ("tests/native/test_hip_device.py", "tests/native/test_hip_emulated.py")
CHOSEN = "not {other} and (not every_head_size or bf16-bf16 or f32-f32)"
"""What a mutant meets, up to the first red test: one wave width, all but some types of the cache."""
FIRST = {
    "attend_naive.h": "naive",
    "rows.h": "test_hip_device or starts or windows or biases or number",
    "kv_write.h": "written or behind_all_sequences or cache_holds",
    "kv_move.h": "moved or trimmed or never_wrote",
    "rope.h": "test_rope",
}
"""Where a mutant of the file is looked for before all other tests; in the kernels that are not naive otherwise."""
SEED = "3"
"""Waves in another order than they are numbered: some barriers are needed in no other."""
LIMIT_S = 200
"""Of processor time, because a busy machine hangs no kernel; all tests take 10, or 50 with races watched."""


def first_red(library: Path, kind: str, first: str) -> str:
    """What pytest says of the first test that is red with this library; '' when all are green."""
    environment = os.environ | {"GRETA_TEST_EMULATED": str(library), "GRETA_EMULATED_SEED": SEED}
    environment.pop("PYTEST_ADDOPTS", None)
    command = ["sh", "-c", f'ulimit -t {LIMIT_S}; exec "$@"', "sh"]
    command += [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line"]
    chosen = CHOSEN.format(other="cdna" if kind == "warp" else "warp")
    for part in (f"({first})", f"not ({first})"):
        done = subprocess.run(
            [*command, "-k", f"{chosen} and {part}", *TESTS],
            cwd=ROOT, env=environment, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode == 0:
            continue
        # a failed test, or a crash of the kernel; tests that cannot be collected have seen nothing
        assert done.returncode == pytest.ExitCode.TESTS_FAILED or done.returncode < 0, done.stdout + done.stderr
        return done.stdout[-500:] if done.returncode > 0 else f"signal {-done.returncode}"
    return ""


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    copied(folder)
    return folder


def built(folder: Path, kind: str) -> Path:
    return build(folder / "native", folder / kind, *BUILDS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILDS)
def test_the_unbroken_kernels_are_green(healthy: Path, kind: str) -> None:
    assert first_red(built(healthy, kind), kind, "naive") == ""


def red_with(healthy: Path, mutant: Mutant) -> str:
    """As ``first_red``; one that does not compile is no mutant, and raises."""
    with broken(healthy / "native" / "src" / "hip" / mutant.file, mutant.right, mutant.wrong):
        return first_red(built(healthy, mutant.build), mutant.build, FIRST.get(mutant.file, "not naive"))


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.id) for m in MUTANTS if not m.equivalent])
def test_a_mutant_turns_a_test_red(healthy: Path, mutant: Mutant) -> None:
    assert red_with(healthy, mutant), f"{mutant.file}: nobody misses '{mutant.right}', which became '{mutant.wrong}'"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.id) for m in MUTANTS if m.equivalent])
def test_an_equivalent_mutant_is_green(healthy: Path, mutant: Mutant) -> None:
    said = red_with(healthy, mutant)
    assert said == "", f"{mutant.file}: '{mutant.right}' is missed after all; it was said that {mutant.equivalent}"


@pytest.mark.parametrize("file", FILES)
def test_every_barrier_and_comparison_has_its_mutant(file: str) -> None:
    source, covered = (HIP / file).read_text(), set[int]()
    for mutant in MUTANTS:
        if mutant.file == file:
            assert source.count(mutant.right) == 1, (
                f"{file}: '{mutant.right}' is there {source.count(mutant.right)} times"
            )
            covered |= {source.index(mutant.right) + i for i in mutant.gone()}
    for choice in CHOICES[file]:
        starts = [match.start() for match in re.finditer(re.escape(choice), source)]
        assert starts, f"{file}: there is no '{choice}' any more"
        covered |= {start + i for start in starts for i in range(len(choice))}
    assert [line for offset, line in sites(file) if offset not in covered] == []


def test_the_pattern_sees_a_new_guard() -> None:
    """Were it blind, the test above would be green for ever."""
    found = [line for file in FILES for _, line in sites(file)]
    assert sum("gpu::sync()" in line for line in found) == sum(
        (HIP / file).read_text().count("gpu::sync()") for file in FILES
    )
    assert any("if (key < lo || key >= hi" in line for line in found)
    assert any("i < p.pairs; i +=" in line for line in found)


def test_each_kernel_file_that_has_a_barrier_is_listed() -> None:
    shim = {"gpu.h"}  # where a barrier is spelled, not used
    assert {path.name for path in HIP.glob("*.h") if "gpu::sync()" in path.read_text()} - shim <= set(FILES)
