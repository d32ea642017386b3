/* The readable kernels: a wave a row. One thread a key for the scores of a tile, one thread a dimension for P.V. They
 * are what the fast ones are compared with, and they take any head size. */
#pragma once

#include "fault_points.h"
#include "rows.h"

namespace greta {

constexpr int max_dim = 256;
constexpr int dims_per_thread = max_dim / gpu::wave;

/* A row's unfinished softmax: every thread has all of m and l, and the dimensions thread, thread + wave, ... of the
 * sum. */
struct Partial {
  float m, l;
  float sum[dims_per_thread];
};

GPU_FN float max_of_wave(float x) {
  for (int mask = gpu::wave / 2; mask > 0; mask /= 2) x = larger(x, gpu::shuffle_xor(x, mask));
  return x;
}
GPU_FN float sum_of_wave(float x) {
  for (int mask = gpu::wave / 2; mask > 0; mask /= 2) x += gpu::shuffle_xor(x, mask);
  return x;
}

/* Adds tiles begin .. end - 1 of one query row. */
GPU_FN Partial walk_naively(const AttendParams& p, const Sequence& seq, int32_t token, int32_t head, int32_t begin,
                            int32_t end) {
  GPU_SHARED(float, weights, tile_keys);
  const int32_t query = token - seq.first_token, kv_head = head / p.group;
  const int32_t lo = seq.first_key(query, p.window), hi = seq.last_key(query) + 1;
  const Scores score = scores_of(p, head);
  Partial row{-infinity, 0.0f, {}};
  for (int32_t tile = begin; tile < end; ++tile) {
    const int32_t first = tile * tile_keys;
    if (hi <= first || first + tile_keys <= lo) continue;
    float highest = -infinity;
    for (int32_t j = gpu::thread(); j < tile_keys; j += gpu::wave) {
      const int32_t key = first + j;
      float s = -infinity;
      if (key >= lo && key < hi) {
        const int64_t index = row_index(p.cache, seq.pages, kv_head, key);
        float product = 0.0f;
        for (int32_t i = 0; i < p.cache.dqk && index >= 0; ++i) {
          product +=
              load(p.q.data, p.dtype, element(p.q, token, head) + i) * load(k_row(p.cache, index), p.cache.dtype, i);
        }
        s = score(product, key, hi - 1);
      }
      weights[j] = s;
      highest = larger(highest, s);
    }
    const float m = larger(row.m, max_of_wave(highest)), shift = m == -infinity ? 0.0f : m;
    const float rescale = exp_of(row.m - shift);
    float own = 0.0f;
    for (int32_t j = gpu::thread(); j < tile_keys; j += gpu::wave) {
      const float weight = exp_of(weights[j] - shift);
      own += weight;
      weights[j] = p.round_p != 0 ? rounded_to(p.dtype, weight) : weight;
    }
    row.l = row.l * rescale + sum_of_wave(own);
    row.m = m;
    gpu::sync(); /* the weights are complete */
    for (int32_t d = 0; d < dims_per_thread; ++d) {
      const int32_t i = d * gpu::wave + gpu::thread();
      row.sum[d] *= rescale;
      for (int32_t j = 0; j < tile_keys && i < p.cache.dv; ++j) {
        const int32_t key = first + j;
        if (key < lo || key >= hi) continue;
        const int64_t index = row_index(p.cache, seq.pages, kv_head, key);
        if (index >= 0) row.sum[d] += weights[j] * load(v_row(p.cache, index), p.cache.dtype, i);
      }
    }
    gpu::sync(); /* the weights are used */
  }
  return row;
}

/* A block a head of a token. */
GPU_FN void prefill_naive(const AttendParams& p) {
  const int32_t query = gpu::block_x(), head = gpu::block_y();
  const Sequence seq = sequence_of(p.batch, p.cache, gpu::block_z());
  if (query >= seq.q_len) return;
  const int32_t token = seq.first_token + query;
  const Tiles tiles = tiles_of(seq, p.window, 1);
  const Partial row = walk_naively(p, seq, token, head, tiles.first, tiles.end);
  const Finish end = finish(row.m, row.l, p.sinks == nullptr ? -infinity : p.sinks[head]);
  for (int32_t d = 0; d < dims_per_thread; ++d) {
    const int32_t i = d * gpu::wave + gpu::thread();
    if (i < p.cache.dv) {
      store(p.out.data, p.dtype, element(p.out, token, head) + i, end.out(row.sum[d], p.v_scale[head / p.group]));
    }
  }
  if (gpu::thread() == 0 && p.lse.data != nullptr) {
    store(p.lse.data, GRETA_F32, element(p.lse, token, head), end.lse());
  }
}

GPU_FN float* partial_of(const AttendParams& p, int32_t split, int32_t token, int32_t head) {
  const int64_t row = (static_cast<int64_t>(split) * p.batch.n_tokens + token) * p.n_heads + head;
  return p.partials + row * (2 + p.cache.dv);
}

/* A block a split of a head of a token; `combine` joins them. */
GPU_FN void decode_naive(const AttendParams& p) {
  const int32_t split = gpu::block_x() % p.splits, query = gpu::block_x() / p.splits, head = gpu::block_y();
  const Sequence seq = sequence_of(p.batch, p.cache, gpu::block_z());
  if (query >= seq.q_len) return;
  const int32_t token = seq.first_token + query;
  const Tiles tiles = tiles_of(seq, p.window, p.splits);
  const int32_t begin = tiles.first + split * tiles.per_split, stop = begin + tiles.per_split;
  const Partial row = walk_naively(p, seq, token, head, begin, stop < tiles.end ? stop : tiles.end);
  float* partial = partial_of(p, split, token, head);
  if (gpu::thread() == 0) {
    partial[0] = row.m;
    partial[1] = row.l;
  }
  for (int32_t d = 0; d < dims_per_thread; ++d) {
    const int32_t i = d * gpu::wave + gpu::thread();
    if (i < p.cache.dv) partial[2 + i] = row.sum[d];
  }
}

/* Joins a row's splits, each rescaled to the highest max. A block a head of a token. */
GPU_FN void combine(const AttendParams& p) {
  const int32_t query = gpu::block_x(), head = gpu::block_y();
  const Sequence seq = sequence_of(p.batch, p.cache, gpu::block_z());
  if (query >= seq.q_len) return;
  const int32_t token = seq.first_token + query;
  float m = -infinity;
  for (int32_t split = 0; split < p.splits; ++split) m = larger(m, partial_of(p, split, token, head)[0]);
  const bool unscaled = planted(p.fault, Fault::split_merge, head, seq.last_key(query));
  const bool backwards = planted(p.fault, Fault::race, head, seq.last_key(query));
  float l = 0.0f, sum[dims_per_thread] = {};
  for (int32_t turn = 0; turn < p.splits; ++turn) {
    const int32_t split = backwards ? p.splits - 1 - turn : turn;
    const float* partial = partial_of(p, split, token, head);
    if (partial[0] == -infinity && partial[1] == 0.0f) continue; /* no key of this split is seen */
    const float weight = unscaled ? 1.0f : exp_of(partial[0] - (m == -infinity ? 0.0f : m));
    l += weight * partial[1];
    for (int32_t d = 0; d < dims_per_thread; ++d) {
      const int32_t i = d * gpu::wave + gpu::thread();
      if (i < p.cache.dv) sum[d] += weight * partial[2 + i];
    }
  }
  const Finish end = finish(m, l, p.sinks == nullptr ? -infinity : p.sinks[head]);
  for (int32_t d = 0; d < dims_per_thread; ++d) {
    const int32_t i = d * gpu::wave + gpu::thread();
    if (i < p.cache.dv) {
      store(p.out.data, p.dtype, element(p.out, token, head) + i, end.out(sum[d], p.v_scale[head / p.group]));
    }
  }
  if (gpu::thread() == 0 && p.lse.data != nullptr) {
    store(p.lse.data, GRETA_F32, element(p.lse, token, head), end.lse());
  }
}

}  // namespace greta
