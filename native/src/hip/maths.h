/* exp, tanh, sine and cosine, in the accuracy that greta_describe declares. Own code, because the device libraries that
 * would bring them are missing for gfx942 in some distributions. */
#pragma once

#include "types.h"

namespace greta {

constexpr float infinity = __builtin_inff();

GPU_FN float larger(float a, float b) { /* a NaN loses: it shows in the sum of weights */
  return b > a ? b : a;
}

/* exp(x): 2^(x log2 e). The product's rounding costs u |x|, which the bounds of a score hold. */
GPU_FN float exp_of(float x) {
  return gpu::exp2(x * 1.44269504088896340736f);
}

/* To 2^-21 relative: Taylor's series up to x^15 below 1/2, where the other form cancels. */
GPU_FN float tanh_of(float x) {
  const float size = float_of(bits_of(x) & 0x7fffffffu);
  if (size < 0.5f) {
    const float y = x * x;
    float sum = -929569.0f / 638512875.0f;
    sum = sum * y + 21844.0f / 6081075.0f;
    sum = sum * y - 1382.0f / 155925.0f;
    sum = sum * y + 62.0f / 2835.0f;
    sum = sum * y - 17.0f / 315.0f;
    sum = sum * y + 2.0f / 15.0f;
    sum = sum * y - 1.0f / 3.0f;
    return x + x * y * sum;
  }
  const float t = 1.0f - 2.0f / (exp_of(2.0f * size) + 1.0f);
  return x < 0.0f ? -t : t;
}

/* Of an angle up to 2^30 radians, in double: pi/2 in three parts (Cody and Waite), then the series of fdlibm's k_sin.c
 * and k_cos.c (Sun Microsystems, 1993; freely usable with this notice). */
GPU_FN void sine_cosine(double angle, double& sine, double& cosine) {
  const double turns = __builtin_rint(angle * 0.63661977236758134308);
  double x = __builtin_fma(-turns, 1.5707963267948966, angle);
  x = __builtin_fma(-turns, 6.123233995736766e-17, x);
  x = __builtin_fma(-turns, -1.4973849048591833e-33, x);
  const double z = x * x;
  const double s = x + x * z *
                           (-1.66666666666666324348e-01 +
                            z * (8.33333333332248946124e-03 +
                                 z * (-1.98412698298579493134e-04 +
                                      z * (2.75573137070700676789e-06 +
                                           z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  const double c = 1.0 - 0.5 * z +
                   z * z *
                       (4.16666666666666019037e-02 +
                        z * (-1.38888888888741095749e-03 +
                             z * (2.48015872894767294178e-05 +
                                  z * (-2.75573143513906633035e-07 +
                                       z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  const int quadrant = static_cast<int>(static_cast<long long>(turns) & 3);
  const double a = quadrant % 2 == 0 ? s : c, b = quadrant % 2 == 0 ? c : s;
  sine = quadrant >= 2 ? -a : a;
  cosine = quadrant == 1 || quadrant == 2 ? -b : b;
}

}  // namespace greta
