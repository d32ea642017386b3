/* How one phase walks the keys; every field holds the value that is used. */
#pragma once

#include <cstdint>

#include "greta_attn.h"

namespace greta {

constexpr int32_t round_up(int32_t n, int32_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

struct Schedule {
  int32_t tile;
  int32_t splits;
  int32_t direction;
  int32_t tile_origin;
  int32_t max_update;
  float max_threshold; /* of GRETA_MAX_LAZY, in units of the score */
  int32_t p_dtype;
  float p_scale;
};

constexpr Schedule default_schedule[2] = {
    {64, 1, GRETA_FORWARD, GRETA_ORIGIN_ZERO, GRETA_MAX_EVERY_TILE, 0.0f, GRETA_F32, 1.0f},
    {64, 2, GRETA_FORWARD, GRETA_ORIGIN_ZERO, GRETA_MAX_EVERY_TILE, 0.0f, GRETA_F32, 1.0f},
};

}  // namespace greta
