/* P.V: a tile's weighted values are added to the rows' outputs, `chunk` keys in a chain of their own at a time. */
#pragma once

#include "tile.h"

namespace greta {
namespace {

constexpr int32_t chunk = 32;

/* The tile's values where load_values has put them. */
struct Loaded {
  const float* v; /* [tile][stride] */
  int32_t stride;

  template <int C>
  void load(int32_t key, int32_t column, Vec (&value)[C]) const {
    for (int c = 0; c < C; ++c) value[c] = vload(v + static_cast<int64_t>(key) * stride + column + c * lanes);
  }
  template <int C>
  void in_order(Vec (&)[C]) const {}
};

/* Values in the cache, converted on their way into registers. Meanwhile as many bytes from `next` on come from
 * memory. */
template <int32_t dtype>
struct Stored {
  const char* const* rows; /* of the keys from `begin` on */
  const char* next;
  int32_t begin, count;

  template <int C>
  void load(int32_t key, int32_t column, Vec (&value)[C]) const {
    constexpr int64_t bytes = C * lanes * size_of<dtype>;
    const int32_t j = key - begin;
    for (int64_t i = 0; i < bytes; i += 64) prefetch(next + column * count * size_of<dtype> + j * bytes + i);
    load_vectors<dtype>(rows[j] + column * size_of<dtype>, value);
  }
  template <int C>
  void in_order(Vec (&sum)[C]) const {
    order_vectors<dtype>(sum);
  }
};

/* One chunk, keys begin .. end - 1, for R rows and C vectors of columns: their sums stay in registers while the keys go
 * by, and join the outputs at the end.
 *
 *                              values [keys][C * 16]
 *   p [R][keys], rows `width` apart  ->  accumulators of R rows, from `column` on
 */
template <int R, int C, class Values>
inline void add_weighted(const float* p, int32_t width, const Values& values, int32_t begin, int32_t end,
                         int32_t column, float* const* partial) {
  Vec sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sum[r][c] = vset(0.0f);
  }
  for (int32_t j = begin; j < end; ++j) {
    Vec value[C];
    values.load(j, column, value);
    for (int r = 0; r < R; ++r) {
      const Vec weight = vset(p[static_cast<int64_t>(r) * width + j]);
      for (int c = 0; c < C; ++c) sum[r][c] = vfma(weight, value[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    values.in_order(sum[r]);
    float* out = accumulator(partial[r]) + column;
    for (int c = 0; c < C; ++c) vstore(out + c * lanes, vadd(vload(out + c * lanes), sum[r][c]));
  }
}

/* Calls body(begin, end) for keys lo .. hi - 1. Chunks are counted from the tile's first key, wherever lo is. */
template <class Body>
inline void each_chunk(int32_t lo, int32_t hi, Body&& body) {
  for (int32_t begin = lo; begin < hi;) {
    const int32_t next = (begin / chunk + 1) * chunk, end = next < hi ? next : hi;
    body(begin, end);
    begin = end;
  }
}

/* Calls body(column, Count<vectors>), C vectors of columns at a time and then those that are left. */
template <int C, class Body>
inline void each_column_group(int32_t dv, Body&& body) {
  const int32_t stride = round_up(dv, lanes);
  int32_t column = 0;
  for (; column + C * lanes <= stride; column += C * lanes) body(column, Count<C>());
  for (; column < stride; column += lanes) body(column, Count<1>());
}

/* A weight of 0 meets finite values that its row does not see, which changes nothing. */
inline void add_loaded(const Block& block, const Tile& tile, const Loaded& values) {
  each_column_group<cols_for(micro_rows)>(block.args.dv, [&](int32_t column, auto cols) {
    each_row_group(block.n_rows, [&](int32_t r, auto rows) {
      const Tile seen = seen_by(block, tile, r, r + rows - 1);
      const float* p = block.s + static_cast<int64_t>(r) * tile.width();
      each_chunk(seen.lo, seen.hi, [&](int32_t begin, int32_t end) {
        add_weighted<rows, cols>(p, tile.width(), values, begin, end, column, block.partial + r);
      });
    });
  });
}

/* Each row takes the keys that it sees and no other: 0 times infinity would be NaN. */
inline void add_loaded_by_row(const Block& block, const Tile& tile, const Loaded& values) {
  each_column_group<cols_for(1)>(block.args.dv, [&](int32_t column, auto cols) {
    for (int32_t r = 0; r < block.n_rows; ++r) {
      const Tile seen = seen_by(block, tile, r, r);
      const float* p = block.s + static_cast<int64_t>(r) * tile.width();
      each_chunk(seen.lo, seen.hi, [&](int32_t begin, int32_t end) {
        add_weighted<1, cols>(p, tile.width(), values, begin, end, column, block.partial + r);
      });
    }
  });
}

/* For R rows that all see the same keys. */
template <int32_t dtype, int R>
inline void add_stored(const Block& block, const Tile& tile) {
  each_chunk(tile.lo, tile.hi, [&](int32_t begin, int32_t end) {
    const char* stored[chunk];
    cache_rows(block, block.args.v, block.args.dv, tile.first + begin, end - begin, stored);
    const Stored<dtype> values{stored, next_tile(block, block.args.v, block.args.dv, tile.first + begin), begin,
                               end - begin};
    each_column_group<cols_for(R)>(block.args.dv, [&](int32_t column, auto cols) {
      add_weighted<R, cols>(block.s, tile.width(), values, begin, end, column, block.partial);
    });
  });
}

/* All of a tile's values. Few rows that see the same keys, as in decode, read them where they are stored; many share
 * one conversion. */
inline void add_values(const Block& block, const Tile& tile) {
  const AttendArgs& args = block.args;
  const bool alike = block.lo[0] == block.lo[block.n_rows - 1] && block.hi[0] == block.hi[block.n_rows - 1];
  if (alike && block.n_rows <= micro_rows && args.dv % lanes == 0) {
    with_dtype(args.kv_dtype, [&](auto dtype) {
      with_count<micro_rows>(block.n_rows, [&](auto rows) { add_stored<dtype, rows>(block, tile); });
    });
    return;
  }
  const bool finite = load_values(block, tile);
  const Loaded values{block.v, round_up(args.dv, lanes)};
  if (finite) {
    add_loaded(block, tile, values);
  } else {
    add_loaded_by_row(block, tile, values);
  }
}

}  // namespace
}  // namespace greta
