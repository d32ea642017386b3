"""Every constant of the judgement, with where it comes from.

The rule and its trial are in ``docs/concepts/numerics.md``; the names here are the letters there.
"""

from __future__ import annotations

C = 5.0
"""Confidence of a sum of k roundings: under independent roundings P(|e| > c sqrt(k) u S) <= 2 exp(-1.5 c^2), 1e-16."""

C_EXPONENT = 1.5
"""The 1.5 of that tail: Hoeffding with roundings uniform in [-u, u], variance u^2 / 3."""

P_REJECTS = 1e-6
"""H0 is rejected below it, where no bound is broken: far above what c = 5 leaves to chance in 1e9 elements, 1e-7."""

GAIN_ZERO = (8.0, 16.0)
"""In u: gains as small count as none, outside attention and in it. A float32 stage of a few operations can lean by some
u (a reciprocal that is off by one, a rescale), and attention chains twice as many of them."""

GAIN_LEANS = 0.01
"""A stage leans where the sign test gives less, after Holm. Printed, so that 1 in 100 healthy runs may show one."""

GAIN_FLAGGED = 3.0
"""Elements expected beyond their bound at the smallest gain that counts as seen: that none is has probability e^-3."""

U = 2.0**-24
"""Unit roundoff of float32, in which every stage computes unless it declares otherwise."""

U64 = 2.0**-53
"""Unit roundoff of float64, in which the reference computes and ``angle: f64`` tables are built."""

FLOOR = 2.0**-140
"""Added to every bound but those of 0: what float32 subnormals (spacing 2^-149) can lose in a few hundred terms."""

FLOOR_FLUSH = 2.0**-126
"""The same where subnormals are flushed: the smallest normal float32."""

NORM_DET = 6.0
"""RMS norm: eps + mean, square root, reciprocal, two products and the square's own rounding, one u each."""

NORM_SUM = 0.5
"""The error of the sum of squares halves under the square root."""

LAYER_NORM_DET = 8.0
"""LayerNorm, relative to the normalised part: the difference (1) and its square (1), the square's product, the mean and
eps (1/2 each, under the root), root, reciprocal and two products (1 each), rounded up from 7.5."""

LAYER_NORM_SHIFT = 2.0
"""LayerNorm, relative to |x| + |mean| over the deviation: x r - mean r, where a kernel folds the shift in."""

GELU_ERF_ARGUMENT = 2.0
"""erf(x / sqrt(2)): the rounded constant and the product."""

GELU_TANH_ARGUMENT = 8.0
"""tanh(sqrt(2/pi)(x + 0.044715 x^3)): three products, a sum and two rounded constants, each once at most in a relative
error of a sum of like signs (7), and one more where tanh is made of exp(2a)."""

GELU_DET = 3.0
"""x/2 (1 + t): the sum, the two products."""

ROPE_PRODUCT = 3.0
"""x0 cos - x1 sin: u each for the rounded cosine, the product and the sum."""

ROPE_ANGLE = (2.0, 4.0, 2.0)
"""(a, b, k) of u ((a ln base + b) theta + k): a float32 power is as wrong as its logarithm is large (a); b for theta =
position * frequency and its reduction; k for cos and sin. A b of 4 without a was tried and gave false alarms."""

BLIND_ANGLE = 1.0
"""Radians of float32 angle error beyond which RoPE's bound excuses any rotation: position 6e5 at base 1e5."""

CACHE_SCALE = 2.0
"""row / scale: the reciprocal and the product. With a scale of 1 nothing is rounded and the bound is 0."""

GROUP_STEP = 2.0
"""The step of a group: the range's difference and its quotient, in the type that the cache computes in."""

GROUP_ROUNDINGS = 4.0
"""A row kept in steps of its group, relative to the larger of range and magnitude: x - min, the quotient, the product,
and what these together cut off at the last step."""

HQQ_ITERATIONS = 20.0
"""HQQ moves a group's zero so often, each time by half a step at most (``hqq/core/optimize.py`` 0.2.8, its default)."""

HQQ_RANGES = (1e-4, 1.0 / 2e4)
"""HQQ: a group whose range is no larger has a step of 1; no step is smaller than the second."""

HQQ_ZERO, HQQ_KEPT, HQQ_F32 = 1.0, 2.0, 6.0
"""HQQ, in the type that the cache computes in: the zero, relative to itself; the difference and the step, relative to
the value. In float32, relative to the range and the zero: the step, its reciprocal, product and sum."""

FP8_SCALED = 4.0
"""A row kept in fp8 at one scale: the scale itself, the quotient and the product, rounded up from 3."""

BLOCK_SHIFT = 3.0
"""x 127 / max before it is rounded to a whole step, relative: the quotient, which may be 1 over a rounded max / 127
(2), and the product."""

BLOCK_DET = 13.0
"""A product over 8-bit blocks, relative to its terms: the step kept in float32 (3), the product of the two steps, the
integer's conversion, its product, four additions across lanes, the minima's share taken off, the rounding of the
dequantised weight that the reference has, and a bias, one u each."""

BLOCK_PRODUCTS = 4
"""Products that such a kernel adds as integers, at least, before anything is added in float32."""

SWIGLU = (2.0, 8.0)
"""(a, b) of u (a |gate| + b): exp(-gate) carries its argument's relative error, b for the other operations."""

EXP_LIMIT = 88.72283905206835
"""ln of the largest float32. Below -EXP_LIMIT exp(-gate) is inf in float32 and a healthy x / (1 + exp(-x)) is 0; its
true value is under 3e-37, so nothing is lost by allowing the whole of it."""

DS_PRODUCT = 3.0
"""A score: the rounded scale, its product, the final rounding."""

EPS_DISTANCE = 2.0
"""exp(s - m): the subtraction's rounding, as wrong in the exponent as |s - m| is large."""

EPS_RESCALE = (2.0, 4.0)
"""(a, b) of (a max(|m|, |s|) + b)(1 + c sqrt(T)): each of T rescalings exp(m_old - m_new) rounds argument and value."""

TILE_UNDECLARED = 16
SPLITS_UNDECLARED = 8
"""T = ceil(n / 16) + 8 where a library does not declare its tile or its splits."""

OUT_DET = 4.0
"""The output: 1 / l, the product, the last rescale, the combine."""

LSE_DET = (2.0, 4.0)
"""(a, b) of a u |lse| + b u: m + log(l), its sum and its logarithm."""

SCORE_CAST = 2.0
"""Scores in the activation type: the product's rounding and the scale's; behind a soft cap tanh's and the cap's."""

SOFTCAP_DET = 4.0
"""cap tanh(r / cap): quotient, product and their arguments."""

DOT_OPERANDS = 2.0
"""Operands rounded to ``dot_bits`` (TF32-like): one rounding for each of the two."""

ROPE_CAST = 2.0
"""RoPE or its tables in the activation type: the table's rounding and the product's."""

FLIP_SHIFT = 2.0
"""TILE: exp(s - m_t) S before P's rounding. The rounded difference, and the running max as the kernel has it, each as
wrong in the exponent as |s - m_t| and |m_t| are large."""

FLIP_DET = 8.0
"""TILE: the scale, the product with it, the exponential's own operations, and the conversion's double rounding."""

SEARCHED_TILES = (16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
SEARCHED_SPLITS = (1, 2, 3, 4, 5, 6, 7, 8)
"""The schedule search: tiles that flash kernels use, in both directions, and the splits of split-KV decoding."""

EPSILONS = (1e-5, 1e-6, 1e-8, 0.0, 1e-3)
"""Epsilons of a norm that are in use, likeliest first: tried where a norm is wrong."""
