/* KV write. A block stores one token's rows of one head in the page that its slot lies in; each sequence's page table
 * row is kept for greta_kv_read. */
#pragma once

#include "rows.h"

namespace greta {

/* The sequence of a token: the last one that begins at or before it and is not empty. */
GPU_FN int32_t sequence_index(const BatchParams& batch, int32_t token) {
  int32_t i = 0;
  while (i + 1 < batch.n_seqs && batch.cu_q[i + 1] <= token) ++i;
  return i;
}

/* act -> kv: equal types at scale 1 keep their bits; otherwise through float, divided by the scale, with one rounding.
 */
GPU_FN void write_row(const WriteParams& p, const Tensor& source, int64_t from, char* cache, int64_t row, int32_t dim,
                      float scale) {
  for (int32_t i = gpu::thread(); i < dim; i += write_waves * gpu::wave) {
    const int64_t to = row * dim + i;
    if (p.dtype == p.cache.dtype && scale == 1.0f) {
      if (p.dtype == GRETA_F32) {
        reinterpret_cast<uint32_t*>(cache)[to] = static_cast<const uint32_t*>(source.data)[from + i];
      } else {
        reinterpret_cast<uint16_t*>(cache)[to] = static_cast<const uint16_t*>(source.data)[from + i];
      }
    } else {
      const float x = load(source.data, p.dtype, from + i);
      store(cache, p.cache.dtype, to, scale == 1.0f ? x : x / scale);
    }
  }
}

GPU_FN void kv_write(const WriteParams& p) {
  const int32_t token = gpu::block_x(), head = gpu::block_y(), i = sequence_index(p.batch, token);
  const Sequence seq = sequence_of(p.batch, p.cache, i);
  if (seq.pages == nullptr) return;
  const int32_t slot = p.batch.slots[token], id = p.batch.seq_ids[i];
  if (slot < 0 || slot >= p.cache.max_len) {
    complain(p.cache.flag, complaint_slot, token, slot);
    return;
  }
  const int64_t row = row_index(p.cache, seq.pages, head, slot);
  if (row < 0) return;
  write_row(p, p.k, element(p.k, token, head), p.cache.k, row, p.cache.dqk, p.k_scale[head]);
  write_row(p, p.v, element(p.v, token, head), p.cache.v, row, p.cache.dv, p.v_scale[head]);
  if (head != 0) return;
  if (gpu::thread() == 0) gpu::raise_to(p.rows + id, slot + 1);
  if (p.batch.pages_by_id != 0 || token != seq.first_token) return;
  for (int32_t b = gpu::thread(); b < p.cache.blocks; b += write_waves * gpu::wave) {
    p.tables[static_cast<int64_t>(id) * p.cache.blocks + b] = seq.pages[b];
  }
}

}  // namespace greta
