/* The walk of a block of query rows over tiles of keys, with online softmax: what both kernels are made of. A row's
 * result depends on its query, its keys, and the tiles and splits of span.h, and on nothing else: not on the rows
 * beside it, on the threads, or on which kernel calls. With one tile over all keys and one split the two kernels
 * therefore agree to the bit. */
#pragma once

#include "scores.h"
#include "softmax.h"
#include "values.h"

namespace greta {
namespace {

/* Scores of the rows r .. r + rows - 1 over a tile become weights; where a row does not see a key that another of them
 * sees, its weight is 0. */
inline void weigh(const Block& block, const Tile& tile, int32_t group, int32_t rows) {
  const Tile seen = seen_by(block, tile, group, group + rows - 1);
  if (seen.empty()) return;
  const int32_t begin = seen.lo / lanes * lanes, end = round_up(seen.hi, lanes);
  for (int32_t r = group; r < group + rows; ++r) {
    float* s = block.s + static_cast<int64_t>(r) * tile.width();
    const Tile own = seen_by(block, tile, r, r);
    if (own.empty()) {
      __builtin_memset(s + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
      continue;
    }
    const float highest = finish_scores(block, r, s, own, begin, end);
    online_softmax(block.args, s, begin, end, highest, block.partial[r]);
    dump_weights(block.token(r), block.head(r), tile.first, own.lo, own.hi, s, block.partial[r][0]);
  }
}

/* Keys lo .. hi - 1 of the tile are read, each row takes those that it sees. */
inline void add_tile(const Block& block, const Tile& tile) {
  products(block, tile);
  each_row_group(block.n_rows, [&](int32_t r, auto rows) { weigh(block, tile, r, rows); });
  add_values(block, tile);
}

/* The tiles of one split are added to the block's partial results. Keys that no row sees are not even read. */
inline void walk(const Block& block, const Span& span, int32_t split) {
  const int32_t tile = block.args.schedule.tile;
  const int32_t lo = block.lo[0], hi = block.hi[block.n_rows - 1];
  if (hi <= lo) return;
  const int32_t low = (lo - span.origin) / tile, high = (hi - 1 - span.origin) / tile + 1;
  const int32_t begin = clamp(low, span.begin_of(split), span.begin_of(split + 1));
  const int32_t end = clamp(high, begin, span.begin_of(split + 1));
  for (int32_t i = begin; i < end; ++i) {
    const int32_t index = block.args.schedule.direction == GRETA_REVERSE ? end - 1 - (i - begin) : i;
    const int32_t first = span.origin + index * tile;
    const int32_t keys = block.seq.kv_len - first < tile ? block.seq.kv_len - first : tile;
    add_tile(block, {first, clamp(lo - first, 0, keys), clamp(hi - first, 0, keys)});
  }
}

}  // namespace
}  // namespace greta
