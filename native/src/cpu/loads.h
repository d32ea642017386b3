/* Stored numbers of any type as sixteen float lanes, and sixteen rows of them turned into columns. */
#pragma once

#include <type_traits>

#include "dtypes.h"
#include "transpose.h"

namespace greta {
namespace {

template <int32_t dtype>
constexpr int64_t size_of = dtype == GRETA_F32   ? 4
                            : dtype <= GRETA_F16 ? 2
                                                 : 1;

/* Sixteen numbers at p, exactly as row_to_f32 has them. */
template <int32_t dtype>
inline Vec vload_as(const char* p) {
#if defined(__AVX512F__)
  if constexpr (dtype == GRETA_BF16 || dtype == GRETA_F16) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    if constexpr (dtype == GRETA_F16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
#endif
  float x[lanes];
  row_to_f32(dtype, p, lanes, x);
  return vload(x);
}

/* Dimensions first .. first + count - 1 of sixteen rows, as columns: out[i] holds dimension first + i of all. */
template <int32_t dtype>
inline void load_columns(const char* const* rows, int32_t first, int32_t count, float* out) {
  Vec x[lanes];
#if defined(__AVX512F__)
  if constexpr (dtype == GRETA_BF16) { /* two neighbours turn as one lane and part afterwards: half the shuffles */
    for (; count >= 2 * lanes; first += 2 * lanes, count -= 2 * lanes, out += 2 * lanes * lanes) {
      for (int j = 0; j < lanes; ++j) x[j] = vload(reinterpret_cast<const float*>(rows[j] + first * size_of<dtype>));
      transpose(x);
      for (int i = 0; i < lanes; ++i) {
        const __m512i pair = _mm512_castps_si512(x[i]);
        vstore(out + 2 * i * lanes, _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)));
        vstore(out + (2 * i + 1) * lanes,
               _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u)))));
      }
    }
  }
#endif
  for (; count >= lanes; first += lanes, count -= lanes, out += lanes * lanes) {
    for (int j = 0; j < lanes; ++j) x[j] = vload_as<dtype>(rows[j] + first * size_of<dtype>);
    transpose(x);
    for (int i = 0; i < lanes; ++i) vstore(out + i * lanes, x[i]);
  }
  for (int j = 0; count > 0 && j < lanes; ++j) {
    float rest[lanes];
    row_to_f32(dtype, rows[j] + first * size_of<dtype>, count, rest);
    for (int32_t i = 0; i < count; ++i) out[i * lanes + j] = rest[i];
  }
}

/* Calls body(std::integral_constant<int32_t, dtype>), so that a type is decided once and not at each load. */
template <class Body>
inline void with_dtype(int32_t dtype, Body&& body) {
  switch (dtype) {
    case GRETA_F32:
      return body(std::integral_constant<int32_t, GRETA_F32>());
    case GRETA_BF16:
      return body(std::integral_constant<int32_t, GRETA_BF16>());
    case GRETA_F16:
      return body(std::integral_constant<int32_t, GRETA_F16>());
    case GRETA_FP8_E4M3FN:
      return body(std::integral_constant<int32_t, GRETA_FP8_E4M3FN>());
    default:
      return body(std::integral_constant<int32_t, GRETA_FP8_E4M3FNUZ>());
  }
}

}  // namespace
}  // namespace greta
