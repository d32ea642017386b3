/* Which keys a query sees, and how the schedule cuts them into tiles and splits. */
#pragma once

#include "kernels.h"

namespace greta {
namespace {

inline int32_t last_key(const Sequence& seq, int32_t query) {
  return seq.kv_len - seq.q_len + query;
}

inline int32_t first_key(const AttendArgs& args, const Sequence& seq, int32_t query) {
  const int32_t begin = args.window == 0 ? 0 : last_key(seq, query) - args.window + 1;
  return begin > seq.kv_start ? begin : seq.kv_start;
}

/* With tiles from each query's own window on, queries do not share tiles. */
inline bool own_tiles(const AttendArgs& args) {
  return args.schedule.tile_origin == GRETA_ORIGIN_WINDOW && args.window > 0;
}

inline int32_t rows_per_block(const AttendArgs& args) {
  if (!own_tiles(args)) return block_rows;
  const int32_t group = args.n_heads / args.n_kv_heads;
  int32_t rows = group < block_rows ? group : block_rows;
  while (group % rows != 0) --rows; /* a block must not reach into the next query */
  return rows;
}

/* Tiles first .. end - 1, counted from key `origin`; each split has per_split of them, the last ones fewer or none. */
struct Span {
  int32_t origin, first, end, per_split;

  int32_t begin_of(int32_t split) const { return first + split * per_split < end ? first + split * per_split : end; }
};

/* The tiles from the first key that any query of the call sees to the sequence's last; where queries have tiles of
 * their own, those that `query` sees. Splits are equal parts of them, in whole tiles, whatever the direction. */
inline Span span_of(const AttendArgs& args, const Sequence& seq, int32_t query) {
  const int32_t tile = args.schedule.tile;
  const int32_t begin = first_key(args, seq, own_tiles(args) ? query : 0);
  const int32_t stop = own_tiles(args) ? last_key(seq, query) + 1 : seq.kv_len;
  Span span{0, 0, 0, 0};
  if (stop <= begin) return span;
  if (args.schedule.tile_origin == GRETA_ORIGIN_WINDOW) span.origin = begin;
  span.first = (begin - span.origin) / tile;
  span.end = (stop - 1 - span.origin) / tile + 1;
  span.per_split = (span.end - span.first - 1) / args.schedule.splits + 1;
  return span;
}

}  // namespace
}  // namespace greta
