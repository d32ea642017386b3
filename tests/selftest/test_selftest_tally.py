"""The figures of a study: limits against the definition, counts against records written by hand."""

from __future__ import annotations

import math

import mpmath
import pytest

from pytest_greta.faults.fixtures import FIXTURES, Expected, Fixture
from pytest_greta.plain import from_plain, to_plain
from pytest_greta.report.text import width
from pytest_greta.selftest.plan import Planned, Shape, Study, plan
from pytest_greta.selftest.run import Record
from pytest_greta.selftest.table import as_lines, as_page
from pytest_greta.selftest.tally import BINS, Summary, tally, upper_limit

FIXTURE = Fixture("gain", "gain_wo", Expected("REAL_MISMATCH", ("o_proj",)), smallest={"f32": 1e-3})
STUDY = Study(1, 3)


def fault(number: int, magnitude: float, part: str = "fault") -> Planned:
    inject = {"fault": "gain", "layer": 2, "magnitude": magnitude}
    keys = {"dtype": "f32"}
    return Planned(f"{part}-{number}", part, "synthetic", 9, keys, "avx2", "gain_wo", inject=inject)  # type: ignore[arg-type]


def healthy(number: int) -> Planned:
    return Planned(f"benign-{number}", "benign", "synthetic", 9, {"dtype": "f32"}, "avx2")


RIGHT = {"found": True, "stage_right": True, "layer_right": True, "scenario_right": True, "status": "KV_MISMATCH"}


def summary(*pairs: tuple[Planned, Record | None]) -> Summary:
    records = [record for _, record in reversed(pairs) if record is not None]
    return tally(STUDY, [planned for planned, _ in pairs], records, [FIXTURE])


@pytest.mark.parametrize(("events", "runs"), [(0, 1), (0, 59), (0, 3000), (1, 10), (5, 100), (30, 3000), (9, 10)])
def test_the_upper_limit_is_clopper_and_pearson(events, runs):
    """At it, so few events have the probability 5 %: the incomplete beta function, by mpmath."""
    p = upper_limit(events, runs)
    assert float(mpmath.betainc(events + 1, runs - events, 0, p, regularized=True)) == pytest.approx(0.95, abs=1e-9)


def test_known_limits():
    assert upper_limit(0, 3000) == pytest.approx(1 - 0.05 ** (1 / 3000), rel=1e-12)
    assert upper_limit(0, 59) < 0.05 < upper_limit(0, 58)  # the rule that 59 clean runs show 95 % with 95 %
    assert upper_limit(4, 4) == upper_limit(0, 0) == 1.0


def test_a_clean_study():
    found = summary(
        (fault(0, 2e-3), Record("fault-0", **RIGHT, logits=True)), (healthy(0), Record("benign-0", rho=0.5))
    )
    (row,) = found.kinds
    assert (row.runs, row.found, row.stage, row.layer, row.scenario, row.logits, row.close) == (1, 1, 1, 1, 1, 1, 0)
    assert [(c.fixture, c.seen, c.stated) for c in found.curves] == [("gain_wo", {"f32": 2e-3}, {"f32": 1e-3})]
    assert found.clean
    (model,) = found.benign
    assert (model.runs, model.alarms, model.rho) == (1, 0, 0.5)


@pytest.mark.parametrize(
    ("planned", "record", "what"),
    [
        (fault(0, 2e-3), Record("fault-0", status="PASS"), "missed"),
        (fault(0, 2e-3), Record("fault-0", **{**RIGHT, "layer_right": False}), "misplaced"),
        (fault(0, 2e-3), Record("fault-0", **{**RIGHT, "stage_right": False}), "misplaced"),
        (fault(0, 2e-3), Record("fault-0", **{**RIGHT, "scenario_right": False}), "misplaced"),
        (fault(0, 2e-3), Record("fault-0", planted=False), "not_planted"),
        (fault(0, 2e-3), Record("fault-0", error="ended by SIGSEGV"), "error"),
        (fault(0, 2e-4, "curve"), Record("curve-0", error="ended by SIGSEGV"), "error"),
        (healthy(0), Record("benign-0", alarm=True), "alarm"),
        (healthy(0), Record("benign-0", error="ended by SIGSEGV"), "error"),
    ],
)
def test_what_makes_a_study_red(planned, record, what):
    found = summary((planned, record))
    assert [odd.what for odd in found.odd] == [what]
    assert not found.clean


def test_a_run_that_is_not_done_is_no_success():
    assert not summary((healthy(0), Record("benign-0")), (healthy(1), None)).clean


def test_below_the_smallest_nothing_is_due():
    missed = Record("curve-0", status="PASS"), Record("curve-1", planted=False)
    found = summary((fault(0, 2e-4, "curve"), missed[0]), (fault(1, 2e-5, "curve"), missed[1]))
    assert found.clean
    assert found.kinds[0].runs == 0


def test_the_curve_counts_by_half_decades():
    magnitudes = [1.01e-5, 2e-4, 2e-4, 1.01e-3, 0.0999]
    pairs = [(fault(i, -m), Record(f"fault-{i}", **{**RIGHT, "found": i != 1})) for i, m in enumerate(magnitudes)]
    (curve,) = summary(*pairs).curves
    middle = BINS // 2
    at = math.floor((math.log10(0.2) + 2) * 2)
    runs = {0: 1, at: 2, middle: 1, BINS - 1: 1}
    assert curve.runs == tuple(runs.get(i, 0) for i in range(BINS))
    assert curve.found == tuple(runs.get(i, 0) - (i == at) for i in range(BINS))


def test_a_summary_survives_json_and_is_told_in_both_languages():
    pairs = [(fault(i, 2e-3 * 3**i), Record(f"fault-{i}", **RIGHT)) for i in range(4)]
    found = summary(
        *pairs, (fault(9, 2e-3), Record("fault-9", status="PASS")), (healthy(0), Record("benign-0", alarm=True))
    )
    assert from_plain(Summary, to_plain(found)) == found
    english, spanish = ("\n".join(as_lines(found, language)) for language in ("en", "es"))
    for words in ("4 / 5", "False alarms: 1 of 1", "fault-9: missed", "selftest FAILED: 2 of 6"):
        assert words in english
    for words in ("4 / 5", "Falsas alarmas: 1 de 1", "fault-9: no hallado", "selftest FALLIDO: 2 de 6"):
        assert words in spanish
    both = "\n".join(as_lines(found, "both"))
    assert "fault-9: no hallado / missed" in both
    assert "| gain | 5 | 4 / 5 |" in as_page(found, "en")
    assert "| todos | 5 |" in as_page(found, "es")


@pytest.mark.parametrize("lang", ["both", "es", "en"])
def test_the_tables_fit_into_80_columns(lang):
    study = Study(1, len(FIXTURES), True, ("avx2",), ("synthetic", "synthetic:qwen3"))
    planned = plan(study, lambda _: Shape(6, 8))
    records = [Record(p.id, **({} if p.part == "benign" else RIGHT), close=True, rho=0.123) for p in planned]
    records[0] = Record(planned[0].id, status="PASS")
    lines = as_lines(tally(study, planned, records, FIXTURES), lang)
    assert max(map(width, lines)) <= 80
    # a heading of two languages starts each of them on a line of its own, in all columns
    faults = next(line for line in lines if line.startswith(("tipo", "kind")))
    assert ("runs" in faults) is (lang == "en")
