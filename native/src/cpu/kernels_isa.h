/* One instruction set's own names; GRETA_ISA is set by the build. */
#pragma once

#include "kernels.h"

#define GRETA_STRING_(x) #x
#define GRETA_STRING(x) GRETA_STRING_(x)

namespace greta {
namespace GRETA_ISA {

constexpr char prefill_name[] = "flash_prefill_" GRETA_STRING(GRETA_ISA);
constexpr char decode_name[] = "splitkv_decode_" GRETA_STRING(GRETA_ISA);

size_t scratch_floats(const AttendArgs& args);
void prefill(const AttendArgs& args);
void decode(const AttendArgs& args);
/* Joins a row's splits, `stride` floats apart, and stores the result. The sink is one more key with value 0, met here,
 * once, so that no tile's running max knows of it. */
void finish_row(const AttendArgs& args, const float* partials, size_t stride, int32_t token, int32_t head,
                int32_t position);

}  // namespace GRETA_ISA
}  // namespace greta
