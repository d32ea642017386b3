/* From a block's queries and a tile's keys to scores: the products, then scale, soft cap and bias. A score's product is
 * one chain over the head dimension. */
#pragma once

#include "tile.h"

namespace greta {
namespace {

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

inline void products(const Block& block, int32_t width) {
  int32_t r = 0;
  for (; r + micro_rows <= block.n_rows; r += micro_rows) scores_of_rows<micro_rows>(block, r, width);
  for (; r < block.n_rows; ++r) scores_of_rows<1>(block, r, width);
}

/* One row of products becomes scores, in place: scaled, capped, biased by the distance of key and query, and -inf where
 * the row does not see the key, which it does for lo .. hi - 1 of the tile at `first`. Returns the highest. */
inline float finish_scores(const Block& block, int32_t r, float* s, int32_t width, int32_t first, int32_t lo,
                           int32_t hi) {
  const AttendArgs& args = block.args;
  const bool capped = args.softcap != 0.0f, biased = args.alibi != nullptr;
  /* stored keys are k / k_scale: their scale joins the softmax scale, with one rounding for both */
  const Vec scale = vset(static_cast<float>(static_cast<double>(args.scale) * args.k_scale[block.kv_head]));
  const Vec cap = vset(args.softcap), inverse_cap = vset(capped ? 1.0f / args.softcap : 0.0f);
  const Vec slope = vset(biased ? args.alibi[block.head(r)] : 0.0f);
  const int32_t distance = first - (block.hi[r] - 1);
  const Vec nothing = vset(-__builtin_inff());
  Vec highest = nothing;
  for (int32_t j = 0; j < width; j += lanes) {
    Vec score = vmul(vload(s + j), scale);
    if (capped) score = vmul(cap, vtanh(vmul(score, inverse_cap)));
    if (biased) score = vfma(slope, vcount(distance + j), score);
    score = vkeep(score, lo - j, hi - j, nothing);
    highest = vmax(highest, score);
    vstore(s + j, score);
  }
  return max_lanes(highest);
}

}  // namespace
}  // namespace greta
