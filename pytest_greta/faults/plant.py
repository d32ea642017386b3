"""Argument faults: planted by the harness between tap and call, so that they work on any library and no tap sees
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Array, AttentionSession, Batch, Phase
from pytest_greta.cases.model import Inject
from pytest_greta.engine.spec import ModelConfig, Weights
from pytest_greta.faults.kinds import BY_NAME

_WEIGHT_OF = {
    "q_proj": "layers.{}.q",
    "k_proj": "layers.{}.k",
    "v_proj": "layers.{}.v",
    "o_proj": "layers.{}.o",
    "embed_out": "embed",
    "logits": "lm_head",
}


def plants_session(fault: Inject) -> bool:
    return BY_NAME[fault.fault].planted == "argument"


def plants_weights(fault: Inject) -> bool:
    return BY_NAME[fault.fault].planted == "weights"


def magnitude(fault: Inject) -> float:
    """As the case says, or the kind's default."""
    return BY_NAME[fault.fault].magnitude if fault.magnitude is None else fault.magnitude


class PlantedSession:
    """An ``AttentionSession`` that spoils one argument on its way in. Which calls: those of ``fault.layer`` (None:
    all)."""

    def __init__(self, inner: AttentionSession, fault: Inject, model: ModelConfig) -> None:
        self._inner, self._fault, self._model = inner, fault, model
        self._kind, self._magnitude = fault.fault, magnitude(fault)
        self.fired = False
        """Whether any argument that was passed on differs from the one that came in."""

    def rope(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        if self._hits("rope_pos", layer):
            batch = replace(batch, positions=self._planted(batch.positions, self._shifted(batch.positions)))
        self._inner.rope(layer, phase, batch, q, k)

    def kv_write(self, layer: int, batch: Batch, k: Array, v: Array) -> None:
        if self._hits("kv_slot", layer):
            batch = replace(batch, slots=self._planted(batch.slots, self._shifted(batch.slots)))
        self._inner.kv_write(layer, batch, k, v)

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        if self._hits("kv_len", layer):
            kv_len = (batch.kv_len + np.int32(self._magnitude)).astype(np.int32)
            batch = replace(batch, kv_len=self._planted(batch.kv_len, kv_len))
        elif self._hits("qk_scale", layer):
            heads = slice(None) if self._fault.head is None else slice(self._fault.head, self._fault.head + 1)
            scaled = q.copy()
            scaled[:, heads] = (q[:, heads].astype(np.float32) * np.float32(1 + self._magnitude)).astype(q.dtype)
            q = self._planted(q, scaled)
        elif self._hits("gqa_map", layer):
            order = self._planted(np.arange(q.shape[1]), self._head_order())
            out, lse = self._inner.attend(layer, phase, batch, np.ascontiguousarray(q[:, order]), k_new, v_new)
            back = np.argsort(order)
            return np.ascontiguousarray(out[:, back]), None if lse is None else np.ascontiguousarray(lse[:, back])
        return self._inner.attend(layer, phase, batch, q, k_new, v_new)

    def _hits(self, kind: str, layer: int) -> bool:
        return self._kind == kind and self._fault.layer in (None, layer)

    def _planted(self, given: Array, spoiled: Array) -> Array:
        """``spoiled``, and whether it is."""
        self.fired = self.fired or not np.array_equal(given, spoiled)
        return spoiled

    def _shifted(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """``values`` + magnitude; only that of ``fault.position`` where the case names one."""
        where = True if self._fault.position is None else values == self._fault.position
        return np.where(where, values + np.int32(self._magnitude), values).astype(np.int32)

    def _head_order(self) -> NDArray[np.intp]:
        """The order in which the library must see the query heads so that each meets the kv head ``magnitude`` further
        on.

        With ``head`` only its group and the group it is swapped with move.
        """
        group, n = self._model.group, self._model.n_kv_heads
        kv = np.arange(n)
        if self._fault.head is None:
            kv = np.roll(kv, int(self._magnitude))
        else:
            mine = self._fault.head // group
            other = (mine + int(self._magnitude)) % n
            kv[[mine, other]] = kv[[other, mine]]
        return np.concatenate([np.arange(h * group, (h + 1) * group) for h in kv])

    # what is not spoiled goes through as it is
    def kv_read(self, layer: int, seq: int, start: int, count: int) -> tuple[Array, Array]:
        return self._inner.kv_read(layer, seq, start, count)

    def kv_load(self, layer: int, seq: int, start: int, k: Array, v: Array) -> None:
        self._inner.kv_load(layer, seq, start, k, v)

    def kv_trim(self, seq: int, length: int) -> None:
        self._inner.kv_trim(seq, length)

    def counters(self) -> Mapping[tuple[str, str], int]:
        return self._inner.counters()

    def sync(self) -> None:
        self._inner.sync()

    def close(self) -> None:
        self._inner.close()


class PlantedWeights:
    """``Weights`` of which one matrix is another. The checks read the checkpoint, not this."""

    def __init__(self, inner: Weights, fault: Inject, model: ModelConfig) -> None:
        self._inner, self._fault, self._layers = inner, fault, model.n_layers
        stage = fault.stage or BY_NAME[fault.fault].stages[0]
        self._template = _WEIGHT_OF[stage]
        self._spoiled: dict[str, NDArray[Any]] = {}
        self.fired = False
        """Whether any matrix that was handed out differs from the checkpoint's."""

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if not self._hits(name):
            return self._inner[name]
        if name not in self._spoiled:
            self._spoiled[name] = self._spoil(name)
            self.fired = self.fired or not np.array_equal(self._spoiled[name], self._inner[name])
        return self._spoiled[name]

    def __contains__(self, name: object) -> bool:
        return name in self._inner

    def _hits(self, name: str) -> bool:
        layers = range(self._layers) if self._fault.layer is None else (self._fault.layer,)
        return name in {self._template.format(layer) for layer in layers}

    def _spoil(self, name: str) -> NDArray[np.float32]:
        w = self._inner[name]
        further = int(magnitude(self._fault))
        if "{}" not in self._template:
            return np.roll(w, further, axis=0)
        if w.shape[0] == w.shape[1]:
            return np.ascontiguousarray(w.T)
        layer = int(name.split(".")[1])
        return self._inner[self._template.format((layer + further) % self._layers)]
