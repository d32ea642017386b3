"""Break the library itself: a mistake in each kernel file must turn the probes red, at the right stage and phase."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"

pytestmark = pytest.mark.system

CASES = """
suite: broken_library
defaults: {model: synthetic, mode: kv_aligned}
cases:
  - {id: long, random_tokens: 150}
"""

FEWER = ("Block block{args, seq, kv_head", "Sequence fewer = seq; --fewer.kv_len; Block block{args, fewer, kv_head")

BREAKS = [
    pytest.param("attend_decode.cpp", *FEWER, "lse", "decode", "KV_MISALIGNMENT", id="decode_one_key_too_few"),
    pytest.param("attend_prefill.cpp", *FEWER, "lse", "prefill", "KV_MISALIGNMENT", id="prefill_one_key_too_few"),
    pytest.param(
        "kv_write.cpp",
        "offset = slot % config.page_size;",
        "offset = slot / 3 * 3 % config.page_size;",
        "kv_write",
        "both",
        "REAL_MISMATCH",
        id="three_rows_in_one_slot",
    ),
    pytest.param(
        "rope.cpp",
        "a0 * table.cos[i] - b0",
        "a0 * table.cos[i] + b0",
        "q_rope",
        "both",
        "KV_MISALIGNMENT",
        id="rope_sign",
    ),
]


def build(source: Path, folder: Path) -> Path:
    """The CPU library of ``source``; the path of the shared object."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert cmake, "cmake is part of the extra 'dev'"
    configure = [
        cmake,
        "-S",
        source,
        "-B",
        folder,
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    for command in (configure, [cmake, "--build", folder, "--target", "greta_attn", "-j2"]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (library,) = folder.rglob("libgreta_attn.so")
    return library


def probe_with(library: Path, folder: Path) -> tuple[int, dict]:
    """Exit code of ``pytest -m kv_aligned --greta-library`` and the one result."""
    (folder / "broken.greta.yaml").write_text(CASES)
    command = [sys.executable, "-m", "pytest", "-m", "kv_aligned", "-p", "no:cacheprovider", "broken.greta.yaml"]
    command += [f"--greta-library={library}", "--greta-artifacts=out"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
    results = list((folder / "out").rglob("results.jsonl"))
    assert len(results) == 1, done.stdout + done.stderr
    (line,) = results[0].read_bytes().splitlines()
    return done.returncode, orjson.loads(line)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    """A copy of the sources with its build, so that each break compiles one file again."""
    folder = tmp_path_factory.mktemp("native")
    shutil.copytree(NATIVE, folder / "native")
    build(folder / "native", folder / "build")
    return folder


def test_the_unbroken_build_passes(healthy, tmp_path):
    code, result = probe_with(build(healthy / "native", healthy / "build"), tmp_path)
    assert code == 0
    assert result["verdict"]["status"] == "PASS"


@pytest.mark.parametrize(("file", "right", "wrong", "stage", "phase", "scenario"), BREAKS)
def test_a_broken_kernel_turns_the_probe_red(healthy, tmp_path, file, right, wrong, stage, phase, scenario):
    path = healthy / "native" / "src" / "cpu" / file
    source = path.read_text()
    assert right in source, f"{file} no longer has the line that this test breaks"
    path.write_text(source.replace(right, wrong))
    try:
        code, result = probe_with(build(healthy / "native", healthy / "build"), tmp_path)
    finally:
        path.write_text(source)
    verdict = result["verdict"]
    assert code == 1
    assert (verdict["status"], verdict["scenario"]) == ("KV_MISMATCH", scenario)
    failure = verdict["first_failure"]
    assert (failure["layer"], failure["stage"], failure["phase"]) == (0, stage, phase)
