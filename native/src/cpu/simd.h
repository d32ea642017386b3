/* Sixteen float lanes, whatever the processor has: one zmm, two ymm or four 128-bit vectors. Every instruction set
 * walks lanes and chains in the same order; only the portable one on x86 rounds a product before adding it, for want of
 * FMA. Internal linkage throughout: the kernels are compiled once per instruction set. */
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace greta {
namespace {

constexpr int32_t lanes = 16;

#if defined(__AVX512F__)

using Vec = __m512;
constexpr int micro_rows = 8, micro_sums = 16, most_cols = 4; /* see cols_for: 16 of 32 registers */

inline Vec vload(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void vstore(float* p, Vec a) {
  _mm512_storeu_ps(p, a);
}
inline Vec vset(float x) {
  return _mm512_set1_ps(x);
}
inline Vec vadd(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
inline Vec vsub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
inline Vec vmul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
inline Vec vfma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
/* a > b ? a : b, so that a NaN in b comes through */
inline Vec vmax(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}
/* a < b ? a : b, so that a NaN in b comes through */
inline Vec vmin(Vec a, Vec b) {
  return _mm512_min_ps(a, b);
}
inline Vec vdiv(Vec a, Vec b) {
  return _mm512_div_ps(a, b);
}
/* a < b ? yes : no, by lane */
inline Vec vless(Vec a, Vec b, Vec yes, Vec no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
/* Lanes lo .. hi - 1 of a, `other` elsewhere. */
inline Vec vkeep(Vec a, int32_t lo, int32_t hi, Vec other) {
  const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __mmask16 keep = static_cast<__mmask16>(_mm512_cmpge_epi32_mask(index, _mm512_set1_epi32(lo)) &
                                                _mm512_cmplt_epi32_mask(index, _mm512_set1_epi32(hi)));
  return _mm512_mask_blend_ps(keep, other, a);
}
/* a * 2^n, where n = t - magic and t = 1.5 * 2^23 + n; a subnormal result is rounded once. */
inline Vec vscale(Vec a, Vec t, Vec magic) {
  return _mm512_scalef_ps(a, vsub(t, magic));
}
inline __m256 low_half(Vec a) {
  return _mm512_castps512_ps256(a);
}
inline __m256 high_half(Vec a) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}

#elif defined(__AVX2__)

struct Vec {
  __m256 a, b;
};
constexpr int micro_rows = 6, micro_sums = 6, most_cols = 2; /* 12 of 16 registers, two to a Vec */

inline Vec vload(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
inline void vstore(float* p, Vec x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline Vec vset(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
inline Vec vadd(Vec x, Vec y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
inline Vec vsub(Vec x, Vec y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
inline Vec vmul(Vec x, Vec y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
inline Vec vfma(Vec x, Vec y, Vec z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Vec vmax(Vec x, Vec y) {
  return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
inline Vec vmin(Vec x, Vec y) {
  return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
inline Vec vdiv(Vec x, Vec y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
inline Vec vless(Vec x, Vec y, Vec yes, Vec no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
inline __m256 keep_half(__m256 a, int32_t lo, int32_t hi, __m256 other, __m256i index) {
  const __m256i low = _mm256_cmpgt_epi32(index, _mm256_set1_epi32(lo - 1));
  const __m256i high = _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), index);
  return _mm256_blendv_ps(other, a, _mm256_castsi256_ps(_mm256_and_si256(low, high)));
}
inline Vec vkeep(Vec x, int32_t lo, int32_t hi, Vec other) {
  return {keep_half(x.a, lo, hi, other.a, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          keep_half(x.b, lo, hi, other.b, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}
inline __m256 scale_half(__m256 a, __m256 t, __m256 magic) {
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_castps_si256(magic));
  const __m256i first = _mm256_srai_epi32(n, 1), second = _mm256_sub_epi32(n, first), bias = _mm256_set1_epi32(127);
  const __m256 x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
  const __m256 y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(a, x), y);
}
/* a * 2^n, where t = 1.5 * 2^23 + n; in two steps, so that a subnormal result is rounded once. */
inline Vec vscale(Vec x, Vec t, Vec magic) {
  return {scale_half(x.a, t.a, magic.a), scale_half(x.b, t.b, magic.b)};
}
inline __m256 low_half(Vec x) {
  return x.a;
}
inline __m256 high_half(Vec x) {
  return x.b;
}

#else

using Quad = float __attribute__((vector_size(16)));
using QuadInt = int32_t __attribute__((vector_size(16)));
using QuadBits = uint32_t __attribute__((vector_size(16)));
struct Vec {
  Quad part[4];
};
#if defined(__aarch64__)
constexpr int micro_rows = 6, micro_sums = 6, most_cols = 1; /* 24 of 32 registers, four to a Vec */
#else
constexpr int micro_rows = 2, micro_sums = 2, most_cols = 1; /* 8 of 16 */
#endif

/* Inlined by force: as a call it would pass every vector through memory. */
template <class Body>
[[gnu::always_inline]] inline Vec each_quad(Body&& body) {
  return {{body(0), body(1), body(2), body(3)}};
}
inline Vec vload(const float* p) {
  Vec x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
inline void vstore(float* p, Vec x) {
  __builtin_memcpy(p, &x, sizeof x);
}
inline Vec vset(float x) {
  return each_quad([&](int) { return Quad{x, x, x, x}; });
}
inline Vec vadd(Vec x, Vec y) {
  return each_quad([&](int i) { return x.part[i] + y.part[i]; });
}
inline Vec vsub(Vec x, Vec y) {
  return each_quad([&](int i) { return x.part[i] - y.part[i]; });
}
inline Vec vmul(Vec x, Vec y) {
  return each_quad([&](int i) { return x.part[i] * y.part[i]; });
}
inline Quad fma_quad(Quad x, Quad y, Quad z) {
#if defined(__aarch64__)
  return vfmaq_f32(z, x, y);
#else
  return x * y + z;
#endif
}
inline Vec vfma(Vec x, Vec y, Vec z) {
  return each_quad([&](int i) { return fma_quad(x.part[i], y.part[i], z.part[i]); });
}
inline Vec vmax(Vec x, Vec y) {
  return each_quad([&](int i) { return x.part[i] > y.part[i] ? x.part[i] : y.part[i]; });
}
inline Vec vmin(Vec x, Vec y) {
  return each_quad([&](int i) { return x.part[i] < y.part[i] ? x.part[i] : y.part[i]; });
}
inline Vec vdiv(Vec x, Vec y) {
  return each_quad([&](int i) { return x.part[i] / y.part[i]; });
}
inline Vec vless(Vec x, Vec y, Vec yes, Vec no) {
  return each_quad([&](int i) { return x.part[i] < y.part[i] ? yes.part[i] : no.part[i]; });
}
inline Vec vkeep(Vec x, int32_t lo, int32_t hi, Vec other) {
  return each_quad([&](int i) {
    const QuadInt index = QuadInt{0, 1, 2, 3} + 4 * i;
    return ((index >= lo) & (index < hi)) ? x.part[i] : other.part[i];
  });
}
inline Vec vscale(Vec x, Vec t, Vec magic) {
  return each_quad([&](int i) {
    const QuadInt n =
        reinterpret_cast<QuadInt>(reinterpret_cast<QuadBits>(t.part[i]) - reinterpret_cast<QuadBits>(magic.part[i]));
    const QuadInt first = n >> 1;
    const QuadBits a = (reinterpret_cast<QuadBits>(first) + 127u) << 23;
    const QuadBits b = (reinterpret_cast<QuadBits>(n) - reinterpret_cast<QuadBits>(first) + 127u) << 23;
    return x.part[i] * reinterpret_cast<Quad>(a) * reinterpret_cast<Quad>(b);
  });
}

#endif

/* A micro-kernel keeps `rows` times this many vectors of sums in registers: the fewer the rows, the more vectors beside
 * each other, so that a broadcast number meets several. */
constexpr int cols_for(int rows) {
  return rows * 4 <= micro_sums && most_cols >= 4 ? 4 : rows * 2 <= micro_sums && most_cols >= 2 ? 2 : 1;
}

/* exp(x) for x <= 0, within one ulp (2^-23) where the result is normal, correctly scaled below; exp(-inf) = 0, NaN
 * stays. x = n ln2 + r with ln2 in two parts whose products with n are exact, then a polynomial in r (Cephes expf). */
inline Vec vexp(Vec x) {
  const Vec magic = vset(0x1.8p23f);
  x = vmax(vset(-110.0f), x);
  const Vec t = vfma(x, vset(0x1.715476p0f), magic);
  const Vec n = vsub(t, magic);
  const Vec r = vfma(n, vset(2.12194440e-4f), vfma(n, vset(-0.693359375f), x));
  Vec p = vset(1.9875691500e-4f);
  p = vfma(p, r, vset(1.3981999507e-3f));
  p = vfma(p, r, vset(8.3334519073e-3f));
  p = vfma(p, r, vset(4.1665795894e-2f));
  p = vfma(p, r, vset(1.6666665459e-1f));
  p = vfma(p, r, vset(5.0000001201e-1f));
  return vscale(vadd(vset(1.0f), vfma(p, vmul(r, r), r)), t, magic);
}

inline float exp1(float x) {
  float y[lanes];
  vstore(y, vexp(vset(x)));
  return y[0];
}

/* Above it exp overflows; vexp itself takes exponents up to it. */
constexpr float highest_exponent = 110.0f;

/* tanh(x) within two ulps (2^-22), odd to the bit; NaN stays. Near zero a polynomial (Cephes tanhf), because 1 -
 * exp(-2x) cancels there; beyond it (1 - e) / (1 + e) with e = exp(-2 |x|). */
inline Vec vtanh(Vec x) {
  const Vec zero = vset(0.0f), one = vset(1.0f);
  const Vec size = vmax(x, vsub(zero, x));
  const Vec e = vexp(vmul(vset(-2.0f), size));
  const Vec far = vdiv(vsub(one, e), vadd(one, e));
  const Vec square = vmul(x, x);
  Vec p = vset(-5.70498872745e-3f);
  p = vfma(p, square, vset(2.06390887954e-2f));
  p = vfma(p, square, vset(-5.37397155531e-2f));
  p = vfma(p, square, vset(1.33314422036e-1f));
  p = vfma(p, square, vset(-3.33332819422e-1f));
  const Vec near = vfma(vmul(p, square), x, x);
  return vless(size, vset(0.625f), near, vless(x, zero, vsub(zero, far), far));
}

/* first, first + 1, ... as floats; exact below 2^24 */
inline Vec vcount(int32_t first) {
  const float steps[lanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return vadd(vset(static_cast<float>(first)), vload(steps));
}

/* Lanes folded in halves, always the same tree: i with i + 8, then with i + 4, i + 2, i + 1. */
#if defined(__AVX2__)
inline float sum_lanes(Vec a) {
  const __m256 eight = _mm256_add_ps(low_half(a), high_half(a));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float max_lanes(Vec a) {
  const __m256 eight = _mm256_max_ps(low_half(a), high_half(a));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
#else
inline float sum_lanes(Vec a) {
  float x[lanes];
  vstore(x, a);
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  }
  return x[0];
}

inline float max_lanes(Vec a) {
  float x[lanes];
  vstore(x, a);
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x[i] = x[i] > x[i + width] ? x[i] : x[i + width];
  }
  return x[0];
}
#endif

}  // namespace
}  // namespace greta
