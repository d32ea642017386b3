"""What torch's attention kernels round, as declarations.

On a CPU found by experiment with torch 2.13 and held by ``tests/pytorch``; of the fused kernels of a GPU what
flash kernels commonly do, neither run nor read line by line: a device may show them to be wrong.

======================  ==============================================================================================
``math``, any device    float32 throughout, bf16 and f16 converted first. q and k are each multiplied by the root of
                        the scale, itself rounded, before their product: two roundings an operand, ``dot_bits`` 23.
                        Softmax of the whole row
``flash`` on a CPU      P rounded to the type of q, l summed before that; exp of ``EXP_F32`` or ``EXP_16``. On a CPU
                        without products of bf16 or f16 both matrix products go through that type (``score_dtype``,
                        ``split_partials``; at::native::cpublas::gemm): ``has_products`` asks torch
flex attention, CPU     as compiled by torch's inductor (``codegen/cpp_flex_attention_template.py``): scores in
                        float32, P rounded to the type of q, l summed before that, exp of ``EXP_F32`` in every type; in
                        bf16 without products of it each tile's product with V goes through that type
fused kernels of a GPU  P in the type of q, exp by the hardware's ex2, sums on matrix units that truncate
======================  ==============================================================================================
"""

from __future__ import annotations

from pytest_greta.backends.base import WHOLE_ROW, Numerics

EXP_F32 = 20 * 2.0**-23
"""``Vectorized::exp_u20``, by its name good to 20 ulp."""
EXP_16 = 2.0**-13
"""The shorter polynomial of bf16 and f16: 1.04e-4 is the most that was seen, on AVX2 and AVX-512."""
TILE = 512
"""Keys a tile of the flash kernel, from the first row on."""

MATH = Numerics(tile=WHOLE_ROW, splits=1, dot_bits=23)
FUSED_GPU = Numerics(p_dtype="act", exp_rel=2.0**-20, acc_round="rz", k_step=8)


def of_kernel(kernel: str, device: str, act: str) -> Numerics:
    """Of one kernel on one device, in both phases, for activations of type ``act``."""
    if kernel == "math":
        return MATH
    return flash_cpu(act) if device == "cpu" else FUSED_GPU.in_act(act)


def flash_cpu(act: str) -> Numerics:
    """Of the flash kernel of a CPU."""
    if act == "f32":
        return Numerics(tile=TILE, splits=1, exp_rel=EXP_F32)
    kept = "f32" if has_products(act) else "act"
    return Numerics(tile=TILE, splits=1, p_dtype=act, exp_rel=EXP_16, score_dtype=kept, split_partials=kept)


def flex_cpu(act: str) -> Numerics:
    """Of what flex attention is compiled to for a CPU. Its tiles are not in the order of the rows: those that a mask
    cuts through come first."""
    if act == "f32":
        return Numerics(exp_rel=EXP_F32)
    kept = "act" if act == "bf16" and not has_products(act) else "f32"
    return Numerics(p_dtype=act, exp_rel=EXP_F32, split_partials=kept)


def has_products(act: str) -> bool:
    """Whether this build of torch multiplies matrices of bf16 or f16 into float32 on this CPU."""
    import torch

    asked = getattr(torch.ops.mkldnn, f"_is_mkldnn_{'fp16' if act == 'f16' else act}_supported", None)
    return bool(asked is not None and asked())
