/* Online softmax of one row over one tile, and the rounding of its weights to the type that meets V. */
#pragma once

#include "p_dump.h"
#include "tile.h"

namespace greta {
namespace {

/* The running max after a tile whose highest score is tile_max; -inf until a key was seen. */
inline float next_max(const Schedule& schedule, float m_old, float tile_max) {
  if (schedule.max_update == GRETA_MAX_NONE) return 0.0f;
  const bool kept = schedule.max_update == GRETA_MAX_LAZY && m_old != -__builtin_inff() &&
                    !(tile_max - m_old > schedule.max_threshold);
  return kept || !(tile_max > m_old) ? m_old : tile_max;
}

/* P: the weights times p_scale, rounded to p_dtype, back in float. */
inline void round_weights(const Schedule& schedule, float* s, int32_t begin, int32_t end) {
  if (schedule.p_scale != 1.0f) {
    for (int32_t j = begin; j < end; j += lanes) vstore(s + j, vmul(vload(s + j), vset(schedule.p_scale)));
  }
  if (schedule.p_dtype == GRETA_F32) return;
  float stored[lanes]; /* no type is wider */
  for (int32_t j = begin; j < end; j += lanes) {
    row_from_f32(schedule.p_dtype, s + j, lanes, stored);
    row_to_f32(schedule.p_dtype, stored, lanes, s + j);
  }
}

/* One row of scores, in the panels begin .. end - 1 of a tile, whose highest is tile_max, becomes P; m, l and the
 * output so far follow. l sums the weights before they are rounded, in sixteen lanes that sum_lanes folds. */
inline void online_softmax(const AttendArgs& args, float* s, int32_t begin, int32_t end, float tile_max,
                           float* partial) {
  const float m_old = partial[0], m = next_max(args.schedule, m_old, tile_max);
  const float shift = m == -__builtin_inff() ? 0.0f : m;               /* every visible score is -inf */
  const bool above = args.schedule.max_update != GRETA_MAX_EVERY_TILE; /* scores may exceed m */
  Vec sum = vset(0.0f);
  for (int32_t j = begin; j < end; j += lanes) {
    const Vec x = vsub(vload(s + j), vset(shift));
    const Vec weight = vexp(above ? vmin(vset(highest_exponent), x) : x);
    sum = vadd(sum, weight);
    vstore(s + j, weight);
  }
  partial[0] = m;
  const float rescale = m_old == shift ? 1.0f : exp1(m_old - shift);
  partial[1] = partial[1] * rescale + sum_lanes(sum);
  if (rescale != 1.0f) {
    float* out = accumulator(partial);
    for (int32_t i = 0; i < args.dv; i += lanes) vstore(out + i, vmul(vload(out + i), vset(rescale)));
  }
  round_weights(args.schedule, s, begin, end);
}

}  // namespace
}  // namespace greta
