/* From a block's queries and a tile's keys to scores: the products, then scale, soft cap and bias. A score's product is
 * one chain over the head dimension, in every kernel and for any number of rows. */
#pragma once

#include "tile.h"

namespace greta {
namespace {

/* R rows times C panels of sixteen keys: R x C vectors of sums stay in registers while the head dimension goes by.
 *
 *            kt   [C][dqk][16]
 *   q [R][dqk]  ->  s [R][C * 16], rows `width` apart
 */
template <int R, int C>
inline void dot_products(const float* q, int32_t dqk, const float* kt, float* s, int32_t width) {
  Vec sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sum[r][c] = vset(0.0f);
  }
  for (int32_t i = 0; i < dqk; ++i) {
    Vec key[C];
    for (int c = 0; c < C; ++c) key[c] = vload(kt + (static_cast<int64_t>(c) * dqk + i) * lanes);
    for (int r = 0; r < R; ++r) {
      const Vec query = vset(q[static_cast<int64_t>(r) * dqk + i]);
      for (int c = 0; c < C; ++c) sum[r][c] = vfma(query, key[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) vstore(s + static_cast<int64_t>(r) * width + c * lanes, sum[r][c]);
  }
}

/* Every row's products with the keys that its group sees, in whole panels. The rows go by inside, so that the panels
 * stay in the first cache; panels that no row of a group sees, above the diagonal, are left out. */
inline void products(const Block& block, const Tile& tile) {
  const int32_t dqk = block.args.dqk, width = tile.width();
  constexpr int32_t step = micro_cols * lanes;
  for (int32_t j = tile.lo / lanes * lanes; j < tile.hi; j += step) {
    each_row_group(block.n_rows, [&](int32_t r, auto rows) {
      const Tile seen = seen_by(block, tile, r, r + rows - 1);
      if (seen.empty() || j >= seen.hi || j + step <= seen.lo) return;
      const float *q = block.q + static_cast<int64_t>(r) * dqk, *kt = block.kt + static_cast<int64_t>(j) * dqk;
      float* s = block.s + static_cast<int64_t>(r) * width + j;
      if (seen.hi > j + step - lanes) {
        dot_products<rows, micro_cols>(q, dqk, kt, s, width);
        return;
      }
      for (int32_t i = 0; j + i < seen.hi; i += lanes) {
        dot_products<rows, 1>(q, dqk, kt + static_cast<int64_t>(i) * dqk, s + i, width);
      }
    });
  }
}

/* One row of products, in the panels begin .. end - 1 of `tile`, becomes scores, in place: scaled, capped, biased by
 * the distance of key and query, and -inf where the row does not see the key. Returns the highest. */
inline float finish_scores(const Block& block, int32_t r, float* s, const Tile& seen, int32_t begin, int32_t end) {
  const AttendArgs& args = block.args;
  const bool capped = args.softcap != 0.0f, biased = args.alibi != nullptr;
  /* stored keys are k / k_scale: their scale joins the softmax scale, with one rounding for both */
  const Vec scale = vset(static_cast<float>(static_cast<double>(args.scale) * args.k_scale[block.kv_head]));
  const Vec cap = vset(args.softcap), inverse_cap = vset(capped ? 1.0f / args.softcap : 0.0f);
  const Vec slope = vset(biased ? args.alibi[block.head(r)] : 0.0f);
  const int32_t distance = seen.first - (block.hi[r] - 1);
  const Vec nothing = vset(-__builtin_inff());
  Vec highest = nothing;
  for (int32_t j = begin; j < end; j += lanes) {
    Vec score = vmul(vload(s + j), scale);
    if (capped) score = vmul(cap, vtanh(vmul(score, inverse_cap)));
    if (biased) score = vfma(slope, vcount(distance + j), score);
    if (j < seen.lo || j + lanes > seen.hi) score = vkeep(score, seen.lo - j, seen.hi - j, nothing);
    highest = vmax(highest, score);
    vstore(s + j, score);
  }
  return max_lanes(highest);
}

}  // namespace
}  // namespace greta
