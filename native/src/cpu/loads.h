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

#if defined(__AVX512F__)
/* Sixteen pairs of bf16: the firsts and the seconds. */
inline void part_pairs(__m512i pairs, Vec& first, Vec& second) {
  first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  second = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}
#endif

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

/* C vectors of neighbours at p, for sums whose lanes order_vectors puts in order at the end: two of bf16 are
 * cheapest parted by even and odd. */
template <int32_t dtype, int C>
inline void load_vectors(const char* p, Vec (&x)[C]) {
#if defined(__AVX512F__)
  if constexpr (dtype == GRETA_BF16 && C % 2 == 0) {
    for (int c = 0; c < C; c += 2) part_pairs(_mm512_loadu_si512(p + c * lanes * size_of<dtype>), x[c], x[c + 1]);
    return;
  }
#endif
  for (int c = 0; c < C; ++c) x[c] = vload_as<dtype>(p + c * lanes * size_of<dtype>);
}

template <int32_t dtype, int C>
inline void order_vectors(Vec (&x)[C]) {
#if defined(__AVX512F__)
  if constexpr (dtype == GRETA_BF16 && C % 2 == 0) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for (int c = 0; c < C; c += 2) {
      const Vec even = x[c], odd = x[c + 1];
      x[c] = _mm512_permutex2var_ps(even, low, odd);
      x[c + 1] = _mm512_permutex2var_ps(even, high, odd);
    }
  }
#else
  static_cast<void>(x);
#endif
}

/* To be read soon; any address will do. Kernels ask in the order of addresses, because that wakes the processor's own
 * prefetcher, which has more requests under way than a kernel can have. */
inline void prefetch(const char* p) {
  __builtin_prefetch(p, 0, 2);
}

/* Numbers begin .. end - 1 of sixteen rows as columns: out[end - begin][16]. Meanwhile as much of the sixteen rows at
 * `next` comes from memory, in the order of addresses. */
template <int32_t dtype>
inline void load_columns(const char* const* rows, int32_t begin, int32_t end, const char* next, float* out) {
  constexpr int64_t size = size_of<dtype>;
  Vec x[lanes];
#if defined(__AVX512F__)
  if constexpr (dtype == GRETA_BF16) { /* two neighbours turn as one lane and part afterwards: half the shuffles */
    for (; begin + 2 * lanes <= end; begin += 2 * lanes, out += 2 * lanes * lanes) {
      for (int j = 0; j < lanes; ++j) {
        x[j] = vload(reinterpret_cast<const float*>(rows[j] + begin * size));
        prefetch(next + (begin + 2 * j) * lanes * size);
      }
      transpose(x);
      for (int i = 0; i < lanes; ++i) {
        Vec even, odd;
        part_pairs(_mm512_castps_si512(x[i]), even, odd);
        vstore(out + 2 * i * lanes, even);
        vstore(out + (2 * i + 1) * lanes, odd);
      }
    }
  }
#endif
  for (; begin + lanes <= end; begin += lanes, out += lanes * lanes) {
    for (int j = 0; j < lanes; ++j) {
      x[j] = vload_as<dtype>(rows[j] + begin * size);
      prefetch(next + (begin + j) * lanes * size);
    }
    transpose(x);
    for (int i = 0; i < lanes; ++i) vstore(out + i * lanes, x[i]);
  }
  for (int j = 0; begin < end && j < lanes; ++j) {
    float rest[lanes];
    row_to_f32(dtype, rows[j] + begin * size, end - begin, rest);
    for (int32_t i = 0; i < end - begin; ++i) out[i * lanes + j] = rest[i];
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
