"""The C++ tests of ``native/tests``, built and run by CMake: without and with sanitizers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"


@pytest.mark.system
@pytest.mark.parametrize(
    "options",
    [("-DGRETA_WERROR=ON",), ("-DGRETA_SANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=RelWithDebInfo")],
    ids=["warnings-are-errors", "sanitizers"],
)
def test_ctest(options: tuple[str, ...], tmp_path: Path) -> None:
    cmake, ctest = shutil.which("cmake"), shutil.which("ctest")
    assert cmake, "install cmake: pip install cmake"
    assert ctest, "install ctest: pip install cmake"
    python = f"-DPython_EXECUTABLE={sys.executable}"
    subprocess.run(
        [cmake, "-S", str(NATIVE), "-B", str(tmp_path), "-DGRETA_BUILD_TESTS=ON", python, *options], check=True
    )
    subprocess.run([cmake, "--build", str(tmp_path), "--parallel", "2"], check=True)
    subprocess.run([ctest, "--test-dir", str(tmp_path), "--output-on-failure"], check=True)
