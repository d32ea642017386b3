"""What the kernels of torch and the models of transformers round, as declarations: found by reading their sources,
held by the tests (``tests/hf``). On a CPU, torch 2.13 and transformers 5.24.

===================================  =================================================================================
``nn.Linear``                        float32 sums, one rounding, the bias within it: nothing to declare
RMS norms                            float32; cast before the weight (``norm_cast``), but Gemma's after it
RoPE                                 tables, products and their sum in the model's type (``rope_dtype``)
silu(gate) * up, gelu(gate) * up     the activation in the model's type before the product (``act_round``)
a cap of the logits                  each step in the model's type (``score_dtype``)
``eager``                            scores in the model's type, after the product, the scale, each step of a soft cap
                                     (``score_dtype``); P divided by its sum, then in the model's type
                                     (``p_dtype``, ``p_normalised``); the softmax between them in float32
``sdpa``                             a flash kernel whose exp is good to 20 ulp (``exp_rel``) and that rounds P; on a
                                     CPU without bfloat16 or float16 products both of its products go through the
                                     model's type (``score_dtype``, ``split_partials``): at::native::cpublas::gemm
===================================  =================================================================================
"""

from __future__ import annotations

from pytest_greta.backends.base import WHOLE_ROW, Numerics
from pytest_greta.hf.families import Family

EXP_U20 = 20 * 2.0**-23
"""Of ``Vectorized::exp_u20``, which that kernel calls: 20 ulp."""


def attention(implementation: str, act: str) -> Numerics:
    """Of RoPE, cache and attention, in both phases; ``act`` the model's type by our name."""
    cast = "f32" if act == "f32" else "act"
    if implementation == "eager":
        return Numerics(
            tile=WHOLE_ROW, splits=1, p_dtype=act, p_normalised=act != "f32", score_dtype=cast, rope_dtype=cast
        )
    return Numerics(p_dtype=act, rope_dtype=cast, exp_rel=EXP_U20, score_dtype=cast, split_partials=cast)


def model(family: Family, act: str) -> Numerics:
    """Of everything else."""
    cast = "f32" if act == "f32" else "act"
    return Numerics(norm_cast="f32" if family.one_plus_weight else cast, act_round=cast, score_dtype=cast)
