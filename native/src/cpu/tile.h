/* The walk of a block of query rows over tiles of keys, with online softmax: what both kernels are made of. A row's
 * result depends on its query, its keys, the tile and the split bounds, and on nothing else: not on the rows beside it,
 * on the threads, or on which kernel calls. With one tile over all keys and one split the two kernels therefore agree
 * to the bit.
 *
 * Chains, the same in every caller: a score is one chain over the head dimension; the sum of a tile's weights runs in
 * sixteen lanes, folded by sum_lanes; P.V sums `chunk` keys in a chain of its own before it is added to the row. */
#pragma once

#include <math.h>

#include "dtypes.h"
#include "fault_points.h"
#include "kernels.h"
#include "simd.h"

namespace greta {
namespace {

constexpr int32_t chunk = 32;

inline float* accumulator(float* partial) {
  return partial + lanes;
}

/* Rows row0 .. row0 + n_rows - 1 of one sequence and kv head. Row r is query r / group of head kv_head * group + r %
 * group, and sees the keys kv_start .. last(r). */
struct Block {
  const AttendArgs& args;
  const Sequence& seq;
  int32_t kv_head, row0, n_rows;
  float* q;  /* [n_rows][dqk] */
  float* kt; /* [dqk][tile padded to lanes] */
  float* v;  /* [tile][dv padded to lanes] */
  float* s;  /* [n_rows][tile padded to lanes]: scores, then weights */
  float* partial[block_rows];

  int32_t group() const { return args.n_heads / args.n_kv_heads; }
  int32_t token(int32_t r) const { return seq.first_token + (row0 + r) / group(); }
  int32_t head(int32_t r) const { return kv_head * group() + (row0 + r) % group(); }
  int32_t last(int32_t r) const { return seq.kv_len - seq.q_len + (row0 + r) / group(); }
};

inline int32_t tile_count(const Sequence& seq, int32_t tile) {
  return seq.kv_len == 0 ? 0 : (seq.kv_len - 1) / tile + 1;
}

/* Splits are of whole tiles, equally many each but the last ones, which may be shorter or empty. */
inline int32_t tiles_per_split(const Sequence& seq, const AttendArgs& args) {
  const int32_t tiles = tile_count(seq, args.tile);
  return tiles == 0 ? 0 : (tiles - 1) / args.splits + 1;
}

inline size_t padded(int32_t n) {
  return static_cast<size_t>(round_up(n, lanes));
}

inline size_t block_floats(const AttendArgs& args) {
  const size_t rows = block_rows, tile = static_cast<size_t>(args.tile), dqk = static_cast<size_t>(args.dqk);
  return rows * padded(args.dqk) + dqk * padded(args.tile) + tile * padded(args.dv) + rows * padded(args.tile) +
         padded(args.dqk);
}

/* Lays the block's buffers out in `memory`; returns what lies behind them. */
inline float* place(Block& block, float* memory) {
  const AttendArgs& args = block.args;
  block.q = memory;
  block.kt = block.q + block_rows * padded(args.dqk);
  block.v = block.kt + static_cast<size_t>(args.dqk) * padded(args.tile);
  block.s = block.v + static_cast<size_t>(args.tile) * padded(args.dv);
  return block.s + block_rows * padded(args.tile);
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
    partial[0] = -INFINITY; /* m, the running max */
    partial[1] = 0.0f;      /* l, the sum of weights */
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
      for (int32_t i = 0; i < dqk; ++i) column[i * width] = 0.0f;
      continue;
    }
    row_to_f32(block.args.kv_dtype, cache_row(block, block.args.k, dqk, first + j), dqk, row);
    for (int32_t i = 0; i < dqk; ++i) column[i * width] = row[i];
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

template <int R, int C>
inline void dot_products(const float* q, int32_t dqk, const float* kt, int32_t width, float* s) {
  Vec sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sum[r][c] = vset(0.0f);
  }
  for (int32_t i = 0; i < dqk; ++i) {
    Vec key[C];
    for (int c = 0; c < C; ++c) key[c] = vload(kt + static_cast<int64_t>(i) * width + c * lanes);
    for (int r = 0; r < R; ++r) {
      const Vec query = vset(q[r * dqk + i]);
      for (int c = 0; c < C; ++c) sum[r][c] = vfma(query, key[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) vstore(s + static_cast<int64_t>(r) * width + c * lanes, sum[r][c]);
  }
}

template <int R>
inline void scores_of_rows(const Block& block, int32_t r, int32_t width) {
  const int32_t dqk = block.args.dqk;
  float* s = block.s + static_cast<int64_t>(r) * width;
  int32_t j = 0;
  for (; j + micro_cols * lanes <= width; j += micro_cols * lanes) {
    dot_products<R, micro_cols>(block.q + r * dqk, dqk, block.kt + j, width, s + j);
  }
  for (; j < width; j += lanes) dot_products<R, 1>(block.q + r * dqk, dqk, block.kt + j, width, s + j);
}

inline void scores(const Block& block, int32_t width) {
  int32_t r = 0;
  for (; r + micro_rows <= block.n_rows; r += micro_rows) scores_of_rows<micro_rows>(block, r, width);
  for (; r < block.n_rows; ++r) scores_of_rows<1>(block, r, width);
}

/* One row of scores, of which lo .. hi - 1 count, becomes weights exp(s - m); m, l and the output so far follow. */
inline void online_softmax(float* s, int32_t width, int32_t lo, int32_t hi, float scale, int32_t dv, float* partial) {
  const Vec nothing = vset(-INFINITY);
  Vec highest = nothing;
  for (int32_t j = 0; j < width; j += lanes) {
    const Vec score = vkeep(vmul(vload(s + j), vset(scale)), lo - j, hi - j, nothing);
    highest = vmax(highest, score);
    vstore(s + j, score);
  }
  const float tile_max = max_lanes(highest), m_old = partial[0];
  const float m = tile_max > m_old ? tile_max : m_old;
  const float shift = m == -INFINITY ? 0.0f : m; /* a row that has seen no key yet */
  Vec sum = vset(0.0f);
  for (int32_t j = 0; j < width; j += lanes) {
    const Vec weight = vexp(vsub(vload(s + j), vset(shift)));
    sum = vadd(sum, weight);
    vstore(s + j, weight);
  }
  const float rescale = exp1(m_old - shift);
  partial[0] = m;
  partial[1] = partial[1] * rescale + sum_lanes(sum);
  if (rescale != 1.0f) {
    float* out = accumulator(partial);
    for (int32_t i = 0; i < dv; i += lanes) vstore(out + i, vmul(vload(out + i), vset(rescale)));
  }
}

template <int R, int C>
inline void add_weighted(const float* p, int32_t width, const float* v, int32_t stride, int32_t lo, int32_t hi,
                         float* const* partial, int32_t column) {
  Vec out[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) out[r][c] = vload(accumulator(partial[r]) + column + c * lanes);
  }
  for (int32_t begin = lo; begin < hi;) {
    int32_t end = (begin / chunk + 1) * chunk; /* chunks are counted from the tile's first key, wherever lo is */
    end = end < hi ? end : hi;
    Vec sum[R][C];
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) sum[r][c] = vset(0.0f);
    }
    for (int32_t j = begin; j < end; ++j) {
      Vec value[C];
      for (int c = 0; c < C; ++c) value[c] = vload(v + static_cast<int64_t>(j) * stride + column + c * lanes);
      for (int r = 0; r < R; ++r) {
        const Vec weight = vset(p[static_cast<int64_t>(r) * width + j]);
        for (int c = 0; c < C; ++c) sum[r][c] = vfma(weight, value[c], sum[r][c]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) out[r][c] = vadd(out[r][c], sum[r][c]);
    }
    begin = end;
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) vstore(accumulator(partial[r]) + column + c * lanes, out[r][c]);
  }
}

template <int R>
inline void outputs_of_rows(const Block& block, int32_t r, int32_t width, int32_t lo, int32_t hi) {
  const int32_t stride = round_up(block.args.dv, lanes);
  const float* p = block.s + static_cast<int64_t>(r) * width;
  int32_t i = 0;
  for (; i + micro_cols * lanes <= stride; i += micro_cols * lanes) {
    add_weighted<R, micro_cols>(p, width, block.v, stride, lo, hi, block.partial + r, i);
  }
  for (; i < stride; i += lanes) add_weighted<R, 1>(p, width, block.v, stride, lo, hi, block.partial + r, i);
}

inline int32_t clamp(int32_t x, int32_t lo, int32_t hi) {
  return x < lo ? lo : x > hi ? hi : x;
}

/* The keys of the tile at `first` that row r sees, counted from `first`. */
inline int32_t visible_end(const Block& block, int32_t r, int32_t first, int32_t keys) {
  return clamp(block.last(r) + 1 - first, 0, keys);
}

/* Tiles first_tile .. end_tile - 1 are added to the block's partial results. Keys that no row sees are not even read.
 */
inline void walk(const Block& block, int32_t first_tile, int32_t end_tile) {
  const AttendArgs& args = block.args;
  for (int32_t tile = first_tile; tile < end_tile; ++tile) {
    const int32_t first = tile * args.tile;
    const int32_t keys = block.seq.kv_len - first < args.tile ? block.seq.kv_len - first : args.tile;
    const int32_t lo = clamp(block.seq.kv_start - first, 0, keys);
    const int32_t hi = visible_end(block, block.n_rows - 1, first, keys);
    if (hi <= lo) continue;
    const int32_t width = round_up(hi, lanes);
    load_keys(block, first, lo, hi, width);
    const bool finite = load_values(block, first, lo, hi);
    scores(block, width);
    for (int32_t r = 0; r < block.n_rows; ++r) {
      online_softmax(block.s + static_cast<int64_t>(r) * width, width, lo, visible_end(block, r, first, keys),
                     args.scale, args.dv, block.partial[r]);
    }
    int32_t r = 0;
    if (finite) {
      for (; r + micro_rows <= block.n_rows; r += micro_rows) outputs_of_rows<micro_rows>(block, r, width, lo, hi);
    }
    for (; r < block.n_rows; ++r) outputs_of_rows<1>(block, r, width, lo, visible_end(block, r, first, keys));
  }
}

/* Joins a row's splits, `stride` floats apart, and stores the result. */
inline void finish_row(const AttendArgs& args, const float* partials, size_t stride, int32_t token, int32_t head,
                       int32_t position) {
  float m = -INFINITY;
  for (int32_t s = 0; s < args.splits; ++s) {
    const float own = partials[static_cast<size_t>(s) * stride];
    m = own > m ? own : m;
  }
  const bool unscaled = planted(Fault::split_merge, args.phase, args.layer, head, position);
  float out[lanes * 16]; /* max_head_dim */
  float l = 0.0f;
  for (int32_t i = 0; i < args.dv; i += lanes) vstore(out + i, vset(0.0f));
  for (int32_t s = 0; s < args.splits; ++s) {
    const float* partial = partials + static_cast<size_t>(s) * stride;
    if (partial[0] == -INFINITY) continue; /* an empty split, or one whose keys this row does not see */
    const float weight = unscaled ? 1.0f : exp1(partial[0] - m);
    l += weight * partial[1];
    for (int32_t i = 0; i < args.dv; i += lanes) {
      vstore(out + i, vfma(vset(weight), vload(accumulator(const_cast<float*>(partial)) + i), vload(out + i)));
    }
  }
  const bool empty = m == -INFINITY;
  for (int32_t i = 0; i < args.dv; ++i)
    out[i] = empty ? 0.0f : out[i] / l + 0.0f; /* no -0: its sign would hang on masked keys */
  row_from_f32(args.act_dtype, out, args.dv, const_cast<char*>(item(args.out, args.act_dtype, token, head)));
  if (args.lse.data != nullptr) {
    const double lse = static_cast<double>(m) + log(static_cast<double>(l));
    *reinterpret_cast<float*>(const_cast<char*>(item(args.lse, GRETA_F32, token, head))) =
        empty ? -INFINITY : static_cast<float>(lse);
  }
}

}  // namespace
}  // namespace greta
