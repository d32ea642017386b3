/* A block of query rows with its buffers, and the loading of its queries, keys and values. */
#pragma once

#include "kernels.h"
#include "loads.h"
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
  float* kt; /* [panel_floats]: keys in panels, see load_panels */
  float* v;  /* [tile][dv padded to lanes] */
  float* s;  /* [n_rows][tile padded to lanes]: scores, then weights */
  float* partial[block_rows];
  int32_t lo[block_rows], hi[block_rows];

  int32_t group() const { return args.n_heads / args.n_kv_heads; }
  int32_t token(int32_t r) const { return seq.first_token + (row0 + r) / group(); }
  int32_t head(int32_t r) const { return kv_head * group() + (row0 + r) % group(); }
};

/* Panels of keys that are made at a time: a quarter of a small first cache, which two threads may share. */
constexpr int32_t panel_floats = 2048;

inline size_t padded(int32_t n) {
  return static_cast<size_t>(round_up(n, lanes));
}

inline size_t block_floats(const AttendArgs& args) {
  const size_t rows = block_rows, tile = static_cast<size_t>(args.schedule.tile);
  return rows * padded(args.dqk) + panel_floats + tile * padded(args.dv) + rows * padded(args.schedule.tile) +
         padded(args.dqk);
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
  block.v = block.kt + panel_floats;
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

/* Keys lo .. hi - 1 of the tile at key `first`. */
struct Tile {
  int32_t first, lo, hi;

  bool empty() const { return hi <= lo; }
  int32_t width() const { return round_up(hi, lanes); } /* of a row of scores */
};

inline int32_t clamp(int32_t x, int32_t lo, int32_t hi) {
  return x < lo ? lo : x > hi ? hi : x;
}

/* Those of a tile that any of the rows from .. to sees. */
inline Tile seen_by(const Block& block, const Tile& tile, int32_t from, int32_t to) {
  return {tile.first, clamp(block.lo[from] - tile.first, tile.lo, tile.hi),
          clamp(block.hi[to] - tile.first, tile.lo, tile.hi)};
}

template <int n>
using Count = std::integral_constant<int, n>;

template <int n, class Body>
inline void with_count(int32_t count, Body&& body) {
  if constexpr (n > 0) {
    if (count == n) {
      body(Count<n>());
    } else {
      with_count<n - 1>(count, body);
    }
  }
}

/* Calls body(first row, Count<rows>): micro_rows rows at a time, then those that are left. */
template <class Body>
inline void each_row_group(int32_t n_rows, Body&& body) {
  int32_t r = 0;
  for (; r + micro_rows <= n_rows; r += micro_rows) body(r, Count<micro_rows>());
  with_count<micro_rows - 1>(n_rows - r, [&](auto rows) { body(r, rows); });
}

/* The addresses of `count` rows of the block's kv head from key `key` on. */
inline void cache_rows(const Block& block, const char* cache, int32_t dim, int32_t key, int32_t count,
                       const char** rows) {
  const AttendArgs& args = block.args;
  const int64_t bytes = dim * static_cast<int64_t>(dtype_size(args.kv_dtype));
  int32_t page = key / args.page_size, slot = key % args.page_size;
  for (int32_t j = 0; j < count; ++page, slot = 0) {
    const int64_t head = int64_t{block.seq.pages[page]} * args.n_kv_heads + block.kv_head;
    const char* row = cache + (head * args.page_size + slot) * bytes;
    const int32_t left = args.page_size - slot, end = left < count - j ? j + left : count;
    for (; j < end; ++j, row += bytes) rows[j] = row;
  }
}

/* What takes the place of key `key` in the tile `ahead` tiles on: asked for now, it is there by then. One tile takes
 * less time than memory needs when other threads read, too. Any address where none follows. */
constexpr int32_t ahead = 2;

inline const char* next_tile(const Block& block, const char* cache, int32_t dim, int32_t key) {
  const Schedule& schedule = block.args.schedule;
  const int64_t step = int64_t{ahead} * schedule.tile;
  const int64_t next = schedule.direction == GRETA_REVERSE ? key - step : key + step;
  const char* row;
  cache_rows(block, cache, dim, next >= 0 && next < block.seq.kv_len ? static_cast<int32_t>(next) : key, 1, &row);
  return row;
}

/* Addresses of the keys of a tile from its j-th on, `count` of them; those outside of the tile are zero. */
inline void key_rows(const Block& block, const Tile& tile, int32_t j, int32_t count, const char** rows) {
  static const float zeros[lanes * 16] = {}; /* max_head_dim; the zero of every type */
  const int32_t begin = clamp(tile.lo, j, j + count), end = clamp(tile.hi, j, j + count);
  for (int32_t i = 0; i < count; ++i) rows[i] = reinterpret_cast<const char*>(zeros);
  cache_rows(block, block.args.k, block.args.dqk, tile.first + begin, end - begin, rows + (begin - j));
}

/* The tile's values, row by row. True when all are finite, so that a weight of 0 may meet any of them. */
inline bool load_values(const Block& block, const Tile& tile) {
  const int32_t dv = block.args.dv, stride = round_up(dv, lanes);
  uint32_t worst = 0;
  for (int32_t j = tile.lo; j < tile.hi; ++j) {
    float* row = block.v + static_cast<int64_t>(j) * stride;
    const char* stored;
    cache_rows(block, block.args.v, dv, tile.first + j, 1, &stored);
    row_to_f32(block.args.kv_dtype, stored, dv, row);
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
