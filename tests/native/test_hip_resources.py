"""The resource gate: what kernels take of a compute unit, read from the code objects; red where a kernel spills."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hip_build import ROOT, tool

sys.path.insert(0, str(ROOT / "native/tools"))

import resources

FINE = resources.Kernel("greta_prefill_bf16_128", "gfx942", 256, 0, 100, 0, 0, 0, 16896, False, 256)
KERNELS = """
#include "gpu.h"
struct Params {{ float* x; int n; }};
GPU_KERNEL({name}, Params, 4, {waves}) {{
  GPU_SHARED(float, shared, 1024);
  float kept[{kept}];
  GPU_UNROLL for (int i = 0; i < {kept}; ++i) kept[i] = p.x[i * 256 + greta::gpu::thread()];
  shared[greta::gpu::thread()] = kept[p.n & 1];
  greta::gpu::sync();
  GPU_UNROLL for (int i = 0; i < {kept}; ++i) p.x[i * 256 + greta::gpu::thread()] = kept[i] * shared[i];
}}
"""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"vgpr_spills": 1}, "spills 1 VGPRs and 0 SGPRs"),
        ({"sgpr_spills": 3}, "spills 0 VGPRs and 3 SGPRs"),
        ({"scratch": 8}, "takes 8 bytes of scratch a lane"),
        ({"dynamic_lds": True}, "has LDS whose size the launch gives"),
        ({"lds": 65537}, "takes 65537 bytes of LDS of 65536; reaches 0 waves a SIMD of 2"),
        ({"lds": 32769}, "reaches 1 waves a SIMD of 2"),
        ({"vgprs": 257}, "reaches 1 waves a SIMD of 2"),
        ({"vgprs": 257, "name": "greta_prefill_bf16_192"}, ""),
        ({"vgprs": 128, "lds": 0, "name": "greta_decode_f32_64_rows_8"}, ""),
        ({"vgprs": 129, "lds": 0, "name": "greta_decode_f32_64_rows_8"}, "reaches 3 waves a SIMD of 4"),
        ({"vgprs": 512, "lds": 65536, "name": "another"}, ""),
        ({"vgprs": 257, "scratch": 8, "architecture": "gfx90a"}, ""),
        ({"vgpr_spills": 1, "architecture": "gfx90a"}, "spills 1 VGPRs and 0 SGPRs"),
    ],
)
def test_rules(changes: dict[str, Any], words: str) -> None:
    assert "; ".join(replace(FINE, **changes).broken()) == words


DYNAMIC = re.compile(r"extern\b[^;(]*\b(?:shared|__shared__)\b")


def test_no_kernel_declares_lds_without_a_size() -> None:
    """An optimised code object does not say that a kernel takes what the launch gives."""
    for line in ("extern __shared__ float x[];", "extern __attribute__((shared)) float x[];"):
        assert DYNAMIC.search(line.replace("__attribute__((", ""))
    sources = [path for path in (ROOT / "native/src/hip").rglob("*") if path.suffix in (".h", ".cpp")]
    assert len(sources) > 30
    assert [p.name for p in sources if DYNAMIC.search(p.read_text().replace("__attribute__((", ""))] == []


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"__CLANG_OFFLOAD_BUNDLE__" + bytes(8), b"text"])
def test_a_file_without_code(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    code, said = gate(tmp_path / "x")
    assert code == 2
    assert said.startswith(f"{tmp_path}/x: ")
    assert len(said.splitlines()) == 1


def gate(path: Path) -> tuple[int, str]:
    command = [sys.executable, ROOT / "native/tools/resources.py", path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def compiled(folder: Path, name: str, kept: int, waves: int) -> tuple[Path, str]:
    """A code object of one kernel that keeps ``kept`` floats a lane, and what the compiler says of its resources."""
    source, out = folder / "kernel.cpp", folder / "kernel.o"
    source.write_text(KERNELS.format(name=name, kept=kept, waves=waves))
    flags = [
        "-x",
        "hip",
        "-nogpuinc",
        "-nogpulib",
        "--offload-device-only",
        "--no-gpu-bundle-output",
        "-O3",
        "-std=c++17",
    ]
    command = [tool("clang++-19"), *flags, "--offload-arch=gfx942", f"-I{ROOT}/native/src/hip", "-c", source, "-o", out]
    remarks = "-Rpass-analysis=kernel-resource-usage"
    done = subprocess.run([*command, remarks], check=True, capture_output=True, text=True)
    return out, done.stderr


@pytest.mark.system
def test_a_kernel_written_to_spill_is_red(tmp_path: Path) -> None:
    code, said = gate(compiled(tmp_path, "greta_decode_made_up", 400, 4)[0])
    assert code == 1
    assert re.search(r"greta_decode_made_up on gfx942 spills [1-9][0-9]+ VGPRs", said)
    code, said = gate(compiled(tmp_path, "greta_decode_made_up", 4, 4)[0])
    assert (code, "0 that break a rule" in said) == (0, True)


@pytest.mark.system
@pytest.mark.parametrize("kept", [4, 60, 130, 250, 400])
def test_occupancy_is_what_the_compiler_computes(tmp_path: Path, kept: int) -> None:
    out, remarks = compiled(tmp_path, "kernel", kept, 1)
    (kernel,) = resources.kernels(out.read_bytes())
    told = {name: int(n) for name, n in re.findall(r"remark: .*?\s+(\w+)[^:\n]*: (\d+) \[-Rpass", remarks)}
    assert kernel.occupancy == told["Occupancy"]
    assert kernel.scratch == told["ScratchSize"]


@pytest.mark.system
def test_our_kernels(hip_library: Path) -> None:
    """The whole table, into the log; and the numbers are those that LLVM's own tool reads."""
    code, said = gate(hip_library)
    print(said)
    assert code == 0, said
    found = resources.kernels(hip_library.read_bytes())
    assert {architecture for k in found if (architecture := k.architecture)} == {"gfx942", "gfx90a"}
    assert len(found) == 2 * (6 + 18 + 45 + 1)
    code_object = hip_library.parent / "hip_kernels_gfx942.o"
    notes = subprocess.run(
        [tool("llvm-readelf-19"), "--notes", code_object], check=True, capture_output=True, text=True
    )
    (block,) = re.findall(r"---\n(.*?)\n\.\.\.", notes.stdout, re.DOTALL)
    theirs = {k[".name"]: k for k in yaml.safe_load(block)["amdhsa.kernels"]}
    ours = [k for k in found if k.architecture == "gfx942" and k.name in theirs]
    assert len(ours) == len(theirs)
    for k in ours:
        other = theirs[k.name]
        assert (k.vgprs, k.agprs, k.sgprs) == (other[".vgpr_count"], other[".agpr_count"], other[".sgpr_count"])
        assert (k.lds, k.scratch) == (other[".group_segment_fixed_size"], other[".private_segment_fixed_size"])
        assert (k.vgpr_spills, k.sgpr_spills) == (other[".vgpr_spill_count"], other[".sgpr_spill_count"])


@pytest.mark.system
def test_device_libraries_for_gfx942(tmp_path: Path) -> None:
    """Debian's rocm-device-libs has no file for it; with the script's folder a kernel that calls them links."""
    script, source = ROOT / "native/tools/device_libs.sh", tmp_path / "kernel.hip"
    done = subprocess.run([script, tmp_path / "x", "/nowhere"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "/nowhere holds no oclc_isa_version_940.bc; install rocm-device-libs" in done.stderr
    subprocess.run([script, tmp_path / "libraries"], check=True)
    source.write_text(
        'extern "C" __attribute__((device)) float __ocml_sin_f32(float);\n'
        'extern "C" __attribute__((global)) void kernel(float* x) { *x = __ocml_sin_f32(*x); }\n'
    )
    flags = ["-x", "hip", "-nogpuinc", "--offload-device-only", "--no-gpu-bundle-output", "--offload-arch=gfx942"]
    command = [tool("clang++-19"), *flags, f"--rocm-device-lib-path={tmp_path}/libraries", "-c", source]
    subprocess.run([*command, "-o", tmp_path / "kernel.o"], check=True)
    assert [k.name for k in resources.kernels((tmp_path / "kernel.o").read_bytes())] == ["kernel"]
