"""What llama.cpp's CPU kernels round, as declarations: from its sources (``ggml/src/ggml-cpu``, b11549), held by the
tests.

===================  ================================================================================================
products             the activation goes into the weight's dot type first: f16 for f16 (``dot_bits: 11``), itself for
                     f32; sums in float32. For a quantised weight: 8-bit blocks (``dot_blocks``), q8_0, q8_1 or q8_K,
                     also where weights are repacked (Q4_0, Q4_K, IQ4_NL) or a product goes by tiles
norms                the sum of squares in float64; nothing to declare
RoPE                 float32, nothing to declare
silu(gate) * up      float32
exp                  a polynomial within 2 ulp (``ggml_v_expf``: ``exp_rel`` 2^-22)
plain attention      over an f16 cache q and P go into f16, P divided by its sum (``dot_bits: 11``, ``p_dtype: f16``,
                     ``p_normalised``); over f32 nothing does. One softmax over the row
flash, key by key    over an f16 cache: q goes into f16 (``dot_bits: 11``), the running maximum may change at every key
                     (``tile: 1``), and the output is kept in f16 (``o_dtype: f16``)
flash, by tiles      of a call of at least ``TILE`` queries: K and V are widened, nothing is rounded beyond float32
===================  ================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_greta.backends.base import WHOLE_ROW, Numerics
from pytest_greta.engine.spec import BlockKind

EXP = 2.0**-22
DOT_BITS = {"F32": 24, "F16": 11}
"""By the type of the weight."""
BLOCKS: dict[str, BlockKind] = {
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL"), "q8_0"),
    **dict.fromkeys(("Q4_1", "Q5_1"), "q8_1"),
    **dict.fromkeys(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"), "q8_K"),
}
"""The blocks that an activation goes into, by the type of the weight."""
TILE = 64
"""Queries and keys a tile of flash attention; fewer queries at a time go key by key."""


def attention(kernel: str, kv_dtype: str, calls: Iterable[int]) -> Numerics:
    """Of RoPE, cache and attention, in a phase whose calls have so many queries: the coarsest of what they run."""
    if kernel == "plain":
        declared = Numerics(tile=WHOLE_ROW, splits=1, exp_rel=EXP)
        return declared if kv_dtype == "f32" else replace(declared, dot_bits=11, p_dtype="f16", p_normalised=True)
    declared = Numerics(tile=1, exp_rel=EXP)
    by_tiles = all(queries >= TILE for queries in calls)
    return declared if by_tiles else replace(declared, dot_bits=11, o_dtype="f16")


def model(weights: frozenset[str]) -> Numerics:
    """Of everything else. ``weights``: the types of the file's tensors."""
    bits = min((DOT_BITS[name] for name in weights if name in DOT_BITS), default=Numerics.dot_bits)
    return Numerics(dot_bits=bits, dot_blocks=any(name in BLOCKS for name in weights), exp_rel=EXP)
