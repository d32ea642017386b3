"""Faults in a model that runs itself, the canary's and a case's: each between what was tapped and what is called.

No code of the model is changed: what is spoiled is what the attention function and the cache are given, and, of a
weight, what its module gives back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_greta.engine.rope import rotate
from pytest_greta.faults.own_pass import OwnPlants, magnitude_of
from pytest_greta.hf.attention import without_last
from pytest_greta.pytorch.arrays import to_numpy, to_torch


class Plants(OwnPlants):
    """In a module: by hooks, and between the model and its attention function and cache."""

    @property
    def routed(self) -> list[int]:
        """Layers whose q projection is to be another."""
        layers = range(self._config.n_layers)
        return [i for i in layers if any(f.fault == "w_route" and f.layer in (None, i) for f in self._faults)]

    def projected(self, layer: int, part: int | None) -> Callable[[Any, Any, Any], Any]:
        """A forward hook of a linear module: its outputs, or a third of them, in their neighbours' places, as by a
        matrix whose rows are."""

        def hook(_module: Any, _args: Any, output: Any) -> Any:
            if not self._has("w_route", layer):
                return output
            if part is None:
                return output.roll(1, dims=-1)
            rolled = output.clone()
            third = rolled.chunk(3, dim=-1)[part]
            third.copy_(third.roll(1, dims=-1))
            return rolled

        return hook

    def turned(self, layer: int, x: Any) -> Any:
        """q or k [1, heads, T, dim] after RoPE, some positions further: rotations add up."""
        fault = self._has("rope_pos", layer)
        if fault is None:
            return x
        config = replace(self._config.layers[layer])
        rows = to_numpy(x.transpose(1, 2)[0])
        further = rotate(rows, np.full(len(rows), int(magnitude_of(fault)), np.int32), config)
        return to_torch(further).transpose(0, 1)[None].to(x.device)

    def written(self, layer: int, k: Any, v: Any) -> tuple[Any, Any]:
        """What the cache is given in place of k and v [1, kv_heads, T, dim]."""
        import torch

        if self._has("kv_slot", layer):  # the row went elsewhere
            return torch.zeros_like(k), torch.zeros_like(v)
        if self._has("gain", layer):  # the last bit of one element
            whole = {2: torch.int16, 4: torch.int32}[k.element_size()]
            bits = k.contiguous().clone().view(whole)
            bits[0, 0, -1, 0] ^= 1
            return bits.view(k.dtype), v
        return k, v

    def scaled(self, layer: int, q: Any) -> Any:
        """What the attention function is given in place of q."""
        fault = self._has("qk_scale", layer)
        return q if fault is None else q * (1.0 + magnitude_of(fault))

    def attended(self, layer: int, k: Any, v: Any, mask: Any, stop: int) -> tuple[Any, Any, Any]:
        """What the attention function is given in place of k, v and mask; row ``stop`` - 1 is the newest in k."""
        if self._has("kv_len", layer):
            if hasattr(mask, "mask_mod"):  # flex attention's: not a tensor
                return k, v, without_last(mask, stop - 1)
            keep = slice(0, stop - 1)
            return k[:, :, keep], v[:, :, keep], None if mask is None else mask[..., keep]
        if self._has("gqa_map", layer):
            return k.roll(1, dims=1), v.roll(1, dims=1), mask
        return k, v, mask
