"""Plain scalars against the YAML 1.2.2 specification, section 10.3.2 (core schema), table written by hand from it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pytest_greta.cases.model import CaseError
from pytest_greta.cases.yaml_ import parse

NULL = ["", "~", "null", "Null", "NULL"]
TRUE, FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
INTEGERS = {
    "0": 0, "-0": 0, "+12": 12, "-19": -19, "010": 10, "007": 7, "685230": 685230, "0o14": 12, "0o0": 0, "0xC": 12,
    "0xff": 255, "18446744073709551616": 2**64,
}  # fmt: skip
FLOATS = {
    "1e-3": 0.001, "1e3": 1000.0, "1E5": 100000.0, "-1.5": -1.5, "+.5": 0.5, "1.": 1.0, "0.": 0.0, "-0.0": 0.0,
    ".5e1": 5.0, "12e03": 12000.0, "-2E+05": -200000.0, "1e400": math.inf, ".inf": math.inf,
    "-.INF": -math.inf, "+.Inf": math.inf,
}  # fmt: skip
TEXT = [
    # YAML 1.1 reads every one of these as something else
    *(
        "no",
        "No",
        "yes",
        "on",
        "OFF",
        "y",
        "n",
        "1_000",
        "12:30",
        "190:20:30",
        "0b11",
        "2001-12-14",
        "1:2.5",
        "=",
        "0x_f",
    ),
    # near misses of the 1.2 patterns
    *(
        "nULL",
        "tRUE",
        "-0o14",
        "0o18",
        "0O7",
        "0XFF",
        "+0x1",
        "0xG",
        "e5",
        "1e",
        "1e+",
        ".",
        "+",
        "-.",
        ".inf.",
        "+.nan",
    ),
    *("inf", "nan", "NaN", "1.2.3", "--1", "1 2", "0x", "0o", "١٢"),
]


def value(text: str, pure: bool) -> object:
    node = parse(f"a: {text}\n", Path("f.greta.yaml"), pure=pure).plain()
    return node["a"]


@pytest.mark.parametrize("pure", [False, True])
class TestCoreSchema:
    @pytest.mark.parametrize("text", NULL)
    def test_null(self, text: str, pure: bool) -> None:
        assert value(text, pure) is None

    @pytest.mark.parametrize("text", TRUE + FALSE)
    def test_booleans(self, text: str, pure: bool) -> None:
        assert value(text, pure) is (text in TRUE)

    @pytest.mark.parametrize(("text", "expected"), INTEGERS.items())
    def test_integers(self, text: str, expected: int, pure: bool) -> None:
        found = value(text, pure)
        assert type(found) is int
        assert found == expected

    @pytest.mark.parametrize(("text", "expected"), FLOATS.items())
    def test_floats(self, text: str, expected: float, pure: bool) -> None:
        found = value(text, pure)
        assert type(found) is float
        assert found == expected

    @pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
    def test_not_a_number(self, text: str, pure: bool) -> None:
        found = value(text, pure)
        assert isinstance(found, float)
        assert math.isnan(found)

    @pytest.mark.parametrize("text", TEXT)
    def test_everything_else_is_text(self, text: str, pure: bool) -> None:
        assert value(text, pure) == text

    @pytest.mark.parametrize("quoted", ["'1'", '"1"', "'null'", '"true"', "'.inf'", '""', "|-\n  1\n"])
    def test_quoted_is_text(self, quoted: str, pure: bool) -> None:
        assert isinstance(value(quoted, pure), str)

    def test_a_number_without_end_is_refused_quickly(self, pure: bool) -> None:
        with pytest.raises(CaseError, match=r"f\.greta\.yaml:1:4: a number of 100000 characters"):
            value("9" * 100_000, pure)
