"""What the HIP library says of each device's sums, against the published models of matrix cores: arXiv 2511.10909 and
github.com/microsoft/MMA-Sim, which were found bit by bit on the devices."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
PROGRAM = """
#include "hip_session.h"
#include <cstdio>
namespace greta {
KernelChoice chosen_kernels() { return KernelChoice::fast; }
const char* kernel_name(KernelChoice, int32_t) { return ""; }
namespace runtime {
std::string kind;
std::string device_kind() { return kind; }
}
}
int main(int, char** argv) {
  greta::runtime::kind = argv[1];
  std::puts(greta_describe());
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("declared")
    (folder / "program.cpp").write_text(PROGRAM)
    sources = [folder / "program.cpp", NATIVE / "src/hip/describe.cpp", NATIVE / "src/cpu/errors.cpp"]
    flags = ["-std=c++17", "-O0", *(f"-I{NATIVE / part}" for part in ("include", "src/hip", "src/cpu", "src/faults"))]
    subprocess.run(["g++", *flags, *sources, "-o", folder / "program"], check=True)
    return folder / "program"


@pytest.mark.parametrize(
    ("kind", "acc_round", "k_step", "flush"),
    [
        ("hip gfx942", "rd", 8, False),
        ("hip gfx90a", "rne", 1, True),
        ("cuda sm_90", "rz", 8, False),
        ("emulated gfx942", "rne", 1, False),
    ],
)
def test_the_sums_of_each_device(program: Path, kind: str, acc_round: str, k_step: int, flush: bool) -> None:
    said = json.loads(subprocess.run([program, kind], check=True, capture_output=True, text=True).stdout)["numerics"]
    prefill = {name: said["prefill"][name] for name in ("acc_round", "k_step", "flush")}
    assert prefill == {"acc_round": acc_round, "k_step": k_step, "flush": flush}
    assert (said["decode"]["acc_round"], said["decode"]["flush"]) == ("rne", False)  # vector units, everywhere
