"""What a study draws: the same from the same seed, every kind in its turn, and within what each fixture states."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_greta.faults.fixtures import FIXTURES, SPAN
from pytest_greta.faults.kinds import KINDS
from pytest_greta.selftest.plan import (
    MOST_ROWS_QUICK,
    REAL_MODEL,
    Draw,
    Shape,
    Study,
    in_turn,
    layers_looked_at,
    plan,
)

SHAPE = Shape(6, 8)
MODELS = ("synthetic", "synthetic:qwen3", REAL_MODEL)
STUDY = Study(seed=1, runs=800, isas=("portable", "avx2"), models=MODELS)
BY_NAME = {f.name: f for f in FIXTURES}


def shape_of(_: str) -> Shape:
    return SHAPE


PLANNED = plan(STUDY, shape_of)


def test_the_same_seed_draws_the_same_and_another_does_not():
    assert plan(STUDY, shape_of) == PLANNED
    other = plan(replace(STUDY, seed=2), shape_of)
    assert [p.id for p in other] == [p.id for p in PLANNED]
    assert sum(a == b for a, b in zip(other, PLANNED, strict=True)) < len(PLANNED) / 100


def test_a_run_does_not_depend_on_how_many_there_are():
    few = plan(replace(STUDY, runs=20), shape_of)
    by_id = {p.id: p for p in PLANNED}
    assert all(by_id[p.id] == p for p in few)


def test_counts():
    parts = [p.part for p in PLANNED]
    assert (parts.count("fault"), parts.count("benign")) == (800, 1200)
    assert len({p.id for p in PLANNED}) == len(PLANNED)


def test_the_parts_take_turns():
    mixed = in_turn(PLANNED)
    assert sorted(p.id for p in mixed) == sorted(p.id for p in PLANNED)
    for start in range(0, len(mixed) - 100, 100):
        parts = [p.part for p in mixed[start : start + 100]]
        assert parts.count("fault") >= 30
        assert parts.count("benign") >= 50


def test_quick_draws_every_variant_and_short_prompts():
    planned = plan(replace(STUDY, runs=len(FIXTURES), quick=True), shape_of)
    faults = [p for p in planned if p.part == "fault"]
    assert {p.fixture for p in faults} == set(BY_NAME)
    assert {p.inject["fault"] for p in faults} == set(KINDS)
    assert max(p.rows for p in planned if p.part == "benign") <= MOST_ROWS_QUICK


def test_magnitudes_are_those_of_the_fixture_and_the_curve_lies_below():
    ratios: dict[str, list[float]] = {"fault": [], "curve": []}
    for p in PLANNED:
        smallest = BY_NAME[p.fixture].smallest if p.fixture else None
        if smallest is not None:
            ratios[p.part].append(math.log10(abs(p.inject["magnitude"]) / smallest[p.keys["dtype"]]))
    top = math.log10(SPAN)
    assert 0 <= min(ratios["fault"]) < 0.4
    assert top - 0.4 < max(ratios["fault"]) <= top
    assert -top <= min(ratios["curve"])
    assert max(ratios["curve"]) < 0
    middle = sorted(ratios["fault"])[len(ratios["fault"]) // 2]
    assert abs(middle - top / 2) < 0.5  # log-uniform


def test_what_a_fixture_leaves_to_the_draw_is_drawn():
    for p in PLANNED:
        if not p.fixture:
            continue
        fixture = BY_NAME[p.fixture]
        assert fixture.rows[0] <= p.rows <= fixture.rows[1]
        assert p.keys["dtype"] in fixture.dtypes
        for key in ("layer", "head", "position"):
            assert isinstance(p.inject.get(key, 0), int)
        if "cached" in fixture.inject.get("position", ()):
            assert 1 <= p.inject["position"] < p.rows
    assert {p.inject.get("layer") for p in PLANNED if p.fixture == "kv_len"} == set(range(6))


def test_a_rounded_p_meets_no_stated_magnitude():
    rounded = [p for p in PLANNED if any("p_dtype" in w for w in p.keys.get("schedule", {}).values()) and p.fixture]
    drawn = [BY_NAME[p.fixture] for p in rounded if "schedule" not in BY_NAME[p.fixture].keys]
    assert drawn
    assert not [f.name for f in drawn if f.smallest is not None]


def test_healthy_runs_reach_everything():
    healthy = [p for p in PLANNED if p.part == "benign"]
    assert {p.model for p in healthy} == set(MODELS)
    assert {p.isa for p in healthy} == set(STUDY.isas)
    walks = [p.keys["schedule"]["decode"] for p in healthy if "schedule" in p.keys]
    assert {w["splits"] for w in walks} == set(range(1, 9))
    assert {w["direction"] for w in walks} == {"forward", "reverse"}
    assert (min(w["tile"] for w in walks), max(w["tile"] for w in walks)) == (16, 128)
    assert {w.get("p_dtype", "f32") for w in walks} == {"f32", "bf16", "f16", "fp8_e4m3fn", "fp8_e4m3fnuz"}
    for key in ("chunk", "left_pad", "batch", "reuse", "page_size", "q_len"):
        assert any(p.keys.get(key) for p in healthy), key
    assert {p.keys["kv_dtype"] for p in healthy} == {"f32", "bf16", "f16", "fp8_e4m3fn", "fp8_e4m3fnuz"}
    rows = sorted(p.rows for p in healthy)
    assert rows[0] == 1
    assert 3000 < rows[-1] <= 4096
    assert 32 < rows[len(rows) // 2] < 128  # the middle of a log-uniform draw from 1 to 4096 is 64
    for p in healthy:
        assert p.keys.get("reuse", {"prefix": 1})["prefix"] <= p.rows


@pytest.mark.parametrize(
    ("layer", "inside", "expected"),
    [(0, True, (0, 1)), (3, True, (2, 3, 4)), (5, True, (4, 5)), (None, True, (0, 1)), (None, False, (0, 5))],
)
def test_the_layers_looked_at_have_neighbours(layer, inside, expected):
    assert layers_looked_at(layer, 6, inside=inside) == expected


def test_a_draw_of_rows_includes_both_ends():
    assert {Draw(1, i).rows(3, 5) for i in range(300)} == {3, 4, 5}
    assert {Draw(1, i).rows(1, 1) for i in range(20)} == {1}
