"""The HIP library as it is built for AMD's devices, where there is none: it loads, says so, and asks a runtime for
what it should. What its kernels compute, the emulation shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import _greta_native
import pytest
from hip_build import ROOT, build, configure, fake_runtime, python

pytestmark = pytest.mark.system

OPEN = """
import sys
from pathlib import Path
from attention_cases import config
from pytest_greta.backends import native
library = native.load(Path(sys.argv[1]))
print(library.device_count(), library.describe().device_kind)
for device in (0, 1, 2, 99, -1):
    try:
        library.open(config(device=device)).close()
        print(device, "opened")
    except Exception as error:
        print(device, type(error).__name__, getattr(error, "kind", ""), error)
"""
EVERY_KERNEL = """
import sys
from itertools import product
from pathlib import Path
from attention_cases import batch, config, randn
import numpy as np
from pytest_greta.backends import native
library = native.load(Path(sys.argv[1]))
kinds = ["f32", "bf16", "f16", "fp8_e4m3fn", "fp8_e4m3fnuz"]
for act, kv, dim, kv_heads in product(kinds[:3], kinds, [8, 64, 80, 96, 128, 192, 256], [2, 4]):
    c = config(act_dtype=act, kv_dtype=kv, head_dim_qk=dim, head_dim_v=dim, n_kv_heads=kv_heads)
    with library.open(c) as session:
        for phase, q_len in (("prefill", 1), ("decode", 1), ("decode", 4)):
            q = randn(np.random.default_rng(0), (q_len, 4, dim), act)
            session.attend(0, phase, batch([q_len], [8]), q)
"""


def test_without_a_runtime(hip_library: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    said = python(OPEN, hip_library, tmp_path).splitlines()
    assert time.monotonic() - began < 20  # Python's own start, on a busy machine, most of it
    assert said[0] == "0 hip"
    assert len(said) == 6
    for line in said[1:]:
        assert "BackendMissing device" in line
        assert "GRETA_NO_DEVICE: no device: no libamdhip64.so" in line


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "the runtime finds no device"),
        ({"FAKE_HIP_ERROR": "3"}, "the runtime finds no device: made-up error (3)"),
    ],
)
def test_a_runtime_without_devices(hip_library: Path, tmp_path: Path, environment: dict[str, str], words: str) -> None:
    fake_runtime(tmp_path)
    said = python(OPEN, hip_library, tmp_path, **environment).splitlines()
    assert said[0] == "0 hip"
    assert all(line.split("GRETA_NO_DEVICE: no device: ")[1].startswith(words) for line in said[1:])


def test_two_devices(hip_library: Path, tmp_path: Path) -> None:
    fake_runtime(tmp_path)
    said = python(OPEN, hip_library, tmp_path, FAKE_HIP_DEVICES="2").splitlines()
    assert said[:3] == ["2 hip gfx942", "0 opened", "1 opened"]
    for line, device in zip(said[3:], (2, 99, -1), strict=True):
        assert f"{device} BackendMissing device GRETA_NO_DEVICE: config.device is {device}, expected 0 .. 1; " in line


def test_a_device_that_the_library_was_not_built_for(hip_library: Path, tmp_path: Path) -> None:
    fake_runtime(tmp_path)
    said = python(OPEN, hip_library, tmp_path, FAKE_HIP_DEVICES="1", FAKE_HIP_LOAD="209").splitlines()
    assert "0 Unsupported" in said[1]
    assert "device 0 is none of those that this library has kernels for, gfx942, gfx90a" in said[1]


def test_a_runtime_that_lacks_a_function(hip_library: Path, tmp_path: Path) -> None:
    fake_runtime(tmp_path, "-DFAKE_HIP_LACKS_LAUNCH")
    said = python(OPEN, hip_library, tmp_path, FAKE_HIP_DEVICES="1")
    assert "the runtime library has no hipModuleLaunchKernel" in said.splitlines()[1]


@pytest.mark.parametrize("kernels", ["fast", "naive"])
def test_every_kernel_that_the_host_asks_for_is_in_the_library(hip_library: Path, tmp_path: Path, kernels: str) -> None:
    """And none is launched with dynamic LDS, of which the resource gate could not know."""
    fake_runtime(tmp_path)
    log = tmp_path / "log"
    python(EVERY_KERNEL, hip_library, tmp_path, FAKE_HIP_DEVICES="1", FAKE_HIP_LOG=str(log), GRETA_HIP_KERNELS=kernels)
    launches = [line.split() for line in log.read_text().splitlines()]
    launched = {name for name, *_ in launches}
    assert len(launched) == (1 + 18 + 45 if kernels == "fast" else 3)
    assert "greta_combine.kd" in launched
    assert {lds for _, _, _, lds, *_ in launches} == {"0"}


def test_only_the_twin_has_faults(hip_library: Path) -> None:
    twin = hip_library.with_name("libgreta_attn_hip_faulty.so")
    symbols = [
        subprocess.run(["nm", "-D", "--defined-only", path], check=True, capture_output=True, text=True).stdout
        for path in (hip_library, twin)
    ]
    assert ["greta_fault_set" in text for text in symbols] == [False, True]
    assert all("image" not in text for text in symbols)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-DGRETA_HIP_COMPILER=/bin/false"], "/bin/false does not compile for gfx942"),
        (["-DGRETA_HIP_ARCHITECTURES=gfx0"], "does not compile for gfx0"),
    ],
)
def test_a_compiler_that_cannot(tmp_path: Path, options: list[str], said: str) -> None:
    done = configure(tmp_path, "-DGRETA_HIP=ON", *options)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())


if shutil.which("nvcc"):  # not a skip: where it is absent nothing was to be run

    def test_the_same_kernels_for_nvidia(tmp_path: Path) -> None:
        library = build(tmp_path, "greta_attn_cuda", "-DGRETA_CUDA=ON", "-DGRETA_CUDA_ARCHITECTURES=90")
        said = python(OPEN, library, tmp_path).splitlines()
        if said[0] == "0 cuda":
            assert all("BackendMissing device" in line for line in said[1:])


# ------------------------------------------------------------------------------------------------- pytest


@pytest.fixture
def installed(hip_library: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which the native package holds the HIP library too."""
    folder = tmp_path / "installed" / "_greta_native"
    folder.mkdir(parents=True)
    for path in Path(next(iter(_greta_native.__path__))).iterdir():
        if path.is_file():
            (folder / path.name).symlink_to(path)
    for path in hip_library.parent.glob("libgreta_attn_hip*.so"):
        (folder / path.name).symlink_to(path)
    paths = [str(folder.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GRETA_TEST_REQUIRE": ""}


@pytest.mark.parametrize(("option", "code"), [("--greta-allow-empty", 0), ("--greta-require=device", 1)])
def test_the_shipped_cases_without_a_device(installed: dict[str, str], tmp_path: Path, option: str, code: int) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--greta-backend=hip", option]
    command += [
        f"--greta-artifacts={tmp_path}/out",
        "cases/synthetic.greta.yaml",
        "cases/faults/split_merge.greta.yaml",
    ]
    done = subprocess.run(command, cwd=ROOT, env=installed, check=False, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "GRETA_NO_DEVICE: no device: no libamdhip64.so" in said
    assert re.search(
        r"\(0 passed, 0 failed, [0-9]+ not run\)" if code == 0 else r"\(0 passed, [1-9][0-9]* failed\)", said
    )
