"""Patterns of what is wrong: each by what makes it, and none where there is nothing to tell apart."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_greta.backends.base import Numerics
from pytest_greta.checks import pattern
from pytest_greta.checks.result import Pattern, StageCheck
from pytest_greta.checks.run import check_trace
from pytest_greta.decide import decide_kv_aligned
from pytest_greta.report.causes import likely_causes
from pytest_greta.report.messages import known, translate
from pytest_greta.trace.records import Key
from pytest_greta.verdict import Evidence
from tests.checks.tiny_trace import Break, Tiny

CHECKED = (0, 1, 7, 8, 15, 16, 20, 23, 24, 31, 32, 39)
SIZES = {"tile": 8, "page": 16}


def said(found) -> list[str]:
    return [p.key for p in found]


@pytest.mark.parametrize(
    ("wrong", "key", "values"),
    [
        (CHECKED, "rows_all", {}),
        ((0,), "row_first", {"row": 0}),
        ((39,), "row_last", {"row": 39}),
        ((20,), "row_one", {"row": 20}),
        (CHECKED[1:], "rows_but_first", {}),
        ((20, 23, 24, 31, 32, 39), "rows_from", {"first": 20, "right": 16}),
        ((24, 31, 32, 39), "rows_from_tile", {"first": 24, "size": 8}),
        ((8, 16, 24, 32), "rows_tile_first", {"size": 8}),
        ((7, 15, 23, 31, 39), "rows_tile_last", {"size": 8}),
        ((16, 32), "rows_page_first", {"size": 16}),
        ((15, 31), "rows_page_last", {"size": 16}),
    ],
)
def test_rows(wrong, key, values):
    assert list(pattern.rows(wrong, CHECKED, SIZES)) == [Pattern(key, values)]


def test_rows_without_a_pattern():
    assert not list(pattern.rows((1, 20, 24), CHECKED, SIZES))
    assert not list(pattern.rows((), CHECKED, SIZES))
    assert not list(pattern.rows((9,), (9,), SIZES))  # of one row nothing can be said
    assert not list(pattern.rows((8, 24), CHECKED, SIZES))  # not every boundary
    assert said(pattern.rows((16, 20, 23, 24, 31, 32, 39), CHECKED, {"tile": 0, "page": 16})) == ["rows_from_page"]


@pytest.mark.parametrize(
    ("wrong", "group", "key", "values"),
    [
        (range(8), 2, "heads_all", {}),
        ((5,), 2, "head_one", {"head": 5}),
        ((4, 5), 2, "heads_group", {"first": 4, "last": 5, "kv_head": 2}),
        ((1, 3, 5, 7), 2, "heads_each_group", {"place": 1}),
        ((4, 5, 6, 7), 4, "heads_group", {"first": 4, "last": 7, "kv_head": 1}),
    ],
)
def test_heads(wrong, group, key, values):
    assert list(pattern.heads(wrong, 8, group)) == [Pattern(key, values)]


def test_heads_without_a_pattern():
    assert not list(pattern.heads((1, 4), 8, 2))
    assert not list(pattern.heads((0,), 1, 1))


def test_channels_and_layers_and_phases():
    assert list(pattern.channels((3,), 64)) == [Pattern("channel_one", {"channel": 3})]
    assert list(pattern.channels(range(32, 64), 64)) == [Pattern("channels_range", {"first": 32, "last": 63})]
    assert not list(pattern.channels(range(64), 64))
    assert not list(pattern.channels((1, 5), 64))
    assert list(pattern.layers(range(1, 6), range(6))) == [Pattern("layers_from", {"first": 1})]
    assert list(pattern.layers((0, 2, 4), range(6))) == [Pattern("layers_every", {"step": 2, "first": 0})]
    assert list(pattern.layers((3,), range(6))) == [Pattern("layer_one", {"layer": 3})]
    assert list(pattern.layers(range(6), range(6))) == [Pattern("layers_all")]
    assert not list(pattern.layers((0, 1, 4), range(6)))
    assert not list(pattern.layers((3,), (3,)))
    assert said(pattern.phases(["decode"], ["prefill", "decode"])) == ["decode_only"]
    assert not list(pattern.phases(["decode", "prefill"], ["prefill", "decode"]))
    assert not list(pattern.phases(["decode"], ["decode"]))


def test_every_pattern_has_its_words_in_both_languages():
    source = Path(pattern.__file__).read_text(encoding="utf-8")
    keys = set(re.findall(r'"((?:rows?|heads?|channels?|layers?)_\w+)"', source))
    keys |= {f"rows_from_{name}" for name in SIZES} | {f"rows_{n}_{side}" for n in SIZES for side in ("first", "last")}
    keys |= {"prefill_only", "decode_only"}
    assert len(keys) > 20
    values = dict.fromkeys(("row", "first", "last", "right", "size", "head", "kv_head", "place", "channel", "layer"), 1)
    for key in keys:
        assert known(f"pattern.{key}"), key
        assert translate(f"pattern.{key}", "en", **values, step=2)
        assert translate(f"pattern.{key}", "es", **values, step=2)


# -- through the walk and the decision -----------------------------------------------------------------------------


def failure_of(tiny: Tiny, numerics: Numerics | None = None):
    declared = {phase: numerics or Numerics() for phase in ("prefill", "decode")}
    checks = check_trace(tiny.trace(), tiny.source, tiny.stages, declared)
    failure = decide_kv_aligned(checks, [], Evidence(1, 1, 1)).first_failure
    assert failure is not None
    return failure


def keys_of(failure) -> list[str]:
    return [p.key for p in failure.pattern]


def test_a_shifted_position_is_wrong_at_every_row_and_in_one_layer():
    failure = failure_of(Tiny(1, broken=Break("full", positions=1)))
    assert (failure.layer, failure.stage) == (1, "q_rope")
    assert keys_of(failure) == ["rows_all", "heads_all", "layer_one", "prefill_only"]
    assert failure.after == ("q_norm",)
    assert failure.causes[0] == "cause.rope_position"


def test_a_wrong_frequency_is_blind_at_row_0():
    def spoil(path, key, values):
        if key.stage in ("q_rope", "k_rope") and path == "full":
            values = values.copy()
            values[1:, :, 1] *= values.dtype.type(1.01)
        return values

    failure = failure_of(Tiny(1, spoil=spoil))
    assert keys_of(failure) == ["rows_but_first", "heads_all", "channel_one", "layers_all", "prefill_only"]
    assert failure.causes[0] == "cause.rope_table"


def test_one_head_of_each_group_from_one_layer_on():
    def spoil(path, key, values):
        if key.stage == "attn_out" and key.layer >= 1:
            values = values.copy()
            values[:, [1, 3]] *= values.dtype.type(1.5)
        return values

    failure = failure_of(Tiny(1, spoil=spoil))
    assert (failure.layer, failure.stage, failure.phase) == (1, "attn_out", "both")
    assert keys_of(failure) == ["rows_all", "heads_each_group", "layers_from"]
    assert failure.after == ("q_rope", "kv_write")
    assert failure.pattern[2].values == {"first": 1}


def test_rows_of_a_page_and_of_a_tile():
    def spoil(path, key, values):
        if (path, key) == ("full", Key(1, "kv_write", "k")):
            values = values.copy()
            values[[4, 8]] *= values.dtype.type(1.5)
        if (path, key) == ("full", Key(1, "lse")):
            values = values.copy()
            values[-3:] += np.float32(1)
        return values

    pages = ((4, 3, 5),)
    failure = failure_of(Tiny(1, spoil=spoil, pages=pages))
    assert (failure.stage, failure.positions) == ("kv_write", (4, 8))
    assert keys_of(failure)[0] == "rows_page_first"
    assert failure.pages == ((1, 3), (2, 5))
    assert failure.causes[0] == "cause.page"
    only_lse = Tiny(1, spoil=lambda p, k, v: v if k.stage == "kv_write" else spoil(p, k, v))
    assert keys_of(failure_of(only_lse, Numerics(tile=8)))[0] == "rows_from_tile"  # rows 8, 9 and 10


def test_a_pattern_only_orders_the_causes():
    for stage in ("lse", "attn_out", "q_rope", "kv_write", "q_proj"):
        plain = likely_causes(stage)
        for word in ("row_one", "rows_from", "head_one", "channel_one", "layers_every"):
            assert set(plain) <= set(likely_causes(stage, pattern=[word]))
    assert likely_causes("lse", "kv_len", ["rows_from"]) == ("cause.kv_len",)  # provenance knows better


def test_checks_that_are_right_carry_none_of_it():
    checks: list[StageCheck] = check_trace(Tiny().trace(), Tiny().source, Tiny().stages, {})
    assert not [c for c in checks if c.pattern or c.inputs or c.pages]
    assert replace(checks[0], pattern=(Pattern("rows_all"),)) != checks[0]
