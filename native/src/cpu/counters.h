/* Which kernels really ran. A kernel counts itself, as its last act. */
#pragma once

#include "greta_attn.h"

namespace greta {

struct Counters {
  static constexpr int32_t capacity = 16;
  greta_counter entries[capacity] = {};
  int32_t size = 0;

  void count(const char* kernel, int32_t phase) noexcept;
};

}  // namespace greta
