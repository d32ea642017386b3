/* P.V: a tile's weighted values are added to the rows' outputs, `chunk` keys in a chain of their own at a time. */
#pragma once

#include "tile.h"

namespace greta {
namespace {

constexpr int32_t chunk = 32;

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

}  // namespace
}  // namespace greta
