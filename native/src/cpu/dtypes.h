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

/* The two fp8 types: one sign bit, four of exponent, three of mantissa. */
struct Fp8 {
  int bias;
  uint32_t nan, max_code;
  float max;
  bool negative_zero;
};
constexpr Fp8 e4m3fn = {7, 0x7f, 0x7e, 448.0f, true}, e4m3fnuz = {8, 0x80, 0x7f, 240.0f, false};

inline const Fp8& fp8_of(int32_t dtype) {
  return dtype == GRETA_FP8_E4M3FN ? e4m3fn : e4m3fnuz;
}

/* The largest finite value. */
inline float dtype_max(int32_t dtype) {
  return dtype == GRETA_F32    ? from_bits(0x7f7fffffu)
         : dtype == GRETA_BF16 ? from_bits(0x7f7f0000u)
         : dtype == GRETA_F16  ? 65504.0f
                               : fp8_of(dtype).max;
}

/* Exact. The code's seven bits become those of a float whose exponent lacks the difference of the biases; a subnormal
 * gets the exponent of the smallest normal, whose hidden bit is subtracted again. */
inline float fp8_to_f32(const Fp8& type, uint8_t code) {
  const uint32_t magnitude = code & 0x7fu, smallest = static_cast<uint32_t>(128 - type.bias) << 23;
  const uint32_t bits = magnitude << 20;
  const float normal = from_bits(bits + smallest - (1u << 23)),
              subnormal = from_bits(bits | smallest) - from_bits(smallest);
  const uint32_t value = to_bits(magnitude < 8 ? subnormal : normal) | (code & 0x80u) << 24;
  const bool nan = type.negative_zero ? magnitude == type.nan : code == type.nan;
  return from_bits(nan ? 0x7fc00000u : value);
}

/* Round to nearest, ties to even; what is too large, infinity too, becomes the largest value; a NaN stays one. */
inline uint8_t f32_to_fp8(const Fp8& type, float x) {
  const uint32_t bits = to_bits(x), sign = (bits >> 24) & 0x80u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(type.negative_zero ? type.nan | sign : type.nan);
  uint32_t code;
  if (from_bits(magnitude) >= type.max) {
    code = type.max_code;
  } else if (magnitude < static_cast<uint32_t>(128 - type.bias) << 23) {
    /* subnormal: an addition to 2^23 of its steps rounds to a whole one; the next code after the last is the first
     * normal */
    const float steps = from_bits(static_cast<uint32_t>(127 - type.bias - 2 + 23) << 23);
    code = to_bits(from_bits(magnitude) + steps) - to_bits(steps);
  } else {
    const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
    code = (rounded >> 20) - (static_cast<uint32_t>(127 - type.bias) << 3);
  }
  return static_cast<uint8_t>(code == 0 && !type.negative_zero ? 0u : sign | code);
}

inline void row_to_f32(int32_t dtype, const void* source, int n, float* target) {
  if (dtype == GRETA_F32) {
    std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
  } else if (dtype == GRETA_BF16) {
    const auto* h = static_cast<const uint16_t*>(source);
    for (int i = 0; i < n; ++i) target[i] = bf16_to_f32(h[i]);
  } else if (dtype == GRETA_F16) {
    const auto* h = static_cast<const uint16_t*>(source);
    for (int i = 0; i < n; ++i) target[i] = f16_to_f32(h[i]);
  } else {
    const auto* codes = static_cast<const uint8_t*>(source);
    const Fp8 type = fp8_of(dtype);
    for (int i = 0; i < n; ++i) target[i] = fp8_to_f32(type, codes[i]);
  }
}

inline void row_from_f32(int32_t dtype, const float* source, int n, void* target) {
  if (dtype == GRETA_F32) {
    std::memcpy(target, source, static_cast<size_t>(n) * sizeof(float));
  } else if (dtype == GRETA_BF16) {
    auto* h = static_cast<uint16_t*>(target);
    for (int i = 0; i < n; ++i) h[i] = f32_to_bf16(source[i]);
  } else if (dtype == GRETA_F16) {
    auto* h = static_cast<uint16_t*>(target);
    for (int i = 0; i < n; ++i) h[i] = f32_to_f16(source[i]);
  } else {
    auto* codes = static_cast<uint8_t*>(target);
    const Fp8& type = fp8_of(dtype);
    for (int i = 0; i < n; ++i) codes[i] = f32_to_fp8(type, source[i]);
  }
}

}  // namespace
}  // namespace greta
