"""Argument faults: planted by the harness between tap and call, so that they work on any library and no tap sees
them. And faults of weights: the engine is handed another matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Array, AttentionSession, Batch, LayerConfig, Phase
from pytest_greta.cases.model import Inject
from pytest_greta.dtypes import DTYPES
from pytest_greta.engine.rope import rotate
from pytest_greta.engine.spec import ModelConfig, Weights
from pytest_greta.faults.kinds import magnitude, planted_in, stage_of

_WEIGHT_OF = {
    "q_proj": "layers.{}.q",
    "k_proj": "layers.{}.k",
    "v_proj": "layers.{}.v",
    "o_proj": "layers.{}.o",
    "embed_out": "embed",
    "logits": "lm_head",
}


def plants_session(fault: Inject) -> bool:
    return planted_in(fault) == "argument"


def plants_weights(fault: Inject) -> bool:
    return planted_in(fault) == "weights"


class PlantedSession:
    """An ``AttentionSession`` that spoils one argument on its way in. Which calls: those of ``fault.layer`` (None:
    all). ``page_addr``, otherwise the kernel's, is the table's here: the canary's, which must do on any library."""

    def __init__(self, inner: AttentionSession, fault: Inject, model: ModelConfig) -> None:
        self._inner, self._fault, self._model = inner, fault, model
        self._kind, self._stage, self._magnitude = fault.fault, stage_of(fault), magnitude(fault)
        self.fired = False
        """Whether any argument that was passed on differs from the one that came in."""

    def rope(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        if self._hits("rope_pos", layer):
            batch = replace(batch, positions=self._planted(batch.positions, self._shifted(batch.positions)))
        elif self._hits("rope_table", layer) or self._hits("rope_apply", layer) or self._hits_gain("q_rope", layer):
            self._turn_otherwise(layer, phase, batch, q, k)
            return
        self._inner.rope(layer, phase, batch, q, k)

    def kv_write(self, layer: int, batch: Batch, k: Array, v: Array) -> None:
        if self._hits("kv_slot", layer):
            batch = replace(batch, slots=self._planted(batch.slots, self._shifted(batch.slots)))
        elif self._hits("dtype_mix", layer):
            k, v = (self._planted(x, self._of_rows(batch.slots, x, as_another_type(x))) for x in (k, v))
        elif self._hits_gain("kv_write", layer):
            k = self._planted(k, self._low_bit(batch, k))
        self._inner.kv_write(layer, batch, k, v)

    def attend(
        self, layer: int, phase: Phase, batch: Batch, q: Array, k_new: Array | None = None, v_new: Array | None = None
    ) -> tuple[Array, NDArray[np.float32] | None]:
        if self._hits("kv_len", layer):
            kv_len = (batch.kv_len + np.int32(self._magnitude)).astype(np.int32)
            batch = replace(batch, kv_len=self._planted(batch.kv_len, kv_len))
        elif self._hits("page_addr", layer) and batch.block_table is not None:
            moved = np.roll(batch.block_table, int(self._magnitude), axis=1)
            batch = replace(batch, block_table=self._planted(batch.block_table, moved))
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

    def _hits_gain(self, stage: str, layer: int) -> bool:
        return self._hits("gain", layer) and self._stage == stage

    def _planted(self, given: Array, spoiled: Array) -> Array:
        """``spoiled``, and whether it is."""
        self.fired = self.fired or given.tobytes() != spoiled.tobytes()
        return spoiled

    def _of_rows(self, rows: NDArray[np.int32], given: Array, spoiled: Array) -> Array:
        """``spoiled`` in the row of ``fault.position`` alone, where the case names one."""
        if self._fault.position is None:
            return spoiled
        chosen = (rows == self._fault.position).reshape(-1, *[1] * (given.ndim - 1))
        result: Array = np.where(chosen, spoiled, given)
        return result

    def _shifted(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """``values`` + magnitude; only that of ``fault.position`` where the case names one."""
        return self._of_rows(values, values, (values + np.int32(self._magnitude)).astype(np.int32))

    # -- RoPE --------------------------------------------------------------------------------------------------------

    def _turn_otherwise(self, layer: int, phase: Phase, batch: Batch, q: Array, k: Array) -> None:
        """q and k as they should be turned, then what the fault makes of them, each where the case wants it."""
        given = q.copy(), k.copy()
        self._inner.rope(layer, phase, batch, q, k)
        if self._kind == "rope_apply" and self._magnitude == 1:
            spoiled = q.copy(), k.copy()
            self._inner.rope(layer, phase, batch, *spoiled)
        else:
            table = self._table(layer)
            if table == self._model.layers[layer]:
                return  # turned by the same table, though perhaps not to the last bit
            spoiled = rotate(given[0], batch.positions, table), rotate(given[1], batch.positions, table)
        for x, wrong, stage in zip((q, k), spoiled, ("q_rope", "k_rope"), strict=True):
            if self._kind == "gain" or self._fault.stage in (None, stage):
                x[...] = self._planted(x, self._of_rows(batch.positions, x, wrong))

    def _table(self, layer: int) -> LayerConfig:
        """How the layer is turned in place of its own way."""
        own = self._model.layers[layer]
        if self._kind == "gain":
            return replace(own, rope_base=own.rope_base * (1.0 + self._magnitude))
        if own.rope_style == "none":
            return own
        if self._kind == "rope_apply":
            if self._magnitude == -1:
                return replace(own, rope_style="none")
            return replace(own, rope_style="interleaved" if own.rope_style == "half" else "half")
        that = self._model.layers[(layer + int(self._magnitude)) % self._model.n_layers]
        switched = replace(own, rope_base=that.rope_base, rope_factors=that.rope_factors, rotary_dim=that.rotary_dim)
        return replace(own, rope_factors=None) if switched == own else switched

    # -- cache and heads ---------------------------------------------------------------------------------------------

    def _low_bit(self, batch: Batch, k: Array) -> Array:
        """One element of one row and kv head, ``magnitude`` units in the last place off. The row is ``fault.position``
        or the call's last; which of its elements depends on the row, so that a study meets all of them."""
        rows = np.flatnonzero(batch.slots == self._fault.position) if self._fault.position is not None else [-1]
        spoiled: Array = k.copy()
        for row in rows:
            head = 0 if self._fault.head is None else self._fault.head // self._model.group
            element = int(batch.slots[row]) % k.shape[-1]
            spoiled[row, head].view(f"i{k.dtype.itemsize}")[element] += int(self._magnitude)
        return spoiled

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


_ANOTHER_TYPE = {"f32": "bf16", "f16": "bf16", "bf16": "fp8_e4m3fn"}


def as_another_type(x: Array) -> Array:
    """``x`` as whoever takes its buffer for one of another type leaves it: rounded to that type, and back."""
    name = next(name for name, dtype in DTYPES.items() if dtype.numpy == x.dtype)
    other = DTYPES[_ANOTHER_TYPE[name]]
    narrow = x.astype(np.float32)
    if not other.has_inf:
        narrow = np.clip(narrow, -other.max, other.max)
    with np.errstate(over="ignore"):
        return narrow.astype(other.numpy).astype(np.float32).astype(x.dtype)


class PlantedWeights:
    """``Weights`` of which one matrix is another. The checks read the checkpoint, not this."""

    def __init__(self, inner: Weights, fault: Inject, model: ModelConfig) -> None:
        self._inner, self._fault, self._layers = inner, fault, model.n_layers
        self._template = _WEIGHT_OF[stage_of(fault)]
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
