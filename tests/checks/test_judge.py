"""From errors and bounds to a check: nothing is excused by a bound or a reference that is not finite."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_greta.checks.bounds import Reference
from pytest_greta.checks.judge import Group, Place, judge, merge
from pytest_greta.checks.result import StageCheck

HERE = [Group("decode", np.array([7]))], Place(1, "o_proj")


@pytest.mark.parametrize(
    ("y", "bound", "stored"),
    [(1.0, np.inf, np.nan), (np.nan, np.nan, 1.0), (np.nan, 1.0, 1.0), (np.inf, np.inf, 1.0), (1.0, np.nan, 2.0)],
)
def test_an_error_is_not_excused_by_what_is_not_finite(y, bound, stored):
    reference = Reference(np.array([[y]]), np.array([[bound]]))
    with np.errstate(all="ignore"):
        (check,) = judge(reference, np.array([[stored]], np.float32), *HERE)
    assert (check.rho, check.grade, check.positions, check.overflow) == (np.inf, "definite", (7,), False)


def test_the_worst_of_each_part_counts():
    """The largest rho and the largest rho2, wherever they are: the first may be a suspect and the second definite."""
    suspect = StageCheck("decode", 1, "kv_write", 9.0, 0.5, 1, 4)
    definite = StageCheck("decode", 1, "kv_write", 3.0, 3.0, 1, 4, overflow=True)
    for parts in ([suspect, definite], [definite, suspect]):
        both = merge(parts)
        assert (both.rho, both.rho2, both.grade, both.overflow, both.elements) == (9.0, 3.0, "definite", True, 8)


def test_a_group_has_its_own_rows_wherever_they_are():
    """Rows 0 and 2 of prefix are those of full, row 1 is its own and stands behind them: the only one that is wrong."""
    y = np.ones((4, 2))
    stored = np.array([[1, 1], [1, 1], [1, 1], [1, 2]], np.float32)
    positions = np.array([4, 5, 6])
    groups = [Group("full", positions, np.array([0, 1, 2])), Group("prefix", positions, np.array([0, 3, 2]))]
    full, prefix = judge(Reference(y, np.full_like(y, 0.25)), stored, groups, Place(1, "o_proj"))
    assert (full.rho, full.positions) == (0.0, ())
    assert prefix.rho == pytest.approx(4, rel=1e-6)
    assert (prefix.positions, prefix.worst.position, prefix.worst.index) == ((5,), 5, 1)


def test_an_element_within_its_rounding_has_no_error_at_all():
    """Not one below 0 either, which the largest of a row would hide beside another's."""
    y = np.array([[1.0 + 2.0**-26, 2.0]])
    (check,) = judge(Reference(y, np.full_like(y, 1e-9)), np.array([[1.0, 2.0]], np.float32), *HERE)
    assert (check.rho, check.rho2, check.worst) == (0.0, 0.0, None)
