"""The emulation itself: it must see what a GPU would get wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HIP = Path(__file__).parents[2] / "native" / "src" / "hip"
PROGRAM = """
#include "gpu.h"
#include <cstdio>
using namespace greta;
struct Params { int* out; int barrier; };
GPU_KERNEL(turn_around, Params, 2, 1) {
  GPU_SHARED(int, shared, 2 * gpu::wave);
  shared[gpu::thread()] = gpu::thread();
  if (p.barrier == 1 || (p.barrier == 2 && gpu::thread() != 5)) gpu::sync();
  if (p.barrier == 3 && gpu::lane() != 3) gpu::shuffle_xor(1.0f, 1);
  if (p.barrier == 4) gpu::lane() < 7 ? gpu::shuffle(1.0f, 0) : (gpu::sync(), 0.0f);
  p.out[gpu::thread()] = shared[2 * gpu::wave - 1 - gpu::thread()];
}
int main(int, char** argv) {
  int out[2 * gpu::wave];
  Params params{out, argv[1][0] - '0'};
  const char* error = gpu::launch(*gpu::find_kernel("turn_around"), 1, 1, 1, &params);
  int right = 0;
  for (int i = 0; i < 2 * gpu::wave; ++i) right += out[i] == 2 * gpu::wave - 1 - i;
  std::puts(error != nullptr ? error : right == 2 * gpu::wave ? "right" : "wrong");
}
"""


@pytest.fixture(scope="module", params=[32, 64])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emulation")
    (folder / "program.cpp").write_text(PROGRAM)
    flags = ["-std=c++17", "-O1", "-DGRETA_EMULATED=1", f"-DGRETA_WAVE={request.param}", f"-I{HIP}"]
    sources = [str(folder / "program.cpp"), str(HIP / "emulate/emulate.cpp")]
    subprocess.run(["g++", *flags, *sources, "-o", str(folder / "program")], check=True)
    return folder / "program"


@pytest.mark.parametrize(
    ("barrier", "said"),
    [
        ("1", "right"),
        ("0", "wrong"),
        ("2", "waits at a barrier that not all threads of the block reach"),
        ("3", "waits in a wave operation that not all lanes reach"),
        ("4", "that not all"),
    ],
)
def test_barriers(program: Path, barrier: str, said: str) -> None:
    for seed in ("0", "1", "2"):
        text = subprocess.run(
            [program, barrier], env={"GRETA_EMULATED_SEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        assert said in text
        if barrier in "234":
            assert text.startswith("kernel turn_around, block (0, 0, 0), thread ")
