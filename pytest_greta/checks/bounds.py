"""A reference with its bounds, and the two tiers that a sum of roundings has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Numerics
from pytest_greta.checks.constants import FLOOR, FLOOR_FLUSH, C

if TYPE_CHECKING:
    from pytest_greta.checks.compiled import Within
    from pytest_greta.dtypes import Array

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What a stage should have given, in float64, and how far it may be off.

    ``b_det``: worst-case terms. ``b_sqrt``: the terms that carry c, first tier; ``b_sqrt2``: of the second; both
    None where the bound is a worst case throughout and so has one tier. All have ``y``'s shape.
    """

    y: Float64
    b_det: Float64
    b_sqrt: Float64 | None = None
    b_sqrt2: Float64 | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.y.shape

    def rows(self, at: slice) -> Reference:
        return self.map(lambda x: x[at])

    def whole(self) -> Reference:
        return self

    def map(self, f: Callable[[Float64], Float64]) -> Reference:
        """The same function of every array."""
        root, root2 = (None if x is None else f(x) for x in (self.b_sqrt, self.b_sqrt2))
        return Reference(f(self.y), f(self.b_det), root, root2)

    @property
    def b1(self) -> Float64:
        return self.b_det if self.b_sqrt is None else self.b_det + self.b_sqrt

    @property
    def b2(self) -> Float64 | None:
        """None: one tier."""
        return None if self.b_sqrt2 is None else self.b_det + self.b_sqrt2


@dataclass(frozen=True)
class ByRows:
    """A reference that is made a few rows at a time, where there are so many that memory would be what costs.

    ``within``: what compiled code finds of the stored values, one tier.
    """

    shape: tuple[int, ...]
    rows: Callable[[slice], Reference]
    within: Callable[[Array], Within | None] | None = None

    def whole(self) -> Reference:
        return self.rows(slice(None))


@dataclass(frozen=True)
class Tiers:
    """Relative error of a sum of k terms: ``first`` with confidence c, ``second`` for certain."""

    first: Any
    second: Any


def sum_tiers(k: int | NDArray[Any], numerics: Numerics) -> Tiers:
    """c sqrt(k) u and k u / (1 - k u), u = 2^-acc_bits; wider for an accumulator that truncates.

    ``k`` may be an array. The second tier is inf where k u reaches 1: nothing is certain then.
    """
    return _sum_tiers(k, numerics) if isinstance(k, np.ndarray) else _tiers_of(k, numerics)


@lru_cache
def _tiers_of(k: int, numerics: Numerics) -> Tiers:
    return _sum_tiers(k, numerics)


def _sum_tiers(k: int | NDArray[Any], numerics: Numerics) -> Tiers:
    terms = np.asarray(k, dtype=np.float64)
    u = 2.0**-numerics.acc_bits
    first = C * np.sqrt(terms)
    serial = terms * u
    if numerics.acc_round != "rne":
        # a truncating accumulator errs on one side, 2 u a step of k_step terms
        first = np.maximum(first, 2.0 * np.ceil(terms / numerics.k_step))
        serial = 2.0 * serial
    with np.errstate(divide="ignore"):
        second = np.where(serial < 1.0, serial / np.maximum(1.0 - serial, 0.0), np.inf)
    return Tiers(first * u, second)


def floor(numerics: Numerics) -> float:
    return FLOOR_FLUSH if numerics.flush else FLOOR
