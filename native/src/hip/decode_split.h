/* Decode: split-KV. A block takes one split of one kv head of one sequence and up to eight query rows (a row being one
 * query of one head of the group), so that K and V are read once for the group. `lanes` threads share a key, eight dims
 * each, which are 16 bytes of a 16-bit type. Splits that see nothing return at once; `combine` joins the others. */
#pragma once

#include "attend_naive.h"

namespace greta {

constexpr int run_dims = 8; /* dims of a thread */
constexpr int any_dtype =
    -1; /* the cache's type is looked up: in the emulation, where a kernel a type costs only time */

/* Width: head dims rounded up to 64, 128 or 256. All `rows` are computed; those that do not exist see no key, and are
 * not written. */
template <int width, int rows>
struct DecodeShape {
  static constexpr int threads = decode_waves * gpu::wave;
  static constexpr int lanes = width / run_dims;
  static constexpr int slots = threads / lanes; /* keys at once */
  static constexpr int rounds = tile_keys / slots;
  static constexpr int together = rounds <= 2 ? 1 : 2; /* rounds whose rows are on their way at once */
  static_assert(lanes <= gpu::wave && tile_keys % slots == 0, "a key's lanes are of one wave");
};

/* Products of a tile: each thread's eight dims of its keys with all rows, then the sum over a key's lanes. */
template <int width, int rows, int fixed_dtype>
GPU_FN void decode_products(const AttendParams& p, const Sequence& seq, int32_t kv_head, int32_t first, int32_t lo,
                            int32_t hi, const float* q, float* s) {
  using Shape = DecodeShape<width, rows>;
  const int32_t thread = gpu::thread_anew(), slot = thread / Shape::lanes, dim = thread % Shape::lanes * run_dims;
  const int dtype = fixed_dtype == any_dtype ? p.cache.dtype : fixed_dtype;
  GPU_ROLLED for (int round = 0; round < Shape::rounds; round += Shape::together) {
    gpu::reread(); /* the queries, a row at a time: all of them would not fit the registers */
    float k[Shape::together][run_dims] = {};
    GPU_UNROLL for (int t = 0; t < Shape::together; ++t) {
      const int32_t key = first + (round + t) * Shape::slots + slot;
      if (key < lo || key >= hi || dim >= p.cache.dqk) continue;
      const int64_t index = row_index(p.cache, seq.pages, kv_head, key);
      if (index >= 0) load_run<run_dims>(k_row(p.cache, index) + int64_t{dim} * size_of(dtype), dtype, k[t]);
    }
    GPU_UNROLL for (int r = 0; r < rows; ++r) {
      GPU_UNROLL for (int t = 0; t < Shape::together; ++t) {
        float product = 0.0f;
        GPU_UNROLL for (int i = 0; i < run_dims; ++i) product += q[r * width + dim + i] * k[t][i];
        GPU_UNROLL for (int mask = Shape::lanes / 2; mask > 0; mask /= 2) product += gpu::shuffle_xor(product, mask);
        if (dim == 0) s[r * tile_keys + (round + t) * Shape::slots + slot] = product;
      }
    }
  }
}

/* Online softmax of the block's rows, a wave a row: products become scores and then weights; m, l and this tile's
 * rescale are kept. */
template <int rows>
GPU_FN void decode_softmax(const AttendParams& p, const Sequence& seq, int32_t kv_head, int32_t first_row,
                           int32_t n_rows, int32_t first, float* s, float* m, float* l, float* rescale) {
  for (int r = gpu::wave_index(); r < rows; r += decode_waves) {
    const int32_t row = first_row + r, query = row / p.group, last = seq.last_key(query);
    const int32_t begin = seq.first_key(query, p.window);
    const Scores score = scores_of(p, kv_head * p.group + row % p.group);
    float highest = -infinity;
    for (int j = gpu::lane(); j < tile_keys; j += gpu::wave) {
      const int32_t key = first + j;
      const bool seen = r < n_rows && key >= begin && key <= last;
      s[r * tile_keys + j] = seen ? score(s[r * tile_keys + j], key, last) : -infinity;
      highest = larger(highest, s[r * tile_keys + j]);
    }
    const float top = larger(m[r], max_of_wave(highest)), shift = top == -infinity ? 0.0f : top;
    float own = 0.0f;
    for (int j = gpu::lane(); j < tile_keys; j += gpu::wave) {
      const float weight = exp_of(s[r * tile_keys + j] - shift);
      own += weight;
      s[r * tile_keys + j] = weight;
    }
    const float factor = exp_of(m[r] - shift), total = sum_of_wave(own); /* all lanes have read m */
    if (gpu::lane() == 0) {
      rescale[r] = factor;
      l[r] = l[r] * factor + total;
      m[r] = top;
    }
  }
}

/* P.V: each thread's eight dims of its keys. */
template <int width, int rows, int fixed_dtype>
GPU_FN void decode_values(const AttendParams& p, const Sequence& seq, int32_t kv_head, int32_t first, int32_t lo,
                          int32_t hi, const float* s, const float* rescale, float (&sum)[rows][run_dims]) {
  using Shape = DecodeShape<width, rows>;
  const int32_t thread = gpu::thread_anew(), slot = thread / Shape::lanes, dim = thread % Shape::lanes * run_dims;
  const int dtype = fixed_dtype == any_dtype ? p.cache.dtype : fixed_dtype;
  GPU_UNROLL for (int r = 0; r < rows; ++r) {
    GPU_UNROLL for (int i = 0; i < run_dims; ++i) sum[r][i] *= rescale[r];
  }
  GPU_ROLLED for (int round = 0; round < Shape::rounds; round += Shape::together) {
    gpu::reread(); /* the weights */
    float v[Shape::together][run_dims] = {};
    GPU_UNROLL for (int t = 0; t < Shape::together; ++t) {
      const int32_t key = first + (round + t) * Shape::slots + slot;
      if (key < lo || key >= hi || dim >= p.cache.dv) continue; /* what no row sees is not even read: 0 meets 0 */
      const int64_t index = row_index(p.cache, seq.pages, kv_head, key);
      if (index >= 0) load_run<run_dims>(v_row(p.cache, index) + int64_t{dim} * size_of(dtype), dtype, v[t]);
    }
    GPU_UNROLL for (int r = 0; r < rows; ++r) {
      GPU_UNROLL for (int t = 0; t < Shape::together; ++t) {
        const float weight = s[r * tile_keys + (round + t) * Shape::slots + slot];
        GPU_UNROLL for (int i = 0; i < run_dims; ++i) sum[r][i] += weight * v[t][i];
      }
    }
  }
}

/* The sums of all slots, slot by slot within a wave, then wave by wave, into total [rows][width]. */
template <int width, int rows>
GPU_FN void decode_total(float (&sum)[rows][run_dims], float* total) {
  using Shape = DecodeShape<width, rows>;
  const int32_t dim = gpu::thread() % Shape::lanes * run_dims;
  GPU_UNROLL for (int r = 0; r < rows; ++r) {
    GPU_UNROLL for (int i = 0; i < run_dims; ++i) {
      GPU_UNROLL for (int mask = Shape::lanes; mask < gpu::wave; mask *= 2) {
        sum[r][i] += gpu::shuffle_xor(sum[r][i], mask);
      }
    }
  }
  for (int turn = 0; turn < decode_waves; ++turn) {
    gpu::sync(); /* the waves before have added */
    if (gpu::wave_index() != turn || gpu::lane() >= Shape::lanes) continue;
    GPU_UNROLL for (int r = 0; r < rows; ++r) {
      GPU_UNROLL for (int i = 0; i < run_dims; ++i) {
        float& to = total[r * width + dim + i];
        to = turn == 0 ? sum[r][i] : to + sum[r][i];
      }
    }
  }
  gpu::sync(); /* the total is complete */
}

template <int width, int rows, int fixed_dtype>
GPU_FN void decode_split(const AttendParams& p) {
  GPU_SHARED(float, q, (rows * width)); /* the queries, and in the end the total */
  GPU_SHARED(float, s, (rows * tile_keys));
  GPU_SHARED(float, m, rows);
  GPU_SHARED(float, l, rows);
  GPU_SHARED(float, rescale, rows);
  const int32_t split = gpu::block_x(), kv_head = gpu::block_y() % p.cache.n_kv_heads;
  const int32_t first_row = gpu::block_y() / p.cache.n_kv_heads * rows;
  const Sequence seq = sequence_of(p.batch, p.cache, gpu::block_z());
  const int32_t left = seq.q_len * p.group - first_row, n_rows = left < rows ? left : rows;
  if (n_rows <= 0) return;
  const Tiles tiles = tiles_of(seq, p.window, p.splits);
  const int32_t lo = seq.first_key(first_row / p.group, p.window);
  const int32_t hi = seq.last_key((first_row + n_rows - 1) / p.group) + 1;
  const int32_t begin = tiles.first + split * tiles.per_split;
  const int32_t end = begin + tiles.per_split < tiles.end ? begin + tiles.per_split : tiles.end;
  const int32_t threads = DecodeShape<width, rows>::threads;
  for (int32_t i = gpu::thread(); i < rows * width; i += threads) {
    const int32_t row = first_row + i / width, dim = i % width;
    const int64_t at = element(p.q, seq.first_token + row / p.group, kv_head * p.group + row % p.group);
    q[i] = i / width < n_rows && dim < p.cache.dqk ? load(p.q.data, p.dtype, at + dim) : 0.0f;
  }
  for (int32_t r = gpu::thread(); r < rows; r += threads) {
    m[r] = -infinity;
    l[r] = 0.0f;
  }
  float sum[rows][run_dims] = {};
  for (int32_t tile = begin; tile < end; ++tile) {
    const int32_t first = tile * tile_keys;
    if (first >= hi || first + tile_keys <= lo) continue; /* of other rows of the call */
    gpu::sync(); /* the queries are there; the weights of the tile before are used */
    decode_products<width, rows, fixed_dtype>(p, seq, kv_head, first, lo, hi, q, s);
    gpu::sync(); /* the scores are there */
    decode_softmax<rows>(p, seq, kv_head, first_row, n_rows, first, s, m, l, rescale);
    gpu::sync(); /* the weights are there */
    decode_values<width, rows, fixed_dtype>(p, seq, kv_head, first, lo, hi, s, rescale, sum);
  }
  decode_total<width, rows>(sum, q);
  for (int32_t i = gpu::thread(); i < n_rows * (2 + p.cache.dv); i += threads) {
    const int32_t r = i / (2 + p.cache.dv), at = i % (2 + p.cache.dv), row = first_row + r;
    float* partial = partial_of(p, split, seq.first_token + row / p.group, kv_head * p.group + row % p.group);
    partial[at] = at == 0 ? m[r] : at == 1 ? l[r] : q[r * width + at - 2];
  }
}

}  // namespace greta
