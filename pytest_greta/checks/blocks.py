"""Products with a quantised matrix, as ggml's CPU kernels take them: the activation goes into 8-bit blocks first.

A block of 32 elements (``q8_0``, ``q8_1``) or of 256 (``q8_K``) is kept as whole steps of max |x| / 127. The reference
takes the same steps from the traced input; what a healthy kernel may do otherwise is derived in
``docs/concepts/derivations.md``. Sources: ``quantize_row_q8_0``, ``_q8_1``, ``_q8_K`` and the products over them in
``ggml/src/ggml-cpu`` of llama.cpp b11549.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_greta.backends.base import Numerics
from pytest_greta.checks.bounds import Float64, Reference, floor, sum_tiers
from pytest_greta.checks.constants import BLOCK_DET, BLOCK_PRODUCTS, BLOCK_SHIFT, U
from pytest_greta.checks.reference import products
from pytest_greta.dtypes import F16, Array
from pytest_greta.engine.spec import BlockDot, BlockKind

SIZES: dict[BlockKind, int] = {"q8_0": 32, "q8_1": 32, "q8_K": 256}
STEPS = 127
"""Of the largest magnitude in a block."""


@dataclass(frozen=True)
class Rounded:
    """Rows [R, n] in blocks [R, n / size, size].

    ``whole``: the steps of each element. ``step`` [R, n / size]: as it is kept, and ``exact_step`` before it went into
    f16. ``undecided``: elements so near the middle between two steps that a kernel may take the other one.
    """

    whole: Float64
    step: Float64
    exact_step: Float64
    undecided: NDArray[np.bool_]

    @property
    def values(self) -> Float64:
        """[R, n]: what the products read."""
        read: Float64 = (self.whole * self.step[..., None]).reshape(len(self.whole), -1)
        return read


def rounded(x: Array, kind: BlockKind) -> Rounded:
    """x [R, n] in blocks of ``kind``; n is a multiple of their size."""
    blocks = x.astype(np.float32).reshape(len(x), -1, SIZES[kind])
    most = np.abs(blocks).max(axis=-1)
    with np.errstate(all="ignore"):
        exact_step = most / np.float32(STEPS)
        if kind == "q8_K":
            step = exact_step = np.where(most > 0, np.float32(1) / (np.float32(STEPS) / most), np.float32(0))
        else:
            step = exact_step.astype(np.float16)
        in_steps = np.where(most > 0, STEPS / most.astype(np.float64), 0.0)[..., None] * blocks
        from_middle = np.abs(in_steps - np.floor(in_steps) - 0.5)
    undecided = from_middle <= BLOCK_SHIFT * U * np.abs(in_steps)
    return Rounded(np.rint(in_steps), step.astype(np.float64), exact_step.astype(np.float64), undecided)


def linear(
    x: Array, matrix: NDArray[np.float32], dot: BlockDot, bias: NDArray[np.float32] | None, numerics: Numerics
) -> Reference:
    """x [R, n] times matrix [out, n] transposed over the blocks of ``dot``, plus bias [out]: [R, out]."""
    blocks = rounded(x, dot.kind)
    values = blocks.values
    y, size = products(values, matrix)
    det = np.full_like(size, floor(numerics))
    if dot.minima is not None:
        minima = dot.minima.astype(np.float64)
        groups = values.reshape(len(values), minima.shape[1], -1)
        given = groups.sum(axis=-1)
        if dot.kind == "q8_1":  # the kernel takes the sum from f16, made with the step before that was rounded
            kept, off = _kept_sum(blocks)
            y += (kept - given) @ minima.T
            det += off @ np.abs(minima).T
            given = kept
        size += (np.abs(groups).sum(axis=-1) + np.abs(given)) @ np.abs(minima).T
    det += BLOCK_DET * U * size
    det += _other_steps(blocks, matrix)
    if bias is not None:
        y += bias
        det += U * np.abs(bias.astype(np.float64))
    tiers = sum_tiers(-(-values.shape[-1] // BLOCK_PRODUCTS), numerics)
    return Reference(y, det, tiers.first * size, tiers.second * size)


def _kept_sum(blocks: Rounded) -> tuple[Float64, Float64]:
    """The sum of each block as it is kept, and by how much it is further from the sum of the elements where one of them
    takes its other step: both [R, blocks]."""
    steps = blocks.exact_step.astype(np.float32) * blocks.whole.sum(axis=-1).astype(np.float32)
    with np.errstate(over="ignore"):
        kept = steps.astype(np.float16).astype(np.float64)
    others = blocks.undecided.sum(axis=-1)
    moved = others * blocks.exact_step
    of_f16 = 2.0 * (F16.u * (1.0 + 2.0 * F16.u) * (np.abs(kept) + moved) + F16.smallest_subnormal)
    off: Float64 = np.where(others > 0, of_f16 + others * np.abs(blocks.step - blocks.exact_step), 0.0)
    return kept, off


def _other_steps(blocks: Rounded, matrix: NDArray[np.float32]) -> Float64:
    """What the undecided elements add, [R, out]: a step of each, times its weight."""
    added = np.zeros((len(blocks.whole), len(matrix)))
    rows = blocks.undecided.any(axis=(1, 2))
    if rows.any():
        one = np.where(blocks.undecided, blocks.step[..., None], 0.0).reshape(len(added), -1)
        added[rows] = products(one[rows], matrix)[1]
    return added
