/* A block of query rows with its buffers, and the loading of its queries, keys and values. */
#pragma once

#include "dtypes.h"
#include "kernels.h"
#include "simd.h"
#include "span.h"

namespace greta {
namespace {

inline float* accumulator(float* partial) {
  return partial + lanes;
}

/* Rows row0 .. row0 + n_rows - 1 of one sequence and kv head. Row r is query r / group of head kv_head * group + r %
 * group, and sees the keys lo[r] .. hi[r] - 1, none where hi[r] is not the greater. Both grow with r. */
struct Block {
  const AttendArgs& args;
  const Sequence& seq;
  int32_t kv_head, row0, n_rows;
  float* q;  /* [n_rows][dqk] */
  float* kt; /* [dqk][tile padded to lanes] */
  float* v;  /* [tile][dv padded to lanes] */
  float* s;  /* [n_rows][tile padded to lanes]: scores, then weights */
  float* partial[block_rows];
  int32_t lo[block_rows], hi[block_rows];

  int32_t group() const { return args.n_heads / args.n_kv_heads; }
  int32_t token(int32_t r) const { return seq.first_token + (row0 + r) / group(); }
  int32_t head(int32_t r) const { return kv_head * group() + (row0 + r) % group(); }
};

inline size_t padded(int32_t n) {
  return static_cast<size_t>(round_up(n, lanes));
}

inline size_t block_floats(const AttendArgs& args) {
  const size_t rows = block_rows, tile = static_cast<size_t>(args.schedule.tile), dqk = static_cast<size_t>(args.dqk);
  return rows * padded(args.dqk) + dqk * padded(args.schedule.tile) + tile * padded(args.dv) +
         rows * padded(args.schedule.tile) + padded(args.dqk);
}

/* Lays the block's buffers out in `memory`, and notes what its rows see; returns what lies behind the buffers. */
inline float* place(Block& block, float* memory) {
  const AttendArgs& args = block.args;
  for (int32_t r = 0; r < block.n_rows; ++r) {
    const int32_t query = (block.row0 + r) / block.group();
    block.lo[r] = first_key(args, block.seq, query);
    block.hi[r] = last_key(block.seq, query) + 1;
  }
  block.q = memory;
  block.kt = block.q + block_rows * padded(args.dqk);
  block.v = block.kt + static_cast<size_t>(args.dqk) * padded(args.schedule.tile);
  block.s = block.v + static_cast<size_t>(args.schedule.tile) * padded(args.dv);
  return block.s + block_rows * padded(args.schedule.tile);
}

inline const char* item(const greta_tensor& tensor, int32_t dtype, int32_t token, int32_t head) {
  return static_cast<const char*>(tensor.data) +
         (token * tensor.token_stride + head * tensor.head_stride) * static_cast<int64_t>(dtype_size(dtype));
}

inline void load_queries(Block& block) {
  const AttendArgs& args = block.args;
  for (int32_t r = 0; r < block.n_rows; ++r) {
    row_to_f32(args.act_dtype, item(args.q, args.act_dtype, block.token(r), block.head(r)), args.dqk,
               block.q + r * args.dqk);
  }
}

inline void reset(const Block& block) {
  for (int32_t r = 0; r < block.n_rows; ++r) {
    float* partial = block.partial[r];
    partial[0] = -__builtin_inff(); /* m, the running max */
    partial[1] = 0.0f;              /* l, the sum of weights */
    __builtin_memset(accumulator(partial), 0, padded(block.args.dv) * sizeof(float));
  }
}

inline const char* cache_row(const Block& block, const char* cache, int32_t dim, int32_t key) {
  const AttendArgs& args = block.args;
  const int64_t page = block.seq.pages[key / args.page_size];
  const int64_t row = (page * args.n_kv_heads + block.kv_head) * args.page_size + key % args.page_size;
  return cache + row * dim * static_cast<int64_t>(dtype_size(args.kv_dtype));
}

/* Keys lo .. hi - 1 of the tile at `first`, transposed; the other columns up to `width` are zero. */
inline void load_keys(const Block& block, int32_t first, int32_t lo, int32_t hi, int32_t width) {
  const int32_t dqk = block.args.dqk;
  float row[lanes * 16]; /* max_head_dim */
  for (int32_t j = 0; j < width; ++j) {
    float* column = block.kt + j;
    if (j < lo || j >= hi) {
      for (int32_t i = 0; i < dqk; ++i) column[static_cast<int64_t>(i) * width] = 0.0f;
      continue;
    }
    row_to_f32(block.args.kv_dtype, cache_row(block, block.args.k, dqk, first + j), dqk, row);
    for (int32_t i = 0; i < dqk; ++i) column[static_cast<int64_t>(i) * width] = row[i];
  }
}

/* The same keys' values, row by row. True when all are finite, so that a weight of 0 may meet any of them. */
inline bool load_values(const Block& block, int32_t first, int32_t lo, int32_t hi) {
  const int32_t dv = block.args.dv, stride = round_up(dv, lanes);
  uint32_t worst = 0;
  for (int32_t j = lo; j < hi; ++j) {
    float* row = block.v + static_cast<int64_t>(j) * stride;
    row_to_f32(block.args.kv_dtype, cache_row(block, block.args.v, dv, first + j), dv, row);
    for (int32_t i = 0; i < dv; ++i) {
      const uint32_t magnitude = to_bits(row[i]) & 0x7fffffffu;
      worst = magnitude > worst ? magnitude : worst;
    }
    for (int32_t i = dv; i < stride; ++i) row[i] = 0.0f;
  }
  return worst < 0x7f800000u;
}

}  // namespace
}  // namespace greta
