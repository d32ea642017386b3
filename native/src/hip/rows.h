/* Where things are: a token's sequence, the keys that a query sees, the address of a cache row. Everything is read from
 * device memory, so that a captured graph may replay with other lengths, and nothing read is trusted: what cannot be
 * right is flagged, and stands for "nothing there". */
#pragma once

#include "maths.h"
#include "params.h"

namespace greta {

GPU_FN void complain(Flag* flag, int32_t complaint, int32_t where, int32_t value) {
  if (!gpu::swap_if_zero(&flag->complaint, complaint)) return;
  flag->where = where;
  flag->value = value;
}

/* The queries and keys of sequence i of a batch. */
struct Sequence {
  int32_t first_token, q_len, kv_len, kv_start;
  const int32_t* pages; /* NULL: nothing can be read */

  /* Query i sees first_key .. last_key. */
  GPU_FN int32_t last_key(int32_t query) const { return kv_len - q_len + query; }
  GPU_FN int32_t first_key(int32_t query, int32_t window) const {
    const int32_t begin = window == 0 ? 0 : last_key(query) - window + 1;
    return begin > kv_start ? begin : kv_start;
  }
};

/* All threads of a block come here with the same i. */
GPU_FN Sequence sequence_of(const BatchParams& batch, const CacheParams& cache, int32_t i) {
  Sequence seq{batch.cu_q[i], 0, batch.kv_len[i], batch.kv_start == nullptr ? 0 : batch.kv_start[i], nullptr};
  const int32_t end = batch.cu_q[i + 1], id = batch.seq_ids[i];
  int32_t complaint = complaint_none, value = 0;
  if (seq.first_token < 0 || end < seq.first_token || end > batch.n_tokens || end - seq.first_token > batch.max_q_len) {
    complaint = complaint_cu_q;
    value = end;
  } else if (seq.kv_len < 0 || seq.kv_len > cache.max_len) {
    complaint = complaint_kv_len;
    value = seq.kv_len;
  } else if (seq.kv_start < 0 || seq.kv_start > seq.kv_len) {
    complaint = complaint_kv_start;
    value = seq.kv_start;
  } else if (id < 0 || id >= cache.max_seqs) {
    complaint = complaint_seq_id;
    value = id;
  }
  if (complaint != complaint_none) {
    complain(cache.flag, complaint, i, value);
    return Sequence{0, 0, 0, 0, nullptr};
  }
  seq.q_len = end - seq.first_token;
  seq.pages = batch.pages + static_cast<int64_t>(batch.pages_by_id != 0 ? id : i) * cache.blocks;
  return seq;
}

/* Number of a cache row of one kv head in [page][kv head][slot], or -1 where the page table holds no page of the cache.
 */
GPU_FN int64_t row_index(const CacheParams& cache, const int32_t* pages, int32_t head, int32_t row) {
  const int32_t page = pages[row / cache.page_size];
  if (page < 0 || page >= cache.n_pages) {
    complain(cache.flag, complaint_page, row, page);
    return -1;
  }
  return (static_cast<int64_t>(page) * cache.n_kv_heads + head) * cache.page_size + row % cache.page_size;
}

GPU_FN const char* k_row(const CacheParams& cache, int64_t index) {
  return cache.k + index * cache.dqk * size_of(cache.dtype);
}
GPU_FN const char* v_row(const CacheParams& cache, int64_t index) {
  return cache.v + index * cache.dv * size_of(cache.dtype);
}

GPU_FN int64_t element(const Tensor& tensor, int32_t token, int32_t head) {
  return token * tensor.token_stride + head * tensor.head_stride;
}

/* A finished product becomes a score: scaled, capped, biased by the distance of key and query. */
struct Scores {
  float scale, cap, slope;

  GPU_FN float operator()(float product, int32_t key, int32_t last_key) const {
    float s = product * scale;
    if (cap != 0.0f) s = cap * tanh_of(s / cap);
    return s + slope * static_cast<float>(key - last_key);
  }
};

GPU_FN Scores scores_of(const AttendParams& p, int32_t head) {
  return {p.scale * p.k_scale[head / p.group], p.softcap, p.alibi == nullptr ? 0.0f : p.alibi[head]};
}

/* The last step of a row: the sink joins (one more key with value 0), and the sum of weights divides. */
struct Finish {
  float m, l;         /* the sink's share included */
  float sink_rescale; /* of what was summed before it joined */
  bool empty;

  GPU_FN float out(float sum, float v_scale) const {
    return empty ? 0.0f : sum * sink_rescale / l * v_scale + 0.0f; /* no -0: its sign would hang on masked keys */
  }
  GPU_FN float lse() const { return empty ? -infinity : m + gpu::log(l); }
};

GPU_FN Finish finish(float m, float l, float sink) {
  const float top = larger(m, sink);
  const float rescale = m == -infinity ? 1.0f : exp_of(m - top);
  /* scores that are all NaN have no max, but they were seen: l tells */
  Finish end{top, l * rescale, rescale, top == -infinity && l == 0.0f};
  if (sink != -infinity) end.l += exp_of(sink - top);
  return end;
}

/* Tiles first .. end - 1 from key 0; a split has per_split of them, the last ones fewer or none. Splits are equal parts
 * of the tiles that any query of the call sees, in whole tiles, whatever the batch. */
struct Tiles {
  int32_t first, end, per_split;
};

GPU_FN Tiles tiles_of(const Sequence& seq, int32_t window, int32_t splits) {
  const int32_t begin = seq.first_key(0, window);
  if (seq.kv_len <= begin) return {0, 0, 0};
  const int32_t first = begin / tile_keys, end = (seq.kv_len - 1) / tile_keys + 1;
  return {first, end, (end - first - 1) / splits + 1};
}

}  // namespace greta
