"""What the kernels of torch and the models of transformers round, as declarations: found by reading their sources,
held by the tests (``tests/hf``). On a CPU, torch 2.13 and transformers 5.24.

===================================  =================================================================================
``nn.Linear``                        float32 sums, one rounding, the bias within it: nothing to declare
RMS norms                            float32; cast before the weight (``norm_cast``), but Gemma's after it
LayerNorm                            float32 until its end: nothing to declare
RoPE                                 tables, products and their sum in the model's type (``rope_dtype``)
silu(gate) * up, gelu(gate) * up     the activation in the model's type before the product (``act_round``)
``gelu_new`` without a gate          every operation's result in the model's type (``act_round``)
a cap of the logits                  each step in the model's type (``score_dtype``)
``eager``                            scores in the model's type, after the product, the scale, each step of a soft cap
                                     (``score_dtype``); P divided by its sum, then in the model's type
                                     (``p_dtype``, ``p_normalised``); the softmax between them in float32
``sdpa``                             ``pytorch.numerics.flash_cpu``
``flex_attention``                   ``pytorch.numerics.flex_cpu``
===================================  =================================================================================
"""

from __future__ import annotations

from dataclasses import replace

from pytest_greta.backends.base import WHOLE_ROW, Numerics
from pytest_greta.hf.attention import FLEX
from pytest_greta.hf.families import Family
from pytest_greta.pytorch.numerics import flash_cpu, flex_cpu

EAGER = Numerics(tile=WHOLE_ROW, splits=1, p_dtype="act", p_normalised=True, score_dtype="act")


def attention(implementation: str, act: str) -> Numerics:
    """Of RoPE, cache and attention, in both phases; ``act`` the model's type by our name."""
    # the first row that a cache hands over is not always row 0, where the tiles of the kernel begin
    kernels = {"eager": EAGER, "sdpa": replace(flash_cpu(act), tile=0, splits=0), FLEX: flex_cpu(act)}
    declared = kernels[implementation]
    return replace(declared, rope_dtype="act").in_act(act)


def model(family: Family, act: str) -> Numerics:
    """Of everything else."""
    norm_cast = "f32" if family.one_plus_weight or family.layer_norm else "act"
    return Numerics(norm_cast=norm_cast, act_round="act", score_dtype="act").in_act(act)
