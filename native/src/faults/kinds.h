/* The kinds of faults that a faulty twin may know. What each does, and what its magnitude means, stands at its place in
 * spoil.cpp, for the CPU's kernels, and in hip/fault_spoil.cpp.
 * split_merge: the split-KV combine adds the partial results without rescaling each by exp(m_split - m). */
#pragma once

#include <stdint.h>

// clang-format off
#define GRETA_FAULT_KINDS(X) \
  X(kv_stale) X(kv_scale_lse) X(kv_scale_attn_out) X(layer_base) X(page_addr) X(tile_walk) X(causal_align) X(window) \
  X(score_mod) X(split_merge) X(tile_quant) X(tail_nan) X(gain_lse) X(gain_kv_read) X(gain_attn_out) X(race)
// clang-format on

namespace greta {

enum class Fault : int32_t {
#define GRETA_FAULT_NAME(name) name,
  GRETA_FAULT_KINDS(GRETA_FAULT_NAME)
#undef GRETA_FAULT_NAME
};

}  // namespace greta
