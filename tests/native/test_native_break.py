"""Break the library itself: a misplaced mask or bound in each file that decides what a query sees, or where a row lies,
must turn the probes red, at the right stage and phase.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from breaking import broken, build, copied

pytestmark = pytest.mark.system

SUITE = "suite: broken_library\ndefaults: {model: synthetic, mode: kv_aligned}\ncases:\n"
CASES = {
    "long": "{id: long, random_tokens: 150}",
    "paged": "{id: paged, random_tokens: 150, page_size: 16}",
    "window": "{id: window, random_tokens: 60, model: 'synthetic:mistral'}",
    "padded": "{id: padded, random_tokens: 60, left_pad: 7}",
}
"""What a break needs to be seen."""


@dataclass(frozen=True)
class Break:
    """``wrong`` in place of ``right``, in a file of ``native/src/cpu``, and what the verdict must then say."""

    id: str
    file: str
    right: str
    wrong: str
    stage: str
    phase: str
    scenario: str = "KV_MISALIGNMENT"
    case: str = "long"


FEWER = ("Block block{args, seq, kv_head", "Sequence fewer = seq; --fewer.kv_len; Block block{args, fewer, kv_head")

BREAKS = [
    # which keys a query sees
    Break("causal_limit", "span.h", "seq.q_len + query;", "seq.q_len + query - 1;", "lse", "both"),
    Break("window_start", "span.h", "- args.window + 1", "- args.window", "lse", "both", case="window"),
    Break(
        "last_tile", "span.h", "(stop - 1 - span.origin) / tile + 1", "(stop - 1 - span.origin) / tile", "lse", "both"
    ),
    Break(
        "padding_seen",
        "span.h",
        "return begin > seq.kv_start ? begin : seq.kv_start;",
        "return begin;",
        "lse",
        "both",
        case="padded",
    ),
    Break(
        "padding_lost",
        "attend.cpp",
        "batch.kv_start == nullptr ? 0 : batch.kv_start[i]",
        "0",
        "lse",
        "both",
        case="padded",
    ),
    Break("tail_of_a_tile", "walk.h", "clamp(hi - first, 0, keys)", "clamp(hi - first, 0, keys - 1)", "lse", "both"),
    Break("mask_of_scores", "scores.h", "seen.hi - j, nothing", "seen.hi - j + 1, nothing", "lse", "both"),
    Break(
        "values_of_prefill",
        "values.h",
        "each_chunk(seen.lo, seen.hi,",
        "each_chunk(seen.lo, seen.hi - 1,",
        "attn_out",
        "prefill",
    ),
    Break(
        "values_of_decode",
        "values.h",
        "each_chunk(tile.lo, tile.hi,",
        "each_chunk(tile.lo, tile.hi - 1,",
        "attn_out",
        "decode",
    ),
    Break("prefill_one_key_too_few", "attend_prefill.cpp", *FEWER, "lse", "prefill"),
    Break("decode_one_key_too_few", "attend_decode.cpp", *FEWER, "lse", "decode"),
    # where a row lies
    Break(
        "last_key_of_a_tile",
        "tile.h",
        "end = clamp(tile.hi, j, j + count)",
        "end = clamp(tile.hi - 1, j, j + count)",
        "lse",
        "both",
    ),
    Break(
        "page_boundary",
        "tile.h",
        "page = key / args.page_size,",
        "page = (key - 1) / args.page_size,",
        "lse",
        "both",
        case="paged",
    ),
    Break(
        "three_rows_in_one_slot",
        "kv_write.cpp",
        "offset = slot % config.page_size;",
        "offset = slot / 3 * 3 % config.page_size;",
        "kv_write",
        "both",
        "REAL_MISMATCH",
    ),
    Break(
        "next_row_is_read",
        "kv_cache.cpp",
        "slot = (start + i) % config.page_size",
        "slot = (start + i + 1) % config.page_size",
        "kv_write",
        "both",
        "REAL_MISMATCH",
    ),
    Break(
        "heads_in_one_place",
        "cache.h",
        "n_kv_heads_ + static_cast<size_t>(head))",
        "n_kv_heads_ + static_cast<size_t>(head > 0 ? 0 : head))",
        "kv_write",
        "both",
        "REAL_MISMATCH",
    ),
    # where a query stands
    Break("rope_position", "rope.cpp", "batch->positions[token]", "batch->positions[token] + 1", "q_rope", "both"),
    Break("rope_sign", "rope.cpp", "a0 * table.cos[i] - b0", "a0 * table.cos[i] + b0", "q_rope", "both"),
]


def probe_with(library: Path, folder: Path, case: str) -> tuple[int, dict]:
    """Exit code of ``pytest -m kv_aligned --greta-library`` and the one result."""
    (folder / "broken.greta.yaml").write_text(f"{SUITE}  - {CASES[case]}\n")
    command = [sys.executable, "-m", "pytest", "-m", "kv_aligned", "-p", "no:cacheprovider", "broken.greta.yaml"]
    command += [f"--greta-library={library}", "--greta-artifacts=out"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
    results = list((folder / "out").rglob("results.jsonl"))
    assert len(results) == 1, done.stdout + done.stderr
    (line,) = results[0].read_bytes().splitlines()
    return done.returncode, orjson.loads(line)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    """A copy of the sources with its build, so that a break compiles only what includes its file."""
    folder = tmp_path_factory.mktemp("native")
    build(copied(folder), folder / "build", "greta_attn")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_unbroken_build_passes(healthy, tmp_path, case):
    code, result = probe_with(build(healthy / "native", healthy / "build", "greta_attn"), tmp_path, case)
    assert code == 0
    assert result["verdict"]["status"] == "PASS"


@pytest.mark.parametrize("mutant", [pytest.param(b, id=b.id) for b in BREAKS])
def test_a_broken_kernel_turns_the_probe_red(healthy, tmp_path, mutant):
    path = healthy / "native" / "src" / "cpu" / mutant.file
    with broken(path, mutant.right, mutant.wrong):
        library = build(healthy / "native", healthy / "build", "greta_attn")
        code, result = probe_with(library, tmp_path, mutant.case)
    verdict = result["verdict"]
    assert code == 1
    assert (verdict["status"], verdict["scenario"]) == ("KV_MISMATCH", mutant.scenario)
    failure = verdict["first_failure"]
    assert (failure["layer"], failure["stage"], failure["phase"]) == (0, mutant.stage, mutant.phase)
