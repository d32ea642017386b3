"""Faults in a model that llama.cpp runs, the canary's and a case's: values of its graph and of its cache are changed
where they lie, between one node and the next."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pytest_greta.cases.model import Inject
from pytest_greta.dtypes import Array
from pytest_greta.engine.rope import rotate
from pytest_greta.engine.spec import ModelConfig
from pytest_greta.faults.own_pass import OwnPlants, magnitude_of


class Plants(OwnPlants):
    """In a graph and a cache of llama.cpp."""

    def __init__(self, faults: Iterable[Inject], phase: str, config: ModelConfig, fired: set[Inject]) -> None:
        super().__init__(faults, phase, config, fired)
        self._unmasked: list[tuple[Array, Array]] = []

    def computed(self, layer: int, stage: str, values: Array) -> None:
        """A stage [T, ...] that is about to be tapped."""
        if stage == "q_proj" and self._has("w_route", layer):  # as by a matrix whose rows are their neighbours
            values[:] = np.roll(values.reshape(len(values), -1), 1, axis=1).reshape(values.shape)
        elif stage in ("q_rope", "k_rope") and (fault := self._has("rope_pos", layer)):  # rotations add up
            further = np.full(len(values), int(magnitude_of(fault)), np.int32)
            values[:] = rotate(values, further, self._config.layers[layer])
        elif stage == "attn_out":
            for mask, before in self._unmasked:
                mask[:] = before
            self._unmasked.clear()
            if self._has("gqa_map", layer):
                values[:] = np.roll(values, -self._config.group, axis=1)

    def tapped(self, layer: int, stage: str, values: Array) -> None:
        """A stage that was tapped, and is what goes into the next."""
        if stage != "q_rope":
            return
        if self._has("gqa_map", layer):  # each group's queries over the next group's keys
            values[:] = np.roll(values, self._config.group, axis=1)
        if fault := self._has("qk_scale", layer):
            values *= np.float32(1.0 + magnitude_of(fault))

    def written(self, layer: int, part: str, stored: Array, rows: NDArray[np.int64]) -> None:
        """All rows of the cache [rows, width], of which ``rows`` are new."""
        if self._has("kv_slot", layer):  # they went elsewhere
            stored[rows] = 0
        if part == "k" and self._has("gain", layer):  # the last bit of one element
            stored.view(f"u{stored.itemsize}")[rows[-1], 0] ^= 1

    def masked(self, layer: int, mask: Array, newest: int) -> None:
        """The mask [T, keys] of an attention that comes next."""
        if self._has("kv_len", layer):
            column = mask[:, newest]
            self._unmasked.append((column, column.copy()))
            column[:] = -np.inf
