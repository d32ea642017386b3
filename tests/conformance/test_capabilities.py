"""The capabilities of a library with a cache: the example in C conforms, and each way to break it is its row."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from backend_command import ROOT, SKELETON, Build, check, greta

SOURCE = (ROOT / "docs/examples/c_library/attention.c").read_text(encoding="utf-8")

BROKEN = {
    # the right words, the wrong ones, the rows that say so
    "a row off": (
        "from = at(s, layer, seq, start, 0)", "from = at(s, layer, seq, start > 0 ? start - 1 : 0, 0)",
        {"write_read": "rows"},
    ),
    "any slot": (
        "if (b->slots[t] < 0 || b->slots[t] >= s->max_len)", "if (b->slots[t] < 0)",
        {"slot_beyond": "accepted"},
    ),
    "reads too much": (
        "start > s->max_len || count > s->max_len - start)", "start > s->max_len)",
        {"read_beyond": "accepted"},
    ),
    "two lines": (
        '"layer is %d", layer);', '"layer is\\n%d", layer);',
        {"layer_beyond": "words", "layer_negative": "words"},
    ),
    "ignores softcap": (
        'if (l->softcap != 0.0f) return fail(GRETA_UNSUPPORTED, "softcap: none");', "",
        {"softcap": "accepted"},
    ),
    "a kv head off": (
        "h / (s->heads / s->kv_heads));", "(h / (s->heads / s->kv_heads) + 1) % s->kv_heads);",
        {},
    ),
    "padding is seen": (
        "first = s->window[layer] > 0 && from > start ? from : start", "first = 0 * (from + start)",
        {},
    ),
}  # fmt: skip
ONE_KEY = {
    "a kv head off": {"prefill", "one_row", "ragged", "full", "two_sessions", "two_caches", "kv_start"},
    "padding is seen": {"kv_start"},
}
"""Where numbers that are exact show it: a query that sees one row, or none."""


def broken(name: str) -> str:
    right, wrong, _ = BROKEN[name]
    assert SOURCE.count(right) == 1
    return SOURCE.replace(right, wrong)


def wrong(found: dict[str, Any]) -> dict[str, str]:
    return {id: row["outcome"] for id, row in found["rows"].items() if row["outcome"] != "ok"}


def test_the_example_with_a_cache_conforms(build: Build) -> None:
    found = check(build(SOURCE))
    assert found["conformant"]
    assert {"write_read", "slot_beyond", "read_seq", "last_error", "q_len", "ragged_decode"} <= set(found["rows"])
    assert {"greta_kv_load", "greta_counters", "greta_rope"} <= set(found["absent"])
    assert found["undeclared"] == ["paged"]


@pytest.mark.parametrize("name", BROKEN)
def test_each_way_to_break_it_is_its_row(name: str, build: Build) -> None:
    found = check(build(broken(name), "-Wno-unused-value"))
    if name in ONE_KEY:
        assert ONE_KEY[name] <= set(wrong(found))
        assert set(wrong(found).values()) <= {"one_key", "unseen"}
    else:
        assert wrong(found) == BROKEN[name][2]


def test_sessions_that_share_one_cache_are_seen_while_both_are_open(build: Build) -> None:
    """In attend, and where nothing is attended in what is read back."""
    static = "  static float k[1 << 16], v[1 << 16];\n  s->k = k, s->v = v;\n"
    shared = SOURCE.replace("  *session = s;", static + "  *session = s;")
    shared = shared.replace("free(s->k), free(s->v), ", "")
    assert wrong(check(build(shared))) == {"two_caches": "one_key"}
    own_v = shared.replace("s->k = k, s->v = v;", "s->k = k, (void)v;")
    assert wrong(check(build(own_v))) == {"two_caches": "rows"}


def test_a_block_table_that_is_ignored_is_seen(build: Build) -> None:
    """Each sequence's rows are then where it put them: right as long as none is given another's pages."""
    paged = SOURCE.replace('\\"window\\"]', '\\"window\\", \\"paged\\"]')
    right = '  if (c->page_size != 0) return fail(GRETA_UNSUPPORTED, "paged: one block a sequence");\n'
    assert SOURCE.count(right) == paged.count("paged\\") == 1
    found = check(build(paged.replace(right, "")))
    assert found["rows"]["paged"]["outcome"] == "ok"
    assert wrong(found) == {"call_table": "one_key"}


def test_a_cache_that_cannot_be_written_is_said_to_be_none(build: Build) -> None:
    mine = (SKELETON / "mine.c").read_text(encoding="utf-8").replace(' \\"kv\\": \\"stateless\\",', "")
    found = check(build(mine))
    assert found["rows"]["describe"]["outcome"] == "keeps_cache"
    assert "greta_kv_write" in found["rows"]["describe"]["reason"]["en"]


@pytest.mark.system
@pytest.mark.parametrize("folder", ["skeleton", "example"])
def test_make_builds_it(folder: str, tmp_path: Path) -> None:
    where = tmp_path / "mine"
    if folder == "skeleton":
        assert greta("new", where).returncode == 0
    else:
        where.mkdir()
        for name in ("attention.c", "Makefile"):
            (where / name).write_bytes((ROOT / "docs/examples/c_library" / name).read_bytes())
    command = ["make", "-C", str(where), f"INCLUDE={ROOT / 'native/include'}", "CFLAGS=-O2 -Wall -Wextra -Werror"]
    subprocess.run(command, check=True)
    (library,) = where.glob("*.so")
    assert check(library)["conformant"]
