"""Some layers of a model by themselves: real weights at a fraction of a forward's cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pytest_greta.engine.spec import ModelSource, Weights

VOCAB = 4096
"""Tokens of a view: a readout over a whole vocabulary costs more than the layers."""


class _SomeLayers:
    def __init__(self, inner: Weights, layers: Sequence[int], vocab: int) -> None:
        self._inner, self._layers, self._vocab = inner, tuple(layers), vocab

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        tensor = self._inner[self._name(name)]
        return tensor[: self._vocab] if name in ("embed", "lm_head") else tensor

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._name(name) in self._inner

    def _name(self, name: str) -> str:
        if not name.startswith("layers."):
            return name
        _, number, rest = name.split(".", 2)
        return f"layers.{self._layers[int(number)]}.{rest}"


def some_layers(source: ModelSource, layers: Sequence[int]) -> ModelSource:
    """A model of these layers of ``source``, in this order, over its first ``VOCAB`` tokens."""
    config, vocab = source.config, min(source.config.vocab, VOCAB)
    parts = tuple(config.layers[i] for i in layers)
    own = replace(config, n_layers=len(layers), layers=parts, vocab=vocab)
    said = ",".join(map(str, layers))
    weights = _SomeLayers(source.weights, layers, vocab)
    return ModelSource(
        f"{source.name} layers {said}", own, weights, source.tokenizer, f"{source.origin}, layers {said}"
    )
