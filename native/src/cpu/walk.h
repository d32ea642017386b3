/* The walk of a block of query rows over tiles of keys, with online softmax: what both kernels are made of. A row's
 * result depends on its query, its keys, and the tiles and splits of span.h, and on nothing else: not on the rows
 * beside it, on the threads, or on which kernel calls. With one tile over all keys and one split the two kernels
 * therefore agree to the bit. */
#pragma once

#include <math.h>

#include "fault_points.h"
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

/* Joins a row's splits, `stride` floats apart, and stores the result. The sink is one more key with value 0, met here,
 * once, so that no tile's running max knows of it. */
inline void finish_row(const AttendArgs& args, const float* partials, size_t stride, int32_t token, int32_t head,
                       int32_t position) {
  const int32_t splits = args.schedule.splits;
  const float sink = args.sinks == nullptr ? -INFINITY : args.sinks[head];
  float m = sink;
  for (int32_t s = 0; s < splits; ++s) {
    const float own = partials[static_cast<size_t>(s) * stride];
    m = own > m ? own : m;
  }
  const bool unscaled = planted(Fault::split_merge, args.phase, args.layer, head, position);
  float out[lanes * 16]; /* max_head_dim */
  float l = 0.0f;
  for (int32_t i = 0; i < args.dv; i += lanes) vstore(out + i, vset(0.0f));
  for (int32_t s = 0; s < splits; ++s) {
    const float* partial = partials + static_cast<size_t>(s) * stride;
    if (partial[0] == -INFINITY && partial[1] == 0.0f) continue; /* an empty split, or no key of it is seen */
    const float weight = unscaled ? 1.0f : exp1(partial[0] - m);
    l += weight * partial[1];
    for (int32_t i = 0; i < args.dv; i += lanes) {
      vstore(out + i, vfma(vset(weight), vload(accumulator(const_cast<float*>(partial)) + i), vload(out + i)));
    }
  }
  const bool empty = m == -INFINITY && l == 0.0f; /* scores that are all NaN have no max, but they were seen */
  if (sink != -INFINITY) l += exp1(sink - m);
  const float divisor = l * args.schedule.p_scale, v_scale = args.v_scale[head / (args.n_heads / args.n_kv_heads)];
  for (int32_t i = 0; i < args.dv; ++i)
    out[i] = empty ? 0.0f : out[i] / divisor * v_scale + 0.0f; /* no -0: its sign would hang on masked keys */
  row_from_f32(args.act_dtype, out, args.dv, const_cast<char*>(item(args.out, args.act_dtype, token, head)));
  if (args.lse.data != nullptr) {
    const double lse = static_cast<double>(m) + log(static_cast<double>(l));
    *reinterpret_cast<float*>(const_cast<char*>(item(args.lse, GRETA_F32, token, head))) =
        empty ? -INFINITY : static_cast<float>(lse);
  }
}

}  // namespace
}  // namespace greta
