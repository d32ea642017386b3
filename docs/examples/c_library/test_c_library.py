"""The example conforms and passes; a copy with five bugs behind macros is caught at each bug's layer and stage."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

BUGS = {
    # macro: layer, stage, phase, the right words, the wrong ones
    "SCALE": (1, "lse", "decode", "s->scale * dot(q, key", "(layer == 1 ? 0.125f : s->scale) * dot(q, key"),
    "CAUSAL": (2, "lse", "prefill", "first, last, row(out",
               "first, last + (layer == 2 && phase == GRETA_PREFILL && last + 1 < b->kv_len[i]), row(out"),
    "KV_HEAD": (3, "lse", "both", "h / (s->heads / s->kv_heads));",
                "layer == 3 ? h % s->kv_heads : h / (s->heads / s->kv_heads));"),
    "STALE": (4, "lse", "decode", "*key = k + (size_t)j *",
              "*key = k + (size_t)(layer == 4 && j == last && j > first ? j - 1 : j) *"),
    "V_ROW": (5, "attn_out", "prefill", "/ l * v[(size_t)j *",
              "/ l * v[(size_t)(layer == 5 && j > first ? j - 1 : j) *"),
}  # fmt: skip
"""A scale that forgot its root, a causal mask one key too wide, heads dealt to the kv heads in turn, the last key read
from the row before, V a row behind."""


def built(folder: Path, source: str, *flags: str) -> Path:
    (folder / "attention.c").write_text(source, encoding="utf-8")
    path = folder / "libattention.so"
    command = ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC", *flags]
    command += [f"-I{ROOT / 'native/include'}", "-o", str(path), str(folder / "attention.c"), "-lm"]
    subprocess.run(command, check=True)
    return path


def run(*args: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def probe(library: Path, cases: Path, *args: object) -> subprocess.CompletedProcess[str]:
    return run("pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-q", cases, f"--greta-library={library}", *args)


SOURCE = (HERE / "attention.c").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("_greta_native", reason="the native library is not installed: pip install .")
    return built(tmp_path_factory.mktemp("right"), SOURCE)


@pytest.fixture(scope="module")
def with_bugs() -> str:
    """The copy. ``layer`` goes down to the kernels, and each bug stands behind its macro beside what is right."""
    copy = re.sub(r"(static float (?:three_passes|online)\(greta_session \*s), ", r"\1, int32_t layer, ", SOURCE)
    copy = copy.replace("s, row(q, t, h), s->k", "s, layer, row(q, t, h), s->k")
    for macro, (_, _, _, right, wrong) in BUGS.items():
        assert copy.count(right) == 1, f"{macro} has one place"
        copy = copy.replace(right, f"\n#ifdef BUG_{macro}\n{wrong}\n#else\n{right}\n#endif\n")
    return copy.replace("  memset(out", "  (void)layer;\n  memset(out")


def test_it_is_what_it_says() -> None:
    assert len(SOURCE.splitlines()) < 200


def test_it_keeps_the_abi(library: Path) -> None:
    done = run("pytest_greta.cli", "backend", "check", library)
    assert done.returncode == 0, done.stdout


def test_it_passes_and_a_planted_fault_is_found(library: Path) -> None:
    done = probe(library, HERE / "attention.greta.yaml")
    assert done.returncode == 0, done.stdout
    assert re.search(r"10 passed in", done.stdout), done.stdout


def expecting(bug: str, folder: Path) -> Path:
    layer, stage, phase, _, _ = BUGS[bug]
    found = f"layer: {layer}, stage: {stage}" + (f", phase: {phase}" if phase != "both" else "")
    path = folder / "bug.greta.yaml"
    path.write_text(
        f"suite: bug\ncases:\n  - id: {bug.lower()}\n    random_tokens: 16\n    mode: kv_aligned\n"
        f"    expect: {{status: KV_MISMATCH, first_failure: {{{found}}}}}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found_at_its_layer_and_stage(bug: str, with_bugs: str, tmp_path: Path) -> None:
    done = probe(built(tmp_path, with_bugs, f"-DBUG_{bug}"), expecting(bug, tmp_path))
    assert done.returncode == 0, done.stdout


def test_the_copy_without_a_bug_has_none(with_bugs: str, tmp_path: Path) -> None:
    done = probe(built(tmp_path, with_bugs), expecting("SCALE", tmp_path))
    assert done.returncode == 1
    assert "found PASS" in done.stdout
