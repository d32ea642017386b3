"""Break the library itself: one key too few in the decode kernel must turn ``pytest -m kv_aligned`` red, at the right place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.system

BREAKS = {
    # name: (file, what stands there, what stands there instead, stage, phase)
}


def build(source: Path, folder: Path) -> Path:
    """The CPU library of a changed copy of ``native/``; the path of the shared object."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert cmake, "cmake is part of the extra 'dev'"
    subprocess.run(
        [cmake, "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}"],
        check=True,
        capture_output=True,
    )
    subprocess.run([cmake, "--build", folder, "--target", "greta_attn", "-j2"], check=True, capture_output=True)
    (library,) = folder.rglob("libgreta_attn.so")
    return library
