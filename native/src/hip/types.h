/* Storage types on the device: exact conversions to and from float. The numbers are greta_dtype's. */
#pragma once

#include "gpu.h"
#include "greta_attn.h"

namespace greta {

GPU_FN uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

GPU_FN float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

GPU_FN int size_of(int dtype) {
  return dtype == GRETA_F32 ? 4 : dtype <= GRETA_F16 ? 2 : 1;
}

struct Bf16 {
  static constexpr bool is_bf16 = true;
  uint16_t bits;
};
struct F16 {
  static constexpr bool is_bf16 = false;
  uint16_t bits;
};

GPU_FN float to_float(float x) {
  return x;
}
GPU_FN float to_float(Bf16 x) {
  return float_of(static_cast<uint32_t>(x.bits) << 16);
}
GPU_FN float to_float(F16 x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#elif defined(__AMDGCN__)
  return static_cast<float>(__builtin_bit_cast(_Float16, x.bits));
#else /* Maratyszcza's FP16 (MIT): a multiplication moves the exponent, for subnormals too */
  const uint32_t w = static_cast<uint32_t>(x.bits) << 16, twice = w + w;
  const float normal = float_of((twice >> 4) + (0xe0u << 23)) * 0x1p-112f;
  const float subnormal = float_of((twice >> 17) | (126u << 23)) - 0.5f;
  return float_of((w & 0x80000000u) | (twice < (1u << 27) ? bits_of(subnormal) : bits_of(normal)));
#endif
}

template <class T>
GPU_FN T from_float(float x);
template <>
GPU_FN float from_float<float>(float x) {
  return x;
}
template <>
GPU_FN Bf16 from_float<Bf16>(float x) { /* to nearest, ties to even; a NaN stays one */
  const uint32_t bits = bits_of(x), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u : rounded)};
}
template <>
GPU_FN F16 from_float<F16>(float x) {
#if defined(__CUDA_ARCH__)
  F16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#elif defined(__AMDGCN__)
  return {__builtin_bit_cast(uint16_t, static_cast<_Float16>(x))};
#else
  const uint32_t w = bits_of(x), twice = w + w;
  const float scaled = (float_of(w & 0x7fffffffu) * 0x1p+112f) * 0x1p-110f;
  uint32_t bias = twice & 0xff000000u;
  bias = bias < 0x71000000u ? 0x71000000u : bias;
  const uint32_t bits = bits_of(float_of((bias >> 1) + 0x07800000u) + scaled);
  const uint32_t magnitude = ((bits >> 13) & 0x7c00u) + (bits & 0x0fffu);
  return {static_cast<uint16_t>(((w & 0x80000000u) >> 16) | (twice > 0xff000000u ? 0x7e00u : magnitude))};
#endif
}

/* The two fp8 types have one sign bit, four of exponent and three of mantissa; their biases are 7 and 8. The byte's
 * exponent and mantissa are put where a float has them, and a multiplication moves the exponent. */
GPU_FN float fp8_to_float(uint32_t byte, bool fnuz) {
  const float size = float_of((byte & 0x7fu) << 20) * (fnuz ? 0x1p+119f : 0x1p+120f);
  const bool nan = fnuz ? byte == 0x80u : (byte & 0x7fu) == 0x7fu;
  return nan ? float_of(0x7fc00000u) : float_of(bits_of(size) | (byte & 0x80u) << 24);
}

/* To nearest, ties to even; what is too large becomes the largest value; a NaN stays one. */
GPU_FN uint8_t float_to_fp8(float x, bool fnuz) {
  const uint32_t bits = bits_of(x), sign = (bits >> 24) & 0x80u, magnitude = bits & 0x7fffffffu;
  const uint32_t bias = fnuz ? 8u : 7u;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(fnuz ? 0x80u : 0x7fu | sign);
  uint32_t code;
  if (float_of(magnitude) >= (fnuz ? 240.0f : 448.0f)) {
    code = fnuz ? 0x7fu : 0x7eu;
  } else if (magnitude < (128u - bias) << 23) {
    /* subnormal: adding 2^23 of its steps rounds to a whole one; the code after the last is the first normal */
    const float steps = float_of((127u - bias - 2u + 23u) << 23);
    code = bits_of(float_of(magnitude) + steps) - bits_of(steps);
  } else {
    code = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - ((127u - bias) << 3);
  }
  return static_cast<uint8_t>(code == 0 && fnuz ? 0u : sign | code);
}

/* Element `i` of an array of `dtype`. */
GPU_FN float load(const void* data, int dtype, int64_t i) {
  const void* at = static_cast<const char*>(data) + i * size_of(dtype); /* once, not once a type: fewer registers */
  switch (dtype) {
    case GRETA_F32:
      return *static_cast<const float*>(at);
    case GRETA_BF16:
      return to_float(*static_cast<const Bf16*>(at));
    case GRETA_F16:
      return to_float(*static_cast<const F16*>(at));
    default:
      return fp8_to_float(*static_cast<const uint8_t*>(at), dtype == GRETA_FP8_E4M3FNUZ);
  }
}

GPU_FN void store(void* data, int dtype, int64_t i, float x) {
  switch (dtype) {
    case GRETA_F32:
      static_cast<float*>(data)[i] = x;
      break;
    case GRETA_BF16:
      static_cast<Bf16*>(data)[i] = from_float<Bf16>(x);
      break;
    case GRETA_F16:
      static_cast<F16*>(data)[i] = from_float<F16>(x);
      break;
    default:
      static_cast<uint8_t*>(data)[i] = float_to_fp8(x, dtype == GRETA_FP8_E4M3FNUZ);
  }
}

/* x rounded to a 16-bit type and back. */
GPU_FN float rounded_to(int dtype, float x) {
  return dtype == GRETA_BF16 ? to_float(from_float<Bf16>(x)) : dtype == GRETA_F16 ? to_float(from_float<F16>(x)) : x;
}

/* `count` neighbouring elements from an address that is a multiple of their size together: 4, 8 or 16 bytes at a time.
 */
template <int count>
GPU_FN void load_run(const void* address, int dtype, float* x) {
  static_assert(count % 4 == 0, "runs are of whole words in every type");
  const int words = count * size_of(dtype) / 4;
  uint32_t raw[count];
  if (words % 4 == 0) {
    struct alignas(16) Four {
      uint32_t word[4];
    };
    GPU_UNROLL for (int i = 0; i < count / 4; ++i) {
      if (i * 4 < words) *reinterpret_cast<Four*>(raw + 4 * i) = static_cast<const Four*>(address)[i];
    }
  } else if (words % 2 == 0) {
    struct alignas(8) Two {
      uint32_t word[2];
    };
    const Two two = *static_cast<const Two*>(address);
    raw[0] = two.word[0];
    raw[1] = two.word[1];
  } else {
    raw[0] = *static_cast<const uint32_t*>(address);
  }
  if (dtype == GRETA_F32) {
    GPU_UNROLL for (int i = 0; i < count; ++i) x[i] = float_of(raw[i]);
  } else if (dtype == GRETA_BF16) {
    GPU_UNROLL for (int i = 0; i < count; ++i) x[i] =
        float_of(i % 2 == 0 ? raw[i / 2] << 16 : raw[i / 2] & 0xffff0000u);
  } else if (dtype == GRETA_F16) {
    GPU_UNROLL for (int i = 0; i < count; ++i) x[i] = to_float(F16{static_cast<uint16_t>(raw[i / 2] >> (i % 2 * 16))});
  } else {
    const bool fnuz = dtype == GRETA_FP8_E4M3FNUZ;
    GPU_UNROLL for (int i = 0; i < count; ++i) x[i] = fp8_to_float((raw[i / 4] >> (i % 4 * 8)) & 0xffu, fnuz);
  }
}

}  // namespace greta
