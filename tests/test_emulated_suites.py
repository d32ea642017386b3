"""The case suites and the fault kit through the emulated HIP library: the CPU library's verdicts, and nothing that is
not run for another reason than a schedule or a fault that these kernels do not have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from pytest_greta.backends.registry import NATIVE
from tests.docs.pages import ROOT, all_blocks

WHOLE = "pytest cases --greta-backend hip-emulated"
FAULTS = "pytest cases/faults --greta-backend hip-emulated"
FLOAT = ("-k", "not bf16 and not f16")
SUITES = {"b3_66_v2", "b3_66_synthetic", "faults", "features", "schedules", "ways"}
OWN = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "GRETA_TEST_REQUIRE")
"""Of the caller's environment, not for these runs."""
NOT_HAD = {"schedule", "direction", "tile_origin", "max_update", "p_dtype", "p_scale", "fault"}

Case = tuple[str, str, str]
Result = dict[str, Any]


def results(command: str, more: Sequence[str], folder: Path) -> dict[Case, Result]:
    """What the command leaves of each probe, once it has ended well."""
    words = [sys.executable, "-m", *command.split(), *more, "-q", "-n", "2", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*words, f"--greta-artifacts={folder}"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in OWN},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    lines = [line for path in folder.rglob("results.jsonl") for line in path.read_bytes().splitlines()]
    return {(r["suite"], r["case"], r["probe"]): r for r in map(orjson.loads, lines) if "case" in r}


def essence(result: Result) -> dict[str, Any]:
    """What a verdict says. On the kernels' last bits hangs where healthy bytes differ first, whether another order of a
    sum shows in lse or only in attn_out, and how many heads a gain just above its smallest magnitude shows in."""
    verdict = result["verdict"]
    said = {key: verdict[key] for key in ("status", "scenario", "finding", "reason")}
    if result["fault"] and verdict["first_failure"] is not None:
        keys = ("layer", "phase") if verdict["finding"] == "NONDETERMINISTIC" else ("layer", "phase", "stage")
        said |= {key: verdict["first_failure"][key] for key in keys}
    return said


def declared_otherwise(mine: Result, cpus: Result) -> bool:
    """Whether the one difference is that prefill rounds P to the activation type and decode does not."""
    narrow = any(dtype in mine["settings"].values() for dtype in ("bf16", "f16"))
    return narrow and not mine["fault"] and essence(mine) == {**essence(cpus), "finding": "SCHEDULE"}


def compared(command: str, more: Sequence[str], folder: Path) -> tuple[list[Case], list[Case]]:
    """The probes that ran and those that did not, once every verdict was found to be the CPU library's."""
    mine = results(command, more, folder / "mine")
    cpus = results(command.replace("hip-emulated", "cpu"), more, folder / "cpu")
    assert mine.keys() == cpus.keys()
    ran = [case for case in mine if mine[case]["outcome"] == "passed"]
    left = [case for case in mine if mine[case]["outcome"] == "not_run"]
    assert len(ran) + len(left) == len(mine)
    other = {
        case: (essence(cpus[case]), essence(mine[case])) for case in ran if essence(mine[case]) != essence(cpus[case])
    }
    assert {case: both for case, both in other.items() if not declared_otherwise(mine[case], cpus[case])} == {}
    for case in ran:
        libraries = {kernel["library"] for kernel in mine[case]["verdict"]["evidence"]["kernels"]}
        assert libraries <= {"greta-hip-emulated", "greta-hip-emulated-faulty"}, case
    reasons = {mine[case]["not_run"].split()[1] for case in left}
    assert reasons <= NOT_HAD
    return ran, left


def planted(cases: Sequence[Case]) -> set[str]:
    """The kinds of fault among the cases: a file each."""
    from pytest_greta.faults.kinds import KINDS

    return {kind for kind in KINDS for suite, case, _ in cases if suite == "faults" and case.startswith(kind)}


@pytest.mark.system
def test_the_fault_kit_in_float_gives_the_cpu_librarys_verdicts(tmp_path: Path) -> None:
    from pytest_greta.faults.kinds import KINDS

    ran, left = compared(FAULTS, FLOAT, tmp_path)
    assert set(KINDS) - planted(ran) == {"tile_quant"}
    assert len(left) < len(ran) / 5


@pytest.mark.slow
@pytest.mark.model
def test_all_suites_give_the_cpu_librarys_verdicts(tmp_path: Path) -> None:
    """Twelve minutes of one core, in two processes."""
    ran, left = compared(WHOLE, (), tmp_path)
    assert {suite for suite, _, _ in ran} == SUITES
    (page,) = {block.page for block in all_blocks("sh") if WHOLE in block.text}
    said = " ".join(page.read_text(encoding="utf-8").split())
    assert f"That is {len(ran) + len(left)} probes" in said
    assert f"{len(left)} are not run" in said


def test_the_command_is_in_the_docs_and_names_a_backend() -> None:
    assert [block.page.name for block in all_blocks("sh") if WHOLE in block.text.splitlines()] == ["hip.md"]
    assert WHOLE.rsplit(maxsplit=1)[-1] in NATIVE
