"""The table of fixtures holds only what a case can hold, and every kind has one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_greta.cases.build import SETTINGS, inject_problems
from pytest_greta.cases.model import Inject
from pytest_greta.faults.fixtures import DTYPES, FIXTURES, Fixture
from pytest_greta.faults.kinds import BY_NAME, KINDS, found_at
from pytest_greta.trace.stages import STAGES
from pytest_greta.verdict import FINDINGS, SCENARIOS, STATUSES

WORDS = {"layer": {"any", "upper"}, "head": {"any"}, "position": {"cached", "decoded"}}


def test_every_kind_has_a_fixture_and_no_other_is_named():
    assert list(dict.fromkeys(f.kind for f in FIXTURES)) == list(KINDS)
    assert len({f.name for f in FIXTURES}) == len(FIXTURES)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_a_fixture_is_what_a_case_can_say(fixture: Fixture):
    assert set(fixture.keys) <= set(SETTINGS)
    assert set(fixture.inject) <= {"phase", "layer", "head", "position", "stage", "magnitude"}
    assert all(fixture.keys.values())
    assert all(fixture.inject.values())
    stated = {k: v[-1] for k, v in fixture.inject.items()} | {"fault": fixture.kind}
    assert set(fixture.expect.stages) >= set(
        found_at(Inject(fixture.kind, stage=fixture.inject.get("stage", [None])[0]))
    )
    assert list(inject_problems(stated)) == []
    for key, words in WORDS.items():
        assert {v for v in fixture.inject.get(key, ()) if isinstance(v, str)} <= words
    assert 2 <= fixture.rows[0] <= fixture.rows[1]
    assert set(fixture.dtypes) <= set(DTYPES)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_a_magnitude_is_drawn_or_chosen(fixture: Fixture):
    if fixture.smallest is None:
        assert 0 not in fixture.inject["magnitude"]
    else:
        assert "magnitude" not in fixture.inject
        assert set(fixture.smallest) == set(fixture.dtypes)
        assert all(m > 0 for m in fixture.smallest.values())


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_an_expectation_uses_the_words_of_a_verdict(fixture: Fixture):
    expect = fixture.expect
    assert expect.status in STATUSES
    assert expect.scenario in (*SCENARIOS, "")
    assert set(expect.finding) <= set(FINDINGS)
    assert expect.stages
    assert set(expect.stages) <= set(STAGES)


def test_stages_that_may_be_spoiled_are_all_covered():
    for name, kind in BY_NAME.items():
        drawn = {s for f in FIXTURES if f.kind == name for s in f.inject.get("stage", kind.stages[:1])}
        assert drawn >= set(kind.stages), name


def test_reading_the_table_loads_no_numpy():
    code = "import sys, pytest_greta.faults.fixtures; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
