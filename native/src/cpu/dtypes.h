/* Storage types: sizes, names and exact conversions. Internal linkage throughout, because the kernels compile this once
 * per instruction set and the linker must not mix the copies. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "greta_attn.h"

namespace greta {
namespace {

inline size_t dtype_size(int32_t dtype) {
  return dtype == GRETA_F32 ? 4 : dtype <= GRETA_F16 ? 2 : 1;
}

inline const char* dtype_name(int32_t dtype) {
  switch (dtype) {
    case GRETA_F32:
      return "f32";
    case GRETA_BF16:
      return "bf16";
    case GRETA_F16:
      return "f16";
    case GRETA_FP8_E4M3FN:
      return "fp8_e4m3fn";
    case GRETA_FP8_E4M3FNUZ:
      return "fp8_e4m3fnuz";
    default:
      return "unknown";
  }
}

inline uint32_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float bf16_to_f32(uint16_t h) {
  return from_bits(static_cast<uint32_t>(h) << 16);
}

/* Round to nearest, ties to even; a NaN stays one. */
inline uint16_t f32_to_bf16(float x) {
  const uint32_t bits = to_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

/* The two f16 conversions follow Maratyszcza's FP16 (MIT): the exponent is moved by a multiplication with a power of
 * two, so that the processor's own rounding does the work; branch-free, and exact for subnormals, infinities and NaN.
 */
inline float f16_to_f32(uint16_t h) {
  const uint32_t w = static_cast<uint32_t>(h) << 16;
  const uint32_t twice = w + w;
  const float normal = from_bits((twice >> 4) + (0xe0u << 23)) * 0x1p-112f;
  const float subnormal = from_bits((twice >> 17) | (126u << 23)) - 0.5f;
  return from_bits((w & 0x80000000u) | (twice < (1u << 27) ? to_bits(subnormal) : to_bits(normal)));
}

inline uint16_t f32_to_f16(float x) {
  const uint32_t w = to_bits(x);
  const uint32_t twice = w + w;
  const float scaled = (from_bits(w & 0x7fffffffu) * 0x1p+112f) * 0x1p-110f;
  uint32_t bias = twice & 0xff000000u;
  bias = bias < 0x71000000u ? 0x71000000u : bias;
  const uint32_t bits = to_bits(from_bits((bias >> 1) + 0x07800000u) + scaled);
  const uint32_t magnitude = ((bits >> 13) & 0x7c00u) + (bits & 0x0fffu);
  return static_cast<uint16_t>(((w & 0x80000000u) >> 16) | (twice > 0xff000000u ? 0x7e00u : magnitude));
}

inline void row_to_f32(int32_t dtype, const void* source, int n, float* target) {
  if (dtype == GRETA_F32) {
    std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
  } else if (dtype == GRETA_BF16) {
    const auto* h = static_cast<const uint16_t*>(source);
    for (int i = 0; i < n; ++i) target[i] = bf16_to_f32(h[i]);
  } else {
    const auto* h = static_cast<const uint16_t*>(source);
    for (int i = 0; i < n; ++i) target[i] = f16_to_f32(h[i]);
  }
}

inline void row_from_f32(int32_t dtype, const float* source, int n, void* target) {
  if (dtype == GRETA_F32) {
    std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
  } else if (dtype == GRETA_BF16) {
    auto* h = static_cast<uint16_t*>(target);
    for (int i = 0; i < n; ++i) h[i] = f32_to_bf16(source[i]);
  } else {
    auto* h = static_cast<uint16_t*>(target);
    for (int i = 0; i < n; ++i) h[i] = f32_to_f16(source[i]);
  }
}

}  // namespace
}  // namespace greta
