/* From a block's queries and a tile's keys to scores: the products, then scale, soft cap and bias. A score's product is
 * one chain over the head dimension, in every kernel and for any number of rows. */
#pragma once

#include "tile.h"

namespace greta {
namespace {

/* R rows times C panels of sixteen keys: R x C vectors of sums stay in registers while `depth` numbers of the head
 * dimension go by. `begun`: s holds the sums over the numbers before.
 *
 *               kt   [C][depth][16]
 *   q [R][depth]  ->  s [R][C * 16]       rows of q are dqk apart, those of s width
 */
template <int R, int C>
inline void dot_products(const float* q, int32_t dqk, int32_t depth, const float* kt, float* s, int32_t width,
                         bool begun) {
  Vec sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      sum[r][c] = begun ? vload(s + static_cast<int64_t>(r) * width + c * lanes) : vset(0.0f);
    }
  }
  for (int32_t i = 0; i < depth; ++i) {
    Vec key[C];
    for (int c = 0; c < C; ++c) key[c] = vload(kt + (static_cast<int64_t>(c) * depth + i) * lanes);
    for (int r = 0; r < R; ++r) {
      const Vec query = vset(q[static_cast<int64_t>(r) * dqk + i]);
      for (int c = 0; c < C; ++c) sum[r][c] = vfma(query, key[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) vstore(s + static_cast<int64_t>(r) * width + c * lanes, sum[r][c]);
  }
}

/* Keys from the tile's j-th on, C panels, times every row that sees some of them. The head dimension is cut so that the
 * panels fit panel_floats; rows go by inside, so that the panels stay in the first cache. */
template <int32_t dtype, int C>
inline void products_of_panels(const Block& block, const Tile& tile, int32_t j) {
  constexpr int32_t most = panel_floats / (C * lanes);
  const int32_t dqk = block.args.dqk, width = tile.width();
  const char* keys[C * lanes];
  key_rows(block, tile, j, C * lanes, keys);
  const char* next = next_tile(block, block.args.k, dqk, tile.first + (j > tile.lo ? j : tile.lo));
  for (int32_t begin = 0; begin < dqk; begin += most) {
    const int32_t end = begin + most < dqk ? begin + most : dqk, depth = end - begin;
    for (int c = 0; c < C; ++c) {
      load_columns<dtype>(keys + c * lanes, begin, end, next + int64_t{c} * lanes * dqk * size_of<dtype>,
                          block.kt + static_cast<int64_t>(c) * depth * lanes);
    }
    each_row_group(block.n_rows, [&](int32_t r, auto rows) {
      const Tile seen = seen_by(block, tile, r, r + rows - 1);
      if (seen.empty() || j >= seen.hi || j + C * lanes <= seen.lo) return;
      const float* q = block.q + static_cast<int64_t>(r) * dqk + begin;
      float* s = block.s + static_cast<int64_t>(r) * width + j;
      dot_products<rows, C>(q, dqk, depth, block.kt, s, width, begin > 0);
    });
  }
}

/* Every row's products with the keys that its group sees, in whole panels; panels that no row of a group sees, above
 * the diagonal, are left out. */
template <int32_t dtype, int C>
inline void products_by(const Block& block, const Tile& tile) {
  int32_t j = tile.lo / lanes * lanes;
  for (; j + (C - 1) * lanes < tile.hi; j += C * lanes) products_of_panels<dtype, C>(block, tile, j);
  for (; j < tile.hi; j += lanes) products_of_panels<dtype, 1>(block, tile, j);
}

inline void products(const Block& block, const Tile& tile) {
  with_dtype(block.args.kv_dtype, [&](auto dtype) {
    if (cols_for(block.n_rows) == most_cols) {
      products_by<dtype, most_cols>(block, tile);
    } else {
      products_by<dtype, cols_for(micro_rows)>(block, tile);
    }
  });
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
