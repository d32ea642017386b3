"""Builds the libraries for devices, and runs Python where a made-up HIP runtime is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tool(name: str) -> str:
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert path, f"{name} is not here: cmake and ninja are in the extra 'dev', clang-19 in the system's packages"
    return path


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        tool("cmake"),
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
        "-S",
        ROOT / "native",
        "-B",
        folder,
    ]
    command += ["-DGRETA_HIP_EMULATED=OFF", "-DGRETA_PORTABLE_ONLY=ON", "-DGRETA_WERROR=ON"]
    command += [f"-DPython_EXECUTABLE={sys.executable}", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def build(folder: Path, name: str, *options: str) -> Path:
    """The library ``name`` and its twin beside it; the path of the first."""
    done = configure(folder, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [tool("cmake"), "--build", str(folder), "--parallel", "2", "--target", name, f"{name}_faulty"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / f"lib{name}.so"


def fake_runtime(folder: Path, *flags: str) -> None:
    """``fake_hip.c`` as the folder's libamdhip64.so."""
    source = Path(__file__).with_name("fake_hip.c")
    command = ["gcc", "-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", *flags, source]
    subprocess.run([*command, "-o", folder / "libamdhip64.so"], check=True)


def python(code: str, library: Path, folder: Path, **environment: str) -> str:
    """What ``code`` prints, in a process of its own: a runtime is looked for once in a process."""
    paths = [str(Path(__file__).parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": os.pathsep.join(paths)} | environment
    command = [sys.executable, "-c", code, str(library)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
