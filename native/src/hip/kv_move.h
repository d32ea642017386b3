/* greta_kv_read, greta_kv_load and greta_kv_trim: rows in logical order, as raw bytes. */
#pragma once

#include "rows.h"

namespace greta {

GPU_FN void move_bytes(char* to, const char* from, int32_t bytes) {
  for (int32_t i = gpu::thread(); i < bytes; i += move_waves * gpu::wave) to[i] = from[i];
}

/* A block moves one row of all heads. */
GPU_FN void kv_move(const MoveParams& p) {
  const int32_t i = gpu::block_x(), row = p.start + i;
  const int32_t k_bytes = p.cache.dqk * size_of(p.cache.dtype), v_bytes = p.cache.dv * size_of(p.cache.dtype);
  for (int32_t head = 0; head < p.cache.n_kv_heads; ++head) {
    const int64_t index = row_index(p.cache, p.pages, head, row);
    if (index < 0) return;
    const int64_t dense = static_cast<int64_t>(i) * p.cache.n_kv_heads + head;
    char *k = p.cache.k + index * k_bytes, *v = p.cache.v + index * v_bytes;
    char *dense_k = static_cast<char*>(p.k) + dense * k_bytes, *dense_v = static_cast<char*>(p.v) + dense * v_bytes;
    move_bytes(p.to_cache != 0 ? k : dense_k, p.to_cache != 0 ? dense_k : k, k_bytes);
    move_bytes(p.to_cache != 0 ? v : dense_v, p.to_cache != 0 ? dense_v : v, v_bytes);
  }
  if (p.to_cache != 0 && gpu::thread() == 0) gpu::raise_to(p.rows, row + 1);
}

/* One block. Forgotten rows are zeroed, so that no later read can take them for live ones; rows that the sequence never
 * wrote may be another's, and are left alone. */
GPU_FN void kv_trim(const TrimParams& p) {
  const int32_t end = *p.rows;
  const int32_t k_bytes = p.cache.dqk * size_of(p.cache.dtype), v_bytes = p.cache.dv * size_of(p.cache.dtype);
  gpu::sync(); /* all have read the end */
  for (int32_t row = p.length; row < end; ++row) {
    const int32_t page = p.pages[row / p.cache.page_size];
    if (page < 0 || page >= p.cache.n_pages) continue; /* a later table no longer has the block: nothing to forget */
    for (int32_t head = 0; head < p.cache.n_kv_heads; ++head) {
      const int64_t index = row_index(p.cache, p.pages, head, row);
      for (int32_t layer = 0; layer < p.n_layers; ++layer) {
        char *k = p.cache.k + layer * p.k_layer + index * k_bytes, *v = p.cache.v + layer * p.v_layer + index * v_bytes;
        for (int32_t i = gpu::thread(); i < k_bytes; i += move_waves * gpu::wave) k[i] = 0;
        for (int32_t i = gpu::thread(); i < v_bytes; i += move_waves * gpu::wave) v[i] = 0;
      }
    }
  }
  if (gpu::thread() == 0 && end > p.length) *p.rows = p.length;
}

}  // namespace greta
