"""The types of a GGUF's matrices, and the minima of those that have some beside their steps.

What an engine needs to know that multiplies with the stored steps (llama.cpp) and not with the float32 matrices that
``gguf.py`` gives. Block layouts: ``ggml-common.h``; the numbers in them by the package ``gguf``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_greta.engine.gguf import contents
from pytest_greta.engine.weight_cache import load_or_build

_STEPS: dict[str, tuple[slice, int]] = {
    "Q4_1": (slice(4, 20), 32),
    "Q5_1": (slice(4, 24), 32),
    "Q2_K": (slice(16, 80), 16),
    "Q4_K": (slice(16, 144), 32),
    "Q5_K": (slice(16, 176), 32),
}
"""Of types that have minima: the bytes of a block in which its elements' steps lie, and the elements of a minimum."""


@dataclass(frozen=True)
class StoredTypes:
    """By matrix, under our names: GGUF's name of its type, and its minima [out, n / g] where the type has them."""

    types: Mapping[str, str]
    minima: Mapping[str, NDArray[np.float32]]


def stored_types(path: Path, sha256: str) -> StoredTypes:
    """Of the file ``path`` that ``gguf.load_gguf`` has read. Kept in a cache file beside its weights.

    Raises ``ModelMissing`` (extra not installed), ``ModelError`` (anything wrong with the file).
    """
    cached = load_or_build(f"{sha256}.blocks", lambda: _read(path))
    return StoredTypes(cached.facts["types"], cached.tensors)


def _read(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    found = contents(path)
    names = {**found.plan.tensors, **{alias: found.plan.tensors[name] for alias, name in found.plan.aliases.items()}}
    matrices = {ours: found.tensors[theirs] for ours, theirs in names.items() if len(found.tensors[theirs].shape) == 2}
    minima = {}
    for ours, tensor in matrices.items():
        least = minima_of(tensor.data, tensor.tensor_type.name)
        if least is not None:
            minima[ours] = least
    return minima, {"types": {ours: tensor.tensor_type.name for ours, tensor in matrices.items()}}


def minima_of(raw: NDArray[np.uint8], type_name: str) -> NDArray[np.float32] | None:
    """What a block gives where all of its steps are 0: [out, n / g] of stored rows [out, bytes], or None."""
    if type_name not in _STEPS:
        return None
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType[type_name]
    steps, group = _STEPS[type_name]
    blocks = np.array(raw).reshape(len(raw), -1, GGML_QUANT_SIZES[kind][1])
    blocks[..., steps] = 0
    with np.errstate(all="ignore"):
        values = dequantize(blocks.reshape(len(raw), -1), kind)
    return np.ascontiguousarray(values[:, ::group], dtype=np.float32)
