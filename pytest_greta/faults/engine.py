"""Faults of the engine's own arithmetic: a decoder that takes a wrong row, leaves a norm out or computes coarsely.

They stand under the trace point: the tap of a stage's input shows what should have been read, that of its output what
came of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.cases.model import Inject
from pytest_greta.engine.decoder import Array, Decoder, F32Array
from pytest_greta.engine.ways import Call
from pytest_greta.faults.kinds import magnitude, planted_in, stage_of
from pytest_greta.faults.plant import as_another_type
from pytest_greta.trace.stages import MODEL

_STAGE_OF = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}


def plants_engine(fault: Inject) -> bool:
    return planted_in(fault) == "engine"


class EnginePlant:
    """One fault over all calls of a run: a stale row is one of an earlier call."""

    def __init__(self, fault: Inject) -> None:
        self.fault, self.stage, self.magnitude = fault, stage_of(fault), magnitude(fault)
        self.fired = False
        """Whether any value that was used differs from the right one."""
        self._rows: dict[tuple[int, str], dict[int, NDArray[Any]]] = {}

    def decoder(self, *args: Any) -> PlantedDecoder:
        """As ``Decoder``, with the fault in it."""
        return PlantedDecoder(self, *args)

    def hits(self, kind: str, layer: int, stage: str, call: Call) -> bool:
        f = self.fault
        here = layer == MODEL or f.layer in (None, layer)
        return f.fault == kind and here and stage == self.stage and f.phase in (call.phase, "both")

    def spoiled(self, given: Array, wrong: Array, rows: NDArray[np.int64]) -> Array:
        """``wrong`` in place of ``given``, both [R, ...] of the sequence rows ``rows`` [R]; only in the row of
        ``fault.position`` where the case names one."""
        if self.fault.position is not None:
            wrong = np.where((rows == self.fault.position).reshape(-1, *[1] * (given.ndim - 1)), wrong, given)
        self.fired = self.fired or wrong.tobytes() != given.tobytes()
        return wrong

    def earlier(self, layer: int, stage: str, given: Array, rows: NDArray[np.int64]) -> Array:
        """``given`` with each row in the place of the one ``magnitude`` rows after it; the first ones stay."""
        seen = self._rows.setdefault((layer, stage), {})
        seen.update({int(row): values.copy() for row, values in zip(rows, given, strict=True)})
        return np.stack([seen.get(int(row) - int(self.magnitude), seen[int(row)]) for row in rows])


class PlantedDecoder(Decoder):
    """A decoder of which one stage is wrong in the rows of the probed sequence."""

    def __init__(self, plant: EnginePlant, *args: Any) -> None:
        super().__init__(*args)
        self._plant = plant
        self._call: Call
        self._logit_rows: set[int] = set()

    def forward(self, call: Call, logit_rows: set[int]) -> F32Array:
        self._call, self._logit_rows = call, logit_rows
        return super().forward(call, logit_rows)

    def _layer(self, i: int, call: Call, x: Array) -> Array:
        x = self._row("x_in", i, x)
        if self._plant.hits("dtype_mix", i, "x_in", call):
            x = self._spoiled(x, as_another_type(x))
        return super()._layer(i, call, x)

    def _norm(self, x: Array, name: str) -> Array:
        layer, stage = _place(name)
        if self._plant.hits("qk_norm", layer, stage, self._call):
            return self._spoiled(super()._norm(x, name), x)
        return super()._norm(self._row(stage, layer, x), name)

    def _matmul(self, x: Array, name: str) -> F32Array:
        y = super()._matmul(x, name)
        layer, stage = _place(name)
        if self._plant.hits("gain", layer, stage, self._call):
            return self._spoiled(y, y * np.float32(1.0 + self._plant.magnitude))
        if self._plant.hits("gemm_prec", layer, stage, self._call):
            bits = int(self._plant.magnitude)
            return self._spoiled(y, self._product(_kept_bits(x, bits), _kept_bits(self.weights[name], bits)))
        return y

    def _spoiled(self, given: Array, wrong: Array) -> Array:
        result: Array = given.copy()
        probed = self._call.probed
        result[probed] = self._plant.spoiled(given[probed], wrong[probed], self._call.rows)
        return result

    def _row(self, stage: str, layer: int, x: Array) -> Array:
        """The input of a stage, from an earlier row where that is the fault."""
        plant, call = self._plant, self._call
        if plant.fault.fault != "in_row" or stage != plant.stage:
            return x
        probed, rows = call.probed, call.rows
        if stage == "final_norm":  # of the rows that get logits
            probed, rows = slice(None), np.array([r for r in call.rows if int(r) in self._logit_rows], np.int64)
        earlier = plant.earlier(layer, stage, x[probed], rows)  # remembered in every phase
        if not plant.hits("in_row", layer, stage, call):
            return x
        result: Array = x.copy()
        result[probed] = plant.spoiled(x[probed], earlier, rows)
        return result


def _place(name: str) -> tuple[int, str]:
    """Layer and stage of a weight: ``layers.3.q`` is (3, "q_proj")."""
    if not name.startswith("layers."):
        return MODEL, {"lm_head": "logits"}.get(name, name)
    _, layer, stage = name.split(".")
    return int(layer), _STAGE_OF.get(stage, stage)


def _kept_bits(x: Array, bits: int) -> F32Array:
    """``x`` in float32, rounded to nearest even at ``bits`` bits of significand."""
    mantissa, exponent = np.frexp(x.astype(np.float32))
    rounded: F32Array = np.ldexp(np.rint(mantissa * np.float32(2.0**bits)) * np.float32(2.0**-bits), exponent)
    return rounded
