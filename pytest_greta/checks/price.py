"""What a declaration costs: how far it widens a bound, and how small a gain the check can still see.

Looked at in one layer of a trace, on the rows that are checked there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pytest_greta.backends.base import Numerics
from pytest_greta.checks.bounds import ByRows, Float64, Reference
from pytest_greta.checks.constants import GAIN_FLAGGED
from pytest_greta.checks.result import Price, Sees
from pytest_greta.checks.rounding import error, half_ulp
from pytest_greta.dtypes import Array, DType, dtype_of
from pytest_greta.engine.spec import ModelConfig, StageSpec
from pytest_greta.trace.paths import phase_of
from pytest_greta.trace.stages import MODEL

ROUNDINGS: tuple[tuple[str, ...], ...] = (
    ("p_dtype", "p_scale"),
    ("acc_bits",),
    ("acc_round", "k_step"),
    ("flush",),
    ("dot_bits",),
    ("q_prescale",),
    ("kv_dequant",),
    ("l_from",),
    ("score_dtype",),
    ("split_partials",),
    ("o_dtype",),
    ("rope_dtype",),
    ("exp_rel",),
    ("tanh_rel",),
)
"""Declarations that widen a bound of the library's own stages; the first of each names it, the others go with it."""

PLAIN = Numerics()
"""Float32 throughout."""

_SAMPLE = 512
"""Elements that ``smallest_gain`` looks at; each stands for as many as were left out."""


def roundings(numerics: Numerics) -> list[tuple[str, ...]]:
    """Those of ``ROUNDINGS`` in which ``numerics`` is not plain float32."""
    return [names for names in ROUNDINGS if getattr(numerics, names[0]) != getattr(PLAIN, names[0])]


def prices(
    make: Callable[[Numerics], Reference], own: Numerics, stage: str, phase: str, stored: Array
) -> Iterator[Price]:
    """``make``: the stage's reference under a declaration; ``stored`` in the shape of its ``y``. A declaration that
    does not touch the stage has no price."""
    names = roundings(own)
    if not names:
        return
    reference = make(own)
    e, _ = error(reference.y, stored, dtype_of(stored))
    worst = int(np.argmax(np.nan_to_num(e / reference.b1, nan=0.0)))
    for group in names:
        plain = make(replace(own, **{name: getattr(PLAIN, name) for name in group}))
        ratio = (reference.b1 / plain.b1).ravel()
        if np.nanmax(ratio, initial=0.0) > 1.0:
            value = ", ".join(spelled(getattr(own, name)) for name in group)
            yield Price(phase, stage, group[0], value, float(np.nanmedian(ratio)), float(ratio[worst]))


def spelled(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def smallest_gain(reference: Reference, stored: DType) -> float:
    """The gain g of all values of which ``GAIN_FLAGGED`` elements would be flagged; inf where none would.

    A gain moves a value by g |y|, and its rounding then hides where within an ulp it lies. So an element is flagged
    with probability (g |y| - b) / ulp, within [0, 1], and the sum over the elements is what is expected.
    """
    y, b = np.abs(reference.y).ravel(), reference.b1.ravel()
    use = np.flatnonzero((y > 0.0) & np.isfinite(y) & np.isfinite(b))
    if not len(use):
        return float("inf")
    step = -(-len(use) // _SAMPLE)
    weight, use = len(use) / len(use[::step]), use[::step]
    y, b = y[use], b[use]
    ulp = 2.0 * half_ulp(y, stored)
    wanted = min(GAIN_FLAGGED, 0.5 * weight * len(use))
    low, high = 0.0, float(((b + ulp) / y).max())
    for _ in range(24):  # to 1e-3 of a gain ten thousand times below the start
        g = 0.5 * (low + high)
        if weight * float(_flagged(g, y, b, ulp)) < wanted:
            low = g
        else:
            high = g
    return high


def _flagged(g: float, y: Float64, b: Float64, ulp: Float64) -> Float64:
    total: Float64 = np.clip((g * y - b) / ulp, 0.0, 1.0).sum()
    return total


class Weighing:
    """Looks at the declarations in the middle one of ``layers`` and outside of the layers."""

    def __init__(self, layers: Sequence[int], config: ModelConfig) -> None:
        self.layers = (MODEL, layers[len(layers) // 2] if layers else MODEL)
        self.prices: list[Price] = []
        self._config = config
        self._sees: dict[tuple[str, str], float] = {}

    def seen(self) -> tuple[Sees, ...]:
        return tuple(Sees(stage, phase, gain) for (stage, phase), gain in self._sees.items())

    def see(self, spec: StageSpec, paths: Sequence[str], reference: Reference | ByRows, stored: Array) -> None:
        """The smallest gain that a stage's check still sees; a stage's own rows come before its further calls."""
        if spec.layer not in self.layers:
            return
        phases = {phase_of(path) for path in paths}
        key = (spec.stage, phases.pop() if len(phases) == 1 else "both")
        if key not in self._sees:
            self._sees[key] = smallest_gain(reference.whole(), dtype_of(stored))

    def price(
        self,
        spec: StageSpec,
        paths: Sequence[str],
        numerics: Numerics,
        make: Callable[[Numerics], Reference],
        stored: Array,
    ) -> None:
        """What the library's declarations cost here. Without a soft cap no tanh is computed."""
        if spec.layer not in self.layers:
            return
        if not self._config.layers[spec.layer].softcap:
            numerics = replace(numerics, tanh_rel=PLAIN.tanh_rel)
        for phase in dict.fromkeys(phase_of(path) for path in paths):
            known = {(p.phase, p.stage, p.name) for p in self.prices}
            priced = prices(make, numerics, spec.stage, phase, stored)
            self.prices += [p for p in priced if (p.phase, p.stage, p.name) not in known]
