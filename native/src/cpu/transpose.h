/* Sixteen rows of sixteen floats, turned within registers: row j's lane i becomes row i's lane j. */
#pragma once

#include "simd.h"

namespace greta {
namespace {

#if defined(__AVX512F__)

/* Pairs of lanes, pairs of pairs, then quarters of the registers, twice. After the first two steps register 4 g + i
 * holds, in quarter c, column 4 c + i of rows 4 g .. 4 g + 3. */
inline void transpose(Vec (&x)[lanes]) {
  Vec t[lanes];
  for (int g = 0; g < lanes; g += 4) {
    const __m512d ab_low = _mm512_castps_pd(_mm512_unpacklo_ps(x[g], x[g + 1]));
    const __m512d ab_high = _mm512_castps_pd(_mm512_unpackhi_ps(x[g], x[g + 1]));
    const __m512d cd_low = _mm512_castps_pd(_mm512_unpacklo_ps(x[g + 2], x[g + 3]));
    const __m512d cd_high = _mm512_castps_pd(_mm512_unpackhi_ps(x[g + 2], x[g + 3]));
    t[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
    t[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
    t[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
    t[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
  }
  constexpr int even = 0x88, odd = 0xdd; /* quarters 0 and 2, or 1 and 3, of each operand */
  for (int i = 0; i < 4; ++i) {
    const Vec even_low = _mm512_shuffle_f32x4(t[i], t[4 + i], even);
    const Vec even_high = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], even);
    const Vec odd_low = _mm512_shuffle_f32x4(t[i], t[4 + i], odd);
    const Vec odd_high = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], odd);
    x[i] = _mm512_shuffle_f32x4(even_low, even_high, even);
    x[8 + i] = _mm512_shuffle_f32x4(even_low, even_high, odd);
    x[4 + i] = _mm512_shuffle_f32x4(odd_low, odd_high, even);
    x[12 + i] = _mm512_shuffle_f32x4(odd_low, odd_high, odd);
  }
}

#elif defined(__AVX2__)

/* Pairs of lanes, pairs of pairs, then halves of the registers. */
inline void transpose_eight(const __m256 (&x)[8], __m256 (&y)[8]) {
  __m256 t[8];
  for (int g = 0; g < 8; g += 4) {
    const __m256 ab_low = _mm256_unpacklo_ps(x[g], x[g + 1]), ab_high = _mm256_unpackhi_ps(x[g], x[g + 1]);
    const __m256 cd_low = _mm256_unpacklo_ps(x[g + 2], x[g + 3]), cd_high = _mm256_unpackhi_ps(x[g + 2], x[g + 3]);
    t[g] = _mm256_shuffle_ps(ab_low, cd_low, 0x44);
    t[g + 1] = _mm256_shuffle_ps(ab_low, cd_low, 0xee);
    t[g + 2] = _mm256_shuffle_ps(ab_high, cd_high, 0x44);
    t[g + 3] = _mm256_shuffle_ps(ab_high, cd_high, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    y[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
    y[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
  }
}

inline void transpose(Vec (&x)[lanes]) {
  __m256 part[2][2][8], turned[8]; /* [rows][columns] */
  for (int i = 0; i < 8; ++i) {
    part[0][0][i] = x[i].a;
    part[0][1][i] = x[i].b;
    part[1][0][i] = x[8 + i].a;
    part[1][1][i] = x[8 + i].b;
  }
  for (int columns = 0; columns < 2; ++columns) {
    transpose_eight(part[0][columns], turned);
    for (int i = 0; i < 8; ++i) x[8 * columns + i].a = turned[i];
    transpose_eight(part[1][columns], turned);
    for (int i = 0; i < 8; ++i) x[8 * columns + i].b = turned[i];
  }
}

#else

inline void transpose(Vec (&x)[lanes]) {
  float from[lanes][lanes], to[lanes][lanes];
  for (int j = 0; j < lanes; ++j) vstore(from[j], x[j]);
  for (int i = 0; i < lanes; ++i) {
    for (int j = 0; j < lanes; ++j) to[i][j] = from[j][i];
    x[i] = vload(to[i]);
  }
}

#endif

}  // namespace
}  // namespace greta
