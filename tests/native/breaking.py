"""A copy of the native sources that is broken on purpose, one place at a time, and built again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hip_build import ROOT, tool


class DoesNotCompile(Exception):
    """With the compiler's output."""


def copied(folder: Path) -> Path:
    """The native sources below ``folder``, so that a break compiles only what includes its file."""
    shutil.copytree(ROOT / "native", folder / "native")
    return folder / "native"


def build(source: Path, folder: Path, target: str, *options: str) -> Path:
    """The library ``target`` of ``source``, for tests; the path of the shared object. Raises ``DoesNotCompile``."""
    configure = [tool("cmake"), "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1"]
    configure += ["-DGRETA_PORTABLE_ONLY=ON", f"-DPython_EXECUTABLE={sys.executable}", *options]
    commands = [[tool("cmake"), "--build", folder, "--target", target, "-j2"]]
    if not (folder / "CMakeCache.txt").is_file():
        commands.insert(0, configure)
    for command in commands:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise DoesNotCompile(done.stdout + done.stderr)
    (library,) = folder.rglob(f"lib{target}.so")
    return library


@contextmanager
def broken(path: Path, right: str, wrong: str) -> Iterator[None]:
    """``wrong`` in place of ``right``, which is there, until the end of the block."""
    source = path.read_text()
    assert right in source, f"{path.name} no longer has '{right}', which this test breaks: break what took its place"
    path.write_text(source.replace(right, wrong))
    try:
        yield
    finally:
        path.write_text(source)
