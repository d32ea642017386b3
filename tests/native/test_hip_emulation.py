"""The emulation itself: it must see what a GPU would get wrong."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
HIP = NATIVE / "src" / "hip"
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
  if (p.barrier == 5) shared[2 * gpu::wave + gpu::thread()] = 0;
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
    sources = [folder / "program.cpp", HIP / "emulate/emulate.cpp", HIP / "emulate/fence.cpp"]
    subprocess.run(["g++", *flags, *sources, "-o", folder / "program"], check=True)
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


RACES = """
#include "gpu.h"
#include <cstdio>
using namespace greta;
struct Params { int what; float* out; };
GPU_KERNEL(touch, Params, 2, 1) {
  GPU_SHARED(float, shared, 2 * gpu::wave);
  const int own = gpu::thread(), next = gpu::wave_index() * gpu::wave + (gpu::lane() + 1) % gpu::wave;
  float x = 0.0f;
  switch (p.what) {
    case 0: shared[own] = 1; gpu::sync(); x = shared[next]; gpu::sync(); shared[own] = 2; break;
    case 1: shared[own] = 1; x = shared[own]; shared[own] = 2; break;
    case 2:
      x = gpu::shuffle_xor(shared[gpu::wave_index()], 1);
      if (gpu::lane() == 0) shared[gpu::wave_index()] = x;
      break;
    case 3: shared[own] = 1; x = shared[next]; break;
    case 4: shared[own] = gpu::shuffle_xor(1.0f, 1); x = gpu::shuffle_xor(2.0f, 1); x += shared[next]; break;
    case 5: x = shared[gpu::wave_index()]; if (gpu::lane() == 0) shared[gpu::wave_index()] = 1; break;
    case 6: x = gpu::shuffle_xor(shared[0], 1); if (own == gpu::wave) shared[0] = x; break;
    case 7: shared[gpu::wave_index()] = 1; break;
  }
  p.out[own] = x;
}
int main(int, char** argv) {
  float out[2 * gpu::wave];
  Params params{argv[1][0] - '0', out};
  const char* error = gpu::launch(*gpu::find_kernel("touch"), 2, 1, 1, &params);
  std::puts(error != nullptr ? error : "no race");
}
"""


@pytest.fixture(scope="module")
def racer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("races")
    (folder / "program.cpp").write_text(RACES)
    flags = ["-std=c++17", "-O1", "-DGRETA_EMULATED=1", f"-I{HIP}"]
    watched = [*flags, "-fsanitize=thread", "-c", folder / "program.cpp", "-o", folder / "program.o"]
    subprocess.run(["g++", *watched], check=True)
    sources = [HIP / "emulate" / f"{name}.cpp" for name in ("emulate", "fence", "races")]
    subprocess.run(["g++", *flags, folder / "program.o", *sources, "-o", folder / "program"], check=True)
    return folder / "program"


RACE = "(writes|reads) shared memory that thread [0-9]+ (read|wrote), with no barrier between"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("0", "no race"),
        ("1", "no race"),
        ("2", "no race"),  # a wave's operation waits for what its lanes read
        ("3", RACE),
        ("4", RACE),  # and does not make visible what they wrote
        ("5", RACE),
        ("6", RACE),  # the other wave's lanes have read, too
        ("7", "writes shared memory that thread [0-9]+ wrote, with no barrier between"),  # if the same
    ],
)
def test_a_race_is_found_in_any_order_of_the_threads(racer: Path, what: str, said: str) -> None:
    for seed in ("0", "1", "2", "3"):
        text = subprocess.run(
            [racer, what], env={"GRETA_EMULATED_SEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        assert re.search(said, text)


def test_shared_memory_ends_at_a_page_that_cannot_be_touched(program: Path) -> None:
    assert subprocess.run([program, "5"], capture_output=True, check=False).returncode == -signal.SIGSEGV


MEMORY = """
#include "gpu.h"
#include "runtime.h"
#include <cstdio>
#include <cstdlib>
using namespace greta;
struct Params { volatile char* at; int write; };
GPU_KERNEL(touch, Params, 1, 1) {
  if (gpu::thread() != 0) return;
  if (p.write) *p.at = 1;
  else (void)*p.at;
}
int main(int, char** argv) {
  void* memory = runtime::allocate(static_cast<size_t>(std::atol(argv[1])));
  Params params{static_cast<char*>(memory) + std::atol(argv[2]), argv[3][0] == 'w'};
  runtime::launch(runtime::find("touch"), {1, 1, 1}, 1, &params, nullptr);
  runtime::release(memory);
  std::puts("all is well");
}
"""


@pytest.fixture(scope="module")
def toucher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    (folder / "program.cpp").write_text(MEMORY)
    flags = ["-std=c++17", "-O1", "-DGRETA_EMULATED=1", f"-I{HIP}", f"-I{NATIVE}/src/cpu", f"-I{NATIVE}/include"]
    sources = [HIP / "emulate" / f"{name}.cpp" for name in ("emulate", "fence", "runtime_emulated")]
    sources.append(NATIVE / "src/cpu/errors.cpp")
    subprocess.run(["g++", *flags, folder / "program.cpp", *sources, "-o", folder / "program"], check=True)
    return folder / "program"


@pytest.mark.parametrize(
    ("size", "offset", "access", "code", "said"),
    [
        (100, 0, "write", 0, ""),
        (100, 99, "write", 0, ""),
        (8192, 8191, "read", 0, ""),
        (100, 112, "read", -signal.SIGSEGV, ""),
        (8192, 8192, "read", -signal.SIGSEGV, ""),
        (8192, 8192, "write", -signal.SIGSEGV, ""),
        (8192, -1, "read", -signal.SIGSEGV, ""),
        (0, 16, "read", -signal.SIGSEGV, ""),
        (100, 100, "write", -signal.SIGABRT, "a kernel wrote behind the 100 bytes that it was given"),
        (100, -1, "write", -signal.SIGABRT, "a kernel wrote before the 100 bytes that it was given"),
    ],
)
def test_a_kernel_that_leaves_its_memory(
    toucher: Path, size: int, offset: int, access: str, code: int, said: str
) -> None:
    """A crash at the page behind the data, or, of a write into what the data left of its pages, an end on release."""
    done = subprocess.run([toucher, str(size), str(offset), access], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert (done.stdout == "all is well\n") == (code == 0)
