"""``lengths:``: which values of N, with which ids, and nothing that depends on where the case is collected."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pytest_greta.cases.lengths import SPLITS, TILE, WINDOWS, sweep
from pytest_greta.cases.loader import load_suite
from pytest_greta.plan import DEFAULTS, expand


def lengths(most: int, **settings: Any) -> tuple[int, ...]:
    return sweep({**DEFAULTS, **settings}, most)


def ids(tmp_path: Path, keys: str) -> list[str]:
    file = tmp_path / "f.greta.yaml"
    file.write_text(f"suite: s\ncases: [{{id: a, {keys}}}]\n", encoding="utf-8")
    (case,) = load_suite(file).cases
    return [probe.id for probe in expand(case)]


def test_each_length_is_a_probe_of_its_own(tmp_path):
    keys = "random_tokens: 40, mode: [as_designed, kv_aligned], lengths: [8, 33]"
    assert ids(tmp_path, keys) == [
        "as_designed-lengths=8",
        "as_designed-lengths=33",
        "kv_aligned-lengths=8",
        "kv_aligned-lengths=33",
    ]
    assert ids(tmp_path, "random_tokens: 40, matrix: {lengths: [8], dtype: [bf16]}") == ["kv_aligned-lengths=8-bf16"]
    assert ids(tmp_path, 'prompt: "a text", lengths: [8]') == ["kv_aligned-lengths=8"]


def test_a_sweep_is_spelled_out_in_the_ids(tmp_path):
    found = ids(tmp_path, "random_tokens: 5, steps: 2, lengths: sweep")
    assert found == ["kv_aligned-lengths=1", "kv_aligned-lengths=2", "kv_aligned-lengths=3"]


def test_a_sweep_follows_the_cell_it_stands_in(tmp_path):
    found = ids(tmp_path, "random_tokens: 30, lengths: sweep, matrix: {page_size: [0, 8]}")
    assert "kv_aligned-page_size=8-lengths=9" in found
    assert "kv_aligned-page_size=0-lengths=9" not in found


def test_both_sides_of_every_boundary():
    at = {"schedule": {"prefill": {"tile": 32}, "decode": {"tile": 48, "splits": 3}}, "page_size": 10, "chunk": 90}
    found = lengths(400, model="synthetic:mistral", **at)
    for size in (32, 48, 3 * 48, 10, 24, 90):
        assert {size - 1, size, size + 1} <= set(found), size
    assert {1, 2, 400} <= set(found)


def test_what_the_case_does_not_say_is_what_the_library_declares():
    from pytest_greta.backends.registry import open_backends

    declared = open_backends("cpu", extra={}, base=Path())["prefill"].describe().numerics
    assert {phase: (n.tile, n.splits) for phase, n in declared.items()} == {p: (TILE, SPLITS[p]) for p in SPLITS}
    edges = {size + by for size in (TILE, TILE * SPLITS["decode"]) for by in (-1, 0, 1)}
    assert edges <= set(lengths(300))


def test_the_windows_are_those_of_the_models():
    from pytest_greta.engine.synthetic import VARIANTS, synthetic

    found = {}
    for variant in VARIANTS:
        model = synthetic(variant)
        if window := max(layer.window for layer in model.config.layers):
            found[model.name] = window
    assert found == WINDOWS


@pytest.mark.parametrize("most", [1, 2, 3, 64, 65, 1000, 4096])
def test_a_sweep_stays_within_the_prompt_and_leaves_no_wide_gap(most):
    found = lengths(most, page_size=16)
    assert list(found) == sorted(set(found))
    assert (found[0], found[-1]) == (1, most)
    assert all(b <= 2 * a + 1 for a, b in pairwise(found))


def test_a_sweep_begins_at_the_reused_prefix():
    assert lengths(100, reuse={"prefix": 40, "rollback": 2})[:2] == (40, 63)
    assert lengths(30, reuse={"prefix": 40, "rollback": 2})[-1] == 30  # which the runner then refuses, by its line
