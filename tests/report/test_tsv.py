"""The table for spreadsheets and scripts."""

from __future__ import annotations

import csv
import math
import re

import pytest

from pytest_greta.checks.result import ByteCheck, StageCheck
from pytest_greta.report.tsv import COLUMNS, analysis
from tests.support import results as samples


def rows(results) -> list[dict[str, str]]:
    text = analysis(results)
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_row_a_stage_with_rho_and_hashes():
    (row,) = rows([samples.mismatch()])
    assert (row["layer"], row["stage"], row["path"]) == ("3", "q_rope", "decode")
    assert (row["rho"], row["rho2"], row["finding"]) == ("12345.6", "9", "DEFINITE")
    assert (row["rho_full"], row["rho_prefix"], row["rho_decode"]) == ("0.2", "", "12345.6")
    assert (row["rows"], row["elements"]) == ("6", "600")
    assert (row["left_hash"], row["right_hash"], row["equal"]) == (*(f"#{h}" for h in samples.HASHES), "false")
    assert (row["compared"], row["first_difference"]) == ("full / decode", "32")


def test_the_comparison_that_differs_is_shown():
    compared = (
        ByteCheck(0, "kv_write", "k", "full", "prefix", "a", "a", 8),
        ByteCheck(0, "kv_write", "v", "full", "prefix", "b", "c", 8, (3,)),
        ByteCheck(0, "q_proj", "", "full", "decode", "d", "d", 1),
    )
    found = rows([samples.result(bytes=compared, stages=(StageCheck("full", 0, "q_proj", 0.1, 0.1, 1, 1),))])
    assert [(r["stage"], r["compared"], r["rho"], r["equal"]) for r in found] == [
        ("q_proj", "full / decode", "0.1", "true"),
        ("kv_write", "full / prefix v", "", "false"),
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_the_worst_check_is_the_one_with_the_gravest_finding(order):
    checks = (
        StageCheck("full", 0, "lse", 3.0, 0.9, 1, 1),
        StageCheck("decode", 0, "lse", 2.0, 1.5, 1, 1),
        StageCheck("aligned", 0, "lse", math.nan, 0.1, 1, 1),
    )
    (row,) = rows([samples.result(stages=checks[::order], bytes=())])
    assert (row["path"], row["finding"], row["rho"], row["rho_full"]) == ("decode", "DEFINITE", "2", "3")


def test_each_column_has_one_type_and_each_stage_one_row():
    """As a spreadsheet reads it: what is a number is one everywhere, and no name or hash becomes one."""
    digits = ("1234567890123456", "12345678901234e5")
    compared = (ByteCheck(3, "k_proj", "", "full", "decode", *digits, 1, (32,), 0.25),)
    found = rows([*samples.every_kind(), samples.mismatch("digits", bytes=compared, rho=math.inf)])
    numbers = {"layer": int, "rows": int, "elements": int, "first_difference": int, "rho": float, "rho2": float}
    numbers |= {"max_abs": float, **{name: float for name in COLUMNS if name.startswith("rho_")}}
    for row in found:
        for name, text in row.items():
            if name in numbers:
                assert text == "" or numbers[name](text) is not None
            else:
                assert not re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", text), (name, text)
    keys = [(r["mode"], r["case"], r["variant"], r["layer"], r["stage"]) for r in found]
    assert len(keys) == len(set(keys))
    assert {row["equal"] for row in found} == {"true", "false", ""} - {"true"}


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
    (row,) = rows([samples.mismatch(name)])
    assert row["case"][0] in "'\\"


def test_an_empty_session_has_a_header():
    assert analysis([]) == "\t".join(COLUMNS) + "\n"


def test_what_was_not_run_has_a_row():
    (row,) = rows([samples.not_run()])
    assert (row["outcome"], row["status"]) == ("not_run", "")
