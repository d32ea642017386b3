"""What is broken in the HIP kernels, one place at a time: every barrier, mask, guard and check of native/src/hip.

A mutant takes away and does not twist: the barrier is gone, the condition no longer there. ``sites`` finds the places,
so a new one without a mutant is a red test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

HIP = Path(__file__).parents[2] / "native" / "src" / "hip"
FILES = ("prefill_flash.h", "decode_split.h", "attend_naive.h", "rows.h", "kv_write.h", "kv_move.h", "rope.h")


@dataclass(frozen=True)
class Mutant:
    """``wrong`` for ``right``, which is once in ``file``. ``equivalent``: why no test can see it; else one must.
    ``build``: which emulation is broken; of width 64, of 32, or of 64 with each access to shared memory watched."""

    file: str
    right: str
    wrong: str
    kind: str
    equivalent: str = ""
    build: Literal["cdna", "warp", "races"] = "cdna"

    @property
    def id(self) -> str:
        """Of the file, the kind and what is taken away; pytest tells equal ones apart."""
        gone = self.gone()
        text = f"{self.file.split('.')[0]} {self.kind} {self.right[gone.start : gone.start + 60]}"
        return re.sub(r"\W+", "_", text).strip("_")

    def gone(self) -> range:
        """Offsets in ``right`` of what is taken away; all of it where something is put in, as in a longer loop."""
        right, wrong = self.right, self.wrong
        start = _alike(right, wrong)
        same = _alike(right[start:][::-1], wrong[start:][::-1])
        return range(start, len(right) - same) or range(len(right))


COMPARISON = re.compile(r"gpu::sync\(\)| (?:[<>]=?|[!=]=) ")
NOT_CODE = re.compile(r"/\*.*?\*/|static_assert.*?;|static constexpr [^;]*;|constexpr int divisor.*?\n}", re.S)
COUNTED = re.compile(r"for \((?![^;]*gpu::(?:thread|lane|wave_index)\(\))[^;]*;[^;]*;", re.S)
"""A loop that every thread runs from end to end: its bound guards no tail."""


def _alike(a: str, b: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def sites(file: str) -> Iterator[tuple[int, str]]:
    """Offset and line of every barrier and comparison of a kernel file."""
    source = (HIP / file).read_text()
    code = source
    for pattern in (NOT_CODE, COUNTED):
        code = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), code)
    for match in COMPARISON.finditer(code):
        line = source.count("\n", 0, match.start())
        yield match.start() + 1, f"{file}:{line + 1}: {source.splitlines()[line].strip()}"


def _mutants(file: str, *rows: tuple[str, ...]) -> list[Mutant]:
    return [Mutant(file, right, wrong, kind, *reason) for kind, right, wrong, *reason in rows]


def _barriers(file: str, *comments: str) -> list[Mutant]:
    return [Mutant(file, f"gpu::sync(); /* {comment} */", f"/* {comment} */", "barrier") for comment in comments]


MASKED = "saves work only: such a tile is masked key by key, and then leaves m, l and the sum to the bit as they are"
UNWRITTEN = "saves work only: what is computed of a row that does not exist is not written"
BEHIND = "tiles.end is that of kv_len: tiles from there on begin at hi or later, and are left out one by one"
SAME = "all threads that would write have the same value to the bit"

MUTANTS: list[Mutant] = [
    *_barriers("prefill_flash.h", "K is there", "K is used", "V is there", "V is used"),
    *_mutants(
        "prefill_flash.h",
        ("tail", "if (row == nullptr || dim >= width)", "if (row == nullptr)"),
        ("page", "if (row == nullptr || dim >= width)", "if (dim >= width)"),
        ("mask", "row < lo || row >= hi ? -1 :", "row >= hi ? -1 :"),
        ("mask", "row < lo || row >= hi ? -1 :", "row < lo ? -1 :"),
        ("page", "index < 0 ? nullptr : k_row(", "k_row("),
        ("page", "index < 0 ? nullptr : v_row(", "v_row("),
        ("tail", "Shape::whole || key < Shape::stage ? stage.index(key + j) : -1", "stage.index(key + j)",
         "saves a read only: such a square, of rows that the next stage reads, is not put anywhere"),
        ("tail", "if (!Shape::whole && key >= Shape::stage) continue;", ""),
        ("tail", "const bool exists = query < seq.q_len;", "const bool exists = true;"),
        ("tail", "exists = query < seq.q_len && dim < p.cache.dqk", "exists = dim < p.cache.dqk"),
        ("tail", "exists = query < seq.q_len && dim < p.cache.dqk", "exists = query < seq.q_len"),
        ("mask", "seen = key >= rows.lo[c] && key < rows.hi[c]", "seen = key < rows.hi[c]"),
        ("mask", "seen = key >= rows.lo[c] && key < rows.hi[c]", "seen = key >= rows.lo[c]"),
        ("mask", "shift[c] = m == -infinity ? 0.0f : m", "shift[c] = m"),
        ("tail", "if (rows.token[c] < 0) continue;", ""),
        ("tail", "if (Layout<T>::column_of(e) != c || dim >= p.cache.dv) continue;",
         "if (Layout<T>::column_of(e) != c) continue;"),
        ("leader", "if (Layout<T>::row(0) == 0 && p.lse.data != nullptr)", "if (p.lse.data != nullptr)",
         SAME),
        ("bound", "if (Layout<T>::row(0) == 0 && p.lse.data != nullptr)", "if (Layout<T>::row(0) == 0)"),
        ("tail", "if (block_row >= n_rows) return;", ""),
        ("tail", "(block_row + flash_rows < n_rows ? block_row + flash_rows : n_rows) - 1",
         "block_row + flash_rows - 1"),
        ("tail", "first_row + 15 < last_row ? first_row + 15 : last_row", "first_row + 15",
         "of the wave that has the last row it makes wave_hi more than hi, where the loop over tiles ends"),
        ("bound", "end = hi > lo ? (hi - 1) / tile_keys + 1 : begin;", "end = (hi - 1) / tile_keys + 1;",
         "saves work only: where hi is not above lo there is no row to read, and each key is masked"),
        ("bound", "if (begin < end) fetch_keys(", "fetch_keys(",
         "fetch_quad reads only rows of lo .. hi - 1, and there are none"),
        ("skip", "seen = first_row <= last_row && first < wave_hi &&", "seen = first < wave_hi &&", UNWRITTEN),
        ("skip", "seen = first_row <= last_row && first < wave_hi && first +",
         "seen = first_row <= last_row && first +"),
        ("skip", "first < wave_hi && first + tile_keys > wave_lo;", "first < wave_hi;"),
        ("bound", "} else if (tile + 1 < end) {", "} else {",
         "fetch_quad reads only rows of lo .. hi - 1, and the next tile has none"),
    ),
    *_barriers(
        "decode_split.h",
        "the waves before have added",
        "the total is complete",
        "the queries are there; the weights of the tile before are used",
        "the scores are there",
        "the weights are there",
    ),
    *_mutants(
        "decode_split.h",
        ("mask", "if (key < lo || key >= hi || dim >= p.cache.dqk) continue;",
         "if (key >= hi || dim >= p.cache.dqk) continue;"),
        ("mask", "if (key < lo || key >= hi || dim >= p.cache.dqk) continue;",
         "if (key < lo || dim >= p.cache.dqk) continue;"),
        ("tail", "if (key < lo || key >= hi || dim >= p.cache.dqk) continue;", "if (key < lo || key >= hi) continue;"),
        ("page", "if (index >= 0) load_run<run_dims>(k_row(", "load_run<run_dims>(k_row("),
        ("tail", "for (int r = gpu::wave_index(); r < rows; r += decode_waves)",
         "for (int r = gpu::wave_index(); r < rows + decode_waves; r += decode_waves)"),
        ("tail", "for (int j = gpu::lane(); j < tile_keys; j += gpu::wave) {\n      const int32_t key = first + j;",
         "for (int j = gpu::lane(); j < tile_keys + gpu::wave; j += gpu::wave) {\n"
         "      const int32_t key = first + j;"),
        ("tail", "for (int j = gpu::lane(); j < tile_keys; j += gpu::wave) {\n      const float weight",
         "for (int j = gpu::lane(); j < tile_keys + gpu::wave; j += gpu::wave) {\n      const float weight"),
        ("tail", "seen = r < n_rows && key >= begin && key <= last", "seen = key >= begin && key <= last", UNWRITTEN),
        ("mask", "seen = r < n_rows && key >= begin && key <= last", "seen = r < n_rows && key <= last"),
        ("mask", "seen = r < n_rows && key >= begin && key <= last", "seen = r < n_rows && key >= begin"),
        ("mask", "shift = top == -infinity ? 0.0f : top", "shift = top"),
        ("leader", "if (gpu::lane() == 0) {\n      rescale[r]", "{\n      rescale[r]"),
        ("mask", "if (key < lo || key >= hi || dim >= p.cache.dv) continue;",
         "if (key >= hi || dim >= p.cache.dv) continue;"),
        ("mask", "if (key < lo || key >= hi || dim >= p.cache.dv) continue;",
         "if (key < lo || dim >= p.cache.dv) continue;"),
        ("tail", "if (key < lo || key >= hi || dim >= p.cache.dv) continue;", "if (key < lo || key >= hi) continue;"),
        ("page", "if (index >= 0) load_run<run_dims>(v_row(", "load_run<run_dims>(v_row("),
        ("leader", "if (gpu::wave_index() != turn || gpu::lane() >= Shape::lanes) continue;",
         "if (gpu::lane() >= Shape::lanes) continue;"),
        ("leader", "if (gpu::wave_index() != turn || gpu::lane() >= Shape::lanes) continue;",
         "if (gpu::wave_index() != turn) continue;"),
        ("tail", "n_rows = left < rows ? left : rows;", "n_rows = rows;"),
        ("tail", "if (n_rows <= 0) return;", ""),
        ("tail", "end = begin + tiles.per_split < tiles.end ? begin + tiles.per_split : tiles.end;",
         "end = begin + tiles.per_split;", BEHIND),
        ("tail", "for (int32_t i = gpu::thread(); i < rows * width; i += threads)",
         "for (int32_t i = gpu::thread(); i < rows * width + threads; i += threads)"),
        ("tail", "i / width < n_rows && dim < p.cache.dqk ?", "dim < p.cache.dqk ?"),
        ("tail", "i / width < n_rows && dim < p.cache.dqk ?", "i / width < n_rows ?"),
        ("tail", "for (int32_t r = gpu::thread(); r < rows; r += threads)",
         "for (int32_t r = gpu::thread(); r < rows + threads; r += threads)"),
        ("skip", "if (first >= hi || first + tile_keys <= lo) continue;", "if (first + tile_keys <= lo) continue;",
         MASKED),
        ("skip", "if (first >= hi || first + tile_keys <= lo) continue;", "if (first >= hi) continue;", MASKED),
        ("tail", "for (int32_t i = gpu::thread(); i < n_rows * (2 + p.cache.dv); i += threads)",
         "for (int32_t i = gpu::thread(); i < n_rows * (2 + p.cache.dv) + threads; i += threads)"),
    ),
    *_barriers("attend_naive.h", "the weights are used"),
    *_mutants(
        "attend_naive.h",
        ("skip", "if (hi <= first || first + tile_keys <= lo) continue;", "if (first + tile_keys <= lo) continue;",
         MASKED),
        ("skip", "if (hi <= first || first + tile_keys <= lo) continue;", "if (hi <= first) continue;", MASKED),
        ("tail", "for (int32_t j = gpu::thread(); j < tile_keys; j += gpu::wave) {\n"
         "      const int32_t key = first + j;",
         "for (int32_t j = gpu::thread(); j < tile_keys + gpu::wave; j += gpu::wave) {\n"
         "      const int32_t key = first + j;"),
        ("tail", "for (int32_t j = gpu::thread(); j < tile_keys; j += gpu::wave) {\n      const float weight",
         "for (int32_t j = gpu::thread(); j < tile_keys + gpu::wave; j += gpu::wave) {\n      const float weight"),
        ("mask", "if (key >= lo && key < hi) {", "if (key < hi) {"),
        ("mask", "if (key >= lo && key < hi) {", "if (key >= lo) {"),
        ("page", "i < p.cache.dqk && index >= 0; ++i", "i < p.cache.dqk; ++i"),
        ("mask", "shift = m == -infinity ? 0.0f : m;\n", "shift = m;\n"),
        ("tail", "j < tile_keys && i < p.cache.dv; ++j", "j < tile_keys; ++j"),
        ("mask", "if (key < lo || key >= hi) continue;", "if (key >= hi) continue;"),
        ("mask", "if (key < lo || key >= hi) continue;", "if (key < lo) continue;"),
        ("page", "if (index >= 0) row.sum[d] += ", "row.sum[d] += "),
        ("tail", "if (query >= seq.q_len) return;\n  const int32_t token = seq.first_token + query;\n"
         "  const Tiles tiles = tiles_of(seq, p.window, 1);",
         "const int32_t token = seq.first_token + query;\n  const Tiles tiles = tiles_of(seq, p.window, 1);"),
        ("tail", "if (i < p.cache.dv) {\n      store(p.out.data, p.dtype, element(p.out, token, head) + i, "
         "end.out(row.sum[d]", "{\n      store(p.out.data, p.dtype, element(p.out, token, head) + i, "
         "end.out(row.sum[d]"),
        ("tail", "if (query >= seq.q_len) return;\n  const int32_t token = seq.first_token + query;\n"
         "  const Tiles tiles = tiles_of(seq, p.window, p.splits);",
         "const int32_t token = seq.first_token + query;\n  const Tiles tiles = tiles_of(seq, p.window, p.splits);"),
        ("tail", "stop < tiles.end ? stop : tiles.end", "stop", BEHIND),
        ("leader", "if (gpu::thread() == 0) {\n    partial[0]", "{\n    partial[0]",
         SAME),
        ("tail", "if (i < p.cache.dv) partial[2 + i]", "partial[2 + i]"),
        ("tail", "if (query >= seq.q_len) return;\n  const int32_t token = seq.first_token + query;\n  float m",
         "const int32_t token = seq.first_token + query;\n  float m"),
        ("mask", "if (partial[0] == -infinity && partial[1] == 0.0f) continue;", "",
         "its max gives it the weight 0, and its sum, which decode has written, is 0"),
        ("mask", "(m == -infinity ? 0.0f : m)", "m",
         "m is -inf only where each split that is joined has the max -inf and weights that are NaN, as all stays"),
        ("tail", "if (i < p.cache.dv) sum[d] += weight", "sum[d] += weight"),
        ("tail", "if (i < p.cache.dv) {\n      store(p.out.data, p.dtype, element(p.out, token, head) + i, "
         "end.out(sum[d]", "{\n      store(p.out.data, p.dtype, element(p.out, token, head) + i, end.out(sum[d]"),
    ),
    *_mutants(
        "rows.h",
        ("mask", "begin = window == 0 ? 0 : last_key(query) - window + 1", "begin = 0"),
        ("mask", "return begin > kv_start ? begin : kv_start;", "return begin;"),
        ("mask", "return begin > kv_start ? begin : kv_start;", "return kv_start;"),
        ("bound", "if (seq.first_token < 0 || end <", "if (end <"),
        ("bound", "< 0 || end < seq.first_token ||", "< 0 ||"),
        ("bound", "end > batch.n_tokens || ", ""),
        ("bound", " || end - seq.first_token > batch.max_q_len", ""),
        ("bound", "seq.kv_len < 0 || seq.kv_len >", "seq.kv_len >"),
        ("bound", "seq.kv_len < 0 || seq.kv_len > cache.max_len", "seq.kv_len < 0"),
        ("bound", "seq.kv_start < 0 || seq.kv_start >", "seq.kv_start >"),
        ("bound", "seq.kv_start < 0 || seq.kv_start > seq.kv_len", "seq.kv_start < 0"),
        ("bound", "id < 0 || id >= cache", "id >= cache"),
        ("bound", "id < 0 || id >= cache.max_seqs", "id < 0"),
        ("bound", "if (complaint != complaint_none) {", "if (false) {"),
        ("page", "if (page < 0 || page >=", "if (page >="),
        ("page", "if (page < 0 || page >= cache.n_pages)", "if (page < 0)"),
        ("bound", "empty ? 0.0f : sum", "sum"),
        ("bound", "empty ? -infinity : m + gpu::log(l)", "m + gpu::log(l)",
         "an empty row's m is -inf, and the log of its l, 0, is too"),
        ("mask", "m == -infinity ? 1.0f : exp_of(m - top)", "exp_of(m - top)",
         "where m is -inf, l and the sum are NaN, or 0, which a sink's factor of 0 keeps and an empty row ignores"),
        ("bound", "top == -infinity && l == 0.0f}", "l == 0.0f}"),
        ("bound", "top == -infinity && l == 0.0f}", "top == -infinity}"),
        ("bound", "if (sink != -infinity) end.l +=", "end.l +=",
         "exp of -inf is 0; only where top is -inf too is it NaN, and such a row is empty, or NaN already"),
        ("bound", "if (seq.kv_len <= begin) return {0, 0, 0};", "",
         "saves work only: begin is at most kv_len, so that there are no tiles or one, of which no key is seen"),
    ),
    *_mutants(
        "kv_write.h",
        ("bound", "while (i + 1 < batch.n_seqs && batch", "while (batch"),
        ("bound", "i + 1 < batch.n_seqs && batch.cu_q[i + 1] <= token", "i + 1 < batch.n_seqs"),
        ("tail", "for (int32_t i = gpu::thread(); i < dim;", "for (int32_t i = gpu::thread(); i < dim + gpu::wave;"),
        ("bound", "if (seq.pages == nullptr) return;", ""),
        ("bound", "if (slot < 0 || slot >=", "if (slot >="),
        ("bound", "if (slot < 0 || slot >= p.cache.max_len)", "if (slot < 0)"),
        ("page", "if (row < 0) return;", ""),
        ("leader", "if (head != 0) return;", "", "blocks of the same token would raise and write the same"),
        ("leader", "if (gpu::thread() == 0) gpu::raise_to(p.rows + id, slot + 1);",
         "gpu::raise_to(p.rows + id, slot + 1);", "a maximum that is taken again stays"),
        ("bound", "if (p.batch.pages_by_id != 0 || token", "if (token",
         "where pages are found by id, they are that very row of the table"),
        ("leader", "!= 0 || token != seq.first_token) return;", "!= 0) return;",
         "the blocks of a sequence's tokens would write the same row of the table"),
        ("tail", "b < p.cache.blocks; b +=", "b < p.cache.blocks + gpu::wave; b +="),
    ),
    *_barriers("kv_move.h", "all have read the end"),
    *_mutants(
        "kv_move.h",
        ("tail", "i < bytes; i +=", "i < bytes + gpu::wave; i +="),
        ("page", "if (index < 0) return;", ""),
        ("bound", "if (p.to_cache != 0 && gpu::thread() == 0)", "if (gpu::thread() == 0)"),
        ("leader", "if (p.to_cache != 0 && gpu::thread() == 0)", "if (p.to_cache != 0)",
         "a maximum that is taken again stays"),
        ("page", "if (page < 0 || page >= p.cache", "if (page >= p.cache"),
        ("page", "if (page < 0 || page >= p.cache.n_pages) continue;", "if (page < 0) continue;"),
        ("tail", "i < k_bytes; i +=", "i < k_bytes + gpu::wave; i +="),
        ("tail", "i < v_bytes; i +=", "i < v_bytes + gpu::wave; i +="),
        ("leader", "if (gpu::thread() == 0 && end > p.length)", "if (end > p.length)",
         SAME),
        ("bound", "if (gpu::thread() == 0 && end > p.length)", "if (gpu::thread() == 0)"),
    ),
    *_barriers("rope.h", "the table is complete"),
    *_mutants(
        "rope.h",
        ("tail", "i < heads * p.pairs; i +=", "i < heads * p.pairs + gpu::wave; i +="),
        ("tail", "i < p.pairs; i +=", "i < p.pairs + gpu::wave; i +="),
    ),
]  # fmt: skip

COLUMN = "if (Layout<T>::column_of(e) != c"
COMPLETE = "gpu::sync(); /* the weights are complete */"
MUTANTS += [
    # at width 64 a lane has one column
    Mutant("prefill_flash.h", f"{COLUMN}) continue;", "", "mask", build="warp"),
    Mutant("prefill_flash.h", f"{COLUMN} || dim >= p.cache.dv)", "if (dim >= p.cache.dv)", "mask", build="warp"),
    # the block is one wave, brought together by the sum of the weights just before; but that orders no memory
    Mutant("attend_naive.h", COMPLETE, "/* the weights are complete */", "barrier", build="races"),
    # a key's lanes have the same sum and would write it at the same time
    Mutant("decode_split.h", "if (dim == 0) s[", "s[", "leader", build="races"),
]

LSE = ") {\n    store(p.lse.data, GRETA_F32, element(p.lse, token, head), end.lse());\n  }\n}\n\n"
ENDS = {"prefill": LSE + "GPU_FN", "combine": LSE + "}  // namespace"}
for end in ENDS.values():
    both = "if (gpu::thread() == 0 && p.lse.data != nullptr"
    MUTANTS += _mutants(
        "attend_naive.h",
        ("leader", both + end, "if (p.lse.data != nullptr" + end, SAME),
        ("bound", both + end, "if (gpu::thread() == 0" + end),
    )

CHOICES = {
    "prefill_flash.h": (
        "p.round_p != 0 ?", "p.sinks == nullptr ?", "if (where == part)", "if (part + 1 < Shape::stages) {",
    ),
    "decode_split.h": ("fixed_dtype == any_dtype ?", "to = turn == 0 ?", "at == 0 ? m[r] : at == 1 ? l[r]"),
    "attend_naive.h": ("p.round_p != 0 ?", "p.sinks == nullptr ?"),
    "rows.h": ("batch.kv_start == nullptr ?", "batch.pages_by_id != 0 ?", "if (cap != 0.0f)", "p.alibi == nullptr ?"),
    "kv_write.h": ("if (p.dtype == p.cache.dtype && scale == 1.0f)", "if (p.dtype == GRETA_F32)", "scale == 1.0f ?"),
    "kv_move.h": ("p.to_cache != 0 ?",),
    "rope.h": ("p.interleaved != 0 ?",),
}  # fmt: skip
"""Comparisons that choose between two right ways, and guard nothing."""
