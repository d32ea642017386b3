"""Builds ``fake_device.c``: a library with as many devices as a test wants."""

from __future__ import annotations

import subprocess
from pathlib import Path

import _greta_native

CPU = Path(next(iter(_greta_native.__path__))) / "libgreta_attn.so"


def build(folder: Path) -> Path:
    source = Path(__file__).with_suffix(".c")
    header = source.parents[2] / "native/include"
    path = folder / "libfake_device.so"
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{header}", "-o", path, source], check=True
    )
    return path
