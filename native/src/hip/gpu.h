/* What the kernels ask of a GPU language, spelled once for each that compiles them: HIP (without its headers and device
 * libraries, so that a plain clang is enough), CUDA, and the emulation on the CPU. */
#pragma once

#include <stdint.h>

#if defined(GRETA_EMULATED)

#include "emulate/emulate.h"

#elif defined(__CUDACC__)

#define GPU_FN __device__ __forceinline__
#define GPU_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define GPU_UNROLL _Pragma("unroll")
#define GPU_ROLLED _Pragma("unroll 1")
#define GPU_KERNEL(name, Params, waves, occupancy) \
  extern "C" __global__ void __launch_bounds__((waves) * 32) name(const Params p)

namespace greta {
namespace gpu {

constexpr int wave = 32;

GPU_FN int thread() {
  return static_cast<int>(threadIdx.x);
}
GPU_FN int block_x() {
  return static_cast<int>(blockIdx.x);
}
GPU_FN int block_y() {
  return static_cast<int>(blockIdx.y);
}
GPU_FN int block_z() {
  return static_cast<int>(blockIdx.z);
}
GPU_FN void sync() {
  __syncthreads();
}
/* The value that the lane at `lane` holds. */
GPU_FN float shuffle(float x, int lane) {
  return __shfl_sync(0xffffffffu, x, lane);
}
GPU_FN float shuffle_xor(float x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}
GPU_FN float exp2(float x) {
  return exp2f(x);
}
GPU_FN float log(float x) {
  return logf(x);
}
GPU_FN bool swap_if_zero(int32_t* p, int32_t value) {
  return atomicCAS(p, 0, value) == 0;
}
GPU_FN void raise_to(int32_t* p, int32_t value) {
  atomicMax(p, value);
}

}  // namespace gpu
}  // namespace greta

#else

#define GPU_FN __attribute__((device)) inline __attribute__((always_inline))
#define GPU_SHARED(type, name, count) __attribute__((shared, aligned(16))) type name[count]
#define GPU_UNROLL _Pragma("unroll")
#define GPU_ROLLED _Pragma("unroll 1")
/* `occupancy`: waves a SIMD that the compiler must leave registers for. */
#define GPU_KERNEL(name, Params, waves, occupancy)                                                            \
  extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size((waves) * 64, (waves) * 64))) \
  __attribute__((amdgpu_waves_per_eu(occupancy))) void                                                        \
  name(const Params p)

namespace greta {
namespace gpu {

constexpr int wave = 64;

GPU_FN int thread() {
  return static_cast<int>(__builtin_amdgcn_workitem_id_x());
}
GPU_FN int block_x() {
  return static_cast<int>(__builtin_amdgcn_workgroup_id_x());
}
GPU_FN int block_y() {
  return static_cast<int>(__builtin_amdgcn_workgroup_id_y());
}
GPU_FN int block_z() {
  return static_cast<int>(__builtin_amdgcn_workgroup_id_z());
}
GPU_FN void sync() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
/* The value that the lane at `lane` holds. */
GPU_FN float shuffle(float x, int lane) {
  return __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute(lane * 4, __builtin_bit_cast(int, x)));
}
GPU_FN float shuffle_xor(float x, int mask) {
  return shuffle(x, (thread() & (wave - 1)) ^ mask);
}
GPU_FN float exp2(float x) {
  return __builtin_exp2f(x);
}
GPU_FN float log(float x) {
  return __builtin_logf(x);
}
GPU_FN bool swap_if_zero(int32_t* p, int32_t value) {
  int32_t expected = 0;
  return __hip_atomic_compare_exchange_strong(p, &expected, value, __ATOMIC_RELAXED, __ATOMIC_RELAXED,
                                              __HIP_MEMORY_SCOPE_AGENT);
}
GPU_FN void raise_to(int32_t* p, int32_t value) {
  __hip_atomic_fetch_max(p, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

}  // namespace gpu
}  // namespace greta

#endif

namespace greta {
namespace gpu {

GPU_FN int lane() {
  return thread() & (wave - 1);
}
GPU_FN int wave_index() {
  return thread() / wave;
}
/* The thread, found anew: what follows from it is not kept in registers from one turn of a loop to the next. */
GPU_FN int thread_anew() {
  int x = thread();
#if defined(__AMDGCN__)
  asm volatile("" : "+v"(x));
#else
  asm volatile("" : "+r"(x));
#endif
  return x;
}
/* What was read of shared memory is not kept in registers beyond this point. */
GPU_FN void reread() {
  asm volatile("" ::: "memory");
}

}  // namespace gpu
}  // namespace greta
