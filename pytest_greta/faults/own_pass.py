"""Which faults can be planted in a model that runs its own forward pass, and is only watched: those of whole layers."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_greta.cases.model import Inject
from pytest_greta.engine.spec import ModelConfig
from pytest_greta.faults.kinds import BY_NAME

ANY = ("rope_pos", "qk_scale")
"""Kinds of any magnitude."""
PLANTED = ("w_route", "kv_slot", "gain", "kv_len", "gqa_map", *ANY)


def plantable(fault: Inject, config: ModelConfig) -> bool:
    """Whether it is one of ``PLANTED``, over all heads and positions, at the kind's first stage; of ``gain`` the last
    bit of an element of K; of ``rope_pos`` where there is RoPE."""
    if fault.fault == "rope_pos" and any(layer.rope_style == "none" for layer in config.layers):
        return False
    if fault.fault not in PLANTED or fault.head is not None or fault.position is not None:
        return False
    if fault.fault == "gain":
        return (fault.stage, fault.magnitude) == ("kv_write", 1)
    kind = BY_NAME[fault.fault]
    usual = fault.magnitude in (None, kind.magnitude) or fault.fault in ANY
    return usual and fault.stage in (None, *kind.stages[:1])


def magnitude_of(fault: Inject) -> float:
    return BY_NAME[fault.fault].magnitude if fault.magnitude is None else fault.magnitude


class OwnPlants:
    """The faults of one call of the model. ``fired``: those that had their chance, shared by all calls of a trace."""

    def __init__(self, faults: Iterable[Inject], phase: str, config: ModelConfig, fired: set[Inject]) -> None:
        self._faults = [fault for fault in faults if fault.phase in (phase, "both")]
        self._config, self._fired = config, fired

    def _has(self, name: str, layer: int) -> Inject | None:
        """The fault of that kind in the layer; one without a layer is in all."""
        for fault in self._faults:
            if fault.fault == name and fault.layer in (None, layer):
                self._fired.add(fault)
                return fault
        return None
