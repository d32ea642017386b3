/* A GPU on the CPU, for tests: the kernels' own source, one fiber a GPU thread, one block at a time. A wave's
 * collective operations wait for all its lanes, a barrier for all threads of the block; between two such points the
 * threads run one after the other, in an order that GRETA_EMULATED_SEED permutes, so that a missing barrier shows as a
 * wrong result. A collective that not all lanes reach, which a GPU would answer with garbage, is an error that names
 * the kernel. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fence.h"

#ifndef GRETA_WAVE
#define GRETA_WAVE 64
#endif

#define GPU_FN inline
#define GPU_UNROLL
#define GPU_ROLLED
#define GPU_SHARED(type, name, count)                       \
  static ::greta::gpu::Shared<type, (count)> shared_##name; \
  type* const name = shared_##name.data
#define GPU_KERNEL(name, Params, waves, occupancy)                                                         \
  static void name(const Params& p);                                                                       \
  static const ::greta::gpu::Kernel kernel_##name(                                                         \
      #name, (waves) * GRETA_WAVE, [](const void* params) { name(*static_cast<const Params*>(params)); }); \
  static void name(const Params& p)

namespace greta {
namespace gpu {

constexpr int wave = GRETA_WAVE;

/* A kernel by its name; its definition registers it. */
struct Kernel {
  using Body = void (*)(const void* params);
  const char* name;
  int threads;
  Body body;
  const Kernel* next;

  Kernel(const char* kernel, int block, Body entry);
};
const Kernel* find_kernel(const char* name);
/* Runs all blocks, one after the other. Returns NULL, or what went wrong, which stays until the next launch. */
const char* launch(const Kernel& kernel, int blocks_x, int blocks_y, int blocks_z, const void* params);

/* Shared memory is NaN when a block begins: what nobody wrote shows. */
void poisoned_at_start(void* data, size_t bytes);
template <class T, size_t N>
struct Shared {
  T* data = static_cast<T*>(fenced(N * sizeof(T)));
  Shared() { poisoned_at_start(data, N * sizeof(T)); }
};

/* For races.cpp: whether an address is in shared memory; the running thread, how many barriers there were, and how many
 * operations of its wave; and an end to the kernel, with an error that names the thread. */
bool is_shared(const void* address);
struct Standing {
  int thread;
  unsigned barriers, operations;
};
Standing standing();
void stop(const char* text);

struct Position {
  int thread, block_x, block_y, block_z;
};
extern Position here; /* of the running fiber */

inline int thread() {
  return here.thread;
}
inline int block_x() {
  return here.block_x;
}
inline int block_y() {
  return here.block_y;
}
inline int block_z() {
  return here.block_z;
}

void sync();

/* A wave-wide operation: every lane brings some data; the last one to arrive runs `act` on all lanes' data, in place.
 * `what` tells operations apart: lanes that meet in different ones are an error. */
using Act = void (*)(unsigned char* const* lanes);
void collective(const char* what, void* data, Act act);

float shuffle(float x, int lane);
float shuffle_xor(float x, int mask);

inline float exp2(float x) {
  return __builtin_exp2f(x);
}
inline float log(float x) {
  return __builtin_logf(x);
}
inline bool swap_if_zero(int32_t* p, int32_t value) {
  if (*p != 0) return false;
  *p = value;
  return true;
}
inline void raise_to(int32_t* p, int32_t value) {
  if (*p < value) *p = value;
}

}  // namespace gpu
}  // namespace greta
