"""No kernel has two threads that touch the same shared memory, one of them writing, with no barrier between them: the
emulation, built to watch each access, sees that whatever the order of the threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from breaking import ROOT, build

pytestmark = pytest.mark.system

CHOSEN = "test_windows or test_splits or test_keys_and_values or 128-f32-f32 or 80-bf16-bf16 or rope or trimmed"
"""Of the tests that run on any emulation: several tiles, both sets of kernels, a tile in stages."""


@pytest.mark.parametrize(
    ("target", "other"), [("greta_attn_hip_emulated", "warp"), ("greta_attn_hip_emulated_warp32", "cdna")]
)
def test_no_kernel_races(tmp_path: Path, target: str, other: str) -> None:
    library = build(ROOT / "native", tmp_path, target, "-DGRETA_EMULATED_RACES=ON")
    chosen = f"not {other} and ({CHOSEN})"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "test_hip_emulated.py"]
    environment = os.environ | {"GRETA_TEST_EMULATED": str(library)}
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
