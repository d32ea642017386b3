/* Every kernel by name, as the host launches it, but for `combine`, the one that the faulty twin has otherwise.
 * Compiled as HIP, as CUDA, or as C++ for the emulation. */
#pragma once

#include "decode_split.h"
#include "kv_move.h"
#include "kv_write.h"
#include "prefill_flash.h"
#include "rope.h"

namespace greta {

GPU_KERNEL(greta_rope_kernel, RopeParams, rope_waves, 1) {
  rope(p);
}
GPU_KERNEL(greta_kv_write_kernel, WriteParams, write_waves, 1) {
  kv_write(p);
}
GPU_KERNEL(greta_kv_move_kernel, MoveParams, move_waves, 1) {
  kv_move(p);
}
GPU_KERNEL(greta_kv_trim_kernel, TrimParams, move_waves, 1) {
  kv_trim(p);
}
GPU_KERNEL(greta_prefill_naive, AttendParams, naive_waves, 1) {
  prefill_naive(p);
}
GPU_KERNEL(greta_decode_naive, AttendParams, naive_waves, 1) {
  decode_naive(p);
}

#define GRETA_PREFILL_KERNEL(name, T, D, occupancy)                              \
  GPU_KERNEL(greta_prefill_##name##_##D, AttendParams, flash_waves, occupancy) { \
    prefill_flash<T, D>(p);                                                      \
  }
#define GRETA_PREFILL_KERNELS(name, T)  \
  GRETA_PREFILL_KERNEL(name, T, 64, 2)  \
  GRETA_PREFILL_KERNEL(name, T, 80, 2)  \
  GRETA_PREFILL_KERNEL(name, T, 96, 2)  \
  GRETA_PREFILL_KERNEL(name, T, 128, 2) \
  GRETA_PREFILL_KERNEL(name, T, 192, 1) \
  GRETA_PREFILL_KERNEL(name, T, 256, 1)
GRETA_PREFILL_KERNELS(bf16, Bf16)
GRETA_PREFILL_KERNELS(f16, F16)
GRETA_PREFILL_KERNELS(f32, float)

/* On a device a decode kernel knows its cache's type. In the emulation, where that would cost only time to compile, it
 * looks the type up, and is held to what it would know. */
#if defined(GRETA_EMULATED)
#define GRETA_FIXED(dtype) any_dtype
#define GRETA_HELD_TO(known) \
  if (p.cache.dtype != known) gpu::stop("is of another type of the cache")
#else
#define GRETA_FIXED(dtype) dtype
#define GRETA_HELD_TO(known)
#endif
#define GRETA_DECODE_KERNEL(name, dtype, width, rows)                                      \
  GPU_KERNEL(greta_decode_##name##_##width##_rows_##rows, AttendParams, decode_waves, 4) { \
    GRETA_HELD_TO(dtype);                                                                  \
    decode_split<width, rows, GRETA_FIXED(dtype)>(p);                                      \
  }
#define GRETA_DECODE_WIDTHS(name, dtype, rows) \
  GRETA_DECODE_KERNEL(name, dtype, 64, rows)   \
  GRETA_DECODE_KERNEL(name, dtype, 128, rows)  \
  GRETA_DECODE_KERNEL(name, dtype, 256, rows)
#define GRETA_DECODE_KERNELS(name, dtype) \
  GRETA_DECODE_WIDTHS(name, dtype, 1)     \
  GRETA_DECODE_WIDTHS(name, dtype, 4)     \
  GRETA_DECODE_WIDTHS(name, dtype, 8)
GRETA_DECODE_KERNELS(f32, GRETA_F32)
GRETA_DECODE_KERNELS(bf16, GRETA_BF16)
GRETA_DECODE_KERNELS(f16, GRETA_F16)
GRETA_DECODE_KERNELS(fp8_e4m3fn, GRETA_FP8_E4M3FN)
GRETA_DECODE_KERNELS(fp8_e4m3fnuz, GRETA_FP8_E4M3FNUZ)

}  // namespace greta
