"""The table for spreadsheets and scripts."""

from __future__ import annotations

import csv

import pytest

from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.report.tsv import COLUMNS, analysis
from tests.support import results as samples


def rows(results) -> list[dict[str, str]]:
    text = analysis(results)
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_row_a_stage_with_rho_and_hashes():
    full, decode = rows([samples.mismatch()])
    assert (decode["layer"], decode["stage"], decode["path"]) == ("3", "q_rope", "decode")
    assert (decode["rho"], decode["rho2"], decode["finding"]) == ("12345.6", "9", "DEFINITE")
    assert (decode["left_hash"], decode["right_hash"], decode["equal"]) == (*samples.HASHES, "false")
    assert decode["first_difference"] == "32"
    assert (full["path"], full["finding"], full["left_hash"]) == ("full", "NONE", "")


def test_byte_checks_without_rho_have_rows_of_their_own():
    compared = (
        ByteCheck(0, "kv_write", "k", "full", "prefix", "a", "a", 8),
        ByteCheck(0, "kv_write", "v", "full", "prefix", "b", "c", 8, (3,)),
        ByteCheck(0, "q_proj", "", "full", "decode", "d", "e", 1, (8,)),
    )
    found = rows([samples.result(bytes=compared, stages=(StageCheck("full", 0, "q_proj", 0.1, 0.1, 1, 1),))])
    assert [(r["stage"], r["part"], r["path"], r["rho"], r["equal"]) for r in found] == [
        ("q_proj", "", "full", "0.1", ""),
        ("q_proj", "", "decode", "", "false"),
        ("kv_write", "k", "prefix", "", "true"),
        ("kv_write", "v", "prefix", "", "false"),
    ]


def test_stages_stand_in_their_order_by_mode_and_case():
    stages = tuple(
        StageCheck("full", layer, stage, 0, 0, 1, 1) for layer, stage in ((-1, "logits"), (1, "q_proj"), (0, "lse"))
    )
    found = rows([samples.result("b", stages=stages), samples.as_designed("z"), samples.result("a")])
    assert [(r["mode"], r["case"], r["stage"]) for r in found] == [
        ("as_designed", "z", ""),
        ("kv_aligned", "a", ""),
        ("kv_aligned", "b", "lse"),
        ("kv_aligned", "b", "q_proj"),
        ("kv_aligned", "b", "logits"),
    ]


@pytest.mark.parametrize("name", samples.HOSTILE, ids=range(len(samples.HOSTILE)))
def test_hostile_ids_make_no_cell_and_no_formula(name):
    text = analysis([samples.mismatch(name, suite=name, variant=name)])
    text.encode("utf-8")
    for line in text.splitlines():
        cells = line.split("\t")
        assert len(cells) == len(COLUMNS)
        assert not [c for c in cells[:4] if c.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1"])
def test_formulas_are_text(name):
    (row, _) = rows([samples.mismatch(name)])
    assert row["case"][0] in "'\\"


def test_an_empty_session_has_a_header():
    assert analysis([]) == "\t".join(COLUMNS) + "\n"


def test_what_was_not_run_has_a_row():
    (row,) = rows([samples.not_run()])
    assert (row["outcome"], row["status"]) == ("not_run", "")
